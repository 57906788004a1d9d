//! What has changed since the last snapshot, told from names, database entries and tuples alone.
//!
//! Pure: a function of the last snapshot's table and of what a stat pass showed. What must not come in: reading anything.

use crate::archive::record::{FolderRow, StateContent, StateRow, Table};
use crate::cyrus::mailboxes;
use crate::source::capture::{OWN_ID, Want, Wanted};
use crate::source::{Folder, MetaFile, Pass, State, StateKind};
use alloc::collections::BTreeSet;
use alloc::collections::btree_map::{BTreeMap, Entry};
use alloc::vec::Vec;

/// What is to be done about a user.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Changes {
    /// What to read.
    pub wanted: Wanted,
    /// Something else than a file's content: a name came or went, a link changed.
    pub names: bool,
}

impl Changes {
    /// True if the user is as the last snapshot has it.
    pub fn is_empty(&self) -> bool {
        self.wanted.folders.is_empty() && self.wanted.states.is_empty() && !self.names
    }
}

/// Compares a pass with the last snapshot. `annotated` are the folders whose records of annotations.db have changed.
pub fn compare(table: &Table, pass: &Pass, annotated: &BTreeSet<Vec<u8>>) -> Changes {
    let mut changes = Changes::default();
    let lacking: BTreeSet<&[u8]> = table.lacking.iter().map(|row| &row.name[..]).collect();
    for folder in &pass.folders {
        let is_to_be_read = annotated.contains(&folder.name) || lacking.contains(&folder.name[..]);
        let want = match row_of(table, folder) {
            Some(row) if !is_to_be_read => want(row, folder),
            Some(_) => Some(Want::Read),
            None => {
                changes.names = true;
                Some(Want::Read)
            }
        };
        if let Some(want) = want {
            changes.wanted.folders.insert(folder.name.clone(), want);
        }
    }
    // What lacks is looked for again each time.
    changes.names |= !lacking.is_empty() || table.folders.iter().any(|row| !has_folder(pass, &row.name));
    for state in &pass.states {
        match (state_row(table, &state.name), &state.what) {
            (Some(row), StateKind::Link(target)) => changes.names |= !is_link_to(row, target),
            (None, StateKind::Link(_)) => changes.names = true,
            (row, StateKind::File(tuple)) => {
                if row.is_none_or(|row| row.tuple != Some(*tuple)) {
                    changes.wanted.states.insert(state.name.clone());
                }
            }
        }
    }
    changes.names |= table.states.iter().any(|row| is_seen_by_pass(pass, &row.name) && !has_state(&pass.states, &row.name));
    changes
}

/// The row of the last snapshot that is this folder under this name.
pub fn row_of<'a>(table: &'a Table, folder: &Folder) -> Option<&'a FolderRow> {
    let row = table.folder(&folder.name)?;
    // One whose entry has another id than its files was saved under either.
    let same = folder.id.as_ref().is_none_or(|id| *id == row.id) || (!row.entry.is_empty() && row.entry == folder.entry);
    same.then_some(row)
}

/// The row of the last snapshot with this name.
pub fn state_row<'a>(table: &'a Table, name: &[u8]) -> Option<&'a StateRow> {
    table.states.iter().find(|row| row.name == name)
}

/// True if the pass could have seen this file. `meta/mailboxes` is made from database records, and is none.
pub fn is_seen_by_pass(pass: &Pass, name: &[u8]) -> bool {
    // Of which folders the records are is another question than where files lie.
    name != super::MAILBOXES && !is_headless(pass) && (!pass.partial || [&b"meta/seen"[..], b"meta/sub"].contains(&name))
}

/// True if the pass has folders of a user and not the INBOX, by whose entry the user's own files are found: what is not seen of
/// them is not gone.
pub fn is_headless(pass: &Pass) -> bool {
    let has = |what: fn(&[u8]) -> bool| pass.folders.iter().any(|folder| what(&folder.name));
    has(|name| name.starts_with(b"INBOX.")) && !has(|name| name == b"INBOX")
}

/// True if the server has a folder of this name, be its entry readable or not.
fn has_folder(pass: &Pass, name: &[u8]) -> bool {
    let readable = pass.folders.binary_search_by(|f| f.name[..].cmp(name)).is_ok();
    readable || pass.unreadable.iter().any(|(n, _)| n == name)
}

fn has_state(states: &[State], name: &[u8]) -> bool {
    states.iter().any(|s| s.name == name)
}

/// The folders that have the uniqueid of one whose name comes before theirs, each with that one.
pub fn twins(table: &Table) -> Vec<(&FolderRow, &FolderRow)> {
    let (mut first, mut twins) = (BTreeMap::new(), Vec::new());
    for row in &table.folders {
        match first.entry(&row.id) {
            Entry::Vacant(entry) => drop(entry.insert(row)),
            Entry::Occupied(entry) => twins.push((row, *entry.get())),
        }
    }
    twins
}

/// Folders that are saved under another uniqueid than mailboxes.db and cyrus.header both give, with the id in mailboxes.db.
pub fn strangers(table: &Table) -> impl Iterator<Item = (&FolderRow, Option<Vec<u8>>)> {
    table.folders.iter().filter_map(|row| {
        let entry = mailboxes::parse(&row.entry).ok().and_then(|entry| entry.uniqueid).filter(|id| !id.is_empty());
        let is_strange = row.id.starts_with(OWN_ID) || entry.as_ref().is_some_and(|id| *id != row.id);
        is_strange.then_some((row, entry))
    })
}

/// True if the row is a link with this target.
pub fn is_link_to(row: &StateRow, target: &[u8]) -> bool {
    matches!(&row.content, StateContent::Link { target: t, .. } if t == target)
}

/// The entry of a folder in mailboxes.db, as far as it is known: an origin that does not show entries shows empty ones.
pub fn entry<'a>(folder: &'a Folder, row: Option<&'a FolderRow>) -> &'a [u8] {
    match row {
        Some(row) if folder.entry.is_empty() => &row.entry,
        _ => &folder.entry,
    }
}

fn want(row: &FolderRow, folder: &Folder) -> Option<Want> {
    let same_files =
        MetaFile::ALL.iter().zip(&folder.tuples).all(|(file, tuple)| row.file(file.name()).map(|f| f.tuple) == *tuple);
    if !same_files || row.entry != entry(folder, Some(row)) || !row.missing.is_empty() {
        return Some(Want::Read);
    }
    if !row.young {
        return None;
    }
    // Without both, the header of the index cannot show a change (before version 12).
    match (row.modseq, row.header_crc) {
        (Some(modseq), Some(crc)) => Some(Want::Recheck { modseq, crc }),
        _ => Some(Want::Read),
    }
}

/// True if a folder of an archive is not one under delayed delete.
pub(super) fn is_live(name: &[u8]) -> bool {
    !name.starts_with(b"DELETED.")
}

/// Visible messages in the folders of the last snapshot that are not deleted, and how many messages are there now that account
/// for them: visible ones in any such folder, and what a folder has expunged or has taken along under delayed delete, as far as
/// it had more visible ones before. So a user who empties a folder makes no loss, nor does Cyrus when it later unlinks what was
/// expunged and removes what was deleted. Folders in `unread` do not count as there.
pub(super) fn loss(old: &Table, next: &Table, unread: &BTreeSet<Vec<u8>>) -> (u64, u64) {
    let live = old.folders.iter().filter(|row| is_live(&row.name));
    let had: BTreeMap<&[u8], u64> = live.clone().map(|row| (&row.id[..], row.exists)).collect();
    let before = live.fold(0u64, |sum, row| sum.saturating_add(row.exists));
    let now = next.folders.iter().filter(|row| !unread.contains(&row.name)).fold(0u64, |sum, row| {
        let (visible, hidden) = match is_live(&row.name) {
            true => (row.exists, row.expunged),
            false => (0, row.exists.saturating_add(row.expunged)),
        };
        let fewer = had.get(&row.id[..]).map_or(0, |had| had.saturating_sub(visible));
        sum.saturating_add(visible).saturating_add(hidden.min(fewer))
    });
    (before, now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[(&str, &str, u64, u64)]) -> Table {
        let row = |&(name, id, exists, expunged): &(&str, &str, u64, u64)| FolderRow {
            name: name.into(),
            id: id.into(),
            exists,
            expunged,
            ..FolderRow::default()
        };
        Table { folders: rows.iter().map(row).collect(), ..Table::default() }
    }

    #[test]
    fn what_somebody_deletes_is_accounted_for_and_what_the_disk_loses_is_not() {
        let old = table(&[("INBOX", "i", 100, 5), ("INBOX.Work", "w", 50, 0), ("DELETED.Old.6B047E5B", "d", 70, 3)]);
        let now = |rows| loss(&old, &table(rows), &BTreeSet::new());
        assert_eq!(now(&[("INBOX", "i", 10, 95), ("INBOX.Work", "w", 50, 0)]), (150, 150), "expunged");
        assert_eq!(now(&[("INBOX", "i", 100, 0), ("DELETED.Work.6B047E5C", "w", 50, 0)]), (150, 150), "a folder was deleted");
        assert_eq!(now(&[("INBOX", "i", 0, 100), ("INBOX.New", "n", 100, 0), ("INBOX.Work", "w", 50, 0)]), (150, 250), "moved");
        assert_eq!(now(&[("INBOX", "i", 100, 0), ("INBOX.Work", "w", 50, 0)]), (150, 150), "old ones were unlinked");
        assert_eq!(now(&[("INBOX.Work", "w", 50, 900)]), (150, 50), "a folder is gone, and another one has expunged messages");
        assert_eq!(now(&[("DELETED.Old.6B047E5B", "d", 70, 3)]), (150, 0), "what was deleted before stands for nothing");
        assert_eq!(loss(&old, &old, &[b"INBOX".to_vec()].into()), (150, 50), "a folder could not be read");
    }
}
