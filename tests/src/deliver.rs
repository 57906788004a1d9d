//! `cylinder restore` into a real server, for the tests of it: how it is called, and what it told.
//!
//! What must not come in: what a restore is to do; each test says that itself.

use crate::cli::{Cylinder, Ran, Running, bodies};
use crate::imap::{Imap, Message};
use crate::lab::Lab;
use crate::proof::binary;
use serde_json::Value;
use std::process::{Command, Stdio};

/// The command that restores mail of anna from this store into this server, by the administrator's password.
pub fn command(cylinder: &Cylinder, lab: &Lab, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let server = format!("tcp:{}:{}", lab.host(), lab.port("imap"));
    command.args(["restore", "anna", "--login", "cyrus", "--password-env", "LAB_PASSWORD", "--json", "--server", &server]);
    command.args(words).arg("--store").arg(cylinder.store()).env("LAB_PASSWORD", "any");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it.
#[track_caller]
pub fn restore(cylinder: &Cylinder, lab: &Lab, words: &[&str]) -> Ran {
    Running::start(&mut command(cylinder, lab, words)).end()
}

/// Runs it, which has to end with this code, and gives what it told.
#[track_caller]
pub fn restore_for(cylinder: &Cylinder, lab: &Lab, words: &[&str], exit: i32) -> Value {
    let ran = restore(cylinder, lab, words);
    assert_eq!(ran.exit, exit, "{ran:?}");
    ran.json().remove(0)
}

/// The sum of something over all folders.
pub fn sum(told: &Value, key: &str) -> u64 {
    told["folders"].as_array().expect("folders").iter().filter_map(|folder| folder[key].as_u64()).sum()
}

/// The sums of what was added, was there, was elsewhere and failed.
pub fn sums(told: &Value) -> [u64; 4] {
    ["added", "present", "elsewhere", "failed"].map(|key| sum(told, key))
}

/// The reasons of all failures, one a line, with what failed.
pub fn failures(told: &Value) -> String {
    let line = |failure: &Value| format!("{}: {}", failure["what"], failure["why"]);
    let folders = told["folders"].as_array().expect("folders").iter();
    let of_folders = folders.flat_map(|folder| folder["failures"].as_array().expect("failures"));
    let all: Vec<String> = of_folders.chain(told["failures"].as_array().expect("failures")).map(line).collect();
    all.join("\n")
}

/// Flags, INTERNALDATE and content of all messages of a folder, without UIDs.
#[track_caller]
pub fn contents(imap: &mut Imap, mailbox: &str) -> Vec<(Vec<String>, i64, Vec<u8>)> {
    let mut bodies = bodies(imap, mailbox);
    let content = |m: Message| (m.flags, m.internal_date.secs(), bodies.remove(&m.uid).expect("a body"));
    imap.fetch(mailbox).into_iter().map(content).collect()
}
