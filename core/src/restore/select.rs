//! What is to be restored: folders of one user as of one snapshot, and which of their messages.
//!
//! A [`Selection`] knows which folders are meant; each is read when it is asked for, so that the records of one folder are in
//! memory at a time, besides 40 bytes for each message of the archive. Names are those of the archive, relative to the owner;
//! [`Folder::mailbox`] makes any other form of them.
//!
//! **Deleted** is a message that no living folder shows in the newest snapshot: so one that was moved is not, and one that was
//! expunged, that went with its folder, or that is in the chosen snapshot and nowhere any more, is.
//!
//! What must not come in: where things are restored to.

use super::absent::{self, Seen};
use super::entry;
use super::fields;
use super::recovered;
use crate::archive::read::{CommitAt, Reader};
use crate::archive::record::{Absence, FolderRow, Lack, MessageAt, StateContent, Table};
use crate::cyrus::annotations::{self, OWNER_TOKEN};
use crate::cyrus::db::{Db, Order, Trouble, flat, pages::Pages};
use crate::cyrus::header::Header;
use crate::cyrus::mailboxes::{self, KeyStyle, MbEntry, StyleGuess};
use crate::cyrus::names::{MailboxName, Naming, Owner};
use crate::cyrus::quota::{self, Quota};
use crate::cyrus::{index, seen, subs};
use crate::error::{Damage, Error};
use crate::escape::unpercent;
use crate::guid::Guid;
use crate::lacking::{self, Lacking};
use crate::named;
use crate::source::{MAILBOX_ANNOTATIONS, MetaFile};
use crate::time::Time;
use crate::view::{self, Locations, MessageRow, When};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::cell::RefCell;

/// Bytes of a message that are looked at for its Message-ID, and how many if its header does not end there.
const TOP: usize = 16 << 10;
const TOP_MAX: usize = 256 << 10;
/// Records of a database of one folder or user that are taken.
const RECORDS_MAX: usize = 10_000_000;

/// Which folders.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// These, by the names of the archive; a [`Selection`] is opened by any name that [`named::resolve`] takes.
    Folders(Vec<Vec<u8>>),
    /// This one and all below it.
    Subtree(Vec<u8>),
    /// All.
    All,
    /// The messages that no index of any snapshot names, as one folder.
    Recovered,
}

impl Scope {
    /// The folders that are named.
    fn names_mut(&mut self) -> &mut [Vec<u8>] {
        match self {
            Scope::Folders(names) => names,
            Scope::Subtree(name) => core::slice::from_mut(name),
            Scope::All | Scope::Recovered => &mut [],
        }
    }
}

/// Takes the beginning of a message, or why it cannot be read.
type Take<'a> = dyn FnMut(Guid, Result<&[u8], Error>) + 'a;

/// Which messages of a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// Those that are visible. [`Scope::All`] then leaves out deleted folders.
    #[default]
    Visible,
    /// Every record that the index has: expunged ones, and those whose files are gone. For restoring a mailbox as it was.
    Every,
    /// Those that are deleted; see the module's page.
    Deleted,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wish {
    /// Which folders.
    pub scope: Scope,
    /// Which messages.
    pub kind: Kind,
    /// INTERNALDATE at this time or later.
    pub since: Option<Time>,
    /// INTERNALDATE before this time.
    pub until: Option<Time>,
    /// Only messages with one of these; empty: any.
    pub guids: BTreeSet<Guid>,
    /// Only messages with one of these Message-IDs, without angle brackets; empty: any.
    pub message_ids: BTreeSet<Vec<u8>>,
}

impl Wish {
    /// All that is visible in these folders.
    pub fn new(scope: Scope) -> Wish {
        let (guids, message_ids) = (BTreeSet::new(), BTreeSet::new());
        Wish { scope, kind: Kind::Visible, since: None, until: None, guids, message_ids }
    }

    /// True if some messages of a folder may be left out for what they are: the rest is not the folder as it was.
    pub fn is_filtered(&self) -> bool {
        let dated = self.since.is_some() || self.until.is_some();
        self.kind == Kind::Deleted || dated || !self.guids.is_empty() || !self.message_ids.is_empty()
    }

    fn takes(&self, m: &MessageRow) -> bool {
        let date = m.record.internaldate;
        self.since.is_none_or(|since| date >= since)
            && self.until.is_none_or(|until| date < until)
            && (self.guids.is_empty() || self.guids.contains(&m.guid))
    }
}

/// An annotation of a mailbox or of a message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Annotation {
    /// The entry, such as `/comment`.
    pub entry: Vec<u8>,
    /// Whose: empty for the shared value, else a userid. The token that stands for the owner is replaced.
    pub userid: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
    /// MODSEQ of the change; 0 if unknown.
    pub modseq: u64,
}

/// Where the content of a message is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// Here, and it is what the index describes.
    At(MessageAt),
    /// Here, but it is not what the index describes: so it lay on the server already.
    Other(MessageAt),
    /// The backup could not save it, for this reason.
    Missing(Absence),
    /// The index says that there is no file any more.
    Unlinked,
    /// The archive does not list it: a list of messages is damaged, or the message was erased.
    NotStored,
}

impl Body {
    /// Where it is, if anything is.
    pub fn at(&self) -> Option<MessageAt> {
        match self {
            Body::At(at) | Body::Other(at) => Some(*at),
            _ => None,
        }
    }

    /// What is wrong with what is here, and what can be done about it, for people. `expected` is the size that the index tells.
    pub fn trouble(&self, expected: u64) -> Option<(alloc::string::String, &'static str)> {
        let Body::Other(at) = self else { return None };
        let found = at.size;
        let why = format!(
            "was damaged on the server when it was backed up: {found} bytes of other content, the index says {expected}"
        );
        Some((why, "what is there is restored; an older snapshot may have it whole (`cylinder log`)"))
    }

    /// Why there is nothing, for people.
    pub fn why_not(&self) -> Option<&'static str> {
        match self {
            Body::At(_) | Body::Other(_) => None,
            Body::Missing(Absence::Absent) => Some("its file was missing on the server when it was backed up"),
            Body::Missing(Absence::Unreadable) => Some("its file could not be read on the server when it was backed up"),
            Body::Missing(Absence::Mismatch | Absence::UnreadableRecord) => Some("it was damaged on the server"),
            Body::Missing(Absence::Lost) => Some("damage to the archive has taken it, and `cylinder heal` has not fetched it"),
            Body::Unlinked => Some("the server had removed its file already"),
            Body::NotStored => Some("the archive does not have it: it was erased, or a list of messages is damaged"),
        }
    }
}

/// A message that is to be restored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// Its record, its flags by name, its GUID.
    pub row: MessageRow,
    /// Its annotations, as cyrus.annotations has them.
    pub annotations: Vec<Annotation>,
    /// Where its content is.
    pub body: Body,
}

impl Message {
    /// UID.
    pub fn uid(&self) -> u32 {
        self.row.record.uid.0
    }
}

/// A folder that is to be restored, and which of its messages.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Folder {
    /// The name in the archive, relative to the owner.
    pub name: Vec<u8>,
    /// uniqueid.
    pub id: Vec<u8>,
    /// Its entry in mailboxes.db: type, partition, ACL, UIDVALIDITY, MODSEQs. If the archive has none, what cyrus.header
    /// tells of it, without a partition; the default if it cannot be read.
    pub entry: MbEntry,
    /// cyrus.header: quota root, names of keywords, a copy of the ACL. `None` if it cannot be read.
    pub header: Option<Header>,
    /// The header of cyrus.index. `None` if it cannot be read; then there are no messages.
    pub index: Option<index::Header>,
    /// Annotations of the mailbox, such as `/comment`, `/specialuse`.
    pub annotations: Vec<Annotation>,
    /// The selected messages in ascending order of UID.
    pub messages: Vec<Message>,
    /// How many messages the index has in all.
    pub records: u64,
    /// What could not be read.
    pub problems: Vec<Error>,
}

impl Folder {
    /// Its name in the neutral form, from which `naming` makes any other.
    pub fn mailbox(&self, naming: &Naming, owner: &Owner) -> Result<MailboxName, Damage> {
        naming.parse_relative(owner, &self.name)
    }

    /// The quota root that counts for it, as an internal name.
    pub fn quota_root(&self) -> Option<&[u8]> {
        self.header.as_ref().and_then(|header| header.quotaroot.as_deref())
    }

    /// The ACL: that of mailboxes.db, else the copy in cyrus.header.
    pub fn acl(&self) -> &[(Vec<u8>, Vec<u8>)] {
        let copy = self.header.as_ref().map(|header| &header.acl);
        self.entry.acl.as_ref().or(copy).map_or(&[], |acl| acl)
    }

    /// The special uses that the owner or everybody gave it, such as `\Sent`, separated by spaces.
    pub fn special_use(&self) -> Option<&[u8]> {
        self.annotations.iter().find(|a| a.entry == b"/specialuse").map(|a| &a.value[..])
    }

    /// The first annotation of this entry for everybody.
    pub fn shared_annotation(&self, entry: &str) -> Option<&[u8]> {
        self.annotations.iter().find(|a| a.entry == entry.as_bytes() && a.userid.is_empty()).map(|a| &a.value[..])
    }
}

/// True for the name of a deleted folder.
pub fn is_deleted_folder(owner: &Owner, name: &[u8]) -> bool {
    match owner {
        Owner::User(_) => name.starts_with(b"DELETED."),
        Owner::Shared => Naming::default().parse_relative(owner, name).is_ok_and(|name| name.deleted().is_some()),
    }
}

/// What another user has seen of a folder of this user, or this user of another's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SeenState {
    /// The folder's uniqueid.
    pub uniqueid: Vec<u8>,
    /// When it was selected last, in seconds since 1970.
    pub lastread: i64,
    /// The greatest UID that was shown.
    pub lastuid: u32,
    /// When the sequence changed last, in seconds since 1970.
    pub lastchange: i64,
    /// UIDs with `\Seen`, such as `1:5,7`.
    pub sequence: Vec<u8>,
}

/// A file of the user's sieve directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// The file's name, such as `main.script` or `main.bc`.
    pub file: Vec<u8>,
    /// Its content.
    pub content: Vec<u8>,
}

/// A file as it lay on the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UserFile {
    /// Its name in the archive, such as `meta/sub`.
    pub name: Vec<u8>,
    /// Its content.
    pub content: Vec<u8>,
    /// When it was changed last, if known.
    pub mtime: Option<Time>,
}

/// What belongs to the user and to no folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserData {
    /// Folders that are subscribed to, those of others among them.
    pub subscriptions: Vec<MailboxName>,
    /// What the user has seen in folders of which nobody keeps that in the index.
    pub seen: Vec<SeenState>,
    /// Files of the sieve directory.
    pub sieve: Vec<Script>,
    /// The name of the active script, without `.script` and `.bc`.
    pub active: Option<Vec<u8>>,
    /// Symbolic links of the sieve directory: name and target.
    pub links: Vec<(Vec<u8>, Vec<u8>)>,
    /// Quota roots, by internal name.
    pub quotas: Vec<(Vec<u8>, Quota)>,
    /// All files as they lay on the server.
    pub files: Vec<UserFile>,
    /// What could not be read.
    pub problems: Vec<Error>,
}

/// What is to be restored; see the module's page.
pub struct Selection<'a> {
    reader: &'a Reader,
    /// Whose.
    pub owner: Owner,
    /// The snapshot that is meant.
    pub at: CommitAt,
    /// What it has.
    pub table: Table,
    /// What was asked for.
    pub wish: Wish,
    /// How keys of mailboxes.db looked on the server.
    pub style: KeyStyle,
    /// How names are read, with userids as they were on the server.
    pub naming: Naming,
    /// What could not be read so far.
    pub problems: Vec<Error>,
    locations: Locations,
    folders: Vec<usize>,
    /// What is visible in living folders in the newest snapshot, in order; only for [`Kind::Deleted`].
    alive: Vec<Guid>,
    /// uniqueids of the living folders of the newest snapshot; only for [`Kind::Deleted`].
    living: BTreeSet<Vec<u8>>,
    /// Messages that no index names; only for [`Scope::Recovered`].
    recovered: Vec<(MessageAt, Time)>,
    seen: RefCell<Seen>,
}

impl<'a> Selection<'a> {
    /// Finds the snapshot and the folders. Refused if there is no such snapshot or no such folder.
    pub async fn open(reader: &'a Reader, owner: &Owner, when: When, mut wish: Wish) -> Result<Selection<'a>, Error> {
        let at = view::snapshot(reader, when).await?;
        let mut table = reader.table(&at).await?;
        let mut recovered = Vec::new();
        if wish.scope == Scope::Recovered {
            recovered = recovered::unnamed(reader).await?;
            table = Table { folders: alloc::vec![recovered::row(owner, &table)], ..Table::default() };
        }
        for name in wish.scope.names_mut() {
            match named::resolve(owner, &table, name)? {
                Some(meant) => *name = meant,
                None => return Err(absent::no_folder(reader, owner, &at, &table, name).await?),
            }
        }
        let folders = in_scope(owner, &table, &wish);
        let locations = Locations::load(reader).await?;
        let mut selection = Selection {
            reader,
            owner: owner.clone(),
            at,
            table,
            wish,
            style: KeyStyle::Legacy,
            naming: Naming::default(),
            problems: locations.damage.iter().cloned().map(Error::from).collect(),
            locations,
            folders,
            alive: Vec::new(),
            living: BTreeSet::new(),
            recovered,
            seen: RefCell::default(),
        };
        selection.style = selection.key_style().await?;
        if selection.wish.kind == Kind::Deleted {
            selection.look_at_the_living().await?;
        }
        Ok(selection)
    }

    /// The archive.
    pub fn reader(&self) -> &'a Reader {
        self.reader
    }

    /// Where each message of the archive is.
    pub fn locations(&self) -> &Locations {
        &self.locations
    }

    /// The folders that the snapshot is known to lack, of those in the scope; with all, files of the user too. Each way of
    /// restoring must name it: not all that was
    /// asked for is there.
    pub fn lacking(&self) -> Vec<Lacking> {
        let is_meant = |lacking: &Lacking| is_in_scope(&self.owner, &self.table, &self.wish, &lacking.folder);
        lacking::folders(&self.table).into_iter().filter(is_meant).collect()
    }

    /// True if the archive has no entries of mailboxes.db of folders in the scope, since what saved them does not save those.
    pub fn lacks_entries(&self) -> bool {
        self.wish.scope != Scope::Recovered && self.folders.iter().any(|at| self.table.folders[*at].entry.is_empty())
    }

    /// How many folders are in the scope, those that turn out to have no selected message among them.
    pub fn len(&self) -> usize {
        self.folders.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// The row of folder `n` of the scope.
    pub fn row(&self, n: usize) -> Option<&FolderRow> {
        self.folders.get(n).map(|at| &self.table.folders[*at])
    }

    /// Reads folder `n` of the scope, in byte order of names. `None` behind the last, and for a folder that the filters leave
    /// nothing of.
    pub async fn folder(&self, n: usize) -> Result<Option<Folder>, Error> {
        let Some(row) = self.row(n) else { return Ok(None) };
        let mut folder = match self.wish.scope {
            Scope::Recovered => recovered::folder(row, &self.recovered, |message| self.wish.takes(message)),
            _ => self.read(row).await?,
        };
        if !self.wish.message_ids.is_empty() {
            self.keep_ids(&mut folder).await?;
        }
        let mut seen = self.seen.borrow_mut();
        seen.folders.insert(n);
        let named = folder.messages.iter().map(|m| m.row.guid).filter(|guid| self.wish.guids.contains(guid));
        seen.guids.extend(named);
        drop(seen);
        let is_wanted = match self.wish.kind {
            _ if !folder.messages.is_empty() => true,
            Kind::Deleted => !self.living.contains(&row.id) && !self.is_picky(),
            _ => !self.is_picky(),
        };
        Ok(is_wanted.then_some(folder))
    }

    /// The folders of the scope that nobody has read yet.
    pub(super) fn unread(&self) -> Vec<usize> {
        let seen = self.seen.borrow();
        (0..self.len()).filter(|n| !seen.folders.contains(n)).collect()
    }

    /// What of the messages that were named the folders had that were read.
    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// True if folders without a selected message are not wanted.
    fn is_picky(&self) -> bool {
        let Wish { since, until, guids, message_ids, .. } = &self.wish;
        since.is_some() || until.is_some() || !guids.is_empty() || !message_ids.is_empty()
    }

    /// The contents of the visible messages of a folder of the snapshot, whether it is in the scope or not. What cannot be read
    /// has none.
    pub async fn contents(&self, row: &FolderRow) -> Result<Vec<Guid>, Error> {
        let view = view::folder(self.reader, row).await?;
        let visible = view.messages.iter().filter(|m| !m.is_expunged && !m.is_unlinked);
        Ok(visible.map(|m| self.body(row, m).at().map_or(m.guid, |at| at.guid)).collect())
    }

    async fn read(&self, row: &FolderRow) -> Result<Folder, Error> {
        let mut view = view::folder(self.reader, row).await?;
        let mut folder = Folder {
            name: row.name.clone(),
            id: row.id.clone(),
            records: view.messages.len() as u64,
            header: view.header.take(),
            index: view.index.take(),
            problems: core::mem::take(&mut view.problems),
            ..Folder::default()
        };
        match entry::of(row, folder.header.as_ref(), folder.index.as_ref()) {
            Ok(entry) => folder.entry = entry,
            Err(damage) => folder.problems.push(damage.into()),
        }
        folder.annotations = self.mailbox_annotations(row, &mut folder.problems).await?;
        let mut notes = self.message_annotations(row, &mut folder.problems).await?;
        folder.messages = view
            .messages
            .into_iter()
            .filter(|m| self.is_of_kind(m) && self.wish.takes(m))
            .map(|m| Message {
                annotations: notes.remove(&m.record.uid.0).unwrap_or_default(),
                body: self.body(row, &m),
                row: m,
            })
            .collect();
        Ok(folder)
    }

    fn is_of_kind(&self, m: &MessageRow) -> bool {
        match self.wish.kind {
            Kind::Visible => !m.is_expunged && !m.is_unlinked,
            Kind::Every => true,
            // Without a file there is nothing to bring back.
            Kind::Deleted => !m.is_unlinked && self.alive.binary_search(&m.guid).is_err(),
        }
    }

    fn body(&self, row: &FolderRow, m: &MessageRow) -> Body {
        if m.is_unlinked {
            return Body::Unlinked;
        }
        let missing = row.missing.iter().find(|missing| missing.uid == m.record.uid.0);
        let other = missing.and_then(|missing| missing.found).and_then(|found| self.locations.find(&found));
        match (self.locations.find(&m.guid), missing, other) {
            (_, Some(_), Some(other)) => Body::Other(other),
            // Another folder may have had it.
            (Some(at), _, _) => Body::At(at),
            (None, Some(missing), None) => Body::Missing(missing.why),
            (None, None, _) => Body::NotStored,
        }
    }

    /// Leaves only messages with a wanted Message-ID. Those whose headers cannot be read are left out and told.
    async fn keep_ids(&self, folder: &mut Folder) -> Result<(), Error> {
        let wanted: Vec<MessageAt> = folder.messages.iter().filter_map(|m| m.body.at()).collect();
        let (mut found, mut ids) = (BTreeSet::new(), BTreeSet::new());
        let mut take = |guid: Guid, top: Result<&[u8], Error>| match top {
            Ok(top) => {
                let id = fields::field(top, "Message-ID").map(|id| fields::bare_id(&id).to_vec());
                if let Some(id) = id.filter(|id| self.wish.message_ids.contains(id)) {
                    ids.insert(id);
                    found.insert(guid);
                }
            }
            Err(error) => folder.problems.push(error),
        };
        self.headers(wanted, &mut take).await?;
        folder.messages.retain(|m| m.body.at().is_some_and(|at| found.contains(&at.guid)));
        self.seen.borrow_mut().ids.append(&mut ids);
        Ok(())
    }

    /// Gives the beginning of each of these messages to `take`, with all of the header unless that is too long.
    pub(super) async fn headers(&self, mut wanted: Vec<MessageAt>, take: &mut Take<'_>) -> Result<(), Error> {
        for max in [TOP, TOP_MAX] {
            wanted.sort();
            wanted.dedup();
            let mut cut = Vec::new();
            let mut each = |m: &MessageAt, top: Result<&[u8], Error>| match top {
                Ok(top) if top.len() == max && max < TOP_MAX && !fields::has_whole_header(top) => cut.push(*m),
                top => take(m.guid, top),
            };
            self.reader.tops(&mut wanted, max, 0, &mut each).await?;
            wanted = cut;
        }
        Ok(())
    }

    async fn mailbox_annotations(&self, row: &FolderRow, problems: &mut Vec<Error>) -> Result<Vec<Annotation>, Error> {
        let Some(bytes) = view::meta(self.reader, row, MAILBOX_ANNOTATIONS).await? else { return Ok(Vec::new()) };
        let entries = match flat::parse(&bytes) {
            Ok(entries) => entries,
            Err(damage) => {
                problems.push(damage.into());
                return Ok(Vec::new());
            }
        };
        Ok(entries.iter().filter_map(|(key, value)| self.annotation(key, value, problems)).map(|(_, a)| a).collect())
    }

    /// Annotations by UID.
    async fn message_annotations(
        &self,
        row: &FolderRow,
        problems: &mut Vec<Error>,
    ) -> Result<BTreeMap<u32, Vec<Annotation>>, Error> {
        let mut all: BTreeMap<u32, Vec<Annotation>> = BTreeMap::new();
        let Some(bytes) = view::meta(self.reader, row, MetaFile::Annotations.name()).await? else { return Ok(all) };
        for (key, value) in records("cyrus.annotations", &bytes, problems) {
            if let Some((Some(uid), annotation)) = self.annotation(&key, &value, problems) {
                all.entry(uid).or_default().push(annotation);
            }
        }
        Ok(all)
    }

    /// An annotation and, if its key has one, the UID. `None` for a tombstone, and for what cannot be read, which is told.
    fn annotation(&self, key: &[u8], value: &[u8], problems: &mut Vec<Error>) -> Option<(Option<u32>, Annotation)> {
        let parsed = annotations::parse_key(key).and_then(|key| annotations::parse_value(value).map(|value| (key, value)));
        match parsed {
            Ok((_, value)) if value.deleted => None,
            Ok((key, value)) => {
                let userid = match (key.userid.unwrap_or_default(), &self.owner) {
                    (OWNER_TOKEN, Owner::User(userid)) => userid.clone(),
                    (other, _) => other.to_vec(),
                };
                let (entry, value) = (key.entry.to_vec(), (value.value.to_vec(), value.modseq));
                Some((key.uid(), Annotation { entry, userid, value: value.0, modseq: value.1 }))
            }
            Err(damage) => {
                problems.push(damage.into());
                None
            }
        }
    }

    /// How keys looked on the server: that decides where files lie by name.
    async fn key_style(&mut self) -> Result<KeyStyle, Error> {
        let Some(bytes) = view::state(self.reader, &self.table, crate::backup::MAILBOXES).await? else {
            return Ok(KeyStyle::Legacy);
        };
        let mut guess = StyleGuess::default();
        let entries = match flat::parse(&bytes) {
            Ok(entries) => entries,
            Err(damage) => {
                self.problems.push(damage.into());
                return Ok(guess.finish());
            }
        };
        entries.iter().for_each(|(key, _)| guess.feed(key));
        let style = guess.finish();
        let whole = Naming::default().with_whole_userids(true);
        let is_own = |naming: &Naming, key: &[u8]| match mailboxes::parse_key(naming, style, key) {
            Ok(mailboxes::Key::Name(name)) => name.owner() == self.owner,
            _ => false,
        };
        if entries.iter().any(|(key, _)| is_own(&whole, key) && !is_own(&self.naming, key)) {
            self.naming = whole;
        }
        Ok(style)
    }

    /// Finds out what is visible in the newest snapshot.
    async fn look_at_the_living(&mut self) -> Result<(), Error> {
        let newest = view::snapshot(self.reader, When::Newest).await?;
        let table = self.reader.table(&newest).await?;
        for row in table.folders.iter().filter(|row| !is_deleted_folder(&self.owner, &row.name)) {
            let view = view::folder(self.reader, row).await?;
            self.problems.extend(view.problems);
            let visible = view.messages.iter().filter(|m| !m.is_expunged && !m.is_unlinked && !m.guid.is_null());
            self.alive.extend(visible.map(|m| m.guid));
            self.living.insert(row.id.clone());
        }
        self.alive.sort_unstable();
        self.alive.dedup();
        Ok(())
    }

    /// What belongs to the user and to no folder, as of the snapshot.
    pub async fn user_data(&self, naming: &Naming) -> Result<UserData, Error> {
        let mut data = UserData::default();
        for row in &self.table.states {
            match &row.content {
                StateContent::File { .. } => {
                    let content = match view::state(self.reader, &self.table, &row.name).await {
                        Ok(content) => content.unwrap_or_default(),
                        Err(error @ Error::World { .. }) => return Err(error),
                        Err(error) => {
                            data.problems.push(error);
                            continue;
                        }
                    };
                    let mtime = row.tuple.map(|tuple| tuple.mtime);
                    data.take(naming, &self.owner, UserFile { name: row.name.clone(), content, mtime });
                }
                StateContent::Link { target, .. } => {
                    if let Some(name) = row.name.strip_prefix(b"sieve/") {
                        data.link(name, target);
                    }
                }
            }
        }
        Ok(data)
    }
}

impl UserData {
    fn take(&mut self, naming: &Naming, owner: &Owner, file: UserFile) {
        let name = &file.name[..];
        if let Some(root) = name.strip_prefix(b"meta/quota/") {
            let root = unpercent(root).unwrap_or_else(|| root.to_vec());
            // One that is not in the owner's hierarchy is not the owner's to set, whoever has put it into the archive. The name
            // is one of the server that was backed up, which may have read names otherwise than the one that `naming` is of.
            let is_own = [naming, &Naming::default(), &Naming::default().with_whole_userids(true)]
                .iter()
                .any(|naming| naming.is_of(owner, &root));
            match quota::parse(&file.content) {
                // Cyrus reads an empty file as no limit.
                _ if file.content.is_empty() => {}
                Ok(quota) if is_own => self.quotas.push((root, quota)),
                Ok(_) => {}
                Err(damage) => self.problems.push(damage.into()),
            }
        } else if let Some(script) = name.strip_prefix(b"sieve/") {
            let script = unpercent(script).unwrap_or_else(|| script.to_vec());
            self.sieve.push(Script { file: script, content: file.content.clone() });
        } else if name == b"meta/seen" {
            self.take_seen(&file.content);
        } else if name == b"meta/sub"
            && let Owner::User(userid) = owner
        {
            self.take_subscriptions(naming, userid, &file.content);
        }
        self.files.push(file);
    }

    fn take_seen(&mut self, content: &[u8]) {
        for (key, value) in records("seen", content, &mut self.problems) {
            match seen::parse(&value) {
                Ok(found) => self.seen.push(SeenState {
                    uniqueid: key,
                    lastread: found.lastread,
                    lastuid: found.lastuid,
                    lastchange: found.lastchange,
                    sequence: found.sequence.to_vec(),
                }),
                Err(damage) => self.problems.push(damage.into()),
            }
        }
    }

    fn take_subscriptions(&mut self, naming: &Naming, userid: &[u8], content: &[u8]) {
        let entries = records("sub", content, &mut self.problems);
        let value = entries.iter().find(|(key, _)| key == subs::VERSION_KEY).map(|(_, value)| &value[..]);
        let version = match subs::Version::of(value) {
            Ok(version) => version,
            Err(damage) => return self.problems.push(damage.into()),
        };
        for (key, _) in &entries {
            match subs::parse_key(naming, version, userid, key) {
                Ok(Some(name)) => self.subscriptions.push(name),
                Ok(None) => {}
                Err(damage) => self.problems.push(damage.into()),
            }
        }
    }

    fn link(&mut self, name: &[u8], target: &[u8]) {
        let name = unpercent(name).unwrap_or_else(|| name.to_vec());
        if name == b"defaultbc" || name == b"default" {
            let base = target.rsplit(|&b| b == b'/').next().unwrap_or_default();
            let base = base.strip_suffix(b".bc").or(base.strip_suffix(b".script")).unwrap_or(base);
            self.active = Some(base.to_vec());
        }
        self.links.push((name, target.to_vec()));
    }
}

/// Key and value of a database's record.
pub(super) type Pair = (Vec<u8>, Vec<u8>);

/// All records of a database file; what cannot be read is told, and what comes before it is kept.
pub(crate) fn records(name: &str, bytes: &[u8], problems: &mut Vec<Error>) -> Vec<Pair> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let pages = Pages::whole(bytes);
    let mut best: (Vec<Pair>, Option<Error>) = (Vec::new(), None);
    for order in [Order::Raw, Order::Mbox] {
        let (found, error) = walk(name, &pages, order);
        if error.is_none() {
            return found;
        }
        if best.1.is_none() || found.len() > best.0.len() {
            best = (found, error);
        }
    }
    problems.extend(best.1);
    best.0
}

fn walk(name: &str, pages: &Pages, order: Order) -> (Vec<Pair>, Option<Error>) {
    let mut found = Vec::new();
    let mut step = || -> Result<(), Trouble> {
        let db = Db::open(name, pages)?;
        let mut cursor = db.seek(pages, b"", order)?;
        while let Some(entry) = db.next(pages, &mut cursor)? {
            found.push(entry);
            if found.len() >= RECORDS_MAX {
                break;
            }
        }
        Ok(())
    };
    let error = match step() {
        Ok(()) => None,
        Err(Trouble::Damage(damage)) => Some(damage.into()),
        Err(Trouble::Miss(_)) => Some(Damage::new(name, pages.file_len(), "file", "its end", "more bytes").into()),
    };
    (found, error)
}

/// The folders that are meant, by their places in the table.
fn in_scope(owner: &Owner, table: &Table, wish: &Wish) -> Vec<usize> {
    let is_meant = |row: &FolderRow| match &wish.scope {
        Scope::All => wish.kind != Kind::Visible || !is_deleted_folder(owner, &row.name),
        Scope::Recovered => true,
        // One that the snapshot lacks is named as such; the others are there.
        Scope::Folders(names) => names.contains(&row.name),
        Scope::Subtree(top) => is_below(top, &row.name),
    };
    table.folders.iter().enumerate().filter(|(_, row)| is_meant(row)).map(|(n, _)| n).collect()
}

/// True for the folder at the top, too. A deleted folder has the time of its deletion behind its name: those that were below it
/// stand beside it.
fn is_below(top: &[u8], folder: &[u8]) -> bool {
    folder.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest[0] == b'.')
}

/// True if the folder of this name is meant, be it in the snapshot or lacking.
fn is_in_scope(owner: &Owner, table: &Table, wish: &Wish, folder: &[u8]) -> bool {
    let is_file = table.lacking.iter().any(|row| row.name == folder && row.why == Lack::FileDamaged);
    match &wish.scope {
        Scope::All if is_file => !wish.is_filtered(),
        Scope::All => wish.kind != Kind::Visible || !is_deleted_folder(owner, folder),
        Scope::Recovered => true,
        Scope::Folders(names) => names.iter().any(|name| name == folder),
        Scope::Subtree(top) => is_below(top, folder),
    }
}
