//! What a file has that is whole, and what becomes of it: which entries stay, and where commits go (FORMAT.md section 10).
//!
//! Memory: 20 bytes and a few for each message, one bit or so for each entry, a record for each commit, a name for each
//! metadata file that there was. What must not come in: writing.

use super::blocks::{Block, Blocks, Form};
use super::walk::{Event, Walk};
use crate::archive::entries::Finding;
use crate::archive::entry::{Entry, EntryKind};
use crate::archive::member::Footer;
use crate::archive::record::{COMMIT_MAX, Commit, CommitKind, LIST_MAX, MessageList, TABLE_MAX, Table};
use crate::archive::verify::FINDINGS_MAX;
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
        if scanner.ended && scanner.at < len {
            let what = "does not belong to this archive, which ends before";
            scanner.find((scanner.at, len), "archive", what);
        }
        Ok(scanner.finish(blocks.form()))
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

/// A folder table that no commit has closed yet.
struct Pending {
    number: usize,
    sha1: Guid,
    time: Time,
}

/// What came since the last commit.
#[derive(Default)]
struct Group {
    messages: Vec<(usize, Guid)>,
    metas: Vec<usize>,
    listed: Vec<Guid>,
    table: Option<Pending>,
    is_damaged: bool,
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
    /// The last folder table.
    table: Option<(usize, Guid)>,
    /// Records that were whole.
    commits: u64,
    /// Where the last commit ended.
    group_at: u64,
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
            table: None,
            commits: 0,
            group_at: 0,
            ended: false,
            at: 0,
        }
    }

    fn find(&mut self, bytes: (u64, u64), object: impl Into<String>, what: impl Into<String>) {
        self.group.is_damaged = true;
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

    /// Whatever follows the footer of the newest commit was put there by nobody of us.
    fn footer(&mut self, bytes: &[u8], place: (u64, u64)) {
        let Ok(footer) = Footer::parse(bytes) else { return };
        if self.group.table.is_some() {
            self.lost_commit();
            self.scan.head = self.scan.points.last().map(|point| (point.commit.number, footer.commit_sha1));
        }
        match self.scan.head {
            Some((_, sha1)) if sha1 == footer.commit_sha1 => self.ended = true,
            _ => self.find(place, "footer", "stands in the middle of the archive"),
        }
    }

    fn event(&mut self, event: Event, raw: &[u8], bytes: (u64, u64)) {
        if self.ended {
            return;
        }
        match event {
            Event::Begin(entry) => {
                if self.group.table.is_some() && what(&entry.name) != What::Commit {
                    self.lost_commit();
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
                }
            }
            What::File(..) | What::State => self.meta(&entry.name, number),
            What::List => match MessageList::parse(text.unwrap_or_default()) {
                Ok(list) => self.group.listed.extend(list.iter().map(|m| m.guid)),
                Err(damage) => self.find(bytes, "meta/messages", damage.to_string()),
            },
            What::Table => match Table::parse(&text.unwrap_or_default()) {
                Ok(_) => {
                    self.group.table = Some(Pending { number, sha1: found, time: entry.mtime });
                    self.table = Some((number, found));
                }
                Err(damage) => self.find(bytes, "meta/folders", damage.to_string()),
            },
            What::Commit => self.commit(&text.unwrap_or_default(), found, bytes, number),
            What::Name(_) | What::Other => {}
        }
    }

    fn meta(&mut self, name: &[u8], number: usize) {
        self.scan.picks[number] = true;
        self.group.metas.push(number);
        self.metas.push(number);
        self.newest.insert(plain(name).to_vec(), number);
    }

    fn link(&mut self, entry: &Entry, target: &[u8], number: usize) {
        match what(&entry.name) {
            What::Name(name) => {
                self.scan.is_ours |= target.starts_with(b"../folders/");
                self.scan.names.insert(name.strip_suffix(b"/").unwrap_or(name).to_vec());
                self.scan.picks[number] = true;
                self.group.metas.push(number);
            }
            What::State => self.meta(&entry.name, number),
            _ => {}
        }
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
        self.commits += 1;
        let last = self.scan.points.last().map(|point| point.commit.number);
        if last.is_some_and(|last| last >= commit.number) {
            self.drop_group();
            return self.find(bytes, format!("commit {}", commit.number), "stands there a second time");
        }
        let table = match (commit.kind, self.group.table.take()) {
            (CommitKind::Checkpoint, _) => From::Nowhere,
            (_, Some(table)) if commit.table.is_some_and(|part| part.sha1 == table.sha1) => From::Entry(table.number),
            _ => {
                self.find(bytes, format!("commit {}", commit.number), "its folder table is not there");
                self.scan.rebuilt += 1;
                From::Entries
            }
        };
        self.scan.head = Some((commit.number, sha1));
        self.group_at = bytes.1;
        self.close(number, commit, table);
    }

    /// A commit goes behind the entry of this number.
    fn close(&mut self, after: usize, commit: Commit, table: From) {
        self.scan.points.push(Point { after, commit, table });
        self.listed.extend(core::mem::take(&mut self.group).listed);
    }

    /// What came since the last commit is not of this archive.
    fn drop_group(&mut self) {
        let group = core::mem::take(&mut self.group);
        for (number, guid) in group.messages {
            self.scan.picks[number] = false;
            self.scan.good.remove(&guid);
        }
        group.metas.into_iter().for_each(|number| self.scan.picks[number] = false);
    }

    /// A record like that of the commit before, with the next number.
    fn next_commit(&self, kind: CommitKind, time: Option<Time>) -> Commit {
        let before = self.scan.points.last().map(|point| &point.commit);
        let like = self.scan.points.iter().rev().map(|point| &point.commit).find(|commit| commit.kind == kind);
        let base = before.unwrap_or(self.blank);
        Commit {
            archive: self.archive.unwrap_or(self.blank.archive),
            number: before.map_or(0, |before| before.number.saturating_add(1)),
            kind,
            time: time.unwrap_or(base.time),
            source: like.map(|like| like.source.clone()).unwrap_or_default(),
            cyrus: like.map(|like| like.cyrus.clone()).unwrap_or_default(),
            writer: self.blank.writer.clone(),
            ..base.clone()
        }
    }

    /// The record of the commit to which the pending table belongs is lost.
    fn lost_commit(&mut self) {
        if let Some(Pending { number, time, .. }) = self.group.table.take() {
            let commit = self.next_commit(CommitKind::Snapshot, Some(time));
            self.scan.rebuilt += 1;
            self.close(number, commit, From::Entry(number));
        }
    }

    fn finish(mut self, form: Form) -> Scan {
        let last = self.scan.picks.len().saturating_sub(1);
        // Whoever has packed the file anew has kept the newest of each name, in any order.
        let is_packed = form != Form::Members && self.commits == 1;
        if is_packed && let Some(point) = self.scan.points.iter_mut().find(|point| point.table != From::Nowhere) {
            let sha1 = point.commit.table.map(|part| part.sha1);
            let table = self.table.filter(|(_, found)| Some(*found) == sha1);
            point.table = table.map_or(From::Entries, |(number, _)| From::Entry(number));
            point.after = last;
            let point = point.clone();
            self.scan.points = alloc::vec![point];
        } else {
            self.lost_commit();
            if self.scan.points.is_empty() { self.take_newest() } else { self.rest() }
        }
        self.scan.lost = self.listed.difference(&self.scan.good).copied().collect();
        self.scan
    }

    /// What no commit closes: a killed run, or a commit of which nothing is left.
    fn rest(&mut self) {
        let number = self.scan.picks.len().saturating_sub(1);
        let group = &self.group;
        if group.is_damaged && !group.metas.is_empty() {
            let commit = self.next_commit(CommitKind::Snapshot, None);
            self.scan.rebuilt += 1;
            self.close(number, commit, From::Entries);
            return;
        }
        let metas = core::mem::take(&mut self.group.metas);
        metas.into_iter().for_each(|number| self.scan.picks[number] = false);
        if !self.group.messages.is_empty() {
            let commit = self.next_commit(CommitKind::Checkpoint, None);
            self.close(number, commit, From::Nowhere);
        }
    }

    /// Without commits there is one state, the newest.
    fn take_newest(&mut self) {
        let newest: BTreeSet<usize> = self.newest.values().copied().collect();
        for number in self.metas.iter().filter(|number| !newest.contains(number)) {
            self.scan.picks[*number] = false;
        }
    }
}

fn text_max(name: &[u8]) -> u64 {
    match what(name) {
        What::Table => TABLE_MAX,
        What::List => LIST_MAX,
        _ => COMMIT_MAX as u64,
    }
}
