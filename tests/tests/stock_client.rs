//! Our client understands what a real backupcyrusd has said (`tests/data/transcripts`), or refuses it; and a run over the stock
//! dialect makes the archive that a local run makes, as far as that dialect goes.

use cylinder_core::archive::read::Reader;
use cylinder_core::archive::record::FolderRow;
use cylinder_core::archive::standing::Cause;
use cylinder_core::archive::verify::verify;
use cylinder_core::backup;
use cylinder_core::backup::report::Report;
use cylinder_core::cyrus::annotations::{OWNER_TOKEN, emit_key, emit_value};
use cylinder_core::cyrus::db::{flat, twoskip};
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::Io;
use cylinder_core::pull::{Message, Origin};
use cylinder_core::serve;
use cylinder_core::source::capture::{Capture, Want, Wanted};
use cylinder_core::source::message::Lacking;
use cylinder_core::source::{Ask, MetaFile, Pass};
use cylinder_core::store::archive_dir;
use cylinder_core::time::{Span, Time};
use cylinder_core::wire::native::Wish;
use cylinder_core::wire::stock::{Item, granted, item};
use cylinder_core::wire::stream::Stream;
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::drive;
use cylinder_tests::host::Host;
use cylinder_tests::local::{ANNA, anna, run, settings};
use cylinder_tests::net::{Net, Way, join};
use cylinder_tests::pulled;
use cylinder_tests::said::{client, hear, limits, says, user};
use cylinder_tests::story;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const WORK: &str = "bc2725f1-bde3-443d-9156-ea66ff1cb121";

fn data() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/transcripts")
}

fn recorded(name: &str, way: &str) -> Vec<u8> {
    let path = data().join(format!("{name}.{way}"));
    fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn answer(name: &str) -> Vec<u8> {
    recorded(name, "s2c")
}

// Item by item.

/// The verbs whose answers a recording has. A server's fault may have swallowed some.
fn verbs(name: &str) -> Vec<String> {
    match name {
        "users-no-slot" => return vec![String::from("USERS")],
        "unknown-command" => return ["FROB", "FROB", "FROB", "PING"].map(str::to_owned).to_vec(),
        "fmultistatus-missing-user" | "meta-missing-user" => return vec![String::from("META"), String::from("PING")],
        "names-quoted-literal" => return vec![String::from("FMETA"); 3],
        _ => {}
    }
    let request = String::from_utf8_lossy(&recorded(name, "c2s")).to_ascii_uppercase();
    let verbs: Vec<String> = request.lines().map(|line| line.split(' ').next().expect("a word").to_owned()).collect();
    let end = verbs.iter().position(|verb| verb == "QUIT").map_or(verbs.len(), |at| at + 1);
    verbs[..end].to_vec()
}

/// Reads all answers of a recording: how many items there were, refusals and ends among them.
async fn read_all(io: Io, verbs: Vec<String>) -> Result<usize, Error> {
    let mut stream = Stream::connect(&io, "imaptest", limits()).await?;
    let mut count = 0;
    for verb in &verbs {
        count += 1;
        if granted(&mut stream).await?.is_err() || verb == "QUIT" {
            continue;
        }
        loop {
            count += 1;
            match item(&mut stream, verb).await? {
                Item::Done(_) => break,
                Item::Block(block) => {
                    let mut content = Vec::new();
                    let sha1 = stream.content(&block, 1 << 20, &mut content).await?;
                    assert_eq!(sha1, Some(Guid::of(&content)));
                }
                _ => {}
            }
        }
    }
    match stream.line().await? {
        None => Ok(count),
        Some(line) => panic!("{} is left", String::from_utf8_lossy(line)),
    }
}

fn names() -> Vec<String> {
    let all = fs::read_dir(data()).expect("transcripts").map(|entry| entry.expect("an entry").file_name());
    let all = all.map(|name| name.into_string().expect("text"));
    let mut names: Vec<String> = all.filter_map(|name| Some(name.strip_suffix(".c2s")?.to_owned())).collect();
    names.sort();
    assert!(names.len() > 50, "{} recordings: are these all?", names.len());
    names
}

#[test]
fn every_recorded_answer_is_read_to_its_end_also_one_byte_at_a_time() {
    let mut died = Vec::new();
    for name in names() {
        let verbs = verbs(&name);
        let results = [0, 1].map(|piece| {
            let verbs = verbs.clone();
            hear(&answer(&name), piece, |io| read_all(io, verbs))
        });
        match &results[0] {
            Ok(count) => assert!(*count >= verbs.len(), "{name}"),
            Err(Error::Peer { why, .. }) => {
                assert_eq!(why, "the connection ended before an answer", "{name}");
                died.push(name.clone());
            }
            Err(other) => panic!("{name}: {other}"),
        }
        assert_eq!(results[0], results[1], "{name}");
    }
    assert_eq!(died, ["deleted-folder-alt-only", "slash-erin-after-delete", "slash-fmultistatus-alice"]);
}

#[test]
fn a_recorded_answer_that_is_cut_anywhere_is_an_error() {
    for name in names() {
        let (verbs, whole) = (verbs(&name), answer(&name));
        let step = if whole.len() > 6000 { 997 } else { 1 };
        for len in (0..whole.len()).step_by(step) {
            let verbs = verbs.clone();
            let result = hear(&whole[..len], 0, |io| read_all(io, verbs));
            assert!(matches!(result, Err(Error::Peer { .. })), "{name} cut to {len} bytes: {result:?}");
        }
    }
}

// What the client makes of them.

/// What a server says to a client that lists a user: `META`, `FMULTISTATUS`, and the refusal that shows the form of names.
fn listing(meta: &str, list: &[u8], probe: &str) -> Vec<u8> {
    let meta = if meta.is_empty() { b"OK\nDONE META\n".to_vec() } else { answer(meta) };
    [&meta, list, format!("NO no such folder {probe}\n").as_bytes()].concat()
}

async fn pass(io: Io, userid: String) -> Result<Pass, Error> {
    client(&io).await.pass(&user(&userid), &Ask::default()).await
}

fn listed(userid: &str, text: &[u8]) -> Result<Pass, Error> {
    let results = [0, 1].map(|piece| {
        let userid = userid.to_owned();
        hear(text, piece, |io| pass(io, userid))
    });
    assert_eq!(results[0], results[1]);
    let [result, _] = results;
    result
}

fn folder_names(pass: &Pass) -> Vec<String> {
    pass.folders.iter().map(|f| String::from_utf8_lossy(&f.name).into_owned()).collect()
}

#[test]
fn the_recorded_list_of_a_user_is_a_pass() {
    let text = listing("meta-list", &answer("fmultistatus-alice"), "cylinder.probe");
    let pass = listed("alice", &text).expect("a pass");
    let names = folder_names(&pass);
    assert_eq!(names.len(), answer("fmultistatus-alice").split(|&b| b == b'\n').filter(|l| l.starts_with(b"FOLDER ")).count());
    assert!(names.is_sorted());
    for name in [
        "INBOX",
        "INBOX.&AOk-t&AOk-",
        "INBOX.&ZeVnLIqe-",
        "INBOX.Work.Projects.Alpha Beta",
        "INBOX.a^b",
        "INBOX.a+b&-c",
        "INBOX.star*",
        "INBOX.under_score~tilde,comma",
        "DELETED.ToDelete.6B047FCE",
    ] {
        assert!(names.iter().any(|n| n == name), "{name} is not in {names:?}");
    }
    assert!(pass.partial && pass.unreadable.is_empty() && pass.annotations_db.is_some());
    let work = pass.folders.iter().find(|f| f.name == b"INBOX.Work").expect("a folder");
    assert_eq!(work.id.as_deref(), Some(WORK.as_bytes()));
    let index = work.tuples[MetaFile::Index as usize].expect("an index");
    assert_eq!((index.size, index.mtime.secs(), index.ino), (6672, 1_795_456_974, 10_249_314));
    assert!(work.tuples[MetaFile::Annotations as usize].is_some() && work.tuples[MetaFile::Expunge as usize].is_none());
    assert_eq!(pass.states.len(), 1);
    assert_eq!(pass.states[0].name, b"meta/sub");
}

#[test]
fn folders_have_the_same_names_in_every_namespace() {
    let erin = ["DELETED.Sub.6B04806C", "INBOX"];
    for (name, userid, probe, expected) in [
        ("dot-erin-after-delete", "erin", "cylinder.probe", &erin[..]),
        ("deleted-folder-unixhier-only", "erin", "cylinder%5Eprobe", &erin),
        ("slash-erin-before-delete", "erin", "user.erin.cylinder%5Eprobe", &["INBOX", "INBOX.Sub"]),
        ("slash-fmultistatus-bob", "bob", "user.bob.cylinder%5Eprobe", &["INBOX"]),
        ("slash-fmultistatus-dave", "dave@virt.example", "virt.example%21user.dave.cylinder%5Eprobe", &["INBOX", "INBOX.Sub"]),
        // A server that words its refusals otherwise.
        ("dot-erin-after-delete", "erin", "", &erin),
        ("deleted-folder-unixhier-only", "erin", "", &erin),
        ("slash-erin-before-delete", "erin", "", &["INBOX", "INBOX.Sub"]),
    ] {
        let pass = listed(userid, &listing("", &answer(name), probe)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(folder_names(&pass), expected, "{name}");
    }
}

#[test]
fn a_user_who_is_not_there_has_an_empty_pass() {
    let pass =
        listed("nobody", &listing("", &answer("fmultistatus-unknown-user"), "user.nobody.cylinder%5Eprobe")).expect("a pass");
    assert!(pass.folders.is_empty() && pass.states.is_empty() && pass.annotations_db.is_none());
}

#[test]
fn a_server_that_dies_in_a_list_is_an_error_that_says_why_it_may_have() {
    for name in ["slash-fmultistatus-alice", "slash-erin-after-delete", "deleted-folder-alt-only"] {
        let error = listed("alice", &[b"OK\nDONE META\n", &answer(name)[..]].concat()).expect_err("no list");
        let Error::Peer { why, .. } = &error else { panic!("{error}") };
        assert!(why.contains("altnamespace is on and the user has a deleted folder"), "{why}");
    }
    let whole = listing("meta-list", &answer("fmultistatus-alice"), "cylinder.probe");
    for len in 0..whole.len() {
        let cut = whole[..len].to_vec();
        let result = hear(&cut, 0, |io| pass(io, String::from("alice")));
        assert!(matches!(result, Err(Error::Peer { .. })), "{len}: {result:?}");
    }
}

#[test]
fn lists_that_cannot_be_believed_are_refused() {
    let list = |text: &str| format!("OK\n{text}DONE FMULTISTATUS\n");
    for (text, peer) in [
        // Somebody else's folder, or none: the connection is as good as before.
        (list("FOLDER user.bob.x id j\n"), false),
        (list("FOLDER INBOX..%2F id j\n"), false),
        (list("FOLDER INBOX id j\nFOLDER inbox id j\n"), false),
        (list("FOLDER INBOX ..%2F.. j\n"), false),
        (list(&format!("FOLDER INBOX {} j\n", "x".repeat(200))), false),
        (list(&format!("FOLDER INBOX.{} id j\n", "x".repeat(1100))), false),
        (list("FOLDER %2E%2E id j\n"), false),
        (String::from("NO what ever\n"), false),
        // No list at all.
        (list("STAT INBOX index 1 2 3\n"), true),
        (list("FOLDER INBOX id j\nSTAT INBOX.x index 1 2 3\n"), true),
        (list("FOLDER INBOX  j\n"), true),
        (list("FOLDER INBOX id j\nNO no such file x\n"), true),
        (list("FOLDER IN%zzBOX id j\n"), true),
        (list("FOLDER INBOX%00 id j\n"), true),
        (list("USER x\n"), true),
        (list("DATA x 0 0 0\nDONE x da39a3ee5e6b4b0d3255bfef95601890afd80709\n"), true),
        (String::from("OK\nDONE META\n"), true),
        (String::from("FOLDER INBOX id j\n"), true),
        (list(&format!("FOLDER {} id j\n", "x".repeat(2 << 20))), true),
    ] {
        let error = listed("anna", &listing("", text.as_bytes(), "cylinder.probe")).expect_err("no pass");
        assert_eq!(matches!(error, Error::Peer { .. }), peer, "{}: {error}", &text[..text.len().min(80)]);
    }
}

#[test]
fn recorded_users_are_listed() {
    let owners = |text: Vec<u8>| hear(&text, 1, |io| async move { client(&io).await.owners().await });
    let expected = ["alice", "bob", "carol", "dave@virt.example"].map(user).to_vec();
    assert_eq!(owners(answer("users")), Ok(expected));
    let whole = answer("users");
    for len in 0..whole.len() {
        assert!(matches!(owners(whole[..len].to_vec()), Err(Error::Peer { .. })), "{len}");
    }
    assert!(matches!(owners(answer("wrong-slot")), Err(Error::Refused(_))));
    let odd = owners(b"OK\nUSER caf%FFFFFFC3%FFFFFFA9\nUSER caf\xC3\xA8\nDONE USERS\n".to_vec());
    assert_eq!(odd, Ok(vec![user("caf\u{e8}"), user("caf\u{e9}")]));
}

/// The capture of one folder of alice, between two lists.
async fn capture_work(io: Io, want: Want) -> Result<(Capture, Vec<Option<Vec<u8>>>), Error> {
    let mut client = client(&io).await;
    let first = client.pass(&user("alice"), &Ask::default()).await?;
    let folders = BTreeMap::from([(b"INBOX.Work".to_vec(), want)]);
    let wanted = Wanted { folders, ..Wanted::default() };
    let capture = client.capture(&io, &user("alice"), &first, &wanted).await?;
    let mut files = Vec::new();
    for file in MetaFile::ALL {
        files.push(capture.load(&io, b"INBOX.Work", file).await?);
    }
    Ok((capture, files))
}

fn capture_text(files: &[u8]) -> Vec<u8> {
    let list = answer("fmultistatus-alice");
    [&listing("meta-list", &list, "cylinder.probe")[..], files, &answer("meta-list"), &list].concat()
}

#[test]
fn recorded_metadata_are_a_capture() {
    for piece in [0, 1] {
        let text = capture_text(&answer("fmeta-files"));
        let (capture, files) = hear(&text, piece, |io| capture_work(io, Want::Read)).expect("a capture");
        assert!(!capture.unsettled && capture.failed.is_empty() && capture.pass.partial);
        let work = &capture.folders[&b"INBOX.Work"[..]];
        assert!(!work.young && work.id == WORK.as_bytes());
        let sizes: Vec<_> = files.iter().map(|f| f.as_ref().map(Vec::len)).collect();
        assert_eq!(sizes, [Some(6672), Some(239), None, Some(336)]);
        let lines = flat::parse(&work.annotations).expect("lines");
        assert_eq!(lines, [(emit_key(WORK.as_bytes(), b"/comment", OWNER_TOKEN), emit_value(b"my work folder"))]);
        assert_eq!(capture.pass.folders.len(), 18);
    }
}

#[test]
fn an_index_that_the_header_shows_unchanged_is_not_taken_again() {
    let text = capture_text(&answer("fmeta-files"));
    let (capture, files) = hear(&text, 0, |io| capture_work(io, Want::Read)).expect("a capture");
    assert!(capture.same.is_empty());
    let index = files[0].clone().expect("an index");
    let peek = cylinder_core::cyrus::index::peek(&index).expect("a header");
    let (modseq, crc) = (peek.highestmodseq.expect("a modseq"), peek.header_crc.expect("a CRC"));
    let (capture, _) = hear(&text, 0, |io| capture_work(io, Want::Recheck { modseq, crc })).expect("a capture");
    assert_eq!(capture.same, BTreeMap::from([(b"INBOX.Work".to_vec(), false)]));
    assert!(capture.folders.is_empty());
    let (capture, _) = hear(&text, 0, |io| capture_work(io, Want::Recheck { modseq: modseq + 1, crc })).expect("a capture");
    assert_eq!(capture.folders.len(), 1);
}

#[test]
fn metadata_that_cannot_be_believed_are_refused() {
    let whole = answer("fmeta-files");
    let change = |from: &str, to: &str| {
        let at = whole.windows(from.len()).position(|w| w == from.as_bytes()).expect("what is to be changed");
        [&whole[..at], to.as_bytes(), &whole[at + from.len()..]].concat()
    };
    for (what, files) in [
        ("a wrong SHA-1", change("2f5b30cb", "3f5b30cb")),
        ("a lying size", change("DATA header 239", "DATA header 238")),
        ("a size beyond the limit", change("DATA index 6672", "DATA index 1073741825")),
        ("another file", change("DATA header", "DATA hepder")),
        ("the same file twice", [b"OK\n", &whole[3..whole.len() - 6000]].concat()),
        ("a file too few", change("DATA index", "DATA annotations")),
        ("no uniqueid", b"OK\nNO a\nNO b\nNO c\nNO d\nDONE FMETA\n".to_vec()),
        ("too many refusals", b"OK\nNO a\nNO b\nNO c\nNO d\nNO e\n".to_vec()),
        ("the end of another request", b"OK\nNO a\nNO b\nNO c\nNO d\nDONE FDATA x y\n".to_vec()),
    ] {
        let result = hear(&capture_text(&files), 0, |io| capture_work(io, Want::Read)).map(|_| ());
        assert!(matches!(result, Err(Error::Peer { .. })), "{what}: {result:?}");
    }
}

/// What is wrong with one folder does not end the connection.
#[test]
fn annotations_that_are_no_json_are_a_failure_of_their_folder() {
    let whole = answer("fmeta-files");
    let head = b"DATA mailbox_annotations 61 0 64787\n";
    let at = whole.windows(head.len()).position(|w| w == head).expect("a block") + head.len();
    let json = [b"{", &whole[at + 1..at + 61]].concat();
    let end = format!("DONE mailbox_annotations {}\nDONE FMETA {WORK} P-F\n", Guid::of(&json));
    let files = [&whole[..at], &json, end.as_bytes()].concat();
    let (capture, _) = hear(&capture_text(&files), 0, |io| capture_work(io, Want::Read)).expect("a capture");
    let error = capture.failed[&b"INBOX.Work"[..]].to_string();
    assert_eq!(error, "INBOX.Work: mailbox_annotations: JSON at offset 0: found `{`, expected `[`");
}

/// A list of alice in which the index of INBOX.Work has changed this many seconds later.
fn later_list(secs: u64) -> Vec<u8> {
    let list = String::from_utf8(answer("fmultistatus-alice")).expect("ASCII");
    let (from, to) =
        ("STAT INBOX.Work index 6672 1795456974 ", format!("STAT INBOX.Work index 6672 {} ", 1_795_456_974 + secs));
    assert!(list.contains(from));
    [answer("meta-list"), list.replace(from, &to).into_bytes()].concat()
}

/// The metadata of INBOX.Work of so many seconds later.
fn later_files(secs: u64) -> Vec<u8> {
    let whole = answer("fmeta-files");
    let from = b"DATA index 6672 1795456974 ";
    let at = whole.windows(from.len()).position(|w| w == from).expect("a block");
    let head = format!("DATA index 6672 {} ", 1_795_456_974 + secs);
    [&whole[..at], head.as_bytes(), &whole[at + from.len()..]].concat()
}

#[test]
fn what_changes_while_it_is_captured_is_fetched_again() {
    let begin = listing("meta-list", &answer("fmultistatus-alice"), "cylinder.probe");
    let text = [&begin[..], &later_files(0), &later_list(5), &later_files(5), &later_list(5)].concat();
    let (capture, _) = hear(&text, 0, |io| capture_work(io, Want::Read)).expect("a capture");
    let index = capture.folders[&b"INBOX.Work"[..]].folder.tuples[MetaFile::Index as usize];
    assert_eq!(index.map(|t| t.mtime.secs()), Some(1_795_456_979));
    assert!(!capture.unsettled && capture.failed.is_empty());
    // The same if it is replaced by another: the uniqueid at the end is not that of the list.
    let end = format!("DONE FMETA {WORK}");
    let other = later_files(0);
    let at = other.windows(end.len()).position(|w| w == end.as_bytes()).expect("the end");
    let other = [&other[..at], b"DONE FMETA 11111111-2222-3333-4444-555555555555 P-F\n"].concat();
    let text = [&begin[..], &other, &later_list(5), &later_files(5), &later_list(5)].concat();
    let (capture, _) = hear(&text, 0, |io| capture_work(io, Want::Read)).expect("a capture");
    assert_eq!(capture.folders.len(), 1);
}

#[test]
fn a_folder_that_never_comes_to_rest_is_taken_as_it_is() {
    let mut text = listing("meta-list", &answer("fmultistatus-alice"), "cylinder.probe");
    for n in 0..8 {
        text.extend([later_files(n), later_list(n + 1)].concat());
    }
    let (capture, _) = hear(&text, 0, |io| capture_work(io, Want::Read)).expect("a capture");
    assert!(capture.unsettled && capture.failed.is_empty() && capture.folders.len() == 1);
}

#[test]
fn a_copy_is_trusted_when_its_second_and_a_minute_are_over() {
    for (secs, young) in [(0, true), (61, true), (63, false)] {
        let (mut here, mut there) = (SimDisk::new(), SimDisk::new());
        here.wait_until(Time::from_secs(1_795_456_974 + secs));
        let text = capture_text(&answer("fmeta-files"));
        let client = |io| capture_work(io, Want::Read);
        let (capture, _) = join(&mut here, &mut there, &mut Net::default(), client, |io| says(io, text)).expect("a capture");
        assert_eq!(capture.folders[&b"INBOX.Work"[..]].young, young, "{secs}");
    }
}

/// A server refuses what it cannot open as if it were not there. Refused once, it may have been deleted meanwhile.
#[test]
fn a_folder_that_is_listed_and_refused_again_and_again_is_a_failure_of_that_folder() {
    let refusal = answer("fmeta-deleted-folder");
    let list = [answer("meta-list"), answer("fmultistatus-alice")].concat();
    let text = [&capture_text(&refusal)[..], &refusal, &list].concat();
    let (capture, _) = hear(&text, 0, |io| capture_work(io, Want::Read)).expect("a capture");
    assert!(capture.folders.is_empty() && !capture.unsettled);
    let error = capture.failed[&b"INBOX.Work"[..]].to_string();
    assert_eq!(error, "the server says: no such folder user.alice.ToDelete");
}

async fn messages(
    io: Io,
    userid: &'static str,
    folder: &'static str,
    uids: Vec<u32>,
) -> Result<Vec<Result<Vec<u8>, Lacking>>, Error> {
    let mut client = client(&io).await;
    let pass = client.pass(&user(userid), &Ask::default()).await?;
    let folder = pass.folders.iter().find(|f| f.name == folder.as_bytes()).expect("a folder");
    let wish = |uid| Wish { uid, archived: false, second: false };
    client.announce_messages(folder, uids.iter().map(|&uid| wish(uid)).collect());
    let mut all = Vec::new();
    for uid in uids {
        let found = client.message(&io, &user(userid), folder, wish(uid), Vec::new()).await?.expect("a first place");
        all.push(match found {
            Ok(Message::Whole { content, .. }) => Ok(content),
            Ok(Message::Large { .. }) => panic!("a large message"),
            Err(lack) => Err(lack.why),
        });
        let second = Wish { second: true, ..wish(uid) };
        assert!(client.message(&io, &user(userid), folder, second, Vec::new()).await?.is_none());
    }
    Ok(all)
}

fn fetched(name: &str, uids: &[u32]) -> Result<Vec<Result<Vec<u8>, Lacking>>, Error> {
    let text = [listing("", &answer("fmultistatus-alice"), "cylinder.probe"), answer(name)].concat();
    let results = [0, 1].map(|piece| {
        let uids = uids.to_vec();
        hear(&text, piece, |io| messages(io, "alice", "INBOX", uids))
    });
    assert_eq!(results[0], results[1]);
    let [result, _] = results;
    result
}

#[test]
fn recorded_messages_are_had_and_one_that_is_missing_does_not_stop_the_rest() {
    let found = fetched("fdata-several-one-missing", &[1, 2, 9999, 3]).expect("messages");
    let sizes: Vec<_> = found.iter().map(|m| m.as_ref().map(Vec::len)).collect();
    assert_eq!(sizes, [Ok(1661), Ok(1350), Err(&Lacking::Absent), Ok(4751)]);
    let found = fetched("fdata-expunged-uid", &[10, 11, 13]).expect("messages");
    assert!(found.iter().all(Result::is_ok));
    let found = fetched("fdata-unknown-folder", &[1, 2]).expect("messages");
    assert_eq!(found, [Err(Lacking::Absent), Err(Lacking::Absent)], "the folder is gone, so they are");
}

#[test]
fn messages_that_were_not_asked_for_break_the_connection() {
    for (name, uids) in [
        ("fdata-several-one-missing", &[1, 2, 3, 9999][..]),
        ("fdata-several-one-missing", &[1, 2, 9999]),
        ("fdata-several-one-missing", &[1, 2, 9999, 3, 4]),
        ("fdata-odd-uids", &[0, 1]),
        ("fmeta-files", &[1]),
        ("users", &[1]),
    ] {
        let result = fetched(name, uids);
        assert!(matches!(result, Err(Error::Peer { .. })), "{name} {uids:?}: {result:?}");
    }
}

// Whole runs.

async fn server(io: Io) -> Result<(), Error> {
    pulled::server(io, serve::Settings { servername: b"imaptest".to_vec(), ..pulled::serving() }).await
}

async fn pull(io: Io) -> Result<(Report, u64), Error> {
    let mut client = client(&io).await;
    let report = backup::run(&io, &mut Origin::Stock(&mut client), &anna(), &archive_dir(&anna())?, &settings()).await;
    let trips = client.round_trips();
    client.close().await;
    Ok((report?, trips))
}

/// The host's disk, the backup host's disk, and what publishes changes of the host.
#[derive(Clone)]
struct World {
    there: SimDisk,
    here: SimDisk,
    host: Host,
}

impl World {
    fn new() -> World {
        let mut world = World { there: SimDisk::new(), here: SimDisk::new(), host: Host::new() };
        for n in 0..3 {
            world.host.folder(ANNA).deliver(&story::mail(n, 500));
        }
        world.host.folder("user.anna.Sent").deliver(&story::mail(2, 500));
        world.host.folder("user.anna.Sent").deliver(&story::mail(9, 100_000));
        world.host.folder("user.bob").deliver(&story::mail(77, 100));
        let id = world.host.folders[ANNA].id.clone();
        let sub = format!("/var/lib/cyrus/user/uuid/{}/{}/{id}/sub.db", &id[..1], &id[1..2]);
        world.host.files.insert(sub, b"INBOX\t\n".to_vec());
        world.publish();
        world
    }

    /// So much later that everything is old enough to be trusted.
    fn publish(&mut self) {
        self.host.publish(&mut self.there);
        self.settle(100);
    }

    fn settle(&mut self, secs: i64) {
        let now = self.there.now().plus(Span::from_secs(secs)).max(self.here.now());
        self.there.wait_until(now);
        self.here.wait_until(now);
    }

    fn annotate(&mut self, folder: &str, value: &str) {
        let id = self.host.folders[folder].id.clone();
        let record = (emit_key(id.as_bytes(), b"/comment", OWNER_TOKEN), emit_value(value.as_bytes()));
        self.host.files.insert(String::from("/var/lib/cyrus/annotations.db"), twoskip::emit(&[record], 1));
    }

    fn pull(&mut self, net: &mut Net) -> Result<(Report, u64), Error> {
        join(&mut self.here, &mut self.there, net, pull, server)
    }

    fn pulled(&mut self) -> Report {
        let (report, _) = self.pull(&mut Net::default()).expect("a pull");
        assert!(report.is_clean(), "{report:?}");
        report
    }

    fn local(&mut self) -> Report {
        drive(&mut self.there, run).finished().expect("a local run")
    }
}

/// What an archive has, without what a stock server does not tell: rows of folders, contents of their files, messages.
fn content(disk: &mut SimDisk) -> BTreeMap<String, Vec<u8>> {
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let verdict = verify(&io, &reader, 3).await?;
        assert!(verdict.is_good(), "{:#?}", verdict.findings);
        let table = reader.table(reader.head()).await?;
        let mut all = BTreeMap::new();
        for row in &table.folders {
            let name = String::from_utf8_lossy(&row.name).into_owned();
            let facts = FolderRow { entry: Vec::new(), young: false, files: Vec::new(), ..row.clone() };
            all.insert(format!("folder {name}"), format!("{facts:?}").into_bytes());
            for file in &row.files {
                let at = file.at.location().expect("a place");
                all.insert(format!("{name}/{}", file.name), reader.read_entry(at, 1 << 30).await?);
            }
        }
        for guid in reader.catalogue().await?.0.guids() {
            let at = reader.locate(guid).await?.expect("a message");
            all.insert(format!("files/{guid}"), reader.read_entry(at.at, 1 << 30).await?);
        }
        reader.close().await;
        Ok::<_, Error>(all)
    };
    drive(disk, procedure).finished().expect("an archive")
}

fn states(disk: &mut SimDisk) -> Vec<String> {
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let table = reader.table(reader.head()).await?;
        reader.close().await;
        Ok::<_, Error>(table.states.iter().map(|row| String::from_utf8_lossy(&row.name).into_owned()).collect())
    };
    drive(disk, procedure).finished().expect("an archive")
}

#[test]
fn a_run_makes_the_archive_of_a_local_run() {
    let mut world = World::new();
    for round in 0..7 {
        match round {
            1 => drop(world.host.folder("user.anna.Sent").deliver(&story::mail(10, 3000))),
            2 => drop(world.host.folder("user.anna.Work").deliver(&story::mail(1, 500))),
            3 => world.host.folder(ANNA).flag(2, 1),
            4 => world.annotate("user.anna.Work", "a comment"),
            5 => {
                let work = world.host.folders.remove("user.anna.Work").expect("a folder");
                world.host.folders.insert(String::from("user.anna.Play"), work);
            }
            6 => drop(world.host.folders.remove("user.anna.Play")),
            _ => {}
        }
        world.publish();
        let report = world.pulled();
        let expected = world.local();
        let counts = |r: &Report| (r.folders, r.folders_changed, r.names_new, r.names_gone, r.messages_added, r.messages);
        assert_eq!(counts(&report), counts(&expected), "round {round}");
        assert!(report.commit.is_some() == expected.commit.is_some());
        let (here, there) = (content(&mut world.here), content(&mut world.there));
        assert_eq!(here.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>(), "round {round}");
        for (name, bytes) in &here {
            assert!(there[name] == *bytes, "round {round}: {name}: {}", String::from_utf8_lossy(bytes));
        }
    }
    assert_eq!(states(&mut world.here), ["meta/sub"]);
}

#[test]
fn a_run_over_nothing_new_is_one_round_trip_and_writes_nothing() {
    let mut world = World::new();
    world.annotate("user.anna.Sent", "a comment");
    world.publish();
    world.pulled();
    let (before, changes) = (world.here.store(), world.here.changes());
    let (report, trips) = world.pull(&mut Net::default()).expect("a pull");
    assert_eq!((report.commit, trips), (None, 1));
    assert_eq!((world.here.store(), world.here.changes()), (before, changes));
}

/// Two messages of INBOX are not what its index says. That one is missing, and another folder has a copy, means that a message
/// is asked for out of order; that one is a message announced elsewhere, that the other is not wanted any more.
#[test]
fn what_was_not_announced_so_costs_little_more_than_what_was() {
    for (third, problems) in [(None, 0), (Some(story::mail(9, 100_000)), 1)] {
        let mut world = World::new();
        for n in 0..100 {
            world.host.folder("user.anna.Trash").deliver(&story::mail(200 + n, 1000));
        }
        world.publish();
        let place = world.host.message_place(ANNA, 3);
        world.there.take_away(&place);
        third.iter().for_each(|content: &Vec<u8>| world.there.put_file(&place, content.clone()));
        let mut net = Net::default();
        let (report, trips) = world.pull(&mut net).expect("a pull");
        let bytes = net.sent[1];
        assert_eq!((report.messages_added, report.problems_count), (104, problems), "{report:?}");
        assert!(trips <= 16 && bytes < 600_000, "{problems} problems: {trips} round trips, {bytes} bytes");
        assert!(content(&mut world.here).values().any(|entry| *entry == story::mail(9, 100_000)));
    }
}

#[test]
fn an_annotation_that_changes_alone_is_found() {
    let mut world = World::new();
    world.annotate("user.anna.Sent", "a comment");
    world.publish();
    world.pulled();
    world.annotate("user.anna.Sent", "A comment");
    world.publish();
    let report = world.pulled();
    assert_eq!((report.folders_changed, report.messages_added), (1, 0));
    let lines = content(&mut world.here).remove("INBOX.Sent/cyrus.mailbox_annotations").expect("annotations");
    assert!(lines.windows(9).any(|w| w == b"A comment"));
    world.host.files.remove("/var/lib/cyrus/annotations.db");
    world.publish();
    world.pulled();
    assert!(!content(&mut world.here).contains_key("INBOX.Sent/cyrus.mailbox_annotations"));
}

/// The hidden change of the peer: an index of the same length, with the same time in whole seconds.
#[test]
fn a_change_in_the_second_of_the_copy_is_found_the_next_time() {
    let mut world = World::new();
    world.pulled();
    let second = world.there.now().secs();
    world.host.folder(ANNA).flag(1, 1);
    world.host.publish(&mut world.there);
    world.settle(0);
    assert_eq!(world.pulled().folders_changed, 1);
    world.host.folder(ANNA).flag(2, 1);
    world.host.publish(&mut world.there);
    assert_eq!(world.there.now().secs(), second, "all that in one second");
    world.settle(100);
    assert_eq!(world.pulled().folders_changed, 1);
    world.local();
    assert!(content(&mut world.here) == content(&mut world.there));
    assert_eq!(world.pulled().commit, None, "what is old enough is trusted");
}

#[test]
fn what_was_too_young_is_looked_at_once_more_and_then_trusted() {
    let mut world = World::new();
    world.host.folder(ANNA).flag(1, 1);
    world.host.publish(&mut world.there);
    world.settle(0);
    world.pulled();
    let before = content(&mut world.here);
    world.settle(100);
    let report = world.pulled();
    assert_eq!((report.folders_changed, report.messages_added), (0, 0));
    assert!(report.commit.is_some(), "it is written down that there is nothing to doubt any more");
    assert!(content(&mut world.here) == before);
    assert_eq!(world.pulled().commit, None);
}

#[test]
fn what_only_a_local_run_sees_stays_in_the_archive() {
    let mut world = World::new();
    world.host.files.insert(String::from("/var/lib/cyrus/quota/a/user.anna"), b"1\n2\n".to_vec());
    world.publish();
    world.local();
    let (seen, before) = (states(&mut world.there), content(&mut world.there));
    assert!(seen.contains(&String::from("meta/mailboxes")) && seen.len() > 2, "{seen:?}");
    // The store moves to the backup host, which pulls.
    let mut there = world.there.clone();
    std::mem::swap(&mut world.here, &mut there);
    world.pulled();
    assert_eq!(states(&mut world.here), seen);
    assert!(content(&mut world.here) == before);
    assert_eq!(world.pulled().commit, None);
}

#[test]
fn a_user_who_vanishes_or_loses_most_mail_is_an_alarm() {
    let mut world = World::new();
    world.pulled();
    let before = content(&mut world.here);
    world.host.folders.retain(|name, _| name == "user.bob");
    world.publish();
    let (report, _) = world.pull(&mut Net::default()).expect("a pull");
    assert!(matches!(&report.raised[..], [alarm] if alarm.cause == Cause::Vanished), "{report:?}");
    assert!(content(&mut world.here) == before);
}

#[test]
fn a_connection_that_is_cut_anywhere_is_an_error_and_the_next_run_heals() {
    let mut small = World { there: SimDisk::new(), here: SimDisk::new(), host: Host::new() };
    small.host.folder(ANNA).deliver(&story::mail(1, 90));
    small.host.folder("user.anna.Sent").deliver(&story::mail(2, 90));
    small.annotate("user.anna.Sent", "a comment");
    small.publish();
    let (mut whole, mut net) = (small.clone(), Net::default());
    whole.pull(&mut net).expect("a pull");
    let expected = content(&mut whole.here);
    for (way, step) in [(Way::Up, 1), (Way::Down, 3)] {
        for at in (0..net.sent[way as usize]).step_by(step) {
            let mut world = small.clone();
            let cut = world.pull(&mut Net { cut: Some((way, at)), ..Net::default() });
            let error = cut.expect_err("a cut run is no success");
            assert!(matches!(&error, Error::Peer { .. }), "{way:?} {at}: {error}");
            world.pull(&mut Net::default()).unwrap_or_else(|e| panic!("{way:?} {at}: the next run: {e}"));
            assert!(content(&mut world.here) == expected, "{way:?} {at}");
        }
    }
}

/// The peer tombstoned 11 of 16 live folders when an answer was cut.
#[test]
fn a_cut_never_makes_a_tombstone() {
    let mut base = World::new();
    base.pulled();
    base.host.folder(ANNA).deliver(&story::mail(20, 900));
    base.publish();
    let mut net = Net::default();
    base.clone().pull(&mut net).expect("a pull");
    for at in (0..net.sent[1]).step_by(5) {
        let mut world = base.clone();
        world.pull(&mut Net { cut: Some((Way::Down, at)), ..Net::default() }).expect_err("a cut run is no success");
        let folders = content(&mut world.here).keys().filter(|name| name.starts_with("folder ")).count();
        assert_eq!(folders, 2, "{at}: a folder is gone");
        assert_eq!(world.pulled().messages, 6, "{at}");
    }
}

#[test]
fn many_folders_and_messages_and_a_large_one() {
    let mut world = World::new();
    for n in 0..40 {
        for m in 0..10 {
            world.host.folder(&format!("user.anna.f{n}")).deliver(&story::mail(1000 + n * 100 + m, 200));
        }
    }
    for n in 0..700 {
        world.host.folder("user.anna.Many").deliver(&story::mail(10_000 + n, 100));
    }
    world.host.folder("user.anna.Many").deliver(&story::long_mail(9, 9 << 20));
    world.publish();
    let report = world.pulled();
    assert_eq!((report.folders, report.messages_added), (43, 4 + 400 + 701));
    world.local();
    assert!(content(&mut world.here) == content(&mut world.there));
    assert_eq!(world.pulled().commit, None);
}
