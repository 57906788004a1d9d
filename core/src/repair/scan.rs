//! What a file has that is whole, and what becomes of it: which entries stay, and where commits go (FORMAT.md section 10).
//!
//! Memory: 20 bytes and a few for each message, one bit or so for each entry, a record for each commit, a name for each
//! metadata file that there was. What must not come in: writing.

use super::order::{self, Record, TableAt, key};
use crate::archive::blocks::{Block, Blocks, Form};
use crate::archive::entries::Finding;
use crate::archive::entry::{Entry, EntryKind};
use crate::archive::member::Footer;
use crate::archive::record::{COMMIT_MAX, Commit, CommitKind, LIST_MAX, MessageList, TABLE_MAX, Table};
use crate::archive::verify::FINDINGS_MAX;
use crate::archive::walk::{Event, Walk};
use crate::error::Error;
use crate::escape::shown;
use crate::guid::{Guid, Sha1};
use crate::io::{Event as Told, Io};
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What an entry is, by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum What<'a> {
    /// A message; the SHA-1 in its name.
    Message(Option<Guid>),
    /// A metadata file of a folder: directory of the folder, name of the file.
    File(&'a [u8], &'a [u8]),
    /// The name of a folder, as it stands.
    Name(&'a [u8]),
    /// Something that belongs to no folder.
    State,
    /// A list of messages.
    List,
    /// A folder table.
    Table,
    /// The record of a commit.
    Commit,
    /// Nothing that is kept.
    Other,
}

/// The name without what other tools put around it.
pub fn plain(name: &[u8]) -> &[u8] {
    name.strip_prefix(b"./").unwrap_or(name)
}

/// Tells entries by their names.
pub fn what(name: &[u8]) -> What<'_> {
    let name = plain(name);
    let split = name.iter().position(|&c| c == b'/');
    let Some((dir, rest)) = split.map(|at| (&name[..at], &name[at + 1..])) else { return What::Other };
    match (dir, rest) {
        (_, b"") => What::Other,
        (b"files", rest) => What::Message(Guid::from_hex(rest)),
        (b"imap", rest) => What::Name(rest),
        (b"meta", b"messages") => What::List,
        (b"meta", b"folders") => What::Table,
        (b"meta", b"commit") => What::Commit,
        (b"meta", b"about") => What::Other,
        (b"meta" | b"sieve", _) => What::State,
        (b"folders", rest) => match rest.iter().position(|&c| c == b'/') {
            Some(at) if at > 0 && at + 1 < rest.len() => What::File(&rest[..at], &rest[at + 1..]),
            _ => What::Other,
        },
        _ => What::Other,
    }
}

/// Where the table of a snapshot comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum From {
    /// A checkpoint has none.
    Nowhere,
    /// The entry of this number.
    Entry(usize),
    /// The entries before.
    Entries,
}

/// A commit of the new archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Point {
    /// The number of the last entry that belongs to it.
    pub after: usize,
    /// Its record, but for places and counts.
    pub commit: Commit,
    /// Its table.
    pub table: From,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    /// Messages that are whole.
    pub good: BTreeSet<Guid>,
    /// Messages that commits list and that are not.
    pub lost: Vec<Guid>,
    /// What stays, by the numbers of entries.
    pub picks: Vec<bool>,
    /// Commits, in order; none if no record and no table is usable.
    pub points: Vec<Point>,
    /// Names that folders have or had, as they stand in links.
    pub names: BTreeSet<Vec<u8>>,
    /// Links lead to where ours do.
    pub is_ours: bool,
    /// Number of the newest commit that is whole, and the SHA-1 of its record.
    pub head: Option<(u64, Guid)>,
    /// Commits whose record or table was made anew.
    pub rebuilt: u64,
    /// What is wrong, at most [`FINDINGS_MAX`] of it.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub findings_count: u64,
}

impl Scan {
    /// Reads a file. `blank` is a record for commits of which nothing is known.
    pub async fn read(io: &Io, blocks: &mut Blocks<'_>, blank: &Commit) -> Result<Scan, Error> {
        let mut scanner = Scanner::new(blank);
        let mut walk = Walk::new();
        io.event(Told::Expect { messages: 0, bytes: 2 * blocks.file_len() });
        while !scanner.ended
            && let Some(block) = blocks.next().await?
        {
            scanner.block(&block, &mut walk);
            io.event(Told::Progress { messages: 0, bytes: block.bytes.1 - block.bytes.0 });
        }
        let len = blocks.file_len();
        walk.finish().into_iter().for_each(|event| scanner.event(event, &[], (len, len)));
        Ok(scanner.finish(blocks.form(), len))
    }

    /// True if the entry of this number stays.
    pub fn picks(&self, number: usize) -> bool {
        self.picks.get(number).copied().unwrap_or(false)
    }
}

/// An entry under way.
struct Current {
    entry: Entry,
    hash: Sha1,
    text: Option<Vec<u8>>,
    from: u64,
}

/// What came since the last commit.
#[derive(Default)]
struct Group {
    messages: Vec<(usize, Guid)>,
    metas: Vec<usize>,
    keys: Vec<Guid>,
    listed: Vec<Guid>,
    /// How many tables there were before.
    tables: usize,
}

/// A footer that closes the newest commit.
struct Closed {
    /// Where it ends.
    at: u64,
    /// How many findings there were.
    findings: (usize, u64),
}

struct Scanner<'a> {
    scan: Scan,
    blank: &'a Commit,
    current: Option<Current>,
    group: Group,
    listed: BTreeSet<Guid>,
    archive: Option<[u8; 16]>,
    /// The last entry with each name of a metadata file, and all of them.
    newest: BTreeMap<Vec<u8>, usize>,
    metas: Vec<usize>,
    /// The last of these entries that stays, and of the messages; the newest change of a file or link.
    last: (Option<usize>, Option<usize>),
    mtime: Time,
    records: Vec<Record>,
    tables: Vec<TableAt>,
    /// Metadata entries by [`key`].
    entries: BTreeMap<Guid, usize>,
    /// Where the last commit ended.
    group_at: u64,
    /// The last footer that closes the newest commit, unless one came behind it.
    closed: Option<Closed>,
    /// The SHA-1 of the record that the last footer closes.
    footer: Option<Guid>,
    /// What follows is not of this archive.
    ended: bool,
    /// Up to where the file was read.
    at: u64,
}

impl Scanner<'_> {
    fn new(blank: &Commit) -> Scanner<'_> {
        Scanner {
            scan: Scan::default(),
            blank,
            current: None,
            group: Group::default(),
            listed: BTreeSet::new(),
            archive: None,
            newest: BTreeMap::new(),
            metas: Vec::new(),
            last: (None, None),
            mtime: Time::ZERO,
            records: Vec::new(),
            tables: Vec::new(),
            entries: BTreeMap::new(),
            group_at: 0,
            closed: None,
            footer: None,
            ended: false,
            at: 0,
        }
    }

    fn find(&mut self, bytes: (u64, u64), object: impl Into<String>, what: impl Into<String>) {
        self.scan.findings_count += 1;
        if self.scan.findings.len() < FINDINGS_MAX {
            self.scan.findings.push(Finding { bytes, object: object.into(), what: what.into() });
        }
    }

    fn block(&mut self, block: &Block, walk: &mut Walk) {
        if let Some(problem) = block.problem {
            let object = block.info.map(|info| format!("member of kind {}", char::from(info.kind.letter())));
            self.find(block.bytes, object.unwrap_or_else(|| String::from("archive")), problem);
        }
        if let Some(footer) = &block.footer {
            self.footer(footer, block.bytes);
        } else {
            for event in walk.events(block) {
                self.event(event, &block.raw, block.bytes);
            }
        }
        self.at = if self.ended && block.footer.is_none() { self.at } else { block.bytes.1 };
    }

    /// What follows the footer of the newest commit was put there by nobody of us, unless another commit of this archive comes:
    /// then somebody has continued a copy of it.
    fn footer(&mut self, bytes: &[u8], place: (u64, u64)) {
        let Ok(footer) = Footer::parse(bytes) else { return };
        let newest = self.records.iter().max_by_key(|record| record.commit.number);
        let is_lost = self.tables.len() > self.group.tables && self.records.iter().all(|r| r.sha1 != footer.commit_sha1);
        if is_lost || newest.is_some_and(|newest| newest.sha1 == footer.commit_sha1) {
            self.closed = Some(Closed { at: place.1, findings: (self.scan.findings.len(), self.scan.findings_count) });
            self.footer = Some(footer.commit_sha1);
            if is_lost {
                self.close_group(place.1);
            } else {
                self.group_at = place.1;
            }
        } else {
            self.find(place, "footer", "stands in the middle of the archive");
        }
    }

    fn event(&mut self, event: Event, raw: &[u8], bytes: (u64, u64)) {
        if self.ended {
            return;
        }
        match event {
            Event::Begin(entry) => {
                // The record that should have come is lost.
                if self.tables.len() > self.group.tables && what(&entry.name) != What::Commit {
                    self.close_group(bytes.0);
                }
                let text = matches!(what(&entry.name), What::List | What::Table | What::Commit).then(Vec::new);
                self.current = Some(Current { entry, hash: Sha1::new(), text, from: bytes.0 });
                self.scan.picks.push(false);
            }
            Event::Content(range) => {
                let Some(current) = &mut self.current else { return };
                let piece = raw.get(range).unwrap_or_default();
                current.hash.update(piece);
                let max = text_max(&current.entry.name);
                if let Some(text) = current.text.as_mut().filter(|text| (text.len() + piece.len()) as u64 <= max) {
                    text.extend_from_slice(piece);
                }
            }
            Event::End => {
                if let Some(current) = self.current.take() {
                    self.entry(current, bytes.1);
                }
            }
            Event::Cut => {
                if let Some(current) = self.current.take() {
                    self.find((current.from, bytes.0), shown(&current.entry.name), "its content is not complete");
                }
            }
            Event::NoHeader => self.find(bytes, "tar header", "has no good checksum"),
        }
    }

    fn entry(&mut self, current: Current, end: u64) {
        let number = self.scan.picks.len() - 1;
        let Current { entry, hash, text, from } = current;
        let (bytes, found) = ((from, end), hash.finish());
        let kind = what(&entry.name);
        let declared = match &entry.kind {
            EntryKind::File(declared) => *declared,
            EntryKind::Link(target) => return self.link(&entry, target, number),
            EntryKind::Other(_) => return,
        };
        if let Some(declared) = declared.filter(|declared| *declared != found) {
            return self.find(bytes, shown(&entry.name), format!("its SHA-1 is {found}, expected {declared}"));
        }
        match kind {
            What::Message(named) => {
                if named.is_some_and(|named| named != found) || named.is_none() && declared.is_none() {
                    return self.find(bytes, shown(&entry.name), format!("is not named by its SHA-1, {found}"));
                }
                if self.scan.good.insert(found) {
                    self.scan.picks[number] = true;
                    self.group.messages.push((number, found));
                    self.last.1 = Some(number);
                }
            }
            What::File(..) | What::State => self.meta(&entry, found, number),
            What::List => match MessageList::parse(text.unwrap_or_default()) {
                Ok(list) => self.group.listed.extend(list.iter().map(|m| m.guid)),
                Err(damage) => self.find(bytes, "meta/messages", damage.to_string()),
            },
            What::Table => match Table::parse(&text.unwrap_or_default()) {
                Ok(table) => self.table(&table, found, bytes, (entry.mtime, number)),
                Err(damage) => self.find(bytes, "meta/folders", damage.to_string()),
            },
            What::Commit => self.commit(&text.unwrap_or_default(), found, bytes, number),
            What::Name(_) | What::Other => {}
        }
    }

    fn meta(&mut self, entry: &Entry, sha1: Guid, number: usize) {
        self.newest.insert(plain(&entry.name).to_vec(), number);
        self.metas.push(number);
        self.stays(entry, sha1, number);
    }

    /// An entry of metadata that is whole.
    fn stays(&mut self, entry: &Entry, sha1: Guid, number: usize) {
        self.scan.picks[number] = true;
        self.group.metas.push(number);
        self.last.0 = Some(number);
        self.mtime = self.mtime.max(entry.mtime);
        let key = key(plain(&entry.name), &sha1);
        if let alloc::collections::btree_map::Entry::Vacant(vacant) = self.entries.entry(key) {
            vacant.insert(number);
            self.group.keys.push(key);
        }
    }

    fn link(&mut self, entry: &Entry, target: &[u8], number: usize) {
        match what(&entry.name) {
            What::Name(name) => {
                self.scan.is_ours |= target.starts_with(b"../folders/");
                self.scan.names.insert(name.strip_suffix(b"/").unwrap_or(name).to_vec());
                self.stays(entry, Guid::of(target), number);
            }
            What::State => self.meta(entry, Guid::of(target), number),
            _ => {}
        }
    }

    fn table(&mut self, table: &Table, sha1: Guid, bytes: (u64, u64), (time, number): (Time, usize)) {
        let (mut needs, mut late) = (0, Vec::new());
        for key in order::keys(table) {
            match self.entries.get(&key) {
                Some(entry) => needs = needs.max(*entry),
                None => late.push(key),
            }
        }
        self.tables.push(TableAt { at: number, sha1, bytes, time, needs, late });
    }

    fn commit(&mut self, text: &[u8], sha1: Guid, bytes: (u64, u64), number: usize) {
        let commit = match Commit::parse(text) {
            Ok(commit) => commit,
            Err(damage) => return self.find(bytes, "meta/commit", damage.to_string()),
        };
        if *self.archive.get_or_insert(commit.archive) != commit.archive {
            self.drop_group();
            self.at = self.group_at;
            self.ended = true;
            return;
        }
        if self.records.iter().any(|record| record.sha1 == sha1) {
            self.find(bytes, format!("commit {}", commit.number), "stands there a second time");
        } else {
            self.records.push(Record { at: number, commit, sha1, bytes });
            self.closed = None;
        }
        self.close_group(bytes.1);
    }

    fn close_group(&mut self, at: u64) {
        let group = Group { tables: self.tables.len(), ..Group::default() };
        self.listed.extend(core::mem::replace(&mut self.group, group).listed);
        self.group_at = at;
    }

    /// What came since the last commit is not of this archive.
    fn drop_group(&mut self) {
        let group = core::mem::take(&mut self.group);
        for (number, guid) in group.messages {
            self.scan.picks[number] = false;
            self.scan.good.remove(&guid);
        }
        group.metas.into_iter().for_each(|number| self.scan.picks[number] = false);
        self.entries.retain(|key, _| !group.keys.contains(key));
        self.tables.truncate(group.tables);
        self.group.tables = self.tables.len();
        let before = |last: &Option<usize>| last.filter(|last| self.scan.picks[*last]);
        self.last = (before(&self.last.0), before(&self.last.1));
    }

    /// What the end of the file says of what stands there.
    fn end(&mut self, form: Form, len: u64) {
        if let Some(Closed { at, findings }) = self.closed.take() {
            if at < len {
                self.drop_group();
                self.scan.findings.truncate(findings.0);
                self.scan.findings_count = findings.1;
                self.find((at, len), "archive", "does not belong to this archive, which ends before");
            }
        } else if self.ended && self.at < len {
            self.find((self.at, len), "archive", "does not belong to this archive, which ends before");
        } else if form == Form::Members {
            self.find((self.group_at, len), "end of the archive", "is missing: a run was killed, or the file was cut");
        }
    }

    fn finish(mut self, form: Form, len: u64) -> Scan {
        self.end(form, len);
        let last = self.scan.picks.len().saturating_sub(1);
        // Whoever has packed the file anew has kept the newest of each name, in any order.
        let is_packed = form != Form::Members && self.records.len() == 1;
        let (records, tables) = (core::mem::take(&mut self.records), core::mem::take(&mut self.tables));
        let newest = records.iter().max_by_key(|record| record.commit.number).map(|r| (r.commit.number, r.sha1));
        let like = |before: Option<&Commit>, kind, time, number| {
            like(self.blank, self.archive, before, records.iter().map(|r| &r.commit), kind, time, number)
        };
        let order = order::order(records.clone(), &tables, &self.entries, last, like);
        self.scan.points = order.points;
        self.scan.rebuilt += order.rebuilt.len() as u64;
        for (bytes, number, what) in order.rebuilt {
            self.find(bytes, format!("commit {number}"), what);
        }
        for (bytes, number) in order.doubles {
            self.find(bytes, format!("commit {number}"), "is another one than that of the same number that is kept");
        }
        for bytes in order.unclaimed {
            self.find(bytes, "meta/folders", "belongs to no commit");
        }
        self.scan.head = self.head(newest);
        if is_packed && let Some(point) = self.scan.points.iter_mut().find(|point| point.table != From::Nowhere) {
            point.after = last;
            let point = point.clone();
            self.scan.points = alloc::vec![point];
        } else if self.scan.points.is_empty() {
            self.take_newest();
        } else {
            self.rest(&records);
        }
        self.listed.extend(core::mem::take(&mut self.group).listed);
        self.scan.lost = self.listed.difference(&self.scan.good).copied().collect();
        self.scan
    }

    /// The newest commit. Of one whose record is lost, the footer gives the SHA-1.
    fn head(&self, newest: Option<(u64, Guid)>) -> Option<(u64, Guid)> {
        let last = self.scan.points.last().map(|point| point.commit.number);
        match (last, self.footer) {
            (Some(last), Some(footer)) if newest.is_none_or(|(number, _)| number < last) => Some((last, footer)),
            _ => newest,
        }
    }

    /// What no commit closes: a run that was killed, a file that was cut, or a commit of which nothing is left.
    fn rest(&mut self, records: &[Record]) {
        let Some(Point { after, commit, .. }) = self.scan.points.last() else { return };
        let (number, after) = (commit.number.saturating_add(1), *after);
        let last = self.scan.picks.len().saturating_sub(1);
        let is_behind = |entry: Option<usize>| entry.is_some_and(|entry| entry > after);
        let is_behind = (is_behind(self.last.0), is_behind(self.last.1));
        let (kind, table, time) = match is_behind {
            (true, _) => (CommitKind::Snapshot, From::Entries, Some(self.mtime.min(self.blank.time).max(commit.time))),
            (false, true) => (CommitKind::Checkpoint, From::Nowhere, None),
            (false, false) => return,
        };
        let commit = like(self.blank, self.archive, Some(commit), records.iter().map(|r| &r.commit), kind, time, number);
        self.scan.rebuilt += u64::from(kind == CommitKind::Snapshot);
        self.scan.points.push(Point { after: last, commit, table });
    }

    /// Without commits there is one state, the newest.
    fn take_newest(&mut self) {
        let newest: BTreeSet<usize> = self.newest.values().copied().collect();
        for number in self.metas.iter().filter(|number| !newest.contains(number)) {
            self.scan.picks[*number] = false;
        }
    }
}

/// A record of this number, like that of the commit before.
fn like<'a>(
    blank: &Commit,
    archive: Option<[u8; 16]>,
    before: Option<&Commit>,
    records: impl DoubleEndedIterator<Item = &'a Commit>,
    kind: CommitKind,
    time: Option<Time>,
    number: u64,
) -> Commit {
    let like = records.rev().filter(|commit| commit.number < number).find(|commit| commit.kind == kind);
    let base = before.unwrap_or(blank);
    Commit {
        archive: archive.unwrap_or(blank.archive),
        number,
        kind,
        time: time.unwrap_or(base.time),
        source: like.map(|like| like.source.clone()).unwrap_or_default(),
        cyrus: like.map(|like| like.cyrus.clone()).unwrap_or_default(),
        writer: blank.writer.clone(),
        ..base.clone()
    }
}

fn text_max(name: &[u8]) -> u64 {
    match what(name) {
        What::Table => TABLE_MAX,
        What::List => LIST_MAX,
        _ => COMMIT_MAX as u64,
    }
}
