//! Compaction: what it drops and what it keeps, when it is due, when it waits, and what goes on beside it.

use cylinder_core::compact::policy::Policy;
use cylinder_core::compact::{Outcome, Plan};
use cylinder_tests::life::{Life, State, settings};
use cylinder_tests::story;
use std::collections::BTreeMap;

const INBOX: &str = "user.anna";

/// A user of six snapshots, days apart: mail comes and goes, a folder is renamed, another deleted.
fn past() -> Life {
    let mut life = Life::new();
    for n in 0..6 {
        life.host.folder(INBOX).deliver(&story::mail(n, 900));
    }
    life.host.folder("user.anna.Sent").deliver(&story::mail(20, 500));
    life.host.folder("user.anna.Sent").deliver(&story::mail(21, 100_000));
    life.host.folder("user.anna.Old").deliver(&story::mail(30, 300));
    life.backup();
    life.hours(24 * 3);
    // Unlinked at once, and a folder that goes with its mail.
    life.host.folder(INBOX).messages[1].unlinked = true;
    life.host.folder(INBOX).messages[1].expunged = true;
    life.host.folders.remove("user.anna.Old");
    life.host.folder(INBOX).deliver(&story::mail(7, 600));
    life.backup();
    life.hours(24 * 3);
    let sent = life.host.folders.remove("user.anna.Sent").expect("a folder");
    life.host.folders.insert("user.anna.Outbox".to_owned(), sent);
    life.backup();
    life.hours(24 * 3);
    life.host.folder("user.anna.Outbox").messages.truncate(1);
    life.host.folder("user.anna.Outbox").modseq += 1;
    life.host.folder(INBOX).deliver(&story::mail(8, 70_000));
    life.backup();
    life.hours(24 * 3);
    life.host.folder(INBOX).flag(1, 1);
    life.backup();
    life.hours(24 * 3);
    life.host.folder(INBOX).deliver(&story::mail(9, 2000));
    life.backup();
    life
}

/// Those of `before` that `after` still has must be the same.
#[track_caller]
fn is_part_of(after: &BTreeMap<u64, State>, before: &BTreeMap<u64, State>) {
    for (number, state) in after {
        assert_eq!(Some(state), before.get(number), "snapshot {number}");
    }
}

#[track_caller]
fn done(outcome: Outcome) -> Plan {
    match outcome {
        Outcome::Done(plan, _) => plan,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_no_retained_snapshot_needs_goes_and_the_rest_stays() {
    let mut life = past();
    let (before, len) = (life.snapshots(), life.archive_len());
    assert_eq!(before.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let plan = done(life.compact(&settings(Policy::default())));
    life.is_good();
    let after = life.snapshots();
    // The newest is some seconds old; 7 days ago the state was that of 9 days ago.
    assert_eq!(after.keys().copied().collect::<Vec<_>>(), [3, 4, 5, 6]);
    is_part_of(&after, &before);
    // Message 1 of INBOX, and that of the folder that was deleted 12 days ago.
    assert_eq!((plan.messages, plan.messages_dropped, plan.snapshots, plan.snapshots_dropped), (12, 2, 6, 2));
    assert!(life.archive_len() < len);
    assert!(matches!(life.compact(&settings(Policy::default())), Outcome::Nothing(_)));
}
