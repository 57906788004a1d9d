//! `cylinder restore --merge` into real servers that have a part of the mail already: run again after a cut, after a refusal,
//! after the user has filed something. What lacks is added as often as it lacks, and nothing comes twice.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.2 3.6`.

use cylinder_tests::cli::{Bench, Running, append_at_once, append_many, arrival, message};
use cylinder_tests::deliver::{command, contents, failures, restore_for, sums};
use cylinder_tests::lab::{Lab, Version};
use rustix::process::Signal;
use std::time::Duration;

const NONE: [&str; 0] = [];

/// Anna on a server of 3.6, and another, empty server.
fn two(version: Version) -> (Bench, Lab) {
    let target = Lab::start(Version::V3_6, &[]);
    drop(target.new_user("anna"));
    (Bench::start(version, &[]), target)
}

#[test]
fn a_copy_that_the_first_part_of_a_merge_has_put_back_does_not_stand_for_the_one_in_another_folder() {
    let (mut bench, target) = two(Version::V3_6);
    bench.imap.create("Customers");
    append_at_once(&mut bench.imap, "INBOX", 0, 300);
    bench.imap.copy("INBOX", "10:60", "Customers");
    bench.imap.unselect();
    bench.cylinder.backup_well("anna");
    // Cut after INBOX.
    restore_for(&bench.cylinder, &target, &["INBOX", "--merge"], 0);
    let told = restore_for(&bench.cylinder, &target, &["--all", "--merge"], 0);
    assert_eq!(sums(&told), [51, 300, 0, 0], "{told}");
    let mut imap = target.login("anna");
    assert_eq!((imap.status("INBOX").messages, imap.status("Customers").messages), (300, 51));
    assert_eq!(sums(&restore_for(&bench.cylinder, &target, &["--all", "--merge"], 0)), [0, 351, 0, 0]);
}

#[test]
fn a_merge_that_was_ended_by_a_signal_at_any_moment_is_completed_by_the_next_one() {
    let (mut bench, target) = two(Version::V3_6);
    for folder in ["Customers", "Zoo"] {
        bench.imap.create(folder);
    }
    append_at_once(&mut bench.imap, "INBOX", 0, 300);
    bench.imap.copy("INBOX", "1:300", "Customers");
    bench.imap.copy("INBOX", "100:300", "Zoo");
    bench.imap.unselect();
    bench.cylinder.backup_well("anna");
    let mut cut = 0;
    for round in 0..12 {
        let mut running = Running::start(&mut command(&bench.cylinder, &target, &["--all", "--merge"]));
        std::thread::sleep(Duration::from_millis(15 + 12 * round));
        if running.is_running() {
            rustix::process::kill_process(running.pid(), Signal::TERM).expect("it runs");
            cut += u32::from(running.end().exit != 0);
        }
    }
    assert!(cut > 0, "no run was cut");
    let told = restore_for(&bench.cylinder, &target, &["--all", "--merge"], 0);
    assert_eq!((sums(&told)[2], sums(&told)[3]), (0, 0), "{told}");
    let mut imap = target.login("anna");
    assert_eq!(["INBOX", "Customers", "Zoo"].map(|folder| imap.status(folder).messages), [300, 300, 201]);
}

#[test]
fn what_the_server_refuses_is_lacking_as_often_as_it_is_asked() {
    let (mut bench, target) = two(Version::V3_2);
    bench.imap.create("D");
    for _ in 0..11 {
        bench.imap.append("D", &NONE, arrival(1), &message(1));
    }
    bench.cylinder.backup_well("anna");
    for already in [0, 10, 10] {
        let told = restore_for(&bench.cylinder, &target, &["--all", "--merge"], 3);
        assert_eq!(sums(&told), [10 - already, already, 0, 1], "{told}");
        assert!(failures(&told).contains("Too many identical emails"), "{told}");
    }
}

#[test]
fn as_many_copies_as_were_filed_are_elsewhere_and_no_more() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    for folder in ["A", "B", "C"] {
        bench.imap.create(folder);
    }
    append_many(&mut bench.imap, "A", 0, 6);
    bench.imap.copy("A", "1:6", "B");
    bench.imap.unselect();
    bench.cylinder.backup_well("anna");
    // 1 and 2 are filed from A alone, 3 is filed from both, 4 from A, and B has lost it.
    bench.imap.uid_move("A", "1:4", "C");
    bench.imap.uid_move("B", "3", "C");
    bench.imap.expunge("B", "4");
    bench.imap.unselect();
    let told = restore_for(&bench.cylinder, &bench.lab, &["--all", "--merge"], 0);
    // 4 lacks in two folders and was filed once: which one that was, nothing tells.
    assert_eq!(sums(&told), [2, 6, 4, 0], "{told}");
    let count =
        |imap: &mut _, folder: &str, n| contents(imap, folder).iter().filter(|(_, _, body)| *body == message(n)).count();
    let counts: Vec<[usize; 3]> = (0..6).map(|n| ["A", "B", "C"].map(|folder| count(&mut bench.imap, folder, n))).collect();
    assert_eq!(counts, [[0, 1, 1], [0, 1, 1], [0, 0, 2], [1, 1, 1], [1, 1, 0], [1, 1, 0]]);
}
