//! Into the original folders: what of a user's mail is somewhere else by now.
//!
//! A message that is no longer in its folder has often been filed in another one since. Putting it back would make it twice, so
//! it is left out, and counted as being elsewhere. What counts is copies: a folder of the server that has more copies of a
//! content than the snapshot has there holds filed ones, and only if these are as many as all folders together lack of it, they
//! stand for those that lack. So a copy that an earlier run has put back where it belongs stands for no other one. Where a
//! filed copy means nothing: folders with the special use `\Trash`, and trees that were restored. This needs a server that
//! tells SHA-1s; on others only the folder itself is looked at.
//!
//! A message that its own folder had when it was looked at, and has no more when its turn comes, was filed meanwhile.
//!
//! While one folder is looked at, a client may move a message out of a folder that has not been looked at into one that has, or
//! give a folder another name. So everything is looked at again until nothing has come to or gone from anywhere since; only
//! what has news is read again. What must not come in: adding messages.

use super::deliver::Present;
use super::names::Names;
use crate::error::Error;
use crate::guid::Guid;
use crate::imap::client::{Client, Listed, Opened};
use crate::restore::select::{Selection, is_deleted_folder};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// How often everything is looked at while clients do not rest.
const ROUNDS: usize = 8;

/// Messages of a user's folders.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Everywhere {
    /// Contents that are in other folders as often as their own ones lack them.
    pub filed: BTreeSet<Guid>,
    /// What folders of the snapshot had when they were looked at, by their names on the server.
    pub looked: BTreeMap<Vec<u8>, Present>,
    /// Nothing came to any folder or went from it while all were looked at. Otherwise something may have been overlooked.
    pub is_settled: bool,
}

/// What a folder was found to be.
struct Seen {
    /// UIDVALIDITY, the next UID and the number of messages when it was read: other ones are news.
    stamp: (u32, u32, u64),
    /// Copies more than the snapshot has there.
    more: Present,
    /// Copies fewer than the snapshot has there.
    fewer: Present,
}

/// The messages that are in the folders of the user who is logged in, against those of the snapshot.
/// `aims` are the names on the server of the snapshot's folders, by those of the archive.
pub async fn everywhere(
    client: &mut Client,
    names: &Names,
    selection: &Selection<'_>,
    aims: &BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<Everywhere, Error> {
    let mut all = Everywhere { is_settled: true, ..Everywhere::default() };
    if !client.can("DIGEST=SHA1") {
        return Ok(all);
    }
    let living = selection.table.folders.iter().filter(|row| !is_deleted_folder(&selection.owner, &row.name));
    let rows: BTreeMap<Vec<u8>, _> = living.filter_map(|row| Some((aims.get(&row.name)?.clone(), row))).collect();
    let mut seen = BTreeMap::new();
    for _ in 0..ROUNDS {
        all.is_settled = true;
        let listed = client.list_all().await?;
        let counts =
            |mailbox: &Listed| mailbox.is_selectable && names.is_own(&mailbox.name) && !names.is_in_tree(&mailbox.name);
        let listed: BTreeMap<Vec<u8>, Listed> =
            listed.into_iter().filter(counts).map(|mailbox| (mailbox.name.clone(), mailbox)).collect();
        let before = seen.len();
        seen.retain(|name, _| listed.contains_key(name));
        all.is_settled &= before == seen.len();
        for (name, mailbox) in listed {
            let stamp = seen.get(&name).map(|seen: &Seen| seen.stamp);
            let Some((opened, present)) = look(client, &name, stamp).await? else { continue };
            let wanted = match rows.get(&name) {
                Some(row) => counted(selection.contents(row).await?),
                None => Present::new(),
            };
            let more = if mailbox.is_trash { Present::new() } else { surplus(&present, &wanted) };
            let now = Seen { stamp: stamp_of(&opened), more, fewer: surplus(&wanted, &present) };
            all.is_settled &= stamp == Some(now.stamp);
            if rows.contains_key(&name) {
                all.looked.insert(name.clone(), present);
            }
            seen.insert(name, now);
        }
        if all.is_settled {
            break;
        }
    }
    let mut more = Present::new();
    for (guid, count) in seen.values().flat_map(|seen| &seen.more) {
        *more.entry(*guid).or_default() += count;
    }
    let mut fewer = Present::new();
    let mut lacks = |guid: Guid, count: u64| {
        if more.contains_key(&guid) {
            *fewer.entry(guid).or_default() += count;
        }
    };
    seen.values().flat_map(|seen| &seen.fewer).for_each(|(guid, count)| lacks(*guid, *count));
    for (_, row) in rows.iter().filter(|(name, _)| !seen.contains_key(*name)) {
        selection.contents(row).await?.into_iter().for_each(|guid| lacks(guid, 1));
    }
    all.filed =
        more.into_iter().filter(|(guid, count)| *count >= fewer.get(guid).copied().unwrap_or(0)).map(|(g, _)| g).collect();
    Ok(all)
}

/// Reads a folder. `None` if it has no news since the look with this stamp. One that cannot be read may have another name by
/// now, which the next look finds.
async fn look(client: &mut Client, name: &[u8], stamp: Option<(u32, u32, u64)>) -> Result<Option<(Opened, Present)>, Error> {
    let (none, mut present) = (Opened::default(), Present::new());
    let opened = client.open_mailbox(name, false).await?.unwrap_or(none);
    if stamp == Some(stamp_of(&opened)) {
        return Ok(None);
    }
    let mut count = |guid: Option<Guid>| guid.into_iter().for_each(|guid| *present.entry(guid).or_default() += 1);
    if opened.exists > 0 && client.fetch("1:*", "DIGEST.SHA1", &mut |message| count(message.guid)).await?.is_err() {
        return Ok(Some((Opened::default(), Present::new())));
    }
    Ok(Some((opened, present)))
}

fn stamp_of(opened: &Opened) -> (u32, u32, u64) {
    (opened.uidvalidity, opened.uidnext, opened.exists)
}

fn counted(guids: Vec<Guid>) -> Present {
    let mut out = Present::new();
    guids.into_iter().for_each(|guid| *out.entry(guid).or_default() += 1);
    out
}

/// What the first has more than the second.
pub fn surplus(first: &Present, second: &Present) -> Present {
    let over = |(guid, count): (&Guid, &u64)| {
        let over = count.saturating_sub(second.get(guid).copied().unwrap_or(0));
        (over > 0).then_some((*guid, over))
    };
    first.iter().filter_map(over).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surplus_is_counted_by_copies() {
        let of = |letters: &[u8]| counted(letters.iter().map(|c| Guid::of(&[*c])).collect());
        assert_eq!(surplus(&of(b"aaabcc"), &of(b"abd")), of(b"aacc"));
        assert_eq!(surplus(&of(b"a"), &of(b"ab")), Present::new());
    }
}
