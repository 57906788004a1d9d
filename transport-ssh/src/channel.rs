//! One connection: its descriptors, what was received and nobody has asked for, what is to be sent, and what its process says.
//!
//! What must not come in: the loop, and any knowledge of what the bytes mean.

use crate::session::{Security, Session, Trouble, Wire};
use cylinder_core::error::Fault;
use cylinder_core::io::Reply;
use cylinder_transport_local::Answer;
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::process::Child;
use tempfile::TempDir;

/// Bytes that a connection holds in one direction at most, plus one buffer that is being handed over.
pub const HIGH: usize = 256 << 10;
/// Bytes of what a process says on its standard error that are kept: its last words say why it ended.
const COMPLAINT_MAX: usize = 4 << 10;
/// Bytes of why TLS was refused that are told; a certificate may have many names.
const REFUSAL_MAX: usize = 1000;

/// A connection's descriptors, and what keeps it open.
pub struct Ends {
    /// Where bytes come from.
    pub input: OwnedFd,
    /// Where they go to; none for a socket, which is one descriptor.
    pub output: Option<OwnedFd>,
    /// What the process says.
    pub stderr: Option<OwnedFd>,
    /// The process.
    pub child: Option<Child>,
    /// A directory in which its socket is, removed with the connection.
    #[expect(dead_code, reason = "held for its destructor")]
    pub directory: Option<TempDir>,
    /// Whether it is encrypted.
    pub security: Security,
}

impl Ends {
    fn wire(&self) -> Wire<'_> {
        Wire { input: self.input.as_fd(), output: self.output.as_ref().unwrap_or(&self.input).as_fd() }
    }
}

/// A receive that waits.
struct Wanted {
    max: usize,
    buffer: Vec<u8>,
    answer: Answer,
}

/// A connection.
pub struct Channel {
    pub ends: Ends,
    inbox: Vec<u8>,
    ended: bool,
    wanted: Option<Wanted>,
    outbox: VecDeque<(Vec<u8>, usize, Option<Answer>)>,
    queued: usize,
    broken: Option<Fault>,
    complaint: Vec<u8>,
    /// There may be something to read, or room to write.
    pub readable: bool,
    pub writable: bool,
    /// Descriptors that cannot be waited for, such as files, are always ready.
    pub always_readable: bool,
    pub always_writable: bool,
    spare: Vec<Vec<u8>>,
    /// What encrypts, once that has begun.
    session: Option<Box<dyn Session>>,
    /// Who waits until it is agreed.
    securing: Option<Answer>,
    /// Why it is not.
    refusal: Option<String>,
}

impl Channel {
    /// A connection that is open, as far as is known.
    pub fn new(mut ends: Ends) -> Channel {
        let session = match std::mem::replace(&mut ends.security, Security::Never) {
            Security::AtOnce(session) => Some(session),
            later => {
                ends.security = later;
                None
            }
        };
        Channel {
            ends,
            inbox: Vec::new(),
            ended: false,
            wanted: None,
            outbox: VecDeque::new(),
            queued: 0,
            broken: None,
            complaint: Vec::new(),
            readable: false,
            writable: true,
            always_readable: false,
            always_writable: false,
            spare: Vec::new(),
            session,
            securing: None,
            refusal: None,
        }
    }

    /// Reads what there is, as long as there is room for it, and answers who waits.
    pub fn pump_in(&mut self) {
        while (self.readable || self.always_readable) && !self.ended && self.inbox.len() < HIGH {
            if self.inbox.capacity() < HIGH {
                self.inbox.reserve_exact(HIGH - self.inbox.len());
            }
            let wire = self.ends.wire();
            let read = match &mut self.session {
                Some(session) => session.read(wire, &mut self.inbox),
                None => rustix::io::read(wire.input, rustix::buffer::spare_capacity(&mut self.inbox)).map_err(Trouble::Wire),
            };
            match read {
                Ok(0) => self.ended = true,
                Ok(_) => {}
                Err(Trouble::Wire(Errno::AGAIN)) => self.readable = false,
                Err(Trouble::Wire(Errno::INTR)) => {}
                Err(Trouble::Wire(Errno::CONNRESET | Errno::PIPE)) => self.ended = true,
                Err(Trouble::Wire(errno)) => {
                    self.ended = true;
                    self.broken.get_or_insert(Fault::Os(errno.raw_os_error()));
                }
                Err(Trouble::Refused(why)) => self.refuse(why),
            }
            // Who waits is not kept waiting for more.
            if self.wanted.is_some() && !self.inbox.is_empty() {
                self.hand_over();
            }
        }
        if self.ended {
            self.hand_over();
        }
        self.follow_session();
    }

    /// Does what was waiting for what the session has taken in.
    fn follow_session(&mut self) {
        let Some(session) = &self.session else { return };
        let result = if self.ended { Err(Fault::Gone) } else { Ok(Reply::Unit) };
        if self.ended || !session.is_agreeing() {
            if let Some(answer) = self.securing.take() {
                answer(result);
            }
            // What could not be taken before can be now.
            self.writable = true;
        }
        self.pump_out();
    }

    /// Begins to encrypt on behalf of a machine.
    pub fn secure(&mut self, answer: Answer) {
        let session = match std::mem::replace(&mut self.ends.security, Security::Never) {
            Security::OnRequest(session) => session,
            _ => return answer(Err(Fault::Denied)),
        };
        if !self.inbox.is_empty() || !self.outbox.is_empty() || self.securing.is_some() {
            self.refuse(String::from("more was sent than the answer to STARTTLS before TLS began"));
            return answer(Err(Fault::Gone));
        }
        self.session = Some(session);
        self.securing = Some(answer);
        self.writable = true;
        self.pump_out();
        self.pump_in();
    }

    /// The other side does not please.
    fn refuse(&mut self, why: String) {
        self.ended = true;
        self.refusal.get_or_insert(why);
        self.fail(Fault::Gone);
        if let Some(answer) = self.securing.take() {
            answer(Err(Fault::Gone));
        }
        self.hand_over();
    }

    /// Answers a waiting receive, if there is something to answer.
    fn hand_over(&mut self) {
        let Some(Wanted { max, mut buffer, answer }) = self.wanted.take() else { return };
        buffer.clear();
        if self.inbox.len() <= max {
            std::mem::swap(&mut buffer, &mut self.inbox);
        } else {
            buffer.extend(self.inbox.drain(..max));
        }
        match self.broken {
            Some(fault) if buffer.is_empty() => answer(Err(fault)),
            _ => answer(Ok(Reply::Bytes(buffer))),
        }
    }

    /// Waits for bytes on behalf of a machine.
    pub fn receive(&mut self, max: usize, buffer: Vec<u8>, answer: Answer) {
        if self.wanted.is_some() {
            return answer(Err(Fault::Driver));
        }
        self.wanted = Some(Wanted { max, buffer, answer });
        if !self.inbox.is_empty() || self.ended {
            self.hand_over();
        }
        self.pump_in();
    }

    /// Takes bytes to be sent. Answered at once while there is room for more.
    pub fn send(&mut self, data: Vec<u8>, answer: Answer) {
        if let Some(fault) = self.broken {
            return answer(Err(fault));
        }
        self.queued += data.len();
        if self.queued <= HIGH {
            self.outbox.push_back((data, 0, None));
            answer(Ok(Reply::Bytes(self.spare.pop().unwrap_or_default())));
        } else {
            self.outbox.push_back((data, 0, Some(answer)));
        }
        self.pump_out();
    }

    /// Writes what there is, as long as the other side takes it.
    pub fn pump_out(&mut self) {
        while self.writable || self.always_writable {
            let wire = self.ends.wire();
            let rest = self.outbox.front().map(|(data, at, _)| &data[*at..]);
            let written = match (&mut self.session, rest) {
                (None, None) => return,
                (None, Some(rest)) => rustix::io::write(wire.output, rest).map_err(Trouble::Wire),
                (Some(session), Some(rest)) => session.write(wire, rest),
                (Some(session), None) => match session.flush(wire) {
                    Ok(()) => return,
                    Err(trouble) => Err(trouble),
                },
            };
            match written {
                Ok(n) => {
                    let Some((data, at, _)) = self.outbox.front_mut() else { return };
                    *at += n;
                    self.queued -= n;
                    if *at == data.len() {
                        self.sent();
                    }
                }
                Err(Trouble::Wire(Errno::AGAIN)) => {
                    self.writable = false;
                    return;
                }
                Err(Trouble::Wire(Errno::INTR)) => {}
                Err(Trouble::Wire(Errno::PIPE | Errno::CONNRESET)) => return self.fail(Fault::Gone),
                Err(Trouble::Wire(errno)) => return self.fail(Fault::Os(errno.raw_os_error())),
                Err(Trouble::Refused(why)) => return self.refuse(why),
            }
        }
    }

    fn sent(&mut self) {
        let Some((mut data, _, answer)) = self.outbox.pop_front() else { return };
        data.clear();
        match answer {
            Some(answer) => answer(Ok(Reply::Bytes(data))),
            None if self.spare.len() < 2 => self.spare.push(data),
            None => {}
        }
    }

    /// Nothing can be sent any more. What was received can still be taken.
    fn fail(&mut self, fault: Fault) {
        self.broken = Some(fault);
        self.queued = 0;
        for (_, _, answer) in self.outbox.drain(..) {
            if let Some(answer) = answer {
                answer(Err(fault));
            }
        }
    }

    /// Takes what the process says, and keeps the end of it.
    pub fn pump_stderr(&mut self) {
        let Some(stderr) = &self.ends.stderr else { return };
        let mut piece = [0; 1024];
        loop {
            match rustix::io::read(stderr, &mut piece) {
                Ok(0) | Err(Errno::AGAIN) => return,
                Ok(n) => {
                    self.complaint.extend_from_slice(&piece[..n]);
                    let over = self.complaint.len().saturating_sub(COMPLAINT_MAX);
                    self.complaint.drain(..over);
                }
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Why TLS was refused, and what the process has said, in one line.
    pub fn complaint(&mut self) -> Option<String> {
        self.pump_stderr();
        let text = cylinder_core::escape::shown(&self.complaint).replace("\\x0d", "");
        let lines = text.split("\\x0a").filter(|line| !line.trim().is_empty());
        // Names of a certificate are in it, and anybody may have made that.
        let refusal =
            self.refusal.as_ref().map(|why| cylinder_core::escape::shown(&why.as_bytes()[..why.len().min(REFUSAL_MAX)]));
        let text = refusal.as_deref().into_iter().chain(lines).collect::<Vec<_>>().join("; ");
        (!text.is_empty()).then_some(text)
    }

    /// True once the other side has closed its end.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// True if everything that was taken has been written, or cannot be.
    pub fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && (self.broken.is_some() || self.session.as_ref().is_none_or(|session| session.is_flushed()))
    }

    /// Answers everybody who waits.
    pub fn abandon(&mut self) {
        if let Some(wanted) = self.wanted.take() {
            (wanted.answer)(Err(Fault::Gone));
        }
        if let Some(answer) = self.securing.take() {
            answer(Err(Fault::Gone));
        }
        if let Some(session) = &mut self.session {
            session.end(self.ends.wire());
        }
        self.fail(Fault::Gone);
    }
}
