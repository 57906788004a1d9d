//! Crashes at every operation of a run, and again at every operation of the recovery, over a disk that keeps what it likes.

use cylinder_core::archive::append::Writer;
use cylinder_core::archive::member::FOOTER_LEN;
use cylinder_core::archive::read::{End, Reader};
use cylinder_core::error::{Error, Fault};
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, LockMode, Op};
use cylinder_core::view::{self, When};
use cylinder_tests::check::{self, Check};
use cylinder_tests::choose::Sampler;
use cylinder_tests::crashes::{BRIEF, Effort, THOROUGH, crashes, first_of_all, torn};
use cylinder_tests::disk::{Lie, SimDisk, Trouble};
use cylinder_tests::drive::{Running, drive, drive_watched};
use cylinder_tests::story::{self, Batch, archive, long_mail, mail, run, run_all, snapshot};
use std::cell::Cell;
use std::collections::BTreeSet;

/// A run that is crashed at every point.
struct Sweep<'a> {
    /// All batches; the last one is for the run after the recovery.
    story: &'a [Batch],
    /// How many of them the disk has before the run.
    before: usize,
    effort: Effort,
    in_recovery: Effort,
    seen: BTreeSet<(Guid, usize, bool)>,
    /// Mended archives that were read through.
    read: BTreeSet<(Guid, u32, usize)>,
    /// Crashes looked at, and how many of them left something new to recover from.
    crashes: u64,
    distinct: u64,
    recovery_crashes: u64,
}

/// The states in which the machine may stop, each with the number of batches that were acknowledged.
#[derive(Default)]
struct Points {
    all: Vec<(SimDisk, usize)>,
    last: Option<(u64, usize)>,
}

impl Points {
    /// Takes the state between two operations unless it is the last one again.
    fn take(&mut self, disk: &SimDisk, acknowledged: usize) {
        let now = Some((disk.changes(), acknowledged));
        if std::mem::replace(&mut self.last, now) != now {
            self.all.push((disk.clone(), acknowledged));
        }
    }

    /// Takes the states that a process leaves which is killed in the middle of a write.
    fn take_torn(&mut self, disk: &SimDisk, op: &Op, acknowledged: usize) {
        self.all.extend(torn(disk, op).into_iter().map(|torn| (torn, acknowledged)));
    }
}

impl<'a> Sweep<'a> {
    fn new(story: &'a [Batch], before: usize) -> Sweep<'a> {
        Sweep {
            story,
            before,
            effort: THOROUGH,
            in_recovery: BRIEF,
            seen: BTreeSet::new(),
            read: BTreeSet::new(),
            crashes: 0,
            distinct: 0,
            recovery_crashes: 0,
        }
    }

    /// The batches that the run under test appends.
    fn batches(&self) -> &'a [Batch] {
        &self.story[self.before..self.story.len() - 1]
    }

    fn all(mut self, base: &SimDisk) -> Result<Sweep<'a>, String> {
        for (disk, acknowledged) in self.points(base).all {
            self.crash(&disk, acknowledged)?;
        }
        Ok(self)
    }

    /// All states of the run between its operations, those in the middle of writes, and the last one.
    fn points(&self, base: &SimDisk) -> Points {
        let acknowledged = Cell::new(self.before);
        let (mut disk, mut points) = (base.clone(), Points::default());
        disk.take_transcript();
        drive_watched(&mut disk, |io| run(io, self.batches(), &acknowledged), &mut |disk, op| {
            points.take(disk, acknowledged.get());
            points.take_torn(disk, op, acknowledged.get());
        })
        .finished()
        .expect("the run itself");
        points.take(&disk, acknowledged.get());
        points
    }

    fn crash(&mut self, disk: &SimDisk, acknowledged: usize) -> Check {
        for (how, after) in crashes(disk, self.effort) {
            self.crashes += 1;
            self.recover(&after, acknowledged, &[], true).map_err(|why| format!("{how}: {why}"))?;
        }
        Ok(())
    }

    /// Opens what a crash has left and checks everything; `deep`: crashes the recovery too. `earlier` are archives as they were
    /// found by recoveries that were crashed themselves.
    fn recover(&mut self, found: &SimDisk, acknowledged: usize, earlier: &[Vec<u8>], deep: bool) -> Check {
        if !self.seen.insert((found.digest(), acknowledged, deep)) {
            return Ok(());
        }
        self.distinct += 1;
        let (mut disk, mut points) = (found.clone(), Points::default());
        let opened = drive_watched(&mut disk, story::reopen, &mut |disk, _| points.take(disk, acknowledged));
        opened.finished().map_err(|error| format!("recovery fails: {error}\n{}", disk.clone().take_transcript()))?;
        points.take(&disk, acknowledged);
        let bytes = found.content(&archive()).map(<[u8]>::to_vec);
        let founds: Vec<Vec<u8>> = earlier.iter().cloned().chain(bytes).collect();
        self.check(&disk, acknowledged, &founds).map_err(|why| format!("{why}\n{}", disk.clone().take_transcript()))?;
        // What was set aside as damaged stays, however often mending is repeated. What only a page cache held may go.
        let stays = found.undecided() == 0 && disk.store().keys().any(|name| name.ends_with("-damaged"));
        let founds = if stays { founds } else { Vec::new() };
        if deep {
            // After a kill everything that the run wrote may still go, together with what the recovery writes.
            let effort = if found.undecided() > 0 { self.effort } else { self.in_recovery };
            for (point, _) in points.all {
                for (how, after) in crashes(&point, effort) {
                    self.recovery_crashes += 1;
                    self.recover(&after, acknowledged, &founds, false).map_err(|why| format!("recovery, {how}: {why}"))?;
                }
            }
        }
        Ok(())
    }

    fn check(&mut self, disk: &SimDisk, acknowledged: usize, founds: &[Vec<u8>]) -> Check {
        check::mending_twice_is_once(disk)?;
        check::nothing_written_elsewhere(disk)?;
        check::nothing_open(disk)?;
        for found in founds {
            check::cut_bytes_are_aside(found, disk)?;
        }
        let bytes = disk.content(&archive()).unwrap_or_default();
        if self.read.insert((Guid::of(bytes), disk.undecided(), acknowledged)) {
            self.read_through(disk, acknowledged)?;
        }
        Ok(())
    }

    fn read_through(&self, disk: &SimDisk, acknowledged: usize) -> Check {
        let sure: Vec<usize> = (0..acknowledged).collect();
        let maybe = Some(acknowledged).filter(|&n| n < self.story.len() - 1);
        check::acknowledged_is_there(disk, self.story, &sure, maybe)?;
        check::others_can_read_it(disk, self.story, &sure)?;
        self.next_run_works(disk)
    }

    /// A run after the recovery is acknowledged, then the power fails and nothing survives that need not.
    fn next_run_works(&self, disk: &SimDisk) -> Check {
        let last = self.story.len() - 1;
        let mut expected = check::present(disk, self.story)?;
        expected.push(last);
        let mut disk = disk.clone();
        let next = drive(&mut disk, |io| run_all(io, &self.story[last..]));
        next.finished().map_err(|error| format!("the next run fails: {error}"))?;
        disk.lose_power(&mut first_of_all());
        check::acknowledged_is_there(&disk, self.story, &expected, None).map_err(|why| format!("after the next run: {why}"))
    }

    fn told(&self, name: &str) {
        let Sweep { crashes, distinct, recovery_crashes, .. } = self;
        println!(
            "{name}: {crashes} crashes, {recovery_crashes} crashes of recoveries, {distinct} different states recovered from"
        );
    }
}

/// A disk after a run that was not disturbed.
fn after_run(batches: &[Batch]) -> SimDisk {
    let mut disk = SimDisk::new();
    drive(&mut disk, |io| run_all(io, batches)).finished().expect("a run that nothing disturbs");
    disk
}

/// Two runs of few small messages, and one more.
fn small_story() -> Vec<Batch> {
    vec![
        snapshot(1, vec![mail(1, 300), mail(2, 700)]),
        snapshot(2, vec![mail(3, 400)]),
        snapshot(3, vec![]),
        snapshot(4, vec![mail(4, 100)]),
    ]
}

/// Messages that have members of their own, one through several of them, and a checkpoint between.
fn large_story() -> Vec<Batch> {
    vec![
        snapshot(1, vec![mail(11, 500), long_mail(12, 70_000)]),
        story::checkpoint(vec![long_mail(13, 100_000), long_mail(14, 1_200_000), mail(15, 900)]),
        snapshot(2, vec![long_mail(16, 2_100_000), mail(17, 100)]),
        snapshot(3, vec![mail(18, 300)]),
    ]
}

#[test]
fn no_crash_of_the_first_run_loses_anything() {
    let story = [&small_story()[..1], &small_story()[3..]].concat();
    let sweep = Sweep::new(&story, 0).all(&SimDisk::new()).unwrap_or_else(|why| panic!("{why}"));
    sweep.told("first run");
}

#[test]
fn no_crash_of_a_later_run_loses_anything() {
    let story = small_story();
    let sweep = Sweep::new(&story, 1).all(&after_run(&story[..1])).unwrap_or_else(|why| panic!("{why}"));
    sweep.told("later run with two commits");
}

#[test]
fn no_crash_of_a_run_with_large_messages_and_a_checkpoint_loses_anything() {
    let story = large_story();
    let mut sweep = Sweep::new(&story, 1);
    sweep.effort = Effort { enumerate_up_to: 3, samples: 12 };
    sweep.in_recovery = Effort { enumerate_up_to: 1, samples: 1 };
    let sweep = sweep.all(&after_run(&story[..1])).unwrap_or_else(|why| panic!("{why}"));
    sweep.told("run with large messages");
}

/// The tests above can fail: they find what a disk costs that says it synced and did not.
#[test]
fn a_disk_that_lies_about_syncs_is_found_out() {
    let story = small_story();
    let mut disk = after_run(&story[..1]);
    disk.lie(Lie::Sync);
    let why = Sweep::new(&story, 1).all(&disk).err().expect("lost data to be noticed");
    assert!(why.contains("acknowledged were"), "{why}");

    let story = [&story[..1], &story[3..]].concat();
    let mut disk = SimDisk::new();
    disk.lie(Lie::SyncDir);
    let why = Sweep::new(&story, 0).all(&disk).err().expect("a lost name to be noticed");
    assert!(why.contains("acknowledged were") || why.contains("does not exist"), "{why}");
}

/// Lets each operation of the procedure fail, one at a time; `then` judges the disk afterwards.
fn each_operation_fails(
    base: &SimDisk,
    batches: &[Batch],
    trouble: Trouble,
    then: &mut dyn FnMut(&SimDisk, usize) -> Check,
) -> Result<u32, String> {
    for at in 1.. {
        let (mut disk, acknowledged) = (base.clone(), Cell::new(0));
        disk.take_transcript();
        disk.plan(at, trouble);
        let outcome = drive(&mut disk, |io| run(io, batches, &acknowledged)).finished();
        if disk.unplan() {
            return Ok(at - 1);
        }
        let judged = is_clear(&outcome, trouble, acknowledged.get() == batches.len());
        judged.and_then(|()| then(&disk, acknowledged.get())).map_err(|why| {
            format!("{trouble:?} at operation {at}, which gave {outcome:?}: {why}\n{}", disk.clone().take_transcript())
        })?;
    }
    unreachable!("a run ends")
}

/// A failed run says what failed, on what, and why. Only what is tidied up may fail unnoticed, and then all is acknowledged.
fn is_clear(outcome: &Result<(), Error>, trouble: Trouble, all: bool) -> Check {
    let (Trouble::Fail(fault) | Trouble::Forget(fault)) = trouble else { return Err(String::from("not a failure")) };
    match outcome {
        Ok(()) if all => Ok(()),
        Ok(()) => Err(String::from("the run says that it succeeded")),
        Err(Error::World { object, fault: told, .. }) if !object.is_empty() && *told == fault => Ok(()),
        Err(error) => Err(format!("not clear: {error}")),
    }
}

#[test]
fn a_failing_operation_ends_the_run_clearly_and_loses_nothing() {
    let story = small_story();
    let base = after_run(&story[..1]);
    for trouble in [Trouble::Fail(Fault::NoSpace), Trouble::Fail(Fault::Os(5)), Trouble::Forget(Fault::Os(5))] {
        for (base, before) in [(&SimDisk::new(), 0), (&base, 1)] {
            let mut sweep = Sweep::new(&story, before);
            let batches = sweep.batches();
            let judge = &mut |disk: &SimDisk, acknowledged: usize| {
                check::nothing_open(disk)?;
                for (how, after) in crashes(disk, BRIEF) {
                    sweep.recover(&after, before + acknowledged, &[], false).map_err(|why| format!("{how}: {why}"))?;
                }
                Ok(())
            };
            let count = each_operation_fails(base, batches, trouble, judge).unwrap_or_else(|why| panic!("{why}"));
            println!("{trouble:?}: each of {count} operations of a run failed once");
        }
    }
}

#[test]
fn a_failing_recovery_ends_clearly_and_loses_nothing() {
    let story = small_story();
    let mut base = just_before(&after_run(&story[..1]), &story[1..3], |op| matches!(op, Op::Sync(_)), 1);
    base.lose_power(&mut first_of_all());
    let mut cut = base.clone();
    let bytes = cut.content(&archive()).map(<[u8]>::to_vec).unwrap_or_default();
    cut.put_file(&archive(), [&bytes[..], b"junk behind the end"].concat());
    for base in [base, cut] {
        for trouble in [Trouble::Fail(Fault::NoSpace), Trouble::Forget(Fault::Os(5))] {
            let mut sweep = Sweep::new(&story, 1);
            let judge = &mut |disk: &SimDisk, _| {
                check::nothing_open(disk)?;
                let mut after = disk.clone();
                after.kill();
                // The second commit was not acknowledged, but it was durable.
                sweep.recover(&after, 2, std::slice::from_ref(&bytes), false)
            };
            each_operation_fails(&base, &[], trouble, judge).unwrap_or_else(|why| panic!("{why}"));
        }
    }
}

#[test]
fn a_failing_operation_of_a_reader_is_told_with_the_archives_name() {
    let base = after_run(&small_story()[..2]);
    for at in 1.. {
        let mut disk = base.clone();
        disk.plan(at, Trouble::Fail(Fault::Os(5)));
        let outcome = drive(&mut disk, check::read_all).finished();
        if disk.unplan() {
            break;
        }
        // What cannot be closed was read all the same.
        let Err(error) = outcome else { continue };
        assert_eq!(check::nothing_open(&disk), Ok(()), "operation {at}");
        let told = matches!(&error, Error::World { object, .. } if object.contains("archive.tar.gz"));
        assert!(told, "operation {at}: {error}\n{}", disk.take_transcript());
    }
}

/// The disk as it is just before the `nth` operation of this kind in a run.
fn just_before(base: &SimDisk, batches: &[Batch], kind: impl Fn(&Op) -> bool, nth: usize) -> SimDisk {
    let (mut disk, mut found) = (base.clone(), Vec::new());
    disk.take_transcript();
    let outcome = drive_watched(&mut disk, |io| run_all(io, batches), &mut |disk, op| {
        if kind(op) {
            found.push(disk.clone());
        }
    });
    outcome.finished().expect("the run itself");
    found.swap_remove(nth)
}

#[test]
fn a_second_writer_is_told_that_the_archive_is_busy() {
    let story = small_story();
    let mut disk = after_run(&story[..1]);
    let mut first = Running::new(&disk, |io| run_all(io, &story[1..3]));
    assert!(first.go(&mut disk, 12));
    let before = disk.store();
    let second = drive(&mut disk, |io: Io| run_all(io, &story[3..])).finished();
    let Err(Error::Busy { object, holder }) = second else { panic!("{second:?}") };
    assert_eq!(object, "3b/anna/archive.tar.gz");
    // The kernel does not say which.
    assert_eq!(holder.as_deref(), Some("another process"));
    assert_eq!(disk.store(), before);
    assert_eq!(first.finish(&mut disk), Ok(()));
    assert_eq!(check::present(&disk, &story), Ok(vec![0, 1, 2]));

    disk.hold(&story::dir().join(b"lock"), LockMode::Exclusive, "process 4711 (cylinder)");
    assert!(matches!(drive(&mut disk, story::reopen).finished(), Err(Error::Busy { .. })));
    disk.let_go();
    assert_eq!(drive(&mut disk, story::reopen).finished(), Ok(()));
}

/// A writer does `k` operations, a reader begins and does `j`, the writer ends, the reader ends: for every `k` and `j`.
#[test]
fn a_reader_beside_a_writer_sees_the_last_state_or_the_new_one() {
    let story = small_story();
    let clean = after_run(&story[..1]);
    let mut interrupted = just_before(&clean, &story[1..3], |op| matches!(op, Op::Sync(_)), 0);
    interrupted.kill();
    let mut damaged = clean.clone();
    let bytes = damaged.content(&archive()).map(<[u8]>::to_vec).unwrap_or_default();
    damaged.put_file(&archive(), [&bytes[..], &[7; 3000]].concat());
    let mut orders = 0;
    for base in [clean, interrupted, damaged] {
        let base_ops = base.ops();
        let mut whole = base.clone();
        drive(&mut whole, |io: Io| run_all(io, &story[3..])).finished().expect("a run");
        for k in 0..=whole.ops() - base_ops {
            for j in 0.. {
                orders += 1;
                let mut disk = base.clone();
                let mut writer = Running::new(&disk, |io| run_all(io, &story[3..]));
                let mut reader = Running::new(&disk, check::read_all);
                let on = writer.go(&mut disk, k);
                if !reader.go(&mut disk, j * 2) {
                    break;
                }
                if on {
                    assert_eq!(writer.finish(&mut disk), Ok(()));
                }
                let seen = reader.finish(&mut disk);
                let seen = seen.unwrap_or_else(|error| panic!("writer {k}, reader {j}: {error}\n{}", disk.take_transcript()));
                let sources: Vec<&str> = seen.iter().map(|found| &found.source[..]).collect();
                assert!(sources.starts_with(&["story:1"]) && sources.len() <= 3, "{sources:?}");
            }
        }
    }
    println!("{orders} orders of a writer and a reader");
}

/// A run writes over the footer. Whoever has asked for the length of the file before sees the beginning of what the run brings
/// in its place, and more behind it: the trace of a run that is under way, and no damage. (Seed 629, once whoever runs beside
/// may go on for a while: a compaction that began when a backup ended told of damage.)
#[test]
fn a_run_that_is_under_way_is_no_damage_to_a_reader() {
    async fn end(io: Io) -> Result<End, Error> {
        let reader = Reader::open(&io, &story::dir()).await?;
        let end = reader.end();
        reader.close().await;
        Ok(end)
    }
    let story = small_story();
    let base = after_run(&story[..1]);
    let mut interrupted = 0;
    for k in 0.. {
        let mut on = true;
        for j in 0.. {
            let mut disk = base.clone();
            let mut writer = Running::new(&disk, |io| run_all(io, &story[1..]));
            on = writer.go(&mut disk, k);
            let mut reader = Running::new(&disk, end);
            if !reader.go(&mut disk, j) {
                break;
            }
            if on {
                assert_eq!(writer.finish(&mut disk), Ok(()));
            }
            match reader.finish(&mut disk).expect("an archive") {
                End::Footer => {}
                End::Interrupted => interrupted += 1,
                End::Damaged => panic!("writer {k}, reader {j}: damaged\n{}", disk.take_transcript()),
            }
        }
        if !on {
            break;
        }
    }
    assert!(interrupted > 100, "{interrupted}");
}

/// A message may have bytes that are a footer of this very archive, and a run may be cut off right behind them.
#[test]
fn a_footer_of_another_place_is_not_believed() {
    let story = small_story();
    let first = after_run(&story[..1]).content(&archive()).expect("an archive").to_vec();
    let (body, old_footer) = first.split_at(first.len() - FOOTER_LEN);
    let mut disk = after_run(&story[..3]);
    let bytes = disk.content(&archive()).expect("an archive").to_vec();
    assert!(bytes.starts_with(body));
    disk.put_file(&archive(), [&bytes[..], old_footer].concat());
    assert_eq!(check::present(&disk, &story), Ok(vec![0, 1, 2]));
    drive(&mut disk, story::reopen).finished().expect("mended");
    assert_eq!(check::present(&disk, &story), Ok(vec![0, 1, 2]));
}

/// What is told of an archive that is mended, and what lies beside it then.
fn mended(image: Vec<u8>) -> (Vec<String>, Vec<(String, usize)>) {
    async fn notes(io: Io) -> Result<Vec<String>, Error> {
        let writer = Writer::open(&io, &story::dir(), &story::settings(), [0; 16]).await?;
        let notes = writer.notes().to_vec();
        writer.close().await;
        Ok(notes)
    }
    let mut disk = SimDisk::new();
    disk.put_file(&archive(), image);
    let notes = drive(&mut disk, notes).finished().expect("an archive");
    let aside = disk.store().into_iter().filter(|(name, _)| name.contains(".aside-"));
    (notes, aside.map(|(name, content)| (name, content.len())).collect())
}

#[test]
fn it_is_told_what_was_behind_the_last_commit() {
    let disk = after_run(&small_story()[..1]);
    let whole = disk.content(&archive()).expect("an archive").to_vec();
    let commits = &whole[..whole.len() - FOOTER_LEN];
    assert_eq!(mended(whole.clone()), (vec![], vec![]));
    // Killed before the first byte of the footer: nothing is lost, and nothing is to be kept.
    assert_eq!(mended(commits.to_vec()), (vec![], vec![]));
    let (notes, aside) = mended([commits, &whole[..30]].concat());
    assert_eq!(notes, ["an interrupted run was found; 30 bytes that it had not committed are repeated"]);
    assert!(matches!(&aside[..], [(name, 30)] if name.ends_with("-interrupted")), "{aside:?}");
    // No run leaves anything behind a footer.
    let (notes, aside) = mended([&whole[..], &whole[..30]].concat());
    assert!(
        matches!(&notes[..], [note] if note.starts_with("125 bytes behind commit 1 were damaged, and are kept in")),
        "{notes:?}"
    );
    assert!(matches!(&aside[..], [(name, 125)] if name.ends_with("-damaged")), "{aside:?}");
}

#[test]
fn it_does_not_matter_in_which_order_members_come_back() {
    let story = large_story();
    let in_order = after_run(&story);
    let mut late = SimDisk::new();
    late.set_late_seals();
    drive(&mut late, |io: Io| run_all(io, &story)).finished().expect("a run");
    // Times are those of the operations, which were done in another order: the content must be the same.
    assert_eq!(check::present(&late, &story), Ok(vec![0, 1, 2, 3]));
    assert_eq!(late.store().keys().collect::<Vec<_>>(), in_order.store().keys().collect::<Vec<_>>());
}

#[test]
fn the_same_seed_gives_the_same_transcript_and_the_same_bytes() {
    let story = large_story();
    let play = |seed| {
        let mut disk = just_before(&after_run(&story[..1]), &story[1..3], |op| matches!(op, Op::Sync(_)), 2);
        disk.lose_power(&mut Sampler::new(seed));
        drive(&mut disk, |io: Io| run_all(io, &story[3..])).finished().expect("a run");
        (disk.take_transcript(), disk.store())
    };
    assert_eq!(play(1), play(1));
    assert_ne!(play(1), play(2), "seeds make no difference");
}

/// Found by the sweep over the first run. Whoever created the archive was killed before it synced the directory; the next run
/// found the archive, committed, and acknowledged what a power loss then took away together with the name.
#[test]
fn a_name_that_a_killed_run_did_not_sync_is_synced_by_the_next() {
    let story = small_story();
    let mut disk = just_before(&SimDisk::new(), &story[..1], |op| matches!(op, Op::SyncDir(_)), 0);
    disk.kill();
    drive(&mut disk, |io: Io| run_all(io, &story[3..])).finished().expect("a run");
    disk.lose_power(&mut first_of_all());
    assert_eq!(check::present(&disk, &story), Ok(vec![3]));
}

/// Found by the sweep over a later run. A run was killed with its whole commit in the page cache; the recovery wrote a footer
/// behind it, and of both a power loss kept the footer and the commit's record, and not the messages.
#[test]
fn a_commit_that_only_the_page_cache_has_is_synced_before_its_footer() {
    let story = small_story();
    let mut disk = just_before(&after_run(&story[..1]), &story[1..3], |op| matches!(op, Op::Sync(_)), 0);
    disk.kill();
    let mut stopped = Vec::new();
    let recovery = drive_watched(&mut disk, story::reopen, &mut |disk, _| stopped.push(disk.clone()));
    assert_eq!(recovery.finished(), Ok(()));
    let mut losses = 0;
    for disk in stopped {
        for (how, mut after) in crashes(&disk, THOROUGH) {
            losses += 1;
            drive(&mut after, story::reopen).finished().expect("a second recovery");
            assert_eq!(check::acknowledged_is_there(&after, &story, &[0], Some(1)), Ok(()), "{how}");
        }
    }
    assert!(losses > 100, "{losses}");
}

/// The number of the newest snapshot.
async fn newest(io: Io) -> Result<u64, Error> {
    let reader = Reader::open(&io, &story::dir()).await?;
    let newest = view::snapshot(&reader, When::Newest).await.map(|at| at.commit.number);
    reader.close().await;
    newest
}

/// A footer tells that its commit was acknowledged: whatever rots in it later, it is the newest snapshot, and what is not
/// damaged of it is there. A commit that has no footer counts only if all of it is good. So the footer, too, is durable before
/// a run is acknowledged, though no power loss alone would lose a message without it.
#[test]
fn an_acknowledged_commit_of_which_something_rots_after_a_power_loss_is_still_the_newest() {
    let story = small_story();
    let before = after_run(&story[..1]);
    let first = drive(&mut before.clone(), newest).finished().expect("a snapshot");
    let start = before.content(&archive()).expect("an archive").len() - FOOTER_LEN;
    let mut disk = before.clone();
    drive(&mut disk, |io| run_all(io, &story[1..2])).finished().expect("a run");
    let mut losses = 0;
    for (how, mut after) in crashes(&disk, THOROUGH) {
        losses += 1;
        let mut image = after.content(&archive()).expect("an archive").to_vec();
        // In the first member that the run has brought: its message.
        image[start + 60] ^= 0x10;
        after.change_file(&archive(), image);
        assert_eq!(drive(&mut after, newest).finished(), Ok(first + 1), "{how}");
        drive(&mut after, story::reopen).finished().expect("a recovery");
        assert_eq!(drive(&mut after, newest).finished(), Ok(first + 1), "{how}, mended");
    }
    assert!(losses > 0);
}
