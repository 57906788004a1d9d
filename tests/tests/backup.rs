//! Backups of a simulated host: what is saved, what is told, and what is left alone, without a server and in milliseconds.

use cylinder_core::archive::member::{self, CONTINUES, Kind};
use cylinder_core::archive::read::{ARCHIVE, Reader};
use cylinder_core::archive::record::{Absence, Table};
use cylinder_core::archive::standing::Cause;
use cylinder_core::backup::report::{Problem, Report, Why};
use cylinder_core::error::{Error, Fault};
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Op, Place};
use cylinder_core::store::archive_dir;
use cylinder_core::view::{self, When};
use cylinder_tests::choose::Gen;
use cylinder_tests::disk::{SimDisk, Trouble};
use cylinder_tests::drive::{Outcome, drive, drive_watched};
use cylinder_tests::host::Host;
use cylinder_tests::local::{ANNA, anna, backup, has, is_good, later, run, table, world};
use cylinder_tests::story;

fn archive_len(disk: &SimDisk) -> usize {
    let place = archive_dir(&anna()).expect("a userid").join(b"archive.tar.gz");
    disk.content(&place).expect("an archive").len()
}

#[test]
fn a_first_run_saves_everything_once_and_a_second_writes_nothing() {
    let (mut disk, _) = world();
    let report = backup(&mut disk).unwrap();
    assert_eq!((report.folders, report.messages, report.messages_added), (2, 5, 4));
    assert!(report.is_clean());
    is_good(&mut disk);
    let (before, changes) = (disk.store(), disk.changes());
    let mut seen = Vec::new();
    later(&mut disk, 1000);
    let again = drive_watched(&mut disk, run, &mut |_, op| seen.push(format!("{op:?}"))).finished().unwrap();
    assert_eq!((again.commit, again.messages), (None, 5));
    assert_eq!((disk.store(), disk.changes()), (before, changes));
    let touched = |name: &str| seen.iter().any(|op| op.contains(name) && !op.starts_with("Stat"));
    assert!(!touched("cyrus.index") && !touched("/1.") && !touched(".lock") && touched("mailboxes.db"), "{seen:#?}");
}

/// Found by killing real runs: the snapshot was all written, not synced, and had no footer. The next run found nothing changed,
/// wrote nothing and called that a success, so a power loss could still take what two runs had reported as saved.
#[test]
fn a_run_without_changes_makes_durable_what_a_killed_one_has_written() {
    let (mut disk, _) = world();
    later(&mut disk, 1000);
    let mut before_syncs = Vec::new();
    let watch = &mut |disk: &SimDisk, op: &Op| {
        if matches!(op, Op::Sync(_)) {
            before_syncs.push(disk.clone());
        }
    };
    drive_watched(&mut disk, run, watch).finished().unwrap();
    // The last sync is that of the footer, the one before it that of the commit.
    let mut killed = before_syncs.swap_remove(before_syncs.len() - 2);
    killed.kill();
    let report = backup(&mut killed).unwrap();
    assert_eq!((report.commit, report.is_clean()), (None, true));
    // Nothing survives but what was synced: every choice is a no.
    let mut nothing = Gen::default();
    assert!(!nothing.done());
    killed.lose_power(&mut nothing);
    is_good(&mut killed);
    assert_eq!(table(&mut killed, When::Newest).folders.len(), 2);
    assert!(has(&mut killed, &story::mail(9, 100_000)));
    // And once that is done, there is nothing to do any more.
    let changes = killed.changes();
    backup(&mut killed).unwrap();
    assert_eq!(killed.changes(), changes);
}

#[test]
fn only_what_is_new_is_fetched() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    host.folder("user.anna.Sent").deliver(&story::mail(20, 300));
    host.folder("user.anna.Sent").deliver(&story::mail(0, 500));
    host.publish(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert_eq!((report.folders_changed, report.messages_added, report.messages), (1, 1, 7));
    assert!(has(&mut disk, &story::mail(20, 300)));
    is_good(&mut disk);
}

#[test]
fn a_change_in_the_same_tick_after_the_capture_is_seen_next_time() {
    let (mut disk, mut host) = world();
    host.folder(ANNA).flag(1, 1);
    host.publish(&mut disk);
    // Right after the change, before its tick is over, and another change right after the run.
    drive(&mut disk, run).finished().unwrap();
    host.folder(ANNA).flag(1, 16);
    host.publish(&mut disk);
    let report = drive(&mut disk, run).finished().unwrap();
    assert_eq!(report.folders_changed, 1, "{report:?}");
    assert!(table(&mut disk, When::Newest).folders.iter().all(|row| !row.young));
}

#[test]
fn where_stamps_are_whole_seconds_the_index_decides_until_they_are_old() {
    let (mut disk, mut host) = (SimDisk::new(), Host::new());
    host.folder(ANNA).deliver(&story::mail(0, 500));
    host.publish(&mut disk);
    drive(&mut disk, run).finished().unwrap();
    assert!(table(&mut disk, When::Newest).folders[0].young);
    host.folder(ANNA).flag(1, 16);
    let index = disk.clone();
    host.publish(&mut disk);
    assert!(index.now().secs() == disk.now().secs(), "the same second, so the same stamp");
    assert_eq!(drive(&mut disk, run).finished().unwrap().folders_changed, 1);
    later(&mut disk, 5000);
    drive(&mut disk, run).finished().unwrap();
    assert!(!table(&mut disk, When::Newest).folders[0].young);
    assert_eq!(backup(&mut disk).unwrap().commit, None);
}

#[test]
fn renames_and_deletions_are_links_and_tombstones_and_fetch_nothing() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    let sent = host.folders.remove("user.anna.Sent").unwrap();
    host.folders.insert("user.anna.Gesendet".into(), sent);
    host.publish(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert_eq!((report.names_new, report.names_gone, report.messages_added), (1, 1, 0));
    let sent = host.folders.remove("user.anna.Gesendet").unwrap();
    host.folders.insert("DELETED.user.anna.Gesendet.6B047E5B".into(), sent);
    host.publish(&mut disk);
    backup(&mut disk).unwrap();
    let names = |table: Table| table.folders.into_iter().map(|row| String::from_utf8(row.name).unwrap()).collect::<Vec<_>>();
    assert_eq!(names(table(&mut disk, When::Newest)), ["DELETED.Gesendet.6B047E5B", "INBOX"]);
    assert_eq!(names(table(&mut disk, When::Number(2))), ["INBOX", "INBOX.Gesendet"]);
    assert_eq!(names(table(&mut disk, When::Number(1))), ["INBOX", "INBOX.Sent"]);
    is_good(&mut disk);
}

#[test]
fn a_folder_that_was_deleted_and_made_anew_is_another_folder() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    let mut anew = cylinder_tests::host::Folder::new("zz0000000000000000000001");
    anew.deliver(&story::mail(50, 400));
    host.folders.insert("user.anna.Sent".into(), anew);
    host.publish(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert_eq!((report.names_new, report.names_gone, report.messages_added), (1, 0, 1));
    assert_eq!(table(&mut disk, When::Newest).folder(b"INBOX.Sent").unwrap().id, b"zz0000000000000000000001");
    is_good(&mut disk);
}

/// Copies of directories and bugs of old servers have made such folders; a lying server may make them too.
#[test]
fn two_folders_with_one_uniqueid_are_saved_apart_and_told_in_each_run() {
    let (mut disk, mut host) = world();
    let (first, second) = ("user.anna.Sent", "user.anna.Sent.copy");
    host.folder(first).by_name = true;
    let mut twin = host.folders[first].clone();
    twin.deliver(&story::mail(50, 400));
    host.folders.insert(second.into(), twin);
    // A file that only one of them has: the other's lack of it must not be written down as its end.
    let notes = "/var/spool/cyrus/user/anna/Sent/copy/cyrus.annotations";
    host.files.insert(notes.into(), b"not empty".to_vec());
    host.publish(&mut disk);
    let told = |report: &Report| {
        let [Problem::Twin { folder, other, .. }] = &report.problems[..] else { panic!("{:?}", report.problems) };
        assert_eq!((&folder[..], &other[..]), (&b"INBOX.Sent.copy"[..], &b"INBOX.Sent"[..]));
    };
    told(&backup(&mut disk).unwrap());
    let report = backup(&mut disk).unwrap();
    told(&report);
    assert_eq!(report.commit, None);
    for (changed, folder) in [(first, "INBOX.Sent"), (second, "INBOX.Sent.copy")] {
        let before = table(&mut disk, When::Newest);
        host.folder(changed).flag(1, 1);
        host.publish(&mut disk);
        told(&backup(&mut disk).unwrap());
        let after = table(&mut disk, When::Newest);
        let files = |table: &Table, name: &str| table.folder(name.as_bytes()).unwrap().files.clone();
        for name in ["INBOX", "INBOX.Sent", "INBOX.Sent.copy"] {
            assert_eq!(files(&before, name) == files(&after, name), name != folder, "{name} after a change of {folder}");
        }
        let index = |name: &str| after.folder(name.as_bytes()).unwrap().file("cyrus.index").unwrap().sha1;
        assert_ne!(index("INBOX.Sent"), index("INBOX.Sent.copy"));
    }
    let archive = disk.content(&archive_dir(&anna()).unwrap().join(b"archive.tar.gz")).unwrap();
    let entries = cylinder_tests::check::foreign_entries(archive).unwrap();
    let kept = entries.iter().find(|(name, _)| name.ends_with("/cyrus.annotations")).unwrap();
    assert_eq!(kept.1, b"not empty");
    is_good(&mut disk);
}

#[test]
fn a_missing_message_and_a_wrong_one_do_not_stop_the_rest() {
    let (mut disk, mut host) = world();
    disk.take_away(&host.message_place(ANNA, 1));
    disk.put_file(&host.message_place(ANNA, 2), *b"something else");
    let report = backup(&mut disk).unwrap();
    let wrong = Guid::of(b"something else");
    assert_eq!((report.problems_count, report.messages_added), (2, 3));
    assert!(matches!(&report.problems[0], Problem::Message { uid: 1, why: Why::Absent, .. }), "{:?}", report.problems);
    let Problem::Message { uid: 2, why: Why::Mismatch { found, found_size: 14, expected_size: 500 }, guid, path, .. } =
        &report.problems[1]
    else {
        panic!("{:?}", report.problems);
    };
    assert_eq!((*found, *guid), (wrong, Some(Guid::of(&story::mail(1, 500)))));
    assert!(path.ends_with("/2."));
    assert!(has(&mut disk, b"something else") && has(&mut disk, &story::mail(9, 100_000)));
    let row = table(&mut disk, When::Newest).folder(b"INBOX").unwrap().clone();
    assert_eq!(row.missing.iter().map(|m| (m.uid, m.why)).collect::<Vec<_>>(), [(1, Absence::Absent), (2, Absence::Mismatch)]);
    // It is tried again as long as it is missing, and saved when it is back, though nothing else has changed.
    assert_eq!(backup(&mut disk).unwrap().problems_count, 2);
    host.publish(&mut disk);
    disk.put_file(&host.message_place(ANNA, 1), story::mail(0, 500));
    disk.put_file(&host.message_place(ANNA, 2), story::mail(1, 500));
    let report = backup(&mut disk).unwrap();
    assert_eq!((report.problems_count, report.messages_added), (0, 2));
    assert!(table(&mut disk, When::Newest).folder(b"INBOX").unwrap().missing.is_empty());
    is_good(&mut disk);
}

#[test]
fn expunged_messages_are_saved_until_they_are_unlinked() {
    let (mut disk, mut host) = world();
    host.folder(ANNA).messages[0].expunged = true;
    host.folder(ANNA).messages[1].expunged = true;
    host.folder(ANNA).messages[1].unlinked = true;
    host.publish(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert_eq!((report.messages, report.messages_added, report.problems_count), (3, 3, 0));
    assert!(has(&mut disk, &story::mail(0, 500)) && !has(&mut disk, &story::mail(1, 500)));
    let row = table(&mut disk, When::Newest).folder(b"INBOX").unwrap().clone();
    assert_eq!((row.exists, row.expunged), (1, 1));
}

#[test]
fn where_the_index_has_no_sha1s_they_are_computed_and_remembered() {
    let (mut disk, mut host) = world();
    host.folder(ANNA).minor_version = 9;
    host.publish(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert_eq!((report.messages_added, report.problems_count), (4, 0), "{report:?}");
    let row = table(&mut disk, When::Newest).folder(b"INBOX").unwrap().clone();
    assert_eq!((row.version, row.exists, row.header_crc), (Some(9), 3, None));
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let view = view::folder(&reader, &row).await;
        reader.close().await;
        view
    };
    let guids: Vec<Guid> = drive(&mut disk, procedure).finished().unwrap().messages.iter().map(|m| m.guid).collect();
    assert_eq!(guids, [0, 1, 2].map(|n| Guid::of(&story::mail(n, 500))));
    assert_eq!(backup(&mut disk).unwrap().commit, None);
    // Only the message that is new is read.
    host.folder(ANNA).deliver(&story::mail(70, 500));
    host.publish(&mut disk);
    let mut read = Vec::new();
    later(&mut disk, 1000);
    let watch = &mut |_: &SimDisk, op: &Op| match op {
        Op::ReadWhole { place, .. } if place.path.ends_with(b".") => read.push(place.shown()),
        _ => {}
    };
    let report = drive_watched(&mut disk, run, watch).finished().unwrap();
    assert_eq!((report.messages_added, read.len()), (1, 1), "{read:?}");
    is_good(&mut disk);
}

#[test]
fn a_damaged_index_record_is_named_and_the_others_are_saved() {
    let (mut disk, host) = world();
    let place = host.meta_place(ANNA, "cyrus.index");
    let mut index = disk.content(&place).unwrap().to_vec();
    index[160 + 112 + 20] ^= 1;
    disk.change_file(&place, index);
    let report = backup(&mut disk).unwrap();
    assert!(matches!(&report.problems[..], [Problem::Record { .. }]), "{:?}", report.problems);
    assert_eq!(report.messages_added, 3, "INBOX/2 is nowhere else");
    assert_eq!(table(&mut disk, When::Newest).folder(b"INBOX").unwrap().missing[0].why, Absence::UnreadableRecord);
}

/// It was saved as a folder without messages, and looked unchanged from then on.
#[test]
fn a_folder_with_a_damaged_index_header_keeps_its_past_and_is_told_until_it_is_mended() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    let place = host.meta_place("user.anna.Sent", "cyrus.index");
    let good = disk.content(&place).unwrap().to_vec();
    let mut bad = good.clone();
    bad[20] ^= 1;
    disk.change_file(&place, bad);
    for _ in 0..2 {
        later(&mut disk, 1000);
        let report = backup(&mut disk).unwrap();
        let told = matches!(&report.problems[..], [Problem::Folder { folder, .. }] if folder == b"INBOX.Sent");
        assert!(told, "{:?}", report.problems);
        assert_eq!(table(&mut disk, When::Newest).folder(b"INBOX.Sent").unwrap().exists, 2);
    }
    disk.change_file(&place, good);
    host.folder("user.anna.Sent").deliver(&story::mail(30, 300));
    host.publish(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert!(report.is_clean() && report.messages_added == 1, "{report:?}");
}

#[test]
fn a_folder_that_mailboxes_db_has_and_the_disk_has_not_keeps_its_past_and_is_told() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    let dir = host.meta_place("user.anna.Sent", "cyrus.index").parent();
    disk.take_away(&dir);
    host.folder(ANNA).deliver(&story::mail(30, 300));
    host.publish(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert!(
        matches!(&report.problems[..], [Problem::Folder { folder, .. }] if folder == b"INBOX.Sent"),
        "{:?}",
        report.problems
    );
    assert_eq!((report.names_gone, report.messages_added), (0, 1));
    assert_eq!(table(&mut disk, When::Newest).folder(b"INBOX.Sent").unwrap().exists, 2);
}

fn raised(report: &Report) -> Vec<(Cause, u64, u64)> {
    report.raised.iter().map(|alarm| (alarm.cause.clone(), alarm.before, alarm.after)).collect()
}

#[test]
fn a_spool_that_is_not_mounted_is_an_alarm_and_drops_nothing() {
    let (mut disk, host) = world();
    backup(&mut disk).unwrap();
    let (before, healthy) = (table(&mut disk, When::Newest), disk.clone());
    disk.take_away(&Place::host("/var/spool/cyrus"));
    let report = backup(&mut disk).unwrap();
    assert_eq!(raised(&report), [(Cause::MassLoss, 5, 0)]);
    assert_eq!(table(&mut disk, When::Newest).folders, before.folders);
    let size = archive_len(&disk);
    let again = backup(&mut disk).unwrap();
    assert_eq!((&again.alarms, again.raised.len()), (&report.alarms, 0));
    assert_eq!(archive_len(&disk), size, "it is written down once");
    // Mounted again.
    let mut mounted = healthy;
    for (path, content) in disk.store() {
        mounted.put_file(&Place::store(path), content);
    }
    let report = backup(&mut mounted).unwrap();
    assert_eq!(
        (report.problems_count, report.messages_added, &report.alarms),
        (0, 0, &again.alarms),
        "it stands until somebody looks"
    );
    drop(host);
}

#[test]
fn a_user_who_vanished_is_an_alarm_that_is_written_once() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    host.folders.retain(|name, _| !name.contains("anna"));
    host.publish(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert_eq!((raised(&report), report.commit, report.is_clean()), (vec![(Cause::Vanished, 5, 0)], Some(2), false));
    let report = backup(&mut disk).unwrap();
    assert_eq!((report.raised.len(), report.alarms.len(), report.commit, report.is_clean()), (0, 1, None, false));
    assert_eq!(table(&mut disk, When::Newest).folders.len(), 2);
    is_good(&mut disk);
}

#[test]
fn a_user_nobody_knows_is_refused_and_no_archive_is_made() {
    let (mut disk, mut host) = world();
    host.folders.retain(|name, _| !name.contains("anna"));
    host.publish(&mut disk);
    assert!(matches!(backup(&mut disk), Err(Error::Refused(_))));
    assert!(disk.store().is_empty());
}

#[test]
fn the_loss_of_most_messages_is_an_alarm_and_what_is_left_is_saved() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    host.folder(ANNA).messages.iter_mut().for_each(|m| (m.expunged, m.unlinked) = (true, true));
    host.folder(ANNA).deliver(&story::mail(60, 200));
    host.folder("user.anna.Sent").messages.clear();
    host.publish(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert_eq!(raised(&report), [(Cause::MassLoss, 5, 1)]);
    assert!(has(&mut disk, &story::mail(60, 200)) && has(&mut disk, &story::mail(0, 500)));
}

#[test]
fn a_file_without_any_commit_is_kept_under_another_name() {
    let (mut disk, _) = world();
    let dir = archive_dir(&anna()).unwrap();
    disk.put_file(&dir.join(b"archive.tar.gz"), *b"somebody's own file");
    let report = backup(&mut disk).unwrap();
    assert!(report.is_damaged() && report.messages_added == 4, "{report:?}");
    assert_eq!(disk.content(&dir.join(b"archive.tar.gz.aside-1-unreadable")), Some(&b"somebody's own file"[..]));
    assert!(backup(&mut disk).unwrap().is_clean());
    is_good(&mut disk);
}

#[test]
fn where_the_folder_table_or_a_list_is_damaged_the_next_run_makes_up_for_it() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    host.folder(ANNA).deliver(&story::mail(40, 3000));
    host.publish(&mut disk);
    backup(&mut disk).unwrap();
    let place = archive_dir(&anna()).unwrap().join(b"archive.tar.gz");
    let whole = disk.content(&place).unwrap().to_vec();
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let head = reader.head().commit.clone();
        reader.close().await;
        Ok::<_, Error>((head.table.unwrap(), head.messages.unwrap().0))
    };
    let (table_at, list_at) = drive(&mut disk, procedure).finished().unwrap();
    for part in [table_at, list_at] {
        let mut bytes = whole.clone();
        bytes[part.offset as usize + 40] ^= 0x10;
        disk.put_file(&place, bytes.clone());
        // The table is read by every run, a list only by one that has something to do.
        if part == list_at {
            host.folder(ANNA).deliver(&story::mail(41, 200));
            host.publish(&mut disk);
        }
        let report = backup(&mut disk).unwrap();
        assert!(report.is_damaged(), "{report:?}");
        assert_eq!(disk.content(&place).unwrap()[..bytes.len() - 95], bytes[..bytes.len() - 95]);
        let rows = table(&mut disk, When::Newest).folders;
        assert_eq!(rows.iter().map(|row| row.exists).sum::<u64>(), if part == list_at { 7 } else { 6 });
        assert!(has(&mut disk, &story::mail(0, 500)));
        assert_eq!(backup(&mut disk).unwrap().commit, None);
    }
}

#[test]
fn whatever_operation_fails_nothing_acknowledged_is_lost_and_the_next_run_mends_it() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    host.folder(ANNA).deliver(&story::mail(40, 3000));
    host.folder("user.anna.New").deliver(&story::mail(41, 70_000));
    host.publish(&mut disk);
    later(&mut disk, 1000);
    let mut failures = 0;
    for at in 1.. {
        for trouble in [Trouble::Fail(Fault::Os(5)), Trouble::Fail(Fault::NoSpace), Trouble::CrashBefore, Trouble::CrashAfter] {
            let mut world = disk.clone();
            world.plan(at, trouble);
            let outcome = drive(&mut world, run);
            if world.unplan() {
                assert!(failures > 100, "{failures}");
                return;
            }
            failures += 1;
            if let Outcome::Finished(Ok(report)) = &outcome {
                assert!(report.is_clean() || report.problems_count > 0);
            }
            if matches!(outcome, Outcome::Crashed) {
                world.kill();
            }
            assert_eq!(world.open_files(), 0, "operation {at}, {trouble:?}");
            assert!(has(&mut world, &story::mail(0, 500)));
            let report = backup(&mut world).unwrap_or_else(|e| panic!("operation {at}, {trouble:?}: {e}"));
            assert!(report.is_clean(), "operation {at}, {trouble:?}: {report:?}");
            assert_eq!(table(&mut world, When::Newest).folders.len(), 3);
            assert!(has(&mut world, &story::mail(40, 3000)) && has(&mut world, &story::mail(41, 70_000)));
            is_good(&mut world);
        }
    }
}

/// A folder table of more bytes than a member may have goes through several, and is read, checked and compacted as any other.
#[test]
fn a_user_with_thousands_of_folders_has_a_table_of_several_members() {
    let (mut disk, mut host) = world();
    let names: Vec<String> = (0..2500).map(|n| format!("user.anna.f{n:04}{}", "x".repeat(400))).collect();
    for name in &names {
        host.folder(name).deliver(&story::mail(1, 500));
    }
    host.publish(&mut disk);
    backup(&mut disk).unwrap();
    for name in &names[..10] {
        host.folders.remove(name);
    }
    host.publish(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert_eq!((report.folders, report.names_gone), (2492, 10));
    let (mut continued, mut at, bytes) = (0, 0, disk.content(&archive_dir(&anna()).unwrap().join(ARCHIVE)).unwrap());
    while at < bytes.len() {
        let info = member::parse_header(&bytes[at..]).unwrap();
        continued += usize::from(info.kind == Kind::Table && info.flags & CONTINUES != 0);
        at += info.len as usize;
    }
    assert!(continued >= 2, "{continued} tables of several members");
    is_good(&mut disk);
    let table = table(&mut disk, When::Newest);
    assert!(table.folders.len() == 2492 && table.folder(&names[10].as_bytes()["user.anna.".len()..]).is_none());
    assert_eq!(backup(&mut disk).unwrap().commit, None);
}
