//! Seeking and walking in a file that is a skip list: what twoskip, skiplist and twom have in common.
//!
//! What must not come in: how a record looks.

use super::pages::View;
use super::{Cursor, Order, Trouble};
use crate::bytes::{be32, be64, le64};
use crate::escape::shown;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;

/// No kind of file has more levels.
const LEVELS_MAX: usize = 31;

/// A record and what it points to.
pub(super) struct Node<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    /// False if the entry has been deleted but its record is still in the list.
    pub live: bool,
    pub links: Links<'a>,
}

/// What stands at an offset that a pointer names.
pub(super) enum Spot<'a> {
    Node(Node<'a>),
    /// Nothing but the way to the next record of the lowest level.
    Detour(u64),
}

/// The pointers of a record. Those of 64 bits have two of the lowest level.
#[derive(Clone, Copy)]
pub(super) enum Links<'a> {
    Be32(&'a [u8]),
    Be64(&'a [u8]),
    Le64(&'a [u8]),
}

impl Links<'_> {
    fn height(self) -> usize {
        match self {
            Links::Be32(b) => b.len() / 4,
            Links::Be64(b) | Links::Le64(b) => (b.len() / 8).saturating_sub(1),
        }
    }

    /// The next record at `level`, of those that lie before `end`; 0 at the end of the list. `None` if only an unfinished
    /// transaction knows.
    ///
    /// Of two pointers of the lowest level the larger one is in force, unless it leads behind the end of what is committed; a
    /// transaction changes the other one (`_getloc` and `_setloc` in twoskip).
    fn next(self, level: usize, end: u64) -> Option<u64> {
        let committed = |at: u64| Some(at).filter(|at| *at < end);
        let pointer = |i: usize| match self {
            Links::Be32(b) => u64::from(be32(b, i * 4)),
            Links::Be64(b) => be64(b, i * 8),
            Links::Le64(b) => le64(b, i * 8),
        };
        match self {
            _ if level >= self.height() => None,
            Links::Be32(_) => committed(pointer(level)),
            _ if level > 0 => committed(pointer(level + 1)),
            _ => committed(pointer(0)).max(committed(pointer(1))),
        }
    }
}

/// A file whose records make a skip list.
pub(super) trait SkipList {
    /// Offset of the record before all others.
    fn start(&self) -> u64;

    /// The record at `at`.
    fn spot<'b>(&self, view: &View<'b>, at: u64, scratch: &'b mut Vec<u8>) -> Result<Spot<'b>, Trouble>;

    /// Which of two keys comes first.
    fn compare(&self, order: Order, a: &[u8], b: &[u8]) -> Ordering {
        order.compare(a, b)
    }

    /// True if `b` may follow `a`, where `a` is followed by `b` in the file.
    fn may_follow(&self, order: Order, a: &[u8], b: &[u8]) -> bool {
        self.compare(order, a, b).is_lt()
    }
}

/// The record from which a search goes on.
struct Stand {
    at: u64,
    /// `None` before all others.
    key: Option<Vec<u8>>,
    next: [Option<u64>; LEVELS_MAX],
    height: usize,
}

impl Stand {
    fn on(at: u64, key: Option<&[u8]>, links: Links, end: u64) -> Stand {
        let height = links.height().min(LEVELS_MAX);
        let mut next = [None; LEVELS_MAX];
        for (level, next) in next[..height].iter_mut().enumerate() {
            *next = links.next(level, end);
        }
        Stand { at, key: key.map(<[u8]>::to_vec), next, height }
    }
}

/// The record at `at`, which must not be that before all others.
fn spot_behind<'b>(list: &impl SkipList, view: &View<'b>, at: u64, scratch: &'b mut Vec<u8>) -> Result<Spot<'b>, Trouble> {
    if at <= list.start() {
        return Err(view.damage(at, "pointer", at, "an entry"));
    }
    list.spot(view, at, scratch)
}

fn broken(view: &View, at: u64) -> Trouble {
    view.damage(at, "pointer of the lowest level", "only pointers behind the end of what is committed", "one before it")
}

pub(super) fn disorder(view: &View, at: u64, key: &[u8], last: &[u8]) -> Trouble {
    let cut = |key: &[u8]| shown(&key[..key.len().min(200)]);
    let expected: String = alloc::format!("a key behind {}", cut(last));
    view.damage(at, "key", cut(key), expected)
}

/// The place before the first record whose key is `key` or comes after it.
pub(super) fn seek(list: &impl SkipList, view: &View, key: &[u8], order: Order) -> Result<Cursor, Trouble> {
    let mut scratch = Vec::new();
    let start = list.start();
    let Spot::Node(first) = list.spot(view, start, &mut scratch)? else { return Err(broken(view, start)) };
    let mut stand = Stand::on(start, None, first.links, view.end);
    let mut cursor = Cursor::new(order, 0, view);
    // Before the empty key there is nothing, so nothing needs to be looked at.
    let mut level = if key.is_empty() { 0 } else { stand.height };
    // Where a record lies that is known not to come before `key`.
    let mut behind = 0;
    while level > 0 {
        let next = match stand.next[level - 1] {
            Some(next) if next != 0 && next != behind => next,
            None if level == 1 => return Err(broken(view, stand.at)),
            _ => {
                level -= 1;
                continue;
            }
        };
        cursor.at = next;
        cursor.step(view)?;
        match spot_behind(list, view, next, &mut scratch)? {
            Spot::Detour(to) if level == 1 => stand.next[0] = Some(to),
            Spot::Detour(_) => return Err(view.damage(next, "record", "a deletion", "an entry, as this is a higher level")),
            Spot::Node(node) if node.links.height() < level => {
                return Err(view.damage(next, "level", node.links.height(), alloc::format!("at least {level}")));
            }
            Spot::Node(node) => {
                if let Some(last) = &stand.key
                    && !list.may_follow(order, last, node.key)
                {
                    return Err(disorder(view, next, node.key, last));
                }
                if list.compare(order, node.key, key).is_lt() {
                    stand = Stand::on(next, Some(node.key), node.links, view.end);
                } else {
                    behind = next;
                    level -= 1;
                }
            }
        }
    }
    cursor.at = stand.next[0].ok_or_else(|| broken(view, stand.at))?;
    cursor.last = stand.key;
    Ok(cursor)
}

/// The entry after `cursor`; false at the end.
pub(super) fn next(
    list: &impl SkipList,
    view: &View,
    cursor: &mut Cursor,
    key: &mut Vec<u8>,
    value: &mut Vec<u8>,
) -> Result<bool, Trouble> {
    let mut scratch = Vec::new();
    while cursor.at != 0 {
        let at = cursor.at;
        // A place moves over what is deleted even if a page is missed later: it is still before the same entry.
        let (live, next) = match spot_behind(list, view, at, &mut scratch)? {
            Spot::Detour(to) => (false, to),
            Spot::Node(node) => {
                if let Some(last) = &cursor.last
                    && !list.may_follow(cursor.order, last, node.key)
                {
                    return Err(disorder(view, at, node.key, last));
                }
                let next = node.links.next(0, view.end).ok_or_else(|| broken(view, at))?;
                if node.live {
                    key.clear();
                    key.extend_from_slice(node.key);
                    value.clear();
                    value.extend_from_slice(node.value);
                }
                cursor.passed(node.key);
                (node.live, next)
            }
        };
        cursor.step(view)?;
        cursor.at = next;
        if live {
            return Ok(true);
        }
    }
    Ok(false)
}
