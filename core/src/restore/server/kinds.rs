//! Mailboxes in which a server keeps something else than mail: scripts, calendars, contacts.
//!
//! IMAP is no way for these: servers refuse to open them or to add to them, 3.6.1 ends the connection at it, and what they
//! make of the content (bytecode, the databases of DAV) would not be made. So all ways by IMAP leave them alone and say so
//! beforehand; the replication protocol brings them back. What must not come in: mail.

use crate::cyrus::mailboxes::Kind;
use crate::restore::select::Folder;
use alloc::format;
use alloc::string::String;

/// Names directly below the INBOX that Cyrus gives by default, and what is in them. Where types of mailboxes are not known yet
/// (3.2), or were lost, they tell it.
const NAMES: [(&[u8], &str); 8] = [
    (b"#sieve", SCRIPTS),
    (b"#calendars", EVENTS),
    (b"#addressbooks", CONTACTS),
    (b"#drive", FILES),
    (b"#notifications", OTHER),
    (b"#jmap", OTHER),
    (b"#jmapnotification", OTHER),
    (b"#jmapsubmission", OTHER),
];
const SCRIPTS: &str = "Sieve scripts";
const EVENTS: &str = "calendar data";
const CONTACTS: &str = "contacts";
const FILES: &str = "WebDAV files";
const OTHER: &str = "data of the server's own";

/// What a folder holds, if that is no mail.
pub fn content_of(folder: &Folder) -> Option<&'static str> {
    match folder.entry.mbtype.kind {
        Kind::Sieve => Some(SCRIPTS),
        Kind::Calendar => Some(EVENTS),
        Kind::Addressbook => Some(CONTACTS),
        Kind::Collection => Some(FILES),
        Kind::JmapNotify | Kind::JmapSubmit | Kind::JmapPush => Some(OTHER),
        Kind::Email | Kind::Netnews => {
            let below = folder.name.strip_prefix(b"INBOX.")?;
            let first = below.split(|&c| c == b'.').next()?;
            NAMES.iter().find(|(name, _)| *name == first).map(|(_, what)| *what)
        }
    }
}

/// Why such a folder is not restored by IMAP.
pub fn why_not(what: &str, messages: u64) -> String {
    let unit = if messages == 1 { "item" } else { "items" };
    format!("it holds {what}, {messages} {unit}, which IMAP does not bring back; `--exact` of this folder does")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, kind: Kind) -> Folder {
        let mut folder = Folder { name: name.as_bytes().to_vec(), ..Folder::default() };
        folder.entry.mbtype.kind = kind;
        folder
    }

    #[test]
    fn what_is_no_mail_is_known_by_type_or_by_name() {
        assert_eq!(content_of(&folder("INBOX.x", Kind::Calendar)), Some("calendar data"));
        assert_eq!(content_of(&folder("INBOX.#sieve", Kind::Email)), Some("Sieve scripts"));
        assert_eq!(content_of(&folder("INBOX.#addressbooks.Default", Kind::Email)), Some("contacts"));
        for mail in ["INBOX", "INBOX.#sieves", "INBOX.Work.#sieve", "INBOX.#mine"] {
            assert_eq!(content_of(&folder(mail, Kind::Email)), None, "{mail}");
        }
    }
}
