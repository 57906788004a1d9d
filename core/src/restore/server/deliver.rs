//! Messages into a folder of a server by IMAP: only those that are not there.
//!
//! A folder is looked at first: what it has is told by SHA-1 where the server can (`DIGEST=SHA1`, all that are supported), else
//! by the content of the messages that have the size of a wanted one. A message that the folder has as often as it should is
//! left out, so a restore that is run again, or again after a cut, adds nothing twice. A message is added with its flags in one
//! step: there is none that is half restored.
//!
//! Messages go in ascending order of their UIDs, in groups of some MiB, one command each where the server has MULTIAPPEND; the
//! next group is read and sent while the server works on the one before. A group that is refused is sent again message by
//! message, so that one that the server does not take costs nothing but itself. One at which the connection has ended is sent
//! alone, too, and not a third time.
//!
//! What was stored is compared with what was sent, by SHA-1, before it is moved to where it goes. A message that the server has
//! changed stays behind, and is a failure.
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
use crate::imap::client::{Answer, Client, Fetched, NewMessage, Opened, Refusal, Tag, set};
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
pub async fn look(client: &mut Client, mailbox: &[u8], sizes: &BTreeSet<u64>) -> Result<Answer<(Present, Opened)>, Error> {
    let opened = match client.open_mailbox(mailbox, false).await? {
        Ok(opened) => opened,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let mut present = Present::new();
    if opened.exists == 0 {
        return Ok(Ok((present, opened)));
    }
    let mut count = |guid: Option<Guid>| {
        if let Some(guid) = guid {
            *present.entry(guid).or_default() += 1;
        }
    };
    if client.can("DIGEST=SHA1") {
        let answer = client.fetch("1:*", "DIGEST.SHA1", &mut |message| count(message.guid)).await?;
        return Ok(answer.map(|()| (present, opened)));
    }
    let mut uids = Vec::new();
    let mut keep = |message: Fetched| {
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
    Ok(Ok((present, opened)))
}

/// The sizes of the messages of a folder that can be had.
pub fn sizes(folder: &Folder) -> BTreeSet<u64> {
    folder.messages.iter().filter_map(|message| message.body.at()).map(|at| at.size).collect()
}

/// A message that is to be added.
#[derive(Clone, Debug)]
pub struct Added<'f> {
    /// The message.
    pub message: &'f Message,
    /// Where its content is.
    pub at: MessageAt,
    /// The flags that are sent, if not all that it had.
    pub flags: Option<Rc<Vec<Vec<u8>>>>,
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
        if let Some((why, next)) = message.body.trouble(message.row.record.size) {
            report.fail(named(message), format!("{why}; {next}"));
        }
        match present.get_mut(&at.guid).filter(|count| **count > 0) {
            Some(count) => {
                *count -= 1;
                report.present += 1;
            }
            None if is_elsewhere(&at.guid) => report.elsewhere += 1,
            None => out.push(Added { message, at, flags: None }),
        }
    }
    out
}

/// What a message is called in reports.
pub fn named(message: &Message) -> String {
    format!("UID {} ({})", message.uid(), message.row.guid)
}

/// How often the connection ended while a message was under way, by UID.
pub type Ends = BTreeMap<u32, u32>;

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
    /// Messages at which the connection has ended before: each goes alone.
    pub ends: &'a Ends,
    /// UIDs of the messages under way: at one of them the connection has ended, if it has.
    pub under_way: BTreeSet<u32>,
    /// The next UID of the folder that is opened, if messages go straight into it and can be taken away again.
    pub direct_from: Option<u32>,
}

/// True if the server can move messages, and tells which ones it has added.
pub fn can_stage(client: &Client) -> bool {
    client.can("MOVE") && client.can("UIDPLUS")
}

/// Removes the mailboxes that runs before have moved messages from and have left. The server lets nobody delete a mailbox while
/// a command works in it, so afterwards nothing of a run that was killed comes to any folder.
pub async fn clear(client: &mut Client, names: &Names, notes: &mut Vec<String>) -> Result<(), Error> {
    for pattern in names.all_staging() {
        for left in client.list(&pattern).await? {
            if let Err(refusal) = client.delete(&left.name).await? {
                let what = "was left by a restore that was killed, and cannot be deleted";
                notes.push(format!("{}: {what}: {refusal}", shown(&left.name)));
            }
        }
    }
    Ok(())
}

impl Delivery<'_> {
    /// Adds messages to a folder that is there.
    pub async fn add(&mut self, target: &[u8], messages: &[Added<'_>], report: &mut FolderReport) -> Result<(), Error> {
        let mut pending: Option<Pending<'_>> = None;
        if messages.is_empty() {
            return Ok(());
        }
        if let Err(refusal) = self.open(target).await? {
            messages.iter().for_each(|added| report.fail(named(added.message), refusal.to_string()));
            return Ok(());
        }
        for group in groups(messages, self.client.can("MULTIAPPEND"), self.ends) {
            if self.io.is_stopping() {
                self.settle(target, pending.take(), report).await?;
                return Err(Error::Stopped);
            }
            if self.is_full {
                group.iter().for_each(|added| report.fail(named(added.message), no_room()));
                continue;
            }
            let is_suspect = group.iter().any(|added| self.ends.contains_key(&added.message.uid()));
            if is_suspect {
                self.settle(target, pending.take(), report).await?;
            }
            if let [large] = group
                && large.at.size > GROUP_BYTES
            {
                self.settle(target, pending.take(), report).await?;
                self.add_large(target, large, report).await?;
                continue;
            }
            let group = self.load(group, report).await?;
            let next = self.send(target, group).await?;
            self.settle(target, core::mem::replace(&mut pending, next), report).await?;
            if is_suspect {
                self.settle(target, pending.take(), report).await?;
            }
        }
        self.settle(target, pending.take(), report).await
    }

    /// Opens the mailbox that messages are added to first, so that they can be looked at there.
    async fn open(&mut self, target: &[u8]) -> Result<Answer<()>, Error> {
        if let Some(staging) = self.staging {
            return Ok(self.client.open_mailbox(staging, true).await?.map(|_| ()));
        }
        if self.client.can("UIDPLUS") {
            let opened = self.client.open_mailbox(target, true).await?;
            self.direct_from = opened.ok().map(|opened| opened.uidnext);
        }
        Ok(Ok(()))
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
                Some(Ok(content)) => out.push((added.clone(), content.clone())),
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
        self.under_way.extend(group.iter().map(|(added, _)| added.message.uid()));
        let tag = self.client.append_begin(self.staging.unwrap_or(target)).await?;
        let mut goes_on = true;
        for (added, content) in &group {
            let mut lines = Lines::default();
            if goes_on {
                lines.feed(content);
                goes_on = self.client.append_message(&tag, new_message(added, &lines)).await?;
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
        let added: Vec<&Added<'_>> = group.iter().map(|(added, _)| added).collect();
        let Err(mut refusal) = self.arrived(&tag, target, &added, report).await? else { return Ok(()) };
        // A server may refuse what it has promised to take, and only take it once it is asked.
        if refusal.wants_to_be_asked() {
            self.client.ask_for_literals(true);
        } else if let [added] = added[..] {
            self.refused(added, &refusal, report);
            return Ok(());
        }
        for one in group {
            let added = one.0.clone();
            if self.is_full {
                report.fail(named(added.message), no_room());
                continue;
            }
            let Some(alone) = self.send(target, Vec::from([one])).await? else { continue };
            match self.arrived(&alone.tag, target, &[&added], report).await? {
                Ok(()) => continue,
                Err(why) => refusal = why,
            }
            self.refused(&added, &refusal, report);
        }
        Ok(())
    }

    /// Adds a message that is not read into memory. It is read twice: once announced, it cannot be taken back.
    async fn add_large(&mut self, target: &[u8], added: &Added<'_>, report: &mut FolderReport) -> Result<(), Error> {
        let mut lines = Lines::default();
        let mut feed = |piece: &[u8]| {
            lines.feed(piece);
            true
        };
        if let Err(error) = self.reader.copy_message(&added.at, &mut feed).await {
            report.fail(named(added.message), error.to_string());
            return Ok(());
        }
        self.under_way.insert(added.message.uid());
        // Twice if the server wants to be asked, which it says to the first one.
        for may_ask in [true, false] {
            let tag = self.client.append_begin(self.staging.unwrap_or(target)).await?;
            if self.client.append_message(&tag, new_message(added, &lines)).await? {
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
            match self.arrived(&tag, target, &[added], report).await? {
                Ok(()) => break,
                Err(refusal) if may_ask && refusal.wants_to_be_asked() => self.client.ask_for_literals(true),
                Err(refusal) => {
                    self.refused(added, &refusal, report);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Waits until messages have been added, looks at what became of them, and moves them to where they go.
    async fn arrived(
        &mut self,
        tag: &Tag,
        target: &[u8],
        group: &[&Added<'_>],
        report: &mut FolderReport,
    ) -> Result<Answer<()>, Error> {
        let uids = match self.client.appended(tag).await? {
            Ok(uids) => uids,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let is_told = uids.len() == group.len();
        if self.staging.is_none() && (!is_told || self.direct_from.is_none_or(|from| uids.iter().any(|uid| *uid < from))) {
            group.iter().for_each(|added| self.added(added, report));
            return Ok(Ok(()));
        }
        if !is_told {
            let text = b"the messages were taken, and it was not told which ones they are".to_vec();
            return Ok(Err(Refusal { code: Vec::new(), text }));
        }
        let changed = match self.changed(&uids, group).await? {
            Ok(changed) => changed,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let good: Vec<u32> = uids.iter().copied().filter(|uid| !changed.contains(uid)).collect();
        let mut why = String::from(CHANGED);
        if self.staging.is_some() {
            if let Some(Err(refusal)) = if good.is_empty() { None } else { Some(self.client.move_to(&good, target).await?) } {
                return Ok(Err(refusal));
            }
        } else if !changed.is_empty()
            && let Err(refusal) = self.take_away(&changed).await?
        {
            why = format!("{CHANGED}; it could not be taken away again: {refusal}");
        }
        for (uid, added) in uids.iter().zip(group) {
            if changed.contains(uid) {
                self.under_way.remove(&added.message.uid());
                report.fail(named(added.message), why.clone());
            } else {
                self.added(added, report);
            }
        }
        Ok(Ok(()))
    }

    /// The UIDs of those of these messages, which the server has just stored, that have not the content that was sent.
    async fn changed(&mut self, uids: &[u32], group: &[&Added<'_>]) -> Result<Answer<BTreeSet<u32>>, Error> {
        let items = if self.client.can("DIGEST=SHA1") { "DIGEST.SHA1" } else { "BODY.PEEK[]" };
        let mut found: BTreeMap<u32, Option<Guid>> = BTreeMap::new();
        let mut keep = |message: Fetched| {
            found.insert(message.uid, message.guid);
        };
        if let Err(refusal) = self.client.fetch(&set(uids), items, &mut keep).await? {
            return Ok(Err(refusal));
        }
        // What is not told of is gone, which somebody else may have done where everybody can see it.
        let is_changed = |uid: u32, added: &Added<'_>| found.get(&uid).is_some_and(|guid| *guid != Some(added.at.guid));
        Ok(Ok(uids.iter().zip(group).filter(|(uid, added)| is_changed(**uid, added)).map(|(uid, _)| *uid).collect()))
    }

    /// Removes messages that this run has just added to the folder that is open.
    async fn take_away(&mut self, uids: &BTreeSet<u32>) -> Result<Answer<()>, Error> {
        let uids = set(&uids.iter().copied().collect::<Vec<_>>());
        if let Err(refusal) = self.client.store(&uids, None, b"+FLAGS.SILENT (\\Deleted)").await? {
            return Ok(Err(refusal));
        }
        self.client.expunge(&uids).await
    }

    fn added(&mut self, added: &Added<'_>, report: &mut FolderReport) {
        self.under_way.remove(&added.message.uid());
        report.added += 1;
        report.bytes += added.at.size;
        self.io.event(Event::Progress { messages: 1, bytes: added.at.size });
        if !added.message.annotations.is_empty() {
            report
                .fail(named(added.message), "is there without its annotations, which IMAP does not bring; --exact keeps them");
        }
    }

    fn refused(&mut self, added: &Added<'_>, refusal: &Refusal, report: &mut FolderReport) {
        self.under_way.remove(&added.message.uid());
        self.is_full |= refusal.is_over_quota() && self.over_quota == OverQuota::Stop;
        report.fail(named(added.message), format!("{refusal}{}", hint(refusal)));
    }
}

/// Said of a message that the server does not store as it is.
const CHANGED: &str =
    "the server stores it with other content (as `munge8bit` and filters do), so it was taken away again; --exact keeps it";

/// What to do about a refusal that the content of a message has caused.
fn hint(refusal: &Refusal) -> &'static str {
    match refusal.is_over_quota() {
        true => "",
        false => "; --exact may bring it back",
    }
}

/// Whether a message has what only binary data may have: NUL bytes, or LF without CR.
#[derive(Default)]
struct Lines {
    last: u8,
    is_binary: bool,
}

impl Lines {
    fn feed(&mut self, piece: &[u8]) {
        for &c in piece {
            self.is_binary |= c == 0 || (c == b'\n' && self.last != b'\r');
            self.last = c;
        }
    }
}

fn no_room() -> String {
    String::from("not tried: there is no room for it (over quota)")
}

fn new_message<'f>(added: &'f Added<'_>, lines: &Lines) -> NewMessage<'f> {
    let flags = added.flags.as_deref().unwrap_or(&added.message.row.flags);
    NewMessage { flags, internaldate: date_of(added), size: added.at.size, is_binary: lines.is_binary }
}

/// The INTERNALDATE that is sent: whole seconds, and no less than one: Cyrus takes 0 for now.
pub fn date_of(added: &Added<'_>) -> Time {
    Time::from_secs(added.message.row.record.internaldate.secs().max(1))
}

/// True if a message has no INTERNALDATE that could be sent.
pub fn is_dateless(message: &Message) -> bool {
    message.row.record.internaldate.secs() < 1
}

/// Messages that go in one command: a few MiB, or one that is larger, or one at which the connection has ended before.
fn groups<'g, 'f>(messages: &'g [Added<'f>], multi: bool, ends: &Ends) -> Vec<&'g [Added<'f>]> {
    let (mut out, mut from, mut bytes) = (Vec::new(), 0, 0);
    let is_suspect = |added: &Added<'_>| ends.contains_key(&added.message.uid());
    for (at, added) in messages.iter().enumerate() {
        let is_full = !multi || at - from >= GROUP_MESSAGES || bytes + added.at.size > GROUP_BYTES;
        let is_apart = at > 0 && (is_suspect(added) || is_suspect(&messages[at - 1]));
        if at > from && (is_full || is_apart) {
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
        let added: Vec<Added> =
            all.iter().filter_map(|message| Some(Added { message, at: message.body.at()?, flags: None })).collect();
        let none = Ends::new();
        let sizes = |multi| groups(&added, multi, &none).iter().map(|group| group.len()).collect::<Vec<_>>();
        assert_eq!(sizes(true), [200, 200, 20, 1, 29]);
        assert_eq!(sizes(false).len(), 450);
        let ends = Ends::from([(150, 1), (151, 1)]);
        let apart: Vec<usize> = groups(&added[..300], true, &ends).iter().map(|group| group.len()).collect();
        assert_eq!(apart, [149, 1, 1, 149]);
    }

    #[test]
    fn what_only_binary_data_may_have_is_found_across_pieces() {
        let is_binary = |pieces: &[&[u8]]| {
            let mut lines = Lines::default();
            pieces.iter().for_each(|piece| lines.feed(piece));
            lines.is_binary
        };
        assert!(!is_binary(&[b"a\r", b"\nb\rc\r\n"]));
        assert!(is_binary(&[b"a\r\n", b"\n"]) && is_binary(&[b"\n"]) && is_binary(&[b"a", b"\0"]));
    }
}
