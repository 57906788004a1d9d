//! A user of a real server under load, backed up every few seconds, while backups, compactions and the server itself are killed
//! at random: in the end nothing is lost, and a restore has what the server has.
//!
//! `cargo test` takes a quarter of a minute; `CYLINDER_SOAK` is another number of seconds, and `tests/lab/soak` takes half an
//! hour. Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_core::guid::Guid;
use cylinder_tests::choose::{Choose, Sampler};
use cylinder_tests::cli::{Cylinder, Namespace, Ran, Running, agrees, append_many, bodies, message};
use cylinder_tests::imap::Imap;
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::{Node, binary, tree};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, RwLock};
use std::time::{Duration, Instant};

const FOLDERS: u32 = 5;
const CLIENTS: u64 = 3;

/// What the clients share.
#[derive(Default)]
struct Soak {
    over: AtomicBool,
    /// The number of the next message.
    next: AtomicU32,
    /// Messages that the server has taken and that nobody expunges.
    lasting: Mutex<BTreeSet<Guid>>,
}

fn folder(n: u32) -> String {
    format!("Soak/{n}")
}

/// Does one thing after the other until it is over; panics when the server is killed.
fn session(soak: &Soak, imap: &mut Imap, dice: &mut Sampler) {
    while !soak.over.load(Relaxed) {
        let (from, to) = (folder(dice.upto(FOLDERS - 1)), folder(dice.upto(FOLDERS - 1)));
        let n = soak.next.fetch_add(1, Relaxed);
        match dice.upto(9) {
            0..=2 => {
                append_many(imap, &from, n, n + 1);
                soak.lasting.lock().expect("nobody panics with it").insert(Guid::of(&message(n)));
            }
            3 => {
                let uid = append_many(imap, "Soak/Gone", n, n + 1)[0];
                imap.expunge("Soak/Gone", &uid.to_string());
            }
            4 | 5 => imap.store(&from, "1:*", ["+FLAGS.SILENT (\\Seen $Done)", "-FLAGS.SILENT (\\Seen)"][n as usize % 2]),
            6 if from != to => {
                imap.select(&from);
                imap.command(format!("UID MOVE 1:3 {to}"));
            }
            7 => {
                imap.command("UNSELECT");
                let names = [["Soak/Here", "Soak/There"], ["Soak/There", "Soak/Here"]][n as usize % 2];
                imap.command(format!("RENAME {} {}", names[0], names[1]));
            }
            8 => {
                imap.command(format!("CREATE Soak/Brief{}", n % 3));
                imap.command(format!("DELETE Soak/Brief{}", (n + 1) % 3));
            }
            _ => std::thread::sleep(Duration::from_millis(20)),
        }
        imap.command("UNSELECT");
    }
}

fn client(soak: &Soak, lab: &RwLock<Lab>, seed: u64) {
    let mut dice = Sampler::new(seed);
    while !soak.over.load(Relaxed) {
        // The server is not killed while somebody logs in, so that whatever else goes wrong there is seen.
        let imap = lab.read().map(|lab| lab.login("anna"));
        let mut imap = imap.expect("nobody panics with it");
        let _ = catch_unwind(AssertUnwindSafe(|| session(soak, &mut imap, &mut dice)));
    }
}

/// A `cylinder` that is killed after so many milliseconds, unless it has ended by then.
fn killed(command: &mut Command, after: u32) -> bool {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
    std::thread::sleep(Duration::from_millis(after.into()));
    let was_running = child.try_wait().expect("a child").is_none();
    let _ = child.kill();
    let _ = child.wait();
    was_running
}

fn compaction(cylinder: &Cylinder) -> Command {
    let mut command = Command::new(binary());
    command.args(["compact", "anna", "--now", "--keep-within", "0h", "--quiet", "--store"]).arg(cylinder.store());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What was done, and how often.
type Done = BTreeMap<&'static str, u32>;

/// Does one thing, and says what.
fn act(cylinder: &Cylinder, lab: &RwLock<Lab>, dice: &mut Sampler) -> &'static str {
    let backup = |exits: &[i32]| {
        let ran = cylinder.backup(&["anna"]);
        assert!(exits.contains(&ran.exit), "{ran:?}");
    };
    match dice.upto(19) {
        // A message that is expunged and unlinked while it is fetched is told of; the end has to be clean.
        0..=8 => backup(&[0, 3]),
        9..=12 => {
            return if killed(&mut cylinder.backup_command(&["anna"]), dice.upto(120)) { "backups killed" } else { "backups" };
        }
        13 | 14 => {
            let ran: Ran = Running::start(&mut compaction(cylinder)).end();
            assert!(matches!(ran.exit, 0 | 3), "{ran:?}");
            return "compactions";
        }
        15 | 16 => return if killed(&mut compaction(cylinder), dice.upto(60)) { "compactions killed" } else { "compactions" },
        17 | 18 => {
            cylinder.verify("anna");
            return "verified";
        }
        _ => {
            let running = Running::start(&mut cylinder.backup_command(&["anna"]));
            let mut lab = lab.write().expect("nobody panics with it");
            std::thread::sleep(Duration::from_millis(dice.upto(100).into()));
            lab.crash();
            let ran = running.end();
            assert!(matches!(ran.exit, 0 | 1 | 3), "{ran:?}");
            lab.start_again(&[]);
            drop(lab);
            return "server killed";
        }
    }
    "backups"
}

/// The SHA-1 of each message that the server has, and how often.
fn on_server(imap: &mut Imap) -> BTreeMap<Guid, u32> {
    let mut found = BTreeMap::new();
    for listed in imap.list("*").into_iter().filter(|listed| !listed.attributes.iter().any(|a| a == "\\Noselect")) {
        bodies(imap, &listed.name).into_values().for_each(|body| *found.entry(Guid::of(&body)).or_default() += 1);
    }
    found
}

/// The same of what `restore` writes, but for deleted folders.
fn restored(cylinder: &Cylinder) -> BTreeMap<Guid, u32> {
    let dir = tempfile::tempdir().expect("a directory");
    let ran =
        cylinder.read(&["restore", "anna", "--all", "--format", "eml", "--quiet", "--dir", &dir.path().display().to_string()]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let mut found = BTreeMap::new();
    for (name, node) in tree(dir.path()) {
        if name.ends_with(".eml") && matches!(node, Node::File(..)) && !name.contains('#') {
            *found.entry(node.sha1().expect("a file")).or_default() += 1;
        }
    }
    found
}

#[test]
fn nothing_is_lost_however_often_either_side_is_killed() {
    let seconds = std::env::var("CYLINDER_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(15);
    let (lab, soak) = (Lab::start(Version::V3_6, &[]), Soak::default());
    let cylinder = Cylinder::new(&lab);
    let mut imap = lab.new_user("anna");
    for name in ["Soak", "Soak/Gone", "Soak/Here", "Soak/Here/Child"] {
        imap.create(name);
    }
    (0..FOLDERS).for_each(|n| imap.create(&folder(n)));
    imap.logout();
    let lab = RwLock::new(lab);
    let mut done = Done::new();
    std::thread::scope(|scope| {
        for seed in 0..CLIENTS {
            let (soak, lab) = (&soak, &lab);
            scope.spawn(move || client(soak, lab, seed));
        }
        let mut dice = Sampler::new(99);
        let begun = Instant::now();
        // Whatever fails in here must end the clients, or the test would hang instead of telling.
        let result = catch_unwind(AssertUnwindSafe(|| {
            while begun.elapsed() < Duration::from_secs(seconds) {
                *done.entry(act(&cylinder, &lab, &mut dice)).or_default() += 1;
                std::thread::sleep(Duration::from_millis(dice.upto(1000).into()));
            }
        }));
        soak.over.store(true, Relaxed);
        result.unwrap_or_else(|panic| resume_unwind(panic));
    });
    let lab = lab.into_inner().expect("nobody panics with it");
    let mut imap = lab.login("anna");
    cylinder.backup_well("anna");
    agrees(&cylinder, &mut imap, "anna", Namespace::DEFAULT);
    cylinder.verify("anna");
    let (there, here) = (on_server(&mut imap), restored(&cylinder));
    assert_eq!(there, here, "a restore has something else than the server");
    let lasting = soak.lasting.into_inner().expect("nobody panics with it");
    let lost = lasting.iter().filter(|guid| !here.contains_key(guid)).count();
    assert_eq!(lost, 0, "of {} messages that the server had taken", lasting.len());
    println!("{seconds} s: {done:?}; {} messages came and stayed, none is lost", lasting.len());
}
