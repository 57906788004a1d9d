//! Threads that deflate and inflate. They know no files and no machine: an operation goes in, its result comes out.

use crate::codec::Fastest;
use cylinder_core::archive::member::{seal, unseal};
use cylinder_core::error::Fault;
use cylinder_core::io::{Op, OpId, Reply};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// An operation whose data are smaller than this is done where it is asked for: a thread would take longer to wake up.
const SMALL: usize = 48 << 10;

/// True if an operation needs nothing but a processor, and enough of it to be handed to a thread.
pub fn is_large(op: &Op) -> bool {
    match op {
        Op::Seal { raw, .. } => raw.len() >= SMALL,
        Op::Unseal { member, .. } => member.len() >= SMALL,
        _ => false,
    }
}

/// A codec, and a buffer for checking what it does.
#[derive(Default)]
pub struct Tools {
    codec: Fastest,
    again: Vec<u8>,
}

/// Does a pure operation. [`Fault::Driver`] for any other.
pub fn run(tools: &mut Tools, op: Op) -> Result<Reply, Fault> {
    let Tools { codec, again } = tools;
    match op {
        Op::Seal { kind, flags, mut raw, level, check, buffer: mut member } => {
            seal(codec, kind, flags, &raw, level, check.then_some(again), &mut member)?;
            raw.clear();
            Ok(Reply::Sealed { member, raw })
        }
        Op::Unseal { mut member, buffer: mut raw } => {
            let info = unseal(codec, &member, &mut raw)?;
            member.clear();
            Ok(Reply::Unsealed { info, raw, member })
        }
        _ => Err(Fault::Driver),
    }
}

/// Is called once with the result of an operation, from any thread.
pub type Answer = Box<dyn FnOnce(Result<Reply, Fault>) + Send>;

type Job = (OpId, Op);
/// What came of an operation that was done elsewhere than on the calling thread.
pub struct Ended {
    /// The run that asked for it: what comes after its end is dropped.
    run: u32,
    /// One of a connection's.
    remote: bool,
    id: OpId,
    result: Result<Reply, Fault>,
}

/// A bounded number of threads, started when there is work for them. Dropping it waits for them.
pub struct Workers {
    max: usize,
    threads: Vec<JoinHandle<()>>,
    /// None only while dropping.
    jobs: Option<Sender<(u32, OpId, Op)>>,
    todo: Arc<Mutex<Receiver<(u32, OpId, Op)>>>,
    done: Sender<Ended>,
    results: Receiver<Ended>,
    under_way: usize,
    remote: usize,
    run: u32,
}

impl Workers {
    /// At most `max` threads; none yet.
    pub fn new(max: usize) -> Workers {
        let (jobs, todo) = channel();
        let (done, results) = channel();
        let todo = Arc::new(Mutex::new(todo));
        Workers { max, threads: Vec::new(), jobs: Some(jobs), todo, done, results, under_way: 0, remote: 0, run: 0 }
    }

    /// Gives a pure operation to a thread; back if there are none and none can be started.
    pub fn submit(&mut self, id: OpId, op: Op) -> Option<Job> {
        if self.under_way >= self.threads.len() && self.threads.len() < self.max {
            self.start_thread();
        }
        let Some(jobs) = self.jobs.as_ref().filter(|_| !self.threads.is_empty()) else { return Some((id, op)) };
        match jobs.send((self.run, id, op)) {
            Ok(()) => self.under_way += 1,
            Err(unsent) => return Some((unsent.0.1, unsent.0.2)),
        }
        None
    }

    fn start_thread(&mut self) {
        let (todo, done) = (self.todo.clone(), self.done.clone());
        // Without the thread the others do the work, or the caller does.
        if let Ok(thread) = std::thread::Builder::new().name("cylinder-codec".into()).spawn(move || work(&todo, &done)) {
            self.threads.push(thread);
        }
    }

    /// Takes note of an operation of a connection, and gives what is to be called with its result.
    pub fn remote(&mut self, id: OpId) -> Answer {
        self.remote += 1;
        let (done, run) = (self.done.clone(), self.run);
        Box::new(move |result| drop(done.send(Ended { run, remote: true, id, result })))
    }

    /// True if a result is to come.
    pub fn is_busy(&self) -> bool {
        self.under_way + self.remote > 0
    }

    fn take(&mut self, ended: Ended) -> Option<(OpId, Result<Reply, Fault>)> {
        if ended.run != self.run {
            return None;
        }
        if ended.remote {
            self.remote -= 1;
        } else {
            self.under_way -= 1;
        }
        Some((ended.id, ended.result))
    }

    /// A result that is there already.
    pub fn ready(&mut self) -> Option<(OpId, Result<Reply, Fault>)> {
        while let Ok(ended) = self.results.try_recv() {
            if let Some(ended) = self.take(ended) {
                return Some(ended);
            }
        }
        None
    }

    /// The next result, if it comes before `timeout` has passed.
    pub fn wait(&mut self, timeout: Duration) -> Option<(OpId, Result<Reply, Fault>)> {
        let ended = self.results.recv_timeout(timeout).ok()?;
        self.take(ended)
    }

    /// Waits for what threads are doing, and forgets it and whatever else is to come.
    pub fn settle(&mut self) {
        while self.under_way > 0
            && let Ok(ended) = self.results.recv()
        {
            self.take(ended);
        }
        self.remote = 0;
        self.run += 1;
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(todo: &Mutex<Receiver<(u32, OpId, Op)>>, done: &Sender<Ended>) {
    let mut tools = Tools::default();
    loop {
        // The guard must not outlive this line, or only one thread would work.
        let job = todo.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((run_number, id, op)) = job else { return };
        // A panic is a bug, but one result that never comes would be a run that never ends.
        let result = catch_unwind(AssertUnwindSafe(|| run(&mut tools, op))).unwrap_or(Err(Fault::Driver));
        if done.send(Ended { run: run_number, remote: false, id, result }).is_err() {
            return;
        }
    }
}
