//! Entries of a tar file, in pieces of any size: the same entries come out, whatever the pieces.
#![no_main]

use cylinder_core::archive::entry::{EntryKind, EntryReader, Piece, Step, emit_file, emit_link, parse};
use cylinder_core::archive::entry::{NAME_MAX, Parsed};
use cylinder_fuzz::Source;
use libfuzzer_sys::fuzz_target;

/// What comes out, up to damage: a line for each entry, and all content.
fn read(bytes: &[u8], mut next_len: impl FnMut() -> usize) -> (Vec<String>, Vec<u8>, bool) {
    let (mut reader, mut lines, mut content) = (EntryReader::new(), Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (part, tail) = rest.split_at(next_len().clamp(1, rest.len()));
        rest = tail;
        let mut piece = Piece::new(part);
        loop {
            match reader.step(&mut piece) {
                Ok(Step::Header(entry, _)) => {
                    assert!(entry.name.len() <= NAME_MAX);
                    lines.push(format!("{entry:?}"));
                }
                Ok(Step::Content(bytes)) => content.extend_from_slice(bytes),
                Ok(Step::EndOfEntry) => lines.push(String::from("end")),
                Ok(Step::Feed) => break,
                Err(_) => return (lines, content, false),
            }
        }
    }
    (lines, content, reader.is_between_entries())
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let lens = source.take(4);
    let bytes = source.0;
    let mut turn = 0;
    let in_pieces = read(bytes, || {
        turn += 1;
        7 * usize::from(lens[turn % lens.len()]) + 1
    });
    assert_eq!(in_pieces, read(bytes, || usize::MAX));
    let Ok(Parsed::Entry(entry, _)) = parse(bytes) else { return };
    let mut again = Vec::new();
    match &entry.kind {
        EntryKind::File(sha1) => emit_file(&mut again, &entry.name, entry.size, entry.mtime, *sha1),
        EntryKind::Link(target) => emit_link(&mut again, &entry.name, target, entry.mtime),
        EntryKind::Other(_) => return,
    }
    let Ok(Parsed::Entry(same, len)) = parse(&again) else { panic!("{entry:?} is not read back") };
    // NUL in a pax record is no name that the short form can hold.
    if !entry.name.contains(&0) && !matches!(&entry.kind, EntryKind::Link(target) if target.contains(&0)) {
        assert_eq!((&same.name, &same.kind, same.size, len), (&entry.name, &entry.kind, entry.size, again.len()));
    }
});
