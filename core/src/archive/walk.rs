//! Entries in the pieces of a file that may be damaged, as events: each that begins is ended or cut.
//!
//! Behind damage it goes on with the next block that is a header of one of our names with a good checksum. What must not come
//! in: what entries mean, and whether their content is right.

use super::blocks::Block;
use super::entry::{self, BLOCK, Entry, EntryKind, Parsed, padding};
use super::member::{CONTINUES, TO_BE_CONTINUED};
use alloc::vec::Vec;
use core::ops::Range;

/// What is found in a piece.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// An entry begins.
    Begin(Entry),
    /// The next bytes of its content, as a place in the piece.
    Content(Range<usize>),
    /// Its content is complete.
    End,
    /// It will not be complete.
    Cut,
    /// Bytes that should be a header are none.
    NoHeader,
}

/// Makes events of pieces.
#[derive(Default)]
pub struct Walk {
    /// Header bytes that are not complete yet.
    held: Vec<u8>,
    open: bool,
    /// Bytes of content, then of padding, still to come.
    content: u64,
    padding: u64,
    /// Looking for a header behind damage.
    lost: bool,
}

impl Walk {
    /// A walk from the beginning of a file.
    pub fn new() -> Walk {
        Walk::default()
    }

    /// The events of the next piece.
    pub fn events(&mut self, block: &Block) -> Vec<Event> {
        let mut out = Vec::new();
        if block.is_framed {
            self.framed(block, &mut out);
        } else {
            self.take(&block.raw, &mut out);
            if block.problem.is_some() {
                self.cut(&mut out);
            }
        }
        out
    }

    /// The events of the end of the file.
    pub fn finish(&mut self) -> Vec<Event> {
        let mut out = Vec::new();
        self.cut(&mut out);
        out
    }

    fn framed(&mut self, block: &Block, out: &mut Vec<Event>) {
        // A member without a header goes on with an entry that is not complete, unless an entry begins in it.
        let continues = block.info.map_or(self.open && !begins_entry(&block.raw), |info| info.flags & CONTINUES != 0);
        if !continues {
            self.cut(out);
        } else if !self.open {
            // The rest of an entry whose beginning is damaged.
            return;
        }
        self.take(&block.raw, out);
        // If what it begins is not complete in it, the next one has the rest.
        let goes_on = block.info.map_or(self.open, |info| info.flags & TO_BE_CONTINUED != 0);
        if !goes_on || block.raw.is_empty() {
            self.cut(out);
        }
    }

    /// Forgets what is under way.
    fn cut(&mut self, out: &mut Vec<Event>) {
        if self.open {
            out.push(Event::Cut);
        }
        *self = Walk::default();
    }

    fn take(&mut self, raw: &[u8], out: &mut Vec<Event>) {
        let mut at = 0;
        loop {
            let rest = (raw.len() - at) as u64;
            if self.content > 0 {
                let take = self.content.min(rest) as usize;
                if take == 0 {
                    return;
                }
                out.push(Event::Content(at..at + take));
                at += take;
                self.content -= take as u64;
                continue;
            }
            if core::mem::take(&mut self.open) {
                out.push(Event::End);
            }
            let skip = self.padding.min(rest) as usize;
            at += skip;
            self.padding -= skip as u64;
            if self.padding > 0 || at == raw.len() {
                return;
            }
            match self.header(&raw[at..], out) {
                Some(used) => at += used,
                None => return,
            }
        }
    }

    /// Takes the header, or the block that is none, at the beginning of `rest`, and says how many bytes that were of it. `None`
    /// if all of it is held because there must be more.
    fn header(&mut self, rest: &[u8], out: &mut Vec<Event>) -> Option<usize> {
        let begun = self.held.len();
        let joined: Vec<u8>;
        let view = if begun == 0 {
            rest
        } else {
            joined = [&self.held[..], rest].concat();
            &joined
        };
        match entry::parse(view) {
            Ok(Parsed::More(_)) => {
                self.held.extend_from_slice(rest);
                None
            }
            Ok(Parsed::Entry(entry, len)) if !self.lost || is_ours(&entry.name) => {
                self.held.clear();
                self.lost = false;
                self.content = if matches!(entry.kind, EntryKind::File(_) | EntryKind::Other(_)) { entry.size } else { 0 };
                self.padding = padding(self.content) as u64;
                self.open = true;
                out.push(Event::Begin(entry));
                Some(len - begun)
            }
            // An end of a tar file ends nothing: another one may follow, or it is a hole.
            Ok(Parsed::End) => self.skip(begun, rest),
            Ok(Parsed::Entry(..)) | Err(_) => {
                if !core::mem::replace(&mut self.lost, true) {
                    out.push(Event::NoHeader);
                }
                self.skip(begun, rest)
            }
        }
    }

    /// Goes on behind the block at which the header was to begin. Extension headers that were held with it are given up.
    fn skip(&mut self, begun: usize, rest: &[u8]) -> Option<usize> {
        self.held.clear();
        let take = if begun == 0 { BLOCK } else { (BLOCK - begun % BLOCK) % BLOCK };
        Some(take.min(rest.len()))
    }
}

fn begins_entry(raw: &[u8]) -> bool {
    matches!(entry::parse(raw), Ok(Parsed::Entry(..) | Parsed::More(_)))
}

/// True for names that an archive has.
fn is_ours(name: &[u8]) -> bool {
    [&b"files/"[..], b"folders/", b"imap/", b"meta/", b"sieve/"].iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guid::Guid;
    use crate::time::Time;
    use alloc::format;
    use alloc::string::String;

    fn tar(names: &[&str]) -> Vec<u8> {
        let mut raw = Vec::new();
        for name in names {
            let content = format!("content of {name}").repeat(100).into_bytes();
            entry::emit_file(&mut raw, name.as_bytes(), content.len() as u64, Time::ZERO, Some(Guid::of(&content)));
            raw.extend_from_slice(&content);
            raw.resize(raw.len() + padding(content.len() as u64), 0);
        }
        raw
    }

    /// What is told of a file in pieces of this size: names, `!` for those that are cut, `?` where no header was.
    fn told(raw: &[u8], piece: usize) -> String {
        let (mut walk, mut told, mut left) = (Walk::new(), String::new(), 0);
        let mut events = Vec::new();
        for piece in raw.chunks(piece) {
            let block = Block { raw: piece.to_vec(), ..Block::default() };
            events.extend(walk.events(&block));
        }
        events.extend(walk.finish());
        for event in events {
            match event {
                Event::Begin(entry) => {
                    told += &format!("{} ", String::from_utf8_lossy(&entry.name[..entry.name.len().min(9)]));
                    left = entry.size;
                }
                Event::Content(range) => left -= range.len() as u64,
                Event::End => assert_eq!(left, 0),
                Event::Cut => told += "! ",
                Event::NoHeader => told += "? ",
            }
        }
        told
    }

    #[test]
    fn pieces_of_any_size_give_the_same_entries() {
        let long = format!("imap/{}", "x".repeat(150));
        let raw = tar(&["files/aa", "meta/sub", &long, "sieve/x"]);
        for piece in [BLOCK, 3 * BLOCK, 1 << 20, 1000, 7] {
            assert_eq!(told(&raw, piece), "files/aa meta/sub imap/xxxx sieve/x ", "{piece}");
        }
    }

    #[test]
    fn behind_a_bad_header_the_next_good_one_is_found() {
        let mut raw = tar(&["files/aa", "meta/sub", "other/y", "sieve/x"]);
        let len = raw.len() / 4;
        raw[len + 3] ^= 1;
        for piece in [BLOCK, 1 << 20, 777] {
            assert_eq!(told(&raw, piece), "files/aa ? sieve/x ", "{piece}");
        }
        raw.truncate(raw.len() - 600);
        assert_eq!(told(&raw, 1 << 20), "files/aa ? sieve/x ! ");
    }

    #[test]
    fn an_end_of_a_tar_file_does_not_hide_another() {
        let raw = [tar(&["files/aa"]), alloc::vec![0; 2 * BLOCK], tar(&["meta/sub"])].concat();
        assert_eq!(told(&raw, 1 << 20), "files/aa meta/sub ");
    }

    #[test]
    fn a_long_name_whose_header_is_bad_is_passed_over() {
        let long = format!("imap/{}", "x".repeat(150));
        let mut raw = tar(&[&long, "meta/sub"]);
        // The record of the extension header no longer says how long it is.
        raw[BLOCK] = b'x';
        for piece in [BLOCK, 1 << 20] {
            assert_eq!(told(&raw, piece).replace("imap/xxxx ", ""), "? meta/sub ", "{piece}");
        }
    }
}
