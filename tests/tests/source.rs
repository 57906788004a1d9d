//! What is found out about a host and read from it, without a server: the version that wrote its databases, long lists of
//! mailboxes, messages on an archive partition, and metadata that are large.

use cylinder_core::archive::read::Reader;
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::db::{Entry, skiplist, twoskip};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::{Error, Fault};
use cylinder_core::guid::Guid;
use cylinder_core::io::{FileKind, Input, Io, Machine, Op, Output, Place, Reply, Stat, Task};
use cylinder_core::source::lock::Patience;
use cylinder_core::source::pass::fill_tuples;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::source::{Folder, FolderPaths, config};
use cylinder_core::store::archive_dir;
use cylinder_core::time::{Span, Time};
use cylinder_core::view::When;
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::{drive, drive_watched};
use cylinder_tests::host::{CONF, Host};
use cylinder_tests::local::{ANNA, anna, backup, has, is_good, later, table, world};
use cylinder_tests::proof::{Store, copy_tree, err, run_for};
use cylinder_tests::story;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::rc::Rc;

const MAILBOXES: &str = "/var/lib/cyrus/mailboxes.db";

async fn site(io: &Io, patience: Patience) -> Result<Site, Error> {
    let conf = config::load(io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    Site::open(io, conf, None, Locking::AsServer, patience).await
}

/// A host that has this mailboxes.db and no more.
fn host_of(database: Vec<u8>) -> SimDisk {
    let mut disk = SimDisk::new();
    disk.put_file(&Place::host("/etc/imapd.conf"), CONF);
    disk.put_file(&Place::host(MAILBOXES), database);
    disk
}

fn version_of(disk: &mut SimDisk) -> VersionLine {
    drive(disk, |io| async move { site(&io, Patience::default()).await.map(|site| site.conf().version) })
        .finished()
        .expect("a host")
}

fn recorded(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/cyrus/db").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// An entry of a mailbox as a server up to 3.4 writes it.
fn legacy(user: &str, value: &str) -> Entry {
    (format!("user.{user}").into_bytes(), value.as_bytes().to_vec())
}

#[test]
fn the_version_is_told_from_what_only_it_writes() {
    use VersionLine::*;
    for (name, expected) in [("mailboxes-3.2.6.db", V3_2), ("mailboxes-3.10.2.db", V3_6), ("mailboxes-3.12.4.db", V3_12)] {
        assert_eq!(version_of(&mut host_of(recorded(name))), expected, "{name}");
    }
    let running = legacy("anna", "%(A %(anna lrs) I x P default V 1 C 1 F 1 M 1)");
    for (entries, expected) in [
        (vec![(b"$RUNQUOTA".to_vec(), b"x".to_vec()), running.clone()], V3_4),
        (vec![running], V3_2),
        (vec![legacy("anna", "%(A %(anna lrs) I x P default V 1 F 1 M 1)")], V3_0),
        (vec![legacy("anna", "%(A %(anna lrs) I x P default V 1 M 1)")], V2_5),
        (vec![legacy("anna", "0 default anna\tlrswipkxtecda\t")], V2_3),
    ] {
        let mut disk = host_of(twoskip::emit(&entries, 1));
        assert_eq!(version_of(&mut disk), expected);
        if expected == V2_3 {
            // What 2.4 makes as soon as a mailbox is opened.
            disk.put_file(&Place::host("/run/cyrus/lock/user/anna.lock"), "");
            assert_eq!(version_of(&mut disk), V2_4);
        }
    }
    // Nobody has a mailbox yet.
    assert_eq!(version_of(&mut host_of(twoskip::emit(&[], 1))), V3_6);
    // Where 3.12 runs, the lock that all its locks go through.
    let mut disk = host_of(recorded("mailboxes-3.12.4.db"));
    disk.put_file(&Place::host("/run/cyrus/lock/$GLOBAL.lock"), "");
    assert_eq!(version_of(&mut disk), V3_12);
}

/// Of a legacy server, with a mailbox between that another order of bytes has elsewhere.
fn users(count: usize) -> Vec<String> {
    let mut users: Vec<String> = (0..count).flat_map(|n| [format!("u{n:05}"), format!("u{n:05}-b")]).collect();
    users.sort();
    users
}

/// What `mbox` order has first.
fn by_mbox(key: &[u8]) -> Vec<u8> {
    key.iter().map(|&b| if b == b'.' { 1 } else { b }).collect()
}

/// Lists the users of a host, and says how often the list was locked for it.
fn listed(disk: &mut SimDisk, patience: Patience) -> (Vec<Owner>, usize) {
    let mut visits = 0;
    let watch = &mut |disk: &SimDisk, op: &Op| {
        if matches!(op, Op::Lock { .. }) && disk.describe(op).contains("mailboxes.db") {
            visits += 1;
        }
    };
    let owners = drive_watched(disk, |io| async move { site(&io, patience).await?.users(&io).await }, watch);
    assert_eq!(disk.open_files(), 0);
    (owners.finished().expect("users"), visits)
}

/// The lock is let go after 4,096 mailboxes, and after a quarter of the longest hold: nobody is lost where the walk goes on.
#[test]
fn a_long_list_of_mailboxes_is_read_in_several_visits_and_has_everybody() {
    let value = "%(A %(anna lrs) I x P default V 1 C 1 F 1 M 1)";
    let users = users(5000);
    let expected: Vec<Owner> = users.iter().map(|user| Owner::User(user.clone().into_bytes())).collect();
    let mut entries: Vec<Entry> =
        users.iter().flat_map(|user| [legacy(user, value), legacy(&format!("{user}.Sent"), value)]).collect();
    entries.sort();
    let raw = entries.clone();
    entries.sort_by_key(|(key, _)| by_mbox(key));
    assert!(raw != entries, "the two orders are told apart");
    for (order, entries) in [("raw", raw), ("mbox", entries)] {
        for database in [twoskip::emit(&entries, 1), skiplist::emit(&entries).expect("a database")] {
            let (found, visits) = listed(&mut host_of(database), Patience::default());
            assert!(found == expected, "{order}: {} of {}", found.len(), expected.len());
            assert!(visits > 5, "{order}: {visits} visits");
        }
    }
    let few: Vec<Entry> = users[..60].iter().map(|user| legacy(user, value)).collect();
    let (found, visits) = listed(&mut host_of(twoskip::emit(&few, 1)), Patience { hold: Span(1), ..Patience::default() });
    assert_eq!((found, visits > 60), (expected[..60].to_vec(), true), "{visits} visits");
}

/// Whoever has any mailbox is saved; a user is who has an INBOX.
#[test]
fn users_are_those_who_have_an_inbox_and_owners_all_who_have_a_mailbox() {
    let value = "%(A %(anna lrs) I x P default V 1 C 1 F 1 M 1)";
    let deleted = "DELETED.user.carl.6B047E5B";
    let names = [deleted, "news", "news.local", "user.anna", "user.anna.Sent", "user.bob.Left"];
    let entries: Vec<Entry> = names.map(|name| (name.as_bytes().to_vec(), value.as_bytes().to_vec())).to_vec();
    let mut disk = host_of(twoskip::emit(&entries, 1));
    let asked = |io: Io| async move {
        let mut site = site(&io, Patience::default()).await?;
        Ok::<_, Error>((site.users(&io).await?, site.owners(&io).await?))
    };
    let (users, owners) = drive(&mut disk, asked).finished().expect("a host");
    let user = |name: &str| Owner::User(name.as_bytes().to_vec());
    assert_eq!(users, [user("anna")]);
    assert_eq!(owners, [user("anna"), user("bob"), user("carl"), Owner::Shared]);
}

/// Of messages that Cyrus has moved to the archive partition the record says so; it may be moved just when it is looked for.
#[test]
fn a_message_is_found_on_either_partition_and_a_good_copy_on_the_other_one_counts() {
    let (mut disk, mut host) = world();
    let archiving = format!("{CONF}archive_enabled: yes\narchivepartition-default: /var/spool/archive\n");
    let moved = |host: &Host, uid| {
        let path = String::from_utf8(host.message_place(ANNA, uid).path).expect("text");
        Place::host(path.replace("/var/spool/cyrus/", "/var/spool/archive/"))
    };
    host.folder(ANNA).deliver(&story::mail(4, 700));
    host.folder(ANNA).messages.iter_mut().for_each(|m| m.archived = m.uid != 2);
    host.publish(&mut disk);
    disk.put_file(&Place::host("/etc/imapd.conf"), archiving);
    // The first is where its record says; the second was moved and its record was not there yet; the third is still in the old
    // place; of the fourth the first copy is broken.
    for (uid, n) in [(1, 0), (2, 1)] {
        disk.take_away(&host.message_place(ANNA, uid));
        disk.put_file(&moved(&host, uid), story::mail(n, 500));
    }
    disk.put_file(&moved(&host, 4), b"Subject: torn\r\n".to_vec());
    let report = backup(&mut disk).expect("a run");
    // The broken copy is kept beside the good one.
    assert!(report.is_clean() && report.messages_added == 6, "{report:?}");
    assert!((0..3).all(|n| has(&mut disk, &story::mail(n, 500))) && has(&mut disk, &story::mail(4, 700)));
    is_good(&mut disk);
}

/// A file of INBOX, as the newest snapshot has it.
fn saved(disk: &mut SimDisk, name: &str) -> Vec<u8> {
    let row = table(disk, When::Newest).folder(b"INBOX").expect("INBOX").clone();
    let at = row.file(name).unwrap_or_else(|| panic!("no {name}")).at.location().expect("a place");
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let content = reader.read_entry(at, 1 << 30).await;
        reader.close().await;
        content
    };
    drive(disk, procedure).finished().expect("a file")
}

/// Files larger than one read, and more of them than are held in memory.
#[test]
fn metadata_of_any_size_are_saved_as_they_are() {
    let (mut disk, mut host) = world();
    let sizes = [(1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20, 13 << 20];
    for (n, size) in sizes.into_iter().enumerate() {
        let notes = host.meta_place(ANNA, "cyrus.annotations");
        let path = String::from_utf8(notes.path).expect("text");
        host.files.insert(path, story::long_mail(n as u64, size));
        host.files.insert(String::from("/var/spool/sieve/a/anna/long.script"), story::long_mail(50 + n as u64, size));
        // An index of more than 2 MiB.
        if n == 0 {
            let copy = Rc::new(story::mail(2, 500));
            for _ in 0..20_000 {
                host.folder(ANNA).take(copy.clone(), Guid::of(&copy));
            }
        }
        host.publish(&mut disk);
        later(&mut disk, 1000);
        let report = backup(&mut disk).expect("a run");
        assert!(report.is_clean(), "{report:?}");
        assert!(saved(&mut disk, "cyrus.annotations") == story::long_mail(n as u64, size), "{size} bytes");
        let index = host.image(&host.meta_place(ANNA, "cyrus.index")).expect("an index").clone();
        assert!(saved(&mut disk, "cyrus.index") == **index && index.len() > 2 << 20, "an index of {} bytes", index.len());
    }
    is_good(&mut disk);
}

/// A folder below whose directory nobody may look is told by its name, and costs no other one anything, however many there are.
#[test]
fn a_folder_whose_files_cannot_be_looked_at_is_told_alone() {
    let folder = |n: usize| Folder {
        name: format!("INBOX.f{n:04}").into_bytes(),
        id: None,
        key: Vec::new(),
        entry: Vec::new(),
        paths: FolderPaths::elsewhere(),
        tuples: [None; 4],
    };
    let looking = |io: Io| async move {
        let (mut folders, mut unreadable) = ((0..2500).map(folder).collect(), Vec::new());
        fill_tuples(&io, &mut folders, &mut unreadable).await.map(|()| (folders, unreadable))
    };
    // Of these folders one file each: the first, the last, and one between.
    let forbidden = [(3, 0), (1023, 3), (1024, 1), (2499, 2)];
    let (mut task, mut seen) = (Task::new(Time::default(), looking), 0);
    let (folders, unreadable) = loop {
        match task.poll_output() {
            Output::Op(id, Op::StatMany(places)) => {
                let stat = |n: usize| match forbidden.contains(&(n / 4, n % 4)) {
                    true => Err(Fault::Os(13)),
                    // The size tells whose file it is.
                    false => Ok(Stat { size: n as u64, ..any_stat() }),
                };
                let stats = (seen..seen + places.len()).map(stat).collect();
                seen += places.len();
                task.handle_input(Time::default(), Input::Done(id, Ok(Reply::Stats(stats))));
            }
            Output::Finished(result) => break result.expect("a look"),
            other => panic!("{other:?}"),
        }
    };
    let names = |n: usize| format!("INBOX.f{n:04}").into_bytes();
    let told: BTreeSet<Vec<u8>> = unreadable.into_iter().map(|(name, _)| name).collect();
    assert_eq!(told, forbidden.map(|(n, _)| names(n)).into());
    assert_eq!(folders.len(), 2500 - forbidden.len());
    for folder in folders {
        let n: u64 = String::from_utf8_lossy(&folder.name[b"INBOX.f".len()..]).parse().expect("a number");
        let sizes = folder.tuples.map(|tuple| tuple.expect("a file").size);
        assert_eq!(sizes, [0, 1, 2, 3].map(|file| 4 * n + file), "{}", String::from_utf8_lossy(&folder.name));
    }
}

fn any_stat() -> Stat {
    let time = Time::default();
    let kind = FileKind::Regular;
    Stat { kind, dev: 1, ino: 1, size: 0, mtime: time, ctime: time, nlink: 1, mode: 0o600, uid: 1, gid: 1 }
}

/// The server kept its list of mailboxes in an SQL database; a mailboxes.db that was left over was backed up, with exit 0, and
/// new users and folders were not there.
#[test]
fn a_list_of_mailboxes_that_the_server_keeps_elsewhere_is_not_read_from_what_was_left_over() {
    let store = Store::new();
    let root = store.beside("root");
    copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sample"), &root);
    let conf = root.join("etc/imapd.conf");
    let text = fs::read_to_string(&conf).expect("imapd.conf");
    for (line, code) in [("mboxlist_db: sql", 1), ("annotation_db: sql", 1), ("mboxlist_db: Twoskip", 0)] {
        fs::write(&conf, format!("{text}\n{line}\n")).expect("imapd.conf");
        let mut command = store.backup(&root, "anna");
        let said = run_for(command.arg("--offline"), code);
        let is_told = err(&said).contains("is not supported, expected one of flat, skiplist, twom, twoskip");
        assert_eq!(is_told, code == 1, "{line}: {}", err(&said));
    }
}

/// It was called damaged.
#[test]
fn an_sqlite_file_in_the_place_of_mailboxes_db_is_not_supported_and_not_damaged() {
    let file = [&b"SQLite format 3\0"[..], &[0; 8176]].concat();
    let error = drive(&mut host_of(file), |io| async move { site(&io, Patience::default()).await.map(drop) }).finished();
    let error = error.expect_err("no list of mailboxes");
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert!(error.to_string().contains("an SQLite database is not supported; convert it with cvt_cyrusdb"), "{error}");
}
