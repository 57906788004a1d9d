//! The few header fields of a message that restoring looks at (RFC 5322). Any bytes are taken, and nothing is ever an error.
//!
//! What must not come in: anything that would need to understand a body.

use alloc::vec::Vec;

/// Where the header ends: behind the empty line, or the length of `message` if there is none.
pub fn header_len(message: &[u8]) -> usize {
    let mut at = 0;
    for line in message.split_inclusive(|&b| b == b'\n') {
        at += line.len();
        if line == b"\n" || line == b"\r\n" {
            break;
        }
    }
    at
}

/// True if `top`, the beginning of a message, holds all of its header.
pub fn has_whole_header(top: &[u8]) -> bool {
    let header = &top[..header_len(top)];
    header == b"\r\n" || header == b"\n" || header.ends_with(b"\n\r\n") || header.ends_with(b"\n\n")
}

/// The content of the first field `name`, unfolded and without blanks around it; `None` if there is none.
pub fn field(message: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut found: Option<Vec<u8>> = None;
    for line in message[..header_len(message)].split_inclusive(|&b| b == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (&mut found, line.first()) {
            (Some(value), Some(b' ' | b'\t')) => value.extend_from_slice(line),
            (Some(_), _) => break,
            (None, _) => found = content(line, name).map(<[u8]>::to_vec),
        }
    }
    found.map(|value| value.trim_ascii().to_vec())
}

/// What stands behind `name:` in a line, in any case of letters.
fn content<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let colon = line.iter().position(|&b| b == b':')?;
    let (found, rest) = line.split_at(colon);
    found.trim_ascii_end().eq_ignore_ascii_case(name.as_bytes()).then_some(&rest[1..])
}

/// A Message-ID as it is compared: without angle brackets and blanks.
pub fn bare_id(id: &[u8]) -> &[u8] {
    let id = id.trim_ascii();
    id.strip_prefix(b"<").and_then(|id| id.strip_suffix(b">")).unwrap_or(id).trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_unfolded_and_end_with_the_header() {
        let message = b"From: a\r\nmessage-id :\r\n <x@y>\r\nSubject: one\r\n\ttwo \r\n\r\nTo: body\r\n";
        assert_eq!(field(message, "Message-ID").as_deref(), Some(&b"<x@y>"[..]));
        assert_eq!(field(message, "subject").as_deref(), Some(&b"one\ttwo"[..]));
        assert_eq!(field(message, "To"), None);
        assert_eq!(field(b"From a@b\nTo:x", "to").as_deref(), Some(&b"x"[..]));
        assert_eq!(field(b"", "To"), None);
    }

    #[test]
    fn the_end_of_a_header_is_known_if_it_is_there() {
        for whole in [&b"A: b\r\n\r\n"[..], b"A: b\n\nbody", b"\r\nbody", b"\n"] {
            assert!(has_whole_header(whole), "{whole:?}");
        }
        for part in [&b""[..], b"A: b", b"A: b\r\n", b"A: b\r\n\r"] {
            assert!(!has_whole_header(part), "{part:?}");
        }
        assert_eq!(header_len(b"A: b\r\n\r\nbody"), 8);
        assert_eq!(header_len(b"A: b"), 4);
    }

    #[test]
    fn ids_are_compared_without_brackets() {
        for id in ["<x@y>", " <x@y> ", "x@y", "< x@y >"] {
            assert_eq!(bare_id(id.as_bytes()), b"x@y");
        }
        assert_eq!(bare_id(b"<x"), b"<x");
    }
}
