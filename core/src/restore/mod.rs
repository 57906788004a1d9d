//! Putting mail back: what of an archive is meant, where its messages lie, and what becomes of them.
//!
//! Every way back begins with a [`select::Selection`]: some folders of one user as of one snapshot, and which of their
//! messages. It is read a folder at a time. Message files come from [`bodies`], in the order of the archive, whatever the order
//! of the folders. What must not come in: servers and their protocols, but in [`server`].

pub mod absent;
pub mod bodies;
mod databases;
pub mod draft;
mod entry;
pub mod export;
pub mod fields;
pub mod forms;
mod recovered;
pub mod report;
pub mod safe;
mod scripts;
pub mod select;
pub mod server;
pub mod shelf;
mod side;
pub mod spool;
pub mod target;
