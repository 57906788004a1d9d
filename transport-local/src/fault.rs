//! Error numbers of the operating system as faults of the core, in one table.

use cylinder_core::error::Fault;
use rustix::io::Errno;

/// What an error number means to the core, whatever the operation was.
pub fn fault(errno: Errno) -> Fault {
    match errno {
        Errno::NOENT | Errno::NOTDIR => Fault::NotFound,
        Errno::EXIST => Fault::Exists,
        Errno::AGAIN => Fault::Busy,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Fault::Denied,
        Errno::NOSPC | Errno::DQUOT => Fault::NoSpace,
        // NXIO and NODEV: a socket, or a device without a driver, stands where a file was expected.
        Errno::ISDIR | Errno::LOOP | Errno::NXIO | Errno::NODEV => Fault::WrongKind,
        other => Fault::Os(other.raw_os_error()),
    }
}

/// The same for errors that come from std.
pub fn io_fault(error: &std::io::Error) -> Fault {
    Errno::from_io_error(error).map_or(Fault::Os(Errno::IO.raw_os_error()), fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_no_test_can_provoke_are_mapped() {
        assert_eq!(fault(Errno::DQUOT), Fault::NoSpace);
        assert_eq!(fault(Errno::ROFS), Fault::Denied);
        assert_eq!(fault(Errno::IO), Fault::Os(5));
        assert_eq!(io_fault(&std::io::Error::from_raw_os_error(13)), Fault::Denied);
        assert_eq!(io_fault(&std::io::Error::other("no number")), Fault::Os(5));
    }
}
