//! imapd.conf, and the paths that come of it.
#![no_main]

use cylinder_core::cyrus::conf::{Conf, VersionLine};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::cyrus::paths::{Home, MetaFile, Paths, Spot};
use libfuzzer_sys::fuzz_target;

const VERSIONS: [VersionLine; 4] = [VersionLine::V2_3, VersionLine::V2_4, VersionLine::V3_6, VersionLine::Head];

fuzz_target!(|data: &[u8]| {
    for version in VERSIONS {
        let Ok(conf) = Conf::from_text(data, version) else { continue };
        let Ok(paths) = Paths::new(&conf) else { continue };
        let owner = Owner::User(b"anna".to_vec());
        let Ok(inbox) = paths.naming().inbox(b"anna") else { continue };
        for spot in [Spot::Named(&inbox), Spot::Id(b"0123456789abcdef")] {
            if let (Ok(root), Ok(dir)) = (paths.partition(b"default"), paths.data_dir(b"default", spot)) {
                assert!(root.starts_with(b"/") && dir.starts_with(&root), "mail lies below its partition");
            }
            // Whatever the options say: an answer or an error.
            let _ = (paths.meta(b"default", spot, MetaFile::Index), paths.archived_message(b"default", spot, 7));
            let _ = paths.mailbox_lock(spot);
        }
        let _ = (paths.mailboxes_db(), paths.annotations_db(), paths.quota_file(b"user.anna"), paths.user_lock(&owner));
        for home in [Home::Named(b"anna"), Home::Id(b"0123456789abcdef")] {
            let _ = (paths.user_file(home, "seen"), paths.sieve_dir(home));
        }
    }
});
