//! One match arm for each operation, a few system calls behind each.
//!
//! What must not come in: deciding anything. An operation is done as its documentation in the core says, or a fault is
//! answered.

use crate::clock;
use crate::dirs;
use crate::fault::fault;
use crate::files::{self, Model, OpenFile, Table};
use crate::locks;
use crate::roots::Roots;
use crate::target::{self, Target};
use crate::users::{self, Owner};
use crate::workers;
use cylinder_core::error::Fault;
use cylinder_core::io::{FileId, FileKind, How, Op, Place, Reply, Root};
use cylinder_core::time::Span;
use rustix::fs::{AtFlags, fdatasync, ftruncate, linkat, readlinkat, renameat, unlinkat};
use rustix::io::{Errno, retry_on_intr};
use std::cell::OnceCell;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

/// What operations are done with.
pub struct Exec {
    roots: Roots,
    target: Target,
    owner: Option<Owner>,
    files: Table,
    tools: workers::Tools,
    /// The length of the stamping clock's step, once it was asked for.
    tick: Option<Span>,
    /// Whom the store belongs to, once that was asked for.
    store_owner: OnceCell<Option<Owner>>,
}

impl Exec {
    /// Nothing is opened yet.
    pub fn new(roots: Roots, target: Target, owner: Option<Owner>) -> Exec {
        Exec {
            roots,
            target,
            owner,
            files: Table::default(),
            tools: workers::Tools::default(),
            tick: None,
            store_owner: OnceCell::new(),
        }
    }

    /// Closes all files.
    pub fn close_all(&mut self) {
        self.files.clear();
    }

    /// Does one operation, on the calling thread.
    pub fn run(&mut self, op: Op) -> Result<Reply, Fault> {
        let asked = in_store(&op).cloned();
        match (self.perform(op), asked) {
            // That there is no such thing is something else than that its disk is not mounted.
            (Err(Fault::NotFound), Some(place)) if self.roots.at(&place).is_ok_and(dirs::is_dangling) => Err(Fault::Dangling),
            (other, _) => other,
        }
    }

    fn perform(&mut self, mut op: Op) -> Result<Reply, Fault> {
        if is_in_target(&op) {
            return self.run_in_target(op);
        }
        match &mut op {
            Op::Stat(place) | Op::List { dir: place, .. } | Op::Open { place, .. } | Op::ReadWhole { place, .. } => {
                self.roots.settle(place, true);
            }
            Op::StatMany(places) => places.iter_mut().for_each(|place| self.roots.settle(place, true)),
            Op::ReadLink(place) => self.roots.settle(place, false),
            _ => {}
        }
        match op {
            Op::Stat(place) => files::stat_at(self.roots.at(&place)?).map(Reply::Stat),
            Op::StatMany(places) => {
                Ok(Reply::Stats(places.iter().map(|place| self.roots.at(place).and_then(files::stat_at)).collect()))
            }
            Op::List { dir, max } => dirs::list(self.roots.at(&dir)?, max).map(Reply::Names),
            Op::ReadLink(place) => self.read_link(&place),
            Op::Open { place, how } => self.open(&place, how).map(|file| Reply::File(self.files.insert(file))),
            Op::Scratch => {
                let fd = files::scratch(self.roots.store_path())?;
                Ok(Reply::File(self.files.insert(OpenFile { fd, writable: true, root: Root::Store, locked: false })))
            }
            Op::FStat(file) => files::stat_fd(self.files.get(file)?.fd.as_fd()).map(Reply::Stat),
            Op::ReadAt { file, offset, len, mut buffer } => {
                files::read(self.files.get(file)?.fd.as_fd(), offset, len, &mut buffer)?;
                Ok(Reply::Bytes(buffer))
            }
            Op::ReadWhole { place, max, mut buffer } => {
                let (fd, stat) = files::open_regular(self.roots.at(&place)?, &place)?;
                files::read_whole(fd.as_fd(), &stat, max, &mut buffer)?;
                Ok(Reply::Whole(buffer, stat))
            }
            Op::WriteAt { file, offset, mut data } => {
                files::write(self.files.get_writable(file)?.fd.as_fd(), offset, &data)?;
                data.clear();
                Ok(Reply::Bytes(data))
            }
            Op::Truncate { file, len } => {
                let file = self.files.get_writable(file)?;
                done(retry_on_intr(|| ftruncate(&file.fd, len)))
            }
            Op::Sync(file) => self.sync(file),
            Op::SyncDir(place) => dirs::sync(self.roots.in_store(&place)?).map(|()| Reply::Unit),
            Op::MakeDir(place) => dirs::make(self.roots.in_store(&place)?, self.store_owner()).map(|()| Reply::Unit),
            Op::Rename { from, to } => {
                let (from, to) = (self.roots.in_store(&from)?, self.roots.in_store(&to)?);
                done(renameat(from.dir, from.path, to.dir, to.path))
            }
            Op::Link { from, to } => self.link(&from, &to),
            Op::Unlink(place) => {
                let at = self.roots.in_store(&place)?;
                done(unlinkat(at.dir, at.path, AtFlags::empty()))
            }
            Op::RemoveDir(place) => {
                let path = self.roots.store_path().join(OsStr::from_bytes(&place.path));
                dirs::remove(self.roots.in_store(&place)?, &path).map(|()| Reply::Unit)
            }
            Op::Close(file) => self.files.close(file).map(|()| Reply::Unit),
            Op::Lock { file, mode } => self.files.lock(file, mode).map(|()| Reply::Unit),
            Op::Unlock(file) => locks::unlock(self.files.get(file)?.fd.as_fd()).map(|()| Reply::Unit),
            Op::Holder { file, mode } => locks::holder(self.files.get(file)?.fd.as_fd(), mode).map(Reply::Holder),
            Op::Clock => Ok(Reply::Clock(clock::stamping(), self.tick())),
            op @ (Op::Seal { .. } | Op::Unseal { .. }) => workers::run(&mut self.tools, op),
            // Those of streams, which whoever has connections takes before they come here, and of the target.
            _ => Err(Fault::Driver),
        }
    }

    /// Does one operation on the target.
    fn run_in_target(&mut self, op: Op) -> Result<Reply, Fault> {
        match op {
            Op::Put { place, mut data, attributes } => {
                self.target.put(&place, &data, &attributes)?;
                data.clear();
                Ok(Reply::Bytes(data))
            }
            Op::PutDir { place, attributes } => self.target.put_dir(&place, &attributes).map(|()| Reply::Unit),
            Op::PutLink { place, to, owner } => self.target.put_link(&place, &to, owner).map(|()| Reply::Unit),
            Op::Link { from, to } => self.target.link(&from, &to).map(|()| Reply::Unit),
            Op::Attribute { file, attributes } => target::attribute(self.files.get(file)?, &attributes).map(|()| Reply::Unit),
            Op::Stat(place) => files::lstat_at(self.target.spot(&place)?.at()).map(Reply::Stat),
            Op::List { dir, max } => dirs::list(self.target.spot_of_dir(&dir)?.at(), max).map(Reply::Names),
            Op::Open { place, how } => {
                let spot = self.target.spot(&place)?;
                let (fd, writable) = match how {
                    How::Read => (files::open_regular(spot.at(), &place)?.0, false),
                    How::Create => (files::open_to_write(spot.at(), true)?, true),
                    How::Write | How::Lock => return Err(Fault::Driver),
                };
                Ok(Reply::File(self.files.insert(OpenFile { fd, writable, root: Root::Target, locked: false })))
            }
            Op::ReadWhole { place, max, mut buffer } => {
                let (fd, stat) = files::open_regular(self.target.spot(&place)?.at(), &place)?;
                files::read_whole(fd.as_fd(), &stat, max, &mut buffer)?;
                Ok(Reply::Whole(buffer, stat))
            }
            Op::ReadLink(place) => {
                let spot = self.target.spot(&place)?;
                let target = readlinkat(spot.at().dir, spot.at().path, Vec::new());
                target.map(|target| Reply::Bytes(target.into_bytes())).map_err(fault)
            }
            Op::Rename { from, to } => {
                let (from, to) = (self.target.spot(&from)?, self.target.spot(&to)?);
                done(renameat(from.at().dir, from.at().path, to.at().dir, to.at().path))
            }
            Op::Unlink(place) => {
                let spot = self.target.spot(&place)?;
                done(unlinkat(spot.at().dir, spot.at().path, AtFlags::empty()))
            }
            Op::SyncDir(place) => done(rustix::fs::syncfs(self.target.spot_of_dir(&place)?.at().dir)),
            _ => Err(Fault::Driver),
        }
    }

    fn link(&self, from: &Place, to: &Place) -> Result<Reply, Fault> {
        let (from, to) = (self.roots.in_store(from)?, self.roots.in_store(to)?);
        done(linkat(from.dir, from.path, to.dir, to.path, AtFlags::empty()))
    }

    fn read_link(&self, place: &Place) -> Result<Reply, Fault> {
        let at = self.roots.at(place)?;
        match readlinkat(at.dir, at.path, Vec::new()) {
            Ok(target) => Ok(Reply::Bytes(target.into_bytes())),
            // readlink(2): the named file is not a symbolic link.
            Err(Errno::INVAL) => Err(Fault::WrongKind),
            Err(errno) => Err(fault(errno)),
        }
    }

    fn open(&self, place: &Place, how: How) -> Result<OpenFile, Fault> {
        let (fd, writable) = match how {
            How::Read => (files::open_regular(self.roots.at(place)?, place)?.0, false),
            How::Write => (files::open_to_write(self.roots.in_store(place)?, false)?, true),
            How::Create => (files::create_like(self.roots.in_store(place)?, self.model(place))?, true),
            How::Lock => (self.open_lock(place)?, false),
        };
        Ok(OpenFile { fd, writable, root: place.root, locked: false })
    }

    /// What a file that is created in the store is given: as `X.new`, what `X` has, which it is to replace.
    fn model(&self, place: &Place) -> Option<Model> {
        let replaced = place.path.strip_suffix(b".new").map(|path| Place { root: place.root, path: path.to_vec() });
        let stat = replaced.and_then(|old| self.roots.at(&old).and_then(files::lstat_at).ok());
        match stat.filter(|stat| stat.kind == FileKind::Regular) {
            Some(stat) => Some(Model { owner: Owner { uid: stat.uid, gid: stat.gid }, mode: stat.mode }),
            None => self.store_owner().map(|owner| Model { owner, mode: 0o600 }),
        }
    }

    /// Whom what the superuser makes in the store belongs to; `None` for everybody else, who can give nothing away.
    fn store_owner(&self) -> Option<Owner> {
        *self.store_owner.get_or_init(|| self.roots.at(&Place::store(".")).ok().and_then(users::store_owner))
    }

    fn open_lock(&self, place: &Place) -> Result<std::os::fd::OwnedFd, Fault> {
        let at = self.roots.at(place)?;
        let fd = match place.root {
            Root::Target => return Err(Fault::Driver),
            Root::Host => locks::open_on_host(at, self.owner)?,
            Root::Store => match locks::open_in_store(at, self.store_owner()) {
                Err(Errno::NOENT) => {
                    dirs::make(self.roots.in_store(&place.parent())?, self.store_owner())?;
                    locks::open_in_store(at, self.store_owner()).map_err(fault)?
                }
                other => other.map_err(fault)?,
            },
        };
        files::check_regular(fd.as_fd())?;
        Ok(fd)
    }

    fn sync(&self, file: FileId) -> Result<Reply, Fault> {
        let file = self.files.get(file)?;
        if file.root == Root::Host {
            return Err(Fault::Driver);
        }
        done(retry_on_intr(|| fdatasync(&file.fd)))
    }

    /// Without a store to measure in, the kernel's clock is what is known.
    fn tick(&mut self) -> Span {
        let measure =
            |roots: &Roots| tempfile::tempfile_in(roots.store_path()).ok().and_then(|f| clock::measure(f.as_fd()).ok());
        *self.tick.get_or_insert_with(|| measure(&self.roots).unwrap_or_else(clock::kernel_tick))
    }
}

/// True for an operation on a name in the target, or one that there is nowhere else.
fn is_in_target(op: &Op) -> bool {
    match op {
        Op::Put { .. } | Op::PutDir { .. } | Op::PutLink { .. } | Op::Attribute { .. } => true,
        Op::Stat(place) | Op::List { dir: place, .. } | Op::Open { place, .. } | Op::ReadWhole { place, .. } => {
            place.root == Root::Target
        }
        Op::ReadLink(place) | Op::Unlink(place) | Op::SyncDir(place) => place.root == Root::Target,
        Op::Rename { from, to } | Op::Link { from, to } => from.root == Root::Target || to.root == Root::Target,
        _ => false,
    }
}

/// What an operation asks for in the store by name.
fn in_store(op: &Op) -> Option<&Place> {
    match op {
        Op::Stat(place) | Op::List { dir: place, .. } | Op::Open { place, .. } | Op::ReadWhole { place, .. } => Some(place),
        Op::SyncDir(place) | Op::MakeDir(place) | Op::RemoveDir(place) | Op::Unlink(place) => Some(place),
        _ => None,
    }
    .filter(|place| place.root == Root::Store)
}

fn done(result: Result<(), Errno>) -> Result<Reply, Fault> {
    result.map(|()| Reply::Unit).map_err(fault)
}
