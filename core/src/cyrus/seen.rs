//! The seen database: what a user has seen of a mailbox (`imap/seen_db.c`).
//!
//! The key is the mailbox's uniqueid, the value `1 <lastread> <lastuid> <lastchange> <sequence>`, the same in all versions. For
//! owners it counts up to 2.3 only: from index version 12 on their `\Seen` is in cyrus.index.
//!
//! What must not come in: the database file around the records.

use crate::error::Damage;
use crate::escape::Shown;
use crate::time::{Civil, Time};
use alloc::format;
use alloc::vec::Vec;
use core::fmt;

const OBJECT: &str = "seen";
const VERSION: i64 = 1;

/// What a user has seen of one mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen<'a> {
    /// When the user selected the mailbox last, in seconds since 1970.
    pub lastread: i64,
    /// The greatest UID that the user has been shown: later ones are `\Recent`.
    pub lastuid: u32,
    /// When the sequence changed last, in seconds since 1970.
    pub lastchange: i64,
    /// UIDs with `\Seen`, such as `1:5,7`; may be empty.
    pub sequence: &'a [u8],
}

/// Reads a value. Damage for another version, what is not a number, and a sequence that is none.
pub fn parse(value: &[u8]) -> Result<Seen<'_>, Damage> {
    let mut rest = value;
    let version = number(value, &mut rest, "version")?;
    if version != VERSION {
        return Err(Damage::new(OBJECT, 0, "version", version, VERSION));
    }
    let lastread = number(value, &mut rest, "last read")?;
    let at = value.len() - rest.len();
    let lastuid = number(value, &mut rest, "last uid")?;
    let lastuid = u32::try_from(lastuid).map_err(|_| Damage::new(OBJECT, at as u64, "last uid", lastuid, "a UID"))?;
    let lastchange = number(value, &mut rest, "last change")?;
    let sequence = rest.trim_ascii_start();
    if let Some(bad) = split(sequence).find(|part| range(part).is_none()) {
        let found = format!("`{}`", Shown(&bad[..bad.len().min(80)]));
        return Err(Damage::new(OBJECT, (value.len() - sequence.len()) as u64, "sequence", found, "a UID or a range"));
    }
    Ok(Seen { lastread, lastuid, lastchange, sequence })
}

/// The decimal number at the start of `rest`, which is a tail of `value`, behind any blanks.
fn number(value: &[u8], rest: &mut &[u8], field: &'static str) -> Result<i64, Damage> {
    let tail = rest.trim_ascii_start();
    let (word, behind) = tail.split_at(tail.iter().position(u8::is_ascii_whitespace).unwrap_or(tail.len()));
    *rest = behind;
    let n = core::str::from_utf8(word).ok().and_then(|w| w.parse().ok());
    n.ok_or_else(|| {
        let found = format!("`{}`", Shown(&word[..word.len().min(80)]));
        Damage::new(OBJECT, (value.len() - tail.len()) as u64, field, found, "a number")
    })
}

fn split(sequence: &[u8]) -> impl Iterator<Item = &[u8]> {
    // An empty sequence has no parts; split() would give it one.
    sequence.split(|&c| c == b',').take(if sequence.is_empty() { 0 } else { usize::MAX })
}

/// `n` or `n:m`, in either order; `*` stands for the greatest of all.
fn range(part: &[u8]) -> Option<(u32, u32)> {
    let uid = |s: &[u8]| match s {
        b"*" => Some(u32::MAX),
        [b'1'..=b'9', ..] => core::str::from_utf8(s).ok()?.parse().ok(),
        _ => None,
    };
    let mut ends = part.splitn(2, |&c| c == b':');
    let first = uid(ends.next()?)?;
    let last = ends.next().map_or(Some(first), uid)?;
    Some((first.min(last), first.max(last)))
}

impl Seen<'_> {
    /// The ranges of the sequence, first and last UID of each, in the order in which they stand.
    pub fn ranges(&self) -> impl Iterator<Item = (u32, u32)> {
        split(self.sequence).filter_map(range)
    }

    /// True if the message has been seen. Takes time in proportion to the length of the sequence.
    pub fn has_seen(&self, uid: u32) -> bool {
        self.ranges().any(|(first, last)| (first..=last).contains(&uid))
    }

    /// The value as Cyrus writes it.
    pub fn emit(&self) -> Vec<u8> {
        let mut out = format!("{VERSION} {} {} {} ", self.lastread, self.lastuid, self.lastchange).into_bytes();
        out.extend_from_slice(self.sequence);
        out
    }
}

/// Writes what a value says, a line for each field, for people.
pub fn describe(value: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
    let seen = match parse(value) {
        Ok(seen) => seen,
        Err(damage) => return writeln!(out, "damaged: {damage}"),
    };
    let date = |secs| Civil::from_time(Time::from_secs(secs));
    writeln!(out, "last read: {} ({})", seen.lastread, date(seen.lastread))?;
    writeln!(out, "last uid: {}", seen.lastuid)?;
    writeln!(out, "last change: {} ({})", seen.lastchange, date(seen.lastchange))?;
    writeln!(out, "seen: {}", Shown(seen.sequence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    /// Both records of a user of 3.6.1, one with an empty sequence.
    const REAL: [&[u8]; 2] = [b"1 1795456605 1 1795456540 ", b"1 1795456811 5 1795456811 3"];

    #[test]
    fn real_values_round_trip() {
        for value in REAL {
            assert_eq!(parse(value).unwrap().emit(), value);
        }
        let seen = parse(REAL[1]).unwrap();
        assert_eq!((seen.lastread, seen.lastuid, seen.lastchange), (1_795_456_811, 5, 1_795_456_811));
        assert_eq!(seen.ranges().collect::<Vec<_>>(), [(3, 3)]);
        assert_eq!(parse(REAL[0]).unwrap().ranges().count(), 0);
    }

    #[test]
    fn sequences() {
        let seen = parse(b"1 0 9 0 1:3,5,9:7,4294967295").unwrap();
        let found: Vec<u32> = (1..=10).filter(|&uid| seen.has_seen(uid)).collect();
        assert_eq!(found, [1, 2, 3, 5, 7, 8, 9]);
        assert!(seen.has_seen(u32::MAX));
        assert!(parse(b"1 0 9 0 5:*").unwrap().has_seen(6));
    }

    #[test]
    fn damage_is_reported() {
        let bad = [
            &b""[..],
            b"1",
            b"1 2 3",
            b"2 0 0 0 ",
            b"1 x 0 0 ",
            b"1 0 -1 0 ",
            b"1 0 4294967296 0 ",
            b"1 0 0 0 0",
            b"1 0 0 0 1,",
            b"1 0 0 0 1,,2",
            b"1 0 0 0 1:",
            b"1 0 0 0 1:2:3",
            b"1 0 0 0 1 2",
            b"1 0 0 0 4294967296",
            b"1 0 0 0 \xff",
        ];
        for value in bad {
            let mut text = String::new();
            describe(value, &mut text).unwrap();
            assert!(text.starts_with("damaged: seen: "), "{} {text}", Shown(value));
        }
        assert_eq!(parse(b"1 0 0 0 1,x").unwrap_err().offset, 8);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let value = b"1 1795456811 5 1795456811 1:3,5";
        for at in 0..value.len() {
            let _ = parse(&value[..at]);
            for c in 0..=255 {
                let mut bad = value.to_vec();
                bad[at] = c;
                if let Ok(seen) = parse(&bad) {
                    assert_eq!(parse(&seen.emit()), Ok(seen));
                }
            }
        }
    }

    #[test]
    fn a_description_for_people() {
        let mut text = String::new();
        describe(b"1 1795456811 5 0 1:2,4", &mut text).unwrap();
        assert_eq!(
            text,
            "last read: 1795456811 (2026-11-23 18:00:11Z)\nlast uid: 5\nlast change: 0 (1970-01-01 00:00:00Z)\nseen: 1:2,4\n"
        );
    }
}
