//! Repair and healing: what is whole stays, what is not is told and comes back from the server, and no crash loses either
//! archive.

use cylinder_core::archive::member::{self, FOOTER_LEN, HEADER_LEN, Kind};
use cylinder_core::archive::read::{End, Reader};
use cylinder_core::archive::record::{Absence, CommitKind, MissingRow};
use cylinder_core::archive::verify::{Verdict, verify};
use cylinder_core::backup;
use cylinder_core::cyrus::annotations::{OWNER_TOKEN, emit_key, emit_value};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::db::twoskip;
use cylinder_core::error::{Error, Fault};
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Op};
use cylinder_core::pull::Origin;
use cylinder_core::repair::heal::{self, Healed};
use cylinder_core::repair::{self, Outcome, Repaired, Settings};
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::view;
use cylinder_tests::check;
use cylinder_tests::crashes::{Effort, crashes, first_of_all, torn};
use cylinder_tests::disk::{BLOCK, Lie, SimDisk, Trouble};
use cylinder_tests::drive::{drive, drive_watched};
use cylinder_tests::life::{self, Life, archive};
use cylinder_tests::proof::{Store, out, run, run_for, tool};
use cylinder_tests::story::{self, Batch, long_mail, mail, snapshot};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::process::{Command, Stdio};

const INBOX: &str = "user.anna";
const SENT: &str = "user.anna.Sent";

fn settings() -> Settings {
    Settings { archive: story::settings(), archive_id: *b"another name 16b", dry_run: false, drop_aside: false }
}

async fn repairing(io: Io, settings: Settings) -> Result<Outcome, Error> {
    repair::run(&io, &life::dir(), &life::anna(), &settings).await
}

async fn healing(io: Io) -> Result<Healed, Error> {
    let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    let mut site = Site::open(&io, conf, None, Locking::AsServer, Patience::default()).await?;
    let settings = backup::Settings {
        archive: story::settings(),
        source: String::from("local:test"),
        adopt: false,
        archive_id: *b"sixteen bytes id",
        read_rate: 0,
    };
    heal::run(&io, &mut Origin::Local(&mut site), &life::anna(), &life::dir(), &settings).await
}

#[track_caller]
fn repaired(life: &mut Life) -> Repaired {
    match drive(&mut life.disk, |io| repairing(io, settings())).finished() {
        Ok(Outcome::Done(repaired)) => repaired,
        other => panic!("{other:?}"),
    }
}

async fn verdict(io: Io) -> Result<(Verdict, End), Error> {
    let reader = Reader::open(&io, &life::dir()).await?;
    let verdict = verify(&io, &reader, 2).await;
    let end = reader.end();
    reader.close().await;
    Ok((verdict?, end))
}

/// True if verify finds something wrong.
fn is_found(life: &mut Life) -> bool {
    match drive(&mut life.disk, verdict).finished() {
        Ok((verdict, _)) => !verdict.is_good(),
        Err(_) => true,
    }
}

/// A user of four snapshots: mail comes and goes, a folder is renamed.
fn past() -> Life {
    let mut life = Life::new();
    for n in 0..6 {
        life.host.folder(INBOX).deliver(&mail(n, 900));
    }
    life.host.folder(SENT).deliver(&mail(20, 500));
    life.host.folder(SENT).deliver(&mail(21, 100_000));
    life.host.folder(SENT).deliver(&long_mail(22, 2_500_000));
    life.backup();
    life.hours(24);
    life.host.folder(INBOX).deliver(&mail(7, 600));
    life.host.folder(INBOX).flag(2, 1);
    life.backup();
    life.hours(24);
    let sent = life.host.folders.remove(SENT).expect("a folder");
    life.host.folders.insert(String::from("user.anna.Outbox"), sent);
    life.backup();
    life.hours(24);
    life.host.folder(INBOX).deliver(&mail(8, 70_000));
    life.backup();
    life
}

#[derive(Clone, Debug)]
struct Member {
    kind: Kind,
    range: Range<usize>,
}

fn members(bytes: &[u8]) -> Vec<Member> {
    let (mut all, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let info = member::parse_header(&bytes[at..]).expect("an undamaged member");
        all.push(Member { kind: info.kind, range: at..at + info.len as usize });
        at += info.len as usize;
    }
    all
}

fn bytes(life: &Life) -> Vec<u8> {
    life.disk.content(&archive()).expect("an archive").to_vec()
}

/// The same life with an archive of these bytes.
fn with(life: &Life, bytes: Vec<u8>) -> Life {
    let mut life = life.clone();
    life.disk.put_file(&archive(), bytes);
    life
}

/// The messages of the archive that are whole, and the numbers of the snapshots that can be listed.
fn have(life: &mut Life) -> (BTreeSet<Guid>, Vec<u64>) {
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &life::dir()).await?;
        let mut whole = BTreeSet::new();
        for message in reader.all_messages().await?.0 {
            if reader.copy_message(&message, &mut |_| true).await.is_ok() {
                whole.insert(message.guid);
            }
        }
        let numbers = view::snapshots(&reader).await?.iter().map(|at| at.commit.number).rev().collect();
        reader.close().await;
        Ok::<_, Error>((whole, numbers))
    };
    drive(&mut life.disk, procedure).finished().unwrap_or_else(|e: Error| panic!("reading back: {e}"))
}

fn all_messages(life: &Life) -> BTreeSet<Guid> {
    have(&mut life.clone()).0
}

/// Rows of the newest table that say that a message is lost.
fn lost_rows(life: &mut Life) -> Vec<(String, MissingRow)> {
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &life::dir()).await?;
        let table = reader.table(reader.head()).await;
        reader.close().await;
        let rows = table?.folders.into_iter().flat_map(|row| {
            let name = String::from_utf8_lossy(&row.name).into_owned();
            row.missing.into_iter().map(move |missing| (name.clone(), missing))
        });
        Ok::<_, Error>(rows.filter(|(_, row)| row.why == Absence::Lost).collect())
    };
    drive(&mut life.disk, procedure).finished().unwrap_or_else(|e: Error| panic!("{e}"))
}

#[test]
fn a_good_archive_is_not_touched() {
    let mut life = past();
    let before = life.disk.store();
    let outcome = drive(&mut life.disk, |io| repairing(io, settings())).finished();
    assert_eq!(outcome, Ok(Outcome::Good(Vec::new())));
    assert_eq!(life.disk.store(), before);
    assert_eq!(life.disk.open_files(), 0);
}

#[test]
fn nobody_gets_a_directory_by_being_repaired() {
    let mut disk = SimDisk::new();
    let outcome = drive(&mut disk, |io| repairing(io, settings())).finished();
    assert!(matches!(outcome, Err(Error::World { fault: Fault::NotFound, doing: "open", .. })), "{outcome:?}");
    assert!(disk.store().is_empty());
}

/// One flipped byte in every region of every member: header, deflate stream, trailer.
#[test]
fn one_flipped_byte_anywhere_is_found_and_costs_what_it_hit() {
    let life = past();
    let (good, all) = (bytes(&life), all_messages(&life));
    let mut counts: BTreeMap<usize, u32> = BTreeMap::new();
    for Member { kind, range } in members(&good) {
        let middle = range.start + range.len() / 2;
        for at in [
            range.start + 1,
            range.start + 20,
            range.start + 33,
            range.start + HEADER_LEN + 3,
            middle,
            range.end - 6,
            range.end - 2,
        ] {
            let mut bad = good.clone();
            bad[at] ^= 0x04;
            let mut life = with(&life, bad.clone());
            let label = format!("byte {at}, in the member of kind {kind:?} at {range:?}");
            if kind == Kind::Footer && !is_found(&mut life) {
                // So does a file look whose writer was killed in the middle of it; the next run mends it.
                let end = drive(&mut life.disk, verdict).finished().map(|(_, end)| end);
                assert_eq!(end, Ok(End::Interrupted), "{label}");
                continue;
            }
            assert!(is_found(&mut life), "verify does not find {label}");
            let told = repaired(&mut life);
            assert_eq!(life.disk.content(&aside(&life, &told)), Some(&bad[..]), "{label}");
            life.is_good();
            let (whole, numbers) = have(&mut life);
            assert_eq!(numbers, [1, 2, 3, 4], "{label}");
            let lost: BTreeSet<Guid> = all.difference(&whole).copied().collect();
            assert_eq!(told.rewritten.lost.keys().copied().collect::<BTreeSet<_>>(), lost, "{label}");
            // Only a flip in the deflate stream of messages costs any.
            let may_lose = kind == Kind::Data && (range.start + HEADER_LEN..range.end - 8).contains(&at);
            assert!(lost.is_empty() || may_lose, "{label}: {lost:?}");
            *counts.entry(lost.len()).or_default() += 1;
            let again = drive(&mut life.disk, |io| repairing(io, settings())).finished();
            assert_eq!(again, Ok(Outcome::Good(Vec::new())), "{label}");
        }
    }
    println!("messages lost, and how often: {counts:?}");
    assert!(counts.contains_key(&1), "some flip must cost a message: {counts:?}");
}

fn aside(life: &Life, told: &Repaired) -> cylinder_core::io::Place {
    let name = told.aside.clone().expect("an aside file");
    assert!(life.disk.store().contains_key(&name), "{name}");
    cylinder_core::io::Place::store(name)
}

/// Stored members have a place of their own for each byte of each entry.
fn stored(batches: &[Batch], id: [u8; 16]) -> SimDisk {
    let mut disk = SimDisk::new();
    let (acknowledged, settings) = (Cell::new(0), story::stored());
    let run = drive(&mut disk, |io: Io| story::run_with(io, batches, &acknowledged, &settings, id));
    run.finished().expect("a run that nothing disturbs");
    disk
}

fn story_of_three() -> Vec<Batch> {
    let batch = |n: u64, sizes: &[usize]| {
        snapshot(n, sizes.iter().enumerate().map(|(i, &size)| mail(10 * n + i as u64, size)).collect())
    };
    vec![batch(1, &[600, 900, 300, 1200]), batch(2, &[700]), batch(3, &[800, 66_000])]
}

async fn repairing_story(io: Io) -> Result<Outcome, Error> {
    repair::run(&io, &story::dir(), &life::anna(), &settings()).await
}

/// The peer lost 142 of 308 messages to one byte; here it is one, or none.
#[test]
fn a_flipped_byte_costs_one_entry_and_not_its_member() {
    let story = story_of_three();
    let disk = stored(&story, *b"sixteen bytes id");
    let good = disk.content(&story::archive()).expect("an archive").to_vec();
    let messages: Vec<Vec<u8>> = story.iter().flat_map(|batch| batch.messages.clone()).collect();
    let (mut hit, mut flips) = (0, 0);
    // In the five bytes before a stored block, its length and its kind, a flip takes the block.
    let heads: Vec<Range<usize>> =
        members(&good).iter().map(|m| m.range.start + HEADER_LEN..m.range.start + HEADER_LEN + 5).collect();
    for at in (0..good.len() - FOOTER_LEN).step_by(61).filter(|at| !heads.iter().any(|head| head.contains(at))) {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let mut disk = disk.clone();
        disk.put_file(&story::archive(), bad);
        let outcome = drive(&mut disk, repairing_story).finished();
        let Ok(Outcome::Done(told)) = outcome else { panic!("byte {at}: {outcome:?}") };
        let found = drive(&mut disk, check::read_all).finished();
        let found = found.unwrap_or_else(|e| panic!("byte {at}: {e}\n{told:#?}"));
        let kept: BTreeSet<Vec<u8>> = found.iter().flat_map(|found| found.messages.clone()).collect();
        let lost = messages.iter().filter(|message| !kept.contains(*message)).count();
        assert!(lost <= 1, "byte {at} costs {lost} messages: {told:#?}");
        assert_eq!(found.iter().filter(|found| found.snapshot).count(), 3, "byte {at}: {told:#?}");
        let indexes = found.iter().filter(|found| found.index.is_none()).count();
        assert!(indexes + lost <= 1, "byte {at} costs {lost} messages and {indexes} indexes");
        hit += lost;
        flips += 1;
    }
    println!("{flips} flips cost {hit} messages");
    assert!(hit > 0 && hit < flips);
}

#[test]
fn a_zeroed_sector_costs_what_it_touches() {
    let life = past();
    let (good, all) = (bytes(&life), all_messages(&life));
    // The large message in the middle has nothing new to show.
    let sectors = good.len() / BLOCK;
    for sector in (0..=sectors).filter(|n| *n < 12 || *n + 40 > sectors || n % 13 == 0) {
        let mut bad = good.clone();
        let range = sector * BLOCK..((sector + 1) * BLOCK).min(good.len());
        if range.is_empty() {
            continue;
        }
        bad[range.clone()].fill(0);
        let mut life = with(&life, bad);
        if range.end == good.len()
            && range.start > members(&good).iter().rfind(|m| m.kind == Kind::Commit).expect("one").range.start
        {
            // Nothing but the end of the last commit: so does a file look whose writer lost its power; the next run mends it.
            let judged = drive(&mut life.disk, verdict).finished().map(|(verdict, end)| (verdict.is_good(), end));
            assert_eq!(judged, Ok((false, End::Interrupted)));
            continue;
        }
        assert!(is_found(&mut life), "{range:?}");
        let told = repaired(&mut life);
        life.is_good();
        let (whole, _) = have(&mut life);
        let touched: Vec<Member> =
            members(&good).into_iter().filter(|m| m.range.start < range.end && range.start < m.range.end).collect();
        if !touched.iter().any(|m| m.kind == Kind::Data) {
            assert_eq!(whole, all, "{range:?} {touched:?}: {told:#?}");
        }
        assert!(told.rewritten.lost.len() as u64 + told.rewritten.messages == all.len() as u64, "{range:?}: {told:#?}");
    }
}

#[test]
fn an_archive_one_byte_short_is_not_begun_anew() {
    let life = past();
    let (good, all) = (bytes(&life), all_messages(&life));
    let before = life.clone().snapshots();
    let mut short = with(&life, good[..good.len() - 1].to_vec());
    // Without its footer, as if a run had been killed there: verify says that the end is missing, and the next run mends it.
    assert_eq!(drive(&mut short.disk, verdict).finished().map(|(v, end)| (v.is_good(), end)), Ok((false, End::Interrupted)));
    short.backup();
    assert_eq!(short.snapshots(), before);
    // One byte short in the middle, so that everything behind is elsewhere.
    let hole = members(&good).iter().find(|m| m.kind == Kind::Table).expect("a table").range.start + 50;
    let mut bad = good.clone();
    bad.remove(hole);
    let mut life = with(&life, bad);
    assert!(is_found(&mut life));
    repaired(&mut life);
    life.is_good();
    assert_eq!(have(&mut life), (all, vec![1, 2, 3, 4]));
}

#[test]
fn the_tail_of_another_archive_is_not_taken_in() {
    let story = story_of_three();
    let disk = stored(&story, *b"sixteen bytes id");
    let other = vec![snapshot(1, vec![mail(901, 500)]), snapshot(2, vec![mail(902, 700)])];
    let other = stored(&other, *b"of somebody else");
    let (good, foreign) = (disk.content(&story::archive()).expect("one"), other.content(&story::archive()).expect("two"));
    let secrets: Vec<String> = [mail(901, 500), mail(902, 700)].iter().map(|m| Guid::of(m).to_hex()).collect();
    let commit = members(good).into_iter().rfind(|m| m.kind == Kind::Commit).expect("a commit").range;
    for keep in [good.len(), good.len() - 95, good.len() - 60, commit.start + 40] {
        for from in [0, members(foreign)[2].range.start, 3000] {
            let mut disk = disk.clone();
            disk.put_file(&story::archive(), [&good[..keep], &foreign[from..]].concat());
            let outcome = drive(&mut disk, repairing_story).finished();
            let Ok(Outcome::Done(told)) = outcome else { panic!("{keep} {from}: {outcome:?}") };
            assert!(told.findings_count > 0);
            // A record that is made anew is not the one that was lost, but has what that had.
            let found = drive(&mut disk, check::read_all).finished();
            let found = found.unwrap_or_else(|why| panic!("{keep} {from}: {why}\n{told:#?}"));
            let kept: Vec<&Vec<u8>> = found.iter().flat_map(|found| &found.messages).collect();
            let had: Vec<&Vec<u8>> = story.iter().flat_map(|batch| &batch.messages).collect();
            assert!(found.len() == 3 && had.iter().all(|message| kept.contains(message)), "{keep} {from}: {told:#?}");
            let bytes = disk.content(&story::archive()).expect("an archive");
            let found = |secret: &String| bytes.windows(40).any(|window| window == secret.as_bytes());
            assert!(!secrets.iter().any(found), "{keep} {from}: another user's mail was taken in");
        }
    }
}

/// A table or a record that stood in another place cost every message between it and where it belonged.
#[test]
fn members_that_have_changed_places_cost_nothing() {
    let life = past();
    let good = bytes(&life);
    let (all, before) = (have(&mut life.clone()), life.clone().snapshots());
    let alone = |m: &Member| {
        let info = member::parse_header(&good[m.range.clone()]).expect("a member");
        m.kind != Kind::Footer && info.flags & (member::CONTINUES | member::TO_BE_CONTINUED) == 0
    };
    let members: Vec<Member> = members(&good).into_iter().filter(alone).collect();
    let pairs = (0..members.len()).flat_map(|a| (a + 1..members.len()).map(move |b| (a, b)));
    let mut swaps = 0;
    for (a, b) in pairs {
        let (first, second) = (&members[a], &members[b]);
        // All pairs of which one is a table or a record, and some of the others.
        let is_close = matches!(first.kind, Kind::Table | Kind::Commit) || matches!(second.kind, Kind::Table | Kind::Commit);
        if !is_close && (a + b) % 7 != 0 {
            continue;
        }
        swaps += 1;
        let (x, y) = (first.range.clone(), second.range.clone());
        let swapped = [&good[..x.start], &good[y.clone()], &good[x.end..y.start], &good[x.clone()], &good[y.end..]].concat();
        let mut life = with(&life, swapped);
        let outcome = drive(&mut life.disk, |io| repairing(io, settings())).finished();
        let told = outcome.unwrap_or_else(|error| panic!("{first:?} and {second:?}: {error}"));
        let now = have(&mut life);
        let is_all_there = now.0 == all.0 && all.1.iter().all(|number| now.1.contains(number));
        assert!(is_all_there, "{first:?} and {second:?}: {} {:?}: {told:#?}", now.0.len(), now.1);
        let after = life.snapshots();
        let differs: Vec<&u64> = before.iter().filter(|(n, state)| after.get(n) != Some(state)).map(|(n, _)| n).collect();
        assert!(differs.is_empty(), "{first:?} and {second:?}: snapshots {differs:?} are others: {told:#?}");
    }
    println!("{swaps} pairs of {} members changed places", members.len());
    assert!(swaps > 100);
}

/// A repair that ran out of space left its new file and a part of the copy, one more with each try.
#[test]
fn a_repair_that_runs_out_of_space_leaves_nothing_behind() {
    let (life, ..) = damaged();
    let before: Vec<String> = life.disk.store().into_keys().collect();
    for at in 1.. {
        let mut life = life.clone();
        life.disk.plan(at, Trouble::Fail(Fault::NoSpace));
        let outcome = drive(&mut life.disk, |io| repairing(io, settings())).finished();
        if life.disk.unplan() {
            assert!(at > 50, "a repair has more than {at} operations");
            break;
        }
        if outcome.is_err() {
            let after: Vec<String> = life.disk.store().into_keys().collect();
            let extra: Vec<&String> = after.iter().filter(|name| !before.contains(name) && !name.ends_with("/lock")).collect();
            // What could not be removed itself stays, once.
            assert!(extra.len() <= 1, "operation {at}: {outcome:?}: {extra:?}");
            let again = drive(&mut life.disk, |io| repairing(io, settings())).finished();
            assert!(again.is_ok(), "{again:?}");
            let new = life.disk.store().into_keys().filter(|name| name.ends_with(".new")).count();
            assert_eq!(new, 0);
        }
    }
}

#[test]
fn a_lost_commit_record_is_made_anew() {
    let life = past();
    let (good, before) = (bytes(&life), life.clone().snapshots());
    let commits: Vec<Member> = members(&good).into_iter().filter(|m| m.kind == Kind::Commit).collect();
    assert_eq!(commits.len(), 5);
    // All of them but the first, one at a time, and all together.
    let mut sets: Vec<Vec<Member>> = commits[1..].iter().map(|m| vec![m.clone()]).collect();
    sets.push(commits.clone());
    for set in sets {
        let mut bad = good.clone();
        set.iter().for_each(|m| bad[m.range.clone()].fill(0));
        let mut life = with(&life, bad);
        let told = repaired(&mut life);
        life.is_good();
        let after = life.snapshots();
        if set.len() == 1 {
            assert_eq!((told.rebuilt, &after), (1, &before), "{set:?}");
        } else {
            // Nothing tells the numbers any more.
            assert!(after.values().eq(before.values()) && told.rebuilt == 4, "{:?}", after.keys());
        }
        assert!(told.rewritten.lost.is_empty());
        life.host.folder(INBOX).deliver(&mail(50, 400));
        let report = life.backup();
        assert_eq!((report.messages_added, report.alarms.len()), (1, 0));
        life.is_good();
    }
}

/// More days of it: a script, annotations of a folder and the folder itself are there, and then not any more.
fn past_with_farewells() -> Life {
    let mut life = past();
    let (inbox, outbox) = (life.host.folders[INBOX].id.clone(), life.host.folders["user.anna.Outbox"].id.clone());
    let script = format!("/var/spool/sieve/uuid/{}/{}/{inbox}/main.script", &inbox[..1], &inbox[1..2]);
    let annotations = String::from("/var/lib/cyrus/annotations.db");
    let note = (emit_key(outbox.as_bytes(), b"/comment", OWNER_TOKEN), emit_value(b"a note"));
    life.host.files.insert(script.clone(), b"keep;\r\n".to_vec());
    life.host.files.insert(annotations.clone(), twoskip::emit(&[note], 1));
    life.host.folder(INBOX).flag(3, 1);
    life.backup();
    life.hours(24);
    life.host.files.remove(&script);
    life.host.files.remove(&annotations);
    life.host.folder(INBOX).flag(3, 0);
    life.backup();
    life.hours(24);
    life.host.folders.remove("user.anna.Outbox");
    life.host.folder(INBOX).flag(4, 1);
    life.backup();
    let all = life.snapshots();
    let has = |n: u64, name: &str| all[&n].states.contains_key(name) || all[&n].metadata.contains_key(name);
    let note = "INBOX.Outbox cyrus.mailbox_annotations";
    assert_eq!([5, 6, 7].map(|n| (has(n, "sieve/main.script"), has(n, note))), [(true, true), (false, false), (false, false)]);
    assert_eq!([6, 7].map(|n| all[&n].folders.contains_key("INBOX.Outbox")), [true, false]);
    life
}

#[test]
fn what_went_does_not_come_back_in_a_table_that_is_made_anew() {
    tables_are_made_anew(past_with_farewells());
}

#[test]
fn a_lost_table_is_made_anew_of_the_entries_before_it() {
    tables_are_made_anew(past());
}

#[track_caller]
fn tables_are_made_anew(life: Life) {
    let (good, before) = (bytes(&life), life.clone().snapshots());
    let all = members(&good);
    for (n, table) in all.iter().enumerate().filter(|(_, m)| m.kind == Kind::Table) {
        let mut bad = good.clone();
        bad[table.range.clone()].fill(0);
        let mut one = with(&life, bad.clone());
        let told = repaired(&mut one);
        one.is_good();
        assert_eq!((told.rebuilt, one.snapshots()), (1, before.clone()), "{table:?}");
        // And its record too: the next snapshot takes over what it brought, or the end makes one.
        bad[all[n + 1].range.clone()].fill(0);
        let mut both = with(&life, bad);
        repaired(&mut both);
        both.is_good();
        let after = both.snapshots();
        assert_eq!(after.last_key_value().map(|(_, state)| state), before.last_key_value().map(|(_, state)| state));
        assert!(after.len() >= before.len() - 1);
        assert_eq!(have(&mut both).0, all_messages(&life));
    }
}

#[test]
fn the_next_run_goes_on_and_fetches_what_is_lost_and_nothing_else() {
    let life = past();
    let good = bytes(&life);
    for m in members(&good).iter().filter(|m| matches!(m.kind, Kind::Data | Kind::Meta)) {
        let mut bad = good.clone();
        bad[m.range.start + HEADER_LEN..m.range.end].fill(0);
        let mut life = with(&life, bad);
        let told = repaired(&mut life);
        let lost = told.rewritten.lost.len() as u64;
        assert_eq!(lost > 0, m.kind == Kind::Data, "{m:?}: {told:#?}");
        assert_eq!(told.rewritten.lost_files.is_empty(), m.kind == Kind::Data, "{m:?}: {told:#?}");
        let rows = lost_rows(&mut life);
        assert_eq!(rows.len() as u64, lost, "{m:?}");
        for (folder, row) in rows {
            let place = told.rewritten.lost[&row.guid.expect("a GUID")].clone().expect("a place");
            assert_eq!((String::from_utf8_lossy(&place.folder).into_owned(), place.uid), (folder, row.uid));
        }
        let report = life.backup();
        assert_eq!((report.messages_added, report.alarms.len(), report.problems_count), (lost, 0, 0), "{m:?}");
        life.is_good();
        let newest = life.snapshots().pop_last().expect("a snapshot").1;
        assert_eq!(newest.folders, life.folders(), "{m:?}");
        assert!(lost_rows(&mut life).is_empty());
        assert_eq!(life.backup().commit, None, "{m:?}");
    }
}

#[test]
fn healing_brings_back_what_damage_took_before_and_after_a_repair() {
    let life = past();
    let (good, all, before) = (bytes(&life), all_messages(&life), life.clone().snapshots());
    for m in members(&good).iter().filter(|m| m.kind == Kind::Data) {
        for repair_first in [true, false] {
            let mut bad = good.clone();
            bad[m.range.start + HEADER_LEN..m.range.end].fill(0);
            let mut life = with(&life, bad);
            if repair_first {
                repaired(&mut life);
            }
            let healed = drive(&mut life.disk, healing).finished().unwrap_or_else(|e| panic!("{e}"));
            assert!(!healed.healed.is_empty() && healed.lost.is_empty(), "{m:?}: {healed:?}");
            if !repair_first {
                // The damaged bytes are still there, and a repair drops them.
                assert!(is_found(&mut life));
                assert!(repaired(&mut life).rewritten.lost.is_empty());
            }
            life.is_good();
            assert_eq!(have(&mut life).0, all);
            // Every snapshot is whole again, the old ones too.
            let after = life.snapshots();
            assert!(before.iter().all(|(number, state)| after.get(number) == Some(state)), "{m:?}");
            assert_eq!(after.last_key_value().map(|(_, state)| &state.folders), Some(&life.folders()));
            let again = drive(&mut life.disk, healing).finished();
            assert_eq!(again, Ok(Healed::default()), "nothing is lost any more");
        }
    }
}

/// A message is found wherever it is now, and one that the server does not have is told.
#[test]
fn healing_looks_for_messages_by_guid_in_all_folders() {
    let mut life = past();
    let good = bytes(&life);
    let (moved, gone) = (mail(0, 900), mail(1, 900));
    // Both are in one member with others that stay on the server.
    let m = members(&good).into_iter().find(|m| m.kind == Kind::Data).expect("messages");
    let mut bad = good.clone();
    bad[m.range.start + HEADER_LEN..m.range.end].fill(0);
    life.disk.put_file(&archive(), bad);
    repaired(&mut life);
    let inbox = life.host.folder(INBOX);
    inbox.messages.retain(|m| *m.content != moved && *m.content != gone);
    inbox.modseq += 1;
    life.host.folder("user.anna.Elsewhere").deliver(&moved);
    life.host.publish(&mut life.disk);
    life.hours(1);
    let healed = drive(&mut life.disk, healing).finished().unwrap_or_else(|e| panic!("{e}"));
    assert!(healed.healed.contains(&Guid::of(&moved)));
    assert_eq!(healed.lost, [Guid::of(&gone)]);
    life.is_good();
    let again = drive(&mut life.disk, healing).finished().unwrap_or_else(|e| panic!("{e}"));
    assert_eq!((again.healed.len(), again.lost), (0, vec![Guid::of(&gone)]), "it stays known as lost");
}

#[test]
fn what_a_killed_run_left_becomes_a_snapshot_as_far_as_it_is_whole() {
    let life = past();
    let mut running = life.clone();
    running.host.folder(INBOX).deliver(&mail(60, 70_000));
    running.host.folder(INBOX).deliver(&mail(61, 300));
    running.host.publish(&mut running.disk);
    let mut states = Vec::new();
    drive_watched(&mut running.disk, life::backup, &mut |disk, op| {
        if matches!(op, Op::WriteAt { .. }) {
            states.push(disk.clone());
        }
    })
    .finished()
    .expect("the run itself");
    let before = life.clone().snapshots();
    for mut disk in states {
        disk.kill();
        let mut killed = Life { disk, host: running.host.clone() };
        // Damage elsewhere, so that there is something to repair.
        let mut bytes = bytes(&killed);
        bytes[HEADER_LEN + 5] ^= 1;
        killed.disk.put_file(&archive(), bytes);
        repaired(&mut killed);
        killed.is_good();
        let after = killed.snapshots();
        assert!(before.iter().all(|(number, state)| after.get(number) == Some(state)));
        assert!(after.len() <= before.len() + 1);
        killed.backup();
        assert_eq!(killed.snapshots().pop_last().map(|(_, state)| state.folders), Some(killed.folders()));
    }
}

#[test]
fn holds_and_alarms_and_the_chain_survive() {
    let mut life = past();
    life.mark(cylinder_core::archive::append::Mark::Hold);
    let head = life.head();
    let mut bad = bytes(&life);
    bad[HEADER_LEN + 5] ^= 1;
    life.disk.put_file(&archive(), bad);
    repaired(&mut life);
    let after = life.head();
    assert_eq!((after.commit.hold, after.commit.number), (head.commit.hold, head.commit.number));
    assert_eq!(after.commit.compacted.map(|c| c.head), Some(head.part.sha1), "the new chain says what it continues");
    assert_eq!(after.commit.archive, head.commit.archive);
}

#[test]
fn a_dry_run_tells_and_writes_nothing() {
    let life = past();
    let good = bytes(&life);
    let m = members(&good).into_iter().find(|m| m.kind == Kind::Data).expect("messages");
    let mut bad = good.clone();
    bad[m.range.start + HEADER_LEN..m.range.end].fill(0);
    let mut life = with(&life, bad);
    let before = life.disk.store();
    let dry = Settings { dry_run: true, ..settings() };
    let outcome = drive(&mut life.disk, |io| repairing(io, dry)).finished();
    let Ok(Outcome::Would(told)) = outcome else { panic!("{outcome:?}") };
    assert!(told.findings_count > 0 && !told.rewritten.lost.is_empty());
    let mut after = life.disk.store();
    after.retain(|name, _| !name.ends_with("/lock"));
    let before: BTreeMap<String, Vec<u8>> = before.into_iter().filter(|(name, _)| !name.ends_with("/lock")).collect();
    assert_eq!(after, before);
}

#[test]
fn what_was_set_aside_goes_when_somebody_says_so() {
    let mut life = past();
    for n in [5, 9] {
        let mut bad = bytes(&life);
        bad[HEADER_LEN + n] ^= 1;
        life.disk.put_file(&archive(), bad);
        repaired(&mut life);
    }
    let asides = |life: &Life| life.disk.store().keys().filter(|name| name.contains(".aside-")).cloned().collect::<Vec<_>>();
    assert_eq!(asides(&life).len(), 2, "none takes the place of another");
    let outcome = drive(&mut life.disk, |io| repairing(io, Settings { drop_aside: true, ..settings() })).finished();
    assert!(matches!(outcome, Ok(Outcome::Good(dropped)) if dropped.len() == 2));
    assert!(asides(&life).is_empty());
}

/// Crashes between all operations of a repair, or of healing, and in the middle of their writes.
struct Sweep {
    before: BTreeSet<Guid>,
    good: BTreeSet<Guid>,
    seen: BTreeSet<Guid>,
    crashes: u64,
}

impl Sweep {
    fn points<T, F: Future<Output = T>>(life: &Life, make: impl FnOnce(Io) -> F) -> Vec<SimDisk> {
        let (mut disk, mut points) = (life.disk.clone(), Vec::new());
        let mut changes = disk.changes();
        drive_watched(&mut disk, make, &mut |disk, op| {
            if std::mem::replace(&mut changes, disk.changes()) != disk.changes() {
                points.push(disk.clone());
            }
            points.extend(torn(disk, op));
        })
        .finished();
        points.push(disk);
        points
    }

    fn all(&mut self, life: &Life, points: Vec<SimDisk>, effort: Effort) {
        for point in points {
            for (how, after) in crashes(&point, effort) {
                self.crashes += 1;
                if !self.seen.insert(after.digest()) {
                    continue;
                }
                let judged = self.recover(&after, life);
                judged.unwrap_or_else(|why| panic!("{how}: {why}\n{}", after.clone().take_transcript()));
            }
        }
    }

    /// Either archive is there; a repair, and then a run, work; after that nothing that was whole is gone, even if the power
    /// fails then.
    fn recover(&self, disk: &SimDisk, life: &Life) -> Result<(), String> {
        let mut life = Life { disk: disk.clone(), host: life.host.clone() };
        if life.disk.content(&archive()).is_none() {
            return Err(String::from("there is no archive"));
        }
        let again = drive(&mut life.disk, |io| repairing(io, settings())).finished();
        again.map_err(|e| format!("repairing: {e}"))?;
        let (whole, numbers) = have(&mut life);
        if numbers != [1, 2, 3, 4] && numbers != [1, 2, 3, 4, 5] && numbers != [1, 2, 3, 4, 6] {
            return Err(format!("snapshots {numbers:?}"));
        }
        if !self.good.is_subset(&whole) {
            return Err(String::from("something that was whole is gone"));
        }
        let uid = life.host.folder(INBOX).deliver(&mail(99, 700));
        life.host.publish(&mut life.disk);
        life.hours(1);
        let report = drive(&mut life.disk, life::backup).finished().map_err(|e| format!("the next run: {e}"))?;
        report.commit.ok_or("the next run saw nothing new")?;
        life.disk.lose_power(&mut first_of_all());
        let (whole, _) = have(&mut life);
        if !self.before.is_subset(&whole) {
            return Err(String::from("the next run has not brought back what was lost"));
        }
        let newest = life.snapshots_of_newest();
        if !newest["INBOX"].contains_key(&uid) {
            return Err(String::from("the new message is gone"));
        }
        Ok(())
    }
}

/// What the newest snapshot has.
trait Newest {
    fn snapshots_of_newest(&mut self) -> BTreeMap<String, BTreeMap<u32, life::Held>>;
}

impl Newest for Life {
    fn snapshots_of_newest(&mut self) -> BTreeMap<String, BTreeMap<u32, life::Held>> {
        self.snapshots().pop_last().expect("a snapshot").1.folders
    }
}

/// A damaged archive without large messages, so that a sweep is quick.
fn damaged() -> (Life, BTreeSet<Guid>, BTreeSet<Guid>) {
    let mut life = Life::new();
    life.host.folder(INBOX).deliver(&mail(1, 900));
    life.host.folder(SENT).deliver(&mail(2, 70_000));
    life.backup();
    for n in 3..6 {
        life.hours(24);
        life.host.folder(INBOX).deliver(&mail(n, 600));
        life.backup();
    }
    let (good, all) = (bytes(&life), all_messages(&life));
    let m = members(&good).into_iter().find(|m| m.kind == Kind::Data && m.range.len() > 20_000).expect("the large one");
    let mut bad = good.clone();
    bad[m.range.start + HEADER_LEN..m.range.end].fill(0);
    life.disk.put_file(&archive(), bad);
    let mut kept = all.clone();
    kept.remove(&Guid::of(&mail(2, 70_000)));
    (life, all, kept)
}

#[test]
fn no_crash_of_a_repair_loses_either_archive() {
    let (life, before, good) = damaged();
    let mut sweep = Sweep { before, good, seen: BTreeSet::new(), crashes: 0 };
    let points = Sweep::points(&life, |io| repairing(io, settings()));
    sweep.all(&life, points, Effort { enumerate_up_to: 5, samples: 10 });
    println!("{} crashes of a repair, {} different states", sweep.crashes, sweep.seen.len());
    assert!(sweep.seen.len() > 50);
}

#[test]
fn no_crash_of_healing_loses_anything() {
    let (mut life, before, good) = damaged();
    repaired(&mut life);
    let mut sweep = Sweep { before, good, seen: BTreeSet::new(), crashes: 0 };
    let points = Sweep::points(&life, healing);
    sweep.all(&life, points, Effort { enumerate_up_to: 5, samples: 10 });
    println!("{} crashes of healing, {} different states", sweep.crashes, sweep.seen.len());
    assert!(sweep.seen.len() > 20);
}

/// The sweep can fail: a disk that says it synced a directory and did not loses what is acknowledged afterwards.
#[test]
fn a_directory_that_is_not_synced_is_found_out() {
    let (mut life, before, good) = damaged();
    life.disk.lie(Lie::SyncDir);
    repaired(&mut life);
    let mut after = life.disk.clone();
    after.lose_power(&mut first_of_all());
    let sweep = Sweep { before, good, seen: BTreeSet::new(), crashes: 0 };
    // The old file is under the name again, and the kept copy is gone; so is what the next run acknowledges.
    assert!(!after.store().keys().any(|name| name.ends_with("-damaged")));
    assert_eq!(sweep.recover(&after, &life), Err(String::from("the next run has not brought back what was lost")));
}

#[test]
fn a_failing_operation_ends_a_repair_clearly_and_loses_nothing() {
    let (life, _, good) = damaged();
    for trouble in [Trouble::Fail(Fault::NoSpace), Trouble::Fail(Fault::Os(5)), Trouble::Forget(Fault::Os(5))] {
        for at in 1.. {
            let mut life = life.clone();
            life.disk.take_transcript();
            life.disk.plan(at, trouble);
            let outcome = drive(&mut life.disk, |io| repairing(io, settings())).finished();
            if life.disk.unplan() {
                assert!(at > 50, "a repair has more than {at} operations");
                break;
            }
            let shown = format!("{trouble:?} at operation {at}: {outcome:?}\n{}", life.disk.take_transcript());
            assert_eq!(life.disk.open_files(), 0, "{shown}");
            match outcome {
                Ok(_) => {}
                Err(Error::World { object, .. }) if !object.is_empty() => {}
                Err(_) => panic!("not clear: {shown}"),
            }
            life.disk.kill();
            life.disk.lose_power(&mut first_of_all());
            let again = drive(&mut life.disk, |io| repairing(io, settings())).finished();
            assert!(again.is_ok(), "{again:?}: {shown}");
            assert!(good.is_subset(&have(&mut life).0), "{shown}");
        }
    }
}

/// Other tools take an archive apart and put it together again: what is left has no members of ours.
#[test]
fn an_archive_that_other_tools_have_rewritten_is_indexed_anew() {
    let life = past();
    let (before, all) = (life.clone().snapshots(), all_messages(&life));
    let newest = before.last_key_value().expect("a snapshot").1;
    let shell = |script: &str, input: &[u8]| -> Vec<u8> {
        use std::io::Write;
        let mut child =
            Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("sh");
        let mut stdin = child.stdin.take().expect("its input");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || stdin.write_all(&input));
        let output = child.wait_with_output().expect("its output");
        writer.join().expect("a thread").expect("all of it read");
        assert!(output.status.success());
        output.stdout
    };
    out(&run(tool("tar", "tar").arg("--version")));
    let inflated_again = shell("gzip -dc | gzip -1", &bytes(&life));
    let plain = shell("gzip -dc", &bytes(&life));
    let packed = "d=$(mktemp -d) && gzip -dc | tar xf - -C $d; tar czf - -C $d . && rm -rf $d";
    let packed = shell(packed, &bytes(&life));
    for (label, file, whole) in
        [("gzipped again", inflated_again, true), ("gunzipped", plain, true), ("packed again", packed, false)]
    {
        let mut life = with(&life, file);
        assert!(is_found(&mut life), "{label}");
        let told = repaired(&mut life);
        life.is_good();
        let after = life.snapshots();
        if whole {
            // The order of entries is that of ours, so all of it is there.
            assert_eq!(after, before, "{label}: {told:#?}");
        } else {
            assert_eq!(after.values().collect::<Vec<_>>(), [newest], "{label}: {told:#?}");
        }
        assert!(have(&mut life).0 == all, "{label}");
        life.host.folder(INBOX).deliver(&mail(50, 400));
        let report = life.backup();
        assert_eq!((report.messages_added, report.alarms.len(), report.problems_count), (1, 0, 0), "{label}");
        life.is_good();
        assert_eq!(life.snapshots().pop_last().map(|(_, state)| state.folders), Some(life.folders()), "{label}");
    }
}

#[test]
fn without_commits_and_tables_the_newest_state_is_told_from_names() {
    let life = past();
    let mut bad = bytes(&life);
    let all = all_messages(&life);
    for m in members(&bad.clone()) {
        if matches!(m.kind, Kind::Commit | Kind::Table | Kind::List | Kind::Head) {
            bad[m.range].fill(0);
        }
    }
    let newest = life.clone().snapshots().pop_last().expect("a snapshot").1;
    let mut life = with(&life, bad);
    let told = repaired(&mut life);
    assert!(told.reindexed);
    life.is_good();
    let after = life.snapshots().pop_last().expect("a snapshot").1;
    assert_eq!(after, newest);
    assert_eq!(have(&mut life).0, all);
    let head = life.head();
    assert_eq!((head.commit.kind, head.commit.number), (CommitKind::Snapshot, 1));
}

/// For tar alone, too: the later of two entries of one name is empty. And it does not come back when all is told from names.
#[test]
fn a_script_that_was_deleted_stays_deleted() {
    let mut life = past();
    let id = life.host.folders[INBOX].id.clone();
    let path = |name: &str| format!("/var/spool/sieve/uuid/{}/{}/{id}/{name}", &id[..1], &id[1..2]);
    for name in ["main.script", "holiday.script"] {
        life.host.files.insert(path(name), b"keep;\r\n".to_vec());
    }
    life.backup();
    let before = life.snapshots().pop_last().expect("a snapshot").1;
    life.host.files.remove(&path("holiday.script"));
    life.hours(1);
    life.backup();
    life.is_good();
    let newest = life.snapshots().pop_last().expect("a snapshot").1;
    assert!(before.states.contains_key("sieve/holiday.script") && !newest.states.contains_key("sieve/holiday.script"));
    let foreign = check::foreign_entries(&bytes(&life)).expect("entries");
    assert_eq!((foreign["sieve/holiday.script"].len(), foreign["sieve/main.script"].len()), (0, 7));
    let mut bad = bytes(&life);
    for m in members(&bad.clone()) {
        if matches!(m.kind, Kind::Commit | Kind::Table | Kind::List | Kind::Head) {
            bad[m.range].fill(0);
        }
    }
    let mut life = with(&life, bad);
    assert!(repaired(&mut life).reindexed);
    life.is_good();
    assert_eq!(life.snapshots().pop_last().expect("a snapshot").1, newest);
}

#[test]
fn the_command_tells_what_it_did() {
    let life = past();
    let good = bytes(&life);
    let m = members(&good).into_iter().find(|m| m.kind == Kind::Data).expect("messages");
    let mut bad = good.clone();
    bad[m.range.start + HEADER_LEN..m.range.end].fill(0);
    let store = Store::new();
    std::fs::create_dir_all(store.user_dir("anna")).expect("a directory");
    std::fs::write(store.archive("anna"), &bad).expect("an archive");
    let dry = run_for(&mut store.command(&["repair", "anna", "--dry-run"]), 4);
    assert!(out(&dry).contains("lost: "), "{}", out(&dry));
    let told = out(&run_for(&mut store.command(&["repair", "anna"]), 3));
    assert!(told.starts_with("anna: repaired: ") && told.contains("INBOX UID 1 of snapshot 4"), "{told}");
    assert!(told.contains("the damaged archive is kept as "), "{told}");
    assert_eq!(out(&run_for(&mut store.command(&["repair", "anna"]), 0)), "anna: nothing is wrong\n");
    run_for(&mut store.command(&["verify", "anna"]), 3);
    let dropped = out(&run_for(&mut store.command(&["repair", "anna", "--drop-aside"]), 0));
    assert!(dropped.contains("anna: removed "), "{dropped}");
    assert!(out(&run_for(&mut store.command(&["repair", "anna", "--json"]), 0)).contains("\"outcome\":\"good\""));
    run_for(&mut store.command(&["repair", "nobody"]), 1);
    run_for(&mut store.command(&["repair"]), 2);
    assert!(!store.user_dir("nobody").exists());
}
