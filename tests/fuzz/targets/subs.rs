//! Keys of subscription databases: what is parsed is emitted so that it parses to the same.
#![no_main]

use cylinder_core::cyrus::names::Naming;
use cylinder_core::cyrus::subs::{Version, describe, emit_key, parse_key};
use cylinder_fuzz::{Source, assert_printable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let value = source.piece();
    let key = source.0;
    let naming = Naming::new(b"DELETED", None, false).expect("the default naming");
    for stored in [None, Some(&b"1"[..]), Some(b"2"), Some(value)] {
        let Ok(version) = Version::of(stored) else { continue };
        let mut text = String::new();
        describe(version, key, value, &mut text).expect("a String takes everything");
        assert_printable(&text);
        let Ok(Some(name)) = parse_key(&naming, version, b"anna", key) else { continue };
        let again = emit_key(&naming, version, b"anna", &name).expect("a name that was read");
        assert_eq!(parse_key(&naming, version, b"anna", &again), Ok(Some(name)));
    }
});
