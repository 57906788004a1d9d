//! The content of a file that may be damaged or written by others, piece by piece: our members, any gzip, plain tar.
//!
//! Damage is one of the things that come out, with whatever can be inflated in spite of it. Reading a file twice gives the same
//! pieces. Memory: one piece and one member. What must not come in: entries.

use super::entry::{self, BLOCK, Parsed};
use super::member::{self, FOOTER_LEN, HEADER_LEN, Kind, MEMBER_MAX, MemberInfo, RAW_MAX, TRAILER_LEN};
use super::read::next_header;
use crate::bytes::le32;
use crate::codec::{Salvaged, salvage};
use crate::crc32::Crc32;
use crate::error::{Error, Fault};
use crate::io::{FileId, Io};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

/// Bytes that are read, or inflated, at once from a file that has no members: a multiple of the block.
const PIECE: usize = 1 << 20;
/// The longest header of a gzip member of another make that is understood.
const GZIP_HEADER_MAX: usize = 128 << 10;

/// How a file is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// As FORMAT.md section 3 has it.
    Members,
    /// Gzip members of any make.
    Gzip,
    /// A tar file.
    Plain,
}

/// A piece of content.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Block {
    /// Bytes of the file that it comes from, from and up to.
    pub bytes: (u64, u64),
    /// What the header of its member says, if that can be read.
    pub info: Option<MemberInfo>,
    /// The content, or as much of it as there is.
    pub raw: Vec<u8>,
    /// What is wrong with it.
    pub problem: Option<&'static str>,
    /// It is a member, or what is left of one; otherwise it goes on where the last one ended.
    pub is_framed: bool,
    /// The bytes of a footer.
    pub footer: Option<[u8; FOOTER_LEN]>,
}

/// Reads the pieces.
pub struct Blocks<'a> {
    io: &'a Io,
    file: FileId,
    object: String,
    form: Form,
    len: u64,
    at: u64,
    /// Where the gap ends in which `at` is.
    gap: u64,
    gzip: Option<Gzip>,
}

/// A gzip member under way.
struct Gzip {
    state: Box<InflateState>,
    crc: Crc32,
    input: Vec<u8>,
    used: usize,
}

impl<'a> Blocks<'a> {
    /// The content of the open file of this name, whose form is told from its bytes.
    pub async fn open(io: &'a Io, file: FileId, object: String) -> Result<Blocks<'a>, Error> {
        let len = io.fstat(file).await.map_err(|fault| Error::world("stat", &object[..], fault))?.size;
        let mut blocks = Blocks { io, file, object, form: Form::Plain, len, at: 0, gap: 0, gzip: None };
        let begin = blocks.read(0, BLOCK).await?;
        blocks.form = if matches!(entry::parse(&begin), Ok(Parsed::Entry(..))) {
            Form::Plain
        } else if blocks.next_member(0).await? < len {
            Form::Members
        } else if begin.starts_with(&[0x1F, 0x8B]) {
            Form::Gzip
        } else {
            Form::Plain
        };
        Ok(blocks)
    }

    /// The content from this offset on, which is that of members.
    pub(crate) async fn members(io: &'a Io, file: FileId, object: String, from: u64) -> Result<Blocks<'a>, Error> {
        let len = io.fstat(file).await.map_err(|fault| Error::world("stat", &object[..], fault))?.size;
        Ok(Blocks { io, file, object, form: Form::Members, len, at: from, gap: 0, gzip: None })
    }

    /// How the file is laid out.
    pub fn form(&self) -> Form {
        self.form
    }

    /// Its length in bytes.
    pub fn file_len(&self) -> u64 {
        self.len
    }

    /// Begins anew.
    pub fn rewind(&mut self) {
        (self.at, self.gap, self.gzip) = (0, 0, None);
    }

    /// The next piece; `None` at the end. An error is one of the operating system.
    pub async fn next(&mut self) -> Result<Option<Block>, Error> {
        if self.at >= self.len {
            return Ok(None);
        }
        match self.form {
            Form::Members => self.member().await.map(Some),
            Form::Gzip => self.gzip().await,
            Form::Plain => {
                let raw = self.read(self.at, PIECE).await?;
                let bytes = (self.at, self.at + raw.len() as u64);
                self.at = if raw.is_empty() { self.len } else { bytes.1 };
                Ok(Some(Block { bytes, raw, ..Block::default() }))
            }
        }
    }

    async fn read(&self, at: u64, len: usize) -> Result<Vec<u8>, Error> {
        let bytes = self.io.read_at(self.file, at, len, Vec::new()).await;
        bytes.map_err(|fault| Error::world("read", &self.object[..], fault))
    }

    /// Where the next member of ours begins; the end of the file if none does.
    async fn next_member(&self, from: u64) -> Result<u64, Error> {
        let found = next_header(self.io, self.file, from, self.len).await;
        let found = found.map_err(|error| match error {
            Error::World { doing, fault, .. } => Error::world(doing, &self.object[..], fault),
            other => other,
        })?;
        Ok(found.unwrap_or(self.len))
    }

    async fn member(&mut self) -> Result<Block, Error> {
        let head = self.read(self.at, FOOTER_LEN).await?;
        match member::parse_header(&head) {
            Ok(info) if self.at + u64::from(info.len) <= self.len => self.whole(info, &head).await,
            _ => self.gap().await,
        }
    }

    async fn whole(&mut self, info: MemberInfo, head: &[u8]) -> Result<Block, Error> {
        let bytes = (self.at, self.at + u64::from(info.len));
        let member = self.read(self.at, info.len as usize).await?;
        self.at = bytes.1;
        let block = Block { bytes, info: Some(info), is_framed: true, ..Block::default() };
        let deflated: Vec<u8> =
            member.get(info.body_start()..member.len().saturating_sub(TRAILER_LEN)).unwrap_or_default().to_vec();
        match self.io.unseal(member, Vec::new()).await {
            Ok((_, raw, _)) => {
                let footer = if info.kind == Kind::Footer { head.try_into().ok() } else { None };
                Ok(Block { raw, footer, ..block })
            }
            Err(Fault::Corrupt) => {
                // If bytes are missing in it, the next member begins before this one should end.
                self.at = self.begins_before(bytes).await?;
                let problem = Some("its bytes do not inflate to what its header says");
                Ok(Block { bytes: (bytes.0, self.at), raw: salvage(&deflated, RAW_MAX).raw, problem, ..block })
            }
            Err(fault) => Err(Error::world("inflate", &self.object[..], fault)),
        }
    }

    /// Where a damaged member ends: where its header says, if a member begins there, or where the next one begins before that.
    async fn begins_before(&self, bytes: (u64, u64)) -> Result<u64, Error> {
        let follows = self.read(bytes.1, FOOTER_LEN).await?;
        if bytes.1 == self.len || member::parse_header(&follows).is_ok() {
            return Ok(bytes.1);
        }
        Ok(self.next_member(bytes.0 + 1).await?.min(bytes.1))
    }

    /// Bytes where no member begins, or one that is not all there. If only the header is lost, the content is not.
    async fn gap(&mut self) -> Result<Block, Error> {
        if self.gap <= self.at {
            self.gap = self.next_member(self.at + 1).await?;
        }
        let from = self.at;
        let most = usize::try_from(self.gap - from).unwrap_or(usize::MAX).min(MEMBER_MAX);
        let bytes = self.read(from, most).await?;
        let Salvaged { raw, used } = salvage(bytes.get(HEADER_LEN..).unwrap_or_default(), RAW_MAX);
        // Where the deflate stream ends, the member does, and the next one may have lost its header too.
        let end = used.map_or(self.gap, |used| from + (HEADER_LEN + used + TRAILER_LEN) as u64);
        self.at = end.min(self.gap);
        let problem = Some("no member begins here");
        Ok(Block { bytes: (from, self.at), raw, problem, is_framed: true, ..Block::default() })
    }

    async fn gzip(&mut self) -> Result<Option<Block>, Error> {
        let from = self.at;
        let mut raw = Vec::with_capacity(PIECE);
        let problem = loop {
            if raw.len() == PIECE || (self.gzip.is_none() && self.at >= self.len) {
                break None;
            }
            let done = match self.gzip.take() {
                Some(gzip) => self.inflate(gzip, &mut raw).await?,
                None => self.begin_gzip().await?,
            };
            if let Err(problem) = done {
                break Some(problem);
            }
        };
        if problem.is_some() {
            self.at = self.next_gzip().await?;
        }
        Ok(Some(Block { bytes: (from, self.at), raw, problem, ..Block::default() }))
    }

    /// Reads the header of the member that begins here.
    async fn begin_gzip(&mut self) -> Result<Result<(), &'static str>, Error> {
        let head = self.read(self.at, GZIP_HEADER_MAX).await?;
        let Some(len) = gzip_header_len(&head) else { return Ok(Err("no gzip member begins here")) };
        self.at += len as u64;
        let state = InflateState::new_boxed(DataFormat::Raw);
        self.gzip = Some(Gzip { state, crc: Crc32::new(), input: Vec::new(), used: 0 });
        Ok(Ok(()))
    }

    /// Inflates until the piece is full or the member ends.
    async fn inflate(&mut self, mut gzip: Gzip, raw: &mut Vec<u8>) -> Result<Result<(), &'static str>, Error> {
        if gzip.used == gzip.input.len() {
            gzip.input = self.read(self.at, PIECE).await?;
            gzip.used = 0;
        }
        let from = raw.len();
        raw.resize(PIECE, 0);
        let result = inflate(&mut gzip.state, &gzip.input[gzip.used..], &mut raw[from..], MZFlush::None);
        raw.truncate(from + result.bytes_written);
        gzip.crc.update(&raw[from..]);
        gzip.used += result.bytes_consumed;
        self.at += result.bytes_consumed as u64;
        match result.status {
            Ok(MZStatus::StreamEnd) => {
                let trailer = self.read(self.at, TRAILER_LEN).await?;
                self.at = (self.at + TRAILER_LEN as u64).min(self.len);
                let is_good = trailer.len() == TRAILER_LEN && le32(&trailer, 0) == gzip.crc.finish();
                Ok(if is_good { Ok(()) } else { Err("its content does not have the CRC that stands behind it") })
            }
            Ok(_) if result.bytes_consumed > 0 || result.bytes_written > 0 => {
                self.gzip = Some(gzip);
                Ok(Ok(()))
            }
            _ => Ok(Err("its bytes do not inflate")),
        }
    }

    /// Where the next gzip member may begin; the end of the file if none does.
    async fn next_gzip(&self) -> Result<u64, Error> {
        let mut from = self.at;
        while from < self.len {
            let bytes = self.read(from, PIECE).await?;
            let mut at = 0;
            while let Some(next) = bytes[at..].windows(3).position(|three| three == [0x1F, 0x8B, 8]) {
                at += next;
                if bytes.get(at + 3).is_none_or(|flags| flags & 0xE0 == 0) {
                    return Ok(from + at as u64);
                }
                at += 1;
            }
            if bytes.len() < PIECE {
                break;
            }
            from += (PIECE - 2) as u64;
        }
        Ok(self.len)
    }
}

/// The length of the gzip header at the beginning of `b` (RFC 1952); `None` if it is none.
fn gzip_header_len(b: &[u8]) -> Option<usize> {
    const EXTRA: u8 = 4;
    const NAME: u8 = 8;
    const COMMENT: u8 = 16;
    const HEADER_CRC: u8 = 2;
    if b.len() < 10 || b[..3] != [0x1F, 0x8B, 8] || b[3] & 0xE0 != 0 {
        return None;
    }
    let mut at = 10;
    if b[3] & EXTRA != 0 {
        at += 2 + usize::from(*b.get(at)?) + 256 * usize::from(*b.get(at + 1)?);
    }
    for flag in [NAME, COMMENT] {
        if b[3] & flag != 0 {
            at += b.get(at..)?.iter().position(|&c| c == 0)? + 1;
        }
    }
    at += if b[3] & HEADER_CRC != 0 { 2 } else { 0 };
    (at <= b.len()).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_headers_of_any_make_are_understood() {
        let head = |flags: u8, rest: &[u8]| [&[0x1F, 0x8B, 8, flags, 0, 0, 0, 0, 0, 3][..], rest].concat();
        assert_eq!(gzip_header_len(&head(0, b"")), Some(10));
        assert_eq!(gzip_header_len(&head(4, b"\x03\x00abc")), Some(15));
        assert_eq!(gzip_header_len(&head(4 | 8 | 16 | 2, b"\x01\x00aname\0comment\0cc")), Some(28));
        for bad in [&head(0, b"")[..9], &head(0x20, b""), &head(8, b"name"), &head(4, b"\x04\x00abc"), b"PK\x03\x04      "] {
            assert_eq!(gzip_header_len(bad), None);
        }
    }
}
