//! `verify`: that it knows what an archive lacks, and not only what is wrong with what it has; how much it reads, and when it
//! stops.

use cylinder_core::archive::member::{FOOTER_LEN, Kind, parse_header};
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::stream::Sample;
use cylinder_core::archive::verify::{Verdict, sample};
use cylinder_core::complete::complete;
use cylinder_core::error::Error;
use cylinder_core::io::Io;
use cylinder_tests::drive::drive;
use cylinder_tests::life::{Life, archive, dir};
use cylinder_tests::proof::{Store, out, run_for};
use cylinder_tests::spool::Spool;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;

/// A store with an archive of each of these users.
fn store(users: &[&str]) -> Store {
    let store = Store::new();
    for (n, user) in users.iter().enumerate() {
        let mut spool = Spool::create(&store.beside(user), user, n as u64).expect("a spool");
        spool.create_folder("INBOX.Sent").expect("a folder");
        for n in 0..5 {
            spool.deliver("INBOX", format!("Subject: {user} {n}\r\n\r\ntext\r\n").as_bytes()).expect("mail");
            spool.deliver("INBOX.Sent", format!("Subject: {n} of {user}\r\n\r\ntext\r\n").as_bytes()).expect("mail");
        }
        spool.save().expect("a spool");
        run_for(&mut store.backup(spool.root(), user), 0);
    }
    store
}

fn verify(store: &Store, words: &[&str], code: i32) -> String {
    out(&run_for(&mut store.command(&[&["verify"], words].concat()), code))
}

fn json(store: &Store, words: &[&str], code: i32) -> Value {
    serde_json::from_str(&verify(store, &[words, &["--json"]].concat(), code)).expect("one JSON object")
}

/// The bytes of the members of this kind.
fn members(bytes: &[u8], kind: Kind) -> Vec<Range<usize>> {
    let (mut at, mut found) = (0, Vec::new());
    while at < bytes.len() - FOOTER_LEN {
        let info = parse_header(&bytes[at..]).expect("a member");
        if info.kind == kind {
            found.push(at..at + info.len as usize);
        }
        at += info.len as usize;
    }
    found
}

fn spoil(store: &Store, user: &str, kind: Kind) {
    let mut bytes = fs::read(store.archive(user)).expect("an archive");
    let member = members(&bytes, kind).pop().expect("a member");
    bytes[member.start + member.len() / 2] ^= 1;
    fs::write(store.archive(user), bytes).expect("an archive");
}

/// Every member is good and the chain is whole: only the index knows of a message that is not there.
#[test]
fn a_message_that_an_index_names_and_no_list_is_missed() {
    let store = store(&["anna"]);
    let list = out(&run_for(&mut store.command(&["list", "anna", "INBOX", "--json"]), 0));
    let first: Value = serde_json::from_str(list.lines().next().expect("a message")).expect("JSON");
    let guid = first["guid"].as_str().expect("a SHA-1").to_owned();
    run_for(&mut store.command(&["erase", "anna", "--guid", &guid, "--yes"]), 0);
    assert!(verify(&store, &[], 0).starts_with("anna: good: 9 messages, 1 snapshot"), "what was erased is no loss");
    fs::remove_file(store.dir().join("erased")).expect("a record");
    let text = verify(&store, &["anna"], 4);
    assert!(text.starts_with(&format!("anna: DAMAGED: 1 finding\n  lost: INBOX/1 of snapshot 1: {guid}\n  means: ")), "{text}");
    assert!(text.contains("\n  next: keep a copy of this archive; "), "{text}");
    let told = json(&store, &["anna"], 4);
    assert_eq!((&told["good"], &told["findings_count"], &told["snapshots_incomplete"]), (&false.into(), &0.into(), &1.into()));
    let lost = &told["lost"][0];
    assert_eq!((&lost["folder"], &lost["uid"], &lost["guid"]), (&"INBOX".into(), &1.into(), &guid.into()));
    assert!(told["means"].as_str().is_some_and(|means| means.starts_with("1 of 1 snapshot incomplete: 1 message ")), "{told}");
}

#[test]
fn a_lost_message_is_told_with_its_bytes_and_its_place() {
    let store = store(&["anna"]);
    spoil(&store, "anna", Kind::Data);
    let told = json(&store, &[], 4);
    let lost = told["lost"].as_array().expect("a list");
    assert!(!lost.is_empty() && lost.iter().all(|lost| lost["from"].is_u64() && lost["uid"].is_u64()), "{told}");
    let text = verify(&store, &[], 4);
    assert!(text.contains(": lost: INBOX") && text.contains("\n  next: `cylinder repair anna`, "), "{text}");
    assert!(verify(&store, &["--quick"], 4).contains("`cylinder verify anna` tells what is lost"));
}

#[test]
fn a_folder_that_cannot_be_read_is_told_with_its_snapshot() {
    let store = store(&["anna"]);
    spoil(&store, "anna", Kind::Meta);
    let told = json(&store, &[], 4);
    assert_eq!((&told["broken"][0]["snapshot"], told["broken"][0]["folder"].is_string()), (&1.into(), true), "{told}");
    assert!(verify(&store, &[], 4).contains("\n  snapshot 1, INBOX"));
}

#[test]
fn a_check_that_is_out_of_time_goes_on_next_time() {
    let store = store(&["anna", "bob", "carl"]);
    let checked = |words: &[&str]| {
        let text = verify(&store, words, 0);
        text.lines().map(|line| line.split(':').next().expect("a word").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(checked(&["--max-time", "0s"])[0], "anna");
    assert_eq!(checked(&["--max-time", "0s", "--all"])[0], "bob");
    let text = verify(&store, &["--max-time", "0s", "--quick"], 0);
    assert!(text.starts_with("carl: good: ") && text.ends_with("2 left, anna is next\n"), "{text}");
    assert_eq!(checked(&["--max-time", "1h"]), ["anna", "bob", "carl"]);
    assert!(!store.dir().join("verify-next").exists());
    // Whoever was next is gone.
    checked(&["--max-time", "0s"]);
    fs::remove_dir_all(store.user_dir("bob")).expect("a directory");
    assert_eq!(checked(&["--max-time", "0s"])[0], "carl");
    // What it says may be lost.
    fs::write(store.dir().join("verify-next"), b"").expect("a file");
    assert_eq!(checked(&[]), ["anna", "carl"]);
    assert_eq!(checked(&["--max-time", "0s"])[0], "anna");
}

#[test]
fn words_that_make_no_sense_are_told() {
    let store = store(&["anna"]);
    for words in [
        &["--quick", "--full"][..],
        &["--quick", "--sample", "5%"],
        &["--sample", "0"],
        &["--max-time", "2 hours"],
        &["--max-time", "2h", "anna"],
        &["--all", "anna"],
    ] {
        verify(&store, words, 2);
    }
    for words in [&["--full"][..], &["--sample", "5%"], &["--all", "--sample", "100%"]] {
        assert!(verify(&store, words, 0).starts_with("anna: good: "));
    }
}

/// A run of `verify` for a part of the messages, and how many messages are missed.
fn looked(life: &mut Life, share: u32) -> (Verdict, u64) {
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &dir()).await?;
        let verdict = sample(&io, &reader, 3, Sample { share, salt: 7 }).await?;
        let whole = complete(&reader, &verdict.present, &BTreeSet::new()).await?;
        reader.close().await;
        Ok::<_, Error>((verdict, whole.absent_count))
    };
    drive(&mut life.disk, procedure).finished().expect("a verdict")
}

/// Damage is found in what is drawn, and only there; what is not drawn is not missed.
#[test]
fn a_sample_reads_some_of_the_messages_and_all_of_the_rest() {
    let mut life = Life::new();
    for n in 0..20u8 {
        // Each in a member of its own; some go on in a second one.
        let body = (0..100_000 + 60_000 * u32::from(n)).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8);
        life.host.folder("user.anna").deliver(&[&b"Subject: x\r\n\r\n"[..], &body.collect::<Vec<u8>>()[..]].concat());
    }
    life.backup();
    let all = looked(&mut life, 10_000);
    assert!(all.0.is_good() && all.1 == 0 && all.0.messages == 20);
    let none = looked(&mut life, 0);
    assert!(none.0.is_good() && none.1 == 0 && none.0.messages == 0, "{:?}", none.0.findings);
    let some = looked(&mut life, 3000);
    assert!(some.0.is_good() && some.1 == 0 && (2..=15).contains(&some.0.messages), "{}", some.0.messages);
    assert_eq!(all.0.present, some.0.present);
    let bytes = life.disk.content(&archive()).expect("an archive").to_vec();
    let mut found = 0;
    for member in members(&bytes, Kind::Data) {
        let mut bad = bytes.clone();
        bad[member.start + member.len() / 2] ^= 1;
        let mut life = Life { disk: life.disk.clone(), host: life.host.clone() };
        life.disk.change_file(&archive(), bad);
        assert!(looked(&mut life, 0).0.is_good());
        let (verdict, absent) = looked(&mut life, 3000);
        assert_eq!(verdict.is_good(), absent == 0);
        found += u64::from(absent > 0);
    }
    assert!(found > 0 && found < 20, "{found}");
}
