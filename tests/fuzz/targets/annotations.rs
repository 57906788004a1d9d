//! Keys and values of annotations.db and cyrus.annotations.
#![no_main]

use cylinder_core::cyrus::annotations::{describe_value, parse_key, parse_value};
use cylinder_fuzz::assert_printable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(key) = parse_key(data) {
        let rebuilt = [Some(key.subject), Some(key.entry), key.userid].into_iter().flatten().collect::<Vec<_>>().join(&0);
        assert!(data.starts_with(&rebuilt), "a key's fields are in the key, in this order");
    }
    if let Ok(annotation) = parse_value(data) {
        assert!(annotation.value.len() + annotation.content_type.len() <= data.len());
    }
    let mut text = String::new();
    describe_value(data, &mut text);
    assert_printable(&text);
});
