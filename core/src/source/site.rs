//! One Cyrus host: its configuration, its databases, and which locks its version takes.
//!
//! What is found out about the host (form of the keys, version) is kept for all users of a run. What must not come in: reading
//! the files of a mailbox (`pass`, `capture`).

use super::database::{Database, Entry};
use super::lock::Patience;
use super::pass::FOLDERS_MAX;
use super::version::Told;
use super::{Folder, FolderPaths, MetaFile, Pass};
use crate::cyrus::conf::{Conf, VersionLine};
use crate::cyrus::db::{Order, flat};
use crate::cyrus::mailboxes::{self, MbEntry, StyleGuess};
use crate::cyrus::names::{KeyStyle, MailboxName, Naming, Owner};
use crate::cyrus::paths::{self, Home, Paths};
use crate::error::{Error, Fault};
use crate::escape::shown;
use crate::io::{How, Io, Place};
use crate::time::Time;
use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Records of annotations.db that one mailbox may have.
const ANNOTATIONS_MAX: usize = 100_000;
/// Keys of mailboxes.db that are looked at to tell the version.
const SAMPLE: usize = 200;
/// Mailboxes whose indexes are looked at to tell the version, and how many bytes of each.
const INDEXES: usize = 8;
const INDEX_TOP: usize = 12;

/// How much to lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Locking {
    /// As the version of the server does.
    AsServer,
    /// Nothing: no server runs on this spool.
    Offline,
}

/// Which lock guards a folder besides cyrus.index.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FolderLock {
    /// The namelock file (2.4 and later).
    Namelock,
    /// cyrus.header (2.3).
    Header,
    /// None, and cyrus.index is not locked either.
    None,
}

/// The locks for one owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockPlan {
    /// Files of the user lock, in the order in which to take them. Empty if the version has none that stops writers.
    pub user: Vec<Place>,
    /// What guards each folder.
    pub folders: FolderLock,
}

/// What is known of an INBOX, by which its owner's own files are found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inbox<'a> {
    /// uniqueid, if mailboxes.db tells it.
    pub id: Option<&'a [u8]>,
    /// The raw value in mailboxes.db.
    pub entry: &'a [u8],
}

impl<'a> From<&'a Folder> for Inbox<'a> {
    fn from(folder: &'a Folder) -> Inbox<'a> {
        Inbox { id: folder.id.as_deref(), entry: &folder.entry }
    }
}

/// One Cyrus host.
pub struct Site {
    conf: Conf,
    naming: Naming,
    locking: Locking,
    patience: Patience,
    style: KeyStyle,
    pinned: bool,
    /// The version was told by what is installed.
    is_sure: bool,
    mailboxes: Database,
    annotations: Database,
    quotas: Quotas,
    /// The first entries of mailboxes.db, which tell the version.
    sample: Vec<Entry>,
}

/// Where the server keeps quotas.
enum Quotas {
    /// Each in a file.
    Files,
    /// All in a database.
    Database(Box<Database>),
    /// Where they cannot be read: the option, for people.
    Elsewhere(String),
}

impl Site {
    /// Looks at the host that `conf` describes. `version` is the version line if the caller knows it; otherwise it is told from
    /// what the databases and lock files show, and `conf`'s own version is of no importance.
    pub async fn open(
        io: &Io,
        conf: Conf,
        version: Option<VersionLine>,
        locking: Locking,
        patience: Patience,
    ) -> Result<Site, Error> {
        is_readable(&conf)?;
        let paths = Paths::new(&conf)?;
        let mailboxes = Database::new(Place::host(paths.mailboxes_db()?), "mailboxes.db", patience);
        let annotations = Database::new(Place::host(paths.annotations_db()?), "annotations.db", patience);
        let naming = paths.naming().clone();
        let pinned = version.is_some();
        let (style, is_sure) = (KeyStyle::Dbname, false);
        let quotas = quotas(&conf, locking, patience);
        let mut site = Site {
            conf,
            naming,
            locking,
            patience,
            style,
            pinned,
            is_sure,
            mailboxes,
            annotations,
            quotas,
            sample: Vec::new(),
        };
        if locking == Locking::Offline {
            site.mailboxes.leave_unlocked();
            site.annotations.leave_unlocked();
        }
        let found = site.detect(io).await?;
        site.conf = site.conf.with_version(version.unwrap_or(found))?;
        site.naming = site.conf.naming()?;
        Ok(site)
    }

    /// How long to wait for locks, and to hold them.
    pub fn patience(&self) -> Patience {
        self.patience
    }

    /// Databases are waited for until then, and no longer; `None`: as patience has it.
    ///
    /// Whoever holds a user lock must set this: up to 3.4, SETACL holds mailboxes.db exclusively while it waits for that lock.
    pub fn hurry(&mut self, until: Option<Time>) {
        self.mailboxes.hurry(until);
        self.annotations.hurry(until);
        if let Quotas::Database(database) = &mut self.quotas {
            database.hurry(until);
        }
    }

    /// The configuration, with the version that was found.
    pub fn conf(&self) -> &Conf {
        &self.conf
    }

    /// How names are read on this host.
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    /// Pages of mailboxes.db read since the last call: what a lookup costs.
    pub fn take_page_reads(&mut self) -> u64 {
        self.mailboxes.take_reads()
    }

    /// The version line for a commit record.
    pub fn version_shown(&self) -> String {
        let mark = if self.pinned || self.is_sure { "" } else { " or like it" };
        format!("{}{mark}", self.conf.version)
    }

    /// Takes into account what is installed on the host, unless the databases are of another release, and what the indexes of
    /// new mailboxes need if `indexes` may be opened. Gives what was concluded, and from what; `None` for a version that the
    /// caller knew.
    pub async fn look_closer(&mut self, io: &Io, installed: Option<Told>, indexes: bool) -> Result<Option<Told>, Error> {
        if self.pinned {
            return Ok(None);
        }
        let sample = core::mem::take(&mut self.sample);
        let (shown, style) = (self.conf.version, self.style);
        // Up to 3.4 keys are of another form, and 3.12 writes values in another.
        let fits = |version: VersionLine| match (sample.is_empty(), style) {
            (true, _) => true,
            (false, KeyStyle::Legacy) => version < VersionLine::V3_6,
            (false, KeyStyle::Dbname) => version >= shown,
        };
        if let Some(told) = installed.filter(|told| fits(told.version)) {
            self.is_sure = true;
            return self.conclude(told).map(Some);
        }
        if sample.is_empty() && shown < VersionLine::V3_12 {
            return Ok(None);
        }
        let newest = if indexes { self.newest_index(io, &sample).await } else { None };
        let needed = newest.and_then(first_with_index);
        let because = match needed.filter(|needed| *needed > shown && fits(*needed)) {
            Some(_) => "new mailboxes have indexes of its version",
            None => "mailboxes.db and lock files look like it",
        };
        let version = needed.filter(|needed| *needed > shown && fits(*needed)).unwrap_or(shown);
        self.conclude(Told { version, because: String::from(because) }).map(Some)
    }

    fn conclude(&mut self, told: Told) -> Result<Told, Error> {
        self.conf = self.conf.with_version(told.version)?;
        self.naming = self.conf.naming()?;
        Ok(told)
    }

    /// The newest version of cyrus.index among some of the mailboxes that were made last.
    async fn newest_index(&self, io: &Io, sample: &[Entry]) -> Option<u32> {
        let mut made: Vec<(u32, Place)> = Vec::new();
        for (key, value) in sample {
            let Ok(mut entry) = mailboxes::parse(value) else { continue };
            let name = match mailboxes::parse_key(&self.naming, self.style, key) {
                Ok(mailboxes::Key::Name(name)) => name,
                Ok(mailboxes::Key::Id(id)) => {
                    entry.uniqueid = Some(id);
                    match entry.dbname.as_deref().map(|name| self.naming.parse_dbname(name)) {
                        Some(Ok(name)) => name,
                        _ => continue,
                    }
                }
                _ => continue,
            };
            if entry.is_local_mailbox()
                && let Ok(paths) = self.folder_paths(&name, &entry)
            {
                made.push((entry.uidvalidity, paths.meta[0].clone()));
            }
        }
        made.sort_by_key(|(uidvalidity, _)| core::cmp::Reverse(*uidvalidity));
        let mut newest = None;
        for (_, place) in made.into_iter().take(INDEXES) {
            newest = newest.max(index_version(io, &place).await);
        }
        newest
    }

    /// Tells the version line from the keys and values of mailboxes.db, and from lock files that only some versions make.
    async fn detect(&mut self, io: &Io) -> Result<VersionLine, Error> {
        self.sample = self.mailboxes.first(io, SAMPLE).await?;
        let sample = &self.sample;
        let mut guess = StyleGuess::default();
        sample.iter().for_each(|(key, _)| guess.feed(key));
        self.style = if sample.is_empty() { KeyStyle::Dbname } else { guess.finish() };
        if self.style == KeyStyle::Dbname {
            if sample.iter().any(|(_, value)| mailboxes::is_of_3_12(value)) {
                return Ok(VersionLine::V3_12);
            }
            // Gone after a boot, until somebody needs it.
            let newest = self.conf.with_version(VersionLine::V3_12)?;
            let global = Paths::new(&newest)?.global_lock()?;
            let found = match global {
                Some(path) => io.stat(&Place::host(path)).await.is_ok(),
                None => false,
            };
            return Ok(if found { VersionLine::V3_12 } else { VersionLine::V3_6 });
        }
        if sample.iter().any(|(key, _)| key.starts_with(b"$RUNQ")) {
            return Ok(VersionLine::V3_4);
        }
        let entries: Vec<MbEntry> = sample.iter().filter_map(|(_, value)| mailboxes::parse(value).ok()).collect();
        if entries.iter().any(|e| e.createdmodseq > 0) {
            return Ok(VersionLine::V3_2);
        }
        if entries.iter().any(|e| e.foldermodseq > 0) {
            return Ok(VersionLine::V3_0);
        }
        if sample.iter().any(|(_, value)| value.starts_with(b"%(")) {
            return Ok(VersionLine::V2_5);
        }
        // From 2.4 on every mailbox that was ever opened has a namelock file.
        let locks = Place::host(self.conf.mboxname_lockpath.clone());
        Ok(if io.stat(&locks).await.is_ok() { VersionLine::V2_4 } else { VersionLine::V2_3 })
    }

    /// The orders in which the keys of mailboxes.db may stand. Up to 3.4 an option decides that a reader cannot know (`.`
    /// before everything else or not), so both are tried: the wrong one finds less, or takes the file for damaged, and never
    /// finds more.
    fn orders(&self) -> &'static [Order] {
        match self.style {
            KeyStyle::Dbname => &[Order::Raw],
            KeyStyle::Legacy => &[Order::Mbox, Order::Raw],
        }
    }

    /// Everybody who has a mailbox here, in order; shared mailboxes last. An entry that cannot be read counts, so that it is
    /// reported; one whose name cannot be read is among the shared ones.
    pub async fn owners(&mut self, io: &Io) -> Result<Vec<Owner>, Error> {
        let is_here = |value: &[u8]| mailboxes::parse(value).map_or(true, |entry| entry.is_local_mailbox());
        self.owners_of(io, |name, value| is_here(value).then(|| name.map_or(Owner::Shared, MailboxName::owner))).await
    }

    /// Every user who has an INBOX here, in order.
    pub async fn users(&mut self, io: &Io) -> Result<Vec<Owner>, Error> {
        let is_here = |value: &[u8]| mailboxes::parse(value).is_ok_and(|entry| entry.is_local_mailbox());
        self.owners_of(io, |name, value| name.filter(|name| name.is_inbox() && is_here(value)).map(MailboxName::owner)).await
    }

    /// The owners that `whose` tells of an entry: by its name, if that can be read, and its value.
    async fn owners_of(
        &mut self,
        io: &Io,
        whose: impl Fn(Option<&MailboxName>, &[u8]) -> Option<Owner>,
    ) -> Result<Vec<Owner>, Error> {
        let mut owners = BTreeSet::new();
        let (naming, style) = (self.naming.clone(), self.style);
        let mut outcome = Outcome::default();
        for order in self.orders() {
            let walked = self
                .mailboxes
                .walk(io, *order, |key, value| match mailboxes::parse_key(&naming, style, key) {
                    Ok(mailboxes::Key::Name(name)) => owners.extend(whose(Some(&name), value)),
                    Ok(_) => {}
                    Err(_) => owners.extend(whose(None, value)),
                })
                .await;
            outcome.add(walked);
        }
        outcome.finish()?;
        Ok(owners.into_iter().collect())
    }

    /// All records of mailboxes.db under one of `keys` or below one of `prefixes`.
    async fn records(&mut self, io: &Io, keys: &[Vec<u8>], prefixes: &[Vec<u8>]) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        let mut outcome = Outcome::default();
        for order in self.orders() {
            match self.mailboxes.lookup(io, keys, prefixes, *order, FOLDERS_MAX).await {
                Ok(found) => {
                    entries.extend(found);
                    outcome.add(Ok(()));
                }
                Err(error) => outcome.add(Err(error)),
            }
        }
        outcome.finish()?;
        entries.sort();
        entries.dedup();
        Ok(entries)
    }

    /// The mailboxes of one owner, with their paths; tuples are not filled in. Entries that make no sense are in `unreadable`.
    pub async fn folders(&mut self, io: &Io, owner: &Owner) -> Result<Pass, Error> {
        let ranges = self.naming.key_ranges(owner, self.style)?;
        let keys: Vec<Vec<u8>> = ranges.iter().map(|r| r.exact.clone()).collect();
        let prefixes: Vec<Vec<u8>> = ranges.iter().map(|r| r.subtree.clone()).collect();
        let entries = self.records(io, &keys, &prefixes).await?;
        let mut pass = Pass::default();
        for (key, entry) in entries {
            let name = match mailboxes::parse_key(&self.naming, self.style, &key) {
                Ok(mailboxes::Key::Name(name)) if name.owner() == *owner => name,
                Ok(_) => continue,
                Err(damage) => {
                    pass.unreadable.push((key, damage.into()));
                    continue;
                }
            };
            match self.folder(&name, key, entry) {
                Ok(Some(folder)) => pass.folders.push(folder),
                Ok(None) => {}
                Err(error) => pass.unreadable.push((self.naming.relative(&name), error)),
            }
        }
        pass.folders.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(pass)
    }

    /// The mailbox of this name, with its paths; tuples are not filled in. `None` if there is none.
    pub async fn find(&mut self, io: &Io, name: &MailboxName) -> Result<Option<Folder>, Error> {
        let key = match self.style {
            KeyStyle::Legacy => self.naming.internal(name),
            KeyStyle::Dbname => [b"N", &self.naming.dbname(name)[..]].concat(),
        };
        match self.records(io, &[key], &[]).await?.pop() {
            Some((key, entry)) => self.folder(name, key, entry),
            None => Ok(None),
        }
    }

    fn folder(&self, name: &MailboxName, key: Vec<u8>, entry: Vec<u8>) -> Result<Option<Folder>, Error> {
        let parsed = mailboxes::parse(&entry)?;
        if !parsed.is_local_mailbox() {
            return Ok(None);
        }
        let paths = self.folder_paths(name, &parsed)?;
        let id = parsed.uniqueid.clone().filter(|id| !id.is_empty());
        Ok(Some(Folder { name: self.naming.relative(name), id, key, entry, paths, tuples: [None; 4] }))
    }

    fn folder_paths(&self, name: &MailboxName, entry: &MbEntry) -> Result<FolderPaths, Error> {
        let paths = Paths::new(&self.conf)?;
        let spot = entry.spot(self.style, name);
        let partition = entry.partition.as_deref().unwrap_or_default();
        let meta = |file| paths.meta(partition, spot, file).map(Place::host);
        let data = paths.data_dir(partition, spot)?;
        let archive = paths.archive_dir(partition, spot)?;
        Ok(FolderPaths {
            archive: (archive != data).then(|| Place::host(archive)),
            data: Place::host(data),
            meta: [
                meta(paths::MetaFile::Index)?,
                meta(paths::MetaFile::Header)?,
                meta(paths::MetaFile::Expunge)?,
                meta(paths::MetaFile::Annotations)?,
            ],
            namelock: Place::host(paths.mailbox_lock(spot)?),
            expunge: self.conf.version <= VersionLine::V2_4,
        })
    }

    /// How the owner's own files are found: by the uniqueid of the INBOX where that has its directory by uniqueid.
    fn home<'a>(&self, owner: &'a Owner, inbox: Option<Inbox<'a>>) -> Option<Home<'a>> {
        let Owner::User(userid) = owner else { return None };
        if self.naming.is_aside(userid) {
            return Some(Home::Named(userid));
        }
        // By name they are found without an INBOX.
        let Some(Inbox { id, entry }) = inbox else {
            return (self.style == KeyStyle::Legacy).then_some(Home::Named(userid));
        };
        let by_name = mailboxes::parse(entry).is_ok_and(|e| e.has_legacy_dirs(self.style));
        match id {
            Some(id) if !by_name => Some(Home::Id(id)),
            _ => Some(Home::Named(userid)),
        }
    }

    /// The owner's files that are saved, by their names in the archive.
    pub fn user_files(&self, owner: &Owner, inbox: Option<Inbox<'_>>) -> Result<Vec<(Vec<u8>, Place)>, Error> {
        let Some(home) = self.home(owner, inbox) else { return Ok(Vec::new()) };
        let paths = Paths::new(&self.conf)?;
        let mut files = Vec::new();
        for suffix in ["counters", "seen", "sub"] {
            files.push((format!("meta/{suffix}").into_bytes(), Place::host(paths.user_file(home, suffix)?)));
        }
        Ok(files)
    }

    /// The directory of the owner's sieve scripts, if the server keeps them.
    pub fn sieve_dir(&self, owner: &Owner, inbox: Option<Inbox<'_>>) -> Result<Option<Place>, Error> {
        let Some(home) = self.home(owner, inbox) else { return Ok(None) };
        Ok(Paths::new(&self.conf)?.sieve_dir(home)?.map(Place::host))
    }

    /// The file of a quota root.
    pub fn quota_file(&self, root: &[u8]) -> Result<Place, Error> {
        Ok(Place::host(Paths::new(&self.conf)?.quota_file(root)?))
    }

    /// True if the server keeps quotas in files of their own.
    pub fn has_quota_files(&self) -> bool {
        matches!(self.quotas, Quotas::Files)
    }

    /// The record of a quota root, as its file would have it, where the server keeps quotas in a database. `None` if there is
    /// none.
    pub async fn quota_record(&mut self, io: &Io, root: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let database = match &mut self.quotas {
            Quotas::Files => return Ok(None),
            Quotas::Elsewhere(option) => {
                return Err(Error::Refused(format!("imapd.conf: {option}: quotas that are kept there cannot be saved")));
            }
            Quotas::Database(database) => database,
        };
        // Which order its keys have, the options of the server decide.
        for order in [Order::Raw, Order::Mbox] {
            match database.lookup(io, &[root.to_vec()], &[], order, 1).await {
                Ok(found) => {
                    if let Some((_, value)) = found.into_iter().next() {
                        return Ok(Some(value));
                    }
                }
                Err(Error::World { fault: Fault::NotFound, .. }) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The quota root that an owner has for everything, and its file.
    pub fn own_quota(&self, owner: &Owner) -> Result<Option<(Vec<u8>, Place)>, Error> {
        let Owner::User(userid) = owner else { return Ok(None) };
        let root = self.naming.internal(&self.naming.inbox(userid)?);
        let place = self.quota_file(&root)?;
        Ok(Some((root, place)))
    }

    /// annotations.db.
    pub fn annotations_place(&self) -> Option<Place> {
        Some(self.annotations.place().clone())
    }

    /// A mailbox's records of annotations.db, as lines `key TAB value`. None there, or no such file, gives no line.
    pub async fn mailbox_annotations(&mut self, io: &Io, folder: &Folder, id: &[u8]) -> Result<Vec<u8>, Error> {
        let mut prefixes = Vec::new();
        match self.style {
            KeyStyle::Dbname => prefixes.push([id, &[0]].concat()),
            KeyStyle::Legacy => prefixes.push([&folder.key[..], &[0]].concat()),
        }
        match self.annotations.lookup(io, &[], &prefixes, Order::Raw, ANNOTATIONS_MAX).await {
            Ok(entries) => Ok(flat::emit(&entries)),
            Err(Error::World { fault: Fault::NotFound, .. }) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// The records by uniqueid of these folders; they hold the history of names. Only 3.6 and later have them.
    pub async fn id_records(&mut self, io: &Io, folders: &[Folder]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
        if self.style == KeyStyle::Legacy {
            return Ok(Vec::new());
        }
        let keys: Vec<Vec<u8>> = folders.iter().filter_map(|f| f.id.as_ref()).map(|id| [b"I", &id[..]].concat()).collect();
        self.records(io, &keys, &[]).await
    }

    /// Which locks to take for `owner`.
    ///
    /// A user lock stops all writers from 3.4 on, and only on users' mailboxes. Its name changed in 3.12: where the version is
    /// not known for sure, every form that exists is taken, and both if none does; locking one that nobody uses does no harm.
    pub async fn lock_plan(&self, io: &Io, owner: &Owner, _first: &Pass) -> Result<LockPlan, Error> {
        if self.locking == Locking::Offline {
            return Ok(LockPlan { user: Vec::new(), folders: FolderLock::None });
        }
        let version = self.conf.version;
        let folders = if version == VersionLine::V2_3 { FolderLock::Header } else { FolderLock::Namelock };
        let mut user = Vec::new();
        if version >= VersionLine::V3_4 && *owner != Owner::Shared {
            user = self.user_lock_files(io, owner).await?;
        }
        Ok(LockPlan { user, folders })
    }

    async fn user_lock_files(&self, io: &Io, owner: &Owner) -> Result<Vec<Place>, Error> {
        let form = |version| -> Result<Option<Place>, Error> {
            let conf = self.conf.with_version(version)?;
            Ok(Paths::new(&conf)?.user_lock(owner)?.map(Place::host))
        };
        if self.pinned || self.style == KeyStyle::Legacy {
            return Ok(form(self.conf.version)?.into_iter().collect());
        }
        let (older, newer) = (form(VersionLine::V3_10)?, form(VersionLine::V3_12)?);
        let mut present = Vec::new();
        let mut all = Vec::new();
        for (place, sure) in [(older, false), (newer, self.conf.version >= VersionLine::V3_12)] {
            let Some(place) = place else { continue };
            if sure || io.stat(&place).await.is_ok() {
                present.push(place.clone());
            }
            all.push(place);
        }
        Ok(if present.is_empty() { all } else { present })
    }
}

/// The version in the header of a cyrus.index; `None` if it cannot be read.
async fn index_version(io: &Io, place: &Place) -> Option<u32> {
    let file = io.open(place, How::Read).await.ok()?;
    let read = io.read_at(file, 0, INDEX_TOP, Vec::new()).await;
    // It was only read.
    let _ = io.close(file).await;
    let top = read.ok()?;
    let number = |at: usize| top.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
    number(8)
}

/// Where a server with these options keeps quotas.
fn quotas(conf: &Conf, locking: Locking, patience: Patience) -> Quotas {
    let backend = &conf.quota_db;
    if backend.eq_ignore_ascii_case(b"quotalegacy") {
        return Quotas::Files;
    }
    if !BACKENDS.iter().any(|known| backend.eq_ignore_ascii_case(known.as_bytes())) {
        return Quotas::Elsewhere(format!("quota_db: {}", shown(backend)));
    }
    let mut database = Database::new(Place::host(conf.quota_db_path.clone()), "quotas.db", patience);
    if locking == Locking::Offline {
        database.leave_unlocked();
    }
    Quotas::Database(Box::new(database))
}

/// Databases that are read. A server that keeps its lists elsewhere may have left files of these names that it uses no more.
const BACKENDS: [&str; 4] = ["flat", "skiplist", "twom", "twoskip"];

/// Why a user's file cannot be saved from, or restored into, the database of its kind that imapd.conf names; `None` if it can.
/// A file that is there all the same is left over.
pub fn kept_elsewhere(conf: &Conf, name: &[u8]) -> Option<Error> {
    let (option, what) = match name {
        b"meta/sub" => ("subscription_db", "subscriptions"),
        b"meta/seen" => ("seenstate_db", "seen states"),
        _ => return None,
    };
    let backend = conf.option(option)?;
    let is_known = BACKENDS.iter().any(|known| backend.eq_ignore_ascii_case(known.as_bytes()));
    (!is_known).then(|| {
        Error::Refused(format!(
            "imapd.conf: {option}: {}: {what} that are kept there cannot be saved or restored, expected one of {}",
            shown(backend),
            BACKENDS.join(", ")
        ))
    })
}

/// Refused if the server keeps its mailboxes or annotations in a database that cannot be read here.
fn is_readable(conf: &Conf) -> Result<(), Error> {
    for option in ["mboxlist_db", "annotation_db"] {
        let Some(backend) = conf.option(option) else { continue };
        if !BACKENDS.iter().any(|known| backend.eq_ignore_ascii_case(known.as_bytes())) {
            return Err(Error::Refused(format!(
                "imapd.conf: {option}: {} is not supported, expected one of {}; convert the database with cvt_cyrusdb, and change the option",
                shown(backend),
                BACKENDS.join(", ")
            )));
        }
    }
    Ok(())
}

/// The oldest release whose servers make such indexes.
pub fn first_with_index(version: u32) -> Option<VersionLine> {
    match version {
        14..=16 => Some(VersionLine::V3_2),
        17 => Some(VersionLine::V3_4),
        18 | 19 => Some(VersionLine::V3_10),
        20.. => Some(VersionLine::Head),
        _ => None,
    }
}

/// What came of trying several orders of keys: good if one of them was.
#[derive(Default)]
struct Outcome {
    good: bool,
    error: Option<Error>,
}

impl Outcome {
    fn add(&mut self, result: Result<(), Error>) {
        match result {
            Ok(()) => self.good = true,
            Err(error @ Error::Damage(_)) => drop(self.error.get_or_insert(error)),
            // What the world refuses is no question of order.
            Err(error) => {
                self.good = false;
                self.error = Some(error);
            }
        }
    }

    fn finish(self) -> Result<(), Error> {
        match self.error {
            Some(error @ Error::Damage(_)) if !self.good => Err(error),
            Some(Error::Damage(_)) | None => Ok(()),
            Some(error) => Err(error),
        }
    }
}

/// The metadata files of [`MetaFile`] in the order of [`FolderPaths::meta`]; that the two agree is checked at compile time.
const _: () = assert!(matches!(MetaFile::ALL, [MetaFile::Index, MetaFile::Header, MetaFile::Expunge, MetaFile::Annotations]));
