//! What the tests share: simulated disk, generators, checks.

pub mod imap;
pub mod lab;
pub mod sieve;
