//! Lives through the simulated world: `world seeds FROM COUNT`, `world first FROM COUNT` no further than the first that fails,
//! `world nightly FROM` until it is stopped, `world seed N` one life that is made short if it fails, `world tell N` one life
//! as it is.
//!
//! Two threads; which of them lives which seed changes nothing. Prints what was lived through, and for each seed that fails
//! why, and the command that lives it again.

use cylinder_tests::world::Tally;
use cylinder_tests::world::World;
use cylinder_tests::world::life::Life;
use cylinder_tests::world::shrink::{command, story};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

/// Failures that are told; more are only counted.
const TOLD_MAX: usize = 20;
/// Lives between two lines of a nightly run.
const BUNCH: u64 = 20_000;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let numbers: Vec<u64> = words.iter().skip(1).map_while(|word| word.parse().ok()).collect();
    match (words.first().map(String::as_str), &numbers[..]) {
        (Some("seeds"), [from, count]) => seeds(*from, *count, usize::MAX),
        (Some("first"), [from, count]) => seeds(*from, *count, 1),
        (Some("nightly"), [from]) => nightly(*from),
        (Some("seed"), [seed]) => {
            let failed = World::live(&Life::of(*seed)).1.is_err();
            println!("{}", if failed { story(*seed) } else { format!("seed {seed}: nothing is wrong") });
            ExitCode::from(u8::from(failed))
        }
        (Some("tell"), [seed]) => {
            let (told, check) = World::tell(&Life::of(*seed));
            told.iter().for_each(|line| println!("{line}"));
            println!("{check:?}");
            ExitCode::from(u8::from(check.is_err()))
        }
        _ => {
            eprintln!("usage: world seeds FROM COUNT | first FROM COUNT | nightly FROM | seed N | tell N");
            ExitCode::from(2)
        }
    }
}

fn nightly(from: u64) -> ExitCode {
    let mut at = from;
    loop {
        if seeds(at, BUNCH, usize::MAX) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
        at += BUNCH;
    }
}

/// Lives these seeds, until so many have failed.
fn seeds(from: u64, count: u64, most: usize) -> ExitCode {
    let begun = Instant::now();
    let (next, failed) = (AtomicU64::new(from), AtomicUsize::new(0));
    let all = Mutex::new((Tally::default(), Vec::new()));
    let worker = || {
        let (mut tally, mut failures) = (Tally::default(), Vec::new());
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + count || failed.load(Ordering::Relaxed) >= most {
                break;
            }
            let (lived, check) = World::live(&Life::of(seed));
            tally.add(lived);
            if let Err(why) = check {
                failed.fetch_add(1, Ordering::Relaxed);
                failures.push((seed, why));
            }
        }
        let mut all = all.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        all.0.add(tally);
        all.1.extend(failures);
    };
    std::thread::scope(|scope| {
        scope.spawn(worker);
        scope.spawn(worker);
    });
    let (tally, mut failures) = all.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    failures.sort();
    report(&tally, count, begun.elapsed().as_secs_f64());
    for (seed, why) in failures.iter().take(TOLD_MAX) {
        println!("seed {seed} fails: {why}\n    {}", command(*seed));
    }
    println!("{} of {count} seeds fail", failures.len());
    ExitCode::from(u8::from(!failures.is_empty()))
}

fn report(tally: &Tally, count: u64, seconds: f64) {
    let years = tally.seconds as f64 / 86_400.0 / 365.25;
    println!("{count} lives in {seconds:.1} s, {:.0} a second; {years:.1} simulated years", count as f64 / seconds);
    println!("{} operations, {} claims of success, {} recoveries checked", tally.ops, tally.successes, tally.recoveries);
    println!("faults:");
    tally.faults.iter().for_each(|(kind, n)| println!("  {n:9} {kind}"));
    let stops: u64 = tally.stops.values().sum();
    println!("{stops} stops at {} different operations:", tally.stops.len());
    let mut points: Vec<_> = tally.stops.iter().collect();
    points.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
    points.iter().take(25).for_each(|(point, n)| println!("  {n:9} {point}"));
}
