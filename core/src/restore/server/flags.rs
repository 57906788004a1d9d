//! Flags as of a snapshot onto the messages that are still there: for when somebody has marked everything as read.
//!
//! A message is taken for the same if its UID and its SHA-1 are the same; if the folder's UIDVALIDITY is another one, and its
//! UID tells nothing, by its SHA-1 alone, provided that no other message of the folder has it. Messages that came later are not
//! touched, nor is one whose flags somebody changes between the look and the change, where the server can tell (CONDSTORE).
//! What must not come in: messages.

use super::deliver::{named, report_of, sizes};
use super::kinds;
use super::limits::can_be_sent;
use super::names::Names;
use super::report::{FolderReport, Report};
use crate::error::Error;
use crate::escape::shown;
use crate::guid::Guid;
use crate::imap::client::{Answer, Client, Fetched, Opened, set};
use crate::io::Io;
use crate::restore::select::{Folder, Message, Selection};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

/// UIDs that one command names.
const UIDS_AT_ONCE: usize = 1000;

/// Messages that are to get the same flags.
type Groups = BTreeMap<Vec<Vec<u8>>, Vec<u32>>;

/// What is to be changed in one folder.
struct Change {
    groups: Groups,
    modseq: Option<u64>,
}

/// Compares the flags of the selected messages with the server's and, unless it is a rehearsal, sets them.
pub async fn restore(
    io: &Io,
    selection: &Selection<'_>,
    client: &mut Client,
    names: &Names,
    rehearse: bool,
) -> Result<Report, Error> {
    let mut report = Report::default();
    for n in 0..selection.len() {
        let Some(folder) = selection.folder(n).await? else { continue };
        if io.is_stopping() {
            report.ended_early = Some(Error::Stopped.to_string());
            break;
        }
        let target = match names.original(&folder.name) {
            Ok(target) => target,
            Err(error) => {
                let mut skipped = report_of(&folder, b"");
                skipped.skipped = Some(error.to_string());
                report.folders.push(skipped);
                continue;
            }
        };
        let mut done = report_of(&folder, &target);
        let ended = restore_folder(client, &folder, &target, rehearse, &mut done).await;
        report.folders.push(done);
        if let Err(error) = ended {
            report.ended_early = Some(error.to_string());
            break;
        }
    }
    Ok(report)
}

async fn restore_folder(
    client: &mut Client,
    folder: &Folder,
    target: &[u8],
    rehearse: bool,
    done: &mut FolderReport,
) -> Result<(), Error> {
    if let Some(what) = kinds::content_of(folder) {
        done.skipped = Some(format!("it holds {what}, which has no flags that IMAP could set"));
        return Ok(());
    }
    let opened = match client.open_mailbox(target, !rehearse).await? {
        Ok(opened) => opened,
        Err(refusal) => {
            done.fail(shown(target), format!("cannot be opened: {refusal}; --merge makes it again"));
            return Ok(());
        }
    };
    let found = match fetch(client, folder, &opened).await? {
        Ok(found) => found,
        Err(refusal) => {
            done.fail(shown(target), refusal.to_string());
            return Ok(());
        }
    };
    let change = compare(folder, &opened, &found, done);
    if opened.is_read_only && !rehearse && done.changed > 0 {
        done.fail(shown(target), "its flags may not be changed by this user");
        done.changed = 0;
        return Ok(());
    }
    if rehearse { Ok(()) } else { apply(client, &change, done).await }
}

/// All messages of the open folder with their flags, those with their SHA-1s that could be ours.
async fn fetch(client: &mut Client, folder: &Folder, opened: &Opened) -> Result<Answer<Vec<Fetched>>, Error> {
    let mut found: Vec<Fetched> = Vec::new();
    if opened.exists == 0 {
        return Ok(Ok(found));
    }
    let tells = client.can("DIGEST=SHA1");
    let items = if tells { "FLAGS DIGEST.SHA1" } else { "FLAGS RFC822.SIZE" };
    if let Err(refusal) = client.fetch("1:*", items, &mut |message| found.push(message)).await? {
        return Ok(Err(refusal));
    }
    found.sort_by_key(|message| message.uid);
    if !tells {
        let sizes = sizes(folder);
        let uids: Vec<u32> = found.iter().filter(|message| sizes.contains(&message.size)).map(|message| message.uid).collect();
        for uids in uids.chunks(100) {
            let mut put = |body: Fetched| {
                if let Ok(at) = found.binary_search_by_key(&body.uid, |message| message.uid) {
                    found[at].guid = body.guid;
                }
            };
            if let Err(refusal) = client.fetch(&set(uids), "BODY.PEEK[]", &mut put).await? {
                return Ok(Err(refusal));
            }
        }
    }
    Ok(Ok(found))
}

fn compare(folder: &Folder, opened: &Opened, found: &[Fetched], done: &mut FolderReport) -> Change {
    let same_uids = folder.index.as_ref().is_some_and(|index| index.uidvalidity == opened.uidvalidity);
    let mut by_guid: BTreeMap<Guid, Option<&Fetched>> = BTreeMap::new();
    for message in found {
        if let Some(guid) = message.guid {
            by_guid.entry(guid).and_modify(|only| *only = None).or_insert(Some(message));
        }
    }
    let mut change = Change { groups: Groups::new(), modseq: opened.highestmodseq };
    let mut taken = BTreeSet::new();
    for message in &folder.messages {
        let guid = message.body.at().map_or(message.row.guid, |at| at.guid);
        let at = found.binary_search_by_key(&message.uid(), |found| found.uid).ok();
        let by_uid = at.map(|at| &found[at]).filter(|found| found.guid == Some(guid));
        let others = by_guid.get(&guid).filter(|_| !same_uids);
        let Some(same) = by_uid.or_else(|| others.copied().flatten()) else {
            match others {
                Some(_) => done.fail(named(message), "several messages there have its content: which one it is, nothing tells"),
                None => done.gone += 1,
            }
            continue;
        };
        done.present += 1;
        if !taken.insert(same.uid) || !differs(message, same) {
            continue;
        }
        if let Some(flag) = message.row.flags.iter().find(|flag| !can_be_sent(&flag.to_ascii_lowercase())) {
            done.fail(named(message), format!("its flag {} cannot be set by IMAP; its flags stay as they are", shown(flag)));
            continue;
        }
        done.changed += 1;
        change.groups.entry(sorted(&message.row.flags)).or_default().push(same.uid);
    }
    change
}

fn sorted(flags: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut flags = flags.to_vec();
    flags.sort();
    flags
}

/// Flags are compared in any case of letters, as IMAP has it.
fn differs(wanted: &Message, found: &Fetched) -> bool {
    let lower = |flags: &[Vec<u8>]| flags.iter().map(|flag| flag.to_ascii_lowercase()).collect::<BTreeSet<_>>();
    lower(&wanted.row.flags) != lower(&found.flags)
}

async fn apply(client: &mut Client, change: &Change, done: &mut FolderReport) -> Result<(), Error> {
    let unchanged_since = change.modseq.filter(|_| client.can("CONDSTORE"));
    done.changed = 0;
    for (flags, uids) in &change.groups {
        let mut uids = uids.clone();
        uids.sort_unstable();
        let change = [b"FLAGS.SILENT (", &flags.join(&b' ')[..], b")"].concat();
        for uids in uids.chunks(UIDS_AT_ONCE) {
            match client.store(&set(uids), unchanged_since, &change).await? {
                Ok(meanwhile) => {
                    done.changed += (uids.len() - meanwhile.len().min(uids.len())) as u64;
                    for uid in meanwhile {
                        done.fail(format!("UID {uid}"), "somebody has changed it at the same time; run this again");
                    }
                }
                Err(refusal) => uids.iter().for_each(|uid| done.fail(format!("UID {uid}"), refusal.to_string())),
            }
            compare_again(client, flags, uids, done).await?;
        }
    }
    Ok(())
}

/// A server may leave away flags that the user may not set, and say nothing.
async fn compare_again(client: &mut Client, flags: &[Vec<u8>], uids: &[u32], done: &mut FolderReport) -> Result<(), Error> {
    let wanted: BTreeSet<Vec<u8>> = flags.iter().map(|flag| flag.to_ascii_lowercase()).collect();
    let mut lacking = Vec::new();
    let mut compare = |message: Fetched| {
        let found: BTreeSet<Vec<u8>> = message.flags.iter().map(|flag| flag.to_ascii_lowercase()).collect();
        if uids.binary_search(&message.uid).is_ok() && !wanted.is_subset(&found) {
            lacking.push((message.uid, wanted.difference(&found).cloned().collect::<Vec<_>>()));
        }
    };
    if let Err(refusal) = client.fetch(&set(uids), "FLAGS", &mut compare).await? {
        done.fail(format!("UIDs {}", set(uids)), format!("cannot be looked at afterwards: {refusal}"));
    }
    for (uid, flags) in lacking {
        let why = "are not set: the user may not, or the folder has as many keywords as it takes";
        done.fail(format!("UID {uid}"), format!("{} {why}", shown(&flags.join(&b' '))));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cyrus::index::{Header, Record, Uid};
    use crate::restore::select::Body;
    use crate::view::MessageRow;

    fn folder(messages: &[(u32, &[u8], &str)]) -> Folder {
        let messages = messages.iter().map(|(uid, content, flags)| {
            let record = Record { uid: Uid(*uid), ..Record::default() };
            let flags = flags.split_whitespace().map(|flag| flag.as_bytes().to_vec()).collect();
            let row = MessageRow { record, guid: Guid::of(content), is_expunged: false, is_unlinked: false, flags };
            Message { row, annotations: Vec::new(), body: Body::NotStored }
        });
        Folder {
            messages: messages.collect(),
            index: Some(Header { uidvalidity: 9, ..Header::default() }),
            ..Folder::default()
        }
    }

    fn found(messages: &[(u32, &[u8], &str)]) -> Vec<Fetched> {
        let fetched = |(uid, content, flags): &(u32, &[u8], &str)| Fetched {
            uid: *uid,
            guid: Some(Guid::of(content)),
            flags: flags.split_whitespace().map(|flag| flag.as_bytes().to_vec()).collect(),
            ..Fetched::default()
        };
        messages.iter().map(fetched).collect()
    }

    fn changes(uidvalidity: u32, then: &[(u32, &[u8], &str)], now: &[(u32, &[u8], &str)]) -> (Vec<Vec<u32>>, [u64; 3]) {
        let (opened, mut done) = (Opened { uidvalidity, ..Opened::default() }, FolderReport::default());
        let change = compare(&folder(then), &opened, &found(now), &mut done);
        (change.groups.into_values().collect(), [done.changed, done.present, done.gone])
    }

    #[test]
    fn only_messages_that_are_the_same_get_their_flags_back() {
        let then: [(u32, &[u8], &str); 4] = [(1, b"a", ""), (2, b"b", "\\Seen X"), (3, b"c", ""), (4, b"d", "")];
        let now: [(u32, &[u8], &str); 4] =
            [(1, b"a", "\\Seen"), (2, b"b", "x \\seen"), (3, b"other", "\\Seen"), (5, b"new", "\\Seen")];
        assert_eq!(changes(9, &then, &now), (Vec::from([Vec::from([1])]), [1, 2, 2]));
    }

    #[test]
    fn with_another_uidvalidity_only_what_is_there_once_is_the_same() {
        let then: [(u32, &[u8], &str); 2] = [(1, b"a", "\\Flagged"), (2, b"b", "")];
        let now: [(u32, &[u8], &str); 3] = [(11, b"a", ""), (12, b"b", "\\Seen"), (13, b"b", "\\Seen")];
        assert_eq!(changes(10, &then, &now), (Vec::from([Vec::from([11])]), [1, 1, 0]));
        // The same UID and the same content is the same message, as after `reconstruct`.
        let now: [(u32, &[u8], &str); 3] = [(2, b"b", "\\Seen"), (3, b"b", "\\Seen"), (4, b"a", "\\Flagged")];
        assert_eq!(changes(10, &then, &now), (Vec::from([Vec::from([2])]), [1, 2, 0]));
    }
}
