//! `cylinder backup` on a real server: everything that can happen to a user between two runs is saved, once, and listed as IMAP
//! tells it.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_tests::cli::{Bench, append_many, message, shows, spool_dir};
use cylinder_tests::lab::Version;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

const FOLDERS: [&str; 4] = ["Sent", "Work", "Work/a.b", "Fix&AOk-"];

/// A user with five folders of three messages, already backed up.
fn bench() -> Bench {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 3);
    for (n, folder) in FOLDERS.into_iter().enumerate() {
        bench.imap.create(folder);
        append_many(&mut bench.imap, folder, 3 + 3 * n as u32, 6 + 3 * n as u32);
    }
    let news = bench.backup();
    assert_eq!((&news.told["messages_added"], &news.told["folders"]), (&15.into(), &5.into()), "{news:?}");
    bench
}

/// Asserts which entries a backup appended.
macro_rules! appended {
    ($news:expr, $($entry:expr),+ $(,)?) => { assert_eq!($news.entries, [$($entry),+], "{}", $news.told) };
}

#[test]
fn a_first_backup_has_every_byte_and_a_second_one_writes_nothing() {
    let mut bench = bench();
    for (name, archived) in [("INBOX", "INBOX"), ("Work/a.b", "INBOX.Work.a^b"), ("Fix&AOk-", "INBOX.Fix&AOk-")] {
        let below = if name == "INBOX" { String::new() } else { format!("/{name}") };
        let place = spool_dir(&bench.lab, &format!("user/anna{below}"));
        shows(&bench.cylinder, &mut bench.imap, "anna", name, archived, &place);
    }
    bench.cylinder.backup_nothing("anna");
    bench.cylinder.verify("anna");
}

#[test]
fn new_messages_are_appended_once_with_the_index_of_their_folders() {
    let mut bench = bench();
    for (n, folder) in ["INBOX"].into_iter().chain(FOLDERS).enumerate() {
        append_many(&mut bench.imap, folder, 100 + 10 * n as u32, 110 + 10 * n as u32);
    }
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 50);
    appended!(news, "50 files/*", "5 folders/*/cyrus.index", "meta/counters");
}

#[test]
fn a_message_that_comes_again_is_not_stored_again() {
    let mut bench = bench();
    append_many(&mut bench.imap, "Sent", 0, 3);
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 0);
    appended!(news, "folders/*/cyrus.index", "meta/counters");
}

#[test]
fn no_flag_change_is_missed_however_soon_it_comes_after_a_backup() {
    let mut bench = bench();
    for round in 0..50 {
        // The backup has ended this instant: the index is stamped within the second, and has its old size.
        let sign = if round % 2 == 0 { '+' } else { '-' };
        let uid = 1 + round / 2 % 3;
        bench.imap.ok("SELECT INBOX");
        bench.imap.ok(format!("UID STORE {uid} {sign}FLAGS (\\Flagged $Round)"));
        bench.cylinder.backup_well("anna");
        let archived = bench.cylinder.messages("anna", "INBOX", false);
        let archived: Vec<_> = archived.into_iter().map(|l| l.message).collect();
        assert_eq!(archived, bench.imap.fetch("INBOX"), "round {round}");
    }
    bench.backup();
}

#[test]
fn flags_that_change_while_backups_run_are_as_imap_has_them_in_the_end() {
    let mut bench = bench();
    let (mut other, stop, stores) = (bench.lab.login("anna"), AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            other.select("INBOX");
            while !stop.load(Ordering::Relaxed) {
                let n = stores.fetch_add(1, Ordering::Relaxed);
                let sign = if n.is_multiple_of(2) { '+' } else { '-' };
                other.ok(format!("UID STORE {} {sign}FLAGS (\\Answered)", 1 + n / 2 % 3));
            }
        });
        let mut backups = 0;
        while backups < 20 || stores.load(Ordering::Relaxed) < 20 {
            bench.cylinder.backup_well("anna");
            backups += 1;
        }
        stop.store(true, Ordering::Relaxed);
    });
    bench.backup();
}

#[test]
fn a_renamed_folder_takes_its_children_along_and_no_message_is_fetched() {
    let mut bench = bench();
    bench.imap.rename("Work", "Projects");
    let news = bench.backup();
    assert_eq!(
        (&news.told["messages_added"], &news.told["names_new"], &news.told["names_gone"]),
        (&0.into(), &2.into(), &2.into())
    );
    appended!(
        news,
        "2 folders/*/cyrus.header",
        "2 folders/*/cyrus.index",
        "imap/INBOX.Projects",
        "imap/INBOX.Projects.a^b",
        "imap/INBOX.Work",
        "imap/INBOX.Work.a^b",
        "meta/counters",
        "meta/mailboxes",
    );
}

#[test]
fn a_deleted_folder_is_kept_under_its_deleted_name_and_one_of_the_same_name_is_another() {
    let mut bench = bench();
    bench.imap.delete("Sent");
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 0);
    let deleted =
        bench.cylinder.folders("anna").into_iter().find(|f| f.name.starts_with("DELETED.Sent.")).expect("DELETED.Sent.*");
    assert_eq!(deleted.exists, 3);
    let link = format!("imap/{}", deleted.name);
    assert!(news.entries.contains(&link) && news.entries.contains(&"imap/INBOX.Sent".to_owned()), "{news:?}");

    bench.imap.create("Sent");
    append_many(&mut bench.imap, "Sent", 50, 51);
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 1);
    assert_eq!(bench.cylinder.folder("anna", "INBOX.Sent").exists, 1);
    assert_eq!(bench.cylinder.folder("anna", &deleted.name).exists, 3);

    // Both in one run: the name means another folder than last time. Cyrus puts the second into the names of deleted folders.
    std::thread::sleep(Duration::from_millis(1100));
    bench.imap.delete("Sent");
    bench.imap.create("Sent");
    append_many(&mut bench.imap, "Sent", 60, 62);
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 2);
    assert_eq!(bench.cylinder.folder("anna", "INBOX.Sent").exists, 2);
    let deleted = bench.cylinder.folders("anna").into_iter().filter(|f| f.name.starts_with("DELETED.Sent."));
    assert_eq!(deleted.map(|f| f.exists).sum::<u64>(), 4);
}

#[test]
fn a_copy_and_a_move_fetch_no_message() {
    let mut bench = bench();
    bench.imap.copy("INBOX", "1:2", "Work");
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 0);
    // Opening a folder for writing is a change, too: its messages are not recent any more.
    appended!(news, "2 folders/*/cyrus.index", "meta/counters");

    bench.imap.uid_move("INBOX", "3", "Sent");
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 0);
    appended!(news, "2 folders/*/cyrus.index", "meta/counters");
    assert_eq!(bench.cylinder.messages("anna", "INBOX.Sent", false).len(), 4);
    assert_eq!(bench.cylinder.folder("anna", "INBOX").expunged, 1);
}

#[test]
fn an_expunged_message_is_listed_on_demand_and_stays_after_the_server_has_unlinked_it() {
    let mut bench = bench();
    append_many(&mut bench.imap, "INBOX", 70, 72);
    // Saved for the first time when it is expunged already.
    bench.imap.expunge("INBOX", "2,5");
    bench.imap.unselect();
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 2);
    let all = bench.cylinder.messages("anna", "INBOX", true);
    let expunged: Vec<_> = all.iter().filter(|l| l.expunged).collect();
    assert_eq!(expunged.iter().map(|l| l.message.uid).collect::<Vec<_>>(), [2, 5]);
    assert!(expunged.iter().all(|l| l.stored));
    assert_eq!(bench.cylinder.show("anna", "INBOX/5"), message(71));

    let place = spool_dir(&bench.lab, "user/anna");
    assert!(place.join("5.").is_file());
    bench.lab.run("cyr_expire", &["-E", "1", "-X", "0", "-D", "0"]);
    assert!(!place.join("5.").exists(), "cyr_expire has not unlinked the file");
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 0);
    assert!(news.entries.contains(&"folders/*/cyrus.index".to_owned()), "{news:?}");
    assert_eq!(bench.cylinder.messages("anna", "INBOX", true).len(), 3);
    assert_eq!(bench.cylinder.show("anna", &expunged[1].guid), message(71));
}

#[test]
fn subscriptions_and_scripts_are_saved() {
    let mut bench = bench();
    bench.imap.subscribe("Work");
    let news = bench.backup();
    appended!(news, "meta/sub");

    // 3.6 keeps a script as a message of the mailbox `#sieve`, and its bytecode as a file.
    bench.lab.put_script("anna", "main", "require [\"fileinto\"];\r\nif true { fileinto \"Work\"; }\r\n", true);
    let news = bench.backup();
    appended!(
        news,
        "files/*",
        "folders/*/cyrus.annotations",
        "folders/*/cyrus.header",
        "folders/*/cyrus.index",
        "imap/INBOX.#sieve",
        "meta/counters",
        "meta/mailboxes",
        "sieve/defaultbc",
        "sieve/main.bc",
    );
    bench.lab.put_script("anna", "main", "keep;\r\n", true);
    let news = bench.backup();
    appended!(news, "files/*", "folders/*/cyrus.index", "meta/counters", "sieve/main.bc");
    bench.lab.put_script("anna", "other", "discard;\r\n", true);
    let news = bench.backup();
    appended!(news, "files/*", "folders/*/cyrus.index", "meta/counters", "sieve/defaultbc", "sieve/other.bc");
}

#[test]
fn rights_annotations_and_quotas_are_saved() {
    let mut bench = bench();
    bench.imap.set_acl("Work", "bob", "lrs");
    let news = bench.backup();
    appended!(news, "folders/*/cyrus.header", "folders/*/cyrus.index", "meta/counters", "meta/mailboxes");
    bench.imap.set_metadata("Work", "/private/comment", b"mine");
    let news = bench.backup();
    appended!(news, "folders/*/cyrus.index", "folders/*/cyrus.mailbox_annotations", "meta/counters", "meta/mailboxes");
    bench.imap.set_annotation("INBOX", "1", "/comment", "value.priv", "mine");
    bench.imap.unselect();
    let news = bench.backup();
    appended!(news, "folders/*/cyrus.annotations", "folders/*/cyrus.index", "meta/counters");
    bench.lab.login("cyrus").set_quota("user/anna", "STORAGE 1024");
    let news = bench.backup();
    appended!(news, "5 folders/*/cyrus.header", "5 folders/*/cyrus.index", "meta/counters", "meta/quota/user.anna");
    append_many(&mut bench.imap, "INBOX", 80, 81);
    let news = bench.backup();
    appended!(news, "files/*", "folders/*/cyrus.index", "meta/counters", "meta/quota/user.anna");
    // What is in Work counts there from now on.
    bench.lab.login("cyrus").set_quota("user/anna/Work", "STORAGE 512");
    let news = bench.backup();
    appended!(
        news,
        "2 folders/*/cyrus.header",
        "2 folders/*/cyrus.index",
        "meta/counters",
        "meta/quota/user.anna",
        "meta/quota/user.anna.Work"
    );
    append_many(&mut bench.imap, "Work", 81, 82);
    let news = bench.backup();
    appended!(news, "files/*", "folders/*/cyrus.index", "meta/counters", "meta/quota/user.anna.Work");
}

#[test]
fn what_another_user_has_seen_is_saved_with_that_user() {
    let mut bench = bench();
    bench.imap.set_acl("Work", "bob", "lrs");
    let mut bob = bench.lab.new_user("bob");
    bench.cylinder.backup_well("bob");
    bench.backup();
    let before = bench.cylinder.entries("bob").len();
    let shared = bob.list("*Work").into_iter().next().expect("Work of anna").name;
    bob.store(&shared, "1:2", "+FLAGS (\\Seen)");
    bob.logout();
    bench.cylinder.backup_well("bob");
    assert_eq!(bench.cylinder.entries("bob")[before..], ["meta/seen", "meta/folders", "meta/commit"]);
    // Anna's own flags are hers.
    bench.backup();
}
