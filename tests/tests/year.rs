//! A year of users: daily runs, compaction when it is due, on a simulated clock, against a model of what each snapshot had.
//!
//! `cargo test` plays some years. More of them: `CYLINDER_YEARS=1000 cargo test --release -p cylinder-tests --test year`; one
//! again: `CYLINDER_SEED=n`.

use cylinder_core::archive::append::Mark;
use cylinder_core::compact::policy::Policy;
use cylinder_core::compact::{Outcome, Settings, Wait};
use cylinder_core::guid::Guid;
use cylinder_core::time::{Span, Time};
use cylinder_tests::choose::{Choose, Sampler};
use cylinder_tests::life::{Held, Life, State, settings};
use cylinder_tests::story;
use std::collections::{BTreeMap, BTreeSet};

const DAYS: i64 = 365;
const DAY: i64 = 86_400;

/// What the host had at each snapshot, and when it was made.
type Model = BTreeMap<u64, (Time, BTreeMap<String, BTreeMap<u32, Held>>)>;

struct Year {
    seed: u64,
    chance: Sampler,
    life: Life,
    model: Model,
    policy: &'static str,
    /// Days of the mass loss, its acknowledgement, the beginning and the end of a hold.
    loss: Option<(i64, i64)>,
    hold: Option<(i64, i64)>,
    /// Days since the live share is below its bound, and since the last compaction.
    below: i64,
    since: i64,
    appended: u64,
    rewritten: u64,
    compactions: u64,
    lowest: u64,
}

impl Year {
    fn new(seed: u64) -> Year {
        let mut chance = Sampler::new(seed);
        let policy = ["", "keep-within 0h", "keep-within 3d keep-daily 10", "keep-daily 7 keep-weekly 4 keep-monthly 6"];
        let policy = policy[chance.upto(3) as usize];
        let span = |chance: &mut Sampler| {
            let from = i64::from(chance.upto(250)) + 40;
            (from, from + 1 + i64::from(chance.upto(60)))
        };
        let loss = (chance.upto(4) == 0).then(|| span(&mut chance));
        let hold = (chance.upto(4) == 0).then(|| span(&mut chance));
        let life = Life::new();
        let model = Model::new();
        let (below, since, appended, rewritten, compactions, lowest) = (0, 0, 0, 0, 0, 100);
        Year { seed, chance, life, model, policy, loss, hold, below, since, appended, rewritten, compactions, lowest }
    }

    fn policy(&self) -> Policy {
        Policy::parse(self.policy).expect("a policy")
    }

    fn settings(&self) -> Settings {
        Settings { if_needed: true, check: self.seed.is_multiple_of(8), ..settings(self.policy()) }
    }

    fn play(mut self) -> Year {
        for _ in 0..10 {
            self.life.host.folder("user.anna").deliver(&story::mail(self.chance.bits(), 1500));
        }
        for day in 0..DAYS {
            self.life.hours(24);
            self.life.day(&mut self.chance);
            self.exceptions(day);
            self.run();
            self.look(day);
            self.life.disk.take_transcript();
        }
        self.check();
        self.life.is_good();
        self
    }

    fn exceptions(&mut self, day: i64) {
        if self.loss.is_some_and(|(from, _)| from == day) {
            for folder in self.life.host.folders.values_mut() {
                folder.messages.drain(..folder.messages.len().saturating_sub(1));
                folder.modseq += 1;
            }
        }
        if self.loss.is_some_and(|(_, until)| until == day) {
            self.life.mark(Mark::Acknowledge);
        }
        match self.hold {
            Some((from, _)) if from == day => self.life.mark(Mark::Hold),
            Some((_, until)) if until == day => self.life.mark(Mark::Release),
            _ => {}
        }
    }

    fn run(&mut self) {
        let before = self.life.archive_len();
        let report = self.life.backup();
        self.appended += (self.life.archive_len() - before) as u64;
        if let Some(number) = report.commit {
            self.model.insert(number, (self.life.head().commit.time, self.life.folders()));
            let newest = self.life.newest();
            self.same(number, &newest);
        }
    }

    /// What `backup` does at its end; and what would be found if somebody looked every third day.
    fn look(&mut self, day: i64) {
        let seed = self.seed;
        let outcome = self.life.compact(&self.settings());
        match &outcome {
            Outcome::Done(plan, filtered) => {
                assert!(plan.is_due(), "seed {seed}, day {day}: {plan:?}");
                let head = self.life.head().commit;
                assert!(head.hold.is_none() && head.standing.alarms.is_empty(), "seed {seed}, day {day}: {head:?}");
                self.rewritten += filtered.bytes;
                self.compactions += 1;
                (self.since, self.below) = (day, day);
                self.forget();
                self.check();
            }
            Outcome::Waits(wait) => {
                let head = self.life.head().commit;
                let right = match wait {
                    Wait::Alarm(_) => !head.standing.alarms.is_empty(),
                    Wait::Hold(_) => head.hold.is_some(),
                    Wait::Damage(damage) => panic!("seed {seed}, day {day}: {damage}"),
                };
                assert!(right, "seed {seed}, day {day}: {wait:?}");
            }
            // Seed 472: due on the days before and after, and not on the one on which it was looked at.
            Outcome::NotDue(_) | Outcome::Nothing(_) => self.below = day,
            _ => {}
        }
        if day % 3 == 0 {
            self.bound(day);
        }
    }

    fn bound(&mut self, day: i64) {
        let looked = self.life.compact(&Settings { dry_run: true, if_needed: false, ..self.settings() });
        let (Outcome::Would(plan) | Outcome::Nothing(plan)) = looked else {
            // Whatever waits may be below its bound for as long as it does, and then has a week.
            (self.below, self.since) = (day, day);
            return;
        };
        self.lowest = self.lowest.min(plan.live_percent());
        if !plan.is_due() {
            self.below = day;
        }
        let seed = self.seed;
        assert!(day - self.below <= 10, "seed {seed}, day {day}: below its bound since day {}: {plan:?}", self.below);
        let is_overdue = day - self.since > 20 * 7 + 8 && plan.raw_dropped > 0;
        assert!(!is_overdue, "seed {seed}, day {day}: not compacted since day {}: {plan:?}", self.since);
        // What is retained by now is in any case not yet gone.
        let missing: Vec<u64> = self.retained().difference(&self.life.numbers()).copied().collect();
        assert!(missing.is_empty(), "seed {seed}, day {day}: snapshots {missing:?} are gone");
    }

    /// Which snapshots are retained: by asking for each of the moments one by one, hour by hour.
    fn retained(&self) -> BTreeSet<u64> {
        let (now, policy) = (self.life.disk.now(), self.policy());
        let state_at = |moment: Time| self.model.iter().rfind(|(_, (time, _))| *time <= moment).map(|(number, _)| *number);
        let mut kept: BTreeSet<u64> = self.model.keys().next_back().copied().into_iter().collect();
        let mut ago = Span(0);
        while ago <= policy.within {
            kept.extend(state_at(now.plus(Span(-ago.0))));
            ago = Span(ago.0 + Span::from_secs(3600).0);
        }
        let midnight = now.secs().div_euclid(DAY) * DAY;
        for n in 0..i64::from(policy.daily) {
            kept.extend(state_at(Time(Time::from_secs(midnight - n * DAY).0 - 1)));
        }
        kept
    }

    /// The model forgets what compaction may have dropped.
    fn forget(&mut self) {
        let (retained, found) = (self.retained(), self.life.numbers());
        let seed = self.seed;
        let missing: Vec<&u64> = retained.difference(&found).collect();
        assert!(missing.is_empty(), "seed {seed}: snapshots {missing:?} are gone");
        self.model.retain(|number, _| found.contains(number));
    }

    /// Every snapshot that there is has just what the host had then.
    fn check(&mut self) {
        let found = self.life.snapshots();
        assert_eq!(found.keys().collect::<Vec<_>>(), self.model.keys().collect::<Vec<_>>(), "seed {}", self.seed);
        found.iter().for_each(|(number, state)| self.same(*number, state));
    }

    fn same(&self, number: u64, state: &State) {
        let expected = &self.model[&number].1;
        assert_eq!(state.folders.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "seed {}", self.seed);
        for (name, messages) in &state.folders {
            let differ = messages.iter().find(|(uid, held)| expected[name].get(uid) != Some(held));
            let same = differ.is_none() && messages.len() == expected[name].len();
            assert!(same, "seed {}, snapshot {number}, {name}: {differ:?}", self.seed);
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

#[test]
fn every_snapshot_that_is_retained_restores_to_what_was_there() {
    let seeds = match number("CYLINDER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("CYLINDER_YEARS").unwrap_or(6),
    };
    let play = |from: u64| {
        let (mut appended, mut rewritten, mut compactions, mut lowest) = (0, 0, 0, 100);
        for seed in seeds.clone().skip(from as usize).step_by(2) {
            let year = Year::new(seed).play();
            appended += year.appended;
            rewritten += year.rewritten;
            compactions += year.compactions;
            lowest = lowest.min(year.lowest);
        }
        (appended, rewritten, compactions, lowest)
    };
    let (ours, theirs) = std::thread::scope(|scope| {
        let other = scope.spawn(|| play(1));
        let ours = play(0);
        (ours, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let (appended, rewritten, compactions) = (ours.0 + theirs.0, ours.1 + theirs.1, ours.2 + theirs.2);
    let lowest = ours.3.min(theirs.3);
    println!(
        "{} years: {appended} bytes appended, {rewritten} written by {compactions} compactions, lowest live share {lowest}%",
        seeds.end - seeds.start
    );
    assert!(compactions >= seeds.end - seeds.start);
}

#[test]
fn the_same_seed_plays_the_same_year() {
    let play = |seed| {
        let mut year = Year::new(seed);
        for day in 0..40 {
            year.life.hours(24);
            year.life.day(&mut year.chance);
            year.run();
            year.look(day);
        }
        Guid::of(&year.life.disk.store().into_values().flatten().collect::<Vec<u8>>())
    };
    assert_eq!(play(5), play(5));
    assert_ne!(play(5), play(6));
}
