//! One user's life on a simulated host, and what an archive says of it: everything that each snapshot has, read back through
//! the archive and nothing else.

use crate::choose::{Choose, Sampler};
use crate::disk::SimDisk;
use crate::drive::drive;
use crate::host::{Folder, Host, Mail};
use crate::story;
use cylinder_core::archive::append::{Mark, Writer};
use cylinder_core::archive::member::{self, Kind};
use cylinder_core::archive::read::{CommitAt, Reader};
use cylinder_core::archive::record::StateContent;
use cylinder_core::archive::verify::verify;
use cylinder_core::backup::report::Report;
use cylinder_core::backup::{self, Settings};
use cylinder_core::compact::policy::Policy;
use cylinder_core::compact::{self, Outcome};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::index;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Place};
use cylinder_core::pull::Origin;
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
    let settings = Settings {
        archive: story::settings(),
        source: String::from("local:test"),
        adopt: false,
        archive_id: *b"sixteen bytes id",
        read_rate: 0,
    };
    backup::run(&io, &mut Origin::Local(&mut site), &anna(), &dir(), &settings).await
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

    /// What the newest snapshot has, by the lists of messages; none of them is read.
    #[track_caller]
    pub fn newest(&mut self) -> State {
        let procedure = async |io: Io| {
            let reader = Reader::open(&io, &dir()).await?;
            let listed = reader.all_messages().await?.0.iter().map(|m| m.guid).collect();
            let at = view::snapshot(&reader, view::When::Newest).await?;
            let state = read(&reader, &at, &listed).await;
            reader.close().await;
            state
        };
        drive(&mut self.disk, procedure).finished().unwrap_or_else(|e: Error| panic!("reading back: {e}"))
    }

    /// The numbers of all snapshots.
    #[track_caller]
    pub fn numbers(&mut self) -> BTreeSet<u64> {
        let procedure = async |io: Io| {
            let reader = Reader::open(&io, &dir()).await?;
            let all = view::snapshots(&reader).await;
            reader.close().await;
            Ok::<_, Error>(all?.iter().map(|at| at.commit.number).collect())
        };
        drive(&mut self.disk, procedure).finished().expect("an archive")
    }

    /// What a snapshot of the host as it is would have.
    pub fn folders(&self) -> BTreeMap<String, BTreeMap<u32, Held>> {
        let of = |m: &Mail| {
            let flags = index::flag::NAMES.iter().filter(|(bit, _)| m.flags & bit != 0).map(|(_, name)| String::from(*name));
            (m.uid, (m.guid, flags.collect(), m.expunged))
        };
        let name = |full: &str| format!("INBOX{}", &full["user.anna".len()..]);
        let folders = self.host.folders.iter().filter(|(name, _)| name.starts_with("user.anna"));
        folders.map(|(full, folder)| (name(full), folder.messages.iter().map(of).collect())).collect()
    }

    /// One day of somebody: mail comes, is read, moved and deleted, folders come, are renamed and go.
    pub fn day(&mut self, chance: &mut Sampler) {
        for _ in 0..chance.upto(2) {
            let size = if chance.upto(19) == 0 { 70_000 } else { 200 + chance.upto(2000) as usize };
            self.deliver(chance, size);
        }
        match chance.upto(9) {
            0 => {
                // Never an id that is there already, under another name.
                let (name, id) = (format!("user.anna.F{}", chance.upto(30)), format!("{:016x}", chance.bits()));
                self.host.folders.entry(name).or_insert_with(|| Folder::new(&id));
            }
            1 => self.rename(chance),
            2 | 3 => self.expunge(chance),
            4 => self.copy(chance),
            5 | 6 => {
                let flags = 1 << chance.upto(4);
                if let Some(folder) = self.some_folder(chance) {
                    let uid = folder.messages.first().map_or(0, |m| m.uid);
                    folder.flag(uid, flags);
                }
            }
            7 if chance.upto(3) == 0 => self.remove(chance),
            _ => {}
        }
    }

    fn deliver(&mut self, chance: &mut Sampler, size: usize) {
        let n = chance.bits();
        self.host.folder("user.anna").deliver(&story::mail(n, size));
    }

    fn some_folder(&mut self, chance: &mut Sampler) -> Option<&mut Folder> {
        let count = self.host.folders.len();
        let at = chance.upto(count.saturating_sub(1) as u32) as usize;
        self.host.folders.values_mut().nth(at)
    }

    fn some_name(&self, chance: &mut Sampler) -> Option<String> {
        let below: Vec<&String> = self.host.folders.keys().filter(|name| name.starts_with("user.anna.")).collect();
        let at = chance.upto(below.len().saturating_sub(1) as u32) as usize;
        below.get(at).map(|name| (*name).clone())
    }

    fn rename(&mut self, chance: &mut Sampler) {
        let (Some(from), n) = (self.some_name(chance), chance.upto(30)) else { return };
        let to = format!("user.anna.F{n}");
        if !self.host.folders.contains_key(&to)
            && let Some(folder) = self.host.folders.remove(&from)
        {
            self.host.folders.insert(to, folder);
        }
    }

    fn remove(&mut self, chance: &mut Sampler) {
        if let Some(name) = self.some_name(chance) {
            self.host.folders.remove(&name);
        }
    }

    /// Expunges some messages of a folder: now, and files and records of those that were expunged before go.
    fn expunge(&mut self, chance: &mut Sampler) {
        let (unlink, every) = (chance.flip(), 1 + chance.upto(3));
        let Some(folder) = self.some_folder(chance) else { return };
        folder.modseq += 1;
        if unlink {
            folder.messages.retain(|m| !m.unlinked);
            folder.messages.iter_mut().filter(|m| m.expunged).for_each(|m| m.unlinked = true);
        }
        // The last stays, for the next UID follows from it.
        let count = folder.messages.len();
        let some = folder.messages.iter_mut().take(count.saturating_sub(1)).filter(|m| m.uid % every == 0);
        some.for_each(|m| m.expunged = true);
    }

    fn copy(&mut self, chance: &mut Sampler) {
        let inbox = &self.host.folder("user.anna").messages;
        let at = chance.upto(inbox.len().saturating_sub(1) as u32) as usize;
        let Some(content) = inbox.get(at).filter(|m| !m.unlinked).map(|m| m.content.clone()) else { return };
        if let Some(folder) = self.some_folder(chance) {
            folder.deliver(&content);
        }
    }

    /// The length of the archive.
    pub fn archive_len(&self) -> usize {
        self.disk.content(&archive()).map_or(0, <[u8]>::len)
    }

    /// Nothing is wrong with the archive, its commits count what there is, and no file is open.
    #[track_caller]
    pub fn is_good(&mut self) {
        let procedure = async |io: Io| {
            let reader = Reader::open(&io, &dir()).await?;
            let verdict = verify(&io, &reader, 3).await?;
            let chain = chain(&reader).await?;
            reader.close().await;
            Ok::<_, Error>((verdict, chain))
        };
        let (verdict, chain) = drive(&mut self.disk, procedure).finished().expect("a verdict");
        assert!(verdict.is_good(), "{:#?}", verdict.findings);
        assert_eq!(self.disk.open_files(), 0);
        counts_what_there_is(&chain, self.disk.content(&archive()).expect("an archive"));
    }
}

/// All commits, oldest first, each with the number of messages in its list.
async fn chain(reader: &Reader) -> Result<Vec<(CommitAt, u64)>, Error> {
    let (mut chain, mut next) = (Vec::new(), Some(reader.head().clone()));
    while let Some(at) = next {
        let listed = reader.messages(&at).await?.iter().count() as u64;
        next = reader.previous(&at).await?;
        chain.push((at, listed));
    }
    chain.reverse();
    Ok(chain)
}

/// What commits say of their own numbers of messages and bytes of content, and of all so far, is what stands before them.
#[track_caller]
fn counts_what_there_is(chain: &[(CommitAt, u64)], archive: &[u8]) {
    let (mut at, mut messages, mut raw) = (0, 0, 0);
    for (CommitAt { commit, part }, listed) in chain {
        let mut added = 0;
        while at < part.offset as usize {
            let info = member::parse_header(&archive[at..]).expect("a member");
            added += if matches!(info.kind, Kind::Data | Kind::Meta) { u64::from(info.raw_len) } else { 0 };
            at += info.len as usize;
        }
        (messages, raw) = (messages + listed, raw + added);
        let told = (commit.added_messages, commit.added_raw, commit.total_messages, commit.total_raw);
        assert_eq!(told, (*listed, added, messages, raw), "commit {}", commit.number);
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
