//! What a crash may leave on a disk: all of it, or a sample by seeds.

use crate::choose::{Gen, Sampler};
use crate::disk::{BLOCK, SimDisk};
use cylinder_core::io::Op;

/// How many power losses are looked at for one point in a run.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// All of them if there are at most so many yes-or-no choices,
    pub enumerate_up_to: u32,
    /// otherwise this many, by seeds.
    pub samples: u64,
}

/// Of the crashes of a run.
pub const THOROUGH: Effort = Effort { enumerate_up_to: 8, samples: 300 };
/// Of the crashes of each recovery.
pub const BRIEF: Effort = Effort { enumerate_up_to: 2, samples: 3 };

/// The choices of the first round: nothing survives.
pub fn first_of_all() -> Gen {
    let mut choices = Gen::default();
    choices.done();
    choices
}

/// The states that a process leaves which is killed in the middle of a write; none for other operations.
pub fn torn(disk: &SimDisk, op: &Op) -> Vec<SimDisk> {
    let Op::WriteAt { data, .. } = op else { return Vec::new() };
    let places = [1, BLOCK, data.len() / 2, data.len().saturating_sub(1)].into_iter().filter(|&keep| keep < data.len());
    let tear = |keep: usize| {
        let mut torn = disk.clone();
        torn.note(format!("-- write torn after {keep} bytes --"));
        torn.tear(op, keep);
        torn
    };
    places.map(tear).collect()
}

/// The states after the process was killed, and after power losses.
pub fn crashes(disk: &SimDisk, effort: Effort) -> Vec<(String, SimDisk)> {
    let mut killed = disk.clone();
    killed.kill();
    let mut all = vec![(String::from("killed"), killed)];
    let undecided = disk.undecided();
    if undecided > effort.enumerate_up_to {
        for seed in 0..effort.samples {
            let mut after = disk.clone();
            after.lose_power(&mut Sampler::new(seed));
            all.push((format!("power loss of seed {seed}"), after));
        }
        return all;
    }
    let mut choices = Gen::default();
    while !choices.done() {
        let mut after = disk.clone();
        after.lose_power(&mut choices);
        all.push((format!("power loss with choices {:?}", choices.answers()), after));
    }
    all
}
