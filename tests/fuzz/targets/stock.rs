//! What only the stock dialect has: annotations as JSON, external names in four forms, words.
#![no_main]

use cylinder_core::cyrus::names::{Naming, Owner};
use cylinder_core::stock::annotations::{from_json, to_json};
use cylinder_core::stock::names::{Form, Names, form_of_list, form_of_refusal};
use cylinder_core::wire::words;
use cylinder_fuzz::Source;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(word) = words::decode(data) {
        assert_eq!(words::decode(words::encode(&word).as_bytes()), Some(word));
    }
    if let Ok(lines) = from_json(data, b"id", b"anna")
        && let Some(json) = to_json(&lines, b"anna").expect("what was written here")
    {
        let again = from_json(&json, b"id", b"anna").expect("what was written here");
        assert_eq!(to_json(&again, b"anna"), Ok(Some(json)));
    }
    form_of_refusal(data);
    let mut source = Source(data);
    let bits = source.byte();
    let form = Form { slash: bits & 1 != 0, alt: bits & 2 != 0 };
    let (userid, name) = (source.piece(), source.0);
    form_of_list(userid, name.split(|&b| b == b'\n'));
    if let Ok(names) = Names::new(form, userid, name.split(|&b| b == b'\n'))
        && let Ok(relative) = names.relative(name)
    {
        let owner = Naming::default().inbox(userid).expect("a userid").owner();
        assert!(matches!(owner, Owner::User(_)));
        assert!(relative.starts_with(b"INBOX") || relative.starts_with(b"DELETED."));
        Naming::default().parse_relative(&owner, &relative).expect("a name");
    }
});
