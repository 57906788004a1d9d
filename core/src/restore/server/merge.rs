//! Into the original folders: what of a user's mail is somewhere else by now.
//!
//! A message that is no longer in its folder has often been filed in another one since. Putting it back would make it twice, so
//! it is left out, and counted as being elsewhere. Where that means nothing: folders with the special use `\Trash`, and trees
//! that were restored. This needs a server that tells SHA-1s; on others only the folder itself is looked at.
//! What must not come in: adding messages.

use super::names::Names;
use crate::error::Error;
use crate::guid::Guid;
use crate::imap::client::Client;
use alloc::collections::BTreeSet;

/// The messages that are in the folders of the user who is logged in, but for trash and restored trees.
pub async fn everywhere(client: &mut Client, names: &Names) -> Result<BTreeSet<Guid>, Error> {
    let mut found = BTreeSet::new();
    if !client.can("DIGEST=SHA1") {
        return Ok(found);
    }
    let all = client.list_all().await?;
    for mailbox in all {
        if !mailbox.is_selectable || mailbox.is_trash || !names.is_own(&mailbox.name) || names.is_in_tree(&mailbox.name) {
            continue;
        }
        // One that cannot be opened has nothing that could be seen twice.
        let Ok(opened) = client.open_mailbox(&mailbox.name, false).await? else { continue };
        if opened.exists > 0 {
            let answer = client.fetch("1:*", "DIGEST.SHA1", &mut |message| found.extend(message.guid)).await?;
            answer.unwrap_or_default();
        }
    }
    Ok(found)
}
