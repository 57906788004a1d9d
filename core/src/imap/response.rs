//! What a server says: responses of any kind as lists of values.
//!
//! A response is read whole before it is looked at, within [`RESPONSE_MAX`]. What must not come in: what a client does with it.

use crate::error::Error;
use crate::guid::{Guid, Sha1};
use crate::wire::stream::{Stream, number};
use alloc::format;
use alloc::vec::Vec;

/// Bytes of a response that are kept, short literals among them.
pub const RESPONSE_MAX: usize = 4 << 20;
/// A literal of more bytes is not kept: what is known of it is its length and its SHA-1.
pub const LITERAL_KEPT: u64 = 64 << 10;
/// The longest literal, which is that of a message.
const LITERAL_MAX: u64 = 4 << 30;
/// How deep lists may nest.
const DEPTH_MAX: u32 = 16;

/// One value of a response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// An atom, a number or `NIL`. What stands in brackets behind `BODY` and its like belongs to it, as in
    /// `BODY[HEADER.FIELDS (SUBJECT)]`; elsewhere a bracket is a character like others, as in the keyword `a[b`.
    Atom(Vec<u8>),
    /// A quoted string without its quoting, or a literal of at most [`LITERAL_KEPT`] bytes.
    Text(Vec<u8>),
    /// A longer literal.
    Long {
        /// Its bytes.
        size: u64,
        /// Its SHA-1.
        sha1: Guid,
    },
    /// `(v v ...)`.
    List(Vec<Value>),
}

impl Value {
    /// The bytes of an atom or string; none of anything else.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Atom(bytes) | Value::Text(bytes) => bytes,
            Value::Long { .. } | Value::List(_) => &[],
        }
    }

    /// The elements of a list; none of anything else.
    pub fn list(&self) -> &[Value] {
        match self {
            Value::List(values) => values,
            _ => &[],
        }
    }

    /// A decimal number.
    pub fn number(&self) -> Option<u64> {
        number(self.bytes())
    }

    /// True for an atom that reads so, in any case of letters.
    pub fn is(&self, atom: &str) -> bool {
        matches!(self, Value::Atom(bytes) if bytes.eq_ignore_ascii_case(atom.as_bytes()))
    }
}

/// How a command ended, or what the server says by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Done.
    Ok,
    /// Refused or failed.
    No,
    /// Not understood.
    Bad,
    /// The greeting of a connection that needs no login.
    Preauth,
    /// The connection ends.
    Bye,
}

/// A status response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// Which.
    pub kind: Kind,
    /// What stands in brackets before the text, without them; empty if nothing does.
    pub code: Vec<u8>,
    /// For people.
    pub text: Vec<u8>,
}

impl Status {
    /// What follows `word` in the code, if it begins with that: for `UIDNEXT 7` and `UIDNEXT`, `7`.
    pub fn code_after(&self, word: &str) -> Option<&[u8]> {
        let (first, rest) = self.code.split_at_checked(word.len())?;
        match (first.eq_ignore_ascii_case(word.as_bytes()), rest) {
            (true, []) => Some(rest),
            (true, [b' ', rest @ ..]) => Some(rest),
            _ => None,
        }
    }
}

/// One response.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Response {
    /// `+ ...`: go on.
    Continue,
    /// `* ...`: data.
    Data(Vec<Value>),
    /// `* OK ...` and its like.
    Note(Status),
    /// The end of the command with this tag.
    Tagged(Vec<u8>, Status),
}

/// A literal that was read.
enum Literal {
    Kept(Vec<u8>),
    Long(u64, Guid),
}

/// Reads the next response.
pub async fn read(stream: &mut Stream) -> Result<Response, Error> {
    let (mut raw, mut literals, mut kept) = (Vec::new(), Vec::new(), 0);
    loop {
        let from = raw.len();
        raw.extend_from_slice(stream.some_line().await?);
        if raw.len() + kept > RESPONSE_MAX {
            return Err(stream.broken(format!("sends a response of more than {RESPONSE_MAX} bytes")));
        }
        // The text of a status is for people, and may end as it likes.
        let Some(len) = literal_len(&raw[from..]).filter(|_| !is_status(&raw)) else { break };
        let room = RESPONSE_MAX.saturating_sub(raw.len() + kept) as u64;
        let literal = read_literal(stream, len, len <= LITERAL_KEPT.min(room)).await?;
        if let Literal::Kept(bytes) = &literal {
            kept += bytes.len();
        }
        literals.push(literal);
    }
    match parse(&raw, literals) {
        Some(response) => Ok(response),
        // What is of no use need not be understood.
        None if is_needless(&raw) => Ok(Response::Data(Vec::new())),
        None => Err(stream.unexpected(&raw, "an IMAP response")),
    }
}

/// Untagged responses without which a client would not know what is there.
const NEEDED: [&[u8]; 9] =
    [b"ACL", b"CAPABILITY", b"FETCH", b"LIST", b"METADATA", b"MYRIGHTS", b"NAMESPACE", b"QUOTA", b"EXISTS"];

/// True for an untagged response that nobody needs, such as FLAGS: its first or, behind a number, its second word tells.
fn is_needless(raw: &[u8]) -> bool {
    let mut words = raw.split(|&c| c == b' ');
    if words.next() != Some(b"*") {
        return false;
    }
    let name = match (words.next(), words.next()) {
        (Some(first), Some(second)) if number(first).is_some() => second,
        (Some(first), _) => first,
        (None, _) => return false,
    };
    let is_word = name.first().is_some_and(u8::is_ascii_alphabetic)
        && name.iter().all(|&c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.'));
    is_word && !NEEDED.iter().any(|needed| name.eq_ignore_ascii_case(needed))
}

/// True for a line that says how a command ended, or its like.
fn is_status(raw: &[u8]) -> bool {
    raw.iter().position(|&c| c == b' ').is_some_and(|space| parse_status(&raw[space + 1..]).is_some())
}

async fn read_literal(stream: &mut Stream, len: u64, keep: bool) -> Result<Literal, Error> {
    if len > LITERAL_MAX {
        return Err(stream.broken(format!("sends a literal of {len} bytes, the limit is {LITERAL_MAX}")));
    }
    let (mut left, mut bytes, mut hash) = (len, Vec::new(), Sha1::new());
    while left > 0 {
        let piece = stream.piece(left).await?;
        left -= piece.len() as u64;
        if keep {
            bytes.extend_from_slice(piece);
        } else {
            hash.update(piece);
        }
    }
    Ok(if keep { Literal::Kept(bytes) } else { Literal::Long(len, hash.finish()) })
}

/// The length that a line announces at its end, as in `BODY[] {42}`.
fn literal_len(line: &[u8]) -> Option<u64> {
    let from = line.strip_suffix(b"}")?.iter().rposition(|&c| c == b'{')? + 1;
    number(&line[from..line.len() - 1])
}

fn parse(raw: &[u8], literals: Vec<Literal>) -> Option<Response> {
    if raw.first() == Some(&b'+') {
        return Some(Response::Continue);
    }
    let space = raw.iter().position(|&c| c == b' ')?;
    let (tag, rest) = (&raw[..space], &raw[space + 1..]);
    let status = parse_status(rest);
    if tag != b"*" {
        return Some(Response::Tagged(tag.to_vec(), status?));
    }
    if let Some(status) = status {
        return Some(Response::Note(status));
    }
    let mut reader = Reader { rest, literals: literals.into_iter() };
    let values = reader.values(0)?;
    reader.rest.is_empty().then_some(Response::Data(values))
}

/// `OK [CODE] text` and its like; `None` for anything else.
fn parse_status(line: &[u8]) -> Option<Status> {
    const KINDS: [(&[u8], Kind); 5] =
        [(b"OK", Kind::Ok), (b"NO", Kind::No), (b"BAD", Kind::Bad), (b"PREAUTH", Kind::Preauth), (b"BYE", Kind::Bye)];
    let end = line.iter().position(|&c| c == b' ').unwrap_or(line.len());
    let (_, kind) = KINDS.into_iter().find(|(word, _)| line[..end].eq_ignore_ascii_case(word))?;
    let text = line.get(end + 1..).unwrap_or_default();
    let code = text.strip_prefix(b"[").and_then(|text| Some(&text[..code_len(text)?]));
    let text = code.map_or(text, |code| text[code.len() + 2..].trim_ascii_start());
    Some(Status { kind, code: code.unwrap_or_default().to_vec(), text: text.to_vec() })
}

/// Items of FETCH that have something in brackets behind them.
const SECTIONS: [&[u8]; 3] = [b"BODY[", b"BINARY[", b"BINARY.SIZE["];

/// The length of a code, which ends at the first `]`, or at `)]` if it has a list: keywords may have brackets in them.
fn code_len(text: &[u8]) -> Option<usize> {
    let end = text.iter().position(|&c| c == b']')?;
    match text[..end].contains(&b'(') {
        true => text.windows(2).position(|pair| pair == b")]").map(|at| at + 1).or(Some(end)),
        false => Some(end),
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    literals: alloc::vec::IntoIter<Literal>,
}

impl Reader<'_> {
    /// Values up to the end or to a closing parenthesis.
    fn values(&mut self, depth: u32) -> Option<Vec<Value>> {
        if depth > DEPTH_MAX {
            return None;
        }
        let mut values = Vec::new();
        while let Some(&first) = self.rest.first() {
            match first {
                b' ' => self.rest = &self.rest[1..],
                b')' => break,
                b'(' => {
                    self.rest = &self.rest[1..];
                    values.push(Value::List(self.values(depth + 1)?));
                    self.rest = self.rest.strip_prefix(b")")?;
                }
                b'"' => values.push(Value::Text(self.quoted()?)),
                b'{' => values.push(self.literal()?),
                _ => values.push(Value::Atom(self.atom()?)),
            }
        }
        Some(values)
    }

    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut at = 1;
        loop {
            match self.rest.get(at)? {
                b'"' => break,
                b'\\' => {
                    text.push(*self.rest.get(at + 1)?);
                    at += 2;
                }
                &c => {
                    text.push(c);
                    at += 1;
                }
            }
        }
        self.rest = &self.rest[at + 1..];
        Some(text)
    }

    /// A literal stands in `rest` as its length alone.
    fn literal(&mut self) -> Option<Value> {
        let end = self.rest.iter().position(|&c| c == b'}')?;
        number(&self.rest[1..end])?;
        self.rest = &self.rest[end + 1..];
        Some(match self.literals.next()? {
            Literal::Kept(bytes) => Value::Text(bytes),
            Literal::Long(size, sha1) => Value::Long { size, sha1 },
        })
    }

    fn atom(&mut self) -> Option<Vec<u8>> {
        let has_section = SECTIONS.iter().any(|name| self.rest.get(..name.len()).is_some_and(|n| n.eq_ignore_ascii_case(name)));
        let mut depth = 0_i32;
        let end = self.rest.iter().position(|&c| {
            depth += i32::from(has_section) * (i32::from(c == b'[') - i32::from(c == b']'));
            depth <= 0 && matches!(c, b' ' | b'(' | b')')
        });
        let (atom, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        (!atom.is_empty()).then(|| atom.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn shown(raw: &str, literals: Vec<Literal>) -> String {
        fn show(value: &Value) -> String {
            match value {
                Value::Atom(atom) => String::from_utf8_lossy(atom).into_owned(),
                Value::Text(text) => format!("`{}`", text.escape_ascii()),
                Value::Long { size, .. } => format!("<{size}>"),
                Value::List(values) => format!("({})", values.iter().map(show).collect::<Vec<_>>().join(" ")),
            }
        }
        match parse(raw.as_bytes(), literals) {
            Some(Response::Data(values)) => values.iter().map(show).collect::<Vec<_>>().join(" "),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn data_are_split_with_literals_quoted_strings_and_brackets() {
        let literals = [Literal::Kept(b"a) \"(".to_vec()), Literal::Long(70_000, Guid::of(b""))].into();
        let raw = r#"* 3 FETCH (UID 7 FLAGS (\Seen $L) BODY[HEADER.FIELDS (SUBJECT)] {5} X "a\"b\\" BODY[] {70000} NIL)"#;
        let expected =
            r#"3 FETCH (UID 7 FLAGS (\Seen $L) BODY[HEADER.FIELDS (SUBJECT)] `a) \"(` X `a\"b\\` BODY[] <70000> NIL)"#;
        assert_eq!(shown(raw, literals), expected);
    }

    #[test]
    fn a_status_has_a_code_and_a_text() {
        let status = |raw: &[u8]| match parse(raw, Vec::new()) {
            Some(Response::Note(status) | Response::Tagged(_, status)) => status,
            other => panic!("{other:?}"),
        };
        let found = status(b"c7 OK [APPENDUID 1795550777 3:5] Completed (x]");
        assert_eq!((found.kind, found.code_after("appenduid")), (Kind::Ok, Some(&b"1795550777 3:5"[..])));
        assert_eq!(found.text, b"Completed (x]");
        assert_eq!(found.code_after("APPEND"), None);
        let found = status(b"* OK [PERMANENTFLAGS (\\Seen a[b x]y \\*)] Ok");
        assert_eq!((&found.code[..], &found.text[..]), (&b"PERMANENTFLAGS (\\Seen a[b x]y \\*)"[..], &b"Ok"[..]));
        assert_eq!(status(b"* NO").kind, Kind::No);
        assert_eq!(status(b"* bye [x").text, b"[x");
        assert_eq!(parse(b"+", Vec::new()), Some(Response::Continue));
    }

    #[test]
    fn brackets_in_keywords_and_names_are_characters() {
        let raw = r#"* FLAGS (\Seen a[b x]y [c] BODYx[)"#;
        assert_eq!(shown(raw, Vec::new()), r#"FLAGS (\Seen a[b x]y [c] BODYx[)"#);
        assert_eq!(shown("* 3 FETCH (FLAGS (a[b) UID 7)", Vec::new()), "3 FETCH (FLAGS (a[b) UID 7)");
        assert_eq!(shown(r#"* LIST () "/" a[b"#, Vec::new()), "LIST () `/` a[b");
        assert_eq!(shown(r#"* LIST () "/" "a{b}[\"c""#, Vec::new()), r#"LIST () `/` `a{b}[\"c`"#);
    }

    #[test]
    fn only_what_is_not_needed_is_passed_over() {
        for raw in ["* FLAGS (a", "* SEARCH )", "* 7 RECENT (", "* X-NEW {a"] {
            assert!(is_needless(raw.as_bytes()) && parse(raw.as_bytes(), Vec::new()).is_none(), "{raw}");
        }
        for raw in ["* 7 FETCH (", "* LIST () (", "* QUOTA (", "c1 FLAGS (", "*", "* (", "* \"x", "* 7"] {
            assert!(!is_needless(raw.as_bytes()), "{raw}");
        }
        assert!(is_status(b"* OK text {3}") && is_status(b"c1 NO {5}") && !is_status(b"* LIST () {3}"));
    }

    #[test]
    fn what_is_no_response_is_refused() {
        let nested = format!("* {}", "(".repeat(5000));
        for raw in ["", "*", "c1 FINE", "* (", "* )", "* (a", "* \"a", "* \"a\\", "* {5}", "* {x}", &nested] {
            assert_eq!(parse(raw.as_bytes(), Vec::new()), None, "{raw}");
        }
    }
}
