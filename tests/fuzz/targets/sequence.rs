//! A life of one archive on a disk that loses power: appending, crashing, mending, compacting and reading, in an order that the
//! input gives. After each step what was acknowledged is there byte for byte, unless compaction drops it by its rule; mending
//! twice is once; verify finds nothing.
//!
//! Which commits there must be after a compaction is worked out here from FORMAT.md section 9, without the product's survey.
#![no_main]

use cylinder_core::archive::append::Settings;
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::verify::verify;
use cylinder_core::compact::policy::Policy;
use cylinder_core::compact::{self, Outcome as Compaction, Wait};
use cylinder_core::complete::complete;
use cylinder_core::cyrus::index::{Header, Record, Uid, emit_index};
use cylinder_core::error::{Error, Fault};
use cylinder_core::guid::Guid;
use cylinder_core::io::Io;
use cylinder_core::time::{Span, Time};
use cylinder_fuzz::Source;
use cylinder_tests::check::{self, Check};
use cylinder_tests::choose::{Choose, Sampler};
use cylinder_tests::crashes::first_of_all;
use cylinder_tests::disk::{SimDisk, Trouble};
use cylinder_tests::drive::{Outcome, drive};
use cylinder_tests::life;
use cylinder_tests::story::{Batch, archive, checkpoint, dir, long_mail, mail, reopen, run_with, settings, snapshot, stored};
use libfuzzer_sys::fuzz_target;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

/// Steps of one life.
const STEPS_MAX: usize = 10;
/// About as many operations as an append, a recovery and a compaction of these sizes have: trouble comes among them.
const APPEND_OPS: u8 = 56;
const RECOVER_OPS: u8 = 40;
const COMPACT_OPS: u8 = 112;
/// What compaction is told to retain.
const POLICIES: [&str; 5] =
    ["keep-within 0h", "keep-within 5h", "keep-within 2d", "keep-within 0h keep-daily 3", "keep-within 0h keep-weekly 2"];

/// Messages that an index names, and their sizes; `None` if nobody can read the index.
type Named = Option<BTreeMap<Guid, u64>>;

/// What the input says that survives.
struct Says<'a, 'b>(&'a mut Source<'b>);

impl Choose for Says<'_, '_> {
    fn upto(&mut self, most: u32) -> u32 {
        u32::from(self.0.byte()) % (most + 1)
    }
}

/// The archive, and what is known of it.
struct World {
    disk: SimDisk,
    settings: Settings,
    /// Every commit that the archive may have: those appended, and those that a compaction makes of them.
    story: Vec<Batch>,
    /// What the index of each of them names.
    named: Vec<Named>,
    /// What the archive may hold, as places in the story.
    may: BTreeSet<Vec<usize>>,
    /// What it holds once it is mended; as good as known after an append, and looked at before that matters.
    live: Vec<usize>,
    /// The disk as the next writer leaves it that has nothing to write, and whether anything was done since that was looked at.
    mended: SimDisk,
    is_looked_at: bool,
    /// Something was interrupted since the archive was last opened for writing to the end.
    is_dirty: bool,
    /// Messages so far: no two are alike.
    mails: u64,
    /// One of them may have members of its own: it takes time.
    wants_long: bool,
    /// The steps, for whoever reads why one failed.
    told: Vec<String>,
}

impl World {
    fn new(options: u8) -> World {
        let mut disk = SimDisk::new();
        disk.set_silent(true);
        if options & 1 != 0 {
            disk.set_late_seals();
        }
        World {
            mended: disk.clone(),
            disk,
            is_looked_at: true,
            settings: Settings { check: options & 4 != 0, ..if options & 2 != 0 { settings() } else { stored() } },
            story: Vec::new(),
            named: Vec::new(),
            may: BTreeSet::from([Vec::new()]),
            live: Vec::new(),
            is_dirty: false,
            mails: 0,
            wants_long: options & 8 != 0,
            told: Vec::new(),
        }
    }

    #[track_caller]
    fn demand(&self, checked: Check) {
        if let Err(why) = checked {
            panic!("{why}\n{}", self.told.join("\n"));
        }
    }

    /// Runs a procedure, in whose way the input may put trouble; `None` if the machine stopped.
    fn drive<T, F: Future<Output = Result<T, Error>>>(
        &mut self,
        source: &mut Source<'_>,
        trouble_within: Option<u8>,
        make: impl FnOnce(Io) -> F,
    ) -> Option<Result<T, Error>> {
        if let Some(most) = trouble_within {
            let (at, trouble) = trouble(source, most);
            self.told.push(format!("  {trouble:?} at operation {at}"));
            self.disk.plan(at, trouble);
        }
        self.is_looked_at = false;
        let Outcome::Finished(result) = drive(&mut self.disk, make) else {
            self.stop(source);
            return None;
        };
        let has_come = trouble_within.is_some() && !self.disk.unplan();
        self.demand(check::nothing_open(&self.disk));
        match &result {
            Err(error) if !has_come => self.demand(Err(format!("without trouble: {error}"))),
            Err(error) => self.told.push(format!("  {error}")),
            Ok(_) => {}
        }
        Some(result)
    }

    /// The process or the machine has stopped.
    fn stop(&mut self, source: &mut Source<'_>) {
        if source.byte() & 1 != 0 {
            self.told.push(String::from("  killed"));
            self.disk.kill();
        } else {
            self.lose_power(source);
        }
    }

    fn lose_power(&mut self, source: &mut Source<'_>) {
        self.told.push(String::from("  the power fails"));
        // Each choice by a byte of its own, or all by a seed, which short inputs reach sooner.
        match source.byte() % 4 {
            0 => self.disk.lose_power(&mut Says(source)),
            _ => self.disk.lose_power(&mut Sampler::new(source.n24() as u64)),
        }
        (self.is_dirty, self.is_looked_at) = (true, false);
    }

    /// Puts a commit into the story unless it is there.
    fn place(&mut self, mut batch: Batch, named: Named) -> usize {
        batch.messages.sort_by_key(|message| Guid::of(message));
        if let Some(at) = self.story.iter().position(|other| *other == batch) {
            return at;
        }
        self.story.push(batch);
        self.named.push(named);
        self.story.len() - 1
    }

    /// What a folder may name after these commits: what it has, and what came since.
    fn known(&self, commits: &[usize]) -> BTreeMap<Guid, u64> {
        let mut known = BTreeMap::new();
        for &at in commits {
            if let (Some(_), Some(named)) = (&self.story[at].index, &self.named[at]) {
                known.clone_from(named);
            }
            known.extend(self.story[at].messages.iter().map(|message| (Guid::of(message), message.len() as u64)));
        }
        known
    }

    /// A commit as the input wants it, behind these.
    fn batch(&mut self, source: &mut Source<'_>, before: &[usize]) -> usize {
        let form = source.byte();
        let is_checkpoint = form & 4 != 0;
        let mut messages = Vec::new();
        for _ in 0..usize::from(form & 3).max(usize::from(is_checkpoint)) {
            self.mails += 1;
            messages.push(match source.byte() {
                255 if std::mem::take(&mut self.wants_long) => long_mail(self.mails, 70_000),
                size => mail(self.mails, 60 + 3 * usize::from(size)),
            });
        }
        if is_checkpoint {
            return self.place(checkpoint(messages), None);
        }
        let number = self.story.len() as u64;
        if form & 0xF0 == 0xF0 {
            // An index that nobody can read.
            return self.place(snapshot(number, messages), None);
        }
        let gone = source.byte();
        let mut named = self.known(before);
        named.extend(messages.iter().map(|message| (Guid::of(message), message.len() as u64)));
        let mut turn = 0;
        named.retain(|_, _| {
            turn += 1;
            gone >> (turn % 8) & 1 == 0
        });
        let index = index(number, &named);
        self.place(Batch { index: Some(index), ..snapshot(number, messages) }, Some(named))
    }

    fn append(&mut self, source: &mut Source<'_>, count: usize, has_trouble: bool) {
        let (before, mut after) = (self.live.len(), self.live.clone());
        for _ in 0..count {
            after.push(self.batch(source, &after.clone()));
        }
        let batches: Vec<Batch> = after[before..].iter().map(|&at| self.story[at].clone()).collect();
        self.told.push(format!("append {:?}", &after[before..]));
        let (acknowledged, settings) = (Cell::new(0), self.settings.clone());
        let result = self.drive(source, has_trouble.then_some(APPEND_OPS), |io| {
            let acknowledged = &acknowledged;
            async move { run_with(io, &batches, acknowledged, &settings, *b"sixteen bytes id").await }
        });
        let sure = before + acknowledged.get();
        if sure > before {
            self.may = BTreeSet::from([after[..sure].to_vec()]);
        }
        if sure < after.len() {
            self.may.insert(after[..=sure].to_vec());
        }
        self.is_dirty = !matches!(result, Some(Ok(())));
        self.live = after;
    }

    fn recover(&mut self, source: &mut Source<'_>, has_trouble: bool) {
        self.told.push(String::from("recover"));
        let result = self.drive(source, has_trouble.then_some(RECOVER_OPS), reopen);
        self.is_dirty = !matches!(result, Some(Ok(())));
    }

    fn compact(&mut self, source: &mut Source<'_>, has_trouble: bool) {
        let words = POLICIES[usize::from(source.byte()) % POLICIES.len()];
        self.told.push(format!("compact {words}"));
        self.look();
        if self.disk.content(&archive()).is_none() {
            return;
        }
        let policy = Policy::parse(words).expect("a policy");
        let after = self.compacted(&policy);
        let mut settings = life::settings(policy);
        settings.archive = self.settings.clone();
        let procedure = async |io: Io| compact::run(&io, &dir(), &settings).await;
        let result = self.drive(source, has_trouble.then_some(COMPACT_OPS), procedure);
        match result {
            Some(Ok(Compaction::Done(..))) => self.may = BTreeSet::from([after]),
            Some(Ok(Compaction::Nothing(_))) if after == self.live => self.may = BTreeSet::from([after]),
            // Whoever compacts does not mend what is more than interrupted.
            Some(Ok(Compaction::Waits(Wait::Damage(_)))) if self.is_dirty => return,
            Some(Ok(other)) => self.demand(Err(format!("{after:?} were to be kept, and it said {other:?}"))),
            Some(Err(_)) | None => {
                self.may.insert(after);
                self.is_dirty = true;
                return;
            }
        }
        self.is_dirty = false;
    }

    /// What a compaction makes of the archive.
    fn compacted(&mut self, policy: &Policy) -> Vec<usize> {
        let times = drive(&mut self.mended, times).finished().expect("an archive that is mended");
        let live = self.live.clone();
        let snapshots: Vec<usize> = (0..live.len()).filter(|&n| self.story[live[n]].index.is_some()).collect();
        let Some(&newest) = snapshots.last() else { return live };
        let times: Vec<Time> = snapshots.iter().map(|&n| times[n]).collect();
        let kept = policy.retained(self.disk.now(), &times);
        let kept: BTreeSet<usize> = snapshots.into_iter().zip(kept).filter(|(_, kept)| *kept).map(|(n, _)| n).collect();
        // Where an index cannot be read, every message is alive.
        let named: Option<Vec<&BTreeMap<Guid, u64>>> = kept.iter().map(|&n| self.named[live[n]].as_ref()).collect();
        let alive: Option<BTreeSet<Guid>> = named.map(|all| all.iter().flat_map(|named| named.keys().copied()).collect());
        let is_alive = |message: &Vec<u8>| alive.as_ref().is_none_or(|alive| alive.contains(&Guid::of(message)));
        let (mut after, mut pending) = (Vec::new(), Vec::new());
        for (n, &at) in live.iter().enumerate() {
            if n > newest {
                after.push(at);
                continue;
            }
            pending.extend(self.story[at].messages.iter().filter(|message| is_alive(message)).cloned());
            if kept.contains(&n) {
                let batch = Batch { messages: std::mem::take(&mut pending), ..self.story[at].clone() };
                after.push(self.place(batch, self.named[at].clone()));
            }
        }
        after
    }

    /// What must hold after each step.
    fn look(&mut self) {
        if std::mem::replace(&mut self.is_looked_at, true) {
            return;
        }
        self.mended = self.disk.clone();
        if self.is_dirty {
            let opened = drive(&mut self.mended, reopen).finished();
            self.demand(opened.map_err(|error| format!("recovery fails: {error}")));
            self.demand(check::mending_twice_is_once(&self.mended));
            if let Some(found) = self.disk.content(&archive()) {
                self.demand(check::cut_bytes_are_aside(found, &self.mended).map(drop));
            }
        }
        self.demand(check::nothing_written_elsewhere(&self.mended));
        self.demand(check::nothing_open(&self.mended));
        self.live = self.allowed(&self.mended);
        if !self.is_dirty {
            self.may = BTreeSet::from([self.live.clone()]);
        }
    }

    /// What is read back, which must be what may be there.
    fn allowed(&self, disk: &SimDisk) -> Vec<usize> {
        let found = check::present(disk, &self.story);
        let may = || format!("{found:?} is there, and there should be one of {:?}", self.may);
        self.demand(found.as_ref().map_err(Clone::clone).and_then(|f| self.may.contains(f).then_some(()).ok_or_else(may)));
        found.unwrap_or_default()
    }

    /// Everything that a reader can tell, also of an archive that nobody has mended yet.
    fn read(&mut self) {
        self.told.push(String::from("read"));
        self.look();
        if self.disk.content(&archive()).is_none() {
            return;
        }
        if self.is_dirty {
            self.allowed(&self.disk);
        }
        let found = drive(&mut self.mended, sound).finished();
        self.demand(found.unwrap_or_else(|error| Err(error.to_string())));
        self.demand(check::others_can_read_it(&self.mended, &self.story, &self.live));
    }

    /// The last run is acknowledged, then the power fails and nothing survives that need not.
    fn end(&mut self) {
        self.read();
        self.append(&mut Source(&[1, 40]), 1, false);
        self.disk.lose_power(&mut first_of_all());
        self.look();
    }
}

/// At which of the first so many operations trouble comes, and which.
fn trouble(source: &mut Source<'_>, within: u8) -> (u32, Trouble) {
    let at = 1 + u32::from(source.byte() % within);
    let trouble = match source.byte() % 8 {
        0..3 => Trouble::CrashBefore,
        3 => Trouble::CrashAfter,
        4 | 5 => Trouble::Torn(16 * usize::from(source.byte())),
        6 => Trouble::Fail(Fault::NoSpace),
        _ => Trouble::Forget(Fault::Os(5)),
    };
    (at, trouble)
}

/// A cyrus.index that names these.
fn index(number: u64, named: &BTreeMap<Guid, u64>) -> Vec<u8> {
    let record = |(n, (guid, size)): (usize, (&Guid, &u64))| Record {
        uid: Uid(n as u32 + 1),
        size: *size,
        guid: *guid,
        modseq: Some(n as u64 + 1),
        ..Record::default()
    };
    let records: Vec<Record> = named.iter().enumerate().map(record).collect();
    let header = Header {
        minor_version: 17,
        last_uid: records.len() as u32,
        uidvalidity: number as u32 + 1,
        exists: records.len() as u32,
        highestmodseq: Some(number + 1),
        deletedmodseq: Some(0),
        createdmodseq: Some(1),
        ..Header::default()
    };
    emit_index(&header, &records).expect("values that the version has room for")
}

/// The times of all commits but the one that creates an archive, oldest first.
async fn times(io: Io) -> Result<Vec<Time>, Error> {
    let reader = Reader::open(&io, &dir()).await?;
    let (mut times, mut next) = (Vec::new(), Some(reader.head().clone()));
    while let Some(commit) = next {
        if commit.commit.number > 0 {
            times.push(commit.commit.time);
        }
        next = reader.previous(&commit).await?;
    }
    reader.close().await;
    times.reverse();
    Ok(times)
}

/// Verify finds nothing, and each message that a snapshot names is there.
async fn sound(io: Io) -> Result<Check, Error> {
    let reader = Reader::open(&io, &dir()).await?;
    let verdict = verify(&io, &reader, 2).await?;
    let found = complete(&reader, &verdict.present, &BTreeSet::new()).await?;
    reader.close().await;
    Ok(match (verdict.is_good() && !verdict.interrupted, found.absent_count) {
        (true, 0) => Ok(()),
        _ => Err(format!("{:?}, {:?}", verdict.findings, found.absent)),
    })
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let mut world = World::new(source.byte());
    for _ in 0..STEPS_MAX {
        if source.is_empty() {
            break;
        }
        let step = source.byte();
        let has_trouble = step & 0x80 != 0;
        match step % 8 {
            0..3 => world.append(&mut source, 1, has_trouble),
            3 => world.append(&mut source, 2, has_trouble),
            4 => world.recover(&mut source, has_trouble),
            5 => world.compact(&mut source, has_trouble),
            6 => world.read(),
            _ if has_trouble => world.lose_power(&mut source),
            _ => {
                let hours = Span::from_secs(3600 * i64::from(source.byte()));
                world.disk.wait_until(world.disk.now().plus(hours));
            }
        }
        // After an append without trouble it is known what there must be, and looked at later: that saves time.
        if has_trouble || world.is_dirty || matches!(step % 8, 4 | 5) {
            world.look();
        }
    }
    world.end();
});
