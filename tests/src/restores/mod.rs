//! The restore fuzzer: a random user is backed up, something is lost, and it is restored in a random way, cut at a random
//! moment and run again until it ends by itself; what is on the server then is compared with what the snapshot had.
//!
//! Everything is a function of the seed. The backup and the restores are the core's own procedures, over a simulated disk and a
//! simulated stream; the server is a model of Cyrus ([`model`]) with an IMAP face ([`imap`]) and one of the replication
//! protocol ([`sync`]). [`user`] makes users, [`loss`] takes something away, [`ways`] restores, [`judge`] compares.

pub mod imap;
pub mod judge;
pub mod loss;
pub mod model;
pub mod origin;
pub mod sync;
pub mod user;
pub mod ways;

use crate::choose::{Choose, Sampler};
use crate::disk::SimDisk;
use crate::net::{Net, Way as Lane};
use cylinder_core::error::Error;
use cylinder_core::restore::select::Scope;
use cylinder_core::restore::server::report::Report;
use imap::Shared;
use judge::{Case, Fault, fault};
use loss::Loss;
use model::Server;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use ways::{Order, Way};

/// Runs of one command after which it should have ended by itself.
const RUNS_MAX: u32 = 6;

/// How a case ended that went well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum End {
    /// All is there, and the exit code is 0.
    Clean,
    /// The report says what is not, and the exit code is 3.
    Partial,
    /// Refused before anything was done.
    Refused,
}

/// What was seen in one case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// What was lost.
    pub loss: Loss,
    /// The last command.
    pub way: Way,
    /// A connection was cut, or the run was told to stop.
    pub was_cut: bool,
    /// How it ended.
    pub end: End,
}

/// Counts of cases.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Cases that went well, by the way of restoring, what was lost, whether they were cut and how they ended.
    pub well: BTreeMap<(Way, Loss, bool, End), u64>,
    /// Cases that did not: kind, how often, and the first seeds.
    pub faults: BTreeMap<(Way, &'static str), (u64, Vec<u64>)>,
}

impl Tally {
    /// Runs the case of a seed, and counts it.
    pub fn add(&mut self, seed: u64) -> Result<Told, (Way, Fault)> {
        let result = run(seed);
        match &result {
            Ok(told) => *self.well.entry((told.way, told.loss, told.was_cut, told.end)).or_default() += 1,
            Err((way, fault)) => {
                let (count, seeds) = self.faults.entry((*way, fault.kind)).or_default();
                *count += 1;
                if seeds.len() < 8 {
                    seeds.push(seed);
                }
            }
        }
        result
    }
}

/// The commands of a case: most often one; now and then others go before it.
fn orders(chance: &mut Sampler, origin: &Server) -> Vec<Order> {
    let warn = chance.flip();
    let order = |way, scope| Order { way, scope, warn };
    let names: Vec<String> = origin.living().map(|(name, _)| judge::relative(name)).collect();
    let some = names[chance.upto(names.len() as u32 - 1) as usize].clone().into_bytes();
    let scope = match chance.upto(5) {
        0 => Scope::Folders(vec![some.clone()]),
        1 => Scope::Subtree(some.clone()),
        _ => Scope::All,
    };
    match chance.upto(10) {
        0..=3 => vec![order(Way::Merge, scope)],
        10 => vec![order(Way::Flags, scope)],
        4 | 5 => vec![order(Way::Tree, scope)],
        6 => vec![order(Way::Exact, scope)],
        7 => vec![order(Way::Replace, scope)],
        8 => vec![order(Way::Exact, scope.clone()), order(Way::Replace, scope)],
        _ => vec![order(Way::Exact, Scope::Subtree(some)), order(Way::Replace, Scope::All)],
    }
}

/// What happens to a run: nothing, or it is cut, or told to stop.
fn trouble(chance: &mut Sampler) -> Net {
    let bytes = match chance.upto(3) {
        0 => chance.upto(400),
        1 => chance.upto(2000),
        _ => chance.upto(12_000),
    };
    let bytes = u64::from(bytes);
    let mut net = Net { lingers: chance.flip(), ..Net::default() };
    match chance.upto(4) {
        0 => {}
        1 => net.cut = Some((Lane::Down, bytes)),
        2 => net.stop = Some(bytes),
        _ => net.cut = Some((Lane::Up, bytes)),
    }
    net
}

/// What goes on in a case.
struct Play {
    chance: Sampler,
    disk: SimDisk,
    server: Shared,
    was_cut: bool,
    /// Lines for people.
    lines: Vec<String>,
}

impl Play {
    /// Runs a command again and again until it ends by itself. `None` if it was refused as a whole.
    fn carry_out(&mut self, order: &Order) -> Result<Option<Report>, Fault> {
        let cuts = self.chance.upto(2);
        let mut last = String::new();
        for n in 0..cuts + RUNS_MAX {
            let mut net = if n < cuts { trouble(&mut self.chance) } else { Net::default() };
            let planned = (net.cut, net.stop);
            let result = ways::run(&self.disk, &self.server, &mut net, order, n);
            let is_hit = match planned {
                (Some((lane, bytes)), _) => net.sent[lane as usize] > bytes,
                (_, Some(_)) => net.stop.is_none(),
                _ => false,
            };
            self.was_cut |= is_hit;
            self.lines.push(format!("{order:?}, {planned:?} {is_hit}"));
            self.lines.extend(lines(&result));
            match result {
                Ok(report) if report.ended_early.is_none() => return Ok(Some(report)),
                Ok(report) => last = report.ended_early.unwrap_or_default(),
                Err(Error::Refused(_)) if !is_hit => return Ok(None),
                Err(error) if is_hit => last = error.to_string(),
                Err(error) => return fault("an error", error.to_string()),
            }
        }
        fault("it does not end by itself", last)
    }

    /// Once more after all was there: it does nothing, and says so.
    fn again(&mut self, order: &Order) -> Result<(), Fault> {
        let filled = |server: &Server| {
            let all = server.living().map(|(name, mailbox)| (name.clone(), mailbox.counts()));
            all.filter(|(_, counts)| !counts.is_empty()).collect::<Vec<_>>()
        };
        let before = filled(&self.server.borrow());
        let result = ways::run(&self.disk, &self.server, &mut Net::default(), order, 99);
        self.lines.push(String::from("once more"));
        self.lines.extend(lines(&result));
        let report = match result {
            Ok(report) => report,
            Err(error) => return fault("once more, and it fails", error.to_string()),
        };
        if filled(&self.server.borrow()) != before || !report.is_clean() {
            return fault("once more, and it does something", format!("{report:?}"));
        }
        Ok(())
    }
}

/// What a run has told, for people.
fn lines(result: &Result<Report, Error>) -> Vec<String> {
    let report = match result {
        Ok(report) => report,
        Err(error) => return vec![format!("  {error}")],
    };
    let mut lines: Vec<String> = Vec::new();
    for folder in &report.folders {
        let (added, present, elsewhere, failed) = (folder.added, folder.present, folder.elsewhere, folder.failed);
        let why = folder.failures.first().map(|failure| failure.why.clone()).or(folder.skipped.clone()).unwrap_or_default();
        let counts = format!("{added} added, {present} present, {elsewhere} elsewhere, {failed} failed");
        lines.push(format!("  {} -> {}: {counts} {why}", folder.name, folder.target));
    }
    let more = report.notes.iter().cloned().chain(report.failures.iter().map(|failure| failure.why.clone()));
    lines.extend(more.chain(report.ended_early.clone()).map(|line| format!("  {line}")));
    lines
}

/// Runs the case of a seed: what was seen, or what is wrong, and in which way.
pub fn run(seed: u64) -> Result<Told, (Way, Fault)> {
    tell(seed).1
}

/// The same, and lines that tell what went on.
pub fn tell(seed: u64) -> (Vec<String>, Result<Told, (Way, Fault)>) {
    let mut lines = Vec::new();
    let result = go(seed, &mut lines);
    (lines, result)
}

fn go(seed: u64, lines: &mut Vec<String>) -> Result<Told, (Way, Fault)> {
    let mut chance = Sampler::new(seed);
    let origin = user::user(&mut chance);
    let (loss, before) = loss::after(&origin, &mut chance);
    let orders = orders(&mut chance, &origin);
    let way = orders.last().map_or(Way::Merge, |order| order.way);
    lines.extend(origin.lines("backed up"));
    lines.extend(before.lines(&format!("after {loss:?}")));
    let disk = origin::store(&origin).map_err(|why| (way, Fault { kind: "the backup failed", why }))?;
    let mut play = Play { chance, disk, server: Rc::new(RefCell::new(before)), was_cut: false, lines: Vec::new() };
    let mut end = End::Refused;
    for order in &orders {
        let result = one(&mut play, &origin, order);
        lines.append(&mut play.lines);
        end = result.map_err(|fault| (order.way, fault))?;
    }
    Ok(Told { loss, way, was_cut: play.was_cut, end })
}

/// Carries out one command, and judges what came of it.
fn one(play: &mut Play, origin: &Server, order: &Order) -> Result<End, Fault> {
    let before = play.server.borrow().clone();
    let report = play.carry_out(order)?;
    let after = play.server.borrow().clone();
    play.lines.extend(after.lines("now"));
    Case { origin, before: &before, after: &after, order, report: report.as_ref() }.check()?;
    let end = match &report {
        Some(report) if report.is_clean() => End::Clean,
        Some(_) => End::Partial,
        None => End::Refused,
    };
    match end {
        End::Clean if order.way != Way::Replace => play.again(order)?,
        // What lacks is told as often as it is asked for.
        End::Partial if matches!(order.way, Way::Merge | Way::Tree) => {
            let report = play.carry_out(order)?;
            let after = play.server.borrow().clone();
            Case { origin, before: &before, after: &after, order, report: report.as_ref() }.check()?;
        }
        _ => {}
    }
    Ok(end)
}
