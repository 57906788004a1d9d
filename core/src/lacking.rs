//! What a snapshot is known to lack, in one form for all who name it: `log`, `list`, `verify`, and each way of restoring.
//!
//! What must not come in: finding out that something lacks (that is the backup's and the repair's), and printing.

use crate::archive::record::{FolderRow, Lack, LackingRow, Table};
use crate::escape::shown;
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

/// All that the snapshot with this table is known to lack, in byte order of the folders' names.
pub fn of(table: &Table) -> Vec<Lacking> {
    let mut all: Vec<Lacking> = table.lacking.iter().map(|row| folder(row, table.folder(&row.name))).collect();
    all.sort();
    all.dedup();
    all
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
        Lack::Other(word) => {
            (format!("a newer version wrote the reason: {}", shown(word.as_bytes())), "use that version of cylinder")
        }
    };
    let is_older = older.is_some() && !matches!(row.why, Lack::IndexLost | Lack::FileLost);
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
        let found = of(&Table { lacking, folders, ..Table::default() });
        let names: Vec<&str> = found.iter().map(|lacking| &lacking.what[..]).collect();
        assert_eq!(names, ["INBOX.a", "INBOX.b\\x1b", "INBOX.c", "INBOX.z"]);
        assert!(found.iter().all(|lacking| !lacking.next.is_empty()));
        assert!(found[2].why.ends_with("older state") && !found[1].why.contains("older"), "{found:?}");
        assert!(found[3].why.ends_with("new\\x1bword"), "{found:?}");
    }
}
