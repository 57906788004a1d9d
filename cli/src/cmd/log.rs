//! `cylinder log`

use super::archive::with_reader;
use crate::args::Log;
use crate::exit::Exit;
use crate::host::Outcome;
use crate::output::{self, count, size};
use cylinder_core::view;
use serde_json::json;

/// Lists the snapshots of a user, newest first.
pub fn run(args: &Log) -> Outcome {
    let snapshots = with_reader(&args.store, &args.user, async |_, reader| view::snapshots(reader).await)?;
    for at in snapshots {
        let c = &at.commit;
        if args.json {
            output::json(&json!({
                "snapshot": c.number, "time": output::rfc3339(c.time), "source": c.source, "cyrus": c.cyrus,
                "messages_added": c.added_messages, "bytes_added": c.added_raw,
                "messages_stored": c.total_messages, "bytes_stored": c.total_raw,
                "alarm": c.alarm.map(|a| json!({ "before": a.before, "after": a.after })),
                "chain": at.part.sha1.to_hex(),
            }))?;
            continue;
        }
        let mut line = format!(
            "{:>6}  {}  +{}, {}",
            c.number,
            output::time(c.time),
            count(c.added_messages, "message"),
            size(c.added_raw)
        );
        if let Some(alarm) = c.alarm {
            line += &format!("  ALARM: {} of {} messages were left", alarm.after, alarm.before);
        }
        output::line(&line)?;
    }
    Ok(Exit::Ok)
}
