//! Annotations of folders, which are in one database for all users, at every moment of a backup.

use cylinder_core::cyrus::annotations::{OWNER_TOKEN, emit_key, emit_value};
use cylinder_core::cyrus::db::twoskip;
use cylinder_core::error::Fault;
use cylinder_core::guid::Guid;
use cylinder_core::io::Root;
use cylinder_core::time::Span;
use cylinder_core::view::When;
use cylinder_tests::disk::{SimDisk, Trouble};
use cylinder_tests::drive::{Outcome, drive};
use cylinder_tests::host::Host;
use cylinder_tests::local::{ANNA, backup, is_good, later, run, run_while, table, world};
use cylinder_tests::story;

/// annotations.db of a server on which Sent has this note.
fn annotate(host: &mut Host, note: &str) {
    let id = host.folders["user.anna.Sent"].id.clone();
    let record = (emit_key(id.as_bytes(), b"/comment", OWNER_TOKEN), emit_value(note.as_bytes()));
    host.files.insert(String::from("/var/lib/cyrus/annotations.db"), twoskip::emit(&[record], 1));
}

/// What the newest snapshot has of the note of Sent.
fn note_of(disk: &mut SimDisk) -> Guid {
    let table = table(disk, When::Newest);
    table.folder(b"INBOX.Sent").expect("Sent").file("cyrus.mailbox_annotations").expect("a note").sha1
}

/// A world whose first snapshot has a note, and the SHA-1s of that one and of a later one.
fn noted() -> (SimDisk, Host, [Guid; 2]) {
    let notes = ["a note", "another note, and a longer one"].map(|note| {
        let (mut disk, mut host) = world();
        annotate(&mut host, note);
        host.publish(&mut disk);
        assert!(backup(&mut disk).expect("a run").is_clean());
        note_of(&mut disk)
    });
    let (mut disk, mut host) = world();
    annotate(&mut host, "a note");
    host.publish(&mut disk);
    backup(&mut disk).expect("a run");
    (disk, host, notes)
}

/// Lives 34 and 61 of the simulated world: somebody annotated a folder between the first pass and the capture, in which that
/// folder had no part. The tuple of annotations.db was taken, and so the new note was never looked for again.
#[test]
fn every_moment_at_which_a_folder_is_annotated_has_the_note_in_the_next_snapshot() {
    let (disk, mut host, notes) = noted();
    host.folder(ANNA).deliver(&story::mail(40, 3000));
    for at in 1.. {
        let (mut disk, mut host) = (disk.clone(), host.clone());
        host.publish(&mut disk);
        later(&mut disk, 100_000);
        let (ops, report) = run_while(&mut disk, at, |disk| {
            annotate(&mut host, "another note, and a longer one");
            host.publish(disk);
        });
        let report = report.unwrap();
        if ops < at {
            assert!(at > 60, "{at}");
            return;
        }
        assert!(report.is_clean() && notes.contains(&note_of(&mut disk)), "operation {at}: {report:?}");
        later(&mut disk, 100_000);
        assert!(backup(&mut disk).unwrap().is_clean());
        assert_eq!(note_of(&mut disk), notes[1], "annotated before operation {at}");
        is_good(&mut disk);
    }
}

/// Life 4544: the first annotation of a server came between the pass and the capture, on a file system that stamps whole
/// seconds. No annotations.db at first and one too young to be trusted afterwards both were "no tuple", and so the folder was
/// not looked at again; the snapshot had what changed after the annotation, and not the annotation.
#[test]
fn a_snapshot_that_has_what_came_after_an_annotation_has_the_annotation_too() {
    let (mut disk, mut host) = (SimDisk::new(), Host::new());
    disk.set_step(Span::from_secs(1));
    for folder in [ANNA, "user.anna.Sent"] {
        host.folder(folder).deliver(&story::mail(1, 500));
    }
    host.publish(&mut disk);
    later(&mut disk, 100_000);
    backup(&mut disk).unwrap();
    host.folder(ANNA).deliver(&story::mail(40, 3000));
    host.publish(&mut disk);
    later(&mut disk, 100_000);
    for at in 1.. {
        let (mut disk, mut host, mut waits) = (disk.clone(), host.clone(), false);
        let (ops, report) = run_while(&mut disk, at, |disk| {
            waits = disk.is_locked(Root::Host);
            if !waits {
                annotate(&mut host, "a note");
                host.folder(ANNA).deliver(&story::mail(41, 3000));
                host.publish(disk);
            }
        });
        if ops < at {
            assert!(at > 60, "{at}");
            return;
        }
        if waits {
            continue;
        }
        assert!(report.unwrap().is_clean());
        let table = table(&mut disk, When::Newest);
        let is_noted = table.folder(b"INBOX.Sent").expect("Sent").file("cyrus.mailbox_annotations").is_some();
        assert!(is_noted || table.folder(b"INBOX").expect("INBOX").exists == 2, "annotated before operation {at}");
        later(&mut disk, 100_000);
        backup(&mut disk).unwrap();
        note_of(&mut disk);
    }
}

/// Lives 2397 and 3012: the folder that was annotated could not be read. The tuple was taken all the same.
#[test]
fn whatever_operation_fails_a_note_is_in_the_next_snapshot() {
    let (mut disk, mut host, notes) = noted();
    host.folder(ANNA).deliver(&story::mail(40, 3000));
    annotate(&mut host, "another note, and a longer one");
    host.publish(&mut disk);
    later(&mut disk, 100_000);
    for at in 1.. {
        for trouble in [Trouble::Fail(Fault::Os(5)), Trouble::Forget(Fault::Os(5)), Trouble::CrashAfter] {
            let mut world = disk.clone();
            world.plan(at, trouble);
            let outcome = drive(&mut world, run);
            if world.unplan() {
                assert!(at > 60, "{at}");
                return;
            }
            if matches!(outcome, Outcome::Crashed) {
                world.kill();
            }
            later(&mut world, 100_000);
            // That a folder could not be read may have been an alarm, which stands.
            assert_eq!(backup(&mut world).unwrap().problems_count, 0);
            assert_eq!(note_of(&mut world), notes[1], "operation {at}: {trouble:?}");
        }
    }
}
