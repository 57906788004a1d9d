//! The recording of this command, if it is recorded or run again. What must not come in: what a recording looks like.

use crate::host::Trouble;
use cylinder_transport_local::Tape;
use std::path::Path;
use std::sync::{Arc, OnceLock};

static CURRENT: OnceLock<Arc<Tape>> = OnceLock::new();

/// The recording, for a driver.
pub fn current() -> Option<Arc<Tape>> {
    CURRENT.get().cloned()
}

/// True if nothing of the world is to be touched.
pub fn is_replay() -> bool {
    CURRENT.get().is_some_and(|tape| tape.is_replay())
}

/// Makes this the recording of the command.
pub fn set(tape: Tape) -> Arc<Tape> {
    CURRENT.get_or_init(|| Arc::new(tape)).clone()
}

/// A new recording in a file that must not exist.
pub fn record(path: &str, head: &[String], bodies: bool) -> Result<Arc<Tape>, Trouble> {
    let tape = Tape::record(Path::new(path), head, bodies);
    tape.map(set).map_err(|error| Trouble::Usage(format!("--record {path}: {error}")))
}
