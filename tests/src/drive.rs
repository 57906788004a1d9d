//! Drives a procedure of the core over a [`SimDisk`], operation by operation, keeping to the contract of [`cylinder_core::io`].

use crate::disk::SimDisk;
use cylinder_core::io::{Event, Input, Io, Machine, Op, OpId, Output, Task};
use cylinder_core::time::Time;
use std::collections::VecDeque;
use std::future::Future;

/// How a drive ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome<T> {
    /// The procedure has ended with this.
    Finished(T),
    /// The machine stopped first; what is on the disk is all that is left.
    Crashed,
}

impl<T> Outcome<T> {
    /// What the procedure ended with. Panics if the machine stopped, which only a plan makes it do.
    pub fn finished(self) -> T {
        match self {
            Outcome::Finished(outcome) => outcome,
            Outcome::Crashed => panic!("the machine stopped"),
        }
    }
}

/// What one step did.
#[derive(Debug)]
pub enum Step<T> {
    /// One operation.
    Did,
    /// The procedure had ended.
    Finished(T),
    /// The machine stopped.
    Crashed,
}

/// A procedure under way, for tests that run several side by side.
pub struct Running<'a, T> {
    task: Task<'a, T>,
    waiting: VecDeque<(OpId, Op)>,
    events: Vec<Event>,
}

impl<'a, T> Running<'a, T> {
    /// A procedure that has not begun.
    pub fn new<F: Future<Output = T> + 'a>(disk: &SimDisk, make: impl FnOnce(Io) -> F) -> Running<'a, T> {
        Running { task: Task::new(disk.now(), make), waiting: VecDeque::new(), events: Vec::new() }
    }

    /// What was told to people so far.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// Does one operation, after showing it to `watch` together with the disk as it is before.
    ///
    /// Panics if the procedure waits for nothing.
    pub fn step(&mut self, disk: &mut SimDisk, watch: &mut dyn FnMut(&SimDisk, &Op)) -> Step<T> {
        let until = match self.drain() {
            Ok(outcome) => return Step::Finished(outcome),
            Err(until) => until,
        };
        let Some((id, op)) = self.next(disk.has_late_seals()) else {
            disk.wait_until(until.expect("a procedure that waits has an operation under way or a time to wait for"));
            self.task.handle_input(disk.now(), Input::Tick);
            return Step::Did;
        };
        watch(disk, &op);
        match disk.run(id, op) {
            Some(reply) => {
                self.task.handle_input(disk.now(), Input::Done(id, reply));
                Step::Did
            }
            None => Step::Crashed,
        }
    }

    /// Does at most `count` operations; false if the procedure ended before. Panics if the machine stops.
    pub fn go(&mut self, disk: &mut SimDisk, count: u32) -> bool {
        (0..count).all(|_| match self.step(disk, &mut |_, _| {}) {
            Step::Did => true,
            Step::Finished(_) => false,
            Step::Crashed => panic!("nobody planned this"),
        })
    }

    /// Does the rest. Panics if the machine stops.
    pub fn finish(&mut self, disk: &mut SimDisk) -> T {
        loop {
            match self.step(disk, &mut |_, _| {}) {
                Step::Did => {}
                Step::Finished(outcome) => return outcome,
                Step::Crashed => panic!("nobody planned this"),
            }
        }
    }

    /// Polls until the machine has nothing more to ask for.
    fn drain(&mut self) -> Result<T, Option<Time>> {
        loop {
            match self.task.poll_output() {
                Output::Op(id, op) => self.waiting.push_back((id, op)),
                Output::Event(event) => self.events.push(event),
                Output::Wait { until } => return Err(until),
                Output::Finished(outcome) => return Ok(outcome),
            }
        }
    }

    /// The oldest operation, or the youngest that has no file and may be done in any order.
    fn next(&mut self, late_seals: bool) -> Option<(OpId, Op)> {
        let late =
            late_seals.then(|| self.waiting.iter().rposition(|(_, op)| matches!(op, Op::Seal { .. } | Op::Unseal { .. })));
        self.waiting.remove(late.flatten().unwrap_or(0))
    }
}

/// Runs the procedure that `make` makes, to its end or until the machine stops.
pub fn drive<'a, T, F: Future<Output = T> + 'a>(disk: &mut SimDisk, make: impl FnOnce(Io) -> F) -> Outcome<T> {
    drive_watched(disk, make, &mut |_, _| {})
}

/// The same; before each operation `watch` sees it, and the disk as a crash at this point would leave it.
pub fn drive_watched<'a, T, F: Future<Output = T> + 'a>(
    disk: &mut SimDisk,
    make: impl FnOnce(Io) -> F,
    watch: &mut dyn FnMut(&SimDisk, &Op),
) -> Outcome<T> {
    let mut running = Running::new(disk, make);
    loop {
        match running.step(disk, watch) {
            Step::Did => {}
            Step::Finished(outcome) => return Outcome::Finished(outcome),
            Step::Crashed => return Outcome::Crashed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Trouble;
    use cylinder_core::error::Fault;
    use cylinder_core::io::{How, Place};
    use cylinder_core::time::Span;

    async fn two_writes(io: Io) -> Result<(), Fault> {
        let file = io.open(&Place::store("a"), How::Create).await?;
        io.write_at(file, 0, b"one".to_vec()).await?;
        io.sleep_until(io.now().plus(Span::from_secs(60))).await;
        io.event(Event::Progress { messages: 1, bytes: 3 });
        io.write_at(file, 3, b"two".to_vec()).await?;
        io.close(file).await
    }

    #[test]
    fn a_run_is_written_down_and_time_passes() {
        let mut disk = SimDisk::new();
        let start = disk.now();
        assert_eq!(drive(&mut disk, two_writes), Outcome::Finished(Ok(())));
        assert!(disk.now().since(start) >= Span::from_secs(60));
        // The number between belongs to the wait.
        let expected = "op1 create a\nop2 write a at 0 3 bytes\nop4 write a at 3 3 bytes\nop5 close a\n";
        assert_eq!(disk.take_transcript(), expected);
        assert_eq!(disk.content(&Place::store("a")), Some(&b"onetwo"[..]));
    }

    #[test]
    fn trouble_comes_where_it_was_planned() {
        let crash = |trouble| {
            let mut disk = SimDisk::new();
            disk.plan(3, trouble);
            let outcome = drive(&mut disk, two_writes);
            (outcome, disk.content(&Place::store("a")).map(<[u8]>::to_vec).unwrap_or_default())
        };
        assert_eq!(crash(Trouble::CrashBefore), (Outcome::Crashed, b"one".to_vec()));
        assert_eq!(crash(Trouble::CrashAfter), (Outcome::Crashed, b"onetwo".to_vec()));
        assert_eq!(crash(Trouble::Torn(2)), (Outcome::Crashed, b"onetw".to_vec()));
        assert_eq!(crash(Trouble::Fail(Fault::NoSpace)), (Outcome::Finished(Err(Fault::NoSpace)), b"onet".to_vec()));
    }
}
