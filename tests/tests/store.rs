//! What a command takes for a store, and what it says of what is none.

use cylinder_core::marker::{self, Found, StoreId};
use cylinder_tests::choose::Gen;
use cylinder_tests::disk::{SimDisk, Trouble};
use cylinder_tests::drive::{Outcome, drive};
use cylinder_tests::proof::{Store, binary, err, out, run, run_for};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/sample");
const OTHER_ID: &str = "00112233445566778899aabbccddeeff";

/// Every command that opens a store, with arguments that it takes.
const COMMANDS: [&[&str]; 20] = [
    &["acknowledge", "anna"],
    &["backup", "--all", "--offline", "--root", SAMPLE],
    &["backup", "anna", "--from", "unix:/nonexistent"],
    &["compact", "--all"],
    &["diff", "anna", "1"],
    &["erase", "anna", "--everything"],
    &["extract", "anna", "/nonexistent/x"],
    &["find", "--all", "--subject", "x"],
    &["heal", "anna", "--offline", "--root", SAMPLE],
    &["hold", "anna", "on"],
    &["import", "/nonexistent/anna/x.tar"],
    &["list", "anna"],
    &["log", "anna"],
    &["repair", "anna"],
    &["restore", "anna", "--all", "--zip"],
    &["restore", "anna", "--all", "--merge", "--login", "cyrus", "--password-env", "HOME"],
    &["restore", "--all-users", "--spool", "/"],
    &["show", "anna", "INBOX/1"],
    &["users"],
    &["verify"],
];

fn command(store: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let (first, rest) = words.split_at(1);
    command.args(first).arg("--store").arg(store).args(rest).env_remove("CYLINDER_STORE").env_remove("CYLINDER_STORE_ID");
    command
}

fn init(store: &Path) -> Output {
    run(Command::new(binary()).arg("init").arg(store).env_remove("CYLINDER_STORE_ID"))
}

/// The id that `init --json` prints.
fn id_of(output: &Output) -> String {
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    json["id"].as_str().expect("an id").to_owned()
}

/// A store with the users of the sample.
fn filled() -> Store {
    let store = Store::new();
    run_for(&mut store.command(&["backup", "--all", "--offline", "--root", SAMPLE]), 0);
    store
}

#[test]
fn a_directory_that_is_no_store_is_refused_by_every_command_with_its_reason() {
    let temp = tempfile::tempdir().expect("a directory");
    let (absent, empty, mounted, other, newer) =
        ["absent", "empty", "mounted", "other", "newer"].map(|name| temp.path().join(name)).into();
    fs::create_dir(&empty).expect("a directory");
    fs::create_dir_all(mounted.join("lost+found")).expect("a directory");
    fs::create_dir_all(other.join("Documents")).expect("a directory");
    assert_eq!(init(&newer).status.code(), Some(0));
    let marker = newer.join(marker::MARKER);
    let text = fs::read_to_string(&marker).expect("a marker").replace("format 1", "format 2");
    fs::write(&marker, text).expect("written");
    let archives = filled();
    fs::remove_file(archives.dir().join(marker::MARKER)).expect("a marker");
    let cases = [
        (absent.clone(), "does not exist"),
        (empty.clone(), "is empty: is the file system mounted?"),
        (mounted, "is empty: is the file system mounted?"),
        (other, "is no store: it has no file cylinder-store, but holds other files, such as Documents"),
        (newer, "the store has format 2, this cylinder knows 1: use a newer cylinder"),
        (archives.dir(), "holds archives but no file cylinder-store: run `cylinder init"),
    ];
    for (dir, why) in &cases {
        for words in COMMANDS {
            let output = run(&mut command(dir, words));
            let said = err(&output);
            let begins = format!("cylinder: store {}: ", dir.display());
            assert!(said.starts_with(&begins) && said.contains(why), "{words:?}: {said}");
            assert_eq!((output.status.code(), out(&output)), (Some(1), String::new()), "{words:?}: {said}");
        }
    }
    assert!(!absent.exists() && fs::read_dir(&empty).expect("a directory").next().is_none(), "nothing was made");
}

#[test]
fn init_makes_a_store_once_adopts_archives_and_takes_nothing_else() {
    let temp = tempfile::tempdir().expect("a directory");
    let dir = temp.path().join("new");
    let made = init(&dir);
    assert!(made.status.code() == Some(0) && out(&made).ends_with("; it is empty\n"), "{}", out(&made));
    let again = init(&dir);
    assert!(again.status.code() == Some(1) && err(&again).contains("is a store already, with id "), "{}", err(&again));
    assert_eq!(init(&temp.path().join("no/where")).status.code(), Some(1));
    fs::create_dir_all(temp.path().join("home/Mail")).expect("a directory");
    let other = init(&temp.path().join("home"));
    assert!(other.status.code() == Some(1) && err(&other).contains("holds other files, such as Mail"), "{}", err(&other));

    let store = filled();
    let before = fs::read(store.archive("anna")).expect("an archive");
    fs::remove_file(store.dir().join(marker::MARKER)).expect("a marker");
    let adopted = init(&store.dir());
    assert!(out(&adopted).ends_with("the archives that are there are adopted\n"), "{}", out(&adopted));
    run_for(&mut store.command(&["verify"]), 0);
    assert!(fs::read(store.archive("anna")).expect("an archive") == before);
}

#[test]
fn another_store_than_the_one_that_is_pinned_is_refused() {
    let store = filled();
    let other = store.beside("other");
    let id = id_of(&run(Command::new(binary()).arg("init").arg(&other).arg("--json")));
    let pinned = |store: &Path, id: &str| run(command(store, &["users"]).env("CYLINDER_STORE_ID", id));
    assert_eq!(pinned(&other, &id).status.code(), Some(0));
    let refused = pinned(&store.dir(), &id);
    assert!(
        refused.status.code() == Some(1) && err(&refused).contains(&format!("expected {id}: another store is mounted there"))
    );
    let nonsense = pinned(&store.dir(), "xyz");
    assert!(nonsense.status.code() == Some(2) && err(&nonsense).contains("expected the 32 hexadecimal digits"));

    let config = store.beside("cylinder.toml");
    let text =
        |id: &str| format!("store = \"{}\"\nstore-id = \"{id}\"\n[[source]]\nfrom = \"unix:/nonexistent\"\n", other.display());
    let backup = |id: &str| {
        fs::write(&config, text(id)).expect("written");
        let output = run(Command::new(binary()).args(["backup", "--config"]).arg(&config).env_remove("CYLINDER_STORE_ID"));
        err(&output)
    };
    assert!(backup(OTHER_ID).contains("another store is mounted there"), "{}", backup(OTHER_ID));
    assert!(backup(&id).contains("unix:/nonexistent"), "the store is the right one, so the source is asked");
}

#[test]
fn archives_without_a_marker_are_taken_on_demand_and_an_empty_directory_is_not() {
    let store = filled();
    fs::remove_file(store.dir().join(marker::MARKER)).expect("a marker");
    run_for(command(&store.dir(), &["verify"]).env("CYLINDER_STORE_ID", "none"), 0);
    let empty = store.beside("empty");
    fs::create_dir(&empty).expect("a directory");
    let refused = run(command(&empty, &["verify"]).env("CYLINDER_STORE_ID", "none"));
    assert!(refused.status.code() == Some(1) && err(&refused).contains("is the file system mounted?"));
}

#[test]
fn after_a_power_loss_in_init_there_is_a_marker_or_none_and_it_can_be_run_again() {
    let id = StoreId([7; 16]);
    let mut states = BTreeMap::new();
    for at in 1..30 {
        let mut gen_choices = Gen::default();
        while !gen_choices.done() {
            let mut disk = SimDisk::new();
            disk.plan(at, Trouble::CrashAfter);
            let outcome = drive(&mut disk, |io| async move { marker::init(&io, id, "x").await });
            let ended = outcome != Outcome::Crashed;
            disk.lose_power(&mut gen_choices);
            let found = drive(&mut disk, |io| async move { marker::look(&io).await }).finished();
            let found = found.expect("a marker that can be read, or none");
            assert!(!ended || found == Found::Store(id), "it was acknowledged, and is there");
            if found != Found::Store(id) {
                let again = drive(&mut disk, |io| async move { marker::init(&io, id, "x").await }).finished();
                assert_eq!((found.clone(), again), (Found::Empty, Ok(Found::Empty)));
            }
            *states.entry(found == Found::Store(id)).or_insert(0) += 1;
        }
    }
    assert!(states[&true] > 2 && states[&false] > 8, "{states:?}");
}
