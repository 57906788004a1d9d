//! Quota files of every version: what is parsed is emitted so that it parses to the same.
#![no_main]

use cylinder_core::cyrus::quota::{describe, emit, parse};
use cylinder_fuzz::assert_printable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut text = String::new();
    describe(data, &mut text);
    assert_printable(&text);
    let Ok(quota) = parse(data) else { return };
    let mut out = Vec::new();
    emit(&quota, &mut out);
    assert_eq!(parse(&out), Ok(quota), "{:?}", String::from_utf8_lossy(&out));
});
