//! The commands that look after archives, as somebody types them: compact, hold, acknowledge.

use cylinder_tests::proof::{Store, err, out, run_for};
use cylinder_tests::spool::Spool;
use std::fs;

/// A store with an archive of three snapshots; a folder is gone since the first.
fn past() -> (Store, Spool) {
    let store = Store::new();
    let mut spool = Spool::create(&store.beside("root"), "anna", 5).expect("a spool");
    for folder in ["INBOX.Old", "INBOX.New"] {
        spool.create_folder(folder).expect("a folder");
        for n in 0..20 {
            spool
                .deliver(folder, format!("Subject: {folder} {n}\r\n\r\n{}\r\n", "text ".repeat(100 + n)).as_bytes())
                .expect("mail");
        }
    }
    spool.save().expect("a spool");
    backup(&store, &spool, 0);
    spool.delete_folder("INBOX.Old").expect("a folder");
    spool.save().expect("a spool");
    backup(&store, &spool, 0);
    spool.deliver("INBOX", b"Subject: x\r\n\r\nx\r\n").expect("mail");
    spool.save().expect("a spool");
    backup(&store, &spool, 0);
    (store, spool)
}

fn backup(store: &Store, spool: &Spool, code: i32) -> String {
    let output = run_for(&mut store.backup(spool.root(), "anna"), code);
    out(&output) + &err(&output)
}

fn compact(store: &Store, words: &[&str], code: i32) -> serde_json::Value {
    let output = run_for(&mut store.command(&[&["compact", "anna", "--json"], words].concat()), code);
    serde_json::from_str(&out(&output)).expect("one JSON object")
}

#[test]
fn by_default_nothing_goes_that_was_there_within_7_days() {
    let (store, _) = past();
    assert_eq!(compact(&store, &[], 0)["outcome"], "nothing");
    let would = compact(&store, &["--dry-run", "--keep-within", "0h"], 0);
    assert_eq!(
        (&would["outcome"], &would["snapshots_dropped"], &would["messages_dropped"]),
        (&"would".into(), &2.into(), &20.into())
    );
    let before = fs::read(store.archive("anna")).expect("an archive");
    assert_eq!(compact(&store, &["--if-needed", "--keep-within", "0h"], 0)["outcome"], "looked-at", "a backup has looked");
    assert_eq!(fs::read(store.archive("anna")).expect("an archive"), before);
    let lines = out(&run_for(&mut store.command(&["compact", "--all", "--dry-run"]), 0));
    assert_eq!(lines, "anna: nothing to drop\n");
}

#[test]
fn the_stores_file_says_what_is_retained_of_whom_and_options_go_before_it() {
    let (store, _) = past();
    fs::write(store.dir().join("retention"), "bob off\nann* keep-within 0h # nothing\n").expect("a file");
    let done = compact(&store, &[], 0);
    assert_eq!((&done["outcome"], &done["snapshots_dropped"]), (&"done".into(), &2.into()));
    assert_eq!(compact(&store, &["--keep-within", "4w"], 0)["outcome"], "nothing");
    assert!(out(&run_for(&mut store.command(&["verify"]), 0)).starts_with("anna: good: 21 messages, 1 snapshot"));
    assert!(out(&run_for(&mut store.command(&["log", "anna"]), 0)).starts_with("     3  "));
    fs::write(store.dir().join("retention"), "* keep 7\n").expect("a file");
    let told = err(&run_for(&mut store.command(&["compact", "anna"]), 1));
    assert!(told.contains("retention: line 1: `keep` is none of"), "{told}");
}

#[test]
fn a_hold_is_set_told_and_lifted() {
    let (store, _) = past();
    let hold = |words: &[&str]| out(&run_for(&mut store.command(&[&["hold", "anna"], words].concat()), 0));
    assert_eq!(hold(&[]), "anna: no hold\n");
    let on = hold(&["on"]);
    assert!(on.starts_with("anna: on hold since 2"), "{on}");
    assert_eq!(hold(&["on"]), on, "since the first time");
    let waits = compact(&store, &["--keep-within", "0h"], 0);
    assert_eq!((&waits["outcome"], &waits["waits_for"]), (&"waits".into(), &"hold".into()));
    assert_eq!(hold(&["off"]), "anna: no hold\n");
    assert_eq!(compact(&store, &["--keep-within", "0h"], 0)["outcome"], "done");
    run_for(&mut store.command(&["hold", "anna", "maybe"]), 2);
    run_for(&mut store.command(&["hold", "nobody", "on"]), 1);
}

#[test]
fn an_alarm_waits_for_somebody_and_the_exit_status_says_so() {
    let (store, mut spool) = past();
    spool.delete_folder("INBOX.New").expect("a folder");
    spool.save().expect("a spool");
    assert!(backup(&store, &spool, 3).contains("ALARM"));
    let waits = compact(&store, &["--keep-within", "0h"], 3);
    assert_eq!((&waits["outcome"], &waits["waits_for"]), (&"waits".into(), &"alarm".into()));
    let acknowledge = || out(&run_for(&mut store.command(&["acknowledge", "anna"]), 0));
    assert_eq!(acknowledge(), "anna: acknowledged: 1 of 21 messages were left\n");
    assert_eq!(acknowledge(), "anna: there is no alarm\n");
    assert_eq!(compact(&store, &["--keep-within", "0h"], 0)["messages_dropped"], 40);
    assert!(backup(&store, &spool, 0).starts_with("anna: unchanged, 1 message"));
}

#[test]
fn damage_is_told_and_nothing_is_dropped() {
    let (store, _) = past();
    let mut bytes = fs::read(store.archive("anna")).expect("an archive");
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    fs::write(store.archive("anna"), &bytes).expect("an archive");
    let waits = compact(&store, &["--keep-within", "0h"], 4);
    assert_eq!((&waits["outcome"], &waits["waits_for"]), (&"waits".into(), &"damage".into()));
    assert_eq!(fs::read(store.archive("anna")).expect("an archive"), bytes);
    assert!(!store.user_dir("anna").join("archive.tar.gz.new").exists());
}

/// What `backup` does by itself: a week later it looks.
#[test]
fn a_backup_compacts_when_it_is_time_unless_told_otherwise() {
    let (store, spool) = past();
    fs::write(store.dir().join("retention"), "* keep-within 0h\n").expect("a file");
    assert!(!backup(&store, &spool, 0).contains("dropped"), "somebody has looked");
    let checked = store.user_dir("anna").join("checked");
    run_for(std::process::Command::new("touch").args(["-d", "8 days ago"]).arg(&checked), 0);
    let mut without = store.backup(spool.root(), "anna");
    assert!(!out(&run_for(without.arg("--no-compact"), 0)).contains("dropped"));
    let told = backup(&store, &spool, 0);
    assert!(told.contains("anna: dropped 20 messages of 41, 2 snapshots of 3"), "{told}");
    assert!(out(&run_for(&mut store.command(&["verify"]), 0)).contains("21 messages, 1 snapshot"));
}

#[test]
fn words_that_make_no_sense_are_told() {
    let (store, _) = past();
    for words in [
        &["compact"][..],
        &["compact", "anna", "--all"],
        &["compact", "anna", "--keep-within", "7"],
        &["compact", "anna", "--now", "--if-needed"],
        &["acknowledge"],
    ] {
        run_for(&mut store.command(words), 2);
    }
    run_for(&mut store.command(&["compact", "nobody"]), 1);
}

#[test]
fn diff_tells_what_came_and_went_and_log_counts() {
    let (store, mut spool) = past();
    spool.rename_folder("INBOX.New", "INBOX.Newer").expect("a folder");
    spool.save().expect("a spool");
    backup(&store, &spool, 0);
    let diff = |words: &[&str]| out(&run_for(&mut store.command(&[&["diff", "anna"], words].concat()), 0));
    let all = diff(&["1"]);
    assert!(all.starts_with("> folder INBOX.New to INBOX.Newer\n- folder INBOX.Old\n+ INBOX/1  "), "{all}");
    assert_eq!(all.lines().filter(|line| line.starts_with("- INBOX.Old/")).count(), 20);
    assert!(all.ends_with("snapshots 1 to 4: 1 message came, 20 went, 2 other changes\n"), "{all}");
    assert_eq!(diff(&["3", "3"]), "snapshots 3 to 3: 0 messages came, 0 went, 0 other changes\n");
    let json = diff(&["1", "2", "--json"]);
    assert!(json.starts_with("{\"change\":\"folder-went\",\"folder\":\"INBOX.Old\"}\n"), "{json}");
    let log = out(&run_for(&mut store.command(&["log", "anna"]), 0));
    let ends: Vec<&str> = log.lines().map(|line| line.split("; ").last().unwrap_or_default()).collect();
    assert_eq!(
        ends,
        ["21 messages in 2 folders", "21 messages in 2 folders", "20 messages in 2 folders", "40 messages in 3 folders"]
    );
}

#[test]
fn an_anchor_is_found_again_after_a_compaction() {
    let (store, _) = past();
    let log = |words: &[&str], code| out(&run_for(&mut store.command(&[&["log", "anna"], words].concat()), code));
    let anchor = log(&["--anchor"], 0);
    let sha1 = anchor.trim().rsplit(' ').next().expect("a SHA-1").to_owned();
    assert!(anchor.starts_with("anna 3 2") && sha1.len() == 40, "{anchor}");
    assert!(log(&["--check", &sha1], 0).contains("is commit 3 of the chain"));
    assert_eq!(compact(&store, &["--keep-within", "0h"], 0)["outcome"], "done");
    assert!(log(&["--check", &sha1], 0).contains("was commit 3; the chain goes on from it"));
    assert!(log(&[], 0).contains(&format!("goes on from commit 3, {sha1}")));
    assert!(log(&["--check", "0123456789012345678901234567890123456789"], 3).contains("is not in the chain"));
    log(&["--check", "xyz"], 2);
}

#[test]
fn erase_tells_first_and_does_it_when_told() {
    let (store, spool) = past();
    let erase = |words: &[&str], code| out(&run_for(&mut store.command(&[&["erase", "anna"], words].concat()), code));
    erase(&[], 2);
    assert!(erase(&["--everything"], 0).starts_with("anna: would erase 3 files, "));
    let list = out(&run_for(&mut store.command(&["list", "anna", "INBOX", "--json"]), 0));
    let guid = serde_json::from_str::<serde_json::Value>(&list).expect("JSON")["guid"].as_str().expect("text").to_owned();
    assert!(erase(&["--guid", &guid], 0).contains("would erase 1 message"));
    assert!(erase(&["--guid", &guid, "--yes"], 0).starts_with("anna: erased 1 message from all snapshots"));
    assert!(out(&run_for(&mut store.command(&["list", "anna", "INBOX"]), 0)).contains("NOT STORED"));
    erase(&["--guid", &guid, "--yes"], 3);
    assert!(out(&run_for(&mut store.command(&["verify"]), 0)).contains("40 messages, 3 snapshots"));
    assert!(erase(&["--everything", "--yes"], 0).starts_with("anna: erased "));
    assert!(!store.user_dir("anna").exists());
    erase(&["--everything", "--yes"], 1);
    assert_eq!(fs::read_to_string(store.dir().join("erased")).expect("a record").lines().count(), 2);
    backup(&store, &spool, 0);
}

#[test]
fn verify_can_be_quick() {
    let (store, _) = past();
    let verify = |code| out(&run_for(&mut store.command(&["verify", "--quick", "anna"]), code));
    assert!(verify(0).starts_with("anna: good: 41 messages, 3 snapshots, "));
    let mut bytes = fs::read(store.archive("anna")).expect("an archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(store.archive("anna"), &bytes).expect("an archive");
    assert!(verify(4).starts_with("anna: DAMAGED: 1 finding\n  bytes "));
}
