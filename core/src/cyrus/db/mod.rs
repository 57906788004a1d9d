//! cyrusdb files, read page by page in their committed state: twoskip, skiplist, twom and flat (`lib/cyrusdb_*.c`).
//!
//! A [`Db`] never asks for a file. It reads what [`Pages`] holds and answers [`Trouble::Miss`] with the pages that it lacks;
//! the caller loads these and calls again. Whatever the file says, an entry costs few pages, no read runs for ever, and
//! nothing is allocated by a length that was not checked: keys must increase along a walk, and an entry has at most
//! [`ENTRY_MAX`] bytes.
//!
//! What must not come in: what keys and values mean, locks, and writing into a file (whole new files are written with
//! [`flat::emit`], [`skiplist::emit`] and [`twoskip::emit`]).

pub mod flat;
mod list;
pub mod pages;
pub mod skiplist;
pub mod twom;
pub mod twoskip;

use crate::error::Damage;
use crate::escape::Shown;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::fmt::{self, Write};
use pages::{Pages, View};

/// The most bytes that key and value of an entry may have together.
pub const ENTRY_MAX: u64 = 16 << 20;

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Why a read gave nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The file is damaged, or of a kind that cannot be read.
    Damage(Damage),
    /// Pages are to be loaded first.
    Miss(Miss),
}

/// The pages that a read needs and did not find.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Miss {
    pages: Vec<u64>,
}

impl Miss {
    fn of(page: u64) -> Miss {
        Miss { pages: Vec::from([page]) }
    }

    /// Their numbers: page `n` begins at offset `n` times [`pages::PAGE_SIZE`].
    pub fn pages(&self) -> impl Iterator<Item = u64> + use<> {
        self.pages.clone().into_iter()
    }
}

impl From<Damage> for Trouble {
    fn from(damage: Damage) -> Trouble {
        Trouble::Damage(damage)
    }
}

impl From<Miss> for Trouble {
    fn from(miss: Miss) -> Trouble {
        Trouble::Miss(miss)
    }
}

/// The order of the keys, which no file tells.
///
/// It matters for twoskip and skiplist; flat files always have [`Order::Mbox`] and twom files [`Order::Raw`], whatever is
/// given. In skiplist files [`Order::Raw`] is by the `char` of the machine that wrote them, signed (x86) or not; which, is
/// found out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// By bytes.
    #[default]
    Raw,
    /// By bytes, but `.` before all others except NUL, TAB and LF: the mailbox list and subscriptions up to 3.4 with
    /// `improved_mboxlist_sort` (`lib/bsearch.c`).
    Mbox,
}

impl Order {
    /// Which of two keys comes first.
    pub fn compare(self, a: &[u8], b: &[u8]) -> Ordering {
        match self {
            Order::Raw => a.cmp(b),
            Order::Mbox => compare_by(a, b, mbox_rank),
        }
    }
}

fn compare_by<T: Ord>(a: &[u8], b: &[u8], rank: impl Fn(u8) -> T) -> Ordering {
    let pairs = a.iter().zip(b).filter(|(x, y)| x != y);
    pairs.map(|(x, y)| rank(*x).cmp(&rank(*y))).find(|c| c.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// Rank of a byte in the order of [`Order::Mbox`].
fn mbox_rank(b: u8) -> u8 {
    match b {
        b'\t' | b'\n' => 1,
        b'.' => 2,
        1..=8 => b + 2,
        _ => b,
    }
}

/// The kinds of database file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Since 2.5.
    Twoskip,
    /// Since 2.1; the default up to 2.4.
    Skiplist,
    /// Since 3.13.
    Twom,
    /// Lines of text; also what an empty file is.
    Flat,
}

impl Kind {
    /// The name in imapd.conf.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Twoskip => "twoskip",
            Kind::Skiplist => "skiplist",
            Kind::Twom => "twom",
            Kind::Flat => "flat",
        }
    }
}

enum Backend {
    Twoskip(twoskip::Twoskip),
    Skiplist(skiplist::Skiplist),
    Twom(twom::Twom),
    Flat(flat::Flat),
}

/// A database file whose header has been read.
pub struct Db {
    object: String,
    backend: Backend,
}

/// A place between two entries.
#[derive(Clone, Debug)]
pub struct Cursor {
    order: Order,
    /// Offset of the record to be looked at next; 0 at the end of a list. In a replayed log, its number in the sorted part.
    at: u64,
    /// In a replayed log, the number of the record of the log that is to be looked at next.
    log_at: usize,
    /// The key before this place.
    last: Option<Vec<u8>>,
    /// Records of a list that may still be looked at; a file cannot hold more.
    steps: u64,
}

impl Cursor {
    /// Before the record at `at`. No record that can be in a list is shorter than 24 bytes.
    fn new(order: Order, at: u64, view: &View) -> Cursor {
        Cursor { order, at, log_at: 0, last: None, steps: view.end / 24 + 1 }
    }

    /// Counts a record; damage if there were more than the file can hold.
    fn step(&mut self, view: &View) -> Result<(), Trouble> {
        self.steps = self
            .steps
            .checked_sub(1)
            .ok_or_else(|| view.damage(self.at, "pointer", format!("{}", self.at), "a list that comes to an end"))?;
        Ok(())
    }

    /// Remembers `key` as the last one.
    fn passed(&mut self, key: &[u8]) {
        let last = self.last.get_or_insert_default();
        last.clear();
        last.extend_from_slice(key);
    }
}

const MAGIC_MAX: usize = 20;
/// How the magics of all kinds but flat begin.
const MAGIC_START: [u8; 4] = [0xA1, 0x02, 0x8B, 0x0D];

impl Db {
    /// Reads the header of the file, and tells its kind by its first bytes. `name` is what it is called in errors.
    pub fn open(name: &str, pages: &Pages) -> Result<Db, Trouble> {
        pages.begin_read();
        let mut scratch = Vec::new();
        let view = View::new(pages, name);
        let first = view.bytes(0, (MAGIC_MAX as u64).min(view.end) as usize, &mut scratch)?;
        let kind = match first {
            _ if first.starts_with(twoskip::MAGIC) => Kind::Twoskip,
            _ if first.starts_with(skiplist::MAGIC) => Kind::Skiplist,
            _ if first.starts_with(twom::MAGIC) => Kind::Twom,
            _ if first.starts_with(&MAGIC_START) => {
                return Err(view.damage(0, "magic", Shown(first), "twoskip, skiplist or twom"));
            }
            _ => Kind::Flat,
        };
        let object = format!("{name} ({})", kind.name());
        let view = View::new(pages, &object);
        let backend = match kind {
            Kind::Twoskip => Backend::Twoskip(twoskip::Twoskip::open(&view)?),
            Kind::Skiplist => Backend::Skiplist(skiplist::Skiplist::open(&view)?),
            Kind::Twom => Backend::Twom(twom::Twom::open(&view)?),
            Kind::Flat => Backend::Flat(flat::Flat::open(&view)?),
        };
        Ok(Db { object, backend })
    }

    /// What kind of file it is.
    pub fn kind(&self) -> Kind {
        match self.backend {
            Backend::Twoskip(_) => Kind::Twoskip,
            Backend::Skiplist(_) => Kind::Skiplist,
            Backend::Twom(_) => Kind::Twom,
            Backend::Flat(_) => Kind::Flat,
        }
    }

    fn view<'a>(&'a self, pages: &'a Pages) -> View<'a> {
        pages.begin_read();
        View { pages, object: &self.object, end: self.end(pages) }
    }

    /// Where the committed part ends.
    fn end(&self, pages: &Pages) -> u64 {
        match &self.backend {
            Backend::Twoskip(twoskip) => twoskip.current_size,
            Backend::Twom(twom) => twom.current_size,
            Backend::Skiplist(_) | Backend::Flat(_) => pages.file_len(),
        }
    }

    /// The place before the first entry whose key is `key` or comes after it.
    pub fn seek(&self, pages: &Pages, key: &[u8], order: Order) -> Result<Cursor, Trouble> {
        let view = self.view(pages);
        match &self.backend {
            Backend::Twoskip(twoskip) => list::seek(twoskip, &view, key, order),
            Backend::Skiplist(skiplist) => skiplist.seek(&view, key, order),
            Backend::Twom(twom) => list::seek(twom, &view, key, Order::Raw),
            Backend::Flat(flat) => flat.seek(&view, key),
        }
    }

    /// The entry after `cursor`, which moves behind it; `None` at the end. On trouble, the cursor is where it was.
    pub fn next(&self, pages: &Pages, cursor: &mut Cursor) -> Result<Option<Entry>, Trouble> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        Ok(self.next_into(pages, cursor, &mut key, &mut value)?.then_some((key, value)))
    }

    /// As [`Db::next`], into buffers that are used again; false at the end. On trouble, what is in them means nothing.
    pub fn next_into(
        &self,
        pages: &Pages,
        cursor: &mut Cursor,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
    ) -> Result<bool, Trouble> {
        let view = self.view(pages);
        match &self.backend {
            Backend::Twoskip(twoskip) => list::next(twoskip, &view, cursor, key, value),
            Backend::Skiplist(skiplist) => skiplist.next(&view, cursor, key, value),
            Backend::Twom(twom) => list::next(twom, &view, cursor, key, value),
            Backend::Flat(flat) => flat.next(&view, cursor, key, value),
        }
    }

    /// Gives all entries to `each`, from first to last, and answers how many there were. The whole file must be in `pages`.
    fn each_entry(&self, pages: &Pages, order: Order, mut each: impl FnMut(&[u8], &[u8])) -> (u64, Option<Trouble>) {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut cursor = match self.seek(pages, b"", order) {
            Ok(cursor) => cursor,
            Err(trouble) => return (0, Some(trouble)),
        };
        let mut count = 0;
        loop {
            match self.next_into(pages, &mut cursor, &mut key, &mut value) {
                Ok(true) => each(&key, &value),
                Ok(false) => return (count, None),
                Err(trouble) => return (count, Some(trouble)),
            }
            count += 1;
        }
    }

    /// The order in which the whole file can be read; by bytes if in neither.
    fn find_order(&self, pages: &Pages) -> Order {
        let fits = |order: &Order| self.each_entry(pages, *order, |_, _| ()).1.is_none();
        match self.kind() {
            Kind::Flat => Order::Mbox,
            Kind::Twom => Order::Raw,
            _ => [Order::Raw, Order::Mbox].into_iter().find(fits).unwrap_or_default(),
        }
    }

    /// How many entries the header promises, if it does.
    fn promised(&self) -> Option<u64> {
        match &self.backend {
            // While a transaction is open, the number in the header may be of either side.
            Backend::Twoskip(twoskip) => Some(twoskip.records).filter(|_| !twoskip.is_dirty()),
            Backend::Twom(twom) => Some(twom.records).filter(|_| !twom.is_dirty()),
            Backend::Skiplist(_) | Backend::Flat(_) => None,
        }
    }
}

/// Appends what a database file says: its header, then a line `key TAB value` for each entry, escaped. Damage ends the list
/// with a line of its own. The whole file must be in `pages` ([`Pages::whole`]).
pub fn describe(name: &str, pages: &Pages, out: &mut dyn Write) -> fmt::Result {
    let db = match Db::open(name, pages) {
        Ok(db) => db,
        Err(trouble) => return describe_trouble(&trouble, out),
    };
    writeln!(out, "format: {}", db.kind().name())?;
    match &db.backend {
        Backend::Twoskip(twoskip) => twoskip.describe(out)?,
        Backend::Skiplist(skiplist) => skiplist.describe(out)?,
        Backend::Twom(twom) => twom.describe(out)?,
        Backend::Flat(_) => {}
    }
    writeln!(out, "file size: {}", pages.file_len())?;
    let order = db.find_order(pages);
    writeln!(out, "order: {}", if order == Order::Raw { "by bytes" } else { "'.' first" })?;
    writeln!(out)?;
    let mut written = Ok(());
    let (count, trouble) = db.each_entry(pages, order, |key, value| {
        written = written.and_then(|()| writeln!(out, "{}\t{}", Shown(key), Shown(value)));
    });
    written?;
    match (trouble, db.promised()) {
        (Some(trouble), _) => describe_trouble(&trouble, out),
        (None, Some(promised)) if promised != count => {
            writeln!(out, "damaged: {}: found {count} entries, expected {promised} as the header says", db.object)
        }
        _ => Ok(()),
    }
}

fn describe_trouble(trouble: &Trouble, out: &mut dyn Write) -> fmt::Result {
    match trouble {
        Trouble::Damage(damage) => writeln!(out, "damaged: {damage}"),
        Trouble::Miss(_) => writeln!(out, "not read: the file is not complete in memory"),
    }
}

#[cfg(test)]
mod tests;
