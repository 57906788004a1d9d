//! `inspect` over any bytes under any name: what it prints is printable, and it counts what it prints.
#![no_main]

use cylinder_core::inspect::{detect, inspect};
use cylinder_fuzz::{Source, assert_printable};
use libfuzzer_sys::fuzz_target;

const NAMES: [&[u8]; 9] = [
    b"x",
    b"cyrus.index",
    b"cyrus.header",
    b"cyrus.expunge",
    b"mailboxes.db",
    b"annotations.db",
    b"anna.seen",
    b"anna.sub",
    b"quota",
];

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let name = NAMES[usize::from(source.byte()) % NAMES.len()];
    let mut text = String::new();
    let damaged = inspect(name, source.0, &mut text).expect("a String takes everything");
    assert_printable(&text);
    assert!(text.starts_with(&format!("file: {}\n", detect(name, source.0).name())));
    assert_eq!(damaged, text.lines().filter(|line| line.starts_with("damaged: ")).count() as u64);
});
