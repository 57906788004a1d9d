//! twoskip files (`lib/cyrusdb_twoskip.c`, 2.5 and later).
//!
//! A header of 64 bytes, then records, all of them covered by CRC-32; numbers are big-endian. Records are only appended; what
//! changes in place are pointers, of which the lowest level has two, so that one is always of the committed state. Whatever
//! lies at or behind the header's `current_size` is not committed.
//!
//! What must not come in: how one searches (`list`).

use super::list::{Links, Node, SkipList, Spot};
use super::pages::View;
use super::{ENTRY_MAX, Entry, Trouble};
use crate::bytes::{be32, be64, put_be32, put_be64};
use crate::crc32::crc32;
use crate::escape::Shown;
use alloc::format;
use alloc::vec::Vec;
use core::fmt::{self, Write};

/// The first bytes of a file.
pub const MAGIC: &[u8; 20] = b"\xA1\x02\x8B\x0Dtwoskip file\0\0\0\0";

const HEADER_LEN: usize = 64;
/// Where the record before all others lies.
const DUMMY_AT: u64 = HEADER_LEN as u64;
const DUMMY_LEVEL: usize = 31;
const VERSION: u32 = 1;
const DIRTY: u32 = 1;

/// Offsets in the header.
mod field {
    pub const VERSION: usize = 20;
    pub const GENERATION: usize = 24;
    pub const RECORDS: usize = 32;
    pub const REPACK_SIZE: usize = 40;
    pub const CURRENT_SIZE: usize = 48;
    pub const FLAGS: usize = 56;
    pub const CRC: usize = 60;
}

/// Types of records.
mod kind {
    pub const DUMMY: u8 = b'=';
    pub const ENTRY: u8 = b'+';
    pub const DELETE: u8 = b'-';
    pub const COMMIT: u8 = b'$';
}

/// What a header says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Twoskip {
    pub version: u32,
    pub generation: u64,
    pub records: u64,
    pub repack_size: u64,
    pub current_size: u64,
    pub flags: u32,
}

impl Twoskip {
    pub fn open(view: &View) -> Result<Twoskip, Trouble> {
        let mut scratch = Vec::new();
        let b = view.bytes(0, HEADER_LEN, &mut scratch)?;
        let (crc, stored) = (crc32(&b[..field::CRC]), be32(b, field::CRC));
        if crc != stored {
            return Err(view.damage(field::CRC as u64, "header CRC", format!("{stored:08x}"), format!("{crc:08x}")));
        }
        let out = Twoskip {
            version: be32(b, field::VERSION),
            generation: be64(b, field::GENERATION),
            records: be64(b, field::RECORDS),
            repack_size: be64(b, field::REPACK_SIZE),
            current_size: be64(b, field::CURRENT_SIZE),
            flags: be32(b, field::FLAGS),
        };
        if out.version > VERSION {
            return Err(view.damage(field::VERSION as u64, "version", out.version, format!("at most {VERSION}")));
        }
        if out.current_size > view.end || out.current_size < DUMMY_AT {
            let expected = format!("{DUMMY_AT} to {}, the length of the file", view.end);
            return Err(view.damage(field::CURRENT_SIZE as u64, "current size", out.current_size, expected));
        }
        Ok(out)
    }

    /// True if a transaction has not been finished.
    pub fn is_dirty(&self) -> bool {
        self.flags & DIRTY != 0
    }

    pub fn describe(&self, out: &mut dyn Write) -> fmt::Result {
        let Twoskip { version, generation, records, repack_size, current_size, .. } = self;
        let state = if self.is_dirty() { "dirty: a transaction was not finished" } else { "clean" };
        writeln!(out, "version: {version}\ngeneration: {generation}\nrecords: {records}\nstate: {state}")?;
        writeln!(out, "size when repacked: {repack_size}\ncurrent size: {current_size}")
    }
}

/// Where the parts of a record are.
struct Layout {
    keylen: usize,
    vallen: usize,
    pointers: usize,
    /// Where the CRCs are; behind these 8 bytes comes the key.
    crcs: usize,
    len: usize,
}

/// Bytes that any record has at least.
const RECORD_MIN: usize = 24;

/// Computes the layout of the record that begins with `b`; `Err` with the number of bytes that it takes to do so.
fn layout(view: &View, at: u64, b: &[u8]) -> Result<Result<Layout, usize>, Trouble> {
    if b.len() < RECORD_MIN {
        return Ok(Err(RECORD_MIN));
    }
    let level = usize::from(b[1]);
    if level > DUMMY_LEVEL {
        return Err(view.damage(at + 1, "level", level, format!("at most {DUMMY_LEVEL}")));
    }
    let (mut keylen, mut vallen, mut pointers) = (u64::from(be32(b, 0) & 0xFFFF), u64::from(be32(b, 4)), 8);
    if keylen == u64::from(u16::MAX) {
        keylen = be64(b, pointers);
        pointers += 8;
    }
    if vallen == u64::from(u32::MAX) {
        vallen = be64(b, pointers);
        pointers += 8;
    }
    match keylen.checked_add(vallen) {
        Some(total) if total <= ENTRY_MAX => {
            let crcs = pointers + 8 * (level + 1);
            let len = crcs + 8 + (total as usize).next_multiple_of(8);
            Ok(Ok(Layout { keylen: keylen as usize, vallen: vallen as usize, pointers, crcs, len }))
        }
        _ => {
            let found = format!("a key of {keylen} and a value of {vallen} bytes");
            Err(view.damage(at, "record length", found, format!("at most {ENTRY_MAX} bytes")))
        }
    }
}

impl SkipList for Twoskip {
    fn start(&self) -> u64 {
        DUMMY_AT
    }

    fn spot<'b>(&self, view: &View<'b>, at: u64, scratch: &'b mut Vec<u8>) -> Result<Spot<'b>, Trouble> {
        let b = view.record(at, scratch, |b| Ok(layout(view, at, b)?.map_or_else(|need| need, |layout| layout.len)))?;
        let Ok(Layout { keylen, vallen, pointers, crcs, len }) = layout(view, at, b)? else {
            return Err(view.damage(at, "record length", b.len(), RECORD_MIN));
        };
        let (head, tail) = (crc32(&b[..crcs]), crc32(&b[crcs + 8..len]));
        let check = |found: u32, expected: u32, place: usize, field: &'static str| match found == expected {
            true => Ok(()),
            false => Err(view.damage(at + place as u64, field, format!("{found:08x}"), format!("{expected:08x}"))),
        };
        check(be32(b, crcs), head, crcs, "CRC of the record's head")?;
        check(be32(b, crcs + 4), tail, crcs + 4, "CRC of key and value")?;
        match (b[0], at == DUMMY_AT) {
            (kind::DUMMY, true) | (kind::ENTRY, false) => {}
            (kind::DELETE, false) => return Ok(Spot::Detour(be64(b, pointers))),
            _ => return Err(view.damage(at, "record type", Shown(&b[..1]), if at == DUMMY_AT { "=" } else { "+ or -" })),
        }
        let (key, rest) = b[crcs + 8..].split_at(keylen);
        Ok(Spot::Node(Node { key, value: &rest[..vallen], live: true, links: Links::Be64(&b[pointers..crcs]) }))
    }
}

/// A new file with these entries, as a repack leaves it, of the given generation.
///
/// Keys must not be empty, and must stand in the order in which the file will be read; the caller sees to that. The levels of
/// the records follow from their numbers, so that the same entries give the same bytes.
pub fn emit(entries: &[Entry], generation: u64) -> Vec<u8> {
    let mut out = alloc::vec![0; HEADER_LEN];
    append(&mut out, kind::DUMMY, DUMMY_LEVEL, b"", b"");
    let data_start = out.len();
    // Where the pointer stands that is to lead to the next record of each level. The second of the lowest level is used.
    let mut open = [0; DUMMY_LEVEL];
    for (level, place) in open.iter_mut().enumerate() {
        *place = HEADER_LEN + 8 + 8 * (level + 1);
    }
    let mut heads = Vec::from([HEADER_LEN]);
    for (number, (key, value)) in (1u64..).zip(entries) {
        let level = (number.trailing_zeros() as usize + 1).min(DUMMY_LEVEL);
        let at = append(&mut out, kind::ENTRY, level, key, value);
        let pointers = at + 8 + wide_lengths(key, value) * 8;
        for (level, place) in open[..level].iter_mut().enumerate() {
            put_be64(&mut out, *place, at as u64);
            *place = pointers + 8 * (level + 1);
        }
        heads.push(at);
    }
    for at in heads {
        seal_head(&mut out, at);
    }
    let repack_size = out.len();
    if !entries.is_empty() {
        let at = append(&mut out, kind::COMMIT, 0, b"", b"");
        put_be64(&mut out, at + 8, data_start as u64);
        seal_head(&mut out, at);
    }
    let header = Twoskip {
        version: VERSION,
        generation,
        records: entries.len() as u64,
        repack_size: repack_size as u64,
        current_size: out.len() as u64,
        flags: 0,
    };
    header.write(&mut out);
    out
}

impl Twoskip {
    fn write(&self, out: &mut [u8]) {
        out[..MAGIC.len()].copy_from_slice(MAGIC);
        put_be32(out, field::VERSION, self.version);
        put_be64(out, field::GENERATION, self.generation);
        put_be64(out, field::RECORDS, self.records);
        put_be64(out, field::REPACK_SIZE, self.repack_size);
        put_be64(out, field::CURRENT_SIZE, self.current_size);
        put_be32(out, field::FLAGS, self.flags);
        let crc = crc32(&out[..field::CRC]);
        put_be32(out, field::CRC, crc);
    }
}

/// How many of the two lengths do not fit into their short fields.
fn wide_lengths(key: &[u8], value: &[u8]) -> usize {
    usize::from(key.len() >= usize::from(u16::MAX)) + usize::from(value.len() as u64 >= u64::from(u32::MAX))
}

/// What fills the room before a record whose head would not fit into one block of a disk (3.2 and later).
const BLANK: &[u8; 8] = b" BLANK\x07\xa0";
const BLOCK: usize = 512;

/// Appends a record without pointers and without the CRC of its head; answers where it begins.
fn append(out: &mut Vec<u8>, kind: u8, level: usize, key: &[u8], value: &[u8]) -> usize {
    let head_len = 8 + 8 * (wide_lengths(key, value) + level + 1) + 8;
    while head_len <= BLOCK - 8 && (out.len() + 8) % BLOCK > (out.len() - 8 + head_len) % BLOCK {
        out.extend_from_slice(BLANK);
    }
    let at = out.len();
    out.extend([kind, level as u8]);
    out.extend(u16::try_from(key.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    if key.len() >= usize::from(u16::MAX) {
        out.extend((key.len() as u64).to_be_bytes());
    }
    if value.len() as u64 >= u64::from(u32::MAX) {
        out.extend((value.len() as u64).to_be_bytes());
    }
    out.resize(at + head_len, 0);
    out.extend_from_slice(key);
    out.extend_from_slice(value);
    out.resize(at + head_len + (key.len() + value.len()).next_multiple_of(8), 0);
    let crc = crc32(&out[at + head_len..]);
    put_be32(out, at + head_len - 4, crc);
    at
}

/// Writes the CRC of the head of the record at `at`.
fn seal_head(out: &mut [u8], at: usize) {
    let wide = usize::from(out[at + 2..at + 4] == [0xFF; 2]) + usize::from(out[at + 4..at + 8] == [0xFF; 4]);
    let crcs = at + 8 + 8 * (wide + usize::from(out[at + 1]) + 1);
    let crc = crc32(&out[at..crcs]);
    put_be32(out, crcs, crc);
}
