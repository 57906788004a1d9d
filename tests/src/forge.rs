//! Archives that nobody of ours would write, sealed as if they were: every CRC, length and SHA-1 of the container is right, and
//! what is in it is what the test wants.
//!
//! What must not come in: reading them.

use cylinder_core::archive::entry;
use cylinder_core::archive::member::{self, Footer, Kind};
use cylinder_core::archive::record::{Commit, CommitKind, Location, MessageAt, Part, Table, emit_list};
use cylinder_core::codec::Portable;
use cylinder_core::guid::Guid;
use cylinder_core::time::Time;

/// The name that a forged archive gives itself.
const ARCHIVE: [u8; 16] = *b"a forged archive";
/// When everything in it was written.
const TIME: Time = Time(1_700_000_000_000_000_000);

/// An archive under way.
pub struct Forge {
    bytes: Vec<u8>,
    last: Part,
    number: u64,
    messages: Vec<MessageAt>,
}

impl Default for Forge {
    fn default() -> Forge {
        Forge::new()
    }
}

impl Forge {
    /// Head and commit 0.
    pub fn new() -> Forge {
        let nothing = Part { offset: 0, len: 0, sha1: Guid::NULL };
        let mut forge = Forge { bytes: Vec::new(), last: nothing, number: 0, messages: Vec::new() };
        forge.file(Kind::Head, b"meta/about", b"forged\n");
        let commit = Commit { kind: CommitKind::Checkpoint, previous: None, ..forge.record(None, None) };
        forge.commit_record(&commit.emit());
        forge
    }

    /// Appends a member of this content; answers where it begins.
    pub fn member(&mut self, kind: Kind, flags: u8, raw: &[u8]) -> u64 {
        let (at, mut member) = (self.bytes.len() as u64, Vec::new());
        member::seal(&mut Portable, kind, flags, raw, 1, None, &mut member).expect("a member that fits");
        self.bytes.extend_from_slice(&member);
        at
    }

    /// Appends bytes as they are; answers where they begin.
    pub fn bytes(&mut self, bytes: &[u8]) -> u64 {
        self.bytes.extend_from_slice(bytes);
        (self.bytes.len() - bytes.len()) as u64
    }

    /// Appends a file in a member of its own; answers where.
    pub fn file(&mut self, kind: Kind, name: &[u8], content: &[u8]) -> Location {
        let raw = file(name, content);
        Location { member: self.member(kind, 0, &raw), inside: 0 }
    }

    /// Appends a message, which the next commit lists.
    pub fn message(&mut self, content: &[u8]) -> Guid {
        let guid = Guid::of(content);
        let at = self.file(Kind::Data, format!("files/{guid}").as_bytes(), content);
        self.messages.push(MessageAt { guid, at, size: content.len() as u64 });
        guid
    }

    /// Changes what the next commit says of its messages.
    pub fn lie(&mut self, change: impl Fn(MessageAt) -> MessageAt) {
        self.messages.iter_mut().for_each(|message| *message = change(*message));
    }

    /// Appends an entry that fills members of its own, as many as it takes: a list or a table.
    pub fn part(&mut self, kind: Kind, name: &[u8], content: &[u8]) -> Part {
        let (offset, raw) = (self.bytes.len() as u64, file(name, content));
        let count = raw.chunks(member::RAW_MAX).count();
        for (n, piece) in raw.chunks(member::RAW_MAX).enumerate() {
            let begins = if n > 0 { member::CONTINUES } else { 0 };
            let ends = if n + 1 < count { member::TO_BE_CONTINUED } else { 0 };
            self.member(kind, begins | ends, piece);
        }
        Part { offset, len: self.bytes.len() as u64 - offset, sha1: Guid::of(content) }
    }

    /// A record for the next commit, as it ought to be.
    pub fn record(&self, table: Option<Part>, messages: Option<(Part, u64)>) -> Commit {
        Commit {
            number: self.number,
            kind: CommitKind::Snapshot,
            previous: Some(self.last),
            table,
            messages,
            source: String::from("forge"),
            cyrus: String::from("3.6"),
            ..Commit::blank(ARCHIVE, TIME, "forge")
        }
    }

    /// Appends list, table and a commit that `change` has had in its hands.
    pub fn commit(&mut self, table: &[u8], change: impl FnOnce(&mut Commit)) {
        let mut list = std::mem::take(&mut self.messages);
        list.sort();
        let messages =
            (!list.is_empty()).then(|| (self.part(Kind::List, b"meta/messages", &emit_list(&list)), list.len() as u64));
        let table = self.part(Kind::Table, b"meta/folders", table);
        let mut commit = self.record(Some(table), messages);
        change(&mut commit);
        self.commit_record(&commit.emit());
    }

    /// The same with an orderly table.
    pub fn snapshot(&mut self, table: &Table) {
        self.commit(&table.emit(), |_| ());
    }

    /// Appends a commit record of any text.
    pub fn commit_record(&mut self, text: &[u8]) {
        let at = self.file(Kind::Commit, b"meta/commit", text).member;
        self.last = Part { offset: at, len: self.bytes.len() as u64 - at, sha1: Guid::of(text) };
        self.number += 1;
    }

    /// Where the next member will be.
    pub fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// False: it has a head.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The last commit.
    pub fn last(&self) -> Part {
        self.last
    }

    /// The archive with a footer that closes the last commit.
    pub fn finish(mut self) -> Vec<u8> {
        let footer = Footer {
            offset: self.bytes.len() as u64,
            commit_offset: self.last.offset,
            commit_len: self.last.len as u32,
            commit_sha1: self.last.sha1,
        };
        self.bytes.extend_from_slice(&footer.emit());
        self.bytes
    }
}

/// A whole entry: header, content, padding.
pub fn file(name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    entry::emit_file(&mut raw, name, content.len() as u64, TIME, Some(Guid::of(content)));
    raw.extend_from_slice(content);
    raw.resize(raw.len() + entry::padding(content.len() as u64), 0);
    raw
}

/// A link.
pub fn link(name: &[u8], target: &[u8]) -> Vec<u8> {
    let mut raw = Vec::new();
    entry::emit_link(&mut raw, name, target, TIME);
    raw
}

/// Changes a header block at the start of `raw` and makes its checksum right again.
pub fn patched(mut raw: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut raw);
    raw[148..156].fill(b' ');
    let sum: u32 = raw[..entry::BLOCK].iter().map(|&b| u32::from(b)).sum();
    raw[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    raw
}
