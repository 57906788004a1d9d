//! cyrus.header: quota root, uniqueid, names of user flags and a copy of the ACL (`imap/mailbox.c: mailbox_read_header`).
//!
//! Three lines of text up to 3.4, one line of dlist from 3.6 on, behind the same magic. Any server from 3.6 on reads both.
//!
//! What must not come in: cyrus.index, which refers to the flags by their place here, and mailboxes.db, whose ACL counts.

use super::dlist::{self, Value};
use super::index::USER_FLAGS_MAX;
use super::mailboxes::{Acl, MbType, parse_acl};
use crate::error::Damage;
use crate::escape::{Shown, shown};
use alloc::format;
use alloc::vec::Vec;
use core::fmt;

const OBJECT: &str = "cyrus.header";

/// What every file begins with, up to and including the third line end.
pub const MAGIC: &[u8] = b"\xa1\x02\x8b\x0dCyrus mailbox header\n\
    \"The best thing about this system was that it had lots of goals.\"\n\
    \t--Jim Morris on Andrew\n";
/// The part of the magic that must be there; the two lines of prose may be others.
const MAGIC_LEN: usize = 24;

/// How a file is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Form {
    /// Three lines of text: 2.3 to 3.4.
    #[default]
    Text,
    /// A dlist without `J`: 3.6 to 3.12.
    Dlist,
    /// A dlist with `J` in any case, as `NIL` if there is no JMAP id: 3.13.
    DlistWithJmapid,
}

/// The contents of a cyrus.header.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// The quota root that counts for the mailbox, by its internal name.
    pub quotaroot: Option<Vec<u8>>,
    /// The mailbox's uniqueid. Empty only in text files from before 2.1, which have none.
    pub uniqueid: Vec<u8>,
    /// Names of user flags by number; `None` where a flag has been removed. At most [`USER_FLAGS_MAX`].
    pub user_flags: Vec<Option<Vec<u8>>>,
    /// Identifiers and rights.
    pub acl: Acl,
    /// Internal name (dlist only).
    pub name: Option<Vec<u8>>,
    /// Type (dlist only).
    pub mbtype: Option<MbType>,
    /// JMAP id ([`Form::DlistWithJmapid`] only).
    pub jmapid: Option<Vec<u8>>,
    /// How it is laid out.
    pub form: Form,
}

/// Reads a file of any version. What follows the last field is not looked at, nor are keys of later versions.
pub fn parse(bytes: &[u8]) -> Result<Header, Damage> {
    if bytes.get(..MAGIC_LEN) != Some(&MAGIC[..MAGIC_LEN]) {
        let found = format!("`{}`", Shown(&bytes[..bytes.len().min(MAGIC_LEN)]));
        return Err(Damage::new(OBJECT, 0, "magic", found, "a line that ends in `Cyrus mailbox header`"));
    }
    let mut lines = Lines { bytes, at: 0 };
    for _ in 0..3 {
        lines.next("magic")?;
    }
    match bytes.get(lines.at) {
        Some(b'%') => parse_dlist(&mut lines),
        _ => parse_text(&mut lines),
    }
}

/// Lines that end in LF, and where they stand.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self, field: &'static str) -> Result<&'a [u8], Damage> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&c| c == b'\n');
        let len = len.ok_or_else(|| Damage::new(OBJECT, self.bytes.len() as u64, field, "end of file", "a line end"))?;
        self.at += len + 1;
        Ok(&rest[..len])
    }
}

fn parse_text(lines: &mut Lines<'_>) -> Result<Header, Damage> {
    let at = lines.at as u64;
    let mut words = lines.next("quota root")?.split(|&c| c == b'\t');
    let quotaroot = words.next().filter(|root| !root.is_empty()).map(<[u8]>::to_vec);
    let uniqueid = words.next().map(<[u8]>::to_vec);
    if uniqueid.as_ref().is_some_and(Vec::is_empty) {
        return Err(Damage::new(OBJECT, at, "uniqueid", "nothing", "an identifier behind the TAB"));
    }
    let at = lines.at as u64;
    let mut names: Vec<&[u8]> = lines.next("user flags")?.split(|&c| c == b' ').take(USER_FLAGS_MAX + 2).collect();
    // A blank stands behind each name, the last one too.
    names.pop_if(|last| last.is_empty());
    check_count(names.len(), at)?;
    Ok(Header {
        quotaroot,
        uniqueid: uniqueid.unwrap_or_default(),
        user_flags: names.into_iter().map(|name| Some(name).filter(|n| !n.is_empty()).map(<[u8]>::to_vec)).collect(),
        acl: parse_acl(lines.next("ACL")?),
        form: Form::Text,
        ..Header::default()
    })
}

fn check_count(flags: usize, at: u64) -> Result<(), Damage> {
    if flags > USER_FLAGS_MAX {
        return Err(Damage::new(OBJECT, at, "user flags", format!("{flags} or more"), format!("at most {USER_FLAGS_MAX}")));
    }
    Ok(())
}

fn parse_dlist(lines: &mut Lines<'_>) -> Result<Header, Damage> {
    let at = lines.at as u64;
    // Not the line: what cannot be in quotes, line ends too, stands in literals.
    let (v, _) = dlist::parse(OBJECT, at, &lines.bytes[lines.at..])?;
    let text = |key: &'static str| match v.get(key) {
        None | Some(Value::Nil) => Ok(None),
        Some(Value::Text(t)) => Ok(Some(t.clone())),
        Some(_) => Err(Damage::new(OBJECT, at, key, "a list", "text")),
    };
    let uniqueid = text("I")?.filter(|id| !id.is_empty());
    let flags = match v.get("U") {
        None | Some(Value::Nil) => &[],
        Some(flags) => flags.list().ok_or_else(|| Damage::new(OBJECT, at, "U", "no list", "a list of flags"))?,
    };
    check_count(flags.len(), at)?;
    let acl = match v.get("A") {
        None | Some(Value::Nil) => &[],
        Some(acl) => acl.pairs().ok_or_else(|| Damage::new(OBJECT, at, "A", "no pairs", "identifiers and rights"))?,
    };
    Ok(Header {
        quotaroot: text("Q")?,
        uniqueid: uniqueid.ok_or_else(|| Damage::new(OBJECT, at, "I", "nothing", "a uniqueid"))?,
        user_flags: flags.iter().map(|flag| flag_name(flag, at)).collect::<Result<_, _>>()?,
        acl: acl.iter().map(|pair| right(pair, at)).collect::<Result<_, _>>()?,
        name: text("N")?,
        mbtype: text("T")?.map(|letters| MbType::from_letters(&letters)),
        jmapid: text("J")?,
        form: if v.get("J").is_some() { Form::DlistWithJmapid } else { Form::Dlist },
    })
}

fn flag_name(flag: &Value, at: u64) -> Result<Option<Vec<u8>>, Damage> {
    match flag {
        Value::Nil => Ok(None),
        Value::Text(name) => Ok(Some(name.clone())),
        _ => Err(Damage::new(OBJECT, at, "U", "a list", "the name of a flag")),
    }
}

fn right((id, rights): &(Vec<u8>, Value), at: u64) -> Result<(Vec<u8>, Vec<u8>), Damage> {
    let rights = rights.text().ok_or_else(|| Damage::new(OBJECT, at, "A", "no text", "rights"))?;
    Ok((id.clone(), rights.to_vec()))
}

impl Header {
    /// The file, laid out as `form` says. The text form has no place for name, type and JMAP id.
    ///
    /// Damage if a value cannot stand in that form: more flags than [`USER_FLAGS_MAX`], NUL anywhere, a line end or a separator
    /// in a text line. A removed flag is an empty name in the text form, which Cyrus reads but does not write itself: it closes
    /// the gap, after which the bits in cyrus.index mean other flags.
    pub fn emit(&self) -> Result<Vec<u8>, Damage> {
        check_count(self.user_flags.len(), MAGIC.len() as u64)?;
        let mut out = MAGIC.to_vec();
        match self.form {
            Form::Text => self.emit_text(&mut out)?,
            Form::Dlist | Form::DlistWithJmapid => self.emit_dlist(&mut out)?,
        }
        out.push(b'\n');
        Ok(out)
    }

    fn emit_text(&self, out: &mut Vec<u8>) -> Result<(), Damage> {
        if let Some(root) = &self.quotaroot {
            put(out, "quota root", root, b"\0\n\t")?;
        }
        if !self.uniqueid.is_empty() {
            out.push(b'\t');
            put(out, "uniqueid", &self.uniqueid, b"\0\n\t")?;
        }
        out.push(b'\n');
        for name in &self.user_flags {
            put(out, "user flag", name.as_deref().unwrap_or_default(), b"\0\n ")?;
            out.push(b' ');
        }
        out.push(b'\n');
        for word in self.acl.iter().flat_map(|(id, rights)| [id, rights]) {
            put(out, "ACL", word, b"\0\n\t")?;
            out.push(b'\t');
        }
        Ok(())
    }

    fn emit_dlist(&self, out: &mut Vec<u8>) -> Result<(), Damage> {
        let letters = self.mbtype.map(MbType::letters);
        let jmapid = (self.form == Form::DlistWithJmapid).then_some(self.jmapid.as_ref());
        let mut pairs: Vec<(Vec<u8>, Value)> = Vec::new();
        let texts = [
            ("T", letters.as_ref().map(Some)),
            ("N", self.name.as_ref().map(Some)),
            ("I", Some(Some(&self.uniqueid))),
            ("J", jmapid),
            ("Q", self.quotaroot.as_ref().map(Some)),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                pairs.push((key.into(), text_value(key, value)?));
            }
        }
        let acl = self.acl.iter().map(|(id, rights)| {
            check("A", id, b"\0")?;
            Ok((id.clone(), text_value("A", Some(rights))?))
        });
        pairs.push((b"A".to_vec(), Value::Pairs(acl.collect::<Result<_, Damage>>()?)));
        if self.user_flags.iter().any(Option::is_some) {
            let flags = self.user_flags.iter().map(|name| text_value("U", name.as_ref()));
            pairs.push((b"U".to_vec(), Value::List(flags.collect::<Result<_, Damage>>()?)));
        }
        dlist::emit(&Value::Pairs(pairs), out);
        Ok(())
    }
}

fn text_value(key: &'static str, text: Option<&Vec<u8>>) -> Result<Value, Damage> {
    let Some(text) = text else { return Ok(Value::Nil) };
    check(key, text, b"\0")?;
    Ok(Value::Text(text.clone()))
}

fn put(out: &mut Vec<u8>, field: &'static str, value: &[u8], forbidden: &[u8]) -> Result<(), Damage> {
    check(field, value, forbidden)?;
    out.extend_from_slice(value);
    Ok(())
}

fn check(field: &'static str, value: &[u8], forbidden: &[u8]) -> Result<(), Damage> {
    match value.iter().find(|c| forbidden.contains(c)) {
        None => Ok(()),
        Some(c) => Err(Damage::new(OBJECT, MAGIC.len() as u64, field, format!("byte 0x{c:02x}"), "text without it")),
    }
}

/// Writes what a file says, a line for each field, for people.
pub fn describe(bytes: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
    let header = match parse(bytes) {
        Ok(header) => header,
        Err(damage) => return writeln!(out, "damaged: {damage}"),
    };
    let form = match header.form {
        Form::Text => "text (2.3 to 3.4)",
        Form::Dlist => "dlist (3.6 to 3.12)",
        Form::DlistWithJmapid => "dlist with JMAP id (3.13)",
    };
    writeln!(out, "form: {form}")?;
    if let Some(mbtype) = header.mbtype {
        writeln!(out, "type: {}", shown(&mbtype.letters()))?;
    }
    let uniqueid = Some(header.uniqueid);
    let texts =
        [("name", &header.name), ("uniqueid", &uniqueid), ("JMAP id", &header.jmapid), ("quota root", &header.quotaroot)];
    for (name, value) in texts {
        if let Some(value) = value {
            writeln!(out, "{name}: {}", Shown(value))?;
        }
    }
    for (id, rights) in &header.acl {
        writeln!(out, "acl: {} {}", Shown(id), Shown(rights))?;
    }
    for (n, name) in header.user_flags.iter().enumerate() {
        match name {
            Some(name) => writeln!(out, "user flag {n}: {}", Shown(name))?,
            None => writeln!(out, "user flag {n}: removed")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crc32::crc32;
    use alloc::string::String;
    use alloc::vec;

    macro_rules! file {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/data/cyrus/header/", $name))
        };
    }

    const REAL: [&[u8]; 9] = [
        file!("3.2.6"),
        file!("3.6.1"),
        file!("3.10.2"),
        file!("3.12.4"),
        file!("3.13-inbox"),
        file!("3.13-folder"),
        file!("3.13-bob"),
        file!("3.13-star"),
        file!("3.13-blank"),
    ];

    fn text(s: &str) -> Option<Vec<u8>> {
        Some(s.into())
    }

    #[test]
    fn every_real_file_round_trips() {
        for bytes in REAL {
            let header = parse(bytes).unwrap();
            assert_eq!(shown(&header.emit().unwrap()), shown(bytes));
        }
    }

    #[test]
    fn the_text_form_of_3_2() {
        let header = parse(REAL[0]).unwrap();
        let expected = Header {
            uniqueid: b"cl9z86cmdnqryu97f30a8nu2".to_vec(),
            user_flags: vec![text("$Label1")],
            acl: vec![(b"anna".to_vec(), b"lrswipkxtecdan".to_vec())],
            form: Form::Text,
            ..Header::default()
        };
        assert_eq!(header, expected);
    }

    #[test]
    fn the_dlist_form_of_3_6() {
        let header = parse(REAL[1]).unwrap();
        let expected = Header {
            quotaroot: text("user.anna"),
            uniqueid: b"it52xp8vfay76mvqoftrvrxr".to_vec(),
            user_flags: vec![text("$Label1"), text("Custom-Flag")],
            acl: vec![(b"anna".to_vec(), b"lrswipkxtecdan".to_vec()), (b"bob.smith".to_vec(), b"lrs".to_vec())],
            name: text("user.anna.FixMail"),
            mbtype: Some(MbType::default()),
            jmapid: None,
            form: Form::Dlist,
        };
        assert_eq!(header, expected);
        assert_eq!(crc32(REAL[1]), 4_157_891_056);
    }

    #[test]
    fn the_dlist_form_of_3_13() {
        let header = parse(REAL[8]).unwrap();
        assert_eq!(header.name, text("user.alice.Work.Projects.Alpha Beta"));
        assert_eq!(header.uniqueid, b"6c3735df-2ba9-4c38-b0a0-8b1fabda198a");
        assert_eq!((header.jmapid, header.form), (text("P-F"), Form::DlistWithJmapid));
        let line = b"%(T el N user.x I abc J NIL A %(x lrs) U (a NIL b))\n";
        let header = parse(&[MAGIC, line].concat()).unwrap();
        assert_eq!((&header.jmapid, header.form), (&None, Form::DlistWithJmapid));
        assert_eq!(header.mbtype.map(|t| t.legacy_dirs), Some(true));
        assert_eq!(shown(&header.emit().unwrap()[MAGIC.len()..]), shown(line));
    }

    #[test]
    fn removed_flags_keep_their_place_in_both_forms() {
        for form in [Form::Text, Form::Dlist] {
            let user_flags = vec![None, text("a"), None, None, text("b")];
            let header = Header { uniqueid: b"x".to_vec(), user_flags, form, ..Header::default() };
            assert_eq!(parse(&header.emit().unwrap()).unwrap(), header);
        }
        let names = |line: &[u8]| parse(&[MAGIC, b"\tx\n", line, b"\n\n"].concat()).unwrap().user_flags;
        assert_eq!(names(b""), []);
        assert_eq!(names(b"a b"), [text("a"), text("b")]);
        assert_eq!(names(b"a b "), [text("a"), text("b")]);
        assert_eq!(names(b" a  b "), [None, text("a"), None, text("b")]);
    }

    #[test]
    fn old_text_files_without_uniqueid_or_with_a_field_more() {
        let old = [MAGIC, b"user.x\n\nx\tlrs\t\n"].concat();
        let header = parse(&old).unwrap();
        assert_eq!((header.quotaroot.as_deref(), &header.uniqueid[..]), (Some(&b"user.x"[..]), &b""[..]));
        assert_eq!(parse(&header.emit().unwrap()).unwrap(), header);
        let more = [MAGIC, b"user.x\tid\tmore\nf \n\n"].concat();
        let header = parse(&more).unwrap();
        assert_eq!((&header.uniqueid[..], header.acl.len(), header.user_flags.len()), (&b"id"[..], 0, 1));
        assert!(parse(&[MAGIC, b"user.x\t\n\n\n"].concat()).is_err());
    }

    #[test]
    fn at_most_128_flags() {
        for (count, good) in [(128, true), (129, false), (1000, false)] {
            assert_eq!(parse(&[MAGIC, b"\tx\n", &b"f ".repeat(count), b"\n\n"].concat()).is_ok(), good, "{count}");
            assert_eq!(parse(&[MAGIC, b"%(I x U (", &b"f ".repeat(count), b"))\n"].concat()).is_ok(), good, "{count}");
            for form in [Form::Text, Form::Dlist] {
                let header = Header { uniqueid: b"x".to_vec(), user_flags: vec![text("f"); count], form, ..Header::default() };
                assert_eq!(header.emit().is_ok(), good, "{count}");
            }
        }
    }

    #[test]
    fn nothing_that_is_written_can_be_taken_for_another_field() {
        let with = |change: &dyn Fn(&mut Header)| {
            let mut header = parse(REAL[0]).unwrap();
            change(&mut header);
            header.emit()
        };
        assert!(with(&|_| ()).is_ok());
        assert!(with(&|h| h.user_flags[0] = text("a b")).is_err());
        assert!(with(&|h| h.user_flags[0] = text("a\nb")).is_err());
        assert!(with(&|h| h.acl[0].0 = b"a\tb".to_vec()).is_err());
        assert!(with(&|h| h.acl[0].0 = b"a b".to_vec()).is_ok());
        assert!(with(&|h| h.quotaroot = text("a\tb")).is_err());
        assert!(with(&|h| h.uniqueid = b"a\nb".to_vec()).is_err());
        let odd = Header {
            uniqueid: b"i) U (x".to_vec(),
            quotaroot: text("a\n%\"\\"),
            user_flags: vec![text("NIL"), None, text(""), text("caf\u{e9}")],
            acl: vec![(b"group:a b\r\n".to_vec(), b"".to_vec())],
            name: text("user.%"),
            form: Form::Dlist,
            ..Header::default()
        };
        assert_eq!(parse(&odd.emit().unwrap()).unwrap(), odd);
        assert!(Header { name: text("a\0"), ..odd }.emit().is_err());
    }

    #[test]
    fn every_truncation_is_reported() {
        for bytes in REAL {
            // Nothing but the LF can be missing without being missed, and that only from a dlist.
            let whole = if bytes == REAL[0] { bytes.len() } else { bytes.len() - 1 };
            for len in 0..whole {
                assert!(parse(&bytes[..len]).is_err(), "{len}");
            }
            let mut text = String::new();
            describe(&bytes[..whole - 1], &mut text).unwrap();
            assert!(text.starts_with("damaged: cyrus.header: "), "{text}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for bytes in [REAL[0], REAL[1]] {
            for at in 0..bytes.len() {
                for c in 0..=255 {
                    let mut bad = bytes.to_vec();
                    bad[at] = c;
                    if let Ok(header) = parse(&bad)
                        && let Ok(again) = header.emit()
                    {
                        assert_eq!(parse(&again), Ok(header), "byte {at} is {c}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_description_for_people() {
        let line = b"%(T e N user.x I abc J NIL Q user.x A %(x lrs \"a\x01\" l) U (a NIL b))\n";
        let mut text = String::new();
        describe(&[MAGIC, line].concat(), &mut text).unwrap();
        assert_eq!(
            text,
            "form: dlist with JMAP id (3.13)\ntype: e\nname: user.x\nuniqueid: abc\nquota root: user.x\nacl: x lrs\n\
             acl: a\\x01 l\nuser flag 0: a\nuser flag 1: removed\nuser flag 2: b\n"
        );
    }
}
