//! The archive: one user's mail in one append-only `.tar.gz`. `core/FORMAT.md` is the page to read first.

pub mod member;
