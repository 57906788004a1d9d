//! Restores by chance: `restores FIRST COUNT` runs the cases of so many seeds and prints what came of them, `restores SEED` one
//! case, told line by line, and what is wrong with it if anything is.
//!
//! Prints counts by way of restoring, loss and outcome, and for each kind of fault the first seeds that show it.

use cylinder_tests::restores::{Tally, tell};
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let numbers: Vec<u64> = std::env::args().skip(1).map_while(|word| word.parse().ok()).collect();
    match numbers[..] {
        [seed] => one(seed),
        [first, count] => many(first, count),
        _ => {
            eprintln!("usage: restores FIRST COUNT | restores SEED");
            ExitCode::from(2)
        }
    }
}

fn one(seed: u64) -> ExitCode {
    let (lines, result) = tell(seed);
    lines.iter().for_each(|line| println!("{line}"));
    match result {
        Ok(told) => {
            println!("seed {seed}: {told:?}");
            ExitCode::SUCCESS
        }
        Err((way, fault)) => {
            println!("seed {seed}, {way:?}: {}: {}", fault.kind, fault.why);
            ExitCode::from(1)
        }
    }
}

fn many(first: u64, count: u64) -> ExitCode {
    let (begun, mut tally) = (Instant::now(), Tally::default());
    for seed in first..first + count {
        // What is wrong is counted.
        let _ = tally.add(seed);
    }
    for ((way, loss, was_cut, end), n) in &tally.well {
        let cut = if *was_cut { "cut" } else { "uncut" };
        println!("{n:8} {way:?} {loss:?} {cut} {end:?}");
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("{count} cases from seed {first} in {seconds:.1} s, {:.0} a second", count as f64 / seconds);
    let faulty: u64 = tally.faults.values().map(|(n, _)| n).sum();
    for ((way, kind), (n, seeds)) in &tally.faults {
        println!("{n:8} {way:?}: {kind}: seeds {seeds:?}");
    }
    println!("{faulty} of {count} cases go wrong");
    ExitCode::from(u8::from(faulty > 0))
}
