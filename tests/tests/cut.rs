//! Archives that have lost their end, or whose metadata is damaged: no whole message is lost to whatever is done next, and no
//! command says that all is well.

use cylinder_core::archive::member::{self, FOOTER_LEN, Kind};
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::view;
use cylinder_tests::proof::{Store, copy_tree, err, out, run, run_for, tree};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

const USER: &str = "anna";
/// Messages of the sample user.
const MESSAGES: usize = 21;

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sample")
}

/// The sample user, backed up once.
struct Anna {
    store: Store,
    root: PathBuf,
    good: Vec<u8>,
}

impl Anna {
    fn new() -> Anna {
        let store = Store::new();
        let root = store.beside("root");
        copy_tree(&sample(), &root);
        let anna = Anna { store, root, good: Vec::new() };
        run_for(&mut anna.backup(), 0);
        let good = fs::read(anna.store.archive(USER)).expect("the archive");
        Anna { good, ..anna }
    }

    fn backup(&self) -> Command {
        let mut command = self.store.backup(&self.root, USER);
        command.arg("--offline");
        command
    }

    fn write(&self, bytes: &[u8]) {
        fs::write(self.store.archive(USER), bytes).expect("the archive");
    }

    /// Removes all files of messages from the server.
    fn lose_messages(&self) {
        let spool = self.root.join("var");
        let names: Vec<String> = tree(&spool).into_keys().collect();
        let is_message = |name: &&String| {
            let file = name.rsplit('/').next().unwrap_or_default();
            file.strip_suffix('.').is_some_and(|n| !n.is_empty() && n.bytes().all(|c| c.is_ascii_digit()))
        };
        let messages: Vec<&String> = names.iter().filter(is_message).collect();
        assert!(messages.len() >= MESSAGES, "{names:?}");
        messages.iter().for_each(|name| fs::remove_file(spool.join(name)).expect("a message"));
    }

    /// The messages of the archive that are whole, the folders of its newest snapshot, and the number of that.
    fn have(&self) -> (BTreeSet<Guid>, usize, u64) {
        let read = async |reader: &cylinder_core::archive::read::Reader| {
            let mut whole = BTreeSet::new();
            for message in reader.all_messages().await?.0 {
                if reader.copy_message(&message, &mut |_| true).await.is_ok() {
                    whole.insert(message.guid);
                }
            }
            let at = view::snapshot(reader, view::When::Newest).await;
            match at {
                Ok(at) => Ok((whole, reader.table(&at).await?.folders.len(), at.commit.number)),
                Err(Error::Refused(_)) => Ok((whole, 0, 0)),
                Err(error) => Err(error),
            }
        };
        self.store.read(USER, read).expect("an archive")
    }

    fn beside(&self) -> Vec<String> {
        let names = fs::read_dir(self.store.user_dir(USER)).expect("the directory");
        let mut names: Vec<String> = names.map(|e| e.expect("a name").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn members(bytes: &[u8]) -> Vec<(Kind, Range<usize>)> {
    let (mut all, mut at) = (Vec::new(), 0);
    while let Ok(info) = member::parse_header(&bytes[at..]) {
        all.push((info.kind, at..at + info.len as usize));
        at += info.len as usize;
        if at == bytes.len() {
            break;
        }
    }
    all
}

/// How many messages a restored tree has.
fn restored(dir: &Path) -> usize {
    tree(dir).keys().filter(|name| name.ends_with(".eml") || name.contains("/cur/")).count()
}

/// The next backup cut off what stood behind the last commit: 21 messages that were nowhere else.
#[test]
fn a_backup_over_an_archive_that_was_cut_keeps_every_whole_message() {
    let anna = Anna::new();
    let (all, folders, _) = anna.have();
    assert_eq!(all.len(), MESSAGES);
    anna.write(&anna.good[..12_000]);
    anna.lose_messages();
    let said = run_for(&mut anna.backup(), 0);
    assert!(err(&said).contains("21 whole messages behind commit 0 are kept"), "{}{}", out(&said), err(&said));
    let (whole, now, _) = anna.have();
    assert_eq!((whole, now), (all, folders));
    run_for(&mut anna.store.command(&["verify", USER]), 0);
}

/// The same wherever it is cut: a message is whole in the archive or the file was cut in it or before.
#[test]
fn wherever_an_archive_is_cut_the_next_backup_keeps_what_was_whole() {
    let anna = Anna::new();
    let data: Vec<Range<usize>> =
        members(&anna.good).into_iter().filter(|(kind, _)| *kind == Kind::Data).map(|(_, range)| range).collect();
    let first = members(&anna.good)[1].1.end;
    anna.lose_messages();
    for keep in (first..anna.good.len()).step_by(397) {
        anna.write(&anna.good[..keep]);
        run(&mut anna.backup());
        let (whole, ..) = anna.have();
        if data.iter().all(|range| range.end <= keep) {
            assert_eq!(whole.len(), MESSAGES, "cut at {keep}");
        }
        // Of a member that is cut, what is whole comes in, too: it is deflated in one piece.
        let in_tar = tar_finds(&anna.good[..keep]);
        assert!(whole.is_superset(&in_tar), "cut at {keep}: {} of {} are there", whole.len(), in_tar.len());
        anna.beside().iter().filter(|name| name.contains("aside")).for_each(|name| {
            fs::remove_file(anna.store.user_dir(USER).join(name)).expect("an aside file");
        });
    }
}

/// The messages that tar finds whole in such a file.
fn tar_finds(bytes: &[u8]) -> BTreeSet<Guid> {
    let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(bytes));
    let mut found = BTreeSet::new();
    let Ok(entries) = tar.entries() else { return found };
    for entry in entries {
        let Ok(mut entry) = entry else { break };
        let mut content = Vec::new();
        let name = entry.path_bytes().into_owned();
        if std::io::Read::read_to_end(&mut entry, &mut content).is_err() {
            break;
        }
        if let Some(guid) = name.strip_prefix(b"files/").and_then(Guid::from_hex)
            && Guid::of(&content) == guid
        {
            found.insert(guid);
        }
    }
    found
}

/// Each of them said nothing, or "good", and ended with 0.
#[test]
fn every_command_that_reads_says_that_the_end_is_missing() {
    let anna = Anna::new();
    let dir = anna.store.beside("tree");
    for keep in [12_000, anna.good.len() - FOOTER_LEN, anna.good.len() - 1] {
        anna.write(&anna.good[..keep]);
        let commands: [&[&str]; 6] = [
            &["verify"],
            &["verify", USER, "--quick"],
            &["log", USER],
            &["list", USER],
            &["find", USER, "--from", "x"],
            &["compact", USER, "--dry-run"],
        ];
        for words in commands {
            let said = run(&mut anna.store.command(words));
            let text = out(&said) + &err(&said);
            assert!(text.contains("missing") && said.status.code() == Some(4), "{words:?} of {keep}: {text}");
        }
        let said = run(anna.store.command(&["restore", USER, "--all", "--dir"]).arg(&dir));
        assert_eq!(said.status.code(), Some(4), "{}", err(&said));
        assert!(err(&said).contains("the end of the archive is missing"), "{}", err(&said));
    }
    // A backup mends it, and then nobody says so any more.
    run_for(&mut anna.backup(), 0);
    let said = run_for(&mut anna.store.command(&["log", USER]), 0);
    assert!(!err(&said).contains("missing"));
}

/// While a run is at work, an archive has no end, and that is as it should be.
#[test]
fn an_archive_on_which_a_run_is_at_work_is_not_said_to_have_lost_its_end() {
    let anna = Anna::new();
    anna.write(&anna.good[..anna.good.len() - FOOTER_LEN]);
    let lock = File::options().write(true).open(anna.store.user_dir(USER).join("lock")).expect("the lock");
    let mut holder = Command::new("python3")
        .args(["-c", "import fcntl, time; fcntl.lockf(0, fcntl.LOCK_EX); print('held', flush=True); time.sleep(600)"])
        .stdin(lock)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3");
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(holder.stdout.as_mut().expect("a pipe")), &mut line)
        .expect("a line");
    assert_eq!(line, "held\n");
    let said = (run(&mut anna.store.command(&["log", USER])), run(&mut anna.store.command(&["verify", USER])));
    holder.kill().expect("a process");
    holder.wait().expect("a process");
    assert_eq!((said.0.status.code(), said.1.status.code()), (Some(0), Some(0)), "{}{}", err(&said.0), out(&said.1));
    run_for(&mut anna.store.command(&["log", USER]), 4);
}

/// `repair` said that nothing was wrong, `import` of the same file found more.
#[test]
fn repair_and_import_of_a_cut_archive_give_the_same() {
    let anna = Anna::new();
    let ends: Vec<usize> = members(&anna.good).into_iter().map(|(_, range)| range.end).collect();
    for keep in [12_000, 13_000, ends[2], ends[3], ends[3] + 40, anna.good.len() - FOOTER_LEN] {
        let cut = &anna.good[..keep];
        anna.write(cut);
        let repaired = run(&mut anna.store.command(&["repair", USER]));
        assert!(out(&repaired).contains("repaired: "), "cut at {keep}: {}{}", out(&repaired), err(&repaired));
        let ours = anna.have();
        assert!(
            ours.0.is_superset(&tar_finds(cut)) && (ours.1 > 0 || keep <= ends[2]),
            "cut at {keep}: {} messages, {} folders",
            ours.0.len(),
            ours.1
        );
        let other = Store::new();
        let file = other.beside("cut.tar.gz");
        fs::write(&file, cut).expect("a file");
        let imported = run(other.command(&["import", "--user", USER]).arg(&file));
        assert!(matches!(imported.status.code(), Some(0 | 3)), "{}", err(&imported));
        fs::copy(other.archive(USER), anna.store.archive(USER)).expect("the archive");
        assert_eq!(anna.have(), ours, "cut at {keep}");
    }
}

/// A run that was killed had saved messages that are on the server no more, and in no folder: nobody was told, and the next
/// compaction would have dropped them.
#[test]
fn messages_of_a_run_that_did_not_end_and_that_no_folder_has_are_told_and_kept() {
    let anna = Anna::new();
    // Behind the good archive, two whole messages of another user, as a run leaves them that is killed.
    let mut other = anna.store.backup(&anna.root, "bob.smith");
    run_for(other.arg("--offline"), 0);
    let bob = fs::read(anna.store.archive("bob.smith")).expect("an archive");
    let (_, data) = members(&bob).into_iter().find(|(kind, _)| *kind == Kind::Data).expect("messages");
    let before = anna.have().0.len();
    anna.write(&[&anna.good[..anna.good.len() - FOOTER_LEN], &bob[data]].concat());
    let said = run_for(&mut anna.backup(), 3);
    assert!(err(&said).contains("in no folder that was read now"), "{}{}", out(&said), err(&said));
    assert!(anna.have().0.len() > before);
    let compacted = run(&mut anna.store.command(&["compact", USER, "--keep-within", "0d"]));
    assert!((out(&compacted) + &err(&compacted)).contains("acknowledge"), "{}{}", out(&compacted), err(&compacted));
    let dir = anna.store.beside("recovered");
    run_for(anna.store.command(&["restore", USER, "--recovered", "--dir"]).arg(&dir), 0);
    assert_eq!(restored(&dir), anna.have().0.len() - before);
}

/// A flipped byte in a metadata member: the restore of the repaired archive had 13 of 19 messages and ended with 0.
#[test]
fn a_folder_whose_index_is_lost_is_named_and_its_messages_are_offered() {
    let anna = Anna::new();
    let (dir, other) = (anna.store.beside("whole"), anna.store.beside("rest"));
    run_for(anna.store.command(&["restore", USER, "--all", "--dir"]).arg(&dir), 0);
    let all = restored(&dir);
    let (_, meta) = members(&anna.good).into_iter().find(|(kind, _)| *kind == Kind::Meta).expect("metadata");
    let mut bad = anna.good.clone();
    bad[meta.start + meta.len() / 2] ^= 0x40;
    anna.write(&bad);
    run_for(&mut anna.store.command(&["verify", USER]), 4);
    let repaired = run_for(&mut anna.store.command(&["repair", USER]), 3);
    for words in [&["log", USER][..], &["list", USER], &["verify", USER]] {
        let said = run(&mut anna.store.command(words));
        let text = out(&said) + &err(&said);
        assert!(text.contains("index"), "{words:?}: {text}\n{}", out(&repaired));
    }
    let dir = anna.store.beside("part");
    let said = run_for(anna.store.command(&["restore", USER, "--all", "--dir"]).arg(&dir), 3);
    let part = restored(&dir);
    assert!(part < all, "the index of a folder with messages was hit");
    assert!((out(&said) + &err(&said)).contains("--recovered"), "{}{}", out(&said), err(&said));
    run_for(anna.store.command(&["restore", USER, "--recovered", "--dir"]).arg(&other), 0);
    let offered = tree(&other).values().filter_map(|node| node.sha1()).collect::<BTreeSet<_>>();
    let had = tree(&anna.store.beside("whole")).into_iter().filter(|(name, _)| name.ends_with(".eml"));
    let has: BTreeSet<Guid> = tree(&dir).values().filter_map(|node| node.sha1()).collect();
    for (name, node) in had {
        let sha1 = node.sha1().expect("a file");
        assert!(offered.contains(&sha1) || has.contains(&sha1), "{name} is nowhere");
    }
    // The next backup makes it whole.
    run_for(&mut anna.backup(), 0);
    let dir = anna.store.beside("again");
    run_for(anna.store.command(&["restore", USER, "--all", "--dir"]).arg(&dir), 0);
    assert_eq!(restored(&dir), all);
}

/// Somebody continued a copy of an archive that had grown: the footer of the copy stands in the middle, and the first bytes of
/// the next run are gone. Everything behind it was left out.
#[test]
fn a_copy_that_was_continued_keeps_what_is_whole_behind_its_old_end() {
    let anna = Anna::new();
    fs::remove_dir_all(anna.store.user_dir(USER)).expect("the archive");
    let mut spool = cylinder_tests::spool::Spool::create(&anna.store.beside("made"), USER, 11).expect("a spool");
    let deliver = |spool: &mut cylinder_tests::spool::Spool, n: u64| {
        spool.deliver("INBOX", &cylinder_tests::story::mail(n, 70_000)).expect("a message");
        spool.save().expect("an index");
        run_for(&mut anna.store.backup(spool.root(), USER), 0);
        fs::read(anna.store.archive(USER)).expect("the archive")
    };
    deliver(&mut spool, 1);
    let old = deliver(&mut spool, 2);
    (3..6).for_each(|n| drop(deliver(&mut spool, n)));
    let new = deliver(&mut spool, 6);
    anna.write(&[&old[..], &new[old.len()..]].concat());
    run(&mut anna.store.command(&["repair", USER]));
    let (whole, folders, _) = anna.have();
    // Of the message whose first bytes are those of the footer nothing can be had.
    assert_eq!((whole.len(), folders), (5, 1), "{:?}", anna.beside());
}
