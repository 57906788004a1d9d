//! Reading and writing integers in byte slices, with errors that know where they stand.
//!
//! What must not come in: any format's own knowledge.

use crate::error::Damage;
use alloc::format;
use alloc::string::String;

/// The big-endian 32-bit integer at `at`. The caller has checked the length.
pub fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// The big-endian 64-bit integer at `at`. The caller has checked the length.
pub fn be64(b: &[u8], at: usize) -> u64 {
    (u64::from(be32(b, at)) << 32) | u64::from(be32(b, at + 4))
}

/// The little-endian 16-bit integer at `at`. The caller has checked the length.
pub fn le16(b: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([b[at], b[at + 1]])
}

/// The little-endian 32-bit integer at `at`. The caller has checked the length.
pub fn le32(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// The little-endian 64-bit integer at `at`. The caller has checked the length.
pub fn le64(b: &[u8], at: usize) -> u64 {
    u64::from(le32(b, at)) | (u64::from(le32(b, at + 4)) << 32)
}

/// Overwrites four bytes at `at` with `v`, big-endian. The caller has checked the length.
pub fn put_be32(b: &mut [u8], at: usize, v: u32) {
    b[at..at + 4].copy_from_slice(&v.to_be_bytes());
}

/// Overwrites eight bytes at `at` with `v`, big-endian. The caller has checked the length.
pub fn put_be64(b: &mut [u8], at: usize, v: u64) {
    b[at..at + 8].copy_from_slice(&v.to_be_bytes());
}

/// `Ok` if `b` holds at least `need` bytes; otherwise damage of `object` at its end.
pub fn check_len(object: &str, b: &[u8], need: usize) -> Result<(), Damage> {
    if b.len() < need {
        return Err(Damage::new(
            String::from(object),
            b.len() as u64,
            "end of file",
            format!("{} bytes", b.len()),
            format!("at least {need} bytes"),
        ));
    }
    Ok(())
}

/// Lower-case hexadecimal digits of `b`.
pub fn hex(b: &[u8]) -> String {
    let digit = |n: u8| char::from(b"0123456789abcdef"[usize::from(n & 15)]);
    b.iter().flat_map(|&x| [digit(x >> 4), digit(x)]).collect()
}
