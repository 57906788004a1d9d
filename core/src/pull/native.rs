//! The client of the native dialect.
//!
//! Questions go ahead of their answers, so that the number of round trips does not grow with the number of folders, and hardly
//! with that of users. The server answers in order; what was asked for and is not wanted any more is read over. What must not
//! come in: archives.

use super::{Lack, Message, large};
use crate::cyrus::names::Owner;
use crate::error::{Damage, Error};
use crate::escape::shown;
use crate::io::Io;
use crate::source::capture::{Capture, Captured, META_MAX, STATE_MAX, Wanted};
use crate::source::message::{IN_MEMORY_MAX, Lacking, MESSAGE_MAX};
use crate::source::{Ask, Folder, MAILBOX_ANNOTATIONS, MetaFile, Pass};
use crate::time::Span;
use crate::wire::native::{self, Facts, Order, PassReader, Wish, Wishes, parse_file, parse_folder, words};
use crate::wire::stream::{Block, Limits, Stream};
use crate::wire::{ANSWER_LINE_MAX, ANSWER_LINES_MAX, VERSION};
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Messages that one request names.
const WISHES_AT_ONCE: usize = 256;
/// Messages that are asked for ahead of their answers. As many requests fit into any pipe, so neither side waits for the other
/// to read.
const AHEAD: usize = 2048;
/// Answers to announced passes that are kept because something else was asked in between, in bytes of their lines.
const KEPT_MAX: u64 = 32 << 20;
/// Bytes of all user files and annotations of one capture, which are kept in memory.
const CONTENTS_MAX: u64 = 512 << 20;
/// Words that a refusal may begin with.
const BUSY: &[u8] = b"busy ";

/// What a server said to the greeting.
pub enum Greeted {
    /// It speaks the native dialect.
    Native(alloc::boxed::Box<Client>),
    /// It speaks the stock dialect, and has this name.
    Stock(alloc::boxed::Box<Stream>, Vec<u8>),
}

/// A connection to a server that speaks the native dialect.
pub struct Client {
    stream: Stream,
    slot: String,
    facts: Facts,
    /// Passes that were asked for and not read.
    asked: VecDeque<(Owner, Ask)>,
    /// Passes that were read before they were wanted.
    kept: VecDeque<(Owner, Ask, Result<Pass, Error>, u64)>,
    /// Messages to be asked for, by folder.
    wishes: VecDeque<(Vec<u8>, VecDeque<Wish>)>,
    /// Requests for messages that were sent and not answered to the end.
    requested: VecDeque<(Vec<u8>, VecDeque<Wish>)>,
    /// The first of `requested` has had its `OK`.
    open: bool,
    ahead: usize,
}

/// Connects to `peer` and finds out what it speaks.
pub async fn connect(io: &Io, peer: &str, limits: Limits) -> Result<Greeted, Error> {
    let mut stream = Stream::connect(io, peer, Limits { line: ANSWER_LINE_MAX, ..limits }).await?;
    stream.send(format!("CYLINDER - version={VERSION}\n").as_bytes()).await?;
    let line = stream.some_line().await?.to_vec();
    if let Some(name) = line.strip_prefix(b"NO iam ") {
        return Ok(Greeted::Stock(alloc::boxed::Box::new(stream), name.to_vec()));
    }
    if line != b"OK" {
        return Err(stream.unexpected(&line, "`OK`, or the `NO iam` of a stock server"));
    }
    let line = stream.some_line().await?.to_vec();
    let facts = Facts::parse(&line).map_err(|damage| stream.broken(damage.to_string()))?;
    let line = stream.some_line().await?.to_vec();
    if line != b"DONE CYLINDER" {
        return Err(stream.unexpected(&line, "`DONE CYLINDER`"));
    }
    let slot = crate::wire::words::encode(&facts.servername);
    Ok(Greeted::Native(alloc::boxed::Box::new(Client {
        stream,
        slot: if slot.is_empty() { String::from("-") } else { slot },
        facts,
        asked: VecDeque::new(),
        kept: VecDeque::new(),
        wishes: VecDeque::new(),
        requested: VecDeque::new(),
        open: false,
        ahead: 0,
    })))
}

impl Client {
    /// What the server says of itself.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// How often something was sent and then waited for.
    pub fn round_trips(&self) -> u64 {
        self.stream.round_trips()
    }

    /// Ends the connection.
    pub async fn close(self) {
        self.stream.close().await;
    }

    fn damaged(&self, damage: Damage) -> Error {
        self.stream.broken(damage.to_string())
    }

    /// Everybody who has a mailbox there.
    pub async fn owners(&mut self) -> Result<Vec<Owner>, Error> {
        self.drain().await?;
        self.stream.send(format!("OWNERS {}\nEND\n", self.slot).as_bytes()).await?;
        self.ok().await?;
        let mut owners = Vec::new();
        let mut budget = ANSWER_LINES_MAX;
        loop {
            let Client { stream, .. } = self;
            let line = answer_line(stream, &mut budget).await?;
            if line == b"DONE OWNERS" {
                break;
            }
            let parsed = if line.starts_with(b"OWNER ") { native::owner(&words(line)).ok() } else { None };
            match parsed {
                Some(owner) => owners.push(owner),
                None => {
                    let line = line.to_vec();
                    return Err(self.stream.unexpected(&line, "`OWNER user=` or `DONE OWNERS`"));
                }
            }
        }
        owners.sort();
        owners.dedup();
        Ok(owners)
    }

    /// Asks for a pass, whose answer is read later.
    pub async fn announce_pass(&mut self, owner: &Owner, ask: &Ask) -> Result<(), Error> {
        let mut request = String::new();
        ask.emit(&mut request, &self.slot, owner);
        self.stream.send(request.as_bytes()).await?;
        self.asked.push_back((owner.clone(), ask.clone()));
        Ok(())
    }

    /// The pass of `owner`.
    pub async fn pass(&mut self, owner: &Owner, ask: &Ask) -> Result<Pass, Error> {
        if let Some(at) = self.kept.iter().position(|(o, a, ..)| o == owner && a == ask)
            && let Some((_, _, pass, _)) = self.kept.remove(at)
        {
            return pass;
        }
        self.drop_messages().await?;
        while let Some((announced, its)) = self.asked.pop_front() {
            let (pass, bytes) = self.read_pass().await?;
            if announced == *owner && its == *ask {
                return pass;
            }
            self.keep(announced, its, pass, bytes);
        }
        self.announce_pass(owner, ask).await?;
        self.asked.pop_back();
        self.read_pass().await?.0
    }

    fn keep(&mut self, owner: Owner, ask: Ask, pass: Result<Pass, Error>, bytes: u64) {
        let kept: u64 = self.kept.iter().map(|(.., bytes)| bytes).sum();
        // One that is not kept will be asked for again.
        if kept + bytes <= KEPT_MAX {
            self.kept.push_back((owner, ask, pass, bytes));
        }
    }

    /// Reads the answer to a `PASS`, and how long it was. The inner error leaves the connection usable.
    async fn read_pass(&mut self) -> Result<(Result<Pass, Error>, u64), Error> {
        match self.ok().await {
            Ok(()) => {}
            Err(error @ Error::Peer { .. }) => return Err(error),
            Err(error) => return Ok((Err(error), 0)),
        }
        let mut reader = PassReader::default();
        let mut budget = ANSWER_LINES_MAX;
        loop {
            let line = answer_line(&mut self.stream, &mut budget).await?;
            if line == b"DONE PASS" {
                break;
            }
            if let Some(error) = refused(line) {
                // In the midst of an answer: the server could not go on.
                return Ok((Err(error), ANSWER_LINES_MAX - budget));
            }
            let words = words(line);
            match reader.take(&words) {
                Ok(true) => {}
                Ok(false) => {
                    let line = line.to_vec();
                    return Err(self.stream.unexpected(&line, "a line of a pass, or `DONE PASS`"));
                }
                Err(damage) => return Err(self.damaged(damage)),
            }
        }
        let pass = reader.finish().map_err(|damage| self.damaged(damage))?;
        Ok((Ok(pass), ANSWER_LINES_MAX - budget))
    }

    /// Reads the first line of an answer. A refusal is no error of the connection.
    async fn ok(&mut self) -> Result<(), Error> {
        let line = self.stream.some_line().await?;
        if line == b"OK" {
            return Ok(());
        }
        if let Some(error) = refused(line) {
            return Err(error);
        }
        let line = line.to_vec();
        Err(self.stream.unexpected(&line, "`OK` or `NO`"))
    }

    /// Reads what was announced and is still on its way.
    async fn drain(&mut self) -> Result<(), Error> {
        self.drop_messages().await?;
        while let Some((owner, ask)) = self.asked.pop_front() {
            let (pass, bytes) = self.read_pass().await?;
            self.keep(owner, ask, pass, bytes);
        }
        Ok(())
    }

    /// The capture of what is `wanted`.
    pub async fn capture(
        &mut self,
        io: &Io,
        owner: &Owner,
        first: &Pass,
        wanted: &Wanted,
        ask: &Ask,
    ) -> Result<Capture, Error> {
        self.drain().await?;
        let mut request = String::new();
        Order::new(first, wanted, &ask.quota_roots).emit(&mut request, &self.slot, owner);
        self.stream.send(request.as_bytes()).await?;
        drop(request);
        self.ok().await?;
        let mut capture = Capture::default();
        match self.read_capture(io, &mut capture).await {
            Ok(()) => Ok(capture),
            Err(error) => {
                capture.finish(io).await;
                Err(error)
            }
        }
    }

    async fn read_capture(&mut self, io: &Io, capture: &mut Capture) -> Result<(), Error> {
        let mut reader = PassReader::default();
        let mut budget = ANSWER_LINES_MAX;
        let mut memory = CONTENTS_MAX;
        // The folder whose files are being read.
        let mut current: Option<Vec<u8>> = None;
        loop {
            let line = answer_line(&mut self.stream, &mut budget).await?.to_vec();
            if line == b"DONE CAPTURE" {
                break;
            }
            if let Some(error) = refused(&line) {
                return Err(error);
            }
            if line.starts_with(b"DATA ") {
                let folder = current.as_ref().ok_or_else(|| self.stream.unexpected(&line, "a CAPTURED line before it"))?;
                self.read_file(io, capture, folder, &line, &mut memory).await?;
                continue;
            }
            let words = words(&line);
            let taken = match words.first {
                b"FILE" if current.is_some() => {
                    let folder = current.as_ref().and_then(|name| capture.folders.get_mut(name));
                    folder.map_or(Ok(()), |captured| parse_file(&words, &mut captured.folder)).map(|()| true)
                }
                b"CAPTURED" => captured(&words).and_then(|captured| {
                    if capture.folders.contains_key(&captured.folder.name) {
                        return Err(words.damage("name", &shown(&captured.folder.name), "folders each once"));
                    }
                    current = Some(captured.folder.name.clone());
                    capture.put(captured);
                    Ok(true)
                }),
                b"CONTENT" => {
                    current = None;
                    self.read_content(&words, capture, reader.pass(), &mut memory).await?;
                    Ok(true)
                }
                _ => {
                    current = None;
                    other_line(&words, capture).and_then(|taken| if taken { Ok(true) } else { reader.take(&words) })
                }
            };
            match taken {
                Ok(true) => {}
                Ok(false) => return Err(self.stream.unexpected(&line, "a line of a capture, or `DONE CAPTURE`")),
                Err(damage) => return Err(self.damaged(damage)),
            }
        }
        capture.pass = reader.finish().map_err(|damage| self.damaged(damage))?;
        // What the pass does not have cannot have been captured.
        let Capture { pass, folders, .. } = capture;
        if let Some(name) = folders.keys().find(|name| pass.folders.binary_search_by(|f| f.name.cmp(name)).is_err()) {
            return Err(self.stream.unexpected(name, "folders that the pass has"));
        }
        Ok(())
    }

    /// Takes a metadata file of the folder that was captured last.
    async fn read_file(
        &mut self,
        io: &Io,
        capture: &mut Capture,
        folder: &[u8],
        line: &[u8],
        memory: &mut u64,
    ) -> Result<(), Error> {
        let block = self.stream.block(line)?;
        let Some(captured) = capture.folders.get_mut(folder) else { return Ok(()) };
        let mut bytes = Vec::new();
        if block.name == MAILBOX_ANNOTATIONS.as_bytes() {
            self.content(&block, *memory, &mut bytes).await?;
            *memory -= block.size;
            captured.annotations = bytes;
            return Ok(());
        }
        match MetaFile::ALL.into_iter().find(|file| file.name().as_bytes() == block.name) {
            Some(file) if captured.files().all(|had| had != file) => {
                self.content(&block, META_MAX, &mut bytes).await?;
                capture.put_file(io, folder, file, bytes).await
            }
            Some(_) => Err(self.stream.unexpected(line, "metadata files each once")),
            None => Err(self.stream.unexpected(line, "the name of a metadata file")),
        }
    }

    /// Takes a user file.
    async fn read_content(
        &mut self,
        words: &crate::lines::Words<'_>,
        capture: &mut Capture,
        pass: &Pass,
        memory: &mut u64,
    ) -> Result<(), Error> {
        let name = words.bytes("name").map_err(|damage| self.damaged(damage))?;
        if capture.states.contains_key(&name) || !pass.states.iter().any(|state| state.name == name) {
            return Err(self.stream.unexpected(&name, "files that the pass has, each once"));
        }
        let tuple =
            if words.get("size").is_some() { Some(words.tuple().map_err(|damage| self.damaged(damage))?) } else { None };
        let line = self.stream.some_line().await?.to_vec();
        let block = self.stream.block(&line)?;
        let mut bytes = Vec::new();
        self.content(&block, STATE_MAX.min(*memory), &mut bytes).await?;
        *memory -= block.size;
        capture.states.insert(name, (bytes, tuple));
        Ok(())
    }

    async fn content(&mut self, block: &Block, max: u64, bytes: &mut Vec<u8>) -> Result<(), Error> {
        match self.stream.content(block, max, bytes).await? {
            Some(_) => Ok(()),
            None => Err(self.stream.unexpected(b"DONE -", "a SHA-1: metadata come whole")),
        }
    }

    /// The records of mailboxes.db by uniqueid.
    pub async fn id_records(&mut self, owner: &Owner) -> Result<Vec<(Vec<u8>, Vec<u8>)>, Error> {
        self.drain().await?;
        let mut request = String::new();
        drop(native::emit_request(&mut request, "RECORDS", &self.slot, owner));
        request.push_str("END\n");
        self.stream.send(request.as_bytes()).await?;
        self.ok().await?;
        let mut records = Vec::new();
        let mut budget = ANSWER_LINES_MAX;
        loop {
            let line = answer_line(&mut self.stream, &mut budget).await?;
            if line == b"DONE RECORDS" {
                return Ok(records);
            }
            let words = words(line);
            match (words.first, words.bytes("key"), words.bytes("entry")) {
                (b"RECORD", Ok(key), Ok(entry)) => records.push((key, entry)),
                _ => {
                    let line = line.to_vec();
                    return Err(self.stream.unexpected(&line, "`RECORD key= entry=` or `DONE RECORDS`"));
                }
            }
        }
    }

    /// Messages that will be wanted.
    pub fn announce_messages(&mut self, folder: &Folder, wishes: Vec<Wish>) {
        self.wishes.push_back((folder.name.clone(), wishes.into()));
    }

    /// Forgets what was announced, and reads over what is on its way.
    async fn drop_messages(&mut self) -> Result<(), Error> {
        self.wishes.clear();
        self.skip_requested().await
    }

    async fn skip_requested(&mut self) -> Result<(), Error> {
        while !self.requested.is_empty() {
            self.skip_message().await?;
        }
        Ok(())
    }

    /// Asks for more messages as long as not too many are on their way.
    async fn request(&mut self, owner: &Owner) -> Result<(), Error> {
        while self.ahead < AHEAD {
            let Some((folder, wishes)) = self.wishes.front_mut() else { return Ok(()) };
            let now: VecDeque<Wish> = wishes.drain(..wishes.len().min(WISHES_AT_ONCE)).collect();
            let folder = folder.clone();
            if wishes.is_empty() {
                self.wishes.pop_front();
            }
            if !now.is_empty() {
                self.send_wishes(owner, folder, now).await?;
            }
        }
        Ok(())
    }

    async fn send_wishes(&mut self, owner: &Owner, folder: Vec<u8>, now: VecDeque<Wish>) -> Result<(), Error> {
        let wishes = Wishes { folder, messages: now.iter().copied().collect(), ..Wishes::default() };
        let mut request = String::new();
        wishes.emit(&mut request, &self.slot, owner);
        self.stream.send(request.as_bytes()).await?;
        self.ahead += now.len();
        self.requested.push_back((wishes.folder, now));
        Ok(())
    }

    /// One message.
    pub async fn message(
        &mut self,
        io: &Io,
        owner: &Owner,
        folder: &Folder,
        wish: Wish,
        buffer: Vec<u8>,
    ) -> Result<Option<Result<Message, Lack>>, Error> {
        if !self.asked.is_empty() {
            self.drain().await?;
        }
        loop {
            self.request(owner).await?;
            let next = self.requested.front().map(|(folder, wishes)| (folder, wishes.front()));
            match next {
                None => self.send_wishes(owner, folder.name.clone(), VecDeque::from([wish])).await?,
                Some((name, Some(first))) if *name == folder.name && *first == wish => break,
                Some(_) if self.is_on_its_way(&folder.name, wish) => self.skip_message().await?,
                // Out of order, which is rare: what is on its way is read over, and asked for once more.
                Some(_) => {
                    let again = self.requested.clone();
                    self.skip_requested().await?;
                    again.into_iter().rev().for_each(|wishes| self.wishes.push_front(wishes));
                    self.send_wishes(owner, folder.name.clone(), VecDeque::from([wish])).await?;
                    break;
                }
            }
        }
        let line = self.next_message().await?;
        if line.starts_with(b"LACK ") {
            let lack = self.lack(&line, wish)?;
            self.end_of_message().await?;
            return Ok(lack.map(Err));
        }
        let block = self.stream.block(&line)?;
        if block.name != wish.uid.to_string().as_bytes() {
            return Err(self.stream.unexpected(&line, &format!("message {}", wish.uid)));
        }
        let message = if block.size <= IN_MEMORY_MAX {
            let mut content = buffer;
            let whole = self.stream.content(&block, IN_MEMORY_MAX, &mut content).await?;
            whole.map(|_| Message::Whole { content, mtime: block.mtime })
        } else {
            large(&mut self.stream, io, &block).await?
        };
        self.end_of_message().await?;
        Ok(Some(message.ok_or_else(|| Lack {
            why: Lacking::Unreadable(Error::Refused(String::from("the server could not read it to its end"))),
            path: format!("UID {}", wish.uid),
        })))
    }

    /// Why a message is not sent; `None` if there is no second place for it.
    fn lack(&self, line: &[u8], wish: Wish) -> Result<Option<Lack>, Error> {
        let (name, lack) = native::Lack::parse(&words(line)).map_err(|damage| self.damaged(damage))?;
        if name != wish.uid.to_string().as_bytes() {
            return Err(self.stream.unexpected(line, &format!("message {}", wish.uid)));
        }
        if wish.second && lack.path.is_empty() {
            return Ok(None);
        }
        let why = if lack.absent { Lacking::Absent } else { Lacking::Unreadable(Error::Refused(lack.why)) };
        Ok(Some(Lack { why, path: lack.path }))
    }

    fn is_on_its_way(&self, folder: &[u8], wish: Wish) -> bool {
        let all = self.requested.iter().chain(&self.wishes);
        all.filter(|(name, _)| name == folder).any(|(_, wishes)| wishes.contains(&wish))
    }

    /// The line that begins the next answer about a message.
    async fn next_message(&mut self) -> Result<Vec<u8>, Error> {
        if !self.open {
            match self.ok().await {
                Ok(()) => self.open = true,
                // The whole request: nothing of the folder can be had.
                Err(error) => return Err(self.all_refused(error)),
            }
        }
        let line = self.stream.some_line().await?;
        if line.starts_with(b"DATA ") || line.starts_with(b"LACK ") {
            return Ok(line.to_vec());
        }
        let line = line.to_vec();
        Err(self.stream.unexpected(&line, "`DATA` or `LACK` for each message that was asked for"))
    }

    /// A request for messages is only refused when client and server do not agree about the user any more.
    fn all_refused(&mut self, error: Error) -> Error {
        match error {
            Error::Peer { .. } => error,
            error => self.stream.broken(format!("does not give messages: {error}")),
        }
    }

    /// Reads over the next answer about a message.
    async fn skip_message(&mut self) -> Result<(), Error> {
        let line = self.next_message().await?;
        if line.starts_with(b"DATA ") {
            let block = self.stream.block(&line)?;
            if block.size > MESSAGE_MAX {
                return Err(self.stream.too_large(&block, MESSAGE_MAX));
            }
            self.stream.skip(&block).await?;
        }
        self.end_of_message().await
    }

    fn took_one(&mut self) {
        self.ahead = self.ahead.saturating_sub(1);
        if let Some((_, wishes)) = self.requested.front_mut() {
            wishes.pop_front();
        }
    }

    /// One message less, and the last line of the answer if it was the last one.
    async fn end_of_message(&mut self) -> Result<(), Error> {
        self.took_one();
        self.end_of_answer().await
    }

    async fn end_of_answer(&mut self) -> Result<(), Error> {
        if self.requested.front().is_some_and(|(_, wishes)| wishes.is_empty()) {
            self.requested.pop_front();
            self.open = false;
            let line = self.stream.some_line().await?.to_vec();
            if line != b"DONE BODIES" {
                return Err(self.stream.unexpected(&line, "`DONE BODIES`"));
            }
        }
        Ok(())
    }
}

/// The next line of an answer whose lines may come to `budget` bytes in all.
async fn answer_line<'a>(stream: &'a mut Stream, budget: &mut u64) -> Result<&'a [u8], Error> {
    if *budget == 0 {
        return Err(stream.broken(format!("sends an answer of more than {ANSWER_LINES_MAX} bytes")));
    }
    let line = stream.some_line().await?;
    *budget = budget.saturating_sub(line.len() as u64 + 1);
    Ok(line)
}

/// The refusal that a line is.
fn refused(line: &[u8]) -> Option<Error> {
    line.strip_prefix(b"NO ").map(said)
}

/// A refusal with this text.
pub(super) fn said(why: &[u8]) -> Error {
    match why.strip_prefix(BUSY) {
        Some(object) => Error::Busy { object: shown(object), holder: None },
        None => Error::Refused(format!("the server says: {}", shown(why))),
    }
}

fn captured(words: &crate::lines::Words<'_>) -> Result<Captured, Damage> {
    let folder = parse_folder(words)?;
    let id = words.bytes("id")?;
    if id.is_empty() {
        return Err(words.damage("id", "", "a uniqueid"));
    }
    let quota_root = if words.get("quotaroot").is_some() { Some(words.bytes("quotaroot")?) } else { None };
    Ok(Captured::new(folder, id, quota_root, words.get("young").is_some()))
}

/// Lines of a capture that are not of its pass.
fn other_line(words: &crate::lines::Words<'_>, capture: &mut Capture) -> Result<bool, Damage> {
    match words.first {
        b"SAME" => {
            capture.same.insert(words.bytes("name")?, words.get("young").is_some());
        }
        b"FAILED" => {
            let (name, error) = native::parse_failed(words)?;
            capture.failed.insert(name, error);
        }
        b"FAILEDFILE" => {
            let (name, error) = native::parse_failed(words)?;
            capture.failed_states.insert(name, error);
        }
        b"HELD" => {
            capture.longest_hold = Span(words.number("ns")?);
            capture.unsettled = words.get("unsettled").is_some();
        }
        _ => return Ok(false),
    }
    Ok(true)
}
