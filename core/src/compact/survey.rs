//! What an archive has and where: its commits, messages and metadata entries, before anything is decided about them.
//!
//! Everything that is told comes from good bytes: damage of any kind ends the survey. Messages are known from the lists of the
//! commits and are not inflated; metadata is. Memory: 40 bytes for each message, about 100 for each metadata entry, a commit
//! record for each commit. What must not come in: what is alive.

use super::decide::Candidate;
use crate::archive::entry::{self, Entry, EntryKind, EntryReader, Piece, Step};
use crate::archive::member::{CONTINUES, FOOTER_LEN, Kind, MemberInfo, TO_BE_CONTINUED, parse_header};
use crate::archive::read::{CommitAt, Reader};
use crate::archive::record::{Location, MessageAt};
use crate::error::{Damage, Error};
use crate::escape::shown;
use crate::guid::{Guid, Sha1};
use crate::io::Io;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::ops::Range;

/// What a metadata entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// A file.
    File,
    /// A link to somewhere.
    Link,
    /// A tombstone, or an entry that says that a file is gone.
    End,
}

/// An entry in a member of metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Meta {
    /// Where it is.
    pub at: Location,
    /// Bytes of header, content and padding.
    pub len: u64,
    /// What it is.
    pub what: What,
    /// Where its name is in [`Survey::names`].
    name: (usize, usize),
}

/// A member of the archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Where it begins.
    pub offset: u64,
    /// What its header says.
    pub info: MemberInfo,
}

/// What an archive has, up to the end of its newest commit.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Survey {
    /// Oldest first.
    pub commits: Vec<CommitAt>,
    /// All members, as they stand, without gaps.
    pub members: Vec<Member>,
    /// Each message once, where it stands first, in the order of the archive.
    pub messages: Vec<MessageAt>,
    /// Where those stand that are there once more.
    seconds: BTreeMap<Location, MessageAt>,
    /// Metadata entries in the order of the archive.
    pub metas: Vec<Meta>,
    names: Vec<u8>,
}

/// Looks at the content of metadata files while they are read.
pub trait Look {
    /// True if the content of the file at this place is wanted.
    fn wants(&self, at: Location) -> bool;

    /// The content.
    fn content(&mut self, at: Location, bytes: &[u8]);
}

/// Wants nothing.
pub struct LookAway;

impl Look for LookAway {
    fn wants(&self, _: Location) -> bool {
        false
    }

    fn content(&mut self, _: Location, _: &[u8]) {}
}

/// All commits, oldest first. Damage if the chain is broken.
pub async fn commits(reader: &Reader) -> Result<Vec<CommitAt>, Error> {
    let mut all = Vec::new();
    let mut at = Some(reader.head().clone());
    while let Some(commit) = at {
        at = reader.previous(&commit).await?;
        all.push(commit);
    }
    all.reverse();
    Ok(all)
}

impl Survey {
    /// Reads the archive, whose commits these are.
    pub async fn read(io: &Io, reader: &Reader, commits: Vec<CommitAt>, look: &mut dyn Look) -> Result<Survey, Error> {
        let mut survey = Survey { commits, ..Survey::default() };
        survey.lists(reader).await?;
        let mut metas = Metas { entries: EntryReader::new(), open: None, look };
        let mut at = 0;
        while at < reader.content_end() {
            let member = header(io, reader, at).await?;
            if member.info.kind == Kind::Meta {
                let (_, raw) = reader.member(at).await?;
                metas.member(&mut survey, &member, &raw)?;
            }
            at += u64::from(member.info.len);
            survey.members.push(member);
        }
        Ok(survey)
    }

    async fn lists(&mut self, reader: &Reader) -> Result<(), Error> {
        for commit in &self.commits {
            self.messages.extend(reader.messages(commit).await?.iter());
        }
        self.messages.sort();
        let seconds = &mut self.seconds;
        self.messages.dedup_by(|second, first| {
            let is_second = second.guid == first.guid;
            if is_second && second.at != first.at {
                seconds.insert(second.at, *second);
            }
            is_second
        });
        self.messages.sort_by_key(|m| m.at);
        Ok(())
    }

    /// The message at this place, if the archive has it in an earlier one too.
    pub fn second(&self, at: Location) -> Option<&MessageAt> {
        self.seconds.get(&at)
    }

    /// The messages that begin in the member at `offset` and are in the archive in an earlier place too.
    pub fn seconds_in(&self, offset: u64) -> impl Iterator<Item = &MessageAt> {
        let place = |inside| Location { member: offset, inside };
        self.seconds.range(place(0)..=place(u32::MAX)).map(|(_, m)| m)
    }

    /// The entry as a decider sees it.
    pub fn candidate(&self, meta: &Meta) -> Candidate<'_> {
        Candidate { kind: Kind::Meta, name: self.name(meta), at: meta.at }
    }

    /// Its name.
    pub fn name(&self, meta: &Meta) -> &[u8] {
        &self.names[meta.name.0..meta.name.1]
    }

    /// The messages that begin in the member at `offset`.
    pub fn messages_in(&self, offset: u64) -> &[MessageAt] {
        &self.messages[within(&self.messages, offset, |m| m.at.member)]
    }

    /// The metadata entries that begin in the member at `offset`.
    pub fn metas_in(&self, offset: u64) -> &[Meta] {
        &self.metas[within(&self.metas, offset, |m| m.at.member)]
    }

    /// The commit whose record is in the member at `offset`.
    pub fn commit_at(&self, offset: u64) -> Option<&CommitAt> {
        let at = self.commits.binary_search_by_key(&offset, |commit| commit.part.offset).ok()?;
        Some(&self.commits[at])
    }
}

/// The items, sorted by `key`, whose key is `wanted`.
fn within<T>(items: &[T], wanted: u64, key: impl Fn(&T) -> u64) -> Range<usize> {
    items.partition_point(|item| key(item) < wanted)..items.partition_point(|item| key(item) <= wanted)
}

/// The header of the member that must begin at `at`.
async fn header(io: &Io, reader: &Reader, at: u64) -> Result<Member, Error> {
    let bytes = io.read_at(reader.file(), at, FOOTER_LEN, Vec::new()).await;
    let bytes = bytes.map_err(|fault| Error::world("read", reader.place().shown(), fault))?;
    let found = parse_header(&bytes).map_err(|mut damage| {
        damage.offset += at;
        damage
    })?;
    let fits = at + u64::from(found.len) <= reader.content_end() && found.kind != Kind::Footer;
    if !fits {
        return Err(Damage::new("archive", at, "member", "one that does not end where it should", "whole members").into());
    }
    Ok(Member { offset: at, info: found })
}

/// A metadata entry under way.
struct Open {
    meta: Meta,
    hash: Sha1,
    expected: Option<Guid>,
    content: Option<Vec<u8>>,
}

/// Makes entries of members of metadata.
struct Metas<'a> {
    entries: EntryReader,
    open: Option<Open>,
    look: &'a mut dyn Look,
}

impl Metas<'_> {
    fn member(&mut self, survey: &mut Survey, member: &Member, raw: &[u8]) -> Result<(), Error> {
        let bad = |what: &str| Damage::new("archive", member.offset, "metadata", what, "whole entries");
        if (member.info.flags & CONTINUES == 0) != self.entries.is_between_entries() {
            return Err(bad("an entry that is not continued").into());
        }
        if self.entries.is_between_entries() {
            self.entries.reset();
        }
        let mut piece = Piece::new(raw);
        loop {
            let step = self.entries.step(&mut piece).map_err(|mut damage| {
                damage.offset += member.offset;
                damage
            })?;
            match step {
                Step::Header(entry, inside) => {
                    let at = Location { member: member.offset, inside: inside as u32 };
                    self.open = Some(self.begin(survey, entry, at)?);
                }
                Step::Content(bytes) => {
                    if let Some(Open { hash, content: Some(content), .. }) = &mut self.open {
                        hash.update(bytes);
                        content.extend_from_slice(bytes);
                    }
                }
                Step::EndOfEntry => self.end(survey)?,
                Step::Feed => break,
            }
        }
        if (member.info.flags & TO_BE_CONTINUED == 0) != self.entries.is_between_entries() {
            return Err(bad("an entry that does not end with its member").into());
        }
        Ok(())
    }

    fn begin(&self, survey: &mut Survey, entry: Entry, at: Location) -> Result<Open, Error> {
        let (what, expected) = match entry.kind {
            EntryKind::File(None) if entry.size == 0 => (What::End, None),
            EntryKind::File(sha1) => (What::File, sha1),
            EntryKind::Link(ref target) => (if target.is_empty() { What::End } else { What::Link }, None),
            EntryKind::Other(_) => {
                return Err(Damage::new("archive", at.member, "entry", shown(&entry.name), "a file or a link").into());
            }
        };
        let from = survey.names.len();
        survey.names.extend_from_slice(&entry.name);
        let name = (from, survey.names.len());
        // What nobody wants need not be hashed: its member has a good CRC, and it is hashed when it is written anew.
        let content = (what == What::File && self.look.wants(at)).then(Vec::new);
        let expected = expected.filter(|_| content.is_some());
        let len = entry::entry_len(&entry.name, entry.size);
        Ok(Open { meta: Meta { at, len, what, name }, hash: Sha1::new(), expected, content })
    }

    fn end(&mut self, survey: &mut Survey) -> Result<(), Error> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let found = open.hash.finish();
        if let Some(expected) = open.expected.filter(|expected| *expected != found) {
            let object = format!("archive: {}", shown(survey.name(&open.meta)));
            return Err(Damage::new(object, open.meta.at.member, "SHA-1", found, expected).into());
        }
        if let Some(content) = &open.content {
            self.look.content(open.meta.at, content);
        }
        survey.metas.push(open.meta);
        Ok(())
    }
}
