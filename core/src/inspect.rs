//! Any file of Cyrus, told by its content and its name, printed for people: what it says, and what in it is damaged.
//!
//! Lines that begin with `damaged: ` are the findings. What must not come in: opening files, and the archive (`view`).

use crate::cyrus::db::pages::Pages;
use crate::cyrus::db::{self, Db, Order, Trouble};
use crate::cyrus::{annotations, header, index, mailboxes, quota, seen, subs};
use crate::escape::Shown;
use alloc::string::String;
use core::fmt::{self, Write};

/// The beginning of every Cyrus file that has a magic number.
const MAGIC: &[u8] = b"\xA1\x02\x8B\x0D";

/// What a file was taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileType {
    /// cyrus.index, or cyrus.expunge of Cyrus 2.3.
    Index,
    /// cyrus.header.
    Header,
    /// A database with these records.
    Database(Records),
    /// The file of a quota root.
    Quota,
    /// Nothing that is known.
    Unknown,
}

/// What the records of a database are, told by its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Records {
    /// mailboxes.db
    Mailboxes,
    /// annotations.db, cyrus.annotations
    Annotations,
    /// A seen database.
    Seen,
    /// Subscriptions.
    Subscriptions,
    /// Something else, shown as it is.
    Other,
}

impl FileType {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            FileType::Index => "cyrus.index",
            FileType::Header => "cyrus.header",
            FileType::Database(Records::Mailboxes) => "mailboxes database",
            FileType::Database(Records::Annotations) => "annotations database",
            FileType::Database(Records::Seen) => "seen database",
            FileType::Database(Records::Subscriptions) => "subscription database",
            FileType::Database(Records::Other) => "database",
            FileType::Quota => "quota root",
            FileType::Unknown => "unknown",
        }
    }
}

/// Tells what a file is. `name` is its name without directories.
pub fn detect(name: &[u8], bytes: &[u8]) -> FileType {
    if bytes.starts_with(header::MAGIC.get(..24).unwrap_or(header::MAGIC)) {
        return FileType::Header;
    }
    if bytes.starts_with(MAGIC) {
        return FileType::Database(records(name));
    }
    let named = |part: &[u8]| name.windows(part.len()).any(|w| w == part);
    if index::peek(bytes).is_ok() || named(b"cyrus.index") || named(b"cyrus.expunge") {
        return FileType::Index;
    }
    if named(b"cyrus.header") {
        return FileType::Header;
    }
    match records(name) {
        Records::Other if quota::parse(bytes).is_ok() => FileType::Quota,
        // Flat databases have no magic number: only the name tells.
        Records::Other => FileType::Unknown,
        records => FileType::Database(records),
    }
}

fn records(name: &[u8]) -> Records {
    let named = |part: &str| name.windows(part.len()).any(|w| w == part.as_bytes());
    if named("mailboxes") {
        Records::Mailboxes
    } else if named("annotations") {
        Records::Annotations
    } else if name.ends_with(b".seen") || name.starts_with(b"seen") {
        Records::Seen
    } else if name.ends_with(b".sub") || name.starts_with(b"sub") {
        Records::Subscriptions
    } else {
        Records::Other
    }
}

/// Prints a file that is in memory, and returns how many findings of damage it printed.
///
/// An error is one of `out`.
pub fn inspect(name: &[u8], bytes: &[u8], out: &mut dyn Write) -> Result<u64, fmt::Error> {
    let kind = detect(name, bytes);
    let mut out = Counter { out, at_start: true, held: String::new(), damaged: 0 };
    writeln!(out, "file: {}", kind.name())?;
    match kind {
        FileType::Header => header::describe(bytes, &mut out)?,
        FileType::Index if name.windows(7).any(|w| w == b"expunge") => match index::Index::parse_expunge(bytes) {
            Ok(parsed) => index::describe_index(&parsed, &mut out)?,
            Err(damage) => writeln!(out, "damaged: {damage}")?,
        },
        FileType::Index => index::describe(bytes, &mut out)?,
        FileType::Database(Records::Other) => db::describe(&String::from_utf8_lossy(name), &Pages::whole(bytes), &mut out)?,
        FileType::Database(records) => database(name, bytes, records, &mut out)?,
        FileType::Quota => {
            let mut text = String::new();
            quota::describe(bytes, &mut text);
            out.write_str(&text)?;
        }
        FileType::Unknown => {
            let start = &bytes[..bytes.len().min(16)];
            writeln!(out, "damaged: nothing that is known begins with `{}`", Shown(start))?;
        }
    }
    Ok(out.damaged)
}

/// Prints the records of a database, each as what it is.
fn database(name: &[u8], bytes: &[u8], records: Records, out: &mut dyn Write) -> fmt::Result {
    let pages = Pages::whole(bytes);
    let name = String::from_utf8_lossy(name);
    let db = match Db::open(&name, &pages) {
        Ok(db) => db,
        Err(trouble) => return finding(&trouble, out),
    };
    writeln!(out, "format: {}", db.kind().name())?;
    let order = order(&db, &pages);
    let mut version = subs::Version::Internal;
    let mut cursor = match db.seek(&pages, b"", order) {
        Ok(cursor) => cursor,
        Err(trouble) => return finding(&trouble, out),
    };
    loop {
        match db.next(&pages, &mut cursor) {
            Ok(None) => return Ok(()),
            Ok(Some((key, value))) => {
                if key == subs::VERSION_KEY
                    && let Ok(found) = subs::Version::of(Some(&value))
                {
                    version = found;
                }
                record(records, version, &key, &value, out)?;
            }
            Err(trouble) => return finding(&trouble, out),
        }
    }
}

/// The order in which the file stands: by bytes unless that fails on the way.
fn order(db: &Db, pages: &Pages) -> Order {
    let Ok(mut cursor) = db.seek(pages, b"", Order::Raw) else { return Order::Mbox };
    loop {
        match db.next(pages, &mut cursor) {
            Ok(Some(_)) => {}
            Ok(None) => return Order::Raw,
            Err(_) => return Order::Mbox,
        }
    }
}

fn record(records: Records, version: subs::Version, key: &[u8], value: &[u8], out: &mut dyn Write) -> fmt::Result {
    if records == Records::Subscriptions {
        return subs::describe(version, key, value, out);
    }
    writeln!(out, "\nkey: {}", Shown(key))?;
    let mut text = String::new();
    match records {
        Records::Mailboxes if key.starts_with(b"$") || key.starts_with(b"A") => {
            return writeln!(out, "value: {}", Shown(value));
        }
        Records::Mailboxes => mailboxes::describe_entry(value, &mut text),
        Records::Annotations => annotations::describe_value(value, &mut text),
        Records::Seen => return seen::describe(value, out),
        Records::Subscriptions | Records::Other => {}
    }
    out.write_str(&text)
}

fn finding(trouble: &Trouble, out: &mut dyn Write) -> fmt::Result {
    match trouble {
        Trouble::Damage(damage) => writeln!(out, "damaged: {damage}"),
        Trouble::Miss(_) => writeln!(out, "damaged: the file is shorter than it says"),
    }
}

/// Counts the lines that begin with `damaged: `.
struct Counter<'a> {
    out: &'a mut dyn Write,
    at_start: bool,
    /// The beginning of the line, until it can be told what it is.
    held: String,
    damaged: u64,
}

impl Write for Counter<'_> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for part in s.split_inclusive('\n') {
            if self.at_start {
                self.held.push_str(part.get(..part.len().min(9)).unwrap_or(part));
                if self.held.starts_with("damaged: ") {
                    self.damaged += 1;
                    self.at_start = false;
                } else if self.held.len() >= 9 {
                    self.at_start = false;
                }
            }
            if part.ends_with('\n') {
                self.at_start = true;
                self.held.clear();
            }
        }
        self.out.write_str(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_counted_whatever_the_pieces() {
        let mut text = String::new();
        let mut counter = Counter { out: &mut text, at_start: true, held: String::new(), damaged: 0 };
        for piece in ["dam", "aged: x", " damaged: \nundamaged: y\n", "damaged: z\n\nda", "maged"] {
            counter.write_str(piece).unwrap();
        }
        assert_eq!(counter.damaged, 2);
    }

    #[test]
    fn files_are_told_by_content_then_by_name() {
        assert_eq!(detect(b"x", b"\xA1\x02\x8B\x0Dskiplist file\0\0\0"), FileType::Database(Records::Other));
        assert_eq!(detect(b"mailboxes.db", b"user.anna\t0 default anna\tlrs\t\n"), FileType::Database(Records::Mailboxes));
        assert_eq!(detect(b"user.anna", b"%(S (5 100))\n"), FileType::Quota);
        assert_eq!(detect(b"cyrus.index", b""), FileType::Index);
        assert_eq!(detect(b"x", b"hello"), FileType::Unknown);
        let mut out = String::new();
        assert_eq!(inspect(b"x", b"\x1b[31m", &mut out), Ok(1));
        assert!(!out.contains('\x1b'));
    }
}
