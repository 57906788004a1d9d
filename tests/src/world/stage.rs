//! Procedures side by side: on one disk or on several, joined by a stream or not, with trouble between their operations.
//!
//! [`play`] does one operation after the other. Before each of them the caller may do anything: change the host, set a clock,
//! kill somebody, take the power away. Nothing here knows what a backup is.

use crate::choose::{Choose, Sampler};
use crate::disk::{SimDisk, Trouble};
use cylinder_core::error::Fault;
use cylinder_core::io::{FileId, How, Input, Io, Machine, Op, OpId, Output, Reply, StreamId, Task};
use cylinder_core::time::{Span, Time};
use std::collections::{BTreeSet, VecDeque};
use std::future::Future;

/// Operations that one run may do before it counts as one that never ends. To receive is none of them: mail may come byte by
/// byte, and there is no more to receive than operations have sent.
const OPS_MAX: usize = 400_000;
/// The time that one run may take: each of its waits has a deadline of a minute.
const TIME_MAX: Span = Span::from_secs(3600);

/// A procedure under way, on one of the disks.
pub struct Actor<T> {
    /// The number of its disk.
    pub disk: usize,
    task: Task<'static, T>,
    ops: VecDeque<(OpId, Op)>,
    receives: VecDeque<(OpId, Op)>,
    until: Option<Time>,
    files: BTreeSet<FileId>,
    /// 0 for the end that connects, 1 for the other; `None` without a stream.
    end: Option<usize>,
    /// What it ended with.
    pub outcome: Option<T>,
    /// Killed: it does nothing any more.
    pub is_dead: bool,
    done: u32,
    writes: u32,
}

impl<T> Actor<T> {
    /// A procedure that has not begun.
    pub fn new<F: Future<Output = T> + 'static>(
        disks: &[SimDisk],
        disk: usize,
        end: Option<usize>,
        make: impl FnOnce(Io) -> F,
    ) -> Actor<T> {
        let task = Task::new(disks[disk].now(), make);
        let (ops, receives, files) = (VecDeque::new(), VecDeque::new(), BTreeSet::new());
        Actor { disk, task, ops, receives, until: None, files, end, outcome: None, is_dead: false, done: 0, writes: 0 }
    }

    fn is_over(&self) -> bool {
        self.is_dead || self.outcome.is_some()
    }

    /// Polls until it waits or has ended.
    fn drain(&mut self) {
        while !self.is_over() {
            match self.task.poll_output() {
                Output::Op(id, op @ Op::Receive { .. }) => self.receives.push_back((id, op)),
                Output::Op(id, op) => self.ops.push_back((id, op)),
                Output::Event(_) => {}
                Output::Wait { until } => {
                    self.until = until;
                    return;
                }
                Output::Finished(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    fn answer(&mut self, now: Time, id: OpId, reply: Result<Reply, Fault>) {
        if let Ok(Reply::File(file)) = &reply {
            self.files.insert(*file);
        }
        self.done += 1;
        self.task.handle_input(now, Input::Done(id, reply));
    }

    /// Ends the process: its files are closed, its end of the stream too.
    fn kill(&mut self, disks: &mut [SimDisk], lanes: &mut [Lane; 2]) {
        if self.is_over() {
            return;
        }
        self.is_dead = true;
        disks[self.disk].close_all(std::mem::take(&mut self.files));
        if self.end.is_some() {
            lanes.iter_mut().for_each(|lane| lane.ended = true);
        }
    }
}

/// What the stream between two actors does. The first number of a pair is the direction: 0 from the end that connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wire {
    /// Most bytes that are received at once. 0: as many as are there.
    pub piece: usize,
    /// How long bytes are on their way.
    pub delay: Span,
    /// The connection ends after so many bytes in this direction.
    pub cut: Option<(usize, u64)>,
    /// After so many bytes in this direction nothing comes any more, and nothing says so.
    pub stall: Option<(usize, u64)>,
    /// After so many bytes in this direction it is closed, and the other stays open.
    pub half: Option<(usize, u64)>,
    /// One bit of this byte in this direction is another one: the peer says what is not so.
    pub flip: Option<(usize, u64)>,
}

/// One direction of the stream.
#[derive(Default)]
struct Lane {
    bytes: VecDeque<u8>,
    sent: u64,
    arrives: Time,
    ended: bool,
}

impl Wire {
    /// What is left of a limit in this direction.
    fn left(limit: Option<(usize, u64)>, way: usize, sent: u64) -> u64 {
        limit.filter(|(w, _)| *w == way).map_or(u64::MAX, |(_, at)| at.saturating_sub(sent))
    }

    fn send(&self, lanes: &mut [Lane; 2], way: usize, mut data: Vec<u8>, now: Time, hits: &mut Hits) -> Result<Reply, Fault> {
        if lanes[way].ended {
            return Err(Fault::Gone);
        }
        let sent = lanes[way].sent;
        let [cut, stall, half, flip] = [self.cut, self.stall, self.half, self.flip].map(|limit| Wire::left(limit, way, sent));
        if flip < data.len() as u64 && self.flip.is_some_and(|(_, at)| at >= sent) {
            data[flip as usize] ^= 1 << (flip % 7);
            hits.flips += 1;
        }
        let passes = (data.len() as u64).min(cut).min(stall).min(half) as usize;
        lanes[way].bytes.extend(&data[..passes]);
        lanes[way].arrives = now.plus(self.delay);
        lanes[way].sent += data.len() as u64;
        let len = data.len() as u64;
        if cut < len {
            lanes.iter_mut().for_each(|lane| lane.ended = true);
            hits.cuts += 1;
        } else if half < len {
            lanes[way].ended = true;
            hits.halves += 1;
        } else if stall < len {
            hits.stalls += 1;
        }
        data.clear();
        Ok(Reply::Bytes(data))
    }
}

/// Trouble that came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hits {
    /// Connections that were cut,
    pub cuts: u64,
    /// that fell silent,
    pub stalls: u64,
    /// that were closed in one direction,
    pub halves: u64,
    /// in which a bit was another one.
    pub flips: u64,
}

/// What is done instead of an operation, or before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// The operation goes wrong.
    Trouble(Trouble),
    /// A reply to a read has one bit that is another one, of this number.
    Flip(u64),
    /// The actor of this number is killed.
    Kill(usize),
    /// All actors on this disk are gone, and everything ends. What is left of the disk is the caller's to say.
    Stop(usize),
}

/// How a play ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Curtain {
    /// Everybody has ended, or waits for somebody who was killed.
    Down,
    /// The machine with this disk stopped at this operation of the first actor.
    Stopped(usize, String),
    /// An actor waits for nothing, or for ever.
    Stuck(String),
}

/// The world between operations, as the caller sees it.
pub struct Between<'a> {
    /// The disks.
    pub disks: &'a mut [SimDisk],
    /// How many operations the first actor has done,
    pub done: u32,
    /// and how many that write to a store.
    pub writes: u32,
    /// Whose turn it is,
    pub who: usize,
    /// and what he does next.
    pub next: &'a Op,
}

/// What a play came to.
pub struct Played {
    /// How it ended.
    pub curtain: Curtain,
    /// What the stream did.
    pub hits: Hits,
    /// Operations of all actors.
    pub ops: u64,
}

/// Who comes next.
pub enum Order {
    /// Each in its turn.
    Turns,
    /// By chance.
    Chance(Sampler),
    /// By chance, and for how many operations, too: one may be done when another has hardly begun.
    Spells {
        /// Whence all is chosen.
        chance: Sampler,
        /// Who is on.
        who: usize,
        /// For how many operations yet.
        left: u32,
    },
}

impl Order {
    /// Of several who are at work on the same thing.
    pub fn of(seed: u64) -> Order {
        let chance = Sampler::new(seed);
        if seed & 1 == 0 { Order::Chance(chance) } else { Order::Spells { chance, who: 0, left: 0 } }
    }

    fn next(&mut self, turn: usize, count: usize) -> usize {
        match self {
            Order::Turns => turn % count,
            Order::Chance(chance) => chance.upto(count as u32 - 1) as usize,
            Order::Spells { chance, who, left } => {
                if *left == 0 {
                    *who = chance.upto(count as u32 - 1) as usize;
                    *left = 1 << chance.upto(8);
                }
                *left -= 1;
                *who
            }
        }
    }
}

struct Stage<'a, T> {
    disks: &'a mut [SimDisk],
    actors: &'a mut [Actor<T>],
    wire: Wire,
    lanes: [Lane; 2],
    hits: Hits,
    ops: u64,
    /// Receives that were answered.
    received: usize,
    /// Time since the beginning, whatever is done to clocks.
    elapsed: Time,
}

/// Plays until the first actor and all without a stream have ended. Time passes on all disks alike, whatever their clocks
/// show.
pub fn play<T>(
    disks: &mut [SimDisk],
    actors: &mut [Actor<T>],
    wire: Wire,
    mut order: Order,
    between: &mut dyn FnMut(Between<'_>) -> Option<Act>,
) -> Played {
    let mut stage = Stage {
        disks,
        actors,
        wire,
        lanes: Default::default(),
        hits: Hits::default(),
        ops: 0,
        received: 0,
        elapsed: Time::ZERO,
    };
    let curtain = stage.go_on(&mut order, between);
    // Whoever is still there is ended by those who started him.
    let Stage { disks, actors, lanes, .. } = &mut stage;
    actors.iter_mut().for_each(|actor| actor.kill(disks, lanes));
    Played { curtain, hits: stage.hits, ops: stage.ops }
}

impl<T> Stage<'_, T> {
    fn go_on(&mut self, order: &mut Order, between: &mut dyn FnMut(Between<'_>) -> Option<Act>) -> Curtain {
        let mut turns = 0..;
        while let Some(turn) = turns.next().filter(|turn| *turn < OPS_MAX + self.received) {
            if self.is_down() {
                return Curtain::Down;
            }
            let count = self.actors.len();
            let first = order.next(turn, count);
            let mut did = false;
            for n in (first..count).chain(0..first) {
                match self.step(n, between) {
                    Ok(true) => {
                        did = true;
                        break;
                    }
                    Ok(false) => {}
                    Err(curtain) => return curtain,
                }
            }
            // Somebody may have ended without doing anything more.
            if !did
                && !self.is_down()
                && let Err(curtain) = self.wait()
            {
                return curtain;
            }
            if self.elapsed > Time(TIME_MAX.0) {
                return Curtain::Stuck(format!("after {} s of its time the run has not ended", TIME_MAX.ms() / 1000));
            }
        }
        Curtain::Stuck(format!("after {OPS_MAX} steps the run has not ended"))
    }

    fn is_down(&self) -> bool {
        self.actors.iter().all(|actor| actor.is_over() || actor.end == Some(1))
    }

    /// Lets time pass on all disks but the one on which it has passed.
    fn pass(&mut self, span: Span, but: Option<usize>) {
        self.elapsed = self.elapsed.plus(span);
        for (n, disk) in self.disks.iter_mut().enumerate() {
            if Some(n) != but {
                disk.set_clock(disk.now().plus(span));
            }
        }
    }

    /// Lets one actor do one thing. False if there is nothing that it can do now.
    fn step(&mut self, n: usize, between: &mut dyn FnMut(Between<'_>) -> Option<Act>) -> Result<bool, Curtain> {
        self.actors[n].drain();
        let actor = &mut self.actors[n];
        if actor.end == Some(1) && actor.outcome.is_some() {
            // A server that has ended has closed its end.
            self.lanes[1].ended = true;
        }
        if actor.is_over() {
            return Ok(false);
        }
        let late = self.disks[actor.disk].has_late_seals();
        let seal = late.then(|| actor.ops.iter().rposition(|(_, op)| matches!(op, Op::Seal { .. } | Op::Unseal { .. })));
        let Some((id, op)) = actor.ops.remove(seal.flatten().unwrap_or(0)) else { return Ok(self.receive(n)) };
        let Actor { done, writes, .. } = self.actors[0];
        let act = between(Between { disks: self.disks, done, writes, who: n, next: &op });
        self.actors[n].writes += u32::from(is_write(&op));
        self.ops += 1;
        match act {
            None => self.perform(n, id, op),
            Some(Act::Flip(bit)) => self.flipped(n, id, op, bit),
            Some(Act::Trouble(trouble)) => return self.troubled(n, id, op, trouble).map(|()| true),
            Some(Act::Kill(who)) => {
                let Stage { disks, actors, lanes, .. } = self;
                actors[who].kill(disks, lanes);
                if who != n {
                    self.perform(n, id, op);
                }
            }
            Some(Act::Stop(disk)) => {
                let shown = verb(&self.disks[self.actors[n].disk], &op);
                return Err(Curtain::Stopped(disk, shown));
            }
        }
        Ok(true)
    }

    fn troubled(&mut self, n: usize, id: OpId, op: Op, trouble: Trouble) -> Result<(), Curtain> {
        let disk = self.actors[n].disk;
        let shown = verb(&self.disks[disk], &op);
        if is_of_stream(&op) {
            // The disk has no part in it.
            if matches!(trouble, Trouble::Fail(_) | Trouble::Forget(_)) {
                self.perform(n, id, op);
                return Ok(());
            }
            return Err(Curtain::Stopped(disk, shown));
        }
        self.disks[disk].plan(1, trouble);
        if self.perform_or_stop(n, id, op) {
            return Ok(());
        }
        self.disks[disk].unplan();
        Err(Curtain::Stopped(disk, shown))
    }

    fn perform(&mut self, n: usize, id: OpId, op: Op) {
        let stopped = !self.perform_or_stop(n, id, op);
        debug_assert!(!stopped, "nobody planned it");
    }

    /// False if the machine stopped.
    fn perform_or_stop(&mut self, n: usize, id: OpId, op: Op) -> bool {
        let Stage { disks, actors, wire, lanes, hits, elapsed, .. } = self;
        let actor = &mut actors[n];
        let at = actor.disk;
        let disk = &mut disks[at];
        let before = disk.now();
        let reply = match op {
            Op::Connect(_) => Ok(Reply::Stream(StreamId(1))),
            Op::Send { data, .. } => wire.send(lanes, actor.end.unwrap_or(0), data, *elapsed, hits),
            Op::Complaint(_) => Ok(Reply::Complaint(None)),
            Op::Shut(_) => {
                lanes.iter_mut().for_each(|lane| lane.ended = true);
                Ok(Reply::Unit)
            }
            Op::Close(file) => {
                actor.files.remove(&file);
                match disk.run(id, Op::Close(file)) {
                    Some(reply) => reply,
                    None => return false,
                }
            }
            op => match disk.run(id, op) {
                Some(reply) => reply,
                None => return false,
            },
        };
        let now = disk.now();
        actor.answer(now, id, reply);
        self.pass(now.since(before), Some(at));
        true
    }

    /// Does a read whose answer is not what is on the disk.
    fn flipped(&mut self, n: usize, id: OpId, op: Op, bit: u64) {
        let actor = &mut self.actors[n];
        let disk = &mut self.disks[actor.disk];
        let mut reply = disk.run(id, op).unwrap_or(Err(Fault::Driver));
        if let Ok(Reply::Whole(bytes, _) | Reply::Bytes(bytes)) = &mut reply
            && !bytes.is_empty()
        {
            let at = bit as usize / 8 % bytes.len();
            bytes[at] ^= 1 << (bit % 8);
        }
        actor.answer(disk.now(), id, reply);
    }

    /// Answers a receive, if something has come.
    fn receive(&mut self, n: usize) -> bool {
        let actor = &mut self.actors[n];
        let now = self.disks[actor.disk].now();
        let Some(end) = actor.end else { return false };
        let lane = &mut self.lanes[1 - end];
        if actor.receives.is_empty() || lane.arrives > self.elapsed || (lane.bytes.is_empty() && !lane.ended) {
            return false;
        }
        let Some((id, Op::Receive { max, mut buffer, .. })) = actor.receives.pop_front() else { return false };
        let piece = if self.wire.piece == 0 { usize::MAX } else { self.wire.piece };
        buffer.clear();
        buffer.extend(lane.bytes.drain(..lane.bytes.len().min(max).min(piece)));
        actor.answer(now, id, Ok(Reply::Bytes(buffer)));
        self.ops += 1;
        self.received += 1;
        true
    }

    /// Nobody can do anything: time passes until somebody can.
    fn wait(&mut self) -> Result<(), Curtain> {
        let mut next: Option<Span> = None;
        let mut consider = |span: Span| next = Some(next.map_or(span, |n| n.min(span)));
        for actor in self.actors.iter().filter(|actor| !actor.is_over()) {
            let now = self.disks[actor.disk].now();
            if let Some(until) = actor.until {
                consider(Span(until.since(now).0.max(0)));
            }
            if let (Some(end), false) = (actor.end, actor.receives.is_empty()) {
                let lane = &self.lanes[1 - end];
                if !lane.bytes.is_empty() || lane.ended {
                    consider(Span(lane.arrives.since(self.elapsed).0.max(0)));
                }
            }
        }
        let Some(span) = next else {
            return Err(Curtain::Stuck(String::from("somebody waits for what never comes")));
        };
        self.pass(span, None);
        for actor in self.actors.iter_mut().filter(|actor| !actor.is_over()) {
            actor.task.handle_input(self.disks[actor.disk].now(), Input::Tick);
        }
        Ok(())
    }
}

/// Whether it changes what a store would be after a stop.
pub fn is_write(op: &Op) -> bool {
    let is_of_names = matches!(
        op,
        Op::Open { how: How::Create, .. }
            | Op::Rename { .. }
            | Op::Unlink(_)
            | Op::MakeDir(_)
            | Op::RemoveDir(_)
            | Op::SyncDir(_)
    );
    is_of_names || matches!(op, Op::WriteAt { .. } | Op::Truncate { .. } | Op::Sync(_))
}

fn is_of_stream(op: &Op) -> bool {
    matches!(op, Op::Connect(_) | Op::Send { .. } | Op::Receive { .. } | Op::Secure(_) | Op::Complaint(_) | Op::Shut(_))
}

/// What an operation does to what, without figures: two of one kind are one point at which a machine can stop.
fn verb(disk: &SimDisk, op: &Op) -> String {
    let words: String = disk.describe(op).split(' ').filter(|word| !word.starts_with(|c: char| c.is_ascii_digit())).fold(
        String::new(),
        |mut all, word| {
            let word = word.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
            if !all.is_empty() {
                all.push(' ');
            }
            all.push_str(word);
            all
        },
    );
    words
}
