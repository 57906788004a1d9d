//! Where a [`Place`] is on this host: a directory descriptor and a path below it, without copying the path.
//!
//! The store, and the host's tree if it is not this host's own (`--root`), are opened once, when first used. Under `--root`
//! symbolic links are followed here and not by the kernel, as a chroot would: an absolute one stays in that tree. Nobody may
//! change the links of a mounted disk meanwhile; a server's own tree needs no `--root`.

use crate::fault::fault;
use cylinder_core::error::Fault;
use cylinder_core::io::{Place, Root};
use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};
use std::cell::{OnceCell, RefCell};
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// Links that are followed in one path, as Linux has it.
const LINKS_MAX: u32 = 40;

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
    /// The directory that was resolved last, and what it resolved to: messages of a folder come one after the other.
    last_dir: RefCell<(Vec<u8>, Vec<u8>)>,
}

impl Roots {
    /// `host` is put before every path of [`Root::Host`].
    pub fn new(host: Option<PathBuf>, store: PathBuf) -> Roots {
        Roots { host: host.map(Base::new), store: Base::new(store), last_dir: RefCell::default() }
    }

    /// Where `place` is. [`Fault::Driver`] if its path may not stand in its tree.
    pub fn at<'a>(&'a self, place: &'a Place) -> Result<At<'a>, Fault> {
        let path = place.path.as_slice();
        match place.root {
            Root::Store if leaves_the_store(path) => Err(Fault::Driver),
            Root::Host if !path.starts_with(b"/") => Err(Fault::Driver),
            // That is reached in another way.
            Root::Target => Err(Fault::Driver),
            // No file can have such a name; the kernel would not even be given all of it.
            _ if path.contains(&0) => Err(Fault::NotFound),
            Root::Store => Ok(At { dir: self.store.dir()?, path }),
            Root::Host => match &self.host {
                None => Ok(At { dir: CWD, path }),
                Some(base) => Ok(At { dir: base.dir()?, path: without_root(path) }),
            },
        }
    }

    /// Follows the symbolic links in a host path under another root, the last name's only if `follow_last`. Other places stay.
    pub fn settle(&self, place: &mut Place, follow_last: bool) {
        let Some(base) = self.host.as_ref().filter(|_| place.root == Root::Host) else { return };
        // Whatever is wrong with the root shows when the place is used.
        let (Ok(root), Some(slash)) = (base.dir(), place.path.iter().rposition(|&b| b == b'/')) else { return };
        let (dir, name) = place.path.split_at(slash);
        let mut last = self.last_dir.borrow_mut();
        if last.0 != dir || last.0.is_empty() {
            *last = (dir.to_vec(), follow(root, dir));
        }
        let path = [&last.1, name].concat();
        let is_link = follow_last && readlinkat(root, without_root(&path), Vec::new()).is_ok();
        place.path = if is_link { follow(root, &path) } else { path };
    }

    /// Where `place` is, for an operation that writes: [`Fault::Driver`] if it is not in the store.
    pub fn in_store<'a>(&'a self, place: &'a Place) -> Result<At<'a>, Fault> {
        match place.root {
            Root::Store => self.at(place),
            Root::Host | Root::Target => Err(Fault::Driver),
        }
    }

    /// The store's own path.
    pub fn store_path(&self) -> &std::path::Path {
        &self.store.path
    }
}

/// The path without symbolic links, as seen from inside `root`. What does not exist, or has too many links, stays as it is.
pub fn follow(root: BorrowedFd<'_>, path: &[u8]) -> Vec<u8> {
    let names = |path: &[u8]| -> VecDeque<Vec<u8>> { path.split(|&b| b == b'/').map(<[u8]>::to_vec).collect() };
    let (mut todo, mut done, mut links) = (names(path), Vec::new(), 0);
    while let Some(name) = todo.pop_front() {
        match &name[..] {
            b"" | b"." => continue,
            b".." => {
                done.truncate(done.iter().rposition(|&b| b == b'/').unwrap_or(0));
                continue;
            }
            _ => {}
        }
        let parent = done.len();
        done.push(b'/');
        done.extend_from_slice(&name);
        let Ok(target) = readlinkat(root, without_root(&done), Vec::new()) else { continue };
        links += 1;
        if links > LINKS_MAX {
            return path.to_vec();
        }
        let target = target.into_bytes();
        done.truncate(if target.starts_with(b"/") { 0 } else { parent });
        for name in names(&target).into_iter().rev() {
            todo.push_front(name);
        }
    }
    done
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
    fn links_under_another_root_stay_in_it() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        std::fs::create_dir_all(root.join("data/cyrus/a")).unwrap();
        std::fs::create_dir_all(root.join("var/spool")).unwrap();
        std::fs::write(root.join("data/cyrus/a/1."), "mail").unwrap();
        std::os::unix::fs::symlink("/data/cyrus", root.join("var/spool/imap")).unwrap();
        std::os::unix::fs::symlink("../../../../../../etc/passwd", root.join("data/up")).unwrap();
        std::os::unix::fs::symlink("loop", root.join("data/loop")).unwrap();
        let roots = Roots::new(Some(root.to_path_buf()), root.to_path_buf());
        let settled = |path: &str, follow_last| {
            let mut place = Place::host(path);
            roots.settle(&mut place, follow_last);
            String::from_utf8(place.path).unwrap()
        };
        assert_eq!(settled("/var/spool/imap/a/1.", true), "/data/cyrus/a/1.");
        assert_eq!(settled("/var/spool/imap/a/2.", true), "/data/cyrus/a/2.");
        assert_eq!(settled("/var/spool/imap", true), "/data/cyrus");
        assert_eq!(settled("/var/spool/imap", false), "/var/spool/imap");
        assert_eq!(settled("/data/up", true), "/etc/passwd");
        assert_eq!(settled("/data/loop", true), "/data/loop");
        assert_eq!(settled("/nowhere/x/y", true), "/nowhere/x/y");
    }

    #[test]
    fn under_another_root_host_paths_are_relative() {
        assert_eq!(without_root(b"/var/lib"), b"var/lib");
        assert_eq!(without_root(b"//var"), b"var");
        assert_eq!(without_root(b"/"), b".");
    }
}
