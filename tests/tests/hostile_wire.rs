//! Peers that lie, both ends simulated: a server that sends anything but the truth to a client that has an archive, and a
//! client that sends anything but a request to a server.

use cylinder_core::archive::read::Reader;
use cylinder_core::archive::verify::verify;
use cylinder_core::backup::{self, Settings};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::io::{Io, Place, Root, StreamId};
use cylinder_core::pull::Origin;
use cylinder_core::pull::native::{Greeted, connect};
use cylinder_core::serve;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::store::archive_dir;
use cylinder_core::time::Span;
use cylinder_core::wire::ANSWER_LINE_MAX;
use cylinder_core::wire::stream::{Limits, Stream};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::drive;
use cylinder_tests::host::Host;
use cylinder_tests::net::{Net, join};
use cylinder_tests::story;

/// What no client may see.
const SECRET: &str = "SECRET-OF-THE-HOST";

fn anna() -> Owner {
    Owner::User(b"anna".to_vec())
}

fn settings() -> Settings {
    Settings {
        archive: story::settings(),
        source: String::from("test"),
        adopt: false,
        archive_id: *b"sixteen bytes id",
        read_rate: 0,
    }
}

fn limits() -> Limits {
    Limits { line: ANSWER_LINE_MAX, stall: Span::from_secs(60), bytes_per_second: 0 }
}

async fn server(io: Io, users: Vec<String>) -> Result<(), Error> {
    let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    let mut site = Site::open(&io, conf, None, Locking::AsServer, Patience::default()).await?;
    let settings = serve::Settings {
        servername: b"imap1".to_vec(),
        software: String::from("cylinder test"),
        idle: Span::from_secs(600),
        stall: Span::from_secs(60),
        users,
    };
    serve::serve(&io, &mut site, StreamId(1), "client", &settings).await
}

async fn pull(io: Io) -> Result<(), Error> {
    let Greeted::Native(mut client) = connect(&io, "imap1", limits()).await? else {
        return Err(Error::Refused(String::from("a stock server")));
    };
    let result = backup::run(&io, &mut Origin::Native(&mut client), &anna(), &archive_dir(&anna())?, &settings()).await;
    client.close().await;
    result.map(drop)
}

fn later(disk: &mut SimDisk, ms: i64) {
    disk.wait_until(disk.now().plus(Span::from_ms(ms)));
}

/// A host with mail of anna and bob, on which not everything is for clients.
fn host() -> (Host, SimDisk) {
    let (mut host, mut there) = (Host::new(), SimDisk::new());
    later(&mut there, 123);
    for n in 0..3 {
        host.folder("user.anna").deliver(&story::mail(n, 300));
    }
    host.folder("user.anna.Sent").deliver(&story::mail(9, 300));
    host.folder("user.bob").deliver(format!("Subject: {SECRET}\r\n\r\n").as_bytes());
    host.files.insert(String::from("/etc/passwd"), format!("root:{SECRET}:0:0\n").into());
    host.files.insert(String::from("/var/lib/cyrus/user/a/anna.sub"), b"user.anna.Sent\t\n".to_vec());
    for user in ["anna", "bob"] {
        let quota = if user == "bob" { format!("{SECRET}\n") } else { String::from("0\n1024\n") };
        host.files.insert(format!("/var/lib/cyrus/quota/{}/user.{user}", &user[..1]), quota.into());
    }
    host.publish(&mut there);
    later(&mut there, 2000);
    (host, there)
}

/// A client with an archive, a host on which much is new since, and what an honest server says of that.
struct Stage {
    here: SimDisk,
    there: SimDisk,
    answer: Vec<Vec<u8>>,
    /// The store after an honest run.
    honest: SimDisk,
}

impl Stage {
    fn new() -> Stage {
        let (mut host, mut there) = host();
        let mut here = SimDisk::new();
        honest(&mut here, &mut there, &mut Net::default()).expect("an honest run");
        host.folder("user.anna").deliver(&story::mail(20, 300));
        host.folder("user.anna.Work").deliver(&story::mail(21, 300));
        host.folder("user.anna.Work").deliver(&story::mail(22, 300));
        host.publish(&mut there);
        later(&mut there, 2000);
        let mut net = Net { kept: Some(Default::default()), ..Net::default() };
        let mut after = here.clone();
        honest(&mut after, &mut there, &mut net).expect("an honest run");
        let [_, down] = net.kept.expect("what was sent");
        Stage { here, there, answer: chunks(&down), honest: after }
    }

    /// Lets a server say this, and checks what came of it. Gives the error, if there was one, and how many bytes were sent.
    #[track_caller]
    fn hear(&self, name: &str, answer: &[u8], endless: &[u8]) -> (Result<(), Error>, u64) {
        let (mut here, mut puppets, mut net) = (self.here.clone(), SimDisk::new(), Net::default());
        let (answer, endless) = (answer.to_vec(), endless.to_vec());
        let result = join(&mut here, &mut puppets, &mut net, pull, |io| puppet(io, answer, endless));
        let (before, after) = (self.here.store(), here.store());
        for (file, old) in &before {
            let new = after.get(file).unwrap_or_else(|| panic!("{name}: {file} is gone"));
            assert!(new.starts_with(&old[..end_of_commits(old)]), "{name}: {file} was written over");
        }
        let strange: Vec<&String> = after.keys().filter(|file| !self.honest.store().contains_key(*file)).collect();
        assert!(strange.is_empty(), "{name}: {strange:?} was made");
        assert!(here.written().iter().all(|place| place.root == Root::Store), "{name}: {:?}", here.written());
        // Whatever it was, the archive is good, and an honest run brings all.
        let mut there = self.there.clone();
        honest(&mut here, &mut there, &mut Net::default()).unwrap_or_else(|e| panic!("{name}: the next run: {e}"));
        assert_eq!(folders(&mut here, name), ["INBOX", "INBOX.Sent", "INBOX.Work"], "{name}");
        (result, net.sent[1])
    }

    /// Lets a server say what `edit` makes of the truth. It must be an error of the peer that has this in it.
    #[track_caller]
    fn refuses(&self, name: &str, edit: impl FnOnce(&mut Vec<Vec<u8>>), why: &str) {
        let mut answer = self.answer.clone();
        edit(&mut answer);
        let (result, _) = self.hear(name, &answer.concat(), b"");
        let Err(Error::Peer { why: found, .. }) = &result else { panic!("{name}: {result:?}") };
        assert!(found.contains(why), "{name}: {found}");
        assert!(found.len() < 1000, "{name}: an error of {} bytes", found.len());
    }
}

fn honest(here: &mut SimDisk, there: &mut SimDisk, net: &mut Net) -> Result<(), Error> {
    let now = here.now().max(there.now());
    here.wait_until(now);
    there.wait_until(now);
    join(here, there, net, pull, |io| server(io, Vec::new()))
}

/// Where the last member of a file begins, which in an archive is the footer that each run replaces.
fn end_of_commits(file: &[u8]) -> usize {
    file.windows(3).rposition(|magic| magic == [0x1F, 0x8B, 8]).unwrap_or(file.len())
}

/// The names of the newest snapshot, of which every byte is read.
#[track_caller]
fn folders(disk: &mut SimDisk, name: &str) -> Vec<String> {
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let verdict = verify(&io, &reader, 3).await?;
        let table = reader.table(reader.head()).await?;
        reader.close().await;
        let names = table.folders.iter().map(|row| String::from_utf8_lossy(&row.name).into_owned()).collect();
        Ok::<(Vec<String>, bool), Error>((names, verdict.is_good()))
    };
    let (names, good) = drive(disk, procedure).finished().unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(good, "{name}: the archive is damaged");
    names
}

/// Says `answer` whatever it is asked, and then `endless` until nobody listens.
async fn puppet(io: Io, answer: Vec<u8>, endless: Vec<u8>) -> Result<(), Error> {
    let mut stream = Stream::new(&io, StreamId(1), "client", limits());
    stream.send(&answer).await?;
    while !endless.is_empty() {
        stream.send(&endless).await?;
        stream.settle().await?;
        io.sleep_until(io.now().plus(Span::from_ms(1))).await;
    }
    stream.close().await;
    Ok(())
}

/// Lines, and contents of blocks.
fn chunks(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut chunks = Vec::new();
    while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
        let (line, rest) = bytes.split_at(end + 1);
        chunks.push(line.to_vec());
        bytes = rest;
        if line.starts_with(b"DATA ") {
            let size = String::from_utf8_lossy(line).split(' ').nth(2).and_then(|size| size.parse().ok()).expect("a size");
            let (content, rest) = bytes.split_at(size);
            chunks.push(content.to_vec());
            bytes = rest;
        }
    }
    assert!(bytes.is_empty(), "an answer ends with a line");
    chunks
}

/// Where the first line is that begins like this.
#[track_caller]
fn at(answer: &[Vec<u8>], first: &str) -> usize {
    let found = answer.iter().position(|chunk| chunk.starts_with(first.as_bytes()));
    found.unwrap_or_else(|| panic!("no line {first} in {}", String::from_utf8_lossy(&answer.concat())))
}

/// Puts a line in the place of the first that begins like this.
#[track_caller]
fn put(answer: &mut [Vec<u8>], first: &str, line: &str) {
    let at = at(answer, first);
    answer[at] = format!("{line}\n").into();
}

/// Puts a line before the first that begins like this.
#[track_caller]
fn before(answer: &mut Vec<Vec<u8>>, first: &str, line: &str) {
    let at = at(answer, first);
    answer.insert(at, format!("{line}\n").into());
}

/// Changes a word of the first line that begins like this.
#[track_caller]
fn word(answer: &mut [Vec<u8>], first: &str, number: usize, word: &str) {
    let at = at(answer, first);
    let line = String::from_utf8_lossy(&answer[at]).trim_end().to_owned();
    let mut words: Vec<&str> = line.split(' ').collect();
    words[number] = word;
    answer[at] = (words.join(" ") + "\n").into();
}

const TUPLE: &str = "size=1 mtime=1700000000.000000000 ctime=1700000000.000000000 ino=7";

#[test]
fn an_honest_answer_is_understood_however_the_requests_are_worded() {
    let stage = Stage::new();
    let (result, _) = stage.hear("honest", &stage.answer.concat(), b"");
    result.expect("a server that says what a server says");
}

#[test]
fn a_size_that_is_not_the_size_of_what_comes_is_found() {
    let stage = Stage::new();
    for (name, size, why) in [
        ("larger than the rest", "99999", "the connection ended before the last"),
        ("larger by one", "+1", "expected `DONE"),
        ("smaller by one", "-1", "expected `DONE"),
        ("none", "0", "expected `DONE"),
        ("beyond any limit", "18446744073709551615", "the limit is"),
        ("no number", "1e9", "expected `DATA name size mtime inode`"),
        ("nothing", "", "expected `DATA name size mtime inode`"),
    ] {
        let edit = |answer: &mut Vec<Vec<u8>>| {
            let line = String::from_utf8_lossy(&answer[at(answer, "DATA cyrus.index")]).into_owned();
            let honest: i64 = line.split(' ').nth(2).and_then(|size| size.parse().ok()).expect("a size");
            let size = match size {
                "+1" => (honest + 1).to_string(),
                "-1" => (honest - 1).to_string(),
                size => size.to_owned(),
            };
            word(answer, "DATA cyrus.index", 2, &size);
        };
        stage.refuses(name, edit, why);
    }
}

#[test]
fn a_sha1_that_is_not_that_of_what_came_is_found() {
    let stage = Stage::new();
    let zeros = "0".repeat(40);
    stage.refuses("of an index", |a| word(a, "DONE cyrus.index", 2, &zeros), "which the");
    stage.refuses("of a message", |a| word(a, "DONE 4", 2, &zeros), "which the");
    stage.refuses("of nothing", |a| word(a, "DONE cyrus.index", 2, "-"), "metadata come whole");
    stage.refuses("no SHA-1", |a| word(a, "DONE 4", 2, "zz"), "which the");
    stage.refuses("of another block", |a| word(a, "DONE 4", 1, "5"), "expected `DONE 4 sha1`");
    stage.refuses(
        "other content",
        |a| {
            let content = at(a, "DATA 4") + 1;
            a[content][17] ^= 1;
        },
        "which the",
    );
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let stage = Stage::new();
    for name in
        ["..%2Fx", "../x", "/etc/passwd", "meta/commit", "sieve/../x", "sieve/..", "sieve/a%00b", "files/0", "meta/about"]
    {
        let line = format!("STATE name={name} {TUPLE}");
        stage.refuses(name, |a| put(a, "STATE", &line), "expected meta/..., or sieve/");
    }
    for name in ["../../etc/passwd", "/etc/passwd", "cyrus.cache", "%2e%2e"] {
        let edit = |a: &mut Vec<Vec<u8>>| {
            word(a, "DATA cyrus.index", 1, name);
            word(a, "DONE cyrus.index", 1, name);
        };
        stage.refuses(name, edit, "expected the name of a metadata file");
    }
    let long = "x".repeat(1_000_000);
    for name in [&long[..], "INBOX.a%00b", ""] {
        let edit = |a: &mut Vec<Vec<u8>>| {
            let line = format!("FOLDER name={name} id=x key=y entry=z");
            before(a, "FOLDER name=INBOX ", &line);
        };
        stage.refuses(&name[..name.len().min(20)], edit, "name");
    }
}

#[test]
fn folders_that_do_not_agree_with_each_other_are_refused() {
    let stage = Stage::new();
    let folder = "FOLDER name=INBOX ";
    let twice = |a: &mut Vec<Vec<u8>>| {
        let line = a[at(a, folder)].clone();
        a.insert(at(a, folder), line);
    };
    stage.refuses("twice", twice, "names out of order");
    stage.refuses("out of order", |a| before(a, folder, "FOLDER name=ZZZ id=x key=y entry=z"), "names out of order");
    stage.refuses("without a name", |a| before(a, folder, "FOLDER id=x key=y entry=z"), "name");
    stage.refuses("half an escape", |a| before(a, folder, "FOLDER name=%z id=x key=y entry=z"), "name");
    stage.refuses("a file of nothing", |a| before(a, folder, &format!("FILE name=cyrus.index {TUPLE}")), "no folder before it");
    let captured = "CAPTURED name=INBOX.Work";
    let other = "CAPTURED name=INBOX.Other id=x key=y entry=z";
    stage.refuses("captured out of nothing", |a| before(a, captured, other), "expected folders that the pass has");
    stage.refuses("captured without an id", |a| put(a, captured, "CAPTURED name=INBOX.Work key=y entry=z"), "id");
    let again = |a: &mut Vec<Vec<u8>>| {
        let line = a[at(a, captured)].clone();
        before(a, "DONE CAPTURE", String::from_utf8_lossy(&line).trim_end());
    };
    stage.refuses("captured twice", again, "each once");
    stage.refuses("content before its folder", |a| before(a, "CAPTURED", "DATA cyrus.index 1 1 1"), "CAPTURED");
    let file_again = |a: &mut Vec<Vec<u8>>| {
        let first = at(a, "DATA cyrus.index");
        let block = a[first..first + 3].to_vec();
        a.splice(first..first, block);
    };
    stage.refuses("a file twice", file_again, "each once");
}

#[test]
fn user_files_that_were_not_listed_or_come_twice_are_refused() {
    let stage = Stage::new();
    let content =
        format!("CONTENT name=sieve/x {TUPLE}\nDATA content 0 1 1\nDONE content da39a3ee5e6b4b0d3255bfef95601890afd80709");
    stage.refuses("not listed", |a| before(a, "DONE CAPTURE", &content), "expected files that the pass has, each once");
    let twice = |a: &mut Vec<Vec<u8>>| {
        let capture = at(a, "DONE PASS") + 1;
        let state =
            a[capture..].iter().position(|c| c.starts_with(b"SAME") || c.starts_with(b"HELD")).expect("the end of a pass");
        a.insert(capture + state, format!("STATE name=sieve/x {TUPLE}\n").into());
        before(a, "DONE CAPTURE", &content);
        before(a, "DONE CAPTURE", &content);
    };
    stage.refuses("twice", twice, "expected files that the pass has, each once");
    let huge = format!("CONTENT name=sieve/x {TUPLE}\nDATA content 99999999999 1 1");
    let listed = |a: &mut Vec<Vec<u8>>| {
        let held = at(a, "HELD");
        a.insert(held, format!("STATE name=sieve/x {TUPLE}\n").into());
        before(a, "DONE CAPTURE", &huge);
    };
    stage.refuses("huge", listed, "the limit is");
}

#[test]
fn answers_that_have_no_end_or_another_are_refused() {
    let stage = Stage::new();
    for (verb, what) in [("PASS", "a line of a pass"), ("CAPTURE", "a line of a capture"), ("BODIES", "expected `DONE BODIES`")]
    {
        let done = format!("DONE {verb}");
        stage.refuses(&done, |a| put(a, &done, "DONE NOTHING"), what);
        stage.refuses(&done, |a| drop(a.remove(at(a, &done))), "");
    }
    stage.refuses("no greeting", |a| put(a, "OK", "* OK IMAP4rev1"), "expected `OK`");
    stage.refuses("no facts", |a| put(a, "FACTS", "FACTS servername=x"), "");
    stage.refuses(
        "a clock beyond time",
        |a| put(a, "FACTS", "FACTS servername=x cyrus=3 software=x clock=99999999999999999999.000000000 tick=1"),
        "clock",
    );
    stage.refuses("another message", |a| word(a, "DATA 4", 1, "3"), "expected message 4");
    stage.refuses(
        "more than was asked for",
        |a| before(a, "DONE BODIES", "LACK 9 absent=1 path= why=x"),
        "expected `DONE BODIES`",
    );
    stage.refuses("another lack", |a| before(a, "DATA 4", "LACK 9 absent=1 path= why=x"), "expected message 4");
    stage.refuses("junk", |a| a.insert(1, (0..=255).collect()), "found");
    let end = at(&stage.answer, "DONE PASS");
    for at in [1, 2, end] {
        let mut cut = stage.answer.clone();
        cut.truncate(at);
        let (result, _) = stage.hear("cut", &cut.concat(), b"");
        assert!(matches!(&result, Err(Error::Peer { why, .. }) if why.contains("the connection ended")), "{result:?}");
    }
}

/// The error comes soon: what a server sends without an end is not read for long.
#[test]
fn what_has_no_end_is_given_up_soon() {
    let stage = Stage::new();
    let until = |first: &str, from: usize| stage.answer[..from + at(&stage.answer[from..], first)].concat();
    let pass_begins = until("OK", 1);
    let refusals = [pass_begins.clone(), b"OK\n".to_vec()].concat();
    for (name, answer, endless, most) in [
        ("a line", pass_begins.clone(), &b"FOLDER name=x"[..], 3 << 20),
        ("a word", pass_begins.clone(), &[b'x'; 4096], 3 << 20),
        ("zeros", Vec::new(), &[0; 4096], 3 << 20),
        ("refusals", pass_begins.clone(), b"NO\nNO no\nNO busy user\n", 1 << 20),
        ("refusals in an answer", refusals, b"NO no\n", 1 << 20),
        ("empty lines", pass_begins, b"\n\n\n\n", 1 << 20),
        ("greetings", Vec::new(), b"OK\n", 1 << 20),
    ] {
        let (result, sent) = stage.hear(name, &answer, endless);
        assert!(matches!(result, Err(Error::Peer { .. } | Error::Refused(_))), "{name}: {result:?}");
        assert!(sent < most, "{name}: {sent} bytes were read");
    }
}

/// Dates are kept as they are told; the archive can have all that can be told.
#[test]
fn dates_beyond_reason_do_no_harm() {
    let stage = Stage::new();
    for (name, time) in [("far", "9223372036"), ("past", "-9223372036"), ("future", "4102444800")] {
        let mut answer = stage.answer.clone();
        word(&mut answer, "DATA 4", 3, time);
        word(&mut answer, "DATA cyrus.index", 3, time);
        let (result, _) = stage.hear(name, &answer.concat(), b"");
        assert!(matches!(result, Ok(()) | Err(Error::Peer { .. })), "{name}: {result:?}");
    }
    stage.refuses("beyond", |a| word(a, "DATA 4", 3, "92233720368547758070"), "expected `DATA name size mtime inode`");
}

/// Whatever line a server leaves out, says twice, or says too early: no panic, no damage, and the next run brings all.
#[test]
fn any_line_may_be_lost_doubled_or_swapped() {
    let stage = Stage::new();
    for at in 0..stage.answer.len() {
        let mut lost = stage.answer.clone();
        lost.remove(at);
        let _ = stage.hear(&format!("{at} lost"), &lost.concat(), b"");
        let mut doubled = stage.answer.clone();
        doubled.insert(at, stage.answer[at].clone());
        let _ = stage.hear(&format!("{at} doubled"), &doubled.concat(), b"");
        if at > 0 {
            let mut swapped = stage.answer.clone();
            swapped.swap(at - 1, at);
            let _ = stage.hear(&format!("{at} swapped"), &swapped.concat(), b"");
        }
    }
}

/// Says `request`, then asks whether anybody is there, and gives what came.
async fn shout(io: Io, request: Vec<u8>) -> String {
    let mut stream = Stream::connect(&io, "imap1", limits()).await.expect("a connection");
    let mut heard = Vec::new();
    // A server that has given up does not take the rest.
    let _ = stream.send(&request).await;
    let _ = stream.send(b"PING\nQUIT\n").await;
    while let Ok(Some(line)) = stream.line().await {
        heard.extend_from_slice(line);
        heard.push(b'\n');
    }
    stream.close().await;
    String::from_utf8_lossy(&heard).into_owned()
}

/// What a server that gives anna away says to `request`. It has written nothing but lock files, and told nothing that is not
/// anna's.
#[track_caller]
fn asked(request: &[u8]) -> String {
    let (_, mut there) = host();
    let (mut here, mut net) = (SimDisk::new(), Net { kept: Some(Default::default()), ..Net::default() });
    let now = there.now();
    here.wait_until(now);
    let request = request.to_vec();
    let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
    let users = vec![String::from("anna")];
    let heard = join(&mut here, &mut there, &mut net, |io| shout(io, request), |io| server(io, users));
    assert!(!heard.contains(SECRET), "{shown}: {heard}");
    let strange: Vec<&Place> = there.written().iter().filter(|place| !place.shown().contains("/lock/")).collect();
    assert!(strange.is_empty(), "{shown}: {strange:?} was written");
    heard
}

const ALIVE: &str = "OK\nDONE PING\nOK\n";

#[test]
fn requests_that_make_no_sense_are_refused_and_the_next_one_is_served() {
    let many = format!("BODIES - user=anna folder=INBOX\n{}END\n", "UID 1\n".repeat(5000));
    let roots = format!("PASS - user=anna\n{}END\n", "ROOT name=user.anna\n".repeat(10_001));
    let words = format!("FDATA {}\n", "x ".repeat(5000));
    for (request, why) in [
        ("PASS\nEND\n", "user"),
        ("PASS - user=%zz\nEND\n", "user"),
        ("PASS - user=anna size=1\nEND\n", "mtime"),
        ("PASS - user=anna\nROOT\nEND\n", "name"),
        ("PASS - user=anna\nFOLDER name=INBOX\nEND\n", "ROOT"),
        ("CAPTURE - user=anna\nFOLDER name=INBOX\nEND\n", "digest"),
        ("CAPTURE - user=anna\nFOLDER name=INBOX digest=-1\nEND\n", "digest"),
        ("CAPTURE - user=anna\nFOLDER name=INBOX digest=99999999999999999999\nEND\n", "digest"),
        ("CAPTURE - user=anna\nFILE digest=1\nEND\n", "name"),
        ("BODIES - user=anna\nUID 1\nEND\n", "folder"),
        ("BODIES - user=anna folder=INBOX\nUID -1\nEND\n", "UID"),
        ("BODIES - user=anna folder=INBOX\nUID 4294967296\nEND\n", "UID"),
        ("BODIES - user=anna folder=INBOX\nUID\nEND\n", "UID"),
        ("BODIES - user=anna folder=INBOX\nGUID zz\nEND\n", "GUID"),
        ("BODIES - user=anna folder=INBOX\nSELECT INBOX\nEND\n", "UID, GUID or END"),
        (&many[..], "too many messages"),
        (&roots[..], "not too many of them"),
        ("OWNERS\nPASS - user=anna\nEND\n", "END"),
        ("RECORDS - user=bob\nEND\n", "may not have that user"),
        ("PASS - user=bob\nEND\n", "may not have that user"),
        ("CAPTURE - user=bob\nEND\n", "may not have that user"),
        ("BODIES - user=bob folder=INBOX\nUID 1\nEND\n", "may not have that user"),
        ("PASS - shared=1\nEND\n", "may not have that user"),
        ("DELETE imap1 anna\n", ""),
        ("\n", ""),
        ("GET / HTTP/1.1\n", ""),
        (&words[..], ""),
    ] {
        let heard = asked(request.as_bytes());
        let shown = &request[..request.len().min(80)];
        assert!(heard.starts_with("NO ") && heard.contains(why), "{shown}: {heard}");
        assert_eq!((heard.lines().count(), heard.ends_with(ALIVE)), (4, true), "{shown}: {heard}");
    }
}

#[test]
fn no_word_of_a_client_becomes_a_path() {
    for path in
        ["../../../../etc/passwd", "/etc/passwd", "..", ".", "%2e%2e%2fetc%2fpasswd", "%00", "anna/../bob", "user.bob", "~root"]
    {
        for request in [
            format!("PASS - user={path}\nEND\n"),
            format!("PASS - user=anna\nROOT name={path}\nEND\n"),
            format!(
                "CAPTURE - user=anna\nROOT name={path}\nFOLDER name={path} digest=1 read=1\nFILE name={path} digest=1 read=1\nEND\n"
            ),
            format!("BODIES - user=anna folder={path}\nUID 1\nUID 2 archived=1\nUID 1 second=1\nEND\n"),
            format!("RECORDS - user={path}\nEND\n"),
        ] {
            let heard = asked(request.as_bytes());
            assert!(heard.ends_with(ALIVE), "{request}: {heard}");
            assert!(!heard.contains("DATA 1 ") && !heard.contains("quota/user.bob"), "{request}: {heard}");
        }
    }
}

/// What an honest client gets of the quota roots that it names: those of whom it may have.
#[test]
fn the_quota_of_another_user_is_not_given_away() {
    let heard = asked(
        b"PASS - user=anna\nROOT name=user.bob\nROOT name=user.anna\nEND\nCAPTURE - user=anna\nROOT name=user.bob\nEND\n",
    );
    assert!(heard.contains("meta/quota/user.anna") && !heard.contains("user.bob"), "{heard}");
    assert!(heard.contains("CONTENT name=meta/quota/user.anna") && heard.ends_with(ALIVE), "{heard}");
}

#[test]
fn a_request_without_an_end_and_one_that_cannot_be_framed_end_the_connection() {
    let flood = "FOLDER name=x digest=1\n".repeat(100_000);
    for request in [
        "PASS - user=anna\n".to_owned(),
        format!("CAPTURE - user=anna\n{flood}"),
        "x".repeat(70_000) + "\n",
        "PASS - user=anna\n".to_owned() + &"x".repeat(1_000_000),
    ] {
        let heard = asked(request.as_bytes());
        assert!(!heard.contains("OK"), "{}: {heard}", &request[..20]);
    }
}

#[test]
fn junk_is_answered_line_by_line() {
    let junk: Vec<u8> = (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).filter(|&b| b != b'{').collect();
    let heard = asked(&[&junk[..], b"\n"].concat());
    assert!(heard.ends_with(ALIVE), "{heard}");
    assert!(heard.lines().rev().skip(3).all(|line| line.starts_with("NO")), "{heard}");
    let refusals = asked("PONG\n".repeat(20_000).as_bytes());
    assert_eq!(refusals.lines().filter(|line| line.starts_with("NO")).count(), 20_000);
    assert!(refusals.ends_with(ALIVE));
}
