//! `cylinder backup --from ssh://...` on a real server, through a real sshd whose key runs exactly `cylinder serve`: the
//! archive is the one that a local backup of the same moment makes.
//!
//! Needs root, `tests/lab/cyrus-lab install 3.6` and openssh-server.

use cylinder_core::guid::Guid;
use cylinder_tests::cli::{Bench, Cylinder, Entry, Namespace, Ran, agrees, append_many, message};
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::binary;
use cylinder_tests::sshd::{HOST, Sshd};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A server, what backs it up from its own host, and what pulls from it.
struct Pair {
    bench: Bench,
    sshd: Sshd,
    pulled: Cylinder,
}

fn serve(lab: &Lab) -> String {
    let root = lab.root().display();
    format!("{} serve --root {root} --imapd-conf {}", binary().display(), lab.conf())
}

/// Anna with three folders of three messages each, a script, a subscription and a quota; nothing is backed up.
fn pair() -> Pair {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 3);
    for (n, folder) in ["Sent", "Work", "Work/a.b"].into_iter().enumerate() {
        bench.imap.create(folder);
        append_many(&mut bench.imap, folder, 3 + 3 * n as u32, 6 + 3 * n as u32);
    }
    bench.imap.subscribe("Work");
    bench.lab.put_script("anna", "main", "keep;\r\n", true);
    bench.lab.login("cyrus").set_quota("user/anna", "STORAGE 10240");
    let (sshd, pulled) = (Sshd::start(&serve(&bench.lab)), Cylinder::new(&bench.lab));
    Pair { bench, sshd, pulled }
}

/// What must be equal in two archives: all but what tells times, places in the file, and whose archive it is.
fn comparable(cylinder: &Cylinder) -> Vec<Entry> {
    let own = ["meta/about", "meta/commit", "meta/folders", "meta/messages"];
    let mut entries = cylinder.contents("anna");
    entries.retain(|entry| !own.contains(&entry.name.as_str()));
    // Links, and what comes from no file or from one that was too young, have the time of the run.
    for entry in entries.iter_mut().filter(|entry| !entry.name.starts_with("files/") && !entry.name.starts_with("folders/")) {
        entry.stat.2 = 0;
    }
    entries
}

/// What `list` says of everything in the newest snapshot.
fn listed(cylinder: &Cylinder) -> BTreeMap<String, Vec<Value>> {
    let folders = cylinder.read(&["list", "anna", "--json"]).json();
    let messages = |folder: &Value| {
        let name = folder["folder"].as_str().expect("a name").to_owned();
        let messages = cylinder.read(&["list", "anna", &name, "--expunged", "--json"]).json();
        (name, [vec![folder.clone()], messages].concat())
    };
    folders.iter().map(messages).collect()
}

/// What a run says of a user, but for times and for what depends on them.
fn told(ran: &Ran) -> Value {
    let mut told = ran.user("anna");
    for key in ["longest_hold_ms", "archive_bytes"] {
        told[key] = Value::Null;
    }
    told
}

impl Pair {
    fn pull(&self, words: &[&str]) -> Ran {
        let (ssh, from) = (self.sshd.ssh(false), format!("ssh://{HOST}"));
        self.pulled.pull(&[&["anna", "--ssh", &ssh, "--from", &from], words].concat())
    }

    /// Pulls, backs up locally, and compares everything. Gives what was told of both.
    #[track_caller]
    fn both(&self, exit: i32) -> Value {
        let (pulled, local) = (self.pull(&[]), self.bench.cylinder.backup(&["anna"]));
        assert_eq!((pulled.exit, local.exit), (exit, exit), "{pulled:?}\n{local:?}");
        assert_eq!(told(&pulled), told(&local));
        assert_eq!(pulled.stderr, local.stderr);
        let (ours, theirs) = (comparable(&self.pulled), comparable(&self.bench.cylinder));
        let names = |entries: &[Entry]| entries.iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs);
        }
        assert_eq!(listed(&self.pulled), listed(&self.bench.cylinder));
        self.pulled.verify("anna");
        told(&pulled)
    }
}

#[test]
fn a_pull_over_ssh_makes_the_archive_that_a_local_backup_makes() {
    let mut pair = pair();
    let first = pair.both(0);
    assert_eq!((&first["snapshot"], &first["messages_added"]), (&1.into(), &13.into()), "{first}");
    agrees(&pair.pulled, &mut pair.bench.imap, "anna", Namespace::DEFAULT);
    assert!(pair.both(0)["snapshot"].is_null(), "nothing has changed");

    append_many(&mut pair.bench.imap, "INBOX", 20, 25);
    pair.bench.imap.store("Sent", "1:2", "+FLAGS (\\Flagged $Work)");
    pair.bench.imap.unselect();
    assert_eq!(pair.both(0)["messages_added"], 5);

    pair.bench.imap.rename("Work", "Projects");
    let renamed = pair.both(0);
    assert_eq!((&renamed["names_new"], &renamed["names_gone"], &renamed["messages_added"]), (&2.into(), &2.into(), &0.into()));

    pair.bench.imap.delete("Sent");
    assert_eq!(pair.both(0)["messages_added"], 0);
    pair.bench.imap.create("Sent");
    append_many(&mut pair.bench.imap, "Sent", 30, 31);
    pair.bench.lab.put_script("anna", "other", "discard;\r\n", true);
    assert_eq!(pair.both(0)["messages_added"], 2);
    agrees(&pair.pulled, &mut pair.bench.imap, "anna", Namespace::DEFAULT);
}

#[test]
fn a_large_message_comes_over_ssh() {
    let mut pair = pair();
    let mut large = message(1);
    // More than is kept in memory, and no two lines alike.
    (0..900_000).for_each(|n: u32| large.extend_from_slice(format!("{:08x}\r\n", n.wrapping_mul(2_654_435_761)).as_bytes()));
    let uid = pair.bench.imap.append("INBOX", &[], cylinder_tests::cli::arrival(1), &large);
    assert_eq!(pair.both(0)["messages_added"], 14);
    assert!(pair.pulled.show("anna", &format!("INBOX/{uid}")) == large);
}

#[test]
fn a_mass_loss_is_the_same_alarm() {
    let mut pair = pair();
    pair.both(0);
    for (folder, set) in [("INBOX", "1:3"), ("Sent", "1:3"), ("Work", "1:2")] {
        pair.bench.imap.expunge(folder, set);
    }
    pair.bench.imap.unselect();
    pair.bench.lab.run("cyr_expire", &["-E", "1", "-X", "0"]);
    let alarmed = pair.both(3);
    assert!(alarmed["alarm"].as_str().is_some_and(|alarm| alarm.starts_with("5 of 13 messages")), "{alarmed}");
    for n in 0..12 {
        let content = message(n);
        assert_eq!(pair.pulled.show("anna", &Guid::of(&content).to_hex()), content, "message {n}");
    }
}

#[test]
fn whoever_cannot_be_reached_says_why_in_the_words_of_ssh() {
    let mut pair = pair();
    pair.both(0);
    append_many(&mut pair.bench.imap, "INBOX", 40, 41);
    let stamp = pair.pulled.stamp("anna");
    let from = format!("ssh://{HOST}");
    let (stranger, known) = (pair.sshd.ssh(true), pair.sshd.ssh(false));
    let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let nobody = format!("ssh://127.0.0.1:{free}");
    for (ssh, from, why) in [
        (&stranger, &from, "Permission denied (publickey)."),
        (&known, &nobody, "Connection refused"),
        (&"ssh-is-not-here".to_owned(), &from, "cannot be reached"),
    ] {
        let ran = pair.pulled.pull(&["anna", "--ssh", ssh, "--from", from]);
        assert!(ran.exit == 1 && ran.stderr.contains(why), "{why}: {ran:?}");
    }
    assert_eq!(pair.pulled.stamp("anna"), stamp);
    // The key runs the server and nothing else: another command is not what runs.
    let ran = pair.pull(&["--serve-command", "rm -rf /nowhere"]);
    assert!(ran.exit == 0 && ran.user("anna")["messages_added"] == 1, "{ran:?}");
}

/// A server on a socket, which ends with the test.
struct Listening(Child);

impl Listening {
    fn start(lab: &Lab, socket: &str) -> Listening {
        let mut command = Command::new(binary());
        command.args(["serve", "--listen", socket, "--imapd-conf", lab.conf(), "--root"]).arg(lab.root());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("cylinder runs");
        let mut line = String::new();
        let stderr = child.stderr.take().expect("a pipe");
        BufReader::new(stderr).read_line(&mut line).expect("a line");
        assert!(line.contains("serving on"), "{line}");
        Listening(child)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn sockets_over_there_are_reached_through_ssh() {
    let pair = pair();
    let local = pair.bench.cylinder.backup(&["anna"]);
    assert_eq!(local.exit, 0);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("socket");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let sockets = [
        (format!("unix:{}", path.display()), format!("ssh+unix://{HOST}{}", path.display())),
        (format!("tcp:127.0.0.1:{port}"), format!("ssh+tcp://{HOST}/127.0.0.1:{port}")),
    ];
    for (socket, from) in sockets {
        let _listening = Listening::start(&pair.bench.lab, &socket);
        let pulled = Cylinder::new(&pair.bench.lab);
        let ran = pulled.pull(&["anna", "--ssh", &pair.sshd.tunnel(), "--from", &from]);
        assert_eq!(ran.exit, 0, "{ran:?}");
        assert!(comparable(&pulled) == comparable(&pair.bench.cylinder), "{from}: another archive");
        // Nobody is there any more.
        drop(_listening);
        let ran = pulled.pull(&["anna", "--ssh", &pair.sshd.tunnel(), "--from", &from]);
        assert_eq!(ran.exit, 1, "{ran:?}");
    }
}
