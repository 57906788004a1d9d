//! Answers of the stock dialect (PROTOCOL.md section 2), item by item, with what stock servers make of them.
//!
//! What must not come in: which items a request can have.

use super::stream::{Block, Stream, number};
use super::words;
use crate::error::Error;
use crate::io::Tuple;
use crate::time::Time;
use alloc::format;
use alloc::vec::Vec;

/// One item of an answer, names decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// `USER user`.
    User(Vec<u8>),
    /// `FOLDER folder uniqueid jmapid`; the last is of no use.
    Folder {
        /// External name.
        name: Vec<u8>,
        /// uniqueid.
        uniqueid: Vec<u8>,
    },
    /// `STAT [folder] file size mtime inode`.
    Stat {
        /// External name of the folder, in a list of several.
        folder: Option<Vec<u8>>,
        /// The file.
        file: Vec<u8>,
        /// Its properties, in whole seconds; there is no ctime.
        tuple: Tuple,
    },
    /// `DATA file size mtime inode`. The content is still to come, and is to be read before the next item.
    Block(Block),
    /// `NO text`: one thing of those that were asked for is not to be had.
    No(Vec<u8>),
    /// `DONE verb ...`, the end, with the words behind the verb.
    Done(Vec<Vec<u8>>),
}

/// Reads the first line of an answer. The inner error is the text of a refusal.
pub async fn granted(stream: &mut Stream) -> Result<Result<(), Vec<u8>>, Error> {
    let line = stream.some_line().await?;
    if line == b"OK" {
        return Ok(Ok(()));
    }
    let line = line.to_vec();
    match line.strip_prefix(b"NO ") {
        Some(why) => Ok(Err(why.to_vec())),
        None => Err(stream.unexpected(&line, "`OK` or `NO`")),
    }
}

/// Reads the next item of an answer to a request that began with `verb`. Lines that are no items break the connection, and so
/// does its end.
pub async fn item(stream: &mut Stream, verb: &str) -> Result<Item, Error> {
    let line = stream.some_line().await?.to_vec();
    if line.starts_with(b"DATA ") {
        return stream.block(&line).map(Item::Block);
    }
    if let Some(why) = line.strip_prefix(b"NO ") {
        return Ok(Item::No(why.to_vec()));
    }
    parse(&line, verb).ok_or_else(|| stream.unexpected(&line, &format!("an item of an answer, or `DONE {verb}`")))
}

/// Any item but those that begin with `DATA` or `NO`.
fn parse(line: &[u8], verb: &str) -> Option<Item> {
    let words: Option<Vec<Vec<u8>>> = words::split(line).map(words::decode).collect();
    let words = words?;
    match &words.iter().map(Vec::as_slice).collect::<Vec<_>>()[..] {
        [b"USER", user] if !user.is_empty() => Some(Item::User(user.to_vec())),
        [b"FOLDER", name, uniqueid, _] if !name.is_empty() && !uniqueid.is_empty() => {
            Some(Item::Folder { name: name.to_vec(), uniqueid: uniqueid.to_vec() })
        }
        [b"STAT", file, size, mtime, ino] => {
            Some(Item::Stat { folder: None, file: file.to_vec(), tuple: tuple(size, mtime, ino)? })
        }
        [b"STAT", folder, file, size, mtime, ino] => {
            Some(Item::Stat { folder: Some(folder.to_vec()), file: file.to_vec(), tuple: tuple(size, mtime, ino)? })
        }
        [b"DONE", found, rest @ ..] if *found == verb.as_bytes() => {
            Some(Item::Done(rest.iter().map(|word| word.to_vec()).collect()))
        }
        _ => None,
    }
}

fn tuple(size: &[u8], mtime: &[u8], ino: &[u8]) -> Option<Tuple> {
    let mtime = super::stream::stamp(mtime)?;
    Some(Tuple { size: number(size)?, mtime, ctime: Time::ZERO, ino: number(ino)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_items_or_nothing() {
        let stat = |line: &str| match parse(line.as_bytes(), "META") {
            Some(Item::Stat { folder, file, tuple }) => Some((folder, file, tuple.size, tuple.mtime.secs(), tuple.ino)),
            _ => None,
        };
        assert_eq!(stat("STAT sub 49 1795456974 10249802"), Some((None, b"sub".to_vec(), 49, 1_795_456_974, 10_249_802)));
        let folder = Some(b"INBOX.a b".to_vec());
        assert_eq!(stat("STAT INBOX.a%20b index 1 2 3"), Some((folder, b"index".to_vec(), 1, 2, 3)));
        assert_eq!(stat("STAT sub 1 18446744073709551615 3").map(|s| s.3), Some(-1), "a time before 1970");
        for bad in [
            "",
            "STAT",
            "STAT sub 1 2",
            "STAT a b c d e f",
            "STAT sub x 2 3",
            "STAT sub 1 2 -3",
            "STAT sub 1 2 ",
            "stat sub 1 2 3",
            "USER",
            "USER ",
            "USER a b",
            "FOLDER a b",
            "FOLDER  b c",
            "FOLDER a  c",
            "USER %zz",
            "USER %00",
            "DONE",
            "DONE FMETA",
            "DONE META2",
            "OK",
            "garbage",
        ] {
            assert_eq!(parse(bad.as_bytes(), "META"), None, "{bad}");
        }
        assert_eq!(parse(b"USER caf%FFFFFFC3%FFFFFFA9", "USERS"), Some(Item::User("caf\u{e9}".as_bytes().to_vec())));
        assert_eq!(parse(b"USER caf\xC3\xA9", "USERS"), Some(Item::User("caf\u{e9}".as_bytes().to_vec())));
        assert_eq!(parse(b"DONE FMETA a%2Fb P-F", "FMETA"), Some(Item::Done(alloc::vec![b"a/b".to_vec(), b"P-F".to_vec()])));
    }
}
