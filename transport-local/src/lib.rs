//! Runs the operations of the core on this host: files, locks, a few threads.
//!
//! [`Local::run`] is the loop of the contract in [`cylinder_core::io`]: it takes out what a machine asks for, does it, reports
//! one result, and goes on. Deflating and inflating is done by up to [`Config::threads`] threads; everything else on the
//! calling thread, in the order in which it was asked for. Nothing here decides anything. Users are backed up in parallel by
//! one [`Local`] each in threads of their own; they share nothing.
//!
//! To record or to count what passes, put a [`Machine`] around the machine: it sees every operation go out and every result
//! come in.
//!
//! Operations on streams are handed to a [`Connections`], and other operations go on while one of them waits.
//!
//! Invariants: nothing is written to the host's tree but lock files that Cyrus would have created itself, with its owner; no
//! operation here waits for a lock, for a pipe or for another host; no name service is asked. What must not come in: formats,
//! and knowing what for.

mod clock;
pub mod codec;
mod dirs;
mod exec;
mod fault;
mod files;
mod locks;
mod roots;
mod tape;
mod target;
mod users;
mod workers;

pub use tape::{Replayed, Tape};
pub use users::{become_user, owner_in_store, owner_of};
pub use workers::Answer;

use cylinder_core::error::Fault;
use cylinder_core::io::{Event, Input, Machine, Op, OpId, Output, Reply};
use cylinder_core::time::Time;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The longest sleep in one piece. An early tick is harmless, and a clock that was set must not lengthen a wait by hours.
const NAP: Duration = Duration::from_secs(1);

/// Where things are on this host, and what it may spend.
#[derive(Clone, Default)]
pub struct Config {
    /// Put before every path of the host: a mounted copy of a mail server's tree. None for this host's own tree.
    pub root: Option<PathBuf>,
    /// The directory that holds the archives. It must exist: a store that is not mounted must not be made anew in its mount
    /// point.
    pub store: PathBuf,
    /// The directory that is restored into. None: nothing is.
    pub target: Option<PathBuf>,
    /// Directories below the target, without a slash at either end, on the way to which symbolic links are followed, as a
    /// chroot into the target would.
    pub trusted: Vec<Vec<u8>>,
    /// User and group of the lock files that are created; see [`owner_of`]. None: those of the nearest directory that exists.
    pub cyrus_owner: Option<(u32, u32)>,
    /// Threads that deflate and inflate. 0: the calling thread does it.
    pub threads: usize,
    /// Set by whoever wants machines to end soon.
    pub stop: Option<Arc<AtomicBool>>,
    /// Runs are recorded on this, or run again from it.
    pub tape: Option<Arc<Tape>>,
}

/// Whatever carries out the operations on streams. Results may come at any time and from any thread.
pub trait Connections: Send {
    /// Does [`Op::Connect`], [`Op::Send`], [`Op::Receive`], [`Op::Secure`], [`Op::Complaint`] or [`Op::Shut`], and calls
    /// `answer` with what came of it.
    fn submit(&mut self, op: Op, answer: Answer);

    /// Closes what a machine has left open.
    fn close_all(&mut self);
}

/// A driver for this host. May be used for one task after the other.
pub struct Local {
    exec: exec::Exec,
    workers: workers::Workers,
    connections: Option<Box<dyn Connections>>,
    stop: Option<Arc<AtomicBool>>,
    tape: Option<Arc<Tape>>,
}

type Queue = VecDeque<(OpId, Op)>;

/// What a machine left when it was drained.
enum Drained<T> {
    Finished(T),
    Waits(Option<Time>),
}

impl Local {
    /// Nothing is opened and no thread is started before a machine asks for it.
    pub fn new(config: Config) -> Local {
        let Config { root, store, target, trusted, cyrus_owner, threads, stop, tape } = config;
        let owner = cyrus_owner.map(|(uid, gid)| users::Owner { uid, gid });
        let (roots, target) = (roots::Roots::new(root, store), target::Target::new(target, trusted));
        let (exec, workers) = (exec::Exec::new(roots, target, owner), workers::Workers::new(threads));
        Local { exec, workers, connections: None, stop, tape }
    }

    /// The same with connections to other hosts.
    pub fn with_connections(self, connections: Box<dyn Connections>) -> Local {
        Local { connections: Some(connections), ..self }
    }

    /// The time of day, to start a task with.
    pub fn now() -> Time {
        clock::now()
    }

    /// The time to start a task of this driver with: the time of day, or that of a recording.
    pub fn begin(&self) -> Time {
        self.tape.as_ref().map_or_else(clock::now, |tape| tape.begin(clock::now()))
    }

    /// Runs a machine to its end and gives what it yields. Files that it left open are closed, and their locks dropped.
    ///
    /// # Panics
    ///
    /// If the machine waits for nothing at all, which would be for ever: a bug of the machine.
    pub fn run<M: Machine>(&mut self, machine: M, on_event: &mut dyn FnMut(Event)) -> M::Outcome {
        match self.tape.clone() {
            None => self.run_here(machine, on_event),
            Some(tape) if tape.is_replay() => tape::replay(&tape, machine, on_event),
            Some(tape) => self.run_here(tape::Recorded { machine, tape: &tape }, on_event),
        }
    }

    fn run_here<M: Machine>(&mut self, mut machine: M, on_event: &mut dyn FnMut(Event)) -> M::Outcome {
        let mut queue = Queue::new();
        let mut told = false;
        let outcome = loop {
            if !told && self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                told = true;
                machine.handle_input(clock::now(), Input::Stop);
            }
            match self.drain(&mut machine, &mut queue, on_event) {
                Drained::Finished(outcome) => break outcome,
                Drained::Waits(until) => {
                    let input = self.next_input(&mut queue, until);
                    machine.handle_input(clock::now(), input);
                }
            }
        };
        // Asked for is asked for, even if nobody waits for the result.
        for (_, op) in queue {
            let _ = self.exec.run(op);
        }
        if let Some(connections) = &mut self.connections {
            connections.close_all();
        }
        self.workers.settle();
        self.exec.close_all();
        outcome
    }

    /// Takes out all that the machine asks for; hands on what a thread can do and queues the rest.
    fn drain<M: Machine>(
        &mut self,
        machine: &mut M,
        queue: &mut Queue,
        on_event: &mut dyn FnMut(Event),
    ) -> Drained<M::Outcome> {
        loop {
            match machine.poll_output() {
                Output::Op(id, op) if workers::is_large(&op) => queue.extend(self.workers.submit(id, op)),
                Output::Op(id, op) => match &mut self.connections {
                    Some(connections) if is_of_stream(&op) => connections.submit(op, self.workers.remote(id)),
                    _ => queue.push_back((id, op)),
                },
                Output::Event(event) => on_event(event),
                Output::Wait { until } => return Drained::Waits(until),
                Output::Finished(outcome) => return Drained::Finished(outcome),
            }
        }
    }

    /// The next thing to report: what a thread has ended, else what is queued, else whatever comes first.
    fn next_input(&mut self, queue: &mut Queue, until: Option<Time>) -> Input {
        if let Some((id, result)) = self.workers.ready() {
            return Input::Done(id, result);
        }
        if let Some((id, op)) = queue.pop_front() {
            return Input::Done(id, self.exec.run(op));
        }
        if self.workers.is_busy() {
            // Somebody may want it to stop meanwhile.
            return self.workers.wait(nap(until).min(NAP)).map_or(Input::Tick, done);
        }
        assert!(until.is_some(), "the machine waits for nothing: a bug of the machine");
        std::thread::sleep(nap(until));
        Input::Tick
    }
}

fn is_of_stream(op: &Op) -> bool {
    matches!(op, Op::Connect(_) | Op::Send { .. } | Op::Receive { .. } | Op::Secure(_) | Op::Complaint(_) | Op::Shut(_))
}

fn done((id, result): (OpId, Result<Reply, Fault>)) -> Input {
    Input::Done(id, result)
}

/// How long to sleep at most before `until`.
fn nap(until: Option<Time>) -> Duration {
    let left = |until: Time| Duration::from_nanos(until.since(clock::now()).0.max(0) as u64);
    until.map_or(Duration::MAX, |until| left(until).min(NAP))
}
