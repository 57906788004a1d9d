//! Keys and values of mailboxes.db: what is parsed is emitted in the form of 3.6 and later so that it parses to the same.
#![no_main]

use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::mailboxes::{StyleGuess, describe_entry, emit, parse, parse_key};
use cylinder_core::cyrus::names::{KeyStyle, Naming};
use cylinder_fuzz::assert_printable;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut text = String::new();
    describe_entry(data, &mut text);
    assert_printable(&text);
    let naming = Naming::new(b"DELETED", None, false).expect("the default naming");
    let mut guess = StyleGuess::default();
    guess.feed(data);
    for style in [KeyStyle::Legacy, KeyStyle::Dbname] {
        // A name, an id or damage: none may panic.
        let _ = parse_key(&naming, style, data);
    }
    let Ok(entry) = parse(data) else { return };
    for version in [VersionLine::V3_6, VersionLine::V3_12] {
        let mut out = Vec::new();
        emit(&entry, version, &mut out);
        assert_eq!(parse(&out).as_ref(), Ok(&entry), "{:?}", String::from_utf8_lossy(&out));
    }
});
