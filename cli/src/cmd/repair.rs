//! `cylinder repair`

use super::compact::archive_settings;
use crate::args::Repair;
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble, owner_shown};
use crate::output::{self, OutputError, Progress, count, size};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::{Error, Fault};
use cylinder_core::escape::Shown;
use cylinder_core::io::Io;
use cylinder_core::repair::rewrite::Rewritten;
use cylinder_core::repair::{self, Outcome as What, Repaired, Settings};
use cylinder_core::store::archive_dir;
use cylinder_transport_local::Local;
use serde_json::{Value, json};

/// Repairs archives, one after the other.
pub fn run(args: &Repair) -> Outcome {
    if args.users.is_empty() {
        return Err(Trouble::Usage(String::from("whose archive? name users")));
    }
    let store = host::store(&args.store)?;
    let threads = host::threads(args.threads);
    let settings = Settings {
        archive: archive_settings(args.level, threads),
        archive_id: host::chance()?,
        dry_run: args.dry_run,
        drop_aside: args.drop_aside,
    };
    let mut driver = host::store_driver(&store, threads);
    let mut codes = Vec::new();
    for word in &args.users {
        let owner = host::owner(word);
        let mut progress = Progress::new(args.quiet || args.json);
        let result = one(&mut driver, &owner, &settings, &mut progress);
        progress.clear();
        codes.push(code(&result));
        tell(args, &owner_shown(&owner), &result)?;
    }
    Ok(Exit::of_all(codes))
}

fn one(driver: &mut Local, owner: &Owner, settings: &Settings, progress: &mut Progress) -> Result<What, Error> {
    let (who, dir) = (owner_shown(owner), archive_dir(owner)?);
    let procedure = |io: Io| async move { repair::run(&io, &dir, owner, settings).await };
    let result = host::run_with(driver, procedure, &mut |event| progress.on(&who, &event));
    match result {
        Err(Error::World { fault: Fault::NotFound, doing: "open", .. }) => {
            Err(Error::Refused(String::from("has no archive in this store; `cylinder users --store` lists who has")))
        }
        other => other,
    }
}

fn code(result: &Result<What, Error>) -> Exit {
    match result {
        Ok(What::Good(_)) => Exit::Ok,
        Ok(What::Would(_)) => Exit::Damage,
        Ok(What::Done(repaired)) => code_of(&repaired.rewritten),
        Err(error) => Exit::of(error),
    }
}

/// What the exit status says of an archive that was written anew.
pub fn code_of(rewritten: &Rewritten) -> Exit {
    if rewritten.lost.is_empty() && rewritten.lost_files.is_empty() && rewritten.notes.is_empty() {
        Exit::Ok
    } else {
        Exit::Partial
    }
}

fn tell(args: &Repair, who: &str, result: &Result<What, Error>) -> Result<(), OutputError> {
    if args.json {
        return output::json(&to_json(who, result));
    }
    match result {
        Err(error) => {
            output::complain!("cylinder: {who}: {error}");
            if matches!(error, Error::World { fault: Fault::NoSpace | Fault::Quota, .. }) {
                output::complain!(
                    "cylinder: {who}: nothing was changed; `cylinder repair --dry-run {who}` says how much space a repair needs"
                );
            }
            Ok(())
        }
        Ok(What::Good(dropped)) => {
            output::line(&format!("{who}: nothing is wrong"))?;
            tell_dropped(who, dropped)
        }
        Ok(What::Would(repaired)) => {
            let (wrong, kept) = (repaired.findings_count, repaired.rewritten.messages);
            output::line(&format!("{who}: {}, {} are whole", count(wrong, "finding"), count(kept, "message")))?;
            tell_findings(&repaired.findings)?;
            tell_lost(&repaired.rewritten)?;
            output::line(&format!("  a repair needs up to {} of free space in the store", size(repaired.bytes.0)))
        }
        Ok(What::Done(repaired)) => tell_done(who, repaired),
    }
}

fn tell_done(who: &str, repaired: &Repaired) -> Result<(), OutputError> {
    let (kept, lost) = (&repaired.rewritten, repaired.rewritten.lost.len() as u64);
    output::line(&format!(
        "{who}: repaired: {}, {}, {}; {} lost",
        count(kept.messages, "message"),
        count(kept.snapshots, "snapshot"),
        size(repaired.bytes.1),
        count(lost, "message"),
    ))?;
    tell_findings(&repaired.findings)?;
    if repaired.reindexed {
        output::line("  there was no commit: the newest state was told from the names of the entries")?;
    } else if repaired.rebuilt > 0 {
        output::line(&format!("  {} made anew", count(repaired.rebuilt, "snapshot")))?;
    }
    tell_lost(kept)?;
    if let Some(aside) = &repaired.aside {
        output::line(&format!("  the damaged archive is kept as {aside}"))?;
    }
    tell_dropped(who, &repaired.dropped)?;
    if lost > 0 || !kept.lost_files.is_empty() {
        output::line("  next: `cylinder heal` fetches from the server what it still has")?;
    }
    Ok(())
}

/// What was wrong, a line each.
pub fn tell_findings(findings: &[cylinder_core::archive::entries::Finding]) -> Result<(), OutputError> {
    findings.iter().try_for_each(|finding| output::line(&format!("  {finding}")))
}

/// What is lost, a line each.
pub fn tell_lost(rewritten: &Rewritten) -> Result<(), OutputError> {
    for (guid, place) in &rewritten.lost {
        let place = place.as_ref().map_or_else(
            || String::from("where it was is not known"),
            |place| format!("{} UID {} of snapshot {}", Shown(&place.folder), place.uid, place.snapshot),
        );
        output::line(&format!("  lost: {guid}: {place}"))?;
    }
    for file in &rewritten.lost_files {
        output::line(&format!("  lost: {file}"))?;
    }
    for note in &rewritten.notes {
        output::line(&format!("  left out: {note}"))?;
    }
    Ok(())
}

fn tell_dropped(who: &str, dropped: &[String]) -> Result<(), OutputError> {
    dropped.iter().try_for_each(|name| output::line(&format!("{who}: removed {name}")))
}

/// What was written and what is lost, for JSON.
pub fn rewritten_json(rewritten: &Rewritten) -> Value {
    let lost = rewritten.lost.iter().map(|(guid, place)| {
        let place = place.as_ref();
        json!({
            "guid": guid.to_hex(),
            "folder": place.map(|place| Shown(&place.folder).to_string()),
            "uid": place.map(|place| place.uid),
            "snapshot": place.map(|place| place.snapshot),
        })
    });
    json!({
        "messages": rewritten.messages, "message_bytes": rewritten.bytes, "snapshots": rewritten.snapshots,
        "folders": rewritten.folders, "lost": lost.collect::<Vec<_>>(), "lost_files": rewritten.lost_files,
        "left_out": rewritten.notes,
    })
}

/// What was wrong, for JSON.
pub fn findings_json(findings: &[cylinder_core::archive::entries::Finding]) -> Value {
    findings.iter().map(|f| json!({ "from": f.bytes.0, "to": f.bytes.1, "object": f.object, "what": f.what })).collect()
}

fn to_json(who: &str, result: &Result<What, Error>) -> Value {
    let exit = code(result) as u8;
    match result {
        Err(error) => json!({ "user": who, "outcome": "failed", "error": error.to_string(), "exit": exit }),
        Ok(What::Good(dropped)) => json!({ "user": who, "outcome": "good", "removed": dropped, "exit": exit }),
        Ok(What::Would(repaired) | What::Done(repaired)) => json!({
            "user": who,
            "outcome": if matches!(result, Ok(What::Done(_))) { "done" } else { "would" },
            "findings_count": repaired.findings_count, "findings": findings_json(&repaired.findings),
            "rebuilt": repaired.rebuilt, "reindexed": repaired.reindexed,
            "archive": rewritten_json(&repaired.rewritten),
            "bytes_before": repaired.bytes.0, "bytes": repaired.bytes.1,
            "aside": repaired.aside, "removed": repaired.dropped, "exit": exit,
        }),
    }
}
