//! Exit codes, documented in README.md. What must not come in: printing, but for the one warning that decides a code.

use crate::output;
use cylinder_core::backup::report::Report;
use cylinder_core::error::Error;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// How a command ended, from best to worst as far as a summary goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Exit {
    /// All is well.
    Ok = 0,
    /// Nothing could be done.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Something was done, something was not, or something is alarming.
    Partial = 3,
    /// An archive or a file is damaged.
    Damage = 4,
    /// A lock was not to be had, or another run is at work.
    Busy = 5,
}

/// An archive was read whose end is missing.
static END_IS_MISSING: AtomicBool = AtomicBool::new(false);

/// Warns that an archive was read whose end is missing: the command ends with [`Exit::Damage`].
pub fn end_is_missing(who: &str) {
    END_IS_MISSING.store(true, Ordering::Relaxed);
    output::complain!(
        "cylinder: {who}: the end of the archive is missing: a run was killed, or the file was cut. What stands behind the last commit is \
         not shown; `cylinder backup` takes it over, `cylinder repair {who}` makes a snapshot of it"
    );
}

/// A part of the store could not be reached.
static PART_IS_LOST: AtomicBool = AtomicBool::new(false);

/// Tells which links of a store lead to nothing, each once: the command does not end with [`Exit::Ok`].
pub fn parts_are_lost(lost: &[Error]) {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    for error in lost {
        PART_IS_LOST.store(true, Ordering::Relaxed);
        if TOLD.lock().unwrap_or_else(PoisonError::into_inner).insert(error.to_string()) {
            output::complain!("cylinder: store: {error}");
        }
    }
}

impl Exit {
    /// The code of the whole command, of which this is what it came to itself.
    pub fn of_command(self) -> Exit {
        let is_missing = END_IS_MISSING.load(Ordering::Relaxed);
        if !is_missing && self == Exit::Ok && PART_IS_LOST.load(Ordering::Relaxed) {
            return Exit::Partial;
        }
        if is_missing && matches!(self, Exit::Ok | Exit::Failed | Exit::Partial) { Exit::Damage } else { self }
    }

    /// The code for a command that an error ended.
    pub fn of(error: &Error) -> Exit {
        match error {
            Error::Damage(_) => Exit::Damage,
            Error::Busy { .. } => Exit::Busy,
            Error::Stopped => Exit::Partial,
            Error::World { .. } | Error::Limit { .. } | Error::Peer { .. } | Error::Refused(_) => Exit::Failed,
        }
    }

    /// The code for a user who was backed up.
    pub fn of_report(report: &Report) -> Exit {
        match (report.is_damaged(), report.is_clean()) {
            (true, _) => Exit::Damage,
            (false, true) => Exit::Ok,
            (false, false) => Exit::Partial,
        }
    }

    /// The code for a command over several users: theirs if all agree, else [`Exit::Partial`]; but damage is never hidden.
    pub fn of_all(codes: impl IntoIterator<Item = Exit>) -> Exit {
        let mut codes = codes.into_iter();
        let Some(first) = codes.next() else { return Exit::Ok };
        codes.fold(first, |so_far, code| match (so_far, code) {
            (a, b) if a == b => a,
            (Exit::Damage, _) | (_, Exit::Damage) => Exit::Damage,
            _ => Exit::Partial,
        })
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::Exit::{self, *};

    #[test]
    fn codes_of_several_users_are_summed_up() {
        assert_eq!(Exit::of_all([]), Ok);
        assert_eq!(Exit::of_all([Ok, Ok]), Ok);
        assert_eq!(Exit::of_all([Busy, Busy]), Busy);
        assert_eq!(Exit::of_all([Ok, Failed]), Partial);
        assert_eq!(Exit::of_all([Busy, Failed, Ok]), Partial);
        assert_eq!(Exit::of_all([Ok, Damage, Failed]), Damage);
    }
}
