//! `cylinder restore` by IMAP into real servers that do not take everything, or not as it is: limits of size, rights, keywords
//! and quotas, content that is rewritten, names that are not allowed any more. What cannot be put there is known beforehand
//! where it can be, is named, and stops nothing else.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.2 3.6`.

use cylinder_core::crc32::crc32;
use cylinder_tests::cli::{Bench, append_many, arrival, message, run, spool_dir};
use cylinder_tests::deliver::{contents, failures, restore, restore_for, sum, sums};
use cylinder_tests::imap::Imap;
use cylinder_tests::lab::{Lab, Version};
use std::process::Command;

const NONE: [&str; 0] = [];

/// Anna on a server of this version, and another server, where anna has an empty INBOX.
fn two(version: Version, options: &[(&str, &str)]) -> (Bench, Lab) {
    let target = Lab::start(Version::V3_6, options);
    drop(target.new_user("anna"));
    (Bench::start(version, &[]), target)
}

/// A message of this size that is like no other.
fn sized(n: u32, size: usize) -> Vec<u8> {
    let mut text = format!("From: anna@example.org\r\nSubject: {n}\r\n\r\n").into_bytes();
    while text.len() + 62 < size {
        text.extend_from_slice(&[b'a' + (n % 26) as u8; 58]);
        text.extend_from_slice(b"\r\n");
    }
    text
}

/// Puts a file into a folder, as IMAP would not.
fn plant(lab: &Lab, mailbox: &str, uid: u32, content: &[u8]) {
    let path = spool_dir(lab, mailbox).join(format!("{uid}."));
    std::fs::write(&path, content).expect("a message");
    run(Command::new("chown").arg("cyrus:mail").arg(&path));
    lab.run("reconstruct", &[mailbox]);
}

/// Changes one record of a folder's index, with its checksum.
fn change_record(lab: &Lab, mailbox: &str, record: usize, offset: usize, value: &[u8]) {
    let path = spool_dir(lab, mailbox).join("cyrus.index");
    let mut index = std::fs::read(&path).expect("an index");
    let number = |at: usize| u32::from_be_bytes(index[at..at + 4].try_into().expect("four bytes")) as usize;
    let (at, size) = (number(12) + record * number(16), number(16));
    index[at + offset..at + offset + value.len()].copy_from_slice(value);
    let crc = crc32(&index[at..at + size - 4]);
    index[at + size - 4..at + size].copy_from_slice(&crc.to_be_bytes());
    std::fs::write(&path, index).expect("an index");
}

/// All mailboxes that an administrator sees, but for the INBOX.
fn mailboxes(lab: &Lab) -> Vec<String> {
    let names = lab.login("cyrus").list("*").into_iter().map(|listed| listed.name);
    names.filter(|name| name != "user/anna").collect()
}

#[test]
fn a_message_over_the_limit_of_the_server_is_known_before_and_the_rest_comes_back() {
    let (mut bench, target) = two(Version::V3_6, &[("maxmessagesize", "2000")]);
    bench.imap.create("Later");
    for (n, folder, size) in
        [(1, "INBOX", 500), (2, "INBOX", 3_000_000), (3, "INBOX", 700), (4, "INBOX", 2500), (5, "Later", 800)]
    {
        bench.imap.append(folder, &NONE, arrival(n), &sized(n, size));
    }
    bench.cylinder.backup_well("anna");
    for way in ["--merge", "--to-tree"] {
        let planned = restore_for(&bench.cylinder, &target, &["--all", way, "--dry-run"], 3);
        assert_eq!(sums(&planned), [3, 0, 0, 2], "{planned}");
        assert!(failures(&planned).contains("the server takes at most 2000 (APPENDLIMIT)"), "{planned}");
        let told = restore_for(&bench.cylinder, &target, &["--all", way], 3);
        assert_eq!(sums(&told), [3, 0, 0, 2], "{told}");
        assert!(told["ended_early"].is_null(), "{told}");
        assert_eq!(sums(&restore_for(&bench.cylinder, &target, &["--all", way], 3)), [0, 3, 0, 2]);
    }
    assert_eq!(mailboxes(&target).iter().filter(|name| name.contains("adding")).count(), 0, "{:?}", mailboxes(&target));
}

#[test]
fn what_the_server_stores_with_other_content_is_a_failure_and_comes_neither_once_nor_twice() {
    let (mut bench, target) = two(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 3);
    plant(&bench.lab, "user/anna", 4, b"From: a@example.org\r\nSubject: Gr\xC3\xBC\xC3\x9Fe\r\n\r\nb\r\n");
    bench.cylinder.backup_well("anna");
    for (way, place) in [("--merge", "INBOX"), ("--to-tree", "RESTORED/t/INBOX")] {
        let words: &[&str] = if way == "--merge" { &["--all", way] } else { &["--all", "--tree", "t"] };
        for already in [0, 3, 3] {
            let told = restore_for(&bench.cylinder, &target, words, 3);
            assert_eq!(sums(&told), [3 - already, already, 0, 1], "{told}");
            let why = failures(&told);
            assert!(why.contains("other content") && why.contains("munge8bit") && why.contains("--exact"), "{why}");
        }
        assert_eq!(target.login("anna").status(place).messages, 3);
    }
}

#[test]
fn keywords_with_brackets_stop_nothing() {
    let (mut bench, target) = two(Version::V3_6, &[]);
    let odd = ["a[b", "x]y", "[c]", "d{e", "NIL"];
    for (n, folder) in ["A", "B", "C"].into_iter().enumerate() {
        bench.imap.create(folder);
        for (m, keyword) in odd.into_iter().enumerate().filter(|(_, keyword)| *keyword != "d{e") {
            let n = (10 * n + m) as u32;
            bench.imap.append(folder, &[keyword], arrival(n), &message(n));
        }
    }
    bench.cylinder.backup_well("anna");
    target.login("anna").append("INBOX", &["a[b"], arrival(99), &message(99));
    for added in [12, 0] {
        let told = restore_for(&bench.cylinder, &target, &["--all", "--merge"], 0);
        assert_eq!(sum(&told, "added"), added, "{told}");
    }
    restore_for(&bench.cylinder, &target, &["--all"], 0);
    let mut imap = target.login("anna");
    for folder in ["A", "B", "C"] {
        assert_eq!(contents(&mut imap, folder), contents(&mut bench.imap, folder), "{folder}");
    }
    assert_eq!(sum(&restore_for(&bench.cylinder, &target, &["--all", "--flags-only"], 0), "present"), 12);
}

#[test]
fn a_server_that_cuts_literals_which_it_has_announced_is_asked_for_each() {
    let (mut bench, target) = two(Version::V3_6, &[("literalminus", "yes")]);
    bench.imap.create("B");
    for (n, folder, size) in [(1, "INBOX", 5000), (2, "INBOX", 200), (3, "B", 5 << 20), (4, "B", 300)] {
        bench.imap.append(folder, &NONE, arrival(n), &sized(n, size));
    }
    bench.cylinder.backup_well("anna");
    let told = restore_for(&bench.cylinder, &target, &["--all", "--merge"], 0);
    assert_eq!(sums(&told), [4, 0, 0, 0], "{told}");
    for folder in ["INBOX", "B"] {
        assert_eq!(contents(&mut target.login("anna"), folder), contents(&mut bench.imap, folder), "{folder}");
    }
}

#[test]
fn nul_bytes_and_bare_line_ends_go_as_binary_data() {
    let (mut bench, target) = two(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 2);
    plant(&bench.lab, "user/anna", 3, b"Subject: bare\r\n\r\none\ntwo\r\n");
    plant(&bench.lab, "user/anna", 4, b"Subject: NUL\r\n\r\n\0\r\n");
    bench.cylinder.backup_well("anna");
    let told = restore_for(&bench.cylinder, &target, &["--all", "--merge"], 0);
    assert_eq!(sums(&told), [4, 0, 0, 0], "{told}");
    let (was, is) = (contents(&mut bench.imap, "INBOX"), contents(&mut target.login("anna"), "INBOX"));
    let bodies = |all: Vec<(Vec<String>, i64, Vec<u8>)>| all.into_iter().map(|(_, _, body)| body).collect::<Vec<_>>();
    assert_eq!(bodies(was), bodies(is));
}

#[test]
fn a_message_without_internaldate_gets_the_first_second_and_that_is_said() {
    let (mut bench, target) = two(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 2);
    change_record(&bench.lab, "user/anna", 0, 4, &[0; 4]);
    bench.cylinder.backup_well("anna");
    let told = restore_for(&bench.cylinder, &target, &["--all", "--merge"], 0);
    assert_eq!(sums(&told), [2, 0, 0, 0], "{told}");
    assert!(told["notes"].to_string().contains("1970-01-01 00:00:01"), "{told}");
    let dates: Vec<i64> = contents(&mut target.login("anna"), "INBOX").into_iter().map(|(_, date, _)| date).collect();
    assert_eq!(dates, [1, arrival(1).secs()]);
    assert_eq!(sums(&restore_for(&bench.cylinder, &target, &["--all", "--merge"], 0)), [0, 2, 0, 0]);
}

#[test]
fn a_message_that_was_damaged_when_it_was_backed_up_is_put_back_and_named_each_time() {
    let (mut bench, target) = two(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 20, 22);
    let path = spool_dir(&bench.lab, "user/anna").join("1.");
    std::fs::write(&path, &message(20)[..200]).expect("a message");
    assert_eq!(bench.cylinder.backup(&["anna"]).exit, 3);
    for already in [0, 2] {
        let told = restore_for(&bench.cylinder, &target, &["--all", "--merge"], 3);
        assert_eq!(sums(&told), [2 - already, already, 0, 1], "{told}");
        assert!(failures(&told).contains("was damaged on the server when it was backed up"), "{told}");
    }
}

/// Adds a message for each of these keywords.
fn with_keywords(imap: &mut Imap, folder: &str, from: u32, to: u32) {
    for n in from..to {
        imap.append(folder, &[&format!("k{n}")], arrival(n), &message(n));
    }
}

#[test]
fn keywords_for_which_a_folder_has_no_room_are_known_before_and_told_after() {
    let (mut bench, target) = two(Version::V3_6, &[]);
    for folder in ["K", "L", "M"] {
        bench.imap.create(folder);
    }
    with_keywords(&mut bench.imap, "K", 0, 100);
    // Together more than one folder takes: no folder on the way may have them all.
    with_keywords(&mut bench.imap, "L", 100, 200);
    with_keywords(&mut bench.imap, "M", 200, 300);
    bench.cylinder.backup_well("anna");
    let mut imap = target.login("anna");
    imap.create("K");
    with_keywords(&mut imap, "K", 1000, 1060);
    let planned = restore_for(&bench.cylinder, &target, &["--all", "--merge", "--dry-run"], 3);
    assert_eq!(sums(&planned), [300, 0, 0, 60], "{planned}");
    let told = restore_for(&bench.cylinder, &target, &["--all", "--merge"], 3);
    assert_eq!(sums(&told), [300, 0, 0, 60], "{told}");
    assert!(failures(&told).contains("k40: the folder has 100 keywords, and takes no more"), "{}", failures(&told));
    let with = |imap: &mut Imap, folder| imap.fetch(folder).iter().filter(|message| !message.flags.is_empty()).count();
    assert_eq!(["K", "L", "M"].map(|folder| with(&mut imap, folder)), [60 + 40, 100, 100]);
}

#[test]
fn flags_that_the_user_may_not_set_are_known_before_and_told_after() {
    let (mut bench, target) = two(Version::V3_6, &[]);
    bench.imap.create("R");
    bench.imap.append("R", &["Junk", "\\Flagged"], arrival(1), &message(1));
    bench.imap.append("R", &["\\Seen"], arrival(2), &message(2));
    bench.imap.append("R", &NONE, arrival(3), &message(3));
    bench.cylinder.backup_well("anna");
    let mut admin = target.login("cyrus");
    admin.create("user/anna/R");
    admin.set_acl("user/anna/R", "anna", "lrpi");
    for dry in [&["INBOX.R", "--merge", "--dry-run"][..], &["INBOX.R", "--merge"]] {
        let told = restore_for(&bench.cylinder, &target, dry, 3);
        assert_eq!(sums(&told), [3, 0, 0, 2], "{told}");
        let why = failures(&told);
        assert!(why.contains("Junk: the user may not set it there") && why.contains("\\\\Seen: the user may not"), "{why}");
    }
    assert_eq!(sums(&restore_for(&bench.cylinder, &target, &["INBOX.R", "--merge"], 0)), [0, 3, 0, 0]);
}

#[test]
fn quotas_of_messages_and_folders_are_looked_at_before_anything_is_done() {
    let (mut bench, target) = two(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 30, 35);
    bench.imap.create("Work");
    append_many(&mut bench.imap, "Work", 35, 36);
    bench.cylinder.backup_well("anna");
    let mut admin = target.login("cyrus");
    for (limit, why) in [
        ("MESSAGE 2", "no room: 6 messages are to be restored, the quota of "),
        ("X-NUM-FOLDERS 1", "no room: 1 folders are to be made, the quota of "),
        ("STORAGE 1", "bytes are to be restored, the quota of "),
    ] {
        admin.set_quota("user/anna", limit);
        for words in [&["--all", "--merge", "--dry-run"][..], &["--all", "--merge"]] {
            let ran = restore(&bench.cylinder, &target, words);
            assert!(ran.exit == 1 && ran.stderr.contains(why), "{limit}: {ran:?}");
        }
        assert_eq!(mailboxes(&target), NONE, "{limit}: something was made");
    }
    // What fits is restored if that is wished, also where there is no room for a mailbox on the way.
    admin.set_quota("user/anna", "X-NUM-FOLDERS 1");
    let told = restore_for(&bench.cylinder, &target, &["--all", "--merge", "--over-quota", "warn"], 3);
    assert_eq!(sum(&told, "added"), 5, "{told}");
    admin.set_quota("user/anna", "X-NUM-FOLDERS 2");
    let told = restore_for(&bench.cylinder, &target, &["--all", "--merge"], 0);
    assert_eq!(sums(&told), [1, 5, 0, 0], "{told}");
}

#[test]
fn names_that_no_server_takes_any_more_are_spelled_as_it_takes_them() {
    let (mut bench, target) = two(Version::V3_2, &[]);
    let lab = &bench.lab;
    let db = format!("{}/lib/mailboxes.db", lab.dir());
    for (n, (plain, odd)) in [("One", "R&D"), ("Two", "per%cent"), ("Three", "M\u{fc}ller")].into_iter().enumerate() {
        bench.imap.create(plain);
        append_many(&mut bench.imap, plain, n as u32, n as u32 + 1);
        let place = spool_dir(lab, &format!("user/anna/{plain}"));
        std::fs::rename(&place, place.with_file_name(odd)).expect("renamed");
        let entry = lab.run("cyr_dbtool", &[&db, "twoskip", "get", &format!("user.anna.{plain}")]);
        lab.run("cyr_dbtool", &[&db, "twoskip", "delete", &format!("user.anna.{plain}")]);
        lab.run("cyr_dbtool", &[&db, "twoskip", "set", &format!("user.anna.{odd}"), entry.trim_end()]);
    }
    bench.cylinder.backup_well("anna");
    let planned = restore_for(&bench.cylinder, &target, &["--all", "--merge", "--dry-run"], 0);
    assert_eq!(sum(&planned, "added"), 3, "{planned}");
    for already in [0, 3] {
        let told = restore_for(&bench.cylinder, &target, &["--all", "--merge"], 0);
        assert_eq!(sums(&told), [3 - already, already, 0, 0], "{told}");
        assert!(already > 0 || told["notes"].to_string().contains("INBOX.R&D: no server takes"), "{told}");
    }
    restore_for(&bench.cylinder, &target, &["--all", "--tree", "t"], 0);
    let mut imap = target.login("anna");
    for name in ["R&-D", "per_cent", "M&APw-ller"] {
        assert_eq!([imap.status(name).messages, imap.status(&format!("RESTORED/t/{name}")).messages], [1, 1], "{name}");
    }
}

/// Deletes a folder with a special use, as clients do: while it has that, 3.6 lets nobody delete it.
fn delete_special(imap: &mut Imap, folder: &str) {
    imap.ok(format!("SETMETADATA {folder} (/private/specialuse NIL)"));
    imap.delete(folder);
}

#[test]
fn a_folder_that_is_made_again_has_its_special_use_its_comment_and_its_acl_and_nothing_is_left_behind() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    bench.imap.create_special("Sent", "\\Sent");
    bench.imap.set_metadata("Sent", "/private/comment", b"what went out");
    bench.imap.set_metadata("Sent", "/shared/comment", b"of the team");
    bench.imap.set_acl("Sent", "bob", "lrs");
    append_many(&mut bench.imap, "Sent", 0, 3);
    append_many(&mut bench.imap, "INBOX", 3, 6);
    bench.cylinder.backup_well("anna");
    let ask = |imap: &mut Imap| {
        let uses = imap.ok("LIST \"\" Sent RETURN (SPECIAL-USE)").untagged;
        let comments = imap.ok("GETMETADATA Sent (/private/comment /shared/comment /private/specialuse)").untagged;
        format!("{uses:?} {comments:?} {:?}", imap.ok("GETACL Sent").untagged)
    };
    let before = ask(&mut bench.imap);
    delete_special(&mut bench.imap, "Sent");
    let told = restore_for(&bench.cylinder, &bench.lab, &["--all", "--merge"], 0);
    assert_eq!(sums(&told), [3, 3, 0, 0], "{told}");
    assert_eq!(ask(&mut bench.imap), before);
    let left: Vec<String> = mailboxes(&bench.lab).into_iter().filter(|name| name.contains("RESTORED")).collect();
    assert_eq!(left, NONE);
    bench.cylinder.backup_well("anna");
    assert_eq!(sums(&restore_for(&bench.cylinder, &bench.lab, &["--all", "--merge"], 0)), [0, 6, 0, 0]);
}

#[test]
fn what_a_made_folder_cannot_be_given_is_a_failure() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    bench.imap.create_special("Sent", "\\Sent");
    append_many(&mut bench.imap, "Sent", 0, 2);
    bench.cylinder.backup_well("anna");
    delete_special(&mut bench.imap, "Sent");
    bench.imap.create_special("Out", "\\Sent");
    let told = restore_for(&bench.cylinder, &bench.lab, &["--all", "--merge"], 3);
    assert_eq!(sums(&told), [2, 0, 0, 1], "{told}");
    assert!(failures(&told).contains("annotation /specialuse"), "{told}");
}

#[test]
fn scripts_and_calendars_are_not_promised_and_not_put_into_folders_of_mail() {
    let (mut bench, target) = two(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 2);
    bench.lab.put_script("anna", "main", "keep;\r\n", true);
    bench.lab.login("cyrus").ok("CREATE user/anna/#calendars/Default (TYPE CALENDAR)");
    bench.cylinder.backup_well("anna");
    drop(target.login("anna"));
    target.put_script("anna", "other", "discard;\r\n", true);
    for way in ["--merge", "--to-tree"] {
        let planned = restore_for(&bench.cylinder, &target, &["--all", way, "--dry-run"], 3);
        let told = restore_for(&bench.cylinder, &target, &["--all", way], 3);
        for told in [&planned, &told] {
            assert_eq!(sums(told), [2, 0, 0, 1], "{told}");
            let why = failures(told);
            assert!(why.contains("INBOX.#sieve") && why.contains("Sieve scripts, 1 item") && why.contains("--exact"), "{why}");
            assert!(told["folders"].to_string().contains("it holds calendar data, 0 items"), "{told}");
        }
    }
    let made: Vec<String> = mailboxes(&target).into_iter().filter(|name| name.contains('#')).collect();
    assert_eq!(made, ["user/anna/#sieve"]);
    let told = restore_for(&bench.cylinder, &target, &["--all", "--flags-only"], 0);
    assert_eq!(sum(&told, "present"), 2, "{told}");
}

#[test]
fn flags_come_back_to_identical_messages_that_have_their_uids_under_another_uidvalidity() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    for _ in 0..2 {
        bench.imap.append("INBOX", &["Junk"], arrival(1), &message(1));
    }
    bench.cylinder.backup_well("anna");
    std::fs::remove_file(spool_dir(&bench.lab, "user/anna").join("cyrus.index")).expect("an index");
    bench.lab.run("reconstruct", &["user/anna"]);
    let told = restore_for(&bench.cylinder, &bench.lab, &["INBOX", "--flags-only"], 0);
    assert_eq!((sum(&told, "changed"), sum(&told, "failed")), (2, 0), "{told}");
    assert!(bench.imap.fetch("INBOX").iter().all(|message| message.flags == ["Junk"]));
    // With other UIDs, nothing tells which is which.
    bench.imap.copy("INBOX", "1:2", "INBOX");
    bench.imap.expunge("INBOX", "1:2");
    for file in ["cyrus.index", "1.", "2."] {
        std::fs::remove_file(spool_dir(&bench.lab, "user/anna").join(file)).expect("a file");
    }
    bench.lab.run("reconstruct", &["user/anna"]);
    let told = restore_for(&bench.cylinder, &bench.lab, &["INBOX", "--flags-only"], 3);
    assert!(failures(&told).contains("which one it is, nothing tells"), "{told}");
}
