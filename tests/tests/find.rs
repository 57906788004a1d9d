//! `find` and `list --deleted`: what somebody asks who has lost a message, and what the answer costs.

use cylinder_tests::proof::{Store, err, out, run_for};
use cylinder_tests::spool::Spool;
use serde_json::Value;
use std::fs;

fn mail(n: u32, from: &str, subject: &str, size: usize) -> Vec<u8> {
    let body = "text ".repeat(size / 5);
    format!(
        "From: {from}\r\nTo: <list@example.net>\r\nSubject: {subject}\r\nMessage-ID: <m{n}@example.org>\r\n\
        X-Ticket: {n:05}\r\n\r\n{body}\r\n"
    )
    .into_bytes()
}

/// Two users in one store: anna with messages of several sizes, bob with one.
struct Two {
    store: Store,
    anna: Spool,
}

impl Two {
    fn new() -> Two {
        let store = Store::new();
        let mut anna = Spool::create(&store.beside("anna"), "anna", 7).expect("a spool");
        anna.create_folder("INBOX.Old").expect("a folder");
        for n in 0..10 {
            anna.deliver("INBOX", &mail(n, "Carl <carl@example.org>", &format!("Offer {n}"), 1000 * n as usize)).expect("mail");
        }
        anna.deliver("INBOX.Old", &mail(10, "=?utf-8?q?J=C3=BCrgen?= <j@example.org>", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", 50))
            .expect("mail");
        anna.save().expect("a spool");
        let mut bob = Spool::create(&store.beside("bob"), "bob", 8).expect("a spool");
        bob.deliver("INBOX", &mail(20, "Carl <carl@example.org>", "Offer to Bob", 40)).expect("mail");
        bob.save().expect("a spool");
        let two = Two { store, anna };
        run_for(&mut two.store.backup(bob.root(), "bob"), 0);
        two.backup();
        two
    }

    fn backup(&self) {
        run_for(&mut self.store.backup(self.anna.root(), "anna"), 0);
    }

    /// The places, as `find` tells them as JSON.
    fn find(&self, words: &[&str]) -> Vec<String> {
        let output = run_for(&mut self.store.command(&[&["find", "--json"], words].concat()), 0);
        let place = |line: &str| {
            let hit: Value = serde_json::from_str(line).expect("JSON");
            format!("{} {}/{}", hit["user"].as_str().expect("a user"), hit["folder"].as_str().expect("a folder"), hit["uid"])
        };
        out(&output).lines().map(place).collect()
    }

    fn deleted(&self, words: &[&str]) -> Vec<Value> {
        let output = run_for(&mut self.store.command(&[&["list", "anna", "--deleted", "--json"], words].concat()), 0);
        out(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

#[test]
fn headers_are_searched_decoded_over_all_users() {
    let two = Two::new();
    assert_eq!(two.find(&["--all", "--subject", "OFFER to"]), ["bob INBOX/1"]);
    assert_eq!(two.find(&["--all", "--from", "carl@"]).len(), 11);
    assert_eq!(two.find(&["anna", "--from", "j\u{fc}rgen", "--subject", "gr\u{fc}\u{df}e"]), ["anna INBOX.Old/1"]);
    assert_eq!(two.find(&["--all", "--message-id", "m3@example.org"]), ["anna INBOX/4"]);
    assert_eq!(two.find(&["--all", "--message-id", "<m3@example.org>"]), ["anna INBOX/4"]);
    assert_eq!(two.find(&["--all", "--header", "x-ticket:00003"]), ["anna INBOX/4"]);
    assert_eq!(two.find(&["--all", "--to", "list@example.net", "--threads", "1"]).len(), 12);
    assert_eq!(two.find(&["--all", "--subject", "no such thing"]), [] as [&str; 0]);
}

#[test]
fn what_indexes_tell_is_found_without_a_look_at_messages() {
    let two = Two::new();
    assert_eq!(two.find(&["--all", "--larger", "8kB"]), ["anna INBOX/9", "anna INBOX/10"]);
    assert_eq!(two.find(&["bob", "anna", "--smaller", "250"]), ["bob INBOX/1", "anna INBOX/1", "anna INBOX.Old/1"]);
    assert_eq!(two.find(&["--all", "--before", "1980-01-01"]), [] as [&str; 0]);
    assert_eq!(two.find(&["--all", "--since", "1980-01-01"]).len(), 12);
    let list = out(&run_for(&mut two.store.command(&["list", "bob", "INBOX", "--json"]), 0));
    let guid = serde_json::from_str::<Value>(&list).expect("JSON")["guid"].as_str().expect("text").to_owned();
    assert_eq!(two.find(&["--all", "--guid", &guid]), ["bob INBOX/1"]);
    let text = out(&run_for(&mut two.store.command(&["find", "--all", "--larger", "8kB"]), 0));
    assert!(text.ends_with("2 messages found; 2 users, 12 index records and no header read\n"), "{text}");
    let text = out(&run_for(&mut two.store.command(&["find", "--all", "--larger", "8kB", "--subject", "offer 8"]), 0));
    assert!(
        text.ends_with("  Carl <carl@example.org>: Offer 8\n1 message found; 2 users, 12 index records and 2 headers read\n")
    );
}

#[test]
fn a_message_that_went_is_found_in_the_newest_snapshot_that_has_it() {
    let mut two = Two::new();
    two.anna.delete_folder("INBOX.Old").expect("a folder");
    two.anna.deliver("INBOX", &mail(30, "x@example.org", "New", 5)).expect("mail");
    two.anna.save().expect("a spool");
    two.backup();
    assert_eq!(two.find(&["anna", "--from", "j@example"]), [] as [&str; 0]);
    assert_eq!(two.find(&["anna", "--from", "j@example", "--ever"]), ["anna INBOX.Old/1"]);
    assert_eq!(two.find(&["anna", "--from", "j@example", "--at", "1"]), ["anna INBOX.Old/1"]);
    assert_eq!(two.find(&["anna", "--from", "carl", "--ever"]).len(), 10, "each once");
    let text = out(&run_for(&mut two.store.command(&["find", "anna", "--ever"]), 0));
    assert_eq!(text.lines().filter(|line| line.starts_with("anna       2  INBOX/")).count(), 11, "{text}");
    assert!(text.contains("\nanna       1  INBOX.Old/1  "), "{text}");
}

#[test]
fn what_was_lost_is_listed_with_the_time_until_which_it_can_be_had() {
    let mut two = Two::new();
    assert_eq!(two.deleted(&[]), [] as [Value; 0]);
    two.anna.delete_folder("INBOX.Old").expect("a folder");
    two.anna.save().expect("a spool");
    two.backup();
    let lost = two.deleted(&[]);
    let kinds: Vec<&str> = lost.iter().map(|lost| lost["deleted"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["folder", "message"]);
    assert_eq!((&lost[0]["name"], &lost[0]["snapshot"]), (&"INBOX.Old".into(), &1.into()));
    assert_eq!(
        (&lost[1]["folder"], &lost[1]["uid"], &lost[1]["from"]),
        (&"INBOX.Old".into(), &1.into(), &"J\u{fc}rgen <j@example.org>".into())
    );
    // A week after the second run, which the default retains.
    let log = out(&run_for(&mut two.store.command(&["log", "anna", "--json"]), 0));
    let second: Value = serde_json::from_str(log.lines().next().expect("a line")).expect("JSON");
    let day = |value: &Value| value.as_str().expect("a time").get(..10).expect("a date").to_owned();
    let date =
        std::process::Command::new("date").args(["-u", "-d", &format!("{} 7 days", day(&second["time"])), "+%F"]).output();
    assert_eq!(day(&lost[1]["until"]), out(&date.expect("date")).trim());
    assert_eq!(two.deleted(&["INBOX"]), [] as [Value; 0]);
    assert_eq!(two.deleted(&["INBOX.Old"]).len(), 2);
    fs::write(two.store.dir().join("retention"), "anna off\n").expect("a file");
    assert_eq!((&two.deleted(&[])[1]["until"], &two.deleted(&[])[1]["for_ever"]), (&Value::Null, &true.into()));
    let text = out(&run_for(&mut two.store.command(&["list", "anna", "--deleted"]), 0));
    assert!(text.starts_with("folder INBOX.Old: in snapshot 1, for ever\nINBOX.Old: 1 message\n"), "{text}");
}

/// Moved, and so not lost; nor is what is there twice.
#[test]
fn a_message_that_is_somewhere_else_now_is_not_lost() {
    let mut two = Two::new();
    let moved = mail(10, "=?utf-8?q?J=C3=BCrgen?= <j@example.org>", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", 50);
    two.anna.delete_folder("INBOX.Old").expect("a folder");
    two.anna.deliver("INBOX", &moved).expect("mail");
    two.anna.save().expect("a spool");
    two.backup();
    let lost = two.deleted(&[]);
    assert_eq!((lost.len(), &lost[0]["deleted"]), (1, &"folder".into()));
}

#[test]
fn one_archive_that_cannot_be_read_does_not_stop_the_search() {
    let two = Two::new();
    fs::write(two.store.archive("anna"), b"nothing of ours").expect("an archive");
    let output = run_for(&mut two.store.command(&["find", "--all", "--from", "carl"]), 3);
    assert!(out(&output).starts_with("bob       1  INBOX/1  "), "{}", out(&output));
    assert!(err(&output).contains("anna: "), "{}", err(&output));
}

#[test]
fn words_that_make_no_sense_are_told() {
    let store = Store::new();
    for words in [
        &["find"][..],
        &["find", "--all", "anna"],
        &["find", "anna", "--guid", "abc"],
        &["find", "anna", "--larger", "much"],
        &["find", "anna", "--since", "whenever"],
        &["find", "anna", "--header", "Subject"],
        &["find", "anna", "--ever", "--at", "1"],
        &["list", "anna", "--deleted", "--at", "1"],
    ] {
        run_for(&mut store.command(words), 2);
    }
}
