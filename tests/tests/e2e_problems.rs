//! Backups of servers on which something is wrong: what can be saved is, what cannot is named, nothing that the archive has is
//! lost, and when the fault is gone the next run is clean.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_core::guid::Guid;
use cylinder_tests::cli::{Bench, Ran, Running, append_many, message};
use cylinder_tests::everyday::message_dir;
use cylinder_tests::lab::Version;
use cylinder_tests::proof::binary;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// A user with six messages in two folders, backed up.
fn bench() -> Bench {
    let mut bench = Bench::start(Version::V3_6, &[]);
    append_many(&mut bench.imap, "INBOX", 0, 4);
    bench.imap.create("Work");
    append_many(&mut bench.imap, "Work", 4, 6);
    bench.backup();
    bench
}

/// Asserts the exit code of a backup of anna, and gives what it said of her.
#[track_caller]
fn told(ran: &Ran, exit: i32) -> Value {
    let told = ran.user("anna");
    assert_eq!((ran.exit, &told["exit"]), (exit, &exit.into()), "{told}");
    told
}

/// The only problem of a run.
#[track_caller]
fn problem(told: &Value) -> &Value {
    assert_eq!(told["problems_count"], 1, "{told}");
    &told["problems"][0]
}

/// Every message of the bench can still be shown.
#[track_caller]
fn has_all(bench: &Bench) {
    for n in 0..6 {
        let content = message(n);
        assert_eq!(bench.cylinder.show("anna", &Guid::of(&content).to_hex()), content, "message {n}");
    }
    bench.cylinder.is_sound("anna");
}

fn write_as_cyrus(path: &Path, content: &[u8]) {
    // The owner stays that of the file, or of the directory that it is in.
    let owner = fs::metadata(path).or_else(|_| fs::metadata(path.parent().expect("a directory"))).expect("a file or directory");
    fs::write(path, content).expect("a file of the spool can be written");
    std::os::unix::fs::chown(path, Some(std::os::unix::fs::MetadataExt::uid(&owner)), None).expect("root gives files away");
}

#[test]
fn a_message_file_that_is_not_there_is_named_and_the_rest_is_saved() {
    let mut bench = bench();
    append_many(&mut bench.imap, "INBOX", 10, 13);
    let place = message_dir(&bench, "INBOX");
    fs::remove_file(place.join("6.")).expect("the file of UID 6");
    let first = told(&bench.cylinder.backup(&["anna"]), 3);
    let expected = (&"absent".into(), &"INBOX".into(), &6.into(), &Guid::of(&message(11)).to_hex().into());
    let problem = problem(&first);
    assert_eq!((&problem["kind"], &problem["folder"], &problem["uid"], &problem["guid"]), expected);
    assert_eq!((&first["messages_added"], &first["alarm"]), (&2.into(), &Value::Null), "{first}");
    let listed = bench.cylinder.messages("anna", "INBOX", false);
    let lacking: Vec<u32> = listed.iter().filter(|l| !l.stored).map(|l| l.message.uid).collect();
    assert_eq!((listed.len(), lacking), (7, vec![6]));
    assert_eq!(bench.cylinder.folder("anna", "INBOX").missing, 1);
    // It is tried again, and says so again, although nothing has changed.
    assert_eq!(told(&bench.cylinder.backup(&["anna"]), 3)["problems_count"], 1);
    write_as_cyrus(&place.join("6."), &message(11));
    assert_eq!(bench.backup().told["messages_added"], 1);
    has_all(&bench);
}

#[test]
fn a_message_file_with_other_bytes_is_saved_as_it_is_and_named() {
    let mut bench = bench();
    append_many(&mut bench.imap, "INBOX", 10, 12);
    let file = message_dir(&bench, "INBOX").join("5.");
    let mut wrong = message(10);
    let last = wrong.len() - 3;
    wrong[last] ^= 1;
    write_as_cyrus(&file, &wrong);
    let first = told(&bench.cylinder.backup(&["anna"]), 3);
    let problem = problem(&first);
    assert_eq!((&problem["kind"], &problem["uid"]), (&"mismatch".into(), &5.into()), "{problem}");
    assert!(problem["what"].as_str().expect("text").contains(&Guid::of(&wrong).to_hex()), "{problem}");
    assert_eq!(bench.cylinder.show("anna", &Guid::of(&wrong).to_hex()), wrong);
    assert_eq!(bench.cylinder.read(&["show", "anna", &Guid::of(&message(10)).to_hex()]).exit, 1);
    assert_eq!(bench.cylinder.show("anna", "INBOX/6"), message(11));
    write_as_cyrus(&file, &message(10));
    assert_eq!(bench.backup().told["messages_added"], 1);
    has_all(&bench);
}

#[test]
fn a_message_that_is_saved_already_may_rot_on_the_server() {
    let bench = bench();
    let file = message_dir(&bench, "INBOX").join("1.");
    write_as_cyrus(&file, &vec![b'x'; message(0).len()]);
    bench.cylinder.backup_nothing("anna");
    has_all(&bench);
}

#[test]
fn an_index_that_cannot_be_read_costs_no_other_folder_anything() {
    let mut bench = bench();
    append_many(&mut bench.imap, "Work", 10, 12);
    let index = message_dir(&bench, "INBOX").join("cyrus.index");
    let good = fs::read(&index).expect("cyrus.index");
    let mut bad = good.clone();
    bad[4..32].fill(0xff);
    write_as_cyrus(&index, &bad);
    // Every run says it, until it is mended: what the server cannot read must not look unchanged.
    for run in 0..2 {
        let told = told(&bench.cylinder.backup(&["anna"]), 3);
        let problem = problem(&told);
        assert_eq!((&problem["kind"], &problem["folder"]), (&"folder".into(), &"INBOX".into()), "run {run}: {problem}");
        assert!(problem["what"].as_str().expect("text").contains("cyrus.index"), "run {run}: {problem}");
        assert_eq!(bench.cylinder.folder("anna", "INBOX").exists, 4, "the archive keeps what it had");
    }
    assert_eq!(bench.cylinder.folder("anna", "INBOX.Work").exists, 4);
    assert_eq!(bench.cylinder.show("anna", "INBOX.Work/4"), message(11));
    has_all(&bench);
    write_as_cyrus(&index, &good);
    bench.backup();
    has_all(&bench);
}

#[test]
fn a_disk_that_is_not_mounted_is_a_problem_and_no_wave_of_deletions() {
    let bench = bench();
    let spool = bench.lab.outside(bench.lab.dir()).join("spool");
    let away = spool.with_file_name("spool.away");
    let before = bench.cylinder.folders("anna");
    fs::rename(&spool, &away).expect("the spool can be renamed");
    fs::create_dir(&spool).expect("an empty mount point");
    let first = told(&bench.cylinder.backup(&["anna"]), 3);
    assert_eq!(
        (&first["problems_count"], &first["names_gone"], &first["messages"]),
        (&2.into(), &0.into(), &6.into()),
        "{first}"
    );
    assert!(first["alarm"].as_str().is_some_and(|alarm| alarm.starts_with("0 of 6 messages")), "{first}");
    let folders: Vec<_> = first["problems"].as_array().expect("a list").iter().map(|p| &p["folder"]).collect();
    assert_eq!(folders, ["INBOX", "INBOX.Work"]);
    assert_eq!(bench.cylinder.folders("anna"), before, "the newest snapshot has everything");
    has_all(&bench);
    assert_eq!(bench.cylinder.backup(&["--all"]).exit, 3);
    fs::remove_dir(&spool).expect("the mount point is empty");
    fs::rename(&away, &spool).expect("the spool comes back");
    // The mail is there again, and the alarm stands until somebody has looked.
    let back = told(&bench.cylinder.backup(&["anna"]), 3);
    assert_eq!(
        (&back["messages_added"], &back["problems_count"], &back["alarms"]),
        (&0.into(), &0.into(), &first["alarms"]),
        "{back}"
    );
    assert_eq!(bench.cylinder.read(&["acknowledge", "anna"]).exit, 0);
    assert_eq!(told(&bench.cylinder.backup(&["anna"]), 0)["alarms"], Value::Array(Vec::new()));
    assert_eq!(bench.cylinder.folders("anna"), before);
    has_all(&bench);
}

#[test]
fn a_user_who_is_gone_is_an_alarm_that_does_not_stop_until_somebody_looks() {
    let bench = bench();
    let mut admin = bench.lab.login("cyrus");
    admin.set_acl("user/anna", "cyrus", "lrswipkxtecdan");
    admin.delete("user/anna");
    // Delayed delete: everything is there under another name.
    let gone = told(&bench.cylinder.backup(&["anna"]), 3);
    assert_eq!(
        (&gone["messages"], &gone["messages_added"], &gone["alarms"][0]["cause"]),
        (&6.into(), &0.into(), &"vanished".into()),
        "{gone}"
    );
    assert!(gone["alarm"].as_str().is_some_and(|alarm| alarm.contains("6 messages")), "{gone}");
    bench.lab.run("cyr_expire", &["-E", "1", "-X", "0", "-D", "0"]);
    assert_eq!(told(&bench.cylinder.backup(&["anna"]), 3)["alarms"], gone["alarms"], "one cause is one alarm");
    has_all(&bench);
    let stamp = bench.cylinder.stamp("anna");
    for words in [&["anna"][..], &["--all"]] {
        let again = told(&bench.cylinder.backup(words), 3);
        assert_eq!(again["alarms"], gone["alarms"], "{words:?}");
    }
    assert_eq!(bench.cylinder.stamp("anna"), stamp, "an alarm is written once");
    let log = bench.cylinder.read(&["log", "anna", "--json"]).json();
    assert_eq!(log[0]["alarms"][0]["before"], 6, "{log:?}");
    // Somebody has looked: a departed user costs nothing any more, however long the server goes without.
    assert_eq!(bench.cylinder.read(&["acknowledge", "--all"]).exit, 0);
    let stamp = bench.cylinder.stamp("anna");
    let again = told(&bench.cylinder.backup(&["anna"]), 0);
    assert_eq!(
        (&again["gone"], &again["snapshot"], &again["alarms"]),
        (&gone["gone"], &Value::Null, &Value::Array(Vec::new())),
        "{again}"
    );
    let all = bench.cylinder.backup(&["--all"]);
    assert_eq!((all.exit, &all.json().last().expect("a sum")["gone"]), (0, &1.into()), "{:?}", all.json());
    assert_eq!(bench.cylinder.stamp("anna"), stamp);
    has_all(&bench);
}

#[test]
fn a_renamed_user_keeps_the_archive_and_raises_no_alarm() {
    let mut bench = Bench::start(Version::V3_6, &[("allowusermoves", "yes")]);
    append_many(&mut bench.imap, "INBOX", 0, 4);
    bench.imap.create("Work");
    append_many(&mut bench.imap, "Work", 4, 6);
    assert_eq!(bench.cylinder.backup(&["--all"]).exit, 0);
    bench.lab.login("cyrus").rename("user/anna", "user/anne");
    let all = bench.cylinder.backup(&["--all"]);
    let anne = all.user("anne");
    assert_eq!(
        (all.exit, &anne["messages"], &anne["messages_added"], &anne["alarms"]),
        (0, &6.into(), &0.into(), &Value::Array(Vec::new())),
        "{anne} {}",
        all.stderr
    );
    assert!(all.stderr.contains("anne: was called anna until now; the archive moves along"));
    assert!(!bench.cylinder.has_archive("anna"));
    bench.cylinder.is_sound("anne");
    for n in 0..6 {
        assert_eq!(bench.cylinder.show("anne", &Guid::of(&message(n)).to_hex()), message(n));
    }
    let log = bench.cylinder.read(&["log", "anne"]);
    assert!(String::from_utf8_lossy(&log.stdout).contains("the user was called anna before"));
    let again = bench.cylinder.backup(&["--all"]);
    assert_eq!((again.exit, &again.user("anne")["snapshot"]), (0, &Value::Null));
}

#[test]
fn a_user_who_loses_more_than_half_of_the_messages_is_an_alarm() {
    let mut bench = bench();
    bench.imap.expunge("INBOX", "1:4");
    bench.imap.unselect();
    bench.lab.run("cyr_expire", &["-E", "1", "-X", "0"]);
    let alarmed = told(&bench.cylinder.backup(&["anna"]), 3);
    assert!(alarmed["alarm"].as_str().is_some_and(|alarm| alarm.starts_with("2 of 6 messages")), "{alarmed}");
    assert_eq!(alarmed["problems_count"], 0);
    has_all(&bench);
    // What is there was saved, so there is nothing to do, and nothing new to be alarmed about.
    let again = told(&bench.cylinder.backup(&["anna"]), 3);
    assert_eq!((&again["snapshot"], &again["alarms"]), (&Value::Null, &alarmed["alarms"]), "until somebody looks");
    assert_eq!(bench.cylinder.read(&["acknowledge", "anna"]).exit, 0);
    bench.cylinder.backup_nothing("anna");
    append_many(&mut bench.imap, "INBOX", 10, 11);
    assert_eq!(bench.backup().told["messages_added"], 1);
}

#[test]
fn a_user_who_tidies_up_is_no_alarm_and_the_server_that_unlinks_it_later_is_none_either() {
    let mut bench = bench();
    bench.imap.expunge("INBOX", "1:4");
    bench.imap.unselect();
    bench.backup();
    bench.lab.run("cyr_expire", &["-E", "1", "-X", "0"]);
    bench.backup();
    bench.imap.delete("Work");
    bench.backup();
    bench.lab.run("cyr_expire", &["-E", "1", "-D", "0"]);
    bench.backup();
    has_all(&bench);
}

#[test]
fn one_user_who_cannot_be_saved_does_not_stop_the_others() {
    let mut bench = bench();
    for user in ["bob", "carl", "dora"] {
        append_many(&mut bench.lab.new_user(user), "INBOX", 20, 23);
    }
    // Bob's archive cannot be written, Carl's index cannot be read.
    let dir = bench.cylinder.archive("anna");
    let bobs = format!("{:02x}", Guid::of(b"bob").0[0]);
    let bobs = dir.ancestors().nth(3).expect("the store").join(bobs);
    fs::create_dir_all(&bobs).expect("a directory of the store");
    fs::write(bobs.join("bob"), b"in the way").expect("a file of the store");
    let place = bench.lab.run("mbpath", &["user/carl"]);
    let index = bench.lab.outside(place.trim()).join("cyrus.index");
    let good = fs::read(&index).expect("cyrus.index");
    write_as_cyrus(&index, b"no index at all");
    append_many(&mut bench.imap, "INBOX", 10, 12);
    for jobs in ["1", "4"] {
        let ran = bench.cylinder.backup(&["--all", "--jobs", jobs]);
        let exits = ["anna", "bob", "carl", "dora"].map(|user| ran.user(user)["exit"].as_i64());
        assert_eq!((ran.exit, exits), (3, [Some(0), Some(1), Some(3), Some(0)]), "{ran:?}");
    }
    assert_eq!(bench.cylinder.show("dora", "INBOX/3"), message(22));
    fs::remove_file(bobs.join("bob")).expect("the way is free");
    write_as_cyrus(&index, &good);
    let ran = bench.cylinder.backup(&["--all"]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    for user in ["anna", "bob", "carl", "dora"] {
        bench.cylinder.is_sound(user);
    }
    assert_eq!(bench.cylinder.show("carl", "INBOX/1"), message(20));
    bench.backup();
}

/// Everything that damage has cost comes back from the server, wherever in the archive the damage was, repaired before or
/// after; what the server has lost too is named.
#[test]
fn what_damage_took_comes_back_from_the_server() {
    let mut bench = bench();
    append_many(&mut bench.imap, "INBOX", 20, 60);
    bench.backup();
    let archive = bench.cylinder.archive("anna");
    let good = fs::read(&archive).expect("an archive");
    let heal = |bench: &Bench| {
        let mut command = Command::new(binary());
        command.args(["heal", "anna", "--json", "--store"]).arg(bench.cylinder.store());
        command.arg("--root").arg(bench.lab.root()).arg("--imapd-conf").arg(bench.lab.conf());
        let ran = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end();
        (ran.exit, ran.json().pop().unwrap_or_else(|| panic!("{ran:?}")))
    };
    let mut healed = 0;
    for eighth in 1..8 {
        let mut bad = good.clone();
        let at = good.len() * eighth / 8;
        bad[at..at + 200].fill(0);
        fs::write(&archive, &bad).expect("a damaged archive");
        assert_ne!(bench.cylinder.read(&["verify", "anna"]).exit, 0, "at {at}");
        if eighth % 2 == 0 {
            bench.cylinder.read(&["repair", "anna"]);
        }
        let (exit, told) = heal(&bench);
        assert_eq!((exit, &told["lost"]), (0, &Value::Array(Vec::new())), "at {at}: {told}");
        healed += told["healed"].as_array().expect("a list").len();
        if eighth % 2 == 1 {
            bench.cylinder.read(&["repair", "anna"]);
        }
        has_all(&bench);
        for n in 20..60 {
            assert_eq!(bench.cylinder.show("anna", &Guid::of(&message(n)).to_hex()), message(n), "at {at}: message {n}");
        }
    }
    assert!(healed > 20, "{healed}");
    // A message that neither has.
    let mut bad = good.clone();
    bad[good.len() / 8..good.len() / 2].fill(0);
    fs::write(&archive, &bad).expect("a damaged archive");
    fs::remove_file(message_dir(&bench, "INBOX").join("24.")).expect("the file of UID 24");
    let (exit, told) = heal(&bench);
    let lost = Guid::of(&message(39)).to_hex();
    assert_eq!((exit, &told["lost"]), (3, &Value::Array(vec![lost.into()])), "{told}");
}

/// A file of the newest snapshot.
fn saved(bench: &Bench, name: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let target = dir.path().join("tree");
    let ran = bench.cylinder.read(&["extract", "anna", "--quiet", target.to_str().expect("a path")]);
    assert_eq!(ran.exit, 0, "{ran:?}");
    fs::read_to_string(target.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Where the server keeps quotas in a database, no limit was saved, and the run ended well; a file of the time before the
/// database was taken for what the server has.
#[test]
fn limits_are_saved_from_the_quota_database_that_the_server_has() {
    for kind in ["twoskip", "skiplist", "flat"] {
        let mut bench = Bench::start(Version::V3_6, &[("quota_db", kind)]);
        append_many(&mut bench.imap, "INBOX", 0, 4);
        let mut admin = bench.lab.login("cyrus");
        admin.set_quota("user/anna", "STORAGE 20000 MESSAGE 500");
        let stale = bench.lab.outside(bench.lab.dir()).join("lib/quota/a/user.anna");
        fs::create_dir_all(stale.parent().expect("a directory")).expect("directories");
        write_as_cyrus(&stale, b"0 77\n");
        bench.cylinder.backup_well("anna");
        let quota = saved(&bench, "meta/quota/user.anna");
        assert!(quota.contains("20000") && quota.contains("500"), "{kind}: {quota}");
        bench.cylinder.backup_nothing("anna");
        // Another user's limits change the file, and nothing of this user.
        admin.create("user/bob");
        admin.set_quota("user/bob", "STORAGE 10");
        bench.cylinder.backup_nothing("anna");
        admin.set_quota("user/anna", "STORAGE 30000");
        bench.cylinder.backup_well("anna");
        assert!(saved(&bench, "meta/quota/user.anna").contains("30000"), "{kind}");
    }
}

/// Subscriptions and seen states in an SQL database cannot be read: each run says so, saves the messages, and takes nothing
/// from files of an earlier time, nor counts what it cannot see as gone.
#[test]
fn subscriptions_and_seen_states_in_an_sql_database_are_a_problem_and_what_was_left_over_is_not_read() {
    let bench = bench();
    let mut imap = bench.lab.login("anna");
    imap.subscribe("INBOX");
    bench.cylinder.backup_well("anna");
    let before = saved(&bench, "meta/sub");
    imap.subscribe("Work");
    imap.logout();
    let conf = bench.lab.outside(bench.lab.conf());
    let text = fs::read_to_string(&conf).expect("imapd.conf");
    for (option, name) in [("subscription_db", "meta/sub"), ("seenstate_db", "meta/seen")] {
        fs::write(&conf, format!("{text}{option}: sql\n")).expect("imapd.conf");
        for _ in 0..2 {
            let told = told(&bench.cylinder.backup(&["anna"]), 3);
            let what = problem(&told)["what"].as_str().unwrap_or_default().to_owned();
            assert!(what.contains(&format!("{option}: sql: ")) && what.contains("cannot be saved"), "{what}");
        }
        if name == "meta/sub" {
            assert_eq!(saved(&bench, name), before, "a file that the server does not use is in the archive");
        }
    }
    has_all(&bench);
}

/// Limits in an SQL database cannot be read: each run says so, and saves the messages.
#[test]
fn limits_that_are_kept_in_an_sql_database_are_a_problem_and_the_messages_are_saved() {
    let bench = bench();
    let conf = bench.lab.outside(bench.lab.conf());
    let text = fs::read_to_string(&conf).expect("imapd.conf");
    fs::write(&conf, format!("{text}quota_db: sql\n")).expect("imapd.conf");
    for _ in 0..2 {
        let told = told(&bench.cylinder.backup(&["anna"]), 3);
        let what = problem(&told)["what"].as_str().unwrap_or_default().to_owned();
        assert!(what.contains("quota_db: sql: quotas that are kept there cannot be saved"), "{what}");
    }
    has_all(&bench);
}
