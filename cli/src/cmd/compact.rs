//! `cylinder compact`, and the same behind each run of `cylinder backup`.

use crate::alarm;
use crate::args::Compact;
use crate::exit::Exit;
use crate::host::{self, Trouble, owner_shown};
use crate::output::{self, OutputError, Progress, count, size};
use cylinder_core::archive::append;
use cylinder_core::compact::filter::Filtered;
use cylinder_core::compact::policy::{Policy, Retention};
use cylinder_core::compact::{self, Outcome, Plan, Settings, Wait};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::{Error, Fault};
use cylinder_core::io::{Io, Task};
use cylinder_core::store::archive_dir;
use cylinder_transport_local::Local;
use serde_json::{Value, json};

/// Compression level without `--level`, as that of `backup`.
const LEVEL: u8 = 1;

/// Compacts archives, one after the other.
pub fn run(args: &Compact) -> host::Outcome {
    if args.if_needed && args.now {
        return Err(Trouble::Usage(String::from("--if-needed and --now: give one of them")));
    }
    let store = host::store(&args.store)?;
    let threads = host::threads(args.threads);
    let mut driver = host::store_driver(&store, threads);
    let owners = owners(args, &mut driver)?;
    let retention = retention(&mut driver)?;
    let mut codes = Vec::new();
    for owner in owners {
        let settings = settings(args, threads, retention.policy(owner_shown(&owner).as_bytes()))?;
        let mut progress = Progress::new(args.quiet || args.json);
        let result = one(&mut driver, &owner, &settings, &mut progress);
        progress.clear();
        codes.push(code(&result));
        tell(&owner_shown(&owner), &result, Verbosity::of(args.json, args.quiet, false))?;
    }
    Ok(Exit::of_all(codes))
}

fn owners(args: &Compact, driver: &mut Local) -> Result<Vec<Owner>, Trouble> {
    match (args.all, args.users.is_empty()) {
        (true, false) => Err(Trouble::Usage(String::from("--all is everybody: name no users beside it"))),
        (false, true) => Err(Trouble::Usage(String::from("whom? name users, or give --all"))),
        (false, false) => Ok(args.users.iter().map(|word| host::owner(word)).collect()),
        (true, true) => host::everybody(driver),
    }
}

/// The policies of the store.
pub fn retention(driver: &mut Local) -> Result<Retention, Trouble> {
    Ok(host::run(driver, |io| async move { compact::retention(&io).await })?)
}

fn settings(args: &Compact, threads: usize, policy: Policy) -> Result<Settings, Trouble> {
    let archive = archive_settings(args.level, threads);
    Ok(Settings {
        if_needed: args.if_needed,
        floor: args.floor.unwrap_or(Settings::FLOOR).min(100),
        rise: args.rise.unwrap_or(Settings::RISE),
        dry_run: args.dry_run,
        check: !args.no_check,
        ..Settings::when_needed(archive, self::policy(args)?.unwrap_or(policy))
    })
}

/// How archives are written anew.
pub fn archive_settings(level: Option<u8>, threads: usize) -> append::Settings {
    append::Settings {
        level: level.unwrap_or(LEVEL).min(12),
        check: true,
        ahead: threads + 1,
        checkpoint_bytes: append::Settings::CHECKPOINT_BYTES,
        software: String::from(super::version::SOFTWARE),
    }
}

/// The policy that the options give; the store's without any.
fn policy(args: &Compact) -> Result<Option<Policy>, Trouble> {
    let mut words = String::new();
    let mut add = |word: &str, value: Option<String>| {
        if let Some(value) = value {
            words += &format!("{word} {value} ");
        }
    };
    add("keep-within", args.keep_within.clone());
    for (word, value) in
        [("keep-daily", args.keep_daily), ("keep-weekly", args.keep_weekly), ("keep-monthly", args.keep_monthly)]
    {
        add(word, value.map(|n| n.to_string()));
    }
    if words.is_empty() {
        return Ok(None);
    }
    Policy::parse(&words).map(Some).map_err(Trouble::Usage)
}

/// Compacts one archive.
fn one(driver: &mut Local, owner: &Owner, settings: &Settings, progress: &mut Progress) -> Result<Outcome, Error> {
    let (who, dir) = (owner_shown(owner), archive_dir(owner)?);
    let procedure = |io: Io| async move { compact::run(&io, &dir, settings).await };
    let result = driver.run(Task::new(Local::now(), procedure), &mut |event| progress.on(&who, &event));
    match result {
        Err(Error::World { fault: Fault::NotFound, doing: "open", .. }) => {
            Err(Error::Refused(String::from("has no archive in this store; `cylinder users --store` lists who has")))
        }
        other => other,
    }
}

/// What the exit status says of it.
pub fn code(result: &Result<Outcome, Error>) -> Exit {
    match result {
        Ok(Outcome::Waits(Wait::Damage(_))) => Exit::Damage,
        Ok(Outcome::Waits(Wait::Alarm(_))) => Exit::Partial,
        // A hold is an order, and it is followed.
        Ok(_) => Exit::Ok,
        Err(error) => Exit::of(error),
    }
}

/// How much is told, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verbosity {
    /// A JSON object, unless there was nothing to do and nobody has asked.
    Json {
        /// Somebody has asked.
        all: bool,
    },
    /// A line, likewise.
    Lines {
        /// Somebody has asked.
        all: bool,
    },
}

impl Verbosity {
    /// What the options say; `if_needed` if nobody has asked for a compaction.
    pub fn of(json: bool, quiet: bool, if_needed: bool) -> Verbosity {
        if json { Verbosity::Json { all: !if_needed } } else { Verbosity::Lines { all: !quiet && !if_needed } }
    }
}

/// Tells what came of it.
pub fn tell(who: &str, result: &Result<Outcome, Error>, how: Verbosity) -> Result<(), OutputError> {
    let is_news = matches!(result, Ok(Outcome::Done(..) | Outcome::Waits(_)) | Err(_));
    match how {
        Verbosity::Json { all } if all || is_news => output::json(&to_json(who, result)),
        Verbosity::Lines { all } if all || is_news => {
            for note in plan(result).map_or(&[][..], |plan| &plan.notes) {
                output::complain!("cylinder: {who}: {note}");
            }
            match text(result) {
                Ok(text) => output::line(&format!("{who}: {text}")),
                Err(text) => {
                    output::complain!("cylinder: {who}: {text}");
                    Ok(())
                }
            }
        }
        _ => Ok(()),
    }
}

fn plan(result: &Result<Outcome, Error>) -> Option<&Plan> {
    match result {
        Ok(Outcome::NotDue(plan) | Outcome::Nothing(plan) | Outcome::Would(plan) | Outcome::Done(plan, _)) => Some(plan),
        Ok(Outcome::LookedAt | Outcome::Waits(_)) | Err(_) => None,
    }
}

/// For people; `Err` if it is trouble.
fn text(result: &Result<Outcome, Error>) -> Result<String, String> {
    let snapshots = |plan: &Plan| {
        let dropped = count(plan.snapshots_dropped, "snapshot");
        format!("{} of {}, {dropped} of {}", count(plan.messages_dropped, "message"), plan.messages, plan.snapshots)
    };
    match result {
        Ok(Outcome::LookedAt) => Ok(String::from("was looked at less than a week ago")),
        Ok(Outcome::Nothing(_)) => Ok(String::from("nothing to drop")),
        Ok(Outcome::NotDue(plan)) => {
            Ok(format!("{}% of the content is alive, {}% must be: nothing to do yet", plan.live_percent(), plan.threshold))
        }
        Ok(Outcome::Would(plan)) => {
            Ok(format!("would drop {}, about {} of {}", snapshots(plan), size(plan.bytes_dropped), size(plan.bytes)))
        }
        Ok(Outcome::Done(plan, filtered)) => {
            Ok(format!("dropped {}, {} are now {}", snapshots(plan), size(plan.bytes), size(filtered.bytes)))
        }
        Ok(Outcome::Waits(Wait::Hold(since))) => {
            Ok(format!("nothing is dropped: on hold since {}; `cylinder hold` lifts it", output::time(*since)))
        }
        Ok(Outcome::Waits(Wait::Alarm(alarm))) => {
            Err(format!("nothing is dropped while an alarm stands: {}; `cylinder acknowledge` ends it", alarm::short(alarm)))
        }
        Ok(Outcome::Waits(Wait::Damage(damage))) => {
            Err(format!("nothing is dropped over damage; `cylinder verify` tells all: {damage}"))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn to_json(who: &str, result: &Result<Outcome, Error>) -> Value {
    let word = match result {
        Ok(Outcome::LookedAt) => "looked-at",
        Ok(Outcome::Waits(_)) => "waits",
        Ok(Outcome::NotDue(_)) => "not-due",
        Ok(Outcome::Nothing(_)) => "nothing",
        Ok(Outcome::Would(_)) => "would",
        Ok(Outcome::Done(..)) => "done",
        Err(_) => "failed",
    };
    let mut out = json!({ "event": "compaction", "user": who, "outcome": word, "exit": code(result) as u8 });
    let mut put = |key: &str, value: Value| drop(out.as_object_mut().map(|map| map.insert(key.to_owned(), value)));
    if let Some(p) = plan(result) {
        put("snapshots", json!(p.snapshots));
        put("snapshots_dropped", json!(p.snapshots_dropped));
        put("messages", json!(p.messages));
        put("messages_dropped", json!(p.messages_dropped));
        put("content_bytes", json!(p.raw));
        put("content_bytes_dropped", json!(p.raw_dropped));
        put("bytes", json!(p.bytes));
        put("bytes_dropped", json!(p.bytes_dropped));
        put("live_percent", json!(p.live_percent()));
        put("threshold_percent", json!(p.threshold));
        put("notes", json!(p.notes));
    }
    match result {
        Ok(Outcome::Done(p, Filtered { bytes, members_copied, members_filtered, members_dropped, head, .. })) => {
            put("bytes_dropped", json!(p.bytes.saturating_sub(*bytes)));
            put("bytes_after", json!(bytes));
            put("members_copied", json!(members_copied));
            put("members_filtered", json!(members_filtered));
            put("members_dropped", json!(members_dropped));
            put("chain", json!(head.to_hex()));
        }
        Ok(Outcome::Waits(wait)) => {
            let kind = match wait {
                Wait::Alarm(_) => "alarm",
                Wait::Hold(_) => "hold",
                Wait::Damage(_) => "damage",
            };
            put("waits_for", json!(kind));
            put("what", json!(text(result).unwrap_or_else(|text| text)));
        }
        Err(error) => put("error", json!(error.to_string())),
        Ok(_) => {}
    }
    out
}
