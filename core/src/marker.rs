//! The file that makes a directory a store, and what a directory without one is taken for (FORMAT.md section 1).
//!
//! A file system that is not mounted leaves an empty directory behind. Nothing may be written there as if it were a store.
//! What must not come in: archives, and which commands look.

use crate::archive::append::remove;
use crate::error::{Damage, Error, Fault};
use crate::escape::shown;
use crate::io::{FileKind, How, Io, Place};
use crate::lines::parse_number;
use crate::time::Civil;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Its name in the store.
pub const MARKER: &str = "cylinder-store";
/// The same while it is written.
const MARKER_NEW: &str = "cylinder-store.new";
/// The newest format that is understood.
pub const FORMAT: u64 = 1;
/// The longest marker that is read, in bytes.
const LEN_MAX: u64 = 64 << 10;
/// Names in the root of a store: 256 directories and some files.
const NAMES_MAX: usize = 100_000;
/// Files that may be in a store before it is made one.
const OURS: [&[u8]; 8] = [
    b"lost+found",
    b"retention",
    b"erased",
    b"last-runs",
    b"verify-next",
    b"verify-next.new",
    MARKER.as_bytes(),
    MARKER_NEW.as_bytes(),
];

/// What tells a store from all others: 16 bytes of chance.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StoreId(pub [u8; 16]);

impl StoreId {
    /// Reads 32 hexadecimal digits.
    pub fn parse(text: &[u8]) -> Option<StoreId> {
        let mut id = [0; 16];
        if text.len() != 32 {
            return None;
        }
        for (byte, digits) in id.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |c: u8| (c as char).to_digit(16);
            *byte = (digit(digits[0])? * 16 + digit(digits[1])?) as u8;
        }
        Some(StoreId(id))
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a directory is found to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    /// A store of a format that is understood.
    Store(StoreId),
    /// There is no such directory.
    Absent,
    /// It has nothing in it.
    Empty,
    /// It has directories of archives, and no marker.
    Archives,
    /// It has something else in it, such as this, escaped for printing.
    Other(String),
}

impl Found {
    /// What the store is, or why `dir` is none and what to do.
    pub fn store(&self, dir: &str) -> Result<StoreId, Error> {
        let why = match self {
            Found::Store(id) => return Ok(*id),
            Found::Absent => format!("does not exist, or is no directory; `cylinder init {dir}` makes a new store"),
            Found::Empty => {
                format!("is empty: is the file system mounted? If it is to be a new store, run `cylinder init {dir}`")
            }
            Found::Archives => {
                format!(
                    "holds archives but no file {MARKER}: run `cylinder init {dir}`, which adopts the archives that are there"
                )
            }
            Found::Other(name) => format!("is no store: it has no file {MARKER}, but holds other files, such as {name}"),
        };
        Err(Error::Refused(format!("store {dir}: {why}")))
    }
}

/// Looks what the root of the store is. Reads one file of a store, and the names in the directory if that is not there.
pub async fn look(io: &Io) -> Result<Found, Error> {
    let place = Place::store(MARKER);
    match io.read_whole(&place, LEN_MAX, Vec::new()).await {
        Ok((text, _)) => parse(&text).map(Found::Store),
        Err(Fault::NotFound) => without_marker(io).await,
        Err(fault) => Err(Error::world("read", place.shown(), fault)),
    }
}

async fn without_marker(io: &Io) -> Result<Found, Error> {
    let root = Place::store(".");
    let names = match io.list(&root, NAMES_MAX).await {
        Ok(names) => names,
        Err(Fault::NotFound) => return Ok(Found::Absent),
        Err(fault) => return Err(Error::world("list", "the store", fault)),
    };
    let is_hash = |name: &[u8]| name.len() == 2 && name.iter().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    let is_dir = |kind| matches!(kind, FileKind::Directory | FileKind::Link);
    if names.iter().any(|entry| is_hash(&entry.name) && is_dir(entry.kind)) {
        return Ok(Found::Archives);
    }
    // Hidden names are those of file systems and of a user whose home this is.
    let other = names.iter().find(|entry| !entry.name.starts_with(b".") && !OURS.contains(&&entry.name[..]));
    Ok(other.map_or(Found::Empty, |entry| Found::Other(shown(&entry.name))))
}

fn parse(text: &[u8]) -> Result<StoreId, Error> {
    let value = |key: &[u8]| text.split(|&c| c == b'\n').find_map(|line| line.strip_prefix(key)?.strip_prefix(b" "));
    let damage = |field, found: Option<&[u8]>, expected| {
        Damage::new(MARKER, 0, field, found.map_or_else(|| String::from("nothing"), shown), expected)
    };
    let format = value(b"format");
    let version = format.and_then(parse_number::<u64>).ok_or_else(|| damage("format", format, "a number"))?;
    if version > FORMAT {
        let newer = format!("{MARKER}: the store has format {version}, this cylinder knows {FORMAT}: use a newer cylinder");
        return Err(Error::Refused(newer));
    }
    let id = value(b"id");
    let expected = "32 hexadecimal digits; remove the file, and run `cylinder init`";
    Ok(id.and_then(StoreId::parse).ok_or_else(|| damage("id", id, expected))?)
}

/// Makes the root of the store, which must exist, a store. Archives in it are adopted; refused where there is a marker, or
/// something else than a store has.
pub async fn init(io: &Io, id: StoreId, dir: &str) -> Result<Found, Error> {
    let found = look(io).await?;
    match &found {
        Found::Empty | Found::Archives => {}
        Found::Store(id) => return Err(Error::Refused(format!("store {dir}: is a store already, with id {id}"))),
        Found::Absent => return Err(Error::Refused(format!("store {dir}: does not exist"))),
        Found::Other(name) => {
            let why = "holds other files, such as";
            return Err(Error::Refused(format!("store {dir}: {why} {name}; a store needs a directory of its own")));
        }
    }
    let (place, new) = (Place::store(MARKER), Place::store(MARKER_NEW));
    let world = |doing| move |fault| Error::world(doing, MARKER_NEW, fault);
    remove(io, &new).await?;
    let file = io.open(&new, How::Create).await.map_err(world("create"))?;
    let written = async {
        io.write_at(file, 0, emit(id, Civil::from_time(io.now()))).await.map_err(world("write"))?;
        io.sync(file).await.map_err(world("sync"))
    };
    let written = written.await;
    let _ = io.close(file).await;
    written?;
    io.rename(&new, &place).await.map_err(world("rename"))?;
    io.sync_dir(&place.parent()).await.map_err(|fault| Error::world("sync", "the store", fault))?;
    Ok(found)
}

fn emit(id: StoreId, now: Civil) -> Vec<u8> {
    let about = "Backups of users of Cyrus IMAP servers, made by Cylinder. Without this file no command touches them.";
    format!("{about}\nformat {FORMAT}\nid {id}\nmade {now}\n").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    #[test]
    fn a_marker_is_read_as_it_was_written_and_keeps_room_for_more() {
        let id = StoreId([0xa5; 16]);
        let text = emit(id, Civil::from_time(Time::from_secs(1_795_456_542)));
        assert_eq!(parse(&text), Ok(id));
        assert_eq!(parse(&[&text[..], b"colour red\n"].concat()), Ok(id), "what a later version adds is no concern");
        assert_eq!(StoreId::parse(b"a5"), None);
    }

    #[test]
    fn a_marker_that_cannot_be_followed_says_what_was_expected() {
        let why = |text: &[u8]| alloc::string::ToString::to_string(&parse(text).expect_err("no marker"));
        assert!(why(b"format 2\nid x\n").contains("has format 2, this cylinder knows 1"), "{}", why(b"format 2\nid x\n"));
        assert!(why(b"").contains("format at offset 0: found nothing, expected a number"));
        assert!(why(b"format 1\nid xyz\n").contains("found xyz, expected 32 hexadecimal digits"));
    }
}
