//! Faults that programs of this field have, found in them when they were measured: each is rebuilt in a few lines, and one
//! check fails for what is rebuilt and passes for Cylinder. Where the fault is one of a server, Cylinder's own server is asked.

use cylinder_core::archive::read::Reader;
use cylinder_core::archive::verify::verify;
use cylinder_core::backup;
use cylinder_core::compact::Outcome;
use cylinder_core::compact::policy::Policy;
use cylinder_core::cyrus::annotations::{OWNER_TOKEN, emit_key, emit_value};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::db::twoskip;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Op, OpId, Reply, StreamId};
use cylinder_core::pull::Origin;
use cylinder_core::pull::native::{Greeted, connect};
use cylinder_core::serve::{Settings, serve};
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::time::{Span, Time};
use cylinder_core::wire::stream::{Limits, Stream};
use cylinder_core::wire::{ANSWER_LINE_MAX, words};
use cylinder_tests::drive::{Running, Step, drive};
use cylinder_tests::host::{CONF, Host};
use cylinder_tests::life::{self, Life, archive, dir, settings};
use cylinder_tests::net::{Net, Way, join};
use cylinder_tests::story::{self, mail};
use std::collections::{BTreeMap, BTreeSet};

const INBOX: &str = "user.anna";
const SENT: &str = "user.anna.Sent";

/// A user with three messages in two folders, saved.
fn saved() -> Life {
    let mut life = Life::new();
    life.host.folder(INBOX).deliver(&mail(1, 700));
    life.host.folder(INBOX).deliver(&mail(2, 300));
    life.host.folder(SENT).deliver(&mail(3, 400));
    life.backup();
    life
}

fn names(life: &mut Life) -> BTreeSet<String> {
    life.newest().folders.into_keys().collect()
}

/// Replaces the archive.
fn put(life: &mut Life, bytes: Vec<u8>) {
    life.disk.put_file(&archive(), bytes);
}

fn bytes(life: &Life) -> Vec<u8> {
    life.disk.content(&archive()).expect("an archive").to_vec()
}

/// Inflates an archive, whatever made it.
fn inflated(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut tar = Vec::new();
    std::io::Read::read_to_end(&mut flate2::bufread::MultiGzDecoder::new(bytes), &mut tar)?;
    Ok(tar)
}

/// The names of the entries of a tar file up to the first that cannot be read, as one copies them who takes that for the end.
fn entries_until_trouble(tar: &[u8]) -> Vec<String> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().expect("a file").map_while(Result::ok);
    entries.map(|entry| String::from_utf8_lossy(&entry.path_bytes()).into_owned()).collect()
}

/// What our server answers a client of the stock dialect.
fn ask(life: &mut Life, users: &[&str], request: &str) -> String {
    let users: Vec<String> = users.iter().map(|&user| user.to_owned()).collect();
    let (idle, stall) = (Span::from_secs(600), Span::from_secs(60));
    let settings = Settings { servername: b"imap1".to_vec(), software: String::from("test"), idle, stall, users };
    let request = request.as_bytes().to_vec();
    let client = |io: Io| async move {
        let limits = Limits { line: 1 << 20, stall, bytes_per_second: 0 };
        let mut stream = Stream::connect(&io, "imap1", limits).await.expect("a connection");
        stream.send(&request).await.expect("it takes it");
        stream.settle().await.expect("it takes it");
        let mut answer = String::new();
        while let Ok(Some(line)) = stream.line().await {
            answer += &String::from_utf8_lossy(line);
            answer.push('\n');
        }
        answer
    };
    let server = |io: Io| async move { serve(&io, &mut site(&io).await?, StreamId(1), "client", &settings).await };
    join(&mut cylinder_tests::disk::SimDisk::new(), &mut life.disk, &mut Net::default(), client, server)
}

async fn site(io: &Io) -> Result<Site, Error> {
    let conf = config::load(io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    Site::open(io, conf, None, Locking::AsServer, Patience::default()).await
}

async fn server(io: Io) -> Result<(), Error> {
    let (idle, stall) = (Span::from_secs(600), Span::from_secs(60));
    let settings = Settings { servername: b"imap1".to_vec(), software: String::from("test"), idle, stall, users: Vec::new() };
    serve(&io, &mut site(&io).await?, StreamId(1), "client", &settings).await
}

async fn pull(io: Io) -> Result<(), Error> {
    let limits = Limits { line: ANSWER_LINE_MAX, stall: Span::from_secs(60), bytes_per_second: 0 };
    let Greeted::Native(mut client) = connect(&io, "imap1", limits).await? else { panic!("a native server") };
    let archive = story::settings();
    let settings = backup::Settings { archive, source: String::from("imap1"), adopt: false, archive_id: [7; 16], read_rate: 0 };
    let report = backup::run(&io, &mut Origin::Native(&mut client), &life::anna(), &dir(), &settings).await;
    client.close().await;
    report.map(drop)
}

/// Fault 1: A server died of a user with a deleted folder, under altnamespace: for such a folder there is no name in it.
#[test]
fn a_deleted_folder_has_a_name_under_altnamespace() {
    const DELETED: &str = "DELETED.user.anna.Old.5F0A1B2C";
    let theirs = |internal: &str| internal.strip_prefix("user.anna").map(|below| below.trim_start_matches('.').to_owned());
    let check = |names: &[Option<String>]| names.iter().all(Option::is_some);
    assert!(!check(&[INBOX, SENT, DELETED].map(theirs)));
    let mut life = saved();
    life.host.files.insert(String::from("/etc/imapd.conf"), format!("{CONF}altnamespace: yes\n").into_bytes());
    life.host.folder(DELETED).deliver(&mail(4, 100));
    assert_eq!(life.backup().messages_added, 1);
    assert!(check(&["INBOX", "INBOX.Sent", "DELETED.Old.5F0A1B2C"].map(|name| names(&mut life).take(name))));
    let told = ask(&mut life, &[], "FMULTISTATUS imap1 anna\n");
    assert_eq!((told.matches("FOLDER ").count(), told.ends_with("DONE FMULTISTATUS\n")), (3, true), "{told}");
}

/// Fault 2: A server gave anybody's mail to whoever asked, for the user in a request was not compared with the folder.
#[test]
fn a_folder_of_another_user_is_not_given_away() {
    let mut life = saved();
    let theirs = |host: &Host, _user: &str, folder: &str| host.folders.get(folder).map(|f| f.messages[0].content.to_vec());
    let secret = |answer: &[u8]| answer.windows(20).any(|window| mail(1, 700).windows(20).any(|part| part == window));
    assert!(theirs(&life.host, "nobody", INBOX).is_some_and(|answer| secret(&answer)));
    for (users, request) in [
        (&["*"][..], "FDATA imap1 nobody user.anna 1\n"),
        (&["bob"], "FDATA imap1 anna INBOX 1\n"),
        (&["*"], "FDATA imap1 bob user.anna 1\n"),
    ] {
        let answer = ask(&mut life, users, request);
        assert!(!secret(answer.as_bytes()) && answer.starts_with("NO "), "{request}: {answer}");
    }
    assert!(secret(ask(&mut life, &["anna"], "FDATA imap1 anna INBOX 1\n").as_bytes()), "the check finds nothing");
}

/// Fault 3: A request without its argument swallowed the next line, and got no answer.
#[test]
fn every_line_gets_an_answer() {
    const REQUESTS: &str = "META\nFMULTISTATUS imap1 \nFDATA\nPING\n";
    // It reads words until it has three.
    let theirs = |request: &str| request.split_ascii_whitespace().collect::<Vec<_>>().chunks(3).count();
    let check = |answers: usize| answers == REQUESTS.lines().count();
    assert!(!check(theirs(REQUESTS)));
    let answer = ask(&mut saved(), &[], REQUESTS);
    assert!(
        check(answer.lines().filter(|line| line.starts_with("NO ") || line.starts_with("BAD ") || *line == "OK").count()),
        "{answer}"
    );
    assert!(answer.ends_with("DONE PING\n"), "{answer}");
}

/// Fault 4: Names were encoded through a signed char, cut at an encoded NUL, and read two characters too far at a bad escape.
#[test]
fn every_byte_of_a_name_comes_back_and_bad_escapes_are_refused() {
    let all: Vec<u8> = (1..=255).collect();
    let encode = |name: &[u8]| name.iter().map(|&b| format!("%{:X}", i32::from(b.cast_signed()))).collect::<String>();
    let decode = |word: &str| -> Option<Vec<u8>> {
        let (mut out, mut rest) = (Vec::new(), word.as_bytes());
        while let Some((&first, tail)) = rest.split_first() {
            let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok()).unwrap_or("0");
            let byte = if first == b'%' { u8::from_str_radix(hex, 16).unwrap_or(0) } else { first };
            rest = if first == b'%' { tail.get(2..).unwrap_or_default() } else { tail };
            out.push(byte);
        }
        Some(out.split(|&b| b == 0).next().unwrap_or_default().to_vec())
    };
    let check = |encode: &dyn Fn(&[u8]) -> String, decode: &dyn Fn(&str) -> Option<Vec<u8>>| {
        decode(&encode(&all)) == Some(all.clone()) && decode("a%00b").is_none() && decode("a%zzb").is_none()
    };
    assert!(!check(&encode, &decode));
    assert!(check(&words::encode, &|word| words::decode(word.as_bytes())));
}

fn annotate(host: &mut Host, note: &str) {
    let record = (emit_key(host.folders[SENT].id.as_bytes(), b"/comment", OWNER_TOKEN), emit_value(note.as_bytes()));
    host.files.insert(String::from("/var/lib/cyrus/annotations.db"), twoskip::emit(&[record], 1));
}

/// Fault 5: What annotations had for a stamp was their size and 16 bits of a hash: one change in 65,536 of them was not seen.
#[test]
fn annotations_of_the_same_size_and_the_same_short_hash_are_told_apart() {
    let theirs = |note: &str| {
        (note.len(), &Guid::of(note.as_bytes()).to_hex()[..4] == "0000", Guid::of(note.as_bytes()).0[..2].to_vec())
    };
    let mut seen = BTreeMap::new();
    let notes = (0..).map(|n| format!("note {n:08}")).find_map(|note| {
        let before: Option<String> = seen.insert(theirs(&note), note.clone());
        before.map(|before| [before, note])
    });
    let [first, second] = notes.expect("two notes");
    assert_eq!(theirs(&first), theirs(&second));
    let mut life = saved();
    annotate(&mut life.host, &first);
    life.backup();
    let before = life.newest().metadata;
    life.hours(1);
    annotate(&mut life.host, &second);
    life.backup();
    assert_ne!(life.newest().metadata, before, "the change was not seen");
}

/// Fault 6: An index keeps its size when a flag changes, and stamps were compared in whole seconds.
#[test]
fn a_flag_that_changes_in_the_second_of_a_backup_is_seen_by_the_next() {
    let mut life = saved();
    let index = life.host.meta_place(INBOX, "cyrus.index");
    let theirs = |life: &mut Life| match life.disk.run(OpId(0), Op::Stat(index.clone())) {
        Some(Ok(Reply::Stat(stat))) => (stat.size, stat.mtime.secs(), stat.ino),
        other => panic!("{other:?}"),
    };
    life.host.folder(INBOX).flag(1, 1);
    life.host.publish(&mut life.disk);
    drive(&mut life.disk, life::backup).finished().expect("a backup");
    let before = theirs(&mut life);
    life.host.folder(INBOX).flag(1, 16);
    life.host.publish(&mut life.disk);
    assert_eq!(theirs(&mut life), before, "it would see the change");
    let report = drive(&mut life.disk, life::backup).finished().expect("a backup");
    assert_eq!(report.folders_changed, 1);
    assert_eq!(life.newest().folders, life.folders());
}

/// Fault 7: A misspelt variable had the state and the archive before it removed after each run: every backup was a full one.
#[test]
fn a_second_run_knows_what_the_first_has_saved() {
    let all = BTreeSet::from([1, 2, 3]);
    let mut state = BTreeSet::new();
    let mut theirs = || {
        let fetched = all.difference(&state).count();
        state.extend(&all);
        state.clear();
        fetched
    };
    let check = |first: usize, second: usize| (first, second) == (3, 0);
    assert!(!check(theirs(), theirs()));
    let mut life = Life::new();
    life.host.folder(INBOX).deliver(&mail(1, 700));
    life.host.folder(INBOX).deliver(&mail(2, 300));
    life.host.folder(SENT).deliver(&mail(3, 400));
    let (first, second) = (life.backup(), life.backup());
    assert!(check(first.messages_added as usize, second.messages_added as usize));
    assert_eq!(life.snapshots().len(), 1);
}

/// Fault 8: With a slash between the components of names, all of a user's folders were taken for the INBOX.
#[test]
fn folders_are_told_apart_whatever_the_separator() {
    let theirs = |link: &str| link.strip_prefix("imap/").and_then(|rest| rest.split('/').next()).map(str::to_owned);
    let check = |names: BTreeSet<String>| names.len() == 3;
    assert!(!check(["imap/INBOX", "imap/INBOX/Sent", "imap/INBOX/Work"].into_iter().filter_map(theirs).collect()));
    let mut life = saved();
    life.host.files.insert(String::from("/etc/imapd.conf"), format!("{CONF}unixhierarchysep: yes\n").into_bytes());
    life.host.folder("user.anna.Work").deliver(&mail(5, 200));
    life.backup();
    assert!(check(names(&mut life)));
    assert_eq!(life.backup().commit, None, "everything looks new again");
}

/// Fault 9: An answer that was cut short counted as a whole one, and the folders that it lacked as deleted.
#[test]
fn an_answer_that_is_cut_deletes_no_folder() {
    let mut life = saved();
    let whole = ask(&mut life, &[], "FMULTISTATUS imap1 anna\n");
    let theirs = |answer: &str| answer.lines().filter(|line| line.starts_with("FOLDER ")).count();
    let check = |folders: usize| folders == 2;
    assert!(check(theirs(&whole)) && !check(theirs(&whole[..whole.len() / 2])));
    // A run of ours, cut at each place.
    life.host.folder(INBOX).deliver(&mail(6, 900));
    life.host.publish(&mut life.disk);
    let mut net = Net::default();
    join(&mut life.disk.clone(), &mut life.disk.clone(), &mut net, pull, server).expect("a pull");
    for at in (0..net.sent[1]).step_by(3) {
        let mut here = life.clone();
        let mut cut = Net { cut: Some((Way::Down, at)), ..Net::default() };
        join(&mut here.disk, &mut life.disk.clone(), &mut cut, pull, server).expect_err("a cut run is no success");
        assert!(check(names(&mut here).len()), "cut at {at}");
    }
}

/// Fault 10: An archive of which the last byte was gone was deleted, and a new one begun without what the server no longer had.
#[test]
fn an_archive_one_byte_short_loses_nothing() {
    let mut life = saved();
    life.host.folder(INBOX).messages.remove(0);
    life.host.folder(INBOX).modseq += 1;
    life.backup();
    let short = bytes(&life)[..bytes(&life).len() - 1].to_vec();
    let check = |archive: &[u8]| archive.windows(700).any(|part| part == mail(1, 700));
    let theirs = |archive: &[u8]| if archive.ends_with(&[0; 2]) { archive.to_vec() } else { mail(2, 300) };
    assert!(!check(&theirs(&short)));
    put(&mut life, short);
    life.host.folder(INBOX).deliver(&mail(7, 100));
    assert!(life.backup().is_clean());
    assert!(check(&inflated(&bytes(&life)).expect("an archive")));
    assert_eq!(life.numbers(), BTreeSet::from([1, 2, 3]));
    life.is_good();
}

/// A user with a deleted folder that the archive alone has, and with the archive in one piece.
fn with_a_past() -> Life {
    let mut life = saved();
    life.host.folder("user.anna.Old").deliver(&mail(8, 600));
    life.backup();
    life.host.folders.remove("user.anna.Old");
    life.backup();
    life.hours(1);
    life
}

/// Fault 11: A byte that had changed in a tar header was taken for the end by compaction, which dropped all that followed.
#[test]
fn compaction_does_not_take_damage_for_the_end() {
    let mut life = with_a_past();
    let mut tar = inflated(&bytes(&life)).expect("an archive");
    let all = entries_until_trouble(&tar);
    let check = |left: usize| left == all.len();
    let header = (0..tar.len()).step_by(512).find(|&at| tar[at..].starts_with(b"files/")).expect("a message");
    tar[header + 10] ^= 1;
    assert!(!check(entries_until_trouble(&tar).len()), "its compaction loses nothing");
    let good = bytes(&life);
    let mut damaged = good.clone();
    damaged[good.len() / 3] ^= 1;
    put(&mut life, damaged.clone());
    let outcome = drive(&mut life.disk, |io| life::compacting(io, settings(Policy::default()))).finished();
    assert!(!matches!(outcome, Ok(Outcome::Done(..))), "{outcome:?}");
    assert_eq!(bytes(&life), damaged, "the archive was changed");
}

/// Fault 12: A byte that had changed in a message was copied by compaction without a look, and nobody was told.
#[test]
fn a_byte_that_changed_in_a_message_is_told_and_not_copied() {
    let life = with_a_past();
    let good = inflated(&bytes(&life)).expect("an archive");
    let content = mail(1, 700);
    let at = good.windows(content.len()).position(|part| part == content).expect("the message");
    let copy = |tar: &[u8]| Some(tar.to_vec());
    let check = |copied: Option<Vec<u8>>| copied.is_none_or(|copied| copied.windows(content.len()).any(|part| part == content));
    let mut tar = good.clone();
    tar[at + 200] ^= 1;
    assert!(!check(copy(&tar)));
    let archive = bytes(&life);
    for at in (0..archive.len()).step_by(97) {
        let mut damaged = archive.clone();
        damaged[at] ^= 0x10;
        let mut life = life.clone();
        put(&mut life, damaged);
        let outcome = drive(&mut life.disk, |io| life::compacting(io, settings(Policy::default()))).finished();
        let is_done = matches!(outcome, Ok(Outcome::Done(..)));
        assert!(check(is_done.then(|| inflated(&bytes(&life)).expect("an archive"))), "byte {at}");
        let verdict = drive(&mut life.disk, async |io: Io| {
            let reader = Reader::open(&io, &dir()).await?;
            let verdict = verify(&io, &reader, 3).await;
            reader.close().await;
            verdict
        });
        let is_told = !verdict.finished().is_ok_and(|verdict| verdict.is_good());
        assert!(is_told || is_done || at >= archive.len() - 95, "byte {at} is told by nobody");
    }
}

/// Fault 13: A folder whose name is too long for a tar header lost its link in a compaction, for it is written in two entries.
#[test]
fn a_long_name_lives_through_a_compaction() {
    let long = format!("user.anna.{}", ["part"; 40].join("."));
    // It knew a place for the entry before the one with the link, and kept what it knew a place for.
    let theirs = |entries: &[(&str, u64)], known: &[u64]| -> Vec<String> {
        entries.iter().filter(|(_, at)| known.contains(at)).map(|(name, _)| (*name).to_owned()).collect()
    };
    let check = |names: &[String]| names.iter().any(|name| name.ends_with("part.part"));
    assert!(!check(&theirs(&[("././@LongLink", 0), ("imap/INBOX.part.part", 1024)], &[0])));
    let mut life = with_a_past();
    life.host.folder(&long).deliver(&mail(9, 100));
    life.backup();
    life.hours(24 * 9);
    life.host.folder(INBOX).flag(1, 1);
    life.backup();
    assert!(matches!(life.compact(&settings(Policy::default())), Outcome::Done(..)));
    assert!(check(&names(&mut life).into_iter().collect::<Vec<_>>()));
    assert!(check(&entries_until_trouble(&inflated(&bytes(&life)).expect("an archive"))));
    assert_eq!(life.newest().folders, life.folders());
}

/// Fault 14: Inodes were kept in 24 bits: after a compaction each folder looked changed.
#[test]
fn a_large_inode_is_the_same_after_a_compaction() {
    const INODE: u64 = 0x1_2345_6789_ABCD;
    let theirs = |ino: u64| ino & 0xFF_FFFF;
    assert_ne!(theirs(INODE), INODE);
    let mut life = with_a_past();
    let index = life.host.meta_place(INBOX, "cyrus.index");
    life.disk.stamp(&index, Time::from_secs(1_795_000_000), INODE);
    assert_eq!(life.backup().folders_changed, 1);
    life.hours(24 * 9);
    assert_eq!(life.backup().commit, None);
    assert!(matches!(life.compact(&settings(Policy::parse("keep-within 1h").expect("a policy"))), Outcome::Done(..)));
    assert_eq!(life.backup().commit, None);
}

/// Fault 15: A tombstone stopped the extraction by other programs, and the old name came back. It stops them in ours, too, by
/// the design; tests/tests/other_tars.rs has what each makes of it. `extract` and `restore` know what it means.
#[test]
fn a_name_that_went_stays_away() {
    let mut life = with_a_past();
    // Whoever only adds what an entry makes.
    let tar = inflated(&bytes(&life)).expect("an archive");
    let theirs: BTreeSet<String> = entries_until_trouble(&tar).into_iter().collect();
    let check = |names: &BTreeSet<String>| !names.iter().any(|name| name.ends_with("INBOX.Old"));
    assert!(!check(&theirs));
    assert!(check(&names(&mut life)));
    assert_eq!(life.snapshots()[&2].folders.len(), 3, "and can still be had");
}

/// Fault 16: Two runs at once wrote into one archive, and the failure of one user ended the run for all that followed. For the
/// latter see tests/tests/fleet.rs, where 50 users fail in five ways.
#[test]
fn two_runs_at_once_do_not_write_into_one_archive() {
    // Each goes on behind what it found.
    let theirs = |pieces: [&[u8]; 2]| {
        let mut file = b"what was there".to_vec();
        let at = file.len();
        for piece in pieces {
            file.resize(file.len().max(at + piece.len()), 0);
            file[at..at + piece.len()].copy_from_slice(piece);
        }
        file
    };
    let check = |file: &[u8], pieces: &[&[u8]]| pieces.iter().all(|piece| file.windows(piece.len()).any(|part| part == *piece));
    assert!(!check(&theirs([b"one", b"two"]), &[b"one", b"two"]));
    let mut life = saved();
    life.host.folder(INBOX).deliver(&mail(10, 5000));
    life.host.publish(&mut life.disk);
    life.hours(1);
    let (mut running, mut written) = (Running::new(&life.disk, life::backup), false);
    while !written {
        let step = running.step(&mut life.disk, &mut |_, op| written |= matches!(op, Op::WriteAt { .. }));
        assert!(matches!(step, Step::Did));
    }
    let second = drive(&mut life.disk, life::backup).finished();
    assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
    while matches!(running.step(&mut life.disk, &mut |_, _| {}), Step::Did) {}
    let tar = inflated(&bytes(&life)).expect("an archive");
    assert!(check(&tar, &[&mail(1, 700), &mail(10, 5000)]));
    life.is_good();
    assert_eq!(life.newest().folders, life.folders());
}

/// Fault 17: There was no history: what was expunged went with the next compaction, without grace, and only whole folders had a
/// week.
#[test]
fn what_was_expunged_yesterday_can_be_had_after_a_compaction() {
    let mut life = with_a_past();
    life.host.folder(INBOX).messages[0].expunged = true;
    life.host.folder(INBOX).messages[0].unlinked = true;
    life.host.folder(INBOX).modseq += 1;
    life.backup();
    let gone = Guid::of(&mail(1, 700));
    let theirs: BTreeSet<Guid> =
        life.host.folders.values().flat_map(|f| &f.messages).filter(|m| !m.unlinked).map(|m| m.guid).collect();
    assert!(!theirs.contains(&gone));
    life.hours(24);
    life.compact(&settings(Policy::default()));
    let kept = life.snapshots();
    let has = |state: &life::State| state.folders.values().flat_map(BTreeMap::values).any(|(guid, ..)| *guid == gone);
    assert!(kept.values().any(has), "{:?}", kept.keys());
    assert!(inflated(&bytes(&life)).expect("an archive").windows(700).any(|part| part == mail(1, 700)));
}

/// Fault 18: Sieve scripts, quota roots, and what others have seen were not saved.
#[test]
fn all_that_belongs_to_a_user_is_saved() {
    let wanted = ["meta/quota", "meta/seen", "meta/sub", "sieve/main.script"];
    let check = |entries: &BTreeSet<String>| wanted.iter().all(|wanted| entries.iter().any(|name| name.starts_with(wanted)));
    assert!(!check(&["meta/sub"].map(str::to_owned).into()));
    let mut life = saved();
    let id = life.host.folders[INBOX].id.clone();
    let hashed = format!("{}/{}/{id}", &id[..1], &id[1..2]);
    for (path, content) in [
        (format!("/var/lib/cyrus/user/uuid/{hashed}/seen.db"), twoskip::emit(&[(b"a".to_vec(), b"1".to_vec())], 1)),
        (format!("/var/lib/cyrus/user/uuid/{hashed}/sub.db"), b"INBOX\t\n".to_vec()),
        (format!("/var/spool/sieve/uuid/{hashed}/main.script"), b"keep;\r\n".to_vec()),
        (String::from("/var/lib/cyrus/quota/a/user.anna"), b"1400\n1024\n".to_vec()),
    ] {
        life.host.files.insert(path, content);
    }
    assert!(life.backup().is_clean());
    let entries: BTreeSet<String> = entries_until_trouble(&inflated(&bytes(&life)).expect("an archive")).into_iter().collect();
    assert!(check(&entries), "{entries:?}");
}
