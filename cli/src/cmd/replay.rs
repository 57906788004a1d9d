//! `cylinder replay`

use super::backup::{self, Recorded};
use crate::args::Replay;
use crate::exit::Exit;
use crate::host::{Outcome, Trouble};
use crate::output;
use crate::tape;
use cylinder_transport_local::Tape;
use serde_json::json;
use std::path::Path;

/// Runs a recorded backup again, without server and store, and tells the first difference.
pub fn run(args: &Replay) -> Outcome {
    let (tape, head) =
        Tape::replay(Path::new(&args.file)).map_err(|error| Trouble::Usage(format!("{}: {error}", args.file)))?;
    let recorded = Recorded::parse(&head).map_err(|why| Trouble::Usage(format!("{}: {why}", args.file)))?;
    let tape = tape::set(tape);
    let ended = backup::again(&recorded);
    let replayed = tape.replayed();
    let exit = if replayed.difference.is_none() { Exit::Ok } else { Exit::Damage };
    if args.json {
        output::json(&json!({
            "operations": replayed.operations, "difference": replayed.difference, "exit": exit as u8,
        }))?;
    } else {
        output::line(&match (&replayed.difference, ended) {
            (Some(difference), _) => format!("{}: another run: {difference}", args.file),
            (None, Ok(ended)) => format!("{}: the same, {} operations, exit {}", args.file, replayed.operations, ended as u8),
            (None, Err(_)) => format!("{}: the same, {} operations, an error", args.file, replayed.operations),
        })?;
    }
    Ok(exit)
}
