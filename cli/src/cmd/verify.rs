//! `cylinder verify`

use crate::args::Verify;
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble, owner_shown};
use crate::output::{self, OutputError, Progress, count, size};
use crate::when;
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::stream::Sample;
use cylinder_core::archive::verify::{Verdict, quick, sample};
use cylinder_core::compact::erase::erased;
use cylinder_core::complete::{Absent, Broken, Completeness, complete, lacks};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::escape::shown;
use cylinder_core::io::{Io, Task};
use cylinder_core::lacking::Lacking;
use cylinder_core::store::{self, archive_dir};
use cylinder_transport_local::Local;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Notes that are told about a user; the rest is counted.
const NOTES: usize = 10;

/// How much of an archive is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Quick,
    Messages(Sample),
}

/// What was found of one archive.
type Found = (Verdict, Completeness);

/// Reads whole archives and tells what is wrong with them.
pub fn run(args: &Verify) -> Outcome {
    let depth = depth(args)?;
    let limit = args.max_time.as_ref().map(|text| when::span(text).map_err(Trouble::Usage)).transpose()?;
    if args.all && !args.users.is_empty() {
        return Err(Trouble::Usage(String::from("--all is everybody: name no users beside it")));
    }
    if limit.is_some() && !args.users.is_empty() {
        return Err(Trouble::Usage(String::from("--max-time goes on where it stopped: name no users beside it")));
    }
    let store = host::store(&args.store)?;
    let threads = host::threads(args.threads);
    let mut driver = host::store_driver(&store, threads);
    let users = if args.users.is_empty() {
        everybody(&mut driver, limit.is_some())?
    } else {
        args.users.iter().map(|word| host::owner(word)).collect()
    };
    let begun = Instant::now();
    let mut codes = Vec::new();
    for (n, owner) in users.iter().enumerate() {
        if n > 0 && limit.is_some_and(|limit| begun.elapsed() >= limit) {
            let kept = set_next(&mut driver, Some(owner));
            stopped(args, n, &users[n..], begun.elapsed())?;
            return Ok(ended(codes, kept));
        }
        codes.push(one(args, &mut driver, owner, depth, threads)?);
    }
    let kept = if limit.is_some() { set_next(&mut driver, None) } else { Ok(()) };
    Ok(ended(codes, kept))
}

/// The code of the whole. If it cannot be written down how far this came, the next check begins with the same users again.
fn ended(codes: Vec<Exit>, kept: Result<(), Error>) -> Exit {
    if let Err(error) = kept {
        output::complain!(
            "cylinder: the next check does not go on where this one ended, for that cannot be written down: {error}"
        );
        if Exit::of_all(codes.iter().copied()) == Exit::Ok {
            return Exit::Partial;
        }
    }
    Exit::of_all(codes)
}

fn depth(args: &Verify) -> Result<Depth, Trouble> {
    match (args.quick, &args.sample, args.full) {
        (true, None, false) => Ok(Depth::Quick),
        (false, None, _) => Ok(Depth::Messages(Sample::ALL)),
        // Other lots each time, so that in time all are drawn.
        (false, Some(text), false) => Ok(Depth::Messages(Sample { share: share(text)?, salt: Local::now().0.unsigned_abs() })),
        _ => Err(Trouble::Usage(String::from("--quick, --sample and --full: give one of them"))),
    }
}

/// Reads a percentage such as `5%` or `0.5`, as a share of 10,000.
fn share(text: &str) -> Result<u32, Trouble> {
    let percent = text.strip_suffix('%').unwrap_or(text).parse::<f64>().ok();
    match percent.filter(|percent| (0.01..=100.0).contains(percent)) {
        Some(percent) => Ok((percent * 100.0).round() as u32),
        None => Err(Trouble::Usage(format!("--sample {text}: expected 0.01% to 100%"))),
    }
}

/// Everybody in the store; from where the last check stopped, if this one may stop too.
fn everybody(driver: &mut Local, goes_on: bool) -> Result<Vec<Owner>, Trouble> {
    let (mut owners, next) = host::run(driver, |io| async move {
        let next = if goes_on { store::check_next(&io).await? } else { None };
        Ok::<_, Error>((host::owners(&io).await?, next))
    })?;
    if let Some(next) = next {
        let before = owners.partition_point(|owner| *owner < next);
        let len = owners.len().max(1);
        owners.rotate_left(before % len);
    }
    Ok(owners)
}

fn set_next(driver: &mut Local, next: Option<&Owner>) -> Result<(), Error> {
    host::run(driver, |io| async move { store::set_check_next(&io, next).await })
}

fn stopped(args: &Verify, done: usize, left: &[Owner], after: Duration) -> Result<(), OutputError> {
    let next = owner_shown(&left[0]);
    if args.json {
        return output::json(&json!({ "stopped": true, "users": done, "users_left": left.len(), "next": next }));
    }
    let (done, seconds) = (count(done as u64, "user"), after.as_secs());
    output::line(&format!("stopped after {seconds} s and {done}; {} left, {next} is next", left.len()))
}

fn one(args: &Verify, driver: &mut Local, owner: &Owner, depth: Depth, threads: usize) -> Outcome {
    let who = owner_shown(owner);
    let mut progress = Progress::new(args.quiet || args.json);
    let procedure = |io: Io| async {
        let (io, dir) = (io, archive_dir(owner)?);
        let erased = erased(&io, &who).await?;
        let reader = Reader::open(&io, &dir).await?;
        let found = async {
            let Depth::Messages(lots) = depth else { return Ok((quick(&io, &reader).await?, lacks(&reader).await?)) };
            let verdict = sample(&io, &reader, 2 * threads + 2, lots).await?;
            let whole = complete(&reader, &verdict.present, &erased).await?;
            Ok((verdict, whole))
        };
        let found: Result<Found, Error> = found.await;
        reader.close().await;
        found
    };
    let result = driver.run(Task::new(Local::now(), procedure), &mut |event| progress.on(&who, &event));
    progress.clear();
    match result {
        Ok((verdict, whole)) => report(args, &who, &verdict, &whole),
        Err(error) => failed(args, &who, &error),
    }
}

fn failed(args: &Verify, who: &str, error: &Error) -> Outcome {
    if args.json {
        output::json(&json!({ "user": who, "error": error.to_string() }))?;
    } else {
        output::complain!("cylinder: {who}: {error}");
    }
    Ok(Exit::of(error))
}

fn report(args: &Verify, who: &str, v: &Verdict, whole: &Completeness) -> Outcome {
    let is_good = v.is_good() && whole.is_whole();
    if args.json {
        output::json(&to_json(args, who, v, whole))?;
    } else if !is_good {
        damaged(args, who, v, whole)?;
        lacking(whole)?;
    } else if !whole.lacks_nothing() {
        incomplete(who, whole)?;
    } else if !args.quiet {
        let (messages, snapshots) = (count(v.messages, "message"), count(v.snapshots, "snapshot"));
        output::line(&format!("{who}: good: {messages}, {snapshots}, {}", size(v.file_bytes)))?;
        for note in whole.notes.iter().take(NOTES) {
            output::line(&format!("  note: {note}"))?;
        }
        if whole.notes.len() > NOTES {
            output::line(&format!("  and {} more notes", whole.notes.len() - NOTES))?;
        }
    }
    Ok(match (is_good, whole.lacks_nothing()) {
        (true, true) => Exit::Ok,
        (true, false) => Exit::Partial,
        (false, _) => Exit::Damage,
    })
}

/// An archive that has all that was saved, and snapshots that are known to lack something.
fn incomplete(who: &str, whole: &Completeness) -> Result<(), OutputError> {
    let snapshots = count(whole.lacking_snapshots, "snapshot");
    let verb = if whole.lacking_snapshots == 1 { "lacks" } else { "lack" };
    output::line(&format!("{who}: INCOMPLETE: the archive is not damaged, but {snapshots} {verb} what the user had"))?;
    lacking(whole)
}

/// Names what snapshots are known to lack.
fn lacking(whole: &Completeness) -> Result<(), OutputError> {
    for (snapshot, Lacking { what, why, next, .. }) in whole.lacking.iter().take(NOTES) {
        output::line(&format!("  snapshot {snapshot} lacks {what}: {why}; {next}"))?;
    }
    if whole.lacking.len() > NOTES {
        output::line(&format!("  and {} more", whole.lacking.len() - NOTES))?;
    }
    Ok(())
}

fn damaged(args: &Verify, who: &str, v: &Verdict, whole: &Completeness) -> Result<(), OutputError> {
    let findings = v.findings_count + whole.absent_count + whole.broken.len() as u64;
    output::line(&format!("{who}: DAMAGED: {}", count(findings, "finding")))?;
    for finding in &v.findings {
        output::line(&format!("  {finding}"))?;
    }
    for absent in &whole.absent {
        let at = bytes_of(v, absent).map_or_else(String::new, |(from, to)| format!("bytes {from} to {to}: "));
        let place = format!("{}/{}", shown(&absent.folder), absent.uid);
        output::line(&format!("  {at}lost: {place} of snapshot {}: {}", absent.snapshot, absent.guid))?;
    }
    for broken in &whole.broken {
        output::line(&format!("  snapshot {}{}: {}", broken.snapshot, folder_of(broken), broken.what))?;
    }
    let (means, next) = advice(args, who, v, whole);
    output::line(&format!("  means: {means}"))?;
    output::line(&format!("  next: {next}"))
}

fn folder_of(broken: &Broken) -> String {
    broken.folder.as_ref().map_or_else(|| String::from(", all folders"), |name| format!(", {}", shown(name)))
}

/// Where a lost message should be, if a list says so.
fn bytes_of(v: &Verdict, absent: &Absent) -> Option<(u64, u64)> {
    let object = format!("message {}", absent.guid);
    v.findings.iter().find(|finding| finding.object == object).map(|finding| finding.bytes)
}

/// What it means, and what to do.
fn advice(args: &Verify, who: &str, v: &Verdict, whole: &Completeness) -> (String, String) {
    let keep = "keep a copy of this archive";
    if args.quick {
        return (
            String::from("some of these bytes cannot be read"),
            format!("{keep}; `cylinder verify {who}` tells what is lost"),
        );
    }
    let next = if v.is_good() {
        format!("{keep}; `cylinder backup {who}` adds to it safely")
    } else {
        format!("`cylinder repair {who}`, which keeps this archive aside; `cylinder heal {who}` then fetches what is lost")
    };
    if whole.is_whole() {
        return (String::from("no message and no folder of any snapshot is lost"), next);
    }
    let folders = count(whole.broken.len() as u64, "folder");
    let means = format!(
        "{} of {} incomplete: {} and {folders} cannot be had; the other {} can be extracted",
        whole.incomplete,
        count(whole.snapshots, "snapshot"),
        count(whole.absent_count, "message"),
        count(v.present.len() as u64, "message"),
    );
    (means, next)
}

fn to_json(args: &Verify, who: &str, v: &Verdict, whole: &Completeness) -> Value {
    let (means, next) = advice(args, who, v, whole);
    let is_sound = v.is_good() && whole.is_whole();
    let is_good = is_sound && whole.lacks_nothing();
    let told = |text: String| if is_sound { Value::Null } else { text.into() };
    json!({
        "user": who, "good": is_good, "interrupted": v.interrupted, "bytes": v.file_bytes, "content_bytes": v.raw_bytes,
        "members": v.members, "entries": v.entries, "messages": v.messages, "commits": v.commits, "snapshots": v.snapshots,
        "findings_count": v.findings_count,
        "findings": v.findings.iter().map(|f| json!({
            "from": f.bytes.0, "to": f.bytes.1, "object": f.object, "what": f.what,
        })).collect::<Vec<_>>(),
        "lost_count": whole.absent_count,
        "lost": whole.absent.iter().map(|a| json!({
            "snapshot": a.snapshot, "folder": shown(&a.folder), "uid": a.uid, "guid": a.guid.to_hex(),
            "from": bytes_of(v, a).map(|bytes| bytes.0), "to": bytes_of(v, a).map(|bytes| bytes.1),
        })).collect::<Vec<_>>(),
        "broken": whole.broken.iter().map(|b| json!({
            "snapshot": b.snapshot, "folder": b.folder.as_ref().map(|name| shown(name)), "what": b.what,
        })).collect::<Vec<_>>(),
        "lacking_snapshots": whole.lacking_snapshots,
        "lacking": whole.lacking.iter().map(|(snapshot, l)| json!({
            "snapshot": snapshot, "folder": l.what, "lacking": l.word, "why": l.why, "next": l.next,
        })).collect::<Vec<_>>(),
        "snapshots_incomplete": whole.incomplete, "index_records": whole.records, "notes": whole.notes,
        "means": told(means), "next": told(next),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_percentages() {
        let shares = ["5%", "5", "0.5%", "100%", "0.01"].map(|text| share(text).ok());
        assert_eq!(shares, [500, 500, 50, 10_000, 1].map(Some));
        assert!(["", "%", "0", "101%", "five", "-1", "NaN"].iter().all(|text| share(text).is_err()));
    }
}
