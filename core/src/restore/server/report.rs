//! What a restore is going to do, and what it has done.
//!
//! What must not come in: printing.

use crate::lacking::Lacking;
use crate::restore::report::Note;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Failures of one folder that are named; more are only counted.
pub const FAILURES_NAMED_MAX: usize = 1000;

/// A thing that could not be restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// What: a UID and a SHA-1, or a folder. Escaped for printing.
    pub what: String,
    /// Why, and what to do next if there is something to do.
    pub why: String,
}

/// What becomes of one folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FolderReport {
    /// Its name in the archive, escaped for printing.
    pub name: String,
    /// The name on the server, escaped for printing.
    pub target: String,
    /// It is not on the server, and is made.
    pub is_created: bool,
    /// Messages that are put there.
    pub added: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Messages that are there already.
    pub present: u64,
    /// Messages that are not there, but in another folder of the user, and therefore left out.
    pub elsewhere: u64,
    /// Messages that are not there any more, whose flags were to come back.
    pub gone: u64,
    /// Messages whose flags are changed.
    pub changed: u64,
    /// Why the folder as a whole is left as it is, if it is.
    pub skipped: Option<String>,
    /// Failures, the first [`FAILURES_NAMED_MAX`] of them.
    pub failures: Vec<Failure>,
    /// How many there are.
    pub failed: u64,
}

impl FolderReport {
    /// Adds a failure.
    pub fn fail(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.failed += 1;
        if self.failures.len() < FAILURES_NAMED_MAX {
            self.failures.push(Failure { what: what.into(), why: why.into() });
        }
    }
}

/// What becomes of all that was selected.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The top of the folder tree that is made, escaped for printing.
    pub tree: Option<String>,
    /// Folders in the order in which they are handled.
    pub folders: Vec<FolderReport>,
    /// What belongs to no folder and was restored, such as `subscriptions`, and how many of each.
    pub others: Vec<(&'static str, u64)>,
    /// Failures that belong to no folder.
    pub failures: Vec<Failure>,
    /// What somebody should know, though nothing failed.
    pub notes: Vec<String>,
    /// It ended before it was done, for this reason; run again, it goes on.
    pub ended_early: Option<String>,
}

impl Report {
    /// True if all that was selected is where it should be.
    pub fn is_clean(&self) -> bool {
        self.failures.is_empty() && self.ended_early.is_none() && self.folders.iter().all(|folder| folder.failed == 0)
    }

    /// The sum of something over all folders.
    pub fn sum(&self, of: impl Fn(&FolderReport) -> u64) -> u64 {
        self.folders.iter().map(of).fold(0, u64::saturating_add)
    }

    /// Adds what the snapshot is known to lack of what was asked for.
    pub fn lack(&mut self, lacking: Vec<Lacking>) {
        lacking.into_iter().for_each(|l| self.fail(l.what, format!("{}; {}", l.why, l.next)));
    }

    /// What was asked for and is not in the snapshot.
    pub fn miss(&mut self, notes: Vec<Note>) {
        notes.into_iter().for_each(|Note { what, why, next }| self.fail(what, format!("{why}; {next}")));
    }

    /// Adds a failure that belongs to no folder.
    pub fn fail(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.failures.push(Failure { what: what.into(), why: why.into() });
    }
}
