//! Where each owner's archive lies in the store (FORMAT.md section 1).
//!
//! What must not come in: what is in an archive.

use crate::archive::append::{self, Writer, remove};
use crate::cyrus::names::Owner;
use crate::error::{Error, Fault};
use crate::escape::{percent, unpercent};
use crate::guid::Guid;
use crate::io::{FileKind, How, Io, Place};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The directory of all mailboxes that belong to no user. No userid encodes to this.
const SHARED: &str = "%shared";
/// The longest file name that file systems take.
const NAME_MAX: usize = 255;
/// Archives in one of the 256 directories of a store.
const DIR_NAMES_MAX: usize = 4_000_000;

/// The directory of an owner's archive. Refused for a userid that is empty or too long for a file name.
pub fn archive_dir(owner: &Owner) -> Result<Place, Error> {
    let (name, hash) = match owner {
        Owner::Shared => (String::from(SHARED), Guid::of(SHARED.as_bytes())),
        Owner::User(userid) => (dir_name(userid), Guid::of(userid)),
    };
    if name.is_empty() || name.len() > NAME_MAX {
        let found = name.len();
        return Err(Error::Refused(format!(
            "userid: {found} bytes when encoded for a file name, the limit is 1 to {NAME_MAX}"
        )));
    }
    Ok(Place::store(format!("{:02x}/{name}", hash.0[0])))
}

fn dir_name(userid: &[u8]) -> String {
    let name = percent(userid, b"/");
    // Neither hidden nor `..`.
    match name.strip_prefix('.') {
        Some(rest) => format!("%2E{rest}"),
        None => name,
    }
}

/// The owner whose directory has this name; `None` for a name that is none of ours.
fn owner_of(name: &[u8]) -> Option<Owner> {
    if name == SHARED.as_bytes() {
        return Some(Owner::Shared);
    }
    let userid = unpercent(name)?;
    (!userid.is_empty() && dir_name(&userid).as_bytes() == name).then_some(Owner::User(userid))
}

/// Who is in a store.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Owners {
    /// Everybody who has a directory, in order; shared mailboxes last.
    pub owners: Vec<Owner>,
    /// Symbolic links that lead to no directory, or to an empty one. Whose they are is not known for the 256 directories.
    pub lost: Vec<Error>,
}

/// Everybody who has a directory in the store, or a symbolic link to one. An absent store has nobody.
pub async fn owners(io: &Io) -> Result<Owners, Error> {
    let (mut owners, mut lost) = (BTreeSet::new(), Vec::new());
    for n in 0..=255u8 {
        let dir = Place::store(format!("{n:02x}"));
        let names = match io.list(&dir, DIR_NAMES_MAX).await {
            Ok(names) => names,
            Err(Fault::NotFound) => continue,
            Err(Fault::Dangling) => {
                lost.push(Error::world("list", dir.shown(), Fault::Dangling));
                continue;
            }
            Err(fault) => return Err(Error::world("list", dir.shown(), fault)),
        };
        if names.is_empty() && io.read_link(&dir).await.is_ok() {
            lost.push(Error::world("list", dir.shown(), Fault::Dangling));
        }
        for entry in names {
            let is_here = |owner: &Owner| archive_dir(owner).is_ok_and(|place| place.parent() == dir);
            let Some(owner) = owner_of(&entry.name).filter(is_here) else { continue };
            match entry.kind {
                FileKind::Directory => drop(owners.insert(owner)),
                FileKind::Link => match behind_link(io, &dir.join(&entry.name)).await {
                    Ok(()) => drop(owners.insert(owner)),
                    Err(error) => lost.push(error),
                },
                FileKind::Regular | FileKind::Other => {}
            }
        }
    }
    Ok(Owners { owners: owners.into_iter().collect(), lost })
}

/// Whether a link of the store leads to a directory with something in it.
async fn behind_link(io: &Io, place: &Place) -> Result<(), Error> {
    match io.list(place, DIR_NAMES_MAX).await {
        Ok(names) if names.is_empty() => Err(Error::world("list", place.shown(), Fault::Dangling)),
        Ok(_) => Ok(()),
        Err(fault) => Err(Error::world("list", place.shown(), fault)),
    }
}

/// Moves the archive of a user who has another name now, and writes down in it whose it was. Refused if there is an archive of
/// the new name.
pub async fn rename(io: &Io, from: &Owner, to: &Owner, settings: &append::Settings) -> Result<(), Error> {
    let (old, new) = (archive_dir(from)?, archive_dir(to)?);
    match io.stat(&new).await {
        Err(Fault::NotFound) => {}
        Ok(_) => return Err(Error::Refused(format!("{} is there already", new.shown()))),
        Err(fault) => return Err(Error::world("stat", new.shown(), fault)),
    }
    // It holds the lock until the archive has its new place.
    let mut writer = Writer::open(io, &old, settings, [0; 16]).await?;
    let mut standing = writer.head().commit.standing.clone();
    standing.formerly = Some(from.shown());
    let moved = async {
        writer.stand(standing, io.now()).await?;
        let parents = (old.parent(), new.parent());
        let make = |fault| Error::world("make directory", parents.1.shown(), fault);
        io.make_dir(&parents.1).await.map_err(make)?;
        io.rename(&old, &new).await.map_err(|fault| Error::world("rename", old.shown(), fault))?;
        for dir in [parents.1, parents.0] {
            io.sync_dir(&dir).await.map_err(|fault| Error::world("sync", dir.shown(), fault))?;
        }
        Ok(())
    };
    let moved = moved.await;
    writer.close().await;
    moved
}

/// The file that names the user with whom the next check of the store begins. It may be lost: then that begins with the first.
const CHECK_NEXT: &[u8] = b"verify-next";
/// The same while it is written.
const CHECK_NEXT_NEW: &[u8] = b"verify-next.new";

/// With whom the next check of the store begins, if the last one did not come to its end.
pub async fn check_next(io: &Io) -> Result<Option<Owner>, Error> {
    let place = Place::store(CHECK_NEXT);
    match io.read_whole(&place, NAME_MAX as u64, Vec::new()).await {
        Ok((bytes, _)) => Ok(owner_of(&bytes)),
        Err(Fault::NotFound) => Ok(None),
        Err(fault) => Err(Error::world("read", place.shown(), fault)),
    }
}

/// Writes down with whom the next check of the store begins; `None` if this one came to its end.
pub async fn set_check_next(io: &Io, next: Option<&Owner>) -> Result<(), Error> {
    let (place, new) = (Place::store(CHECK_NEXT), Place::store(CHECK_NEXT_NEW));
    let Some(owner) = next else {
        return match remove(io, &place).await {
            // A file system that is read-only says so before it looks whether there is such a name.
            Err(_) if io.stat(&place).await == Err(Fault::NotFound) => Ok(()),
            other => other,
        };
    };
    let name = match owner {
        Owner::Shared => String::from(SHARED),
        Owner::User(userid) => dir_name(userid),
    };
    remove(io, &new).await?;
    let world = |doing| {
        let new = new.shown();
        move |fault| Error::world(doing, new, fault)
    };
    let file = io.open(&new, How::Create).await.map_err(world("create"))?;
    let written = io.write_at(file, 0, name.into_bytes()).await.map_err(world("write"));
    let _ = io.close(file).await;
    written?;
    io.rename(&new, &place).await.map_err(world("rename"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_safe_and_tell_their_owner() {
        for userid in ["anna", "..", ".hidden", "a/b", "b\u{f6}b", "%shared", "x@y.z", "a%2Fb", " ", "\0"] {
            let owner = Owner::User(userid.as_bytes().to_vec());
            let place = archive_dir(&owner).unwrap();
            let name = place.path.splitn(2, |&c| c == b'/').nth(1).unwrap();
            assert!(!name.contains(&b'/') && !name.starts_with(b".") && name.is_ascii(), "{place:?}");
            assert_eq!(owner_of(name), Some(owner), "{place:?}");
        }
        assert_eq!(owner_of(b"%shared"), Some(Owner::Shared));
        assert_eq!(owner_of(b"a%2fb"), None, "only the form that is written");
        assert_eq!(owner_of(b".x"), None);
        assert!(archive_dir(&Owner::User(Vec::new())).is_err());
        assert!(archive_dir(&Owner::User(alloc::vec![b'x'; 256])).is_err());
    }
}
