//! What tools of other makes do with an archive: GNU tar, bsdtar, Python's tarfile, zcat. What FORMAT.md section 2 says of them
//! is asserted here, and so is that `cylinder extract` gives the tree that the last snapshot, or an earlier one, describes.

use cylinder_core::archive::member::{self, FOOTER_LEN, Kind};
use cylinder_core::guid::Guid;
use cylinder_tests::proof::{Node, Store, err, out, run, run_for, tool, tree};
use cylinder_tests::spool::{Bodies, Spool, Text};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Range;
use std::process::{Command, Output};

/// 400 bytes, as deep as Cyrus lets users go.
const LONG: usize = 400;
/// Names that tempt a tool: modified UTF-7, `%`, a space, a leading dash, dots.
const NAMES: [&str; 5] = ["INBOX.&ZeVnLIqe-", "INBOX.100% sure", "INBOX.a^b", "INBOX.-rf", "INBOX.Work.Invoices 2025"];

fn long_name() -> String {
    let mut name = String::from("INBOX");
    for n in 0..7 {
        name.push_str(&format!(".{n}{}", "long".repeat(14)));
    }
    name.truncate(LONG);
    name
}

/// The name of a folder's link, by FORMAT.md section 2.
fn link(folder: &str) -> String {
    if folder.len() == LONG {
        return format!("imap/{}%~{}", &folder[..213], Guid::of(folder.as_bytes()));
    }
    let encode =
        |c: char| if matches!(c, '!'..='~') && !matches!(c, '%' | '/') { c.to_string() } else { format!("%{:02X}", c as u32) };
    format!("imap/{}", folder.chars().map(encode).collect::<String>())
}

/// A user with a past: four snapshots.
struct Past {
    store: Store,
    spool: Spool,
    /// What is at each snapshot: folders, and the messages that came up to it.
    snapshots: Vec<(BTreeSet<String>, BTreeSet<Guid>)>,
    contents: BTreeMap<Guid, Vec<u8>>,
}

impl Past {
    fn new() -> Past {
        let store = Store::new();
        let spool = Spool::create(&store.beside("root"), "anna", 3).expect("a spool");
        let mut past = Past { store, spool, snapshots: Vec::new(), contents: BTreeMap::new() };
        past.live().expect("files");
        past
    }

    fn live(&mut self) -> std::io::Result<()> {
        let mut folders: BTreeSet<String> = NAMES.map(String::from).into();
        folders.extend(["INBOX.moved", "INBOX.gone", "INBOX.again"].map(String::from));
        folders.insert(long_name());
        for folder in &folders {
            self.spool.create_folder(folder)?;
        }
        folders.insert(String::from("INBOX"));
        self.deliver(&folders, 0)?;
        fs::write(self.spool.user_file("sub.db")?, b"\x1fVER\x1f\t2\nNINBOX\x1fgone\t\n")?;
        fs::write(self.spool.folder_dir("INBOX.again").join("cyrus.annotations"), b"")?;
        self.snapshot(&folders)?;

        self.spool.rename_folder("INBOX.moved", "INBOX.Work.moved here")?;
        folders.remove("INBOX.moved");
        folders.insert(String::from("INBOX.Work.moved here"));
        for gone in ["INBOX.gone", "INBOX.again"] {
            self.spool.delete_folder(gone)?;
            folders.remove(gone);
        }
        fs::remove_file(self.spool.user_file("sub.db")?)?;
        self.snapshot(&folders)?;

        // The name comes again and is another folder.
        self.spool.create_folder("INBOX.again")?;
        folders.insert(String::from("INBOX.again"));
        self.deliver(&folders, 1)?;
        self.snapshot(&folders)?;

        let long = long_name();
        self.spool.delete_folder(&long)?;
        folders.remove(&long);
        self.deliver(&["INBOX".to_owned()].into(), 2)?;
        self.snapshot(&folders)
    }

    /// A small message, an empty one and a large one for each folder.
    fn deliver(&mut self, folders: &BTreeSet<String>, round: u64) -> std::io::Result<()> {
        let mut bodies = Bodies::new(Text::Words, 7 + round);
        let mut content = Vec::new();
        for (folder, n) in folders.iter().zip(100 * round..) {
            for (size, i) in [300..=2000, 511..=513, 70_000..=1_500_000].into_iter().zip(0..) {
                bodies.message(10 * n + i, &size, &mut content);
                self.spool.deliver(folder, &content)?;
                self.contents.insert(Guid::of(&content), content.clone());
            }
        }
        self.spool.deliver("INBOX", b"")?;
        self.contents.insert(Guid::of(b""), Vec::new());
        Ok(())
    }

    fn snapshot(&mut self, folders: &BTreeSet<String>) -> std::io::Result<()> {
        self.spool.save()?;
        run_for(&mut self.store.backup(self.spool.root(), "anna"), 0);
        self.snapshots.push((folders.clone(), self.contents.keys().copied().collect()));
        Ok(())
    }

    fn archive(&self) -> String {
        self.store.archive("anna").display().to_string()
    }

    /// The numbers that `cylinder log` gives the snapshots, oldest first, whatever it says of the end of the archive.
    fn numbers(&self) -> Vec<u64> {
        let lines = self.reads(&["log", "anna", "--json"]);
        let mut numbers: Vec<u64> = out(&lines).lines().map(|line| number(line, "snapshot")).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Runs a command that reads. It may find that the end is missing.
    fn reads(&self, words: &[&str]) -> Output {
        let output = run(&mut self.store.command(words));
        let is_cut = err(&output).contains("the end of the archive is missing");
        assert_eq!(output.status.code(), Some(if is_cut { 4 } else { 0 }), "{words:?}: {}", err(&output));
        output
    }

    /// The messages of a snapshot are there, byte for byte as they were delivered.
    fn check_messages(&self, tree: &BTreeMap<String, Node>, at: usize) {
        for guid in &self.snapshots[at].1 {
            assert_eq!(tree.get(&format!("files/{guid}")).and_then(Node::sha1), Some(*guid));
        }
    }

    fn links_at(&self, at: usize) -> BTreeSet<String> {
        self.snapshots[at].0.iter().map(|folder| link(folder)).collect()
    }

    /// Names that end with a tombstone.
    fn tombstones(&self) -> BTreeSet<String> {
        ["INBOX.moved", "INBOX.gone", &long_name()].map(link).into()
    }
}

/// The number behind `"key":` in a line of JSON.
fn number(line: &str, key: &str) -> u64 {
    let (_, rest) = line.split_once(&format!("\"{key}\":")).unwrap_or_else(|| panic!("no {key} in {line}"));
    rest.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

fn links(tree: &BTreeMap<String, Node>) -> BTreeSet<String> {
    tree.keys().filter(|name| name.starts_with("imap/")).cloned().collect()
}

fn directory(past: &Past, name: &str) -> std::path::PathBuf {
    let dir = past.store.beside(name);
    fs::create_dir(&dir).expect("a directory");
    dir
}

/// What a tool extracts straight on is at least what there is at a snapshot, and every name too much is one that has a
/// tombstone. Answers those.
fn check_tree(past: &Past, tree: &BTreeMap<String, Node>, at: usize) -> BTreeSet<String> {
    past.check_messages(tree, at);
    let (found, live) = (links(tree), past.links_at(at));
    assert!(live.is_subset(&found), "{:?}", live.difference(&found));
    let extra: BTreeSet<String> = found.difference(&live).cloned().collect();
    assert!(extra.is_subset(&past.tombstones()), "{extra:?}");
    // A file that is gone stays as an empty one.
    assert_eq!(tree["meta/sub"].sha1(), Some(Guid::of(b"")));
    extra
}

fn gnu_tar(past: &Past) {
    let archive = past.archive();
    let list = run_for(tool("tar", "tar").args(["tzf", &archive]), 0);
    let listed: BTreeSet<String> = out(&list).lines().map(str::to_owned).collect();
    assert!(past.links_at(3).is_subset(&listed) && past.tombstones().is_subset(&listed), "{listed:?}");
    assert!(listed.contains(&link(&long_name())), "the name of {LONG} bytes");

    let dir = directory(past, "gnu");
    let output = run_for(tool("tar", "tar").env("LC_ALL", "C").args(["xzf", &archive, "-C"]).arg(&dir), 2);
    let (complaints, last) = complaints(&err(&output), "Exiting with failure status due to previous errors");
    assert!(last, "{}", err(&output));
    for line in &complaints {
        assert!(line.contains("Cannot create symlink to ''"), "GNU tar says something else: {line}");
    }
    assert_eq!(complaints.len(), 4, "a complaint for each tombstone: {complaints:#?}");
    let left = check_tree(past, &tree(&dir), 3);
    assert_eq!(left, past.tombstones(), "GNU tar leaves the links that tombstones end");
    println!("GNU tar at a tombstone, exit 2: {}", complaints[0]);
}

fn bsdtar(past: &Past) {
    let archive = past.archive();
    let list = run_for(tool("bsdtar", "libarchive-tools").args(["tzf", &archive]), 0);
    let listed: BTreeSet<String> = out(&list).lines().map(str::to_owned).collect();
    assert!(past.links_at(3).is_subset(&listed) && past.tombstones().is_subset(&listed), "{listed:?}");

    let dir = directory(past, "bsd");
    let output = run_for(tool("bsdtar", "libarchive-tools").env("LC_ALL", "C").args(["xzf", &archive, "-C"]).arg(&dir), 1);
    let (complaints, last) = complaints(&err(&output), "Error exit delayed from previous errors.");
    assert!(last, "{}", err(&output));
    for line in &complaints {
        assert!(line.contains("Can't create"), "bsdtar says something else: {line}");
    }
    assert_eq!(complaints.len(), 4, "a complaint for each tombstone: {complaints:#?}");
    let left = check_tree(past, &tree(&dir), 3);
    assert!(left.is_empty(), "bsdtar removes the links that tombstones end: {left:?}");
    println!("bsdtar at a tombstone, exit 1: {}", complaints[0]);
}

/// The lines of a tool's complaint, and whether its last one is `end`.
fn complaints(text: &str, end: &str) -> (Vec<String>, bool) {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let last = lines.pop().is_some_and(|line| line.ends_with(end));
    (lines, last)
}

/// Python, entry by entry and all at once: neither raises anything.
const PYTHON: &str = "
import sys, tarfile
with tarfile.open(sys.argv[1]) as archive:
    for entry in archive:
        archive.extract(entry, sys.argv[2])
with tarfile.open(sys.argv[1]) as archive:
    archive.extractall(sys.argv[2])
    print(len(archive.getmembers()))
";

fn python(past: &Past) {
    let dir = directory(past, "python");
    let output = run_for(tool("python3", "python3").args(["-W", "ignore", "-c", PYTHON, &past.archive()]).arg(&dir), 0);
    assert_eq!(err(&output), "");
    let left = check_tree(past, &tree(&dir), 3);
    assert!(left.is_empty(), "{left:?}");
    let list = run_for(tool("tar", "tar").args(["tzf", &past.archive()]), 0);
    assert_eq!(out(&output).trim(), out(&list).lines().count().to_string(), "as many entries as tar lists");
}

/// `zcat` and `tar tv` as somebody types it who has nothing else.
fn pipe(past: &Past) {
    let script = "set -o pipefail; zcat \"$1\" | tar tv";
    let output = run_for(Command::new("bash").args(["-c", script, "bash", &past.archive()]), 0);
    assert!(out(&output).contains("imap/INBOX -> ../folders/"), "{}", out(&output));
    assert_eq!(err(&output), "");
    run_for(tool("gzip", "gzip").args(["-t", &past.archive()]), 0);
}

/// `cylinder extract` at each snapshot against what the test did, what `cylinder list` says and what is on the server's disk.
fn extract(past: &Past) {
    let numbers = past.numbers();
    for (at, number) in numbers.iter().copied().enumerate() {
        let tree = past.store.extract("anna", Some(number));
        past.check_messages(&tree, at);
        let files = tree.keys().filter(|name| name.starts_with("files/")).count();
        assert_eq!(files, past.snapshots[at].1.len(), "snapshot {number} has no message of a later one");
        assert_eq!(links(&tree), past.links_at(at), "snapshot {number}");
        assert_eq!(tree.contains_key("meta/sub"), at == 0);
        let list = past.reads(&["list", "anna", "--json", "--at", &number.to_string()]);
        for line in out(&list).lines() {
            let (_, id) = line.split_once("\"uniqueid\":\"").expect("a uniqueid");
            let dir = format!("folders/{}", &id[..24]);
            assert!(tree.contains_key(&format!("{dir}/cyrus.index")), "{line}");
            assert!(tree.values().any(|node| *node == Node::Link(format!("../{dir}").into_bytes())), "{line}");
        }
        assert_eq!(out(&list).lines().count(), past.snapshots[at].0.len());
    }
    let last = past.store.extract("anna", None);
    assert_eq!(links(&last), past.links_at(numbers.len() - 1));
    if numbers.len() < past.snapshots.len() {
        return;
    }
    for folder in &past.snapshots[3].0 {
        let dir = past.spool.folder_dir(folder);
        let Node::Link(target) = &last[&link(folder)] else { panic!("{folder} is no link") };
        for file in ["cyrus.index", "cyrus.header"] {
            let name = format!("{}/{file}", String::from_utf8_lossy(&target[3..]));
            assert_eq!(last[&name].sha1(), Some(Guid::of(&fs::read(dir.join(file)).expect("a file"))), "{folder} {file}");
        }
    }
}

#[test]
fn tars_of_other_makes_read_an_archive_and_stumble_only_at_tombstones() {
    let past = Past::new();
    gnu_tar(&past);
    bsdtar(&past);
    python(&past);
    pipe(&past);
    extract(&past);
}

/// What tools give of an archive whose end is not as a run leaves it: at least the messages and names of snapshot `at`.
fn with_tail(past: &Past, bytes: &[u8], at: usize, said: &str) {
    fs::write(past.store.archive("anna"), bytes).expect("the archive");
    let dir = tempfile::tempdir_in(past.store.temp.path()).expect("a directory");
    let output = run(tool("tar", "tar").env("LC_ALL", "C").args(["xzf", &past.archive(), "-C"]).arg(dir.path()));
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    assert!(err(&output).contains(said), "{}", err(&output));
    check_tree(past, &tree(dir.path()), at);
    let dir = tempfile::tempdir_in(past.store.temp.path()).expect("a directory");
    let output = run(tool("bsdtar", "libarchive-tools").args(["xzf", &past.archive(), "-C"]).arg(dir.path()));
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    check_tree(past, &tree(dir.path()), at);
    extract(past);
}

/// The last member with messages.
fn last_data(archive: &[u8]) -> Range<usize> {
    let (mut at, mut last) = (0, 0..0);
    while at < archive.len() {
        let info = member::parse_header(&archive[at..]).expect("a member");
        let end = at + info.len as usize;
        if info.kind == Kind::Data {
            last = at..end;
        }
        at = end;
    }
    last
}

#[test]
fn an_interrupted_run_or_a_damaged_tail_takes_nothing_from_what_other_tars_read() {
    let past = Past::new();
    let bytes = fs::read(past.store.archive("anna")).expect("the archive");
    let footer = bytes.len() - FOOTER_LEN;
    // The last run was killed in the middle of a member; before its commit; before its footer.
    let data = last_data(&bytes);
    with_tail(&past, &bytes[..data.start + data.len() / 2], 2, "Unexpected EOF in archive");
    with_tail(&past, &bytes[..data.end], 2, "Cannot create symlink");
    with_tail(&past, &bytes[..footer], 3, "Cannot create symlink");
    // Bytes of something else behind the footer.
    with_tail(&past, &[&bytes[..], &[7; 3000]].concat(), 3, "trailing garbage ignored");
    // What a run has mended reads like any other.
    fs::write(past.store.archive("anna"), &bytes[..data.start + data.len() / 2]).expect("the archive");
    run_for(&mut past.store.backup(past.spool.root(), "anna"), 0);
    extract(&past);
    gnu_tar(&past);
}
