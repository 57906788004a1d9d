//! Values of seen databases: what is parsed is emitted so that it parses to the same.
#![no_main]

use cylinder_core::cyrus::seen::{describe, parse};
use cylinder_fuzz::assert_printable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut text = String::new();
    describe(data, &mut text).expect("a String takes everything");
    assert_printable(&text);
    let Ok(seen) = parse(data) else { return };
    for (first, last) in seen.ranges().take(100) {
        assert!(first >= 1 && first <= last && seen.has_seen(first) && seen.has_seen(last));
    }
    assert_eq!(parse(&seen.emit()), Ok(seen));
});
