//! The simulation against the world that it stands for: the same body runs on the simulated disk and on a real directory, on
//! simulated locks and on real ones of another process, on the simulated server and on Cyrus 3.6.1, and must come to the same.
//!
//! The last test needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_core::cyrus::index::flag;
use cylinder_core::error::Fault;
use cylinder_core::guid::Guid;
use cylinder_core::io::{FileId, How, Io, LockMode, Op, Place, Reply, Task};
use cylinder_core::time::{Span, Time};
use cylinder_tests::choose::{Choose, Sampler};
use cylinder_tests::cli::{Bench, arrival, bodies, message};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::drive;
use cylinder_tests::host::{Folder, Host, Mail};
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::life;
use cylinder_tests::proof::{binary, init};
use cylinder_transport_local::{Config, Local};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// The real directories: a store, and a tree that stands for a mail server's.
struct Real {
    dir: TempDir,
    local: Local,
}

impl Real {
    fn new() -> Real {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["store", "host"] {
            std::fs::create_dir(dir.path().join(name)).expect("a directory");
        }
        let local = Local::new(Config { store: dir.path().join("store"), ..Config::default() });
        Real { dir, local }
    }

    fn run<T, F: Future<Output = T>>(&mut self, make: impl FnOnce(Io) -> F) -> T {
        self.local.run(Task::new(Local::now(), make), &mut |_| {})
    }
}

/// What an answer says that must be the same everywhere: not inodes, times and owners.
fn told(reply: &Result<Reply, Fault>) -> String {
    match reply {
        Ok(Reply::Stat(stat)) => format!("{:?} of {} bytes", stat.kind, if is_dir(stat) { 0 } else { stat.size }),
        Ok(Reply::Stats(stats)) => stats.iter().map(|stat| told(&(*stat).map(Reply::Stat))).collect::<Vec<_>>().join(", "),
        Ok(Reply::Bytes(bytes)) => format!("{} bytes, {}", bytes.len(), Guid::of(bytes)),
        Ok(Reply::Whole(bytes, stat)) => format!("{} in {:?} of {}", Guid::of(bytes), stat.kind, stat.size),
        Ok(Reply::Holder(holder)) => format!("held: {}", holder.is_some()),
        Ok(Reply::File(_)) => String::from("a file"),
        other => format!("{other:?}"),
    }
}

fn is_dir(stat: &cylinder_core::io::Stat) -> bool {
    stat.kind == cylinder_core::io::FileKind::Directory
}

/// Operations by chance on a few names in the store, and what each came to.
struct Chance {
    sampler: Sampler,
    open: Vec<(FileId, How)>,
    log: Vec<String>,
}

impl Chance {
    fn name(&mut self) -> Place {
        const NAMES: [&str; 8] = ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "x/y"];
        Place::store(NAMES[self.sampler.upto(NAMES.len() as u32 - 1) as usize])
    }

    /// The same, or the store itself.
    fn directory(&mut self) -> Place {
        if self.sampler.upto(3) == 0 { Place::store(".") } else { self.name() }
    }

    /// A file that is open, if one is.
    fn file(&mut self) -> Option<(FileId, How)> {
        let most = self.open.len().checked_sub(1)?;
        Some(self.open[self.sampler.upto(most as u32) as usize])
    }

    fn mode(&mut self) -> LockMode {
        if self.sampler.flip() { LockMode::Shared } else { LockMode::Exclusive }
    }

    fn on_name(&mut self) -> Op {
        let place = self.name();
        let buffer = Vec::new();
        match self.sampler.upto(11) {
            0 => Op::Stat(place),
            1 => Op::StatMany(vec![place, self.name(), self.name()]),
            2 => Op::List { dir: self.directory(), max: self.sampler.upto(4) as usize },
            3 => Op::ReadWhole { place, max: u64::from(self.sampler.upto(2000)), buffer },
            4 => Op::MakeDir(place),
            5 => Op::SyncDir(self.directory()),
            6 => Op::Unlink(place),
            7 => Op::RemoveDir(place),
            8 => Op::Open { place, how: How::Read },
            9 => Op::Open { place, how: How::Write },
            10 => Op::Open { place, how: How::Lock },
            _ => Op::Open { place, how: How::Create },
        }
    }

    fn on_file(&mut self, file: FileId, how: How) -> Op {
        let offset = u64::from(self.sampler.upto(1500));
        let can_write = matches!(how, How::Write | How::Create);
        match self.sampler.upto(9) {
            0 => Op::FStat(file),
            1 | 2 => Op::ReadAt { file, offset, len: self.sampler.upto(700) as usize, buffer: b"old".to_vec() },
            3 | 4 if can_write => {
                let byte = self.sampler.bits() as u8;
                Op::WriteAt { file, offset, data: vec![byte; self.sampler.upto(600) as usize] }
            }
            5 if can_write => Op::Truncate { file, len: offset },
            6 if can_write => Op::Sync(file),
            7 => Op::Lock { file, mode: self.mode() },
            8 => Op::Holder { file, mode: self.mode() },
            9 => Op::Unlock(file),
            _ => Op::Close(file),
        }
    }

    /// What is in the way of a rename is asked first: the core renames files, over files or to names that are free.
    async fn rename(&mut self, io: &Io) -> Option<Op> {
        let (from, to) = (self.name(), self.name());
        let is_file = |stat: Result<_, Fault>| stat.map(|stat| !is_dir(&stat));
        match (is_file(io.stat(&from).await), is_file(io.stat(&to).await)) {
            (Ok(false), _) | (_, Ok(false)) => None,
            _ => Some(Op::Rename { from, to }),
        }
    }

    async fn step(&mut self, io: &Io) {
        let op = match (self.sampler.upto(15), self.file()) {
            (0, _) => self.rename(io).await,
            (1..=8, Some((file, how))) => Some(self.on_file(file, how)),
            _ => Some(self.on_name()),
        };
        let Some(op) = op else { return };
        let how = if let Op::Open { how, .. } = &op { Some(*how) } else { None };
        let line = shown(&op, &self.open);
        if let Op::Close(file) = &op {
            self.open.retain(|(open, _)| open != file);
        }
        let reply = io.start(op).await;
        self.log.push(format!("{line}: {}", told(&reply)));
        if let (Ok(Reply::File(file)), Some(how)) = (reply, how) {
            self.open.push((file, how));
        }
    }
}

/// An operation, with files by their place among those that are open, for their numbers may differ.
fn shown(op: &Op, open: &[(FileId, How)]) -> String {
    let mut text = match op {
        Op::WriteAt { file, offset, data } => format!("write {file:?} {offset} {} times {:?}", data.len(), data.first()),
        other => format!("{other:?}"),
    };
    for (n, (file, _)) in open.iter().enumerate() {
        text = text.replace(&format!("{file:?}"), &format!("#{n}"));
    }
    text
}

async fn by_chance(io: Io, seed: u64) -> Vec<String> {
    let mut chance = Chance { sampler: Sampler::new(seed), open: Vec::new(), log: Vec::new() };
    for _ in 0..120 {
        chance.step(&io).await;
    }
    for place in ["a", "b", "d/a", "d/b", "d/e/a"] {
        let reply = io.start(Op::ReadWhole { place: Place::store(place), max: 1 << 20, buffer: Vec::new() }).await;
        chance.log.push(format!("in the end {place}: {}", told(&reply)));
    }
    chance.log
}

#[test]
fn the_simulated_disk_answers_as_a_real_directory_does() {
    let mut seen = BTreeSet::new();
    for seed in 0..60 {
        let simulated = drive(&mut SimDisk::new(), |io| by_chance(io, seed)).finished();
        let real = Real::new().run(|io| by_chance(io, seed));
        if let Some(n) = (0..simulated.len().max(real.len())).find(|&n| simulated.get(n) != real.get(n)) {
            let before = simulated[n.saturating_sub(12).min(simulated.len())..n.min(simulated.len())].join("\n");
            panic!("seed {seed}:\n{before}\nsimulated: {:?}\nreal:      {:?}", simulated.get(n), real.get(n));
        }
        seen.extend(simulated.iter().map(|line| {
            let kind = line.split([' ', '(']).next().unwrap_or_default();
            let comes_to = line.rsplit(": ").next().unwrap_or_default();
            (kind.to_owned(), comes_to.starts_with("Err").then(|| comes_to.to_owned()))
        }));
    }
    // Every operation that was tried has come to something and to nothing.
    let faults = seen.iter().filter(|(_, fault)| fault.is_some()).count();
    assert!(seen.len() - faults >= 18 && faults >= 20, "too little was tried: {seen:?}");
}

/// A process that holds a classic POSIX lock, as Cyrus does.
struct Holder {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Holder {
    fn new(path: &Path, mode: LockMode) -> Holder {
        let lock = if mode == LockMode::Shared { "LOCK_SH" } else { "LOCK_EX" };
        let script = "import fcntl, sys\nf = open(sys.argv[1], 'r+b')\nfcntl.lockf(f, getattr(fcntl, sys.argv[2]))\n\
                      print('locked', flush=True)\nsys.stdin.read()\n";
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(path).arg(lock).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("python3");
        let mut line = String::new();
        let stdout: Option<ChildStdout> = child.stdout.take();
        BufReader::new(stdout.expect("its output")).read_line(&mut line).expect("a line");
        assert_eq!(line, "locked\n");
        Holder { stdin: child.stdin.take(), child }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.wait();
    }
}

const MODES: [LockMode; 2] = [LockMode::Shared, LockMode::Exclusive];

/// Every way of asking for a lock, while another file of our own may hold one.
async fn locks(io: Io, place: Place) -> Vec<String> {
    let mut log = Vec::new();
    for how in [How::Lock, How::Read] {
        for own in [None, Some(LockMode::Shared), Some(LockMode::Exclusive)] {
            for mode in MODES {
                let (first, second) = (io.open(&place, How::Lock).await, io.open(&place, how).await);
                let (Ok(first), Ok(second)) = (first, second) else { panic!("it cannot be opened") };
                let got = match own {
                    Some(own) => io.lock(first, own).await,
                    None => Ok(()),
                };
                let taken = io.lock(second, mode).await;
                let holder = io.holder(second, mode).await.map(|holder| holder.is_some());
                let changed = io.lock(second, LockMode::Shared).await;
                let let_go = io.start(Op::Unlock(first)).await.is_ok();
                let after = io.lock(second, mode).await;
                log.push(format!("{how:?} {own:?} {mode:?}: {got:?} {taken:?} {holder:?} {changed:?} {let_go} {after:?}"));
                for file in [first, second] {
                    io.close(file).await.expect("closed");
                }
            }
        }
    }
    log
}

#[test]
fn simulated_locks_exclude_as_those_of_another_process_do() {
    for outside in [None, Some(LockMode::Shared), Some(LockMode::Exclusive)] {
        let mut disk = SimDisk::new();
        let place = Place::host("/var/lock/a.lock");
        disk.put_file(&place, "");
        if let Some(mode) = outside {
            disk.hold(&place, mode, "process 7 (imapd)");
        }
        let simulated = drive(&mut disk, |io| locks(io, place)).finished();
        let mut real = Real::new();
        let path = real.dir.path().join("host/a.lock");
        std::fs::write(&path, "").expect("a file");
        let holder = outside.map(|mode| Holder::new(&path, mode));
        let place = Place::host(path.as_os_str().as_bytes());
        assert_eq!(simulated, real.run(|io| locks(io, place)), "outside: {outside:?}");
        drop(holder);
        assert_eq!(simulated.len(), 12);
    }
}

/// A mail server with one user, as far as both have it. Folders are named as the user names them.
trait Cyrus {
    fn create(&mut self, folder: &str);
    fn deliver(&mut self, folder: &str, n: u32) -> u32;
    fn flag(&mut self, folder: &str, uid: u32, is_set: bool);
    fn copy(&mut self, folder: &str, uid: u32, to: &str);
    fn expunge(&mut self, folder: &str, uid: u32);
    fn rename(&mut self, from: &str, to: &str);
    fn delete(&mut self, folder: &str);
    /// Removes what is expunged, and the folders that are deleted.
    fn clean_up(&mut self);
    /// Backs the user up: what the run says of itself, and what the newest snapshot has.
    fn backup(&mut self) -> (String, Vec<String>);
}

/// What a snapshot has, by the command itself. The time in the name of a deleted folder is left out.
fn listed(store: &Path) -> Vec<String> {
    let list = |words: &[&str]| {
        let output =
            Command::new(binary()).arg("list").arg("anna").args(words).arg("--json").arg("--store").arg(store).output();
        let output = output.expect("cylinder");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).expect("text");
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<serde_json::Value>>()
    };
    let mut all = Vec::new();
    for folder in list(&[]) {
        let name = folder["folder"].as_str().expect("a name");
        let shown = name.rsplit_once('.').filter(|_| name.starts_with("DELETED.")).map_or(name, |(before, _)| before);
        all.push(format!("{shown}: {} and {} expunged", folder["exists"], folder["expunged"]));
        for m in list(&[name, "--expunged"]) {
            all.push(format!("{shown}/{} {} {} {} {}", m["uid"], m["guid"], m["flags"], m["expunged"], m["stored"]));
        }
    }
    all
}

struct Simulated {
    disk: SimDisk,
    host: Host,
    deleted: u32,
    /// The last UID of each folder, by uniqueid, when it was last opened.
    opened: BTreeMap<String, u32>,
}

impl Simulated {
    fn new() -> Simulated {
        let (mut disk, mut host) = (SimDisk::new(), Host::new());
        host.folder("user.anna");
        disk.wait_until(Time::from_secs(1_795_000_000).plus(Span::from_ms(123)));
        Simulated { disk, host, deleted: 0, opened: BTreeMap::new() }
    }

    /// The simulated store as a real one.
    fn store(&self) -> TempDir {
        let store = tempfile::tempdir().expect("a directory");
        for (name, content) in self.disk.store() {
            let path = store.path().join(name.trim_start_matches("store:"));
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            std::fs::write(path, content).expect("a file");
        }
        init(store.path());
        store
    }

    /// Who opens a folder for writing takes `\Recent` from what is new, and the index says so.
    fn open(&mut self, folder: &str) -> &mut Folder {
        let folder = self.host.folder(&Simulated::name(folder));
        let last = folder.messages.last().map_or(0, |m| m.uid);
        if self.opened.insert(folder.id.clone(), last).unwrap_or(0) < last {
            folder.modseq += 1;
        }
        folder
    }

    fn name(folder: &str) -> String {
        if folder == "INBOX" { String::from("user.anna") } else { format!("user.anna.{folder}") }
    }
}

impl Cyrus for Simulated {
    fn create(&mut self, folder: &str) {
        self.deleted += 1;
        let id = Guid::of(&self.deleted.to_be_bytes()).to_hex()[..24].to_owned();
        self.host.folders.insert(Simulated::name(folder), Folder::new(&id));
    }

    fn deliver(&mut self, folder: &str, n: u32) -> u32 {
        self.host.folder(&Simulated::name(folder)).deliver(&message(n))
    }

    fn flag(&mut self, folder: &str, uid: u32, is_set: bool) {
        let (folder, flags) = (self.open(folder), if is_set { flag::FLAGGED } else { 0 });
        // Nothing is written where nothing changes.
        if folder.messages.iter().any(|m| m.uid == uid && m.flags != flags) {
            folder.flag(uid, flags);
        }
    }

    fn copy(&mut self, folder: &str, uid: u32, to: &str) {
        let found = self.open(folder).messages.iter().find(|m| m.uid == uid).cloned();
        let source = found.expect("a message");
        let to = self.host.folder(&Simulated::name(to));
        let copy = to.take(source.content, source.guid);
        to.flag(copy, source.flags);
    }

    fn expunge(&mut self, folder: &str, uid: u32) {
        let folder = self.open(folder);
        folder.modseq += 1;
        let found = folder.messages.iter_mut().find(|m| m.uid == uid).expect("a message");
        (found.expunged, found.flags) = (true, found.flags | flag::DELETED);
    }

    fn rename(&mut self, from: &str, to: &str) {
        let folder = self.host.folders.remove(&Simulated::name(from)).expect("a folder");
        self.host.folders.insert(Simulated::name(to), folder);
    }

    fn delete(&mut self, folder: &str) {
        let found = self.host.folders.remove(&Simulated::name(folder)).expect("a folder");
        self.deleted += 1;
        self.host.folders.insert(format!("DELETED.user.anna.{folder}.{:08X}", 0x6B00_0000 + self.deleted), found);
    }

    fn clean_up(&mut self) {
        self.host.folders.retain(|name, _| !name.starts_with("DELETED."));
        for folder in self.host.folders.values_mut() {
            if folder.messages.iter().any(|m| m.expunged) {
                folder.messages.retain(|m| !m.expunged);
                folder.modseq += 1;
            }
        }
    }

    fn backup(&mut self) -> (String, Vec<String>) {
        self.disk.wait_until(self.disk.now().plus(Span::from_secs(5)));
        self.host.publish(&mut self.disk);
        self.disk.wait_until(self.disk.now().plus(Span::from_secs(5)));
        let report = drive(&mut self.disk, life::backup).finished().expect("a backup");
        assert!(report.is_clean(), "{report:?}");
        let store = self.store();
        let told = [
            u64::from(report.commit.is_some()),
            report.folders,
            report.names_new,
            report.names_gone,
            report.messages_added,
            report.bytes_added,
            report.messages,
        ];
        (format!("{told:?}"), listed(store.path()))
    }
}

impl Cyrus for Bench {
    fn create(&mut self, folder: &str) {
        self.imap.create(folder);
    }

    fn deliver(&mut self, folder: &str, n: u32) -> u32 {
        self.imap.append(folder, &[], arrival(n), &message(n))
    }

    fn flag(&mut self, folder: &str, uid: u32, is_set: bool) {
        self.imap.store(folder, &uid.to_string(), if is_set { "+FLAGS (\\Flagged)" } else { "-FLAGS (\\Flagged)" });
        self.imap.unselect();
    }

    fn copy(&mut self, folder: &str, uid: u32, to: &str) {
        self.imap.copy(folder, &uid.to_string(), to);
        self.imap.unselect();
    }

    fn expunge(&mut self, folder: &str, uid: u32) {
        self.imap.expunge(folder, &uid.to_string());
        self.imap.unselect();
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.imap.rename(from, to);
    }

    fn delete(&mut self, folder: &str) {
        self.imap.delete(folder);
    }

    fn clean_up(&mut self) {
        self.lab.run("cyr_expire", &["-E", "1", "-X", "0", "-D", "0"]);
    }

    fn backup(&mut self) -> (String, Vec<String>) {
        let told = self.cylinder.backup_well("anna");
        let number = |key: &str| told[key].as_u64().unwrap_or_else(|| panic!("{key} in {told}"));
        let keys = ["folders", "names_new", "names_gone", "messages_added", "bytes_added", "messages"];
        let numbers: Vec<u64> = std::iter::once(u64::from(!told["snapshot"].is_null())).chain(keys.map(number)).collect();
        (format!("{numbers:?}"), listed(self.cylinder.store()))
    }
}

/// What the body knows of the user, so that it does only what can be done.
#[derive(Default)]
struct Known {
    folders: Vec<(String, Vec<u32>)>,
    made: u32,
    sent: u32,
}

/// One thing that happens to a mailbox, by chance. Gives what it was.
fn happens(cyrus: &mut dyn Cyrus, known: &mut Known, sampler: &mut Sampler) -> String {
    let at = sampler.upto(known.folders.len() as u32 - 1) as usize;
    let (name, uids) = known.folders[at].clone();
    let uid = (!uids.is_empty()).then(|| uids[sampler.upto(uids.len() as u32 - 1) as usize]);
    match (sampler.upto(11), uid) {
        (0..=2, _) | (_, None) => {
            known.sent += 1;
            let uid = cyrus.deliver(&name, known.sent);
            known.folders[at].1.push(uid);
            format!("message {} to {name}", known.sent)
        }
        (3..=4, Some(uid)) => {
            cyrus.flag(&name, uid, sampler.flip());
            format!("a flag of {name}/{uid}")
        }
        (5, Some(uid)) => {
            let to = sampler.upto(known.folders.len() as u32 - 1) as usize;
            let target = known.folders[to].0.clone();
            cyrus.copy(&name, uid, &target);
            // It is not told which UID that is: nothing more happens to it.
            format!("copy {name}/{uid} to {target}")
        }
        (6..=7, Some(uid)) => {
            cyrus.expunge(&name, uid);
            known.folders[at].1.retain(|other| *other != uid);
            format!("expunge {name}/{uid}")
        }
        (8, _) if at > 0 => {
            known.made += 1;
            let to = format!("Folder{}", known.made);
            cyrus.rename(&name, &to);
            known.folders[at].0.clone_from(&to);
            format!("{name} becomes {to}")
        }
        (9, _) if at > 0 => {
            cyrus.delete(&name);
            known.folders.remove(at);
            format!("{name} is deleted")
        }
        (10, _) => {
            cyrus.clean_up();
            String::from("clean up")
        }
        _ => {
            known.made += 1;
            let folder = format!("Folder{}", known.made);
            cyrus.create(&folder);
            known.folders.push((folder.clone(), Vec::new()));
            format!("{folder} is made")
        }
    }
}

/// Some weeks of a user with a backup after every thing or two. Gives what happened and what the backups came to.
fn weeks(cyrus: &mut dyn Cyrus, seed: u64) -> Vec<String> {
    let (mut sampler, mut log) = (Sampler::new(seed), Vec::new());
    let mut known = Known { folders: vec![(String::from("INBOX"), Vec::new())], ..Known::default() };
    for _ in 0..25 {
        for _ in 0..=sampler.upto(1) {
            log.push(happens(cyrus, &mut known, &mut sampler));
        }
        for _ in 0..2 {
            let (told, snapshot) = cyrus.backup();
            log.push(format!("backup {told}"));
            log.extend(snapshot);
        }
    }
    log
}

#[test]
fn the_simulated_server_is_backed_up_as_a_real_one_is() {
    for seed in 1..4 {
        let simulated = weeks(&mut Simulated::new(), seed);
        let real = weeks(&mut Bench::start(Version::V3_6, &[]), seed);
        if let Some(n) = (0..simulated.len().max(real.len())).find(|&n| simulated.get(n) != real.get(n)) {
            let before = simulated[n.saturating_sub(30)..n.min(simulated.len())].join("\n");
            panic!("seed {seed}:\n{before}\nsimulated: {:?}\nreal:      {:?}", simulated.get(n), real.get(n));
        }
    }
}

/// UID, flags and SHA-1 of each message of each folder.
type Mailboxes = BTreeMap<String, Vec<(u32, Vec<String>, Guid)>>;

#[test]
fn what_the_simulated_server_had_comes_back_on_a_real_one() {
    let lab = Lab::start(Version::V3_6, &[("delete_mode", "immediate")]);
    for seed in 1..4 {
        let mut cyrus = Simulated::new();
        weeks(&mut cyrus, seed);
        let store = cyrus.store();
        let ran = Command::new(binary())
            .args(["restore", "anna", "--all", "--exact", "--login", "cyrus", "--password-env", "LAB_PASSWORD", "--server"])
            .arg(format!("tcp:{}:{}", lab.host(), lab.port("sync")))
            .arg("--store")
            .arg(store.path())
            .env("LAB_PASSWORD", "any")
            .output()
            .expect("cylinder");
        assert!(ran.status.success(), "seed {seed}: {}{}", ran.stdout.escape_ascii(), ran.stderr.escape_ascii());
        let mut expected = Mailboxes::new();
        for (name, folder) in cyrus.host.folders.iter().filter(|(name, _)| name.starts_with("user.anna")) {
            let name = name.strip_prefix("user.anna.").unwrap_or("INBOX");
            let flags = |m: &Mail| if m.flags & flag::FLAGGED == 0 { vec![] } else { vec![String::from("\\Flagged")] };
            let visible = folder.messages.iter().filter(|m| !m.expunged);
            expected.insert(name.to_owned(), visible.map(|m| (m.uid, flags(m), m.guid)).collect());
        }
        let mut anna = lab.login("anna");
        let mut found = Mailboxes::new();
        for listed in anna.list("*") {
            let mut bodies = bodies(&mut anna, &listed.name);
            let messages = anna.fetch(&listed.name).into_iter();
            let with_body = messages.map(|m| (m.uid, m.flags, Guid::of(&bodies.remove(&m.uid).expect("a body"))));
            found.insert(listed.name, with_body.collect());
        }
        assert_eq!(found, expected, "seed {seed}");
        let mut admin = lab.login("cyrus");
        admin.set_acl("user/anna", "cyrus", "lrx");
        admin.delete("user/anna");
    }
}
