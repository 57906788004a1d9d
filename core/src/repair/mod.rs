//! Repair: everything that is whole in a damaged archive is written into a new one, which takes its place; the damaged one is
//! kept beside it (FORMAT.md section 10). Healing: what is lost is fetched anew.
//!
//! Invariants:
//!
//! * The damaged archive is not touched, and all its bytes are durable under another name before its own goes to the new one.
//! * What is whole stays, byte for byte, but for places.
//! * What is lost is told, and stays known in the archive.
//!
//! [`crate::archive::blocks`] gives the content of a file in spite of damage, [`scan`] says what stays, `order`
//! where commits go, [`replay`]
//! makes tables of entries, [`rewrite`] writes, [`heal`] fetches. What must not come in: users, and printing.

pub mod heal;
mod order;
pub mod replay;
pub mod rewrite;
pub mod scan;

use crate::archive::append::{self, ASIDE, DIR_NAMES_MAX, NEW, lock, remove};
use crate::archive::blocks::Blocks;
use crate::archive::build::Builder;
use crate::archive::entries::Finding;
use crate::archive::read::{ARCHIVE, End, Reader};
use crate::archive::record::{Commit, Compacted};
use crate::archive::verify::verify;
use crate::compact::{put_in_place, read_back};
use crate::cyrus::names::Owner;
use crate::error::{Error, Fault};
use crate::guid::Guid;
use crate::io::{FileId, How, Io, Place};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use rewrite::{Rewriter, Rewritten};
use scan::Scan;

/// Bytes that are copied at once.
const COPY: usize = 1 << 20;

/// What a repair is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How new members are written.
    pub archive: append::Settings,
    /// Names the new archive if nothing in the old one tells its name; 16 bytes of chance.
    pub archive_id: [u8; 16],
    /// Say what would be done, and write nothing.
    pub dry_run: bool,
    /// Remove what was set aside as damaged or unreadable, now and before, when a good archive is in place.
    pub drop_aside: bool,
}

/// What was, or would be, repaired.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Repaired {
    /// What was wrong, at most [`crate::archive::verify::FINDINGS_MAX`] of it.
    pub findings: Vec<Finding>,
    /// How much was wrong.
    pub findings_count: u64,
    /// Commits whose record or table was made anew.
    pub rebuilt: u64,
    /// There was no commit: everything was told from names.
    pub reindexed: bool,
    /// What the new archive has, and what is lost; empty if nothing was written.
    pub rewritten: Rewritten,
    /// Length of the old file, and of the new one.
    pub bytes: (u64, u64),
    /// Where the old file is now, escaped.
    pub aside: Option<String>,
    /// Files set aside that were removed, escaped.
    pub dropped: Vec<String>,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Nothing is wrong. Files that were set aside before and were removed, escaped.
    Good(Vec<String>),
    /// This would be repaired.
    Would(Repaired),
    /// This was repaired.
    Done(Repaired),
}

/// Repairs the archive of `owner` in the directory `dir` of the store.
pub async fn run(io: &Io, dir: &Place, owner: &Owner, settings: &Settings) -> Result<Outcome, Error> {
    let place = dir.join(ARCHIVE);
    // Taking the lock would make the directory of somebody who has none.
    io.stat(&place).await.map_err(|fault| Error::world("open", place.shown(), fault))?;
    let held = lock(io, dir).await?;
    let result = locked(io, dir, owner, settings).await;
    let _ = io.close(held).await;
    result
}

async fn locked(io: &Io, dir: &Place, owner: &Owner, settings: &Settings) -> Result<Outcome, Error> {
    if is_good(io, dir, settings).await? {
        let dropped = if settings.drop_aside && !settings.dry_run { drop_aside(io, dir).await? } else { Vec::new() };
        return Ok(Outcome::Good(dropped));
    }
    let place = dir.join(ARCHIVE);
    let file = io.open(&place, How::Read).await.map_err(|fault| Error::world("open", place.shown(), fault))?;
    let result = repair(io, dir, owner, file, settings).await;
    let _ = io.close(file).await;
    let mut repaired = result?;
    if settings.dry_run {
        return Ok(Outcome::Would(repaired));
    }
    if settings.drop_aside {
        repaired.dropped = drop_aside(io, dir).await?;
    }
    Ok(Outcome::Done(repaired))
}

/// True if nothing is wrong with the archive, and it has its end.
async fn is_good(io: &Io, dir: &Place, settings: &Settings) -> Result<bool, Error> {
    let reader = match Reader::open(io, dir).await {
        Ok(reader) => reader,
        Err(Error::Damage(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    let verdict = match reader.end() {
        // Nobody tells a run that was killed from a file that was cut: a snapshot is made of what is whole.
        End::Damaged | End::Interrupted => Ok(false),
        End::Footer => verify(io, &reader, settings.archive.ahead).await.map(|verdict| verdict.is_good()),
    };
    reader.close().await;
    verdict
}

async fn repair(io: &Io, dir: &Place, owner: &Owner, file: FileId, settings: &Settings) -> Result<Repaired, Error> {
    let place = dir.join(ARCHIVE);
    let mut blocks = Blocks::open(io, file, place.shown()).await?;
    let blank =
        Commit { source: String::from("repair"), ..Commit::blank(settings.archive_id, io.now(), &settings.archive.software) };
    let scan = Scan::read(io, &mut blocks, &blank).await?;
    let mut repaired = Repaired {
        findings: scan.findings.clone(),
        findings_count: scan.findings_count,
        rebuilt: scan.rebuilt,
        reindexed: scan.points.is_empty(),
        bytes: (blocks.file_len(), 0),
        ..Repaired::default()
    };
    if scan.points.is_empty() && scan.good.is_empty() {
        return Err(Error::Refused(format!("{}: nothing in it can be read", place.shown())));
    }
    if settings.dry_run {
        repaired.rewritten.messages = scan.good.len() as u64;
        repaired.rewritten.lost = scan.lost.iter().map(|guid| (*guid, None)).collect();
        return Ok(repaired);
    }
    let (rewritten, bytes) = write(io, dir, owner, &mut blocks, &scan, &blank, &settings.archive).await?;
    let number = scan.head.map_or(0, |(number, _)| number);
    let aside = match set_aside(io, dir, file, number).await {
        Ok(aside) => aside,
        Err(error) => {
            let _ = io.unlink(&dir.join(NEW)).await;
            return Err(error);
        }
    };
    if let Err(error) = put_in_place(io, dir).await {
        give_up(io, dir, file, &aside).await;
        return Err(error);
    }
    (repaired.rewritten, repaired.bytes.1, repaired.aside) = (rewritten, bytes, Some(aside.shown()));
    Ok(repaired)
}

/// Writes what a scan has found into a new archive in `dir` and reads it back. Gives its length too.
pub(crate) async fn write(
    io: &Io,
    dir: &Place,
    owner: &Owner,
    blocks: &mut Blocks<'_>,
    scan: &Scan,
    blank: &Commit,
    settings: &append::Settings,
) -> Result<(Rewritten, u64), Error> {
    let new = dir.join(NEW);
    remove(io, &new).await?;
    let written = async {
        let out = Builder::create(io, &new, settings).await?;
        let head = scan.head.map_or(Guid::of(b""), |(_, sha1)| sha1);
        let compacted = Compacted { time: io.now(), number: 0, head };
        let (built, rewritten) = Rewriter::new(io, scan, owner, out, compacted).run(blocks, blank).await?;
        read_back(io, dir, &built, true, settings.ahead).await?;
        Ok((rewritten, built.bytes))
    };
    let written = written.await;
    if written.is_err() {
        // What is left of it is worthless, and the error that is told is the first.
        let _ = io.unlink(&new).await;
    }
    written
}

/// Gives the whole file a free name, too, or copies it where files have only one; durably.
async fn set_aside(io: &Io, dir: &Place, file: FileId, number: u64) -> Result<Place, Error> {
    let place = free_place(io, dir, number).await?;
    let kept = match io.link(&dir.join(ARCHIVE), &place).await {
        Ok(()) => sync(io, &place).await,
        Err(_) => copy(io, dir, file, &place).await,
    };
    let kept = match kept {
        Ok(()) => io.sync_dir(dir).await.map_err(|fault| Error::world("sync", dir.shown(), fault)),
        Err(error) => Err(error),
    };
    if kept.is_err() {
        let _ = io.unlink(&place).await;
    }
    kept.map(|()| place)
}

async fn sync(io: &Io, place: &Place) -> Result<(), Error> {
    let file = io.open(place, How::Write).await.map_err(|fault| Error::world("open", place.shown(), fault))?;
    let synced = io.sync(file).await;
    let _ = io.close(file).await;
    synced.map_err(|fault| Error::world("sync", place.shown(), fault))
}

async fn copy(io: &Io, dir: &Place, file: FileId, place: &Place) -> Result<(), Error> {
    let world = |doing| {
        let object = place.shown();
        move |fault| Error::world(doing, object, fault)
    };
    let to = io.open(place, How::Create).await.map_err(world("create"))?;
    let copied = async {
        let mut at = 0;
        loop {
            let piece = io.read_at(file, at, COPY, Vec::new()).await;
            let piece = piece.map_err(|fault| Error::world("read", dir.join(ARCHIVE).shown(), fault))?;
            if piece.is_empty() {
                return io.sync(to).await.map_err(world("sync"));
            }
            let len = piece.len() as u64;
            io.write_at(to, at, piece).await.map_err(world("write"))?;
            at += len;
        }
    };
    let copied = copied.await;
    let _ = io.close(to).await;
    copied
}

/// Removes what a repair that failed has made, if the archive is still the damaged one.
async fn give_up(io: &Io, dir: &Place, file: FileId, aside: &Place) {
    let (open, named) = (io.fstat(file).await, io.stat(&dir.join(ARCHIVE)).await);
    if let (Ok(open), Ok(named)) = (open, named)
        && (open.dev, open.ino) == (named.dev, named.ino)
    {
        let _ = io.unlink(aside).await;
        let _ = io.unlink(&dir.join(NEW)).await;
    }
}

async fn free_place(io: &Io, dir: &Place, number: u64) -> Result<Place, Error> {
    let first = dir.join(&[ASIDE, format!("{number}-0-damaged").as_bytes()].concat());
    for n in 1..=DIR_NAMES_MAX {
        let infix = if n == 1 { String::new() } else { format!(".{n}") };
        let place = dir.join(&[ASIDE, format!("{number}-0{infix}-damaged").as_bytes()].concat());
        match io.stat(&place).await {
            Err(Fault::NotFound) => return Ok(place),
            Ok(_) => {}
            Err(fault) => return Err(Error::world("stat", place.shown(), fault)),
        }
    }
    Err(Error::Limit { object: first.shown(), limit: DIR_NAMES_MAX as u64, found: DIR_NAMES_MAX as u64 + 1 })
}

/// Removes what was set aside because it was damaged.
async fn drop_aside(io: &Io, dir: &Place) -> Result<Vec<String>, Error> {
    let names = io.list(dir, DIR_NAMES_MAX).await.map_err(|fault| Error::world("list", dir.shown(), fault))?;
    let mut dropped = Vec::new();
    for entry in names {
        if entry.name.starts_with(ASIDE) && !entry.name.ends_with(b"-interrupted") {
            let place = dir.join(&entry.name);
            remove(io, &place).await?;
            dropped.push(place.shown());
        }
    }
    Ok(dropped)
}
