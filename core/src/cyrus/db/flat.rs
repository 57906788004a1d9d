//! flat files (`lib/cyrusdb_flat.c`): lines `key TAB value LF`, sorted as [`Order::Mbox`] does.
//!
//! NUL, TAB, CR and LF in a key or value stand as 0xFF and the byte with its high bit set, and 0xFF as two of them. 2.3 and
//! 2.4 did not do that: there 0xFF stood for itself, and the others could not be stored. A reader cannot tell the two apart
//! where 0xFF is followed by 0x80, 0x89, 0x8A, 0x8D or 0xFF; it then takes it for an escape, and otherwise 0xFF for itself.
//!
//! What must not come in: other forms of text, such as quota files.

use super::pages::{PAGE_SIZE, View};
use super::{Cursor, ENTRY_MAX, Entry, Order, Trouble};
use crate::error::Damage;
use crate::escape::Shown;
use alloc::format;
use alloc::vec::Vec;

const ESCAPE: u8 = 0xFF;
/// The most bytes of a line: an entry of which each byte is escaped, TAB and LF.
const LINE_MAX: u64 = 2 * ENTRY_MAX + 2;

/// A flat file has no header.
pub(super) struct Flat;

fn is_escaped(b: u8) -> bool {
    matches!(b, 0 | b'\t' | b'\r' | b'\n')
}

/// Appends `text` as it stands in a line.
fn encode(text: &[u8], out: &mut Vec<u8>) {
    for &b in text {
        match b {
            ESCAPE => out.extend([ESCAPE, ESCAPE]),
            _ if is_escaped(b) => out.extend([ESCAPE, b | 0x80]),
            _ => out.push(b),
        }
    }
}

/// Writes into `out` what `text` of a line means.
fn decode(text: &[u8], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = text;
    while let Some(at) = rest.iter().position(|&b| b == ESCAPE) {
        out.extend_from_slice(&rest[..at]);
        let (byte, len) = match rest.get(at + 1) {
            Some(&ESCAPE) => (ESCAPE, 2),
            Some(&b) if b & 0x80 != 0 && is_escaped(b & 0x7F) => (b & 0x7F, 2),
            _ => (ESCAPE, 1),
        };
        out.push(byte);
        rest = &rest[at + len..];
    }
    out.extend_from_slice(rest);
}

/// Cuts a line, without its LF, into key and value.
fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let tab = line.iter().position(|&b| b == b'\t')?;
    Some((&line[..tab], &line[tab + 1..]))
}

fn no_tab(object: &str, at: u64, line: &[u8]) -> Damage {
    Damage::new(object, at, "line", format!("{} without a TAB", Shown(&line[..line.len().min(80)])), "key TAB value")
}

/// The lines of a file.
///
/// Each key must come behind the one before it, as [`Order::Mbox`] sorts what stands in the file.
pub fn parse(data: &[u8]) -> Result<Vec<Entry>, Damage> {
    let mut out: Vec<Entry> = Vec::new();
    let mut last: Option<&[u8]> = None;
    let mut at = 0;
    for line in data.split_inclusive(|&b| b == b'\n') {
        let text = line.strip_suffix(b"\n").ok_or_else(|| no_line_end("flat", data.len() as u64))?;
        let (key, value) = split(text).ok_or_else(|| no_tab("flat", at, text))?;
        if last.is_some_and(|last| Order::Mbox.compare(last, key).is_ge()) {
            return Err(disorder("flat", at, key));
        }
        let mut entry = Entry::default();
        decode(key, &mut entry.0);
        decode(value, &mut entry.1);
        out.push(entry);
        last = Some(key);
        at += line.len() as u64;
    }
    Ok(out)
}

fn no_line_end(object: &str, at: u64) -> Damage {
    Damage::new(object, at, "last line", "no line end", "a line end")
}

fn disorder(object: &str, at: u64, key: &[u8]) -> Damage {
    Damage::new(object, at, "key", Shown(&key[..key.len().min(200)]), "a key behind the one before it")
}

/// A file with these entries, in whatever order they come, escaped as by 2.5 and later. No two keys may be alike.
pub fn emit(entries: &[Entry]) -> Vec<u8> {
    let encoded = |text: &[u8]| {
        let mut out = Vec::with_capacity(text.len());
        encode(text, &mut out);
        out
    };
    let mut lines: Vec<(Vec<u8>, &[u8])> = entries.iter().map(|(key, value)| (encoded(key), &value[..])).collect();
    lines.sort_by(|a, b| Order::Mbox.compare(&a.0, &b.0));
    let mut out = Vec::new();
    for (key, value) in lines {
        out.extend_from_slice(&key);
        out.push(b'\t');
        encode(value, &mut out);
        out.push(b'\n');
    }
    out
}

impl Flat {
    /// Checks that the file looks like one: it is empty, or begins with a line that has a TAB, and ends with a line end.
    pub fn open(view: &View) -> Result<Flat, Trouble> {
        if let Some(last) = view.end.checked_sub(1) {
            let mut scratch = Vec::new();
            let line = line_at(view, 0, &mut scratch)?;
            split(line).ok_or_else(|| no_tab(view.object, 0, line))?;
            if view.bytes(last, 1, &mut scratch)? != b"\n" {
                return Err(no_line_end(view.object, view.end).into());
            }
        }
        Ok(Flat)
    }

    /// Halves the file until the first line is found whose key is `key` or comes after it, as `bsearch_mem_mbox` does.
    pub fn seek(&self, view: &View, key: &[u8]) -> Result<Cursor, Trouble> {
        let mut sought = Vec::new();
        encode(key, &mut sought);
        let mut scratch = Vec::new();
        // Lines that begin before `low` come before the key; those that begin at or behind `high` do not.
        let (mut low, mut high) = (0, view.end);
        while low < high {
            let middle = low.midpoint(high);
            let mut at = low;
            if middle > low {
                at = middle + line_at(view, middle - 1, &mut scratch)?.len() as u64;
            }
            if at >= high {
                high = middle;
                continue;
            }
            let line = line_at(view, at, &mut scratch)?;
            let (found, _) = split(line).ok_or_else(|| no_tab(view.object, at, line))?;
            match Order::Mbox.compare(found, &sought).is_lt() {
                true => low = at + line.len() as u64 + 1,
                false => high = middle,
            }
        }
        Ok(Cursor::new(Order::Mbox, low, view))
    }

    pub fn next(&self, view: &View, cursor: &mut Cursor, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Result<bool, Trouble> {
        if cursor.at >= view.end {
            return Ok(false);
        }
        let mut scratch = Vec::new();
        let line = line_at(view, cursor.at, &mut scratch)?;
        let (found, rest) = split(line).ok_or_else(|| no_tab(view.object, cursor.at, line))?;
        if cursor.last.as_ref().is_some_and(|last| Order::Mbox.compare(last, found).is_ge()) {
            return Err(disorder(view.object, cursor.at, found).into());
        }
        decode(found, key);
        decode(rest, value);
        cursor.passed(found);
        cursor.at += line.len() as u64 + 1;
        Ok(true)
    }
}

/// The bytes from `at` to the next LF, without it.
fn line_at<'b>(view: &View<'b>, at: u64, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], Trouble> {
    let left = view.end - at.min(view.end);
    let line = view.record(at, scratch, |b| match b.iter().position(|&c| c == b'\n') {
        Some(lf) => Ok(lf + 1),
        None if b.len() as u64 >= left => Err(no_line_end(view.object, view.end).into()),
        None if b.len() as u64 > LINE_MAX => {
            Err(view.damage(at, "line", format!("more than {LINE_MAX} bytes"), format!("at most {LINE_MAX} bytes")))
        }
        None => Ok((b.len() * 2).max(PAGE_SIZE).min(usize::try_from(left).unwrap_or(usize::MAX))),
    })?;
    Ok(line.strip_suffix(b"\n").unwrap_or(line))
}
