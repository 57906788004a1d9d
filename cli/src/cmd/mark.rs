//! `cylinder acknowledge` and `cylinder hold`: what somebody decides about an archive is written down in it.

use super::version::SOFTWARE;
use crate::alarm;
use crate::args::{Acknowledge, Hold};
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble, owner_shown};
use crate::output::{self, OutputError};
use cylinder_core::archive::append::{Mark, Settings, Writer};
use cylinder_core::archive::record::Commit;
use cylinder_core::archive::standing::Standing;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::store::archive_dir;
use cylinder_transport_local::Local;
use serde_json::json;

/// Acknowledges alarms.
pub fn acknowledge(args: &Acknowledge) -> Outcome {
    if args.users.is_empty() != args.all {
        return Err(Trouble::Usage(String::from("whose alarms? name users, or give --all")));
    }
    let store = host::store(&args.store)?;
    let mut driver = host::store_driver(&store, 0);
    let owners =
        if args.all { host::everybody(&mut driver)? } else { args.users.iter().map(|word| host::owner(word)).collect() };
    let mut codes = Vec::new();
    for owner in owners {
        let who = owner_shown(&owner);
        let has_alarm = |commit: &Commit| (!commit.standing.alarms.is_empty()).then_some(Mark::Acknowledge);
        let result = mark(&mut driver, &owner, has_alarm);
        codes.push(result.as_ref().map_or_else(Exit::of, |_| Exit::Ok));
        match result {
            Ok((before, _)) if args.all && before.standing.alarms.is_empty() => {}
            Ok((before, _)) if args.json => output::json(&json!({
                "user": who, "acknowledged": before.standing.alarms.iter().map(alarm::json).collect::<Vec<_>>(),
            }))?,
            Ok((before, _)) if before.standing.alarms.is_empty() => output::line(&format!("{who}: there is no alarm"))?,
            Ok((before, _)) => acknowledged(&who, &before.standing)?,
            Err(error) if args.json => output::json(&json!({ "user": who, "error": error.to_string() }))?,
            Err(error) => output::complain!("cylinder: {who}: {error}"),
        }
    }
    Ok(Exit::of_all(codes))
}

fn acknowledged(who: &str, standing: &Standing) -> Result<(), OutputError> {
    for alarm in &standing.alarms {
        output::line(&format!("{who}: acknowledged: {}", alarm::short(alarm)))?;
    }
    match standing.gone {
        Some(since) => output::line(&format!(
            "{who}: gone from the server since {}; runs pass over this user without an alarm, and the archive stays",
            output::time(since)
        )),
        None => Ok(()),
    }
}

/// Sets or lifts a hold, or tells whether there is one.
pub fn hold(args: &Hold) -> Outcome {
    let order = match args.order.as_deref() {
        None => None,
        Some("on") => Some(Mark::Hold),
        Some("off") => Some(Mark::Release),
        Some(other) => return Err(Trouble::Usage(format!("`{other}` is neither on nor off"))),
    };
    let store = host::store(&args.store)?;
    let mut driver = host::store_driver(&store, 0);
    let (_, now) = mark(&mut driver, &host::owner(&args.user), |commit| match (&order, commit.hold) {
        (Some(Mark::Hold), None) => Some(Mark::Hold),
        (Some(Mark::Release), Some(_)) => Some(Mark::Release),
        _ => None,
    })?;
    let who = owner_shown(&host::owner(&args.user));
    if args.json {
        output::json(&json!({ "user": who, "hold": now.hold.is_some(), "since": now.hold.map(output::rfc3339) }))?;
    } else {
        output::line(&match now.hold {
            Some(since) => format!("{who}: on hold since {}: nothing is dropped", output::time(since)),
            None => format!("{who}: no hold"),
        })?;
    }
    Ok(Exit::Ok)
}

/// Writes the mark down that `which` makes of the newest commit, if it makes one. The newest commit before and after.
fn mark(driver: &mut Local, owner: &Owner, which: impl Fn(&Commit) -> Option<Mark>) -> Result<(Commit, Commit), Error> {
    let settings = settings();
    let dir = archive_dir(owner)?;
    host::run(driver, |io| async move {
        let reader = super::archive::open_to_write(&io, owner, &dir).await?;
        let before = reader.head().commit.clone();
        if which(&before).is_none() {
            reader.close().await;
            return Ok((before.clone(), before));
        }
        let mut writer = Writer::from_reader(reader, &settings).await?;
        // Somebody may have written in between.
        let before = writer.head().commit.clone();
        let result = match which(&before) {
            Some(mark) => writer.mark(mark, io.now()).await.map(|after| after.commit),
            None => Ok(before.clone()),
        };
        writer.close().await;
        result.map(|after| (before, after))
    })
}

fn settings() -> Settings {
    Settings { level: 1, check: true, ahead: 1, checkpoint_bytes: Settings::CHECKPOINT_BYTES, software: String::from(SOFTWARE) }
}
