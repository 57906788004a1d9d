//! Mailbox names: what one form gives, every other form gives back.
#![no_main]

use cylinder_core::cyrus::names::{MailboxName, Namespace, Naming, Owner, View};
use cylinder_fuzz::Source;
use libfuzzer_sys::fuzz_target;

fn namespace(bits: u8, split: bool) -> Namespace {
    Namespace {
        slash: bits & 1 != 0,
        alt: bits & 2 != 0,
        // Whoever shows domains also splits them off.
        domains: split && bits & 4 != 0,
        user_prefix: b"Other Users".to_vec(),
        shared_prefix: b"Shared Folders".to_vec(),
        alt_prefix: b"Alt Folders".to_vec(),
    }
}

/// One form to the next and back.
fn check(naming: &Naming, name: &MailboxName, ns: &Namespace) {
    for part in name.boxes() {
        assert!(!part.is_empty() && !part.iter().any(|c| matches!(c, 0 | b'/' | b'!' | b'^' | 0x1F | 0x1D)), "{name:?}");
    }
    assert_eq!(naming.parse_internal(&naming.internal(name)).as_ref(), Ok(name));
    assert_eq!(naming.parse_dbname(&naming.dbname(name)).as_ref(), Ok(name));
    assert_eq!(naming.parse_relative(&name.owner(), &naming.relative(name)).as_ref(), Ok(name));
    if let Some(external) = naming.external(ns, View::Admin, name) {
        // An administrator has no INBOX; a shared mailbox of that name has no name that could be read.
        if let Ok(back) = naming.parse_external(ns, View::Admin, &external) {
            assert_eq!(back, *name, "{:?}", String::from_utf8_lossy(&external));
        }
    }
    if let Owner::User(userid) = name.owner()
        && let Some(external) = naming.external(ns, View::User(&userid), name)
        && let Ok(back) = naming.parse_external(ns, View::User(&userid), &external)
    {
        assert_eq!(back, *name, "{:?}", String::from_utf8_lossy(&external));
    }
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let bits = source.byte();
    let split = bits & 16 != 0;
    let domain = (bits & 8 != 0).then_some(&b"example.org"[..]);
    let naming = Naming::new(b"DELETED", domain, split).expect("a good prefix and domain").with_whole_userids(bits & 32 != 0);
    let ns = namespace(bits, split);
    let name = source.0;
    let owner = Owner::User(b"anna".to_vec());
    let found = [
        naming.parse_internal(name),
        // These names came with 3.6, and since 3.0 domains are always split off.
        if split { naming.parse_dbname(name) } else { naming.parse_internal(name) },
        naming.parse_relative(&owner, name),
        naming.parse_relative(&Owner::Shared, name),
        naming.parse_external(&ns, View::Admin, name),
        naming.parse_external(&ns, View::User(b"anna"), name),
    ];
    for name in found.iter().flatten() {
        check(&naming, name, &ns);
    }
});
