//! Where a backup run gets a user from: this host, or a server on another one.
//!
//! A run asks an [`Origin`] and does not know which of them it is. The local one calls `source` directly instead of speaking
//! the protocol to itself: the answers are the same, and nothing has to be put into lines and read back. That both make the
//! same archive is tested (`tests/tests/wire.rs`).
//!
//! What must not come in: archives, and deciding what is wanted.

pub mod native;
pub mod stock;
pub mod work;

use crate::cyrus::names::Owner;
use crate::error::{Error, Fault};
use crate::escape::shown;
use crate::guid::{Guid, Sha1};
use crate::io::{FileId, Io};
use crate::source::capture::{Capture, Wanted, capture};
use crate::source::lock::close;
use crate::source::message::{self, Found, Lacking, MESSAGE_MAX, PIECE};
use crate::source::pass::pass;
use crate::source::site::Site;
use crate::source::{Ask, Folder, Pass};
use crate::time::Time;
use crate::wire::native::Wish;
use crate::wire::stream::{Block, Stream};
use alloc::string::String;
use alloc::vec::Vec;

/// Where a user comes from.
pub enum Origin<'a> {
    /// This host.
    Local(&'a mut Site),
    /// A server that speaks the native dialect.
    Native(&'a mut native::Client),
    /// A `backupcyrusd`.
    Stock(&'a mut stock::Client),
}

/// A message that was had.
#[derive(Debug)]
pub enum Message {
    /// All of it.
    Whole {
        /// Its content.
        content: Vec<u8>,
        /// Last change of its file.
        mtime: Time,
    },
    /// One that is too large for memory.
    Large {
        /// The scratch file that has it, to be closed.
        scratch: FileId,
        /// Its size in bytes.
        size: u64,
        /// Its SHA-1.
        guid: Guid,
        /// Last change of its file.
        mtime: Time,
    },
}

/// Why a message could not be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lack {
    /// Why.
    pub why: Lacking,
    /// Its file, escaped.
    pub path: String,
}

impl Origin<'_> {
    /// Sends the question for a pass ahead; the answer is taken by [`Origin::pass`]. For a local host there is no question.
    pub async fn announce_pass(&mut self, owner: &Owner, ask: &Ask) -> Result<(), Error> {
        match self {
            // A stock server that dies of one user would take the questions for others with it.
            Origin::Local(_) | Origin::Stock(_) => Ok(()),
            Origin::Native(client) => client.announce_pass(owner, ask).await,
        }
    }

    /// The stat pass ([`pass`]).
    pub async fn pass(&mut self, io: &Io, owner: &Owner, ask: &Ask) -> Result<Pass, Error> {
        match self {
            Origin::Local(site) => pass(site, io, owner, ask).await,
            Origin::Native(client) => client.pass(owner, ask).await,
            Origin::Stock(client) => client.pass(owner, ask).await,
        }
    }

    /// The capture ([`capture`]) of what is `wanted` of the pass `first`, and of what has changed since.
    pub async fn capture(
        &mut self,
        io: &Io,
        owner: &Owner,
        first: &Pass,
        wanted: &Wanted,
        ask: &Ask,
    ) -> Result<Capture, Error> {
        match self {
            Origin::Local(site) => capture(site, io, owner, first, wanted, ask).await,
            Origin::Native(client) => client.capture(io, owner, first, wanted, ask).await,
            Origin::Stock(client) => client.capture(io, owner, first, wanted).await,
        }
    }

    /// The records of mailboxes.db by uniqueid of these folders ([`Site::id_records`]).
    pub async fn id_records(&mut self, io: &Io, owner: &Owner, folders: &[Folder]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
        match self {
            Origin::Local(site) => site.id_records(io, folders).await,
            Origin::Native(client) => client.id_records(owner).await,
            Origin::Stock(_) => Ok(Vec::new()),
        }
    }

    /// Says which messages of a folder will be asked for, in this order, so that they can be on their way.
    pub fn announce_messages(&mut self, folder: &Folder, wishes: Vec<Wish>) {
        match self {
            Origin::Local(_) => {}
            Origin::Native(client) => client.announce_messages(folder, wishes),
            Origin::Stock(client) => client.announce_messages(folder, wishes),
        }
    }

    /// One message. With `second` the place that comes second, because what the first has is not what it should be; `None` if
    /// there is no such place.
    ///
    /// An error is one of the connection or of this host's scratch files; what is wrong with the message is in the result.
    pub async fn message(
        &mut self,
        io: &Io,
        owner: &Owner,
        folder: &Folder,
        wish: Wish,
        buffer: Vec<u8>,
    ) -> Result<Option<Result<Message, Lack>>, Error> {
        match self {
            Origin::Local(_) => local_message(io, folder, wish, buffer).await,
            Origin::Native(client) => client.message(io, owner, folder, wish, buffer).await,
            Origin::Stock(client) => client.message(io, owner, folder, wish, buffer).await,
        }
    }

    /// The version of Cyrus, worded for a commit record.
    pub fn cyrus(&self) -> String {
        match self {
            Origin::Local(site) => site.version_shown(),
            Origin::Native(client) => shown(client.facts().cyrus.as_bytes()),
            Origin::Stock(client) => client.cyrus(),
        }
    }
}

async fn local_message(
    io: &Io,
    folder: &Folder,
    wish: Wish,
    mut buffer: Vec<u8>,
) -> Result<Option<Result<Message, Lack>>, Error> {
    let mut lack = None;
    for place in message::candidates(&folder.paths, wish.uid, wish.archived).iter().skip(usize::from(wish.second)) {
        match message::read(io, place, core::mem::take(&mut buffer)).await {
            Ok(Found::Whole(content, stat)) => return Ok(Some(Ok(Message::Whole { content, mtime: stat.mtime }))),
            Ok(Found::Large(file, stat)) => {
                let result = copy(io, file, stat.mtime).await;
                close(io, file).await;
                match result? {
                    Ok(message) => return Ok(Some(Ok(message))),
                    Err(fault) => {
                        let why = Lacking::Unreadable(Error::world("read", place.shown(), fault));
                        lack.get_or_insert(Lack { why, path: place.shown() });
                    }
                }
            }
            // What was found first says more than that the other place has nothing.
            Err(why) => drop(lack.get_or_insert(Lack { why, path: place.shown() })),
        }
    }
    Ok(lack.map(Err))
}

/// Copies a large message to a scratch file, because its SHA-1 must be known before its entry begins.
async fn copy(io: &Io, file: FileId, mtime: Time) -> Result<Result<Message, Fault>, Error> {
    let mut scratch = Scratch::new(io).await?;
    loop {
        let piece = core::mem::take(&mut scratch.spare);
        match io.read_at(file, scratch.size, PIECE, piece).await {
            Ok(piece) if piece.is_empty() => return Ok(Ok(scratch.finish(mtime))),
            Ok(piece) => scratch.add(io, piece).await?,
            Err(fault) => {
                close(io, scratch.file).await;
                return Ok(Err(fault));
            }
        }
    }
}

/// Reads a large message into a scratch file. `None` if the server could not read it to its end.
async fn large(stream: &mut Stream, io: &Io, block: &Block) -> Result<Option<Message>, Error> {
    if block.size > MESSAGE_MAX {
        return Err(stream.too_large(block, MESSAGE_MAX));
    }
    let mut scratch = Scratch::new(io).await?;
    let mut left = block.size;
    let mut batch = Vec::with_capacity(PIECE);
    while left > 0 {
        let piece = match stream.piece(left.min((PIECE - batch.len()) as u64)).await {
            Ok(piece) => piece,
            Err(error) => {
                close(io, scratch.file).await;
                return Err(error);
            }
        };
        batch.extend_from_slice(piece);
        left -= piece.len() as u64;
        if batch.len() == PIECE || left == 0 {
            scratch.add(io, batch).await?;
            batch = core::mem::take(&mut scratch.spare);
        }
    }
    let file = scratch.file;
    let Message::Large { guid, .. } = &scratch.finish(block.mtime) else { return Ok(None) };
    let (guid, size) = (*guid, block.size);
    match stream.finish(block, guid).await {
        Ok(Some(_)) => Ok(Some(Message::Large { scratch: file, size, guid, mtime: block.mtime })),
        other => {
            close(io, file).await;
            other.map(|_| None)
        }
    }
}

/// A large message on its way into a scratch file.
struct Scratch {
    file: FileId,
    size: u64,
    hash: Sha1,
    spare: Vec<u8>,
}

impl Scratch {
    async fn new(io: &Io) -> Result<Scratch, Error> {
        let file = io.scratch().await.map_err(|fault| Error::world("create", "scratch file", fault))?;
        Ok(Scratch { file, size: 0, hash: Sha1::new(), spare: Vec::new() })
    }

    async fn add(&mut self, io: &Io, piece: Vec<u8>) -> Result<(), Error> {
        self.hash.update(&piece);
        let len = piece.len() as u64;
        match io.write_at(self.file, self.size, piece).await {
            Ok(spare) => self.spare = spare,
            Err(fault) => {
                close(io, self.file).await;
                return Err(Error::world("write", "scratch file", fault));
            }
        }
        self.size += len;
        Ok(())
    }

    fn finish(self, mtime: Time) -> Message {
        Message::Large { scratch: self.file, size: self.size, guid: self.hash.finish(), mtime }
    }
}
