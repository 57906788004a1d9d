//! The time: for the inputs of a machine, and of the clock that stamps files.
//!
//! Linux stamps files with a coarse clock, which steps once a timer tick (4 ms at 250 Hz): two changes within one step may bear
//! one stamp. The core asks for the time by that clock and for the length of a step, and does not trust a stamp that is younger
//! than that.
//!
//! Not every file system does as well. So once for each driver, when first asked, one byte is written to a scratch file and its
//! stamp is compared to the clock before: a stamp that lies behind was cut off (to a microsecond, to one or two seconds) or
//! comes from another host's clock (NFS, a virtual machine's shared directory), and the step is lengthened by what it lies
//! behind and by the unit that it was cut off to. File systems with multigrain stamps (Linux 6.13 and later) give a finer stamp
//! to a file that was looked at since its last change; for them the step of the coarse clock is more than is needed, never
//! less.
//!
//! What remains: the scratch file is the store's, for nothing is written to the host's tree. If that is on a file system of
//! another kind, its stamps show in files that exist: no fraction of a second in any of them means whole seconds. That is for
//! the core to see.

use crate::files::{stat_fd, write};
use cylinder_core::error::Fault;
use cylinder_core::time::{Span, Time};
use rustix::time::{ClockId, Timespec, clock_getres, clock_gettime};
use std::os::fd::BorrowedFd;

fn nanos(t: Timespec) -> i64 {
    t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec)
}

/// The time of day.
pub fn now() -> Time {
    Time(nanos(clock_gettime(ClockId::Realtime)))
}

/// The time that a local file system puts on a file that is changed now.
pub fn stamping() -> Time {
    Time(nanos(clock_gettime(ClockId::RealtimeCoarse)))
}

/// The step of the kernel's coarse clock.
pub fn kernel_tick() -> Span {
    Span(nanos(clock_getres(ClockId::RealtimeCoarse)))
}

/// The step of the stamps on the file system of `scratch`, at least that of the kernel. Writes a byte. Takes well under 1 ms.
pub fn measure(scratch: BorrowedFd) -> Result<Span, Fault> {
    let before = stamping();
    write(scratch, 0, b"x")?;
    let stamp = stat_fd(scratch)?.mtime;
    Ok(tick(kernel_tick(), before, stamp))
}

/// The step of a clock that gave `stamp` to a change made after `before`.
fn tick(kernel: Span, before: Time, stamp: Time) -> Span {
    let behind = before.since(stamp).0.max(0);
    if behind == 0 { kernel } else { Span(kernel.0.max(behind.saturating_add(unit(stamp)))) }
}

/// The largest unit that a stamp may have been cut off to: two seconds (FAT) or a power of ten.
fn unit(stamp: Time) -> i64 {
    const UNITS: [i64; 10] =
        [2_000_000_000, 1_000_000_000, 100_000_000, 10_000_000, 1_000_000, 100_000, 10_000, 1_000, 100, 10];
    UNITS.into_iter().find(|unit| stamp.0 % unit == 0).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: Span = Span::from_ms(4);
    const SECOND: i64 = 1_000_000_000;

    #[track_caller]
    fn check(before: i64, stamp: i64, expected: Span) {
        assert_eq!(tick(KERNEL, Time(before), Time(stamp)), expected);
    }

    #[test]
    fn a_stamp_that_is_not_behind_has_the_kernels_tick() {
        check(7 * SECOND + 123_456_789, 7 * SECOND + 123_456_789, KERNEL);
        check(7 * SECOND + 123_456_789, 7 * SECOND + 127_456_789, KERNEL);
        check(7 * SECOND, 7 * SECOND, KERNEL);
    }

    #[test]
    fn a_stamp_cut_off_to_seconds_has_a_tick_of_seconds() {
        check(7 * SECOND + 300_000_000, 7 * SECOND, Span(SECOND + 300_000_000));
        check(7 * SECOND + 300_000_000, 6 * SECOND, Span(2 * SECOND + 1_300_000_000));
        check(7 * SECOND + 123_456_789, 7 * SECOND + 123_456_000, KERNEL);
    }

    #[test]
    fn another_clock_that_is_late_lengthens_the_tick() {
        check(60 * SECOND + 123_456_789, 50 * SECOND + 123_456_789, Span(10 * SECOND + 1));
        check(i64::MAX, i64::MIN + 1, Span(i64::MAX));
    }
}
