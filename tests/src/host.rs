//! A simulated Cyrus 3.6 host: folders and messages in memory, written to a [`SimDisk`] by the core's own emitters in the way
//! Cyrus writes them: indexes are changed in place, headers and databases are replaced, message files come and go.

use crate::disk::SimDisk;
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::db::twoskip;
use cylinder_core::cyrus::header::{self, Form};
use cylinder_core::cyrus::index::{self, Record, Uid, internal};
use cylinder_core::cyrus::mailboxes::{self, MbEntry, MbType};
use cylinder_core::guid::Guid;
use cylinder_core::io::Place;
use cylinder_core::time::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// imapd.conf of the host.
pub const CONF: &str = "configdirectory: /var/lib/cyrus\npartition-default: /var/spool/cyrus\ndefaultpartition: default\n\
    mboxname_lockpath: /run/cyrus/lock\nsievedir: /var/spool/sieve\n";

/// A message of a folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mail {
    /// UID.
    pub uid: u32,
    /// Content.
    pub content: Rc<Vec<u8>>,
    /// Its SHA-1.
    pub guid: Guid,
    /// System flags.
    pub flags: u32,
    /// Expunged; the file is still there.
    pub expunged: bool,
    /// The file is gone, and the record says so.
    pub unlinked: bool,
    /// The record says that the file is on the archive partition.
    pub archived: bool,
}

/// A folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    /// uniqueid.
    pub id: String,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// Messages by ascending UID.
    pub messages: Vec<Mail>,
    /// The greatest UID ever given.
    pub last_uid: u32,
    /// HIGHESTMODSEQ.
    pub modseq: u64,
    /// Version of its index: 17, or 9, which has no SHA-1s.
    pub minor_version: u32,
    /// Its directory is named after it, as before 3.6, and not after its uniqueid.
    pub by_name: bool,
    /// What is expunged is in cyrus.expunge and not in cyrus.index, as up to 2.3.
    pub expunge_file: bool,
    /// The quota root that cyrus.header names.
    pub quota_root: Option<String>,
    /// Somebody is deleting it: the index says so, and mailboxes.db has it still.
    pub dying: bool,
    /// Who may do what.
    pub acl: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Folder {
    /// An empty folder.
    pub fn new(id: &str) -> Folder {
        Folder {
            id: id.to_owned(),
            uidvalidity: 1_795_000_000,
            messages: Vec::new(),
            last_uid: 0,
            modseq: 1,
            minor_version: 17,
            by_name: false,
            expunge_file: false,
            quota_root: None,
            dying: false,
            acl: vec![(b"anna".to_vec(), b"lrswipkxtecdan".to_vec())],
        }
    }

    /// Delivers a message and gives its UID.
    pub fn deliver(&mut self, content: &[u8]) -> u32 {
        self.take(Rc::new(content.to_vec()), Guid::of(content))
    }

    /// Takes a message whose SHA-1 is known, and gives its UID.
    pub fn take(&mut self, content: Rc<Vec<u8>>, guid: Guid) -> u32 {
        self.modseq += 1;
        self.last_uid = self.last_uid.max(self.messages.last().map_or(0, |m| m.uid)) + 1;
        let uid = self.last_uid;
        self.messages.push(Mail { uid, content, guid, flags: 0, expunged: false, unlinked: false, archived: false });
        uid
    }

    /// Sets flags of a message.
    pub fn flag(&mut self, uid: u32, flags: u32) {
        self.modseq += 1;
        self.messages.iter_mut().filter(|m| m.uid == uid).for_each(|m| m.flags = flags);
    }

    fn index(&self) -> Vec<u8> {
        self.index_of(|m| !(self.expunge_file && m.expunged))
    }

    /// cyrus.expunge, if there is one.
    fn expunge(&self) -> Option<Vec<u8>> {
        let is_in_use = self.expunge_file && self.messages.iter().any(|m| m.expunged);
        is_in_use.then(|| self.index_of(|m| m.expunged))
    }

    fn index_of(&self, is_in: impl Fn(&Mail) -> bool) -> Vec<u8> {
        let record = |m: &Mail| Record {
            uid: Uid(m.uid),
            internaldate: Time::from_secs(1_700_000_000 + i64::from(m.uid)),
            last_updated: Time::from_secs(1_700_000_000),
            size: m.content.len() as u64,
            guid: if self.minor_version >= 10 { m.guid } else { Guid::NULL },
            modseq: Some(u64::from(m.uid)),
            system_flags: m.flags,
            internal_flags: self.internal_flags(m),
            ..Record::default()
        };
        let records: Vec<Record> = self.messages.iter().filter(|m| is_in(m)).map(record).collect();
        let modern = self.minor_version >= 12;
        let header = index::Header {
            minor_version: self.minor_version,
            last_uid: self.last_uid.max(self.messages.last().map_or(0, |m| m.uid)),
            uidvalidity: self.uidvalidity,
            exists: self.messages.iter().filter(|m| !m.expunged).count() as u32,
            highestmodseq: Some(self.modseq),
            deletedmodseq: modern.then_some(0),
            createdmodseq: modern.then_some(1),
            options: if self.dying { index::option::DELETED } else { 0 },
            ..index::Header::default()
        };
        index::emit_index(&header, &records).expect("values that the version has room for")
    }

    fn internal_flags(&self, m: &Mail) -> u32 {
        // 2.3 has none.
        if self.expunge_file {
            return 0;
        }
        let expunged = if m.expunged { internal::EXPUNGED } else { 0 };
        let unlinked = if m.unlinked { internal::UNLINKED } else { 0 };
        expunged | unlinked | if m.archived { internal::ARCHIVED } else { 0 }
    }

    fn header(&self, name: &str) -> Vec<u8> {
        let header = header::Header {
            uniqueid: self.id.clone().into_bytes(),
            quotaroot: self.quota_root.clone().map(String::into_bytes),
            acl: self.acl.clone(),
            name: Some(name.as_bytes().to_vec()),
            mbtype: Some(Default::default()),
            form: Form::Dlist,
            ..header::Header::default()
        };
        header.emit().expect("a header")
    }

    fn dir(&self, name: &str) -> Place {
        let id = &self.id;
        if self.by_name {
            return Place::host(format!("/var/spool/cyrus/{}", name.replace('.', "/")));
        }
        Place::host(format!("/var/spool/cyrus/uuid/{}/{}/{id}", &id[..1], &id[1..2]))
    }

    fn entry(&self) -> Vec<u8> {
        let entry = MbEntry {
            uniqueid: Some(self.id.clone().into_bytes()),
            partition: Some(b"default".to_vec()),
            acl: Some(self.acl.clone()),
            uidvalidity: self.uidvalidity,
            foldermodseq: 1,
            createdmodseq: 1,
            mtime: 1_700_000_000,
            mbtype: MbType { legacy_dirs: self.by_name, ..MbType::default() },
            ..MbEntry::default()
        };
        let mut value = Vec::new();
        mailboxes::emit(&entry, VersionLine::V3_6, &mut value);
        value
    }
}

/// Files by name.
type Files = BTreeMap<Place, Rc<Vec<u8>>>;

/// A folder as it was last written, its files, and its record of mailboxes.db.
type Written = (Folder, Files, (Vec<u8>, Vec<u8>));

/// A host: its folders by internal name, such as `user.anna.Sent`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Host {
    /// The folders.
    pub folders: BTreeMap<String, Folder>,
    /// Other files, by path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Folders whose index is written to a new file that replaces the old one, as a repack does it.
    pub repacked: BTreeSet<String>,
    written: BTreeMap<String, Written>,
    shown: Files,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    database: Rc<Vec<u8>>,
    generation: u64,
}

impl Host {
    /// A host where nobody has a mailbox.
    pub fn new() -> Host {
        Host::default()
    }

    /// The folder of this name, made if need be.
    pub fn folder(&mut self, name: &str) -> &mut Folder {
        self.folders.entry(name.to_owned()).or_insert_with(|| Folder::new(&unique(name)))
    }

    /// Where a message's file is.
    pub fn message_place(&self, folder: &str, uid: u32) -> Place {
        self.folders[folder].dir(folder).join(format!("{uid}.").as_bytes())
    }

    /// Where a folder's metadata file is.
    pub fn meta_place(&self, folder: &str, file: &str) -> Place {
        self.folders[folder].dir(folder).join(file.as_bytes())
    }

    /// A file that was written last.
    pub fn image(&self, place: &Place) -> Option<&Rc<Vec<u8>>> {
        self.shown.get(place)
    }

    /// Writes what has changed since the last call.
    pub fn publish(&mut self, disk: &mut SimDisk) {
        self.write_folders();
        let mut wanted = Files::new();
        wanted.insert(Place::host("/etc/imapd.conf"), Rc::new(CONF.into()));
        for (path, content) in &self.files {
            wanted.insert(Place::host(path.as_str()), Rc::new(content.clone()));
        }
        wanted.extend(self.written.values().flat_map(|(_, files, _)| files.clone()));
        wanted.insert(Place::host("/var/lib/cyrus/mailboxes.db"), self.database());
        let repacked = std::mem::take(&mut self.repacked);
        let anew: BTreeSet<Place> = (repacked.iter().filter(|name| self.folders.contains_key(*name)))
            .map(|name| self.folders[name].dir(name).join(b"cyrus.index"))
            .collect();
        for (place, image) in &wanted {
            match self.shown.get(place) {
                Some(old) if old == image && !anew.contains(place) => {}
                Some(_) if place.path.ends_with(b"cyrus.index") && !anew.contains(place) => {
                    disk.change_image(place, image.clone());
                }
                _ => disk.put_image(place, image.clone()),
            }
        }
        for place in self.shown.keys().filter(|place| !wanted.contains_key(place)) {
            disk.take_away(place);
        }
        self.shown = wanted;
    }

    /// Writes the folders that have changed.
    fn write_folders(&mut self) {
        let Host { folders, written, .. } = self;
        written.retain(|name, _| folders.contains_key(name));
        for (name, folder) in folders {
            if written.get(name).is_some_and(|(old, ..)| old == folder) {
                continue;
            }
            let dir = folder.dir(name);
            let mut files = Files::new();
            files.insert(dir.join(b"cyrus.index"), Rc::new(folder.index()));
            files.insert(dir.join(b"cyrus.header"), Rc::new(folder.header(name)));
            files.extend(folder.expunge().map(|bytes| (dir.join(b"cyrus.expunge"), Rc::new(bytes))));
            for m in folder.messages.iter().filter(|m| !m.unlinked) {
                files.insert(dir.join(format!("{}.", m.uid).as_bytes()), m.content.clone());
            }
            let key = [b"N", &name.replace('.', "\x1f").into_bytes()[..]].concat();
            written.insert(name.clone(), (folder.clone(), files, (key, folder.entry())));
        }
    }

    /// mailboxes.db, which changes only if its records do.
    fn database(&mut self) -> Rc<Vec<u8>> {
        let mut entries: Vec<_> = self.written.values().map(|(.., record)| record.clone()).collect();
        entries.sort();
        if entries != self.entries || self.database.is_empty() {
            self.generation += 1;
            self.database = Rc::new(twoskip::emit(&entries, self.generation));
            self.entries = entries;
        }
        self.database.clone()
    }
}

/// A uniqueid that is a function of the name.
fn unique(name: &str) -> String {
    Guid::of(name.as_bytes()).to_hex()[..24].to_owned()
}
