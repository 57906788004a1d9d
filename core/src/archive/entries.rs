//! An archive's entries from first to last, given to a [`Sink`]: for verifying, extracting and importing.
//!
//! Damage is told to the sink like everything else, and reading goes on behind it with the next entry that is whole. What must
//! not come in: what the entries mean, and what is done about damage.

use super::entry::{Entry, EntryReader, Piece, Step};
use super::member::{CONTINUES, Kind, MemberInfo, TO_BE_CONTINUED};
use super::read::Reader;
use super::record::Location;
use super::stream::{Sample, Seen, Stream};
use crate::error::Error;
use crate::escape::shown;
use crate::io::{Event, Io};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Bytes of the file that it lies in, from and up to.
    pub bytes: (u64, u64),
    /// What it concerns, escaped: an entry's name, or a part of the archive.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
}

impl core::fmt::Display for Finding {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "bytes {} to {}: {}: {}", self.bytes.0, self.bytes.1, self.object, self.what)
    }
}

/// Takes what [`read_all`] finds. Calls come in the order of the file: `begin`, any number of `content`, `end`; `damage` at any
/// time, and then an entry that was begun is void.
pub trait Sink {
    /// A member follows; `raw_len` bytes of content.
    fn member(&mut self, raw_len: u64) {
        let _ = raw_len;
    }

    /// An entry begins.
    fn begin(&mut self, entry: Entry, kind: Kind, at: Location);

    /// The next bytes of its content.
    fn content(&mut self, bytes: &[u8]);

    /// Its content is complete; `end` is the end of the member in the file.
    fn end(&mut self, end: u64);

    /// Something is wrong. An entry that was begun will not be ended.
    fn damage(&mut self, finding: Finding);

    /// False ends the reading: the sink has failed, and knows why.
    fn goes_on(&self) -> bool {
        true
    }
}

/// Gives all entries in the members up to the offset `end` to `sink`. `ahead` members may be under way to being inflated.
///
/// An error is one of the operating system; whatever is wrong with the archive itself goes to the sink.
pub async fn read_all(io: &Io, reader: &Reader, end: u64, ahead: usize, sink: &mut dyn Sink) -> Result<(), Error> {
    read_some(io, reader, end, ahead, Sample::ALL, sink).await
}

/// The same without the messages that a sample leaves out.
pub async fn read_some(
    io: &Io,
    reader: &Reader,
    end: u64,
    ahead: usize,
    sample: Sample,
    sink: &mut dyn Sink,
) -> Result<(), Error> {
    let mut feed = Feed { sink, entries: EntryReader::new(), open: None };
    let mut stream = Stream::new(io, reader, end, ahead).sampled(sample);
    io.event(Event::Expect { messages: 0, bytes: end });
    while feed.sink.goes_on()
        && let Some(seen) = stream.next().await?
    {
        let bytes = seen.bytes();
        match seen {
            Seen::Member(offset, info, raw) => {
                feed.member(offset, &info, &raw);
                stream.recycle(raw);
            }
            Seen::Bad(_, info) => feed.bad_member(bytes, &info),
            Seen::Gap(..) => feed.break_off(bytes, "archive", "no member begins here"),
        }
        io.event(Event::Progress { messages: 0, bytes: bytes.1 - bytes.0 });
    }
    feed.cut(end);
    Ok(())
}

/// Makes entries of members.
struct Feed<'a> {
    sink: &'a mut dyn Sink,
    entries: EntryReader,
    /// Name and beginning of the entry under way.
    open: Option<(Vec<u8>, u64)>,
}

impl Feed<'_> {
    fn break_off(&mut self, bytes: (u64, u64), object: &str, what: &str) {
        self.cut(bytes.0);
        self.entries.reset();
        self.sink.damage(Finding { bytes, object: String::from(object), what: String::from(what) });
    }

    fn bad_member(&mut self, bytes: (u64, u64), info: &MemberInfo) {
        let object = format!("member of kind {}", char::from(info.kind.letter()));
        self.break_off(bytes, &object, "its bytes do not inflate to what its header says");
    }

    /// The entry under way does not go on at `offset`.
    fn cut(&mut self, offset: u64) {
        if let Some((name, from)) = self.open.take() {
            let what = String::from("its content is not complete");
            self.sink.damage(Finding { bytes: (from, offset), object: shown(&name), what });
        }
    }

    fn member(&mut self, offset: u64, info: &MemberInfo, raw: &[u8]) {
        let end = offset + u64::from(info.len);
        self.sink.member(raw.len() as u64);
        if info.kind == Kind::Footer {
            return self.break_off((offset, end), "footer", "stands in the middle of the archive");
        }
        if info.flags & CONTINUES == 0 {
            self.cut(offset);
            self.entries.reset();
        } else if self.open.is_none() {
            // The rest of an entry whose beginning was damaged.
            return;
        }
        let mut piece = Piece::new(raw);
        loop {
            match self.entries.step(&mut piece) {
                Ok(Step::Header(entry, inside)) => {
                    self.open = Some((entry.name.clone(), offset));
                    self.sink.begin(entry, info.kind, Location { member: offset, inside: inside as u32 });
                }
                Ok(Step::Content(bytes)) => self.sink.content(bytes),
                Ok(Step::EndOfEntry) => {
                    self.open = None;
                    self.sink.end(end);
                }
                Ok(Step::Feed) => break,
                Err(damage) => return self.break_off((offset, end), "tar header", &damage.to_string()),
            }
        }
        if info.flags & TO_BE_CONTINUED == 0 && !self.entries.is_between_entries() {
            self.cut(end);
            self.entries.reset();
        }
    }
}
