//! Choices that a test makes: all of them, one after the other, or some of them by a seed.
//!
//! What is tested takes a [`Choose`] and does not know which. Neither needs a clock or the system's randomness, so whatever was
//! found can be had again.

/// Makes bounded choices.
pub trait Choose {
    /// A number from 0 to `most`.
    fn upto(&mut self, most: u32) -> u32;

    /// Yes or no.
    fn flip(&mut self) -> bool {
        self.upto(1) == 1
    }
}

/// Enumerates every sequence of choices that can be asked for: `while !gen.done() { .. gen.upto(n) .. }`.
///
/// The body must ask for the same choices whenever it got the same answers. The first round answers 0 to everything.
#[derive(Clone, Debug, Default)]
pub struct Gen {
    started: bool,
    /// Answer and bound of each choice of this round.
    made: Vec<(u32, u32)>,
    next: usize,
}

impl Gen {
    /// Goes on to the next sequence; true if there is none.
    pub fn done(&mut self) -> bool {
        self.next = 0;
        if !std::mem::replace(&mut self.started, true) {
            return false;
        }
        while let Some((answer, most)) = self.made.pop() {
            if answer < most {
                self.made.push((answer + 1, most));
                return false;
            }
        }
        true
    }

    /// The answers of this round, to be printed when it failed.
    pub fn answers(&self) -> Vec<u32> {
        self.made[..self.next].iter().map(|&(answer, _)| answer).collect()
    }
}

impl Choose for Gen {
    fn upto(&mut self, most: u32) -> u32 {
        if self.next == self.made.len() {
            self.made.push((0, most));
        }
        let (answer, bound) = self.made[self.next];
        assert_eq!(bound, most, "the same answers led to another question");
        self.next += 1;
        answer
    }
}

/// Answers by a seed (splitmix64). Each sampler says yes with odds of its own, so that nearly all and nearly none come up too.
#[derive(Clone, Debug)]
pub struct Sampler {
    state: u64,
    yes_in_16: u32,
}

impl Sampler {
    /// The sampler of this seed.
    pub fn new(seed: u64) -> Sampler {
        let mut sampler = Sampler { state: seed, yes_in_16: 8 };
        sampler.yes_in_16 = [1, 4, 8, 12, 15][sampler.upto(4) as usize];
        sampler
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Choose for Sampler {
    fn upto(&mut self, most: u32) -> u32 {
        (self.bits() % (u64::from(most) + 1)) as u32
    }

    fn flip(&mut self) -> bool {
        self.upto(15) < self.yes_in_16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_comes_once() {
        let mut all = Vec::new();
        let mut choices = Gen::default();
        while !choices.done() {
            let first = choices.upto(2);
            // The second question depends on the first answer.
            let second = if first == 1 { choices.upto(1) } else { 9 };
            all.push((first, second));
            assert_eq!(choices.answers()[0], first);
        }
        assert_eq!(all, [(0, 9), (1, 0), (1, 1), (2, 9)]);
    }

    #[test]
    fn a_seed_gives_the_same_answers_and_another_gives_others() {
        let draw = |seed| {
            let mut s = Sampler::new(seed);
            (0..64).map(|n| if n % 2 == 0 { s.upto(9) } else { u32::from(s.flip()) }).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let yes: Vec<u32> = (0..50).map(|seed| count_yes(Sampler::new(seed), 200)).collect();
        assert!(yes.iter().any(|&n| n < 40) && yes.iter().any(|&n| n > 160), "{yes:?}");
    }

    fn count_yes(mut sampler: Sampler, of: u32) -> u32 {
        (0..of).map(|_| u32::from(sampler.flip())).sum()
    }
}
