//! `cylinder log`

use super::archive::with_reader;
use crate::alarm;
use crate::args::Log;
use crate::exit::Exit;
use crate::host::{Outcome, Trouble};
use crate::output::{self, OutputError, count, size};
use cylinder_core::archive::read::{CommitAt, Reader};
use cylinder_core::archive::record::Compacted;
use cylinder_core::compact::survey;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::lacking::{self, Lacking};
use cylinder_core::time::Time;
use cylinder_core::view;
use serde_json::json;

/// Things that a snapshot lacks and that are named; the rest is counted.
const LACKING_NAMED: usize = 10;

/// A snapshot, and what it has.
struct Counted {
    at: CommitAt,
    folders: u64,
    messages: u64,
    lacking: Vec<Lacking>,
    /// Places of the second that its time is told to: as many as tell it from all others.
    digits: usize,
}

/// Lists the snapshots of a user, newest first; or tells of the head of the chain.
pub fn run(args: &Log) -> Outcome {
    if let Some(word) = &args.check {
        return check(args, word);
    }
    if args.anchor {
        let head = with_reader(&args.store, &args.user, async |_, reader| Ok(reader.head().clone()))?;
        anchor(args, &head)?;
        return Ok(Exit::Ok);
    }
    let (head, snapshots) =
        with_reader(&args.store, &args.user, async |_, reader| Ok((reader.head().clone(), counted(reader).await?)))?;
    snapshots.iter().try_for_each(|snapshot| tell(args, snapshot))?;
    if !args.json {
        standing(&head)?;
    }
    Ok(Exit::Ok)
}

async fn counted(reader: &Reader) -> Result<Vec<Counted>, Error> {
    let mut all = Vec::new();
    let snapshots = view::snapshots(reader).await?;
    let times: Vec<Time> = snapshots.iter().map(|at| at.commit.time).collect();
    for at in snapshots {
        let table = reader.table(&at).await?;
        let messages = table.folders.iter().fold(0u64, |sum, row| sum.saturating_add(row.exists));
        let lacking = lacking::read(reader, &table).await?;
        let digits = digits(at.commit.time, &times);
        all.push(Counted { at, folders: table.folders.len() as u64, messages, lacking, digits });
    }
    Ok(all)
}

/// The fewest places of the second with which `--at` takes the snapshot of this time, and none of the others.
fn digits(time: Time, all: &[Time]) -> usize {
    let is_enough = |digits: &usize| {
        let unit = 10i64.pow(9 - *digits as u32);
        let end = time.0.div_euclid(unit).saturating_mul(unit).saturating_add(unit - 1);
        !all.iter().any(|other| *other > time && other.0 <= end)
    };
    [0, 3, 6].into_iter().find(is_enough).unwrap_or(9)
}

fn tell(args: &Log, Counted { at, folders, messages, lacking, digits }: &Counted) -> Result<(), OutputError> {
    let c = &at.commit;
    let time = output::time_to(c.time, *digits);
    if args.json {
        return output::json(&json!({
            "snapshot": c.number, "time": time.replacen(' ', "T", 1), "source": c.source, "cyrus": c.cyrus,
            "folders": folders, "messages": messages,
            "messages_added": c.added_messages, "bytes_added": c.added_raw,
            "messages_stored": c.total_messages, "bytes_stored": c.total_raw,
            "alarms": c.standing.alarms.iter().map(alarm::json).collect::<Vec<_>>(),
            "gone": c.standing.gone.map(output::rfc3339),
            "hold": c.hold.map(output::rfc3339),
            "lacking": lacking.iter().map(|l| json!({
                "folder": l.what, "lacking": l.word, "why": l.why, "next": l.next,
            })).collect::<Vec<_>>(),
            "compacted": c.compacted.map(|p| json!({
                "time": output::rfc3339(p.time), "commit": p.number, "chain": p.head.to_hex(),
            })),
            "chain": at.part.sha1.to_hex(),
        }));
    }
    let (added, bytes) = (count(c.added_messages, "message"), size(c.added_raw));
    let (messages, folders) = (count(*messages, "message"), count(*folders, "folder"));
    let mut line = format!("{:>6}  {time}  +{added}, {bytes}; {messages} in {folders}", c.number);
    for alarm in &c.standing.alarms {
        line += &format!("  ALARM: {}", alarm::short(alarm));
    }
    output::line(&line)?;
    for Lacking { what, why, .. } in lacking.iter().take(LACKING_NAMED) {
        output::line(&format!("        LACKS {what}: {why}"))?;
    }
    if lacking.len() > LACKING_NAMED {
        output::line(&format!("        LACKS {} more; `cylinder list` names all", lacking.len() - LACKING_NAMED))?;
    }
    Ok(())
}

/// What holds of the archive as a whole.
fn standing(head: &CommitAt) -> Result<(), OutputError> {
    if let Some(Compacted { time, number, head }) = head.commit.compacted {
        output::line(&format!("compacted {}, goes on from commit {number}, {head}", output::time(time)))?;
    }
    if let Some(name) = &head.commit.standing.formerly {
        output::line(&format!("the user was called {name} before"))?;
    }
    if let Some(since) = head.commit.standing.gone {
        output::line(&format!("gone from the server since {}", output::time(since)))?;
    }
    if let Some(since) = head.commit.hold {
        output::line(&format!("on hold since {}", output::time(since)))?;
    }
    Ok(())
}

fn anchor(args: &Log, head: &CommitAt) -> Result<(), OutputError> {
    let (number, time, sha1) = (head.commit.number, head.commit.time, head.part.sha1);
    if args.json {
        return output::json(&json!({
            "user": args.user, "commit": number, "time": output::rfc3339(time), "chain": sha1.to_hex(),
        }));
    }
    output::line(&format!("{} {number} {} {sha1}", args.user, output::rfc3339(time)))
}

/// Looks for a head that was kept elsewhere.
fn check(args: &Log, word: &str) -> Outcome {
    let wanted = Guid::from_hex(word.as_bytes())
        .ok_or_else(|| Trouble::Usage(format!("`{word}` is not a SHA-1 of 40 hexadecimal digits")))?;
    let commits = with_reader(&args.store, &args.user, async |_, reader| survey::commits(reader).await)?;
    let contains = commits.iter().find(|at| at.part.sha1 == wanted);
    let continues = commits.iter().filter_map(|at| at.commit.compacted).find(|compacted| compacted.head == wanted);
    let (text, number, found) = match (contains, continues) {
        (Some(at), _) => (format!("is commit {} of the chain", at.commit.number), Some(at.commit.number), "contains"),
        (None, Some(Compacted { number, time, .. })) => {
            let time = output::time(time);
            (
                format!("was commit {number}; the chain goes on from it since the compaction of {time}"),
                Some(number),
                "continues",
            )
        }
        (None, None) => {
            (String::from("is not in the chain, nor is it the head that the last compaction found"), None, "neither")
        }
    };
    if args.json {
        output::json(&json!({ "user": args.user, "anchor": wanted.to_hex(), "chain": found, "commit": number }))?;
    } else {
        output::line(&format!("{}: {wanted} {text}", args.user))?;
    }
    Ok(if number.is_some() { Exit::Ok } else { Exit::Partial })
}
