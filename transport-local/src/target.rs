//! The directory that is restored into.
//!
//! Names in it come from mailboxes, and somebody else may be able to write there. So each directory on the way is opened from
//! the one above it without following links, a file is only ever created, and whatever is done to it is done to its descriptor.
//! Only on the way to a directory that the configuration trusts (a partition that imapd.conf names) links are followed, and
//! these as a chroot into the target would.
//!
//! What must not come in: which names are asked for.

use crate::fault::fault;
use crate::files::{CAREFULLY, OpenFile, write};
use crate::roots::{At, follow};
use cylinder_core::error::Fault;
use cylinder_core::io::{Attributes, Place, Root};
use cylinder_core::time::Time;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, chownat, fchmod, fchown, futimens, mkdirat, openat, unlinkat,
};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Gid, Uid};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

/// Directories that are kept open: messages of some folders come in turn.
const DIRS_MAX: usize = 64;
const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(CAREFULLY);

/// The target.
pub struct Target {
    path: Option<PathBuf>,
    trusted: Vec<Vec<u8>>,
    root: Option<Arc<OwnedFd>>,
    dirs: BTreeMap<Vec<u8>, Arc<OwnedFd>>,
}

/// A directory of the target and a name in it.
pub struct Spot {
    dir: Arc<OwnedFd>,
    name: Vec<u8>,
}

impl Spot {
    /// For operations on one name.
    pub fn at(&self) -> At<'_> {
        At { dir: self.dir.as_fd(), path: &self.name }
    }
}

impl Target {
    /// The target in this directory, which is opened when it is first used; `None`: there is no target.
    pub fn new(path: Option<PathBuf>, trusted: Vec<Vec<u8>>) -> Target {
        Target { path, trusted, root: None, dirs: BTreeMap::new() }
    }

    /// Where `place` is.
    pub fn spot(&mut self, place: &Place) -> Result<Spot, Fault> {
        let path = checked(place)?;
        let (dir, name) = match path.iter().rposition(|&b| b == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&b""[..], path),
        };
        Ok(Spot { dir: self.dir(dir, None)?, name: name.to_vec() })
    }

    /// A directory itself, under the name `.`.
    pub fn spot_of_dir(&mut self, place: &Place) -> Result<Spot, Fault> {
        let path = if place.path == b"." { &[][..] } else { checked(place)? };
        Ok(Spot { dir: self.dir(path, None)?, name: b".".to_vec() })
    }

    /// Makes a directory and those above it.
    pub fn put_dir(&mut self, place: &Place, attributes: &Attributes) -> Result<(), Fault> {
        let path = checked(place)?;
        self.dir(path, Some(attributes)).map(drop)
    }

    /// Creates a file with its content.
    pub fn put(&mut self, place: &Place, data: &[u8], attributes: &Attributes) -> Result<(), Fault> {
        let spot = self.spot(place)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | CAREFULLY;
        let mode = Mode::from_raw_mode(attributes.mode) & (Mode::RUSR | Mode::WUSR);
        let fd = retry_on_intr(|| openat(&*spot.dir, &spot.name, flags, mode)).map_err(fault)?;
        let done = write(fd.as_fd(), 0, data).and_then(|()| give(fd.as_fd(), mode, attributes));
        if done.is_err() {
            // It was made here, a moment ago.
            let _ = unlinkat(&*spot.dir, &spot.name, AtFlags::empty());
        }
        done
    }

    /// Creates a symbolic link.
    pub fn put_link(&mut self, place: &Place, to: &[u8], owner: Option<(u32, u32)>) -> Result<(), Fault> {
        let spot = self.spot(place)?;
        rustix::fs::symlinkat(to, &*spot.dir, &spot.name).map_err(fault)?;
        if let Some((uid, gid)) = owner {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            chownat(&*spot.dir, &spot.name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fault)?;
        }
        Ok(())
    }

    /// Gives a file one more name.
    pub fn link(&mut self, from: &Place, to: &Place) -> Result<(), Fault> {
        let (from, to) = (self.spot(from)?, self.spot(to)?);
        rustix::fs::linkat(&*from.dir, &from.name, &*to.dir, &to.name, AtFlags::empty()).map_err(fault)
    }

    fn root(&mut self) -> Result<Arc<OwnedFd>, Fault> {
        if let Some(root) = &self.root {
            return Ok(root.clone());
        }
        let path = self.path.as_ref().ok_or(Fault::Driver)?;
        // The target's own path is the administrator's.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | CAREFULLY;
        let root = Arc::new(openat(CWD, path, flags, Mode::empty()).map_err(fault)?);
        self.root = Some(root.clone());
        Ok(root)
    }

    /// Opens a directory; what is missing is made if it is told how.
    fn dir(&mut self, path: &[u8], make: Option<&Attributes>) -> Result<Arc<OwnedFd>, Fault> {
        if let Some(dir) = self.dirs.get(path) {
            return Ok(dir.clone());
        }
        let mut dir = self.root()?;
        let settled = self.settled(dir.as_fd(), path);
        for name in settled.split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            dir = Arc::new(step(dir.as_fd(), name, make)?);
        }
        if self.dirs.len() >= DIRS_MAX {
            self.dirs.clear();
        }
        self.dirs.insert(path.to_vec(), dir.clone());
        Ok(dir)
    }

    /// The path with the links on the way to the trusted directory that it is in replaced by what they point to.
    fn settled(&self, root: BorrowedFd<'_>, path: &[u8]) -> Vec<u8> {
        let is_in = |dir: &&Vec<u8>| path.strip_prefix(&dir[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        let Some(dir) = self.trusted.iter().filter(is_in).max_by_key(|dir| dir.len()) else { return path.to_vec() };
        let mut settled = follow(root, &[b"/", &dir[..]].concat());
        settled.extend_from_slice(&path[dir.len()..]);
        settled
    }
}

/// Opens the directory `name`, or makes it.
fn step(above: BorrowedFd<'_>, name: &[u8], make: Option<&Attributes>) -> Result<OwnedFd, Fault> {
    let open = || match retry_on_intr(|| openat(above, name, DIR_FLAGS, Mode::empty())) {
        // A link, or a file.
        Err(Errno::NOTDIR | Errno::LOOP) => Err(Fault::WrongKind),
        other => other.map_err(fault),
    };
    let attributes = match (open(), make) {
        (Err(Fault::NotFound), Some(attributes)) => attributes,
        (other, _) => return other,
    };
    match mkdirat(above, name, Mode::RWXU) {
        Ok(()) => {}
        Err(Errno::EXIST) => return open(),
        Err(errno) => return Err(fault(errno)),
    }
    let dir = open()?;
    give(dir.as_fd(), Mode::RWXU, &Attributes { mtime: None, ..*attributes })?;
    Ok(dir)
}

/// Gives owner, permissions and time to what was made with `mode`.
fn give(fd: BorrowedFd<'_>, mode: Mode, attributes: &Attributes) -> Result<(), Fault> {
    if let Some((uid, gid)) = attributes.owner {
        fchown(fd, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(fault)?;
    }
    let wanted = Mode::from_raw_mode(attributes.mode);
    // The umask may have taken some of it, and a change of the owner too; but hardly of what the owner may do.
    if wanted != mode {
        fchmod(fd, wanted).map_err(fault)?;
    }
    if let Some(mtime) = attributes.mtime {
        let stamp = stamp(mtime);
        futimens(fd, &Timestamps { last_access: stamp, last_modification: stamp }).map_err(fault)?;
    }
    Ok(())
}

/// Gives a file that was created in the target and is open its attributes.
pub fn attribute(file: &OpenFile, attributes: &Attributes) -> Result<(), Fault> {
    if file.root != Root::Target || !file.writable {
        return Err(Fault::Driver);
    }
    give(file.fd.as_fd(), Mode::empty(), attributes)
}

fn stamp(time: Time) -> Timespec {
    Timespec { tv_sec: time.secs(), tv_nsec: time.subsec_ns().into() }
}

/// The path of a place in the target. [`Fault::Driver`] if it is none.
fn checked(place: &Place) -> Result<&[u8], Fault> {
    let path = &place.path[..];
    let is_name = |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&0);
    let is_good = place.root == Root::Target && path.split(|&b| b == b'/').all(is_name);
    if is_good { Ok(path) } else { Err(Fault::Driver) }
}
