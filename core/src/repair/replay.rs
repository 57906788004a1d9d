//! The state of a user, told from entries alone: for each name the folder to which its newest link leads, with the newest of
//! each of its files.
//!
//! What must not come in: reading and writing.

use super::scan::{What, plain, what};
use crate::archive::record::{FileRow, FolderRow, Slot, StateContent, StateRow, Table};
use crate::backup::folder_dir;
use crate::cyrus::header;
use crate::cyrus::index::Index;
use crate::cyrus::names::{Naming, Owner};
use crate::escape::unpercent;
use crate::guid::Guid;
use crate::io::Tuple;
use crate::source::MetaFile;
use crate::stock::names::{Names, form_of_list};
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

/// How folders are named and found.
pub enum Dialect {
    /// As FORMAT.md has it.
    Ours,
    /// As `Cyrus::Backup` does.
    Stock(Names),
}

impl Dialect {
    /// The one that the names of an archive of `owner` show.
    pub fn of(is_ours: bool, owner: &Owner, names: &BTreeSet<Vec<u8>>) -> Dialect {
        let Owner::User(userid) = owner else { return Dialect::Ours };
        let list = || names.iter().map(|name| &name[..]);
        match Names::new(form_of_list(userid, list()), userid, list()) {
            Ok(names) if !is_ours => Dialect::Stock(names),
            _ => Dialect::Ours,
        }
    }
}

/// A name that a folder has or had.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Link {
    id: Vec<u8>,
    is_live: bool,
    number: u64,
}

/// What the content of a file tells of its folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Facts {
    version: Option<u32>,
    uidvalidity: Option<u32>,
    modseq: Option<u64>,
    header_crc: Option<u32>,
    exists: u64,
    expunged: u64,
    bytes: u64,
    /// Its name, relative to its owner.
    name: Option<Vec<u8>>,
}

/// The state so far.
pub struct Replay {
    dialect: Dialect,
    links: BTreeMap<Vec<u8>, Link>,
    files: BTreeMap<Vec<u8>, BTreeMap<String, (FileRow, Facts)>>,
    states: BTreeMap<Vec<u8>, StateRow>,
    count: u64,
    /// Links whose names are none.
    pub unnamed: Vec<Vec<u8>>,
}

/// A file that was written.
#[derive(Clone, Copy, Debug)]
pub struct Written<'a> {
    /// Last change.
    pub mtime: Time,
    /// Content.
    pub content: &'a [u8],
    /// SHA-1 of that.
    pub sha1: Guid,
    /// Its entry in the new archive.
    pub token: u32,
}

impl Replay {
    /// Nothing yet.
    pub fn new(dialect: Dialect) -> Replay {
        let (links, files, states) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Replay { dialect, links, files, states, count: 0, unnamed: Vec::new() }
    }

    /// The uniqueid that the directory of a folder stands for.
    pub fn id(&self, dir: &[u8]) -> Vec<u8> {
        match self.dialect {
            Dialect::Ours => unpercent(dir).unwrap_or_else(|| dir.to_vec()),
            Dialect::Stock(_) => dir.to_vec(),
        }
    }

    /// True if metadata must be translated.
    pub fn is_stock(&self) -> bool {
        matches!(self.dialect, Dialect::Stock(_))
    }

    /// A link.
    pub fn link(&mut self, name: &[u8], target: &[u8], token: u32) {
        if let What::Name(name) = what(name) {
            return self.folder(name.strip_suffix(b"/").unwrap_or(name), target);
        }
        let name = plain(name).to_vec();
        if target.is_empty() {
            self.states.remove(&name);
            return;
        }
        let content = StateContent::Link { target: target.to_vec(), at: Slot::Pending(token) };
        self.states.insert(name.clone(), StateRow { name, tuple: None, content });
    }

    fn folder(&mut self, name: &[u8], target: &[u8]) {
        let relative = match &self.dialect {
            // A name that was cut is known by what stands in it until its header tells.
            Dialect::Ours => Some(unpercent(name).unwrap_or_else(|| name.to_vec())),
            Dialect::Stock(names) => names.relative(name).ok(),
        };
        let Some(relative) = relative else {
            self.unnamed.push(name.to_vec());
            return;
        };
        self.count += 1;
        if target.is_empty() {
            if let Some(link) = self.links.get_mut(&relative) {
                link.is_live = false;
            }
            return;
        }
        let id = self.id(target.strip_prefix(b"../folders/").unwrap_or(target));
        self.links.insert(relative, Link { id, is_live: true, number: self.count });
    }

    /// A file.
    pub fn file(&mut self, name: &[u8], written: Written<'_>) {
        let Written { mtime, content, sha1, token } = written;
        let (size, at) = (content.len() as u64, Slot::Pending(token));
        match what(name) {
            What::File(dir, file) => {
                let name = String::from_utf8_lossy(file).into_owned();
                let row = FileRow { name: name.clone(), tuple: Tuple { size, mtime, ..Tuple::default() }, sha1, at };
                self.files.entry(self.id(dir)).or_default().insert(name, (row, facts(file, content)));
            }
            _ => {
                let name = plain(name).to_vec();
                let content = StateContent::File { sha1, size, at };
                self.states.insert(name.clone(), StateRow { name, tuple: None, content });
            }
        }
    }

    /// A file is gone.
    pub fn gone(&mut self, name: &[u8]) {
        match what(name) {
            What::File(dir, file) => {
                let id = self.id(dir);
                if let Some(files) = self.files.get_mut(&id) {
                    files.remove(&*String::from_utf8_lossy(file));
                }
            }
            _ => drop(self.states.remove(plain(name))),
        }
    }

    /// The state now.
    pub fn table(&self) -> Table {
        self.table_of(&self.named(true))
    }

    /// The state with the folders that had a name and have none any more; `None` if there are none.
    pub fn table_with_gone(&self) -> Option<Table> {
        let (live, all) = (self.named(true), self.named(false));
        let gone = all.iter().filter(|(id, _)| !live.contains_key(*id) && self.files.contains_key(**id));
        let mut names = live.clone();
        names.extend(gone);
        (names.len() > live.len()).then(|| self.table_of(&names))
    }

    /// The newest name of each folder, among those that it has or among all.
    fn named(&self, only_live: bool) -> BTreeMap<&Vec<u8>, &Vec<u8>> {
        let mut newest: BTreeMap<&Vec<u8>, (u64, &Vec<u8>)> = BTreeMap::new();
        for (name, link) in self.links.iter().filter(|(_, link)| link.is_live || !only_live) {
            let held = newest.entry(&link.id).or_insert((link.number, name));
            if link.number > held.0 {
                *held = (link.number, name);
            }
        }
        let mut named: BTreeMap<&Vec<u8>, &Vec<u8>> = newest.into_iter().map(|(id, (_, name))| (id, name)).collect();
        let taken: BTreeSet<&Vec<u8>> = named.values().copied().collect();
        let linked: BTreeSet<&Vec<u8>> = self.links.values().map(|link| &link.id).collect();
        named.extend(self.unlinked().filter(|(id, name)| !linked.contains(id) && !taken.contains(name)));
        named
    }

    /// Folders with the names that their own headers give them. Compaction by others has lost links with long names.
    fn unlinked(&self) -> impl Iterator<Item = (&Vec<u8>, &Vec<u8>)> {
        let own = |files: &'_ BTreeMap<String, (FileRow, Facts)>| files.contains_key(MetaFile::Index.name());
        let files = self.files.iter().filter(move |(_, files)| own(files));
        files.filter_map(|(id, files)| Some((id, files.get(MetaFile::Header.name())?.1.name.as_ref()?)))
    }

    fn table_of(&self, names: &BTreeMap<&Vec<u8>, &Vec<u8>>) -> Table {
        let mut folders: Vec<FolderRow> = names.iter().map(|(id, name)| self.row(id, name)).collect();
        folders.sort_by(|a, b| a.name.cmp(&b.name));
        folders.dedup_by(|a, b| a.name == b.name);
        Table { folders, states: self.states.values().cloned().collect(), ..Table::default() }
    }

    fn row(&self, id: &[u8], name: &[u8]) -> FolderRow {
        let mut row = FolderRow { name: name.to_vec(), id: id.to_vec(), young: true, ..FolderRow::default() };
        for (file, facts) in self.files.get(id).into_iter().flat_map(|files| files.values()) {
            row.files.push(file.clone());
            row.version = row.version.or(facts.version);
            row.uidvalidity = row.uidvalidity.or(facts.uidvalidity);
            row.modseq = row.modseq.or(facts.modseq);
            row.header_crc = row.header_crc.or(facts.header_crc);
            row.exists += facts.exists;
            row.expunged += facts.expunged;
            row.bytes = row.bytes.saturating_add(facts.bytes);
            let is_cut = unpercent(name).is_none() && name.windows(2).any(|two| two == b"%~");
            if let Some(whole) = facts.name.as_ref().filter(|_| is_cut) {
                row.name.clone_from(whole);
            }
        }
        row
    }
}

/// The name of a folder's directory.
pub fn dir_of(id: &[u8]) -> String {
    folder_dir(id)
}

fn facts(file: &[u8], content: &[u8]) -> Facts {
    if file == MetaFile::Header.name().as_bytes() {
        let name = header::parse(content).ok().and_then(|header| header.name);
        let naming = Naming::default();
        let name = name.and_then(|name| naming.parse_internal(&name).ok()).map(|name| naming.relative(&name));
        return Facts { name, ..Facts::default() };
    }
    let is_expunge = file == MetaFile::Expunge.name().as_bytes();
    if !is_expunge && file != MetaFile::Index.name().as_bytes() {
        return Facts::default();
    }
    let Ok(index) = (if is_expunge { Index::parse_expunge(content) } else { Index::parse(content) }) else {
        return Facts::default();
    };
    let mut facts = Facts::default();
    if !is_expunge {
        let header = index.header();
        facts.version = Some(header.minor_version);
        facts.uidvalidity = Some(header.uidvalidity);
        facts.modseq = header.highestmodseq;
        facts.header_crc = header.header_crc;
    }
    for record in index.records().flatten().filter(|record| !record.is_unlinked()) {
        let is_expunged = is_expunge || record.is_expunged();
        facts.exists += u64::from(!is_expunged);
        facts.expunged += u64::from(is_expunged);
        facts.bytes = facts.bytes.saturating_add(record.size);
    }
    facts
}
