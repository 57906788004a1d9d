//! Userids with `@` on a server without virtual domains, where such a userid is one component of a mailbox's name.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_tests::cli::{Cylinder, Ran, Running, append_many};
use cylinder_tests::deliver::contents;
use cylinder_tests::imap::{Imap, Status};
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::{binary, run_for};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// One in the default domain of the server, one in another.
const USERS: [&str; 2] = ["anna@example.org", "eve@other.net"];

/// Users as an administrator makes them, and one whose userid is the first part of another's. They themselves do not get at
/// their mailboxes: the server looks for those of a domain.
fn fill(lab: &Lab) -> Imap {
    let mut anna = lab.new_user("anna");
    append_many(&mut anna, "INBOX", 0, 1);
    anna.logout();
    let mut admin = lab.login("cyrus");
    for (n, user) in USERS.into_iter().enumerate() {
        for (m, name) in names(user).into_iter().enumerate() {
            admin.create(&name);
            admin.set_acl(&name, "cyrus", "lrswipkxtecdan");
            let from = 10 + 20 * n as u32 + 5 * m as u32;
            append_many(&mut admin, &name, from, from + 3);
        }
        admin.set_quota(&names(user)[0], "STORAGE 4000");
    }
    admin
}

fn names(user: &str) -> [String; 2] {
    [format!("user/{user}"), format!("user/{user}/Sent")]
}

/// What the server says of the mailboxes of these users.
fn said(admin: &mut Imap) -> String {
    let mut all = format!("{:?}", admin.list("user/*@*"));
    for name in USERS.into_iter().flat_map(names) {
        let told = ["GETACL", "GETQUOTAROOT"].map(|word| format!("{:?}", admin.ok(format!("{word} \"{name}\"")).untagged));
        all.push_str(&format!("\n{name}: {told:?} {:?} {:?}", admin.status(&name), contents(admin, &name)));
    }
    all
}

fn restore(cylinder: &Cylinder, words: &[&str]) -> Ran {
    let mut command = Command::new(binary());
    command.arg("restore").args(words).arg("--store").arg(cylinder.store()).env("LAB_PASSWORD", "any");
    Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end()
}

fn over(lab: &Lab, cylinder: &Cylinder, service: &str, words: &[&str]) -> Ran {
    let server = format!("tcp:{}:{}", lab.host(), lab.port(service));
    restore(cylinder, &[words, &["--login", "cyrus", "--password-env", "LAB_PASSWORD", "--server", &server]].concat())
}

/// What hangs on the userid: a database of subscriptions, empty because the server shows such a user no mailbox, and a script,
/// which it lets nobody upload.
fn live(lab: &Lab) {
    let mut eve = Imap::login_for(lab.host(), lab.port("imap"), USERS[1]);
    assert!(eve.list("*").is_empty() && eve.command("SUBSCRIBE INBOX").status == Status::No);
    eve.logout();
    let script = lab.outside(lab.dir()).join("sieve/e/eve@other.net/main.script");
    fs::create_dir_all(script.parent().expect("a directory")).expect("a directory");
    fs::write(script, "keep;\r\n").expect("a file");
}

/// These files, where the server has made them.
fn own_files(lab: &Lab) -> Vec<Vec<u8>> {
    let dir = lab.outside(lab.dir());
    let all = ["lib/domain/o/other.net/user/e/eve.sub", "sieve/e/eve@other.net/main.script"].map(|path| dir.join(path));
    all.into_iter().map(|path| fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).collect()
}

fn everything(options: &[(&str, &str)]) {
    let options = [&[("virtdomains", "off")], options].concat();
    let mut lab = Lab::start(Version::V3_6, &options);
    let mut admin = fill(&lab);
    let before = said(&mut admin);
    live(&lab);
    let files = own_files(&lab);
    let cylinder = Cylinder::new(&lab);
    // All of them, and each by name: both find the same.
    let ran = cylinder.backup(&["--all"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    for user in USERS {
        assert_eq!((&ran.user(user)["messages_added"], &ran.user(user)["folders"]), (&6.into(), &2.into()), "{ran:?}");
        cylinder.backup_nothing(user);
        cylinder.verify(user);
        let folders: Vec<String> = cylinder.folders(user).into_iter().map(|folder| folder.name).collect();
        assert_eq!(folders, ["INBOX", "INBOX.Sent"]);
    }
    assert_eq!(ran.user("anna")["messages_added"], 1, "{ran:?}");
    let entries = cylinder.entries("eve@other.net");
    for name in ["meta/sub", "meta/counters", "meta/quota/user.eve@other^net", "sieve/main.script"] {
        assert!(entries.iter().any(|entry| entry.contains(name)), "{name}: {entries:?}");
    }
    admin.logout();
    // Over the wire, onto another server. (3.6.1 itself cannot delete such a user: its process ends.)
    let other = Lab::start(Version::V3_6, &options);
    other.new_user("anna").logout();
    for user in USERS {
        let ran = over(&other, &cylinder, "sync", &[user, "--all", "--exact", "--json"]);
        // A script hangs on the INBOX that the server makes of the userid, and that is not there.
        let failures = ran.json()[0]["failures"].to_string();
        let is_script = failures.matches("\"what\"").count() == 1 && failures.contains("scripts: main.script");
        let expected = if user == USERS[1] { (3, true) } else { (0, false) };
        assert_eq!((ran.exit, is_script), expected, "{ran:?}");
        let ran = over(&other, &cylinder, "imap", &[user, "--all", "--merge"]);
        assert!(ran.exit == 1 && ran.stderr.contains("has no mailbox on this server"), "{ran:?}");
    }
    assert_eq!(said(&mut other.login("cyrus")), said(&mut lab.login("cyrus")));
    // Lost with the disk, and put back into its files.
    lab.stop();
    let dir = lab.outside(lab.dir());
    for lost in ["lib", "spool", "sieve", "run"] {
        fs::remove_dir_all(dir.join(lost)).expect("it was there");
        fs::create_dir(dir.join(lost)).expect("a directory");
    }
    run_for(Command::new("chown").arg("-R").arg("cyrus:mail").arg(&dir), 0);
    let root = lab.root().to_str().expect("text");
    let ran = restore(&cylinder, &["--all-users", "--json", "--imapd-conf", lab.conf(), "--spool", root]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let told = &ran.json()[0];
    let script = told["commands"][1].as_str().and_then(|line| line.rsplit(' ').next()).expect("a script");
    run_for(Command::new("setpriv").args(["--reuid=cyrus", "--regid=mail", "--init-groups", "sh", script]), 0);
    assert_eq!(own_files(&lab), files);
    lab.start_again(&options);
    assert_eq!(said(&mut lab.login("cyrus")), before);
    // Into files.
    let parent = tempfile::tempdir().expect("a directory");
    let to = parent.path().join("eve");
    let ran = restore(&cylinder, &["eve@other.net", "--all", "--dir", to.to_str().expect("text")]);
    assert!(ran.exit == 0 && count(&to) >= 6, "{ran:?}");
}

fn count(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).flatten();
    entries.map(|entry| if entry.path().is_dir() { count(&entry.path()) } else { 1 }).sum()
}

#[test]
fn a_userid_with_a_domain_is_a_user_without_virtual_domains() {
    everything(&[]);
}

#[test]
fn such_a_user_is_found_in_directories_by_name_too() {
    everything(&[("mailbox_legacy_dirs", "yes"), ("fulldirhash", "no")]);
    everything(&[("hashimapspool", "no"), ("mailbox_legacy_dirs", "yes")]);
}
