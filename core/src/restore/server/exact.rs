//! Mailboxes as they were, by the replication protocol.
//!
//! A mailbox is made from nothing: uniqueid, UIDVALIDITY, UIDs, flags, dates, MODSEQs, conversations, annotations, ACL. Records
//! go in ascending order of UID, some hundred at a time, their messages before them; the server compares its own checksum
//! (`SYNC_CRC`) after each part with the one sent. So after a cut there is a mailbox with the first records and nothing else,
//! which is how the next run knows it: the same uniqueid and UIDVALIDITY, nothing newer, and the checksum of as many records of
//! ours. It then goes on there. Whatever else is there is only replaced if that was asked for, and then removed first: nobody
//! can make older what a replication server has. Nothing is removed before the server has all that it needs for the new one.
//! What must not come in: the words of the protocol ([`crate::sync::client`]), what can be known without a server
//! (`ready`).

use super::deliver::{GROUP_BYTES, named, report_of};
use super::ready::{self, is_gone, made_id};
use super::report::{FolderReport, Report};
use super::scripts::{self, Script};
use crate::archive::record::MessageAt;
use crate::cyrus::dlist::{self, Value};
use crate::cyrus::index::{Header, option};
use crate::cyrus::mailboxes::{self, Kind, MbEntry};
use crate::cyrus::names::{Naming, Owner};
use crate::cyrus::quota::{Quota, Resource};
use crate::error::Error;
use crate::escape::shown;
use crate::guid::Guid;
use crate::io::{Event, Io};
use crate::restore::bodies::{Bodies, Last, Next};
use crate::restore::entry;
use crate::restore::select::{Annotation, Body, Folder, Message, Scope, Selection, UserData, is_deleted_folder};
use crate::sync::client::{self, Answer, Client, Mailbox, No, Upload};
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Records in one command.
const RECORDS: usize = 500;
/// Messages that the server holds ready for the connection, before it is told to forget them.
const HELD_MAX: usize = 100_000;
/// Connections of one restore, of which all but the first are made because the one before has ended at a message.
const CONNECTIONS_MAX: usize = 40;
/// Members that are inflated ahead.
const AHEAD: usize = 4;
/// Names that one question has.
const NAMES: usize = 200;
/// Records that are named where the server has made something else of them.
const NAMED: usize = 3;
/// Mailboxes of calendars and the like that servers make of their own accord.
const OWN_MAILBOXES: [&str; 6] =
    ["#calendars", "#calendars.Default", "#addressbooks", "#addressbooks.Default", "#notifications", "#drive"];
/// From this version of the index on INTERNALDATE has nanoseconds.
const VERSION_OF_NANOSECONDS: u32 = 20;
/// The names of annotations that carry fields of a record (`imap/sync_support.c`).
const FIELDS: &str = "/vendor/cmu/cyrus-imapd/";

/// What to do where nobody has an INBOX.
const NO_INBOX: &str = "the snapshot has none either: make it (CREATE as an administrator), and run this again";

/// What is wished of a restore by the replication protocol.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    /// Where mailboxes are made, if not where they were.
    pub partition: Option<Vec<u8>>,
    /// Replace what is there.
    pub replace: bool,
    /// Only say what would be done.
    pub rehearse: bool,
}

/// Restores, and connects again where the server ends the connection at a message. One at which it does so again is left out,
/// and the others are restored.
pub async fn restore(
    io: &Io,
    selection: &Selection<'_>,
    wishes: &Wishes,
    mut connect: impl AsyncFnMut() -> Result<Client, Error>,
) -> Result<Report, Error> {
    let (mut refused, mut careful, mut connections) = (BTreeMap::new(), BTreeSet::new(), 1);
    let mut client = connect().await?;
    loop {
        let mut exact = Exact::new(io, selection, &mut client);
        exact.partition.clone_from(&wishes.partition);
        (exact.replace, exact.rehearse) = (wishes.replace, wishes.rehearse);
        (exact.refused, exact.careful) = (refused.clone(), careful.clone());
        let report = exact.run().await;
        let suspects = core::mem::take(&mut exact.under_way);
        let is_over = client.is_silent() || io.is_stopping() || suspects.is_empty() || connections == CONNECTIONS_MAX;
        client.exit().await;
        if is_over || report.as_ref().is_ok_and(|report| report.ended_early.is_none()) {
            return report;
        }
        match suspects[..] {
            [one] if careful.contains(&one) => {
                let why = "the server has ended the connection at it twice; its log may say why, and --merge may get it there";
                refused.insert(one, String::from(why));
            }
            _ => careful.extend(suspects),
        }
        connections += 1;
        client = match connect().await {
            Ok(client) => client,
            Err(_) => return report,
        };
    }
}

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
    /// Messages that are left out, and why.
    pub refused: BTreeMap<Guid, String>,
    /// Messages of which each goes in a command of its own.
    pub careful: BTreeSet<Guid>,
    /// Messages of the command that the server was asked for last, if the connection ended before its answer.
    pub under_way: Vec<Guid>,
    /// uniqueids for folders that cannot have their own.
    own_ids: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Scripts that are on the server.
    scripts: Vec<client::Script>,
    /// Partitions that the server has.
    partitions: BTreeSet<Vec<u8>>,
    /// The INBOX got another uniqueid, and what hangs on that is new.
    is_inbox_new: bool,
    /// The server has a conversations database of this user.
    has_threads: bool,
    /// A folder is somebody else's, or newer, and stays.
    is_occupied: bool,
    /// What of the archive could not be read.
    unread: BTreeMap<Guid, String>,
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
        let own_ids = ready::own_ids(&selection.table, &selection.owner);
        Exact {
            io,
            selection,
            client,
            naming: selection.naming.clone(),
            partition: None,
            replace: false,
            rehearse: false,
            refused: BTreeMap::new(),
            careful: BTreeSet::new(),
            under_way: Vec::new(),
            own_ids,
            scripts: Vec::new(),
            partitions: BTreeSet::new(),
            is_inbox_new: false,
            has_threads: false,
            is_occupied: false,
            unread: BTreeMap::new(),
            held: BTreeSet::new(),
            last: Last::default(),
        }
    }

    /// Does it. What fails is in the report, and so is why it ended early if it did.
    pub async fn run(&mut self) -> Result<Report, Error> {
        let mut report = Report::default();
        self.look(&mut report).await?;
        for n in 0..self.selection.len() {
            if !self.is_wanted(n) {
                continue;
            }
            let Some(mut folder) = self.selection.folder(n).await? else { continue };
            let mut done = report_of(&folder, b"");
            self.adapt(&mut folder, &mut done, &mut report);
            let ended = if self.io.is_stopping() { Err(Error::Stopped) } else { self.folder(&folder, &mut done).await };
            report.folders.push(done);
            if let Err(error) = ended {
                report.ended_early = Some(self.why_ended(&error));
                return Ok(report);
            }
        }
        if self.is_inbox_new {
            self.tell_of_others(&mut report).await?;
        }
        if self.selection.wish.scope == Scope::All
            && let Err(error) = self.user(&mut report).await
        {
            report.ended_early = Some(self.why_ended(&error));
        }
        Ok(report)
    }

    /// An error, and what is known of its cause.
    fn why_ended(&self, error: &Error) -> String {
        let step = self.client.step();
        if self.client.is_silent() {
            format!(
                "{error} after `{step}`: it may wait for a lock that a session of this user holds. `cyr_info proc` on the server \
                 lists sessions, but for those of ManageSieve, which are processes `timsieved`. What was asked for last may \
                 still be done when the lock is free"
            )
        } else if matches!(error, Error::Peer { .. }) {
            format!("{error} (after `{step}`)")
        } else {
            error.to_string()
        }
    }

    /// Looks at what must be known before anything is done.
    async fn look(&mut self, report: &mut Report) -> Result<(), Error> {
        if let Owner::User(userid) = &self.selection.owner {
            match self.client.scripts(userid).await? {
                Ok(scripts) => self.scripts = scripts,
                Err(no) => report.notes.push(format!("which scripts are there is not told: {no}")),
            }
        }
        self.read_userid_as_the_server().await?;
        let inbox = self.inbox();
        let mut names = Vec::from_iter(inbox.clone());
        let rows: Vec<(Vec<u8>, Vec<u8>)> = (0..self.selection.len())
            .filter(|n| self.is_wanted(*n))
            .filter_map(|n| self.selection.row(n))
            .filter_map(|row| {
                let name = self.naming.parse_relative(&self.selection.owner, &row.name).ok()?;
                Some((self.naming.internal(&name), self.partition_of(&mailboxes::parse(&row.entry).unwrap_or_default())))
            })
            .collect();
        names.extend(rows.iter().map(|(name, _)| name.clone()));
        let mut there = BTreeSet::new();
        for names in names.chunks(NAMES) {
            let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
            // A refusal comes again for the folder itself.
            for mailbox in self.client.mailboxes(&names, &[]).await?.unwrap_or_default() {
                self.saw(&mailbox);
                there.insert(mailbox.name);
            }
        }
        if let Some(inbox) = inbox
            && !there.contains(&inbox)
            && !rows.is_empty()
            && rows.iter().all(|(name, _)| *name != inbox)
        {
            let has_one = self.selection.table.folder(b"INBOX").is_some();
            let what = if has_one { "restore it, too: name INBOX, or say --all" } else { NO_INBOX };
            return Err(Error::Refused(format!(
                "the server has no mailbox {}, so it makes none below that; {what}",
                shown(&inbox)
            )));
        }
        let wanted: BTreeSet<Vec<u8>> = rows.into_iter().filter(|(name, _)| !there.contains(name)).map(|row| row.1).collect();
        for partition in wanted {
            if let Some(why) = self.ask_partition(&partition).await? {
                return Err(Error::Refused(why));
            }
        }
        Ok(())
    }

    /// A userid with `@` is read as on the server from which the mail is, unless only the other name has a mailbox here.
    async fn read_userid_as_the_server(&mut self) -> Result<(), Error> {
        if !matches!(&self.selection.owner, Owner::User(userid) if userid.contains(&b'@')) {
            return Ok(());
        }
        let other = self.naming.clone().with_whole_userids(!self.naming.has_whole_userids());
        let own = self.inbox();
        let here = core::mem::replace(&mut self.naming, other);
        let names = [own, self.inbox()];
        let asked: Vec<&[u8]> = names.iter().flatten().map(Vec::as_slice).collect();
        let there = self.client.mailboxes(&asked, &[]).await?.unwrap_or_default();
        let has = |name: &Option<Vec<u8>>| there.iter().any(|mailbox| name.as_ref() == Some(&mailbox.name));
        // A server that reads the domain as its default one answers with the mailbox of another user.
        if has(&names[0]) || !has(&names[1]) {
            self.naming = here;
        }
        Ok(())
    }

    fn inbox(&self) -> Option<Vec<u8>> {
        match &self.selection.owner {
            owner @ Owner::User(_) => Some(self.naming.internal(&self.naming.parse_relative(owner, b"INBOX").ok()?)),
            Owner::Shared => None,
        }
    }

    /// Keeps what a mailbox tells of the server.
    fn saw(&mut self, mailbox: &Mailbox) {
        self.has_threads |= mailbox.xconvmodseq > 0;
        if !mailbox.partition.is_empty() {
            self.partitions.insert(mailbox.partition.clone());
        }
    }

    /// Why there can be no mailbox in this partition, if that is so. A server that gets a message for a partition that it does
    /// not have ends the connection (`imap/dlist.c: dlist_reserve_path`), so it is asked with an empty mailbox, in a place
    /// where nobody sees it.
    async fn ask_partition(&mut self, partition: &[u8]) -> Result<Option<String>, Error> {
        if self.rehearse || self.partitions.contains(partition) {
            return Ok(None);
        }
        let Err(no) = self.try_partition(partition).await? else { return Ok(None) };
        if !self.partitions.contains(&b"default"[..]) {
            let _ = self.try_partition(b"default").await?;
        }
        let there: Vec<String> = self.partitions.iter().map(|partition| format!("`{}`", shown(partition))).collect();
        let there = if there.is_empty() { String::new() } else { format!("; it has {}", there.join(", ")) };
        Ok(Some(format!(
            "the server makes no mailbox in partition `{}` ({no}){there}; --partition names another",
            shown(partition)
        )))
    }

    async fn try_partition(&mut self, partition: &[u8]) -> Result<Answer<()>, Error> {
        let user = match &self.selection.owner {
            Owner::User(userid) => self.inbox().unwrap_or_else(|| userid.clone()),
            Owner::Shared => b"shared".to_vec(),
        };
        let (domain, local) = match user.iter().position(|&c| c == b'!') {
            Some(at) => user.split_at(at + 1),
            None => (&user[..0], &user[..]),
        };
        let name = [domain, b"DELETED.", local, b".cylinder-asks.6B047E5B"].concat();
        let mut out = Pairs::new();
        out.text("UNIQUEID", &made_id(&[b"partition asked for at ", &name]));
        out.text("MBOXNAME", &name);
        for key in ["SYNC_CRC", "LAST_UID", "RECENTUID", "RECENTTIME", "LAST_APPENDDATE", "POP3_LAST_LOGIN"] {
            out.number(key, 0);
        }
        out.number("HIGHESTMODSEQ", 1);
        out.number("UIDVALIDITY", 1);
        out.text("PARTITION", partition);
        out.text("ACL", b"");
        out.text("OPTIONS", b"");
        out.key("RECORD");
        out.0.extend_from_slice(b"()");
        let answer = self.client.apply("MAILBOX", &out.finish()).await?;
        if answer.is_ok() {
            self.partitions.insert(partition.to_vec());
            let _ = self.client.remove(&name, 0).await?;
        }
        Ok(answer)
    }

    /// Makes of a folder what the server can take, and tells what that changes.
    fn adapt(&self, folder: &mut Folder, done: &mut FolderReport, report: &mut Report) {
        if let Some(id) = self.own_ids.get(&folder.name) {
            let (name, had) = (shown(&folder.name), shown(&folder.id));
            report
                .notes
                .push(format!("{name}: another folder has its uniqueid {had}, too, so it gets one of its own, {}", shown(id)));
            folder.id.clone_from(id);
        }
        let undated = ready::ready(folder, &self.refused, done);
        if undated > 0 {
            let name = shown(&folder.name);
            report.notes.push(format!("{name}: {undated} messages have no INTERNALDATE; they get the first second of 1970"));
        }
    }

    /// Tells of mailboxes that the archive does not have and that hung on the INBOX that was replaced.
    async fn tell_of_others(&mut self, report: &mut Report) -> Result<(), Error> {
        let Some(inbox) = self.inbox() else { return Ok(()) };
        let has = |name: &[u8]| self.selection.table.folder(name).is_some();
        let own = OWN_MAILBOXES.iter().filter(|name| !has(format!("INBOX.{name}").as_bytes()));
        let names: Vec<Vec<u8>> = own.map(|name| [&inbox[..], b".", name.as_bytes()].concat()).collect();
        let names: Vec<&[u8]> = names.iter().map(Vec::as_slice).collect();
        for mailbox in self.client.mailboxes(&names, &[]).await?.unwrap_or_default() {
            if mailbox.last_uid > 0 {
                let why = "it is not in the snapshot, and hung on the INBOX that was replaced: its entries are in no database until \
                           `dav_reconstruct` is run for the user";
                report.fail(shown(&mailbox.name), why);
            }
        }
        Ok(())
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
        if let Some(why) = self.why_left_out(folder) {
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
            there.iter().for_each(|mailbox| self.saw(mailbox));
            let judgement = self.judge(folder, header, &name, &there);
            if self.has_scripts(folder, &name, &judgement, &there) {
                return self.change_scripts(folder, &name, done).await;
            }
            match judgement {
                Judgement::Same => {
                    done.present = folder.messages.len() as u64;
                    return Ok(());
                }
                Judgement::Refuse(why) => {
                    self.is_occupied = true;
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
                    let partition = self.partition_of(&folder.entry);
                    let target = Target { folder, header, name: &name, partition: &partition };
                    return self.make(&target, begun.unwrap_or(0), done).await;
                }
                Judgement::Clear { remove, rename } => {
                    let other = there.iter().find(|mailbox| mailbox.name == name && mailbox.id != folder.id);
                    if other.is_some() && !self.part_from_inbox(folder, &name, done).await? {
                        return Ok(());
                    }
                    if !self.clear(folder, &name, remove, rename, done).await? {
                        return Ok(());
                    }
                }
            }
        }
        done.fail(shown(&name), "the mailbox changes while it is restored; run this again when nobody uses it");
        Ok(())
    }

    /// Why a folder is not restored, if it is none that is.
    fn why_left_out(&self, folder: &Folder) -> Option<&'static str> {
        match folder.entry.mbtype.kind {
            Kind::Sieve if !self.client.keeps_scripts() => {
                Some("the server keeps scripts in no mailbox; export this folder with --dir, and upload them by ManageSieve")
            }
            Kind::JmapSubmit if self.selection.wish.scope == Scope::All => {
                Some("mail that is scheduled would be sent; whoever wants that names this folder")
            }
            _ => None,
        }
    }

    /// True for a mailbox of scripts that is there and cannot be made as it was.
    fn has_scripts(&self, folder: &Folder, name: &[u8], judgement: &Judgement, there: &[Mailbox]) -> bool {
        let is_there = there.iter().any(|mailbox| mailbox.name == name);
        let is_right = match judgement {
            Judgement::Same => !self.is_inbox_new,
            Judgement::Make { .. } => true,
            _ => false,
        };
        folder.entry.mbtype.kind == Kind::Sieve && is_there && !is_right
    }

    /// Makes the scripts of the server those of a folder, and leaves the mailbox in which they are.
    async fn change_scripts(&mut self, folder: &Folder, name: &[u8], done: &mut FolderReport) -> Result<(), Error> {
        let Owner::User(userid) = &self.selection.owner else { return Ok(()) };
        let wanted = self.read_scripts(folder, done).await?;
        let commands = scripts::commands(userid, &wanted, &self.scripts);
        if commands.is_empty() {
            done.present = wanted.len() as u64;
            return Ok(());
        }
        if !self.replace {
            self.is_occupied = true;
            done.fail(shown(name), "there are other scripts; --replace backs them up and then takes their place");
            return Ok(());
        }
        for (verb, value) in commands.iter().filter(|_| !self.rehearse) {
            if let Err(no) = self.client.apply(verb, value).await? {
                done.fail(shown(name), format!("{verb}: {no}"));
                return Ok(());
            }
        }
        done.added = wanted.len() as u64;
        done.bytes = wanted.iter().map(|script| script.text.len() as u64).sum();
        Ok(())
    }

    async fn read_scripts(&mut self, folder: &Folder, done: &mut FolderReport) -> Result<Vec<Script>, Error> {
        let (mut out, mut content) = (Vec::new(), Vec::new());
        for message in folder.messages.iter().filter(|message| !is_gone(message)) {
            let Some(at) = message.body.at() else { continue };
            let mut bodies = Bodies::new(self.io, self.selection.reader(), Vec::from([at]), AHEAD);
            while let Some((_, result)) = bodies.next_whole(GROUP_BYTES, &mut content).await? {
                let is_active = message.row.record.is_flagged();
                match result.map(|()| scripts::of_message(&content, is_active)) {
                    Ok(Some(script)) => out.push(script),
                    Ok(None) => done.fail(named(message), "it is no script with a name"),
                    Err(error) => done.fail(named(message), error.to_string()),
                }
            }
        }
        Ok(out)
    }

    /// What hangs on the uniqueid of an INBOX that is about to go is made to be made again: databases of scripts, calendars and
    /// the like lie by it since 3.6, and are filled when their mailboxes are made. So those go first, and a run that is cut
    /// leaves nothing that looks whole and is not. False if the INBOX has to stay.
    async fn part_from_inbox(&mut self, folder: &Folder, name: &[u8], done: &mut FolderReport) -> Result<bool, Error> {
        let Owner::User(userid) = &self.selection.owner else { return Ok(true) };
        if folder.name != b"INBOX" || !self.client.keeps_users_by_id() {
            return Ok(true);
        }
        if self.selection.wish.scope != Scope::All {
            let why = "the INBOX there has another uniqueid, on which subscriptions, scripts, calendars and address books hang: \
                       say --all, so that they come, too";
            done.fail(shown(name), why);
            return Ok(false);
        }
        let mut going = Vec::new();
        for n in 0..self.selection.len() {
            let kind = self.selection.row(n).and_then(entry::kind);
            // Scheduled mail would not be made again.
            let stays = kind.is_none_or(|kind| matches!(kind, Kind::Email | Kind::Netnews | Kind::Sieve | Kind::JmapSubmit));
            if stays || !self.is_wanted(n) {
                continue;
            }
            let Some(folder) = self.selection.folder(n).await? else { continue };
            let Ok(name) = folder.mailbox(&self.naming, &self.selection.owner) else { continue };
            let name = self.naming.internal(&name);
            let there = self.client.mailboxes(&[&name], &[]).await?.unwrap_or_default();
            if let Some(mailbox) = there.into_iter().find(|mailbox| mailbox.name == name) {
                if !self.hold_all(&folder, &name, done).await? {
                    return Ok(false);
                }
                going.push(mailbox);
            }
        }
        // The INBOX itself, too, before the first of them goes.
        if !self.hold_all(folder, name, done).await? {
            return Ok(false);
        }
        let userid = userid.clone();
        for (verb, value) in scripts::commands(&userid, &[], &core::mem::take(&mut self.scripts)) {
            if let Err(no) = self.client.apply(verb, &value).await? {
                done.fail(shown(name), format!("its scripts cannot be taken from it: {no}"));
                return Ok(false);
            }
        }
        for mailbox in going {
            if let Err(no) = self.client.remove(&mailbox.name, mailbox.last_uid).await? {
                done.fail(shown(&mailbox.name), format!("cannot be removed: {no}"));
                return Ok(false);
            }
        }
        self.is_inbox_new = true;
        Ok(true)
    }

    /// Makes the server hold ready all messages of a folder, and asks for its partition; false if it will not.
    async fn hold_all(&mut self, folder: &Folder, name: &[u8], done: &mut FolderReport) -> Result<bool, Error> {
        let partition = self.partition_of(&folder.entry);
        let mut why = ready::unfit(name);
        if why.is_none() {
            why = self.ask_partition(&partition).await?;
        }
        for part in folder.messages.chunks(RECORDS) {
            if why.is_none()
                && let Err(no) = self.hold(part, &partition, name).await?
            {
                why = Some(format!("its messages are refused: {no}"));
            }
        }
        if let Some(why) = why {
            done.fail(shown(name), format!("{why}; so nothing is removed"));
            return Ok(false);
        }
        Ok(true)
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
        if let Some(old) = remove {
            if done.failed > 0 {
                done.fail(
                    shown(&old),
                    "some of its messages cannot be put back, so it is not removed: what is there may have them",
                );
                return Ok(false);
            }
            if !self.hold_all(folder, name, done).await? {
                return Ok(false);
            }
            if let Err(no) = self.client.remove(&old, folder.records).await? {
                done.fail(shown(&old), format!("cannot be removed: {no}"));
                return Ok(false);
            }
        }
        if let Some(old) = rename {
            let mut pairs = Pairs::new();
            pairs.text("OLDMBOXNAME", &old);
            pairs.text("NEWMBOXNAME", name);
            pairs.text("PARTITION", &self.partition_of(&folder.entry));
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
                let is_mail = folder.entry.mbtype.kind == Kind::Email;
                let lacks_threads = self.has_threads && mailbox.xconvmodseq == 0 && is_mail && !folder.messages.is_empty();
                // Its INBOX was another one once: the server's conversations are without it.
                if !self.replace || !lacks_threads {
                    return Judgement::Same;
                }
                String::from("the conversations database lacks it")
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
        let mut left = &folder.messages[there..];
        let bytes = left.iter().filter_map(|message| message.body.at()).map(|at| at.size).sum();
        self.io.event(Event::Expect { messages: left.len() as u64, bytes });
        let mut is_made = begun > 0;
        loop {
            let part = left.split_off(..self.part_len(left)).unwrap_or_default();
            let is_last = left.is_empty();
            if self.io.is_stopping() && !is_last {
                return Err(Error::Stopped);
            }
            if let Err(no) = self.hold(part, partition, name).await? {
                done.fail(shown(name), format!("its messages are refused: {no}"));
                return Ok(());
            }
            let (sent, unsent): (Vec<&Message>, Vec<&Message>) = part.iter().partition(|message| self.is_held(message));
            for message in unsent {
                let why = self.unread.get(&message.row.guid).map_or("its content is not what the index describes", |why| why);
                done.fail(named(message), why);
            }
            let mut records = Vec::new();
            for message in &sent {
                state.add(folder, message);
                record(message, self.client.takes_nanoseconds(), &mut records);
            }
            if is_last {
                state.finish(header);
            }
            let value = target.mailbox(&folder.id, &state, &records);
            self.under_way = sent.iter().filter(|message| !is_gone(message)).map(|message| message.row.guid).collect();
            let answer = if is_made { self.client.apply("MAILBOX", &value).await? } else { self.begin(target, &value).await? };
            self.under_way.clear();
            is_made = true;
            if let Err(no) = answer {
                let why = self.explained(&no, folder, name).await?;
                done.fail(shown(name), why);
                return Ok(());
            }
            for message in sent {
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
        self.check(target, &state, done).await
    }

    /// How many records the next command has. One of which the server may die goes alone.
    fn part_len(&self, left: &[Message]) -> usize {
        let careful = left.iter().take(RECORDS).position(|message| self.careful.contains(&message.row.guid));
        careful.map_or(RECORDS, |at| at.max(1)).min(left.len())
    }

    /// Compares what the server has made with what was sent.
    async fn check(&mut self, target: &Target<'_>, state: &State, done: &mut FolderReport) -> Result<(), Error> {
        let &Target { folder, header, name, partition } = target;
        let found = self.client.mailboxes(&[name], &[]).await?.unwrap_or_default();
        let Some(found) = found.into_iter().find(|mailbox| mailbox.name == name) else {
            done.fail(shown(name), "the server has taken it, and does not have it; somebody may have removed it meanwhile");
            return Ok(());
        };
        self.saw(&found);
        let text = |text: &[u8]| format!("`{}`", shown(text));
        let facts = [
            ("uniqueid", text(&folder.id), text(&found.id)),
            ("UIDVALIDITY", header.uidvalidity.to_string(), found.uidvalidity.to_string()),
            ("last UID", state.last_uid.to_string(), found.last_uid.to_string()),
            ("HIGHESTMODSEQ", state.highestmodseq.to_string(), found.highestmodseq.to_string()),
            ("checksum of its records", state.crc.to_string(), found.sync_crc.to_string()),
            ("partition", text(partition), text(if found.partition.is_empty() { partition } else { &found.partition })),
        ];
        for (what, sent, got) in facts.iter().filter(|(_, sent, got)| sent != got) {
            done.fail(shown(name), format!("its {what} is {got} on the server, and {sent} was sent"));
        }
        Ok(())
    }

    /// A refusal, and what is known of its cause.
    async fn explained(&mut self, no: &No, folder: &Folder, name: &[u8]) -> Result<String, Error> {
        if let Some(why) = ready::unfit(name) {
            return Ok(format!("{no}; {why}"));
        }
        if no.is("IMAP_MAILBOX_MOVED") {
            return Ok(format!("{no}; its uniqueid or its name is in use"));
        }
        if !no.is("IMAP_SYNC_CHECKSUM") {
            return Ok(format!("{no}; its log says more (no right to do this, or a full disk)"));
        }
        let differences = match self.client.whole_mailbox(name).await? {
            Ok(Some(found)) => differences(folder, &found),
            _ => Vec::new(),
        };
        if differences.is_empty() {
            return Ok(format!(
                "{no}; the mailbox is incomplete: somebody may have used it meanwhile; run this again with --replace"
            ));
        }
        Ok(format!("{no}; the server has made something else of it: {}", differences.join("; ")))
    }

    /// Makes a mailbox, if need be in the place of an empty one of another uniqueid.
    ///
    /// No mailbox has the uniqueid: [`Exact::judge`] has asked. But cyrus-imapd 3.6.1 forgets the record of a uniqueid when a
    /// mailbox under delayed delete goes for good (`imap/mboxlist.c: mboxlist_update_entry`), and then says of it that it is
    /// in use, unless an empty mailbox is replaced (`imap/sync_support.c: sync_apply_mailbox`).
    ///
    /// An INBOX is made without records first: while there is none, what the server keeps of the user, its conversations among
    /// it, lies where the INBOX before had it (`imap/mboxname.c: mboxname_conf_getpath`), and records would be entered there.
    async fn begin(&mut self, target: &Target<'_>, value: &[u8]) -> Result<Answer<()>, Error> {
        let empty = State { crc: 0, last_uid: 0, highestmodseq: 1 };
        let is_inbox = target.folder.name == b"INBOX" && self.client.keeps_users_by_id();
        let own = target.mailbox(&target.folder.id, &empty, &[]);
        let first = if is_inbox { &own } else { value };
        // A mailbox for scripts would not be refused: 3.6.1 loses the refusal and crashes.
        let mut answer = Err(No(Vec::new()));
        if target.folder.entry.mbtype.kind != Kind::Sieve {
            answer = self.client.apply("MAILBOX", first).await?;
        }
        if answer.as_ref().is_err_and(|no| no.0.is_empty() || no.is("IMAP_MAILBOX_MOVED")) {
            let place = target.mailbox(&place_holder(target.folder), &empty, &[]);
            answer = self.client.apply("MAILBOX", &place).await?;
            if answer.is_ok() {
                answer = self.client.apply("MAILBOX", first).await?;
            }
        }
        match answer {
            Ok(()) if is_inbox => self.client.apply("MAILBOX", value).await,
            answer => Ok(answer),
        }
    }

    fn partition_of(&self, entry: &MbEntry) -> Vec<u8> {
        let own = self.partition.clone().or_else(|| entry.partition.clone());
        own.unwrap_or_else(|| b"default".to_vec())
    }

    /// Records of messages that are gone need no content.
    fn is_held(&self, message: &Message) -> bool {
        is_gone(message) || self.held.contains(&message.row.guid)
    }

    /// Makes the server hold the messages of these records ready.
    async fn hold(&mut self, part: &[Message], partition: &[u8], name: &[u8]) -> Result<Answer<()>, Error> {
        let bodies = part.iter().filter_map(|message| match message.body {
            Body::At(at) => Some(at).filter(|at| at.size > 0 && !self.held.contains(&at.guid)),
            _ => None,
        });
        let mut wanted: Vec<MessageAt> = bodies.filter(|at| !self.unread.contains_key(&at.guid)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return Ok(Ok(()));
        }
        let guids: Vec<Guid> = wanted.iter().map(|at| at.guid).collect();
        let missing = match self.client.reserve(partition, &[name], &guids).await? {
            Ok(missing) => missing.into_iter().collect::<BTreeSet<_>>(),
            Err(no) => return Ok(Err(no)),
        };
        self.held.extend(guids.iter().filter(|guid| !missing.contains(*guid)));
        wanted.retain(|at| missing.contains(&at.guid));
        self.upload(wanted, partition).await
    }

    /// Sends messages, some MiB in one command; one that is larger is read twice, for it cannot be taken back.
    async fn upload(&mut self, wanted: Vec<MessageAt>, partition: &[u8]) -> Result<Answer<()>, Error> {
        let (large, small): (Vec<MessageAt>, Vec<MessageAt>) = wanted.into_iter().partition(|at| at.size > GROUP_BYTES);
        let reader = self.selection.reader();
        let mut bodies = Bodies::new(self.io, reader, small, AHEAD).after(core::mem::take(&mut self.last));
        let (mut content, mut open, mut bytes) = (Vec::new(), None, 0);
        while let Some((at, result)) = bodies.next_whole(GROUP_BYTES, &mut content).await? {
            if let Err(error) = result {
                self.unread.insert(at.guid, error.to_string());
                continue;
            }
            if bytes >= GROUP_BYTES || self.careful.contains(&at.guid) {
                bytes = 0;
                if let Err(no) = self.uploaded(open.take()).await? {
                    return Ok(Err(no));
                }
            }
            let is_first = open.is_none();
            if is_first {
                open = Some(self.client.messages_begin().await?);
            }
            self.under_way.push(at.guid);
            self.client.message(partition, Upload { guid: at.guid, size: at.size }, is_first).await?;
            self.client.piece(&content).await?;
            bytes += if self.careful.contains(&at.guid) { GROUP_BYTES } else { at.size };
        }
        self.last = bodies.last();
        if let Err(no) = self.uploaded(open).await? {
            return Ok(Err(no));
        }
        for at in large {
            if let Err(error) = reader.copy_message(&at, &mut |_| true).await {
                self.unread.insert(at.guid, error.to_string());
                continue;
            }
            self.under_way.push(at.guid);
            if let Err(no) = self.upload_large(at, partition).await? {
                return Ok(Err(no));
            }
            self.held.extend(core::mem::take(&mut self.under_way));
        }
        Ok(Ok(()))
    }

    /// Ends a command that sends messages, if one was begun.
    async fn uploaded(&mut self, open: Option<Vec<u8>>) -> Result<Answer<()>, Error> {
        let Some(tag) = open else { return Ok(Ok(())) };
        let answer = self.client.messages_end(&tag).await?;
        let sent = core::mem::take(&mut self.under_way);
        if answer.is_ok() {
            self.held.extend(sent);
        }
        Ok(answer)
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
        if self.is_occupied && !self.replace {
            let why = "subscriptions, seen states, scripts and quotas are left as they are, for a folder that is there is another one";
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
        self.later_fields(id, &mut out);
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

impl Target<'_> {
    /// What later releases have: keywords in their order, those that no message has among them (3.12), the id that JMAP gives
    /// the mailbox, the version of the index, MODSEQ of removals (3.13). Others pass over it.
    fn later_fields(&self, id: &[u8], out: &mut Pairs) {
        let Target { folder, header, .. } = self;
        if let Some(deleted) = header.deletedmodseq.filter(|&deleted| deleted > 0) {
            out.number("DELETEDMODSEQ", deleted);
        }
        if header.minor_version >= VERSION_OF_NANOSECONDS {
            out.number("VERSION", u64::from(header.minor_version));
        }
        // One that keeps a place has none, for no two mailboxes have the same.
        if let Some(jmapid) = folder.entry.jmapid.as_ref().filter(|_| id == folder.id) {
            out.text("JMAPID", jmapid);
        }
        let keywords = folder.header.iter().flat_map(|header| header.user_flags.iter().flatten());
        let keywords: Vec<Value> = keywords.map(|name| Value::Text(name.clone())).collect();
        if !keywords.is_empty() {
            out.key("USERFLAGS");
            dlist::emit(&Value::List(keywords), &mut out.0);
        }
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
    made_id(&[b"place of ", &folder.id])
}

fn rehearsed(folder: &Folder, done: &mut FolderReport) {
    done.added = folder.messages.len() as u64;
    done.bytes = folder.messages.iter().filter_map(|message| message.body.at()).map(|at| at.size).sum();
}

/// What the server has made of the records of a folder that is not what was sent; the first few of them.
fn differences(folder: &Folder, found: &Value) -> Vec<String> {
    let records = found.get("RECORD").and_then(Value::list).unwrap_or_default();
    let number = |record: &Value, key: &str| record.get(key).and_then(Value::number);
    let by_uid: BTreeMap<u64, &Value> = records.iter().filter_map(|record| Some((number(record, "UID")?, record))).collect();
    let mut out = Vec::new();
    for message in folder.messages.iter().filter(|message| !is_gone(message)) {
        let (what, record) = (named(message), &message.row.record);
        let Some(found) = by_uid.get(&u64::from(message.uid())) else {
            out.push(format!("{what} is not there"));
            continue;
        };
        let secs = |time: Time| u64::try_from(time.secs()).unwrap_or(0);
        let numbers = [
            ("MODSEQ", modseq(message)),
            ("INTERNALDATE", secs(record.internaldate)),
            ("LAST_UPDATED", secs(record.last_updated)),
            ("SIZE", record.size),
        ];
        for (key, sent) in numbers {
            let got = number(found, key).unwrap_or(0);
            if got != sent {
                out.push(format!("{what} has {key} {got}, and {sent} was sent"));
            }
        }
        let lower = |flags: &mut dyn Iterator<Item = &[u8]>| flags.map(<[u8]>::to_ascii_lowercase).collect::<BTreeSet<_>>();
        let got = found.get("FLAGS").and_then(Value::list).unwrap_or_default();
        let got = lower(&mut got.iter().filter_map(Value::text));
        let sent = lower(&mut message.row.flags.iter().map(Vec::as_slice));
        for flag in sent.symmetric_difference(&got) {
            let verb = if got.contains(flag) { "has got" } else { "lacks" };
            out.push(format!("{what} {verb} the flag {}", shown(flag)));
        }
    }
    if out.len() > NAMED {
        let more = out.len() - NAMED;
        out.truncate(NAMED);
        out.push(format!("and {more} more"));
    }
    out
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

/// One record, a blank before it unless it is the first.
fn record(message: &Message, nanoseconds: bool, out: &mut Vec<u8>) {
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
    let fields = fields(message, nanoseconds);
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
fn fields(message: &Message, nanoseconds: bool) -> Vec<Annotation> {
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
    let nsec = record.internaldate.subsec_ns();
    if nanoseconds && nsec != 0 {
        add("internaldate.nsec", nsec.to_string());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cyrus::header;
    use crate::cyrus::index::{Record, Uid};
    use crate::view::MessageRow;

    fn message(ns: i64) -> Message {
        let record = Record { uid: Uid(1), internaldate: Time(ns), ..Record::default() };
        let row = MessageRow { record, guid: Guid::of(b""), is_expunged: false, is_unlinked: false, flags: Vec::new() };
        Message { row, annotations: Vec::new(), body: Body::NotStored }
    }

    #[test]
    fn nanoseconds_go_where_the_server_has_them() {
        let told = |nanoseconds| {
            let mut out = Vec::new();
            record(&message(7_000_000_123), nanoseconds, &mut out);
            String::from_utf8_lossy(&out).into_owned()
        };
        let entry = "ENTRY /vendor/cmu/cyrus-imapd/internaldate.nsec USERID \"\" MODSEQ 0 VALUE 123";
        assert!(told(true).contains("INTERNALDATE 7 ") && told(true).contains(entry), "{}", told(true));
        assert!(told(false).contains("INTERNALDATE 7 ") && !told(false).contains("nsec"), "{}", told(false));
    }

    #[test]
    fn what_later_releases_have_is_sent_with_the_mailbox_itself_alone() {
        let index = Header { minor_version: 20, deletedmodseq: Some(5), ..Header::default() };
        let keywords = Vec::from([Some(b"$Unused".to_vec()), None, Some(b"Junk".to_vec())]);
        let folder = Folder {
            id: b"abc".to_vec(),
            entry: MbEntry { jmapid: Some(b"Pxyz".to_vec()), ..MbEntry::default() },
            header: Some(header::Header { user_flags: keywords, ..header::Header::default() }),
            ..Folder::default()
        };
        let target = Target { folder: &folder, header: &index, name: b"user.anna", partition: b"default" };
        let told = |id: &[u8]| String::from_utf8_lossy(&target.mailbox(id, &State::default(), &[])).into_owned();
        let (own, place) = (told(b"abc"), told(b"another"));
        assert!(own.contains("DELETEDMODSEQ 5 VERSION 20 JMAPID Pxyz USERFLAGS ($Unused Junk)"), "{own}");
        assert!(!place.contains("JMAPID") && place.contains("VERSION 20"), "{place}");
    }
}
