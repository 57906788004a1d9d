//! skiplist files (`lib/cyrusdb_skiplist.c`, 2.1 and later).
//!
//! A header of 48 bytes, then the records of the last checkpoint in their order, then a log of additions and deletions, each
//! transaction ended by a commit; numbers are big-endian, there are no checksums. The records of both parts make one skip list
//! by pointers that a transaction changes before it is committed. So the pointers can be trusted only if the log ends with a
//! commit, as it does unless a writer died. If it does not, they are left alone and the log is replayed, in memory, as Cyrus's
//! recovery does.
//!
//! What must not come in: how one searches (`list`).

use super::list::{self, Links, Node, SkipList, Spot};
use super::pages::{END_OF_DATA, View};
use super::{Cursor, ENTRY_MAX, Entry, Order, Trouble, compare_by};
use crate::bytes::{be32, put_be32};
use crate::error::Error;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::cmp::Ordering;
use core::fmt::{self, Write};

/// The first bytes of a file.
pub const MAGIC: &[u8; 20] = b"\xA1\x02\x8B\x0Dskiplist file\0\0\0";

const HEADER_LEN: usize = 48;
/// Where the record before all others lies.
const DUMMY_AT: u64 = HEADER_LEN as u64;
const VERSION: u32 = 1;
const VERSION_MINOR: u32 = 2;
const LEVEL_MAX: usize = 20;
/// What stands behind the pointers of a record.
const TERMINATOR: u32 = u32::MAX;
/// The most memory for the replay of a log whose end is not committed, in bytes.
const REPLAY_MAX: usize = 64 << 20;
/// What an entry of the log takes in memory beside its key, roughly.
const REPLAY_OVERHEAD: usize = 64;

/// Offsets in the header.
mod field {
    pub const VERSION: usize = 20;
    pub const VERSION_MINOR: usize = 24;
    pub const MAX_LEVEL: usize = 28;
    pub const LEVEL: usize = 32;
    pub const RECORDS: usize = 36;
    pub const LOG_START: usize = 40;
    pub const LAST_RECOVERY: usize = 44;
}

/// Types of records.
mod kind {
    pub const INORDER: u32 = 1;
    pub const ADD: u32 = 2;
    pub const DELETE: u32 = 4;
    pub const COMMIT: u32 = 255;
    pub const DUMMY: u32 = 257;
}

/// What a header says, and what has been found out.
#[derive(Debug)]
pub(super) struct Skiplist {
    version_minor: u32,
    max_level: usize,
    level: u32,
    records: u32,
    log_start: u64,
    last_recovery: u32,
    /// How bytes were compared by the machine that wrote the file, once that is known.
    signs: Cell<Option<Signs>>,
    /// The walk that finds that out, if it was needed.
    probe: RefCell<Option<Box<Cursor>>>,
    /// `None` if the pointers are in force.
    replay: Option<Box<RefCell<Replay>>>,
}

/// How the `char` of a machine compares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Signs {
    Signed,
    Unsigned,
}

impl Signs {
    fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Signs::Signed => compare_by(a, b, u8::cast_signed),
            Signs::Unsigned => a.cmp(b),
        }
    }
}

/// True if signed and unsigned bytes give different orders of these keys.
fn signs_matter(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).find(|(x, y)| x != y).is_some_and(|(x, y)| (x ^ y) & 0x80 != 0)
}

impl Skiplist {
    pub fn open(view: &View) -> Result<Skiplist, Trouble> {
        let mut scratch = Vec::new();
        let b = view.bytes(0, HEADER_LEN, &mut scratch)?;
        let number = |at: usize| be32(b, at);
        let (version, max_level) = (number(field::VERSION), number(field::MAX_LEVEL));
        if version != VERSION {
            return Err(view.damage(field::VERSION as u64, "version", version, VERSION));
        }
        if max_level > LEVEL_MAX as u32 {
            return Err(view.damage(field::MAX_LEVEL as u64, "highest level", max_level, format!("at most {LEVEL_MAX}")));
        }
        let log_start = u64::from(number(field::LOG_START));
        if log_start > view.end {
            let expected = format!("at most {}, the length of the file", view.end);
            return Err(view.damage(field::LOG_START as u64, "start of the log", log_start, expected));
        }
        let mut out = Skiplist {
            version_minor: number(field::VERSION_MINOR),
            max_level: max_level as usize,
            level: number(field::LEVEL),
            records: number(field::RECORDS),
            log_start,
            last_recovery: number(field::LAST_RECOVERY),
            signs: Cell::new(None),
            probe: RefCell::new(None),
            replay: None,
        };
        let mut scratch = Vec::new();
        let dummy = out.record(view, DUMMY_AT, &mut scratch)?;
        if dummy.kind != kind::DUMMY || !dummy.key.is_empty() || dummy.links.len() != out.max_level * 4 {
            let expected = format!("an empty record with {max_level} levels");
            return Err(view.damage(DUMMY_AT, "first record", format!("type {}", dummy.kind), expected));
        }
        if !out.ends_committed(view)? {
            let start = DUMMY_AT + dummy.len as u64;
            out.replay = Some(Box::new(RefCell::new(Replay { at: start, ..Replay::default() })));
        }
        Ok(out)
    }

    /// True if the file ends with a commit, or has no log yet (`SAFE_TO_APPEND`).
    fn ends_committed(&self, view: &View) -> Result<bool, Trouble> {
        const TAIL: u64 = 12;
        if !view.end.is_multiple_of(4) {
            return Ok(false);
        }
        let mut scratch = Vec::new();
        let b = view.bytes(view.end.saturating_sub(TAIL), TAIL as usize, &mut scratch)?;
        Ok(match view.end == self.log_start {
            true => be32(b, 8) == TERMINATOR,
            false => be32(b, 8) == kind::COMMIT && (be32(b, 4) == TERMINATOR || be32(b, 0) == kind::DELETE),
        })
    }

    pub fn describe(&self, out: &mut dyn Write) -> fmt::Result {
        let Skiplist { version_minor, max_level, level, records, log_start, last_recovery, .. } = self;
        let state = if self.replay.is_some() { "the log's end is not committed" } else { "clean" };
        writeln!(out, "version: {VERSION}.{version_minor}\nrecords at the last checkpoint: {records}\nstate: {state}")?;
        writeln!(out, "levels: {level} of {max_level}\nstart of the log: {log_start}\nlast recovery: {last_recovery}")
    }

    pub fn seek(&self, view: &View, key: &[u8], order: Order) -> Result<Cursor, Trouble> {
        if let Some(replay) = &self.replay {
            let mut replay = replay.borrow_mut();
            replay.run(self, view)?;
            return replay.seek(self, view, key, order);
        }
        let search = Search { file: self, unsure: Cell::new(false) };
        let found = list::seek(&search, view, key, order);
        if !search.unsure.get() || matches!(found, Err(Trouble::Miss(_))) {
            return found;
        }
        self.find_signs(view)?;
        list::seek(self, view, key, order)
    }

    pub fn next(&self, view: &View, cursor: &mut Cursor, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool, Trouble> {
        match &self.replay {
            Some(replay) => replay.borrow().next(self, view, cursor, key, value),
            None => list::next(self, view, cursor, key, value),
        }
    }

    /// Walks until two neighbours tell how bytes are compared. If none do, signed, as on x86, is as good as unsigned.
    fn find_signs(&self, view: &View) -> Result<(), Trouble> {
        let mut probe = self.probe.borrow_mut();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        while self.signs.get().is_none() {
            let cursor = match &mut *probe {
                Some(cursor) => cursor,
                None => probe.insert(Box::new(list::seek(self, view, b"", Order::Raw)?)),
            };
            if !list::next(self, view, cursor, &mut key, &mut value)? {
                self.signs.set(Some(Signs::Signed));
            }
        }
        Ok(())
    }
}

/// A record as it stands in the file.
struct Record<'a> {
    kind: u32,
    key: &'a [u8],
    value: &'a [u8],
    /// Its pointers; of a deletion, the offset of what it deletes.
    links: &'a [u8],
    len: usize,
}

fn pad(len: u32) -> usize {
    (len as usize).next_multiple_of(4)
}

/// The length of the record that begins with `b`, or the number of bytes that it takes to know it.
fn measure(view: &View, at: u64, b: &[u8]) -> Result<usize, Trouble> {
    if b.len() < 4 {
        return Ok(4);
    }
    match be32(b, 0) {
        kind::COMMIT => return Ok(4),
        kind::DELETE => return Ok(8),
        kind::INORDER | kind::ADD | kind::DUMMY => {}
        other => return Err(view.damage(at, "record type", other, "1, 2, 4, 255 or 257")),
    }
    let length = |field: &'static str, place: usize| match be32(b, place) {
        n if u64::from(n) <= ENTRY_MAX => Ok(pad(n)),
        n => Err(view.damage(at + place as u64, field, n, format!("at most {ENTRY_MAX} bytes"))),
    };
    if b.len() < 8 {
        return Ok(8);
    }
    let value_at = 8 + length("key length", 4)?;
    if b.len() < value_at + 4 {
        return Ok(value_at + 4);
    }
    let links_at = value_at + 4 + length("value length", value_at)?;
    let words = b.get(links_at..).unwrap_or_default().chunks_exact(4);
    match words.take(LEVEL_MAX + 1).position(|word| be32(word, 0) == TERMINATOR) {
        Some(0) => Err(view.damage(at + links_at as u64, "level", 0, "at least 1")),
        Some(level) => Ok(links_at + 4 * (level + 1)),
        None if b.len() < links_at => Ok(links_at + 8),
        None if (b.len() - links_at) / 4 > LEVEL_MAX => {
            Err(view.damage(at + links_at as u64, "level", format!("more than {LEVEL_MAX}"), format!("at most {LEVEL_MAX}")))
        }
        None => Ok(links_at + (b.len() - links_at) / 4 * 4 + 4),
    }
}

impl Skiplist {
    fn record<'b>(&self, view: &View<'b>, at: u64, scratch: &'b mut Vec<u8>) -> Result<Record<'b>, Trouble> {
        if !at.is_multiple_of(4) {
            return Err(view.damage(at, "record", "an offset that is not a multiple of 4", "one that is"));
        }
        let b = view.record(at, scratch, |b| measure(view, at, b))?;
        let (kind, len) = (be32(b, 0), b.len());
        if len <= 8 {
            return Ok(Record { kind, key: &[], value: &[], links: &b[4..], len });
        }
        let (keylen, value_at) = (be32(b, 4) as usize, 8 + pad(be32(b, 4)));
        let (vallen, links_at) = (be32(b, value_at) as usize, value_at + 4 + pad(be32(b, value_at)));
        let value = &b[value_at + 4..value_at + 4 + vallen];
        Ok(Record { kind, key: &b[8..8 + keylen], value, links: &b[links_at..len - 4], len })
    }

    /// The entry at `at`.
    fn entry<'b>(&self, view: &View<'b>, at: u64, scratch: &'b mut Vec<u8>) -> Result<Record<'b>, Trouble> {
        let record = self.record(view, at, scratch)?;
        match (record.kind, at == DUMMY_AT) {
            (kind::DUMMY, true) | (kind::INORDER | kind::ADD, false) => Ok(record),
            (other, _) => Err(view.damage(at, "record type", other, "1 or 2")),
        }
    }
}

impl SkipList for Skiplist {
    fn start(&self) -> u64 {
        DUMMY_AT
    }

    fn spot<'b>(&self, view: &View<'b>, at: u64, scratch: &'b mut Vec<u8>) -> Result<Spot<'b>, Trouble> {
        let Record { key, value, links, .. } = self.entry(view, at, scratch)?;
        Ok(Spot::Node(Node { key, value, live: true, links: Links::Be32(links) }))
    }

    fn compare(&self, order: Order, a: &[u8], b: &[u8]) -> Ordering {
        match order {
            Order::Raw => self.signs.get().unwrap_or(Signs::Signed).compare(a, b),
            Order::Mbox => order.compare(a, b),
        }
    }

    /// Keeps in mind what the file's own order tells about signs.
    fn may_follow(&self, order: Order, a: &[u8], b: &[u8]) -> bool {
        if order == Order::Raw && self.signs.get().is_none() && signs_matter(a, b) {
            self.signs.set([Signs::Signed, Signs::Unsigned].into_iter().find(|s| s.compare(a, b).is_lt()));
        }
        self.compare(order, a, b).is_lt()
    }
}

/// A search that notes whether its result depends on signs that are not known.
struct Search<'s> {
    file: &'s Skiplist,
    unsure: Cell<bool>,
}

impl SkipList for Search<'_> {
    fn start(&self) -> u64 {
        self.file.start()
    }

    fn spot<'b>(&self, view: &View<'b>, at: u64, scratch: &'b mut Vec<u8>) -> Result<Spot<'b>, Trouble> {
        self.file.spot(view, at, scratch)
    }

    fn compare(&self, order: Order, a: &[u8], b: &[u8]) -> Ordering {
        if order == Order::Raw && self.file.signs.get().is_none() && signs_matter(a, b) {
            self.unsure.set(true);
        }
        self.file.compare(order, a, b)
    }

    fn may_follow(&self, order: Order, a: &[u8], b: &[u8]) -> bool {
        self.file.may_follow(order, a, b)
    }
}

/// What is committed in a file whose log does not end with a commit.
#[derive(Debug, Default)]
struct Replay {
    /// Offset of the record to be taken next.
    at: u64,
    in_log: bool,
    /// True once all has been taken.
    done: bool,
    /// The key before `at`, in the part before the log.
    last: Vec<u8>,
    /// The records of the last checkpoint that are alive, by offset, which is by key too.
    sorted: Vec<u32>,
    /// The records of the log that are alive, by key.
    logged: Vec<(Vec<u8>, u32)>,
    /// The order in which `logged` is.
    order: Option<Order>,
    /// What the log has added so far, by offset.
    added: BTreeMap<u32, Vec<u8>>,
    /// What the log has deleted of the records of the last checkpoint.
    deleted: BTreeSet<u32>,
    /// The transaction that is being read.
    pending: Vec<Change>,
    /// Rough number of bytes that all this takes.
    memory: usize,
}

#[derive(Debug)]
enum Change {
    Add(u32, Vec<u8>),
    Delete(u32),
}

impl Replay {
    /// Reads on to the end. After a miss it goes on where it was.
    fn run(&mut self, file: &Skiplist, view: &View) -> Result<(), Trouble> {
        while !self.done {
            match self.take_one(file, view) {
                Ok(()) => {}
                // A record of the log that was not written to its end.
                Err(Trouble::Damage(damage)) if damage.field == END_OF_DATA && self.at >= file.log_start => self.finish(),
                Err(trouble) => return Err(trouble),
            }
            if self.memory > REPLAY_MAX {
                let found = format!("more than {REPLAY_MAX} bytes of keys, and no commit at the end");
                return Err(view.damage(
                    self.at,
                    "log",
                    found,
                    "a commit at the end: Cyrus must recover the file (ctl_cyrusdb -r)",
                ));
            }
        }
        Ok(())
    }

    fn take_one(&mut self, file: &Skiplist, view: &View) -> Result<(), Trouble> {
        let mut scratch = Vec::new();
        // Recovery of early versions left zeros in the log.
        if self.at >= file.log_start && view.bytes(self.at, 4, &mut scratch)? == [0; 4] {
            self.at += 4;
            return Ok(());
        }
        let record = file.record(view, self.at, &mut scratch)?;
        let at =
            u32::try_from(self.at).map_err(|_| view.damage(self.at, "record", "an offset of more than 32 bits", "less"))?;
        match record.kind {
            kind::INORDER if !self.in_log => {
                self.sorted.push(at);
                self.memory += 4;
                // For what it tells about signs.
                file.may_follow(Order::Raw, &self.last, record.key);
                self.last = record.key.to_vec();
            }
            kind::ADD => {
                self.pending.push(Change::Add(at, record.key.to_vec()));
                self.memory += record.key.len() + REPLAY_OVERHEAD;
            }
            kind::DELETE => {
                self.pending.push(Change::Delete(be32(record.links, 0)));
                self.memory += REPLAY_OVERHEAD;
            }
            kind::COMMIT => self.commit(),
            other => return Err(view.damage(self.at, "record type", other, "2, 4 or 255 in the log")),
        }
        self.in_log |= record.kind != kind::INORDER;
        self.at += record.len as u64;
        Ok(())
    }

    fn commit(&mut self) {
        for change in self.pending.drain(..) {
            match change {
                Change::Add(at, key) => {
                    self.added.insert(at, key);
                }
                Change::Delete(at) => {
                    if self.added.remove(&at).is_none() {
                        self.deleted.insert(at);
                    }
                }
            }
        }
    }

    fn finish(&mut self) {
        self.pending.clear();
        let deleted = core::mem::take(&mut self.deleted);
        self.sorted.retain(|at| !deleted.contains(at));
        self.logged = core::mem::take(&mut self.added).into_iter().map(|(at, key)| (key, at)).collect();
        self.done = true;
    }

    /// Sorts what the log has added. Of two records of one key the later one counts, as in Cyrus.
    fn sort(&mut self, file: &Skiplist, order: Order) {
        if self.order != Some(order) {
            self.logged.sort_by(|(a, a_at), (b, b_at)| file.compare(order, a, b).then(b_at.cmp(a_at)));
            self.logged.dedup_by(|(a, _), (b, _)| a == b);
            self.order = Some(order);
        }
    }

    fn seek(&mut self, file: &Skiplist, view: &View, key: &[u8], order: Order) -> Result<Cursor, Trouble> {
        self.sort(file, order);
        let mut scratch = Vec::new();
        let (mut low, mut high) = (0, self.sorted.len());
        while low < high {
            let middle = low.midpoint(high);
            let record = file.entry(view, u64::from(self.sorted[middle]), &mut scratch)?;
            match file.compare(order, record.key, key).is_lt() {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let log_at = self.logged.partition_point(|(logged, _)| file.compare(order, logged, key).is_lt());
        Ok(Cursor { log_at, ..Cursor::new(order, low as u64, view) })
    }

    fn next(
        &self,
        file: &Skiplist,
        view: &View,
        cursor: &mut Cursor,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Result<bool, Trouble> {
        let sorted = self.sorted.get(cursor.at as usize).copied();
        let logged = self.logged.get(cursor.log_at);
        let (mut scratch, mut log_scratch) = (Vec::new(), Vec::new());
        let sorted = sorted.map(|at| file.entry(view, u64::from(at), &mut scratch)).transpose()?;
        let which = match (&sorted, logged) {
            (None, None) => return Ok(false),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(sorted), Some((logged, _))) => file.compare(cursor.order, sorted.key, logged),
        };
        let record = match (sorted, logged) {
            (Some(sorted), _) if which.is_lt() => sorted,
            (_, Some((_, at))) => file.entry(view, u64::from(*at), &mut log_scratch)?,
            _ => return Ok(false),
        };
        if let Some(last) = &cursor.last
            && file.compare(cursor.order, last, record.key).is_ge()
        {
            return Err(list::disorder(view, cursor.at, record.key, last));
        }
        key.clear();
        key.extend_from_slice(record.key);
        value.clear();
        value.extend_from_slice(record.value);
        cursor.passed(record.key);
        cursor.at += u64::from(which.is_le());
        cursor.log_at += usize::from(which.is_ge());
        Ok(true)
    }
}

/// A new file with these entries, as a checkpoint leaves it.
///
/// Keys must not be empty, and must stand in the order in which the file will be read (for [`Order::Raw`] that is by the
/// `char` of the machine that reads it, if there are bytes above 0x7F); the caller sees to that. The levels of the records
/// follow from their numbers, so that the same entries give the same bytes. [`Error::Limit`] if the file would be larger than
/// its pointers can say.
pub fn emit(entries: &[Entry]) -> Result<Vec<u8>, Error> {
    let mut out = alloc::vec![0; HEADER_LEN];
    append(&mut out, kind::DUMMY, LEVEL_MAX, b"", b"");
    // Where the pointer stands that is to lead to the next record of each level.
    let mut open = [0; LEVEL_MAX];
    for (level, place) in open.iter_mut().enumerate() {
        *place = HEADER_LEN + 12 + 4 * level;
    }
    let mut highest = 1;
    for (number, (key, value)) in (1u64..).zip(entries) {
        let level = (number.trailing_zeros() as usize + 1).min(LEVEL_MAX);
        highest = highest.max(level);
        let at = append(&mut out, kind::INORDER, level, key, value);
        let Ok(pointer) = u32::try_from(at) else { break };
        let links_at = out.len() - 4 * (level + 1);
        for (level, place) in open[..level].iter_mut().enumerate() {
            put_be32(&mut out, *place, pointer);
            *place = links_at + 4 * level;
        }
    }
    let Ok(log_start) = u32::try_from(out.len()) else {
        let object = String::from("skiplist file in bytes");
        return Err(Error::Limit { object, limit: u64::from(u32::MAX), found: out.len() as u64 });
    };
    out[..MAGIC.len()].copy_from_slice(MAGIC);
    for (place, value) in [
        (field::VERSION, VERSION),
        (field::VERSION_MINOR, VERSION_MINOR),
        (field::MAX_LEVEL, LEVEL_MAX as u32),
        (field::LEVEL, highest as u32),
        (field::RECORDS, entries.len() as u32),
        (field::LOG_START, log_start),
        // Zero is before any start of the server, so Cyrus checks the file when it first opens it.
        (field::LAST_RECOVERY, 0),
    ] {
        put_be32(&mut out, place, value);
    }
    Ok(out)
}

/// Appends a record whose pointers are zero; answers where it begins.
fn append(out: &mut Vec<u8>, kind: u32, level: usize, key: &[u8], value: &[u8]) -> usize {
    let at = out.len();
    out.extend(kind.to_be_bytes());
    for part in [key, value] {
        // A length of more than 32 bits makes the file too large, which is told at the end.
        out.extend((part.len() as u32).to_be_bytes());
        out.extend_from_slice(part);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out.resize(out.len() + 4 * level, 0);
    out.extend(TERMINATOR.to_be_bytes());
    at
}
