//! The client's half of IMAP, as far as restoring needs it (RFC 9051 and the extensions that Cyrus has).
//!
//! [`response`] reads what a server says, within limits: lines and literals come through [`crate::wire::stream`], which bounds
//! a line; a response is bounded here, and a literal of more than 64 KiB is not kept but hashed. [`client`] says what a client
//! says, with literals lent from the caller's buffers, and appends ahead of the answers. [`date`] is INTERNALDATE.
//!
//! # Why no library does this
//!
//! `imap-codec` (2.0.0-alpha) and `imap-next` on top of it were looked at first. They parse much more than is asked for here
//! and leave out what is: ACL, MULTIAPPEND, ANNOTATE and Cyrus's own `DIGEST.SHA1` are not in their grammar, and a FETCH item
//! that the grammar does not have is an error. Both need `std`, a literal is one owned buffer, a mailbox name is a checked
//! type that some names which Cyrus lists do not pass, and they bring `nom`, `chrono`, `base64` and `thiserror` with them. The
//! responses that a restore reads are lists of atoms, strings and numbers; the reader of those is one short file.
//!
//! What must not come in: what is restored, and archives.

pub mod client;
pub mod date;
pub mod response;
