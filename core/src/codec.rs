//! The compressor behind gzip members, chosen by the driver.
//!
//! The core asks for members to be sealed and unsealed as operations ([`crate::io::Op`]); the driver runs the pure functions of
//! [`crate::archive::member`] with the fastest [`Codec`] that the build has, on any thread. [`Portable`] is the one that needs
//! no C.

use alloc::vec::Vec;

/// Raw deflate (RFC 1951) over whole buffers.
pub trait Codec {
    /// Appends the deflate stream of `raw` to `out`. `level` is 0 (stored) to 12; a codec clamps what it does not know.
    fn deflate(&mut self, level: u8, raw: &[u8], out: &mut Vec<u8>);

    /// Fills `out` with the inflated form of `deflated` and returns how many bytes of `deflated` the stream took.
    /// `None` if the stream is damaged or holds anything but exactly `out.len()` bytes; then what is in `out` means nothing.
    fn inflate(&mut self, deflated: &[u8], out: &mut [u8]) -> Option<usize>;

    /// The CRC-32 of `b`, by the fastest means at hand.
    fn crc32(&mut self, b: &[u8]) -> u32 {
        crate::crc32::crc32(b)
    }
}

/// The codec of the portable build: miniz_oxide.
#[derive(Clone, Copy, Debug, Default)]
pub struct Portable;

impl Codec for Portable {
    fn deflate(&mut self, level: u8, raw: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&miniz_oxide::deflate::compress_to_vec(raw, level.min(10)));
    }

    fn inflate(&mut self, deflated: &[u8], out: &mut [u8]) -> Option<usize> {
        use miniz_oxide::inflate::TINFLStatus;
        use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
        let mut state = DecompressorOxide::new();
        let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        let (status, used, made) = decompress(&mut state, deflated, out, 0, flags);
        (status == TINFLStatus::Done && made == out.len()).then_some(used)
    }
}

/// Fills `out` with the beginning of the inflated form of `deflated` and returns how much of it there is: less than fits only
/// if that is all. `None` if the stream is damaged in what it took. Of a long stream, this costs as much as it gives.
pub fn inflate_beginning(deflated: &[u8], out: &mut [u8]) -> Option<usize> {
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, made) = decompress(&mut DecompressorOxide::new(), deflated, out, 0, flags);
    matches!(status, TINFLStatus::Done | TINFLStatus::HasMoreOutput).then_some(made)
}

/// What could be inflated.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Salvaged {
    /// The content; behind the place that is damaged it may be anything.
    pub raw: Vec<u8>,
    /// How many bytes the stream took, if it came to its end.
    pub used: Option<usize>,
}

/// Inflates as much of a damaged stream as there is, at most `max` bytes.
pub fn salvage(deflated: &[u8], max: usize) -> Salvaged {
    use miniz_oxide::inflate::TINFLStatus;
    use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let mut raw = alloc::vec![0; max];
    let (status, used, made) = decompress(&mut DecompressorOxide::new(), deflated, &mut raw, 0, flags);
    raw.truncate(made);
    Salvaged { raw, used: (status == TINFLStatus::Done).then_some(used) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn a_beginning_is_as_long_as_asked_for_or_all_there_is() {
        let raw = b"to be or not to be, that is the question".repeat(50);
        let mut z = Vec::new();
        Portable.deflate(6, &raw, &mut z);
        for len in [0, 1, 100, raw.len() - 1, raw.len(), raw.len() + 1, 2 * raw.len()] {
            let mut out = vec![0; len];
            let made = inflate_beginning(&z, &mut out).expect("a good stream");
            assert_eq!((made, &out[..made]), (len.min(raw.len()), &raw[..len.min(raw.len())]));
        }
        assert_eq!(inflate_beginning(&z[..z.len() / 2], &mut vec![0; raw.len()]), None);
        assert_eq!(inflate_beginning(b"\xff\xff", &mut [0; 10]), None);
    }

    #[test]
    fn what_stands_before_damage_is_salvaged() {
        let raw: Vec<u8> = (0..50_000u32).flat_map(|n| (n * n).to_be_bytes()).collect();
        let mut z = Vec::new();
        Portable.deflate(6, &raw, &mut z);
        let whole = salvage(&[&z[..], b"tail"].concat(), 1 << 20);
        assert_eq!((whole.raw == raw, whole.used), (true, Some(z.len())));
        let half = salvage(&z[..z.len() / 2], 1 << 20);
        assert!(half.used.is_none() && half.raw.len() > raw.len() / 4 && raw.starts_with(&half.raw));
        assert_eq!(salvage(b"", 10), Salvaged::default());
    }

    #[test]
    fn inflate_wants_the_exact_length() {
        let raw = b"to be or not to be, that is the question".repeat(50);
        let mut z = Vec::new();
        Portable.deflate(6, &raw, &mut z);
        let full = z.len();
        z.extend_from_slice(b"tail");
        let mut out = vec![0; raw.len()];
        assert_eq!(Portable.inflate(&z, &mut out), Some(full));
        assert_eq!(out, raw);
        assert_eq!(Portable.inflate(&z, &mut out[1..]), None);
        assert_eq!(Portable.inflate(&z, &mut vec![0; raw.len() + 1]), None);
        assert_eq!(Portable.inflate(&z[..full / 2], &mut out), None);
    }
}
