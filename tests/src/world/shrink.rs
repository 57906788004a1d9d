//! Making a life that fails short enough to be read.

use super::World;
use super::life::{Fault, Life, Step};

/// A life as short as it gets that still fails, and why. Any failure counts: what is wrong may show elsewhere in a shorter one.
///
/// Steps are left out in ever smaller bunches, then faults and what happens meanwhile, one by one, until nothing more can go.
pub fn shrink(life: &Life) -> (Life, String) {
    let mut best = life.clone();
    let mut why = match World::live(&best).1 {
        Ok(()) => return (best, String::from("it does not fail")),
        Err(why) => why,
    };
    let mut fails = |candidate: &Life| World::live(candidate).1.err().inspect(|other| why.clone_from(other)).is_some();
    loop {
        let before = best.clone();
        let mut bunch = best.steps.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < best.steps.len() {
                let mut candidate = best.clone();
                candidate.steps.drain(at..(at + bunch).min(candidate.steps.len()));
                if fails(&candidate) {
                    best = candidate;
                } else {
                    at += bunch;
                }
            }
            if bunch == 1 {
                break;
            }
            bunch = bunch.div_ceil(2);
        }
        for at in 0..best.steps.len() {
            for simpler in simpler(&best.steps[at]) {
                let mut candidate = best.clone();
                candidate.steps[at] = simpler;
                if fails(&candidate) {
                    best = candidate;
                    break;
                }
            }
        }
        if best == before {
            break;
        }
    }
    // What the last candidate said may be of another one.
    if let Err(last) = World::live(&best).1 {
        why = last;
    }
    (best, why)
}

/// Steps that are like this one, with less in them.
fn simpler(step: &Step) -> Vec<Step> {
    match step {
        Step::Backup { store, faults, meanwhile } => {
            let without = |n: usize| {
                let mut fewer = meanwhile.clone();
                fewer.remove(n);
                Step::Backup { store: *store, faults: faults.clone(), meanwhile: fewer }
            };
            let mut all: Vec<Step> = (0..meanwhile.len()).map(without).collect();
            if !faults.is_empty() {
                all.push(Step::Backup { store: *store, faults: Vec::new(), meanwhile: meanwhile.clone() });
            }
            let earlier = faults.iter().filter_map(earlier);
            all.extend(earlier.map(|fault| Step::Backup { store: *store, faults: vec![fault], meanwhile: meanwhile.clone() }));
            all
        }
        Step::Compact { store, if_needed, faults } if !faults.is_empty() => {
            vec![Step::Compact { store: *store, if_needed: *if_needed, faults: Vec::new() }]
        }
        Step::Wait { ms } if *ms > 1000 => vec![Step::Wait { ms: 1000 }],
        _ => Vec::new(),
    }
}

/// The same fault without what makes it complicated.
fn earlier(fault: &Fault) -> Option<Fault> {
    match *fault {
        Fault::Stop { at, how, power: Some(seed) } if seed > 7 => Some(Fault::Stop { at, how, power: Some(seed % 8) }),
        _ => None,
    }
}

/// What somebody reads who is told that a seed fails: the life made short, why it fails, and how to see it again.
pub fn story(seed: u64) -> String {
    let (short, why) = shrink(&Life::of(seed));
    let (told, _) = World::tell(&short);
    let mut text = format!("seed {seed}: {} steps are left\n{:?}\n", short.steps.len(), short.traits);
    for line in told {
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str(&format!("{why}\nto see it again: {}\n", command(seed)));
    text
}

/// The command that lives this seed again.
pub fn command(seed: u64) -> String {
    format!("cargo run --release --package cylinder-tests --bin world -- seed {seed}")
}
