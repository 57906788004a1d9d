//! Folder names of the stock dialect (PROTOCOL.md, section 2.5): external names in, names relative to the owner out.
//!
//! A server does not say which of the four forms its names have. It shows it in a refusal ([`form_of_refusal`]) and, less
//! surely, in the list of a user's folders ([`form_of_list`]).
//!
//! What must not come in: the wire's own escapes.

use crate::cyrus::names::{MailboxName, NAME_MAX, Namespace, Naming, View};
use crate::error::Damage;
use alloc::format;
use alloc::vec::Vec;

/// A folder that nobody has, to be asked for so that the refusal shows the form of the names.
pub const PROBE: &[u8] = b"cylinder.probe";
/// What stands for it in internal names where `.` is no separator.
const PROBE_OF_SLASH: &[u8] = b"cylinder^probe";

/// Which of the four forms a server's external names have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Form {
    /// `unixhierarchysep`: `/` separates, and a dot is a dot. Otherwise `.` separates, and `^` is a dot.
    pub slash: bool,
    /// `altnamespace`: folders stand beside INBOX.
    pub alt: bool,
}

/// The form that a refusal shows: `name` is the internal name that a server says it has no folder of, when asked by FMETA for
/// [`PROBE`]. `None` if it is nothing that can come of that.
pub fn form_of_refusal(name: &[u8]) -> Option<Form> {
    let (before, slash) = match (name.strip_suffix(PROBE_OF_SLASH), name.strip_suffix(PROBE)) {
        (Some(before), _) => (before, true),
        (None, Some(before)) => (before, false),
        (None, None) => return None,
    };
    let before = match before.iter().position(|&c| c == b'!') {
        Some(at) => &before[at + 1..],
        None => before,
    };
    match before {
        b"" => Some(Form { slash, alt: false }),
        _ if before.starts_with(b"user.") && before.ends_with(b".") => Some(Form { slash, alt: true }),
        _ => None,
    }
}

/// The form that the external names of all folders of `userid` show, as far as they do.
///
/// Where they leave open whether a dot separates, it is taken not to, as by Cyrus's defaults from 3.0 on.
pub fn form_of_list<'a>(userid: &[u8], names: impl Iterator<Item = &'a [u8]> + Clone) -> Form {
    let any = |wanted: &dyn Fn(&[u8]) -> bool| names.clone().any(wanted);
    let slash = match (any(&|n| n.contains(&b'/')), any(&|n| n.contains(&b'^'))) {
        (true, _) => Some(true),
        (false, true) => Some(false),
        (false, false) => None,
    };
    let dot = Form { slash: false, alt: false };
    let alt_with = |form: Form| {
        any(&|n| !n.eq_ignore_ascii_case(b"INBOX") && !is_below_inbox(form, n) && deleted_prefix(form, userid, n).is_none())
    };
    match slash {
        Some(slash) => Form { slash, alt: alt_with(Form { slash, alt: false }) },
        // Without altnamespace each folder but INBOX has a separator in its name, and none here has a `/`.
        None if alt_with(dot) => Form { slash: true, alt: true },
        None => dot,
    }
}

fn separator(form: Form) -> u8 {
    if form.slash { b'/' } else { b'.' }
}

fn is_below_inbox(form: Form, name: &[u8]) -> bool {
    name.len() > 5 && name[..5].eq_ignore_ascii_case(b"INBOX") && name[5] == separator(form)
}

/// The server's `deletedprefix`, if this is the name of a deleted folder of `userid`: `DELETED.user.anna.Work.6B047FCE`.
fn deleted_prefix<'a>(form: Form, userid: &[u8], name: &'a [u8]) -> Option<&'a [u8]> {
    let prefix = name.split(|&c| c == separator(form)).next()?;
    let naming = Naming::new(prefix, None, true).ok()?;
    let found = naming.parse_external(&namespace(form), View::User(userid), name).ok()?;
    let own = found.localpart() == naming.inbox(userid).ok()?.localpart();
    (own && found.deleted().is_some()).then_some(prefix)
}

/// The namespace of a server with these names. The prefixes are the defaults: a stock server does not tell them.
fn namespace(form: Form) -> Namespace {
    Namespace {
        slash: form.slash,
        alt: form.alt,
        domains: true,
        user_prefix: b"Other Users".to_vec(),
        shared_prefix: b"Shared Folders".to_vec(),
        alt_prefix: b"Alt Folders".to_vec(),
    }
}

/// The names of one user's folders.
pub struct Names {
    namespace: Namespace,
    naming: Naming,
    userid: Vec<u8>,
}

impl Names {
    /// For the folders of `userid`, whose external names, all of them, are `names`. Damage if `userid` cannot be one.
    pub fn new<'a>(form: Form, userid: &[u8], names: impl Iterator<Item = &'a [u8]>) -> Result<Names, Damage> {
        let mut prefixes = names.filter_map(|name| if form.alt { None } else { deleted_prefix(form, userid, name) });
        let naming = match prefixes.next() {
            Some(prefix) => Naming::new(prefix, None, true)?,
            None => Naming::default(),
        };
        naming.inbox(userid)?;
        Ok(Names { namespace: namespace(form), naming, userid: userid.to_vec() })
    }

    /// The name relative to the owner, as the archive has it, of the folder with this external name. Damage if it is no name,
    /// or that of somebody else's folder.
    ///
    /// Under altnamespace deleted folders have no external name. Who lists them all the same gives them that of the other
    /// namespace, and a folder that really has such a name is not looked for.
    pub fn relative(&self, external: &[u8]) -> Result<Vec<u8>, Damage> {
        let parsed = |ns: &Namespace| self.naming.parse_external(ns, View::User(&self.userid), external);
        let deleted = parsed(&Namespace { alt: false, ..self.namespace.clone() }).ok().filter(|name| name.deleted().is_some());
        let name = deleted.map_or_else(|| parsed(&self.namespace), Ok)?;
        self.check_owner(external, &name)?;
        let relative = self.naming.relative(&name);
        // It is longer than the external one where that has no INBOX before it.
        if relative.len() > NAME_MAX {
            let expected = format!("at most {NAME_MAX} bytes with INBOX before it");
            return Err(Damage::new("folder list", 0, "length of a name", relative.len(), expected));
        }
        Ok(relative)
    }

    fn check_owner(&self, external: &[u8], name: &MailboxName) -> Result<(), Damage> {
        if name.owner() == self.naming.inbox(&self.userid)?.owner() {
            return Ok(());
        }
        let shown = crate::escape::shown(&external[..external.len().min(256)]);
        Err(Damage::new("folder list", 0, "name", shown, "the name of a folder of this user"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::escape::shown;

    const FORMS: [Form; 4] = [
        Form { slash: false, alt: false },
        Form { slash: false, alt: true },
        Form { slash: true, alt: false },
        Form { slash: true, alt: true },
    ];

    /// Names of every awkward kind, below INBOX, as internal names have them.
    fn awkward() -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = [
            "Sent",
            "Work.Projects.a^b",
            "a^b",
            "v1^2^3.x",
            "100%",
            "with space",
            "&AOk-t&AOk-",
            "&2D3eAA-",
            "INBOX",
            "INBOX.x",
            "inbox.x",
            "Other Users",
            "Shared Folders.x",
            "Alt Folders",
            "user.x",
            "DELETED",
            "#calendars.Default",
            "star*,~_+",
        ]
        .map(|name| name.as_bytes().to_vec())
        .to_vec();
        all.push(alloc::vec![b'x'; 400]);
        all
    }

    #[test]
    fn every_name_in_every_form_comes_back() {
        let naming = Naming::default();
        for userid in ["anna", "bob.smith", "dave@virt.example", "bob.smith@other.net"] {
            let inbox = naming.inbox(userid.as_bytes()).unwrap();
            for form in FORMS {
                let names = Names::new(form, userid.as_bytes(), core::iter::empty()).unwrap();
                assert_eq!(names.relative(b"INBOX").unwrap(), b"INBOX");
                for below in awkward() {
                    let relative = [b"INBOX.", &below[..]].concat();
                    let name = naming.parse_relative(&inbox.owner(), &relative).unwrap();
                    let external = naming.external(&namespace(form), View::User(userid.as_bytes()), &name).unwrap();
                    assert_eq!(shown(&names.relative(&external).unwrap()), shown(&relative), "{form:?} {}", shown(&external));
                }
                let relative = b"DELETED.Work.a^b.6B047FCE";
                let name = naming.parse_relative(&inbox.owner(), relative).unwrap();
                let shown = Form { alt: false, ..form };
                let external = naming.external(&namespace(shown), View::User(userid.as_bytes()), &name).unwrap();
                assert_eq!(names.relative(&external).unwrap(), relative);
            }
        }
    }

    #[test]
    fn a_refusal_tells_each_of_the_four_forms() {
        for (name, slash, alt) in [
            ("cylinder.probe", false, false),
            ("cylinder^probe", true, false),
            ("user.bob^smith.cylinder.probe", false, true),
            ("user.anna.cylinder^probe", true, true),
            ("other.net!cylinder.probe", false, false),
            ("other.net!user.anna.cylinder^probe", true, true),
        ] {
            assert_eq!(form_of_refusal(name.as_bytes()), Some(Form { slash, alt }), "{name}");
        }
        for name in ["", "cylinder", "probe", "x.cylinder.probe", "users.cylinder.probe", "user.annacylinder.probe"] {
            assert_eq!(form_of_refusal(name.as_bytes()), None, "{name}");
        }
    }

    /// That is what a server says that reads and writes names as [`Naming`] does.
    #[test]
    fn the_refusal_is_what_a_server_makes_of_the_probe() {
        let naming = Naming::default();
        for userid in ["anna", "bob.smith", "dave@virt.example"] {
            for form in FORMS {
                let name = naming.parse_external(&namespace(form), View::User(userid.as_bytes()), PROBE).unwrap();
                assert_eq!(form_of_refusal(&naming.internal(&name)), Some(form), "{userid} {form:?}");
            }
        }
    }

    #[test]
    fn a_list_tells_the_form_of_its_names() {
        let (dot, dot_alt, slash, slash_alt) = (FORMS[0], FORMS[1], FORMS[2], FORMS[3]);
        for (list, form) in [
            (&["INBOX"][..], dot),
            (&["INBOX", "INBOX.Sent", "DELETED.user.anna.Work.6B047FCE"], dot),
            (&["INBOX", "DELETED.user.anna.Work.6B047FCE"], dot),
            (&["INBOX", "INBOX.a^b"], dot),
            (&["INBOX", "INBOX/Sent"], slash),
            (&["INBOX", "DELETED/user/anna/Work/6B047FCE"], slash),
            (&["INBOX", "INBOX/a.b", "DELETED/user/anna/a.b/6B047FCE"], slash),
            (&["INBOX", "Sent"], slash_alt),
            (&["INBOX", "Sent", "a.b"], slash_alt),
            (&["INBOX", "Work/a.b"], slash_alt),
            (&["INBOX", "INBOX/x", "Sent"], slash_alt),
            (&["INBOX", "Alt Folders/INBOX"], slash_alt),
            (&["INBOX", "Work.a^b"], dot_alt),
            (&["INBOX", "Work.x", "a^b"], dot_alt),
            (&["INBOX", "DELETED.user.bob.Work.6B047FCE"], slash_alt),
        ] {
            assert_eq!(form_of_list(b"anna", list.iter().map(|n| n.as_bytes())), form, "{list:?}");
        }
    }

    #[test]
    fn another_prefix_of_deleted_folders_is_found_out() {
        let list = [&b"INBOX"[..], b"TRASHED.user.bob^smith.Work.6B047FCE"];
        let form = form_of_list(b"bob.smith@other.net", list.into_iter());
        assert_eq!(form, FORMS[0]);
        let names = Names::new(form, b"bob.smith@other.net", list.into_iter()).unwrap();
        assert_eq!(names.relative(list[1]).unwrap(), b"DELETED.Work.6B047FCE");
    }

    #[test]
    fn names_that_are_none_or_of_others_are_refused() {
        let names = Names::new(FORMS[0], b"anna", core::iter::empty()).unwrap();
        for name in [
            "",
            "INBOX.",
            "INBOX..x",
            "INBOX.a/b",
            "user.bob.x",
            "shared.x",
            "INBOX.a\0b",
            "../x",
            "DELETED.user.bob.x.6B047FCE",
        ] {
            assert!(names.relative(name.as_bytes()).is_err(), "{name}");
        }
        let alt = Names::new(FORMS[3], b"anna", core::iter::empty()).unwrap();
        for name in ["Other Users/bob/x", "Shared Folders/x", "/", "a//b", "a/"] {
            assert!(alt.relative(name.as_bytes()).is_err(), "{name}");
        }
        let long = format!("INBOX.{}", "x".repeat(1 << 20));
        assert!(names.relative(long.as_bytes()).is_err());
        for userid in ["", "../x", "a\0b", "a/b"] {
            assert!(Names::new(FORMS[0], userid.as_bytes(), core::iter::empty()).is_err(), "{userid}");
        }
    }

    /// Found by fuzzing: under altnamespace a name that just fits is too long once INBOX stands before it, and what came out
    /// could not be read back.
    #[test]
    fn a_name_that_is_too_long_with_inbox_before_it_is_refused() {
        let (alt, owner) = (Form { slash: true, alt: true }, Naming::default().inbox(b"anna").expect("a userid").owner());
        for len in NAME_MAX - 12..=NAME_MAX {
            let external = alloc::vec![b'x'; len];
            let names = Names::new(alt, b"anna", core::iter::once(&external[..])).expect("a userid");
            match names.relative(&external) {
                Ok(relative) => drop(Naming::default().parse_relative(&owner, &relative).expect("a name")),
                Err(damage) => assert!(format!("{damage}").contains("at most 4096 bytes"), "{len}: {damage}"),
            }
        }
        let external = alloc::vec![b'x'; NAME_MAX];
        let names = Names::new(alt, b"anna", core::iter::once(&external[..])).expect("a userid");
        assert!(names.relative(&external).is_err());
    }
}
