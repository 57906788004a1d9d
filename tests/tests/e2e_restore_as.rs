//! `cylinder restore` of the mail of somebody who is not on the server any more, and into the mailboxes of somebody else.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_tests::cli::{Cylinder, Ran, Running, append_many};
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::binary;
use serde_json::Value;
use std::process::{Command, Stdio};

fn restore(lab: &Lab, cylinder: &Cylinder, words: &[&str]) -> Ran {
    let server = format!("tcp:{}:{}", lab.host(), lab.port("imap"));
    let mut command = Command::new(binary());
    command.args(["restore", "anna", "--login", "cyrus", "--password-env", "LAB_PASSWORD", "--json", "--server", &server]);
    command.args(words).arg("--store").arg(cylinder.store()).env("LAB_PASSWORD", "any");
    Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end()
}

fn added(told: &Value) -> u64 {
    told["folders"].as_array().expect("folders").iter().filter_map(|folder| folder["added"].as_u64()).sum()
}

/// Anna, with two folders, was backed up and deleted; Bob is there.
fn replaced() -> (Lab, Cylinder) {
    let lab = Lab::start(Version::V3_6, &[("delete_mode", "immediate")]);
    let mut anna = lab.new_user("anna");
    anna.create("Work");
    append_many(&mut anna, "INBOX", 0, 3);
    append_many(&mut anna, "Work", 3, 5);
    anna.logout();
    let cylinder = Cylinder::new(&lab);
    cylinder.backup_well("anna");
    let mut admin = lab.login("cyrus");
    admin.set_acl("user/anna", "cyrus", "lrswipkxtecda");
    admin.delete("user/anna");
    admin.logout();
    lab.new_user("bob").logout();
    (lab, cylinder)
}

#[test]
fn a_user_who_is_not_there_is_a_refusal_that_says_how_it_can_be_done() {
    let (lab, cylinder) = replaced();
    for words in [&["--all"][..], &["--all", "--merge"], &["--all", "--dry-run"], &["--all", "--as", "carl"]] {
        let ran = restore(&lab, &cylinder, words);
        let who = if words.contains(&"carl") { "carl" } else { "anna" };
        let expected = format!("{who} has no mailbox on this server: create it (cyradm: createmailbox user/{who})");
        assert!(ran.exit == 1 && ran.stderr.contains(&expected) && ran.stderr.contains("--as USER"), "{words:?}: {ran:?}");
    }
}

#[test]
fn mail_goes_into_the_mailboxes_of_another_user_as_a_tree_and_merged() {
    let (lab, cylinder) = replaced();
    let ran = restore(&lab, &cylinder, &["--all", "--as", "bob", "--tree", "of anna"]);
    assert!(ran.exit == 0 && added(&ran.json()[0]) == 5, "{ran:?}");
    let ran = restore(&lab, &cylinder, &["--all", "--as", "bob", "--merge"]);
    assert!(ran.exit == 0 && added(&ran.json()[0]) == 5, "{ran:?}");
    let ran = restore(&lab, &cylinder, &["--all", "--as", "bob", "--merge"]);
    assert!(ran.exit == 0 && added(&ran.json()[0]) == 0, "{ran:?}");
    let mut bob = lab.login("bob");
    for (folder, count) in [("INBOX", 3), ("Work", 2), ("RESTORED/of anna/INBOX", 3), ("RESTORED/of anna/Work", 2)] {
        assert_eq!(bob.fetch(folder).len(), count, "{folder}");
    }
    bob.logout();
}
