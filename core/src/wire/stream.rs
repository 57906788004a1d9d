//! Lines and blocks over a stream of bytes.
//!
//! Every limit is enforced here, before anything is decoded: the length of a line, the sum of all lines of an answer, the
//! declared size of a block against what comes. Bytes are lent from one receive buffer; a block is handed on piece by piece.
//! What must not come in: verbs.

use super::words;
use crate::error::{Error, Fault};
use crate::escape::shown;
use crate::guid::{Guid, Sha1};
use crate::io::{Call, Io, Op, Reply, StreamId};
use crate::time::{Pace, Span, Time};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::ops::Range;

/// Bytes asked for at once.
pub const RECEIVE: usize = 256 << 10;
/// Bytes that are gathered before they are sent, unless somebody waits for them.
pub const SEND: usize = 128 << 10;
/// The longest time until TLS is agreed.
const SECURE_MAX: Span = Span::from_secs(60);
/// The longest part of what the other side said that is repeated in an error.
const QUOTED_MAX: usize = 200;

/// How often it is looked whether somebody wants the procedure to end, while something is waited for.
const LOOK: Span = Span::from_secs(1);

/// When STARTTLS is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartTls {
    /// Before anything else; a server that does not have it is given up.
    Always,
    /// Where the server takes no password without it. For connections that nobody else can read anyway.
    WhereNeeded,
}

/// What is said of a server that does not have STARTTLS where it must be.
pub const NO_STARTTLS: &str =
    "does not offer STARTTLS, so nothing is sent there; from 3.10 on Cyrus wants `allowstarttls: yes`";

/// Limits of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The longest line in bytes, without its end.
    pub line: usize,
    /// The longest time without a byte while one is expected, or without room to send.
    pub stall: Span,
    /// Most bytes that are received in a second, on average. 0: any.
    pub bytes_per_second: u64,
}

/// The head of a block: `DATA name size mtime inode`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Its name, as sent.
    pub name: Vec<u8>,
    /// Bytes.
    pub size: u64,
    /// Last change of the file. Whole seconds in the stock dialect.
    pub mtime: Time,
    /// Inode number.
    pub ino: u64,
}

/// One stream, buffered in both directions.
pub struct Stream {
    io: Io,
    id: StreamId,
    peer: String,
    limits: Limits,
    buffer: Vec<u8>,
    /// What of the buffer has been lent.
    at: usize,
    line: Range<usize>,
    ended: bool,
    out: Vec<u8>,
    sending: Option<Call>,
    spare: Vec<u8>,
    pace: Option<Pace>,
    trips: u64,
    sent_since_received: bool,
    /// How long is waited once somebody wants the procedure to end.
    grace: Option<Span>,
    stop_by: Option<Time>,
    is_silent: bool,
}

impl Stream {
    /// Connects to `peer`.
    pub async fn connect(io: &Io, peer: &str, limits: Limits) -> Result<Stream, Error> {
        match io.connect(peer.to_string()).await {
            Ok(id) => Ok(Stream::new(io, id, peer, limits)),
            Err(fault) => Err(Error::Peer { peer: peer.to_string(), why: format!("cannot be reached: {fault}") }),
        }
    }

    /// A stream that is open.
    pub fn new(io: &Io, id: StreamId, peer: &str, limits: Limits) -> Stream {
        Stream {
            io: io.clone(),
            id,
            peer: peer.to_string(),
            limits,
            buffer: Vec::new(),
            at: 0,
            line: 0..0,
            ended: false,
            out: Vec::new(),
            sending: None,
            spare: Vec::new(),
            pace: (limits.bytes_per_second > 0).then(|| Pace::new(limits.bytes_per_second, io.now())),
            trips: 0,
            sent_since_received: false,
            grace: None,
            stop_by: None,
            is_silent: false,
        }
    }

    /// Who is on the other side.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    /// The boundary that it goes through.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// How often something was sent and then waited for.
    pub fn round_trips(&self) -> u64 {
        self.trips
    }

    /// Changes the longest silence.
    pub fn set_stall(&mut self, stall: Span) {
        self.limits.stall = stall;
    }

    /// Once somebody wants the procedure to end, what the other side says is waited for no longer than this, in all. Without
    /// it a server that waits for a lock would hold up who wants to end.
    pub fn end_when_stopped(&mut self, grace: Span) {
        self.grace = Some(grace);
    }

    /// True if the other side has said nothing for too long.
    pub fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// An error that ends this connection.
    pub fn broken(&self, why: impl Into<String>) -> Error {
        Error::Peer { peer: self.peer.clone(), why: why.into() }
    }

    /// An error about something that was said where something else was expected.
    pub fn unexpected(&self, found: &[u8], expected: &str) -> Error {
        let cut = &found[..found.len().min(QUOTED_MAX)];
        self.broken(format!("found `{}`, expected {expected}", shown(cut)))
    }

    /// The end of the stream, where something was expected, with what the process behind it says of itself.
    async fn cut(&self, what: &str) -> Error {
        let said = self.io.complaint(self.id).await.ok().flatten();
        let said = said.map(|said| format!(": {said}")).unwrap_or_default();
        self.broken(format!("the connection ended before {what}{said}"))
    }

    /// The next line, without its end; a CR before it is dropped, too. `None` if the stream ended before it began.
    pub async fn line(&mut self) -> Result<Option<&[u8]>, Error> {
        Ok(if self.find_line().await? { Some(self.found_line()) } else { None })
    }

    /// The same where there must be one.
    pub async fn some_line(&mut self) -> Result<&[u8], Error> {
        if self.find_line().await? { Ok(self.found_line()) } else { Err(self.cut("an answer").await) }
    }

    /// The line that was found last.
    fn found_line(&self) -> &[u8] {
        let line = &self.buffer[self.line.clone()];
        line.strip_suffix(b"\r").unwrap_or(line)
    }

    /// The length of the line that was found last, without its end.
    pub fn line_len(&self) -> usize {
        self.line.len()
    }

    /// Finds the next line and steps over it. False if the stream ended before it began.
    async fn find_line(&mut self) -> Result<bool, Error> {
        let mut seen = 0;
        loop {
            let rest = &self.buffer[self.at..];
            let end = rest[seen..].iter().position(|&b| b == b'\n').map(|n| seen + n);
            if end.unwrap_or(rest.len()) > self.limits.line {
                return Err(self.broken(format!("sends a line of more than {} bytes", self.limits.line)));
            }
            if let Some(end) = end {
                self.line = self.at..self.at + end;
                self.at += end + 1;
                return Ok(true);
            }
            seen = rest.len();
            if !self.more().await? {
                return if seen == 0 { Ok(false) } else { Err(self.cut("the end of a line").await) };
            }
        }
    }

    /// The next piece of a block of which `left` bytes are still to come: at least one byte, unless `left` is 0.
    pub async fn piece(&mut self, left: u64) -> Result<&[u8], Error> {
        if left > 0 && self.at == self.buffer.len() && !self.more().await? {
            return Err(self.cut(&format!("the last {left} bytes of a block")).await);
        }
        let len = ((self.buffer.len() - self.at) as u64).min(left) as usize;
        self.at += len;
        Ok(&self.buffer[self.at - len..self.at])
    }

    /// Receives more into the buffer, behind what has not been lent. False at the end of the stream.
    async fn more(&mut self) -> Result<bool, Error> {
        if self.ended {
            return Ok(false);
        }
        self.flush().await?;
        if core::mem::take(&mut self.sent_since_received) {
            self.trips += 1;
        }
        // What has been lent is dropped; what is left of the buffer is no longer than a line.
        self.buffer.drain(..self.at);
        self.at = 0;
        let spare = core::mem::take(&mut self.spare);
        let call = self.io.start(Op::Receive { stream: self.id, max: RECEIVE, buffer: spare });
        let bytes = match self.wait(call).await? {
            Reply::Bytes(bytes) => bytes,
            _ => return Err(Error::world("receive from", self.peer.clone(), Fault::Driver)),
        };
        if let Some(until) = self.pace.as_mut().and_then(|pace| pace.take(self.io.now(), bytes.len() as u64)) {
            self.io.sleep_until(until).await;
        }
        self.ended = bytes.is_empty();
        if self.buffer.is_empty() {
            self.spare = core::mem::replace(&mut self.buffer, bytes);
        } else {
            self.buffer.extend_from_slice(&bytes);
            self.spare = bytes;
        }
        Ok(!self.ended)
    }

    async fn wait(&mut self, mut call: Call) -> Result<Reply, Error> {
        let until = self.io.now().plus(self.limits.stall);
        loop {
            let mut next = until;
            if let Some(grace) = self.grace {
                if self.io.is_stopping() {
                    let stop_by = *self.stop_by.get_or_insert(self.io.now().plus(grace));
                    next = next.min(stop_by);
                } else {
                    next = next.min(self.io.now().plus(LOOK));
                }
            }
            match self.io.within(&mut call, next).await {
                Some(Ok(reply)) => return Ok(reply),
                Some(Err(Fault::Gone)) => return Err(self.cut("an answer").await),
                Some(Err(fault)) => return Err(self.broken(format!("the connection failed: {fault}"))),
                None if self.stop_by.is_some_and(|by| self.io.now() >= by) => return Err(Error::Stopped),
                None if self.io.now() < until => {}
                None => {
                    self.is_silent = true;
                    return Err(self.broken(format!("nothing came for {} s", self.limits.stall.ms() / 1000)));
                }
            }
        }
    }

    /// Takes bytes to be sent; they go when there are enough of them, or when something is waited for.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(SEND) {
            self.out.extend_from_slice(piece);
            if self.out.len() >= SEND {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Hands over what was taken. One buffer is under way while the next is filled.
    pub async fn flush(&mut self) -> Result<(), Error> {
        if self.out.is_empty() {
            return Ok(());
        }
        let mut spare = Vec::new();
        if let Some(call) = self.sending.take() {
            match self.wait(call).await? {
                Reply::Bytes(bytes) => spare = bytes,
                _ => return Err(Error::world("send to", self.peer.clone(), Fault::Driver)),
            }
        }
        let data = core::mem::replace(&mut self.out, spare);
        self.sending = Some(self.io.start(Op::Send { stream: self.id, data }));
        self.sent_since_received = true;
        Ok(())
    }

    /// Waits until all that was taken is with the driver.
    pub async fn settle(&mut self) -> Result<(), Error> {
        self.flush().await?;
        if let Some(call) = self.sending.take() {
            self.wait(call).await?;
        }
        Ok(())
    }

    /// Encrypts everything from here on. What had come before that without being asked for is a breach: somebody on the way
    /// could have put it there, to be taken for what the server says under TLS (CVE-2011-0411).
    pub async fn secure(&mut self) -> Result<(), Error> {
        self.settle().await?;
        if self.at < self.buffer.len() {
            return Err(self.broken("sends more than the answer to STARTTLS before TLS begins"));
        }
        let call = self.io.start(Op::Secure(self.id));
        match self.io.by(call, self.io.now().plus(SECURE_MAX.min(self.limits.stall))).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(Fault::Gone)) => Err(self.cut("TLS was agreed").await),
            Some(Err(fault)) => Err(self.broken(format!("TLS cannot begin: {fault}"))),
            None => Err(self.broken(format!("TLS was not agreed within {} s", SECURE_MAX.ms() / 1000))),
        }
    }

    /// Closes the stream at once, whatever has not been sent. Nothing else can be done with it.
    pub async fn give_up(&mut self) {
        self.ended = true;
        let _ = self.io.shut(self.id).await;
    }

    /// Closes the stream. What the other side says to that is of no interest.
    pub async fn close(mut self) {
        let _ = self.settle().await;
        let _ = self.io.shut(self.id).await;
    }

    /// Reads `DATA name size mtime inode`; the block's bytes and its last line follow.
    pub fn block(&self, line: &[u8]) -> Result<Block, Error> {
        let mut rest = words::split(line).skip(1);
        let mut next = || rest.next().filter(|word| !word.is_empty());
        let head = (|| {
            let name = words::decode(next()?)?;
            let (size, mtime, ino) = (number(next()?)?, stamp(next()?)?, number(next()?)?);
            Some(Block { name, size, mtime, ino })
        })();
        head.filter(|_| rest.next().is_none()).ok_or_else(|| self.unexpected(line, "`DATA name size mtime inode`"))
    }

    /// Reads the rest of a block into `content`, which is cleared first, and checks it against its last line. `None` if the
    /// sender could not read its file to the end.
    pub async fn content(&mut self, block: &Block, max: u64, content: &mut Vec<u8>) -> Result<Option<Guid>, Error> {
        if block.size > max {
            return Err(self.too_large(block, max));
        }
        content.clear();
        let mut left = block.size;
        while left > 0 {
            let piece = self.piece(left).await?;
            content.extend_from_slice(piece);
            left -= piece.len() as u64;
        }
        let found = Guid::of(content);
        self.finish(block, found).await
    }

    /// Reads over the rest of a block.
    pub async fn skip(&mut self, block: &Block) -> Result<(), Error> {
        let (mut left, mut hash) = (block.size, Sha1::new());
        while left > 0 {
            let piece = self.piece(left).await?;
            hash.update(piece);
            left -= piece.len() as u64;
        }
        self.finish(block, hash.finish()).await.map(|_| ())
    }

    /// What a block that is too large comes to: it must be read over or the connection given up, and this is for giving up.
    pub fn too_large(&self, block: &Block, max: u64) -> Error {
        self.broken(format!("sends `{}` of {} bytes, the limit is {max}", shown(&block.name), block.size))
    }

    /// Reads the last line of a block whose bytes were read: `DONE name sha1`, or `DONE name -` for one that came to nothing.
    pub async fn finish(&mut self, block: &Block, found: Guid) -> Result<Option<Guid>, Error> {
        let line = self.some_line().await?;
        let said = line.strip_prefix(b"DONE ").map(|rest| words::split(rest).collect::<Vec<_>>());
        let sha1 = match said.as_deref() {
            Some([name, b"-"]) if words::decode(name).as_ref() == Some(&block.name) => None,
            Some([name, sha1]) if words::decode(name).as_ref() == Some(&block.name) => Guid::from_hex(sha1),
            _ => {
                let line = line.to_vec();
                return Err(self.unexpected(&line, &format!("`DONE {} sha1`", shown(&block.name))));
            }
        };
        match sha1 {
            Some(sha1) if sha1 == found => Ok(Some(found)),
            None if line.ends_with(b" -") => Ok(None),
            _ => {
                let line = line.to_vec();
                Err(self.unexpected(&line, &format!("SHA-1 {found}, which the {} bytes before it have", block.size)))
            }
        }
    }

    /// Sends a block whose content is at hand.
    pub async fn send_block(&mut self, block: &Block, content: &[u8]) -> Result<(), Error> {
        self.begin_block(block).await?;
        self.send(content).await?;
        self.end_block(block, Some(Guid::of(content))).await
    }

    /// Sends the first line of a block.
    pub async fn begin_block(&mut self, block: &Block) -> Result<(), Error> {
        let Block { name, size, mtime, ino } = block;
        let name = words::encode(name);
        let line = if mtime.subsec_ns() == 0 {
            // A time before 1970 has 2^64 added.
            format!("DATA {name} {size} {} {ino}\n", mtime.secs() as u64)
        } else {
            format!("DATA {name} {size} {mtime} {ino}\n")
        };
        self.send(line.as_bytes()).await
    }

    /// Sends the last line of a block; without a SHA-1, its content came to nothing.
    pub async fn end_block(&mut self, block: &Block, sha1: Option<Guid>) -> Result<(), Error> {
        let sha1 = sha1.map_or_else(|| String::from("-"), |sha1| sha1.to_hex());
        self.send(format!("DONE {} {sha1}\n", words::encode(&block.name)).as_bytes()).await
    }
}

/// A decimal number.
pub fn number(word: &[u8]) -> Option<u64> {
    if word.is_empty() || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(word).ok()?.parse().ok()
}

/// Seconds, with nine digits behind a dot or without.
pub fn stamp(word: &[u8]) -> Option<Time> {
    if word.contains(&b'.') {
        return crate::lines::parse_time(word);
    }
    // A time before 1970 has 2^64 added.
    let secs = number(word)? as i64;
    secs.checked_mul(1_000_000_000).map(Time)
}
