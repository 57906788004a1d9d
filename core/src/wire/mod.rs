//! The protocol between a backup host and a mail server's host (PROTOCOL.md): frames, words, and the messages of the native
//! dialect.
//!
//! [`stream`] finds lines and blocks in a stream of bytes and enforces every limit before anything is decoded. [`words`] has
//! the percent-encoding of the stock dialect, [`stock`] the items of its answers. [`native`] puts what the core knows (a pass,
//! a capture) into lines and reads it back; both directions stand side by side.
//!
//! What must not come in: what a server does with a request, and what a client does with an answer (`serve`, `pull`).

pub mod native;
pub mod stock;
pub mod stream;
pub mod words;

/// The default longest line, in bytes without its end, of a request.
pub const REQUEST_LINE_MAX: usize = 64 << 10;
/// The longest line of an answer: an entry of mailboxes.db with a long access control list is one word.
pub const ANSWER_LINE_MAX: usize = 1 << 20;
/// Most bytes of the lines of one answer, blocks not counted: what a client keeps in memory of a user's folders.
pub const ANSWER_LINES_MAX: u64 = 1 << 30;
/// The version of the native dialect.
pub const VERSION: u32 = 1;
