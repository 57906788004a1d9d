//! The IMAP face of the model: what a client says and is told on one connection, as cyrus-imapd 3.6.1 has it.
//!
//! A command of which not every byte came does nothing; what is left of a command after a message that is too long ends the
//! connection if more messages follow, as there. What must not come in: the client's own code, and what a command does.

use super::model::{INBOX, Limits, Message, NOW, New, Server, USER, uses_of};
use crate::imap::{imap_date, parse_date};
use cylinder_core::error::Error;
use cylinder_core::imap::client::base64;
use cylinder_core::io::{Io, StreamId};
use cylinder_core::time::{Span, Time};
use cylinder_core::wire::stream::{Limits as StreamLimits, Stream};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// A server that several connections share.
pub type Shared = Rc<RefCell<Server>>;

/// What the server can do, as 3.6.1 says it, as far as it is modelled.
const CAPABILITIES: [&str; 24] = [
    "IMAP4rev1",
    "LITERAL+",
    "ID",
    "ENABLE",
    "ACL",
    "BINARY",
    "CHILDREN",
    "CONDSTORE",
    "CREATE-SPECIAL-USE",
    "LIST-EXTENDED",
    "METADATA",
    "MOVE",
    "MULTIAPPEND",
    "NAMESPACE",
    "QUOTA",
    "RIGHTS=kxten",
    "SPECIAL-USE",
    "UIDPLUS",
    "UNSELECT",
    "DIGEST=SHA1",
    "X-QUOTA=STORAGE",
    "X-QUOTA=MESSAGE",
    "X-QUOTA=X-NUM-FOLDERS",
    "AUTH=PLAIN SASL-IR",
];

/// An argument of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Arg {
    Word(Vec<u8>),
    Literal(Vec<u8>, bool),
    List(Vec<Arg>),
}

impl Arg {
    fn bytes(&self) -> &[u8] {
        match self {
            Arg::Word(bytes) | Arg::Literal(bytes, _) => bytes,
            Arg::List(_) => &[],
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(self.bytes()).into_owned()
    }

    fn list(&self) -> &[Arg] {
        match self {
            Arg::List(args) => args,
            _ => &[],
        }
    }
}

/// A command as it came.
struct Command {
    tag: String,
    name: String,
    args: Vec<Arg>,
    /// A message was longer than the server takes, and whether more came behind it.
    too_big: Option<bool>,
}

type Lines = Vec<Vec<u8>>;

/// Data and the end of the answer.
type Answer = (Lines, String);

/// One connection.
struct Session {
    server: Shared,
    is_admin: bool,
    /// The mailbox that is open, whether it may be changed.
    open: Option<(String, bool)>,
}

/// Serves one connection to its end.
pub async fn serve(io: Io, server: Shared) -> Result<(), Error> {
    let limits = StreamLimits { line: 1 << 20, stall: Span::from_secs(3600), bytes_per_second: 0 };
    let mut stream = Stream::new(&io, StreamId(1), "client", limits);
    stream.send(b"* OK lab Cyrus IMAP 3.6.1 server ready\r\n").await?;
    let mut session = Session { server, is_admin: false, open: None };
    loop {
        let message_max = session.server.borrow().traits.message_max;
        let Some(command) = command(&mut stream, message_max).await? else { return Ok(()) };
        let Command { tag, name, args, too_big } = command;
        let (data, end) = match too_big {
            Some(_) => (Lines::new(), String::from("NO [TOOBIG] Message size exceeds fixed limit")),
            None => session.answer(&name, &args),
        };
        for line in data {
            stream.send(&[b"* ", &line[..], b"\r\n"].concat()).await?;
        }
        stream.send(format!("{tag} {end}\r\n").as_bytes()).await?;
        if too_big == Some(true) {
            stream.send(b"* BYE [TOOBIG] Message size exceeds fixed limit\r\n").await?;
        }
        stream.flush().await?;
        if name == "LOGOUT" || too_big == Some(true) {
            stream.settle().await?;
            return Ok(());
        }
    }
}

/// A literal that a line announces.
struct Announced {
    size: u64,
    waits: bool,
    is_binary: bool,
    /// How much of the line says so.
    len: usize,
}

fn announced(line: &[u8]) -> Option<Announced> {
    let from = line.strip_suffix(b"}")?.iter().rposition(|&c| c == b'{')?;
    let digits = std::str::from_utf8(&line[from + 1..line.len() - 1]).ok()?;
    let size = digits.trim_end_matches('+').parse().ok()?;
    let is_binary = from > 0 && line[from - 1] == b'~';
    let len = line.len() - from + usize::from(is_binary);
    Some(Announced { size, waits: !digits.ends_with('+'), is_binary, len })
}

/// The next command, whole; `None` at the end of the connection, also within a command.
async fn command(stream: &mut Stream, message_max: u64) -> Result<Option<Command>, Error> {
    let (mut text, mut literals, mut too_big) = (Vec::new(), Vec::new(), None);
    loop {
        let Ok(Some(line)) = stream.line().await else { return Ok(None) };
        let line = line.to_vec();
        let literal = announced(&line);
        text.extend_from_slice(&line[..line.len() - literal.as_ref().map_or(0, |literal| literal.len)]);
        let Some(Announced { size, waits, is_binary, .. }) = literal else { break };
        too_big = too_big.map(|_| true);
        if size > message_max && too_big.is_none() {
            too_big = Some(!literals.is_empty());
        }
        if waits && too_big.is_some() {
            break;
        }
        if waits {
            stream.send(b"+ go ahead\r\n").await?;
        }
        let (mut left, mut bytes) = (size, Vec::new());
        while left > 0 {
            let Ok(piece) = stream.piece(left).await else { return Ok(None) };
            left -= piece.len() as u64;
            bytes.extend_from_slice(piece);
        }
        text.push(0);
        literals.push((bytes, is_binary));
    }
    let mut args = parse(&mut &text[..], &mut literals.into_iter()).into_iter();
    let mut next = || args.next().map(|arg| arg.text()).unwrap_or_default();
    let (tag, mut name) = (next(), next().to_ascii_uppercase());
    if name == "UID" {
        name = format!("UID {}", next().to_ascii_uppercase());
    }
    let mut args: Vec<Arg> = args.collect();
    if name == "AUTHENTICATE" && args.len() == 1 {
        stream.send(b"+ \r\n").await?;
        let Ok(Some(response)) = stream.line().await else { return Ok(None) };
        args.push(Arg::Literal(response.to_vec(), false));
    }
    Ok(Some(Command { tag, name, args, too_big }))
}

/// Arguments up to the end or to a closing parenthesis.
fn parse(rest: &mut &[u8], literals: &mut impl Iterator<Item = (Vec<u8>, bool)>) -> Vec<Arg> {
    let mut args = Vec::new();
    while let Some(&first) = rest.first() {
        *rest = &rest[1..];
        match first {
            b' ' => {}
            0 => args.extend(literals.next().map(|(bytes, is_binary)| Arg::Literal(bytes, is_binary))),
            b'(' => args.push(Arg::List(parse(rest, literals))),
            b')' => return args,
            b'"' => args.push(Arg::Word(quoted(rest))),
            _ => {
                let end = rest.iter().position(|c| matches!(c, b' ' | b'(' | b')' | 0)).unwrap_or(rest.len());
                args.push(Arg::Word([&[first], &rest[..end]].concat()));
                *rest = &rest[end..];
            }
        }
    }
    args
}

fn quoted(rest: &mut &[u8]) -> Vec<u8> {
    let mut word = Vec::new();
    while let Some((&c, tail)) = rest.split_first() {
        *rest = tail;
        match c {
            b'"' => break,
            b'\\' => {
                word.extend(rest.first());
                *rest = rest.get(1..).unwrap_or_default();
            }
            c => word.push(c),
        }
    }
    word
}

fn ok() -> String {
    String::from("OK Completed")
}

fn done(result: Result<(), &'static str>) -> Answer {
    (Lines::new(), result.map_or_else(|why| format!("NO {why}"), |()| ok()))
}

fn text_lines(lines: Vec<String>) -> Lines {
    lines.into_iter().map(String::into_bytes).collect()
}

/// A name on the wire.
fn astring(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

impl Session {
    fn answer(&mut self, name: &str, args: &[Arg]) -> Answer {
        let text = |n: usize| args.get(n).map(Arg::text).unwrap_or_default();
        let simple = |line: String| (text_lines(vec![line]), ok());
        match name {
            "CAPABILITY" => simple(format!("CAPABILITY {}", self.capabilities())),
            "NOOP" | "ID" | "ENABLE" | "LOGOUT" | "CHECK" => (Lines::new(), ok()),
            "AUTHENTICATE" => (Lines::new(), self.authenticate(&text(1))),
            "NAMESPACE" => simple(String::from(match self.server.borrow().traits.slash {
                true => "NAMESPACE ((\"\" \"/\")) ((\"Other Users/\" \"/\")) ((\"Shared Folders/\" \"/\"))",
                false => "NAMESPACE ((\"INBOX.\" \".\")) ((\"user.\" \".\")) ((\"\" \".\"))",
            })),
            "LIST" => (self.list(args), ok()),
            "LSUB" => (self.lsub(), ok()),
            "CREATE" => {
                let uses =
                    args.get(1).map(|list| list.list().iter().flat_map(Arg::list).map(Arg::text).collect::<Vec<_>>().join(" "));
                self.with_name(&text(0), |server, name| server.create(name, uses.as_deref()))
            }
            "DELETE" => self.with_name(&text(0), Server::delete),
            "SUBSCRIBE" | "UNSUBSCRIBE" => self.with_name(&text(0), |server, mailbox| {
                let files = server.files_mut();
                if name == "SUBSCRIBE" {
                    files.subscribed.insert(mailbox.to_owned())
                } else {
                    files.subscribed.remove(mailbox)
                };
                Ok(())
            }),
            "SELECT" | "EXAMINE" => self.select(&text(0), name == "SELECT"),
            "UNSELECT" | "CLOSE" => {
                self.open = None;
                (Lines::new(), ok())
            }
            "STATUS" => self.status(&text(0)),
            "UID FETCH" => self.fetch(&text(0), args.get(1)),
            "UID STORE" => self.store(args),
            "UID EXPUNGE" => self.expunge(&text(0)),
            "EXPUNGE" => self.expunge("1:*"),
            "UID COPY" | "UID MOVE" => self.copy(&text(0), &text(1), name == "UID MOVE"),
            "APPEND" => self.append(&text(0), args.get(1..).unwrap_or_default()),
            "GETQUOTAROOT" => self.quota_roots(&text(0)),
            "SETQUOTA" => self.set_quota(&text(0), args),
            "MYRIGHTS" | "GETACL" | "SETACL" | "DELETEACL" | "GETMETADATA" | "SETMETADATA" => self.about(name, args),
            _ => (Lines::new(), String::from("BAD Unrecognized command")),
        }
    }

    fn capabilities(&self) -> String {
        let traits = self.server.borrow().traits.clone();
        let words = CAPABILITIES.iter().flat_map(|words| words.split(' ')).filter(|word| !traits.lacking.contains(word));
        format!("{} APPENDLIMIT={}", words.collect::<Vec<_>>().join(" "), traits.message_max)
    }

    /// The user's password and the administrator's are compared, not read.
    fn authenticate(&mut self, response: &str) -> String {
        let is = |text: &str| response.as_bytes() == base64(text.as_bytes());
        self.is_admin = is("\0cyrus\0secret");
        let is_right = self.is_admin || is("anna\0cyrus\0secret");
        String::from(if is_right { "OK Success" } else { "NO [AUTHENTICATIONFAILED] authentication failure" })
    }

    /// The name of a mailbox as this session sees it; `None` for one of somebody else.
    fn external(&self, name: &str) -> Option<String> {
        let slash = self.server.borrow().traits.slash;
        let spelled = |name: &str| if slash { name.replace('.', "/").replace('^', ".") } else { name.to_owned() };
        if self.is_admin {
            return Some(spelled(name));
        }
        let rest = name.strip_prefix(INBOX)?;
        match (rest.strip_prefix('.'), slash) {
            (None, _) => rest.is_empty().then(|| String::from("INBOX")),
            (Some(rest), true) => Some(spelled(rest)),
            (Some(rest), false) => Some(format!("INBOX.{rest}")),
        }
    }

    /// The internal name of what a client names.
    fn internal(&self, name: &str) -> String {
        let slash = self.server.borrow().traits.slash;
        let inner = |name: &str| if slash { name.replace('.', "^").replace('/', ".") } else { name.to_owned() };
        if self.is_admin {
            return inner(name);
        }
        if name.eq_ignore_ascii_case("INBOX") {
            return INBOX.to_owned();
        }
        match (slash, name.strip_prefix("INBOX.")) {
            (true, _) => format!("{INBOX}.{}", inner(name)),
            (false, Some(rest)) => format!("{INBOX}.{rest}"),
            // A name of somebody else.
            (false, None) => format!("user.other.{name}"),
        }
    }

    fn with_name(&mut self, name: &str, act: impl FnOnce(&mut Server, &str) -> Result<(), &'static str>) -> Answer {
        let internal = self.internal(name);
        let result = act(&mut self.server.borrow_mut(), &internal);
        done(result)
    }

    fn list(&self, args: &[Arg]) -> Lines {
        // `LIST (SPECIAL-USE) "" "*"` selects, and moves the others along.
        let at = usize::from(matches!(args.first(), Some(Arg::List(_))));
        let pattern = args.get(at + 1).map(Arg::text).unwrap_or_default();
        let server = self.server.borrow();
        let separator = if server.traits.slash { '/' } else { '.' };
        let mut lines = Vec::new();
        for (name, mailbox) in &server.boxes {
            let is_seen = self.is_admin || (Server::is_living(name) && mailbox.kind == b'e');
            let Some(shown) = self.external(name).filter(|shown| is_seen && matches(&pattern, shown, separator)) else {
                continue;
            };
            let has_children = server.boxes.keys().any(|other| other.starts_with(&format!("{name}.")));
            let children = if has_children { "\\HasChildren" } else { "\\HasNoChildren" };
            let uses = uses_of(mailbox);
            let space = if uses.is_empty() { "" } else { " " };
            if at == 0 || !uses.is_empty() {
                lines.push(format!("LIST ({children}{space}{uses}) \"{separator}\" {}", astring(&shown)));
            }
        }
        text_lines(lines)
    }

    fn lsub(&self) -> Lines {
        let server = self.server.borrow();
        let separator = if server.traits.slash { '/' } else { '.' };
        let names = server.user_files().subscribed.into_iter().filter_map(|name| self.external(&name));
        text_lines(names.map(|name| format!("LSUB () \"{separator}\" {}", astring(&name))).collect())
    }

    fn select(&mut self, name: &str, to_change: bool) -> Answer {
        let name = self.internal(name);
        self.open = None;
        let server = self.server.borrow();
        let Some(mailbox) = server.boxes.get(&name) else { return done(Err("Mailbox does not exist")) };
        let rights = server.rights(&name);
        if !rights.contains('r') {
            return done(Err("Permission denied"));
        }
        self.open = Some((name, to_change));
        let keywords = mailbox.keywords.iter().map(|keyword| [b" ", &keyword[..]].concat()).collect::<Vec<_>>().concat();
        let system = b"\\Answered \\Flagged \\Draft \\Deleted \\Seen";
        let more = if mailbox.keywords.len() < server.traits.keywords_max { " \\*" } else { "" };
        let settable = match rights.contains('w') {
            true => [&system[..], &keywords, more.as_bytes()].concat(),
            false => Vec::new(),
        };
        let mut lines = text_lines(vec![format!("{} EXISTS", mailbox.visible().count()), String::from("0 RECENT")]);
        lines.push([b"FLAGS (", &system[..], &keywords, b")"].concat());
        lines.push([b"OK [PERMANENTFLAGS (", &settable[..], b")] Ok"].concat());
        let facts = [("UIDVALIDITY", u64::from(mailbox.uidvalidity)), ("UIDNEXT", u64::from(mailbox.last_uid) + 1)];
        lines.extend(facts.iter().map(|(what, n)| format!("OK [{what} {n}] Ok").into_bytes()));
        lines.push(format!("OK [HIGHESTMODSEQ {}] Ok", mailbox.modseq).into_bytes());
        lines.push(format!("OK [MAILBOXID ({})] Ok", mailbox.id).into_bytes());
        (lines, String::from(if to_change { "OK [READ-WRITE] Completed" } else { "OK [READ-ONLY] Completed" }))
    }

    fn status(&self, shown: &str) -> Answer {
        let server = self.server.borrow();
        let Some(mailbox) = server.boxes.get(&self.internal(shown)) else { return done(Err("Mailbox does not exist")) };
        let (count, next) = (mailbox.visible().count(), mailbox.last_uid + 1);
        let facts =
            format!("MESSAGES {count} UIDNEXT {next} UIDVALIDITY {} HIGHESTMODSEQ {}", mailbox.uidvalidity, mailbox.modseq);
        (text_lines(vec![format!("STATUS {} ({facts} MAILBOXID ({}))", astring(shown), mailbox.id)]), ok())
    }

    fn fetch(&self, set: &str, items: Option<&Arg>) -> Answer {
        let server = self.server.borrow();
        let Some(mailbox) = self.open.as_ref().and_then(|(name, _)| server.boxes.get(name)) else {
            return (Lines::new(), String::from("BAD Please select a mailbox first"));
        };
        let uids = uids(set, mailbox.last_uid);
        let items: Vec<String> = match items {
            Some(Arg::List(items)) => items.iter().map(Arg::text).collect(),
            item => item.iter().map(|item| item.text()).collect(),
        };
        let all = mailbox.visible().enumerate().filter(|(_, message)| uids.contains(&message.uid));
        (all.map(|(n, message)| fetched(n + 1, message, &items)).collect(), ok())
    }

    fn store(&mut self, args: &[Arg]) -> Answer {
        let Some((name, true)) = self.open.clone() else { return done(Err("Permission denied")) };
        let mut args = args.iter().peekable();
        let set = args.next().map(Arg::text).unwrap_or_default();
        let guard =
            args.next_if(|arg| matches!(arg, Arg::List(_))).and_then(|list| list.list().get(1)?.text().parse::<u64>().ok());
        let change = args.next().map(Arg::text).unwrap_or_default().to_ascii_uppercase();
        let given = args.flat_map(|arg| if arg.list().is_empty() { vec![arg.clone()] } else { arg.list().to_vec() });
        let given: BTreeSet<Vec<u8>> = given.map(|arg| arg.bytes().to_vec()).filter(|flag| !flag.is_empty()).collect();
        let mut server = self.server.borrow_mut();
        let (most, allowed) = (server.traits.keywords_max, server.allowed(&name, &given));
        if allowed != given || !server.rights(&name).contains('w') {
            return done(Err("Permission denied"));
        }
        let Some(mailbox) = server.boxes.get_mut(&name) else { return done(Err("Mailbox does not exist")) };
        if !given.iter().filter(|flag| !flag.starts_with(b"\\")).all(|flag| mailbox.learn(flag, most)) {
            return done(Err("Too many user flags in mailbox"));
        }
        let (uids, mut modified) = (uids(&set, mailbox.last_uid), Vec::new());
        for message in mailbox.messages.iter_mut().filter(|message| !message.expunged && uids.contains(&message.uid)) {
            if guard.is_some_and(|guard| message.modseq > guard) {
                modified.push(message.uid.to_string());
                continue;
            }
            match change.as_bytes()[0] {
                b'+' => message.flags.extend(given.iter().cloned()),
                b'-' => message.flags.retain(|flag| !given.contains(flag)),
                _ => message.flags = given.clone(),
            }
            mailbox.modseq += 1;
            (message.modseq, message.updated) = (mailbox.modseq, NOW);
        }
        let code = if modified.is_empty() { String::new() } else { format!("[MODIFIED {}] ", modified.join(",")) };
        (Lines::new(), format!("OK {code}Completed"))
    }

    /// Expunges what is deleted of these.
    fn expunge(&mut self, set: &str) -> Answer {
        let Some((name, true)) = self.open.clone() else { return done(Err("Permission denied")) };
        let mut server = self.server.borrow_mut();
        let Some(mailbox) = server.boxes.get(&name) else { return done(Err("Mailbox does not exist")) };
        let uids = uids(set, mailbox.last_uid);
        let is_deleted = |message: &&Message| message.flags.iter().any(|flag| flag.eq_ignore_ascii_case(b"\\Deleted"));
        let gone = mailbox.visible().filter(is_deleted).map(|message| message.uid).filter(|uid| uids.contains(uid)).collect();
        server.expunge(&name, &gone);
        (Lines::new(), ok())
    }

    fn copy(&mut self, set: &str, to: &str, and_remove: bool) -> Answer {
        let Some((from, _)) = self.open.clone() else {
            return (Lines::new(), String::from("BAD Please select a mailbox first"));
        };
        let to = self.internal(to);
        let mut server = self.server.borrow_mut();
        let uids = uids(set, server.boxes.get(&from).map_or(0, |mailbox| mailbox.last_uid));
        let pairs = match server.copy(&from, &uids, &to, and_remove) {
            Ok(pairs) => pairs,
            Err(why) => return done(Err(why)),
        };
        if pairs.is_empty() {
            return (Lines::new(), ok());
        }
        let validity = server.boxes[&to].uidvalidity;
        let word = |of: fn(&(u32, u32)) -> u32| pairs.iter().map(|pair| of(pair).to_string()).collect::<Vec<_>>().join(",");
        let code = format!("[COPYUID {validity} {} {}] Completed", word(|pair| pair.0), word(|pair| pair.1));
        if and_remove {
            return (text_lines(vec![format!("OK {code}")]), ok());
        }
        (Lines::new(), format!("OK {code}"))
    }

    fn append(&mut self, name: &str, args: &[Arg]) -> Answer {
        let (mut new, mut flags, mut date) = (Vec::new(), Vec::new(), None);
        for arg in args {
            match arg {
                Arg::List(list) => flags = list.iter().map(|flag| flag.bytes().to_vec()).collect(),
                Arg::Word(word) => match parse_date(&String::from_utf8_lossy(word)).map(Time::secs) {
                    Some(secs) if secs >= 0 => date = Some(secs),
                    _ => return (Lines::new(), String::from("BAD Invalid date-time in Append command")),
                },
                Arg::Literal(content, is_binary) => new.push(New {
                    flags: std::mem::take(&mut flags),
                    date: date.take(),
                    content: content.clone(),
                    is_binary: *is_binary,
                }),
            }
        }
        let bad = |flag: &Vec<u8>| flag.iter().any(|c| !c.is_ascii_graphic() || b"{\"%*()".contains(c));
        if new.iter().any(|new| new.flags.iter().any(bad)) {
            return (Lines::new(), String::from("BAD Invalid flag in Append command"));
        }
        let name = self.internal(name);
        match self.server.borrow_mut().append(&name, &new) {
            Ok((validity, uids)) => {
                let uids: Vec<String> = uids.iter().map(u32::to_string).collect();
                (Lines::new(), format!("OK [APPENDUID {validity} {}] Completed", uids.join(",")))
            }
            Err(why) => done(Err(why)),
        }
    }

    fn quota_roots(&self, shown: &str) -> Answer {
        let server = self.server.borrow();
        let name = self.internal(shown);
        let root = server.quotas.keys().find(|root| name == **root || name.starts_with(&format!("{root}.")));
        let Some(root) = root else { return (text_lines(vec![format!("QUOTAROOT {}", astring(shown))]), ok()) };
        let (limits, (bytes, messages, folders)) = (server.quotas[root], server.used());
        let of = [("STORAGE", bytes.div_ceil(1024), limits.storage), ("MESSAGE", messages, limits.messages)];
        let of = of.into_iter().chain([("X-NUM-FOLDERS", folders, limits.folders)]);
        let facts: Vec<String> = of.filter_map(|(what, used, most)| Some(format!("{what} {used} {}", most?))).collect();
        let root = astring(&self.external(root).unwrap_or_default());
        let lines = vec![format!("QUOTAROOT {} {root}", astring(shown)), format!("QUOTA {root} ({})", facts.join(" "))];
        (text_lines(lines), ok())
    }

    fn set_quota(&mut self, root: &str, args: &[Arg]) -> Answer {
        if !self.is_admin {
            return done(Err("Permission denied"));
        }
        let mut limits = Limits::default();
        for pair in args.get(1).map_or(&[][..], Arg::list).chunks_exact(2) {
            let most = pair[1].text().parse().ok();
            match &pair[0].text().to_ascii_uppercase()[..] {
                "STORAGE" => limits.storage = most,
                "MESSAGE" => limits.messages = most,
                _ => limits.folders = most,
            }
        }
        self.with_name(root, |server, root| {
            server.quotas.insert(root.to_owned(), limits);
            Ok(())
        })
    }

    /// Rights and annotations of a mailbox.
    fn about(&mut self, command: &str, args: &[Arg]) -> Answer {
        let depth = args.iter().take_while(|arg| matches!(arg, Arg::List(_))).count();
        let args = &args[depth..];
        let text = |n: usize| args.get(n).map(Arg::text).unwrap_or_default();
        let (shown, name) = (astring(&text(0)), self.internal(&text(0)));
        let mut server = self.server.borrow_mut();
        let rights = server.rights(&name);
        let Some(mailbox) = server.boxes.get_mut(&name) else { return done(Err("Mailbox does not exist")) };
        match command {
            "MYRIGHTS" => return (text_lines(vec![format!("MYRIGHTS {shown} {rights}")]), ok()),
            "GETACL" => {
                let acl = mailbox.acl.iter().map(|(who, rights)| format!(" {} {rights}", astring(who))).collect::<String>();
                return (text_lines(vec![format!("ACL {shown}{acl}")]), ok());
            }
            "SETACL" => {
                mailbox.acl.insert(text(1), text(2));
                mailbox.modseq += 1;
                return done(Ok(()));
            }
            "DELETEACL" => {
                mailbox.acl.remove(&text(1));
                mailbox.modseq += 1;
                return done(Ok(()));
            }
            _ => {}
        }
        let words = match args.get(1) {
            Some(Arg::List(words)) => words.clone(),
            word => word.into_iter().cloned().collect(),
        };
        let key = |entry: &Arg| {
            let entry = entry.text();
            let whose = |rest: &str, user: &str| (rest.to_owned(), user.to_owned());
            let shared = entry.strip_prefix("/shared").map(|rest| whose(rest, ""));
            entry.strip_prefix("/private").map(|rest| whose(rest, USER)).or(shared).unwrap_or_default()
        };
        if command == "SETMETADATA" {
            let uses = words.chunks_exact(2).find(|pair| pair[0].text() == "/private/specialuse").map(|pair| pair[1].text());
            if let Some(Err(why)) = uses.map(|uses| server.check_uses(&name, &uses)) {
                return done(Err(why));
            }
            let Some(mailbox) = server.boxes.get_mut(&name) else { return done(Err("Mailbox does not exist")) };
            mailbox.modseq += 1;
            for pair in words.chunks_exact(2) {
                match pair[1].bytes() {
                    b"NIL" => drop(mailbox.notes.remove(&key(&pair[0]))),
                    value => drop(mailbox.notes.insert(key(&pair[0]), value.to_vec())),
                }
            }
            return done(Ok(()));
        }
        let mut line = format!("METADATA {shown} (").into_bytes();
        for (n, entry) in words.iter().enumerate() {
            line.extend_from_slice(format!("{}\"{}\" ", if n > 0 { " " } else { "" }, entry.text()).as_bytes());
            match mailbox.notes.get(&key(entry)) {
                Some(value) => line.extend_from_slice(&[format!("{{{}}}\r\n", value.len()).as_bytes(), value].concat()),
                None => line.extend_from_slice(b"NIL"),
            }
        }
        line.push(b')');
        (vec![line], ok())
    }
}

fn fetched(n: usize, message: &Message, items: &[String]) -> Vec<u8> {
    let has = |word: &str| items.iter().any(|item| item.eq_ignore_ascii_case(word));
    let mut line = format!("{n} FETCH (UID {}", message.uid).into_bytes();
    if has("FLAGS") {
        let flags: Vec<&[u8]> = message.flags.iter().map(|flag| &flag[..]).collect();
        line.extend_from_slice(&[b" FLAGS (", &flags.join(&b' ')[..], b")"].concat());
    }
    if has("DIGEST.SHA1") {
        line.extend_from_slice(format!(" DIGEST.SHA1 {}", message.guid).as_bytes());
    }
    if has("INTERNALDATE") {
        line.extend_from_slice(format!(" INTERNALDATE \"{}\"", imap_date(Time::from_secs(message.date))).as_bytes());
    }
    if has("RFC822.SIZE") {
        line.extend_from_slice(format!(" RFC822.SIZE {}", message.content.len()).as_bytes());
    }
    if has("MODSEQ") {
        line.extend_from_slice(format!(" MODSEQ ({})", message.modseq).as_bytes());
    }
    if has("BODY.PEEK[]") || has("BODY[]") {
        line.extend_from_slice(format!(" BODY[] {{{}}}\r\n", message.content.len()).as_bytes());
        line.extend_from_slice(&message.content);
    }
    line.push(b')');
    line
}

/// The UIDs of a set such as `3,5:7,9:*`.
fn uids(set: &str, last: u32) -> BTreeSet<u32> {
    let number = |word: &str| if word == "*" { last } else { word.parse().unwrap_or(0) };
    let ranges = set.split(',').map(|part| part.split_once(':').unwrap_or((part, part)));
    ranges.map(|(from, to)| (number(from), number(to))).flat_map(|(a, b)| a.min(b)..=a.max(b).min(last)).collect()
}

/// What LIST does with `*` and `%`.
fn matches(pattern: &str, name: &str, separator: char) -> bool {
    let Some(first) = pattern.chars().next() else { return name.is_empty() };
    let rest = &pattern[1..];
    if first != '*' && first != '%' {
        return name.strip_prefix(first).is_some_and(|name| matches(rest, name, separator));
    }
    let mut ends = name.char_indices().map(|(at, c)| (at, Some(c))).chain([(name.len(), None)]);
    let most = if first == '%' { name.find(separator).unwrap_or(name.len()) } else { name.len() };
    ends.any(|(at, _)| at <= most && matches(rest, &name[at..], separator))
}

#[cfg(test)]
mod tests {
    use super::super::model::is_allowed_name;
    use super::*;

    #[test]
    fn patterns_and_sets_are_those_of_imap() {
        assert!(matches("*", "INBOX/a", '/') && matches("%", "INBOX", '/') && !matches("%", "INBOX/a", '/'));
        assert!(matches("RESTORED/adding-%", "RESTORED/adding-1", '/') && !matches("RESTORED/%", "RESTORED/a/b", '/'));
        assert_eq!(uids("2,4:*", 6), [2, 4, 5, 6].into());
        assert!(is_allowed_name("a&AOk-") && !is_allowed_name("R&D") && !is_allowed_name("a%b"));
    }
}
