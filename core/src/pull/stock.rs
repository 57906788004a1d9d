//! The client of the stock dialect: full backups from a `backupcyrusd`, on which nothing of ours is installed.
//!
//! Such a server gives folders with their metadata and messages, and the files `seen` and `sub`; nothing else, so a pass of it
//! is [`Pass::partial`]. It tells times in whole seconds and no ctime, locks one folder at a time, and has faults that
//! PROTOCOL.md section 2.7 lists. Therefore:
//!
//! * an answer counts only when its `DONE` has come; a list that ends early is never a short list;
//! * what changed shortly before it was copied is looked at again next time (`YOUNG`, `SKEW`);
//! * after a capture the user is listed once more, and what has changed meanwhile is fetched again, until nothing has.
//!
//! What must not come in: archives.

use super::native::said;
use super::{Lack, Message, large};
use crate::cyrus::names::Owner;
use crate::cyrus::paths::check_uniqueid;
use crate::cyrus::{header, index};
use crate::error::{Damage, Error};
use crate::escape::shown;
use crate::guid::Guid;
use crate::io::{Io, Place, Tuple};
use crate::source::capture::{Capture, Captured, META_MAX, STATE_MAX, Want, Wanted};
use crate::source::message::{IN_MEMORY_MAX, Lacking, MESSAGE_MAX};
use crate::source::pass::FOLDERS_MAX;
use crate::source::{Ask, Folder, FolderPaths, MetaFile, Pass, State, StateKind};
use crate::stock::annotations::{self, JSON_MAX};
use crate::stock::names::{Form, Names, PROBE, form_of_list, form_of_refusal};
use crate::time::{Span, Time};
use crate::wire::ANSWER_LINES_MAX;
use crate::wire::native::Wish;
use crate::wire::stock::{Item, granted, item};
use crate::wire::stream::{Block, Stream};
use crate::wire::words;
use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A change that came so soon after a copy can have left size and time as they were: times are in whole seconds.
const YOUNG: Span = Span::from_secs(2);
/// How far the server's clock, which is not known, may be behind ours.
const SKEW: Span = Span::from_secs(60);
/// How often a capture begins again because something has changed meanwhile.
const ROUNDS_MAX: u32 = 8;
/// Folders whose metadata are asked for ahead of their answers. So many requests fit into any pipe.
const FOLDERS_AHEAD: usize = 16;
/// Messages that one request names.
const WISHES_AT_ONCE: usize = 256;
/// Messages that are asked for ahead of their answers.
const AHEAD: usize = 1024;
/// The longest name of a folder in bytes. Cyrus has none of more than 490 (`MAX_MAILBOX_NAME`).
const NAME_MAX: usize = 1024;
/// Bytes of all annotations of one capture, as JSON. What is made of them is kept in memory.
const ANNOTATIONS_MAX: u64 = 128 << 20;
/// Users of one server.
const USERS_MAX: usize = 4_000_000;

/// The files of a folder, in the order in which they are asked for and answered.
const FILES: [(&str, Option<MetaFile>); 4] = [
    ("header", Some(MetaFile::Header)),
    ("index", Some(MetaFile::Index)),
    ("annotations", Some(MetaFile::Annotations)),
    (annotations::NAME, None),
];
/// The user files, by their names in requests and in the archive.
const STATES: [(&str, &[u8]); 2] = [("seen", b"meta/seen"), ("sub", b"meta/sub")];

/// The outer error is one of the connection; the inner one is a refusal, after which the connection is as good as before.
type Answer<T> = Result<Result<T, Error>, Error>;

/// A connection to a server that speaks the stock dialect.
pub struct Client {
    stream: Stream,
    slot: String,
    /// The form of its names, once it was seen for certain.
    form: Option<Form>,
    /// The user who was listed last, and what was listed.
    last: Option<(Vec<u8>, Look)>,
    /// Messages to be asked for, by folder.
    wishes: VecDeque<(Vec<u8>, VecDeque<u32>)>,
    /// Requests for messages that were sent and not answered to the end.
    requested: VecDeque<Request>,
}

/// A request for messages.
#[derive(Clone)]
struct Request {
    folder: Vec<u8>,
    uids: VecDeque<u32>,
    state: Reading,
}

#[derive(Clone, PartialEq, Eq)]
enum Reading {
    /// Its answer has not begun.
    Waiting,
    /// `OK` was read.
    Open,
    /// It was refused, and there is no more to read.
    Refused(Lacking),
}

/// A folder as the server lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Listed {
    external: Vec<u8>,
    id: Vec<u8>,
    tuples: [Option<Tuple>; 4],
    /// The properties of its `mailbox_annotations`.
    made: Option<Tuple>,
}

/// A user as the server lists it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Look {
    /// Folders by the names that the archive gives them.
    folders: BTreeMap<Vec<u8>, Listed>,
    /// User files by the names that the archive gives them.
    states: BTreeMap<Vec<u8>, Tuple>,
}

impl Look {
    fn pass(&self) -> Pass {
        let state = |(name, tuple): (&Vec<u8>, &Tuple)| State {
            name: name.clone(),
            place: Place::host("/"),
            what: StateKind::File(*tuple),
        };
        Pass {
            folders: self.folders.iter().map(|(name, listed)| listed.folder(name)).collect(),
            states: self.states.iter().map(state).collect(),
            annotations_db: self.annotations(),
            partial: true,
            ..Pass::default()
        }
    }

    /// What stands for the tuple of annotations.db: it changes with the annotations of any folder.
    fn annotations(&self) -> Option<Tuple> {
        let (mut text, mut size) = (Vec::new(), 0u64);
        for listed in self.folders.values() {
            let Some(made) = listed.made else { continue };
            text.extend_from_slice(&listed.id);
            text.extend_from_slice(format!(" {} {}\n", made.size, made.ino).as_bytes());
            size = size.saturating_add(made.size);
        }
        let [a, b, c, d, e, f, g, h, ..] = Guid::of(&text).0;
        (!text.is_empty()).then(|| Tuple { size, ino: u64::from_be_bytes([a, b, c, d, e, f, g, h]), ..Tuple::default() })
    }
}

impl Listed {
    fn folder(&self, name: &[u8]) -> Folder {
        Folder {
            name: name.to_vec(),
            id: Some(self.id.clone()),
            key: Vec::new(),
            entry: Vec::new(),
            paths: FolderPaths::elsewhere(),
            tuples: self.tuples,
        }
    }

    fn is_same(&self, other: &Listed) -> bool {
        (&self.id, self.tuples, self.made) == (&other.id, other.tuples, other.made)
    }

    /// Takes a `STAT` line.
    fn stat(&mut self, file: &[u8], tuple: Tuple) {
        // A file that later versions may have is passed over.
        match FILES.iter().find(|(known, _)| known.as_bytes() == file) {
            Some((_, Some(file))) => self.tuples[*file as usize] = Some(tuple),
            Some((_, None)) => self.made = Some(tuple),
            None => {}
        }
    }
}

impl Client {
    /// For a connection to a server that has said that this is its name.
    pub fn new(stream: Stream, servername: &[u8]) -> Result<Client, Error> {
        let plain = !servername.is_empty() && servername.iter().all(|b| (0x21..=0x7E).contains(b));
        if !plain {
            return Err(stream.unexpected(servername, "a server's name"));
        }
        Ok(Client {
            stream,
            slot: String::from_utf8_lossy(servername).into_owned(),
            form: None,
            last: None,
            wishes: VecDeque::new(),
            requested: VecDeque::new(),
        })
    }

    /// How often something was sent and then waited for.
    pub fn round_trips(&self) -> u64 {
        self.stream.round_trips()
    }

    /// The version of Cyrus, worded for a commit record: the first that has this server, which does not tell.
    pub fn cyrus(&self) -> String {
        String::from("3.13 or later")
    }

    /// Ends the connection.
    pub async fn close(self) {
        self.stream.close().await;
    }

    async fn send(&mut self, request: &str) -> Result<(), Error> {
        self.stream.send(request.as_bytes()).await
    }

    /// Reads the first line of an answer.
    async fn granted(&mut self) -> Answer<()> {
        Ok(granted(&mut self.stream).await?.map_err(|why| said(&why)))
    }

    async fn item(&mut self, verb: &str, budget: &mut u64) -> Result<Item, Error> {
        if *budget == 0 {
            return Err(self.stream.broken(format!("sends an answer of more than {ANSWER_LINES_MAX} bytes")));
        }
        let item = item(&mut self.stream, verb).await?;
        *budget = budget.saturating_sub(self.stream.line_len() as u64 + 1);
        Ok(item)
    }

    fn odd(&self, verb: &str, item: &Item) -> Error {
        self.stream.broken(format!("found {}, which no answer to {verb} has there", kind(item)))
    }

    /// Everybody who has an INBOX there.
    pub async fn owners(&mut self) -> Result<Vec<Owner>, Error> {
        self.drop_messages().await?;
        self.send(&format!("USERS {}\n", self.slot)).await?;
        self.granted().await??;
        let mut owners = BTreeSet::new();
        let mut budget = ANSWER_LINES_MAX;
        loop {
            match self.item("USERS", &mut budget).await? {
                Item::User(userid) if owners.len() < USERS_MAX => drop(owners.insert(Owner::User(userid))),
                Item::Done(_) => return Ok(owners.into_iter().collect()),
                item => return Err(self.odd("USERS", &item)),
            }
        }
    }

    /// The stat pass of `owner`.
    pub async fn pass(&mut self, owner: &Owner, ask: &Ask) -> Result<Pass, Error> {
        let userid = user(owner)?;
        self.drop_messages().await?;
        let look = self.look(userid).await?;
        let mut pass = look.pass();
        if ask.annotate && pass.annotations_db != ask.annotations_db {
            pass.annotated = Some(self.annotated(userid, &look).await?);
        }
        self.last = Some((userid.to_vec(), look));
        Ok(pass)
    }

    /// Lists a user, in one round trip.
    async fn look(&mut self, userid: &[u8]) -> Result<Look, Error> {
        let (slot, user) = (&self.slot, words::encode(userid));
        let mut request = format!("META {slot} {user}\nFMULTISTATUS {slot} {user}\n");
        let probe = self.form.is_none();
        if probe {
            request.push_str(&format!("FMETA {slot} {user} {}\n", words::encode(PROBE)));
        }
        self.send(&request).await?;
        let states = self.states().await?;
        let list = self.list().await.map_err(died)?;
        if probe {
            self.form = self.probe().await?;
        }
        let (states, list) = (states?, list?);
        let externals = || list.iter().map(|listed| &listed.external[..]);
        let form = self.form.unwrap_or_else(|| form_of_list(userid, externals()));
        let unreadable = |damage: Damage| Error::Refused(format!("the server's list of folders cannot be read: {damage}"));
        let names = Names::new(form, userid, externals()).map_err(unreadable)?;
        let mut folders = BTreeMap::new();
        for listed in list {
            // A folder left out would be taken for deleted, so none is.
            check_uniqueid(&listed.id).map_err(unreadable)?;
            let name = names.relative(&listed.external).map_err(unreadable)?;
            let external = cut(&listed.external);
            if name.len() > NAME_MAX {
                let text = format!("the server's list of folders has a name of {} bytes, `{external}`", name.len());
                return Err(Error::Refused(text));
            }
            if folders.insert(name, listed).is_some() {
                return Err(Error::Refused(format!("the server's list of folders has `{external}` twice")));
            }
        }
        Ok(Look { folders, states })
    }

    /// Reads the answer to `META`.
    async fn states(&mut self) -> Answer<BTreeMap<Vec<u8>, Tuple>> {
        if let Err(error) = self.granted().await? {
            return Ok(Err(error));
        }
        let mut states = BTreeMap::new();
        let mut budget = ANSWER_LINES_MAX;
        loop {
            match self.item("META", &mut budget).await? {
                Item::Stat { folder: None, file, tuple } => {
                    // A file that later versions may have is passed over.
                    if let Some((_, name)) = STATES.iter().find(|(known, _)| known.as_bytes() == file) {
                        states.insert(name.to_vec(), tuple);
                    }
                }
                Item::Done(_) => return Ok(Ok(states)),
                item => return Err(self.odd("META", &item)),
            }
        }
    }

    /// Reads the answer to `FMULTISTATUS`.
    async fn list(&mut self) -> Answer<Vec<Listed>> {
        if let Err(error) = self.granted().await? {
            return Ok(Err(error));
        }
        let mut list: Vec<Listed> = Vec::new();
        let mut budget = ANSWER_LINES_MAX;
        loop {
            match self.item("FMULTISTATUS", &mut budget).await? {
                Item::Folder { name, uniqueid } if list.len() < FOLDERS_MAX => {
                    list.push(Listed { external: name, id: uniqueid, tuples: [None; 4], made: None });
                }
                Item::Stat { folder: Some(folder), file, tuple } => match list.last_mut() {
                    Some(last) if last.external == folder => last.stat(&file, tuple),
                    _ => return Err(self.stream.unexpected(&folder, "the folder of the FOLDER line before it")),
                },
                Item::Done(_) => return Ok(Ok(list)),
                item => return Err(self.odd("FMULTISTATUS", &item)),
            }
        }
    }

    /// Reads the answer to the question for a folder that nobody has.
    async fn probe(&mut self) -> Result<Option<Form>, Error> {
        let why = match granted(&mut self.stream).await? {
            Err(why) => why,
            Ok(()) => return self.skip("FMETA").await.map(|()| None),
        };
        let name = why.strip_prefix(b"no such folder ").and_then(words::decode);
        Ok(name.and_then(|name| form_of_refusal(&name)))
    }

    /// Reads over the items of an answer without blocks.
    async fn skip(&mut self, verb: &str) -> Result<(), Error> {
        let mut budget = ANSWER_LINES_MAX;
        loop {
            match self.item(verb, &mut budget).await? {
                Item::Done(_) => return Ok(()),
                Item::Stat { .. } => {}
                item => return Err(self.odd(verb, &item)),
            }
        }
    }

    /// SHA-1s of the lines that the annotations of folders come to, by folder.
    async fn annotated(&mut self, userid: &[u8], look: &Look) -> Result<BTreeMap<Vec<u8>, Guid>, Error> {
        let mut annotated = BTreeMap::new();
        let all: Vec<_> = look.folders.iter().filter(|(_, listed)| listed.made.is_some()).collect();
        for some in all.chunks(FOLDERS_AHEAD) {
            for (_, listed) in some {
                self.ask_for_files(userid, listed, &FILES[3..]).await?;
            }
            for (name, listed) in some {
                let Ok(mut found) = self.files(&FILES[3..], JSON_MAX).await? else { continue };
                let Some((_, json)) = found.take(annotations::NAME) else { continue };
                // One that makes no sense counts as changed, and is complained of when it is captured.
                let lines = annotations::from_json(&json, &listed.id, userid);
                annotated.insert((*name).clone(), lines.map_or(Guid::NULL, |lines| Guid::of(&lines)));
            }
        }
        Ok(annotated)
    }

    async fn ask_for_files(&mut self, userid: &[u8], listed: &Listed, files: &[(&str, Option<MetaFile>)]) -> Result<(), Error> {
        let mut request = format!("FMETA {} {} {}", self.slot, words::encode(userid), words::encode(&listed.external));
        for (file, _) in files {
            request.push(' ');
            request.push_str(file);
        }
        self.send(&(request + "\n")).await
    }

    /// Reads files that were asked for in this order, of annotations at most `json_max` bytes.
    async fn files(&mut self, files: &[(&'static str, Option<MetaFile>)], json_max: u64) -> Answer<Files> {
        if let Err(error) = self.granted().await? {
            return Ok(Err(error));
        }
        let mut found = Files::default();
        let mut budget = ANSWER_LINES_MAX;
        for (name, file) in files {
            match self.item("FMETA", &mut budget).await? {
                Item::Block(block) if block.name == name.as_bytes() => {
                    let mut content = Vec::new();
                    let max = if file.is_some() { META_MAX } else { json_max };
                    if self.stream.content(&block, max, &mut content).await?.is_none() {
                        return Err(self.stream.unexpected(b"-", "a SHA-1: metadata come whole"));
                    }
                    found.files.push((name, tuple(&block), content));
                }
                Item::No(_) => {}
                item => return Err(self.odd("FMETA", &item)),
            }
        }
        match self.item("FMETA", &mut budget).await? {
            Item::Done(mut words) if !words.is_empty() => found.id = words.swap_remove(0),
            item => return Err(self.odd("FMETA", &item)),
        }
        Ok(Ok(found))
    }

    /// The capture of what is `wanted` of the pass `first`, and of what has changed since.
    pub async fn capture(&mut self, io: &Io, owner: &Owner, first: &Pass, wanted: &Wanted) -> Result<Capture, Error> {
        let userid = user(owner)?;
        self.drop_messages().await?;
        let look = match self.last.take() {
            Some((listed, look)) if listed == userid => look,
            _ => self.look(userid).await?,
        };
        let mut work = Work {
            io,
            userid,
            first,
            wanted,
            before: look.clone(),
            out: Capture::default(),
            made: BTreeMap::new(),
            had: BTreeMap::new(),
            rechecked: BTreeMap::new(),
            refused: BTreeSet::new(),
            room: ANNOTATIONS_MAX,
        };
        match self.rounds(&mut work, look).await {
            Ok(look) => {
                work.out.pass = look.pass();
                self.last = Some((userid.to_vec(), look));
                Ok(work.out)
            }
            Err(error) => {
                work.out.finish(io).await;
                Err(error)
            }
        }
    }

    async fn rounds(&mut self, work: &mut Work<'_>, mut look: Look) -> Result<Look, Error> {
        for _ in 0..ROUNDS_MAX {
            let folders = work.folders(&look);
            let states = work.states(&look);
            if folders.is_empty() && states.is_empty() {
                return Ok(look);
            }
            for some in folders.chunks(FOLDERS_AHEAD) {
                self.fetch(work, &look, some).await?;
            }
            if !states.is_empty() {
                self.fetch_states(work, &look, &states).await?;
            }
            look = self.look(work.userid).await?;
            work.forget(&look);
        }
        work.give_up(&look);
        Ok(look)
    }

    /// Fetches the metadata of some folders.
    async fn fetch(&mut self, work: &mut Work<'_>, look: &Look, some: &[(Vec<u8>, Want)]) -> Result<(), Error> {
        let begun = work.io.now();
        for (name, _) in some {
            if let Some(listed) = look.folders.get(name) {
                self.ask_for_files(work.userid, listed, &FILES).await?;
            }
        }
        for (name, want) in some {
            if let Some(listed) = look.folders.get(name) {
                let answer = self.files(&FILES, JSON_MAX.min(work.room)).await?;
                work.take(name, listed, *want, answer, begun).await?;
            }
        }
        Ok(())
    }

    /// Fetches user files.
    async fn fetch_states(&mut self, work: &mut Work<'_>, look: &Look, states: &[usize]) -> Result<(), Error> {
        let begun = work.io.now();
        let mut request = format!("META {} {}", self.slot, words::encode(work.userid));
        states.iter().for_each(|at| request.push_str(&format!(" {}", STATES[*at].0)));
        self.send(&(request + "\n")).await?;
        if let Err(error) = self.granted().await? {
            states.iter().for_each(|at| drop(work.out.failed_states.insert(STATES[*at].1.to_vec(), error.clone())));
            return Ok(());
        }
        let mut budget = ANSWER_LINES_MAX;
        for at in states {
            let (known, name) = STATES[*at];
            match self.item("META", &mut budget).await? {
                Item::Block(block) if block.name == known.as_bytes() => {
                    let mut content = Vec::new();
                    if self.stream.content(&block, STATE_MAX, &mut content).await?.is_none() {
                        return Err(self.stream.unexpected(b"-", "a SHA-1: user files come whole"));
                    }
                    let (tuple, young) = believed(tuple(&block), look.states.get(name).copied(), begun);
                    work.out.states.insert(name.to_vec(), (content, (!young).then_some(tuple)));
                    work.had.insert(name.to_vec(), tuple);
                }
                Item::No(_) => drop(work.out.states.remove(name)),
                item => return Err(self.odd("META", &item)),
            }
        }
        match self.item("META", &mut budget).await? {
            Item::Done(_) => Ok(()),
            item => Err(self.odd("META", &item)),
        }
    }

    /// Messages that will be wanted.
    pub fn announce_messages(&mut self, folder: &Folder, wishes: Vec<Wish>) {
        self.wishes.push_back((folder.name.clone(), wishes.iter().map(|wish| wish.uid).collect()));
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
    async fn request(&mut self, userid: &[u8]) -> Result<(), Error> {
        while self.requested.iter().map(|request| request.uids.len()).sum::<usize>() < AHEAD {
            let Some((folder, wishes)) = self.wishes.front_mut() else { return Ok(()) };
            let now: VecDeque<u32> = wishes.drain(..wishes.len().min(WISHES_AT_ONCE)).collect();
            let folder = folder.clone();
            if wishes.is_empty() {
                self.wishes.pop_front();
            }
            if !now.is_empty() {
                self.ask_for_messages(userid, folder, now).await?;
            }
        }
        Ok(())
    }

    async fn ask_for_messages(&mut self, userid: &[u8], folder: Vec<u8>, uids: VecDeque<u32>) -> Result<(), Error> {
        let listed = self.last.as_ref().filter(|(user, _)| user == userid).and_then(|(_, look)| look.folders.get(&folder));
        let state = match listed {
            Some(listed) => {
                let (user, external) = (words::encode(userid), words::encode(&listed.external));
                let mut request = format!("FDATA {} {user} {external}", self.slot);
                uids.iter().for_each(|uid| request.push_str(&format!(" {uid}")));
                self.send(&(request + "\n")).await?;
                Reading::Waiting
            }
            // Not in the list any more.
            None => Reading::Refused(Lacking::Absent),
        };
        self.requested.push_back(Request { folder, uids, state });
        Ok(())
    }

    /// One message. There is never a second place for it.
    pub async fn message(
        &mut self,
        io: &Io,
        owner: &Owner,
        folder: &Folder,
        wish: Wish,
        buffer: Vec<u8>,
    ) -> Result<Option<Result<Message, Lack>>, Error> {
        if wish.second {
            return Ok(None);
        }
        self.seek(user(owner)?, &folder.name, wish.uid).await?;
        let found = match self.next_message().await? {
            Ok(Item::Block(block)) if block.size <= IN_MEMORY_MAX => {
                let mut content = buffer;
                let whole = self.stream.content(&block, IN_MEMORY_MAX, &mut content).await?;
                whole.map(|_| Message::Whole { content, mtime: block.mtime }).ok_or(Lacking::Unreadable(cut_short()))
            }
            Ok(Item::Block(block)) => large(&mut self.stream, io, &block).await?.ok_or(Lacking::Unreadable(cut_short())),
            Ok(Item::No(why)) if why.starts_with(b"no such file ") => Err(Lacking::Absent),
            Ok(Item::No(why)) => Err(Lacking::Unreadable(said(&why))),
            Ok(item) => return Err(self.odd("FDATA", &item)),
            Err(why) => Err(why),
        };
        self.end_of_message().await?;
        Ok(Some(found.map_err(|why| Lack { why, path: format!("{} UID {}", shown(&folder.name), wish.uid) })))
    }

    /// Makes this message the one whose answer comes next.
    async fn seek(&mut self, userid: &[u8], folder: &[u8], uid: u32) -> Result<(), Error> {
        let alone = || VecDeque::from([uid]);
        loop {
            self.request(userid).await?;
            match self.requested.front() {
                None => self.ask_for_messages(userid, folder.to_vec(), alone()).await?,
                Some(request) if request.folder == folder && request.uids.front() == Some(&uid) => return Ok(()),
                Some(_) if self.is_on_its_way(folder, uid) => self.skip_message().await?,
                // Out of order, which is rare: what is on its way is read over, and asked for once more.
                Some(_) => {
                    let again: Vec<_> = self.requested.iter().map(|r| (r.folder.clone(), r.uids.clone())).collect();
                    self.skip_requested().await?;
                    again.into_iter().rev().for_each(|wishes| self.wishes.push_front(wishes));
                    return self.ask_for_messages(userid, folder.to_vec(), alone()).await;
                }
            }
        }
    }

    fn is_on_its_way(&self, folder: &[u8], uid: u32) -> bool {
        let requested = self.requested.iter().map(|request| (&request.folder, &request.uids));
        let all = requested.chain(self.wishes.iter().map(|(folder, uids)| (folder, uids)));
        all.filter(|(name, _)| *name == folder).any(|(_, uids)| uids.contains(&uid))
    }

    /// The item that answers the next message. The inner error: nothing of its folder can be had.
    async fn next_message(&mut self) -> Result<Result<Item, Lacking>, Error> {
        let Some(front) = self.requested.front_mut() else { return Ok(Err(Lacking::Absent)) };
        if front.state == Reading::Waiting {
            front.state = match granted(&mut self.stream).await? {
                Ok(()) => Reading::Open,
                Err(why) if why.starts_with(b"no such folder") => Reading::Refused(Lacking::Absent),
                Err(why) => Reading::Refused(Lacking::Unreadable(said(&why))),
            };
        }
        if let Reading::Refused(why) = &front.state {
            return Ok(Err(why.clone()));
        }
        let name = front.uids.front().copied().unwrap_or_default().to_string();
        let item = item(&mut self.stream, "FDATA").await?;
        let fits = match &item {
            Item::Block(block) => block.name == name.as_bytes(),
            Item::No(why) => why.rsplit(|&b| b == b' ').next() == Some(name.as_bytes()),
            _ => false,
        };
        if fits { Ok(Ok(item)) } else { Err(self.stream.broken(format!("found {}, expected message {name}", kind(&item)))) }
    }

    /// Reads over the answer about the next message.
    async fn skip_message(&mut self) -> Result<(), Error> {
        if let Ok(Item::Block(block)) = self.next_message().await? {
            if block.size > MESSAGE_MAX {
                return Err(self.stream.too_large(&block, MESSAGE_MAX));
            }
            self.stream.skip(&block).await?;
        }
        self.end_of_message().await
    }

    /// One message less, and the last line of the answer if it was the last one.
    async fn end_of_message(&mut self) -> Result<(), Error> {
        let Some(front) = self.requested.front_mut() else { return Ok(()) };
        front.uids.pop_front();
        if !front.uids.is_empty() {
            return Ok(());
        }
        let refused = matches!(front.state, Reading::Refused(_));
        self.requested.pop_front();
        if refused {
            return Ok(());
        }
        match item(&mut self.stream, "FDATA").await? {
            Item::Done(_) => Ok(()),
            item => Err(self.odd("FDATA", &item)),
        }
    }
}

/// Files of a folder, in the order in which they came.
#[derive(Default)]
struct Files {
    /// The uniqueid of the folder that they are of.
    id: Vec<u8>,
    files: Vec<(&'static str, Tuple, Vec<u8>)>,
}

impl Files {
    fn take(&mut self, name: &str) -> Option<(Tuple, Vec<u8>)> {
        let at = self.files.iter().position(|(known, ..)| *known == name)?;
        let (_, tuple, content) = self.files.swap_remove(at);
        Some((tuple, content))
    }
}

/// A capture under way.
struct Work<'a> {
    io: &'a Io,
    userid: &'a [u8],
    first: &'a Pass,
    wanted: &'a Wanted,
    /// The list that was had before.
    before: Look,
    out: Capture,
    /// Properties of the `mailbox_annotations` of the folders that were captured.
    made: BTreeMap<Vec<u8>, Option<Tuple>>,
    /// Properties of the user files that were fetched.
    had: BTreeMap<Vec<u8>, Tuple>,
    /// Folders that were rechecked and found unchanged, as they were listed then.
    rechecked: BTreeMap<Vec<u8>, Listed>,
    /// Folders that were listed and then refused, once.
    refused: BTreeSet<Vec<u8>>,
    /// How many bytes of annotations may still come.
    room: u64,
}

impl Work<'_> {
    /// What is to be fetched of the folders of this list.
    fn folders(&self, look: &Look) -> Vec<(Vec<u8>, Want)> {
        look.folders.iter().filter_map(|(name, listed)| Some((name.clone(), self.want(name, listed)?))).collect()
    }

    fn want(&self, name: &[u8], listed: &Listed) -> Option<Want> {
        if let Some(captured) = self.out.folders.get(name) {
            let made = self.made.get(name).copied().flatten();
            let same = captured.folder.tuples == listed.tuples && captured.id == listed.id && made == listed.made;
            return if same { None } else { Some(Want::Read) };
        }
        if let Some(rechecked) = self.rechecked.get(name) {
            return if rechecked.is_same(listed) { None } else { Some(Want::Read) };
        }
        if self.out.failed.contains_key(name) {
            return None;
        }
        let first = self.first.folders.binary_search_by(|f| f.name[..].cmp(name)).ok().map(|at| &self.first.folders[at]);
        let seen = first.is_some_and(|f| f.tuples == listed.tuples && f.id.as_ref() == Some(&listed.id));
        if seen && self.before.folders.get(name).is_some_and(|before| before.is_same(listed)) {
            return self.wanted.folders.get(name).copied();
        }
        Some(Want::Read)
    }

    /// Which of [`STATES`] are to be fetched.
    fn states(&self, look: &Look) -> Vec<usize> {
        let wants = |at: &usize| {
            let name = STATES[*at].1;
            let Some(tuple) = look.states.get(name) else { return false };
            let seen = self.first.states.iter().any(|s| s.name == name && s.what == StateKind::File(*tuple));
            let is_news = self.wanted.states.contains(name) || !seen;
            is_news && self.had.get(name) != Some(tuple) && !self.out.failed_states.contains_key(name)
        };
        (0..STATES.len()).filter(wants).collect()
    }

    /// Takes what came of a folder.
    async fn take(
        &mut self,
        name: &[u8],
        listed: &Listed,
        want: Want,
        answer: Result<Files, Error>,
        begun: Time,
    ) -> Result<(), Error> {
        self.out.forget(name);
        self.out.same.remove(name);
        self.rechecked.remove(name);
        match answer.and_then(|files| self.judge(name, listed, want, files, begun)) {
            Ok(Judged::Whole(captured, files, made)) => {
                self.room -= made.map_or(0, |made| made.size);
                self.made.insert(name.to_vec(), made);
                self.out.put(*captured);
                for (file, content) in files {
                    self.out.put_file(self.io, name, file, content).await?;
                }
            }
            Ok(Judged::Same { young }) => {
                self.out.same.insert(name.to_vec(), young);
                self.rechecked.insert(name.to_vec(), listed.clone());
            }
            // The next list shows it.
            Ok(Judged::Replaced) => {}
            // One that went away meanwhile is in no list any more. One that is refused again is there, and cannot be had.
            Err(Error::Refused(_)) if self.refused.insert(name.to_vec()) => {}
            Err(error) => drop(self.out.failed.insert(name.to_vec(), error)),
        }
        Ok(())
    }

    fn judge(&self, name: &[u8], listed: &Listed, want: Want, mut files: Files, begun: Time) -> Result<Judged, Error> {
        let damaged = |mut damage: Damage| {
            damage.object = format!("{}: {}", shown(name), damage.object);
            Error::from(damage)
        };
        let Some((tuple, bytes)) = files.take("index") else {
            return Err(Error::Refused(String::from("the server does not give its cyrus.index")));
        };
        // With a damaged header no record can be found: what the archive has of this folder must not give way to nothing.
        let peek = index::peek(&bytes).map_err(damaged)?;
        if files.id != listed.id || peek.is_deleted() {
            return Ok(Judged::Replaced);
        }
        let mut folder = Folder { tuples: [None; 4], ..listed.folder(name) };
        let (tuple, mut young) = believed(tuple, listed.tuples[MetaFile::Index as usize], begun);
        folder.tuples[MetaFile::Index as usize] = Some(tuple);
        let mut contents = alloc::vec![(MetaFile::Index, bytes)];
        let mut quota_root = None;
        for (known, file) in FILES.into_iter().filter_map(|(known, file)| Some((known, file?))) {
            let Some((tuple, bytes)) = files.take(known) else { continue };
            if file == MetaFile::Header
                && let Ok(header) = header::parse(&bytes)
            {
                if !header.uniqueid.is_empty() && header.uniqueid != listed.id {
                    return Ok(Judged::Replaced);
                }
                quota_root = header.quotaroot;
            }
            let (tuple, is_young) = believed(tuple, listed.tuples[file as usize], begun);
            young |= is_young;
            folder.tuples[file as usize] = Some(tuple);
            contents.push((file, bytes));
        }
        if let Want::Recheck { modseq, crc } = want
            && (peek.highestmodseq, peek.header_crc) == (Some(modseq), Some(crc))
        {
            return Ok(Judged::Same { young });
        }
        let mut captured = Captured::new(folder, listed.id.clone(), quota_root, young);
        let json = files.take(annotations::NAME);
        let made = json.as_ref().map(|(tuple, _)| *tuple);
        if let Some((_, json)) = json {
            captured.annotations = annotations::from_json(&json, &listed.id, self.userid).map_err(damaged)?;
        }
        Ok(Judged::Whole(Box::new(captured), contents, made))
    }

    /// Drops what was fetched of folders and files that are not there any more.
    fn forget(&mut self, look: &Look) {
        let gone: Vec<Vec<u8>> = self.out.folders.keys().filter(|name| !look.folders.contains_key(*name)).cloned().collect();
        gone.iter().for_each(|name| self.out.forget(name));
        self.out.states.retain(|name, _| look.states.contains_key(name));
    }

    /// Something changed in every round. What was fetched stands, each folder as of one moment; what never could be is a
    /// failure.
    fn give_up(&mut self, look: &Look) {
        self.out.unsettled = true;
        for (name, _) in self.folders(look) {
            if !self.out.folders.contains_key(&name) {
                let error = Error::Refused(String::from("it changed whenever it was looked at; the next run tries again"));
                self.out.failed.insert(name, error);
            }
        }
    }
}

/// What the metadata of a folder come to.
enum Judged {
    /// They are those of the folder that was listed: files, and the properties of its `mailbox_annotations`.
    Whole(Box<Captured>, Vec<(MetaFile, Vec<u8>)>, Option<Tuple>),
    /// The index header shows no change.
    Same {
        /// It still is too young to be trusted.
        young: bool,
    },
    /// They are those of another folder, or of one that is being deleted.
    Replaced,
}

fn user(owner: &Owner) -> Result<&[u8], Error> {
    match owner {
        Owner::User(userid) => Ok(userid),
        Owner::Shared => Err(Error::Refused(String::from("backupcyrusd does not give shared mailboxes"))),
    }
}

/// Says what may be behind the end of a connection within a list of folders.
fn died(error: Error) -> Error {
    match error {
        Error::Peer { peer, why } if why.starts_with("the connection ended") => {
            let why = format!("{why} (backupcyrusd dies there if altnamespace is on and the user has a deleted folder)");
            Error::Peer { peer, why }
        }
        error => error,
    }
}

fn cut_short() -> Error {
    Error::Refused(String::from("the server could not read it to its end"))
}

fn tuple(block: &Block) -> Tuple {
    Tuple { size: block.size, mtime: block.mtime, ctime: Time::ZERO, ino: block.ino }
}

/// The tuple of a file that was asked for at `begun`, and whether a later change could have left it as it is.
///
/// A Cylinder makes a file that is too young a second older than the list has it; the list counts.
fn believed(tuple: Tuple, listed: Option<Tuple>, begun: Time) -> (Tuple, bool) {
    let aged = Tuple { mtime: tuple.mtime.plus(Span::from_secs(1)), ..tuple };
    if listed == Some(aged) { (aged, true) } else { (tuple, tuple.mtime.plus(YOUNG).plus(SKEW) >= begun) }
}

/// What an item is, for errors.
fn kind(item: &Item) -> String {
    match item {
        Item::User(name) => format!("user `{}`", cut(name)),
        Item::Folder { name, .. } => format!("folder `{}`", cut(name)),
        Item::Stat { file, .. } => format!("the properties of `{}`", cut(file)),
        Item::Block(block) => format!("a block `{}`", cut(&block.name)),
        Item::No(why) => format!("`NO {}`", cut(why)),
        Item::Done(_) => String::from("the end"),
    }
}

fn cut(text: &[u8]) -> String {
    shown(&text[..text.len().min(200)])
}
