//! The replication face of the model, as sync_server of cyrus-imapd 3.6.1 has it (`imap/sync_support.c: sync_apply_mailbox`).
//!
//! What comes is checked as there: nothing older than what is there, no record whose message did not come, a checksum that
//! agrees with what was made of the records. A message of no bytes and an unknown partition end the connection, and so does a
//! mailbox of scripts that is refused. Scripts, events and contacts are entered into what hangs on the INBOX that there is.
//! What must not come in: the client's code.

use super::imap::Shared;
use super::model::{Flags, INBOX, Limits, Mailbox, Message, NOW, SCRIPTS, Server, is_allowed_name, script_of};
use cylinder_core::cyrus::dlist::{self, Value};
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::imap::client::base64;
use cylinder_core::io::{Io, StreamId};
use cylinder_core::time::Span;
use cylinder_core::wire::stream::{Limits as StreamLimits, Stream};
use std::collections::BTreeMap;
use std::rc::Rc;

type Staged = BTreeMap<Guid, Rc<Vec<u8>>>;

/// What becomes of a command.
enum Outcome {
    Answer(String),
    /// The server's process is gone.
    Crash,
}

/// Serves one connection to its end.
pub async fn serve(io: Io, server: Shared) -> Result<(), Error> {
    let limits = StreamLimits { line: 64 << 20, stall: Span::from_secs(3600), bytes_per_second: 0 };
    let mut stream = Stream::new(&io, StreamId(1), "client", limits);
    stream.send(b"* SASL PLAIN\r\n* STARTTLS\r\n* SIEVE-MAILBOX\r\n* OK lab Cyrus sync server 3.6.1\r\n").await?;
    stream.flush().await?;
    let mut staged = Staged::new();
    while let Ok(Some(line)) = stream.line().await {
        let line = line.to_vec();
        let outcome = if let Some(response) = line.strip_prefix(b"AUTHENTICATE PLAIN ") {
            let is_right = response == base64(b"\0cyrus\0secret");
            Outcome::Answer(String::from(if is_right { "OK Success\r\n" } else { "NO authentication failure\r\n" }))
        } else if let Some(first) = line.strip_prefix(b"APPLY MESSAGE ") {
            match messages(&mut stream, first.to_vec()).await {
                Some(came) => {
                    staged.extend(came);
                    Outcome::Answer(String::from("OK success\r\n"))
                }
                None => Outcome::Crash,
            }
        } else if line == b"EXIT" {
            stream.send(b"OK bye\r\n").await?;
            return stream.settle().await;
        } else {
            let Some(whole) = rest(&mut stream, line).await else { return Ok(()) };
            command(&mut server.borrow_mut(), &mut staged, &whole)
        };
        let Outcome::Answer(answer) = outcome else { return Ok(()) };
        stream.send(answer.as_bytes()).await?;
        stream.flush().await?;
    }
    Ok(())
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

/// `(%{partition guid size}` CRLF bytes, more of them, `)`. `None` where the connection ends.
async fn messages(stream: &mut Stream, mut line: Vec<u8>) -> Option<Staged> {
    let mut came = Staged::new();
    while line != b")" {
        let text = String::from_utf8_lossy(&line).into_owned();
        let head = text.trim_start_matches(['(', ' ']).strip_prefix("%{default ")?;
        let (guid, size) = head.trim_end_matches('}').split_once(' ')?;
        let (guid, size) = (Guid::from_hex(guid.as_bytes())?, size.parse().ok().filter(|size| *size > 0)?);
        let content = bytes(stream, size).await?;
        assert_eq!(Guid::of(&content), guid, "a message with another SHA-1 than its name");
        came.insert(guid, Rc::new(content));
        line = stream.line().await.ok()??.to_vec();
    }
    Some(came)
}

fn answer(data: String, result: Result<(), &str>) -> Outcome {
    Outcome::Answer(match result {
        Ok(()) => format!("{data}OK success\r\n"),
        Err(code) => format!("{data}NO {code} refused\r\n"),
    })
}

fn command(server: &mut Server, staged: &mut Staged, line: &[u8]) -> Outcome {
    let mut words = line.splitn(3, |&c| c == b' ').map(|word| String::from_utf8_lossy(word).into_owned());
    let (verb, what) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let value = || dlist::parse("command", 0, line.get(verb.len() + what.len() + 2..).unwrap_or_default()).expect("a dlist").0;
    match (&verb[..], &what[..]) {
        ("NOOP", _) => answer(String::new(), Ok(())),
        ("GET", "MAILBOXES") => answer(look(server, &value(), |name, _, wanted| name == wanted), Ok(())),
        ("GET", "UNIQUEIDS") => answer(look(server, &value(), |_, mailbox, wanted| mailbox.id == wanted), Ok(())),
        ("GET", "FULLMAILBOX") => {
            let name = text(&value());
            match server.boxes.get(&name) {
                Some(mailbox) => answer(full(&name, mailbox), Ok(())),
                None => answer(String::new(), Err("IMAP_MAILBOX_NONEXISTENT")),
            }
        }
        ("GET", "META" | "USER") => answer(meta(server), Ok(())),
        ("APPLY", "RESERVE") => reserve(server, staged, &value()),
        ("APPLY", "MAILBOX") => mailbox(server, staged, &value()),
        ("APPLY", "UNMAILBOX") => answer(String::new(), remove(server, &text(&value()))),
        ("APPLY", "UNUSER") => {
            server.boxes.retain(|name, _| !Server::is_living(name));
            server.files.clear();
            answer(String::new(), Ok(()))
        }
        ("APPLY", "RENAME") => {
            let (value, field) = (value(), |value: &Value, key: &str| value.get(key).map(text).unwrap_or_default());
            let moved = server.boxes.remove(&field(&value, "OLDMBOXNAME")).ok_or("IMAP_MAILBOX_NONEXISTENT");
            let moved = moved.map(|mailbox| {
                enter(server, &mailbox, 0);
                server.boxes.insert(field(&value, "NEWMBOXNAME"), mailbox);
            });
            answer(String::new(), moved)
        }
        ("APPLY", what) => answer(String::new(), user_data(server, what, value)),
        ("RESTART", _) => {
            staged.clear();
            answer(String::new(), Ok(()))
        }
        _ => Outcome::Answer(String::from("BAD IMAP_PROTOCOL_ERROR Unrecognized command\r\n")),
    }
}

fn text(value: &Value) -> String {
    String::from_utf8_lossy(value.text().unwrap_or_default()).into_owned()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::number).unwrap_or_else(|| panic!("no number {key}"))
}

/// Bytes as they can stand in an answer.
fn shown(bytes: &[u8]) -> String {
    format!("{{{}+}}\r\n{}", bytes.len(), String::from_utf8_lossy(bytes))
}

fn acl_text(mailbox: &Mailbox) -> String {
    mailbox.acl.iter().map(|(who, rights)| format!("{who}\t{rights}\t")).collect()
}

fn facts(name: &str, mailbox: &Mailbox) -> String {
    let Mailbox { id, last_uid, modseq, uidvalidity, .. } = mailbox;
    let kind = if mailbox.kind == b'e' { String::new() } else { format!("MBOXTYPE {} ", char::from(mailbox.kind)) };
    let acl = shown(acl_text(mailbox).as_bytes());
    format!(
        "UNIQUEID {id} MBOXNAME {} {kind}SYNC_CRC {} LAST_UID {last_uid} HIGHESTMODSEQ {modseq} UIDVALIDITY {uidvalidity} PARTITION \
         default XCONVMODSEQ {modseq} ACL {acl} OPTIONS \"\"",
        shown(name.as_bytes()),
        mailbox.sync_crc(),
    )
}

fn look(server: &Server, wanted: &Value, is: impl Fn(&str, &Mailbox, &str) -> bool) -> String {
    let wanted: Vec<String> = wanted.list().unwrap_or_default().iter().map(text).collect();
    let found = server.boxes.iter().filter(|(name, mailbox)| wanted.iter().any(|wanted| is(name, mailbox, wanted)));
    found.map(|(name, mailbox)| format!("* MAILBOX %({})\r\n", facts(name, mailbox))).collect()
}

fn full(name: &str, mailbox: &Mailbox) -> String {
    let record = |message: &Message| {
        let expunged = if message.expunged { &[b"\\Expunged".to_vec()][..] } else { &[] };
        let flags: Vec<String> =
            message.flags.iter().chain(expunged).map(|f| String::from_utf8_lossy(f).into_owned()).collect();
        let Message { uid, modseq, updated, date, guid, .. } = message;
        let (flags, size) = (flags.join(" "), message.content.len());
        format!(
            "%(UID {uid} MODSEQ {modseq} LAST_UPDATED {updated} FLAGS ({flags}) INTERNALDATE {date} SIZE {size} GUID {guid})"
        )
    };
    let records: Vec<String> = mailbox.messages.iter().map(record).collect();
    format!("* MAILBOX %({} RECORD ({}))\r\n", facts(name, mailbox), records.join(" "))
}

fn meta(server: &Server) -> String {
    let files = server.user_files();
    let subscribed: String = files.subscribed.iter().map(|name| format!("* LSUB {}\r\n", shown(name.as_bytes()))).collect();
    let seen = files.seen.iter().map(|(id, uids)| format!("* SEEN %(UNIQUEID {id} SEENUIDS {})\r\n", shown(uids.as_bytes())));
    let scripts = files.scripts.iter().map(|(name, guid)| {
        let is_active = files.active.as_ref() == Some(name);
        let line = |file: &str, active: u8| {
            format!("* SIEVE %(FILENAME {name}{file} LAST_UPDATE 7 GUID {guid} ISACTIVE {active})\r\n")
        };
        line(".script", 0) + &if is_active { line(".bc", 1) } else { String::new() }
    });
    subscribed + &seen.collect::<String>() + &scripts.collect::<String>()
}

/// Tells which messages are nowhere; those that are found are held ready.
fn reserve(server: &Server, staged: &mut Staged, value: &Value) -> Outcome {
    if value.get("PARTITION").map(text).as_deref() != Some("default") {
        return Outcome::Crash;
    }
    let guids = value.get("GUID").and_then(Value::list).unwrap_or_default();
    let mut missing = Vec::new();
    for guid in guids.iter().filter_map(|guid| Guid::from_hex(guid.text()?)) {
        let mut stored = server.boxes.values().flat_map(|mailbox| &mailbox.messages);
        match stored.find(|message| message.guid == guid && message.has_file) {
            Some(message) => drop(staged.insert(guid, message.content.clone())),
            None if staged.contains_key(&guid) => {}
            None => missing.push(guid.to_hex()),
        }
    }
    let line = if missing.is_empty() { String::new() } else { format!("* MISSING ({})\r\n", missing.join(" ")) };
    answer(line, Ok(()))
}

/// Removes a mailbox at once. What hangs on an INBOX stays, and is found again only by its uniqueid.
fn remove(server: &mut Server, name: &str) -> Result<(), &'static str> {
    let mailbox = server.boxes.remove(name).ok_or("IMAP_MAILBOX_NONEXISTENT")?;
    server.forget(&mailbox);
    if name.starts_with("DELETED.") {
        server.stale.insert(mailbox.id, name.to_owned());
    }
    Ok(())
}

fn mailbox(server: &mut Server, staged: &Staged, value: &Value) -> Outcome {
    let kind = value.get("MBOXTYPE").map(text).and_then(|kind| kind.bytes().next()).unwrap_or(b'e');
    match apply(server, staged, value, kind) {
        // The refusal is lost, and with it the process.
        Err("IMAP_MAILBOX_MOVED") if kind == SCRIPTS => Outcome::Crash,
        result => answer(String::new(), result),
    }
}

fn apply(server: &mut Server, staged: &Staged, value: &Value, kind: u8) -> Result<(), &'static str> {
    let field = |key: &str| text(value.get(key).unwrap_or_else(|| panic!("no {key}")));
    let (name, id) = (field("MBOXNAME"), field("UNIQUEID"));
    let is_homeless = Server::is_living(&name) && name != INBOX && !server.boxes.contains_key(INBOX);
    if is_homeless || !is_allowed_name(&name) {
        return Err("IMAP_UNKNOWN_ERROR");
    }
    if value.get("PARTITION").map(text).as_deref() != Some("default") {
        return Err("IMAP_PARTITION_UNKNOWN");
    }
    let there = server.boxes.get(&name).cloned();
    let is_elsewhere = server.boxes.iter().any(|(other, mailbox)| *other != name && mailbox.id == id);
    let is_stale = there.is_none() && server.stale.get(&id).is_some_and(|other| *other != name);
    if is_elsewhere || is_stale || there.as_ref().is_some_and(|there| there.id != id && there.last_uid > 0) {
        return Err("IMAP_MAILBOX_MOVED");
    }
    let mut mailbox = there.filter(|there| there.id == id).unwrap_or_else(|| Mailbox::new(&id, 0));
    let had = [mailbox.modseq.min(number(value, "HIGHESTMODSEQ").max(1)), u64::from(mailbox.last_uid)];
    if number(value, "HIGHESTMODSEQ") < had[0] || number(value, "LAST_UID") < had[1] {
        return Err("IMAP_SYNC_CHECKSUM");
    }
    let last_uid = mailbox.last_uid;
    for record in value.get("RECORD").and_then(Value::list).unwrap_or_default() {
        let message = message(record, staged)?;
        match mailbox.messages.iter().find(|there| there.uid == message.uid) {
            Some(there) if there.guid == message.guid && there.flags == message.flags => continue,
            Some(_) => return Err("IMAP_SYNC_CHECKSUM"),
            None if message.uid <= last_uid && !message.expunged => return Err("IMAP_SYNC_CHECKSUM"),
            None => {}
        }
        for flag in message.flags.iter().filter(|flag| !flag.starts_with(b"\\")) {
            mailbox.learn(flag, 128);
        }
        mailbox.messages.push(message);
    }
    mailbox.messages.sort_by_key(|message| message.uid);
    mailbox.kind = kind;
    mailbox.uidvalidity = number(value, "UIDVALIDITY") as u32;
    mailbox.last_uid = number(value, "LAST_UID") as u32;
    mailbox.modseq = number(value, "HIGHESTMODSEQ");
    let words: Vec<String> = field("ACL").split('\t').map(str::to_owned).collect();
    mailbox.acl = words.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    for note in value.get("ANNOTATIONS").and_then(Value::list).unwrap_or_default() {
        let of = |key: &str| note.get(key).map(text).unwrap_or_default();
        mailbox.notes.insert((of("ENTRY"), of("USERID")), of("VALUE").into_bytes());
    }
    let crc = value.get("SYNC_CRC").and_then(Value::number).unwrap_or(0);
    let agrees = crc == 0 || crc == u64::from(mailbox.sync_crc());
    let known = server.boxes.values().find(|there| there.id == id).map_or(0, |there| there.last_uid);
    enter(server, &mailbox, known);
    server.boxes.insert(name, mailbox);
    server.stale.remove(&id);
    if agrees { Ok(()) } else { Err("IMAP_SYNC_CHECKSUM") }
}

fn message(record: &Value, staged: &Staged) -> Result<Message, &'static str> {
    let guid = record.get("GUID").and_then(|guid| Guid::from_hex(guid.text()?)).expect("a SHA-1");
    let flags = record.get("FLAGS").and_then(Value::list).unwrap_or_default();
    let mut flags: Flags = flags.iter().filter_map(|flag| flag.text().map(<[u8]>::to_vec)).collect();
    let expunged = flags.remove(&b"\\Expunged"[..]);
    let content = staged.get(&guid).cloned();
    if content.is_none() && !expunged {
        return Err("IMAP_IOERROR");
    }
    // 0 is taken for now.
    let date = match number(record, "INTERNALDATE") as i64 {
        0 => NOW,
        date => date,
    };
    Ok(Message {
        uid: number(record, "UID") as u32,
        has_file: content.is_some(),
        content: content.unwrap_or_default(),
        guid,
        flags,
        date,
        modseq: number(record, "MODSEQ"),
        updated: number(record, "LAST_UPDATED") as i64,
        expunged,
    })
}

/// Enters what a mailbox has behind the UID `known` into the databases of the user.
fn enter(server: &mut Server, mailbox: &Mailbox, known: u32) {
    if mailbox.kind == b'e' {
        return;
    }
    let files = server.files_mut();
    // Only what comes is entered: a record that is there already is not looked at again.
    for message in mailbox.visible().filter(|message| message.uid > known) {
        match script_of(&message.content).filter(|_| mailbox.kind == SCRIPTS) {
            Some((name, text)) => {
                if message.flags.contains(&b"\\Flagged"[..]) {
                    files.active = Some(name.clone());
                }
                files.scripts.insert(name, Guid::of(text));
            }
            None => {
                files.dav.insert((mailbox.id.clone(), message.uid));
            }
        }
    }
}

fn user_data(server: &mut Server, what: &str, value: impl Fn() -> Value) -> Result<(), &'static str> {
    if what == "CAPABILITIES" {
        return Ok(());
    }
    let value = value();
    let field = |key: &str| value.get(key).map(text).unwrap_or_default();
    let limit = |keys: [&str; 2]| keys.iter().find_map(|key| value.get(key).and_then(Value::number));
    match what {
        "SUB" => {
            server.files_mut().subscribed.insert(field("MBOXNAME"));
        }
        "UNSUB" => {
            server.files_mut().subscribed.remove(&field("MBOXNAME"));
        }
        "SEEN" => drop(server.files_mut().seen.insert(field("UNIQUEID"), field("SEENUIDS"))),
        "SIEVE" => server.put_script(field("FILENAME").trim_end_matches(".script"), field("CONTENT").as_bytes()),
        "UNSIEVE" => server.take_script(field("FILENAME").trim_end_matches(".script")),
        "ACTIVATE_SIEVE" => server.files_mut().active = Some(field("FILENAME").trim_end_matches(".bc").to_owned()),
        "UNACTIVATE_SIEVE" => server.files_mut().active = None,
        "QUOTA" => {
            let (storage, messages) = (limit(["STORAGE", "LIMIT"]), limit(["MESSAGE", "MESSAGE"]));
            let limits = Limits { storage, messages, folders: limit(["X-NUM-FOLDERS", "MAILBOX"]) };
            server.quotas.insert(field("ROOT"), limits);
        }
        _ => {}
    }
    Ok(())
}
