//! What the simulated runs put into an archive, and how they do it.
//!
//! A story is a list of [`Batch`]es; each becomes one commit. No two batches have a message in common, so a commit can be
//! recognized by what it brought.

use crate::choose::Sampler;
use cylinder_core::archive::append::{Settings, Writer};
use cylinder_core::archive::record::{CommitFacts, FileRow, FolderRow, Table};
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Place, Tuple};
use cylinder_core::time::Time;
use std::cell::Cell;

/// The archive's directory.
pub const DIR: &str = "3b/anna";

/// What one commit brings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Messages. Every second of those over 64 KiB is appended in pieces.
    pub messages: Vec<Vec<u8>>,
    /// cyrus.index of the one folder; `None` makes a checkpoint.
    pub index: Option<Vec<u8>>,
    /// Stands in the commit's record.
    pub source: String,
}

/// The directory of the archive in the simulated store.
pub fn dir() -> Place {
    Place::store(DIR)
}

/// The archive itself.
pub fn archive() -> Place {
    dir().join(b"archive.tar.gz")
}

/// A message of about `size` bytes that does not deflate well.
pub fn mail(n: u64, size: usize) -> Vec<u8> {
    let mut text = format!("From: anna@example.org\r\nMessage-ID: <{n}@example.org>\r\n\r\n").into_bytes();
    let mut letters = Sampler::new(n);
    while text.len() < size {
        text.extend(letters.bits().to_be_bytes().map(|b| b"abcdefghijklmnopqrstuvwxyz0123456789,. \r\n"[usize::from(b) % 41]));
    }
    text.truncate(size);
    text
}

/// A message of `size` bytes that deflates to little, so that the disk is searched and copied quickly.
pub fn long_mail(n: u64, size: usize) -> Vec<u8> {
    let mut text = mail(n, 200);
    while text.len() < size {
        text.extend_from_slice(format!("line {} of message {n}\r\n", text.len()).as_bytes());
        text.extend_from_slice(&[b'='; 400]);
    }
    text.truncate(size);
    text
}

/// A snapshot of these messages, `n` setting it apart from others.
pub fn snapshot(n: u64, messages: Vec<Vec<u8>>) -> Batch {
    Batch { messages, index: Some(mail(1_000_000 + n, 150)), source: format!("story:{n}") }
}

/// A checkpoint of these messages.
pub fn checkpoint(messages: Vec<Vec<u8>>) -> Batch {
    Batch { messages, index: None, source: String::new() }
}

/// How the tests write: quickly, two members ahead.
pub fn settings() -> Settings {
    Settings {
        level: 1,
        check: true,
        ahead: 2,
        checkpoint_bytes: Settings::CHECKPOINT_BYTES,
        software: String::from("cylinder 0.0.0"),
    }
}

/// The same with members that are stored, not deflated: lengths and places do not depend on a compressor.
pub fn stored() -> Settings {
    Settings { level: 0, ..settings() }
}

/// One run: opens the archive, appends and commits each batch, closes. `acknowledged` grows with each commit that returned.
pub async fn run(io: Io, batches: &[Batch], acknowledged: &Cell<usize>) -> Result<(), Error> {
    run_with(io, batches, acknowledged, &settings(), *b"sixteen bytes id").await
}

/// The same with other settings, and another name for a new archive.
pub async fn run_with(
    io: Io,
    batches: &[Batch],
    acknowledged: &Cell<usize>,
    settings: &Settings,
    id: [u8; 16],
) -> Result<(), Error> {
    let mut writer = Writer::open(&io, &dir(), settings, id).await?;
    let mut result = Ok(());
    for batch in batches {
        result = append(&io, &mut writer, batch).await;
        if result.is_err() {
            break;
        }
        acknowledged.set(acknowledged.get() + 1);
    }
    writer.close().await;
    result
}

/// One run whose acknowledgements nobody counts.
pub async fn run_all(io: Io, batches: &[Batch]) -> Result<(), Error> {
    run(io, batches, &Cell::new(0)).await
}

/// A run that finds nothing to do: opens, which mends, and closes.
pub async fn reopen(io: Io) -> Result<(), Error> {
    run_all(io, &[]).await
}

async fn append(io: &Io, writer: &mut Writer, batch: &Batch) -> Result<(), Error> {
    let mtime = Time::from_secs(1_700_000_000);
    for (n, message) in batch.messages.iter().enumerate() {
        let guid = Guid::of(message);
        if message.len() <= 64 << 10 || n % 2 == 0 {
            writer.message(guid, mtime, message).await?;
            continue;
        }
        writer.begin_message(guid, message.len() as u64, mtime).await?;
        for piece in message.chunks(300_000) {
            writer.piece(piece).await?;
        }
        writer.end_message().await?;
    }
    let Some(index) = &batch.index else { return writer.checkpoint(io.now()).await };
    let sha1 = Guid::of(index);
    let at = writer.file(b"folders/x1/cyrus.index", mtime, index, sha1).await?;
    writer.link(b"imap/INBOX", b"../folders/x1", mtime).await?;
    writer.link(b"imap/INBOX.old", b"", mtime).await?;
    writer.gone(b"meta/sub").await?;
    let tuple = Tuple { size: index.len() as u64, mtime, ctime: mtime, ino: 7 };
    let file = FileRow { name: String::from("cyrus.index"), tuple, sha1, at };
    let folder = FolderRow { name: b"INBOX".to_vec(), id: b"x1".to_vec(), files: vec![file], ..FolderRow::default() };
    let table = Table { folders: vec![folder], ..Table::default() };
    let facts =
        CommitFacts { time: io.now(), source: batch.source.clone(), cyrus: String::from("3.6"), standing: None, dead: 0 };
    writer.commit(table, facts).await.map(drop)
}
