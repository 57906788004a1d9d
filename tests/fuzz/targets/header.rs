//! cyrus.header: what is parsed and can be emitted parses to the same.
#![no_main]

use cylinder_core::cyrus::header::{describe, parse};
use cylinder_fuzz::assert_printable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut text = String::new();
    describe(data, &mut text).expect("a String takes everything");
    assert_printable(&text);
    let Ok(header) = parse(data) else { return };
    if let Ok(bytes) = header.emit() {
        assert_eq!(parse(&bytes).as_ref(), Ok(&header), "{:?}", String::from_utf8_lossy(&bytes));
    }
});
