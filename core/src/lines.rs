//! Lines of text as the tables of an archive and the protocol have them: a first word, then `key=value`, values
//! percent-encoded. Writing and reading side by side.
//!
//! A reader asks for keys and leaves out what it does not know, so that lines can grow. What must not come in: what any line
//! means.

use crate::error::Damage;
use crate::escape::{percent, shown, unpercent};
use crate::guid::Guid;
use crate::io::Tuple;
use crate::time::Time;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt::Write as _;

/// Writes one line; its end is written when this is dropped.
pub struct Line<'a>(&'a mut String);

impl<'a> Line<'a> {
    /// Begins a line.
    pub fn new(out: &'a mut String, first: &str) -> Line<'a> {
        out.push_str(first);
        Line(out)
    }

    /// Adds a word without a key, which needs no escape.
    pub fn word(&mut self, word: &str) {
        self.0.push(' ');
        self.0.push_str(word);
    }

    /// Adds a word whose value needs no escape.
    pub fn show(&mut self, key: &str, value: impl core::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, " {key}={value}");
    }

    /// The same if there is a value.
    pub fn maybe<T: core::fmt::Display>(&mut self, key: &str, value: Option<T>) {
        if let Some(value) = value {
            self.show(key, value);
        }
    }

    /// Adds a word whose value may be any bytes.
    pub fn text(&mut self, key: &str, value: &[u8]) {
        self.show(key, percent(value, b""));
    }

    /// Adds the four words of a tuple.
    pub fn tuple(&mut self, tuple: &Tuple) {
        self.show("size", tuple.size);
        self.stamps(tuple);
    }

    /// Adds the words of a tuple but the size.
    pub fn stamps(&mut self, tuple: &Tuple) {
        self.show("mtime", tuple.mtime);
        self.show("ctime", tuple.ctime);
        self.show("ino", tuple.ino);
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.0.push('\n');
    }
}

/// Reads lines.
pub struct Lines<'a> {
    object: &'static str,
    whole: &'a [u8],
    at: usize,
}

/// One line: a first word, then `key=value`.
pub struct Words<'a> {
    object: &'static str,
    offset: u64,
    /// The first word.
    pub first: &'a [u8],
    /// What follows it.
    pub rest: &'a [u8],
    /// Where in `rest` the last word that was asked for ends: they are asked for in the order in which they are written.
    at: Cell<usize>,
}

/// The lines after the first, which must be `magic`.
pub fn lines<'a>(b: &'a [u8], object: &'static str, magic: &str) -> Result<Lines<'a>, Damage> {
    let Some(rest) = b.strip_prefix(magic.as_bytes()).and_then(|rest| rest.strip_prefix(b"\n")) else {
        let found = shown(&b[..b.len().min(40)]);
        return Err(Damage::new(object, 0, "first line", format!("`{found}`"), format!("`{magic}`")));
    };
    if !rest.is_empty() && !rest.ends_with(b"\n") {
        return Err(Damage::new(object, b.len() as u64, "end", "no line end", "a line end"));
    }
    Ok(Lines { object, whole: b, at: b.len() - rest.len() })
}

impl<'a> Iterator for Lines<'a> {
    type Item = Words<'a>;

    fn next(&mut self) -> Option<Words<'a>> {
        let rest = &self.whole[self.at..];
        if rest.is_empty() {
            return None;
        }
        let len = rest.iter().position(|&c| c == b'\n').unwrap_or(rest.len());
        let offset = self.at as u64;
        self.at += (len + 1).min(rest.len());
        Some(Words::of(self.object, offset, &rest[..len]))
    }
}

impl<'a> Words<'a> {
    /// The words of one line, which stands at `offset` in `object`.
    pub fn of(object: &'static str, offset: u64, line: &'a [u8]) -> Words<'a> {
        let space = line.iter().position(|&c| c == b' ').unwrap_or(line.len());
        let rest = &line[(space + 1).min(line.len())..];
        Words { object, offset, first: &line[..space], rest, at: Cell::new(0) }
    }

    /// A finding about this line.
    pub fn damage(&self, field: &'static str, found: &str, expected: &str) -> Damage {
        Damage::new(self.object, self.offset, field, format!("`{found}`"), expected)
    }

    /// The value of a word as it stands.
    pub fn get(&self, key: &str) -> Option<&'a [u8]> {
        self.find(self.at.get(), key).or_else(|| self.find(0, key))
    }

    /// The value of the first word with this key from the offset `at` on.
    fn find(&self, mut at: usize, key: &str) -> Option<&'a [u8]> {
        while at < self.rest.len() {
            let word = &self.rest[at..];
            let len = word.iter().position(|&c| c == b' ').unwrap_or(word.len());
            at += len + 1;
            if let Some(value) = word[..len].strip_prefix(key.as_bytes()).and_then(|rest| rest.strip_prefix(b"=")) {
                self.at.set(at);
                return Some(value);
            }
        }
        None
    }

    /// The same for a word that must be there.
    pub fn need(&self, key: &'static str) -> Result<&'a [u8], Damage> {
        self.get(key).ok_or_else(|| self.damage(key, &shown(self.first), "a line with this word"))
    }

    /// The bytes of a percent-encoded value.
    pub fn bytes(&self, key: &'static str) -> Result<Vec<u8>, Damage> {
        let word = self.need(key)?;
        unpercent(word).ok_or_else(|| self.damage(key, &shown(word), "two hexadecimal digits after `%`"))
    }

    /// The same as text.
    pub fn string(&self, key: &'static str) -> Result<String, Damage> {
        String::from_utf8(self.bytes(key)?).map_err(|_| self.damage(key, "bytes that are not UTF-8", "text"))
    }

    /// A decimal number.
    pub fn number<T: core::str::FromStr>(&self, key: &'static str) -> Result<T, Damage> {
        parse_number(self.need(key)?).ok_or_else(|| self.damage(key, &shown(self.get(key).unwrap_or_default()), "a number"))
    }

    /// The same if the word is there.
    pub fn number_opt<T: core::str::FromStr>(&self, key: &'static str) -> Result<Option<T>, Damage> {
        if self.get(key).is_none() { Ok(None) } else { self.number(key).map(Some) }
    }

    /// A SHA-1 in hexadecimal digits.
    pub fn guid(&self, key: &'static str) -> Result<Guid, Damage> {
        let word = self.need(key)?;
        Guid::from_hex(word).ok_or_else(|| self.damage(key, &shown(word), "40 hexadecimal digits"))
    }

    /// The same if the word is there.
    pub fn guid_opt(&self, key: &'static str) -> Result<Option<Guid>, Damage> {
        if self.get(key).is_none() { Ok(None) } else { self.guid(key).map(Some) }
    }

    /// Seconds and nanoseconds.
    pub fn time(&self, key: &'static str) -> Result<Time, Damage> {
        let word = self.need(key)?;
        parse_time(word).ok_or_else(|| self.damage(key, &shown(word), "seconds.nanoseconds"))
    }

    /// The four words of a tuple.
    pub fn tuple(&self) -> Result<Tuple, Damage> {
        let size = self.number("size")?;
        self.stamps(size)
    }

    /// The rest of the tuple of a file of this size.
    pub fn stamps(&self, size: u64) -> Result<Tuple, Damage> {
        Ok(Tuple { size, mtime: self.time("mtime")?, ctime: self.time("ctime")?, ino: self.number("ino")? })
    }
}

/// A decimal number.
pub fn parse_number<T: core::str::FromStr>(word: &[u8]) -> Option<T> {
    core::str::from_utf8(word).ok()?.parse().ok()
}

/// Seconds, a dot, nine digits.
pub fn parse_time(word: &[u8]) -> Option<Time> {
    let dot = word.iter().position(|&c| c == b'.')?;
    let (secs, nanos): (i64, u32) = (parse_number(&word[..dot])?, parse_number(&word[dot + 1..])?);
    if word.len() - dot != 10 {
        return None;
    }
    Some(Time(secs.checked_mul(1_000_000_000)?.checked_add(i64::from(nanos))?))
}
