//! The formats, names and paths of Cyrus IMAP, as pure readers over bytes (and writers where restore or the tests need them).
//!
//! One file for each format, with the source of its facts. What must not come in: opening files, and anything about archives.

pub mod annotations;
pub mod conf;
pub mod db;
pub mod dlist;
pub mod header;
pub mod index;
pub mod mailboxes;
pub mod names;
pub mod paths;
pub mod quota;
pub mod seen;
pub mod sqlite;
pub mod subs;
pub mod utf7;
