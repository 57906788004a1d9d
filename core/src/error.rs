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
    /// No permission.
    Denied,
    /// The file system is mounted to be read only.
    ReadOnly,
    /// No space.
    NoSpace,
    /// The quota of whoever writes is used up.
    Quota,
    /// The file system takes no locks, for example one of NFS whose lock service does not run.
    NoLocks(FsType),
    /// The file system cannot make the names in a directory durable.
    NoDirSync(FsType),
    /// A symbolic link in the store, on the way to the thing or the thing itself, leads to nothing, or to an empty directory.
    Dangling,
    /// What was created cannot be given the owner and group that it has to have.
    Owner,
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
const ERRORS: [(i32, &str); 8] = [
    (5, "the device has failed"),
    (23, "too many open files in the system"),
    (24, "too many open files"),
    (27, "the file would be larger than the file system or a limit allows"),
    (101, "the network cannot be reached"),
    (110, "no answer in time"),
    (111, "connection refused"),
    (113, "no way to the host"),
];

/// The type of a file system: the number that statfs(2) gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FsType(pub u32);

/// Names of file systems that are used for stores, or taken for one (`linux/magic.h`, statfs(2)).
const FILE_SYSTEMS: [(u32, &str); 20] = [
    (0x0000_4d44, "vfat"),
    (0x0000_517b, "smb"),
    (0x0000_6969, "nfs"),
    (0x0000_9fa0, "proc"),
    (0x0000_ef53, "ext4"),
    (0x0102_1994, "tmpfs"),
    (0x0102_1997, "9p"),
    (0x00c3_6400, "ceph"),
    (0x2011_bab0, "exfat"),
    (0x2fc1_2fc1, "zfs"),
    (0x5346_544e, "ntfs"),
    (0x5346_414f, "afs"),
    (0x5846_5342, "xfs"),
    (0x6573_5546, "fuse"),
    (0x794c_7630, "overlay"),
    (0x7371_7368, "squashfs"),
    (0x786f_4256, "vboxsf"),
    (0x9123_683e, "btrfs"),
    (0xf2f5_2010, "f2fs"),
    (0xff53_4d42, "cifs"),
];

impl fmt::Display for FsType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match FILE_SYSTEMS.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "of type {:#x}", self.0),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::NotFound => f.write_str("does not exist"),
            Fault::Exists => f.write_str("exists already"),
            Fault::Busy => f.write_str("is locked by another process"),
            Fault::Denied => f.write_str("permission denied"),
            Fault::ReadOnly => f.write_str("the file system is read-only"),
            Fault::NoSpace => f.write_str("no space left"),
            Fault::Quota => f.write_str("the disk quota is used up"),
            Fault::NoLocks(fs) => write!(
                f,
                "the file system ({fs}) takes no locks: start its lock service, or use a file system that has locks, such as ext4 or xfs"
            ),
            Fault::NoDirSync(fs) => write!(
                f,
                "the file system ({fs}) cannot make names in a directory durable (fsync of a directory): use one that can, such as ext4 or xfs"
            ),
            Fault::Dangling => {
                f.write_str("a symbolic link leads to nothing or to an empty directory: is the file system mounted?")
            }
            Fault::Owner => f.write_str(
                "cannot be given the owner and group of what it replaces or of the store: run this as that owner, or as root",
            ),
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

    #[test]
    fn file_systems_have_names_or_at_least_numbers() {
        assert_eq!((FsType(0x6969).to_string(), FsType(0x1234).to_string()), ("nfs".into(), "of type 0x1234".into()));
    }
}
