//! `cylinder restore --exact` into real servers where it does not go straight: users made again, sessions that are open, what
//! no server takes, and what only this server does not.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`; those that are ignored need the other releases, too.

use cylinder_core::crc32::Crc32;
use cylinder_core::imap::client::base64;
use cylinder_tests::cli::{Bench, Cylinder, Namespace, Ran, Running, append_many, arrival, bodies, message, spool_dir};
use cylinder_tests::csync::Csync;
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::binary;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A ManageSieve session that stays open.
struct Session(BufReader<TcpStream>);

impl Session {
    #[track_caller]
    fn open(lab: &Lab, user: &str) -> Session {
        let stream = TcpStream::connect((lab.host(), lab.port("sieve"))).expect("ManageSieve");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a read timeout can be set");
        let mut session = Session(BufReader::new(stream));
        let _ = session.answer();
        let plain = base64(format!("\0{user}\0any").as_bytes());
        session.ask(&format!("AUTHENTICATE \"PLAIN\" \"{}\"", String::from_utf8_lossy(&plain)));
        session
    }

    #[track_caller]
    fn ask(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).expect("sent");
        self.answer()
    }

    #[track_caller]
    fn answer(&mut self) -> String {
        let mut all = String::new();
        loop {
            let from = all.len();
            self.0.read_line(&mut all).expect("an answer of ManageSieve");
            let line = &all[from..];
            assert!(!line.is_empty() && !line.starts_with("NO") && !line.starts_with("BYE"), "{all}");
            if line.starts_with("OK") {
                all.truncate(from);
                return all;
            }
        }
    }
}

fn scripts(lab: &Lab, user: &str) -> String {
    Session::open(lab, user).ask("LISTSCRIPTS")
}

fn restore_command(lab: &Lab, cylinder: &Cylinder, user: &str, words: &[&str]) -> Command {
    restore_command_at(&format!("tcp:{}:{}", lab.host(), lab.port("sync")), cylinder, user, words)
}

fn restore_command_at(server: &str, cylinder: &Cylinder, user: &str, words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(["restore", user, "--exact", "--login", "cyrus", "--password-env", "LAB_PASSWORD", "--json"]);
    command.args(["--server", server]).args(words).arg("--store").arg(cylinder.store()).env("LAB_PASSWORD", "any");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn restore(lab: &Lab, cylinder: &Cylinder, user: &str, words: &[&str]) -> Ran {
    Running::start(&mut restore_command(lab, cylinder, user, words)).end()
}

#[track_caller]
fn restore_for(lab: &Lab, cylinder: &Cylinder, words: &[&str], exit: i32) -> Value {
    let ran = restore(lab, cylinder, "anna", words);
    assert_eq!(ran.exit, exit, "{ran:?}");
    ran.json().remove(0)
}

/// All failures of a report, as one text.
fn failures(told: &Value) -> String {
    let folders = told["folders"].as_array().expect("folders").iter().flat_map(|folder| folder["failures"].as_array());
    let all = folders.flatten().chain(told["failures"].as_array().into_iter().flatten());
    all.map(|failure| format!("{}: {}\n", failure["what"], failure["why"])).collect()
}

fn sum(told: &Value, key: &str) -> u64 {
    told["folders"].as_array().expect("folders").iter().filter_map(|folder| folder[key].as_u64()).sum()
}

fn delete_for_ever(lab: &Lab, user: &str) {
    let mut admin = lab.login("cyrus");
    admin.ok(format!("SETACL \"user/{user}\" cyrus c"));
    admin.ok(format!("DELETE \"user/{user}\""));
    admin.logout();
    lab.run("cyr_expire", &["-E", "1", "-D", "0"]);
}

/// The text of a Cyrus calendar entry.
fn event(n: u32) -> Vec<u8> {
    let ical = format!(
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//x//EN\r\nBEGIN:VEVENT\r\nUID:event{n}@example.org\r\nDTSTAMP:20260101T000000Z\r\n\
         DTSTART:20260102T000000Z\r\nSUMMARY:Lunch\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
    );
    let head = format!(
        "From: <anna@lab.example.org>\r\nSubject: Lunch\r\nDate: Thu, 01 Jan 2026 00:00:00 +0000\r\nMessage-ID: <event{n}@lab>\r\n\
         Content-Type: text/calendar; charset=utf-8; component=VEVENT\r\nContent-Length: {}\r\n\
         Content-Disposition: attachment;\r\n\tfilename=\"event{n}.ics\"\r\nMIME-Version: 1.0\r\n\r\n",
        ical.len()
    );
    (head + &ical).into_bytes()
}

/// Events that the server finds by its database, which is where CalDAV looks.
#[track_caller]
fn events_in_database(lab: &Lab, user: &str) -> usize {
    let inbox = Csync::login(lab.host(), lab.port("sync")).ask(&format!("GET MAILBOXES (user.{user})"));
    let id = inbox.split("UNIQUEID ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a uniqueid").to_owned();
    let dir = format!("{}/lib/user/uuid/{}/{}/{id}/dav.db", lab.dir(), &id[..1], &id[1..2]);
    let script =
        "import sqlite3,sys; print(sqlite3.connect(sys.argv[1]).execute('select count(*) from ical_objs').fetchone()[0])";
    let output = Command::new("python3").arg("-c").arg(script).arg(lab.outside(&dir)).output().expect("python3");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    told.trim().parse().unwrap_or_else(|_| panic!("{dir}: {told}{}", String::from_utf8_lossy(&output.stderr)))
}

/// A user with mail, a script that is active, and a calendar with events.
fn with_scripts_and_events(version: Version) -> Bench {
    let mut bench = Bench::of(Lab::start(version, &[]), "anna", Namespace::DEFAULT);
    append_many(&mut bench.imap, "INBOX", 0, 4);
    bench.imap.create("Work");
    append_many(&mut bench.imap, "Work", 10, 13);
    bench.imap.subscribe("Work");
    bench.lab.put_script("anna", "main", "keep;\r\n", false);
    bench.lab.put_script("anna", "my rules", "redirect \"x@example.org\";\r\n", true);
    let mut admin = bench.lab.login("cyrus");
    admin.ok("CREATE \"user/anna/#calendars\" (TYPE CALENDAR)");
    admin.ok("CREATE \"user/anna/#calendars/home\" (TYPE CALENDAR)");
    admin.ok("SETACL \"user/anna/#calendars/home\" cyrus lrswipkxtecda");
    // Later releases take events by CalDAV alone.
    for n in 0..if version == Version::V3_12 { 0 } else { 3 } {
        admin.append("user/anna/#calendars/home", &[], arrival(n), &event(n));
    }
    admin.logout();
    bench
}

/// What a replication client is told of the mailboxes that hold mail.
fn replica(lab: &Lab) -> Vec<String> {
    let mut csync = Csync::login(lab.host(), lab.port("sync"));
    ["user.anna", "user.anna.Work"].map(|name| csync.ask(&format!("GET FULLMAILBOX {name}"))).to_vec()
}

fn user_made_again(version: Version, first: &[&str]) {
    let bench = with_scripts_and_events(version);
    bench.cylinder.backup_well("anna");
    let (listed, events) = (scripts(&bench.lab, "anna"), events_in_database(&bench.lab, "anna"));
    assert!(
        listed.contains("main")
            && listed.contains("my rules\" ACTIVE")
            && events == if version == Version::V3_12 { 0 } else { 3 },
        "{listed} {events}"
    );
    let before = replica(&bench.lab);
    delete_for_ever(&bench.lab, "anna");
    let mut admin = bench.lab.login("cyrus");
    admin.create("user/anna");
    restore_for(&bench.lab, &bench.cylinder, first, 3);
    restore_for(&bench.lab, &bench.cylinder, &["--all", "--replace", "--no-backup"], 0);
    assert_eq!(scripts(&bench.lab, "anna"), listed);
    assert_eq!(events_in_database(&bench.lab, "anna"), events);
    assert_eq!(replica(&bench.lab), before);
    let mut imap = bench.lab.login("anna");
    assert_eq!((imap.fetch("INBOX").len(), imap.fetch("Work").len()), (4, 3));
    assert_eq!(imap.subscribed().iter().map(|listed| &listed.name[..]).collect::<Vec<_>>(), ["Work"]);
    let again = restore_for(&bench.lab, &bench.cylinder, &["--all", "--replace", "--no-backup"], 0);
    assert_eq!(sum(&again, "added"), 0, "{again}");
}

#[test]
fn a_user_made_again_and_replaced_has_scripts_and_events() {
    user_made_again(Version::V3_6, &["--all"]);
}

#[test]
fn a_user_made_again_whose_calendars_came_first_has_scripts_and_events() {
    let bench = with_scripts_and_events(Version::V3_6);
    bench.cylinder.backup_well("anna");
    let listed = scripts(&bench.lab, "anna");
    delete_for_ever(&bench.lab, "anna");
    bench.lab.login("cyrus").create("user/anna");
    restore_for(&bench.lab, &bench.cylinder, &["--subtree", "INBOX.#calendars"], 0);
    let told = restore_for(&bench.lab, &bench.cylinder, &["INBOX", "--replace", "--no-backup"], 3);
    assert!(failures(&told).contains("another uniqueid") && failures(&told).contains("--all"), "{told}");
    restore_for(&bench.lab, &bench.cylinder, &["--all", "--replace", "--no-backup"], 0);
    assert_eq!((scripts(&bench.lab, "anna"), events_in_database(&bench.lab, "anna")), (listed, 3));
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.10`"]
fn a_user_made_again_on_3_10_has_scripts_and_events() {
    user_made_again(Version::V3_10, &["--all"]);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.12`"]
fn a_user_made_again_on_3_12_has_scripts_and_events() {
    user_made_again(Version::V3_12, &["--all"]);
}

fn session_is_open(version: Version) {
    let mut bench = Bench::start(version, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 3);
    bench.lab.put_script("anna", "main", "keep;\r\n", true);
    bench.cylinder.backup_well("anna");
    append_many(&mut bench.imap, "INBOX", 3, 5);
    bench.lab.put_script("anna", "main", "discard;\r\n", true);
    bench.lab.put_script("anna", "other", "stop;\r\n", true);
    let mut session = Session::open(&bench.lab, "anna");
    assert!(session.ask("LISTSCRIPTS").contains("other\" ACTIVE"));
    let begun = Instant::now();
    restore_for(&bench.lab, &bench.cylinder, &["--all", "--replace", "--no-backup"], 0);
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(bench.lab.login("anna").fetch("INBOX").len(), 3);
    let mut after = Session::open(&bench.lab, "anna");
    assert_eq!(after.ask("LISTSCRIPTS"), "\"main\" ACTIVE\r\n");
    assert!(after.ask("GETSCRIPT \"main\"").contains("keep;"));
    let told = restore_for(&bench.lab, &bench.cylinder, &["--all", "--replace", "--no-backup"], 0);
    assert_eq!(sum(&told, "added"), 0, "{told}");
}

#[test]
fn scripts_are_replaced_while_a_managesieve_session_is_open() {
    session_is_open(Version::V3_6);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.12`"]
fn scripts_are_replaced_while_a_managesieve_session_is_open_on_3_12() {
    session_is_open(Version::V3_12);
}

/// Takes the lock that somebody has who is at work in a user's mailboxes, as a program of the server would.
fn hold_user_lock(lab: &Lab, user: &str) -> std::process::Child {
    let script = "import fcntl,sys,time\nf=open(sys.argv[1],'a+'); fcntl.lockf(f,fcntl.LOCK_EX); print('held',flush=True); time.sleep(300)";
    let output = Command::new("find")
        .arg(lab.outside(&format!("{}/run/lock", lab.dir())))
        .args(["-name", &format!("[*]U[*]{user}.lock")])
        .output()
        .expect("find");
    let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(Path::new(&path).exists(), "the lock of {user}: {path:?}");
    let mut child =
        Command::new("python3").args(["-c", script, &path]).stdout(Stdio::piped()).spawn().expect("python3 can be started");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
    child
}

#[test]
fn a_restore_that_the_server_keeps_waiting_ends_within_seconds_of_sigterm() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 3);
    bench.cylinder.backup_well("anna");
    append_many(&mut bench.imap, "INBOX", 3, 5);
    bench.imap.logout();
    let mut holder = hold_user_lock(&bench.lab, "anna");
    let words = ["--all", "--replace", "--no-backup"];
    let mut running = Running::start(&mut restore_command(&bench.lab, &bench.cylinder, "anna", &words));
    std::thread::sleep(Duration::from_secs(3));
    assert!(running.is_running(), "nothing made it wait");
    rustix::process::kill_process(running.pid(), rustix::process::Signal::TERM).expect("it can be ended");
    let begun = Instant::now();
    let ran = running.end();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}: {ran:?}", begun.elapsed());
    assert_ne!(ran.exit, 0, "{ran:?}");
    holder.kill().expect("the lock is let go");
    let _ = holder.wait();
    assert_eq!(bench.lab.login("anna").fetch("INBOX").len(), 5, "something was done that nobody waited for");
}

/// Changes one record of a cyrus.index, with its checksum.
fn change_record(file: &Path, n: usize, offset: usize, bytes: &[u8]) {
    let mut data = std::fs::read(file).expect("an index");
    let word = |at: usize| u32::from_be_bytes(data[at..at + 4].try_into().expect("4 bytes")) as usize;
    let (start, size) = (word(12), word(16));
    let at = start + n * size;
    data[at + offset..at + offset + bytes.len()].copy_from_slice(bytes);
    let mut crc = Crc32::new();
    crc.update(&data[at..at + size - 4]);
    data[at + size - 4..at + size].copy_from_slice(&crc.finish().to_be_bytes());
    std::fs::write(file, data).expect("written");
}

#[test]
fn a_message_of_no_bytes_is_left_out_and_replace_keeps_the_others() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    for folder in ["E", "F"] {
        bench.imap.create(folder);
    }
    append_many(&mut bench.imap, "E", 0, 3);
    append_many(&mut bench.imap, "F", 3, 4);
    bench.imap.command("UNSELECT");
    let dir = spool_dir(&bench.lab, "user/anna/E");
    std::fs::write(dir.join("1."), b"").expect("emptied");
    let sha1 = cylinder_core::guid::Guid::of(b"");
    change_record(&dir.join("cyrus.index"), 0, 12, &[0; 8]);
    change_record(&dir.join("cyrus.index"), 0, 60, &sha1.0);
    bench.cylinder.backup(&["anna"]);
    let other = Lab::start(Version::V3_6, &[]);
    let mut imap = other.new_user("anna");
    for words in [&["INBOX.E", "INBOX.F"][..], &["INBOX.E", "INBOX.F"], &["INBOX.E", "INBOX.F", "--replace", "--no-backup"]] {
        let told = restore_for(&other, &bench.cylinder, words, 3);
        assert!(told["ended_early"].is_null() && failures(&told).contains("has no bytes"), "{told}");
        assert_eq!((sum(&told, "failed"), imap.fetch("E").len(), imap.fetch("F").len()), (1, 2, 1), "{words:?}");
    }
}

#[test]
fn a_message_without_a_date_gets_one_and_is_told() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    bench.imap.create("D");
    append_many(&mut bench.imap, "D", 0, 2);
    bench.imap.command("UNSELECT");
    change_record(&spool_dir(&bench.lab, "user/anna/D").join("cyrus.index"), 0, 4, &[0; 4]);
    bench.cylinder.backup(&["anna"]);
    let other = Lab::start(Version::V3_6, &[]);
    let mut imap = other.new_user("anna");
    for words in [&["INBOX.D"][..], &["INBOX.D", "--replace", "--no-backup"]] {
        let told = restore_for(&other, &bench.cylinder, words, 0);
        assert!(told["notes"].to_string().contains("INTERNALDATE"), "{told}");
        assert_eq!(imap.fetch("D")[0].internal_date.secs(), 1);
    }
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.2`"]
fn two_folders_with_one_uniqueid_both_come_back() {
    let mut bench = Bench::start(Version::V3_2, &[]);
    bench.imap.create("W");
    append_many(&mut bench.imap, "W", 0, 2);
    bench.imap.subscribe("W");
    bench.imap.command("UNSELECT");
    let dir = spool_dir(&bench.lab, "user/anna/W");
    let copy = dir.parent().expect("above").join("Copy");
    assert!(Command::new("cp").arg("-a").arg(&dir).arg(&copy).status().expect("cp").success());
    bench.lab.run("reconstruct", &["-r", "-f", "user/anna"]);
    bench.cylinder.backup(&["anna"]);
    let other = Lab::start(Version::V3_6, &[]);
    let mut imap = other.new_user("anna");
    let told = restore_for(&other, &bench.cylinder, &["--all", "--replace", "--no-backup"], 0);
    assert!(told["notes"].to_string().contains("uniqueid"), "{told}");
    assert_eq!((imap.fetch("W").len(), imap.fetch("Copy").len()), (2, 2));
    assert_eq!(imap.subscribed().len(), 1);
    let again = restore_for(&other, &bench.cylinder, &["--all"], 0);
    assert_eq!(sum(&again, "added"), 0, "{again}");
}

#[test]
fn bytes_that_are_nul_come_back_as_they_were() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    let body = [&message(1)[..], b"a\0b\0\r\n"].concat();
    bench.imap.ok([format!("APPEND INBOX ~{{{}+}}\r\n", body.len()).as_bytes(), &body].concat());
    bench.cylinder.backup_well("anna");
    let other = Lab::start(Version::V3_6, &[]);
    restore_for(&other, &bench.cylinder, &["--all"], 0);
    let show = |cylinder: &Cylinder| cylinder.show("anna", "INBOX/1");
    let there = Cylinder::new(&other);
    there.backup_well("anna");
    assert!(show(&there) == body && show(&bench.cylinder) == body);
}

#[test]
fn a_partition_that_the_server_does_not_have_is_told_before_anything_is_done() {
    let mut bench = Bench::start(Version::V3_6, &[("partition-fast", "{dir}/fast")]);
    std::fs::create_dir_all(bench.lab.outside(&format!("{}/fast", bench.lab.dir()))).expect("a directory");
    assert!(
        Command::new("chown")
            .args(["cyrus:mail"])
            .arg(bench.lab.outside(&format!("{}/fast", bench.lab.dir())))
            .status()
            .expect("chown")
            .success()
    );
    bench.lab.login("cyrus").ok("CREATE \"user/anna/Quick\" fast");
    append_many(&mut bench.imap, "Quick", 0, 2);
    append_many(&mut bench.imap, "INBOX", 2, 4);
    bench.cylinder.backup_well("anna");
    let other = Lab::start(Version::V3_6, &[]);
    let ran = restore(&other, &bench.cylinder, "anna", &["--all"]);
    assert_ne!(ran.exit, 0, "{ran:?}");
    assert!(
        ran.stderr.contains("partition `fast`")
            && ran.stderr.contains("it has `default`")
            && ran.stderr.contains("--partition"),
        "{ran:?}"
    );
    assert!(other.login("cyrus").list("*").is_empty(), "something was made");
    restore_for(&other, &bench.cylinder, &["--all", "--partition", "default"], 0);
    assert_eq!(other.login("anna").fetch("Quick").len(), 2);
    // A folder that is there, and is to be replaced by one of a partition that is not.
    append_many(&mut other.login("anna"), "Quick", 5, 6);
    let told = restore_for(&other, &bench.cylinder, &["INBOX.Quick", "--replace", "--no-backup"], 3);
    assert!(failures(&told).contains("partition `fast`") && failures(&told).contains("nothing is removed"), "{told}");
    assert_eq!(other.login("anna").fetch("Quick").len(), 3);
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.2`"]
fn a_name_that_no_server_takes_is_told_as_the_cause() {
    let mut bench = Bench::start(Version::V3_2, &[]);
    bench.imap.create("RD");
    append_many(&mut bench.imap, "RD", 0, 1);
    bench.imap.command("UNSELECT");
    let dir = spool_dir(&bench.lab, "user/anna/RD");
    std::fs::rename(&dir, dir.parent().expect("above").join("R&D")).expect("renamed");
    let db = format!("{}/lib/mailboxes.db", bench.lab.dir());
    let value = bench.lab.run("cyr_dbtool", &[&db, "twoskip", "get", "user.anna.RD"]);
    bench.lab.run("cyr_dbtool", &[&db, "twoskip", "set", "user.anna.R&D", value.trim_end_matches('\n')]);
    bench.lab.run("cyr_dbtool", &[&db, "twoskip", "delete", "user.anna.RD"]);
    bench.cylinder.backup(&["anna"]);
    let other = Lab::start(Version::V3_6, &[]);
    let told = restore_for(&other, &bench.cylinder, &["--all"], 3);
    assert!(failures(&told).contains("is no modified UTF-7") && failures(&told).contains("--merge"), "{told}");
    assert_eq!(sum(&told, "failed"), 1, "{told}");
}

#[test]
fn a_folder_of_a_user_who_is_not_there_asks_for_the_inbox() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    bench.imap.create("S");
    append_many(&mut bench.imap, "S", 0, 2);
    bench.cylinder.backup_well("anna");
    let other = Lab::start(Version::V3_6, &[]);
    let ran = restore(&other, &bench.cylinder, "anna", &["INBOX.S"]);
    assert!(ran.exit != 0 && ran.stderr.contains("has no mailbox user.anna") && ran.stderr.contains("--all"), "{ran:?}");
    restore_for(&other, &bench.cylinder, &["--all"], 0);
    assert_eq!(bodies(&mut other.login("anna"), "S").len(), 2);
}

/// `restore --exact --replace`, which backs up first, from the files of this lab.
fn replace_command(lab: &Lab, cylinder: &Cylinder, words: &[&str]) -> Command {
    saving(restore_command(lab, cylinder, "anna", words), lab)
}

fn saving(mut command: Command, lab: &Lab) -> Command {
    command.arg("--replace").arg("--root").arg(lab.root()).args(["--imapd-conf", lab.conf()]);
    command
}

/// Takes messages away as a disk would: files and records are gone, and nothing tells of them.
fn lose(lab: &Lab, folder: &str, uids: std::ops::RangeInclusive<u32>) {
    let dir = spool_dir(lab, folder);
    for uid in uids {
        std::fs::remove_file(dir.join(format!("{uid}."))).expect("a message file");
    }
    std::fs::remove_file(dir.join("cyrus.index")).expect("an index");
    lab.run("reconstruct", &[folder]);
}

#[test]
fn mail_that_is_lost_comes_back_in_one_call() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 20);
    bench.cylinder.backup_well("anna");
    bench.imap.command("UNSELECT");
    let before = replica_of(&bench.lab, "user.anna");
    lose(&bench.lab, "user/anna", 3..=20);
    assert_eq!(bench.lab.login("anna").fetch("INBOX").len(), 2);
    let ran = Running::start(&mut replace_command(&bench.lab, &bench.cylinder, &["--all"])).end();
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(ran.stderr.contains("anna: ALARM: 2 of 20 messages were left"), "{ran:?}");
    let expected = "what is there is saved as snapshot 2; the alarm does not stop the restore. If the restore is cut, run it again with --at 1";
    assert!(ran.stderr.contains(expected) && ran.stderr.contains("cylinder: snapshot 1 of "), "{ran:?}");
    assert_eq!((sum(&ran.json()[0], "added"), bench.lab.login("anna").fetch("INBOX").len()), (20, 20));
    assert_eq!(replica_of(&bench.lab, "user.anna"), before);

    // The newest snapshot is now that of after the loss: it is not taken for what was meant.
    let ran = Running::start(&mut replace_command(&bench.lab, &bench.cylinder, &["--all"])).end();
    let expected = "2 of 20 messages were left when snapshot 2 was made: say --at 1";
    assert!(ran.exit == 1 && ran.stderr.contains(expected), "{ran:?}");
    assert_eq!(bench.lab.login("anna").fetch("INBOX").len(), 20);
    let ran = Running::start(&mut replace_command(&bench.lab, &bench.cylinder, &["--all", "--at", "1"])).end();
    assert!(ran.exit == 0 && sum(&ran.json()[0], "added") == 0, "{ran:?}");
}

/// What a replication client is told of a mailbox.
fn replica_of(lab: &Lab, name: &str) -> String {
    Csync::login(lab.host(), lab.port("sync")).ask(&format!("GET FULLMAILBOX {name}"))
}

#[test]
fn a_replacing_restore_that_was_cut_is_run_again() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 20);
    bench.cylinder.backup_well("anna");
    bench.imap.logout();
    lose(&bench.lab, "user/anna", 3..=20);
    // Backed up, and then the server is not to be had.
    let command = restore_command_at("tcp:127.0.0.1:1", &bench.cylinder, "anna", &["--all", "--at", "today"]);
    let ran = Running::start(&mut saving(command, &bench.lab)).end();
    assert!(ran.exit == 1 && ran.stderr.contains("run it again with --at 1"), "{ran:?}");
    assert_eq!(bench.lab.login("anna").fetch("INBOX").len(), 2);
    let ran = Running::start(&mut replace_command(&bench.lab, &bench.cylinder, &["--all", "--at", "today"])).end();
    assert!(ran.exit == 1 && ran.stderr.contains("say --at 1"), "{ran:?}");
    let ran = Running::start(&mut replace_command(&bench.lab, &bench.cylinder, &["--all"])).end();
    assert!(ran.exit == 1 && ran.stderr.contains("say --at 1"), "{ran:?}");
    let ran = Running::start(&mut replace_command(&bench.lab, &bench.cylinder, &["--all", "--at", "1"])).end();
    assert_eq!((ran.exit, bench.lab.login("anna").fetch("INBOX").len()), (0, 20), "{ran:?}");
}

#[test]
fn what_cannot_be_backed_up_is_not_replaced() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 4);
    bench.cylinder.backup_well("anna");
    append_many(&mut bench.imap, "INBOX", 4, 8);
    bench.imap.command("UNSELECT");
    std::fs::write(spool_dir(&bench.lab, "user/anna").join("7."), b"something else").expect("written");
    let ran = Running::start(&mut replace_command(&bench.lab, &bench.cylinder, &["--all"])).end();
    assert!(ran.exit == 1 && ran.stderr.contains("could not be backed up as a whole, so it is not replaced"), "{ran:?}");
    assert_eq!(bench.lab.login("anna").fetch("INBOX").len(), 8);
}

#[test]
fn a_signal_after_the_backup_ends_a_replacing_restore_cleanly() {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 2);
    bench.cylinder.backup_well("anna");
    // A server that says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let server = format!("tcp:{}", silent.local_addr().expect("an address"));
    let command = restore_command_at(&server, &bench.cylinder, "anna", &["--all"]);
    let mut running = Running::start(&mut saving(command, &bench.lab));
    let connection = silent.accept().expect("a connection, when the backup is done");
    std::thread::sleep(Duration::from_millis(200));
    assert!(running.is_running(), "it does not wait for the server");
    rustix::process::kill_process(running.pid(), rustix::process::Signal::TERM).expect("it can be ended");
    let ran = running.end();
    assert!(ran.exit == 3 && ran.stderr.contains("is in the archive already. If the restore is cut"), "{ran:?}");
    drop(connection);
}
