//! Standard output and error: lines for people or JSON, and progress on a terminal.
//!
//! Names from mailboxes come in escaped or go through [`cylinder_core::escape`]; JSON escapes for itself. A pipe that the
//! reader has closed is no error. What must not come in: deciding what is worth saying.

use cylinder_core::io::Event;
use cylinder_core::time::{Civil, Time};
use rustix::io::Errno;
use std::fmt::{Display, Formatter};
use std::io::{BufWriter, ErrorKind, IsTerminal, Stdout, Write};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Why standard output cannot take any more.
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

impl Display for OutputError {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            OutputError::Closed => f.write_str("standard output: whoever reads it has stopped"),
            // A standard output that the command was started without has no file descriptor.
            OutputError::Failed(error) if Errno::from_io_error(error) == Some(Errno::BADF) => {
                f.write_str("standard output: is closed")
            }
            OutputError::Failed(error) => write!(f, "standard output: {error}"),
        }
    }
}

/// Standard output, buffered. Flushed at the end, and after each line for somebody who watches.
struct Out {
    buffer: BufWriter<Stdout>,
    is_terminal: bool,
    /// It only reports on work, which goes on when it is lost.
    is_report: bool,
    /// Why the report could not be written.
    lost: Option<OutputError>,
}

static OUT: LazyLock<Mutex<Out>> = LazyLock::new(|| {
    let (buffer, is_terminal) = (BufWriter::new(std::io::stdout()), std::io::stdout().is_terminal());
    Mutex::new(Out { buffer, is_terminal, is_report: false, lost: None })
});

impl Out {
    /// Writes, unless a report was lost already.
    fn write(&mut self, bytes: &[u8]) -> Result<(), OutputError> {
        if closed::at_start() { self.take(Err(Errno::BADF.into())) } else { self.with(|buffer| buffer.write_all(bytes)) }
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        self.with(BufWriter::flush)
    }

    fn with(&mut self, write: impl FnOnce(&mut BufWriter<Stdout>) -> std::io::Result<()>) -> Result<(), OutputError> {
        let result = if self.lost.is_none() { write(&mut self.buffer) } else { Ok(()) };
        self.take(result)
    }

    /// Keeps the error of a report.
    fn take(&mut self, result: std::io::Result<()>) -> Result<(), OutputError> {
        match result {
            Err(error) if self.is_report => {
                self.lost.get_or_insert(error.into());
                Ok(())
            }
            other => Ok(other?),
        }
    }
}

/// Whether the command was started with standard output closed.
///
/// The standard library opens `/dev/null` in place of a closed standard stream before `main` is called, so that no file takes
/// its number; afterwards it cannot be told from a `/dev/null` that was given. Functions in `.init_array` run before that.
mod closed {
    use std::sync::atomic::{AtomicBool, Ordering};

    static CLOSED: AtomicBool = AtomicBool::new(false);

    #[cfg(target_os = "linux")]
    #[used]
    #[unsafe(link_section = ".init_array")]
    #[expect(unsafe_code, reason = "the only place that runs before the standard library's own start")]
    static LOOK: extern "C" fn() = look;

    extern "C" fn look() {
        let found = rustix::io::fcntl_getfd(rustix::stdio::stdout());
        CLOSED.store(found == Err(rustix::io::Errno::BADF), Ordering::Relaxed);
    }

    pub fn at_start() -> bool {
        CLOSED.load(Ordering::Relaxed)
    }
}

fn out() -> MutexGuard<'static, Out> {
    // A thread that panicked while it printed has left a whole buffer behind.
    OUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on standard output only reports on work. The work goes on when that cannot be written: no error is returned, and
/// [`lost`] tells at the end.
pub fn only_reports() {
    out().is_report = true;
}

/// Why the report could not be written, once.
pub fn lost() -> Option<OutputError> {
    out().lost.take()
}

/// True if standard output is a terminal.
pub fn is_terminal() -> bool {
    out().is_terminal
}

/// Writes a line to standard output.
pub fn line(text: &str) -> Result<(), OutputError> {
    let mut out = out();
    out.write(text.as_bytes())?;
    out.write(b"\n")?;
    if out.is_terminal { out.flush() } else { Ok(()) }
}

/// Writes one JSON object as a line.
pub fn json(value: &serde_json::Value) -> Result<(), OutputError> {
    line(&value.to_string())
}

/// Writes bytes as they are.
pub fn bytes(content: &[u8]) -> Result<(), OutputError> {
    out().write(content)
}

/// Pushes out what is buffered.
pub fn flush() -> Result<(), OutputError> {
    out().flush()
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
