//! `cylinder restore --exact --all-users`: everybody of a store onto a real server, where one user's fault stops no other.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_tests::cli::{Cylinder, Ran, Running, append_many, bodies};
use cylinder_tests::csync::Csync;
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::binary;
use serde_json::Value;
use std::process::{Command, Stdio};

fn restore(lab: &Lab, cylinder: &Cylinder, words: &[&str]) -> Ran {
    let mut command = Command::new(binary());
    let server = format!("tcp:{}:{}", lab.host(), lab.port("sync"));
    command.args(["restore", "--all-users", "--exact", "--login", "cyrus", "--password-env", "LAB_PASSWORD"]);
    command.args(["--server", &server]).args(words).arg("--store").arg(cylinder.store()).env("LAB_PASSWORD", "any");
    Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end()
}

fn text(ran: &Ran) -> String {
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// What a replication client is told of these mailboxes.
fn replica(lab: &Lab, names: &[&str]) -> Vec<String> {
    let mut csync = Csync::login(lab.host(), lab.port("sync"));
    names.iter().map(|name| csync.ask(&format!("GET FULLMAILBOX {name}"))).collect()
}

/// The line of the sum.
fn summary(ran: &Ran) -> Value {
    ran.json().into_iter().find(|line| line["event"] == "summary").expect("a summary")
}

/// Anna and dora with mail, carl who was deleted before his newest snapshot, bob, and folders of nobody.
fn filled() -> (Lab, Cylinder) {
    let lab = Lab::start(Version::V3_6, &[]);
    let cylinder = Cylinder::new(&lab);
    for (n, user) in ["anna", "bob", "carl", "dora"].into_iter().enumerate() {
        let mut imap = lab.new_user(user);
        imap.create("Work");
        append_many(&mut imap, "INBOX", 10 * n as u32, 10 * n as u32 + 3);
        append_many(&mut imap, "Work", 10 * n as u32 + 5, 10 * n as u32 + 7);
        imap.logout();
    }
    let mut admin = lab.login("cyrus");
    admin.create("shared/news");
    admin.set_acl("shared/news", "cyrus", "lrswipkxtecda");
    append_many(&mut admin, "shared/news", 80, 82);
    admin.ok("SETACL user/carl cyrus c");
    assert_eq!(cylinder.backup(&["--all"]).exit, 0);
    admin.ok("DELETE user/carl");
    admin.logout();
    lab.run("cyr_expire", &["-E", "1", "-D", "0"]);
    cylinder.backup(&["carl"]);
    assert_eq!(cylinder.read(&["acknowledge", "carl"]).exit, 0);
    (lab, cylinder)
}

#[test]
fn everybody_comes_back_and_the_fault_of_one_stops_no_other() {
    let (lab, cylinder) = filled();
    let other = Lab::start(Version::V3_6, &[]);
    // Somebody else's mail stands where bob's was.
    append_many(&mut other.new_user("bob"), "INBOX", 50, 51);

    let plan = restore(&other, &cylinder, &["--dry-run"]);
    assert!(plan.exit == 3 && text(&plan).contains("5 users, 1 with failures, 1 skipped; to be restored: "), "{plan:?}");
    assert_eq!(other.login("cyrus").list("user/*").len(), 1, "something was made");

    let ran = restore(&other, &cylinder, &[]);
    assert!(ran.exit == 3, "{ran:?}");
    let told = text(&ran);
    assert!(told.contains("another mailbox has this name") && told.contains("anna: restored: 5 messages"), "{told}");
    let expected = "5 users, 1 with failures, 1 skipped; restored: 14 messages (";
    assert!(told.lines().last().is_some_and(|line| line.starts_with(expected)), "{told}");
    assert!(ran.stderr.contains("skipped carl: has been gone from the server since "), "{ran:?}");
    let names = ["user.anna", "user.anna.Work", "user.dora", "user.dora.Work", "user.bob.Work", "shared.news"];
    assert_eq!(replica(&other, &names), replica(&lab, &names));
    assert_eq!(bodies(&mut other.login("bob"), "INBOX").len(), 1);

    // An archive that cannot be opened is a failure of its user, too, and damage is never hidden.
    std::fs::write(cylinder.archive("anna"), b"no archive").expect("written");
    let ran = restore(&other, &cylinder, &["--json", "--replace", "--no-backup"]);
    assert_eq!(ran.exit, 4, "{ran:?}");
    let sum = summary(&ran);
    assert_eq!((sum["users"].as_u64(), sum["failed"].as_u64(), sum["skipped"].as_u64()), (Some(5), Some(1), Some(1)), "{sum}");
    assert!(ran.json().iter().any(|line| line["user"] == "anna" && line["error"].is_string()), "{ran:?}");
    assert_eq!(replica(&other, &["user.bob"]), replica(&lab, &["user.bob"]));
}

#[test]
fn only_users_of_the_sources_that_are_meant_are_restored() {
    let (lab, cylinder) = filled();
    let other = Lab::start(Version::V3_6, &[]);
    append_many(&mut other.new_user("eve"), "INBOX", 60, 62);
    let words = ["eve", "--root", &other.root().display().to_string(), "--imapd-conf", other.conf()];
    assert_eq!(cylinder.pull(&words).exit, 0);
    let third = Lab::start(Version::V3_6, &[]);
    let ran = restore(&third, &cylinder, &[]);
    assert!(ran.exit == 1 && ran.stderr.contains("users of several sources") && ran.stderr.contains("--source all"), "{ran:?}");
    assert!(third.login("cyrus").list("*").is_empty(), "something was made");
    let source = format!("local:{}:{}", lab.root().display(), lab.conf());
    let ran = restore(&third, &cylinder, &["--source", &source]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let mut admin = third.login("cyrus");
    assert_eq!((admin.list("user/eve").len(), admin.list("user/dora").len()), (0, 1));
    for (words, expected) in [
        (&["--merge"][..], "one of --to-tree"),
        (&["anna"], "name no users"),
        (&["--cyrus", "3.6"], "--cyrus goes with --spool"),
        (&["--since", "today"], "cannot leave out messages"),
    ] {
        let ran = restore(&third, &cylinder, words);
        assert!(ran.exit == 2 && ran.stderr.contains(expected), "{words:?}: {ran:?}");
    }
    // A server that nobody answers for ends it before the first user.
    let mut command = Command::new(binary());
    command.args([
        "restore",
        "--all-users",
        "--exact",
        "--source",
        &source,
        "--login",
        "cyrus",
        "--password-env",
        "LAB_PASSWORD",
    ]);
    command.args(["--server", "tcp:127.0.0.1:1", "--store"]).arg(cylinder.store()).env("LAB_PASSWORD", "any");
    let ran = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end();
    assert!(ran.exit == 1 && ran.stdout.is_empty() && ran.stderr.lines().count() == 1, "{ran:?}");
}

/// Backup, list and restore say the same of a user of whom the server has nothing.
#[test]
fn of_a_user_deleted_at_once_all_say_the_same() {
    let lab = Lab::start(Version::V3_6, &[("delete_mode", "immediate")]);
    let cylinder = Cylinder::new(&lab);
    let mut imap = lab.new_user("anna");
    imap.create("Work");
    append_many(&mut imap, "INBOX", 0, 3);
    imap.logout();
    cylinder.backup_well("anna");
    let mut admin = lab.login("cyrus");
    admin.ok("SETACL user/anna cyrus c");
    admin.ok("DELETE user/anna");
    let ran = cylinder.backup(&["anna"]);
    let told = ran.user("anna");
    assert_eq!((ran.exit, told["folders"].as_u64(), told["messages"].as_u64()), (3, Some(2), Some(3)), "{ran:?}");
    let list = text(&cylinder.read(&["list", "anna"]));
    assert!(list.contains("no mailbox of this user since ") && list.contains("INBOX.Work"), "{list}");
    assert!(cylinder.read(&["list", "anna", "--json"]).json().iter().all(|line| line["gone"] == told["gone"]));
    let dir = tempfile::tempdir().expect("a directory");
    let exported = cylinder.read(&["restore", "anna", "--all", "--dir", &dir.path().display().to_string()]);
    assert!(exported.exit == 0 && exported.stderr.contains("what was there before is restored"), "{exported:?}");
    assert!(text(&exported).contains("3 messages"), "{exported:?}");
    // The disk of a whole server may have been gone: everybody comes back, until somebody says that it is right so.
    let other = Lab::start(Version::V3_6, &[]);
    let ran = restore(&other, &cylinder, &[]);
    assert!(ran.exit == 0 && ran.stderr.contains("what was there before is restored"), "{ran:?}");
    assert_eq!(bodies(&mut other.login("anna"), "INBOX").len(), 3);
    assert_eq!(cylinder.read(&["acknowledge", "anna"]).exit, 0);
    let ran = restore(&other, &cylinder, &[]);
    assert!(ran.exit == 0 && text(&ran).contains("1 user, 0 with failures, 1 skipped; "), "{ran:?}");
}
