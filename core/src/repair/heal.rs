//! Healing: messages that the archive has lost are fetched anew from the server, by GUID (FORMAT.md section 10).
//!
//! It is a run of a backup that reads every folder and does not believe the archive to have what is lost. What must not come
//! in: finding damage in anything but messages.

use crate::archive::read::Reader;
use crate::archive::record::Absence;
use crate::archive::verify::verify;
use crate::backup::report::Report;
use crate::backup::{self, Settings};
use crate::cyrus::names::Owner;
use crate::error::Error;
use crate::guid::Guid;
use crate::io::{Io, Place};
use crate::pull::Origin;
use crate::view;
use alloc::vec::Vec;

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Healed {
    /// Messages that were lost and are there again.
    pub healed: Vec<Guid>,
    /// Messages that the server does not have either.
    pub lost: Vec<Guid>,
    /// The run that fetched them; `None` if nothing was lost.
    pub report: Option<Report>,
}

/// Looks for what the archive of `owner` in the directory `dir` of the store has lost, and fetches it.
pub async fn run(io: &Io, origin: &mut Origin<'_>, owner: &Owner, dir: &Place, settings: &Settings) -> Result<Healed, Error> {
    let reader = Reader::open(io, dir).await?;
    let lost = lost(io, &reader, settings.archive.ahead).await;
    reader.close().await;
    let lost = lost?;
    if lost.is_empty() {
        return Ok(Healed::default());
    }
    let mut prepared = backup::prepare(io, dir).await?;
    prepared.doubt(lost.clone());
    let report = backup::run_prepared(io, origin, owner, dir, settings, prepared).await?;
    let reader = Reader::open(io, dir).await?;
    let left = not_whole(&reader, lost.clone()).await;
    reader.close().await;
    let left = left?;
    let healed = lost.into_iter().filter(|guid| left.binary_search(guid).is_err()).collect();
    Ok(Healed { healed, lost: left, report: Some(report) })
}

/// The messages that are lost, in order: those that commits list and that are not whole, and those of which folder tables say
/// so.
async fn lost(io: &Io, reader: &Reader, ahead: usize) -> Result<Vec<Guid>, Error> {
    let mut lost = verify(io, reader, ahead).await?.lost;
    let (known, _) = reader.catalogue().await?;
    let snapshots = match view::snapshots(reader).await {
        Ok(snapshots) => snapshots,
        // The chain is broken: what the newest one says is left.
        Err(Error::Damage(_)) => view::snapshot(reader, view::When::Newest).await.into_iter().collect(),
        Err(error) => return Err(error),
    };
    for at in snapshots {
        let table = match reader.table(&at).await {
            Ok(table) => table,
            Err(Error::Damage(_)) => continue,
            Err(error) => return Err(error),
        };
        let rows = table.folders.iter().flat_map(|row| &row.missing).filter(|row| row.why == Absence::Lost);
        lost.extend(rows.filter_map(|row| row.guid).filter(|guid| !known.contains(guid)));
    }
    lost.sort();
    lost.dedup();
    not_whole(reader, lost).await
}

/// Those of these messages that are not whole where the newest list has them, or are in no list.
async fn not_whole(reader: &Reader, guids: Vec<Guid>) -> Result<Vec<Guid>, Error> {
    let mut left = Vec::new();
    for guid in guids {
        let found = match reader.locate(&guid).await {
            Ok(Some(message)) => reader.copy_message(&message, &mut |_| true).await,
            Ok(None) => {
                left.push(guid);
                continue;
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(()) => {}
            Err(Error::Damage(_)) => left.push(guid),
            Err(error) => return Err(error),
        }
    }
    Ok(left)
}
