//! Messages into a folder of a server by IMAP: only those that are not there.
//!
//! A folder is looked at first: what it has is told by SHA-1 where the server can (`DIGEST=SHA1`, all that are supported), else
//! by the content of the messages that have the size of a wanted one. A message that the folder has as often as it should is
//! left out, so a restore that is run again, or again after a cut, adds nothing twice. A message is added with its flags in one
//! step: there is none that is half restored.
//!
//! Messages go in ascending order of their UIDs, in groups of some MiB, one command each where the server has MULTIAPPEND; the
//! next group is read and sent while the server works on the one before. A group that is refused is sent again message by
//! message, so that one that the server does not take costs nothing but itself.
//!
//! A server goes on with the last command of a client that has died, and adds its messages when another run may have looked
//! already. So where the server can move messages, they are added to a mailbox of this run alone and moved from there, and
//! what a dead run had under way comes twice to no folder; see [`clear`]. What must not come in: which folder.

use super::merge::{Everywhere, surplus};
use super::names::Names;
use super::report::FolderReport;
use crate::archive::read::Reader;
use crate::archive::record::MessageAt;
use crate::error::Error;
use crate::escape::shown;
use crate::guid::Guid;
use crate::imap::client::{Answer, Client, NewMessage, Refusal, Tag, set};
use crate::io::{Event, Io};
use crate::restore::bodies::{Bodies, Last, Next};
use crate::restore::select::{Folder, Message};
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes of messages that are in memory for one command; twice as many at most.
pub const GROUP_BYTES: u64 = 4 << 20;
/// Messages in one command.
const GROUP_MESSAGES: usize = 200;
/// Members that are inflated ahead.
const AHEAD: usize = 4;
/// UIDs that are named in one FETCH of bodies.
const BODIES_AT_ONCE: usize = 100;

/// What to do when there is no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OverQuota {
    /// Nothing, if it can be known beforehand; else end at the first message that does not fit.
    #[default]
    Stop,
    /// Go on: what fits is restored, what does not is a failure.
    Warn,
    /// Take the limits away for the time of the restore; see [`super::room`].
    Lift,
}

/// How often a folder has each message.
pub type Present = BTreeMap<Guid, u64>;

/// Looks at a folder. Without a server that tells SHA-1s, only messages of these sizes are told of.
pub async fn look(client: &mut Client, mailbox: &[u8], sizes: &BTreeSet<u64>) -> Result<Answer<Present>, Error> {
    let opened = match client.open_mailbox(mailbox, false).await? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut present = Present::new();
    if opened.exists == 0 {
        return Ok(Ok(present));
    }
    let mut count = |guid: Option<Guid>| {
        if let Some(guid) = guid {
            *present.entry(guid).or_default() += 1;
        }
    };
    if client.can("DIGEST=SHA1") {
        let answer = client.fetch("1:*", "DIGEST.SHA1", &mut |message| count(message.guid)).await?;
        return Ok(answer.map(|()| present));
    }
    let mut uids = Vec::new();
    let mut keep = |message: crate::imap::client::Fetched| {
        if sizes.contains(&message.size) {
            uids.push(message.uid);
        }
    };
    if let Err(refusal) = client.fetch("1:*", "RFC822.SIZE", &mut keep).await? {
        return Ok(Err(refusal));
    }
    for uids in uids.chunks(BODIES_AT_ONCE) {
        if let Err(refusal) = client.fetch(&set(uids), "BODY.PEEK[]", &mut |message| count(message.guid)).await? {
            return Ok(Err(refusal));
        }
    }
    Ok(Ok(present))
}

/// The sizes of the messages of a folder that can be had.
pub fn sizes(folder: &Folder) -> BTreeSet<u64> {
    folder.messages.iter().filter_map(|message| message.body.at()).map(|at| at.size).collect()
}

/// A message that is to be added.
#[derive(Clone, Copy, Debug)]
pub struct Added<'f> {
    /// The message.
    pub message: &'f Message,
    /// Where its content is.
    pub at: MessageAt,
}

/// Splits the messages of a folder: what is to be added comes back, the rest goes into the report. `target` is its name on the
/// server.
pub fn missing<'f>(
    folder: &'f Folder,
    target: &[u8],
    mut present: Present,
    elsewhere: &Everywhere,
    report: &mut FolderReport,
) -> Vec<Added<'f>> {
    let mut out = Vec::new();
    let mut gone = elsewhere.looked.get(target).map(|looked| surplus(looked, &present)).unwrap_or_default();
    let mut is_elsewhere = |guid: &Guid| match gone.get_mut(guid).filter(|count| **count > 0) {
        Some(count) => {
            *count -= 1;
            true
        }
        None => elsewhere.filed.contains(guid),
    };
    for message in &folder.messages {
        let Some(at) = message.body.at() else {
            report.fail(named(message), message.body.why_not().unwrap_or_default());
            continue;
        };
        match present.get_mut(&at.guid).filter(|count| **count > 0) {
            Some(count) => {
                *count -= 1;
                report.present += 1;
            }
            None if is_elsewhere(&at.guid) => report.elsewhere += 1,
            None => out.push(Added { message, at }),
        }
    }
    out
}

/// What a message is called in reports.
pub fn named(message: &Message) -> String {
    format!("UID {} ({})", message.uid(), message.row.guid)
}

/// A message and its content, which several may share.
type Loaded<'f> = (Added<'f>, Rc<Vec<u8>>);

/// A command under way, with what is needed if it is refused.
struct Pending<'f> {
    tag: Tag,
    group: Vec<Loaded<'f>>,
}

/// What is delivered, and where.
pub struct Delivery<'a> {
    /// The boundary.
    pub io: &'a Io,
    /// The archive.
    pub reader: &'a Reader,
    /// The server.
    pub client: &'a mut Client,
    /// What to do when there is no room.
    pub over_quota: OverQuota,
    /// There is no room, and no more is to be tried.
    pub is_full: bool,
    /// The mailbox from which messages are moved to where they go, if the server can do that.
    pub staging: Option<&'a [u8]>,
    /// What the last group has left.
    pub last: Last,
}

/// True if the server can move messages, and tells which ones it has added.
pub fn can_stage(client: &Client) -> bool {
    client.can("MOVE") && client.can("UIDPLUS")
}

/// Removes the mailboxes that runs before have moved messages from and have left. The server lets nobody delete a mailbox while
/// a command works in it, so afterwards nothing of a run that was killed comes to any folder.
pub async fn clear(client: &mut Client, names: &Names, notes: &mut Vec<String>) -> Result<(), Error> {
    for left in client.list(&names.all_staging()).await? {
        if let Err(refusal) = client.delete(&left.name).await? {
            notes.push(format!(
                "{}: was left by a restore that was killed, and cannot be deleted: {refusal}",
                shown(&left.name)
            ));
        }
    }
    Ok(())
}

impl Delivery<'_> {
    /// Adds messages to a folder that is there.
    pub async fn add(&mut self, target: &[u8], messages: &[Added<'_>], report: &mut FolderReport) -> Result<(), Error> {
        let mut pending: Option<Pending<'_>> = None;
        if let Some(staging) = self.staging.filter(|_| !messages.is_empty())
            && let Err(refusal) = self.client.open_mailbox(staging, true).await?
        {
            messages.iter().for_each(|added| report.fail(named(added.message), refusal.to_string()));
            return Ok(());
        }
        for group in groups(messages, self.client.can("MULTIAPPEND")) {
            if self.io.is_stopping() {
                self.settle(target, pending.take(), report).await?;
                return Err(Error::Stopped);
            }
            if self.is_full {
                group.iter().for_each(|added| report.fail(named(added.message), no_room()));
                continue;
            }
            if let [large] = group
                && large.at.size > GROUP_BYTES
            {
                self.settle(target, pending.take(), report).await?;
                self.add_large(target, *large, report).await?;
                continue;
            }
            let group = self.load(group, report).await?;
            let next = self.send(target, group).await?;
            self.settle(target, core::mem::replace(&mut pending, next), report).await?;
        }
        self.settle(target, pending.take(), report).await
    }

    /// The contents of a group, in its order. What cannot be read is a failure.
    async fn load<'f>(&mut self, group: &[Added<'f>], report: &mut FolderReport) -> Result<Vec<Loaded<'f>>, Error> {
        let wanted = group.iter().map(|added| added.at).collect();
        let mut bodies = Bodies::new(self.io, self.reader, wanted, AHEAD).after(core::mem::take(&mut self.last));
        let (mut found, mut content) = (BTreeMap::new(), Vec::new());
        while let Some((at, result)) = bodies.next_whole(GROUP_BYTES, &mut content).await? {
            found.insert(at.guid, result.map(|()| Rc::new(core::mem::take(&mut content))));
        }
        self.last = bodies.last();
        let mut out = Vec::new();
        for added in group {
            match found.get(&added.at.guid) {
                Some(Ok(content)) => out.push((*added, content.clone())),
                Some(Err(error)) => report.fail(named(added.message), error.to_string()),
                None => report.fail(named(added.message), "the archive does not have it"),
            }
        }
        Ok(out)
    }

    async fn send<'f>(&mut self, target: &[u8], group: Vec<Loaded<'f>>) -> Result<Option<Pending<'f>>, Error> {
        if group.is_empty() {
            return Ok(None);
        }
        let tag = self.client.append_begin(self.staging.unwrap_or(target)).await?;
        let mut goes_on = true;
        for (added, content) in &group {
            if goes_on {
                goes_on = self.client.append_message(&tag, new_message(added)).await?;
            }
            if goes_on {
                self.client.append_piece(content).await?;
            }
        }
        if goes_on {
            self.client.append_end().await?;
        }
        Ok(Some(Pending { tag, group }))
    }

    /// Takes the answer to a command; what was refused is tried again alone.
    async fn settle(&mut self, target: &[u8], pending: Option<Pending<'_>>, report: &mut FolderReport) -> Result<(), Error> {
        let Some(Pending { tag, group }) = pending else { return Ok(()) };
        let refusal = match self.arrived(&tag, target).await? {
            Ok(()) => {
                group.iter().for_each(|(added, _)| self.added(added, report));
                return Ok(());
            }
            Err(refusal) => refusal,
        };
        if group.len() == 1 {
            group.iter().for_each(|(added, _)| self.refused(added, &refusal, report));
            return Ok(());
        }
        for one in group {
            if self.is_full {
                report.fail(named(one.0.message), no_room());
                continue;
            }
            let added = one.0;
            let Some(alone) = self.send(target, Vec::from([one])).await? else { continue };
            match self.arrived(&alone.tag, target).await? {
                Ok(()) => self.added(&added, report),
                Err(refusal) => self.refused(&added, &refusal, report),
            }
        }
        Ok(())
    }

    /// Adds a message that is not read into memory. It is read twice: once announced, it cannot be taken back.
    async fn add_large(&mut self, target: &[u8], added: Added<'_>, report: &mut FolderReport) -> Result<(), Error> {
        if let Err(error) = self.reader.copy_message(&added.at, &mut |_| true).await {
            report.fail(named(added.message), error.to_string());
            return Ok(());
        }
        let tag = self.client.append_begin(self.staging.unwrap_or(target)).await?;
        if self.client.append_message(&tag, new_message(&added)).await? {
            let mut bodies = Bodies::new(self.io, self.reader, Vec::from([added.at]), AHEAD);
            while let Some(next) = bodies.next().await? {
                match next {
                    Next::Piece(piece) => self.client.append_piece(piece).await?,
                    Next::Bad(_, error) => return Err(error),
                    Next::Begin(_) | Next::Good => {}
                }
            }
            self.client.append_end().await?;
        }
        match self.arrived(&tag, target).await? {
            Ok(()) => self.added(&added, report),
            Err(refusal) => self.refused(&added, &refusal, report),
        }
        Ok(())
    }

    /// Waits until messages have been added, and moves them to where they go.
    async fn arrived(&mut self, tag: &Tag, target: &[u8]) -> Result<Answer<()>, Error> {
        let uids = match self.client.appended(tag).await? {
            Ok(uids) => uids,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if self.staging.is_none() {
            return Ok(Ok(()));
        }
        if uids.is_empty() {
            let text = b"the messages were taken, and it was not told which ones they are".to_vec();
            return Ok(Err(Refusal { code: Vec::new(), text }));
        }
        self.client.move_to(&uids, target).await
    }

    fn added(&self, added: &Added<'_>, report: &mut FolderReport) {
        report.added += 1;
        report.bytes += added.at.size;
        self.io.event(Event::Progress { messages: 1, bytes: added.at.size });
    }

    fn refused(&mut self, added: &Added<'_>, refusal: &Refusal, report: &mut FolderReport) {
        self.is_full |= refusal.is_over_quota() && self.over_quota == OverQuota::Stop;
        report.fail(named(added.message), refusal.to_string());
    }
}

fn no_room() -> String {
    String::from("not tried: there is no room for it (over quota)")
}

fn new_message<'f>(added: &Added<'f>) -> NewMessage<'f> {
    let row = &added.message.row;
    NewMessage { flags: &row.flags, internaldate: Time::from_secs(row.record.internaldate.secs()), size: added.at.size }
}

/// Messages that go in one command: a few MiB, or one that is larger.
fn groups<'g, 'f>(messages: &'g [Added<'f>], multi: bool) -> Vec<&'g [Added<'f>]> {
    let (mut out, mut from, mut bytes) = (Vec::new(), 0, 0);
    for (at, added) in messages.iter().enumerate() {
        let is_full = !multi || at - from >= GROUP_MESSAGES || bytes + added.at.size > GROUP_BYTES;
        if at > from && is_full {
            out.push(&messages[from..at]);
            (from, bytes) = (at, 0);
        }
        bytes += added.at.size;
    }
    if from < messages.len() {
        out.push(&messages[from..]);
    }
    out
}

/// A report about a folder of which nothing has been done yet.
pub fn report_of(folder: &Folder, target: &[u8]) -> FolderReport {
    let mut report = FolderReport { name: shown(&folder.name), target: shown(target), ..FolderReport::default() };
    for problem in &folder.problems {
        report.fail(shown(&folder.name), problem.to_string());
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::record::Location;
    use crate::restore::select::Body;

    fn message(uid: u32, content: &[u8], size: u64) -> Message {
        let guid = Guid::of(content);
        let record = crate::cyrus::index::Record { uid: crate::cyrus::index::Uid(uid), guid, ..Default::default() };
        let row = crate::view::MessageRow { record, guid, is_expunged: false, is_unlinked: false, flags: Vec::new() };
        Message { row, annotations: Vec::new(), body: Body::At(MessageAt { guid, at: Location::default(), size }) }
    }

    #[test]
    fn a_message_that_is_there_as_often_as_it_should_be_is_left_out() {
        let unlinked = Message { body: Body::Unlinked, ..message(5, b"d", 1) };
        let messages = [message(1, b"a", 1), message(2, b"a", 1), message(3, b"b", 1), message(4, b"c", 1), unlinked];
        let folder = Folder { messages: messages.into(), ..Folder::default() };
        let present = Present::from([(Guid::of(b"a"), 1)]);
        let mut elsewhere = Everywhere { filed: [Guid::of(b"b")].into(), ..Everywhere::default() };
        let split = |elsewhere: &Everywhere| {
            let mut report = FolderReport::default();
            let added = missing(&folder, b"A", present.clone(), elsewhere, &mut report);
            let added: Vec<u32> = added.iter().map(|added| added.message.uid()).collect();
            (added, [report.present, report.elsewhere, report.failed])
        };
        assert_eq!(split(&elsewhere), (Vec::from([2, 4]), [1, 1, 1]));
        // Both copies were there when the folder was looked at: one was filed since.
        elsewhere.looked = [(b"A".to_vec(), Present::from([(Guid::of(b"a"), 2)]))].into();
        assert_eq!(split(&elsewhere), (Vec::from([4]), [1, 2, 1]));
    }

    #[test]
    fn groups_are_bounded_and_a_large_message_is_alone() {
        let mut all: Vec<Message> = (1..=450).map(|uid| message(uid, b"x", 10)).collect();
        all[420] = message(421, b"y", GROUP_BYTES + 1);
        let added: Vec<Added> = all.iter().filter_map(|message| Some(Added { message, at: message.body.at()? })).collect();
        let sizes = |multi| groups(&added, multi).iter().map(|group| group.len()).collect::<Vec<_>>();
        assert_eq!(sizes(true), [200, 200, 20, 1, 29]);
        assert_eq!(sizes(false).len(), 450);
    }
}
