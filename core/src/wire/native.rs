//! The messages of the native dialect (PROTOCOL.md section 3): what a pass, a capture and a request for messages are in lines.
//! Both directions side by side.
//!
//! What must not come in: the stream, and the blocks that follow some of the lines.

use crate::cyrus::names::Owner;
use crate::error::{Damage, Error};
use crate::escape::{shown, unpercent};
use crate::guid::Guid;
use crate::io::Place;
use crate::lines::{Line, Words};
use crate::source::capture::{Want, Wanted};
use crate::source::{Ask, Folder, FolderPaths, MetaFile, Pass, QUOTA_ROOTS_MAX, State, StateKind};
use crate::time::{Span, Time};
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What errors call a request or an answer.
const OBJECT: &str = "protocol line";
/// Most folders and files that one request may name.
pub const WANTED_MAX: usize = 1_000_000;
/// Most messages that one request may name.
pub const UIDS_MAX: usize = 4096;
/// The longest name of a folder in bytes. Cyrus has none of more than 490 (`MAX_MAILBOX_NAME`).
const NAME_MAX: usize = 1024;

/// What a server says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// `servername` of its imapd.conf.
    pub servername: Vec<u8>,
    /// The version line of Cyrus, worded for a commit record.
    pub cyrus: String,
    /// The program that serves, such as `cylinder 0.1.0`.
    pub software: String,
    /// The clock that stamps its files.
    pub clock: Time,
    /// That clock's step.
    pub tick: Span,
}

impl Facts {
    /// The line `FACTS`.
    pub fn emit(&self, out: &mut String) {
        let mut line = Line::new(out, "FACTS");
        line.text("servername", &self.servername);
        line.text("cyrus", self.cyrus.as_bytes());
        line.text("software", self.software.as_bytes());
        line.show("clock", self.clock);
        line.show("tick", self.tick.0);
    }

    /// Reads [`Facts::emit`].
    pub fn parse(line: &[u8]) -> Result<Facts, Damage> {
        let words = words(line);
        Ok(Facts {
            servername: words.bytes("servername")?,
            cyrus: words.string("cyrus")?,
            software: words.string("software")?,
            clock: words.time("clock")?,
            tick: Span(words.number("tick")?),
        })
    }
}

/// The words of one line.
pub fn words(line: &[u8]) -> Words<'_> {
    Words::of(OBJECT, 0, line)
}

fn put_owner(line: &mut Line<'_>, owner: &Owner) {
    match owner {
        Owner::Shared => line.show("shared", 1),
        Owner::User(userid) => line.text("user", userid),
    }
}

/// The owner that a line names: `user=` or `shared=1`.
pub fn owner(words: &Words<'_>) -> Result<Owner, Damage> {
    if words.get("shared").is_some() { Ok(Owner::Shared) } else { words.bytes("user").map(Owner::User) }
}

/// The line of an owner in the answer to `OWNERS`.
pub fn emit_owner(out: &mut String, owner: &Owner) {
    put_owner(&mut Line::new(out, "OWNER"), owner);
}

/// The first line of a request.
pub fn emit_request<'a>(out: &'a mut String, verb: &str, slot: &str, owner: &Owner) -> Line<'a> {
    let mut line = Line::new(out, verb);
    line.word(slot);
    put_owner(&mut line, owner);
    line
}

impl Ask {
    /// The request `PASS`.
    pub fn emit(&self, out: &mut String, slot: &str, owner: &Owner) {
        let mut line = emit_request(out, "PASS", slot, owner);
        if self.annotate {
            line.show("annotate", 1);
        }
        if let Some(tuple) = &self.annotations_db {
            line.tuple(tuple);
        }
        drop(line);
        emit_roots(out, &self.quota_roots);
        out.push_str("END\n");
    }

    /// Reads the first line of [`Ask::emit`].
    pub fn parse(words: &Words<'_>) -> Result<Ask, Damage> {
        let annotations_db = if words.get("size").is_some() { Some(words.tuple()?) } else { None };
        Ok(Ask { quota_roots: Vec::new(), annotate: words.get("annotate").is_some(), annotations_db, inbox: None })
    }

    /// Takes one of the lines after the first.
    pub fn detail(&mut self, line: &[u8]) -> Result<(), Damage> {
        add_root(&mut self.quota_roots, &words(line))
    }
}

fn emit_roots(out: &mut String, roots: &[Vec<u8>]) {
    for root in roots {
        Line::new(out, "ROOT").text("name", root);
    }
}

fn add_root(roots: &mut Vec<Vec<u8>>, words: &Words<'_>) -> Result<(), Damage> {
    match words.first {
        b"ROOT" if roots.len() < QUOTA_ROOTS_MAX => {
            roots.push(words.bytes("name")?);
            Ok(())
        }
        _ => Err(words.damage("line", &shown(words.first), "ROOT (not too many of them) or END")),
    }
}

/// What the requester knows of a folder or file, short: eight bytes of a SHA-1 over its entry and tuples.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Digest(pub u64);

impl Digest {
    /// Of a folder.
    pub fn of_folder(folder: &Folder) -> Digest {
        let mut text = String::new();
        put_tuples(&mut text, folder);
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(folder.id.as_deref().unwrap_or_default());
        bytes.push(0);
        bytes.extend_from_slice(&folder.entry);
        Digest::of(&bytes)
    }

    /// Of a user file.
    pub fn of_state(state: &State) -> Digest {
        let mut text = String::new();
        put_state(&mut text, state);
        Digest::of(text.as_bytes())
    }

    fn of(bytes: &[u8]) -> Digest {
        let sha1 = Guid::of(bytes).0;
        Digest(u64::from_be_bytes([sha1[0], sha1[1], sha1[2], sha1[3], sha1[4], sha1[5], sha1[6], sha1[7]]))
    }
}

/// What a client wants captured: what it saw of each folder and file, and what of that it wants.
///
/// The server looks again. What is as the client saw it is treated as the client says; what is not is read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Order {
    /// Quota roots to look for besides the owner's own.
    pub quota_roots: Vec<Vec<u8>>,
    folders: BTreeMap<Vec<u8>, (Digest, Option<Want>)>,
    states: BTreeMap<Vec<u8>, (Digest, bool)>,
}

impl Order {
    /// For a client that has seen `pass` and wants `wanted` of it.
    pub fn new(pass: &Pass, wanted: &Wanted, quota_roots: &[Vec<u8>]) -> Order {
        let folder = |f: &Folder| (f.name.clone(), (Digest::of_folder(f), wanted.folders.get(&f.name).copied()));
        let state = |s: &State| (s.name.clone(), (Digest::of_state(s), wanted.states.contains(&s.name)));
        Order {
            quota_roots: quota_roots.to_vec(),
            folders: pass.folders.iter().map(folder).collect(),
            states: pass.states.iter().map(state).collect(),
        }
    }

    /// What is to be read of `pass`, which is the server's own look.
    pub fn wanted(&self, pass: &Pass) -> Wanted {
        let mut wanted = Wanted::default();
        for folder in &pass.folders {
            let want = match self.folders.get(&folder.name) {
                Some((digest, want)) if *digest == Digest::of_folder(folder) => *want,
                _ => Some(Want::Read),
            };
            if let Some(want) = want {
                wanted.folders.insert(folder.name.clone(), want);
            }
        }
        for state in &pass.states {
            let wants = match self.states.get(&state.name) {
                Some((digest, wants)) if *digest == Digest::of_state(state) => *wants,
                _ => true,
            };
            if wants && matches!(state.what, StateKind::File(_)) {
                wanted.states.insert(state.name.clone());
            }
        }
        wanted
    }

    /// The request `CAPTURE`.
    pub fn emit(&self, out: &mut String, slot: &str, owner: &Owner) {
        drop(emit_request(out, "CAPTURE", slot, owner));
        emit_roots(out, &self.quota_roots);
        for (name, (digest, want)) in &self.folders {
            let mut line = Line::new(out, "FOLDER");
            line.text("name", name);
            line.show("digest", digest.0);
            match want {
                None => {}
                Some(Want::Read) => line.show("read", 1),
                Some(Want::Recheck { modseq, crc }) => {
                    line.show("modseq", modseq);
                    line.show("crc", crc);
                }
            }
        }
        for (name, (digest, wants)) in &self.states {
            let mut line = Line::new(out, "FILE");
            line.text("name", name);
            line.show("digest", digest.0);
            if *wants {
                line.show("read", 1);
            }
        }
        out.push_str("END\n");
    }

    /// Takes one of the lines after the first.
    pub fn detail(&mut self, line: &[u8]) -> Result<(), Damage> {
        let words = words(line);
        if self.folders.len() + self.states.len() >= WANTED_MAX {
            return Err(words.damage("request", "too many lines", "END"));
        }
        match words.first {
            b"FOLDER" => {
                let want = match (words.get("read"), words.number_opt("modseq")?) {
                    (Some(_), _) => Some(Want::Read),
                    (None, Some(modseq)) => Some(Want::Recheck { modseq, crc: words.number("crc")? }),
                    (None, None) => None,
                };
                self.folders.insert(words.bytes("name")?, (Digest(words.number("digest")?), want));
                Ok(())
            }
            b"FILE" => {
                let wants = words.get("read").is_some();
                self.states.insert(words.bytes("name")?, (Digest(words.number("digest")?), wants));
                Ok(())
            }
            _ => add_root(&mut self.quota_roots, &words),
        }
    }
}

fn put_tuples(out: &mut String, folder: &Folder) {
    for (file, tuple) in MetaFile::ALL.into_iter().zip(&folder.tuples) {
        if let Some(tuple) = tuple {
            let mut line = Line::new(out, "FILE");
            line.show("name", file.name());
            line.tuple(tuple);
        }
    }
}

fn put_state(out: &mut String, state: &State) {
    let mut line = Line::new(out, "STATE");
    line.text("name", &state.name);
    match &state.what {
        StateKind::File(tuple) => line.tuple(tuple),
        StateKind::Link(target) => line.text("link", target),
    }
}

/// A folder under the first word `first`, with what else that line says, and the tuples of its files.
pub fn emit_folder(out: &mut String, first: &str, folder: &Folder, also: impl FnOnce(&mut Line<'_>)) {
    let mut line = Line::new(out, first);
    line.text("name", &folder.name);
    if let Some(id) = &folder.id {
        line.text("id", id);
    }
    line.text("key", &folder.key);
    line.text("entry", &folder.entry);
    if folder.paths.archive.is_some() {
        line.show("archive", 1);
    }
    also(&mut line);
    drop(line);
    put_tuples(out, folder);
}

/// Reads the first line of [`emit_folder`]; tuples follow.
pub fn parse_folder(words: &Words<'_>) -> Result<Folder, Damage> {
    let name = words.bytes("name")?;
    if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) {
        let found = shown(&name[..name.len().min(40)]);
        return Err(words.damage("name", &format!("{} bytes, `{found}`", name.len()), "1 to 1024 bytes without a NUL"));
    }
    let id = if words.get("id").is_some() { Some(words.bytes("id")?) } else { None };
    let (key, entry) = (words.bytes("key")?, words.bytes("entry")?);
    let mut paths = FolderPaths::elsewhere();
    paths.archive = words.get("archive").map(|_| Place::host("/"));
    Ok(Folder { name, id, key, entry, paths, tuples: [None; 4] })
}

/// Reads a `FILE` line that follows a folder.
pub fn parse_file(words: &Words<'_>, folder: &mut Folder) -> Result<(), Damage> {
    let name = words.need("name")?;
    let found = MetaFile::ALL.into_iter().find(|file| file.name().as_bytes() == name);
    let file = found.ok_or_else(|| words.damage("name", &shown(name), "a metadata file"))?;
    folder.tuples[file as usize] = Some(words.tuple()?);
    Ok(())
}

/// The lines of a pass.
pub fn emit_pass(out: &mut String, pass: &Pass) {
    for folder in &pass.folders {
        emit_folder(out, "FOLDER", folder, |line| {
            if let Some(annotated) = pass.annotated.as_ref() {
                line.show("annotated", annotated.get(&folder.name).copied().unwrap_or(Guid::NULL));
            }
        });
    }
    for state in &pass.states {
        put_state(out, state);
    }
    if pass.annotations_db.is_some() || pass.annotations_young {
        let mut line = Line::new(out, "DATABASE");
        line.show("name", "annotations");
        if let Some(tuple) = &pass.annotations_db {
            line.tuple(tuple);
        }
    }
    for (name, error) in &pass.unreadable {
        emit_failed(out, "UNREADABLE", name, error);
    }
}

/// Something that could not be had, and why.
pub fn emit_failed(out: &mut String, first: &str, name: &[u8], error: &Error) {
    let mut line = Line::new(out, first);
    line.text("name", name);
    line.text("why", error.to_string().as_bytes());
}

/// Reads [`emit_failed`].
pub fn parse_failed(words: &Words<'_>) -> Result<(Vec<u8>, Error), Damage> {
    Ok((words.bytes("name")?, Error::Refused(shown(&words.bytes("why")?))))
}

/// Takes the lines of a pass.
#[derive(Default)]
pub struct PassReader {
    pass: Pass,
}

impl PassReader {
    /// Takes one line. False if it is none of a pass.
    pub fn take(&mut self, words: &Words<'_>) -> Result<bool, Damage> {
        let pass = &mut self.pass;
        match words.first {
            b"FOLDER" => {
                let folder = parse_folder(words)?;
                if let Some(sha1) = words.guid_opt("annotated")? {
                    let annotated = pass.annotated.get_or_insert_default();
                    // Zeros stand for none; that it was looked for is known all the same.
                    if sha1 != Guid::NULL {
                        annotated.insert(folder.name.clone(), sha1);
                    }
                }
                pass.folders.push(folder);
            }
            b"FILE" => match pass.folders.last_mut() {
                Some(folder) => parse_file(words, folder)?,
                None => return Err(words.damage("FILE", "no folder before it", "a FOLDER line")),
            },
            b"STATE" => pass.states.push(parse_state(words)?),
            b"DATABASE" if words.get("name") == Some(b"annotations") => {
                pass.annotations_db = if words.get("size").is_some() { Some(words.tuple()?) } else { None };
                pass.annotations_young = pass.annotations_db.is_none();
            }
            b"UNREADABLE" => pass.unreadable.push(parse_failed(words)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// What has been taken.
    pub fn pass(&self) -> &Pass {
        &self.pass
    }

    /// The pass, once all lines were taken. Names must be in order, each once, and must be such that they can be names.
    pub fn finish(self) -> Result<Pass, Damage> {
        let pass = self.pass;
        let folders = pass.folders.iter().map(|f| &f.name);
        let states = pass.states.iter().map(|s| &s.name);
        if !folders.clone().is_sorted_by(|a, b| a < b) || !states.clone().is_sorted_by(|a, b| a < b) {
            return Err(Damage::new(OBJECT, 0, "names", "names out of order", "names in byte order, each once"));
        }
        if let Some(bad) = states.clone().find(|name| !is_state_name(name)) {
            return Err(Damage::new(OBJECT, 0, "name", format!("`{}`", shown(bad)), "meta/..., or sieve/ and a script's name"));
        }
        Ok(pass)
    }
}

/// A name that a user file may have in an archive: what comes from another host must not become any other entry.
pub fn is_state_name(name: &[u8]) -> bool {
    let plain = |part: &[u8]| !part.is_empty() && !part.contains(&b'/') && part.iter().all(|&b| (0x21..=0x7E).contains(&b));
    match name {
        b"meta/seen" | b"meta/sub" | b"meta/counters" => true,
        _ => match (name.strip_prefix(b"meta/quota/"), name.strip_prefix(b"sieve/")) {
            (Some(rest), _) | (_, Some(rest)) => plain(rest) && unpercent(rest).is_some() && rest != b"." && rest != b"..",
            _ => false,
        },
    }
}

fn parse_state(words: &Words<'_>) -> Result<State, Damage> {
    let what =
        if words.get("link").is_some() { StateKind::Link(words.bytes("link")?) } else { StateKind::File(words.tuple()?) };
    Ok(State { name: words.bytes("name")?, place: Place::host("/"), what })
}

/// What is asked of one message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wish {
    /// UID.
    pub uid: u32,
    /// The index says that it lies on the archive partition.
    pub archived: bool,
    /// Only the place that comes second: what lies in the first is not what it should be.
    pub second: bool,
}

/// What is asked of the messages of a folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wishes {
    /// The folder's name.
    pub folder: Vec<u8>,
    /// The messages by UID, in the order in which they are wanted.
    pub messages: Vec<Wish>,
    /// Messages by GUID, whatever their UIDs.
    pub guids: BTreeSet<Guid>,
}

impl Wishes {
    /// The request `BODIES`.
    pub fn emit(&self, out: &mut String, slot: &str, owner: &Owner) {
        let mut line = emit_request(out, "BODIES", slot, owner);
        line.text("folder", &self.folder);
        drop(line);
        for wish in &self.messages {
            let mut line = Line::new(out, "UID");
            line.word(&wish.uid.to_string());
            if wish.archived {
                line.show("archived", 1);
            }
            if wish.second {
                line.show("second", 1);
            }
        }
        for guid in &self.guids {
            Line::new(out, "GUID").word(&guid.to_hex());
        }
        out.push_str("END\n");
    }

    /// Takes one of the lines after the first.
    pub fn detail(&mut self, line: &[u8]) -> Result<(), Damage> {
        let words = words(line);
        if self.messages.len() + self.guids.len() >= UIDS_MAX {
            return Err(words.damage("request", "too many messages", "END"));
        }
        let argument = words.rest.split(|&b| b == b' ').next().unwrap_or_default();
        match words.first {
            b"UID" => {
                let uid = crate::lines::parse_number(argument);
                let uid = uid.ok_or_else(|| words.damage("UID", &shown(argument), "a number below 4294967296"))?;
                let (archived, second) = (words.get("archived").is_some(), words.get("second").is_some());
                self.messages.push(Wish { uid, archived, second });
            }
            b"GUID" => {
                let guid = Guid::from_hex(argument);
                self.guids.insert(guid.ok_or_else(|| words.damage("GUID", &shown(argument), "40 hexadecimal digits"))?);
            }
            _ => return Err(words.damage("line", &shown(words.first), "UID, GUID or END")),
        }
        Ok(())
    }
}

/// Why a message is not sent, in the line that stands in the place of its block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lack {
    /// There is no such file; otherwise it cannot be read.
    pub absent: bool,
    /// The file that was looked for, escaped.
    pub path: String,
    /// Why, worded for a person.
    pub why: String,
}

impl Lack {
    /// The line `LACK`.
    pub fn emit(&self, out: &mut String, name: &str) {
        let mut line = Line::new(out, "LACK");
        line.word(name);
        if self.absent {
            line.show("absent", 1);
        }
        line.text("path", self.path.as_bytes());
        line.text("why", self.why.as_bytes());
    }

    /// Reads [`Lack::emit`]: the name and the rest.
    pub fn parse(words: &Words<'_>) -> Result<(Vec<u8>, Lack), Damage> {
        let name = words.rest.split(|&b| b == b' ').next().unwrap_or_default().to_owned();
        let text = |key| words.bytes(key).map(|bytes| shown(&bytes));
        Ok((name, Lack { absent: words.get("absent").is_some(), path: text("path")?, why: text("why")? }))
    }
}
