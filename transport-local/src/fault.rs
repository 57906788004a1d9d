//! Error numbers of the operating system as faults of the core, in one table.

use cylinder_core::error::{Fault, FsType};
use rustix::fs::fstatfs;
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// What an error number means to the core, whatever the operation was.
pub fn fault(errno: Errno) -> Fault {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Fault::NotFound,
        Errno::EXIST => Fault::Exists,
        Errno::AGAIN => Fault::Busy,
        Errno::ACCESS | Errno::PERM => Fault::Denied,
        Errno::ROFS => Fault::ReadOnly,
        Errno::NOSPC => Fault::NoSpace,
        Errno::DQUOT => Fault::Quota,
        // NXIO and NODEV: a socket, or a device without a driver, stands where a file was expected.
        Errno::ISDIR | Errno::LOOP | Errno::NXIO | Errno::NODEV => Fault::WrongKind,
        other => Fault::Os(other.raw_os_error()),
    }
}

/// What a lock that was refused means: `fault`, but for what a file system says that has no locks.
pub fn lock_fault(fd: BorrowedFd, errno: Errno) -> Fault {
    match errno {
        Errno::NOLCK | Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => Fault::NoLocks(fs_type(fd)),
        other => fault(other),
    }
}

/// What a failed fsync of a directory means: `fault`, but for what a file system says that cannot do it.
pub fn dir_sync_fault(fd: BorrowedFd, errno: Errno) -> Fault {
    match errno {
        Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP => Fault::NoDirSync(fs_type(fd)),
        other => fault(other),
    }
}

/// What a refusal to change an owner, group or mode means.
pub fn owner_fault(errno: Errno) -> Fault {
    if errno == Errno::PERM { Fault::Owner } else { fault(errno) }
}

/// The type of the file system that a file is on; 0 if it is not to be had.
fn fs_type(fd: BorrowedFd) -> FsType {
    FsType(fstatfs(fd).map_or(0, |fs| fs.f_type as u32))
}

/// [`fault`] for errors that come from std.
pub fn io_fault(error: &std::io::Error) -> Fault {
    Errno::from_io_error(error).map_or(Fault::Os(Errno::IO.raw_os_error()), fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_no_test_can_provoke_are_mapped() {
        assert_eq!(fault(Errno::DQUOT), Fault::Quota);
        assert_eq!(fault(Errno::ROFS), Fault::ReadOnly);
        assert_eq!(fault(Errno::IO), Fault::Os(5));
        assert_eq!(io_fault(&std::io::Error::from_raw_os_error(13)), Fault::Denied);
        assert_eq!(io_fault(&std::io::Error::other("no number")), Fault::Os(5));
    }
}
