//! Where restored files go: a directory of this host ([`Dir`]), or whatever else takes files by name, such as a tar file.
//!
//! What must not come in: what the files are.

use super::draft::Draft;
use crate::error::{Error, Fault};
use crate::escape::shown;
use crate::io::{Attributes, How, Io, Place};
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::future::Future;

/// Names in a directory that is there already.
const NAMES_MAX: usize = 10_000_000;
/// Bytes that are compared at once.
const PIECE: u64 = 1 << 20;

/// How a file came to be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Put {
    /// It was written.
    Created,
    /// It was there, with the same content.
    Already,
}

/// Takes files. Paths have `/` between their components.
pub trait Shelf {
    /// Makes a directory and those above it.
    fn dir(&mut self, path: &[u8]) -> impl Future<Output = Result<(), Error>>;

    /// Puts a file into a directory that was made. The draft is empty afterwards, or of no more use.
    fn put(&mut self, path: &[u8], draft: &mut Draft<'_>, mtime: Option<Time>) -> impl Future<Output = Result<Put, Error>>;
}

/// True if no other file can be written after this.
pub fn is_fatal(error: &Error) -> bool {
    matches!(
        error,
        Error::World { fault: Fault::NoSpace | Fault::Quota | Fault::ReadOnly | Fault::Gone | Fault::Driver, .. }
            | Error::Stopped
    )
}

/// A directory of the target. Nothing that is there is changed.
pub struct Dir<'a> {
    io: &'a Io,
    /// What directories are given.
    dirs: Attributes,
    /// What files are given, but for their times.
    files: Attributes,
    /// What was in a directory before, by its path.
    before: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    made: BTreeSet<Vec<u8>>,
}

impl<'a> Dir<'a> {
    /// The target, where files and directories get these permissions and this user and group.
    pub fn new(io: &'a Io, file_mode: u32, dir_mode: u32, owner: Option<(u32, u32)>) -> Dir<'a> {
        let files = Attributes { mode: file_mode, owner, mtime: None };
        Dir { io, dirs: Attributes { mode: dir_mode, ..files }, files, before: BTreeMap::new(), made: BTreeSet::new() }
    }

    /// Looks at the target itself, in which files are to be put too.
    pub async fn open(&mut self) -> Result<(), Error> {
        self.look(b"", Place::target(".")).await
    }

    /// Makes a directory that others use too, with other permissions than those of what is restored, unless it is there.
    pub async fn base(&mut self, path: &[u8], mode: u32) -> Result<(), Error> {
        let attributes = Attributes { mode, ..self.dirs };
        self.io.put_dir(&Place::target(path), attributes).await.map_err(world("create", path))
    }

    /// Returns when everything is durable.
    pub async fn sync(&self) -> Result<(), Error> {
        self.io.sync_dir(&Place::target(".")).await.map_err(|fault| Error::world("sync", "the target", fault))
    }

    async fn look(&mut self, path: &[u8], place: Place) -> Result<(), Error> {
        let names = self.io.list(&place, NAMES_MAX).await.map_err(|fault| Error::world("list", shown(path), fault))?;
        let names: BTreeSet<Vec<u8>> = names.into_iter().map(|entry| entry.name).collect();
        if !names.is_empty() {
            self.before.insert(path.to_vec(), names);
        }
        self.made.insert(path.to_vec());
        Ok(())
    }

    /// True if this name was there before this run.
    pub fn was_there(&self, path: &[u8]) -> bool {
        let (dir, name) = split(path);
        self.before.get(dir).is_some_and(|names| names.contains(name))
    }

    /// Gives a file that was put one more name; a copy where that is not possible is the caller's.
    pub async fn link(&mut self, from: &[u8], to: &[u8]) -> Result<(), Fault> {
        self.io.link(&Place::target(from), &Place::target(to)).await
    }

    /// Creates a symbolic link, unless it is there and the same.
    pub async fn put_link(&mut self, path: &[u8], to: &[u8]) -> Result<Put, Error> {
        let place = Place::target(path);
        if self.was_there(path) && self.io.read_link(&place).await.is_ok_and(|found| found == to) {
            return Ok(Put::Already);
        }
        let put = self.io.put_link(&place, to.to_vec(), self.files.owner).await;
        put.map(|()| Put::Created).map_err(|fault| Error::world("create", shown(path), fault))
    }

    /// Compares a file that was there with the draft.
    async fn compare(&self, path: &[u8], draft: &Draft<'_>) -> Result<Put, Error> {
        let other = || Error::Refused(format!("{}: another file of this name is there; it was left as it is", shown(path)));
        let opened = self.io.open(&Place::target(path), How::Read).await;
        let file = opened.map_err(|fault| if fault == Fault::WrongKind { other() } else { world("open", path)(fault) })?;
        let compared = async {
            if self.io.fstat(file).await.map_err(world("stat", path))?.size != draft.len() {
                return Err(other());
            }
            let (mut at, mut ours, mut theirs) = (0, Vec::new(), Vec::new());
            while at < draft.len() {
                ours = draft.read(at, PIECE, ours).await?;
                theirs = self.io.read_at(file, at, ours.len(), theirs).await.map_err(world("read", path))?;
                if ours != theirs || ours.is_empty() {
                    return Err(other());
                }
                at += ours.len() as u64;
            }
            Ok(Put::Already)
        };
        let result = compared.await;
        // It was only read.
        let _ = self.io.close(file).await;
        result
    }

    /// Writes a file that is too long for the memory.
    async fn put_long(&self, path: &[u8], draft: &Draft<'_>, attributes: Attributes) -> Result<(), Error> {
        let place = Place::target(path);
        let file = self.io.open(&place, How::Create).await.map_err(world("create", path))?;
        let written = async {
            let (mut at, mut buffer) = (0, Vec::new());
            while at < draft.len() {
                buffer = draft.read(at, PIECE, buffer).await?;
                let len = buffer.len() as u64;
                if len == 0 {
                    return Err(Error::world("read", String::from("a temporary file"), Fault::Driver));
                }
                buffer = self.io.write_at(file, at, buffer).await.map_err(world("write", path))?;
                at += len;
            }
            self.io.attribute(file, attributes).await.map_err(world("set the owner of", path))
        };
        let result = written.await;
        let closed = self.io.close(file).await.map_err(world("close", path));
        if result.is_err() {
            // It was made here, and half a file is worse than none.
            let _ = self.io.unlink(&place).await;
        }
        result.and(closed)
    }
}

impl Shelf for Dir<'_> {
    async fn dir(&mut self, path: &[u8]) -> Result<(), Error> {
        if self.made.contains(path) {
            return Ok(());
        }
        let place = Place::target(path);
        self.io.put_dir(&place, self.dirs).await.map_err(|fault| match fault {
            Fault::WrongKind => Error::Refused(format!("{}: a link or a file is in the place of a directory", shown(path))),
            fault => world("create", path)(fault),
        })?;
        self.look(path, place).await
    }

    async fn put(&mut self, path: &[u8], draft: &mut Draft<'_>, mtime: Option<Time>) -> Result<Put, Error> {
        if self.was_there(path) {
            return self.compare(path, draft).await;
        }
        let attributes = Attributes { mtime, ..self.files };
        match draft.take_held() {
            Some(data) => {
                let buffer = self.io.put(&Place::target(path), data, attributes).await.map_err(world("create", path))?;
                draft.recycle(buffer);
            }
            None => self.put_long(path, draft, attributes).await?,
        }
        Ok(Put::Created)
    }
}

fn world(doing: &'static str, path: &[u8]) -> impl Fn(Fault) -> Error + use<> {
    let path = shown(path);
    move |fault| Error::world(doing, path.clone(), fault)
}

/// Directory and name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}
