//! A spool as Cyrus 3.6 lays it out, made without a server: for tests that need many messages, or names that nobody would give.
//!
//! What is on disk is what the server would write, byte by byte by the core's own emitters: imapd.conf, mailboxes.db (twoskip,
//! records by name and by uniqueid, tombstones), directories by uniqueid, cyrus.index (version 17), cyrus.header, message
//! files. There is no cyrus.cache, which no backup reads. Everything follows from a seed. Messages are written as they come and
//! index records with them, so a million takes no memory. What must not come in: the archive.

use crate::choose::{Choose, Sampler};
use cylinder_core::crc32::crc32;
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::db::twoskip;
use cylinder_core::cyrus::header::{self, Form};
use cylinder_core::cyrus::index::{self, Record, Uid};
use cylinder_core::cyrus::mailboxes::{self, Acl, FormerName, MbEntry, MbType};
use cylinder_core::cyrus::names::{MailboxName, Naming, Owner};
use cylinder_core::guid::Guid;
use cylinder_core::time::Time;
use std::fs::{self, File, OpenOptions};
use std::io::{Result, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The version of cyrus.index that 3.6 writes, and its sizes.
const INDEX_VERSION: u32 = 17;
const INDEX_HEADER: u64 = 160;
const INDEX_RECORD: u64 = 112;
/// Bytes of index records that are kept until they are written.
const PENDING: usize = 64 << 10;
/// When the first message came.
const EPOCH: i64 = 1_700_000_000;

const CONF: &str = "configdirectory: /var/lib/cyrus
mboxname_lockpath: /run/cyrus/lock
defaultpartition: default
partition-default: /var/spool/cyrus/mail
servername: mail.example.org
admins: cyrus
altnamespace: no
unixhierarchysep: yes
hashimapspool: yes
virtdomains: off
conversations: no
delete_mode: delayed
expunge_mode: delayed
sievedir: /var/spool/sieve
";

/// One folder.
struct Folder {
    /// Internal name relative to the user, such as `INBOX.Sent`.
    name: String,
    id: String,
    uidvalidity: u32,
    /// Earlier names, newest first.
    history: Vec<FormerName>,
    last_uid: u32,
    bytes: u64,
    sync_crc: u32,
    pending: Vec<u8>,
    /// Where `pending` belongs in cyrus.index.
    index_at: u64,
    modseq: u64,
    /// The header of cyrus.index is older than what was delivered.
    dirty: bool,
}

/// The spool of one user below a directory that stands for the root of the host.
pub struct Spool {
    root: PathBuf,
    user: String,
    naming: Naming,
    chance: Sampler,
    modseq: u64,
    folders: Vec<Folder>,
    /// Names that are gone, and the uniqueid that they had.
    tombstones: Vec<(String, String)>,
}

impl Spool {
    /// An empty spool with an INBOX for `user`. `root` is created.
    pub fn create(root: &Path, user: &str, seed: u64) -> Result<Spool> {
        for dir in ["etc", "var/lib/cyrus", "var/spool/cyrus/mail", "run/cyrus/lock"] {
            fs::create_dir_all(root.join(dir))?;
        }
        fs::write(root.join("etc/imapd.conf"), CONF)?;
        let mut spool = Spool {
            root: root.to_path_buf(),
            user: user.to_owned(),
            naming: Naming::default(),
            chance: Sampler::new(seed),
            modseq: 1,
            folders: Vec::new(),
            tombstones: Vec::new(),
        };
        spool.create_folder("INBOX")?;
        spool.save()?;
        Ok(spool)
    }

    /// The directory that stands for the root of the host.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Makes a folder; `name` is relative to the user, in internal form. A name that was deleted may be given again.
    pub fn create_folder(&mut self, name: &str) -> Result<()> {
        let id: String =
            (0..24).map(|_| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[self.chance.upto(35) as usize])).collect();
        self.modseq += 1;
        self.tombstones.retain(|(gone, _)| gone != name);
        self.folders.push(Folder {
            name: name.to_owned(),
            uidvalidity: (EPOCH as u32) + self.folders.len() as u32,
            history: Vec::new(),
            last_uid: 0,
            bytes: 0,
            sync_crc: 0,
            pending: Vec::new(),
            index_at: INDEX_HEADER,
            modseq: self.modseq,
            dirty: true,
            id,
        });
        let folder = self.folders.len() - 1;
        fs::create_dir_all(self.dir(folder))?;
        fs::write(self.dir(folder).join("cyrus.header"), self.header(folder))?;
        File::create(self.dir(folder).join("cyrus.index")).map(drop)
    }

    /// Renames a folder. Its directory stays, as it does in Cyrus.
    pub fn rename_folder(&mut self, from: &str, to: &str) -> Result<()> {
        let at = self.at(from);
        self.modseq += 1;
        let former = self.former(at);
        self.tombstones.push((from.to_owned(), self.folders[at].id.clone()));
        self.tombstones.retain(|(gone, _)| gone != to);
        let folder = &mut self.folders[at];
        folder.history.insert(0, former);
        to.clone_into(&mut folder.name);
        folder.modseq = self.modseq;
        folder.dirty = true;
        // Cyrus replaces the file, so that its inode changes too.
        let dir = self.dir(at);
        fs::write(dir.join("cyrus.header.NEW"), self.header(at))?;
        fs::rename(dir.join("cyrus.header.NEW"), dir.join("cyrus.header"))
    }

    /// Deletes a folder at once, files and all.
    pub fn delete_folder(&mut self, name: &str) -> Result<()> {
        let at = self.at(name);
        fs::remove_dir_all(self.dir(at))?;
        let gone = self.folders.remove(at);
        self.tombstones.push((gone.name, gone.id));
        Ok(())
    }

    /// The directory with the messages of a folder.
    pub fn folder_dir(&self, name: &str) -> PathBuf {
        self.dir(self.at(name))
    }

    /// The path of one of the user's files, such as `sub.db`; its directory exists.
    pub fn user_file(&self, name: &str) -> Result<PathBuf> {
        let id = &self.folders[self.at("INBOX")].id;
        let dir = self.root.join(format!("var/lib/cyrus/user/uuid/{}/{}/{id}", &id[..1], &id[1..2]));
        fs::create_dir_all(&dir)?;
        Ok(dir.join(name))
    }

    /// Puts a message into a folder and answers its UID. The index counts it once [`Spool::save`] was called.
    pub fn deliver(&mut self, name: &str, content: &[u8]) -> Result<u32> {
        let at = self.at(name);
        self.deliver_at(at, content)
    }

    fn deliver_at(&mut self, at: usize, content: &[u8]) -> Result<u32> {
        self.modseq += 1;
        let dir = self.dir(at);
        let (modseq, folder) = (self.modseq, &mut self.folders[at]);
        folder.last_uid += 1;
        folder.modseq = modseq;
        folder.dirty = true;
        let record = record(folder.last_uid, modseq, content);
        folder.bytes += record.size;
        folder.sync_crc ^= record.sync_crc(&[]);
        folder.pending.extend(record.emit(INDEX_VERSION).expect("a record that fits"));
        fs::write(dir.join(format!("{}.", folder.last_uid)), content)?;
        if folder.pending.len() >= PENDING {
            folder.flush(&dir)?;
        }
        Ok(folder.last_uid)
    }

    /// Writes what the server would have written by now: headers of the indexes, mailboxes.db.
    pub fn save(&mut self) -> Result<()> {
        for at in 0..self.folders.len() {
            let (dir, header_crc) = (self.dir(at), crc32(&self.header(at)));
            let folder = &mut self.folders[at];
            if folder.dirty {
                folder.flush(&dir)?;
                folder.write_header(&dir, header_crc)?;
            }
        }
        let dir = self.root.join("var/lib/cyrus");
        fs::write(dir.join("mailboxes.db.NEW"), twoskip::emit(&self.records(), 1))?;
        fs::rename(dir.join("mailboxes.db.NEW"), dir.join("mailboxes.db"))
    }

    /// Writes what the server would have written for several users of one host, who have one mailboxes.db.
    pub fn save_together(spools: &mut [Spool]) -> Result<()> {
        let mut records = Vec::new();
        for spool in &mut *spools {
            spool.save()?;
            records.extend(spool.records());
        }
        records.sort();
        match spools.first() {
            Some(spool) => fs::write(spool.root.join("var/lib/cyrus/mailboxes.db"), twoskip::emit(&records, 1)),
            None => Ok(()),
        }
    }

    fn at(&self, name: &str) -> usize {
        self.folders.iter().position(|folder| folder.name == name).unwrap_or_else(|| panic!("there is no folder {name}"))
    }

    fn dir(&self, at: usize) -> PathBuf {
        let id = &self.folders[at].id;
        self.root.join(format!("var/spool/cyrus/mail/uuid/{}/{}/{id}", &id[..1], &id[1..2]))
    }

    fn name(&self, relative: &str) -> MailboxName {
        let owner = Owner::User(self.user.clone().into_bytes());
        self.naming.parse_relative(&owner, relative.as_bytes()).expect("a name that Cyrus would take")
    }

    fn acl(&self) -> Acl {
        vec![(self.user.clone().into_bytes(), b"lrswipkxtecdan".to_vec())]
    }

    fn header(&self, at: usize) -> Vec<u8> {
        let folder = &self.folders[at];
        let header = header::Header {
            uniqueid: folder.id.clone().into_bytes(),
            acl: self.acl(),
            name: Some(self.naming.internal(&self.name(&folder.name))),
            mbtype: Some(MbType::default()),
            form: Form::Dlist,
            ..header::Header::default()
        };
        header.emit().expect("a header that fits")
    }

    fn former(&self, at: usize) -> FormerName {
        let folder = &self.folders[at];
        FormerName {
            dbname: self.naming.dbname(&self.name(&folder.name)),
            mtime: EPOCH as u64,
            uidvalidity: folder.uidvalidity,
            createdmodseq: 1,
            foldermodseq: self.modseq,
            mbtype: MbType { deleted: true, ..MbType::default() },
            partition: None,
        }
    }

    /// The records of mailboxes.db in the order of its keys.
    fn records(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut records = Vec::new();
        let mut put = |key: u8, name: &[u8], entry: &MbEntry| {
            let mut value = Vec::new();
            mailboxes::emit(entry, VersionLine::V3_6, &mut value);
            records.push(([&[key], name].concat(), value));
        };
        for folder in &self.folders {
            let (id, dbname) = (folder.id.clone().into_bytes(), self.naming.dbname(&self.name(&folder.name)));
            let entry = MbEntry {
                partition: Some(b"default".to_vec()),
                acl: Some(self.acl()),
                uidvalidity: folder.uidvalidity,
                foldermodseq: folder.modseq,
                createdmodseq: 1,
                mtime: EPOCH as u64,
                ..MbEntry::default()
            };
            put(b'N', &dbname, &MbEntry { uniqueid: Some(id.clone()), ..entry.clone() });
            put(b'I', &id, &MbEntry { dbname: Some(dbname.clone()), history: Some(folder.history.clone()), ..entry });
        }
        for (name, id) in &self.tombstones {
            let mbtype = MbType { deleted: true, ..MbType::default() };
            let entry = MbEntry { uniqueid: Some(id.clone().into_bytes()), mbtype, mtime: EPOCH as u64, ..MbEntry::default() };
            put(b'N', &self.naming.dbname(&self.name(name)), &entry);
        }
        records.sort();
        records.dedup_by(|a, b| a.0 == b.0);
        records
    }
}

impl Folder {
    fn flush(&mut self, dir: &Path) -> Result<()> {
        let file = OpenOptions::new().write(true).open(dir.join("cyrus.index"))?;
        file.write_all_at(&self.pending, self.index_at)?;
        self.index_at += self.pending.len() as u64;
        self.pending.clear();
        Ok(())
    }

    fn write_header(&mut self, dir: &Path, header_file_crc: u32) -> Result<()> {
        let records = ((self.index_at - INDEX_HEADER) / INDEX_RECORD) as u32;
        let header = index::Header {
            minor_version: INDEX_VERSION,
            num_records: records,
            last_appenddate: Some(Time::from_secs(EPOCH + i64::from(self.last_uid))),
            last_uid: self.last_uid,
            quota_mailbox_used: self.bytes,
            uidvalidity: self.uidvalidity,
            exists: records,
            unseen: records,
            highestmodseq: Some(self.modseq),
            deletedmodseq: Some(1),
            header_file_crc,
            sync_crc: self.sync_crc,
            createdmodseq: Some(1),
            changes_epoch: Some(Time::from_secs(EPOCH)),
            ..index::Header::default()
        };
        let file = OpenOptions::new().write(true).open(dir.join("cyrus.index"))?;
        self.dirty = false;
        file.write_all_at(&header.emit().expect("a header that fits"), 0)
    }
}

fn record(uid: u32, modseq: u64, content: &[u8]) -> Record {
    let header = content.windows(4).position(|w| w == b"\r\n\r\n").map_or(content.len(), |at| at + 4);
    let date = Time::from_secs(EPOCH + i64::from(uid));
    Record {
        uid: Uid(uid),
        internaldate: date,
        sentdate: date,
        size: content.len() as u64,
        header_size: header as u32,
        gmtime: Some(date),
        last_updated: date,
        savedate: Some(date),
        guid: Guid::of(content),
        modseq: Some(modseq),
        createdmodseq: modseq,
        ..Record::default()
    }
}

/// What bodies are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Text {
    /// Words, which deflate to a fifth.
    Words,
    /// Letters of base64, as attachments are, which hardly deflate.
    Letters,
}

/// A user by numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Userid.
    pub user: String,
    /// Folders besides INBOX.
    pub folders: usize,
    /// Messages, evenly over all folders, no two alike.
    pub messages: u64,
    /// Bytes of a message, header and all.
    pub size: RangeInclusive<usize>,
    /// What the bodies are.
    pub text: Text,
    /// Where the chance comes from.
    pub seed: u64,
}

impl Plan {
    /// Writes the spool below `root`.
    pub fn write(&self, root: &Path) -> Result<Spool> {
        let mut spool = Spool::create(root, &self.user, self.seed)?;
        for n in 1..=self.folders {
            spool.create_folder(&format!("INBOX.folder {n}"))?;
        }
        let mut bodies = Bodies::new(self.text, self.seed);
        let mut content = Vec::new();
        for n in 0..self.messages {
            bodies.message(n, &self.size, &mut content);
            let folder = (u128::from(n) * (self.folders as u128 + 1) / u128::from(self.messages)) as usize;
            spool.deliver_at(folder, &content)?;
        }
        spool.save()?;
        Ok(spool)
    }
}

/// Makes messages quickly: bodies are pieces of one long text.
pub struct Bodies {
    pool: Vec<u8>,
    chance: Sampler,
}

impl Bodies {
    /// Far more than deflate looks back.
    const POOL: usize = 2 << 20;
    const LINE: usize = 76;

    /// Bodies of this text.
    pub fn new(text: Text, seed: u64) -> Bodies {
        let mut chance = Sampler::new(seed);
        let mut pool = Vec::with_capacity(Bodies::POOL + 100);
        while pool.len() < Bodies::POOL {
            match text {
                Text::Letters => {
                    let bits = chance.bits().to_be_bytes();
                    pool.extend(
                        bits.map(|b| b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[usize::from(b) % 64]),
                    );
                }
                Text::Words => {
                    let bits = chance.bits();
                    // Few words often, as in any language.
                    let word = (bits as u16).min((bits >> 16) as u16).min((bits >> 32) as u16) % 4000;
                    pool.extend_from_slice(
                        format!("{:x} ", u32::from(word).wrapping_mul(2_654_435_761) >> (word % 20)).as_bytes(),
                    );
                }
            }
            if pool.len() % (Bodies::LINE + 2) > Bodies::LINE - 8 {
                pool.extend_from_slice(b"\r\n");
            }
        }
        Bodies { pool, chance }
    }

    /// Makes message `n` in `out`, whose content is dropped. No two numbers give the same.
    pub fn message(&mut self, n: u64, size: &RangeInclusive<usize>, out: &mut Vec<u8>) {
        out.clear();
        let _ = write!(
            out,
            "From: anna@example.org\r\nTo: bob@example.org\r\nSubject: message {n}\r\nMessage-ID: <{n}.{:x}@example.org>\r\n\r\n",
            self.chance.bits()
        );
        let want = *size.start() + self.chance.upto((size.end() - size.start()) as u32) as usize;
        while out.len() < want {
            let from = self.chance.upto((Bodies::POOL / 2) as u32) as usize;
            let take = (want - out.len()).min(Bodies::POOL / 2);
            out.extend_from_slice(&self.pool[from..from + take]);
        }
    }
}
