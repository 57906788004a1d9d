//! One gzip member of an archive: a header with our extra field, the deflated content, CRC-32 and length (RFC 1952; FORMAT.md
//! section 3).
//!
//! The extra field gives a member's kind and its compressed length, so a reader hops over it, and a CRC of the compressed
//! bytes, so that it can be checked and copied without being inflated. What must not come in: what is inside (`entry`), and
//! files.

use crate::bytes::{le16, le32, le64};
use crate::codec::{Codec, inflate_beginning};
use crate::crc32::crc32;
use crate::error::{Damage, Fault};
use crate::guid::Guid;
use alloc::format;
use alloc::vec::Vec;

/// Bytes before the deflate stream of every member but a footer.
pub const HEADER_LEN: usize = 36;
/// Bytes of a footer, all in all.
pub const FOOTER_LEN: usize = 95;
/// Bytes after the deflate stream: CRC-32 and length of the content.
pub const TRAILER_LEN: usize = 8;
/// The most content that a member may have.
pub const RAW_MAX: usize = 1 << 20;
/// The most bytes that a member may have: deflate adds at most 5 bytes for each 16 KiB or so to what it cannot shrink.
pub const MEMBER_MAX: usize = RAW_MAX + (RAW_MAX >> 8) + 1024;

/// ID1, ID2, CM = deflate, FLG = FEXTRA, MTIME 0, XFL 0, OS = unknown.
const GZIP: [u8; 10] = [0x1F, 0x8B, 8, 4, 0, 0, 0, 0, 0, 255];
const SUBFIELD: [u8; 2] = *b"Cy";
const VERSION: u8 = 1;
/// Two empty tar blocks, deflated.
const END_OF_TAR: [u8; 11] = [0x63, 0x60, 0x18, 0x05, 0xA3, 0x60, 0x14, 0x8C, 0x54, 0x00, 0x00];
const END_OF_TAR_RAW: u32 = 1024;

/// Offsets in a member.
mod field {
    pub const XLEN: usize = 10;
    pub const SUBFIELD: usize = 12;
    pub const SUBFIELD_LEN: usize = 14;
    pub const VERSION: usize = 16;
    pub const KIND: usize = 17;
    pub const FLAGS: usize = 18;
    pub const ZERO: usize = 19;
    pub const LEN: usize = 20;
    pub const RAW_LEN: usize = 24;
    pub const DEFLATED_CRC: usize = 28;
    pub const HEADER_CRC: usize = 32;
    // In a footer.
    pub const OWN_OFFSET: usize = 32;
    pub const COMMIT_OFFSET: usize = 40;
    pub const COMMIT_LEN: usize = 48;
    pub const COMMIT_SHA1: usize = 52;
    pub const FOOTER_CRC: usize = 72;
    pub const FOOTER_BODY: usize = 76;
}

/// Flag: the member begins inside an entry.
pub const CONTINUES: u8 = 1;
/// Flag: the member ends inside an entry.
pub const TO_BE_CONTINUED: u8 = 2;

/// What a member holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// `meta/about`, the first member.
    Head,
    /// Messages.
    Data,
    /// Metadata, links, tombstones.
    Meta,
    /// The list of messages of a commit.
    List,
    /// The folder table of a commit.
    Table,
    /// The commit record.
    Commit,
    /// The end of the tar file, and where the last commit is.
    Footer,
}

impl Kind {
    const ALL: [Kind; 7] = [Kind::Head, Kind::Data, Kind::Meta, Kind::List, Kind::Table, Kind::Commit, Kind::Footer];

    /// The letter that stands in the file.
    pub fn letter(self) -> u8 {
        match self {
            Kind::Head => b'H',
            Kind::Data => b'D',
            Kind::Meta => b'M',
            Kind::List => b'L',
            Kind::Table => b'T',
            Kind::Commit => b'C',
            Kind::Footer => b'F',
        }
    }

    pub(crate) fn from_letter(letter: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.letter() == letter)
    }
}

/// What a member's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberInfo {
    /// What it holds.
    pub kind: Kind,
    /// [`CONTINUES`], [`TO_BE_CONTINUED`].
    pub flags: u8,
    /// Bytes of the whole member.
    pub len: u32,
    /// Bytes of its content.
    pub raw_len: u32,
    /// CRC-32 of the deflate stream.
    pub deflated_crc: u32,
}

impl MemberInfo {
    /// Where the deflate stream begins in the member.
    pub fn body_start(&self) -> usize {
        if self.kind == Kind::Footer { field::FOOTER_BODY } else { HEADER_LEN }
    }
}

fn damage(offset: usize, field: &'static str, found: impl core::fmt::Display, expected: impl core::fmt::Display) -> Damage {
    Damage::new("archive member", offset as u64, field, found, expected)
}

/// Reads the header at the start of `b`, which must hold at least [`HEADER_LEN`] bytes of it ([`FOOTER_LEN`] for a footer).
///
/// Whatever passes has a good header CRC. Damage otherwise; its offset counts from the start of the member.
pub fn parse_header(b: &[u8]) -> Result<MemberInfo, Damage> {
    if b.len() < HEADER_LEN {
        return Err(damage(b.len(), "end of file", format!("{} bytes", b.len()), format!("{HEADER_LEN} bytes of a header")));
    }
    if b[..10] != GZIP || b[field::SUBFIELD..field::SUBFIELD_LEN] != SUBFIELD {
        return Err(damage(0, "magic", crate::bytes::hex(&b[..16]), "a gzip member of cylinder"));
    }
    if b[field::VERSION] != VERSION {
        return Err(damage(field::VERSION, "format version", b[field::VERSION], VERSION));
    }
    let kind = Kind::from_letter(b[field::KIND])
        .ok_or_else(|| damage(field::KIND, "kind", format!("0x{:02x}", b[field::KIND]), "one of H D M L T C F"))?;
    let crc_at = if kind == Kind::Footer { field::FOOTER_CRC } else { field::HEADER_CRC };
    if b.len() < crc_at + 4 {
        return Err(damage(b.len(), "end of file", format!("{} bytes", b.len()), format!("{} bytes of a footer", crc_at + 4)));
    }
    let (found, expected) = (le32(b, crc_at), crc32(&b[..crc_at]));
    if found != expected {
        return Err(damage(crc_at, "header CRC", format!("{found:08x}"), format!("{expected:08x}")));
    }
    let info = MemberInfo {
        kind,
        flags: b[field::FLAGS],
        len: le32(b, field::LEN),
        raw_len: le32(b, field::RAW_LEN),
        deflated_crc: le32(b, field::DEFLATED_CRC),
    };
    check(b, &info, crc_at)?;
    Ok(info)
}

/// What a good CRC does not show: a header that nobody of ours wrote.
fn check(b: &[u8], info: &MemberInfo, crc_at: usize) -> Result<(), Damage> {
    let extra = crc_at + 4 - field::SUBFIELD;
    if usize::from(le16(b, field::XLEN)) != extra
        || usize::from(le16(b, field::SUBFIELD_LEN)) != extra - 4
        || b[field::ZERO] != 0
    {
        return Err(damage(field::XLEN, "extra field", le16(b, field::XLEN), extra));
    }
    let least = info.body_start() + TRAILER_LEN;
    if (info.len as usize) < least || info.len as usize > MEMBER_MAX {
        return Err(damage(field::LEN, "member length", info.len, format!("{least} to {MEMBER_MAX}")));
    }
    if info.raw_len as usize > RAW_MAX {
        return Err(damage(field::RAW_LEN, "content length", info.raw_len, format!("at most {RAW_MAX}")));
    }
    if info.kind == Kind::Footer && (info.len as usize != FOOTER_LEN || info.raw_len != END_OF_TAR_RAW) {
        return Err(damage(field::LEN, "footer length", info.len, FOOTER_LEN));
    }
    Ok(())
}

fn put_header(out: &mut Vec<u8>, info: &MemberInfo, subfield_len: u16) {
    out.extend_from_slice(&GZIP);
    out.extend_from_slice(&(subfield_len + 4).to_le_bytes());
    out.extend_from_slice(&SUBFIELD);
    out.extend_from_slice(&subfield_len.to_le_bytes());
    out.extend_from_slice(&[VERSION, info.kind.letter(), info.flags, 0]);
    out.extend_from_slice(&info.len.to_le_bytes());
    out.extend_from_slice(&info.raw_len.to_le_bytes());
    out.extend_from_slice(&info.deflated_crc.to_le_bytes());
}

/// Makes a member of `raw` in `out`, whose content is dropped. With `check` the member is inflated again, into that buffer, and
/// compared.
///
/// [`Fault::TooLarge`] for more than [`RAW_MAX`] bytes; [`Fault::Corrupt`] if what comes out of the member is not what went in.
pub fn seal(
    codec: &mut dyn Codec,
    kind: Kind,
    flags: u8,
    raw: &[u8],
    level: u8,
    check: Option<&mut Vec<u8>>,
    out: &mut Vec<u8>,
) -> Result<(), Fault> {
    if raw.len() > RAW_MAX {
        return Err(Fault::TooLarge);
    }
    out.clear();
    out.resize(HEADER_LEN, 0);
    codec.deflate(level, raw, out);
    let deflated_crc = codec.crc32(&out[HEADER_LEN..]);
    let len = out.len() + TRAILER_LEN;
    if len > MEMBER_MAX {
        return Err(Fault::TooLarge);
    }
    let raw_crc = codec.crc32(raw);
    let info = MemberInfo { kind, flags, len: len as u32, raw_len: raw.len() as u32, deflated_crc };
    let mut header = Vec::with_capacity(HEADER_LEN);
    put_header(&mut header, &info, 20);
    let header_crc = crc32(&header);
    header.extend_from_slice(&header_crc.to_le_bytes());
    out[..HEADER_LEN].copy_from_slice(&header);
    out.extend_from_slice(&raw_crc.to_le_bytes());
    out.extend_from_slice(&info.raw_len.to_le_bytes());
    if let Some(again) = check {
        unseal(codec, out, again)?;
        if again[..] != *raw {
            return Err(Fault::Corrupt);
        }
    }
    Ok(())
}

/// Checks a whole member and puts its content into `out`, whose content is dropped.
///
/// [`Fault::Corrupt`] if any of its CRCs or lengths is wrong, or a byte is left over.
pub fn unseal(codec: &mut dyn Codec, member: &[u8], out: &mut Vec<u8>) -> Result<MemberInfo, Fault> {
    let info = parse_header(member).map_err(|_| Fault::Corrupt)?;
    if member.len() != info.len as usize {
        return Err(Fault::Corrupt);
    }
    let (body, trailer) = member[info.body_start()..].split_at(member.len() - info.body_start() - TRAILER_LEN);
    if codec.crc32(body) != info.deflated_crc {
        return Err(Fault::Corrupt);
    }
    // Only what the buffer lacks is cleared, not what is overwritten anyway.
    out.resize(info.raw_len as usize, 0);
    let used = codec.inflate(body, out);
    let whole = used == Some(body.len()) && le32(trailer, 0) == codec.crc32(out) && le32(trailer, 4) == info.raw_len;
    if whole { Ok(info) } else { Err(Fault::Corrupt) }
}

/// True if the deflate stream of a whole member has the CRC that its header gives: as good as can be known without inflating.
pub fn is_whole(member: &[u8]) -> bool {
    parse_header(member).is_ok_and(|info| {
        member.len() == info.len as usize
            && crc32(&member[info.body_start()..member.len() - TRAILER_LEN]) == info.deflated_crc
            && le32(member, member.len() - 4) == info.raw_len
    })
}

/// The first `len` bytes of a whole member's content, fewer if it has no more. [`Fault::Corrupt`] if the member is damaged, as
/// far as [`is_whole`] and these bytes tell.
pub fn beginning(member: &[u8], len: usize) -> Result<Vec<u8>, Fault> {
    if !is_whole(member) {
        return Err(Fault::Corrupt);
    }
    let info = parse_header(member).map_err(|_| Fault::Corrupt)?;
    let mut out = alloc::vec![0; len.min(info.raw_len as usize)];
    let made = inflate_beginning(&member[info.body_start()..member.len() - TRAILER_LEN], &mut out);
    if made == Some(out.len()) { Ok(out) } else { Err(Fault::Corrupt) }
}

/// The end of an archive: where it is itself, and the commit that it closes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footer {
    /// Offset of the footer in the file.
    pub offset: u64,
    /// Offset of the commit's member.
    pub commit_offset: u64,
    /// Length of that member.
    pub commit_len: u32,
    /// SHA-1 of the commit's record.
    pub commit_sha1: Guid,
}

impl Footer {
    /// The bytes of the footer.
    pub fn emit(&self) -> Vec<u8> {
        let info = MemberInfo {
            kind: Kind::Footer,
            flags: 0,
            len: FOOTER_LEN as u32,
            raw_len: END_OF_TAR_RAW,
            deflated_crc: crc32(&END_OF_TAR),
        };
        let mut out = Vec::with_capacity(FOOTER_LEN);
        put_header(&mut out, &info, 60);
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.commit_offset.to_le_bytes());
        out.extend_from_slice(&self.commit_len.to_le_bytes());
        out.extend_from_slice(&self.commit_sha1.0);
        let crc = crc32(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&END_OF_TAR);
        out.extend_from_slice(&crc32(&[0; END_OF_TAR_RAW as usize]).to_le_bytes());
        out.extend_from_slice(&END_OF_TAR_RAW.to_le_bytes());
        out
    }

    /// Reads a footer; every byte of it must be as [`Footer::emit`] writes it.
    pub fn parse(b: &[u8]) -> Result<Footer, Damage> {
        let info = parse_header(b)?;
        if info.kind != Kind::Footer {
            return Err(damage(field::KIND, "kind", format!("`{}`", char::from(info.kind.letter())), "`F`"));
        }
        let mut sha1 = [0; 20];
        sha1.copy_from_slice(&b[field::COMMIT_SHA1..field::FOOTER_CRC]);
        let footer = Footer {
            offset: le64(b, field::OWN_OFFSET),
            commit_offset: le64(b, field::COMMIT_OFFSET),
            commit_len: le32(b, field::COMMIT_LEN),
            commit_sha1: Guid(sha1),
        };
        if footer.emit() != b {
            return Err(damage(field::FOOTER_BODY, "footer", format!("{} bytes", b.len()), "what its own header makes"));
        }
        Ok(footer)
    }
}

/// The first place in `b` from `from` on where a member's header with a good CRC begins.
pub fn find_header(b: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at + HEADER_LEN <= b.len() {
        let next = b[at..].iter().position(|&c| c == GZIP[0])?;
        at += next;
        if at + HEADER_LEN <= b.len() && b[at + 1] == GZIP[1] && parse_header(&b[at..]).is_ok() {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Portable;

    fn sealed(raw: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seal(&mut Portable, Kind::Data, CONTINUES, raw, 6, Some(&mut Vec::new()), &mut out).unwrap();
        out
    }

    #[test]
    fn members_round_trip() {
        for raw in [&b""[..], b"a", &[7; 100_000]] {
            let member = sealed(raw);
            let mut back = b"old".to_vec();
            let info = unseal(&mut Portable, &member, &mut back).unwrap();
            assert_eq!((info.kind, info.flags, info.raw_len as usize), (Kind::Data, CONTINUES, raw.len()));
            assert_eq!(back, raw);
            assert!(is_whole(&member));
        }
        assert_eq!(seal(&mut Portable, Kind::Data, 0, &[0; RAW_MAX + 1], 1, None, &mut Vec::new()), Err(Fault::TooLarge));
    }

    #[test]
    fn every_flipped_bit_of_a_member_is_noticed() {
        let member = sealed(b"From: anna@example.org\r\nSubject: hello\r\n\r\nhello hello hello\r\n");
        for at in 0..member.len() {
            for bit in 0..8 {
                let mut bad = member.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(unseal(&mut Portable, &bad, &mut Vec::new()), Err(Fault::Corrupt), "byte {at} bit {bit}");
                // The CRC of the content says nothing of the deflate stream.
                let is_crc = (member.len() - TRAILER_LEN..member.len() - 4).contains(&at);
                assert_eq!(is_whole(&bad), is_crc, "byte {at} bit {bit}");
                assert!(is_crc || beginning(&bad, 4).is_err(), "byte {at} bit {bit}");
            }
        }
        for len in 0..member.len() {
            assert!(unseal(&mut Portable, &member[..len], &mut Vec::new()).is_err() && !is_whole(&member[..len]));
        }
        assert_eq!(beginning(&member, 4), Ok(b"From".to_vec()));
        assert_eq!(beginning(&member, 1000).map(|content| content.len()), Ok(61));
    }

    /// Without lengths that are possible a reader would hop on the spot, or ask for any amount of memory.
    #[test]
    fn a_header_that_nobody_of_ours_wrote_is_refused_though_its_crc_is_good() {
        let footer = Footer { offset: 5000, commit_offset: 4000, commit_len: 1000, commit_sha1: Guid::of(b"x") }.emit();
        let member = sealed(b"one");
        let forged = |member: &[u8], crc_at: usize, at: usize, bytes: &[u8]| {
            let mut bad = member.to_vec();
            bad[at..at + bytes.len()].copy_from_slice(bytes);
            let crc = crc32(&bad[..crc_at]);
            bad[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
            parse_header(&bad).is_ok()
        };
        let number = |at: usize, value: usize| forged(&member, field::HEADER_CRC, at, &(value as u32).to_le_bytes());
        let least = HEADER_LEN + TRAILER_LEN;
        let lens = [0, 1, least - 1, least, MEMBER_MAX, MEMBER_MAX + 1, u32::MAX as usize];
        assert_eq!(lens.map(|len| number(field::LEN, len)), [false, false, false, true, true, false, false]);
        let lens = [0, RAW_MAX, RAW_MAX + 1, u32::MAX as usize];
        assert_eq!(lens.map(|len| number(field::RAW_LEN, len)), [true, true, false, false]);
        for at in [field::XLEN, field::SUBFIELD_LEN, field::ZERO] {
            assert!(forged(&member, field::HEADER_CRC, at, &member[at..=at]));
            assert!(!forged(&member, field::HEADER_CRC, at, &[member[at] ^ 1]), "byte {at}");
        }
        for (at, right) in [(field::LEN, FOOTER_LEN as u32), (field::RAW_LEN, END_OF_TAR_RAW)] {
            assert!(forged(&footer, field::FOOTER_CRC, at, &right.to_le_bytes()));
            assert!(!forged(&footer, field::FOOTER_CRC, at, &(right + 1).to_le_bytes()));
        }
    }

    #[test]
    fn a_footer_is_the_end_of_a_tar_file() {
        let footer = Footer { offset: 5000, commit_offset: 4000, commit_len: 1000, commit_sha1: Guid::of(b"x") };
        let bytes = footer.emit();
        assert_eq!(bytes.len(), FOOTER_LEN);
        assert_eq!(Footer::parse(&bytes), Ok(footer));
        let mut raw = Vec::new();
        unseal(&mut Portable, &bytes, &mut raw).unwrap();
        assert_eq!(raw, [0; 1024]);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(Footer::parse(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn headers_are_found_behind_damage() {
        let member = sealed(b"one");
        let mut file = [0x1F, 0x8B, 8, 4].repeat(20);
        let junk = file.len();
        file.extend_from_slice(&member);
        assert_eq!(find_header(&file, 0), Some(junk));
        assert_eq!(find_header(&file, junk + 1), None);
    }
}
