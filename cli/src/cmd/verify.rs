//! `cylinder verify`

use super::archive::read;
use crate::args::Verify;
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble, owner_shown};
use crate::output::{self, Progress, count, size};
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::verify::{Verdict, quick, verify};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Event, Io, Task};
use cylinder_core::store::{self, archive_dir};
use cylinder_core::view;
use cylinder_transport_local::Local;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

/// Where a lost message was in the newest snapshot: folder and UID.
type Places = BTreeMap<Guid, Vec<String>>;

/// Reads whole archives and tells what is wrong with them.
pub fn run(args: &Verify) -> Outcome {
    let store = host::store(&args.store)?;
    let threads = host::threads(args.threads);
    let mut driver = host::store_driver(&store, threads);
    let users: Vec<Owner> = if args.users.is_empty() {
        host::run(&mut driver, |io| async move { store::owners(&io).await })?
    } else {
        args.users.iter().map(|word| host::owner(word)).collect()
    };
    let mut codes = Vec::new();
    for owner in users {
        codes.push(one(args, &mut driver, &owner, threads)?);
    }
    Ok(Exit::of_all(codes))
}

fn one(args: &Verify, driver: &mut Local, owner: &Owner, threads: usize) -> Outcome {
    let who = owner_shown(owner);
    let mut progress = Progress::new(args.quiet || args.json);
    let dir = archive_dir(owner)?;
    let procedure = |io: Io| async move {
        let reader = Reader::open(&io, &dir).await?;
        let verdict = if args.quick { quick(&io, &reader).await } else { verify(&io, &reader, 2 * threads + 2).await };
        reader.close().await;
        verdict
    };
    let result = driver.run(Task::new(Local::now(), procedure), &mut |event| match event {
        Event::Expect { bytes, .. } => progress.expect(bytes),
        Event::Progress { messages, bytes } => progress.add(&who, messages, bytes),
        Event::Waiting { .. } | Event::User { .. } => {}
    });
    progress.clear();
    match result {
        Ok(verdict) => {
            let places = if verdict.lost.is_empty() { Places::new() } else { places(driver, owner, &verdict) };
            report(args, &who, &verdict, &places)
        }
        Err(error) => failed(args, &who, &error),
    }
}

fn failed(args: &Verify, who: &str, error: &Error) -> Outcome {
    if args.json {
        output::json(&json!({ "user": who, "error": error.to_string() }))?;
    } else {
        eprintln!("cylinder: {who}: {error}");
    }
    Ok(Exit::of(error))
}

/// Looks up lost messages in the newest snapshot. What cannot be read any more names nothing.
fn places(driver: &mut Local, owner: &Owner, verdict: &Verdict) -> Places {
    let lost: BTreeSet<Guid> = verdict.lost.iter().copied().collect();
    let word = match owner {
        Owner::Shared => String::from("%shared"),
        Owner::User(userid) => String::from_utf8_lossy(userid).into_owned(),
    };
    let found: Result<Places, Trouble> = read(driver, &word, async |_, reader| {
        let mut places = Places::new();
        let at = view::snapshot(reader, view::When::Newest).await?;
        for row in &reader.table(&at).await?.folders {
            let Ok(view) = view::folder(reader, row).await else { continue };
            for m in view.messages.iter().filter(|m| lost.contains(&m.guid)) {
                let place = format!("{}/{}", cylinder_core::escape::shown(&row.name), m.record.uid);
                places.entry(m.guid).or_default().push(place);
            }
        }
        Ok(places)
    });
    found.unwrap_or_default()
}

fn report(args: &Verify, who: &str, v: &Verdict, places: &Places) -> Outcome {
    let exit = if v.is_good() { Exit::Ok } else { Exit::Damage };
    if args.json {
        output::json(&json!({
            "user": who, "good": v.is_good(), "interrupted": v.interrupted, "bytes": v.file_bytes, "content_bytes": v.raw_bytes,
            "members": v.members, "entries": v.entries, "messages": v.messages, "commits": v.commits, "snapshots": v.snapshots,
            "findings_count": v.findings_count,
            "findings": v.findings.iter().map(|f| json!({
                "from": f.bytes.0, "to": f.bytes.1, "object": f.object, "what": f.what,
            })).collect::<Vec<_>>(),
            "lost": v.lost.iter().map(|g| json!({ "guid": g.to_hex(), "messages": places.get(g) })).collect::<Vec<_>>(),
        }))?;
        return Ok(exit);
    }
    if v.is_good() {
        if !args.quiet {
            let cut = if v.interrupted { "; a run was interrupted, the next backup goes on" } else { "" };
            let (messages, snapshots) = (count(v.messages, "message"), count(v.snapshots, "snapshot"));
            output::line(&format!("{who}: good: {messages}, {snapshots}, {}{cut}", size(v.file_bytes)))?;
        }
        return Ok(exit);
    }
    output::line(&format!("{who}: DAMAGED: {}", count(v.findings_count, "finding")))?;
    for finding in &v.findings {
        output::line(&format!("  {finding}"))?;
    }
    for guid in &v.lost {
        let where_ = places.get(guid).map_or_else(|| String::from("in no folder of the newest snapshot"), |p| p.join(", "));
        output::line(&format!("  lost: {guid}: {where_}"))?;
    }
    output::line(
        "  next: keep a copy of this archive; `cylinder backup` adds to it safely, and everything not listed here can be extracted",
    )?;
    Ok(exit)
}
