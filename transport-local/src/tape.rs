//! Recordings of runs, and running them again.
//!
//! A recording is a text: a line `cylinder-recording 1`, lines of whoever makes it, then for each run a line `run` and the
//! lines of [`cylinder_core::tape`]. What must not come in: what is recorded.

use cylinder_core::error::Fault;
use cylinder_core::io::{Event, Input, Machine, Output};
use cylinder_core::tape;
use cylinder_core::time::Time;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;

const MAGIC: &str = "cylinder-recording 1";

/// Something that runs are recorded on, or run again from.
pub struct Tape(Mutex<Mode>);

enum Mode {
    Record { out: BufWriter<File>, bodies: bool, failed: Option<std::io::Error> },
    Replay { lines: BufReader<File>, number: u64, operations: u64, difference: Option<String> },
}

/// What came of running a recording again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replayed {
    /// Operations that were the same.
    pub operations: u64,
    /// The first difference.
    pub difference: Option<String>,
}

impl Tape {
    /// A new recording, with lines that say what is recorded. Without `bodies` it can be read, and not be run again.
    pub fn record(path: &Path, head: &[String], bodies: bool) -> std::io::Result<Tape> {
        let mut out = BufWriter::new(File::create_new(path)?);
        writeln!(out, "{MAGIC}")?;
        for line in head {
            writeln!(out, "{line}")?;
        }
        Ok(Tape(Mutex::new(Mode::Record { out, bodies, failed: None })))
    }

    /// A recording that is there, and the lines that say what is recorded.
    pub fn replay(path: &Path) -> std::io::Result<(Tape, Vec<String>)> {
        let mut lines = BufReader::new(File::open(path)?);
        let (mut head, mut number) = (Vec::new(), 0);
        loop {
            let line = next_line(&mut lines)?.ok_or(std::io::ErrorKind::UnexpectedEof)?;
            number += 1;
            match (number, line.as_str()) {
                (1, MAGIC) => {}
                (1, _) => return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, format!("expected `{MAGIC}`"))),
                (_, "run") => break,
                _ => head.push(line),
            }
        }
        let mode = Mode::Replay { lines, number, operations: 0, difference: None };
        Ok((Tape(Mutex::new(mode)), head))
    }

    /// True if nothing of the world is touched.
    pub fn is_replay(&self) -> bool {
        matches!(&*self.mode(), Mode::Replay { .. })
    }

    /// Ends a recording, and says whether all of it was written.
    pub fn finish(&self) -> std::io::Result<()> {
        match &mut *self.mode() {
            Mode::Record { failed: Some(error), .. } => Err(std::io::Error::new(error.kind(), error.to_string())),
            Mode::Record { out, .. } => out.flush(),
            Mode::Replay { .. } => Ok(()),
        }
    }

    /// What came of running it again; what is left of the recording is a difference, too.
    pub fn replayed(&self) -> Replayed {
        match &mut *self.mode() {
            Mode::Record { .. } => Replayed { operations: 0, difference: None },
            Mode::Replay { lines, number, operations, difference } => {
                if difference.is_none()
                    && let Ok(Some(line)) = next_line(lines)
                {
                    *difference = Some(tape::difference(*number + 1, "the end", Some(&line)));
                }
                Replayed { operations: *operations, difference: difference.clone() }
            }
        }
    }

    fn mode(&self) -> std::sync::MutexGuard<'_, Mode> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write(&self, text: &str) {
        if let Mode::Record { out, failed, .. } = &mut *self.mode()
            && failed.is_none()
            && let Err(error) = out.write_all(text.as_bytes())
        {
            *failed = Some(error);
        }
    }

    /// The time with which the next run begins. While replaying, that of the recording.
    pub(crate) fn begin(&self, now: Time) -> Time {
        self.write(&format!("run\n< at={now} begin=1\n"));
        let mut mode = self.mode();
        let Mode::Replay { lines, number, operations, difference } = &mut *mode else { return now };
        // The first `run` was read with the head.
        if *operations > 0 {
            let line = next_line(lines).ok().flatten();
            *number += 1;
            if line.as_deref() != Some("run") {
                difference.get_or_insert_with(|| tape::difference(*number, "run", line.as_deref()));
            }
        }
        *operations += 1;
        let line = next_line(lines).ok().flatten().unwrap_or_default();
        *number += 1;
        tape::parse_input(line.as_bytes()).map_or(now, |(now, _)| now)
    }
}

fn next_line(lines: &mut BufReader<File>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    if lines.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    if line.ends_with('\n') {
        line.pop();
    }
    Ok(Some(line))
}

/// A machine whose operations and inputs are written down as they pass.
pub(crate) struct Recorded<'t, M> {
    pub machine: M,
    pub tape: &'t Tape,
}

impl<M: Machine> Machine for Recorded<'_, M> {
    type Outcome = M::Outcome;

    fn handle_input(&mut self, now: Time, input: Input) {
        let bodies = matches!(&*self.tape.mode(), Mode::Record { bodies: true, .. });
        let mut line = String::new();
        tape::input(&mut line, now, &input, bodies);
        self.tape.write(&line);
        self.machine.handle_input(now, input);
    }

    fn poll_output(&mut self) -> Output<M::Outcome> {
        let output = self.machine.poll_output();
        if let Output::Op(id, op) = &output {
            self.tape.write(&format!("{}\n", tape::operation(*id, op)));
        }
        output
    }
}

/// Runs a machine from a recording. After the first difference it is told that nothing works any more, so that it ends.
pub(crate) fn replay<M: Machine>(tape: &Tape, mut machine: M, on_event: &mut dyn FnMut(Event)) -> M::Outcome {
    let (mut now, mut open, mut same) = (Time::ZERO, VecDeque::new(), true);
    loop {
        match machine.poll_output() {
            Output::Op(id, op) => {
                same = same && compare(tape, &tape::operation(id, &op)).is_some();
                open.push_back(id);
            }
            Output::Event(event) => on_event(event),
            Output::Finished(outcome) => return outcome,
            Output::Wait { until } => {
                let recorded = if same { next_input(tape) } else { None };
                same = recorded.is_some();
                let (at, input) = recorded.unwrap_or_else(|| {
                    let end = |id| Input::Done(id, Err(Fault::Driver));
                    (until.unwrap_or(now).max(now), open.pop_front().map_or(Input::Tick, end))
                });
                if let Input::Done(id, _) = &input {
                    open.retain(|open| open != id);
                }
                now = at;
                machine.handle_input(at, input);
            }
        }
    }
}

fn compare(tape: &Tape, found: &str) -> Option<()> {
    let mut mode = tape.mode();
    let Mode::Replay { lines, number, operations, difference } = &mut *mode else { return None };
    let recorded = next_line(lines).ok().flatten();
    *number += 1;
    if recorded.as_deref() == Some(found) {
        *operations += 1;
        return Some(());
    }
    difference.get_or_insert_with(|| tape::difference(*number, found, recorded.as_deref()));
    None
}

fn next_input(tape: &Tape) -> Option<(Time, Input)> {
    let mut mode = tape.mode();
    let Mode::Replay { lines, number, difference, .. } = &mut *mode else { return None };
    let line = next_line(lines).ok().flatten();
    *number += 1;
    let waits = "the machine waits for something";
    let Some(text) = line.as_deref().filter(|line| line.starts_with("< ")) else {
        difference.get_or_insert_with(|| tape::difference(*number, waits, line.as_deref()));
        return None;
    };
    match tape::parse_input(text.as_bytes()) {
        Ok(input) => Some(input),
        Err(damage) => {
            difference.get_or_insert_with(|| format!("line {number}: {damage}"));
            None
        }
    }
}
