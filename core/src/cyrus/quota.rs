//! Quota files: the contents in every version (`imap/quota_db.c`).
//!
//! A dlist from 2.5 on; before that `used LF limit LF` (the default backend writes the first space as a line end), and in
//! between several resources on one line. What must not come in: where the file lies ([`super::paths`]).

use super::dlist::{self, Value};
use crate::error::Damage;
use crate::escape::Shown;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

const OBJECT: &str = "quota";

/// The resources under quota, in the order in which Cyrus writes them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Resource {
    /// `S`: size of the messages; used in bytes, limit in KiB.
    Storage,
    /// `M`: number of messages.
    Messages,
    /// `AS`: size of the annotations; used in bytes, limit in KiB.
    AnnotationStorage,
    /// `NF`: number of mailboxes.
    Folders,
}

impl Resource {
    /// All of them.
    pub const ALL: [Resource; 4] = [Resource::Storage, Resource::Messages, Resource::AnnotationStorage, Resource::Folders];

    /// The name in quota files.
    pub fn key(self) -> &'static str {
        ["S", "M", "AS", "NF"][self as usize]
    }

    fn from_key(key: &[u8]) -> Option<Resource> {
        Resource::ALL.into_iter().find(|r| r.key().as_bytes().eq_ignore_ascii_case(key))
    }
}

/// How much there is of one resource.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Used, in the resource's unit. Signed as in Cyrus: a broken count can be below zero.
    pub used: i64,
    /// The limit, in the resource's unit; `None` if there is none.
    pub limit: Option<i64>,
}

/// One quota root.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Quota {
    /// By resource, as in [`Resource::ALL`].
    pub usage: [Usage; 4],
    /// MODSEQ of the last change, from 3.2 on; 0 if unknown.
    pub modseq: u64,
}

impl Quota {
    /// The usage of one resource.
    pub fn of(&self, resource: Resource) -> Usage {
        self.usage[resource as usize]
    }
}

/// Reads a quota file or a value of a quota database. The mark of an interrupted `quota -f` (`SCAN`) is passed over.
pub fn parse(data: &[u8]) -> Result<Quota, Damage> {
    match data.first() {
        Some(b'%') => parse_dlist(data),
        Some(_) => parse_words(data),
        None => Err(Damage::new(OBJECT, 0, "content", "nothing", "a quota")),
    }
}

fn parse_dlist(data: &[u8]) -> Result<Quota, Damage> {
    let (v, _) = dlist::parse(OBJECT, 0, data)?;
    let mut out = Quota::default();
    for resource in Resource::ALL {
        let Some(item) = v.get(resource.key()) else { continue };
        let bad = || Damage::new(OBJECT, 0, resource.key(), "something else", "a list of used and limit");
        let list = item.list().ok_or_else(bad)?;
        let number = |v: &Value| v.text().and_then(signed).ok_or_else(bad);
        out.usage[resource as usize] = Usage {
            used: list.first().map_or(Ok(0), number)?,
            limit: list.get(1).map(number).transpose()?.filter(|&l| l >= 0),
        };
    }
    if let Some(modseq) = v.get("MODSEQ") {
        out.modseq = modseq.number().ok_or_else(|| Damage::new(OBJECT, 0, "MODSEQ", "something else", "a number"))?;
    }
    Ok(out)
}

/// `used limit [used] {<resource> used limit [used]}`; the third number is what an interrupted `quota -f` of 2.x left.
fn parse_words(data: &[u8]) -> Result<Quota, Damage> {
    let mut words = data.split(|c| matches!(c, b' ' | 9..=13 | 0)).filter(|w| !w.is_empty()).peekable();
    let mut out = Quota::default();
    let mut resource = Resource::Storage;
    loop {
        let mut number = |field| {
            let word = words.next().unwrap_or_default();
            signed(word)
                .ok_or_else(|| Damage::new(OBJECT, 0, field, format!("`{}`", Shown(&word[..word.len().min(80)])), "a number"))
        };
        let (used, limit) = (number("used")?, number("limit")?);
        out.usage[resource as usize] = Usage { used, limit: Some(limit).filter(|&l| l >= 0) };
        words.next_if(|w| signed(w).is_some());
        let Some(key) = words.next() else { return Ok(out) };
        resource = Resource::from_key(key).ok_or_else(|| {
            Damage::new(OBJECT, 0, "resource", format!("`{}`", Shown(&key[..key.len().min(80)])), "S, M, AS or NF")
        })?;
    }
}

fn signed(word: &[u8]) -> Option<i64> {
    core::str::from_utf8(word).ok()?.parse().ok()
}

/// Appends the dlist that 3.2 and later write, without a line end: the value in a database. A quota file has one LF behind it.
pub fn emit(quota: &Quota, out: &mut Vec<u8>) {
    out.extend_from_slice(b"%(");
    for resource in Resource::ALL {
        let Usage { used, limit } = quota.of(resource);
        let limit = limit.map(|l| format!(" {l}")).unwrap_or_default();
        out.extend_from_slice(format!("{} ({used}{limit}) ", resource.key()).as_bytes());
    }
    out.extend_from_slice(format!("MODSEQ {})", quota.modseq).as_bytes());
}

/// Appends what a quota file says, a line for each resource, for people.
pub fn describe(data: &[u8], out: &mut String) {
    let quota = match parse(data) {
        Ok(quota) => quota,
        Err(damage) => {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "damaged: {damage}");
            return;
        }
    };
    for resource in Resource::ALL {
        let Usage { used, limit } = quota.of(resource);
        let (name, used_unit, limit_unit) = match resource {
            Resource::Storage => ("storage", " bytes", " KiB"),
            Resource::Messages => ("messages", "", ""),
            Resource::AnnotationStorage => ("annotation storage", " bytes", " KiB"),
            Resource::Folders => ("folders", "", ""),
        };
        let limit = limit.map_or(String::from("no limit"), |l| format!("limit {l}{limit_unit}"));
        let _ = writeln!(out, "{name}: {used}{used_unit}, {limit}");
    }
    let _ = writeln!(out, "modseq: {}", quota.modseq);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::shown;

    const REAL: &[u8] = include_bytes!("../../../tests/data/cyrus/names/quota.user.anna");

    #[test]
    fn a_real_file_round_trips() {
        let q = parse(REAL).unwrap();
        assert_eq!(q.of(Resource::Storage), Usage { used: 1860, limit: Some(100_000) });
        assert_eq!(q.of(Resource::Messages), Usage { used: 16, limit: Some(5000) });
        assert_eq!(q.of(Resource::AnnotationStorage), Usage { used: 842, limit: None });
        assert_eq!((q.of(Resource::Folders).used, q.modseq), (11, 109));
        let mut out = Vec::new();
        emit(&q, &mut out);
        out.push(b'\n');
        assert_eq!(shown(&out), shown(REAL));
    }

    #[test]
    fn older_forms() {
        let limits = |data: &[u8]| parse(data).unwrap().usage.map(|u| (u.used, u.limit));
        let none = (0, None);
        assert_eq!(limits(b"1860\n100000\n"), [(1860, Some(100_000)), none, none, none]);
        assert_eq!(limits(b"1860 -1"), [(1860, None), none, none, none]);
        assert_eq!(limits(b"5\n6 7 M 1 2 AS 3 -1\n"), [(5, Some(6)), (1, Some(2)), (3, None), none]);
        assert_eq!(limits(b"%(S (1 2) M (3) SCAN %(MBOX user.anna S 1 M 0))\n"), [(1, Some(2)), (3, None), none, none]);
        assert_eq!(limits(b"%(S (-5 2))"), [(-5, Some(2)), none, none, none]);
    }

    #[test]
    fn damage_is_reported() {
        for data in
            [&b""[..], b"5", b"x 1", b"1 2 X 3 4", b"1 2 M 3", b"%(S 1)", b"%(S (x))", b"%(MODSEQ x)", b"%(S (1 2)", b"\0\0"]
        {
            assert!(parse(data).is_err(), "{}", Shown(data));
            let mut text = String::new();
            describe(data, &mut text);
            assert!(text.starts_with("damaged: quota: "), "{text}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for at in 0..REAL.len() {
            let _ = parse(&REAL[..at]);
            for c in 0..=255 {
                let mut data = REAL.to_vec();
                data[at] = c;
                let _ = parse(&data);
            }
        }
    }

    #[test]
    fn a_description_for_people() {
        let mut text = String::new();
        describe(REAL, &mut text);
        assert_eq!(
            text,
            "storage: 1860 bytes, limit 100000 KiB\nmessages: 16, limit 5000\nannotation storage: 842 bytes, no limit\n\
             folders: 11, no limit\nmodseq: 109\n"
        );
    }
}
