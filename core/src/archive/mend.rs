//! Mending the end of an archive (FORMAT.md section 7).
//!
//! Without its end an archive cannot tell a run that was killed from a copy that was cut or a block that was lost. So every
//! message that is whole behind the newest commit is taken over into a checkpoint; what is not taken over is set aside before
//! it is cut off. Memory: one member, 36 bytes for each message taken over. What must not come in: folders, and what runs do.

use super::append::{ASIDE, DIR_NAMES_MAX, NEW, Writer};
use super::blocks::{Block, Blocks};
use super::entry::{Entry, EntryKind, EntryReader, Piece, Step, entry_len};
use super::member::{CONTINUES, FOOTER_LEN, Footer, Kind, TO_BE_CONTINUED};
use super::read::{End, Reader, read_at};
use super::record::{COMMIT_MAX, Commit, CommitFacts, CommitKind, Location, MessageAt};
use super::walk::{Event, Walk};
use crate::error::{Damage, Error, Fault};
use crate::guid::{Guid, Sha1};
use crate::io::{How, Io, Place};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The `source` of a checkpoint that mending has made.
pub(crate) const MENDED: &str = "mended";
/// Bytes copied at once when the end of an archive is set aside.
const COPY: usize = 1 << 20;
/// A message up to this size is gathered in memory.
const IN_MEMORY_MAX: u64 = 1 << 20;

/// What stands behind the newest commit.
#[derive(Default)]
struct Tail {
    /// Messages in the whole members right behind it, which stay where they are.
    stay: Vec<MessageAt>,
    /// Where the last of these members ends.
    end: u64,
    /// Messages that are whole behind that, and that the archive has nowhere else.
    others: BTreeSet<Guid>,
}

impl Writer {
    /// Takes over what is whole behind the head, sets aside what is behind that, cuts it off, and writes the end.
    pub(super) async fn mend(&mut self) -> Result<(), Error> {
        let head = self.reader.head.clone();
        let tail = self.look().await?;
        let cut = self.reader.len - tail.end;
        let mut aside = None;
        if cut > 0 {
            let place = self.aside_place(head.commit.number, tail.end).await?;
            self.set_aside(&place, tail.end).await?;
            aside = Some(place);
        }
        if let Err(fault) = self.reader.io.truncate(self.out.file, tail.end).await {
            return self.out.fail("truncate", fault);
        }
        // A footer promises that what it closes is durable; if the run was killed, its commit may be in the page cache only.
        if let Err(fault) = self.reader.io.sync(self.out.file).await {
            return self.out.fail("sync", fault);
        }
        let count = tail.stay.len() + tail.others.len();
        self.note(count, cut, aside.as_ref());
        if count == 0 {
            self.end_with(&head).await?;
            self.out.at = self.reader.end;
            return Ok(());
        }
        self.out.at = tail.end;
        for MessageAt { guid, at, size } in tail.stay {
            let token = self.out.stands(at);
            self.out.raw += entry_len(&super::append::message_name(&guid), size);
            self.messages.push((guid, size, token));
        }
        if let Some(aside) = aside.filter(|_| !tail.others.is_empty()) {
            self.take_over(&aside, tail.others).await?;
        }
        self.out.settle().await?;
        let time = self.reader.io.now();
        let facts = CommitFacts { time, source: String::from(MENDED), cyrus: String::new(), standing: None, dead: 0 };
        let messages = self.list(time).await?;
        self.finish_with(CommitKind::Checkpoint, head.commit.table, messages, facts, |_| ()).await.map(drop)
    }

    fn note(&mut self, messages: usize, cut: u64, aside: Option<&Place>) {
        let number = self.reader.head.commit.number;
        if messages > 0 {
            let what = format!("the end of the archive was missing; {messages} whole messages behind commit {number} are kept");
            self.notes.push(what);
        }
        let Some(aside) = aside else { return };
        self.notes.push(match self.reader.state {
            End::Damaged => format!("{cut} bytes behind commit {number} were damaged, and are kept in {}", aside.shown()),
            _ => format!("an interrupted run was found; {cut} bytes that it had not committed are repeated"),
        });
    }

    /// What is whole behind the head. Behind a footer nothing is looked for: it may be somebody else's mail.
    async fn look(&self) -> Result<Tail, Error> {
        let end = self.reader.end;
        let head =
            read_at(&self.reader.io, self.reader.file, end, FOOTER_LEN).await.map_err(|error| self.reader.named(error))?;
        if Footer::parse(&head).is_ok() {
            return Ok(Tail { end, ..Tail::default() });
        }
        let mut tail = whole_members(&self.reader).await?;
        if tail.end < self.reader.len {
            tail.others = others(&self.reader, tail.end).await?;
        }
        if !tail.others.is_empty() {
            let (known, _) = self.reader.catalogue().await?;
            let stay: BTreeSet<Guid> = tail.stay.iter().map(|message| message.guid).collect();
            tail.others.retain(|guid| !known.contains(guid) && !stay.contains(guid));
        }
        Ok(tail)
    }

    /// Appends these messages, which the file that was set aside has whole.
    async fn take_over(&mut self, aside: &Place, mut wanted: BTreeSet<Guid>) -> Result<(), Error> {
        let io = self.reader.io.clone();
        let file = io.open(aside, How::Read).await.map_err(|fault| Error::world("open", aside.shown(), fault))?;
        let taken = async {
            let mut blocks = Blocks::members(&io, file, aside.shown(), 0).await?;
            let mut walk = Walk::new();
            let mut held: Option<(Entry, Guid, Vec<u8>)> = None;
            while (held.is_some() || !wanted.is_empty())
                && let Some(block) = blocks.next().await?
            {
                if block.footer.is_some() {
                    break;
                }
                for event in walk.events(&block) {
                    self.take_event(event, &block, &mut held, &mut wanted).await?;
                }
            }
            Ok(())
        };
        let taken = taken.await;
        let _ = io.close(file).await;
        if let Err(error) = &taken {
            self.out.failed = Some(Error::clone(error));
        }
        taken
    }

    async fn take_event(
        &mut self,
        event: Event,
        block: &Block,
        held: &mut Option<(Entry, Guid, Vec<u8>)>,
        wanted: &mut BTreeSet<Guid>,
    ) -> Result<(), Error> {
        match event {
            Event::Begin(entry) => {
                let Some(guid) = message_of(&entry).filter(|guid| wanted.contains(guid)) else { return Ok(()) };
                if entry.size > IN_MEMORY_MAX {
                    // Only the first of this name is known to be whole.
                    wanted.remove(&guid);
                    self.begin_message(guid, entry.size, entry.mtime).await?;
                }
                *held = Some((entry, guid, Vec::new()));
            }
            Event::Content(range) => {
                let piece = block.raw.get(range).unwrap_or_default();
                match held {
                    Some((entry, ..)) if entry.size > IN_MEMORY_MAX => self.piece(piece).await?,
                    Some((.., content)) => content.extend_from_slice(piece),
                    None => {}
                }
            }
            Event::End => match held.take() {
                Some((entry, ..)) if entry.size > IN_MEMORY_MAX => self.end_message().await?,
                Some((entry, guid, content)) if Guid::of(&content) == guid && wanted.remove(&guid) => {
                    self.message(guid, entry.mtime, &content).await?;
                }
                _ => {}
            },
            Event::Cut => {
                if let Some((entry, ..)) = held.take().filter(|(entry, ..)| entry.size > IN_MEMORY_MAX) {
                    let found = String::from("an end within it");
                    return Err(Damage::new("archive", block.bytes.0, "message", found, format!("{} bytes", entry.size)).into());
                }
            }
            Event::NoHeader => {}
        }
        Ok(())
    }

    /// A free name for bytes that are set aside: those that are kept already may be the only ones, for the crash of a mending
    /// changes what the next one finds.
    async fn aside_place(&self, number: u64, end: u64) -> Result<Place, Error> {
        let name = [ASIDE, format!("{number}-{end}").as_bytes()].concat();
        self.free_aside(&name, format!("-{}", self.reader.state.word()).as_bytes()).await
    }

    /// The first name of this kind that is free.
    async fn free_aside(&self, name: &[u8], word: &[u8]) -> Result<Place, Error> {
        let place = |infix: String| self.reader.dir.join(&[name, infix.as_bytes(), word].concat());
        for n in 1..=DIR_NAMES_MAX {
            let place = place(if n == 1 { String::new() } else { format!(".{n}") });
            match self.reader.io.stat(&place).await {
                Err(Fault::NotFound) => return Ok(place),
                Ok(_) => {}
                Err(fault) => return Err(Error::world("stat", place.shown(), fault)),
            }
        }
        let (limit, found) = (DIR_NAMES_MAX as u64, DIR_NAMES_MAX as u64 + 1);
        Err(Error::Limit { object: place(String::new()).shown(), limit, found })
    }

    /// Copies the file from this offset on, durably.
    async fn set_aside(&mut self, place: &Place, from: u64) -> Result<(), Error> {
        let io = self.reader.io.clone();
        let result = copy_aside(&io, &self.reader, place, from).await;
        if let Err(error) = &result {
            // A part of it is worth nothing, and takes the space that may be lacking.
            let _ = io.unlink(place).await;
            self.out.failed = Some(error.clone());
        }
        result
    }

    /// Messages that mending has taken over since the last snapshot. A list that cannot be read has none.
    pub(crate) async fn taken_over(&self) -> Result<BTreeSet<Guid>, Error> {
        let mut taken = BTreeSet::new();
        let mut at = Some(self.reader.head.clone());
        while let Some(commit) = at.filter(|at| at.commit.kind == CommitKind::Checkpoint) {
            if commit.commit.source == MENDED {
                match self.reader.messages(&commit).await {
                    Ok(list) => taken.extend(list.iter().map(|message| message.guid)),
                    Err(Error::Damage(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            at = match self.reader.previous(&commit).await {
                Ok(previous) => previous,
                Err(Error::Damage(_)) => None,
                Err(error) => return Err(error),
            };
        }
        Ok(taken)
    }

    /// Deals with what interrupted runs and compactions left, now that a snapshot is acknowledged: it is removed, or kept as
    /// damaged bytes are, for it may say where messages were that are in no folder.
    pub(super) async fn clear_interrupted(&mut self, keep: bool) {
        let io = &self.reader.io;
        let names = io.list(&self.reader.dir, DIR_NAMES_MAX).await.unwrap_or_default();
        for entry in names {
            let place = self.reader.dir.join(&entry.name);
            let kept = entry.name.strip_suffix(INTERRUPTED).filter(|name| name.starts_with(ASIDE));
            // Nobody else holds the lock, so nobody is writing it. What cannot be done now is done after the next snapshot.
            match kept {
                Some(name) if keep => {
                    if let Ok(to) = self.free_aside(name, DAMAGED).await {
                        let _ = io.rename(&place, &to).await;
                    }
                }
                Some(_) => drop(io.unlink(&place).await),
                None if entry.name == NEW => drop(io.unlink(&place).await),
                None => {}
            }
        }
    }
}

const INTERRUPTED: &[u8] = b"-interrupted";
const DAMAGED: &[u8] = b"-damaged";

async fn copy_aside(io: &Io, reader: &Reader, place: &Place, from: u64) -> Result<(), Error> {
    let to = io.open(place, How::Create).await.map_err(|f| Error::world("create", place.shown(), f))?;
    let copied = async {
        let mut at = from;
        loop {
            let piece = read_at(io, reader.file, at, COPY).await.map_err(|error| reader.named(error))?;
            let world = |fault| Error::world("write", place.shown(), fault);
            if piece.is_empty() {
                return io.sync(to).await.map_err(world);
            }
            let len = piece.len() as u64;
            io.write_at(to, at - from, piece).await.map_err(world)?;
            at += len;
        }
    };
    let copied = copied.await;
    let _ = io.close(to).await;
    copied?;
    io.sync_dir(&reader.dir).await.map_err(|f| Error::world("sync", reader.dir.shown(), f))
}

/// The SHA-1 in the name of a message's entry.
fn message_of(entry: &Entry) -> Option<Guid> {
    let guid = entry.name.strip_prefix(b"files/").and_then(Guid::from_hex)?;
    matches!(entry.kind, EntryKind::File(_)).then_some(guid)
}

/// The whole members of messages right behind the head, as far as each of their entries is a message and its SHA-1.
async fn whole_members(reader: &Reader) -> Result<Tail, Error> {
    let mut tail = Tail { end: reader.end, ..Tail::default() };
    let (mut entries, mut at) = (EntryReader::new(), reader.end);
    let mut found = Vec::new();
    let mut open: Option<(MessageAt, Sha1)> = None;
    loop {
        let (info, raw) = match reader.member(at).await {
            Ok(member) => member,
            Err(Error::Damage(_)) => return Ok(tail),
            Err(error) => return Err(error),
        };
        let begins = info.flags & CONTINUES == 0;
        if info.kind != Kind::Data || begins != open.is_none() {
            return Ok(tail);
        }
        let mut piece = Piece::new(&raw);
        loop {
            match entries.step(&mut piece) {
                Ok(Step::Header(entry, inside)) => {
                    let Some(guid) = message_of(&entry) else { return Ok(tail) };
                    let at = Location { member: at, inside: inside as u32 };
                    open = Some((MessageAt { guid, at, size: entry.size }, Sha1::new()));
                }
                Ok(Step::Content(bytes)) => {
                    if let Some((_, hash)) = &mut open {
                        hash.update(bytes);
                    }
                }
                Ok(Step::EndOfEntry) => {
                    let whole = open.take().filter(|(message, hash)| hash.clone().finish() == message.guid);
                    let Some((message, _)) = whole else { return Ok(tail) };
                    found.push(message);
                }
                Ok(Step::Feed) => break,
                Err(_) => return Ok(tail),
            }
        }
        at += u64::from(info.len);
        let ends = info.flags & TO_BE_CONTINUED == 0;
        if ends != (open.is_none() && entries.is_between_entries()) {
            return Ok(tail);
        }
        if ends {
            tail.stay.append(&mut found);
            tail.end = at;
        }
    }
}

/// What is looked for in damaged bytes.
#[derive(Default)]
struct Finder {
    current: Option<(Entry, Sha1, Vec<u8>)>,
    /// Messages that a commit of this archive closes, and those behind it.
    proved: BTreeSet<Guid>,
    since: BTreeSet<Guid>,
}

/// Messages from `from` on that are whole, whatever is damaged around them. What a commit of another archive closes, and what
/// is behind a footer, may be somebody else's mail: it is set aside, and not taken over.
async fn others(reader: &Reader, from: u64) -> Result<BTreeSet<Guid>, Error> {
    let mut finder = Finder::default();
    let mut walk = Walk::new();
    let mut blocks = Blocks::members(&reader.io, reader.file, reader.place().shown(), from).await?;
    while let Some(block) = blocks.next().await? {
        if block.footer.is_some() {
            break;
        }
        for event in walk.events(&block) {
            if !finder.event(event, &block, &reader.head.commit.archive) {
                return Ok(finder.proved);
            }
        }
    }
    finder.proved.append(&mut finder.since);
    Ok(finder.proved)
}

impl Finder {
    /// False if what was found since the last commit belongs to another archive.
    fn event(&mut self, event: Event, block: &Block, archive: &[u8; 16]) -> bool {
        match event {
            Event::Begin(entry) => self.current = Some((entry, Sha1::new(), Vec::new())),
            Event::Content(range) => {
                let Some((entry, hash, text)) = &mut self.current else { return true };
                let piece = block.raw.get(range).unwrap_or_default();
                hash.update(piece);
                if entry.name == b"meta/commit" && text.len() + piece.len() <= COMMIT_MAX {
                    text.extend_from_slice(piece);
                }
            }
            Event::End => {
                let Some((entry, hash, text)) = self.current.take() else { return true };
                if let Some(guid) = message_of(&entry).filter(|guid| *guid == hash.finish()) {
                    self.since.insert(guid);
                } else if entry.name == b"meta/commit"
                    && let Ok(commit) = Commit::parse(&text)
                {
                    if commit.archive != *archive {
                        return false;
                    }
                    self.proved.append(&mut self.since);
                }
            }
            Event::Cut => self.current = None,
            Event::NoHeader => {}
        }
        true
    }
}
