//! The pure core of Cylinder: the formats of Cyrus and of the archive, and the machines that back up, read and check.
//!
//! Four invariants, which the build proves where it can (`.ci/purity`):
//!
//! 1. **No I/O.** The crate is `no_std`, and linked alone it needs nothing from outside but memcpy and its like. What a machine
//!    wants done it asks for as an [`io::Op`]; a driver does it and answers with an [`io::Reply`].
//! 2. **No clock.** Time comes in with every input, as a number ([`time::Time`]).
//! 3. **No order and no chance that was not passed in.** No hash maps; identifiers that must be new come from the caller.
//! 4. **No buffer without a stated limit.** Each limit is a constant with a name beside the code that it bounds.
//!
//! What must not come in: system calls, threads, environment, printing, and anything that knows a terminal or a command line.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod archive;
pub mod backup;
pub mod bytes;
pub mod codec;
pub mod compact;
pub mod complete;
pub mod crc32;
pub mod cyrus;
pub mod diff;
pub mod error;
pub mod escape;
pub mod find;
pub mod guid;
pub mod imap;
pub mod import;
pub mod inspect;
pub mod io;
pub mod lacking;
pub mod lines;
pub mod lost;
pub mod marker;
pub mod named;
pub mod pull;
pub mod repair;
pub mod restore;
pub mod serve;
pub mod source;
pub mod stock;
pub mod store;
pub mod sync;
pub mod tape;
pub mod time;
pub mod view;
pub mod wire;
