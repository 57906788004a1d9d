//! Backups of Cyrus 2.3, of which no Debian has a package any more: what is in cyrus.expunge, and the locks of that version.

use cylinder_core::archive::read::Reader;
use cylinder_core::backup;
use cylinder_core::backup::report::Report;
use cylinder_core::compact::policy::Policy;
use cylinder_core::compact::{self, Outcome};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::error::Error;
use cylinder_core::io::{Io, Op};
use cylinder_core::pull::Origin;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::store::archive_dir;
use cylinder_core::view::{self, When};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::{Running, drive, drive_watched};
use cylinder_tests::host::Host;
use cylinder_tests::local::{ANNA, anna, has, is_good, later, settings, table};
use cylinder_tests::{life, story};

async fn run(io: Io) -> Result<Report, Error> {
    let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V2_3).await?;
    let mut site = Site::open(&io, conf, Some(VersionLine::V2_3), Locking::AsServer, Patience::default()).await?;
    backup::run(&io, &mut Origin::Local(&mut site), &anna(), &archive_dir(&anna())?, &settings()).await
}

/// Four messages, of which the second is expunged; the index has SHA-1s from version 10 on.
fn world(minor_version: u32) -> (SimDisk, Host) {
    let (mut disk, mut host) = (SimDisk::new(), Host::new());
    let inbox = host.folder(ANNA);
    (inbox.minor_version, inbox.by_name, inbox.expunge_file) = (minor_version, true, true);
    for n in 0..4 {
        inbox.deliver(&story::mail(n, 500));
    }
    inbox.messages[1].expunged = true;
    host.publish(&mut disk);
    later(&mut disk, 10_000);
    (disk, host)
}

fn is_expunged(disk: &mut SimDisk) -> Vec<(u32, bool)> {
    let row = table(disk, When::Newest).folder(b"INBOX").expect("INBOX").clone();
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let view = view::folder(&reader, &row).await;
        reader.close().await;
        view
    };
    drive(disk, procedure).finished().expect("a folder").messages.iter().map(|m| (m.record.uid.0, m.is_expunged)).collect()
}

#[test]
fn what_is_in_cyrus_expunge_is_saved_and_listed_and_survives_a_compaction() {
    for minor_version in [9, 10] {
        let (mut disk, mut host) = world(minor_version);
        let report = drive(&mut disk, run).finished().expect("a run");
        assert_eq!((report.messages, report.messages_added, report.problems_count), (3, 4, 0), "{report:?}");
        let row = table(&mut disk, When::Newest).folder(b"INBOX").expect("INBOX").clone();
        assert_eq!((row.exists, row.expunged, row.file("cyrus.expunge").is_some()), (3, 1, true));
        assert_eq!(is_expunged(&mut disk), [(1, false), (2, true), (3, false), (4, false)]);
        // The first one goes for good; what is expunged stays, and another one is.
        host.folder(ANNA).messages.remove(0);
        host.folder(ANNA).messages[1].expunged = true;
        host.folder(ANNA).modseq += 1;
        host.publish(&mut disk);
        later(&mut disk, 10_000);
        let report = drive(&mut disk, run).finished().expect("a run");
        assert_eq!((report.messages_added, report.problems_count), (0, 0), "{report:?}");
        let drop_all = life::settings(Policy::parse("keep-within 0h").expect("a policy"));
        let dir = archive_dir(&anna()).expect("a userid");
        let compacting = async |io: Io| compact::run(&io, &dir, &drop_all).await;
        let outcome = drive(&mut disk, compacting).finished().expect("a compaction");
        assert!(matches!(outcome, Outcome::Done(..)), "{outcome:?}");
        let there = [0, 1, 2, 3].map(|n| has(&mut disk, &story::mail(n, 500)));
        assert_eq!(there, [false, true, true, true], "version {minor_version}");
        assert_eq!(is_expunged(&mut disk), [(2, true), (3, true), (4, false)]);
        is_good(&mut disk);
        // All is unlinked, and the file is gone.
        host.folder(ANNA).messages.drain(..2);
        host.publish(&mut disk);
        later(&mut disk, 10_000);
        drive(&mut disk, run).finished().expect("a run");
        assert!(table(&mut disk, When::Newest).folder(b"INBOX").expect("INBOX").file("cyrus.expunge").is_none());
        is_good(&mut disk);
    }
}

/// 2.3 locks cyrus.header before cyrus.index, and has neither namelocks nor locks of users (`imap/mailbox.c`).
#[test]
fn the_locks_are_those_of_that_version() {
    let (mut disk, _) = world(10);
    let mut locked = Vec::new();
    let outcome = drive_watched(&mut disk, run, &mut |disk, op| {
        if let Op::Lock { .. } = op {
            locked.push(disk.describe(op));
        }
    });
    assert!(outcome.finished().expect("a run").is_clean());
    locked.retain(|lock| !lock.contains(".db"));
    assert_eq!(locked, ["lock lock exclusive", "lock cyrus.header shared", "lock cyrus.index shared"]);
}

/// There is no lock that covers both folders: whoever has read them looks whether anything has changed meanwhile.
#[test]
fn without_a_lock_of_the_user_a_message_that_moves_is_in_one_of_the_folders_at_every_moment() {
    const SENT: &str = "user.anna.Sent";
    let (mut disk, mut host) = world(10);
    let sent = host.folder(SENT);
    (sent.minor_version, sent.by_name, sent.expunge_file) = (10, true, true);
    sent.deliver(&story::mail(9, 500));
    host.publish(&mut disk);
    later(&mut disk, 10_000);
    for at in 0.. {
        let (mut disk, mut host) = (disk.clone(), host.clone());
        let mut running = Running::new(&disk, run);
        if !running.go(&mut disk, at) {
            assert!(at > 30, "{at}");
            return;
        }
        // From the folder that is read last to the one that is read first.
        let moved = host.folder(SENT).messages.remove(0);
        host.folder(SENT).modseq += 1;
        host.folder(ANNA).deliver(&moved.content);
        host.publish(&mut disk);
        let report = running.finish(&mut disk).expect("a run");
        let newest = table(&mut disk, When::Newest);
        let there: u64 = newest.folders.iter().map(|row| row.exists).sum();
        assert!(there >= 4 && report.is_clean(), "moved before operation {at}: {report:?}");
        assert!(has(&mut disk, &story::mail(9, 500)), "moved before operation {at}");
    }
}
