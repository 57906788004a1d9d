//! The whole boundary between the core and the world: operations out, replies in.
//!
//! # The contract
//!
//! A procedure of the core (open an archive, back up a user, verify) is a [`Task`], which is a [`Machine`]. A driver owns it
//! and
//!
//! 1. calls [`Machine::poll_output`] until it answers [`Output::Wait`] or [`Output::Finished`];
//! 2. does what each [`Output::Op`] asks, now or on another thread, in any order except that operations on one [`FileId`] take
//!    effect in the order in which they came out;
//! 3. reports each result with [`Machine::handle_input`], or [`Input::Tick`] when the time that `Wait` named has come, then
//!    goes on at 1. An early `Tick` is harmless. A machine does nothing unless polled.
//!
//! The driver decides nothing. Operations are numbered, so a run is the list of its inputs: the same inputs give the same
//! outputs, byte for byte, which is what recording, replay and the simulated world rest on.
//!
//! Payloads change hands and are not copied: a buffer that goes out with an operation comes back with its reply, to be used
//! again.
//!
//! Inside, a procedure is written as an `async fn` over [`Io`], so that it reads from top to bottom; there is no executor, no
//! waker and no thread behind it: the future is polled by `poll_output` and by nothing else.
//!
//! # Who may write
//!
//! A [`Place`] names a root. [`Root::Host`] is the mail server's file system: the only operation on it that writes is
//! [`How::Lock`], which may create a lock file. Everything else that writes must be in [`Root::Store`] or go to a file of
//! [`Op::Scratch`]; a driver refuses the rest with [`Fault::Driver`].
//!
//! [`Root::Target`] is where a restore puts files. Names in it come from mailboxes, so nothing there follows a symbolic link,
//! and nothing that is there is ever written over: [`Op::Put`] and its like create, or answer [`Fault::Exists`]. A driver that
//! was given no target refuses all of it.

use crate::archive::member::{Kind, MemberInfo};
use crate::error::Fault;
use crate::escape::shown;
use crate::time::{Span, Time};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use core::fmt;
use core::future::Future;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

/// Which file tree a path belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Root {
    /// The mail server's file system. Paths are absolute, as imapd.conf names them; the driver puts `--root` before them.
    Host,
    /// The directory that holds the archives. Paths are relative to it.
    Store,
    /// The directory that is restored into. Paths are relative to it, without `.` and `..`. No symbolic link in it is followed,
    /// but for those on the way to a directory that the driver's configuration names.
    Target,
}

/// A file or directory by name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The tree.
    pub root: Root,
    /// The path: bytes, `/` between components, never empty.
    pub path: Vec<u8>,
}

impl Place {
    /// A path on the mail server.
    pub fn host(path: impl Into<Vec<u8>>) -> Place {
        Place { root: Root::Host, path: path.into() }
    }

    /// A path in the store.
    pub fn store(path: impl Into<Vec<u8>>) -> Place {
        Place { root: Root::Store, path: path.into() }
    }

    /// A path in the target.
    pub fn target(path: impl Into<Vec<u8>>) -> Place {
        Place { root: Root::Target, path: path.into() }
    }

    /// The place `name` below this directory. `name` is one of ours or was made safe; it is not checked here.
    pub fn join(&self, name: &[u8]) -> Place {
        let mut path = self.path.clone();
        path.push(b'/');
        path.extend_from_slice(name);
        Place { root: self.root, path }
    }

    /// The directory that this place is in; for a name without a `/`, `.`.
    pub fn parent(&self) -> Place {
        let path = match self.path.iter().rposition(|&b| b == b'/') {
            Some(0) => b"/".to_vec(),
            Some(n) => self.path[..n].to_vec(),
            None => b".".to_vec(),
        };
        Place { root: self.root, path }
    }

    /// The path, escaped for printing.
    pub fn shown(&self) -> String {
        shown(&self.path)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = match self.root {
            Root::Host => "host:",
            Root::Store => "store:",
            Root::Target => "target:",
        };
        write!(f, "{root}{}", self.shown())
    }
}

/// The number of an operation; a task numbers its own from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct OpId(pub u32);

/// An open file, named by the driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileId(pub u32);

/// A stream of bytes to and from another process or host, named by the driver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StreamId(pub u32);

/// What kind of thing a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// An ordinary file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, socket or pipe.
    Other,
}

/// What stat(2) says, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Kind of file.
    pub kind: FileKind,
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Number of hard links; 0 once the last name is gone.
    pub nlink: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What tells whether a file has changed: length, times and inode, without opening it.
///
/// The device is left out: its number may change when a host is restarted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tuple {
    /// Length in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Inode number.
    pub ino: u64,
}

impl From<Stat> for Tuple {
    fn from(s: Stat) -> Tuple {
        Tuple { size: s.size, mtime: s.mtime, ctime: s.ctime, ino: s.ino }
    }
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// The name, without a path.
    pub name: Vec<u8>,
    /// Kind, as the directory tells it (links are not followed).
    pub kind: FileKind,
}

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// For reading. Regular files only; the last component may be a symbolic link on [`Root::Host`] alone.
    Read,
    /// For locking: created empty if need be, with its directories, belonging to the owner of the Cyrus files
    /// (mode 0600, directories 0755). Never truncated, never written.
    Lock,
    /// For reading and writing in [`Root::Store`]; must exist.
    Write,
    /// For reading and writing in [`Root::Store`] or [`Root::Target`]; must not exist; mode 0600. In the store, `X.new` gets
    /// owner, group and mode of `X`, if that exists; what the superuser creates there otherwise belongs to the store's owner.
    /// [`Fault::Owner`] if it cannot be given that; then nothing is created.
    Create,
}

/// What a file or directory of the target is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// User and group; `None` for whoever restores.
    pub owner: Option<(u32, u32)>,
    /// Last change of the content; `None` for now. Directories do not keep it.
    pub mtime: Option<Time>,
}

/// The mode of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// Excludes writers.
    Shared,
    /// Excludes everybody.
    Exclusive,
}

/// What a machine wants done.
///
/// The answer's kind is given after the arrow. Every operation may also be answered with a [`Fault`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// stat(2), following links -> [`Reply::Stat`].
    Stat(Place),
    /// stat(2) of many names at once, following links -> [`Reply::Stats`], one for each, in order.
    StatMany(Vec<Place>),
    /// The names in a directory, sorted by bytes, without `.` and `..` -> [`Reply::Names`]. More than `max` is `TooLarge`.
    List {
        /// The directory.
        dir: Place,
        /// Most names that may be answered.
        max: usize,
    },
    /// The target of a symbolic link -> [`Reply::Bytes`].
    ReadLink(Place),
    /// Opens a file -> [`Reply::File`].
    Open {
        /// Its name.
        place: Place,
        /// For what.
        how: How,
    },
    /// Creates an unnamed temporary file for what does not fit into memory -> [`Reply::File`].
    Scratch,
    /// fstat(2) -> [`Reply::Stat`].
    FStat(FileId),
    /// Up to `len` bytes from `offset`, fewer only at the end of the file -> [`Reply::Bytes`]; `buffer` is used again.
    ReadAt {
        /// The file.
        file: FileId,
        /// Where to begin.
        offset: u64,
        /// How many bytes.
        len: usize,
        /// A buffer to be filled; its content is dropped.
        buffer: Vec<u8>,
    },
    /// The whole of a regular file of at most `max` bytes, and its stat -> [`Reply::Whole`]; larger is `TooLarge`.
    ReadWhole {
        /// Its name.
        place: Place,
        /// Most bytes that may be answered.
        max: u64,
        /// A buffer to be filled; its content is dropped.
        buffer: Vec<u8>,
    },
    /// Writes all of `data` at `offset` -> [`Reply::Bytes`], the buffer, cleared.
    WriteAt {
        /// The file.
        file: FileId,
        /// Where to begin.
        offset: u64,
        /// What to write.
        data: Vec<u8>,
    },
    /// Sets the length of a file -> [`Reply::Unit`].
    Truncate {
        /// The file.
        file: FileId,
        /// Its new length in bytes.
        len: u64,
    },
    /// Returns when data and length are durable (fdatasync) -> [`Reply::Unit`].
    Sync(FileId),
    /// Returns when the names in a directory of the store are durable -> [`Reply::Unit`]. In the target: when all of the file
    /// system that it is on is.
    SyncDir(Place),
    /// Makes a directory and those above it in the store, mode 0700, and makes their names durable -> [`Reply::Unit`].
    /// Symbolic links are followed, but to nothing, and to an empty directory, they are [`Fault::Dangling`]: a file system that
    /// is not mounted leaves that behind.
    MakeDir(Place),
    /// Renames within the store, or within the target, replacing -> [`Reply::Unit`].
    Rename {
        /// Old name.
        from: Place,
        /// New name.
        to: Place,
    },
    /// Removes a name in the store, or one in the target that this task has created -> [`Reply::Unit`].
    Unlink(Place),
    /// Removes an empty directory of the store -> [`Reply::Unit`]. If the name is a symbolic link to it, both are removed.
    RemoveDir(Place),
    /// Creates a file in the target with all of its content -> [`Reply::Bytes`], the buffer, cleared. [`Fault::Exists`] if the
    /// name exists, whatever it is; the directory must exist. A file that could not be written whole is removed again.
    Put {
        /// Its name.
        place: Place,
        /// Its content.
        data: Vec<u8>,
        /// What it is given.
        attributes: Attributes,
    },
    /// Makes a directory in the target and those above it that are missing, all with these attributes -> [`Reply::Unit`], also
    /// if it is there. [`Fault::WrongKind`] if something else is in its place.
    PutDir {
        /// Its name.
        place: Place,
        /// What it is given.
        attributes: Attributes,
    },
    /// Creates a symbolic link in the target -> [`Reply::Unit`]; [`Fault::Exists`] if the name exists.
    PutLink {
        /// Its name.
        place: Place,
        /// What it points to.
        to: Vec<u8>,
        /// Its user and group.
        owner: Option<(u32, u32)>,
    },
    /// Gives a file of the target or of the store one more name (link(2)) -> [`Reply::Unit`]; [`Fault::Exists`] if the name
    /// exists. Not every file system has such names.
    Link {
        /// A name that it has.
        from: Place,
        /// The new one.
        to: Place,
    },
    /// Gives a file of the target that is open for writing its attributes -> [`Reply::Unit`].
    Attribute {
        /// The file.
        file: FileId,
        /// What it is given.
        attributes: Attributes,
    },
    /// Closes a file and drops its locks -> [`Reply::Unit`].
    Close(FileId),
    /// Locks a whole file, never waits: [`Fault::Busy`] if excluded -> [`Reply::Unit`].
    Lock {
        /// The file.
        file: FileId,
        /// Shared or exclusive.
        mode: LockMode,
    },
    /// Drops the lock on a file -> [`Reply::Unit`].
    Unlock(FileId),
    /// Who excludes us from locking this file -> [`Reply::Holder`]; `another process` if it is not known which.
    Holder {
        /// The file.
        file: FileId,
        /// The mode that was wanted.
        mode: LockMode,
    },
    /// The clock that stamps files on the host, and how coarse it is -> [`Reply::Clock`].
    Clock,
    /// Deflates `raw` into one gzip member ([`crate::archive::member::seal`]) -> [`Reply::Sealed`]. May run on another thread.
    Seal {
        /// The member's kind.
        kind: Kind,
        /// The member's flags.
        flags: u8,
        /// The content.
        raw: Vec<u8>,
        /// Compression level, 0 to 12.
        level: u8,
        /// Inflate the member again and compare.
        check: bool,
        /// A buffer for the member; its content is dropped.
        buffer: Vec<u8>,
    },
    /// Inflates one whole gzip member and checks it ([`crate::archive::member::unseal`]) -> [`Reply::Unsealed`].
    /// May run on another thread.
    Unseal {
        /// The member, from its first to its last byte.
        member: Vec<u8>,
        /// A buffer for the content; its content is dropped.
        buffer: Vec<u8>,
    },
    /// Connects to a peer, named as the driver's configuration names it -> [`Reply::Stream`]. That a process was started says
    /// nothing about what it reaches: that shows when something is received.
    Connect(String),
    /// Takes all of `data` to be sent -> [`Reply::Bytes`], the buffer, cleared. Answered when the driver's queue for the stream
    /// has room again.
    Send {
        /// The stream.
        stream: StreamId,
        /// What to send.
        data: Vec<u8>,
    },
    /// Waits for bytes, at least one and at most `max` -> [`Reply::Bytes`]; none at the end of the stream. One at a time.
    Receive {
        /// The stream.
        stream: StreamId,
        /// How many bytes.
        max: usize,
        /// A buffer to be filled; its content is dropped.
        buffer: Vec<u8>,
    },
    /// Encrypts a stream from here on by TLS -> [`Reply::Unit`], once it is agreed and the other side is who it should be. What
    /// was received and not taken was never encrypted, so that there is any is a failure. After [`Fault::Gone`],
    /// [`Op::Complaint`] says what did not please; [`Fault::Denied`] if nothing was said of whom to trust.
    Secure(StreamId),
    /// What the process behind a stream has written to its standard error, as far as it is kept, or why TLS failed ->
    /// [`Reply::Complaint`].
    Complaint(StreamId),
    /// Closes a stream and ends the process behind it -> [`Reply::Unit`]. What is under way on it is answered with
    /// [`Fault::Gone`].
    Shut(StreamId),
}

/// What a driver answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// Done.
    Unit,
    /// A file's properties.
    Stat(Stat),
    /// Properties of many files.
    Stats(Vec<Result<Stat, Fault>>),
    /// Names in a directory.
    Names(Vec<DirEntry>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A file's content and properties.
    Whole(Vec<u8>, Stat),
    /// An opened file.
    File(FileId),
    /// Who holds a lock, such as `process 1234 (imapd)`, if that can be known.
    Holder(Option<String>),
    /// Time now by the clock that stamps files, and the length of its tick.
    Clock(Time, Span),
    /// The member, and the raw buffer, cleared.
    Sealed {
        /// A whole gzip member.
        member: Vec<u8>,
        /// The raw buffer, cleared, for use again.
        raw: Vec<u8>,
    },
    /// The content of a member, and the member's own buffer, cleared.
    Unsealed {
        /// What its header says.
        info: MemberInfo,
        /// The content.
        raw: Vec<u8>,
        /// The member's buffer, cleared, for use again.
        member: Vec<u8>,
    },
    /// A stream that was opened.
    Stream(StreamId),
    /// What a process said about itself, if anything.
    Complaint(Option<String>),
}

/// What a driver tells a machine.
#[derive(Debug)]
pub enum Input {
    /// An operation has ended.
    Done(OpId, Result<Reply, Fault>),
    /// Time has passed.
    Tick,
    /// Somebody wants the procedure to end soon; what it has done so far is to be of use.
    Stop,
}

/// What a machine tells a driver.
#[derive(Debug)]
pub enum Output<T> {
    /// Do this.
    Op(OpId, Op),
    /// Something worth telling a person happened.
    Event(Event),
    /// Nothing to do before an operation ends or, if given, this time comes.
    Wait {
        /// When to tick at the latest.
        until: Option<Time>,
    },
    /// The procedure has ended; the machine is not to be polled again.
    Finished(T),
}

/// Progress, for people; nothing depends on it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// What follows is about this user.
    User {
        /// Who, escaped.
        owner: String,
    },
    /// So much is to be done.
    Expect {
        /// Messages to be handled.
        messages: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// So much more has been done.
    Progress {
        /// Messages handled.
        messages: u64,
        /// Their bytes.
        bytes: u64,
    },
    /// A lock is being waited for.
    Waiting {
        /// Which, escaped.
        object: String,
        /// Who holds it, if known.
        holder: Option<String>,
    },
}

/// Something that is driven by inputs and drained of outputs; see the module's page for the contract.
pub trait Machine {
    /// What the procedure yields.
    type Outcome;

    /// Takes one input. Never blocks, never fails.
    fn handle_input(&mut self, now: Time, input: Input);

    /// The next output.
    #[must_use = "an operation that is not carried out leaves the machine waiting for ever"]
    fn poll_output(&mut self) -> Output<Self::Outcome>;
}

#[derive(Default)]
struct Desk {
    now: Cell<Time>,
    last_id: Cell<u32>,
    ops: RefCell<VecDeque<(OpId, Op)>>,
    events: RefCell<VecDeque<Event>>,
    replies: RefCell<BTreeMap<OpId, Result<Reply, Fault>>>,
    alarms: RefCell<BTreeMap<u32, Time>>,
    stopping: Cell<bool>,
}

/// A procedure's handle on the boundary.
#[derive(Clone, Default)]
pub struct Io(Rc<Desk>);

/// An operation under way; awaiting it gives the reply. Dropping it forgets the reply.
#[must_use = "an operation is only waited for when awaited"]
pub struct Call {
    desk: Rc<Desk>,
    id: OpId,
}

impl Future for Call {
    type Output = Result<Reply, Fault>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        match self.desk.replies.borrow_mut().remove(&self.id) {
            Some(result) => Poll::Ready(result),
            None => Poll::Pending,
        }
    }
}

/// A call, or the time at which it is given up; see [`Io::by`].
struct By<'c> {
    call: &'c mut Call,
    alarm: Alarm,
}

impl Future for By<'_> {
    type Output = Option<Result<Reply, Fault>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(result) = Pin::new(&mut *self.call).poll(context) {
            return Poll::Ready(Some(result));
        }
        Pin::new(&mut self.alarm).poll(context).map(|()| None)
    }
}

/// A wait for a time; see [`Io::sleep_until`].
struct Alarm {
    desk: Rc<Desk>,
    id: u32,
    at: Time,
}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let mut alarms = self.desk.alarms.borrow_mut();
        if self.desk.now.get() >= self.at {
            alarms.remove(&self.id);
            return Poll::Ready(());
        }
        alarms.insert(self.id, self.at);
        Poll::Pending
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.desk.alarms.borrow_mut().remove(&self.id);
    }
}

macro_rules! expect_reply {
    ($call:expr, $pattern:pat => $value:expr) => {
        match $call.await? {
            $pattern => Ok($value),
            _ => Err(Fault::Driver),
        }
    };
}

impl Io {
    /// The time that came with the last input.
    pub fn now(&self) -> Time {
        self.0.now.get()
    }

    /// True once somebody wants the procedure to end soon.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.get()
    }

    fn next_id(&self) -> u32 {
        let id = self.0.last_id.get() + 1;
        self.0.last_id.set(id);
        id
    }

    /// Asks for an operation at once; the reply is had by awaiting the result, which may be done later.
    pub fn start(&self, op: Op) -> Call {
        let id = OpId(self.next_id());
        self.0.ops.borrow_mut().push_back((id, op));
        Call { desk: self.0.clone(), id }
    }

    /// Waits until `at`.
    pub async fn sleep_until(&self, at: Time) {
        Alarm { desk: self.0.clone(), id: self.next_id(), at }.await;
    }

    /// The reply to `call`, or `None` if it has not come by `deadline`; then nobody waits for it any more.
    pub async fn by(&self, mut call: Call, deadline: Time) -> Option<Result<Reply, Fault>> {
        self.within(&mut call, deadline).await
    }

    /// The same for a call that may be waited for again.
    pub async fn within(&self, call: &mut Call, deadline: Time) -> Option<Result<Reply, Fault>> {
        By { call, alarm: Alarm { desk: self.0.clone(), id: self.next_id(), at: deadline } }.await
    }

    /// Tells something to whoever watches.
    pub fn event(&self, event: Event) {
        self.0.events.borrow_mut().push_back(event);
    }

    /// See [`Op::Stat`].
    pub async fn stat(&self, place: &Place) -> Result<Stat, Fault> {
        expect_reply!(self.start(Op::Stat(place.clone())), Reply::Stat(s) => s)
    }

    /// See [`Op::StatMany`].
    pub async fn stat_many(&self, places: Vec<Place>) -> Result<Vec<Result<Stat, Fault>>, Fault> {
        let wanted = places.len();
        let stats = expect_reply!(self.start(Op::StatMany(places)), Reply::Stats(s) => s)?;
        if stats.len() == wanted { Ok(stats) } else { Err(Fault::Driver) }
    }

    /// See [`Op::List`].
    pub async fn list(&self, dir: &Place, max: usize) -> Result<Vec<DirEntry>, Fault> {
        expect_reply!(self.start(Op::List { dir: dir.clone(), max }), Reply::Names(n) => n)
    }

    /// See [`Op::ReadLink`].
    pub async fn read_link(&self, place: &Place) -> Result<Vec<u8>, Fault> {
        expect_reply!(self.start(Op::ReadLink(place.clone())), Reply::Bytes(b) => b)
    }

    /// See [`Op::Open`].
    pub async fn open(&self, place: &Place, how: How) -> Result<FileId, Fault> {
        expect_reply!(self.start(Op::Open { place: place.clone(), how }), Reply::File(f) => f)
    }

    /// See [`Op::Scratch`].
    pub async fn scratch(&self) -> Result<FileId, Fault> {
        expect_reply!(self.start(Op::Scratch), Reply::File(f) => f)
    }

    /// See [`Op::FStat`].
    pub async fn fstat(&self, file: FileId) -> Result<Stat, Fault> {
        expect_reply!(self.start(Op::FStat(file)), Reply::Stat(s) => s)
    }

    /// True if the open file is the one that has the name now: not replaced, not removed, by whoever had a lock on it before.
    pub async fn is_named(&self, file: FileId, place: &Place) -> Result<bool, Fault> {
        let ours = self.fstat(file).await?;
        match self.stat(place).await {
            Ok(named) => Ok(named.ino == ours.ino && named.dev == ours.dev && ours.nlink > 0),
            Err(Fault::NotFound) => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// See [`Op::ReadAt`].
    pub async fn read_at(&self, file: FileId, offset: u64, len: usize, buffer: Vec<u8>) -> Result<Vec<u8>, Fault> {
        expect_reply!(self.start(Op::ReadAt { file, offset, len, buffer }), Reply::Bytes(b) => b)
    }

    /// See [`Op::ReadWhole`].
    pub async fn read_whole(&self, place: &Place, max: u64, buffer: Vec<u8>) -> Result<(Vec<u8>, Stat), Fault> {
        expect_reply!(self.start(Op::ReadWhole { place: place.clone(), max, buffer }), Reply::Whole(b, s) => (b, s))
    }

    /// See [`Op::WriteAt`].
    pub async fn write_at(&self, file: FileId, offset: u64, data: Vec<u8>) -> Result<Vec<u8>, Fault> {
        expect_reply!(self.start(Op::WriteAt { file, offset, data }), Reply::Bytes(b) => b)
    }

    /// See [`Op::Truncate`].
    pub async fn truncate(&self, file: FileId, len: u64) -> Result<(), Fault> {
        expect_reply!(self.start(Op::Truncate { file, len }), Reply::Unit => ())
    }

    /// See [`Op::Sync`].
    pub async fn sync(&self, file: FileId) -> Result<(), Fault> {
        expect_reply!(self.start(Op::Sync(file)), Reply::Unit => ())
    }

    /// See [`Op::SyncDir`].
    pub async fn sync_dir(&self, dir: &Place) -> Result<(), Fault> {
        expect_reply!(self.start(Op::SyncDir(dir.clone())), Reply::Unit => ())
    }

    /// See [`Op::MakeDir`].
    pub async fn make_dir(&self, dir: &Place) -> Result<(), Fault> {
        expect_reply!(self.start(Op::MakeDir(dir.clone())), Reply::Unit => ())
    }

    /// See [`Op::Rename`].
    pub async fn rename(&self, from: &Place, to: &Place) -> Result<(), Fault> {
        expect_reply!(self.start(Op::Rename { from: from.clone(), to: to.clone() }), Reply::Unit => ())
    }

    /// See [`Op::Unlink`].
    pub async fn unlink(&self, place: &Place) -> Result<(), Fault> {
        expect_reply!(self.start(Op::Unlink(place.clone())), Reply::Unit => ())
    }

    /// See [`Op::RemoveDir`].
    pub async fn remove_dir(&self, place: &Place) -> Result<(), Fault> {
        expect_reply!(self.start(Op::RemoveDir(place.clone())), Reply::Unit => ())
    }

    /// See [`Op::Put`].
    pub async fn put(&self, place: &Place, data: Vec<u8>, attributes: Attributes) -> Result<Vec<u8>, Fault> {
        expect_reply!(self.start(Op::Put { place: place.clone(), data, attributes }), Reply::Bytes(b) => b)
    }

    /// See [`Op::PutDir`].
    pub async fn put_dir(&self, place: &Place, attributes: Attributes) -> Result<(), Fault> {
        expect_reply!(self.start(Op::PutDir { place: place.clone(), attributes }), Reply::Unit => ())
    }

    /// See [`Op::PutLink`].
    pub async fn put_link(&self, place: &Place, to: Vec<u8>, owner: Option<(u32, u32)>) -> Result<(), Fault> {
        expect_reply!(self.start(Op::PutLink { place: place.clone(), to, owner }), Reply::Unit => ())
    }

    /// See [`Op::Link`].
    pub async fn link(&self, from: &Place, to: &Place) -> Result<(), Fault> {
        expect_reply!(self.start(Op::Link { from: from.clone(), to: to.clone() }), Reply::Unit => ())
    }

    /// See [`Op::Attribute`].
    pub async fn attribute(&self, file: FileId, attributes: Attributes) -> Result<(), Fault> {
        expect_reply!(self.start(Op::Attribute { file, attributes }), Reply::Unit => ())
    }

    /// See [`Op::Close`].
    pub async fn close(&self, file: FileId) -> Result<(), Fault> {
        expect_reply!(self.start(Op::Close(file)), Reply::Unit => ())
    }

    /// See [`Op::Lock`].
    pub async fn lock(&self, file: FileId, mode: LockMode) -> Result<(), Fault> {
        expect_reply!(self.start(Op::Lock { file, mode }), Reply::Unit => ())
    }

    /// See [`Op::Unlock`].
    pub async fn unlock(&self, file: FileId) -> Result<(), Fault> {
        expect_reply!(self.start(Op::Unlock(file)), Reply::Unit => ())
    }

    /// See [`Op::Holder`].
    pub async fn holder(&self, file: FileId, mode: LockMode) -> Result<Option<String>, Fault> {
        expect_reply!(self.start(Op::Holder { file, mode }), Reply::Holder(h) => h)
    }

    /// See [`Op::Clock`].
    pub async fn clock(&self) -> Result<(Time, Span), Fault> {
        expect_reply!(self.start(Op::Clock), Reply::Clock(t, r) => (t, r))
    }

    /// See [`Op::Connect`].
    pub async fn connect(&self, peer: String) -> Result<StreamId, Fault> {
        expect_reply!(self.start(Op::Connect(peer)), Reply::Stream(s) => s)
    }

    /// See [`Op::Secure`].
    pub async fn secure(&self, stream: StreamId) -> Result<(), Fault> {
        expect_reply!(self.start(Op::Secure(stream)), Reply::Unit => ())
    }

    /// See [`Op::Complaint`].
    pub async fn complaint(&self, stream: StreamId) -> Result<Option<String>, Fault> {
        expect_reply!(self.start(Op::Complaint(stream)), Reply::Complaint(c) => c)
    }

    /// See [`Op::Shut`].
    pub async fn shut(&self, stream: StreamId) -> Result<(), Fault> {
        expect_reply!(self.start(Op::Shut(stream)), Reply::Unit => ())
    }

    /// See [`Op::Unseal`].
    pub async fn unseal(&self, member: Vec<u8>, buffer: Vec<u8>) -> Result<(MemberInfo, Vec<u8>, Vec<u8>), Fault> {
        expect_reply!(self.start(Op::Unseal { member, buffer }), Reply::Unsealed { info, raw, member } => (info, raw, member))
    }
}

/// A procedure as a machine.
pub struct Task<'a, T> {
    io: Io,
    procedure: Option<Pin<Box<dyn Future<Output = T> + 'a>>>,
    outcome: Option<T>,
}

impl<'a, T> Task<'a, T> {
    /// The machine that runs what `make` gives when handed its [`Io`]. Nothing runs before the first poll.
    pub fn new<F>(now: Time, make: impl FnOnce(Io) -> F) -> Task<'a, T>
    where
        F: Future<Output = T> + 'a,
    {
        let io = Io::default();
        io.0.now.set(now);
        let procedure = Some(Box::pin(make(io.clone())) as Pin<Box<dyn Future<Output = T> + 'a>>);
        Task { io, procedure, outcome: None }
    }
}

impl<T> Machine for Task<'_, T> {
    type Outcome = T;

    fn handle_input(&mut self, now: Time, input: Input) {
        let desk = &self.io.0;
        desk.now.set(now);
        match input {
            Input::Done(id, result) => drop(desk.replies.borrow_mut().insert(id, result)),
            Input::Tick => {}
            Input::Stop => desk.stopping.set(true),
        }
    }

    fn poll_output(&mut self) -> Output<T> {
        if let Some(output) = self.pending() {
            return output;
        }
        if let Some(procedure) = &mut self.procedure
            && let Poll::Ready(outcome) = procedure.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            self.procedure = None;
            self.outcome = Some(outcome);
        }
        // What was asked for in the last poll comes out before the end.
        if let Some(output) = self.pending() {
            return output;
        }
        if let Some(outcome) = self.outcome.take() {
            return Output::Finished(outcome);
        }
        // Also for a driver that polls once too often: that is its bug, and it is told to wait, not shown a panic.
        Output::Wait { until: self.io.0.alarms.borrow().values().min().copied() }
    }
}

impl<T> Task<'_, T> {
    fn pending(&self) -> Option<Output<T>> {
        if let Some(event) = self.io.0.events.borrow_mut().pop_front() {
            return Some(Output::Event(event));
        }
        let (id, op) = self.io.0.ops.borrow_mut().pop_front()?;
        Some(Output::Op(id, op))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_asks_waits_and_finishes() {
        let mut task = Task::new(Time(5), |io: Io| async move {
            let first = io.start(Op::Stat(Place::host("/a")));
            let second = io.start(Op::Clock);
            io.sleep_until(Time(9)).await;
            (second.await, first.await, io.now())
        });
        let Output::Op(a, Op::Stat(_)) = task.poll_output() else { panic!("stat first") };
        let Output::Op(b, Op::Clock) = task.poll_output() else { panic!("clock second") };
        assert!(matches!(task.poll_output(), Output::Wait { until: Some(Time(9)) }));
        task.handle_input(Time(6), Input::Done(b, Ok(Reply::Clock(Time(1), Span(2)))));
        task.handle_input(Time(7), Input::Tick);
        assert!(matches!(task.poll_output(), Output::Wait { until: Some(Time(9)) }));
        task.handle_input(Time(9), Input::Tick);
        assert!(matches!(task.poll_output(), Output::Wait { until: None }));
        task.handle_input(Time(11), Input::Done(a, Err(Fault::NotFound)));
        let Output::Finished((clock, stat, now)) = task.poll_output() else { panic!("finished") };
        assert_eq!(clock, Ok(Reply::Clock(Time(1), Span(2))));
        assert_eq!(stat, Err(Fault::NotFound));
        assert_eq!(now, Time(11));
    }

    #[test]
    fn what_nobody_waits_for_comes_out_before_the_end() {
        let mut task = Task::new(Time::ZERO, |io: Io| async move {
            drop(io.start(Op::Close(FileId(7))));
            io.event(Event::Expect { messages: 0, bytes: 0 });
            5
        });
        assert!(matches!(task.poll_output(), Output::Event(_)));
        assert!(matches!(task.poll_output(), Output::Op(_, Op::Close(FileId(7)))));
        assert!(matches!(task.poll_output(), Output::Finished(5)));
        assert!(matches!(task.poll_output(), Output::Wait { until: None }));
    }

    #[test]
    fn an_answer_of_another_kind_is_the_drivers_fault() {
        let mut task = Task::new(Time::ZERO, |io: Io| async move { io.stat(&Place::host("/a")).await });
        let Output::Op(id, _) = task.poll_output() else { panic!("op") };
        task.handle_input(Time::ZERO, Input::Done(id, Ok(Reply::Unit)));
        let Output::Finished(result) = task.poll_output() else { panic!("finished") };
        assert_eq!(result, Err(Fault::Driver));
    }
}
