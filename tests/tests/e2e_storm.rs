//! Backups of a user whose mail is moved about all the time: none is missed, nobody waits long, nothing locks up.
//!
//! `cargo test` makes 12 backups in each layout; `CYLINDER_STORM` is another number, and `tests/lab/storm` makes 1,000.

use cylinder_core::guid::Guid;
use cylinder_tests::choose::{Choose, Sampler};
use cylinder_tests::cli::{Bench, arrival, message};
use cylinder_tests::imap::Imap;
use cylinder_tests::lab::{Lab, Version};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The folders among which messages move.
const FOLDERS: u32 = 6;
/// Messages that are there before the storm, and are never expunged.
const LASTING: u32 = 60;
/// The hold limit that the backups run with, and what an IMAP command may wait beyond it.
const HOLD: Duration = Duration::from_secs(2);
const SLACK: Duration = Duration::from_secs(1);

/// What the clients did.
#[derive(Default)]
struct Storm {
    over: AtomicBool,
    commands: AtomicU64,
    longest_us: AtomicU64,
    /// Messages that were delivered and will never be expunged.
    delivered: Mutex<BTreeSet<Guid>>,
}

impl Storm {
    /// Does something over IMAP, and remembers how long it took.
    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.commands.fetch_add(1, Ordering::Relaxed);
        self.longest_us.fetch_max(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
        result
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

fn backups() -> u32 {
    std::env::var("CYLINDER_STORM").ok().and_then(|n| n.parse().ok()).unwrap_or(12)
}

fn folder(n: u32) -> String {
    format!("Storm/{n}")
}

/// Moves all of a folder to another, and sets flags on the way.
fn mover(storm: &Storm, imap: &mut Imap, dice: &mut Sampler) {
    while !storm.is_over() {
        let (from, to) = (folder(dice.upto(FOLDERS - 1)), folder(dice.upto(FOLDERS - 1)));
        storm.timed(|| imap.select(&from));
        storm.timed(|| imap.command("UID STORE 1:* +FLAGS (\\Seen $Moved)"));
        if from != to {
            storm.timed(|| imap.command(format!("UID MOVE 1:5 {to}")));
            storm.timed(|| imap.command(format!("UID MOVE 6:* {to}")));
        }
        storm.timed(|| imap.command("UNSELECT"));
    }
}

/// Delivers messages that stay, and others that are expunged at once.
fn deliverer(storm: &Storm, imap: &mut Imap, dice: &mut Sampler) {
    for n in 0.. {
        if storm.is_over() {
            return;
        }
        let lasting = message(10_000 + n);
        let mailbox = folder(dice.upto(FOLDERS - 1));
        storm.timed(|| imap.append(&mailbox, &[], arrival(n), &lasting));
        storm.delivered.lock().expect("no test has failed yet").insert(Guid::of(&lasting));
        let uid = storm.timed(|| imap.append("Storm/Gone", &[], arrival(n), &message(5_000_000 + n)));
        storm.timed(|| imap.expunge("Storm/Gone", &uid.to_string()));
    }
}

/// Renames a folder with a child, back and forth, and copies what is in it.
fn renamer(storm: &Storm, imap: &mut Imap, dice: &mut Sampler) {
    while !storm.is_over() {
        storm.timed(|| imap.rename("Storm/Here", "Storm/There"));
        let to = folder(dice.upto(FOLDERS - 1));
        storm.timed(|| imap.select("Storm/There"));
        storm.timed(|| imap.command(format!("UID COPY 1 {to}")));
        storm.timed(|| imap.command("UNSELECT"));
        storm.timed(|| imap.rename("Storm/There", "Storm/Here"));
    }
}

/// Has the server unlink what is expunged, so that indexes are replaced and files vanish under the hands of a backup.
fn expirer(storm: &Storm, lab: &Lab) {
    while !storm.is_over() {
        lab.run("cyr_expire", &["-E", "1", "-X", "0"]);
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// All messages of the newest snapshot that are visible, and in how many folders each of them is.
fn archived(bench: &Bench) -> BTreeMap<Guid, u32> {
    let cylinder = &bench.cylinder;
    let mut found = BTreeMap::new();
    for folder in cylinder.folders("anna") {
        for listed in cylinder.messages("anna", &folder.name, false).into_iter().filter(|m| m.stored) {
            *found.entry(Guid::from_hex(listed.guid.as_bytes()).expect("a GUID")).or_default() += 1;
        }
    }
    found
}

/// Makes backups in the storm, and looks at each.
fn weather(storm: &Storm, bench: &Bench, runs: u32) {
    let (mut longest_hold, mut twice) = (0, 0);
    for run in 0..runs {
        let before = storm.delivered.lock().expect("no test has failed yet").clone();
        let ran = bench.cylinder.backup(&["anna"]);
        let told = ran.user("anna");
        assert!(ran.exit == 0 && told["unsettled"] == false, "backup {run}: {told}");
        longest_hold = longest_hold.max(told["longest_hold_ms"].as_i64().expect("a number"));
        let has = archived(bench);
        let missing: Vec<&Guid> = before.iter().filter(|guid| !has.contains_key(guid)).collect();
        assert!(missing.is_empty(), "backup {run} lacks {missing:?}");
        // The server moves in two steps: it copies, lets the locks go, and expunges. What is in one move is in two folders.
        let often: Vec<&Guid> = before.iter().filter(|guid| has[guid] > 2).collect();
        assert!(often.is_empty(), "backup {run} has {often:?} in more than two folders");
        twice += before.iter().filter(|guid| has[guid] > 1).count();
    }
    let longest = Duration::from_micros(storm.longest_us.load(Ordering::Relaxed));
    let (commands, delivered) = (storm.commands.load(Ordering::Relaxed), storm.delivered.lock().expect("a set").len());
    println!(
        "{runs} backups, {commands} IMAP commands, {delivered} lasting messages, {twice} of them seen in the middle of a move"
    );
    println!("longest command {longest:?}, longest hold {longest_hold} ms");
    assert!(longest < HOLD + SLACK, "a command took {longest:?}");
    assert!(longest_hold <= HOLD.as_millis() as i64, "locks were held for {longest_hold} ms");
}

fn storm(options: &[(&str, &str)]) {
    let mut bench = Bench::start(Version::V3_6, options);
    for name in ["Storm", "Storm/Gone", "Storm/Here", "Storm/Here/Child"] {
        bench.imap.create(name);
    }
    (0..FOLDERS).for_each(|n| bench.imap.create(&folder(n)));
    let storm = Storm::default();
    for n in 0..LASTING {
        let text = message(n);
        bench.imap.append(&folder(n % FOLDERS), &[], arrival(n), &text);
        storm.delivered.lock().expect("no test has failed yet").insert(Guid::of(&text));
    }
    bench.imap.append("Storm/Here", &[], arrival(1), &message(9_000));
    bench.imap.append("Storm/Here/Child", &[], arrival(1), &message(9_001));
    std::thread::scope(|scope| {
        let clients: [fn(&Storm, &mut Imap, &mut Sampler); 3] = [mover, deliverer, renamer];
        for (seed, client) in clients.into_iter().enumerate() {
            let (storm, lab) = (&storm, &bench.lab);
            scope.spawn(move || client(storm, &mut lab.login("anna"), &mut Sampler::new(seed as u64)));
        }
        scope.spawn(|| expirer(&storm, &bench.lab));
        // Whatever fails in here must end the clients, or the test would hang instead of telling.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| weather(&storm, &bench, backups())));
        storm.over.store(true, Ordering::Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    // The server closes a connection that says nothing for half an hour.
    bench.imap = bench.lab.login("anna");
    bench.backup();
    let has = archived(&bench);
    assert!(storm.delivered.lock().expect("a set").iter().all(|guid| has[guid] == 1), "a message is lost or doubled");
    bench.cylinder.verify("anna");
}

#[test]
fn no_message_that_lives_through_a_backup_is_missing_from_it() {
    storm(&[]);
}

/// Here a rename gives the files other places.
#[test]
fn none_is_missing_where_directories_are_by_name_either() {
    storm(&[("mailbox_legacy_dirs", "yes")]);
}
