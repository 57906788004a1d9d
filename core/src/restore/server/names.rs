//! Which folder of the server a folder of the archive becomes.
//!
//! What must not come in: talking to the server.

use crate::cyrus::names::{MailboxName, Namespace, Naming, Owner, View};
use crate::cyrus::utf7;
use crate::error::Error;
use crate::escape::shown;
use crate::imap::client::Prefixes;
use crate::time::{Civil, Time};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// How the tops of trees begin.
pub const TREE: &str = "RESTORED";
/// How the names of mailboxes for messages on their way begin.
const STAGING: &[u8] = b"adding-";
/// What is allowed in names besides letters and digits, in every version; the separator is not among them.
const TAKEN: &[u8] = b" #$&'()*+,-.:=?@[]_~";

/// The names of one user's mailboxes on a server.
#[derive(Clone, Debug)]
pub struct Names {
    naming: Naming,
    namespace: Namespace,
    prefixes: Prefixes,
    owner: Owner,
}

impl Names {
    /// As the server has told its namespace to this user.
    pub fn new(naming: Naming, prefixes: Prefixes, owner: &Owner) -> Names {
        let namespace = Namespace {
            slash: prefixes.separator == b'/',
            alt: prefixes.own.is_empty(),
            domains: owner_has_domain(owner),
            user_prefix: without_separator(&prefixes.others, prefixes.separator),
            shared_prefix: without_separator(&prefixes.shared, prefixes.separator),
            // No server tells this one; it is the default of all versions.
            alt_prefix: b"Alt Folders".to_vec(),
        };
        Names { naming, namespace, prefixes, owner: owner.clone() }
    }

    /// Whose mailboxes these are.
    pub fn owner(&self) -> &Owner {
        &self.owner
    }

    /// How names are read.
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    /// The name of a folder of the archive as the user sees it on the server. Refused for a deleted one, which has none.
    pub fn original(&self, relative: &[u8]) -> Result<Vec<u8>, Error> {
        let name = self.naming.parse_relative(&self.owner, relative)?;
        let view = match &self.owner {
            Owner::User(userid) => View::User(userid),
            Owner::Shared => View::Admin,
        };
        self.naming.external(&self.namespace, view, &name).ok_or_else(|| {
            let why = "has no name on the server any more; without --merge it is restored into a tree of its own";
            Error::Refused(format!("{} {why}", shown(relative)))
        })
    }

    /// The user's INBOX as an administrator sees it.
    pub fn inbox_for_admin(&self) -> Result<Vec<u8>, Error> {
        let Owner::User(userid) = &self.owner else {
            return Err(Error::Refused(String::from("shared folders have no INBOX whose quota could be lifted")));
        };
        let inbox = self.naming.inbox(userid)?;
        let namespace = Namespace { alt: false, ..self.namespace.clone() };
        let none = || Error::Refused(format!("{} has no INBOX that an administrator could name", shown(userid)));
        self.naming.external(&namespace, View::Admin, &inbox).ok_or_else(none)
    }

    /// The top of a tree with this name.
    pub fn top(&self, stamp: &[u8]) -> Vec<u8> {
        let parts = [TREE.as_bytes(), stamp].map(<[u8]>::to_vec);
        [&self.prefixes.own[..], &parts.join(&self.prefixes.separator)].concat()
    }

    /// A mailbox from which the restore of this name moves what it has brought to the server. It stands beside the trees: a
    /// server would make the mailbox above it, too, and leave that behind.
    pub fn staging(&self, id: &str) -> Vec<u8> {
        [&self.prefixes.own[..], TREE.as_bytes(), b"-", STAGING, id.as_bytes()].concat()
    }

    /// What all such mailboxes match in LIST: also those that earlier versions had below the trees.
    pub fn all_staging(&self) -> [Vec<u8>; 2] {
        [self.staging("%"), self.top(&[STAGING, b"%"].concat())]
    }

    /// What such mailboxes match in LIST for an administrator once they were deleted, where deleted mailboxes are kept a while.
    pub fn all_deleted_staging(&self) -> Result<Vec<u8>, Error> {
        let separator = [self.prefixes.separator];
        let name = [TREE.as_bytes(), b"-", STAGING, b"%"].concat();
        Ok([&b"DELETED"[..], &self.inbox_for_admin()?, &name, b"%"].join(&separator[..]))
    }

    /// The name above a name of the user's own, if there is one below the INBOX.
    pub fn above<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let end = name.iter().rposition(|&c| c == self.prefixes.separator)?;
        (end >= self.prefixes.own.len()).then(|| &name[..end])
    }

    /// A name as every version takes it: where an older one, or somebody on its disk, has let in what is no modified UTF-7,
    /// that is encoded, and what is allowed in no name is `_`. Mostly the name itself.
    pub fn acceptable(&self, name: &[u8]) -> Vec<u8> {
        let (own, rest) = match name.strip_prefix(&self.prefixes.own[..]) {
            Some(rest) => (&self.prefixes.own[..], rest),
            None => (&b""[..], name),
        };
        let is_own_separator = |c: &u8| *c == self.prefixes.separator;
        let parts: Vec<Vec<u8>> = rest.split(is_own_separator).map(|part| self.acceptable_part(part)).collect();
        [own, &parts.join(&self.prefixes.separator)].concat()
    }

    fn acceptable_part(&self, part: &[u8]) -> Vec<u8> {
        // What reads and is written again as the same is well-formed.
        let is_wrong = part.iter().any(|c| !c.is_ascii()) || utf7::encode(&utf7::decode(part)) != part;
        let encoded = if is_wrong { utf7::encode(&String::from_utf8_lossy(part)) } else { part.to_vec() };
        let is_taken = |c: u8| c.is_ascii_alphanumeric() || TAKEN.contains(&c) || (c == b'^' && !self.namespace.slash);
        encoded.into_iter().map(|c| if is_taken(c) { c } else { b'_' }).collect()
    }

    /// What all tops of trees match in LIST.
    pub fn tops(&self) -> Vec<u8> {
        [&self.prefixes.own[..], TREE.as_bytes(), &[self.prefixes.separator], b"%"].concat()
    }

    /// True if a name on the server is that of the user's own INBOX or of a folder of it.
    pub fn is_own(&self, name: &[u8]) -> bool {
        let others = [&self.prefixes.others, &self.prefixes.shared];
        let is_others = others.iter().any(|prefix| !prefix.is_empty() && name.starts_with(prefix));
        name.eq_ignore_ascii_case(b"INBOX") || (name.starts_with(&self.prefixes.own) && !is_others)
    }

    /// True if a name on the server is that of a tree or of something in one, or of messages on their way.
    pub fn is_in_tree(&self, name: &[u8]) -> bool {
        let rest = name.strip_prefix(&self.prefixes.own[..]).and_then(|rest| rest.strip_prefix(TREE.as_bytes()));
        let is_staging = |rest: &[u8]| rest.strip_prefix(b"-").is_some_and(|rest| rest.starts_with(STAGING));
        rest.is_some_and(|rest| rest.is_empty() || rest[0] == self.prefixes.separator || is_staging(rest))
    }

    /// True for the name in the archive of a mailbox of messages on their way: the backup was made while a restore was at work,
    /// or after one was killed.
    pub fn was_staging(relative: &[u8]) -> bool {
        let rest = relative.strip_prefix(b"INBOX.").and_then(|rest| rest.strip_prefix(TREE.as_bytes()));
        rest.is_some_and(|rest| rest.get(1..).is_some_and(|id| b"-.".contains(&rest[0]) && id.starts_with(STAGING)))
    }

    /// What everything below a name matches in LIST.
    pub fn below(&self, name: &[u8]) -> Vec<u8> {
        [name, &[self.prefixes.separator], b"*"].concat()
    }

    /// Where a folder of the archive is in a tree: INBOX as `INBOX`, and what is below INBOX beside it. What would then
    /// have the name of something else keeps its whole name: `INBOX.INBOX`, `INBOX.DELETED.x`, and `DELETED.x.5F00AA11`, which
    /// is a deleted folder.
    pub fn in_tree(&self, top: &[u8], relative: &[u8]) -> Result<Vec<u8>, Error> {
        let name = self.naming.parse_relative(&self.owner, relative)?;
        let parts = tree_parts(&name);
        let spelled: Vec<Vec<u8>> = parts.iter().map(|part| self.spell(part)).collect();
        Ok([top, &[self.prefixes.separator], &spelled.join(&self.prefixes.separator)].concat())
    }

    /// A component with real dots, as the separator makes it be written.
    fn spell(&self, part: &[u8]) -> Vec<u8> {
        if self.namespace.slash {
            return part.to_vec();
        }
        part.iter().map(|&c| if c == b'.' { b'^' } else { c }).collect()
    }
}

fn without_separator(prefix: &[u8], separator: u8) -> Vec<u8> {
    prefix.strip_suffix(&[separator]).unwrap_or(prefix).to_vec()
}

fn owner_has_domain(owner: &Owner) -> bool {
    matches!(owner, Owner::User(userid) if userid.contains(&b'@'))
}

fn tree_parts(name: &MailboxName) -> Vec<Vec<u8>> {
    let below = name.below_owner();
    let mut parts: Vec<Vec<u8>> = Vec::new();
    if let Some(time) = name.deleted() {
        parts.push(b"DELETED".to_vec());
        parts.extend_from_slice(below);
        parts.push(format!("{time:X}").into_bytes());
        return parts;
    }
    let is_taken = |first: &Vec<u8>| first.eq_ignore_ascii_case(b"INBOX") || first.eq_ignore_ascii_case(b"DELETED");
    if name.localpart().is_some() && below.first().is_none_or(is_taken) {
        parts.push(b"INBOX".to_vec());
    }
    parts.extend_from_slice(below);
    parts
}

/// A point in time as a component of a name, such as `2026-11-17T09-00-12Z`: no separator of any server is in it. That of the
/// snapshot makes the name of a tree, so that the same restore goes on in the same tree.
pub fn stamp(time: Time) -> String {
    let Civil { year, month, day, hour, minute, second } = Civil::from_time(time);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}-{minute:02}-{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(prefix: &str, separator: u8) -> Names {
        let others = [b"Other Users", &[separator][..]].concat();
        let prefixes = Prefixes { own: prefix.as_bytes().to_vec(), others, shared: Vec::new(), separator };
        Names::new(Naming::default(), prefixes, &Owner::User(b"anna".to_vec()))
    }

    fn text(bytes: Result<Vec<u8>, Error>) -> String {
        String::from_utf8(bytes.expect("a name")).expect("text")
    }

    #[test]
    fn originals_are_named_as_the_server_says() {
        for (prefix, separator, inbox, sent) in [
            ("INBOX.", b'.', "INBOX", "INBOX.Sent.a^b"),
            ("", b'/', "INBOX", "Sent/a.b"),
            ("INBOX/", b'/', "INBOX", "INBOX/Sent/a.b"),
        ] {
            let names = names(prefix, separator);
            assert_eq!(text(names.original(b"INBOX")), inbox);
            assert_eq!(text(names.original(b"INBOX.Sent.a^b")), sent);
        }
        assert!(names("", b'/').original(b"DELETED.Sent.6B047E5B").is_err());
        assert_eq!(text(names("", b'/').inbox_for_admin()), "user/anna");
    }

    #[test]
    fn no_two_folders_have_one_place_in_a_tree() {
        let names = names("INBOX.", b'.');
        let top = names.top(b"x");
        assert_eq!(top, b"INBOX.RESTORED.x");
        let places: Vec<String> = [
            "INBOX",
            "INBOX.Sent.a^b",
            "INBOX.INBOX",
            "INBOX.inbox.x",
            "INBOX.INBOX.INBOX",
            "INBOX.DELETED.Sent.6B047E5B",
            "DELETED.Sent.6B047E5B",
            "DELETED.6B047E5B",
        ]
        .iter()
        .map(|name| text(names.in_tree(&top, name.as_bytes())).split_off(top.len() + 1))
        .collect();
        assert_eq!(
            places,
            [
                "INBOX",
                "Sent.a^b",
                "INBOX.INBOX",
                "INBOX.inbox.x",
                "INBOX.INBOX.INBOX",
                "INBOX.DELETED.Sent.6B047E5B",
                "DELETED.Sent.6B047E5B",
                "DELETED.6B047E5B"
            ]
        );
        assert!(names.is_in_tree(&top) && names.is_in_tree(b"INBOX.RESTORED") && !names.is_in_tree(b"INBOX.RESTORED2"));
    }

    #[test]
    fn a_name_that_no_server_takes_any_more_is_spelled_as_it_takes_it() {
        let names = names("INBOX.", b'.');
        for (name, expected) in [
            (&b"INBOX.R&D"[..], &b"INBOX.R&-D"[..]),
            (b"INBOX.M\xC3\xBCller.x", b"INBOX.M&APw-ller.x"),
            (b"INBOX.&AOQ", b"INBOX.&-AOQ"),
            (b"INBOX.per%cent", b"INBOX.per_cent"),
            (b"INBOX.a<b>{c}", b"INBOX.a_b__c_"),
            (b"INBOX", b"INBOX"),
            (b"INBOX.Fix&AOk-.a^b [x] (y)", b"INBOX.Fix&AOk-.a^b [x] (y)"),
        ] {
            let found = names.acceptable(name);
            assert_eq!(found, expected, "{} became {}", shown(name), shown(&found));
            assert_eq!(names.acceptable(&found), found);
        }
        assert_eq!(names.above(b"INBOX.a.b"), Some(&b"INBOX.a"[..]));
        assert_eq!([names.above(b"INBOX.a"), names.above(b"INBOX")], [None; 2]);
    }

    #[test]
    fn messages_on_their_way_are_in_no_folder_of_the_user() {
        let names = names("", b'/');
        assert_eq!(names.staging("1a"), b"RESTORED-adding-1a");
        assert!(names.is_in_tree(b"RESTORED-adding-1a") && !names.is_in_tree(b"RESTORED-x"));
        let was = ["INBOX.RESTORED-adding-1a", "INBOX.RESTORED.adding-1a", "INBOX.RESTORED.x", "INBOX.RESTORED", "adding-"];
        assert_eq!(was.map(|name| Names::was_staging(name.as_bytes())), [true, true, false, false, false]);
        assert_eq!(text(names.all_deleted_staging()), "DELETED/user/anna/RESTORED-adding-%/%");
    }

    #[test]
    fn what_others_have_is_not_the_users_own() {
        let names = names("", b'/');
        let own = ["INBOX", "inbox", "Work", "Other Users"].map(|name| names.is_own(name.as_bytes()));
        assert_eq!((own, names.is_own(b"Other Users/bob")), ([true; 4], false));
    }

    #[test]
    fn a_stamp_has_no_separator() {
        assert_eq!(stamp(Time::from_secs(1_795_456_811)), "2026-11-23T18-00-11Z");
    }
}
