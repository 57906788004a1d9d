//! Alarms over whole lives: none ends unseen, none stands for ever, none comes twice for one cause that was acknowledged.

use cylinder_tests::alarms::{Tally, run};

fn lives(first: u64, count: u64) {
    let mut tally = Tally::default();
    for seed in first..first + count {
        run(seed, &mut tally).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    println!("{count} lives: {tally:?}");
    assert!(
        ["loss", "vanished", "other"].iter().all(|word| tally.raised.get(word).is_some_and(|n| *n > count / 4)),
        "{tally:?}"
    );
    assert!(tally.acknowledged > count && tally.adopted > count / 16 && tally.passed_over > count / 4, "{tally:?}");
    assert!(tally.runs.iter().all(|n| *n > count), "{tally:?}");
}

#[test]
fn no_alarm_ends_unseen_and_none_stands_after_somebody_has_looked() {
    lives(0, 1_000);
}

/// Some minutes.
#[test]
#[ignore = "takes some minutes"]
fn a_hundred_thousand_lives() {
    lives(1_000_000, 100_000);
}
