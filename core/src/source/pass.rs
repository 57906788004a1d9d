//! The stat pass: what a user has, and the tuples of all files whose change matters, without opening one of them.
//!
//! The cost is a few pages of mailboxes.db and one stat for each metadata file. What must not come in: locks on mailboxes.

use super::site::{Inbox, Site, kept_elsewhere};
use super::{Ask, Folder, Pass, QUOTA_ROOTS_MAX, State, StateKind, Tuple};
use crate::bytes::be32;
use crate::cyrus::names::Owner;
use crate::error::{Error, Fault};
use crate::guid::Guid;
use crate::io::{FileKind, Io, Place, Stat};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// Folders that one owner may have. The largest shared hierarchies known have some 10^5.
pub const FOLDERS_MAX: usize = 2_000_000;
/// Names in one sieve directory.
const SIEVE_NAMES_MAX: usize = 10_000;
/// Folders whose files are looked at in one operation.
const FOLDERS_AT_ONCE: usize = 1024;

/// Looks at `owner`. A user who is not there gives an empty pass.
pub async fn pass(site: &mut Site, io: &Io, owner: &Owner, ask: &Ask) -> Result<Pass, Error> {
    let Pass { mut folders, mut unreadable, .. } = site.folders(io, owner).await?;
    fill_tuples(io, &mut folders, &mut unreadable).await?;
    let inbox = folders.iter().find(|f| f.name == b"INBOX").map(Inbox::from);
    // An INBOX that has lost its entry: its owner's files lie where they lay.
    let inbox = inbox.or_else(|| ask.inbox.as_ref().map(|(id, entry)| Inbox { id: Some(id), entry }));
    let mut states = Vec::new();
    if !folders.is_empty() {
        let files = site.user_files(owner, inbox)?;
        let (elsewhere, mut candidates): (Vec<_>, Vec<_>) =
            files.into_iter().partition(|(name, _)| kept_elsewhere(site.conf(), name).is_some());
        let own = site.own_quota(owner)?.map(|(root, _)| root);
        let roots: BTreeSet<&[u8]> = ask.quota_roots.iter().chain(&own).map(|root| &root[..]).collect();
        if site.has_quota_files() {
            for root in roots {
                candidates.push((quota_name(root), site.quota_file(root)?));
            }
            candidates.sort();
            states = present_files(io, candidates).await?;
        } else {
            candidates.sort();
            states = present_files(io, candidates).await?;
            states.extend(present_records(site, io, roots).await?);
        }
        // Whatever was left over in the files: what the server uses cannot be read, and is reported when it is to be saved.
        let unread = |(name, place)| State { name, place, what: StateKind::File(Tuple::default()) };
        states.extend(elsewhere.into_iter().map(unread));
        if let Some(dir) = site.sieve_dir(owner, inbox)? {
            sieve(io, &dir, &mut states).await?;
        }
        states.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let annotations_db = match site.annotations_place() {
        Some(place) => optional(io.stat(&place).await, &place)?.map(Tuple::from),
        None => None,
    };
    let mut annotated = None;
    if ask.annotate && ask.annotations_db != annotations_db {
        annotated = Some(annotations(site, io, &folders).await?);
    }
    Ok(Pass { folders, states, annotations_db, annotated, unreadable, ..Pass::default() })
}

/// SHA-1s of the records of annotations.db, by folder.
async fn annotations(site: &mut Site, io: &Io, folders: &[Folder]) -> Result<BTreeMap<Vec<u8>, Guid>, Error> {
    let mut annotated = BTreeMap::new();
    for folder in folders {
        let lines = site.mailbox_annotations(io, folder, folder.id.as_deref().unwrap_or_default()).await?;
        if !lines.is_empty() {
            annotated.insert(folder.name.clone(), Guid::of(&lines));
        }
    }
    Ok(annotated)
}

/// What the names of quota roots' files in an archive begin with.
pub(super) const QUOTA: &[u8] = b"meta/quota/";

/// The name in an archive of a quota root's file.
pub fn quota_name(root: &[u8]) -> Vec<u8> {
    state_name(QUOTA, root)
}

/// Adds the quota roots that folders turned out to have and that the pass did not know: no more of them than the next pass can
/// be asked for.
pub(super) async fn add_quota_roots(
    site: &mut Site,
    io: &Io,
    owner: &Owner,
    ask: &Ask,
    roots: BTreeSet<&[u8]>,
    states: &mut Vec<State>,
) -> Result<(), Error> {
    let own = site.own_quota(owner)?.map(|(root, _)| root);
    let known: BTreeSet<&[u8]> = ask.quota_roots.iter().chain(&own).map(|root| &root[..]).collect();
    let room = QUOTA_ROOTS_MAX.saturating_sub(known.len() + 1);
    let found = roots.difference(&known).filter(|root| site.naming().is_of(owner, root)).take(room);
    // The name comes from a header: one that can have no file is of no user.
    let found: Vec<&[u8]> = found.filter(|root| site.quota_file(root).is_ok()).copied().collect();
    if found.is_empty() {
        return Ok(());
    }
    if site.has_quota_files() {
        let candidates = found.into_iter().map(|root| Ok((quota_name(root), site.quota_file(root)?)));
        states.extend(present_files(io, candidates.collect::<Result<_, Error>>()?).await?);
    } else {
        states.extend(present_records(site, io, found).await?);
    }
    states.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(())
}

/// The quota roots that have a record in the server's quota database. One that cannot be read is there, and is told when it is
/// to be saved.
async fn present_records<'r>(site: &mut Site, io: &Io, roots: impl IntoIterator<Item = &'r [u8]>) -> Result<Vec<State>, Error> {
    let mut states = Vec::new();
    let place = Place::host(site.conf().quota_db_path.clone());
    for root in roots {
        let tuple = match site.quota_record(io, root).await {
            Ok(None) => continue,
            Ok(Some(record)) => record_tuple(&record),
            Err(_) => Tuple::default(),
        };
        states.push(State { name: quota_name(root), place: place.clone(), what: StateKind::File(tuple) });
    }
    Ok(states)
}

/// A tuple that tells one record of a database from another: the file is that of all users.
pub(super) fn record_tuple(record: &[u8]) -> Tuple {
    let Guid(sha1) = Guid::of(record);
    let ino = u64::from(be32(&sha1, 0)) << 32 | u64::from(be32(&sha1, 4));
    Tuple { size: record.len() as u64, ino, ..Tuple::default() }
}

fn state_name(prefix: &[u8], name: &[u8]) -> Vec<u8> {
    let mut full = prefix.to_vec();
    full.extend_from_slice(crate::escape::percent(name, b"/").as_bytes());
    full
}

/// Stats the metadata files of all folders. A folder whose files cannot be looked at goes to `unreadable`.
pub async fn fill_tuples(io: &Io, folders: &mut Vec<Folder>, unreadable: &mut Vec<(Vec<u8>, Error)>) -> Result<(), Error> {
    let mut bad = Vec::new();
    for (n, chunk) in folders.chunks_mut(FOLDERS_AT_ONCE).enumerate() {
        let places: Vec<Place> = chunk.iter().flat_map(|f| f.paths.possible().map(|(_, place)| place.clone())).collect();
        let mut stats = stat_all(io, places).await?.into_iter();
        for (i, folder) in chunk.iter_mut().enumerate() {
            if let Err(error) = set_tuples(folder, &mut stats) {
                bad.push((n * FOLDERS_AT_ONCE + i, error));
            }
        }
    }
    for (at, error) in bad.into_iter().rev() {
        unreadable.push((folders.remove(at).name, error));
    }
    Ok(())
}

/// Takes the stats of one folder's files, all of them whatever is wrong.
fn set_tuples(folder: &mut Folder, stats: &mut impl Iterator<Item = Result<Stat, Fault>>) -> Result<(), Error> {
    let Folder { paths, tuples, .. } = folder;
    let mut result = Ok(());
    for (file, place) in paths.possible() {
        match optional(stats.next().unwrap_or(Err(Fault::Driver)), place) {
            Ok(stat) => tuples[file as usize] = stat.map(Tuple::from),
            Err(error) => result = Err(error),
        }
    }
    result
}

async fn stat_all(io: &Io, places: Vec<Place>) -> Result<Vec<Result<Stat, Fault>>, Error> {
    io.stat_many(places).await.map_err(|fault| Error::world("stat", "many files", fault))
}

/// A name that does not exist is no error here.
fn optional(stat: Result<Stat, Fault>, place: &Place) -> Result<Option<Stat>, Error> {
    match stat {
        Ok(stat) => Ok(Some(stat)),
        Err(Fault::NotFound) => Ok(None),
        Err(fault) => Err(Error::world("stat", place.shown(), fault)),
    }
}

async fn present_files(io: &Io, candidates: Vec<(Vec<u8>, Place)>) -> Result<Vec<State>, Error> {
    let stats = stat_all(io, candidates.iter().map(|(_, place)| place.clone()).collect()).await?;
    let mut states = Vec::new();
    for ((name, place), stat) in candidates.into_iter().zip(stats) {
        if let Some(stat) = optional(stat, &place)? {
            states.push(State { name, place, what: StateKind::File(stat.into()) });
        }
    }
    Ok(states)
}

/// The scripts of a sieve directory, their bytecode, and the link that says which one is active.
async fn sieve(io: &Io, dir: &Place, states: &mut Vec<State>) -> Result<(), Error> {
    let names = match io.list(dir, SIEVE_NAMES_MAX).await {
        Ok(names) => names,
        Err(Fault::NotFound) => return Ok(()),
        Err(fault) => return Err(Error::world("list", dir.shown(), fault)),
    };
    let mut files = Vec::new();
    for entry in names {
        let (name, place) = (state_name(b"sieve/", &entry.name), dir.join(&entry.name));
        match entry.kind {
            FileKind::Regular => files.push((name, place)),
            FileKind::Link => match io.read_link(&place).await {
                Ok(target) => states.push(State { name, place, what: StateKind::Link(target) }),
                Err(Fault::NotFound) => {}
                Err(fault) => return Err(Error::world("read link", place.shown(), fault)),
            },
            FileKind::Directory | FileKind::Other => {}
        }
    }
    states.extend(present_files(io, files).await?);
    Ok(())
}
