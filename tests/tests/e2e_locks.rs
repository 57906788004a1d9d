//! The locks of Cyrus, from both sides: a backup waits for whoever writes, says for whom, and gives up in time; and while a
//! backup reads, whoever wants to write waits, for no longer than the backup holds.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_core::time::Time;
use cylinder_tests::cli::{Bench, Cylinder, Running, append_many, message};
use cylinder_tests::lab::{Lab, Version};
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Signal, kill_process};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A classic lock of the whole file, as Cyrus takes them; this process is the holder. It ends when the file is closed.
#[must_use]
fn hold(path: &Path) -> File {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    file
}

/// How a holder of locks is named: this process.
fn holder() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").expect("this process has a name");
    format!("process {} ({})", std::process::id(), name.trim_end())
}

fn bench() -> Bench {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 3);
    bench.imap.create("Work");
    append_many(&mut bench.imap, "Work", 3, 5);
    bench
}

/// The files that Cyrus locks exclusively when it changes anna's INBOX, in the order of its locking.
fn lock_files(lab: &Lab) -> [PathBuf; 3] {
    let index = inbox_index(lab);
    let id = index.parent().and_then(Path::file_name).and_then(|n| n.to_str()).expect("a uniqueid").to_owned();
    let letter = if id.starts_with(|c: char| c.is_ascii_alphabetic()) { &id[..1] } else { "q" };
    let locks = lab.outside(lab.dir()).join("run/lock");
    [locks.join("q/*U*anna.lock"), locks.join(format!("{letter}/{id}.lock")), index]
}

fn inbox_index(lab: &Lab) -> PathBuf {
    lab.outside(lab.run("mbpath", &["-m", "user/anna"]).trim()).join("cyrus.index")
}

#[test]
fn a_backup_gives_up_on_a_lock_in_time_and_names_it_and_its_holder() {
    let bench = bench();
    for path in lock_files(&bench.lab) {
        let held = hold(&path);
        let ran = bench.cylinder.backup(&["anna", "--wait", "1"]);
        drop(held);
        assert_eq!(ran.exit, 5, "{}: {ran:?}", path.display());
        let error = ran.user("anna")["error"].as_str().expect("an error").to_owned();
        assert!(error.contains(&path.display().to_string()) && error.contains(&holder()), "{}: {error}", path.display());
        assert!(ran.took < Duration::from_secs(4), "{}: {:?}", path.display(), ran.took);
        assert!(!bench.cylinder.has_archive("anna") || bench.cylinder.read(&["list", "anna"]).exit != 0, "nothing was read");
    }
}

#[test]
fn a_backup_waits_for_a_writer_and_tells_for_whom_it_waits() {
    let mut bench = bench();
    for (n, path) in lock_files(&bench.lab).into_iter().enumerate() {
        append_many(&mut bench.imap, "INBOX", 10 + n as u32, 11 + n as u32);
        let held = hold(&path);
        let mut backup = Running::start(&mut bench.cylinder.backup_command(&["anna"]));
        // Longer than the locks that come before this one may be held: they must be let go meanwhile, and taken again.
        std::thread::sleep(Duration::from_millis(2600));
        assert!(backup.is_running(), "{}: the backup did not wait", path.display());
        drop(held);
        let ran = backup.end();
        assert_eq!(ran.exit, 0, "{}: {ran:?}", path.display());
        let told = format!("anna: waiting for the lock of {}, held by {}", path.display(), holder());
        assert!(ran.stderr.contains(&told), "{}: {}", told, ran.stderr);
        let hold_ms = ran.user("anna")["longest_hold_ms"].as_u64().expect("a time");
        assert!(hold_ms < 2500, "{}: locks were held for {hold_ms} ms", path.display());
        bench.backup();
    }
}

#[test]
fn waiting_for_longer_than_all_rounds_of_a_capture_loses_no_folder() {
    let mut bench = bench();
    bench.backup();
    append_many(&mut bench.imap, "INBOX", 20, 21);
    let [_, namelock, index] = lock_files(&bench.lab);
    for path in [namelock, index] {
        append_many(&mut bench.imap, "INBOX", 30, 31);
        let held = hold(&path);
        // Each round gives up after 50 ms; this is more than 20 of them.
        let mut backup = Running::start(&mut bench.cylinder.backup_command(&["anna", "--hold", "50", "--wait", "30"]));
        std::thread::sleep(Duration::from_millis(1500));
        let waits = backup.is_running();
        drop(held);
        let ran = backup.end();
        assert!(waits, "{}: the backup did not wait: {ran:?} {:?}", path.display(), bench.cylinder.folders("anna"));
        assert_eq!((ran.exit, ran.user("anna")["unsettled"].as_bool()), (0, Some(false)), "{ran:?}");
        bench.backup();
    }
}

#[test]
fn a_hold_that_is_too_short_for_all_folders_loses_none() {
    let mut bench = bench();
    for n in 0..25 {
        bench.imap.create(&format!("Many/{n}"));
    }
    let ran = bench.cylinder.backup(&["anna", "--hold", "1"]);
    let told = ran.user("anna");
    assert_eq!((ran.exit, &told["unsettled"]), (0, &false.into()), "{ran:?}");
    let archived = bench.cylinder.folders("anna");
    assert!((0..25).all(|n| archived.iter().any(|folder| folder.name == format!("INBOX.Many.{n}"))), "{archived:?}");
    bench.backup();
}

#[test]
fn a_backup_and_its_reports_go_on_while_mailboxes_are_only_read() {
    let mut bench = bench();
    let mut reader = bench.lab.login("anna");
    reader.examine("INBOX");
    for path in lock_files(&bench.lab) {
        let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        fcntl_lock(&file, FlockOperation::NonBlockingLockShared).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        bench.cylinder.backup_well("anna");
    }
    bench.backup();
}

/// The inodes of the files that somebody holds an open file description lock on for reading, of those in `inodes`.
fn read_locked(inodes: &[u64]) -> Vec<u64> {
    let locks = std::fs::read_to_string("/proc/locks").expect("/proc/locks");
    let ours = locks.lines().filter(|line| line.contains("OFDLCK") && line.contains("READ"));
    let inode = |line: &str| line.split_whitespace().nth(5)?.rsplit(':').next()?.parse::<u64>().ok();
    ours.filter_map(inode).filter(|inode| inodes.contains(inode)).collect()
}

fn inode(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).ino()
}

/// Begins backups into new stores until one is stopped while it holds one of these locks. Gives it, stopped, and the lock.
fn stopped_while_it_holds(lab: &Lab, words: &[&str], inodes: &[u64]) -> (Cylinder, Running, u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let cylinder = Cylinder::new(lab);
        let mut backup = Running::start(&mut cylinder.backup_command(words));
        while backup.is_running() {
            if read_locked(inodes).is_empty() {
                continue;
            }
            kill_process(backup.pid(), Signal::STOP).expect("a child can be stopped");
            std::thread::sleep(Duration::from_millis(20));
            if let Some(&held) = read_locked(inodes).first() {
                return (cylinder, backup, held);
            }
            kill_process(backup.pid(), Signal::CONT).expect("a child can go on");
        }
    }
    panic!("no backup was seen while it held a lock");
}

/// Sends a command in another thread, and gives what tells how long it took.
fn begin(work: impl FnOnce() + Send + 'static) -> mpsc::Receiver<Duration> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let begun = Instant::now();
        work();
        // The test may have failed meanwhile.
        let _ = sender.send(begun.elapsed());
    });
    receiver
}

#[test]
fn a_writer_waits_while_a_backup_holds_the_user_lock_and_goes_on_afterwards() {
    let mut bench = bench();
    for n in 0..40 {
        bench.imap.create(&format!("Many/{n}"));
    }
    let [user_lock, ..] = lock_files(&bench.lab);
    let (mut store, mut append) = (bench.lab.login("anna"), bench.lab.login("anna"));
    let (cylinder, backup, _) = stopped_while_it_holds(&bench.lab, &["anna"], &[inode(&user_lock)]);
    let stored = begin(move || store.store("INBOX", "1", "+FLAGS (\\Flagged)"));
    let appended = begin(move || {
        append.append("Work", &[], Time::from_secs(1_700_000_000), &message(30));
    });
    std::thread::sleep(Duration::from_millis(700));
    assert!(stored.try_recv().is_err(), "STORE did not wait");
    assert!(appended.try_recv().is_err(), "APPEND did not wait");
    // Who only reads is not kept waiting.
    let mut reader = bench.lab.login("anna");
    assert_eq!((reader.status("INBOX").messages, reader.body("INBOX", 1)), (3, message(0)));
    kill_process(backup.pid(), Signal::CONT).expect("a child can go on");
    let ran = backup.end();
    assert_eq!(ran.exit, 0, "{ran:?}");
    for waited in [stored, appended] {
        let took = waited.recv_timeout(Duration::from_secs(10)).expect("the writer goes on");
        assert!(took >= Duration::from_millis(700), "{took:?}");
    }
    // The snapshot is of one moment, before both.
    assert_eq!(cylinder.messages("anna", "INBOX.Work", false).len(), 2);
    assert!(cylinder.messages("anna", "INBOX", false).iter().all(|l| l.message.flags.is_empty()));
    bench.backup();
}

#[test]
fn a_writer_of_a_shared_mailbox_waits_while_a_backup_reads_its_index() {
    let lab = Lab::start(Version::V3_6, &[]);
    let mut admin = lab.login("cyrus");
    let names: Vec<String> = (0..60).map(|n| format!("public/m{n}")).collect();
    for name in &names {
        admin.create(name);
        admin.set_acl(name, "anyone", "lrswi");
    }
    // Holds are short: the more mailboxes, the likelier it is that one is seen.
    let index = |name: &String| lab.outside(lab.run("mbpath", &["-m", name]).trim()).join("cyrus.index");
    let inodes: Vec<u64> = names.iter().map(|name| inode(&index(name))).collect();
    let (cylinder, backup, held) = stopped_while_it_holds(&lab, &["--shared"], &inodes);
    let name = names[inodes.iter().position(|i| *i == held).expect("one of them")].clone();
    let mut writer = lab.login("cyrus");
    let to = name.clone();
    let appended = begin(move || {
        writer.append(&to, &[], Time::from_secs(1_700_000_000), &message(1));
    });
    std::thread::sleep(Duration::from_millis(700));
    assert!(appended.try_recv().is_err(), "APPEND to {name} did not wait");
    kill_process(backup.pid(), Signal::CONT).expect("a child can go on");
    let ran = backup.end();
    assert_eq!(ran.exit, 0, "{ran:?}");
    appended.recv_timeout(Duration::from_secs(10)).expect("the writer goes on");
    let ran = cylinder.backup(&["--shared"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let archived = cylinder.messages("%shared", &name.replace('/', "."), false);
    assert_eq!(archived.len(), 1, "{name}");
}
