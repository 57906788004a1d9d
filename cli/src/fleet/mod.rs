//! Many users of several servers, some at a time.
//!
//! Workers are threads; each takes a source that has users waiting and room for one more worker, connects to it, and backs up
//! users until there are none left, the time is up, or the connection is gone. A source that cannot be reached is tried again
//! after a while, and the others go on meanwhile. Users who have waited longest come first.
//!
//! What must not come in: how anything is told to people (`cmd::backup`).

pub mod ledger;
pub mod plan;
mod renamed;

use crate::exit::{self, Exit};
use crate::host::{self, Trouble};
use crate::stop;
use crate::tape;
use cylinder_core::archive::append;
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::standing::Standing;
use cylinder_core::backup::Settings;
use cylinder_core::backup::report::Report;
use cylinder_core::compact::Outcome;
use cylinder_core::compact::policy::{Policy, Retention};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Event, Io, Task};
use cylinder_core::pull::Origin;
use cylinder_core::pull::native::{Client, Greeted, connect};
use cylinder_core::pull::stock;
use cylinder_core::pull::work::{Queue, work};
use cylinder_core::source::site::Site;
use cylinder_core::store::{self, Owners, archive_dir};
use cylinder_core::time::Span;
use cylinder_core::view::{self, When};
use cylinder_core::wire::ANSWER_LINE_MAX;
use cylinder_core::wire::stream::Limits;
use cylinder_transport_local::{Config, Local};
use cylinder_transport_ssh::{Hub, Ssh};
use ledger::Ledger;
use plan::{From, Plan, Source, Whom};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may be silent while something is expected of it. The capture of a busy user waits for locks that long.
pub const STALL: Span = Span::from_secs(180);
/// The first pause before a source is tried again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Users in a row in whose midst the connection ended until the fault counts as the source's own.
const BROKEN_MAX: u32 = 16;
/// How often a worker without work looks for some.
const LOOK: Duration = Duration::from_millis(100);
/// How often the ledger is written.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Whoever is told what happens.
pub trait Watch: Sync {
    /// What came of a user.
    fn user(&self, owner: &Owner, result: &Result<Report, Error>);

    /// What came of looking whether a user's archive should be compacted.
    fn compacted(&self, owner: &Owner, result: &Result<Outcome, Error>);

    /// Something about a source that a person should know.
    fn source(&self, name: &str, text: &str);

    /// Progress of the calling thread.
    fn event(&self, event: Event);
}

/// How users are archived.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Compression level.
    pub level: u8,
    /// Inflate each member again and compare.
    pub check: bool,
    /// Threads that deflate, for each worker.
    pub threads: Option<usize>,
    /// 16 bytes of chance.
    pub chance: [u8; 16],
    /// Compact archives when that is due.
    pub compact: bool,
    /// Take over archives that are of another source.
    pub adopt: bool,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Sum {
    /// The codes of all users who were begun, and one for each source that could not be had.
    pub codes: Vec<Exit>,
    /// Sources that could not be had.
    pub sources_lost: usize,
    /// Users who were not begun: the time was up, or somebody wanted it to stop.
    pub left: u64,
    /// Users who are gone from their server, as their archives say. They were not looked at.
    pub gone: u64,
    /// Archives of sources that this run does not have, by source.
    pub elsewhere: BTreeMap<String, u64>,
}

#[derive(Default)]
struct SourceState {
    listed: bool,
    listing: bool,
    queue: VecDeque<Owner>,
    active: usize,
    failures: u32,
    not_before: Option<Instant>,
    given_up: bool,
    /// Users in whose midst the connection was lost, once.
    struck: BTreeSet<Owner>,
    /// Users whose INBOX cannot be asked for: the connection was lost over it.
    unasked: BTreeSet<Owner>,
    /// How often in a row the connection was lost in the midst of a user.
    broken: u32,
}

impl SourceState {
    /// The connection was lost in the midst of a user. False if that happens so often that the source is at fault.
    fn is_of_user(&mut self) -> bool {
        self.broken = self.broken.saturating_add(1);
        self.broken <= BROKEN_MAX
    }
}

struct State {
    sources: Vec<SourceState>,
    ledger: Ledger,
    saved: Instant,
    /// Whoever is on a source's list.
    found: BTreeSet<Owner>,
    sum: Sum,
    last_error: Option<Error>,
}

struct Fleet<'a> {
    plan: &'a Plan,
    how: How,
    hub: Option<Hub>,
    /// What is retained of whom, if archives are compacted.
    retention: Option<Retention>,
    watch: &'a dyn Watch,
    workers: usize,
    state: Mutex<State>,
}

/// What a worker is to do.
enum Pick {
    Source(usize),
    Wait,
    Nothing,
}

/// Runs a plan to its end.
pub fn run(plan: &Plan, how: How, watch: &dyn Watch) -> Result<Sum, Trouble> {
    let named = match &plan.whom {
        Whom::Named(owners) => Some(owners),
        Whom::Everybody => None,
    };
    let remote = plan.sources.iter().any(|source| matches!(source.from, From::Peer { .. }));
    let hub =
        if remote { Some(Hub::new().map_err(|e| Error::Refused(format!("no loop for connections: {e}")))?) } else { None };
    let most = plan.sources.iter().map(|source| source.jobs).sum::<usize>().min(plan.jobs);
    let workers = named.map_or(most, |owners| most.min(owners.len())).max(1);
    let sources = plan.sources.iter().map(|source| SourceState {
        listed: named.is_some(),
        queue: named.map(|owners| owners.iter().filter(|owner| source.takes(owner)).cloned().collect()).unwrap_or_default(),
        ..SourceState::default()
    });
    let ledger = if plan.ledger { Ledger::load(&plan.store) } else { Ledger::default() };
    let (sum, saved) = (Sum::default(), Instant::now());
    let sources = sources.collect();
    let state = State { sources, ledger, saved, found: BTreeSet::new(), sum, last_error: None };
    let retention =
        if how.compact { Some(crate::cmd::compact::retention(&mut host::store_driver(&plan.store, 0))?) } else { None };
    let fleet = Fleet { plan, how, hub, retention, watch, workers, state: Mutex::new(state) };
    std::thread::scope(|scope| {
        for number in 1..workers {
            let fleet = &fleet;
            scope.spawn(move || fleet.work(number));
        }
        fleet.work(0);
    });
    fleet.finish()
}

impl Fleet<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(self) -> Result<Sum, Trouble> {
        let plan = self.plan;
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if plan.ledger {
            state.ledger.save(&plan.store).map_err(|e| Error::Refused(format!("{}: last-runs: {e}", plan.store.display())))?;
        }
        state.sum.left = state.sources.iter().map(|source| source.queue.len() as u64).sum();
        // A command about one source that could not even be asked says so as its own error.
        match state.last_error {
            Some(error) if state.sum.codes.len() == 1 && plan.sources.len() == 1 && state.sum.left == 0 => Err(error.into()),
            _ => Ok(state.sum),
        }
    }

    /// True if no more users are to be begun.
    fn is_over(&self) -> bool {
        stop::is_wanted() || self.plan.window.is_some_and(|window| !window.is_open())
    }

    fn work(&self, number: usize) {
        let mut locals = BTreeMap::new();
        loop {
            match self.pick(number) {
                Pick::Source(at) => self.take_up(at, &mut locals),
                Pick::Wait => std::thread::sleep(LOOK),
                Pick::Nothing => return,
            }
        }
    }

    fn pick(&self, number: usize) -> Pick {
        if self.is_over() {
            return Pick::Nothing;
        }
        let mut state = self.state();
        let (count, now) = (state.sources.len(), Instant::now());
        let mut wait = false;
        for at in (0..count).map(|n| (n + number) % count) {
            let jobs = self.plan.sources[at].jobs;
            let source = &mut state.sources[at];
            if source.given_up || (source.listed && source.queue.is_empty()) {
                // Workers on it may put users back.
                wait |= source.active > 0 && !source.given_up;
                continue;
            }
            let ready = source.not_before.is_none_or(|at| at <= now);
            if ready && !source.listing && source.active < jobs {
                source.listing = !source.listed;
                source.active += 1;
                return Pick::Source(at);
            }
            wait = true;
        }
        if wait { Pick::Wait } else { Pick::Nothing }
    }

    /// Works on one source until it has no more users, or is gone.
    fn take_up(&self, at: usize, locals: &mut BTreeMap<usize, (Local, Site)>) {
        let source = &self.plan.sources[at];
        let mut queue = Users { fleet: self, at, source, did: false, of_user: false, code: 0 };
        let result = match &source.from {
            From::Local(host) => self.local(host, &mut queue, locals),
            From::Peer { name, ssh } => self.remote(name, ssh, &mut queue),
        };
        let (did, of_user) = (queue.did, queue.of_user);
        let mut state = self.state();
        let its = &mut state.sources[at];
        its.active -= 1;
        its.listing = false;
        match result {
            Ok(()) => its.failures = 0,
            Err(_) if self.is_over() => {}
            // It was told of the user, and the source answers.
            Err(_) if of_user => its.failures = 0,
            Err(error) => {
                its.failures = if did { 1 } else { its.failures + 1 };
                self.failed(&mut state, at, error);
            }
        }
    }

    /// A source could not be reached, or was lost.
    fn failed(&self, state: &mut State, at: usize, error: Error) {
        let name = &self.plan.sources[at].name;
        let its = &mut state.sources[at];
        let (lost, text) = match &error {
            // The source's own name stands before it already.
            Error::Peer { why, .. } => (true, why.clone()),
            other => (false, other.to_string()),
        };
        if lost && its.failures <= self.plan.retries {
            let pause = PAUSE.0.saturating_mul(1 << (its.failures - 1).min(10)).min(PAUSE.1);
            its.not_before = Some(Instant::now() + pause);
            self.watch.source(name, &format!("{text}; trying again in {} s", pause.as_secs()));
            return;
        }
        if its.given_up {
            return;
        }
        its.given_up = true;
        let left = std::mem::take(&mut its.queue);
        // The command's own error, and nothing else to say about it.
        let whole = self.plan.sources.len() == 1 && left.is_empty() && state.sum.codes.is_empty();
        let users = if left.is_empty() { String::new() } else { format!("; {} not backed up", left.len()) };
        if !whole {
            self.watch.source(name, &format!("given up: {text}{users}"));
        }
        state.sum.sources_lost += 1;
        state.sum.codes.push(Exit::of(&error));
        state.sum.codes.extend(left.iter().map(|_| Exit::Failed));
        state.last_error = Some(error);
    }

    fn archive_settings(&self) -> append::Settings {
        append::Settings {
            level: self.how.level,
            check: self.how.check,
            ahead: self.threads() + 1,
            checkpoint_bytes: append::Settings::CHECKPOINT_BYTES,
            software: String::from(crate::cmd::version::SOFTWARE),
        }
    }

    fn threads(&self) -> usize {
        self.how.threads.unwrap_or_else(|| (host::threads(None) / self.workers).max(1))
    }

    fn local(
        &self,
        host: &host::HostOptions,
        queue: &mut Users<'_>,
        locals: &mut BTreeMap<usize, (Local, Site)>,
    ) -> Result<(), Error> {
        if let std::collections::btree_map::Entry::Vacant(entry) = locals.entry(queue.at) {
            entry.insert(host.open(&self.plan.store, self.threads()).map_err(|trouble| match trouble {
                Trouble::Core(error) => error,
                other => Error::Refused(format!("{other:?}")),
            })?);
        }
        let Some((driver, site)) = locals.get_mut(&queue.at) else { return Ok(()) };
        let procedure = |io: Io| async move {
            if queue.must_list() {
                let owners = site.owners(&io).await?;
                queue.listed(&io, &mut Origin::Local(site), owners).await?;
            }
            work(&io, &mut Origin::Local(site), queue).await
        };
        let task = Task::new(driver.begin(), procedure);
        driver.run(task, &mut |event| self.watch.event(event))
    }

    fn remote(&self, peer: &str, ssh: &Ssh, queue: &mut Users<'_>) -> Result<(), Error> {
        let Some(hub) = &self.hub else { return Ok(()) };
        let (store, threads) = (self.plan.store.clone(), self.threads());
        let config = Config { store, threads, stop: Some(stop::flag()), tape: tape::current(), ..Config::default() };
        let mut driver = Local::new(config).with_connections(Box::new(hub.streams(ssh.clone())));
        let bytes_per_second = queue.source.bandwidth / queue.source.jobs as u64;
        let limits = Limits { line: ANSWER_LINE_MAX, stall: STALL, bytes_per_second };
        let procedure = |io: Io| async move {
            match connect(&io, peer, limits).await? {
                Greeted::Native(mut client) => {
                    let result = pull(&io, &mut client, queue).await;
                    client.close().await;
                    result
                }
                Greeted::Stock(stream, name) => {
                    let mut client = stock::Client::new(*stream, &name)?;
                    let result = pull_stock(&io, &mut client, queue).await;
                    client.close().await;
                    result
                }
            }
        };
        let task = Task::new(driver.begin(), procedure);
        driver.run(task, &mut |event| self.watch.event(event))
    }

    /// True if an archive is of this source. One that knows none is of the only source that there is. Archives of sources that
    /// this run does not have are counted by the first source.
    fn is_of(&self, standing: &Standing, at: usize) -> bool {
        let Some(home) = &standing.home else { return self.plan.sources.len() == 1 };
        if at == 0 && !self.plan.sources.iter().any(|source| source.name == *home) {
            *self.state().sum.elsewhere.entry(home.clone()).or_default() += 1;
        }
        *home == self.plan.sources[at].name
    }

    /// Whoever has an archive and is on no source's list: their servers have lost them, which must not go unnoticed.
    /// With each, whether the archive says that the user is gone, and no alarm stands.
    async fn vanished(&self, io: &Io, at: usize) -> Result<Vec<(Owner, bool)>, Error> {
        let found = self.state().found.clone();
        let mut vanished = Vec::new();
        let Owners { owners, lost } = store::owners(io).await?;
        exit::parts_are_lost(&lost);
        for owner in owners {
            if found.contains(&owner) {
                continue;
            }
            let standing = standing_of(io, &owner).await;
            if !self.is_of(&standing, at) || !self.plan.sources[at].takes(&owner) {
                continue;
            }
            vanished.push((owner, standing.gone.is_some() && standing.alarms.is_empty()));
        }
        Ok(vanished)
    }
}

async fn pull(io: &Io, client: &mut Client, queue: &mut Users<'_>) -> Result<(), Error> {
    if queue.must_list() {
        let owners = client.owners().await?;
        queue.listed(io, &mut Origin::Native(client), owners).await?;
    }
    work(io, &mut Origin::Native(client), queue).await
}

/// The same from a `backupcyrusd`.
async fn pull_stock(io: &Io, client: &mut stock::Client, queue: &mut Users<'_>) -> Result<(), Error> {
    if queue.must_list() {
        let owners = client.owners().await?;
        queue.listed(io, &mut Origin::Stock(client), owners).await?;
    }
    work(io, &mut Origin::Stock(client), queue).await
}

/// What holds of an archive; nothing of one that cannot be read, which its own run tells.
async fn standing_of(io: &Io, owner: &Owner) -> Standing {
    let Ok(dir) = archive_dir(owner) else { return Standing::default() };
    let Ok(reader) = Reader::open(io, &dir).await else { return Standing::default() };
    let mut standing = reader.head().commit.standing.clone();
    if standing.home.is_none()
        && let Ok(newest) = view::snapshot(&reader, When::Newest).await
    {
        // Earlier versions wrote it into snapshots alone.
        standing.settle(&newest.commit.source);
    }
    reader.close().await;
    standing
}

/// The users of one source, as one worker sees them.
struct Users<'a> {
    fleet: &'a Fleet<'a>,
    at: usize,
    source: &'a Source,
    /// A user was done on this connection.
    did: bool,
    /// The connection was lost over one user, who was told of or is left out.
    of_user: bool,
    /// Where the code stands of the user who was done last.
    code: usize,
}

impl Users<'_> {
    /// True if this worker is the one that asks whom the source has.
    fn must_list(&self) -> bool {
        !self.fleet.state().sources[self.at].listed
    }

    /// Puts whoever is to be backed up into the queue, those first who have waited longest.
    async fn listed(&mut self, io: &Io, origin: &mut Origin<'_>, owners: Vec<Owner>) -> Result<(), Error> {
        let owners: Vec<Owner> = owners.into_iter().filter(|owner| self.source.takes(owner)).collect();
        self.fleet.state().found.extend(owners.iter().cloned());
        let mut vanished = self.fleet.vanished(io, self.at).await?;
        let result = self.fleet.renamed(io, origin, self.at, &owners, &mut vanished).await;
        if let Err(error) = result {
            // Whoever it was is not asked again; the others are, over a new connection.
            let mut state = self.fleet.state();
            self.of_user = matches!(error, Error::Peer { .. }) && state.sources[self.at].is_of_user();
            return Err(error);
        }
        let mut all = owners;
        let mut state = self.fleet.state();
        state.sum.gone += vanished.iter().filter(|(_, is_gone)| *is_gone).count() as u64;
        all.extend(vanished.into_iter().filter(|(_, is_gone)| !is_gone).map(|(owner, _)| owner));
        all.sort_by_cached_key(|owner| (state.ledger.last(&owner.shown()), owner.clone()));
        let its = &mut state.sources[self.at];
        its.queue = all.into();
        (its.listed, its.listing) = (true, false);
        Ok(())
    }
}

impl Queue for Users<'_> {
    fn is_over(&self) -> bool {
        self.fleet.is_over()
    }

    fn next(&mut self) -> Option<(Owner, Settings)> {
        if self.is_over() {
            return None;
        }
        let mut state = self.fleet.state();
        let owner = state.sources[self.at].queue.pop_front()?;
        // It tells archives of one user apart; it comes from the chance of this run.
        let named = Guid::of(&[&self.fleet.how.chance[..], owner.shown().as_bytes()].concat());
        let archive_id = std::array::from_fn(|n| named.0[n]);
        let how = self.fleet.how;
        let settings = Settings {
            archive: self.fleet.archive_settings(),
            source: self.source.name.clone(),
            adopt: how.adopt,
            archive_id,
            read_rate: self.source.read_rate / self.source.jobs as u64,
        };
        Some((owner, settings))
    }

    fn done(&mut self, owner: &Owner, result: Result<Report, Error>) {
        let mut state = self.fleet.state();
        let lost = matches!(result, Err(Error::Peer { .. }));
        let (its, retries) = (&mut state.sources[self.at], self.fleet.plan.retries);
        let is_of_user = lost && its.is_of_user();
        // Once it may have been the connection; twice it may be the user, who must not keep the others waiting.
        if lost && retries > 0 && its.struck.insert(owner.clone()) {
            its.queue.push_front(owner.clone());
            self.did |= is_of_user;
            return;
        }
        if !lost {
            its.broken = 0;
        }
        (self.did, self.of_user) = (self.did || !lost, is_of_user);
        self.code = state.sum.codes.len();
        state.sum.codes.push(match &result {
            Ok(report) => Exit::of_report(report),
            Err(error) => Exit::of(error),
        });
        if result.is_ok() {
            state.ledger.done(&owner.shown());
            if self.fleet.plan.ledger && state.saved.elapsed() > SAVE_EVERY {
                state.saved = Instant::now();
                // It is written again at the end, and then it matters if it cannot be.
                let _ = state.ledger.save(&self.fleet.plan.store);
            }
        }
        drop(state);
        self.fleet.watch.user(owner, &result);
    }

    fn policy(&self, owner: &Owner) -> Option<Policy> {
        Some(self.fleet.retention.as_ref()?.policy(owner.shown().as_bytes()))
    }

    fn compacted(&mut self, owner: &Owner, result: Result<Outcome, Error>) {
        let code = crate::cmd::compact::code(&result);
        // A user counts once, and what came of the backup comes first.
        if let Some(of_user) = self.fleet.state().sum.codes.get_mut(self.code).filter(|of_user| **of_user == Exit::Ok) {
            *of_user = code;
        }
        self.fleet.watch.compacted(owner, &result);
    }

    fn put_back(&mut self, owner: Owner) {
        self.fleet.state().sources[self.at].queue.push_front(owner);
    }
}
