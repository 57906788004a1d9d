//! `cylinder list`

use super::archive::{at, with_reader};
use crate::args::List;
use crate::exit::Exit;
use crate::headers::{self, Top};
use crate::host::{self, Outcome, Trouble};
use crate::output::{self, size};
use cylinder_core::archive::read::{CommitAt, Reader};
use cylinder_core::archive::record::FolderRow;
use cylinder_core::cyrus::utf7;
use cylinder_core::error::Error;
use cylinder_core::escape::{Shown, shown};
use cylinder_core::guid::Guid;
use cylinder_core::lacking;
use cylinder_core::restore::absent;
use cylinder_core::view::{self, FolderView, Locations, MessageRow, When};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Lists the folders of a user, or the messages of one.
pub fn run(args: &List) -> Outcome {
    if args.deleted {
        return super::deleted::run(args);
    }
    let when = at(&args.at)?;
    match &args.folder {
        None => folders(args, when),
        Some(folder) => messages(args, when, folder.as_bytes()),
    }
}

fn folders(args: &List, when: When) -> Outcome {
    let (at, table, lacking) = with_reader(&args.store, &args.user, async |_, reader| {
        let at = view::snapshot(reader, when).await?;
        let table = reader.table(&at).await?;
        let lacking = lacking::read(reader, &table).await?;
        Ok((at, table, lacking))
    })?;
    let gone = absent::gone_since(&host::owner(&args.user), &at, &table);
    if !args.json {
        heading(&at)?;
        if let Some(since) = gone {
            let since = output::time(since);
            output::line(&format!(
                "the server has had no mailbox of this user since {since}; these are the folders of before"
            ))?;
        }
    }
    for row in &table.folders {
        if args.json {
            let mut told = folder_json(&at, row);
            if let (Some(since), Some(map)) = (gone, told.as_object_mut()) {
                map.insert(String::from("gone"), json!(output::rfc3339(since)));
            }
            output::json(&told)?;
        } else {
            let expunged = if row.expunged > 0 { format!(" (+{} expunged)", row.expunged) } else { String::new() };
            let missing = if row.missing.is_empty() { String::new() } else { format!("  {} MISSING", row.missing.len()) };
            output::line(&format!(
                "{:>8}{expunged:<16} {:>8}  {}{missing}",
                row.exists,
                size(row.bytes),
                name_shown(&row.name)
            ))?;
        }
    }
    for one in lacking {
        if args.json {
            output::json(&json!({
                "snapshot": at.commit.number, "folder": one.what, "name": decoded(&one.folder), "lacking": one.word,
                "why": one.why, "next": one.next,
            }))?;
        } else {
            output::line(&format!(" LACKING  {}: {}; {}", name_shown(&one.folder), one.why, one.next))?;
        }
    }
    Ok(Exit::Ok)
}

fn heading(at: &CommitAt) -> Result<(), Trouble> {
    let c = &at.commit;
    output::line(&format!("snapshot {} of {}, Cyrus {}", c.number, output::time(c.time), Shown(c.cyrus.as_bytes())))?;
    Ok(())
}

fn folder_json(at: &CommitAt, row: &FolderRow) -> Value {
    json!({
        "snapshot": at.commit.number, "folder": shown(&row.name), "name": decoded(&row.name), "uniqueid": shown(&row.id),
        "uidvalidity": row.uidvalidity, "highestmodseq": row.modseq, "index_version": row.version,
        "exists": row.exists, "expunged": row.expunged, "bytes": row.bytes,
        "missing": row.missing.iter().map(|m| json!({
            "uid": m.uid, "guid": m.guid.map(|g| g.to_hex()), "why": m.why.word(), "found": m.found.map(|g| g.to_hex()),
        })).collect::<Vec<_>>(),
    })
}

/// A folder name with its modified UTF-7 decoded, where it is any.
fn decoded(name: &[u8]) -> String {
    utf7::decode(name)
}

fn name_shown(name: &[u8]) -> String {
    let (raw, text) = (shown(name), shown(decoded(name).as_bytes()));
    if raw == text { raw } else { format!("{raw}  ({text})") }
}

fn messages(args: &List, when: When, folder: &[u8]) -> Outcome {
    let owner = host::owner(&args.user);
    let (view, others, tops, found) = with_reader(&args.store, &args.user, async |_, reader| {
        let at = view::snapshot(reader, when).await?;
        let table = reader.table(&at).await?;
        let row = absent::folder(reader, &owner, &at, &table, folder).await?;
        let mut view = view::folder(reader, row).await?;
        let locations = Locations::load(reader).await?;
        view.problems.extend(locations.damage.iter().cloned().map(Error::from));
        let others = others(row, &locations);
        let (tops, found) = read_tops(reader, &view, &others, &locations, args.expunged).await?;
        Ok((view, others, tops, found))
    })?;
    let mut exit = Exit::Ok;
    for m in view.messages.iter().filter(|m| is_listed(m, args.expunged)) {
        let other = others.get(&m.record.uid.0);
        let top = tops.get(other.unwrap_or(&m.guid)).cloned().unwrap_or_default();
        let stored = found.contains_key(&m.guid) && other.is_none();
        if args.json {
            let mut json = message_json(m, &top, stored);
            json["found"] = other.map(Guid::to_hex).into();
            output::json(&json)?;
        } else if let Some(other) = other {
            output::line(&format!("{}  OTHER CONTENT: {other}", message_line(m, &top, true)))?;
        } else {
            output::line(&message_line(m, &top, stored))?;
        }
        if top.error.is_some() {
            exit = Exit::Damage;
        }
    }
    for problem in &view.problems {
        output::complain!("cylinder: {}: {problem}", shown(folder));
        exit = Exit::Damage;
    }
    Ok(exit)
}

/// What was found in place of messages, by UID.
fn others(row: &FolderRow, locations: &Locations) -> BTreeMap<u32, Guid> {
    let found = row.missing.iter().filter_map(|missing| Some((missing.uid, missing.found?)));
    found.filter(|(_, guid)| locations.find(guid).is_some()).collect()
}

fn is_listed(m: &MessageRow, expunged: bool) -> bool {
    !m.is_unlinked && (expunged || !m.is_expunged)
}

type Found = BTreeMap<Guid, u64>;

async fn read_tops(
    reader: &Reader,
    view: &FolderView,
    others: &BTreeMap<u32, Guid>,
    locations: &Locations,
    expunged: bool,
) -> Result<(BTreeMap<Guid, Top>, Found), Error> {
    let listed = view.messages.iter().filter(|m| is_listed(m, expunged));
    let mut wanted: Vec<_> = listed.filter_map(|m| locations.find(others.get(&m.record.uid.0).unwrap_or(&m.guid))).collect();
    wanted.sort();
    wanted.dedup();
    let found = wanted.iter().map(|m| (m.guid, m.size)).collect();
    let mut tops = BTreeMap::new();
    headers::read(reader, wanted, 0, &mut |m, header| {
        tops.insert(m.guid, Top::of(header));
    })
    .await?;
    Ok((tops, found))
}

/// What `list` says of a message, as JSON.
pub fn message_json(m: &MessageRow, top: &Top, stored: bool) -> Value {
    let flags: Vec<String> = m.flags.iter().map(|f| String::from_utf8_lossy(f).into_owned()).collect();
    json!({
        "uid": m.record.uid.0, "flags": flags, "internaldate": output::rfc3339(m.record.internaldate), "size": m.record.size,
        "guid": m.guid.to_hex(), "modseq": m.record.modseq, "expunged": m.is_expunged, "stored": stored,
        "subject": top.subject, "from": top.from, "error": top.error,
    })
}

/// What `list` says of a message, as a line.
pub fn message_line(m: &MessageRow, top: &Top, stored: bool) -> String {
    // The backslash of a system flag is the protocol's own, not somebody's trick.
    let one = |f: &Vec<u8>| match f.strip_prefix(b"\\") {
        Some(rest) => format!("\\{}", Shown(rest)),
        None => shown(f),
    };
    let flags: Vec<String> = m.flags.iter().map(one).collect();
    let mut flags = flags.join(" ");
    if m.is_expunged {
        flags.push_str(" (expunged)");
    }
    let (from, subject) = (shown(top.from.as_bytes()), shown(top.subject.as_bytes()));
    let mark = match (&top.error, stored) {
        (Some(error), _) => format!("  DAMAGED: {error}"),
        (None, false) => String::from("  NOT STORED"),
        (None, true) => String::new(),
    };
    let date = output::time(m.record.internaldate);
    format!("{:>7}  {date}  {:>9}  {}  [{}]  {from}: {subject}{mark}", m.record.uid.0, m.record.size, m.guid, flags.trim())
}
