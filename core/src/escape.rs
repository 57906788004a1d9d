//! Names from elsewhere, made safe: for a terminal, and for a line of one of our own tables.
//!
//! Every name in a mailbox is hostile. Nothing prints one, writes one into a table or uses one in a path but through here.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write as _};

/// Shows bytes of unknown origin on a terminal or in a message: printable ASCII and printable UTF-8 as they are, everything
/// else (controls, bidirectional overrides, broken UTF-8, the backslash itself) as `\xNN` or `\u{N}`.
pub struct Shown<'a>(pub &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for c in chunk.valid().chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    ' '..='~' => f.write_char(c)?,
                    c if (c as u32) < 0x100 && (c.is_control()) => write!(f, "\\x{:02x}", c as u32)?,
                    c if is_deceptive(c) => write!(f, "\\u{{{:x}}}", c as u32)?,
                    c => f.write_char(c)?,
                }
            }
            for b in chunk.invalid() {
                write!(f, "\\x{b:02x}")?;
            }
        }
        Ok(())
    }
}

/// Characters that change how the text around them looks: format controls, separators, private use, noncharacters.
pub(crate) fn is_deceptive(c: char) -> bool {
    matches!(c as u32,
        0xAD | 0x61C | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E | 0x2060..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB
        | 0xE000..=0xF8FF | 0xE0000..=0xE0FFF | 0xF0000..=0x10FFFF)
        || c as u32 & 0xFFFE == 0xFFFE
}

/// The text that [`Shown`] prints.
pub fn shown(b: &[u8]) -> String {
    let mut s = String::new();
    // Writing to a String cannot fail.
    let _ = write!(s, "{}", Shown(b));
    s
}

/// Percent-encodes every byte that is not printable ASCII, and those in `also` and `%` itself, as `%XX` (upper case).
pub fn percent(b: &[u8], also: &[u8]) -> String {
    let mut s = String::with_capacity(b.len());
    for &x in b {
        if (0x21..=0x7E).contains(&x) && x != b'%' && !also.contains(&x) {
            s.push(char::from(x));
        } else {
            let _ = write!(s, "%{x:02X}");
        }
    }
    s
}

/// Undoes [`percent`]; `None` if a `%` is not followed by two hexadecimal digits.
pub fn unpercent(s: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(s.len());
    let mut rest = s;
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            out.push(first);
            rest = tail;
            continue;
        }
        let (hi, lo) = (char::from(*tail.first()?).to_digit(16)?, char::from(*tail.get(1)?).to_digit(16)?);
        out.push((hi * 16 + lo) as u8);
        rest = &tail[2..];
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_controls_never_pass() {
        assert_eq!(shown(b"a\x1b[31m\r\n\x7f"), "a\\x1b[31m\\x0d\\x0a\\x7f");
        assert_eq!(shown("caf\u{e9} \u{202e}gpj.exe".as_bytes()), "caf\u{e9} \\u{202e}gpj.exe");
        assert_eq!(shown(b"\xff\\"), "\\xff\\\\");
        assert_eq!(shown("\u{9b}31m".as_bytes()), "\\x9b31m");
    }

    #[test]
    fn percent_round_trips_every_byte() {
        let all: Vec<u8> = (0..=255).collect();
        let s = percent(&all, b"/");
        assert!(s.bytes().all(|b| b.is_ascii_graphic() && b != b'/'));
        assert_eq!(unpercent(s.as_bytes()), Some(all));
        assert_eq!(unpercent(b"%zz"), None);
        assert_eq!(unpercent(b"%4"), None);
    }
}
