//! The server: one client's requests, answered one after the other in the order in which they came.
//!
//! Invariants:
//!
//! * Nothing is written but lock files, and nothing is read but what [`crate::source`] names for a user whom the client may
//!   have. No word of a client becomes part of a path: owners and folders are looked up in mailboxes.db.
//! * No lock is held while anything is sent: metadata are in memory, or in a scratch file, before the locks are let go.
//! * A request that makes no sense is answered with `NO` and what was expected; the connection goes on. Only what cannot be
//!   framed ends it.
//!
//! What must not come in: archives, sockets, and who may connect.

mod native;
mod stock;

use crate::cyrus::names::Owner;
use crate::error::Error;
use crate::io::{Io, StreamId};
use crate::source::Folder;
use crate::source::site::Site;
use crate::time::Span;
use crate::wire::REQUEST_LINE_MAX;
use crate::wire::stream::{Limits, Stream};
use crate::wire::words;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What a server is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it is called: `servername` of imapd.conf, else the host's name.
    pub servername: Vec<u8>,
    /// The program, such as `cylinder 0.1.0`.
    pub software: String,
    /// How long a client may say nothing between two requests.
    pub idle: Span,
    /// How long a client may say nothing in the midst of a request, or take nothing of an answer.
    pub stall: Span,
    /// Whom it gives away: patterns with `*` and `?` over user names, `%shared` for shared mailboxes. Empty: everybody.
    pub users: Vec<String>,
}

impl Settings {
    /// True if a client may have this owner's mail.
    pub fn gives(&self, owner: &Owner) -> bool {
        let name = match owner {
            Owner::Shared => &b"%shared"[..],
            Owner::User(userid) => userid,
        };
        self.users.is_empty() || self.users.iter().any(|pattern| matches(pattern.as_bytes(), name))
    }
}

/// True if `name` matches `pattern`: `*` is any bytes, `?` any one byte.
pub fn matches(pattern: &[u8], name: &[u8]) -> bool {
    // Where to go on if what follows the last star does not fit: after it, one byte further in the name.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

/// A client's connection.
struct Session<'a> {
    io: &'a Io,
    site: &'a mut Site,
    stream: Stream,
    settings: &'a Settings,
    /// The folders of the owner who was asked about last, for requests for messages.
    last: Option<(Owner, Vec<Folder>)>,
}

/// Whether a session goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Request,
    End,
}

/// Answers one client until it ends the connection. An error is one of the connection.
pub async fn serve(io: &Io, site: &mut Site, stream: StreamId, peer: &str, settings: &Settings) -> Result<(), Error> {
    let limits = Limits { line: REQUEST_LINE_MAX, stall: settings.idle, bytes_per_second: 0 };
    let stream = Stream::new(io, stream, peer, limits);
    let mut session = Session { io, site, stream, settings, last: None };
    let result = session.run().await;
    session.stream.close().await;
    result
}

impl Session<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        loop {
            self.stream.set_stall(self.settings.idle);
            let Some(line) = self.stream.line().await? else { return Ok(()) };
            let line = line.to_vec();
            self.stream.set_stall(self.settings.stall);
            if self.request(&line).await? == Next::End {
                return self.stream.settle().await;
            }
        }
    }

    async fn request(&mut self, line: &[u8]) -> Result<Next, Error> {
        let mut rest = words::split(line);
        let verb = rest.next().unwrap_or_default().to_ascii_uppercase();
        match &verb[..] {
            b"PING" => self.say("OK\nDONE PING\n").await?,
            b"QUIT" => {
                self.say("OK\n").await?;
                return Ok(Next::End);
            }
            b"CYLINDER" => self.greet().await?,
            b"OWNERS" | b"PASS" | b"CAPTURE" | b"RECORDS" | b"BODIES" => self.native(&verb, line).await?,
            _ => self.stock(line).await?,
        }
        Ok(Next::Request)
    }

    async fn say(&mut self, text: &str) -> Result<(), Error> {
        self.stream.send(text.as_bytes()).await
    }

    /// A refusal.
    async fn no(&mut self, why: &str) -> Result<(), Error> {
        self.say(&alloc::format!("NO {why}\n")).await
    }

    /// A refusal because of an error of this host. Its text is one line: names in it are escaped.
    async fn fail(&mut self, error: &Error) -> Result<(), Error> {
        match error {
            Error::Busy { object, holder } => {
                let holder = holder.as_ref().map(|h| alloc::format!(", held by {h}")).unwrap_or_default();
                self.no(&alloc::format!("busy {object}{holder}")).await
            }
            error => self.no(&error.to_string()).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_those_of_a_shell() {
        for (pattern, name) in [("*", ""), ("a*", "anna"), ("*a", "anna"), ("a??a", "anna"), ("*n*", "anna"), ("a*n*a", "anna")]
        {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("a", ""), ("a?", "a"), ("*b*", "anna"), ("anna", "annab"), ("a*b", "anna")] {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        assert!(matches(b"*@example.org", b"bob@example.org") && !matches(b"*@example.org", b"bob@example.net"));
    }
}
