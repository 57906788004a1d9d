//! `cylinder import`: archives that `Cyrus::Backup` has written have the messages, folders and UIDs that the state beside them
//! tells of, and what is damaged costs nothing else.

use cylinder_core::error::Error;
use cylinder_core::import::{self, Imported};
use cylinder_core::io::{Io, Place};
use cylinder_tests::cli::{Bench, Namespace, append_many, arrival};
use cylinder_tests::crashes::{Effort, crashes, torn};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::{drive, drive_watched};
use cylinder_tests::forge::link;
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::life;
use cylinder_tests::proof::{Store, err, out, run_for};
use cylinder_tests::story;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// A folder's messages: UID and SHA-1.
type Messages = BTreeSet<(u64, String)>;

fn data(user: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/perl").join(user)
}

fn archive(user: &str) -> PathBuf {
    data(user).join("backupdata-1795457253.tar.gz")
}

/// The rows of a table in a dump.
fn rows<'a>(dump: &'a str, table: &str) -> impl Iterator<Item = Vec<&'a str>> {
    let heads = [format!("INSERT INTO {table} VALUES("), format!("INSERT INTO \"{table}\" VALUES(")];
    dump.lines().filter_map(move |line| {
        let values = heads.iter().find_map(|head| line.strip_prefix(&head[..]))?.strip_suffix(");")?;
        Some(values.split(',').map(|value| value.trim_matches('\'')).collect())
    })
}

/// What the state says that each folder has, by the number of the folder.
fn indexed(dump: &str) -> BTreeMap<String, Messages> {
    let guids: BTreeMap<&str, &str> = rows(dump, "files").map(|row| (row[0], row[1])).collect();
    let mut folders: BTreeMap<String, Messages> = BTreeMap::new();
    for row in rows(dump, "indexed") {
        let message = (row[1].parse().expect("a UID"), guids[row[2]].to_owned());
        folders.entry(row[0].to_owned()).or_default().insert(message);
    }
    folders
}

/// The names that the state says folders have now. Commas are in some, so that the number comes from behind.
fn named(dump: &str) -> BTreeMap<String, String> {
    let names = rows(dump, "imap").filter_map(|row| {
        let (name, rest) = row.split_at(row.len() - 3);
        (rest[1] == "0").then(|| (name.join(","), rest[0].to_owned()))
    });
    names.collect()
}

fn lines(store: &Store, words: &[&str]) -> Vec<Value> {
    let output = run_for(&mut store.command(words), 0);
    out(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn messages(store: &Store, user: &str, folder: &str) -> Messages {
    let lines = lines(store, &["list", user, folder, "--expunged", "--json"]);
    let message = |line: &Value| {
        assert_eq!(line["stored"], true, "{folder}: {line}");
        (line["uid"].as_u64().expect("a UID"), line["guid"].as_str().expect("a SHA-1").to_owned())
    };
    lines.iter().map(message).collect()
}

fn folders(store: &Store, user: &str) -> Vec<String> {
    let lines = lines(store, &["list", user, "--json"]);
    lines.iter().filter_map(|line| Some(line["folder"].as_str()?.to_owned())).collect()
}

#[test]
fn what_the_state_tells_of_is_there() {
    for (user, count) in [("alice", 315), ("dave@virt.example", 1)] {
        let store = Store::new();
        let dump = fs::read_to_string(data(user).join("backupstate.sql")).expect("a dump");
        let file = archive(user);
        let said = lines(&store, &["import", "--json", file.to_str().expect("text")]);
        assert_eq!(said[0]["archive"]["messages"], count, "{said:?}");
        run_for(&mut store.command(&["verify"]), 0);
        let (indexed, named) = (indexed(&dump), named(&dump));
        let ours = folders(&store, user);
        assert_eq!(ours.len(), named.len(), "{ours:?}");
        for (name, number) in &named {
            // There deleted folders have the names that the server has for them.
            let name = name.replace(&format!("DELETED.user.{user}."), "DELETED.");
            // What was cut in the state is whole in the archive.
            let ours = ours.iter().find(|ours| **ours == name || name.len() >= 100 && ours.starts_with(&name[..100]));
            let ours = ours.unwrap_or_else(|| panic!("{name} is not among {ours:?}"));
            let expected = indexed.get(number).cloned().unwrap_or_default();
            assert_eq!(messages(&store, user, ours), expected, "{name}");
        }
        let again = run_for(&mut store.command(&["import", file.to_str().expect("text")]), 1);
        assert!(err(&again).contains("archive"), "{}", err(&again));
    }
}

/// There a rename or a deletion is a link with the old name to nothing. What has no name any more is in the snapshot before the
/// newest, which is a second older.
#[test]
fn what_was_imported_is_restored_whole_and_ends_with_0() {
    let store = Store::new();
    run_for(store.command(&["import"]).arg(archive("alice")), 0);
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sample/etc/imapd.conf");
    let config = store.beside("spool").join("var/lib/cyrus");
    fs::create_dir_all(store.beside("spool/etc")).expect("a directory");
    fs::copy(conf, store.beside("spool/etc/imapd.conf")).expect("a file");
    for ways in [&["--dir", "dir"][..], &["--dir", "mbox", "--format", "mbox"], &["--spool", "spool", "--cyrus", "3.6"]] {
        let goal = store.beside(ways[1]);
        let mut command = store.command(&["restore", "alice", "--all", ways[0]]);
        let told = err(&run_for(command.arg(&goal).args(&ways[2..]), 0));
        assert_eq!(told.matches("the archive has no entries of mailboxes.db").count(), 1, "{told}");
        assert!(!told.contains("FAILED"), "{told}");
    }
    for way in ["--tar", "--zip"] {
        run_for(&mut store.command(&["restore", "alice", "--all", way]), 0);
    }
    // What ctl_mboxlist is given has the ACL of cyrus.header.
    let names = fs::read_dir(config).expect("a directory").map(|entry| entry.expect("an entry").path());
    let work = names.filter(|path| path.to_string_lossy().contains("cylinder-restore")).max().expect("a directory");
    let entries: Value = serde_json::from_slice(&fs::read(work.join("mailboxes.json")).expect("a file")).expect("JSON");
    assert_eq!(entries["user.alice.Work"]["acl"]["alice"], "lrswipkxtecdan", "{entries}");
}

#[test]
fn folders_that_have_no_name_any_more_are_in_a_snapshot_of_their_own() {
    let store = Store::new();
    let mut bytes = fs::read(archive("dave@virt.example")).expect("an archive");
    let mut more = GzEncoder::new(&mut bytes, Compression::default());
    more.write_all(&[link(b"imap/INBOX.Sub/", b""), vec![0; 1024]].concat()).expect("a member");
    more.finish().expect("a member");
    let dir = store.beside("dave@virt.example");
    fs::create_dir_all(&dir).expect("a directory");
    let file = dir.join("backupdata.tar.gz");
    fs::write(&file, bytes).expect("a file");
    run_for(&mut store.command(&["import", file.to_str().expect("text")]), 0);
    run_for(&mut store.command(&["verify"]), 0);
    assert_eq!(folders(&store, "dave@virt.example"), ["INBOX"]);
    let before = lines(&store, &["list", "dave@virt.example", "--at", "1", "--json"]);
    let names: Vec<&str> = before.iter().filter_map(|line| line["folder"].as_str()).collect();
    assert_eq!(names, ["INBOX", "INBOX.Sub"]);
    let log = lines(&store, &["log", "dave@virt.example", "--json"]);
    let snapshots: Vec<u64> = log.iter().filter_map(|line| line["snapshot"].as_u64()).collect();
    assert_eq!(snapshots.len(), 2, "{log:?}");
}

#[test]
fn the_user_is_the_directory_or_who_is_told() {
    let store = Store::new();
    let file = archive("dave@virt.example");
    run_for(&mut store.command(&["import", "--user", "eve", file.to_str().expect("text")]), 0);
    assert_eq!(folders(&store, "eve"), ["INBOX", "INBOX.Sub"]);
    run_for(&mut store.command(&["import"]), 2);
}

#[test]
fn of_a_file_that_is_no_archive_nothing_is_left() {
    let store = Store::new();
    let dir = store.beside("mallory");
    fs::create_dir_all(&dir).expect("a directory");
    let file = dir.join("junk.tar.gz");
    fs::write(&file, b"no archive of anything ".repeat(1000)).expect("a file");
    let output = run_for(&mut store.command(&["import", file.to_str().expect("text")]), 1);
    assert!(String::from_utf8_lossy(&output.stderr).contains("is no archive of mail"), "{output:?}");
    let left: Vec<_> = fs::read_dir(store.dir()).expect("a store").map(|entry| entry.expect("a name").file_name()).collect();
    assert_eq!(left, ["cylinder-store"], "something was made in the store");
}

/// A byte in the middle of the first of its two gzip members, which has 310 messages.
#[test]
fn damage_is_told_and_what_is_whole_comes_in() {
    let store = Store::new();
    let mut bytes = fs::read(archive("alice")).expect("an archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    let dir = store.beside("alice");
    fs::create_dir_all(&dir).expect("a directory");
    let file = dir.join("damaged.tar.gz");
    fs::write(&file, bytes).expect("a file");
    let output = run_for(&mut store.command(&["import", "--json", file.to_str().expect("text")]), 3);
    let said: Value = serde_json::from_str(out(&output).lines().next().expect("a line")).expect("JSON");
    // The byte is in a stretch that deflate did not shorten, so that only the message around it is lost.
    assert_eq!(
        (&said["archive"]["messages"], said["archive"]["lost"].as_array().map(Vec::len)),
        (&314.into(), Some(1)),
        "{said}"
    );
    let lost = &said["archive"]["lost"][0];
    assert_eq!((&lost["folder"], &lost["uid"]), (&"INBOX.Renamed2".into(), &2.into()));
    // The archive is not damaged, and its snapshot is known to lack that message.
    run_for(&mut store.command(&["verify"]), 3);
    assert!(folders(&store, "alice").contains(&String::from("INBOX.Renamed2")));
}

/// An import into the store of a simulated disk.
async fn importing(io: Io) -> Result<Imported, Error> {
    let settings = import::Settings { archive: story::settings(), archive_id: *b"sixteen bytes id" };
    import::run(&io, &Place::host("/old/backupdata.tar.gz"), &life::anna(), &life::dir(), &settings).await
}

/// Whatever a crash leaves: there is no archive, or the whole one; another import makes the one or refuses the other, and what
/// there is then is what an import without a crash makes.
#[test]
fn no_crash_of_an_import_leaves_half_an_archive() {
    let mut before = SimDisk::new();
    before.put_file(&Place::host("/old/backupdata.tar.gz"), fs::read(archive("dave@virt.example")).expect("an archive"));
    let (mut disk, mut points) = (before.clone(), Vec::new());
    drive_watched(&mut disk, importing, &mut |disk, op| {
        points.push(disk.clone());
        points.extend(torn(disk, op));
    })
    .finished()
    .expect("an import");
    points.push(disk.clone());
    let whole = drive(&mut disk, life::snapshots).finished().expect("snapshots");
    assert!(!whole.is_empty());
    let (mut seen, mut none, mut all) = (BTreeSet::new(), 0, 0);
    for point in points {
        for (how, mut disk) in crashes(&point, Effort { enumerate_up_to: 6, samples: 40 }) {
            if !seen.insert(disk.digest()) {
                continue;
            }
            match (disk.content(&life::archive()).is_some(), drive(&mut disk, importing).finished()) {
                (false, Ok(_)) => none += 1,
                (true, Err(Error::Refused(why))) if why.contains("is there already") => all += 1,
                (there, result) => panic!("{how}: an archive: {there}, then {result:?}"),
            }
            let snapshots = drive(&mut disk, life::snapshots).finished().unwrap_or_else(|error| panic!("{how}: {error}"));
            assert_eq!(snapshots, whole, "{how}");
            assert_eq!(disk.open_files(), 0, "{how}");
            assert!(disk.store().keys().all(|name| !name.ends_with(".new")), "{how}: {:?}", disk.store().keys());
        }
    }
    println!("{} states after crashes of an import: {none} without an archive, {all} with one", seen.len());
    assert!(none > 30 && all > 2, "{none}, {all}");
}

/// Backups go on after an import without fetching a message again: here the user has moved to a new server, on which every
/// folder has another uniqueid and every message another UID.
///
/// Needs root and `tests/lab/cyrus-lab install 3.6`.
#[test]
fn after_an_import_only_what_is_new_comes_from_a_real_server() {
    let mut bench = Bench::of(Lab::start(Version::V3_6, &[]), "alice", Namespace::DEFAULT);
    let file = archive("alice");
    assert_eq!(bench.cylinder.read(&["import", file.to_str().expect("text")]).exit, 0);
    let folders = bench.cylinder.folders("alice");
    let listed = folders.iter().flat_map(|folder| bench.cylinder.messages("alice", &folder.name, true));
    let guids: BTreeSet<String> = listed.map(|listed| listed.guid).collect();
    assert_eq!(guids.len(), 315);
    for (n, guid) in (0..).zip(&guids) {
        bench.imap.append("INBOX", &[], arrival(n), &bench.cylinder.show("alice", guid));
    }
    append_many(&mut bench.imap, "INBOX", 1, 3);
    let told = bench.cylinder.backup_well("alice");
    assert_eq!((&told["messages_added"], &told["messages"]), (&2.into(), &317.into()), "{told}");
    bench.cylinder.verify("alice");
    bench.cylinder.backup_nothing("alice");
}
