//! Reading a whole archive to see whether it is good: every member, every SHA-1, every commit and what it points to.
//!
//! The members up to the head's end are read in order, inflated by the driver (several at a time), and their entries hashed;
//! each commit is compared with what was seen. What is found wrong is collected as [`Finding`]s; the reading goes on behind it.
//! Memory: some members, the messages of one commit, 20 bytes for each message and 40 for each metadata entry. Nothing here
//! writes. What must not come in: Cyrus; whether what an index names is there is told by [`crate::complete`].

use super::entries::{Finding, Sink, read_some};
use super::entry::{Entry, EntryKind};
use super::member::{Kind, RAW_MAX, is_whole};
use super::read::{Catalogue, End, Reader, next_header};
use super::record::{COMMIT_MAX, Commit, CommitKind, LIST_MAX, Location, MessageAt, MessageList, Part, Slot, TABLE_MAX, Table};
use super::stream::{Sample, Window};
use crate::error::Error;
use crate::escape::shown;
use crate::guid::{Guid, Sha1};
use crate::io::{Event, Io};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Findings that are kept; more are only counted.
pub const FINDINGS_MAX: usize = 10_000;

/// What reading an archive came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verdict {
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Bytes of content.
    pub raw_bytes: u64,
    /// Members read.
    pub members: u64,
    /// Entries read.
    pub entries: u64,
    /// Messages among them.
    pub messages: u64,
    /// Commits.
    pub commits: u64,
    /// Snapshots among them.
    pub snapshots: u64,
    /// What is wrong, at most [`FINDINGS_MAX`] of it.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub findings_count: u64,
    /// Messages that the archive lists and does not have whole.
    pub lost: Vec<Guid>,
    /// The messages that it has whole; of those that a sample has left out, the ones that it lists. None if it was only looked
    /// at.
    pub present: Catalogue,
    /// The file ends as a killed run leaves it, or as one does that was cut, and nobody is at work on it. One of the findings.
    pub interrupted: bool,
}

impl Verdict {
    /// True if nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.findings_count == 0
    }

    /// What is to be said of the end of the file; `missing` if it has none and nobody is at work on it.
    fn end(&mut self, reader: &Reader, missing: bool) {
        match reader.state {
            End::Footer => {}
            End::Interrupted if missing => {
                self.interrupted = true;
                let what = "is missing: a run was killed, or the file was cut; what is whole behind the last commit is in no \
                    snapshot yet. The next backup takes it over, or `cylinder repair` makes a snapshot of it";
                self.find((reader.end, reader.len), "end of the archive", what);
            }
            End::Interrupted => {}
            End::Damaged => {
                let what =
                    "damaged; the next backup keeps it in a file beside the archive and goes on from the last good commit";
                self.find((reader.end, reader.len), "end of the archive", what);
            }
        }
    }

    fn find(&mut self, bytes: (u64, u64), object: impl Into<String>, what: impl Into<String>) {
        self.findings_count += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { bytes, object: object.into(), what: what.into() });
        }
    }
}

/// Reads the archive of `reader`. `ahead` members may be under way to being inflated.
///
/// An error is one of the operating system; whatever is wrong with the archive itself is in the verdict.
pub async fn verify(io: &Io, reader: &Reader, ahead: usize) -> Result<Verdict, Error> {
    sample(io, reader, ahead, Sample::ALL).await
}

/// The same for a sample of the messages, and for everything else.
pub async fn sample(io: &Io, reader: &Reader, ahead: usize, sample: Sample) -> Result<Verdict, Error> {
    let mut walk = Walk::new(reader, sample);
    read_some(io, reader, reader.end, ahead, sample, &mut walk).await?;
    Ok(walk.finish(reader, reader.is_end_missing().await?))
}

/// Looks at an archive without inflating it: every member's header and the CRC of its compressed bytes, and the chain of
/// commits. Nothing of what a member's content says is looked at but the records of the commits.
pub async fn quick(io: &Io, reader: &Reader) -> Result<Verdict, Error> {
    let mut verdict = Verdict { file_bytes: reader.len, ..Verdict::default() };
    let mut window = Window::new(io, reader, reader.end);
    io.event(Event::Expect { messages: 0, bytes: reader.end });
    while window.at < window.end {
        let at = window.at;
        match window.header().await? {
            Some(info) => {
                let end = at + u64::from(info.len);
                verdict.members += 1;
                verdict.raw_bytes += u64::from(info.raw_len);
                if !is_whole(window.take(info.len as usize).await?) {
                    let object = format!("member of kind {}", char::from(info.kind.letter()));
                    verdict.find((at, end), object, "its compressed bytes do not have the CRC that its header gives");
                }
            }
            None => {
                window.at = next_header(io, reader.file, at + 1, window.end).await?.unwrap_or(window.end);
                verdict.find((at, window.at), "archive", "no member begins here");
            }
        }
        io.event(Event::Progress { messages: 0, bytes: window.at - at });
    }
    let mut next = Some(reader.head.clone());
    while let Some(commit) = next {
        verdict.commits += 1;
        verdict.snapshots += u64::from(commit.commit.kind == CommitKind::Snapshot);
        verdict.messages = verdict.messages.saturating_add(commit.commit.messages.map_or(0, |(_, count)| count));
        next = match reader.previous(&commit).await {
            Ok(previous) => previous,
            Err(Error::Damage(damage)) => {
                let part = commit.commit.previous.unwrap_or(commit.part);
                let object = format!("commit before {}", commit.commit.number);
                verdict.find((part.offset, part.offset.saturating_add(part.len)), object, damage.to_string());
                None
            }
            Err(error) => return Err(error),
        };
    }
    verdict.end(reader, reader.is_end_missing().await?);
    Ok(verdict)
}

/// An entry under way.
struct Current {
    entry: Entry,
    kind: Kind,
    at: Location,
    hash: Sha1,
    /// Content of a list, a table or a commit.
    text: Option<Vec<u8>>,
}

/// What was seen since the last commit.
#[derive(Default)]
struct Since {
    messages: Vec<MessageAt>,
    list: Option<(Part, Option<MessageList>)>,
    table: Option<(Part, Option<Table>)>,
    /// Something was damaged, so what is missing in the list is no news.
    damaged: bool,
}

struct Walk {
    verdict: Verdict,
    current: Option<Current>,
    since: Since,
    /// SHA-1 of content or link target of each metadata entry.
    meta: BTreeMap<Location, Guid>,
    previous: Option<(Part, Commit)>,
    table: Option<Part>,
    /// Damage since the last good commit: the chain cannot be followed over it.
    broken: bool,
    archive: [u8; 16],
    sample: Sample,
    present: Vec<Guid>,
}

impl Sink for Walk {
    fn member(&mut self, raw_len: u64) {
        self.verdict.members += 1;
        self.verdict.raw_bytes += raw_len;
    }

    fn begin(&mut self, entry: Entry, kind: Kind, at: Location) {
        let text = matches!(kind, Kind::List | Kind::Table | Kind::Commit).then(Vec::new);
        self.current = Some(Current { entry, kind, at, hash: Sha1::new(), text });
    }

    fn content(&mut self, bytes: &[u8]) {
        let Some(current) = &mut self.current else { return };
        current.hash.update(bytes);
        let limit = text_max(current.kind);
        if let Some(text) = current.text.as_mut().filter(|text| text.len() as u64 + bytes.len() as u64 <= limit) {
            text.extend_from_slice(bytes);
        }
    }

    fn end(&mut self, end: u64) {
        if let Some(current) = self.current.take() {
            self.verdict.entries += 1;
            self.entry(current, end);
        }
    }

    fn damage(&mut self, finding: Finding) {
        self.current = None;
        self.since.damaged = true;
        self.broken = true;
        self.verdict.find(finding.bytes, finding.object, finding.what);
    }
}

impl Walk {
    fn new(reader: &Reader, sample: Sample) -> Walk {
        Walk {
            verdict: Verdict { file_bytes: reader.len, ..Verdict::default() },
            current: None,
            since: Since::default(),
            meta: BTreeMap::new(),
            previous: None,
            table: None,
            broken: false,
            archive: reader.head.commit.archive,
            sample,
            present: Vec::new(),
        }
    }

    fn entry(&mut self, current: Current, end: u64) {
        let found = current.hash.finish();
        let (entry, at) = (&current.entry, current.at);
        let bytes = (at.member, end);
        let expected = match &entry.kind {
            EntryKind::Link(target) => return self.remember(at, Guid::of(target)),
            EntryKind::Other(c) => {
                let what = format!("is of a kind that no archive has (0x{c:02x})");
                return self.verdict.find(bytes, shown(&entry.name), what);
            }
            EntryKind::File(expected) => *expected,
        };
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            self.since.damaged = true;
            return self.verdict.find(bytes, shown(&entry.name), format!("its SHA-1 is {found}, expected {expected}"));
        }
        let part = Part { offset: at.member, len: end - at.member, sha1: found };
        match current.kind {
            Kind::Data => self.message(entry, at, found, end),
            Kind::Meta => self.remember(at, found),
            Kind::List => self.list(part, current.text.unwrap_or_default()),
            Kind::Table => self.table(part, &current.text.unwrap_or_default()),
            Kind::Commit => self.commit(part, &current.text.unwrap_or_default()),
            Kind::Head | Kind::Footer => {}
        }
    }

    fn remember(&mut self, at: Location, sha1: Guid) {
        self.meta.insert(at, sha1);
    }

    fn message(&mut self, entry: &Entry, at: Location, guid: Guid, end: u64) {
        self.verdict.messages += 1;
        if entry.name != format!("files/{guid}").as_bytes() {
            self.verdict.find((at.member, end), shown(&entry.name), format!("is not named by its SHA-1, {guid}"));
        }
        self.present.push(guid);
        self.since.messages.push(MessageAt { guid, at, size: entry.size });
    }

    fn list(&mut self, part: Part, text: Vec<u8>) {
        let list = MessageList::parse(text);
        if let Err(damage) = &list {
            self.verdict.find((part.offset, part.offset + part.len), "meta/messages", damage.to_string());
        }
        self.since.list = Some((part, list.ok()));
    }

    fn table(&mut self, part: Part, text: &[u8]) {
        let table = Table::parse(text);
        if let Err(damage) = &table {
            self.verdict.find((part.offset, part.offset + part.len), "meta/folders", damage.to_string());
        }
        self.since.table = Some((part, table.ok()));
    }

    fn commit(&mut self, part: Part, text: &[u8]) {
        let bytes = (part.offset, part.offset + part.len);
        let since = core::mem::take(&mut self.since);
        let commit = match Commit::parse(text) {
            Ok(commit) => commit,
            Err(damage) => {
                self.verdict.find(bytes, "meta/commit", damage.to_string());
                self.broken = true;
                return;
            }
        };
        self.verdict.commits += 1;
        self.verdict.snapshots += u64::from(commit.kind == CommitKind::Snapshot);
        let object = format!("commit {}", commit.number);
        let mut wrong = |what: String| self.verdict.find(bytes, &object[..], what);
        if commit.archive != self.archive {
            wrong(String::from("belongs to another archive"));
        }
        let expected = self.previous.as_ref().map(|(part, _)| *part);
        if commit.previous != expected && !core::mem::take(&mut self.broken) {
            wrong(String::from("the hash chain is broken: it does not continue the commit before it"));
        }
        self.broken = false;
        self.check_list(&commit, bytes, &object, &since);
        self.check_table(&commit, bytes, &object, since.table);
        self.previous = Some((part, commit));
    }

    /// The list must be the one that the commit names, and name just what was seen.
    fn check_list(&mut self, commit: &Commit, bytes: (u64, u64), object: &str, since: &Since) {
        let mut seen = since.messages.clone();
        seen.sort();
        let listed = match (&commit.messages, &since.list) {
            (None, None) if seen.is_empty() || since.damaged => return,
            (None, _) => return self.verdict.find(bytes, object, "messages stand before it that it does not list"),
            (Some((part, _)), Some((found, list))) if part == found => list,
            (Some(_), _) => return self.verdict.find(bytes, object, "the list of messages that it names is not there"),
        };
        let Some(list) = listed else { return };
        let whole: Vec<MessageAt> = list.iter().filter(|m| seen.binary_search(m).is_ok()).collect();
        let (sample, is_unseen) = (self.sample, |m: &MessageAt| seen.binary_search(m).is_err());
        self.present.extend(list.iter().filter(|m| !sample.takes(m.at.member)).map(|m| m.guid));
        for lost in list.iter().filter(|m| sample.takes(m.at.member) && is_unseen(m)) {
            let at = (lost.at.member, lost.at.member.saturating_add(RAW_MAX as u64).min(bytes.0));
            // A list can name a place where nothing can be.
            let at = if at.0 < at.1 { at } else { bytes };
            self.verdict.find(at, format!("message {}", lost.guid), "is not there whole");
            self.verdict.lost.push(lost.guid);
        }
        if whole.len() < seen.len() && !since.damaged {
            let count = seen.len() - whole.len();
            self.verdict.find(bytes, object, format!("{count} messages stand before it that it does not list"));
        }
    }

    /// The table must be the one that the commit names, and point to entries of the SHA-1s that it gives.
    fn check_table(&mut self, commit: &Commit, bytes: (u64, u64), object: &str, found: Option<(Part, Option<Table>)>) {
        if commit.kind == CommitKind::Checkpoint {
            if commit.table != self.table {
                self.verdict.find(bytes, object, "names another folder table than that of the last snapshot");
            }
            return;
        }
        self.table = commit.table;
        match found {
            Some((part, table)) if commit.table == Some(part) => {
                let mut table = table.unwrap_or_default();
                for (name, at, sha1) in pointers(&mut table) {
                    if at.location().and_then(|at| self.meta.get(&at)) != Some(&sha1) {
                        let what = format!("{} ({sha1}) is not where its folder table says", shown(&name));
                        self.verdict.find(bytes, object, what);
                    }
                }
            }
            _ => self.verdict.find(bytes, object, "the folder table that it names is not there"),
        }
    }

    fn finish(mut self, reader: &Reader, end_missing: bool) -> Verdict {
        if self.previous.as_ref().map(|(part, _)| *part) != Some(reader.head.part) {
            self.verdict.find((reader.head.part.offset, reader.end), "archive", "its last commit is not at its end");
        }
        self.verdict.end(reader, end_missing);
        self.present.sort();
        self.present.dedup();
        self.verdict.present = Catalogue::new(self.present);
        self.verdict
    }
}

/// The longest content that is kept of an entry in a member of this kind.
fn text_max(kind: Kind) -> u64 {
    match kind {
        Kind::Commit => COMMIT_MAX as u64,
        Kind::Table => TABLE_MAX,
        _ => LIST_MAX,
    }
}

/// Everything that a table points to: what, where, and its SHA-1 (a link's is that of its target).
fn pointers(table: &mut Table) -> impl Iterator<Item = (Vec<u8>, Slot, Guid)> {
    use super::record::StateContent;
    let table = core::mem::take(table);
    let files = table.folders.into_iter().flat_map(|row| {
        let name = row.name;
        row.files.into_iter().map(move |f| ([&name[..], b" ", f.name.as_bytes()].concat(), f.at, f.sha1))
    });
    let states = table.states.into_iter().map(|row| match row.content {
        StateContent::File { sha1, at, .. } => (row.name, at, sha1),
        StateContent::Link { target, at } => (row.name, at, Guid::of(&target)),
    });
    files.chain(states)
}
