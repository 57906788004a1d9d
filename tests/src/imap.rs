//! A small blocking IMAP client for tests against real servers (RFC 9051, with the ACL, METADATA and ANNOTATE extensions).
//!
//! A test speaks to a server as a mail program does, and then compares what it is told with what Cylinder says. So this client
//! shares no code with Cylinder but the calendar and base64. It panics, naming the command, on everything that a test did not
//! ask for.
//!
//! Mailbox names are passed as they go over the wire: modified UTF-7, with the server's hierarchy separator.

use cylinder_core::imap::client::base64;
use cylinder_core::time::{Civil, Time};
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How long an answer may take. A lab on a loaded machine needs part of a second; without a limit a hanging server hangs the
/// tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that is logged in.
pub struct Imap {
    stream: BufReader<TcpStream>,
    tags: u32,
}

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Done.
    Ok,
    /// Refused or failed.
    No,
    /// Not understood.
    Bad,
}

/// What a server answered to one command.
#[derive(Debug)]
pub struct Response {
    /// How the command ended.
    pub status: Status,
    /// The rest of the last line, such as `[APPENDUID 1795550777 3] Completed`.
    pub text: String,
    /// The untagged responses in their order, without the `*`.
    pub untagged: Vec<Vec<Value>>,
}

/// One element of a response.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// An atom, a number, `NIL`, or the human part of a status response. Brackets belong to it, as in
    /// `BODY[HEADER.FIELDS (SUBJECT)]`.
    Atom(Vec<u8>),
    /// A quoted string without its quoting, or a literal.
    Text(Vec<u8>),
    /// A list in parentheses.
    List(Vec<Value>),
}

/// What FETCH says about a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The UID.
    pub uid: u32,
    /// System flags and keywords, sorted, without `\Recent`, which is a fact of the session and not of the message.
    pub flags: Vec<String>,
    /// INTERNALDATE.
    pub internal_date: Time,
    /// RFC822.SIZE in bytes.
    pub size: u64,
}

/// What STATUS says about a mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MailboxStatus {
    /// Messages that are not expunged.
    pub messages: u64,
    /// The next UID.
    pub uidnext: u64,
    /// UIDVALIDITY.
    pub uidvalidity: u64,
    /// Messages without `\Seen` for this user.
    pub unseen: u64,
    /// HIGHESTMODSEQ.
    pub highestmodseq: u64,
}

/// One line of LIST.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The name.
    pub name: String,
    /// Attributes such as `\HasChildren` or `\Sent`.
    pub attributes: Vec<String>,
}

impl Imap {
    /// Connects and logs in. In a lab every password is right.
    #[track_caller]
    pub fn login(host: &str, port: u16, user: &str) -> Imap {
        let mut imap = Imap::connect(host, port);
        imap.ok(format!("LOGIN {} {}", quoted(user), quoted("any")));
        imap
    }

    /// Connects as this user with the password of the administrator (SASL PLAIN).
    #[track_caller]
    pub fn login_for(host: &str, port: u16, user: &str) -> Imap {
        let mut imap = Imap::connect(host, port);
        let response = base64(format!("{user}\0cyrus\0any").as_bytes());
        imap.ok([b"AUTHENTICATE PLAIN ", &response[..]].concat());
        imap
    }

    #[track_caller]
    fn connect(host: &str, port: u16) -> Imap {
        let stream = TcpStream::connect((host, port)).unwrap_or_else(|e| panic!("IMAP at {host}:{port}: {e}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout can be set");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout can be set");
        stream.set_nodelay(true).expect("delays can be switched off");
        let mut imap = Imap { stream: BufReader::new(stream), tags: 0 };
        let greeting = imap.read_response();
        assert!(greeting.starts_with(b"* OK"), "greeting: {}", greeting.escape_ascii());
        imap
    }

    /// Sends a command without its tag and reads the answer. Literals go into the command as `{n+}`, CR, LF and the bytes.
    #[track_caller]
    pub fn command(&mut self, command: impl AsRef<[u8]>) -> Response {
        let command = command.as_ref();
        self.tags += 1;
        let tag = format!("a{}", self.tags);
        let line = [tag.as_bytes(), b" ", command, b"\r\n"].concat();
        let shown = || command[..command.len().min(200)].escape_ascii().to_string();
        self.stream.get_mut().write_all(&line).unwrap_or_else(|e| panic!("sending {}: {e}", shown()));
        let mut untagged = Vec::new();
        loop {
            let answer = self.read_response();
            if let Some(rest) = answer.strip_prefix(b"* ") {
                untagged.push(parse_untagged(rest));
            } else if let Some(rest) = answer.strip_prefix(format!("{tag} ").as_bytes()) {
                let rest = String::from_utf8_lossy(rest).into_owned();
                let (status, text) = rest.split_once(' ').unwrap_or((&rest, ""));
                let status = match status {
                    "OK" => Status::Ok,
                    "NO" => Status::No,
                    "BAD" => Status::Bad,
                    _ => panic!("{}: {rest}", shown()),
                };
                return Response { status, text: text.to_owned(), untagged };
            } else {
                panic!("{}: unexpected answer {}", shown(), answer.escape_ascii());
            }
        }
    }

    /// As [`Imap::command`], for a command that must succeed.
    #[track_caller]
    pub fn ok(&mut self, command: impl AsRef<[u8]>) -> Response {
        let command = command.as_ref();
        let response = self.command(command);
        let shown = command[..command.len().min(200)].escape_ascii();
        assert!(response.status == Status::Ok, "{shown}: {:?} {}", response.status, response.text);
        response
    }

    /// Makes a mailbox.
    #[track_caller]
    pub fn create(&mut self, mailbox: &str) {
        self.ok(format!("CREATE {}", quoted(mailbox)));
    }

    /// Makes a mailbox with a special use such as `\Sent`.
    #[track_caller]
    pub fn create_special(&mut self, mailbox: &str, special_use: &str) {
        self.ok(format!("CREATE {} (USE ({special_use}))", quoted(mailbox)));
    }

    /// Deletes a mailbox; the server of a lab keeps it below `DELETED`.
    #[track_caller]
    pub fn delete(&mut self, mailbox: &str) {
        self.ok(format!("DELETE {}", quoted(mailbox)));
    }

    /// Gives a mailbox another name.
    #[track_caller]
    pub fn rename(&mut self, from: &str, to: &str) {
        self.ok(format!("RENAME {} {}", quoted(from), quoted(to)));
    }

    /// Adds a message and gives its UID.
    #[track_caller]
    pub fn append(&mut self, mailbox: &str, flags: &[&str], date: Time, message: &[u8]) -> u32 {
        let (flags, date) = (flags.join(" "), imap_date(date));
        let head = format!("APPEND {} ({flags}) \"{date}\" {{{}+}}\r\n", quoted(mailbox), message.len());
        let response = self.ok([head.as_bytes(), message].concat());
        let uid = response.text.strip_prefix("[APPENDUID ").and_then(|t| t.split([' ', ']']).nth(1)?.parse().ok());
        uid.unwrap_or_else(|| panic!("APPEND to {mailbox}: no UID in {}", response.text))
    }

    /// Opens a mailbox for writing. Each call opens it anew: an open mailbox does not show what other sessions have added.
    #[track_caller]
    pub fn select(&mut self, mailbox: &str) {
        self.ok(format!("SELECT {}", quoted(mailbox)));
    }

    /// Opens a mailbox for reading.
    #[track_caller]
    pub fn examine(&mut self, mailbox: &str) {
        self.ok(format!("EXAMINE {}", quoted(mailbox)));
    }

    /// Closes the open mailbox and expunges nothing.
    #[track_caller]
    pub fn unselect(&mut self) {
        self.ok("UNSELECT");
    }

    /// Changes flags: `change` is such as `+FLAGS (\Seen $Label1)`.
    #[track_caller]
    pub fn store(&mut self, mailbox: &str, uids: &str, change: &str) {
        self.select(mailbox);
        self.ok(format!("UID STORE {uids} {change}"));
    }

    /// Copies messages.
    #[track_caller]
    pub fn copy(&mut self, mailbox: &str, uids: &str, to: &str) {
        self.select(mailbox);
        self.ok(format!("UID COPY {uids} {}", quoted(to)));
    }

    /// Moves messages.
    #[track_caller]
    pub fn uid_move(&mut self, mailbox: &str, uids: &str, to: &str) {
        self.select(mailbox);
        self.ok(format!("UID MOVE {uids} {}", quoted(to)));
    }

    /// Deletes messages and expunges them at once.
    #[track_caller]
    pub fn expunge(&mut self, mailbox: &str, uids: &str) {
        self.store(mailbox, uids, "+FLAGS (\\Deleted)");
        self.ok(format!("UID EXPUNGE {uids}"));
    }

    /// Subscribes to a mailbox.
    #[track_caller]
    pub fn subscribe(&mut self, mailbox: &str) {
        self.ok(format!("SUBSCRIBE {}", quoted(mailbox)));
    }

    /// Gives a user rights, such as `lrs`, on a mailbox.
    #[track_caller]
    pub fn set_acl(&mut self, mailbox: &str, user: &str, rights: &str) {
        self.ok(format!("SETACL {} {} {}", quoted(mailbox), quoted(user), quoted(rights)));
    }

    /// Sets an annotation of a mailbox: `entry` is such as `/private/comment`.
    #[track_caller]
    pub fn set_metadata(&mut self, mailbox: &str, entry: &str, value: &[u8]) {
        let head = format!("SETMETADATA {} ({entry} {{{}+}}\r\n", quoted(mailbox), value.len());
        self.ok([head.as_bytes(), value, b")"].concat());
    }

    /// Sets an annotation of messages: `entry` is such as `/comment`, `attribute` `value.shared` or `value.priv`.
    #[track_caller]
    pub fn set_annotation(&mut self, mailbox: &str, uids: &str, entry: &str, attribute: &str, value: &str) {
        self.store(mailbox, uids, &format!("ANNOTATION ({entry} ({attribute} {}))", quoted(value)));
    }

    /// Sets limits of a quota root, such as `STORAGE 1024` (KiB). For the administrator.
    #[track_caller]
    pub fn set_quota(&mut self, root: &str, limits: &str) {
        self.ok(format!("SETQUOTA {} ({limits})", quoted(root)));
    }

    /// All messages of a mailbox in the order of their UIDs; changes nothing.
    #[track_caller]
    pub fn fetch(&mut self, mailbox: &str) -> Vec<Message> {
        self.examine(mailbox);
        let response = self.ok("UID FETCH 1:* (UID FLAGS INTERNALDATE RFC822.SIZE)");
        response.fetched().map(|items| message(&items)).collect()
    }

    /// The bytes of a message; does not set `\Seen`.
    #[track_caller]
    pub fn body(&mut self, mailbox: &str, uid: u32) -> Vec<u8> {
        self.examine(mailbox);
        let response = self.ok(format!("UID FETCH {uid} (BODY.PEEK[])"));
        let body = response.fetched().find_map(|items| items.get("BODY[]").map(|v| v.bytes().to_vec()));
        body.unwrap_or_else(|| panic!("{mailbox} has no message with UID {uid}"))
    }

    /// Counts and numbers of a mailbox.
    #[track_caller]
    pub fn status(&mut self, mailbox: &str) -> MailboxStatus {
        let items = "(MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)";
        let response = self.ok(format!("STATUS {} {items}", quoted(mailbox)));
        let answers = response.named("STATUS").next().unwrap_or_else(|| panic!("STATUS {mailbox}: no answer"));
        let items = Items::of(answers.last().map_or(&[], Value::list));
        MailboxStatus {
            messages: items.number("MESSAGES"),
            uidnext: items.number("UIDNEXT"),
            uidvalidity: items.number("UIDVALIDITY"),
            unseen: items.number("UNSEEN"),
            highestmodseq: items.number("HIGHESTMODSEQ"),
        }
    }

    /// The mailboxes that match a pattern, such as `*`.
    #[track_caller]
    pub fn list(&mut self, pattern: &str) -> Vec<Listed> {
        self.names(&format!("LIST \"\" {}", quoted(pattern)), "LIST")
    }

    /// The subscribed mailboxes.
    #[track_caller]
    pub fn subscribed(&mut self) -> Vec<Listed> {
        self.names("LSUB \"\" *", "LSUB")
    }

    #[track_caller]
    fn names(&mut self, command: &str, answer: &str) -> Vec<Listed> {
        let response = self.ok(command);
        let listed = response.named(answer).map(|values| Listed {
            name: values.last().map_or_else(String::new, Value::text),
            attributes: values.first().map_or(&[][..], Value::list).iter().map(Value::text).collect(),
        });
        listed.collect()
    }

    /// Says goodbye and waits until the server has closed the connection, so that no session is left that holds locks.
    #[track_caller]
    pub fn logout(mut self) {
        self.ok("LOGOUT");
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest).unwrap_or_else(|e| panic!("after LOGOUT: {e}"));
    }

    /// One response, whole: a line, and for each literal in it its bytes and the line that goes on after it.
    #[track_caller]
    fn read_response(&mut self) -> Vec<u8> {
        let mut whole = Vec::new();
        loop {
            let from = whole.len();
            self.stream.read_until(b'\n', &mut whole).unwrap_or_else(|e| panic!("reading an answer: {e}"));
            let Some(line) = whole[from..].strip_suffix(b"\r\n") else {
                panic!("the server closed the connection after {}", whole.escape_ascii())
            };
            let Some(len) = literal_len(line) else {
                whole.truncate(whole.len() - 2);
                return whole;
            };
            let at = whole.len();
            whole.resize(at + len, 0);
            self.stream.read_exact(&mut whole[at..]).unwrap_or_else(|e| panic!("reading a literal of {len} bytes: {e}"));
        }
    }
}

impl Response {
    /// The untagged responses of one name, such as `LIST`, without that name.
    pub fn named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [Value]> {
        self.untagged.iter().filter_map(move |values| {
            let (first, rest) = values.split_first()?;
            first.bytes().eq_ignore_ascii_case(name.as_bytes()).then_some(rest)
        })
    }

    /// The items of each FETCH response.
    fn fetched(&self) -> impl Iterator<Item = Items<'_>> {
        self.untagged.iter().filter_map(|values| match &values[..] {
            [Value::Atom(_), Value::Atom(name), Value::List(items)] if name == b"FETCH" => Some(Items::of(items)),
            _ => None,
        })
    }
}

impl Value {
    /// The bytes of an atom or string; none of a list.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Atom(bytes) | Value::Text(bytes) => bytes,
            Value::List(_) => &[],
        }
    }

    /// The bytes as text, wrong UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    /// The elements of a list; none of anything else.
    pub fn list(&self) -> &[Value] {
        match self {
            Value::List(values) => values,
            _ => &[],
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Atom(bytes) => write!(f, "{}", bytes.escape_ascii()),
            Value::Text(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
            Value::List(values) => f.debug_list().entries(values).finish(),
        }
    }
}

/// A list of names and values that take turns.
struct Items<'a>(&'a [Value]);

impl<'a> Items<'a> {
    fn of(values: &'a [Value]) -> Items<'a> {
        Items(values)
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        let pair = self.0.chunks_exact(2).find(|pair| pair[0].bytes().eq_ignore_ascii_case(name.as_bytes()))?;
        Some(&pair[1])
    }

    #[track_caller]
    fn number(&self, name: &str) -> u64 {
        let value = self.get(name).and_then(|v| v.text().parse().ok());
        value.unwrap_or_else(|| panic!("no number {name} in {:?}", self.0))
    }
}

#[track_caller]
fn message(items: &Items) -> Message {
    let flags = items.get("FLAGS").unwrap_or_else(|| panic!("no FLAGS in {:?}", items.0));
    let mut flags: Vec<String> = flags.list().iter().map(Value::text).filter(|f| f != "\\Recent").collect();
    flags.sort();
    let date = items.get("INTERNALDATE").map_or_else(String::new, Value::text);
    Message {
        uid: items.number("UID") as u32,
        flags,
        internal_date: parse_date(&date).unwrap_or_else(|| panic!("INTERNALDATE {date}")),
        size: items.number("RFC822.SIZE"),
    }
}

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A time as APPEND takes it, such as `01-Mar-2022 08:00:01 +0000`.
pub(crate) fn imap_date(time: Time) -> String {
    let Civil { year, month, day, hour, minute, second } = Civil::from_time(time);
    format!("{day:02}-{}-{year:04} {hour:02}:{minute:02}:{second:02} +0000", MONTHS[month as usize - 1])
}

/// Reads `01-Mar-2022 08:00:01 +0000`; the zone is the server's own.
pub(crate) fn parse_date(text: &str) -> Option<Time> {
    let mut words = text.split_ascii_whitespace();
    let mut date = words.next()?.split('-');
    let mut clock = words.next()?.split(':').map_while(|n| n.parse::<u32>().ok());
    let zone = words.next()?;
    let (sign, zone) = zone.split_at_checked(1)?;
    let east = i64::from(zone.get(..2)?.parse::<u32>().ok()? * 3600 + zone.get(2..)?.parse::<u32>().ok()? * 60);
    let day = date.next()?.parse().ok()?;
    let name = date.next()?;
    let month = MONTHS.iter().position(|m| *m == name)? as u32 + 1;
    let year = date.next()?.parse().ok()?;
    let civil = Civil { year, month, day, hour: clock.next()?, minute: clock.next()?, second: clock.next()? };
    Some(Time::from_secs(civil.to_time().secs() - if sign == "-" { -east } else { east }))
}

/// A quoted string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The length that a line announces at its end, as in `BODY[] {42}`.
fn literal_len(line: &[u8]) -> Option<usize> {
    let from = line.strip_suffix(b"}")?.iter().rposition(|&c| c == b'{')? + 1;
    std::str::from_utf8(&line[from..line.len() - 1]).ok()?.parse().ok()
}

/// The elements of an untagged response. What follows OK, NO, BAD and BYE is for people: it stays in one piece.
fn parse_untagged(line: &[u8]) -> Vec<Value> {
    for status in [&b"OK "[..], b"NO ", b"BAD ", b"BYE "] {
        if let Some(text) = line.strip_prefix(status) {
            return vec![Value::Atom(status.trim_ascii_end().to_vec()), Value::Atom(text.to_vec())];
        }
    }
    let mut rest = line;
    let values = parse_values(&mut rest);
    assert!(rest.is_empty(), "response {} ends before {}", line.escape_ascii(), rest.escape_ascii());
    values
}

/// Elements up to the end or to a closing parenthesis.
fn parse_values(rest: &mut &[u8]) -> Vec<Value> {
    let mut values = Vec::new();
    while let Some(&first) = rest.first() {
        match first {
            b' ' => *rest = &rest[1..],
            b')' => break,
            b'(' => {
                *rest = &rest[1..];
                values.push(Value::List(parse_values(rest)));
                *rest = rest.strip_prefix(b")").expect("a list is closed");
            }
            b'"' => values.push(Value::Text(parse_quoted(rest))),
            b'{' => values.push(Value::Text(parse_literal(rest))),
            _ => values.push(Value::Atom(parse_atom(rest))),
        }
    }
    values
}

fn parse_quoted(rest: &mut &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut at = 1;
    while rest[at] != b'"' {
        at += usize::from(rest[at] == b'\\');
        text.push(rest[at]);
        at += 1;
    }
    *rest = &rest[at + 1..];
    text
}

fn parse_literal(rest: &mut &[u8]) -> Vec<u8> {
    let line = rest.iter().position(|&c| c == b'\r').expect("a literal's length ends its line");
    let len = literal_len(&rest[..line]).expect("a literal's length");
    let from = line + 2;
    let text = rest[from..from + len].to_vec();
    *rest = &rest[from + len..];
    text
}

fn parse_atom(rest: &mut &[u8]) -> Vec<u8> {
    let has_section = rest.starts_with(b"BODY[") || rest.starts_with(b"BINARY[");
    let mut depth = 0;
    let end = rest.iter().position(|&c| {
        depth += i32::from(has_section) * (i32::from(c == b'[') - i32::from(c == b']'));
        depth == 0 && matches!(c, b' ' | b'(' | b')')
    });
    let (atom, after) = rest.split_at(end.unwrap_or(rest.len()));
    *rest = after;
    atom.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_split_with_literals_quoted_strings_and_brackets() {
        let line =
            b"3 FETCH (UID 7 FLAGS (\\Seen $L) BODY[HEADER.FIELDS (SUBJECT)] {9}\r\na) \"(\r\n\r\n X \"a\\\"b\\\\\" NIL)";
        let values = parse_untagged(line);
        assert_eq!(
            format!("{values:?}"),
            r#"[3, FETCH, [UID, 7, FLAGS, [\\Seen, $L], BODY[HEADER.FIELDS (SUBJECT)], "a) \"(\r\n\r\n", X, "a\"b\\", NIL]]"#
        );
        assert_eq!(parse_untagged(b"OK [PERMANENTFLAGS (\\* ] it's (odd").len(), 2);
    }

    #[test]
    fn dates_round_trip_and_zones_are_taken_off() {
        let time = Time::from_secs(1_646_121_601);
        assert_eq!(imap_date(time), "01-Mar-2022 08:00:01 +0000");
        assert_eq!(parse_date("01-Mar-2022 08:00:01 +0000"), Some(time));
        assert_eq!(parse_date(" 1-Mar-2022 13:30:01 +0530"), Some(time));
        assert_eq!(parse_date("28-Feb-2022 23:00:01 -0900"), Some(time));
        assert_eq!(parse_date("1-Mar-2022"), None);
    }
}
