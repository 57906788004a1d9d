//! An archive's members from first to last, inflated ahead by the driver: for everything that reads a whole archive.
//!
//! Damage does not end the stream: it is one of the things that come out, and the stream goes on behind it. Memory: the members
//! that are under way and one window of bytes. What must not come in: entries, and what is done about damage.

use super::member::{self, CONTINUES, FOOTER_LEN, Kind, MemberInfo};
use super::read::{Reader, next_header};
use crate::error::{Error, Fault};
use crate::io::{Call, Io, Op, Reply};
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Bytes that are read at once.
const WINDOW: usize = 1 << 20;

/// What comes next in an archive.
#[derive(Debug)]
pub enum Seen {
    /// A whole member. Its content is to be given back with [`Stream::recycle`].
    Member(u64, MemberInfo, Vec<u8>),
    /// A member whose header is good and whose content is not.
    Bad(u64, MemberInfo),
    /// Bytes, from and up to, in which no member begins.
    Gap(u64, u64),
}

impl Seen {
    /// The first byte of what was seen, and the first behind it.
    pub fn bytes(&self) -> (u64, u64) {
        match self {
            Seen::Member(offset, info, _) | Seen::Bad(offset, info) => (*offset, offset + u64::from(info.len)),
            Seen::Gap(from, to) => (*from, *to),
        }
    }
}

/// A file's bytes from some offset on, read in large pieces.
pub(crate) struct Window<'a> {
    io: &'a Io,
    reader: &'a Reader,
    /// Where the next member begins.
    pub(crate) at: u64,
    pub(crate) end: u64,
    bytes: Vec<u8>,
    bytes_at: u64,
}

impl<'a> Window<'a> {
    /// The bytes of the file from its beginning up to `end`.
    pub(crate) fn new(io: &'a Io, reader: &'a Reader, end: u64) -> Window<'a> {
        Window { io, reader, at: 0, end: end.min(reader.len()), bytes: Vec::new(), bytes_at: 0 }
    }

    /// The header of the member that begins here, if one does that ends before the end.
    pub(crate) async fn header(&mut self) -> Result<Option<MemberInfo>, Error> {
        self.have(FOOTER_LEN).await?;
        let info = member::parse_header(self.view(FOOTER_LEN)).ok();
        Ok(info.filter(|info| self.at + u64::from(info.len) <= self.end))
    }

    /// The next `len` bytes; goes on behind them. Fewer only if the file has become shorter.
    pub(crate) async fn take(&mut self, len: usize) -> Result<&[u8], Error> {
        self.have(len).await?;
        let from = usize::try_from(self.at - self.bytes_at).unwrap_or(usize::MAX).min(self.bytes.len());
        self.at += len as u64;
        Ok(&self.bytes[from..(from + len).min(self.bytes.len())])
    }

    /// Makes sure that the window holds `len` bytes from here, or all that there are.
    async fn have(&mut self, len: usize) -> Result<(), Error> {
        let want = (len as u64).min(self.end - self.at);
        let held = self.bytes_at + self.bytes.len() as u64;
        if self.at >= self.bytes_at && self.at + want <= held {
            return Ok(());
        }
        let read = (self.end - self.at).min(len.max(WINDOW) as u64) as usize;
        let buffer = core::mem::take(&mut self.bytes);
        let bytes = self.io.read_at(self.reader.file, self.at, read, buffer).await;
        self.bytes = bytes.map_err(|fault| Error::world("read", self.reader.place().shown(), fault))?;
        self.bytes_at = self.at;
        Ok(())
    }

    /// `len` bytes from here, as far as the window holds them.
    fn view(&self, len: usize) -> &[u8] {
        let from = usize::try_from(self.at - self.bytes_at).unwrap_or(usize::MAX).min(self.bytes.len());
        &self.bytes[from..(from + len).min(self.bytes.len())]
    }
}

/// Which members of messages are read: all of them, or some, drawn by lot. An entry is read whole or not at all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// How many of 10,000.
    pub share: u32,
    /// What the lots are drawn with.
    pub salt: u64,
}

impl Sample {
    /// All of them.
    pub const ALL: Sample = Sample { share: 10_000, salt: 0 };

    /// True if what begins in the member at this offset is read.
    pub fn takes(&self, member: u64) -> bool {
        // The finalizer of SplitMix64.
        let mut z = (member ^ self.salt).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % 10_000 < u64::from(self.share)
    }
}

/// Something on its way.
enum Flight {
    Inflating(u64, MemberInfo, Call),
    Gap(u64, u64),
}

/// Reads the members of an archive up to some offset.
pub struct Stream<'a> {
    io: &'a Io,
    reader: &'a Reader,
    ahead: usize,
    sample: Sample,
    /// Where the entry began that goes on here.
    begun: u64,
    window: Window<'a>,
    flights: VecDeque<Flight>,
    spare_members: Vec<Vec<u8>>,
    spare_raw: Vec<Vec<u8>>,
}

impl<'a> Stream<'a> {
    /// The members from the beginning up to `end`, of which `ahead` may be under way to being inflated.
    pub fn new(io: &'a Io, reader: &'a Reader, end: u64, ahead: usize) -> Stream<'a> {
        Stream {
            io,
            reader,
            ahead,
            sample: Sample::ALL,
            begun: 0,
            window: Window::new(io, reader, end),
            flights: VecDeque::new(),
            spare_members: Vec::new(),
            spare_raw: Vec::new(),
        }
    }

    /// The same without the messages that a sample leaves out; everything else comes.
    pub fn sampled(self, sample: Sample) -> Stream<'a> {
        Stream { sample, ..self }
    }

    /// Takes the content of a member back, for use again.
    pub fn recycle(&mut self, raw: Vec<u8>) {
        self.spare_raw.push(raw);
    }

    /// What comes next; `None` at the end. An error is one of the operating system.
    pub async fn next(&mut self) -> Result<Option<Seen>, Error> {
        while self.flights.len() <= self.ahead && self.window.at < self.window.end {
            self.launch().await?;
        }
        let (offset, info, call) = match self.flights.pop_front() {
            None => return Ok(None),
            Some(Flight::Gap(from, to)) => return Ok(Some(Seen::Gap(from, to))),
            Some(Flight::Inflating(offset, info, call)) => (offset, info, call),
        };
        match call.await {
            Ok(Reply::Unsealed { raw, member, .. }) => {
                self.spare_members.push(member);
                Ok(Some(Seen::Member(offset, info, raw)))
            }
            Ok(_) => Err(Error::world("inflate", self.reader.place().shown(), Fault::Driver)),
            Err(Fault::Corrupt) => Ok(Some(Seen::Bad(offset, info))),
            Err(fault) => Err(Error::world("inflate", self.reader.place().shown(), fault)),
        }
    }

    /// Sends the member that begins here on its way.
    async fn launch(&mut self) -> Result<(), Error> {
        let at = self.window.at;
        let Some(info) = self.window.header().await? else {
            let end = self.window.end;
            let next = next_header(self.io, self.reader.file, at + 1, end).await?.unwrap_or(end);
            self.flights.push_back(Flight::Gap(at, next));
            self.window.at = next;
            return Ok(());
        };
        if info.flags & CONTINUES == 0 {
            self.begun = at;
        }
        if info.kind == Kind::Data && !self.sample.takes(self.begun) {
            self.window.at += u64::from(info.len);
            return Ok(());
        }
        let mut member = self.spare_members.pop().unwrap_or_default();
        member.clear();
        member.extend_from_slice(self.window.take(info.len as usize).await?);
        let call = self.io.start(Op::Unseal { member, buffer: self.spare_raw.pop().unwrap_or_default() });
        self.flights.push_back(Flight::Inflating(at, info, call));
        Ok(())
    }
}
