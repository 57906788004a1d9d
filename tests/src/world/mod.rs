//! The simulated world: whole lives of archives by seed, in milliseconds, under every fault that the medium, the network, the
//! server and other people have.
//!
//! A [`life::Life`] is data, made from a seed: thirty days of a user on a mail server, backups into one or two stores,
//! compaction, marks, and trouble. A [`World`] lives it: a model of the server ([`past`]), a disk for each host, and
//! procedures of the core side by side ([`stage`], [`acts`]). After each step that claims success, and after each recovery,
//! [`invariants`] are checked ([`judge`]). Everything is a function of the seed: there is no clock, no thread and no chance
//! but that of the seed.
//!
//! A life that fails is made short ([`shrink`]) and told in words.

pub mod acts;
pub mod invariants;
pub mod judge;
pub mod life;
pub mod past;
pub mod shrink;
pub mod stage;

use crate::check::Check;
use crate::choose::Sampler;
use crate::disk::{SimDisk, Trouble};
use acts::Ended;
use cylinder_core::backup::report::Report;
use cylinder_core::compact::{Outcome, Wait};
use cylinder_core::error::{Error, Fault as OsFault};
use cylinder_core::guid::Guid;
use cylinder_core::io::{LockMode, Op, Place, Root};
use cylinder_core::time::{Span, Time};
use judge::Store;
use life::{At, Beside, Change, Fault, Kind, Life, Step, Stop, Traits};
use past::Past;
use stage::{Act, Actor, Between, Curtain, Order, Wire, is_write, play};
use std::collections::{BTreeMap, BTreeSet};

/// What was lived through, for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Lives.
    pub lives: u64,
    /// Simulated time, in seconds: more than a [`Span`] can hold.
    pub seconds: u64,
    /// Operations of the core.
    pub ops: u64,
    /// Faults that came about, by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Operations at which a machine or a process has stopped, by what was being done.
    pub stops: BTreeMap<String, u64>,
    /// Runs, compactions and the like that claimed success.
    pub successes: u64,
    /// Recoveries that were checked.
    pub recoveries: u64,
}

impl Tally {
    /// Takes what another has counted.
    pub fn add(&mut self, other: Tally) {
        self.lives += other.lives;
        self.seconds += other.seconds;
        self.ops += other.ops;
        self.successes += other.successes;
        self.recoveries += other.recoveries;
        for (kind, n) in other.faults {
            *self.faults.entry(kind).or_default() += n;
        }
        for (point, n) in other.stops {
            *self.stops.entry(point).or_default() += n;
        }
    }

    fn fault(&mut self, kind: &'static str) {
        *self.faults.entry(kind).or_default() += 1;
    }
}

/// A world in which a life is lived.
pub struct World {
    traits: Traits,
    /// The mail server's, then one for each store that is elsewhere.
    disks: Vec<SimDisk>,
    past: Past,
    stores: Vec<Store>,
    chance: Sampler,
    /// What was counted.
    pub tally: Tally,
    /// One line for each step, if they are wanted.
    told: Option<Vec<String>>,
    /// Operations of the last run or compaction, if anything is told.
    last_ops: Vec<String>,
}

/// What came about in a play.
#[derive(Default)]
struct Came {
    /// Trouble that may end a run, or make it tell of problems.
    trouble: bool,
    /// Something was read that was not so.
    lie: bool,
    /// Something ran beside, and what it ended with is among the actors.
    beside: Option<Beside>,
    /// The machine stopped, what it did, and what is left of its memory.
    stopped: Option<(usize, Option<u64>)>,
}

/// A fault and whether it has come.
struct Coming<'a> {
    fault: &'a Fault,
    came: bool,
}

impl World {
    /// The world of these traits, before anything has happened.
    pub fn new(traits: &Traits, seed: u64) -> World {
        let mut there = SimDisk::new();
        there.set_silent(true);
        there.set_step(traits.step);
        there.wait_until(there.now().plus(Span::from_ms(123)));
        let mut disks = vec![there];
        let mut stores = Vec::new();
        for (kind, policy) in &traits.stores {
            let disk = if *kind == Kind::Local { 0 } else { disks.len() };
            if disk > 0 {
                let mut here = SimDisk::new();
                here.set_silent(true);
                here.set_clock(disks[0].now().plus(Span::from_secs(traits.skew)));
                disks.push(here);
            }
            // Two stores of one host would be one.
            if *kind != Kind::Local || !stores.iter().any(|store: &Store| store.kind == Kind::Local) {
                stores.push(Store::new(*kind, policy, disk));
            }
        }
        if traits.late_seals {
            disks.iter_mut().for_each(SimDisk::set_late_seals);
        }
        let past = Past::new(traits.index, &mut disks[0]);
        let (chance, tally) = (Sampler::new(seed ^ 0x776F_726C), Tally::default());
        World { traits: traits.clone(), disks, past, stores, chance, tally, told: None, last_ops: Vec::new() }
    }

    /// Lives a life to its end; what is wrong, if anything is.
    pub fn live(life: &Life) -> (Tally, Check) {
        let mut world = World::new(&life.traits, life.seed);
        let check = world.go_through(life);
        (world.tally, check)
    }

    /// The same, told in words: some lines for each step; if something is wrong, also the operations of the last.
    pub fn tell(life: &Life) -> (Vec<String>, Check) {
        let mut world = World::new(&life.traits, life.seed);
        world.told = Some(Vec::new());
        let check = world.go_through(life);
        let mut told = world.told.unwrap_or_default();
        if check.is_err() {
            told.push(String::from("        the last operations:"));
            told.append(&mut world.last_ops);
        }
        (told, check)
    }

    /// The SHA-1 of all that a life leaves on all disks.
    pub fn bytes_of(life: &Life) -> Guid {
        let mut world = World::new(&life.traits, life.seed);
        let check = world.go_through(life);
        let digests: Vec<String> = world.disks.iter().map(|disk| disk.digest().to_hex()).collect();
        Guid::of(format!("{digests:?} {check:?} {:?}", world.tally).as_bytes())
    }

    fn go_through(&mut self, life: &Life) -> Check {
        for (n, step) in life.steps.iter().enumerate() {
            self.tell_step(n, step);
            let check = self.step(step);
            self.tell_stores();
            check.map_err(|why| format!("step {n}: {why}"))?;
        }
        self.end().map_err(|why| format!("at the end: {why}"))?;
        self.tally.lives = 1;
        self.tally.seconds = life.span().ms().unsigned_abs() / 1000;
        Ok(())
    }

    fn tell_step(&mut self, n: usize, step: &Step) {
        let states = self.past.len() - 1;
        if let Some(told) = &mut self.told {
            told.push(format!("{n:3} state {states:3} {step:?}"));
        }
    }

    fn say(&mut self, what: impl FnOnce() -> String) {
        if let Some(told) = &mut self.told {
            told.push(format!("        {}", what()));
        }
    }

    /// What is in the stores, if that is to be told and has changed.
    fn tell_stores(&mut self) {
        for n in 0..self.stores.len() {
            let files = self.disks[self.stores[n].disk].store();
            let listed: Vec<String> = files.iter().map(|(name, content)| format!("{name} {}", content.len())).collect();
            self.say(|| format!("store {n}: {}", listed.join(", ")));
        }
    }

    fn step(&mut self, step: &Step) -> Check {
        match step {
            Step::Wait { ms } => self.wait(Span::from_ms(*ms)),
            Step::Jump { secs } => {
                self.tally.fault("clock set");
                let now = self.disks[0].now();
                self.disks[0].set_clock(now.plus(Span::from_secs(*secs)));
            }
            Step::Change(change) => {
                self.past.apply(change, &mut self.disks[0]);
                // No two things happen at once.
                self.wait(Span(1000));
            }
            Step::Backup { store, faults, meanwhile } if *store < self.stores.len() => {
                return self.backup(*store, faults, meanwhile);
            }
            Step::Compact { store, if_needed, faults } if *store < self.stores.len() => {
                return self.compact(*store, *if_needed, faults);
            }
            Step::Mark { store, mark } if *store < self.stores.len() => return self.mark(*store, *mark),
            Step::Rot { store, place, bit } if *store < self.stores.len() => return self.rot(*store, *place, *bit),
            Step::Backup { .. } | Step::Compact { .. } | Step::Mark { .. } | Step::Rot { .. } => {}
        }
        Ok(())
    }

    fn wait(&mut self, span: Span) {
        for disk in &mut self.disks {
            disk.set_clock(disk.now().plus(span));
        }
    }

    /// When all is quiet each store gets what it lacks, and is looked at from all sides.
    fn end(&mut self) -> Check {
        self.wait(Span::from_secs(200));
        for n in 0..self.stores.len() {
            self.backup(n, &[], &[])?;
            self.look_from_all_sides(n)?;
        }
        self.disks.iter().try_for_each(invariants::nothing_is_written_elsewhere)
    }

    /// A backup, whatever comes about, and what must hold afterwards.
    fn backup(&mut self, n: usize, faults: &[Fault], meanwhile: &[(u32, Change)]) -> Check {
        let (kind, disk) = (self.stores[n].kind, self.stores[n].disk);
        let first = self.past.len() - 1;
        let mut actors = acts::backup(&self.disks, disk, kind, &self.traits);
        self.beside(n, faults, &mut actors);
        let mut todo: Vec<(u32, Change)> = meanwhile.to_vec();
        let (came, curtain) = self.play(disk, &mut actors, faults, &mut todo);
        let last = self.past.len() - 1;
        for (_, change) in todo {
            self.past.apply(&change, &mut self.disks[0]);
        }
        let span = (first, last);
        self.say(|| format!("states {first} to {last}, {curtain:?}"));
        if let Curtain::Stuck(why) = curtain {
            return Err(why);
        }
        if let Some((stopped, power)) = came.stopped {
            self.stop(stopped, power);
            return self.after_trouble(n, span, &came);
        }
        let mut ended = actors.into_iter().map(|actor| actor.outcome);
        let result = match ended.next().flatten() {
            Some(Ended::Backup(result)) => result,
            _ => return Err(String::from("the backup has not ended")),
        };
        self.say(|| result.as_ref().map_or_else(|error| format!("error: {error}"), |report| format!("{report:?}")));
        let others: Vec<Ended> = ended.flatten().collect();
        self.after_backup(n, span, result, &came, others)
    }

    fn after_backup(
        &mut self,
        n: usize,
        span: (usize, usize),
        result: Result<Report, Error>,
        came: &Came,
        others: Vec<Ended>,
    ) -> Check {
        invariants::nothing_is_open_and_all_was_bounded(&self.disks[self.stores[n].disk])?;
        invariants::nothing_is_open_and_all_was_bounded(&self.disks[0])?;
        if came.beside.is_some() {
            return self.after_two(n, span, result, others, came);
        }
        match result {
            Ok(report) => self.acknowledge(n, span, &report, came),
            Err(error) if came.trouble || came.lie => {
                self.clear_error(&error)?;
                self.after_trouble(n, span, came)
            }
            // Nobody has such a user, and nobody ever had.
            Err(Error::Refused(_)) if self.may_be_empty(n, span.1) && self.was_empty(span) => Ok(()),
            Err(error) => Err(format!("an error without a cause: {error}")),
        }
    }

    /// An error names what it is about.
    fn clear_error(&self, error: &Error) -> Check {
        match error {
            Error::World { object, .. } if object.is_empty() => Err(format!("`{error}` does not say on what")),
            Error::World { fault: OsFault::Driver, .. } => Err(format!("the core made a mistake: {error}")),
            _ => Ok(()),
        }
    }

    /// True if the newest snapshot may be one without any folder: also that of a run that was cut off.
    fn may_be_empty(&self, n: usize, last: usize) -> bool {
        self.stores[n].may_be_empty() || self.stores[n].open_from.is_some_and(|first| self.was_empty((first, last)))
    }

    fn was_empty(&self, (first, last): (usize, usize)) -> bool {
        (first..=last).any(|n| self.past.state(n).folders.is_empty())
    }

    /// Adds whoever is at work beside.
    fn beside(&self, n: usize, faults: &[Fault], actors: &mut Vec<Actor<Ended>>) {
        let store = &self.stores[n];
        let who = faults.iter().find_map(|fault| if let Fault::Beside { who, .. } = fault { Some(*who) } else { None });
        match who {
            Some(Beside::Backup) if store.kind == Kind::Local => {
                actors.extend(acts::backup(&self.disks, store.disk, store.kind, &self.traits));
            }
            // Of what is told to be missing, a reader could only tell the same.
            Some(Beside::Reader) if store.head.is_some() && store.is_complete() => {
                actors.push(acts::reader(&self.disks, store.disk))
            }
            Some(_) => {
                let settings = acts::compaction(&self.traits, store.policy, false);
                actors.push(acts::compact(&self.disks, store.disk, settings));
            }
            None => {}
        }
    }

    /// Lets the actors play, with the faults and changes that come meanwhile.
    fn play(
        &mut self,
        disk: usize,
        actors: &mut [Actor<Ended>],
        faults: &[Fault],
        todo: &mut Vec<(u32, Change)>,
    ) -> (Came, Curtain) {
        let mut came = Came::default();
        let (mut wire, mut order) = (Wire::default(), Order::Turns);
        for fault in faults {
            match fault {
                Fault::Wire(what) => wire = *what,
                Fault::Beside { who, seed } => {
                    came.beside = Some(*who);
                    order = Order::of(*seed);
                    self.tally.fault("somebody beside");
                }
                _ => {}
            }
        }
        // An index of these versions does not know what its messages are.
        let has_sha1 = self.traits.index >= 10;
        let faults = faults.iter().filter(|fault| has_sha1 || !matches!(fault, Fault::Flip { .. }));
        let mut coming: Vec<Coming<'_>> = faults.map(|fault| Coming { fault, came: false }).collect();
        let mut held: Option<Time> = None;
        let disks_of: Vec<usize> = actors.iter().map(|actor| actor.disk).collect();
        let World { disks, past, tally, told, last_ops, .. } = self;
        last_ops.clear();
        let mut between = |mut b: Between<'_>| {
            if told.is_some() {
                let Between { done, who, .. } = b;
                last_ops.push(format!("{done:9} {who} {}", b.disks[disks_of[who]].describe(b.next)));
            }
            happen(&mut b, past, todo, &mut held);
            let index = coming.iter().position(|coming| !coming.came && comes(coming.fault, &b))?;
            coming[index].came = true;
            act(coming[index].fault, &mut b, disk, past, &mut held, &mut came, tally)
        };
        let played = play(disks, actors, wire, order, &mut between);
        self.disks.iter_mut().for_each(SimDisk::let_go);
        self.tally.ops += played.ops;
        for (kind, hits) in [
            ("connection cut", played.hits.cuts),
            ("connection silent", played.hits.stalls),
            ("connection half closed", played.hits.halves),
            ("lying peer", played.hits.flips),
        ] {
            if hits > 0 {
                self.tally.fault(kind);
                came.trouble = true;
            }
        }
        came.lie |= played.hits.flips > 0;
        if let Curtain::Stopped(_, what) = &played.curtain {
            *self.tally.stops.entry(what.clone()).or_default() += 1;
        }
        (came, played.curtain)
    }

    /// What a stop leaves.
    fn stop(&mut self, disk: usize, power: Option<u64>) {
        match power {
            Some(seed) => {
                self.disks[disk].lose_power(&mut Sampler::new(seed));
                for n in 0..self.stores.len() {
                    if self.stores[n].disk == disk {
                        self.perhaps_undo(n);
                    }
                }
            }
            None => self.disks[disk].kill(),
        }
    }

    /// A compaction, whatever comes about, and what must hold afterwards.
    fn compact(&mut self, n: usize, if_needed: bool, faults: &[Fault]) -> Check {
        let (disk, policy) = (self.stores[n].disk, self.stores[n].policy);
        let begun = self.disks[disk].now();
        let before = self.content(n).map(<[u8]>::to_vec);
        let settings = acts::compaction(&self.traits, policy, if_needed);
        let mut actors = vec![acts::compact(&self.disks, disk, settings)];
        let (came, curtain) = self.play(disk, &mut actors, faults, &mut Vec::new());
        let now = self.past.len() - 1;
        let moments = [begun, self.disks[disk].now()];
        self.say(|| format!("{curtain:?}"));
        if let Curtain::Stuck(why) = curtain {
            return Err(why);
        }
        if let Some((stopped, power)) = came.stopped {
            self.stop(stopped, power);
            self.may_go(n, &moments, false);
            return self.after_trouble(n, (now, now), &came);
        }
        invariants::nothing_is_open_and_all_was_bounded(&self.disks[disk])?;
        let Some(Ended::Compacted(result)) = actors.remove(0).outcome else {
            return Err(String::from("the compaction has not ended"));
        };
        self.say(|| format!("{result:?}"));
        match (&result, before) {
            (Err(_), Some(before)) if self.content(n) != Some(&before[..]) => {
                self.stores[n].undone = Some(Box::new((before, self.stores[n].clone())));
            }
            (Ok(Outcome::Done(..)), _) => self.stores[n].undone = None,
            _ => {}
        }
        self.after_compaction(n, result, &moments, &came)
    }

    fn after_compaction(&mut self, n: usize, result: Result<Outcome, Error>, moments: &[Time; 2], came: &Came) -> Check {
        let store = &self.stores[n];
        match result {
            Ok(Outcome::Done(..)) if store.alarm || store.hold => Err(String::from("compacted in spite of an alarm or a hold")),
            Ok(Outcome::Done(..)) => {
                self.may_go(n, moments, false);
                self.adopt(n)?;
                self.twice_is_once(n, moments)
            }
            Ok(Outcome::Waits(Wait::Alarm(_))) if store.alarm || store.is_untidy => Ok(()),
            Ok(Outcome::Waits(Wait::Hold(_))) if store.hold || store.is_untidy => Ok(()),
            Ok(Outcome::Waits(Wait::Damage(_))) if store.is_untidy || came.trouble => Ok(()),
            Ok(Outcome::Waits(wait)) => Err(format!("waits without a cause: {wait:?}")),
            // What one that was cut off has left was looked at then.
            Ok(_) if store.was_compacting => Ok(()),
            Ok(_) => self.still_there(n),
            Err(Error::World { fault: OsFault::NotFound, .. }) if store.head.is_none() => Ok(()),
            Err(Error::Damage(_)) if store.head.is_none() && store.is_untidy => Ok(()),
            Err(error) if came.trouble => {
                self.clear_error(&error)?;
                self.may_go(n, moments, false);
                let now = self.past.len() - 1;
                self.after_trouble(n, (now, now), came)
            }
            Err(error) => Err(format!("an error without a cause: {error}")),
        }
    }
}

/// What is due between two operations whoever is next: somebody lets a lock go, the server goes on as far as locks allow.
fn happen(b: &mut Between<'_>, past: &mut Past, todo: &mut Vec<(u32, Change)>, held: &mut Option<Time>) {
    if held.is_some_and(|until| b.disks[0].now() >= until) {
        b.disks[0].let_go();
        *held = None;
    }
    while todo.first().is_some_and(|(at, _)| *at <= b.done) && !b.disks[0].is_locked(Root::Host) {
        let (_, change) = todo.remove(0);
        past.apply(&change, &mut b.disks[0]);
    }
}

/// True if a fault is due.
fn comes(fault: &Fault, b: &Between<'_>) -> bool {
    let is_message = matches!(b.next, Op::ReadWhole { place, .. } if place.root == Root::Host && place.path.ends_with(b"."));
    match *fault {
        Fault::Flip { at, .. } => at <= b.done && is_message,
        Fault::NoSpace { at } | Fault::Io { at } | Fault::Forget { at } | Fault::Stop { at, .. } | Fault::Jump { at, .. } => {
            b.who == 0
                && match at {
                    At::Op(n) => n == b.done,
                    At::Write(n) => n == b.writes && is_write(b.next),
                }
        }
        Fault::Server { at } | Fault::Holder { at, .. } => b.who == 0 && at == b.done,
        Fault::Wire(_) | Fault::Beside { .. } => false,
    }
}

fn act(
    fault: &Fault,
    b: &mut Between<'_>,
    disk: usize,
    past: &Past,
    held: &mut Option<Time>,
    came: &mut Came,
    tally: &mut Tally,
) -> Option<Act> {
    tally.fault(word(fault));
    match *fault {
        Fault::Jump { secs, .. } => {
            let now = b.disks[disk].now();
            b.disks[disk].set_clock(now.plus(Span::from_secs(secs)));
            // Deadlines are times of the clock: one that is set forward ends waits.
            came.trouble |= secs > 0;
            return None;
        }
        Fault::Holder { user, ms, .. } => {
            b.disks[0].hold(&lock_place(past, user), LockMode::Exclusive, "process 7 (imapd)");
            *held = Some(b.disks[0].now().plus(Span::from_ms(ms)));
            // Shorter ones must be waited for.
            came.trouble |= ms > 50_000;
            return None;
        }
        Fault::Stop { how, power, .. } => {
            came.stopped = Some((disk, power));
            return Some(Act::Trouble(match how {
                Stop::Before => Trouble::CrashBefore,
                Stop::After => Trouble::CrashAfter,
                Stop::Torn(keep) => Trouble::Torn(keep),
            }));
        }
        _ => came.trouble = true,
    }
    Some(match *fault {
        Fault::NoSpace { .. } => Act::Trouble(Trouble::Fail(OsFault::NoSpace)),
        Fault::Io { .. } => Act::Trouble(Trouble::Fail(OsFault::Os(5))),
        Fault::Forget { .. } => Act::Trouble(Trouble::Forget(OsFault::Os(5))),
        Fault::Flip { bit, .. } => Act::Flip(bit),
        _ => Act::Kill(1),
    })
}

/// The lock of the user, or the INBOX's index.
fn lock_place(past: &Past, user: bool) -> Place {
    match past.host.folders.contains_key("user.anna") {
        true if !user => past.host.meta_place("user.anna", "cyrus.index"),
        _ => Place::host("/run/cyrus/lock/*U*anna.lock"),
    }
}

fn word(fault: &Fault) -> &'static str {
    match fault {
        Fault::NoSpace { .. } => "no space",
        Fault::Io { .. } => "i/o error",
        Fault::Forget { .. } => "i/o error, sync forgets",
        Fault::Stop { power: Some(_), .. } => "power loss",
        Fault::Stop { power: None, .. } => "process killed",
        Fault::Server { .. } => "server killed",
        Fault::Wire(_) => "connection",
        Fault::Holder { .. } => "lock held",
        Fault::Jump { .. } => "clock set during a run",
        Fault::Flip { .. } => "bit flipped on read",
        Fault::Beside { .. } => "somebody beside",
    }
}

/// What differs between two stores, for a person.
fn names_of(store: &BTreeMap<String, Vec<u8>>) -> BTreeSet<String> {
    store.iter().map(|(name, content)| format!("{name} {} bytes", content.len())).collect()
}
