//! Tests of all kinds of file together.

use super::pages::PAGE_SIZE;
use super::*;
use crate::bytes::{put_be32, put_be64};
use crate::escape::unpercent;
use alloc::collections::BTreeSet;
use alloc::string::ToString;
use alloc::vec;

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/data/cyrus/db/", $name))
    };
}

/// Where a file that a library wrote comes from: its bytes, its content, its order.
struct Real {
    name: &'static str,
    bytes: &'static [u8],
    entries: Vec<Entry>,
    order: Order,
    kind: Kind,
}

impl Real {
    /// True if every byte that is read is covered by a checksum.
    fn is_checked(&self) -> bool {
        matches!(self.kind, Kind::Twoskip | Kind::Twom)
    }
}

/// `key SP value`, percent-encoded.
fn encoded(lines: &[u8]) -> Vec<Entry> {
    let line = |line: &[u8]| {
        let at = line.iter().position(|&b| b == b' ').unwrap();
        (unpercent(&line[..at]).unwrap(), unpercent(&line[at + 1..]).unwrap())
    };
    lines.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(line).collect()
}

/// What `cyr_dbtool show` prints.
fn shown_by_dbtool(lines: &[u8]) -> Vec<Entry> {
    let line = |line: &[u8]| {
        let at = line.iter().position(|&b| b == b'\t').unwrap();
        (line[..at].to_vec(), line[at + 1..].to_vec())
    };
    lines.split(|&b| b == b'\n').filter(|l| !l.is_empty()).map(line).collect()
}

fn real_files() -> Vec<Real> {
    macro_rules! real {
        ($name:literal, $expected:literal, $read:ident, $order:ident, $kind:ident) => {
            Real { name: $name, bytes: data!($name), entries: $read(data!($expected)), order: Order::$order, kind: Kind::$kind }
        };
    }
    vec![
        real!("mailboxes.twoskip.db", "mailboxes.expected.txt", shown_by_dbtool, Raw, Twoskip),
        real!("mailboxes.skiplist.db", "mailboxes.expected.txt", shown_by_dbtool, Raw, Skiplist),
        real!("mailboxes.flat.db", "mailboxes.expected.txt", shown_by_dbtool, Raw, Flat),
        real!("annotations.twoskip.db", "annotations.expected.txt", shown_by_dbtool, Raw, Twoskip),
        real!("bob.smith.seen.twoskip", "bob.smith.seen.expected.txt", shown_by_dbtool, Raw, Twoskip),
        real!("bob.smith.seen.skiplist", "bob.smith.seen.expected.txt", shown_by_dbtool, Raw, Skiplist),
        real!("bob.smith.seen.flat", "bob.smith.seen.expected.txt", shown_by_dbtool, Raw, Flat),
        real!("anna.sub.v2", "anna.sub.v2", shown_by_dbtool, Raw, Flat),
        real!("twoskip.db", "twoskip.db.expected.txt", encoded, Raw, Twoskip),
        real!("twoskip-dirty.db", "twoskip.db.expected.txt", encoded, Raw, Twoskip),
        real!("twoskip-mbox.db", "twoskip-mbox.db.expected.txt", encoded, Mbox, Twoskip),
        real!("twoskip-mbox-dirty.db", "twoskip-mbox.db.expected.txt", encoded, Mbox, Twoskip),
        real!("skiplist.db", "skiplist.db.expected.txt", encoded, Raw, Skiplist),
        real!("skiplist-dirty.db", "skiplist.db.expected.txt", encoded, Raw, Skiplist),
        real!("skiplist-repacked.db", "skiplist-repacked.db.expected.txt", encoded, Raw, Skiplist),
        real!("skiplist-repacked-dirty.db", "skiplist-repacked.db.expected.txt", encoded, Raw, Skiplist),
        real!("skiplist-mbox.db", "skiplist-mbox.db.expected.txt", encoded, Mbox, Skiplist),
        real!("skiplist-mbox-dirty.db", "skiplist-mbox.db.expected.txt", encoded, Mbox, Skiplist),
        real!("flat.db", "flat.db.expected.txt", encoded, Raw, Flat),
        real!("twom.db", "twom.db.expected.txt", encoded, Raw, Twom),
        real!("twom-dirty.db", "twom.db.expected.txt", encoded, Raw, Twom),
    ]
}

/// A file that is loaded as it is asked for.
struct Lazy<'a> {
    bytes: &'a [u8],
    pages: Pages,
    loaded: usize,
}

impl<'a> Lazy<'a> {
    fn new(bytes: &'a [u8]) -> Lazy<'a> {
        let mut pages = Pages::new(bytes.len() as u64);
        pages.insert(0, bytes[..bytes.len().min(PAGE_SIZE)].to_vec());
        Lazy { bytes, pages, loaded: 1 }
    }

    fn read<T>(&mut self, mut read: impl FnMut(&Pages) -> Result<T, Trouble>) -> Result<T, Damage> {
        loop {
            match read(&self.pages) {
                Ok(value) => return Ok(value),
                Err(Trouble::Damage(damage)) => return Err(damage),
                Err(Trouble::Miss(miss)) => {
                    for n in miss.pages() {
                        assert!(self.pages.page(n).is_none(), "a page that is here was missed");
                        let at = n as usize * PAGE_SIZE;
                        self.pages.insert(n, self.bytes[at..self.bytes.len().min(at + PAGE_SIZE)].to_vec());
                        self.loaded += 1;
                    }
                }
            }
        }
    }

    fn walk(&mut self, order: Order) -> Result<Vec<Entry>, Damage> {
        let db = self.read(|pages| Db::open("x", pages))?;
        let mut cursor = self.read(|pages| db.seek(pages, b"", order))?;
        let mut out = Vec::new();
        while let Some(entry) = self.read(|pages| db.next(pages, &mut cursor))? {
            out.push(entry);
        }
        Ok(out)
    }
}

fn walk(bytes: &[u8], order: Order) -> Result<Vec<Entry>, Damage> {
    Lazy::new(bytes).walk(order)
}

/// The entry at or after `key`, with everything in memory.
fn find(db: &Db, pages: &Pages, key: &[u8], order: Order) -> Result<Option<Entry>, Trouble> {
    let mut cursor = db.seek(pages, key, order)?;
    db.next(pages, &mut cursor)
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}

#[test]
fn real_files_give_what_cyrus_gives() {
    for real in real_files() {
        let pages = Pages::whole(real.bytes);
        assert_eq!(Db::open(real.name, &pages).unwrap().kind(), real.kind, "{}", real.name);
        let entries = walk(real.bytes, real.order).unwrap();
        assert_eq!(entries, real.entries, "{}", real.name);
    }
}

#[test]
fn real_files_of_other_servers_are_read() {
    let keys = |bytes: &[u8]| walk(bytes, Order::Raw).unwrap().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(data!("mailboxes-3.2.6.db")), [&b"user.anna"[..], b"user.anna.Fix"]);
    assert_eq!(keys(data!("mailboxes-3.10.2.db")).len(), 4);
    assert_eq!(keys(data!("mailboxes-3.12.4.db")).len(), 4);
    let conversations = keys(data!("anna.conversations.skiplist"));
    assert_eq!(conversations.len(), 65);
    assert!(conversations.is_sorted());
}

#[test]
fn every_key_of_the_real_files_is_found() {
    for real in real_files() {
        let pages = Pages::whole(real.bytes);
        let db = Db::open(real.name, &pages).unwrap();
        for (i, entry) in real.entries.iter().enumerate() {
            let mut cursor = db.seek(&pages, &entry.0, real.order).unwrap();
            assert_eq!(db.next(&pages, &mut cursor).unwrap().as_ref(), Some(entry), "{}", real.name);
            assert_eq!(db.next(&pages, &mut cursor).unwrap().as_ref(), real.entries.get(i + 1), "{}", real.name);
        }
    }
}

#[test]
fn an_unfinished_transaction_is_told() {
    for real in real_files() {
        let mut text = String::new();
        describe(real.name, &Pages::whole(real.bytes), &mut text).unwrap();
        let is_dirty = text.contains("state: dirty") || text.contains("state: the log's end");
        assert_eq!(is_dirty, real.name.contains("dirty"), "{text}");
        assert!(!text.contains("damaged"), "{text}");
        assert_eq!(text.lines().skip_while(|l| !l.is_empty()).count(), real.entries.len() + 1, "{text}");
        let mbox_order = real.name.contains("mbox") || real.kind == Kind::Flat;
        assert_eq!(text.contains("order: '.' first"), mbox_order, "{text}");
    }
}

/// Keys of mailboxes and of odd bytes.
fn many_entries(count: usize, odd_bytes: bool) -> Vec<Entry> {
    let mut dice = Dice(count as u64);
    let mut keys = BTreeSet::new();
    while keys.len() < count {
        let mut key = b"user".to_vec();
        for _ in 0..=dice.roll(3) {
            let separator = if odd_bytes { dice.roll(256) as u8 } else { b".-a/ "[dice.roll(5)] };
            key.push(separator.max(1));
            key.extend(dice.roll(200).to_string().bytes());
        }
        keys.insert(key);
    }
    keys.into_iter().map(|key| (key.clone(), [b"%(I ", &key[..], b" P default A %(anna lrswipkxtecdan))"].concat())).collect()
}

fn sorted(mut entries: Vec<Entry>, compare: impl Fn(&[u8], &[u8]) -> Ordering) -> Vec<Entry> {
    entries.sort_by(|a, b| compare(&a.0, &b.0));
    entries
}

fn signed(a: &[u8], b: &[u8]) -> Ordering {
    let flip = |key: &[u8]| key.iter().map(|b| b ^ 0x80).collect::<Vec<u8>>();
    flip(a).cmp(&flip(b))
}

/// Compares random seeks, and some steps behind each, with a list of the entries in the order of `compare`.
fn check_seeks(bytes: &[u8], entries: &[Entry], order: Order, compare: impl Fn(&[u8], &[u8]) -> Ordering) {
    let pages = Pages::whole(bytes);
    let db = Db::open("x", &pages).unwrap();
    let mut dice = Dice(1);
    // With no byte above 0x7F in the file, nobody knows where such a key belongs.
    let sides = if entries.iter().all(|(key, _)| key.is_ascii()) { 127 } else { 255 };
    for _ in 0..2000 {
        let mut key = entries[dice.roll(entries.len())].0.clone();
        match dice.roll(4) {
            0 => {}
            1 => key.truncate(dice.roll(key.len())),
            2 => key.push(dice.roll(sides) as u8 + 1),
            _ => {
                let at = dice.roll(key.len());
                key[at] = dice.roll(sides) as u8 + 1;
            }
        }
        if db.kind() == Kind::Flat && key.iter().any(|b| matches!(b, b'\t' | b'\n' | b'\r' | 0xFF)) {
            // Sorted by their escapes.
            continue;
        }
        let from = entries.partition_point(|(k, _)| compare(k, &key).is_lt());
        let mut cursor = db.seek(&pages, &key, order).unwrap();
        for expected in (from..from + 4).map(|i| entries.get(i)) {
            assert_eq!(db.next(&pages, &mut cursor).unwrap().as_ref(), expected, "{} {}", db.kind().name(), Shown(&key));
        }
    }
    let mut cursor = db.seek(&pages, b"", order).unwrap();
    for entry in entries {
        assert_eq!(db.next(&pages, &mut cursor).unwrap().as_ref(), Some(entry));
    }
    assert_eq!(db.next(&pages, &mut cursor), Ok(None));
}

#[test]
fn seeks_agree_with_a_list_of_all_entries_in_every_kind_of_file_and_order() {
    for odd_bytes in [false, true] {
        let entries = many_entries(10_000, odd_bytes);
        let raw = |a: &[u8], b: &[u8]| a.cmp(b);
        let mbox = |a: &[u8], b: &[u8]| Order::Mbox.compare(a, b);
        let by_raw = sorted(entries.clone(), raw);
        let by_mbox = sorted(entries.clone(), mbox);
        let by_signed = sorted(entries, signed);
        check_seeks(&twoskip::emit(&by_raw, 1), &by_raw, Order::Raw, raw);
        check_seeks(&twoskip::emit(&by_mbox, 1), &by_mbox, Order::Mbox, mbox);
        check_seeks(&skiplist::emit(&by_raw).unwrap(), &by_raw, Order::Raw, raw);
        check_seeks(&skiplist::emit(&by_signed).unwrap(), &by_signed, Order::Raw, signed);
        check_seeks(&skiplist::emit(&by_mbox).unwrap(), &by_mbox, Order::Mbox, mbox);
        if !odd_bytes {
            check_seeks(&flat::emit(&by_mbox), &by_mbox, Order::Mbox, mbox);
        }
    }
}

#[test]
fn a_log_without_a_commit_at_its_end_gives_the_same_by_replay() {
    let entries = many_entries(2000, true);
    for compare in [signed, |a: &[u8], b: &[u8]| a.cmp(b)] {
        let entries = sorted(entries.clone(), compare);
        let mut bytes = skiplist::emit(&entries).unwrap();
        bytes.extend(2u32.to_be_bytes());
        check_seeks(&bytes, &entries, Order::Raw, compare);
    }
}

/// Appends the record of an addition to a skiplist log; answers where it begins.
fn log_add(bytes: &mut Vec<u8>, key: &[u8], value: &[u8]) -> usize {
    let at = bytes.len();
    bytes.extend(2u32.to_be_bytes());
    for part in [key, value] {
        bytes.extend((part.len() as u32).to_be_bytes());
        bytes.extend(part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes.extend([0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF]);
    at
}

#[test]
fn a_replay_knows_the_odd_logs_that_cyrus_knows() {
    let pair = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    let mut bytes = skiplist::emit(&[pair("b", "old"), pair("d", "dead"), pair("f", "stays")]).unwrap();
    let dead = bytes.windows(4).position(|w| w == b"dead").unwrap() - 16;
    // An addition of a key that is there, a deletion, zeros that an old recovery left, an addition twice.
    log_add(&mut bytes, b"b", b"new");
    bytes.extend([4u32.to_be_bytes(), (dead as u32).to_be_bytes(), 255u32.to_be_bytes()].as_flattened());
    bytes.extend([0; 12]);
    log_add(&mut bytes, b"a", b"first");
    log_add(&mut bytes, b"a", b"second");
    bytes.extend(255u32.to_be_bytes());
    let committed = [pair("a", "second"), pair("b", "new"), pair("f", "stays")];
    log_add(&mut bytes, b"c", b"never");
    assert_eq!(walk(&bytes, Order::Raw).unwrap(), committed);
    bytes.extend(7u32.to_be_bytes());
    assert_eq!(walk(&bytes, Order::Raw).unwrap_err().field, "record type");
}

/// What a skiplist file has committed, by the simplest means: from its first record to its last.
fn replayed(bytes: &[u8]) -> Vec<Entry> {
    let word = |at: usize| crate::bytes::be32(bytes, at) as usize;
    let (mut live, mut pending) = (Vec::new(), Vec::new());
    let mut at = 48;
    while at + 4 <= bytes.len() {
        let (kind, start) = (word(at), at);
        match kind {
            255 => {
                for (added, offset, entry) in pending.drain(..) {
                    live.retain(|(o, _): &(usize, Entry)| added || *o != offset);
                    if added {
                        live.push((offset, entry));
                    }
                }
                at += 4;
                continue;
            }
            4 if at + 8 <= bytes.len() => {
                pending.push((false, word(at + 4), Entry::default()));
                at += 8;
                continue;
            }
            4 => break,
            _ => {}
        }
        let mut part = || {
            at += 4;
            let len = if at + 4 <= bytes.len() { word(at) } else { bytes.len() };
            let text = bytes.get(at + 4..(at + 4).saturating_add(len)).map(<[u8]>::to_vec);
            at = (at + len.next_multiple_of(4)).min(bytes.len());
            text
        };
        let (Some(key), Some(value)) = (part(), part()) else { break };
        at += 4;
        while at + 4 <= bytes.len() && word(at) != 0xFFFF_FFFF {
            at += 4;
        }
        at += 4;
        match kind {
            _ if at > bytes.len() => break,
            1 => live.push((start, (key, value))),
            2 => pending.push((true, start, (key, value))),
            _ => {}
        }
    }
    sorted(live.into_iter().map(|(_, entry)| entry).collect(), signed)
}

#[test]
fn a_skiplist_log_cut_anywhere_gives_what_was_committed() {
    let mut seen = 0;
    for real in real_files().iter().filter(|r| r.kind == Kind::Skiplist && r.order == Order::Raw) {
        assert_eq!(replayed(real.bytes), real.entries, "{}", real.name);
        let log_start = crate::bytes::be32(real.bytes, 40) as usize;
        for len in log_start..real.bytes.len() {
            let cut = &real.bytes[..len];
            // At a commit, the file looks whole, but its pointers are those of a later time.
            if len == log_start || (len % 4 == 0 && cut.ends_with(&[0, 0, 0, 255])) {
                continue;
            }
            assert_eq!(walk(cut, Order::Raw).unwrap(), replayed(cut), "{} {len}", real.name);
            seen += 1;
        }
    }
    assert!(seen > 10_000);
}

#[test]
fn no_cut_and_no_flipped_bit_makes_a_reader_panic_or_run_for_ever_and_checksums_find_all() {
    let mut dice = Dice(3);
    for real in real_files() {
        // All of the small files, parts of the large ones.
        let stride = real.bytes.len() / 500 + 1;
        for part in 0..real.bytes.len() / stride {
            let len = part * stride + dice.roll(stride);
            if let Ok(entries) = walk(&real.bytes[..len], real.order)
                && real.is_checked()
            {
                // Only what lies behind the committed part may be missing.
                assert!(len == 0 || entries == real.entries, "{} {len}", real.name);
            }
        }
        for part in 0..real.bytes.len() / stride {
            let at = part * stride + dice.roll(stride);
            let mut bytes = real.bytes.to_vec();
            bytes[at] ^= 1 << dice.roll(8);
            let pages = Pages::whole(&bytes);
            let key = &real.entries[dice.roll(real.entries.len())].0;
            let found = Db::open("x", &pages).and_then(|db| find(&db, &pages, key, real.order));
            let walked = walk(&bytes, real.order);
            // Without its magic, it is a file of another kind.
            if real.is_checked() && at >= 16 {
                let expected = real.entries.iter().find(|(k, _)| k == key);
                assert!(found.is_err() || found == Ok(expected.cloned()), "{} {at}", real.name);
                assert!(walked.is_err() || walked == Ok(real.entries.clone()), "{} {at}", real.name);
            }
        }
    }
}

#[test]
fn bytes_that_hold_no_database_are_damage() {
    let mut dice = Dice(5);
    for magic in [&b""[..], twoskip::MAGIC, skiplist::MAGIC, twom::MAGIC, &MAGIC_START] {
        for _ in 0..2000 {
            let tail = (0..dice.roll(500)).map(|_| if dice.roll(3) == 0 { dice.roll(256) as u8 } else { 0 });
            let bytes: Vec<u8> = magic.iter().copied().chain(tail).chain([0]).collect();
            assert!(walk(&bytes, Order::Raw).is_err(), "{}", Shown(&bytes));
        }
    }
}

#[test]
fn an_empty_file_is_an_empty_database() {
    assert_eq!(walk(b"", Order::Raw), Ok(Vec::new()));
    assert_eq!(walk(&twoskip::emit(&[], 7), Order::Raw), Ok(Vec::new()));
    assert_eq!(walk(&skiplist::emit(&[]).unwrap(), Order::Raw), Ok(Vec::new()));
    assert_eq!(walk(&flat::emit(&[]), Order::Raw), Ok(Vec::new()));
}

#[test]
fn a_seek_in_a_large_twoskip_file_reads_few_pages() {
    let entries: Vec<Entry> = (0..200_000)
        .map(|i| {
            let key = format!("Nuser\x1fuser{i:06}\x1fFolder").into_bytes();
            (key, vec![b'v'; 120 + i % 60])
        })
        .collect();
    let bytes = twoskip::emit(&entries, 1);
    let mut dice = Dice(9);
    let mut most = 0;
    for _ in 0..200 {
        let i = dice.roll(entries.len());
        let mut lazy = Lazy::new(&bytes);
        let db = lazy.read(|pages| Db::open("x", pages)).unwrap();
        let mut cursor = lazy.read(|pages| db.seek(pages, &entries[i].0, Order::Raw)).unwrap();
        assert_eq!(lazy.read(|pages| db.next(pages, &mut cursor)).unwrap().as_ref(), Some(&entries[i]));
        most = most.max(lazy.loaded);
    }
    assert!(most <= 20, "{most} pages of {}", bytes.len().div_ceil(PAGE_SIZE));
    let mut lazy = Lazy::new(&bytes);
    assert!(lazy.walk(Order::Raw).unwrap() == entries);
    assert_eq!(lazy.loaded, bytes.len().div_ceil(PAGE_SIZE), "each page is loaded once");
    assert!(lazy.pages.held() <= pages::HELD_MAX && bytes.len() > 2 * pages::HELD_MAX);
}

#[test]
fn entries_that_span_pages_are_whole() {
    let entries: Vec<Entry> = (1..40).map(|i| (vec![b'a' + i as u8; 10 + i * 97], vec![i as u8 | 0x80; i * i * 211])).collect();
    let entries = sorted(entries, |a, b| a.cmp(b));
    let long = vec![(vec![b'k'; 70_000], vec![b'v'; 3_000_000])];
    for entries in [entries, long] {
        assert!(walk(&twoskip::emit(&entries, 1), Order::Raw).unwrap() == entries);
        assert!(walk(&skiplist::emit(&entries).unwrap(), Order::Raw).unwrap() == entries);
        let pages = Pages::whole(&flat::emit(&entries));
        let db = Db::open("x", &pages).unwrap();
        for entry in &entries {
            assert!(find(&db, &pages, &entry.0, Order::Raw).unwrap().as_ref() == Some(entry));
        }
    }
}

#[test]
fn a_length_beyond_the_limit_is_damage_and_allocates_nothing() {
    let entries = vec![(b"k".to_vec(), b"v".to_vec())];
    let mut bytes = skiplist::emit(&entries).unwrap();
    let at = bytes.len() - 4 * 7;
    assert_eq!(bytes[at + 4..at + 9], *b"\0\0\0\x01k");
    put_be32(&mut bytes, at + 4, ENTRY_MAX as u32 + 1);
    let damage = walk(&bytes, Order::Raw).unwrap_err();
    assert_eq!((damage.field, damage.offset), ("key length", at as u64 + 4));

    let mut bytes = twoskip::emit(&entries, 1);
    let at = bytes.windows(8).position(|w| w == b"+\x01\0\x01\0\0\0\x01").unwrap();
    put_be32(&mut bytes, at + 4, u32::MAX - 1);
    let damage = walk(&bytes, Order::Raw).unwrap_err();
    assert_eq!((damage.field, damage.offset), ("record length", at as u64));
}

/// Writes a pointer into a twoskip record and mends its CRC.
fn point(bytes: &mut [u8], record: usize, pointer: usize, to: u64) {
    put_be64(bytes, record + 8 + 8 * pointer, to);
    let crcs = record + 8 * (usize::from(bytes[record + 1]) + 2);
    let crc = crate::crc32::crc32(&bytes[record..crcs]);
    put_be32(bytes, crcs, crc);
}

fn twoskip_records(bytes: &[u8]) -> Vec<usize> {
    (64..bytes.len()).step_by(8).filter(|at| matches!(bytes[at + 2..at + 4], [0, 5]) && bytes[*at] == b'+').collect()
}

#[test]
fn pointers_that_go_round_in_circles_are_damage() {
    let entries: Vec<Entry> = (0..50).map(|i| (format!("key{i:02}").into_bytes(), b"value".to_vec())).collect();
    let good = twoskip::emit(&entries, 1);
    let records = twoskip_records(&good);
    assert_eq!(records.len(), entries.len());
    for (from, to) in [(30, 10), (30, 30), (0, 0), (49, 0)] {
        let mut bytes = good.clone();
        point(&mut bytes, records[from], 1, records[to] as u64);
        let damage = walk(&bytes, Order::Raw).unwrap_err();
        assert_eq!(damage.field, "key", "{from} {to}");
    }
    // To the record before all others, and from it to itself.
    for from in [64, records[20]] {
        let mut bytes = good.clone();
        point(&mut bytes, from, 1, 64);
        assert_eq!(walk(&bytes, Order::Raw).unwrap_err().field, "pointer");
    }
    // A deletion that leads to itself.
    let mut bytes = good.clone();
    let deletion = records[10];
    bytes[deletion..deletion + 8].copy_from_slice(b"-\0\0\0\0\0\0\0");
    bytes[deletion + 16..deletion + 24].fill(0);
    point(&mut bytes, deletion, 0, deletion as u64);
    let pages = Pages::whole(&bytes);
    let db = Db::open("x", &pages).unwrap();
    assert!(matches!(find(&db, &pages, b"key10", Order::Raw), Err(Trouble::Damage(_))));
    assert_eq!(walk(&bytes, Order::Raw).unwrap_err().field, "pointer");
    // A record with no levels.
    let mut bytes = good.clone();
    bytes[records[10]..records[10] + 8].copy_from_slice(b"+\0\0\0\0\0\0\0");
    bytes[records[10] + 16..records[10] + 24].fill(0);
    point(&mut bytes, records[10], 0, 0);
    assert!(walk(&bytes, Order::Raw).is_err());

    let good = skiplist::emit(&entries).unwrap();
    let at = good.windows(5).position(|w| w == b"key07").unwrap() - 8;
    let mut bytes = good.clone();
    let link = at + 8 + 8 + 4 + 8;
    put_be32(&mut bytes, link, at as u32);
    assert_eq!(walk(&bytes, Order::Raw).unwrap_err().field, "key");
}

#[test]
fn keys_in_another_order_than_was_said_are_damage() {
    let entries = sorted(many_entries(200, false), |a, b| Order::Mbox.compare(a, b));
    for bytes in [twoskip::emit(&entries, 1), skiplist::emit(&entries).unwrap()] {
        assert!(walk(&bytes, Order::Mbox).is_ok());
        assert_eq!(walk(&bytes, Order::Raw).unwrap_err().field, "key");
    }
    let unsorted = b"a.b\t1\na b\t2\na\t3\n";
    assert_eq!(walk(unsorted, Order::Raw).unwrap_err().field, "key");
    assert_eq!(flat::parse(unsorted).unwrap_err().field, "key");
}

#[test]
fn a_miss_leaves_the_cursor_where_it_was() {
    let entries = many_entries(3000, false);
    for bytes in [twoskip::emit(&entries, 1), skiplist::emit(&entries).unwrap()] {
        let whole = Pages::whole(&bytes);
        let db = Db::open("x", &whole).unwrap();
        let mut cursor = db.seek(&whole, &entries[1500].0, Order::Raw).unwrap();
        let empty = Pages::new(bytes.len() as u64);
        for _ in 0..3 {
            assert!(matches!(db.next(&empty, &mut cursor), Err(Trouble::Miss(_))));
        }
        assert_eq!(db.next(&whole, &mut cursor), Ok(Some(entries[1500].clone())));
    }
}

#[test]
fn flat_escapes_and_what_older_versions_wrote() {
    let entries = flat::parse(data!("flat.db")).unwrap();
    assert_eq!(entries, encoded(data!("flat.db.expected.txt")));
    assert_eq!(flat::emit(&entries), data!("flat.db"));
    let backwards: Vec<Entry> = entries.iter().rev().cloned().collect();
    assert_eq!(flat::emit(&backwards), data!("flat.db"));
    let old = flat::parse(b"a\xFFb\tx\xFF\nb\t\xFF\xFF\xFF\x89\n").unwrap();
    assert_eq!(old, [(b"a\xFFb".to_vec(), b"x\xFF".to_vec()), (b"b".to_vec(), b"\xFF\t".to_vec())]);
    for damaged in [&b"a"[..], b"a\n", b"a\t", b"a\tb\nc\n", b"a\tb\nc\td"] {
        assert!(flat::parse(damaged).is_err() && walk(damaged, Order::Raw).is_err(), "{}", Shown(damaged));
    }
}

#[test]
fn the_order_of_mailboxes() {
    let mut keys =
        [&b"user.anna"[..], b"user.anna-b", b"user.anna.x", b"user", b"user\x01", b"user.anna\x1f", b"user-x", b"user\tx"];
    keys.sort_by(|a, b| Order::Mbox.compare(a, b));
    let expected =
        [&b"user"[..], b"user\tx", b"user.anna", b"user.anna.x", b"user.anna\x1f", b"user.anna-b", b"user\x01", b"user-x"];
    assert_eq!(keys, expected);
}

#[test]
fn a_description_for_people() {
    let describe = |name: &str, bytes: &[u8]| {
        let mut text = String::new();
        super::describe(name, &Pages::whole(bytes), &mut text).unwrap();
        text
    };
    assert_eq!(
        describe("x", data!("bob.smith.seen.twoskip")),
        "format: twoskip\nversion: 1\ngeneration: 1\nrecords: 2\nstate: clean\nsize when repacked: 336\ncurrent size: 912\n\
         file size: 912\norder: by bytes\n\n6clzfn0mjgzuni99cnt48ie7\t1 1795456605 1 1795456540 \n\
         it52xp8vfay76mvqoftrvrxr\t1 1795456811 5 1795456811 3\n"
    );
    let text = describe("x", data!("skiplist-dirty.db"));
    assert!(
        text.starts_with("format: skiplist\nversion: 1.2\nrecords at the last checkpoint: 0\nstate: the log's end is"),
        "{text}"
    );
    let text = describe("x", data!("twom.db"));
    assert!(text.contains("records: 86\n") && text.contains("checksums: XXH3\n"), "{text}");
    let mut bytes = data!("bob.smith.seen.twoskip").to_vec();
    for at in 0..bytes.len() - 4 {
        if bytes[at..].starts_with(b"it52") {
            bytes[at] = b'x';
        }
    }
    let text = describe("x", &bytes);
    assert!(
        text.contains("ie7\t1 1795456605") && text.contains("damaged: x (twoskip): CRC of key and value at offset "),
        "{text}"
    );
    assert!(describe("x", b"nothing").starts_with("damaged: x (flat): last line at offset 7: "));
}
