//! Whether every snapshot of an archive can be restored: its table and its folders' metadata can be read, and each message that
//! an index names is in the archive.
//!
//! Which messages are there whole is found out before, by [`crate::archive::verify`]. What the server itself did not have when
//! it was backed up, and what was erased since, is no loss. Each version of a folder is looked at once, for the newest snapshot
//! that has it. Memory: one folder, and what is lost. What must not come in: reading messages, printing.

use crate::archive::read::{Catalogue, CommitAt, Reader};
use crate::archive::record::{CommitKind, FolderRow};
use crate::archive::verify::FINDINGS_MAX;
use crate::error::Error;
use crate::find::{Version, version};
use crate::guid::Guid;
use crate::lacking::{self, Lacking};
use crate::view::{self, FolderView};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A message that a snapshot names and the archive does not have whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Absent {
    /// The newest snapshot that names it there.
    pub snapshot: u64,
    /// The folder's name then.
    pub folder: Vec<u8>,
    /// UID.
    pub uid: u32,
    /// SHA-1 of its content.
    pub guid: Guid,
}

/// A part of a snapshot that cannot be read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// The snapshot.
    pub snapshot: u64,
    /// The folder; `None` if it is the table of all.
    pub folder: Option<Vec<u8>>,
    /// Why.
    pub what: String,
}

/// What looking at all snapshots came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Completeness {
    /// Messages that are lost, at most [`FINDINGS_MAX`] of them.
    pub absent: Vec<Absent>,
    /// How many are lost; once for each folder and UID that names one.
    pub absent_count: u64,
    /// What cannot be read back, at most [`FINDINGS_MAX`] of it.
    pub broken: Vec<Broken>,
    /// Snapshots that were looked at.
    pub snapshots: u64,
    /// Those of them that lack something.
    pub incomplete: u64,
    /// Records of indexes that were looked at.
    pub records: u64,
    /// Files that were saved as the server had them, and that no server can read.
    pub notes: Vec<String>,
    /// What snapshots are known to lack, at most [`FINDINGS_MAX`] of it: the newest snapshot that lacks it, and what.
    pub lacking: Vec<(u64, Lacking)>,
    /// Snapshots that are known to lack something.
    pub lacking_snapshots: u64,
}

impl Completeness {
    /// True if all that was saved can be had back.
    pub fn is_whole(&self) -> bool {
        self.absent_count == 0 && self.broken.is_empty()
    }

    /// True if no snapshot is known to lack anything that the user had.
    pub fn lacks_nothing(&self) -> bool {
        self.lacking_snapshots == 0
    }

    fn lack(&mut self, snapshot: u64, lacking: Vec<Lacking>) {
        self.lacking_snapshots += u64::from(!lacking.is_empty());
        for one in lacking {
            if self.lacking.len() < FINDINGS_MAX && !self.lacking.iter().any(|(_, known)| *known == one) {
                self.lacking.push((snapshot, one));
            }
        }
    }
}

/// Looks at all snapshots of an archive that has the messages of `present` whole. Those of `erased` are gone on purpose.
///
/// An error is one of the operating system. A chain that is broken ends the search: verifying tells of it.
pub async fn complete(reader: &Reader, present: &Catalogue, erased: &BTreeSet<Guid>) -> Result<Completeness, Error> {
    let mut search = Search { reader, present, erased, versions: BTreeSet::new(), bad: BTreeSet::new(), found: <_>::default() };
    let mut next = Some(reader.head().clone());
    while let Some(commit) = next {
        if commit.commit.kind == CommitKind::Snapshot {
            search.snapshot(&commit).await?;
        }
        next = match reader.previous(&commit).await {
            Err(Error::Damage(_)) => None,
            other => other?,
        };
    }
    Ok(search.found)
}

/// What all snapshots are known to lack, from their tables alone. A table that cannot be read is passed over.
pub async fn lacks(reader: &Reader) -> Result<Completeness, Error> {
    let mut found = Completeness::default();
    let mut next = Some(reader.head().clone());
    while let Some(commit) = next {
        if commit.commit.kind == CommitKind::Snapshot {
            match reader.table(&commit).await {
                Ok(table) => found.lack(commit.commit.number, lacking::read(reader, &table).await?),
                Err(Error::Damage(_)) => {}
                Err(error) => return Err(error),
            }
        }
        next = match reader.previous(&commit).await {
            Err(Error::Damage(_)) => None,
            other => other?,
        };
    }
    Ok(found)
}

/// What a folder is, as far as it matters whether its messages are there: its indexes, and the UIDs that were reported missing.
type Folder = (Version, Vec<u32>);

struct Search<'a> {
    reader: &'a Reader,
    present: &'a Catalogue,
    erased: &'a BTreeSet<Guid>,
    versions: BTreeSet<Folder>,
    /// Those of them that lack something.
    bad: BTreeSet<Folder>,
    found: Completeness,
}

impl Search<'_> {
    async fn snapshot(&mut self, at: &CommitAt) -> Result<(), Error> {
        let number = at.commit.number;
        self.found.snapshots += 1;
        let table = match self.reader.table(at).await {
            Ok(table) => table,
            Err(Error::Damage(damage)) => {
                self.broken(number, None, damage.to_string());
                self.found.incomplete += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let has = |guid: &Guid| self.present.contains(guid) || self.erased.contains(guid);
        self.found.lack(number, lacking::of(&table, has));
        let mut is_whole = true;
        for row in &table.folders {
            let folder = (version(row), row.missing.iter().map(|missing| missing.uid).collect());
            if self.versions.insert(folder.clone()) && !self.folder(number, row).await? {
                self.bad.insert(folder.clone());
            }
            is_whole &= !self.bad.contains(&folder);
        }
        self.found.incomplete += u64::from(!is_whole);
        Ok(())
    }

    /// True if nothing of the folder is lost.
    async fn folder(&mut self, snapshot: u64, row: &FolderRow) -> Result<bool, Error> {
        let view = match view::folder(self.reader, row).await {
            Ok(view) => view,
            Err(Error::Damage(damage)) => {
                self.broken(snapshot, Some(&row.name), damage.to_string());
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        for problem in &view.problems {
            if self.found.notes.len() < FINDINGS_MAX {
                let folder = crate::escape::shown(&row.name);
                self.found.notes.push(format!("snapshot {snapshot}, {folder}: saved as the server had it: {problem}"));
            }
        }
        Ok(self.messages(snapshot, row, &view))
    }

    fn messages(&mut self, snapshot: u64, row: &FolderRow, view: &FolderView) -> bool {
        let before = self.found.absent_count;
        self.found.records += view.messages.len() as u64;
        for m in view.messages.iter().filter(|m| !m.is_unlinked && !self.present.contains(&m.guid)) {
            let uid = m.record.uid.0;
            let is_known = self.erased.contains(&m.guid) || row.missing.iter().any(|missing| missing.uid == uid);
            if is_known {
                continue;
            }
            self.found.absent_count += 1;
            if self.found.absent.len() < FINDINGS_MAX {
                self.found.absent.push(Absent { snapshot, folder: row.name.clone(), uid, guid: m.guid });
            }
        }
        self.found.absent_count == before
    }

    fn broken(&mut self, snapshot: u64, folder: Option<&[u8]>, what: String) {
        if self.found.broken.len() < FINDINGS_MAX {
            self.found.broken.push(Broken { snapshot, folder: folder.map(<[u8]>::to_vec), what });
        }
    }
}
