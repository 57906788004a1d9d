//! A cyrusdb file of a running server, read page by page under a shared lock.
//!
//! Pages that were read are used again as long as the file is the same: nothing is ever rewritten in a cyrusdb file without a
//! new length, a new inode or a new first block, so these tell. What must not come in: what keys and values mean.

use super::lock::{self, Patience};
use crate::cyrus::db::pages::{PAGE_SIZE, Pages};
use crate::cyrus::db::{Cursor, Db, Order, Trouble};
use crate::error::Error;
use crate::io::{FileId, How, Io, Place, Stat};
use crate::time::{Span, Time};
use alloc::string::String;
use alloc::vec::Vec;

/// Entries that one visit may yield at most before the lock is let go for a moment.
const BATCH_MAX: usize = 4096;
/// Part of the hold limit after which a walk lets the lock go.
const BATCH_HOLD_SHARE: i64 = 4;

/// How an SQLite file begins, which `sql` of Cyrus can be (its file format, section 1.3).
const SQLITE: &[u8] = b"SQLite format 3\0";

/// One cyrusdb file.
pub struct Database {
    place: Place,
    name: String,
    patience: Patience,
    locked: bool,
    hurry: Option<Time>,
    known: Option<Known>,
    /// Pages read since the last call of [`Database::take_reads`].
    reads: u64,
    longest_hold: Span,
}

/// What was learnt about the file at the last visit.
struct Known {
    stat: Stat,
    pages: Pages,
    db: Db,
}

/// A file that is locked until [`Visit::end`].
struct Visit {
    file: FileId,
    since: Time,
}

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

impl Database {
    /// The database in this file; nothing is opened yet. `name` is what it is called in errors.
    pub fn new(place: Place, name: &str, patience: Patience) -> Database {
        Database {
            place,
            name: String::from(name),
            patience,
            locked: true,
            hurry: None,
            known: None,
            reads: 0,
            longest_hold: Span(0),
        }
    }

    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Takes no locks from now on: no server runs on this spool, and its locks could not be asked for on a read-only disk.
    pub fn leave_unlocked(&mut self) {
        self.locked = false;
    }

    /// Gives up waiting for the lock at this time; `None`: as patience has it. For callers that hold other locks.
    pub fn hurry(&mut self, until: Option<Time>) {
        self.hurry = until;
    }

    /// The first `limit` entries of the file, whatever their order.
    pub async fn first(&mut self, io: &Io, limit: usize) -> Result<Vec<Entry>, Error> {
        let visit = self.begin(io).await?;
        let result = self.first_locked(io, &visit, limit).await;
        self.end(io, visit).await;
        result
    }

    async fn first_locked(&mut self, io: &Io, visit: &Visit, limit: usize) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        for order in [Order::Raw, Order::Mbox] {
            found.clear();
            let mut cursor = self.seek(io, visit, b"", order).await?;
            let damage = loop {
                match self.next(io, visit, &mut cursor).await {
                    Ok(Some(entry)) if found.len() < limit => found.push(entry),
                    Ok(_) => return Ok(found),
                    Err(Error::Damage(damage)) => break damage,
                    Err(error) => return Err(error),
                }
            };
            if order == Order::Mbox && found.is_empty() {
                return Err(damage.into());
            }
        }
        // Damage behind some good entries: whoever needs what is there will meet it.
        Ok(found)
    }

    /// How many pages were read since the last call.
    pub fn take_reads(&mut self) -> u64 {
        core::mem::take(&mut self.reads)
    }

    /// The longest time for which the lock was held.
    pub fn longest_hold(&self) -> Span {
        self.longest_hold
    }

    /// All entries that have one of `keys`, or begin with one of `prefixes`, as of one moment.
    ///
    /// `limit` bounds the number of entries; more is [`Error::Limit`].
    pub async fn lookup(
        &mut self,
        io: &Io,
        keys: &[Vec<u8>],
        prefixes: &[Vec<u8>],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let visit = self.begin(io).await?;
        let result = self.lookup_locked(io, &visit, keys, prefixes, order, limit).await;
        self.end(io, visit).await;
        result
    }

    async fn lookup_locked(
        &mut self,
        io: &Io,
        visit: &Visit,
        keys: &[Vec<u8>],
        prefixes: &[Vec<u8>],
        order: Order,
        limit: usize,
    ) -> Result<Vec<Entry>, Error> {
        let mut found = Vec::new();
        for key in keys {
            let mut cursor = self.seek(io, visit, key, order).await?;
            if let Some(entry) = self.next(io, visit, &mut cursor).await?
                && entry.0 == *key
            {
                found.push(entry);
            }
        }
        for prefix in prefixes {
            let mut cursor = self.seek(io, visit, prefix, order).await?;
            while let Some(entry) = self.next(io, visit, &mut cursor).await? {
                if !entry.0.starts_with(prefix) {
                    break;
                }
                if found.len() >= limit {
                    let object = alloc::format!("{}: entries of one user", self.name);
                    return Err(Error::Limit { object, limit: limit as u64, found: limit as u64 + 1 });
                }
                found.push(entry);
            }
        }
        Ok(found)
    }

    /// Gives every entry to `each`, in the file's order. The lock is let go now and then, so entries that come or go during the
    /// walk may or may not be seen; all others are, once.
    pub async fn walk(&mut self, io: &Io, order: Order, mut each: impl FnMut(&[u8], &[u8])) -> Result<(), Error> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let visit = self.begin(io).await?;
            let result = self.walk_some(io, &visit, order, &mut after, &mut each).await;
            self.end(io, visit).await;
            if result? {
                return Ok(());
            }
        }
    }

    /// Walks on from `after` until the end (true) or until it is time to let the lock go.
    async fn walk_some(
        &mut self,
        io: &Io,
        visit: &Visit,
        order: Order,
        after: &mut Option<Vec<u8>>,
        each: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<bool, Error> {
        let from = after.clone().unwrap_or_default();
        let mut cursor = self.seek(io, visit, &from, order).await?;
        for _ in 0..BATCH_MAX {
            let Some((key, value)) = self.next(io, visit, &mut cursor).await? else { return Ok(true) };
            if after.as_ref() == Some(&key) {
                continue;
            }
            each(&key, &value);
            *after = Some(key);
            if io.now().since(visit.since).0 > self.patience.hold.0 / BATCH_HOLD_SHARE {
                break;
            }
        }
        Ok(false)
    }

    async fn begin(&mut self, io: &Io) -> Result<Visit, Error> {
        let patient = io.now().plus(self.patience.wait);
        let deadline = self.hurry.map_or(patient, |until| until.min(patient));
        let file = if self.locked {
            lock::open_shared(io, &self.place, deadline).await?
        } else {
            let open = io.open(&self.place, How::Read).await;
            open.map_err(|fault| Error::world("open", self.place.shown(), fault))?
        };
        let visit = Visit { file, since: io.now() };
        match self.refresh(io, &visit).await {
            Ok(()) => Ok(visit),
            Err(error) => {
                self.end(io, visit).await;
                Err(error)
            }
        }
    }

    async fn end(&mut self, io: &Io, visit: Visit) {
        self.longest_hold = self.longest_hold.max(io.now().since(visit.since));
        lock::close(io, visit.file).await;
    }

    /// Keeps what is known if the file is the same as at the last visit, else reads its header.
    async fn refresh(&mut self, io: &Io, visit: &Visit) -> Result<(), Error> {
        let stat = io.fstat(visit.file).await.map_err(|fault| Error::world("stat", self.place.shown(), fault))?;
        let first = self.read_page(io, visit, 0).await?;
        if let Some(known) = &self.known
            && known.stat == stat
            && known.pages.page(0) == Some(&first[..])
        {
            return Ok(());
        }
        self.known = None;
        let mut pages = Pages::new(stat.size);
        pages.insert(0, first);
        loop {
            match Db::open(&self.name, &pages) {
                Ok(db) => {
                    self.known = Some(Known { stat, pages, db });
                    return Ok(());
                }
                Err(Trouble::Damage(_)) if pages.page(0).is_some_and(|page| page.starts_with(SQLITE)) => {
                    return Err(Error::Refused(alloc::format!(
                        "{}: an SQLite database is not supported; convert it with cvt_cyrusdb, and change imapd.conf",
                        self.place.shown()
                    )));
                }
                Err(Trouble::Damage(damage)) => return Err(damage.into()),
                Err(Trouble::Miss(miss)) => {
                    for page in miss.pages() {
                        let bytes = self.read_page(io, visit, page).await?;
                        pages.insert(page, bytes);
                    }
                }
            }
        }
    }

    async fn read_page(&mut self, io: &Io, visit: &Visit, page: u64) -> Result<Vec<u8>, Error> {
        self.reads += 1;
        let offset = page * PAGE_SIZE as u64;
        io.read_at(visit.file, offset, PAGE_SIZE, Vec::new())
            .await
            .map_err(|fault| Error::world("read", self.place.shown(), fault))
    }

    async fn seek(&mut self, io: &Io, visit: &Visit, key: &[u8], order: Order) -> Result<Cursor, Error> {
        self.with_pages(io, visit, |db, pages| db.seek(pages, key, order)).await
    }

    async fn next(&mut self, io: &Io, visit: &Visit, cursor: &mut Cursor) -> Result<Option<Entry>, Error> {
        self.with_pages(io, visit, |db, pages| db.next(pages, cursor)).await
    }

    /// Runs a pure reader, loading the pages that it misses, until it has what it needs.
    async fn with_pages<T>(
        &mut self,
        io: &Io,
        visit: &Visit,
        mut read: impl FnMut(&Db, &Pages) -> Result<T, Trouble>,
    ) -> Result<T, Error> {
        loop {
            let Some(known) = &self.known else {
                return Err(Error::Refused(alloc::format!("{}: not open", self.name)));
            };
            match read(&known.db, &known.pages) {
                Ok(value) => return Ok(value),
                Err(Trouble::Damage(damage)) => return Err(damage.into()),
                Err(Trouble::Miss(miss)) => {
                    for page in miss.pages() {
                        let bytes = self.read_page(io, visit, page).await?;
                        if let Some(known) = &mut self.known {
                            known.pages.insert(page, bytes);
                        }
                    }
                }
            }
        }
    }
}
