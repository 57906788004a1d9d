//! What an archive knows: its snapshots, and at each of them the folders and their messages. For listing and for restoring.
//!
//! What must not come in: writing, printing.

use crate::archive::read::{CommitAt, Reader};
use crate::archive::record::{CommitKind, FolderRow, MessageAt, StateContent, StateRow, Table};
use crate::cyrus::header::{self, Header};
use crate::cyrus::index::{self, Index, Record};
use crate::error::{Damage, Error};
use crate::guid::Guid;
use crate::source::MetaFile;
use crate::source::capture::META_MAX;
use crate::time::Time;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Which snapshot is meant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// The newest.
    Newest,
    /// The one of this number.
    Number(u64),
    /// The newest that was made at this time or before.
    Time(Time),
}

/// All snapshots, newest first. Damage if the chain is broken.
pub async fn snapshots(reader: &Reader) -> Result<Vec<CommitAt>, Error> {
    let mut found = Vec::new();
    let mut at = Some(reader.head().clone());
    while let Some(commit) = at {
        at = reader.previous(&commit).await?;
        if commit.commit.kind == CommitKind::Snapshot {
            found.push(commit);
        }
    }
    Ok(found)
}

/// The snapshot that is meant. Refused if there is none. By time it is the one that was made last of those that are not later,
/// also where a clock was put back between two of them, so that each is found by its own time.
pub async fn snapshot(reader: &Reader, when: When) -> Result<CommitAt, Error> {
    let mut at = Some(reader.head().clone());
    let mut found: Option<CommitAt> = None;
    while let Some(commit) = at {
        let (number, made) = (commit.commit.number, commit.commit.time);
        let is_meant = match when {
            When::Newest => true,
            When::Number(n) => number == n,
            When::Time(time) => made <= time && found.as_ref().is_none_or(|found| found.commit.time < made),
        };
        let previous = reader.previous(&commit).await;
        if is_meant && commit.commit.kind == CommitKind::Snapshot {
            if !matches!(when, When::Time(_)) {
                return Ok(commit);
            }
            found = Some(commit);
        }
        at = match previous {
            Ok(previous) => previous,
            // What is older than the damage is no better than what was found.
            Err(_) if found.is_some() => break,
            Err(error) => return Err(error),
        };
    }
    found.ok_or_else(|| {
        Error::Refused(match when {
            When::Newest => String::from("the archive has no complete snapshot yet; `cylinder backup` goes on with the first"),
            When::Number(n) => format!("there is no snapshot {n}; `cylinder log` lists them"),
            When::Time(time) => {
                format!("there is no snapshot as old as {}; `cylinder log` lists them", crate::time::Civil::from_time(time))
            }
        })
    })
}

/// One message of a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageRow {
    /// What the index says.
    pub record: Record,
    /// SHA-1 of its content; from the index, or computed where that has none.
    pub guid: Guid,
    /// Not visible: expunged, and the file not yet removed.
    pub is_expunged: bool,
    /// The file was gone already: there is no content.
    pub is_unlinked: bool,
    /// System flags and keywords, in the spelling of IMAP.
    pub flags: Vec<Vec<u8>>,
}

/// A folder as it was at a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FolderView {
    /// cyrus.header, if it can be read.
    pub header: Option<Header>,
    /// The header of cyrus.index, if it can be read.
    pub index: Option<index::Header>,
    /// Messages in ascending order of UID.
    pub messages: Vec<MessageRow>,
    /// What could not be read.
    pub problems: Vec<Error>,
}

/// Reads the metadata of a folder from the archive.
pub async fn folder(reader: &Reader, row: &FolderRow) -> Result<FolderView, Error> {
    let mut view = FolderView::default();
    if let Some(bytes) = meta(reader, row, MetaFile::Header.name()).await? {
        match header::parse(&bytes) {
            Ok(header) => view.header = Some(header),
            Err(damage) => view.problems.push(damage.into()),
        }
    }
    let guids = match meta(reader, row, crate::backup::GUIDS).await? {
        Some(bytes) => crate::backup::parse_guids(&bytes),
        None => BTreeMap::new(),
    };
    for file in [MetaFile::Index, MetaFile::Expunge] {
        let Some(bytes) = meta(reader, row, file.name()).await? else { continue };
        let parsed = if file == MetaFile::Expunge { Index::parse_expunge(&bytes) } else { Index::parse(&bytes) };
        match parsed {
            Ok(index) => view.add(&index, file, &guids),
            Err(damage) => view.problems.push(damage.into()),
        }
    }
    view.messages.sort_by_key(|m| m.record.uid);
    Ok(view)
}

impl FolderView {
    fn add(&mut self, index: &Index<'_>, file: MetaFile, guids: &BTreeMap<u32, (Guid, u64)>) {
        if file == MetaFile::Index {
            self.index = Some(index.header().clone());
        }
        let names = self.header.as_ref().map_or(&[][..], |h| &h.user_flags);
        for record in index.records() {
            match record {
                Ok(record) => self.messages.push(MessageRow {
                    guid: if record.has_sha1_guid() {
                        record.guid
                    } else {
                        guids.get(&record.uid.0).map_or(Guid::NULL, |(guid, _)| *guid)
                    },
                    is_expunged: record.is_expunged() || file == MetaFile::Expunge,
                    is_unlinked: record.is_unlinked(),
                    flags: flags(&record, names),
                    record,
                }),
                Err(damage) => self.problems.push(damage.into()),
            }
        }
    }
}

fn flags(record: &Record, names: &[Option<Vec<u8>>]) -> Vec<Vec<u8>> {
    let system = index::flag::NAMES.iter().filter(|(bit, _)| record.system_flags & bit != 0);
    let mut flags: Vec<Vec<u8>> = system.map(|(_, name)| name.as_bytes().to_vec()).collect();
    let keywords = names.iter().enumerate().filter(|(n, _)| record.user_flag(*n));
    flags.extend(keywords.filter_map(|(_, name)| name.clone()));
    flags
}

/// The content of a folder's metadata file.
pub async fn meta(reader: &Reader, row: &FolderRow, name: &str) -> Result<Option<Vec<u8>>, Error> {
    match row.file(name).and_then(|file| file.at.location()) {
        Some(at) => reader.read_entry(at, META_MAX).await.map(Some),
        None => Ok(None),
    }
}

/// The content of a file that belongs to no folder, such as `meta/sub`.
pub async fn state(reader: &Reader, table: &Table, name: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let row = table.states.iter().find(|row| row.name == name);
    match row.map(|row| &row.content) {
        Some(StateContent::File { at, .. }) => match at.location() {
            Some(at) => reader.read_entry(at, META_MAX).await.map(Some),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// The SHA-1 of a file that belongs to no folder; of a link that of its target.
pub fn state_sha1(row: &StateRow) -> Guid {
    match &row.content {
        StateContent::File { sha1, .. } => *sha1,
        StateContent::Link { target, .. } => Guid::of(target),
    }
}

/// Where each message of the archive is, by SHA-1; 40 bytes for each.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Locations {
    messages: Vec<MessageAt>,
    /// Why some lists could not be read. Their messages are not known.
    pub damage: Vec<Damage>,
}

impl Locations {
    /// Reads the lists of all commits.
    pub async fn load(reader: &Reader) -> Result<Locations, Error> {
        let (messages, damage) = reader.all_messages().await?;
        Ok(Locations { messages, damage })
    }

    /// Where a message is.
    pub fn find(&self, guid: &Guid) -> Option<MessageAt> {
        self.messages.binary_search_by_key(guid, |m| m.guid).ok().map(|at| self.messages[at])
    }

    /// All of them, in ascending order of SHA-1.
    pub fn all(&self) -> &[MessageAt] {
        &self.messages
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}
