//! Users one after the other over one origin, the passes of the next ones asked for ahead.
//!
//! What must not come in: which users, in what order, and what to do about a user who failed.

use super::Origin;
use crate::backup::report::Report;
use crate::backup::{self, Prepared, Settings};
use crate::compact;
use crate::compact::policy::Policy;
use crate::cyrus::names::Owner;
use crate::error::Error;
use crate::io::{Event, Io};
use crate::store::archive_dir;
use alloc::collections::VecDeque;

/// Users whose passes are asked for ahead. Each holds an open archive and its folder table.
const AHEAD: usize = 32;

/// Where users come from, and where what came of them goes.
pub trait Queue {
    /// The next user, and how the archive is written. `None`: no more.
    fn next(&mut self) -> Option<(Owner, Settings)>;

    /// True if no user is to be begun any more, not even one who was taken ahead: those are put back.
    fn is_over(&self) -> bool;

    /// What came of a user.
    fn done(&mut self, owner: &Owner, result: Result<Report, Error>);

    /// What is retained of a user who was backed up, if the archive is to be compacted when that is due.
    fn policy(&self, owner: &Owner) -> Option<Policy> {
        let _ = owner;
        None
    }

    /// What came of looking whether it is due.
    fn compacted(&mut self, owner: &Owner, result: Result<compact::Outcome, Error>) {
        let _ = (owner, result);
    }

    /// A user who was taken and not begun: the connection is gone, or the queue is over.
    fn put_back(&mut self, owner: Owner);
}

/// A user who was taken from the queue.
struct Taken {
    owner: Owner,
    settings: Settings,
    prepared: Result<Prepared, Error>,
}

/// Backs up users until the queue is empty or over. An error is one of the connection: the user whom it struck was told of,
/// those behind were put back.
pub async fn work(io: &Io, origin: &mut Origin<'_>, queue: &mut dyn Queue) -> Result<(), Error> {
    let mut taken = VecDeque::new();
    let result = go_on(io, origin, queue, &mut taken).await;
    for Taken { owner, prepared, .. } in taken.into_iter().rev() {
        if let Ok(prepared) = prepared {
            prepared.close().await;
        }
        queue.put_back(owner);
    }
    result
}

async fn go_on(io: &Io, origin: &mut Origin<'_>, queue: &mut dyn Queue, taken: &mut VecDeque<Taken>) -> Result<(), Error> {
    let ahead = if matches!(origin, Origin::Native(_)) { AHEAD } else { 1 };
    while !io.is_stopping() && !queue.is_over() {
        // Half of them at a time, so that questions and answers come in bunches.
        if taken.len() <= ahead / 2 {
            fill(io, origin, queue, taken, ahead).await?;
        }
        let Some(Taken { owner, settings, prepared }) = taken.pop_front() else { return Ok(()) };
        io.event(Event::User { owner: owner.shown() });
        let result = match (prepared, archive_dir(&owner)) {
            (Ok(prepared), Ok(dir)) => backup::run_prepared(io, origin, &owner, &dir, &settings, prepared).await,
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        let lost = result.as_ref().err().filter(|error| matches!(error, Error::Peer { .. })).cloned();
        let policy = if result.is_ok() { queue.policy(&owner) } else { None };
        queue.done(&owner, result);
        if let Some(error) = lost {
            return Err(error);
        }
        if let (Some(policy), Ok(dir)) = (policy, archive_dir(&owner)) {
            let result = compact::run(io, &dir, &compact::Settings::when_needed(settings.archive, policy)).await;
            // Another run that is at the archive now looks itself.
            if !matches!(result, Err(Error::Busy { .. })) {
                queue.compacted(&owner, result);
            }
        }
    }
    Ok(())
}

async fn fill(
    io: &Io,
    origin: &mut Origin<'_>,
    queue: &mut dyn Queue,
    taken: &mut VecDeque<Taken>,
    ahead: usize,
) -> Result<(), Error> {
    while taken.len() < ahead
        && let Some((owner, settings)) = queue.next()
    {
        let prepared = match archive_dir(&owner) {
            Ok(dir) => backup::prepare(io, &dir).await,
            Err(error) => Err(error),
        };
        let ask = prepared.as_ref().ok().map(Prepared::ask);
        taken.push_back(Taken { owner, settings, prepared });
        if let (Some(ask), Some(last)) = (ask, taken.back()) {
            origin.announce_pass(&last.owner, &ask).await?;
        }
    }
    Ok(())
}
