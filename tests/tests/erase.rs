//! Erasing users and messages: all of it goes, nothing else does, it is written down first, and a hold forbids it.

use cylinder_core::archive::append::Mark;
use cylinder_core::compact::Settings;
use cylinder_core::compact::erase::{self, Erased};
use cylinder_core::compact::policy::Policy;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Place};
use cylinder_core::time::Span;
use cylinder_tests::crashes::{BRIEF, crashes, torn};
use cylinder_tests::drive::{Running, drive, drive_watched};
use cylinder_tests::life::{self, Life, archive, settings};
use cylinder_tests::story;

const INBOX: &str = "user.anna";

fn past() -> Life {
    let mut life = Life::new();
    for n in 0..6 {
        life.host.folder(INBOX).deliver(&story::mail(n, 900));
    }
    life.host.folder(INBOX).deliver(&story::mail(6, 1_500_000));
    life.backup();
    life.hours(24);
    life.host.folder("user.anna.Copy").deliver(&story::mail(2, 900));
    life.backup();
    life
}

async fn erase_user(io: Io) -> Result<Erased, Error> {
    erase::user(&io, &life::dir(), "anna", false).await
}

async fn erase_mail(io: Io, guids: Vec<Guid>) -> Result<Erased, Error> {
    erase::messages(&io, &life::dir(), "anna", &guids, &settings(Policy::EVERYTHING)).await
}

fn record(life: &Life) -> String {
    String::from_utf8_lossy(life.disk.content(&Place::store("erased")).unwrap_or_default()).into_owned()
}

#[test]
fn a_user_goes_with_everything_and_a_line_says_so() {
    let mut life = past();
    let head = life.head();
    life.disk.put_file(&life::dir().join(b"archive.tar.gz.aside-1-2-damaged"), b"mail".to_vec());
    life.disk.take_transcript();
    let erased = drive(&mut life.disk, erase_user).finished().expect("erased");
    assert_eq!(erased.files.len(), 3, "{erased:?}");
    // The archive says whether there is a hold, and the lock keeps others away, as long as anything is there.
    let transcript = life.disk.take_transcript();
    let removed = transcript.lines().filter_map(|line| line.split_once(" remove ")).map(|(_, name)| name);
    assert_eq!(
        removed.collect::<Vec<_>>(),
        ["archive.tar.gz.aside-1-2-damaged", "archive.tar.gz", "lock", "directory 2b/anna"]
    );
    assert_eq!(life.disk.store().keys().collect::<Vec<_>>(), ["erased"]);
    let line = record(&life);
    assert!(line.contains(&format!("user anna: 3 files, commit {} {}\n", head.commit.number, head.part.sha1)), "{line}");
    assert!(drive(&mut life.disk, erase_user).finished().is_err(), "there is nobody");
    assert_eq!(record(&life), line);
    // Somebody who comes again begins anew.
    life.hours(1);
    assert_eq!(life.backup().commit, Some(1));
}

#[test]
fn a_dry_run_tells_and_writes_nothing() {
    let mut life = past();
    let (guid, other) = (Guid::of(&story::mail(2, 900)), Guid::of(b"no mail"));
    let dry = Settings { dry_run: true, ..settings(Policy::EVERYTHING) };
    let (before, changes) = (life.disk.store(), life.disk.changes());
    let user = drive(&mut life.disk, |io: Io| async move { erase::user(&io, &life::dir(), "anna", true).await });
    let user = user.finished().expect("a survey");
    let mail =
        drive(&mut life.disk, |io: Io| async move { erase::messages(&io, &life::dir(), "anna", &[guid, other], &dry).await });
    let mail = mail.finished().expect("a survey");
    assert_eq!(life.disk.store(), before);
    assert_eq!(life.disk.changes(), changes);
    assert_eq!(drive(&mut life.clone().disk, erase_user).finished(), Ok(user));
    assert_eq!(drive(&mut life.disk, |io| erase_mail(io, vec![guid, other])).finished(), Ok(mail));
}

#[test]
fn no_crash_while_a_user_is_erased_leaves_half_an_archive() {
    let life = past();
    let mut old = life.clone();
    let before = old.snapshots();
    let (mut disk, mut points) = (life.disk.clone(), Vec::new());
    drive_watched(&mut disk, erase_user, &mut |disk, op| {
        points.push(disk.clone());
        points.extend(torn(disk, op));
    })
    .finished()
    .expect("erased");
    points.push(disk);
    let (mut whole, mut gone) = (0, 0);
    for point in points {
        for (how, disk) in crashes(&point, BRIEF) {
            let mut life = Life { disk, host: life.host.clone() };
            if life.disk.content(&archive()).is_some() {
                whole += 1;
                assert_eq!(life.snapshots(), before, "{how}");
            } else {
                gone += 1;
                assert!(record(&life).contains("user anna"), "{how}: nobody knows where the archive went");
            }
            let again = drive(&mut life.disk, erase_user).finished();
            let nobody = !life.disk.store().keys().any(|name| name.contains("/anna/"));
            assert!(nobody, "{how}: {again:?}");
        }
    }
    assert!(whole > 10 && gone > 3, "{whole}, {gone}");
}

/// A backup run has opened the lock file when an erasure removes it, and another run begins anew with a lock file of its own:
/// the first has a lock that keeps nobody away, and must not write. It comes to its lock after each operation of the other.
#[test]
fn who_has_locked_a_file_that_was_erased_does_not_write() {
    let mut base = past();
    base.host.folder(INBOX).deliver(&story::mail(97, 400));
    base.host.publish(&mut base.disk);
    base.hours(1);
    base.disk.take_transcript();
    let until_opened = |life: &mut Life| {
        let mut slow = Running::new(&life.disk, life::backup);
        while !life.disk.clone().take_transcript().contains("open or create lock") {
            assert!(slow.go(&mut life.disk, 1));
        }
        slow
    };
    let (mut busy, mut begun_anew) = (0, 0);
    for ops in 0.. {
        let mut life = base.clone();
        let mut slow = until_opened(&mut life);
        drive(&mut life.disk, erase_user).finished().expect("erased");
        let mut quick = Running::new(&life.disk, life::backup);
        if !quick.go(&mut life.disk, ops) {
            break;
        }
        let slow = slow.finish(&mut life.disk);
        assert!(matches!(slow, Err(Error::Busy { .. })), "{ops}: {slow:?}");
        busy += 1;
        begun_anew += u64::from(life.disk.content(&archive()).is_some());
        let report = quick.finish(&mut life.disk).expect("a first backup");
        assert_eq!(report.commit, Some(1), "{ops}");
        life.is_good();
        assert_eq!(life.newest().folders["INBOX"].len(), 8, "{ops}");
    }
    assert!(busy > begun_anew && begun_anew > 10, "{busy}, {begun_anew}");
}

/// Between the end of the lock file and that of its directory, a backup run has made a lock file anew: nothing of the old is
/// left, and the new one is not in the way.
#[test]
fn who_begins_anew_before_the_directory_is_gone_keeps_it() {
    let mut life = past();
    let mut erasing = Running::new(&life.disk, erase_user);
    while !life.disk.clone().take_transcript().contains("remove lock") {
        assert!(erasing.go(&mut life.disk, 1));
    }
    let mut anew = life.clone();
    assert_eq!(anew.backup().commit, Some(1));
    let (snapshots, store) = (anew.snapshots(), anew.disk.store());
    assert_eq!(erasing.finish(&mut anew.disk).expect("erased").files.len(), 2);
    assert_eq!(anew.disk.store(), store);
    assert_eq!(anew.snapshots(), snapshots);
    anew.is_good();
}

#[test]
fn a_message_goes_from_every_snapshot_and_nothing_else_does() {
    for n in [2, 6] {
        let mut life = past();
        let content = if n == 6 { story::mail(6, 1_500_000) } else { story::mail(n, 900) };
        let (guid, other) = (Guid::of(&content), Guid::of(b"no mail"));
        let (before, len, head) = (life.numbers(), life.archive_len(), life.head());
        let erased = drive(&mut life.disk, |io| erase_mail(io, vec![guid, other])).finished().expect("erased");
        assert_eq!((erased.messages, erased.unknown), (vec![guid], vec![other]));
        assert_eq!(erased.head, Some((head.commit.number, head.part.sha1)));
        life.is_good();
        assert_eq!(life.numbers(), before);
        assert!(life.archive_len() < len - 300);
        let why = drive(&mut life.disk, life::snapshots).finished().expect_err("a message that is gone");
        assert!(why.to_string().contains(&format!("{guid} is not there")), "{why}");
        assert!(record(&life).contains(&format!("messages of anna: {guid};")));
        // On the server it is gone as well: the next run has nothing to say about it.
        for folder in life.host.folders.values_mut() {
            folder.messages.retain(|m| *m.content != content);
            folder.modseq += 1;
        }
        let report = life.backup();
        assert!(report.is_clean() && report.messages_added == 0, "{report:?}");
        life.disk.wait_until(life.disk.now().plus(Span::from_secs(1)));
        life.compact(&settings(Policy::parse("keep-within 0h").expect("a policy")));
        assert_eq!(life.snapshots()[&3].folders, life.folders());
    }
}

#[test]
fn a_hold_forbids_both() {
    let mut life = past();
    life.mark(Mark::Hold);
    let before = life.disk.store();
    let guid = Guid::of(&story::mail(2, 900));
    let refused = |result: Result<Erased, Error>| matches!(result, Err(Error::Refused(why)) if why.contains("on hold since"));
    assert!(refused(drive(&mut life.disk, erase_user).finished()));
    assert!(refused(drive(&mut life.disk, |io| erase_mail(io, vec![guid])).finished()));
    assert_eq!(life.disk.store(), before);
}

#[test]
fn a_message_that_a_file_beside_the_archive_may_have_is_not_called_erased() {
    let mut life = past();
    life.disk.put_file(&life::dir().join(b"archive.tar.gz.aside-1-2-damaged"), b"mail".to_vec());
    let guid = Guid::of(&story::mail(2, 900));
    let why = drive(&mut life.disk, |io| erase_mail(io, vec![guid])).finished().expect_err("refused");
    assert!(why.to_string().contains("aside-1-2-damaged may have it too"), "{why}");
}
