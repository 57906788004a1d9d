//! Import: a tar file of another make becomes an archive on which backups go on (FORMAT.md section 10).
//!
//! The file is only read. What must not come in: users, and printing.

use crate::archive::append::{self, lock};
use crate::archive::blocks::Blocks;
use crate::archive::entries::Finding;
use crate::archive::read::Reader;
use crate::archive::record::{Commit, CommitKind};
use crate::compact::put_in_place;
use crate::cyrus::names::Owner;
use crate::error::{Error, Fault};
use crate::escape::shown;
use crate::io::{FileId, How, Io, Place};
use crate::repair::rewrite::Rewritten;
use crate::repair::scan::Scan;
use crate::repair::write;
use alloc::format;
use alloc::vec::Vec;

/// What an import is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How members are written.
    pub archive: append::Settings,
    /// Names the archive unless the file does; 16 bytes of chance.
    pub archive_id: [u8; 16],
}

/// What was imported.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Imported {
    /// What was wrong with the file, at most [`crate::archive::verify::FINDINGS_MAX`] of it.
    pub findings: Vec<Finding>,
    /// How much was wrong.
    pub findings_count: u64,
    /// What the archive has, and what of it is lost.
    pub rewritten: Rewritten,
    /// Length of the file, and of the archive.
    pub bytes: (u64, u64),
}

/// Makes an archive of `owner` in the directory `dir` of the store from the file at `from`. Refused if there is one already
/// that has anything in it.
pub async fn run(io: &Io, from: &Place, owner: &Owner, dir: &Place, settings: &Settings) -> Result<Imported, Error> {
    let file = io.open(from, How::Read).await.map_err(|fault| Error::world("open", from.shown(), fault))?;
    let imported = async {
        let mut found = look(io, from, file, settings).await?;
        // Not before: of a file that is no archive nothing is left, not even a directory.
        io.make_dir(dir).await.map_err(|fault| Error::world("make directory", dir.shown(), fault))?;
        let held = lock(io, dir).await?;
        let imported = import(io, owner, dir, settings, &mut found).await;
        let _ = io.close(held).await;
        imported
    };
    let imported = imported.await;
    let _ = io.close(file).await;
    imported
}

/// What is in the file.
struct Found<'a> {
    blocks: Blocks<'a>,
    scan: Scan,
    blank: Commit,
}

/// Reads the file from its beginning to its end; an error if it has nothing of an archive.
async fn look<'a>(io: &'a Io, from: &Place, file: FileId, settings: &Settings) -> Result<Found<'a>, Error> {
    let mut blocks = Blocks::open(io, file, from.shown()).await?;
    // The last run that found something to write wrote the end of the file.
    let stat = io.fstat(file).await.map_err(|fault| Error::world("stat", from.shown(), fault))?;
    let name = from.path.rsplit(|&c| c == b'/').next().unwrap_or_default();
    let source = format!("import:{}", shown(name));
    let blank = Commit::blank(settings.archive_id, stat.mtime.min(io.now()), &settings.archive.software);
    let blank = Commit { source, ..blank };
    let scan = Scan::read(io, &mut blocks, &blank).await?;
    if scan.points.is_empty() && scan.good.is_empty() && scan.names.is_empty() {
        return Err(Error::Refused(format!("{}: is no archive of mail", from.shown())));
    }
    Ok(Found { blocks, scan, blank })
}

/// Writes the archive of what was found.
async fn import(io: &Io, owner: &Owner, dir: &Place, settings: &Settings, found: &mut Found<'_>) -> Result<Imported, Error> {
    is_free(io, dir).await?;
    let Found { blocks, scan, blank } = found;
    let (rewritten, bytes) = write(io, dir, owner, blocks, scan, blank, &settings.archive).await?;
    put_in_place(io, dir).await?;
    let findings = core::mem::take(&mut scan.findings);
    Ok(Imported { findings, findings_count: scan.findings_count, rewritten, bytes: (blocks.file_len(), bytes) })
}

/// An error unless the directory has no archive, or one with nothing in it.
async fn is_free(io: &Io, dir: &Place) -> Result<(), Error> {
    let reader = match Reader::open(io, dir).await {
        Ok(reader) => reader,
        Err(Error::World { fault: Fault::NotFound, .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let commit = &reader.head().commit;
    let is_new = commit.previous.is_none() && commit.kind == CommitKind::Checkpoint;
    let place = reader.place();
    reader.close().await;
    if is_new { Ok(()) } else { Err(Error::Refused(format!("{}: is there already", place.shown()))) }
}
