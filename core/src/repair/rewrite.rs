//! Writes what a scan has found into a new archive.
//!
//! Memory: one metadata file, a folder table (more, if tables stand far from their commits), the members under way, and some
//! 100 bytes for each metadata entry that stays. What must not come in: what becomes of the new file.

use super::replay::{Dialect, Replay, Written, dir_of};
use super::scan::{From, Point, Scan, What, plain, what};
use crate::archive::blocks::{Block, Blocks};
use crate::archive::build::{Builder, Built};
use crate::archive::entry::{Entry, EntryKind};
use crate::archive::record::{
    Absence, Commit, CommitKind, Compacted, FolderRow, Lack, LackingRow, MissingRow, Slot, StateContent, TABLE_MAX, Table,
};
use crate::archive::walk::{Event, Walk};
use crate::backup::{GUIDS, link_name, parse_guids};
use crate::cyrus::index::Index;
use crate::cyrus::names::Owner;
use crate::error::Error;
use crate::escape::shown;
use crate::guid::Guid;
use crate::io::{Event as Told, Io};
use crate::source::MAILBOX_ANNOTATIONS;
use crate::source::MetaFile;
use crate::source::capture::META_MAX;
use crate::stock::annotations;
use crate::time::{Span, Time};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A message up to this size is gathered in memory.
const IN_MEMORY_MAX: u64 = 1 << 20;

/// Where a message was that is nowhere whole.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// The newest snapshot that has it.
    pub snapshot: u64,
    /// The folder.
    pub folder: Vec<u8>,
    /// UID.
    pub uid: u32,
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rewritten {
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Folders of the newest one.
    pub folders: u64,
    /// Messages that an index or a commit names and that are nowhere whole, and where they were, if that is known.
    pub lost: BTreeMap<Guid, Option<Place>>,
    /// Metadata that snapshots have lost.
    pub lost_files: BTreeSet<String>,
    /// What to tell a person.
    pub notes: Vec<String>,
}

/// Name and SHA-1 of a metadata entry: of a link, that of its target.
type Key = (Vec<u8>, Guid);

/// An entry under way.
enum Route {
    Skip,
    /// A message that is written as it comes.
    Stream,
    /// What is written when it is all there.
    Hold(Vec<u8>),
}

pub(crate) struct Rewriter<'a> {
    io: &'a Io,
    scan: &'a Scan,
    owner: &'a Owner,
    out: Builder,
    /// Commits that are still to come.
    points: core::iter::Peekable<core::slice::Iter<'a, Point>>,
    /// The record of the newest commit says that the file was written anew.
    compacted: Compacted,
    last: usize,
    /// The numbers of entries whose content is wanted though they do not stay.
    tables: BTreeSet<usize>,
    number: usize,
    current: Option<(Entry, Route)>,
    /// Tables whose commits come later, by the numbers of their entries, and how many of these commits there are.
    held: BTreeMap<usize, (Table, usize)>,
    /// Entries in the new archive by name and SHA-1.
    tokens: BTreeMap<Key, u32>,
    /// UIDs and GUIDs of messages that an index names and that are nowhere whole, by name and SHA-1 of its entry.
    lost: BTreeMap<Key, Vec<(u32, Guid)>>,
    replay: Replay,
    /// Without commits: links are written at the end.
    is_import: bool,
    wants_replay: bool,
    rewritten: Rewritten,
}

impl<'a> Rewriter<'a> {
    pub(crate) fn new(io: &'a Io, scan: &'a Scan, owner: &'a Owner, out: Builder, compacted: Compacted) -> Rewriter<'a> {
        let tables = scan.points.iter().filter_map(|point| match point.table {
            From::Entry(number) => Some(number),
            From::Nowhere | From::Entries => None,
        });
        let is_import = scan.points.is_empty();
        let dialect = if is_import { Dialect::of(scan.is_ours, owner, &scan.names) } else { Dialect::Ours };
        Rewriter {
            io,
            scan,
            owner,
            out,
            tables: tables.collect(),
            last: scan.points.len(),
            wants_replay: is_import || scan.points.iter().any(|point| point.table == From::Entries),
            points: scan.points.iter().peekable(),
            compacted,
            number: 0,
            current: None,
            held: BTreeMap::new(),
            tokens: BTreeMap::new(),
            lost: BTreeMap::new(),
            replay: Replay::new(dialect),
            is_import,
            rewritten: Rewritten { lost: scan.lost.iter().map(|guid| (*guid, None)).collect(), ..Rewritten::default() },
        }
    }

    /// Reads the file again and writes what stays. Without commits it ends in snapshots like `blank`.
    pub(crate) async fn run(mut self, blocks: &mut Blocks<'_>, blank: &Commit) -> Result<(Built, Rewritten), Error> {
        match self.all(blocks, blank).await {
            Ok(()) => {
                let built = self.out.finish().await?;
                Ok((built, self.rewritten))
            }
            Err(error) => {
                self.out.close().await;
                Err(error)
            }
        }
    }

    async fn all(&mut self, blocks: &mut Blocks<'_>, blank: &Commit) -> Result<(), Error> {
        blocks.rewind();
        let mut walk = Walk::new();
        if self.is_import {
            self.out.commit(Commit { kind: CommitKind::Checkpoint, number: 0, compacted: None, ..blank.clone() }, None).await?;
        }
        while self.number < self.scan.picks.len()
            && let Some(block) = blocks.next().await?
        {
            if block.footer.is_none() {
                for event in walk.events(&block) {
                    self.event(event, &block).await?;
                }
            }
            self.io.event(Told::Progress { messages: 0, bytes: block.bytes.1 - block.bytes.0 });
            if self.io.is_stopping() {
                return Err(Error::Stopped);
            }
        }
        while let Some(point) = self.points.next() {
            self.commit(point).await?;
        }
        if self.is_import {
            self.states(blank).await?;
        }
        Ok(())
    }

    async fn event(&mut self, event: Event, block: &Block) -> Result<(), Error> {
        match event {
            Event::Begin(entry) => self.begin(entry).await,
            Event::Content(range) => {
                let piece = block.raw.get(range).unwrap_or_default();
                match &mut self.current {
                    Some((_, Route::Hold(held))) => held.extend_from_slice(piece),
                    Some((_, Route::Stream)) => self.out.piece(piece).await?,
                    _ => {}
                }
                Ok(())
            }
            Event::End => {
                let Some((entry, route)) = self.current.take() else { return Ok(()) };
                self.number += 1;
                self.end(entry, route).await
            }
            Event::Cut => {
                // Nothing that was cut stays, and nothing of it was written.
                self.number += usize::from(self.current.take().is_some());
                Ok(())
            }
            Event::NoHeader => Ok(()),
        }
    }

    async fn begin(&mut self, entry: Entry) -> Result<(), Error> {
        while let Some(point) = self.points.next_if(|point| point.after < self.number) {
            self.commit(point).await?;
        }
        let is_message = matches!(what(&entry.name), What::Message(_));
        let route = if self.tables.contains(&self.number) {
            if entry.size > TABLE_MAX { Route::Skip } else { Route::Hold(Vec::new()) }
        } else if !self.scan.picks(self.number) || entry.size > META_MAX && !is_message {
            Route::Skip
        } else if is_message && entry.size > IN_MEMORY_MAX {
            match guid_of(&entry) {
                Some(guid) => {
                    self.out.begin_message(guid, entry.size, entry.mtime).await?;
                    self.count(entry.size);
                    Route::Stream
                }
                None => Route::Skip,
            }
        } else {
            Route::Hold(Vec::new())
        };
        self.current = Some((entry, route));
        Ok(())
    }

    fn count(&mut self, size: u64) {
        self.rewritten.messages += 1;
        self.rewritten.bytes += size;
    }

    async fn end(&mut self, entry: Entry, route: Route) -> Result<(), Error> {
        let content = match route {
            Route::Skip => return Ok(()),
            Route::Stream => return self.out.end_message().await,
            Route::Hold(content) => content,
        };
        if self.tables.contains(&(self.number - 1)) {
            let uses = self.scan.points.iter().filter(|point| point.table == From::Entry(self.number - 1)).count();
            if let Ok(table) = Table::parse(&content) {
                self.held.insert(self.number - 1, (table, uses));
            }
            return Ok(());
        }
        match (&entry.kind, what(&entry.name)) {
            (EntryKind::File(_), What::Message(_)) => {
                self.count(entry.size);
                self.out.message(Guid::of(&content), entry.mtime, &content).await
            }
            (EntryKind::Link(target), What::Name(_)) if self.is_import => {
                self.replay.link(&entry.name, target, 0);
                Ok(())
            }
            (EntryKind::Link(target), _) => self.link(&entry, target).await,
            (EntryKind::File(_), _) if entry.is_gone() => self.gone(&entry).await,
            _ => self.file(&entry, content).await,
        }
    }

    async fn link(&mut self, entry: &Entry, target: &[u8]) -> Result<(), Error> {
        let name = plain(&entry.name);
        let token = self.out.link(name, target, entry.mtime).await?;
        self.tokens.insert((name.to_vec(), Guid::of(target)), token);
        if self.wants_replay {
            self.replay.link(&entry.name, target, token);
        }
        Ok(())
    }

    async fn gone(&mut self, entry: &Entry) -> Result<(), Error> {
        if self.wants_replay {
            self.replay.gone(&entry.name);
        }
        // In a new archive nothing of this name was written before.
        if self.is_import { Ok(()) } else { self.out.file(plain(&entry.name), entry.mtime, b"", None).await.map(drop) }
    }

    async fn file(&mut self, entry: &Entry, content: Vec<u8>) -> Result<(), Error> {
        let mut name = plain(&entry.name).to_vec();
        let mut content = content;
        if let (true, What::File(dir, file)) = (self.replay.is_stock(), what(&entry.name)) {
            name = format!("folders/{}/{}", dir_of(dir), shown_name(file)).into_bytes();
            if file == MAILBOX_ANNOTATIONS.as_bytes() {
                match annotations::from_json(&content, dir, self.userid()) {
                    Ok(lines) => content = lines,
                    Err(damage) => {
                        self.rewritten.notes.push(format!("{}: {damage}", shown(&name)));
                        return Ok(());
                    }
                }
            }
        }
        let sha1 = Guid::of(&content);
        self.names(&name, &content, sha1);
        let token = self.out.file(&name, entry.mtime, &content, Some(sha1)).await?;
        if self.wants_replay {
            self.replay.file(&entry.name, Written { mtime: entry.mtime, content: &content, sha1, token });
        }
        self.tokens.insert((name, sha1), token);
        Ok(())
    }

    fn userid(&self) -> &'a [u8] {
        match self.owner {
            Owner::User(userid) => userid,
            Owner::Shared => b"",
        }
    }

    /// Which of the messages that this file names are nowhere whole.
    fn names(&mut self, name: &[u8], content: &[u8], sha1: Guid) {
        let What::File(_, file) = what(name) else { return };
        let mut lost = Vec::new();
        let is_lost = |guid: &Guid| !self.scan.good.contains(guid);
        if file == GUIDS.as_bytes() {
            let guids = parse_guids(content).into_iter().map(|(uid, (guid, _))| (uid, guid));
            lost.extend(guids.filter(|(_, guid)| is_lost(guid)));
        } else if file == MetaFile::Index.name().as_bytes() || file == MetaFile::Expunge.name().as_bytes() {
            let is_expunge = file == MetaFile::Expunge.name().as_bytes();
            if let Ok(index) = if is_expunge { Index::parse_expunge(content) } else { Index::parse(content) } {
                let records = index.records().flatten().filter(|r| !r.is_unlinked() && r.has_sha1_guid());
                lost.extend(records.map(|r| (r.uid.0, r.guid)).filter(|(_, guid)| is_lost(guid)));
            }
        }
        if !lost.is_empty() {
            self.lost.insert((name.to_vec(), sha1), lost);
        }
    }

    async fn commit(&mut self, point: &Point) -> Result<(), Error> {
        self.last -= 1;
        let mut commit = point.commit.clone();
        if self.last == 0 {
            commit.compacted = Some(Compacted { number: commit.number, ..self.compacted });
        }
        let table = match point.table {
            From::Nowhere => None,
            From::Entry(number) => self.take_table(number),
            From::Entries => Some(self.replay.table()),
        };
        self.snapshot(commit, table).await
    }

    fn take_table(&mut self, number: usize) -> Option<Table> {
        match self.held.get_mut(&number) {
            Some((table, uses)) if *uses > 1 => {
                *uses -= 1;
                Some(table.clone())
            }
            _ => self.held.remove(&number).map(|(table, _)| table),
        }
    }

    async fn snapshot(&mut self, commit: Commit, table: Option<Table>) -> Result<(), Error> {
        let table = match (commit.kind, table) {
            (CommitKind::Checkpoint, _) => None,
            (CommitKind::Snapshot, table) => {
                let mut table = table.unwrap_or_default();
                self.settle(&mut table, commit.number);
                self.rewritten.snapshots += 1;
                self.rewritten.folders = table.folders.len() as u64;
                Some(table)
            }
        };
        self.out.commit(commit, table).await
    }

    /// Lets a table point to the entries as they are now, and leaves out what is lost, or says that it is.
    fn settle(&mut self, table: &mut Table, snapshot: u64) {
        let mut lacking = Vec::new();
        for row in &mut table.folders {
            if let Some(why) = self.settle_folder(row, snapshot) {
                lacking.push(LackingRow { name: row.name.clone(), why, id: Some(row.id.clone()) });
            }
        }
        table.states.retain_mut(|row| {
            let (sha1, at) = match &mut row.content {
                StateContent::File { sha1, at, .. } => (*sha1, at),
                StateContent::Link { target, at } => (Guid::of(target), at),
            };
            let token = self.tokens.get(&(row.name.clone(), sha1));
            match token {
                Some(token) => *at = Slot::Pending(*token),
                None => {
                    self.rewritten.lost_files.insert(format!("{} of snapshot {snapshot}", shown(&row.name)));
                    lacking.push(LackingRow { name: row.name.clone(), why: Lack::FileLost, id: None });
                }
            }
            token.is_some()
        });
        table.lacking.append(&mut lacking);
        table.lacking.sort();
        table.lacking.dedup();
    }

    /// What is lost of the folder itself, if anything is.
    fn settle_folder(&mut self, row: &mut FolderRow, snapshot: u64) -> Option<Lack> {
        let files = row.files.len();
        let dir = format!("folders/{}/", dir_of(&row.id));
        let mut lost: Vec<(u32, Guid)> = Vec::new();
        row.files.retain_mut(|file| {
            let key = (format!("{dir}{}", file.name).into_bytes(), file.sha1);
            lost.extend(self.lost.get(&key).into_iter().flatten());
            let token = self.tokens.get(&key);
            match token {
                Some(token) => file.at = Slot::Pending(*token),
                None => {
                    let what = format!("{} of {} of snapshot {snapshot}", file.name, shown(&row.name));
                    self.rewritten.lost_files.insert(what);
                }
            }
            token.is_some()
        });
        for (uid, guid) in lost {
            let known = row.missing.iter().any(|missing| missing.uid == uid && missing.guid.is_none_or(|g| g == guid));
            if !known {
                row.missing.push(MissingRow { uid, guid: Some(guid), why: Absence::Lost, found: None });
                let place = Place { snapshot, folder: row.name.clone(), uid };
                self.rewritten.lost.insert(guid, Some(place));
            }
        }
        let is_index_lost = row.file(MetaFile::Index.name()).is_none();
        match (is_index_lost, row.files.len() < files) {
            (true, _) => Some(Lack::IndexLost),
            (false, true) => Some(Lack::FileLost),
            (false, false) => None,
        }
    }

    /// Without commits: the newest state, and before it the one with folders that have no name any more.
    async fn states(&mut self, blank: &Commit) -> Result<(), Error> {
        let (table, gone) = (self.replay.table(), self.replay.table_with_gone());
        for name in core::mem::take(&mut self.replay.unnamed) {
            self.rewritten.notes.push(format!("{}: is no name of a folder of this user, and was left out", shown(&name)));
        }
        let time = blank.time;
        let mut commit = Commit { kind: CommitKind::Snapshot, number: 1, compacted: None, ..blank.clone() };
        if let Some(gone) = gone {
            let before = time.plus(Span::from_secs(-1));
            self.name(&gone, &Table::default(), before).await?;
            self.snapshot(Commit { time: before, ..commit.clone() }, Some(gone.clone())).await?;
            commit.number = 2;
            self.name(&table, &gone, time).await?;
        } else {
            self.name(&table, &Table::default(), time).await?;
        }
        commit.compacted = Some(Compacted { number: commit.number, ..self.compacted });
        self.snapshot(commit, Some(table)).await
    }

    /// Links for the folders of a table, and tombstones for those of the one before that are not in it.
    async fn name(&mut self, table: &Table, before: &Table, time: Time) -> Result<(), Error> {
        for row in &table.folders {
            let target = format!("../folders/{}", dir_of(&row.id));
            if before.folder(&row.name).is_none_or(|old| old.id != row.id) {
                self.out.link(&link_name(&row.name), target.as_bytes(), time).await?;
            }
        }
        for row in before.folders.iter().filter(|row| table.folder(&row.name).is_none()) {
            self.out.link(&link_name(&row.name), b"", time).await?;
        }
        Ok(())
    }
}

fn shown_name(file: &[u8]) -> String {
    String::from_utf8_lossy(file).to_string()
}

/// The SHA-1 that a message's header gives.
fn guid_of(entry: &Entry) -> Option<Guid> {
    match (what(&entry.name), &entry.kind) {
        (What::Message(Some(guid)), _) => Some(guid),
        (_, EntryKind::File(declared)) => *declared,
        _ => None,
    }
}
