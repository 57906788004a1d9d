//! `cylinder restore` of what the chosen snapshot does not have: a user, a folder or a message that went before it was taken.
//! Every way of restoring says which snapshot has it, and none ends with 0.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_core::guid::Guid;
use cylinder_tests::cli::{Cylinder, Ran, Running, append_many, message};
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::binary;
use std::process::{Command, Stdio};

/// A way of restoring: its options.
type Way = Vec<String>;

fn restore(lab: &Lab, cylinder: &Cylinder, words: &[&str], way: &Way) -> Ran {
    let mut command = Command::new(binary());
    command.args(["restore"]).args(words).args(way).arg("--store").arg(cylinder.store()).env("LAB_PASSWORD", "any");
    command.current_dir(lab.outside(lab.dir()));
    Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end()
}

/// All that it said.
fn said(ran: &Ran) -> String {
    format!("{}{}", String::from_utf8_lossy(&ran.stdout), ran.stderr)
}

fn way(words: &[&str]) -> Way {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Into files; the directory is new each time.
fn exports(lab: &Lab) -> Vec<Way> {
    let dir = lab.outside(lab.dir()).join("out").display().to_string();
    let mut ways: Vec<Way> = ["maildir", "mbox", "eml", "cyrus"]
        .iter()
        .map(|form| way(&["--format", form, "--dir", &format!("{dir}-{form}")]))
        .collect();
    ways.extend([way(&["--tar"]), way(&["--zip"]), way(&["--dry-run", "--dir", &dir])]);
    ways
}

/// Onto the running server.
fn deliveries(lab: &Lab) -> Vec<Way> {
    let server = |port| format!("tcp:{}:{}", lab.host(), lab.port(port));
    let onto = |words: &[&str], port| -> Way {
        let server = server(port);
        way(&[words, &["--login", "cyrus", "--password-env", "LAB_PASSWORD", "--server", &server]].concat())
    };
    Vec::from([
        onto(&["--to-tree"], "imap"),
        onto(&["--to-tree", "--dry-run"], "imap"),
        onto(&["--merge"], "imap"),
        onto(&["--flags-only"], "imap"),
        onto(&["--exact"], "sync"),
        onto(&["--exact", "--dry-run"], "sync"),
    ])
}

/// Into the files of another server, which has none yet.
fn spools(lab: &Lab) -> Vec<Way> {
    let disk = lab.outside(lab.dir()).join("disk");
    std::fs::create_dir_all(disk.join("etc")).expect("a directory");
    let conf = "configdirectory: /lib\npartition-default: /spool\nsievedir: /sieve\n";
    std::fs::write(disk.join("etc/imapd.conf"), conf).expect("a file");
    let disk = disk.display().to_string();
    Vec::from([way(&["--cyrus", "3.6", "--spool", &disk]), way(&["--cyrus", "3.6", "--dry-run", "--spool", &disk])])
}

#[track_caller]
fn lacks(ran: &Ran, expected: &[&str]) {
    let said = said(ran);
    assert_eq!(ran.exit, 3, "{ran:?}");
    for words in expected {
        assert!(said.contains(words), "`{words}` is not said: {ran:?}");
    }
}

#[test]
fn a_user_deleted_before_the_snapshot_is_told_by_every_way_and_none_ends_with_0() {
    let lab = Lab::start(Version::V3_6, &[("delete_mode", "delayed")]);
    let mut imap = lab.new_user("w1");
    append_many(&mut imap, "INBOX", 0, 3);
    imap.logout();
    let cylinder = Cylinder::new(&lab);
    cylinder.backup_well("w1");
    let mut admin = lab.login("cyrus");
    admin.set_acl("user/w1", "cyrus", "lrswipkxtecda");
    admin.delete("user/w1");
    admin.logout();
    let ran = cylinder.backup(&["w1"]);
    assert_eq!(ran.user("w1")["snapshot"], 2, "{ran:?}");
    // An account of this name again, so that ways onto the server have somebody to log in as.
    lab.new_user("w1").logout();
    for way in exports(&lab).iter().chain(&deliveries(&lab)).chain(&spools(&lab)) {
        let words = ["w1: ", "snapshot 2 has only deleted folders of this user", "snapshot 1 of ", "--at 1"];
        lacks(&restore(&lab, &cylinder, &["w1", "--all"], way), &words);
    }
    // With the snapshot that it names, it is there.
    let out = lab.outside(lab.dir()).join("found").display().to_string();
    let ran = restore(&lab, &cylinder, &["w1", "--all", "--at", "1", "--dir", &out], &Way::new());
    assert!(ran.exit == 0 && said(&ran).contains("restored 3 messages"), "{ran:?}");
}

#[test]
fn messages_that_the_snapshot_does_not_have_are_told_by_every_way_and_none_ends_with_0() {
    let lab = Lab::start(Version::V3_6, &[("expunge_mode", "immediate")]);
    let mut imap = lab.new_user("anna");
    imap.create("Work");
    append_many(&mut imap, "INBOX", 0, 3);
    append_many(&mut imap, "Work", 3, 4);
    let cylinder = Cylinder::new(&lab);
    cylinder.backup_well("anna");
    imap.expunge("INBOX", "2");
    imap.delete("Work");
    imap.logout();
    cylinder.backup_well("anna");
    let gone = Guid::of(&message(1)).to_hex();
    let list = cylinder.read(&["list", "anna", "INBOX", "--at", "1"]);
    assert!(String::from_utf8_lossy(&list.stdout).contains(&gone), "{list:?}");
    let never = "0123456789012345678901234567890123456789";
    let there = Guid::of(&message(0)).to_hex();
    let all = [exports(&lab), deliveries(&lab)].concat();
    for way in all.iter().filter(|way| !way.iter().any(|word| word == "--exact")) {
        let words = ["anna", "--guid", &gone, "--guid", &there];
        lacks(&restore(&lab, &cylinder, &words, way), &[&gone, "is not in snapshot 2", "(INBOX/2)", "--at 1"]);
        lacks(&restore(&lab, &cylinder, &["anna", "--guid", never], way), &[never, "no snapshot of this archive has it"]);
        let words = ["anna", "--message-id", "<nobody@example.org>"];
        lacks(&restore(&lab, &cylinder, &words, way), &["<nobody@example.org>", "no snapshot of this archive has it"]);
        let ran = restore(&lab, &cylinder, &["anna", "INBOX.Work"], way);
        assert_eq!(ran.exit, 1, "{ran:?}");
        assert!(said(&ran).contains("there is no folder `INBOX.Work` in snapshot 2; snapshot 1 of "), "{ran:?}");
    }
}
