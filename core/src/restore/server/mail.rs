//! Restoring by IMAP: the folders of a selection, one after the other, into a tree of their own or into the folders from which
//! they come. Nothing that is there is changed or removed.
//!
//! Everything is looked at first ([`Run::plan`]): which folders there are, which messages they have, and whether the rest fits.
//! What is then done ([`Run::carry_out`]) looks at each folder again just before it is filled, for others may be at work in it.
//! What must not come in: the replication protocol.

use super::deliver::{Added, Delivery, OverQuota, Present, can_stage, clear, look, missing, report_of, sizes};
use super::merge::{self, Everywhere};
use super::names::Names;
use super::report::{FolderReport, Report};
use crate::error::Error;
use crate::escape::shown;
use crate::imap::client::{Client, QuotaRoot};
use crate::io::{Event, Io};
use crate::restore::bodies::Last;
use crate::restore::select::{Folder, Selection};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

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
    staging: Option<Vec<u8>>,
    /// What the walk over the messages added last has left.
    last: Last,
    /// A name for it that no other run has.
    id: Option<String>,
    /// Mailboxes that can be opened.
    there: BTreeSet<Vec<u8>>,
    /// Messages that the user has in other folders, and that are therefore left out.
    elsewhere: Everywhere,
    /// For the report.
    notes: Vec<String>,
}

impl<'a> Run<'a> {
    /// A restore of which nothing has been done yet.
    pub fn new(io: &'a Io, selection: &'a Selection<'a>, client: &'a mut Client, names: &'a Names, target: Target) -> Run<'a> {
        let (there, elsewhere) = (BTreeSet::new(), Everywhere::default());
        let (over_quota, staging, id, notes) = (OverQuota::default(), None, None, Vec::new());
        let last = Last::default();
        Run { io, selection, client, names, target, over_quota, staging, last, id, there, elsewhere, notes }
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
        let all = merge::everywhere(self.client, self.names, self.selection).await?;
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
        for n in 0..self.selection.len() {
            let Some(folder) = self.selection.folder(n).await? else { continue };
            let planned = self.plan_folder(&folder).await?;
            report.folders.push(planned);
        }
        if self.over_quota == OverQuota::Stop {
            self.check_room(&report).await?;
        }
        Ok(report)
    }

    async fn begin(&mut self) -> Result<Report, Error> {
        let mut report = Report::default();
        let pattern = match &self.target {
            Target::Tree(top) => {
                report.tree = Some(shown(top));
                self.names.below(top)
            }
            Target::Original => b"*".to_vec(),
        };
        let listed = self.client.list(&pattern).await?;
        self.there = listed.into_iter().filter(|mailbox| mailbox.is_selectable).map(|mailbox| mailbox.name).collect();
        Ok(report)
    }

    fn target_of(&self, folder: &Folder) -> Result<Vec<u8>, Error> {
        match &self.target {
            Target::Tree(top) => self.names.in_tree(top, &folder.name),
            Target::Original => self.names.original(&folder.name),
        }
    }

    async fn plan_folder(&mut self, folder: &Folder) -> Result<FolderReport, Error> {
        let Some((mut planned, target)) = self.aim(folder)? else { return Ok(unnamed(folder, &self.target_of(folder))) };
        let Some(present) = self.look(folder, &target, &mut planned).await? else { return Ok(planned) };
        let added = missing(folder, &target, present, &self.elsewhere, &mut planned);
        planned.is_created &= !is_all_elsewhere(&planned, &added);
        planned.added = added.len() as u64;
        planned.bytes = added.iter().map(|added| added.at.size).sum();
        Ok(planned)
    }

    /// The report that a folder begins with, and its name on the server; `None` if it can have none.
    fn aim(&self, folder: &Folder) -> Result<Option<(FolderReport, Vec<u8>)>, Error> {
        let Ok(target) = self.target_of(folder) else { return Ok(None) };
        let mut report = report_of(folder, &target);
        report.is_created = !self.there.contains(&target);
        Ok(Some((report, target)))
    }

    /// What the folder has. `None` if it cannot be looked at, which is a failure.
    async fn look(&mut self, folder: &Folder, target: &[u8], report: &mut FolderReport) -> Result<Option<Present>, Error> {
        if report.is_created {
            return Ok(Some(Present::new()));
        }
        match look(self.client, target, &sizes(folder)).await? {
            Ok(present) => Ok(Some(present)),
            Err(refusal) => {
                report.fail(shown(target), format!("cannot be looked at: {refusal}"));
                Ok(None)
            }
        }
    }

    async fn check_room(&mut self, planned: &Report) -> Result<(), Error> {
        let needed = planned.sum(|folder| folder.bytes);
        let quotas = self.client.quotas(b"INBOX").await?.unwrap_or_default();
        let Some(room) = quotas.iter().filter_map(QuotaRoot::room).min() else { return Ok(()) };
        if needed <= room {
            return Ok(());
        }
        let why = "raise the quota, select less, or say --over-quota warn (restore what fits) or lift (as an administrator)";
        Err(Error::Refused(format!("no room: {needed} bytes are to be restored, the quota leaves {room}; {why}")))
    }

    /// Does it. What fails is in the report, and so is why it ended early if it did.
    pub async fn carry_out(&mut self) -> Result<Report, Error> {
        let mut report = self.begin().await?;
        report.notes.append(&mut self.notes);
        let mut is_full = false;
        for n in 0..self.selection.len() {
            let Some(folder) = self.selection.folder(n).await? else { continue };
            let Some((mut done, target)) = self.aim(&folder)? else {
                report.folders.push(unnamed(&folder, &self.target_of(&folder)));
                continue;
            };
            let ended = self.fill(&folder, &target, &mut is_full, &mut done).await;
            report.folders.push(done);
            if let Err(error) = ended {
                report.ended_early = Some(error.to_string());
                return Ok(report);
            }
        }
        if let Some(staging) = self.staging.take()
            && let Err(refusal) = self.client.delete(&staging).await?
        {
            report.notes.push(format!("{}: is of no use any more, and cannot be deleted: {refusal}", shown(&staging)));
        }
        Ok(report)
    }

    async fn fill(&mut self, folder: &Folder, target: &[u8], is_full: &mut bool, done: &mut FolderReport) -> Result<(), Error> {
        let Some(present) = self.look(folder, target, done).await? else { return Ok(()) };
        let added = missing(folder, target, present, &self.elsewhere, done);
        if is_all_elsewhere(done, &added) {
            done.is_created = false;
            return Ok(());
        }
        if done.is_created && !self.create(target, done).await? {
            let reason = "its folder could not be made";
            added.iter().for_each(|added| done.fail(super::deliver::named(added.message), reason));
            return Ok(());
        }
        let (messages, bytes) = (added.len() as u64, added.iter().map(|added| added.at.size).sum());
        self.io.event(Event::Expect { messages, bytes });
        if let Some(id) = self.id.as_ref().filter(|_| self.staging.is_none() && messages > 0) {
            let staging = self.names.staging(id);
            if let Err(refusal) = self.client.create(&staging).await? {
                let why = format!("{} cannot be made: {refusal}", shown(&staging));
                added.iter().for_each(|added| done.fail(super::deliver::named(added.message), why.clone()));
                return Ok(());
            }
            self.staging = Some(staging);
        }
        let mut delivery = Delivery {
            io: self.io,
            reader: self.selection.reader(),
            client: self.client,
            over_quota: self.over_quota,
            is_full: *is_full,
            staging: self.staging.as_deref(),
            last: core::mem::take(&mut self.last),
        };
        let ended = delivery.add(target, &added, done).await;
        (*is_full, self.last) = (delivery.is_full, delivery.last);
        ended
    }

    /// Makes a folder and subscribes to it, or nobody might see it. False if the server refuses to make it.
    async fn create(&mut self, target: &[u8], done: &mut FolderReport) -> Result<bool, Error> {
        match self.client.create(target).await? {
            Err(refusal) if !refusal.has_code("ALREADYEXISTS") => {
                done.fail(shown(target), format!("cannot be made: {refusal}"));
                return Ok(false);
            }
            _ => {}
        }
        self.there.insert(target.to_vec());
        if let Err(refusal) = self.client.subscribe(target).await? {
            done.fail(shown(target), format!("was made, but cannot be subscribed to: {refusal}"));
        }
        Ok(true)
    }
}

/// True for a folder that is needed by none of its messages: it has another name now, or they were filed.
fn is_all_elsewhere(folder: &FolderReport, added: &[Added<'_>]) -> bool {
    folder.is_created && added.is_empty() && folder.elsewhere > 0
}

/// A folder that can have no name there.
fn unnamed(folder: &Folder, target: &Result<Vec<u8>, Error>) -> FolderReport {
    let mut report = report_of(folder, b"");
    if let Err(error) = target {
        report.fail(shown(&folder.name), error.to_string());
    }
    report
}
