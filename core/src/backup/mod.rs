//! A backup run over one user: stat pass, capture under locks, messages, metadata, commit.
//!
//! Invariants:
//!
//! * An unchanged user costs a stat for each metadata file; no message and no index is opened, and nothing is written, unless
//!   the end of the archive must be mended after a killed run.
//! * A commit says only what the archive holds: messages go in before the metadata that names them.
//! * One bad message never stops a user: it is listed in the commit and in the report, and tried again next time.
//! * A loss on the server never becomes a loss here: it is written down as an alarm.
//!
//! What must not come in: which users to back up, and what to print.

pub mod bodies;
pub mod compare;
pub mod report;

use crate::archive::append::{self, Writer};
use crate::archive::read::{End, Reader};
use crate::archive::record::{CommitFacts, DatabaseRow, FileRow, FolderRow, Lack, LackingRow, StateContent, StateRow, Table};
use crate::archive::standing::{Alarm, Cause, Standing};
use crate::cyrus::db::flat;
use crate::cyrus::header;
use crate::cyrus::index::{Index, USER_FLAGS_MAX};
use crate::cyrus::names::Owner;
use crate::cyrus::quota;
use crate::error::{Damage, Error, Fault};
use crate::escape::{percent, unpercent};
use crate::guid::Guid;
use crate::io::{Event, Io, Place};
use crate::pull::Origin;
use crate::source::capture::{Capture, Captured, META_MAX, STATE_MAX, Want, Wanted};
use crate::source::pass::quota_name;
use crate::source::{Ask, Folder, MAILBOX_ANNOTATIONS, MetaFile, Pass, QUOTA_ROOTS_MAX, State, StateKind};
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use bodies::{Bodies, FolderBodies, Guids};
use compare::{compare, row_of, state_row};
use report::{Problem, Report};

/// Entry of the user's records of mailboxes.db.
pub const MAILBOXES: &[u8] = b"meta/mailboxes";
/// How often a capture is made anew because message files vanished since.
const CAPTURES_MAX: u32 = 4;
/// The largest list of SHA-1s of a folder without GUIDs (`folders/<id>/guids`): some 15 million messages.
const GUIDS_MAX: u64 = 1 << 30;

/// What a run is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the archive is written.
    pub archive: append::Settings,
    /// How the source is named in commits, such as `local:/etc/imapd.conf`.
    pub source: String,
    /// Take an archive over that is of another source.
    pub adopt: bool,
    /// Names a new archive; 16 bytes of chance.
    pub archive_id: [u8; 16],
    /// Most bytes of messages that are read in a second, on average. 0: any.
    pub read_rate: u64,
}

/// How often a run begins anew because somebody else has written the archive between its being read and its being locked.
const OVERTAKEN_MAX: u32 = 3;

/// An archive that was opened for a run: what the user's last snapshot had.
pub struct Prepared {
    reader: Option<Reader>,
    old: Table,
    damage: Vec<Damage>,
    /// Messages that the archive lists and does not have whole, in order.
    doubt: Vec<Guid>,
}

impl Prepared {
    /// Lets the run read every folder, and fetch these messages although the archive lists them.
    pub fn doubt(&mut self, mut guids: Vec<Guid>) {
        guids.sort();
        self.doubt = guids;
    }

    /// What a pass of this user is to look for.
    pub fn ask(&self) -> Ask {
        let names = self.old.states.iter().filter_map(|row| row.name.strip_prefix(b"meta/quota/"));
        Ask {
            quota_roots: names.filter_map(unpercent).take(QUOTA_ROOTS_MAX).collect(),
            annotate: !self.old.folders.is_empty(),
            annotations_db: self.old.database("annotations"),
            inbox: self.old.folder(INBOX).map(|row| (row.id.clone(), row.entry.clone())),
        }
    }

    /// Closes the archive.
    pub async fn close(self) {
        if let Some(reader) = self.reader {
            reader.close().await;
        }
    }
}

/// Opens the archive in the directory `dir` of the store, if there is one.
pub async fn prepare(io: &Io, dir: &Place) -> Result<Prepared, Error> {
    let reader = match Reader::open(io, dir).await {
        Ok(reader) => reader,
        // None, or no commit in it: the writer sets such a file aside.
        Err(Error::World { fault: Fault::NotFound, .. } | Error::Damage(_)) => {
            return Ok(Prepared { reader: None, old: Table::default(), damage: Vec::new(), doubt: Vec::new() });
        }
        Err(error) => return Err(error),
    };
    match reader.newest_table().await {
        Ok((old, damage)) => Ok(Prepared { reader: Some(reader), old, damage, doubt: Vec::new() }),
        Err(error) => {
            reader.close().await;
            Err(error)
        }
    }
}

/// Backs up `owner` into the directory `dir` of the store.
pub async fn run(io: &Io, origin: &mut Origin<'_>, owner: &Owner, dir: &Place, settings: &Settings) -> Result<Report, Error> {
    let prepared = prepare(io, dir).await?;
    run_prepared(io, origin, owner, dir, settings, prepared).await
}

/// The same with an archive that was opened before.
pub async fn run_prepared(
    io: &Io,
    origin: &mut Origin<'_>,
    owner: &Owner,
    dir: &Place,
    settings: &Settings,
    mut prepared: Prepared,
) -> Result<Report, Error> {
    for _ in 0..OVERTAKEN_MAX {
        let ask = prepared.ask();
        let Prepared { reader, old, damage, doubt } = prepared;
        let by_id = old.folders.iter().enumerate().map(|(at, row)| (row.id.clone(), at)).collect();
        let mut report = Report::default();
        let is_stale = !damage.is_empty();
        damage.into_iter().for_each(|d| report.problem(Problem::Archive { error: d.into() }));
        let doubted = doubt.clone();
        let paid = Time::default();
        let standing = reader.as_ref().map(|reader| reader.head().commit.standing.clone()).unwrap_or_default();
        let run = Run { io, origin: &mut *origin, owner, settings, ask, old, by_id, is_stale, doubt, paid, standing, report };
        if let Some(report) = run.run(reader, dir).await? {
            return Ok(report);
        }
        prepared = prepare(io, dir).await?;
        prepared.doubt = doubted;
    }
    prepared.close().await;
    Err(Error::Busy { object: dir.shown(), holder: None })
}

struct Run<'a, 'o> {
    io: &'a Io,
    origin: &'a mut Origin<'o>,
    owner: &'a Owner,
    settings: &'a Settings,
    ask: Ask,
    old: Table,
    /// Rows of `old` by uniqueid.
    by_id: BTreeMap<Vec<u8>, usize>,
    /// `old` is not that of the newest snapshot, which cannot be read: a new one is needed whatever has changed.
    is_stale: bool,
    /// See [`Prepared::doubt`].
    doubt: Vec<Guid>,
    /// When the messages that were read are paid for, by the rate that is allowed.
    paid: Time,
    /// What held of the archive, and what this run has seen.
    standing: Standing,
    report: Report,
}

/// What the stat pass showed.
enum Look {
    /// Nothing has changed.
    Same,
    /// The server knows nothing of a user whom the archive has; true if the archive says so already.
    Vanished(bool),
    /// Something has.
    Changed(Pass, Wanted),
}

/// What the metadata phase collects.
#[derive(Default)]
struct Next {
    table: Table,
    /// Bytes of content that the snapshot does not need any more and the last one did.
    dead: u64,
}

impl Next {
    /// Counts what the archive holds in vain. The sizes come from an archive, and may be any.
    fn lose(&mut self, bytes: u64) {
        self.dead = self.dead.saturating_add(bytes);
    }
}

impl Run<'_, '_> {
    /// `None` if somebody else has written the archive meanwhile: what was compared is not what is there any more.
    async fn run(mut self, reader: Option<Reader>, dir: &Place) -> Result<Option<Report>, Error> {
        if let Some(home) = self.standing.other_home(&self.settings.source).map(String::from) {
            if !self.settings.adopt {
                return self.other_home(reader, home).await;
            }
            self.report
                .notes
                .push(format!("adopted: the archive was of {home}, and is of {} from now on", self.settings.source));
            self.is_stale = true;
        }
        let look = self.look().await;
        let todo = match look {
            Ok(Look::Changed(pass, wanted)) => Some((pass, wanted)),
            Ok(Look::Vanished(false)) => None,
            Ok(Look::Same | Look::Vanished(true)) => {
                odd(&self.old).into_iter().for_each(|problem| self.report.problem(problem));
                if let Some(reader) = reader {
                    self.leave(reader).await?;
                }
                return Ok(Some(self.ended()));
            }
            Err(error) => {
                if let Some(reader) = reader {
                    reader.close().await;
                }
                return Err(error);
            }
        };
        let mut writer = match reader {
            Some(reader) => Writer::from_reader(reader, &self.settings.archive).await?,
            None => Writer::open(self.io, dir, &self.settings.archive, self.settings.archive_id).await?,
        };
        if writer.is_overtaken() {
            writer.close().await;
            return Ok(None);
        }
        if let Some(error) = writer.damage() {
            self.report.problem(Problem::Archive { error: error.clone() });
        }
        let result = match todo {
            Some((pass, wanted)) => self.write(&mut writer, pass, wanted).await,
            None => self.commit(&mut writer, self.old.clone(), 0).await,
        };
        self.report.notes.extend(writer.notes().iter().cloned());
        self.report.archive_bytes = writer.len();
        writer.close().await;
        // Last, when all is saved and others may write. The next user begins anew: without this, users with one new message
        // each would be read as fast as can be.
        bodies::pause(self.io, self.paid).await;
        result.map(|()| Some(self.ended()))
    }

    /// The report, with what holds of the archive now.
    fn ended(mut self) -> Report {
        self.report.alarms = self.standing.alarms;
        self.report.gone = self.standing.gone;
        self.report
    }

    /// The archive is of another source. It takes nothing from this one: two users, or a user and an old copy of the same,
    /// would become one. Somebody must decide, once.
    async fn other_home(mut self, reader: Option<Reader>, home: String) -> Result<Option<Report>, Error> {
        self.report.other_home = Some(home);
        self.report.messages = visible(&self.old);
        let Some(reader) = reader else { return Ok(Some(self.ended())) };
        let source = &self.settings.source;
        if self.standing.strangers.contains(source) {
            reader.close().await;
            return Ok(Some(Report { notes: self.report.notes, other_home: self.report.other_home, ..Report::default() }));
        }
        let had = self.standing.clone();
        let cause = Cause::OtherSource(source.clone());
        let pass = match self.origin.pass(self.io, self.owner, &self.ask).await {
            Ok(pass) => pass,
            Err(error) => {
                reader.close().await;
                return Err(error);
            }
        };
        if pass.folders.is_empty() && pass.unreadable.is_empty() {
            reader.close().await;
            return Err(is_elsewhere(source, self.report.other_home.as_deref().unwrap_or_default()));
        }
        self.raise(cause, visible(&self.old), visible(&self.old));
        if self.standing == had {
            // Raised by an earlier run, or one too many: it is told, and that is all.
            reader.close().await;
            return Ok(Some(self.ended()));
        }
        let mut writer = Writer::from_reader(reader, &self.settings.archive).await?;
        if writer.is_overtaken() {
            writer.close().await;
            return Ok(None);
        }
        let result = writer.stand(self.standing.clone(), self.io.now()).await;
        self.report.notes.extend(writer.notes().iter().cloned());
        writer.close().await;
        result.map(|_| Some(self.ended()))
    }

    /// Raises an alarm.
    fn raise(&mut self, cause: Cause, before: u64, after: u64) {
        let alarm = Alarm { cause, since: self.io.now(), before, after };
        self.report.raised.push(alarm.clone());
        self.standing.raise(alarm);
    }

    /// Closes an archive to which nothing is to be added. Without a footer its last commit may not be durable, for the run that
    /// wrote it was killed; before this one says that all is saved, the end is mended.
    async fn leave(&mut self, reader: Reader) -> Result<(), Error> {
        self.report.archive_bytes = reader.len();
        if reader.end() == End::Footer && !reader.is_mended() {
            reader.close().await;
            return Ok(());
        }
        let mut writer = Writer::from_reader(reader, &self.settings.archive).await?;
        let result = self.leave_mended(&mut writer).await;
        self.report.notes.extend(writer.notes().iter().cloned());
        self.report.archive_bytes = writer.len();
        writer.close().await;
        result
    }

    /// Nothing has changed on the server since the last snapshot: what mending has taken over is in no folder.
    async fn leave_mended(&mut self, writer: &mut Writer) -> Result<(), Error> {
        let unclaimed = writer.taken_over().await?.len() as u64;
        if unclaimed == 0 {
            return Ok(());
        }
        self.unclaimed(writer, unclaimed);
        self.commit(writer, self.old.clone(), 0).await
    }

    /// Messages that mending has taken over and that no folder has: somebody must look before anything is dropped.
    fn unclaimed(&mut self, writer: &mut Writer, count: u64) {
        if count > 0 {
            writer.keep_aside();
            self.report.unclaimed = count;
            self.report.problem(Problem::Unclaimed { count });
        }
    }

    /// The stat pass.
    async fn look(&mut self) -> Result<Look, Error> {
        let pass = self.origin.pass(self.io, self.owner, &self.ask).await?;
        self.count(&pass);
        if pass.folders.is_empty() && pass.unreadable.is_empty() {
            if self.old.folders.is_empty() {
                return Err(Error::Refused(String::from("the server has no mailbox of this user, and neither has the store")));
            }
            if let Some(home) = self.standing.other_home(&self.settings.source) {
                return Err(is_elsewhere(&self.settings.source, home));
            }
            let is_known = self.standing.gone.is_some();
            // They stand in the snapshot: nobody can tell a user who was deleted from a disk that is not mounted.
            self.report.folders = self.old.folders.len() as u64;
            if !is_known {
                self.vanished();
            }
            return Ok(Look::Vanished(is_known));
        }
        let has = has_live(pass.folders.iter().map(|folder| &folder.name)) || !pass.unreadable.is_empty();
        if has && self.standing.gone.take().is_some() {
            // The user is there again, which the archive must say.
            self.is_stale = true;
        } else if !has && self.standing.gone.is_none() && has_live(self.old.folders.iter().map(|row| &row.name)) {
            self.vanished();
        }
        let annotated = self.annotated(&pass);
        let mut changes = compare(&self.old, &pass, &annotated);
        if !self.doubt.is_empty() {
            changes.wanted.folders = pass.folders.iter().map(|folder| (folder.name.clone(), Want::Read)).collect();
        }
        if changes.is_empty() && pass.unreadable.is_empty() && !self.is_stale {
            return Ok(Look::Same);
        }
        Ok(Look::Changed(pass, changes.wanted))
    }

    /// The server has no folder of the user, or none but deleted ones.
    fn vanished(&mut self) {
        self.standing.gone = Some(self.io.now());
        self.raise(Cause::Vanished, messages_of(&self.old), 0);
    }

    fn count(&mut self, pass: &Pass) {
        self.report.folders = pass.folders.len() as u64;
        self.report.messages = visible(&self.old);
    }

    /// The folders whose records of annotations.db differ from those of the last snapshot, if the pass tells.
    fn annotated(&self, pass: &Pass) -> BTreeSet<Vec<u8>> {
        let Some(now) = &pass.annotated else { return BTreeSet::new() };
        let differs = |folder: &&Folder| {
            let had = row_of(&self.old, folder).map(|row| row.file(MAILBOX_ANNOTATIONS).map(|f| f.sha1));
            had.is_some_and(|had| had != now.get(&folder.name).copied())
        };
        pass.folders.iter().filter(differs).map(|folder| folder.name.clone()).collect()
    }

    /// Captures, fetches, writes and commits.
    async fn write(&mut self, writer: &mut Writer, pass: Pass, wanted: Wanted) -> Result<(), Error> {
        let mut capture = self.capture_annotated(&pass, &wanted).await?;
        let (known, damage) = match writer.catalogue().await {
            Ok(found) => found,
            Err(error) => {
                capture.finish(self.io).await;
                return Err(error);
            }
        };
        damage.into_iter().for_each(|d| self.report.problem(Problem::Archive { error: d.into() }));
        let known = known.without(&self.doubt);
        let taken = match writer.taken_over().await {
            Ok(taken) => taken,
            Err(error) => {
                capture.finish(self.io).await;
                return Err(error);
            }
        };
        let mut bodies = Bodies::new(self.io, self.owner, writer, known, taken, self.settings.read_rate);
        let fetched = match self.fetch_all(&mut bodies, &mut capture, &wanted).await {
            Ok(fetched) => fetched,
            Err(error) => {
                // What came before the connection was cut, or somebody wanted it to stop, is worth keeping. Whether that works
                // does not change what is told.
                if matches!(error, Error::Peer { .. } | Error::Stopped) {
                    let _ = bodies.checkpoint().await;
                }
                capture.finish(self.io).await;
                return Err(error);
            }
        };
        self.paid = bodies.paid();
        let unclaimed = bodies.into_unclaimed().len() as u64;
        self.unclaimed(writer, unclaimed);
        let result = self.finish(writer, &capture, fetched).await;
        capture.finish(self.io).await;
        result
    }

    /// Fetches messages, and captures anew what has changed while they were fetched.
    async fn fetch_all(
        &mut self,
        bodies: &mut Bodies<'_>,
        capture: &mut Capture,
        wanted: &Wanted,
    ) -> Result<BTreeMap<Vec<u8>, FolderBodies>, Error> {
        let mut fetched = self.fetch(bodies, capture).await?;
        for _ in 1..CAPTURES_MAX {
            if !fetched.values().any(|f| f.vanished) {
                break;
            }
            // Files vanished between capture and reading: expunged and unlinked, or moved. Look again.
            // What could not be read is wanted still.
            let mut wanted = wanted.clone();
            wanted.folders.extend(capture.folders.keys().chain(capture.failed.keys()).map(|name| (name.clone(), Want::Read)));
            wanted.states.extend(capture.states.keys().chain(capture.failed_states.keys()).cloned());
            let first = core::mem::take(&mut capture.pass);
            core::mem::take(capture).finish(self.io).await;
            *capture = self.capture_annotated(&first, &wanted).await?;
            let settled = capture.pass.folders == first.folders;
            fetched = self.fetch(bodies, capture).await?;
            if settled {
                // Nothing changed, so what is not there is really missing.
                break;
            }
        }
        Ok(fetched)
    }

    /// Captures, and once more what somebody annotates meanwhile.
    ///
    /// annotations.db belongs to all users: which of its records have changed is seen by reading them, and they are read
    /// again only if it has another tuple than the one in the table. So a tuple that is newer than the first pass may go
    /// there only if all folders have been compared with what was read at that tuple, and if each that differs has been read.
    async fn capture_annotated(&mut self, first: &Pass, wanted: &Wanted) -> Result<Capture, Error> {
        let mut wanted = wanted.clone();
        let mut capture = self.capture(first, &wanted).await?;
        let ask = Ask { annotate: true, annotations_db: None, ..self.ask.clone() };
        for _ in 1..CAPTURES_MAX {
            // A tuple that is too young to be trusted says nothing: what the first pass saw may not be what is there now.
            if capture.pass.annotations_db == first.annotations_db && !capture.pass.annotations_young {
                return Ok(capture);
            }
            let pass = match self.origin.pass(self.io, self.owner, &ask).await {
                Ok(pass) => pass,
                Err(error) => {
                    capture.finish(self.io).await;
                    return Err(error);
                }
            };
            let late = self.annotated_late(&pass, &capture);
            if late.is_empty() {
                if pass.annotations_db != capture.pass.annotations_db {
                    capture.pass.annotations_db = None;
                }
                return Ok(capture);
            }
            wanted.folders.extend(late.into_iter().map(|name| (name, Want::Read)));
            capture.finish(self.io).await;
            capture = self.capture(first, &wanted).await?;
        }
        capture.pass.annotations_db = None;
        self.report.unsettled = true;
        Ok(capture)
    }

    /// Folders whose records of annotations.db are others in `pass` than what goes into the table.
    fn annotated_late(&self, pass: &Pass, capture: &Capture) -> Vec<Vec<u8>> {
        let none = BTreeMap::new();
        let now = pass.annotated.as_ref().unwrap_or(&none);
        let differs = |folder: &&Folder| {
            let had = match capture.folders.get(&folder.name) {
                Some(captured) if captured.annotations.is_empty() => None,
                Some(captured) => Some(Guid::of(&captured.annotations)),
                None => row_of(&self.old, folder).and_then(|row| row.file(MAILBOX_ANNOTATIONS).map(|file| file.sha1)),
            };
            had != now.get(&folder.name).copied()
        };
        capture.pass.folders.iter().filter(differs).map(|folder| folder.name.clone()).collect()
    }

    async fn capture(&mut self, first: &Pass, wanted: &Wanted) -> Result<Capture, Error> {
        let ask = Ask { annotate: false, ..self.ask.clone() };
        let capture = self.origin.capture(self.io, self.owner, first, wanted, &ask).await?;
        self.report.longest_hold = self.report.longest_hold.max(capture.longest_hold);
        self.report.unsettled = capture.unsettled;
        Ok(capture)
    }

    /// Brings the messages of all captured folders into the archive.
    async fn fetch(&mut self, bodies: &mut Bodies<'_>, capture: &Capture) -> Result<BTreeMap<Vec<u8>, FolderBodies>, Error> {
        self.announce(bodies, capture).await?;
        let mut fetched = BTreeMap::new();
        for (name, captured) in &capture.folders {
            let previous = self.previous_guids(bodies, captured).await?;
            let mut all = FolderBodies::default();
            for file in INDEXES {
                let Some(bytes) = capture.load(self.io, name, file).await? else { continue };
                let index = match parse_index(file, &bytes) {
                    Ok(index) => index,
                    Err(damage) => {
                        all.problems.push(Problem::Record { folder: name.clone(), error: damage.into() });
                        continue;
                    }
                };
                let part = bodies.folder(self.origin, &captured.folder, &index, &previous, &mut self.report).await?;
                all.add(part, file);
            }
            fetched.insert(name.clone(), all);
        }
        Ok(fetched)
    }

    /// Tells whoever watches how much there is to do, and the origin what it will be asked for.
    async fn announce(&mut self, bodies: &Bodies<'_>, capture: &Capture) -> Result<(), Error> {
        let (mut messages, mut bytes, mut planned) = (0, 0u64, BTreeSet::new());
        for (name, captured) in &capture.folders {
            let previous = self.previous_guids(bodies, captured).await?;
            for file in INDEXES {
                if let Some(index) = capture.load(self.io, name, file).await?
                    && let Ok(index) = parse_index(file, &index)
                {
                    let (wishes, size) = bodies.lacking(&index, &previous, &mut planned);
                    messages += wishes.len() as u64;
                    bytes = bytes.saturating_add(size);
                    if !wishes.is_empty() {
                        self.origin.announce_messages(&captured.folder, wishes);
                    }
                }
            }
        }
        self.io.event(Event::Expect { messages, bytes });
        Ok(())
    }

    /// SHA-1s by UID that an earlier run computed for a folder whose index has none.
    async fn previous_guids(&self, bodies: &Bodies<'_>, captured: &Captured) -> Result<Guids, Error> {
        let Some(row) = row_of(&self.old, &captured.folder) else { return Ok(BTreeMap::new()) };
        let Some(file) = row.file(GUIDS) else { return Ok(BTreeMap::new()) };
        let Some(at) = file.at.location() else { return Ok(BTreeMap::new()) };
        let bytes = bodies.archive().read_entry(at, GUIDS_MAX).await?;
        Ok(parse_guids(&bytes))
    }

    /// Metadata, links, tombstones, commit.
    async fn finish(
        &mut self,
        writer: &mut Writer,
        capture: &Capture,
        mut fetched: BTreeMap<Vec<u8>, FolderBodies>,
    ) -> Result<(), Error> {
        let mut next = Next::default();
        for folder in &capture.pass.folders {
            if let Some(captured) = capture.folders.get(&folder.name) {
                let bodies = fetched.remove(&folder.name).unwrap_or_default();
                let row = self.folder(writer, capture, captured, bodies, &mut next).await?;
                next.table.folders.push(row);
            } else if let Some(row) = row_of(&self.old, folder) {
                let young = capture.same.get(&folder.name).copied().unwrap_or(row.young);
                next.table.folders.push(FolderRow { entry: compare::entry(folder, Some(row)).to_vec(), young, ..row.clone() });
            }
        }
        let (unseen, unseen_before) = self.failures(capture, &mut next.table);
        let (before, now) = compare::loss(&self.old, &next.table, &unseen);
        next.table.folders.sort_by(|a, b| a.name.cmp(&b.name));
        next.table.folders.dedup_by(|a, b| a.name == b.name);
        self.links(writer, &mut next).await?;
        self.states(writer, capture, &mut next).await?;
        self.report.folders_changed = capture.folders.len() as u64;
        self.report.messages = visible(&next.table);
        // Of a user who is gone, deleted folders expire; one who is back after that has what there is now.
        if self.standing.gone.is_none() && writer.head().commit.standing.gone.is_none() {
            self.mass_loss(before.saturating_sub(unseen_before), now);
        }
        odd(&next.table).into_iter().for_each(|problem| self.report.problem(problem));
        let same = (&next.table.folders, &next.table.states, &next.table.lacking)
            == (&self.old.folders, &self.old.states, &self.old.lacking);
        let news = self.standing != writer.head().commit.standing;
        if same && !news && !self.is_stale && !writer.has_appended() {
            return Ok(());
        }
        // What a folder that could not be read has there has yet to be read.
        if let Some(tuple) =
            capture.pass.annotations_db.filter(|_| capture.failed.is_empty() && capture.pass.unreadable.is_empty())
        {
            next.table.databases.push(DatabaseRow { name: String::from("annotations"), tuple });
        }
        self.commit(writer, next.table, next.dead).await
    }

    /// Reports folders that could not be saved, and writes down that they lack. Of those that the archive has, the old state
    /// stays; gives their names, and how many visible messages are in those that the last run could not read either.
    fn failures(&mut self, capture: &Capture, table: &mut Table) -> (BTreeSet<Vec<u8>>, u64) {
        let pass = &capture.pass;
        let mut failures: Vec<(&[u8], Error, Lack)> = Vec::new();
        failures.extend(capture.failed.iter().map(|(name, error)| (&name[..], error.clone(), Lack::NotSaved)));
        failures.extend(pass.unreadable.iter().map(|(name, error)| (&name[..], error.clone(), Lack::Unreadable)));
        if compare::is_headless(pass) && !pass.unreadable.iter().any(|(name, _)| name == INBOX) {
            failures.push((INBOX, Error::Refused(String::from(HEADLESS)), Lack::NotSaved));
        }
        let (mut unseen, mut unseen_before) = (BTreeSet::new(), 0u64);
        for (name, error, why) in failures {
            self.report.problem(Problem::Folder { folder: name.to_vec(), error });
            let id = pass.folders.iter().find(|folder| folder.name == name).and_then(|folder| folder.id.clone());
            table.lacking.push(LackingRow { name: name.to_vec(), why: why.clone(), id });
            if let Some(row) = self.stays(pass, name, table) {
                if self.old.lacking.iter().any(|lack| lack.name == name && lack.why == why) && compare::is_live(name) {
                    unseen_before = unseen_before.saturating_add(row.exists);
                }
                unseen.insert(name.to_vec());
                table.folders.push(row);
            }
        }
        (unseen, unseen_before)
    }

    /// What there is of a folder that could not be read. It lives, as far as anybody knows: what the archive has of it stays as
    /// it is, under the name that it has now. `next` is what was read.
    fn stays(&self, pass: &Pass, name: &[u8], next: &Table) -> Option<FolderRow> {
        let of_name = self.old.folder(name);
        let row = match pass.folders.iter().find(|f| f.name == name).and_then(|f| f.id.as_ref()) {
            Some(id) => of_name.filter(|row| row.id == *id).or_else(|| self.old.folders.iter().find(|row| row.id == *id)),
            None => of_name,
        }?;
        // What had this name may have been found under another one.
        let had = |name: &[u8]| self.old.folder(name).is_some_and(|old| old.id == row.id);
        let is_elsewhere = next.folders.iter().any(|other| other.id == row.id && other.name != name && !had(&other.name));
        (!is_elsewhere).then(|| FolderRow { name: name.to_vec(), ..row.clone() })
    }

    async fn commit(&mut self, writer: &mut Writer, table: Table, dead: u64) -> Result<(), Error> {
        if self.report.unclaimed > 0 {
            // What no folder has stays in the archive until somebody has looked at it.
            let now = visible(&table);
            self.raise(Cause::Unclaimed, now.saturating_add(self.report.unclaimed), now);
        }
        let facts = CommitFacts {
            time: self.io.now(),
            source: self.settings.source.clone(),
            cyrus: self.origin.cyrus(),
            standing: Some(self.standing.clone()),
            dead,
        };
        let commit = writer.commit(table, facts).await?;
        self.report.commit = Some(commit.commit.number);
        self.standing = commit.commit.standing;
        Ok(())
    }

    /// Compares the messages of the last snapshot with those of them that are accounted for `now` ([`compare::loss`]). Folders
    /// that neither run could read do not count: nobody should have to acknowledge one cause twice.
    fn mass_loss(&mut self, before: u64, now: u64) {
        if now.saturating_mul(2) < before {
            self.raise(Cause::MassLoss, before, now);
        }
    }

    /// Appends a folder's metadata, as far as it changed, and makes its row.
    async fn folder(
        &mut self,
        writer: &mut Writer,
        capture: &Capture,
        captured: &Captured,
        bodies: FolderBodies,
        next: &mut Next,
    ) -> Result<FolderRow, Error> {
        for problem in bodies.problems {
            self.report.problem(problem);
        }
        let folder = &captured.folder;
        // Of two folders with one uniqueid, its own; of one that was renamed, that under the old name.
        let own = self.old.folder(&folder.name).filter(|row| row.id == captured.id);
        let old = own.or_else(|| self.by_id.get(&captured.id).map(|at| &self.old.folders[*at]));
        let mut row = FolderRow {
            name: folder.name.clone(),
            id: captured.id.clone(),
            entry: compare::entry(folder, old).to_vec(),
            exists: bodies.exists,
            expunged: bodies.expunged,
            bytes: bodies.bytes,
            young: captured.young,
            missing: bodies.missing,
            ..FolderRow::default()
        };
        let (kept, problem) = self.header(writer, capture, captured, old, next).await?;
        problem.into_iter().for_each(|problem| self.report.problem(problem));
        let mut contents: Vec<(&str, Vec<u8>, FileTuple)> = Vec::new();
        for (file, tuple) in MetaFile::ALL.into_iter().zip(folder.tuples) {
            if let Some(kept) = kept.as_ref().filter(|_| file == MetaFile::Header) {
                row.files.push(FileRow { tuple: FileTuple::default(), ..kept.clone() });
            } else if let Some(bytes) = capture.load(self.io, &folder.name, file).await? {
                if file == MetaFile::Index
                    && let Ok(index) = Index::parse(&bytes)
                {
                    let header = index.header();
                    row.version = Some(header.minor_version);
                    row.uidvalidity = Some(header.uidvalidity);
                    row.modseq = header.highestmodseq;
                    row.header_crc = header.header_crc;
                }
                contents.push((file.name(), bytes, remembered(capture, captured, file, tuple).unwrap_or_default()));
            }
        }
        if !captured.annotations.is_empty() {
            contents.push((MAILBOX_ANNOTATIONS, captured.annotations.clone(), FileTuple::default()));
        }
        if !bodies.guids.is_empty() {
            contents.push((GUIDS, emit_guids(&bodies.guids), FileTuple::default()));
        }
        let dir = format!("folders/{}/", folder_dir(&captured.id));
        for (name, bytes, tuple) in contents {
            let sha1 = Guid::of(&bytes);
            let at = match old.and_then(|row| row.file(name)) {
                Some(had) if had.sha1 == sha1 => had.at,
                had => {
                    next.lose(had.map_or(0, |had| had.tuple.size));
                    writer.file(format!("{dir}{name}").as_bytes(), tuple.mtime, &bytes, sha1).await?
                }
            };
            row.files.push(FileRow { name: String::from(name), tuple, sha1, at });
        }
        row.files.sort_by_key(|file| MetaFile::ALL.iter().position(|meta| meta.name() == file.name).unwrap_or(usize::MAX));
        for had in old.map_or(&[][..], |row| &row.files).iter().filter(|had| row.file(&had.name).is_none()) {
            next.lose(had.tuple.size);
            writer.gone(format!("{dir}{}", had.name).as_bytes()).await?;
        }
        Ok(row)
    }

    /// Looks at a cyrus.header, and tells if it cannot be read. The last good one of this folder stands in its place, if the
    /// archive has one; what it does not name of the keywords that are in use lacks.
    async fn header(
        &self,
        writer: &Writer,
        capture: &Capture,
        captured: &Captured,
        old: Option<&FolderRow>,
        next: &mut Next,
    ) -> Result<(Option<FileRow>, Option<Problem>), Error> {
        let name = &captured.folder.name;
        let damage = match capture.load(self.io, name, MetaFile::Header).await? {
            Some(bytes) => match header::parse(&bytes) {
                Ok(_) => return Ok((None, None)),
                Err(damage) => Error::from(damage),
            },
            // No server is without it; the protocol of another host may not show it.
            None if capture.pass.partial => return Ok((None, None)),
            None => Error::world("open", captured.folder.paths.meta[1].shown(), Fault::NotFound),
        };
        let had = old.and_then(|row| row.file(MetaFile::Header.name()));
        let names = match had.and_then(|file| file.at.location()) {
            Some(at) => header::parse(&writer.read_entry(at, META_MAX).await?).ok().map(|header| header.user_flags),
            None => None,
        };
        let is_kept = names.is_some();
        let names = names.unwrap_or_default();
        let mut is_named = true;
        for file in INDEXES {
            let Some(bytes) = capture.load(self.io, name, file).await? else { continue };
            let Ok(index) = parse_index(file, &bytes) else { continue };
            let lacks = |n: usize| names.get(n).is_none_or(Option::is_none);
            is_named &= !index.records().flatten().any(|r| (0..USER_FLAGS_MAX).any(|n| r.user_flag(n) && lacks(n)));
        }
        if !is_named {
            next.table.lacking.push(LackingRow { name: name.clone(), why: Lack::HeaderLost, id: Some(captured.id.clone()) });
        }
        let problem = Problem::Header { folder: name.clone(), error: damage, is_kept };
        Ok((had.filter(|_| is_kept).cloned(), Some(problem)))
    }

    /// Links for names that are new or mean another folder, tombstones for names that are gone.
    async fn links(&mut self, writer: &mut Writer, next: &mut Next) -> Result<(), Error> {
        let now = self.io.now();
        for row in &next.table.folders {
            if self.old.folder(&row.name).is_some_and(|old| old.id == row.id) {
                continue;
            }
            self.report.names_new += 1;
            let target = format!("../folders/{}", folder_dir(&row.id));
            writer.link(&link_name(&row.name), target.as_bytes(), now).await?;
        }
        for old in &self.old.folders {
            if next.table.folder(&old.name).is_none() {
                self.report.names_gone += 1;
                writer.link(&link_name(&old.name), b"", now).await?;
            }
        }
        Ok(())
    }

    /// Files that belong to no folder.
    async fn states(&mut self, writer: &mut Writer, capture: &Capture, next: &mut Next) -> Result<(), Error> {
        for state in &capture.pass.states {
            if let Some(row) = self.state(writer, capture, state, next).await? {
                next.table.states.push(row);
            }
        }
        for (name, error) in &capture.failed_states {
            self.report.problem(Problem::State { name: name.clone(), error: error.clone() });
        }
        if !capture.pass.partial {
            let row = self.mailboxes(writer, &capture.pass).await?;
            next.table.states.push(row);
        }
        for old in &self.old.states {
            if state_row(&next.table, &old.name).is_some() {
                continue;
            }
            if !compare::is_seen_by_pass(&capture.pass, &old.name) {
                next.table.states.push(old.clone());
                continue;
            }
            match &old.content {
                StateContent::File { size, .. } => {
                    next.lose(*size);
                    writer.gone(&old.name).await?;
                }
                StateContent::Link { .. } => drop(writer.link(&old.name, b"", self.io.now()).await?),
            }
        }
        next.table.states.sort_by(|a, b| a.name.cmp(&b.name));
        next.table.lacking.sort();
        next.table.lacking.dedup();
        Ok(())
    }

    async fn state(
        &mut self,
        writer: &mut Writer,
        capture: &Capture,
        state: &State,
        next: &mut Next,
    ) -> Result<Option<StateRow>, Error> {
        let old = state_row(&self.old, &state.name);
        match &state.what {
            StateKind::Link(target) => {
                if let Some(old) = old.filter(|old| compare::is_link_to(old, target)) {
                    return Ok(Some(old.clone()));
                }
                let at = writer.link(&state.name, target, self.io.now()).await?;
                let content = StateContent::Link { target: target.clone(), at };
                Ok(Some(StateRow { name: state.name.clone(), tuple: None, content }))
            }
            StateKind::File(_) => {
                // One that vanished between the look and the reading is as good as gone.
                let Some((bytes, tuple)) = capture.states.get(&state.name) else { return Ok(old.cloned()) };
                if let Err(damage) = look_at(&state.name, bytes) {
                    return self.damaged(writer, state, (bytes, damage), next).await.map(Some);
                }
                let content = self.content(writer, &state.name, old, bytes, tuple.map(|t| t.mtime), next).await?;
                Ok(Some(StateRow { name: state.name.clone(), tuple: *tuple, content }))
            }
        }
    }

    /// Reports a user file that is damaged on the server. The last good one stays, if the archive has one.
    async fn damaged(
        &mut self,
        writer: &mut Writer,
        state: &State,
        (bytes, damage): (&[u8], Damage),
        next: &mut Next,
    ) -> Result<StateRow, Error> {
        let error = Error::from(Damage { object: state.place.shown(), ..damage });
        let old = state_row(&self.old, &state.name).cloned();
        if let Some(old) = &old
            && let StateContent::File { at, .. } = &old.content
            && let Some(at) = at.location()
            && look_at(&state.name, &writer.read_entry(at, STATE_MAX).await?).is_ok()
        {
            self.report.problem(Problem::Damaged { name: state.name.clone(), error, is_kept: true });
            // Without a tuple it is looked at again, and told again, by each run.
            return Ok(StateRow { tuple: None, ..old.clone() });
        }
        self.report.problem(Problem::Damaged { name: state.name.clone(), error, is_kept: false });
        next.table.lacking.push(LackingRow { name: state.name.clone(), why: Lack::FileDamaged, id: None });
        let content = self.content(writer, &state.name, old.as_ref(), bytes, None, next).await?;
        Ok(StateRow { name: state.name.clone(), tuple: None, content })
    }

    /// Appends a user file unless the archive has this content of it.
    async fn content(
        &self,
        writer: &mut Writer,
        name: &[u8],
        old: Option<&StateRow>,
        bytes: &[u8],
        mtime: Option<Time>,
        next: &mut Next,
    ) -> Result<StateContent, Error> {
        let sha1 = Guid::of(bytes);
        if let Some(StateRow { content: StateContent::File { sha1: had, size, at }, .. }) = old {
            if *had == sha1 {
                return Ok(StateContent::File { sha1, size: *size, at: *at });
            }
            next.lose(*size);
        }
        let at = writer.file(name, mtime.unwrap_or(self.io.now()), bytes, sha1).await?;
        Ok(StateContent::File { sha1, size: bytes.len() as u64, at })
    }

    /// The user's records of mailboxes.db, those by uniqueid (with the history of names) among them.
    async fn mailboxes(&mut self, writer: &mut Writer, pass: &Pass) -> Result<StateRow, Error> {
        let old = state_row(&self.old, MAILBOXES).cloned();
        let entries = pass.folders.iter().map(|f| (&f.name, &f.entry));
        if let Some(old) = &old
            && entries.eq(self.old.folders.iter().map(|row| (&row.name, &row.entry)))
        {
            return Ok(old.clone());
        }
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = pass.folders.iter().map(|f| (f.key.clone(), f.entry.clone())).collect();
        records.extend(self.origin.id_records(self.io, self.owner, &pass.folders).await?);
        records.sort();
        let bytes = flat::emit(&records);
        let mut next = Next::default();
        let content = self.content(writer, MAILBOXES, old.as_ref(), &bytes, None, &mut next).await?;
        Ok(StateRow { name: MAILBOXES.to_vec(), tuple: None, content })
    }
}

use crate::source::Tuple as FileTuple;

/// Whether a user file can be read by whoever restores it. Of those that only a server reads nothing is known.
fn look_at(name: &[u8], bytes: &[u8]) -> Result<(), Damage> {
    if name.starts_with(b"meta/quota/") { quota::parse(bytes).map(drop) } else { Ok(()) }
}

/// The files that list messages.
const INDEXES: [MetaFile; 2] = [MetaFile::Index, MetaFile::Expunge];

fn parse_index(file: MetaFile, bytes: &[u8]) -> Result<Index<'_>, Damage> {
    if file == MetaFile::Expunge { Index::parse_expunge(bytes) } else { Index::parse(bytes) }
}

/// Entry of the SHA-1s of a folder whose index has none.
pub(crate) const GUIDS: &str = "guids";

/// The tuple by which the next run sees whether a file has changed. `None` for a header whose quota root could not be read: it
/// would not be looked for again.
fn remembered(capture: &Capture, captured: &Captured, file: MetaFile, tuple: Option<FileTuple>) -> Option<FileTuple> {
    let is_lost = |root: &Vec<u8>| capture.failed_states.contains_key(&quota_name(root));
    tuple.filter(|_| file != MetaFile::Header || !captured.quota_root.as_ref().is_some_and(is_lost))
}

const INBOX: &[u8] = b"INBOX";

/// Why a user without an INBOX is a failure.
const HEADLESS: &str = "mailboxes.db has no entry of it on this server, though the user has folders below it; \
    `ctl_mboxlist` or a backup of mailboxes.db brings the entry back";

/// What every run tells of a state, although it is saved.
fn odd(table: &Table) -> Vec<Problem> {
    let twin = |(row, other): (&FolderRow, &FolderRow)| Problem::Twin {
        folder: row.name.clone(),
        other: other.name.clone(),
        id: row.id.clone(),
    };
    let identity = |(row, entry): (&FolderRow, _)| Problem::Identity { folder: row.name.clone(), entry, id: row.id.clone() };
    compare::twins(table).into_iter().map(twin).chain(compare::strangers(table).map(identity)).collect()
}

/// The error of a run from a source that does not have the user of an archive of another one.
fn is_elsewhere(source: &str, home: &str) -> Error {
    Error::Refused(format!("{source} has no mailbox of this user; the archive is of {home}"))
}

/// True if one of these folders is not deleted.
fn has_live<'a>(mut names: impl Iterator<Item = &'a Vec<u8>>) -> bool {
    names.any(|name| compare::is_live(name))
}

// Tables come from an archive, and their numbers may be any.
fn messages_of(table: &Table) -> u64 {
    table.folders.iter().fold(0, |sum, row| row.exists.saturating_add(row.expunged).saturating_add(sum))
}

fn visible(table: &Table) -> u64 {
    table.folders.iter().fold(0, |sum, row| row.exists.saturating_add(sum))
}

/// A uniqueid as a directory name.
pub fn folder_dir(id: &[u8]) -> String {
    let plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-');
    if id.iter().all(plain) {
        String::from_utf8_lossy(id).into_owned()
    } else {
        percent(id, b"./!\"#$&'()*+,:;<=>?@[\\]^`{|}~")
    }
}

/// The longest name that file systems take, in bytes.
const FILE_NAME_MAX: usize = 255;

/// The entry name of a folder's link. Cyrus takes names of up to 490 bytes; one that no file system takes is cut, and `%~` and
/// the SHA-1 of the whole name come behind. `%~` is in no name that was not cut.
pub fn link_name(folder: &[u8]) -> Vec<u8> {
    let mut name = percent(folder, b"/");
    if name.len() > FILE_NAME_MAX {
        let kept = FILE_NAME_MAX - "%~".len() - 2 * Guid::NULL.0.len();
        // Not inside of an escape.
        let escape = name[..kept].rfind('%').filter(|at| kept - at < "%XX".len());
        name.truncate(escape.unwrap_or(kept));
        name.push_str(&format!("%~{}", Guid::of(folder)));
    }
    format!("imap/{name}").into_bytes()
}

fn emit_guids(guids: &Guids) -> Vec<u8> {
    let mut out = Vec::new();
    for (uid, (guid, size)) in guids {
        out.extend_from_slice(format!("{uid} {guid} {size}\n").as_bytes());
    }
    out
}

/// Reads what [`emit_guids`] wrote; lines that it did not write are left out, their messages will be read again.
pub(crate) fn parse_guids(bytes: &[u8]) -> Guids {
    let parse = |line: &[u8]| {
        let text = core::str::from_utf8(line).ok()?;
        let mut words = text.split(' ');
        let (uid, guid, size) = (words.next()?, words.next()?, words.next()?);
        Some((uid.parse().ok()?, (Guid::from_hex(guid.as_bytes())?, size.parse().ok()?)))
    };
    bytes.split(|&c| c == b'\n').filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No tool could extract the link of such a folder: its name was one component of up to 1,470 bytes.
    #[test]
    fn links_of_folders_with_long_names_have_names_that_file_systems_take() {
        let plain = [&b"INBOX."[..], &[b'x'; 249]].concat();
        assert_eq!(link_name(&plain), [b"imap/", &plain[..]].concat());
        for filler in [b'x', b' '] {
            for len in 250..600 {
                let folder = [&b"INBOX."[..], &alloc::vec![filler; len]].concat();
                let name = link_name(&folder);
                assert!(name.len() <= b"imap/".len() + FILE_NAME_MAX && name.is_ascii());
                assert!(name.ends_with(format!("%~{}", Guid::of(&folder)).as_bytes()));
                let cut = &name[b"imap/".len()..name.len() - 42];
                let kept = crate::escape::unpercent(cut).expect("whole escapes");
                assert!(folder.starts_with(&kept) && cut.len() > FILE_NAME_MAX - 45, "{len}");
            }
        }
    }
}
