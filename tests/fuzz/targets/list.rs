//! The list of messages of a commit: it is emitted byte for byte as it was, and the search finds each message and no other.
#![no_main]

use cylinder_core::archive::record::{MessageList, emit_list};
use cylinder_core::guid::Guid;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(list) = MessageList::parse(data.to_vec()) else { return };
    let all: Vec<_> = list.iter().collect();
    assert_eq!(emit_list(&all), data);
    assert_eq!(all.len(), list.len());
    for message in &all {
        assert_eq!(list.find(&message.guid), Some(*message));
        let other = Guid::of(&message.guid.0);
        assert_eq!(list.find(&other), all.iter().find(|m| m.guid == other).copied());
    }
});
