//! Runs that are killed at any moment: the next one goes on, nothing is lost, little is done twice.
//!
//! `cargo test` kills 20 times, runs over a user of 130 MB. 200 times, with a user as large as the benchmark's:
//! `CYLINDER_KILLS=200 cargo test --release -p cylinder-tests --test kill`. A tenth, and four at least, are signals that ask.

use cylinder_core::archive::member::{FOOTER_LEN, parse_header};
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::record::{FolderRow, Slot, StateContent, Table};
use cylinder_core::error::{Error, Fault};
use cylinder_core::guid::Guid;
use cylinder_tests::choose::{Choose, Sampler};
use cylinder_tests::proof::{Node, Store, out, run_for};
use cylinder_tests::spool::{Plan, Text};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const USER: &str = "anna";
/// A killed run may cost so many bytes of content, which the next one reads and writes again: a checkpoint every 48 MiB and
/// what the run had in its hands.
const COST_MAX: u64 = 64 << 20;
/// From so many kills on, the user is as large as the benchmark's.
const MANY: u32 = 100;

/// What an archive comes to, however often its runs were killed.
#[derive(PartialEq, Debug)]
struct Content {
    messages: BTreeSet<Guid>,
    table: Table,
}

impl Content {
    fn of(store: &Store) -> Content {
        let verify = run_for(&mut store.command(&["verify", USER]), 0);
        assert!(out(&verify).starts_with("anna: good:") && !out(&verify).contains("interrupted"), "{}", out(&verify));
        let (messages, table) = store.read(USER, async |reader| read(reader).await).expect("a good archive");
        Content { messages, table }
    }
}

/// What `extract` makes of it.
fn extracted(store: &Store) -> BTreeMap<String, Node> {
    let mut tree = store.extract(USER, None);
    // These say where in the file things are, and when these were made is when the run was.
    tree.retain(|name, _| !matches!(name.as_str(), "meta/messages" | "meta/folders" | "meta/commit"));
    for name in ["meta/about", "meta/mailboxes"] {
        let sha1 = tree.remove(name).and_then(|node| node.sha1()).expect("a file");
        tree.insert(name.to_owned(), Node::File(0, sha1, 0));
    }
    tree
}

async fn read(reader: &Reader) -> Result<(BTreeSet<Guid>, Table), Error> {
    let mut table = reader.table(reader.head()).await?;
    table.folders.iter_mut().for_each(forget_places);
    for state in &mut table.states {
        match &mut state.content {
            StateContent::File { at, .. } | StateContent::Link { at, .. } => *at = Slot::Pending(0),
        }
    }
    let (mut messages, mut listed) = (BTreeSet::new(), 0);
    let mut at = Some(reader.head().clone());
    while let Some(commit) = at {
        let list = reader.messages(&commit).await?;
        listed += list.iter().count();
        messages.extend(list.iter().map(|m| m.guid));
        at = reader.previous(&commit).await?;
    }
    assert_eq!(listed, messages.len(), "no message is stored twice");
    Ok((messages, table))
}

fn forget_places(row: &mut FolderRow) {
    row.files.iter_mut().for_each(|file| file.at = Slot::Pending(0));
}

/// The spool, and what a run comes to that nobody kills.
struct Undisturbed {
    temp: TempDir,
    content: Content,
    tree: BTreeMap<String, Node>,
    took: Duration,
}

impl Undisturbed {
    fn root(&self) -> PathBuf {
        self.temp.path().join("root")
    }
}

fn undisturbed(folders: usize, messages: u64) -> Undisturbed {
    let temp = tempfile::tempdir().expect("a directory");
    let root = temp.path().join("root");
    let plan = Plan { user: USER.into(), folders, messages, size: 1000..=80_000, text: Text::Letters, seed: 8 };
    plan.write(&root).expect("a spool");
    let store = Store::new();
    let begun = Instant::now();
    run_for(&mut store.backup(&root, USER), 0);
    let took = begun.elapsed();
    let content = Content::of(&store);
    let bytes: u64 = content.table.folders.iter().map(|row| row.bytes).sum();
    println!("undisturbed: {} messages, {bytes} bytes, {took:?}", content.messages.len());
    assert!(content.messages.len() as u64 == messages && bytes > messages * 40_000);
    Undisturbed { temp, tree: extracted(&store), content, took }
}

fn start(store: &Store, root: &Path) -> Child {
    let mut command = store.backup(root, USER);
    command.arg("--quiet").stdout(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("the binary runs")
}

/// Bytes of content behind the last commit, which the next run will write again. None if there is no archive yet.
fn cost(store: &Store) -> u64 {
    let Ok(file) = File::open(store.archive(USER)) else { return 0 };
    match store.read(USER, async |reader| Ok(reader.head().part.offset + reader.head().part.len)) {
        Ok(end) => content_behind(&file, end).expect("an archive that can be read"),
        Err(Error::World { fault: Fault::NotFound, .. }) => 0,
        Err(error) => panic!("a killed run left an archive that does not open: {error}"),
    }
}

/// Of a member that is torn, or of a write that is, the bytes that are there.
fn content_behind(file: &File, mut at: u64) -> std::io::Result<u64> {
    let (len, mut content) = (file.metadata()?.len(), 0);
    while at < len {
        let mut header = [0; FOOTER_LEN];
        let got = file.read_at(&mut header, at)?;
        match parse_header(&header[..got]) {
            Ok(info) if at + u64::from(info.len) <= len => {
                content += u64::from(info.raw_len);
                at += u64::from(info.len);
            }
            _ => return Ok(content + len - at),
        }
    }
    Ok(content)
}

/// Kills runs with `signals`, one after the other, until `kills` of them were killed; a run that comes to its end is compared
/// with the undisturbed one, and then a new archive is begun.
fn kill(undisturbed: &Undisturbed, kills: u32, signals: &[&str], seed: u64) {
    let root = undisturbed.root();
    let (mut chance, mut killed, mut costs) = (Sampler::new(seed), 0, Vec::new());
    let (mut store, mut finished, mut kept) = (Store::new(), 0, 0);
    loop {
        let micros = undisturbed.took.as_micros() as u32;
        let mut child = start(&store, &root);
        // Once all are killed, the last archive is brought to its end.
        let patience = if killed < kills { chance.upto(micros / 4 * 3) } else { u32::MAX };
        if wait(&mut child, Duration::from_micros(patience.into())) {
            let output = child.wait_with_output().expect("a run that has ended");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(Content::of(&store) == undisturbed.content, "seed {seed}: other content after {killed} kills");
            if killed == kills {
                assert!(extracted(&store) == undisturbed.tree, "seed {seed}: another tree after {killed} kills");
            }
            kept += nothing_is_left(&store);
            finished += 1;
            if killed == kills {
                break;
            }
            store = Store::new();
            continue;
        }
        let obeyed = signal(&mut child, signals[killed as usize % signals.len()]);
        killed += 1;
        let cost = cost(&store);
        // Behind the last commit there is the footer, whose content is the end of the tar.
        assert!(!obeyed || cost <= 1024, "kill {killed} of seed {seed}: {cost} bytes were not committed");
        assert!(cost <= COST_MAX, "kill {killed} of seed {seed} costs {cost} bytes");
        costs.push(cost);
    }
    let (most, sum) = (costs.iter().max().copied().unwrap_or(0), costs.iter().sum::<u64>());
    println!(
        "{killed} kills with {signals:?}: {finished} archives came to their end, {kept} of them left what a kill had left"
    );
    println!("written twice: {sum} bytes of content, at most {most} for one kill");
    assert!(most > 0 || !signals.contains(&"KILL"), "every kill came before anything was written");
}

/// Nothing but archive and lock is left, and the mark of the last look whether compaction is due. What an earlier kill left may
/// be there still if the last one came right between the acknowledgement of the snapshot and the removal; the next snapshot
/// removes it. Answers how many such files there are.
fn nothing_is_left(store: &Store) -> usize {
    let mut kept = 0;
    for entry in fs::read_dir(store.user_dir(USER)).expect("the directory") {
        let name = entry.expect("a name").file_name().into_string().expect("text");
        let interrupted = name.ends_with("-interrupted");
        assert!(interrupted || matches!(name.as_str(), "archive.tar.gz" | "lock" | "checked"), "{name} is left");
        kept += usize::from(interrupted);
    }
    kept
}

/// True if the run has ended before `patience` has.
fn wait(child: &mut Child, patience: Duration) -> bool {
    let begun = Instant::now();
    while child.try_wait().expect("the state of a child").is_none() {
        if begun.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1).min(patience));
    }
    true
}

/// True if the run has ended as it was told to, and not at once.
fn signal(child: &mut Child, name: &str) -> bool {
    // It may have ended meanwhile, which is as good; an order to end is obeyed once what was fetched is committed.
    let kill = format!("kill -s {name} {}", child.id());
    let _ = Command::new("sh").args(["-c", &kill]).stderr(Stdio::null()).status();
    let status = child.wait().expect("a child that was killed");
    use std::os::unix::process::ExitStatusExt;
    let obeyed = name != "KILL" && status.code() == Some(3);
    assert!(status.success() || status.signal().is_some() || obeyed, "SIG{name} ended it with {status}");
    obeyed
}

/// One test, so that no run is slowed by another one's.
#[test]
fn a_run_that_is_killed_at_any_moment_costs_little_and_loses_nothing() {
    let kills: u32 = std::env::var("CYLINDER_KILLS").map_or(20, |n| n.parse().expect("CYLINDER_KILLS is a number"));
    // An order to end may cost nothing.
    let asked = (kills / 10).max(4);
    let undisturbed = if kills < MANY { undisturbed(5, 3200) } else { undisturbed(60, 20_000) };
    kill(&undisturbed, kills - asked, &["KILL"], 1);
    kill(&undisturbed, asked, &["TERM", "INT"], 2);
}
