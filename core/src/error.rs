//! What can go wrong, worded in one place.
//!
//! An error names the object, what was found, what was expected and, where there is something to do, what to do next.
//! Wording: lower case, no full stop, object before reason. What must not come in: exit codes and terminals (the command's).

use alloc::string::String;
use core::fmt;

/// Why an operation that a driver ran did not succeed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The name does not exist.
    NotFound,
    /// What was to be created is there already.
    Exists,
    /// Somebody else holds a lock that excludes ours.
    Busy,
    /// No permission, or a read-only file system.
    Denied,
    /// No space, or over quota.
    NoSpace,
    /// The thing that was named is of another kind (a directory where a file was expected, a symbolic link, ...).
    WrongKind,
    /// Larger than the limit that the operation carried.
    TooLarge,
    /// The other end of a stream has closed it, or it was shut here.
    Gone,
    /// A member of an archive whose bytes do not inflate to what its header says.
    Corrupt,
    /// The driver answered with something that the operation cannot have: a bug of the driver.
    Driver,
    /// Any other error of the operating system, by its number.
    Os(i32),
}

/// Words for the errors of Linux that an administrator meets most (`asm-generic/errno.h`).
const ERRORS: [(i32, &str); 10] = [
    (5, "the device has failed"),
    (23, "too many open files in the system"),
    (24, "too many open files"),
    (27, "the file would be larger than the file system or a limit allows"),
    (30, "the file system is read-only"),
    (101, "the network cannot be reached"),
    (110, "no answer in time"),
    (111, "connection refused"),
    (113, "no way to the host"),
    (122, "the disk quota is used up"),
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotFound => f.write_str("does not exist"),
            Fault::Exists => f.write_str("exists already"),
            Fault::Busy => f.write_str("is locked by another process"),
            Fault::Denied => f.write_str("permission denied"),
            Fault::NoSpace => f.write_str("no space left"),
            Fault::WrongKind => f.write_str("is not a regular file"),
            Fault::TooLarge => f.write_str("is larger than the limit"),
            Fault::Gone => f.write_str("the connection is closed"),
            Fault::Corrupt => f.write_str("does not inflate to what its header says"),
            Fault::Driver => f.write_str("the driver gave an answer of another kind (a bug of cylinder)"),
            Fault::Os(n) => match ERRORS.iter().find(|(number, _)| number == n) {
                Some((_, words)) => write!(f, "{words} (operating system error {n})"),
                None => write!(f, "operating system error {n}"),
            },
        }
    }
}

/// Bytes that say what cannot be: which object, where, what was found, what was expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// What was read, such as `cyrus.index`, `mailboxes.db (twoskip)` or `imapd.conf`.
    pub object: String,
    /// Byte offset in that object at which the offending value starts.
    pub offset: u64,
    /// The value in question, such as `record size`.
    pub field: &'static str,
    /// What stands there.
    pub found: String,
    /// What should stand there.
    pub expected: String,
}

impl Damage {
    /// A finding at `offset` of `object`.
    pub fn new(
        object: impl Into<String>,
        offset: u64,
        field: &'static str,
        found: impl fmt::Display,
        expected: impl fmt::Display,
    ) -> Damage {
        use alloc::string::ToString;
        Damage { object: object.into(), offset, field, found: found.to_string(), expected: expected.to_string() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { object, offset, field, found, expected } = self;
        write!(f, "{object}: {field} at offset {offset}: found {found}, expected {expected}")
    }
}

/// Whatever ends a machine, or a part of its work, early.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error {
    /// Bytes that were read are damaged or of an unknown kind.
    Damage(Damage),
    /// The operating system refused something.
    World {
        /// What was attempted, such as `open`.
        doing: &'static str,
        /// On what, escaped for printing.
        object: String,
        /// The reason.
        fault: Fault,
    },
    /// A lock was not to be had in time, or another writer is at work.
    Busy {
        /// What is locked, escaped for printing.
        object: String,
        /// Who holds it, if that can be known.
        holder: Option<String>,
    },
    /// A stated limit would have been passed.
    Limit {
        /// What is limited.
        object: String,
        /// The limit, in the unit that `object` names.
        limit: u64,
        /// What was met.
        found: u64,
    },
    /// The other side of a connection went away, did not answer in time or broke the protocol. The connection is of no use any
    /// more.
    Peer {
        /// Who, as the configuration names it, escaped for printing.
        peer: String,
        /// What happened, and what was expected.
        why: String,
    },
    /// Somebody wanted it to end before it was done.
    Stopped,
    /// The request cannot be met: no such user, no such snapshot, an unknown setting.
    Refused(String),
}

impl Error {
    /// An error of the world on `object`.
    pub fn world(doing: &'static str, object: impl Into<String>, fault: Fault) -> Error {
        Error::World { doing, object: object.into(), fault }
    }
}

impl From<Damage> for Error {
    fn from(d: Damage) -> Error {
        Error::Damage(d)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Damage(d) => d.fmt(f),
            Error::World { doing, object, fault } => write!(f, "{doing} {object}: {fault}"),
            Error::Busy { object, holder: Some(h) } => write!(f, "{object}: is locked by {h}"),
            Error::Busy { object, holder: None } => write!(f, "{object}: is locked by another process"),
            Error::Limit { object, limit, found } => write!(f, "{object}: found {found}, the limit is {limit}"),
            Error::Peer { peer, why } => write!(f, "{peer}: {why}"),
            Error::Stopped => f.write_str("stopped before it was done; the next run goes on"),
            Error::Refused(why) => f.write_str(why),
        }
    }
}

impl core::error::Error for Error {}
impl core::error::Error for Damage {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn an_error_of_the_system_has_its_number_and_words_if_it_is_common() {
        assert_eq!(Fault::Os(111).to_string(), "connection refused (operating system error 111)");
        assert_eq!(Fault::Os(4095).to_string(), "operating system error 4095");
    }
}
