//! `mailbox_annotations`: the records of annotations.db that belong to one folder, as the JSON of the stock dialect.
//!
//! Cyrus 3.13 writes a record of a folder with nothing in it but entry, userid and value (`imap/annotate.c: write_entry`), so
//! the JSON has all of it, and a record made from it is, to the byte, the one of a 64-bit little-endian host. Only values that
//! are not UTF-8 or have a NUL in them do not survive a stock server.
//!
//! What must not come in: other JSON.

use crate::cyrus::annotations::{self as records, OWNER_TOKEN};
use crate::cyrus::db::{Entry, flat};
use crate::error::Damage;
use crate::escape::Shown;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{Display, Write as _};

/// The name of the file in requests and answers.
pub const NAME: &str = "mailbox_annotations";
/// The most bytes of the JSON of one folder.
pub const JSON_MAX: u64 = 64 << 20;
/// The most annotations of one folder.
pub const ANNOTATIONS_MAX: usize = 100_000;

/// The JSON of a folder of the user `owner`, from lines as the archive has them. `None` if there is nothing to show.
pub fn to_json(lines: &[u8], owner: &[u8]) -> Result<Option<Vec<u8>>, Damage> {
    let mut entries = flat::parse(lines)?;
    // Back from the order of the lines to that of the database.
    entries.sort();
    let mut out = String::new();
    for (key, value) in &entries {
        let (key, value) = (records::parse_key(key)?, records::parse_value(value)?);
        if value.deleted || value.value.is_empty() {
            continue;
        }
        let userid = match key.userid.unwrap_or_default() {
            OWNER_TOKEN => owner,
            other => other,
        };
        out.push_str(if out.is_empty() { "[\n  [\n" } else { ",\n  [\n" });
        for (text, end) in [(key.entry, ",\n"), (userid, ",\n"), (value.value, "\n")] {
            out.push_str("    ");
            push_string(&mut out, text);
            out.push_str(end);
        }
        out.push_str("  ]");
    }
    if out.is_empty() {
        return Ok(None);
    }
    out.push_str("\n]");
    Ok(Some(out.into_bytes()))
}

/// The number that stands where other files have their inode: it shows a change that leaves the size alone.
pub fn inode(json: &[u8]) -> u64 {
    let [a, b, c, ..] = crate::guid::Guid::of(json).0;
    u64::from(u32::from_le_bytes([a, b, c, 0]))
}

/// Lines as the archive has them, from the JSON of the folder with this uniqueid, which is of the user `owner`.
pub fn from_json(json: &[u8], uniqueid: &[u8], owner: &[u8]) -> Result<Vec<u8>, Damage> {
    let mut entries: Vec<Entry> = Vec::new();
    for [entry, userid, value] in parse(json)? {
        let userid = if !userid.is_empty() && userid == owner { OWNER_TOKEN } else { &userid };
        let key = records::emit_key(uniqueid, &entry, userid);
        if entry.contains(&0) || userid.contains(&0) {
            return Err(Damage::new(NAME, 0, "entry", Shown(&key[..key.len().min(256)]), "a name without NUL"));
        }
        entries.push((key, records::emit_value(&value)));
    }
    entries.sort();
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Damage::new(NAME, 0, "entry", Shown(&pair[0].0[..pair[0].0.len().min(256)]), "each entry once"));
    }
    Ok(flat::emit(&entries))
}

/// Appends a JSON string; what is no UTF-8 is replaced.
pub(crate) fn push_string(out: &mut String, text: &[u8]) {
    out.push('"');
    for c in String::from_utf8_lossy(text).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            // Writing to a String cannot fail.
            c if c < ' ' => drop(write!(out, "\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn parse(json: &[u8]) -> Result<Vec<[Vec<u8>; 3]>, Damage> {
    let mut text = Text { json, at: 0 };
    let mut all = Vec::new();
    text.expect(b'[')?;
    if text.take(b']') {
        return text.end(all);
    }
    loop {
        if all.len() == ANNOTATIONS_MAX {
            return Err(text.damage("array", "one more", format!("at most {ANNOTATIONS_MAX} annotations")));
        }
        all.push(text.triple()?);
        if !text.take(b',') {
            text.expect(b']')?;
            return text.end(all);
        }
    }
}

/// A place in the JSON.
struct Text<'a> {
    json: &'a [u8],
    at: usize,
}

impl Text<'_> {
    fn damage(&self, field: &'static str, found: impl Display, expected: impl Display) -> Damage {
        Damage::new(NAME, self.at as u64, field, found, expected)
    }

    fn found(&self) -> String {
        match self.json.get(self.at) {
            Some(b) => format!("`{}`", Shown(&[*b])),
            None => String::from("the end"),
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.json.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, wanted: u8) -> bool {
        self.skip_space();
        let found = self.json.get(self.at) == Some(&wanted);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, wanted: u8) -> Result<(), Damage> {
        if self.take(wanted) {
            return Ok(());
        }
        Err(self.damage("JSON", self.found(), format!("`{}`", char::from(wanted))))
    }

    fn end<T>(mut self, value: T) -> Result<T, Damage> {
        self.skip_space();
        if self.at == self.json.len() { Ok(value) } else { Err(self.damage("JSON", self.found(), "the end")) }
    }

    fn triple(&mut self) -> Result<[Vec<u8>; 3], Damage> {
        self.expect(b'[')?;
        let entry = self.string()?;
        self.expect(b',')?;
        let userid = self.string()?;
        self.expect(b',')?;
        let value = self.string()?;
        self.expect(b']')?;
        Ok([entry, userid, value])
    }

    fn string(&mut self) -> Result<Vec<u8>, Damage> {
        self.expect(b'"')?;
        let mut out = Vec::new();
        loop {
            let rest = &self.json[self.at..];
            let plain = rest.iter().position(|&b| b == b'"' || b == b'\\' || b < b' ').unwrap_or(rest.len());
            out.extend_from_slice(&rest[..plain]);
            self.at += plain;
            match self.json.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    break;
                }
                Some(b'\\') => self.escape(&mut out)?,
                _ => return Err(self.damage("string", self.found(), "no control byte, and a `\"` at the end")),
            }
        }
        match core::str::from_utf8(&out) {
            Ok(_) => Ok(out),
            Err(_) => Err(self.damage("string", "bytes that are not UTF-8 before here", "UTF-8")),
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), Damage> {
        let simple = match self.json.get(self.at + 1) {
            Some(&c @ (b'"' | b'\\' | b'/')) => c,
            Some(b'b') => 8,
            Some(b'f') => 12,
            Some(b'n') => b'\n',
            Some(b'r') => b'\r',
            Some(b't') => b'\t',
            Some(b'u') => return self.unicode(out),
            _ => return Err(self.damage("string", "an escape that there is not", "an escape of JSON")),
        };
        out.push(simple);
        self.at += 2;
        Ok(())
    }

    /// `\uXXXX`, or two of them for a character beyond 16 bits.
    fn unicode(&mut self, out: &mut Vec<u8>) -> Result<(), Damage> {
        let unit = |at: usize| -> Option<u32> {
            let digits = self.json.get(at..at + 6)?.strip_prefix(b"\\u")?;
            digits.iter().try_fold(0, |n, &d| Some(n * 16 + char::from(d).to_digit(16)?))
        };
        let (code, len) = match (unit(self.at), unit(self.at + 6)) {
            (Some(high @ 0xD800..=0xDBFF), Some(low @ 0xDC00..=0xDFFF)) => {
                (Some(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), 12)
            }
            (code, _) => (code, 6),
        };
        let Some(c) = code.and_then(char::from_u32) else {
            return Err(self.damage("string", "an escape that is no character", "four hexadecimal digits"));
        };
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        self.at += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    const FMETA: &[u8] = include_bytes!("../../../tests/data/transcripts/fmeta-files.s2c");
    const DUMP: &[u8] = include_bytes!("../../../tests/data/cyrus/names/annotations-3.6.1.txt");
    const WORK: &[u8] = b"bc2725f1-bde3-443d-9156-ea66ff1cb121";

    /// What stands in a recording, and its SHA-1 there.
    fn recorded() -> (&'static [u8], &'static str) {
        let head = b"DATA mailbox_annotations 61 0 64787\n";
        let at = FMETA.windows(head.len()).position(|w| w == head).unwrap() + head.len();
        (&FMETA[at..at + 61], "13fd31c4d9fb0261e22f6e460e7c4ea3a37cea0b")
    }

    #[test]
    fn what_a_real_server_sent_goes_into_lines_and_back() {
        let (json, sha1) = recorded();
        assert_eq!(crate::guid::Guid::of(json).to_hex(), sha1);
        // The recorded server shows the low 16 bits.
        assert_eq!((inode(json), inode(json) & 0xFFFF), (0x31_FD13, 64787));
        let lines = from_json(json, WORK, b"alice").unwrap();
        let entries = flat::parse(&lines).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].0, [WORK, b"\0/comment\0[.OwNeR.]\0"].concat());
        assert_eq!(records::parse_value(&entries[0].1).unwrap().value, b"my work folder");
        assert_eq!(to_json(&lines, b"alice").unwrap().as_deref(), Some(json));
    }

    /// The records of each folder of a real 3.6.1 come back from the JSON to the byte.
    #[test]
    fn records_of_a_real_server_survive() {
        let mut folders: Vec<(&[u8], Vec<Entry>)> = Vec::new();
        for line in DUMP.split(|&c| c == b'\n').filter(|l| !l.is_empty()) {
            let tab = line.iter().position(|&c| c == b'\t').unwrap();
            let id = records::parse_key(&line[..tab]).unwrap().subject;
            let entry = (line[..tab].to_vec(), line[tab + 1..].to_vec());
            match folders.last_mut() {
                Some((last, entries)) if *last == id => entries.push(entry),
                _ => folders.push((id, alloc::vec![entry])),
            }
        }
        assert_eq!(folders.len(), 4);
        for (id, entries) in folders {
            let lines = flat::emit(&entries);
            let json = to_json(&lines, b"anna").unwrap().unwrap();
            assert_eq!(from_json(&json, id, b"anna").unwrap(), lines);
        }
    }

    fn line(entry: &str, userid: &str, value: &[u8]) -> Entry {
        (records::emit_key(b"id", entry.as_bytes(), userid.as_bytes()), records::emit_value(value))
    }

    #[test]
    fn any_text_survives_and_other_bytes_become_a_mark() {
        let text = "quote \" back \\ slash / line\r\ntab\t\u{8}\u{c}\u{1}\u{0}\u{7f} caf\u{e9} \u{1f600}";
        let lines = flat::emit(&[line("/comment", "", text.as_bytes()), line("/comment", "bob", b"x")]);
        let json = to_json(&lines, b"anna").unwrap().unwrap();
        assert!(json.windows(6).any(|w| w == b"\\u0001") && json.windows(6).any(|w| w == b"\\u0000"));
        assert_eq!(from_json(&json, b"id", b"anna").unwrap(), lines);
        let lines = flat::emit(&[line("/comment", "", b"caf\xe9")]);
        let json = String::from_utf8(to_json(&lines, b"anna").unwrap().unwrap()).unwrap();
        assert!(json.contains("\"caf\u{fffd}\""), "{json}");
    }

    #[test]
    fn entries_stand_in_the_order_of_the_database() {
        // In the lines NUL is 0xFF and 0x80, and comes last.
        let lines = flat::emit(&[line("/a", "", b"1"), line("/ab", "", b"2"), line("/a", "bob", b"3")]);
        let json = String::from_utf8(to_json(&lines, b"anna").unwrap().unwrap()).unwrap();
        let order: Vec<_> = ["\"1\"", "\"3\"", "\"2\""].iter().map(|v| json.find(v).unwrap()).collect();
        assert!(order.is_sorted(), "{json}");
    }

    #[test]
    fn nothing_to_show_is_no_file() {
        assert_eq!(to_json(b"", b"anna").unwrap(), None);
        assert_eq!(to_json(&flat::emit(&[line("/comment", "", b"")]), b"anna").unwrap(), None);
        assert_eq!(from_json(b" [ ] ", b"id", b"anna").unwrap(), b"");
    }

    #[test]
    fn escapes_of_every_kind_are_read() {
        let json = br#"[["\/comment","","a\/b\b\f\n\r\t\u00e9\uD83D\ude00"]]"#;
        let entries = flat::parse(&from_json(json, b"id", b"anna").unwrap()).unwrap();
        let value = records::parse_value(&entries[0].1).unwrap().value.to_vec();
        assert_eq!(String::from_utf8(value).unwrap(), "a/b\u{8}\u{c}\n\r\t\u{e9}\u{1f600}");
    }

    #[test]
    fn what_is_not_such_json_is_refused() {
        for json in [
            &b""[..],
            b"{}",
            b"[",
            b"[[]]",
            b"[[\"a\",\"b\"]]",
            b"[[\"a\",\"b\",\"c\",\"d\"]]",
            b"[[\"a\",\"b\",1]]",
            b"[[\"a\",\"b\",\"c\"],]",
            b"[[\"a\",\"b\",\"c\"]] x",
            b"[[\"a\",\"b\",\"c]]",
            b"[[\"a\",\"b\",\"\n\"]]",
            b"[[\"a\",\"b\",\"\\x\"]]",
            b"[[\"a\",\"b\",\"\\ud800\"]]",
            b"[[\"a\",\"b\",\"\\u12\"]]",
            b"[[\"a\",\"b\",\"\\u+123\"]]",
            b"[[\"a\",\"b\",\"\xff\"]]",
            b"[[\"a\",\"b\\u0000c\",\"x\"]]",
            b"[[\"a\",\"b\",\"1\"],[\"a\",\"b\",\"2\"]]",
        ] {
            let result = from_json(json, b"id", b"anna");
            assert!(result.is_err(), "{}", Shown(json));
        }
        let error = from_json(b"[[\"a\",\"b\",1]]", b"id", b"anna").unwrap_err();
        assert_eq!(error.to_string(), "mailbox_annotations: JSON at offset 10: found `1`, expected `\"`");
        let (json, _) = recorded();
        for len in 0..json.len() {
            assert!(from_json(&json[..len], WORK, b"alice").is_err(), "{len}");
        }
    }

    #[test]
    fn more_annotations_than_the_limit_are_refused() {
        let mut json = String::from("[");
        for n in 0..=ANNOTATIONS_MAX {
            json.push_str(&format!("[\"/{n}\",\"\",\"x\"],"));
        }
        json.pop();
        json.push(']');
        assert!(from_json(json.as_bytes(), b"id", b"anna").is_err());
    }
}
