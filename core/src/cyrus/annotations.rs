//! annotations.db and cyrus.annotations: keys and values (`imap/annotate.c`).
//!
//! The layout of a value is the same from 2.3 on, with a modseq and flags added at its end in 3.2. Lengths and times are C
//! `unsigned long`s that went through `htonl`: 4 bytes on 32-bit hosts, 8 on 64-bit hosts, where the number stands big-endian
//! in the first 4 if the host is little-endian, in the last 4 if it is not, and the others are zero. Which it is shows in the
//! value itself.
//!
//! What must not come in: the database file around the records.

use crate::bytes::{be32, be64};
use crate::error::Damage;
use crate::escape::Shown;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

const OBJECT: &str = "annotations.db";

/// Stands for the owner's userid in keys of 3.6 and later.
pub const OWNER_TOKEN: &[u8] = b"[.OwNeR.]";

/// What a key of annotations.db or cyrus.annotations says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key<'a> {
    /// Global database: the mailbox's uniqueid (3.6 and later) or internal name, empty for the server. Per mailbox: the UID in
    /// decimal.
    pub subject: &'a [u8],
    /// The entry, such as `/comment`.
    pub entry: &'a [u8],
    /// Whose value it is: empty for the shared one, [`OWNER_TOKEN`] or a userid for a private one. `None` in keys without that
    /// field.
    pub userid: Option<&'a [u8]>,
}

impl Key<'_> {
    /// The UID, if the key is of a mailbox's own database.
    pub fn uid(&self) -> Option<u32> {
        core::str::from_utf8(self.subject).ok()?.parse().ok().filter(|&uid| uid != 0)
    }
}

/// Splits a key: *subject* NUL *entry* NUL *userid* NUL. The last NUL may be missing.
pub fn parse_key(key: &[u8]) -> Result<Key<'_>, Damage> {
    let mut fields = key.splitn(3, |&c| c == 0);
    let subject = fields.next().unwrap_or_default();
    let Some(entry) = fields.next() else {
        return Err(Damage::new(OBJECT, key.len() as u64, "key", "end of key", "a NUL behind the mailbox"));
    };
    let userid = fields.next().map(|u| u.strip_suffix(b"\0").unwrap_or(u));
    if userid.is_some_and(|u| u.contains(&0)) {
        return Err(Damage::new(OBJECT, 0, "key", Shown(&key[..key.len().min(256)]), "three fields"));
    }
    Ok(Key { subject, entry, userid })
}

/// The key with these fields, as 3.0 and later write it.
pub fn emit_key(subject: &[u8], entry: &[u8], userid: &[u8]) -> Vec<u8> {
    [subject, b"\0", entry, b"\0", userid, b"\0"].concat()
}

/// The record of an annotation of a mailbox, as 3.2 and later write it on a 64-bit little-endian host
/// (`imap/annotate.c: make_entry`).
pub fn emit_value(value: &[u8]) -> Vec<u8> {
    // Cyrus takes the low 32 bits too; nothing here comes near.
    let len = (value.len() as u32).to_be_bytes();
    [&len, &[0; 4][..], value, b"\0text/plain\0", &[0; 8], &[0; 9]].concat()
}

/// What a value says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Annotation<'a> {
    /// The annotation itself, any bytes.
    pub value: &'a [u8],
    /// Its content type; always `text/plain` from 2.5 on.
    pub content_type: &'a [u8],
    /// When it was set, in seconds since 1970 (2.3 and 2.4); 0 later.
    pub modified_since: u32,
    /// MODSEQ of the change, from 3.2 on; 0 if the value has no such field.
    pub modseq: u64,
    /// A tombstone, from 3.2 on: the annotation does not exist.
    pub deleted: bool,
}

/// Reads a value, whatever version and host wrote it.
pub fn parse_value(value: &[u8]) -> Result<Annotation<'_>, Damage> {
    // A value of a 64-bit host read as of a 32-bit one would begin with four NULs where text (never NUL) or an empty value's
    // NUL and `text/plain` stand; so 64-bit first, and 32-bit if that does not come out even.
    match parse_width(value, 8) {
        Ok(found) => Ok(found),
        Err(damage) => parse_width(value, 4).map_err(|_| damage),
    }
}

fn parse_width(value: &[u8], width: usize) -> Result<Annotation<'_>, Damage> {
    let damage = |at: usize, field, found: String, expected: &str| Damage::new(OBJECT, at as u64, field, found, expected);
    let long = |at: usize, field| -> Result<u32, Damage> {
        let b = value.get(at..at + width).ok_or_else(|| damage(at, field, format!("{} bytes", value.len()), "more bytes"))?;
        match b.split_at(4) {
            (_, []) | (_, [0, 0, 0, 0]) => Ok(be32(b, 0)),
            ([0, 0, 0, 0], _) => Ok(be32(b, 4)),
            _ => Err(damage(at, field, String::from("more than 32 bits"), "a 32-bit number and zeros")),
        }
    };
    let size = long(0, "length of the value")? as usize;
    let rest = &value[width..];
    if size > rest.len() {
        return Err(damage(0, "length of the value", format!("{size}"), "no more than there is"));
    }
    let mut out = Annotation { value: &rest[..size], content_type: b"", modified_since: 0, modseq: 0, deleted: false };
    let mut at = width + size;
    match value.get(at) {
        Some(0) => at += 1,
        Some(c) => return Err(damage(at, "end of the value", format!("byte 0x{c:02x}"), "NUL")),
        None => return Err(damage(at, "end of the value", String::from("end of data"), "NUL")),
    }
    let len = value[at..].iter().position(|&c| c == 0);
    let len = len.ok_or_else(|| damage(at, "content type", String::from("no end"), "NUL"))?;
    out.content_type = &value[at..at + len];
    at += len + 1;
    out.modified_since = long(at, "modified since")?;
    at += width;
    match &value[at..] {
        [] => {}
        tail if tail.len() == 8 || tail.len() == 9 => {
            out.modseq = be64(tail, 0);
            out.deleted = tail.get(8).is_some_and(|flags| flags & 1 != 0);
        }
        tail => return Err(damage(at, "modseq and flags", format!("{} bytes", tail.len()), "0, 8 or 9 bytes")),
    }
    Ok(out)
}

/// Appends what a value says, a line for each field, for people.
pub fn describe_value(value: &[u8], out: &mut String) {
    // Writing to a String cannot fail.
    let _ = match parse_value(value) {
        Err(damage) => writeln!(out, "damaged: {damage}"),
        Ok(a) => writeln!(
            out,
            "value: {}\ncontent type: {}\nmodified since: {}\nmodseq: {}{}",
            Shown(a.value),
            Shown(a.content_type),
            a.modified_since,
            a.modseq,
            if a.deleted { "\ndeleted" } else { "" }
        ),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    const GLOBAL: &[u8] = include_bytes!("../../../tests/data/cyrus/names/annotations-3.6.1.txt");
    const MAILBOX: &[u8] = include_bytes!("../../../tests/data/cyrus/names/mailbox-annotations-3.6.1.txt");

    fn records(dump: &'static [u8]) -> Vec<(Key<'static>, Annotation<'static>)> {
        let lines = dump.split(|&c| c == b'\n').filter(|l| !l.is_empty());
        lines
            .map(|line| {
                let tab = line.iter().position(|&c| c == b'\t').unwrap();
                (parse_key(&line[..tab]).unwrap(), parse_value(&line[tab + 1..]).unwrap())
            })
            .collect()
    }

    #[test]
    fn the_global_database_of_a_real_server() {
        let all = records(GLOBAL);
        assert_eq!(all.len(), 6);
        let (key, value) = all[3];
        assert_eq!(key, Key { subject: b"6clzfn0mjgzuni99cnt48ie7", entry: b"/specialuse", userid: Some(OWNER_TOKEN) });
        assert_eq!(
            (value.value, value.content_type, value.modseq, value.deleted),
            (&b"\\Sent"[..], &b"text/plain"[..], 0, false)
        );
        assert_eq!(all[0].0.userid, Some(&b""[..]));
        assert_eq!(all[0].1.value, b"folder comment shared");
        assert_eq!(all[2].1.value, b"x");
        assert_eq!(key.uid(), None);
    }

    #[test]
    fn records_of_a_real_server_are_written_as_it_wrote_them() {
        let lines = GLOBAL.split(|&c| c == b'\n').filter(|l| !l.is_empty());
        for (line, (key, value)) in lines.zip(records(GLOBAL)) {
            let written = [emit_key(key.subject, key.entry, key.userid.unwrap()), emit_value(value.value)];
            assert_eq!(written.join(&b'\t'), line);
        }
    }

    #[test]
    fn the_database_of_a_real_mailbox() {
        let found: Vec<_> = records(MAILBOX).iter().map(|(k, v)| (k.uid(), k.entry, k.userid, v.value, v.modseq)).collect();
        let (comment, owner) = (&b"/comment"[..], Some(OWNER_TOKEN));
        assert_eq!(found[0], (Some(2), comment, Some(&b""[..]), &b"shared note on two"[..], 92));
        assert_eq!(found[1], (Some(2), comment, owner, &b"private note on two"[..], 90));
        assert_eq!(found[2], (Some(5), &b"/altsubject"[..], Some(&b""[..]), &b"other subject"[..], 94));
    }

    /// A value as `make_entry` and `write_entry` of each version lay it out; a `width` of 64 is a big-endian host of 64 bits.
    fn made(width: usize, value: &[u8], since: u32, tail: &[u8]) -> Vec<u8> {
        let long = |n: u32| match width {
            4 => n.to_be_bytes().to_vec(),
            8 => u64::from(n).to_be_bytes().into_iter().cycle().skip(4).take(8).collect(),
            _ => u64::from(n).to_be_bytes().to_vec(),
        };
        [&long(value.len() as u32), value, b"\0text/plain\0", &long(since), tail].concat()
    }

    #[test]
    fn every_version_on_every_kind_of_host() {
        let values: [&[u8]; 6] = [b"", b"x", b"\0", b"\0\0\0\0\0", b"with\0nul", b"text/plain\0"];
        for width in [4, 8, 64] {
            for value in values {
                for (tail, modseq, deleted) in [
                    (&b""[..], 0, false),
                    (&b"\0\0\0\0\0\0\x01\x02"[..], 258, false),
                    (&b"\0\0\0\0\0\0\0\x07\x00"[..], 7, false),
                    (&b"\0\0\0\0\0\0\0\x07\x01"[..], 7, true),
                ] {
                    let raw = made(width, value, 1_100_000_000, tail);
                    let a = parse_value(&raw).unwrap();
                    let expected = (value, &b"text/plain"[..], 1_100_000_000, modseq, deleted);
                    assert_eq!(
                        (a.value, a.content_type, a.modified_since, a.modseq, a.deleted),
                        expected,
                        "{width} {value:?} {tail:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn damage_is_reported() {
        let whole = made(8, b"value", 0, b"\0\0\0\0\0\0\0\x07\0");
        for len in 0..whole.len() {
            let short = parse_value(&whole[..len]);
            // Cut behind `modified since` or behind the modseq it is what an earlier version wrote.
            assert_eq!(short.is_ok(), [33, 41].contains(&len), "{len} {short:?}");
        }
        assert!(parse_value(&[0xFF; 40]).is_err());
        assert!(parse_key(b"abc").is_err());
        assert!(parse_key(b"").is_err());
        assert!(parse_key(b"a\0b\0c\0d\0").is_err());
        assert_eq!(parse_key(b"\0/motd\0").unwrap(), Key { subject: b"", entry: b"/motd", userid: Some(b"") });
        assert_eq!(parse_key(b"a\0/motd").unwrap().userid, None);
        let mut text = String::new();
        describe_value(b"\0\0", &mut text);
        assert!(text.starts_with("damaged: annotations.db: length of the value at offset 0"), "{text}");
    }

    #[test]
    fn a_description_for_people() {
        let mut text = String::new();
        describe_value(&made(8, b"a\x1b", 0, b"\0\0\0\0\0\0\0\x07\x01"), &mut text);
        assert_eq!(text, "value: a\\x1b\ncontent type: text/plain\nmodified since: 0\nmodseq: 7\ndeleted\n");
    }
}
