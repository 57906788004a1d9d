//! A connection to a replication server, or to an IMAP server that is one too.
//!
//! Commands and data are dlists on lines ([`crate::cyrus::dlist`]); literals are never waited for. What a server refuses is a
//! value, a [`No`], and the connection goes on. What must not come in: what is restored, and archives.

use crate::cyrus::dlist::{self, Value};
use crate::error::Error;
use crate::escape::shown;
use crate::guid::Guid;
use crate::imap::client::{Login, base64};
use crate::time::Span;
use crate::wire::stream::{Limits, NO_STARTTLS, StartTls, Stream, number};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Bytes of one answer, literals among them.
const ANSWER_MAX: usize = 16 << 20;
/// Lines of a greeting; Cyrus has six at most.
const GREETING_MAX: usize = 100;
/// Lines before the end of a command.
const ANSWERS_MAX: usize = 1_000_000;

/// How long an answer may take.
const PATIENCE: Span = Span::from_secs(60);
/// Messages that a server removes in a second, at least.
const REMOVED_PER_SECOND: u64 = 500;
/// How long is waited for an answer once somebody wants the restore to end.
const GRACE: Span = Span::from_secs(3);

/// What a server has refused: `IMAP_SYNC_CHECKSUM Checksum Failure`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct No(pub Vec<u8>);

impl No {
    /// True for this code, such as `IMAP_SYNC_CHECKSUM`.
    pub fn is(&self, code: &str) -> bool {
        self.0.split(|&c| c == b' ').next() == Some(code.as_bytes())
    }
}

impl fmt::Display for No {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server says `{}`", shown(&self.0[..self.0.len().min(300)]))
    }
}

/// What a command comes to: an answer, or a refusal.
pub type Answer<T> = Result<T, No>;

/// A mailbox that is on the server, as far as it is told without its records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mailbox {
    /// Internal name.
    pub name: Vec<u8>,
    /// uniqueid.
    pub id: Vec<u8>,
    /// UIDVALIDITY.
    pub uidvalidity: u64,
    /// The greatest UID ever given.
    pub last_uid: u64,
    /// HIGHESTMODSEQ.
    pub highestmodseq: u64,
    /// The XOR over the records (`SYNC_CRC`).
    pub sync_crc: u64,
    /// What the conversations database has of it; 0 if it is not in there.
    pub xconvmodseq: u64,
    /// Where it is.
    pub partition: Vec<u8>,
}

/// A Sieve script that is on the server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Script {
    /// Its name.
    pub name: Vec<u8>,
    /// SHA-1 of its text.
    pub guid: Option<Guid>,
    /// It is the one that the server runs.
    pub is_active: bool,
}

/// How commands are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dialect {
    /// csync: no tags.
    Server,
    /// imapd: tags, and verbs that begin with SYNC.
    Imap,
}

/// What a server says it can do.
#[derive(Clone, Copy, Default)]
struct Can {
    /// Passwords, on this connection.
    takes_plain: bool,
    /// TLS, from here on.
    starts_tls: bool,
    /// Scripts as messages.
    keeps_scripts: bool,
    /// What a replication server does, for who is logged in to an IMAP server.
    replicates: bool,
}

/// How a server greets.
struct Greeting {
    can: Can,
    release: Option<(u32, u32)>,
}

/// A message that is about to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Upload {
    /// Its SHA-1.
    pub guid: Guid,
    /// Bytes.
    pub size: u64,
}

/// A connection that is logged in.
pub struct Client {
    stream: Stream,
    dialect: Dialect,
    tags: u32,
    keeps_scripts: bool,
    finds_ids: bool,
    takes_nanoseconds: bool,
    /// The words of the last command.
    step: String,
}

impl Client {
    /// The limits of a stream that carries replication. What is asked for in one command is done in seconds, unless the server
    /// waits for a lock, and then it keeps everybody else from the user's mailboxes meanwhile.
    pub const LIMITS: Limits = Limits { line: ANSWER_MAX, stall: PATIENCE, bytes_per_second: 0 };

    /// Reads the greeting, which tells the dialect, has the connection encrypted if that is wished, and logs in. `login` must
    /// be an administrator.
    pub async fn open(stream: Stream, tls: StartTls, login: Login<'_>) -> Result<Client, Error> {
        let (dialect, step) = (Dialect::Server, String::from("a greeting"));
        let (keeps_scripts, finds_ids, takes_nanoseconds) = (false, false, false);
        let mut client = Client { stream, dialect, tags: 0, keeps_scripts, finds_ids, takes_nanoseconds, step };
        client.stream.end_when_stopped(GRACE);
        let mut greeting = client.greeting().await?;
        if client.dialect == Dialect::Imap {
            greeting.can = client.capabilities().await?;
        }
        if tls == StartTls::Always || (!greeting.can.takes_plain && greeting.can.starts_tls) {
            client.start_tls(&greeting.can).await?;
            greeting.can = match client.dialect {
                // It greets once more (`imap/sync_server.c: cmd_starttls`).
                Dialect::Server => client.greeting().await?.can,
                Dialect::Imap => client.capabilities().await?,
            };
        }
        if !greeting.can.takes_plain {
            return Err(client.stream.broken("takes no password on this connection (no PLAIN); set allowplaintext there"));
        }
        client.login(login).await?;
        if client.dialect == Dialect::Imap {
            greeting.can = client.capabilities().await?;
            if !greeting.can.replicates {
                let why = "is no replication server for this user (no X-REPLICATION): log in as an administrator, or name the \
                           csync port";
                return Err(client.stream.broken(why));
            }
        }
        client.keeps_scripts = greeting.can.keeps_scripts;
        client.takes_nanoseconds = greeting.release.is_some_and(|release| release >= (3, 13));
        client.finds_ids = greeting.release.map_or(client.keeps_scripts, |release| release >= (3, 6));
        Ok(client)
    }

    /// The scripts of a user, and from here on mailboxes of scripts are like others. A server tells of scripts only as long as
    /// the client has not said that it takes such mailboxes, and takes none before (`imap/sync_support.c: user_meta`,
    /// `sync_apply_mailbox`).
    pub async fn scripts(&mut self, user: &[u8]) -> Result<Answer<Vec<Script>>, Error> {
        if !self.keeps_scripts {
            return Ok(Ok(Vec::new()));
        }
        let values = match self.get("META", &Value::Text(user.to_vec())).await? {
            Ok(values) => values,
            Err(no) => return Ok(Err(no)),
        };
        self.keeps_scripts = self.apply("CAPABILITIES", b"(SIEVE-MAILBOX)").await?.is_ok();
        Ok(Ok(scripts(&values)))
    }

    /// What was asked for last, such as `APPLY MAILBOX`.
    pub fn step(&self) -> &str {
        &self.step
    }

    /// True if the server has not answered in time.
    pub fn is_silent(&self) -> bool {
        self.stream.is_silent()
    }

    /// True if INTERNALDATE has nanoseconds there (index version 20).
    pub fn takes_nanoseconds(&self) -> bool {
        self.takes_nanoseconds
    }

    /// True if what the server keeps of a user lies by the uniqueid of the INBOX, as since 3.6.
    pub fn keeps_users_by_id(&self) -> bool {
        self.finds_ids
    }

    /// Reads the greeting, and takes the dialect from it.
    async fn greeting(&mut self) -> Result<Greeting, Error> {
        let mut can = Can::default();
        for _ in 0..GREETING_MAX {
            let line = self.stream.some_line().await?.to_vec();
            if let Some(mechanisms) = line.strip_prefix(b"* SASL ") {
                can.takes_plain = mechanisms.split(|&c| c == b' ').any(|mechanism| mechanism.eq_ignore_ascii_case(b"PLAIN"));
            } else if line == b"* SIEVE-MAILBOX" {
                can.keeps_scripts = true;
            } else if line == b"* STARTTLS" {
                can.starts_tls = true;
            } else if let Some(ok) = line.strip_prefix(b"* OK ") {
                let is_server = ok.windows(11).any(|window| window == b"sync server");
                self.dialect = if is_server { Dialect::Server } else { Dialect::Imap };
                return Ok(Greeting { can, release: release_of(ok) });
            } else if !line.starts_with(b"* ") || line.starts_with(b"* BYE") {
                return Err(self.stream.unexpected(&line, "the greeting of a replication or IMAP server"));
            }
        }
        Err(self.stream.broken(format!("does not come to the end of its greeting in {GREETING_MAX} lines")))
    }

    /// What an IMAP server can do.
    async fn capabilities(&mut self) -> Result<Can, Error> {
        let mut can = Can::default();
        let tag = self.begin(b"CAPABILITY").await?;
        let mut look = |name: &[u8], rest: &[u8]| {
            let has = |wanted: &[u8]| name == b"CAPABILITY" && rest.split(|&c| c == b' ').any(|word| word == wanted);
            can.replicates |= has(b"X-REPLICATION");
            can.keeps_scripts |= has(b"X-SIEVE-MAILBOX");
            can.takes_plain |= has(b"AUTH=PLAIN");
            can.starts_tls |= has(b"STARTTLS");
        };
        let _ = self.end(&tag, &mut look).await?;
        Ok(can)
    }

    async fn start_tls(&mut self, can: &Can) -> Result<(), Error> {
        if !can.starts_tls {
            return Err(self.stream.broken(NO_STARTTLS));
        }
        let tag = self.begin(b"STARTTLS").await?;
        match self.end(&tag, &mut |_, _| ()).await? {
            Ok(()) => self.stream.secure().await,
            Err(no) => Err(self.stream.broken(format!("does not begin TLS: {no}"))),
        }
    }

    /// True if Sieve scripts are messages in a mailbox there, as they are since 3.6.
    pub fn keeps_scripts(&self) -> bool {
        self.keeps_scripts
    }

    async fn login(&mut self, login: Login<'_>) -> Result<(), Error> {
        let message = [login.act_as.unwrap_or_default(), b"\0", login.user, b"\0", login.password].concat();
        let tag = self.begin(b"AUTHENTICATE PLAIN ").await?;
        self.stream.send(&base64(&message)).await?;
        if let Err(no) = self.end(&tag, &mut |_, _| ()).await? {
            let why = format!("{}: {} may not log in: {no}", self.stream.peer(), shown(login.user));
            return Err(Error::Refused(why));
        }
        Ok(())
    }

    /// The mailboxes with these internal names, and those with these uniqueids, wherever they are.
    ///
    /// Before 3.6 a server that is asked for a uniqueid that it does not have looks for a mailbox without a name, and crashes
    /// (`imap/sync_support.c: sync_mailbox_byuniqueid`; seen with 3.2). There a uniqueid is no key of anything, so those
    /// servers are not asked, and only names tell. A server that hides its release is 3.6 or later if it keeps scripts as
    /// messages.
    pub async fn mailboxes(&mut self, names: &[&[u8]], ids: &[&[u8]]) -> Result<Answer<Vec<Mailbox>>, Error> {
        let mut found = Vec::new();
        let ids = if self.finds_ids { ids } else { &[] };
        for (what, words) in [("MAILBOXES", names), ("UNIQUEIDS", ids)] {
            if words.is_empty() {
                continue;
            }
            let list = Value::List(words.iter().map(|word| Value::Text(word.to_vec())).collect());
            match self.get(what, &list).await? {
                Ok(values) => found.extend(values.iter().filter_map(mailbox)),
                Err(no) if no.is("IMAP_MAILBOX_NONEXISTENT") => {}
                Err(no) => return Ok(Err(no)),
            }
        }
        found.sort_by(|a: &Mailbox, b| a.name.cmp(&b.name));
        found.dedup();
        Ok(Ok(found))
    }

    /// Everything that the server tells of a mailbox, its records among it.
    pub async fn whole_mailbox(&mut self, name: &[u8]) -> Result<Answer<Option<Value>>, Error> {
        Ok(self.get("FULLMAILBOX", &Value::Text(name.to_vec())).await?.map(|values| values.into_iter().next()))
    }

    /// Removes a mailbox of about so many messages.
    pub async fn remove(&mut self, name: &[u8], messages: u64) -> Result<Answer<()>, Error> {
        let secs = i64::try_from(messages / REMOVED_PER_SECOND).unwrap_or(i64::MAX / 2000);
        self.stream.set_stall(Span::from_ms(PATIENCE.ms() + secs.saturating_mul(1000)));
        let mut value = Vec::new();
        dlist::emit(&Value::Text(name.to_vec()), &mut value);
        let answer = self.apply("UNMAILBOX", &value).await;
        self.stream.set_stall(PATIENCE);
        answer
    }

    async fn get(&mut self, what: &str, value: &Value) -> Result<Answer<Vec<Value>>, Error> {
        let mut line = format!("{} {what} ", self.verb("GET")).into_bytes();
        dlist::emit(value, &mut line);
        let tag = self.begin(&line).await?;
        let (mut found, mut bad) = (Vec::new(), None);
        let answer = self
            .end(&tag, &mut |_, rest| match dlist::parse("replication", 0, rest) {
                Ok((value, _)) => found.push(value),
                Err(damage) => bad = Some(damage),
            })
            .await?;
        match bad {
            Some(damage) => Err(self.stream.broken(format!("{damage}"))),
            None => Ok(answer.map(|()| found)),
        }
    }

    /// Tells the server which messages are going to be used. Gives those that it has not found in these mailboxes.
    pub async fn reserve(&mut self, partition: &[u8], mailboxes: &[&[u8]], guids: &[Guid]) -> Result<Answer<Vec<Guid>>, Error> {
        let text = |text: &[u8]| Value::Text(text.to_vec());
        let guids = guids.iter().map(|guid| Value::Text(guid.to_hex().into_bytes())).collect();
        let value = Value::Pairs(Vec::from([
            (b"PARTITION".to_vec(), text(partition)),
            (b"MBOXNAME".to_vec(), Value::List(mailboxes.iter().map(|name| text(name)).collect())),
            (b"GUID".to_vec(), Value::List(guids)),
        ]));
        let mut line = format!("{} RESERVE ", self.verb("APPLY")).into_bytes();
        dlist::emit(&value, &mut line);
        let tag = self.begin(&line).await?;
        let mut missing = Vec::new();
        let mut take = |name: &[u8], rest: &[u8]| {
            if name == b"MISSING"
                && let Ok((Value::List(guids), _)) = dlist::parse("replication", 0, rest)
            {
                missing.extend(guids.iter().filter_map(|guid| Guid::from_hex(guid.text()?)));
            }
        };
        Ok(self.end(&tag, &mut take).await?.map(|()| missing))
    }

    /// Begins to send messages.
    pub async fn messages_begin(&mut self) -> Result<Vec<u8>, Error> {
        let line = format!("{} MESSAGE (", self.verb("APPLY"));
        self.begin(line.as_bytes()).await
    }

    /// Announces the next message; its content follows by [`Client::piece`].
    pub async fn message(&mut self, partition: &[u8], message: Upload, is_first: bool) -> Result<(), Error> {
        let mut head = Vec::new();
        if !is_first {
            head.push(b' ');
        }
        head.extend_from_slice(b"%{");
        head.extend_from_slice(partition);
        head.extend_from_slice(format!(" {} {}}}\r\n", message.guid, message.size).as_bytes());
        self.stream.send(&head).await
    }

    /// Sends bytes of a message.
    pub async fn piece(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.stream.send(piece).await
    }

    /// Ends the messages that were begun under `tag`.
    pub async fn messages_end(&mut self, tag: &[u8]) -> Result<Answer<()>, Error> {
        self.stream.send(b")").await?;
        self.end(tag, &mut |_, _| ()).await
    }

    /// Has something done: `what` is such as `MAILBOX`, `value` the dlist behind it.
    pub async fn apply(&mut self, what: &str, value: &[u8]) -> Result<Answer<()>, Error> {
        let line = format!("{} {what} ", self.verb("APPLY"));
        let tag = self.begin(line.as_bytes()).await?;
        self.stream.send(value).await?;
        self.end(&tag, &mut |_, _| ()).await
    }

    /// Has the server forget the messages that it holds ready.
    pub async fn restart(&mut self) -> Result<Answer<()>, Error> {
        let verb = if self.dialect == Dialect::Imap { "SYNCRESTART" } else { "RESTART" };
        let tag = self.begin(verb.as_bytes()).await?;
        self.end(&tag, &mut |_, _| ()).await
    }

    /// Ends the connection.
    pub async fn exit(mut self) {
        let verb = if self.dialect == Dialect::Imap { "LOGOUT" } else { "EXIT" };
        if let Ok(tag) = self.begin(verb.as_bytes()).await {
            let _ = self.end(&tag, &mut |_, _| ()).await;
        }
        self.stream.close().await;
    }

    fn verb(&self, verb: &str) -> String {
        if self.dialect == Dialect::Imap { format!("SYNC{verb}") } else { String::from(verb) }
    }

    /// Sends the beginning of a command, and gives what stands before its end.
    async fn begin(&mut self, line: &[u8]) -> Result<Vec<u8>, Error> {
        self.tags += 1;
        let words: Vec<&[u8]> = line.split(|&c| c == b' ').take(2).collect();
        self.step = shown(&words.join(&b' '));
        let tag = if self.dialect == Dialect::Imap { format!("c{} ", self.tags) } else { String::new() };
        self.stream.send(tag.as_bytes()).await?;
        self.stream.send(line).await?;
        Ok(tag.into_bytes())
    }

    /// Ends a command and waits for what comes of it; `each` gets the name and the rest of each line of data.
    async fn end(&mut self, tag: &[u8], each: &mut dyn FnMut(&[u8], &[u8])) -> Result<Answer<()>, Error> {
        self.stream.send(b"\r\n").await?;
        for _ in 0..ANSWERS_MAX {
            let line = self.answer().await?;
            if let Some(data) = line.strip_prefix(b"* ") {
                let space = data.iter().position(|&c| c == b' ').unwrap_or(data.len());
                if &data[..space] == b"BYE" && tag.is_empty() {
                    return Err(self.stream.unexpected(&line, "an answer"));
                }
                each(&data[..space], data.get(space + 1..).unwrap_or_default());
                continue;
            }
            let end = line.strip_prefix(tag).unwrap_or_default();
            if end.starts_with(b"OK") {
                return Ok(Ok(()));
            }
            return match end.strip_prefix(b"NO ") {
                Some(why) => Ok(Err(No(why.to_vec()))),
                None => Err(self.stream.unexpected(&line, "`OK` or `NO`")),
            };
        }
        Err(self.stream.broken("does not come to the end of an answer"))
    }

    /// One line with all literals in it.
    async fn answer(&mut self) -> Result<Vec<u8>, Error> {
        let mut whole = Vec::new();
        loop {
            let from = whole.len();
            whole.extend_from_slice(self.stream.some_line().await?);
            let len = literal_len(&whole[from..]);
            if whole.len() as u64 + len.unwrap_or(0) > ANSWER_MAX as u64 {
                return Err(self.stream.broken(format!("sends an answer of more than {ANSWER_MAX} bytes")));
            }
            let Some(mut left) = len else { return Ok(whole) };
            whole.extend_from_slice(b"\r\n");
            while left > 0 {
                let piece = self.stream.piece(left).await?;
                left -= piece.len() as u64;
                whole.extend_from_slice(piece);
            }
        }
    }
}

/// The length that a line announces at its end, as in `VALUE {42+}`.
fn literal_len(line: &[u8]) -> Option<u64> {
    let from = line.strip_suffix(b"}")?.iter().rposition(|&c| c == b'{')? + 1;
    let digits = &line[from..line.len() - 1];
    number(digits.strip_suffix(b"+").unwrap_or(digits))
}

/// What `MAILBOX %(...)` tells; `None` for what is only a name: a tombstone, or a place between mailboxes.
fn mailbox(value: &Value) -> Option<Mailbox> {
    let text = |key: &str| value.get(key).and_then(Value::text).map(<[u8]>::to_vec);
    let number = |key: &str| value.get(key).and_then(Value::number).unwrap_or(0);
    let kind = text("MBOXTYPE").unwrap_or_default();
    if kind.contains(&b'd') || kind.contains(&b'i') {
        return None;
    }
    Some(Mailbox {
        name: text("MBOXNAME")?,
        id: text("UNIQUEID")?,
        uidvalidity: number("UIDVALIDITY"),
        last_uid: number("LAST_UID"),
        highestmodseq: number("HIGHESTMODSEQ"),
        sync_crc: number("SYNC_CRC"),
        xconvmodseq: number("XCONVMODSEQ"),
        partition: text("PARTITION").unwrap_or_default(),
    })
}

/// The scripts that `SIEVE %(...)` tells of. The active one stands a second time, by the name of its bytecode.
fn scripts(values: &[Value]) -> Vec<Script> {
    let file = |value: &Value| Some((value.get("FILENAME")?.text()?.to_vec(), value.get("ISACTIVE").and_then(Value::number)));
    let files: Vec<(&Value, Vec<u8>, bool)> =
        values.iter().filter_map(|value| file(value).map(|(name, active)| (value, name, active == Some(1)))).collect();
    let is_active = |name: &[u8]| {
        let named = |file: &[u8]| file.strip_suffix(b".bc").or(file.strip_suffix(b".script")) == Some(name);
        files.iter().any(|(_, file, active)| *active && named(file))
    };
    let script = |(value, file, _): &(&Value, Vec<u8>, bool)| {
        let name = file.strip_suffix(b".script")?.to_vec();
        let guid = value.get("GUID").and_then(|guid| Guid::from_hex(guid.text()?));
        Some(Script { is_active: is_active(&name), name, guid })
    };
    files.iter().filter_map(script).collect()
}

/// The first two numbers of the release that a greeting tells, as `Cyrus sync server 3.6.1` and `Cyrus IMAP 3.2.6` do.
fn release_of(greeting: &[u8]) -> Option<(u32, u32)> {
    let text = core::str::from_utf8(greeting).ok()?;
    let at = ["sync server ", "Cyrus IMAP "].iter().find_map(|before| Some(text.find(before)? + before.len()))?;
    let mut numbers = text[at..].split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_understood_and_a_mere_name_is_none() {
        let line = b"%(UNIQUEID abc MBOXNAME user.anna LAST_UID 7 HIGHESTMODSEQ 12 UIDVALIDITY 9 SYNC_CRC 77 ACL {3+}\r\na\tb)";
        let (value, _) = dlist::parse("t", 0, line).expect("a dlist");
        let found = mailbox(&value).expect("a mailbox");
        assert_eq!((found.last_uid, found.highestmodseq, found.uidvalidity, found.sync_crc), (7, 12, 9, 77));
        for line in [&b"%(UNIQUEID abc MBOXNAME user.anna MBOXTYPE d)"[..], b"%(MBOXNAME user.anna)", b"NIL"] {
            let (value, _) = dlist::parse("t", 0, line).expect("a dlist");
            assert_eq!(mailbox(&value), None);
        }
    }

    #[test]
    fn scripts_are_told_with_the_one_that_runs() {
        let hex = "47e70239c215ac9300778fce98e43ac112dca921";
        let lines = [
            format!("%(FILENAME main.script LAST_UPDATE 7 GUID {hex} ISACTIVE 0)"),
            format!("%(FILENAME other.script LAST_UPDATE 7 GUID {hex} ISACTIVE 0)"),
            format!("%(FILENAME other.bc LAST_UPDATE 7 GUID {hex} ISACTIVE 1)"),
            String::from("%(UNIQUEID abc LASTUID 3)"),
        ];
        let values = lines.map(|line| dlist::parse("t", 0, line.as_bytes()).expect("a dlist").0);
        let found: Vec<(Vec<u8>, bool)> = scripts(&values).into_iter().map(|script| (script.name, script.is_active)).collect();
        assert_eq!(found, [(b"main".to_vec(), false), (b"other".to_vec(), true)]);
    }

    #[test]
    fn greetings_tell_the_release() {
        assert_eq!(release_of(b"imap.example Cyrus sync server 3.6.1-Debian-3.6.1-4+deb12u3"), Some((3, 6)));
        assert_eq!(release_of(b"[CAPABILITY IMAP4rev1] imap Cyrus IMAP 3.10.2 server ready"), Some((3, 10)));
        assert_eq!((release_of(b"imap server ready"), release_of(b"Cyrus IMAP server ready")), (None, None));
    }

    #[test]
    fn literals_are_announced_at_the_end_of_a_line() {
        assert_eq!(literal_len(b"* X {42+}"), Some(42));
        assert_eq!(literal_len(b"* X {42}"), Some(42));
        for line in [&b"* X {42"[..], b"* X 42}", b"* X {4x}", b"{-1}", b""] {
            assert_eq!(literal_len(line), None);
        }
    }
}
