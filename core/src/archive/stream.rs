//! An archive's members from first to last, inflated ahead by the driver: for everything that reads a whole archive.
//!
//! Damage does not end the stream: it is one of the things that come out, and the stream goes on behind it. Memory: the members
//! that are under way and one window of bytes. What must not come in: entries, and what is done about damage.

use super::member::{self, FOOTER_LEN, MemberInfo};
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
    at: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
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
            at: 0,
            end: end.min(reader.len()),
            window: Vec::new(),
            window_at: 0,
            flights: VecDeque::new(),
            spare_members: Vec::new(),
            spare_raw: Vec::new(),
        }
    }

    /// Takes the content of a member back, for use again.
    pub fn recycle(&mut self, raw: Vec<u8>) {
        self.spare_raw.push(raw);
    }

    /// What comes next; `None` at the end. An error is one of the operating system.
    pub async fn next(&mut self) -> Result<Option<Seen>, Error> {
        while self.flights.len() <= self.ahead && self.at < self.end {
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
        self.have(FOOTER_LEN).await?;
        let info = member::parse_header(self.view(FOOTER_LEN)).ok();
        let Some(info) = info.filter(|info| self.at + u64::from(info.len) <= self.end) else {
            let next = next_header(self.io, self.reader.file, self.at + 1, self.end).await?.unwrap_or(self.end);
            self.flights.push_back(Flight::Gap(self.at, next));
            self.at = next;
            return Ok(());
        };
        let len = info.len as usize;
        self.have(len).await?;
        let mut member = self.spare_members.pop().unwrap_or_default();
        member.clear();
        member.extend_from_slice(self.view(len));
        let call = self.io.start(Op::Unseal { member, buffer: self.spare_raw.pop().unwrap_or_default() });
        self.flights.push_back(Flight::Inflating(self.at, info, call));
        self.at += len as u64;
        Ok(())
    }

    /// Makes sure that the window holds `len` bytes from here, or all that there are.
    async fn have(&mut self, len: usize) -> Result<(), Error> {
        let want = (len as u64).min(self.end - self.at);
        let held = self.window_at + self.window.len() as u64;
        if self.at >= self.window_at && self.at + want <= held {
            return Ok(());
        }
        let read = (self.end - self.at).min(len.max(WINDOW) as u64) as usize;
        let buffer = core::mem::take(&mut self.window);
        let bytes = self.io.read_at(self.reader.file, self.at, read, buffer).await;
        self.window = bytes.map_err(|fault| Error::world("read", self.reader.place().shown(), fault))?;
        self.window_at = self.at;
        Ok(())
    }

    /// `len` bytes from here, as far as the window holds them.
    fn view(&self, len: usize) -> &[u8] {
        let from = usize::try_from(self.at - self.window_at).unwrap_or(usize::MAX).min(self.window.len());
        &self.window[from..(from + len).min(self.window.len())]
    }
}
