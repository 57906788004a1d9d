//! Folders, messages and files that real servers serve and that are not as they should be: they are saved all the same where
//! that can be, and what a snapshot lacks is told by the backup, by all who read the archive, and by each restore.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.2 3.6`.

use cylinder_tests::cli::{Bench, Ran, Running, append_many, message};
use cylinder_tests::everyday::message_dir;
use cylinder_tests::imap::Imap;
use cylinder_tests::lab::Version;
use cylinder_tests::proof::binary;
use serde_json::Value;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Anna with two messages in INBOX and two in Old.
fn bench(version: Version) -> Bench {
    let mut bench = Bench::start(version, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 2);
    bench.imap.create("Old");
    append_many(&mut bench.imap, "Old", 2, 4);
    bench
}

/// Reads (`get`, `show`) or changes (`set`, `delete`) a server's mailboxes.db.
#[track_caller]
fn mailboxes(bench: &Bench, words: &[&str]) -> String {
    let file = format!("{}/lib/mailboxes.db", bench.lab.dir());
    bench.lab.run("cyr_dbtool", &[&[&file[..], "twoskip"], words].concat())
}

fn write_as_cyrus(path: &Path, content: &[u8]) {
    let owner = fs::metadata(path).or_else(|_| fs::metadata(path.parent().expect("a directory"))).expect("a file or directory");
    fs::write(path, content).expect("a file of the spool can be written");
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).expect("root gives files away");
}

/// What a backup of anna said, which ended with `exit`.
#[track_caller]
fn backup(bench: &Bench, exit: i32) -> Value {
    let ran = bench.cylinder.backup(&["anna"]);
    assert_eq!(ran.exit, exit, "{ran:?}");
    ran.user("anna")
}

/// Kinds and texts of a run's problems.
fn problems(told: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    told["problems"].as_array().expect("a list").iter().map(|p| (text(&p["kind"]), text(&p["what"]))).collect()
}

fn restore(bench: &Bench, words: &[&str]) -> Ran {
    let mut command = Command::new(binary());
    command.args(["restore", "anna"]).args(words).arg("--store").arg(bench.cylinder.store()).env("LAB_PASSWORD", "any");
    Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end()
}

/// The options of a restore into a server.
fn into(bench: &Bench, service: &str) -> [String; 6] {
    let server = format!("tcp:{}:{}", bench.lab.host(), bench.lab.port(service));
    ["--login", "cyrus", "--password-env", "LAB_PASSWORD", "--server", &server].map(str::to_owned)
}

fn restore_into(bench: &Bench, service: &str, words: &[&str]) -> Ran {
    let options = into(bench, service);
    let words: Vec<&str> = words.iter().copied().chain(options.iter().map(|option| &option[..])).collect();
    restore(bench, &words)
}

/// All who read the newest snapshot say that it lacks `what`, and none says that it is good.
#[track_caller]
fn is_told_by_all(bench: &Bench, what: &str) {
    is_told(bench, what);
    let ran = restore_into(bench, "sync", &["--all", "--exact", "--dry-run"]);
    assert!(ran.exit == 3 && String::from_utf8_lossy(&ran.stdout).contains(what), "{ran:?}");
}

/// The same but for the exact way, to which a folder is as it was if its records are.
#[track_caller]
fn is_told(bench: &Bench, what: &str) {
    for (words, exit) in [(&["log", "anna"][..], 0), (&["list", "anna"], 0), (&["verify", "anna"], 3)] {
        let ran = bench.cylinder.read(words);
        let said = String::from_utf8_lossy(&ran.stdout).into_owned();
        let is_told = said.lines().any(|line| line.to_lowercase().contains("lack") && line.contains(what));
        assert!(ran.exit == exit && is_told && !said.contains("good"), "{words:?}: {ran:?}");
    }
    for (n, words) in [&["--all", "--format", "mbox"][..], &["--all"], &["--all", "--format", "cyrus"]].iter().enumerate() {
        let dir = bench.cylinder.store().with_extension(format!("out{n}"));
        let dir_shown = dir.display().to_string();
        let ran = restore(bench, &[words, &["--dir", &dir_shown][..]].concat());
        fs::remove_dir_all(&dir).expect("what was restored");
        assert!(ran.exit == 3 && ran.stderr.contains(what), "{words:?}: {ran:?}");
    }
    for words in [&["--all", "--merge"][..], &["--all", "--merge", "--dry-run"], &["--all"]] {
        let ran = restore_into(bench, "imap", words);
        assert!(ran.exit == 3 && String::from_utf8_lossy(&ran.stdout).contains(what), "{words:?}: {ran:?}");
    }
}

fn subjects(imap: &mut Imap, mailbox: &str) -> usize {
    imap.fetch(mailbox).len()
}

#[test]
fn a_folder_with_two_uniqueids_is_saved_and_each_run_says_so() {
    let mut bench = bench(Version::V3_2);
    let entry = "%(A %(anna lrswipkxtecdan) I aaaabbbbccccddddeeeeffff P default V 1 M 1)";
    mailboxes(&bench, &["set", "user.anna.Old", entry]);
    assert_eq!(subjects(&mut bench.imap, "Old"), 2, "the server serves it");
    for run in 0..3 {
        let told = backup(&bench, 3);
        let problems = problems(&told);
        assert!(matches!(&problems[..], [(kind, what)] if kind == "identity" && what.contains("reconstruct")), "{problems:?}");
        assert_eq!(told["snapshot"].is_null(), run > 0, "a run in which nothing changed: {told}");
    }
    assert_eq!(bench.cylinder.folder("anna", "INBOX.Old").exists, 2);
    assert_eq!(bench.cylinder.show("anna", "INBOX.Old/2"), message(3));
    bench.cylinder.verify("anna");
    // So is a copy at rest.
    bench.imap.store("Old", "1", "+FLAGS (\\Flagged)");
    bench.imap.unselect();
    bench.lab.stop();
    let ran = bench.cylinder.backup(&["anna", "--offline"]);
    assert!(ran.exit == 3 && problems(&ran.user("anna")).len() == 1 && !ran.user("anna")["snapshot"].is_null(), "{ran:?}");
}

#[test]
fn a_folder_without_a_uniqueid_is_saved_under_one_of_ours() {
    let mut bench = bench(Version::V3_2);
    mailboxes(&bench, &["set", "user.anna.Old", "%(A %(anna lrswipkxtecdan) P default V 1 M 1)"]);
    let header = message_dir(&bench, "INBOX.Old").join("cyrus.header");
    let text = fs::read(&header).expect("a header");
    let mut lines: Vec<&[u8]> = text.split_inclusive(|&c| c == b'\n').collect();
    assert!(lines[3].starts_with(b"\t") && lines[3].len() > 16, "a uniqueid and no quota root: {text:?}");
    lines[3] = b"\n";
    write_as_cyrus(&header, &lines.concat());
    for run in 0..2 {
        let told = backup(&bench, 3);
        let problems = problems(&told);
        assert!(matches!(&problems[..], [(kind, what)] if kind == "identity" && what.contains("cylinder-")), "{problems:?}");
        assert_eq!(told["snapshot"].is_null(), run > 0, "{told}");
    }
    assert_eq!(bench.cylinder.show("anna", "INBOX.Old/1"), message(2));
    // It comes back.
    bench.imap.delete("Old");
    let ran = restore_into(&bench, "imap", &["--all", "--merge"]);
    assert!(ran.exit == 0 && subjects(&mut bench.imap, "Old") == 2, "{ran:?}");
}

#[test]
fn a_folder_that_cannot_be_saved_is_named_by_all_who_read_the_snapshot() {
    let bench = bench(Version::V3_6);
    let index = message_dir(&bench, "INBOX.Old").join("cyrus.index");
    let good = fs::read(&index).expect("an index");
    write_as_cyrus(&index, &vec![0; good.len()]);
    for run in 0..2 {
        let told = backup(&bench, 3);
        assert_eq!(told["snapshot"].is_null(), run > 0, "{told}");
    }
    is_told_by_all(&bench, "INBOX.Old");
    // Mended, nothing lacks any more; what then breaks again leaves the older state, and that is told too.
    write_as_cyrus(&index, &good);
    bench.cylinder.backup_well("anna");
    bench.cylinder.is_sound("anna");
    write_as_cyrus(&index, &vec![0; good.len()]);
    backup(&bench, 3);
    is_told_by_all(&bench, "older state");
}

#[test]
fn a_user_whose_inbox_has_lost_its_entry_keeps_scripts_subscriptions_and_counters() {
    for version in [Version::V3_2, Version::V3_6] {
        let mut bench = bench(version);
        bench.lab.put_script("anna", "main", "keep;\r\n", true);
        bench.imap.subscribe("Old");
        bench.cylinder.backup_well("anna");
        let key = if version == Version::V3_2 { "user.anna" } else { "Nuser\x1fanna" };
        mailboxes(&bench, &["delete", key]);
        for run in 0..2 {
            let told = backup(&bench, 3);
            assert!(problems(&told).iter().any(|(kind, what)| kind == "folder" && what.contains("no entry")), "{told}");
            assert_eq!(told["snapshot"].is_null(), run > 0, "{version:?}: {told}");
        }
        let diff = bench.cylinder.read(&["diff", "anna", "1", "2"]);
        assert!(!String::from_utf8_lossy(&diff.stdout).contains("\n-"), "{diff:?}");
        assert_eq!(bench.cylinder.folder("anna", "INBOX").exists, 2, "the archive keeps what it had");
        // A script that changes now is saved.
        let dir = bench.cylinder.store().with_extension("scripts");
        let dir_shown = dir.display().to_string();
        let ran = restore(&bench, &["--all", "--dir", &dir_shown]);
        assert!(ran.exit == 3 && ran.stderr.contains("INBOX"), "{ran:?}");
        let names: Vec<_> =
            fs::read_dir(dir.join("user")).expect("a directory").map(|e| e.expect("a name").file_name()).collect();
        assert!(names.iter().any(|name| name.to_string_lossy().contains("main")), "{names:?}");
        fs::remove_dir_all(&dir).expect("what was restored");
    }
}

#[test]
fn a_message_that_was_damaged_on_the_server_is_offered_and_named_by_every_restore() {
    for content in [&b"From: x\r\n\r\ncut"[..], b"", &[0; 300]] {
        let mut bench = bench(Version::V3_6);
        write_as_cyrus(&message_dir(&bench, "INBOX.Old").join("1."), content);
        let told = backup(&bench, 3);
        assert!(matches!(&problems(&told)[..], [(kind, _)] if kind == "mismatch"), "{told}");
        is_told(&bench, "Old");
        assert_eq!(bench.cylinder.read(&["show", "anna", "INBOX.Old/1"]).stdout, content);
        let list = String::from_utf8(bench.cylinder.read(&["list", "anna", "INBOX.Old"]).stdout).expect("text");
        assert!(list.lines().next().is_some_and(|line| line.contains("OTHER CONTENT")), "{list}");
        for format in ["maildir", "mbox", "eml", "cyrus"] {
            let dir = bench.cylinder.store().with_extension(format);
            let ran = restore(&bench, &["INBOX.Old", "--format", format, "--dir", &dir.display().to_string()]);
            assert!(ran.exit == 3 && ran.stderr.contains("INBOX.Old/1: was damaged on the server"), "{format}: {ran:?}");
            assert!(format != "eml" || fs::read(dir.join("INBOX.Old/1.eml")).expect("it is there") == content, "{format}");
            fs::remove_dir_all(&dir).expect("what was restored");
            let ran = restore(&bench, &["INBOX", "--format", format, "--dir", &dir.display().to_string()]);
            assert_eq!(ran.exit, 0, "the other folder is as it was: {ran:?}");
            fs::remove_dir_all(&dir).expect("what was restored");
        }
        // What lay on the server is added once by all the merges, if the server takes it.
        assert!(subjects(&mut bench.imap, "Old") <= 3);
    }
}

#[test]
fn names_of_keywords_outlive_a_header_that_is_lost_on_the_server() {
    let mut bench = bench(Version::V3_6);
    bench.imap.create("New");
    append_many(&mut bench.imap, "New", 4, 5);
    for folder in ["Old", "New"] {
        bench.imap.store(folder, "1", "+FLAGS (Junk)");
    }
    bench.imap.unselect();
    let headers = ["INBOX.Old", "INBOX.New"].map(|folder| message_dir(&bench, folder).join("cyrus.header"));
    let good = headers.each_ref().map(|header| fs::read(header).expect("a header"));
    let damage = || {
        write_as_cyrus(&headers[0], &vec![0; good[0].len()]);
        fs::remove_file(&headers[1]).expect("a header");
    };
    // The first backup of all finds them so: what lacks is told.
    damage();
    for run in 0..2 {
        let told = backup(&bench, 3);
        assert_eq!(problems(&told).iter().filter(|(kind, _)| kind == "header").count(), 2, "run {run}: {told}");
    }
    is_told_by_all(&bench, "INBOX.New");
    // With the names in an earlier snapshot, nothing lacks; each run tells of the server.
    headers.iter().zip(&good).for_each(|(header, good)| write_as_cyrus(header, good));
    bench.cylinder.backup_well("anna");
    damage();
    for run in 0..2 {
        let told = backup(&bench, 3);
        let kept = problems(&told).iter().filter(|(_, what)| what.contains("earlier snapshot stands in its place")).count();
        assert_eq!(kept, 2, "run {run}: {told}");
    }
    for folder in ["INBOX.Old", "INBOX.New"] {
        let listed = bench.cylinder.messages("anna", folder, false);
        assert_eq!(listed[0].message.flags.iter().filter(|flag| *flag == "Junk").count(), 1, "{listed:?}");
        let dir = bench.cylinder.store().with_extension("out");
        let ran = restore(&bench, &[folder, "--dir", &dir.display().to_string()]);
        assert_eq!(ran.exit, 0, "{ran:?}");
        fs::remove_dir_all(&dir).expect("what was restored");
    }
}

#[test]
fn a_quota_file_that_cannot_be_read_is_told_and_the_last_good_one_is_kept() {
    let bench = bench(Version::V3_6);
    bench.lab.login("cyrus").set_quota("user/anna", "STORAGE 999");
    let quota = || {
        let dir = format!("{}/lib/quota", bench.lab.dir());
        let find = Command::new("find").arg(bench.lab.outside(&dir)).args(["-type", "f", "-name", "*anna*"]).output();
        Path::new(String::from_utf8(find.expect("find").stdout).expect("a path").trim()).to_owned()
    };
    let good = fs::read(quota()).expect("a quota file");
    for bad in [&b""[..], b"%(S (", b"nonsense\n"] {
        write_as_cyrus(&quota(), bad);
        for run in 0..2 {
            let told = backup(&bench, 3);
            assert!(matches!(&problems(&told)[..], [(kind, _)] if kind == "damaged"), "{bad:?}, run {run}: {told}");
        }
        is_told_by_all(&bench, "meta/quota/user.anna");
    }
    write_as_cyrus(&quota(), &good);
    bench.cylinder.backup_well("anna");
    write_as_cyrus(&quota(), b"");
    let told = backup(&bench, 3);
    assert!(problems(&told)[0].1.contains("keeps the last good one"), "{told}");
    let dir = bench.cylinder.store().with_extension("out");
    let ran = restore(&bench, &["--all", "--dir", &dir.display().to_string()]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(fs::read_to_string(dir.join("user/user.json")).expect("a side file").contains("999"));
    fs::remove_dir_all(&dir).expect("what was restored");
}
