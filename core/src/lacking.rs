//! What a snapshot is known to lack, in one form for all who name it: `log`, `list`, `verify`, and each way of restoring.
//!
//! What must not come in: finding out that something lacks (that is the backup's and the repair's), and printing.

use crate::archive::read::Reader;
use crate::archive::record::{Absence, FolderRow, Lack, LackingRow, Table};
use crate::error::Error;
use crate::escape::shown;
use crate::guid::Guid;
use crate::view::Locations;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Something that a snapshot is known to lack.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Lacking {
    /// The folder's name in the archive.
    pub folder: Vec<u8>,
    /// What lacks, escaped for printing.
    pub what: String,
    /// The reason as the folder table has it.
    pub word: String,
    /// Why, for people.
    pub why: String,
    /// What can be done about it.
    pub next: String,
}

/// The folders and files that the snapshot with this table is known to lack, in byte order of their names. Messages are not
/// among them: a restore names each of those that it was asked for.
pub fn folders(table: &Table) -> Vec<Lacking> {
    let mut all: Vec<Lacking> = table.lacking.iter().map(|row| folder(row, table.folder(&row.name))).collect();
    all.sort();
    all.dedup();
    all
}

/// All that the snapshot with this table is known to lack, in byte order of the folders' names. `has` tells whether the archive
/// has a message: one may have been found since.
pub fn of(table: &Table, has: impl Fn(&Guid) -> bool) -> Vec<Lacking> {
    let mut all = folders(table);
    all.extend(table.folders.iter().flat_map(|row| messages(row, &has)));
    all.sort();
    all
}

/// The same with what the archive at hand has.
pub async fn read(reader: &Reader, table: &Table) -> Result<Vec<Lacking>, Error> {
    let locations = match table.folders.iter().any(|row| !row.missing.is_empty()) {
        true => Locations::load(reader).await?,
        false => Locations::default(),
    };
    Ok(of(table, |guid| locations.find(guid).is_some()))
}

/// The messages of a folder that are not as its index describes them, by reasons.
fn messages(row: &FolderRow, has: &impl Fn(&Guid) -> bool) -> Vec<Lacking> {
    let mut counts: BTreeMap<&str, (Absence, u64)> = BTreeMap::new();
    for missing in row.missing.iter().filter(|missing| !missing.guid.as_ref().is_some_and(has)) {
        counts.entry(missing.why.word()).or_insert((missing.why, 0)).1 += 1;
    }
    let one = |(word, (absence, count)): (&str, (Absence, u64))| {
        let (why, next) = absent(absence);
        let messages = if count == 1 { "1 message" } else { &format!("{count} messages") };
        Lacking {
            folder: row.name.clone(),
            what: shown(&row.name),
            word: String::from(word),
            why: format!("{messages}: {why}"),
            next: String::from(next),
        }
    };
    counts.into_iter().map(one).collect()
}

/// What it means that a message is not saved as its index describes it, and what to do.
fn absent(absence: Absence) -> (&'static str, &'static str) {
    match absence {
        Absence::Absent => ("the file was missing on the server", "an older snapshot may have it (`cylinder log`)"),
        Absence::Unreadable => ("the file could not be read on the server", "`cylinder backup` tells why"),
        Absence::Mismatch => (
            "the content is another than the index describes; what lay on the server is here",
            "a restore offers it; an older snapshot may have the right one (`cylinder log`)",
        ),
        Absence::UnreadableRecord => (
            "the record in cyrus.index could not be read on the server",
            "`reconstruct` on the server mends it; an older snapshot may have it (`cylinder log`)",
        ),
        Absence::Lost => ("damage to the archive has taken it", "`cylinder heal` fetches it if the server has it still"),
    }
}

/// A folder that lacks as a whole, or of which there is only an older state.
fn folder(row: &LackingRow, older: Option<&FolderRow>) -> Lacking {
    let (why, next) = match &row.why {
        Lack::IndexLost => (
            String::from("damage to the archive has taken its index"),
            "an older snapshot may have it (`cylinder log`), and `cylinder restore --recovered` gives messages that no index names; \
             if the server has it still, the next backup makes it whole",
        ),
        Lack::FileLost => (
            String::from("damage to the archive has taken a file of it; its messages are there"),
            "an older snapshot may have it (`cylinder log`); if the server has it still, the next backup makes it whole",
        ),
        Lack::NotSaved => (
            String::from("the server had it, and the backup could not save it"),
            "`cylinder backup` tells why, and what to do on the server",
        ),
        Lack::Unreadable => (
            String::from("its files on the server could not be read"),
            "`cylinder backup` tells why; `reconstruct` on the server may mend it; an older snapshot may have it (`cylinder log`)",
        ),
        Lack::HeaderLost => (
            String::from("its cyrus.header was damaged on the server, so that keywords have no names"),
            "an older snapshot may have the names (`cylinder log`)",
        ),
        Lack::FileDamaged => (
            String::from("this file of the user was damaged on the server"),
            "`cylinder backup` tells how; an older snapshot may have it (`cylinder log`)",
        ),
        Lack::Other(word) => {
            (format!("a newer version wrote the reason: {}", shown(word.as_bytes())), "use that version of cylinder")
        }
    };
    let is_older = older.is_some() && !matches!(row.why, Lack::IndexLost | Lack::FileLost | Lack::HeaderLost);
    let state = if is_older { "; what is here of it is an older state" } else { "" };
    Lacking {
        folder: row.name.clone(),
        what: shown(&row.name),
        word: String::from(row.why.word()),
        why: why + state,
        next: String::from(next),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::record::MissingRow;
    use alloc::vec;

    #[test]
    fn each_reason_says_what_to_do_and_names_are_escaped() {
        let row = |name: &[u8], why| LackingRow { name: name.to_vec(), why, id: None };
        let lacking = vec![
            row(b"INBOX.z", Lack::of("new\x1bword")),
            row(b"INBOX.b\x1b", Lack::NotSaved),
            row(b"INBOX.a", Lack::IndexLost),
            row(b"INBOX.a", Lack::IndexLost),
            row(b"INBOX.c", Lack::Unreadable),
        ];
        let folders = vec![FolderRow { name: b"INBOX.c".to_vec(), ..FolderRow::default() }];
        let found = of(&Table { lacking, folders, ..Table::default() }, |_| false);
        let names: Vec<&str> = found.iter().map(|lacking| &lacking.what[..]).collect();
        assert_eq!(names, ["INBOX.a", "INBOX.b\\x1b", "INBOX.c", "INBOX.z"]);
        assert!(found.iter().all(|lacking| !lacking.next.is_empty()));
        assert!(found[2].why.ends_with("older state") && !found[1].why.contains("older"), "{found:?}");
        assert!(found[3].why.ends_with("new\\x1bword"), "{found:?}");
    }

    #[test]
    fn messages_are_counted_by_reason_unless_they_were_found_since() {
        let row = |uid, why| MissingRow { uid, guid: Some(Guid::of(&[uid as u8])), why, found: None };
        let missing = vec![row(1, Absence::Lost), row(2, Absence::Mismatch), row(3, Absence::Mismatch), row(4, Absence::Lost)];
        let folder = FolderRow { name: b"INBOX".to_vec(), missing, ..FolderRow::default() };
        let found = of(&Table { folders: vec![folder], ..Table::default() }, |guid| *guid == Guid::of(&[4]));
        let told: Vec<(&str, bool)> = found.iter().map(|l| (&l.word[..], l.why.starts_with("2 messages: "))).collect();
        assert_eq!(told, [("lost", false), ("mismatch", true)], "{found:?}");
    }
}
