//! The client's half of Cyrus's replication protocol (`imap/sync_server.c`, `imap/sync_support.c`), as far as restoring needs
//! it: it alone can make a mailbox as it was, with its uniqueid, UIDVALIDITY, UIDs and MODSEQs.
//!
//! It is spoken on the csync port by every server from 2.4 on, and to an administrator on the IMAP port by those from 3.0 on,
//! with tags and other verbs. [`client`] speaks both. What must not come in: what is restored, and archives.

pub mod client;
