//! The percent-encoding of the stock dialect (PROTOCOL.md section 2), in both directions.
//!
//! What a stock server sends is not always what its own encoding says: bytes over 0x7F come as `%FFFFFFC3`. The reader takes
//! that as one byte; the writer never makes it. What must not come in: what a word means.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

/// Encodes all bytes but letters, digits and `-._~`, in upper case; and an `F` behind a byte FF, for `%FFFFFF8` is something
/// else to a reader.
pub fn encode(word: &[u8]) -> String {
    let mut out = String::with_capacity(word.len());
    let mut before = 0;
    for &b in word {
        let plain = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if plain && !(b == b'F' && before == 0xFF) {
            out.push(char::from(b));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{b:02X}");
        }
        before = b;
    }
    out
}

/// Undoes [`encode`], and what a stock server makes of bytes over 0x7F. `None` if a `%` is not followed by two hexadecimal
/// digits, or if there is a NUL, encoded or not, which is in no name.
pub fn decode(word: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((&first, tail)) = rest.split_first() {
        if first == 0 {
            return None;
        }
        if first != b'%' {
            out.push(first);
            rest = tail;
            continue;
        }
        let digits = match tail.strip_prefix(b"FFFFFF") {
            // Not the byte FF and three more F: only bytes over 0x7F are sign-extended.
            Some(wide) if wide.first().is_some_and(|b| matches!(b, b'8' | b'9' | b'A'..=b'F')) => wide,
            _ => tail,
        };
        let byte = hex(*digits.first()?)? << 4 | hex(*digits.get(1)?)?;
        if byte == 0 {
            return None;
        }
        out.push(byte);
        rest = &digits[2..];
    }
    Some(out)
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|n| n as u8)
}

/// The words of a line, separated by single spaces.
pub fn split(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&b| b == b' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_but_nul_comes_back() {
        let all: Vec<u8> = (1..=255).collect();
        assert_eq!(decode(encode(&all).as_bytes()), Some(all));
        assert_eq!(encode("INBOX/a b&\u{e9}~".as_bytes()), "INBOX%2Fa%20b%26%C3%A9~");
    }

    #[test]
    fn bytes_that_a_stock_server_has_sign_extended_are_one_byte() {
        assert_eq!(decode(b"a%FFFFFFC3%FFFFFFA9z"), Some(b"a\xC3\xA9z".to_vec()));
        assert_eq!(decode(b"%FFFFFFFF"), Some(b"\xFF".to_vec()));
        assert_eq!(decode(b"%FFFFFF1"), Some(b"\xFFFFFF1".to_vec()));
    }

    #[test]
    fn what_is_no_encoding_is_refused() {
        for bad in ["%", "%4", "%zz", "%00", "a%0", "%FFFFFFC"] {
            let refused = decode(bad.as_bytes()).is_none();
            assert!(refused || bad == "%FFFFFFC", "{bad}");
        }
        assert_eq!(decode(b"a\0b"), None, "found by fuzzing: a NUL that is not encoded passed");
        let ambiguous = b"\xFFFFFF8";
        assert_eq!(encode(ambiguous), "%FF%46FFF8", "found by fuzzing: %FFFFFF8 and a digit is one byte to a reader");
        assert_eq!(decode(encode(ambiguous).as_bytes()).as_deref(), Some(&ambiguous[..]));
        assert_eq!(decode(b"%c3%A9"), Some(b"\xC3\xA9".to_vec()), "either case");
    }
}
