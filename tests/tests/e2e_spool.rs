//! A server that lost everything, put back as files in place by `restore --spool`, says over IMAP what it said before.
//!
//! Needs root and the installed server: `tests/lab/cyrus-lab install 3.6`; for the other releases `tests/lab/matrix`.

use cylinder_tests::cli::{Cylinder, Ran, Running, append_many, arrival, message, spool_dir};
use cylinder_tests::imap::{Imap, Status, Value};
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::{binary, run_for};
use cylinder_tests::sieve;
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Makes two users who use everything that a mailbox can have.
fn fill(lab: &Lab) {
    let mut anna = lab.new_user("anna");
    let mut bob = lab.new_user("bob.smith");
    for folder in ["Work", "Work/B&APw-cher &- T&APY-ne", "Work/v1.2", "Work/deep/er", "Team", "Gone"] {
        anna.create(folder);
    }
    for (folder, special) in [("Sent", "\\Sent"), ("Drafts", "\\Drafts"), ("Trash", "\\Trash")] {
        anna.create_special(folder, special);
    }
    append_many(&mut anna, "INBOX", 0, 12);
    append_many(&mut anna, "Work", 20, 25);
    append_many(&mut anna, "Team", 30, 34);
    append_many(&mut anna, "Gone", 40, 42);
    append_many(&mut bob, "INBOX", 50, 53);
    anna.append("INBOX", &["\\Seen", "\\Draft"], arrival(7), &[message(60), vec![b'x'; 2_500_000], b"\r\n".to_vec()].concat());
    anna.store("INBOX", "1:4", "+FLAGS (\\Flagged $Label1)");
    anna.store("INBOX", "3:6", "+FLAGS (\\Seen Project-X)");
    anna.store("INBOX", "2", "-FLAGS (\\Flagged)");
    anna.copy("INBOX", "1:3", "Sent");
    anna.uid_move("INBOX", "5", "Work/v1.2");
    anna.expunge("INBOX", "7:8");
    anna.set_annotation("INBOX", "2", "/comment", "value.shared", "for all");
    anna.set_annotation("INBOX", "2", "/comment", "value.priv", "mine");
    anna.set_metadata("Work", "/private/comment", b"a private\r\ncomment");
    anna.set_metadata("Work", "/shared/comment", b"one for all");
    anna.set_acl("Team", "bob.smith", "lrswi");
    anna.delete("Gone");
    for folder in ["INBOX", "Work", "Work/v1.2", "Work/B&APw-cher &- T&APY-ne"] {
        anna.subscribe(folder);
    }
    // What he has seen of her folder is his.
    bob.store("Other Users/anna/Team", "1,3", "+FLAGS (\\Seen)");
    bob.subscribe("Other Users/anna/Team");
    let mut admin = lab.login("cyrus");
    admin.set_quota("user/anna", "STORAGE 20000");
    admin.set_quota("user/anna/Work", "STORAGE 3000");
    admin.set_quota("user/anna/Team", "STORAGE 4000");
    admin.create("shared");
    admin.create("shared/news");
    admin.set_acl("shared/news", "anyone", "lrsp");
    admin.set_acl("shared/news", "cyrus", "lrswipkxtecda");
    admin.append("shared/news", &[], arrival(3), &message(70));
    lab.put_script("anna", "main", "keep;\r\n", true);
    lab.put_script("anna", "other", "discard;\r\n", false);
    for imap in [anna, bob, admin] {
        imap.logout();
    }
}

/// What the server says of everything that two users and the administrator can see, by the command that was asked.
fn world(lab: &Lab) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    for user in ["anna", "bob.smith", "cyrus"] {
        let mut imap = lab.login(user);
        for command in ["LIST (SPECIAL-USE) \"\" *", "LIST \"\" *", "LSUB \"\" *"] {
            ask(&mut imap, user, command, &mut said);
        }
        for listed in imap.list("*") {
            if listed.attributes.iter().any(|a| matches!(a.as_str(), "\\Noselect" | "\\NonExistent")) {
                continue;
            }
            let name = format!("\"{}\"", listed.name.replace('\\', "\\\\").replace('"', "\\\""));
            for command in [
                format!("STATUS {name} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN HIGHESTMODSEQ)"),
                format!("GETACL {name}"),
                format!("MYRIGHTS {name}"),
                format!("GETQUOTAROOT {name}"),
                format!("GETMETADATA {name} (/shared/comment /private/comment /private/specialuse)"),
            ] {
                ask(&mut imap, user, &command, &mut said);
            }
            // The administrator sees all, and may read only what somebody has given him the right to.
            if imap.command(format!("EXAMINE {name}")).status != Status::Ok {
                said.insert(format!("{user}: EXAMINE {name}"), String::from("refused"));
                continue;
            }
            let items = "UID FLAGS INTERNALDATE RFC822.SIZE MODSEQ ANNOTATION (/comment (value.priv value.shared)) BODY.PEEK[]";
            let command = format!("UID FETCH 1:* ({items})");
            ask(&mut imap, &format!("{user} {name}"), &command, &mut said);
        }
        imap.logout();
    }
    said
}

#[track_caller]
fn ask(imap: &mut Imap, who: &str, command: &str, said: &mut BTreeMap<String, String>) {
    let response = imap.command(command);
    let lines: Vec<String> = response.untagged.iter().map(|values| shown(values)).collect();
    said.insert(format!("{who}: {command}"), format!("{:?} {lines:#?}", response.status));
}

/// An answer, with long literals by their length and CRC.
fn shown(values: &[Value]) -> String {
    let one = |value: &Value| match value {
        Value::List(items) => format!("({})", shown(items)),
        other => {
            let bytes = other.bytes();
            let long = || format!("{} bytes {:08x}", bytes.len(), cylinder_core::crc32::crc32(bytes));
            if bytes.len() > 200 { long() } else { bytes.escape_ascii().to_string() }
        }
    };
    values.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// Everything that the server had is gone, its configuration is not.
fn wipe(lab: &Lab) {
    for dir in ["lib", "spool", "sieve", "run"] {
        let dir = lab.outside(lab.dir()).join(dir);
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("a name").path();
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            removed.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
    }
}

/// Restores everybody and runs the commands that it wrote.
#[track_caller]
fn restore(lab: &Lab, cylinder: &Cylinder, version: Version) {
    let mut command = Command::new(binary());
    command.args(["restore", "--all-users", "--json", "--imapd-conf", lab.conf(), "--store"]);
    command.arg(cylinder.store()).arg("--spool").arg(lab.root());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ran = Running::start(&mut command).end();
    assert_eq!(ran.exit, 0, "{ran:?}");
    // What is installed on its disk tells its version.
    assert!(ran.stderr.contains(&format!("is taken for Cyrus {}: package cyrus-", version.name())), "{ran:?}");
    let told = &ran.json()[0];
    let script = told["commands"][1].as_str().and_then(|line| line.rsplit(' ').next()).expect("a script");
    let owner = std::fs::metadata(lab.outside(script)).expect("the script").uid();
    assert_ne!(owner, 0, "the files belong to root");
    let mut command = if lab.root() == Path::new("/") {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=cyrus", "--regid=mail", "--init-groups"]);
        command
    } else {
        let mut command = Command::new("chroot");
        command.arg("--userspec=cyrus:mail").arg(lab.root());
        command
    };
    run_for(command.args(["sh", script]), 0);
}

/// How many indexes the server has of each version.
fn index_versions(lab: &Lab) -> BTreeMap<u8, u64> {
    let (mut dirs, mut found) = (vec![lab.outside(lab.dir()).join("spool")], BTreeMap::new());
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())).flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else if entry.file_name() == "cyrus.index" {
                let index = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                *found.entry(index[11]).or_default() += 1;
            }
        }
    }
    assert!(!found.is_empty(), "no index in {}", lab.dir());
    found
}

fn comes_back(version: Version, options: &[(&str, &str)]) {
    let mut lab = Lab::start(version, options);
    fill(&lab);
    let before = world(&lab);
    let scripts = sieve::scripts(lab.host(), lab.port("sieve"), "anna");
    assert_eq!(scripts, [("main".to_owned(), true), ("other".to_owned(), false)]);
    let cylinder = Cylinder::new(&lab);
    let ran = cylinder.backup(&["--all"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    lab.stop();
    let indexes = index_versions(&lab);
    wipe(&lab);
    restore(&lab, &cylinder, version);
    assert_eq!(index_versions(&lab), indexes, "no index is of another version");
    lab.start_again(options);
    assert_eq!(sieve::scripts(lab.host(), lab.port("sieve"), "anna"), scripts);
    let after = world(&lab);
    for (command, said) in &before {
        assert_eq!(after.get(command), Some(said), "{}: {options:?}: {command}", version.name());
    }
    assert_eq!(after.len(), before.len());
    // The scripts are there, and one is active.
    let mut anna = lab.login("anna");
    append_many(&mut anna, "INBOX", 100, 102);
    anna.create("New");
    anna.logout();
    let ran = cylinder.backup(&["--all"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    for user in ["anna", "bob.smith"] {
        cylinder.verify(user);
    }
    let added = &ran.user("anna")["messages_added"];
    assert_eq!(added, 2, "the archive goes on where it was: {ran:?}");
}

#[test]
fn a_lost_server_comes_back() {
    comes_back(Version::V3_6, &[]);
}

#[test]
fn a_lost_server_with_partitions_for_metadata_and_directories_by_name_comes_back() {
    comes_back(
        Version::V3_6,
        &[
            ("mailbox_legacy_dirs", "yes"),
            ("metapartition_files", "header index annotations"),
            ("metapartition-default", "{dir}/spool/meta"),
            ("conversations", "no"),
        ],
    );
}

/// `restore --spool` of one user, and what it said.
fn restore_user(lab: &Lab, cylinder: &Cylinder, words: &[&str]) -> Ran {
    let mut command = Command::new(binary());
    command.args(["restore", "--imapd-conf", lab.conf(), "--store"]).arg(cylinder.store()).args(words);
    command.arg("--spool").arg(lab.root()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::start(&mut command).end()
}

#[test]
fn files_of_a_server_that_runs_are_not_touched() {
    let lab = Lab::start(Version::V3_6, &[]);
    let mut imap = lab.new_user("anna");
    append_many(&mut imap, "INBOX", 0, 2);
    let cylinder = Cylinder::new(&lab);
    cylinder.backup_well("anna");
    let there = spool_dir(&lab, "user/anna").join("1.");
    std::fs::remove_file(&there).expect("the message");
    for words in [&["anna", "--all"][..], &["--all-users"], &["anna", "--all", "--dry-run"]] {
        let ran = restore_user(&lab, &cylinder, words);
        assert_eq!(ran.exit, if words.contains(&"--dry-run") { 0 } else { 1 }, "{ran:?}");
        assert!(ran.stderr.contains("a Cyrus server runs on / ("), "{ran:?}");
        assert!(!there.exists(), "{ran:?}");
    }
    imap.logout();
    lab.stop();
    let ran = restore_user(&lab, &cylinder, &["anna", "--all"]);
    assert!(there.exists() && !ran.stderr.contains("runs on"), "{ran:?}");
}

/// Runs the commands that a restore of one user has left, as the user of Cyrus.
fn run_commands(ran: &Ran, code: i32) -> String {
    let told = &ran.json()[0];
    let script = told["commands"][1].as_str().and_then(|line| line.rsplit(' ').next()).expect("a script");
    let mut command = Command::new("setpriv");
    let ran = run_for(command.args(["--reuid=cyrus", "--regid=mail", "--init-groups", "sh", script]), code);
    String::from_utf8_lossy(&ran.stderr).into_owned()
}

/// What the server says of the quota of a folder.
fn quotas_of(lab: &Lab, folder: &str) -> String {
    let mut imap = lab.login("anna");
    let said = format!("{:?}", imap.ok(format!("GETQUOTAROOT {folder}")).untagged);
    imap.logout();
    said
}

/// The archive is of a server with a file for each quota root; the one that it goes to has a database.
#[test]
fn limits_go_into_the_quota_database_that_the_server_has() {
    for kind in ["twoskip", "skiplist", "flat"] {
        let mut lab = Lab::start(Version::V3_6, &[]);
        let mut imap = lab.new_user("anna");
        imap.create("Work");
        append_many(&mut imap, "INBOX", 0, 4);
        append_many(&mut imap, "Work", 4, 6);
        imap.logout();
        let mut admin = lab.login("cyrus");
        admin.set_quota("user/anna", "STORAGE 20000 MESSAGE 500");
        admin.set_quota("user/anna/Work", "STORAGE 3000");
        admin.logout();
        let before = ["INBOX", "Work"].map(|folder| quotas_of(&lab, folder));
        let cylinder = Cylinder::new(&lab);
        cylinder.backup_well("anna");
        lab.stop();
        wipe(&lab);
        let conf = lab.outside(lab.conf());
        let text = std::fs::read_to_string(&conf).expect("imapd.conf");
        std::fs::write(&conf, format!("{text}quota_db: {kind}\n")).expect("imapd.conf");
        let ran = restore_user(&lab, &cylinder, &["anna", "--all", "--json"]);
        assert_eq!(ran.exit, 0, "{kind}: {ran:?}");
        run_commands(&ran, 0);
        lab.start_again(&[("quota_db", kind)]);
        assert_eq!(["INBOX", "Work"].map(|folder| quotas_of(&lab, folder)), before, "{kind}");
    }
}

/// The limits of a quota root are lost: the folders keep their root, and the restore says what is left to be done.
#[test]
fn a_quota_root_without_limits_is_told_and_stays_in_the_headers() {
    let mut lab = Lab::start(Version::V3_6, &[]);
    let mut imap = lab.new_user("anna");
    append_many(&mut imap, "INBOX", 0, 4);
    imap.logout();
    lab.login("cyrus").set_quota("user/anna", "STORAGE 20000");
    let cylinder = Cylinder::new(&lab);
    std::fs::remove_dir_all(lab.outside(lab.dir()).join("lib/quota")).expect("limits");
    cylinder.backup(&["anna"]);
    lab.stop();
    wipe(&lab);
    let ran = restore_user(&lab, &cylinder, &["anna", "--all", "--json"]);
    let told = ran.json()[0]["failed"].to_string();
    assert!(ran.exit == 3 && told.contains("quota root user.anna"), "{ran:?}");
    assert!(told.contains("folders name it, and neither the archive nor the server has its limits"), "{ran:?}");
    assert!(!ran.json()[0]["commands"].to_string().contains("quota -"), "{ran:?}");
    run_commands(&ran, 0);
    lab.start_again(&[]);
    lab.login("cyrus").set_quota("user/anna", "STORAGE 20000");
    assert!(quotas_of(&lab, "INBOX").contains("STORAGE"), "{}", quotas_of(&lab, "INBOX"));
}

/// Without the programs for it, a restore of calendars does not end well, and says what is left to be done.
#[test]
fn calendars_on_a_server_without_dav_reconstruct_are_a_failure_with_the_remedy() {
    let lab = Lab::start(Version::V3_6, &[]);
    lab.new_user("anna").logout();
    let mut admin = lab.login("cyrus");
    admin.set_acl("user/anna", "cyrus", "lrswipkxtecda");
    admin.ok("CREATE \"user/anna/#calendars\" (TYPE CALENDAR)");
    admin.logout();
    let cylinder = Cylinder::new(&lab);
    cylinder.backup_well("anna");
    lab.stop();
    wipe(&lab);
    let ran = restore_user(&lab, &cylinder, &["anna", "--all", "--json"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    let said = run_commands(&ran, 3);
    assert!(said.contains("cyrus-caldav") && said.contains(&format!("dav_reconstruct -C {} anna", lab.conf())), "{said}");
}

/// A message whose file was cut on the server comes back as it was, is named, and the restore does not end with 0.
#[test]
fn a_message_that_was_damaged_when_it_was_backed_up_is_named_by_every_export() {
    let lab = Lab::start(Version::V3_6, &[]);
    let mut imap = lab.new_user("anna");
    append_many(&mut imap, "INBOX", 10, 12);
    imap.logout();
    let whole = std::fs::read(spool_dir(&lab, "user/anna").join("1.")).expect("the message");
    std::fs::write(spool_dir(&lab, "user/anna").join("1."), &whole[..50]).expect("the message");
    let cylinder = Cylinder::new(&lab);
    let ran = cylinder.backup(&["anna"]);
    assert_eq!(ran.exit, 3, "{ran:?}");
    let out = lab.outside(lab.dir()).join("out").display().to_string();
    let out = |form| format!("{out}-{form}");
    let (maildir, mbox, eml, cyrus) = (out("maildir"), out("mbox"), out("eml"), out("cyrus"));
    for words in [
        &["--dir", &maildir][..],
        &["--format", "mbox", "--dir", &mbox],
        &["--format", "eml", "--dir", &eml],
        &["--format", "cyrus", "--dir", &cyrus],
        &["--zip"],
        &["--tar"],
        &["--dry-run", "--dir", &maildir],
    ] {
        let ran = cylinder.read(&[&["restore", "anna", "--all"], words].concat());
        assert_eq!(ran.exit, 3, "{words:?}: {ran:?}");
        let expected = "INBOX/1: was damaged on the server when it was backed up: 50 bytes of other content";
        assert!(ran.stderr.contains(expected), "{words:?}: {ran:?}");
    }
    assert_eq!(std::fs::read(format!("{eml}/INBOX/1.eml")).expect("what there was"), &whole[..50]);
    let side = std::fs::read_to_string(format!("{eml}/INBOX.jsonl")).expect("the side file");
    assert_eq!(side.matches("\"damaged\":").count(), 1, "{side}");
    lab.stop();
    wipe(&lab);
    let ran = restore_user(&lab, &cylinder, &["anna", "--all"]);
    assert!(ran.exit == 3 && ran.stderr.contains("INBOX/1: was damaged on the server"), "{ran:?}");
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.2`: minutes, and some 0.5 GB"]
fn cyrus_3_2_is_supported() {
    comes_back(Version::V3_2, &[]);
}

#[test]
#[ignore = "run by `tests/lab/matrix`; other tests say more about 3.6"]
fn cyrus_3_6_is_supported() {
    comes_back(Version::V3_6, &[("hashimapspool", "no")]);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.10`: minutes, and some 0.5 GB"]
fn cyrus_3_10_is_supported() {
    comes_back(Version::V3_10, &[]);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.12`: minutes, and some 0.5 GB"]
fn cyrus_3_12_is_supported() {
    comes_back(Version::V3_12, &[]);
}
