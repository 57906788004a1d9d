//! Sieve scripts as messages, as servers keep them since 3.6, and one by one, as the replication protocol also takes them.
//!
//! A mailbox of scripts cannot be removed while a ManageSieve session of its user is open: the server waits for the session and
//! keeps everybody from the user's mailboxes meanwhile (`imap/mailbox.c: mailbox_close`; seen with 3.6.1 to 3.12). So one that
//! is there stays, and its scripts are changed one by one, as by another ManageSieve session. What must not come in: the
//! connection.

use crate::cyrus::dlist::{self, Value};
use crate::guid::Guid;
use crate::restore::fields;
use crate::sync::client::Script as There;
use alloc::vec::Vec;

/// A script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// Its name.
    pub name: Vec<u8>,
    /// Its text.
    pub text: Vec<u8>,
    /// It is the one that runs.
    pub is_active: bool,
}

/// The script that a message carries: its name is the subject (`imap/sieve_db.c: store_script`).
pub fn of_message(message: &[u8], is_active: bool) -> Option<Script> {
    let name = decoded(&fields::field(message, "Subject")?)?;
    (!name.is_empty()).then(|| Script { name, text: message[fields::header_len(message)..].to_vec(), is_active })
}

/// A command, and what it needs behind its name.
pub type Command = (&'static str, Vec<u8>);

/// What is to be done so that exactly these scripts are there. Nothing, if they are.
pub fn commands(user: &[u8], wanted: &[Script], there: &[There]) -> Vec<Command> {
    let mut out = Vec::new();
    for script in there.iter().filter(|there| wanted.iter().all(|wanted| wanted.name != there.name)) {
        out.push(("UNSIEVE", value(user, Some((&script.name, ".script")), None)));
    }
    for script in wanted {
        let guid = Guid::of(&script.text);
        if there.iter().all(|there| there.name != script.name || there.guid != Some(guid)) {
            out.push(("SIEVE", value(user, Some((&script.name, ".script")), Some(&script.text))));
        }
    }
    let active = wanted.iter().find(|script| script.is_active);
    let is_active = there.iter().find(|script| script.is_active);
    match active {
        Some(active) if !out.is_empty() || is_active.map(|script| &script.name) != Some(&active.name) => {
            out.push(("ACTIVATE_SIEVE", value(user, Some((&active.name, ".bc")), None)));
        }
        None if is_active.is_some() => out.push(("UNACTIVATE_SIEVE", value(user, None, None))),
        _ => {}
    }
    out
}

fn value(user: &[u8], file: Option<(&[u8], &str)>, content: Option<&[u8]>) -> Vec<u8> {
    let text = |text: &[u8]| Value::Text(text.to_vec());
    let mut pairs = Vec::from([(b"USERID".to_vec(), text(user))]);
    if let Some((name, end)) = file {
        pairs.push((b"FILENAME".to_vec(), text(&[name, end.as_bytes()].concat())));
    }
    if let Some(content) = content {
        pairs.push((b"LAST_UPDATE".to_vec(), text(b"0")));
        pairs.push((b"CONTENT".to_vec(), text(content)));
    }
    let mut out = Vec::new();
    dlist::emit(&Value::Pairs(pairs), &mut out);
    out
}

/// A header field of encoded words (RFC 2047) in UTF-8, which is what Cyrus writes. `None` for other sets of characters.
fn decoded(field: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = (Vec::new(), field);
    while !rest.is_empty() {
        let word = rest.strip_prefix(b"=?").and_then(|word| {
            let mut parts = word.splitn(3, |&c| c == b'?');
            let (set, kind, rest) = (parts.next()?, parts.next()?, parts.next()?);
            let end = rest.windows(2).position(|pair| pair == b"?=")?;
            Some((set, kind, &rest[..end], &rest[end + 2..]))
        });
        let Some((set, kind, text, after)) = word else {
            out.push(rest[0]);
            rest = &rest[1..];
            continue;
        };
        if !set.eq_ignore_ascii_case(b"utf-8") || !kind.eq_ignore_ascii_case(b"q") {
            return None;
        }
        quoted_printable(text, &mut out)?;
        // Blanks between two words belong to neither.
        let next = after.trim_ascii_start();
        rest = if next.starts_with(b"=?") { next } else { after };
    }
    Some(out)
}

fn quoted_printable(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut at = 0;
    while let Some(&c) = text.get(at) {
        at += 1;
        match c {
            b'=' => {
                let hex = core::str::from_utf8(text.get(at..at + 2)?).ok()?;
                out.push(u8::from_str_radix(hex, 16).ok()?);
                at += 2;
            }
            b'_' => out.push(b' '),
            _ => out.push(c),
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;

    #[test]
    fn a_message_of_the_server_is_a_script_with_its_name() {
        let message =
            b"From: <anna@lab>\r\nSubject: =?UTF-8?Q?gr=C3=BC=C3=9F?=\r\n =?UTF-8?Q?_x?=\r\nMIME-Version: 1.0\r\n\r\nkeep;\r\n";
        let script = of_message(message, true).expect("a script");
        assert_eq!((&script.name[..], &script.text[..]), ("gr\u{fc}\u{df} x".as_bytes(), &b"keep;\r\n"[..]));
        assert_eq!(of_message(b"Subject: main\r\n\r\n", false).expect("a script").name, b"main");
        for bad in [&b"From: x\r\n\r\nkeep;"[..], b"Subject: =?koi8-r?B?abc?=\r\n\r\nkeep;", b"Subject:\r\n\r\nkeep;"] {
            assert_eq!(of_message(bad, false), None);
        }
    }

    #[test]
    fn only_what_differs_is_sent_and_the_active_one_is_told() {
        let script = |name: &str, text: &str, is_active| Script { name: name.into(), text: text.into(), is_active };
        let there =
            |name: &str, text: &str, is_active| There { name: name.into(), guid: Some(Guid::of(text.as_bytes())), is_active };
        let wanted = [script("a", "keep;", true), script("b", "discard;", false)];
        let verbs = |there: &[There]| {
            let found = commands(b"anna", &wanted, there).into_iter();
            found.map(|(verb, value)| format!("{verb} {}", String::from_utf8_lossy(&value))).collect::<Vec<_>>()
        };
        assert_eq!(verbs(&[there("a", "keep;", true), there("b", "discard;", false)]), Vec::<String>::new());
        assert_eq!(
            verbs(&[there("a", "keep;", true), there("b", "stop;", false), there("c", "", false)]),
            [
                "UNSIEVE %(USERID anna FILENAME c.script)",
                "SIEVE %(USERID anna FILENAME b.script LAST_UPDATE 0 CONTENT discard;)",
                "ACTIVATE_SIEVE %(USERID anna FILENAME a.bc)",
            ]
        );
        let none = commands(b"anna", &[], &[there("a", "", true)]);
        assert_eq!(none.iter().map(|(verb, _)| *verb).collect::<Vec<_>>(), ["UNSIEVE", "UNACTIVATE_SIEVE"]);
    }
}
