//! Which version of Cyrus a server is of that does not run, and in whose files something is to be put in place.
//!
//! What is installed on its disk is asked first, then its own databases and indexes, then the archives. What must not come in:
//! putting anything anywhere.

use crate::archive::read::Reader;
use crate::cyrus::conf::VersionLine;
use crate::cyrus::paths::Paths;
use crate::error::Error;
use crate::io::{Io, Place};
use crate::source::lock::Patience;
use crate::source::site::{self, Locking, first_with_index};
use crate::source::version::{Told, installed};
use crate::source::{MetaFile, config};
use crate::view::{self, When};
use alloc::format;
use alloc::string::String;

/// Folders of one snapshot whose indexes are looked at.
const INDEXES: usize = 8;

/// What the disk itself tells; `None` if it tells nothing. `conf` is imapd.conf as the server sees it.
pub async fn told_by_disk(io: &Io, conf: &[u8]) -> Result<Option<Told>, Error> {
    let installed = installed(io).await;
    let version = installed.as_ref().map_or(VersionLine::V3_6, |told| told.version);
    let conf = config::load(io, conf, "", version).await?;
    let mailboxes = Place::host(Paths::new(&conf)?.mailboxes_db()?);
    if io.stat(&mailboxes).await.is_err() {
        return Ok(installed);
    }
    let mut site = site::Site::open(io, conf, None, Locking::Offline, Patience::default()).await?;
    Ok(site.look_closer(io, installed.clone(), true).await?.or(installed))
}

/// What the snapshot that is meant tells of the server that it is from: the version that stands in it, or the first one with
/// such indexes as it has. `None` if it tells nothing.
pub async fn told_by_archive(reader: &Reader, when: When) -> Result<Option<VersionLine>, Error> {
    let Ok(at) = view::snapshot(reader, when).await else { return Ok(None) };
    let mut version = at.commit.cyrus.split(' ').next().and_then(VersionLine::of);
    let table = match reader.table(&at).await {
        Ok(table) => table,
        // Whoever restores it tells of that.
        Err(Error::Damage(_)) => return Ok(version),
        Err(error) => return Err(error),
    };
    for row in table.folders.iter().take(INDEXES) {
        let index = match view::meta(reader, row, MetaFile::Index.name()).await {
            Ok(index) => index.unwrap_or_default(),
            Err(Error::Damage(_)) => continue,
            Err(error) => return Err(error),
        };
        let number = index.get(8..12).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        version = version.max(number.and_then(first_with_index));
    }
    Ok(version)
}

/// What is concluded if only archives tell.
pub fn from_archives(version: VersionLine) -> Told {
    let because = format!("the newest of the archives is of {version}, and nothing on the disk tells");
    Told { version, because: because + "; --cyrus says it for sure" }
}

/// What somebody has said.
pub fn as_said(version: VersionLine) -> Told {
    Told { version, because: String::from("--cyrus says so") }
}
