//! A user by chance, with what clients and old servers leave.
//!
//! Few messages and folders, so that a case takes a millisecond, but of every kind: copies of one message in several folders
//! and in one, bytes that APPEND does not take, dates and names that no server takes any more, keywords of every spelling,
//! special uses, comments, rights of others, scripts, events, contacts, deleted folders. What must not come in: what is lost.

use super::model::{Flags, INBOX, Limits, Mailbox, NOW, SCRIPTS, Server, USER, script_message, script_of};
use crate::choose::{Choose, Sampler};
use cylinder_core::guid::Guid;
use std::rc::Rc;

/// Names of folders, and the special use that each would have.
const FOLDERS: [(&str, &str); 9] = [
    ("Sent", "\\Sent"),
    ("Trash", "\\Trash"),
    ("Archive", "\\Archive"),
    ("Work", ""),
    ("Work.2020", ""),
    ("a^b", ""),
    ("M&APw-ll", "\\Junk"),
    ("R&D", ""),
    ("per%cent", ""),
];
/// Keywords; the last two are odd, and Cyrus takes them.
const KEYWORDS: [&str; 6] = ["$Forwarded", "Junk", "NonJunk", "$label1", "x]y", "a[b"];
const SYSTEM: [&str; 5] = ["\\Answered", "\\Flagged", "\\Deleted", "\\Draft", "\\Seen"];

/// What a message is like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Like {
    Plain,
    Long,
    EightBit,
    Nul,
    BareLf,
    Empty,
    NoHeader,
}

/// The server of a user of this chance, as it is when it is backed up.
pub fn user(chance: &mut Sampler) -> Server {
    let mut server = Server::default();
    let plain = chance.upto(2) == 0;
    let pool: Vec<Rc<Vec<u8>>> = (0..4 + chance.upto(8)).map(|n| content(n, like(chance, plain))).collect();
    let known = if plain || chance.upto(3) > 0 { 4 } else { KEYWORDS.len() };
    let mut names = vec![(String::from(INBOX), "")];
    for (name, uses) in FOLDERS {
        if chance.upto(3) == 0 && !(plain && (name.contains("&D") || name.contains('%'))) {
            names.push((format!("{INBOX}.{name}"), uses));
        }
    }
    if chance.upto(3) == 0 {
        names.push((format!("DELETED.{INBOX}.Old.6B047E5B"), ""));
    }
    for (name, uses) in names {
        let (id, uidvalidity) = server.fresh();
        let mut mailbox = Mailbox::new(&id, uidvalidity - 1_000_000);
        fill(&mut mailbox, &pool, chance, if plain { 0 } else { known });
        dress(&mut mailbox, uses, chance);
        server.boxes.insert(name, mailbox);
    }
    add_collections(&mut server, chance);
    if chance.upto(3) == 0 {
        let limits =
            Limits { storage: Some(10_000), messages: chance.flip().then_some(5000), folders: chance.flip().then_some(500) };
        server.quotas.insert(String::from(INBOX), limits);
    }
    let names: Vec<String> =
        server.living().filter(|(_, mailbox)| mailbox.kind == b'e').map(|(name, _)| name.clone()).collect();
    let subscribed = names.into_iter().filter(|_| chance.flip()).collect();
    server.files_mut().subscribed = subscribed;
    server
}

fn like(chance: &mut Sampler, plain: bool) -> Like {
    if plain {
        return Like::Plain;
    }
    match chance.upto(19) {
        0 | 1 => Like::Long,
        2 | 3 => Like::EightBit,
        4 => Like::Nul,
        5 => Like::BareLf,
        6 => Like::Empty,
        7 => Like::NoHeader,
        _ => Like::Plain,
    }
}

fn content(n: u32, like: Like) -> Rc<Vec<u8>> {
    let text = |subject: &str, body: &str| {
        format!("From: a@example.org\r\nMessage-ID: <{n}@example.org>\r\nSubject: {subject}\r\n\r\n{body}").into_bytes()
    };
    Rc::new(match like {
        Like::Plain => text("plain", &"line\r\n".repeat(1 + n as usize % 5)),
        Like::Long => text("long", &"a longer line of text\r\n".repeat(100)),
        Like::EightBit => text("Gr\u{fc}\u{df}e", "body\r\n"),
        Like::Nul => text("NUL", "one\0two\r\n"),
        Like::BareLf => text("bare", "one\ntwo\r\n"),
        Like::Empty => Vec::new(),
        Like::NoHeader => format!("no header {n}\r\n\r\nbody\r\n").into_bytes(),
    })
}

fn fill(mailbox: &mut Mailbox, pool: &[Rc<Vec<u8>>], chance: &mut Sampler, known: usize) {
    let plain = known == 0;
    // Now and then more copies of one message than the server takes.
    let twins = if !plain && chance.upto(15) == 0 { 12 } else { 0 };
    let count = chance.upto(7);
    for n in 0..count + twins {
        let at = if n >= count { 0 } else { chance.upto(pool.len() as u32 - 1) as usize };
        let (content, flags) = (pool[at].clone(), flags(chance, known.max(4)));
        let date = match chance.upto(19) {
            0 if !plain => 0,
            1 => 1_500_000_000,
            _ => 1_700_000_000 + i64::from(chance.upto(90_000_000)),
        };
        let guid = Guid::of(&content);
        mailbox.put(content, guid, flags, date);
    }
    for message in &mut mailbox.messages {
        match chance.upto(9) {
            0 => message.expunged = true,
            1 if chance.flip() => (message.expunged, message.has_file) = (true, false),
            _ => {}
        }
    }
    mailbox.last_uid += chance.upto(2);
}

fn flags(chance: &mut Sampler, known: usize) -> Flags {
    let mut flags = Flags::new();
    for flag in SYSTEM {
        if chance.upto(4) == 0 {
            flags.insert(flag.as_bytes().to_vec());
        }
    }
    for keyword in &KEYWORDS[..known] {
        if chance.upto(7) == 0 {
            flags.insert(keyword.as_bytes().to_vec());
        }
    }
    flags
}

/// Gives a mailbox what it has beside messages.
fn dress(mailbox: &mut Mailbox, uses: &str, chance: &mut Sampler) {
    let mut note = |entry: &str, user: &str, value: &str| {
        mailbox.notes.insert((entry.to_owned(), user.to_owned()), value.as_bytes().to_vec());
    };
    if !uses.is_empty() && chance.upto(3) > 0 {
        note("/specialuse", USER, uses);
    }
    if chance.upto(3) == 0 {
        note("/comment", USER, "my comment");
    }
    if chance.upto(4) == 0 {
        mailbox.acl.insert(String::from("bob"), String::from("lrs"));
    }
}

/// Scripts, events and contacts.
fn add_collections(server: &mut Server, chance: &mut Sampler) {
    const COLLECTIONS: [(&str, u8); 5] = [
        ("#sieve", SCRIPTS),
        ("#calendars", b'c'),
        ("#calendars.Default", b'c'),
        ("#addressbooks", b'a'),
        ("#addressbooks.Default", b'a'),
    ];
    let has = [chance.upto(2) == 0, chance.upto(3) == 0, chance.upto(3) == 0];
    for (name, kind) in COLLECTIONS {
        if !has[usize::from(kind == b'c') + 2 * usize::from(kind == b'a')] {
            continue;
        }
        let (id, uidvalidity) = server.fresh();
        let mut mailbox = Mailbox::new(&id, uidvalidity - 1_000_000);
        mailbox.kind = kind;
        let count = if name.ends_with('s') { 0 } else { 1 + chance.upto(1) };
        for n in 0..count {
            let text = format!("item {n} of {name}\r\n").into_bytes();
            let content = script_message(&format!("item{n}"), &text);
            let guid = Guid::of(&content);
            // The script that filters is flagged.
            let flags = if kind == SCRIPTS && n == 0 { Flags::from([b"\\Flagged".to_vec()]) } else { Flags::new() };
            mailbox.put(Rc::new(content), guid, flags, NOW - 5000);
        }
        let scripts: Vec<(String, Guid)> = mailbox
            .visible()
            .filter_map(|message| script_of(&message.content).map(|(name, text)| (name, Guid::of(text))))
            .collect();
        let items: Vec<(String, u32)> = mailbox.messages.iter().map(|message| (id.clone(), message.uid)).collect();
        server.boxes.insert(format!("{INBOX}.{name}"), mailbox);
        let files = server.files_mut();
        if kind == SCRIPTS {
            files.active = scripts.first().map(|(name, _)| name.clone());
            files.scripts.extend(scripts);
        } else {
            files.dav.extend(items);
        }
    }
}
