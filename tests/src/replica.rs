//! A replication server in memory, for tests of a client over a simulated stream: what it has lives on when a connection is
//! cut.
//!
//! It takes what a restore sends and checks it as Cyrus does (`imap/sync_support.c: sync_apply_mailbox`): nothing older than
//! what is there, no record whose message did not come, and a checksum that agrees. What must not come in: the client's code.

use cylinder_core::crc32::Crc32;
use cylinder_core::cyrus::dlist::{self, Value};
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::imap::client::base64;
use cylinder_core::io::{Io, StreamId};
use cylinder_core::time::Span;
use cylinder_core::wire::stream::{Limits, Stream};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A record and the content that came for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The record, as it was sent.
    pub record: Value,
    /// Its message, if one came.
    pub content: Option<Vec<u8>>,
}

/// A mailbox.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mailbox {
    /// uniqueid.
    pub id: String,
    /// Everything that was sent with it last, but its records.
    pub facts: BTreeMap<String, Value>,
    /// Records by UID.
    pub records: BTreeMap<u64, Stored>,
}

/// The server.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    /// The only right password.
    pub password: String,
    /// Mailboxes by internal name.
    pub boxes: BTreeMap<String, Mailbox>,
    /// Names that it still believes to have these uniqueids, as 3.6.1 does of mailboxes that were under delayed delete.
    pub stale: BTreeMap<String, String>,
    /// What else was applied, each thing once.
    pub others: BTreeSet<(String, String)>,
    /// Bytes of messages that came.
    pub uploaded: u64,
}

/// A server that several connections share.
pub type Shared = Rc<RefCell<Replica>>;

type Staged = BTreeMap<Guid, Vec<u8>>;

/// Serves one connection to its end.
pub async fn serve(io: Io, replica: Shared) -> Result<(), Error> {
    let limits = Limits { line: 64 << 20, stall: Span::from_secs(3600), bytes_per_second: 0 };
    let mut stream = Stream::new(&io, StreamId(1), "client", limits);
    stream.send(b"* SASL PLAIN\r\n* STARTTLS\r\n* OK mock Cyrus sync server 3.6.1\r\n").await?;
    stream.flush().await?;
    let mut staged = Staged::new();
    while let Ok(Some(line)) = stream.line().await {
        let line = line.to_vec();
        let text = String::from_utf8_lossy(&line).into_owned();
        let answer = if let Some(response) = text.strip_prefix("AUTHENTICATE PLAIN ") {
            authenticate(&replica.borrow(), response)
        } else if let Some(first) = line.strip_prefix(b"APPLY MESSAGE ") {
            match messages(&mut stream, first.to_vec()).await {
                Some(came) => {
                    replica.borrow_mut().uploaded += came.values().map(|content| content.len() as u64).sum::<u64>();
                    staged.extend(came);
                    String::from("OK success\r\n")
                }
                None => return Ok(()),
            }
        } else if text == "EXIT" {
            stream.send(b"OK bye\r\n").await?;
            return stream.settle().await;
        } else {
            let Some(whole) = rest(&mut stream, line).await else { return Ok(()) };
            command(&mut replica.borrow_mut(), &mut staged, &whole)
        };
        stream.send(answer.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
}

fn authenticate(replica: &Replica, response: &str) -> String {
    let right = base64(format!("\0cyrus\0{}", replica.password).as_bytes());
    String::from(if response.as_bytes() == right { "OK Success\r\n" } else { "NO authentication failure\r\n" })
}

/// A command with the literals in it; `None` if the connection ends before it does.
async fn rest(stream: &mut Stream, mut whole: Vec<u8>) -> Option<Vec<u8>> {
    let mut from = 0;
    while let Some(size) = announced(&whole[from..]) {
        whole.extend_from_slice(b"\r\n");
        whole.extend(bytes(stream, size).await?);
        from = whole.len();
        whole.extend_from_slice(stream.line().await.ok()??);
    }
    Some(whole)
}

fn announced(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"+}")?;
    let from = line.iter().rposition(|&c| c == b'{')?;
    std::str::from_utf8(&line[from + 1..]).ok()?.parse().ok()
}

async fn bytes(stream: &mut Stream, size: u64) -> Option<Vec<u8>> {
    let (mut left, mut out) = (size, Vec::new());
    while left > 0 {
        let piece = stream.piece(left).await.ok()?;
        left -= piece.len() as u64;
        out.extend_from_slice(piece);
    }
    Some(out)
}

/// `(%{partition guid size}` CRLF bytes, more of them, `)`.
async fn messages(stream: &mut Stream, mut line: Vec<u8>) -> Option<Staged> {
    let mut came = Staged::new();
    while line != b")" {
        let text = String::from_utf8_lossy(&line).into_owned();
        let head = text.trim_start_matches(['(', ' ']).strip_prefix("%{default ").expect("a file literal");
        let (guid, size) = head.trim_end_matches('}').split_once(' ').expect("a SHA-1 and a size");
        let guid = Guid::from_hex(guid.as_bytes()).expect("a SHA-1");
        let content = bytes(stream, size.parse().expect("a size")).await?;
        assert_eq!(Guid::of(&content), guid, "a message with another SHA-1 than its name");
        came.insert(guid, content);
        line = stream.line().await.ok()??.to_vec();
    }
    Some(came)
}

fn command(replica: &mut Replica, staged: &mut Staged, line: &[u8]) -> String {
    let mut words = line.splitn(3, |&c| c == b' ').map(|word| String::from_utf8_lossy(word).into_owned());
    let (verb, what) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let value = || dlist::parse("command", 0, line.get(verb.len() + what.len() + 2..).unwrap_or_default()).expect("a dlist").0;
    let done = |data: String, result: Result<(), &str>| match result {
        Ok(()) => format!("{data}OK success\r\n"),
        Err(code) => format!("{data}NO {code} refused\r\n"),
    };
    match (&verb[..], &what[..]) {
        ("GET", "MAILBOXES") => done(look(replica, &value(), |name, _, wanted| name == wanted), Ok(())),
        ("GET", "UNIQUEIDS") => done(look(replica, &value(), |_, mailbox, wanted| mailbox.id == wanted), Ok(())),
        ("APPLY", "RESERVE") => {
            let guids = value().get("GUID").and_then(Value::list).expect("a list").to_vec();
            let guids = guids.iter().filter_map(|guid| Guid::from_hex(guid.text()?));
            let missing: Vec<String> = guids.filter(|guid| !find(replica, staged, guid)).map(|guid| guid.to_hex()).collect();
            let line = if missing.is_empty() { String::new() } else { format!("* MISSING ({})\r\n", missing.join(" ")) };
            done(line, Ok(()))
        }
        ("APPLY", "MAILBOX") => done(String::new(), mailbox(replica, staged, &value())),
        ("APPLY", "UNMAILBOX") => {
            let name = value().text().map(|name| String::from_utf8_lossy(name).into_owned()).expect("a name");
            let removed = replica.boxes.remove(&name).ok_or("IMAP_MAILBOX_NONEXISTENT");
            let removed = removed.map(|mailbox| {
                if name.starts_with("DELETED.") {
                    drop(replica.stale.insert(mailbox.id, name))
                }
            });
            done(String::new(), removed)
        }
        ("APPLY", "RENAME") => {
            let value = value();
            let field = |key: &str| text(value.get(key).unwrap_or_else(|| panic!("no {key}")));
            let _ = field("PARTITION");
            let moved = replica.boxes.remove(&field("OLDMBOXNAME")).ok_or("IMAP_MAILBOX_NONEXISTENT");
            done(String::new(), moved.map(|mailbox| drop(replica.boxes.insert(field("NEWMBOXNAME"), mailbox))))
        }
        ("APPLY", _) => {
            replica.others.insert((what.clone(), String::from_utf8_lossy(line).into_owned()));
            done(String::new(), Ok(()))
        }
        ("RESTART", _) => {
            staged.clear();
            done(String::new(), Ok(()))
        }
        _ => String::from("BAD what\r\n"),
    }
}

fn look(replica: &Replica, wanted: &Value, is: impl Fn(&str, &Mailbox, &str) -> bool) -> String {
    let wanted = wanted.list().expect("a list").iter().map(text).collect::<Vec<_>>();
    let mut out = String::new();
    for (name, mailbox) in &replica.boxes {
        if !wanted.iter().any(|wanted| is(name, mailbox, wanted)) {
            continue;
        }
        let number = |key: &str| mailbox.facts.get(key).and_then(Value::number).unwrap_or(0);
        let (last, modseq, validity) = (number("LAST_UID"), number("HIGHESTMODSEQ"), number("UIDVALIDITY"));
        let crc = checksum(mailbox);
        let partition = mailbox.facts.get("PARTITION").map_or_else(|| String::from("default"), text);
        out += &format!(
            "* MAILBOX %(UNIQUEID {} MBOXNAME {name} LAST_UID {last} HIGHESTMODSEQ {modseq} UIDVALIDITY {validity} SYNC_CRC {crc} \
             PARTITION {partition})\r\n",
            mailbox.id
        );
    }
    out
}

fn text(value: &Value) -> String {
    String::from_utf8_lossy(value.text().expect("text")).into_owned()
}

/// Finds a message in the mailboxes, too, and holds it ready.
fn find(replica: &Replica, staged: &mut Staged, guid: &Guid) -> bool {
    let mut stored = replica.boxes.values().flat_map(|mailbox| mailbox.records.values());
    if let Some(content) = stored.find_map(|stored| stored.content.clone().filter(|content| Guid::of(content) == *guid)) {
        staged.insert(*guid, content);
    }
    staged.contains_key(guid)
}

fn mailbox(replica: &mut Replica, staged: &Staged, value: &Value) -> Result<(), &'static str> {
    let field = |key: &str| text(value.get(key).unwrap_or_else(|| panic!("no {key}")));
    let number = |key: &str| value.get(key).and_then(Value::number).unwrap_or_else(|| panic!("no number {key}"));
    let (name, id) = (field("MBOXNAME"), field("UNIQUEID"));
    let there = replica.boxes.get(&name).cloned();
    let is_empty = |mailbox: &Mailbox| mailbox.facts.get("LAST_UID").and_then(Value::number) == Some(0);
    let is_elsewhere = replica.boxes.iter().any(|(other, mailbox)| *other != name && mailbox.id == id);
    let is_stale = there.is_none() && replica.stale.get(&id).is_some_and(|other| *other != name);
    if is_elsewhere || is_stale || there.as_ref().is_some_and(|there| there.id != id && !is_empty(there)) {
        return Err("IMAP_MAILBOX_MOVED");
    }
    let mut mailbox = there.filter(|there| there.id == id).unwrap_or_default();
    let had = |key: &str| mailbox.facts.get(key).and_then(Value::number).unwrap_or(0);
    let last_uid = had("LAST_UID");
    if ["HIGHESTMODSEQ", "LAST_UID", "UIDVALIDITY"].iter().any(|key| number(key) < had(key)) {
        return Err("IMAP_SYNC_CHECKSUM");
    }
    for record in value.get("RECORD").and_then(Value::list).expect("records") {
        let uid = record.get("UID").and_then(Value::number).expect("a UID");
        let guid = record.get("GUID").and_then(|guid| Guid::from_hex(guid.text()?)).expect("a SHA-1");
        let expunged = is_expunged(record);
        match mailbox.records.get(&uid) {
            Some(stored) if stored.record == *record => continue,
            Some(_) => return Err("IMAP_SYNC_CHECKSUM"),
            None if uid <= last_uid && !expunged => return Err("IMAP_SYNC_CHECKSUM"),
            None => {}
        }
        let content = staged.get(&guid).cloned();
        if content.is_none() && !expunged {
            return Err("IMAP_IOERROR");
        }
        mailbox.records.insert(uid, Stored { record: record.clone(), content });
    }
    let facts = value.pairs().expect("pairs").iter().filter(|(key, _)| key != b"RECORD");
    mailbox.facts = facts.map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), value.clone())).collect();
    mailbox.id = id.clone();
    if number("SYNC_CRC") != 0 && number("SYNC_CRC") != u64::from(checksum(&mailbox)) {
        return Err("IMAP_SYNC_CHECKSUM");
    }
    replica.boxes.insert(name, mailbox);
    replica.stale.remove(&id);
    Ok(())
}

fn is_expunged(record: &Value) -> bool {
    record.get("FLAGS").and_then(Value::list).expect("flags").iter().any(|flag| flag.text() == Some(b"\\Expunged"))
}

fn crc(text: &str) -> u32 {
    let mut crc = Crc32::new();
    crc.update(text.as_bytes());
    crc.finish()
}

fn checksum(mailbox: &Mailbox) -> u32 {
    let of = |stored: &Stored| {
        let record = &stored.record;
        let field = |key: &str| text(record.get(key).unwrap_or_else(|| panic!("no {key}")));
        let flags = record.get("FLAGS").and_then(Value::list).expect("flags").iter();
        let flags = flags.fold(0, |sum, flag| sum ^ crc(&text(flag).to_lowercase()));
        let (uid, modseq, updated) = (field("UID"), field("MODSEQ"), field("LAST_UPDATED"));
        crc(&format!("{uid} {modseq} {updated} ({flags}) {} {}", field("INTERNALDATE"), field("GUID")))
    };
    mailbox.records.values().filter(|stored| !is_expunged(&stored.record)).fold(0, |sum, stored| sum ^ of(stored))
}
