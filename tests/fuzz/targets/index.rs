//! cyrus.index and cyrus.expunge of every version, as they come and with their CRCs made right; what is parsed is emitted so
//! that it parses to the same.
#![no_main]

use cylinder_core::cyrus::index::{Index, Record, describe, emit_index};
use cylinder_fuzz::{assert_printable, seal_index};
use libfuzzer_sys::fuzz_target;

fn round_trip(bytes: &[u8]) {
    let Ok(index) = Index::parse(bytes) else { return };
    let readable: Vec<Record> = index.records().flatten().collect();
    assert!(readable.is_sorted_by(|a, b| a.uid < b.uid), "UIDs ascend");
    let Ok(records) = index.records().collect::<Result<Vec<Record>, _>>() else { return };
    let written = emit_index(index.header(), &records).expect("what was read from a file fits into one");
    let again = Index::parse(&written).expect("an index that was just written");
    let mut header = index.header().clone();
    header.record_size = again.header().record_size;
    header.header_crc = again.header().header_crc;
    assert_eq!(*again.header(), header);
    assert_eq!(again.records().collect::<Result<Vec<_>, _>>(), Ok(records));
}

fuzz_target!(|data: &[u8]| {
    let mut sealed = data.to_vec();
    seal_index(&mut sealed);
    for bytes in [data, &sealed] {
        round_trip(bytes);
        if let Ok(index) = Index::parse_expunge(bytes) {
            assert!(index.records().count() as u64 <= u64::from(index.present()) + 1);
        }
        let mut text = String::new();
        describe(bytes, &mut text).expect("a String takes everything");
        assert_printable(&text);
    }
});
