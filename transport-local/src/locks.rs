//! Lock files and the locks on them.
//!
//! Cyrus takes classic POSIX locks (`F_SETLK`) on whole files. They conflict with open file description locks (`F_OFD_SETLK`)
//! in both directions, and the latter belong to one descriptor: they do not vanish when another descriptor of the same file is
//! closed, and they exclude other threads of this process, which matters because users are backed up in parallel. None of the
//! calls here waits.

use crate::fault::{fault, lock_fault};
use crate::files::CAREFULLY;
use crate::roots::At;
use crate::users::{AsOwner, Owner};
use cylinder_core::error::Fault;
use cylinder_core::escape::shown;
use cylinder_core::io::LockMode;
use rustix::fs::{Mode, OFlags, fchmod, fchown, fstat, mkdirat, openat};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Gid, Uid};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
const DIR_MODE: Mode = Mode::RWXU.union(Mode::RGRP).union(Mode::XGRP).union(Mode::ROTH).union(Mode::XOTH);
/// An exclusive lock needs a descriptor that may write; nothing is ever written through it.
const FLAGS: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(CAREFULLY);

/// fcntl(2) with a lock of the whole file.
#[expect(unsafe_code, reason = "rustix has no open file description locks")]
fn ofd(fd: BorrowedFd, command: libc::c_int, kind: libc::c_int) -> Result<libc::flock, Errno> {
    // SAFETY: `flock` is plain old data, for which all zeros are a valid value.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    retry_on_intr(|| {
        // SAFETY: `fd` is open for as long as it is borrowed, and the kernel reads and writes one `flock`, which is ours.
        let result = unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut lock) };
        if result == -1 { Err(last_error()) } else { Ok(()) }
    })?;
    Ok(lock)
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

fn kind_of(mode: LockMode) -> libc::c_int {
    match mode {
        LockMode::Shared => libc::F_RDLCK,
        LockMode::Exclusive => libc::F_WRLCK,
    }
}

/// Locks the whole file, or turns the lock on it into one of another mode. [`Fault::Busy`] if somebody else's lock excludes it.
pub fn lock(fd: BorrowedFd, mode: LockMode) -> Result<(), Fault> {
    match ofd(fd, libc::F_OFD_SETLK, kind_of(mode)) {
        Ok(_) => Ok(()),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(Fault::Busy),
        Err(errno) => Err(lock_fault(fd, errno)),
    }
}

/// Drops the lock.
pub fn unlock(fd: BorrowedFd) -> Result<(), Fault> {
    ofd(fd, libc::F_OFD_SETLK, libc::F_UNLCK).map(drop).map_err(fault)
}

/// Who holds a lock that excludes ours, such as `process 1234 (imapd)`.
///
/// None if nobody does. `another process` if the kernel does not tell which: it knows no process for an open file description
/// lock (another cylinder), and none for one that was taken from another PID namespace.
pub fn holder(fd: BorrowedFd, mode: LockMode) -> Result<Option<String>, Fault> {
    let found = ofd(fd, libc::F_OFD_GETLK, kind_of(mode)).map_err(fault)?;
    if libc::c_int::from(found.l_type) == libc::F_UNLCK {
        return Ok(None);
    }
    if found.l_pid <= 0 {
        return Ok(Some(String::from("another process")));
    }
    let pid = found.l_pid;
    Ok(Some(match std::fs::read(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("process {pid} ({})", shown(name.trim_ascii_end())),
        Err(_) => format!("process {pid}"),
    }))
}

/// Opens a lock file of the store, creating it in a directory that exists. What the superuser creates belongs to `owner`.
pub fn open_in_store(at: At, owner: Option<Owner>) -> Result<OwnedFd, Errno> {
    let Some(owner) = owner else {
        return retry_on_intr(|| openat(at.dir, at.path, FLAGS | OFlags::CREATE, FILE_MODE));
    };
    match retry_on_intr(|| openat(at.dir, at.path, FLAGS, Mode::empty())) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    match retry_on_intr(|| openat(at.dir, at.path, FLAGS | OFlags::CREATE | OFlags::EXCL, FILE_MODE)) {
        Ok(made) => {
            fchown(&made, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
            Ok(made)
        }
        Err(Errno::EXIST) => retry_on_intr(|| openat(at.dir, at.path, FLAGS, Mode::empty())),
        Err(errno) => Err(errno),
    }
}

/// Opens a lock file of the host. If it is missing, it is made, and the directories that it needs, for `owner` or else for whom
/// the nearest directory above it belongs to.
pub fn open_on_host(at: At, owner: Option<Owner>) -> Result<OwnedFd, Fault> {
    match retry_on_intr(|| openat(at.dir, at.path, FLAGS, Mode::empty())) {
        Err(Errno::NOENT) => create_on_host(at, owner),
        other => other.map_err(fault),
    }
}

fn create_on_host(at: At, owner: Option<Owner>) -> Result<OwnedFd, Fault> {
    let (mut dir, rest) = nearest_dir(at)?;
    let owner = match owner {
        Some(owner) => owner,
        None => owner_of_dir(dir.as_fd())?,
    };
    let maker = Maker::new(owner)?;
    let mut names = rest.split(|&b| b == b'/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            return maker.file(dir.as_fd(), name).map_err(fault);
        }
        dir = maker.dir(dir.as_fd(), name).map_err(fault)?;
    }
    // A path of slashes only, which is a directory and would have been opened.
    Err(Fault::WrongKind)
}

/// The nearest directory above a path that exists, and the rest of the path.
fn nearest_dir(at: At<'_>) -> Result<(OwnedFd, &[u8]), Fault> {
    let slashes = (0..at.path.len()).rev().filter(|&n| at.path[n] == b'/');
    for slash in slashes {
        // The slash itself stays, so that the path of the topmost directory is not empty.
        match open_path(At { path: &at.path[..=slash], ..at }, OFlags::empty()) {
            Err(Errno::NOENT) => {}
            other => return other.map(|dir| (dir, &at.path[slash + 1..])).map_err(fault),
        }
    }
    let here = open_path(At { path: b".", ..at }, OFlags::empty()).map_err(fault)?;
    Ok((here, at.path))
}

fn open_path(at: At, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(at.dir, at.path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | flags, Mode::empty())
}

fn owner_of_dir(dir: BorrowedFd) -> Result<Owner, Fault> {
    let stat = fstat(dir).map_err(fault)?;
    Ok(Owner { uid: stat.st_uid, gid: stat.st_gid })
}

/// Makes lock files and directories that belong to the owner of the Cyrus files.
///
/// A Cyrus process may want the same lock at the same moment and must not find a file that it cannot open. So in a directory of
/// the owner's they are created as the owner; elsewhere, where Cyrus itself can create nothing, they are created and then given
/// away.
struct Maker {
    owner: Owner,
    is_superuser: bool,
}

impl Maker {
    /// [`Fault::Denied`] if what we create could not belong to `owner`.
    fn new(owner: Owner) -> Result<Maker, Fault> {
        let us = rustix::process::geteuid();
        if us.is_root() || us.as_raw() == owner.uid {
            return Ok(Maker { owner, is_superuser: us.is_root() });
        }
        Err(Fault::Denied)
    }

    fn as_owner_of(&self, dir: BorrowedFd) -> Result<Option<AsOwner>, Errno> {
        if self.is_superuser && self.owner.uid != 0 && fstat(dir)?.st_uid == self.owner.uid {
            return AsOwner::begin(self.owner).map(Some);
        }
        Ok(None)
    }

    fn dir(&self, dir: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        let as_owner = self.as_owner_of(dir)?;
        match mkdirat(dir, name, DIR_MODE) {
            Ok(()) => {
                // By descriptor: by name, the owner could put a link in its place and have us change something else.
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = openat(dir, name, flags, Mode::empty())?;
                self.finish(made.as_fd(), DIR_MODE, as_owner.is_some())?;
                Ok(made)
            }
            Err(Errno::EXIST) => open_path(At { dir, path: name }, OFlags::NOFOLLOW),
            Err(errno) => Err(errno),
        }
    }

    fn file(&self, dir: BorrowedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        let as_owner = self.as_owner_of(dir)?;
        match retry_on_intr(|| openat(dir, name, FLAGS | OFlags::CREATE | OFlags::EXCL, FILE_MODE)) {
            Ok(made) => {
                self.finish(made.as_fd(), FILE_MODE, as_owner.is_some())?;
                Ok(made)
            }
            Err(Errno::EXIST) => retry_on_intr(|| openat(dir, name, FLAGS, Mode::empty())),
            Err(errno) => Err(errno),
        }
    }

    /// Gives away what was not made as the owner, and sets the mode that Cyrus sets, whatever the umask is.
    fn finish(&self, made: BorrowedFd, mode: Mode, as_owner: bool) -> Result<(), Errno> {
        if self.is_superuser && !as_owner {
            fchown(made, Some(Uid::from_raw(self.owner.uid)), Some(Gid::from_raw(self.owner.gid)))?;
        }
        fchmod(made, mode)
    }
}
