//! Makes the spool of a user with very many small messages, as Cyrus 3.6 lays it out: `make-big-spool DIR USER FOLDERS MESSAGES`.
//!
//! A server takes hours for a million messages; what a backup reads of them takes a minute to write. DIR gets an `imapd.conf`,
//! `lib/mailboxes.db`, and below `spool` a directory with header, index and message files for each folder. No server need ever
//! run on it, and none has been asked whether it would. The same arguments give the same content.

use cylinder_core::crc32::crc32;
use cylinder_core::cyrus::conf::{Conf, VersionLine};
use cylinder_core::cyrus::db::{Entry, twoskip};
use cylinder_core::cyrus::index::{self, Record, Uid, flag};
use cylinder_core::cyrus::mailboxes::{self, MbEntry};
use cylinder_core::cyrus::paths::{MetaFile, Paths, Spot};
use cylinder_core::cyrus::{header, names::MailboxName};
use cylinder_core::guid::Guid;
use cylinder_core::time::Time;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// When everything was delivered: 2026-01-05 00:00 UTC.
const DELIVERED: i64 = 1_767_571_200;
const PARTITION: &[u8] = b"default";

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, user, folders, messages] = &args[..] else {
        return Err("usage: make-big-spool DIR USER FOLDERS MESSAGES".into());
    };
    let (folders, messages): (u32, u32) = (folders.parse()?, messages.parse()?);
    let dir = fs::canonicalize(fs::create_dir_all(dir).map(|()| dir)?)?;
    let conf = conf_text(&dir.display().to_string());
    fs::create_dir_all(dir.join("lib"))?;
    fs::create_dir_all(dir.join("lock"))?;
    fs::write(dir.join("imapd.conf"), &conf)?;
    let conf = Conf::from_text(conf.as_bytes(), VersionLine::V3_6)?;
    let paths = Paths::new(&conf)?;
    let inbox = paths.naming().inbox(user.as_bytes())?;
    let mut entries = Vec::new();
    for n in 0..folders {
        let share = messages / folders + u32::from(n < messages % folders);
        make_folder(&paths, user.as_bytes(), &inbox, n, share, &mut entries)?;
    }
    entries.sort();
    fs::write(path(&paths.mailboxes_db()?), twoskip::emit(&entries, 1))?;
    Ok(())
}

fn conf_text(dir: &str) -> String {
    format!(
        "configdirectory: {dir}/lib\npartition-default: {dir}/spool\ndefaultpartition: default\nmboxname_lockpath: {dir}/lock\n\
         sievedir: {dir}/sieve\nunixhierarchysep: yes\nadmins: cyrus\n"
    )
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Writes one folder and adds its two records of mailboxes.db.
fn make_folder(
    paths: &Paths<'_>,
    user: &[u8],
    inbox: &MailboxName,
    n: u32,
    messages: u32,
    entries: &mut Vec<Entry>,
) -> Result<(), Box<dyn Error>> {
    let id = format!("{n:024x}").into_bytes();
    let mut dbname = paths.naming().dbname(inbox);
    if n > 0 {
        dbname.extend_from_slice(format!("\x1fFolder {n:03}").as_bytes());
    }
    let acl = vec![(user.to_vec(), b"lrswipkxtecdan".to_vec())];
    let spot = Spot::Id(&id);
    fs::create_dir_all(path(&paths.data_dir(PARTITION, spot)?))?;
    let records = (1..=messages).map(|uid| make_message(paths, spot, n, uid)).collect::<Result<Vec<_>, _>>()?;
    let quotaroot = None;
    let name = paths.naming().parse_dbname(&dbname)?;
    let header = header::Header {
        quotaroot,
        uniqueid: id.clone(),
        acl: acl.clone(),
        name: Some(paths.naming().internal(&name)),
        mbtype: Some(Default::default()),
        form: header::Form::Dlist,
        ..Default::default()
    }
    .emit()?;
    fs::write(path(&paths.meta(PARTITION, spot, MetaFile::Header)?), &header)?;
    let mut out = BufWriter::new(fs::File::create(path(&paths.meta(PARTITION, spot, MetaFile::Index)?))?);
    out.write_all(&index::emit_index(&index_header(&records, &header), &records)?)?;
    out.flush()?;
    let entry = MbEntry {
        partition: Some(PARTITION.to_vec()),
        acl: Some(acl),
        uidvalidity: uidvalidity(),
        foldermodseq: 1,
        createdmodseq: 1,
        mtime: DELIVERED as u64,
        ..MbEntry::default()
    };
    add(entries, [b"N", &dbname[..]].concat(), &MbEntry { uniqueid: Some(id.clone()), ..entry.clone() });
    add(entries, [b"I", &id[..]].concat(), &MbEntry { dbname: Some(dbname), history: Some(Vec::new()), ..entry });
    Ok(())
}

fn add(entries: &mut Vec<Entry>, key: Vec<u8>, entry: &MbEntry) {
    let mut value = Vec::new();
    mailboxes::emit(entry, VersionLine::V3_6, &mut value);
    entries.push((key, value));
}

fn uidvalidity() -> u32 {
    DELIVERED as u32
}

fn index_header(records: &[Record], header_file: &[u8]) -> index::Header {
    index::Header {
        generation_no: 1,
        minor_version: 17,
        last_appenddate: Some(Time::from_secs(DELIVERED)),
        last_uid: records.len() as u32,
        quota_mailbox_used: records.iter().map(|r| r.size).sum(),
        uidvalidity: uidvalidity(),
        exists: records.len() as u32,
        highestmodseq: Some(records.len() as u64 + 1),
        deletedmodseq: Some(1),
        header_file_crc: crc32(header_file),
        sync_crc: index::sync_crc(&[], records),
        createdmodseq: Some(1),
        changes_epoch: Some(Time::from_secs(DELIVERED)),
        ..index::Header::default()
    }
}

fn make_message(paths: &Paths<'_>, spot: Spot<'_>, folder: u32, uid: u32) -> Result<Record, Box<dyn Error>> {
    let text = message(folder, uid);
    fs::write(path(&paths.message(PARTITION, spot, uid)?), &text)?;
    let delivered = Time::from_secs(DELIVERED + i64::from(uid));
    Ok(Record {
        uid: Uid(uid),
        internaldate: delivered,
        sentdate: Time::from_secs(DELIVERED),
        size: text.len() as u64,
        header_size: text.find("\r\n\r\n").map_or(0, |at| at as u32 + 4),
        gmtime: Some(delivered),
        last_updated: delivered,
        system_flags: flag::SEEN,
        savedate: Some(delivered),
        guid: Guid::of(text.as_bytes()),
        modseq: Some(u64::from(uid) + 1),
        createdmodseq: u64::from(uid) + 1,
        ..Record::default()
    })
}

const WORDS: [&str; 32] = [
    "please", "find", "the", "minutes", "of", "our", "meeting", "attached", "and", "reply", "before", "Friday", "server",
    "report", "was", "late", "order", "number", "has", "been", "sent", "to", "your", "address", "we", "will", "call", "again",
    "with", "more", "details", "thanks",
];

/// A short message that no other is equal to: 400 to 1200 bytes.
fn message(folder: u32, uid: u32) -> String {
    let mut random = u64::from(folder) << 32 | u64::from(uid) | 1 << 63;
    let mut next = move |below: u64| {
        // xorshift64
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut text = format!(
        "From: Someone <someone{}@example.org>\r\nTo: user@example.org\r\nSubject: {} {}\r\nMessage-ID: <{folder}.{uid}@example.org>\r\n\
         Date: Mon, 05 Jan 2026 00:00:00 +0000\r\n\r\n",
        next(500),
        WORDS[next(32) as usize],
        WORDS[next(32) as usize],
    );
    let words = 30 + next(120);
    for n in 1..=words {
        text.push_str(WORDS[next(32) as usize]);
        text.push_str(if n % 12 == 0 || n == words { "\r\n" } else { " " });
    }
    text
}
