//! What is broken x where x what is done next: an archive of three commits is damaged in every part, then opened for writing.

use cylinder_core::archive::append::Settings;
use cylinder_core::archive::entries::Finding;
use cylinder_core::archive::member::{self, FOOTER_LEN, HEADER_LEN, Kind};
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::verify::{Verdict, verify};
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Op};
use cylinder_tests::check::{self, Check};
use cylinder_tests::disk::{BLOCK, SimDisk};
use cylinder_tests::drive::{drive, drive_watched};
use cylinder_tests::proof::{Store, out, run_for, tree};
use cylinder_tests::spool::Spool;
use cylinder_tests::story::{self, Batch, archive, mail, run_all, run_with, snapshot, stored};
use std::cell::Cell;
use std::fs;
use std::ops::Range;

const ID: [u8; 16] = *b"sixteen bytes id";
/// The framing of a stored deflate block.
const STORED: usize = 5;
/// The most operations that opening one of these archives may take: some for each member and each of the few commits.
const OPS_MAX: u32 = 150;

/// Three commits, and one for the run afterwards. What is in them is random enough not to be found twice.
fn story() -> Vec<Batch> {
    let batch = |n: u64, sizes: &[usize]| {
        snapshot(n, sizes.iter().enumerate().map(|(i, &size)| mail(10 * n + i as u64, size)).collect())
    };
    vec![batch(1, &[600, 900]), batch(2, &[700]), batch(3, &[800, 66_000]), batch(4, &[500])]
}

/// The archive as its disk has it after three commits, members stored so that every byte of a tar header has a place of its
/// own.
fn finished(id: [u8; 16]) -> SimDisk {
    let (mut disk, story) = (SimDisk::new(), story());
    let settings = stored();
    drive(&mut disk, |io: Io| write(io, &story[..3], &settings, id)).finished().expect("a run that nothing disturbs");
    disk
}

async fn write(io: Io, batches: &[Batch], settings: &Settings, id: [u8; 16]) -> Result<(), Error> {
    run_with(io, batches, &Cell::new(0), settings, id).await
}

/// The same archive when a fourth run was killed that had not yet written its commit: there is no footer any more.
fn killed() -> SimDisk {
    let (mut disk, story, settings) = (finished(ID), story(), stored());
    let mut states = Vec::new();
    let outcome = drive_watched(&mut disk, |io: Io| write(io, &story[3..], &settings, ID), &mut |disk, op| {
        if matches!(op, Op::WriteAt { .. }) {
            states.push(disk.clone());
        }
    });
    outcome.finished().expect("the run itself");
    // Data, metadata, list and table are written, the commit is not.
    let mut disk = states.swap_remove(4);
    disk.kill();
    disk
}

/// A member of the archive before it was damaged.
#[derive(Clone, Debug)]
struct Member {
    kind: Kind,
    /// Number of the commit that it belongs to.
    commit: u64,
    range: Range<usize>,
}

fn members(bytes: &[u8]) -> Vec<Member> {
    let (mut all, mut at, mut commit) = (Vec::new(), 0, 0);
    while at < bytes.len() {
        let info = member::parse_header(&bytes[at..]).expect("an undamaged member");
        let range = at..at + info.len as usize;
        at = range.end;
        all.push(Member { kind: info.kind, commit, range });
        commit += u64::from(info.kind == Kind::Commit);
    }
    all
}

/// Every part of the format, with a byte in the middle of it.
fn regions(bytes: &[u8]) -> Vec<(String, usize)> {
    let mut all = Vec::new();
    for Member { kind, commit, range } in members(bytes) {
        let body = range.start + HEADER_LEN + STORED;
        let parts: Vec<(&str, usize)> = match kind {
            Kind::Head => vec![("about", body + 600)],
            Kind::Data => vec![
                ("gzip header", range.start + 20),
                ("deflate data", range.start + HEADER_LEN + 1),
                ("tar header", body + 130),
                ("message", body + 512 + 200),
                ("gzip trailer", range.end - 6),
            ],
            Kind::Meta => vec![("metadata", body + 600)],
            Kind::List => vec![("list", body + 550)],
            Kind::Table => vec![("table", body + 550)],
            Kind::Commit => vec![("gzip header of the commit", range.start + 2), ("commit", body + 550)],
            Kind::Footer => vec![("footer", range.start + 50)],
        };
        all.extend(parts.into_iter().map(|(name, at)| (format!("{name} of commit {commit}"), at)));
    }
    all.push((String::from("end of the file"), bytes.len()));
    all
}

/// What is done to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Harm {
    Flip,
    ZeroSector,
    Cut,
    CutAndGarbage,
    CutAndForeignTail,
}

impl Harm {
    const ALL: [Harm; 5] = [Harm::Flip, Harm::ZeroSector, Harm::Cut, Harm::CutAndGarbage, Harm::CutAndForeignTail];

    /// The damaged bytes, and where they are.
    fn apply(self, bytes: &[u8], at: usize, foreign: &[u8]) -> (Vec<u8>, Range<usize>) {
        let mut bad = bytes.to_vec();
        let sector = at / BLOCK * BLOCK..(at / BLOCK * BLOCK + BLOCK).min(bytes.len());
        match self {
            Harm::Flip if at == bytes.len() => return (bad, at..at),
            Harm::Flip => {
                bad[at] ^= 0x40;
                return (bad, at..at + 1);
            }
            Harm::ZeroSector => {
                bad[sector.clone()].fill(0);
                return (bad, sector);
            }
            Harm::Cut => bad.truncate(at),
            Harm::CutAndGarbage => {
                bad.truncate(at);
                bad.extend_from_slice(&mail(99, 3000));
            }
            Harm::CutAndForeignTail => {
                bad.truncate(at);
                // Behind its commit 0, which nothing tells from ours where ours is gone.
                bad.extend_from_slice(&foreign[5000..]);
            }
        }
        (bad, at..usize::MAX)
    }
}

/// One row of the table.
struct Case {
    base: Vec<u8>,
    found: Vec<u8>,
    /// Bytes that are not as they were.
    harmed: Range<usize>,
    /// The newest commit that counts by FORMAT.md section 6; `None` if there is none.
    head: Option<u64>,
    /// Where that commit ends.
    head_end: usize,
    /// Messages that must be readable: their own member is whole, and so is the way to it.
    readable: Vec<Vec<u8>>,
    /// Messages behind that commit whose own member is whole.
    taken_over: Vec<Vec<u8>>,
    /// After opening for writing.
    mended: SimDisk,
    opened: Result<(), Error>,
    ops: u32,
}

fn is_hurt(harmed: &Range<usize>, range: &Range<usize>) -> bool {
    harmed.start < range.end && range.start < harmed.end
}

impl Case {
    fn new(base: &SimDisk, at: usize, harm: Harm, foreign: &[u8]) -> Case {
        let bytes = base.content(&archive()).expect("an archive");
        let (members, story) = (members(bytes), story());
        let (found, harmed) = harm.apply(bytes, at, foreign);
        let head = expected_head(&members, &harmed);
        let mut mended = base.clone();
        mended.put_file(&archive(), found.clone());
        mended.take_transcript();
        let before = mended.ops();
        let opened = drive(&mut mended, story::reopen).finished();
        Case {
            base: bytes.to_vec(),
            harmed: harmed.clone(),
            head: head.map(|member| member.commit),
            head_end: head.map_or(0, |member| member.range.end),
            readable: head.map_or_else(Vec::new, |head| expected_messages(bytes, &members, &harmed, head.commit, &story)),
            taken_over: head.map_or_else(Vec::new, |head| messages_behind(bytes, &members, &harmed, head)),
            ops: mended.ops() - before,
            found,
            mended,
            opened,
        }
    }
}

/// The newest commit whose record is whole and that was acknowledged visibly or brought only whole members.
fn expected_head<'a>(members: &'a [Member], harmed: &Range<usize>) -> Option<&'a Member> {
    members.iter().enumerate().rev().filter(|(_, m)| m.kind == Kind::Commit).find_map(|(n, commit)| {
        let hurt = |m: &Member| is_hurt(harmed, &m.range);
        let header = |m: &Member| m.range.start..m.range.start + if m.kind == Kind::Footer { 76 } else { HEADER_LEN };
        let followed = members.get(n + 1).is_some_and(|next| !is_hurt(harmed, &header(next)));
        let brought_whole = !members.iter().any(|m| m.commit == commit.commit && m.kind != Kind::Footer && hurt(m));
        // Of commit 0 nothing else is asked, for there is none before it.
        (!hurt(commit) && (followed || brought_whole || commit.commit == 0)).then_some(commit)
    })
}

/// Messages of the story behind the head whose member is whole.
fn messages_behind(bytes: &[u8], members: &[Member], harmed: &Range<usize>, head: &Member) -> Vec<Vec<u8>> {
    let all = story().into_iter().flat_map(|batch| batch.messages);
    let is_behind = |message: &Vec<u8>| {
        let of_it = |m: &&Member| m.kind == Kind::Data && contains(&bytes[m.range.clone()], &message[..60.min(message.len())]);
        // One that goes through several members is left out: which they are is not told.
        let member = members.iter().find(of_it).filter(|_| message.len() < 60_000);
        member.is_some_and(|m| m.range.start >= head.range.end && !is_hurt(harmed, &m.range))
    };
    all.filter(is_behind).collect()
}

/// Goes from the head to older commits as long as records and lists are whole.
fn expected_messages(bytes: &[u8], members: &[Member], harmed: &Range<usize>, head: u64, story: &[Batch]) -> Vec<Vec<u8>> {
    let hurt =
        |kind: Kind, commit: u64| members.iter().any(|m| m.kind == kind && m.commit == commit && is_hurt(harmed, &m.range));
    let mut readable = Vec::new();
    for commit in (1..=head).rev() {
        if hurt(Kind::Commit, commit) || hurt(Kind::List, commit) {
            break;
        }
        for message in &story[commit as usize - 1].messages {
            let of_it =
                |m: &&Member| m.kind == Kind::Data && contains(&bytes[m.range.clone()], &message[..60.min(message.len())]);
            let member = members.iter().find(of_it).expect("the member of a message");
            if !is_hurt(harmed, &member.range) {
                readable.push(message.clone());
            }
        }
    }
    readable
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// A judgement on a case.
type Column = (&'static str, fn(&Case) -> Check);

/// What must hold in every row.
const COLUMNS: [Column; 9] = [
    ("it opens at the last good commit", opens),
    ("nothing good is cut or changed", nothing_good_is_lost),
    ("what was cut is aside", cut_is_aside),
    ("undamaged messages are readable", undamaged_messages_are_readable),
    ("whole ones behind the last commit are taken over", what_is_behind_is_taken_over),
    ("damaged ones are never given", no_wrong_bytes),
    ("effort is bounded", effort_is_bounded),
    ("the next run works", next_run_works),
    ("verify finds it and says where", verify_finds_it),
];

fn opens(case: &Case) -> Check {
    check::nothing_open(&case.mended)?;
    match (&case.opened, case.head) {
        // Without any commit the file is set aside, and a new archive begun with its commit 0.
        (Ok(()), expected) => {
            let expected = expected.unwrap_or(0);
            check::mending_twice_is_once(&case.mended)?;
            let found = drive(&mut case.mended.clone(), head_number).finished().map_err(|e| e.to_string())?;
            if found == expected { Ok(()) } else { Err(format!("the head is commit {found}, expected {expected}")) }
        }
        (Err(error), expected) => Err(format!("{error}, expected commit {expected:?}")),
    }
}

/// The number of the newest commit that no mending has made.
async fn head_number(io: Io) -> Result<u64, Error> {
    let reader = Reader::open(&io, &story::dir()).await?;
    let number = reader.head().commit.number - u64::from(reader.is_mended());
    reader.close().await;
    Ok(number)
}

async fn is_mended(io: Io) -> Result<bool, Error> {
    let reader = Reader::open(&io, &story::dir()).await?;
    let is_mended = reader.is_mended();
    reader.close().await;
    Ok(is_mended)
}

fn nothing_good_is_lost(case: &Case) -> Check {
    let now = case.mended.content(&archive()).unwrap_or_default();
    check::nothing_written_elsewhere(&case.mended)?;
    if case.head.is_none() {
        let aside = story::dir().join(b"archive.tar.gz.aside-1-unreadable");
        let same = case.mended.content(&aside) == Some(&case.found[..]) && case.mended.store().len() == 3;
        return if same { Ok(()) } else { Err(String::from("it has no commit, and is not kept as it was")) };
    }
    let is_mended = drive(&mut case.mended.clone(), is_mended).finished().map_err(|e| e.to_string())?;
    let is_long = now.len() == case.head_end + FOOTER_LEN || is_mended && now.len() > case.head_end + FOOTER_LEN;
    if is_long && now[..case.head_end] == case.found[..case.head_end] {
        return Ok(());
    }
    Err(format!("{} bytes, the head ends at {}", now.len(), case.head_end))
}

fn cut_is_aside(case: &Case) -> Check {
    if case.head.is_none() {
        return Ok(());
    }
    check::cut_bytes_are_aside(&case.found, &case.mended).map(drop)
}

/// A message as it was read; `None` if no list has it.
type Read = Result<Option<Vec<u8>>, Error>;

async fn read_messages(io: Io, guids: Vec<Guid>) -> Result<Vec<Read>, Error> {
    let reader = Reader::open(&io, &story::dir()).await?;
    let mut all = Vec::new();
    for guid in guids {
        all.push(match reader.locate(&guid).await {
            Ok(Some(found)) => reader.read_entry(found.at, found.size).await.map(Some),
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        });
    }
    reader.close().await;
    Ok(all)
}

fn read(case: &Case, messages: &[Vec<u8>]) -> Result<Vec<Read>, String> {
    let guids = messages.iter().map(|message| Guid::of(message)).collect();
    drive(&mut case.mended.clone(), |io| read_messages(io, guids)).finished().map_err(|e| e.to_string())
}

fn undamaged_messages_are_readable(case: &Case) -> Check {
    for (message, found) in case.readable.iter().zip(read(case, &case.readable)?) {
        if found.as_ref() != Ok(&Some(message.clone())) {
            let found = found.map(|bytes| bytes.map(|b| b.len()));
            return Err(format!("message {} of {} bytes: {found:?}", Guid::of(message), message.len()));
        }
    }
    Ok(())
}

fn what_is_behind_is_taken_over(case: &Case) -> Check {
    for (message, found) in case.taken_over.iter().zip(read(case, &case.taken_over)?) {
        if found.as_ref() != Ok(&Some(message.clone())) {
            return Err(format!("message {} of {} bytes: {found:?}", Guid::of(message), message.len()));
        }
    }
    Ok(())
}

fn no_wrong_bytes(case: &Case) -> Check {
    let messages: Vec<Vec<u8>> = story().into_iter().flat_map(|batch| batch.messages).collect();
    for (message, found) in messages.iter().zip(read(case, &messages)?) {
        match found {
            Ok(Some(bytes)) if bytes != *message => return Err(format!("message {} is another", Guid::of(message))),
            Ok(_) | Err(Error::Damage(_)) => {}
            Err(error) => return Err(format!("not told as damage: {error}")),
        }
    }
    Ok(())
}

fn effort_is_bounded(case: &Case) -> Check {
    // One search buffer, or one member.
    let fits = case.ops <= OPS_MAX && case.mended.largest_read() <= member::MEMBER_MAX;
    if fits { Ok(()) } else { Err(format!("{} operations, {} bytes at once", case.ops, case.mended.largest_read())) }
}

fn next_run_works(case: &Case) -> Check {
    let (mut disk, story) = (case.mended.clone(), story());
    drive(&mut disk, |io: Io| run_all(io, &story[3..])).finished().map_err(|e| e.to_string())?;
    let number = drive(&mut disk.clone(), head_number).finished().map_err(|e| e.to_string())?;
    let is_mended = drive(&mut case.mended.clone(), is_mended).finished().map_err(|e| e.to_string())?;
    if number != case.head.unwrap_or(0) + 1 + u64::from(is_mended) {
        return Err(format!("commit {number} came after {:?}", case.head));
    }
    let guids = vec![Guid::of(&story[3].messages[0])];
    let found = drive(&mut disk, |io| read_messages(io, guids)).finished().map_err(|e| e.to_string())?;
    if found == [Ok(Some(story[3].messages[0].clone()))] { Ok(()) } else { Err(format!("{found:?}")) }
}

async fn judge(io: Io) -> Result<Verdict, Error> {
    let reader = Reader::open(&io, &story::dir()).await?;
    let verdict = verify(&io, &reader, 2).await;
    reader.close().await;
    verdict
}

fn verdict(disk: &SimDisk, found: &[u8]) -> Result<Verdict, Error> {
    let mut disk = disk.clone();
    disk.put_file(&archive(), found);
    let before = disk.changes();
    let verdict = drive(&mut disk, judge).finished();
    assert_eq!(disk.changes(), before, "verify has written something");
    verdict
}

/// Damage behind the last good commit, after which no member begins any more, is what a killed run may leave, and nothing in
/// the file tells the two apart: verify says that the end is missing. All other damage is found where it is, and lost
/// messages are named.
fn verify_finds_it(case: &Case) -> Check {
    let verdict = match (verdict(&case.mended, &case.found), case.head) {
        (Err(Error::Damage(_)), None) => return Ok(()),
        (Ok(verdict), Some(_)) => verdict,
        (other, head) => return Err(format!("{:?}, the head is {head:?}", other.map(|v| v.findings))),
    };
    let undamaged = case.found == case.base && (verdict.is_good() || is_end_missing(&verdict));
    let behind_the_head = is_end_missing(&verdict) && case.harmed.start >= case.head_end;
    if undamaged || behind_the_head {
        return Ok(());
    }
    let overlaps = |f: &Finding| is_hurt(&case.harmed, &(f.bytes.0 as usize..f.bytes.1 as usize));
    if !verdict.findings.iter().any(overlaps) {
        return Err(format!("bytes {:?} are damaged, found were {:?}", case.harmed, verdict.findings));
    }
    lost_are_named(case, &verdict)
}

/// Nothing is found but that the end is missing.
fn is_end_missing(verdict: &Verdict) -> bool {
    verdict.interrupted && verdict.findings_count == 1
}

/// The messages of commits up to the head whose own member is damaged are lost, and no others are.
fn lost_are_named(case: &Case, verdict: &Verdict) -> Check {
    let (members, head) = (members(&case.base), case.head.unwrap_or_default());
    let mut expected = Vec::new();
    for commit in 1..=head.min(3) {
        let list = members.iter().find(|m| m.kind == Kind::List && m.commit == commit).expect("a list");
        let hurt = |m: &Member| is_hurt(&case.harmed, &m.range);
        // Without its list nobody knows what a commit brought.
        if hurt(list) || members.iter().any(|m| m.kind == Kind::Commit && m.commit == commit && hurt(m)) {
            continue;
        }
        for message in &story()[commit as usize - 1].messages {
            let of_it = |m: &&Member| m.kind == Kind::Data && contains(&case.base[m.range.clone()], &message[..60]);
            if members.iter().find(of_it).is_some_and(hurt) {
                expected.push(Guid::of(message));
            }
        }
    }
    let mut lost = verdict.lost.clone();
    lost.sort();
    expected.sort();
    if lost == expected { Ok(()) } else { Err(format!("lost are {expected:?}, named are {lost:?}")) }
}

/// Fills in the table for one archive.
fn every_damage(base: &SimDisk) -> (usize, Vec<String>) {
    let foreign = finished(*b"another archive!");
    let foreign = foreign.content(&archive()).expect("an archive");
    let (mut rows, mut bad) = (0, Vec::new());
    for (region, at) in regions(base.content(&archive()).expect("an archive")) {
        for harm in Harm::ALL {
            rows += 1;
            let case = Case::new(base, at, harm, foreign);
            for (column, judge) in COLUMNS {
                if let Err(why) = judge(&case) {
                    bad.push(format!("{harm:?} in {region} (byte {at}): {column}: {why}"));
                }
            }
        }
    }
    (rows, bad)
}

#[test]
fn whatever_part_of_an_archive_is_damaged_nothing_good_is_lost() {
    let (rows, bad) = every_damage(&finished(ID));
    println!("{rows} damages of a finished archive");
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn whatever_part_is_damaged_a_killed_run_costs_no_acknowledged_commit() {
    let (rows, bad) = every_damage(&killed());
    println!("{rows} damages of an archive behind which a run was killed");
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn an_undamaged_archive_has_no_finding() {
    for (disk, interrupted) in [(finished(ID), false), (killed(), true)] {
        let found = disk.content(&archive()).expect("an archive").to_vec();
        let verdict = verdict(&disk, &found).expect("a verdict");
        assert_eq!((is_end_missing(&verdict), verdict.is_good()), (interrupted, !interrupted), "{:?}", verdict.findings);
        assert_eq!((verdict.commits, verdict.messages), (4, 5));
    }
}

/// One commit of small messages, deflated as usual: every byte of every part of the format is in it.
fn small() -> SimDisk {
    let mut disk = SimDisk::new();
    let story = [snapshot(1, vec![mail(1, 300), mail(2, 200)])];
    drive(&mut disk, |io: Io| run_all(io, &story)).finished().expect("a run");
    disk
}

/// Flips each bit, one at a time, and answers how many, and at which bytes verify finds nothing. Of those it must
/// say that the end is missing.
fn unseen() -> (usize, Vec<usize>) {
    let disk = small();
    let bytes = disk.content(&archive()).expect("an archive").to_vec();
    let (mut flips, mut unseen) = (0, Vec::new());
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << bit;
            flips += 1;
            match verdict(&disk, &bad) {
                Ok(verdict) if is_end_missing(&verdict) => unseen.push(bytes.len() - at),
                Ok(verdict) if verdict.is_good() => panic!("byte {at}, bit {bit}: nothing at all is said"),
                Ok(_) | Err(Error::Damage(_)) => {}
                Err(error) => panic!("byte {at}, bit {bit}: {error}"),
            }
        }
    }
    unseen.dedup();
    (flips, unseen)
}

#[test]
fn no_bit_of_an_archive_but_its_footer_can_change_without_being_found() {
    let (flips, unseen) = unseen();
    println!("{flips} bits flipped one at a time");
    // Counted from the end. Without the last footer the archive is found by searching, and nothing is lost; a footer that has
    // its header and not the CRC of its content (8 to 5) cannot be the trace of a run.
    let footer: Vec<usize> = (1..=FOOTER_LEN).rev().filter(|n| !(5..=8).contains(n)).collect();
    assert_eq!(unseen, footer);
}

/// Found by the crash tests: the crash of a mending left another tail than it had set aside, and the next mending, which used
/// the same name, removed the only copy of the damaged bytes.
#[test]
fn damaged_bytes_that_were_set_aside_stay_when_the_same_end_is_mended_again() {
    let mut disk = finished(ID);
    let bytes = disk.content(&archive()).expect("an archive").to_vec();
    for junk in [&b"first"[..], b"second", b"third"] {
        disk.put_file(&archive(), [&bytes[..], junk].concat());
        drive(&mut disk, story::reopen).finished().expect("mending");
    }
    let asides: Vec<Vec<u8>> = disk.store().into_iter().filter(|(name, _)| name.contains(".aside-")).map(|(_, b)| b).collect();
    let footer = &bytes[bytes.len() - FOOTER_LEN..];
    for junk in [&b"first"[..], b"second", b"third"] {
        assert!(asides.contains(&[footer, junk].concat()), "{}", disk.take_transcript());
    }
    assert_eq!(asides.len(), 3);
}

/// A killed run writes over the footer. Bytes behind a footer are somebody else's, and were removed as an interrupted run's.
#[test]
fn what_was_appended_behind_a_footer_is_kept_through_later_snapshots() {
    let (mut disk, story) = (finished(ID), story());
    let bytes = disk.content(&archive()).expect("an archive").to_vec();
    disk.put_file(&archive(), [&bytes[..], b"appended by hand"].concat());
    drive(&mut disk, |io: Io| run_all(io, &story[3..])).finished().expect("a run");
    let kept =
        disk.store().into_iter().any(|(name, content)| name.ends_with("-damaged") && content.ends_with(b"appended by hand"));
    assert!(kept, "{:?}", disk.store().keys());
}

/// A commit that is torn at the very end is what a killed run leaves; it was kept as damage for ever.
#[test]
fn a_torn_commit_is_the_trace_of_a_killed_run() {
    let (mut disk, bytes) = (finished(ID), finished(ID));
    let bytes = bytes.content(&archive()).expect("an archive");
    let commit = members(bytes).into_iter().rfind(|m| m.kind == Kind::Commit).expect("a commit");
    disk.put_file(&archive(), &bytes[..commit.range.end - 100]);
    drive(&mut disk, story::reopen).finished().expect("mending");
    let names: Vec<String> = disk.store().into_keys().filter(|name| name.contains(".aside-")).collect();
    assert!(names.len() == 1 && names[0].ends_with("-interrupted"), "{names:?}");
}

/// Damage in an old commit was taken for a gap before the newest one, which was then cut although it had been acknowledged.
#[test]
fn old_damage_and_a_killed_run_do_not_cut_the_newest_commit() {
    let mut disk = killed();
    let mut bytes = disk.content(&archive()).expect("an archive").to_vec();
    let old = members(&bytes).into_iter().find(|m| m.kind == Kind::Commit && m.commit == 2).expect("commit 2");
    bytes[old.range.start + 100] ^= 1;
    disk.put_file(&archive(), bytes);
    drive(&mut disk, story::reopen).finished().expect("mending");
    assert_eq!(drive(&mut disk, head_number).finished(), Ok(3));
}

/// The search for a member went on byte by byte through the last hundred bytes, each with a read of its own.
#[test]
fn the_end_of_a_file_is_searched_with_one_read() {
    let mut disk = finished(ID);
    let bytes = disk.content(&archive()).expect("an archive").to_vec();
    disk.put_file(&archive(), [&bytes[..], &[7; 200]].concat());
    let before = disk.ops();
    drive(&mut disk, story::reopen).finished().expect("mending");
    assert!(disk.ops() - before < 60, "{} operations", disk.ops() - before);
}

/// A user on a real disk: one message to a member, so that damage hits one alone.
struct OnDisk {
    store: Store,
    spool: Spool,
    bytes: Vec<u8>,
}

const LOST_UID: u32 = 2;

impl OnDisk {
    fn new() -> OnDisk {
        let store = Store::new();
        let mut spool = Spool::create(&store.beside("root"), "anna", 11).expect("a spool");
        spool.create_folder("INBOX.Work").expect("a folder");
        for n in 0..4 {
            spool.deliver("INBOX.Work", &mail(n, 70_000)).expect("a message");
            spool.save().expect("an index");
            run_for(&mut store.backup(spool.root(), "anna"), 0);
        }
        let bytes = fs::read(store.archive("anna")).expect("the archive");
        OnDisk { store, spool, bytes }
    }

    fn spoil(&self, harm: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut bad = self.bytes.clone();
        harm(&mut bad);
        fs::write(self.store.archive("anna"), &bad).expect("the archive");
        bad
    }

    fn head_end(&self) -> usize {
        let end = self.store.read("anna", async |reader| Ok(reader.head().part.offset + reader.head().part.len));
        end.expect("an archive that opens") as usize
    }
}

#[test]
fn verify_names_folder_and_uid_of_a_lost_message_and_exits_4() {
    let on_disk = OnDisk::new();
    let store = &on_disk.store;
    run_for(&mut store.command(&["verify"]), 0);
    let member =
        members(&on_disk.bytes).into_iter().filter(|m| m.kind == Kind::Data).nth(LOST_UID as usize - 1).expect("a member");
    on_disk.spoil(|bytes| bytes[member.range.start + 5000] ^= 1);
    let guid = Guid::of(&mail(u64::from(LOST_UID) - 1, 70_000));
    let said = out(&run_for(&mut store.command(&["verify", "anna"]), 4));
    let lost = said.lines().find(|line| line.ends_with(&format!(": {guid}"))).unwrap_or_default();
    assert!(
        said.starts_with("anna: DAMAGED: ") && lost.contains(&format!(": lost: INBOX.Work/{LOST_UID} of snapshot ")),
        "{said}"
    );
    assert!(said.contains(&format!("bytes {} to {}: ", member.range.start, member.range.end)), "{said}");
    let json = out(&run_for(&mut store.command(&["verify", "--json"]), 4));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let lost = &json["lost"][0];
    assert_eq!((&lost["guid"], &lost["folder"]), (&guid.to_hex().into(), &"INBOX.Work".into()), "{json}");
    assert_eq!((&lost["uid"], &lost["from"]), (&LOST_UID.into(), &member.range.start.into()), "{json}");
    // The others come out, and this one does not.
    run_for(&mut store.command(&["show", "anna", &format!("INBOX.Work/{LOST_UID}")]), 4);
    let other = run_for(&mut store.command(&["show", "anna", "INBOX.Work/3"]), 0);
    assert_eq!(other.stdout, mail(2, 70_000));
    let target = store.beside("tree");
    run_for(store.command(&["extract", "anna", "--quiet"]).arg(&target), 4);
    let found = tree(&target);
    assert!(!found.contains_key(&format!("files/{guid}")));
    assert_eq!(found.keys().filter(|name| name.starts_with("files/")).count(), 3);
}

/// What is good is not touched by a backup, whatever is damaged; what is cut off is kept.
#[test]
fn a_backup_of_a_damaged_archive_leaves_every_byte_up_to_the_last_good_commit() {
    let mut on_disk = OnDisk::new();
    let all = members(&on_disk.bytes);
    let ends: Vec<Member> = all.iter().filter(|m| m.kind == Kind::Commit).cloned().collect();
    let (data, last) = (all.iter().find(|m| m.kind == Kind::Data).expect("a member").range.clone(), ends[4].range.clone());
    type Spoil = (&'static str, Box<dyn Fn(&mut Vec<u8>)>);
    let harms: [Spoil; 7] = [
        ("a flipped bit in a message", Box::new(move |b| b[data.start + 4000] ^= 4)),
        (
            "a flipped bit in the last commit",
            Box::new({
                let at = last.start + 60;
                move |b| b[at] ^= 4
            }),
        ),
        (
            "a zeroed footer",
            Box::new({
                let at = last.end;
                move |b| b[at..].fill(0)
            }),
        ),
        (
            "a cut in the last commit",
            Box::new({
                let at = last.end - 10;
                move |b| b.truncate(at)
            }),
        ),
        (
            "a cut far before",
            Box::new({
                let at = ends[2].range.end + 3000;
                move |b| b.truncate(at)
            }),
        ),
        ("garbage at the end", Box::new(|b| b.extend_from_slice(&[9; 5000]))),
        ("zeros at the end", Box::new(|b| b.resize(b.len() + 100_000, 0))),
    ];
    for (n, (what, harm)) in harms.iter().enumerate() {
        let bad = on_disk.spoil(harm);
        let good = on_disk.head_end();
        on_disk.spool.deliver("INBOX", format!("Subject: {n}\r\n\r\n").as_bytes()).expect("a message");
        on_disk.spool.save().expect("an index");
        run_for(&mut on_disk.store.backup(on_disk.spool.root(), "anna"), 0);
        let now = fs::read(on_disk.store.archive("anna")).expect("the archive");
        assert!(now.len() > good && now[..good] == bad[..good], "{what}: good bytes have changed");
        assert!(on_disk.head_end() > good, "{what}: the run added nothing");
        let dir = on_disk.store.user_dir("anna");
        let asides: Vec<_> = fs::read_dir(&dir).expect("the directory").map(|e| e.expect("a name").path()).collect();
        let kept = asides.iter().any(|path| path.to_string_lossy().ends_with("-damaged"));
        assert_eq!(kept, matches!(n, 1 | 5 | 6), "{what}: {asides:?}");
        asides
            .iter()
            .filter(|path| path.to_string_lossy().contains(".aside-"))
            .for_each(|path| fs::remove_file(path).expect("removal"));
        let code = if n == 0 { 4 } else { 0 };
        run_for(&mut on_disk.store.command(&["verify"]), code);
    }
}

/// Somebody puts another first snapshot, whole in itself, in place of the one that was there: only the chain can tell.
#[test]
fn history_that_was_rewritten_breaks_the_chain_and_is_told() {
    let first = |n: u64| {
        let (mut disk, settings) = (SimDisk::new(), stored());
        let batches = [snapshot(1, vec![mail(n, 700)])];
        drive(&mut disk, |io: Io| write(io, &batches, &settings, ID)).finished().expect("a run");
        disk
    };
    let (mut disk, other, settings) = (first(1), first(2), stored());
    let end = disk.content(&archive()).expect("an archive").len() - FOOTER_LEN;
    let second = [snapshot(2, vec![mail(9, 300)])];
    drive(&mut disk, |io: Io| write(io, &second, &settings, ID)).finished().expect("a run");
    let whole = disk.content(&archive()).expect("an archive").to_vec();
    let head = &other.content(&archive()).expect("an archive")[..end];
    assert!(verdict(&disk, &whole).expect("a verdict").is_good());
    let rewritten = [head, &whole[end..]].concat();
    let verdict = verdict(&disk, &rewritten).expect("a verdict");
    let found: Vec<&str> = verdict.findings.iter().map(|finding| finding.what.as_str()).collect();
    assert_eq!(
        (&found[..], &verdict.lost[..]),
        (&["the hash chain is broken: it does not continue the commit before it"][..], &[][..])
    );
}
