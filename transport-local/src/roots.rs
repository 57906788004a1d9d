//! Where a [`Place`] is on this host: a directory descriptor and a path below it, without copying the path.
//!
//! The store, and the host's tree if it is not this host's own (`--root`), are opened once, when first used. Under `--root` an absolute
//! symbolic link still leads to this host's own tree, as it does for every program outside of a chroot.

use crate::fault::fault;
use cylinder_core::error::Fault;
use cylinder_core::io::{Place, Root};
use rustix::fs::{CWD, Mode, OFlags, openat};
use std::cell::OnceCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// A path and the directory that it starts from.
#[derive(Clone, Copy)]
pub struct At<'a> {
    /// Where the path starts.
    pub dir: BorrowedFd<'a>,
    /// The path; relative, unless `dir` is the working directory.
    pub path: &'a [u8],
}

struct Base {
    path: PathBuf,
    dir: OnceCell<OwnedFd>,
}

impl Base {
    fn new(path: PathBuf) -> Base {
        Base { path, dir: OnceCell::new() }
    }

    fn dir(&self) -> Result<BorrowedFd<'_>, Fault> {
        if let Some(dir) = self.dir.get() {
            return Ok(dir.as_fd());
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = openat(CWD, &self.path, flags, Mode::empty()).map_err(fault)?;
        Ok(self.dir.get_or_init(|| dir).as_fd())
    }
}

/// The two trees.
pub struct Roots {
    host: Option<Base>,
    store: Base,
}

impl Roots {
    /// `host` is put before every path of [`Root::Host`].
    pub fn new(host: Option<PathBuf>, store: PathBuf) -> Roots {
        Roots { host: host.map(Base::new), store: Base::new(store) }
    }

    /// Where `place` is. [`Fault::Driver`] if its path may not stand in its tree.
    pub fn at<'a>(&'a self, place: &'a Place) -> Result<At<'a>, Fault> {
        let path = place.path.as_slice();
        match place.root {
            Root::Store if leaves_the_store(path) => Err(Fault::Driver),
            Root::Host if !path.starts_with(b"/") => Err(Fault::Driver),
            // No file can have such a name; the kernel would not even be given all of it.
            _ if path.contains(&0) => Err(Fault::NotFound),
            Root::Store => Ok(At { dir: self.store.dir()?, path }),
            Root::Host => match &self.host {
                None => Ok(At { dir: CWD, path }),
                Some(base) => Ok(At { dir: base.dir()?, path: without_root(path) }),
            },
        }
    }

    /// Where `place` is, for an operation that writes: [`Fault::Driver`] if it is not in the store.
    pub fn in_store<'a>(&'a self, place: &'a Place) -> Result<At<'a>, Fault> {
        match place.root {
            Root::Store => self.at(place),
            Root::Host => Err(Fault::Driver),
        }
    }

    /// The store's own path.
    pub fn store_path(&self) -> &std::path::Path {
        &self.store.path
    }
}

fn leaves_the_store(path: &[u8]) -> bool {
    path.is_empty() || path.starts_with(b"/") || path.split(|&b| b == b'/').any(|name| name == b"..")
}

fn without_root(path: &[u8]) -> &[u8] {
    match path.iter().position(|&b| b != b'/') {
        Some(start) => &path[start..],
        None => b".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_could_leave_the_store_is_refused() {
        for path in ["", "/", "/etc/passwd", "..", "../x", "a/../b", "a/..", "./.."] {
            assert!(leaves_the_store(path.as_bytes()), "{path}");
        }
        for path in [".", "a", "a/b", "..a", "a../b", "a/...", "./a"] {
            assert!(!leaves_the_store(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn under_another_root_host_paths_are_relative() {
        assert_eq!(without_root(b"/var/lib"), b"var/lib");
        assert_eq!(without_root(b"//var"), b"var");
        assert_eq!(without_root(b"/"), b".");
    }
}
