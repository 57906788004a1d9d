//! Restoring by IMAP: the folders of a selection, one after the other, into a tree of their own or into the folders from which
//! they come. Nothing that is there is changed or removed.
//!
//! Everything is looked at first ([`Run::plan`]): which folders there are, which messages they have, whether the rest fits, and
//! what the server will not take. What is then done ([`Run::carry_out`]) looks at each folder again just before it is filled,
//! for others may be at work in it. What must not come in: the replication protocol.

use super::check::check;
use super::deliver::{
    Added, Delivery, Ends, OverQuota, Present, can_stage, clear, is_dateless, look, missing, named, report_of, sizes,
};
use super::limits::{KEYWORDS_MAX, Limits, copies, foresee};
use super::merge::{self, Everywhere};
use super::names::Names;
use super::report::{Failure, FolderReport, Report};
use super::room::{self, Need};
use super::{furnish, kinds};
use crate::error::Error;
use crate::escape::shown;
use crate::imap::client::{Client, Opened};
use crate::io::{Event, Io};
use crate::restore::bodies::Last;
use crate::restore::select::{Folder, Selection};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// How often the connection may end one time after the other while nothing is restored.
const IDLE_ENDS_MAX: u32 = 3;
/// How often it may end in one folder.
const ENDS_MAX: u32 = 1000;

/// Where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// A tree with this top, as the server names it.
    Tree(Vec<u8>),
    /// The folders from which the messages come.
    Original,
}

/// A restore by IMAP.
pub struct Run<'a> {
    /// The boundary.
    pub io: &'a Io,
    /// What is restored.
    pub selection: &'a Selection<'a>,
    /// The server, logged in as the owner, or as an administrator for shared folders.
    pub client: &'a mut Client,
    /// How its mailboxes are named.
    pub names: &'a Names,
    /// Where to.
    pub target: Target,
    /// What to do when there is no room.
    pub over_quota: OverQuota,
    /// From where messages are moved, once that mailbox is made.
    staging: Option<Staging>,
    /// How many were made.
    stagings: u32,
    /// What the walk over the messages added last has left.
    last: Last,
    /// A name for it that no other run has.
    id: Option<String>,
    /// Mailboxes that can be opened.
    there: BTreeSet<Vec<u8>>,
    /// Names of folders on the server, by those of the archive.
    aims: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Messages that the user has in other folders, and that are therefore left out.
    elsewhere: Everywhere,
    /// For the report.
    notes: Vec<String>,
}

/// A mailbox of this run alone.
struct Staging {
    name: Vec<u8>,
    /// Keywords that it has names for by now: there is a limit.
    keywords: BTreeSet<Vec<u8>>,
}

/// What all folders need, by the mailbox whose quota counts.
#[derive(Default)]
struct Needs {
    at: BTreeMap<Vec<u8>, Need>,
    /// Folders that will be made.
    made: BTreeSet<Vec<u8>>,
}

/// How far one folder has come, over all connections that it took.
#[derive(Default)]
struct Progress<'f> {
    /// How often the connection has ended at each message.
    ends: Ends,
    /// How often it ended, and how often since more messages were there than ever before.
    ended: (u32, u32),
    /// How many that were.
    most: u64,
    /// What failed when the folder was made.
    made: Vec<Failure>,
    /// It was made.
    is_made: bool,
    /// Why it ended last.
    why: String,
    /// What was there at first, and the next UID of it.
    first: Option<(u64, u32)>,
    /// What is to be added.
    sent: Vec<Added<'f>>,
    limits: Limits,
}

impl<'a> Run<'a> {
    /// A restore of which nothing has been done yet.
    pub fn new(io: &'a Io, selection: &'a Selection<'a>, client: &'a mut Client, names: &'a Names, target: Target) -> Run<'a> {
        Run {
            io,
            selection,
            client,
            names,
            target,
            over_quota: OverQuota::default(),
            staging: None,
            stagings: 0,
            last: Last::default(),
            id: None,
            there: BTreeSet::new(),
            aims: BTreeMap::new(),
            elsewhere: Everywhere::default(),
            notes: Vec::new(),
        }
    }

    /// Has messages moved to where they go from a mailbox of this run alone, if the server can; `id` is a word that no other
    /// run has.
    pub fn stage(&mut self, id: String) {
        self.id = Some(id).filter(|_| can_stage(self.client));
    }

    /// Makes an end to what killed runs have left on the server, so that none of it comes later: before anything is looked at.
    pub async fn clear(&mut self) -> Result<(), Error> {
        match self.id {
            Some(_) => clear(self.client, self.names, &mut self.notes).await,
            None => Ok(()),
        }
    }

    /// Looks for messages that the user has in other folders, which are then left out.
    pub async fn look_elsewhere(&mut self) -> Result<(), Error> {
        self.begin().await?;
        let all = merge::everywhere(self.client, self.names, self.selection, &self.aims).await?;
        if !all.is_settled {
            let why = "messages kept coming while the folders were looked at";
            self.notes.push(format!("{why}: one that was moved meanwhile may be in two folders now"));
        }
        self.elsewhere = all;
        Ok(())
    }

    /// What will be done. Refused if it is known that there is no room, unless somebody wants to try.
    pub async fn plan(&mut self) -> Result<Report, Error> {
        let mut report = self.begin().await?;
        let mut needs = Needs::default();
        for n in 0..self.selection.len() {
            let Some(folder) = self.selection.folder(n).await? else { continue };
            let planned = self.plan_folder(&folder, &mut needs).await?;
            report.folders.push(planned);
        }
        if self.over_quota == OverQuota::Stop
            && let Some(why) = room::lacks(self.client, &needs.at).await?
        {
            let what =
                "raise the quota, select less, or say --over-quota warn (restore what fits) or lift (as an administrator)";
            return Err(Error::Refused(format!("{why}; {what}")));
        }
        report.notes.extend(self.notes.iter().cloned());
        Ok(report)
    }

    /// Finds out which mailboxes there are, and how those of the archive are called there.
    async fn begin(&mut self) -> Result<Report, Error> {
        let tree = match &self.target {
            Target::Tree(top) => Some(shown(top)),
            Target::Original => None,
        };
        let report = Report { tree, ..Report::default() };
        let listed = self.client.list(b"*").await?;
        self.there = listed.into_iter().filter(|mailbox| mailbox.is_selectable).map(|mailbox| mailbox.name).collect();
        self.aim();
        Ok(report)
    }

    /// Gives each folder of the snapshot its name on the server: one that the server takes, and no two the same.
    fn aim(&mut self) {
        let rows = &self.selection.table.folders;
        let plain: Vec<(&[u8], Vec<u8>)> =
            rows.iter().filter_map(|row| Some((&row.name[..], self.name_of(&row.name).ok()?))).collect();
        let mut taken: BTreeSet<Vec<u8>> = plain.iter().map(|(_, name)| name.clone()).collect();
        for (folder, name) in plain {
            let mut acceptable = self.names.acceptable(&name);
            if acceptable != name && !self.there.contains(&name) {
                while !taken.insert(acceptable.clone()) {
                    acceptable.push(b'_');
                }
                let (folder, name) = (shown(folder), shown(&acceptable));
                let note = format!("{folder}: no server takes a folder of this name any more; it is {name} there");
                if !self.notes.contains(&note) {
                    self.notes.push(note);
                }
            } else {
                acceptable = name;
            }
            self.aims.insert(folder.to_vec(), acceptable);
        }
    }

    fn name_of(&self, folder: &[u8]) -> Result<Vec<u8>, Error> {
        match &self.target {
            Target::Tree(top) => self.names.in_tree(top, folder),
            Target::Original => self.names.original(folder),
        }
    }

    /// The report that a folder begins with, and its name on the server; `Err` if it is not to be restored.
    fn aimed(&self, folder: &Folder) -> Result<(FolderReport, Vec<u8>), Box<FolderReport>> {
        let Some(target) = self.aims.get(&folder.name) else {
            let mut report = report_of(folder, b"");
            let error = self.name_of(&folder.name).err().map(|error| error.to_string()).unwrap_or_default();
            report.fail(shown(&folder.name), error);
            return Err(Box::new(report));
        };
        let mut report = report_of(folder, target);
        if Names::was_staging(&folder.name) {
            report.skipped = Some(String::from("it holds messages that a restore was bringing to other folders"));
            return Err(Box::new(report));
        }
        if let Some(what) = kinds::content_of(folder) {
            let why = kinds::why_not(what, folder.messages.len() as u64);
            match folder.messages.len() {
                0 => report.skipped = Some(why),
                _ => report.fail(shown(&folder.name), why),
            }
            return Err(Box::new(report));
        }
        report.is_created = !self.there.contains(target);
        Ok((report, target.clone()))
    }

    async fn plan_folder(&mut self, folder: &Folder, needs: &mut Needs) -> Result<FolderReport, Error> {
        let (mut planned, target) = match self.aimed(folder) {
            Ok(aimed) => aimed,
            Err(report) => return Ok(*report),
        };
        let Some((present, mut limits, _)) = self.look(folder, &target, &mut planned).await? else { return Ok(planned) };
        let added = missing(folder, &target, present, &self.elsewhere, &mut planned);
        planned.is_created &= !is_all_elsewhere(&planned, &added);
        let added = foresee(added, &mut limits, true, &mut planned);
        planned.added = added.len() as u64;
        planned.bytes = added.iter().map(|added| added.at.size).sum();
        if let Some(over) = copies(&folder.messages).filter(|_| planned.added > 0) {
            let what = "are in it more than ten times, which Cyrus does not take by default";
            self.notes.push(format!("{}: {over} messages {what}", shown(&target)));
        }
        let annotated = added.iter().filter(|added| !added.message.annotations.is_empty()).count();
        if annotated > 0 {
            planned.fail(
                shown(&target),
                format!("{annotated} messages have annotations, which IMAP does not bring; --exact does"),
            );
        }
        self.need(folder, &target, &planned, needs);
        Ok(planned)
    }

    /// Adds what a folder needs to what is needed where it is, or in the nearest folder above that is there.
    fn need(&self, folder: &Folder, target: &[u8], planned: &FolderReport, needs: &mut Needs) {
        let mut need = Need { bytes: planned.bytes, messages: planned.added, ..Need::default() };
        let mut at = target;
        if planned.is_created {
            need.annotations = if self.target == Target::Original { furnish::annotation_bytes(folder) } else { 0 };
            // The server makes those above, too, once.
            loop {
                need.folders += u64::from(needs.made.insert(at.to_vec()));
                match self.names.above(at) {
                    Some(above) if !self.there.contains(above) => at = above,
                    above => {
                        at = above.unwrap_or(b"INBOX");
                        break;
                    }
                }
            }
        }
        needs.at.entry(at.to_vec()).or_default().add(need);
    }

    /// What the folder has, what it does not take, and its next UID. `None` if it cannot be looked at, which is a failure.
    async fn look(
        &mut self,
        folder: &Folder,
        target: &[u8],
        report: &mut FolderReport,
    ) -> Result<Option<(Present, Limits, u32)>, Error> {
        if !self.there.contains(target) {
            return Ok(Some((Present::new(), Limits::new(self.client, None, None), 0)));
        }
        let (present, opened): (Present, Opened) = match look(self.client, target, &sizes(folder)).await? {
            Ok(found) => found,
            Err(refusal) => {
                report.fail(shown(target), format!("cannot be looked at: {refusal}"));
                return Ok(None);
            }
        };
        let rights = if self.client.can("ACL") { self.client.my_rights(target).await?.ok() } else { None };
        let limits = Limits::new(self.client, Some(&opened), rights.filter(|rights| !rights.is_empty()));
        Ok(Some((present, limits, opened.uidnext)))
    }

    /// Does it. What fails is in the report, and so is why it ended early if it did.
    pub async fn carry_out(&mut self) -> Result<Report, Error> {
        let mut report = self.begin().await?;
        let mut is_full = false;
        for n in 0..self.selection.len() {
            let Some(folder) = self.selection.folder(n).await? else { continue };
            let (mut done, target) = match self.aimed(&folder) {
                Ok(aimed) => aimed,
                Err(skipped) => {
                    report.folders.push(*skipped);
                    continue;
                }
            };
            let ended = self.fill(&folder, &target, &mut is_full, &mut done).await;
            report.folders.push(done);
            if let Err(error) = ended {
                report.ended_early = Some(error.to_string());
                break;
            }
        }
        // All is where it should be by now, whatever becomes of the connection.
        if report.ended_early.is_none()
            && let Err(error) = self.unstage().await
        {
            self.notes.push(error.to_string());
        }
        report.notes.append(&mut self.notes);
        Ok(report)
    }

    /// Fills a folder. When the connection ends, another one goes on; a message at which it ends twice is left out.
    async fn fill(&mut self, folder: &Folder, target: &[u8], is_full: &mut bool, done: &mut FolderReport) -> Result<(), Error> {
        let (begun, mut progress) = (done.clone(), Progress::default());
        loop {
            let ended = match self.fill_once(folder, target, is_full, done, &mut progress).await {
                Ok(()) => self.finish(folder, target, done, &progress).await,
                ended => ended,
            };
            let Err(error @ Error::Peer { .. }) = ended else { return ended };
            progress.ended.0 += 1;
            progress.ended.1 = if done.added > progress.most { 1 } else { progress.ended.1 + 1 };
            progress.most = progress.most.max(done.added);
            progress.why = error.to_string();
            let may_go_on = progress.ended.0 < ENDS_MAX && progress.ended.1 <= IDLE_ENDS_MAX + progress.ends.len() as u32;
            if !may_go_on || self.io.is_stopping() || self.client.again().await.is_err() {
                return Err(error);
            }
            // Whoever has cut the connection may have done so for what came without being asked for.
            self.client.ask_for_literals(true);
            if self.staging.take().is_some() {
                clear(self.client, self.names, &mut self.notes).await?;
            }
            *done = FolderReport { bytes: done.bytes, ..begun.clone() };
            progress.made.iter().for_each(|failure| done.fail(failure.what.clone(), failure.why.clone()));
        }
    }

    /// Gives a folder that was made its owner's rights, and compares what came with what was sent.
    async fn finish(
        &mut self,
        folder: &Folder,
        target: &[u8],
        done: &mut FolderReport,
        progress: &Progress<'_>,
    ) -> Result<(), Error> {
        let Progress { sent, limits, first, .. } = progress;
        check(self.client, target, first.map_or(0, |(_, uidnext)| uidnext), sent, limits, done).await?;
        if progress.is_made && self.target == Target::Original {
            furnish::own_rights(self.client, target, folder, &self.selection.owner, self.names.owner(), done).await?;
        }
        if sent.iter().any(|added| is_dateless(added.message)) {
            let what = "messages without INTERNALDATE have got 1970-01-01 00:00:01, for a server takes none for now";
            let note = format!("{}: {what}", shown(target));
            if !self.notes.contains(&note) {
                self.notes.push(note);
            }
        }
        Ok(())
    }

    async fn fill_once<'f>(
        &mut self,
        folder: &'f Folder,
        target: &[u8],
        is_full: &mut bool,
        done: &mut FolderReport,
        progress: &mut Progress<'f>,
    ) -> Result<(), Error> {
        let Some((present, mut limits, uidnext)) = self.look(folder, target, done).await? else { return Ok(()) };
        let added = missing(folder, target, present, &self.elsewhere, done);
        let (before, _) = *progress.first.get_or_insert((done.present, uidnext));
        // What is there since is what this run has brought before the connection ended.
        let brought = done.present.saturating_sub(before);
        (done.present, done.added) = (done.present - brought, done.added + brought);
        if is_all_elsewhere(done, &added) {
            done.is_created = false;
            return Ok(());
        }
        if !self.there.contains(target) && !self.create(folder, target, done, progress).await? {
            let reason = "its folder could not be made";
            added.iter().for_each(|added| done.fail(named(added.message), reason));
            return Ok(());
        }
        let mut added = foresee(added, &mut limits, false, done);
        if progress.sent.is_empty() {
            (progress.sent, progress.limits) = (added.clone(), limits);
        }
        added.retain(|added| {
            let is_fatal = progress.ends.get(&added.message.uid()).is_some_and(|ends| *ends > 1);
            if is_fatal {
                let why = format!("the connection ended twice at this message: {}; --exact may bring it back", progress.why);
                done.fail(named(added.message), why);
            }
            !is_fatal
        });
        let (messages, bytes) = (added.len() as u64, added.iter().map(|added| added.at.size).sum());
        self.io.event(Event::Expect { messages, bytes });
        self.restage(&added).await?;
        let mut delivery = Delivery {
            io: self.io,
            reader: self.selection.reader(),
            client: self.client,
            over_quota: self.over_quota,
            is_full: *is_full,
            staging: self.staging.as_ref().map(|staging| &staging.name[..]),
            last: core::mem::take(&mut self.last),
            ends: &progress.ends,
            under_way: BTreeSet::new(),
            direct_from: None,
        };
        let ended = delivery.add(target, &added, done).await;
        let Delivery { under_way, last, is_full: full, .. } = delivery;
        (*is_full, self.last) = (full, last);
        if ended.is_err() {
            under_way.into_iter().for_each(|uid| *progress.ends.entry(uid).or_default() += 1);
        }
        ended
    }

    /// Makes the mailbox from which these messages are moved, or another one if it would get more keywords than one can have.
    async fn restage(&mut self, added: &[Added<'_>]) -> Result<(), Error> {
        let Some(id) = self.id.clone().filter(|_| !added.is_empty()) else { return Ok(()) };
        let flags = added.iter().flat_map(|added| added.flags.as_deref().unwrap_or(&added.message.row.flags));
        let mut keywords: BTreeSet<Vec<u8>> =
            flags.filter(|flag| !flag.starts_with(b"\\")).map(|flag| flag.to_ascii_lowercase()).collect();
        if let Some(staging) = &mut self.staging {
            keywords.extend(staging.keywords.iter().cloned());
            if keywords.len() <= KEYWORDS_MAX {
                staging.keywords = keywords;
                return Ok(());
            }
            keywords.retain(|keyword| !staging.keywords.contains(keyword));
            self.unstage().await?;
        }
        self.stagings += 1;
        let name = self.names.staging(&if self.stagings == 1 { id } else { format!("{id}-{}", self.stagings) });
        match self.client.create(&name).await? {
            Ok(()) => self.staging = Some(Staging { name, keywords }),
            // As where the number of folders is limited. Without it, all is the same but for a run that is killed.
            Err(refusal) => self.notes.push(format!("{} cannot be made, so it is done without: {refusal}", shown(&name))),
        }
        Ok(())
    }

    /// Deletes that mailbox.
    async fn unstage(&mut self) -> Result<(), Error> {
        if let Some(Staging { name, .. }) = self.staging.take()
            && let Err(refusal) = self.client.delete(&name).await?
        {
            self.notes.push(format!("{}: is of no use any more, and cannot be deleted: {refusal}", shown(&name)));
        }
        Ok(())
    }

    /// Makes a folder and subscribes to it, or nobody might see it. False if the server refuses to make it.
    async fn create(
        &mut self,
        folder: &Folder,
        target: &[u8],
        done: &mut FolderReport,
        progress: &mut Progress<'_>,
    ) -> Result<bool, Error> {
        progress.is_made = match self.client.create(target).await? {
            Err(refusal) if !refusal.has_code("ALREADYEXISTS") => {
                done.fail(shown(target), format!("cannot be made: {refusal}"));
                return Ok(false);
            }
            answer => answer.is_ok(),
        };
        self.there.insert(target.to_vec());
        let mut made = FolderReport::default();
        if let Err(refusal) = self.client.subscribe(target).await? {
            made.fail(shown(target), format!("was made, but cannot be subscribed to: {refusal}"));
        }
        if progress.is_made && self.target == Target::Original {
            furnish::furnish(self.client, target, folder, &self.selection.owner, self.names.owner(), &mut made).await?;
        }
        made.failures.iter().for_each(|failure| done.fail(failure.what.clone(), failure.why.clone()));
        progress.made = made.failures;
        Ok(true)
    }

    /// True if messages went over a mailbox of this run, which the server may keep for a while.
    pub fn has_staged(&self) -> bool {
        self.stagings > 0
    }
}

/// True for a folder that is needed by none of its messages: it has another name now, or they were filed.
fn is_all_elsewhere(folder: &FolderReport, added: &[Added<'_>]) -> bool {
    folder.is_created && added.is_empty() && folder.elsewhere > 0
}
