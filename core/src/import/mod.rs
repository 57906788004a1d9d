//! Import: a tar file of another make becomes an archive on which backups go on (FORMAT.md section 10).
//!
//! The file is only read. What must not come in: users, and printing.

use crate::archive::append::{self, lock};
use crate::archive::entries::Finding;
use crate::archive::read::Reader;
use crate::archive::record::CommitKind;
use crate::compact::put_in_place;
use crate::cyrus::names::Owner;
use crate::error::{Error, Fault};
use crate::escape::shown;
use crate::io::{FileId, How, Io, Place};
use crate::repair::blocks::Blocks;
use crate::repair::rewrite::Rewritten;
use crate::repair::scan::Scan;
use crate::repair::{blank, write};
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
    let result = opened(io, from, file, owner, dir, settings).await;
    let _ = io.close(file).await;
    result
}

async fn opened(
    io: &Io,
    from: &Place,
    file: FileId,
    owner: &Owner,
    dir: &Place,
    settings: &Settings,
) -> Result<Imported, Error> {
    io.make_dir(dir).await.map_err(|fault| Error::world("make directory", dir.shown(), fault))?;
    let held = lock(io, dir).await?;
    let imported = async {
        is_free(io, dir).await?;
        import(io, from, file, owner, dir, settings).await
    };
    let imported = imported.await;
    let _ = io.close(held).await;
    imported
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

async fn import(
    io: &Io,
    from: &Place,
    file: FileId,
    owner: &Owner,
    dir: &Place,
    settings: &Settings,
) -> Result<Imported, Error> {
    let mut blocks = Blocks::open(io, file, from.shown()).await?;
    // The last run that found something to write wrote the end of the file.
    let stat = io.fstat(file).await.map_err(|fault| Error::world("stat", from.shown(), fault))?;
    let name = from.path.rsplit(|&c| c == b'/').next().unwrap_or_default();
    let blank = blank(&settings.archive, settings.archive_id, stat.mtime.min(io.now()), format!("import:{}", shown(name)));
    let scan = Scan::read(io, &mut blocks, &blank).await?;
    if scan.points.is_empty() && scan.good.is_empty() && scan.names.is_empty() {
        return Err(Error::Refused(format!("{}: is no archive of mail", from.shown())));
    }
    let (rewritten, bytes) = write(io, dir, owner, &mut blocks, &scan, &blank, &settings.archive).await?;
    put_in_place(io, dir).await?;
    Ok(Imported { findings: scan.findings, findings_count: scan.findings_count, rewritten, bytes: (blocks.file_len(), bytes) })
}
