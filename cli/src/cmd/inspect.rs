//! `cylinder inspect`

use crate::args::Inspect;
use crate::exit::Exit;
use crate::host::{Outcome, Trouble};
use crate::output::{self, OutputError, size};
use cylinder_core::archive::member::{self, FOOTER_LEN, Kind, MemberInfo, RAW_MAX};
use cylinder_core::codec::Portable;
use cylinder_core::error::Error;
use cylinder_core::inspect::{detect, inspect};
use serde_json::json;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The largest file that is read into memory: mailboxes.db of some millions of mailboxes.
const FILE_MAX: u64 = 4 << 30;
/// How far behind damage a member is searched for at once.
const SEARCH: usize = 1 << 20;

/// Prints a file of Cyrus, or the members of an archive.
pub fn run(args: &Inspect) -> Outcome {
    let path = Path::new(&args.file);
    let fail = |error: std::io::Error| Trouble::Core(Error::Refused(format!("{}: {error}", path.display())));
    let file = File::open(path).map_err(fail)?;
    let len = file.metadata().map_err(fail)?.len();
    let mut head = [0; FOOTER_LEN];
    let got = file.read_at(&mut head, 0).map_err(fail)?;
    if member::parse_header(&head[..got]).is_ok() {
        return archive(args, &file, len).map_err(|error| match error {
            Stop::Read(error) => fail(error),
            Stop::Output(error) => Trouble::Output(error),
        });
    }
    if len > FILE_MAX {
        return Err(Trouble::Core(Error::Limit { object: format!("{}: bytes", path.display()), limit: FILE_MAX, found: len }));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX).read_to_end(&mut bytes).map_err(fail)?;
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let mut printer = Printer { json: args.json, text: String::new(), error: None };
    let result = inspect(name, &bytes, &mut printer);
    if let Some(error) = printer.error {
        return Err(Trouble::Output(error));
    }
    // Only the printer can fail, and then it has said so.
    let damaged = result.unwrap_or_default();
    if args.json {
        let lines: Vec<&str> = printer.text.lines().collect();
        output::json(&json!({ "file": detect(name, &bytes).name(), "bytes": len, "damaged": damaged, "lines": lines }))?;
    }
    Ok(if damaged > 0 { Exit::Damage } else { Exit::Ok })
}

/// Writes text to standard output, or keeps it for JSON.
struct Printer {
    json: bool,
    text: String,
    error: Option<OutputError>,
}

impl fmt::Write for Printer {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        if self.json {
            self.text.push_str(s);
            return Ok(());
        }
        output::bytes(s.as_bytes()).map_err(|error| {
            self.error = Some(error);
            fmt::Error
        })
    }
}

enum Stop {
    Read(std::io::Error),
    Output(OutputError),
}

impl From<OutputError> for Stop {
    fn from(error: OutputError) -> Self {
        Stop::Output(error)
    }
}

/// Lists the members of an archive, checking each; commits and folder tables are printed.
fn archive(args: &Inspect, file: &File, len: u64) -> Result<Exit, Stop> {
    let (mut at, mut exit) = (0, Exit::Ok);
    while at < len {
        let head = read(file, at, FOOTER_LEN)?;
        let whole = match member::parse_header(&head) {
            Ok(info) => Some((info, read(file, at, info.len as usize)?)),
            Err(_) => None,
        };
        let Some((info, bytes)) = whole.filter(|(info, bytes)| bytes.len() == info.len as usize) else {
            let next = next_member(file, at + 1, len)?;
            exit = Exit::Damage;
            gap(args, at, next)?;
            at = next;
            continue;
        };
        let mut raw = Vec::new();
        let good = member::unseal(&mut Portable, &bytes, &mut raw).is_ok();
        if !good {
            exit = Exit::Damage;
        }
        one(args, at, &info, good, &raw)?;
        at += u64::from(info.len);
    }
    Ok(exit)
}

fn read(file: &File, at: u64, len: usize) -> Result<Vec<u8>, Stop> {
    let mut bytes = vec![0; len];
    let mut have = 0;
    while have < len {
        match file.read_at(&mut bytes[have..], at + have as u64).map_err(Stop::Read)? {
            0 => break,
            n => have += n,
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

fn next_member(file: &File, mut from: u64, len: u64) -> Result<u64, Stop> {
    while from < len {
        let bytes = read(file, from, SEARCH + RAW_MAX / 8)?;
        if let Some(found) = member::find_header(&bytes, 0) {
            return Ok(from + found as u64);
        }
        from += SEARCH as u64;
    }
    Ok(len)
}

fn gap(args: &Inspect, from: u64, to: u64) -> Result<(), OutputError> {
    if args.json {
        output::json(&json!({ "from": from, "to": to, "damaged": "no member begins here" }))
    } else {
        output::line(&format!("damaged: bytes {from} to {to}: no member begins here"))
    }
}

fn one(args: &Inspect, at: u64, info: &MemberInfo, good: bool, raw: &[u8]) -> Result<(), OutputError> {
    let kind = match info.kind {
        Kind::Head => "head",
        Kind::Data => "data",
        Kind::Meta => "meta",
        Kind::List => "list of messages",
        Kind::Table => "folder table",
        Kind::Commit => "commit",
        Kind::Footer => "footer",
    };
    let text =
        matches!(info.kind, Kind::Table | Kind::Commit).then(|| String::from_utf8_lossy(raw.get(512..).unwrap_or_default()));
    let text = text.as_ref().map(|t| t.trim_end_matches('\0'));
    if args.json {
        return output::json(&json!({
            "offset": at, "kind": kind, "flags": info.flags, "bytes": info.len, "content_bytes": info.raw_len, "good": good, "text": text,
        }));
    }
    let mark = if good { "" } else { "damaged: " };
    output::line(&format!(
        "{mark}{at:>12}  {kind}  {} of {}  flags {}",
        size(info.len.into()),
        size(info.raw_len.into()),
        info.flags
    ))?;
    for line in text.unwrap_or_default().lines() {
        output::line(&format!("              {}", cylinder_core::escape::shown(line.as_bytes())))?;
    }
    Ok(())
}
