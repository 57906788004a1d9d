//! Compaction: what it drops and what it keeps, when it is due, when it waits, and what goes on beside it.

use cylinder_core::archive::append::{Mark, Writer};
use cylinder_core::archive::entries::{Finding, Sink, read_all};
use cylinder_core::archive::entry::{self, Entry, Parsed, padding};
use cylinder_core::archive::member::{self, FOOTER_LEN, Kind, MemberInfo};
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::record::Location;
use cylinder_core::archive::verify::{quick, verify};
use cylinder_core::backup::report::Report;
use cylinder_core::codec::Portable;
use cylinder_core::compact::alive::{self, Alive};
use cylinder_core::compact::decide::{Candidate, Decider, Decision};
use cylinder_core::compact::filter::{Job, filter};
use cylinder_core::compact::policy::Policy;
use cylinder_core::compact::{self, Outcome, Plan, Wait};
use cylinder_core::error::{Error, Fault};
use cylinder_core::guid::Guid;
use cylinder_core::io::{How, Io, Op};
use cylinder_core::time::{Span, Time};
use cylinder_tests::choose::{Choose, Sampler};
use cylinder_tests::crashes::{Effort, crashes, first_of_all, torn};
use cylinder_tests::disk::{Lie, SimDisk, Trouble};
use cylinder_tests::drive::{Running, Step, drive, drive_watched};
use cylinder_tests::host::Host;
use cylinder_tests::life::{self, Life, State, archive, settings};
use cylinder_tests::proof::{out, tool};
use cylinder_tests::story;
use cylinder_transport_local::codec::Fastest;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;

const INBOX: &str = "user.anna";

/// A user of six snapshots, days apart: mail comes and goes, a folder is renamed, another deleted.
fn past() -> Life {
    let mut life = Life::new();
    for n in 0..6 {
        life.host.folder(INBOX).deliver(&story::mail(n, 900));
    }
    life.host.folder("user.anna.Sent").deliver(&story::mail(20, 500));
    life.host.folder("user.anna.Sent").deliver(&story::mail(21, 100_000));
    life.host.folder("user.anna.Old").deliver(&story::mail(30, 300));
    life.backup();
    life.hours(24 * 3);
    // Unlinked at once, and a folder that goes with its mail.
    life.host.folder(INBOX).messages[1].unlinked = true;
    life.host.folder(INBOX).messages[1].expunged = true;
    life.host.folders.remove("user.anna.Old");
    life.host.folder(INBOX).deliver(&story::mail(7, 600));
    life.backup();
    life.hours(24 * 3);
    let sent = life.host.folders.remove("user.anna.Sent").expect("a folder");
    life.host.folders.insert("user.anna.Outbox".to_owned(), sent);
    life.backup();
    life.hours(24 * 3);
    life.host.folder("user.anna.Outbox").messages.truncate(1);
    life.host.folder("user.anna.Outbox").modseq += 1;
    life.host.folder(INBOX).deliver(&story::mail(8, 70_000));
    life.backup();
    life.hours(24 * 3);
    life.host.folder(INBOX).flag(1, 1);
    life.backup();
    life.hours(24 * 3);
    life.host.folder(INBOX).deliver(&story::mail(9, 2000));
    life.backup();
    life
}

/// Those of `before` that `after` still has must be the same.
#[track_caller]
fn is_part_of(after: &BTreeMap<u64, State>, before: &BTreeMap<u64, State>) {
    for (number, state) in after {
        assert_eq!(Some(state), before.get(number), "snapshot {number}");
    }
}

#[track_caller]
fn done(outcome: Outcome) -> Plan {
    match outcome {
        Outcome::Done(plan, _) => plan,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_no_retained_snapshot_needs_goes_and_the_rest_stays() {
    let mut life = past();
    let (before, len) = (life.snapshots(), life.archive_len());
    assert_eq!(before.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    let plan = done(life.compact(&settings(Policy::default())));
    life.is_good();
    let after = life.snapshots();
    // The newest is some seconds old; 7 days ago the state was that of 9 days ago.
    assert_eq!(after.keys().copied().collect::<Vec<_>>(), [3, 4, 5, 6]);
    is_part_of(&after, &before);
    // Message 1 of INBOX, and that of the folder that was deleted 12 days ago.
    assert_eq!((plan.messages, plan.messages_dropped, plan.snapshots, plan.snapshots_dropped), (12, 2, 6, 2));
    assert!(life.archive_len() < len);
    assert!(matches!(life.compact(&settings(Policy::default())), Outcome::Nothing(_)));
}

/// Whether the archive has this content, whole.
fn has(life: &mut Life, content: &[u8]) -> bool {
    let guid = Guid::of(content);
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &life::dir()).await?;
        let read = match reader.locate(&guid).await? {
            Some(at) => Some(reader.read_entry(at.at, 1 << 30).await?),
            None => None,
        };
        reader.close().await;
        Ok::<_, Error>(read)
    };
    drive(&mut life.disk, procedure).finished().expect("an archive").as_deref() == Some(content)
}

/// Which messages such an index needs nobody can tell.
#[test]
fn no_message_goes_while_an_index_that_is_kept_cannot_be_read() {
    let newest = Policy::parse("keep-within 0h").expect("a policy");
    for damaged in [false, true] {
        let mut life = past();
        let index = life.host.meta_place("user.anna.Outbox", "cyrus.index");
        let mut bytes = life.disk.content(&index).expect("an index").to_vec();
        let last = bytes.len() - 20;
        bytes[last] ^= if damaged { 0x40 } else { 0 };
        life.disk.change_file(&index, bytes);
        life.hours(24);
        let report = life.backup();
        assert_eq!(report.problems_count, u64::from(damaged), "{report:?}");
        life.hours(24 * 9);
        let plan = done(life.compact(&settings(newest)));
        let notes =
            plan.notes.iter().filter(|note| note.contains("cyrus.index of INBOX.Outbox in snapshot 7 cannot be read")).count();
        assert_eq!((plan.messages_dropped == 0, notes), (damaged, usize::from(damaged)), "{plan:?}");
        assert_eq!(has(&mut life, &story::mail(1, 900)), damaged);
        life.is_good();
    }
}

/// It is in the archive under the SHA-1 that it has, and only the list of what is missing says so.
#[test]
fn a_message_that_is_another_than_its_record_says_stays_with_its_snapshot() {
    let mut life = past();
    let other = story::mail(70, 800);
    let uid = life.host.folder(INBOX).deliver(&story::mail(71, 800));
    life.host.publish(&mut life.disk);
    let place = life.host.message_place(INBOX, uid);
    life.disk.put_file(&place, other.clone());
    assert_eq!(life.backup().problems_count, 1);
    life.hours(24 * 9);
    let newest = Policy::parse("keep-within 0h").expect("a policy");
    let plan = done(life.compact(&settings(newest)));
    assert!(plan.messages_dropped > 0 && has(&mut life, &other), "{plan:?}");
    life.is_good();
}

/// The compaction under test: half of the snapshots go, and with them mail.
fn policy() -> Policy {
    Policy::parse("keep-within 4d").expect("a policy")
}

#[test]
fn a_dry_run_and_an_archive_on_hold_write_nothing() {
    let mut life = past();
    let mut dry = settings(policy());
    dry.dry_run = true;
    let before = life.disk.store();
    let Outcome::Would(plan) = life.compact(&dry) else { panic!("a plan") };
    assert_eq!(life.disk.store(), before);
    life.mark(Mark::Hold);
    let before = life.disk.store();
    assert!(matches!(life.compact(&settings(policy())), Outcome::Waits(Wait::Hold(_))));
    assert_eq!(life.disk.store(), before);
    life.backup();
    life.hours(1000);
    life.host.folder(INBOX).flag(1, 2);
    life.backup();
    assert!(matches!(life.compact(&settings(policy())), Outcome::Waits(Wait::Hold(_))), "a hold outlives backups");
    life.mark(Mark::Release);
    let after = done(life.compact(&settings(policy())));
    assert!(after.raw_dropped > plan.raw_dropped);
    life.is_good();
}

#[test]
fn a_mass_loss_waits_until_somebody_has_looked() {
    let mut life = past();
    life.host.folder(INBOX).messages.clear();
    life.host.folder(INBOX).modseq += 1;
    life.host.folders.remove("user.anna.Outbox");
    let report = life.backup();
    assert!(!report.raised.is_empty());
    life.hours(24 * 100);
    life.host.folder(INBOX).deliver(&story::mail(50, 100));
    life.backup();
    let before = life.snapshots();
    assert!(matches!(life.compact(&settings(policy())), Outcome::Waits(Wait::Alarm(_))));
    assert_eq!(life.snapshots(), before);
    life.mark(Mark::Acknowledge);
    done(life.compact(&settings(policy())));
    // The newest, and the state 4 days ago: what was left then.
    let after = life.snapshots();
    assert_eq!(after.keys().copied().collect::<Vec<_>>(), [7, 8]);
    is_part_of(&after, &before);
    life.is_good();
}

/// What the new chain says of the old one, also when others were appended; and a second compaction says it of the first.
#[test]
fn the_new_chain_says_which_head_it_continues() {
    let mut life = past();
    let old = life.head();
    done(life.compact(&settings(policy())));
    let new = life.head();
    let compacted = new.commit.compacted.expect("a compaction");
    assert_eq!((compacted.number, compacted.head), (old.commit.number, old.part.sha1));
    assert_eq!((new.commit.number, new.commit.time), (old.commit.number, old.commit.time));
    assert_ne!(new.part.sha1, old.part.sha1);
    life.host.folder(INBOX).deliver(&story::mail(60, 100));
    life.backup();
    assert_eq!(life.head().commit.compacted, Some(compacted));
    assert_eq!(life.head().commit.number, old.commit.number + 1);
    let third = life.head();
    life.hours(24 * 30);
    done(life.compact(&settings(policy())));
    assert_eq!(life.head().commit.compacted.map(|c| c.head), Some(third.part.sha1));
    life.is_good();
}

#[test]
fn compaction_then_backup_is_backup_then_compaction_in_content() {
    let mut one = past();
    let mut other = one.clone();
    done(one.compact(&settings(policy())));
    for life in [&mut one, &mut other] {
        life.host.folder(INBOX).deliver(&story::mail(70, 3000));
        life.host.folders.remove("user.anna.Outbox");
        life.backup();
    }
    done(other.compact(&settings(policy())));
    one.compact(&settings(policy()));
    assert_eq!(one.snapshots(), other.snapshots());
    one.is_good();
    other.is_good();
}

#[test]
fn every_second_snapshot_can_go() {
    // Whatever is retained, all of it is there afterwards, and nothing else is.
    for words in
        ["keep-within 0h", "keep-within 0h keep-daily 20", "keep-within 0h keep-weekly 3", "keep-within 3d keep-monthly 2"]
    {
        let mut life = past();
        let before = life.snapshots();
        let outcome = life.compact(&settings(Policy::parse(words).expect("a policy")));
        life.is_good();
        let after = life.snapshots();
        is_part_of(&after, &before);
        let dropped = (before.len() - after.len()) as u64;
        match outcome {
            Outcome::Done(plan, _) => assert_eq!(plan.snapshots_dropped, dropped, "{words}"),
            other => assert!(matches!(other, Outcome::Nothing(_)) && dropped == 0, "{words}: {other:?}"),
        }
    }
}

/// Crashes between all operations of a compaction, in the middle of its writes, and in what comes next.
struct Sweep {
    before: BTreeMap<u64, State>,
    after: BTreeMap<u64, State>,
    seen: BTreeSet<Guid>,
    crashes: u64,
}

impl Sweep {
    /// Everything that the archive had is there, or everything that the compaction was to keep.
    fn is_whole(&self, life: &mut Life) -> Result<bool, String> {
        let found = drive(&mut life.disk, life::snapshots).finished().map_err(|e| format!("reading back: {e}"))?;
        match (found == self.before, found == self.after) {
            (false, false) => Err(format!("snapshots {:?} are neither the old nor the new ones", found.keys())),
            (_, is_new) => Ok(is_new),
        }
    }

    /// What a crash has left goes on: reading, a run that is acknowledged and then loses what need not survive, a compaction.
    fn recover(&mut self, disk: &SimDisk, host: &Host) -> Result<(), String> {
        self.crashes += 1;
        if !self.seen.insert(disk.digest()) {
            return Ok(());
        }
        let mut life = Life { disk: disk.clone(), host: host.clone() };
        self.is_whole(&mut life)?;
        let uid = life.host.folder(INBOX).deliver(&story::mail(99, 700));
        life.host.publish(&mut life.disk);
        life.hours(1);
        let report = drive(&mut life.disk, life::backup).finished().map_err(|e| format!("the next run: {e}"))?;
        let number = report.commit.ok_or("the next run saw nothing new")?;
        life.disk.lose_power(&mut first_of_all());
        let mut found = drive(&mut life.disk, life::snapshots).finished().map_err(|e| format!("after the next run: {e}"))?;
        let newest = found.remove(&number).ok_or("what was acknowledged is gone")?;
        if !newest.folders["INBOX"].contains_key(&uid) {
            return Err(String::from("the new message is gone"));
        }
        if found != self.before && found != self.after {
            return Err(format!("after the next run there are snapshots {:?}", found.keys()));
        }
        drive(&mut life.disk, |io| life::compacting(io, settings(policy()))).finished().map_err(|e| format!("again: {e}"))?;
        let mut found = drive(&mut life.disk, life::snapshots).finished().map_err(|e| format!("after another: {e}"))?;
        found.remove(&number);
        if !found.iter().all(|(number, state)| self.before.get(number) == Some(state)) {
            return Err(String::from("another compaction changed a snapshot"));
        }
        match life.disk.store().keys().find(|name| name.ends_with(".new")) {
            Some(name) => Err(format!("{name} is still there")),
            None => Ok(()),
        }
    }
}

#[test]
fn no_crash_of_a_compaction_loses_either_archive() {
    let life = past();
    let (mut old, mut new) = (life.clone(), life.clone());
    done(new.compact(&settings(policy())));
    let (before, after) = (old.snapshots(), new.snapshots());
    assert_ne!(before, after);
    let mut sweep = Sweep { before, after, seen: BTreeSet::new(), crashes: 0 };
    let (mut disk, mut points) = (life.disk.clone(), Vec::new());
    let mut changes = disk.changes();
    drive_watched(&mut disk, |io| life::compacting(io, settings(policy())), &mut |disk, op| {
        if std::mem::replace(&mut changes, disk.changes()) != disk.changes() {
            points.push(disk.clone());
        }
        points.extend(torn(disk, op));
    })
    .finished()
    .expect("the compaction itself");
    points.push(disk);
    let effort = Effort { enumerate_up_to: 6, samples: 12 };
    for point in points {
        for (how, after) in crashes(&point, effort) {
            let judged = sweep.recover(&after, &life.host);
            judged.unwrap_or_else(|why| panic!("{how}: {why}\n{}", after.clone().take_transcript()));
        }
    }
    println!("{} crashes of a compaction, {} different states", sweep.crashes, sweep.seen.len());
    assert!(sweep.seen.len() > 50);
}

/// The test above can fail: a disk that says it synced a directory and did not loses what is acknowledged afterwards.
#[test]
fn a_directory_that_is_not_synced_is_found_out() {
    let mut life = past();
    life.disk.lie(Lie::SyncDir);
    done(life.compact(&settings(policy())));
    life.host.folder(INBOX).deliver(&story::mail(99, 700));
    let number = life.backup().commit.expect("a snapshot");
    life.disk.lose_power(&mut first_of_all());
    assert!(!life.snapshots().contains_key(&number));
}

#[test]
fn a_failing_operation_ends_a_compaction_clearly_and_loses_nothing() {
    let life = past();
    let (mut old, mut new) = (life.clone(), life.clone());
    done(new.compact(&settings(policy())));
    let (before, after) = (old.snapshots(), new.snapshots());
    for trouble in [Trouble::Fail(Fault::NoSpace), Trouble::Fail(Fault::Os(5)), Trouble::Forget(Fault::Os(5))] {
        for at in 1.. {
            let mut life = life.clone();
            life.disk.plan(at, trouble);
            let outcome = drive(&mut life.disk, |io| life::compacting(io, settings(policy()))).finished();
            if life.disk.unplan() {
                assert!(at > 50, "a compaction has more than {at} operations");
                break;
            }
            let shown = format!("{trouble:?} at operation {at}: {outcome:?}\n{}", life.disk.take_transcript());
            assert_eq!(life.disk.open_files(), 0, "{shown}");
            match outcome {
                Ok(_) => {}
                Err(Error::World { object, fault, .. }) if !object.is_empty() => {
                    assert!(matches!(fault, Fault::NoSpace | Fault::Os(5)), "{shown}");
                }
                Err(_) => panic!("not clear: {shown}"),
            }
            life.disk.kill();
            life.disk.lose_power(&mut first_of_all());
            let found = life.snapshots();
            assert!(found == before || found == after, "{shown}");
        }
    }
}

/// One flipped byte anywhere. A compaction refuses, and leaves everything as it is; or the byte was in what goes, and nothing
/// that stays has suffered.
#[test]
fn compaction_never_runs_over_damage() {
    let life = past();
    let bytes = life.disk.content(&archive()).expect("an archive").to_vec();
    let mut new = life.clone();
    done(new.compact(&settings(policy())));
    let after = new.snapshots();
    let (mut told, mut harmless) = (0, 0);
    for at in (0..bytes.len() - FOOTER_LEN).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        let mut life = life.clone();
        life.disk.put_file(&archive(), damaged.clone());
        match drive(&mut life.disk, |io| life::compacting(io, settings(policy()))).finished() {
            Ok(Outcome::Waits(Wait::Damage(_))) => {
                told += 1;
                assert_eq!(life.disk.content(&archive()), Some(&damaged[..]), "byte {at}");
            }
            Ok(Outcome::Done(..)) => {
                harmless += 1;
                life.is_good();
                assert_eq!(life.snapshots(), after, "byte {at}");
            }
            other => panic!("byte {at}: {other:?}"),
        }
        assert_eq!(life.disk.open_files(), 0, "byte {at}");
        assert!(!life.disk.store().keys().any(|name| name.ends_with(".new")), "byte {at}");
    }
    // The only bytes without a CRC that is looked at are those of the CRC of content that goes.
    assert!(told > 1000 && harmless < 10, "{told}, {harmless}");
}

/// Every byte of one member, for the last four before its end are those of a CRC that only inflating can check.
#[test]
fn a_damaged_crc_is_not_copied() {
    let life = past();
    let bytes = life.disk.content(&archive()).expect("an archive").to_vec();
    let mut ends = Vec::new();
    let mut at = 0;
    while at < bytes.len() - FOOTER_LEN {
        at += member::parse_header(&bytes[at..]).expect("a member").len as usize;
        ends.push(at);
    }
    let mut told = 0;
    for end in ends {
        let mut damaged = bytes.clone();
        damaged[end - 7] ^= 1;
        let mut life = life.clone();
        life.disk.put_file(&archive(), damaged);
        match drive(&mut life.disk, |io| life::compacting(io, settings(policy()))).finished() {
            Ok(Outcome::Waits(Wait::Damage(_))) => told += 1,
            Ok(Outcome::Done(..)) => life.is_good(),
            other => panic!("member before {end}: {other:?}"),
        }
    }
    assert!(told > 10, "{told}");
}

/// A disk that gives other bytes back than it was given, anywhere in the new archive.
#[test]
fn a_new_archive_that_is_not_what_was_written_does_not_take_the_place_of_the_old_one() {
    let life = past();
    let (old, new) = (life.disk.content(&archive()).expect("an archive").to_vec(), life::dir().join(b"archive.tar.gz.new"));
    let job = |io| life::compacting(io, settings(policy()));
    let mut written = 0;
    let mut disk = life.disk.clone();
    drive_watched(&mut disk, job, &mut |disk, op| {
        if let Op::Rename { .. } = op {
            written = disk.content(&new).expect("a new archive").len();
        }
    });
    assert!(written > 0 && disk.content(&archive()).is_some_and(|archive| archive.len() == written));
    for at in (0..written).step_by(23).chain(written - FOOTER_LEN..written) {
        let mut disk = life.disk.clone();
        let (mut running, mut is_changed) = (Running::new(&disk, job), false);
        let outcome = loop {
            let content = disk.content(&new).filter(|content| content.len() == written && !is_changed);
            if let Some(mut content) = content.map(<[u8]>::to_vec) {
                content[at] ^= 0x40;
                disk.change_file(&new, content);
                is_changed = true;
            }
            match running.step(&mut disk, &mut |_, _| {}) {
                Step::Did => {}
                Step::Finished(outcome) => break outcome,
                Step::Crashed => unreachable!("no crash was planned"),
            }
        };
        assert!(is_changed && outcome.is_err(), "byte {at}: {outcome:?}");
        assert!(disk.content(&archive()) == Some(&old) && disk.content(&new).is_none(), "byte {at}");
        assert_eq!(disk.open_files(), 0, "byte {at}");
    }
}

/// The member of this content with another byte at `at`, if one of 255 makes it as long as it was.
fn wrong_at(at: usize, raw: &[u8], info: &MemberInfo) -> Option<Vec<u8>> {
    let mut codec = Fastest::default();
    let mut made = (1..=255).map(|bits| {
        let (mut raw, mut wrong) = (raw.to_vec(), Vec::new());
        raw[at] ^= bits;
        member::seal(&mut codec, info.kind, info.flags, &raw, story::settings().level, None, &mut wrong).expect("a member");
        wrong
    });
    made.find(|wrong| wrong.len() == info.len as usize)
}

/// What a look at everything finds.
async fn found(io: Io) -> Result<Vec<Finding>, Error> {
    let reader = Reader::open(&io, &life::dir()).await?;
    let verdict = verify(&io, &reader, 3).await;
    reader.close().await;
    Ok(verdict?.findings)
}

/// A member whose CRCs are right, because what is wrong was wrong before it was compressed: only the SHA-1 of an entry tells.
#[test]
fn content_that_is_not_what_its_name_says_is_not_copied() {
    let life = past();
    let bytes = life.disk.content(&archive()).expect("an archive").to_vec();
    let (mut at, mut told) = (0, 0);
    while at < bytes.len() - FOOTER_LEN {
        let len = member::parse_header(&bytes[at..]).expect("a member").len as usize;
        let mut raw = Vec::new();
        let info = member::unseal(&mut Portable, &bytes[at..at + len], &mut raw).expect("a good member");
        let mut inside = 0;
        while let Ok(Parsed::Entry(entry, header)) = entry::parse(&raw[inside..]) {
            inside += header;
            if info.kind == Kind::Meta
                && entry.size > 0
                && let Some(wrong) = wrong_at(inside, &raw, &info)
            {
                let mut life = life.clone();
                life.disk.put_file(&archive(), [&bytes[..at], &wrong, &bytes[at + len..]].concat());
                let found = drive(&mut life.disk, found).finished().expect("a verdict");
                assert!(found.iter().any(|finding| finding.what.starts_with("its SHA-1 is ")), "{found:?}");
                match drive(&mut life.disk, |io| life::compacting(io, settings(policy()))).finished() {
                    Ok(Outcome::Waits(Wait::Damage(d))) => told += u64::from(d.field == "SHA-1" && d.offset == at as u64),
                    Ok(Outcome::Done(..)) => life.is_good(),
                    other => panic!("{} at {at}: {other:?}", String::from_utf8_lossy(&entry.name)),
                }
            }
            inside += entry.size as usize + padding(entry.size);
        }
        at += len;
    }
    assert!(told > 3, "{told}");
}

#[test]
fn a_backup_during_a_compaction_is_told_and_a_reader_goes_on_in_the_old_archive() {
    let life = past();
    let mut old = life.clone();
    let before = old.snapshots();
    let mut ops = 0;
    loop {
        let mut life = life.clone();
        let mut compaction = Running::new(&life.disk, |io| life::compacting(io, settings(policy())));
        let mut reader = Running::new(&life.disk, life::snapshots);
        // The reader has opened the archive, and no more.
        assert!(reader.go(&mut life.disk, 4));
        let locked = |disk: &SimDisk| disk.clone().take_transcript().contains("op4 lock");
        if !compaction.go(&mut life.disk, ops) {
            break;
        }
        if locked(&life.disk) {
            let mut other = life.clone();
            other.host.folder(INBOX).deliver(&story::mail(98, 100));
            other.host.publish(&mut other.disk);
            let backup = drive(&mut other.disk, life::backup).finished();
            assert!(matches!(backup, Err(Error::Busy { .. })), "{backup:?}");
            let second = drive(&mut other.disk, |io| life::compacting(io, settings(policy()))).finished();
            assert!(matches!(second, Err(Error::Busy { .. })), "{second:?}");
        }
        compaction.finish(&mut life.disk).expect("the compaction");
        assert_eq!(reader.finish(&mut life.disk).expect("the reader"), before, "after {ops} operations");
        ops += 7;
    }
    assert!(ops > 50, "{ops}");
}

/// Lives in which a backup run has done that many operations.
fn backups_under_way() -> impl Iterator<Item = (u32, Life, Running<'static, Result<Report, Error>>)> {
    let mut base = past();
    base.host.folder(INBOX).deliver(&story::mail(97, 400));
    base.host.publish(&mut base.disk);
    base.hours(1);
    (2..).step_by(3).map_while(move |ops| {
        let mut life = base.clone();
        let mut backup = Running::new(&life.disk, life::backup);
        backup.go(&mut life.disk, ops).then_some((ops, life, backup))
    })
}

/// A backup run has read its archive when a compaction takes the archive's place: places that it has in its hands are those of
/// the old file. It must begin anew.
#[test]
fn a_backup_that_a_compaction_overtakes_begins_anew() {
    let mut overtaken = 0;
    for (ops, mut life, mut backup) in backups_under_way() {
        let compaction = drive(&mut life.disk, |io| life::compacting(io, settings(policy()))).finished();
        overtaken += u64::from(matches!(compaction, Ok(Outcome::Done(..))));
        let report = backup.finish(&mut life.disk).expect("the run");
        assert_eq!(report.commit, Some(7), "after {ops} operations");
        life.is_good();
        let snapshots = life.snapshots();
        assert_eq!(snapshots[&7].folders["INBOX"].len(), 10, "after {ops} operations");
    }
    assert!(overtaken > 5, "{overtaken}");
}

/// The same, when another backup run has appended to it: what that one has acknowledged must not be written over.
#[test]
fn a_backup_that_another_overtakes_begins_anew() {
    let mut overtaken = 0;
    for (ops, mut life, mut slow) in backups_under_way() {
        let quick = drive(&mut life.disk, life::backup).finished();
        overtaken += u64::from(quick.is_ok());
        let acknowledged = if quick.is_ok() { life.snapshots() } else { Default::default() };
        slow.finish(&mut life.disk).expect("the run");
        life.is_good();
        let snapshots = life.snapshots();
        assert_eq!(snapshots[&7].folders["INBOX"].len(), 10, "after {ops} operations");
        for (number, snapshot) in acknowledged {
            assert_eq!(snapshots.get(&number), Some(&snapshot), "after {ops} operations");
        }
    }
    assert!(overtaken > 5, "{overtaken}");
}

/// What Python's tarfile sees of each entry, in order.
const PYTHON: &str = "
import gzip, hashlib, io, sys, tarfile
with tarfile.open(fileobj=io.BytesIO(gzip.decompress(sys.stdin.buffer.read()))) as tar:
    for e in tar:
        content = tar.extractfile(e).read() if e.isreg() else b''
        print(e.name, e.type, e.linkname, e.size, e.mtime, oct(e.mode), hashlib.sha1(content).hexdigest(), sep='|')
";

fn by_python(archive: &[u8]) -> Vec<String> {
    use std::io::Write;
    let mut python = tool("python3", "python3");
    python.args(["-I", "-c", PYTHON]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = python.spawn().expect("python3");
    let (mut stdin, archive) = (child.stdin.take().expect("a pipe"), archive.to_vec());
    let writer = std::thread::spawn(move || stdin.write_all(&archive));
    let output = child.wait_with_output().expect("python3");
    writer.join().expect("a thread").expect("python3 reads to the end");
    assert!(output.status.success());
    out(&output).lines().map(String::from).collect()
}

/// Drops what nobody needs, and some of what somebody does: the filter must not think for itself.
struct Whim {
    alive: Alive,
    seed: u64,
}

impl Decider for Whim {
    fn decide(&self, entry: &Candidate<'_>) -> Decision {
        let chance = Sampler::new(self.seed ^ entry.at.member ^ (u64::from(entry.at.inside) << 20)).upto(5);
        match entry.message() {
            Some(_) if self.seed > 0 && chance == 0 => Decision::Drop,
            _ => self.alive.decide(entry),
        }
    }
}

/// Location and kind of every entry in the order of the file.
#[derive(Default)]
struct Order(Vec<(Kind, Vec<u8>, Location)>);

impl Sink for Order {
    fn begin(&mut self, entry: Entry, kind: Kind, at: Location) {
        self.0.push((kind, entry.name, at));
    }

    fn content(&mut self, _: &[u8]) {}

    fn end(&mut self, _: u64) {}

    fn damage(&mut self, finding: Finding) {
        panic!("{finding}");
    }
}

/// Filters by whim into the file for a new archive; what should be in it, as numbers of entries of the old one.
async fn by_whim(io: Io, seed: u64, policy: Policy) -> Result<Vec<usize>, Error> {
    let reader = Reader::open(&io, &life::dir()).await?;
    let now = io.now();
    let (survey, alive) = alive::find(&io, &reader, |commits| {
        let times: Vec<Time> = commits.iter().map(|commit| commit.commit.time).collect();
        policy.retained(now, &times)
    })
    .await?;
    let whim = Whim { alive, seed };
    let mut order = Order::default();
    read_all(&io, &reader, reader.len() - FOOTER_LEN as u64, 2, &mut order).await?;
    let is_part = |kind: Kind| matches!(kind, Kind::List | Kind::Table | Kind::Commit);
    let keeps = |(kind, name, at): &(Kind, Vec<u8>, Location)| {
        !is_part(*kind) && whim.decide(&Candidate { kind: *kind, name, at: *at }) != Decision::Drop
    };
    let kept = (0..order.0.len()).filter(|&n| keeps(&order.0[n])).collect();
    let settings = story::settings();
    let job = Job { io: &io, reader: &reader, survey: &survey, decider: &whim, settings: &settings, time: now };
    let file = io.open(&life::dir().join(b"filtered"), How::Create).await.expect("a new file");
    filter(job, file, String::from("filtered")).await?;
    reader.close().await;
    Ok(kept)
}

#[test]
fn exactly_what_the_decider_keeps_is_there_for_python_too() {
    let is_part = |line: &String| {
        line.starts_with("meta/messages|") || line.starts_with("meta/folders|") || line.starts_with("meta/commit|")
    };
    let mut dropped = 0;
    for seed in 0..12 {
        let (mut chance, mut life) = (Sampler::new(seed), past());
        for _ in 0..25 {
            life.hours(24);
            life.day(&mut chance);
            life.backup();
        }
        let old = by_python(life.disk.content(&archive()).expect("an archive"));
        let policy =
            Policy::parse(["keep-within 4d", "keep-within 0h keep-daily 9", "off"][seed as usize % 3]).expect("a policy");
        let kept = drive(&mut life.disk, |io| by_whim(io, seed, policy)).finished().expect("a filter");
        dropped += old.len() - kept.len();
        let new = by_python(life.disk.content(&life::dir().join(b"filtered")).expect("a new archive"));
        // Order is that of each kind of member: messages, and the rest.
        for messages in [true, false] {
            let of_kind = |line: &&String| line.starts_with("files/") == messages;
            let expected: Vec<&String> = kept.iter().map(|&n| &old[n]).filter(of_kind).collect();
            let found: Vec<&String> = new.iter().filter(|line| !is_part(line)).filter(of_kind).collect();
            assert_eq!(found, expected, "seed {seed}");
        }
    }
    assert!(dropped > 300, "{dropped}");
}

/// The quick look sees every flipped byte but those of the four that say what the content's CRC is, and it inflates no mail.
#[test]
fn a_quick_look_finds_what_it_can_find_without_inflating() {
    let mut life = past();
    let bytes = life.disk.content(&archive()).expect("an archive").to_vec();
    let look = |life: &mut Life| {
        let mut inflated = 0;
        let procedure = async |io: Io| {
            let reader = Reader::open(&io, &life::dir()).await?;
            let verdict = quick(&io, &reader).await;
            reader.close().await;
            verdict
        };
        let watch = &mut |_: &SimDisk, op: &Op| inflated += u64::from(matches!(op, Op::Unseal { .. }));
        let verdict = drive_watched(&mut life.disk, procedure, watch).finished().expect("a verdict");
        (verdict, inflated)
    };
    let (good, inflated) = look(&mut life);
    assert!(good.is_good() && (good.snapshots, good.messages) == (6, 12), "{good:?}");
    assert_eq!(inflated, good.commits, "only the records of the commits");
    let (mut found, mut unseen) = (0, 0);
    for at in (0..bytes.len() - FOOTER_LEN).step_by(101) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        life.disk.put_file(&archive(), damaged);
        let (verdict, _) = look(&mut life);
        found += u64::from(!verdict.is_good());
        unseen += u64::from(verdict.is_good());
        let covers = |f: &Finding| f.bytes.0 <= at as u64 && (at as u64) < f.bytes.1;
        assert!(verdict.is_good() || verdict.findings.iter().any(covers), "byte {at}: {:?}", verdict.findings);
    }
    assert!(found > 1000 && unseen < 10, "{found}, {unseen}");
}

/// The plan of a compaction that is not done.
fn planned(life: &mut Life, mut settings: compact::Settings) -> Plan {
    settings.dry_run = true;
    match life.compact(&settings) {
        Outcome::Would(plan) | Outcome::NotDue(plan) | Outcome::Nothing(plan) => plan,
        other => panic!("{other:?}"),
    }
}

fn newest() -> Policy {
    Policy::parse("keep-within 0h").expect("a policy")
}

/// About, for records of commits and small members are written anew.
#[test]
fn a_plan_says_what_will_be_left() {
    for policy in [newest(), Policy::default(), Policy::parse("keep-within 0h keep-daily 4").expect("a policy")] {
        let mut life = past();
        let plan = planned(&mut life, settings(policy));
        assert_eq!(plan.bytes, life.archive_len() as u64);
        let before = life.snapshots().len() as u64;
        let done = done(life.compact(&settings(policy)));
        assert_eq!(done, plan);
        let after = planned(&mut life, settings(policy));
        assert_eq!((after.raw_dropped, after.bytes_dropped, after.messages_dropped, after.snapshots_dropped), (0, 0, 0, 0));
        assert_eq!(after.messages, plan.messages - plan.messages_dropped);
        assert_eq!((plan.snapshots, after.snapshots), (before, before - plan.snapshots_dropped));
        assert!(plan.raw_dropped * 20 > plan.raw && plan.bytes_dropped * 40 > plan.bytes, "{plan:?}");
        let off = |told: u64, is: u64| told.abs_diff(is) * 100 / is;
        assert!(off(plan.raw - plan.raw_dropped, after.raw) < 5, "{plan:?}, {after:?}");
        assert!(off(plan.bytes - plan.bytes_dropped, life.archive_len() as u64) < 5, "{plan:?}, {after:?}");
    }
}

#[test]
fn it_is_due_when_less_is_alive_than_the_weeks_ask_for() {
    let plan = |raw, raw_dropped, threshold| Plan { raw, raw_dropped, threshold, ..Plan::default() };
    for (plan, live, is_due) in [
        (plan(1000, 200, 80), 80, false),
        (plan(1000, 201, 80), 79, true),
        (plan(1000, 0, 100), 100, false),
        (plan(1000, 1, 100), 99, true),
        (plan(1000, 1000, 0), 0, false),
        (plan(0, 0, 100), 100, false),
        (plan(u64::MAX, u64::MAX / 2, 50), 50, false),
    ] {
        assert_eq!((plan.live_percent(), plan.is_due()), (live, is_due), "{plan:?}");
    }
    // 15 days have two whole weeks.
    let mut life = past();
    let with = |floor, rise| compact::Settings { floor, rise, if_needed: true, ..settings(newest()) };
    let live = planned(&mut life, with(0, 0)).live_percent() as u8;
    assert!((20..80).contains(&live), "{live}");
    for (floor, rise, threshold) in
        [(0, 0, 0), (80, 1, 82), (live - 6, 3, live), (live - 5, 3, live + 1), (99, 1, 100), (0, 200, 100)]
    {
        let mut life = life.clone();
        let plan = planned(&mut life, with(floor, rise));
        assert_eq!((plan.threshold, plan.is_due()), (threshold, threshold > live), "{floor} + {rise}");
        match life.compact(&with(floor, rise)) {
            Outcome::Done(..) => assert!(threshold > live, "{floor} + {rise}"),
            Outcome::NotDue(_) => assert!(threshold <= live, "{floor} + {rise}"),
            other => panic!("{other:?}"),
        }
    }
    // From then on the weeks are counted anew.
    done(life.compact(&settings(newest())));
    for (hours, threshold) in [(0, 80), (24 * 7 - 1, 80), (1, 81), (24 * 7 * 4, 85)] {
        life.hours(hours);
        assert_eq!(planned(&mut life, with(80, 1)).threshold, threshold, "after {hours} hours");
    }
}

/// Whoever is asked each day looks once a week, and never before there are two snapshots.
#[test]
fn it_is_looked_at_once_a_week() {
    let daily = compact::Settings { floor: 0, if_needed: true, ..settings(newest()) };
    let mut life = Life::new();
    life.host.folder(INBOX).deliver(&story::mail(1, 900));
    life.backup();
    assert!(matches!(life.compact(&daily), Outcome::LookedAt));
    life.hours(24 * 8);
    life.host.folder(INBOX).deliver(&story::mail(2, 900));
    life.backup();
    for (hours, is_looked_at) in [(0, true), (24, false), (24 * 6 - 1, false), (1, true), (24 * 7 - 1, false), (24, true)] {
        life.hours(hours);
        let outcome = life.compact(&daily);
        assert_eq!(!matches!(outcome, Outcome::LookedAt), is_looked_at, "after {hours} hours more: {outcome:?}");
    }
    // What a clock that went wrong has left in the future keeps nobody away.
    life.disk.set_clock(life.disk.now().plus(Span::from_secs(-30 * 24 * 3600)));
    let outcome = life.compact(&daily);
    assert!(!matches!(outcome, Outcome::LookedAt), "{outcome:?}");
}

/// Entries in order as Python sees them, without records, which say when and by whom.
fn entries(life: &Life) -> Vec<String> {
    let all = by_python(life.disk.content(&archive()).expect("an archive"));
    all.into_iter()
        .filter(|entry| ["files/", "folders/", "imap/", "meta/quota", "sieve/"].iter().any(|name| entry.starts_with(name)))
        .collect()
}

#[test]
fn the_newest_snapshot_alone_is_what_a_first_backup_would_bring() {
    let mut life = past();
    done(life.compact(&settings(newest())));
    life.is_good();
    let mut fresh = Life::new();
    fresh.host.folders = life.host.folders.clone();
    fresh.backup();
    let names = |life: &Life| {
        // Not their times: on the other disk everything is new.
        let without_time = |entry: String| {
            entry.split('|').enumerate().filter(|(n, _)| *n != 4).map(|(_, word)| word).collect::<Vec<_>>().join("|")
        };
        let mut names: Vec<String> = entries(life).into_iter().map(without_time).collect();
        names.sort();
        names
    };
    assert_eq!(names(&life), names(&fresh));
}

/// What a name was is needed as long as a snapshot that had it; that it is gone, as long as the name is there.
#[test]
fn links_and_tombstones_stay_as_long_as_somebody_needs_them() {
    let of = |life: &Life, name: &str| -> Vec<bool> {
        let start = format!("imap/{name}|");
        entries(life).iter().filter(|entry| entry.starts_with(&start)).map(|entry| !entry.contains("||")).collect()
    };
    let mut life = past();
    // Comes and goes again before anybody would ask for it.
    life.host.folder("user.anna.Brief").deliver(&story::mail(50, 100));
    life.hours(1);
    life.backup();
    life.host.folders.remove("user.anna.Brief");
    life.hours(1);
    life.backup();
    let all = |life: &Life| ["INBOX", "INBOX.Sent", "INBOX.Old", "INBOX.Outbox", "INBOX.Brief"].map(|name| of(life, name));
    let (here, gone) = (vec![true], vec![true, false]);
    assert_eq!(all(&life), [here.clone(), gone.clone(), gone.clone(), here.clone(), gone.clone()]);
    // 1 to 6, but not those that had Brief.
    done(life.compact(&settings(Policy::parse("keep-within 0h keep-daily 30").expect("a policy"))));
    life.is_good();
    assert_eq!(all(&life), [here.clone(), gone.clone(), gone.clone(), here.clone(), vec![]]);
    // Only those of the last days: when Old was gone, and Sent, too.
    done(life.compact(&settings(Policy::parse("keep-within 0h keep-daily 4").expect("a policy"))));
    life.is_good();
    assert_eq!(all(&life), [here.clone(), vec![], vec![], here, vec![]]);
}

/// What a run has in the archive that saves these messages and is killed.
fn killed_after(life: &mut Life, contents: &[&[u8]]) {
    let procedure = async |io: Io| {
        let mut writer = Writer::open(&io, &life::dir(), &story::settings(), [0; 16]).await?;
        for content in contents {
            writer.message(Guid::of(content), io.now(), content).await?;
        }
        writer.checkpoint(io.now()).await?;
        writer.close().await;
        Ok::<_, Error>(())
    };
    drive(&mut life.disk, procedure).finished().expect("a checkpoint");
}

/// What a killed run has saved so far stands behind the newest snapshot. The next one goes on from there.
#[test]
fn what_a_killed_run_has_saved_stays() {
    let mut life = past();
    let content = story::mail(77, 5000);
    killed_after(&mut life, &[&content]);
    done(life.compact(&settings(newest())));
    life.is_good();
    assert!(has(&mut life, &content));
    life.host.folder(INBOX).deliver(&content);
    assert_eq!(life.backup().messages_added, 0);
    life.is_good();
}

/// Somebody has saved it anew because the first place was damaged, or nobody knew of it.
#[test]
fn a_message_that_is_there_twice_is_there_once_after_it() {
    let mut life = past();
    let content = story::mail(77, 5000);
    life.host.folder(INBOX).deliver(&content);
    life.backup();
    // Not alone in its member: others there are needed.
    killed_after(&mut life, &[&story::mail(78, 300), &content]);
    let name = format!("files/{}|", Guid::of(&content));
    let count = |life: &Life| entries(life).iter().filter(|entry| entry.starts_with(&name)).count();
    assert_eq!(count(&life), 2);
    done(life.compact(&settings(newest())));
    life.is_good();
    assert_eq!(count(&life), 1);
    assert!(has(&mut life, &content));
}

/// Each day brought one small message: a year of that would be read member by member.
#[test]
fn small_members_are_joined() {
    let mut life = Life::new();
    for n in 0..20 {
        life.host.folder(INBOX).deliver(&story::mail(n, 300));
        life.hours(24);
        life.backup();
    }
    let members = |life: &Life| {
        let (bytes, mut at, mut count) = (life.disk.content(&archive()).expect("an archive"), 0, 0);
        while at < bytes.len() {
            let info = member::parse_header(&bytes[at..]).expect("a member");
            count += usize::from(info.kind == Kind::Data);
            at += info.len as usize;
        }
        count
    };
    assert_eq!(members(&life), 20);
    done(life.compact(&settings(newest())));
    life.is_good();
    assert_eq!(members(&life), 1);
}
