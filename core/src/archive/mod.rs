//! The archive: one user's mail in one append-only `.tar.gz`. `core/FORMAT.md` is the page to read first.
//!
//! Bytes: [`member`] (gzip), [`entry`] (tar), [`record`] (commit, table, list). Procedures: [`read`] (open, look up),
//! [`append`] (write, commit; its members come from `pack`), `mend` (an end that is missing), [`stream`] and [`entries`]
//! (everything from first to last), [`blocks`] and [`walk`] (the same in spite of damage), [`verify`]. What holds from commit
//! to commit, alarms among it: [`standing`]. What must not come in: Cyrus.

pub mod append;
pub mod blocks;
pub(crate) mod build;
pub mod entries;
pub mod entry;
pub mod member;
pub(crate) mod mend;
pub(crate) mod pack;
pub mod read;
pub mod record;
pub mod standing;
pub mod stream;
pub mod verify;
pub mod walk;
