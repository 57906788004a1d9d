//! Loading imapd.conf and what it includes.
//!
//! What must not come in: what the options mean (`cyrus::conf`).

use crate::cyrus::conf::{Conf, ConfReader, FILE_MAX, VersionLine};
use crate::error::Error;
use crate::io::{Io, Place};
use alloc::vec::Vec;

/// Reads the configuration in the file `path` of the host, for the service of this name (empty for none).
///
/// The defaults are those of `version`; [`super::site::Site::open`] takes others if it finds another version.
pub async fn load(io: &Io, path: &[u8], service: &str, version: VersionLine) -> Result<Conf, Error> {
    let mut reader = ConfReader::new(path, service);
    while let Some(file) = reader.next_file() {
        let place = Place::host(file);
        let read = io.read_whole(&place, FILE_MAX as u64, Vec::new()).await;
        let (text, _) = read.map_err(|fault| Error::world("read", place.shown(), fault))?;
        reader.supply(&text)?;
    }
    reader.finish(version)
}
