//! Compaction: an archive without what no retained snapshot needs is written beside the old one and takes its place (FORMAT.md
//! section 9).
//!
//! Invariants:
//!
//! * The old archive is not touched. What has its name is at every moment one whole archive that has every retained snapshot.
//! * Nothing is dropped over damage, over an alarm that nobody has acknowledged, or over a hold.
//! * What stays, stays byte for byte, but for places.
//!
//! [`policy`] says which snapshots are retained, [`alive`] what they need, [`decide`] what a decider is, [`survey`] what there
//! is, [`mod@filter`] writes, [`erase`] drops what somebody names. What must not come in: users, and printing.

pub mod alive;
pub mod decide;
pub mod erase;
pub mod filter;
pub mod policy;
pub mod survey;

use crate::archive::append::{self, NEW, Writer};
use crate::archive::build::Built;
use crate::archive::member::{Kind, is_whole};
use crate::archive::pack::update_seams;
use crate::archive::read::{ARCHIVE, CommitAt, End, Reader};
use crate::archive::record::CommitKind;
use crate::archive::standing::Alarm;
use crate::archive::stream::Window;
use crate::archive::verify::verify;
use crate::error::{Damage, Error, Fault};
use crate::guid::Sha1;
use crate::io::{How, Io, Place};
use crate::time::{Span, Time};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use decide::{Candidate, Decider, Decision};
use filter::{Fate, Filtered, Job, filter};
use policy::{Policy, Retention};
use survey::Survey;

/// The file whose mtime tells when somebody last looked whether compaction is due.
const CHECKED: &[u8] = b"checked";
/// The file in the store that says what is retained, and the most bytes that it may have.
const RETENTION: &[u8] = b"retention";
const RETENTION_MAX: u64 = 16 << 20;
const WEEK: Span = Span::from_secs(7 * 86_400);

/// What a compaction is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How new members are written.
    pub archive: append::Settings,
    /// What is retained.
    pub policy: Policy,
    /// Only if it is due, and look at most once a week.
    pub if_needed: bool,
    /// Percent of the content that are alive when compaction becomes due, at the beginning.
    pub floor: u8,
    /// By how many points that rises in a week.
    pub rise: u8,
    /// Say what would be done, and write nothing.
    pub dry_run: bool,
    /// Inflate and hash the whole new archive before it takes the old one's place. Without it members that were copied are
    /// trusted by the CRC of their compressed bytes.
    pub check: bool,
}

impl Settings {
    /// Percent of the content that must be alive at first.
    pub const FLOOR: u8 = 80;
    /// Points by which that rises in a week: after 20 weeks all must be alive.
    pub const RISE: u8 = 1;

    /// What a run of a backup does at its end.
    pub fn when_needed(archive: append::Settings, policy: Policy) -> Settings {
        let (floor, rise) = (Settings::FLOOR, Settings::RISE);
        Settings { archive, policy, if_needed: true, floor, rise, dry_run: false, check: true }
    }
}

/// The policies of the store: those of its file `retention`, or the default for everybody.
pub async fn retention(io: &Io) -> Result<Retention, Error> {
    let place = Place::store(RETENTION);
    match io.read_whole(&place, RETENTION_MAX, Vec::new()).await {
        Ok((bytes, _)) => Retention::parse(&bytes).map_err(Error::Refused),
        Err(Fault::NotFound) => Ok(Retention::default()),
        Err(fault) => Err(Error::world("read", place.shown(), fault)),
    }
}

/// What there is, and what of it would go.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Snapshots.
    pub snapshots: u64,
    /// Snapshots that are not retained.
    pub snapshots_dropped: u64,
    /// Messages.
    pub messages: u64,
    /// Messages that no retained snapshot needs.
    pub messages_dropped: u64,
    /// Bytes of content.
    pub raw: u64,
    /// Bytes of content that no retained snapshot needs.
    pub raw_dropped: u64,
    /// Length of the file.
    pub bytes: u64,
    /// About how many bytes of the file would go.
    pub bytes_dropped: u64,
    /// Percent of the content that must be alive now.
    pub threshold: u8,
    /// What to tell a person.
    pub notes: Vec<String>,
}

impl Plan {
    /// True if less of the content is alive than must be.
    pub fn is_due(&self) -> bool {
        let alive = u128::from(self.raw - self.raw_dropped) * 100;
        alive < u128::from(self.raw) * u128::from(self.threshold)
    }

    /// Percent of the content that are alive, rounded down.
    pub fn live_percent(&self) -> u64 {
        if self.raw == 0 { 100 } else { (u128::from(self.raw - self.raw_dropped) * 100 / u128::from(self.raw)) as u64 }
    }
}

/// Why nothing may be dropped now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wait {
    /// An alarm that nobody has acknowledged.
    Alarm(Alarm),
    /// Somebody wants everything kept, since then.
    Hold(Time),
    /// Something is damaged.
    Damage(Damage),
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Somebody has looked less than a week ago.
    LookedAt,
    /// Nothing was done, because of this.
    Waits(Wait),
    /// More is alive than must be.
    NotDue(Plan),
    /// There is nothing to be dropped.
    Nothing(Plan),
    /// This would be dropped.
    Would(Plan),
    /// This was dropped.
    Done(Plan, Filtered),
}

/// Compacts the archive in the directory `dir` of the store.
pub async fn run(io: &Io, dir: &Place, settings: &Settings) -> Result<Outcome, Error> {
    if settings.if_needed && was_checked(io, dir).await? {
        return Ok(Outcome::LookedAt);
    }
    let reader = Reader::open(io, dir).await?;
    // Whoever only looks mends nothing, and does not see what stands behind the newest commit.
    let is_missing = match reader.end() {
        End::Interrupted if settings.dry_run => match reader.is_end_missing().await {
            Ok(is_missing) => is_missing,
            Err(error) => {
                reader.close().await;
                return Err(error);
            }
        },
        end => end == End::Damaged,
    };
    if is_missing {
        let found = if reader.end() == End::Damaged { "damaged bytes" } else { "that it is missing" };
        let end = Damage::new(reader.place().shown(), reader.content_end(), "end", found, "a footer");
        reader.close().await;
        return Ok(Outcome::Waits(Wait::Damage(end)));
    }
    let result = if settings.dry_run {
        let result = look(io, &reader, settings).await;
        reader.close().await;
        result.map(|looked| match looked {
            Looked::Ends(outcome) => outcome,
            Looked::Goes(found) => Outcome::Would(found.plan),
        })
    } else {
        let writer = Writer::from_reader(reader, &settings.archive).await?;
        let result = compact(io, dir, &writer, settings).await;
        writer.close().await;
        result
    };
    match result {
        Err(Error::Damage(damage)) => Ok(Outcome::Waits(Wait::Damage(damage))),
        other => other,
    }
}

/// What was found in an archive of which something would go.
struct Found {
    plan: Plan,
    survey: Survey,
    alive: alive::Alive,
}

enum Looked {
    Ends(Outcome),
    Goes(alloc::boxed::Box<Found>),
}

async fn look(io: &Io, reader: &Reader, settings: &Settings) -> Result<Looked, Error> {
    let head = &reader.head().commit;
    if let Some(alarm) = head.standing.alarms.first() {
        return Ok(Looked::Ends(Outcome::Waits(Wait::Alarm(alarm.clone()))));
    }
    if let Some(since) = head.hold {
        return Ok(Looked::Ends(Outcome::Waits(Wait::Hold(since))));
    }
    let now = io.now();
    let (survey, alive) = alive::find(io, reader, |commits| retained(&settings.policy, now, commits)).await?;
    let mut plan = measure(&survey, &alive);
    plan.bytes = reader.len();
    plan.notes = alive.notes.clone();
    plan.threshold = threshold(&survey, head.compacted.map(|c| c.time), now, settings);
    Ok(match (plan.raw_dropped == 0, settings.if_needed && !plan.is_due()) {
        (true, _) => Looked::Ends(Outcome::Nothing(plan)),
        (_, true) => Looked::Ends(Outcome::NotDue(plan)),
        _ => Looked::Goes(alloc::boxed::Box::new(Found { plan, survey, alive })),
    })
}

/// Which commits are retained snapshots.
fn retained(policy: &Policy, now: Time, commits: &[CommitAt]) -> Vec<bool> {
    let is_snapshot = |commit: &&CommitAt| commit.commit.kind == CommitKind::Snapshot;
    let times: Vec<Time> = commits.iter().filter(is_snapshot).map(|commit| commit.commit.time).collect();
    let mut kept = policy.retained(now, &times).into_iter();
    commits.iter().map(|commit| is_snapshot(&commit) && kept.next().unwrap_or(true)).collect()
}

/// Percent of the content that must be alive now.
fn threshold(survey: &Survey, compacted: Option<Time>, now: Time, settings: &Settings) -> u8 {
    let begun = survey.commits.first().map_or(now, |commit| commit.commit.time);
    let weeks = now.since(compacted.unwrap_or(begun)).0.max(0) / WEEK.0;
    let rise = weeks.saturating_mul(i64::from(settings.rise));
    rise.saturating_add(i64::from(settings.floor)).min(100) as u8
}

/// Counts what the decider keeps and drops.
fn measure(survey: &Survey, decider: &dyn Decider) -> Plan {
    let mut plan = Plan { messages: survey.messages.len() as u64, ..Plan::default() };
    let (mut table, mut follows) = ((0, 0), false);
    for member in &survey.members {
        let (len, raw) = (u64::from(member.info.len), u64::from(member.info.raw_len));
        plan.raw += raw;
        match filter::fate(survey, decider, member) {
            // What the list of a dropped commit has goes over to the next.
            Fate::Part if member.info.kind == Kind::Table => table = (table.0 + len, table.1 + raw),
            Fate::Part => {}
            Fate::Commit => {
                let (len, raw) = (len + table.0, raw + table.1);
                let drops = drops_commit(decider, member.offset);
                plan.count_commit(survey, member.offset, drops);
                plan.raw_dropped += if drops { raw } else { 0 };
                plan.bytes_dropped += if drops { len } else { 0 };
                table = (0, 0);
            }
            Fate::Continue => plan.bytes_dropped += if follows { len } else { 0 },
            fate => {
                let dropped = filter::dropped(survey, decider, member);
                plan.raw_dropped += dropped;
                plan.bytes_dropped +=
                    if fate == Fate::Drop { len } else { (len * dropped.min(raw)).checked_div(raw).unwrap_or(0) };
                follows = fate == Fate::Drop;
            }
        }
    }
    plan.messages_dropped = survey.messages.iter().filter(|m| !filter::is_kept(decider, m)).count() as u64;
    plan
}

fn drops_commit(decider: &dyn Decider, offset: u64) -> bool {
    let at = crate::archive::record::Location { member: offset, inside: 0 };
    decider.decide(&Candidate { kind: Kind::Commit, name: b"meta/commit", at }) == Decision::Drop
}

impl Plan {
    fn count_commit(&mut self, survey: &Survey, offset: u64, drops: bool) {
        if survey.commit_at(offset).is_some_and(|commit| commit.commit.kind == CommitKind::Snapshot) {
            self.snapshots += 1;
            self.snapshots_dropped += u64::from(drops);
        }
    }
}

/// The same under the writers' lock.
async fn compact(io: &Io, dir: &Place, writer: &Writer, settings: &Settings) -> Result<Outcome, Error> {
    if settings.if_needed {
        check_off(io, dir).await?;
        if is_first(writer).await? {
            return Ok(Outcome::LookedAt);
        }
    }
    let found = match look(io, writer, settings).await? {
        Looked::Ends(outcome) => return Ok(outcome),
        Looked::Goes(found) => found,
    };
    let Found { plan, survey, alive } = *found;
    let job = Job { io, reader: writer, survey: &survey, decider: &alive, settings: &settings.archive, time: io.now() };
    let filtered = replace(job, dir, settings.check).await?;
    Ok(Outcome::Done(plan, filtered))
}

/// Writes what the decider keeps beside the archive, reads it back, and puts it in the archive's place. The caller holds the
/// lock.
pub(crate) async fn replace(job: Job<'_>, dir: &Place, check: bool) -> Result<Filtered, Error> {
    let (io, new) = (job.io, dir.join(NEW));
    append::remove(io, &new).await?;
    let file = io.open(&new, How::Create).await.map_err(|fault| Error::world("create", new.shown(), fault))?;
    let written = async {
        let filtered = filter(job, file, new.shown()).await?;
        read_back(io, dir, &filtered.built(), check, job.settings.ahead).await?;
        Ok::<_, Error>(filtered)
    };
    let filtered = match written.await {
        Ok(filtered) => filtered,
        Err(error) => {
            // What is left of it is worthless, and the error that is told is the first.
            let _ = io.unlink(&new).await;
            return Err(error);
        }
    };
    put_in_place(io, dir).await?;
    Ok(filtered)
}

/// Gives the new archive the name of the old one, for certain.
pub(crate) async fn put_in_place(io: &Io, dir: &Place) -> Result<(), Error> {
    let new = dir.join(NEW);
    io.rename(&new, &dir.join(ARCHIVE)).await.map_err(|fault| Error::world("rename", new.shown(), fault))?;
    io.sync_dir(dir).await.map_err(|fault| Error::world("sync", dir.shown(), fault))
}

/// Reads the new archive from its file and compares it with what was written.
pub(crate) async fn read_back(io: &Io, dir: &Place, built: &Built, check: bool, ahead: usize) -> Result<(), Error> {
    let reader = Reader::open_as(io, dir, NEW).await?;
    let result = async {
        let mut window = Window::new(io, &reader, reader.content_end());
        let mut seams = Sha1::new();
        // Bytes that come back otherwise than they were written are no damage of the archive, which stands as it did.
        let bad = |at: u64, what: &str| {
            Error::Refused(format!(
                "{}: {what} at offset {at}, which is not what was written; it was removed",
                reader.place().shown()
            ))
        };
        while window.at < window.end {
            let at = window.at;
            let info = window.header().await?.ok_or_else(|| bad(at, "no member"))?;
            let bytes = window.take(info.len as usize).await?;
            if !is_whole(bytes) {
                return Err(bad(at, "damaged bytes"));
            }
            update_seams(&mut seams, bytes);
        }
        let same = seams.finish() == built.seams
            && reader.head().part.sha1 == built.head
            && reader.len() == built.bytes
            && reader.end() == End::Footer;
        if !same {
            return Err(bad(reader.len(), "other members"));
        }
        if !check {
            return Ok(());
        }
        // What is wrong now was wrong in the old archive, where no CRC of compressed bytes shows it.
        let verdict = verify(io, &reader, ahead).await?;
        match verdict.findings.first() {
            Some(f) => {
                Err(Damage::new("archive: copied", f.bytes.0, "member", format!("{}: {}", f.object, f.what), "a good one")
                    .into())
            }
            None => Ok(()),
        }
    };
    let result = result.await;
    reader.close().await;
    result
}

/// True if there is no snapshot but the newest: nothing can have died yet, and looking would cost as much as the first run.
async fn is_first(reader: &Reader) -> Result<bool, Error> {
    let (mut snapshots, mut at) = (0, Some(reader.head().clone()));
    while let Some(commit) = at {
        snapshots += u64::from(commit.commit.kind == CommitKind::Snapshot);
        if snapshots > 1 {
            return Ok(false);
        }
        at = reader.previous(&commit).await?;
    }
    Ok(true)
}

/// True if somebody has looked within the last week.
async fn was_checked(io: &Io, dir: &Place) -> Result<bool, Error> {
    let place = dir.join(CHECKED);
    match io.stat(&place).await {
        Ok(stat) => Ok(stat.mtime <= io.now() && io.now().since(stat.mtime) < WEEK),
        Err(Fault::NotFound) => Ok(false),
        Err(fault) => Err(Error::world("stat", place.shown(), fault)),
    }
}

/// Writes down that somebody has looked now.
async fn check_off(io: &Io, dir: &Place) -> Result<(), Error> {
    let place = dir.join(CHECKED);
    append::remove(io, &place).await?;
    let file = io.open(&place, How::Create).await.map_err(|fault| Error::world("create", place.shown(), fault))?;
    let _ = io.close(file).await;
    Ok(())
}
