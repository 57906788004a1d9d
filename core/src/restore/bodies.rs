//! Message files out of an archive, in the order in which they lie there: each member that holds a wanted one is inflated once,
//! several of them ahead, and members that hold none are not.
//!
//! Memory: the members under way (a message of any size passes in pieces of at most one member) and 40 bytes for each wanted
//! message. Each message is compared with its SHA-1 at its end. For a single message there is [`Reader::copy_message`]. What
//! must not come in: whose messages they are.

use crate::archive::entry::{self, EntryKind, Parsed};
use crate::archive::member::{MemberInfo, TO_BE_CONTINUED};
use crate::archive::read::Reader;
use crate::archive::record::MessageAt;
use crate::archive::stream::Window;
use crate::error::{Damage, Error, Fault};
use crate::escape::shown;
use crate::guid::Sha1;
use crate::io::{Call, Io, Op, Reply};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What comes next.
#[derive(Debug)]
pub enum Next<'b> {
    /// This message begins; its content follows in pieces.
    Begin(MessageAt),
    /// The next bytes of it.
    Piece(&'b [u8]),
    /// It is complete, and has the SHA-1 that it should have.
    Good,
    /// It cannot be had, or not all of it: what came of it is void. Without [`Next::Begin`] before it if nothing came.
    Bad(MessageAt, Error),
}

/// A member on its way.
struct Flight {
    offset: u64,
    what: Option<(MemberInfo, Call)>,
}

/// The member that is being looked at, and up to where it was.
struct Open {
    offset: u64,
    info: MemberInfo,
    raw: Vec<u8>,
    at: usize,
}

/// The member that a walk looked at last: the next walk over the same archive begins in it more often than not.
#[derive(Default)]
pub struct Last(Option<Open>);

/// A message under way.
struct Current {
    message: MessageAt,
    hash: Sha1,
    left: u64,
}

/// The walk; see the module's page. Take [`Bodies::next`] until it gives `None`.
pub struct Bodies<'a> {
    io: &'a Io,
    ahead: usize,
    wanted: Vec<MessageAt>,
    /// The first message that has not begun.
    next: usize,
    /// The first message whose member is not on its way.
    to_launch: usize,
    /// Where the member begins that goes on with the entry that the one launched last has the beginning of.
    continued: Option<u64>,
    window: Window<'a>,
    flights: VecDeque<Flight>,
    open: Option<Open>,
    current: Option<Current>,
    spare_members: Vec<Vec<u8>>,
    spare_raw: Vec<Vec<u8>>,
}

impl<'a> Bodies<'a> {
    /// A walk over these messages, each of which comes once, however often it stands there. `ahead` members may be under way to
    /// being inflated.
    pub fn new(io: &'a Io, reader: &'a Reader, mut wanted: Vec<MessageAt>, ahead: usize) -> Bodies<'a> {
        wanted.sort_unstable_by_key(|m| (m.at, m.guid, m.size));
        wanted.dedup();
        Bodies {
            io,
            ahead,
            wanted,
            next: 0,
            to_launch: 0,
            continued: None,
            window: Window::new(io, reader, reader.len()),
            flights: VecDeque::new(),
            open: None,
            current: None,
            spare_members: Vec::new(),
            spare_raw: Vec::new(),
        }
    }

    /// Begins with what another walk over the same archive has left, which need not be inflated again if it is wanted first.
    /// Before anything was taken.
    pub fn after(mut self, last: Last) -> Bodies<'a> {
        let first = self.wanted.first().map(|message| message.at.member);
        if let Some(open) = last.0.filter(|open| Some(open.offset) == first) {
            self.to_launch = self.wanted.partition_point(|message| message.at.member == open.offset);
            self.continued = (open.info.flags & TO_BE_CONTINUED != 0).then_some(open.offset + u64::from(open.info.len));
            self.open = Some(open);
        }
        self
    }

    /// What is left for the next walk.
    pub fn last(self) -> Last {
        Last(self.open)
    }

    /// What comes next; `None` at the end. An error is one of the operating system.
    pub async fn next(&mut self) -> Result<Option<Next<'_>>, Error> {
        if let Some(current) = self.current.take() {
            return self.go_on(current).await.map(Some);
        }
        let Some(&message) = self.wanted.get(self.next) else { return Ok(None) };
        self.next += 1;
        if self.open.as_ref().is_none_or(|open| open.offset != message.at.member) {
            self.advance(message.at.member).await?;
        }
        Ok(Some(match self.begin(&message) {
            Ok(current) => {
                self.current = Some(current);
                Next::Begin(message)
            }
            Err(damage) => Next::Bad(message, damage.into()),
        }))
    }

    /// The whole of the next message, in `out`. One of more than `max` bytes is passed over with [`Error::Limit`].
    pub async fn next_whole(&mut self, max: u64, out: &mut Vec<u8>) -> Result<Option<(MessageAt, Result<(), Error>)>, Error> {
        out.clear();
        let mut begun = None;
        while let Some(next) = self.next().await? {
            match (next, begun) {
                (Next::Begin(message), _) => begun = Some(message),
                (Next::Piece(piece), Some(message)) if message.size <= max => out.extend_from_slice(piece),
                (Next::Piece(_), _) | (Next::Good, None) => {}
                (Next::Bad(message, error), _) => return Ok(Some((message, Err(error)))),
                (Next::Good, Some(message)) if message.size > max => {
                    let object = format!("message {}: bytes", message.guid);
                    return Ok(Some((message, Err(Error::Limit { object, limit: max, found: message.size }))));
                }
                (Next::Good, Some(message)) => return Ok(Some((message, Ok(())))),
            }
        }
        Ok(None)
    }

    /// Looks at the entry of `message` in the open member.
    fn begin(&mut self, message: &MessageAt) -> Result<Current, Damage> {
        let expected = || format!("files/{} of {} bytes at {}", message.guid, message.size, message.at);
        let bad = |found: String| Damage::new("archive", message.at.member, "message", found, expected());
        let open = self.open.as_mut().ok_or_else(|| bad(String::from("damaged bytes")))?;
        let bytes = open.raw.get(message.at.inside as usize..).unwrap_or_default();
        let Parsed::Entry(entry, start) = entry::parse(bytes)? else { return Err(bad(String::from("no entry"))) };
        if entry.kind != EntryKind::File(Some(message.guid)) || entry.size != message.size {
            return Err(bad(format!("`{}` of {} bytes", shown(&entry.name), entry.size)));
        }
        open.at = message.at.inside as usize + start;
        Ok(Current { message: *message, hash: Sha1::new(), left: entry.size })
    }

    /// The next piece of the message under way, or its end.
    async fn go_on(&mut self, mut current: Current) -> Result<Next<'_>, Error> {
        let message = current.message;
        let bad = |found: String, expected: String| {
            Next::Bad(message, Damage::new("archive", message.at.member, "message", found, expected).into())
        };
        if current.left == 0 {
            let found = current.hash.finish();
            let is_good = found == message.guid;
            return Ok(if is_good { Next::Good } else { bad(format!("SHA-1 {found}"), format!("{}", message.guid)) });
        }
        while let Some(open) = self.open.as_ref().filter(|open| open.at >= open.raw.len()) {
            let (end, more) = (open.offset + u64::from(open.info.len), open.info.flags & TO_BE_CONTINUED != 0);
            if !more {
                return Ok(bad(String::from("the end of its member"), format!("{} bytes more", current.left)));
            }
            self.advance(end).await?;
        }
        let Some(open) = &mut self.open else {
            return Ok(bad(String::from("damaged bytes"), format!("{} bytes more", current.left)));
        };
        let rest = &open.raw[open.at..];
        let piece = &rest[..usize::try_from(current.left).unwrap_or(usize::MAX).min(rest.len())];
        open.at += piece.len();
        current.hash.update(piece);
        current.left -= piece.len() as u64;
        self.current = Some(current);
        Ok(Next::Piece(piece))
    }

    /// Opens the member at `offset`; afterwards none is open if it cannot be had.
    async fn advance(&mut self, offset: u64) -> Result<(), Error> {
        if let Some(open) = self.open.take() {
            self.spare_raw.push(open.raw);
        }
        loop {
            while self.flights.len() <= self.ahead && self.launch().await? {}
            // What is only needed later stays.
            if self.flights.front().is_none_or(|flight| flight.offset > offset) {
                return Ok(());
            }
            let Some(flight) = self.flights.pop_front() else { return Ok(()) };
            let found = flight.offset;
            let landed = self.land(flight).await?;
            if found == offset {
                self.open = landed;
                return Ok(());
            }
            self.spare_raw.extend(landed.map(|open| open.raw));
        }
    }

    /// Sends the next member on its way; false if there is none any more.
    async fn launch(&mut self) -> Result<bool, Error> {
        let offset = match self.continued.take() {
            Some(offset) => offset,
            None => {
                let Some(first) = self.wanted.get(self.to_launch) else { return Ok(false) };
                let offset = first.at.member;
                self.to_launch += self.wanted[self.to_launch..].partition_point(|m| m.at.member == offset);
                offset
            }
        };
        // Places come from an archive, and may be any.
        let within = offset < self.window.end;
        self.window.at = offset.min(self.window.end);
        let what = match self.window.header().await?.filter(|_| within) {
            None => None,
            Some(info) => {
                let mut member = self.spare_members.pop().unwrap_or_default();
                member.clear();
                member.extend_from_slice(self.window.take(info.len as usize).await?);
                self.continued = (info.flags & TO_BE_CONTINUED != 0).then_some(offset + u64::from(info.len));
                let call = self.io.start(Op::Unseal { member, buffer: self.spare_raw.pop().unwrap_or_default() });
                Some((info, call))
            }
        };
        self.flights.push_back(Flight { offset, what });
        Ok(true)
    }

    /// The member, once it is inflated; `None` for one that cannot be.
    async fn land(&mut self, Flight { offset, what }: Flight) -> Result<Option<Open>, Error> {
        let Some((info, call)) = what else { return Ok(None) };
        match call.await {
            Ok(Reply::Unsealed { raw, member, .. }) => {
                self.spare_members.push(member);
                Ok(Some(Open { offset, info, raw, at: 0 }))
            }
            Ok(_) => Err(Error::world("inflate", String::from("archive"), Fault::Driver)),
            Err(Fault::Corrupt) => Ok(None),
            Err(fault) => Err(Error::world("inflate", String::from("archive"), fault)),
        }
    }
}
