//! What the mail server has, and had: every state that it was ever in, to be compared with what an archive says.

use super::life::Change;
use crate::disk::SimDisk;
use crate::host::{Folder, Host};
use crate::story;
use cylinder_core::cyrus::annotations::{OWNER_TOKEN, emit_key, emit_value};
use cylinder_core::cyrus::db::{flat, twoskip};
use cylinder_core::guid::Guid;
use cylinder_core::io::Place;
use std::collections::BTreeMap;
use std::rc::Rc;

const INBOX: &str = "user.anna";
/// Where annotations of folders are.
const ANNOTATIONS: &str = "/var/lib/cyrus/annotations.db";

/// A folder at one time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FolderState {
    /// uniqueid.
    pub id: String,
    /// cyrus.index, and its SHA-1.
    index: Rc<Vec<u8>>,
    /// SHA-1 of cyrus.index.
    pub index_sha1: Guid,
    /// SHA-1 of cyrus.header.
    pub header_sha1: Guid,
    /// UIDs and SHA-1s of the messages that have files.
    pub bodies: Vec<(u32, Guid)>,
    /// How many of them are expunged.
    expunged: usize,
    /// SHA-1 of its annotations, as lines.
    pub annotations: Option<Guid>,
}

/// The user at one time.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// Folders by the names that an archive gives them.
    pub folders: BTreeMap<Vec<u8>, Rc<FolderState>>,
    /// SHA-1s of other files by the names that an archive gives them.
    pub files: BTreeMap<Vec<u8>, Guid>,
}

impl FolderState {
    fn visible(&self) -> usize {
        self.bodies.len() - self.expunged
    }
}

impl State {
    /// Visible messages, those in several folders counted in each.
    pub fn messages(&self) -> usize {
        self.folders.values().map(|folder| folder.visible()).sum()
    }

    /// How many visible messages of `before` are accounted for: visible ones, and those that their folder has
    /// expunged since.
    pub fn accounted(&self, before: &State) -> usize {
        let account = |folder: &Rc<FolderState>| {
            let had = before.folders.values().find(|old| old.id == folder.id).map_or(0, |old| old.visible());
            folder.visible() + folder.expunged.min(had.saturating_sub(folder.visible()))
        };
        self.folders.values().map(account).sum()
    }

    /// SHA-1s of all messages that have files.
    pub fn bodies(&self) -> impl Iterator<Item = &Guid> {
        self.folders.values().flat_map(|folder| folder.bodies.iter().map(|(_, guid)| guid))
    }
}

/// The server and its states.
pub struct Past {
    /// As it is.
    pub host: Host,
    index: u32,
    states: Vec<Rc<State>>,
    copies: Vec<BTreeMap<String, Folder>>,
    hidden: Option<BTreeMap<String, Folder>>,
    annotations: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    annotated: usize,
    files: BTreeMap<Vec<u8>, (Place, Vec<u8>)>,
}

impl Past {
    /// A server where the user has an INBOX with some messages.
    pub fn new(index: u32, disk: &mut SimDisk) -> Past {
        let mut past = Past {
            host: Host::new(),
            index,
            states: Vec::new(),
            copies: Vec::new(),
            hidden: None,
            annotations: BTreeMap::new(),
            annotated: 0,
            files: BTreeMap::new(),
        };
        past.make(INBOX, 1);
        for n in 0..3 {
            past.host.folder(INBOX).deliver(&story::mail(n, 200));
        }
        past.publish(disk);
        past
    }

    /// How many states there were.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// False: there always is one.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// The state of this number.
    pub fn state(&self, n: usize) -> &Rc<State> {
        &self.states[n]
    }

    /// The user's folders.
    fn names(&self) -> Vec<String> {
        let is_annas = |name: &&String| *name == INBOX || name.starts_with("user.anna.");
        self.host.folders.keys().filter(is_annas).cloned().collect()
    }

    fn name(&self, n: u32) -> Option<String> {
        let names = self.names();
        (!names.is_empty()).then(|| names[n as usize % names.len()].clone())
    }

    /// One that is not the INBOX.
    fn below(&self, n: u32) -> Option<String> {
        let names: Vec<String> = self.names().into_iter().filter(|name| name != INBOX).collect();
        (!names.is_empty()).then(|| names[n as usize % names.len()].clone())
    }

    fn make(&mut self, name: &str, id: u64) {
        let mut folder = Folder::new(&format!("{id:016x}aa"));
        folder.minor_version = self.index;
        folder.uidvalidity = 1_700_000_000 + (id % 90_000_000) as u32;
        self.host.folders.insert(name.to_owned(), folder);
    }

    fn folder(&mut self, n: u32) -> Option<&mut Folder> {
        let name = self.name(n)?;
        self.host.folders.get_mut(&name)
    }

    /// Lets something happen, writes it to the server's disk, and remembers the state.
    pub fn apply(&mut self, change: &Change, disk: &mut SimDisk) {
        if self.copies.len() < self.states.len() / 8 + 1 && self.hidden.is_none() {
            self.copies.push(self.host.folders.clone());
        }
        let did = match change {
            Change::Vanish => self.vanish_or_return(),
            _ if self.hidden.is_some() => None,
            change => self.change(change),
        };
        if did.is_some() {
            self.publish(disk);
        }
    }

    /// `None` if there was nothing to be done.
    fn change(&mut self, change: &Change) -> Option<()> {
        match *change {
            Change::Deliver { folder, size, n } => {
                self.folder(folder)?.deliver(&story::mail(n, size as usize));
            }
            Change::Flag { folder, message, flags } => {
                let folder = self.folder(folder)?;
                let uid = pick(folder, message)?.0;
                folder.flag(uid, flags);
            }
            Change::Expunge { folder, every } => expunge(self.folder(folder)?, every),
            Change::Unlink { folder } => {
                let folder = self.folder(folder)?;
                folder.modseq += 1;
                folder.messages.iter_mut().filter(|m| m.expunged).for_each(|m| m.unlinked = true);
            }
            Change::Repack { folder } => {
                let name = self.name(folder)?;
                let folder = self.host.folders.get_mut(&name)?;
                // The last stays, for the next UID follows from it.
                let last = folder.messages.last().map_or(0, |m| m.uid);
                folder.messages.retain(|m| !m.unlinked || m.uid == last);
                self.host.repacked.insert(name);
            }
            Change::Reconstruct { folder } => drop(self.host.repacked.insert(self.name(folder)?)),
            Change::Copy { from, message, to } => self.copy(from, message, to)?,
            Change::Move { from, message, to } => {
                let uid = pick(self.folder(from)?, message)?.0;
                self.copy(from, message, to)?;
                let folder = self.folder(from)?;
                folder.modseq += 1;
                remove(folder, |m| m.uid == uid);
            }
            Change::Create { .. } | Change::Rename { .. } | Change::Swap { .. } => self.rename(change)?,
            Change::Remove { folder } => drop(self.host.folders.remove(&self.below(folder)?)),
            Change::Recreate { folder, id } => {
                let name = self.below(folder)?;
                self.make(&name, id);
            }
            Change::File { which, n } => self.file(which, n)?,
            Change::Annotate { folder, n } => self.annotate(folder, n)?,
            Change::Neighbour { n } => {
                self.host.folder(&format!("user.bob.F{}", n % 40)).deliver(b"To: bob\r\n\r\nHello\r\n");
            }
            Change::Restored { version } => {
                // Without SHA-1s in the index, a UID that is given twice is for ever the first message that had it.
                let old = self.copies.get(version as usize % self.copies.len().max(1)).filter(|_| self.index >= 10)?.clone();
                self.host.repacked.extend(old.keys().cloned());
                self.host.folders = old;
            }
            Change::Loss => self.lose()?,
            Change::Vanish => return None,
        }
        Some(())
    }

    fn annotate(&mut self, folder: u32, n: u64) -> Option<()> {
        let id = self.folder(folder)?.id.clone();
        let key = emit_key(id.as_bytes(), b"/comment", OWNER_TOKEN);
        self.annotations.insert((id, key), emit_value(format!("note {n}").as_bytes()));
        let mut records: Vec<_> = self.annotations.iter().map(|((_, key), value)| (key.clone(), value.clone())).collect();
        // Every change makes a twoskip file longer, also one to a shorter note.
        self.annotated += 1;
        let (key, value) = (emit_key(b"another", b"/comment", OWNER_TOKEN), vec![b'x'; 64 * self.annotated]);
        records.push((key, emit_value(&value)));
        records.sort();
        self.host.files.insert(ANNOTATIONS.to_owned(), twoskip::emit(&records, n % 1000));
        Some(())
    }

    /// All but the last message of each folder are gone.
    fn lose(&mut self) -> Option<()> {
        for name in self.names() {
            let folder = self.host.folders.get_mut(&name)?;
            let gone = folder.messages.len().saturating_sub(1);
            folder.messages.drain(..gone);
            folder.modseq += 1;
        }
        Some(())
    }

    fn vanish_or_return(&mut self) -> Option<()> {
        match self.hidden.take() {
            Some(folders) => self.host.folders.extend(folders),
            None => {
                let mut hidden = BTreeMap::new();
                for name in self.names() {
                    hidden.extend(self.host.folders.remove_entry(&name));
                }
                self.hidden = Some(hidden);
            }
        }
        Some(())
    }

    fn copy(&mut self, from: u32, message: u32, to: u32) -> Option<()> {
        let (_, content, guid) = pick(self.folder(from)?, message)?;
        self.folder(to)?.take(content, guid);
        Some(())
    }

    fn rename(&mut self, change: &Change) -> Option<()> {
        match *change {
            Change::Create { name, id } => {
                let name = format!("user.anna.F{name}");
                if self.host.folders.contains_key(&name) {
                    return None;
                }
                self.make(&name, id);
            }
            Change::Rename { folder, name } => {
                let (from, to) = (self.below(folder)?, format!("user.anna.F{name}"));
                if self.host.folders.contains_key(&to) {
                    return None;
                }
                let folder = self.host.folders.remove(&from)?;
                self.host.folders.insert(to, folder);
            }
            Change::Swap { a, b } => {
                let (a, b) = (self.below(a)?, self.below(b)?);
                if a == b {
                    return None;
                }
                let (one, other) = (self.host.folders.remove(&a)?, self.host.folders.remove(&b)?);
                self.host.folders.insert(a, other);
                self.host.folders.insert(b, one);
            }
            _ => return None,
        }
        Some(())
    }

    fn file(&mut self, which: u32, n: u64) -> Option<()> {
        let id = &self.host.folders.get(INBOX)?.id;
        let at = format!("uuid/{}/{}/{id}", &id[..1], &id[1..2]);
        let (name, path) = match which {
            0 => ("meta/sub", format!("/var/lib/cyrus/user/{at}/sub.db")),
            1 => ("meta/seen", format!("/var/lib/cyrus/user/{at}/seen.db")),
            2 => ("sieve/main.script", format!("/var/spool/sieve/{at}/main.script")),
            _ => ("sieve/main.bc", format!("/var/spool/sieve/{at}/main.bc")),
        };
        let name = name.as_bytes().to_vec();
        if which > 1 && n.is_multiple_of(4) {
            self.files.remove(&name);
            self.host.files.remove(&path);
            return Some(());
        }
        let content = format!("{n} says somebody\n").into_bytes();
        self.files.insert(name, (Place::host(path.as_str()), content.clone()));
        self.host.files.insert(path, content);
        Some(())
    }

    fn publish(&mut self, disk: &mut SimDisk) {
        self.host.publish(disk);
        let mut state = State::default();
        let before = self.states.last();
        for name in self.names() {
            let relative = format!("INBOX{}", &name[INBOX.len()..]).into_bytes();
            let folder = &self.host.folders[&name];
            let had = before.and_then(|before| before.folders.get(&relative));
            state.folders.insert(relative, self.folder_state(&name, folder, had));
        }
        if !state.folders.is_empty() {
            state.files = self.files.iter().map(|(name, (_, content))| (name.clone(), Guid::of(content))).collect();
        }
        if before.is_none_or(|before| **before != state) {
            self.states.push(Rc::new(state));
        }
    }

    fn folder_state(&self, name: &str, folder: &Folder, had: Option<&Rc<FolderState>>) -> Rc<FolderState> {
        let image = |file| self.host.image(&self.host.meta_place(name, file)).cloned().unwrap_or_default();
        let (index, header) = (image("cyrus.index"), image("cyrus.header"));
        let records: Vec<_> = (self.annotations.iter().filter(|((id, _), _)| *id == folder.id))
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect();
        let annotations = (!records.is_empty()).then(|| Guid::of(&flat::emit(&records)));
        if let Some(had) = had
            && Rc::ptr_eq(&had.index, &index)
            && had.annotations == annotations
        {
            return had.clone();
        }
        Rc::new(FolderState {
            id: folder.id.clone(),
            index_sha1: Guid::of(&index),
            index,
            header_sha1: Guid::of(&header),
            bodies: folder.messages.iter().filter(|m| !m.unlinked).map(|m| (m.uid, m.guid)).collect(),
            expunged: folder.messages.iter().filter(|m| m.expunged && !m.unlinked).count(),
            annotations,
        })
    }
}

/// UID, content and SHA-1 of a message that has a file.
fn pick(folder: &Folder, n: u32) -> Option<(u32, Rc<Vec<u8>>, Guid)> {
    let there: Vec<_> = folder.messages.iter().filter(|m| !m.unlinked).collect();
    let m = there.get(n as usize % there.len().max(1))?;
    Some((m.uid, m.content.clone(), m.guid))
}

fn expunge(folder: &mut Folder, every: u32) {
    let last = folder.messages.last().map_or(0, |m| m.uid);
    folder.modseq += 1;
    if folder.minor_version >= 12 {
        folder.messages.iter_mut().filter(|m| m.uid % every == 0 && m.uid != last).for_each(|m| m.expunged = true);
    } else {
        remove(folder, |m| m.uid % every == 0);
    }
}

/// Removes messages with their files at once; the last one's record stays, for the next UID follows from it.
fn remove(folder: &mut Folder, is_meant: impl Fn(&crate::host::Mail) -> bool) {
    let last = folder.messages.last().map_or(0, |m| m.uid);
    if folder.minor_version >= 12 {
        folder.messages.iter_mut().filter(|m| is_meant(m)).for_each(|m| (m.expunged, m.unlinked) = (true, true));
    } else {
        folder.messages.retain(|m| !is_meant(m) || m.uid == last);
    }
}
