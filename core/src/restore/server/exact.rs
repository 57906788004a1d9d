//! Mailboxes as they were, by the replication protocol.
//!
//! A mailbox is made from nothing: uniqueid, UIDVALIDITY, UIDs, flags, dates, MODSEQs, conversations, annotations, ACL. Records
//! go in ascending order of UID, some hundred at a time, their messages before them; the server compares its own checksum
//! (`SYNC_CRC`) after each part with the one sent. So after a cut there is a mailbox with the first records and nothing else,
//! which is how the next run knows it: the same uniqueid and UIDVALIDITY, nothing newer, and the checksum of as many records of
//! ours. It then goes on there. Whatever else is there is only replaced if that was asked for, and then removed first: nobody
//! can make older what a replication server has.
//! What must not come in: the words of the protocol ([`crate::sync::client`]).

use super::deliver::{GROUP_BYTES, named, report_of};
use super::report::{FolderReport, Report};
use crate::archive::record::MessageAt;
use crate::cyrus::dlist::{self, Value};
use crate::cyrus::index::{Header, option};
use crate::cyrus::mailboxes;
use crate::cyrus::names::{Naming, Owner};
use crate::cyrus::quota::{Quota, Resource};
use crate::error::Error;
use crate::escape::shown;
use crate::guid::Guid;
use crate::io::{Event, Io};
use crate::restore::bodies::{Bodies, Last, Next};
use crate::restore::select::{Annotation, Body, Folder, Message, Scope, Selection, UserData, is_deleted_folder};
use crate::sync::client::{Answer, Client, Mailbox, No, Upload};
use crate::time::Time;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Records in one command.
const RECORDS: usize = 500;
/// Messages that the server holds ready for the connection, before it is told to forget them.
const HELD_MAX: usize = 100_000;
/// Members that are inflated ahead.
const AHEAD: usize = 4;
/// The names of annotations that carry fields of a record (`imap/sync_support.c`).
const FIELDS: &str = "/vendor/cmu/cyrus-imapd/";

/// A restore by the replication protocol.
pub struct Exact<'a> {
    /// The boundary.
    pub io: &'a Io,
    /// What is restored: every record of its folders.
    pub selection: &'a Selection<'a>,
    /// The server.
    pub client: &'a mut Client,
    /// How names are read.
    pub naming: Naming,
    /// Where mailboxes are made, if not where they were.
    pub partition: Option<Vec<u8>>,
    /// Replace what is there.
    pub replace: bool,
    /// Only say what would be done.
    pub rehearse: bool,
    /// What the server holds ready.
    held: BTreeSet<Guid>,
    /// What the walk over the last records has left.
    last: Last,
}

/// What is to be done about a mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Judgement {
    /// It is as it was.
    Same,
    /// It is not there, or only the records up to UID `begun`: it is made.
    Make { begun: Option<u64> },
    /// What has its name is removed first, and what has its uniqueid under another name gets its own name back.
    Clear { remove: Option<Vec<u8>>, rename: Option<Vec<u8>> },
    /// It has to stay as it is.
    Refuse(String),
}

impl<'a> Exact<'a> {
    /// A restore of which nothing has been done yet.
    pub fn new(io: &'a Io, selection: &'a Selection<'a>, client: &'a mut Client) -> Exact<'a> {
        let (naming, held, last) = (Naming::default(), BTreeSet::new(), Last::default());
        Exact { io, selection, client, naming, partition: None, replace: false, rehearse: false, held, last }
    }

    /// Does it. What fails is in the report, and so is why it ended early if it did.
    pub async fn run(&mut self) -> Result<Report, Error> {
        let mut report = Report::default();
        for n in 0..self.selection.len() {
            if !self.is_wanted(n) {
                continue;
            }
            let Some(folder) = self.selection.folder(n).await? else { continue };
            let mut done = report_of(&folder, b"");
            let ended = if self.io.is_stopping() { Err(Error::Stopped) } else { self.folder(&folder, &mut done).await };
            report.folders.push(done);
            if let Err(error) = ended {
                report.ended_early = Some(error.to_string());
                return Ok(report);
            }
        }
        if self.selection.wish.scope == Scope::All {
            self.user(&mut report).await?;
        }
        Ok(report)
    }

    /// Deleted folders come back only if they are named. Those in which the server keeps things of its own, such as scripts
    /// since 3.6 (`#sieve`), are like others: a replica gets them, too.
    fn is_wanted(&self, n: usize) -> bool {
        let Some(row) = self.selection.row(n) else { return false };
        let is_named = matches!(self.selection.wish.scope, Scope::Folders(_));
        is_named || !is_deleted_folder(&self.selection.owner, &row.name)
    }

    async fn folder(&mut self, folder: &Folder, done: &mut FolderReport) -> Result<(), Error> {
        let name = match folder.mailbox(&self.naming, &self.selection.owner) {
            Ok(name) => self.naming.internal(&name),
            Err(damage) => {
                done.fail(shown(&folder.name), damage.to_string());
                return Ok(());
            }
        };
        done.target = shown(&name);
        if folder.entry.mbtype.kind == mailboxes::Kind::Sieve && !self.client.keeps_scripts() {
            let why = "the server keeps scripts in no mailbox; export this folder with --dir, and upload them by ManageSieve";
            done.skipped = Some(String::from(why));
            return Ok(());
        }
        let Some(header) = &folder.index else {
            done.fail(shown(&folder.name), "the archive has no index of it that can be read");
            return Ok(());
        };
        // Removed, brought back, and removed again because it was not as it should be.
        for _ in 0..3 {
            let there = match self.client.mailboxes(&[&name], &[&folder.id]).await? {
                Ok(there) => there,
                Err(no) => {
                    done.fail(shown(&name), no.to_string());
                    return Ok(());
                }
            };
            let judgement = self.judge(folder, header, &name, &there);
            match judgement {
                Judgement::Same => {
                    done.present = folder.messages.len() as u64;
                    return Ok(());
                }
                Judgement::Refuse(why) => {
                    done.fail(shown(&name), why);
                    return Ok(());
                }
                Judgement::Make { .. } | Judgement::Clear { .. } if self.rehearse => {
                    done.is_created = !matches!(judgement, Judgement::Make { begun: Some(_) });
                    rehearsed(folder, done);
                    return Ok(());
                }
                Judgement::Make { begun } => {
                    done.is_created = begun.is_none();
                    let partition = self.partition_of(folder);
                    let target = Target { folder, header, name: &name, partition: &partition };
                    return self.make(&target, begun.unwrap_or(0), done).await;
                }
                Judgement::Clear { remove, rename } => {
                    if !self.clear(folder, &name, remove, rename, done).await? {
                        return Ok(());
                    }
                }
            }
        }
        done.fail(shown(&name), "the mailbox changes while it is restored; run this again when nobody uses it");
        Ok(())
    }

    /// Makes room for a mailbox; false if the server does not let us.
    async fn clear(
        &mut self,
        folder: &Folder,
        name: &[u8],
        remove: Option<Vec<u8>>,
        rename: Option<Vec<u8>>,
        done: &mut FolderReport,
    ) -> Result<bool, Error> {
        if let Some(old) = remove
            && let Err(no) = self.client.apply("UNMAILBOX", &atom(&old)).await?
        {
            done.fail(shown(&old), format!("cannot be removed: {no}"));
            return Ok(false);
        }
        if let Some(old) = rename {
            let mut pairs = Pairs::new();
            pairs.text("OLDMBOXNAME", &old);
            pairs.text("NEWMBOXNAME", name);
            pairs.text("PARTITION", &self.partition_of(folder));
            if let Err(no) = self.client.apply("RENAME", &pairs.finish()).await? {
                done.fail(shown(&old), format!("cannot be renamed: {no}"));
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn judge(&self, folder: &Folder, header: &Header, name: &[u8], there: &[Mailbox]) -> Judgement {
        let (mut remove, mut rename, mut begun) = (None, None, None);
        for mailbox in there {
            let why = if mailbox.name != name {
                let id = shown(&folder.id);
                format!("its uniqueid {id} is in use by {}, so it cannot be made", shown(&mailbox.name))
            } else if mailbox.id == place_holder(folder) && mailbox.last_uid == 0 {
                continue;
            } else if mailbox.id != folder.id {
                format!("another mailbox has this name (uniqueid {})", shown(&mailbox.id))
            } else if is_same(folder, header, mailbox) {
                return Judgement::Same;
            } else if is_begun(folder, header, mailbox) {
                begun = Some(mailbox.last_uid);
                continue;
            } else {
                String::from("it is there, and not as it was")
            };
            let is_ours = mailbox.name == name || self.is_deleted_by_owner(&mailbox.name);
            if !is_ours || !self.replace {
                let hint = if is_ours { "; --replace backs that up and then takes its place" } else { "" };
                return Judgement::Refuse(format!("{why}{hint}"));
            }
            *(if mailbox.name == name { &mut remove } else { &mut rename }) = Some(mailbox.name.clone());
        }
        if remove.is_some() || rename.is_some() { Judgement::Clear { remove, rename } } else { Judgement::Make { begun } }
    }

    /// True for a mailbox under delayed delete that belongs to the user whose mail comes back.
    fn is_deleted_by_owner(&self, name: &[u8]) -> bool {
        let name = self.naming.parse_internal(name);
        name.is_ok_and(|name| name.deleted().is_some() && name.owner() == self.selection.owner)
    }

    async fn make(&mut self, target: &Target<'_>, begun: u64, done: &mut FolderReport) -> Result<(), Error> {
        let &Target { folder, header, name, partition } = target;
        // What is there cannot be sent again: a server takes no UID that is not the greatest so far.
        let there = folder.messages.partition_point(|message| u64::from(message.uid()) <= begun);
        let mut state = State::up_to(folder, begun);
        done.present = there as u64;
        let left = &folder.messages[there..];
        let bytes = left.iter().filter_map(|message| message.body.at()).map(|at| at.size).sum();
        self.io.event(Event::Expect { messages: left.len() as u64, bytes });
        let mut is_made = begun > 0;
        let mut parts = left.chunks(RECORDS).peekable();
        loop {
            let part = parts.next().unwrap_or_default();
            let is_last = parts.peek().is_none();
            if self.io.is_stopping() && !is_last {
                return Err(Error::Stopped);
            }
            let sent = match self.send_messages(part, partition, name, done).await? {
                Ok(sent) => sent,
                Err(no) => {
                    done.fail(shown(name), format!("its messages are refused: {no}"));
                    return Ok(());
                }
            };
            let mut records = Vec::new();
            for message in part.iter().filter(|message| is_sent(message, &sent)) {
                state.add(folder, message);
                record(message, &mut records);
            }
            if is_last {
                state.finish(header);
            }
            let value = target.mailbox(&folder.id, &state, &records);
            let answer = if is_made { self.client.apply("MAILBOX", &value).await? } else { self.begin(target, &value).await? };
            is_made = true;
            if let Err(no) = answer {
                done.fail(shown(name), explained(&no));
                return Ok(());
            }
            for message in part.iter().filter(|message| is_sent(message, &sent)) {
                let bytes = message.body.at().map_or(0, |at| at.size);
                done.added += 1;
                done.bytes += bytes;
                self.io.event(Event::Progress { messages: 1, bytes });
            }
            if is_last {
                break;
            }
        }
        if self.held.len() > HELD_MAX {
            self.held.clear();
            let _ = self.client.restart().await?;
        }
        Ok(())
    }

    /// Makes a mailbox, if need be in the place of an empty one of another uniqueid.
    ///
    /// No mailbox has the uniqueid: [`Exact::judge`] has asked. But cyrus-imapd 3.6.1 forgets the record of a uniqueid when a
    /// mailbox under delayed delete goes for good (`imap/mboxlist.c: mboxlist_update_entry`), and then says of it that it is
    /// in use, unless an empty mailbox is replaced (`imap/sync_support.c: sync_apply_mailbox`).
    async fn begin(&mut self, target: &Target<'_>, value: &[u8]) -> Result<Answer<()>, Error> {
        // A mailbox for scripts would not be refused: 3.6.1 loses the refusal and crashes.
        if target.folder.entry.mbtype.kind != mailboxes::Kind::Sieve {
            match self.client.apply("MAILBOX", value).await? {
                Err(no) if no.is("IMAP_MAILBOX_MOVED") => {}
                answer => return Ok(answer),
            }
        }
        let empty = State { crc: 0, last_uid: 0, highestmodseq: 1 };
        let empty = target.mailbox(&place_holder(target.folder), &empty, &[]);
        match self.client.apply("MAILBOX", &empty).await? {
            Ok(()) => self.client.apply("MAILBOX", value).await,
            no => Ok(no),
        }
    }

    fn partition_of(&self, folder: &Folder) -> Vec<u8> {
        let own = self.partition.clone().or_else(|| folder.entry.partition.clone());
        own.unwrap_or_else(|| b"default".to_vec())
    }

    /// Makes the server hold the messages of these records ready. Gives those that it holds.
    async fn send_messages(
        &mut self,
        part: &[Message],
        partition: &[u8],
        name: &[u8],
        done: &mut FolderReport,
    ) -> Result<Answer<BTreeSet<Guid>>, Error> {
        let bodies = part.iter().filter_map(|message| match message.body {
            Body::At(at) => Some(at),
            _ => None,
        });
        let mut wanted: Vec<MessageAt> = bodies.collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut sent: BTreeSet<Guid> = wanted.iter().map(|at| at.guid).filter(|guid| self.held.contains(guid)).collect();
        wanted.retain(|at| !self.held.contains(&at.guid));
        let guids: Vec<Guid> = wanted.iter().map(|at| at.guid).collect();
        if !guids.is_empty() {
            let missing = match self.client.reserve(partition, &[name], &guids).await? {
                Ok(missing) => missing.into_iter().collect::<BTreeSet<_>>(),
                Err(no) => return Ok(Err(no)),
            };
            sent.extend(guids.iter().filter(|guid| !missing.contains(*guid)));
            wanted.retain(|at| missing.contains(&at.guid));
            if let Err(no) = self.upload(wanted, partition, &mut sent, done).await? {
                return Ok(Err(no));
            }
        }
        self.held.extend(sent.iter());
        for message in part.iter().filter(|message| !is_sent(message, &sent)) {
            let why = message.body.why_not().unwrap_or("its content is not what the index describes");
            done.fail(named(message), why);
        }
        Ok(Ok(sent))
    }

    /// Sends messages, some MiB in one command; one that is larger is read twice, for it cannot be taken back.
    async fn upload(
        &mut self,
        wanted: Vec<MessageAt>,
        partition: &[u8],
        sent: &mut BTreeSet<Guid>,
        done: &mut FolderReport,
    ) -> Result<Answer<()>, Error> {
        let (large, small): (Vec<MessageAt>, Vec<MessageAt>) = wanted.into_iter().partition(|at| at.size > GROUP_BYTES);
        let reader = self.selection.reader();
        let mut bodies = Bodies::new(self.io, reader, small, AHEAD).after(core::mem::take(&mut self.last));
        let (mut content, mut open) = (Vec::new(), None);
        let mut bytes = 0;
        while let Some((at, result)) = bodies.next_whole(GROUP_BYTES, &mut content).await? {
            if let Err(error) = result {
                done.fail(at.guid.to_string(), error.to_string());
                continue;
            }
            let is_first = open.is_none();
            if is_first {
                open = Some(self.client.messages_begin().await?);
            }
            self.client.message(partition, Upload { guid: at.guid, size: at.size }, is_first).await?;
            self.client.piece(&content).await?;
            sent.insert(at.guid);
            bytes += at.size;
            if bytes >= GROUP_BYTES
                && let Some(tag) = open.take()
            {
                bytes = 0;
                if let Err(no) = self.client.messages_end(&tag).await? {
                    return Ok(Err(no));
                }
            }
        }
        self.last = bodies.last();
        if let Some(tag) = open
            && let Err(no) = self.client.messages_end(&tag).await?
        {
            return Ok(Err(no));
        }
        for at in large {
            if let Err(error) = reader.copy_message(&at, &mut |_| true).await {
                done.fail(at.guid.to_string(), error.to_string());
                continue;
            }
            if let Err(no) = self.upload_large(at, partition).await? {
                return Ok(Err(no));
            }
            sent.insert(at.guid);
        }
        Ok(Ok(()))
    }

    async fn upload_large(&mut self, at: MessageAt, partition: &[u8]) -> Result<Answer<()>, Error> {
        let tag = self.client.messages_begin().await?;
        self.client.message(partition, Upload { guid: at.guid, size: at.size }, true).await?;
        let mut bodies = Bodies::new(self.io, self.selection.reader(), Vec::from([at]), AHEAD);
        while let Some(next) = bodies.next().await? {
            match next {
                Next::Piece(piece) => self.client.piece(piece).await?,
                Next::Bad(_, error) => return Err(error),
                Next::Begin(_) | Next::Good => {}
            }
        }
        self.client.messages_end(&tag).await
    }

    /// What belongs to the user and to no folder.
    async fn user(&mut self, report: &mut Report) -> Result<(), Error> {
        let data = self.selection.user_data(&self.naming).await?;
        data.problems.iter().for_each(|problem| report.fail("data of the user", problem.to_string()));
        let is_theirs = self.replace || report.folders.iter().all(|folder| folder.failed == 0);
        if !is_theirs {
            let why = "subscriptions, seen state, scripts and quota are left as they are, for not every folder is as it was";
            report.notes.push(String::from(why));
            return Ok(());
        }
        for (what, shown, commands) in commands(&data, &self.selection.owner, &self.naming) {
            let mut count = 0;
            for (name, value) in commands {
                let answer = if self.rehearse { Ok(()) } else { self.client.apply(what, &value).await? };
                match answer {
                    Ok(()) => count += 1,
                    Err(no) => report.fail(format!("{shown}: {name}"), no.to_string()),
                }
            }
            if count > 0 {
                report.others.push((shown, count));
            }
        }
        Ok(())
    }
}

/// Numbers of a mailbox up to some record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct State {
    crc: u32,
    last_uid: u32,
    highestmodseq: u64,
}

impl State {
    fn add(&mut self, folder: &Folder, message: &Message) {
        let keywords = folder.header.as_ref().map_or(&[][..], |header| &header.user_flags);
        let mut record = message.row.record;
        record.guid = message.row.guid;
        record.modseq = Some(modseq(message));
        if !is_gone(message) {
            self.crc ^= record.sync_crc(keywords);
        }
        self.last_uid = self.last_uid.max(message.uid());
        self.highestmodseq = self.highestmodseq.max(modseq(message));
    }

    /// The last part carries what the mailbox itself had.
    fn finish(&mut self, header: &Header) {
        self.last_uid = self.last_uid.max(header.last_uid);
        self.highestmodseq = self.highestmodseq.max(header.highestmodseq.unwrap_or(1));
    }

    /// The numbers of all records with UIDs up to this one.
    fn up_to(folder: &Folder, uid: u64) -> State {
        let mut state = State::default();
        let records = folder.messages.iter().take_while(|message| u64::from(message.uid()) <= uid);
        records.for_each(|message| state.add(folder, message));
        state
    }
}

fn modseq(message: &Message) -> u64 {
    message.row.record.modseq.unwrap_or(1).max(1)
}

fn is_gone(message: &Message) -> bool {
    message.row.is_expunged || message.row.is_unlinked
}

/// Records of messages that are gone need no content.
fn is_sent(message: &Message, sent: &BTreeSet<Guid>) -> bool {
    is_gone(message) || sent.contains(&message.row.guid)
}

fn is_same(folder: &Folder, header: &Header, there: &Mailbox) -> bool {
    let mut state = State::up_to(folder, u64::MAX);
    state.finish(header);
    there.uidvalidity == u64::from(header.uidvalidity)
        && there.last_uid == u64::from(state.last_uid)
        && there.highestmodseq == state.highestmodseq
        && u64::from(state.crc) == there.sync_crc
}

/// A mailbox that is made.
#[derive(Clone, Copy)]
struct Target<'a> {
    folder: &'a Folder,
    header: &'a Header,
    /// Internal name.
    name: &'a [u8],
    partition: &'a [u8],
}

impl Target<'_> {
    /// The value of `APPLY MAILBOX`, with the records that come now.
    fn mailbox(&self, id: &[u8], state: &State, records: &[u8]) -> Vec<u8> {
        let &Target { folder, header, name, partition } = self;
        let mut out = Pairs::new();
        out.text("UNIQUEID", id);
        out.text("MBOXNAME", name);
        // Where its directory is, the other letters, is for the server to decide.
        let kind = folder.entry.mbtype.kind.letter();
        if kind != b'e' {
            out.text("MBOXTYPE", &[kind]);
        }
        out.number("SYNC_CRC", u64::from(state.crc));
        out.number("LAST_UID", u64::from(state.last_uid));
        out.number("HIGHESTMODSEQ", state.highestmodseq);
        out.number("RECENTUID", u64::from(header.recentuid));
        out.time("RECENTTIME", header.recenttime);
        out.time("LAST_APPENDDATE", header.last_appenddate);
        out.time("POP3_LAST_LOGIN", header.pop3_last_login);
        out.time("POP3_SHOW_AFTER", header.pop3_show_after);
        out.number("UIDVALIDITY", u64::from(header.uidvalidity));
        out.text("PARTITION", partition);
        out.text("ACL", &acl(folder));
        out.text("OPTIONS", options(header.options).as_bytes());
        if let Some(root) = folder.quota_root() {
            out.text("QUOTAROOT", root);
        }
        let created = header.createdmodseq.unwrap_or(folder.entry.createdmodseq);
        if created > 0 {
            out.number("CREATEDMODSEQ", created);
        }
        if folder.entry.foldermodseq > 0 {
            out.number("FOLDERMODSEQ", folder.entry.foldermodseq);
        }
        if !folder.annotations.is_empty() {
            out.key("ANNOTATIONS");
            annotations(folder.annotations.iter(), &mut out.0);
        }
        out.key("RECORD");
        out.0.push(b'(');
        out.0.extend_from_slice(records);
        out.0.push(b')');
        out.finish()
    }
}

/// True if what is there is what an earlier run has left: the first records, and nothing else.
fn is_begun(folder: &Folder, header: &Header, there: &Mailbox) -> bool {
    let state = State::up_to(folder, there.last_uid);
    there.uidvalidity == u64::from(header.uidvalidity)
        && there.last_uid < u64::from(header.last_uid)
        && there.highestmodseq <= state.highestmodseq.max(1)
        && u64::from(state.crc) == there.sync_crc
}

/// The uniqueid of the empty mailbox that keeps a place for a moment: always the same, so that a later run knows it.
fn place_holder(folder: &Folder) -> Vec<u8> {
    let mut text = b"place of ".to_vec();
    text.extend_from_slice(&folder.id);
    Guid::of(&text).to_hex().as_bytes()[..24].to_vec()
}

fn rehearsed(folder: &Folder, done: &mut FolderReport) {
    for message in &folder.messages {
        match (&message.body, is_gone(message)) {
            (Body::At(at), _) => {
                done.added += 1;
                done.bytes += at.size;
            }
            (_, true) => done.added += 1,
            (body, false) => {
                let why = body.why_not().unwrap_or("its content is not what the index describes");
                done.fail(named(message), why);
            }
        }
    }
}

fn explained(no: &No) -> String {
    let hint = if no.is("IMAP_MAILBOX_MOVED") {
        "; its uniqueid or its name is in use"
    } else if no.is("IMAP_SYNC_CHECKSUM") {
        "; the mailbox is incomplete: somebody may have used it meanwhile; run this again with --replace"
    } else {
        "; its log says more (a partition that is not there, for which there is --partition, or no right to do this)"
    };
    format!("{no}{hint}")
}

/// A list of keys and values on its way.
struct Pairs(Vec<u8>);

impl Pairs {
    fn new() -> Pairs {
        Pairs(b"%(".to_vec())
    }

    fn key(&mut self, key: &str) {
        if self.0.last() != Some(&b'(') {
            self.0.push(b' ');
        }
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b' ');
    }

    fn text(&mut self, key: &str, text: &[u8]) {
        self.key(key);
        dlist::emit(&Value::Text(text.to_vec()), &mut self.0);
    }

    fn number(&mut self, key: &str, number: u64) {
        self.key(key);
        self.0.extend_from_slice(number.to_string().as_bytes());
    }

    /// Whole seconds; 0 for none.
    fn time(&mut self, key: &str, time: Option<Time>) {
        let secs = time.map_or(0, |time| u64::try_from(time.secs()).unwrap_or(0));
        self.number(key, secs);
    }

    fn finish(mut self) -> Vec<u8> {
        self.0.push(b')');
        self.0
    }
}

fn atom(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    dlist::emit(&Value::Text(text.to_vec()), &mut out);
    out
}

/// One record, a blank before it unless it is the first.
fn record(message: &Message, out: &mut Vec<u8>) {
    let record = &message.row.record;
    if !out.is_empty() {
        out.push(b' ');
    }
    let mut pairs = Pairs::new();
    pairs.number("UID", u64::from(message.uid()));
    pairs.number("MODSEQ", modseq(message));
    pairs.time("LAST_UPDATED", Some(record.last_updated));
    pairs.key("FLAGS");
    flags(message, &mut pairs.0);
    pairs.time("INTERNALDATE", Some(record.internaldate));
    pairs.number("SIZE", record.size);
    pairs.text("GUID", message.row.guid.to_hex().as_bytes());
    let fields = fields(message);
    if !fields.is_empty() || !message.annotations.is_empty() {
        pairs.key("ANNOTATIONS");
        annotations(fields.iter().chain(&message.annotations), &mut pairs.0);
    }
    out.extend_from_slice(&pairs.finish());
}

/// Flags stand as they are, also with a backslash before them.
fn flags(message: &Message, out: &mut Vec<u8>) {
    let gone = if is_gone(message) { &[b"\\Expunged".to_vec()][..] } else { &[] };
    out.push(b'(');
    for (n, flag) in message.row.flags.iter().chain(gone).enumerate() {
        if n > 0 {
            out.push(b' ');
        }
        match flag.strip_prefix(b"\\") {
            Some(name) => {
                out.push(b'\\');
                out.extend_from_slice(name);
            }
            None => dlist::emit(&Value::Text(flag.clone()), out),
        }
    }
    out.push(b')');
}

/// What a record has beside its ordinary fields, as annotations.
fn fields(message: &Message) -> Vec<Annotation> {
    let record = &message.row.record;
    let mut out = Vec::new();
    let mut add = |name: &str, value: String| {
        let entry = format!("{FIELDS}{name}").into_bytes();
        out.push(Annotation { entry, userid: Vec::new(), value: value.into_bytes(), modseq: 0 });
    };
    if record.cid != 0 {
        add("thrid", format!("{:016x}", record.cid));
    }
    if let Some(savedate) = record.savedate {
        add("savedate", savedate.secs().to_string());
    }
    if record.createdmodseq != 0 {
        add("createdmodseq", record.createdmodseq.to_string());
    }
    if record.basecid != 0 {
        add("basethrid", format!("{:016x}", record.basecid));
    }
    out
}

fn annotations<'n>(all: impl Iterator<Item = &'n Annotation>, out: &mut Vec<u8>) {
    out.push(b'(');
    for (n, annotation) in all.enumerate() {
        if n > 0 {
            out.push(b' ');
        }
        let mut pairs = Pairs::new();
        pairs.text("ENTRY", &annotation.entry);
        pairs.text("USERID", &annotation.userid);
        pairs.number("MODSEQ", annotation.modseq);
        pairs.text("VALUE", &annotation.value);
        out.extend_from_slice(&pairs.finish());
    }
    out.push(b')');
}

/// Identifiers and rights, each with a TAB behind it.
fn acl(folder: &Folder) -> Vec<u8> {
    let words = folder.acl().iter().flat_map(|(who, rights)| [&who[..], b"\t", rights, b"\t"]);
    words.flatten().copied().collect()
}

fn options(options: u32) -> String {
    const LETTERS: [(u32, char); 4] =
        [(option::POP3_NEW_UIDL, 'P'), (option::SHARED_SEEN, 'S'), (option::DUPLICATE_DELIVER, 'D'), (option::HAS_ALARMS, 'A')];
    LETTERS.iter().filter(|(bit, _)| options & bit != 0).map(|(_, letter)| *letter).collect()
}

/// Commands of one kind, each with what it is about.
type Commands = Vec<(String, Vec<u8>)>;

/// What is to be applied for the user: the command, what it is called, and its values. Quotas come last: what is restored may
/// be more than they allow.
fn commands(data: &UserData, owner: &Owner, naming: &Naming) -> [(&'static str, &'static str, Commands); 5] {
    let user = match owner {
        Owner::User(userid) => &userid[..],
        Owner::Shared => b"",
    };
    let subscriptions = data.subscriptions.iter().map(|name| {
        let name = naming.internal(name);
        let mut pairs = Pairs::new();
        pairs.text("USERID", user);
        pairs.text("MBOXNAME", &name);
        (shown(&name), pairs.finish())
    });
    let seen = data.seen.iter().map(|seen| {
        let mut pairs = Pairs::new();
        pairs.text("USERID", user);
        pairs.text("UNIQUEID", &seen.uniqueid);
        pairs.number("LASTREAD", u64::try_from(seen.lastread).unwrap_or(0));
        pairs.number("LASTUID", u64::from(seen.lastuid));
        pairs.number("LASTCHANGE", u64::try_from(seen.lastchange).unwrap_or(0));
        pairs.text("SEENUIDS", &seen.sequence);
        (shown(&seen.uniqueid), pairs.finish())
    });
    // Files of the sieve directory stand in both lists, in one order.
    let files = data.files.iter().filter(|file| file.name.starts_with(b"sieve/"));
    let scripts = data.sieve.iter().zip(files).filter(|(script, _)| script.file.ends_with(b".script"));
    let scripts = scripts.map(|(script, file)| {
        let mut pairs = Pairs::new();
        pairs.text("USERID", user);
        pairs.text("FILENAME", &script.file);
        pairs.time("LAST_UPDATE", file.mtime);
        pairs.text("CONTENT", &script.content);
        (shown(&script.file), pairs.finish())
    });
    // Where scripts are messages of a mailbox, one is marked there.
    let has_scripts = data.sieve.iter().any(|script| script.file.ends_with(b".script"));
    let active = data.active.iter().filter(|_| has_scripts).map(|name| {
        let mut pairs = Pairs::new();
        pairs.text("USERID", user);
        pairs.text("FILENAME", &[&name[..], b".bc"].concat());
        (shown(name), pairs.finish())
    });
    let quotas = data.quotas.iter().map(|(root, quota)| (shown(root), quota_value(root, quota)));
    [
        ("SUB", "subscriptions", subscriptions.collect()),
        ("SEEN", "seen states", seen.collect()),
        ("SIEVE", "scripts", scripts.collect()),
        ("ACTIVATE_SIEVE", "active scripts", active.collect()),
        ("QUOTA", "quotas", quotas.collect()),
    ]
}

/// Limits under the names of all versions; what is not limited is left out.
fn quota_value(root: &[u8], quota: &Quota) -> Vec<u8> {
    const NAMES: [(Resource, &[&str]); 4] = [
        (Resource::Storage, &["LIMIT", "STORAGE"]),
        (Resource::Messages, &["MESSAGE"]),
        (Resource::AnnotationStorage, &["ANNOTATION-STORAGE", "X-ANNOTATION-STORAGE"]),
        (Resource::Folders, &["MAILBOX", "X-NUM-FOLDERS"]),
    ];
    let mut pairs = Pairs::new();
    pairs.text("ROOT", root);
    for (resource, names) in NAMES {
        if let Some(limit) = quota.of(resource).limit.and_then(|limit| u64::try_from(limit).ok()) {
            names.iter().for_each(|name| pairs.number(name, limit));
        }
    }
    if quota.modseq > 0 {
        pairs.number("MODSEQ", quota.modseq);
    }
    pairs.finish()
}
