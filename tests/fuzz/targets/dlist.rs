//! dlist values: what is parsed is emitted so that it parses to the same.
#![no_main]

use cylinder_core::cyrus::dlist::{emit, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok((value, len)) = parse("fuzz", 0, data) else { return };
    assert!(len <= data.len());
    let mut out = Vec::new();
    emit(&value, &mut out);
    assert_eq!(parse("fuzz", 0, &out), Ok((value, out.len())), "{:?}", String::from_utf8_lossy(&out));
});
