//! A folder as a replication server takes it: what of it cannot be sent is known beforehand, and told.
//!
//! What must not come in: the connection.

use super::deliver::named;
use super::report::FolderReport;
use crate::archive::record::Table;
use crate::cyrus::names::Owner;
use crate::cyrus::utf7;
use crate::escape::shown;
use crate::guid::Guid;
use crate::restore::select::{Body, Folder, Message, is_deleted_folder};
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a name may have beside letters and digits, and beside `&`, which begins modified UTF-7; dots are between its parts
/// (`imap/mboxname.c: GOODCHARS`).
const PUNCTUATION: &[u8] = b" #$'()*+,-.:=?@[]^_~";
/// The longest name (`MAX_MAILBOX_NAME`).
const NAME_MAX: usize = 490;

/// uniqueids for folders that have the one of another folder of the snapshot, by their names. The first one of those that are
/// not deleted keeps it. What the others get is always the same, so that a later run knows them.
pub fn own_ids(table: &Table, owner: &Owner) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (mut taken, mut own) = (BTreeSet::new(), BTreeMap::new());
    for deleted in [false, true] {
        for row in table.folders.iter().filter(|row| is_deleted_folder(owner, &row.name) == deleted) {
            if !taken.insert(&row.id[..]) {
                own.insert(row.name.clone(), made_id(&[b"another ", &row.id, b" as ", &row.name]));
            }
        }
    }
    own
}

/// A uniqueid made of these words.
pub fn made_id(words: &[&[u8]]) -> Vec<u8> {
    Guid::of(&words.concat()).to_hex().as_bytes()[..24].to_vec()
}

/// True for a record whose message is gone.
pub fn is_gone(message: &Message) -> bool {
    message.row.is_expunged || message.row.is_unlinked
}

/// Leaves only what the server can take, tells what is left out, and gives the number of messages without a date: a server
/// takes none for now, so they get the first second that there is.
pub fn ready(folder: &mut Folder, refused: &BTreeMap<Guid, String>, done: &mut FolderReport) -> u64 {
    let mut undated = 0;
    folder.messages.retain_mut(|message| {
        if message.row.record.internaldate.secs() <= 0 {
            message.row.record.internaldate = Time::from_secs(1);
            undated += u64::from(!is_gone(message));
        }
        match why_not(message, refused).filter(|_| !is_gone(message)) {
            Some(why) => done.fail(named(message), why),
            None => return true,
        }
        false
    });
    undated
}

fn why_not(message: &Message, refused: &BTreeMap<Guid, String>) -> Option<String> {
    match &message.body {
        Body::At(at) if at.size == 0 => {
            Some(String::from("it has no bytes, and a replication server that gets such a message ends the connection"))
        }
        Body::At(at) => refused.get(&at.guid).cloned(),
        body => Some(String::from(body.why_not().unwrap_or("its content is not what the index describes"))),
    }
}

/// Why no server makes a mailbox of this internal name, if that is so (`imap/mboxname.c: mboxname_policycheck`).
pub fn unfit(name: &[u8]) -> Option<String> {
    let part = name.iter().rposition(|&c| c == b'!').map_or(name, |at| &name[at + 1..]);
    let bad = part.iter().find(|&&c| c != b'&' && !c.is_ascii_alphanumeric() && !PUNCTUATION.contains(&c));
    let why = if let Some(bad) = bad {
        format!("has `{}`", shown(&[*bad]))
    } else if part.contains(&b'&') && utf7::encode(&utf7::decode(part)) != part {
        String::from("is no modified UTF-7")
    } else if name.len() > NAME_MAX {
        format!("has {} bytes", name.len())
    } else {
        return None;
    };
    Some(format!(
        "its name {why}, and no server makes a mailbox of such a name any more; --merge spells it as the server takes it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::record::{FolderRow, Location, MessageAt};
    use crate::cyrus::index::{Record, Uid};
    use crate::view::MessageRow;

    #[test]
    fn names_that_no_server_takes_are_known() {
        for good in ["user.anna.R&-D", "user.anna.M&APw-ller", "other.net!user.bob^x.a b", "user.anna.#sieve"] {
            assert_eq!(unfit(good.as_bytes()), None, "{good}");
        }
        for bad in ["user.anna.R&D", "user.anna.M\u{fc}ller", "user.anna.a&b", "user.anna.&AOQ", "user.anna.per%cent"] {
            assert!(unfit(bad.as_bytes()).is_some(), "{bad}");
        }
        assert!(unfit(&[b'x'; 500]).is_some_and(|why| why.contains("500 bytes")));
    }

    #[test]
    fn of_folders_with_one_uniqueid_the_first_that_is_not_deleted_keeps_it() {
        let row = |name: &str, id: &str| FolderRow { name: name.into(), id: id.into(), ..FolderRow::default() };
        let folders = Vec::from([row("DELETED.W.1", "a"), row("INBOX", "b"), row("INBOX.Copy", "a"), row("INBOX.W", "a")]);
        let table = Table { folders, ..Table::default() };
        let own = own_ids(&table, &Owner::User(b"anna".to_vec()));
        assert_eq!(own.keys().collect::<Vec<_>>(), [&b"DELETED.W.1"[..], b"INBOX.W"]);
        assert!(own.values().all(|id| id.len() == 24) && own[&b"DELETED.W.1"[..]] != own[&b"INBOX.W"[..]]);
    }

    #[test]
    fn what_cannot_be_sent_is_left_out_and_told() {
        let message = |uid, size, date, is_expunged| {
            let record = Record { uid: Uid(uid), internaldate: Time::from_secs(date), ..Record::default() };
            let guid = Guid::of(&[uid as u8]);
            let row = MessageRow { record, guid, is_expunged, is_unlinked: false, flags: Vec::new() };
            Message { row, annotations: Vec::new(), body: Body::At(MessageAt { guid, size, at: Location::default() }) }
        };
        let messages =
            Vec::from([message(1, 0, 9, false), message(2, 5, 0, false), message(3, 0, 0, true), message(4, 5, 9, false)]);
        let mut folder = Folder { messages, ..Folder::default() };
        let (mut done, refused) = (FolderReport::default(), BTreeMap::from([(Guid::of(&[4]), String::from("no"))]));
        assert_eq!(ready(&mut folder, &refused, &mut done), 1);
        let left: Vec<(u32, i64)> = folder.messages.iter().map(|m| (m.uid(), m.row.record.internaldate.secs())).collect();
        assert_eq!((left, done.failed), (Vec::from([(2, 1), (3, 1)]), 2));
    }
}
