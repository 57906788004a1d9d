//! Judging a world: what is known of each store, and which [`super::invariants`] hold when.

use super::acts::{self, Ended, Look};
use super::invariants::{
    self, Against, a_snapshot_is_the_state_of_one_moment, no_message_that_lived_is_missing, others_can_read_it,
    tar_alone_restores, what_was_acknowledged_is_there,
};
use super::life::{Beside, Kind};
use super::past::State;
use super::stage::{Curtain, Order, Wire, play};
use super::{Came, World, names_of};
use crate::check::Check;
use crate::choose::{Choose, Sampler};
use crate::disk::{SimDisk, Trouble};
use crate::drive::{Outcome as Drive, drive};
use crate::life::{self, archive, dir};
use cylinder_core::archive::append::Mark;
use cylinder_core::archive::member::FOOTER_LEN;
use cylinder_core::archive::read::{CommitAt, End};
use cylinder_core::archive::record::Table;
use cylinder_core::backup::report::{Problem, Report};
use cylinder_core::compact::policy::Policy;
use cylinder_core::compact::{Outcome, Wait};
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::time::{Span, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

const DAY: i64 = 86_400;

/// A snapshot that was acknowledged, or found to be there.
#[derive(Clone)]
struct Kept {
    time: Time,
    /// What it has. `None` if the peer has lied.
    state: Option<Rc<State>>,
    /// Messages that it names and the archive does not have, because they were gone.
    excused: BTreeSet<Guid>,
    /// Nothing was told to be missing or to be other than the index says.
    is_whole: bool,
    /// A compaction that nobody has heard of may have dropped it.
    may_go: bool,
}

/// What is known of a store.
#[derive(Clone)]
pub struct Store {
    /// How mail comes into it.
    pub kind: Kind,
    /// What it retains.
    pub policy: &'static str,
    /// On which disk it is.
    pub disk: usize,
    /// The head that was acknowledged last.
    pub head: Option<CommitAt>,
    /// The newest commit has an alarm.
    pub alarm: bool,
    /// The newest commit has a hold.
    pub hold: bool,
    /// The newest commit says that the user is gone.
    gone: bool,
    /// A procedure was cut off since the last one that ended well.
    pub is_untidy: bool,
    kept: BTreeMap<u64, Kept>,
    known: BTreeSet<Guid>,
    /// What must be the archive's beginning: of the one that was acknowledged last.
    bytes: Vec<u8>,
    /// The first state of the earliest run since then that was not acknowledged.
    pub(super) open_from: Option<usize>,
    /// A backup was cut off since the last one that ended well: what it had saved may be on the server no more.
    pub(super) was_cut: bool,
    /// A peer has lied since the last run that ended well.
    lied: bool,
    /// A compaction was cut off: either archive may be there.
    pub was_compacting: bool,
    /// A compaction has put its archive in place and could not sync the directory. Until somebody commits, a power loss can
    /// bring back the one before it: its bytes, and what was known of it.
    pub undone: Option<Box<(Vec<u8>, Store)>>,
}

impl Store {
    /// An empty one.
    pub fn new(kind: Kind, policy: &'static str, disk: usize) -> Store {
        Store {
            kind,
            policy,
            disk,
            head: None,
            alarm: false,
            hold: false,
            gone: false,
            is_untidy: false,
            kept: BTreeMap::new(),
            known: BTreeSet::new(),
            bytes: Vec::new(),
            open_from: None,
            was_cut: false,
            lied: false,
            was_compacting: false,
            undone: None,
        }
    }

    /// True if the newest snapshot has no folder, or is not known: its user may be nobody.
    pub fn may_be_empty(&self) -> bool {
        let newest = self.kept.values().next_back().and_then(|kept| kept.state.as_ref());
        newest.is_none_or(|state| state.folders.is_empty())
    }

    /// True if every message that a snapshot names is in the archive.
    pub fn is_complete(&self) -> bool {
        !self.lied && self.kept.values().all(|kept| kept.is_whole)
    }

    /// What must still be there: by asking for each moment of the policy one by one, hour by hour.
    fn retained(&self, now: Time) -> BTreeSet<u64> {
        let policy = Policy::parse(self.policy).expect("a policy");
        if policy.everything {
            return self.kept.keys().copied().collect();
        }
        let state_at = |moment: Time| self.kept.iter().rfind(|(_, kept)| kept.time <= moment).map(|(number, _)| *number);
        let mut retained: BTreeSet<u64> = self.kept.keys().next_back().copied().into_iter().collect();
        // The future is part of the time within.
        retained.extend(self.kept.iter().filter(|(_, kept)| kept.time > now).map(|(number, _)| *number));
        let mut ago = Span(0);
        while ago <= policy.within {
            retained.extend(state_at(now.plus(Span(-ago.0))));
            ago = Span(ago.0 + Span::from_secs(3600).0);
        }
        let today = now.secs().div_euclid(DAY);
        let monday = (0..7).map(|n| today - n).find(|day| (day + 3).rem_euclid(7) == 0).unwrap_or(today);
        let days = (0..i64::from(policy.daily)).map(|n| today - n);
        let weeks = (0..i64::from(policy.weekly)).map(|n| monday - 7 * n);
        retained.extend(days.chain(weeks).filter_map(|day| state_at(Time(Time::from_secs(day * DAY).0 - 1))));
        retained
    }
}

impl World {
    pub(super) fn content(&self, n: usize) -> Option<&[u8]> {
        self.disks[self.stores[n].disk].content(&archive())
    }

    fn look(&mut self, n: usize, since: Option<Guid>) -> Result<Look, String> {
        let disk = self.stores[n].disk;
        let looked = drive(&mut self.disks[disk], |io| acts::look(io, since)).finished();
        looked.map_err(|error| format!("the archive cannot be read: {error}"))
    }

    /// The beginning of the archive is what it was.
    pub(super) fn still_there(&self, n: usize) -> Check {
        what_was_acknowledged_is_there(&self.stores[n].bytes, self.content(n))
    }

    /// After a power loss: if the archive is the one before the last compaction again, so is what must be in it.
    pub(super) fn perhaps_undo(&mut self, n: usize) {
        let is_back = |(bytes, _): &&(Vec<u8>, Store)| self.content(n) == Some(&bytes[..]);
        let Some((_, before)) = self.stores[n].undone.as_deref().filter(is_back).cloned() else { return };
        let open_from = self.stores[n].open_from.into_iter().chain(before.open_from).min();
        self.stores[n] = Store { open_from, is_untidy: true, ..before };
    }

    /// What a compaction may have dropped at one of these times; the newest, too, if one that came beside it has followed.
    pub(super) fn may_go(&mut self, n: usize, moments: &[Time; 2], is_followed: bool) {
        let store = &mut self.stores[n];
        let [first, last] = moments.map(|now| store.retained(now));
        // A snapshot of a run that was cut off may be there, and be the newest.
        let newest = store.kept.keys().next_back().copied().filter(|_| is_followed || store.open_from.is_some());
        for (number, kept) in &mut store.kept {
            kept.may_go |= !(first.contains(number) && last.contains(number)) || newest == Some(*number);
        }
        store.was_compacting = true;
    }

    /// A run has ended and says that all is saved.
    pub(super) fn acknowledge(&mut self, n: usize, span: (usize, usize), report: &Report, came: &Came) -> Check {
        self.tally.successes += 1;
        let was_cut = std::mem::take(&mut self.stores[n].was_cut);
        if report.is_damaged() {
            return Err(format!("damage without a cause: {:?}", report.problems));
        }
        if report.problems_count > 0 && !came.trouble && !came.lie {
            // What a run had saved that was cut off may be on the server no more.
            let is_unclaimed = |problem: &&Problem| was_cut && matches!(problem, Problem::Unclaimed { .. });
            let mut others = report.problems.iter().filter(|problem| !is_unclaimed(problem)).peekable();
            let is_none = others.peek().is_none();
            let only_absent = others.all(|problem| matches!(problem, Problem::Message { .. }));
            if !is_none && (!only_absent || span.0 == span.1) {
                return Err(format!("problems without a cause: {:?}", report.problems));
            }
        }
        self.stores[n].lied |= came.lie;
        let is_anew = self.stores[n].was_compacting;
        if !is_anew {
            self.still_there(n)?;
        }
        let since = self.stores[n].head.as_ref().map(|head| head.part.sha1).filter(|_| !is_anew);
        let look = self.look(n, since)?;
        if since.is_some() && !look.is_later {
            return Err(String::from("the newest commit does not come after the one that was acknowledged"));
        }
        if look.end != End::Footer {
            return Err(format!("a run that ended well leaves the end {:?}", look.end));
        }
        if since.is_none() {
            // All of them were looked at; what a compaction has dropped is not there any more.
            self.stores[n].known.clear();
        }
        self.stores[n].known.extend(&look.messages);
        if report.commit.is_some_and(|number| number != look.head.commit.number) {
            return Err(format!("commit {:?} is acknowledged, the newest is {}", report.commit, look.head.commit.number));
        }
        if !self.stores[n].lied {
            self.nothing_is_forgotten(n, &look.head)?;
        }
        let vanished = report.gone.is_some();
        self.take_snapshots(n, span, &look, report, came.trouble)?;
        if is_anew {
            self.all_snapshots(n)?;
        }
        if !vanished && !self.stores[n].lied {
            self.newest_is_of(n, span, report, came)?;
        }
        if came.beside != Some(Beside::Backup) {
            self.raised_alarm(n, &look, report, vanished)?;
        }
        self.settle(n, look.head);
        if report.commit.is_some() {
            self.stores[n].undone = None;
        }
        Ok(())
    }

    /// An alarm stays until somebody has acknowledged it, and a hold until it is released.
    fn nothing_is_forgotten(&self, n: usize, head: &CommitAt) -> Check {
        let store = &self.stores[n];
        for (was, is, what) in
            [(store.alarm, !head.commit.standing.alarms.is_empty(), "alarm"), (store.hold, head.commit.hold.is_some(), "hold")]
        {
            if was && !is {
                return Err(format!("commit {} has forgotten the {what}", head.commit.number));
            }
        }
        Ok(())
    }

    /// From now on this head, and all before it, is what must be there.
    fn settle(&mut self, n: usize, head: CommitAt) {
        let bytes = self.content(n).unwrap_or_default();
        let bytes = bytes[..bytes.len().saturating_sub(FOOTER_LEN)].to_vec();
        let store = &mut self.stores[n];
        store.bytes = bytes;
        (store.alarm, store.hold) = (!head.commit.standing.alarms.is_empty(), head.commit.hold.is_some());
        store.gone = head.commit.standing.gone.is_some();
        store.head = Some(head);
        (store.open_from, store.lied, store.is_untidy, store.was_compacting) = (None, false, false, false);
        store.kept.values_mut().for_each(|kept| kept.may_go = false);
    }

    /// Snapshots that nobody has seen before: that of this run, and perhaps one of a run that was cut off after its commit.
    fn take_snapshots(&mut self, n: usize, span: (usize, usize), look: &Look, report: &Report, is_disturbed: bool) -> Check {
        for (at, table) in &look.snapshots {
            let is_this = report.commit == Some(at.commit.number);
            if !is_this && self.stores[n].kept.contains_key(&at.commit.number) {
                continue;
            }
            let from = if is_this { span.0 } else { self.stores[n].open_from.unwrap_or(span.0) };
            let kept =
                self.judge_snapshot(n, (from, span.1), at, table, if is_this { Some(report) } else { None }, is_disturbed);
            let kept = kept.map_err(|why| format!("snapshot {}: {why}", at.commit.number))?;
            self.stores[n].kept.insert(at.commit.number, kept);
        }
        Ok(())
    }

    fn judge_snapshot(
        &self,
        n: usize,
        (first, last): (usize, usize),
        at: &CommitAt,
        table: &Table,
        report: Option<&Report>,
        is_disturbed: bool,
    ) -> Result<Kept, String> {
        let store = &self.stores[n];
        let mut kept = Kept { time: at.commit.time, state: None, excused: BTreeSet::new(), is_whole: false, may_go: false };
        if store.lied {
            return Ok(kept);
        }
        let before = store.kept.range(..at.commit.number).next_back().map(|(_, kept)| kept);
        // One that was not acknowledged stays in later commits, also in those that have seen the user again.
        let is_alarm =
            at.commit.standing.alarms.iter().any(|alarm| alarm.after == 0) && report.is_none_or(|r| !r.raised.is_empty());
        if is_alarm && self.was_empty((first, last)) {
            // What the server has lost is still in the archive.
            let is_kept = |state: &Rc<State>| has_all(table, state) && table.folders.len() == state.folders.len();
            if let Some(before) = before.filter(|before| before.state.as_ref().is_none_or(is_kept)) {
                return Ok(Kept { time: at.commit.time, ..before.clone() });
            }
        }
        let unseen = unseen(report);
        let states: Vec<Rc<State>> = (first..=last).map(|n| self.past.state(n).clone()).collect();
        let is_mixed = (store.kind == Kind::Stock && first != last) || report.is_some_and(is_unsure);
        let against = Against { states: &states, is_mixed, unseen: &unseen, is_partial: store.kind == Kind::Stock };
        let against = if first != last && !is_mixed { Against { is_partial: against.is_partial, ..against } } else { against };
        let state = a_snapshot_is_the_state_of_one_moment(table, against)?;
        // To a server that gives files by name, one folder is another when they have changed places.
        let disturbed = is_disturbed || report.is_none() || is_mixed && store.kind == Kind::Stock;
        kept.excused = no_message_that_lived_is_missing(table, &state, &store.known, against, disturbed)?;
        if !unseen.is_empty() {
            // What stays as it was lacks what it lacked.
            kept.excused.extend(before.into_iter().flat_map(|before| &before.excused));
        }
        kept.is_whole = kept.excused.is_empty() && report.is_some_and(|report| report.problems_count == 0);
        kept.state = Some(with_unseen(&state, &unseen, before.and_then(|kept| kept.state.as_ref()), table)?);
        Ok(kept)
    }

    /// A run that has ended well leaves a newest snapshot that is the state of one moment of it, whether it made one or not.
    fn newest_is_of(&self, n: usize, span: (usize, usize), report: &Report, came: &Came) -> Check {
        let Some((number, kept)) = self.stores[n].kept.iter().next_back() else {
            return Err(String::from("all is saved, and there is no snapshot"));
        };
        // Beside somebody else nobody says which snapshot is whose.
        if report.commit == Some(*number) || came.trouble || came.beside.is_some() && self.stores[n].kind == Kind::Stock {
            return Ok(());
        }
        let Some(state) = &kept.state else { return Ok(()) };
        let is_partial = self.stores[n].kind == Kind::Stock;
        let is_one = |n: usize| {
            let now = self.past.state(n);
            now.folders == state.folders && (is_partial || now.files == state.files)
                || is_partial && same_to_a_stock_server(now, state)
                || now.folders.is_empty()
        };
        let mut states = span.0..=span.1;
        if states.any(is_one) || report.commit.is_some() {
            return Ok(());
        }
        Err(format!("nothing is said to be new, and snapshot {number} is none of the states {} to {}", span.0, span.1))
    }

    /// An alarm comes when more than half of the visible messages are gone and not expunged, and at no other time.
    fn raised_alarm(&self, n: usize, look: &Look, report: &Report, vanished: bool) -> Check {
        let mut newest = self.stores[n].kept.values().rev();
        let (Some(now), Some(before)) = (newest.next(), newest.next()) else { return Ok(()) };
        let (Some(now), Some(before)) = (&now.state, &before.state) else { return Ok(()) };
        // With how many messages a user comes back is no loss.
        let (before, left) = (before.messages(), now.accounted(before));
        let is_loss = vanished || (!self.stores[n].gone && left * 2 < before);
        // If the commit is of a run that was cut, it has the alarm.
        let is_new = look.snapshots.len() == 1 && report.problems_count == 0 && report.commit.is_some();
        match (is_loss, report.raised.first()) {
            (true, None) if is_new => Err(format!("{left} of {before} messages, and no alarm")),
            (false, Some(alarm)) if is_new => Err(format!("a false alarm: {alarm:?}")),
            _ => Ok(()),
        }
    }

    /// A run was cut off, or ended with an error. What was acknowledged must be there, and opening mends the rest.
    pub(super) fn after_trouble(&mut self, n: usize, (first, _): (usize, usize), came: &Came) -> Check {
        let store = &mut self.stores[n];
        store.open_from = Some(store.open_from.map_or(first, |open| open.min(first)));
        store.was_cut = true;
        store.is_untidy = true;
        store.lied |= came.lie;
        self.recover(n)
    }

    /// Opens copies of what is left: mended once, and cut off at a power loss while mending, which must come to the same.
    fn recover(&mut self, n: usize) -> Check {
        let disk = self.stores[n].disk;
        let fork = self.disks[disk].clone();
        for again in 0..1 + self.chance.upto(1) {
            self.tally.recoveries += 1;
            let store = self.stores[n].undone.is_some().then(|| self.stores[n].clone());
            if again > 0 {
                self.cut_recovery(n);
            }
            let checked = self.mend_and_check(n);
            store.into_iter().for_each(|store| self.stores[n] = store);
            let mended = std::mem::replace(&mut self.disks[disk], fork.clone());
            checked.map_err(|why| format!("recovery: {why}; {:?}", names_of(&mended.store())))?;
        }
        Ok(())
    }

    fn cut_recovery(&mut self, n: usize) {
        let disk = self.stores[n].disk;
        let at = 1 + self.chance.upto(30);
        let settings = acts::settings(&self.traits);
        let trouble = [Trouble::CrashBefore, Trouble::CrashAfter, Trouble::Torn(300)][self.chance.upto(2) as usize];
        let seed = self.chance.bits();
        self.disks[disk].plan(at, trouble);
        if let Drive::Crashed = drive(&mut self.disks[disk], |io| acts::reopen(io, settings)) {
            self.tally.fault("power loss in a recovery");
            self.disks[disk].lose_power(&mut Sampler::new(seed));
            self.perhaps_undo(n);
        }
        self.disks[disk].unplan();
    }

    /// Mends, and checks that all is there that was acknowledged; mends once more, which changes nothing.
    fn mend_and_check(&mut self, n: usize) -> Check {
        let (disk, settings) = (self.stores[n].disk, acts::settings(&self.traits));
        let open = |disk: &mut SimDisk| {
            let settings = settings.clone();
            let opened = drive(disk, |io| acts::reopen(io, settings)).finished();
            opened.map_err(|error| format!("opening fails: {error}"))
        };
        open(&mut self.disks[disk])?;
        let once = self.disks[disk].store();
        if self.stores[n].was_compacting {
            let store = self.stores[n].clone();
            let adopted = self.adopt(n);
            self.stores[n] = store;
            adopted?;
        } else {
            self.still_there(n)?;
            let acknowledged = self.stores[n].head.as_ref().map(|head| head.commit.number);
            let head = self.look(n, self.stores[n].head.as_ref().map(|head| head.part.sha1))?.head;
            if acknowledged.is_some_and(|number| head.commit.number < number) {
                return Err(format!("commit {acknowledged:?} was acknowledged, the newest is {}", head.commit.number));
            }
        }
        open(&mut self.disks[disk])?;
        let twice = self.disks[disk].store();
        if once != twice {
            return Err(format!("mending twice is not mending once: {:?} then {:?}", names_of(&once), names_of(&twice)));
        }
        invariants::nothing_is_open_and_all_was_bounded(&self.disks[disk])
    }

    /// Takes the archive as it is for the one that must be there, after looking at all of it: it was compacted, or may have
    /// been.
    pub(super) fn adopt(&mut self, n: usize) -> Check {
        self.all_snapshots(n)?;
        if self.stores[n].head.is_none() {
            return Ok(());
        }
        let head = self.look(n, None)?.head;
        let lied = self.stores[n].lied;
        self.settle(n, head);
        self.stores[n].lied = lied;
        self.tally.successes += 1;
        Ok(())
    }

    /// Every snapshot that must be there is, and has just what the server had; nothing is damaged.
    fn all_snapshots(&mut self, n: usize) -> Check {
        if self.stores[n].head.is_none() {
            return Ok(());
        }
        let look = self.look(n, None)?;
        let now = self.past.len() - 1;
        let found: BTreeMap<u64, &(CommitAt, Table)> = look.snapshots.iter().map(|s| (s.0.commit.number, s)).collect();
        let gone = self.stores[n].kept.iter().find(|(number, kept)| !found.contains_key(number) && !kept.may_go);
        if let Some((number, _)) = gone {
            return Err(format!("snapshot {number} is gone; there are {:?}", found.keys().collect::<Vec<_>>()));
        }
        self.stores[n].kept.retain(|number, _| found.contains_key(number));
        self.stores[n].known = look.messages.iter().copied().collect();
        for (number, (at, table)) in found {
            match self.stores[n].kept.get(&number) {
                Some(kept) => self.is_as_it_was(n, kept, table).map_err(|why| format!("snapshot {number}: {why}"))?,
                None => {
                    let from = self.stores[n].open_from.unwrap_or(now);
                    let kept = self.judge_snapshot(n, (from, now), at, table, None, true);
                    let kept = kept.map_err(|why| format!("snapshot {number}, which nobody acknowledged: {why}"))?;
                    self.stores[n].kept.insert(number, kept);
                }
            }
        }
        self.verified(n)
    }

    fn is_as_it_was(&self, n: usize, kept: &Kept, table: &Table) -> Check {
        let Some(state) = &kept.state else { return Ok(()) };
        let store = &self.stores[n];
        if !has_all(table, state) || table.folders.len() != state.folders.len() {
            let names = |names: &mut dyn Iterator<Item = &Vec<u8>>| {
                names.map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>().join(", ")
            };
            let (now, then) = (names(&mut table.folders.iter().map(|row| &row.name)), names(&mut state.folders.keys()));
            return Err(format!("it is not what it was: folders {now}, and they were {then}"));
        }
        let lacks = |guid: &&Guid| !store.known.contains(*guid) && !kept.excused.contains(*guid);
        state.bodies().find(lacks).map_or(Ok(()), |guid| Err(format!("message {guid} is not there")))
    }

    fn verified(&mut self, n: usize) -> Check {
        let disk = self.stores[n].disk;
        let verdict = drive(&mut self.disks[disk], acts::verdict).finished();
        match verdict {
            Ok((verdict, _)) if verdict.is_good() || self.stores[n].is_untidy => Ok(()),
            Ok((verdict, _)) => Err(format!("verify finds {:?}", verdict.findings)),
            Err(error) => Err(format!("verify fails: {error}")),
        }
    }

    /// Compacting once more at the same time finds nothing to be done, and changes nothing. `moments`: two, for the clock may
    /// have been set meanwhile.
    pub(super) fn twice_is_once(&mut self, n: usize, moments: &[Time; 2]) -> Check {
        let settings = acts::compaction(&self.traits, self.stores[n].policy, false);
        let mut check = Ok(());
        for moment in moments {
            let mut fork = self.disks[self.stores[n].disk].clone();
            fork.set_clock(*moment);
            let once = fork.store();
            let settings = settings.clone();
            let again =
                drive(&mut fork, |io| async move { cylinder_core::compact::run(&io, &dir(), &settings).await }).finished();
            match again {
                Ok(Outcome::Nothing(_)) if fork.store() == once => return Ok(()),
                other => check = check.and_then(|()| Err(format!("compacting twice is not compacting once: {other:?}"))),
            }
        }
        check
    }

    /// Two were at work on one archive. Each has ended well or was told of the other, and what both claim is so.
    pub(super) fn after_two(
        &mut self,
        n: usize,
        span: (usize, usize),
        result: Result<Report, Error>,
        others: Vec<Ended>,
        came: &Came,
    ) -> Check {
        let (mut is_busy, mut other) = (false, None);
        for ended in others {
            match ended {
                Ended::Served => {}
                Ended::Compacted(Ok(Outcome::Done(..))) => {
                    if self.stores[n].alarm || self.stores[n].hold {
                        return Err(String::from("compacted in spite of an alarm or a hold"));
                    }
                    let now = self.disks[self.stores[n].disk].now();
                    let is_followed = result.as_ref().is_ok_and(|report| report.commit.is_some());
                    self.may_go(n, &[now.plus(Span::from_secs(-600)), now], is_followed);
                }
                Ended::Compacted(Ok(Outcome::Waits(Wait::Damage(_)))) if !self.stores[n].is_untidy => {
                    return Err(String::from("a compaction beside a backup finds damage"));
                }
                Ended::Compacted(Err(Error::Busy { .. })) | Ended::Backup(Err(Error::Busy { .. })) => is_busy = true,
                Ended::Compacted(Err(error)) if self.stores[n].head.is_some() => {
                    return Err(format!("a compaction beside a backup: {error}"));
                }
                Ended::Compacted(_) => {}
                Ended::Backup(Ok(report)) if report.commit.is_some() => {
                    self.stores[n].open_from = Some(self.stores[n].open_from.map_or(span.0, |open| open.min(span.0)));
                    other = Some(report);
                }
                Ended::Backup(Ok(_)) => {}
                Ended::Backup(Err(Error::Refused(_))) if self.was_empty(span) => {}
                Ended::Backup(Err(error)) => return Err(format!("a backup beside a backup: {error}")),
                Ended::Read(read) => self.what_a_reader_saw(n, span, read)?,
            }
        }
        match result {
            Ok(report) => self.acknowledge(n, span, &Report { commit: None, ..report }, came),
            Err(Error::Busy { .. }) if !is_busy => match other {
                // What the other has saved it has acknowledged, and compactions know of it. (Seed 6841.)
                Some(report) => self.acknowledge(n, span, &report, came),
                None => self.after_trouble(n, span, came),
            },
            Err(Error::Refused(_)) if self.was_empty(span) => Ok(()),
            Err(error) => Err(format!("a backup beside another ({is_busy}): {error}")),
        }
    }

    /// Somebody who read while a run was at work saw each snapshot as it is.
    fn what_a_reader_saw(&self, n: usize, span: (usize, usize), read: Result<BTreeMap<u64, life::State>, Error>) -> Check {
        let seen = read.map_err(|error| format!("a reader beside a backup: {error}"))?;
        for (number, kept) in &self.stores[n].kept {
            let (Some(state), Some(seen)) = (&kept.state, seen.get(number)) else { continue };
            let of = |name: &Vec<u8>| seen.metadata.get(&format!("{} cyrus.index", String::from_utf8_lossy(name)));
            if let Some((name, _)) = state.folders.iter().find(|(name, folder)| of(name) != Some(&folder.index_sha1)) {
                let name = String::from_utf8_lossy(name);
                return Err(format!("a reader saw another {name} in snapshot {number}, during states {span:?}"));
            }
        }
        let newest = self.stores[n].kept.iter().next_back().filter(|(_, kept)| !kept.may_go);
        match newest {
            Some((newest, _)) if !seen.contains_key(newest) => {
                Err(format!("a reader did not see snapshot {newest}, but {:?}", seen.keys().collect::<Vec<_>>()))
            }
            _ => Ok(()),
        }
    }

    /// Writes a mark down.
    pub(super) fn mark(&mut self, n: usize, mark: Mark) -> Check {
        let (disk, settings) = (self.stores[n].disk, acts::settings(&self.traits));
        if self.stores[n].head.is_none() {
            return Ok(());
        }
        let marked = drive(&mut self.disks[disk], |io| acts::mark(io, settings, mark)).finished();
        marked.map_err(|error| format!("{mark:?}: {error}"))?;
        let span = (self.past.len() - 1, self.past.len() - 1);
        let lied = self.stores[n].lied;
        if self.stores[n].was_compacting {
            self.adopt(n)?;
        }
        self.still_there(n)?;
        let look = self.look(n, None)?;
        self.stores[n].known.extend(&look.messages);
        for (at, table) in &look.snapshots {
            if self.stores[n].kept.contains_key(&at.commit.number) {
                continue;
            }
            let from = self.stores[n].open_from.unwrap_or(span.0);
            let kept = self.judge_snapshot(n, (from, span.1), at, table, None, true)?;
            self.stores[n].kept.insert(at.commit.number, kept);
        }
        self.settle(n, look.head);
        (self.stores[n].lied, self.stores[n].undone) = (lied, None);
        let right = match mark {
            Mark::Acknowledge => !self.stores[n].alarm,
            Mark::Hold => self.stores[n].hold,
            Mark::Release => !self.stores[n].hold,
        };
        if right { Ok(()) } else { Err(format!("{mark:?} is not in the newest commit")) }
    }

    /// A bit rots in a copy of the store. Verify finds it; a backup keeps what is good; a compaction does not run over it.
    pub(super) fn rot(&mut self, n: usize, place: u64, bit: u8) -> Check {
        let Some(bytes) = self.content(n).filter(|_| !self.stores[n].is_untidy).map(<[u8]>::to_vec) else { return Ok(()) };
        self.tally.fault("bit rot");
        let at = (place % bytes.len() as u64) as usize;
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << bit;
        let (disks, store, disk) = (self.disks.clone(), self.stores[n].clone(), self.stores[n].disk);
        self.disks[disk].put_file(&archive(), damaged.clone());
        let judged = self.rotten(n, &damaged);
        (self.disks, self.stores[n]) = (disks, store);
        judged.map_err(|why| format!("bit {bit} of byte {at} of {} rots: {why}", damaged.len()))
    }

    fn rotten(&mut self, n: usize, damaged: &[u8]) -> Check {
        let (kind, disk) = (self.stores[n].kind, self.stores[n].disk);
        match drive(&mut self.disks[disk], acts::verdict).finished() {
            Ok((verdict, End::Footer)) if verdict.is_good() => return Err(String::from("verify does not find it")),
            Ok(_) | Err(Error::Damage(_)) => {}
            Err(error) => return Err(format!("verify fails: {error}")),
        }
        let settings = acts::compaction(&self.traits, self.stores[n].policy, false);
        let mut fork = self.disks[disk].clone();
        let compacted = drive(&mut fork, |io| async move { cylinder_core::compact::run(&io, &dir(), &settings).await });
        match compacted.finished() {
            Ok(Outcome::Done(..)) => {
                let good = drive(&mut fork, acts::verdict).finished().is_ok_and(|(verdict, _)| verdict.is_good());
                if !good {
                    return Err(String::from("a compaction has run over it"));
                }
            }
            Ok(_) | Err(Error::Damage(_)) => is_kept(damaged, &fork)?,
            Err(error) => return Err(format!("a compaction fails: {error}")),
        }
        let mut actors = acts::backup(&self.disks, disk, kind, &self.traits);
        let played = play(&mut self.disks, &mut actors, Wire::default(), Order::Turns, &mut |_| None);
        if played.curtain != Curtain::Down {
            return Err(format!("{:?}", played.curtain));
        }
        is_kept(damaged, &self.disks[disk])
    }

    /// At the end of a life: everything, read by our own reader and by others.
    pub(super) fn look_from_all_sides(&mut self, n: usize) -> Check {
        if self.stores[n].head.is_none() {
            return Ok(());
        }
        self.all_snapshots(n)?;
        let foreign = others_can_read_it(self.content(n).unwrap_or_default())?;
        if let Some(Kept { state: Some(state), excused, .. }) = self.stores[n].kept.values().next_back() {
            tar_alone_restores(&foreign, state, excused)?;
        }
        if self.chance.upto(7) == 0 {
            let disk = self.stores[n].disk;
            let read = drive(&mut self.disks[disk], life::snapshots).finished();
            let is_whole = self.stores[n].is_complete();
            match read {
                Ok(seen) => self.what_a_reader_saw(n, (0, 0), Ok(seen))?,
                Err(error) if is_whole => return Err(format!("reading all back: {error}")),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// Whatever was in a rotten archive is in it still, or in a file beside it.
fn is_kept(damaged: &[u8], disk: &SimDisk) -> Check {
    let now = disk.content(&archive()).unwrap_or_default();
    let same = now.iter().zip(damaged).take_while(|(a, b)| a == b).count();
    // The footer is no content: each run writes over it.
    let is_whole = same + FOOTER_LEN >= damaged.len();
    let is_aside = |(name, content): &(String, Vec<u8>)| {
        name.contains(".aside-") && damaged.ends_with(content) && content.len() + same >= damaged.len()
    };
    if is_whole || disk.store().into_iter().any(|file| is_aside(&file)) {
        return Ok(());
    }
    Err(format!("of {} bytes {same} are left, and no file beside has the rest: {:?}", damaged.len(), names_of(&disk.store())))
}

/// A table has these folders as they were.
fn has_all(table: &Table, state: &State) -> bool {
    state.folders.iter().all(|(name, folder)| {
        let row = table.folder(name);
        let sha1 = |row: &cylinder_core::archive::record::FolderRow| row.file("cyrus.index").map(|file| file.sha1);
        row.is_some_and(|row| sha1(row) == Some(folder.index_sha1) && row.id == folder.id.as_bytes())
    })
}

/// Two states that a stock server shows alike: it tells nothing of annotations' owners and of other files.
fn same_to_a_stock_server(a: &State, b: &State) -> bool {
    a.folders.len() == b.folders.len()
        && a.folders.iter().zip(&b.folders).all(|((name, a), (other, b))| {
            name == other && (&a.id, a.index_sha1, a.header_sha1) == (&b.id, b.index_sha1, b.header_sha1)
        })
}

/// Folders that a run could not look at.
fn unseen(report: Option<&Report>) -> BTreeSet<Vec<u8>> {
    let problems = report.map_or(&[][..], |report| &report.problems);
    let folder = |problem: &Problem| if let Problem::Folder { folder, .. } = problem { Some(folder.clone()) } else { None };
    problems.iter().filter_map(folder).collect()
}

/// Something was told that makes the set not of one moment.
fn is_unsure(report: &Report) -> bool {
    report.unsettled || report.problems.iter().any(|problem| matches!(problem, Problem::State { .. }))
}

/// A state in which folders that were not looked at are what they were.
fn with_unseen(
    state: &Rc<State>,
    unseen: &BTreeSet<Vec<u8>>,
    before: Option<&Rc<State>>,
    table: &Table,
) -> Result<Rc<State>, String> {
    if unseen.is_empty() {
        return Ok(state.clone());
    }
    let mut with = State::clone(state);
    let had = |id: &[u8]| before.and_then(|before| before.folders.values().find(|folder| folder.id.as_bytes() == id));
    for name in unseen {
        match table.folder(name).and_then(|row| had(&row.id)) {
            Some(folder) => drop(with.folders.insert(name.clone(), folder.clone())),
            None => drop(with.folders.remove(name)),
        }
        let lives = state.folders.get(name).filter(|folder| had(folder.id.as_bytes()).is_some());
        if lives.is_some_and(|folder| table.folders.iter().all(|row| row.id != folder.id.as_bytes())) {
            return Err(format!("{} could not be read, and is lost", String::from_utf8_lossy(name)));
        }
    }
    Ok(Rc::new(with))
}

/// Who ran beside, for a person.
impl Beside {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Beside::Compaction => "a compaction",
            Beside::Backup => "a second backup",
            Beside::Reader => "a reader",
        }
    }
}
