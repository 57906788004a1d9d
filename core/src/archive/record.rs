//! The three parts of a commit: folder table, list of messages, commit record (FORMAT.md section 4). Parse and emit side by
//! side.
//!
//! What must not come in: where they stand in the file, and reading it.

use super::standing::{self, Alarm, Cause, STANDING_MAX, Standing};
use crate::bytes::{be32, be64};
use crate::error::Damage;
use crate::escape::{percent, shown, unpercent};
use crate::guid::Guid;
use crate::io::Tuple;
use crate::lines::{Line, Words, lines, parse_number, parse_time};
use crate::time::Time;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write as _;

/// The longest commit record.
pub const COMMIT_MAX: usize = 64 << 10;
/// The longest folder table: some 500,000 folders.
pub const TABLE_MAX: u64 = 1 << 30;
/// The longest list of messages: some 100 million.
pub const LIST_MAX: u64 = 4 << 30;

/// The longest name of a folder that a snapshot is said to lack: Cyrus takes names of up to 490 bytes.
const NAME_MAX: usize = 4096;
/// The longest reason why it lacks one.
const WORD_MAX: usize = 64;

const COMMIT_MAGIC: &str = "cylinder-commit 1";
const TABLE_MAGIC: &str = "cylinder-folders 1";
const LIST_MAGIC: &[u8; 32] = b"cylinder-messages 1\n\0\0\0\0\0\0\0\0\0\0\0\0";
/// Bytes of one record of a list of messages.
const LIST_RECORD: usize = 40;

/// Where an entry's header block is: the offset of a member in the file, and the offset in that member's content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Location {
    /// Offset of the member in the file.
    pub member: u64,
    /// Offset in its content.
    pub inside: u32,
}

impl core::fmt::Display for Location {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}+{}", self.member, self.inside)
    }
}

/// A location that may not be known yet: members get their offsets when those before them are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// Known.
    At(Location),
    /// The n-th entry of this run; [`super::append::Writer::commit`] puts the location in its place.
    Pending(u32),
}

impl Slot {
    /// The location. In a table that was read it is always known.
    pub fn location(self) -> Option<Location> {
        match self {
            Slot::At(location) => Some(location),
            Slot::Pending(_) => None,
        }
    }
}

/// The state of a user at a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Table {
    /// Databases of the server whose tuples were compared.
    pub databases: Vec<DatabaseRow>,
    /// Folders in byte order of their names.
    pub folders: Vec<FolderRow>,
    /// Other files and links in byte order of their names.
    pub states: Vec<StateRow>,
    /// What the user had and this snapshot is known to lack; written in order, each once.
    pub lacking: Vec<LackingRow>,
}

/// A database of the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatabaseRow {
    /// Such as `annotations`.
    pub name: String,
    /// Its tuple.
    pub tuple: Tuple,
}

/// A folder at a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FolderRow {
    /// Internal name relative to the owner.
    pub name: Vec<u8>,
    /// uniqueid.
    pub id: Vec<u8>,
    /// Raw value in mailboxes.db.
    pub entry: Vec<u8>,
    /// Minor version of cyrus.index, if that could be read.
    pub version: Option<u32>,
    /// UIDVALIDITY.
    pub uidvalidity: Option<u32>,
    /// HIGHESTMODSEQ, from index version 8 on.
    pub modseq: Option<u64>,
    /// CRC in the header of cyrus.index, from version 12 on.
    pub header_crc: Option<u32>,
    /// Messages that are visible.
    pub exists: u64,
    /// Messages that are expunged but not unlinked.
    pub expunged: u64,
    /// Sum of the sizes of both.
    pub bytes: u64,
    /// The tuples could not be trusted when they were taken.
    pub young: bool,
    /// Metadata files.
    pub files: Vec<FileRow>,
    /// Messages that are not saved as the index describes them.
    pub missing: Vec<MissingRow>,
}

/// A metadata file of a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileRow {
    /// Its name, such as `cyrus.index`.
    pub name: String,
    /// Its tuple under the lock.
    pub tuple: Tuple,
    /// SHA-1 of its content.
    pub sha1: Guid,
    /// Its entry.
    pub at: Slot,
}

/// Why a message is not saved as the index describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Absence {
    /// There was no file.
    Absent,
    /// It could not be read.
    Unreadable,
    /// Its content did not have the SHA-1 or the length that the index gives.
    Mismatch,
    /// The index record itself cannot be read.
    UnreadableRecord,
    /// It was saved, and damage to the archive took it.
    Lost,
}

impl Absence {
    const ALL: [(Absence, &'static str); 5] = [
        (Absence::Absent, "absent"),
        (Absence::Unreadable, "unreadable"),
        (Absence::Mismatch, "mismatch"),
        (Absence::UnreadableRecord, "unreadable-record"),
        (Absence::Lost, "lost"),
    ];

    /// The word in the table.
    pub fn word(self) -> &'static str {
        Absence::ALL.iter().find(|(a, _)| *a == self).map_or("", |(_, w)| w)
    }
}

/// A message that is not saved as the index describes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MissingRow {
    /// UID; 0 if not known.
    pub uid: u32,
    /// GUID, if the index gives one.
    pub guid: Option<Guid>,
    /// Why.
    pub why: Absence,
    /// SHA-1 of what was found instead; it is in the archive under this name.
    pub found: Option<Guid>,
}

/// Why a snapshot lacks a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lack {
    /// It was saved, and damage to the archive has taken its index.
    IndexLost,
    /// It was saved, and damage to the archive has taken a file of it other than its index; or the user's file of this name.
    FileLost,
    /// The server has it, and it could not be saved.
    NotSaved,
    /// Its entry in the server's mailboxes.db could not be read, or its files could not be looked at.
    Unreadable,
    /// It is saved without the names of its keywords: its cyrus.header was damaged on the server.
    HeaderLost,
    /// It is no folder but a file of the user, such as `meta/quota/user.anna`, and was damaged on the server.
    FileDamaged,
    /// A word of a newer version.
    Other(String),
}

impl Lack {
    const ALL: [(Lack, &'static str); 6] = [
        (Lack::IndexLost, "index-lost"),
        (Lack::FileLost, "file-lost"),
        (Lack::NotSaved, "not-saved"),
        (Lack::Unreadable, "unreadable"),
        (Lack::HeaderLost, "header-lost"),
        (Lack::FileDamaged, "file-damaged"),
    ];

    /// The word in the table.
    pub fn word(&self) -> &str {
        match self {
            Lack::Other(word) => word,
            known => Lack::ALL.iter().find(|(lack, _)| lack == known).map_or("", |(_, word)| word),
        }
    }

    /// What a word in a table means.
    pub fn of(word: &str) -> Lack {
        let known = Lack::ALL.into_iter().find(|(_, known)| *known == word);
        known.map_or_else(|| Lack::Other(String::from(word)), |(lack, _)| lack)
    }
}

/// A folder that the user had and of which the snapshot is known to lack something: all of it, or, where there is a
/// [`FolderRow`] of this name too, whatever came since the state in that row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LackingRow {
    /// Internal name relative to the owner; of a file ([`Lack::FileDamaged`]) its name in the archive.
    pub name: Vec<u8>,
    /// Why.
    pub why: Lack,
    /// uniqueid, if it is known.
    pub id: Option<Vec<u8>>,
}

/// A file or link that belongs to no folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StateRow {
    /// Name in the archive.
    pub name: Vec<u8>,
    /// Tuple of the file it was read from; `None` if it comes from no file, or was too young to be trusted.
    pub tuple: Option<Tuple>,
    /// What it is.
    pub content: StateContent,
}

/// What a [`StateRow`] is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StateContent {
    /// A file.
    File {
        /// SHA-1 of its content.
        sha1: Guid,
        /// Bytes.
        size: u64,
        /// Its entry.
        at: Slot,
    },
    /// A symbolic link.
    Link {
        /// Its target.
        target: Vec<u8>,
        /// Its entry.
        at: Slot,
    },
}

impl FolderRow {
    /// The metadata file of this name.
    pub fn file(&self, name: &str) -> Option<&FileRow> {
        self.files.iter().find(|f| f.name == name)
    }
}

impl Table {
    /// The folder of this name.
    pub fn folder(&self, name: &[u8]) -> Option<&FolderRow> {
        self.folders.binary_search_by(|row| row.name[..].cmp(name)).ok().map(|at| &self.folders[at])
    }

    /// The tuple of a database.
    pub fn database(&self, name: &str) -> Option<Tuple> {
        self.databases.iter().find(|row| row.name == name).map(|row| row.tuple)
    }

    /// All slots, to be filled in.
    pub(crate) fn slots(&mut self) -> impl Iterator<Item = &mut Slot> {
        let files = self.folders.iter_mut().flat_map(|row| row.files.iter_mut().map(|f| &mut f.at));
        let states = self.states.iter_mut().map(|row| match &mut row.content {
            StateContent::File { at, .. } | StateContent::Link { at, .. } => at,
        });
        files.chain(states)
    }

    /// The text. Slots must be known; one that is not leaves its word out.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = String::with_capacity(64 + self.folders.len() * 700);
        out.push_str(TABLE_MAGIC);
        out.push('\n');
        for row in &self.databases {
            let mut line = Line::new(&mut out, "database");
            line.text("name", row.name.as_bytes());
            line.tuple(&row.tuple);
        }
        for row in &self.folders {
            row.emit(&mut out);
        }
        for row in &self.states {
            let mut line = Line::new(&mut out, "state");
            line.text("name", &row.name);
            match &row.content {
                StateContent::File { sha1, size, at } => {
                    line.show("size", size);
                    if let Some(tuple) = &row.tuple {
                        line.stamps(tuple);
                    }
                    line.show("sha1", sha1);
                    line.maybe("at", at.location());
                }
                StateContent::Link { target, at } => {
                    line.text("link", target);
                    line.maybe("at", at.location());
                }
            }
        }
        let rows: BTreeSet<&LackingRow> = self.lacking.iter().collect();
        for row in rows {
            let mut line = Line::new(&mut out, "lacking");
            line.text("name", &row.name);
            line.text("why", row.why.word().as_bytes());
            if let Some(id) = &row.id {
                line.text("id", id);
            }
        }
        out.into_bytes()
    }

    /// Reads the text. Unknown lines and words are left out, as FORMAT.md says.
    pub fn parse(b: &[u8]) -> Result<Table, Damage> {
        let lines = lines(b, "meta/folders", TABLE_MAGIC)?;
        let mut table = Table::default();
        for words in lines {
            match words.first {
                b"database" => table.databases.push(DatabaseRow { name: words.string("name")?, tuple: words.tuple()? }),
                b"folder" => table.folders.push(FolderRow::parse(&words)?),
                b"file" => {
                    let row =
                        table.folders.last_mut().ok_or_else(|| words.damage("file", "no folder before it", "a folder line"))?;
                    let (name, tuple) = (words.string("name")?, words.tuple()?);
                    row.files.push(FileRow { name, tuple, sha1: words.guid("sha1")?, at: slot(&words)? });
                }
                b"missing" => {
                    let row = table
                        .folders
                        .last_mut()
                        .ok_or_else(|| words.damage("missing", "no folder before it", "a folder line"))?;
                    row.missing.push(MissingRow::parse(&words)?);
                }
                b"state" => table.states.push(StateRow::parse(&words)?),
                b"lacking" => table.lacking.push(LackingRow::parse(&words)?),
                _ => {}
            }
        }
        if !table.folders.is_sorted_by(|a, b| a.name < b.name) {
            return Err(Damage::new("meta/folders", 0, "folders", "names out of order", "names in byte order, each once"));
        }
        Ok(table)
    }
}

impl FolderRow {
    fn emit(&self, out: &mut String) {
        let mut line = Line::new(out, "folder");
        line.text("name", &self.name);
        line.text("id", &self.id);
        line.text("entry", &self.entry);
        line.maybe("version", self.version);
        line.maybe("uidvalidity", self.uidvalidity);
        line.maybe("modseq", self.modseq);
        line.maybe("crc", self.header_crc);
        line.show("exists", self.exists);
        line.show("expunged", self.expunged);
        line.show("bytes", self.bytes);
        if self.young {
            line.show("young", 1);
        }
        drop(line);
        for file in &self.files {
            let mut line = Line::new(out, "file");
            line.text("name", file.name.as_bytes());
            line.tuple(&file.tuple);
            line.show("sha1", file.sha1);
            line.maybe("at", file.at.location());
        }
        for missing in &self.missing {
            let mut line = Line::new(out, "missing");
            line.show("uid", missing.uid);
            line.maybe("guid", missing.guid);
            line.show("why", missing.why.word());
            line.maybe("found", missing.found);
        }
    }

    fn parse(words: &Words<'_>) -> Result<FolderRow, Damage> {
        Ok(FolderRow {
            name: words.bytes("name")?,
            id: words.bytes("id")?,
            entry: words.bytes("entry")?,
            version: words.number_opt("version")?,
            uidvalidity: words.number_opt("uidvalidity")?,
            modseq: words.number_opt("modseq")?,
            header_crc: words.number_opt("crc")?,
            exists: words.number("exists")?,
            expunged: words.number("expunged")?,
            bytes: words.number("bytes")?,
            young: words.get("young").is_some(),
            ..FolderRow::default()
        })
    }
}

impl MissingRow {
    fn parse(words: &Words<'_>) -> Result<MissingRow, Damage> {
        let why = words.string("why")?;
        let found = Absence::ALL.iter().find(|(_, w)| *w == why);
        let (why, _) = found.ok_or_else(|| words.damage("why", &why, "a known reason"))?;
        Ok(MissingRow { uid: words.number("uid")?, guid: words.guid_opt("guid")?, why: *why, found: words.guid_opt("found")? })
    }
}

impl LackingRow {
    fn parse(words: &Words<'_>) -> Result<LackingRow, Damage> {
        let (name, why) = (words.bytes("name")?, words.string("why")?);
        if name.len() > NAME_MAX || why.len() > WORD_MAX {
            let found = format!("{} and {} bytes", name.len(), why.len());
            return Err(words.damage("lacking", &found, "a name and a word as a server and a reason have them"));
        }
        let id = if words.get("id").is_some() { Some(words.bytes("id")?) } else { None };
        Ok(LackingRow { name, why: Lack::of(&why), id })
    }
}

impl StateRow {
    fn parse(words: &Words<'_>) -> Result<StateRow, Damage> {
        let name = words.bytes("name")?;
        if words.get("link").is_some() {
            let content = StateContent::Link { target: words.bytes("link")?, at: slot(words)? };
            return Ok(StateRow { name, tuple: None, content });
        }
        let size = words.number("size")?;
        let tuple = if words.get("ino").is_some() { Some(words.stamps(size)?) } else { None };
        let content = StateContent::File { sha1: words.guid("sha1")?, size, at: slot(words)? };
        Ok(StateRow { name, tuple, content })
    }
}

/// Where an entry is, as `offset+offset`.
fn slot(words: &Words<'_>) -> Result<Slot, Damage> {
    let word = words.need("at")?;
    let plus = word.iter().position(|&c| c == b'+');
    let location = plus.and_then(|at| {
        let (member, inside) = (parse_number(&word[..at])?, parse_number(&word[at + 1..])?);
        Some(Location { member, inside })
    });
    location.map(Slot::At).ok_or_else(|| words.damage("at", &shown(word), "offset+offset"))
}

/// A place in the file and what is there: offset and length of members, SHA-1 of their content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Offset of the first member.
    pub offset: u64,
    /// Bytes of all its members.
    pub len: u64,
    /// SHA-1 of the entry's content.
    pub sha1: Guid,
}

/// What a commit is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitKind {
    /// A complete state.
    Snapshot,
    /// What a run has fetched so far.
    Checkpoint,
}

/// The last compaction of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Compacted {
    /// When.
    pub time: Time,
    /// The number of the head that it found.
    pub number: u64,
    /// The SHA-1 of that head's record: the chain goes on from there.
    pub head: Guid,
}

/// What a caller of [`super::append::Writer::commit`] tells about a snapshot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitFacts {
    /// When.
    pub time: Time,
    /// Whence.
    pub source: String,
    /// Version line of the server.
    pub cyrus: String,
    /// What holds from now on; `None`: what held before.
    pub standing: Option<Standing>,
    /// Bytes of content that this snapshot does not need any more and the last one did.
    pub dead: u64,
}

/// A commit record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commit {
    /// Drawn when the archive was created.
    pub archive: [u8; 16],
    /// Counts from 0.
    pub number: u64,
    /// Snapshot or checkpoint.
    pub kind: CommitKind,
    /// When it was made.
    pub time: Time,
    /// The commit before.
    pub previous: Option<Part>,
    /// The folder table of the newest snapshot.
    pub table: Option<Part>,
    /// The messages that came since the commit before, and how many.
    pub messages: Option<(Part, u64)>,
    /// Whence; empty in a checkpoint.
    pub source: String,
    /// Version line of the server.
    pub cyrus: String,
    /// What holds since this commit or one before.
    pub standing: Standing,
    /// Since when nothing may be dropped; `None` without a hold.
    pub hold: Option<Time>,
    /// The last compaction before this commit.
    pub compacted: Option<Compacted>,
    /// Messages in the archive.
    pub total_messages: u64,
    /// Their bytes, and those of all metadata.
    pub total_raw: u64,
    /// How many of these bytes the newest snapshot does not need, at most.
    pub total_dead: u64,
    /// Messages that came with this commit.
    pub added_messages: u64,
    /// Bytes of content that came with this commit.
    pub added_raw: u64,
    /// The program that wrote it.
    pub writer: String,
}

impl Commit {
    /// A checkpoint of an archive in which nothing is yet.
    pub fn blank(archive: [u8; 16], time: Time, writer: &str) -> Commit {
        Commit {
            archive,
            number: 0,
            kind: CommitKind::Checkpoint,
            time,
            previous: None,
            table: None,
            messages: None,
            source: String::new(),
            cyrus: String::new(),
            standing: Standing::default(),
            hold: None,
            compacted: None,
            total_messages: 0,
            total_raw: 0,
            total_dead: 0,
            added_messages: 0,
            added_raw: 0,
            writer: String::from(writer),
        }
    }

    /// True if whoever wrote this commit made the file that it is in: nothing was appended behind it yet.
    pub(super) fn is_first_of_its_file(&self) -> bool {
        self.number == 0 || self.compacted.is_some_and(|compacted| compacted.number == self.number)
    }

    /// The text.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = format!("{COMMIT_MAGIC}\narchive {}\nnumber {}\n", crate::bytes::hex(&self.archive), self.number);
        let kind = match self.kind {
            CommitKind::Snapshot => "snapshot",
            CommitKind::Checkpoint => "checkpoint",
        };
        // Writing to a String cannot fail.
        let _ = write!(out, "kind {kind}\ntime {}\n", self.time);
        let part = |p: &Part| format!("{} {} {}", p.offset, p.len, p.sha1);
        if let Some(p) = &self.previous {
            let _ = writeln!(out, "previous {}", part(p));
        }
        if let Some(p) = &self.table {
            let _ = writeln!(out, "table {}", part(p));
        }
        if let Some((p, count)) = &self.messages {
            let _ = writeln!(out, "messages {} {count}", part(p));
        }
        for (key, value) in [("source", &self.source), ("cyrus", &self.cyrus)] {
            if !value.is_empty() {
                let _ = writeln!(out, "{key} {}", percent(value.as_bytes(), b""));
            }
        }
        self.emit_standing(&mut out);
        if let Some(since) = &self.hold {
            let _ = writeln!(out, "hold {since}");
        }
        if let Some(Compacted { time, number, head }) = &self.compacted {
            let _ = writeln!(out, "compacted {time} {number} {head}");
        }
        let _ = writeln!(out, "totals messages={} raw={} dead={}", self.total_messages, self.total_raw, self.total_dead);
        let _ = writeln!(out, "added messages={} raw={}", self.added_messages, self.added_raw);
        let _ = writeln!(out, "writer {}", percent(self.writer.as_bytes(), b""));
        out.into_bytes()
    }

    fn emit_standing(&self, out: &mut String) {
        let encoded = |text: &str| percent(text.as_bytes(), b"");
        let Standing { home, formerly, alarms, gone, strangers } = &self.standing;
        // A snapshot of a server is its own home.
        if let Some(home) = home.as_ref().filter(|home| self.kind == CommitKind::Checkpoint || **home != self.source) {
            let _ = writeln!(out, "home {}", encoded(home));
        }
        if let Some(name) = formerly {
            let _ = writeln!(out, "formerly {}", encoded(name));
        }
        for Alarm { cause, since, before, after } in alarms {
            let (word, source) = match cause {
                Cause::MassLoss => ("mass-loss", String::new()),
                Cause::Vanished => ("vanished", String::new()),
                Cause::Unclaimed => ("unclaimed", String::new()),
                Cause::OtherSource(source) => ("other-source", format!(" source={}", encoded(source))),
            };
            let _ = writeln!(out, "alarm {word} before={before} after={after} since={since}{source}");
        }
        if let Some(since) = gone {
            let _ = writeln!(out, "gone {since}");
        }
        for stranger in strangers {
            let _ = writeln!(out, "stranger {}", encoded(stranger));
        }
    }

    /// Reads the text. Unknown lines are left out.
    pub fn parse(b: &[u8]) -> Result<Commit, Damage> {
        let object = "meta/commit";
        if b.len() > COMMIT_MAX {
            return Err(Damage::new(object, 0, "length", b.len(), format!("at most {COMMIT_MAX}")));
        }
        let lines = lines(b, object, COMMIT_MAGIC)?;
        let mut found: Vec<Words<'_>> = Vec::new();
        for words in lines {
            found.push(words);
        }
        let fields = Fields { object, lines: &found };
        let archive = fields.need("archive")?;
        let kind = match fields.need("kind")?.rest {
            b"snapshot" => CommitKind::Snapshot,
            b"checkpoint" => CommitKind::Checkpoint,
            other => return Err(Damage::new(object, 0, "kind", shown(other), "snapshot or checkpoint")),
        };
        let (totals, added) = (fields.need("totals")?, fields.need("added")?);
        Ok(Commit {
            archive: from_hex16(archive.rest)
                .ok_or_else(|| archive.damage("archive", &shown(archive.rest), "32 hexadecimal digits"))?,
            number: fields.number("number")?,
            kind,
            time: time_of(fields.need("time")?, "time")?,
            previous: fields.part("previous")?.map(|(part, _)| part),
            table: fields.part("table")?.map(|(part, _)| part),
            messages: match fields.part("messages")? {
                Some((part, Some(count))) => Some((part, count)),
                Some((_, None)) => return Err(Damage::new(object, 0, "messages", "no count", "offset, length, SHA-1, count")),
                None => None,
            },
            standing: standing_of(&fields, kind)?,
            source: fields.text("source")?,
            cyrus: fields.text("cyrus")?,
            hold: fields.get("hold").map(|words| time_of(words, "hold")).transpose()?,
            compacted: fields.get("compacted").map(Compacted::parse).transpose()?,
            total_messages: totals.number("messages")?,
            total_raw: totals.number("raw")?,
            total_dead: totals.number("dead")?,
            added_messages: added.number("messages")?,
            added_raw: added.number("raw")?,
            writer: fields.text("writer")?,
        })
    }
}

fn time_of(words: &Words<'_>, key: &'static str) -> Result<Time, Damage> {
    parse_time(words.rest).ok_or_else(|| words.damage(key, &shown(words.rest), "seconds.nanoseconds"))
}

/// What holds. An alarm of a cause that is not known counts as a loss: somebody should look.
fn standing_of(fields: &Fields<'_>, kind: CommitKind) -> Result<Standing, Damage> {
    let (home, formerly) = (fields.optional_text("home")?, fields.optional_text("formerly")?);
    let mut standing = Standing { home, formerly, ..Standing::default() };
    if standing.home.is_none() && kind == CommitKind::Snapshot {
        standing.home = fields.optional_text("source")?.filter(|source| standing::is_server(source));
    }
    for words in fields.all("alarm").take(STANDING_MAX) {
        let cause = match words.rest.split(|&c| c == b' ').next() {
            Some(b"vanished") => Cause::Vanished,
            Some(b"unclaimed") => Cause::Unclaimed,
            Some(b"other-source") => Cause::OtherSource(words.string("source")?),
            _ => Cause::MassLoss,
        };
        let since = match words.get("since") {
            Some(since) => parse_time(since).ok_or_else(|| words.damage("since", &shown(since), "seconds.nanoseconds"))?,
            None => Time::ZERO,
        };
        standing.raise(Alarm { cause, since, before: words.number("before")?, after: words.number("after")? });
    }
    standing.gone = fields.get("gone").map(|words| time_of(words, "gone")).transpose()?;
    for words in fields.all("stranger").take(STANDING_MAX) {
        standing.strangers.push(text_of(words, "stranger")?);
    }
    Ok(standing)
}

fn text_of(words: &Words<'_>, key: &'static str) -> Result<String, Damage> {
    let bytes = unpercent(words.rest).ok_or_else(|| words.damage(key, &shown(words.rest), "percent-encoded text"))?;
    Ok(String::from_utf8_lossy(&bytes).to_string())
}

impl Compacted {
    fn parse(words: &Words<'_>) -> Result<Compacted, Damage> {
        let mut split = words.rest.split(|&c| c == b' ');
        let mut read = || {
            let (time, number) = (parse_time(split.next()?)?, parse_number(split.next()?)?);
            Some(Compacted { time, number, head: Guid::from_hex(split.next()?)? })
        };
        read().ok_or_else(|| words.damage("compacted", &shown(words.rest), "time, number, SHA-1"))
    }
}

fn from_hex16(digits: &[u8]) -> Option<[u8; 16]> {
    if digits.len() != 32 {
        return None;
    }
    let mut out = [0; 16];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let (hi, lo) = (char::from(pair[0]).to_digit(16)?, char::from(pair[1]).to_digit(16)?);
        *byte = (hi * 16 + lo) as u8;
    }
    Some(out)
}

/// The lines of a commit record by their first words.
struct Fields<'a> {
    object: &'static str,
    lines: &'a [Words<'a>],
}

impl<'a> Fields<'a> {
    fn get(&self, key: &str) -> Option<&'a Words<'a>> {
        self.lines.iter().find(|words| words.first == key.as_bytes())
    }

    fn need(&self, key: &'static str) -> Result<&'a Words<'a>, Damage> {
        self.get(key).ok_or_else(|| Damage::new(self.object, 0, key, "no such line", "one"))
    }

    fn number(&self, key: &'static str) -> Result<u64, Damage> {
        let words = self.need(key)?;
        parse_number(words.rest).ok_or_else(|| words.damage(key, &shown(words.rest), "a number"))
    }

    fn all(&self, key: &'static str) -> impl Iterator<Item = &'a Words<'a>> {
        self.lines.iter().filter(move |words| words.first == key.as_bytes())
    }

    fn text(&self, key: &'static str) -> Result<String, Damage> {
        self.optional_text(key).map(Option::unwrap_or_default)
    }

    fn optional_text(&self, key: &'static str) -> Result<Option<String>, Damage> {
        self.get(key).map(|words| text_of(words, key)).transpose()
    }

    /// Offset, length, SHA-1 and what number stands behind them.
    fn part(&self, key: &'static str) -> Result<Option<(Part, Option<u64>)>, Damage> {
        let Some(words) = self.get(key) else { return Ok(None) };
        let mut split = words.rest.split(|&c| c == b' ');
        let mut read = || {
            let (offset, len) = (parse_number(split.next()?)?, parse_number(split.next()?)?);
            let sha1 = Guid::from_hex(split.next()?)?;
            Some((Part { offset, len, sha1 }, split.next().and_then(parse_number)))
        };
        read().map(Some).ok_or_else(|| words.damage(key, &shown(words.rest), "offset, length, SHA-1"))
    }
}

/// One message of the archive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct MessageAt {
    /// SHA-1 of its content.
    pub guid: Guid,
    /// Its entry.
    pub at: Location,
    /// Bytes of content.
    pub size: u64,
}

/// Writes the list of messages of a commit; `messages` must be in ascending order of SHA-1.
pub fn emit_list(messages: &[MessageAt]) -> Vec<u8> {
    let mut out = Vec::with_capacity(LIST_MAGIC.len() + messages.len() * LIST_RECORD);
    out.extend_from_slice(LIST_MAGIC);
    for m in messages {
        out.extend_from_slice(&m.guid.0);
        out.extend_from_slice(&m.at.member.to_be_bytes());
        out.extend_from_slice(&m.at.inside.to_be_bytes());
        out.extend_from_slice(&m.size.to_be_bytes());
    }
    out
}

/// A list of messages, read in place.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MessageList(Vec<u8>);

impl MessageList {
    /// Takes the bytes of a list after looking at their shape; that they are sorted is checked.
    pub fn parse(bytes: Vec<u8>) -> Result<MessageList, Damage> {
        let object = "meta/messages";
        if !bytes.starts_with(LIST_MAGIC) {
            return Err(Damage::new(object, 0, "first line", shown(&bytes[..bytes.len().min(32)]), "cylinder-messages 1"));
        }
        if !(bytes.len() - LIST_MAGIC.len()).is_multiple_of(LIST_RECORD) {
            return Err(Damage::new(object, bytes.len() as u64, "length", bytes.len(), "32 bytes and records of 40"));
        }
        let list = MessageList(bytes);
        if !list.guids().is_sorted_by(|a, b| a < b) {
            return Err(Damage::new(object, 0, "order", "SHA-1s out of order", "ascending SHA-1s, each once"));
        }
        Ok(list)
    }

    fn records(&self) -> core::slice::ChunksExact<'_, u8> {
        self.0.get(LIST_MAGIC.len()..).unwrap_or_default().chunks_exact(LIST_RECORD)
    }

    fn guids(&self) -> impl Iterator<Item = &[u8]> {
        self.records().map(|r| &r[..20])
    }

    /// How many messages it lists.
    pub fn len(&self) -> usize {
        self.records().len()
    }

    /// True if it lists none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All messages, in ascending order of SHA-1.
    pub fn iter(&self) -> impl Iterator<Item = MessageAt> {
        self.records().map(message)
    }

    /// The message with this SHA-1.
    pub fn find(&self, guid: &Guid) -> Option<MessageAt> {
        let records = self.0.get(LIST_MAGIC.len()..).unwrap_or_default();
        let (mut low, mut high) = (0, records.len() / LIST_RECORD);
        while low < high {
            let middle = low + (high - low) / 2;
            let record = &records[middle * LIST_RECORD..(middle + 1) * LIST_RECORD];
            match record[..20].cmp(&guid.0) {
                core::cmp::Ordering::Equal => return Some(message(record)),
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

fn message(r: &[u8]) -> MessageAt {
    let mut guid = [0; 20];
    guid.copy_from_slice(&r[..20]);
    MessageAt { guid: Guid(guid), at: Location { member: be64(r, 20), inside: be32(r, 28) }, size: be64(r, 32) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn tuple() -> Tuple {
        Tuple { size: 5, mtime: Time(-1), ctime: Time(1_795_456_542_000_000_123), ino: 7 }
    }

    fn table() -> Table {
        let at = Slot::At(Location { member: 1 << 40, inside: 512 });
        Table {
            databases: vec![DatabaseRow { name: "annotations".into(), tuple: tuple() }],
            folders: vec![
                FolderRow {
                    name: b"INBOX".to_vec(),
                    id: b"x1".to_vec(),
                    entry: b"%(T e)\x1f\xff".to_vec(),
                    ..FolderRow::default()
                },
                FolderRow {
                    name: b"INBOX.a b%c\n".to_vec(),
                    id: b"x2".to_vec(),
                    version: Some(17),
                    uidvalidity: Some(u32::MAX),
                    modseq: Some(u64::MAX),
                    header_crc: Some(0),
                    exists: 3,
                    expunged: 1,
                    bytes: 99,
                    young: true,
                    files: vec![FileRow { name: "cyrus.index".into(), tuple: tuple(), sha1: Guid::of(b"i"), at }],
                    missing: vec![
                        MissingRow { uid: 4, guid: None, why: Absence::Absent, found: None },
                        MissingRow { uid: 5, guid: Some(Guid::of(b"g")), why: Absence::Mismatch, found: Some(Guid::of(b"h")) },
                    ],
                    ..FolderRow::default()
                },
            ],
            states: vec![
                StateRow {
                    name: b"meta/sub".to_vec(),
                    tuple: Some(tuple()),
                    content: StateContent::File { sha1: Guid::of(b"s"), size: 5, at },
                },
                StateRow {
                    name: b"meta/x".to_vec(),
                    tuple: None,
                    content: StateContent::File { sha1: Guid::of(b""), size: 0, at },
                },
                StateRow {
                    name: b"sieve/defaultbc".to_vec(),
                    tuple: None,
                    content: StateContent::Link { target: b"a b".to_vec(), at },
                },
            ],
            lacking: vec![
                LackingRow { name: b"INBOX.a b%c\n".to_vec(), why: Lack::Unreadable, id: Some(b"x2".to_vec()) },
                LackingRow { name: b"INBOX.gone".to_vec(), why: Lack::IndexLost, id: None },
                LackingRow { name: b"INBOX.gone".to_vec(), why: Lack::Other("a new\nword".into()), id: Some(b"".to_vec()) },
            ],
        }
    }

    #[test]
    fn what_a_snapshot_lacks_is_written_in_order_and_read_whatever_its_reason() {
        let mut rows = table().lacking;
        rows.reverse();
        rows.push(rows[0].clone());
        let text = Table { lacking: rows, ..table() }.emit();
        assert_eq!(text, table().emit());
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.ends_with("lacking name=INBOX.gone why=index-lost\nlacking name=INBOX.gone why=a%20new%0Aword id=\n"),
            "{text}"
        );
        // Who reads the line passes over words of it that are not known yet.
        let newer = "cylinder-folders 1\nlacking name=INBOX.x why=not-saved said=because\n";
        let row = LackingRow { name: b"INBOX.x".to_vec(), why: Lack::NotSaved, id: None };
        assert_eq!(Table::parse(newer.as_bytes()).unwrap().lacking, [row]);
        for bad in ["lacking why=not-saved", "lacking name=x", "lacking name=%zz why=x"] {
            assert!(Table::parse(format!("cylinder-folders 1\n{bad}\n").as_bytes()).is_err(), "{bad}");
        }
        for (name, why) in [(NAME_MAX + 1, 1), (1, WORD_MAX + 1)] {
            let line = format!("lacking name={} why={}", "n".repeat(name), "w".repeat(why));
            assert!(Table::parse(format!("cylinder-folders 1\n{line}\n").as_bytes()).is_err());
        }
    }

    #[test]
    fn the_table_of_a_snapshot_that_lacks_nothing_says_nothing_of_it() {
        let text = Table { lacking: Vec::new(), ..table() }.emit();
        assert!(!text.windows(7).any(|word| word == b"lacking"));
        assert_eq!(Table::parse(&text).unwrap().lacking, []);
    }

    /// Found by fuzzing: a line with two sizes was a file of the one size with a tuple of the other.
    #[test]
    fn a_state_has_one_size() {
        let text = b"cylinder-folders 1\nstate name=meta/sub size=5 size=6 mtime=1.000000000 ctime=1.000000000 ino=7 \
            sha1=0000000000000000000000000000000000000000 at=1+2\n";
        let table = Table::parse(text).unwrap();
        let StateContent::File { size, .. } = table.states[0].content else { panic!("a file") };
        assert_eq!((size, table.states[0].tuple.map(|t| t.size)), (5, Some(5)));
        assert_eq!(Table::parse(&table.emit()), Ok(table));
    }

    #[test]
    fn tables_round_trip() {
        let text = table().emit();
        assert_eq!(Table::parse(&text).unwrap(), table(), "{}", String::from_utf8_lossy(&text));
        assert_eq!(Table::parse(&Table::default().emit()).unwrap(), Table::default());
        let mut newer = text.clone();
        newer.extend_from_slice(b"novelty x=1\n");
        assert_eq!(Table::parse(&newer).unwrap(), table());
    }

    #[test]
    fn cut_tables_are_damage_or_shorter_and_never_a_panic() {
        let text = table().emit();
        for len in 0..text.len() {
            if let Ok(t) = Table::parse(&text[..len]) {
                assert!(text[..len].ends_with(b"\n") && t != table());
            }
        }
    }

    fn commit() -> Commit {
        let part = Part { offset: 9, len: 8, sha1: Guid::of(b"p") };
        Commit {
            archive: *b"0123456789abcdef",
            number: 7,
            kind: CommitKind::Snapshot,
            time: Time(1_795_456_542_123_456_789),
            previous: Some(part),
            table: Some(part),
            messages: Some((part, 3)),
            source: "local:/etc/imapd.conf".into(),
            cyrus: "3.6 or like it".into(),
            standing: standing(),
            hold: Some(Time(1_795_456_000_000_000_001)),
            compacted: Some(Compacted { time: Time(1_795_456_001_000_000_000), number: 6, head: Guid::of(b"h") }),
            total_messages: 1,
            total_raw: 2,
            total_dead: 3,
            added_messages: 4,
            added_raw: 5,
            writer: "cylinder 0.1.0".into(),
        }
    }

    fn standing() -> Standing {
        let alarm = |cause, secs| Alarm { cause, since: Time::from_secs(secs), before: 20000, after: 12 };
        Standing {
            home: Some("local:/etc/imapd.conf".into()),
            formerly: Some("anna smith".into()),
            alarms: alloc::vec![
                alarm(Cause::MassLoss, 1),
                alarm(Cause::Vanished, 2),
                alarm(Cause::Unclaimed, 3),
                alarm(Cause::OtherSource("ssh://cyrus@imap 2".into()), 4),
                alarm(Cause::OtherSource("ssh://imap3\n".into()), 5),
            ],
            gone: Some(Time(1_795_456_000_000_000_002)),
            strangers: alloc::vec!["unix:/run/a b".into(), "%".into()],
        }
    }

    #[test]
    fn alarms_of_earlier_versions_and_of_later_ones_are_losses() {
        let blank =
            Commit { kind: CommitKind::Snapshot, source: "ssh://imap1".into(), ..Commit::blank([1; 16], Time::ZERO, "") };
        for line in ["alarm mass-loss before=5 after=1\n", "alarm flood before=5 after=1 water=high\n"] {
            let text = [&blank.emit()[..], line.as_bytes()].concat();
            let standing = Commit::parse(&text).unwrap().standing;
            assert_eq!(standing.alarms, [Alarm { cause: Cause::MassLoss, since: Time::ZERO, before: 5, after: 1 }]);
            assert_eq!(standing.home.as_deref(), Some("ssh://imap1"), "the source of a snapshot is its home");
        }
        let imported = Commit { source: "import:a.tar.gz".into(), ..blank };
        assert_eq!(Commit::parse(&imported.emit()).unwrap().standing, Standing::default());
    }

    #[test]
    fn commits_round_trip() {
        let first = Commit { previous: None, table: None, messages: None, hold: None, compacted: None, ..commit() };
        let bare = Commit { standing: Standing { home: standing().home, ..Standing::default() }, ..commit() };
        let moved = Commit { standing: Standing { home: Some("ssh://imap2".into()), ..Standing::default() }, ..commit() };
        let first = Commit { kind: CommitKind::Checkpoint, ..first };
        for c in [commit(), first, bare, moved] {
            let text = c.emit();
            assert_eq!(Commit::parse(&text).unwrap(), c, "{}", String::from_utf8_lossy(&text));
        }
        assert!(Commit::parse(b"cylinder-commit 2\n").is_err());
    }

    #[test]
    fn lists_are_searched_in_place() {
        let mut all: Vec<MessageAt> = (0..1000u32)
            .map(|n| MessageAt {
                guid: Guid::of(&n.to_be_bytes()),
                at: Location { member: n.into(), inside: n },
                size: n.into(),
            })
            .collect();
        all.sort();
        let list = MessageList::parse(emit_list(&all)).unwrap();
        assert_eq!(list.iter().collect::<Vec<_>>(), all);
        assert!(all.iter().all(|m| list.find(&m.guid) == Some(*m)));
        assert_eq!(list.find(&Guid::NULL), None);
        let mut bad = emit_list(&all);
        let (first, second) = bad[LIST_MAGIC.len()..].split_at_mut(LIST_RECORD);
        first.swap_with_slice(&mut second[..LIST_RECORD]);
        assert!(MessageList::parse(bad).is_err());
    }
}
