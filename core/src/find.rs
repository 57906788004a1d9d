//! Looking for messages by what the indexes of an archive say of them: size, dates, SHA-1, flags. No message is read.
//!
//! The snapshots that are asked for are gone through from the newest on, and an index that several of them share is read once.
//! Memory: the messages that are found. What must not come in: users, content of messages, printing.

use crate::archive::read::{CommitAt, Reader};
use crate::archive::record::{FolderRow, Location};
use crate::backup::GUIDS;
use crate::error::Error;
use crate::guid::Guid;
use crate::source::MetaFile;
use crate::time::Time;
use crate::view::{self, FolderView, MessageRow, When};
use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Where to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// In one snapshot.
    At(When),
    /// In all of them.
    Ever,
}

/// What a message must be; what is `None` does not matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Query {
    /// The SHA-1 of its content.
    pub guid: Option<Guid>,
    /// It came at this time or later (INTERNALDATE).
    pub since: Option<Time>,
    /// It came before this time.
    pub before: Option<Time>,
    /// It has more bytes.
    pub larger: Option<u64>,
    /// It has fewer bytes.
    pub smaller: Option<u64>,
    /// It may have been expunged, if its file was still there.
    pub expunged: bool,
}

impl Query {
    /// True if this is such a message.
    pub fn fits(&self, m: &MessageRow) -> bool {
        let (date, size) = (m.record.internaldate, m.record.size);
        !m.is_unlinked
            && (self.expunged || !m.is_expunged)
            && self.guid.is_none_or(|guid| guid == m.guid)
            && self.since.is_none_or(|since| since <= date)
            && self.before.is_none_or(|before| date < before)
            && self.larger.is_none_or(|larger| larger < size)
            && self.smaller.is_none_or(|smaller| size < smaller)
    }
}

/// A message that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hit {
    /// The newest snapshot, of those that were asked for, that has it.
    pub snapshot: u64,
    /// The folder's name then.
    pub folder: Arc<[u8]>,
    /// UID.
    pub uid: u32,
    /// SHA-1 of its content.
    pub guid: Guid,
    /// Bytes.
    pub size: u64,
    /// INTERNALDATE.
    pub date: Time,
    /// It was expunged.
    pub is_expunged: bool,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// From the newest snapshot to the oldest, by folder and UID; a message that stays in its folder once.
    pub hits: Vec<Hit>,
    /// Records of indexes that were looked at.
    pub records: u64,
    /// What could not be read, so that messages may be missing.
    pub problems: Vec<Error>,
}

/// Where the files are that tell of the messages of a folder: snapshots that share them have the same messages.
pub(crate) type Version = [Option<Location>; 3];

/// The version of a folder's messages.
pub(crate) fn version(row: &FolderRow) -> Version {
    [MetaFile::Index.name(), MetaFile::Expunge.name(), GUIDS].map(|name| row.file(name).and_then(|file| file.at.location()))
}

/// Looks for messages.
pub async fn find(reader: &Reader, scope: Scope, query: &Query) -> Result<Found, Error> {
    let snapshots = match scope {
        Scope::At(when) => alloc::vec![view::snapshot(reader, when).await?],
        Scope::Ever => view::snapshots(reader).await?,
    };
    let (mut found, mut versions, mut known) = (Found::default(), BTreeSet::new(), BTreeSet::new());
    for at in &snapshots {
        for (row, view) in news(reader, at, &mut versions, &mut found.problems).await? {
            let (folder, id): (Arc<[u8]>, Arc<[u8]>) = (row.name.into(), row.id.into());
            found.records += view.messages.len() as u64;
            for m in view.messages.iter().filter(|m| query.fits(m)) {
                let uid = m.record.uid.0;
                if scope != Scope::Ever || known.insert((id.clone(), uid, m.guid)) {
                    found.hits.push(Hit {
                        snapshot: at.commit.number,
                        folder: folder.clone(),
                        uid,
                        guid: m.guid,
                        size: m.record.size,
                        date: m.record.internaldate,
                        is_expunged: m.is_expunged,
                    });
                }
            }
        }
    }
    Ok(found)
}

/// The folders of a snapshot whose versions are not among those that were seen.
pub(crate) async fn news(
    reader: &Reader,
    at: &CommitAt,
    seen: &mut BTreeSet<Version>,
    problems: &mut Vec<Error>,
) -> Result<Vec<(FolderRow, FolderView)>, Error> {
    let table = match reader.table(at).await {
        Ok(table) => table,
        Err(error @ Error::Damage(_)) => {
            problems.push(error);
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let mut news = Vec::new();
    for row in table.folders {
        if !seen.insert(version(&row)) {
            continue;
        }
        match view::folder(reader, &row).await {
            Ok(mut view) => {
                problems.append(&mut view.problems);
                news.push((row, view));
            }
            Err(error @ Error::Damage(_)) => problems.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(news)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cyrus::index::Record;
    use alloc::string::ToString;

    fn message() -> MessageRow {
        let record = Record { internaldate: Time::from_secs(1000), size: 500, ..Record::default() };
        MessageRow { record, guid: Guid::of(b"x"), is_expunged: false, is_unlinked: false, flags: Vec::new() }
    }

    /// `since` has its moment in it; `before`, `larger` and `smaller` do not.
    #[test]
    fn what_is_asked_for_has_its_limits() {
        let fits = |query: Query| query.fits(&message());
        let time = |secs| Some(Time::from_secs(secs));
        assert!(fits(Query::default()));
        assert_eq!([999, 1000, 1001].map(|at| fits(Query { since: time(at), ..Query::default() })), [true, true, false]);
        assert_eq!([999, 1000, 1001].map(|at| fits(Query { before: time(at), ..Query::default() })), [false, false, true]);
        assert_eq!([499, 500, 501].map(|n| fits(Query { larger: Some(n), ..Query::default() })), [true, false, false]);
        assert_eq!([499, 500, 501].map(|n| fits(Query { smaller: Some(n), ..Query::default() })), [false, false, true]);
        assert_eq!([&b"x"[..], b"y"].map(|of| fits(Query { guid: Some(Guid::of(of)), ..Query::default() })), [true, false]);
        // All that is asked for, not any of it.
        assert!(!fits(Query { since: time(999), larger: Some(500), ..Query::default() }));
        assert!(!fits(Query { guid: Some(Guid::of(b"y")), smaller: Some(501), ..Query::default() }));
    }

    #[test]
    fn what_is_expunged_is_found_if_it_is_asked_for_and_its_file_was_there() {
        for (is_expunged, is_unlinked, expected) in [
            (false, false, "true true"),
            (true, false, "false true"),
            (true, true, "false false"),
            (false, true, "false false"),
        ] {
            let m = MessageRow { is_expunged, is_unlinked, ..message() };
            let found = [false, true].map(|expunged| Query { expunged, ..Query::default() }.fits(&m).to_string());
            assert_eq!(found.join(" "), expected);
        }
    }
}
