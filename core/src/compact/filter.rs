//! Streams an archive past a decider into a new one (FORMAT.md section 9).
//!
//! Members that stay as a whole are copied compressed; the others are inflated, ahead of need, by the driver, and what stays of
//! them is gathered into new ones. Every member is looked at, also those that go: damage ends the filter. Memory: the members
//! under way, and 56 bytes for each entry that stays. What must not come in: what is alive, and what becomes of the new file.

use super::decide::{Candidate, Decider, Decision};
use super::survey::{Member, Survey};
use crate::archive::append::{Settings, footer_of};
use crate::archive::build::Built;
use crate::archive::entry::{self, EntryKind, Parsed};
use crate::archive::member::{self, CONTINUES, Kind, TO_BE_CONTINUED};
use crate::archive::pack::Packer;
use crate::archive::read::{CommitAt, Reader};
use crate::archive::record::{Commit, CommitKind, Compacted, Location, MessageAt, Part, Slot};
use crate::archive::stream::Window;
use crate::error::{Damage, Error, Fault};
use crate::escape::shown;
use crate::guid::Guid;
use crate::io::{Call, Event, FileId, Io, Op, Reply};
use crate::time::Time;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// A member with less content than this is joined with others, even if all of it stays.
const JOINED: usize = 16 << 10;

/// What became of an archive.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filtered {
    /// Messages that stayed, and their bytes.
    pub messages_kept: u64,
    /// Messages that went.
    pub messages_dropped: u64,
    /// Bytes of content that stayed: entries with header and padding.
    pub raw_kept: u64,
    /// Members that were copied as they stood.
    pub members_copied: u64,
    /// Members that were inflated, and something of them was kept.
    pub members_filtered: u64,
    /// Members that went.
    pub members_dropped: u64,
    /// Bytes of the new file.
    pub bytes: u64,
    /// SHA-1 of the headers and trailers of its members, one behind the other, without its footer.
    pub seams: Guid,
    /// The SHA-1 of its newest record.
    pub head: Guid,
}

impl Filtered {
    /// The new file.
    pub(crate) fn built(&self) -> Built {
        Built { bytes: self.bytes, seams: self.seams, head: self.head }
    }
}

/// What becomes of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// All entries in it stay; it is copied. Their places in it.
    Copy(Vec<u32>),
    /// None stays.
    Drop,
    /// Some stay, or nobody knows.
    Filter,
    /// It goes on with an entry, and shares its fate.
    Continue,
    /// A record of a commit, which is written anew.
    Commit,
    /// A list or a table; the record of its commit says what becomes of it.
    Part,
}

/// What becomes of this member. A small one is filtered even if all of it stays, so that it is joined with others.
pub fn fate(survey: &Survey, decider: &dyn Decider, member: &Member) -> Fate {
    match member.info.kind {
        Kind::List | Kind::Table => return Fate::Part,
        Kind::Commit => return Fate::Commit,
        _ if member.info.flags & CONTINUES != 0 => return Fate::Continue,
        Kind::Head | Kind::Footer => return Fate::Copy(Vec::new()),
        Kind::Data | Kind::Meta => {}
    }
    let is_large = member.info.flags & TO_BE_CONTINUED != 0;
    let (count, kept, places) = match member.info.kind {
        Kind::Data => data(survey, decider, member),
        _ => {
            let metas = survey.metas_in(member.offset);
            let kept = metas.iter().filter(|meta| decider.decide(&survey.candidate(meta)) != Decision::Drop).count();
            (Some(metas.len()), kept, metas.iter().map(|meta| meta.at.inside).collect())
        }
    };
    let is_small = !is_large && (member.info.raw_len as usize) < JOINED;
    match count {
        Some(_) if kept == 0 => Fate::Drop,
        Some(count) if count == kept && !is_small => Fate::Copy(places),
        _ => Fate::Filter,
    }
}

/// How many entries a member of messages has, if the lists tell, how many of them stay, and their places.
fn data(survey: &Survey, decider: &dyn Decider, member: &Member) -> (Option<usize>, usize, Vec<u32>) {
    let (listed, seconds) = (survey.messages_in(member.offset), survey.seconds_in(member.offset));
    let (mut count, mut len) = (0, 0);
    for m in listed.iter().chain(seconds) {
        count += 1;
        len += message_len(m);
    }
    let is_large = member.info.flags & TO_BE_CONTINUED != 0;
    let is_known = if is_large { count == 1 } else { len == u64::from(member.info.raw_len) };
    let kept = listed.iter().filter(|m| is_kept(decider, m)).count();
    (is_known.then_some(count), kept, listed.iter().map(|m| m.at.inside).collect())
}

/// Bytes of content that the decider drops in the entries that begin in this member.
pub fn dropped(survey: &Survey, decider: &dyn Decider, member: &Member) -> u64 {
    match member.info.kind {
        Kind::Data => {
            let dropped = survey.messages_in(member.offset).iter().filter(|m| !is_kept(decider, m));
            dropped.chain(survey.seconds_in(member.offset)).map(message_len).sum()
        }
        Kind::Meta => {
            let metas = survey.metas_in(member.offset).iter();
            metas.filter(|meta| decider.decide(&survey.candidate(meta)) == Decision::Drop).map(|meta| meta.len).sum()
        }
        _ => 0,
    }
}

/// True if the decider keeps this message.
pub fn is_kept(decider: &dyn Decider, message: &MessageAt) -> bool {
    let name = message_name(&message.guid);
    decider.decide(&Candidate { kind: Kind::Data, name: &name, at: message.at }) != Decision::Drop
}

fn message_len(message: &MessageAt) -> u64 {
    entry::entry_len(&message_name(&message.guid), message.size)
}

fn message_name(guid: &Guid) -> Vec<u8> {
    format!("files/{guid}").into_bytes()
}

/// A message that no list has: what the lists tell of the archive is not all.
fn unlisted(member: &Member) -> Error {
    Damage::new("archive", member.offset, "message", "one that no commit lists", "a listed one").into()
}

/// Something on its way.
enum Item {
    /// A member that is copied.
    Copy(Member, Vec<u8>, Vec<u32>),
    /// A member that is being inflated.
    Inflate(Member, Call),
    /// A commit.
    Commit(Member),
}

/// An archive, and what is to be done with it.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The driver.
    pub io: &'a Io,
    /// The archive.
    pub reader: &'a Reader,
    /// What it has.
    pub survey: &'a Survey,
    /// What is to become of that.
    pub decider: &'a dyn Decider,
    /// How new members are written.
    pub settings: &'a Settings,
    /// When, for the newest record.
    pub time: Time,
}

/// Writes what the decider keeps to `file`, whose name is `object`, from its beginning to its footer, and closes it. Synced.
pub async fn filter(job: Job<'_>, file: FileId, object: String) -> Result<Filtered, Error> {
    let Commit { number, .. } = job.reader.head().commit;
    let filter = Filter {
        window: Window::new(job.io, job.reader, job.reader.content_end()),
        items: VecDeque::new(),
        spare: Vec::new(),
        spare_raw: Vec::new(),
        out: Packer::new(job.io, file, 0, object, job.settings),
        metas: Vec::new(),
        messages: Vec::new(),
        continues: false,
        table: None,
        last: None,
        compacted: Compacted { time: job.time, number, head: job.reader.head().part.sha1 },
        totals: (0, 0),
        filtered: Filtered::default(),
        job,
    };
    filter.run().await
}

struct Filter<'a> {
    job: Job<'a>,
    window: Window<'a>,
    items: VecDeque<Item>,
    /// Buffers for members and for their content, to be used again.
    spare: Vec<Vec<u8>>,
    spare_raw: Vec<Vec<u8>>,
    out: Packer,
    /// Old place and token of each metadata entry that stays.
    metas: Vec<(Location, u32)>,
    /// Messages that stay since the last commit that did.
    messages: Vec<(Guid, u64, u32)>,
    /// The entry that goes on in the next member stays.
    continues: bool,
    table: Option<Part>,
    last: Option<CommitAt>,
    compacted: Compacted,
    /// Messages and bytes of content in the new archive.
    totals: (u64, u64),
    filtered: Filtered,
}

impl Filter<'_> {
    async fn run(mut self) -> Result<Filtered, Error> {
        let result = self.all().await;
        // What is under way comes back before the file is closed.
        for item in core::mem::take(&mut self.items) {
            if let Item::Inflate(_, call) = item {
                let _ = call.await;
            }
        }
        self.out.close().await;
        result.map(|()| self.filtered)
    }

    async fn all(&mut self) -> Result<(), Error> {
        self.job.io.event(Event::Expect { messages: 0, bytes: self.job.reader.content_end() });
        for member in &self.job.survey.members {
            self.launch(member).await?;
            while self.items.len() > self.job.settings.ahead {
                self.land().await?;
            }
            self.job.io.event(Event::Progress { messages: 0, bytes: u64::from(member.info.len) });
        }
        while !self.items.is_empty() {
            self.land().await?;
        }
        let head = self.last.take().ok_or_else(|| Damage::new("archive", 0, "commits", "none that stays", "at least one"))?;
        self.filtered.seams = self.out.seams();
        self.filtered.head = head.part.sha1;
        let (file, at, footer) = (self.out.file, self.out.at, footer_of(&head).emit());
        self.filtered.bytes = at + footer.len() as u64;
        if let Err(fault) = self.job.io.write_at(file, at, footer).await {
            return self.out.fail("write", fault);
        }
        match self.job.io.sync(file).await {
            Ok(()) => Ok(()),
            Err(fault) => self.out.fail("sync", fault),
        }
    }

    /// Reads a member, looks whether it is good, and sends it on its way.
    async fn launch(&mut self, member: &Member) -> Result<(), Error> {
        let bytes = self.window.take(member.info.len as usize).await?;
        if !member::is_whole(bytes) {
            let len = member.info.len;
            return Err(Damage::new("archive", member.offset, "member", "damaged bytes", format!("{len} good ones")).into());
        }
        let goes_on = member.info.flags & TO_BE_CONTINUED != 0;
        let continues = core::mem::take(&mut self.continues);
        let places = match fate(self.job.survey, self.job.decider, member) {
            Fate::Part => return Ok(()),
            Fate::Commit => {
                self.items.push_back(Item::Commit(*member));
                return Ok(());
            }
            Fate::Drop => {
                self.filtered.messages_dropped += self.job.survey.messages_in(member.offset).len() as u64;
                self.filtered.members_dropped += 1;
                return Ok(());
            }
            Fate::Filter if goes_on => return Err(unlisted(member)),
            Fate::Filter => {
                let mut copy = self.spare.pop().unwrap_or_default();
                copy.extend_from_slice(bytes);
                let op = Op::Unseal { member: copy, buffer: self.spare_raw.pop().unwrap_or_default() };
                self.items.push_back(Item::Inflate(*member, self.job.io.start(op)));
                return Ok(());
            }
            Fate::Continue if continues => Vec::new(),
            Fate::Continue => {
                self.filtered.members_dropped += 1;
                return Ok(());
            }
            Fate::Copy(places) => places,
        };
        self.continues = goes_on;
        if self.items.is_empty() {
            let first = self.out.copy(member.info.kind, bytes, &places).await?;
            self.copied(member, &places, first);
            return Ok(());
        }
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.extend_from_slice(bytes);
        self.items.push_back(Item::Copy(*member, copy, places));
        Ok(())
    }

    async fn land(&mut self) -> Result<(), Error> {
        match self.items.pop_front() {
            None => Ok(()),
            Some(Item::Copy(member, mut bytes, places)) => {
                let first = self.out.copy(member.info.kind, &bytes, &places).await?;
                self.copied(&member, &places, first);
                bytes.clear();
                self.spare.push(bytes);
                Ok(())
            }
            Some(Item::Commit(member)) => self.commit(&member).await,
            Some(Item::Inflate(member, call)) => {
                let place = self.job.reader.place().shown();
                let raw = match call.await {
                    Ok(Reply::Unsealed { raw, member: spent, .. }) => {
                        self.spare.push(spent);
                        raw
                    }
                    Ok(_) => return Err(Error::world("inflate", place, Fault::Driver)),
                    Err(Fault::Corrupt) => {
                        let found = "bytes that do not inflate";
                        return Err(Damage::new("archive", member.offset, "member", found, "a good member").into());
                    }
                    Err(fault) => return Err(Error::world("inflate", place, fault)),
                };
                self.members(&member, &raw).await?;
                self.spare_raw.push(raw);
                Ok(())
            }
        }
    }

    /// Writes down what was copied with a member; `first` is the token of its first entry.
    fn copied(&mut self, member: &Member, places: &[u32], first: u32) {
        self.filtered.members_copied += 1;
        if member.info.kind != Kind::Head {
            self.out.raw += u64::from(member.info.raw_len);
        }
        if member.info.kind == Kind::Data {
            let listed = self.job.survey.messages_in(member.offset).iter().zip(first..);
            self.messages.extend(listed.filter(|_| !places.is_empty()).map(|(m, token)| (m.guid, m.size, token)));
        } else if member.info.kind == Kind::Meta {
            let tokens = places.iter().zip(first..);
            self.metas.extend(tokens.map(|(&inside, token)| (Location { member: member.offset, inside }, token)));
        }
    }

    /// Gathers what stays of the entries of a member.
    async fn members(&mut self, member: &Member, raw: &[u8]) -> Result<(), Error> {
        let (mut at, mut kept) = (0, 0);
        while at < raw.len() {
            let place = Location { member: member.offset, inside: at as u32 };
            let shift = |mut damage: Damage| {
                damage.offset += member.offset;
                damage
            };
            let Parsed::Entry(entry, header) = entry::parse(&raw[at..]).map_err(shift)? else {
                return Err(Damage::new("archive", member.offset, "entry", "no header", format!("an entry at {place}")).into());
            };
            let end =
                usize::try_from(entry.size).ok().and_then(|size| (at + header).checked_add(size)).filter(|e| *e <= raw.len());
            let Some(end) = end else {
                return Err(Damage::new("archive", member.offset, "entry", "the end of its member", "its content").into());
            };
            let (head, content) = (&raw[at..at + header], &raw[at + header..end]);
            at = end + entry::padding(entry.size);
            let candidate = Candidate { kind: member.info.kind, name: &entry.name, at: place };
            if !self.stays(&candidate, member)? {
                self.filtered.messages_dropped += u64::from(member.info.kind == Kind::Data);
                continue;
            }
            kept += 1;
            if let EntryKind::File(Some(expected)) = entry.kind
                && Guid::of(content) != expected
            {
                let object = format!("archive: {}", shown(&entry.name));
                return Err(Damage::new(object, member.offset, "SHA-1", Guid::of(content), expected).into());
            }
            let token = self.out.gather(member.info.kind, head, content).await?;
            match (member.info.kind, candidate.message()) {
                (Kind::Data, Some(guid)) => self.messages.push((guid, entry.size, token)),
                _ => self.metas.push((place, token)),
            }
        }
        self.filtered.members_filtered += u64::from(kept > 0);
        self.filtered.members_dropped += u64::from(kept == 0);
        Ok(())
    }

    /// True if an entry stays. Of a message that is there twice the first does.
    fn stays(&self, candidate: &Candidate<'_>, member: &Member) -> Result<bool, Error> {
        if candidate.kind == Kind::Data {
            if self.job.survey.second(candidate.at).is_some() {
                return Ok(false);
            }
            if !self.job.survey.messages_in(candidate.at.member).iter().any(|m| m.at == candidate.at) {
                return Err(unlisted(member));
            }
        }
        Ok(self.job.decider.decide(candidate) != Decision::Drop)
    }

    /// Writes a commit anew, if it stays.
    async fn commit(&mut self, member: &Member) -> Result<(), Error> {
        let Some(old) = self.job.survey.commit_at(member.offset) else {
            return Err(Damage::new("archive", member.offset, "commit", "one that the chain does not have", "none").into());
        };
        let at = Location { member: member.offset, inside: 0 };
        if self.job.decider.decide(&Candidate { kind: Kind::Commit, name: b"meta/commit", at }) == Decision::Drop {
            return Ok(());
        }
        self.out.settle().await?;
        let old = old.clone();
        let added_raw = core::mem::take(&mut self.out.raw);
        let messages = self.out.list(&core::mem::take(&mut self.messages), old.commit.time).await?;
        if old.commit.kind == CommitKind::Snapshot {
            let text = self.table(&old).await?;
            self.table = Some(self.out.part(Kind::Table, b"meta/folders", old.commit.time, &text).await?);
        }
        let added_messages = messages.map_or(0, |(_, count)| count);
        self.totals = (self.totals.0 + added_messages, self.totals.1 + added_raw);
        let is_head = member.offset == self.job.reader.head().part.offset;
        let commit = Commit {
            previous: self.last.as_ref().map(|last| last.part),
            table: self.table,
            messages,
            compacted: if is_head { Some(self.compacted) } else { old.commit.compacted },
            total_messages: self.totals.0,
            total_raw: self.totals.1,
            total_dead: 0,
            added_messages,
            added_raw,
            ..old.commit
        };
        let part = self.out.part(Kind::Commit, b"meta/commit", commit.time, &commit.emit()).await?;
        self.filtered.messages_kept = self.totals.0;
        self.filtered.raw_kept = self.totals.1;
        self.last = Some(CommitAt { commit, part });
        Ok(())
    }

    /// The table of a snapshot with the places that its entries have now.
    async fn table(&self, old: &CommitAt) -> Result<Vec<u8>, Error> {
        let mut table = self.job.reader.table(old).await?;
        for slot in table.slots() {
            let Some(place) = slot.location() else { continue };
            let Ok(at) = self.metas.binary_search_by_key(&place, |(place, _)| *place) else {
                let found = format!("no entry at {place}");
                return Err(Damage::new("meta/folders", old.part.offset, "at", found, "a place of a metadata entry").into());
            };
            *slot = Slot::At(self.out.locations[self.metas[at].1 as usize]);
        }
        Ok(table.emit())
    }
}
