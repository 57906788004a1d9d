//! Our server answers a client of the stock dialect as a real backupcyrusd did: what was recorded there
//! (`tests/data/transcripts`) is asked again, of a simulated host that has the same files.
//!
//! Where the answer may differ, because the recorded one is a fault of that server (PROTOCOL.md section 2.7), the answer that
//! is wanted stands here.

use cylinder_core::cyrus::annotations;
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::db::twoskip;
use cylinder_core::cyrus::header::Header;
use cylinder_core::cyrus::index;
use cylinder_core::cyrus::mailboxes::{self, MbEntry};
use cylinder_core::error::Error;
use cylinder_core::io::{Io, LockMode, Op, Place, Reply, StreamId};
use cylinder_core::serve::{Settings, serve};
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::time::{Span, Time};
use cylinder_core::wire::words;
use cylinder_tests::disk::SimDisk;
use cylinder_tests::net::{Net, join};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

fn data() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/transcripts")
}

/// What a client sent (`c2s`) or a server answered (`s2c`).
fn recorded(name: &str, way: &str) -> Vec<u8> {
    let path = data().join(format!("{name}.{way}"));
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = String> {
    bytes.split(|&b| b == b'\n').map(|line| String::from_utf8_lossy(line).into_owned())
}

/// The blocks of an answer by name: content, mtime, inode.
fn blocks(answer: &[u8]) -> BTreeMap<String, (Vec<u8>, i64, u64)> {
    let (mut found, mut rest) = (BTreeMap::new(), answer);
    while let Some(end) = rest.iter().position(|&b| b == b'\n') {
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = &rest[end + 1..];
        if let Some(head) = line.strip_prefix("DATA ") {
            let words: Vec<&str> = head.split(' ').collect();
            let number = |n: usize| words[n].parse::<u64>().expect("a number");
            let size = number(1) as usize;
            found.insert(words[0].to_owned(), (rest[..size].to_vec(), number(2) as i64, number(3)));
            rest = &rest[size..];
        }
    }
    found
}

/// The host that was recorded, as far as the recordings show it.
struct World {
    disk: SimDisk,
    entries: Vec<(Vec<u8>, Vec<u8>)>,
    annotations: Vec<(Vec<u8>, Vec<u8>)>,
    inodes: BTreeSet<u64>,
}

fn dir(id: &str) -> String {
    format!("/var/spool/cyrus/uuid/{}/{}/{id}", &id[..1], &id[1..2])
}

impl World {
    fn put(&mut self, path: &str, content: &[u8], mtime: i64, ino: u64) {
        let place = Place::host(path);
        self.disk.put_file(&place, content);
        if self.inodes.insert(ino) {
            self.disk.stamp(&place, Time::from_secs(mtime), ino);
        }
    }

    /// A folder under its internal name with components separated by 0x1F.
    fn folder(&mut self, dbname: &str, id: &str) {
        let entry = MbEntry {
            uniqueid: Some(id.as_bytes().to_vec()),
            jmapid: Some(b"P-F".to_vec()),
            partition: Some(b"default".to_vec()),
            ..MbEntry::default()
        };
        let mut value = Vec::new();
        mailboxes::emit(&entry, VersionLine::V3_12, &mut value);
        self.entries.push(([b"N", dbname.as_bytes()].concat(), value));
    }

    /// The folders of a recorded list (names with `.` between components, no altnamespace), with files of the recorded sizes.
    fn list(&mut self, root: &str, name: &str, alt: bool) {
        let mut ids = BTreeMap::new();
        for line in lines(&recorded(name, "s2c")) {
            let decoded = |word: &str| words::decode(word.as_bytes()).and_then(|word| String::from_utf8(word).ok());
            let words: Vec<String> = line.split(' ').map(|word| decoded(word).expect("a name")).collect();
            match words[0].as_str() {
                "FOLDER" => {
                    let below = match (words[1].strip_prefix("INBOX"), alt) {
                        (Some(below), _) => below.to_owned(),
                        (None, true) => format!(".{}", words[1]),
                        (None, false) => String::new(),
                    };
                    let internal = if words[1].starts_with("DELETED") { words[1].clone() } else { format!("{root}{below}") };
                    let dbname = internal.replace('.', "\x1f").replace('^', ".").replace('!', "\x1d");
                    let dbname = dbname.replace("virt\x1fexample", "virt.example");
                    self.folder(&dbname, &words[2]);
                    ids.insert(words[1].clone(), words[2].clone());
                }
                "STAT" if words[2] != "mailbox_annotations" => {
                    let number = |n: usize| words[n].parse::<u64>().expect("a number");
                    let path = format!("{}/cyrus.{}", dir(&ids[&words[1]]), words[2]);
                    self.put(&path, &vec![0; number(3) as usize], number(4) as i64, number(5));
                }
                _ => {}
            }
        }
    }

    fn content(&mut self, path: &str, content: &[u8]) {
        let place = Place::host(path);
        assert_eq!(self.disk.content(&place).map(<[u8]>::len), Some(content.len()), "{path}");
        let (mtime, ino) = self.stat(path);
        self.disk.change_file(&place, content);
        // The stamp stays as it was recorded.
        self.disk.stamp(&place, mtime, ino);
    }

    fn stat(&mut self, path: &str) -> (Time, u64) {
        let id = cylinder_core::io::OpId(0);
        match self.disk.run(id, Op::Stat(Place::host(path))).expect("no trouble was planned") {
            Ok(Reply::Stat(stat)) => (stat.mtime, stat.ino),
            other => panic!("{path}: {other:?}"),
        }
    }

    fn annotation(&mut self, id: &str, entry: &str, value: &[u8]) {
        let key = annotations::emit_key(id.as_bytes(), entry.as_bytes(), annotations::OWNER_TOKEN);
        self.annotations.push((key, annotations::emit_value(value)));
    }
}

const ALICE: &str = "b4589a91-16a6-4192-a539-2565822bcdb9";
const WORK: &str = "bc2725f1-bde3-443d-9156-ea66ff1cb121";
const SENT: &str = "bd04a7c0-6be7-48f5-bd82-3136405e7546";
const EMPTY: &str = "a197fa4f-01d3-4230-bdd5-07f5bdc9d58b";
const TRASH: &str = "32b31da6-2e1b-4f70-aa68-5b7601b7d502";
const ETE: &str = "59d1e21c-d52b-44be-901c-63b67af4e50d";
const BOB: &str = "47b5a6ff-ced3-499f-b37c-62cea0d2476a";
const DAVE: &str = "1e2bd3f1-3348-42da-b914-e4e6864c8b38";

/// The host with `unixhierarchysep` and `altnamespace` as given, at the time at which `name` was recorded.
fn world(name: &str, slash: bool, alt: bool) -> SimDisk {
    let disk = SimDisk::new();
    let mut world = World { disk, entries: Vec::new(), annotations: Vec::new(), inodes: BTreeSet::new() };
    let on = |option| if option { "yes" } else { "no" };
    let conf = format!(
        "servername: imaptest\nconfigdirectory: /var/lib/cyrus\npartition-default: /var/spool/cyrus\ndefaultpartition: default\n\
        mboxname_lockpath: /run/cyrus/lock\nvirtdomains: userid\nunixhierarchysep: {}\naltnamespace: {}\n",
        on(slash),
        on(alt)
    );
    world.disk.put_file(&Place::host("/etc/imapd.conf"), conf);
    if name.contains("erin") || name.starts_with("deleted-folder") {
        match name {
            "slash-erin-before-delete" => world.list("user.erin", name, true),
            _ => world.list("user.erin", "dot-erin-after-delete", false),
        }
    } else {
        everybody(&mut world);
    }
    world.entries.sort();
    world.annotations.sort();
    world.disk.put_file(&Place::host("/var/lib/cyrus/mailboxes.db"), twoskip::emit(&world.entries, 1));
    world.disk.put_file(&Place::host("/var/lib/cyrus/annotations.db"), twoskip::emit(&world.annotations, 1));
    world.disk.wait_until(Time::from_secs(1_795_460_000));
    world.disk
}

fn everybody(world: &mut World) {
    world.list("user.alice", "fmultistatus-alice", false);
    world.list("user.bob", "fmultistatus-bob", false);
    world.list("virt.example!user.dave", "slash-fmultistatus-dave", true);
    world.folder("user\x1fcarol", "11111111-2222-3333-4444-555555555555");
    for (id, name) in [(WORK, "fmeta-files"), (SENT, "fmeta-files-missing-annotations"), (EMPTY, "fmeta-files-unknown-name")] {
        for (file, (content, ..)) in blocks(&recorded(name, "s2c")) {
            if file != "mailbox_annotations" {
                world.content(&format!("{}/cyrus.{file}", dir(id)), &content);
            }
        }
    }
    let header = index::Header { minor_version: 20, highestmodseq: Some(1), ..index::Header::default() };
    let empty = index::emit_index(&header, &[]).expect("an index without records");
    world.content(&format!("{}/cyrus.index", dir(EMPTY)), &empty);
    world.annotation(WORK, "/comment", b"my work folder");
    // What stood there was not recorded. This has the same length, and the same made-up inode.
    world.annotation(ETE, "/comment", b"note 000325910");
    world.annotation(TRASH, "/specialuse", b"\\Trash");
    for (id, name) in
        [(ALICE, "fdata-several-one-missing"), (ALICE, "fdata-expunged-uid"), (BOB, "fdata-two"), (DAVE, "fdata-virtdomain")]
    {
        for (uid, (content, mtime, ino)) in blocks(&recorded(name, "s2c")) {
            world.put(&format!("{}/{uid}.", dir(id)), &content, mtime, ino);
        }
    }
    let (sub, mtime, ino) = blocks(&recorded("meta-files", "s2c")).remove("sub").expect("a block");
    world.put(&format!("/var/lib/cyrus/user/uuid/{}/{}/{ALICE}/sub.db", &ALICE[..1], &ALICE[1..2]), &sub, mtime, ino);
}

/// Asks and listens until nothing more comes.
async fn client(io: Io, request: Vec<u8>) -> Vec<u8> {
    let stream = io.connect("server".to_owned()).await.expect("a stream");
    drop(io.start(Op::Send { stream, data: request }));
    let mut answer = Vec::new();
    loop {
        let call = io.start(Op::Receive { stream, max: 1 << 20, buffer: Vec::new() });
        match io.by(call, io.now().plus(Span::from_secs(5))).await {
            Some(Ok(Reply::Bytes(bytes))) if !bytes.is_empty() => answer.extend(bytes),
            _ => return answer,
        }
    }
}

fn settings(users: &[&str]) -> Settings {
    Settings {
        servername: b"imaptest".to_vec(),
        software: String::from("cylinder"),
        idle: Span::from_secs(600),
        stall: Span::from_secs(60),
        users: users.iter().map(|&pattern| pattern.to_owned()).collect(),
    }
}

async fn server(io: Io, settings: Settings) -> Result<(), Error> {
    let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_12).await?;
    let mut site = Site::open(&io, conf, None, Locking::AsServer, Patience::default()).await?;
    serve(&io, &mut site, StreamId(1), "client", &settings).await
}

/// What our server answers on that host. The stream is handed over in pieces of this size; 0: as they come.
fn ask(there: &mut SimDisk, request: &[u8], piece: usize, settings: &Settings) -> Vec<u8> {
    let mut net = Net { piece, ..Net::default() };
    let request = request.to_vec();
    join(&mut SimDisk::new(), there, &mut net, |io| client(io, request), |io| server(io, settings.clone()))
}

fn namespace(name: &str) -> (bool, bool) {
    match name {
        "deleted-folder-alt-only" => (false, true),
        "deleted-folder-unixhier-only" => (true, false),
        _ => (name.starts_with("slash-"), name.starts_with("slash-")),
    }
}

/// The answer that is wanted where the recorded one is a fault.
fn mended(name: &str) -> Option<String> {
    let recorded = |name| String::from_utf8_lossy(&recorded(name, "s2c")).into_owned();
    let ping = "OK\nDONE PING\n";
    Some(match name {
        // 1. The server died.
        "deleted-folder-alt-only" => recorded("dot-erin-after-delete"),
        "slash-erin-after-delete" => recorded("deleted-folder-unixhier-only"),
        "slash-fmultistatus-alice" => list_of_alice(),
        // 6. No slot.
        "users-no-slot" => format!("NO iam imaptest\n{ping}"),
        "unknown-command" => {
            format!("NO bad command\nNO unknown command FROB\nNO iam imaptest\nNO iam imaptest\n{ping}")
        }
        // 7. No answer.
        "fmultistatus-missing-user" | "meta-missing-user" => format!("NO bad command\nNO missing user\n{ping}"),
        // 8 and 9. Escapes.
        "escapes-lower-and-odd" => {
            let work = recorded("fmeta-stat-annotated");
            let work = work.split_inclusive('\n').take(6).collect::<String>();
            format!(
                "{work}NO bad argument INBOX%252EWork%25\nNO bad argument INBOX%252EWork%25zz\n\
                NO no such folder user.alice.Nope%FF%C3%A9%80\nNO no such folder user.alice.%C3%A9\n\
                NO bad argument INBOX%2500Work\nNO no such folder user.alice.Work%0AX\n{ping}"
            )
        }
        // 10. The literal.
        "names-quoted-literal" => {
            let answered = recorded("names-quoted-literal").replace("NO iam imaptest\n", "");
            let work = answered.split_inclusive("P-F\n").nth(1).expect("two answers").to_owned();
            format!("{answered}{work}{ping}")
        }
        // 11. Other users.
        "cross-user-folder" => String::from(
            "NO no such folder user.alice.Work\nNO no such folder user.alice\nNO no such folder user.alice\n\
            NO no such folder user.bob\n",
        ),
        // 12. What is missing.
        "fdata-missing-args" => format!("NO bad command\nNO missing folder\n{ping}"),
        "fmeta-missing-args" => format!("NO missing folder\nNO bad command\n{ping}"),
        _ => return None,
    })
}

/// What the list of alice's folders is without the fault: that of the other namespace, under other names.
fn list_of_alice() -> String {
    let list = String::from_utf8(recorded("fmultistatus-alice", "s2c")).expect("ASCII");
    let mut out = String::new();
    for line in list.split_inclusive('\n') {
        let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        if words.len() > 1 && (words[0] == "FOLDER" || words[0] == "STAT") {
            let name = words[1].strip_prefix("INBOX.").unwrap_or(&words[1]).to_owned();
            words[1] = name.replace('.', "%2F").replace("%5E", ".");
        }
        out.push_str(&words.join(" "));
    }
    out
}

/// An answer in which made-up inodes of annotations have as many bits as a stock server gives them.
fn comparable(answer: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in answer.split_inclusive(|&b| b == b'\n') {
        match std::str::from_utf8(line) {
            Ok(text) if text.contains("mailbox_annotations ") && (text.starts_with("STAT") || text.starts_with("DATA")) => {
                let mut words: Vec<String> = text.trim_end().split(' ').map(str::to_owned).collect();
                let ino = words.last_mut().expect("a word");
                *ino = format!("{}", ino.parse::<u64>().expect("a number") & 0xFFFF);
                out.extend_from_slice(words.join(" ").as_bytes());
                out.push(b'\n');
            }
            _ => out.extend_from_slice(line),
        }
    }
    out
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(data())
        .expect("transcripts")
        .filter_map(|entry| {
            entry.expect("an entry").file_name().into_string().expect("text").strip_suffix(".c2s").map(str::to_owned)
        })
        .collect();
    names.sort();
    assert!(names.len() > 50, "{} recordings: are these all?", names.len());
    names
}

#[test]
fn every_recorded_request_is_answered_as_it_was_or_better() {
    let mut mended_count = 0;
    for name in names() {
        let (slash, alt) = namespace(&name);
        let wanted = mended(&name).inspect(|_| mended_count += 1).map(String::into_bytes);
        let stock = recorded(&name, "s2c");
        if let Some(wanted) = &wanted {
            assert_ne!(comparable(wanted), comparable(&stock), "{name}: no fault was recorded");
        }
        let wanted = comparable(&wanted.unwrap_or(stock));
        for piece in [0, 1] {
            let answer = comparable(&ask(&mut world(&name, slash, alt), &recorded(&name, "c2s"), piece, &settings(&[])));
            assert!(answer == wanted, "{name}:\n{}\nwanted:\n{}", text(&answer), text(&wanted));
        }
    }
    assert_eq!(mended_count, 12);
}

fn text(answer: &[u8]) -> String {
    String::from_utf8_lossy(answer).into_owned()
}

/// One question to the recorded host, in the namespace without altnamespace.
fn asked(disk: &mut SimDisk, request: &str) -> String {
    text(&ask(disk, request.as_bytes(), 0, &settings(&[])))
}

#[test]
fn only_users_that_are_given_away_are_named_and_served() {
    let mut disk = world("", false, false);
    let request = b"USERS imaptest\nMETA imaptest alice\nFMULTISTATUS imaptest bob\nFMETA imaptest bob INBOX\nFDATA imaptest bob INBOX 1\n\
        FMETA imaptest alice user.bob\nFMULTISTATUS imaptest nobody\n";
    let refused = "NO this client may not have that user\n";
    let answer = text(&ask(&mut disk, request, 0, &settings(&["a*", "%shared"])));
    assert_eq!(
        answer,
        format!(
            "OK\nUSER alice\nDONE USERS\nOK\nSTAT sub 49 1795456974 10249802\nDONE META\n{}NO no such folder user.bob\n{refused}",
            refused.repeat(3)
        )
    );
}

#[test]
fn a_file_that_can_still_change_within_its_second_looks_changed_the_next_time() {
    let mut disk = world("", false, false);
    let index = format!("{}/cyrus.index", dir(EMPTY));
    let content = disk.content(&Place::host(&*index)).expect("an index").to_vec();
    disk.change_file(&Place::host(&*index), content);
    let now = disk.now().secs();
    let request = "FMETA imaptest alice INBOX.Empty\nFMETA imaptest alice INBOX.Empty header index\n";
    let answer = asked(&mut disk, request);
    assert!(answer.contains(&format!("STAT index 192 {now} 10249380\n")), "{answer}");
    assert!(answer.contains(&format!("DATA index 192 {} 10249380\n", now - 1)), "{answer}");
    assert!(answer.contains("DATA header 225 1795456969 10249375\n"), "{answer}");
    disk.wait_until(Time::from_secs(now + 1));
    let answer = asked(&mut disk, request);
    assert!(answer.contains(&format!("DATA index 192 {now} 10249380\n")), "{answer}");
}

/// A client takes what is not in the list for deleted.
#[test]
fn a_list_of_which_one_folder_cannot_be_read_is_refused() {
    let mut disk = world("", false, false);
    let database = Place::host("/var/lib/cyrus/mailboxes.db");
    let broken = (b"Nuser\x1fbob\x1fBroken".to_vec(), b"%(no dlist".to_vec());
    let mut world = World { disk: SimDisk::new(), entries: Vec::new(), annotations: Vec::new(), inodes: BTreeSet::new() };
    everybody(&mut world);
    world.entries.push(broken);
    world.entries.sort();
    disk.put_file(&database, twoskip::emit(&world.entries, 2));
    let answer = asked(&mut disk, "FMULTISTATUS imaptest bob\nFMULTISTATUS imaptest dave@virt.example\n");
    assert!(answer.starts_with("NO failed mailboxes.db"), "{answer}");
    assert!(answer.ends_with("DONE FMULTISTATUS\n") && answer.matches("OK\n").count() == 1, "{answer}");
}

#[test]
fn a_locked_folder_is_refused_in_the_end_and_its_messages_are_not() {
    let mut disk = world("", false, false);
    disk.hold(&Place::host(format!("{}/cyrus.index", dir(BOB))), LockMode::Exclusive, "process 7 (imapd)");
    let request = "FMETA imaptest bob INBOX header\nFDATA imaptest bob INBOX 1\nPING\n";
    let mut net = Net::default();
    let mut here = SimDisk::new();
    let patient = |io: Io| async move {
        let stream = io.connect(String::from("server")).await.expect("a stream");
        drop(io.start(Op::Send { stream, data: request.into() }));
        let mut answer = Vec::new();
        while !answer.ends_with(b"DONE PING\n") {
            let call = io.start(Op::Receive { stream, max: 1 << 20, buffer: Vec::new() });
            match call.await {
                Ok(Reply::Bytes(bytes)) if !bytes.is_empty() => answer.extend(bytes),
                other => panic!("{other:?} after {}", text(&answer)),
            }
        }
        answer
    };
    let answer = text(&join(&mut here, &mut disk, &mut net, patient, |io| server(io, settings(&[]))));
    assert!(answer.starts_with("NO busy /var/spool/cyrus/uuid/4/7/"), "{answer}");
    assert!(answer.contains("held by process 7 (imapd)\nOK\nDATA 1 32 "), "{answer}");
}

#[test]
fn requests_beyond_the_limits_are_refused_or_end_the_connection() {
    let mut disk = world("", false, false);
    let many = format!("FDATA imaptest bob INBOX{}\nPING\n", " 1".repeat(4097));
    assert_eq!(asked(&mut disk, &many), "NO too many words\nOK\nDONE PING\n");
    let most = format!("FDATA imaptest bob INBOX{}\nPING\n", " 9".repeat(4096));
    let answer = asked(&mut disk, &most);
    assert!(answer.matches("NO no such file 9\n").count() == 4096 && answer.ends_with("DONE PING\n"));
    for bad in [
        format!("FMETA imaptest bob {}\nPING\n", "x".repeat(70_000)),
        format!("FMETA imaptest bob {{4097}}\r\n{}\nPING\n", "x".repeat(4097)),
        "x".repeat(70_000),
    ] {
        assert_eq!(asked(&mut disk, &bad), "");
    }
    let long = format!("FMETA imaptest bob {{4096}}\r\n{}\nPING\n", "x".repeat(4096));
    assert_eq!(asked(&mut disk, &long), format!("NO no such folder {}\nOK\nDONE PING\n", "x".repeat(4096)));
}

#[test]
fn names_that_are_paths_lead_nowhere() {
    let mut disk = world("", false, false);
    disk.put_file(&Place::host("/etc/passwd"), "root");
    disk.take_transcript();
    for name in [
        "../../../../etc/passwd",
        "INBOX/../../x",
        "INBOX.../x",
        "..",
        "/etc/passwd",
        "user.bob",
        "INBOX.%2E%2E%2Fx",
        "%00",
        "a%0",
        "{3}",
    ] {
        for verb in ["FMETA", "FDATA"] {
            let answer = asked(&mut disk, &format!("{verb} imaptest alice {name} header 1\n"));
            assert!(answer.starts_with("NO ") && answer.matches('\n').count() == 1, "{name}: {answer}");
        }
        let answer = asked(&mut disk, &format!("META imaptest {name} seen sub\n"));
        assert!(!answer.contains("DATA"), "{name}: {answer}");
    }
    let answer = asked(&mut disk, "FDATA imaptest bob INBOX ../../etc/passwd 1/../1 4294967297\n");
    assert!(answer.contains("NO no such file ..%2F..%2Fetc%2Fpasswd\nDATA 1%2F..%2F1 32 "), "{answer}");
    let done = disk.take_transcript();
    assert!(done.contains("read 1. 32 bytes") && !done.contains("passwd"), "{done}");
}

/// Under altnamespace a deleted folder has no name, so it is given that of the other namespace; a folder that really has this
/// name comes first.
#[test]
fn deleted_folders_can_be_had_under_the_names_that_the_list_gives_them() {
    let mut disk = world("deleted-folder-alt-only", false, true);
    let id = "2518ba02-9400-4724-8f21-a57eaf7e7a7d";
    disk.put_file(&Place::host(format!("{}/3.", dir(id))), "three");
    let request = "FMETA imaptest erin DELETED.user.erin.Sub.6B04806C\nFDATA imaptest erin DELETED.user.erin.Sub.6B04806C 3\n";
    let answer = asked(&mut disk, request);
    assert!(answer.starts_with("OK\nSTAT header 225 ") && answer.contains(&format!("DONE FMETA {id} P-F\n")), "{answer}");
    assert!(answer.contains("three") && answer.ends_with(&format!("DONE FDATA {id} P-F\n")), "{answer}");
    let mut world = World { disk: SimDisk::new(), entries: Vec::new(), annotations: Vec::new(), inodes: BTreeSet::new() };
    world.list("user.erin", "dot-erin-after-delete", false);
    world.folder("user\x1ferin\x1fDELETED\x1fuser\x1ferin\x1fSub\x1f6B04806C", "11111111-2222-3333-4444-555555555555");
    world.entries.sort();
    disk.put_file(&Place::host("/var/lib/cyrus/mailboxes.db"), twoskip::emit(&world.entries, 2));
    let answer = asked(&mut disk, "FMULTISTATUS imaptest erin\nFDATA imaptest erin DELETED.user.erin.Sub.6B04806C 3\n");
    assert_eq!(answer.matches("FOLDER DELETED").count(), 1, "{answer}");
    assert!(answer.ends_with("NO no such file 3\nDONE FDATA 11111111-2222-3333-4444-555555555555 P-F\n"), "{answer}");
}

/// Cyrus 2.4: mailboxes.db has no uniqueids, directories go by name, and there is no jmapid.
#[test]
fn a_host_of_an_old_version_is_served_too() {
    let mut disk = SimDisk::new();
    let conf = "servername: imaptest\nconfigdirectory: /var/lib/cyrus\npartition-default: /var/spool/cyrus\ndefaultpartition: default\n\
        mboxname_lockpath: /run/cyrus/lock\n";
    let entries = [("user.anna", "0 default anna\tlrs\t"), ("user.anna.a^b", "0 default anna\tlrs\t")];
    let entries: Vec<_> = entries.map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).to_vec();
    let header = Header { uniqueid: b"0123456789abcdef".to_vec(), ..Header::default() };
    let index = index::Header { minor_version: 12, highestmodseq: Some(1), deletedmodseq: Some(0), ..index::Header::default() };
    for (path, content) in [
        ("/etc/imapd.conf", conf.as_bytes().to_vec()),
        ("/run/cyrus/lock/x", Vec::new()),
        ("/var/lib/cyrus/mailboxes.db", twoskip::emit(&entries, 1)),
        ("/var/lib/cyrus/user/a/anna.sub", b"user.anna.a^b\t\n".to_vec()),
        ("/var/spool/cyrus/user/anna/a^b/cyrus.header", header.emit().expect("a header")),
        ("/var/spool/cyrus/user/anna/a^b/cyrus.index", index::emit_index(&index, &[]).expect("an index")),
        ("/var/spool/cyrus/user/anna/a^b/5.", b"five".to_vec()),
    ] {
        disk.put_file(&Place::host(path), content);
    }
    let request = "USERS imaptest\nMETA imaptest anna sub\nFMULTISTATUS imaptest anna\nFMETA imaptest anna INBOX.a^b index\n\
        FDATA imaptest anna INBOX.a^b 5\nFMETA imaptest anna INBOX index\n";
    let answer = asked(&mut disk, request);
    for wanted in [
        "OK\nUSER anna\nDONE USERS\nOK\nDATA sub 15 ",
        "FOLDER INBOX - -\nFOLDER INBOX.a%5Eb 0123456789abcdef -\nSTAT INBOX.a%5Eb header ",
        "OK\nDATA index 128 ",
        "DONE FMETA 0123456789abcdef -\n",
        "fiveDONE 5 ",
        "DONE FDATA 0123456789abcdef -\nNO no such folder user.anna\n",
    ] {
        assert!(answer.contains(wanted), "{wanted}\nis not in\n{answer}");
    }
}

#[test]
fn nothing_is_written_and_no_file_stays_open() {
    let mut disk = world("", false, false);
    for name in ["fmeta-files", "fdata-several-one-missing", "fmultistatus-alice", "meta-files", "fdata-odd-uids"] {
        ask(&mut disk, &recorded(name, "c2s"), 0, &settings(&[]));
    }
    assert_eq!(disk.open_files(), 0);
    let odd: Vec<_> = disk.written().iter().filter(|place| !place.shown().starts_with("/run/cyrus/lock/")).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert!(!disk.written().is_empty());
}
