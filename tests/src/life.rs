//! One user's life on a simulated host, and what an archive says of it: everything that each snapshot has, read back through
//! the archive and nothing else.

use crate::disk::SimDisk;
use crate::drive::drive;
use crate::host::Host;
use crate::story;
use cylinder_core::archive::append::{Mark, Writer};
use cylinder_core::archive::read::{CommitAt, Reader};
use cylinder_core::archive::record::StateContent;
use cylinder_core::archive::verify::verify;
use cylinder_core::backup::report::Report;
use cylinder_core::backup::{self, Settings};
use cylinder_core::compact::policy::Policy;
use cylinder_core::compact::{self, Outcome};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Place};
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::store::archive_dir;
use cylinder_core::time::Span;
use cylinder_core::view;
use std::collections::{BTreeMap, BTreeSet};

/// More than any entry of these tests.
const ENTRY_MAX: u64 = 16 << 20;

/// A message as a snapshot has it: SHA-1, flags, expunged.
pub type Held = (Guid, Vec<String>, bool);

/// What one snapshot has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Messages by UID of each folder.
    pub folders: BTreeMap<String, BTreeMap<u32, Held>>,
    /// SHA-1s of the other files by name; those of links are of their targets.
    pub states: BTreeMap<String, Guid>,
    /// SHA-1s of the folders' metadata files.
    pub metadata: BTreeMap<String, Guid>,
}

/// The user whose life it is.
pub fn anna() -> Owner {
    Owner::User(b"anna".to_vec())
}

/// The directory of the user's archive.
pub fn dir() -> Place {
    archive_dir(&anna()).expect("a userid")
}

/// The user's archive.
pub fn archive() -> Place {
    dir().join(b"archive.tar.gz")
}

/// A run of `backup`, as a procedure.
pub async fn backup(io: Io) -> Result<Report, Error> {
    let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    let mut site = Site::open(&io, conf, None, Locking::AsServer, Patience::default()).await?;
    let settings =
        Settings { archive: story::settings(), source: String::from("local:test"), archive_id: *b"sixteen bytes id" };
    backup::run(io, &mut site, &anna(), &dir(), &settings).await
}

/// How the tests compact: at once, whatever the share.
pub fn settings(policy: Policy) -> compact::Settings {
    compact::Settings {
        archive: story::settings(),
        policy,
        if_needed: false,
        floor: compact::Settings::FLOOR,
        rise: compact::Settings::RISE,
        dry_run: false,
        check: true,
    }
}

/// A disk with a host and an archive on it.
#[derive(Clone)]
pub struct Life {
    /// The disk.
    pub disk: SimDisk,
    /// The host.
    pub host: Host,
}

impl Default for Life {
    fn default() -> Life {
        Life::new()
    }
}

impl Life {
    /// A host where nobody has a mailbox.
    pub fn new() -> Life {
        let mut disk = SimDisk::new();
        // A stamp with a part below the second: this file system is not one of whole seconds.
        disk.wait_until(disk.now().plus(Span::from_ms(123)));
        Life { disk, host: Host::new() }
    }

    /// Lets so many hours pass.
    pub fn hours(&mut self, n: i64) {
        self.disk.wait_until(self.disk.now().plus(Span::from_secs(n * 3600)));
    }

    /// Shows what has changed on the host, and backs it up.
    #[track_caller]
    pub fn backup(&mut self) -> Report {
        self.host.publish(&mut self.disk);
        self.disk.wait_until(self.disk.now().plus(Span::from_ms(5000)));
        drive(&mut self.disk, backup).finished().unwrap_or_else(|e| panic!("backup: {e}"))
    }

    /// Compacts.
    #[track_caller]
    pub fn compact(&mut self, settings: &compact::Settings) -> Outcome {
        drive(&mut self.disk, |io: Io| compacting(io, settings.clone()))
            .finished()
            .unwrap_or_else(|e| panic!("compaction: {e}"))
    }

    /// Writes a mark down.
    #[track_caller]
    pub fn mark(&mut self, mark: Mark) {
        let procedure = async |io: Io| {
            let mut writer = Writer::open(&io, &dir(), &story::settings(), [0; 16]).await?;
            let marked = writer.mark(mark, io.now()).await;
            writer.close().await;
            marked.map(drop)
        };
        drive(&mut self.disk, procedure).finished().unwrap_or_else(|e: Error| panic!("{mark:?}: {e}"));
    }

    /// The newest commit.
    #[track_caller]
    pub fn head(&mut self) -> CommitAt {
        let procedure = async |io: Io| {
            let reader = Reader::open(&io, &dir()).await?;
            let head = reader.head().clone();
            reader.close().await;
            Ok::<_, Error>(head)
        };
        drive(&mut self.disk, procedure).finished().expect("an archive")
    }

    /// Everything that every snapshot has.
    #[track_caller]
    pub fn snapshots(&mut self) -> BTreeMap<u64, State> {
        drive(&mut self.disk, snapshots).finished().unwrap_or_else(|e| panic!("reading back: {e}"))
    }

    /// The length of the archive.
    pub fn archive_len(&self) -> usize {
        self.disk.content(&archive()).map_or(0, <[u8]>::len)
    }

    /// Nothing is wrong with the archive, and no file is open.
    #[track_caller]
    pub fn is_good(&mut self) {
        let procedure = async |io: Io| {
            let reader = Reader::open(&io, &dir()).await?;
            let verdict = verify(&io, &reader, 3).await;
            reader.close().await;
            verdict
        };
        let verdict = drive(&mut self.disk, procedure).finished().expect("a verdict");
        assert!(verdict.is_good(), "{:#?}", verdict.findings);
        assert_eq!(self.disk.open_files(), 0);
    }
}

/// A compaction, as a procedure.
pub async fn compacting(io: Io, settings: compact::Settings) -> Result<Outcome, Error> {
    compact::run(&io, &dir(), &settings).await
}

/// Everything that every snapshot has, read as a procedure. Each message that a snapshot names must be there, whole.
pub async fn snapshots(io: Io) -> Result<BTreeMap<u64, State>, Error> {
    let reader = Reader::open(&io, &dir()).await?;
    let all = read_all(&reader).await;
    reader.close().await;
    all
}

async fn read_all(reader: &Reader) -> Result<BTreeMap<u64, State>, Error> {
    let mut whole = BTreeSet::new();
    for message in reader.all_messages().await?.0 {
        let content = reader.read_entry(message.at, ENTRY_MAX).await?;
        if Guid::of(&content) == message.guid && content.len() as u64 == message.size {
            whole.insert(message.guid);
        }
    }
    let mut all = BTreeMap::new();
    for at in view::snapshots(reader).await? {
        all.insert(at.commit.number, read(reader, &at, &whole).await?);
    }
    Ok(all)
}

async fn read(reader: &Reader, at: &CommitAt, whole: &BTreeSet<Guid>) -> Result<State, Error> {
    let mut state = State::default();
    let table = reader.table(at).await?;
    for row in &table.folders {
        let name = String::from_utf8_lossy(&row.name).into_owned();
        let mut messages = BTreeMap::new();
        for m in view::folder(reader, row).await?.messages {
            if !m.is_unlinked && !whole.contains(&m.guid) {
                let number = at.commit.number;
                return Err(Error::Refused(format!("snapshot {number}, {name} UID {}: {} is not there", m.record.uid, m.guid)));
            }
            let flags = m.flags.iter().map(|flag| String::from_utf8_lossy(flag).into_owned()).collect();
            messages.insert(m.record.uid.0, (m.guid, flags, m.is_expunged));
        }
        for file in &row.files {
            let content = view::meta(reader, row, &file.name).await?.unwrap_or_default();
            state.metadata.insert(format!("{name} {}", file.name), Guid::of(&content));
        }
        state.folders.insert(name, messages);
    }
    for row in &table.states {
        let sha1 = match &row.content {
            StateContent::File { .. } => Guid::of(&view::state(reader, &table, &row.name).await?.unwrap_or_default()),
            StateContent::Link { target, .. } => Guid::of(target),
        };
        state.states.insert(String::from_utf8_lossy(&row.name).into_owned(), sha1);
    }
    Ok(state)
}
