//! Reading message files on the mail server's host.
//!
//! No locks are held: message files never change, they can only vanish. What must not come in: archives, and judging whether a
//! message is what the index says it is.

use super::FolderPaths;
use super::lock::close;
use crate::error::{Error, Fault};
use crate::io::{FileId, How, Io, Place, Stat};
use alloc::format;
use alloc::vec::Vec;

/// A message up to this size is read into memory as a whole; a larger one goes through a file, in pieces.
pub const IN_MEMORY_MAX: u64 = 8 << 20;
/// A message larger than this is not taken: no Cyrus can have stored it (`maxmessagesize` is at most 2 GiB).
pub const MESSAGE_MAX: u64 = 4 << 30;
/// Bytes of one piece of a large message.
pub const PIECE: usize = 1 << 20;

/// A message file that is there.
#[derive(Debug)]
pub enum Found {
    /// Its content.
    Whole(Vec<u8>, Stat),
    /// The file, open, because it is large.
    Large(FileId, Stat),
}

/// Why a message file cannot be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Lacking {
    /// There is none.
    Absent,
    /// It cannot be read.
    Unreadable(Error),
}

/// Where a message's file may lie: on the archive partition if the record says so, then in the ordinary place, and the other
/// way round. Never empty.
pub fn candidates(paths: &FolderPaths, uid: u32, archived: bool) -> Vec<Place> {
    let name = format!("{uid}.");
    let data = paths.data.join(name.as_bytes());
    match &paths.archive {
        None => alloc::vec![data],
        Some(archive) => {
            let archive = archive.join(name.as_bytes());
            if archived { alloc::vec![archive, data] } else { alloc::vec![data, archive] }
        }
    }
}

/// Reads or opens one file. `buffer` is used again.
pub async fn read(io: &Io, place: &Place, buffer: Vec<u8>) -> Result<Found, Lacking> {
    match io.read_whole(place, IN_MEMORY_MAX, buffer).await {
        Ok((content, stat)) => Ok(Found::Whole(content, stat)),
        Err(Fault::TooLarge) => open(io, place).await,
        Err(fault) => Err(lacking("read", place, fault)),
    }
}

async fn open(io: &Io, place: &Place) -> Result<Found, Lacking> {
    let file = io.open(place, How::Read).await.map_err(|fault| lacking("open", place, fault))?;
    match io.fstat(file).await {
        Ok(stat) if stat.size <= MESSAGE_MAX => Ok(Found::Large(file, stat)),
        Ok(stat) => {
            close(io, file).await;
            let object = format!("{}: bytes of a message", place.shown());
            Err(Lacking::Unreadable(Error::Limit { object, limit: MESSAGE_MAX, found: stat.size }))
        }
        Err(fault) => {
            close(io, file).await;
            Err(lacking("stat", place, fault))
        }
    }
}

fn lacking(doing: &'static str, place: &Place, fault: Fault) -> Lacking {
    match fault {
        Fault::NotFound => Lacking::Absent,
        fault => Lacking::Unreadable(Error::world(doing, place.shown(), fault)),
    }
}
