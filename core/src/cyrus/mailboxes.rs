//! mailboxes.db: what keys and values mean, in every form since 2.3 (`imap/mboxlist.c`).
//!
//! Values are text up to 2.4 (`<type> <partition> <acl>`, in patched 2.4 and 2.5 behind `(uniqueid X ...)`) and a dlist from
//! 2.5 on, with other keys and another order in each line. All forms may stand in one file. [`emit`] writes the form of 3.6 and
//! later.
//!
//! What must not come in: the database file around the records.

use super::conf::VersionLine;
use super::dlist::{self, Value};
pub use super::names::KeyStyle;
use super::names::{MailboxName, Naming};
use super::paths::{Home, Spot};
use crate::error::Damage;
use crate::escape::{Shown, shown};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write as _;

const OBJECT: &str = "mailboxes.db";

/// What a mailbox is for: the first letter of `T` from 3.6 on, one of the letters before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// `e`, or no letter: mail.
    #[default]
    Email,
    /// `n`: netnews, not used any more.
    Netnews,
    /// `b`: a WebDAV collection.
    Collection,
    /// `c`: a calendar.
    Calendar,
    /// `a`: an address book.
    Addressbook,
    /// `j`: JMAP notifications.
    JmapNotify,
    /// `s`: JMAP submission.
    JmapSubmit,
    /// `p`: JMAP push subscriptions.
    JmapPush,
    /// `f`: sieve scripts.
    Sieve,
}

const KINDS: [(u8, Kind); 9] = [
    (b'e', Kind::Email),
    (b'n', Kind::Netnews),
    (b'b', Kind::Collection),
    (b'c', Kind::Calendar),
    (b'a', Kind::Addressbook),
    (b'j', Kind::JmapNotify),
    (b's', Kind::JmapSubmit),
    (b'p', Kind::JmapPush),
    (b'f', Kind::Sieve),
];

impl Kind {
    /// The letter of this kind.
    pub fn letter(self) -> u8 {
        KINDS.iter().find(|(_, k)| *k == self).map_or(b'e', |(c, _)| *c)
    }
}

/// The type of an entry: kind and flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MbType {
    /// What it is for.
    pub kind: Kind,
    /// `d`: a tombstone; there are no files.
    pub deleted: bool,
    /// `m`: on the way to another server.
    pub moving: bool,
    /// `r`: on another server; there are no files here.
    pub remote: bool,
    /// `z`: reserved, being created.
    pub reserved: bool,
    /// `i`: only a place between others; there are no files.
    pub intermediate: bool,
    /// `l`: directories by name (3.6 and later; before that all are).
    pub legacy_dirs: bool,
}

/// Where in a type a flag stands.
type Flag = fn(&mut MbType) -> &mut bool;

/// Flags with their letters, in the order in which Cyrus writes them.
const FLAGS: [(u8, Flag); 6] = [
    (b'd', |t| &mut t.deleted),
    (b'm', |t| &mut t.moving),
    (b'r', |t| &mut t.remote),
    (b'z', |t| &mut t.reserved),
    (b'i', |t| &mut t.intermediate),
    (b'l', |t| &mut t.legacy_dirs),
];

impl MbType {
    /// Reads the letters of `T`, in any order. Letters of later versions are passed over.
    pub fn from_letters(letters: &[u8]) -> MbType {
        let mut out = MbType::default();
        for c in letters {
            if let Some((_, kind)) = KINDS.iter().find(|(letter, _)| letter == c) {
                out.kind = *kind;
            } else if let Some((_, field)) = FLAGS.iter().find(|(letter, _)| letter == c) {
                *field(&mut out) = true;
            }
        }
        out
    }

    /// The letters of `T` as 3.6 and later write them.
    pub fn letters(mut self) -> Vec<u8> {
        let mut out = Vec::from([self.kind.letter()]);
        for (letter, field) in FLAGS {
            if *field(&mut self) {
                out.push(letter);
            }
        }
        out
    }

    /// Reads the number of the text form (`imap/mboxlist.h` of 2.3 to 3.4).
    pub fn from_number(n: u32) -> MbType {
        let bit = |b: u32| n & 1 << b != 0;
        let kinds = [
            (2, Kind::Netnews),
            (5, Kind::Calendar),
            (6, Kind::Addressbook),
            (7, Kind::Collection),
            (9, Kind::JmapSubmit),
            (10, Kind::JmapPush),
        ];
        MbType {
            kind: kinds.iter().find(|(b, _)| bit(*b)).map_or(Kind::Email, |(_, k)| *k),
            remote: bit(0),
            reserved: bit(1),
            moving: bit(3),
            deleted: bit(4),
            intermediate: bit(8),
            legacy_dirs: false,
        }
    }
}

impl MbType {
    /// The number of the text form; undoes [`MbType::from_number`] for what that form can say.
    pub fn number(self) -> u32 {
        let kind = match self.kind {
            Kind::Netnews => 1 << 2,
            Kind::Calendar => 1 << 5,
            Kind::Addressbook => 1 << 6,
            Kind::Collection => 1 << 7,
            Kind::JmapSubmit => 1 << 9,
            Kind::JmapPush => 1 << 10,
            Kind::Email | Kind::JmapNotify | Kind::Sieve => 0,
        };
        let flags = [(self.remote, 0), (self.reserved, 1), (self.moving, 3), (self.deleted, 4), (self.intermediate, 8)];
        flags.into_iter().fold(kind, |n, (set, bit)| n | u32::from(set) << bit)
    }
}

/// Rights by identifier, in the order in which they stand.
pub type Acl = Vec<(Vec<u8>, Vec<u8>)>;

/// A name that a mailbox had before.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FormerName {
    /// The name as mailboxes.db has it (separators 0x1F and 0x1D).
    pub dbname: Vec<u8>,
    /// When the record was written, in seconds since 1970; 0 if unknown.
    pub mtime: u64,
    /// UIDVALIDITY; 0 if unknown.
    pub uidvalidity: u32,
    /// MODSEQ at creation; 0 if unknown.
    pub createdmodseq: u64,
    /// MODSEQ of the last change of the entry; 0 if unknown.
    pub foldermodseq: u64,
    /// Its type at that time.
    pub mbtype: MbType,
    /// Its partition at that time.
    pub partition: Option<Vec<u8>>,
}

/// One value of mailboxes.db.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MbEntry {
    /// `I`; absent in old entries and in the values of `I` keys, where the key has it.
    pub uniqueid: Option<Vec<u8>>,
    /// `N`, the mailboxes.db name; only in the values of `I` and `J` keys.
    pub dbname: Option<Vec<u8>>,
    /// `J` (3.13).
    pub jmapid: Option<Vec<u8>>,
    /// `P`, the partition on this server, or on `server`.
    pub partition: Option<Vec<u8>>,
    /// `S`, the server of a remote or moving mailbox.
    pub server: Option<Vec<u8>>,
    /// `T`.
    pub mbtype: MbType,
    /// `A`; `None` in tombstones.
    pub acl: Option<Acl>,
    /// `V`, UIDVALIDITY; 0 if unknown.
    pub uidvalidity: u32,
    /// `F`, MODSEQ of the last change of the entry; 0 before 3.0.
    pub foldermodseq: u64,
    /// `C`, MODSEQ at creation; 0 before 3.2.
    pub createdmodseq: u64,
    /// `M`, when the record was written, in seconds since 1970; 0 in the text forms.
    pub mtime: u64,
    /// `H`, earlier names, newest first; `None` where the value has no such list.
    pub history: Option<Vec<FormerName>>,
}

impl MbEntry {
    /// True if this server has files of the mailbox: no tombstone, no place between others, not remote, not reserved.
    pub fn is_local_mailbox(&self) -> bool {
        let t = self.mbtype;
        let elsewhere = t.remote || (self.server.is_some() && !t.moving);
        !(t.deleted || t.intermediate || t.reserved || elsewhere) && self.partition.is_some()
    }

    /// True if its files lie in directories by name, given how the keys of its database look.
    pub fn has_legacy_dirs(&self, style: KeyStyle) -> bool {
        style == KeyStyle::Legacy || self.mbtype.legacy_dirs || self.uniqueid.is_none()
    }

    /// Where its files are, for [`super::paths::Paths`]; `name` is its name. For an entry from an `N` or an old key, that has
    /// its own uniqueid.
    pub fn spot<'a>(&'a self, style: KeyStyle, name: &'a MailboxName) -> Spot<'a> {
        match &self.uniqueid {
            Some(id) if !self.has_legacy_dirs(style) => Spot::Id(id),
            _ => Spot::Named(name),
        }
    }

    /// Where the files of the user `userid` are, if this is the entry of the user's INBOX.
    pub fn home<'a>(&'a self, style: KeyStyle, userid: &'a [u8]) -> Home<'a> {
        match &self.uniqueid {
            Some(id) if !self.has_legacy_dirs(style) => Home::Id(id),
            _ => Home::Named(userid),
        }
    }

    /// The ACL as the text forms and cyrus.header have it: `identifier TAB rights TAB ...`.
    pub fn acl_text(&self) -> Vec<u8> {
        self.acl.iter().flatten().flat_map(|(id, rights)| [id, &b"\t"[..], rights, b"\t"].concat()).collect()
    }
}

/// Reads one value, whatever version wrote it.
pub fn parse(value: &[u8]) -> Result<MbEntry, Damage> {
    match value.first() {
        Some(b'%') => parse_dlist(value),
        Some(_) => parse_text(value),
        None => Err(Damage::new(OBJECT, 0, "value", "nothing", "an entry")),
    }
}

fn parse_dlist(value: &[u8]) -> Result<MbEntry, Damage> {
    let (v, _) = dlist::parse(OBJECT, 0, value)?;
    let mut out = MbEntry {
        uniqueid: text(&v, "I"),
        dbname: text(&v, "N"),
        jmapid: text(&v, "J"),
        partition: text(&v, "P"),
        server: text(&v, "S"),
        mbtype: MbType::from_letters(&text(&v, "T").unwrap_or_default()),
        acl: None,
        uidvalidity: small(&v, "V")?,
        foldermodseq: number(&v, "F")?,
        createdmodseq: number(&v, "C")?,
        mtime: number(&v, "M")?,
        history: None,
    };
    if let Some(acl) = v.get("A") {
        out.acl = Some(
            acl.pairs()
                .ok_or_else(|| wrong("A", acl, "identifiers and rights"))?
                .iter()
                .map(right)
                .collect::<Result<_, _>>()?,
        );
    }
    if let Some(history) = v.get("H") {
        let list = history.list().ok_or_else(|| wrong("H", history, "a list"))?;
        out.history = Some(list.iter().map(former).collect::<Result<_, _>>()?);
    }
    Ok(out)
}

fn right((id, rights): &(Vec<u8>, Value)) -> Result<(Vec<u8>, Vec<u8>), Damage> {
    let text = rights.text().ok_or_else(|| wrong("A", rights, "rights"))?;
    Ok((id.clone(), text.to_vec()))
}

fn former(v: &Value) -> Result<FormerName, Damage> {
    Ok(FormerName {
        dbname: text(v, "N").ok_or_else(|| wrong("H", v, "a name"))?,
        mtime: number(v, "M")?,
        uidvalidity: small(v, "V")?,
        createdmodseq: number(v, "C")?,
        foldermodseq: number(v, "F")?,
        mbtype: MbType::from_letters(&text(v, "T").unwrap_or_default()),
        partition: text(v, "P"),
    })
}

fn wrong(field: &'static str, found: &Value, expected: &str) -> Damage {
    let kind = match found {
        Value::Nil => String::from("NIL"),
        Value::Text(t) => shown(&t[..t.len().min(80)]),
        Value::List(_) => String::from("a list"),
        Value::Pairs(_) => String::from("pairs"),
    };
    Damage::new(OBJECT, 0, field, kind, expected)
}

fn text(v: &Value, key: &str) -> Option<Vec<u8>> {
    v.get(key)?.text().map(<[u8]>::to_vec)
}

fn number(v: &Value, key: &'static str) -> Result<u64, Damage> {
    match v.get(key) {
        None | Some(Value::Nil) => Ok(0),
        Some(n) => n.number().ok_or_else(|| wrong(key, n, "a number")),
    }
}

fn small(v: &Value, key: &'static str) -> Result<u32, Damage> {
    let n = number(v, key)?;
    u32::try_from(n).map_err(|_| Damage::new(OBJECT, 0, key, n, "a number of 32 bits"))
}

/// `[(uniqueid X specialuse Y) ]<type> [<server>!]<partition> <acl>`
fn parse_text(value: &[u8]) -> Result<MbEntry, Damage> {
    let mut out = MbEntry::default();
    let mut rest = value;
    if let Some(extended) = value.strip_prefix(b"(") {
        let close = extended.iter().position(|&c| c == b')');
        let close = close.ok_or_else(|| Damage::new(OBJECT, 0, "extended fields", "no end", "`)`"))?;
        let mut words = extended[..close].split(|&c| c == b' ').filter(|w| !w.is_empty());
        while let (Some(key), Some(word)) = (words.next(), words.next()) {
            if key == b"uniqueid" {
                out.uniqueid = Some(word.to_vec());
            }
        }
        rest = &extended[close + 1..];
        rest = rest.strip_prefix(b" ").unwrap_or(rest);
    }
    let mut fields = rest.splitn(3, |&c| c == b' ');
    let kind = fields.next().unwrap_or_default();
    let n = core::str::from_utf8(kind).ok().and_then(|k| k.parse().ok());
    let n = n.ok_or_else(|| Damage::new(OBJECT, 0, "mailbox type", Shown(&kind[..kind.len().min(80)]), "a number"))?;
    out.mbtype = MbType::from_number(n);
    let place = fields.next().ok_or_else(|| Damage::new(OBJECT, 0, "partition", "end of data", "a partition"))?;
    match place.iter().position(|&c| c == b'!') {
        Some(at) => {
            out.server = Some(place[..at].to_vec());
            out.partition = Some(place[at + 1..].to_vec());
        }
        // A remote entry of a front end has the server alone.
        None if out.mbtype.remote => out.server = Some(place.to_vec()),
        None => out.partition = Some(place.to_vec()),
    }
    out.acl = Some(parse_acl(fields.next().unwrap_or_default()));
    Ok(out)
}

/// Reads `identifier TAB rights TAB ...`. An identifier without rights at the end, as a write cut short leaves it, is dropped,
/// as Cyrus does.
pub fn parse_acl(text: &[u8]) -> Acl {
    let mut words = text.split(|&c| c == b'\t');
    let mut out = Vec::new();
    while let (Some(id), Some(rights)) = (words.next(), words.next()) {
        out.push((id.to_vec(), rights.to_vec()));
    }
    out
}

/// Appends `entry` as a server of `version` writes it (3.6 or later; for earlier ones the form of 3.6).
///
/// For an `N` key give the entry with `uniqueid` and without `dbname` and `history`; for an `I` key the other way round.
pub fn emit(entry: &MbEntry, version: VersionLine, out: &mut Vec<u8>) {
    let mut w = Writer { out, unit_separator_in_atoms: version < VersionLine::V3_12, first: true };
    w.open();
    w.field("T", Some(&entry.mbtype.letters()));
    w.field("N", entry.dbname.as_deref());
    w.field("I", entry.uniqueid.as_deref());
    w.field("J", entry.jmapid.as_deref());
    w.field("P", entry.partition.as_deref());
    w.field("S", entry.server.as_deref());
    w.number("V", u64::from(entry.uidvalidity));
    w.number("C", entry.createdmodseq);
    w.number("F", entry.foldermodseq);
    w.key("M");
    w.out.extend_from_slice(format!("{}", entry.mtime).as_bytes());
    if let Some(acl) = &entry.acl {
        w.key("A");
        w.open();
        for (id, rights) in acl {
            w.space();
            w.text(id);
            w.out.push(b' ');
            w.text(rights);
        }
        w.close();
    }
    if let Some(history) = &entry.history {
        w.key("H");
        w.out.push(b'(');
        for (i, old) in history.iter().enumerate() {
            if i > 0 {
                w.out.push(b' ');
            }
            w.former(old);
        }
        w.close();
    }
    w.close();
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    unit_separator_in_atoms: bool,
    first: bool,
}

impl Writer<'_> {
    fn open(&mut self) {
        self.out.extend_from_slice(b"%(");
        self.first = true;
    }

    fn close(&mut self) {
        self.out.push(b')');
        self.first = false;
    }

    fn space(&mut self) {
        if !self.first {
            self.out.push(b' ');
        }
        self.first = false;
    }

    fn key(&mut self, key: &str) {
        self.space();
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(b' ');
    }

    fn field(&mut self, key: &str, value: Option<&[u8]>) {
        if let Some(value) = value {
            self.key(key);
            self.text(value);
        }
    }

    /// Cyrus leaves out what is 0.
    fn number(&mut self, key: &str, n: u64) {
        if n != 0 {
            self.key(key);
            self.out.extend_from_slice(format!("{n}").as_bytes());
        }
    }

    fn former(&mut self, old: &FormerName) {
        self.open();
        self.field("N", Some(&old.dbname));
        self.number("M", old.mtime);
        self.number("V", u64::from(old.uidvalidity));
        self.number("C", old.createdmodseq);
        self.number("F", old.foldermodseq);
        self.field("T", Some(&old.mbtype.letters()));
        self.field("P", old.partition.as_deref());
        self.close();
    }

    /// An atom where the version allows one (`lib/imparse.c: imparse_isnatom`: up to 3.10 with 0x1F), else quotes (`lib/prot.c:
    /// prot_printamap`: not with `%`), else a literal.
    fn text(&mut self, t: &[u8]) {
        let lowest = if self.unit_separator_in_atoms { 0x1F } else { 0x20 };
        let atom = |c: &u8| (lowest..0x7F).contains(c) && !b" {()\"%*\\".contains(c);
        let quotable = |c: &u8| (1..0x80).contains(c) && !b"\r\n\"%\\".contains(c);
        let short = t.len() < 1024;
        if short && !t.is_empty() && t != b"NIL" && t.iter().all(atom) {
            self.out.extend_from_slice(t);
        } else if short && t.iter().all(quotable) {
            self.out.push(b'"');
            self.out.extend_from_slice(t);
            self.out.push(b'"');
        } else {
            self.out.extend_from_slice(format!("{{{}+}}\r\n", t.len()).as_bytes());
            self.out.extend_from_slice(t);
        }
    }
}

/// True for a value that 3.12 or later wrote: a name stands in quotes that up to 3.10 is an atom.
pub fn is_of_3_12(value: &[u8]) -> bool {
    let was_atom = |c: &u8| (0x1F..0x7F).contains(c) && !b" {()\"%*\\".contains(c);
    let mut quoted = value.split(|&c| c == b'"').skip(1).step_by(2);
    value.starts_with(b"%(") && quoted.any(|text| text.contains(&super::names::DB_HIERARCHY) && text.iter().all(was_atom))
}

/// What a key of mailboxes.db stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Key {
    /// A mailbox by name.
    Name(MailboxName),
    /// A mailbox by uniqueid (3.6 and later).
    Id(Vec<u8>),
    /// A helper record: `$RACL...`, `$RUNQ...` (3.0 to 3.4), `A...`, `J...` (3.6 and later). Nothing for a backup.
    Other,
}

/// Reads a key. Damage if it is a name that cannot be one.
pub fn parse_key(naming: &Naming, style: KeyStyle, key: &[u8]) -> Result<Key, Damage> {
    match (style, key.split_first()) {
        (KeyStyle::Legacy, None | Some((b'$', _))) => Ok(Key::Other),
        (KeyStyle::Legacy, _) => naming.parse_key(style, key).map(Key::Name),
        (KeyStyle::Dbname, Some((b'N', name))) => naming.parse_key(style, name).map(Key::Name),
        (KeyStyle::Dbname, Some((b'I', id))) => {
            super::paths::check_uniqueid(id)?;
            Ok(Key::Id(id.to_vec()))
        }
        (KeyStyle::Dbname, _) => Ok(Key::Other),
    }
}

/// Finds out from its keys in which style a database is. Feed any number of keys; stop when [`StyleGuess::certain`] says so.
///
/// A key with 0x1F or 0x1D is new and one with a dot before any of them is old. Single words (`Nuser`, or the old shared
/// mailbox `Nuser`) prove nothing; without proof the style is new if every key begins with one of the letters of the new style.
#[derive(Clone, Copy, Debug, Default)]
pub struct StyleGuess {
    proof: Option<KeyStyle>,
    plain: bool,
    seen: bool,
}

impl StyleGuess {
    /// Takes one key into account.
    pub fn feed(&mut self, key: &[u8]) {
        self.seen = true;
        let separator = key.iter().find(|c| matches!(**c, b'.' | super::names::DB_HIERARCHY | super::names::DB_DOMAIN));
        let lettered = matches!(key.first(), Some(b'N' | b'I' | b'A' | b'J'));
        match separator {
            // Components of new names have dots too, and so have domains: only the start tells.
            Some(b'.') if key.starts_with(b"user.") || !lettered => self.proof = self.proof.or(Some(KeyStyle::Legacy)),
            Some(b'.') | None => self.plain |= !lettered,
            Some(_) if lettered => self.proof = self.proof.or(Some(KeyStyle::Dbname)),
            Some(_) => self.plain = true,
        }
    }

    /// The style, once a key has proved it.
    pub fn certain(&self) -> Option<KeyStyle> {
        self.proof
    }

    /// The style after all keys; [`KeyStyle::Legacy`] for an empty database of unknown version.
    pub fn finish(self) -> KeyStyle {
        match self.proof {
            Some(style) => style,
            None if self.seen && !self.plain => KeyStyle::Dbname,
            None => KeyStyle::Legacy,
        }
    }
}

/// Appends what a value of mailboxes.db says, a line for each field, for people.
pub fn describe_entry(value: &[u8], out: &mut String) {
    let entry = match parse(value) {
        Ok(entry) => entry,
        Err(damage) => {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "damaged: {damage}");
            return;
        }
    };
    let _ = writeln!(out, "type: {}", shown(&entry.mbtype.letters()));
    let texts = [
        ("name", &entry.dbname),
        ("uniqueid", &entry.uniqueid),
        ("jmapid", &entry.jmapid),
        ("partition", &entry.partition),
        ("server", &entry.server),
    ];
    for (what, text) in texts {
        if let Some(text) = text {
            let _ = writeln!(out, "{what}: {}", Shown(text));
        }
    }
    let numbers = [
        ("uidvalidity", u64::from(entry.uidvalidity)),
        ("createdmodseq", entry.createdmodseq),
        ("foldermodseq", entry.foldermodseq),
        ("mtime", entry.mtime),
    ];
    for (what, n) in numbers.iter().filter(|(_, n)| *n != 0) {
        let _ = writeln!(out, "{what}: {n}");
    }
    for (id, rights) in entry.acl.iter().flatten() {
        let _ = writeln!(out, "acl: {} {}", Shown(id), Shown(rights));
    }
    for old in entry.history.iter().flatten() {
        let _ = writeln!(out, "former name: {} until {}", Shown(&old.dbname), old.mtime);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cyrus::names::Owner;

    const V3_2: &[u8] = include_bytes!("../../../tests/data/cyrus/names/mailboxes-3.2.6.txt");
    const V3_6: &[u8] = include_bytes!("../../../tests/data/cyrus/names/mailboxes-3.6.1.txt");
    const V3_10: &[u8] = include_bytes!("../../../tests/data/cyrus/names/mailboxes-3.10.2.txt");
    const V3_12: &[u8] = include_bytes!("../../../tests/data/cyrus/names/mailboxes-3.12.4.txt");

    fn records(dump: &'static [u8]) -> impl Iterator<Item = (&'static [u8], &'static [u8])> {
        dump.split(|&c| c == b'\n').filter(|l| !l.is_empty()).map(|line| {
            let tab = line.iter().position(|&c| c == b'\t').unwrap();
            (&line[..tab], &line[tab + 1..])
        })
    }

    #[test]
    fn every_record_of_real_servers_is_read() {
        let naming = Naming::new(b"DELETED", Some(b"example.org"), true).unwrap();
        for (dump, style, names, ids) in [
            (V3_2, KeyStyle::Legacy, 2, 0),
            (V3_6, KeyStyle::Dbname, 19, 17),
            (V3_10, KeyStyle::Dbname, 2, 2),
            (V3_12, KeyStyle::Dbname, 2, 2),
        ] {
            let mut guess = StyleGuess::default();
            records(dump).for_each(|(k, _)| guess.feed(k));
            assert_eq!((guess.finish(), guess.certain()), (style, Some(style)));
            let (mut named, mut by_id) = (0, 0);
            for (key, value) in records(dump) {
                let entry = parse(value).unwrap();
                match parse_key(&naming, style, key).unwrap() {
                    Key::Name(name) => {
                        named += 1;
                        assert!(entry.uniqueid.is_some() && entry.dbname.is_none());
                        assert_eq!(entry.is_local_mailbox(), !entry.mbtype.deleted, "{}", Shown(key));
                        let by_name = matches!(entry.spot(style, &name), Spot::Named(_));
                        assert_eq!(by_name, style == KeyStyle::Legacy);
                        assert!(entry.mbtype.deleted || matches!(name.owner(), Owner::User(_)) || key.starts_with(b"Nshared"));
                    }
                    Key::Id(id) => {
                        by_id += 1;
                        // The record by name, of the name that the record by id has, leads back to the id.
                        let back = [b"N", entry.dbname.unwrap().as_slice()].concat();
                        let (_, value) = records(dump).find(|(k, _)| *k == back).unwrap();
                        assert_eq!(parse(value).unwrap().uniqueid, Some(id));
                    }
                    Key::Other => panic!("{}", Shown(key)),
                }
            }
            assert_eq!((named, by_id), (names, ids));
        }
    }

    #[test]
    fn values_of_3_12_are_told_from_older_ones() {
        for (dump, expected) in [(V3_6, false), (V3_10, false), (V3_12, true)] {
            assert_eq!(records(dump).any(|(_, value)| is_of_3_12(value)), expected);
        }
        // Up to 3.10 a blank needs quotes as well.
        assert!(!is_of_3_12(b"%(T e N \"user\x1fanna\x1fMy mail\" P default)"));
    }

    #[test]
    fn values_of_3_6_and_later_round_trip_byte_for_byte() {
        for (dump, version) in [(V3_6, VersionLine::V3_6), (V3_10, VersionLine::V3_10), (V3_12, VersionLine::V3_12)] {
            for (_, value) in records(dump) {
                let mut out = Vec::new();
                emit(&parse(value).unwrap(), version, &mut out);
                assert_eq!(shown(&out), shown(value));
            }
        }
    }

    #[test]
    fn a_tombstone_and_a_history() {
        let at = |key: &[u8]| parse(records(V3_6).find(|(k, _)| *k == key).unwrap().1).unwrap();
        let gone = at(b"Nuser\x1fanna\x1fN");
        assert!(gone.mbtype.deleted && gone.acl.is_none() && gone.partition.is_none() && !gone.is_local_mailbox());
        let entry = at(b"I3rmzf8lcyohuc3kvmicfgl65");
        let history = entry.history.as_ref().unwrap();
        assert_eq!(history.len(), 2);
        assert_eq!((&history[0].dbname[..], history[0].foldermodseq), (&b"user\x1fanna\x1fN2"[..], 52));
        assert!(history[1].mbtype.deleted);
        assert_eq!(entry.acl_text(), b"anna\tlrswipkxtecdan\tbob.smith\tlrs\t");
        assert_eq!((entry.uidvalidity, entry.createdmodseq, entry.foldermodseq, entry.mtime), (1795456598, 45, 52, 1795456603));
    }

    #[test]
    fn text_forms_of_2_x() {
        let e = parse(b"0 default anna\tlrswipcda\tanyone\tlrs\t").unwrap();
        assert_eq!(e.partition.as_deref(), Some(&b"default"[..]));
        assert_eq!(e.acl.as_ref().unwrap().len(), 2);
        assert_eq!(e.acl_text(), b"anna\tlrswipcda\tanyone\tlrs\t");
        assert!(e.is_local_mailbox() && e.has_legacy_dirs(KeyStyle::Legacy));
        let e = parse(b"1 back.example.org!news anna\tl\t").unwrap();
        assert_eq!((e.server.as_deref(), e.partition.as_deref()), (Some(&b"back.example.org"[..]), Some(&b"news"[..])));
        assert!(e.mbtype.remote && !e.is_local_mailbox());
        assert!(!parse(b"1 back.example.org anna\tl\t").unwrap().is_local_mailbox());
        // While it moves away, the files are still here.
        let e = parse(b"8 back.example.org!default anna\tl\t").unwrap();
        assert!(e.mbtype.moving && e.is_local_mailbox());
        assert!(!parse(b"2 default ").unwrap().is_local_mailbox());
        let e = parse(b"(uniqueid 5dbfed0f4f5c9a3b specialuse \\Sent) 32 default anna\tl\t").unwrap();
        assert_eq!(e.uniqueid.as_deref(), Some(&b"5dbfed0f4f5c9a3b"[..]));
        assert_eq!((e.mbtype.kind, e.is_local_mailbox()), (Kind::Calendar, true));
    }

    #[test]
    fn the_dlist_of_2_5_to_3_4_and_of_the_development_line() {
        let e = parse(b"%(A %(anna lrs anyone \"\") I 5dbfed0f4f5c9a3b P default T dc V 1 M 2)").unwrap();
        assert_eq!((e.mbtype.kind, e.mbtype.deleted), (Kind::Calendar, true));
        assert_eq!(e.acl.as_ref().unwrap()[1], (b"anyone".to_vec(), Vec::new()));
        let head = b"%(T el N \"user\x1fanna\" J Pabc P default S far V 1 C 2 F 3 M 4 A %() H (%(N \"user\x1fb\" T e P q)))";
        let e = parse(head).unwrap();
        assert_eq!(e.jmapid.as_deref(), Some(&b"Pabc"[..]));
        assert!(e.mbtype.legacy_dirs && e.has_legacy_dirs(KeyStyle::Dbname));
        assert_eq!(e.home(KeyStyle::Dbname, b"anna"), Home::Named(b"anna"));
        let mut out = Vec::new();
        emit(&e, VersionLine::Head, &mut out);
        assert_eq!(shown(&out), shown(head));
    }

    #[test]
    fn damage_is_reported() {
        for value in [
            &b""[..],
            b"x default anna\tl\t",
            b"0",
            b"(uniqueid x",
            b"%(T e",
            b"%(A lrs)",
            b"%(V x)",
            b"%(V 4294967296)",
            b"%(H x)",
            b"%(H (x))",
            b"%(A %(anna NIL))",
        ] {
            assert!(parse(value).is_err(), "{}", Shown(value));
            let mut text = String::new();
            describe_entry(value, &mut text);
            assert!(text.starts_with("damaged: mailboxes.db"), "{text}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic_and_what_is_read_can_be_written() {
        let (_, value) = records(V3_6).find(|(k, _)| *k == b"I3rmzf8lcyohuc3kvmicfgl65").unwrap();
        for at in 0..value.len() {
            let _ = parse(&value[..at]);
            for c in [0, 0x1F, b' ', b'"', b'(', b')', b'%', b'{', b'\\', b'9', b'~', 0xFF] {
                let mut data = value.to_vec();
                data[at] = c;
                let Ok(entry) = parse(&data) else { continue };
                for version in [VersionLine::V3_6, VersionLine::V3_12] {
                    let mut out = Vec::new();
                    emit(&entry, version, &mut out);
                    assert_eq!(parse(&out).unwrap(), entry, "{}", Shown(&data));
                }
            }
        }
    }

    #[test]
    fn key_styles() {
        let guess = |keys: &[&str]| {
            let mut g = StyleGuess::default();
            keys.iter().for_each(|k| g.feed(k.as_bytes()));
            g.finish()
        };
        assert_eq!(guess(&[]), KeyStyle::Legacy);
        assert_eq!(guess(&["user"]), KeyStyle::Legacy);
        assert_eq!(guess(&["I38wo32m6dnm1rwfdv73z6tdk", "Nshared"]), KeyStyle::Dbname);
        assert_eq!(guess(&["$RACL$U$anna$user.bob", "Nice.things", "user.anna"]), KeyStyle::Legacy);
        assert_eq!(guess(&["Nother.net\x1duser\x1fbob.smith"]), KeyStyle::Dbname);
        assert_eq!(guess(&["DELETED.user.anna.6B047E5B"]), KeyStyle::Legacy);
        let naming = Naming::default();
        assert_eq!(parse_key(&naming, KeyStyle::Legacy, b"$RACL$U$x").unwrap(), Key::Other);
        assert_eq!(parse_key(&naming, KeyStyle::Dbname, b"Auser\x1fx").unwrap(), Key::Other);
        assert!(parse_key(&naming, KeyStyle::Dbname, b"I../..").is_err());
        assert!(parse_key(&naming, KeyStyle::Dbname, b"N").is_err());
    }

    #[test]
    fn a_description_for_people() {
        let mut text = String::new();
        describe_entry(records(V3_12).next().unwrap().1, &mut text);
        assert_eq!(
            text,
            "type: e\nname: user\\x1fanna\npartition: default\nuidvalidity: 1795458887\ncreatedmodseq: 1\nfoldermodseq: 1\n\
             mtime: 1795458886\nacl: anna lrswipkxtecdan\n"
        );
    }
}
