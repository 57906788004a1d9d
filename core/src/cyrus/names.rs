//! Mailbox names: one neutral form, and the conversions from and to every form in which Cyrus writes them.
//!
//! Cyrus has three forms of one name (`imap/mboxname.c`): the *internal* name (`other.net!user.bob^smith.x`), the
//! *mailboxes.db* name of 3.6 and later (separators 0x1F and 0x1D, real dots), and the *external* name, which depends on the
//! viewer and on the options `unixhierarchysep`, `altnamespace` and `virtdomains`. The archive has a fourth: the name
//! *relative* to the owner.
//!
//! What must not come in: directories ([`super::paths`]) and the meaning of database records ([`super::mailboxes`]).

use crate::error::Damage;
use crate::escape::Shown;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// Separator of components in mailboxes.db of 3.6 and later (`imap/mboxname.h`).
pub const DB_HIERARCHY: u8 = 0x1F;
/// Separator of domain and name in mailboxes.db of 3.6 and later (`imap/mboxname.h`).
pub const DB_DOMAIN: u8 = 0x1D;

/// The longest name that is taken, in bytes. Cyrus itself stops at 490 (`MAX_MAILBOX_NAME`); a path stops at 4096.
pub const NAME_MAX: usize = 4096;

/// Components of a name.
type Parts = Vec<Vec<u8>>;

/// A mailbox name in the neutral form: domain, time of deletion, components.
///
/// Components are bytes with their real dots (`a.b`, where the internal name has `a^b`), the same form that `mbname_t` of Cyrus
/// and the keys of mailboxes.db have; they are modified UTF-7 as everywhere on disk. The prefix `DELETED` and the time at the
/// end of a deleted mailbox's name are not components. A value can only be made by [`Naming`], and so is safe by construction:
/// no component is empty or holds NUL, `/`, `!`, `^`, 0x1F or 0x1D, and a domain is never `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct MailboxName {
    domain: Option<Vec<u8>>,
    boxes: Parts,
    deleted: Option<u32>,
    /// The userid that Cyrus makes of it is that of another INBOX.
    stray: bool,
}

/// Whose mailbox it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Owner {
    /// A user, by userid: `anna`, `bob.smith@other.net`. Users of the default domain carry no `@domain`.
    ///
    /// Where the userid that Cyrus makes of a mailbox's name is that of another INBOX, the owner is called by the name itself:
    /// `other.net!bob.smith` (the domain may be empty). No userid has a `!`.
    User(Vec<u8>),
    /// Nobody: the shared namespace.
    Shared,
}

impl Owner {
    /// The owner as people write it, escaped; `%shared` for the mailboxes that belong to no user.
    pub fn shown(&self) -> String {
        match self {
            Owner::Shared => String::from("%shared"),
            Owner::User(userid) => crate::escape::shown(userid),
        }
    }
}

impl MailboxName {
    /// The domain; `None` for the default domain and for servers without virtual domains.
    pub fn domain(&self) -> Option<&[u8]> {
        self.domain.as_deref()
    }

    /// The components with real dots, `user` and the local part among them; never empty.
    pub fn boxes(&self) -> &[Vec<u8>] {
        &self.boxes
    }

    /// When the mailbox was deleted, in seconds since 1970, if this is the name that delayed delete gave it.
    pub fn deleted(&self) -> Option<u32> {
        self.deleted
    }

    /// The local part of the owner's userid, with real dots; `None` for shared mailboxes.
    pub fn localpart(&self) -> Option<&[u8]> {
        match self.boxes.as_slice() {
            [user, local, ..] if user == b"user" => Some(local),
            _ => None,
        }
    }

    /// Whose mailbox it is. Deleted mailboxes belong to the user from whom they were deleted.
    pub fn owner(&self) -> Owner {
        let Some(local) = self.localpart() else { return Owner::Shared };
        if self.stray {
            return Owner::User([self.domain.as_deref().unwrap_or_default(), b"!", local].concat());
        }
        Owner::User(self.userid(local))
    }

    /// The userid that Cyrus makes of the name (`imap/mboxname.c: mbname_userid`), of which it makes that of the user's lock.
    pub(super) fn userid(&self, local: &[u8]) -> Vec<u8> {
        let mut userid = local.to_vec();
        if let Some(domain) = &self.domain {
            userid.push(b'@');
            userid.extend_from_slice(domain);
        }
        userid
    }

    /// The components below the owner's INBOX, or all of them for a shared mailbox.
    pub fn below_owner(&self) -> &[Vec<u8>] {
        if self.localpart().is_some() { &self.boxes[2..] } else { &self.boxes }
    }

    /// True for the INBOX of a user that is not deleted.
    pub fn is_inbox(&self) -> bool {
        self.localpart().is_some() && self.boxes.len() == 2 && self.deleted.is_none()
    }
}

/// Which separator and which prefixes an external name has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// `unixhierarchysep`: `/` separates and a dot is a dot; otherwise `.` separates and `^` is a dot.
    pub slash: bool,
    /// `altnamespace`: a user's folders stand beside INBOX and not below it. Never for administrators.
    pub alt: bool,
    /// `virtdomains` is not off: administrators see `@domain` behind names.
    pub domains: bool,
    /// `userprefix`, the top of other users' mailboxes under `altnamespace`.
    pub user_prefix: Vec<u8>,
    /// `sharedprefix`, the top of shared mailboxes under `altnamespace`.
    pub shared_prefix: Vec<u8>,
    /// `altprefix`, the top of a user's own folders whose names would clash under `altnamespace`.
    pub alt_prefix: Vec<u8>,
}

/// Who looks at an external name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum View<'a> {
    /// An administrator of no domain.
    Admin,
    /// The user with this userid.
    User(&'a [u8]),
}

/// In which form mailboxes.db writes its keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyStyle {
    /// Up to 3.4: the internal name.
    Legacy,
    /// From 3.6: `N` and the mailboxes.db name, `I` and the uniqueid.
    Dbname,
}

/// What to look up to find one owner's mailboxes: one key, and every key that begins with a prefix.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// The key of the top mailbox itself. Under `DELETED` it exists in no sound database, but is harmless to ask for.
    pub exact: Vec<u8>,
    /// What the keys of all mailboxes below begin with.
    pub subtree: Vec<u8>,
}

/// The options that decide how a name is read: prefix of deleted mailboxes, default domain, domains at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Naming {
    deleted_prefix: Vec<u8>,
    default_domain: Option<Vec<u8>>,
    split_domains: bool,
    whole_userids: bool,
}

impl Default for Naming {
    /// Cyrus's own defaults from 3.0 on, but without a default domain.
    fn default() -> Naming {
        Naming { deleted_prefix: b"DELETED".to_vec(), default_domain: None, split_domains: true, whole_userids: false }
    }
}

impl Naming {
    /// `deleted_prefix` and `default_domain` are the options of these names. `split_domains` says whether `!` and `@` separate
    /// a domain: always from 3.0 on, before that only if `virtdomains` is not off. Damage if the prefix cannot be a component.
    ///
    /// A prefix of several components (possible up to 2.5 with a dot in it) is read as one that no mailbox has.
    pub fn new(deleted_prefix: &[u8], default_domain: Option<&[u8]>, split_domains: bool) -> Result<Naming, Damage> {
        check_component("deletedprefix", deleted_prefix)?;
        Ok(Naming {
            deleted_prefix: deleted_prefix.to_vec(),
            default_domain: default_domain.map(<[u8]>::to_vec),
            split_domains,
            whole_userids: false,
        })
    }

    /// The same, but with the userids of a server with `virtdomains: off`: there an administrator's `user/eve@other` is the
    /// mailbox `user.eve@other`, and no mailbox of a domain can be made (seen on 3.6.1).
    pub fn with_whole_userids(self, whole_userids: bool) -> Naming {
        Naming { whole_userids, ..self }
    }

    /// True if a userid with `@` is one component of a mailbox's name, and not a local part and a domain.
    pub fn has_whole_userids(&self) -> bool {
        self.whole_userids || !self.split_domains
    }

    /// True if the server looks in vain for the user's own files by way of the INBOX: it splits every userid at its last `@`
    /// (`imap/mboxname.c: mbname_from_userid`, from 3.0 on), and this user's INBOX has another name.
    pub fn is_aside(&self, userid: &[u8]) -> bool {
        let is_split = self.whole_userids && userid.contains(&b'@');
        self.split_domains && (is_split || userid.contains(&b'!'))
    }

    /// Local part and domain of a userid as the server splits it to find a user's own files, if it does so otherwise than the
    /// INBOX tells: see [`Naming::is_aside`].
    pub(super) fn split_aside(&self, userid: &[u8]) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let at = userid.iter().rposition(|&c| c == b'@').filter(|_| self.is_aside(userid) && !userid.contains(&b'!'))?;
        let domain = Some(userid[at + 1..].to_vec()).filter(|domain| self.default_domain.as_ref() != Some(domain));
        Some((userid[..at].to_vec(), domain))
    }

    /// The option `deletedprefix`.
    pub fn deleted_prefix(&self) -> &[u8] {
        &self.deleted_prefix
    }

    /// Reads an internal name: `user.anna.a^b`, `other.net!user.bob^smith`, `DELETED.user.anna.N.6B047E5B`.
    pub fn parse_internal(&self, name: &[u8]) -> Result<MailboxName, Damage> {
        let (domain, rest) = if self.split_domains { split_domain(name, b'!') } else { (None, name) };
        self.build(name, domain, rest.split(|&c| c == b'.').map(from_caret).collect())
    }

    /// Whether this internal name, of a mailbox or of a quota root, is in the owner's hierarchy. What stands above, such as the
    /// quota root of a domain, is in nobody's.
    pub fn is_of(&self, owner: &Owner, internal: &[u8]) -> bool {
        self.parse_internal(internal).is_ok_and(|name| name.owner() == *owner)
    }

    /// The internal name.
    pub fn internal(&self, name: &MailboxName) -> Vec<u8> {
        let mut out = with_domain(name, b'!');
        join(&mut out, self.full(name).iter().map(|c| to_caret(c)), b'.');
        out
    }

    /// Reads a name as mailboxes.db of 3.6 and later has it, without the `N` of the key.
    pub fn parse_dbname(&self, name: &[u8]) -> Result<MailboxName, Damage> {
        let (domain, rest) = split_domain(name, DB_DOMAIN);
        self.build(name, domain, rest.split(|&c| c == DB_HIERARCHY).map(<[u8]>::to_vec).collect())
    }

    /// The name as mailboxes.db of 3.6 and later has it, without the `N` of the key.
    pub fn dbname(&self, name: &MailboxName) -> Vec<u8> {
        let mut out = with_domain(name, DB_DOMAIN);
        join(&mut out, self.full(name).into_iter(), DB_HIERARCHY);
        out
    }

    /// Reads a name as it stands in mailboxes.db, in the form of `style`. The default domain, which a server reads as none and
    /// so finds no more, is left where it stands: it was not the default one when the mailbox was made.
    pub fn parse_key(&self, style: KeyStyle, name: &[u8]) -> Result<MailboxName, Damage> {
        let (parsed, domain) = match style {
            KeyStyle::Legacy if !self.split_domains => (self.parse_internal(name)?, None),
            KeyStyle::Legacy => (self.parse_internal(name)?, split_domain(name, b'!').0),
            KeyStyle::Dbname => (self.parse_dbname(name)?, split_domain(name, DB_DOMAIN).0),
        };
        Ok(self.keep_default_domain(parsed, domain))
    }

    fn keep_default_domain(&self, name: MailboxName, domain: Option<Vec<u8>>) -> MailboxName {
        if domain.is_some() && domain == self.default_domain {
            return MailboxName { domain, stray: true, ..name };
        }
        name
    }

    /// The INBOX of a user.
    pub fn inbox(&self, userid: &[u8]) -> Result<MailboxName, Damage> {
        let (local, domain) = self.split_userid(userid);
        let inbox = self.build(userid, domain.clone(), vec![b"user".to_vec(), local.to_vec()])?;
        let own_name = domain.filter(|_| userid.contains(&b'!'));
        Ok(self.keep_default_domain(inbox, own_name))
    }

    /// The name of the folder in the archive: internal form, relative to the owner.
    ///
    /// `INBOX`, `INBOX.Sent.a^b`; deleted mailboxes of a user `DELETED.<components below INBOX>.<HEX>`, always with this
    /// prefix, whatever the server's is; shared mailboxes, deleted ones too, have their internal name.
    pub fn relative(&self, name: &MailboxName) -> Vec<u8> {
        if name.localpart().is_none() {
            return self.internal(name);
        }
        let mut parts = vec![if name.deleted.is_some() { b"DELETED".to_vec() } else { b"INBOX".to_vec() }];
        parts.extend(name.below_owner().iter().map(|c| to_caret(c)));
        parts.extend(name.deleted.map(|t| format!("{t:X}").into_bytes()));
        parts.join(&b'.')
    }

    /// Undoes [`Naming::relative`]. Damage if `relative` is not such a name of that owner.
    pub fn parse_relative(&self, owner: &Owner, relative: &[u8]) -> Result<MailboxName, Damage> {
        let bad = || refuse(relative, "`INBOX` or `DELETED` at the start");
        let Owner::User(userid) = owner else {
            let name = self.parse_internal(relative)?;
            return if name.owner() == Owner::Shared {
                Ok(name)
            } else {
                Err(refuse(relative, "the name of a shared mailbox"))
            };
        };
        let mut name = self.inbox(userid)?;
        let mut parts: Vec<&[u8]> = relative.split(|&c| c == b'.').collect();
        match parts.first().copied() {
            Some(b"INBOX") => {}
            Some(b"DELETED") if parts.len() > 1 => {
                let time = parts.pop().and_then(deletion_time);
                name.deleted = Some(time.ok_or_else(|| refuse(relative, "a time in hexadecimal digits at the end"))?);
            }
            _ => return Err(bad()),
        }
        for part in &parts[1..] {
            let part = from_caret(part);
            check_component("mailbox name", &part)?;
            name.boxes.push(part);
        }
        check_len(relative)?;
        Ok(name)
    }

    /// What to look up in mailboxes.db for everything that `owner` has: ordinary mailboxes, then deleted ones.
    ///
    /// For [`Owner::Shared`] that is every name: the caller has to leave out those of users.
    pub fn key_ranges(&self, owner: &Owner, style: KeyStyle) -> Result<Vec<KeyRange>, Damage> {
        let lead: &[u8] = if style == KeyStyle::Dbname { b"N" } else { b"" };
        let Owner::User(userid) = owner else {
            return Ok(vec![KeyRange { exact: lead.to_vec(), subtree: lead.to_vec() }]);
        };
        let inbox = self.inbox(userid)?;
        let mut deleted = inbox.clone();
        deleted.boxes.insert(0, self.deleted_prefix.clone());
        let range = |name: &MailboxName| {
            let (text, separator) = match style {
                KeyStyle::Legacy => (self.internal(name), b'.'),
                KeyStyle::Dbname => (self.dbname(name), DB_HIERARCHY),
            };
            let exact = [lead, &text].concat();
            KeyRange { subtree: [exact.as_slice(), &[separator]].concat(), exact }
        };
        Ok(vec![range(&inbox), range(&deleted)])
    }

    /// The name as `view` sees it; `None` if that view has no name for it (another domain, a deleted mailbox under
    /// altnamespace), or none that means this mailbox and no other.
    ///
    /// `imap/mboxname.c: mbname_extname`, without `crossdomains`. That one also gives names that it reads back as another
    /// mailbox: `a@b` of the default domain, and `a` of the domain `b`, are the same to an administrator.
    pub fn external(&self, ns: &Namespace, view: View<'_>, name: &MailboxName) -> Option<Vec<u8>> {
        let out = self.spelled(ns, view, name)?;
        let is_other = |back: MailboxName| back != *name;
        if self.parse_external(ns, view, &out).is_ok_and(is_other) { None } else { Some(out) }
    }

    fn spelled(&self, ns: &Namespace, view: View<'_>, name: &MailboxName) -> Option<Vec<u8>> {
        let separator = if ns.slash { b'/' } else { b'.' };
        let spell = |c: &Vec<u8>| if ns.slash { c.clone() } else { to_caret(c) };
        let (mut parts, raw) = match view {
            View::Admin => (Vec::new(), self.full(name)),
            View::User(userid) => self.seen_by(ns, userid, name)?,
        };
        parts.extend(raw.iter().map(spell));
        let mut out = parts.join(&separator);
        match (view, &name.domain) {
            (View::Admin, Some(_)) if !ns.domains => return None,
            (View::Admin, Some(domain)) => {
                out.push(b'@');
                out.extend_from_slice(domain);
            }
            _ => {}
        }
        Some(out)
    }

    /// Prefixes that are written as they are, and components that are spelled, of `name` as the user `userid` sees it.
    fn seen_by(&self, ns: &Namespace, userid: &[u8], name: &MailboxName) -> Option<(Parts, Parts)> {
        let viewer = self.inbox(userid).ok()?;
        if viewer.domain != name.domain {
            return None;
        }
        let below = name.below_owner();
        let own = name.localpart().is_some() && name.localpart() == viewer.localpart();
        let top = below.first();
        if name.deleted.is_some() {
            return (!ns.alt).then(|| (Vec::new(), self.full(name)));
        }
        if !ns.alt {
            if own {
                return Some((vec![b"INBOX".to_vec()], below.to_vec()));
            }
            let clash = name.localpart().is_none() && top.is_some_and(|t| t.eq_ignore_ascii_case(b"INBOX"));
            return (!clash).then(|| (Vec::new(), name.boxes.clone()));
        }
        if name.localpart().is_none() {
            return Some(match below {
                [only] if only == b"user" => (vec![ns.user_prefix.clone()], Vec::new()),
                _ => (vec![ns.shared_prefix.clone()], below.to_vec()),
            });
        }
        if !own {
            return Some((vec![ns.user_prefix.clone()], name.boxes[1..].to_vec()));
        }
        let Some(top) = top else { return Some((vec![b"INBOX".to_vec()], Vec::new())) };
        let hidden = if top.eq_ignore_ascii_case(b"INBOX") {
            below.len() == 1 || top != b"INBOX"
        } else {
            [&ns.user_prefix, &ns.shared_prefix, &ns.alt_prefix].contains(&top)
        };
        Some((if hidden { vec![ns.alt_prefix.clone()] } else { Vec::new() }, below.to_vec()))
    }

    /// Reads an external name as `view` writes it.
    ///
    /// `imap/mboxname.c: mbname_from_extname`, without `crossdomains`. More lenient in one point: the names of deleted
    /// mailboxes, which backupcyrusd shows to a user's view, are understood there too.
    pub fn parse_external(&self, ns: &Namespace, view: View<'_>, name: &[u8]) -> Result<MailboxName, Damage> {
        let (text, domain) = match view {
            View::Admin if ns.domains => match name.iter().rposition(|&c| c == b'@') {
                Some(at) => (&name[..at], Some(name[at + 1..].to_vec())),
                None => (name, None),
            },
            View::Admin => (name, None),
            View::User(userid) => (name, self.inbox(userid)?.domain),
        };
        let mut boxes = ns.split(text);
        if let View::User(userid) = view {
            boxes = self.place(ns, self.split_userid(userid).0, boxes);
        } else if boxes[0].eq_ignore_ascii_case(b"INBOX") {
            return Err(refuse(name, "a name of the administrators' view"));
        }
        self.build(name, domain, boxes)
    }

    /// The components, from the root of all mailboxes, of what the user `local` calls `boxes`.
    fn place(&self, ns: &Namespace, local: &[u8], mut boxes: Parts) -> Parts {
        let home = [b"user".to_vec(), local.to_vec()];
        let top = boxes[0].clone();
        if !ns.alt {
            if top.eq_ignore_ascii_case(b"INBOX") {
                boxes.splice(..1, home);
            }
            return boxes;
        }
        if top == ns.alt_prefix {
            boxes.splice(..1, home);
        } else if top == ns.user_prefix {
            boxes[0] = b"user".to_vec();
        } else if top == ns.shared_prefix {
            boxes.remove(0);
        } else if top.eq_ignore_ascii_case(b"INBOX") {
            boxes[0] = b"INBOX".to_vec();
            let replaced = usize::from(boxes.len() == 1);
            boxes.splice(..replaced, home);
        } else {
            boxes.splice(..0, home);
        }
        boxes
    }

    /// Local part and domain of a userid. [`Naming::build`] drops the default domain.
    fn split_userid<'a>(&self, userid: &'a [u8]) -> (&'a [u8], Option<Vec<u8>>) {
        // The own name of a mailbox whose userid is that of another one.
        if let Some(at) = userid.iter().position(|&c| c == b'!').filter(|_| self.split_domains) {
            return (&userid[at + 1..], (at > 0).then(|| userid[..at].to_vec()));
        }
        match userid.iter().rposition(|&c| c == b'@').filter(|_| !self.has_whole_userids()) {
            Some(at) => (&userid[..at], Some(userid[at + 1..].to_vec())),
            None => (userid, None),
        }
    }

    /// All components as the server writes them, with the prefix and the time of a deleted mailbox.
    pub(super) fn full(&self, name: &MailboxName) -> Vec<Vec<u8>> {
        let mut all = Vec::with_capacity(name.boxes.len() + 2);
        all.extend(name.deleted.map(|_| self.deleted_prefix.clone()));
        all.extend_from_slice(&name.boxes);
        all.extend(name.deleted.map(|t| format!("{t:X}").into_bytes()));
        all
    }

    fn build(&self, source: &[u8], domain: Option<Vec<u8>>, mut boxes: Parts) -> Result<MailboxName, Damage> {
        check_len(source)?;
        if let Some(d) = &domain {
            check_domain(d)?;
        }
        if boxes.is_empty() {
            return Err(refuse(source, "a mailbox below the prefix"));
        }
        for part in &boxes {
            check_component("mailbox name", part)?;
        }
        let mut deleted = None;
        if boxes.len() > 2 && boxes[0] == self.deleted_prefix {
            // What only looks like a deleted mailbox (somebody created it by hand) stays an ordinary shared one.
            deleted = boxes.last().and_then(|last| deletion_time(last));
            if deleted.is_some() {
                boxes.remove(0);
                boxes.pop();
            }
        }
        let domain = domain.filter(|d| self.default_domain.as_ref() != Some(d));
        let has_at = matches!(&boxes[..], [user, local, ..] if user == b"user" && local.contains(&b'@'));
        let stray = if self.has_whole_userids() { domain.is_some() } else { has_at };
        Ok(MailboxName { domain, boxes, deleted, stray })
    }
}

impl Namespace {
    /// The components of an external name, with real dots.
    fn split(&self, text: &[u8]) -> Parts {
        if self.slash {
            text.split(|&c| c == b'/').map(<[u8]>::to_vec).collect()
        } else {
            text.split(|&c| c == b'.').map(from_caret).collect()
        }
    }
}

fn refuse(name: &[u8], expected: &str) -> Damage {
    Damage::new("mailbox name", 0, "name", Shown(&name[..name.len().min(256)]), expected)
}

fn check_len(name: &[u8]) -> Result<(), Damage> {
    if name.len() > NAME_MAX {
        return Err(Damage::new("mailbox name", 0, "length", name.len(), format!("at most {NAME_MAX} bytes")));
    }
    Ok(())
}

fn check_component(object: &str, part: &[u8]) -> Result<(), Damage> {
    let bad = |c: &u8| matches!(*c, 0 | b'/' | b'!' | b'^' | DB_HIERARCHY | DB_DOMAIN);
    if part.is_empty() || part.iter().any(bad) {
        let expected = "a component that is not empty and has no NUL, `/`, `!`, `^` or separator";
        return Err(Damage::new(object, 0, "component", format!("`{}`", Shown(&part[..part.len().min(256)])), expected));
    }
    Ok(())
}

fn check_domain(domain: &[u8]) -> Result<(), Damage> {
    check_component("domain", domain)?;
    // Userids are split at their last `@`: with one in it, a domain would not come back.
    if domain == b"." || domain == b".." || domain.contains(&b'@') {
        return Err(Damage::new("domain", 0, "component", Shown(domain), "a domain"));
    }
    Ok(())
}

/// The time that `part` spells exactly as Cyrus writes it: upper-case hexadecimal, no leading zero.
fn deletion_time(part: &[u8]) -> Option<u32> {
    let time = u32::from_str_radix(core::str::from_utf8(part).ok()?, 16).ok()?;
    (format!("{time:X}").as_bytes() == part).then_some(time)
}

fn split_domain(name: &[u8], separator: u8) -> (Option<Vec<u8>>, &[u8]) {
    match name.iter().position(|&c| c == separator) {
        Some(at) => (Some(name[..at].to_vec()), &name[at + 1..]),
        None => (None, name),
    }
}

fn with_domain(name: &MailboxName, separator: u8) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(domain) = &name.domain {
        out.extend_from_slice(domain);
        out.push(separator);
    }
    out
}

fn join(out: &mut Vec<u8>, parts: impl Iterator<Item = Vec<u8>>, separator: u8) {
    for (i, part) in parts.enumerate() {
        if i > 0 {
            out.push(separator);
        }
        out.extend_from_slice(&part);
    }
}

fn swapped(part: &[u8], from: u8, to: u8) -> Vec<u8> {
    part.iter().map(|&c| if c == from { to } else { c }).collect()
}

/// A component as it stands in internal names and in directories: `^` for a dot.
pub(super) fn to_caret(part: &[u8]) -> Vec<u8> {
    swapped(part, b'.', b'^')
}

fn from_caret(part: &[u8]) -> Vec<u8> {
    swapped(part, b'^', b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DB_3_6: &[u8] = include_bytes!("../../../tests/data/cyrus/names/mailboxes-3.6.1.txt");

    fn naming() -> Naming {
        Naming::new(b"DELETED", Some(b"example.org"), true).unwrap()
    }

    fn namespace(slash: bool, alt: bool) -> Namespace {
        Namespace {
            slash,
            alt,
            domains: true,
            user_prefix: b"Other Users".to_vec(),
            shared_prefix: b"Shared Folders".to_vec(),
            alt_prefix: b"Alt Folders".to_vec(),
        }
    }

    fn user(userid: &str) -> Owner {
        Owner::User(userid.as_bytes().to_vec())
    }

    #[test]
    fn names_of_a_real_server_convert_both_ways() {
        let n = naming();
        let mut seen = 0;
        for line in DB_3_6.split(|&c| c == b'\n').filter(|l| l.first() == Some(&b'N')) {
            let dbname = &line[1..line.iter().position(|&c| c == b'\t').unwrap()];
            let name = n.parse_dbname(dbname).unwrap();
            assert_eq!(n.dbname(&name), dbname);
            assert_eq!(n.parse_internal(&n.internal(&name)).unwrap(), name);
            assert_eq!(n.parse_relative(&name.owner(), &n.relative(&name)).unwrap(), name);
            for slash in [false, true] {
                let ns = namespace(slash, false);
                let ext = n.external(&ns, View::Admin, &name).unwrap();
                assert_eq!(n.parse_external(&ns, View::Admin, &ext).unwrap(), name);
                let Owner::User(owner) = name.owner() else { continue };
                for alt in [false, true] {
                    let ns = namespace(slash, alt);
                    match n.external(&ns, View::User(&owner), &name) {
                        Some(ext) => assert_eq!(n.parse_external(&ns, View::User(&owner), &ext).unwrap(), name),
                        None => assert!(alt && name.deleted().is_some()),
                    }
                }
            }
            seen += 1;
        }
        assert_eq!(seen, 19);
    }

    #[test]
    fn each_form_of_each_kind_of_name() {
        let n = naming();
        let slash = namespace(true, false);
        for (dbname, internal, owner, relative, admin) in [
            ("user\x1fanna", "user.anna", user("anna"), "INBOX", "user/anna"),
            ("user\x1fanna\x1fa.b", "user.anna.a^b", user("anna"), "INBOX.a^b", "user/anna/a.b"),
            (
                "other.net\x1duser\x1fbob.smith\x1fx",
                "other.net!user.bob^smith.x",
                user("bob.smith@other.net"),
                "INBOX.x",
                "user/bob.smith/x@other.net",
            ),
            ("shared\x1fpublic", "shared.public", Owner::Shared, "shared.public", "shared/public"),
            ("user", "user", Owner::Shared, "user", "user"),
            (
                "DELETED\x1fuser\x1fanna\x1fN2\x1f6B047E5B",
                "DELETED.user.anna.N2.6B047E5B",
                user("anna"),
                "DELETED.N2.6B047E5B",
                "DELETED/user/anna/N2/6B047E5B",
            ),
            (
                "other.net\x1dDELETED\x1fuser\x1fbob.smith\x1f6B047E5B",
                "other.net!DELETED.user.bob^smith.6B047E5B",
                user("bob.smith@other.net"),
                "DELETED.6B047E5B",
                "DELETED/user/bob.smith/6B047E5B@other.net",
            ),
            (
                "DELETED\x1fshared\x1fx\x1f6B047E5B",
                "DELETED.shared.x.6B047E5B",
                Owner::Shared,
                "DELETED.shared.x.6B047E5B",
                "DELETED/shared/x/6B047E5B",
            ),
        ] {
            let name = n.parse_dbname(dbname.as_bytes()).unwrap();
            assert_eq!(n.parse_internal(internal.as_bytes()).unwrap(), name, "{internal}");
            assert_eq!(n.dbname(&name), dbname.as_bytes());
            assert_eq!(n.internal(&name), internal.as_bytes());
            assert_eq!(name.owner(), owner);
            assert_eq!(n.relative(&name), relative.as_bytes());
            assert_eq!(n.parse_relative(&owner, relative.as_bytes()).unwrap(), name);
            assert_eq!(n.external(&slash, View::Admin, &name).unwrap(), admin.as_bytes());
        }
    }

    #[test]
    fn owner_views_follow_the_options() {
        let n = naming();
        let seen = |slash, alt, viewer: &str, internal: &str| {
            let name = n.parse_internal(internal.as_bytes()).unwrap();
            let view = View::User(viewer.as_bytes());
            n.external(&namespace(slash, alt), view, &name).map(|v| alloc::string::String::from_utf8(v).unwrap())
        };
        assert_eq!(seen(false, false, "anna", "user.anna.a^b").unwrap(), "INBOX.a^b");
        assert_eq!(seen(true, false, "anna", "user.anna.a^b").unwrap(), "INBOX/a.b");
        assert_eq!(seen(true, true, "anna", "user.anna.a^b").unwrap(), "a.b");
        assert_eq!(seen(true, true, "anna", "user.anna").unwrap(), "INBOX");
        assert_eq!(seen(true, true, "anna", "user.anna.INBOX").unwrap(), "Alt Folders/INBOX");
        assert_eq!(seen(true, true, "anna", "user.anna.INBOX.x").unwrap(), "INBOX/x");
        assert_eq!(seen(true, true, "anna", "user.anna.inbox.x").unwrap(), "Alt Folders/inbox/x");
        assert_eq!(seen(true, true, "anna", "user.anna.Shared Folders").unwrap(), "Alt Folders/Shared Folders");
        assert_eq!(seen(true, true, "bob", "user.anna.x").unwrap(), "Other Users/anna/x");
        assert_eq!(seen(true, true, "anna", "shared.public").unwrap(), "Shared Folders/shared/public");
        assert_eq!(seen(false, false, "bob", "user.anna.x").unwrap(), "user.anna.x");
        assert_eq!(seen(false, false, "bob@other.net", "user.anna.x"), None);
        assert_eq!(seen(true, false, "bob.smith@other.net", "other.net!user.bob^smith.x").unwrap(), "INBOX/x");
    }

    /// Found by fuzzing: to an administrator, `a@b` was the name of two mailboxes.
    #[test]
    fn no_view_gives_a_name_that_means_another_mailbox() {
        let naming = Naming::default();
        let ns = namespace(true, false);
        let (of_b, with_at) = (naming.parse_internal(b"b!shared").unwrap(), naming.parse_internal(b"shared@b").unwrap());
        assert_eq!(naming.external(&ns, View::Admin, &of_b).as_deref(), Some(&b"shared@b"[..]));
        assert_eq!(naming.external(&ns, View::Admin, &with_at), None);
        let ns = Namespace { domains: false, ..ns };
        assert_eq!(naming.external(&ns, View::Admin, &with_at).as_deref(), Some(&b"shared@b"[..]));
    }

    /// Found by fuzzing: it was a name without any component.
    #[test]
    fn the_prefix_of_shared_mailboxes_alone_is_no_mailbox() {
        let (naming, ns) = (Naming::default(), namespace(true, true));
        assert!(naming.parse_external(&ns, View::User(b"anna"), b"Shared Folders").is_err());
        let below = naming.parse_external(&ns, View::User(b"anna"), b"Shared Folders/news");
        assert_eq!(below.as_ref().map(MailboxName::boxes), Ok(&[b"news".to_vec()][..]));
    }

    #[test]
    fn the_default_domain_is_no_domain() {
        let n = naming();
        assert_eq!(n.inbox(b"anna@example.org").unwrap().owner(), user("anna"));
        assert_eq!(n.parse_internal(b"example.org!user.anna").unwrap(), n.parse_internal(b"user.anna").unwrap());
        let flat = Naming::new(b"DELETED", None, false).unwrap();
        let inbox = flat.inbox(b"bob@example.com").unwrap();
        assert_eq!(flat.internal(&inbox), b"user.bob@example^com");
        assert_eq!(inbox.owner(), user("bob@example.com"));
    }

    /// The configurations under which names are read.
    fn namings() -> Vec<Naming> {
        let mut all = Vec::new();
        for domain in [None, Some(&b"b"[..])] {
            for (split, whole) in [(true, false), (true, true), (false, true), (false, false)] {
                all.push(Naming::new(b"DELETED", domain, split).unwrap().with_whole_userids(whole));
            }
        }
        all
    }

    /// All internal names of up to four of these components, with and without a domain.
    fn small_names() -> Vec<Vec<u8>> {
        let parts = [&b"user"[..], b"a", b"a@b", b"a@b@b", b"a^b@b^c", b"@", b"a@", b"DELETED", b"6B047E5B"];
        let mut names: Vec<Vec<u8>> = parts.iter().map(|part| part.to_vec()).collect();
        for from in [0, 1, 2].map(|depth| (0..depth).fold(0, |at, n| at + parts.len().pow(n + 1))) {
            let longer: Vec<Vec<u8>> =
                names[from..].iter().flat_map(|name| parts.map(|part| [&name[..], b".", part].concat())).collect();
            names.extend(longer);
        }
        let of_domains: Vec<Vec<u8>> =
            names.iter().flat_map(|name| [&b"b!"[..], b"b.c!"].map(|domain| [domain, name].concat())).collect();
        names.extend(of_domains);
        names
    }

    #[test]
    fn every_name_has_one_owner_and_the_owner_leads_back_to_it() {
        let names = small_names();
        assert!(names.len() > 20_000);
        for naming in namings() {
            let mut inboxes = alloc::collections::BTreeMap::new();
            for internal in &names {
                let Ok(name) = naming.parse_key(KeyStyle::Legacy, internal) else {
                    assert!(!naming.split_domains && internal.contains(&b'!'), "{}", Shown(internal));
                    continue;
                };
                let owner = name.owner();
                let hit = |range: &KeyRange| *internal == range.exact || internal.starts_with(&range.subtree);
                let Owner::User(userid) = &owner else { continue };
                let ranges = naming.key_ranges(&owner, KeyStyle::Legacy).unwrap();
                assert_eq!(ranges.iter().filter(|range| hit(range)).count(), 1, "{naming:?} {}", Shown(internal));
                assert_eq!(naming.parse_relative(&owner, &naming.relative(&name)).as_ref(), Ok(&name), "{}", Shown(internal));
                assert_eq!(naming.inbox(userid).unwrap().owner(), owner);
                if name.is_inbox() {
                    assert_eq!(inboxes.insert(owner.clone(), internal), None, "two INBOXes of {}", owner.shown());
                }
                if naming.split_domains {
                    let dbname = [b"N", &naming.dbname(&name)[..]].concat();
                    let ranges = naming.key_ranges(&owner, KeyStyle::Dbname).unwrap();
                    assert!(ranges.iter().any(|range| dbname == range.exact || dbname.starts_with(&range.subtree)));
                }
            }
        }
    }

    #[test]
    fn without_virtual_domains_a_userid_is_one_component() {
        let off = Naming::new(b"DELETED", Some(b"example.org"), true).unwrap().with_whole_userids(true);
        for (internal, owner) in [
            (&b"user.eve@other"[..], "eve@other"),
            (b"user.anna@example^org", "anna@example.org"),
            (b"user.anna", "anna"),
            (b"other!user.eve", "other!eve"),
        ] {
            let inbox = off.parse_internal(internal).unwrap();
            assert_eq!(inbox.owner(), user(owner));
            assert_eq!(off.internal(&off.inbox(owner.as_bytes()).unwrap()), internal);
        }
        let stray = Naming::default().parse_internal(b"user.eve@other").unwrap();
        assert_eq!(stray.owner(), user("!eve@other"));
        assert_eq!(Naming::default().inbox(b"!eve@other").unwrap(), stray);
        assert!(off.is_aside(b"eve@other") && !off.is_aside(b"eve") && !Naming::default().is_aside(b"eve@other"));
    }

    #[test]
    fn only_a_canonical_time_makes_a_mailbox_deleted() {
        let n = naming();
        for name in
            ["DELETED.user.anna.x", "DELETED.user.anna.6b047e5b", "DELETED.user.anna.06B", "DELETED.x", "DELETED.a.1F0000000"]
        {
            let parsed = n.parse_internal(name.as_bytes()).unwrap();
            assert_eq!((parsed.owner(), parsed.deleted()), (Owner::Shared, None), "{name}");
            assert_eq!(n.internal(&parsed), name.as_bytes());
        }
        let other = Naming::new(b"TRASHED", None, true).unwrap();
        let gone = other.parse_internal(b"TRASHED.user.anna.x.6B047E5B").unwrap();
        assert_eq!(other.relative(&gone), b"DELETED.x.6B047E5B");
        assert_eq!(other.parse_relative(&gone.owner(), b"DELETED.x.6B047E5B").unwrap(), gone);
    }

    #[test]
    fn hostile_names_are_refused() {
        let n = naming();
        let long = [b"user.anna.".as_slice(), &[b'x'; NAME_MAX]].concat();
        for name in [
            &b""[..],
            b"user..anna",
            b".user",
            b"user.anna.",
            b"user.anna./etc",
            b"user.anna.a\0b",
            b"..!user.anna",
            b"!user.anna",
            b"a/b!user.anna",
            b"a!b!user.anna",
            b"a@b!user.anna",
            b"user.a\x1fb",
            &long,
        ] {
            assert!(n.parse_internal(name).is_err(), "{}", Shown(name));
        }
        for name in [&b"user\x1fa^b"[..], b"user\x1f..\x1f..\x1f/", b"\x1duser", b"a\x1db\x1dc"] {
            assert!(n.parse_dbname(name).is_err(), "{}", Shown(name));
        }
        for name in ["INBOX.", "INBOX..x", "inbox", "DELETED", "DELETED.x", "user.anna", "INBOX.a/b", ""] {
            assert!(n.parse_relative(&user("anna"), name.as_bytes()).is_err(), "{name}");
        }
        assert!(n.parse_relative(&Owner::Shared, b"user.anna").is_err());
        assert!(n.inbox(b"anna@..").is_err() && n.inbox(b"../x").is_err() && n.inbox(b"").is_err());
        // Two dots are a component like any other: in directories they are two carets.
        assert_eq!(n.internal(&n.parse_dbname(b"user\x1f..").unwrap()), b"user.^^");
    }

    #[test]
    fn key_ranges_find_a_user_and_no_other() {
        let n = naming();
        let r = n.key_ranges(&user("bob.smith@other.net"), KeyStyle::Dbname).unwrap();
        assert_eq!(r[0].exact, b"Nother.net\x1duser\x1fbob.smith");
        assert_eq!(r[0].subtree, b"Nother.net\x1duser\x1fbob.smith\x1f");
        assert_eq!(r[1].subtree, b"Nother.net\x1dDELETED\x1fuser\x1fbob.smith\x1f");
        let r = n.key_ranges(&user("anna"), KeyStyle::Legacy).unwrap();
        assert_eq!((&r[0].exact[..], &r[0].subtree[..]), (&b"user.anna"[..], &b"user.anna."[..]));
        assert_eq!(r[1].subtree, b"DELETED.user.anna.");
        let mut found = 0;
        for line in DB_3_6.split(|&c| c == b'\n').filter(|l| !l.is_empty()) {
            let key = line.split(|&c| c == b'\t').next().unwrap();
            let hit = n
                .key_ranges(&user("anna"), KeyStyle::Dbname)
                .unwrap()
                .iter()
                .any(|r| key == r.exact || key.starts_with(&r.subtree));
            let hers = key[0] == b'N' && n.parse_dbname(&key[1..]).unwrap().owner() == user("anna");
            assert_eq!(hit, hers);
            found += usize::from(hit);
        }
        assert_eq!(found, 14);
    }
}
