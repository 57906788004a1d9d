//! Escaping: percent-encoding comes back as it went, and nothing printed can move a terminal.
#![no_main]

use cylinder_core::escape::{percent, shown, unpercent};
use cylinder_fuzz::assert_printable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for also in [&b""[..], b"/", b"="] {
        let encoded = percent(data, also);
        assert!(encoded.bytes().all(|b| b.is_ascii_graphic() && !also.contains(&b)));
        assert_eq!(unpercent(encoded.as_bytes()).as_deref(), Some(data));
    }
    if let Some(decoded) = unpercent(data) {
        assert!(decoded.len() <= data.len());
    }
    let text = shown(data);
    assert_printable(&text);
    assert!(!text.contains(['\n', '\t']));
});
