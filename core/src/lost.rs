//! What a user does not have any more and the archive still has: messages, folders and other files of snapshots before the
//! newest, and until when the policy retains them.
//!
//! A message that is somewhere else now was moved and is not lost. Each index is read once, however many snapshots share it.
//! Memory: the folder tables of all snapshots, 20 bytes for each message of the newest, some 300 for each that is lost. What
//! must not come in: printing.

use crate::archive::read::{CommitAt, Reader};
use crate::archive::record::{FolderRow, Table};
use crate::compact::policy::Policy;
use crate::error::Error;
use crate::find::{Version, version};
use crate::guid::Guid;
use crate::time::Time;
use crate::view::{self, FolderView, MessageRow};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::rc::Rc;
use alloc::vec::Vec;

/// Until when something can be had.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Until {
    /// At least until then; it goes with the first compaction afterwards.
    Time(Time),
    /// As long as the server has it: it is in the newest snapshot.
    Newest,
    /// For ever.
    Ever,
}

/// Something that was there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lost<T> {
    /// What.
    pub what: T,
    /// The newest snapshot that has it.
    pub snapshot: u64,
    /// Until when that or an older one is retained.
    pub until: Until,
}

/// A message that was there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The folder's name then.
    pub folder: Rc<[u8]>,
    /// What the index said.
    pub row: MessageRow,
}

/// Everything that was there and is not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Folders, by name; one that was renamed is not gone, but one under delayed delete is.
    pub folders: Vec<Lost<Vec<u8>>>,
    /// Messages, by folder and UID.
    pub messages: Vec<Lost<Message>>,
    /// Files that belong to no folder, such as sieve scripts, by name.
    pub files: Vec<Lost<Vec<u8>>>,
    /// What could not be read, so that something may be missing.
    pub problems: Vec<Error>,
}

/// The prefix of folders under delayed delete.
const DELETED: &[u8] = b"DELETED.";

/// A snapshot and its state.
struct Snapshot {
    at: CommitAt,
    table: Table,
    until: Until,
}

/// Finds what was there and is not. `policy` is what is retained; a hold in the archive retains everything.
pub async fn lost(reader: &Reader, policy: &Policy) -> Result<Report, Error> {
    let mut report = Report::default();
    let snapshots = snapshots(reader, policy, &mut report.problems).await?;
    let Some((newest, _)) = snapshots.split_first() else { return Ok(report) };
    let mut search = Search { reader, now: BTreeSet::new(), versions: BTreeMap::new(), found: BTreeMap::new() };
    for snapshot in &snapshots {
        for row in &snapshot.table.folders {
            let until = search.versions.entry(version(row)).or_insert(snapshot.until);
            *until = snapshot.until.max(*until);
        }
    }
    for row in newest.table.folders.iter().filter(|row| !row.name.starts_with(DELETED)) {
        let view = view(reader, row, &mut report.problems).await?;
        search.now.extend(view.messages.iter().filter(|m| is_visible(m)).map(|m| m.guid));
    }
    for snapshot in &snapshots {
        search.snapshot(snapshot, &mut report.problems).await?;
    }
    report.messages = search.found.into_values().collect();
    report.messages.sort_by(|a, b| (&a.what.folder, a.what.row.record.uid).cmp(&(&b.what.folder, b.what.row.record.uid)));
    let folder = |row: &FolderRow| (!row.name.starts_with(DELETED)).then(|| (row.id.clone(), row.name.clone()));
    report.folders = gone(&snapshots, |table| table.folders.iter().filter_map(folder).collect());
    report.files = gone(&snapshots, |table| table.states.iter().map(|row| (row.name.clone(), row.name.clone())).collect());
    Ok(report)
}

fn is_visible(m: &MessageRow) -> bool {
    !m.is_expunged && !m.is_unlinked
}

/// All snapshots that can be read, newest first.
async fn snapshots(reader: &Reader, policy: &Policy, problems: &mut Vec<Error>) -> Result<Vec<Snapshot>, Error> {
    let held = reader.head().commit.hold.is_some();
    let commits = view::snapshots(reader).await?;
    let times: Vec<Time> = commits.iter().rev().map(|at| at.commit.time).collect();
    let mut snapshots = Vec::new();
    for (n, at) in commits.into_iter().enumerate() {
        let until = match policy.until(&times, times.len() - 1 - n) {
            _ if held || policy.everything => Until::Ever,
            Some(time) => Until::Time(time),
            None => Until::Newest,
        };
        match reader.table(&at).await {
            Ok(table) => snapshots.push(Snapshot { at, table, until }),
            Err(error @ Error::Damage(_)) => problems.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(snapshots)
}

/// A folder's messages, as far as they can be read.
async fn view(reader: &Reader, row: &FolderRow, problems: &mut Vec<Error>) -> Result<FolderView, Error> {
    match view::folder(reader, row).await {
        Ok(mut view) => {
            problems.append(&mut view.problems);
            Ok(view)
        }
        Err(error @ Error::Damage(_)) => {
            problems.push(error);
            Ok(FolderView::default())
        }
        Err(error) => Err(error),
    }
}

struct Search<'a> {
    reader: &'a Reader,
    /// What is visible in some folder of the newest snapshot.
    now: BTreeSet<Guid>,
    /// Until when each version of a folder's messages is retained; taken out when it has been looked at.
    versions: BTreeMap<Version, Until>,
    found: BTreeMap<Known, Lost<Message>>,
}

/// What a message of a folder is known by: the folder's id, its UID and its content.
type Known = (Rc<[u8]>, u32, Guid);

impl Search<'_> {
    async fn snapshot(&mut self, snapshot: &Snapshot, problems: &mut Vec<Error>) -> Result<(), Error> {
        for row in &snapshot.table.folders {
            let Some(until) = self.versions.remove(&version(row)) else { continue };
            let view = view(self.reader, row, problems).await?;
            let (folder, id): (Rc<[u8]>, Rc<[u8]>) = (row.name[..].into(), row.id[..].into());
            for m in view.messages.into_iter().filter(|m| !m.is_unlinked && !self.now.contains(&m.guid)) {
                let what = || Message { folder: folder.clone(), row: m.clone() };
                let key = (id.clone(), m.record.uid.0, m.guid);
                let number = snapshot.at.commit.number;
                let lost = self.found.entry(key).or_insert_with(|| Lost { what: what(), snapshot: number, until });
                lost.until = lost.until.max(until);
            }
        }
        Ok(())
    }
}

/// What older snapshots name and the newest does not: `names` gives what a state names, by what it is known by.
fn gone(snapshots: &[Snapshot], names: impl Fn(&Table) -> BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Lost<Vec<u8>>> {
    let Some((newest, older)) = snapshots.split_first() else { return Vec::new() };
    let (now, mut found) = (names(&newest.table), BTreeMap::<Vec<u8>, Lost<Vec<u8>>>::new());
    for Snapshot { at, table, until } in older {
        for (key, what) in names(table).into_iter().filter(|(key, _)| !now.contains_key(key)) {
            let lost = found.entry(key).or_insert(Lost { what, snapshot: at.commit.number, until: *until });
            lost.until = lost.until.max(*until);
        }
    }
    let mut gone: Vec<Lost<Vec<u8>>> = found.into_values().collect();
    gone.sort_by(|a, b| a.what.cmp(&b.what));
    gone
}
