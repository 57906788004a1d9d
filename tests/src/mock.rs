//! An IMAP server in memory, for tests of a client over a simulated stream: what it has lives on when a connection is cut.
//!
//! It knows the few commands that a restore needs, and does them as Cyrus does: a command of which not every byte came does
//! nothing, one message that is refused refuses the whole APPEND. What must not come in: the client's own code.

use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, StreamId};
use cylinder_core::time::Span;
use cylinder_core::wire::stream::{Limits, Stream};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MockMessage {
    /// UID.
    pub uid: u32,
    /// Flags, as they were given.
    pub flags: String,
    /// INTERNALDATE, as it was given.
    pub date: String,
    /// Content.
    pub content: Vec<u8>,
}

/// A mailbox.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MockBox {
    /// Messages by ascending UID.
    pub messages: Vec<MockMessage>,
}

/// Something that another client does.
pub type Act = fn(&mut Mock);

/// What a server makes of a message.
pub type Rewrite = fn(&[u8]) -> Vec<u8>;

/// The server.
#[derive(Clone, Debug)]
pub struct Mock {
    /// Capabilities.
    pub capabilities: String,
    /// Capabilities once TLS was begun, and what somebody on the way adds to the answer to STARTTLS.
    pub secured: (String, Vec<u8>),
    /// The only right password.
    pub password: String,
    /// Mailboxes by name.
    pub boxes: BTreeMap<String, MockBox>,
    /// Subscriptions.
    pub subscribed: BTreeSet<String>,
    /// Most bytes of all messages.
    pub room: u64,
    /// Mailboxes that may not be made.
    pub forbidden: BTreeSet<String>,
    /// The connection ends when a message with one of these comes, without an answer.
    pub poison: BTreeSet<Vec<u8>>,
    /// What becomes of a message that is stored.
    pub rewrite: Option<Rewrite>,
    /// Commands that were begun.
    pub commands: Vec<String>,
    /// What another client does before the command of this number is answered.
    pub other: Option<(usize, Act)>,
}

/// What Cyrus 3.6 says of itself, as far as it matters.
pub const CAPABILITIES: &str =
    "IMAP4rev1 LITERAL+ AUTH=PLAIN SASL-IR NAMESPACE MULTIAPPEND UIDPLUS CONDSTORE QUOTA DIGEST=SHA1";

impl Default for Mock {
    fn default() -> Mock {
        Mock {
            capabilities: CAPABILITIES.to_owned(),
            secured: (CAPABILITIES.to_owned(), Vec::new()),
            password: String::from("secret"),
            boxes: BTreeMap::from([(String::from("INBOX"), MockBox::default())]),
            subscribed: BTreeSet::new(),
            room: u64::MAX,
            forbidden: BTreeSet::new(),
            poison: BTreeSet::new(),
            rewrite: None,
            commands: Vec::new(),
            other: None,
        }
    }
}

impl Mock {
    /// Moves the messages of a mailbox that are chosen into another one, which is made if needed.
    pub fn file(&mut self, from: &str, to: &str, chosen: impl Fn(&MockMessage) -> bool) {
        let source = self.boxes.get_mut(from).map(|mailbox| mailbox.messages.extract_if(.., |m| chosen(m)).collect::<Vec<_>>());
        let target = self.boxes.entry(to.to_owned()).or_default();
        for message in source.unwrap_or_default() {
            let uid = target.messages.last().map_or(1, |message| message.uid + 1);
            target.messages.push(MockMessage { uid, ..message });
        }
    }
}

/// A server that several connections share.
pub type Shared = Rc<RefCell<Mock>>;

/// One argument of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Arg {
    Word(String),
    Literal(Vec<u8>),
    List(Vec<Arg>),
}

impl Arg {
    fn text(&self) -> String {
        match self {
            Arg::Word(word) => word.clone(),
            Arg::Literal(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Arg::List(args) => args.iter().map(Arg::text).collect::<Vec<_>>().join(" "),
        }
    }
}

/// Serves one connection to its end.
pub async fn serve(io: Io, mock: Shared) -> Result<(), Error> {
    let limits = Limits { line: 1 << 20, stall: Span::from_secs(3600), bytes_per_second: 0 };
    let mut stream = Stream::new(&io, StreamId(1), "client", limits);
    stream.send(b"* OK mock\r\n").await?;
    let mut user = None;
    while let Some((tag, name, args)) = command(&mut stream).await? {
        begin(&mut mock.borrow_mut(), &name);
        let is_poison = |arg: &Arg| matches!(arg, Arg::Literal(content) if mock.borrow().poison.contains(content));
        if name == "APPEND" && args.iter().any(is_poison) {
            return Ok(());
        }
        let (data, end) = answer(&mut mock.borrow_mut(), &mut user, &name, &args);
        for line in data {
            stream.send(&[b"* ", &line[..], b"\r\n"].concat()).await?;
        }
        stream.send(format!("{tag} {end}\r\n").as_bytes()).await?;
        if name == "STARTTLS" {
            let (capabilities, injected) = mock.borrow().secured.clone();
            mock.borrow_mut().capabilities = capabilities;
            stream.send(&injected).await?;
        }
        stream.flush().await?;
        if name == "LOGOUT" {
            stream.settle().await?;
            return Ok(());
        }
    }
    Ok(())
}

/// Takes down a command, and lets the other client go first if it is its turn.
fn begin(mock: &mut Mock, name: &str) {
    if let Some((_, act)) = mock.other.take_if(|(number, _)| *number == mock.commands.len()) {
        act(mock);
    }
    mock.commands.push(name.to_owned());
}

/// Tag, name and arguments.
type Command = (String, String, Vec<Arg>);

/// The next command, whole; `None` at the end of the connection, also within a command.
async fn command(stream: &mut Stream) -> Result<Option<Command>, Error> {
    let (mut text, mut literals) = (Vec::new(), Vec::new());
    loop {
        let Ok(Some(line)) = stream.line().await else { return Ok(None) };
        let line = line.to_vec();
        let literal = literal(&line);
        text.extend_from_slice(&line[..line.len() - literal.map_or(0, |(_, _, len)| len)]);
        let Some((size, waits, _)) = literal else { break };
        if waits {
            stream.send(b"+ go on\r\n").await?;
        }
        let (mut left, mut bytes) = (size, Vec::new());
        while left > 0 {
            let Ok(piece) = stream.piece(left).await else { return Ok(None) };
            left -= piece.len() as u64;
            bytes.extend_from_slice(piece);
        }
        text.push(0);
        literals.push(bytes);
    }
    let mut literals = literals.into_iter();
    let mut args = parse(&mut &text[..], &mut literals).into_iter();
    let mut next = || args.next().map(|arg| arg.text()).unwrap_or_default();
    let (tag, mut name) = (next(), next().to_ascii_uppercase());
    if name == "UID" {
        name = format!("UID {}", next().to_ascii_uppercase());
    }
    let mut args: Vec<Arg> = args.collect();
    if name == "AUTHENTICATE" && args.len() == 1 {
        stream.send(b"+ \r\n").await?;
        let Ok(Some(response)) = stream.line().await else { return Ok(None) };
        args.push(Arg::Literal(response.to_vec()));
    }
    Ok(Some((tag, name, args)))
}

/// The length of a literal that a line announces, whether the client waits, and how much of the line says that.
fn literal(line: &[u8]) -> Option<(u64, bool, usize)> {
    let from = line.strip_suffix(b"}")?.iter().rposition(|&c| c == b'{')?;
    let digits = std::str::from_utf8(&line[from + 1..line.len() - 1]).ok()?;
    let size = digits.trim_end_matches('+').parse().ok()?;
    Some((size, !digits.ends_with('+'), line.len() - from))
}

fn parse(rest: &mut &[u8], literals: &mut impl Iterator<Item = Vec<u8>>) -> Vec<Arg> {
    let mut args = Vec::new();
    while let Some(&first) = rest.first() {
        *rest = &rest[1..];
        match first {
            b' ' => {}
            0 => args.push(Arg::Literal(literals.next().expect("a literal for each mark"))),
            b'(' => args.push(Arg::List(parse(rest, literals))),
            b')' => return args,
            b'"' => {
                let mut word = Vec::new();
                while let Some((&c, tail)) = rest.split_first() {
                    *rest = tail;
                    match c {
                        b'"' => break,
                        b'\\' => {
                            word.push(rest[0]);
                            *rest = &rest[1..];
                        }
                        c => word.push(c),
                    }
                }
                args.push(Arg::Word(String::from_utf8_lossy(&word).into_owned()));
            }
            _ => {
                let end = rest.iter().position(|c| matches!(c, b' ' | b'(' | b')' | 0)).unwrap_or(rest.len());
                let word = [&[first], &rest[..end]].concat();
                *rest = &rest[end..];
                args.push(Arg::Word(String::from_utf8_lossy(&word).into_owned()));
            }
        }
    }
    args
}

type Lines = Vec<Vec<u8>>;

fn answer(mock: &mut Mock, open: &mut Option<String>, name: &str, args: &[Arg]) -> (Lines, String) {
    let text = |n: usize| args.get(n).map(Arg::text).unwrap_or_default();
    let ok = || String::from("OK done");
    let lines = |lines: Vec<String>| lines.into_iter().map(String::into_bytes).collect::<Lines>();
    match name {
        "CAPABILITY" => (lines(vec![format!("CAPABILITY {}", mock.capabilities)]), ok()),
        "STARTTLS" => (Vec::new(), ok()),
        "AUTHENTICATE" => (Vec::new(), authenticate(mock, &text(1))),
        "NAMESPACE" => (lines(vec![String::from("NAMESPACE ((\"INBOX.\" \".\")) NIL NIL")]), ok()),
        "LIST" => {
            let pattern = text(1);
            let matches = |name: &&String| match pattern.strip_suffix(['*', '%']) {
                Some(start) => name.starts_with(start),
                None => **name == pattern,
            };
            let listed = mock.boxes.keys().filter(matches).map(|name| format!("LIST () \".\" \"{name}\"")).collect();
            (lines(listed), ok())
        }
        "CREATE" if mock.forbidden.contains(&text(0)) => (Vec::new(), String::from("NO [NOPERM] Permission denied")),
        "CREATE" if mock.boxes.contains_key(&text(0)) => (Vec::new(), String::from("NO [ALREADYEXISTS] Mailbox exists")),
        "CREATE" => {
            mock.boxes.insert(text(0), MockBox::default());
            (Vec::new(), ok())
        }
        "SUBSCRIBE" => {
            mock.subscribed.insert(text(0));
            (Vec::new(), ok())
        }
        "GETQUOTAROOT" if mock.room == u64::MAX => (lines(vec![String::from("QUOTAROOT INBOX")]), ok()),
        "GETQUOTAROOT" => {
            let limit = mock.room / 1024;
            (lines(vec![String::from("QUOTAROOT INBOX INBOX"), format!("QUOTA INBOX (STORAGE 0 {limit})")]), ok())
        }
        "SELECT" | "EXAMINE" => match mock.boxes.get(&text(0)) {
            None => (Vec::new(), String::from("NO Mailbox does not exist")),
            Some(mailbox) => {
                *open = Some(text(0));
                let next = mailbox.messages.last().map_or(1, |message| message.uid + 1);
                let notes = [format!("{} EXISTS", mailbox.messages.len()), format!("OK [UIDNEXT {next}]")];
                let fixed = [String::from("OK [UIDVALIDITY 1795000000]"), String::from("OK [HIGHESTMODSEQ 5]")];
                (lines(notes.into_iter().chain(fixed).collect()), String::from("OK [READ-WRITE] done"))
            }
        },
        "UID FETCH" => (fetch(mock, open.as_deref().unwrap_or_default(), &text(0), &text(1)), ok()),
        "UID STORE" => (Vec::new(), ok()),
        "UID EXPUNGE" => {
            let mailbox = mock.boxes.get_mut(open.as_deref().unwrap_or_default());
            mailbox.into_iter().for_each(|mailbox| mailbox.messages.retain(|message| !is_in(&text(0), message.uid)));
            (Vec::new(), ok())
        }
        "UID MOVE" => {
            let (from, set) = (open.clone().unwrap_or_default(), text(0));
            mock.file(&from, &text(1), |message| is_in(&set, message.uid));
            (Vec::new(), ok())
        }
        "DELETE" => {
            mock.boxes.remove(&text(0));
            (Vec::new(), ok())
        }
        "APPEND" => (Vec::new(), append(mock, args)),
        "LOGOUT" => (Vec::new(), ok()),
        _ => (Vec::new(), String::from("BAD what?")),
    }
}

/// Any user with the right password; the client's base64 is compared, not read.
fn authenticate(mock: &Mock, response: &str) -> String {
    let right = cylinder_core::imap::client::base64(format!("anna\0cyrus\0{}", mock.password).as_bytes());
    let is_right = response.as_bytes() == right;
    String::from(if is_right { "OK done" } else { "NO [AUTHENTICATIONFAILED] authentication failure" })
}

/// True if a set such as `3,5:*` has this number.
fn is_in(set: &str, uid: u32) -> bool {
    let bound = |word: &str| if word == "*" { u32::MAX } else { word.parse().unwrap_or(0) };
    set.split(',').any(|part| {
        let (from, to) = part.split_once(':').unwrap_or((part, part));
        (bound(from)..=bound(to)).contains(&uid)
    })
}

fn fetch(mock: &Mock, mailbox: &str, uids: &str, items: &str) -> Lines {
    let messages = mock.boxes.get(mailbox).map_or(&[][..], |mailbox| &mailbox.messages);
    let line = |(n, message): (usize, &MockMessage)| {
        let mut line = format!("{} FETCH (UID {} FLAGS ({})", n + 1, message.uid, message.flags).into_bytes();
        if items.contains("DIGEST.SHA1") {
            line.extend_from_slice(format!(" DIGEST.SHA1 {}", Guid::of(&message.content)).as_bytes());
        }
        if items.contains("INTERNALDATE") {
            line.extend_from_slice(format!(" INTERNALDATE \"{}\"", message.date).as_bytes());
        }
        if items.contains("RFC822.SIZE") {
            line.extend_from_slice(format!(" RFC822.SIZE {}", message.content.len()).as_bytes());
        }
        if items.contains("BODY.PEEK[]") {
            line.extend_from_slice(format!(" BODY[] {{{}}}\r\n", message.content.len()).as_bytes());
            line.extend_from_slice(&message.content);
        }
        line.push(b')');
        line
    };
    messages.iter().enumerate().filter(|(_, message)| is_in(uids, message.uid)).map(line).collect()
}

fn append(mock: &mut Mock, args: &[Arg]) -> String {
    let used: u64 = mock.boxes.values().flat_map(|mailbox| &mailbox.messages).map(|message| message.content.len() as u64).sum();
    let Some(mailbox) = mock.boxes.get_mut(&args[0].text()) else { return String::from("NO [TRYCREATE] no such mailbox") };
    let mut new = Vec::new();
    let first = mailbox.messages.last().map_or(1, |message| message.uid + 1);
    for (uid, message) in (first..).zip(args[1..].chunks(3)) {
        let [flags, date, Arg::Literal(content)] = message else { return String::from("BAD what?") };
        let bare = content.iter().enumerate().any(|(at, &c)| c == b'\n' && (at == 0 || content[at - 1] != b'\r'));
        if bare {
            return String::from("NO Message contains bare newlines");
        }
        if content.contains(&0) {
            return String::from("NO Message contains NUL characters");
        }
        let content = mock.rewrite.map_or_else(|| content.clone(), |rewrite| rewrite(content));
        new.push(MockMessage { uid, flags: flags.text(), date: date.text(), content });
    }
    let size: u64 = new.iter().map(|message| message.content.len() as u64).sum();
    if used + size > mock.room {
        return String::from("NO [OVERQUOTA] Over quota");
    }
    let last = first + new.len() as u32 - 1;
    mailbox.messages.extend(new);
    format!("OK [APPENDUID 1795000000 {first}:{last}] done")
}
