//! Directories of a store that are symbolic links: users spread over disks, and disks that are not mounted.

use cylinder_tests::proof::{Store, err, out, run, run_for, tree};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/sample");
const NOWHERE: &str = "a symbolic link leads to nothing or to an empty directory: is the file system mounted?";

const EVERYBODY: [&[&str]; 5] =
    [&["backup", "--all", "--offline", "--root", SAMPLE], &["verify"], &["users"], &["compact", "--all"], &["find", "--all"]];

fn filled() -> Store {
    let store = Store::new();
    run_for(&mut store.command(EVERYBODY[0]), 0);
    store
}

/// Moves a directory of the store to another disk, and leaves a link.
fn spread(store: &Store, dir: &Path) -> PathBuf {
    let disk = store.beside("disk2");
    fs::create_dir_all(&disk).expect("a directory");
    let there = disk.join(dir.file_name().expect("a name"));
    fs::rename(dir, &there).expect("moved");
    symlink(&there, dir).expect("a link");
    there
}

fn spool_of_all(store: &Store, name: &str) -> PathBuf {
    let disk = store.beside(name);
    fs::create_dir_all(disk.join("etc")).expect("a directory");
    fs::copy(format!("{SAMPLE}/etc/imapd.conf"), disk.join("etc/imapd.conf")).expect("copied");
    disk
}

#[test]
fn a_user_behind_a_link_is_one_for_every_command() {
    for whole_hash in [false, true] {
        let store = filled();
        let users = out(&run_for(&mut store.command(&["users"]), 0));
        let whole = spool_of_all(&store, "before");
        run_for(store.command(&["restore", "--all-users", "--spool"]).arg(&whole), 0);
        let before = messages(&whole);
        let user_dir = store.user_dir("anna");
        let there = spread(&store, if whole_hash { user_dir.parent().expect("a directory") } else { &user_dir });
        let there = if whole_hash { there.join("anna") } else { there };
        for words in EVERYBODY {
            let output = run_for(&mut store.command(words), 0);
            let shown = words[0] == "compact" || words[0] == "find" || out(&output).contains("anna");
            assert!(shown && err(&output).is_empty(), "{words:?}: {}{}", out(&output), err(&output));
        }
        assert_eq!(out(&run_for(&mut store.command(&["users"]), 0)), users);
        let disk = spool_of_all(&store, "server");
        run_for(store.command(&["restore", "--all-users", "--spool"]).arg(&disk), 0);
        let restored = messages(&disk);
        assert!(restored.len() > 30 && restored == before, "everybody is restored: {restored:?}");
        // A new archive takes the place of the old one where that is.
        let words = ["compact", "anna", "--keep-within", "0h"];
        run_for(&mut store.command(&words), 0);
        run_for(&mut store.command(&["repair", "anna"]), 0);
        assert!(there.join("archive.tar.gz").exists() && there.join("lock").exists());
        run_for(&mut store.command(&["erase", "anna", "--everything", "--yes"]), 0);
        assert!(!there.exists() && !user_dir.exists() && !user_dir.is_symlink());
        // What a link to an empty directory means is not known, so the link of a hash goes with its last user.
        run_for(&mut store.command(&["verify"]), if whole_hash { 3 } else { 0 });
    }
}

/// The message files of a server.
fn messages(disk: &Path) -> Vec<String> {
    tree(disk).into_keys().filter(|name| name.ends_with('.')).collect()
}

/// True if a directory of that name is somewhere below.
fn tree_has(dir: &Path, name: &str) -> bool {
    fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("a name").path()).any(|path| {
        path.is_dir() && !path.is_symlink() && (path.file_name().is_some_and(|found| found == name) || tree_has(&path, name))
    })
}

#[test]
fn a_link_whose_disk_is_not_mounted_is_told_by_every_command_and_nothing_is_begun_there() {
    // The link leads to nothing, or to a mount point that is empty; that of a user, or of a hash.
    for (mount_point, whole_hash) in [(false, false), (true, false), (false, true), (true, true)] {
        let store = filled();
        let user_dir = store.user_dir("anna");
        let linked = if whole_hash { user_dir.parent().expect("a directory").to_owned() } else { user_dir };
        let there = spread(&store, &linked);
        fs::rename(&there, store.beside("elsewhere")).expect("not mounted");
        if mount_point {
            fs::create_dir(&there).expect("a mount point");
        }
        for words in EVERYBODY {
            let output = run(&mut store.command(words));
            assert_eq!(output.status.code(), Some(3), "{words:?}: {}{}", out(&output), err(&output));
            assert!(err(&output).contains(NOWHERE), "{words:?}: {}", err(&output));
        }
        for words in [&["log", "anna"][..], &["verify", "anna"], &["compact", "anna"], &["list", "anna"]] {
            let output = run(&mut store.command(words));
            assert!(output.status.code() == Some(1) && err(&output).contains(NOWHERE), "{words:?}: {}", err(&output));
        }
        let disk = spool_of_all(&store, "server");
        let restored = run(store.command(&["restore", "--all-users", "--spool"]).arg(&disk));
        assert!(restored.status.code() == Some(3) && err(&restored).contains(NOWHERE), "{}", err(&restored));
        assert!(tree_has(&disk, "shared"), "the others are restored: {}", err(&restored));
        assert_eq!(there.exists(), mount_point);
        assert!(!mount_point || fs::read_dir(&there).expect("a directory").next().is_none(), "nothing was begun there");
        // Mounted again, all is well.
        let _ = fs::remove_dir(&there);
        fs::rename(store.beside("elsewhere"), &there).expect("mounted");
        run_for(&mut store.command(EVERYBODY[0]), 0);
    }
}

#[test]
fn a_link_to_something_else_than_a_directory_is_told() {
    let store = filled();
    let dir = store.user_dir("zoe");
    fs::create_dir_all(dir.parent().expect("a directory")).expect("a directory");
    symlink("/etc/passwd", &dir).expect("a link");
    let output = run(&mut store.command(&["verify"]));
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    assert!(err(&output).contains("zoe: ") && out(&output).contains("anna: good"), "{}{}", err(&output), out(&output));
}
