//! Modified UTF-7: every text comes back as it went.
#![no_main]

use cylinder_core::cyrus::utf7::{decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let decoded = decode(data);
    for text in [decoded.as_str(), &String::from_utf8_lossy(data)] {
        let encoded = encode(text);
        assert!(encoded.iter().all(|c| (b' '..=b'~').contains(c)));
        assert_eq!(decode(&encoded), text);
    }
});
