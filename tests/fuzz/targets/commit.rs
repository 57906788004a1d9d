//! The commit record of an archive: what is parsed is emitted so that it parses to the same.
#![no_main]

use cylinder_core::archive::record::Commit;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(commit) = Commit::parse(data) {
        assert_eq!(Commit::parse(&commit.emit()), Ok(commit));
    }
});
