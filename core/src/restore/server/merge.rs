//! Into the original folders: what of a user's mail is somewhere else by now.
//!
//! A message that is no longer in its folder has often been filed in another one since. Putting it back would make it twice, so
//! it is left out, and counted as being elsewhere. Where that means nothing: folders with the special use `\Trash`, and trees
//! that were restored. This needs a server that tells SHA-1s; on others only the folder itself is looked at.
//!
//! While one folder is looked at, a client may move a message out of a folder that has not been looked at into one that has, or
//! give a folder another name. So everything is looked at again until nothing has come anywhere since; only what has news is
//! read again. What must not come in: adding messages.

use super::names::Names;
use crate::error::Error;
use crate::guid::Guid;
use crate::imap::client::Client;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// How often everything is looked at while clients do not rest.
const ROUNDS: usize = 8;

/// Messages of a user's folders.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Everywhere {
    /// What was found.
    pub found: BTreeSet<Guid>,
    /// Nothing came to any folder while it was looked at. Otherwise something may have been overlooked.
    pub is_settled: bool,
}

/// The messages that are in the folders of the user who is logged in, but for trash and restored trees.
pub async fn everywhere(client: &mut Client, names: &Names) -> Result<Everywhere, Error> {
    let mut all = Everywhere { is_settled: true, ..Everywhere::default() };
    if !client.can("DIGEST=SHA1") {
        return Ok(all);
    }
    let mut seen = BTreeMap::new();
    for _ in 0..ROUNDS {
        all.is_settled = !look(client, names, &mut seen, &mut all.found).await?;
        if all.is_settled {
            break;
        }
    }
    Ok(all)
}

/// Name of a folder, and the UIDVALIDITY and next UID that it had when it was read.
type Seen = BTreeMap<Vec<u8>, (u32, u32)>;

/// Reads the folders that have news. True if there was one.
async fn look(client: &mut Client, names: &Names, seen: &mut Seen, found: &mut BTreeSet<Guid>) -> Result<bool, Error> {
    let mut has_news = false;
    for mailbox in client.list_all().await? {
        if !mailbox.is_selectable || mailbox.is_trash || !names.is_own(&mailbox.name) || names.is_in_tree(&mailbox.name) {
            continue;
        }
        // One that cannot be read may have another name by now, which the next look finds.
        let stamp = match client.open_mailbox(&mailbox.name, false).await? {
            Ok(opened) if opened.exists == 0 => (opened.uidvalidity, opened.uidnext),
            Ok(opened) if seen.get(&mailbox.name) == Some(&(opened.uidvalidity, opened.uidnext)) => continue,
            Ok(opened) => match client.fetch("1:*", "DIGEST.SHA1", &mut |message| found.extend(message.guid)).await? {
                Ok(()) => (opened.uidvalidity, opened.uidnext),
                Err(_) => (0, 0),
            },
            Err(_) => (0, 0),
        };
        has_news |= seen.insert(mailbox.name, stamp) != Some(stamp);
    }
    Ok(has_news)
}
