//! `cylinder restore --exact` into real servers: what the server says of a user, by IMAP and to a replication client, is the
//! same before the user is deleted and after the restore.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`; those that are ignored need the other releases, too.

use cylinder_tests::choose::{Choose, Sampler};
use cylinder_tests::cli::{Bench, Cylinder, Namespace, Ran, Running, agrees, append_many, bodies};
use cylinder_tests::csync::Csync;
use cylinder_tests::imap::Message;
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::binary;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::Duration;

const FOLDERS: [&str; 5] = ["Sent", "Work", "Work/a.b", "Work/a.b/deep", "Fix&AOk-"];

/// A user who has a bit of everything.
fn rich(version: Version, user: &str) -> Bench {
    let mut bench = Bench::of(Lab::start(version, &[]), user, cylinder_tests::cli::Namespace::DEFAULT);
    append_many(&mut bench.imap, "INBOX", 0, 8);
    for (n, folder) in FOLDERS.into_iter().enumerate() {
        bench.imap.create(folder);
        append_many(&mut bench.imap, folder, 10 + 4 * n as u32, 14 + 4 * n as u32);
    }
    bench.imap.store("INBOX", "1,3", "+FLAGS (\\Seen \\Flagged $Label1)");
    bench.imap.store("INBOX", "4", "+FLAGS (\\Answered \\Draft Custom-Flag)");
    bench.imap.copy("INBOX", "3", "Sent");
    bench.imap.expunge("INBOX", "5");
    bench.imap.expunge("Work", "2");
    bench.imap.unselect();
    bench.imap.subscribe("Work");
    bench.imap.subscribe("Fix&AOk-");
    bench.imap.set_metadata("Work", "/private/comment", b"mine (\"quoted\")");
    bench.imap.set_metadata("Work", "/shared/comment", b"ours\r\ntwo lines");
    bench.imap.set_metadata("Sent", "/private/specialuse", b"\\Sent");
    bench.imap.set_annotation("INBOX", "1", "/comment", "value.priv", "a note");
    bench.imap.unselect();
    bench.imap.set_acl("Work", "bob", "lrs");
    bench.lab.put_script(user, "main", "keep;\r\n", true);
    set_quota(&bench, user, "", "STORAGE 10240");
    bench
}

/// Limits a user, or one of the folders with what is below it.
fn set_quota(bench: &Bench, user: &str, folder: &str, limit: &str) {
    let (local, domain) = user.split_once('@').map_or((user, String::new()), |(local, domain)| (local, format!("@{domain}")));
    bench.lab.login("cyrus").set_quota(&format!("user/{local}{folder}{domain}"), limit);
}

fn internal(user: &str, external: &str) -> String {
    let (local, domain) = user.split_once('@').map_or((user, None), |(local, domain)| (local, Some(domain)));
    let inbox = format!("user.{}", local.replace('.', "^"));
    let inbox = domain.map_or(inbox.clone(), |domain| format!("{domain}!{inbox}"));
    if external == "INBOX" { inbox } else { format!("{inbox}.{}", external.replace('.', "^").replace('/', ".")) }
}

type Facts = BTreeMap<String, String>;

/// All that the server tells, as text.
fn facts(lab: &Lab, user: &str) -> Facts {
    let mut facts = Facts::new();
    let mut imap = lab.login(user);
    let folders: Vec<String> = imap.list("*").into_iter().map(|listed| listed.name).collect();
    facts.insert(String::from("folders"), folders.join("\n"));
    for folder in &folders {
        let messages: Vec<Message> = imap.fetch(folder);
        facts.insert(format!("{folder}: messages"), format!("{messages:?}"));
        facts.insert(format!("{folder}: status"), format!("{:?}", imap.status(folder)));
        facts.insert(format!("{folder}: bodies"), format!("{:?}", bodies(&mut imap, folder)));
        let quoted = format!("\"{folder}\"");
        let entries = "(/private/comment /shared/comment /private/specialuse)";
        let quota = format!("GETQUOTAROOT {quoted}");
        for command in [format!("GETACL {quoted}"), format!("GETMETADATA {quoted} {entries}"), quota] {
            facts.insert(format!("{folder}: {command}"), format!("{:?}", imap.ok(command).untagged));
        }
        imap.examine(folder);
        let items = "UID FETCH 1:* (UID MODSEQ ANNOTATION (/comment (value.priv value.shared)))";
        // Some releases tell in between that MODSEQ was asked for.
        let told: Vec<String> = imap.ok(items).untagged.iter().map(|response| format!("{response:?}")).collect();
        let told: Vec<&String> = told.iter().filter(|response| !response.starts_with("[OK")).collect();
        facts.insert(format!("{folder}: {items}"), format!("{told:?}"));
    }
    facts.insert(String::from("subscribed"), format!("{:?}", imap.subscribed().iter().map(|l| &l.name).collect::<Vec<_>>()));
    imap.logout();
    let mut csync = Csync::login(lab.host(), lab.port("sync"));
    for folder in &folders {
        let name = internal(user, folder);
        facts.insert(format!("{folder}: replica"), csync.ask(&format!("GET FULLMAILBOX {name}")));
    }
    // Compiled anew by the server when the script is made the active one, bytecode has the time of that.
    let meta = csync.ask(&format!("GET META {user}"));
    let meta: Vec<String> = meta.lines().map(|line| if line.contains(".bc ") { undated(line) } else { line.into() }).collect();
    facts.insert(String::from("meta"), meta.join("\n"));
    facts
}

/// A line without the time in it.
fn undated(line: &str) -> String {
    let (before, rest) = line.split_once("LAST_UPDATE ").unwrap_or((line, ""));
    before.to_owned() + rest.trim_start_matches(|c: char| c.is_ascii_digit())
}

fn delete_user(lab: &Lab, user: &str, for_ever: bool) {
    let mut admin = lab.login("cyrus");
    let (local, domain) = user.split_once('@').map_or((user, String::new()), |(local, domain)| (local, format!("@{domain}")));
    let top = format!("user/{local}{domain}");
    admin.ok(format!("SETACL \"{top}\" cyrus c"));
    admin.ok(format!("DELETE \"{top}\""));
    admin.logout();
    if for_ever {
        lab.run("cyr_expire", &["-E", "1", "-D", "0"]);
    }
}

fn restore_command(lab: &Lab, cylinder: &Cylinder, user: &str, service: &str, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let server = format!("tcp:{}:{}", lab.host(), lab.port(service));
    command.args(["restore", user, "--exact", "--login", "cyrus", "--password-env", "LAB_PASSWORD", "--json"]);
    command.args(["--server", &server]).args(words).arg("--store").arg(cylinder.store()).env("LAB_PASSWORD", "any");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn restore(lab: &Lab, cylinder: &Cylinder, user: &str, service: &str, words: &[&str]) -> Ran {
    Running::start(&mut restore_command(lab, cylinder, user, service, words)).end()
}

#[track_caller]
fn restore_well(lab: &Lab, cylinder: &Cylinder, user: &str, service: &str, words: &[&str]) -> Value {
    let ran = restore(lab, cylinder, user, service, words);
    assert_eq!(ran.exit, 0, "{ran:?}");
    ran.json().remove(0)
}

fn sum(told: &Value, key: &str) -> u64 {
    told["folders"].as_array().expect("folders").iter().filter_map(|folder| folder[key].as_u64()).sum()
}

/// Tells what differs, but for what may.
#[track_caller]
fn same(before: &Facts, after: &Facts, may_differ: &[&str]) {
    let names = before.keys().chain(after.keys()).collect::<BTreeSet<_>>();
    let mut found = Vec::new();
    for name in names.into_iter().filter(|name| !may_differ.iter().any(|part| name.contains(part))) {
        let (was, is) = (before.get(name), after.get(name));
        if was != is {
            found.push(format!("{name}\n  was {}\n  is  {}", was.map_or("", |s| s), is.map_or("", |s| s)));
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn comes_back(version: Version, user: &str, service: &str) {
    let bench = rich(version, user);
    set_quota(&bench, user, "/Work", "STORAGE 512");
    bench.cylinder.backup_well(user);
    let before = facts(&bench.lab, user);
    bench.cylinder.backup_nothing(user);
    delete_user(&bench.lab, user, true);
    let told = restore_well(&bench.lab, &bench.cylinder, user, service, &["--all"]);
    assert!(told["ended_early"].is_null() && sum(&told, "failed") == 0, "{told}");
    same(&before, &facts(&bench.lab, user), &[]);
    let again = restore_well(&bench.lab, &bench.cylinder, user, service, &["--all"]);
    assert_eq!((sum(&again, "added"), sum(&again, "present") > 0), (0, true), "{again}");
}

#[test]
fn a_user_comes_back_as_it_was_through_the_replication_server() {
    comes_back(Version::V3_6, "anna", "sync");
}

#[test]
fn a_user_whose_archive_was_imported_comes_back_and_every_way_ends_with_0() {
    let lab = Lab::start(Version::V3_6, &[]);
    let cylinder = Cylinder::new(&lab);
    let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/data/perl/alice/backupdata-1795457253.tar.gz");
    assert_eq!(cylinder.read(&["import", archive]).exit, 0);
    for service in ["sync", "imap"] {
        let told = restore_well(&lab, &cylinder, "alice", service, &["--all"]);
        assert!(told["ended_early"].is_null() && sum(&told, "failed") == 0, "{told}");
        let mut imap = lab.login("alice");
        agrees(&cylinder, &mut imap, "alice", Namespace::DEFAULT);
        let acl = format!("{:?}", imap.ok("GETACL INBOX").untagged);
        assert!(acl.contains("alice") && acl.contains("lrswipkxtecdan"), "the ACL of cyrus.header: {acl}");
        delete_user(&lab, "alice", true);
    }
    drop(lab.new_user("alice"));
    let server = format!("tcp:{}:{}", lab.host(), lab.port("imap"));
    for way in ["--to-tree", "--merge"] {
        let mut command = Command::new(binary());
        // INBOX has an annotation that IMAP does not take, which is a failure of its own.
        command.args(["restore", "alice", "--subtree", "Work", way, "--login", "cyrus", "--password-env", "LAB_PASSWORD"]);
        command.args(["--server", &server, "--store"]).arg(cylinder.store()).env("LAB_PASSWORD", "any");
        let ran = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end();
        assert_eq!(ran.exit, 0, "{ran:?}");
        assert!(ran.stderr.contains("the archive has no entries of mailboxes.db"), "{ran:?}");
    }
}

#[test]
fn a_user_comes_back_as_it_was_through_imap() {
    comes_back(Version::V3_6, "bob.smith@other.net", "imap");
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.2`"]
fn a_user_of_3_2_comes_back_as_it_was() {
    comes_back(Version::V3_2, "anna", "sync");
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.10`"]
fn a_user_of_3_10_comes_back_as_it_was() {
    comes_back(Version::V3_10, "anna", "sync");
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.12`"]
fn a_user_of_3_12_comes_back_as_it_was() {
    comes_back(Version::V3_12, "anna", "sync");
}

/// What one release has saved, another one takes: all that IMAP tells of the messages is the same there.
fn goes_into(from: Version, to: Version) {
    let bench = rich(from, "anna");
    set_quota(&bench, "anna", "/Work", "STORAGE 512");
    bench.cylinder.backup_well("anna");
    let before = facts(&bench.lab, "anna");
    let other = Lab::start(to, &[]);
    let told = restore_well(&other, &bench.cylinder, "anna", "sync", &["--all"]);
    assert_eq!(sum(&told, "failed"), 0, "{told}");
    same(&before, &facts(&other, "anna"), &["replica", "meta", "GETACL", "GETQUOTAROOT"]);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.2 3.10`"]
fn a_user_of_3_2_goes_into_3_10() {
    goes_into(Version::V3_2, Version::V3_10);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.12`"]
fn a_user_of_3_6_goes_into_3_12() {
    goes_into(Version::V3_6, Version::V3_12);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.12`"]
fn a_user_of_3_12_goes_into_3_6() {
    goes_into(Version::V3_12, Version::V3_6);
}

#[test]
fn what_is_there_is_left_alone_without_a_word_for_it() {
    let mut bench = rich(Version::V3_6, "anna");
    bench.cylinder.backup_well("anna");
    let first = bench.cylinder.read(&["log", "anna", "--json"]).json()[0]["snapshot"].to_string();
    append_many(&mut bench.imap, "Work", 500, 502);
    let before = facts(&bench.lab, "anna");
    let ran = restore(&bench.lab, &bench.cylinder, "anna", "sync", &["INBOX.Work"]);
    assert_eq!(ran.exit, 3, "{ran:?}");
    let why = ran.json()[0]["folders"][0]["failures"][0]["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("not as it was") && why.contains("--replace"), "{why}");
    same(&before, &facts(&bench.lab, "anna"), &[]);
    let root = bench.lab.root().display().to_string();
    let words = ["INBOX.Work", "--replace", "--root", &root, "--imapd-conf", bench.lab.conf(), "--at", &first];
    let ran = restore(&bench.lab, &bench.cylinder, "anna", "sync", &words);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert_eq!(bench.imap.status("Work").messages, 3);
    let log = bench.cylinder.read(&["log", "anna", "--json"]).json();
    assert!(log.len() >= 2, "what was replaced was not backed up: {log:?}");
}

#[test]
fn a_uniqueid_that_a_deleted_mailbox_has_is_a_clear_refusal_and_replace_takes_it() {
    let mut bench = rich(Version::V3_6, "anna");
    bench.cylinder.backup_well("anna");
    let before = facts(&bench.lab, "anna");
    bench.imap.delete("Work/a.b/deep");
    let ran = restore(&bench.lab, &bench.cylinder, "anna", "sync", &["INBOX.Work.a^b.deep"]);
    assert_eq!(ran.exit, 3, "{ran:?}");
    let why = ran.json()[0]["folders"][0]["failures"][0]["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("is in use by DELETED.user.anna.Work.a^b.deep."), "{why}");
    let words = ["INBOX.Work.a^b.deep", "--replace", "--no-backup"];
    restore_well(&bench.lab, &bench.cylinder, "anna", "sync", &words);
    same(&before, &facts(&bench.lab, "anna"), &["subscribed", "meta"]);
}

#[test]
fn a_restore_that_was_killed_goes_on_and_ends_as_it_should() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 1500);
    bench.cylinder.backup_well("anna");
    let before = bench.imap.fetch("INBOX");
    let status = bench.imap.status("INBOX");
    delete_user(&bench.lab, "anna", true);
    for round in 0..6 {
        let mut child = restore_command(&bench.lab, &bench.cylinder, "anna", "sync", &["INBOX"]).spawn().expect("it starts");
        std::thread::sleep(Duration::from_millis(60 + 80 * round));
        let _ = child.kill();
        let _ = child.wait();
    }
    std::thread::sleep(Duration::from_secs(1));
    restore_well(&bench.lab, &bench.cylinder, "anna", "sync", &["INBOX"]);
    let mut imap = bench.lab.login("anna");
    assert_eq!((imap.fetch("INBOX"), imap.status("INBOX")), (before, status));
}

/// One of the things that happen to a user.
fn live_on(bench: &mut Bench, chance: &mut Sampler, n: &mut u32) {
    let folders: Vec<String> = bench.imap.list("*").into_iter().map(|listed| listed.name).collect();
    let folder = &folders[chance.upto(folders.len() as u32 - 1) as usize];
    let uids: Vec<String> = bench.imap.fetch(folder).iter().map(|message| message.uid.to_string()).collect();
    let uid = (!uids.is_empty()).then(|| uids[chance.upto(uids.len() as u32 - 1) as usize].clone());
    *n += 1;
    let fresh = format!("F{n}");
    match (chance.upto(11), uid) {
        (0..=3, _) | (_, None) => drop(append_many(&mut bench.imap, folder, *n, *n + 1)),
        (4, Some(uid)) => bench.imap.store(folder, &uid, "+FLAGS (\\Seen $Label1)"),
        (5, Some(uid)) => bench.imap.store(folder, &uid, "-FLAGS (\\Seen)"),
        (6, Some(uid)) => bench.imap.expunge(folder, &uid),
        (7, Some(uid)) => bench.imap.uid_move(folder, &uid, "INBOX"),
        (8, _) if folder != "INBOX" => {
            bench.imap.command("UNSELECT");
            bench.imap.rename(folder, &fresh);
        }
        (9, _) if folder != "INBOX" => {
            bench.imap.command("UNSELECT");
            // One with a special use is refused.
            bench.imap.command(format!("DELETE \"{folder}\""));
        }
        (10, _) => bench.imap.subscribe(folder),
        _ => bench.imap.create(&fresh),
    }
    bench.imap.command("UNSELECT");
    if n.is_multiple_of(7) {
        bench.lab.put_script(&bench.user, "main", &format!("# {n}\r\nkeep;\r\n"), true);
        bench.imap.set_metadata("INBOX", "/private/comment", format!("comment {n}").as_bytes());
    }
}

/// Without XCONVMODSEQ: the server counts in it what happened to threads in other folders, too, in those also that are gone. It
/// makes it anew from what is there.
fn without_threads(mut facts: Facts) -> Facts {
    for value in facts.values_mut().filter(|value| value.contains("XCONVMODSEQ ")) {
        let (before, after) = value.split_once("XCONVMODSEQ ").unwrap_or_default();
        *value = before.to_owned() + after.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    facts
}

#[test]
fn each_of_thirty_snapshots_comes_back_as_the_server_was_then() {
    let mut bench = rich(Version::V3_6, "anna");
    let (mut chance, mut n) = (Sampler::new(30), 1000);
    let mut then = Vec::new();
    for _ in 0..30 {
        for _ in 0..4 {
            live_on(&mut bench, &mut chance, &mut n);
        }
        bench.cylinder.backup_well("anna");
        then.push(without_threads(facts(&bench.lab, "anna")));
    }
    let log = bench.cylinder.read(&["log", "anna", "--json"]).json();
    let mut snapshots: Vec<u64> = log.iter().filter_map(|line| line["snapshot"].as_u64()).collect();
    snapshots.sort_unstable();
    assert_eq!(snapshots.len(), then.len(), "{log:?}");
    assert!(then.iter().map(|facts| &facts["folders"]).collect::<BTreeSet<_>>().len() > 8, "too little happened to folders");
    for (snapshot, before) in snapshots.into_iter().zip(&then) {
        delete_user(&bench.lab, "anna", true);
        let at = snapshot.to_string();
        let told = restore_well(&bench.lab, &bench.cylinder, "anna", "sync", &["--all", "--at", &at]);
        assert!(told["ended_early"].is_null() && sum(&told, "failed") == 0, "{told}");
        same(before, &without_threads(facts(&bench.lab, "anna")), &[]);
    }
}
