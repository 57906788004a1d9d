//! The table of open files, opening, and reading and writing by offset.
//!
//! Every file that gets into the table is a regular file: it is opened without blocking (a pipe in place of a message would
//! wait for a writer), then looked at. What must not come in: which files are opened, and why.

use crate::fault::{fault, io_fault, owner_fault};
use crate::locks;
use crate::roots::At;
use crate::users::Owner;
use cylinder_core::error::Fault;
use cylinder_core::io::{FileId, FileKind, LockMode, Place, Root, Stat};
use cylinder_core::time::Time;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fchmod, fchown, fstat, openat, statat, unlinkat};
use rustix::io::{Errno, pread, pwrite, retry_on_intr};
use rustix::process::{Gid, Uid};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Flags of every open: a name may turn out to be a pipe, a terminal or a device.
pub const CAREFULLY: OFlags = OFlags::CLOEXEC.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
/// Bytes by which a buffer grows ahead of what was read, so that a wrong length in a file does not allocate what is not there.
const STEP: usize = 1 << 20;

/// An open file and what may be done with it.
pub struct OpenFile {
    /// Its descriptor.
    pub fd: OwnedFd,
    /// False for files that were opened to be read or locked.
    pub writable: bool,
    /// The tree it is in; scratch files count as the store's.
    pub root: Root,
    /// It may be locked.
    pub locked: bool,
}

impl OpenFile {
    /// Lets the lock go before it is closed: a child that another thread has just forked has the descriptor too, until it
    /// executes its program, and would keep the lock for that moment.
    fn unlock(&self) {
        if self.locked {
            let _ = locks::unlock(self.fd.as_fd());
        }
    }
}

/// The open files of a driver. Numbers are not used again before all others were.
#[derive(Default)]
pub struct Table {
    files: BTreeMap<FileId, OpenFile>,
    last: u32,
}

impl Table {
    /// Takes in an open file.
    pub fn insert(&mut self, file: OpenFile) -> FileId {
        loop {
            self.last = self.last.wrapping_add(1);
            if !self.files.contains_key(&FileId(self.last)) {
                break;
            }
        }
        self.files.insert(FileId(self.last), file);
        FileId(self.last)
    }

    /// The file of that number; `EBADF` if there is none.
    pub fn get(&self, id: FileId) -> Result<&OpenFile, Fault> {
        self.files.get(&id).ok_or_else(unknown)
    }

    /// The file of that number for an operation that changes it.
    pub fn get_writable(&self, id: FileId) -> Result<&OpenFile, Fault> {
        self.get(id).and_then(|file| if file.writable { Ok(file) } else { Err(Fault::Driver) })
    }

    /// Locks a file; see [`locks::lock`].
    pub fn lock(&mut self, id: FileId, mode: LockMode) -> Result<(), Fault> {
        let file = self.files.get_mut(&id).ok_or_else(unknown)?;
        locks::lock(file.fd.as_fd(), mode)?;
        file.locked = true;
        Ok(())
    }

    /// Closes a file. Its locks go with it.
    pub fn close(&mut self, id: FileId) -> Result<(), Fault> {
        self.files.remove(&id).ok_or_else(unknown)?.unlock();
        Ok(())
    }

    /// Closes all files.
    pub fn clear(&mut self) {
        self.files.values().for_each(OpenFile::unlock);
        self.files.clear();
    }
}

/// What a number is told for which no file is open.
fn unknown() -> Fault {
    Fault::Os(Errno::BADF.raw_os_error())
}

/// stat(2), following links.
pub fn stat_at(at: At) -> Result<Stat, Fault> {
    statat(at.dir, at.path, AtFlags::empty()).map(stat_of).map_err(fault)
}

/// lstat(2).
pub fn lstat_at(at: At) -> Result<Stat, Fault> {
    statat(at.dir, at.path, AtFlags::SYMLINK_NOFOLLOW).map(stat_of).map_err(fault)
}

/// fstat(2).
pub fn stat_fd(fd: BorrowedFd) -> Result<Stat, Fault> {
    fstat(fd).map(stat_of).map_err(fault)
}

fn time(secs: i64, nanos: i64) -> Time {
    Time(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The kernel's stat in the core's terms; rustix uses fields of other widths on other processors.
fn stat_of(s: rustix::fs::Stat) -> Stat {
    Stat {
        kind: kind_of(FileType::from_raw_mode(s.st_mode)),
        dev: s.st_dev,
        ino: s.st_ino,
        size: s.st_size as u64,
        mtime: time(s.st_mtime, s.st_mtime_nsec as i64),
        ctime: time(s.st_ctime, s.st_ctime_nsec as i64),
        nlink: s.st_nlink as u32,
        mode: s.st_mode & 0o7777,
        uid: s.st_uid,
        gid: s.st_gid,
    }
}

/// The kind of file in the core's terms.
pub fn kind_of(kind: FileType) -> FileKind {
    match kind {
        FileType::RegularFile => FileKind::Regular,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Link,
        _ => FileKind::Other,
    }
}

/// The file's stat, if it is a regular file.
pub fn check_regular(fd: BorrowedFd) -> Result<Stat, Fault> {
    let stat = stat_fd(fd)?;
    if stat.kind == FileKind::Regular { Ok(stat) } else { Err(Fault::WrongKind) }
}

/// Opens for reading, without changing the time of the last access where that is allowed: a backup leaves no trace.
pub fn open_to_read(at: At, flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | CAREFULLY | flags;
    let open = |flags| retry_on_intr(|| openat(at.dir, at.path, flags, Mode::empty()));
    // Only the owner and the superuser may ask for it.
    open(flags | OFlags::NOATIME).or_else(|errno| if errno == Errno::PERM { open(flags) } else { Err(errno) })
}

/// Opens a regular file for reading. Outside of the host's tree a symbolic link as the last component is refused.
pub fn open_regular(at: At, place: &Place) -> Result<(OwnedFd, Stat), Fault> {
    let flags = if place.root == Root::Host { OFlags::empty() } else { OFlags::NOFOLLOW };
    let fd = open_to_read(at, flags).map_err(fault)?;
    let stat = check_regular(fd.as_fd())?;
    Ok((fd, stat))
}

/// What a file that is created in the store is given.
#[derive(Clone, Copy)]
pub struct Model {
    /// Its user and group.
    pub owner: Owner,
    /// Its permission bits.
    pub mode: u32,
}

/// Creates a file of the store, which must not exist, like the model. If it cannot be, nothing is created.
pub fn create_like(at: At, model: Option<Model>) -> Result<OwnedFd, Fault> {
    let fd = open_to_write(at, true)?;
    let Some(Model { owner, mode }) = model else { return Ok(fd) };
    let given = stat_fd(fd.as_fd()).and_then(|stat| {
        if (stat.uid, stat.gid) != (owner.uid, owner.gid) {
            fchown(&fd, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid))).map_err(owner_fault)?;
        }
        if stat.mode == mode { Ok(()) } else { fchmod(&fd, Mode::from_raw_mode(mode)).map_err(owner_fault) }
    });
    match given {
        Ok(()) => Ok(fd),
        Err(fault) => {
            // It was made here, a moment ago.
            let _ = unlinkat(at.dir, at.path, AtFlags::empty());
            Err(fault)
        }
    }
}

/// Opens a file of the store for reading and writing; with `create` it must not exist, without it must.
pub fn open_to_write(at: At, create: bool) -> Result<OwnedFd, Fault> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | CAREFULLY;
    let flags = if create { flags | OFlags::CREATE | OFlags::EXCL } else { flags };
    let fd = retry_on_intr(|| openat(at.dir, at.path, flags, Mode::RUSR | Mode::WUSR)).map_err(fault)?;
    check_regular(fd.as_fd())?;
    Ok(fd)
}

/// An unnamed temporary file of mode 0600 in `store`, or where the system keeps such files if the store does not take it.
pub fn scratch(store: &Path) -> Result<OwnedFd, Fault> {
    let file = tempfile::tempfile_in(store).or_else(|_| tempfile::tempfile()).map_err(|e| io_fault(&e))?;
    fchmod(&file, Mode::RUSR | Mode::WUSR).map_err(fault)?;
    Ok(file.into())
}

/// Reads into `buffer`, whose content is dropped, up to `len` bytes from `offset`; fewer only at the end of the file.
pub fn read(fd: BorrowedFd, offset: u64, len: usize, buffer: &mut Vec<u8>) -> Result<(), Fault> {
    buffer.clear();
    read_on(fd, offset, len, buffer)
}

/// Reads on behind what `buffer` holds of the bytes from `offset`, until it holds `len` or the file ends.
fn read_on(fd: BorrowedFd, offset: u64, len: usize, buffer: &mut Vec<u8>) -> Result<(), Fault> {
    while buffer.len() < len {
        let have = buffer.len();
        buffer.resize(len.min(have + STEP), 0);
        let got = retry_on_intr(|| pread(fd, &mut buffer[have..], offset.saturating_add(have as u64)));
        buffer.truncate(have + got.unwrap_or(0));
        if got.map_err(fault)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Reads a whole file whose stat was just taken, even if it has grown since, but not more than `max` bytes.
pub fn read_whole(fd: BorrowedFd, stat: &Stat, max: u64, buffer: &mut Vec<u8>) -> Result<(), Fault> {
    if stat.size > max {
        return Err(Fault::TooLarge);
    }
    let limit = |size: u64| usize::try_from(size).map_or(usize::MAX, |size| size.saturating_add(1));
    // One byte more than there should be, so that growth is seen.
    read(fd, 0, limit(stat.size), buffer)?;
    if buffer.len() as u64 > stat.size {
        read_on(fd, 0, limit(max), buffer)?;
    }
    if buffer.len() as u64 > max { Err(Fault::TooLarge) } else { Ok(()) }
}

/// Writes all of `data` at `offset`.
pub fn write(fd: BorrowedFd, offset: u64, data: &[u8]) -> Result<(), Fault> {
    let mut done = 0;
    while done < data.len() {
        let at = offset.saturating_add(done as u64);
        match retry_on_intr(|| pwrite(fd, &data[done..], at)).map_err(fault)? {
            0 => return Err(Fault::Os(Errno::IO.raw_os_error())),
            n => done += n,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_gone_with_its_file_though_a_forked_child_still_has_the_descriptor() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = || {
            let file = std::fs::File::create(dir.path().join("lock")).expect("a file");
            OpenFile { fd: file.into(), writable: false, root: Root::Store, locked: false }
        };
        let (mut table, first) = (Table::default(), open());
        let of_child = first.fd.try_clone().expect("a copy");
        let (first, second) = (table.insert(first), table.insert(open()));
        table.lock(first, LockMode::Exclusive).expect("a lock");
        assert_eq!(table.lock(second, LockMode::Exclusive), Err(Fault::Busy));
        table.close(first).expect("an open file");
        table.lock(second, LockMode::Exclusive).expect("a lock that nobody has any more");
        drop(of_child);
    }
}
