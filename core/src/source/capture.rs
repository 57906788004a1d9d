//! The capture: the metadata of all folders that changed, as one consistent set, read under the locks of Cyrus.
//!
//! Lock order, everywhere: the user lock (`*U*`, shared) if the version has one, then for each folder its namelock and
//! cyrus.index (up to 2.3: cyrus.header and cyrus.index), then briefly a database. mailboxes.db is never held while something
//! else is waited for, and the user lock is never asked for while a folder's lock is held.
//!
//! Where there is a user lock, everything is read under one hold of it, so the set is of one moment. Otherwise, or when a hold
//! grew too long and was cut, the user is looked at again afterwards, and what changed meanwhile is read again, until a look
//! finds nothing new. So a message that is moved between two folders while we read is in one of them.
//!
//! What must not come in: message files.

use super::lock::{self, Patience};
use super::pass;
use super::site::{FolderLock, LockPlan, Site, kept_elsewhere};
use super::{Ask, Folder, MetaFile, Pass, State, StateKind, Tuple};
use crate::cyrus::names::Owner;
use crate::cyrus::{header, index};
use crate::error::{Damage, Error, Fault};
use crate::escape::unpercent;
use crate::guid::Guid;
use crate::io::{FileId, Io, Place};
use crate::time::{Span, Time};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// The largest metadata file that is taken: cyrus.index of some 9 million messages.
pub const META_MAX: u64 = 1 << 30;
/// The largest user file (seen, sub, quota, a sieve script) that is taken.
pub const STATE_MAX: u64 = 256 << 20;
/// Metadata up to this many bytes in all is kept in memory; what is beyond goes to a scratch file.
const MEMORY_MAX: u64 = 12 << 20;
/// Bytes read at once from a locked file.
const READ_AT_ONCE: usize = 1 << 20;
/// The longest wait for a database while a user lock is held.
const DATABASE_WAIT: Span = Span::from_ms(200);
/// How often to begin again when something changes under our hands.
const ROUNDS_MAX: u32 = 8;
/// The longest wait for a file's stamp to grow old enough to be trusted.
const SETTLE_MAX: Span = Span::from_ms(60);
/// Where no stamp of a user has a part below the second, the file system's stamps are taken to be this coarse.
const WHOLE_SECONDS: Span = Span::from_secs(2);

/// What to read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// Folders by name.
    pub folders: BTreeMap<Vec<u8>, Want>,
    /// User files by name.
    pub states: BTreeSet<Vec<u8>>,
}

/// What to do about one folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// Read all its metadata.
    Read,
    /// Read it unless the index header still has this HIGHESTMODSEQ and this CRC: its tuple was too young to be trusted.
    Recheck {
        /// HIGHESTMODSEQ at the last capture.
        modseq: u64,
        /// CRC of the index header at the last capture.
        crc: u32,
    },
}

/// A piece of metadata: in memory, or in the scratch file.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Blob {
    Memory(Vec<u8>),
    Scratch { offset: u64, len: u64 },
}

/// One folder, as it was under its locks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Captured {
    /// The folder; tuples and name as of the capture, `id` always known.
    pub folder: Folder,
    /// uniqueid.
    pub id: Vec<u8>,
    /// Quota root, from cyrus.header.
    pub quota_root: Option<Vec<u8>>,
    /// The records of annotations.db, as lines.
    pub annotations: Vec<u8>,
    /// A later change could wear the same stamp.
    pub young: bool,
    files: Vec<(MetaFile, Blob)>,
}

impl Captured {
    /// A folder without its files yet.
    pub(crate) fn new(folder: Folder, id: Vec<u8>, quota_root: Option<Vec<u8>>, young: bool) -> Captured {
        Captured { folder, id, quota_root, annotations: Vec::new(), young, files: Vec::new() }
    }

    /// The metadata files that were read.
    pub(crate) fn files(&self) -> impl Iterator<Item = MetaFile> {
        self.files.iter().map(|(file, _)| *file)
    }
}

/// What a capture brought.
#[derive(Default)]
pub struct Capture {
    /// The user as of the last look.
    pub pass: Pass,
    /// The folders that were read, by name.
    pub folders: BTreeMap<Vec<u8>, Captured>,
    /// Folders whose metadata could not be read, and why.
    pub failed: BTreeMap<Vec<u8>, Error>,
    /// User files that could not be read, and why.
    pub failed_states: BTreeMap<Vec<u8>, Error>,
    /// User files that were read, by name: content, and tuple at that time (`None` if too young to be trusted).
    pub states: BTreeMap<Vec<u8>, (Vec<u8>, Option<Tuple>)>,
    /// The longest time for which locks were held.
    pub longest_hold: Span,
    /// Something changed in every round: the set may not be of one moment.
    pub unsettled: bool,
    /// Folders that were rechecked and found unchanged, and whether they are still too young to be trusted.
    pub same: BTreeMap<Vec<u8>, bool>,
    /// Folders that were found without cyrus.index once.
    without_index: BTreeSet<Vec<u8>>,
    memory: u64,
    scratch: Option<FileId>,
    scratch_len: u64,
}

impl Capture {
    /// The content of one metadata file; `None` if the folder does not have it.
    pub async fn load(&self, io: &Io, folder: &[u8], file: MetaFile) -> Result<Option<Vec<u8>>, Error> {
        let Some(captured) = self.folders.get(folder) else { return Ok(None) };
        let Some((_, blob)) = captured.files.iter().find(|(f, _)| *f == file) else { return Ok(None) };
        match (blob, self.scratch) {
            (Blob::Memory(bytes), _) => Ok(Some(bytes.clone())),
            (Blob::Scratch { offset, len }, Some(scratch)) => {
                let scratch_error = |fault| Error::world("read", "scratch file", fault);
                io.read_at(scratch, *offset, *len as usize, Vec::new()).await.map(Some).map_err(scratch_error)
            }
            (Blob::Scratch { .. }, None) => Ok(None),
        }
    }

    /// Gives the scratch file back. To be called last.
    pub async fn finish(self, io: &Io) {
        if let Some(scratch) = self.scratch {
            lock::close(io, scratch).await;
        }
    }

    /// Takes a folder that was read elsewhere.
    pub(crate) fn put(&mut self, captured: Captured) {
        self.folders.insert(captured.folder.name.clone(), captured);
    }

    /// Takes a metadata file of a folder that was put.
    pub(crate) async fn put_file(&mut self, io: &Io, folder: &[u8], file: MetaFile, bytes: Vec<u8>) -> Result<(), Error> {
        let blob = self.keep(io, bytes).await?;
        if let Some(captured) = self.folders.get_mut(folder) {
            captured.files.push((file, blob));
        }
        Ok(())
    }

    async fn keep(&mut self, io: &Io, bytes: Vec<u8>) -> Result<Blob, Error> {
        let len = bytes.len() as u64;
        if self.memory + len <= MEMORY_MAX {
            self.memory += len;
            return Ok(Blob::Memory(bytes));
        }
        let scratch_error = |fault| Error::world("write", "scratch file", fault);
        let scratch = match self.scratch {
            Some(scratch) => scratch,
            None => *self.scratch.insert(io.scratch().await.map_err(scratch_error)?),
        };
        let offset = self.scratch_len;
        io.write_at(scratch, offset, bytes).await.map_err(scratch_error)?;
        self.scratch_len += len;
        Ok(Blob::Scratch { offset, len })
    }

    /// Drops a folder that was captured.
    pub(crate) fn forget(&mut self, name: &[u8]) {
        if let Some(old) = self.folders.remove(name) {
            for (_, blob) in old.files {
                if let Blob::Memory(bytes) = blob {
                    self.memory -= bytes.len() as u64;
                }
            }
        }
    }
}

/// Reads what is `wanted`, and what has changed since the pass `first`.
pub async fn capture(
    site: &mut Site,
    io: &Io,
    owner: &Owner,
    first: &Pass,
    wanted: &Wanted,
    ask: &Ask,
) -> Result<Capture, Error> {
    let mut work = Work::new(site, owner, first, wanted, ask);
    let deadline = io.now().plus(work.site.patience().wait);
    settle(io, newest(first, wanted), resolution(first)).await?;
    let mut fruitless = 0;
    while fruitless < ROUNDS_MAX {
        let had = work.out.folders.len();
        match work.round(io, deadline).await {
            Ok(true) => return Ok(work.out),
            Ok(false) if work.out.folders.len() > had => fruitless = 0,
            Ok(false) => fruitless += 1,
            // Not had within the hold limit: everything was let go, and is tried again as long as there is time.
            Err(Error::Busy { .. }) if io.now() < deadline => {}
            Err(error) => {
                work.out.finish(io).await;
                return Err(error);
            }
        }
    }
    work.give_up();
    Ok(work.out)
}

/// Reads the metadata of one folder of `owner`, as of one moment. `None` if there is no such folder (any more).
pub async fn capture_folder(site: &mut Site, io: &Io, owner: &Owner, folder: &Folder) -> Result<Option<Capture>, Error> {
    let first = Pass { folders: alloc::vec![folder.clone()], ..Pass::default() };
    let (wanted, ask) = (Wanted::default(), Ask::default());
    let deadline = io.now().plus(site.patience().wait);
    let mut work = Work::new(site, owner, &first, &wanted, &ask);
    let result = loop {
        match work.one(io, folder, deadline).await {
            Err(Error::Busy { .. }) if io.now() < deadline => {}
            result => break result,
        }
    };
    let mut capture = work.out;
    match result.and(capture.failed.remove(&folder.name).map_or(Ok(()), Err)) {
        Ok(()) if !capture.folders.is_empty() => Ok(Some(capture)),
        result => {
            capture.finish(io).await;
            result.map(|()| None)
        }
    }
}

struct Work<'a> {
    site: &'a mut Site,
    owner: &'a Owner,
    first: &'a Pass,
    wanted: &'a Wanted,
    ask: &'a Ask,
    out: Capture,
    /// Folders that were rechecked and found unchanged, as they were then.
    rechecked: BTreeMap<Vec<u8>, Folder>,
    /// Folders whose files did not belong to their entries, as they were then.
    strange: BTreeMap<Vec<u8>, Folder>,
}

/// One hold of the user lock.
struct Hold {
    since: Time,
    /// Locks that are not had by then are given up for this round.
    until: Time,
    by_user: bool,
    lock: FolderLock,
    patience: Patience,
}

/// True if the folder has not changed between two looks, as far as stats and mailboxes.db tell. Another one of the same name
/// has another entry.
fn is_as(before: &Folder, now: &Folder) -> bool {
    before.tuples == now.tuples && before.entry == now.entry && before.id == now.id
}

impl Hold {
    fn is_over(&self, io: &Io) -> bool {
        self.by_user && io.now().since(self.since) > self.patience.hold
    }
}

impl<'a> Work<'a> {
    fn new(site: &'a mut Site, owner: &'a Owner, first: &'a Pass, wanted: &'a Wanted, ask: &'a Ask) -> Work<'a> {
        let (rechecked, strange) = (BTreeMap::new(), BTreeMap::new());
        Work { site, owner, first, wanted, ask, out: Capture::default(), rechecked, strange }
    }

    /// One look under locks. True when the set is complete and of one moment.
    async fn round(&mut self, io: &Io, deadline: Time) -> Result<bool, Error> {
        let (locks, hold) = self.begin(io, deadline).await?;
        let result = self.look(io, &hold).await;
        self.end(io, locks, &hold).await;
        result
    }

    /// Reads one folder under locks, and looks at no other.
    async fn one(&mut self, io: &Io, folder: &Folder, deadline: Time) -> Result<(), Error> {
        let (clock, _) = clock(io).await?;
        let (locks, hold) = self.begin(io, deadline).await?;
        let mut result = self.read_folder(io, folder, Want::Read, &hold, clock, Span(0)).await;
        if matches!(result, Ok(false)) && self.strange.contains_key(&folder.name) {
            result = self.read_folder(io, folder, Want::Read, &hold, clock, Span(0)).await;
        }
        self.end(io, locks, &hold).await;
        result.map(|_| ())
    }

    async fn begin(&mut self, io: &Io, deadline: Time) -> Result<(Vec<FileId>, Hold), Error> {
        let plan = self.site.lock_plan(io, self.owner, self.first).await?;
        let locks = lock_user(io, &plan, deadline).await?;
        let patience = self.site.patience();
        let since = io.now();
        let until = since.plus(patience.hold).min(deadline);
        let hold = Hold { since, until, by_user: !locks.is_empty(), lock: plan.folders, patience };
        if hold.by_user {
            self.site.hurry(Some(since.plus(DATABASE_WAIT).min(until)));
        }
        Ok((locks, hold))
    }

    async fn end(&mut self, io: &Io, locks: Vec<FileId>, hold: &Hold) {
        self.site.hurry(None);
        for file in locks {
            lock::close(io, file).await;
        }
        if hold.by_user {
            self.out.longest_hold = self.out.longest_hold.max(io.now().since(hold.since));
        }
    }

    /// Something changed in every round. What was read stands, each folder as of one moment; what never could be is a failure.
    fn give_up(&mut self) {
        self.out.unsettled = true;
        let pass = core::mem::take(&mut self.out.pass);
        for folder in &pass.folders {
            if self.want(folder).is_some() && !self.out.folders.contains_key(&folder.name) {
                let error = Error::Refused(String::from("it changed whenever it was looked at; the next run tries again"));
                self.out.failed.insert(folder.name.clone(), error);
            }
        }
        self.out.pass = pass;
    }

    async fn look(&mut self, io: &Io, hold: &Hold) -> Result<bool, Error> {
        let mut pass = pass::pass(self.site, io, self.owner, self.ask).await?;
        let coarse = resolution(&pass);
        settle(io, newest(&pass, self.wanted), coarse).await?;
        let (clock, _) = clock(io).await?;
        let names: BTreeSet<&[u8]> = pass.folders.iter().map(|f| &f.name[..]).collect();
        let gone: Vec<Vec<u8>> = self.out.folders.keys().filter(|n| !names.contains(&n[..])).cloned().collect();
        for name in &gone {
            self.out.forget(name);
        }
        let (mut complete, mut read_any) = (true, false);
        // Those first that were not had yet: one that changes all the time must not keep the others from being read.
        let is_known = |f: &&Folder| self.out.folders.contains_key(&f.name) || self.rechecked.contains_key(&f.name);
        let (known, new): (Vec<&Folder>, Vec<&Folder>) = pass.folders.iter().partition(is_known);
        for folder in new.into_iter().chain(known) {
            let Some(want) = self.want(folder) else { continue };
            // At least one, however short a hold may be: each round must bring us nearer to the end.
            if read_any && hold.is_over(io) {
                complete = false;
                break;
            }
            read_any = true;
            complete &= self.read_folder(io, folder, want, hold, clock, coarse).await?;
        }
        let roots = self.out.folders.values().filter_map(|captured| captured.quota_root.as_deref()).collect();
        pass::add_quota_roots(self.site, io, self.owner, self.ask, roots, &mut pass.states).await?;
        self.read_states(io, &pass.states, hold, clock, coarse).await;
        if pass.annotations_db.is_some_and(|tuple| is_young(&tuple, clock, coarse)) {
            // Its records are compared again next time.
            pass.annotations_db = None;
            pass.annotations_young = true;
        }
        self.out.pass = pass;
        Ok(complete && (hold.by_user || hold.lock == FolderLock::None || !read_any))
    }

    /// What is to be done about a folder in this round.
    fn want(&self, folder: &Folder) -> Option<Want> {
        if let Some(captured) = self.out.folders.get(&folder.name) {
            return if is_as(&captured.folder, folder) { None } else { Some(Want::Read) };
        }
        if let Some(rechecked) = self.rechecked.get(&folder.name) {
            return if is_as(rechecked, folder) { None } else { Some(Want::Read) };
        }
        if self.out.failed.contains_key(&folder.name) {
            return None;
        }
        let before = self.first.folders.binary_search_by(|f| f.name.cmp(&folder.name)).ok().map(|i| &self.first.folders[i]);
        match before {
            Some(before) if is_as(before, folder) => self.wanted.folders.get(&folder.name).copied(),
            _ => Some(Want::Read),
        }
    }

    /// Reads one folder under its locks. False if it was not there any more, or changed its identity: another round is needed.
    async fn read_folder(
        &mut self,
        io: &Io,
        folder: &Folder,
        want: Want,
        hold: &Hold,
        clock: Time,
        coarse: Span,
    ) -> Result<bool, Error> {
        self.out.forget(&folder.name);
        self.out.same.remove(&folder.name);
        self.rechecked.remove(&folder.name);
        let begun = io.now();
        let until = if hold.by_user { hold.until } else { begun.plus(hold.patience.hold) };
        let outcome = match lock_folder(io, folder, hold.lock, until).await {
            Ok(Some(locks)) => {
                let outcome = self.read_locked(io, folder, want, &locks, clock, coarse).await;
                for file in locks.files {
                    lock::close(io, file).await;
                }
                outcome
            }
            Ok(None) => Ok(Seen::Vanished),
            Err(error) => Err(error),
        };
        self.out.longest_hold = self.out.longest_hold.max(io.now().since(begun));
        match outcome {
            Ok(Seen::Read(captured)) => {
                self.out.folders.insert(folder.name.clone(), *captured);
                Ok(true)
            }
            Ok(Seen::Same) => {
                let young = folder.tuples.iter().flatten().any(|t| is_young(t, clock, coarse));
                self.out.same.insert(folder.name.clone(), young);
                self.rechecked.insert(folder.name.clone(), folder.clone());
                Ok(true)
            }
            Ok(Seen::Vanished) => Ok(self.without_index(folder)),
            Err(error @ Error::Busy { .. }) => Err(error),
            Err(error) => {
                self.out.failed.insert(folder.name.clone(), error);
                Ok(true)
            }
        }
    }

    /// A folder that mailboxes.db has and whose files are not there: gone by the next round, or a failure. True if it is a
    /// failure.
    fn without_index(&mut self, folder: &Folder) -> bool {
        if folder.tuples[0].is_some() || self.out.without_index.insert(folder.name.clone()) {
            return false;
        }
        let place = folder.paths.meta[0].shown();
        self.out.failed.insert(folder.name.clone(), Error::world("open", place, Fault::NotFound));
        true
    }

    async fn read_locked(
        &mut self,
        io: &Io,
        folder: &Folder,
        want: Want,
        locks: &FolderLocks,
        clock: Time,
        coarse: Span,
    ) -> Result<Seen, Error> {
        let place = &folder.paths.meta[0];
        if let Want::Recheck { modseq, crc } = want {
            let bytes = read_some(io, locks.index, place, index::HEADER_MAX).await?;
            let peek = index::peek(&bytes).map_err(|d| at(d, place))?;
            if peek.highestmodseq == Some(modseq) && peek.header_crc == Some(crc) {
                return Ok(Seen::Same);
            }
        }
        let (mut now, mut unreadable) = (alloc::vec![folder.clone()], Vec::new());
        pass::fill_tuples(io, &mut now, &mut unreadable).await?;
        if let Some((_, error)) = unreadable.pop() {
            return Err(error);
        }
        let Some(folder) = now.pop() else { return Ok(Seen::Vanished) };
        let mut files = Vec::new();
        let bytes = read_locked_file(io, locks.index, place).await?;
        // With a damaged header no record can be found: what the archive has of this folder must not give way to nothing.
        let peek = index::peek(&bytes).map_err(|d| at(d, place))?;
        if peek.is_deleted() {
            return Ok(Seen::Vanished);
        }
        files.push((MetaFile::Index, self.out.keep(io, bytes).await?));
        let mut id = folder.id.clone();
        let (mut quota_root, mut is_nameless) = (None, false);
        for (file, place) in folder.paths.possible().skip(1) {
            let bytes = match io.read_whole(place, META_MAX, Vec::new()).await {
                Ok((bytes, _)) => bytes,
                Err(Fault::NotFound) => continue,
                Err(fault) => return Err(Error::world("read", place.shown(), fault)),
            };
            if file == MetaFile::Header
                && let Ok(header) = header::parse(&bytes)
            {
                if id.as_ref().is_some_and(|id| !header.uniqueid.is_empty() && *id != header.uniqueid) {
                    if !self.is_settled(&folder) {
                        return Ok(Seen::Vanished);
                    }
                    // The server knows the folder's content by the one in the header, unless that is another folder's.
                    if !self.first.folders.iter().any(|other| other.id.as_ref() == Some(&header.uniqueid)) {
                        id = None;
                    }
                }
                is_nameless = header.uniqueid.is_empty();
                id = id.or(Some(header.uniqueid)).filter(|id| !id.is_empty());
                quota_root = header.quotaroot;
            }
            files.push((file, self.out.keep(io, bytes).await?));
        }
        let Some(id) = id.or_else(|| is_nameless.then(|| own_id(&folder, peek.uidvalidity))) else {
            let place = &folder.paths.meta[1];
            return Err(at(Damage::new("cyrus.header", 0, "uniqueid", "none", "a uniqueid, here or in mailboxes.db"), place));
        };
        let annotations = self.site.mailbox_annotations(io, &folder, &id).await?;
        let young = folder.tuples.iter().flatten().any(|t| is_young(t, clock, coarse));
        Ok(Seen::Read(alloc::boxed::Box::new(Captured { folder, id, quota_root, annotations, young, files })))
    }

    /// True if this folder's files did not belong to its entry at the last look either, and nothing has changed since: so it is
    /// no movement.
    fn is_settled(&mut self, folder: &Folder) -> bool {
        self.strange.insert(folder.name.clone(), folder.clone()).is_some_and(|before| is_as(&before, folder))
    }

    /// The content of a user file, or what stands in a database for it.
    async fn state(&mut self, io: &Io, state: &State, until: Time) -> Result<Option<(Vec<u8>, Tuple)>, Error> {
        if let Some(error) = kept_elsewhere(self.site.conf(), &state.name) {
            return Err(error);
        }
        let root = state.name.strip_prefix(pass::QUOTA).and_then(unpercent);
        match root.filter(|_| !self.site.has_quota_files()) {
            Some(root) => {
                let record = self.site.quota_record(io, &root).await?;
                Ok(record.map(|record| (record.clone(), pass::record_tuple(&record))))
            }
            None => read_state(io, state, until).await,
        }
    }

    /// Reads the user files that are wanted, or that changed since the first pass.
    async fn read_states(&mut self, io: &Io, states: &[State], hold: &Hold, clock: Time, coarse: Span) {
        let deadline = if hold.by_user { hold.until } else { io.now().plus(hold.patience.hold) };
        for state in states {
            let StateKind::File(tuple) = state.what else { continue };
            let unchanged = self.first.states.contains(state) && !self.wanted.states.contains(&state.name);
            let had = self.out.states.get(&state.name).is_some_and(|(_, t)| *t == Some(tuple));
            if unchanged || had {
                continue;
            }
            self.out.failed_states.remove(&state.name);
            match self.state(io, state, deadline).await {
                Ok(Some((bytes, tuple))) => {
                    let trusted = Some(tuple).filter(|t| !is_young(t, clock, coarse));
                    self.out.states.insert(state.name.clone(), (bytes, trusted));
                }
                Ok(None) => drop(self.out.states.remove(&state.name)),
                Err(error) => drop(self.out.failed_states.insert(state.name.clone(), error)),
            }
        }
    }
}

/// What uniqueids begin with that are ours: of folders to which the server gives none.
pub const OWN_ID: &[u8] = b"cylinder-";

/// A uniqueid for a folder that has none, the same in each run as long as the folder has its name and is not made anew.
fn own_id(folder: &Folder, uidvalidity: u32) -> Vec<u8> {
    let seed = [&folder.key[..], b"\0", &uidvalidity.to_be_bytes()].concat();
    [OWN_ID, &Guid::of(&seed).to_hex().as_bytes()[..24]].concat()
}

/// What reading one folder came to.
enum Seen {
    Read(alloc::boxed::Box<Captured>),
    Same,
    Vanished,
}

/// The locks of one folder, in the order in which they are to be let go.
struct FolderLocks {
    index: FileId,
    files: Vec<FileId>,
}

async fn lock_user(io: &Io, plan: &LockPlan, deadline: Time) -> Result<Vec<FileId>, Error> {
    let mut held = Vec::new();
    for place in &plan.user {
        match lock::lock_file(io, place, deadline).await {
            Ok(file) => held.push(file),
            Err(error) => {
                for file in held {
                    lock::close(io, file).await;
                }
                return Err(error);
            }
        }
    }
    Ok(held)
}

/// Takes a folder's locks. `None` if it has no cyrus.index (any more).
async fn lock_folder(io: &Io, folder: &Folder, how: FolderLock, deadline: Time) -> Result<Option<FolderLocks>, Error> {
    let [index, header, ..] = &folder.paths.meta;
    let first = match how {
        FolderLock::None => None,
        FolderLock::Namelock => Some(lock::lock_file(io, &folder.paths.namelock, deadline).await?),
        FolderLock::Header => match lock::open_shared(io, header, deadline).await {
            Ok(file) => Some(file),
            Err(Error::World { fault: Fault::NotFound, .. }) => return Ok(None),
            Err(error) => return Err(error),
        },
    };
    let opened = match how {
        FolderLock::None => io.open(index, crate::io::How::Read).await.map_err(|f| Error::world("open", index.shown(), f)),
        _ => lock::open_shared(io, index, deadline).await,
    };
    match opened {
        Ok(index) => Ok(Some(FolderLocks { index, files: core::iter::once(index).chain(first).collect() })),
        Err(error) => {
            if let Some(file) = first {
                lock::close(io, file).await;
            }
            if matches!(error, Error::World { fault: Fault::NotFound, .. }) { Ok(None) } else { Err(error) }
        }
    }
}

/// The first `len` bytes of an open file, fewer if it is shorter.
async fn read_some(io: &Io, file: FileId, place: &Place, len: usize) -> Result<Vec<u8>, Error> {
    io.read_at(file, 0, len, Vec::new()).await.map_err(|fault| Error::world("read", place.shown(), fault))
}

async fn read_locked_file(io: &Io, file: FileId, place: &Place) -> Result<Vec<u8>, Error> {
    let read_error = |fault| Error::world("read", place.shown(), fault);
    let size = io.fstat(file).await.map_err(read_error)?.size;
    if size > META_MAX {
        return Err(Error::Limit { object: alloc::format!("{}: bytes", place.shown()), limit: META_MAX, found: size });
    }
    if size as usize <= READ_AT_ONCE {
        return io.read_at(file, 0, size as usize, Vec::new()).await.map_err(read_error);
    }
    let mut whole = Vec::with_capacity(size as usize);
    let mut piece = Vec::new();
    while (whole.len() as u64) < size {
        let want = READ_AT_ONCE.min(size as usize - whole.len());
        piece = io.read_at(file, whole.len() as u64, want, piece).await.map_err(read_error)?;
        if piece.is_empty() {
            break;
        }
        whole.extend_from_slice(&piece);
    }
    Ok(whole)
}

/// A user file under a shared lock (databases are written in place under an exclusive one; for other files it does no harm).
pub(crate) async fn read_state(io: &Io, state: &State, deadline: Time) -> Result<Option<(Vec<u8>, Tuple)>, Error> {
    let file = match lock::open_shared(io, &state.place, deadline).await {
        Ok(file) => file,
        Err(Error::World { fault: Fault::NotFound, .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    let result = read_state_locked(io, file, state).await;
    lock::close(io, file).await;
    result.map(Some)
}

async fn read_state_locked(io: &Io, file: FileId, state: &State) -> Result<(Vec<u8>, Tuple), Error> {
    let stat = io.fstat(file).await.map_err(|fault| Error::world("stat", state.place.shown(), fault))?;
    if stat.size > STATE_MAX {
        let object: String = alloc::format!("{}: bytes", state.place.shown());
        return Err(Error::Limit { object, limit: STATE_MAX, found: stat.size });
    }
    Ok((read_locked_file(io, file, &state.place).await?, stat.into()))
}

/// Puts the file's place into a finding.
fn at(mut damage: Damage, place: &Place) -> Error {
    damage.object = place.shown();
    damage.into()
}

async fn clock(io: &Io) -> Result<(Time, Span), Error> {
    io.clock().await.map_err(|fault| Error::world("read", "the clock", fault))
}

/// How coarse the stamps of these files are, as far as they show it.
fn resolution(pass: &Pass) -> Span {
    let mut tuples = pass.folders.iter().flat_map(|f| f.tuples.iter().flatten());
    let fine = tuples.any(|t| t.mtime.subsec_ns() != 0 || t.ctime.subsec_ns() != 0);
    if fine || pass.folders.is_empty() { Span(0) } else { WHOLE_SECONDS }
}

/// True if a change that comes after `clock` could leave the tuple as it is.
fn is_young(tuple: &Tuple, clock: Time, coarse: Span) -> bool {
    // mtime can be set to anything; ctime cannot, and every write moves it.
    tuple.ctime.plus(coarse) >= clock
}

/// The newest stamp among the files that are wanted.
fn newest(pass: &Pass, wanted: &Wanted) -> Time {
    let folders = pass.folders.iter().filter(|f| wanted.folders.contains_key(&f.name));
    let of_folders = folders.flat_map(|f| f.tuples.iter().flatten().map(|t| t.ctime));
    let of_states = pass.states.iter().filter_map(|s| match s.what {
        StateKind::File(tuple) if wanted.states.contains(&s.name) => Some(tuple.ctime),
        _ => None,
    });
    of_folders.chain(of_states).max().unwrap_or_default()
}

/// Waits until the clock that stamps files has moved past `newest`, if that is soon.
async fn settle(io: &Io, newest: Time, coarse: Span) -> Result<(), Error> {
    if coarse > SETTLE_MAX {
        return Ok(());
    }
    let (now, tick) = clock(io).await?;
    let wait = Span(newest.plus(tick).since(now).0 + 1);
    if wait > Span(0) && wait <= SETTLE_MAX {
        io.sleep_until(io.now().plus(wait).plus(tick)).await;
    }
    Ok(())
}
