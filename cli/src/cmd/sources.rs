//! Whose archives are in a store, and from which sources: what a restore of everybody looks at first.
//!
//! What must not come in: restoring.

use super::archive;
use crate::output::count;
use cylinder_core::archive::read::Reader;
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::io::Io;
use cylinder_core::restore::target;
use cylinder_core::store::archive_dir;
use cylinder_core::view::{self, When};
use std::collections::BTreeMap;

/// Stands for every source.
const EVERY: &str = "all";

/// An archive, and what its snapshot says of the server.
pub struct Archive {
    /// Whose.
    pub owner: Owner,
    /// Where the snapshot is from; that of the newest if there is none as old as was asked for, empty if there is none at all.
    pub source: String,
    /// Of which version.
    pub version: Option<VersionLine>,
}

/// The archives of a store.
#[derive(Default)]
pub struct Found {
    /// Those that can be read.
    pub archives: Vec<Archive>,
    /// Whose cannot be opened, and why.
    pub lost: Vec<(Owner, Error)>,
}

/// Looks at the archives of these owners. One that cannot be opened keeps nobody from the others.
pub async fn look(io: &Io, when: When, owners: Vec<Owner>) -> Result<Found, Error> {
    let mut found = Found::default();
    for owner in owners {
        let looked = async {
            let reader = archive::open(io, &owner, &archive_dir(&owner)?).await?;
            let told = told(&reader, when).await;
            reader.close().await;
            told
        };
        match looked.await {
            Ok((source, version)) => found.archives.push(Archive { owner, source, version }),
            Err(Error::Stopped) => return Err(Error::Stopped),
            Err(error) => found.lost.push((owner, error)),
        }
    }
    Ok(found)
}

async fn told(reader: &Reader, when: When) -> Result<(String, Option<VersionLine>), Error> {
    let version = target::told_by_archive(reader, when).await?;
    let mut at = view::snapshot(reader, when).await;
    if matches!(at, Err(Error::Refused(_))) {
        at = view::snapshot(reader, When::Newest).await;
    }
    match at {
        Ok(at) => Ok((at.commit.source, version)),
        // Whoever has no snapshot at all is told later.
        Err(Error::Refused(_)) => Ok((String::new(), version)),
        Err(error) => Err(error),
    }
}

impl Found {
    /// Those of the sources that were named; refused if nobody has said which of several are meant. Of what cannot be opened
    /// nobody knows the source, so it stays.
    pub fn of_sources(mut self, wanted: &[String]) -> Result<Found, Error> {
        let mut users: BTreeMap<&str, u64> = BTreeMap::new();
        let known = self.archives.iter().filter(|archive| !archive.source.is_empty());
        known.for_each(|archive| *users.entry(&archive.source).or_default() += 1);
        let all = users.iter().map(|(source, n)| format!("{source} ({})", count(*n, "user"))).collect::<Vec<_>>().join(", ");
        if let Some(unknown) = wanted.iter().find(|source| *source != EVERY && !users.contains_key(&source[..])) {
            return Err(Error::Refused(format!("--source {unknown}: the store has users of: {all}")));
        }
        if wanted.is_empty() && users.len() > 1 {
            let why = format!("the store has users of several sources: {all}");
            return Err(Error::Refused(format!("{why}; say with --source which are meant, or --source all")));
        }
        let is_meant = |archive: &Archive| wanted.is_empty() || wanted.iter().any(|w| w == EVERY || *w == archive.source);
        self.archives.retain(is_meant);
        Ok(self)
    }
}
