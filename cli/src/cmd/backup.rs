//! `cylinder backup`

use crate::args::Backup;
use crate::exit::Exit;
use crate::host::{self, HostOptions, Outcome, Trouble, owner_shown};
use crate::output::{self, OutputError, Progress, count, size};
use cylinder_core::archive::append;
use cylinder_core::backup::report::{Alarm, Problem, Report, Why};
use cylinder_core::backup::{self, Settings};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::escape::{Shown, shown};
use cylinder_core::io::{Event, Task};
use cylinder_core::source::site::Site;
use cylinder_core::store::archive_dir;
use cylinder_transport_local::Local;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Compression level without `--level`: measured best for mail (FORMAT.md does not depend on it).
const LEVEL: u8 = 1;

/// Users at a time without `--jobs`, however few processors: for small ones a run is mostly waiting for the disk.
const JOBS: usize = 4;

/// What all workers share.
struct Run<'a> {
    args: &'a Backup,
    host: &'a HostOptions,
    store: PathBuf,
    threads: usize,
    queue: Mutex<VecDeque<Owner>>,
    done: Mutex<Summary>,
}

#[derive(Default)]
struct Summary {
    codes: Vec<Exit>,
    changed: u64,
    messages_added: u64,
    bytes_added: u64,
    longest_hold_ms: i64,
    output: Option<OutputError>,
}

/// Backs up users, several at a time.
pub fn run(args: &Backup) -> Outcome {
    let begun = Instant::now();
    let host = HostOptions::new(&args.imapd_conf, &args.root, &args.cyrus, args.offline)?.with_patience(args.wait, args.hold);
    let store = host::store(&args.store)?;
    let processors = host::threads(None);
    let (mut driver, mut site) = host.open(&store, args.threads.unwrap_or(processors))?;
    let owners = owners(args, &mut driver, &mut site)?;
    let several = owners.len() > 1;
    let jobs = args.jobs.unwrap_or(JOBS).clamp(1, owners.len().max(1));
    let threads = args.threads.unwrap_or((processors / jobs).max(1));
    if jobs > 1 {
        (driver, site) = host.open(&store, threads)?;
    }
    let run = Run { args, host: &host, store, threads, queue: Mutex::new(owners.into()), done: Mutex::default() };
    std::thread::scope(|scope| {
        for _ in 1..jobs {
            scope.spawn(|| match run.host.open(&run.store, run.threads) {
                Ok((mut driver, mut site)) => run.work(&mut driver, &mut site),
                // The first worker has opened the same a moment ago, and takes over what is left.
                Err(trouble) => eprintln!("cylinder: one worker less: {trouble:?}"),
            });
        }
        run.work(&mut driver, &mut site);
    });
    let summary = run.done.into_inner().unwrap_or_else(PoisonError::into_inner);
    finish(args, summary, several, begun)
}

fn finish(args: &Backup, summary: Summary, several: bool, begun: Instant) -> Outcome {
    if let Some(error) = summary.output {
        return Err(Trouble::Output(error));
    }
    let exit = Exit::of_all(summary.codes.iter().copied());
    let (users, bad) = (summary.codes.len() as u64, summary.codes.iter().filter(|c| **c != Exit::Ok).count());
    let seconds = begun.elapsed().as_secs_f64();
    if args.json {
        output::json(&json!({
            "event": "summary", "users": users, "changed": summary.changed, "not_clean": bad,
            "messages_added": summary.messages_added, "bytes_added": summary.bytes_added,
            "longest_hold_ms": summary.longest_hold_ms, "seconds": seconds, "exit": exit as u8,
        }))?;
    } else if several && !args.quiet {
        output::line(&format!(
            "{}: {} changed, +{} ({}), {bad} with problems, {seconds:.1} s, locks held for {} ms at most",
            count(users, "user"),
            summary.changed,
            count(summary.messages_added, "message"),
            size(summary.bytes_added),
            summary.longest_hold_ms,
        ))?;
    }
    Ok(exit)
}

fn owners(args: &Backup, driver: &mut Local, site: &mut Site) -> Result<Vec<Owner>, Trouble> {
    let mut owners: Vec<Owner> = args.users.iter().map(|word| host::owner(word)).collect();
    if args.shared {
        owners.push(Owner::Shared);
    }
    match (args.all, owners.is_empty()) {
        (true, false) => Err(Trouble::Usage(String::from("--all is everybody: name no users beside it"))),
        (false, true) => Err(Trouble::Usage(String::from("whom? name users, or give --all or --shared"))),
        (false, false) => {
            owners.sort();
            owners.dedup();
            Ok(owners)
        }
        (true, true) => everybody(driver, site),
    }
}

/// Whoever has a mailbox on the server, and whoever has an archive: a user who has vanished must not go unnoticed.
fn everybody(driver: &mut Local, site: &mut Site) -> Result<Vec<Owner>, Trouble> {
    let procedure = |io| async move {
        let mut owners = site.owners(&io).await?;
        owners.extend(cylinder_core::store::owners(&io).await?);
        owners.sort();
        owners.dedup();
        Ok::<_, Error>(owners)
    };
    Ok(host::run(driver, procedure)?)
}

impl Run<'_> {
    /// Takes users from the queue until it is empty or nobody listens any more.
    fn work(&self, driver: &mut Local, site: &mut Site) {
        while let Some(owner) = self.next() {
            let (result, mut progress) = self.one(driver, site, &owner);
            progress.clear();
            let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
            done.codes.push(result.as_ref().map_or_else(Exit::of, code));
            if let Ok(report) = &result {
                done.changed += u64::from(report.commit.is_some());
                done.messages_added += report.messages_added;
                done.bytes_added += report.bytes_added;
                done.longest_hold_ms = done.longest_hold_ms.max(report.longest_hold.ms());
            }
            if let Err(error) = self.tell(&owner, &result) {
                done.output = Some(error);
                return;
            }
        }
    }

    fn next(&self) -> Option<Owner> {
        if self.done.lock().unwrap_or_else(PoisonError::into_inner).output.is_some() {
            return None;
        }
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn one(&self, driver: &mut Local, site: &mut Site, owner: &Owner) -> (Result<Report, Error>, Progress) {
        let mut progress = Progress::new(self.args.quiet || self.args.json);
        let who = owner_shown(owner);
        let result = archive_dir(owner).and_then(|dir| {
            let settings = self.settings()?;
            let procedure = |io| async move { backup::run(io, site, owner, &dir, &settings).await };
            driver.run(Task::new(Local::now(), procedure), &mut |event| match event {
                Event::Expect { bytes, .. } => progress.expect(bytes),
                Event::Progress { messages, bytes } => progress.add(&who, messages, bytes),
                Event::Waiting { object, holder } => {
                    let holder = holder.map_or_else(String::new, |h| format!(", held by {h}"));
                    eprintln!("cylinder: {who}: waiting for the lock of {object}{holder}");
                }
            })
        });
        (result, progress)
    }

    fn settings(&self) -> Result<Settings, Error> {
        let mut archive_id = [0; 16];
        rustix::rand::getrandom(&mut archive_id, rustix::rand::GetRandomFlags::empty())
            .map_err(|e| Error::Refused(format!("the system gives no random bytes: {e}")))?;
        Ok(Settings {
            archive: append::Settings {
                level: self.args.level.unwrap_or(LEVEL).min(12),
                check: !self.args.no_check,
                ahead: 2 * self.threads + 1,
                checkpoint_bytes: append::Settings::CHECKPOINT_BYTES,
                software: String::from(super::version::SOFTWARE),
            },
            source: self.host.source(),
            archive_id,
        })
    }

    fn tell(&self, owner: &Owner, result: &Result<Report, Error>) -> Result<(), OutputError> {
        let who = owner_shown(owner);
        if self.args.json {
            return output::json(&match result {
                Ok(report) => report_json(&who, report),
                Err(error) => {
                    json!({ "event": "user", "user": who, "error": error.to_string(), "exit": Exit::of(error) as u8 })
                }
            });
        }
        match result {
            Ok(report) => self.tell_report(&who, report),
            Err(error) => {
                eprintln!("cylinder: {who}: {error}");
                Ok(())
            }
        }
    }

    fn tell_report(&self, who: &str, report: &Report) -> Result<(), OutputError> {
        for note in &report.notes {
            eprintln!("cylinder: {who}: {note}");
        }
        for problem in &report.problems {
            eprintln!("cylinder: {who}: {}", problem_text(problem));
        }
        if report.unsettled {
            eprintln!("cylinder: {who}: folders kept changing, the snapshot has each of them as of a moment of its own");
        }
        let unlisted = report.problems_count - report.problems.len() as u64;
        if unlisted > 0 {
            eprintln!("cylinder: {who}: and {}", count(unlisted, "more problem"));
        }
        if let Some(alarm) = &report.alarm {
            eprintln!("cylinder: {who}: ALARM: {}", alarm_text(alarm));
        }
        if self.args.quiet {
            return Ok(());
        }
        output::line(&match report.commit {
            None => format!("{who}: unchanged, {} in {}", count(report.messages, "message"), count(report.folders, "folder")),
            Some(number) => format!(
                "{who}: snapshot {number}: +{} ({}), {} in {}, archive {}",
                count(report.messages_added, "message"),
                size(report.bytes_added),
                count(report.messages, "message"),
                count(report.folders, "folder"),
                size(report.archive_bytes),
            ),
        })
    }
}

fn code(report: &Report) -> Exit {
    match (report.is_damaged(), report.is_clean()) {
        (true, _) => Exit::Damage,
        (false, true) => Exit::Ok,
        (false, false) => Exit::Partial,
    }
}

fn alarm_text(alarm: &Alarm) -> String {
    match alarm {
        Alarm::Vanished { before } => format!(
            "the server has no mailbox of this user any more, the archive has {}; nothing is dropped from it. Is the server's disk mounted?",
            count(*before, "message")
        ),
        Alarm::MassLoss { before, after } => format!(
            "{after} of {} are left since the last snapshot; what is there was saved, and nothing is dropped from the archive until somebody has looked",
            count(*before, "message")
        ),
    }
}

fn problem_text(problem: &Problem) -> String {
    match problem {
        Problem::Archive { error } => {
            format!("the archive is damaged; what it lacks was saved anew, `cylinder verify` tells all: {error}")
        }
        Problem::Message { folder, uid, guid, path, why } => {
            let guid = guid.map_or_else(|| String::from("unknown"), |g| g.to_hex());
            format!("{} UID {uid}, GUID {guid}, {path}: {}", Shown(folder), why_text(why))
        }
        Problem::Record { folder, error } => format!("{}: {error}", Shown(folder)),
        Problem::Folder { folder, error } => format!("{}: not saved, the archive keeps what it had: {error}", Shown(folder)),
        Problem::State { name, error } => format!("{}: not saved, the archive keeps what it had: {error}", Shown(name)),
    }
}

fn why_text(why: &Why) -> String {
    match why {
        Why::Absent => String::from("there is no such file; `reconstruct` makes the server agree with what is there"),
        Why::Unreadable(error) => error.to_string(),
        Why::Mismatch { found, found_size, expected_size } => format!(
            "found SHA-1 {found} and {found_size} bytes, expected the GUID and {expected_size} bytes; saved under the SHA-1 that it has"
        ),
    }
}

fn report_json(who: &str, r: &Report) -> Value {
    json!({
        "event": "user", "user": who, "snapshot": r.commit, "folders": r.folders, "folders_changed": r.folders_changed,
        "names_new": r.names_new, "names_gone": r.names_gone, "messages": r.messages, "messages_added": r.messages_added,
        "bytes_added": r.bytes_added, "archive_bytes": r.archive_bytes, "longest_hold_ms": r.longest_hold.ms(),
        "unsettled": r.unsettled, "notes": r.notes, "exit": code(r) as u8,
        "alarm": r.alarm.as_ref().map(alarm_text),
        "problems_count": r.problems_count,
        "problems": r.problems.iter().map(problem_json).collect::<Vec<_>>(),
    })
}

fn problem_json(problem: &Problem) -> Value {
    match problem {
        Problem::Archive { error } => json!({ "kind": "archive", "what": error.to_string() }),
        Problem::Message { folder, uid, guid, path, why } => {
            let kind = match why {
                Why::Absent => "absent",
                Why::Unreadable(_) => "unreadable",
                Why::Mismatch { .. } => "mismatch",
            };
            json!({
                "kind": kind, "folder": shown(folder), "uid": uid, "guid": guid.map(|g| g.to_hex()), "path": path,
                "what": why_text(why),
            })
        }
        Problem::Record { folder, error } => json!({ "kind": "record", "folder": shown(folder), "what": error.to_string() }),
        Problem::Folder { folder, error } => json!({ "kind": "folder", "folder": shown(folder), "what": error.to_string() }),
        Problem::State { name, error } => json!({ "kind": "state", "name": shown(name), "what": error.to_string() }),
    }
}
