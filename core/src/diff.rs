//! What changed between two snapshots: folders and messages that came, went, moved, or have other flags.
//!
//! Only folders whose index differs are looked into. Memory: the messages of those. What must not come in: printing.

use crate::archive::read::{CommitAt, Reader};
use crate::archive::record::FolderRow;
use crate::backup::GUIDS;
use crate::error::Error;
use crate::guid::Guid;
use crate::source::MetaFile;
use crate::view::{self, MessageRow};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A message in a folder.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Spot {
    /// The folder's name at the snapshot that is meant.
    pub folder: Vec<u8>,
    /// UID.
    pub uid: u32,
    /// SHA-1 of its content.
    pub guid: Guid,
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A folder came.
    FolderCame(Vec<u8>),
    /// A folder went.
    FolderWent(Vec<u8>),
    /// A folder has another name.
    FolderRenamed(Vec<u8>, Vec<u8>),
    /// A message came; it was in no folder that changed.
    Came(Spot),
    /// A message went: there is no record of it any more, or its file is gone.
    Went(Spot),
    /// A message went here and came there.
    Moved(Spot, Spot),
    /// A message was expunged, and its file is still there.
    Expunged(Spot),
    /// A message has other flags: those that came, those that went.
    Flags(Spot, Vec<Vec<u8>>, Vec<Vec<u8>>),
}

/// All changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Diff {
    /// Folders first, then messages, by folder and UID.
    pub changes: Vec<Change>,
    /// Files of other names than folders' (subscriptions, sieve scripts, ...) that came, went or have another content.
    pub states: Vec<Vec<u8>>,
    /// What could not be read, so that changes may be missing.
    pub problems: Vec<Error>,
}

/// Compares the snapshot `new` with the older one `old`.
pub async fn diff(reader: &Reader, old: &CommitAt, new: &CommitAt) -> Result<Diff, Error> {
    let (before, after) = (reader.table(old).await?, reader.table(new).await?);
    let mut diff = Diff::default();
    let by_id: BTreeMap<&[u8], &FolderRow> = before.folders.iter().map(|row| (&row.id[..], row)).collect();
    let mut left = by_id.clone();
    let mut pairs = Vec::new();
    for row in &after.folders {
        match left.remove(&row.id[..]) {
            Some(was) => {
                if was.name != row.name {
                    diff.changes.push(Change::FolderRenamed(was.name.clone(), row.name.clone()));
                }
                pairs.push((Some(was), Some(row)));
            }
            None => {
                diff.changes.push(Change::FolderCame(row.name.clone()));
                pairs.push((None, Some(row)));
            }
        }
    }
    for row in left.into_values() {
        diff.changes.push(Change::FolderWent(row.name.clone()));
        pairs.push((Some(row), None));
    }
    let (mut came, mut went) = (Vec::new(), Vec::new());
    for (was, is) in pairs.into_iter().filter(|(was, is)| differ(*was, *is)) {
        let (was, is) = (messages(reader, was, &mut diff).await?, messages(reader, is, &mut diff).await?);
        compare(was, is, &mut diff, &mut came, &mut went);
    }
    pair(came, went, &mut diff);
    let content = |table: &crate::archive::record::Table| {
        table.states.iter().map(|row| (row.name.clone(), view::state_sha1(row))).collect::<BTreeMap<_, _>>()
    };
    let (before, after) = (content(&before), content(&after));
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    diff.states = names.filter(|name| before.get(*name) != after.get(*name)).cloned().collect();
    diff.states.sort();
    Ok(diff)
}

/// True unless the files that tell of messages are the same. Names of keywords are in cyrus.header.
fn differ(was: Option<&FolderRow>, is: Option<&FolderRow>) -> bool {
    let sha1 = |row: Option<&FolderRow>, name: &str| row.and_then(|row| row.file(name)).map(|file| file.sha1);
    let files = [MetaFile::Index.name(), MetaFile::Expunge.name(), MetaFile::Header.name(), GUIDS];
    files.into_iter().any(|name| sha1(was, name) != sha1(is, name))
}

/// A folder's name, and its messages by UID, without those whose files are gone.
type Messages = (Vec<u8>, BTreeMap<u32, MessageRow>);

async fn messages(reader: &Reader, row: Option<&FolderRow>, diff: &mut Diff) -> Result<Messages, Error> {
    let Some(row) = row else { return Ok(Messages::default()) };
    let view = view::folder(reader, row).await?;
    diff.problems.extend(view.problems);
    let messages = view.messages.into_iter().filter(|m| !m.is_unlinked).map(|m| (m.record.uid.0, m));
    Ok((row.name.clone(), messages.collect()))
}

fn compare(was: Messages, is: Messages, diff: &mut Diff, came: &mut Vec<Spot>, went: &mut Vec<Spot>) {
    let spot = |folder: &[u8], m: &MessageRow| Spot { folder: folder.to_vec(), uid: m.record.uid.0, guid: m.guid };
    for (uid, old) in &was.1 {
        match is.1.get(uid).filter(|new| new.guid == old.guid) {
            None => went.push(spot(&was.0, old)),
            Some(new) if new.is_expunged && !old.is_expunged => diff.changes.push(Change::Expunged(spot(&is.0, new))),
            Some(new) if new.flags != old.flags => {
                let only = |a: &MessageRow, b: &MessageRow| a.flags.iter().filter(|f| !b.flags.contains(f)).cloned().collect();
                diff.changes.push(Change::Flags(spot(&is.0, new), only(new, old), only(old, new)));
            }
            Some(_) => {}
        }
    }
    let new = is.1.iter().filter(|(uid, new)| was.1.get(uid).is_none_or(|old| old.guid != new.guid));
    came.extend(new.map(|(_, m)| spot(&is.0, m)));
}

/// A message that went in one place and came in another has moved.
fn pair(mut came: Vec<Spot>, mut went: Vec<Spot>, diff: &mut Diff) {
    came.sort();
    went.sort();
    let mut by_guid: BTreeMap<Guid, Vec<Spot>> = BTreeMap::new();
    for spot in went.into_iter().rev() {
        by_guid.entry(spot.guid).or_default().push(spot);
    }
    for spot in came {
        match by_guid.get_mut(&spot.guid).and_then(Vec::pop) {
            Some(from) => diff.changes.push(Change::Moved(from, spot)),
            None => diff.changes.push(Change::Came(spot)),
        }
    }
    let mut gone: Vec<Spot> = by_guid.into_values().flatten().collect();
    gone.sort();
    diff.changes.extend(gone.into_iter().map(Change::Went));
}
