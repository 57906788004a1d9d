//! Modified UTF-7 (RFC 3501, section 5.1.3), in which Cyrus keeps mailbox names on disk.
//!
//! For display and for what people type only: names stay in their own bytes everywhere else.

use alloc::string::String;
use alloc::vec::Vec;

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";

/// The name in UTF-8. What is not modified UTF-7 comes back as it is, with bytes that are not UTF-8 replaced.
pub fn decode(name: &[u8]) -> String {
    strict(name).unwrap_or_else(|| String::from_utf8_lossy(name).into_owned())
}

fn strict(name: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((&c, tail)) = rest.split_first() {
        rest = tail;
        match c {
            b'&' => {
                let end = tail.iter().position(|&c| c == b'-')?;
                if end == 0 {
                    out.push('&')
                } else {
                    shifted(&tail[..end], &mut out)?
                }
                rest = &tail[end + 1..];
            }
            0x20..=0x7E => out.push(char::from(c)),
            _ => return None,
        }
    }
    Some(out)
}

/// Appends what one run of base64 stands for: UTF-16, big-endian, less than six bits of padding, all zero.
fn shifted(run: &[u8], out: &mut String) -> Option<()> {
    let (mut bits, mut held) = (0u32, 0u32);
    let mut units = Vec::new();
    for c in run {
        let digit = DIGITS.iter().position(|d| d == c)? as u32;
        bits = (bits << 6 | digit) & 0x3F_FFFF;
        held += 6;
        if held >= 16 {
            held -= 16;
            units.push((bits >> held) as u16);
        }
    }
    if held >= 6 || bits & ((1 << held) - 1) != 0 {
        return None;
    }
    for c in char::decode_utf16(units) {
        out.push(c.ok()?);
    }
    Some(())
}

/// The name in modified UTF-7. Control characters are encoded too.
pub fn encode(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut pending: Vec<u16> = Vec::new();
    for c in name.chars() {
        if !(' '..='~').contains(&c) {
            pending.extend_from_slice(c.encode_utf16(&mut [0; 2]));
            continue;
        }
        flush(&mut pending, &mut out);
        out.push(c as u8);
        if c == '&' {
            out.push(b'-');
        }
    }
    flush(&mut pending, &mut out);
    out
}

fn flush(units: &mut Vec<u16>, out: &mut Vec<u8>) {
    if units.is_empty() {
        return;
    }
    out.push(b'&');
    let (mut bits, mut held) = (0u32, 0u32);
    for unit in units.drain(..) {
        bits = bits << 16 | u32::from(unit);
        held += 16;
        while held >= 6 {
            held -= 6;
            out.push(DIGITS[(bits >> held & 63) as usize]);
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(DIGITS[(bits << (6 - held) & 63) as usize]);
    }
    out.push(b'-');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_rfc_and_of_a_real_server() {
        for (raw, text) in [
            (&b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"[..], "~peter/mail/\u{53f0}\u{5317}/\u{65e5}\u{672c}\u{8a9e}"),
            (b"Fix.ture&AOk-", "Fix.ture\u{e9}"),
            (b"&AOQ-", "\u{e4}"),
            (b"a&-b", "a&b"),
            (b"&2D3eAA-", "\u{1f600}"),
        ] {
            assert_eq!(decode(raw), text);
            assert_eq!(encode(text), raw);
        }
    }

    #[test]
    fn bad_input_is_shown_as_it_is() {
        for raw in ["&", "a&b", "&AO-", "&2D0-", "&AOl-", "&A!k-", "&AOkA-", "caf\u{e9}"] {
            assert_eq!(decode(raw.as_bytes()), raw);
        }
        assert_eq!(decode(b"\xff"), "\u{fffd}");
    }

    #[test]
    fn every_character_round_trips() {
        for c in (0..0x11_0000u32).step_by(7).filter_map(char::from_u32) {
            let text: String = ['x', c, '\u{e9}', c].iter().collect();
            assert_eq!(decode(&encode(&text)), text);
        }
    }
}
