//! A connection to an IMAP server, and the commands that restoring needs.
//!
//! What a server refuses (`NO`) is a value, a [`Refusal`], and the connection goes on. What breaks the protocol, `BAD` and
//! `BYE` among it, is [`Error::Peer`] and the end. Commands may be begun ahead of the answers to those before them; an answer
//! that nobody waits for yet is kept. What must not come in: what is restored, and archives.

use super::date;
use super::response::{self, Kind, Response, Status, Value};
use crate::error::Error;
use crate::escape::shown;
use crate::guid::Guid;
use crate::time::{Span, Time};
use crate::wire::stream::{Limits, NO_STARTTLS, StartTls, Stream, number};
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// The longest literal that is sent without waiting to a server that has LITERAL- (RFC 7888).
const LITERAL_MINUS_MAX: u64 = 4096;
/// Answers that are kept for commands that nobody waits for yet.
const AHEAD_MAX: usize = 64;
/// Mailboxes of one list.
const LISTED_MAX: usize = 2_000_000;
/// Quota roots of one mailbox; Cyrus has one.
const QUOTA_ROOTS_MAX: usize = 100;
/// Identifiers of one ACL.
const ACL_MAX: usize = 100_000;
/// UIDs that a response code may name, ranges counted out.
const UIDS_MAX: usize = 1_000_000;

/// What a server has refused, and why as far as it says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The response code without brackets, such as `OVERQUOTA`; empty if there is none.
    pub code: Vec<u8>,
    /// For people.
    pub text: Vec<u8>,
}

impl Refusal {
    /// True for this code, with or without arguments.
    pub fn has_code(&self, word: &str) -> bool {
        let first = self.code.split(|&c| c == b' ').next().unwrap_or_default();
        first.eq_ignore_ascii_case(word.as_bytes())
    }

    /// True if a message was refused for being sent without waiting, which 3.6.1 says with `literalminus: yes` to what it has
    /// announced itself (LITERAL+).
    pub fn wants_to_be_asked(&self) -> bool {
        contains(&self.text, b"non-synchronizing literal")
    }

    /// True if there is no room for more. Cyrus says so in the text of every version, in the code from 2.4 on.
    pub fn is_over_quota(&self) -> bool {
        self.has_code("OVERQUOTA") || contains(&self.text, b"over quota") || contains(&self.text, b"quota exceeded")
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = shown(&self.text[..self.text.len().min(300)]);
        match &self.code[..] {
            [] => write!(f, "the server says `{text}`"),
            code => write!(f, "the server says `[{}] {text}`", shown(&code[..code.len().min(100)])),
        }
    }
}

/// How long is waited for an answer once somebody wants the restore to end.
const GRACE: Span = Span::from_secs(3);

/// What a command comes to: an answer, or a refusal.
pub type Answer<T> = Result<T, Refusal>;

/// Who logs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Login<'a> {
    /// Whose password it is.
    pub user: &'a [u8],
    /// As whom the connection is to act, if as somebody else; `user` must be an administrator then.
    pub act_as: Option<&'a [u8]>,
    /// The password.
    pub password: &'a [u8],
}

/// How mailboxes are named for the user who is logged in.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Prefixes {
    /// Before the names of the user's own folders: `INBOX.`, or nothing.
    pub own: Vec<u8>,
    /// Before the names of other users' folders, such as `Other Users/`; nothing if there are none.
    pub others: Vec<u8>,
    /// Before the names of shared folders; nothing if there are none, or if they have none.
    pub shared: Vec<u8>,
    /// Between the components.
    pub separator: u8,
}

/// A limit of a quota root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Such as `STORAGE`, which is in KiB.
    pub resource: Vec<u8>,
    /// How much there is.
    pub used: u64,
    /// How much there may be.
    pub limit: u64,
}

/// A quota root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuotaRoot {
    /// Its name, as the server gives it to this user.
    pub name: Vec<u8>,
    /// What is limited.
    pub limits: Vec<Limit>,
}

impl QuotaRoot {
    /// How much more of a resource may come, if that is limited; it has one of these names.
    pub fn room(&self, names: &[&str]) -> Option<u64> {
        let is_meant = |limit: &&Limit| names.iter().any(|name| limit.resource.eq_ignore_ascii_case(name.as_bytes()));
        let limit = self.limits.iter().find(is_meant)?;
        Some(limit.limit.saturating_sub(limit.used))
    }
}

/// One line of LIST.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// The name, as it goes over the wire.
    pub name: Vec<u8>,
    /// It can be opened.
    pub is_selectable: bool,
    /// It has the special use `\\Trash`, as far as the server was asked to tell.
    pub is_trash: bool,
}

/// What is known of a mailbox that has been opened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Opened {
    /// Messages.
    pub exists: u64,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// The UID that comes next.
    pub uidnext: u32,
    /// HIGHESTMODSEQ, if the server keeps it for this mailbox.
    pub highestmodseq: Option<u64>,
    /// Nothing can be changed.
    pub is_read_only: bool,
    /// The keywords that it has names for, in lower case.
    pub keywords: BTreeSet<Vec<u8>>,
}

/// What FETCH says of a message, as far as it was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Fetched {
    /// UID.
    pub uid: u32,
    /// Flags and keywords, without `\Recent`.
    pub flags: Vec<Vec<u8>>,
    /// INTERNALDATE.
    pub internaldate: Option<Time>,
    /// RFC822.SIZE.
    pub size: u64,
    /// SHA-1 of the content: from `DIGEST.SHA1`, or computed from `BODY[]`.
    pub guid: Option<Guid>,
    /// MODSEQ.
    pub modseq: Option<u64>,
}

/// A message that is about to be appended.
#[derive(Clone, Copy, Debug)]
pub struct NewMessage<'a> {
    /// Flags and keywords.
    pub flags: &'a [Vec<u8>],
    /// INTERNALDATE.
    pub internaldate: Time,
    /// Bytes.
    pub size: u64,
    /// It goes as binary data (RFC 3516), which may have NUL bytes and bare line ends, if the server has BINARY.
    pub is_binary: bool,
}

/// Who has logged in on a connection, and how it was encrypted: what another connection like it needs.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Past {
    tls: StartTls,
    user: Vec<u8>,
    act_as: Option<Vec<u8>>,
    password: Vec<u8>,
}

/// The tag of a command under way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Tag(Vec<u8>);

/// One argument of a command after the other.
#[derive(Default)]
struct Words {
    parts: Vec<Part>,
}

enum Part {
    Plain(Vec<u8>),
    Literal(Vec<u8>),
}

impl Words {
    fn of(command: &str) -> Words {
        Words { parts: Vec::from([Part::Plain(command.as_bytes().to_vec())]) }
    }

    /// Adds bytes as they are.
    fn plain(mut self, bytes: &[u8]) -> Words {
        match self.parts.last_mut() {
            Some(Part::Plain(last)) => last.extend_from_slice(bytes),
            _ => self.parts.push(Part::Plain(bytes.to_vec())),
        }
        self
    }

    /// Adds a blank and a string: quoted if that is possible, else a literal.
    fn text(self, text: &[u8]) -> Words {
        let mut words = self.plain(b" ");
        if text.len() > 1024 || text.iter().any(|&c| !(0x20..0x7F).contains(&c)) {
            words.parts.push(Part::Literal(text.to_vec()));
            return words;
        }
        words.plain(&quoted(text))
    }
}

fn quoted(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::from([b'"']);
    for &c in text {
        if matches!(c, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(c);
    }
    out.push(b'"');
    out
}

/// What comes before the end of a command.
enum Before {
    Data(Vec<Value>),
    Note(Status),
}

/// A connection.
pub struct Client {
    stream: Stream,
    tags: u32,
    /// In upper case.
    capabilities: BTreeSet<Vec<u8>>,
    /// Ends of commands that nobody has waited for.
    ended: BTreeMap<Tag, Status>,
    preauth: bool,
    past: Past,
    /// Every literal waits until the server wants it.
    asks: bool,
}

impl Client {
    /// The limits of a stream that carries IMAP.
    pub const LIMITS: Limits = Limits { line: response::RESPONSE_MAX, stall: Span::from_secs(600), bytes_per_second: 0 };

    /// Reads the greeting, asks for what the server can do, and has the connection encrypted if that is wished.
    pub async fn open(stream: Stream, tls: StartTls) -> Result<Client, Error> {
        let none = (BTreeSet::new(), BTreeMap::new());
        let past = Past { tls, user: Vec::new(), act_as: None, password: Vec::new() };
        let mut client = Client { stream, tags: 0, capabilities: none.0, ended: none.1, preauth: false, past, asks: false };
        client.stream.end_when_stopped(GRACE);
        match response::read(&mut client.stream).await? {
            Response::Note(Status { kind: Kind::Ok, .. }) => {}
            Response::Note(Status { kind: Kind::Preauth, .. }) => client.preauth = true,
            Response::Note(status) => return Err(client.stream.unexpected(&status.text, "a greeting")),
            _ => return Err(client.stream.broken("does not greet as an IMAP server does")),
        }
        client.ask_capabilities().await?;
        let has_need = !client.preauth && !client.can("AUTH=PLAIN") && client.can("STARTTLS");
        if tls == StartTls::Always || has_need {
            client.start_tls().await?;
        }
        Ok(client)
    }

    /// Connects and logs in anew, as on a connection that has ended.
    pub async fn again(&mut self) -> Result<(), Error> {
        self.stream.give_up().await;
        let stream = Stream::connect(self.stream.io(), self.stream.peer(), Client::LIMITS).await?;
        let past = self.past.clone();
        let mut client = Box::pin(Client::open(stream, past.tls)).await?;
        let act_as = past.act_as.as_deref();
        client.login(Login { user: &past.user, act_as, password: &past.password }).await?;
        client.asks = self.asks;
        *self = client;
        Ok(())
    }

    /// Has every literal wait from here on, or only where it must.
    pub fn ask_for_literals(&mut self, asks: bool) {
        self.asks = asks;
    }

    /// What the server can do is asked for once more: what it said before is not to be relied on (RFC 3501 section 6.2.1).
    async fn start_tls(&mut self) -> Result<(), Error> {
        // After PREAUTH there is no STARTTLS any more: somebody on the way could say that to keep the connection in the clear.
        if self.preauth || !self.can("STARTTLS") {
            return Err(self.stream.broken(NO_STARTTLS));
        }
        let answer = self.run(Words::of("STARTTLS"), &mut |_| ()).await?;
        self.answered(answer)?;
        self.stream.secure().await?;
        self.ask_capabilities().await
    }

    /// True if the server has this capability, such as `LITERAL+`.
    pub fn can(&self, capability: &str) -> bool {
        self.capabilities.contains(capability.as_bytes())
    }

    /// True if a literal may be sent before the server says so.
    pub fn can_send_ahead(&self, size: u64) -> bool {
        !self.asks && (self.can("LITERAL+") || (self.can("LITERAL-") && size <= LITERAL_MINUS_MAX))
    }

    /// The most bytes that a message may have, if the server says so (RFC 7889).
    pub fn message_max(&self) -> Option<u64> {
        self.capabilities.iter().find_map(|word| number(word.strip_prefix(b"APPENDLIMIT=")?))
    }

    /// How often something was sent and then waited for.
    pub fn round_trips(&self) -> u64 {
        self.stream.round_trips()
    }

    async fn ask_capabilities(&mut self) -> Result<(), Error> {
        let mut found = BTreeSet::new();
        let answer = self
            .run(Words::of("CAPABILITY"), &mut |before| {
                if let Before::Data(values) = before
                    && values.first().is_some_and(|first| first.is("CAPABILITY"))
                {
                    found.extend(values[1..].iter().map(|value| value.bytes().to_ascii_uppercase()));
                }
            })
            .await?;
        self.answered(answer)?;
        self.capabilities = found;
        Ok(())
    }

    /// Logs in. A refusal is [`Error::Refused`]: nothing else can be done on this connection.
    pub async fn login(&mut self, login: Login<'_>) -> Result<(), Error> {
        let (user, password) = (login.user.to_vec(), login.password.to_vec());
        self.past = Past { user, act_as: login.act_as.map(<[u8]>::to_vec), password, ..self.past };
        if self.preauth {
            return Ok(());
        }
        let answer = if self.can("AUTH=PLAIN") {
            self.authenticate_plain(login).await?
        } else if login.act_as.is_none() && !self.can("LOGINDISABLED") {
            self.run(Words::of("LOGIN").text(login.user).text(login.password), &mut |_| ()).await?
        } else {
            let why = "takes no password on this connection (no AUTH=PLAIN); reach it through ssh or a unix socket on its \
                       host, or set allowplaintext there";
            return Err(self.stream.broken(why));
        };
        if let Err(refusal) = answer {
            let acts = login.act_as.map(|user| format!(" to act as {}", shown(user))).unwrap_or_default();
            let who = shown(login.user);
            return Err(Error::Refused(format!("{}: {who} may not log in{acts}: {refusal}", self.stream.peer())));
        }
        self.ask_capabilities().await
    }

    async fn authenticate_plain(&mut self, login: Login<'_>) -> Result<Answer<Status>, Error> {
        let message = [login.act_as.unwrap_or_default(), b"\0", login.user, b"\0", login.password].concat();
        let response = base64(&message);
        let tag = if self.can("SASL-IR") {
            self.begin(Words::of("AUTHENTICATE PLAIN ").plain(&response)).await?
        } else {
            let tag = self.begin(Words::of("AUTHENTICATE PLAIN")).await?;
            if self.go_on(&tag).await? {
                self.stream.send(&response).await?;
                self.stream.send(b"\r\n").await?;
            }
            tag
        };
        self.end(&tag, &mut |_| ()).await
    }

    /// How the mailboxes are named for the user who is logged in.
    pub async fn namespace(&mut self) -> Result<Prefixes, Error> {
        let mut found = None;
        let answer = self
            .run(Words::of("NAMESPACE"), &mut |before| {
                if let Before::Data(values) = before
                    && let [name, own, others, shared] = &values[..]
                    && name.is("NAMESPACE")
                    && let Some((own, separator)) = prefix(own)
                {
                    let other = |value| prefix(value).map(|(prefix, _)| prefix).unwrap_or_default();
                    found = Some(Prefixes { own, others: other(others), shared: other(shared), separator });
                }
            })
            .await?;
        self.answered(answer)?;
        found.ok_or_else(|| self.stream.broken("tells no personal namespace"))
    }

    /// The mailboxes whose names match a pattern.
    pub async fn list(&mut self, pattern: &[u8]) -> Result<Vec<Listed>, Error> {
        self.list_by(Words::of("LIST \"\"").text(pattern)).await
    }

    /// All mailboxes, with their special uses if the server tells them.
    pub async fn list_all(&mut self) -> Result<Vec<Listed>, Error> {
        let uses = if self.can("SPECIAL-USE") { " RETURN (SPECIAL-USE)" } else { "" };
        self.list_by(Words::of("LIST \"\" \"*\"").plain(uses.as_bytes())).await
    }

    async fn list_by(&mut self, words: Words) -> Result<Vec<Listed>, Error> {
        let (mut found, mut over) = (Vec::new(), false);
        let answer = self
            .run(words, &mut |before| {
                if let Before::Data(values) = before
                    && let [name, attributes, _, mailbox, ..] = &values[..]
                    && name.is("LIST")
                {
                    let no_select = |value: &Value| value.is("\\Noselect") || value.is("\\NonExistent");
                    let is_selectable = !attributes.list().iter().any(no_select);
                    over |= found.len() >= LISTED_MAX;
                    if !over {
                        let is_trash = attributes.list().iter().any(|value| value.is("\\Trash"));
                        found.push(Listed { name: mailbox.bytes().to_vec(), is_selectable, is_trash });
                    }
                }
            })
            .await?;
        self.answered(answer)?;
        if over {
            return Err(self.stream.broken(format!("lists more than {LISTED_MAX} mailboxes")));
        }
        Ok(found)
    }

    /// Makes a mailbox.
    pub async fn create(&mut self, mailbox: &[u8]) -> Result<Answer<()>, Error> {
        self.simple(Words::of("CREATE").text(mailbox)).await
    }

    /// The rights that the user has on a mailbox (RFC 4314), such as `lrswi`.
    pub async fn my_rights(&mut self, mailbox: &[u8]) -> Result<Answer<Vec<u8>>, Error> {
        let mut found = Vec::new();
        let answer = self
            .run(Words::of("MYRIGHTS").text(mailbox), &mut |before| {
                if let Before::Data(values) = before
                    && let [name, _, rights] = &values[..]
                    && name.is("MYRIGHTS")
                {
                    found = rights.bytes().to_vec();
                }
            })
            .await?;
        Ok(answer.map(|_| found))
    }

    /// The ACL of a mailbox: identifiers and their rights.
    pub async fn acl(&mut self, mailbox: &[u8]) -> Result<Answer<Vec<(Vec<u8>, Vec<u8>)>>, Error> {
        let mut found = Vec::new();
        let answer = self
            .run(Words::of("GETACL").text(mailbox), &mut |before| {
                if let Before::Data(values) = before
                    && let [name, _, pairs @ ..] = &values[..]
                    && name.is("ACL")
                {
                    let pairs = pairs.chunks_exact(2).take(ACL_MAX);
                    found = pairs.map(|pair| (pair[0].bytes().to_vec(), pair[1].bytes().to_vec())).collect();
                }
            })
            .await?;
        Ok(answer.map(|_| found))
    }

    /// Gives an identifier these rights on a mailbox; with no rights, it is taken out of the ACL.
    pub async fn set_acl(&mut self, mailbox: &[u8], identifier: &[u8], rights: &[u8]) -> Result<Answer<()>, Error> {
        if rights.is_empty() {
            return self.simple(Words::of("DELETEACL").text(mailbox).text(identifier)).await;
        }
        self.simple(Words::of("SETACL").text(mailbox).text(identifier).text(rights)).await
    }

    /// Deletes a mailbox.
    pub async fn delete(&mut self, mailbox: &[u8]) -> Result<Answer<()>, Error> {
        self.simple(Words::of("DELETE").text(mailbox)).await
    }

    /// Subscribes to a mailbox.
    pub async fn subscribe(&mut self, mailbox: &[u8]) -> Result<Answer<()>, Error> {
        self.simple(Words::of("SUBSCRIBE").text(mailbox)).await
    }

    /// Ends a subscription.
    pub async fn unsubscribe(&mut self, mailbox: &[u8]) -> Result<Answer<()>, Error> {
        self.simple(Words::of("UNSUBSCRIBE").text(mailbox)).await
    }

    /// Sets an annotation of a mailbox; `entry` is such as `/private/comment`. An empty value removes it.
    pub async fn set_metadata(&mut self, mailbox: &[u8], entry: &str, value: &[u8]) -> Result<Answer<()>, Error> {
        let words = Words::of("SETMETADATA").text(mailbox).plain(b" (").plain(entry.as_bytes());
        let words = if value.is_empty() { words.plain(b" NIL") } else { words.text(value) };
        self.simple(words.plain(b")")).await
    }

    /// An annotation of a mailbox, if it has it.
    pub async fn metadata(&mut self, mailbox: &[u8], entry: &str) -> Result<Answer<Option<Vec<u8>>>, Error> {
        let mut found = None;
        let words = Words::of("GETMETADATA").text(mailbox).plain(b" ").plain(entry.as_bytes());
        let answer = self
            .run(words, &mut |before| {
                if let Before::Data(values) = before
                    && let [name, _, pairs] = &values[..]
                    && name.is("METADATA")
                    && let [_, value] = pairs.list()
                    && !value.is("NIL")
                {
                    found = Some(value.bytes().to_vec());
                }
            })
            .await?;
        Ok(answer.map(|_| found))
    }

    /// Opens a mailbox for reading alone, or for changing flags.
    pub async fn open_mailbox(&mut self, mailbox: &[u8], to_change: bool) -> Result<Answer<Opened>, Error> {
        let mut opened = Opened::default();
        let words = Words::of(if to_change { "SELECT" } else { "EXAMINE" }).text(mailbox);
        let answer = self
            .run(words, &mut |before| match before {
                Before::Data(values) => {
                    if let [count, name] = &values[..]
                        && name.is("EXISTS")
                    {
                        opened.exists = count.number().unwrap_or(0);
                    }
                    if let [name, flags] = &values[..]
                        && name.is("FLAGS")
                    {
                        let names = flags.list().iter().map(|flag| flag.bytes().to_ascii_lowercase());
                        opened.keywords = names.filter(|name| !name.starts_with(b"\\")).collect();
                    }
                }
                Before::Note(status) => {
                    let number = |word| status.code_after(word).and_then(number);
                    let short = |word| number(word).and_then(|n| u32::try_from(n).ok());
                    opened.uidvalidity = short("UIDVALIDITY").unwrap_or(opened.uidvalidity);
                    opened.uidnext = short("UIDNEXT").unwrap_or(opened.uidnext);
                    opened.highestmodseq = number("HIGHESTMODSEQ").or(opened.highestmodseq);
                }
            })
            .await?;
        Ok(answer.map(|status| Opened { is_read_only: status.code_after("READ-ONLY").is_some(), ..opened }))
    }

    /// Tells what `items` names of the messages with these UIDs, such as `1:*`. Each is given as it comes.
    ///
    /// `RFC822.SIZE`, `INTERNALDATE`, `FLAGS`, `MODSEQ`, `DIGEST.SHA1` and `BODY.PEEK[]` are understood.
    pub async fn fetch(&mut self, uids: &str, items: &str, each: &mut dyn FnMut(Fetched)) -> Result<Answer<()>, Error> {
        let words = Words::of("UID FETCH ").plain(uids.as_bytes()).plain(b" (UID ").plain(items.as_bytes()).plain(b")");
        let answer = self
            .run(words, &mut |before| {
                if let Before::Data(values) = before
                    && let [_, name, items] = &values[..]
                    && name.is("FETCH")
                    && let Some(message) = fetched(items.list())
                {
                    each(message);
                }
            })
            .await?;
        Ok(answer.map(|_| ()))
    }

    /// Changes flags: `change` is such as `+FLAGS.SILENT (\Seen)`. With `unchanged_since`, only of messages whose MODSEQ is not
    /// greater; gives the UIDs of those that are.
    pub async fn store(&mut self, uids: &str, unchanged_since: Option<u64>, change: &[u8]) -> Result<Answer<Vec<u32>>, Error> {
        let mut words = Words::of("UID STORE ").plain(uids.as_bytes()).plain(b" ");
        if let Some(modseq) = unchanged_since {
            words = words.plain(format!("(UNCHANGEDSINCE {modseq}) ").as_bytes());
        }
        // With CONDSTORE, each message is answered with its new MODSEQ. What others did in between is of no interest here.
        let answer = self.run(words.plain(change), &mut |_| ()).await?;
        Ok(answer.map(|status| status.code_after("MODIFIED").map(numbers).unwrap_or_default()))
    }

    /// The quota roots that count for a mailbox, with their limits. Empty if nothing is limited.
    pub async fn quotas(&mut self, mailbox: &[u8]) -> Result<Answer<Vec<QuotaRoot>>, Error> {
        let mut found = Vec::new();
        let answer = self
            .run(Words::of("GETQUOTAROOT").text(mailbox), &mut |before| {
                if let Before::Data(values) = before
                    && let [name, root, resources] = &values[..]
                    && name.is("QUOTA")
                    && found.len() < QUOTA_ROOTS_MAX
                {
                    found.push(quota_root(root, resources.list()));
                }
            })
            .await?;
        Ok(answer.map(|_| found))
    }

    /// Sets the limits of a quota root; what is not named is not limited. For administrators.
    pub async fn set_quota(&mut self, root: &[u8], limits: &[Limit]) -> Result<Answer<()>, Error> {
        let limits: Vec<Vec<u8>> =
            limits.iter().map(|l| [&l.resource[..], b" ", l.limit.to_string().as_bytes()].concat()).collect();
        self.simple(Words::of("SETQUOTA").text(root).plain(b" (").plain(&limits.join(&b' ')).plain(b")")).await
    }

    /// Begins to append to a mailbox.
    pub async fn append_begin(&mut self, mailbox: &[u8]) -> Result<Tag, Error> {
        self.begin_words(Words::of("APPEND").text(mailbox)).await
    }

    /// Announces the next message of the APPEND with this tag; its content follows by [`Client::append_piece`]. False if the
    /// server has ended the command already.
    pub async fn append_message(&mut self, tag: &Tag, message: NewMessage<'_>) -> Result<bool, Error> {
        let flags = message.flags.join(&b' ');
        let date = date::emit(message.internaldate);
        let ahead = self.can_send_ahead(message.size);
        let plus = if ahead { "+" } else { "" };
        let binary = if message.is_binary && self.can("BINARY") { "~" } else { "" };
        self.stream.send(b" (").await?;
        self.stream.send(&flags).await?;
        self.stream.send(format!(") \"{date}\" {binary}{{{}{plus}}}\r\n", message.size).as_bytes()).await?;
        if ahead { Ok(true) } else { self.go_on(tag).await }
    }

    /// Sends bytes of a message.
    pub async fn append_piece(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.stream.send(piece).await
    }

    /// Ends the list of messages. The answer is had from [`Client::appended`].
    pub async fn append_end(&mut self) -> Result<(), Error> {
        self.stream.send(b"\r\n").await?;
        self.stream.flush().await
    }

    /// What the server says of an APPEND: the UIDs, if it tells them. One that the server does not understand (`BAD`, as for a
    /// keyword or a date that it does not take) is refused like others.
    pub async fn appended(&mut self, tag: &Tag) -> Result<Answer<Vec<u32>>, Error> {
        let status = self.end_of(tag, &mut |_| ()).await?;
        let answer = match status.kind {
            Kind::Bad => Err(Refusal { code: status.code, text: status.text }),
            _ => self.judged(status)?,
        };
        Ok(answer.map(|status| {
            let uids = status.code_after("APPENDUID").and_then(|code| code.split(|&c| c == b' ').nth(1));
            uids.map(numbers).unwrap_or_default()
        }))
    }

    /// Moves messages of the mailbox that is open into another (RFC 6851).
    pub async fn move_to(&mut self, uids: &[u32], mailbox: &[u8]) -> Result<Answer<()>, Error> {
        self.simple(Words::of("UID MOVE ").plain(set(uids).as_bytes()).text(mailbox)).await
    }

    /// Expunges messages of the mailbox that is open, if they have `\Deleted` (RFC 4315).
    pub async fn expunge(&mut self, uids: &str) -> Result<Answer<()>, Error> {
        self.simple(Words::of("UID EXPUNGE ").plain(uids.as_bytes())).await
    }

    /// Ends the connection.
    pub async fn logout(mut self) {
        let _ = self.run(Words::of("LOGOUT"), &mut |_| ()).await;
        self.stream.close().await;
    }

    async fn simple(&mut self, words: Words) -> Result<Answer<()>, Error> {
        Ok(self.run(words, &mut |_| ()).await?.map(|_| ()))
    }

    /// For commands that no server refuses unless something is wrong with it.
    fn answered(&self, answer: Answer<Status>) -> Result<(), Error> {
        match answer {
            Ok(_) => Ok(()),
            Err(refusal) => Err(self.stream.broken(refusal.to_string())),
        }
    }

    async fn run(&mut self, words: Words, each: &mut dyn FnMut(Before)) -> Result<Answer<Status>, Error> {
        let tag = self.begin(words).await?;
        self.end(&tag, each).await
    }

    /// Sends a whole command.
    async fn begin(&mut self, words: Words) -> Result<Tag, Error> {
        let tag = self.begin_words(words).await?;
        self.stream.send(b"\r\n").await?;
        Ok(tag)
    }

    /// Sends a command up to its last word.
    async fn begin_words(&mut self, words: Words) -> Result<Tag, Error> {
        self.tags += 1;
        let tag = Tag(format!("c{}", self.tags).into_bytes());
        self.stream.send(&tag.0).await?;
        self.stream.send(b" ").await?;
        for part in words.parts {
            let literal = match part {
                Part::Plain(bytes) => {
                    self.stream.send(&bytes).await?;
                    continue;
                }
                Part::Literal(literal) => literal,
            };
            let ahead = self.can_send_ahead(literal.len() as u64);
            let plus = if ahead { "+" } else { "" };
            self.stream.send(format!("{{{}{plus}}}\r\n", literal.len()).as_bytes()).await?;
            if !ahead && !self.go_on(&tag).await? {
                break;
            }
            self.stream.send(&literal).await?;
        }
        Ok(tag)
    }

    /// Waits until the server wants the rest of the command. False if it has ended the command instead.
    async fn go_on(&mut self, tag: &Tag) -> Result<bool, Error> {
        loop {
            match self.next().await? {
                Response::Continue => return Ok(true),
                Response::Tagged(found, status) if found == tag.0 => {
                    self.ended.insert(tag.clone(), status);
                    return Ok(false);
                }
                response => self.keep(response)?,
            }
        }
    }

    /// Waits for the end of a command.
    async fn end(&mut self, tag: &Tag, each: &mut dyn FnMut(Before)) -> Result<Answer<Status>, Error> {
        let status = self.end_of(tag, each).await?;
        self.judged(status)
    }

    /// How a command ended, whatever that means.
    async fn end_of(&mut self, tag: &Tag, each: &mut dyn FnMut(Before)) -> Result<Status, Error> {
        loop {
            if let Some(status) = self.ended.remove(tag) {
                return Ok(status);
            }
            match self.next().await? {
                Response::Tagged(found, status) if found == tag.0 => return Ok(status),
                Response::Data(values) => each(Before::Data(values)),
                Response::Note(status) => each(Before::Note(status)),
                response => self.keep(response)?,
            }
        }
    }

    fn judged(&self, status: Status) -> Result<Answer<Status>, Error> {
        match status.kind {
            Kind::Ok => Ok(Ok(status)),
            Kind::No => Ok(Err(Refusal { code: status.code, text: status.text })),
            _ => Err(self.stream.unexpected(&status.text, "a command that it understands")),
        }
    }

    async fn next(&mut self) -> Result<Response, Error> {
        match response::read(&mut self.stream).await? {
            Response::Note(Status { kind: Kind::Bye, text, .. }) => {
                Err(self.stream.broken(format!("ends the connection: {}", shown(&text[..text.len().min(300)]))))
            }
            response => Ok(response),
        }
    }

    /// Keeps the end of another command; what else comes means nothing here.
    fn keep(&mut self, response: Response) -> Result<(), Error> {
        if let Response::Tagged(tag, status) = response {
            let number = tag.strip_prefix(b"c").and_then(|n| core::str::from_utf8(n).ok()).and_then(|n| n.parse::<u32>().ok());
            if !number.is_some_and(|n| (1..=self.tags).contains(&n)) || self.ended.len() >= AHEAD_MAX {
                return Err(self.stream.broken("answers a command that was never sent"));
            }
            self.ended.insert(Tag(tag), status);
        }
        Ok(())
    }
}

/// The first prefix of a namespace, and the separator.
fn prefix(namespace: &Value) -> Option<(Vec<u8>, u8)> {
    let [prefix, separator, ..] = namespace.list().first()?.list() else { return None };
    let [separator] = separator.bytes() else { return None };
    Some((prefix.bytes().to_vec(), *separator))
}

fn quota_root(root: &Value, resources: &[Value]) -> QuotaRoot {
    let limit = |triple: &[Value]| match triple {
        [resource, used, limit] => {
            Some(Limit { resource: resource.bytes().to_vec(), used: used.number()?, limit: limit.number()? })
        }
        _ => None,
    };
    QuotaRoot { name: root.bytes().to_vec(), limits: resources.chunks_exact(3).filter_map(limit).collect() }
}

/// The items of a FETCH response; `None` if there is no UID among them: flags that somebody else has changed.
fn fetched(items: &[Value]) -> Option<Fetched> {
    let mut out = Fetched::default();
    for pair in items.chunks_exact(2) {
        let [name, value] = pair else { continue };
        match &name.bytes().to_ascii_uppercase()[..] {
            b"UID" => out.uid = u32::try_from(value.number()?).ok()?,
            b"FLAGS" => {
                let flags = value.list().iter().filter(|flag| !flag.is("\\Recent"));
                out.flags = flags.map(|flag| flag.bytes().to_vec()).collect();
            }
            b"INTERNALDATE" => out.internaldate = date::parse(value.bytes()),
            b"RFC822.SIZE" => out.size = value.number()?,
            b"DIGEST.SHA1" => out.guid = Guid::from_hex(value.bytes()),
            b"MODSEQ" => out.modseq = value.list().first().and_then(Value::number),
            b"BODY[]" => {
                out.guid = Some(match value {
                    Value::Long { sha1, .. } => *sha1,
                    value => Guid::of(value.bytes()),
                });
            }
            _ => {}
        }
    }
    (out.uid != 0).then_some(out)
}

/// The numbers of a set such as `3,5:7`, in its order; at most [`UIDS_MAX`] of them. What is no set ends it.
fn numbers(set: &[u8]) -> Vec<u32> {
    let mut out = Vec::new();
    for part in set.split(|&c| c == b',') {
        let colon = part.iter().position(|&c| c == b':');
        let (from, to) = colon.map_or((part, part), |colon| (&part[..colon], &part[colon + 1..]));
        let bound = |word| number(word).and_then(|n| u32::try_from(n).ok());
        let (Some(from), Some(to)) = (bound(from), bound(to)) else { break };
        let room = UIDS_MAX - out.len();
        out.extend((from.min(to)..=from.max(to)).take(room));
    }
    out
}

/// A set such as `3,5:7` of numbers in ascending order.
pub fn set(uids: &[u32]) -> String {
    let mut out = String::new();
    for run in uids.chunk_by(|a, b| a.checked_add(1) == Some(*b)) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
        let comma = if out.is_empty() { "" } else { "," };
        out += &if first == last { format!("{comma}{first}") } else { format!("{comma}{first}:{last}") };
    }
    out
}

/// RFC 4648, with padding.
pub fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let at = |n: usize| u32::from(chunk.get(n).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        let digit = |n: usize| DIGITS[(word >> (18 - 6 * n) & 63) as usize];
        out.extend((0..4).map(|n| if n <= chunk.len() { digit(n) } else { b'=' }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_uids_are_written_and_read() {
        let uids = [1, 2, 3, 7, 9, 10, u32::MAX];
        assert_eq!(set(&uids), "1:3,7,9:10,4294967295");
        assert_eq!(numbers(set(&uids).as_bytes()), uids);
        assert_eq!(numbers(b"5:3,x,9"), [3, 4, 5]);
        assert_eq!(numbers(b"1:4294967295").len(), UIDS_MAX);
        assert_eq!(numbers(b""), [0; 0]);
    }

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("\0\u{ff}", "AMO/")]
        {
            assert_eq!(base64(plain.as_bytes()), coded.as_bytes());
        }
    }

    #[test]
    fn strings_are_quoted_or_literals() {
        let words = Words::of("CREATE").text(b"a \"b\\").text("\u{e9}".as_bytes()).plain(b")");
        let [Part::Plain(first), Part::Literal(second), Part::Plain(third)] = &words.parts[..] else { panic!("three parts") };
        assert_eq!((&first[..], &second[..], &third[..]), (&b"CREATE \"a \\\"b\\\\\" "[..], &b"\xC3\xA9"[..], &b")"[..]));
    }

    #[test]
    fn what_fetch_says_is_understood_in_any_order() {
        let atom = |text: &str| Value::Atom(text.as_bytes().to_vec());
        let items = [
            atom("FLAGS"),
            Value::List([atom("\\Recent"), atom("\\Seen")].into()),
            atom("DIGEST.SHA1"),
            atom("a9993e364706816aba3e25717850c26c9cd0d89d"),
            atom("MODSEQ"),
            Value::List([atom("12")].into()),
            atom("UID"),
            atom("7"),
        ];
        let message = fetched(&items).expect("a message");
        assert_eq!((message.uid, message.modseq, message.guid), (7, Some(12), Some(Guid::of(b"abc"))));
        assert_eq!(message.flags, [b"\\Seen".to_vec()]);
        assert_eq!(fetched(&items[..6]), None, "no UID");
    }
}
