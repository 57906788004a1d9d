//! SHA-1 and the GUID, which is the SHA-1 of a message file (`imap/message_guid.c` of Cyrus 2.4 and later).
//!
//! With the feature `fast` the processor's own SHA instructions are used where it has them; without, `sha1_smol`.

use crate::bytes::{be32, be64, hex};
use alloc::string::String;
use core::cmp::Ordering;
use core::fmt;

/// The SHA-1 of some content; for a message in cyrus.index its GUID.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Guid(pub [u8; 20]);

impl Guid {
    /// All zero bytes: what an index says that knows no GUID.
    pub const NULL: Guid = Guid([0; 20]);

    /// The SHA-1 of `content`.
    pub fn of(content: &[u8]) -> Guid {
        let mut h = Sha1::new();
        h.update(content);
        h.finish()
    }

    /// True for the all-zero GUID.
    pub fn is_null(&self) -> bool {
        self.0 == [0; 20]
    }

    /// Forty lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        hex(&self.0)
    }

    /// Reads forty hexadecimal digits of either case; `None` for anything else.
    pub fn from_hex(s: &[u8]) -> Option<Guid> {
        if s.len() != 40 {
            return None;
        }
        let mut g = [0u8; 20];
        for (byte, pair) in g.iter_mut().zip(s.chunks_exact(2)) {
            let hi = char::from(pair[0]).to_digit(16)?;
            let lo = char::from(pair[1]).to_digit(16)?;
            *byte = (hi * 16 + lo) as u8;
        }
        Some(Guid(g))
    }
}

/// In the order of the bytes; by numbers, for lists of millions are sorted and searched.
impl Ord for Guid {
    fn cmp(&self, other: &Guid) -> Ordering {
        let numbers = |b: &[u8; 20]| (be64(b, 0), be64(b, 8), be32(b, 16));
        numbers(&self.0).cmp(&numbers(&other.0))
    }
}

impl PartialOrd for Guid {
    fn partial_cmp(&self, other: &Guid) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A SHA-1 over bytes that come in pieces.
#[derive(Clone, Default)]
pub struct Sha1(Engine);

#[cfg(feature = "fast")]
type Engine = sha1::Sha1;
#[cfg(not(feature = "fast"))]
type Engine = sha1_smol::Sha1;

impl Sha1 {
    /// The hash of nothing yet.
    pub fn new() -> Sha1 {
        Sha1::default()
    }

    /// Takes in the next piece.
    pub fn update(&mut self, b: &[u8]) {
        #[cfg(feature = "fast")]
        sha1::Digest::update(&mut self.0, b);
        #[cfg(not(feature = "fast"))]
        self.0.update(b);
    }

    /// The SHA-1 of all pieces.
    pub fn finish(self) -> Guid {
        #[cfg(feature = "fast")]
        return Guid(sha1::Digest::finalize(self.0).into());
        #[cfg(not(feature = "fast"))]
        return Guid(self.0.digest().bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn value_of_rfc_3174() {
        let g = Guid::of(b"abc");
        assert_eq!(g.to_hex(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(Guid::from_hex(g.to_hex().as_bytes()), Some(g));
        assert_eq!(Guid::from_hex(b"a9"), None);
    }
    #[test]
    fn the_order_is_that_of_the_bytes() {
        let mut guids: Vec<Guid> = (0..50u8).map(|n| Guid::of(&[n])).collect();
        // Pairs that differ in one byte, at each place.
        guids.extend((0..20).map(|at| {
            let mut bytes = [7; 20];
            bytes[at] = 200;
            Guid(bytes)
        }));
        for a in &guids {
            for b in &guids {
                assert_eq!(a.cmp(b), a.0.cmp(&b.0));
            }
        }
    }
}
