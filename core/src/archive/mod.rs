//! The archive: one user's mail in one append-only `.tar.gz`. `core/FORMAT.md` is the page to read first.
//!
//! Bytes: [`member`] (gzip), [`entry`] (tar), [`record`] (commit, table, list). Procedures: [`read`] (open, look up), [`append`]
//! (write, commit, mend), [`verify`]. What must not come in: Cyrus.

pub mod append;
pub mod entry;
pub mod member;
pub mod read;
pub mod record;
