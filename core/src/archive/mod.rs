//! The archive: one user's mail in one append-only `.tar.gz`. `core/FORMAT.md` is the page to read first.
//!
//! Bytes: [`member`] (gzip), [`entry`] (tar), [`record`] (commit, table, list). Procedures: [`read`] (open, look up),
//! [`append`] (write, commit, mend; its members come from `pack`), [`stream`] and [`entries`] (everything from first to last),
//! [`verify`]. What must not come in: Cyrus.

pub mod append;
pub(crate) mod build;
pub mod entries;
pub mod entry;
pub mod member;
pub(crate) mod pack;
pub mod read;
pub mod record;
pub mod stream;
pub mod verify;
