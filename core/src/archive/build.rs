//! Writing an archive as a whole into a new file, from its first member to its footer. What it is made of, the caller says.
//!
//! Memory: what [`super::pack`] takes, and 36 bytes for each message since the last commit. What must not come in: what becomes
//! of the file.

use super::append::{ABOUT, Settings, footer_of, message_name};
use super::entry;
use super::member::Kind;
use super::pack::Packer;
use super::read::CommitAt;
use super::record::{Commit, CommitKind, Part, Slot, Table};
use crate::error::{Error, Fault};
use crate::guid::Guid;
use crate::io::{FileId, How, Io, Place};
use crate::time::Time;
use alloc::string::String;
use alloc::vec::Vec;

/// A file that was written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Built {
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// SHA-1 of the headers and trailers of its members, one behind the other, without its footer.
    pub(crate) seams: Guid,
    /// The SHA-1 of its newest record.
    pub(crate) head: Guid,
}

/// An archive under way.
pub(crate) struct Builder {
    io: Io,
    out: Packer,
    messages: Vec<(Guid, u64, u32)>,
    last: Option<CommitAt>,
    table: Option<Part>,
    /// Messages and bytes of content so far.
    totals: (u64, u64),
}

impl Builder {
    /// Creates the file, which must not be there.
    pub(crate) async fn create(io: &Io, place: &Place, settings: &Settings) -> Result<Builder, Error> {
        let file = io.open(place, How::Create).await.map_err(|fault| Error::world("create", place.shown(), fault))?;
        let out = Packer::new(io, file, 0, place.shown(), settings);
        let mut builder = Builder { io: io.clone(), out, messages: Vec::new(), last: None, table: None, totals: (0, 0) };
        match builder.out.part(Kind::Head, b"meta/about", io.now(), ABOUT.as_bytes()).await {
            Ok(_) => Ok(builder),
            Err(error) => {
                builder.close().await;
                Err(error)
            }
        }
    }

    /// Closes a file that was given up.
    pub(crate) async fn close(self) {
        self.out.close().await;
    }

    /// Begins a message, whose content follows in pieces.
    pub(crate) async fn begin_message(&mut self, guid: Guid, size: u64, mtime: Time) -> Result<(), Error> {
        self.out.good()?;
        let mut header = Vec::new();
        entry::emit_file(&mut header, &message_name(&guid), size, mtime, Some(guid));
        let token = self.out.begin_large(Kind::Data, &header, size).await?;
        self.messages.push((guid, size, token));
        Ok(())
    }

    /// The next piece of the message.
    pub(crate) async fn piece(&mut self, piece: &[u8]) -> Result<(), Error> {
        self.out.good()?;
        self.out.large_piece(piece).await
    }

    /// Ends the message.
    pub(crate) async fn end_message(&mut self) -> Result<(), Error> {
        self.out.good()?;
        self.out.end_large().await
    }

    /// A whole message.
    pub(crate) async fn message(&mut self, guid: Guid, mtime: Time, content: &[u8]) -> Result<(), Error> {
        let token = self.out.add(Kind::Data, &message_name(&guid), mtime, content, Some(guid)).await?;
        self.messages.push((guid, content.len() as u64, token));
        Ok(())
    }

    /// A metadata file; without SHA-1 and content an entry that says that it is gone.
    pub(crate) async fn file(&mut self, name: &[u8], mtime: Time, content: &[u8], sha1: Option<Guid>) -> Result<u32, Error> {
        self.out.add(Kind::Meta, name, mtime, content, sha1).await
    }

    /// A symbolic link.
    pub(crate) async fn link(&mut self, name: &[u8], target: &[u8], mtime: Time) -> Result<u32, Error> {
        self.out.good()?;
        let mut header = Vec::new();
        entry::emit_link(&mut header, name, target, mtime);
        self.out.gather(Kind::Meta, &header, b"").await
    }

    /// Closes what was written since the last commit, and for a snapshot writes its table. Places, chain and counts of `commit`
    /// are made here.
    pub(crate) async fn commit(&mut self, commit: Commit, table: Option<Table>) -> Result<(), Error> {
        self.out.good()?;
        self.out.settle().await?;
        let added_raw = core::mem::take(&mut self.out.raw);
        let messages = self.out.list(&core::mem::take(&mut self.messages), commit.time).await?;
        if let (CommitKind::Snapshot, Some(mut table)) = (commit.kind, table) {
            for slot in table.slots() {
                if let Slot::Pending(token) = *slot {
                    match self.out.locations.get(token as usize) {
                        Some(location) => *slot = Slot::At(*location),
                        None => return self.out.fail("commit", Fault::Driver),
                    }
                }
            }
            self.table = Some(self.out.part(Kind::Table, b"meta/folders", commit.time, &table.emit()).await?);
        }
        let added_messages = messages.map_or(0, |(_, count)| count);
        self.totals = (self.totals.0 + added_messages, self.totals.1 + added_raw);
        let commit = Commit {
            previous: self.last.as_ref().map(|last| last.part),
            table: self.table,
            messages,
            total_messages: self.totals.0,
            total_raw: self.totals.1,
            total_dead: 0,
            added_messages,
            added_raw,
            ..commit
        };
        let part = self.out.part(Kind::Commit, b"meta/commit", commit.time, &commit.emit()).await?;
        self.last = Some(CommitAt { commit, part });
        Ok(())
    }

    /// Writes the footer, syncs and closes.
    pub(crate) async fn finish(mut self) -> Result<Built, Error> {
        let result = self.end().await;
        self.out.close().await;
        result
    }

    async fn end(&mut self) -> Result<Built, Error> {
        self.out.good()?;
        let Some(head) = self.last.take() else {
            return Err(Error::Refused(String::from("there is nothing to make an archive of")));
        };
        let (file, at, footer): (FileId, u64, Vec<u8>) = (self.out.file, self.out.at, footer_of(&head).emit());
        let built = Built { bytes: at + footer.len() as u64, seams: self.out.seams(), head: head.part.sha1 };
        if let Err(fault) = self.io.write_at(file, at, footer).await {
            return self.out.fail("write", fault);
        }
        match self.io.sync(file).await {
            Ok(()) => Ok(built),
            Err(fault) => self.out.fail("sync", fault),
        }
    }
}
