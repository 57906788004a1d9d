//! Databases of a server that does not run, which are one file for all users: written anew with the records that they have and
//! those that are restored, and the old file kept beside the new one.
//!
//! What must not come in: what the records mean.

use super::draft::Draft;
use super::select::records;
use super::shelf::{Dir, Shelf};
use crate::cyrus::db::{Entry, Order, flat, skiplist, twoskip};
use crate::error::{Error, Fault};
use crate::escape::{Shown, shown};
use crate::io::{Io, Place};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The largest database that is read whole.
const DATABASE_MAX: u64 = 1 << 30;

/// A database as imapd.conf describes it.
pub(super) struct Database<'a> {
    /// Its file, as the server sees it.
    pub path: &'a [u8],
    /// What it is called in errors.
    pub name: &'a str,
    /// The backend.
    pub backend: &'a [u8],
    /// How its keys stand.
    pub order: Order,
}

/// All records of a database of the server; `None` if there is no file.
pub(super) async fn read(io: &Io, path: &[u8], name: &str) -> Result<Option<Vec<Entry>>, Error> {
    match io.read_whole(&Place::host(path), DATABASE_MAX, Vec::new()).await {
        Ok((bytes, _)) => {
            let mut problems = Vec::new();
            let entries = records(name, &bytes, &mut problems);
            problems.into_iter().next().map_or(Ok(Some(entries)), Err)
        }
        Err(Fault::NotFound) => Ok(None),
        Err(fault) => Err(Error::world("read", shown(path), fault)),
    }
}

/// Adds records; those that the server has are newer, and stay. True if the file was written.
pub(super) async fn add(
    io: &Io,
    shelf: &mut Dir<'_>,
    database: &Database<'_>,
    news: &BTreeMap<Vec<u8>, Vec<u8>>,
    stamp: &str,
) -> Result<bool, Error> {
    let old = read(io, database.path, database.name).await?;
    let had = old.is_some();
    let mut all: BTreeMap<Vec<u8>, Vec<u8>> = old.into_iter().flatten().collect();
    if news.iter().all(|(key, value)| all.get(key) == Some(value)) {
        return Ok(false);
    }
    for (key, value) in news {
        all.entry(key.clone()).or_insert_with(|| value.clone());
    }
    let mut entries: Vec<Entry> = all.into_iter().collect();
    entries.sort_by(|a, b| database.order.compare(&a.0, &b.0));
    let content = match database.backend {
        b"twoskip" => twoskip::emit(&entries, 1),
        b"skiplist" => skiplist::emit(&entries)?,
        b"flat" => flat::emit(&entries),
        other => {
            let why = format!("{}: databases of the kind {} cannot be written", database.name, Shown(other));
            return Err(Error::Refused(why));
        }
    };
    let at = Place::target(below(database.path));
    let with = |suffix: String| [&at.path[..], b".", suffix.as_bytes()].concat();
    let (new, kept) = (with(format!("cylinder.{stamp}")), with(format!("before.{stamp}")));
    put(io, shelf, &new, &content).await?;
    let rename = async |from: &Place, to: &Place| {
        io.rename(from, to).await.map_err(|fault| Error::world("rename", shown(&from.path), fault))
    };
    if had {
        rename(&at, &Place::target(kept)).await?;
    }
    rename(&Place::target(new), &at).await?;
    Ok(true)
}

/// A path of the server as one of the target.
pub(super) fn below(path: &[u8]) -> Vec<u8> {
    let start = path.iter().position(|&b| b != b'/').unwrap_or(path.len());
    path[start..].to_vec()
}

/// Puts a file with this content in place.
pub(super) async fn put(io: &Io, shelf: &mut Dir<'_>, path: &[u8], content: &[u8]) -> Result<(), Error> {
    shelf.dir(&Place::target(path).parent().path).await?;
    let mut draft = Draft::new(io);
    draft.write(content).await?;
    let result = shelf.put(path, &mut draft, None).await.map(drop);
    draft.close().await;
    result
}
