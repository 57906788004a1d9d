//! The server's side of the stock dialect (PROTOCOL.md section 2): what a `backupcyrusd` answers, without its faults
//! (section 2.7).
//!
//! Everything that can be refused is refused before `OK`. What must not come in: the native dialect.

use super::Session;
use crate::cyrus::header;
use crate::cyrus::mailboxes;
use crate::cyrus::names::{MailboxName, Namespace, Owner, View};
use crate::error::{Error, Fault};
use crate::source::capture::{Capture, STATE_MAX, capture_folder, read_state};
use crate::source::lock::close;
use crate::source::message::{self, Found, Lacking};
use crate::source::pass::fill_tuples;
use crate::source::site::kept_elsewhere;
use crate::source::{Folder, MetaFile, State, StateKind, Tuple};
use crate::stock::annotations;
use crate::time::Time;
use crate::wire::stream::{Block, number};
use crate::wire::words;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The most words of a request.
const WORDS_MAX: usize = 4096;
/// The most bytes of a literal.
const LITERAL_MAX: u64 = 4096;

/// Why a request is not granted.
enum Stop {
    /// It is refused, with this text.
    Refused(String),
    /// The connection is of no use any more.
    Broken(Error),
}

type Answer<T> = Result<T, Stop>;

fn refuse<T>(why: impl Into<String>) -> Answer<T> {
    Err(Stop::Refused(why.into()))
}

/// What is wrong with this host, as the text of a refusal. Names in it are escaped, so it is one line.
fn trouble(error: impl Into<Error>) -> Stop {
    Stop::Refused(match error.into() {
        Error::Busy { object, holder } => {
            let holder = holder.map(|holder| format!(", held by {holder}")).unwrap_or_default();
            format!("busy {object}{holder}")
        }
        error => format!("failed {error}"),
    })
}

/// What of a request's line has not been taken.
struct Args {
    line: Vec<u8>,
    at: usize,
    /// A space stands before `at`, so a word follows, be it empty.
    more: bool,
}

impl Args {
    fn new(line: &[u8]) -> Args {
        Args { line: line.to_vec(), at: 0, more: true }
    }

    fn rest(&self) -> &[u8] {
        &self.line[self.at..]
    }

    /// Takes `len` bytes and the space behind them.
    fn take(&mut self, len: usize) -> Vec<u8> {
        let word = self.rest()[..len].to_vec();
        self.at += len;
        self.more = self.rest().first() == Some(&b' ');
        self.at += usize::from(self.more);
        word
    }

    /// The next word, as it stands.
    fn word(&mut self) -> Option<Vec<u8>> {
        let len = self.rest().iter().position(|&b| b == b' ').unwrap_or(self.rest().len());
        self.more.then(|| self.take(len))
    }

    /// All words that are left.
    fn words(&mut self) -> Answer<Vec<Vec<u8>>> {
        let mut words = Vec::new();
        while let Some(word) = self.word() {
            if words.len() == WORDS_MAX {
                return refuse("too many words");
            }
            words.push(word);
        }
        Ok(words)
    }

    /// The next word, which is in quotes; `None` if they have no end.
    fn quoted(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut rest = self.rest().iter().enumerate().skip(1);
        while let Some((at, &byte)) = rest.next() {
            match byte {
                b'"' => {
                    self.take(at + 1);
                    return Some(out);
                }
                b'\\' => out.push(*rest.next()?.1),
                byte => out.push(byte),
            }
        }
        None
    }

    /// The length of the literal that ends the line.
    fn literal(&self) -> Option<u64> {
        let digits = self.rest().strip_prefix(b"{")?.strip_suffix(b"}")?;
        number(digits.strip_suffix(b"+").unwrap_or(digits))
    }
}

impl Session<'_> {
    /// Answers a request of the stock dialect.
    pub(super) async fn stock(&mut self, line: &[u8]) -> Result<(), Error> {
        match self.granted(line).await {
            Ok(()) => Ok(()),
            Err(Stop::Refused(why)) => self.no(&why).await,
            Err(Stop::Broken(error)) => Err(error),
        }
    }

    async fn granted(&mut self, line: &[u8]) -> Answer<()> {
        let mut args = Args::new(line);
        let verb = args.word().unwrap_or_default();
        if args.word().as_ref() != Some(&self.settings.servername) {
            // As the server writes it itself: nobody decodes this.
            let name = [b"NO iam ", &self.settings.servername[..], b"\n"].concat();
            return self.stream.send(&name).await.map_err(Stop::Broken);
        }
        match &verb.to_ascii_uppercase()[..] {
            b"USERS" => self.users().await,
            _ if !args.more => refuse("bad command"),
            b"META" => self.meta(&mut args).await,
            b"FMULTISTATUS" => self.multistatus(&mut args).await,
            b"FMETA" => self.fmeta(&mut args).await,
            b"FDATA" => self.fdata(&mut args).await,
            _ => refuse(format!("unknown command {}", words::encode(&verb))),
        }
    }

    async fn put(&mut self, text: &str) -> Answer<()> {
        self.say(text).await.map_err(Stop::Broken)
    }

    async fn put_block(&mut self, name: &[u8], content: &[u8], mtime: Time, ino: u64) -> Answer<()> {
        let mtime = Time::from_secs(mtime.secs());
        let block = Block { name: name.to_vec(), size: content.len() as u64, mtime, ino };
        self.stream.send_block(&block, content).await.map_err(Stop::Broken)
    }

    /// The next argument, decoded.
    async fn argument(&mut self, args: &mut Args, missing: &str) -> Answer<Vec<u8>> {
        let word = match args.rest().first() {
            Some(b'"') if args.more => args.quoted(),
            Some(b'{') if args.more && args.literal().is_some() => Some(self.literal(args).await?),
            _ => args.word(),
        };
        match word {
            Some(word) if !word.is_empty() => {
                words::decode(&word).ok_or_else(|| Stop::Refused(format!("bad argument {}", words::encode(&word))))
            }
            _ => refuse(missing),
        }
    }

    /// Reads a literal, and the line that goes on behind it.
    async fn literal(&mut self, args: &mut Args) -> Answer<Vec<u8>> {
        let mut left = args.literal().unwrap_or_default();
        if left > LITERAL_MAX {
            return Err(Stop::Broken(self.stream.broken(format!("sends a literal of more than {LITERAL_MAX} bytes"))));
        }
        let mut out = Vec::new();
        while left > 0 {
            let piece = self.stream.piece(left).await.map_err(Stop::Broken)?;
            left -= piece.len() as u64;
            out.extend_from_slice(piece);
        }
        *args = Args::new(self.stream.some_line().await.map_err(Stop::Broken)?);
        args.take(0);
        Ok(out)
    }

    /// The user whom an argument names; `None` for a name that no user can have.
    async fn user(&mut self, args: &mut Args) -> Answer<Option<Vec<u8>>> {
        let word = self.argument(args, "missing user").await?;
        let Ok(inbox) = self.site.naming().inbox(&word) else { return Ok(None) };
        match inbox.owner() {
            owner if !self.settings.gives(&owner) => refuse("this client may not have that user"),
            Owner::User(userid) => Ok(Some(userid)),
            Owner::Shared => Ok(None),
        }
    }

    async fn users(&mut self) -> Answer<()> {
        let users = self.site.users(self.io).await.map_err(trouble)?;
        let mut answer = String::from("OK\n");
        for owner in users.iter().filter(|owner| self.settings.gives(owner)) {
            if let Owner::User(userid) = owner {
                answer.push_str(&format!("USER {}\n", words::encode(userid)));
            }
        }
        answer.push_str("DONE USERS\n");
        self.put(&answer).await
    }

    /// `META slot user [file...]`.
    async fn meta(&mut self, args: &mut Args) -> Answer<()> {
        let user = self.user(args).await?;
        let wanted = if args.more { Some(args.words()?) } else { None };
        let files = self.user_files(user.as_deref()).await?;
        let Some(wanted) = wanted else {
            let places = files.iter().map(|(_, state)| state.place.clone()).collect();
            let stats = self.io.stat_many(places).await.map_err(|f| trouble(Error::world("stat", "user files", f)))?;
            let mut answer = String::from("OK\n");
            for ((name, _), stat) in files.iter().zip(stats) {
                if let Ok(stat) = stat {
                    answer.push_str(&stat_line(None, name, stat.into()));
                }
            }
            return self.put(&(answer + "DONE META\n")).await;
        };
        self.put("OK\n").await?;
        for name in wanted.iter().filter(|name| [b"seen", &b"sub"[..]].contains(&&name[..])) {
            match files.iter().find(|(known, _)| known.as_bytes() == name) {
                Some((known, state)) => self.user_file(known, state).await?,
                None => self.put(&format!("NO no such file {}\n", words::encode(name))).await?,
            }
        }
        self.put("DONE META\n").await
    }

    /// The files of a user that META knows, by their names there, `seen` first. None for a user without an INBOX.
    async fn user_files(&mut self, user: Option<&[u8]>) -> Answer<Vec<(&'static str, State)>> {
        let Some(user) = user else { return Ok(Vec::new()) };
        let inbox = self.site.naming().inbox(user).map_err(trouble)?;
        let inbox = self.site.find(self.io, &inbox).await.map_err(trouble)?;
        let files = self
            .site
            .user_files(&Owner::User(user.to_vec()), inbox.as_ref().map(crate::source::site::Inbox::from))
            .map_err(trouble)?;
        let mut found = Vec::new();
        for known in ["seen", "sub"] {
            let full = format!("meta/{known}").into_bytes();
            if kept_elsewhere(self.site.conf(), &full).is_some() {
                continue;
            }
            if let Some((name, place)) = files.iter().find(|(name, _)| *name == full).cloned() {
                found.push((known, State { name, place, what: StateKind::File(Tuple::default()) }));
            }
        }
        Ok(found)
    }

    async fn user_file(&mut self, name: &str, state: &State) -> Answer<()> {
        let clock = self.clock().await;
        let deadline = self.io.now().plus(self.site.patience().wait);
        match read_state(self.io, state, deadline).await {
            Ok(Some((bytes, tuple))) => self.put_block(name.as_bytes(), &bytes, aged(tuple.mtime, clock), tuple.ino).await,
            Ok(None) => self.put(&format!("NO no such file {name}\n")).await,
            Err(_) => self.put(&format!("NO failed to open file {name}\n")).await,
        }
    }

    async fn clock(&self) -> Time {
        self.io.clock().await.map_or(self.io.now(), |(clock, _)| clock)
    }

    /// `FMULTISTATUS slot user`.
    async fn multistatus(&mut self, args: &mut Args) -> Answer<()> {
        let Some(user) = self.user(args).await? else { return self.put("OK\nDONE FMULTISTATUS\n").await };
        let folders = self.folders(&user).await?;
        let mut annotated = Vec::with_capacity(folders.len());
        for (_, folder) in &folders {
            annotated.push((self.uniqueid(folder).await?, self.annotated(&user, folder).await?));
        }
        self.put("OK\n").await?;
        for ((name, folder), (id, made)) in folders.iter().zip(annotated) {
            let first = format!("FOLDER {} {} {}\n", words::encode(name), word_of(&id), jmapid(folder));
            self.put(&(first + &stat_lines(Some(name), folder, made))).await?;
        }
        self.put("DONE FMULTISTATUS\n").await
    }

    /// A user's folders by external name, those that are not deleted first, each part in the order of mailboxes.db.
    ///
    /// Refused as a whole if anything of it cannot be read: a folder that is not in the list is one that is deleted.
    async fn folders(&mut self, user: &[u8]) -> Answer<Vec<(Vec<u8>, Folder)>> {
        let owner = Owner::User(user.to_vec());
        let mut pass = self.site.folders(self.io, &owner).await.map_err(trouble)?;
        fill_tuples(self.io, &mut pass.folders, &mut pass.unreadable).await.map_err(trouble)?;
        if let Some((_, error)) = pass.unreadable.pop() {
            return Err(trouble(error));
        }
        let mut named = Vec::with_capacity(pass.folders.len());
        for folder in pass.folders {
            let name = self.site.naming().parse_relative(&owner, &folder.name).map_err(trouble)?;
            named.push((name, folder));
        }
        named.sort_by(|a, b| (a.0.deleted().is_some(), &a.1.key).cmp(&(b.0.deleted().is_some(), &b.1.key)));
        let mut all: Vec<(Vec<u8>, Folder)> = Vec::with_capacity(named.len());
        let mut taken = BTreeSet::new();
        for (name, folder) in named {
            let deleted = name.deleted().is_some();
            match self.external(user, &name) {
                Some(external) if taken.insert(external.clone()) => all.push((external, folder)),
                // Only under altnamespace, where a deleted folder has no name of its own.
                Some(_) if deleted => {}
                _ => return refuse(format!("failed no name can be given to {}", crate::escape::shown(&folder.name))),
            }
        }
        Ok(all)
    }

    /// The name that the user sees; for a deleted folder under altnamespace the one without it.
    fn external(&self, user: &[u8], name: &MailboxName) -> Option<Vec<u8>> {
        let namespace = self.site.conf().namespace();
        let spelled = |ns: &Namespace| self.site.naming().external(ns, View::User(user), name);
        match spelled(&namespace) {
            None if name.deleted().is_some() => spelled(&Namespace { alt: false, ..namespace }),
            name => name,
        }
    }

    /// The folder that the next arguments name, and its owner. `internal`: a refusal names it by its internal name.
    async fn folder(&mut self, args: &mut Args, internal: bool) -> Answer<(Vec<u8>, Folder)> {
        let user = self.user(args).await?;
        let word = self.argument(args, "missing folder").await?;
        let (mut shown, mut found) = (if internal { Vec::new() } else { word.clone() }, None);
        if let Some(user) = user {
            let (plain, deleted) = self.meant(&user, &word);
            if let (Some(name), true) = (&plain, internal) {
                shown = self.site.naming().internal(name);
            }
            let owner = Owner::User(user.clone());
            for name in [plain, deleted].into_iter().flatten().filter(|name| name.owner() == owner) {
                if found.is_none() {
                    found = self.site.find(self.io, &name).await.map_err(trouble)?;
                }
            }
            if let Some(folder) = found {
                return Ok((user, folder));
            }
        }
        no_folder(&shown)
    }

    /// What an external name may mean: a folder, and under altnamespace a deleted one.
    fn meant(&self, user: &[u8], external: &[u8]) -> (Option<MailboxName>, Option<MailboxName>) {
        let namespace = self.site.conf().namespace();
        let parsed = |ns: &Namespace| self.site.naming().parse_external(ns, View::User(user), external).ok();
        let deleted = if namespace.alt { parsed(&Namespace { alt: false, ..namespace.clone() }) } else { None };
        (parsed(&namespace), deleted.filter(|name| name.deleted().is_some()))
    }

    /// A folder's uniqueid, from its header if mailboxes.db does not have it (up to 2.4). Empty if there is none.
    async fn uniqueid(&self, folder: &Folder) -> Answer<Vec<u8>> {
        if let Some(id) = &folder.id {
            return Ok(id.clone());
        }
        let place = &folder.paths.meta[MetaFile::Header as usize];
        match self.io.read_whole(place, STATE_MAX, Vec::new()).await {
            Ok((bytes, _)) => Ok(header::parse(&bytes).map_err(trouble)?.uniqueid),
            Err(Fault::NotFound) => Ok(Vec::new()),
            Err(fault) => Err(trouble(Error::world("read", place.shown(), fault))),
        }
    }

    /// What stands for a stat of a folder's `mailbox_annotations`.
    async fn annotated(&mut self, user: &[u8], folder: &Folder) -> Answer<Option<Tuple>> {
        let id = folder.id.clone().unwrap_or_default();
        let lines = self.site.mailbox_annotations(self.io, folder, &id).await.map_err(trouble)?;
        let json = annotations::to_json(&lines, user).map_err(trouble)?;
        let tuple = |json: Vec<u8>| Tuple { size: json.len() as u64, ino: annotations::inode(&json), ..Tuple::default() };
        Ok(json.map(tuple))
    }

    /// `FMETA slot user folder [file...]`.
    async fn fmeta(&mut self, args: &mut Args) -> Answer<()> {
        let (user, folder) = self.folder(args, true).await?;
        if args.more {
            let wanted = args.words()?;
            return self.files(&user, &folder, &wanted).await;
        }
        let mut folders = alloc::vec![folder];
        let mut unreadable = Vec::new();
        fill_tuples(self.io, &mut folders, &mut unreadable).await.map_err(trouble)?;
        let folder = match (folders.pop(), unreadable.pop()) {
            (Some(folder), _) => folder,
            (None, Some((_, error))) => return Err(trouble(error)),
            (None, None) => return refuse("no such folder"),
        };
        if folder.tuples[MetaFile::Index as usize].is_none() {
            return no_folder(&self.internal_name(&user, &folder));
        }
        let (id, made) = (self.uniqueid(&folder).await?, self.annotated(&user, &folder).await?);
        let stats = stat_lines(None, &folder, made);
        self.put(&format!("OK\n{stats}{}", done("FMETA", &id, &folder))).await
    }

    fn internal_name(&self, user: &[u8], folder: &Folder) -> Vec<u8> {
        let name = self.site.naming().parse_relative(&Owner::User(user.to_vec()), &folder.name);
        name.map(|name| self.site.naming().internal(&name)).unwrap_or_default()
    }

    /// Metadata of one folder, as of one moment.
    async fn files(&mut self, user: &[u8], folder: &Folder, wanted: &[Vec<u8>]) -> Answer<()> {
        let clock = self.clock().await;
        let owner = Owner::User(user.to_vec());
        let Some(capture) = capture_folder(self.site, self.io, &owner, folder).await.map_err(trouble)? else {
            return no_folder(&self.internal_name(user, folder));
        };
        let sent = self.send_files(user, folder, wanted, &capture, clock).await;
        capture.finish(self.io).await;
        sent
    }

    async fn send_files(
        &mut self,
        user: &[u8],
        folder: &Folder,
        wanted: &[Vec<u8>],
        capture: &Capture,
        clock: Time,
    ) -> Answer<()> {
        let Some(captured) = capture.folders.get(&folder.name) else { return refuse("no such folder") };
        let json = annotations::to_json(&captured.annotations, user).map_err(trouble)?;
        self.put("OK\n").await?;
        for name in wanted {
            if name == annotations::NAME.as_bytes() {
                match &json {
                    Some(json) => self.put_block(name, json, Time::ZERO, annotations::inode(json)).await?,
                    None => self.put("NO empty mailbox_annotations\n").await?,
                }
            }
            let Some((_, file)) = FILES.into_iter().find(|(known, _)| known.as_bytes() == name) else { continue };
            match capture.load(self.io, &folder.name, file).await.map_err(Stop::Broken)? {
                Some(bytes) => {
                    let tuple = captured.folder.tuples[file as usize].unwrap_or_default();
                    self.put_block(name, &bytes, aged(tuple.mtime, clock), tuple.ino).await?;
                }
                None => self.put(&format!("NO no such file {}\n", words::encode(name))).await?,
            }
        }
        self.put(&done("FMETA", &captured.id, folder)).await
    }

    /// `FDATA slot user folder uid...`.
    async fn fdata(&mut self, args: &mut Args) -> Answer<()> {
        let (_, folder) = self.folder(args, false).await?;
        let uids = args.words()?;
        let id = self.uniqueid(&folder).await?;
        self.put("OK\n").await?;
        let mut buffer = Vec::new();
        for word in &uids {
            self.message(&folder, word, &mut buffer).await?;
        }
        self.put(&done("FDATA", &id, &folder)).await
    }

    async fn message(&mut self, folder: &Folder, word: &[u8], buffer: &mut Vec<u8>) -> Answer<()> {
        let uid = atoi(word);
        let places = if uid == 0 { Vec::new() } else { message::candidates(&folder.paths, uid, false) };
        let mut unreadable = false;
        for place in &places {
            match message::read(self.io, place, core::mem::take(buffer)).await {
                Ok(Found::Whole(content, stat)) => {
                    self.put_block(word, &content, stat.mtime, stat.ino).await?;
                    *buffer = content;
                    return Ok(());
                }
                Ok(Found::Large(file, stat)) => {
                    let mtime = Time::from_secs(stat.mtime.secs());
                    let block = Block { name: word.to_vec(), size: stat.size, mtime, ino: stat.ino };
                    let sent = self.large(&block, file).await;
                    close(self.io, file).await;
                    return sent.map_err(Stop::Broken);
                }
                Err(Lacking::Absent) => {}
                Err(Lacking::Unreadable(_)) => unreadable = true,
            }
        }
        let why = if unreadable { "failed to open" } else { "no such" };
        self.put(&format!("NO {why} file {}\n", words::encode(word))).await
    }
}

/// The files of a folder that lie on disk, by their names in requests, in the order of answers.
const FILES: [(&str, MetaFile); 3] =
    [("header", MetaFile::Header), ("index", MetaFile::Index), ("annotations", MetaFile::Annotations)];

fn no_folder<T>(name: &[u8]) -> Answer<T> {
    refuse(format!("no such folder {}", words::encode(name)))
}

fn stat_line(folder: Option<&[u8]>, name: &str, tuple: Tuple) -> String {
    let folder = folder.map(|folder| words::encode(folder) + " ").unwrap_or_default();
    let Tuple { size, mtime, ino, .. } = tuple;
    // A time before 1970 has 2^64 added.
    format!("STAT {folder}{name} {size} {} {ino}\n", mtime.secs() as u64)
}

fn stat_lines(name: Option<&[u8]>, folder: &Folder, made: Option<Tuple>) -> String {
    let on_disk = FILES.into_iter().map(|(known, file)| (known, folder.tuples[file as usize]));
    let all = on_disk.chain([(annotations::NAME, made)]);
    all.filter_map(|(known, tuple)| tuple.map(|tuple| stat_line(name, known, tuple))).collect()
}

/// A word that is never empty.
fn word_of(id: &[u8]) -> String {
    words::encode(if id.is_empty() { b"-" } else { id })
}

fn jmapid(folder: &Folder) -> String {
    let entry = mailboxes::parse(&folder.entry).ok();
    word_of(&entry.and_then(|entry| entry.jmapid).unwrap_or_default())
}

fn done(verb: &str, id: &[u8], folder: &Folder) -> String {
    format!("DONE {verb} {} {}\n", word_of(id), jmapid(folder))
}

/// The time that a block tells of a file that was read when the clock showed `clock`: a second earlier for one that can change
/// again within the second that it wears, so that the next look finds it changed.
fn aged(mtime: Time, clock: Time) -> Time {
    if mtime.secs() < clock.secs() { mtime } else { Time::from_secs(mtime.secs() - 1) }
}

/// A number as C's `atoi` reads it, if it can be a UID; else 0.
fn atoi(word: &[u8]) -> u32 {
    let word = word.strip_prefix(b"+").unwrap_or(word);
    let digits = word.iter().take_while(|b| b.is_ascii_digit()).count();
    number(&word[..digits]).and_then(|n| u32::try_from(n).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_c_reads_them() {
        for (word, uid) in [("1", 1), ("01", 1), ("1.", 1), ("1x", 1), ("+7", 7), ("4294967295", u32::MAX)] {
            assert_eq!(atoi(word.as_bytes()), uid, "{word}");
        }
        for word in ["", "0", "-1", "abc", "x1", "4294967296", "99999999999999999999999", "++1", ".."] {
            assert_eq!(atoi(word.as_bytes()), 0, "{word}");
        }
    }

    #[test]
    fn a_line_is_taken_word_by_word() {
        let mut args = Args::new(b"FMETA a  b ");
        let mut words = Vec::new();
        while let Some(word) = args.word() {
            words.push(word);
        }
        assert_eq!(words, [&b"FMETA"[..], b"a", b"", b"b", b""]);
        let mut args = Args::new(b"\"a \\\"b\\\\\" c");
        assert_eq!((args.quoted(), args.word(), args.word()), (Some(b"a \"b\\".to_vec()), Some(b"c".to_vec()), None));
        for bad in ["\"", "\"a", "\"a\\\""] {
            assert_eq!(Args::new(bad.as_bytes()).quoted(), None, "{bad}");
        }
        let lengths = ["{10}", "{10+}", "{}", "{1", "{1}x", "{-1}", "x"].map(|line| Args::new(line.as_bytes()).literal());
        assert_eq!(lengths, [Some(10), Some(10), None, None, None, None, None]);
    }

    #[test]
    fn a_file_of_this_very_second_looks_older_than_it_is() {
        let at = |secs: i64, ns: i64| Time(secs * 1_000_000_000 + ns);
        assert_eq!(aged(at(10, 5), at(11, 0)), at(10, 5));
        assert_eq!(aged(at(11, 5), at(11, 900)), at(10, 0));
        assert_eq!(aged(at(99, 5), at(11, 900)), at(98, 0));
    }
}
