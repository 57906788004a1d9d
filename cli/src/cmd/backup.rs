//! `cylinder backup`

use super::compact;
use crate::alarm;
use crate::args::{Args, Backup, Command};
use crate::exit::Exit;
use crate::fleet::plan::{From, JOBS, Plan, Source, Whom};
use crate::fleet::{self, How, Sum, Watch};
use crate::host::{self, HostOptions, Outcome, Trouble, owner_shown};
use crate::output::{self, OutputError, Progress, count, size};
use argh::FromArgs;
use cylinder_core::backup::report::{Problem, Report, Why};
use cylinder_core::compact::Outcome as Compaction;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::escape::{Shown, percent, shown, unpercent};
use cylinder_core::io::Event;
use cylinder_transport_ssh::Ssh;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Compression level without `--level`: measured best for mail (FORMAT.md does not depend on it).
const LEVEL: u8 = 1;

/// Tells people, or programs, what happens.
struct Teller<'a> {
    args: &'a Backup,
    summary: Mutex<Summary>,
}

#[derive(Default)]
struct Summary {
    changed: u64,
    messages_added: u64,
    bytes_added: u64,
    longest_hold_ms: i64,
    /// Users of whom something could not be saved.
    unsaved: u64,
    /// The newest commit that was written.
    commit: Option<u64>,
}

/// What came of the backup that another command needs.
pub struct Saved {
    /// All that the server has is saved.
    pub is_whole: bool,
    /// An alarm stands.
    pub is_alarming: bool,
    /// The snapshot that was made; `None` if nothing had changed.
    pub snapshot: Option<u64>,
}

thread_local! {
    /// How far the user is whom this thread is at.
    static PROGRESS: RefCell<Option<(String, Progress)>> = const { RefCell::new(None) };
}

/// Backs up users, several at a time.
pub fn run(args: &Backup) -> Outcome {
    let chance = host::chance()?;
    let Some(path) = &args.record else { return run_with(args, chance) };
    let bodies = match args.record_bodies.as_str() {
        "yes" => true,
        "no" => false,
        other => return Err(Trouble::Usage(format!("--record-bodies {other}: expected yes or no"))),
    };
    if args.config.is_some() || args.jobs.is_some_and(|jobs| jobs > 1) {
        return Err(Trouble::Usage(String::from("--record: one source, and one user at a time (--jobs 1)")));
    }
    let recorded = Recorded { words: std::env::args().skip(1).collect(), threads: host::threads(args.threads), chance };
    let tape = crate::tape::record(path, &recorded.emit(), bodies)?;
    let outcome = run_with(args, chance);
    tape.finish().map_err(|error| Trouble::Usage(format!("--record {path}: {error}")))?;
    outcome
}

/// What must be known to run a recorded backup again.
pub struct Recorded {
    words: Vec<String>,
    threads: usize,
    chance: [u8; 16],
}

impl Recorded {
    fn emit(&self) -> Vec<String> {
        let mut lines = vec![format!("threads {}", self.threads)];
        lines.push(format!("chance {}", self.chance.map(|b| format!("{b:02x}")).concat()));
        lines.extend(self.words.iter().map(|word| format!("word {}", percent(word.as_bytes(), b""))));
        lines
    }

    /// Reads the lines that say what was recorded.
    pub fn parse(lines: &[String]) -> Result<Recorded, String> {
        let mut recorded = Recorded { words: Vec::new(), threads: 1, chance: [0; 16] };
        for line in lines {
            let bad = || format!("line `{}`: expected threads, chance or word", shown(line.as_bytes()));
            match line.split_once(' ').ok_or_else(bad)? {
                ("threads", n) => recorded.threads = n.parse().map_err(|_| bad())?,
                ("chance", hex) => {
                    let byte = |n: usize| hex.get(2 * n..2 * n + 2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
                    for (n, chance) in recorded.chance.iter_mut().enumerate() {
                        *chance = byte(n).ok_or_else(bad)?;
                    }
                }
                ("word", word) => {
                    let word = unpercent(word.as_bytes()).ok_or_else(bad)?;
                    recorded.words.push(String::from_utf8(word).map_err(|_| bad())?);
                }
                _ => return Err(bad()),
            }
        }
        Ok(recorded)
    }
}

/// Runs a recorded backup again. The recording must have been set.
pub fn again(recorded: &Recorded) -> Outcome {
    let words: Vec<&str> = recorded.words.iter().map(String::as_str).collect();
    let usage = || Trouble::Usage(String::from("the recording is not one of `cylinder backup`"));
    let args = Args::from_args(&["cylinder"], &words).map_err(|_| usage())?;
    let Command::Backup(mut args) = args.command else { return Err(usage()) };
    args.threads = Some(recorded.threads);
    (args.quiet, args.json) = (true, false);
    run_with(&args, recorded.chance)
}

/// Backs up for a command that is going to replace what is there.
pub fn save(args: &Backup) -> Result<Saved, Trouble> {
    let (sum, summary, _) = work(args, host::chance()?)?;
    let is_whole = !sum.codes.is_empty() && sum.sources_lost == 0 && sum.left == 0 && summary.unsaved == 0;
    let is_alarming = sum.codes.iter().any(|code| *code != Exit::Ok);
    Ok(Saved { is_whole, is_alarming, snapshot: summary.commit })
}

fn run_with(args: &Backup, chance: [u8; 16]) -> Outcome {
    let begun = Instant::now();
    let (sum, summary, several) = work(args, chance)?;
    finish(args, &sum, summary, several, begun)
}

/// Does it, and gives what came of it, and whether several users are meant.
fn work(args: &Backup, chance: [u8; 16]) -> Result<(Sum, Summary, bool), Trouble> {
    let mut plan = plan(args)?;
    if crate::tape::current().is_some() {
        plan.jobs = 1;
        plan.sources.iter_mut().for_each(|source| source.jobs = 1);
    }
    crate::stop::watch().map_err(|error| Error::Refused(format!("signals cannot be handled: {error}")))?;
    let several = !matches!(&plan.whom, Whom::Named(owners) if owners.len() == 1);
    let level = args.level.or(plan.level).unwrap_or(LEVEL).min(12);
    let threads = args.threads.or(crate::tape::current().map(|_| host::threads(None)));
    // A recording is of the backup alone: it must come out the same whenever it is run again.
    let compact = !args.no_compact && crate::tape::current().is_none();
    let how = How { level, check: !args.no_check, threads, chance, compact, adopt: args.adopt };
    let teller = Teller { args, summary: Mutex::default() };
    let sum = fleet::run(&plan, how, &teller)?;
    Ok((sum, teller.summary.into_inner().unwrap_or_else(PoisonError::into_inner), several))
}

/// What the options say, or the file that they name.
fn plan(args: &Backup) -> Result<Plan, Trouble> {
    if let Some(path) = &args.config {
        let single = args.from.is_some() || args.all || args.shared || args.imapd_conf.is_some() || args.root.is_some();
        if single || args.store.is_some() {
            return Err(Trouble::Usage(String::from("--config says from where, to where and whom; leave that to it")));
        }
        let mut plan = Plan::load(Path::new(path))?;
        match &plan.store_id {
            Some(id) => host::check_store(&plan.store, Some(id))?,
            None => plan.store = host::store(&Some(plan.store.display().to_string()))?,
        }
        plan.jobs = args.jobs.unwrap_or(plan.jobs);
        if !args.users.is_empty() {
            plan.whom = Whom::Named(args.users.iter().map(|word| host::owner(word)).collect());
        }
        return Ok(plan);
    }
    let whom = whom(args)?;
    let (name, from) = match &args.from {
        None => {
            let host = HostOptions::new(&args.imapd_conf, &args.root, &args.cyrus, args.offline)?;
            let host = host.with_patience(args.wait, args.hold);
            (host.source(), From::Local(Box::new(host)))
        }
        Some(from) => {
            let local = [args.imapd_conf.is_some(), args.root.is_some(), args.cyrus.is_some(), args.offline];
            if local.contains(&true) || args.wait.is_some() || args.hold.is_some() {
                let text = "--from: options about the server's files and locks belong to the `cylinder serve` over there";
                return Err(Trouble::Usage(String::from(text)));
            }
            let mut ssh = Ssh::default();
            if let Some(command) = &args.serve_command {
                ssh.command = command.clone();
            }
            if let Some(words) = &args.ssh {
                ssh.program = words.split_whitespace().map(str::to_owned).collect();
            }
            (from.clone(), From::parse(from, ssh).map_err(Trouble::Usage)?)
        }
    };
    // For small users a run is mostly waiting for the disk, so it is not the processors that count.
    let jobs = args.jobs.unwrap_or(if matches!(&whom, Whom::Named(owners) if owners.len() == 1) { 1 } else { JOBS });
    let source = Source { name, from, users: Vec::new(), exclude: Vec::new(), jobs, bandwidth: 0, read_rate: 0 };
    let store = host::store(&args.store)?;
    Ok(Plan { sources: vec![source], store, store_id: None, whom, jobs, window: None, retries: 1, level: None, ledger: false })
}

fn whom(args: &Backup) -> Result<Whom, Trouble> {
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
            Ok(Whom::Named(owners))
        }
        (true, true) => Ok(Whom::Everybody),
    }
}

fn finish(args: &Backup, sum: &Sum, summary: Summary, several: bool, begun: Instant) -> Outcome {
    let stopped = crate::stop::is_wanted();
    let exit = Exit::of_all(sum.codes.iter().copied().chain((stopped && sum.left > 0).then_some(Exit::Partial)));
    // A source that could not be had is no user.
    let users = (sum.codes.len() - sum.sources_lost) as u64;
    let bad = sum.codes.iter().filter(|c| **c != Exit::Ok).count() - sum.sources_lost;
    let seconds = begun.elapsed().as_secs_f64();
    if args.json {
        output::json(&json!({
            "event": "summary", "users": users, "changed": summary.changed, "not_clean": bad, "left": sum.left,
            "sources_lost": sum.sources_lost, "gone": sum.gone, "other_sources": sum.elsewhere,
            "messages_added": summary.messages_added, "bytes_added": summary.bytes_added,
            "longest_hold_ms": summary.longest_hold_ms, "seconds": seconds, "stopped": stopped, "exit": exit as u8,
        }))?;
        return Ok(exit);
    }
    if sum.left > 0 {
        let why = if stopped { "stopped" } else { "the time is up" };
        output::complain!("cylinder: {why}: {} left for the next run", count(sum.left, "user"));
    }
    if !args.quiet {
        for (source, archives) in &sum.elsewhere {
            let source = Shown(source.as_bytes());
            output::complain!(
                "cylinder: the store has {} of {source}, which is no source of this run",
                count(*archives, "archive")
            );
        }
    }
    if several && !args.quiet {
        let gone = if sum.gone == 0 { String::new() } else { format!(", {} gone", sum.gone) };
        output::line(&format!(
            "{}: {} changed, +{} ({}), {bad} with problems{gone}, {seconds:.1} s, locks held for {} ms at most",
            count(users, "user"),
            summary.changed,
            count(summary.messages_added, "message"),
            size(summary.bytes_added),
            summary.longest_hold_ms,
        ))?;
    }
    Ok(exit)
}

impl Watch for Teller<'_> {
    fn user(&self, owner: &Owner, result: &Result<Report, Error>) {
        if crate::tape::is_replay() {
            return;
        }
        PROGRESS.with_borrow_mut(|progress| progress.take().map(|(_, mut progress)| progress.clear()));
        let mut summary = self.summary.lock().unwrap_or_else(PoisonError::into_inner);
        summary.unsaved += u64::from(!result.as_ref().is_ok_and(is_saved));
        if let Ok(report) = result {
            summary.commit = report.commit.or(summary.commit);
            summary.changed += u64::from(report.commit.is_some());
            summary.messages_added += report.messages_added;
            summary.bytes_added += report.bytes_added;
            summary.longest_hold_ms = summary.longest_hold_ms.max(report.longest_hold.ms());
        }
        // A report that cannot be written stops no run: `output::lost` tells at the end.
        let _ = self.tell(owner, result);
    }

    fn compacted(&self, owner: &Owner, result: &Result<Compaction, Error>) {
        PROGRESS.with_borrow_mut(|progress| progress.take().map(|(_, mut progress)| progress.clear()));
        let _one_at_a_time = self.summary.lock();
        let how = compact::Verbosity::of(self.args.json, self.args.quiet, true);
        let _ = compact::tell(&owner_shown(owner), result, how);
    }

    fn source(&self, name: &str, text: &str) {
        if !crate::tape::is_replay() {
            output::complain!("cylinder: {}: {text}", Shown(name.as_bytes()));
        }
    }

    fn event(&self, event: Event) {
        let quiet = self.args.quiet || self.args.json;
        PROGRESS.with_borrow_mut(|progress| match (event, progress.as_mut()) {
            (Event::User { owner }, _) => *progress = Some((owner, Progress::new(quiet))),
            (Event::Waiting { object, holder }, who) => {
                let who = who.map(|(who, _)| format!("{who}: ")).unwrap_or_default();
                let holder = holder.map_or_else(String::new, |h| format!(", held by {h}"));
                output::complain!("cylinder: {who}waiting for the lock of {object}{holder}");
            }
            (event, Some((who, progress))) => progress.on(who, &event),
            (_, None) => {}
        });
    }
}

impl Teller<'_> {
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
                output::complain!("cylinder: {who}: {error}");
                Ok(())
            }
        }
    }

    fn tell_report(&self, who: &str, report: &Report) -> Result<(), OutputError> {
        for note in &report.notes {
            output::complain!("cylinder: {who}: {note}");
        }
        for problem in &report.problems {
            output::complain!("cylinder: {who}: {}", problem_text(problem));
        }
        if report.unsettled {
            output::complain!(
                "cylinder: {who}: folders kept changing, the snapshot has each of them as of a moment of its own"
            );
        }
        let unlisted = report.problems_count - report.problems.len() as u64;
        if unlisted > 0 {
            output::complain!("cylinder: {who}: and {}", count(unlisted, "more problem"));
        }
        for alarm in alarm::told(report) {
            output::complain!("cylinder: {who}: ALARM: {}", alarm::text(who, alarm, report));
        }
        if self.args.quiet {
            return Ok(());
        }
        if let Some(home) = &report.other_home {
            return output::line(&format!("{who}: nothing saved: the archive is of {}", Shown(home.as_bytes())));
        }
        if let Some(since) = report.gone {
            let (messages, folders) = (count(report.messages, "message"), count(report.folders, "folder"));
            let number = report.commit.map_or_else(String::new, |number| format!("snapshot {number}: "));
            return output::line(&format!(
                "{who}: {number}gone since {}; {messages} in {folders} of before are kept",
                output::time(since)
            ));
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

/// True if all that the server has is saved. What a killed run had saved beside it is no loss.
fn is_saved(report: &Report) -> bool {
    let unclaimed = report.problems.iter().filter(|problem| matches!(problem, Problem::Unclaimed { .. })).count() as u64;
    report.other_home.is_none() && report.problems_count == unclaimed
}

fn problem_text(problem: &Problem) -> String {
    match problem {
        Problem::Archive { error } => {
            format!("the archive is damaged; what it lacks was saved anew, `cylinder verify` tells all: {error}")
        }
        Problem::Unclaimed { count: n } => format!(
            "{} that a run which did not end had saved: in no folder that was read now. The archive keeps what no snapshot names; \
             `cylinder restore --recovered` gives it, `cylinder acknowledge` lets it go",
            count(*n, "message"),
        ),
        Problem::Message { folder, uid, guid, path, why } => {
            let guid = guid.map_or_else(|| String::from("unknown"), |g| g.to_hex());
            format!("{} UID {uid}, GUID {guid}, {path}: {}", Shown(folder), why_text(why))
        }
        Problem::Record { folder, error } => format!("{}: {error}", Shown(folder)),
        Problem::Folder { folder, error } => format!("{}: not saved, the archive keeps what it had: {error}", Shown(folder)),
        Problem::State { name, error } => format!("{}: not saved, the archive keeps what it had: {error}", Shown(name)),
        Problem::Header { folder, error, is_kept } => {
            let kept =
                if *is_kept { "that of an earlier snapshot stands in its place" } else { "names of keywords may be lost" };
            format!("{}: {error}; {kept}; `reconstruct` on the server makes one anew", Shown(folder))
        }
        Problem::Damaged { name, error, is_kept } => {
            let kept = if *is_kept { "the archive keeps the last good one" } else { "saved as it lies" };
            format!("{}: damaged on the server: {error}; {kept}", Shown(name))
        }
        Problem::Identity { folder, entry, id } => {
            let folder = Shown(folder);
            match entry {
                Some(entry) => format!(
                    "{folder}: mailboxes.db says uniqueid {}, cyrus.header says another; saved under {}; `reconstruct` on the server makes the two agree",
                    Shown(entry),
                    Shown(id)
                ),
                None => format!(
                    "{folder}: has no uniqueid, neither in mailboxes.db nor in cyrus.header; saved under {}, which is ours; \
                     `reconstruct` on the server gives it one",
                    Shown(id)
                ),
            }
        }
        Problem::Twin { folder, other, id } => format!(
            "{} has the uniqueid of {}, {}; both are saved, but tar programs extract the metadata of only one. `mbexamine` shows both",
            Shown(folder),
            Shown(other),
            Shown(id)
        ),
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
        "unsettled": r.unsettled, "notes": r.notes, "exit": Exit::of_report(r) as u8,
        "alarm": alarm::told(r).next().map(|alarm| alarm::text(who, alarm, r)),
        "alarms": alarm::told(r).map(alarm::json).collect::<Vec<_>>(),
        "gone": r.gone.map(output::rfc3339), "other_home": r.other_home,
        "problems_count": r.problems_count,
        "problems": r.problems.iter().map(problem_json).collect::<Vec<_>>(),
    })
}

fn problem_json(problem: &Problem) -> Value {
    match problem {
        Problem::Archive { error } => json!({ "kind": "archive", "what": error.to_string() }),
        Problem::Unclaimed { count } => json!({ "kind": "unclaimed", "messages": count, "what": problem_text(problem) }),
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
        Problem::Header { folder, .. } => {
            json!({ "kind": "header", "folder": shown(folder), "what": problem_text(problem) })
        }
        Problem::Damaged { name, .. } => json!({ "kind": "damaged", "name": shown(name), "what": problem_text(problem) }),
        Problem::Identity { folder, id, .. } => {
            json!({ "kind": "identity", "folder": shown(folder), "uniqueid": shown(id), "what": problem_text(problem) })
        }
        Problem::Twin { folder, other, id } => {
            json!({ "kind": "twin", "folder": shown(folder), "other": shown(other), "uniqueid": shown(id), "what": problem_text(problem) })
        }
    }
}
