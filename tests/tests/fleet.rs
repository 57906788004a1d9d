//! `cylinder backup --config`: a thousand users of two hosts in one run, some of whom cannot be saved, runs that are stopped,
//! and runs that meet.

use cylinder_core::guid::Guid;
use cylinder_tests::cli::{Ran, Running};
use cylinder_tests::proof::{Store, binary};
use cylinder_tests::spool::Spool;
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Signal, kill_process};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What must come comes within this time, on any machine.
const SOON: Duration = Duration::from_secs(60);

fn message(user: &str, n: u32) -> Vec<u8> {
    format!("From: {user}@example.org\r\nSubject: {n}\r\nMessage-ID: <{n}.{user}>\r\n\r\nText {n} of {user}.\r\n").into_bytes()
}

/// Two hosts, whose users are `a...` and `b...`, each with one message in INBOX, and a store.
struct World {
    store: Store,
    users: BTreeSet<String>,
    /// The directories of the INBOXes.
    inboxes: BTreeMap<String, PathBuf>,
    /// Bytes of each message, at least.
    size: usize,
}

impl World {
    fn new(users_of_each: u32) -> World {
        World::of(users_of_each, 0)
    }

    fn of(users_of_each: u32, size: usize) -> World {
        let mut world = World { store: Store::new(), users: BTreeSet::new(), inboxes: BTreeMap::new(), size };
        for (seed, host) in [(1, "a"), (2, "b")] {
            let root = world.store.beside(host);
            let mut spools: Vec<Spool> = Vec::new();
            for n in 0..users_of_each {
                let user = format!("{host}{n:03}");
                let mut spool = Spool::create(&root, &user, seed << 32 | u64::from(n)).expect("a spool");
                spool.deliver("INBOX", &world.content(&user)).expect("a message");
                world.inboxes.insert(user.clone(), spool.folder_dir("INBOX"));
                world.users.insert(user);
                spools.push(spool);
            }
            Spool::save_together(&mut spools).expect("mailboxes.db");
        }
        world
    }

    /// A user's only message. No two are alike, and none can be deflated to next to nothing.
    fn content(&self, user: &str) -> Vec<u8> {
        let mut content = message(user, 1);
        let mut word = Guid::of(&content);
        while content.len() < self.size {
            content.extend_from_slice(format!("{word}\r\n").as_bytes());
            word = Guid::of(&word.0);
        }
        content
    }

    /// Writes a configuration: both hosts, and what else there is.
    fn config(&self, name: &str, head: &str, more: &str) -> PathBuf {
        self.config_with(name, head, "", more)
    }

    /// The same with some lines about each host.
    fn config_with(&self, name: &str, head: &str, of_each: &str, more: &str) -> PathBuf {
        let mut text = format!("store = \"{}\"\nretries = 1\n{head}\n", self.store.dir().display());
        for host in ["a", "b"] {
            let (cylinder, root) = (binary().display(), self.store.beside(host));
            let from = format!("exec:{cylinder} serve --offline --root {}", root.display());
            text.push_str(&format!("[[source]]\nname = \"{host}\"\nfrom = \"{from}\"\n{of_each}\n"));
        }
        let path = self.store.beside(name);
        fs::write(&path, text + more).expect("a configuration");
        path
    }

    fn start(&self, config: &Path) -> Running {
        let mut command = Command::new(binary());
        command.args(["backup", "--json", "--config"]).arg(config).env_remove("CYLINDER_STORE");
        Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()))
    }

    fn run(&self, config: &Path) -> Ran {
        self.start(config).end()
    }

    fn archive(&self, user: &str) -> PathBuf {
        self.store.archive(user)
    }

    /// Whose archive is there.
    fn archived(&self) -> usize {
        self.users.iter().filter(|user| self.archive(user).is_file()).count()
    }

    /// Every archive, byte for byte.
    fn archives(&self) -> BTreeMap<String, Guid> {
        let content = |user: &String| Some((user.clone(), Guid::of(&fs::read(self.archive(user)).ok()?)));
        self.users.iter().filter_map(content).collect()
    }

    /// All archives are good, and have what is in the spools.
    #[track_caller]
    fn is_whole(&self) {
        self.is_whole_but(0);
    }

    /// The same, but that older snapshots of so many users lack something that they had.
    fn is_whole_but(&self, lacking: usize) {
        let ran = Running::start(
            self.store.command(&["verify", "--json"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()),
        )
        .end();
        assert_eq!(ran.exit, if lacking > 0 { 3 } else { 0 }, "{}", ran.stderr);
        let good = ran.json().iter().filter(|line| line["good"] == true).count();
        assert_eq!(good, self.users.len() - lacking);
        for user in [self.users.first(), self.users.last()].into_iter().flatten() {
            let shown = self.store.command(&["show", user, "INBOX/1"]).output().expect("a message");
            assert!(shown.stdout == self.content(user), "{user}");
        }
    }
}

fn summary(ran: &Ran) -> Value {
    ran.json().into_iter().find(|line| line["event"] == "summary").unwrap_or_else(|| panic!("no summary: {ran:?}"))
}

/// Exit codes by user.
#[track_caller]
fn exits(ran: &Ran) -> BTreeMap<String, i64> {
    let users = ran.json().into_iter().filter(|line| line["event"] == "user");
    let mut exits = BTreeMap::new();
    for line in users {
        let (user, exit) = (line["user"].as_str().expect("a name").to_owned(), line["exit"].as_i64().expect("a code"));
        assert!(exits.insert(user.clone(), exit).is_none(), "{user} is told of twice");
    }
    exits
}

/// A user whom something is wrong with.
struct Bad {
    /// What the run must say of the user.
    exit: i64,
    repair: Box<dyn FnOnce()>,
}

/// Puts the trouble with number `n` upon a user.
fn break_user(world: &World, user: &str, n: usize) -> Bad {
    let inbox = world.inboxes[user].clone();
    let dir = world.store.user_dir(user);
    let aside = world.store.beside(&format!("{user}.aside"));
    match n % 5 {
        // An index that is none.
        0 => {
            let index = inbox.join("cyrus.index");
            let good = fs::read(&index).expect("an index");
            fs::write(&index, b"no index at all").expect("an index");
            Bad { exit: 3, repair: Box::new(move || fs::write(&index, good).expect("an index")) }
        }
        // A message that cannot be read: a directory has its name.
        1 => {
            let file = inbox.join("1.");
            fs::rename(&file, &aside).expect("a message");
            fs::create_dir(&file).expect("a directory");
            let repair = move || {
                fs::remove_dir(&file).expect("a directory");
                fs::rename(&aside, &file).expect("a message");
            };
            Bad { exit: 3, repair: Box::new(repair) }
        }
        // The spool directory is not there.
        2 => {
            fs::rename(&inbox, &aside).expect("a directory");
            Bad { exit: 3, repair: Box::new(move || fs::rename(&aside, &inbox).expect("a directory")) }
        }
        // Somebody else writes to the archive.
        3 => {
            fs::create_dir_all(&dir).expect("a directory");
            let lock = File::create(dir.join("lock")).expect("a lock file");
            fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).expect("a lock");
            Bad { exit: 5, repair: Box::new(move || drop(lock)) }
        }
        // Something is in the way of the archive.
        _ => {
            fs::create_dir_all(dir.parent().expect("a directory")).expect("a directory");
            fs::write(&dir, b"in the way").expect("a file");
            Bad { exit: 1, repair: Box::new(move || fs::remove_file(&dir).expect("a file")) }
        }
    }
}

#[test]
fn of_a_thousand_users_those_who_can_be_saved_are_and_the_others_are_named() {
    let world = World::new(500);
    let bad: Vec<(String, Bad)> = world
        .users
        .iter()
        .skip(7)
        .step_by(20)
        .enumerate()
        .map(|(n, user)| (user.clone(), break_user(&world, user, n)))
        .collect();
    assert_eq!(bad.len(), 50);
    let down = "[[source]]\nname = \"down\"\nfrom = \"exec:/nonexistent/cylinder serve\"\n";
    let config = world.config("all.toml", "", down);
    let ran = world.run(&config);
    assert_eq!(ran.exit, 3, "{}", ran.stderr);
    let mut expected: BTreeMap<String, i64> = world.users.iter().map(|user| (user.clone(), 0)).collect();
    expected.extend(bad.iter().map(|(user, bad)| (user.clone(), bad.exit)));
    assert_eq!(exits(&ran), expected);
    let told = summary(&ran);
    for (key, value) in [("users", 1000), ("not_clean", 50), ("sources_lost", 1), ("left", 0), ("exit", 3), ("changed", 980)] {
        assert_eq!(told[key], value, "{key}: {told}");
    }
    assert_eq!(told["stopped"], false);
    assert!(ran.stderr.contains("cylinder: down: given up: cannot be reached"), "{}", ran.stderr);
    // A second run has the same to say and nothing to do.
    let before = world.archives();
    let again = world.run(&config);
    assert_eq!((again.exit, exits(&again)), (3, expected), "{}", again.stderr);
    assert_eq!((&summary(&again)["changed"], &summary(&again)["messages_added"]), (&0.into(), &0.into()));
    assert_eq!(world.archives(), before, "nothing is written when nothing is new");
    // Once all is repaired, a run without the host that is down is clean.
    bad.into_iter().for_each(|(_, bad)| (bad.repair)());
    let healed = world.run(&world.config("two.toml", "", ""));
    assert_eq!((healed.exit, healed.stderr.as_str()), (0, ""));
    assert_eq!(summary(&healed)["not_clean"], 0);
    // Two of five could not be saved whole at first: their first snapshots say so for good.
    world.is_whole_but(20);
}

#[test]
fn whoever_has_waited_longest_comes_first() {
    let world = World::new(12);
    let config = world.config("one.toml", "jobs = 1", "");
    let first = world.run(&config);
    assert_eq!((first.exit, exits(&first).len()), (0, 24), "{}", first.stderr);
    // As if some had been saved long ago, and two never.
    let ledger = world.store.dir().join("last-runs");
    let text = fs::read_to_string(&ledger).expect("a ledger");
    assert_eq!(text.lines().count(), 24, "{text}");
    let old = |line: &str| match line.split_once(' ') {
        Some((_, user @ ("a007" | "b003"))) => Some(format!("1000 {user}\n")),
        Some((_, user @ "a009")) => Some(format!("2000 {user}\n")),
        Some((_, "a011" | "b011")) => None,
        _ => Some(format!("{line}\n")),
    };
    fs::write(&ledger, text.lines().filter_map(old).collect::<String>()).expect("a ledger");
    let second = world.run(&config);
    let order = |host: &str| {
        let users = second.json().into_iter().filter_map(|line| line["user"].as_str().map(str::to_owned));
        users.filter(|user| user.starts_with(host)).collect::<Vec<String>>()
    };
    assert_eq!(order("a")[..4], ["a011", "a007", "a009", "a000"]);
    assert_eq!(order("b")[..3], ["b011", "b003", "b000"]);
    let text = fs::read_to_string(&ledger).expect("a ledger");
    assert!(text.lines().count() == 24 && text.lines().all(|line| line.len() > "1700000000 ".len()), "{text}");
}

#[test]
fn two_runs_at_once_do_not_hurt_each_other() {
    let world = World::new(100);
    let config = world.config("two.toml", "", "");
    let runs = [world.start(&config), world.start(&config)].map(Running::end);
    for ran in &runs {
        // Where the other one was at work is nothing to do, or a user who is busy.
        assert!(exits(ran).values().all(|exit| matches!(exit, 0 | 5)), "{ran:?}");
        assert!(matches!(ran.exit, 0 | 3), "{ran:?}");
        assert_eq!(summary(ran)["users"], 200);
    }
    let changed: u64 = runs.iter().filter_map(|ran| summary(ran)["changed"].as_u64()).sum();
    assert_eq!(changed, 200, "each user is saved by one of them");
    let after = world.run(&config);
    assert_eq!((after.exit, &summary(&after)["changed"]), (0, &0.into()), "{}", after.stderr);
    world.is_whole();
}

#[test]
fn a_run_that_is_stopped_ends_cleanly_and_the_next_one_goes_on() {
    let world = World::new(250);
    let config = world.config("two.toml", "jobs = 2", "");
    let running = world.start(&config);
    let begun = Instant::now();
    while world.archived() < 40 {
        assert!(begun.elapsed() < SOON, "{} archives", world.archived());
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(running.pid(), Signal::TERM).expect("a process");
    let ran = running.end();
    let told = summary(&ran);
    assert_eq!((ran.exit, &told["stopped"], &told["exit"]), (3, &true.into(), &3.into()), "{ran:?}");
    let (done, left) = (exits(&ran).len() as u64, told["left"].as_u64().expect("a number"));
    assert!(done >= 40 && left > 0 && done + left == 500, "{done} done, {left} left: {told}");
    let saved = exits(&ran).values().filter(|exit| **exit == 0).count();
    let next = world.run(&config);
    assert_eq!((next.exit, next.stderr.as_str()), (0, ""));
    let changed = summary(&next)["changed"].as_u64().expect("a number") as usize;
    assert!(changed <= 500 - saved, "{changed} were done again, {saved} had been saved");
    // Those who had not been saved came first.
    let first = next.json().into_iter().find(|line| line["event"] == "user").expect("a user");
    assert!(!first["snapshot"].is_null(), "{first}");
    world.is_whole();
}

/// The peak of a process that runs, in bytes, by what the system says of it.
fn peak(pid: rustix::process::Pid) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// What a connection costs the side that pulls: a thread, its archive's buffers, and what the loop may hold for it.
#[test]
fn a_hundred_connections_at_once_take_bounded_memory() {
    let world = World::of(50, 1 << 20);
    let config = world.config_with("hundred.toml", "jobs = 100", "jobs = 50", "");
    let mut running = world.start(&config);
    let mut most = 0;
    while running.is_running() {
        most = most.max(peak(running.pid()).unwrap_or(0));
        std::thread::sleep(Duration::from_millis(2));
    }
    let ran = running.end();
    assert_eq!((ran.exit, &summary(&ran)["users"]), (0, &100.into()), "{}", ran.stderr);
    println!("{} MiB with a hundred connections", most >> 20);
    assert!(most > 0 && most < 128 << 20, "{} MiB", most >> 20);
    world.is_whole();
}

#[test]
fn a_source_gives_no_more_in_a_second_than_it_may() {
    for key in ["bandwidth", "read-rate"] {
        let world = World::of(2, 1 << 20);
        let config = world.config_with("slow.toml", "", &format!("jobs = 1\n{key} = \"1MB\""), "");
        let ran = world.run(&config);
        assert_eq!((ran.exit, &summary(&ran)["users"]), (0, &4.into()), "{}", ran.stderr);
        // Two users of each source, a megabyte each; the sources go on beside each other.
        let seconds = ran.took.as_secs_f64();
        assert!((1.8..20.0).contains(&seconds), "{key}: {seconds} s");
        println!("{key}: {seconds} s");
        world.is_whole();
    }
}

/// A time of the day in this many minutes, by this host's clock.
fn in_minutes(minutes: i64) -> String {
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_mins(minutes);
    let time = jiff::tz::TimeZone::system().to_datetime(now).time();
    format!("{:02}:{:02}", time.hour(), time.minute())
}

#[test]
fn outside_of_its_window_a_run_begins_with_nobody() {
    let world = World::new(2);
    let window = format!("window = \"{}-{}\"", in_minutes(120), in_minutes(180));
    let ran = world.run(&world.config("later.toml", &window, ""));
    assert_eq!((ran.exit, exits(&ran).len(), world.archived()), (0, 0, 0), "{ran:?}");
    let window = format!("window = \"{}-{}\"", in_minutes(-120), in_minutes(120));
    let ran = world.run(&world.config("now.toml", &window, ""));
    assert_eq!((ran.exit, exits(&ran).len()), (0, 4), "{ran:?}");
    world.is_whole();
}

/// It ends within a minute, for windows are told in minutes, and most of this is waiting: four seconds for each user.
#[test]
fn when_its_window_ends_a_run_finishes_its_users_and_the_next_one_begins_with_the_others() {
    let world = World::of(40, 1 << 16);
    binary();
    // Not in the last seconds of a minute, or it would end before anybody is asked.
    while jiff::tz::TimeZone::system().to_datetime(jiff::Timestamp::now()).second() > 45 {
        std::thread::sleep(Duration::from_millis(200));
    }
    let of_each = "jobs = 1\nread-rate = \"16kB\"";
    let window = format!("window = \"{}-{}\"", in_minutes(-60), in_minutes(1));
    let begin = jiff::Timestamp::now();
    let ran = world.run(&world.config_with("night.toml", &window, of_each, ""));
    let lasted = format!("{window}, from {begin} to {}, {:?}", jiff::Timestamp::now(), ran.took);
    let told = summary(&ran);
    let (done, left) = (exits(&ran).len(), told["left"].as_u64().expect("a number"));
    assert_eq!((ran.exit, &told["not_clean"]), (0, &0.into()), "{ran:?}");
    assert!(done > 0 && left > 0 && done as u64 + left == 80, "{done} done, {left} left: {lasted}");
    assert_eq!(world.archived(), done, "nobody was left half done");
    let next = world.run(&world.config("now.toml", "", ""));
    assert_eq!((next.exit, &summary(&next)["changed"]), (0, &left.into()), "{next:?}");
    world.is_whole();
}
