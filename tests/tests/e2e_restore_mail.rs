//! `cylinder restore` into a real server by IMAP: a tree of its own, the original folders, flags alone. Nothing that is there
//! changes, and nothing comes twice.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_tests::cli::{Bench, Ran, Running, append_many, arrival, bodies, message};
use cylinder_tests::imap::{Imap, Message};
use cylinder_tests::lab::Version;
use cylinder_tests::proof::binary;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::time::Duration;

const FOLDERS: [&str; 4] = ["Sent", "Work", "Work/a.b", "Fix&AOk-"];

/// Anna with five folders of three messages, flags and keywords among them, backed up.
fn bench() -> Bench {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 3);
    for (n, folder) in FOLDERS.into_iter().enumerate() {
        bench.imap.create(folder);
        append_many(&mut bench.imap, folder, 3 + 3 * n as u32, 6 + 3 * n as u32);
    }
    bench.imap.store("INBOX", "1", "+FLAGS (\\Seen \\Flagged $Label1)");
    bench.imap.store("Work/a.b", "2:3", "+FLAGS (\\Answered Custom-Flag)");
    bench.imap.unselect();
    bench.cylinder.backup_well("anna");
    bench
}

fn restore_command(bench: &Bench, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let server = format!("tcp:{}:{}", bench.lab.host(), bench.lab.port("imap"));
    command.args(["restore", "anna", "--login", "cyrus", "--password-env", "LAB_PASSWORD", "--json", "--server", &server]);
    command.args(words).arg("--store").arg(bench.cylinder.store()).env("LAB_PASSWORD", "any");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn restore(bench: &Bench, words: &[&str]) -> Ran {
    Running::start(&mut restore_command(bench, words)).end()
}

#[track_caller]
fn restore_well(bench: &Bench, words: &[&str]) -> Value {
    let ran = restore(bench, words);
    assert_eq!(ran.exit, 0, "{ran:?}");
    ran.json().remove(0)
}

fn sum(told: &Value, key: &str) -> u64 {
    told["folders"].as_array().expect("folders").iter().filter_map(|folder| folder[key].as_u64()).sum()
}

/// What a folder has, without UIDs.
fn contents(imap: &mut Imap, mailbox: &str) -> Vec<(Vec<String>, i64, Vec<u8>)> {
    let mut bodies = bodies(imap, mailbox);
    let messages = imap.fetch(mailbox);
    let content = |m: Message| (m.flags, m.internal_date.secs(), bodies.remove(&m.uid).expect("a body"));
    messages.into_iter().map(content).collect()
}

/// Everything that IMAP tells of all folders.
fn everything(imap: &mut Imap) -> Vec<(String, u64, Vec<Message>)> {
    let names: Vec<String> = imap.list("*").into_iter().map(|listed| listed.name).collect();
    let mut all = Vec::new();
    for name in names.into_iter().filter(|name| !name.starts_with("RESTORED")) {
        let status = imap.status(&name);
        all.push((name.clone(), status.uidvalidity, imap.fetch(&name)));
    }
    all
}

fn tree(told: &Value) -> String {
    told["tree"].as_str().expect("a tree").to_owned()
}

#[test]
fn a_tree_has_every_message_as_it_was_and_a_second_run_adds_nothing() {
    let mut bench = bench();
    let before = everything(&mut bench.imap);
    let planned = restore_well(&bench, &["--all", "--dry-run"]);
    assert_eq!((sum(&planned, "added"), bench.imap.list("RESTORED*").len()), (15, 0), "{planned}");
    let told = restore_well(&bench, &["--all"]);
    assert_eq!((sum(&told, "added"), sum(&told, "failed")), (15, 0), "{told}");
    let tree = tree(&told);
    for folder in ["INBOX"].into_iter().chain(FOLDERS) {
        let (was, is) = (contents(&mut bench.imap, folder), contents(&mut bench.imap, &format!("{tree}/{folder}")));
        assert_eq!((was.len(), was), (3, is), "{folder}");
    }
    assert!(bench.imap.subscribed().iter().any(|listed| listed.name == format!("{tree}/Work/a.b")));
    let told = restore_well(&bench, &["--all"]);
    assert_eq!((sum(&told, "added"), sum(&told, "present")), (0, 15), "{told}");
    assert_eq!(everything(&mut bench.imap), before, "what was there has changed");
}

#[test]
fn a_restore_that_was_killed_goes_on_without_doubles() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 400);
    bench.cylinder.backup_well("anna");
    for round in 0..8 {
        let mut child = restore_command(&bench, &["--all", "--tree", "cut"]).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(20 + 35 * round));
        let _ = child.kill();
        let _ = child.wait();
    }
    // The last one's APPEND may still be at work on the server.
    std::thread::sleep(Duration::from_millis(500));
    restore_well(&bench, &["--all", "--tree", "cut"]);
    let got: Vec<Vec<u8>> = contents(&mut bench.imap, "RESTORED/cut/INBOX").into_iter().map(|(_, _, body)| body).collect();
    assert_eq!(got.len(), 400);
    assert_eq!(got.iter().collect::<BTreeSet<_>>().len(), 400, "a message came twice");
    assert_eq!(sum(&restore_well(&bench, &["--all", "--tree", "cut"]), "added"), 0);
}

#[test]
fn a_merge_adds_what_the_user_does_not_have_any_more_and_nothing_else() {
    let mut bench = bench();
    bench.imap.expunge("INBOX", "2");
    bench.imap.uid_move("Sent", "1", "Work");
    bench.imap.delete("Work/a.b");
    append_many(&mut bench.imap, "INBOX", 900, 903);
    bench.imap.store("INBOX", "1", "-FLAGS (\\Seen)");
    bench.imap.unselect();
    let before = everything(&mut bench.imap);
    let told = restore_well(&bench, &["--all", "--merge"]);
    assert_eq!((sum(&told, "added"), sum(&told, "elsewhere"), sum(&told, "failed")), (4, 1, 0), "{told}");
    let after = everything(&mut bench.imap);
    for (name, uidvalidity, messages) in &before {
        let (_, same, now) = after.iter().find(|(other, ..)| other == name).expect("the folder is still there");
        assert_eq!((same, &now[..messages.len()]), (uidvalidity, &messages[..]), "{name}: what was there has changed");
    }
    assert_eq!(contents(&mut bench.imap, "Work/a.b").len(), 3);
    assert_eq!(contents(&mut bench.imap, "INBOX").last().map(|(_, _, body)| body.clone()), Some(message(1)));
    let again = restore_well(&bench, &["--all", "--merge"]);
    assert_eq!(sum(&again, "added"), 0, "{again}");
}

#[test]
fn flags_come_back_to_five_thousand_messages_and_to_none_that_came_later() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    for n in (0..5000).step_by(500) {
        let part = |n: u32| {
            let body = message(n);
            let mut text = format!("() \"01-Mar-2022 08:00:01 +0000\" {{{}+}}\r\n", body.len()).into_bytes();
            text.extend_from_slice(&body);
            text
        };
        let parts: Vec<Vec<u8>> = (n..n + 500).map(part).collect();
        bench.imap.ok([b"APPEND INBOX ", &parts.join(&b' ')[..]].concat());
    }
    let odd = (1..=5000).step_by(2).map(|uid| uid.to_string()).collect::<Vec<_>>().join(",");
    bench.imap.store("INBOX", &odd, "+FLAGS.SILENT (\\Seen $Work)");
    bench.imap.unselect();
    bench.cylinder.backup_well("anna");
    let before = bench.imap.fetch("INBOX");
    append_many(&mut bench.imap, "INBOX", 6000, 6002);
    bench.imap.store("INBOX", "1:*", "+FLAGS.SILENT (\\Seen)");
    bench.imap.store("INBOX", "7", "-FLAGS.SILENT ($Work)");
    bench.imap.unselect();
    let planned = restore_well(&bench, &["INBOX", "--flags-only", "--dry-run"]);
    assert_eq!((sum(&planned, "changed"), sum(&planned, "present")), (2501, 5000), "{planned}");
    let told = restore_well(&bench, &["INBOX", "--flags-only"]);
    assert_eq!((sum(&told, "changed"), sum(&told, "failed")), (2501, 0), "{told}");
    let after = bench.imap.fetch("INBOX");
    assert_eq!(after[..5000], before[..]);
    assert!(after[5000..].iter().all(|message| message.flags == ["\\Seen"]), "a message that came later was touched");
    let again = restore_well(&bench, &["INBOX", "--flags-only"]);
    assert_eq!(sum(&again, "changed"), 0);
}

#[test]
fn without_room_nothing_is_done_unless_it_is_wished() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    let big = [&message(1)[..], &b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n".repeat(3000)].concat();
    let flags: [&str; 0] = [];
    bench.imap.append("INBOX", &flags, arrival(0), &big);
    append_many(&mut bench.imap, "INBOX", 1, 4);
    bench.cylinder.backup_well("anna");
    bench.lab.login("cyrus").set_quota("user/anna", "STORAGE 250");
    let ran = restore(&bench, &["--all"]);
    assert!(ran.exit == 1 && ran.stderr.contains("no room: "), "{ran:?}");
    assert!(bench.imap.list("RESTORED*").is_empty());
    let ran = restore(&bench, &["--all", "--over-quota", "warn"]);
    assert_eq!(ran.exit, 3, "{ran:?}");
    let told = ran.json().remove(0);
    assert_eq!((sum(&told, "added"), sum(&told, "failed")), (3, 1), "{told}");
    assert!(told["folders"][0]["failures"][0]["why"].as_str().is_some_and(|why| why.contains("Over quota")), "{told}");
    let before = bench.imap.ok("GETQUOTAROOT INBOX").untagged;
    let told = restore_well(&bench, &["--all", "--over-quota", "lift"]);
    assert_eq!((sum(&told, "added"), sum(&told, "present")), (1, 3), "{told}");
    let limit = |values: &[Vec<cylinder_tests::imap::Value>]| format!("{:?}", values.last()).contains("250");
    assert!(limit(&before) && limit(&bench.imap.ok("GETQUOTAROOT INBOX").untagged), "the limit was not put back");
}

#[test]
fn trees_go_when_their_time_has_come_and_nobody_has_used_them() {
    let mut bench = bench();
    restore_well(&bench, &["--all", "--tree", "old", "--expire", "0h"]);
    restore_well(&bench, &["--all", "--tree", "new", "--expire", "7d"]);
    restore_well(&bench, &["--all", "--tree", "kept"]);
    append_many(&mut bench.imap, "RESTORED/old/Work", 800, 801);
    let planned = restore_well(&bench, &["--cleanup", "--dry-run"]);
    assert_eq!(sum(&planned, "changed"), 4, "{planned}");
    let told = restore_well(&bench, &["--cleanup"]);
    assert_eq!(sum(&told, "changed"), 4, "{told}");
    let left: Vec<String> = bench.imap.list("RESTORED/*").into_iter().map(|listed| listed.name).collect();
    let old: Vec<&String> = left.iter().filter(|name| name.starts_with("RESTORED/old/")).collect();
    assert_eq!(old, ["RESTORED/old/Work"]);
    assert_eq!(left.iter().filter(|name| name.starts_with("RESTORED/new/") || name.starts_with("RESTORED/kept/")).count(), 10);
}
