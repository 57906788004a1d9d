//! Pages of a file, as far as they have been read, in bounded memory.
//!
//! A reader takes what is here and answers with the pages that it misses; whoever can read files puts them in and asks again.
//! What must not come in: any database format, and reading.

use super::{Miss, Trouble};
use crate::error::Damage;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::cell::Cell;

/// Bytes of a page; the last page of a file may have fewer.
pub const PAGE_SIZE: usize = 8192;
/// Bytes of pages that are kept. What one single read needs is kept even if that is more.
pub const HELD_MAX: usize = 16 << 20;
const PAGE: u64 = PAGE_SIZE as u64;
/// The field of the finding that data ends too early.
pub(super) const END_OF_DATA: &str = "end of data";

/// Some pages of one file.
pub struct Pages {
    file_len: u64,
    limit: usize,
    held: usize,
    slots: BTreeMap<u64, Slot>,
    /// Number of the read that is under way.
    read: Cell<u64>,
}

struct Slot {
    bytes: Vec<u8>,
    /// The last read that needed the page.
    used: Cell<u64>,
}

impl Pages {
    /// No page yet of a file of this length.
    pub fn new(file_len: u64) -> Pages {
        Pages { file_len, limit: HELD_MAX, held: 0, slots: BTreeMap::new(), read: Cell::new(0) }
    }

    /// All pages of a file that is in memory.
    pub fn whole(bytes: &[u8]) -> Pages {
        let mut pages = Pages { limit: usize::MAX, ..Pages::new(bytes.len() as u64) };
        for (n, chunk) in (0..).zip(bytes.chunks(PAGE_SIZE)) {
            pages.insert(n, chunk.to_vec());
        }
        pages
    }

    /// Length of the file in bytes.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Bytes of the pages that are kept.
    pub fn held(&self) -> usize {
        self.held
    }

    /// The page, if it is here.
    pub fn page(&self, n: u64) -> Option<&[u8]> {
        Some(&self.slots.get(&n)?.bytes)
    }

    /// Puts a page in. If too many are kept, those go that have not been needed for the longest time, but never the first of
    /// the file nor those that the last read needed: it is about to be tried again.
    pub fn insert(&mut self, n: u64, bytes: Vec<u8>) {
        self.held += bytes.len();
        if let Some(old) = self.slots.insert(n, Slot { bytes, used: Cell::new(self.read.get()) }) {
            self.held -= old.bytes.len();
        }
        if self.held > self.limit {
            self.evict();
        }
    }

    /// Lets the oldest pages go until a quarter of the room is free, so that this is not done for every page.
    fn evict(&mut self) {
        let now = self.read.get();
        let mut old: Vec<(u64, u64)> =
            self.slots.iter().map(|(n, slot)| (slot.used.get(), *n)).filter(|(used, n)| *used < now && *n != 0).collect();
        old.sort_unstable();
        for (_, n) in old {
            if self.held <= self.limit / 4 * 3 {
                break;
            }
            if let Some(slot) = self.slots.remove(&n) {
                self.held -= slot.bytes.len();
            }
        }
    }

    /// A new read begins, or one is tried again: what it touches from here on is kept until the next one begins.
    pub(super) fn begin_read(&self) {
        self.read.set(self.read.get() + 1);
    }

    fn touch(&self, n: u64) -> Option<&[u8]> {
        let slot = self.slots.get(&n)?;
        slot.used.set(self.read.get());
        Some(&slot.bytes)
    }
}

/// The part of a file in which a reader may read: its committed part.
pub(super) struct View<'a> {
    pub pages: &'a Pages,
    /// What the file is called in errors.
    pub object: &'a str,
    /// Nothing at or behind this offset is to be read. Not larger than the file.
    pub end: u64,
}

impl<'a> View<'a> {
    pub fn new(pages: &'a Pages, object: &'a str) -> View<'a> {
        View { pages, object, end: pages.file_len }
    }

    /// A finding in this file.
    pub fn damage(
        &self,
        at: u64,
        field: &'static str,
        found: impl core::fmt::Display,
        expected: impl core::fmt::Display,
    ) -> Trouble {
        Damage::new(self.object, at, field, found, expected).into()
    }

    fn past_end(&self, at: u64, need: u64) -> Trouble {
        let expected = format!("{need} more bytes at offset {at}");
        self.damage(self.end, END_OF_DATA, format!("{} bytes", self.end), expected)
    }

    /// What follows `at` on the same page; empty at the end.
    fn rest(&self, at: u64) -> Result<&'a [u8], Trouble> {
        if at >= self.end {
            return Ok(&[]);
        }
        let page = self.pages.touch(at / PAGE).ok_or_else(|| Miss::of(at / PAGE))?;
        let stop = page.len().min((self.end - at / PAGE * PAGE).min(PAGE) as usize);
        Ok(page[..stop].get((at % PAGE) as usize..).unwrap_or_default())
    }

    /// Copies `len` bytes from `at` on, which may lie on several pages.
    fn copy(&self, at: u64, len: usize, to: &mut Vec<u8>) -> Result<(), Trouble> {
        let stop = at.checked_add(len as u64).filter(|stop| *stop <= self.end).ok_or_else(|| self.past_end(at, len as u64))?;
        let numbers = at / PAGE..stop.div_ceil(PAGE);
        let missing: Vec<u64> = numbers.filter(|n| self.pages.touch(*n).is_none()).collect();
        if !missing.is_empty() {
            return Err(Miss { pages: missing }.into());
        }
        to.clear();
        while to.len() < len {
            let rest = self.rest(at + to.len() as u64)?;
            if rest.is_empty() {
                // The file has become shorter since its length was asked.
                return Err(self.past_end(at, len as u64));
            }
            to.extend_from_slice(&rest[..rest.len().min(len - to.len())]);
        }
        Ok(())
    }

    /// The bytes at `at` whose number is `len`.
    pub fn bytes<'b>(&self, at: u64, len: usize, scratch: &'b mut Vec<u8>) -> Result<&'b [u8], Trouble>
    where
        'a: 'b,
    {
        self.record(at, scratch, |_| Ok(len))
    }

    /// A record at `at` that tells its own length: `measure` is given some first bytes of it, perhaps none, and answers how
    /// long it is, or how many bytes it takes to tell more. It is not copied unless it lies on several pages.
    pub fn record<'b>(
        &self,
        at: u64,
        scratch: &'b mut Vec<u8>,
        measure: impl Fn(&[u8]) -> Result<usize, Trouble>,
    ) -> Result<&'b [u8], Trouble>
    where
        'a: 'b,
    {
        let rest = self.rest(at)?;
        let mut need = measure(rest)?;
        if let Some(whole) = rest.get(..need) {
            return Ok(whole);
        }
        loop {
            self.copy(at, need, scratch)?;
            let more = measure(scratch)?;
            if more <= need {
                return Ok(&scratch[..more]);
            }
            need = more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: u64 = 64 << 20;

    fn pages_of(numbers: core::ops::Range<u64>) -> Pages {
        let mut pages = Pages::new(FILE);
        for n in numbers {
            pages.begin_read();
            pages.insert(n, alloc::vec![n as u8; PAGE_SIZE]);
        }
        pages
    }

    #[test]
    fn memory_is_bounded_and_the_first_page_stays() {
        let pages = pages_of(0..FILE / PAGE);
        assert!(pages.held() <= HELD_MAX && pages.held() > HELD_MAX / 2, "{}", pages.held());
        assert!(pages.page(0).is_some() && pages.page(1).is_none() && pages.page(FILE / PAGE - 1).is_some());
    }

    #[test]
    fn what_one_read_needs_is_kept_even_beyond_the_limit() {
        let mut pages = pages_of(0..2048);
        let mut scratch = Vec::new();
        let (at, len) = (5 * PAGE + 100, 20 << 20);
        pages.begin_read();
        let Err(Trouble::Miss(miss)) = View::new(&pages, "x").bytes(at, len, &mut scratch) else { panic!("a miss") };
        for n in miss.pages() {
            pages.insert(n, alloc::vec![n as u8; PAGE_SIZE]);
        }
        pages.begin_read();
        let view = View::new(&pages, "x");
        assert_eq!(view.bytes(at, len, &mut scratch).map(<[u8]>::len), Ok(len));
        assert!(pages.held() > 20 << 20);
        pages.begin_read();
        pages.insert(FILE / PAGE - 1, Vec::from([0]));
        assert!(pages.held() <= HELD_MAX);
    }

    #[test]
    fn bytes_on_one_page_and_across_pages() {
        let data: Vec<u8> = (0..3 * PAGE_SIZE + 5).map(|i| (i % 251) as u8).collect();
        let pages = Pages::whole(&data);
        let view = View::new(&pages, "x");
        let mut scratch = Vec::new();
        for (at, len) in [(0, 5), (PAGE_SIZE - 1, 2), (PAGE_SIZE - 3, PAGE_SIZE * 2), (0, data.len()), (3 * PAGE_SIZE, 5)] {
            assert_eq!(view.bytes(at as u64, len, &mut scratch), Ok(&data[at..at + len]));
        }
        for (at, len) in [(0, data.len() + 1), (data.len(), 1), (usize::MAX, 1), (data.len() - 1, usize::MAX)] {
            assert!(matches!(view.bytes(at as u64, len, &mut scratch), Err(Trouble::Damage(_))));
        }
    }

    #[test]
    fn a_page_shorter_than_the_file_says_is_damage_not_a_miss() {
        let mut pages = Pages::new(3 * PAGE);
        pages.insert(0, alloc::vec![0; PAGE_SIZE]);
        pages.insert(1, alloc::vec![0; 10]);
        pages.insert(2, Vec::new());
        let view = View::new(&pages, "x");
        let mut scratch = Vec::new();
        for (at, len) in [(PAGE, 11), (PAGE - 1, 20), (PAGE + 50, 1), (2 * PAGE, 1)] {
            assert!(matches!(view.bytes(at, len, &mut scratch), Err(Trouble::Damage(_))), "{at} {len}");
        }
    }
}
