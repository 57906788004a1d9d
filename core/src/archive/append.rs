//! Writing an archive: opening it, appending, commits (FORMAT.md section 5). Its end is mended in `mend`.
//!
//! Entries become members in `pack`; what they need there, and 36 bytes for each message since the last commit, is
//! what this takes of memory. The first failure is remembered and repeated: after a failed write or sync nothing more is
//! written. What must not come in: Cyrus, and which messages are needed.

use super::entry;
use super::member::{FOOTER_LEN, Footer, Kind};
use super::pack::Packer;
use super::read::{ARCHIVE, CommitAt, End, Reader};
use super::record::{Commit, CommitFacts, CommitKind, Part, Slot, Table};
use super::standing::Standing;
use crate::error::{Damage, Error, Fault};
use crate::guid::Guid;
use crate::io::{FileId, How, Io, LockMode, Op, Place, Reply};
use crate::time::Time;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Names in an archive's directory: more than this is somebody else's directory.
pub(crate) const DIR_NAMES_MAX: usize = 10_000;

pub(crate) const LOCK: &[u8] = b"lock";
/// The name of an archive that is being made.
pub(crate) const NEW: &[u8] = b"archive.tar.gz.new";
pub(crate) const ASIDE: &[u8] = b"archive.tar.gz.aside-";

pub(crate) const ABOUT: &str = "This is a backup of one user's mail from a Cyrus IMAP server, made by Cylinder.

It is a gzip-compressed tar file and can be read with any tar. Later entries replace earlier ones.
files/<sha1>            a message
folders/<id>/...        a folder's metadata as the server had it: cyrus.index, cyrus.header, ...
imap/<folder name>      a link to the folder of that name; a link to nowhere says that the name is gone
meta/..., sieve/...     what the user has besides
An entry of length 0 without link name says that the file is gone.
";

/// How an archive is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Compression level, 0 to 12.
    pub level: u8,
    /// Inflate each member again and compare before it is written.
    pub check: bool,
    /// Members that may be under way to being deflated.
    pub ahead: usize,
    /// Content after which a checkpoint is due, in bytes.
    pub checkpoint_bytes: u64,
    /// Name and version of the program.
    pub software: String,
}

impl Settings {
    /// Checkpoints every 48 MiB, so that a run that is killed repeats at most 64 MiB with what it had in its hands.
    pub const CHECKPOINT_BYTES: u64 = 48 << 20;
}

/// What somebody decides about an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mark {
    /// Somebody has looked at all alarms.
    Acknowledge,
    /// Nothing may be dropped until this is lifted.
    Hold,
    /// The hold is lifted.
    Release,
}

/// An archive that is open for writing. Dereferences to [`Reader`].
pub struct Writer {
    pub(super) reader: Reader,
    settings: Settings,
    pub(super) out: Packer,
    lock: FileId,
    pub(super) messages: Vec<(Guid, u64, u32)>,
    pub(super) notes: Vec<String>,
    /// What was set aside stays when a snapshot is acknowledged.
    keep_aside: bool,
    damage: Option<Error>,
    overtaken: bool,
}

impl core::ops::Deref for Writer {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl Writer {
    /// Opens the archive in `dir` for writing, creating both if there is none; mends the end if need be. `id` names a new
    /// archive.
    ///
    /// A file in which no commit can be found is set aside under another name, and a new archive begun; [`Writer::damage`]
    /// tells. [`Error::Busy`] if another writer is at work.
    pub async fn open(io: &Io, dir: &Place, settings: &Settings, id: [u8; 16]) -> Result<Writer, Error> {
        io.make_dir(dir).await.map_err(|fault| Error::world("make directory", dir.shown(), fault))?;
        let lock = lock(io, dir).await?;
        let (mut unreadable, mut found) = (None, false);
        let opened = async {
            match Reader::open(io, dir).await {
                Err(Error::World { fault: Fault::NotFound, .. }) => {}
                Err(Error::Damage(damage)) => unreadable = Some(set_all_aside(io, dir, &damage).await?),
                other => {
                    found = true;
                    return other;
                }
            }
            create(io, dir, settings, id).await?;
            Reader::open(io, dir).await
        };
        match opened.await {
            Ok(reader) => {
                let mut writer = Writer::begin(reader, settings, lock, found).await?;
                writer.damage = unreadable;
                Ok(writer)
            }
            Err(error) => {
                let _ = io.close(lock).await;
                Err(error)
            }
        }
    }

    /// Makes a writer of a reader, which is opened anew if somebody wrote in between.
    pub async fn from_reader(reader: Reader, settings: &Settings) -> Result<Writer, Error> {
        let (io, dir) = (reader.io.clone(), reader.dir.clone());
        let lock = match lock(&io, &dir).await {
            Ok(lock) => lock,
            Err(error) => {
                reader.close().await;
                return Err(error);
            }
        };
        let place = dir.join(ARCHIVE);
        let (open, named) = (io.fstat(reader.file).await, io.stat(&place).await);
        let same = match (open, named) {
            (Ok(open), Ok(named)) => open.ino == named.ino && open.dev == named.dev && named.size == reader.len,
            _ => false,
        };
        if same && reader.state == End::Footer {
            return Writer::begin(reader, settings, lock, false).await;
        }
        reader.close().await;
        match Reader::open(&io, &dir).await {
            Ok(reader) => Writer::begin(reader, settings, lock, !same).await,
            Err(error) => {
                let _ = io.close(lock).await;
                Err(error)
            }
        }
    }

    async fn begin(reader: Reader, settings: &Settings, lock: FileId, overtaken: bool) -> Result<Writer, Error> {
        let place = reader.dir.join(ARCHIVE);
        let file = match reader.io.open(&place, How::Write).await {
            Ok(file) => file,
            Err(fault) => {
                let _ = reader.io.close(lock).await;
                reader.close().await;
                return Err(Error::world("open", place.shown(), fault));
            }
        };
        // What a killed run has saved of messages is found right behind the last commit.
        let out = Packer::new(&reader.io, file, reader.end, place.shown(), settings).messages_first();
        let (settings, messages, notes) = (settings.clone(), Vec::new(), Vec::new());
        let mut writer = Writer { reader, settings, out, lock, messages, notes, keep_aside: false, damage: None, overtaken };
        match writer.prepare().await {
            Ok(()) => Ok(writer),
            Err(error) => {
                writer.close().await;
                Err(error)
            }
        }
    }

    async fn prepare(&mut self) -> Result<(), Error> {
        // Whoever made or compacted the archive may have been killed before the directory was synced. Commits behind the first
        // one thereafter had this done.
        if self.reader.head.commit.is_first_of_its_file()
            && let Err(fault) = self.reader.io.sync_dir(&self.reader.dir).await
        {
            return Err(Error::world("sync", self.reader.dir.shown(), fault));
        }
        if self.reader.state == End::Footer { Ok(()) } else { self.mend().await }
    }

    /// Closes the archive and lets the lock go. What was not committed is nothing.
    pub async fn close(self) {
        let io = self.reader.io.clone();
        self.out.close().await;
        self.reader.close().await;
        let _ = io.close(self.lock).await;
    }

    /// What opening found worth telling.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// True if the archive is not the one that the caller has seen: somebody else has written it, or made it, since.
    pub fn is_overtaken(&self) -> bool {
        self.overtaken
    }

    /// What was wrong with a file that was set aside as a whole.
    pub fn damage(&self) -> Option<&Error> {
        self.damage.as_ref()
    }

    /// True if something was appended since the last commit of a snapshot.
    pub fn has_appended(&self) -> bool {
        self.out.raw > 0 || self.reader.head.commit.kind == CommitKind::Checkpoint
    }

    /// True if so much was appended that a checkpoint is due.
    pub fn wants_checkpoint(&self) -> bool {
        self.out.raw >= self.settings.checkpoint_bytes
    }

    /// What interrupted runs have left stays beside the archive when a snapshot is acknowledged.
    pub fn keep_aside(&mut self) {
        self.keep_aside = true;
    }

    /// Appends a message.
    pub async fn message(&mut self, guid: Guid, mtime: Time, content: &[u8]) -> Result<(), Error> {
        let token = self.out.add(Kind::Data, &message_name(&guid), mtime, content, Some(guid)).await?;
        self.messages.push((guid, content.len() as u64, token));
        Ok(())
    }

    /// Begins a message that comes in pieces.
    pub async fn begin_message(&mut self, guid: Guid, size: u64, mtime: Time) -> Result<(), Error> {
        self.out.good()?;
        let mut header = Vec::new();
        entry::emit_file(&mut header, &message_name(&guid), size, mtime, Some(guid));
        let token = self.out.begin_large(Kind::Data, &header, size).await?;
        self.messages.push((guid, size, token));
        Ok(())
    }

    /// The next piece of the message that was begun.
    pub async fn piece(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.out.good()?;
        self.out.large_piece(piece).await
    }

    /// Ends the message that was begun. It is an error of the caller if its pieces are not of the size that was announced.
    pub async fn end_message(&mut self) -> Result<(), Error> {
        self.out.good()?;
        self.out.end_large().await
    }

    /// Appends a metadata file.
    pub async fn file(&mut self, name: &[u8], mtime: Time, content: &[u8], sha1: Guid) -> Result<Slot, Error> {
        self.out.add(Kind::Meta, name, mtime, content, Some(sha1)).await.map(Slot::Pending)
    }

    /// Says that a file is there no longer.
    pub async fn gone(&mut self, name: &[u8]) -> Result<(), Error> {
        self.out.add(Kind::Meta, name, Time::ZERO, b"", None).await.map(drop)
    }

    /// Appends a symbolic link; an empty target makes a tombstone.
    pub async fn link(&mut self, name: &[u8], target: &[u8], mtime: Time) -> Result<Slot, Error> {
        self.out.good()?;
        let mut header = Vec::new();
        entry::emit_link(&mut header, name, target, mtime);
        self.out.gather(Kind::Meta, &header, b"").await.map(Slot::Pending)
    }

    /// Makes what was appended durable, without a new state.
    pub async fn checkpoint(&mut self, time: Time) -> Result<(), Error> {
        self.out.good()?;
        self.out.settle().await?;
        let facts = CommitFacts { time, source: String::new(), cyrus: String::new(), standing: None, dead: 0 };
        let messages = self.list(time).await?;
        let table = self.reader.head.commit.table;
        self.finish_with(CommitKind::Checkpoint, table, messages, facts, |_| ()).await.map(drop)
    }

    /// Writes down what somebody has decided, as a checkpoint of its own, and makes it durable.
    pub async fn mark(&mut self, mark: Mark, time: Time) -> Result<CommitAt, Error> {
        let change = |commit: &mut Commit| match mark {
            Mark::Acknowledge => commit.standing.acknowledge(),
            Mark::Hold => commit.hold = commit.hold.or(Some(time)),
            Mark::Release => commit.hold = None,
        };
        self.change(time, change).await
    }

    /// Writes down what a run has seen that holds from now on, as a checkpoint of its own, and makes it durable.
    pub async fn stand(&mut self, standing: Standing, time: Time) -> Result<CommitAt, Error> {
        self.change(time, |commit| commit.standing = standing).await
    }

    async fn change(&mut self, time: Time, change: impl FnOnce(&mut Commit)) -> Result<CommitAt, Error> {
        self.out.good()?;
        self.out.settle().await?;
        let facts = CommitFacts { time, source: String::new(), cyrus: String::new(), standing: None, dead: 0 };
        let messages = self.list(time).await?;
        let table = self.reader.head.commit.table;
        self.finish_with(CommitKind::Checkpoint, table, messages, facts, change).await
    }

    /// Makes a snapshot of what was appended and of `table`, and makes it durable.
    pub async fn commit(&mut self, mut table: Table, facts: CommitFacts) -> Result<CommitAt, Error> {
        self.out.good()?;
        self.out.settle().await?;
        for slot in table.slots() {
            if let Slot::Pending(token) = *slot {
                match self.out.locations.get(token as usize) {
                    Some(location) => *slot = Slot::At(*location),
                    None => return self.out.fail("commit", Fault::Driver),
                }
            }
        }
        // The list goes first, so that everything a table points to stands before it.
        let text = table.emit();
        let messages = self.list(facts.time).await?;
        let part = self.out.part(Kind::Table, b"meta/folders", facts.time, &text).await?;
        let commit = self.finish_with(CommitKind::Snapshot, Some(part), messages, facts, |_| ()).await?;
        self.clear_interrupted(self.keep_aside).await;
        Ok(commit)
    }

    /// Writes the list of the messages that came, each once.
    pub(super) async fn list(&mut self, time: Time) -> Result<Option<(Part, u64)>, Error> {
        self.messages.sort_by_key(|&(guid, ..)| guid);
        self.messages.dedup_by_key(|&mut (guid, ..)| guid);
        self.out.list(&self.messages, time).await
    }

    /// Writes the record, syncs, writes the footer, syncs.
    pub(super) async fn finish_with(
        &mut self,
        kind: CommitKind,
        table: Option<Part>,
        messages: Option<(Part, u64)>,
        facts: CommitFacts,
        change: impl FnOnce(&mut Commit),
    ) -> Result<CommitAt, Error> {
        let before = &self.reader.head;
        let added_messages = messages.map_or(0, |(_, n)| n);
        let mut standing = facts.standing.unwrap_or_else(|| before.commit.standing.clone());
        if kind == CommitKind::Snapshot {
            standing.settle(&facts.source);
        }
        let mut commit = Commit {
            archive: before.commit.archive,
            // What the last commit says may be anything: its numbers are counted on as far as they go.
            number: before.commit.number.saturating_add(1),
            kind,
            time: facts.time,
            previous: Some(before.part),
            table,
            messages,
            source: facts.source,
            cyrus: facts.cyrus,
            standing,
            hold: before.commit.hold,
            compacted: before.commit.compacted,
            total_messages: before.commit.total_messages.saturating_add(added_messages),
            total_raw: before.commit.total_raw.saturating_add(self.out.raw),
            total_dead: before.commit.total_dead.saturating_add(facts.dead),
            added_messages,
            added_raw: self.out.raw,
            writer: self.settings.software.clone(),
        };
        change(&mut commit);
        let part = self.out.part(Kind::Commit, b"meta/commit", facts.time, &commit.emit()).await?;
        if let Err(fault) = self.reader.io.sync(self.out.file).await {
            return self.out.fail("sync", fault);
        }
        let head = CommitAt { commit, part };
        self.end_with(&head).await?;
        self.reader.head = head.clone();
        self.messages.clear();
        // Tokens of a run stay valid over its checkpoints, for metadata rows point to them; messages need theirs no more.
        self.out.raw = 0;
        Ok(head)
    }

    /// Writes the footer behind the commit and syncs.
    pub(super) async fn end_with(&mut self, head: &CommitAt) -> Result<(), Error> {
        let footer = footer_of(head);
        if let Err(fault) = self.reader.io.write_at(self.out.file, footer.offset, footer.emit()).await {
            return self.out.fail("write", fault);
        }
        if let Err(fault) = self.reader.io.sync(self.out.file).await {
            return self.out.fail("sync", fault);
        }
        self.reader.end = footer.offset;
        self.reader.len = footer.offset + FOOTER_LEN as u64;
        self.reader.state = End::Footer;
        Ok(())
    }
}

pub(crate) fn message_name(guid: &Guid) -> Vec<u8> {
    format!("files/{guid}").into_bytes()
}

pub(crate) fn footer_of(head: &CommitAt) -> Footer {
    Footer {
        offset: head.part.offset + head.part.len,
        commit_offset: head.part.offset,
        commit_len: head.part.len as u32,
        commit_sha1: head.part.sha1,
    }
}

/// Takes the writers' lock. [`Error::Busy`] if somebody has it, or had it and has removed its file since this opened it, as
/// whoever erases a user does: a lock on a file without a name keeps nobody away who comes later.
pub(crate) async fn lock(io: &Io, dir: &Place) -> Result<FileId, Error> {
    let place = dir.join(LOCK);
    let file = io.open(&place, How::Lock).await.map_err(|fault| Error::world("open lock file", place.shown(), fault))?;
    let mut holder = None;
    let locked = async {
        if let Err(fault) = io.lock(file, LockMode::Exclusive).await {
            holder = io.holder(file, LockMode::Exclusive).await.unwrap_or(None);
            return Err(fault);
        }
        if io.is_named(file, &place).await? { Ok(()) } else { Err(Fault::Busy) }
    };
    let locked = locked.await;
    if locked.is_err() {
        let _ = io.close(file).await;
    }
    match locked {
        Ok(()) => Ok(file),
        Err(Fault::Busy) => Err(Error::Busy { object: dir.join(ARCHIVE).shown(), holder }),
        Err(fault) => Err(Error::world("lock", place.shown(), fault)),
    }
}

/// Gives a file in which no commit can be found another name, that of the first free number. Returns what to tell about it.
async fn set_all_aside(io: &Io, dir: &Place, damage: &Damage) -> Result<Error, Error> {
    let from = dir.join(ARCHIVE);
    for n in 1..=DIR_NAMES_MAX {
        let to = dir.join(&[ASIDE, format!("{n}-unreadable").as_bytes()].concat());
        match io.stat(&to).await {
            Err(Fault::NotFound) => {}
            Ok(_) => continue,
            Err(fault) => return Err(Error::world("stat", to.shown(), fault)),
        }
        io.rename(&from, &to).await.map_err(|fault| Error::world("rename", from.shown(), fault))?;
        io.sync_dir(dir).await.map_err(|fault| Error::world("sync", dir.shown(), fault))?;
        let expected = format!("{}; it is kept as {}, and a new archive was begun", damage.expected, to.shown());
        return Ok(Damage::new(from.shown(), damage.offset, damage.field, &damage.found, expected).into());
    }
    Err(Error::Limit { object: from.shown(), limit: DIR_NAMES_MAX as u64, found: DIR_NAMES_MAX as u64 + 1 })
}

/// Removes a file that may be there.
pub(crate) async fn remove(io: &Io, place: &Place) -> Result<(), Error> {
    match io.unlink(place).await {
        Ok(()) | Err(Fault::NotFound) => Ok(()),
        Err(fault) => Err(Error::world("remove", place.shown(), fault)),
    }
}

/// Creates an archive with nothing but commit 0.
async fn create(io: &Io, dir: &Place, settings: &Settings, id: [u8; 16]) -> Result<(), Error> {
    let (new, place) = (dir.join(NEW), dir.join(ARCHIVE));
    let world = |doing| move |fault| Error::world(doing, String::from("archive.tar.gz.new"), fault);
    remove(io, &new).await?;
    let bytes = first_bytes(io, settings, id).await?;
    let file = io.open(&new, How::Create).await.map_err(world("create"))?;
    let written = async {
        io.write_at(file, 0, bytes).await.map_err(world("write"))?;
        io.sync(file).await.map_err(world("sync"))
    };
    let written = written.await;
    let _ = io.close(file).await;
    written?;
    // The directory is synced when the archive is opened, whoever created it.
    io.rename(&new, &place).await.map_err(world("rename"))
}

/// Head, commit 0 and footer.
async fn first_bytes(io: &Io, settings: &Settings, id: [u8; 16]) -> Result<Vec<u8>, Error> {
    let now = io.now();
    let mut out = sealed_entry(io, settings, Kind::Head, b"meta/about", now, ABOUT.as_bytes()).await?;
    let commit = Commit::blank(id, now, &settings.software);
    let text = commit.emit();
    let member = sealed_entry(io, settings, Kind::Commit, b"meta/commit", now, &text).await?;
    let part = Part { offset: out.len() as u64, len: member.len() as u64, sha1: Guid::of(&text) };
    out.extend_from_slice(&member);
    out.extend_from_slice(&footer_of(&CommitAt { commit, part }).emit());
    Ok(out)
}

async fn sealed_entry(
    io: &Io,
    settings: &Settings,
    kind: Kind,
    name: &[u8],
    time: Time,
    content: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut raw = Vec::new();
    entry::emit_file(&mut raw, name, content.len() as u64, time, Some(Guid::of(content)));
    raw.extend_from_slice(content);
    raw.resize(raw.len() + entry::padding(content.len() as u64), 0);
    let op = Op::Seal { kind, flags: 0, raw, level: settings.level, check: settings.check, buffer: Vec::new() };
    match io.start(op).await {
        Ok(Reply::Sealed { member, .. }) => Ok(member),
        Ok(_) => Err(Error::world("deflate", "archive.tar.gz.new", Fault::Driver)),
        Err(fault) => Err(Error::world("deflate", "archive.tar.gz.new", fault)),
    }
}
