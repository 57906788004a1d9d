//! `cylinder restore` into a real server by IMAP: a tree of its own, the original folders, flags alone. Nothing that is there
//! changes, and nothing comes twice.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_tests::cli::{Bench, Ran, Running, append_at_once, append_many, arrival, bodies, message, run, spool_dir};
use cylinder_tests::imap::{Imap, Message, Status};
use cylinder_tests::lab::Version;
use cylinder_tests::proof::binary;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
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
    append_at_once(&mut bench.imap, "INBOX", 0, 400);
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

/// What a client has done with its own messages: by number, the mailbox and the flags.
type Own = BTreeMap<u32, (String, Vec<String>)>;

/// A client that delivers, flags, files, expunges and renames until it is told to stop; `done` counts its deliveries.
fn busy(mut imap: Imap, stop: &AtomicBool, done: &AtomicU32) -> Own {
    let (mut own, mut names) = (Own::new(), [["Own", "Mine"], ["Work", "Filed"]]);
    imap.create("Own");
    for n in 10_000.. {
        if stop.load(Relaxed) {
            break;
        }
        let folders = ["INBOX".to_owned(), "Sent".to_owned(), names[0][0].to_owned()];
        let (folder, other) = (&folders[n as usize % 3], &folders[(n as usize + 1) % 3]);
        let uid = append_many(&mut imap, folder, n, n + 1)[0].to_string();
        own.insert(n, (folder.clone(), Vec::new()));
        match n % 5 {
            0 => {
                imap.store(folder, &uid, "+FLAGS (\\Seen $Label1)");
                own.insert(n, (folder.clone(), vec!["$Label1".to_owned(), "\\Seen".to_owned()]));
            }
            1 => {
                imap.expunge(folder, &uid);
                own.remove(&n);
            }
            2 => {
                imap.uid_move(folder, &uid, other);
                own.insert(n, (other.clone(), Vec::new()));
            }
            _ => {}
        }
        // An open mailbox cannot be renamed. There may be none.
        imap.command("UNSELECT");
        let turn = &mut names[n as usize % 2];
        // The restore may have made the other one anew, or be at work in this one.
        if n % 7 < 2 && imap.command(format!("RENAME {} {}", turn[0], turn[1])).status == Status::Ok {
            let moved = own.values_mut().filter(|(folder, _)| folder == turn[0]);
            moved.for_each(|(folder, _)| *folder = turn[1].to_owned());
            turn.swap(0, 1);
        }
        done.fetch_add(1, Relaxed);
    }
    imap.logout();
    own
}

/// The flags of each message of the user by its content, as often as it is there, but for restored trees; and by mailbox.
fn by_content(imap: &mut Imap) -> BTreeMap<Vec<u8>, Vec<(String, Vec<String>)>> {
    let mut all: BTreeMap<Vec<u8>, Vec<(String, Vec<String>)>> = BTreeMap::new();
    for name in imap.list("*").into_iter().map(|listed| listed.name).filter(|name| !name.starts_with("RESTORED")) {
        for (flags, _, body) in contents(imap, &name) {
            all.entry(body).or_default().push((name.clone(), flags));
        }
    }
    all
}

#[test]
fn fifty_killed_restores_lose_and_double_nothing_while_a_client_is_at_work() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    for (n, folder) in ["INBOX", "Sent", "Work", "Work/a.b"].into_iter().enumerate() {
        if folder != "INBOX" {
            bench.imap.create(folder);
        }
        append_at_once(&mut bench.imap, folder, 100 * n as u32, 100 * n as u32 + 100);
        bench.imap.store(folder, "1:50", "+FLAGS (\\Seen $Label1)");
        bench.imap.unselect();
    }
    bench.cylinder.backup_well("anna");
    for folder in ["INBOX", "Sent", "Work", "Work/a.b"] {
        bench.imap.expunge(folder, "21:80");
        // What the user has changed since must stay as it is.
        bench.imap.store(folder, "1:10", "-FLAGS (\\Seen)");
        bench.imap.unselect();
    }
    let before = by_content(&mut bench.imap);
    let (stop, done) = (AtomicBool::new(false), AtomicU32::new(0));
    let client = bench.lab.login("anna");
    let own = std::thread::scope(|scope| {
        let client = scope.spawn(|| busy(client, &stop, &done));
        // More of them where a client gets little done: the machine may have other things to do.
        for round in (0..1000).take_while(|&round| round < 50 || (done.load(Relaxed) < 50 && !client.is_finished())) {
            let words: &[&str] = if round % 2 == 0 { &["--all", "--merge"] } else { &["--all", "--tree", "cut"] };
            let mut child = restore_command(&bench, words).spawn().expect("it starts");
            std::thread::sleep(Duration::from_millis(20 + round * 7919 % 300));
            let _ = child.kill();
            let _ = child.wait();
        }
        stop.store(true, Relaxed);
        client.join().expect("a client")
    });
    restore_well(&bench, &["--all", "--merge"]);
    restore_well(&bench, &["--all", "--tree", "cut"]);
    let after = by_content(&mut bench.imap);
    for (content, places) in &after {
        assert_eq!(places.len(), 1, "twice: {places:?}\n{}", content.escape_ascii());
    }
    assert!(own.len() > 30, "the client did little: {}", own.len());
    for (n, place) in &own {
        assert_eq!(after.get(&message(*n)), Some(&vec![place.clone()]), "message {n} of the client");
    }
    assert_eq!(after.len(), 400 + own.len());
    for n in 0..400 {
        let flags = |places: &Vec<(String, Vec<String>)>| places[0].1.clone();
        let (was, is) = (before.get(&message(n)).map(flags), after.get(&message(n)).map(flags));
        assert!(is.is_some() && (was.is_none() || was == is), "message {n}: {was:?} {is:?}");
        let folder = ["INBOX", "Sent", "Work", "Work/a.b"][n as usize / 100];
        if n % 100 == 0 {
            let tree = contents(&mut bench.imap, &format!("RESTORED/cut/{folder}"));
            let expected: BTreeSet<Vec<u8>> = (n..n + 100).map(message).collect();
            assert_eq!((tree.len(), tree.into_iter().map(|(_, _, body)| body).collect()), (100, expected), "{folder}");
        }
    }
    for words in [["--all", "--merge", "--quiet"], ["--all", "--tree", "cut"]] {
        let told = restore_well(&bench, &words);
        assert_eq!(sum(&told, "added"), 0, "{told}");
    }
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
        append_at_once(&mut bench.imap, "INBOX", n, n + 500);
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

/// What a folder's report says of failures.
fn failures(told: &Value, target: &str) -> Vec<String> {
    let folders = told["folders"].as_array().expect("folders");
    let folder = folders.iter().find(|folder| folder["target"].as_str().is_some_and(|name| name.ends_with(target)));
    let folder = folder.unwrap_or_else(|| panic!("no folder {target}: {told}"));
    folder["failures"].as_array().expect("failures").iter().map(|failure| failure["why"].to_string()).collect()
}

#[test]
fn what_the_server_refuses_is_told_and_the_rest_comes_back() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    // In a tree, its name is longer than the server allows.
    let long = ["Long", &"n".repeat(120), &"n".repeat(120), &"n".repeat(120), &"n".repeat(105)].join("/");
    for (n, folder) in ["INBOX", "Work", &long].into_iter().enumerate() {
        if folder != "INBOX" {
            bench.imap.create(folder);
        }
        append_many(&mut bench.imap, folder, 10 * n as u32, 10 * n as u32 + 3);
    }
    // IMAP would not take the last of these as it is; they came by another way.
    let place = spool_dir(&bench.lab, "user/anna");
    for (uid, content) in [(4, &b"Subject: bare\r\n\r\none\ntwo\r\n"[..]), (5, b"Subject: \xFC\r\n\r\n\r\n")] {
        std::fs::write(place.join(format!("{uid}.")), content).expect("a message");
        run(Command::new("chown").arg("cyrus:mail").arg(place.join(format!("{uid}."))));
    }
    bench.lab.run("reconstruct", &["user/anna"]);
    bench.cylinder.backup_well("anna");
    let ran = restore(&bench, &["--all", "--tree", "t"]);
    let told = ran.json().remove(0);
    assert_eq!((ran.exit, sum(&told, "added"), sum(&told, "failed")), (3, 7, 5), "{ran:?}");
    let why = failures(&told, "t/INBOX");
    assert!(why[0].contains("the server stores it with other content"), "{why:?}");
    let why = failures(&told, &format!("/{}", "n".repeat(105)));
    assert!(why[0].contains("cannot be made: ") && why[1].contains("its folder could not be made"), "{why:?}");
    // Nothing may be put into this one.
    bench.imap.expunge("Work", "1");
    bench.imap.expunge("INBOX", "1");
    bench.imap.unselect();
    bench.lab.login("cyrus").set_acl("user/anna/Work", "anna", "lrs");
    let ran = restore(&bench, &["INBOX", "INBOX.Work", "--merge"]);
    let told = ran.json().remove(0);
    assert_eq!((ran.exit, sum(&told, "added"), sum(&told, "failed")), (3, 1, 1), "{ran:?}");
    let why = failures(&told, "Work");
    assert!(why[0].contains("may not insert into this folder (rights `lrs"), "{why:?}");
    assert_eq!((bench.imap.status("INBOX").messages, bench.imap.status("Work").messages), (5, 2));
}

#[test]
fn a_server_that_goes_away_is_told_and_the_next_run_goes_on() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_at_once(&mut bench.imap, "INBOX", 0, 1500);
    bench.cylinder.backup_well("anna");
    let mut gone = 0;
    for round in 0..4 {
        let mut running = Running::start(&mut restore_command(&bench, &["--all", "--tree", "cut"]));
        std::thread::sleep(Duration::from_millis(60 + 60 * round));
        let was_running = running.is_running();
        bench.lab.stop();
        let ran = running.end();
        if was_running && ran.exit != 0 {
            gone += 1;
            let told = ran.stderr.clone() + &String::from_utf8_lossy(&ran.stdout);
            assert!(matches!(ran.exit, 1 | 3) && told.contains("onnection"), "{ran:?}");
        }
        bench.lab.start_again(&[]);
    }
    assert!(gone > 0, "the server was never gone in the midst of it");
    restore_well(&bench, &["--all", "--tree", "cut"]);
    let mut imap = bench.lab.login("anna");
    let got: BTreeSet<Vec<u8>> = contents(&mut imap, "RESTORED/cut/INBOX").into_iter().map(|(_, _, body)| body).collect();
    assert_eq!((got.len(), imap.status("RESTORED/cut/INBOX").messages), (1500, 1500));
}

#[test]
fn a_wrong_password_is_a_refusal_that_names_who_and_where() {
    let mut bench = bench();
    bench.lab.stop();
    // Nothing answers there, so no password is right.
    bench.lab.start_again(&[("sasl_pwcheck_method", "saslauthd"), ("sasl_saslauthd_path", "{dir}/nobody")]);
    for how in ["--to-tree", "--merge", "--flags-only", "--exact"] {
        let ran = restore(&bench, &["--all", how]);
        assert_eq!(ran.exit, 1, "{how}: {ran:?}");
        assert!(ran.stderr.contains("cyrus") && ran.stderr.contains(bench.lab.host()), "{how}: {}", ran.stderr);
    }
}
