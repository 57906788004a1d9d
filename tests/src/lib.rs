//! What the tests share: simulated disk, generators, checks.

pub mod choose;
pub mod disk;
pub mod drive;
