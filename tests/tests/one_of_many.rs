//! A command over several users: what is wrong with one of them stops no other.

use cylinder_tests::proof::{Store, err, out, run_for};
use cylinder_tests::spool::Spool;
use std::process::Output;

/// A userid that no file name takes.
fn long() -> String {
    "x".repeat(260)
}

fn spools(store: &Store, users: &[&str]) -> Vec<Spool> {
    let make = |(n, user): (usize, &&str)| {
        let mut spool = Spool::create(&store.beside("root"), user, n as u64).expect("a spool");
        spool.deliver("INBOX", format!("Subject: {n}\r\n\r\ntext\r\n").as_bytes()).expect("a message");
        spool
    };
    users.iter().enumerate().map(make).collect()
}

fn backup(store: &Store, code: i32) -> Output {
    let mut command = store.command(&["backup", "--all", "--offline", "--imapd-conf", "/etc/imapd.conf", "--json", "--root"]);
    run_for(command.arg(store.beside("root")), code)
}

#[test]
fn whoever_can_have_no_archive_stops_no_other() {
    let (store, long) = (Store::new(), long());
    let mut spools = spools(&store, &["anna", "bob", &long]);
    Spool::save_together(&mut spools).expect("mailboxes.db");
    let ran = backup(&store, 3);
    assert!(out(&ran).contains("the limit is 1 to 255") && out(&ran).contains("\"user\":\"bob\""), "{}", out(&ran));

    // Anna is gone: whether somebody new is she under another name is asked of everybody without an archive.
    spools.remove(0);
    spools[0].deliver("INBOX", b"Subject: more\r\n\r\ntext\r\n").expect("a message");
    Spool::save_together(&mut spools).expect("mailboxes.db");
    let ran = backup(&store, 3);
    let told: Vec<serde_json::Value> = out(&ran).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let bob = told.iter().find(|line| line["user"] == "bob").unwrap_or_else(|| panic!("{}", out(&ran)));
    assert_eq!((bob["messages_added"].as_u64(), bob["exit"].as_u64()), (Some(1), Some(0)), "{bob}");
    assert_eq!(told.last().map(|sum| sum["sources_lost"].clone()), Some(0.into()), "{}", out(&ran));
    run_for(&mut store.command(&["acknowledge", "--all"]), 0);

    for (words, said) in [
        (&["verify", "anna", &long, "bob"][..], "bob: good: 2 messages"),
        (&["compact", "--now", "anna", &long, "bob"], "bob: nothing to drop"),
        (&["repair", "anna", &long, "bob"], "bob: nothing is wrong"),
        (&["acknowledge", "anna", &long, "bob"], "bob: there is no alarm"),
        (&["find", "anna", &long, "bob"], "3 messages found; 3 users"),
    ] {
        let ran = run_for(&mut store.command(words), 3);
        assert!(
            out(&ran).contains(said) && err(&ran).contains("the limit is 1 to 255"),
            "{words:?}: {}{}",
            out(&ran),
            err(&ran)
        );
    }
}

#[test]
fn an_archive_that_cannot_be_opened_stops_no_other() {
    let store = Store::new();
    let mut spools = spools(&store, &["anna", "bob"]);
    Spool::save_together(&mut spools).expect("mailboxes.db");
    backup(&store, 0);
    std::fs::write(store.archive("anna"), b"no archive").expect("written");
    for (words, code, said) in [
        (&["verify", "--all"][..], 4, "bob: good: 1 message"),
        (&["compact", "--all", "--now"], 4, "bob: nothing to drop"),
        (&["acknowledge", "--all"], 4, ""),
        (&["find", "--all"], 3, "1 message found; 2 users"),
        (&["users"], 0, "anna\nbob"),
    ] {
        let ran = run_for(&mut store.command(words), code);
        assert!(out(&ran).contains(said), "{words:?}: {}{}", out(&ran), err(&ran));
        assert!(words[0] == "users" || err(&ran).contains("anna: "), "{words:?}: {}", err(&ran));
    }
}
