//! Two procedures on two simulated disks, joined by a stream that can be cut, split and delayed.
//!
//! Everything is a function of the two procedures and of [`Net`]: there are no threads and no clock but the disks' own.

use crate::disk::SimDisk;
use cylinder_core::error::Fault;
use cylinder_core::io::{Event, Input, Io, Machine, Op, OpId, Output, Reply, StreamId, Task};
use cylinder_core::time::{Span, Time};
use std::collections::VecDeque;
use std::future::Future;

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What the stream does to what is sent.
#[derive(Clone, Debug, Default)]
pub struct Net {
    /// Most bytes that are received at once. 0: as many as are there.
    pub piece: usize,
    /// The connection ends after so many bytes in this direction.
    pub cut: Option<(Way, u64)>,
    /// After so many bytes in this direction nothing comes any more, and nothing says so.
    pub stall: Option<(Way, u64)>,
    /// How long bytes are on their way.
    pub delay: Span,
    /// The client is told to stop when it has sent so many bytes.
    pub stop: Option<u64>,
    /// When the client has ended, the server goes on with what has arrived.
    pub lingers: bool,
    /// What the process behind the stream says when it is asked.
    pub complaint: Option<String>,
    /// What becomes of TLS; nothing is encrypted here.
    pub secure: Option<Fault>,
    /// Bytes that were sent up and down.
    pub sent: [u64; 2],
    /// All bytes that were sent up and down, if they are to be kept.
    pub kept: Option<[Vec<u8>; 2]>,
    /// Connections that were made.
    pub connects: u64,
}

/// One direction of the stream.
#[derive(Default)]
struct Lane {
    bytes: VecDeque<u8>,
    /// When what was sent last arrives.
    arrives: Time,
    /// Nothing more comes after what is there.
    ended: bool,
}

/// One procedure and what it waits for.
struct Side<'a, T> {
    task: Task<'a, T>,
    ops: VecDeque<(OpId, Op)>,
    /// Receives for which nothing has come yet.
    parked: VecDeque<(OpId, Op)>,
    until: Option<Time>,
    outcome: Option<T>,
    events: Vec<Event>,
}

impl<'a, T> Side<'a, T> {
    fn new<F: Future<Output = T> + 'a>(now: Time, make: impl FnOnce(Io) -> F) -> Side<'a, T> {
        let task = Task::new(now, make);
        Side { task, ops: VecDeque::new(), parked: VecDeque::new(), until: None, outcome: None, events: Vec::new() }
    }

    /// Polls until the procedure waits or has ended.
    fn drain(&mut self) {
        while self.outcome.is_none() {
            match self.task.poll_output() {
                Output::Op(id, op @ Op::Receive { .. }) => self.parked.push_back((id, op)),
                Output::Op(id, op) => self.ops.push_back((id, op)),
                Output::Event(event) => self.events.push(event),
                Output::Wait { until } => {
                    self.until = until;
                    return;
                }
                Output::Finished(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    fn done(&mut self, now: Time, id: OpId, reply: Result<Reply, Fault>) {
        self.task.handle_input(now, Input::Done(id, reply));
    }

    /// Does one thing. False if there is nothing to do now.
    fn step(&mut self, disk: &mut SimDisk, net: &mut Net, lanes: &mut [Lane; 2], way: Way) -> bool {
        self.drain();
        if let Some((id, op)) = self.ops.pop_front() {
            let reply = match op {
                Op::Connect(_) => {
                    net.connects += 1;
                    Ok(Reply::Stream(StreamId(1)))
                }
                Op::Send { data, .. } => send(net, lanes, way, data, disk.now()),
                Op::Secure(_) => net.secure.map_or(Ok(Reply::Unit), Err),
                Op::Complaint(_) => Ok(Reply::Complaint(net.complaint.clone())),
                Op::Shut(_) => {
                    lanes.iter_mut().for_each(|lane| lane.ended = true);
                    Ok(Reply::Unit)
                }
                op => disk.run(id, op).expect("these disks do not stop"),
            };
            self.done(disk.now(), id, reply);
            return true;
        }
        let Some((id, Op::Receive { max, mut buffer, .. })) = self.parked.pop_front() else { return false };
        let lane = &mut lanes[if way == Way::Up { 1 } else { 0 }];
        let late = lane.arrives > disk.now();
        if late || (lane.bytes.is_empty() && !lane.ended) {
            self.parked.push_front((id, Op::Receive { stream: StreamId(1), max, buffer }));
            return false;
        }
        let piece = if net.piece == 0 { usize::MAX } else { net.piece };
        buffer.clear();
        buffer.extend(lane.bytes.drain(..lane.bytes.len().min(max).min(piece)));
        self.done(disk.now(), id, Ok(Reply::Bytes(buffer)));
        true
    }
}

/// Runs the procedure `client` on `here` until it has ended, and for each connection that it makes, one after the other, the
/// procedure `serve` on `there`. What is cut is cut once.
pub fn meet<'a, T, S, F, G>(
    here: &mut SimDisk,
    there: &mut SimDisk,
    net: &mut Net,
    client: impl FnOnce(Io) -> F,
    serve: impl Fn(Io) -> G,
) -> T
where
    F: Future<Output = T> + 'a,
    G: Future<Output = S> + 'a,
{
    let mut lanes = [Lane::default(), Lane::default()];
    let mut client = Side::new(here.now(), client);
    let mut server = Side::new(there.now(), &serve);
    for _ in 0..STEPS_MAX {
        if net.stop.take_if(|bytes| net.sent[0] >= *bytes).is_some() {
            client.task.handle_input(here.now(), Input::Stop);
        }
        let connects = net.connects;
        let did = client.step(here, net, &mut lanes, Way::Up);
        let is_over = client.outcome.is_some();
        if is_over || net.connects > connects.max(1) {
            lanes[0].ended = true;
            while net.lingers && server.step(there, net, &mut lanes, Way::Down) {}
        }
        if let Some(outcome) = client.outcome.take() {
            return outcome;
        }
        if net.connects > connects.max(1) {
            (lanes, net.cut) = ([Lane::default(), Lane::default()], None);
            server = Side::new(there.now(), &serve);
        }
        let did = server.step(there, net, &mut lanes, Way::Down) || did;
        let did = (server.outcome.is_some() && !lanes[1].ended) || did;
        lanes.iter_mut().for_each(|lane| lane.ended |= server.outcome.is_some());
        let now = here.now().max(there.now());
        let is_apart = here.now() < now || there.now() < now;
        if did && !is_apart {
            continue;
        }
        let waits = [client.until, server.until.filter(|_| server.outcome.is_none())].into_iter().flatten();
        let next = if did || is_apart { now } else { waits.min().expect("somebody waits for something") };
        here.wait_until(next);
        there.wait_until(next);
        if !did && !is_apart {
            client.task.handle_input(next, Input::Tick);
            server.task.handle_input(next, Input::Tick);
        }
    }
    panic!("the run does not end");
}

fn send(net: &mut Net, lanes: &mut [Lane; 2], way: Way, mut data: Vec<u8>, now: Time) -> Result<Reply, Fault> {
    let at = way as usize;
    if lanes[at].ended {
        return Err(Fault::Gone);
    }
    let room = |limit: Option<(Way, u64)>| limit.filter(|(w, _)| *w == way).map(|(_, n)| n.saturating_sub(net.sent[at]));
    let (cut, stall) = (room(net.cut), room(net.stall));
    let passes = data.len().min(cut.unwrap_or(u64::MAX).min(stall.unwrap_or(u64::MAX)) as usize);
    lanes[at].bytes.extend(&data[..passes]);
    lanes[at].arrives = now.plus(net.delay);
    if let Some(kept) = &mut net.kept {
        kept[at].extend_from_slice(&data[..passes]);
    }
    net.sent[at] += data.len() as u64;
    if cut.is_some_and(|n| (n as usize) < data.len()) {
        lanes.iter_mut().for_each(|lane| lane.ended = true);
    }
    data.clear();
    Ok(Reply::Bytes(data))
}

/// How often both sides may do something before that counts as a run that never ends.
const STEPS_MAX: u64 = 50_000_000;

/// Runs the procedure `client` on `here`, and the procedure `server` on `there`, until the client has ended. The stream has the
/// number 1 on both sides; there is one connection.
pub fn join<'a, T, S, F, G>(
    here: &mut SimDisk,
    there: &mut SimDisk,
    net: &mut Net,
    client: impl FnOnce(Io) -> F,
    server: impl FnOnce(Io) -> G,
) -> T
where
    F: Future<Output = T> + 'a,
    G: Future<Output = S> + 'a,
{
    let mut lanes = [Lane::default(), Lane::default()];
    let mut client = Side::new(here.now(), client);
    let mut server = Side::new(there.now(), server);
    for _ in 0..STEPS_MAX {
        if net.stop.take_if(|bytes| net.sent[0] >= *bytes).is_some() {
            client.task.handle_input(here.now(), Input::Stop);
        }
        let did = client.step(here, net, &mut lanes, Way::Up);
        if let Some(outcome) = client.outcome.take() {
            lanes[0].ended = true;
            while net.lingers && server.step(there, net, &mut lanes, Way::Down) {}
            return outcome;
        }
        // A server that has ended has closed its end.
        let did = server.step(there, net, &mut lanes, Way::Down) || did;
        let has_ended = server.outcome.is_some() && !std::mem::replace(&mut lanes[1].ended, server.outcome.is_some());
        if did || has_ended {
            continue;
        }
        // Each disk's operations take time on its own clock.
        let now = here.now().max(there.now());
        if here.now() < now || there.now() < now {
            here.wait_until(now);
            there.wait_until(now);
            continue;
        }
        let arrivals = lanes.iter().filter(|lane| !lane.bytes.is_empty()).map(|lane| lane.arrives);
        let waits = [client.until, server.until.filter(|_| server.outcome.is_none())].into_iter().flatten();
        let next = arrivals.chain(waits).filter(|at| *at > now).min();
        let next = next.unwrap_or_else(|| panic!("both sides wait for nothing"));
        here.wait_until(next);
        there.wait_until(next);
        client.task.handle_input(here.now(), Input::Tick);
        server.task.handle_input(there.now(), Input::Tick);
    }
    panic!("the run does not end");
}
