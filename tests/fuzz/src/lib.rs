//! What the fuzz targets share. Each target is a file in `targets/`: it hands bytes to one parser, and states what must hold of
//! whatever that accepts. A panic, a run of more than five seconds or too much memory is a finding.
//!
//! What must not come in: a claim that is not true of every input.

use cylinder_core::bytes::{be32, le32, put_be32};
use cylinder_core::crc32::crc32;

/// Numbers and pieces taken from the front of a fuzzer's bytes; zeros and nothing when these are used up.
pub struct Source<'a>(pub &'a [u8]);

impl<'a> Source<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// The next three bytes as a number.
    pub fn n24(&mut self) -> usize {
        self.take(3).iter().fold(0, |n, &b| n << 8 | usize::from(b))
    }

    /// The next `len` bytes, or what is left.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(len.min(self.0.len()));
        self.0 = tail;
        head
    }

    /// Bytes as many as the next byte says.
    pub fn piece(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte());
        self.take(len)
    }

    /// True when nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Text for people may have no controls but line ends and tabs: a terminal would obey them.
#[track_caller]
pub fn assert_printable(text: &str) {
    let control = text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t'));
    assert_eq!(control, None, "in {text:?}");
}

/// Makes the CRCs of a cyrus.index right, of its header and of every record, so that what lies behind them is read too.
pub fn seal_index(bytes: &mut [u8]) {
    const MINOR_VERSION: usize = 8;
    const START_OFFSET: usize = 12;
    const RECORD_SIZE: usize = 16;
    if bytes.len() < 24 || be32(bytes, MINOR_VERSION) < 12 {
        return;
    }
    let (start, size) = (be32(bytes, START_OFFSET) as usize, be32(bytes, RECORD_SIZE) as usize);
    let (Some(header), true) = (bytes.get_mut(..start), size >= 4) else { return };
    seal(header);
    bytes[start..].chunks_exact_mut(size).for_each(seal);
}

/// Puts the CRC-32 of all but the last four bytes there, big-endian.
fn seal(b: &mut [u8]) {
    if let Some(at) = b.len().checked_sub(4) {
        let crc = crc32(&b[..at]);
        put_be32(b, at, crc);
    }
}

/// Makes the CRCs in the header of the archive member at the start of `bytes` right; a length that says more than there is
/// becomes what there is.
pub fn seal_member(bytes: &mut [u8]) {
    use cylinder_core::archive::member::{FOOTER_LEN, HEADER_LEN};
    const KIND: usize = 17;
    const LEN: usize = 20;
    const DEFLATED_CRC: usize = 28;
    const HEADER_CRC: usize = 32;
    const FOOTER_CRC: usize = 72;
    if bytes.len() < FOOTER_LEN {
        return;
    }
    let crc_at = if bytes[KIND] == b'F' { FOOTER_CRC } else { HEADER_CRC };
    if le32(bytes, LEN) as usize > bytes.len() {
        let len = bytes.len() as u32;
        bytes[LEN..LEN + 4].copy_from_slice(&len.to_le_bytes());
    }
    let end = (le32(bytes, LEN) as usize).max(HEADER_LEN + 8) - 8;
    if let Some(body) = bytes.get(crc_at + 4..end) {
        let crc = crc32(body).to_le_bytes();
        bytes[DEFLATED_CRC..DEFLATED_CRC + 4].copy_from_slice(&crc);
    }
    let crc = crc32(&bytes[..crc_at]).to_le_bytes();
    bytes[crc_at..crc_at + 4].copy_from_slice(&crc);
}

/// Makes the CRC of the header of a twoskip file right.
pub fn seal_twoskip(bytes: &mut [u8]) {
    const HEADER_LEN: usize = 64;
    if bytes.starts_with(cylinder_core::cyrus::db::twoskip::MAGIC)
        && let Some(header) = bytes.get_mut(..HEADER_LEN)
    {
        seal(header);
    }
}
