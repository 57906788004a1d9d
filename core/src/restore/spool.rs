//! Files in place: mailboxes put back as files of a server that does not run, and the commands that make it know them.
//!
//! Everything goes where imapd.conf and the version at hand say. Message files, cyrus.index, cyrus.header, annotations, quota,
//! subscriptions, seen states and Sieve scripts are written; the records of mailboxes.db are written as input for
//! `ctl_mboxlist -u`, because only Cyrus itself keeps all that hangs on them. Nothing that is there is changed: a mailbox whose
//! name or uniqueid is in use, or whose metadata are other than those of the archive, is left alone and reported. Only
//! annotations.db, which is one file for all, is written anew with its old records and the new ones, and the old file kept
//! beside it.
//!
//! What must not come in: a server that runs.

use super::absent::absent;
use super::bodies::{Bodies, Next};
use super::databases::{self, Database, below, put};
use super::draft::Draft;
use super::entry;
use super::export::FolderPlan;
use super::report::{Note, Report};
use super::scripts;
use super::select::{Annotation, Body, Folder, Scope, Selection, UserData};
use super::shelf::{Dir, Put, Shelf, is_fatal};
use crate::archive::record::{FolderRow, MessageAt};
use crate::crc32::crc32;
use crate::cyrus::annotations::{OWNER_TOKEN, emit_key, emit_value};
use crate::cyrus::conf::{Conf, VersionLine};
use crate::cyrus::db::{Entry, Order, flat};
use crate::cyrus::header::{self, Form};
use crate::cyrus::index::{self, Index};
use crate::cyrus::mailboxes::{self, KeyStyle, MbEntry};
use crate::cyrus::names::{MailboxName, Naming, Owner};
use crate::cyrus::paths::{self, Home, Paths, Spot, check_uniqueid};
use crate::cyrus::subs;
use crate::error::Error;
use crate::escape::shown;
use crate::io::{Event, Io, Place};
use crate::source::MetaFile;
use crate::source::site::kept_elsewhere;
use crate::stock::annotations::push_string;
use crate::time::{Civil, Time};
use crate::view;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// The longest name of a mailbox that Cyrus takes (`MAX_MAILBOX_NAME`).
const NAME_MAX: usize = 490;
const DIR_MODE: u32 = 0o755;
/// The beginning of the script. Debian has `dav_reconstruct` in a package of its own.
const SCRIPT: &str = "#!/bin/sh
# Run this as the user of Cyrus before the server is started.
set -e
PATH=$PATH:/usr/lib/cyrus/bin:/usr/cyrus/bin
missing=
command -v dav_reconstruct >/dev/null || dav_reconstruct() {
  missing=\"$missing
  dav_reconstruct $*\"
}
";
/// Its end.
const SCRIPT_END: &str = "if [ -n \"$missing\" ]; then
  echo \"dav_reconstruct is not installed (Debian has it in the package cyrus-caldav). Until it is, and these commands were run as
the user of Cyrus, calendars, address books and files of these users are not found by their clients, and no scheduled
messages are sent:$missing\" >&2
  exit 3
fi
";

/// What has been done for all users so far, and what is left to be done by Cyrus itself.
#[derive(Default)]
pub struct Work {
    /// What came of it.
    pub report: Report,
    /// Input for `ctl_mboxlist -u`, without its first and last line.
    mailboxes: Vec<String>,
    annotations: BTreeMap<Vec<u8>, Vec<u8>>,
    users: BTreeSet<Vec<u8>>,
    roots: BTreeSet<Vec<u8>>,
    /// Quota roots that folders of archives name which cannot have their limits.
    unlimited: BTreeSet<Vec<u8>>,
    /// Records for the quota database, where quota roots have no files.
    quotas: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Users with collections for which only Cyrus itself can make the databases.
    has_dav: BTreeSet<Vec<u8>>,
}

/// The server at hand.
pub struct Site<'a> {
    conf: &'a Conf,
    paths: Paths<'a>,
    naming: Naming,
    style: KeyStyle,
    /// Mailboxes that it has already: internal name to uniqueid.
    known: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The same the other way round.
    ids: BTreeMap<Vec<u8>, Vec<u8>>,
    stamp: String,
    /// Everybody of the store is restored, and nobody was named.
    is_for_all: bool,
    /// Somebody has said that indexes may lose what older versions have no field for.
    may_lower: bool,
}

/// A message and where it goes.
struct Way {
    at: MessageAt,
    folder: usize,
    uid: u32,
    date: Time,
    archived: bool,
}

/// A folder that was begun: its name, and where its messages go.
struct Begun {
    name: Vec<u8>,
    data: Vec<u8>,
    archive: Vec<u8>,
}

/// The directories that imapd.conf names, as the target has them: on the way to them links are the administrator's.
pub fn bases(conf: &Conf) -> Vec<Vec<u8>> {
    let parent = |path: &Vec<u8>| Place::host(&path[..]).parent().path;
    let parts = [&conf.partitions, &conf.metapartitions, &conf.archivepartitions, &conf.metadirs];
    let mut all: BTreeSet<Vec<u8>> = parts.into_iter().flat_map(|map| map.values().map(|path| below(path))).collect();
    let single = [&conf.configdirectory, &conf.sievedir, &conf.mboxname_userpath];
    all.extend(single.into_iter().map(|path| below(path)));
    let files = [&conf.mboxlist_db_path, &conf.annotation_db_path, &conf.quota_db_path];
    all.extend(files.into_iter().map(|path| below(&parent(path))));
    all.into_iter().filter(|path| !path.is_empty()).collect()
}

impl<'a> Site<'a> {
    /// Looks at the server that `conf` describes, which does not run. Its mailboxes.db may be missing. With `must_be_empty` it
    /// is an error if it has mailboxes. With `may_lower` an index that its version does not read is made one of an older
    /// version.
    pub async fn open(io: &Io, conf: &'a Conf, must_be_empty: bool, may_lower: bool) -> Result<Site<'a>, Error> {
        if conf.version < VersionLine::V2_5 {
            let why = "files can be put in place for Cyrus 2.5 and later; export with --dir --format cyrus instead";
            return Err(Error::Refused(String::from(why)));
        }
        let paths = Paths::new(conf)?;
        let naming = paths.naming().clone();
        let style = if conf.version >= VersionLine::V3_6 { KeyStyle::Dbname } else { KeyStyle::Legacy };
        let Civil { year, month, day, hour, minute, second } = Civil::from_time(io.now());
        let stamp = format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z");
        let (known, ids) = (BTreeMap::new(), BTreeMap::new());
        let mut site = Site { conf, paths, naming, style, known, ids, stamp, is_for_all: must_be_empty, may_lower };
        site.look_at_mailboxes(io).await?;
        if must_be_empty && let Some(name) = site.known.keys().next() {
            let why = format!("the server has mailboxes already, such as {}; --all-users is for an empty one", shown(name));
            return Err(Error::Refused(why));
        }
        Ok(site)
    }

    async fn look_at_mailboxes(&mut self, io: &Io) -> Result<(), Error> {
        let Some(entries) = databases::read(io, &self.paths.mailboxes_db()?, "mailboxes.db").await? else { return Ok(()) };
        for (key, value) in entries {
            let Ok(mailboxes::Key::Name(name)) = mailboxes::parse_key(&self.naming, self.style, &key) else { continue };
            let Ok(entry) = mailboxes::parse(&value) else { continue };
            if entry.is_local_mailbox() {
                let (name, id) = (self.naming.internal(&name), entry.uniqueid.unwrap_or_default());
                self.ids.insert(id.clone(), name.clone());
                self.known.insert(name, id);
            }
        }
        Ok(())
    }

    /// The directory for what Cyrus is to be given, as the server sees it.
    fn work_dir(&self) -> Vec<u8> {
        [&self.conf.configdirectory[..], format!("/cylinder-restore.{}", self.stamp).as_bytes()].concat()
    }

    /// The partition that the folder goes to: its own if the server has it.
    fn partition(&self, entry: &MbEntry) -> Result<String, Error> {
        let own = entry.partition.as_ref().map(|name| String::from_utf8_lossy(name).to_lowercase());
        let has = |name: &String| self.conf.partitions.contains_key(name);
        let first = || self.conf.partitions.keys().next().cloned();
        let chosen = own.clone().filter(has).or_else(|| self.conf.defaultpartition.clone().filter(has)).or_else(first);
        chosen.ok_or_else(|| Error::Refused(String::from("imapd.conf names no partition")))
    }

    /// Internal name, entry of mailboxes.db and name of a folder on this server.
    fn place(&self, selection: &Selection<'_>, folder: &Folder) -> Result<(Vec<u8>, MbEntry, MailboxName), Error> {
        let naming = Naming::default().with_whole_userids(self.naming.has_whole_userids());
        let name = folder.mailbox(&naming, &selection.owner)?;
        let internal = self.naming.internal(&name);
        check_uniqueid(&folder.id)?;
        self.check_free(&internal, folder)?;
        let partition = self.partition(&folder.entry)?;
        Ok((internal, self.entry(selection, folder, &partition), name))
    }

    /// Refused if another mailbox has the name or the uniqueid, or if the name is none for Cyrus.
    fn check_free(&self, internal: &[u8], folder: &Folder) -> Result<(), Error> {
        let Site { known, ids, .. } = self;
        if let Some(id) = known.get(internal).filter(|id| **id != folder.id) {
            let why = format!("the server has another mailbox of this name (uniqueid {}); rename it first", shown(id));
            return Err(Error::Refused(why));
        }
        if let Some(name) = ids.get(&folder.id).filter(|name| name[..] != *internal) {
            return Err(Error::Refused(format!("the server has this mailbox as {}; rename it first", shown(name))));
        }
        if internal.len() > NAME_MAX || internal.iter().any(|b| !(b' '..=b'~').contains(b)) {
            return Err(Error::Refused(String::from("no server takes this name; export it with --dir")));
        }
        Ok(())
    }

    /// The entry that mailboxes.db is to get.
    fn entry(&self, selection: &Selection<'_>, folder: &Folder, partition: &str) -> MbEntry {
        let mut entry = folder.entry.clone();
        entry.uniqueid = Some(folder.id.clone());
        entry.partition = Some(partition.as_bytes().to_vec());
        entry.server = None;
        // Only 3.6 and later have a choice.
        let is_new = selection.style == KeyStyle::Dbname && self.style == KeyStyle::Dbname;
        entry.mbtype.legacy_dirs = is_new && entry.mbtype.legacy_dirs;
        entry.acl = Some(folder.acl().to_vec());
        if let Some(index) = &folder.index {
            entry.uidvalidity = index.uidvalidity;
        }
        entry
    }
}

/// Tells where folders would go, and does nothing.
pub async fn plan(selection: &Selection<'_>, site: &Site<'_>) -> Result<(Vec<FolderPlan>, Report), Error> {
    let (mut plans, mut report) = (Vec::new(), Report::default());
    report.lack(selection.lacking());
    for n in 0..selection.len() {
        let Some(folder) = selection.folder(n).await? else { continue };
        match site.place(selection, &folder) {
            Ok((_, entry, name)) => {
                let partition = entry.partition.as_deref().unwrap_or_default();
                let dir = site.paths.data_dir(partition, entry.spot(site.style, &name))?;
                plans.push(super::export::look(&folder, shown(&dir), &mut report));
            }
            Err(error) => report.fail_with(shown(&folder.name), &error),
        }
    }
    miss(selection, site, &mut report).await?;
    Ok((plans, report))
}

/// Puts a selection in place. What cannot be restored is in the report of `work`.
pub async fn restore(
    io: &Io,
    selection: &Selection<'_>,
    site: &Site<'_>,
    ahead: usize,
    shelf: &mut Dir<'_>,
    work: &mut Work,
) -> Result<(), Error> {
    if selection.wish.is_filtered() {
        let why = "--spool puts whole folders back; to pick messages, restore them with --dir or through IMAP";
        return Err(Error::Refused(String::from(why)));
    }
    for base in bases(site.conf) {
        shelf.base(&base, DIR_MODE).await?;
    }
    for problem in &selection.problems {
        work.report.fail_with("archive", problem);
    }
    work.report.lack(selection.lacking());
    let mut user = User { io, selection, site, ahead, shelf, work, begun: Vec::new(), ways: Vec::new() };
    for n in 0..selection.len() {
        if let Some(folder) = selection.folder(n).await? {
            let result = user.folder(n, &folder).await;
            user.settle(shown(&folder.name), result)?;
        }
    }
    user.messages().await?;
    if selection.wish.scope == Scope::All {
        user.files().await?;
    } else {
        user.missing_limits().await?;
    }
    miss(selection, site, &mut work.report).await
}

/// What was asked for and is not in the snapshot. Of everybody those are meant who were there then.
async fn miss(selection: &Selection<'_>, site: &Site<'_>, report: &mut Report) -> Result<(), Error> {
    let notes = absent(selection).await?;
    if site.is_for_all {
        notes.into_iter().for_each(|Note { what, why, next }| report.skipped.add(what, why, &next));
    } else {
        report.miss(notes);
    }
    Ok(())
}

struct User<'a, 'd> {
    io: &'a Io,
    selection: &'a Selection<'a>,
    site: &'a Site<'a>,
    ahead: usize,
    shelf: &'a mut Dir<'d>,
    work: &'a mut Work,
    begun: Vec<Begun>,
    ways: Vec<Way>,
}

impl User<'_, '_> {
    /// Reports an error, unless it ends everything.
    fn settle(&mut self, what: String, result: Result<(), Error>) -> Result<(), Error> {
        match result {
            Err(error) if is_fatal(&error) => Err(error),
            Err(error) => {
                self.work.report.fail_with(what, &error);
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Puts the metadata of a folder in place, and remembers where its messages go.
    async fn folder(&mut self, n: usize, folder: &Folder) -> Result<(), Error> {
        let Some(row) = self.selection.row(n) else { return Ok(()) };
        let (internal, entry, name) = self.site.place(self.selection, folder)?;
        let spot = entry.spot(self.site.style, &name);
        self.metadata(row, folder, &internal, spot, &entry).await?;
        let (paths, partition) = (&self.site.paths, entry.partition.as_deref().unwrap_or_default());
        let (data, archive) = (paths.data_dir(partition, spot)?, paths.archive_dir(partition, spot)?);
        let begun = Begun { name: folder.name.clone(), data: below(&data), archive: below(&archive) };
        self.shelf.dir(&begun.data).await?;
        self.plan_messages(folder);
        if self.ways.iter().rev().take_while(|way| way.folder == self.begun.len()).any(|way| way.archived) {
            self.shelf.dir(&begun.archive).await?;
        }
        self.begun.push(begun);
        self.note(folder, &name, &internal, &entry)?;
        self.work.report.folders += 1;
        if entry.mbtype.kind == mailboxes::Kind::Sieve && self.site.style == KeyStyle::Dbname && name.deleted().is_none() {
            let result = self.script_table(folder).await;
            if let (Err(_), Owner::User(userid)) = (&result, name.owner()) {
                self.work.has_dav.insert(userid);
            }
            self.settle(format!("{}: the table of scripts", shown(&folder.name)), result)?;
        }
        Ok(())
    }

    /// Writes the database in which ManageSieve finds the scripts of this mailbox.
    async fn script_table(&mut self, folder: &Folder) -> Result<(), Error> {
        let Owner::User(userid) = self.selection.owner.clone() else { return Ok(()) };
        let scripts = scripts::scripts(self.io, self.selection.reader(), folder, self.ahead).await?;
        if scripts.is_empty() {
            return Ok(());
        }
        let content = scripts::database(&scripts, &folder.id)?;
        let inbox = self.inbox();
        let path = below(&self.site.paths.user_file(self.home(inbox.as_ref(), &userid), "dav")?);
        self.put(&path, content, None).await
    }

    /// The entry and the uniqueid of the user's INBOX.
    fn inbox(&self) -> Option<(MbEntry, Vec<u8>)> {
        self.selection.table.folder(b"INBOX").and_then(|row| Some((entry::of(row, None, None).ok()?, row.id.clone())))
    }

    /// How the user's own files are found on this server.
    fn home<'h>(&self, inbox: Option<&'h (MbEntry, Vec<u8>)>, userid: &'h [u8]) -> Home<'h> {
        if self.site.naming.is_aside(userid) {
            return Home::Named(userid);
        }
        let was_new = self.selection.style == KeyStyle::Dbname;
        match inbox {
            Some((entry, id)) if self.site.style == KeyStyle::Dbname && !(was_new && entry.mbtype.legacy_dirs) => Home::Id(id),
            _ => Home::Named(userid),
        }
    }

    /// cyrus.header, cyrus.index and cyrus.annotations, in the forms that the version at hand reads.
    async fn metadata(
        &mut self,
        row: &FolderRow,
        folder: &Folder,
        internal: &[u8],
        spot: Spot<'_>,
        entry: &MbEntry,
    ) -> Result<(), Error> {
        let partition = entry.partition.clone().unwrap_or_default();
        let files = [MetaFile::Header, MetaFile::Index, MetaFile::Annotations];
        let places = [paths::MetaFile::Header, paths::MetaFile::Index, paths::MetaFile::Annotations];
        let mut header_crc = None;
        for (file, place) in files.into_iter().zip(places) {
            let content = match (file, view::meta(self.selection.reader(), row, file.name()).await?) {
                (MetaFile::Header, Some(bytes)) => {
                    let content = self.header(bytes, folder, internal, entry)?;
                    header_crc = Some(crc32(&content));
                    content
                }
                (MetaFile::Index, Some(bytes)) => self.index(bytes, row, header_crc.unwrap_or(0)).await?,
                (_, Some(bytes)) => bytes,
                (MetaFile::Annotations, None) => continue,
                (file, None) => {
                    let why = format!("the archive has no {}; export the messages with --dir", file.name());
                    return Err(Error::Refused(why));
                }
            };
            let path = below(&self.site.paths.meta(&partition, spot, place)?);
            let mtime = row.file(file.name()).map(|file| file.tuple.mtime);
            self.put(&path, content, mtime).await?;
        }
        Ok(())
    }

    /// cyrus.header as the version at hand writes it; as it was if that is the same form.
    fn header(&self, bytes: Vec<u8>, folder: &Folder, internal: &[u8], entry: &MbEntry) -> Result<Vec<u8>, Error> {
        let mut parsed = header::parse(&bytes)?;
        let form = match self.site.style {
            KeyStyle::Legacy => Form::Text,
            KeyStyle::Dbname if parsed.form == Form::Text => Form::Dlist,
            KeyStyle::Dbname => parsed.form,
        };
        if form == parsed.form && parsed.uniqueid == folder.id {
            return Ok(bytes);
        }
        parsed.form = form;
        parsed.uniqueid.clone_from(&folder.id);
        parsed.name = Some(internal.to_vec());
        parsed.mbtype = Some(entry.mbtype);
        Ok(parsed.emit()?)
    }

    /// cyrus.index as it was if the server reads that, else in the newest version that it reads, which must be wanted. The
    /// records of a cyrus.expunge are taken in, as Cyrus itself does.
    async fn index(&self, bytes: Vec<u8>, row: &FolderRow, header_crc: u32) -> Result<Vec<u8>, Error> {
        let greatest = newest_index(self.site.conf.version);
        let parsed = Index::parse(&bytes)?;
        let is_known = (12..=greatest).contains(&parsed.header().minor_version);
        if is_known {
            return Ok(bytes);
        }
        let mut header = parsed.header().clone();
        if header.minor_version < 12 {
            let why =
                "its cyrus.index is of Cyrus 2.3, where \\Seen is elsewhere; export it with --dir or restore it through IMAP";
            return Err(Error::Refused(String::from(why)));
        }
        if header.minor_version > greatest && !self.site.may_lower {
            let (found, version) = (header.minor_version, self.site.conf.version);
            let why = format!("its cyrus.index is of version {found}, and Cyrus {version} reads none above {greatest}");
            let next = "restore it through IMAP, export it with --dir, or have it lowered, which drops what is new in it";
            return Err(Error::Refused(format!("{why}; {next}: --cyrus {version}")));
        }
        let view = view::folder(self.selection.reader(), row).await?;
        if let Some(problem) = view.problems.into_iter().next() {
            return Err(problem);
        }
        let records: Vec<index::Record> = view.messages.into_iter().map(|m| m.record).collect();
        header.minor_version = greatest;
        header.header_file_crc = header_crc;
        Ok(index::emit_index(&header, &records)?)
    }

    fn plan_messages(&mut self, folder: &Folder) {
        let name = shown(&folder.name);
        for problem in &folder.problems {
            self.work.report.fail_with(name.clone(), problem);
        }
        for m in &folder.messages {
            let what = || format!("{name}/{}", m.uid());
            if let Some((why, next)) = m.body.trouble(m.row.record.size) {
                self.work.report.failed.add(what(), why, next);
            }
            match m.body.at() {
                Some(at) => {
                    let (date, archived) = (m.row.record.internaldate, m.row.record.is_archived());
                    self.ways.push(Way { at, folder: self.begun.len(), uid: m.uid(), date, archived });
                }
                // As it was.
                None if m.body == Body::Unlinked => {}
                None => {
                    let next = "its record is back, its file is not: `reconstruct` will take the record out";
                    self.work.report.failed.add(what(), m.body.why_not().unwrap_or_default(), next);
                }
            }
        }
    }

    /// Remembers what Cyrus is to be told of the folder.
    fn note(&mut self, folder: &Folder, name: &MailboxName, internal: &[u8], entry: &MbEntry) -> Result<(), Error> {
        self.work.mailboxes.push(match self.site.style {
            KeyStyle::Dbname => json_entry(internal, entry),
            KeyStyle::Legacy => text_entry(internal, entry),
        });
        let subject = match self.site.style {
            KeyStyle::Dbname => &folder.id[..],
            KeyStyle::Legacy => internal,
        };
        for Annotation { entry, userid, value, .. } in &folder.annotations {
            let is_owner = matches!(&self.selection.owner, Owner::User(owner) if owner == userid && !userid.is_empty());
            let userid = if is_owner && self.site.style == KeyStyle::Dbname { OWNER_TOKEN } else { userid };
            self.work.annotations.insert(emit_key(subject, entry, userid), emit_value(value));
        }
        if let Owner::User(userid) = name.owner() {
            if needs_dav(entry.mbtype.kind) {
                self.work.has_dav.insert(userid.clone());
            }
            self.work.users.insert(userid);
        }
        self.work.roots.extend(folder.quota_root().map(<[u8]>::to_vec));
        if self.selection.lacks_entries() {
            self.work.unlimited.extend(folder.quota_root().map(<[u8]>::to_vec));
        }
        Ok(())
    }

    async fn put(&mut self, path: &[u8], content: Vec<u8>, mtime: Option<Time>) -> Result<(), Error> {
        let dir = Place::target(path).parent().path;
        self.shelf.dir(&dir).await?;
        let mut draft = Draft::new(self.io);
        draft.write(&content).await?;
        match self.shelf.put(path, &mut draft, mtime).await? {
            Put::Created => self.work.report.files += 1,
            Put::Already => self.work.report.already += 1,
        }
        draft.close().await;
        Ok(())
    }

    /// All message files, in the order of the archive. A message in several folders is one file, as Cyrus has it.
    async fn messages(&mut self) -> Result<(), Error> {
        let mut ways = core::mem::take(&mut self.ways);
        ways.sort_by_key(|way| (way.at.at, way.folder, way.uid));
        let (messages, bytes) = ways.iter().fold((0, 0u64), |(n, bytes), way| (n + 1, bytes.saturating_add(way.at.size)));
        self.io.event(Event::Expect { messages, bytes });
        let (io, reader) = (self.io, self.selection.reader());
        let mut bodies = Bodies::new(io, reader, ways.iter().map(|way| way.at).collect(), self.ahead);
        let mut draft = Draft::new(io);
        let mut left = &ways[..];
        while let Some(next) = bodies.next().await? {
            match next {
                Next::Begin(_) => draft.clear(),
                Next::Piece(piece) => draft.write(piece).await?,
                Next::Good => {
                    let (those, rest) = left.split_at(same(left));
                    left = rest;
                    self.deliver(those, &mut draft).await?;
                    if io.is_stopping() {
                        return Err(Error::Stopped);
                    }
                }
                Next::Bad(_, error) => {
                    let (those, rest) = left.split_at(same(left));
                    left = rest;
                    for way in those {
                        self.work.report.fail_with(self.what(way), &error);
                    }
                }
            }
        }
        draft.close().await;
        Ok(())
    }

    fn what(&self, way: &Way) -> String {
        format!("{}/{}", shown(&self.begun[way.folder].name), way.uid)
    }

    fn path(&self, way: &Way) -> Vec<u8> {
        let begun = &self.begun[way.folder];
        let dir = if way.archived { &begun.archive } else { &begun.data };
        [&dir[..], format!("/{}.", way.uid).as_bytes()].concat()
    }

    async fn deliver(&mut self, ways: &[Way], draft: &mut Draft<'_>) -> Result<(), Error> {
        let copy = if ways.len() > 1 { draft.held().map(<[u8]>::to_vec) } else { None };
        let mut first: Option<(Vec<u8>, Time)> = None;
        for way in ways {
            let path = self.path(way);
            if let Some((from, date)) = &first
                // Its time is INTERNALDATE, and one file has one.
                && *date == way.date
                && !self.shelf.was_there(&path)
                && self.shelf.link(from, &path).await.is_ok()
            {
                self.count(Put::Created, way.at.size);
                continue;
            }
            if draft.is_empty()
                && let Some(copy) = &copy
            {
                draft.write(copy).await?;
            }
            match self.shelf.put(&path, draft, Some(way.date)).await {
                Ok(put) => {
                    self.count(put, way.at.size);
                    first = Some((path, way.date));
                }
                Err(error) => self.settle(self.what(way), Err(error))?,
            }
        }
        Ok(())
    }

    fn count(&mut self, put: Put, bytes: u64) {
        if put == Put::Already {
            self.work.report.already += 1;
        } else {
            self.work.report.messages += 1;
            self.work.report.bytes = self.work.report.bytes.saturating_add(bytes);
        }
        self.io.event(Event::Progress { messages: 1, bytes });
    }

    /// What belongs to the user and to no folder.
    async fn files(&mut self) -> Result<(), Error> {
        let naming = Naming::default();
        let data = self.selection.user_data(&naming).await?;
        for problem in &data.problems {
            self.work.report.fail_with("the user's own files", problem);
        }
        for (root, _) in &data.quotas {
            let result = self.quota(root, &data).await;
            self.settle(format!("quota root {}", shown(root)), result)?;
        }
        let Owner::User(userid) = self.selection.owner.clone() else { return Ok(()) };
        let inbox = self.inbox();
        let home = self.home(inbox.as_ref(), &userid);
        for suffix in ["seen", "sub", "counters"] {
            let result = self.user_file(home, suffix, &userid, &data).await;
            self.settle(format!("file {suffix} of {}", shown(&userid)), result)?;
        }
        let result = self.sieve(home, &data).await;
        self.settle(format!("sieve scripts of {}", shown(&userid)), result)
    }

    /// The limits of quota roots that restored folders name and the server does not have.
    async fn missing_limits(&mut self) -> Result<(), Error> {
        if self.work.roots.is_empty() {
            return Ok(());
        }
        let data = self.selection.user_data(&Naming::default()).await?;
        for (root, _) in data.quotas.iter().filter(|(root, _)| self.work.roots.contains(root)).cloned().collect::<Vec<_>>() {
            if self.io.stat(&Place::host(self.site.paths.quota_file(&root)?)).await.is_err() {
                let result = self.quota(&root, &data).await;
                self.settle(format!("quota root {}", shown(&root)), result)?;
            }
        }
        Ok(())
    }

    async fn quota(&mut self, root: &[u8], data: &UserData) -> Result<(), Error> {
        let name = [b"meta/quota/", crate::escape::percent(root, b"/").as_bytes()].concat();
        let Some(file) = data.files.iter().find(|file| file.name == name) else { return Ok(()) };
        self.work.roots.insert(root.to_vec());
        if self.site.conf.quota_db != b"quotalegacy" {
            // The same content, without the line end of the file.
            self.work.quotas.insert(root.to_vec(), file.content.trim_ascii().to_vec());
            return Ok(());
        }
        let path = below(&self.site.paths.quota_file(root)?);
        self.put(&path, file.content.clone(), file.mtime).await
    }

    async fn user_file(&mut self, home: Home<'_>, suffix: &str, userid: &[u8], data: &UserData) -> Result<(), Error> {
        let name = format!("meta/{suffix}");
        let Some(file) = data.files.iter().find(|file| file.name == name.as_bytes()) else { return Ok(()) };
        if let Some(error) = kept_elsewhere(self.site.conf, name.as_bytes()) {
            return Err(error);
        }
        let is_other = self.selection.style != self.site.style;
        let content = match suffix {
            // The form of its keys changed in 3.6.
            "sub" if is_other => self.subscriptions(userid, data)?,
            // Cyrus counts on from what the mailboxes have.
            "counters" if is_other => return Ok(()),
            _ => file.content.clone(),
        };
        let path = below(&self.site.paths.user_file(home, suffix)?);
        self.put(&path, content, file.mtime).await
    }

    fn subscriptions(&self, userid: &[u8], data: &UserData) -> Result<Vec<u8>, Error> {
        let version = match self.site.conf.version {
            VersionLine::Head => subs::Version::V3,
            version if version >= VersionLine::V3_6 => subs::Version::V2,
            _ => subs::Version::Internal,
        };
        let mut entries: Vec<Entry> = Vec::new();
        entries.extend(version.value().map(|value| (subs::VERSION_KEY.to_vec(), value.to_vec())));
        for name in &data.subscriptions {
            entries.push((subs::emit_key(&self.site.naming, version, userid, name)?, Vec::new()));
        }
        entries.sort();
        Ok(flat::emit(&entries))
    }

    async fn sieve(&mut self, home: Home<'_>, data: &UserData) -> Result<(), Error> {
        if data.sieve.is_empty() && data.links.is_empty() {
            return Ok(());
        }
        let Some(dir) = self.site.paths.sieve_dir(home)? else {
            let why = "imapd.conf has sieveusehomedir: scripts are in the users' own directories; export them with --dir";
            return Err(Error::Refused(String::from(why)));
        };
        let dir = below(&dir);
        let is_name =
            |name: &[u8]| !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0);
        for script in data.sieve.iter().filter(|script| is_name(&script.file)) {
            self.put(&[&dir[..], b"/", &script.file].concat(), script.content.clone(), None).await?;
        }
        for (name, to) in data.links.iter().filter(|(name, to)| is_name(name) && is_name(to)) {
            self.shelf.dir(&dir).await?;
            match self.shelf.put_link(&[&dir[..], b"/", name].concat(), to).await? {
                Put::Created => self.work.report.files += 1,
                Put::Already => self.work.report.already += 1,
            }
        }
        Ok(())
    }
}

/// True for mailboxes that are found by way of databases which only `dav_reconstruct` makes.
fn needs_dav(kind: mailboxes::Kind) -> bool {
    use mailboxes::Kind;
    matches!(kind, Kind::Collection | Kind::Calendar | Kind::Addressbook | Kind::JmapSubmit)
}

/// How many at the beginning are of one message.
fn same(ways: &[Way]) -> usize {
    ways.first().map_or(0, |first| ways.iter().take_while(|way| way.at == first.at).count())
}

/// The newest version of cyrus.index that a server reads.
fn newest_index(version: VersionLine) -> u32 {
    match version {
        VersionLine::V2_3 => 10,
        VersionLine::V2_4 => 12,
        VersionLine::V2_5 | VersionLine::V3_0 => 13,
        VersionLine::V3_2 => 16,
        VersionLine::V3_4 | VersionLine::V3_6 | VersionLine::V3_8 => 17,
        VersionLine::V3_10 | VersionLine::V3_12 => 19,
        VersionLine::Head => 20,
    }
}

/// One mailbox in the input of `ctl_mboxlist -u` of 3.6 and later.
fn json_entry(internal: &[u8], entry: &MbEntry) -> String {
    let text = |bytes: &[u8]| {
        let mut text = String::new();
        push_string(&mut text, bytes);
        text
    };
    let pair = |key: &str, value: String| format!("{}: {value}", text(key.as_bytes()));
    let number = |n: u64| text(n.to_string().as_bytes());
    let rights = entry.acl.iter().flatten().map(|(id, rights)| format!("{}: {}", text(id), text(rights)));
    let fields = [
        pair("name", text(internal)),
        pair("mtime", number(entry.mtime)),
        pair("uidvalidity", number(entry.uidvalidity.into())),
        pair("createdmodseq", number(entry.createdmodseq)),
        pair("foldermodseq", number(entry.foldermodseq)),
        pair("mbtype", text(&entry.mbtype.letters())),
        pair("partition", text(entry.partition.as_deref().unwrap_or_default())),
        pair("acl", format!("{{{}}}", rights.collect::<Vec<_>>().join(", "))),
        pair("uniqueid", text(entry.uniqueid.as_deref().unwrap_or_default())),
        pair("name_history", String::from("[]")),
    ];
    format!("{}: {{{}}}", text(internal), fields.join(", "))
}

/// The same for 2.5 to 3.4.
fn text_entry(internal: &[u8], entry: &MbEntry) -> String {
    let partition = String::from_utf8_lossy(entry.partition.as_deref().unwrap_or_default()).into_owned();
    let acl = String::from_utf8_lossy(&entry.acl_text()).into_owned();
    format!("{}\t{} {partition} {acl}", String::from_utf8_lossy(internal), entry.mbtype.number())
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    let is_plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(&b));
    if is_plain { String::from(word) } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

impl Work {
    /// Writes what Cyrus is to be given and annotations.db, and gives the commands to run, in order. `conf_path` is imapd.conf
    /// as the server sees it.
    pub async fn finish(
        &mut self,
        io: &Io,
        site: &Site<'_>,
        conf_path: &str,
        shelf: &mut Dir<'_>,
    ) -> Result<Vec<String>, Error> {
        if self.mailboxes.is_empty() {
            return Ok(Vec::new());
        }
        let dir = site.work_dir();
        shelf.dir(&below(&dir)).await?;
        let (file, text) = match site.style {
            KeyStyle::Dbname => ("mailboxes.json", format!("{{\n{}\n}}\n", self.mailboxes.join(",\n"))),
            KeyStyle::Legacy => ("mailboxes.txt", self.mailboxes.join("\n") + "\n"),
        };
        put(io, shelf, &[&below(&dir)[..], b"/", file.as_bytes()].concat(), text.as_bytes()).await?;
        self.annotations(io, site, shelf).await?;
        self.quotas(io, site, shelf).await?;
        self.check_roots(io, site).await?;
        let dir = shown(&dir);
        let conf = if conf_path == "/etc/imapd.conf" { String::new() } else { format!(" -C {}", quoted(conf_path)) };
        let mut commands = Vec::from([format!("ctl_mboxlist{conf} -u < {}", quoted(&format!("{dir}/{file}")))]);
        commands.extend(self.roots.iter().map(|root| {
            // The program wants names as administrators see them.
            let name = site.naming.parse_internal(root).ok();
            let external =
                name.and_then(|name| site.naming.external(&site.conf.namespace(), crate::cyrus::names::View::Admin, &name));
            let root = external.unwrap_or_else(|| root.clone());
            format!("quota{conf} -f {}", quoted(&String::from_utf8_lossy(&root)))
        }));
        let userids = |users: &BTreeSet<Vec<u8>>| -> Vec<String> {
            users.iter().map(|user| quoted(&String::from_utf8_lossy(user))).collect()
        };
        if site.conf.option("conversations").is_some_and(is_on) {
            commands.extend(userids(&self.users).iter().map(|user| format!("ctl_conversationsdb{conf} -b {user}")));
        }
        commands.extend(userids(&self.has_dav).iter().map(|user| format!("dav_reconstruct{conf} {user}")));
        let script = format!("{SCRIPT}{}\n{SCRIPT_END}", commands.join("\n"));
        put(io, shelf, &[&below(&site.work_dir())[..], b"/commands.sh"].concat(), script.as_bytes()).await?;
        commands.insert(0, format!("# or all of these: sh {}", quoted(&format!("{dir}/commands.sh"))));
        Ok(commands)
    }

    /// Leaves out quota roots of which the server knows no limits: `quota -f` would take them out of the folders' headers.
    async fn check_roots(&mut self, io: &Io, site: &Site<'_>) -> Result<(), Error> {
        let has_files = site.conf.quota_db == b"quotalegacy";
        let known: BTreeSet<Vec<u8>> = match has_files {
            true => BTreeSet::new(),
            false => {
                let entries = databases::read(io, &site.conf.quota_db_path, "the quota database").await.unwrap_or_default();
                entries.into_iter().flatten().map(|(root, _)| root).collect()
            }
        };
        for root in core::mem::take(&mut self.roots) {
            let is_known = match has_files {
                true => io.stat(&Place::host(site.paths.quota_file(&root)?)).await.is_ok(),
                false => known.contains(&root),
            };
            if is_known {
                self.roots.insert(root);
                continue;
            }
            let why = "folders name it, and neither the archive nor the server has its limits";
            let next = "set them on the server (cyradm: setquota), which counts the use anew";
            // Archives that have no entries of mailboxes.db have no limits either.
            let notes = match self.unlimited.contains(&root) {
                true => &mut self.report.skipped,
                false => &mut self.report.failed,
            };
            notes.add(format!("quota root {}", shown(&root)), why, next);
        }
        Ok(())
    }

    /// annotations.db with the records of what was restored, beside those that it has.
    async fn annotations(&mut self, io: &Io, site: &Site<'_>, shelf: &mut Dir<'_>) -> Result<(), Error> {
        if self.annotations.is_empty() {
            return Ok(());
        }
        let path = site.paths.annotations_db()?;
        let backend = site.conf.option("annotation_db").filter(|name| *name == b"skiplist").unwrap_or(b"twoskip");
        let annotations = Database { path: &path, name: "annotations.db", backend, order: Order::Raw };
        self.report.files += u64::from(databases::add(io, shelf, &annotations, &self.annotations, &site.stamp).await?);
        Ok(())
    }

    /// The limits of quota roots, where the server keeps them in one database.
    async fn quotas(&mut self, io: &Io, site: &Site<'_>, shelf: &mut Dir<'_>) -> Result<(), Error> {
        if self.quotas.is_empty() {
            return Ok(());
        }
        let is_sorted = site.conf.option("improved_mboxlist_sort").is_some_and(is_on) && site.style == KeyStyle::Legacy;
        let order = if is_sorted { Order::Mbox } else { Order::Raw };
        let (path, backend) = (&site.conf.quota_db_path[..], &site.conf.quota_db[..]);
        let quotas = Database { path, name: "the quota database", backend, order };
        match databases::add(io, shelf, &quotas, &self.quotas, &site.stamp).await {
            Ok(is_new) => self.report.files += u64::from(is_new),
            Err(error @ (Error::Refused(_) | Error::Damage(_))) => {
                let next = "set the limits on the server (cyradm: setquota)";
                for root in core::mem::take(&mut self.quotas).into_keys() {
                    self.report.failed.add(format!("limits of quota root {}", shown(&root)), &error, next);
                    self.roots.remove(&root);
                }
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// A switch of imapd.conf.
fn is_on(value: &[u8]) -> bool {
    matches!(value, [b'1' | b'y' | b't', ..] | [b'o', b'n', ..])
}
