//! Fetching messages: each one whose content the archive lacks is read, its SHA-1 checked, and appended.
//!
//! No locks are held: message files never change, they can only vanish. A message that cannot be had never stops the rest.
//! What must not come in: metadata.

use super::report::{Problem, Report, Why};
use crate::archive::append::Writer;
use crate::archive::read::{Catalogue, Reader};
use crate::archive::record::{Absence, MissingRow};
use crate::cyrus::index::{Index, Record};
use crate::error::{Error, Fault};
use crate::guid::{Guid, Sha1};
use crate::io::{Event, How, Io, Place, Stat};
use crate::source::lock::close;
use crate::source::{FolderPaths, MetaFile};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

/// A message up to this size is read into memory as a whole; a larger one goes through a scratch file, in pieces.
pub const IN_MEMORY_MAX: u64 = 8 << 20;
/// A message larger than this is not taken: no Cyrus can have stored it (`maxmessagesize` is at most 2 GiB).
const MESSAGE_MAX: u64 = 4 << 30;
/// Bytes of one piece of a large message.
const PIECE: usize = 1 << 20;

/// What the messages of one folder came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FolderBodies {
    /// Records that are visible.
    pub exists: u64,
    /// Records that are expunged, their files not yet unlinked.
    pub expunged: u64,
    /// Sum of the sizes of both.
    pub bytes: u64,
    /// Messages that could not be saved as the index describes them.
    pub missing: Vec<MissingRow>,
    /// SHA-1 and size by UID, where the index has no GUIDs.
    pub guids: BTreeMap<u32, (Guid, u64)>,
    /// What to report about this folder.
    pub problems: Vec<Problem>,
    /// Some files were not there: the index may have changed meanwhile.
    pub vanished: bool,
}

/// Appends what is new, over all folders of one run.
pub struct Bodies<'a> {
    io: &'a Io,
    writer: &'a mut Writer,
    known: Catalogue,
    new: BTreeSet<Guid>,
    buffer: Vec<u8>,
}

/// Where a message was found wanting.
struct Failure {
    why: Why,
    path: Place,
}

impl<'a> Bodies<'a> {
    /// Bodies for `writer`, whose archive has the messages in `known`.
    pub fn new(io: &'a Io, writer: &'a mut Writer, known: Catalogue) -> Bodies<'a> {
        Bodies { io, writer, known, new: BTreeSet::new(), buffer: Vec::new() }
    }

    /// The archive as far as it is committed.
    pub fn archive(&self) -> &Reader {
        self.writer
    }

    /// How many messages of these records the archive lacks, and their bytes.
    pub fn lacking(&self, index: &Index<'_>) -> (u64, u64) {
        let known = |r: &Record| r.has_sha1_guid() && self.has(&r.guid);
        let wanted = index.records().flatten().filter(|r| !r.is_unlinked() && !known(r));
        wanted.fold((0, 0), |(n, bytes), r| (n + 1, bytes + r.size))
    }

    fn has(&self, guid: &Guid) -> bool {
        self.known.contains(guid) || self.new.contains(guid)
    }

    /// Fetches what the archive lacks of one folder. `previous` are the SHA-1s of an index without GUIDs, as far as they are
    /// known.
    ///
    /// An error is one of the archive, and ends the run; whatever is wrong with a message is in the result.
    pub async fn folder(
        &mut self,
        name: &[u8],
        paths: &FolderPaths,
        index: &Index<'_>,
        previous: &BTreeMap<u32, (Guid, u64)>,
        report: &mut Report,
    ) -> Result<FolderBodies, Error> {
        let mut out = FolderBodies::default();
        for record in index.records() {
            let record = match record {
                Ok(record) => record,
                Err(damage) => {
                    out.problems.push(Problem::Record { folder: name.to_vec(), error: damage.into() });
                    out.missing.push(MissingRow { uid: 0, guid: None, why: Absence::UnreadableRecord, found: None });
                    continue;
                }
            };
            if record.is_unlinked() {
                continue;
            }
            if record.is_expunged() {
                out.expunged += 1;
            } else {
                out.exists += 1;
            }
            out.bytes += record.size;
            let expected = record.has_sha1_guid().then_some(record.guid);
            match self.message(paths, &record, expected, previous, report).await? {
                Ok(guid) if expected.is_none() => drop(out.guids.insert(record.uid.0, (guid, record.size))),
                Ok(_) => {}
                Err(failure) => out.fail(name, &record, expected, failure),
            }
            if self.writer.wants_checkpoint() {
                self.writer.checkpoint(self.io.now()).await?;
            }
        }
        Ok(out)
    }

    /// Makes sure that the archive has one message. Returns its SHA-1.
    async fn message(
        &mut self,
        paths: &FolderPaths,
        record: &Record,
        expected: Option<Guid>,
        previous: &BTreeMap<u32, (Guid, u64)>,
        report: &mut Report,
    ) -> Result<Result<Guid, Failure>, Error> {
        let guess = expected.or_else(|| previous.get(&record.uid.0).filter(|(_, size)| *size == record.size).map(|(g, _)| *g));
        if let Some(guid) = guess
            && self.has(&guid)
        {
            return Ok(Ok(guid));
        }
        let mut failure = None;
        for place in candidates(paths, record) {
            match self.fetch(&place, record, expected, report).await? {
                Ok(guid) => return Ok(Ok(guid)),
                // What was found first says more than that the other place has nothing.
                Err(why) => drop(failure.get_or_insert(Failure { why, path: place })),
            }
        }
        // `candidates` is never empty.
        Ok(Err(failure.unwrap_or(Failure { why: Why::Absent, path: paths.data.clone() })))
    }

    /// Reads one file and appends it.
    async fn fetch(
        &mut self,
        place: &Place,
        record: &Record,
        expected: Option<Guid>,
        report: &mut Report,
    ) -> Result<Result<Guid, Why>, Error> {
        let buffer = core::mem::take(&mut self.buffer);
        let (content, stat) = match self.io.read_whole(place, IN_MEMORY_MAX, buffer).await {
            Ok(whole) => whole,
            Err(Fault::TooLarge) => return self.fetch_large(place, record, expected, report).await,
            Err(Fault::NotFound) => return Ok(Err(Why::Absent)),
            Err(fault) => return Ok(Err(Why::Unreadable(Error::world("read", place.shown(), fault)))),
        };
        let guid = Guid::of(&content);
        if !self.has(&guid) {
            self.writer.message(guid, stat.mtime, &content).await?;
            self.count(guid, content.len() as u64, report);
        }
        let found_size = content.len() as u64;
        self.buffer = content;
        Ok(judge(record, expected, guid, found_size))
    }

    /// The same for a message that is too large for memory: copied to a scratch file first, because its SHA-1 must be known
    /// before its entry begins.
    async fn fetch_large(
        &mut self,
        place: &Place,
        record: &Record,
        expected: Option<Guid>,
        report: &mut Report,
    ) -> Result<Result<Guid, Why>, Error> {
        let unreadable = |doing, fault| Ok(Err(Why::Unreadable(Error::world(doing, place.shown(), fault))));
        let file = match self.io.open(place, How::Read).await {
            Ok(file) => file,
            Err(Fault::NotFound) => return Ok(Err(Why::Absent)),
            Err(fault) => return unreadable("open", fault),
        };
        let stat = match self.io.fstat(file).await {
            Ok(stat) if stat.size <= MESSAGE_MAX => stat,
            Ok(stat) => {
                close(self.io, file).await;
                let object = format!("{}: bytes of a message", place.shown());
                return Ok(Err(Why::Unreadable(Error::Limit { object, limit: MESSAGE_MAX, found: stat.size })));
            }
            Err(fault) => {
                close(self.io, file).await;
                return unreadable("stat", fault);
            }
        };
        let scratch = self.io.scratch().await.map_err(|fault| Error::world("create", "scratch file", fault))?;
        let mut hash = Sha1::new();
        let mut size = 0u64;
        let copied = loop {
            match self.io.read_at(file, size, PIECE, Vec::new()).await {
                Ok(piece) if piece.is_empty() => break Ok(()),
                Ok(piece) => {
                    hash.update(&piece);
                    let len = piece.len() as u64;
                    self.io.write_at(scratch, size, piece).await.map_err(|f| Error::world("write", "scratch file", f))?;
                    size += len;
                }
                Err(fault) => break Err(fault),
            }
        };
        close(self.io, file).await;
        if let Err(fault) = copied {
            close(self.io, scratch).await;
            return unreadable("read", fault);
        }
        let guid = hash.finish();
        if !self.has(&guid) {
            self.append_large(guid, size, &stat, scratch).await?;
            self.count(guid, size, report);
        }
        close(self.io, scratch).await;
        Ok(judge(record, expected, guid, size))
    }

    async fn append_large(&mut self, guid: Guid, size: u64, stat: &Stat, scratch: crate::io::FileId) -> Result<(), Error> {
        self.writer.begin_message(guid, size, stat.mtime).await?;
        let mut at = 0;
        while at < size {
            let piece = self.io.read_at(scratch, at, PIECE, Vec::new()).await;
            let piece = piece.map_err(|fault| Error::world("read", "scratch file", fault))?;
            at += piece.len() as u64;
            self.writer.piece(&piece).await?;
        }
        self.writer.end_message().await
    }

    fn count(&mut self, guid: Guid, size: u64, report: &mut Report) {
        self.new.insert(guid);
        report.messages_added += 1;
        report.bytes_added += size;
        self.io.event(Event::Progress { messages: 1, bytes: size });
    }
}

impl FolderBodies {
    /// Adds what another file of the same folder came to: cyrus.expunge of 2.3 lists expunged messages without saying so.
    pub fn add(&mut self, part: FolderBodies, file: MetaFile) {
        let visible = if file == MetaFile::Expunge { 0 } else { part.exists };
        self.exists += visible;
        self.expunged += part.expunged + part.exists - visible;
        self.bytes += part.bytes;
        self.missing.extend(part.missing);
        self.guids.extend(part.guids);
        self.problems.extend(part.problems);
        self.vanished |= part.vanished;
    }

    fn fail(&mut self, name: &[u8], record: &Record, expected: Option<Guid>, failure: Failure) {
        let (why, found) = match &failure.why {
            Why::Absent => (Absence::Absent, None),
            Why::Unreadable(_) => (Absence::Unreadable, None),
            Why::Mismatch { found, .. } => (Absence::Mismatch, Some(*found)),
        };
        self.vanished |= why == Absence::Absent;
        self.missing.push(MissingRow { uid: record.uid.0, guid: expected, why, found });
        self.problems.push(Problem::Message {
            folder: name.to_vec(),
            uid: record.uid.0,
            guid: expected,
            path: failure.path.shown(),
            why: failure.why,
        });
    }
}

/// Compares what was found with what the index says.
fn judge(record: &Record, expected: Option<Guid>, found: Guid, found_size: u64) -> Result<Guid, Why> {
    if expected.is_none_or(|guid| guid == found) && found_size == record.size {
        return Ok(found);
    }
    // A message whose SHA-1 is its GUID is whole, whatever the index says of its size.
    if expected == Some(found) {
        return Ok(found);
    }
    Err(Why::Mismatch { found, found_size, expected_size: record.size })
}

/// Where a message's file may lie: on the archive partition if the record says so, then in the ordinary place, and the other
/// way round.
fn candidates(paths: &FolderPaths, record: &Record) -> Vec<Place> {
    let name = format!("{}.", record.uid.0);
    let data = paths.data.join(name.as_bytes());
    match &paths.archive {
        None => alloc::vec![data],
        Some(archive) => {
            let archive = archive.join(name.as_bytes());
            if record.is_archived() { alloc::vec![archive, data] } else { alloc::vec![data, archive] }
        }
    }
}
