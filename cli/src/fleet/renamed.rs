//! Users who have another name than in the last run: their archives move along.
//!
//! What must not come in: users who are gone (`Fleet::vanished`).

use super::Fleet;
use cylinder_core::archive::read::Reader;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::{Error, Fault};
use cylinder_core::io::Io;
use cylinder_core::pull::Origin;
use cylinder_core::source::Ask;
use cylinder_core::store::{self, archive_dir};
use std::collections::BTreeMap;

const INBOX: &[u8] = b"INBOX";

impl Fleet<'_> {
    /// Moves the archives of those in `vanished` who are in `owners` under another name, as the uniqueid of INBOX tells, and
    /// takes them out of `vanished`. Costs nothing unless some went and some came. If the connection is lost over one of them,
    /// that is the error, and the next call does not ask for that one.
    pub(super) async fn renamed(
        &self,
        io: &Io,
        origin: &mut Origin<'_>,
        at: usize,
        owners: &[Owner],
        vanished: &mut Vec<(Owner, bool)>,
    ) -> Result<(), Error> {
        if vanished.is_empty() {
            return Ok(());
        }
        let mut came = Vec::new();
        for owner in owners {
            // Whoever can have no archive is told by the user's own run.
            let Ok(dir) = archive_dir(owner) else { continue };
            if matches!(io.stat(&dir).await, Err(Fault::NotFound)) && !self.state().sources[at].unasked.contains(owner) {
                came.push(owner);
            }
        }
        if came.is_empty() {
            return Ok(());
        }
        let mut by_id = BTreeMap::new();
        for (owner, _) in vanished.iter() {
            if let Some(id) = inbox_of_archive(io, owner).await {
                by_id.insert(id, owner.clone());
            }
        }
        for owner in came {
            // Whatever cannot be read now is told by the user's own run.
            let pass = match origin.pass(io, owner, &Ask::default()).await {
                Ok(pass) => pass,
                Err(error @ Error::Peer { .. }) => {
                    self.state().sources[at].unasked.insert(owner.clone());
                    return Err(error);
                }
                Err(_) => continue,
            };
            let id = pass.folders.into_iter().find(|folder| folder.name == INBOX).and_then(|folder| folder.id);
            let Some(from) = id.and_then(|id| by_id.remove(&id)) else { continue };
            let (old, new) = (from.shown(), owner.shown());
            match store::rename(io, &from, owner, &self.archive_settings()).await {
                Ok(()) => {
                    vanished.retain(|(owner, _)| *owner != from);
                    self.watch.source(&new, &format!("was called {old} until now; the archive moves along"));
                }
                Err(error) => {
                    self.watch.source(&new, &format!("was called {old} until now, and the archive cannot move along: {error}"));
                }
            }
        }
        Ok(())
    }
}

/// The uniqueid of INBOX in the newest snapshot of an archive.
async fn inbox_of_archive(io: &Io, owner: &Owner) -> Option<Vec<u8>> {
    let reader = Reader::open(io, &archive_dir(owner).ok()?).await.ok()?;
    let table = reader.newest_table().await;
    reader.close().await;
    let (table, _) = table.ok()?;
    table.folder(INBOX).map(|row| row.id.clone()).filter(|id| !id.is_empty())
}
