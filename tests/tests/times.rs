//! Times that people read and type: what is printed names the same moment when it is given back.

use cylinder_tests::proof::{Store, err, out, run_for};
use cylinder_tests::spool::Spool;
use std::process::Command;

/// Zones east and west of UTC, one that is no multiple of an hour, and none.
const ZONES: [&str; 4] = ["EST5EDT,M3.2.0,M11.1.0", "<+0530>-5:30", "<+13>-13", "UTC0"];

/// A store with four snapshots of one user, made within two seconds.
fn store() -> Store {
    let store = Store::new();
    let mut spool = Spool::create(&store.beside("root"), "anna", 1).expect("a spool");
    for n in 0..4 {
        spool.deliver("INBOX", format!("Subject: {n}\r\n\r\n").as_bytes()).expect("a message");
        spool.save().expect("an index");
        run_for(&mut store.backup(spool.root(), "anna"), 0);
    }
    store
}

/// `list` as of a time, in a time zone.
fn list(store: &Store, zone: &str, at: &str) -> Command {
    let mut command = store.command(&["list", "anna", "--at", at]);
    command.env("TZ", zone);
    command
}

#[test]
fn what_log_prints_is_read_back_as_the_same_snapshot_in_every_zone() {
    let store = store();
    for zone in ZONES {
        let log = out(&run_for(store.command(&["log", "anna"]).env("TZ", zone), 0));
        let json = out(&run_for(store.command(&["log", "anna", "--json"]).env("TZ", zone), 0));
        let printed = log.lines().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            (words[0].to_owned(), format!("{} {}", words[1], words[2]))
        });
        let told = json.lines().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
            (line["snapshot"].to_string(), line["time"].as_str().expect("a time").to_owned())
        });
        let all: Vec<(String, String)> = printed.chain(told).collect();
        assert_eq!(all.len(), 8, "{log}{json}");
        for (number, time) in all {
            let listed = run_for(&mut list(&store, zone, &time), 0);
            assert!(out(&listed).starts_with(&format!("snapshot {number} of ")), "{zone}, {time}: {}", out(&listed));
            assert_eq!(err(&listed), "", "nothing depends on the zone");
        }
    }
}

#[test]
fn a_time_without_an_offset_is_told_as_it_was_read() {
    let store = store();
    let listed = run_for(&mut list(&store, ZONES[1], "2035-01-31 12:00"), 0);
    assert_eq!(
        err(&listed),
        "cylinder: `2035-01-31 12:00` is read as 2035-01-31 12:00:00+05:30 (the time zone of this host)\n"
    );
    for at in ["now", "2035-01-31 12:00Z", "4"] {
        let listed = run_for(&mut list(&store, ZONES[0], at), 0);
        assert!(out(&listed).starts_with("snapshot 4 of ") && err(&listed).is_empty(), "{at}: {listed:?}");
    }
    for at in ["7d", "yesterday 12:00", "last week"] {
        let error = err(&run_for(&mut list(&store, ZONES[0], at), 1));
        assert!(error.contains(&format!("`{at}` is read as ")) && error.contains("there is no snapshot as old as"), "{error}");
    }
    let unknown = err(&run_for(&mut list(&store, "Nowhere/Atall", "2035-01-31 12:00"), 0));
    assert!(unknown.contains("12:00:00+00:00 (UTC, since the time zone of this host cannot be read"), "{unknown}");
}
