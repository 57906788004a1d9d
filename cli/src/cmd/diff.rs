//! `cylinder diff`

use super::archive::{at, with_reader};
use crate::args::Diff as Args;
use crate::exit::Exit;
use crate::host::Outcome;
use crate::output::{self, count};
use cylinder_core::diff::{Change, Diff, Spot, diff};
use cylinder_core::escape::shown;
use cylinder_core::view::{self, When};
use serde_json::{Value, json};

/// Tells what changed between two snapshots.
pub fn run(args: &Args) -> Outcome {
    let old = at(&Some(args.old.clone()))?;
    let new = args.new.as_ref().map_or(Ok(When::Newest), |_| at(&args.new))?;
    let (old, new, diff) = with_reader(&args.store, &args.user, async |_, reader| {
        let (old, new) = (view::snapshot(reader, old).await?, view::snapshot(reader, new).await?);
        let diff = diff(reader, &old, &new).await?;
        Ok((old.commit.number, new.commit.number, diff))
    })?;
    for error in &diff.problems {
        output::complain!("cylinder: {}: {error}", args.user);
    }
    if args.json {
        diff.changes.iter().try_for_each(|change| output::json(&to_json(change)))?;
        diff.states.iter().try_for_each(|name| output::json(&json!({ "change": "file", "name": shown(name) })))?;
    } else {
        diff.changes.iter().try_for_each(|change| output::line(&text(change)))?;
        diff.states.iter().try_for_each(|name| output::line(&format!("* file {}", shown(name))))?;
        output::line(&summary(old, new, &diff))?;
    }
    Ok(if diff.problems.is_empty() { Exit::Ok } else { Exit::Partial })
}

fn summary(old: u64, new: u64, diff: &Diff) -> String {
    let n = |what: fn(&Change) -> bool| diff.changes.iter().filter(|change| what(change)).count() as u64;
    let came = n(|c| matches!(c, Change::Came(_)));
    let went = n(|c| matches!(c, Change::Went(_)));
    let other = diff.changes.len() as u64 - came - went;
    format!("snapshots {old} to {new}: {} came, {} went, {}", count(came, "message"), went, count(other, "other change"))
}

fn place(spot: &Spot) -> String {
    format!("{}/{}", shown(&spot.folder), spot.uid)
}

fn flags(flags: &[Vec<u8>]) -> Vec<String> {
    // The backslash of a system flag is the protocol's own, not somebody's trick.
    let one = |flag: &Vec<u8>| match flag.strip_prefix(b"\\") {
        Some(rest) => format!("\\{}", shown(rest)),
        None => shown(flag),
    };
    flags.iter().map(one).collect()
}

fn text(change: &Change) -> String {
    match change {
        Change::FolderCame(name) => format!("+ folder {}", shown(name)),
        Change::FolderWent(name) => format!("- folder {}", shown(name)),
        Change::FolderRenamed(from, to) => format!("> folder {} to {}", shown(from), shown(to)),
        Change::Came(spot) => format!("+ {}  {}", place(spot), spot.guid),
        Change::Went(spot) => format!("- {}  {}", place(spot), spot.guid),
        Change::Moved(from, to) => format!("> {} to {}  {}", place(from), place(to), to.guid),
        Change::Expunged(spot) => format!("- {}  {}  (expunged)", place(spot), spot.guid),
        Change::Flags(spot, came, went) => {
            let signed = |sign, names: &[Vec<u8>]| flags(names).iter().map(|flag| format!(" {sign}{flag}")).collect::<String>();
            format!("* {}  {} {}{}", place(spot), spot.guid, signed('+', came), signed('-', went))
        }
    }
}

fn to_json(change: &Change) -> Value {
    let spot = |s: &Spot| json!({ "folder": shown(&s.folder), "uid": s.uid, "guid": s.guid.to_hex() });
    match change {
        Change::FolderCame(name) => json!({ "change": "folder-came", "folder": shown(name) }),
        Change::FolderWent(name) => json!({ "change": "folder-went", "folder": shown(name) }),
        Change::FolderRenamed(from, to) => json!({ "change": "folder-renamed", "from": shown(from), "to": shown(to) }),
        Change::Came(s) => json!({ "change": "came", "message": spot(s) }),
        Change::Went(s) => json!({ "change": "went", "message": spot(s) }),
        Change::Moved(from, to) => json!({ "change": "moved", "from": spot(from), "to": spot(to) }),
        Change::Expunged(s) => json!({ "change": "expunged", "message": spot(s) }),
        Change::Flags(s, came, went) => {
            json!({ "change": "flags", "message": spot(s), "came": flags(came), "went": flags(went) })
        }
    }
}
