//! The procedures of the core that a life calls, each as an actor of [`super::stage`], and the questions that checks ask.

use super::life::{Kind, Traits};
use super::stage::Actor;
use crate::disk::SimDisk;
use crate::life::{self, anna, dir};
use crate::story;
use cylinder_core::archive::append::{self, Mark, Writer};
use cylinder_core::archive::read::{CommitAt, End, Reader};
use cylinder_core::archive::record::{CommitKind, Table};
use cylinder_core::archive::verify::{Verdict, verify};
use cylinder_core::backup::report::Report;
use cylinder_core::backup::{self, Settings};
use cylinder_core::compact::policy::Policy;
use cylinder_core::compact::{self, Outcome};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, StreamId};
use cylinder_core::pull::Origin;
use cylinder_core::pull::native::{Greeted, connect};
use cylinder_core::pull::stock;
use cylinder_core::serve;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::time::Span;
use cylinder_core::wire::ANSWER_LINE_MAX;
use cylinder_core::wire::stream::{Limits, Stream};
use std::collections::BTreeMap;

/// What an actor ended with.
#[derive(Debug)]
pub enum Ended {
    /// A backup.
    Backup(Result<Report, Error>),
    /// A compaction.
    Compacted(Result<Outcome, Error>),
    /// A server, whose end is nobody's concern.
    Served,
    /// A reader: all snapshots with all that they have.
    Read(Result<BTreeMap<u64, life::State>, Error>),
}

/// How this world writes archives.
pub fn settings(traits: &Traits) -> append::Settings {
    append::Settings { level: traits.level, checkpoint_bytes: traits.checkpoint, ahead: traits.ahead, ..story::settings() }
}

fn backup_settings(traits: &Traits) -> Settings {
    let source = String::from("world");
    Settings { archive: settings(traits), source, adopt: false, archive_id: *b"sixteen bytes id", read_rate: 0 }
}

fn limits() -> Limits {
    Limits { line: ANSWER_LINE_MAX, stall: Span::from_secs(60), bytes_per_second: 0 }
}

async fn site(io: &Io) -> Result<Site, Error> {
    let conf = config::load(io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    Site::open(io, conf, None, Locking::AsServer, Patience::default()).await
}

async fn local(io: Io, settings: Settings) -> Ended {
    let run = async {
        let mut site = site(&io).await?;
        backup::run(&io, &mut Origin::Local(&mut site), &anna(), &dir(), &settings).await
    };
    Ended::Backup(run.await)
}

async fn native(io: Io, settings: Settings) -> Ended {
    let run = async {
        let mut client = match connect(&io, "imap1", limits()).await? {
            Greeted::Native(client) => client,
            _ => return Err(Error::Refused(String::from("the server does not say that it is one"))),
        };
        let report = backup::run(&io, &mut Origin::Native(&mut client), &anna(), &dir(), &settings).await;
        client.close().await;
        report
    };
    Ended::Backup(run.await)
}

async fn stock(io: Io, settings: Settings) -> Ended {
    let run = async {
        let mut client = stock::Client::new(Stream::connect(&io, "imap1", limits()).await?, b"imap1")?;
        let report = backup::run(&io, &mut Origin::Stock(&mut client), &anna(), &dir(), &settings).await;
        client.close().await;
        report
    };
    Ended::Backup(run.await)
}

async fn server(io: Io) -> Ended {
    let settings = serve::Settings {
        servername: b"imap1".to_vec(),
        software: String::from("cylinder test"),
        idle: Span::from_secs(600),
        stall: Span::from_secs(60),
        users: Vec::new(),
    };
    if let Ok(mut site) = site(&io).await {
        // Whatever came of it, the client tells.
        let _ = serve::serve(&io, &mut site, StreamId(1), "client", &settings).await;
    }
    Ended::Served
}

/// Those who take part in a backup into a store on this disk. The mail server's disk is the first.
pub fn backup(disks: &[SimDisk], disk: usize, kind: Kind, traits: &Traits) -> Vec<Actor<Ended>> {
    let settings = backup_settings(traits);
    match kind {
        Kind::Local => vec![Actor::new(disks, 0, None, |io| local(io, settings))],
        Kind::Native => {
            vec![Actor::new(disks, disk, Some(0), |io| native(io, settings)), Actor::new(disks, 0, Some(1), server)]
        }
        Kind::Stock => vec![Actor::new(disks, disk, Some(0), |io| stock(io, settings)), Actor::new(disks, 0, Some(1), server)],
    }
}

/// How an archive of this world is compacted.
pub fn compaction(traits: &Traits, policy: &str, if_needed: bool) -> compact::Settings {
    let policy = Policy::parse(policy).expect("a policy");
    compact::Settings { archive: settings(traits), if_needed, ..life::settings(policy) }
}

/// Somebody who compacts.
pub fn compact(disks: &[SimDisk], disk: usize, settings: compact::Settings) -> Actor<Ended> {
    Actor::new(disks, disk, None, |io| async move { Ended::Compacted(compact::run(&io, &dir(), &settings).await) })
}

/// Somebody who reads everything.
pub fn reader(disks: &[SimDisk], disk: usize) -> Actor<Ended> {
    Actor::new(disks, disk, None, |io| async move { Ended::Read(life::snapshots(io).await) })
}

/// Opens the archive for writing, which mends it, and closes it.
pub async fn reopen(io: Io, settings: append::Settings) -> Result<(), Error> {
    let writer = Writer::open(&io, &dir(), &settings, *b"sixteen bytes id").await?;
    writer.close().await;
    Ok(())
}

/// Writes a mark down.
pub async fn mark(io: Io, settings: append::Settings, mark: Mark) -> Result<(), Error> {
    let mut writer = Writer::from_reader(Reader::open(&io, &dir()).await?, &settings).await?;
    let marked = writer.mark(mark, io.now()).await;
    writer.close().await;
    marked.map(drop)
}

/// What an archive says of itself.
pub struct Look {
    /// The newest commit.
    pub head: CommitAt,
    /// How it ends.
    pub end: End,
    /// Snapshots with their tables, oldest first, that came after the commit which was asked for.
    pub snapshots: Vec<(CommitAt, Table)>,
    /// SHA-1s of the messages that came after it.
    pub messages: Vec<Guid>,
    /// True if that commit is in the archive.
    pub is_later: bool,
}

/// What came after the commit whose record has this SHA-1; all if there is none.
pub async fn look(io: Io, since: Option<Guid>) -> Result<Look, Error> {
    let reader = Reader::open(&io, &dir()).await?;
    let result = look_at(&reader, since).await;
    reader.close().await;
    result
}

async fn look_at(reader: &Reader, since: Option<Guid>) -> Result<Look, Error> {
    let (snapshots, messages) = (Vec::new(), Vec::new());
    let mut look = Look { head: reader.head().clone(), end: reader.end(), snapshots, messages, is_later: false };
    let mut next = Some(look.head.clone());
    while let Some(at) = next {
        if Some(at.part.sha1) == since {
            look.is_later = true;
            break;
        }
        look.messages.extend(reader.messages(&at).await?.iter().map(|message| message.guid));
        next = reader.previous(&at).await?;
        if at.commit.kind == CommitKind::Snapshot {
            let table = reader.table(&at).await?;
            look.snapshots.push((at, table));
        }
    }
    look.snapshots.reverse();
    Ok(look)
}

/// What verify says.
pub async fn verdict(io: Io) -> Result<(Verdict, End), Error> {
    let reader = Reader::open(&io, &dir()).await?;
    let (verdict, end) = (verify(&io, &reader, 2).await, reader.end());
    reader.close().await;
    Ok((verdict?, end))
}
