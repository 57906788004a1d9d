//! Databases that are written new: flat, skiplist and twoskip give back every entry, by walking and by seeking.
#![no_main]

use cylinder_core::cyrus::db::pages::Pages;
use cylinder_core::cyrus::db::{Db, Entry, Order, flat, skiplist, twoskip};
use cylinder_fuzz::Source;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;

fn check(bytes: &[u8], entries: &[Entry], order: Order) {
    let pages = Pages::whole(bytes);
    let db = Db::open("fuzz", &pages).expect("a file that was just written");
    let mut cursor = db.seek(&pages, b"", order).expect("the beginning of it");
    for entry in entries {
        assert_eq!(db.next(&pages, &mut cursor).as_ref(), Ok(&Some(entry.clone())));
        let mut at = db.seek(&pages, &entry.0, order).expect("a place in it");
        assert_eq!(db.next(&pages, &mut at).as_ref(), Ok(&Some(entry.clone())));
    }
    assert_eq!(db.next(&pages, &mut cursor), Ok(None));
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let order = if source.byte() & 1 == 0 { Order::Raw } else { Order::Mbox };
    let mut all = BTreeMap::new();
    while !source.is_empty() {
        let (key, value) = (source.piece(), source.piece());
        // Above 0x7F the order of skiplist files depends on the machine; the caller of emit sees to that.
        if !key.is_empty() && key.iter().all(|c| (b' '..0x7F).contains(c)) {
            all.insert(key.to_vec(), value.to_vec());
        }
    }
    let mut entries: Vec<Entry> = all.into_iter().collect();
    entries.sort_by(|a, b| order.compare(&a.0, &b.0));
    check(&twoskip::emit(&entries, 1), &entries, order);
    check(&skiplist::emit(&entries).expect("a small file"), &entries, order);
    entries.sort_by(|a, b| Order::Mbox.compare(&a.0, &b.0));
    check(&flat::emit(&entries), &entries, Order::Mbox);
    assert_eq!(flat::parse(&flat::emit(&entries)), Ok(entries));
});
