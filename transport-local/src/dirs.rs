//! Directories: their names, making them, and making names durable.

use crate::fault::{dir_sync_fault, fault, io_fault, owner_fault};
use crate::files::{kind_of, lstat_at, open_to_read, stat_at};
use crate::roots::At;
use crate::users::Owner;
use cylinder_core::error::Fault;
use cylinder_core::io::{DirEntry, FileKind};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, chownat, fsync, mkdirat, readlinkat, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use rustix::process::{Gid, Uid};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

fn open_dir(at: At) -> Result<OwnedFd, Fault> {
    open_to_read(at, OFlags::DIRECTORY).map_err(|errno| match errno {
        // The kernel says the same of a path that leads through a file and of one that ends in one.
        Errno::NOTDIR if stat_at(at).is_ok() => Fault::WrongKind,
        errno => fault(errno),
    })
}

/// The names in a directory, sorted; [`Fault::TooLarge`] if there are more than `max`.
pub fn list(at: At, max: usize) -> Result<Vec<DirEntry>, Fault> {
    let dir = Dir::new(open_dir(at)?).map_err(fault)?;
    let mut names = Vec::new();
    for entry in dir {
        let entry = entry.map_err(fault)?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        if names.len() == max {
            return Err(Fault::TooLarge);
        }
        names.push((name.to_vec(), entry.file_type()));
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    with_kinds(at, names)
}

/// Asks for the kinds that the directory itself did not tell.
fn with_kinds(at: At, names: Vec<(Vec<u8>, FileType)>) -> Result<Vec<DirEntry>, Fault> {
    let mut entries = Vec::with_capacity(names.len());
    for (name, kind) in names {
        let kind = match kind {
            FileType::Unknown => {
                let path = [at.path, b"/", &name].concat();
                match statat(at.dir, &path, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(fault(errno)),
                }
            }
            kind => kind,
        };
        entries.push(DirEntry { name, kind: kind_of(kind) });
    }
    Ok(entries)
}

/// Returns when the names in a directory are durable.
pub fn sync(at: At) -> Result<(), Fault> {
    let dir = open_dir(at)?;
    retry_on_intr(|| fsync(dir.as_fd())).map_err(|errno| dir_sync_fault(dir.as_fd(), errno))
}

/// True if a name on the way to `at`, or that itself, is a symbolic link to nothing or to an empty directory, which is what
/// remains where a file system is not mounted.
pub fn is_dangling(at: At) -> bool {
    let leads_nowhere = |at: At| match list(at, 1) {
        Ok(names) => names.is_empty(),
        Err(fault) => fault == Fault::NotFound,
    };
    let mut links = ends(at.path).map(|end| At { path: &at.path[..end], ..at });
    links.any(|at| readlinkat(at.dir, at.path, Vec::new()).is_ok() && leads_nowhere(at))
}

/// Where each name of a path ends.
fn ends(path: &[u8]) -> impl Iterator<Item = usize> {
    (1..=path.len()).filter(|&n| n == path.len() || path[n] == b'/')
}

/// Removes an empty directory, and the link that leads to it if the name is one. `path` is that of `at` for the whole process.
pub fn remove(at: At, path: &Path) -> Result<(), Fault> {
    match unlinkat(at.dir, at.path, AtFlags::REMOVEDIR) {
        Err(Errno::NOTDIR) if lstat_at(at).is_ok_and(|stat| stat.kind == FileKind::Link) => {
            let target = std::fs::canonicalize(path).map_err(|error| io_fault(&error))?;
            std::fs::remove_dir(target).map_err(|error| io_fault(&error))?;
            unlinkat(at.dir, at.path, AtFlags::empty()).map_err(fault)
        }
        other => other.map_err(fault),
    }
}

/// Makes a directory and those above it, mode 0700, each durable in the one above it; they are given to `owner`. One system
/// call if it is there already. [`Fault::Dangling`] if a link on the way leads to nothing or to an empty directory.
pub fn make(at: At, owner: Option<Owner>) -> Result<(), Fault> {
    match lstat_at(at) {
        Ok(stat) if stat.kind == FileKind::Directory => return Ok(()),
        Ok(stat) if stat.kind == FileKind::Link => {}
        Ok(_) => return Err(Fault::WrongKind),
        Err(Fault::NotFound) => {}
        Err(fault) => return Err(fault),
    }
    if is_dangling(at) {
        return Err(Fault::Dangling);
    }
    let mut above: &[u8] = b".";
    for end in ends(at.path) {
        let path = &at.path[..end];
        match mkdirat(at.dir, path, Mode::RWXU) {
            Ok(()) => {
                if let Some(Owner { uid, gid }) = owner {
                    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
                    chownat(at.dir, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(owner_fault)?;
                }
                sync(At { dir: at.dir, path: above })?;
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(fault(errno)),
        }
        above = path;
    }
    // What was there already may be a file.
    if stat_at(at)?.kind == FileKind::Directory { Ok(()) } else { Err(Fault::WrongKind) }
}
