//! A disk in memory that does every operation of the core, and can lose power, run full, fail and lie.
//!
//! What is modelled, after FORMAT.md section 8 ("The medium"):
//!
//! * A file has a **durable** image, which a power loss leaves, and a **live** one, which reads see. [`Op::Sync`] makes them
//!   equal.
//! * A power loss ([`SimDisk::lose_power`]) keeps of a file that was not synced any subset of the 512-byte blocks that
//!   differ, and any length between the two. Blocks that the durable image does not have are zeros until they survive.
//! * A new, renamed or removed name is durable after [`Op::SyncDir`] on its directory. Before, each such change survives or
//!   not, independently of the others; a rename survives as a whole. [`Op::MakeDir`] is durable at once, as its contract
//!   says.
//! * A killed process ([`SimDisk::kill`]) loses its open files and locks and nothing else: what it wrote is live and not
//!   durable.
//! * A failed sync may forget: blocks that were not durable are dropped, and reads see what the disk has ([`Trouble::Forget`]).
//!
//! Not modelled: blocks that change by themselves (the damage tests do that by hand) and reordering among the system calls of
//! one file.
//!
//! Everything is deterministic: time advances by a fixed amount for each operation, inodes and files are numbered as they come.

use crate::choose::Choose;
use cylinder_core::archive::member;
use cylinder_core::error::Fault;
use cylinder_core::guid::{Guid, Sha1};
use cylinder_core::io::{DirEntry, FileId, FileKind, How, LockMode, Op, OpId, Place, Reply, Root, Stat};
use cylinder_core::time::{Span, Time};
use cylinder_transport_local::codec::Fastest;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// What survives a power loss as a whole.
pub const BLOCK: usize = 512;
/// The tick of the simulated clock that stamps files.
const TICK: Span = Span::from_ms(4);
/// Links that are followed in one path.
const LINKS_MAX: usize = 8;

thread_local! {
    /// The compressor of the command. What it allocates is kept: a sixth of a life's time otherwise.
    static CODEC: RefCell<Fastest> = RefCell::default();
}

/// What happens at an operation that the plan names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The machine stops before the operation has any effect.
    CrashBefore,
    /// The machine stops when the operation has had its effect, before the reply.
    CrashAfter,
    /// The machine stops when only so many bytes of a write have had their effect; for other operations like `CrashBefore`.
    Torn(usize),
    /// The operation fails. The first half of a write has its effect all the same, and a file is closed as Linux does it.
    Fail(Fault),
    /// The operation fails, and if it is a sync, what it should have made durable is dropped.
    Forget(Fault),
}

/// A lie that a disk tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// [`Op::Sync`] does nothing.
    Sync,
    /// [`Op::SyncDir`] does nothing.
    SyncDir,
}

#[derive(Clone, PartialEq, Eq)]
enum Node {
    File { durable: Rc<Vec<u8>>, live: Rc<Vec<u8>> },
    Directory,
    Link(Vec<u8>),
}

#[derive(Clone)]
struct Inode {
    node: Node,
    mtime: Time,
    ctime: Time,
}

#[derive(Clone)]
struct Handle {
    ino: u64,
    /// The name it was opened by, for the transcript.
    place: Place,
    how: How,
}

#[derive(Clone)]
struct Held {
    ino: u64,
    mode: LockMode,
    /// `None` for somebody outside of the simulation.
    file: Option<FileId>,
    holder: String,
}

/// A change of names that is not durable.
#[derive(Clone, PartialEq, Eq)]
enum Rename {
    Create(Place, u64),
    Remove(Place),
    Move(Place, Place, u64),
}

impl Rename {
    fn is_in(&self, dir: &Place) -> bool {
        match self {
            Rename::Create(place, _) | Rename::Remove(place) => place.parent() == *dir,
            // Both names are in the directory that is synced, or neither is.
            Rename::Move(from, to, _) => from.parent() == *dir || to.parent() == *dir,
        }
    }

    fn apply(&self, names: &mut BTreeMap<Place, u64>) {
        match self {
            Rename::Create(place, ino) => drop(names.insert(place.clone(), *ino)),
            Rename::Remove(place) => drop(names.remove(place)),
            Rename::Move(from, to, ino) => {
                if names.get(from) == Some(ino) {
                    names.remove(from);
                }
                names.insert(to.clone(), *ino);
            }
        }
    }
}

/// The disk.
#[derive(Clone)]
pub struct SimDisk {
    inodes: BTreeMap<u64, Inode>,
    live: BTreeMap<Place, u64>,
    durable: BTreeMap<Place, u64>,
    renames: Vec<Rename>,
    handles: BTreeMap<FileId, Handle>,
    locks: Vec<Held>,
    last_ino: u64,
    last_file: u32,
    now: Time,
    plan: Option<(u32, Trouble)>,
    lie: Option<Lie>,
    ops: u32,
    changes: u64,
    written: BTreeSet<Place>,
    largest_read: usize,
    most_open: usize,
    late_seals: bool,
    /// What stamps are rounded down to.
    step: Span,
    has_links: bool,
    is_silent: bool,
    log: Vec<String>,
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl SimDisk {
    /// An empty disk: the store's directory and the host's root are there.
    pub fn new() -> SimDisk {
        let mut disk = SimDisk {
            inodes: BTreeMap::new(),
            live: BTreeMap::new(),
            durable: BTreeMap::new(),
            renames: Vec::new(),
            handles: BTreeMap::new(),
            locks: Vec::new(),
            last_ino: 0,
            last_file: 0,
            now: Time::from_secs(1_795_456_800),
            plan: None,
            lie: None,
            ops: 0,
            changes: 0,
            written: BTreeSet::new(),
            largest_read: 0,
            most_open: 0,
            late_seals: false,
            step: Span(1),
            has_links: false,
            is_silent: false,
            log: Vec::new(),
        };
        disk.put(Place::store("."), Node::Directory);
        disk.put(Place::host("/"), Node::Directory);
        disk
    }

    /// The time by the simulated clock.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Lets time pass.
    pub fn wait_until(&mut self, time: Time) {
        self.now = self.now.max(time);
    }

    /// Sets the clock, forwards or back.
    pub fn set_clock(&mut self, time: Time) {
        self.now = time;
    }

    /// Rounds stamps down to multiples of `step`, as a file system with a coarse clock does.
    pub fn set_step(&mut self, step: Span) {
        self.step = step;
    }

    /// The stamp of what changes now.
    fn stamped(&self) -> Time {
        Time(self.now.0 - self.now.0.rem_euclid(self.step.0))
    }

    /// The clock that stamps files: it moves with each tick, but for a file system that stamps more finely than that.
    fn coarse(&self) -> Time {
        if self.step < TICK { self.now } else { Time(self.now.0 - self.now.0.rem_euclid(TICK.0)) }
    }

    /// Writes no transcript from now on.
    pub fn set_silent(&mut self, silent: bool) {
        self.is_silent = silent;
    }

    /// Plans trouble at the `at`-th operation from now on, counted from 1.
    pub fn plan(&mut self, at: u32, trouble: Trouble) {
        self.plan = Some((self.ops + at, trouble));
    }

    /// True if trouble that was planned has not come yet; what was planned is forgotten.
    pub fn unplan(&mut self) -> bool {
        self.plan.take().is_some_and(|(at, _)| at > self.ops)
    }

    /// Makes the disk lie from now on.
    pub fn lie(&mut self, lie: Lie) {
        self.lie = Some(lie);
    }

    /// Lets members that are sealed side by side come back last one first.
    pub fn set_late_seals(&mut self) {
        self.late_seals = true;
    }

    /// See [`SimDisk::set_late_seals`].
    pub fn has_late_seals(&self) -> bool {
        self.late_seals
    }

    /// Operations so far.
    pub fn ops(&self) -> u32 {
        self.ops
    }

    /// Grows with every operation that changed what is on the disk.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Names that were created, written, renamed or removed by operations, in either root.
    pub fn written(&self) -> &BTreeSet<Place> {
        &self.written
    }

    /// The most bytes that one operation asked to be read.
    pub fn largest_read(&self) -> usize {
        self.largest_read
    }

    /// Files that are open.
    pub fn open_files(&self) -> usize {
        self.handles.len()
    }

    /// The most files that were open at once.
    pub fn most_open(&self) -> usize {
        self.most_open
    }

    /// True if a procedure holds a lock on a file of this root.
    pub fn is_locked(&self, root: Root) -> bool {
        let in_root = |file: &FileId| self.handles.get(file).is_some_and(|handle| handle.place.root == root);
        self.locks.iter().any(|lock| lock.file.as_ref().is_some_and(in_root))
    }

    /// Closes these files, as the end of the process that has them open does.
    pub fn close_all(&mut self, files: impl IntoIterator<Item = FileId>) {
        for file in files {
            self.handles.remove(&file);
            self.locks.retain(|lock| lock.file != Some(file));
        }
    }

    /// One line for each operation since the last call.
    pub fn take_transcript(&mut self) -> String {
        std::mem::take(&mut self.log).iter().map(|line| format!("{line}\n")).collect()
    }

    /// Adds a line to the transcript.
    pub fn note(&mut self, line: impl Into<String>) {
        if !self.is_silent {
            self.log.push(line.into());
        }
    }

    /// Puts a durable file there, with the directories above it, replacing what is there.
    pub fn put_file(&mut self, place: &Place, content: impl Into<Vec<u8>>) {
        self.put_image(place, Rc::new(content.into()));
    }

    /// The same with an image that is shared.
    pub fn put_image(&mut self, place: &Place, image: Rc<Vec<u8>>) {
        self.put(place.clone(), Node::File { durable: image.clone(), live: image });
    }

    /// Changes a file in place, keeping its inode, as Cyrus changes an index.
    pub fn change_file(&mut self, place: &Place, content: impl Into<Vec<u8>>) {
        self.change_image(place, Rc::new(content.into()));
    }

    /// The same with an image that is shared.
    pub fn change_image(&mut self, place: &Place, image: Rc<Vec<u8>>) {
        let now = self.stamped();
        if let Some(inode) = self.live.get(place).and_then(|ino| self.inodes.get_mut(ino)) {
            inode.node = Node::File { durable: image.clone(), live: image };
            (inode.mtime, inode.ctime) = (now, now);
        }
    }

    /// Gives a file the inode number and the time of last change that it had elsewhere. No other file may have that number.
    pub fn stamp(&mut self, place: &Place, mtime: Time, ino: u64) {
        let old = self.live[place];
        let inode = Inode { mtime, ctime: mtime, ..self.inodes.remove(&old).expect("a file") };
        assert!(self.inodes.insert(ino, inode).is_none(), "inode {ino} is taken");
        let names = self.live.values_mut().chain(self.durable.values_mut());
        names.filter(|named| **named == old).for_each(|named| *named = ino);
    }

    /// Takes a name away, and everything below it.
    pub fn take_away(&mut self, place: &Place) {
        let below = place.join(b"");
        let is_part = |p: &Place| p == place || (p.root == place.root && p.path.starts_with(&below.path));
        self.live.retain(|p, _| !is_part(p));
        self.durable.retain(|p, _| !is_part(p));
    }

    /// Puts a symbolic link there.
    pub fn put_link(&mut self, place: &Place, target: &[u8]) {
        self.has_links = true;
        self.put(place.clone(), Node::Link(target.to_vec()));
    }

    /// What a file contains for a reader.
    pub fn content(&self, place: &Place) -> Option<&[u8]> {
        match &self.inodes.get(self.live.get(place)?)?.node {
            Node::File { live, .. } => Some(live),
            _ => None,
        }
    }

    /// All files of the store with their contents, as a reader sees them.
    pub fn store(&self) -> BTreeMap<String, Vec<u8>> {
        let files = self.live.keys().filter(|place| place.root == Root::Store);
        files.filter_map(|place| Some((place.shown(), self.content(place)?.to_vec()))).collect()
    }

    /// Takes a lock for somebody outside of the simulation, who keeps it through crashes.
    pub fn hold(&mut self, place: &Place, mode: LockMode, holder: &str) {
        let ino = match self.live.get(place) {
            Some(&ino) => ino,
            None => self.put(place.clone(), Node::File { durable: Rc::default(), live: Rc::default() }),
        };
        self.locks.push(Held { ino, mode, file: None, holder: holder.to_string() });
    }

    /// Lets go what [`SimDisk::hold`] took.
    pub fn let_go(&mut self) {
        self.locks.retain(|lock| lock.file.is_some());
    }

    /// The SHA-1 of everything that decides what can happen next: both images of all files, and all names.
    pub fn digest(&self) -> Guid {
        let mut hash = Sha1::new();
        let mut text = |s: &str| hash.update(s.as_bytes());
        let image = |ino: &u64| match &self.inodes[ino].node {
            Node::File { durable, live } if Rc::ptr_eq(durable, live) => format!("{} same", Guid::of(live)),
            Node::File { durable, live } => format!("{} {}", Guid::of(durable), Guid::of(live)),
            Node::Directory => String::from("directory"),
            Node::Link(target) => format!("link {target:?}"),
        };
        for (names, word) in [(&self.live, "live"), (&self.durable, "durable")] {
            for (place, ino) in names {
                text(&format!("{word} {place:?} {}\n", image(ino)));
            }
        }
        text(&format!("{} renames", self.renames.len()));
        hash.finish()
    }

    /// How many yes-or-no choices [`SimDisk::lose_power`] would ask for, at most.
    pub fn undecided(&self) -> u32 {
        let files: usize = (self.inodes.values())
            .map(|inode| match &inode.node {
                Node::File { durable, live } if !Rc::ptr_eq(durable, live) => {
                    blocks_that_differ(durable, live) + usize::from(durable.len() != live.len())
                }
                _ => 0,
            })
            .sum();
        (files + self.renames.len()) as u32
    }

    /// The power fails; `choose` says what survives.
    pub fn lose_power(&mut self, choose: &mut dyn Choose) {
        let mut names = std::mem::take(&mut self.durable);
        for rename in std::mem::take(&mut self.renames) {
            if choose.flip() {
                rename.apply(&mut names);
            }
        }
        let alive: BTreeSet<u64> = names.values().copied().collect();
        self.inodes.retain(|ino, _| alive.contains(ino));
        for inode in self.inodes.values_mut() {
            if let Node::File { durable, live } = &mut inode.node {
                if !Rc::ptr_eq(durable, live) {
                    *durable = Rc::new(survivor(durable, live, choose));
                }
                *live = durable.clone();
            }
        }
        self.live = names.clone();
        self.durable = names;
        self.kill();
        self.note("-- the power fails --");
    }

    /// All processes are killed: their files are closed, their locks are gone, what they wrote stays.
    pub fn kill(&mut self) {
        self.handles.clear();
        self.locks.retain(|lock| lock.file.is_none());
        self.plan = None;
    }

    /// Lets the first `keep` bytes of a write have their effect; for the state of a process killed in the middle of it.
    pub fn tear(&mut self, op: &Op, keep: usize) {
        if let Op::WriteAt { file, offset, data } = op {
            let data = data[..keep.min(data.len())].to_vec();
            // A write that would have been refused leaves nothing.
            let _ = self.perform(Op::WriteAt { file: *file, offset: *offset, data });
        }
    }

    /// Does one operation; `None` if the machine stopped meanwhile (call [`SimDisk::lose_power`] or [`SimDisk::kill`]).
    pub fn run(&mut self, id: OpId, op: Op) -> Option<Result<Reply, Fault>> {
        self.ops += 1;
        self.now = self.now.plus(cost(&op));
        let line = if self.is_silent { String::new() } else { format!("op{} {}", id.0, self.describe(&op)) };
        let planned = self.plan.filter(|&(at, _)| at == self.ops).map(|(_, trouble)| trouble);
        let reply = match planned {
            None => self.perform(op),
            Some(Trouble::CrashBefore) => {
                self.note(format!("-- stop before {line} --"));
                return None;
            }
            Some(Trouble::CrashAfter) => {
                // The reply never arrives.
                let _ = self.perform(op);
                self.note(format!("{line} -- stop before the reply --"));
                return None;
            }
            Some(Trouble::Torn(keep)) => {
                self.tear(&op, keep);
                self.note(format!("{line} -- stop after {keep} bytes --"));
                return None;
            }
            Some(Trouble::Fail(fault)) => {
                match &op {
                    Op::WriteAt { data, .. } => self.tear(&op, data.len() / 2),
                    Op::Close(_) => drop(self.perform(op)),
                    _ => {}
                }
                Err(fault)
            }
            Some(Trouble::Forget(fault)) => {
                match op {
                    Op::Sync(file) => self.forget(file),
                    Op::Close(_) => drop(self.perform(op)),
                    _ => {}
                }
                Err(fault)
            }
        };
        if !self.is_silent {
            self.note(match &reply {
                Err(fault) => format!("{line}: {fault}"),
                Ok(reply) => format!("{line}{}", outcome(reply)),
            });
        }
        Some(reply)
    }

    fn forget(&mut self, file: FileId) {
        let Some(handle) = self.handles.get(&file) else { return };
        if let Some(Inode { node: Node::File { durable, live }, .. }) = self.inodes.get_mut(&handle.ino) {
            let mut image = durable.to_vec();
            image.resize(live.len(), 0);
            *live = Rc::new(image);
        }
    }

    fn perform(&mut self, op: Op) -> Result<Reply, Fault> {
        match op {
            Op::Stat(place) => self.stat(&place).map(Reply::Stat),
            Op::StatMany(places) => Ok(Reply::Stats(places.iter().map(|place| self.stat(place)).collect())),
            Op::List { dir, max } => self.list(&dir, max).map(Reply::Names),
            Op::ReadLink(place) => match &self.inode(*self.live.get(&place).ok_or(Fault::NotFound)?)?.node {
                Node::Link(target) => Ok(Reply::Bytes(target.clone())),
                _ => Err(Fault::WrongKind),
            },
            Op::Open { place, how } => self.open(place, how).map(Reply::File),
            Op::Scratch => {
                let ino = self.add(Node::File { durable: Rc::default(), live: Rc::default() });
                Ok(Reply::File(self.handle(ino, Place::store("scratch"), How::Create)))
            }
            Op::FStat(file) => {
                let Handle { ino, place, .. } = self.handle_of(file)?;
                match self.live.get(place) {
                    Some(named) if named == ino => self.stat_of(*ino, 1),
                    _ => self.stat_ino(*ino),
                }
                .map(Reply::Stat)
            }
            Op::ReadAt { file, offset, len, mut buffer } => {
                self.largest_read = self.largest_read.max(len);
                let live = self.image(self.handle_of(file)?.ino)?;
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(live.len());
                buffer.clear();
                buffer.extend_from_slice(&live[start..start.saturating_add(len).min(live.len())]);
                Ok(Reply::Bytes(buffer))
            }
            Op::ReadWhole { place, max, mut buffer } => {
                let ino = self.find(&place)?;
                let live = self.image(ino)?;
                if live.len() as u64 > max {
                    return Err(Fault::TooLarge);
                }
                buffer.clear();
                buffer.extend_from_slice(&live);
                Ok(Reply::Whole(buffer, self.stat_of(ino, 1)?))
            }
            Op::WriteAt { file, offset, mut data } => {
                let at = usize::try_from(offset).map_err(|_| Fault::TooLarge)?;
                self.change(file, |live| {
                    // No bytes do not make a file longer.
                    if !data.is_empty() {
                        live.resize(live.len().max(at + data.len()), 0);
                        live[at..at + data.len()].copy_from_slice(&data);
                    }
                })?;
                data.clear();
                Ok(Reply::Bytes(data))
            }
            Op::Truncate { file, len } => {
                let len = usize::try_from(len).map_err(|_| Fault::TooLarge)?;
                self.change(file, |live| live.resize(len, 0)).map(|()| Reply::Unit)
            }
            Op::Sync(file) => self.sync(file),
            Op::SyncDir(dir) => self.sync_dir(&dir),
            Op::MakeDir(dir) => self.make_dir(&dir),
            Op::Rename { from, to } => self.rename(from, to),
            Op::Unlink(place) => self.unlink(place),
            Op::RemoveDir(place) => self.remove_dir(place),
            // This world has no target.
            Op::Put { .. } | Op::PutDir { .. } | Op::PutLink { .. } | Op::Attribute { .. } => Err(Fault::Driver),
            Op::Link { from, to } => self.link(&from, to),
            Op::Close(file) => {
                self.handles.remove(&file).ok_or(Fault::Driver)?;
                self.locks.retain(|lock| lock.file != Some(file));
                Ok(Reply::Unit)
            }
            Op::Lock { file, mode } => {
                let Handle { ino, how, .. } = self.handle_of(file)?.clone();
                // The kernel wants it open for writing.
                if how == How::Read && mode == LockMode::Exclusive {
                    return Err(Fault::Os(9));
                }
                if self.excluding(file, mode).is_some() {
                    return Err(Fault::Busy);
                }
                self.locks.retain(|lock| lock.file != Some(file));
                self.locks.push(Held { ino, mode, file: Some(file), holder: String::from("another process") });
                Ok(Reply::Unit)
            }
            Op::Unlock(file) => {
                self.locks.retain(|lock| lock.file != Some(file));
                Ok(Reply::Unit)
            }
            // Of another cylinder the kernel does not say which process it is.
            Op::Holder { file, mode } => {
                let holder = self.excluding(file, mode);
                Ok(Reply::Holder(holder.map(|lock| lock.holder.clone())))
            }
            Op::Clock => Ok(Reply::Clock(self.coarse(), TICK)),
            Op::Connect(_) | Op::Send { .. } | Op::Receive { .. } | Op::Secure(_) | Op::Complaint(_) | Op::Shut(_) => {
                Err(Fault::Gone)
            }
            Op::Seal { kind, flags, mut raw, level, check, mut buffer } => {
                let mut again = Vec::new();
                CODEC.with_borrow_mut(|codec| {
                    member::seal(codec, kind, flags, &raw, level, check.then_some(&mut again), &mut buffer)
                })?;
                raw.clear();
                Ok(Reply::Sealed { member: buffer, raw })
            }
            Op::Unseal { mut member, mut buffer } => {
                let info = CODEC.with_borrow_mut(|codec| member::unseal(codec, &member, &mut buffer))?;
                member.clear();
                Ok(Reply::Unsealed { info, raw: buffer, member })
            }
        }
    }

    fn sync(&mut self, file: FileId) -> Result<Reply, Fault> {
        let ino = self.handle_of(file)?.ino;
        let lying = self.lie == Some(Lie::Sync);
        match self.inodes.get_mut(&ino).map(|inode| &mut inode.node) {
            Some(Node::File { durable, live }) if !lying => *durable = live.clone(),
            _ => {}
        }
        self.changes += 1;
        Ok(Reply::Unit)
    }

    fn sync_dir(&mut self, dir: &Place) -> Result<Reply, Fault> {
        self.writable(dir)?;
        if self.stat(dir)?.kind != FileKind::Directory {
            return Err(Fault::WrongKind);
        }
        if self.lie != Some(Lie::SyncDir) {
            let (now, later) = std::mem::take(&mut self.renames).into_iter().partition(|rename: &Rename| rename.is_in(dir));
            self.renames = later;
            now.iter().for_each(|rename| rename.apply(&mut self.durable));
        }
        self.changes += 1;
        Ok(Reply::Unit)
    }

    fn make_dir(&mut self, dir: &Place) -> Result<Reply, Fault> {
        self.writable(dir)?;
        match self.live.get(dir).map(|&ino| self.stat_ino(ino)).transpose()? {
            Some(stat) if stat.kind != FileKind::Directory => return Err(Fault::WrongKind),
            Some(_) => {}
            None if self.is_below_a_file(dir) => return Err(Fault::NotFound),
            None => {
                self.put(dir.clone(), Node::Directory);
                self.wrote(dir);
            }
        }
        Ok(Reply::Unit)
    }

    fn rename(&mut self, from: Place, to: Place) -> Result<Reply, Fault> {
        self.writable(&from)?;
        self.writable(&to)?;
        let ino = *self.live.get(&from).ok_or(Fault::NotFound)?;
        match self.live.get(&to.parent()).map(|&ino| self.stat_of(ino, 1)).transpose()? {
            Some(stat) if stat.kind == FileKind::Directory => {}
            _ => return Err(Fault::NotFound),
        }
        self.wrote(&from);
        self.wrote(&to);
        let rename = Rename::Move(from, to, ino);
        rename.apply(&mut self.live);
        self.renames.push(rename);
        Ok(Reply::Unit)
    }

    fn unlink(&mut self, place: Place) -> Result<Reply, Fault> {
        self.writable(&place)?;
        let ino = *self.live.get(&place).ok_or(Fault::NotFound)?;
        if self.stat_ino(ino)?.kind == FileKind::Directory {
            return Err(Fault::WrongKind);
        }
        self.wrote(&place);
        self.live.remove(&place);
        self.renames.push(Rename::Remove(place));
        Ok(Reply::Unit)
    }

    /// The name goes like any other, and is durably gone after a sync of the directory above.
    fn remove_dir(&mut self, place: Place) -> Result<Reply, Fault> {
        self.writable(&place)?;
        let ino = *self.live.get(&place).ok_or(Fault::NotFound)?;
        if self.stat_ino(ino)?.kind != FileKind::Directory {
            // What the kernel says of a way through a file.
            return Err(Fault::NotFound);
        }
        if self.live.keys().any(|name| *name != place && name.parent() == place) {
            return Err(Fault::Os(39));
        }
        self.wrote(&place);
        self.live.remove(&place);
        self.renames.push(Rename::Remove(place));
        Ok(Reply::Unit)
    }

    fn open(&mut self, place: Place, how: How) -> Result<FileId, Fault> {
        let found = match (place.root, how) {
            (Root::Host, How::Write | How::Create) | (Root::Target, _) => return Err(Fault::Driver),
            (Root::Store, _) => self.live.get(&place).copied().ok_or(Fault::NotFound),
            (Root::Host, _) => self.find(&place),
        };
        let ino = match (found, how) {
            (Ok(_), How::Create) => return Err(Fault::Exists),
            (Ok(ino), _) => ino,
            (Err(Fault::NotFound), How::Create | How::Lock) => self.create(&place, how)?,
            (Err(fault), _) => return Err(fault),
        };
        match self.stat_of(ino, 1)?.kind {
            FileKind::Regular => Ok(self.handle(ino, place, how)),
            _ => Err(Fault::WrongKind),
        }
    }

    /// True if something on the way to a name is no directory.
    fn is_below_a_file(&self, place: &Place) -> bool {
        let parent = place.parent();
        match self.live.get(&parent).map(|&ino| self.stat_of(ino, 1)) {
            Some(Ok(stat)) => stat.kind != FileKind::Directory,
            _ => parent != *place && self.is_below_a_file(&parent),
        }
    }

    fn create(&mut self, place: &Place, how: How) -> Result<u64, Fault> {
        let parent = place.parent();
        match self.live.get(&parent).map(|&ino| self.stat_of(ino, 1)).transpose()? {
            Some(stat) if stat.kind == FileKind::Directory => {}
            None if how == How::Lock && !self.is_below_a_file(&parent) => drop(self.put(parent, Node::Directory)),
            _ => return Err(Fault::NotFound),
        }
        let ino = self.add(Node::File { durable: Rc::default(), live: Rc::default() });
        self.live.insert(place.clone(), ino);
        self.renames.push(Rename::Create(place.clone(), ino));
        self.wrote(place);
        Ok(ino)
    }

    fn link(&mut self, from: &Place, to: Place) -> Result<Reply, Fault> {
        let ino = *self.live.get(from).ok_or(Fault::NotFound)?;
        if self.live.contains_key(&to) {
            return Err(Fault::Exists);
        }
        self.live.insert(to.clone(), ino);
        self.renames.push(Rename::Create(to.clone(), ino));
        self.wrote(&to);
        Ok(Reply::Unit)
    }

    fn change(&mut self, file: FileId, edit: impl FnOnce(&mut Vec<u8>)) -> Result<(), Fault> {
        let Handle { ino, place, how } = self.handle_of(file)?.clone();
        if !matches!(how, How::Write | How::Create) {
            return Err(Fault::Driver);
        }
        let now = self.stamped();
        let inode = self.inodes.get_mut(&ino).ok_or(Fault::Driver)?;
        let Node::File { live, .. } = &mut inode.node else { return Err(Fault::WrongKind) };
        edit(Rc::make_mut(live));
        (inode.mtime, inode.ctime) = (now, now);
        // A scratch file has no name.
        if self.live.contains_key(&place) {
            self.wrote(&place);
        }
        Ok(())
    }

    fn wrote(&mut self, place: &Place) {
        self.changes += 1;
        if !self.written.contains(place) {
            self.written.insert(place.clone());
        }
    }

    fn writable(&self, place: &Place) -> Result<(), Fault> {
        if place.root == Root::Store { Ok(()) } else { Err(Fault::Driver) }
    }

    /// Adds a durable name with the directories above it.
    fn put(&mut self, place: Place, node: Node) -> u64 {
        let parent = place.parent();
        if parent != place && !self.live.contains_key(&parent) {
            self.put(parent, Node::Directory);
        }
        let ino = self.add(node);
        self.live.insert(place.clone(), ino);
        self.durable.insert(place, ino);
        ino
    }

    fn add(&mut self, node: Node) -> u64 {
        self.last_ino += 1;
        let now = self.stamped();
        self.inodes.insert(self.last_ino, Inode { node, mtime: now, ctime: now });
        self.last_ino
    }

    fn handle(&mut self, ino: u64, place: Place, how: How) -> FileId {
        self.last_file += 1;
        let file = FileId(self.last_file);
        self.handles.insert(file, Handle { ino, place, how });
        self.most_open = self.most_open.max(self.handles.len());
        file
    }

    /// A file that is not open is the core's mistake: using a file after closing it.
    fn handle_of(&self, file: FileId) -> Result<&Handle, Fault> {
        self.handles.get(&file).ok_or(Fault::Driver)
    }

    fn inode(&self, ino: u64) -> Result<&Inode, Fault> {
        self.inodes.get(&ino).ok_or(Fault::NotFound)
    }

    fn image(&self, ino: u64) -> Result<Rc<Vec<u8>>, Fault> {
        match &self.inode(ino)?.node {
            Node::File { live, .. } => Ok(live.clone()),
            _ => Err(Fault::WrongKind),
        }
    }

    /// The inode that a path leads to, links followed.
    fn find(&self, place: &Place) -> Result<u64, Fault> {
        if !self.has_links {
            return self.live.get(place).copied().ok_or(Fault::NotFound);
        }
        let mut place = place.clone();
        for _ in 0..LINKS_MAX {
            match self.first_link(&place) {
                Some(next) => place = next,
                None => return self.live.get(&place).copied().ok_or(Fault::NotFound),
            }
        }
        Err(Fault::Os(40))
    }

    /// The path with its first symbolic link replaced by where that points; `None` if there is none in it.
    fn first_link(&self, place: &Place) -> Option<Place> {
        let ends = (1..place.path.len()).filter(|&at| place.path[at] == b'/').chain([place.path.len()]);
        for end in ends {
            let part = Place { root: place.root, path: place.path[..end].to_vec() };
            let Some(Node::Link(target)) = self.live.get(&part).and_then(|ino| Some(&self.inodes.get(ino)?.node)) else {
                continue;
            };
            let mut path = if target.starts_with(b"/") { target.clone() } else { part.parent().join(target).path };
            path.extend_from_slice(&place.path[end..]);
            return Some(Place { root: place.root, path });
        }
        None
    }

    fn stat(&self, place: &Place) -> Result<Stat, Fault> {
        // A name was found, and no file has two.
        let ino = self.find(place)?;
        self.stat_of(ino, 1)
    }

    fn stat_ino(&self, ino: u64) -> Result<Stat, Fault> {
        self.stat_of(ino, self.live.values().filter(|&&named| named == ino).count() as u32)
    }

    fn stat_of(&self, ino: u64, nlink: u32) -> Result<Stat, Fault> {
        let inode = self.inode(ino)?;
        let (kind, size, mode) = match &inode.node {
            Node::File { live, .. } => (FileKind::Regular, live.len() as u64, 0o600),
            Node::Directory => (FileKind::Directory, 4096, 0o700),
            Node::Link(target) => (FileKind::Link, target.len() as u64, 0o777),
        };
        Ok(Stat { kind, dev: 1, ino, size, mtime: inode.mtime, ctime: inode.ctime, nlink, mode, uid: 0, gid: 0 })
    }

    fn list(&self, dir: &Place, max: usize) -> Result<Vec<DirEntry>, Fault> {
        if self.stat(dir)?.kind != FileKind::Directory {
            return Err(Fault::WrongKind);
        }
        let mut names = Vec::new();
        let first = match &dir.path[..] {
            // No other name begins so.
            b"." => Place { root: dir.root, path: Vec::new() },
            b"/" => dir.clone(),
            _ => dir.join(b""),
        };
        let below = self.live.range(first.clone()..);
        for (place, &ino) in below.take_while(|(place, _)| place.root == dir.root && place.path.starts_with(&first.path)) {
            if place.parent() == *dir && place != dir {
                let start = place.path.iter().rposition(|&b| b == b'/').map_or(0, |at| at + 1);
                names.push(DirEntry { name: place.path[start..].to_vec(), kind: self.stat_of(ino, 1)?.kind });
            }
        }
        if names.len() > max { Err(Fault::TooLarge) } else { Ok(names) }
    }

    fn excluding(&self, file: FileId, mode: LockMode) -> Option<&Held> {
        let ino = self.handles.get(&file)?.ino;
        let excludes = |lock: &&Held| mode == LockMode::Exclusive || lock.mode == LockMode::Exclusive;
        self.locks.iter().filter(|lock| lock.ino == ino && lock.file != Some(file)).find(excludes)
    }

    fn name_of(&self, file: FileId) -> String {
        self.handles.get(&file).map_or_else(|| format!("file {}", file.0), |handle| base(&handle.place))
    }

    /// What an operation is, for a person.
    pub fn describe(&self, op: &Op) -> String {
        match op {
            Op::Stat(place) => format!("stat {}", base(place)),
            Op::StatMany(places) => format!("stat {} names", places.len()),
            Op::List { dir, .. } => format!("list {}", dir.shown()),
            Op::ReadLink(place) => format!("read link {}", base(place)),
            Op::Open { place, how } => {
                let verb = match how {
                    How::Read => "open",
                    How::Lock => "open or create",
                    How::Write => "open for writing",
                    How::Create => "create",
                };
                format!("{verb} {}", base(place))
            }
            Op::Scratch => String::from("create a scratch file"),
            Op::FStat(file) => format!("stat {}", self.name_of(*file)),
            Op::ReadAt { file, offset, .. } => format!("read {} at {offset}", self.name_of(*file)),
            Op::ReadWhole { place, .. } => format!("read {}", base(place)),
            Op::WriteAt { file, offset, data } => format!("write {} at {offset} {} bytes", self.name_of(*file), data.len()),
            Op::Truncate { file, len } => format!("cut {} at {len}", self.name_of(*file)),
            Op::Sync(file) => format!("sync {}", self.name_of(*file)),
            Op::SyncDir(dir) => format!("sync directory {}", dir.shown()),
            Op::MakeDir(dir) => format!("make directory {}", dir.shown()),
            Op::Rename { from, to } => format!("rename {} to {}", base(from), base(to)),
            Op::Unlink(place) => format!("remove {}", base(place)),
            Op::RemoveDir(dir) => format!("remove directory {}", dir.shown()),
            Op::Put { place, data, .. } => format!("put {} {} bytes", base(place), data.len()),
            Op::PutDir { place, .. } => format!("put directory {}", base(place)),
            Op::PutLink { place, .. } => format!("put link {}", base(place)),
            Op::Link { to, .. } => format!("link {}", base(to)),
            Op::Attribute { file, .. } => format!("attribute {}", self.name_of(*file)),
            Op::Close(file) => format!("close {}", self.name_of(*file)),
            Op::Lock { file, mode } => format!("lock {} {mode:?}", self.name_of(*file)).to_lowercase(),
            Op::Unlock(file) => format!("unlock {}", self.name_of(*file)),
            Op::Holder { file, .. } => format!("who holds {}", self.name_of(*file)),
            Op::Clock => String::from("clock"),
            Op::Connect(peer) => format!("connect to {peer}"),
            Op::Send { data, .. } => format!("send {} bytes", data.len()),
            Op::Receive { max, .. } => format!("receive up to {max} bytes"),
            Op::Secure(_) => String::from("secure"),
            Op::Complaint(_) => String::from("complaint"),
            Op::Shut(_) => String::from("shut"),
            Op::Seal { kind, raw, .. } => format!("seal {} {} bytes", kind.letter() as char, raw.len()),
            Op::Unseal { member, .. } => format!("unseal {} bytes", member.len()),
        }
    }
}

/// What an operation gave, for the transcript.
fn outcome(reply: &Reply) -> String {
    match reply {
        Reply::Stat(stat) => format!(": {} bytes", stat.size),
        Reply::Names(names) => format!(": {} names", names.len()),
        Reply::Bytes(bytes) if !bytes.is_empty() => format!(" {} bytes", bytes.len()),
        Reply::Whole(bytes, _) => format!(" {} bytes", bytes.len()),
        Reply::Holder(holder) => format!(": {}", holder.as_deref().unwrap_or("nobody")),
        Reply::Sealed { member, .. } => format!(" into {}", member.len()),
        Reply::Unsealed { info, raw, .. } => format!(": {} {} bytes", info.kind.letter() as char, raw.len()),
        _ => String::new(),
    }
}

fn base(place: &Place) -> String {
    let shown = place.shown();
    shown.rsplit('/').next().unwrap_or_default().to_string()
}

/// What an operation takes: rough figures of a disk, so that times in transcripts look like times.
fn cost(op: &Op) -> Span {
    match op {
        Op::Sync(_) | Op::SyncDir(_) => Span::from_ms(8),
        Op::Seal { raw, .. } => Span(20 * raw.len() as i64),
        _ => Span(50_000),
    }
}

fn blocks_that_differ(durable: &[u8], live: &[u8]) -> usize {
    let count = durable.len().max(live.len()).div_ceil(BLOCK);
    (0..count).filter(|&n| block(durable, n) != block(live, n)).count()
}

fn block(image: &[u8], n: usize) -> &[u8] {
    let start = (n * BLOCK).min(image.len());
    &image[start..(start + BLOCK).min(image.len())]
}

/// What is left of a file: one of the lengths from the durable to the live one, and any of the blocks that differ.
fn survivor(durable: &[u8], live: &[u8], choose: &mut dyn Choose) -> Vec<u8> {
    let (low, high) = (durable.len().min(live.len()), durable.len().max(live.len()));
    let mut lengths = vec![durable.len(), live.len()];
    lengths.dedup();
    lengths.extend((low + 1..high).filter(|len| len % BLOCK == 0));
    let mut image = durable.to_vec();
    image.resize(lengths[choose.upto(lengths.len() as u32 - 1) as usize], 0);
    for n in 0..image.len().min(live.len()).div_ceil(BLOCK) {
        let range = n * BLOCK..((n + 1) * BLOCK).min(image.len()).min(live.len());
        if image[range.clone()] != live[range.clone()] && choose.flip() {
            image[range.clone()].copy_from_slice(&live[range]);
        }
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::choose::{Gen, Sampler};

    fn at(name: &str) -> Place {
        Place::store(name)
    }

    fn open(disk: &mut SimDisk, name: &str, how: How) -> FileId {
        match disk.perform(Op::Open { place: at(name), how }).unwrap() {
            Reply::File(file) => file,
            other => panic!("{other:?}"),
        }
    }

    fn write(disk: &mut SimDisk, file: FileId, offset: u64, data: &[u8]) {
        disk.perform(Op::WriteAt { file, offset, data: data.to_vec() }).unwrap();
    }

    fn losses(disk: &SimDisk) -> BTreeSet<BTreeMap<String, Vec<u8>>> {
        let (mut all, mut choices) = (BTreeSet::new(), Gen::default());
        while !choices.done() {
            let mut after = disk.clone();
            after.lose_power(&mut choices);
            all.insert(after.store());
        }
        all
    }

    #[test]
    fn a_power_loss_keeps_any_blocks_and_any_length_of_what_was_not_synced() {
        let mut disk = SimDisk::new();
        disk.put_file(&at("a"), vec![1; 700]);
        let file = open(&mut disk, "a", How::Write);
        write(&mut disk, file, 600, &[2; 600]);
        // Blocks: the second differs from byte 600 on, the third is new. Lengths: 700, 1024, 1200.
        let all = losses(&disk);
        let lengths: BTreeSet<usize> = all.iter().map(|files| files["a"].len()).collect();
        assert_eq!(lengths, BTreeSet::from([700, 1024, 1200]));
        // Two choices at 700 and 1024 each, four at 1200.
        assert_eq!(all.len(), 8);
        assert!(all.iter().all(|files| files["a"][..512] == [1; 512]));
        disk.perform(Op::Sync(file)).unwrap();
        assert_eq!(losses(&disk).len(), 1);
        assert_eq!(disk.undecided(), 0);
    }

    #[test]
    fn names_are_durable_when_their_directory_was_synced() {
        let mut disk = SimDisk::new();
        disk.perform(Op::MakeDir(at("d/e"))).unwrap();
        let file = open(&mut disk, "d/e/new", How::Create);
        write(&mut disk, file, 0, b"x");
        disk.perform(Op::Sync(file)).unwrap();
        assert_eq!(losses(&disk).len(), 2, "there or not");
        disk.perform(Op::SyncDir(at("d/e"))).unwrap();
        disk.perform(Op::Rename { from: at("d/e/new"), to: at("d/e/final") }).unwrap();
        let all: Vec<Vec<String>> = losses(&disk).into_iter().map(|files| files.into_keys().collect()).collect();
        assert_eq!(all, [vec!["d/e/final"], vec!["d/e/new"]]);
        disk.perform(Op::SyncDir(at("d"))).unwrap();
        assert_eq!(losses(&disk).len(), 2, "another directory was synced");
        disk.perform(Op::SyncDir(at("d/e"))).unwrap();
        disk.perform(Op::Unlink(at("d/e/final"))).unwrap();
        assert_eq!(losses(&disk).len(), 2);
    }

    #[test]
    fn a_kill_loses_nothing_and_a_forgetful_sync_loses_what_was_not_durable() {
        let mut disk = SimDisk::new();
        disk.put_file(&at("a"), vec![1; 10]);
        let file = open(&mut disk, "a", How::Write);
        write(&mut disk, file, 5, &[2; 10]);
        let mut killed = disk.clone();
        killed.kill();
        assert_eq!(killed.content(&at("a")).map(<[u8]>::len), Some(15));
        assert_eq!((killed.open_files(), killed.undecided()), (0, 2));
        disk.plan(1, Trouble::Forget(Fault::Os(5)));
        assert_eq!(disk.run(OpId(1), Op::Sync(file)), Some(Err(Fault::Os(5))));
        assert_eq!(disk.content(&at("a")), Some(&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0][..]));
    }

    #[test]
    fn the_host_is_read_only_but_for_lock_files() {
        let mut disk = SimDisk::new();
        let passwd = Place::host("/var/imap/mailboxes.db");
        disk.put_file(&passwd, "x");
        disk.put_link(&Place::host("/imap"), b"/var/imap");
        for how in [How::Write, How::Create] {
            assert_eq!(disk.perform(Op::Open { place: passwd.clone(), how }), Err(Fault::Driver));
        }
        assert_eq!(disk.perform(Op::Unlink(passwd)), Err(Fault::Driver));
        let through = Op::ReadWhole { place: Place::host("/imap/mailboxes.db"), max: 1, buffer: Vec::new() };
        assert!(matches!(disk.perform(through), Ok(Reply::Whole(bytes, _)) if bytes == b"x"));
        assert!(disk.written().is_empty());
        let lock = Place::host("/var/imap/lock/x.lock");
        let Ok(Reply::File(file)) = disk.perform(Op::Open { place: lock.clone(), how: How::Lock }) else { panic!("lock file") };
        assert_eq!(disk.perform(Op::WriteAt { file, offset: 0, data: vec![1] }), Err(Fault::Driver));
        disk.hold(&lock, LockMode::Shared, "process 4711 (imapd)");
        assert_eq!(disk.perform(Op::Lock { file, mode: LockMode::Exclusive }), Err(Fault::Busy));
        let holder = disk.perform(Op::Holder { file, mode: LockMode::Exclusive });
        assert_eq!(holder, Ok(Reply::Holder(Some(String::from("process 4711 (imapd)")))));
        assert_eq!(disk.perform(Op::Lock { file, mode: LockMode::Shared }), Ok(Reply::Unit));
        let list = disk.perform(Op::List { dir: Place::host("/var/imap"), max: 9 }).unwrap();
        assert!(matches!(list, Reply::Names(names) if names.len() == 2));
    }

    #[test]
    fn a_lying_disk_says_that_it_synced() {
        let mut disk = SimDisk::new();
        disk.lie(Lie::Sync);
        let file = open(&mut disk, "a", How::Create);
        write(&mut disk, file, 0, &[9; 5]);
        assert_eq!(disk.perform(Op::Sync(file)), Ok(Reply::Unit));
        disk.perform(Op::SyncDir(at("."))).unwrap();
        assert!(losses(&disk).iter().any(|files| files["a"].is_empty()));
        let mut sampled = disk.clone();
        sampled.lose_power(&mut Sampler::new(1));
        assert_eq!(sampled.undecided(), 0);
    }
}
