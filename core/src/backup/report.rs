//! What a run came to, for whoever prints it and for the exit status.
//!
//! What must not come in: printing.

use crate::archive::standing::Alarm;
use crate::error::Error;
use crate::guid::Guid;
use crate::time::{Span, Time};
use alloc::string::String;
use alloc::vec::Vec;

/// Problems that are listed one by one; more are only counted.
pub const PROBLEMS_LISTED_MAX: usize = 1000;

/// The outcome of a run over one user.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// The number of the commit that was written; `None` if nothing had changed.
    pub commit: Option<u64>,
    /// Folders that the user has; of a user of whom the server has nothing, those of the last snapshot, which stay.
    pub folders: u64,
    /// Folders whose metadata was read.
    pub folders_changed: u64,
    /// Names that came, by creation or rename.
    pub names_new: u64,
    /// Names that went.
    pub names_gone: u64,
    /// Messages that were appended.
    pub messages_added: u64,
    /// Their bytes.
    pub bytes_added: u64,
    /// Visible messages, those in several folders counted in each.
    pub messages: u64,
    /// Length of the archive, in bytes.
    pub archive_bytes: u64,
    /// The longest time for which locks were held.
    pub longest_hold: Span,
    /// Folders changed in every round of the capture: the set may not be of one moment.
    pub unsettled: bool,
    /// Alarms that this run has raised, or widened.
    pub raised: Vec<Alarm>,
    /// Alarms that stand, those of this run among them: nobody has acknowledged them yet.
    pub alarms: Vec<Alarm>,
    /// Since when the server has no folder of the user.
    pub gone: Option<Time>,
    /// The archive is of this other source, and nothing was saved.
    pub other_home: Option<String>,
    /// Messages that a run which did not end had saved, and that no folder of the server has.
    pub unclaimed: u64,
    /// What could not be saved, at most [`PROBLEMS_LISTED_MAX`] of them.
    pub problems: Vec<Problem>,
    /// How many problems there were.
    pub problems_count: u64,
    /// What opening the archive found: an interrupted run was mended, a damaged end set aside. Worded for a person.
    pub notes: Vec<String>,
}

impl Report {
    /// True if everything that the user has is saved, and no alarm stands.
    pub fn is_clean(&self) -> bool {
        self.problems_count == 0 && self.alarms.is_empty()
    }

    /// True if the archive is damaged.
    pub fn is_damaged(&self) -> bool {
        self.problems.iter().any(|problem| matches!(problem, Problem::Archive { .. }))
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.problems_count += 1;
        if self.problems.len() < PROBLEMS_LISTED_MAX {
            self.problems.push(problem);
        }
    }
}

/// Something that could not be saved as it should be. The rest of the user is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Problem {
    /// The archive itself: what can be read of it was used, the rest was fetched anew.
    Archive {
        /// What is wrong.
        error: Error,
    },
    /// Messages that a run which did not end had saved, and that no folder of the server has. The archive keeps them.
    Unclaimed {
        /// How many.
        count: u64,
    },
    /// A message.
    Message {
        /// The folder's name.
        folder: Vec<u8>,
        /// UID.
        uid: u32,
        /// The GUID that the index gives, if it gives one.
        guid: Option<Guid>,
        /// The file, escaped.
        path: String,
        /// What is wrong.
        why: Why,
    },
    /// A record of cyrus.index that cannot be read.
    Record {
        /// The folder's name.
        folder: Vec<u8>,
        /// What is wrong.
        error: Error,
    },
    /// A file of the user that belongs to no folder; the archive keeps what it had.
    State {
        /// Its name in the archive.
        name: Vec<u8>,
        /// What is wrong.
        error: Error,
    },
    /// A whole folder: its metadata could not be read; the archive keeps what it had.
    Folder {
        /// The folder's name.
        folder: Vec<u8>,
        /// What is wrong.
        error: Error,
    },
    /// A folder whose cyrus.header cannot be read, or is not there: it has the names of the keywords.
    Header {
        /// The folder's name.
        folder: Vec<u8>,
        /// What is wrong.
        error: Error,
        /// That of an earlier snapshot stands in its place.
        is_kept: bool,
    },
    /// A file of the user that is damaged on the server.
    Damaged {
        /// Its name in the archive.
        name: Vec<u8>,
        /// What is wrong.
        error: Error,
        /// That of an earlier snapshot stands in its place; else it is saved as it lies.
        is_kept: bool,
    },
    /// A folder to which mailboxes.db and cyrus.header give no uniqueid, or two. It is saved, under the one that is told.
    Identity {
        /// The folder's name.
        folder: Vec<u8>,
        /// The uniqueid in mailboxes.db, if there is one.
        entry: Option<Vec<u8>>,
        /// The uniqueid under which it is saved.
        id: Vec<u8>,
    },
    /// A folder with the uniqueid of another. Both are saved, and Cylinder tells them apart; but entries of the archive are
    /// named by uniqueid, so that a tar program extracts the metadata of only one.
    Twin {
        /// The folder's name.
        folder: Vec<u8>,
        /// The other's.
        other: Vec<u8>,
        /// The uniqueid of both.
        id: Vec<u8>,
    },
}

/// What is wrong with a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// There is no such file.
    Absent,
    /// It cannot be read.
    Unreadable(Error),
    /// Its content does not have the SHA-1 or the length that the index gives. It is saved under the SHA-1 that it has.
    Mismatch {
        /// SHA-1 of the content.
        found: Guid,
        /// Length of the content in bytes.
        found_size: u64,
        /// Length in the index.
        expected_size: u64,
    },
}
