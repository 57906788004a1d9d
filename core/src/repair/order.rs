//! Where the commits of a file go in a new one. They are known by their numbers and their tables by SHA-1, wherever they stand:
//! parts of a file may have changed places, and a record or a table may be lost.
//!
//! What must not come in: reading and writing.

use super::scan::{From, Point};
use crate::archive::record::{Commit, CommitKind, StateContent, Table};
use crate::backup::folder_dir;
use crate::guid::{Guid, Sha1};
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

/// A record that is whole.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// Number of its entry.
    pub(super) at: usize,
    pub(super) commit: Commit,
    /// SHA-1 of its text.
    pub(super) sha1: Guid,
    /// Its bytes in the file.
    pub(super) bytes: (u64, u64),
}

/// A folder table that is whole.
#[derive(Clone, Debug)]
pub(super) struct TableAt {
    /// Number of its entry.
    pub(super) at: usize,
    pub(super) sha1: Guid,
    /// Its bytes in the file.
    pub(super) bytes: (u64, u64),
    /// When it was written, in whole seconds.
    pub(super) time: Time,
    /// Number of the last of the entries to which it points, as far as they stand before it.
    pub(super) needs: usize,
    /// The others.
    pub(super) late: Vec<Guid>,
}

/// Names an entry of metadata for whoever looks for it: its name and its SHA-1.
pub(super) fn key(name: &[u8], sha1: &Guid) -> Guid {
    let mut hash = Sha1::new();
    hash.update(&sha1.0);
    hash.update(name);
    hash.finish()
}

/// The keys of all entries to which a table points.
pub(super) fn keys(table: &Table) -> impl Iterator<Item = Guid> {
    let files = table.folders.iter().flat_map(|row| {
        let dir = folder_dir(&row.id);
        row.files.iter().map(move |file| key(format!("folders/{dir}/{}", file.name).as_bytes(), &file.sha1))
    });
    let states = table.states.iter().map(|row| match &row.content {
        StateContent::File { sha1, .. } => key(&row.name, sha1),
        StateContent::Link { target, .. } => key(&row.name, &Guid::of(target)),
    });
    files.chain(states)
}

/// What comes of records and tables.
#[derive(Default)]
pub(super) struct Order {
    /// Commits in order of their numbers.
    pub(super) points: Vec<Point>,
    /// Commits whose record or table must be made anew: bytes of what is there, number, and what is wrong.
    pub(super) rebuilt: Vec<((u64, u64), u64, &'static str)>,
    /// Records of a number that another one has: their bytes, and the number.
    pub(super) doubles: Vec<((u64, u64), u64)>,
    /// Bytes of tables for which there is no commit.
    pub(super) unclaimed: Vec<(u64, u64)>,
}

/// Puts commits in order. `entries` are the numbers of metadata entries by their keys, `last` is the number of the last entry.
pub(super) fn order(
    mut records: Vec<Record>,
    tables: &[TableAt],
    entries: &BTreeMap<Guid, usize>,
    last: usize,
    like: impl Fn(Option<&Commit>, CommitKind, Option<Time>, u64) -> Commit,
) -> Order {
    let mut order = Order::default();
    records.sort_by_key(|record| (record.commit.number, record.at));
    let named: BTreeSet<Guid> = records.iter().filter_map(|r| r.commit.previous.map(|part| part.sha1)).collect();
    // Of two records with one number, the one that the next commit names.
    records.sort_by_key(|record| (record.commit.number, !named.contains(&record.sha1)));
    records.dedup_by(|second, first| {
        let is_double = second.commit.number == first.commit.number;
        if is_double {
            order.doubles.push((second.bytes, second.commit.number));
        }
        is_double
    });
    let mut free: BTreeSet<usize> = (0..tables.len()).collect();
    let after_of = |table: &TableAt| {
        let late = table.late.iter().filter_map(|key| entries.get(key)).copied();
        late.fold(table.needs.max(table.at), usize::max)
    };
    let stands: Vec<usize> = records.iter().map(|record| record.at).collect();
    for record in records {
        let (after, from) = match (record.commit.kind, record.commit.table) {
            (CommitKind::Checkpoint, _) => (record.at, From::Nowhere),
            (CommitKind::Snapshot, part) => match claim(tables, &mut free, part.map(|part| part.sha1), record.at) {
                Some(table) => (after_of(table), From::Entry(table.at)),
                None => {
                    order.rebuilt.push((record.bytes, record.commit.number, "its folder table is not there"));
                    (record.at, From::Entries)
                }
            },
        };
        order.points.push(Point { after, commit: record.commit, table: from });
    }
    settle(&mut order.points, &stands, last);
    for n in free {
        let table = &tables[n];
        let after = after_of(table);
        let place = order.points.partition_point(|point| point.after < after);
        let before = place.checked_sub(1).map(|n| &order.points[n].commit);
        let number = before.map_or(0, |commit| commit.number.saturating_add(1));
        if order.points.get(place).is_some_and(|next| next.commit.number <= number) {
            order.unclaimed.push(table.bytes);
            continue;
        }
        let commit = like(before, CommitKind::Snapshot, Some(table.time), number);
        order.rebuilt.push((table.bytes, number, "its record is not there"));
        order.points.insert(place, Point { after, commit, table: From::Entry(table.at) });
    }
    order
}

/// The table of this SHA-1 that stands right before the record, or else any; nobody else has it then, if there are others.
fn claim<'a>(tables: &'a [TableAt], free: &mut BTreeSet<usize>, sha1: Option<Guid>, at: usize) -> Option<&'a TableAt> {
    let is_it = |n: &&usize| Some(tables[**n].sha1) == sha1;
    let before = free.iter().rev().find(|n| is_it(n) && tables[**n].at < at).copied();
    match before.or_else(|| free.iter().find(is_it).copied()) {
        Some(n) => {
            free.remove(&n);
            Some(&tables[n])
        }
        None => tables.iter().find(|table| Some(table.sha1) == sha1),
    }
}

/// Lets commits follow each other: each stays where its record stands, if what it needs is before that and the next commit is
/// behind it; otherwise it goes where it has what it needs.
fn settle(points: &mut [Point], stands: &[usize], last: usize) {
    let mut next = last;
    for (point, &stands) in points.iter_mut().zip(stands).rev() {
        let needs = if matches!(point.table, From::Entry(_)) { point.after } else { 0 };
        point.after = match (needs <= stands, stands <= next) {
            (true, true) => stands,
            (true, false) if needs == 0 => next,
            _ => needs,
        };
        next = next.min(point.after);
    }
    let mut before = 0;
    for point in points {
        before = before.max(point.after);
        point.after = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(table: From, after: usize) -> Point {
        Point { after, commit: Commit::blank([0; 16], Time::ZERO, "test"), table }
    }

    /// Where commits go that need these entries and whose records stand there.
    fn settled(those: &[(Option<usize>, usize)], last: usize) -> Vec<usize> {
        let make = |&(needs, stands): &(Option<usize>, usize)| match needs {
            Some(needs) => point(From::Entry(needs), needs),
            None => point(From::Nowhere, stands),
        };
        let mut points: Vec<Point> = those.iter().map(make).collect();
        let stands: Vec<usize> = those.iter().map(|&(_, stands)| stands).collect();
        settle(&mut points, &stands, last);
        points.iter().map(|point| point.after).collect()
    }

    #[test]
    fn commits_in_order_stay_where_they_stand() {
        assert_eq!(settled(&[(None, 1), (Some(8), 9), (None, 12), (Some(20), 21)], 21), [1, 9, 12, 21]);
    }

    #[test]
    fn a_commit_whose_record_stands_elsewhere_goes_where_its_table_is() {
        assert_eq!(settled(&[(None, 1), (Some(8), 29), (Some(18), 19), (Some(28), 9)], 29), [1, 8, 19, 28]);
        // A checkpoint has no table.
        assert_eq!(settled(&[(None, 25), (Some(8), 9)], 25), [9, 9]);
    }

    #[test]
    fn a_table_that_points_to_what_stands_behind_it_waits_for_that() {
        assert_eq!(settled(&[(Some(40), 9), (Some(18), 19), (None, 45)], 45), [40, 40, 45]);
    }
}
