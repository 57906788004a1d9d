//! dlist: the text form in which Cyrus 2.5 and later write structured values (`imap/dlist.c`), in mailboxes.db, cyrus.header,
//! quota files and the replication protocol.
//!
//! A value is an atom, a quoted string, a literal (`{5}` or `{5+}`, line end, bytes), `NIL`, a list `(v v)` or a list of key
//! and value pairs `%(K v K v)`. File literals `%{partition guid size}` belong to the replication protocol and are refused
//! here.

use crate::error::Damage;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

/// How deep lists may nest. Cyrus itself never goes beyond 4.
const DEPTH_MAX: u32 = 32;

/// A parsed value. Strings are bytes: Cyrus does not say in which charset.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// `NIL`.
    Nil,
    /// An atom, a quoted string or a literal: the three are one thing to Cyrus.
    Text(Vec<u8>),
    /// `(v v ...)`.
    List(Vec<Value>),
    /// `%(K v K v ...)`, in the order in which it stands.
    Pairs(Vec<(Vec<u8>, Value)>),
}

impl Value {
    /// The text; `None` for lists and `NIL`.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Value::Text(t) => Some(t),
            _ => None,
        }
    }

    /// The text as a decimal number.
    pub fn number(&self) -> Option<u64> {
        core::str::from_utf8(self.text()?).ok()?.parse().ok()
    }

    /// The pairs; `None` for anything else.
    pub fn pairs(&self) -> Option<&[(Vec<u8>, Value)]> {
        match self {
            Value::Pairs(p) => Some(p),
            _ => None,
        }
    }

    /// The values of a list; `None` for anything else.
    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Value::List(l) => Some(l),
            _ => None,
        }
    }

    /// The value of the first pair with this key, in any case of letters, as Cyrus looks keys up.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.pairs()?.iter().find(|(k, _)| k.eq_ignore_ascii_case(key.as_bytes())).map(|(_, v)| v)
    }
}

/// Reads one value from the start of `b` and returns it with the number of bytes that it took.
///
/// `object` and `base` (offset of `b` in that object) name the place in errors.
pub fn parse(object: &str, base: u64, b: &[u8]) -> Result<(Value, usize), Damage> {
    let mut reader = Reader { object, base, b, at: 0 };
    let value = reader.value(0)?;
    Ok((value, reader.at))
}

struct Reader<'a> {
    object: &'a str,
    base: u64,
    b: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn damage(&self, found: impl core::fmt::Display, expected: &str) -> Damage {
        Damage::new(self.object, self.base + self.at as u64, "dlist", found, expected)
    }

    fn peek(&self) -> Option<u8> {
        self.b.get(self.at).copied()
    }

    fn seen(&self) -> String {
        match self.peek() {
            Some(c) => format!("byte 0x{c:02x}"),
            None => String::from("end of data"),
        }
    }

    fn spaces(&mut self) {
        while self.peek() == Some(b' ') {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: u32) -> Result<Value, Damage> {
        if depth > DEPTH_MAX {
            return Err(self.damage(format!("lists nested deeper than {DEPTH_MAX}"), "a flatter list"));
        }
        match self.peek() {
            Some(b'(') => {
                self.at += 1;
                let mut items = Vec::new();
                while !self.closed()? {
                    items.push(self.value(depth + 1)?);
                }
                Ok(Value::List(items))
            }
            Some(b'%') => {
                self.at += 1;
                if self.peek() != Some(b'(') {
                    return Err(self.damage(self.seen(), "`(` after `%`"));
                }
                self.at += 1;
                let mut pairs = Vec::new();
                while !self.closed()? {
                    let key = self.text()?;
                    self.spaces();
                    pairs.push((key, self.value(depth + 1)?));
                }
                Ok(Value::Pairs(pairs))
            }
            Some(b'"' | b'{') => Ok(Value::Text(self.text()?)),
            _ => {
                let atom = self.text()?;
                Ok(if atom == b"NIL" { Value::Nil } else { Value::Text(atom) })
            }
        }
    }

    /// Skips spaces; true (and past it) at a closing parenthesis.
    fn closed(&mut self) -> Result<bool, Damage> {
        self.spaces();
        match self.peek() {
            Some(b')') => {
                self.at += 1;
                Ok(true)
            }
            Some(_) => Ok(false),
            None => Err(self.damage("end of data", "`)`")),
        }
    }

    fn text(&mut self) -> Result<Vec<u8>, Damage> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal(),
            _ => self.atom(),
        }
    }

    fn atom(&mut self) -> Result<Vec<u8>, Damage> {
        let rest = &self.b[self.at..];
        let len = rest.iter().position(|c| matches!(c, b' ' | b'(' | b')' | b'\r' | b'\n' | b'"' | 0)).unwrap_or(rest.len());
        if len == 0 {
            return Err(self.damage(self.seen(), "a value"));
        }
        self.at += len;
        Ok(rest[..len].to_vec())
    }

    fn quoted(&mut self) -> Result<Vec<u8>, Damage> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            match self.peek() {
                None | Some(b'\r' | b'\n') => return Err(self.damage(self.seen(), "`\"` at the end of a string")),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let Some(c) = self.peek() else { return Err(self.damage("end of data", "a character after `\\`")) };
                    out.push(c);
                }
                Some(c) => out.push(c),
            }
            self.at += 1;
        }
    }

    fn literal(&mut self) -> Result<Vec<u8>, Damage> {
        let rest = &self.b[self.at + 1..];
        let close =
            rest.iter().take(24).position(|&c| c == b'}').ok_or_else(|| self.damage(self.seen(), "a literal's size"))?;
        let digits = rest[..close].strip_suffix(b"+").unwrap_or(&rest[..close]);
        let size: usize = core::str::from_utf8(digits)
            .ok()
            .and_then(|d| d.parse().ok())
            .ok_or_else(|| self.damage("no number", "a literal's size"))?;
        let body = &rest[close + 1..];
        let body = body.strip_prefix(b"\r").unwrap_or(body);
        let body = body.strip_prefix(b"\n").ok_or_else(|| self.damage("no line end", "a line end after a literal's size"))?;
        if body.len() < size {
            return Err(self.damage(format!("{} bytes", body.len()), "as many bytes as the literal's size says"));
        }
        self.at = self.b.len() - body.len() + size;
        Ok(body[..size].to_vec())
    }
}

/// Appends `value` in the form that Cyrus writes: atoms where they are possible, else quoted strings, else literals.
pub fn emit(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Nil => out.extend_from_slice(b"NIL"),
        Value::Text(t) => emit_text(t, out),
        Value::List(items) => {
            out.push(b'(');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                emit(item, out);
            }
            out.push(b')');
        }
        Value::Pairs(pairs) => {
            out.extend_from_slice(b"%(");
            for (i, (key, item)) in pairs.iter().enumerate() {
                if i > 0 {
                    out.push(b' ');
                }
                emit_text(key, out);
                out.push(b' ');
                emit(item, out);
            }
            out.push(b')');
        }
    }
}

/// The longest string that Cyrus writes in quotes (`imap/prot`-level limit of `prot_printastring`).
const QUOTED_MAX: usize = 1024;

fn emit_text(t: &[u8], out: &mut Vec<u8>) {
    let plain = |c: &u8| matches!(c, 0x21..=0x7E) && !b"(){}%*\"\\".contains(c);
    if !t.is_empty() && t.iter().all(plain) && !t.eq_ignore_ascii_case(b"NIL") {
        out.extend_from_slice(t);
    } else if t.len() < QUOTED_MAX && t.iter().all(|c| matches!(c, 0x20..=0x7E) && !b"\"\\".contains(c)) {
        out.push(b'"');
        out.extend_from_slice(t);
        out.push(b'"');
    } else {
        let mut head = String::new();
        // Writing to a String cannot fail.
        let _ = write!(head, "{{{}+}}\r\n", t.len());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(t);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_of_3_6() {
        let line = b"%(T e N user.anna.FixMail I it52xp8vfay76mvqoftrvrxr Q user.anna A %(anna lrswipkxtecdan bob.smith lrs) U ($Label1 NIL Custom-Flag))\n";
        let (v, used) = parse("cyrus.header", 115, line).unwrap();
        assert_eq!(used, line.len() - 1);
        assert_eq!(v.get("q").and_then(Value::text), Some(&b"user.anna"[..]));
        assert_eq!(v.get("U").and_then(Value::list).map(<[Value]>::len), Some(3));
        let mut out = Vec::new();
        emit(&v, &mut out);
        assert_eq!(out, &line[..used]);
    }

    #[test]
    fn strings_round_trip() {
        let long = [b'x'; 2000];
        for s in [&b""[..], b"NIL", b"a b", b"a\"b", b"\\", b"\r\n\0", b"caf\xc3\xa9", b"user.anna", &long] {
            let v = Value::List(alloc::vec![Value::Text(s.to_vec()), Value::Nil]);
            let mut out = Vec::new();
            emit(&v, &mut out);
            assert_eq!(parse("t", 0, &out).unwrap(), (v, out.len()));
        }
    }

    #[test]
    fn bad_input_is_an_error() {
        for s in [
            &b""[..],
            b"(",
            b"%",
            b"%(a",
            b"\"a",
            b"{5}\r\nab",
            b"{99999999999999999999999}",
            b"{-1}\n",
            b")",
            b"%{d g 5}\r\nabcde",
        ] {
            assert!(parse("t", 0, s).is_err(), "{s:?}");
        }
        assert!(parse("t", 0, &[b'('; 5000]).is_err());
    }
}
