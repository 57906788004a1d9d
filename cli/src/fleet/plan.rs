//! What a run is to do: sources, whom, how many at a time, and when. From a file in TOML, or from the command line.
//!
//! What must not come in: doing it.

use crate::host::{HostOptions, Trouble};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::serve::matches;
use cylinder_transport_ssh::{Peer, Ssh};
use jiff::civil::Time;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Users at a time from one source, and in all, unless said otherwise: a small user is mostly waiting for the disk.
pub const JOBS: usize = 4;
/// Attempts to reach a source again, one after the other.
pub const RETRIES: u32 = 5;

/// Where a source is.
#[derive(Clone, Debug)]
pub enum From {
    /// This host.
    Local(Box<HostOptions>),
    /// A server on another host, or behind a socket.
    Peer {
        /// Its name, as [`Peer::parse`] takes it.
        name: String,
        /// How ssh is run.
        ssh: Ssh,
    },
}

/// Mail of one server.
#[derive(Clone, Debug)]
pub struct Source {
    /// What it is called in messages and commits.
    pub name: String,
    /// Where it is.
    pub from: From,
    /// Whom to take: patterns. Empty: everybody.
    pub users: Vec<String>,
    /// Whom not to take: patterns.
    pub exclude: Vec<String>,
    /// Users at a time.
    pub jobs: usize,
    /// Most bytes that come from it in a second. 0: any.
    pub bandwidth: u64,
    /// Most bytes of messages that are read in a second. 0: any.
    pub read_rate: u64,
}

impl Source {
    /// True if this source's patterns take the owner.
    pub fn takes(&self, owner: &Owner) -> bool {
        let name = match owner {
            Owner::Shared => &b"%shared"[..],
            Owner::User(userid) => userid,
        };
        let any = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern.as_bytes(), name));
        (self.users.is_empty() || any(&self.users)) && !any(&self.exclude)
    }
}

/// Whom to back up.
#[derive(Clone, Debug)]
pub enum Whom {
    /// These.
    Named(Vec<Owner>),
    /// Everybody whom the sources have, and whoever has an archive of theirs.
    Everybody,
}

/// Everything about a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where mail comes from. At least one.
    pub sources: Vec<Source>,
    /// The directory of the archives.
    pub store: PathBuf,
    /// The id that the store must have.
    pub store_id: Option<String>,
    /// Whom.
    pub whom: Whom,
    /// Users at a time in all.
    pub jobs: usize,
    /// When users may be begun.
    pub window: Option<Window>,
    /// How often a source that cannot be reached is tried again.
    pub retries: u32,
    /// Compression level.
    pub level: Option<u8>,
    /// Write down when each user was backed up, so that the next run begins with whoever has waited longest.
    pub ledger: bool,
}

/// A time of the day, every day, by this host's clock. It may reach over midnight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    from: Time,
    to: Time,
}

impl Window {
    /// Reads `22:00-06:00`.
    pub fn parse(text: &str) -> Option<Window> {
        let (from, to) = text.split_once('-')?;
        let time = |text: &str| Time::strptime("%H:%M", text.trim()).ok();
        let (from, to) = (time(from)?, time(to)?);
        (from != to).then_some(Window { from, to })
    }

    /// True if `now` is in it.
    pub fn has(&self, now: Time) -> bool {
        if self.from < self.to { self.from <= now && now < self.to } else { now >= self.from || now < self.to }
    }

    /// True if it is open now.
    pub fn is_open(&self) -> bool {
        let now = jiff::Timestamp::now();
        self.has(jiff::tz::TimeZone::system().to_datetime(now).time())
    }
}

/// The file as it is written.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    store: PathBuf,
    store_id: Option<String>,
    jobs: Option<usize>,
    window: Option<String>,
    retries: Option<u32>,
    level: Option<u8>,
    source: Vec<FileSource>,
}

#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct FileSource {
    name: Option<String>,
    from: String,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    jobs: Option<usize>,
    bandwidth: Option<String>,
    read_rate: Option<String>,
    ssh: Option<Vec<String>>,
    command: Option<String>,
}

impl Plan {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Plan, Trouble> {
        let usage = |why: String| Trouble::Usage(format!("{}: {why}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| usage(error.to_string()))?;
        Plan::parse(&text).map_err(usage)
    }

    fn parse(text: &str) -> Result<Plan, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if file.source.is_empty() {
            return Err(String::from("expected at least one [[source]]"));
        }
        let window = file.window.map(|w| Window::parse(&w).ok_or_else(|| format!("window = {w:?}: expected \"22:00-06:00\"")));
        let sources: Vec<Source> = file.source.into_iter().map(Source::of_file).collect::<Result<_, _>>()?;
        let twice = (1..sources.len()).find(|&at| sources[..at].iter().any(|other| other.name == sources[at].name));
        if let Some(at) = twice {
            return Err(format!("two sources are called {:?}; give them names", sources[at].name));
        }
        Ok(Plan {
            sources,
            store: file.store,
            store_id: file.store_id,
            whom: Whom::Everybody,
            jobs: file.jobs.unwrap_or(2 * JOBS).max(1),
            window: window.transpose()?,
            retries: file.retries.unwrap_or(RETRIES),
            level: file.level,
            ledger: true,
        })
    }
}

impl Source {
    fn of_file(file: FileSource) -> Result<Source, String> {
        let rate = |key: &str, text: &Option<String>| match text {
            None => Ok(0),
            Some(text) => bytes(text).ok_or_else(|| format!("{key} = {text:?}: expected bytes a second, such as \"20MB\"")),
        };
        let ssh = Ssh {
            program: file.ssh.unwrap_or_else(|| Ssh::default().program),
            command: file.command.unwrap_or_else(|| Ssh::default().command),
        };
        Ok(Source {
            name: file.name.unwrap_or_else(|| file.from.clone()),
            bandwidth: rate("bandwidth", &file.bandwidth)?,
            read_rate: rate("read-rate", &file.read_rate)?,
            from: From::parse(&file.from, ssh)?,
            users: file.users,
            exclude: file.exclude,
            jobs: file.jobs.unwrap_or(JOBS).max(1),
        })
    }
}

impl From {
    /// Reads `local:`, `local:/etc/imapd.conf` or the name of a peer.
    pub fn parse(text: &str, ssh: Ssh) -> Result<From, String> {
        if let Some(conf) = text.strip_prefix("local:") {
            let conf = (!conf.is_empty()).then(|| conf.to_owned());
            let host =
                HostOptions::new(&conf, &None, &None, false).map_err(|_| format!("source {text}: expected a full path"))?;
            return Ok(From::Local(Box::new(host)));
        }
        if matches!(Peer::parse(text)?, Peer::Tls(_) | Peer::StartTls(_)) {
            return Err(format!("source {text}: backups are pulled through ssh, not through TLS; expected ssh://HOST"));
        }
        Ok(From::Peer { name: text.to_owned(), ssh })
    }
}

/// Bytes: a number, and kB, MB or GB behind it (powers of 1000).
pub fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let factor = match text[digits..].trim().trim_end_matches('B').to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
store = "/srv/cylinder"
window = "22:00-06:00"

[[source]]
from = "ssh://cyrus@imap1"
exclude = ["test*"]
bandwidth = "20MB"
command = "/opt/cylinder serve"

[[source]]
name = "here"
from = "local:"
users = ["*@example.org", "%shared"]
jobs = 2
"#;

    #[test]
    fn a_file_says_what_to_do() {
        let plan = Plan::parse(GOOD).expect("a plan");
        let [first, second] = &plan.sources[..] else { panic!("two sources") };
        assert_eq!((first.name.as_str(), first.bandwidth, first.jobs), ("ssh://cyrus@imap1", 20_000_000, JOBS));
        let anna = |domain: &str| Owner::User(format!("anna@{domain}").into_bytes());
        assert!(first.takes(&anna("example.net")) && !first.takes(&Owner::User(b"tester".to_vec())));
        assert!(second.takes(&anna("example.org")) && !second.takes(&anna("example.net")) && second.takes(&Owner::Shared));
        assert!(matches!(&second.from, From::Local(_)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_line() {
        for (bad, why) in [
            ("store = 1", "string"),
            ("store = \"/s\"\nsource = []", "at least one"),
            ("store = \"/s\"\ncolour = 1\n[[source]]\nfrom = \"local:\"", "colour"),
            ("store = \"/s\"\n[[source]]\nfrom = \"imap1\"", "expected ssh://"),
            ("store = \"/s\"\n[[source]]\nfrom = \"local:\"\nbandwidth = \"fast\"", "20MB"),
            ("store = \"/s\"\nwindow = \"night\"\n[[source]]\nfrom = \"local:\"", "22:00-06:00"),
            ("store = \"/s\"\n[[source]]\nfrom = \"local:\"\n[[source]]\nfrom = \"local:\"", "two sources"),
        ] {
            let error = Plan::parse(bad).expect_err(bad);
            assert!(error.contains(why), "{bad}: {error}");
        }
    }

    #[test]
    fn a_window_may_reach_over_midnight() {
        let window = Window::parse("22:00-06:00").expect("a window");
        let at = |hour, minute| window.has(Time::constant(hour, minute, 0, 0));
        assert!(at(22, 0) && at(23, 59) && at(0, 0) && at(5, 59) && !at(6, 0) && !at(21, 59));
        assert_eq!((Window::parse("6-7"), Window::parse("06:00-06:00")), (None, None));
        assert_eq!(
            [bytes("5"), bytes("5 kB"), bytes("2G"), bytes("x"), bytes("5XB")],
            [Some(5), Some(5000), Some(2_000_000_000), None, None]
        );
    }
}
