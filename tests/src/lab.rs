//! Real Cyrus servers for tests, by way of `tests/lab/cyrus-lab`, whose head tells how they are made.
//!
//! A [`Lab`] is one private server with its own data, on its own loopback address; any number of them run at once, in one test
//! or in many. It ends, and its data are deleted, when it is dropped. Needs root and the installed server: a test that finds
//! no server fails and names the command that installs it.

use crate::imap::Imap;
use crate::sieve;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// The releases of Cyrus that the lab can run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "each is the release of that number")]
pub enum Version {
    V3_2,
    V3_6,
    V3_10,
    V3_12,
}

impl Version {
    /// All of them, the oldest first.
    pub const ALL: [Version; 4] = [Version::V3_2, Version::V3_6, Version::V3_10, Version::V3_12];

    /// As the script calls it.
    pub fn name(self) -> &'static str {
        match self {
            Version::V3_2 => "3.2",
            Version::V3_6 => "3.6",
            Version::V3_10 => "3.10",
            Version::V3_12 => "3.12",
        }
    }
}

/// A server of one test.
pub struct Lab {
    version: Version,
    home: TempDir,
    facts: BTreeMap<String, String>,
}

impl Lab {
    /// Starts a server. The options go into imapd.conf over the script's own; `{dir}` in a value is the data directory.
    ///
    /// Panics if it does not answer, with what the script said.
    #[track_caller]
    pub fn start(version: Version, options: &[(&str, &str)]) -> Lab {
        let home = tempfile::Builder::new().prefix("cyrus-lab-").tempdir().unwrap_or_else(|e| panic!("a directory: {e}"));
        let mut lab = Lab { version, home, facts: BTreeMap::new() };
        lab.start_again(options);
        lab
    }

    /// Starts a stopped server over its data; with other options, if wanted.
    #[track_caller]
    pub fn start_again(&mut self, options: &[(&str, &str)]) {
        let pairs = options.iter().map(|(key, value)| format!("{key}={value}"));
        let args = [self.version.name().to_owned(), self.home.path().display().to_string()].into_iter().chain(pairs);
        let facts = script("start", args);
        let facts = facts.lines().filter_map(|line| line.split_once('='));
        self.facts = facts.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    }

    /// Stops the server and waits until its last process has ended. The data stay.
    #[track_caller]
    pub fn stop(&self) {
        script("stop", [self.home.path()]);
    }

    /// Kills all of its processes, as an administrator in a hurry does. The data stay as they are.
    #[track_caller]
    pub fn crash(&self) {
        script("crash", [self.home.path()]);
    }

    /// The release, such as `3.6.1`.
    pub fn release(&self) -> &str {
        self.fact("release")
    }

    /// The directory below which the server sees the world: `/`, or a chroot. What Cylinder takes as `--root`.
    pub fn root(&self) -> &Path {
        Path::new(self.fact("root"))
    }

    /// Its imapd.conf, seen from [`Lab::root`]. What Cylinder takes as `--imapd-conf`.
    pub fn conf(&self) -> &str {
        self.fact("conf")
    }

    /// Its data directory, seen from [`Lab::root`]: `lib` is the configuration directory, `spool` the partition, `sieve` the
    /// scripts, `run/lock` the locks.
    pub fn dir(&self) -> &str {
        self.fact("dir")
    }

    /// Where a path that the server knows is for this process.
    pub fn outside(&self, path: &str) -> PathBuf {
        self.root().join(path.trim_start_matches('/'))
    }

    /// The address of the server.
    pub fn host(&self) -> &str {
        self.fact("host")
    }

    /// A port: `imap`, `sieve`, or `sync` for the replication server.
    pub fn port(&self, service: &str) -> u16 {
        self.fact(service).parse().unwrap_or_else(|e| panic!("port {service}: {e}"))
    }

    /// An IMAP connection of a user. Users exist by logging in; `cyrus` is the administrator.
    #[track_caller]
    pub fn login(&self, user: &str) -> Imap {
        Imap::login(self.host(), self.port("imap"), user)
    }

    /// Makes a user: the INBOX. Gives a connection of it.
    #[track_caller]
    pub fn new_user(&self, user: &str) -> Imap {
        let mut imap = self.login(user);
        imap.create("INBOX");
        imap
    }

    /// Uploads a Sieve script of a user, and makes it the active one if wanted.
    #[track_caller]
    pub fn put_script(&self, user: &str, name: &str, script: &str, active: bool) {
        sieve::put_script(self.host(), self.port("sieve"), user, name, script, active);
    }

    /// Runs one of the server's programs, such as `mbexamine` or `cyr_expire`, as its user and with its configuration.
    pub fn output(&self, program: &str, args: &[&str]) -> Output {
        let mut command = command("run");
        command.arg(self.home.path()).arg(program).args(args);
        command.output().unwrap_or_else(|e| panic!("{}: {e}", SCRIPT))
    }

    /// As [`Lab::output`], for a program that must succeed; gives what it wrote.
    #[track_caller]
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.output(program, args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {}\n{errors}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn fact(&self, key: &str) -> &str {
        self.facts.get(key).unwrap_or_else(|| panic!("{SCRIPT} did not tell {key}"))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // A second panic would hide the first one, so this only tells.
        match command("remove").arg(self.home.path()).output() {
            Ok(output) if output.status.success() => {}
            other => eprintln!("the lab in {} is not removed: {other:?}", self.home.path().display()),
        }
    }
}

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/cyrus-lab");

fn command(verb: &str) -> Command {
    let mut command = Command::new(SCRIPT);
    command.arg(verb).stdin(Stdio::null());
    command
}

/// Runs the script and gives what it wrote; panics with its complaint if it fails.
#[track_caller]
fn script<A: AsRef<OsStr>>(verb: &str, args: impl IntoIterator<Item = A>) -> String {
    let output = command(verb).args(args).output().unwrap_or_else(|e| panic!("{SCRIPT}: {e}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{SCRIPT} {verb}: {}\n{complaint}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}
