//! Entries into members, members into a file, in order: what appending and compacting have in common (FORMAT.md section 3).
//!
//! Members are deflated by the driver, several at a time if it has threads, and written in order; whole ones can be put between
//! them. Memory: at most [`Settings::ahead`] + 3 members of content and as many compressed, plus 16 bytes for each entry. The
//! first failure is remembered and repeated. What must not come in: commits, and where an archive ends.

use super::append::Settings;
use super::entry;
use super::member::{CONTINUES, HEADER_LEN, Kind, RAW_MAX, TO_BE_CONTINUED, TRAILER_LEN};
use super::record::{Location, MessageAt, Part, emit_list};
use crate::error::{Error, Fault};
use crate::guid::{Guid, Sha1};
use crate::io::{Call, FileId, Io, Op, Reply};
use crate::time::Time;
use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

/// Content that is gathered into one member.
pub(crate) const GATHER: usize = 256 << 10;
/// A message of this size or more has members of its own.
pub(crate) const ALONE: usize = 64 << 10;
/// A list of messages longer than this is stored, not deflated.
const STORED: usize = 8 << 10;
/// Bytes of whole members that are written at once.
const COPIED: usize = 1 << 20;

/// Entries that are gathered for one member.
#[derive(Default)]
struct Batch {
    raw: Vec<u8>,
    entries: Vec<(u32, u32)>,
}

/// Members on their way.
enum Flight {
    /// One that is being deflated; token and offset inside of each entry.
    Sealing(Call, Vec<(u32, u32)>),
    /// Whole ones, one behind the other.
    Whole(Whole),
}

/// Members that are copied.
#[derive(Default)]
struct Whole {
    bytes: Vec<u8>,
    /// Where each begins in `bytes`.
    starts: Vec<usize>,
    /// Token of each entry, where its member begins in `bytes`, offset inside.
    entries: Vec<(u32, usize, u32)>,
}

/// An entry that goes through several members.
struct Large {
    kind: Kind,
    token: u32,
    left: u64,
    size: u64,
    first: bool,
}

/// Writes entries to a file, from some offset on.
pub(crate) struct Packer {
    io: Io,
    /// The file's name, for errors.
    object: String,
    pub(crate) file: FileId,
    /// Where the next member goes that is not under way.
    pub(crate) at: u64,
    level: u8,
    check: bool,
    ahead: usize,
    data: Batch,
    meta: Batch,
    large: Option<Large>,
    flights: VecDeque<Flight>,
    /// Locations by token.
    pub(crate) locations: Vec<Location>,
    /// Bytes of content that were taken in; whoever commits sets it to 0.
    pub(crate) raw: u64,
    /// Over headers and trailers of all members that were written.
    seams: Sha1,
    pub(crate) failed: Option<Error>,
    messages_first: bool,
    spare: Vec<Vec<u8>>,
}

impl Packer {
    /// Writes to `file` from `at` on.
    pub(crate) fn new(io: &Io, file: FileId, at: u64, object: String, settings: &Settings) -> Packer {
        Packer {
            io: io.clone(),
            object,
            file,
            at,
            level: settings.level,
            check: settings.check,
            ahead: settings.ahead,
            data: Batch::default(),
            meta: Batch::default(),
            large: None,
            flights: VecDeque::new(),
            locations: Vec::new(),
            raw: 0,
            seams: Sha1::new(),
            failed: None,
            messages_first: false,
            spare: Vec::new(),
        }
    }

    /// The same, but no metadata goes before messages that came before it.
    pub(crate) fn messages_first(self) -> Packer {
        Packer { messages_first: true, ..self }
    }

    /// Closes the file. What was not written is nothing.
    pub(crate) async fn close(mut self) {
        // What is under way comes back, so that its buffers and its file are not used any more.
        while let Some(flight) = self.flights.pop_front() {
            if let Flight::Sealing(call, _) = flight {
                let _ = call.await;
            }
        }
        let _ = self.io.close(self.file).await;
    }

    /// The SHA-1 of headers and trailers of all members that were written, one behind the other. With a good CRC of what is
    /// between them in each, that is all of their bytes.
    pub(crate) fn seams(&self) -> Guid {
        self.seams.clone().finish()
    }

    pub(crate) fn good(&self) -> Result<(), Error> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn fail<T>(&mut self, doing: &'static str, fault: Fault) -> Result<T, Error> {
        let error = Error::world(doing, &self.object[..], fault);
        self.failed = Some(error.clone());
        Err(error)
    }

    pub(crate) async fn add(
        &mut self,
        kind: Kind,
        name: &[u8],
        mtime: Time,
        content: &[u8],
        sha1: Option<Guid>,
    ) -> Result<u32, Error> {
        self.good()?;
        let mut header = Vec::new();
        entry::emit_file(&mut header, name, content.len() as u64, mtime, sha1);
        let alone = if kind == Kind::Data { ALONE } else { RAW_MAX };
        if header.len() + content.len() + entry::BLOCK > alone {
            let token = self.begin_large(kind, &header, content.len() as u64).await?;
            self.large_piece(content).await?;
            self.end_large().await?;
            return Ok(token);
        }
        self.gather(kind, &header, content).await
    }

    fn batch(&mut self, kind: Kind) -> &mut Batch {
        if kind == Kind::Data { &mut self.data } else { &mut self.meta }
    }

    /// Puts a small entry to others of its kind.
    pub(crate) async fn gather(&mut self, kind: Kind, header: &[u8], content: &[u8]) -> Result<u32, Error> {
        let len = header.len() + content.len() + entry::padding(content.len() as u64);
        if self.batch(kind).raw.len() + len > GATHER && !self.batch(kind).raw.is_empty() {
            self.flush(kind).await?;
        }
        let token = self.token();
        let batch = self.batch(kind);
        batch.entries.push((token, batch.raw.len() as u32));
        batch.raw.extend_from_slice(header);
        batch.raw.extend_from_slice(content);
        batch.raw.resize(batch.raw.len() + entry::padding(content.len() as u64), 0);
        self.raw += len as u64;
        Ok(token)
    }

    /// A token for an entry that stands in the file already.
    pub(crate) fn stands(&mut self, at: Location) -> u32 {
        self.locations.push(at);
        (self.locations.len() - 1) as u32
    }

    fn token(&mut self) -> u32 {
        self.locations.push(Location::default());
        (self.locations.len() - 1) as u32
    }

    pub(crate) async fn begin_large(&mut self, kind: Kind, header: &[u8], size: u64) -> Result<u32, Error> {
        if kind == Kind::Meta && self.messages_first {
            self.flush_batch(Kind::Data).await?;
        }
        self.flush_batch(kind).await?;
        let token = self.token();
        self.batch(kind).raw.extend_from_slice(header);
        self.raw += header.len() as u64;
        self.large = Some(Large { kind, token, left: size, size, first: true });
        Ok(token)
    }

    pub(crate) async fn large_piece(&mut self, mut piece: &[u8]) -> Result<(), Error> {
        let Some(large) = &mut self.large else { return self.fail("append", Fault::Driver) };
        let Some(left) = large.left.checked_sub(piece.len() as u64) else { return self.fail("append", Fault::Driver) };
        large.left = left;
        let kind = large.kind;
        self.raw += piece.len() as u64;
        while !piece.is_empty() {
            if self.batch(kind).raw.len() == RAW_MAX {
                self.send_large(TO_BE_CONTINUED).await?;
            }
            let batch = self.batch(kind);
            let take = piece.len().min(RAW_MAX - batch.raw.len());
            batch.raw.extend_from_slice(&piece[..take]);
            piece = &piece[take..];
        }
        Ok(())
    }

    pub(crate) async fn end_large(&mut self) -> Result<(), Error> {
        let Some(&Large { kind, left, size, .. }) = self.large.as_ref() else { return self.fail("append", Fault::Driver) };
        if left > 0 {
            return self.fail("append", Fault::Driver);
        }
        // RAW_MAX is a multiple of the block, so the padding never needs a member of its own.
        let padding = entry::padding(size);
        let batch = self.batch(kind);
        batch.raw.resize(batch.raw.len() + padding, 0);
        self.raw += padding as u64;
        self.send_large(0).await?;
        self.large = None;
        Ok(())
    }

    async fn send_large(&mut self, flag: u8) -> Result<(), Error> {
        let Some(large) = &mut self.large else { return Ok(()) };
        let first = core::mem::replace(&mut large.first, false);
        let (kind, token) = (large.kind, large.token);
        let entries = if first { alloc::vec![(token, 0)] } else { Vec::new() };
        let raw = core::mem::take(&mut self.batch(kind).raw);
        self.send(kind, flag | if first { 0 } else { CONTINUES }, raw, entries).await
    }

    /// Sends what was gathered of a kind on its way.
    async fn flush(&mut self, kind: Kind) -> Result<(), Error> {
        if kind == Kind::Meta && self.messages_first && !self.meta.raw.is_empty() {
            self.flush_batch(Kind::Data).await?;
        }
        self.flush_batch(kind).await
    }

    async fn flush_batch(&mut self, kind: Kind) -> Result<(), Error> {
        if self.batch(kind).raw.is_empty() {
            return Ok(());
        }
        let Batch { raw, entries } = core::mem::take(self.batch(kind));
        self.send(kind, 0, raw, entries).await
    }

    async fn send(&mut self, kind: Kind, flags: u8, raw: Vec<u8>, entries: Vec<(u32, u32)>) -> Result<(), Error> {
        let buffer = self.spare.pop().unwrap_or_default();
        // SHA-1s do not deflate, and whoever looks for one message inflates lists and little else.
        let stored = kind == Kind::List && raw.len() > STORED;
        let (level, check) = (if stored { 0 } else { self.level }, self.check);
        let call = self.io.start(Op::Seal { kind, flags, raw, level, check, buffer });
        self.flights.push_back(Flight::Sealing(call, entries));
        // A fresh raw buffer is taken from those that came back.
        let spare = self.spare.pop().unwrap_or_default();
        self.batch(kind).raw = spare;
        while self.flights.len() > self.ahead {
            self.land().await?;
        }
        Ok(())
    }

    /// Appends a member as it stands, with entries at these offsets inside; the first one's token.
    pub(crate) async fn copy(&mut self, kind: Kind, member: &[u8], insides: &[u32]) -> Result<u32, Error> {
        self.good()?;
        self.flush(kind).await?;
        let first = self.locations.len() as u32;
        let joins = |w: &Whole| w.bytes.len() + member.len() <= COPIED;
        if !matches!(self.flights.back(), Some(Flight::Whole(whole)) if joins(whole)) {
            while self.flights.len() > self.ahead {
                self.land().await?;
            }
            let bytes = self.spare.pop().unwrap_or_default();
            self.flights.push_back(Flight::Whole(Whole { bytes, ..Whole::default() }));
        }
        let tokens: Vec<u32> = insides.iter().map(|_| self.token()).collect();
        if let Some(Flight::Whole(whole)) = self.flights.back_mut() {
            let start = whole.bytes.len();
            whole.bytes.extend_from_slice(member);
            whole.starts.push(start);
            whole.entries.extend(tokens.into_iter().zip(insides).map(|(token, inside)| (token, start, *inside)));
        }
        Ok(first)
    }

    /// Waits for the oldest members under way and writes them.
    async fn land(&mut self) -> Result<(), Error> {
        match self.flights.pop_front() {
            None => Ok(()),
            Some(Flight::Whole(Whole { bytes, starts, entries })) => {
                for (token, start, inside) in entries {
                    self.locations[token as usize] = Location { member: self.at + start as u64, inside };
                }
                for (n, &start) in starts.iter().enumerate() {
                    update_seams(&mut self.seams, &bytes[start..starts.get(n + 1).copied().unwrap_or(bytes.len())]);
                }
                self.write(bytes).await
            }
            Some(Flight::Sealing(call, entries)) => {
                let (member, raw) = match call.await {
                    Ok(Reply::Sealed { member, raw }) => (member, raw),
                    Ok(_) => return self.fail("deflate", Fault::Driver),
                    Err(fault) => return self.fail("deflate", fault),
                };
                for (token, inside) in entries {
                    self.locations[token as usize] = Location { member: self.at, inside };
                }
                self.keep(raw);
                update_seams(&mut self.seams, &member);
                self.write(member).await
            }
        }
    }

    fn keep(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < 2 * self.ahead + 2 {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    async fn write(&mut self, member: Vec<u8>) -> Result<(), Error> {
        let len = member.len() as u64;
        match self.io.write_at(self.file, self.at, member).await {
            Ok(buffer) => self.keep(buffer),
            Err(fault) => return self.fail("write", fault),
        }
        self.at += len;
        Ok(())
    }

    /// Writes the list of these messages (GUID, size, token), and how many they are; nothing if there are none.
    pub(crate) async fn list(&mut self, messages: &[(Guid, u64, u32)], time: Time) -> Result<Option<(Part, u64)>, Error> {
        if messages.is_empty() {
            return Ok(None);
        }
        let listed = |&(guid, size, token): &(Guid, u64, u32)| MessageAt { guid, at: self.locations[token as usize], size };
        let mut listed: Vec<MessageAt> = messages.iter().map(listed).collect();
        listed.sort();
        let part = self.part(Kind::List, b"meta/messages", time, &emit_list(&listed)).await?;
        Ok(Some((part, listed.len() as u64)))
    }

    pub(crate) async fn settle(&mut self) -> Result<(), Error> {
        if self.large.is_some() {
            return self.fail("append", Fault::Driver);
        }
        self.flush(Kind::Data).await?;
        self.flush(Kind::Meta).await?;
        while !self.flights.is_empty() {
            self.land().await?;
        }
        Ok(())
    }

    /// Writes one entry that has its members to itself.
    pub(crate) async fn part(&mut self, kind: Kind, name: &[u8], time: Time, content: &[u8]) -> Result<Part, Error> {
        let (offset, sha1) = (self.at, Guid::of(content));
        let mut raw = self.spare.pop().unwrap_or_default();
        raw.clear();
        entry::emit_file(&mut raw, name, content.len() as u64, time, Some(sha1));
        raw.extend_from_slice(content);
        raw.resize(raw.len() + entry::padding(content.len() as u64), 0);
        let count = raw.len().div_ceil(RAW_MAX);
        for (n, piece) in raw.chunks(RAW_MAX).enumerate() {
            let begins = if n > 0 { CONTINUES } else { 0 };
            let ends = if n + 1 < count { TO_BE_CONTINUED } else { 0 };
            self.send(kind, begins | ends, piece.to_vec(), Vec::new()).await?;
            while !self.flights.is_empty() {
                self.land().await?;
            }
        }
        self.keep(raw);
        Ok(Part { offset, len: self.at - offset, sha1 })
    }
}

/// Hashes header and trailer of a whole member.
pub(crate) fn update_seams(hash: &mut Sha1, member: &[u8]) {
    hash.update(&member[..member.len().min(HEADER_LEN)]);
    hash.update(&member[member.len().saturating_sub(TRAILER_LEN)..]);
}
