//! What was asked for and is not in the chosen snapshot: a user who was deleted before it, a folder, a message by its SHA-1 or
//! Message-ID. Each is told together with the snapshot that has it. All ways of restoring ask here.
//!
//! Nothing is searched unless something is missing. What must not come in: where things are restored to.

use super::fields;
use super::report::Note;
use super::select::{Kind, Scope, Selection, is_deleted_folder};
use crate::archive::read::{CommitAt, Reader};
use crate::archive::record::{FolderRow, Table};
use crate::archive::standing::Cause;
use crate::cyrus::names::Owner;
use crate::error::Error;
use crate::escape::{Shown, shown};
use crate::find::news;
use crate::guid::Guid;
use crate::named;
use crate::time::{Civil, Time};
use crate::view;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What of the things that were named has been seen while the folders of a selection were read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Seen {
    /// Numbers of the folders that were read.
    pub folders: BTreeSet<usize>,
    /// Of the wanted messages.
    pub guids: BTreeSet<Guid>,
    /// Of the wanted Message-IDs.
    pub ids: BTreeSet<Vec<u8>>,
}

/// Where a message is that was not found where it was looked for.
struct Holder {
    snapshot: CommitAt,
    folder: Vec<u8>,
    uid: u32,
    /// It was expunged, or its folder was deleted.
    is_deleted: bool,
}

/// What was asked for and is not there, each with the snapshot that has it. Folders that nobody has read yet are read.
pub async fn absent(selection: &Selection<'_>) -> Result<Vec<Note>, Error> {
    let wish = &selection.wish;
    if wish.guids.is_empty() && wish.message_ids.is_empty() {
        let is_whole = wish.scope == Scope::All && wish.kind != Kind::Deleted;
        return Ok(if is_whole { user(selection).await?.into_iter().collect() } else { Vec::new() });
    }
    for n in selection.unread() {
        selection.folder(n).await?;
    }
    let seen = selection.seen();
    let guids: BTreeSet<Guid> = wish.guids.difference(&seen.guids).copied().collect();
    let ids: BTreeSet<Vec<u8>> = wish.message_ids.difference(&seen.ids).cloned().collect();
    let guids_of = if ids.is_empty() { BTreeMap::new() } else { with_ids(selection, &ids).await? };
    let wanted = guids_of.values().flatten().chain(&guids).copied().collect();
    let holders = holders(selection, wanted).await?;
    let mut notes: Vec<Note> = guids.iter().map(|guid| note(selection, format!("message {guid}"), holders.get(guid))).collect();
    for id in &ids {
        let those = guids_of.get(id).into_iter().flatten().filter_map(|guid| holders.get(guid));
        let best = those.max_by_key(|holder| (is_chosen(selection, holder), holder.snapshot.commit.number));
        notes.push(note(selection, format!("message with Message-ID <{}>", shown(id)), best));
    }
    Ok(notes)
}

/// The row of a folder in the table of a snapshot, by any name that [`named::resolve`] takes. If it is not there, the error
/// names the snapshot that has it, or the nearest names.
pub async fn folder<'t>(
    reader: &Reader,
    owner: &Owner,
    at: &CommitAt,
    table: &'t Table,
    asked: &[u8],
) -> Result<&'t FolderRow, Error> {
    if named::resolve(owner, table, asked)?.is_none() {
        return Err(no_folder(reader, owner, at, table, asked).await?);
    }
    named::find(owner, table, asked)
}

/// The error for a folder that is not in the chosen snapshot, which has this table.
pub(super) async fn no_folder(
    reader: &Reader,
    owner: &Owner,
    chosen: &CommitAt,
    table: &Table,
    folder: &[u8],
) -> Result<Error, Error> {
    let has_it = |table: &Table| named::find(owner, table, folder).is_ok();
    let next = match newest(reader, &has_it).await? {
        Some(at) => format!("; snapshot {} is the newest that has it: {}", number_and_time(&at), option(&at)),
        None => {
            let nearest = named::nearest(owner, table, folder);
            format!(", nor in any other{nearest}; `cylinder list USER` lists those of the newest")
        }
    };
    let number = chosen.commit.number;
    Ok(Error::Refused(format!("there is no folder `{}` in snapshot {number}{next}", Shown(folder))))
}

/// Since when the server has had no mailbox of the owner, if the snapshot has the folders of before that. They stand in it
/// because nobody can tell a user who was deleted at once from a disk that is not mounted.
pub fn gone_since(owner: &Owner, at: &CommitAt, table: &Table) -> Option<Time> {
    at.commit.standing.gone.filter(|_| is_living(owner, table))
}

/// A note for a user who is gone from the server as somebody has acknowledged: of everybody, this one is not meant.
pub fn departed(selection: &Selection<'_>) -> Option<Note> {
    let since = gone_since(&selection.owner, &selection.at, &selection.table)?;
    let alarms = &selection.reader().head().commit.standing.alarms;
    if alarms.iter().any(|alarm| alarm.cause == Cause::Vanished) {
        return None;
    }
    let why = format!("has been gone from the server since {}, as was acknowledged", Civil::from_time(since));
    let next = String::from("name the user to restore what was there before");
    Some(Note { what: selection.owner.shown(), why, next })
}

/// A note if the user has no folder in the snapshot, or only deleted ones.
async fn user(selection: &Selection<'_>) -> Result<Option<Note>, Error> {
    let owner = &selection.owner;
    // What lacks is named by itself.
    if is_living(owner, &selection.table) || !selection.table.lacking.is_empty() {
        return Ok(None);
    }
    let number = selection.at.commit.number;
    let (why, also) = if selection.table.folders.is_empty() {
        (format!("snapshot {number} has no folder of this user, who had been deleted before it was taken"), "")
    } else {
        let why = format!("snapshot {number} has only deleted folders of this user, who had been deleted before it was taken");
        (why, "; or restore the deleted folders by their names, as `cylinder list` tells them")
    };
    let next = match newest(selection.reader(), &|table| is_living(owner, table)).await? {
        Some(at) => {
            format!("snapshot {} is the newest that has the user's folders: {}{also}", number_and_time(&at), option(&at))
        }
        None => String::from("no snapshot of the archive has any"),
    };
    Ok(Some(Note { what: owner.shown(), why, next }))
}

/// True if the owner has a folder there that is not deleted.
fn is_living(owner: &Owner, table: &Table) -> bool {
    table.folders.iter().any(|row| !is_deleted_folder(owner, &row.name))
}

/// The newest snapshot with such a table. Tables that are damaged are passed over.
async fn newest(reader: &Reader, is_meant: &dyn Fn(&Table) -> bool) -> Result<Option<CommitAt>, Error> {
    for at in view::snapshots(reader).await? {
        match reader.table(&at).await {
            Ok(table) if is_meant(&table) => return Ok(Some(at)),
            Ok(_) | Err(Error::Damage(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// All messages of the archive with one of these Message-IDs.
async fn with_ids(selection: &Selection<'_>, ids: &BTreeSet<Vec<u8>>) -> Result<BTreeMap<Vec<u8>, BTreeSet<Guid>>, Error> {
    let mut found: BTreeMap<Vec<u8>, BTreeSet<Guid>> = BTreeMap::new();
    let mut take = |guid: Guid, top: Result<&[u8], Error>| {
        // What is damaged cannot be offered either.
        let id = top.ok().and_then(|top| fields::field(top, "Message-ID"));
        if let Some(id) = id.map(|id| fields::bare_id(&id).to_vec()).filter(|id| ids.contains(id)) {
            found.entry(id).or_default().insert(guid);
        }
    };
    selection.headers(selection.locations().all().to_vec(), &mut take).await?;
    Ok(found)
}

/// Where these messages are: in the chosen snapshot if they are anywhere in it, else in the newest that has them.
async fn holders(selection: &Selection<'_>, mut wanted: BTreeSet<Guid>) -> Result<BTreeMap<Guid, Holder>, Error> {
    let (mut found, mut versions): (BTreeMap<Guid, Holder>, _) = (BTreeMap::new(), BTreeSet::new());
    let mut snapshots = Vec::from([selection.at.clone()]);
    snapshots.extend(view::snapshots(selection.reader()).await?);
    for at in &snapshots {
        if wanted.is_empty() {
            break;
        }
        // What cannot be read is told by `verify`; what it has is not found here.
        for (row, view) in news(selection.reader(), at, &mut versions, &mut Vec::new()).await? {
            let in_trash = is_deleted_folder(&selection.owner, &row.name);
            for m in view.messages.iter().filter(|m| !m.is_unlinked && wanted.contains(&m.guid)) {
                let is_deleted = in_trash || m.is_expunged;
                let is_better = found.get(&m.guid).is_none_or(|known| known.is_deleted && !is_deleted);
                if is_better {
                    let (snapshot, folder, uid) = (at.clone(), row.name.clone(), m.record.uid.0);
                    found.insert(m.guid, Holder { snapshot, folder, uid, is_deleted });
                }
            }
        }
        wanted.retain(|guid| !found.contains_key(guid));
    }
    Ok(found)
}

fn is_chosen(selection: &Selection<'_>, holder: &Holder) -> bool {
    holder.snapshot.commit.number == selection.at.commit.number
}

fn note(selection: &Selection<'_>, what: String, holder: Option<&Holder>) -> Note {
    let number = selection.at.commit.number;
    let Some(holder) = holder else {
        let next = String::from("no snapshot of this archive has it; `cylinder find --all --ever` looks at those of all users");
        return Note { what, why: format!("is not in snapshot {number}"), next };
    };
    let Holder { snapshot, folder, uid, is_deleted } = holder;
    let place = format!("{}/{uid}", shown(folder));
    let deleted = if *is_deleted { ", deleted" } else { "" };
    // Of a deleted message it must be said that it is wanted, unless that was said or everything is.
    let also = if *is_deleted && selection.wish.kind == Kind::Visible { " --only-deleted" } else { "" };
    if !is_chosen(selection, holder) {
        let next = format!(
            "snapshot {} is the newest that has it ({place}{deleted}): {}{also}",
            number_and_time(snapshot),
            option(snapshot)
        );
        return Note { what, why: format!("is not in snapshot {number}"), next };
    }
    let why = format!("is in snapshot {number} ({place}{deleted}), but is not selected by the other options");
    let next = match also {
        "" => "name its folder, and leave the other options out".into(),
        _ => format!("restore it with{also}"),
    };
    Note { what, why, next }
}

fn number_and_time(at: &CommitAt) -> String {
    format!("{} of {}", at.commit.number, Civil::from_time(at.commit.time))
}

/// The option that takes this snapshot.
fn option(at: &CommitAt) -> String {
    format!("--at {}", at.commit.number)
}
