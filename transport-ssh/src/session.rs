//! What encrypts a connection, as the loop sees it.
//!
//! What must not come in: how it is done; see `tls.rs`, which a build may be without.

use crate::peer::Secured;
use rustix::fd::BorrowedFd;
use rustix::io::Errno;
use std::io::{self, Read, Write};

/// Makes sessions.
pub trait Sessions: Send + Sync {
    /// A session with a server that must show that it is who was asked for.
    fn with(&self, secured: &Secured) -> io::Result<Box<dyn Session>>;

    /// A session on a connection that is private already: whoever is there is taken.
    fn within(&self) -> io::Result<Box<dyn Session>>;
}

/// What has come in the way.
#[derive(Debug)]
pub enum Trouble {
    /// The wire has failed, or there is nothing to be had from it now.
    Wire(Errno),
    /// The other side does not please, or says what cannot be understood.
    Refused(String),
}

/// Encryption of one connection.
pub trait Session: Send {
    /// True until both sides have agreed.
    fn is_agreeing(&self) -> bool;

    /// True if nothing waits to leave.
    fn is_flushed(&self) -> bool;

    /// Takes what the wire has, and adds to `into` what it means. `Ok(0)` is the end.
    fn read(&mut self, wire: Wire<'_>, into: &mut Vec<u8>) -> Result<usize, Trouble>;

    /// Takes some of `plain` to be sent, and sends what can be. Nothing is taken before both sides have agreed.
    fn write(&mut self, wire: Wire<'_>, plain: &[u8]) -> Result<usize, Trouble>;

    /// Sends what waits to leave.
    fn flush(&mut self, wire: Wire<'_>) -> Result<(), Trouble>;

    /// Says that nothing more comes, as far as the wire takes it.
    fn end(&mut self, wire: Wire<'_>);
}

/// When a connection is encrypted.
pub enum Security {
    /// It cannot be.
    Never,
    /// When a machine asks for it.
    OnRequest(Box<dyn Session>),
    /// Before anything else.
    AtOnce(Box<dyn Session>),
}

/// Where bytes come from and go to: a socket, or the two pipes of a process.
#[derive(Clone, Copy)]
pub struct Wire<'a> {
    /// Where they come from.
    pub input: BorrowedFd<'a>,
    /// Where they go to.
    pub output: BorrowedFd<'a>,
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::read(self.input, &mut *buffer))?)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::retry_on_intr(|| rustix::io::write(self.output, bytes))?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
