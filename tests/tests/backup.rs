//! Backups of a simulated host: what is saved, what is told, and what is left alone, without a server and in milliseconds.

use cylinder_core::archive::read::Reader;
use cylinder_core::archive::record::{Absence, Table};
use cylinder_core::archive::verify::verify;
use cylinder_core::backup::report::{Alarm, Problem, Report, Why};
use cylinder_core::backup::{self, Settings};
use cylinder_core::cyrus::annotations::{OWNER_TOKEN, emit_key, emit_value};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::db::twoskip;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::{Error, Fault};
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, LockMode, Op, Place, Root};
use cylinder_core::pull::Origin;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::store::archive_dir;
use cylinder_core::time::Span;
use cylinder_core::view::{self, When};
use cylinder_tests::choose::Gen;
use cylinder_tests::disk::{SimDisk, Trouble};
use cylinder_tests::drive::{Outcome, Running, Step, drive, drive_watched};
use cylinder_tests::host::Host;
use cylinder_tests::story;

const ANNA: &str = "user.anna";

fn anna() -> Owner {
    Owner::User(b"anna".to_vec())
}

fn settings() -> Settings {
    Settings { archive: story::settings(), source: String::from("local:test"), archive_id: *b"sixteen bytes id", read_rate: 0 }
}

async fn run(io: Io) -> Result<Report, Error> {
    run_with(io, Patience::default()).await
}

/// Locks are let go after each folder.
async fn run_in_a_hurry(io: Io) -> Result<Report, Error> {
    run_with(io, Patience { hold: Span(1), ..Patience::default() }).await
}

async fn run_with(io: Io, patience: Patience) -> Result<Report, Error> {
    let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    let mut site = Site::open(&io, conf, None, Locking::AsServer, patience).await?;
    backup::run(&io, &mut Origin::Local(&mut site), &anna(), &archive_dir(&anna())?, &settings()).await
}

fn backup(disk: &mut SimDisk) -> Result<Report, Error> {
    later(disk, 1000);
    drive(disk, run).finished()
}

fn later(disk: &mut SimDisk, ms: i64) {
    disk.wait_until(disk.now().plus(Span::from_ms(ms)));
}

fn table(disk: &mut SimDisk, when: When) -> Table {
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let at = view::snapshot(&reader, when).await?;
        let table = reader.table(&at).await;
        reader.close().await;
        table
    };
    drive(disk, procedure).finished().expect("a table")
}

fn has(disk: &mut SimDisk, content: &[u8]) -> bool {
    let guid = Guid::of(content);
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let at = reader.locate(&guid).await?;
        let read = match at {
            Some(at) => Some(reader.read_entry(at.at, 1 << 30).await?),
            None => None,
        };
        reader.close().await;
        Ok::<_, Error>(read)
    };
    drive(disk, procedure).finished().expect("an archive").as_deref() == Some(content)
}

fn archive_len(disk: &SimDisk) -> usize {
    let place = archive_dir(&anna()).expect("a userid").join(b"archive.tar.gz");
    disk.content(&place).expect("an archive").len()
}

fn is_good(disk: &mut SimDisk) {
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let verdict = verify(&io, &reader, 3).await;
        reader.close().await;
        verdict
    };
    let verdict = drive(disk, procedure).finished().expect("a verdict");
    assert!(verdict.is_good(), "{:#?}", verdict.findings);
    assert_eq!(disk.open_files(), 0);
}

/// A host with an INBOX of three messages and a folder of two, one of them a copy.
fn world() -> (SimDisk, Host) {
    let (mut disk, mut host) = (SimDisk::new(), Host::new());
    // A stamp with a part below the second: this file system is not one of whole seconds.
    later(&mut disk, 123);
    for n in 0..3 {
        host.folder(ANNA).deliver(&story::mail(n, 500));
    }
    host.folder("user.anna.Sent").deliver(&story::mail(2, 500));
    host.folder("user.anna.Sent").deliver(&story::mail(9, 100_000));
    host.folder("user.bob").deliver(&story::mail(77, 100));
    host.publish(&mut disk);
    (disk, host)
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

#[test]
fn a_spool_that_is_not_mounted_is_an_alarm_and_drops_nothing() {
    let (mut disk, host) = world();
    backup(&mut disk).unwrap();
    let (before, healthy) = (table(&mut disk, When::Newest), disk.clone());
    disk.take_away(&Place::host("/var/spool/cyrus"));
    let report = backup(&mut disk).unwrap();
    assert_eq!(report.alarm, Some(Alarm::MassLoss { before: 5, after: 0 }));
    assert_eq!(table(&mut disk, When::Newest).folders, before.folders);
    let size = archive_len(&disk);
    assert_eq!(backup(&mut disk).unwrap().alarm, report.alarm);
    assert_eq!(archive_len(&disk), size, "it is written down once");
    // Mounted again.
    let mut mounted = healthy;
    for (path, content) in disk.store() {
        mounted.put_file(&Place::store(path), content);
    }
    let report = backup(&mut mounted).unwrap();
    assert!(report.is_clean() && report.messages_added == 0);
    drop(host);
}

#[test]
fn a_user_who_vanished_is_an_alarm_that_is_written_once() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    host.folders.retain(|name, _| !name.contains("anna"));
    host.publish(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert_eq!((report.alarm, report.commit), (Some(Alarm::Vanished { before: 5 }), Some(2)));
    let report = backup(&mut disk).unwrap();
    assert_eq!((report.alarm, report.commit), (Some(Alarm::Vanished { before: 5 }), None));
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
    assert_eq!(report.alarm, Some(Alarm::MassLoss { before: 5, after: 1 }));
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
fn locks_are_taken_in_the_order_of_cyrus_and_let_go_before_messages_are_read() {
    let (mut disk, _) = world();
    let mut steps = Vec::new();
    later(&mut disk, 1000);
    let watch = &mut |_: &SimDisk, op: &Op| match op {
        Op::Open { place, .. } if place.path.ends_with(b".lock") || place.path.ends_with(b"cyrus.index") => {
            steps.push(place.shown());
        }
        Op::ReadWhole { place, .. } if place.path.ends_with(b".") => steps.push(String::from("message")),
        _ => {}
    };
    drive_watched(&mut disk, run, watch).finished().unwrap();
    let kinds: Vec<&str> = steps
        .iter()
        .map(|s| match s.as_str() {
            "message" => "message",
            s if s.contains("*U*") => "user",
            s if s.ends_with(".lock") => "name",
            _ => "index",
        })
        .collect();
    assert_eq!(kinds[..6], ["user", "user", "name", "index", "name", "index"], "{steps:#?}");
    assert!(kinds[6..].iter().all(|kind| *kind == "message"));
}

#[test]
fn a_lock_that_is_never_free_ends_the_run_with_the_name_of_its_holder() {
    let (mut disk, host) = world();
    disk.hold(&host.meta_place(ANNA, "cyrus.index"), LockMode::Exclusive, "process 7 (imapd)");
    let error = backup(&mut disk).unwrap_err();
    let Error::Busy { object, holder } = error else { panic!("{error}") };
    assert!(object.ends_with("cyrus.index"), "{object}");
    assert_eq!(holder.as_deref(), Some("process 7 (imapd)"));
    assert_eq!(disk.open_files(), 0);
    disk.let_go();
    assert!(backup(&mut disk).unwrap().is_clean());
}

/// The longest time for which a run held locks on the server. `between` sees the disk before each operation.
fn longest_hold(
    disk: &mut SimDisk,
    mut running: Running<Result<Report, Error>>,
    between: &mut dyn FnMut(&mut SimDisk),
) -> (Span, Report) {
    let (mut longest, mut since) = (Span(0), None);
    loop {
        since = if disk.is_locked(Root::Host) { since.or(Some(disk.now())) } else { None };
        longest = longest.max(since.map_or(Span(0), |since| disk.now().since(since)));
        between(disk);
        match running.step(disk, &mut |_, _| {}) {
            Step::Did => {}
            Step::Finished(report) => return (longest, report.expect("a run")),
            Step::Crashed => unreachable!("no crash was planned"),
        }
    }
}

/// While the run waits for one lock it lets those go that it has: Cyrus's own processes wait for them.
#[test]
fn a_lock_that_is_free_after_longer_than_a_hold_is_had_and_the_others_are_let_go_meanwhile() {
    let (mut disk, host) = world();
    disk.hold(&host.meta_place(ANNA, "cyrus.index"), LockMode::Exclusive, "process 7 (imapd)");
    let free = disk.now().plus(Span::from_secs(7));
    let running = Running::new(&disk, run);
    let (longest, report) = longest_hold(&mut disk, running, &mut |disk| {
        if disk.now() >= free {
            disk.let_go();
        }
    });
    assert!(report.is_clean() && disk.now() >= free, "{report:?}");
    assert!(longest > Span::from_secs(1) && longest < Span::from_ms(2500), "{} ms", longest.ms());
    is_good(&mut disk);
}

/// Somebody changes both folders whenever locks allow, and locks are let go after each folder: no moment is common to both.
#[test]
fn a_user_who_never_keeps_still_is_saved_folder_by_folder_and_it_is_told() {
    let (mut disk, mut host) = world();
    let running = Running::new(&disk, run_in_a_hurry);
    let mut flags = 0;
    let (_, report) = longest_hold(&mut disk, running, &mut |disk| {
        if !disk.is_locked(Root::Host) {
            flags ^= 1;
            host.folder(ANNA).flag(1, flags);
            host.folder("user.anna.Sent").flag(1, flags);
            host.publish(disk);
        }
    });
    assert!(report.unsettled && report.is_clean() && report.messages == 5, "{report:?}");
    is_good(&mut disk);
    let report = backup(&mut disk).unwrap();
    assert!(!report.unsettled && report.folders_changed == 2, "{report:?}");
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

/// A run before whose operation `at` something `happens`. How many operations it had, and what it came to.
fn run_while(disk: &mut SimDisk, at: u32, happens: impl FnOnce(&mut SimDisk)) -> (u32, Result<Report, Error>) {
    let (mut ops, mut running, mut happens) = (0, Running::new(disk, run), Some(happens));
    loop {
        ops += 1;
        if ops == at
            && let Some(happens) = happens.take()
        {
            happens(disk);
        }
        match running.step(disk, &mut |_, _| {}) {
            Step::Did => {}
            Step::Finished(report) => return (ops, report),
            Step::Crashed => unreachable!("no crash was planned"),
        }
    }
}

#[test]
fn every_moment_at_which_a_message_moves_leaves_it_in_one_of_the_folders() {
    let (disk, host) = world();
    for at in 1.. {
        let (mut disk, mut host) = (disk.clone(), host.clone());
        let (ops, report) = run_while(&mut disk, at, |disk| {
            // Cyrus would wait for the locks; an unlucky world does not even have them.
            let moved = host.folder(ANNA).messages.remove(0);
            host.folder(ANNA).modseq += 1;
            host.folder("user.anna.Sent").deliver(&moved.content);
            host.publish(disk);
        });
        let report = report.unwrap();
        if ops < at {
            assert!(at > 30, "{at}");
            return;
        }
        assert!(has(&mut disk, &story::mail(0, 500)), "moved before operation {at}: {report:?}");
        let report = backup(&mut disk).unwrap();
        assert!(report.is_clean(), "{report:?}");
        is_good(&mut disk);
    }
}

/// What was read of it before it went is forgotten: no message of it is asked for, and none is told to be missing.
#[test]
fn a_folder_that_goes_before_the_snapshot_is_whole_leaves_no_problem() {
    let (disk, host) = world();
    let mut went = 0;
    for at in 0.. {
        let (mut disk, mut host) = (disk.clone(), host.clone());
        let mut running = Running::new(&disk, run_in_a_hurry);
        if !running.go(&mut disk, at) {
            break;
        }
        host.folders.remove(ANNA);
        host.publish(&mut disk);
        let report = running.finish(&mut disk).unwrap();
        if table(&mut disk, When::Newest).folder(b"INBOX").is_none() {
            went += 1;
            assert!(report.is_clean(), "gone before operation {at}: {report:?}");
            assert_eq!(report.folders_changed, 1, "gone before operation {at}");
        }
    }
    assert!(went > 30, "{went}");
}

/// The same between the first hold and the second: nobody asks for its messages, so nothing makes the run look once more.
#[test]
fn what_was_read_of_a_folder_that_went_is_forgotten() {
    let (mut disk, mut host) = world();
    let mut running = Running::new(&disk, run_in_a_hurry);
    while !disk.clone().take_transcript().contains("close anna.lock") {
        assert!(running.go(&mut disk, 1));
    }
    host.folders.remove(ANNA);
    host.publish(&mut disk);
    disk.take_transcript();
    let report = running.finish(&mut disk).unwrap();
    assert!(report.is_clean() && report.folders_changed == 1, "{report:?}");
    let transcript = disk.take_transcript();
    assert_eq!(transcript.matches("read cyrus.index at").count(), 1, "{transcript}");
}

/// A run during which two things happen, each before an operation of that number.
fn run_while_two(disk: &mut SimDisk, ats: [u32; 2], mut happens: impl FnMut(&mut SimDisk, usize)) -> (u32, Report) {
    let (mut ops, mut running) = (0, Running::new(disk, run));
    loop {
        ops += 1;
        (0..2).filter(|&n| ats[n] == ops).for_each(|n| happens(disk, n));
        match running.step(disk, &mut |_, _| {}) {
            Step::Did => {}
            Step::Finished(report) => return (ops, report.unwrap_or_else(|e| panic!("{ats:?}: {e}"))),
            Step::Crashed => unreachable!("no crash was planned"),
        }
    }
}

/// Found by seed 28812 of the world: Sent, whose stamps were too young to tell, was looked at again and found unchanged; then
/// another folder was gone when its turn came, so that everything was looked at once more, and meanwhile Sent had been deleted
/// and made anew. It was in no snapshot: the old one had gone, and the new one counted as looked at.
#[test]
fn a_folder_made_anew_after_it_was_found_unchanged_is_in_the_snapshot() {
    const SENT: &str = "user.anna.Sent";
    const ZOO: &str = "user.anna.Zoo";
    let (mut disk, mut host) = (SimDisk::new(), Host::new());
    host.folder(ANNA).deliver(&story::mail(0, 500));
    host.folder(SENT).deliver(&story::mail(1, 500));
    host.folder(ZOO).deliver(&story::mail(2, 500));
    host.publish(&mut disk);
    drive(&mut disk, run).finished().unwrap();
    assert!(table(&mut disk, When::Newest).folders.iter().all(|row| row.young));
    for first in 1.. {
        for second in first.. {
            let (mut disk, mut host) = (disk.clone(), host.clone());
            let (ops, report) = run_while_two(&mut disk, [first, second], |disk, n| {
                let name = [ZOO, SENT][n];
                host.folders.remove(name);
                host.folder(name).id = format!("anotheruniqueidthatis{n}");
                host.folder(name).deliver(&story::mail(3 + n as u64, 500));
                host.publish(disk);
            });
            if ops < first {
                assert!(first > 60, "{first}");
                return;
            }
            if ops < second {
                break;
            }
            let found = table(&mut disk, When::Newest);
            assert!(found.folder(b"INBOX.Sent").is_some(), "before operations {first} and {second}: {report:?}");
            assert!(backup(&mut disk).unwrap().is_clean());
            let row = table(&mut disk, When::Newest).folder(b"INBOX.Sent").map(|row| (row.id.clone(), row.exists));
            assert_eq!(row, Some((b"anotheruniqueidthatis1".to_vec(), 1)), "before operations {first} and {second}");
        }
    }
}

/// Found by seed 29379 of the world: what the archive had of a folder that could not be read was looked up by its name alone. A
/// folder that had been renamed was lost, and one that had got its name stood there with the uniqueid of the other.
#[test]
fn a_folder_that_cannot_be_read_keeps_its_past_under_the_name_that_it_has_now() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    let id = table(&mut disk, When::Newest).folder(b"INBOX.Sent").unwrap().id.clone();
    let sent = host.folders.remove("user.anna.Sent").unwrap();
    host.folders.insert(String::from("user.anna.Filed"), sent);
    host.folder("user.anna.Sent").id = String::from("anotheruniqueidthatisnew");
    host.folder("user.anna.Sent").deliver(&story::mail(40, 500));
    host.publish(&mut disk);
    for unreadable in ["user.anna.Filed", "user.anna.Sent"] {
        let mut disk = disk.clone();
        disk.change_file(&host.meta_place(unreadable, "cyrus.index"), vec![0; 400]);
        let report = backup(&mut disk).unwrap();
        assert_eq!(report.problems_count, 1, "{unreadable}: {report:?}");
        let table = table(&mut disk, When::Newest);
        let found: Vec<(&[u8], bool)> = table.folders.iter().map(|row| (&row.name[..], row.id == id)).collect();
        // The new one, if it cannot be read, has no past.
        let all = [(&b"INBOX"[..], false), (b"INBOX.Filed", true), (b"INBOX.Sent", false)];
        let expected = if unreadable.ends_with("Filed") { &all[..] } else { &all[..2] };
        assert_eq!(found, expected, "{unreadable}");
        assert_eq!(table.folder(b"INBOX.Filed").unwrap().exists, 2);
    }
}

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
            assert!(backup(&mut world).unwrap().is_clean());
            assert_eq!(note_of(&mut world), notes[1], "operation {at}: {trouble:?}");
        }
    }
}

/// Life 11448: a folder could not be read; then a message of another one vanished, and all was read once more but for that
/// folder, of which nothing was said.
#[test]
fn a_folder_that_could_not_be_read_is_read_or_told_when_all_is_read_once_more() {
    let (mut disk, mut host) = world();
    backup(&mut disk).unwrap();
    host.folder(ANNA).deliver(&story::mail(40, 3000));
    let uid = host.folder("user.anna.Sent").deliver(&story::mail(41, 3000));
    host.publish(&mut disk);
    later(&mut disk, 100_000);
    let index = host.image(&host.meta_place(ANNA, "cyrus.index")).unwrap();
    let expected = Guid::of(index);
    // The operation that reads the new message of Sent.
    let reading = |mut disk: SimDisk| {
        let (mut reads, mut ops) = (None, 0);
        let outcome = drive_watched(&mut disk, run, &mut |disk, op| {
            ops += 1;
            if disk.describe(op) == format!("read {uid}.") {
                reads = Some(ops);
            }
        });
        outcome.finished().is_ok().then_some(reads).flatten()
    };
    let last = reading(disk.clone()).unwrap();
    let mut told = 0;
    for at in 1..last {
        let (mut disk, mut host) = (disk.clone(), host.clone());
        disk.plan(at, Trouble::Fail(Fault::Os(5)));
        let Some(reads) = reading(disk.clone()) else { continue };
        let (_, report) = run_while(&mut disk, reads, |disk| {
            let message = host.folder("user.anna.Sent").messages.last_mut().unwrap();
            (message.expunged, message.unlinked) = (true, true);
            host.folder("user.anna.Sent").modseq += 1;
            host.publish(disk);
        });
        let Ok(report) = report else { continue };
        let table = table(&mut disk, When::Newest);
        let is_read = table.folder(b"INBOX").unwrap().file("cyrus.index").unwrap().sha1 == expected;
        let is_told = report.problems.iter().any(|p| matches!(p, Problem::Folder { folder, .. } if folder == b"INBOX"));
        assert!(is_read || is_told, "operation {at}: {report:?}");
        told += u32::from(is_told);
    }
    assert!(told < 3, "{told} times INBOX could not be read, though it could be read later");
}
