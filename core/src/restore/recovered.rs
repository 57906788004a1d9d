//! Messages that no index of any snapshot names: damage to the archive has taken the index that did, or a run that saved them
//! did not end. They are restored in a folder of their own.
//!
//! Memory: 20 bytes for each message that an index names, 60 for each that none does. What must not come in: what a snapshot
//! has.

use super::select::{Body, Folder, Message};
use crate::archive::read::Reader;
use crate::archive::record::{CommitKind, FolderRow, MessageAt, Table};
use crate::cyrus::index::{Record, Uid};
use crate::cyrus::names::Owner;
use crate::error::Error;
use crate::find::version;
use crate::guid::Guid;
use crate::time::Time;
use crate::view::{self, MessageRow};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Messages that no index names, each with the time of its entry, which is its INTERNALDATE on most servers.
pub(super) async fn unnamed(reader: &Reader) -> Result<Vec<(MessageAt, Time)>, Error> {
    let named = named(reader).await?;
    // What is wrong with lists of messages, verifying tells.
    let (all, _) = reader.all_messages().await?;
    let mut found: Vec<MessageAt> = all.into_iter().filter(|message| !named.contains(&message.guid)).collect();
    found.sort_by_key(|message| message.at);
    if found.is_empty() {
        return Err(Error::Refused(String::from(
            "every message of the archive is named by a snapshot: there is nothing to recover",
        )));
    }
    reader.times(&found).await
}

/// All messages that an index of a snapshot names, and that snapshots say to be other content than the index describes.
async fn named(reader: &Reader) -> Result<BTreeSet<Guid>, Error> {
    let (mut named, mut versions) = (BTreeSet::new(), BTreeSet::new());
    let mut next = Some(reader.head().clone());
    while let Some(commit) = next {
        if commit.commit.kind == CommitKind::Snapshot {
            let table = match reader.table(&commit).await {
                Err(Error::Damage(_)) => Table::default(),
                other => other?,
            };
            for row in &table.folders {
                named.extend(row.missing.iter().filter_map(|missing| missing.found));
                if !versions.insert(version(row)) {
                    continue;
                }
                match view::folder(reader, row).await {
                    Ok(view) => named.extend(view.messages.iter().map(|message| message.guid)),
                    Err(Error::Damage(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        next = match reader.previous(&commit).await {
            Err(Error::Damage(_)) => None,
            other => other?,
        };
    }
    Ok(named)
}

/// A row for the folder, under a name that no other has.
pub(super) fn row(owner: &Owner, table: &Table) -> FolderRow {
    let top = match owner {
        Owner::User(_) => "INBOX.Recovered",
        Owner::Shared => "Recovered",
    };
    let mut names = core::iter::once(String::from(top)).chain((2..).map(|n| format!("{top} {n}")));
    let name = names.find(|name| table.folder(name.as_bytes()).is_none()).unwrap_or_default().into_bytes();
    FolderRow { name, id: b"recovered".to_vec(), ..FolderRow::default() }
}

/// The folder, with these messages.
pub(super) fn folder(row: &FolderRow, messages: &[(MessageAt, Time)], takes: impl Fn(&MessageRow) -> bool) -> Folder {
    let message = |(n, (at, time)): (usize, &(MessageAt, Time))| {
        let uid = Uid(u32::try_from(n + 1).unwrap_or(u32::MAX));
        let record = Record { uid, internaldate: *time, size: at.size, guid: at.guid, ..Record::default() };
        let row = MessageRow { record, guid: at.guid, is_expunged: false, is_unlinked: false, flags: Vec::new() };
        Message { row, annotations: Vec::new(), body: Body::At(*at) }
    };
    let messages: Vec<Message> = messages.iter().enumerate().map(message).filter(|message| takes(&message.row)).collect();
    Folder { name: row.name.clone(), id: row.id.clone(), records: messages.len() as u64, messages, ..Folder::default() }
}
