//! Export: folders as files that other people's programs read. What each form keeps and loses is in `core/RESTORE.md`.
//!
//! First every folder is looked at: names, side files, and for each message one line in memory (72 bytes) that says where it
//! lies and where it goes. Then the messages pass once, in the order of the archive. Only an mbox is made folder by folder, by
//! way of a scratch file, so that its messages stand in the order of their UIDs.
//!
//! What must not come in: where files go ([`super::shelf`]).

use super::absent::absent;
use super::bodies::{Bodies, Next};
use super::draft::Draft;
use super::forms::{self, Lf, Mbox};
use super::report::Report;
use super::safe::Names;
use super::select::{Body, Folder, Message, Scope, Selection};
use super::shelf::{Put, Shelf, is_fatal};
use super::side;
use crate::archive::record::MessageAt;
use crate::cyrus::names::Naming;
use crate::error::Error;
use crate::escape::shown;
use crate::io::{Event, Io};
use crate::time::Time;
use crate::view;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// A form of export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One Maildir for each folder.
    Maildir,
    /// One mbox for each folder.
    Mbox,
    /// One directory for each folder, a file for each message.
    Eml,
    /// One directory for each folder, as Cyrus has it: message files and metadata files.
    Cyrus,
}

impl Format {
    /// All of them, with their names.
    pub const ALL: [(&'static str, Format); 4] =
        [("maildir", Format::Maildir), ("mbox", Format::Mbox), ("eml", Format::Eml), ("cyrus", Format::Cyrus)];

    /// The path of a message in a folder whose directory is `dir`.
    pub(super) fn path(self, dir: &str, way: &Way) -> String {
        let Way { at, date, uid, flags, .. } = way;
        match self {
            Format::Maildir => format!("{dir}/cur/{}", forms::maildir_name(*date, *uid, &at.guid, *flags)),
            Format::Mbox => format!("{dir}.mbox"),
            Format::Eml => format!("{dir}/{uid}.eml"),
            Format::Cyrus => format!("{dir}/{uid}."),
        }
    }
}

/// What is to be done with one folder, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FolderPlan {
    /// Its name in the archive.
    pub name: Vec<u8>,
    /// Its path in the export.
    pub path: String,
    /// Messages.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A message and where it goes.
pub(super) struct Way {
    at: MessageAt,
    date: Time,
    /// Number of the folder in [`Export::folders`].
    folder: u32,
    uid: u32,
    flags: u32,
}

impl Way {
    /// The way of a message of folder `folder`; `None` if the archive does not have it.
    pub(super) fn of(m: &Message, folder: u32) -> Option<Way> {
        let record = &m.row.record;
        let at = m.body.at()?;
        Some(Way { at, date: record.internaldate, folder, uid: m.uid(), flags: record.system_flags })
    }
}

/// Tells what an export would do, and does nothing.
pub async fn plan(selection: &Selection<'_>) -> Result<(Vec<FolderPlan>, Report), Error> {
    let (mut plans, mut names, mut report) = (Vec::new(), Names::default(), Report::default());
    report.lack(selection.lacking());
    for n in 0..selection.len() {
        let Some(folder) = selection.folder(n).await? else { continue };
        let path = names.of_folder(&folder.name);
        plans.push(look(&folder, path, &mut report));
    }
    report.miss(absent(selection).await?);
    Ok((plans, report))
}

/// Counts a folder, and reports what of it cannot be had.
pub(super) fn look(folder: &Folder, path: String, report: &mut Report) -> FolderPlan {
    let name = shown(&folder.name);
    for problem in &folder.problems {
        report.fail_with(name.clone(), problem);
    }
    let mut plan = FolderPlan { name: folder.name.clone(), path, messages: 0, bytes: 0 };
    for m in &folder.messages {
        let what = || format!("{name}/{}", m.uid());
        if let Some((why, next)) = m.body.trouble(m.row.record.size) {
            report.failed.add(what(), why, next);
        }
        match (&m.body, m.body.at(), m.body.why_not()) {
            (Body::Unlinked, ..) => report.skipped.add(what(), m.body.why_not().unwrap_or_default(), ""),
            (_, Some(at), _) => {
                plan.messages += 1;
                plan.bytes += at.size;
            }
            (_, None, why) => {
                let next = "an older snapshot may have it (`cylinder log`)";
                report.failed.add(what(), why.unwrap_or_default(), next);
            }
        }
    }
    plan
}

/// Puts the selection on a shelf. `ahead` members may be under way to being inflated. What cannot be restored is in the report;
/// an error ends it before its time.
pub async fn export<S: Shelf>(
    io: &Io,
    selection: &Selection<'_>,
    format: Format,
    ahead: usize,
    shelf: &mut S,
) -> Result<Report, Error> {
    let mut export =
        Export { io, selection, format, ahead, shelf, report: Report::default(), names: Names::default(), folders: Vec::new() };
    for problem in &selection.problems {
        export.report.fail_with("archive", problem);
    }
    export.report.lack(selection.lacking());
    if selection.wish.scope == Scope::All && !selection.wish.is_filtered() {
        export.user().await?;
    }
    let mut ways = Vec::new();
    for n in 0..selection.len() {
        if let Some(folder) = selection.folder(n).await? {
            export.folder(n, &folder, &mut ways).await?;
        }
    }
    export.messages(ways).await?;
    export.report.miss(absent(selection).await?);
    Ok(export.report)
}

struct Export<'a, S> {
    io: &'a Io,
    selection: &'a Selection<'a>,
    format: Format,
    ahead: usize,
    shelf: &'a mut S,
    report: Report,
    names: Names,
    /// The folders that were begun: names in the archive, and directories.
    folders: Vec<(Vec<u8>, String)>,
}

impl<S: Shelf> Export<'_, S> {
    /// What belongs to the user and to no folder: a directory of its own.
    async fn user(&mut self) -> Result<(), Error> {
        // No folder may take the name.
        let dir = self.names.of_folder(b"user");
        let naming = Naming::default();
        let data = self.selection.user_data(&naming).await?;
        if data.files.is_empty() {
            return Ok(());
        }
        for problem in &data.problems {
            self.report.fail_with("the user's own files", problem);
        }
        if let Err(error) = self.shelf.dir(dir.as_bytes()).await {
            return self.fail(dir, error);
        }
        let mut side = Draft::new(self.io);
        side::user(&mut side, &data, &naming).await?;
        self.put(&format!("{dir}/user.json"), &mut side, None).await?;
        let mut names = Names::default();
        names.of_folder(b"user.json");
        for file in &data.files {
            let is_script = file.name.starts_with(b"sieve/");
            if is_script || self.format == Format::Cyrus {
                let name = file.name.strip_prefix(b"meta/").unwrap_or(&file.name);
                let mut draft = Draft::new(self.io);
                draft.write(&file.content).await?;
                self.put(&format!("{dir}/{}", names.of_folder(name)), &mut draft, file.mtime).await?;
            }
        }
        Ok(())
    }

    /// Begins a folder: its directory and its side files. Its messages go to `ways`, or into its mbox.
    async fn folder(&mut self, n: usize, folder: &Folder, ways: &mut Vec<Way>) -> Result<(), Error> {
        let dir = self.names.of_folder(&folder.name);
        look(folder, dir.clone(), &mut self.report);
        let place = self.folders.len() as u32;
        self.folders.push((folder.name.clone(), dir.clone()));
        let made = match self.format {
            Format::Mbox => Ok(()),
            Format::Maildir => self.dirs(&[format!("{dir}/cur"), format!("{dir}/new"), format!("{dir}/tmp")]).await,
            Format::Eml | Format::Cyrus => self.dirs(core::slice::from_ref(&dir)).await,
        };
        if let Err(error) = made {
            return self.fail(shown(&folder.name), error);
        }
        let mut side = Draft::new(self.io);
        side::folder(&mut side, self.selection, folder, &dir, self.format).await?;
        self.put(&format!("{dir}.jsonl"), &mut side, None).await?;
        if self.format == Format::Cyrus {
            self.metadata(n, &dir).await?;
        }
        if self.format == Format::Mbox {
            self.mbox(folder, &format!("{dir}.mbox")).await?;
        } else {
            ways.extend(folder.messages.iter().filter_map(|m| Way::of(m, place)));
        }
        self.report.folders += 1;
        Ok(())
    }

    async fn dirs(&mut self, paths: &[String]) -> Result<(), Error> {
        for path in paths {
            self.shelf.dir(path.as_bytes()).await?;
        }
        Ok(())
    }

    /// Metadata files as they lay on the server.
    async fn metadata(&mut self, n: usize, dir: &str) -> Result<(), Error> {
        let Some(row) = self.selection.row(n) else { return Ok(()) };
        for file in &row.files {
            match view::meta(self.selection.reader(), row, &file.name).await {
                Ok(content) => {
                    let mut draft = Draft::new(self.io);
                    draft.write(&content.unwrap_or_default()).await?;
                    self.put(&format!("{dir}/{}", file.name), &mut draft, Some(file.tuple.mtime)).await?;
                }
                Err(error) => self.fail(format!("{}: {}", shown(&row.name), file.name), error)?,
            }
        }
        Ok(())
    }

    /// Puts a file that is no message.
    async fn put(&mut self, path: &str, draft: &mut Draft<'_>, mtime: Option<Time>) -> Result<(), Error> {
        match self.shelf.put(path.as_bytes(), draft, mtime).await {
            Ok(Put::Created) => self.report.files += 1,
            Ok(Put::Already) => self.report.already += 1,
            Err(error) => self.fail(shown(path.as_bytes()), error)?,
        }
        Ok(())
    }

    /// Reports what went wrong, unless that ends everything.
    fn fail(&mut self, what: String, error: Error) -> Result<(), Error> {
        if is_fatal(&error) {
            return Err(error);
        }
        self.report.fail_with(what, &error);
        Ok(())
    }

    /// All messages, in the order of the archive.
    async fn messages(&mut self, mut ways: Vec<Way>) -> Result<(), Error> {
        ways.sort_by_key(|way| (way.at.at, way.folder, way.uid));
        let (messages, bytes) = ways.iter().fold((0, 0u64), |(n, bytes), way| (n + 1, bytes.saturating_add(way.at.size)));
        self.io.event(Event::Expect { messages, bytes });
        let mut bodies = Bodies::new(self.io, self.selection.reader(), ways.iter().map(|way| way.at).collect(), self.ahead);
        let (mut draft, mut lf) = (Draft::new(self.io), Lf::default());
        let mut left = &ways[..];
        while let Some(next) = bodies.next().await? {
            match next {
                Next::Begin(_) => {
                    // Of one that was bad, something may be left.
                    draft.clear();
                    lf = Lf::default();
                }
                Next::Piece(piece) if self.format == Format::Maildir => {
                    lf.feed(piece, draft.tail());
                    draft.settle().await?;
                }
                Next::Piece(piece) => draft.write(piece).await?,
                Next::Good => {
                    lf.finish(draft.tail());
                    let (those, rest) = left.split_at(same(left));
                    left = rest;
                    self.deliver(those, &mut draft).await?;
                    if self.io.is_stopping() {
                        return Err(Error::Stopped);
                    }
                }
                Next::Bad(_, error) => {
                    let (those, rest) = left.split_at(same(left));
                    left = rest;
                    for way in those {
                        self.report.fail_with(self.what(way), &error);
                    }
                }
            }
        }
        Ok(())
    }

    fn what(&self, way: &Way) -> String {
        let folder = self.folders.get(way.folder as usize).map(|(name, _)| shown(name)).unwrap_or_default();
        format!("{folder}/{}", way.uid)
    }

    /// Puts one message wherever it belongs.
    async fn deliver(&mut self, ways: &[Way], draft: &mut Draft<'_>) -> Result<(), Error> {
        let copy = match ways {
            [_, _, ..] => draft.held().map(<[u8]>::to_vec),
            _ => None,
        };
        for (n, way) in ways.iter().enumerate() {
            if n > 0
                && draft.is_empty()
                && let Some(copy) = &copy
            {
                draft.write(copy).await?;
            }
            let dir = self.folders.get(way.folder as usize).map_or("", |(_, dir)| dir);
            let path = self.format.path(dir, way);
            match self.shelf.put(path.as_bytes(), draft, Some(way.date)).await {
                Ok(put) => self.count(put, way.at.size),
                Err(error) => self.fail(self.what(way), error)?,
            }
        }
        Ok(())
    }

    fn count(&mut self, put: Put, bytes: u64) {
        if put == Put::Already {
            self.report.already += 1;
        } else {
            self.report.messages += 1;
            self.report.bytes += bytes;
        }
        self.io.event(Event::Progress { messages: 1, bytes });
    }

    /// One folder as an mbox: all messages as they come into a heap, then from there in order.
    async fn mbox(&mut self, folder: &Folder, path: &str) -> Result<(), Error> {
        let mut heap = Draft::new(self.io);
        let parts = self.heap(folder, &mut heap).await?;
        let mut whole = Draft::new(self.io);
        for part in parts.values() {
            append(&mut whole, &heap, part.from, part.len).await?;
        }
        heap.close().await;
        let newest = folder.messages.iter().map(|m| m.row.record.internaldate).max();
        match self.shelf.put(path.as_bytes(), &mut whole, newest).await {
            Ok(Put::Created) => {
                self.report.messages += parts.len() as u64;
                self.report.bytes = parts.values().fold(self.report.bytes, |sum, part| sum.saturating_add(part.size));
            }
            Ok(Put::Already) => self.report.already += parts.len() as u64,
            Err(error) => self.fail(path.to_string(), error)?,
        }
        whole.close().await;
        Ok(())
    }

    /// The messages of a folder in the form of an mbox, one behind the other as they come, and by UID where each lies.
    async fn heap(&mut self, folder: &Folder, heap: &mut Draft<'_>) -> Result<BTreeMap<u32, Part>, Error> {
        let mut by_place: BTreeMap<MessageAt, Vec<&Message>> = BTreeMap::new();
        for m in &folder.messages {
            if let Some(at) = m.body.at() {
                by_place.entry(at).or_default().push(m);
            }
        }
        let bytes = by_place.keys().fold(0u64, |sum, at| sum.saturating_add(at.size));
        self.io.event(Event::Expect { messages: by_place.len() as u64, bytes });
        let mut bodies = Bodies::new(self.io, self.selection.reader(), by_place.keys().copied().collect(), self.ahead);
        let mut parts = BTreeMap::new();
        let (mut size, mut copies): (u64, Vec<(u32, Mbox, Draft<'_>)>) = (0, Vec::new());
        while let Some(next) = bodies.next().await? {
            match next {
                Next::Begin(at) => {
                    size = at.size;
                    let those = by_place.get(&at).into_iter().flatten();
                    copies = those.map(|m| (m.uid(), Mbox::new(m), Draft::new(self.io))).collect();
                }
                Next::Piece(piece) => {
                    for (_, mbox, draft) in &mut copies {
                        mbox.feed(piece, draft.tail());
                        draft.settle().await?;
                    }
                }
                Next::Good => {
                    for (uid, mbox, mut draft) in copies.drain(..) {
                        mbox.finish(draft.tail());
                        parts.insert(uid, Part { from: heap.len(), len: draft.len(), size });
                        append(heap, &draft, 0, draft.len()).await?;
                        draft.close().await;
                    }
                    self.io.event(Event::Progress { messages: 1, bytes: size });
                }
                Next::Bad(at, error) => {
                    for (_, _, mut draft) in copies.drain(..) {
                        draft.close().await;
                    }
                    for m in by_place.get(&at).into_iter().flatten() {
                        self.report.fail_with(format!("{}/{}", shown(&folder.name), m.uid()), &error);
                    }
                }
            }
        }
        Ok(parts)
    }
}

/// Where a message lies in a heap, and its length in the archive.
struct Part {
    from: u64,
    len: u64,
    size: u64,
}

/// How many at the beginning are of one message.
fn same(ways: &[Way]) -> usize {
    ways.first().map_or(0, |first| ways.iter().take_while(|way| way.at == first.at).count())
}

/// Adds `left` bytes of one draft, from `at` on, to another.
async fn append(to: &mut Draft<'_>, from: &Draft<'_>, mut at: u64, mut left: u64) -> Result<(), Error> {
    let mut buffer = Vec::new();
    while left > 0 {
        buffer = from.read(at, left, buffer).await?;
        if buffer.is_empty() {
            break;
        }
        to.write(&buffer).await?;
        (at, left) = (at + buffer.len() as u64, left - buffer.len() as u64);
    }
    Ok(())
}
