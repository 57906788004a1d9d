//! Opening an archive, and finding things in it (FORMAT.md sections 4 and 6). Nothing here writes.
//!
//! Opening reads the footer and the commit that it names. Only when there is no footer (a run is under way, or was cut) is the
//! file searched from its beginning. What must not come in: Cyrus.

use super::entry::{self, EntryKind, Parsed};
use super::member::{self, FOOTER_LEN, Footer, HEADER_LEN, Kind, MEMBER_MAX, MemberInfo, RAW_MAX, TO_BE_CONTINUED};
use super::record::{Commit, CommitKind, LIST_MAX, Location, MessageAt, MessageList, Part, TABLE_MAX, Table};
use crate::bytes::be32;
use crate::error::{Damage, Error, Fault};
use crate::escape::shown;
use crate::guid::Guid;
use crate::io::{Call, FileId, How, Io, LockMode, Op, Place, Reply};
use crate::time::Time;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

/// The archive's name in its directory.
pub const ARCHIVE: &[u8] = b"archive.tar.gz";
/// Bytes that are searched at once for the next member behind damage.
const SEARCH: usize = 1 << 20;

/// A commit and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CommitAt {
    /// The record.
    pub commit: Commit,
    /// Its member, and the SHA-1 of the record: the head of the chain up to here.
    pub part: Part,
}

/// How the file ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// With a footer.
    Footer,
    /// As a run leaves it that is under way or was killed.
    Interrupted,
    /// In some other way.
    Damaged,
}

impl End {
    /// The word in the name of a file that is set aside.
    pub fn word(self) -> &'static str {
        match self {
            End::Footer | End::Interrupted => "interrupted",
            End::Damaged => "damaged",
        }
    }
}

/// An open archive.
pub struct Reader {
    pub(super) io: Io,
    pub(super) dir: Place,
    place: Place,
    pub(super) file: FileId,
    /// Length of the file when it was opened.
    pub(super) len: u64,
    pub(super) head: CommitAt,
    /// Where the head's member ends.
    pub(super) end: u64,
    pub(super) state: End,
    /// The metadata members that were read last.
    held: RefCell<Held>,
}

/// What a member's header says, and its content.
type Member = (MemberInfo, Vec<u8>);

/// How many metadata members are held, each of at most [`member::RAW_MAX`] bytes. The files of one folder stand beside each
/// other, or where they were when they last changed; who compares two snapshots reads in twice as many places.
const HELD_MAX: usize = 4;

/// Members and their offsets, the one that was wanted last in front.
#[derive(Default)]
struct Held(Vec<(u64, Rc<Member>)>);

impl Held {
    fn find(&mut self, offset: u64) -> Option<Rc<Member>> {
        let n = self.0.iter().position(|(at, _)| *at == offset)?;
        self.0[..=n].rotate_right(1);
        Some(self.0[0].1.clone())
    }

    fn hold(&mut self, offset: u64, member: Rc<Member>) {
        self.0.truncate(HELD_MAX - 1);
        self.0.insert(0, (offset, member));
    }
}

/// The SHA-1s of all messages of an archive: 22 bytes for each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Catalogue {
    /// In ascending order.
    guids: Vec<Guid>,
    /// Where those of the n-th share of all possible SHA-1s begin, and at last where all end. A run asks for every message of
    /// each folder that has changed, and SHA-1s are spread so evenly that few are left to compare.
    starts: Vec<usize>,
    /// How many of the first 32 bits tell nothing of the share.
    shift: u32,
}

impl Catalogue {
    /// The catalogue of these, which are in ascending order.
    pub(crate) fn new(guids: Vec<Guid>) -> Catalogue {
        // Shares of four to eight, so that their table is small.
        let bits = guids.len().checked_ilog2().unwrap_or(0).clamp(3, 26) - 2;
        let (shift, shares) = (32 - bits, 1 << bits);
        let mut starts = Vec::with_capacity(shares + 1);
        for (at, guid) in guids.iter().enumerate() {
            starts.resize(starts.len().max(share(guid, shift) + 1), at);
        }
        starts.resize(shares + 1, guids.len());
        Catalogue { guids, starts, shift }
    }

    /// The same without these, which are in ascending order.
    pub fn without(self, doubted: &[Guid]) -> Catalogue {
        if doubted.is_empty() {
            return self;
        }
        Catalogue::new(self.guids.into_iter().filter(|guid| doubted.binary_search(guid).is_err()).collect())
    }

    /// True if the archive has this message.
    pub fn contains(&self, guid: &Guid) -> bool {
        let share = share(guid, self.shift);
        let (Some(from), Some(to)) = (self.starts.get(share), self.starts.get(share + 1)) else { return false };
        self.guids[*from..*to].binary_search(guid).is_ok()
    }

    /// The SHA-1s, in order.
    pub fn guids(&self) -> &[Guid] {
        &self.guids
    }

    /// How many messages it has.
    pub fn len(&self) -> usize {
        self.guids.len()
    }

    /// True if it has none.
    pub fn is_empty(&self) -> bool {
        self.guids.is_empty()
    }
}

/// The number of a SHA-1's share of all.
fn share(guid: &Guid, shift: u32) -> usize {
    (be32(&guid.0, 0) >> shift) as usize
}

/// A member on its way to being inflated.
enum Flight {
    Inflated(Vec<u8>),
    Inflating(MemberInfo, Call),
}

/// Takes the beginning of a message, or why it cannot be read; see [`Reader::tops`].
pub type TopSink<'a> = dyn FnMut(&MessageAt, Result<&[u8], Error>) + 'a;

impl Reader {
    /// Opens the archive in the directory `dir` of the store. [`Fault::NotFound`] if there is none.
    pub async fn open(io: &Io, dir: &Place) -> Result<Reader, Error> {
        Reader::open_as(io, dir, ARCHIVE).await
    }

    /// The same for an archive of another name in this directory.
    pub(crate) async fn open_as(io: &Io, dir: &Place, name: &[u8]) -> Result<Reader, Error> {
        let place = dir.join(name);
        let world = |doing| move |fault| Error::world(doing, String::new(), fault);
        let file = io.open(&place, How::Read).await.map_err(|fault| Error::world("open", place.shown(), fault))?;
        let opened = async {
            let len = io.fstat(file).await.map_err(world("stat"))?.size;
            match read_footer(io, file, len).await? {
                Some((head, end)) => Ok((len, head, end, End::Footer)),
                None => search(io, file, len).await.map(|(head, end, state)| (len, head, end, state)),
            }
        };
        match opened.await {
            Ok((len, head, end, state)) => {
                let (io, dir) = (io.clone(), dir.clone());
                Ok(Reader { io, dir, place, file, len, head, end, state, held: RefCell::default() })
            }
            Err(error) => {
                let _ = io.close(file).await;
                Err(named(error, &place))
            }
        }
    }

    /// The error with the archive's name in it: what reads members knows no names.
    pub(super) fn named(&self, error: Error) -> Error {
        named(error, &self.place)
    }

    /// Closes the file.
    pub async fn close(self) {
        // Nothing was written through it.
        let _ = self.io.close(self.file).await;
    }

    /// The file.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// The newest commit.
    pub fn head(&self) -> &CommitAt {
        &self.head
    }

    /// The open file.
    pub(crate) fn file(&self) -> FileId {
        self.file
    }

    /// Where the newest commit ends: the length of the file without its footer.
    pub(crate) fn content_end(&self) -> u64 {
        self.end
    }

    /// Length of the file in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// False: an archive has at least one commit.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// How the file ended when it was opened.
    pub fn end(&self) -> End {
        self.state
    }

    /// True if the file has no good end and nobody is at work on it: a run was killed, or the file was cut. What was saved
    /// behind the newest commit is not in what this reader shows.
    pub async fn is_end_missing(&self) -> Result<bool, Error> {
        if self.state == End::Footer {
            return Ok(false);
        }
        let lock = self.dir.join(super::append::LOCK);
        match self.io.open(&lock, How::Read).await {
            Ok(file) => {
                let holder = self.io.holder(file, LockMode::Exclusive).await;
                let _ = self.io.close(file).await;
                if holder.map_err(|fault| Error::world("look at the lock", lock.shown(), fault))?.is_some() {
                    return Ok(false);
                }
            }
            Err(Fault::NotFound) => {}
            Err(fault) => return Err(Error::world("open lock file", lock.shown(), fault)),
        }
        // Whoever was at work may have ended since the file was opened.
        let stat = self.io.stat(&self.place).await.map_err(|fault| Error::world("stat", self.place.shown(), fault))?;
        let open = self.io.fstat(self.file).await.map_err(|fault| Error::world("stat", self.place.shown(), fault))?;
        if (stat.ino, stat.dev, stat.size) == (open.ino, open.dev, self.len) {
            return Ok(true);
        }
        let footer = read_footer(&self.io, self.file, open.size).await.map_err(|error| self.named(error))?;
        Ok((stat.ino, stat.dev) == (open.ino, open.dev) && footer.is_none())
    }

    /// True if mending has made the newest commit: no snapshot has followed yet.
    pub fn is_mended(&self) -> bool {
        self.head.commit.kind == CommitKind::Checkpoint && self.head.commit.source == super::mend::MENDED
    }

    /// The commit before. Damage if what stands there does not have the SHA-1 that the newer one gives: the chain is broken.
    pub async fn previous(&self, of: &CommitAt) -> Result<Option<CommitAt>, Error> {
        match of.commit.previous {
            Some(part) => self.commit_at(part).await.map(Some),
            None => Ok(None),
        }
    }

    /// The commit whose member is `part`.
    pub async fn commit_at(&self, part: Part) -> Result<CommitAt, Error> {
        let found = read_commit(&self.io, self.file, part.offset, part.len).await.map_err(|e| self.named(e))?;
        if found.part.sha1 != part.sha1 {
            return Err(Damage::new("archive", part.offset, "hash chain", found.part.sha1, part.sha1).into());
        }
        Ok(found)
    }

    /// The state of the user at a commit; that of the snapshot before it if it is a checkpoint, empty before the first.
    pub async fn table(&self, at: &CommitAt) -> Result<Table, Error> {
        match at.commit.table {
            Some(part) => Ok(Table::parse(&self.part(part, TABLE_MAX).await?)?),
            None => Ok(Table::default()),
        }
    }

    /// The messages that came with a commit.
    pub async fn messages(&self, at: &CommitAt) -> Result<MessageList, Error> {
        match at.commit.messages {
            Some((part, _)) => Ok(MessageList::parse(self.part(part, LIST_MAX).await?)?),
            None => Ok(MessageList::default()),
        }
    }

    /// Finds a message, newest commit first. Lists that cannot be read are passed over; if the message is in no other, that is
    /// the error.
    pub async fn locate(&self, guid: &Guid) -> Result<Option<MessageAt>, Error> {
        let mut damage = Vec::new();
        let mut at = Some(self.head.clone());
        while let Some(commit) = at {
            let list = keep(self.messages(&commit).await, &mut damage)?;
            if let Some(found) = list.and_then(|list| list.find(guid)) {
                return Ok(Some(found));
            }
            at = keep(self.previous(&commit).await, &mut damage)?.flatten();
        }
        damage.into_iter().next().map_or(Ok(None), |d| Err(d.into()))
    }

    /// All messages in ascending order of SHA-1, each once, as far as the lists can be read, and why some cannot.
    pub async fn all_messages(&self) -> Result<(Vec<MessageAt>, Vec<Damage>), Error> {
        self.gather(|m| m, |m: &MessageAt| m.guid).await
    }

    /// The SHA-1s of all messages, as far as the lists can be read, and why some cannot.
    pub async fn catalogue(&self) -> Result<(Catalogue, Vec<Damage>), Error> {
        let (guids, damage) = self.gather(|m| m.guid, |guid: &Guid| *guid).await?;
        Ok((Catalogue::new(guids), damage))
    }

    async fn gather<T: Ord>(
        &self,
        make: impl Fn(MessageAt) -> T,
        guid: impl Fn(&T) -> Guid,
    ) -> Result<(Vec<T>, Vec<Damage>), Error> {
        let (mut all, mut damage) = (Vec::new(), Vec::new());
        let mut at = Some(self.head.clone());
        while let Some(commit) = at {
            if let Some(list) = keep(self.messages(&commit).await, &mut damage)? {
                all.extend(list.iter().map(&make));
            }
            at = keep(self.previous(&commit).await, &mut damage)?.flatten();
        }
        // Each list is sorted, and the stable sort merges sorted runs.
        all.sort();
        all.dedup_by_key(|item| guid(item));
        Ok((all, damage))
    }

    /// The newest folder table that can be read, and what is wrong with those after it. Empty before the first snapshot.
    pub async fn newest_table(&self) -> Result<(Table, Vec<Damage>), Error> {
        let mut damage = Vec::new();
        let mut at = Some(self.head.clone());
        while let Some(commit) = at {
            if let Some(table) = keep(self.table(&commit).await, &mut damage)? {
                return Ok((table, damage));
            }
            at = keep(self.previous(&commit).await, &mut damage)?.flatten();
        }
        Ok((Table::default(), damage))
    }

    /// The content of the entry at `at`, which is a file of at most `max` bytes. Its SHA-1 is compared with the one in its
    /// header.
    pub async fn read_entry(&self, at: Location, max: u64) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        self.copy_entry(at, &mut |piece| {
            let fits = (out.len() + piece.len()) as u64 <= max;
            if fits {
                out.extend_from_slice(piece);
            }
            fits
        })
        .await?;
        Ok(out)
    }

    /// Gives the content of the entry at `at` to `sink`, piece by piece; a sink that answers false ends it with
    /// [`Error::Limit`]. The SHA-1 is compared with the one in the header afterwards.
    pub async fn copy_entry(&self, at: Location, sink: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        self.copy(at, None, sink).await
    }

    /// Gives the content of a message to `sink`, as [`Reader::copy_entry`] does; not a byte if the entry is that of something
    /// else.
    pub async fn copy_message(&self, message: &MessageAt, sink: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        self.copy(message.at, Some(message.guid), sink).await
    }

    async fn copy(&self, at: Location, wanted: Option<Guid>, sink: &mut dyn FnMut(&[u8]) -> bool) -> Result<(), Error> {
        let first = self.first_member(at.member).await?;
        let (info, raw) = &*first;
        let bytes = raw.get(at.inside as usize..).unwrap_or_default();
        let bad = |what: &str| Error::from(Damage::new("archive", at.member, "entry", what, format!("an entry at {at}")));
        let Parsed::Entry(entry, start) = entry::parse(bytes)? else { return Err(bad("no header")) };
        let EntryKind::File(sha1) = entry.kind else { return Err(bad("a link")) };
        if let Some(wanted) = wanted
            && sha1 != Some(wanted)
        {
            return Err(Damage::new(
                "archive",
                at.member,
                "entry",
                format!("`{}`", shown(&entry.name)),
                format!("files/{wanted}"),
            )
            .into());
        }
        let mut hash = crate::guid::Sha1::new();
        let mut left = entry.size;
        let mut next = at.member + u64::from(info.len);
        let mut more = info.flags & TO_BE_CONTINUED != 0;
        let inside = &bytes[start..];
        let mut piece = inside[..usize::try_from(left).unwrap_or(usize::MAX).min(inside.len())].to_vec();
        loop {
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
            hash.update(&piece[..take]);
            left -= take as u64;
            if !sink(&piece[..take]) {
                return Err(Error::Limit {
                    object: format!("entry at {at}: bytes"),
                    limit: entry.size - left,
                    found: entry.size,
                });
            }
            if left == 0 {
                break;
            }
            if !more {
                return Err(bad("the end of its member"));
            }
            let (info, raw) = self.member(next).await?;
            next += u64::from(info.len);
            more = info.flags & TO_BE_CONTINUED != 0;
            piece = raw;
        }
        let found = hash.finish();
        match sha1 {
            Some(expected) if expected != found => {
                Err(Damage::new("archive", at.member, "SHA-1 of an entry", found, expected).into())
            }
            _ => Ok(()),
        }
    }

    /// The times of these entries, which stand in the order of the file: each member is read once.
    pub(crate) async fn times(&self, messages: &[MessageAt]) -> Result<Vec<(MessageAt, Time)>, Error> {
        let mut times = Vec::with_capacity(messages.len());
        for group in messages.chunk_by(|a, b| a.at.member == b.at.member) {
            let member = self.member(group[0].at.member).await;
            for message in group {
                let time = match &member {
                    Ok((_, raw)) => match entry::parse(raw.get(message.at.inside as usize..).unwrap_or_default()) {
                        Ok(Parsed::Entry(entry, _)) => entry.mtime,
                        _ => Time::ZERO,
                    },
                    // Whoever reads its content is told.
                    Err(Error::Damage(_)) => Time::ZERO,
                    Err(error) => return Err(error.clone()),
                };
                times.push((*message, time));
            }
        }
        Ok(times)
    }

    /// Gives the beginning of each of these messages to `each`, at most `max` bytes of it, in the order of the archive: each
    /// member is read once, and inflated as far as it is needed. A message that cannot be read is given as an error.
    ///
    /// `ahead` members may be under way to being inflated.
    pub async fn tops(
        &self,
        messages: &mut [MessageAt],
        max: usize,
        ahead: usize,
        each: &mut TopSink<'_>,
    ) -> Result<(), Error> {
        messages.sort_by_key(|m| m.at);
        let mut flights = VecDeque::new();
        let mut groups = messages.chunk_by(|a, b| a.at.member == b.at.member);
        loop {
            while flights.len() <= ahead
                && let Some(those) = groups.next()
            {
                let needed = those.last().map_or(0, |m| (m.at.inside as usize).saturating_add(entry::BLOCK + max));
                flights.push_back((those, self.begin(those[0].at.member, needed).await));
            }
            let Some((those, flight)) = flights.pop_front() else { return Ok(()) };
            let raw = match flight {
                Ok(flight) => self.land(those[0].at.member, flight).await,
                Err(error) => Err(error),
            };
            match raw {
                Ok(raw) => those.iter().for_each(|message| each(message, top(&raw, message.at, max))),
                Err(error @ Error::Damage(_)) => those.iter().for_each(|message| each(message, Err(error.clone()))),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads the member at `offset` and begins to inflate it, `len` bytes of it at least unless it has no more.
    async fn begin(&self, offset: u64, len: usize) -> Result<Flight, Error> {
        let (info, member) = self.raw_member(offset).await?;
        // What inflates a part is slower than what inflates the whole.
        if (info.raw_len as usize) < len.saturating_mul(2) {
            return Ok(Flight::Inflating(info, self.io.start(Op::Unseal { member, buffer: Vec::new() })));
        }
        let beginning = member::beginning(&member, len);
        beginning.map(Flight::Inflated).map_err(|fault| self.named(bad_member(fault, offset, info.len.into())))
    }

    /// The content of the member at `offset`.
    async fn land(&self, offset: u64, flight: Flight) -> Result<Vec<u8>, Error> {
        match flight {
            Flight::Inflated(raw) => Ok(raw),
            Flight::Inflating(info, call) => match call.await {
                Ok(Reply::Unsealed { raw, .. }) => Ok(raw),
                Ok(_) => Err(self.named(bad_member(Fault::Driver, offset, info.len.into()))),
                Err(fault) => Err(self.named(bad_member(fault, offset, info.len.into()))),
            },
        }
    }

    /// The member at `offset`, in which an entry begins.
    async fn first_member(&self, offset: u64) -> Result<Rc<Member>, Error> {
        if let Some(member) = self.held.borrow_mut().find(offset) {
            return Ok(member);
        }
        let member = Rc::new(self.member(offset).await?);
        if member.0.kind == Kind::Meta {
            self.held.borrow_mut().hold(offset, member.clone());
        }
        Ok(member)
    }

    /// The member at `offset` and its content.
    pub(crate) async fn member(&self, offset: u64) -> Result<Member, Error> {
        let (info, member) = self.raw_member(offset).await?;
        let unsealed = self.io.unseal(member, Vec::new()).await;
        unsealed.map(|(info, raw, _)| (info, raw)).map_err(|fault| self.named(bad_member(fault, offset, info.len.into())))
    }

    /// The member at `offset` as it stands.
    async fn raw_member(&self, offset: u64) -> Result<(MemberInfo, Vec<u8>), Error> {
        let head = read_at(&self.io, self.file, offset, FOOTER_LEN).await.map_err(|e| self.named(e))?;
        let info = member::parse_header(&head).map_err(|d| shift(d, offset))?;
        let member = read_at(&self.io, self.file, offset, info.len as usize).await.map_err(|e| self.named(e))?;
        Ok((info, member))
    }

    /// The content of the one entry that fills the members of `part`.
    async fn part(&self, part: Part, max: u64) -> Result<Vec<u8>, Error> {
        let mut all = Vec::new();
        let (mut at, end) = (part.offset, part.offset.saturating_add(part.len));
        while at < end {
            let (info, raw) = self.member(at).await?;
            at += u64::from(info.len);
            if all.len() as u64 + raw.len() as u64 > max + RAW_MAX as u64 {
                return Err(Error::Limit {
                    object: String::from("archive: bytes of a table"),
                    limit: max,
                    found: all.len() as u64,
                });
            }
            if all.is_empty() { all = raw } else { all.extend_from_slice(&raw) }
        }
        let content = entry_content(all, part.offset)?;
        let found = Guid::of(&content);
        if found != part.sha1 {
            return Err(Damage::new("archive", part.offset, "SHA-1 of a table", found, part.sha1).into());
        }
        Ok(content)
    }
}

/// The first bytes of the content of the entry at `at`, as far as its first member has them.
fn top(raw: &[u8], at: Location, max: usize) -> Result<&[u8], Error> {
    let bytes = raw.get(at.inside as usize..).unwrap_or_default();
    let Parsed::Entry(entry, start) = entry::parse(bytes).map_err(|d| shift(d, at.member))? else {
        return Err(Damage::new("archive", at.member, "entry", "no header", format!("an entry at {at}")).into());
    };
    let size = usize::try_from(entry.size).unwrap_or(usize::MAX).min(max);
    Ok(&bytes[start..start.saturating_add(size).min(bytes.len())])
}

/// Puts damage aside, so that what is not damaged can be used.
fn keep<T>(result: Result<T, Error>, damage: &mut Vec<Damage>) -> Result<Option<T>, Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Damage(d)) => {
            damage.push(d);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn named(error: Error, place: &Place) -> Error {
    match error {
        Error::World { doing, object, fault } if object.is_empty() => Error::world(doing, place.shown(), fault),
        other => other,
    }
}

fn shift(mut damage: Damage, offset: u64) -> Error {
    damage.offset += offset;
    damage.into()
}

/// Takes the header off the one entry that `raw` holds.
fn entry_content(mut raw: Vec<u8>, offset: u64) -> Result<Vec<u8>, Error> {
    let parsed = entry::parse(&raw).map_err(|d| shift(d, offset))?;
    let Parsed::Entry(entry, start) = parsed else {
        return Err(Damage::new("archive", offset, "entry", "no header", "a tar header").into());
    };
    let size = usize::try_from(entry.size).unwrap_or(usize::MAX);
    if raw.len() - start < size {
        let found = raw.len() - start;
        return Err(Damage::new("archive", offset, "entry", format!("{found} bytes"), format!("{size} bytes")).into());
    }
    raw.truncate(start + size);
    raw.drain(..start);
    Ok(raw)
}

/// Fewer bytes at the end of the file; none where no file can have any, for places come out of archives that anybody may have
/// written.
pub(super) async fn read_at(io: &Io, file: FileId, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
    if offset > i64::MAX as u64 - len as u64 {
        return Ok(Vec::new());
    }
    io.read_at(file, offset, len, Vec::new()).await.map_err(|fault| Error::world("read", String::new(), fault))
}

/// Reads and inflates the member of known length at `offset`.
async fn read_member(io: &Io, file: FileId, offset: u64, len: u64) -> Result<(MemberInfo, Vec<u8>), Error> {
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    if len > MEMBER_MAX {
        return Err(Error::Limit {
            object: String::from("archive: bytes of a member"),
            limit: MEMBER_MAX as u64,
            found: len as u64,
        });
    }
    let member = read_at(io, file, offset, len).await?;
    let unsealed = io.unseal(member, Vec::new()).await;
    unsealed.map(|(info, raw, _)| (info, raw)).map_err(|fault| bad_member(fault, offset, len as u64))
}

/// Why a member of `len` bytes could not be unsealed.
fn bad_member(fault: Fault, offset: u64, len: u64) -> Error {
    match fault {
        Fault::Corrupt => Damage::new("archive", offset, "member", "damaged bytes", format!("{len} good ones")).into(),
        fault => Error::world("inflate", String::new(), fault),
    }
}

/// Reads the commit whose member is at `offset`.
pub(super) async fn read_commit(io: &Io, file: FileId, offset: u64, len: u64) -> Result<CommitAt, Error> {
    let (info, raw) = read_member(io, file, offset, len).await?;
    if info.kind != Kind::Commit {
        let found = char::from(info.kind.letter());
        return Err(Damage::new("archive", offset, "member kind", format!("`{found}`"), "`C`").into());
    }
    let text = entry_content(raw, offset)?;
    let commit = Commit::parse(&text).map_err(|d| shift(d, offset))?;
    Ok(CommitAt { commit, part: Part { offset, len, sha1: Guid::of(&text) } })
}

/// The head by the footer; `None` if there is no good one.
async fn read_footer(io: &Io, file: FileId, len: u64) -> Result<Option<(CommitAt, u64)>, Error> {
    let Some(offset) = len.checked_sub(FOOTER_LEN as u64) else { return Ok(None) };
    let bytes = read_at(io, file, offset, FOOTER_LEN).await?;
    let Ok(footer) = Footer::parse(&bytes) else { return Ok(None) };
    let commit_len = u64::from(footer.commit_len);
    if footer.offset != offset || footer.commit_offset.checked_add(commit_len) != Some(offset) {
        return Ok(None);
    }
    match read_commit(io, file, footer.commit_offset, commit_len).await {
        Ok(head) if head.part.sha1 == footer.commit_sha1 => Ok(Some((head, offset))),
        // A commit that is damaged although it was synced: let the search find the one before.
        Ok(_) | Err(Error::Damage(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Finds the head in a file without a good footer: hops over all members, and over damage.
async fn search(io: &Io, file: FileId, len: u64) -> Result<(CommitAt, u64, End), Error> {
    let (mut before, mut last) = (None, None);
    let mut at = 0;
    while at + HEADER_LEN as u64 <= len {
        let head = read_at(io, file, at, FOOTER_LEN).await?;
        let info = member::parse_header(&head).ok().filter(|info| at + u64::from(info.len) <= len);
        let Some(info) = info else {
            match next_header(io, file, at + 1, len).await? {
                Some(next) => at = next,
                None => break,
            }
            continue;
        };
        let member_len = u64::from(info.len);
        if info.kind == Kind::Commit {
            match read_commit(io, file, at, member_len).await {
                Ok(found) if is_in_place(&found) && follows(&found, last.as_ref()) => before = last.replace(found),
                Ok(_) | Err(Error::Damage(_)) => {}
                Err(error) => return Err(error),
            }
        }
        at += member_len;
    }
    let Some(last) = last else {
        return Err(Damage::new("archive", 0, "commits", "none", "at least one").into());
    };
    let head = match before {
        Some(before) if !counts(io, file, &last).await? => before,
        _ => last,
    };
    let end = head.part.offset + head.part.len;
    let state = judge_tail(io, file, end, len).await?;
    Ok((head, end, state))
}

/// False for a commit that was written for another place in a file: its table, or the list of a checkpoint, stands right before
/// it.
fn is_in_place(found: &CommitAt) -> bool {
    let Commit { kind, table, messages, .. } = &found.commit;
    let before = if *kind == CommitKind::Snapshot { *table } else { messages.map(|(list, _)| list) };
    before.is_none_or(|part| part.offset.checked_add(part.len) == Some(found.part.offset))
}

/// True if a commit can be one of the archive in which `last` is the newest so far.
fn follows(found: &CommitAt, last: Option<&CommitAt>) -> bool {
    last.is_none_or(|last| {
        let Commit { archive, number, previous, .. } = &found.commit;
        *archive == last.commit.archive
            && *number > last.commit.number
            && previous.is_some_and(|previous| previous.offset < found.part.offset)
    })
}

/// True if the newest commit was acknowledged, or may have been: whatever stands behind a commit was written after its sync had
/// returned. If nothing stands there, it counts if all that it brought is whole.
async fn counts(io: &Io, file: FileId, last: &CommitAt) -> Result<bool, Error> {
    let Part { offset, len, .. } = last.part;
    if member::parse_header(&read_at(io, file, offset + len, FOOTER_LEN).await?).is_ok() {
        return Ok(true);
    }
    let mut at = last.commit.previous.map_or(0, |previous| previous.offset.saturating_add(previous.len));
    while at < offset {
        let head = read_at(io, file, at, FOOTER_LEN).await?;
        let Ok(info) = member::parse_header(&head) else { return Ok(false) };
        if !member::is_whole(&read_at(io, file, at, info.len as usize).await?) {
            return Ok(false);
        }
        at += u64::from(info.len);
    }
    Ok(at == offset)
}

/// The offset of the next member at or behind `from`, in a file of `len` bytes.
pub(crate) async fn next_header(io: &Io, file: FileId, mut from: u64, len: u64) -> Result<Option<u64>, Error> {
    while from + HEADER_LEN as u64 <= len {
        let mut bytes = read_at(io, file, from, SEARCH).await?;
        // A run may have made it longer meanwhile, which is no damage of what there was.
        bytes.truncate(usize::try_from(len - from).unwrap_or(usize::MAX));
        if let Some(found) = member::find_header(&bytes, 0) {
            return Ok(Some(from + found as u64));
        }
        if bytes.len() < SEARCH {
            break;
        }
        // A header may lie across the border.
        from += (SEARCH - FOOTER_LEN) as u64;
    }
    Ok(None)
}

/// Tells whether what lies behind the head is what a killed run leaves: whole members without a commit, then at most one torn
/// one. A killed run writes over the footer, so a footer that is followed by anything is none of its traces.
async fn judge_tail(io: &Io, file: FileId, end: u64, len: u64) -> Result<End, Error> {
    let mut at = end;
    while at + HEADER_LEN as u64 <= len {
        let head = read_at(io, file, at, FOOTER_LEN).await?;
        let Ok(info) = member::parse_header(&head) else { break };
        let member_len = u64::from(info.len);
        if at + member_len > len || !member::is_whole(&read_at(io, file, at, member_len as usize).await?) {
            break;
        }
        if matches!(info.kind, Kind::Commit | Kind::Footer) {
            return Ok(End::Damaged);
        }
        at += member_len;
    }
    Ok(if next_header(io, file, at + 1, len).await?.is_some() { End::Damaged } else { End::Interrupted })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Portable;
    use crate::io::{Input, Machine, Output, Task};
    use crate::time::Time;

    /// Where `next_header` finds one in a file of these bytes.
    fn found(content: &[u8]) -> Option<u64> {
        let len = content.len() as u64;
        let mut task = Task::new(Time::ZERO, |io: Io| async move { next_header(&io, FileId(1), 0, len).await });
        loop {
            match task.poll_output() {
                Output::Op(id, Op::ReadAt { offset, len, .. }) => {
                    let bytes = content[offset as usize..].iter().take(len).copied().collect();
                    task.handle_input(Time::ZERO, Input::Done(id, Ok(Reply::Bytes(bytes))));
                }
                Output::Finished(result) => return result.unwrap(),
                _ => panic!("it only reads"),
            }
        }
    }

    #[test]
    fn a_header_is_found_wherever_two_reads_meet_and_only_if_it_is_whole() {
        let mut member = Vec::new();
        member::seal(&mut Portable, Kind::Data, 0, b"a message", 1, None, &mut member).unwrap();
        for at in [1, SEARCH - FOOTER_LEN - 1, SEARCH - FOOTER_LEN, SEARCH - HEADER_LEN + 1, SEARCH - 1, SEARCH, 2 * SEARCH] {
            let mut content = alloc::vec![0; at];
            content.extend_from_slice(&member);
            assert_eq!(found(&content), Some(at as u64));
            content.truncate(at + HEADER_LEN - 1);
            assert_eq!(found(&content), None, "{at}");
        }
    }

    #[test]
    fn a_catalogue_knows_what_it_has_and_nothing_else() {
        // Even ones are in it. Those of the second kind are not spread at all.
        let spread = |n: u32| Guid::of(&n.to_be_bytes());
        let dense = |n: u32| Guid([[0xff; 16].as_slice(), &n.to_be_bytes()].concat().try_into().expect("20 bytes"));
        for of in [spread, dense] {
            for count in [0, 1, 2, 7, 8, 9, 1000, 5000] {
                let mut guids: Vec<Guid> = (0..count).map(|n| of(2 * n)).collect();
                guids.sort();
                let catalogue = Catalogue::new(guids);
                assert_eq!(catalogue.len(), count as usize);
                for n in 0..count {
                    assert!(catalogue.contains(&of(2 * n)) && !catalogue.contains(&of(2 * n + 1)), "{n} of {count}");
                }
                assert!(!catalogue.contains(&Guid::NULL) && !catalogue.contains(&Guid([0xff; 20])));
            }
        }
        assert!(!Catalogue::default().contains(&Guid::NULL));
    }
}
