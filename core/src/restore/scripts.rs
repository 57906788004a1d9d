//! Sieve scripts as Cyrus 3.6 and later keeps them: messages of the mailbox `#sieve`, and a table of `dav.db` that tells of
//! them. ManageSieve lists and changes what the table has; the compiled files beside it are what runs.
//!
//! The table is the same in all releases (3.6.1 to 3.12.4 were looked at), and a server that opens a file with it and without
//! `user_version` adds the other tables. What must not come in: where files go.

use super::bodies::Bodies;
use super::fields;
use super::select::Folder;
use crate::archive::read::Reader;
use crate::archive::record::MessageAt;
use crate::cyrus::index::flag;
use crate::cyrus::sqlite::{self, Table, Value};
use crate::error::Error;
use crate::escape::shown;
use crate::guid::Guid;
use crate::io::Io;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The longest script that is read. Servers take 32 KiB unless they are told otherwise.
const SCRIPT_MAX: u64 = 8 << 20;

const SQL: &str = "CREATE TABLE sieve_scripts ( rowid INTEGER PRIMARY KEY, creationdate INTEGER, lastupdated INTEGER, \
    mailbox TEXT NOT NULL, imap_uid INTEGER, modseq INTEGER, createdmodseq INTEGER, id TEXT NOT NULL, name TEXT NOT NULL, \
    contentid TEXT NOT NULL, isactive INTEGER, alive INTEGER, UNIQUE( mailbox, imap_uid ), UNIQUE( id ) )";

/// A script.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Script {
    uid: u32,
    /// What the server knows it by.
    id: Vec<u8>,
    /// What the user calls it.
    name: Vec<u8>,
    /// SHA-1 of its text.
    content: Guid,
    date: i64,
    modseq: u64,
    createdmodseq: u64,
    is_active: bool,
}

/// The scripts of a mailbox `#sieve`. An error if one of them cannot be read, for the table would lack it.
pub(super) async fn scripts(io: &Io, reader: &Reader, folder: &Folder, ahead: usize) -> Result<Vec<Script>, Error> {
    let mut at: BTreeMap<MessageAt, Vec<usize>> = BTreeMap::new();
    for (n, m) in folder.messages.iter().enumerate().filter(|(_, m)| !m.row.is_expunged && !m.row.is_unlinked) {
        let place = m.body.at().ok_or_else(|| bad(folder, m.uid(), "is not in the archive"))?;
        at.entry(place).or_default().push(n);
    }
    let mut found: BTreeMap<Vec<u8>, Script> = BTreeMap::new();
    let mut bodies = Bodies::new(io, reader, at.keys().copied().collect(), ahead);
    let mut content = Vec::new();
    while let Some((place, result)) = bodies.next_whole(SCRIPT_MAX, &mut content).await? {
        result?;
        for m in at.get(&place).into_iter().flatten().filter_map(|n| folder.messages.get(*n)) {
            let record = &m.row.record;
            let (id, name) = names(&content).ok_or_else(|| bad(folder, m.uid(), "has no name of a script in its header"))?;
            let script = Script {
                uid: m.uid(),
                name,
                content: Guid::of(&content[fields::header_len(&content)..]),
                date: record.internaldate.secs(),
                modseq: record.modseq.unwrap_or(1),
                createdmodseq: record.createdmodseq,
                is_active: record.system_flags & flag::FLAGGED != 0,
                id: id.clone(),
            };
            // The newest counts, as on the server.
            if found.get(&id).is_none_or(|known| known.uid < script.uid) {
                found.insert(id, script);
            }
        }
    }
    Ok(found.into_values().collect())
}

fn bad(folder: &Folder, uid: u32, why: &str) -> Error {
    Error::Refused(format!("script {}/{uid} {why}", shown(&folder.name)))
}

/// The id and the name of the script in this message.
fn names(message: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let disposition = fields::field(message, "Content-Disposition")?;
    let disposition = String::from_utf8(disposition).ok()?;
    let (_, file) = disposition.split_once("filename=")?;
    let id = file.trim_matches(|c: char| c == '"' || c.is_whitespace()).strip_suffix(".sieve").or_else(|| {
        let quoted = file.strip_prefix('"')?.split('"').next()?;
        quoted.strip_suffix(".sieve")
    })?;
    // Up to 3.12 the name is the field as it stands.
    let name = fields::field(message, "Subject")?;
    (!id.is_empty() && !name.is_empty() && core::str::from_utf8(&name).is_ok()).then(|| (id.as_bytes().to_vec(), name))
}

/// `dav.db` with these scripts of the mailbox `id`.
pub(super) fn database(scripts: &[Script], id: &[u8]) -> Result<Vec<u8>, Error> {
    let number = |n: u64| Value::Integer(i64::try_from(n).unwrap_or(i64::MAX));
    let rows: Vec<Vec<Value>> = scripts
        .iter()
        .map(|script| {
            let date = || Value::Integer(script.date);
            Vec::from([
                Value::Null,
                date(),
                date(),
                Value::Text(id.to_vec()),
                Value::Integer(script.uid.into()),
                number(script.modseq),
                number(script.createdmodseq),
                Value::Text(script.id.clone()),
                Value::Text(script.name.clone()),
                Value::Text(script.content.to_hex().into_bytes()),
                Value::Integer(script.is_active.into()),
                Value::Integer(1),
            ])
        })
        .collect();
    sqlite::emit(&Table { name: "sieve_scripts", sql: SQL, unique: &[&[3, 4], &[7]], rows: &rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_known_by_its_file_and_called_by_its_subject() {
        let message = b"From: <anna@lab.example.org>\r\nSubject: main\r\nContent-Type: application/sieve; charset=utf-8\r\n\
            Content-Disposition: attachment;\r\n\tfilename=\"1b2c-3d.sieve\"\r\n\r\nkeep;\r\n";
        assert_eq!(names(message), Some((b"1b2c-3d".to_vec(), b"main".to_vec())));
        assert_eq!(names(b"Subject: main\r\n\r\nkeep;\r\n"), None);
        assert_eq!(names(b"Subject: main\r\nContent-Disposition: attachment; filename=\".sieve\"\r\n\r\n"), None);
    }
}
