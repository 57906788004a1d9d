//! Which version of Cyrus a server is taken for: by what is installed on its disk, and, where nothing is, by its databases and
//! indexes alone; also just after a boot, when lock files are gone.
//!
//! Needs root and the installed server: `tests/lab/cyrus-lab install 3.6`; for the other releases `tests/lab/matrix`.

use cylinder_tests::cli::{Cylinder, append_many};
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::{Store, binary, err, out, run_for};
use std::process::Command;

/// What the newest snapshot of anna says of the server.
fn told(store: &std::path::Path) -> String {
    let ran = run_for(Command::new(binary()).args(["log", "anna", "--json", "--store"]).arg(store), 0);
    let line = out(&ran).lines().find(|line| line.contains("\"cyrus\"")).expect("a snapshot").to_owned();
    let told: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    told["cyrus"].as_str().expect("a version").to_owned()
}

fn is_told(version: Version) {
    let lab = Lab::start(version, &[]);
    let mut imap = lab.new_user("anna");
    imap.create("Work");
    append_many(&mut imap, "Work", 0, 3);
    imap.logout();
    lab.stop();
    // As after a boot.
    let locks = lab.outside(lab.dir()).join("run/lock");
    std::fs::remove_dir_all(&locks).expect("lock files");
    std::fs::create_dir(&locks).expect("a directory");
    let cylinder = Cylinder::new(&lab);
    let ran = cylinder.backup(&["anna", "--offline"]);
    assert_eq!((ran.exit, &told(cylinder.store())[..]), (0, version.name()), "packages tell it: {ran:?}");

    // The files of mail alone, on a disk on which nothing is installed.
    let store = Store::new();
    let disk = store.beside("disk");
    let inside = disk.join(lab.dir().trim_start_matches('/'));
    std::fs::create_dir_all(inside.parent().expect("a parent")).expect("a directory");
    run_for(Command::new("cp").arg("-a").arg(lab.outside(lab.dir())).arg(&inside), 0);
    let mut command = store.command(&["backup", "anna", "--offline", "--imapd-conf", lab.conf(), "--root"]);
    run_for(command.arg(&disk), 0);
    assert_eq!(told(&store.dir()), format!("{} or like it", version.name()), "databases and indexes tell it");

    // Such an archive alone does not make anything lower.
    let empty = store.beside("empty");
    std::fs::create_dir_all(empty.join("etc")).expect("a directory");
    std::fs::copy(lab.outside(lab.conf()), empty.join("etc/imapd.conf")).expect("a file");
    let ran = run_for(store.command(&["restore", "anna", "--all", "--spool"]).arg(&empty), 0);
    let expected = format!("is taken for Cyrus {}: the newest of the archives is of {}", version.name(), version.name());
    assert!(err(&ran).contains(&expected), "{}", err(&ran));
    let versions = |top: &std::path::Path| {
        let script = "find \"$1\" -name cyrus.index -exec od -An -j8 -N4 -tx1 {} \\; | sort | uniq -c";
        out(&run_for(Command::new("sh").args(["-c", script, "sh"]).arg(top), 0))
    };
    assert_eq!(versions(&empty), versions(&disk));
}

#[test]
fn version_3_6_is_told_by_packages_and_by_databases() {
    is_told(Version::V3_6);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.2`: minutes, and some 0.5 GB"]
fn cyrus_3_2_is_supported() {
    is_told(Version::V3_2);
}

#[test]
#[ignore = "run by `tests/lab/matrix`"]
fn cyrus_3_6_is_supported() {
    is_told(Version::V3_6);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.10`: minutes, and some 0.5 GB"]
fn cyrus_3_10_is_supported() {
    is_told(Version::V3_10);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.12`: minutes, and some 0.5 GB"]
fn cyrus_3_12_is_supported() {
    is_told(Version::V3_12);
}
