//! A run that finds nothing to do, as the system sees it: what it opens and what it writes.

use cylinder_tests::proof::{Store, binary, copy_tree, err, out, run_for, tool};
use cylinder_tests::spool::{Plan, Text};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Longer than any clock tick, so that no file is too young to be trusted.
const AGED: Duration = Duration::from_millis(100);

/// Inode, times and length of everything in a directory, itself too: whatever would change if something was written.
fn stamps(dir: &Path) -> BTreeMap<String, [i64; 6]> {
    let mut all = BTreeMap::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(path) = todo.pop() {
        let stat = fs::symlink_metadata(&path).expect("a file that is there");
        if stat.is_dir() {
            todo.extend(fs::read_dir(&path).expect("a directory").map(|entry| entry.expect("a name").path()));
        }
        let stamp = [stat.ino() as i64, stat.mtime(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec(), stat.size() as i64];
        all.insert(path.display().to_string(), stamp);
    }
    all
}

/// A run under strace, without the libraries that cargo looks for first.
fn traced(command: &Command, trace: &Path) -> Command {
    let mut strace = tool("strace", "strace");
    strace.args(["-f", "-y", "-e", "trace=%file,%desc", "-o"]).arg(trace).arg(binary());
    strace.args(command.get_args()).env_remove("LD_LIBRARY_PATH");
    strace
}

/// The calls that strace wrote down: name, arguments, result. Signals and exits are left out.
fn calls(trace: &str) -> Vec<(String, String)> {
    let call = |line: &str| {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        let (name, rest) = line.split_once('(')?;
        name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then(|| (name.to_owned(), rest.to_owned()))
    };
    trace.lines().filter_map(call).collect()
}

/// Calls that change a file system, whatever they are given.
const CHANGES: [&str; 24] = [
    "creat",
    "rename",
    "renameat",
    "renameat2",
    "unlink",
    "unlinkat",
    "rmdir",
    "mkdir",
    "mkdirat",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "mknod",
    "mknodat",
    "truncate",
    "ftruncate",
    "fallocate",
    "chmod",
    "fchmod",
    "chown",
    "fchown",
    "utimensat",
    "fsync",
];
/// Calls that write to a descriptor.
const WRITES: [&str; 6] = ["write", "pwrite64", "writev", "pwritev", "pwritev2", "copy_file_range"];

fn is_output(arguments: &str) -> bool {
    arguments.starts_with("1<") || arguments.starts_with("2<")
}

/// What must not be in a trace of a run without changes.
fn offends(name: &str, arguments: &str, root: &str) -> bool {
    let opens = matches!(name, "open" | "openat" | "openat2");
    let writable = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND"].iter().any(|flag| arguments.contains(flag));
    // The lock on the archive is taken only to write; mailboxes.db is locked by a read lock, which writes nothing.
    let of_spool = arguments.contains(&format!("{root}/var/spool/")) && !arguments.contains("O_DIRECTORY");
    (opens && (writable || of_spool)) || CHANGES.contains(&name) || (WRITES.contains(&name) && !is_output(arguments))
}

#[test]
fn a_run_without_changes_opens_no_message_and_no_index_and_writes_nothing() {
    let store = Store::new();
    let root = store.beside("root");
    let plan = Plan { user: "anna".into(), folders: 9, messages: 1000, size: 300..=2000, text: Text::Words, seed: 5 };
    plan.write(&root).expect("a spool");
    std::thread::sleep(AGED);
    run_for(&mut store.backup(&root, "anna"), 0);
    // The first run may have found files too young; now they are not.
    std::thread::sleep(AGED);
    run_for(&mut store.backup(&root, "anna"), 0);
    std::thread::sleep(AGED);
    let before = (stamps(&store.dir()), stamps(&root));
    let trace = store.beside("trace");
    let output = run_for(&mut traced(&store.backup(&root, "anna"), &trace), 0);
    assert_eq!(out(&output), "anna: unchanged, 1000 messages in 10 folders\n", "{}", err(&output));
    assert_eq!((stamps(&store.dir()), stamps(&root)), before);

    let calls = calls(&fs::read_to_string(&trace).expect("the trace"));
    assert!(calls.iter().any(|(name, arguments)| name == "write" && is_output(arguments)), "strace saw the output");
    assert!(calls.iter().any(|(name, rest)| name.starts_with("open") && rest.contains("mailboxes.db")), "and mailboxes.db");
    let bad: Vec<_> = calls.iter().filter(|(name, rest)| offends(name, rest, &root.display().to_string())).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    let mut counts = BTreeMap::new();
    calls.iter().for_each(|(name, _)| *counts.entry(name.as_str()).or_insert(0) += 1);
    println!("{} system calls on files and descriptors for 10 folders, 1000 messages: {counts:?}", calls.len());
    // A stat for each metadata file of a folder, and a fixed number of others, some of which tell what is installed, and seven
    // what the directory is that is to be the store. Links are read because of --root alone.
    let own = calls.iter().filter(|(name, _)| name != "readlinkat").count();
    assert!(own < 10 * 4 + 127, "{own} calls");
}

/// Users by name and by uniqueid, with Sieve, seen, quota, annotations; and the shared mailboxes.
#[test]
fn a_run_without_changes_over_the_sample_is_as_quiet() {
    let store = Store::new();
    let root = store.beside("root");
    copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sample"), &root);
    let mut all = store.command(&["backup", "--all", "--jobs", "1", "--imapd-conf", "/etc/imapd.conf"]);
    all.arg("--root").arg(&root);
    for _ in 0..2 {
        std::thread::sleep(AGED);
        run_for(&mut all, 0);
    }
    std::thread::sleep(AGED);
    let before = (stamps(&store.dir()), stamps(&root));
    let trace = store.beside("trace");
    let output = run_for(&mut traced(&all, &trace), 0);
    assert_eq!(out(&output).matches(": unchanged, ").count(), 3, "{}", out(&output));
    assert_eq!((stamps(&store.dir()), stamps(&root)), before);
    let calls = calls(&fs::read_to_string(&trace).expect("the trace"));
    let bad: Vec<_> = calls.iter().filter(|(name, rest)| offends(name, rest, &root.display().to_string())).collect();
    assert!(bad.is_empty(), "{bad:#?}");
    println!("{} system calls for three owners of the sample", calls.len());
}

#[test]
fn the_same_trace_shows_what_a_run_with_changes_does() {
    let store = Store::new();
    let root = store.beside("root");
    let plan = Plan { user: "anna".into(), folders: 1, messages: 20, size: 300..=2000, text: Text::Words, seed: 5 };
    let mut spool = plan.write(&root).expect("a spool");
    run_for(&mut store.backup(&root, "anna"), 0);
    spool.deliver("INBOX", b"Subject: one more\r\n\r\n").expect("a message");
    spool.save().expect("an index");
    let trace = store.beside("trace");
    run_for(&mut traced(&store.backup(&root, "anna"), &trace), 0);
    let calls = calls(&fs::read_to_string(&trace).expect("the trace"));
    let bad: Vec<&str> = calls
        .iter()
        .filter(|(name, rest)| offends(name, rest, &root.display().to_string()))
        .map(|(name, _)| name.as_str())
        .collect();
    // cyrus.index, cyrus.header, the message; the archive, opened and written.
    assert!(bad.iter().filter(|name| name.starts_with("open")).count() >= 4 && bad.contains(&"pwrite64"), "{bad:?}");
}
