//! The subscription database of a user: its keys in every version (`imap/mboxlist.c: mboxlist_dbname_to_key`). Values are
//! empty.
//!
//! Up to 3.4 a key is an internal name. From 3.6 on a record gives the version, and a key is `N` and the name in the form of
//! the database, with `INBOX` in the place of the user's own INBOX. Version 2 (3.6 to 3.12) does that to the bytes of the name
//! even where they only begin alike: for `matt`, `user.matthew` becomes `INBOXhew`. Version 3 does not. There was no version 1.
//!
//! What must not come in: the database file around the records.

use super::names::{DB_DOMAIN, DB_HIERARCHY, MailboxName, Naming};
use crate::error::Damage;
use crate::escape::Shown;
use alloc::format;
use alloc::vec::Vec;
use core::fmt;

const OBJECT: &str = "subscriptions";
const INBOX: &[u8] = b"INBOX";

/// The key of the record whose value is the version.
pub const VERSION_KEY: &[u8] = b"\x1fVER\x1f";

/// How keys are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// Internal names, and no record of the version: up to 3.4.
    Internal,
    /// 3.6 to 3.12.
    V2,
    /// 3.13.
    V3,
}

impl Version {
    /// From the value of the record under [`VERSION_KEY`]; `None` if there is none.
    pub fn of(value: Option<&[u8]>) -> Result<Version, Damage> {
        match value {
            None => Ok(Version::Internal),
            Some(b"2") => Ok(Version::V2),
            Some(b"3") => Ok(Version::V3),
            Some(other) => {
                Err(Damage::new(OBJECT, 0, "version", format!("`{}`", Shown(&other[..other.len().min(80)])), "2 or 3"))
            }
        }
    }

    /// The value of the record under [`VERSION_KEY`]; `None` if this version has no such record.
    pub fn value(self) -> Option<&'static [u8]> {
        match self {
            Version::Internal => None,
            Version::V2 => Some(b"2"),
            Version::V3 => Some(b"3"),
        }
    }
}

/// Reads a key of the user `userid`: the mailbox, or `None` for the record of the version.
pub fn parse_key(naming: &Naming, version: Version, userid: &[u8], key: &[u8]) -> Result<Option<MailboxName>, Damage> {
    if key == VERSION_KEY {
        return Ok(None);
    }
    if version == Version::Internal {
        return naming.parse_internal(key).map(Some);
    }
    let Some(name) = key.strip_prefix(b"N") else {
        return Err(not_a_name(key));
    };
    match name.strip_prefix(INBOX) {
        Some(tail) if takes_inbox(version, tail) => {
            let inbox = naming.dbname(&naming.inbox(userid)?);
            naming.parse_dbname(&[&inbox, tail].concat()).map(Some)
        }
        _ => naming.parse_dbname(name).map(Some),
    }
}

/// The key of a mailbox in the database of the user `userid`.
pub fn emit_key(naming: &Naming, version: Version, userid: &[u8], name: &MailboxName) -> Result<Vec<u8>, Damage> {
    if version == Version::Internal {
        return Ok(naming.internal(name));
    }
    let (dbname, inbox) = (naming.dbname(name), naming.dbname(&naming.inbox(userid)?));
    Ok(match dbname.strip_prefix(&inbox[..]) {
        Some(tail) if takes_inbox(version, tail) => [b"N", INBOX, tail].concat(),
        _ => [b"N", &dbname[..]].concat(),
    })
}

/// True if this version puts `INBOX` in the place of the user's INBOX before `tail`.
fn takes_inbox(version: Version, tail: &[u8]) -> bool {
    version == Version::V2 || tail.first().is_none_or(|&c| c == DB_HIERARCHY)
}

/// Writes what a record of a database in this version says, in one line, for people: names in internal form, but with `INBOX`
/// where the key has it.
pub fn describe(version: Version, key: &[u8], value: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
    match key.strip_prefix(b"N") {
        _ if key == VERSION_KEY => match Version::of(Some(value)) {
            Ok(_) => writeln!(out, "version: {}", Shown(value)),
            Err(damage) => writeln!(out, "damaged: {damage}"),
        },
        _ if version == Version::Internal => writeln!(out, "subscribed: {}", Shown(key)),
        Some(name) => {
            // Dots of a domain stay.
            let start = name.iter().position(|&c| c == DB_DOMAIN).unwrap_or(0);
            let internal = name.iter().enumerate().map(|(at, &c)| match c {
                DB_HIERARCHY => b'.',
                DB_DOMAIN => b'!',
                b'.' if at >= start => b'^',
                c => c,
            });
            writeln!(out, "subscribed: {}", Shown(&internal.collect::<Vec<u8>>()))
        }
        None => writeln!(out, "damaged: {}", not_a_name(key)),
    }
}

fn not_a_name(key: &[u8]) -> Damage {
    Damage::new(OBJECT, 0, "key", format!("`{}`", Shown(&key[..key.len().min(80)])), "`N` at the start")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    const V2: &[u8] = include_bytes!("../../../tests/data/cyrus/subs/3.6.1");
    const V3: &[u8] = include_bytes!("../../../tests/data/cyrus/subs/3.13");

    fn naming() -> Naming {
        Naming::new(b"DELETED", Some(b"example.org"), true).unwrap()
    }

    /// Keys and values of a flat file.
    fn records(file: &'static [u8]) -> Vec<(&'static [u8], &'static [u8])> {
        let lines = file.split(|&c| c == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| line.split_at(line.iter().position(|&c| c == b'\t').unwrap())).map(|(k, v)| (k, &v[1..])).collect()
    }

    #[test]
    fn real_databases_round_trip() {
        let cases = [
            (
                V2,
                Version::V2,
                &b"anna"[..],
                "user.anna user.anna.Fix^ture&AOk- user.anna.FixMail user.anna.Fixture user.anna.N2 user.anna.T",
            ),
            (V3, Version::V3, b"alice", "user.alice user.alice.&AOk-t&AOk- user.alice.Sent user.alice.Work"),
        ];
        for (file, version, userid, expected) in cases {
            let all = records(file);
            assert_eq!(all[0].0, VERSION_KEY);
            assert_eq!(Version::of(Some(all[0].1)), Ok(version));
            assert_eq!(version.value(), Some(all[0].1));
            assert_eq!(parse_key(&naming(), version, userid, all[0].0), Ok(None));
            let mut found = Vec::new();
            for (key, value) in &all[1..] {
                assert!(value.is_empty());
                let name = parse_key(&naming(), version, userid, key).unwrap().unwrap();
                assert_eq!(&emit_key(&naming(), version, userid, &name).unwrap(), key);
                found.push(String::from_utf8(naming().internal(&name)).unwrap());
            }
            assert_eq!(found.join(" "), expected);
        }
    }

    #[test]
    fn every_mailbox_in_every_version() {
        let keys = |internal: &[u8], userid: &[u8]| {
            let naming = naming();
            let name = naming.parse_internal(internal).unwrap();
            [Version::Internal, Version::V2, Version::V3].map(|version| {
                let key = emit_key(&naming, version, userid, &name).unwrap();
                assert_eq!(parse_key(&naming, version, userid, &key), Ok(Some(name.clone())));
                String::from_utf8(key).unwrap()
            })
        };
        let case = |internal, userid, v2: &str, v3: &str| {
            assert_eq!(keys(internal, userid), [core::str::from_utf8(internal).unwrap(), v2, v3]);
        };
        case(b"user.matt", b"matt", "NINBOX", "NINBOX");
        case(b"user.matt.a^b.c", b"matt", "NINBOX\x1fa.b\x1fc", "NINBOX\x1fa.b\x1fc");
        case(b"user.matthew", b"matt", "NINBOXhew", "Nuser\x1fmatthew");
        case(b"user.matthew.x", b"matt", "NINBOXhew\x1fx", "Nuser\x1fmatthew\x1fx");
        case(b"user.bob", b"matt", "Nuser\x1fbob", "Nuser\x1fbob");
        case(b"news.misc", b"matt", "Nnews\x1fmisc", "Nnews\x1fmisc");
        case(b"other.net!user.matt.x", b"matt", "Nother.net\x1duser\x1fmatt\x1fx", "Nother.net\x1duser\x1fmatt\x1fx");
        case(b"other.net!user.bob^smith.x", b"bob.smith@other.net", "NINBOX\x1fx", "NINBOX\x1fx");
    }

    #[test]
    fn a_shared_mailbox_that_begins_with_inbox_is_one_in_version_3() {
        let name = parse_key(&naming(), Version::V3, b"matt", b"NINBOXhew").unwrap().unwrap();
        assert_eq!(naming().internal(&name), b"INBOXhew");
    }

    #[test]
    fn damage_is_reported() {
        for key in [&b""[..], b"INBOX", b"user.anna", b"N", b"N\x1f", b"\x1fVER"] {
            assert!(parse_key(&naming(), Version::V3, b"anna", key).is_err(), "{}", Shown(key));
        }
        assert!(parse_key(&naming(), Version::Internal, b"anna", b"").is_err());
        for value in [&b""[..], b"1", b"4", b"x", b"22"] {
            assert!(Version::of(Some(value)).is_err(), "{}", Shown(value));
        }
        assert_eq!(Version::of(None), Ok(Version::Internal));
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for at in 0..9 {
            for c in 0..=255 {
                let mut key = b"NINBOX\x1fabc".to_vec();
                key[at] = c;
                for version in [Version::Internal, Version::V2, Version::V3] {
                    if let Ok(Some(name)) = parse_key(&naming(), version, b"anna", &key) {
                        let again = emit_key(&naming(), version, b"anna", &name).unwrap();
                        assert_eq!(parse_key(&naming(), version, b"anna", &again), Ok(Some(name)));
                    }
                    describe(version, &key, b"", &mut String::new()).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_description_for_people() {
        let text = |version, key: &[u8], value: &[u8]| {
            let mut text = String::new();
            describe(version, key, value, &mut text).unwrap();
            text
        };
        assert_eq!(text(Version::V2, VERSION_KEY, b"2"), "version: 2\n");
        assert_eq!(text(Version::V2, b"NINBOX\x1fa.b\x1fc\x1b", b""), "subscribed: INBOX.a^b.c\\x1b\n");
        assert_eq!(text(Version::V3, b"Nother.net\x1duser\x1fbob", b""), "subscribed: other.net!user.bob\n");
        assert_eq!(text(Version::Internal, b"News.misc", b""), "subscribed: News.misc\n");
        assert!(text(Version::V3, VERSION_KEY, b"9").starts_with("damaged: subscriptions: version"));
        assert!(text(Version::V3, b"INBOX", b"").starts_with("damaged: subscriptions: key"));
    }
}
