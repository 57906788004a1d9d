//! `cylinder list --deleted`

use super::archive::with_reader;
use super::list::{message_json, message_line};
use crate::args::List;
use crate::exit::Exit;
use crate::headers::{self, Top};
use crate::host::{self, Outcome, Trouble, owner_shown};
use crate::output::{self, OutputError, count};
use cylinder_core::archive::read::Reader;
use cylinder_core::compact;
use cylinder_core::error::Error;
use cylinder_core::escape::shown;
use cylinder_core::guid::Guid;
use cylinder_core::io::Io;
use cylinder_core::lost::{Lost, Message, Report, Until, lost};
use cylinder_core::view::Locations;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What was lost, and the headers of messages that are stored.
type Found = (Report, BTreeMap<Guid, Top>);

/// Lists what a user has lost, and until when it can be had.
pub fn run(args: &List) -> Outcome {
    if args.at.is_some() {
        return Err(Trouble::Usage(String::from("--deleted is what all snapshots have: give no --at beside it")));
    }
    let (report, tops) = with_reader(&args.store, &args.user, async |io, reader| find(args, io, reader).await)?;
    if args.json {
        report.folders.iter().try_for_each(|lost| output::json(&named("folder", lost)))?;
        report.messages.iter().try_for_each(|lost| output::json(&to_json(lost, &tops)))?;
        report.files.iter().try_for_each(|lost| output::json(&named("file", lost)))?;
    } else {
        tell(&report, &tops)?;
    }
    for problem in &report.problems {
        output::complain!("cylinder: {}: {problem}", args.user);
    }
    Ok(if report.problems.is_empty() { Exit::Ok } else { Exit::Partial })
}

async fn find(args: &List, io: &Io, reader: &Reader) -> Result<Found, Error> {
    let retention = compact::retention(io).await?;
    let policy = retention.policy(owner_shown(&host::owner(&args.user)).as_bytes());
    let mut report = lost(reader, &policy).await?;
    if let Some(folder) = &args.folder {
        let is_meant = |name: &[u8]| name == folder.as_bytes() || shown(name) == *folder;
        report.messages.retain(|lost| is_meant(&lost.what.folder));
        report.folders.retain(|lost| is_meant(&lost.what));
        report.files.clear();
    }
    let locations = Locations::load(reader).await?;
    let mut wanted: Vec<_> = report.messages.iter().filter_map(|lost| locations.find(&lost.what.row.guid)).collect();
    wanted.sort();
    wanted.dedup();
    let mut tops = BTreeMap::new();
    headers::read(reader, wanted, 0, &mut |m, header| {
        tops.insert(m.guid, Top::of(header));
    })
    .await?;
    Ok((report, tops))
}

fn tell(report: &Report, tops: &BTreeMap<Guid, Top>) -> Result<(), OutputError> {
    for lost in &report.folders {
        output::line(&format!("folder {}: in snapshot {}, {}", shown(&lost.what), lost.snapshot, until(lost.until)))?;
    }
    for those in report.messages.chunk_by(|a, b| a.what.folder == b.what.folder) {
        let what = count(those.len() as u64, "message");
        output::line(&format!("{}: {what}", shown(&those[0].what.folder)))?;
        for lost in those {
            let row = &lost.what.row;
            let (top, stored) = (tops.get(&row.guid).cloned().unwrap_or_default(), tops.contains_key(&row.guid));
            let line = message_line(row, &top, stored);
            output::line(&format!("{line}  <- snapshot {}, {}", lost.snapshot, until(lost.until)))?;
        }
    }
    report.files.iter().try_for_each(|lost| {
        output::line(&format!("file {}: in snapshot {}, {}", shown(&lost.what), lost.snapshot, until(lost.until)))
    })
}

fn until(until: Until) -> String {
    match until {
        Until::Time(time) => format!("until {}", output::time(time)),
        Until::Newest => String::from("while the server has it"),
        Until::Ever => String::from("for ever"),
    }
}

fn named(kind: &str, lost: &Lost<Vec<u8>>) -> Value {
    let mut value = fate(kind, lost);
    value["name"] = shown(&lost.what).into();
    value
}

fn to_json(lost: &Lost<Message>, tops: &BTreeMap<Guid, Top>) -> Value {
    let row = &lost.what.row;
    let (top, stored) = (tops.get(&row.guid).cloned().unwrap_or_default(), tops.contains_key(&row.guid));
    let (mut value, message) = (fate("message", lost), message_json(row, &top, stored));
    value["folder"] = shown(&lost.what.folder).into();
    if let (Some(value), Value::Object(message)) = (value.as_object_mut(), message) {
        value.extend(message);
    }
    value
}

fn fate<T>(kind: &str, lost: &Lost<T>) -> Value {
    let until = match lost.until {
        Until::Time(time) => output::rfc3339(time).into(),
        Until::Newest | Until::Ever => Value::Null,
    };
    json!({ "deleted": kind, "snapshot": lost.snapshot, "until": until, "for_ever": lost.until == Until::Ever })
}
