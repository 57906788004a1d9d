//! Back onto a running server: by IMAP, or by Cyrus's replication protocol.
//!
//! Each way is a procedure over a selection and a connection: it looks, says what it is going to do, and does it. [`mail`] adds
//! messages by IMAP and changes nothing that is there, [`flags`] sets flags by IMAP, [`exact`] makes mailboxes as they were by
//! the replication protocol. RESTORE.md says what each of them promises. What must not come in: files on a server's disk.

pub mod check;
pub mod deliver;
pub mod exact;
pub mod flags;
pub mod furnish;
pub mod kinds;
pub mod limits;
pub mod mail;
pub mod merge;
pub mod names;
mod ready;
pub mod report;
pub mod room;
mod scripts;
pub mod tree;
