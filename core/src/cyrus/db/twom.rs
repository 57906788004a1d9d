//! twom files (`lib/twom.c`, `doc/README.twom.md`; 3.13 and later).
//!
//! twoskip's successor: numbers are little-endian, an entry that was replaced or deleted stays in the file, and checksums are
//! the lower half of XXH3 with 64 bits (the flag's name says XXH64; the code does not). A deletion is a record in the list of
//! the lowest level that names the record it deletes, which stays in all lists until the next repack. Whatever lies at or
//! behind the header's `current_size` is not committed; the file is longer than that even when nothing is at work.
//!
//! What must not come in: how one searches (`list`).

use super::list::{Links, Node, SkipList, Spot};
use super::pages::View;
use super::{ENTRY_MAX, Trouble};
use crate::bytes::{hex, le16, le32, le64};
use alloc::format;
use alloc::vec::Vec;
use core::fmt::{self, Write};
use twox_hash::XxHash3_64;

/// The first bytes of a file.
pub const MAGIC: &[u8; 16] = b"\xA1\x02\x8B\x0Dtwomfile\0\0\0\0";

const HEADER_LEN: usize = 96;
/// Where the record before all others lies.
const DUMMY_AT: u64 = HEADER_LEN as u64;
const LEVEL_MAX: usize = 31;
const VERSION: u32 = 1;

/// Flags in the header.
mod flag {
    pub const DIRTY: u32 = 1;
    pub const NO_CHECKSUMS: u32 = 1 << 27;
    pub const FOREIGN_CHECKSUMS: u32 = 1 << 29;
    pub const FOREIGN_ORDER: u32 = 1 << 30;
}

/// Offsets in the header.
mod field {
    pub const UUID: usize = 16;
    pub const VERSION: usize = 32;
    pub const FLAGS: usize = 36;
    pub const GENERATION: usize = 40;
    pub const RECORDS: usize = 48;
    pub const COMMITS: usize = 56;
    pub const DIRTY_SIZE: usize = 64;
    pub const REPACK_SIZE: usize = 72;
    pub const CURRENT_SIZE: usize = 80;
    pub const MAX_LEVEL: usize = 88;
    pub const CHECKSUM: usize = 92;
}

/// Types of records.
mod kind {
    pub const DUMMY: u8 = 1;
    pub const ADD: u8 = 2;
    pub const FAT_ADD: u8 = 3;
    pub const REPLACE: u8 = 4;
    pub const FAT_REPLACE: u8 = 5;
    pub const DELETE: u8 = 6;
}

/// What a header says.
pub(super) struct Twom {
    uuid: [u8; 16],
    flags: u32,
    generation: u64,
    pub records: u64,
    commits: u64,
    dirty_size: u64,
    repack_size: u64,
    pub current_size: u64,
    max_level: u32,
}

impl Twom {
    pub fn open(view: &View) -> Result<Twom, Trouble> {
        let mut scratch = Vec::new();
        let b = view.bytes(0, HEADER_LEN, &mut scratch)?;
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&b[field::UUID..field::VERSION]);
        let out = Twom {
            uuid,
            flags: le32(b, field::FLAGS),
            generation: le64(b, field::GENERATION),
            records: le64(b, field::RECORDS),
            commits: le64(b, field::COMMITS),
            dirty_size: le64(b, field::DIRTY_SIZE),
            repack_size: le64(b, field::REPACK_SIZE),
            current_size: le64(b, field::CURRENT_SIZE),
            max_level: le32(b, field::MAX_LEVEL),
        };
        let version = le32(b, field::VERSION);
        if version > VERSION {
            return Err(view.damage(field::VERSION as u64, "version", version, format!("at most {VERSION}")));
        }
        if out.flags & (flag::FOREIGN_CHECKSUMS | flag::FOREIGN_ORDER) != 0 {
            let expected = "checksums and order that come with the format";
            return Err(view.damage(field::FLAGS as u64, "flags", format!("{:08x}", out.flags), expected));
        }
        out.check(view, &b[..field::CHECKSUM], le32(b, field::CHECKSUM), field::CHECKSUM as u64, "header checksum")?;
        if out.current_size > view.end || out.current_size < DUMMY_AT {
            let expected = format!("{DUMMY_AT} to {}, the length of the file", view.end);
            return Err(view.damage(field::CURRENT_SIZE as u64, "current size", out.current_size, expected));
        }
        Ok(out)
    }

    /// True if a transaction has not been finished.
    pub fn is_dirty(&self) -> bool {
        self.flags & flag::DIRTY != 0
    }

    pub fn describe(&self, out: &mut dyn Write) -> fmt::Result {
        let Twom { generation, records, commits, dirty_size, repack_size, current_size, max_level, .. } = self;
        let state = if self.is_dirty() { "dirty: a transaction was not finished" } else { "clean" };
        let checksums = if self.flags & flag::NO_CHECKSUMS != 0 { "none" } else { "XXH3" };
        writeln!(out, "uuid: {}\nversion: {VERSION}\ngeneration: {generation}", hex(&self.uuid))?;
        writeln!(out, "records: {records}\ncommits: {commits}\nstate: {state}\nchecksums: {checksums}\nlevels: {max_level}")?;
        writeln!(out, "size when repacked: {repack_size}\ncurrent size: {current_size}\nbytes not needed: {dirty_size}")
    }

    fn check(&self, view: &View, data: &[u8], stored: u32, at: u64, field: &'static str) -> Result<(), Trouble> {
        let computed = match self.flags & flag::NO_CHECKSUMS {
            0 if !data.is_empty() => XxHash3_64::oneshot(data) as u32,
            _ => 0,
        };
        match computed == stored {
            true => Ok(()),
            false => Err(view.damage(at, field, format!("{stored:08x}"), format!("{computed:08x}"))),
        }
    }

    fn record<'b>(&self, view: &View<'b>, at: u64, scratch: &'b mut Vec<u8>) -> Result<Record<'b>, Trouble> {
        let b = view.record(at, scratch, |b| Ok(layout(view, at, b)?.map_or_else(|need| need, |layout| layout.len)))?;
        let Ok(Layout { ancestor, pointers, checksums, keylen, vallen, len }) = layout(view, at, b)? else {
            return Err(view.damage(at, "record length", b.len(), RECORD_MIN));
        };
        let (head, tail) = (at + checksums as u64, at + checksums as u64 + 4);
        self.check(view, &b[..checksums], le32(b, checksums), head, "checksum of the record's head")?;
        let body = &b[checksums + 8..len];
        if !body.is_empty() {
            self.check(view, body, le32(b, checksums + 4), tail, "checksum of key and value")?;
        }
        let key = body.get(..keylen).unwrap_or_default();
        let value = body.get(keylen + 1..keylen + 1 + vallen).unwrap_or_default();
        Ok(Record { kind: b[0], ancestor: ancestor.map(|place| le64(b, place)), key, value, links: &b[pointers..checksums] })
    }
}

struct Record<'a> {
    kind: u8,
    ancestor: Option<u64>,
    key: &'a [u8],
    value: &'a [u8],
    links: &'a [u8],
}

/// Where the parts of a record are.
struct Layout {
    ancestor: Option<usize>,
    pointers: usize,
    /// Where the checksums are; behind these 8 bytes comes the key.
    checksums: usize,
    keylen: usize,
    vallen: usize,
    len: usize,
}

/// Bytes that any record has at least.
const RECORD_MIN: usize = 24;

/// Computes the layout of the record that begins with `b`; `Err` with the number of bytes that it takes to do so.
fn layout(view: &View, at: u64, b: &[u8]) -> Result<Result<Layout, usize>, Trouble> {
    if b.len() < RECORD_MIN {
        return Ok(Err(RECORD_MIN));
    }
    // A deletion has no pointer but that to what it deletes.
    let (ancestor, pointers, is_fat) = match b[0] {
        kind::DUMMY | kind::ADD => (None, 8, false),
        kind::FAT_ADD => (None, 24, true),
        kind::REPLACE => (Some(8), 16, false),
        kind::FAT_REPLACE => (Some(24), 32, true),
        kind::DELETE => (Some(8), 8, false),
        other => return Err(view.damage(at, "record type", other, "1 to 6")),
    };
    let level = usize::from(b[1]);
    if level > LEVEL_MAX {
        return Err(view.damage(at + 1, "level", level, format!("at most {LEVEL_MAX}")));
    }
    let checksums = pointers + 8 * (1 + level);
    if matches!(b[0], kind::DUMMY | kind::DELETE) {
        return Ok(Ok(Layout { ancestor, pointers, checksums, keylen: 0, vallen: 0, len: checksums + 8 }));
    }
    let (keylen, vallen) = match is_fat {
        true => (le64(b, 8), le64(b, 16)),
        false => (u64::from(le16(b, 2)), u64::from(le32(b, 4))),
    };
    match keylen.checked_add(vallen) {
        Some(total) if total <= ENTRY_MAX => {
            let len = checksums + 8 + (total as usize + 2).next_multiple_of(8);
            Ok(Ok(Layout { ancestor, pointers, checksums, keylen: keylen as usize, vallen: vallen as usize, len }))
        }
        _ => {
            let found = format!("a key of {keylen} and a value of {vallen} bytes");
            Err(view.damage(at, "record length", found, format!("at most {ENTRY_MAX} bytes")))
        }
    }
}

impl SkipList for Twom {
    fn start(&self) -> u64 {
        DUMMY_AT
    }

    fn spot<'b>(&self, view: &View<'b>, at: u64, scratch: &'b mut Vec<u8>) -> Result<Spot<'b>, Trouble> {
        let deleted = match view.bytes(at, 1, scratch)? {
            [kind::DELETE] => self.record(view, at, scratch)?.ancestor,
            _ => None,
        };
        if deleted.is_some_and(|victim| victim >= at || victim <= DUMMY_AT) {
            return Err(view.damage(at + 8, "deleted record", deleted.unwrap_or_default(), "an entry before the deletion"));
        }
        let record = self.record(view, deleted.unwrap_or(at), scratch)?;
        match (record.kind, at == DUMMY_AT) {
            (kind::DUMMY, true) | (kind::ADD..=kind::FAT_REPLACE, false) => {}
            (other, _) => return Err(view.damage(deleted.unwrap_or(at), "record type", other, "2 to 5")),
        }
        let Record { key, value, links, .. } = record;
        Ok(Spot::Node(Node { key, value, live: deleted.is_none(), links: Links::Le64(links) }))
    }
}
