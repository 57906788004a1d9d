//! What the tests share: simulated disk, generators, checks.

pub mod check;
pub mod choose;
pub mod cli;
pub mod crashes;
pub mod csync;
pub mod disk;
pub mod drive;
pub mod everyday;
pub mod forge;
pub mod host;
pub mod imap;
pub mod lab;
pub mod life;
pub mod local;
pub mod mock;
pub mod net;
pub mod proof;
pub mod pulled;
pub mod replica;
pub mod restores;
pub mod said;
pub mod sieve;
pub mod spool;
pub mod sshd;
pub mod story;
pub mod world;
