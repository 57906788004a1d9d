//! Shelves that are one stream on standard output: a tar file, a zip file.
//!
//! A tar file has no index, so nothing grows; the zip file's is kept until the end, some 150 bytes for each entry.

use crate::output::{self, OutputError};
use cylinder_core::archive::entry;
use cylinder_core::error::{Error, Fault};
use cylinder_core::restore::draft::Draft;
use cylinder_core::restore::shelf::{Put, Shelf};
use cylinder_core::time::Time;
use flate2::Compression;
use flate2::write::DeflateEncoder;
use rawzip::time::UtcDateTime;
use rawzip::{CompressionMethod, ZipArchiveWriter};
use std::collections::BTreeSet;
use std::io::Write;

/// Bytes that are copied at once.
const PIECE: u64 = 1 << 20;

fn failed(error: OutputError) -> Error {
    Error::Refused(match error {
        OutputError::Closed => String::from("standard output: whoever reads it has stopped; the file is not complete"),
        OutputError::Failed(_) => error.to_string(),
    })
}

/// A tar file.
pub struct Tar {
    /// The time of directories.
    now: Time,
    dirs: BTreeSet<Vec<u8>>,
}

impl Tar {
    /// A new one; `now` is the time of its directories.
    pub fn new(now: Time) -> Tar {
        Tar { now, dirs: BTreeSet::new() }
    }

    /// Ends it.
    pub fn finish(self) -> Result<(), Error> {
        output::bytes(&[0; 2 * entry::BLOCK]).map_err(failed)
    }
}

impl Shelf for Tar {
    async fn dir(&mut self, path: &[u8]) -> Result<(), Error> {
        let mut header = Vec::new();
        if self.dirs.insert(path.to_vec()) {
            entry::emit_dir(&mut header, path, self.now);
        }
        output::bytes(&header).map_err(failed)
    }

    async fn put(&mut self, path: &[u8], draft: &mut Draft<'_>, mtime: Option<Time>) -> Result<Put, Error> {
        let len = draft.len();
        let mut header = Vec::new();
        entry::emit_file(&mut header, path, len, mtime.unwrap_or(self.now), None);
        output::bytes(&header).map_err(failed)?;
        copy(draft, |piece| output::bytes(piece).map_err(failed)).await?;
        output::bytes(&vec![0; entry::padding(len)]).map_err(failed)?;
        Ok(Put::Created)
    }
}

async fn copy(draft: &Draft<'_>, mut each: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
    if let Some(held) = draft.held() {
        return each(held);
    }
    let (mut at, mut buffer) = (0, Vec::new());
    while at < draft.len() {
        buffer = draft.read(at, PIECE, buffer).await?;
        if buffer.is_empty() {
            return Err(Error::world("read", "a temporary file", Fault::Driver));
        }
        each(&buffer)?;
        at += buffer.len() as u64;
    }
    Ok(())
}

/// Standard output as std has it.
struct Out;

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        output::bytes(bytes).map(|()| bytes.len()).map_err(|error| match error {
            OutputError::Closed => std::io::ErrorKind::BrokenPipe.into(),
            OutputError::Failed(error) => error,
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A zip file.
pub struct Zip {
    now: Time,
    writer: ZipArchiveWriter<Out>,
    dirs: BTreeSet<Vec<u8>>,
}

impl Zip {
    /// A new one; `now` is the time of its directories.
    pub fn new(now: Time) -> Zip {
        Zip { now, writer: ZipArchiveWriter::new(Out), dirs: BTreeSet::new() }
    }

    /// Ends it.
    pub fn finish(self) -> Result<(), Error> {
        self.writer.finish().map(drop).map_err(zip_failed)
    }
}

fn io_failed(error: std::io::Error) -> Error {
    failed(OutputError::from(error))
}

fn zip_failed(error: rawzip::Error) -> Error {
    match error.into_kind() {
        rawzip::ErrorKind::IO(error) => io_failed(error),
        other => Error::Refused(format!("zip file: {other}")),
    }
}

/// A time as a zip file has it.
fn stamp(time: Time) -> UtcDateTime {
    UtcDateTime::from_unix(time.secs())
}

/// A path as a zip file has it. What stands before a `:` would be a drive; Maildir programs take a `!` instead.
fn in_zip(path: &[u8]) -> String {
    String::from_utf8_lossy(path).replace(':', "!")
}

impl Shelf for Zip {
    async fn dir(&mut self, path: &[u8]) -> Result<(), Error> {
        if self.dirs.insert(path.to_vec()) {
            let name = format!("{}/", in_zip(path));
            let dir = self.writer.new_dir(name.as_str()).last_modified(stamp(self.now));
            dir.create().map_err(zip_failed)?;
        }
        Ok(())
    }

    async fn put(&mut self, path: &[u8], draft: &mut Draft<'_>, mtime: Option<Time>) -> Result<Put, Error> {
        let name = in_zip(path);
        let file = self.writer.new_file(name.as_str()).compression_method(CompressionMethod::DEFLATE);
        let (mut entry, config) = file.last_modified(stamp(mtime.unwrap_or(self.now))).start().map_err(zip_failed)?;
        let mut writer = config.wrap(DeflateEncoder::new(&mut entry, Compression::fast()));
        copy(draft, |piece| writer.write_all(piece).map_err(io_failed)).await?;
        let (encoder, descriptor) = writer.finish().map_err(zip_failed)?;
        encoder.finish().map_err(io_failed)?;
        entry.finish(descriptor).map_err(zip_failed)?;
        Ok(Put::Created)
    }
}
