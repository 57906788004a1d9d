//! A host and a backup host that pulls anna from it over the native dialect, both simulated.

use crate::disk::SimDisk;
use crate::drive::drive;
use crate::host::Host;
use crate::local::{ANNA, anna, later, run, settings};
use crate::net::{Net, join};
use crate::story;
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::record::{Slot, StateContent, Table};
use cylinder_core::archive::verify::verify;
use cylinder_core::backup;
use cylinder_core::backup::report::Report;
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::error::Error;
use cylinder_core::io::{Io, StreamId};
use cylinder_core::pull::Origin;
use cylinder_core::pull::native::{Greeted, connect};
use cylinder_core::serve;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::store::archive_dir;
use cylinder_core::time::Span;
use cylinder_core::wire::ANSWER_LINE_MAX;
use cylinder_core::wire::stream::Limits;
use std::collections::BTreeMap;

/// How long the client waits for the server, and how much it takes from it.
pub fn limits() -> Limits {
    Limits { line: ANSWER_LINE_MAX, stall: Span::from_secs(60), bytes_per_second: 0 }
}

/// How the server serves.
pub fn serving() -> serve::Settings {
    serve::Settings {
        servername: b"imap1".to_vec(),
        software: String::from("cylinder test"),
        idle: Span::from_secs(600),
        stall: Span::from_secs(60),
        users: Vec::new(),
    }
}

/// Serves one connection.
pub async fn server(io: Io, settings: serve::Settings) -> Result<(), Error> {
    let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    let mut site = Site::open(&io, conf, None, Locking::AsServer, Patience::default()).await?;
    serve::serve(&io, &mut site, StreamId(1), "client", &settings).await
}

/// A pull of anna, and the round trips that it took.
pub async fn pull(io: Io) -> Result<(Report, u64), Error> {
    let Greeted::Native(mut client) = connect(&io, "imap1", limits()).await? else { panic!("a native server") };
    let report = backup::run(&io, &mut Origin::Native(&mut client), &anna(), &archive_dir(&anna())?, &settings()).await;
    let trips = client.round_trips();
    client.close().await;
    Ok((report?, trips))
}

/// Two hosts, of which the one backs up the other.
pub struct World {
    /// The host's disk.
    pub there: SimDisk,
    /// The backup host's disk.
    pub here: SimDisk,
    /// What is published on the host.
    pub host: Host,
}

impl Default for World {
    fn default() -> World {
        World::new()
    }
}

impl World {
    /// A host with an INBOX of three messages and a folder of two, one of them a copy.
    pub fn new() -> World {
        let mut world = World { there: SimDisk::new(), here: SimDisk::new(), host: Host::new() };
        later(&mut world.there, 123);
        for n in 0..3 {
            world.host.folder(ANNA).deliver(&story::mail(n, 500));
        }
        world.host.folder("user.anna.Sent").deliver(&story::mail(2, 500));
        world.host.folder("user.anna.Sent").deliver(&story::mail(9, 100_000));
        world.host.folder("user.bob").deliver(&story::mail(77, 100));
        world.host.publish(&mut world.there);
        world.settle();
        world
    }

    /// Lets a second pass on both hosts, whose clocks agree from then on.
    pub fn settle(&mut self) {
        later(&mut self.there, 1000);
        let now = self.there.now();
        self.here.wait_until(now);
        self.there.wait_until(self.here.now());
    }

    /// Pulls anna, and says how many round trips it took.
    pub fn pull(&mut self, net: &mut Net) -> Result<(Report, u64), Error> {
        self.settle();
        join(&mut self.here, &mut self.there, net, pull, |io| server(io, serving()))
    }

    /// The same from the host itself, which has a store of its own.
    pub fn local(&mut self) -> Result<Report, Error> {
        self.settle();
        drive(&mut self.there, run).finished()
    }
}

/// What an archive has: its newest table without the places, and all entries.
pub fn content(disk: &mut SimDisk) -> (Table, BTreeMap<String, Vec<u8>>) {
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let verdict = verify(&io, &reader, 3).await?;
        assert!(verdict.is_good(), "{:#?}", verdict.findings);
        let mut table = reader.table(reader.head()).await?;
        let mut entries = BTreeMap::new();
        for row in &table.folders {
            for file in &row.files {
                let at = file.at.location().expect("a place");
                entries.insert(format!("{:?}/{}", row.name, file.name), reader.read_entry(at, 1 << 30).await?);
            }
        }
        for row in &mut table.folders {
            row.files.iter_mut().for_each(|file| file.at = Slot::Pending(0));
        }
        for row in &mut table.states {
            match &mut row.content {
                StateContent::File { at, .. } | StateContent::Link { at, .. } => *at = Slot::Pending(0),
            }
        }
        for guid in reader.catalogue().await?.0.guids() {
            let at = reader.locate(guid).await?.expect("a message");
            entries.insert(format!("files/{guid}"), reader.read_entry(at.at, 1 << 30).await?);
        }
        reader.close().await;
        Ok::<_, Error>((table, entries))
    };
    drive(disk, procedure).finished().expect("an archive")
}
