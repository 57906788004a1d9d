//! The command itself, run on a lab and asked what it knows, and the comparison of that with what IMAP says.
//!
//! The binary is that of [`crate::proof::binary`].

use crate::imap::{Imap, Message, Value as Answer, imap_date};
use crate::lab::{Lab, Version};
use crate::proof::{binary, init};
use cylinder_core::guid::Guid;
use cylinder_core::time::{Civil, Time};
use flate2::read::MultiGzDecoder;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// No command of a test needs this long, on any machine: whoever does hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// A store, and the server that is backed up into it.
pub struct Cylinder {
    root: PathBuf,
    conf: String,
    store: TempDir,
}

/// What a run of the command came to.
pub struct Ran {
    /// Exit code.
    pub exit: i32,
    /// Standard output as it is.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ran { exit, stdout, stderr, took } = self;
        write!(f, "exit {exit} after {took:?}; stderr: {stderr}stdout: {}", String::from_utf8_lossy(stdout))
    }
}

/// A file as stat(2) shows it: whether it is the same file, and was not written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stamp {
    ino: u64,
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// One folder as `list` has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    /// Its name in the archive.
    pub name: String,
    /// UIDVALIDITY.
    pub uidvalidity: u64,
    /// HIGHESTMODSEQ.
    pub highestmodseq: u64,
    /// Visible messages.
    pub exists: u64,
    /// Messages that are expunged and not unlinked.
    pub expunged: u64,
    /// Messages that could not be saved.
    pub missing: u64,
}

/// One message as `list` has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// What FETCH should say of it.
    pub message: Message,
    /// Its SHA-1, in hexadecimal.
    pub guid: String,
    /// Expunged.
    pub expunged: bool,
    /// The archive has its content.
    pub stored: bool,
}

impl Ran {
    /// The lines of standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        let lines = self.stdout.split(|&c| c == b'\n').filter(|line| !line.is_empty());
        let parse = |line: &[u8]| serde_json::from_slice(line).unwrap_or_else(|e| panic!("{}: {e}", line.escape_ascii()));
        lines.map(parse).collect()
    }

    /// What `backup --json` said of one user.
    #[track_caller]
    pub fn user(&self, user: &str) -> Value {
        let found = self.json().into_iter().find(|line| line["event"] == "user" && line["user"] == user);
        found.unwrap_or_else(|| panic!("nothing is said of {user}: {self:?}"))
    }
}

impl Cylinder {
    /// An empty store for this lab.
    pub fn new(lab: &Lab) -> Cylinder {
        let store = tempfile::Builder::new().prefix("cylinder-store-").tempdir().unwrap_or_else(|e| panic!("a directory: {e}"));
        init(store.path());
        Cylinder { root: lab.root().to_owned(), conf: lab.conf().to_owned(), store }
    }

    /// The store.
    pub fn store(&self) -> &Path {
        self.store.path()
    }

    /// `cylinder backup WORDS... --json`, not yet begun.
    pub fn backup_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("backup").args(words).arg("--json").arg("--store").arg(self.store());
        command.arg("--root").arg(&self.root).arg("--imapd-conf").arg(&self.conf);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// `cylinder backup WORDS... --json`, which gets users from another host, not yet begun.
    pub fn pull_command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg("backup").args(words).arg("--json").arg("--store").arg(self.store());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs [`Cylinder::pull_command`] to its end, whatever that is.
    #[track_caller]
    pub fn pull(&self, words: &[&str]) -> Ran {
        Running::start(&mut self.pull_command(words)).end()
    }

    /// Runs `cylinder backup` to its end, whatever that is.
    #[track_caller]
    pub fn backup(&self, words: &[&str]) -> Ran {
        Running::start(&mut self.backup_command(words)).end()
    }

    /// A backup of one user that must succeed and have nothing to complain about. Gives what it said of the user.
    #[track_caller]
    pub fn backup_well(&self, user: &str) -> Value {
        let ran = self.backup(&[user]);
        assert!(ran.exit == 0 && ran.stderr.is_empty(), "{ran:?}");
        let told = ran.user(user);
        assert_eq!((told["problems_count"].as_u64(), told["unsettled"].as_bool()), (Some(0), Some(false)), "{told}");
        told
    }

    /// A backup of one user that must find nothing new, and leave the archive alone.
    #[track_caller]
    pub fn backup_nothing(&self, user: &str) {
        let before = self.stamp(user);
        let told = self.backup_well(user);
        assert!(told["snapshot"].is_null(), "nothing has changed, and yet: {told}");
        assert_eq!(self.stamp(user), before, "an unchanged user's archive was touched");
    }

    /// Runs a command that reads the store.
    #[track_caller]
    pub fn read(&self, words: &[&str]) -> Ran {
        let mut command = Command::new(binary());
        command.args(words).arg("--store").arg(self.store());
        Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end()
    }

    #[track_caller]
    fn read_well(&self, words: &[&str]) -> Ran {
        let ran = self.read(words);
        assert!(ran.exit == 0 && ran.stderr.is_empty(), "cylinder {words:?}: {ran:?}");
        ran
    }

    /// The folders of the newest snapshot.
    #[track_caller]
    pub fn folders(&self, user: &str) -> Vec<Folder> {
        let folder = |line: Value| Folder {
            name: text(&line["folder"]),
            uidvalidity: number(&line["uidvalidity"]),
            highestmodseq: number(&line["highestmodseq"]),
            exists: number(&line["exists"]),
            expunged: number(&line["expunged"]),
            missing: line["missing"].as_array().map_or(0, |missing| missing.len() as u64),
        };
        let lines = self.read_well(&["list", user, "--json"]).json();
        lines.into_iter().filter(|line| line["exists"].is_u64()).map(folder).collect()
    }

    /// The folder of this name in the newest snapshot.
    #[track_caller]
    pub fn folder(&self, user: &str, name: &str) -> Folder {
        let folders = self.folders(user);
        folders.iter().find(|f| f.name == name).cloned().unwrap_or_else(|| panic!("no folder {name} in {folders:?}"))
    }

    /// The messages of a folder in the newest snapshot, with those that are expunged if wanted.
    #[track_caller]
    pub fn messages(&self, user: &str, folder: &str, expunged: bool) -> Vec<Listed> {
        let mut words = vec!["list", user, folder, "--json"];
        words.extend(expunged.then_some("--expunged"));
        self.read_well(&words).json().iter().map(listed).collect()
    }

    /// The content of a message: FOLDER/UID, or its GUID.
    #[track_caller]
    pub fn show(&self, user: &str, message: &str) -> Vec<u8> {
        self.read_well(&["show", user, message]).stdout
    }

    /// Reads the whole archive; it must be good.
    #[track_caller]
    pub fn verify(&self, user: &str) {
        let ran = self.read_well(&["verify", user, "--json"]);
        let told = &ran.json()[0];
        assert!(told["good"] == true && told["findings_count"] == 0, "{told}");
    }

    /// Reads the whole archive; it must not be damaged, whatever its snapshots lack.
    #[track_caller]
    pub fn is_sound(&self, user: &str) {
        let ran = self.read(&["verify", user, "--json"]);
        let told = &ran.json()[0];
        assert!(
            [0, 3].contains(&ran.exit) && told["findings_count"] == 0 && told["broken"] == Value::Array(Vec::new()),
            "{ran:?}"
        );
    }

    /// The only archive of this name.
    #[track_caller]
    pub fn archive(&self, user: &str) -> PathBuf {
        let mut found = self.archives(user);
        assert_eq!(found.len(), 1, "archives of {user}");
        found.remove(0)
    }

    /// True once the user was backed up.
    pub fn has_archive(&self, user: &str) -> bool {
        !self.archives(user).is_empty()
    }

    fn archives(&self, user: &str) -> Vec<PathBuf> {
        let dirs = std::fs::read_dir(self.store()).unwrap_or_else(|e| panic!("{}: {e}", self.store().display()));
        let candidates = dirs.map(|dir| dir.expect("a directory").path().join(user).join("archive.tar.gz"));
        candidates.filter(|path| path.is_file()).collect()
    }

    /// Whether anything was written to an archive.
    #[track_caller]
    pub fn stamp(&self, user: &str) -> Stamp {
        let path = self.archive(user);
        let stat = std::fs::metadata(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (mtime, ctime) = ((stat.mtime(), stat.mtime_nsec()), (stat.ctime(), stat.ctime_nsec()));
        Stamp { ino: stat.ino(), size: stat.size(), mtime, ctime }
    }

    /// The names of all entries of an archive, in their order.
    #[track_caller]
    pub fn entries(&self, user: &str) -> Vec<String> {
        self.contents(user).into_iter().map(|entry| entry.name).collect()
    }

    /// All entries of an archive, in their order.
    #[track_caller]
    pub fn contents(&self, user: &str) -> Vec<Entry> {
        let path = self.archive(user);
        let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut tar = tar::Archive::new(MultiGzDecoder::new(BufReader::new(file)));
        let entries = tar.entries().expect("a tar file");
        entries.map(|entry| read_entry(entry).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
    }
}

/// One entry of an archive, as a reader of another make finds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Where it leads, if it is a link.
    pub link: Option<String>,
    /// Size, mode and time of the last change.
    pub stat: (u64, u32, u64),
    /// SHA-1 of its content.
    pub sha1: Guid,
}

/// A server with one user, and a store: where most tests begin.
pub struct Bench {
    /// The server.
    pub lab: Lab,
    /// The command and its store.
    pub cylinder: Cylinder,
    /// The user.
    pub user: String,
    /// Logged in as the user.
    pub imap: Imap,
    namespace: Namespace,
}

/// What a backup appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News {
    /// What `backup --json` said.
    pub told: Value,
    /// The names of the new entries, but for those of the commit. A folder's directory is `*`, a message's SHA-1 too, and what
    /// comes several times has its number in front.
    pub entries: Vec<String>,
}

impl Bench {
    /// Starts a server of this version and makes the user `anna`.
    #[track_caller]
    pub fn start(version: Version, options: &[(&str, &str)]) -> Bench {
        Bench::of(Lab::start(version, options), "anna", Namespace::DEFAULT)
    }

    /// A bench with this server and this new user.
    #[track_caller]
    pub fn of(lab: Lab, user: &str, namespace: Namespace) -> Bench {
        let (cylinder, imap) = (Cylinder::new(&lab), lab.new_user(user));
        Bench { lab, cylinder, user: user.to_owned(), imap, namespace }
    }

    /// How the server shows names to the user.
    pub fn namespace(&self) -> Namespace {
        self.namespace
    }

    /// The name that a mailbox has for the user, from its parts below the INBOX.
    pub fn external(&self, parts: &[&str]) -> String {
        let parts = if self.namespace.alt { parts.to_vec() } else { [&["INBOX"], parts].concat() };
        parts.join(&self.namespace.separator.to_string())
    }

    /// Backs up the user, and tells what was appended. The archive must agree with IMAP, have each message once, and a second
    /// backup must find nothing to do.
    #[track_caller]
    pub fn backup(&mut self) -> News {
        let before = if self.cylinder.has_archive(&self.user) { self.cylinder.entries(&self.user).len() } else { 0 };
        let told = self.cylinder.backup_well(&self.user);
        let entries = self.cylinder.entries(&self.user);
        let mut messages: Vec<&String> = entries.iter().filter(|name| name.starts_with("files/")).collect();
        messages.sort();
        assert!(messages.windows(2).all(|pair| pair[0] != pair[1]), "a message is in the archive twice: {messages:?}");
        agrees(&self.cylinder, &mut self.imap, &self.user, self.namespace);
        self.cylinder.backup_nothing(&self.user);
        News { told, entries: summary(&entries[before..]) }
    }
}

fn read_entry(entry: std::io::Result<tar::Entry<'_, impl Read>>) -> std::io::Result<Entry> {
    let mut entry = entry?;
    let mut content = Vec::new();
    entry.read_to_end(&mut content)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (name, link) = (text(&entry.path_bytes()), entry.link_name_bytes().map(|link| text(&link)));
    let header = entry.header();
    Ok(Entry { name, link, stat: (header.entry_size()?, header.mode()?, header.mtime()?), sha1: Guid::of(&content) })
}

/// Sorts and counts names of entries.
fn summary(entries: &[String]) -> Vec<String> {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for entry in entries {
        let parts: Vec<&str> = entry.split('/').collect();
        let name = match parts[..] {
            ["meta", "about" | "commit" | "folders" | "messages"] => continue,
            ["folders", _, file] => format!("folders/*/{file}"),
            ["files", _] => "files/*".to_owned(),
            _ => entry.clone(),
        };
        *counts.entry(name).or_default() += 1;
    }
    let shown = counts.into_iter().map(|(name, n)| if n == 1 { name } else { format!("{n} {name}") });
    shown.collect()
}

/// A run of the command that has begun.
pub struct Running {
    child: Option<Child>,
    begun: Instant,
}

impl Running {
    /// Begins.
    #[track_caller]
    pub fn start(command: &mut Command) -> Running {
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Running { child: Some(child), begun: Instant::now() }
    }

    /// Its process.
    pub fn pid(&self) -> rustix::process::Pid {
        let id = self.child.as_ref().map_or(0, Child::id);
        rustix::process::Pid::from_raw(id as i32).expect("a process has a number")
    }

    /// True while it has not ended.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().expect("a child can be waited for").is_none())
    }

    /// Waits for its end. One that does not come ends the test.
    #[track_caller]
    pub fn end(mut self) -> Ran {
        let mut child = self.child.take().expect("it ends once");
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let out = std::thread::spawn(move || read_all(stdout));
        let err = std::thread::spawn(move || read_all(stderr));
        let status = loop {
            match child.try_wait().expect("a child can be waited for") {
                Some(status) => break Some(status),
                None if self.begun.elapsed() > DEADLINE => break None,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let took = self.begun.elapsed();
        if status.is_none() {
            kill(&mut child);
        }
        let (stdout, stderr) = (out.join().expect("stdout"), err.join().expect("stderr"));
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        let status = status.unwrap_or_else(|| panic!("cylinder hangs; so far it said {stderr}"));
        Ran { exit: status.code().unwrap_or_else(|| panic!("{status}: {stderr}")), stdout, stderr, took }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            kill(child);
        }
    }
}

/// Ends a child that a failed test leaves behind. If it is gone already, so much the better.
fn kill(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
    }
    bytes
}

/// Runs a command that is no part of the product, and must succeed.
#[track_caller]
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{complaint}", output.status);
    output
}

#[track_caller]
fn listed(line: &Value) -> Listed {
    let mut flags: Vec<String> = line["flags"].as_array().expect("flags").iter().map(text).collect();
    flags.sort();
    let date = text(&line["internaldate"]);
    Listed {
        message: Message {
            uid: number(&line["uid"]) as u32,
            flags,
            internal_date: parse_time(&date).unwrap_or_else(|| panic!("time {date}")),
            size: number(&line["size"]),
        },
        guid: text(&line["guid"]),
        expunged: line["expunged"].as_bool().expect("expunged"),
        stored: line["stored"].as_bool().expect("stored"),
    }
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

/// Reads `2022-03-01T08:00:01Z`, as RFC 3339 has it in UTC.
fn parse_time(text: &str) -> Option<Time> {
    let numbers: Vec<u32> = text.strip_suffix('Z')?.split(['-', 'T', ':']).map_while(|n| n.parse().ok()).collect();
    let [year, month, day, hour, minute, second] = numbers[..] else { return None };
    Some(Civil { year: i64::from(year), month, day, hour, minute, second }.to_time())
}

/// How a server shows names to a user: what a test must know to compare them.
#[derive(Clone, Copy, Debug)]
pub struct Namespace {
    /// The hierarchy separator.
    pub separator: char,
    /// The user's folders stand beside the INBOX, not below it.
    pub alt: bool,
}

impl Namespace {
    /// As a lab has it unless it is told otherwise.
    pub const DEFAULT: Namespace = Namespace { separator: '/', alt: true };

    /// The name in the archive of one of the user's own folders; `None` for one that belongs to somebody else.
    pub fn archived(self, name: &str) -> Option<String> {
        let parts: Vec<String> = name.split(self.separator).map(|part| part.replace('.', "^")).collect();
        let first = parts[0].as_str();
        if self.alt && matches!(first, "Other Users" | "Shared Folders") {
            return None;
        }
        match (first, self.alt) {
            ("INBOX", _) => Some(parts.join(".")),
            (_, true) => Some(format!("INBOX.{}", parts.join("."))),
            (_, false) => None,
        }
    }
}

/// The archive's newest snapshot must say of every folder of a user what IMAP says, and have every byte of every message.
///
/// Folders that IMAP does not list (deleted ones, and the server's own) are not looked at.
#[track_caller]
pub fn agrees(cylinder: &Cylinder, imap: &mut Imap, user: &str, namespace: Namespace) {
    let mut folders: BTreeMap<String, Folder> =
        cylinder.folders(user).into_iter().filter(|f| is_listed_by_imap(&f.name)).map(|f| (f.name.clone(), f)).collect();
    for listed in imap.list("*") {
        let is_mailbox = !listed.attributes.iter().any(|a| matches!(a.as_str(), "\\Noselect" | "\\NonExistent"));
        let Some(name) = namespace.archived(&listed.name).filter(|_| is_mailbox) else { continue };
        let folder = folders.remove(&name).unwrap_or_else(|| panic!("{user}: {name} is not in the archive"));
        agrees_in_folder(cylinder, imap, user, &listed.name, &folder);
    }
    assert!(folders.is_empty(), "{user}: IMAP knows nothing of {:?}", folders.keys());
}

fn is_listed_by_imap(name: &str) -> bool {
    !name.starts_with("DELETED.") && !name.starts_with("INBOX.#")
}

/// The archive must say of one folder what IMAP says of the mailbox `external`.
#[track_caller]
pub fn agrees_in_folder(cylinder: &Cylinder, imap: &mut Imap, user: &str, external: &str, folder: &Folder) {
    let status = imap.status(external);
    let told = (folder.exists, folder.uidvalidity, folder.highestmodseq, folder.missing);
    assert_eq!(told, (status.messages, status.uidvalidity, status.highestmodseq, 0), "{user}: {external}");
    let archived = cylinder.messages(user, &folder.name, false);
    let by_name = cylinder.messages(user, external, false);
    assert_eq!(format!("{by_name:?}"), format!("{archived:?}"), "{user}: {external}: the server's name is another folder's");
    let messages: Vec<&Message> = archived.iter().map(|l| &l.message).collect();
    let expected = imap.fetch(external);
    assert_eq!(messages, expected.iter().collect::<Vec<_>>(), "{user}: {external}");
    let bodies = bodies(imap, external);
    for listed in &archived {
        let body = bodies.get(&listed.message.uid).unwrap_or_else(|| panic!("{user}: {external}: no body of {listed:?}"));
        assert_eq!(Guid::of(body).to_hex(), listed.guid, "{user}: {external}: {listed:?}");
        assert!(listed.stored && !listed.expunged, "{user}: {external}: {listed:?}");
    }
}

/// The content of all messages of a mailbox, by UID.
#[track_caller]
pub fn bodies(imap: &mut Imap, mailbox: &str) -> BTreeMap<u32, Vec<u8>> {
    imap.examine(mailbox);
    let response = imap.ok("UID FETCH 1:* (UID BODY.PEEK[])");
    let fetched = response.untagged.iter().filter_map(|values| match &values[..] {
        [_, Answer::Atom(name), Answer::List(items)] if name == b"FETCH" => Some(items),
        _ => None,
    });
    let mut bodies = BTreeMap::new();
    for items in fetched {
        let get = |name: &str| items.chunks_exact(2).find(|pair| pair[0].text() == name).map(|pair| &pair[1]);
        if let (Some(uid), Some(body)) = (get("UID").and_then(|uid| uid.text().parse().ok()), get("BODY[]")) {
            bodies.insert(uid, body.bytes().to_vec());
        }
    }
    bodies
}

/// `show` must give the bytes that IMAP gives and that lie in the spool, for every visible message of a mailbox.
///
/// `place` is the directory of the message files.
#[track_caller]
pub fn shows(cylinder: &Cylinder, imap: &mut Imap, user: &str, external: &str, archived: &str, place: &Path) {
    for (uid, body) in bodies(imap, external) {
        let file = place.join(format!("{uid}."));
        let stored = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        assert!(stored == body, "{}: the server gives other bytes", file.display());
        assert!(cylinder.show(user, &format!("{archived}/{uid}")) == body, "{archived}/{uid}: show gives other bytes");
        let guid = Guid::of(&body).to_hex();
        assert!(cylinder.show(user, &guid) == body, "{guid}: show gives other bytes");
    }
}

/// A message that is like no other, of a length that depends on `n`.
pub fn message(n: u32) -> Vec<u8> {
    let mut text = format!(
        "From: Anna <anna@example.org>\r\nTo: bob@example.org\r\nSubject: Message {n}\r\nMessage-ID: <{n}@example.org>\r\n\r\n"
    );
    for line in 0..n % 40 {
        text.push_str(&format!("Line {line} of message {n}.\r\n"));
    }
    text.into_bytes()
}

/// The time of arrival of a message.
pub fn arrival(n: u32) -> Time {
    Time::from_secs(1_600_000_000 + i64::from(n) * 61)
}

/// Adds messages `from..to` to a mailbox.
#[track_caller]
pub fn append_many(imap: &mut Imap, mailbox: &str, from: u32, to: u32) -> Vec<u32> {
    (from..to).map(|n| imap.append(mailbox, &[], arrival(n), &message(n))).collect()
}

/// As [`append_many`], in one command.
#[track_caller]
pub fn append_at_once(imap: &mut Imap, mailbox: &str, from: u32, to: u32) {
    let part = |n: u32| {
        let (date, body) = (imap_date(arrival(n)), message(n));
        [format!(" () \"{date}\" {{{}+}}\r\n", body.len()).as_bytes(), &body].concat()
    };
    let parts: Vec<Vec<u8>> = (from..to).map(part).collect();
    imap.ok([format!("APPEND \"{mailbox}\"").as_bytes(), &parts.concat()].concat());
}

/// Directory of a mailbox's message files, for whoever looks from outside; `name` is the administrator's name of it.
#[track_caller]
pub fn spool_dir(lab: &Lab, name: &str) -> PathBuf {
    // From 3.10 on it takes names in UTF-8 unless told otherwise.
    let is_utf8 = lab.release().starts_with("3.1");
    let words: &[&str] = if is_utf8 { &["-7", name] } else { &[name] };
    lab.outside(lab.run("mbpath", words).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_turned_into_those_of_the_archive() {
        let alt = Namespace::DEFAULT;
        let plain = Namespace { separator: '.', alt: false };
        let cases = [
            (alt, "INBOX", Some("INBOX")),
            (alt, "Work/a.b", Some("INBOX.Work.a^b")),
            (alt, "Other Users/bob/x", None),
            (alt, "Shared Folders/x", None),
            (plain, "INBOX.Work.x", Some("INBOX.Work.x")),
            (plain, "user.bob.x", None),
            (plain, "shared", None),
        ];
        for (namespace, name, archived) in cases {
            assert_eq!(namespace.archived(name).as_deref(), archived, "{name}");
        }
    }

    #[test]
    fn times_of_json_are_read() {
        assert_eq!(parse_time("2022-03-01T08:00:01Z"), Some(Time::from_secs(1_646_121_601)));
        assert_eq!(parse_time("2022-03-01T08:00:01"), None);
    }
}
