//! cyrusdb files of all four kinds: opened, walked in both orders, sought in, described; whole and page by page.
#![no_main]

use cylinder_core::cyrus::db::pages::{PAGE_SIZE, Pages};
use cylinder_core::cyrus::db::{Db, Entry, Order, Trouble, describe};
use cylinder_fuzz::{assert_printable, seal_twoskip};
use libfuzzer_sys::fuzz_target;

/// Tries until nothing is missing, putting in what is. Each time something new must be missed.
fn feeding<T>(bytes: &[u8], pages: &mut Pages, mut read: impl FnMut(&Pages) -> Result<T, Trouble>) -> Result<T, Trouble> {
    for _ in 0..bytes.len() / PAGE_SIZE + 2 {
        match read(pages) {
            Err(Trouble::Miss(miss)) => {
                for n in miss.pages() {
                    assert!(pages.page(n).is_none(), "page {n} was there and is missed");
                    let from = n as usize * PAGE_SIZE;
                    assert!(from < bytes.len(), "page {n} is behind the end of the file");
                    pages.insert(n, bytes[from..bytes.len().min(from + PAGE_SIZE)].to_vec());
                }
            }
            other => return other,
        }
    }
    panic!("one read misses pages for ever");
}

fn walk(bytes: &[u8], pages: &mut Pages, order: Order) -> (Vec<Entry>, Option<Trouble>) {
    let mut found = Vec::new();
    let db = match feeding(bytes, pages, |pages| Db::open("fuzz", pages)) {
        Ok(db) => db,
        Err(trouble) => return (found, Some(trouble)),
    };
    let mut cursor = match feeding(bytes, pages, |pages| db.seek(pages, b"", order)) {
        Ok(cursor) => cursor,
        Err(trouble) => return (found, Some(trouble)),
    };
    loop {
        match feeding(bytes, pages, |pages| db.next(pages, &mut cursor)) {
            Ok(Some(entry)) => found.push(entry),
            Ok(None) => return (found, None),
            Err(trouble) => return (found, Some(trouble)),
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut data = data.to_vec();
    seal_twoskip(&mut data);
    let whole = Pages::whole(&data);
    for order in [Order::Raw, Order::Mbox] {
        let paged = walk(&data, &mut Pages::new(data.len() as u64), order);
        assert_eq!(paged, walk(&data, &mut Pages::whole(&data), order), "page by page as at once");
        let Ok(db) = Db::open("fuzz", &whole) else { continue };
        // Pointers of higher levels may be damaged where a walk does not come by: a seek may then land anywhere, and no more.
        for (key, _) in paged.0.iter().take(20) {
            if let Ok(mut cursor) = db.seek(&whole, key, order) {
                let _ = db.next(&whole, &mut cursor);
            }
        }
    }
    let mut text = String::new();
    describe("fuzz", &whole, &mut text).expect("a String takes everything");
    assert_printable(&text);
});
