//! The entry of mailboxes.db of a folder whose archive has none, since neither `Cyrus::Backup` nor a pull from a stock server
//! saves them: made of cyrus.header, cyrus.index and the folder's name. Nothing tells the partition.
//!
//! What must not come in: entries that are there and cannot be read, which are damage.

use crate::archive::record::FolderRow;
use crate::cyrus::header::Header;
use crate::cyrus::index;
use crate::cyrus::mailboxes::{self, Kind, MbEntry, MbType};
use crate::error::Damage;

/// Names directly below the INBOX that Cyrus gives by default (`calendarprefix`, `jmapsubmissionfolder`, ...), and the type of
/// what is there. cyrus.header has the type from 3.6 on.
const KINDS: [(&[u8], Kind); 8] = [
    (b"#sieve", Kind::Sieve),
    (b"#calendars", Kind::Calendar),
    (b"#addressbooks", Kind::Addressbook),
    (b"#drive", Kind::Collection),
    (b"#notifications", Kind::Collection),
    (b"#jmap", Kind::Collection),
    (b"#jmapnotification", Kind::JmapNotify),
    (b"#jmapsubmission", Kind::JmapSubmit),
];

/// The entry of a folder. Damage if there is one that cannot be read.
pub(super) fn of(row: &FolderRow, header: Option<&Header>, index: Option<&index::Header>) -> Result<MbEntry, Damage> {
    if !row.entry.is_empty() {
        return mailboxes::parse(&row.entry);
    }
    let named = || MbType { kind: kind_by_name(&row.name), ..MbType::default() };
    Ok(MbEntry {
        uniqueid: Some(row.id.clone()),
        mbtype: header.and_then(|header| header.mbtype).unwrap_or_else(named),
        acl: header.map(|header| header.acl.clone()),
        jmapid: header.and_then(|header| header.jmapid.clone()),
        uidvalidity: index.map_or(0, |index| index.uidvalidity),
        createdmodseq: index.and_then(|index| index.createdmodseq).unwrap_or(0),
        ..MbEntry::default()
    })
}

/// What a folder is for; `None` if its entry cannot be read.
pub(super) fn kind(row: &FolderRow) -> Option<Kind> {
    match row.entry.is_empty() {
        true => Some(kind_by_name(&row.name)),
        false => mailboxes::parse(&row.entry).ok().map(|entry| entry.mbtype.kind),
    }
}

fn kind_by_name(name: &[u8]) -> Kind {
    let first = name.strip_prefix(b"INBOX.").and_then(|below| below.split(|&c| c == b'.').next());
    KINDS.iter().find(|(name, _)| first == Some(name)).map_or(Kind::Email, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_not_there_is_made_of_the_header_and_one_that_is_damaged_is_not() {
        let acl = alloc::vec![(b"anna".to_vec(), b"lrs".to_vec())];
        let mbtype = MbType { kind: Kind::Addressbook, ..MbType::default() };
        let header = Header { acl: acl.clone(), mbtype: Some(mbtype), ..Header::default() };
        let mut row = FolderRow { name: b"INBOX.#calendars.x".to_vec(), id: b"u1".to_vec(), ..FolderRow::default() };
        let made = of(&row, Some(&header), None).expect("an entry");
        assert_eq!((made.acl, made.mbtype.kind, made.partition), (Some(acl), Kind::Addressbook, None));
        assert_eq!(of(&row, None, None).map(|entry| entry.mbtype.kind), Ok(Kind::Calendar));
        assert_eq!(kind(&row), Some(Kind::Calendar));
        row.entry = b"%(".to_vec();
        assert!(of(&row, Some(&header), None).is_err() && kind(&row).is_none());
    }
}
