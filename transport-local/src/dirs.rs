//! Directories: their names, making them, and making names durable.

use crate::fault::fault;
use crate::files::{kind_of, open_to_read, stat_at};
use crate::roots::At;
use cylinder_core::error::Fault;
use cylinder_core::io::{DirEntry, FileKind};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fsync, mkdirat, statat};
use rustix::io::{Errno, retry_on_intr};
use std::os::fd::{AsFd, OwnedFd};

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
    retry_on_intr(|| fsync(dir.as_fd())).map_err(fault)
}

/// Makes a directory and those above it, mode 0700, each durable in the one above it. One system call if it is there already.
pub fn make(at: At) -> Result<(), Fault> {
    match stat_at(at) {
        Ok(stat) if stat.kind == FileKind::Directory => return Ok(()),
        Ok(_) => return Err(Fault::WrongKind),
        Err(Fault::NotFound) => {}
        Err(fault) => return Err(fault),
    }
    let ends = (1..=at.path.len()).filter(|&n| n == at.path.len() || at.path[n] == b'/');
    let mut above: &[u8] = b".";
    for end in ends {
        let path = &at.path[..end];
        match mkdirat(at.dir, path, Mode::RWXU) {
            Ok(()) => sync(At { dir: at.dir, path: above })?,
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(fault(errno)),
        }
        above = path;
    }
    // What was there already may be a file.
    if stat_at(at)?.kind == FileKind::Directory { Ok(()) } else { Err(Fault::WrongKind) }
}
