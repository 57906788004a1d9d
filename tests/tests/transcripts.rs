//! What a run does, written down for people: each snapshot is one short story, operation by operation.
//!
//! Members are stored, not deflated, so that the lengths belong to the format and to no compressor.

use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Op};
use cylinder_tests::choose::Gen;
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::{drive, drive_watched};
use cylinder_tests::story::{self, Batch, archive, mail, run_with, snapshot};
use std::cell::Cell;

async fn run(io: Io, batches: &[Batch]) -> Result<(), Error> {
    run_with(io, batches, &Cell::new(0), &story::stored(), *b"sixteen bytes id").await
}

fn after_run(batches: &[Batch]) -> SimDisk {
    let mut disk = SimDisk::new();
    drive(&mut disk, |io| run(io, batches)).finished().expect("a run that nothing disturbs");
    disk.take_transcript();
    disk
}

/// The disk as it is just before the `nth` sync of a run.
fn before_sync(base: &SimDisk, batches: &[Batch], nth: usize) -> SimDisk {
    let (mut disk, mut found) = (base.clone(), Vec::new());
    let outcome = drive_watched(&mut disk, |io| run(io, batches), &mut |disk, op| {
        if matches!(op, Op::Sync(_)) {
            found.push(disk.clone());
        }
    });
    outcome.finished().expect("the run itself");
    found.swap_remove(nth)
}

/// Nothing survives that was not synced.
fn lose_all(disk: &mut SimDisk) {
    let mut choices = Gen::default();
    choices.done();
    disk.lose_power(&mut choices);
}

fn one_message() -> Vec<Batch> {
    vec![snapshot(1, vec![mail(1, 700)]), snapshot(2, vec![mail(2, 300)])]
}

/// Makes one line of each long row of reads: what a search looks at is not the story.
fn fold_reads(transcript: &str) -> String {
    let lines: Vec<&str> = transcript.lines().collect();
    let is_read = |line: &str| line.contains(" read ") || line.contains(" unseal ");
    let mut out = String::new();
    for row in lines.chunk_by(|a, b| is_read(a) && is_read(b)) {
        match row {
            [first, .., last] if row.len() > 5 => {
                out.push_str(&format!("{first}\n .. {} more reads ..\n{last}\n", row.len() - 2))
            }
            _ => row.iter().for_each(|line| out.push_str(&format!("{line}\n"))),
        }
    }
    out
}

fn assert_transcript(name: &str, mut disk: SimDisk) {
    let mut text = fold_reads(&disk.take_transcript());
    text.push_str("-- the store --\n");
    for (name, content) in disk.store() {
        text.push_str(&format!("{name} {} bytes sha1 {}\n", content.len(), &Guid::of(&content).to_hex()[..8]));
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn first_commit() {
    let (mut disk, story) = (SimDisk::new(), one_message());
    drive(&mut disk, |io| run(io, &story[..1])).finished().expect("a run");
    assert_transcript("archive__first_commit", disk);
}

#[test]
fn power_loss_between_the_two_syncs() {
    let story = one_message();
    let mut disk = before_sync(&after_run(&story[..1]), &story[1..], 1);
    lose_all(&mut disk);
    drive(&mut disk, |io| run(io, &[])).finished().expect("a recovery");
    assert_transcript("archive__power_loss_between_the_two_syncs", disk);
}

#[test]
fn killed_run_is_set_aside_and_repeated() {
    let story = one_message();
    let base = after_run(&story[..1]);
    let mut disk = before_sync(&base, &story[1..], 0);
    disk.kill();
    // The commit was not yet written when the process was killed.
    let bytes = disk.content(&archive()).expect("an archive");
    let torn = bytes[..bytes.len() - 900].to_vec();
    disk.put_file(&archive(), torn);
    disk.take_transcript();
    disk.note("-- a run was killed while it wrote its commit --");
    drive(&mut disk, |io| run(io, &story[1..])).finished().expect("a run");
    assert_transcript("archive__killed_run_is_set_aside_and_repeated", disk);
}

#[test]
fn damaged_tail_is_set_aside() {
    let mut disk = after_run(&one_message());
    let bytes = disk.content(&archive()).expect("an archive").to_vec();
    disk.put_file(&archive(), [&bytes[..], b"this is no part of an archive"].concat());
    disk.note("-- somebody has appended 29 bytes --");
    drive(&mut disk, |io| run(io, &[])).finished().expect("mending");
    assert_transcript("archive__damaged_tail_is_set_aside", disk);
}
