//! Fetching messages: each one whose content the archive lacks is fetched, its SHA-1 checked, and appended.
//!
//! A message that cannot be had never stops the rest. What must not come in: metadata, and where messages come from.

use super::report::{Problem, Report, Why};
use crate::archive::append::Writer;
use crate::archive::read::{Catalogue, Reader};
use crate::archive::record::{Absence, MissingRow};
use crate::cyrus::index::{Index, Record};
use crate::cyrus::names::Owner;
use crate::error::Error;
use crate::guid::Guid;
use crate::io::{Event, FileId, Io};
use crate::pull::{Message, Origin};
use crate::source::lock::close;
use crate::source::message::{Lacking, PIECE};
use crate::source::{Folder, MetaFile};
use crate::time::{Pace, Span, Time};
use crate::wire::native::Wish;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// What a run has fetched is committed after this long at the latest.
const CHECKPOINT_EVERY: Span = Span::from_secs(60);
/// How often a run that waits looks whether it is to stop.
const STOP_LOOK: Span = Span::from_ms(200);

/// SHA-1 and size by UID of a folder whose index has no GUIDs.
pub type Guids = BTreeMap<u32, (Guid, u64)>;

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
    /// What was computed of messages, where the index has no GUIDs.
    pub guids: Guids,
    /// What to report about this folder.
    pub problems: Vec<Problem>,
    /// Some files were not there: the index may have changed meanwhile.
    pub vanished: bool,
}

/// Appends what is new, over all folders of one run.
pub struct Bodies<'a> {
    io: &'a Io,
    owner: &'a Owner,
    writer: &'a mut Writer,
    known: Catalogue,
    new: BTreeSet<Guid>,
    /// Messages that mending has taken over and that no folder was seen to have yet.
    unclaimed: BTreeSet<Guid>,
    buffer: Vec<u8>,
    checkpoint: Time,
    pace: Option<Pace>,
}

/// Waits until `until`, or until somebody wants the run to stop.
pub async fn pause(io: &Io, until: Time) {
    while io.now() < until && !io.is_stopping() {
        io.sleep_until(until.min(io.now().plus(STOP_LOOK))).await;
    }
}

/// Where a message was found wanting.
struct Failure {
    why: Why,
    path: String,
}

impl<'a> Bodies<'a> {
    /// Bodies for `writer`, whose archive has the messages in `known`; `taken` of them mending has taken over.
    pub fn new(
        io: &'a Io,
        owner: &'a Owner,
        writer: &'a mut Writer,
        known: Catalogue,
        taken: BTreeSet<Guid>,
        rate: u64,
    ) -> Bodies<'a> {
        let pace = (rate > 0).then(|| Pace::new(rate, io.now()));
        let (new, buffer, checkpoint) = (BTreeSet::new(), Vec::new(), io.now());
        Bodies { io, owner, writer, known, new, unclaimed: taken, buffer, checkpoint, pace }
    }

    /// Messages that mending has taken over and that are in no folder that was read.
    pub fn into_unclaimed(self) -> BTreeSet<Guid> {
        self.unclaimed
    }

    /// The archive as far as it is committed.
    pub fn archive(&self) -> &Reader {
        self.writer
    }

    /// The messages of these records that the archive lacks, each content once, and their bytes. `previous` is what an earlier
    /// run computed; `planned` are contents that are on other lists already.
    pub fn lacking(&self, index: &Index<'_>, previous: &Guids, planned: &mut BTreeSet<Guid>) -> (Vec<Wish>, u64) {
        let (mut wishes, mut bytes) = (Vec::new(), 0u64);
        for record in index.records().flatten().filter(|r| !r.is_unlinked()) {
            if guess(&record, previous).is_some_and(|guid| self.has(&guid) || !planned.insert(guid)) {
                continue;
            }
            wishes.push(wish(&record));
            bytes = bytes.saturating_add(record.size);
        }
        (wishes, bytes)
    }

    fn has(&self, guid: &Guid) -> bool {
        self.known.contains(guid) || self.new.contains(guid)
    }

    /// Fetches what the archive lacks of one folder. `previous` is what an earlier run computed.
    ///
    /// An error is one of the archive or of the connection, and ends the run; whatever is wrong with a message is in the
    /// result.
    pub async fn folder(
        &mut self,
        origin: &mut Origin<'_>,
        folder: &Folder,
        index: &Index<'_>,
        previous: &Guids,
        report: &mut Report,
    ) -> Result<FolderBodies, Error> {
        let mut out = FolderBodies::default();
        let name = &folder.name;
        for record in index.records() {
            let record = match record {
                Ok(record) => record,
                Err(damage) => {
                    out.problems.push(Problem::Record { folder: name.clone(), error: damage.into() });
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
            let outcome = self.message(origin, folder, &record, expected, previous, report).await?;
            if let Ok(guid) = &outcome {
                self.unclaimed.remove(guid);
            }
            match outcome {
                Ok(guid) if expected.is_none() => drop(out.guids.insert(record.uid.0, (guid, record.size))),
                Ok(_) => {}
                Err(failure) => out.fail(name, &record, expected, failure),
            }
            if self.writer.wants_checkpoint() || self.is_late() {
                self.checkpoint().await?;
            }
            if self.io.is_stopping() {
                return Err(Error::Stopped);
            }
        }
        Ok(out)
    }

    fn is_late(&self) -> bool {
        self.io.now().since(self.checkpoint) >= CHECKPOINT_EVERY && self.writer.has_appended()
    }

    /// When what was read is paid for, by the rate that is allowed.
    pub fn paid(&self) -> Time {
        self.pace.map_or(Time::default(), |pace| pace.paid())
    }

    /// Commits what was fetched so far, so that a run that is cut off later has not fetched it in vain.
    pub async fn checkpoint(&mut self) -> Result<(), Error> {
        self.checkpoint = self.io.now();
        if self.writer.has_appended() { self.writer.checkpoint(self.checkpoint).await } else { Ok(()) }
    }

    /// Makes sure that the archive has one message. Returns its SHA-1.
    async fn message(
        &mut self,
        origin: &mut Origin<'_>,
        folder: &Folder,
        record: &Record,
        expected: Option<Guid>,
        previous: &Guids,
        report: &mut Report,
    ) -> Result<Result<Guid, Failure>, Error> {
        if let Some(guid) = guess(record, previous)
            && self.has(&guid)
        {
            return Ok(Ok(guid));
        }
        let mut failure: Option<Failure> = None;
        for second in [false, true] {
            let wish = Wish { second, ..wish(record) };
            let buffer = core::mem::take(&mut self.buffer);
            self.pace(record.size).await;
            let Some(found) = origin.message(self.io, self.owner, folder, wish, buffer).await? else { break };
            let (why, path) = match found {
                Ok(message) => match self.take(message, record, expected, report).await? {
                    Ok(guid) => return Ok(Ok(guid)),
                    Err(why) => (why, path_of(folder, record)),
                },
                Err(lack) => match lack.why {
                    Lacking::Absent => (Why::Absent, lack.path),
                    Lacking::Unreadable(error) => (Why::Unreadable(error), lack.path),
                },
            };
            // What was found first says more than that the other place has nothing.
            let mismatch = matches!(why, Why::Mismatch { .. });
            failure.get_or_insert(Failure { why, path });
            if !mismatch || folder.paths.archive.is_none() {
                break;
            }
        }
        Ok(Err(failure.unwrap_or_else(|| Failure { why: Why::Absent, path: path_of(folder, record) })))
    }

    /// Waits until another message keeps to the rate.
    async fn pace(&mut self, size: u64) {
        let Some(pace) = &mut self.pace else { return };
        if let Some(until) = pace.take(self.io.now(), size) {
            pause(self.io, until).await;
        }
    }

    /// Appends a message that was had, unless the archive has it already, and judges it.
    async fn take(
        &mut self,
        message: Message,
        record: &Record,
        expected: Option<Guid>,
        report: &mut Report,
    ) -> Result<Result<Guid, Why>, Error> {
        match message {
            Message::Whole { content, mtime } => {
                let (guid, size) = (Guid::of(&content), content.len() as u64);
                if !self.has(&guid) {
                    self.writer.message(guid, mtime, &content).await?;
                    self.count(guid, size, report);
                }
                self.buffer = content;
                Ok(judge(record, expected, guid, size))
            }
            Message::Large { scratch, size, guid, mtime } => {
                if !self.has(&guid) {
                    self.append_large(guid, size, mtime, scratch).await?;
                    self.count(guid, size, report);
                }
                close(self.io, scratch).await;
                Ok(judge(record, expected, guid, size))
            }
        }
    }

    async fn append_large(&mut self, guid: Guid, size: u64, mtime: Time, scratch: FileId) -> Result<(), Error> {
        self.writer.begin_message(guid, size, mtime).await?;
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
            path: failure.path,
            why: failure.why,
        });
    }
}

/// What a message is by its record, or was in an earlier run, unless another one has its UID now.
fn guess(record: &Record, previous: &Guids) -> Option<Guid> {
    if record.has_sha1_guid() {
        return Some(record.guid);
    }
    previous.get(&record.uid.0).filter(|(_, size)| *size == record.size).map(|(guid, _)| *guid)
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

fn wish(record: &Record) -> Wish {
    Wish { uid: record.uid.0, archived: record.is_archived(), second: false }
}

/// Where a message's file lies, as far as this host knows.
fn path_of(folder: &Folder, record: &Record) -> String {
    crate::source::message::candidates(&folder.paths, record.uid.0, record.is_archived())
        .first()
        .map(|place| place.shown())
        .unwrap_or_default()
}
