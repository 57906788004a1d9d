//! The folder table of an archive: what is parsed is emitted so that it parses to the same, and lookups agree with the rows.
#![no_main]

use cylinder_core::archive::record::Table;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(table) = Table::parse(data) else { return };
    for row in &table.folders {
        assert_eq!(table.folder(&row.name), Some(row));
    }
    assert_eq!(Table::parse(&table.emit()), Ok(table));
});
