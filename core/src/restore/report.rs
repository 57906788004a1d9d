//! What came of a restore. What must not come in: printing.

use crate::error::Error;
use crate::lacking::Lacking;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Notes of a kind that are kept; more are only counted.
pub const NOTES_MAX: usize = 10_000;

/// Something that was not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// What it is about, escaped: a folder, a message as `folder/UID`, a file.
    pub what: String,
    /// Why.
    pub why: String,
    /// What can be done about it; may be empty.
    pub next: String,
}

/// Notes, of which a bounded number is kept.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Notes {
    /// The first [`NOTES_MAX`] of them.
    pub kept: Vec<Note>,
    /// How many there are.
    pub count: u64,
}

impl Notes {
    /// Takes one.
    pub fn add(&mut self, what: impl Into<String>, why: impl ToString, next: &str) {
        self.count += 1;
        if self.kept.len() < NOTES_MAX {
            self.kept.push(Note { what: what.into(), why: why.to_string(), next: String::from(next) });
        }
    }
}

/// What came of a restore.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Folders that were restored.
    pub folders: u64,
    /// Messages that were restored; one in two folders counts twice.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Other files that were written.
    pub files: u64,
    /// Messages and files that were there already, as an earlier run had left them.
    pub already: u64,
    /// What was left out for a good reason: there is nothing that could be restored.
    pub skipped: Notes,
    /// What should have been restored and was not.
    pub failed: Notes,
}

impl Report {
    /// True if all that was meant is there.
    pub fn is_clean(&self) -> bool {
        self.failed.count == 0
    }

    /// What the snapshot is known to lack of what was asked for.
    pub fn lack(&mut self, lacking: Vec<Lacking>) {
        lacking.into_iter().for_each(|l| self.failed.add(l.what, l.why, &l.next));
    }

    /// What was asked for and is not in the snapshot.
    pub fn miss(&mut self, notes: Vec<Note>) {
        notes.into_iter().for_each(|Note { what, why, next }| self.failed.add(what, why, &next));
    }

    /// What an archive could not give.
    pub fn fail_with(&mut self, what: impl Into<String>, error: &Error) {
        let next = match error {
            Error::Damage(_) => "`cylinder verify` tells what is damaged; an older snapshot may have it (`cylinder log`)",
            _ => "",
        };
        self.failed.add(what, error, next);
    }
}
