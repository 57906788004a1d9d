//! What must hold of a store after each step that claims success, and after each recovery: one function for each.
//!
//! They answer in words. What they compare with is [`super::past`], never what the product says of itself; archives are also
//! read by a tar and a gzip of another make.

use super::past::{FolderState, State};
use crate::check::Check;
use crate::disk::SimDisk;
use crate::life;
use cylinder_core::archive::record::{FolderRow, StateContent, Table};
use cylinder_core::backup::link_name;
use cylinder_core::escape::shown;
use cylinder_core::guid::Guid;
use cylinder_core::io::Root;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::rc::Rc;

/// Most files that any procedure has open at once: archive twice, lock, one database, two locks on the user, three on a folder.
const OPEN_MAX: usize = 12;
/// Most bytes that are asked for at once.
const READ_MAX: usize = 1 << 20;

/// What a snapshot is compared with: states of the server, and how much of them.
#[derive(Clone, Copy)]
pub struct Against<'a> {
    /// The states that the server was in while the run was at work.
    pub states: &'a [Rc<State>],
    /// Folders and files may be of several of these states, each of one of them.
    pub is_mixed: bool,
    /// Folders that could not be looked at: what the archive has of them is older.
    pub unseen: &'a BTreeSet<Vec<u8>>,
    /// Only what a stock server tells is there.
    pub is_partial: bool,
}

/// A snapshot has the state of the server at one moment of the run. Answers that state.
pub fn a_snapshot_is_the_state_of_one_moment(table: &Table, against: Against<'_>) -> Result<Rc<State>, String> {
    let mut why = String::new();
    for state in against.states.iter().rev() {
        match differs(table, state, against) {
            None => return Ok(state.clone()),
            Some(difference) if why.is_empty() => why = difference,
            Some(_) => {}
        }
    }
    if against.is_mixed && against.states.len() > 1 {
        return mixed(table, against);
    }
    Err(format!("the snapshot is none of the {} states that the server was in; of the last: {why}", against.states.len()))
}

/// How a table differs from a state.
fn differs(table: &Table, state: &State, against: Against<'_>) -> Option<String> {
    let names: BTreeSet<&Vec<u8>> =
        table.folders.iter().map(|row| &row.name).filter(|name| !against.unseen.contains(*name)).collect();
    let expected: BTreeSet<&Vec<u8>> = state.folders.keys().filter(|name| !against.unseen.contains(*name)).collect();
    if let Some(name) = expected.symmetric_difference(&names).next() {
        let there = if names.contains(*name) { "is there" } else { "is missing" };
        return Some(format!("folder {} {there}", shown(name)));
    }
    for row in table.folders.iter().filter(|row| !against.unseen.contains(&row.name)) {
        if let Some(why) = folder_differs(row, &state.folders[&row.name], against.is_partial) {
            return Some(format!("folder {}: {why}", shown(&row.name)));
        }
    }
    if against.is_partial || against.is_mixed { None } else { files_differ(table, state) }
}

fn folder_differs(row: &FolderRow, folder: &FolderState, is_partial: bool) -> Option<String> {
    let sha1 = |name: &str| row.file(name).map(|file| file.sha1);
    if row.id != folder.id.as_bytes() {
        return Some(format!("uniqueid {} and not {}", shown(&row.id), folder.id));
    }
    if sha1("cyrus.index") != Some(folder.index_sha1) {
        return Some(String::from("another cyrus.index"));
    }
    if sha1("cyrus.header") != Some(folder.header_sha1) {
        return Some(String::from("another cyrus.header"));
    }
    if !is_partial && sha1("cyrus.mailbox_annotations") != folder.annotations {
        return Some(String::from("other annotations"));
    }
    None
}

fn files_differ(table: &Table, state: &State) -> Option<String> {
    let found: BTreeMap<&[u8], Guid> = (table.states.iter())
        .filter(|row| &row.name[..] != b"meta/mailboxes")
        .filter_map(|row| match row.content {
            StateContent::File { sha1, .. } => Some((&row.name[..], sha1)),
            StateContent::Link { .. } => None,
        })
        .collect();
    let expected: BTreeMap<&[u8], Guid> = state.files.iter().map(|(name, sha1)| (&name[..], *sha1)).collect();
    let all: BTreeSet<&&[u8]> = found.keys().chain(expected.keys()).collect();
    let bad = all.into_iter().find(|name| found.get(**name) != expected.get(**name))?;
    Some(format!("file {}", shown(bad)))
}

/// Each folder is of one of the states; together they are as good as a state.
fn mixed(table: &Table, against: Against<'_>) -> Result<Rc<State>, String> {
    let mut state = State::default();
    for row in table.folders.iter().filter(|row| !against.unseen.contains(&row.name)) {
        let folders = against.states.iter().filter_map(|state| state.folders.get(&row.name));
        let of_one = folders.rev().find(|folder| folder_differs(row, folder, against.is_partial).is_none());
        let folder = of_one.ok_or_else(|| format!("folder {} is of none of the states", shown(&row.name)))?;
        state.folders.insert(row.name.clone(), folder.clone());
    }
    for name in lived_through(against.states) {
        if !state.folders.contains_key(name) && !against.unseen.contains(name) {
            return Err(format!("folder {} lived through the run and is missing", shown(name)));
        }
    }
    Ok(Rc::new(state))
}

/// Names of folders that were there all the time.
fn lived_through(states: &[Rc<State>]) -> impl Iterator<Item = &Vec<u8>> {
    let first = states.first().map(|state| state.folders.iter()).into_iter().flatten();
    // A new one of the same name is another.
    let lives = |name: &Vec<u8>, id: &str| states.iter().all(|state| state.folders.get(name).is_some_and(|now| now.id == id));
    first.filter(move |(name, folder)| lives(name, &folder.id)).map(|(name, _)| name)
}

/// No message that lived through a run is missing from its snapshot: each that the snapshot names is in the archive, unless it
/// says that the message was missing, and that was so at some time of the run. Answers the SHA-1s of those that are excused.
pub fn no_message_that_lived_is_missing(
    table: &Table,
    state: &State,
    known: &BTreeSet<Guid>,
    against: Against<'_>,
    is_disturbed: bool,
) -> Result<BTreeSet<Guid>, String> {
    let mut excused = BTreeSet::new();
    for (name, folder) in &state.folders {
        let Some(row) = table.folder(name).filter(|_| !against.unseen.contains(name)) else { continue };
        for (uid, guid) in folder.bodies.iter().filter(|(_, guid)| !known.contains(guid)) {
            let is_told = row.missing.iter().any(|missing| missing.uid == *uid);
            // Moved to another folder, it lived.
            let was_gone = against.states.iter().any(|state| !state.bodies().any(|body| body == guid));
            if !is_told || !(was_gone || is_disturbed) {
                let told = if is_told { "said to be missing" } else { "named" };
                return Err(format!("{} UID {uid}, {guid}, is {told} and was there, but is not in the archive", shown(name)));
            }
            excused.insert(*guid);
        }
    }
    Ok(excused)
}

/// What was acknowledged is there, byte for byte: nothing before the end of the last acknowledged commit has changed.
pub fn what_was_acknowledged_is_there(acknowledged: &[u8], archive: Option<&[u8]>) -> Check {
    let Some(archive) = archive else {
        return if acknowledged.is_empty() { Ok(()) } else { Err(String::from("the archive is gone")) };
    };
    if archive.starts_with(acknowledged) {
        return Ok(());
    }
    let same = archive.iter().zip(acknowledged).take_while(|(a, b)| a == b).count();
    Err(format!("of {} acknowledged bytes only the first {same} are there", acknowledged.len()))
}

/// Procedures let go what they opened, and open and read within bounds.
pub fn nothing_is_open_and_all_was_bounded(disk: &SimDisk) -> Check {
    match (disk.open_files(), disk.most_open(), disk.largest_read()) {
        (0, ..=OPEN_MAX, ..=READ_MAX) => Ok(()),
        (open, most, read) => Err(format!("{open} files are open, {most} were at once, {read} bytes were asked for at once")),
    }
}

/// Nothing was written but in the archive's directory, and lock files on the mail server.
pub fn nothing_is_written_elsewhere(disk: &SimDisk) -> Check {
    let dir = life::dir().shown();
    let is_ours = |root: Root, path: &str| match root {
        Root::Store => path == dir || path.starts_with(&format!("{dir}/")),
        Root::Host => path.starts_with("/run/cyrus/lock/"),
        Root::Target => false,
    };
    match disk.written().iter().find(|place| !is_ours(place.root, &place.shown())) {
        Some(place) => Err(format!("{place:?} was written")),
        None => Ok(()),
    }
}

/// What a tar and a gzip of another make find: the last entry of each name, as the SHA-1 of its content or the target of its
/// link.
#[derive(Default)]
pub struct Foreign {
    files: BTreeMap<Vec<u8>, Guid>,
    links: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// An archive can be read to its end by a tar and a gzip of another make, and what an entry says of its content is so.
pub fn others_can_read_it(archive: &[u8]) -> Result<Foreign, String> {
    let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(archive));
    let mut found = Foreign::default();
    for entry in tar.entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| format!("tar of another make: {e}"))?;
        let name = entry.path_bytes().to_vec();
        let link = entry.link_name_bytes().map(|link| link.to_vec()).unwrap_or_default();
        if entry.header().entry_type().is_symlink() {
            found.links.insert(name, link);
            continue;
        }
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|e| format!("{}: {e}", shown(&name)))?;
        let sha1 = Guid::of(&content);
        if content.len() as u64 != entry.size() || (!link.is_empty() && link != sha1.to_hex().as_bytes()) {
            return Err(format!("{}: {} bytes that are not its content", shown(&name), content.len()));
        }
        found.files.insert(name, sha1);
    }
    let mut rest = Vec::new();
    tar.into_inner().read_to_end(&mut rest).map_err(|e| format!("behind the end: {e}"))?;
    if rest.iter().any(|&b| b != 0) { Err(format!("{} bytes behind the end of the tar file", rest.len())) } else { Ok(found) }
}

/// A restore by tar alone reproduces the newest snapshot: links lead to folders, these have their indexes, and the messages
/// that they name are there. No name of a folder that lives is a tombstone.
pub fn tar_alone_restores(foreign: &Foreign, state: &State, excused: &BTreeSet<Guid>) -> Check {
    for (name, folder) in &state.folders {
        let expected = format!("../folders/{}", folder.id);
        let target = foreign.links.get(&link_name(name));
        if target.map(|target| &target[..]) != Some(expected.as_bytes()) {
            let found = target.map_or(String::from("no link"), |target| format!("a link to `{}`", shown(target)));
            return Err(format!("folder {} lives, and tar finds {found}", shown(name)));
        }
        for (file, sha1) in [("cyrus.index", folder.index_sha1), ("cyrus.header", folder.header_sha1)] {
            if foreign.files.get(format!("folders/{}/{file}", folder.id).as_bytes()) != Some(&sha1) {
                return Err(format!("tar finds another {file} of {}", shown(name)));
            }
        }
    }
    let lacks = |guid: &&Guid| foreign.files.get(format!("files/{guid}").as_bytes()) != Some(*guid) && !excused.contains(*guid);
    if let Some(guid) = state.bodies().find(lacks) {
        return Err(format!("tar does not find message {guid}"));
    }
    let dead = foreign.links.iter().find(|(name, target)| {
        let names: BTreeSet<Vec<u8>> = state.folders.keys().map(|name| link_name(name)).collect();
        name.starts_with(b"imap/") && !target.is_empty() && !names.contains(*name)
    });
    dead.map_or(Ok(()), |(name, _)| Err(format!("{} is gone, and has no tombstone", shown(name))))
}
