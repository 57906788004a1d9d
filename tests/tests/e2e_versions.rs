//! Everyday life, changes within a second, and locks, on every release of Cyrus that the lab can run. `tests/lab/matrix` runs
//! it.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.2 3.6 3.10 3.12`.

use cylinder_tests::cli::{Bench, Namespace, Running, append_many};
use cylinder_tests::everyday::{everyday, message_dir};
use cylinder_tests::lab::{Lab, Version};
use rustix::fs::{FlockOperation, fcntl_lock};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Layouts that every release knows.
const LAYOUTS: [&[(&str, &str)]; 2] = [
    &[],
    &[
        ("hashimapspool", "no"),
        ("metapartition_files", "header index"),
        ("metapartition-default", "{dir}/meta"),
        ("mboxlist_db", "skiplist"),
        ("conversations", "no"),
    ],
];

fn supports(version: Version) {
    for options in LAYOUTS {
        for user in ["anna", "bob.smith@other.net"] {
            println!("{}: {user}: {options:?}", version.name());
            everyday(&mut Bench::of(Lab::start(version, options), user, Namespace::DEFAULT));
        }
    }
    misses_no_flag(version);
    waits_for_every_lock(version);
}

/// Changes a flag the moment a backup has ended.
fn misses_no_flag(version: Version) {
    let mut bench = Bench::start(version, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 2);
    bench.backup();
    for round in 0..50 {
        let sign = if round % 2 == 0 { '+' } else { '-' };
        bench.imap.store("INBOX", "2", &format!("{sign}FLAGS (\\Flagged)"));
        bench.cylinder.backup_well("anna");
        let archived: Vec<_> = bench.cylinder.messages("anna", "INBOX", false).into_iter().map(|l| l.message).collect();
        assert_eq!(archived, bench.imap.fetch("INBOX"), "round {round}");
    }
}

/// Holds each lock that this release takes when it writes to the INBOX, and sees the backup wait for it.
fn waits_for_every_lock(version: Version) {
    let mut bench = Bench::start(version, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 2);
    bench.backup();
    let locks = lock_files(&bench);
    let expected = if version == Version::V3_2 { 2 } else { 3 };
    assert_eq!(locks.len(), expected, "{locks:?}");
    for path in locks {
        append_many(&mut bench.imap, "INBOX", 10, 11);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        let file = file.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let ran = bench.cylinder.backup(&["anna", "--wait", "1"]);
        assert_eq!(ran.exit, 5, "{}: {ran:?}", path.display());
        let mut backup = Running::start(&mut bench.cylinder.backup_command(&["anna"]));
        std::thread::sleep(Duration::from_millis(700));
        assert!(backup.is_running(), "{}: the backup did not wait", path.display());
        drop(file);
        let ran = backup.end();
        assert_eq!(ran.exit, 0, "{}: {ran:?}", path.display());
        bench.backup();
    }
}

/// The user lock, where a mailbox cannot be opened without it, and the namelock and cyrus.index of anna's INBOX.
fn lock_files(bench: &Bench) -> Vec<PathBuf> {
    let index = message_dir(bench, "INBOX").join("cyrus.index");
    let id = index.parent().and_then(Path::file_name).and_then(|name| name.to_str()).expect("a directory").to_owned();
    let letter = if id.starts_with(|c: char| c.is_ascii_alphabetic()) { &id[..1] } else { "q" };
    let locks = bench.lab.outside(bench.lab.dir()).join("run/lock");
    let names: &[String] = match bench.lab.release() {
        release if release.starts_with("3.2.") => &["a/user/anna".to_owned()],
        release if release.starts_with("3.12.") => &["a/*U*user/anna".to_owned(), format!("{letter}/{id}")],
        _ => &["q/*U*anna".to_owned(), format!("{letter}/{id}")],
    };
    names.iter().map(|name| locks.join(format!("{name}.lock"))).chain([index]).collect()
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.2`: minutes, and some 0.5 GB"]
fn cyrus_3_2_is_supported() {
    supports(Version::V3_2);
}

#[test]
#[ignore = "run by `tests/lab/matrix`; other tests say more about 3.6"]
fn cyrus_3_6_is_supported() {
    supports(Version::V3_6);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.10`: minutes, and some 0.5 GB"]
fn cyrus_3_10_is_supported() {
    supports(Version::V3_10);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.12`: minutes, and some 0.5 GB"]
fn cyrus_3_12_is_supported() {
    supports(Version::V3_12);
}
