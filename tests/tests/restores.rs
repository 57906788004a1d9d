//! Restores by chance, by seeds: new ones each day, and some that once failed, by name.
//!
//! More of them, and one again: `cargo run --release --package cylinder-tests --bin restores`. From another seed than today's:
//! `CYLINDER_SEED=n`.

use cylinder_tests::restores::loss::Loss;
use cylinder_tests::restores::ways::Way;
use cylinder_tests::restores::{End, Tally, run};
use std::time::{SystemTime, UNIX_EPOCH};

/// Cases of one run of the tests.
const CASES: u64 = 1600;

/// By what cases that went well are counted.
type Key = (Way, Loss, bool, End);

/// Faults that are known: the way, the kind, and a seed that has shown it.
const KNOWN: &[(Way, &str, u64)] = &[
    (Way::Tree, "a folder that nobody asked for", 269_410),
    (Way::Tree, "content that nobody had", 200_413),
    (Way::Tree, "flags lack, and nothing is told", 200_347),
    (Way::Tree, "once more, and it does something", 213_763),
    (Way::Merge, "a folder made again lacks what it had", 201_470),
    (Way::Merge, "a folder that nobody asked for", 271_195),
    (Way::Merge, "content that nobody had", 203_763),
    (Way::Merge, "flags lack, and nothing is told", 200_361),
    (Way::Merge, "once more, and it does something", 40_139),
];

/// The seeds of today: others than yesterday's, and the same for everybody who looks today.
fn first_seed() -> u64 {
    let given = std::env::var("CYLINDER_SEED").ok().and_then(|seed| seed.parse().ok());
    let today = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    given.unwrap_or(today * 1_000_000)
}

#[test]
fn what_is_restored_is_what_was_or_the_report_says_what_is_not() {
    let (first, mut tally) = (first_seed(), Tally::default());
    for seed in first..first + CASES {
        let Err((way, fault)) = tally.add(seed) else { continue };
        let is_known = KNOWN.iter().any(|(known, kind, _)| *known == way && *kind == fault.kind);
        let again = format!("cargo run --release --package cylinder-tests --bin restores -- {seed}");
        assert!(is_known, "seed {seed}, {way:?}: {}: {}\n    {again}", fault.kind, fault.why);
    }
    println!("seeds from {first}: {:?}", tally.well);
    let well = |is: &dyn Fn(&Key) -> bool| tally.well.iter().filter(|(key, _)| is(key)).map(|(_, n)| n).sum::<u64>();
    // The cases are not too kind, and not too hard.
    for way in [Way::Tree, Way::Merge, Way::Flags, Way::Exact, Way::Replace] {
        let (cut, clean) = (well(&|key| key.0 == way && key.2), well(&|key| key.0 == way && key.3 == End::Clean));
        let partial = well(&|key| key.0 == way && key.3 == End::Partial);
        assert!(
            cut >= 10 && clean >= 10 && (partial >= 5 || way == Way::Flags),
            "{way:?}: {cut} cut, {clean} clean, {partial} partial"
        );
    }
    for loss in [Loss::Nothing, Loss::Messages, Loss::Filed, Loss::Folders, Loss::User, Loss::UserAgain] {
        assert!(well(&|key| key.1 == loss) >= 30, "{loss:?}: {}", well(&|key| key.1 == loss));
    }
}

#[test]
fn the_same_seed_is_the_same_case() {
    for seed in 500..540 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
}
