//! The content of a file before it is written: in memory as long as it is short, then in a scratch file. So what turns out to
//! be damaged at its end is never begun, and how long it is is known at its beginning.
//!
//! What must not come in: where it goes.

use crate::error::Error;
use crate::io::{FileId, Io, Op};
use alloc::string::String;
use alloc::vec::Vec;

/// Bytes that are kept in memory.
const HELD_MAX: usize = 4 << 20;
/// Bytes that are read back at once.
const PIECE: usize = 1 << 20;

/// Content that grows at its end.
pub struct Draft<'a> {
    io: &'a Io,
    /// The scratch file, once there is one.
    file: Option<FileId>,
    /// Bytes in the file.
    filed: u64,
    /// What comes behind them.
    held: Vec<u8>,
}

impl<'a> Draft<'a> {
    /// Nothing yet.
    pub fn new(io: &'a Io) -> Draft<'a> {
        Draft { io, file: None, filed: 0, held: Vec::new() }
    }

    /// Its length in bytes.
    pub fn len(&self) -> u64 {
        self.filed + self.held.len() as u64
    }

    /// True if it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Begins anew. The scratch file is kept for use again.
    pub fn clear(&mut self) {
        self.filed = 0;
        self.held.clear();
    }

    /// Gives the scratch file up. What was in it is gone.
    pub async fn close(&mut self) {
        if let Some(file) = self.file.take() {
            // Nobody will read it.
            let _ = self.io.close(file).await;
        }
    }

    /// The buffer for what comes next; whoever has added to it calls [`Draft::settle`].
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.held
    }

    /// Adds bytes.
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.held.extend_from_slice(bytes);
        self.settle().await
    }

    /// Moves what is held to the file if it is too much for the memory.
    pub async fn settle(&mut self) -> Result<(), Error> {
        if self.held.len() <= HELD_MAX {
            return Ok(());
        }
        let file = match self.file {
            Some(file) => file,
            None => *self.file.insert(self.io.scratch().await.map_err(world("create"))?),
        };
        let data = core::mem::take(&mut self.held);
        let len = data.len() as u64;
        self.held = self.io.write_at(file, self.filed, data).await.map_err(world("write"))?;
        self.filed += len;
        Ok(())
    }

    /// All of it, if it is in memory; the draft is empty then. Give the buffer back with [`Draft::recycle`].
    pub fn take_held(&mut self) -> Option<Vec<u8>> {
        (self.filed == 0).then(|| core::mem::take(&mut self.held))
    }

    /// Takes a buffer for use again.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.held.is_empty() && buffer.capacity() > self.held.capacity() {
            buffer.clear();
            self.held = buffer;
        }
    }

    /// All of it, if it is in memory.
    pub fn held(&self) -> Option<&[u8]> {
        (self.filed == 0).then_some(&self.held)
    }

    /// The bytes from `offset` on, as many as come at once, at most `len`; none at the end.
    pub async fn read(&self, offset: u64, len: u64, buffer: Vec<u8>) -> Result<Vec<u8>, Error> {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(PIECE);
        match self.file.filter(|_| offset < self.filed) {
            Some(file) => {
                let len = usize::try_from(self.filed - offset).unwrap_or(usize::MAX).min(len);
                self.io.read_at(file, offset, len, buffer).await.map_err(world("read"))
            }
            None => {
                let rest = self.held.get(usize::try_from(offset - self.filed).unwrap_or(usize::MAX)..).unwrap_or_default();
                let mut buffer = buffer;
                buffer.clear();
                buffer.extend_from_slice(&rest[..len.min(rest.len())]);
                Ok(buffer)
            }
        }
    }
}

/// Whatever way it is left, the scratch file is given up.
impl Drop for Draft<'_> {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // Nobody waits for it: it is done before the task ends.
            drop(self.io.start(Op::Close(file)));
        }
    }
}

fn world(doing: &'static str) -> impl Fn(crate::error::Fault) -> Error {
    move |fault| Error::world(doing, String::from("a temporary file"), fault)
}
