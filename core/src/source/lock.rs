//! Waiting for the locks of Cyrus, without ever blocking and never for ever.
//!
//! A lock is asked for again and again until it is had or the time is up: the core cannot block, and a lock that cannot be
//! waited for by the kernel cannot deadlock either. Only shared locks are taken: they exclude every writer, and exclude no
//! reader. What must not come in: which locks to take, in what order (`capture`).

use crate::error::{Error, Fault};
use crate::io::{Event, FileId, How, Io, LockMode, Place};
use crate::time::{Span, Time};

/// The first pause between two attempts. Cyrus holds most locks for well under a millisecond.
const PAUSE_FIRST: Span = Span(200_000);
/// The longest pause between two attempts.
const PAUSE_LAST: Span = Span::from_ms(10);
/// After this long whoever watches is told what is waited for.
const TELL_AFTER: Span = Span::from_secs(1);
/// How often a file may be replaced between opening and locking it before that counts as an error.
const REPLACED_MAX: u32 = 100;

/// How long to wait for locks, and how long to hold them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// A lock that is not had by then is an error.
    pub wait: Span,
    /// Locks are let go after this long and taken anew for what remains.
    pub hold: Span,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { wait: Span::from_secs(60), hold: Span::from_secs(2) }
    }
}

/// Takes a shared lock on an open file, waiting until `deadline`.
pub async fn shared(io: &Io, file: FileId, place: &Place, deadline: Time) -> Result<(), Error> {
    let begun = io.now();
    let mut pause = PAUSE_FIRST;
    let mut told = false;
    loop {
        match io.lock(file, LockMode::Shared).await {
            Ok(()) => return Ok(()),
            Err(Fault::Busy) => {}
            Err(fault) => return Err(Error::world("lock", place.shown(), fault)),
        }
        let late = io.now() >= deadline;
        if late || (!told && io.now().since(begun) >= TELL_AFTER) {
            let holder = io.holder(file, LockMode::Shared).await.unwrap_or(None);
            if late {
                return Err(Error::Busy { object: place.shown(), holder });
            }
            io.event(Event::Waiting { object: place.shown(), holder });
            told = true;
        }
        io.sleep_until(io.now().plus(pause).min(deadline)).await;
        pause = Span((pause.0 * 2).min(PAUSE_LAST.0));
    }
}

/// Opens a file and locks it shared, and makes sure that the file that is locked is the one that has the name: databases and
/// indexes are replaced by rename, and whoever waited may have got a lock on what is left of the old one (cyrus-imapd
/// `lib/lock_fcntl.c: lock_reopen`).
pub async fn open_shared(io: &Io, place: &Place, deadline: Time) -> Result<FileId, Error> {
    for _ in 0..REPLACED_MAX {
        let file = io.open(place, How::Read).await.map_err(|fault| Error::world("open", place.shown(), fault))?;
        match locked_and_named(io, file, place, deadline).await {
            Ok(true) => return Ok(file),
            Ok(false) => close(io, file).await,
            Err(error) => {
                close(io, file).await;
                return Err(error);
            }
        }
    }
    Err(Error::Busy { object: place.shown(), holder: None })
}

async fn locked_and_named(io: &Io, file: FileId, place: &Place, deadline: Time) -> Result<bool, Error> {
    shared(io, file, place, deadline).await?;
    io.is_named(file, place).await.map_err(|fault| Error::world("stat", place.shown(), fault))
}

/// Opens (creating it if need be) a lock file and locks it shared. These files are never replaced or removed while a server
/// runs, so there is no name to be checked (`imap/mboxname.c: mboxname_lock`).
pub async fn lock_file(io: &Io, place: &Place, deadline: Time) -> Result<FileId, Error> {
    let file = io.open(place, How::Lock).await.map_err(|fault| Error::world("open lock file", place.shown(), fault))?;
    match shared(io, file, place, deadline).await {
        Ok(()) => Ok(file),
        Err(error) => {
            close(io, file).await;
            Err(error)
        }
    }
}

/// Closes a file that was only read. That cannot lose anything, so an error is of no interest.
pub async fn close(io: &Io, file: FileId) {
    let _ = io.close(file).await;
}
