//! Erasing: a user with everything that the store has of him, or single messages from all snapshots.
//!
//! A line in the store's file `erased` is durable before anything goes. A hold forbids both. What must not come in: the server,
//! which must have erased before, or the next backup saves the same again.

use super::decide::{Candidate, Decider, Decision};
use super::filter::Job;
use super::survey::{self, LookAway, Survey};
use super::{Settings, replace};
use crate::archive::append::{ASIDE, DIR_NAMES_MAX, LOCK, Writer, lock, remove};
use crate::archive::member::Kind;
use crate::archive::read::{ARCHIVE, Reader};
use crate::error::{Error, Fault};
use crate::escape::shown;
use crate::guid::Guid;
use crate::io::{How, Io, LockMode, Place};
use crate::time::Civil;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The file in the store that says what was erased.
const ERASED: &[u8] = b"erased";

/// What was erased, or would be.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Erased {
    /// Files that went, with their sizes in bytes.
    pub files: Vec<(String, u64)>,
    /// Messages that went from the archive.
    pub messages: Vec<Guid>,
    /// Messages that were to go and are not in the archive.
    pub unknown: Vec<Guid>,
    /// Number and SHA-1 of the head of the chain as it was.
    pub head: Option<(u64, Guid)>,
}

/// Removes the directory `dir` of the user `who` with all that is in it.
pub async fn user(io: &Io, dir: &Place, who: &str, dry_run: bool) -> Result<Erased, Error> {
    if dry_run {
        return survey_user(io, dir).await;
    }
    // Taking the lock would make the directory of somebody who has none.
    names(io, dir).await?;
    let held = lock(io, dir).await?;
    let result = async {
        let erased = survey_user(io, dir).await?;
        record(io, &format!("user {who}: {} files, {}", erased.files.len(), head_text(erased.head))).await?;
        // The archive goes last but for the lock: as long as it is there it says whether there is a hold.
        let last = |name: &[u8]| (name == LOCK, name == ARCHIVE);
        let mut ours = names(io, dir).await?;
        ours.sort_by_key(|name| last(name));
        for name in ours {
            remove(io, &dir.join(&name)).await?;
        }
        // What was in the directory is durably gone before its name is.
        io.sync_dir(dir).await.map_err(|fault| Error::world("sync", dir.shown(), fault))?;
        match io.remove_dir(dir).await {
            Ok(()) => {}
            // Since the lock went, somebody has begun anew.
            Err(_) if names(io, dir).await.is_ok_and(|names| names.iter().any(|name| name == LOCK)) => return Ok(erased),
            Err(fault) => return Err(Error::world("remove", dir.shown(), fault)),
        }
        let above = dir.parent();
        io.sync_dir(&above).await.map_err(|fault| Error::world("sync", above.shown(), fault))?;
        Ok(erased)
    };
    let result = result.await;
    let _ = io.close(held).await;
    result
}

async fn names(io: &Io, dir: &Place) -> Result<Vec<Vec<u8>>, Error> {
    let names = io.list(dir, DIR_NAMES_MAX).await.map_err(|fault| Error::world("list", dir.shown(), fault))?;
    Ok(names.into_iter().map(|entry| entry.name).collect())
}

async fn survey_user(io: &Io, dir: &Place) -> Result<Erased, Error> {
    let mut erased = Erased::default();
    match Reader::open(io, dir).await {
        Ok(reader) => {
            let head = reader.head().clone();
            reader.close().await;
            refuse_hold(head.commit.hold)?;
            erased.head = Some((head.commit.number, head.part.sha1));
        }
        // A run that was killed while it erased has left the rest.
        Err(Error::World { fault: Fault::NotFound, .. }) => {}
        Err(error) => return Err(error),
    }
    for name in names(io, dir).await? {
        let place = dir.join(&name);
        let stat = io.stat(&place).await.map_err(|fault| Error::world("stat", place.shown(), fault))?;
        erased.files.push((shown(&name), stat.size));
    }
    Ok(erased)
}

fn refuse_hold(hold: Option<crate::time::Time>) -> Result<(), Error> {
    match hold {
        None => Ok(()),
        Some(since) => {
            let since = Civil::from_time(since);
            Err(Error::Refused(format!("nothing is erased: on hold since {since}; `cylinder hold` lifts it")))
        }
    }
}

fn head_text(head: Option<(u64, Guid)>) -> String {
    head.map_or_else(|| String::from("no archive"), |(number, sha1)| format!("commit {number} {sha1}"))
}

/// Appends a line to the store's record of what was erased, and makes it durable.
async fn record(io: &Io, what: &str) -> Result<(), Error> {
    let place = Place::store(ERASED);
    let world = |doing| {
        let place = place.shown();
        move |fault| Error::world(doing, place, fault)
    };
    let file = match io.open(&place, How::Write).await {
        Err(Fault::NotFound) => io.open(&place, How::Create).await,
        other => other,
    };
    let file = file.map_err(world("open"))?;
    let written = async {
        io.lock(file, LockMode::Exclusive).await.map_err(world("lock"))?;
        let end = io.fstat(file).await.map_err(world("stat"))?.size;
        let line = format!("{} {what}\n", Civil::from_time(io.now())).into_bytes();
        io.write_at(file, end, line).await.map_err(world("write"))?;
        io.sync(file).await.map_err(world("sync"))?;
        io.sync_dir(&place.parent()).await.map_err(world("sync"))
    };
    let written = written.await;
    let _ = io.close(file).await;
    written
}

/// The most bytes that the record of what was erased may have.
const ERASED_MAX: u64 = 64 << 20;

/// The messages that were erased of the user `who`, as far as the store's record tells.
pub async fn erased(io: &Io, who: &str) -> Result<BTreeSet<Guid>, Error> {
    let place = Place::store(ERASED);
    let bytes = match io.read_whole(&place, ERASED_MAX, Vec::new()).await {
        Ok((bytes, _)) => bytes,
        Err(Fault::NotFound) => return Ok(BTreeSet::new()),
        Err(fault) => return Err(Error::world("read", place.shown(), fault)),
    };
    let about = format!(" messages of {who}: ");
    let text = String::from_utf8_lossy(&bytes);
    let lists = text.lines().filter_map(|line| line.split_once(&about[..])?.1.split(';').next());
    Ok(lists.flat_map(str::split_ascii_whitespace).filter_map(|word| Guid::from_hex(word.as_bytes())).collect())
}

/// Keeps everything but some messages.
struct Without<'a>(&'a [Guid]);

impl Decider for Without<'_> {
    fn decide(&self, entry: &Candidate<'_>) -> Decision {
        match entry.kind {
            Kind::Commit | Kind::List | Kind::Table => Decision::Rewrite,
            Kind::Data if entry.message().is_some_and(|guid| self.0.contains(&guid)) => Decision::Drop,
            _ => Decision::Keep,
        }
    }
}

/// Removes these messages of the user `who` from all snapshots. Files beside the archive that may have them too are an error.
pub async fn messages(io: &Io, dir: &Place, who: &str, guids: &[Guid], settings: &Settings) -> Result<Erased, Error> {
    let reader = Reader::open(io, dir).await?;
    let writer = Writer::from_reader(reader, &settings.archive).await?;
    let result = without(io, dir, who, guids, &writer, settings).await;
    writer.close().await;
    result
}

async fn without(
    io: &Io,
    dir: &Place,
    who: &str,
    guids: &[Guid],
    writer: &Writer,
    settings: &Settings,
) -> Result<Erased, Error> {
    refuse_hold(writer.head().commit.hold)?;
    if let Some(aside) = names(io, dir).await?.iter().find(|name| name.starts_with(ASIDE)) {
        return Err(Error::Refused(format!("{} may have it too: look at it and remove it first", dir.join(aside).shown())));
    }
    let survey = Survey::read(io, writer, survey::commits(writer).await?, &mut LookAway).await?;
    let is_there = |guid: &Guid| survey.messages.iter().any(|m| m.guid == *guid);
    let (messages, unknown): (Vec<Guid>, Vec<Guid>) = guids.iter().partition(|guid| is_there(guid));
    let head = Some((writer.head().commit.number, writer.head().part.sha1));
    let erased = Erased { messages, unknown, head, ..Erased::default() };
    if erased.messages.is_empty() || settings.dry_run {
        return Ok(erased);
    }
    let list: Vec<String> = erased.messages.iter().map(Guid::to_hex).collect();
    record(io, &format!("messages of {who}: {}; {}", list.join(" "), head_text(head))).await?;
    let decider = Without(&erased.messages);
    let job = Job { io, reader: writer, survey: &survey, decider: &decider, settings: &settings.archive, time: io.now() };
    replace(job, dir, settings.check).await?;
    Ok(erased)
}
