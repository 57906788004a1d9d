//! Commands that the superuser runs on somebody else's store leave it theirs.

use cylinder_tests::proof::{Store, copy_tree, err, run, run_for};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/sample");
const IMPORTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/perl/alice/backupdata-1795457253.tar.gz");
/// Whose the store is, and the group of one archive.
const BACKUP: u32 = 60_001;
const MONITOR: u32 = 60_002;
/// Somebody in the group.
const ADMIN: u32 = 60_003;

/// The command, run by somebody else than the superuser.
fn by(user: u32, group: u32, command: &Command) -> Command {
    let mut other = Command::new("setpriv");
    other.arg(format!("--reuid={user}")).arg(format!("--regid={group}")).args(["--clear-groups", "--"]);
    other.arg(command.get_program()).args(command.get_args()).env_remove("CYLINDER_STORE");
    other
}

/// A store of that user with the sample in it, and a copy of the sample that anybody can read.
fn store_of_backup() -> (Store, PathBuf) {
    let store = Store::new();
    fs::set_permissions(store.temp.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let root = store.beside("root");
    copy_tree(Path::new(SAMPLE), &root);
    run_for(Command::new("chmod").args(["-R", "a+rX"]).arg(&root), 0);
    run_for(Command::new("chown").arg("-R").arg(format!("{BACKUP}:{BACKUP}")).arg(store.dir()), 0);
    run_for(&mut by(BACKUP, BACKUP, &backup(&store, &root)), 0);
    (store, root)
}

fn backup(store: &Store, root: &Path) -> Command {
    let mut command = store.command(&["backup", "--all", "--offline", "--no-compact", "--root"]);
    command.arg(root);
    command
}

/// Everything below a directory with its user and group.
fn owners(dir: &Path) -> Vec<(PathBuf, u32, u32)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("a name").path();
        let stat = fs::symlink_metadata(&path).expect("a file");
        all.push((path.clone(), stat.uid(), stat.gid()));
        if stat.is_dir() {
            all.extend(owners(&path));
        }
    }
    all
}

#[track_caller]
fn all_is_of_backup(store: &Store) {
    let others: Vec<_> = owners(&store.dir()).into_iter().filter(|(_, user, _)| *user != BACKUP).collect();
    assert!(others.is_empty(), "not the store's owner's: {others:?}");
}

/// Makes something of the archive worth dropping.
fn age(store: &Store, root: &Path) {
    let message = root.join("var/spool/cyrus/a/user/anna/1.");
    drop(fs::remove_file(message));
    run(&mut by(BACKUP, BACKUP, &backup(store, root)));
}

#[test]
fn a_compaction_or_a_repair_by_root_keeps_owner_group_and_mode() {
    let (store, root) = store_of_backup();
    let archive = store.archive("anna");
    chown(&archive, Some(BACKUP), Some(MONITOR)).expect("a group");
    fs::set_permissions(&archive, fs::Permissions::from_mode(0o640)).expect("a mode");
    let is_kept = || {
        let stat = fs::metadata(&archive).expect("an archive");
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (BACKUP, MONITOR, 0o640));
        stat.ino()
    };
    age(&store, &root);
    let mut inode = is_kept();
    // The middle of a message: a repair drops it.
    let mut bytes = fs::read(&archive).expect("an archive");
    let middle = bytes.len() / 3;
    bytes[middle] ^= 0xff;
    fs::write(&archive, bytes).expect("damaged");
    run_for(&mut store.command(&["repair", "anna"]), 3);
    let erased = ["erase", "bob.smith", "--guid", "591fdd9b9430c547e994e0fef8b1810914c19b89", "--yes"];
    for words in [&["compact", "--all", "--now", "--keep-within", "0h"][..], &erased, &["hold", "anna", "on"], &["verify"]] {
        let output = run(&mut store.command(words));
        assert!(matches!(output.status.code(), Some(0 | 3)), "{words:?}: {}", err(&output));
    }
    assert_ne!(std::mem::replace(&mut inode, is_kept()), inode, "it is a new file");
    all_is_of_backup(&store);
    let night = run(&mut by(BACKUP, BACKUP, &backup(&store, &root)));
    assert!(!err(&night).contains("permission denied") && night.status.code() != Some(1), "{}", err(&night));
}

#[test]
fn what_root_makes_anew_belongs_to_the_owner_of_the_store() {
    let (store, root) = store_of_backup();
    run_for(&mut store.command(&["import", IMPORTED]), 0);
    run_for(&mut store.command(&["compact", "--all", "--if-needed"]), 0);
    run_for(&mut store.command(&["verify", "--max-time", "0s"]), 0);
    let config = store.beside("cylinder.toml");
    let serve = format!("exec:{} serve --offline --root {}", cylinder_tests::proof::binary().display(), root.display());
    fs::write(&config, format!("store = \"{}\"\n[[source]]\nfrom = \"{serve}\"\n", store.dir().display())).expect("written");
    run(Command::new(cylinder_tests::proof::binary()).args(["backup", "--config"]).arg(&config));
    assert!(store.dir().join("last-runs").exists() && store.archive("alice").exists());
    all_is_of_backup(&store);
    run_for(&mut by(BACKUP, BACKUP, &backup(&store, &root)), 3);
    // A store that root makes in somebody's directory is theirs.
    let dir = store.beside("new");
    fs::create_dir(&dir).expect("a directory");
    chown(&dir, Some(BACKUP), Some(BACKUP)).expect("an owner");
    run_for(Command::new(cylinder_tests::proof::binary()).arg("init").arg(&dir), 0);
    assert!(owners(&dir).iter().all(|(_, user, group)| (*user, *group) == (BACKUP, BACKUP)), "{:?}", owners(&dir));
}

#[test]
fn who_cannot_keep_the_owner_is_refused_before_anything_is_written() {
    let (store, root) = store_of_backup();
    age(&store, &root);
    // Somebody of the group, who may write there.
    run_for(Command::new("chmod").args(["-R", "g+rwX"]).arg(store.dir()), 0);
    let before = fs::read(store.archive("bob.smith")).expect("an archive");
    let words = ["erase", "bob.smith", "--guid", "591fdd9b9430c547e994e0fef8b1810914c19b89", "--yes"];
    let output = run(&mut by(ADMIN, BACKUP, &store.command(&words)));
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("cannot be given the owner and group of what it replaces"), "{}", err(&output));
    assert!(fs::read(store.archive("bob.smith")).expect("an archive") == before);
    assert!(!store.user_dir("bob.smith").join("archive.tar.gz.new").exists());
}
