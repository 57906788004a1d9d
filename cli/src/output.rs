//! Standard output and error: lines for people or JSON, and progress on a terminal.
//!
//! Names from mailboxes come in escaped or go through [`cylinder_core::escape`]; JSON escapes for itself. A pipe that the
//! reader has closed is no error. What must not come in: deciding what is worth saying.

use cylinder_core::io::Event;
use cylinder_core::time::{Civil, Time};
use std::io::{BufWriter, ErrorKind, IsTerminal, Stdout, Write};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Set once standard output cannot take any more.
#[derive(Debug)]
pub enum OutputError {
    /// Whoever read it has stopped.
    Closed,
    /// Anything else, such as a full disk.
    Failed(std::io::Error),
}

impl From<std::io::Error> for OutputError {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe { OutputError::Closed } else { OutputError::Failed(error) }
    }
}

/// Standard output, buffered. Flushed at the end, and after each line for somebody who watches.
static OUT: LazyLock<Mutex<BufWriter<Stdout>>> = LazyLock::new(|| Mutex::new(BufWriter::new(std::io::stdout())));

fn out() -> MutexGuard<'static, BufWriter<Stdout>> {
    // A thread that panicked while it printed has left a whole buffer behind.
    OUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a line to standard output.
pub fn line(text: &str) -> Result<(), OutputError> {
    let mut out = out();
    out.write_all(text.as_bytes())?;
    out.write_all(b"\n")?;
    if out.get_ref().is_terminal() {
        out.flush()?;
    }
    Ok(())
}

/// Writes one JSON object as a line.
pub fn json(value: &serde_json::Value) -> Result<(), OutputError> {
    line(&value.to_string())
}

/// Writes bytes as they are.
pub fn bytes(content: &[u8]) -> Result<(), OutputError> {
    Ok(out().write_all(content)?)
}

/// Pushes out what is buffered.
pub fn flush() -> Result<(), OutputError> {
    Ok(out().flush()?)
}

/// Writes a line to standard error, formatted as by `format!`. A standard error that is full, closed or broken is no reason to
/// stop, and changes no exit code: the line is lost.
macro_rules! complain {
    ($($arg:tt)*) => { $crate::output::to_stderr(&format!($($arg)*)) };
}
pub(crate) use complain;

/// What [`complain!`] writes: in one piece, so that lines of several threads and processes do not mix.
pub fn to_stderr(text: &str) {
    let _ = std::io::stderr().write_all(format!("{text}\n").as_bytes());
}

/// Bytes as people read them: `512 B`, `1.5 MB`, `23 GB` (powers of 1000).
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 || value >= 99.95 { format!("{value:.0} {}", UNITS[unit]) } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count and its noun, with an `s` unless it is one.
pub fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Date and time of day in UTC.
pub fn time(t: Time) -> String {
    Civil::from_time(t).to_string()
}

/// The same to `digits` places of the second.
pub fn time_to(t: Time, digits: usize) -> String {
    let (whole, fraction) = (time(t), format!("{:09}", t.subsec_ns()));
    if digits == 0 { whole } else { format!("{}.{}Z", whole.trim_end_matches('Z'), &fraction[..digits.min(9)]) }
}

/// Date and time in UTC as RFC 3339 has it, for JSON.
pub fn rfc3339(t: Time) -> String {
    time(t).replacen(' ', "T", 1)
}

/// A line on the terminal that says how far a long command is. Silent unless standard error is a terminal.
pub struct Progress {
    shown: bool,
    begun: Instant,
    last: Option<Instant>,
    done: u64,
    expected: u64,
    messages: u64,
}

impl Progress {
    /// How often the line is written anew.
    const EVERY: Duration = Duration::from_millis(200);

    /// Progress of something that begins now.
    pub fn new(quiet: bool) -> Progress {
        let shown = !quiet && std::io::stderr().is_terminal();
        Progress { shown, begun: Instant::now(), last: None, done: 0, expected: 0, messages: 0 }
    }

    /// Takes what the core tells of `what`.
    pub fn on(&mut self, what: &str, event: &Event) {
        match *event {
            Event::Expect { bytes, .. } => self.expect(bytes),
            Event::Progress { messages, bytes } => self.add(what, messages, bytes),
            Event::Waiting { .. } | Event::User { .. } => {}
        }
    }

    /// So many bytes are to be handled, from here on.
    fn expect(&mut self, bytes: u64) {
        (self.done, self.expected, self.messages, self.begun) = (0, bytes, 0, Instant::now());
    }

    /// So much more was handled.
    fn add(&mut self, what: &str, messages: u64, bytes: u64) {
        self.done += bytes;
        self.messages += messages;
        if !self.shown || self.last.is_some_and(|last| last.elapsed() < Self::EVERY) {
            return;
        }
        self.last = Some(Instant::now());
        let line = self.line(what);
        // A terminal that cannot be written to is no reason to stop.
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
    }

    fn line(&self, what: &str) -> String {
        let seconds = self.begun.elapsed().as_secs_f64().max(0.001);
        let rate = self.done as f64 / seconds;
        let mut line = format!("{what}: {}", size(self.done));
        if self.expected > 0 {
            line += &format!(" of {}", size(self.expected));
        }
        if self.messages > 0 {
            line += &format!(", {}", count(self.messages, "message"));
        }
        line += &format!(", {}/s", size(rate as u64));
        if rate > 0.0 && self.expected > self.done {
            line += &format!(", {:.0} s to go", (self.expected - self.done) as f64 / rate);
        }
        line
    }

    /// Takes the line away.
    pub fn clear(&mut self) {
        if self.shown && self.last.take().is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short() {
        let shown: Vec<String> = [0, 999, 1000, 1500, 99_949, 999_499, 999_500, 786_084_617, u64::MAX].map(size).into();
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "1.5 kB", "99.9 kB", "999 kB", "1.0 MB", "786 MB", "18447 PB"]);
        assert_eq!([count(1, "message"), count(0, "message")], ["1 message", "0 messages"]);
    }
}
