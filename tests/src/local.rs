//! A host and a store on one simulated disk, and backups of anna from the one into the other.

use crate::disk::SimDisk;
use crate::drive::{Running, Step, drive};
use crate::host::Host;
use crate::story;
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::record::Table;
use cylinder_core::archive::verify::verify;
use cylinder_core::backup::report::Report;
use cylinder_core::backup::{self, Settings};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::Io;
use cylinder_core::pull::Origin;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::store::archive_dir;
use cylinder_core::time::Span;
use cylinder_core::view::{self, When};

/// Anna's INBOX on the host.
pub const ANNA: &str = "user.anna";

/// Whose mail it is.
pub fn anna() -> Owner {
    Owner::User(b"anna".to_vec())
}

/// How it is saved.
pub fn settings() -> Settings {
    Settings {
        archive: story::settings(),
        source: String::from("local:test"),
        adopt: false,
        archive_id: *b"sixteen bytes id",
        read_rate: 0,
    }
}

/// Backs anna up, from the host into the store.
pub async fn run(io: Io) -> Result<Report, Error> {
    run_with(io, Patience::default()).await
}

/// The same with another patience.
pub async fn run_with(io: Io, patience: Patience) -> Result<Report, Error> {
    let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    let mut site = Site::open(&io, conf, None, Locking::AsServer, patience).await?;
    backup::run(&io, &mut Origin::Local(&mut site), &anna(), &archive_dir(&anna())?, &settings()).await
}

/// The same, a second later.
pub fn backup(disk: &mut SimDisk) -> Result<Report, Error> {
    later(disk, 1000);
    drive(disk, run).finished()
}

/// Lets so many milliseconds pass.
pub fn later(disk: &mut SimDisk, ms: i64) {
    disk.wait_until(disk.now().plus(Span::from_ms(ms)));
}

/// The folder table of a snapshot.
pub fn table(disk: &mut SimDisk, when: When) -> Table {
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let at = view::snapshot(&reader, when).await?;
        let table = reader.table(&at).await;
        reader.close().await;
        table
    };
    drive(disk, procedure).finished().expect("a table")
}

/// Whether the archive has a message of this content.
pub fn has(disk: &mut SimDisk, content: &[u8]) -> bool {
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

/// Panics if `verify` finds anything, or if a file is still open.
pub fn is_good(disk: &mut SimDisk) {
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
pub fn world() -> (SimDisk, Host) {
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

/// A run before whose operation `at` something `happens`. How many operations it had, and what it came to.
pub fn run_while(disk: &mut SimDisk, at: u32, happens: impl FnOnce(&mut SimDisk)) -> (u32, Result<Report, Error>) {
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
