//! imapd.conf, read as Cyrus reads it (`lib/libconfig.c`), and the options that a backup needs, with Cyrus's own defaults.
//!
//! The caller loads the files: [`ConfReader::next_file`] names one, [`ConfReader::supply`] takes its text, until none is left;
//! [`ConfReader::finish`] makes the [`Conf`]. What Cyrus refuses to start with (an option twice, a value that is no switch) is
//! an error here too, for then no server runs with this file. Options that nothing here asks for are kept, but not checked.
//!
//! What must not come in: opening files, and the paths that follow from the options ([`super::paths`]).

use super::names::{Namespace, Naming};
use crate::error::{Damage, Error};
use crate::escape::{Shown, shown};
use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// The largest configuration file that is read, in bytes. Real ones have some ten thousand; this keeps a mistyped path
/// harmless.
pub const FILE_MAX: usize = 4 << 20;
/// How deep `@include` may nest. Cyrus has no limit of its own.
pub const DEPTH_MAX: usize = 16;
/// How many files may be included in all: each is loaded whole.
pub const FILES_MAX: usize = 1024;

/// The release lines of Cyrus that differ in defaults, formats, names or locks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
#[allow(missing_docs, reason = "each is the release of that number")]
pub enum VersionLine {
    V2_3,
    V2_4,
    V2_5,
    V3_0,
    V3_2,
    V3_4,
    V3_6,
    V3_8,
    V3_10,
    V3_12,
    /// The development line 3.13.
    Head,
}

impl VersionLine {
    /// The line of a version number such as `3.6.1` or `2.4.17-caldav`; `None` before 2.3 and for what is no version.
    ///
    /// A development series counts as the release that it led to (3.1 as 3.2), and everything after 3.12 as
    /// [`VersionLine::Head`].
    pub fn of(version: &str) -> Option<VersionLine> {
        let mut parts = version.split(|c: char| !c.is_ascii_digit());
        let major: u32 = parts.next()?.parse().ok()?;
        let minor: u32 = parts.next()?.parse().ok()?;
        use VersionLine::*;
        Some(match (major, minor) {
            (2, 3) => V2_3,
            (2, 4) => V2_4,
            (2, 5) => V2_5,
            (3, 0) => V3_0,
            (3, 1..=2) => V3_2,
            (3, 3..=4) => V3_4,
            (3, 5..=6) => V3_6,
            (3, 7..=8) => V3_8,
            (3, 9..=10) => V3_10,
            (3, 11..=12) => V3_12,
            (3.., _) => Head,
            _ => return None,
        })
    }
}

/// Such as `3.6`; the development line is `3.13`.
impl fmt::Display for VersionLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use VersionLine::*;
        f.write_str(match self {
            V2_3 => "2.3",
            V2_4 => "2.4",
            V2_5 => "2.5",
            V3_0 => "3.0",
            V3_2 => "3.2",
            V3_4 => "3.4",
            V3_6 => "3.6",
            V3_8 => "3.8",
            V3_10 => "3.10",
            V3_12 => "3.12",
            Head => "3.13",
        })
    }
}

/// One line of a configuration file that says something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Line {
    /// `key: value`.
    Option {
        /// The key in lower case.
        key: String,
        /// The value without spaces around it; never empty. There is no quoting in imapd.conf.
        value: Vec<u8>,
        /// Byte offset of the line in its file.
        offset: u64,
    },
    /// `@include: path`.
    Include {
        /// The path as it stands. Cyrus opens it relative to the working directory of the process, not to this file.
        path: Vec<u8>,
        /// Byte offset of the line in its file.
        offset: u64,
    },
}

/// Splits a configuration file into lines. `file_name` stands in errors.
///
/// A backslash at the end of a line joins the next one, in comments too. Damage for a line without `key:`, an empty value, an
/// unknown directive, a NUL byte, and a file of more than [`FILE_MAX`] bytes.
pub fn parse(text: &[u8], file_name: &str) -> Result<Vec<Line>, Damage> {
    if text.len() > FILE_MAX {
        return Err(Damage::new(file_name, 0, "size", text.len(), format!("at most {FILE_MAX} bytes")));
    }
    if let Some(at) = text.iter().position(|&c| c == 0) {
        return Err(Damage::new(file_name, at as u64, "text", "a NUL byte", "text"));
    }
    let mut lines = Vec::new();
    let (mut joined, mut start, mut at) = (Vec::new(), 0, 0);
    for piece in text.split_inclusive(|&c| c == b'\n') {
        let whole = piece.strip_suffix(b"\n");
        at += piece.len();
        joined.extend_from_slice(whole.unwrap_or(piece));
        if whole.is_some() && joined.last() == Some(&b'\\') {
            // At the end of the file Cyrus drops such a line; so does this.
            joined.pop();
            continue;
        }
        lines.extend(parse_line(&joined, file_name, start as u64)?);
        joined.clear();
        start = at;
    }
    Ok(lines)
}

fn parse_line(line: &[u8], file_name: &str, offset: u64) -> Result<Option<Line>, Damage> {
    let line = trim(line);
    if line.is_empty() || line[0] == b'#' {
        return Ok(None);
    }
    let damage =
        |field, found: &[u8], expected| Damage::new(file_name, offset, field, Shown(&found[..found.len().min(80)]), expected);
    let directive = line[0] == b'@';
    let from = usize::from(directive);
    let len = line[from..].iter().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_')).count();
    let (key, rest) = line.split_at(from + len);
    let Some(value) = rest.strip_prefix(b":").map(trim) else { return Err(damage("option name", line, "`name: value`")) };
    if value.is_empty() {
        return Err(damage("option value", key, "a value"));
    }
    let key = shown(key).to_ascii_lowercase();
    match key.as_str() {
        "@include" => Ok(Some(Line::Include { path: value.to_vec(), offset })),
        _ if directive => Err(damage("directive", key.as_bytes(), "`@include`")),
        _ => Ok(Some(Line::Option { key, value: value.to_vec(), offset })),
    }
}

/// Without the bytes at both ends that `isspace` of C names.
fn trim(mut b: &[u8]) -> &[u8] {
    let space = |c: &u8| matches!(c, b' ' | 9..=13);
    while b.first().is_some_and(space) {
        b = &b[1..];
    }
    while b.last().is_some_and(space) {
        b = &b[..b.len() - 1];
    }
    b
}

/// Collects the lines of imapd.conf and of what it includes. The caller opens the files.
///
/// Calling order: while [`ConfReader::next_file`] gives a path, [`ConfReader::supply`] its text; then [`ConfReader::finish`].
#[derive(Debug)]
pub struct ConfReader {
    service: String,
    waiting: Vec<(Vec<u8>, usize)>,
    included: BTreeSet<Vec<u8>>,
    options: BTreeMap<String, Vec<u8>>,
}

impl ConfReader {
    /// A reader that begins with the file `path`. An option `<service>_<name>` goes before `<name>`, as for the Cyrus service
    /// of that name; empty for none.
    pub fn new(path: &[u8], service: &str) -> ConfReader {
        ConfReader {
            service: service.to_ascii_lowercase(),
            waiting: Vec::from([(path.to_vec(), 0)]),
            included: BTreeSet::new(),
            options: BTreeMap::new(),
        }
    }

    /// The file to load next; `None` when all are in.
    pub fn next_file(&self) -> Option<&[u8]> {
        self.waiting.last().map(|(path, _)| path.as_slice())
    }

    /// Takes the text of the file that [`ConfReader::next_file`] named. Damage as in [`parse`], for an option or a file that
    /// comes twice and for includes deeper than [`DEPTH_MAX`]. Does nothing if no file was asked for.
    pub fn supply(&mut self, text: &[u8]) -> Result<(), Damage> {
        let Some((path, depth)) = self.waiting.pop() else { return Ok(()) };
        let name = shown(&path);
        self.included.insert(path);
        for line in parse(text, &name)? {
            match line {
                Line::Include { path, offset } => {
                    let bad = |found: &str, expected: &str| Damage::new(&*name, offset, "@include", found, expected);
                    let twice = self.included.contains(&path) || self.waiting.iter().any(|(p, _)| *p == path);
                    if twice {
                        return Err(bad(&shown(&path), "each file once"));
                    }
                    if depth >= DEPTH_MAX || self.included.len() + self.waiting.len() >= FILES_MAX {
                        return Err(bad(&shown(&path), "fewer and less deeply nested files"));
                    }
                    self.waiting.push((path, depth + 1));
                }
                Line::Option { key, value, offset } => {
                    if self.options.contains_key(&key) {
                        return Err(Damage::new(name, offset, "option name", format!("`{key}` again"), "each option once"));
                    }
                    self.options.insert(key, value);
                }
            }
        }
        Ok(())
    }

    /// The configuration, with the defaults of `version`. Refused if a value is not one that Cyrus takes, or if files are
    /// missing.
    pub fn finish(self, version: VersionLine) -> Result<Conf, Error> {
        if let Some(path) = self.next_file() {
            return Err(Error::Refused(format!("imapd.conf: {} was not loaded", Shown(path))));
        }
        Conf::build(Options { service: self.service, all: self.options }, version)
    }
}

/// All options by name, known or not.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Options {
    service: String,
    all: BTreeMap<String, Vec<u8>>,
}

impl Options {
    fn get(&self, key: &str) -> Option<&[u8]> {
        let own = if self.service.is_empty() { None } else { self.all.get(&format!("{}_{key}", self.service)) };
        own.or_else(|| self.all.get(key)).map(Vec::as_slice)
    }

    fn refused(key: &str, value: &[u8], expected: &str) -> Error {
        Error::Refused(format!("imapd.conf: {key}: found `{}`, expected {expected}", Shown(value)))
    }

    /// `lib/libconfig.c: config_parse_switch`: the first letters count.
    fn switch(&self, key: &str, default: bool) -> Result<bool, Error> {
        match self.get(key) {
            None => Ok(default),
            Some([b'0' | b'n' | b'f', ..] | [b'o', b'f', ..]) => Ok(false),
            Some([b'1' | b'y' | b't', ..] | [b'o', b'n', ..]) => Ok(true),
            Some(v) => Err(Self::refused(key, v, "a switch such as `yes` or `no`")),
        }
    }

    /// The value, one of `allowed`, of which `on` and `off` have more spellings.
    fn choice(&self, key: &str, default: &'static str, allowed: &[&'static str]) -> Result<&'static str, Error> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let word: &[u8] = match value {
            b"1" | b"yes" | b"t" | b"true" => b"on",
            b"0" | b"no" | b"f" | b"false" => b"off",
            other => other,
        };
        let found = allowed.iter().find(|a| a.as_bytes() == word);
        found.copied().ok_or_else(|| Self::refused(key, value, &allowed.join(", ")))
    }

    /// All `<prefix><name>`, by name; the form for the service goes before the plain one.
    fn family(&self, prefix: &str) -> BTreeMap<String, Vec<u8>> {
        let own = format!("{}_{prefix}", self.service);
        let pick = |lead: &str| -> Vec<(String, Vec<u8>)> {
            let named = |(k, v): (&String, &Vec<u8>)| Some((k.strip_prefix(lead)?.to_owned(), v.clone()));
            self.all.iter().filter_map(named).collect()
        };
        let mut out: BTreeMap<String, Vec<u8>> = pick(prefix).into_iter().collect();
        if !self.service.is_empty() {
            out.extend(pick(&own));
        }
        out
    }
}

/// `virtdomains`: where a user's domain comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VirtDomains {
    /// No virtual domains.
    Off,
    /// Only from the userid.
    Userid,
    /// From the userid or from the address that the client reached.
    On,
}

/// `delete_mode`: what becomes of a deleted mailbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeleteMode {
    /// It is gone at once.
    Immediate,
    /// It is renamed under `deletedprefix`, for `cyr_expire` to remove.
    Delayed,
}

/// The names that `metapartition_files` may list, with what 2.5 and 3.0 added.
const META_FILES: [&str; 9] = ["header", "index", "cache", "expunge", "squat", "annotations", "lock", "dav", "archivecache"];

/// What imapd.conf says, with the defaults of the version at hand. The fields bear the names of the options.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conf {
    /// The release line whose defaults and path rules hold.
    pub version: VersionLine,
    /// Absolute, and not `/`.
    pub configdirectory: Vec<u8>,
    /// In lower case. There is no default: without it Cyrus chooses a partition for each new mailbox.
    pub defaultpartition: Option<String>,
    /// Data directory of each `partition-<name>`, by name.
    pub partitions: BTreeMap<String, Vec<u8>>,
    /// Directory of each `metapartition-<name>`, by name.
    pub metapartitions: BTreeMap<String, Vec<u8>>,
    /// Directory of each `archivepartition-<name>`, by name; empty if `archive_enabled` is off.
    pub archivepartitions: BTreeMap<String, Vec<u8>>,
    /// Which files go to the metapartition: names such as `index`.
    pub metapartition_files: BTreeSet<String>,
    /// Directory of each `metadir-<file>-<partition>`, by `<file>-<partition>`. From 3.0 on.
    pub metadirs: BTreeMap<String, Vec<u8>>,
    /// Directories by name get a letter in between.
    pub hashimapspool: bool,
    /// That letter comes from all of the name and not from its first byte.
    pub fulldirhash: bool,
    /// Virtual domains.
    pub virtdomains: VirtDomains,
    /// The domain that is never written. `internal` by default from 3.0 on.
    pub defaultdomain: Option<Vec<u8>>,
    /// On by default from 3.0 on.
    pub unixhierarchysep: bool,
    /// On by default from 3.0 on.
    pub altnamespace: bool,
    /// Top of other users' mailboxes under `altnamespace`.
    pub userprefix: Vec<u8>,
    /// Top of shared mailboxes under `altnamespace`.
    pub sharedprefix: Vec<u8>,
    /// Top of a user's own mailboxes with clashing names under `altnamespace`.
    pub altprefix: Vec<u8>,
    /// Root of the sieve scripts.
    pub sievedir: Vec<u8>,
    /// Scripts lie in the users' home directories, and `sievedir` is not used.
    pub sieveusehomedir: bool,
    /// Root of the namelock files; `configdirectory/lock` by default.
    pub mboxname_lockpath: Vec<u8>,
    /// Root of the directories of user files; `configdirectory` by default and before 3.13.
    pub mboxname_userpath: Vec<u8>,
    /// File of the mailbox list; `configdirectory/mailboxes.db` by default.
    pub mboxlist_db_path: Vec<u8>,
    /// File of the mailbox annotations; `configdirectory/annotations.db` by default.
    pub annotation_db_path: Vec<u8>,
    /// File of the quota database; `configdirectory/quotas.db` by default. The default backend uses only its directory.
    pub quota_db_path: Vec<u8>,
    /// The backend of the quota database; `quotalegacy` (one file for each root) by default.
    pub quota_db: Vec<u8>,
    /// First component of deleted mailboxes' names.
    pub deletedprefix: Vec<u8>,
    /// Delayed by default from 2.5 on.
    pub delete_mode: DeleteMode,
    /// Userids of the administrators.
    pub admins: Vec<Vec<u8>>,
    /// Name of the server; if not set, the host's name.
    pub servername: Option<Vec<u8>>,
    /// The operating system's user as whom Cyrus runs; `cyrus` by default, or what was chosen when it was built.
    pub cyrus_user: Vec<u8>,
    /// New mailboxes get directories by name. From 3.6 on.
    pub mailbox_legacy_dirs: bool,
    /// A process that takes a namelock exclusively takes `$GLOBAL` first. From 3.12 on, where it is the default.
    pub global_lock: bool,
    options: Options,
}

impl Conf {
    /// The configuration of one file without includes and without service: what tests and rescue systems need.
    pub fn from_text(text: &[u8], version: VersionLine) -> Result<Conf, Error> {
        let mut reader = ConfReader::new(b"imapd.conf", "");
        reader.supply(text)?;
        reader.finish(version)
    }

    /// Any option as it stands, under the service's own name first.
    pub fn option(&self, key: &str) -> Option<&[u8]> {
        self.options.get(key)
    }

    /// The same files as another release line reads them: its defaults hold, and its options.
    pub fn with_version(&self, version: VersionLine) -> Result<Conf, Error> {
        Conf::build(self.options.clone(), version)
    }

    fn build(options: Options, version: VersionLine) -> Result<Conf, Error> {
        let o = &options;
        let modern = version >= VersionLine::V3_0;
        let configdirectory =
            o.get("configdirectory").ok_or(Error::Refused("imapd.conf: configdirectory is not set".into()))?;
        if configdirectory.first() != Some(&b'/') || configdirectory == b"/" {
            return Err(Options::refused("configdirectory", configdirectory, "an absolute path that is not `/`"));
        }
        let text = |key: &str, default: &str| expand(o.get(key).unwrap_or(default.as_bytes()), configdirectory);
        let archive_enabled = modern && o.switch("archive_enabled", false)?;
        Ok(Conf {
            version,
            configdirectory: configdirectory.to_vec(),
            defaultpartition: o.get("defaultpartition").map(default_partition).transpose()?,
            partitions: o.family("partition-"),
            metapartitions: o.family("metapartition-"),
            archivepartitions: if archive_enabled { o.family("archivepartition-") } else { BTreeMap::new() },
            metapartition_files: meta_files(o)?,
            metadirs: if modern { o.family("metadir-") } else { BTreeMap::new() },
            hashimapspool: o.switch("hashimapspool", false)?,
            fulldirhash: o.switch("fulldirhash", false)?,
            virtdomains: match o.choice("virtdomains", "off", &["off", "userid", "on"])? {
                "userid" => VirtDomains::Userid,
                "on" => VirtDomains::On,
                _ => VirtDomains::Off,
            },
            defaultdomain: o.get("defaultdomain").or(modern.then_some(b"internal")).map(<[u8]>::to_vec),
            unixhierarchysep: o.switch("unixhierarchysep", modern)?,
            altnamespace: o.switch("altnamespace", modern)?,
            userprefix: text("userprefix", "Other Users"),
            sharedprefix: text("sharedprefix", "Shared Folders"),
            altprefix: text("altprefix", "Alt Folders"),
            sievedir: text("sievedir", "/usr/sieve"),
            sieveusehomedir: o.switch("sieveusehomedir", false)?,
            mboxname_lockpath: text("mboxname_lockpath", "{configdirectory}/lock"),
            mboxname_userpath: if version >= VersionLine::Head {
                text("mboxname_userpath", "{configdirectory}")
            } else {
                configdirectory.to_vec()
            },
            mboxlist_db_path: text("mboxlist_db_path", "{configdirectory}/mailboxes.db"),
            annotation_db_path: text("annotation_db_path", "{configdirectory}/annotations.db"),
            quota_db_path: text("quota_db_path", "{configdirectory}/quotas.db"),
            quota_db: text("quota_db", "quotalegacy"),
            deletedprefix: text("deletedprefix", "DELETED"),
            delete_mode: match o.choice("delete_mode", "", &["immediate", "delayed"])? {
                "immediate" => DeleteMode::Immediate,
                "delayed" => DeleteMode::Delayed,
                _ if version >= VersionLine::V2_5 => DeleteMode::Delayed,
                _ => DeleteMode::Immediate,
            },
            admins: words(&text("admins", "")).map(<[u8]>::to_vec).collect(),
            servername: o.get("servername").map(|v| expand(v, configdirectory)),
            cyrus_user: text("cyrus_user", "cyrus"),
            mailbox_legacy_dirs: version >= VersionLine::V3_6 && o.switch("mailbox_legacy_dirs", false)?,
            global_lock: version >= VersionLine::V3_12 && o.switch("global_lock", true)?,
            options,
        })
    }

    /// How names are read under this configuration.
    pub fn naming(&self) -> Result<Naming, Damage> {
        let split = self.version >= VersionLine::V3_0 || self.virtdomains != VirtDomains::Off;
        let naming = Naming::new(&self.deletedprefix, self.defaultdomain.as_deref(), split)?;
        Ok(naming.with_whole_userids(self.virtdomains == VirtDomains::Off))
    }

    /// How external names are written under this configuration.
    pub fn namespace(&self) -> Namespace {
        Namespace {
            slash: self.unixhierarchysep,
            alt: self.altnamespace,
            domains: self.virtdomains != VirtDomains::Off,
            user_prefix: self.userprefix.clone(),
            shared_prefix: self.sharedprefix.clone(),
            alt_prefix: self.altprefix.clone(),
        }
    }
}

/// Cyrus puts the directory in place of `{configdirectory}` at the start of a text option, and nowhere else.
fn expand(value: &[u8], configdirectory: &[u8]) -> Vec<u8> {
    const MARK: &[u8] = b"{configdirectory}";
    match value.split_at_checked(MARK.len()) {
        Some((head, tail)) if head.eq_ignore_ascii_case(MARK) => [configdirectory, tail].concat(),
        _ => value.to_vec(),
    }
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|c| matches!(c, b' ' | 9..=13)).filter(|w| !w.is_empty())
}

fn default_partition(value: &[u8]) -> Result<String, Error> {
    if !value.iter().all(u8::is_ascii_alphanumeric) {
        return Err(Options::refused("defaultpartition", value, "letters and digits"));
    }
    Ok(shown(value).to_ascii_lowercase())
}

fn meta_files(o: &Options) -> Result<BTreeSet<String>, Error> {
    let known = |w: &[u8]| match META_FILES.iter().find(|f| f.as_bytes() == w) {
        Some(f) => Ok(String::from(*f)),
        None => Err(Options::refused("metapartition_files", w, "names of metadata files")),
    };
    words(o.get("metapartition_files").unwrap_or_default()).map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEBIAN: &[u8] = b"# Debian defaults\n\
        configdirectory: /var/lib/cyrus\n\
        partition-default: /var/spool/cyrus/mail\n\
        Partition-News: /var/spool/cyrus/news\r\n\
        metapartition-default: /var/spool/cyrus/meta\n\
        metapartition_files: header  index\tannotations\n\
        metadir-cache-default: /fast\n\
        admins: cyrus \\\n  boss\n\
        imap_admins: only\n\
        hashimapspool: true\n\
        unixhierarchysep: off\n\
        virtdomains: userid\n\
        defaultdomain: example.org\n\
        idlesocket: {configdirectory}/socket/idle\n\
        mboxname_lockpath: /run/cyrus/lock\n\
        sievedir: {ConfigDirectory}/sieve\n\
        #comment \\\n\
        altnamespace: ignored, the comment goes on\n";

    fn conf(text: &str, version: VersionLine) -> Result<Conf, Error> {
        Conf::from_text(format!("configdirectory: /c\n{text}").as_bytes(), version)
    }

    #[test]
    fn a_whole_file() {
        let c = Conf::from_text(DEBIAN, VersionLine::V3_6).unwrap();
        assert_eq!(c.partitions["default"], b"/var/spool/cyrus/mail");
        assert_eq!(c.partitions["news"], b"/var/spool/cyrus/news");
        assert_eq!(c.partitions.len(), 2);
        assert_eq!(c.metapartitions["default"], b"/var/spool/cyrus/meta");
        assert_eq!(c.metapartition_files.iter().map(String::as_str).collect::<Vec<_>>(), ["annotations", "header", "index"]);
        assert_eq!(c.metadirs["cache-default"], b"/fast");
        assert_eq!(c.admins, [b"cyrus".to_vec(), b"boss".to_vec()]);
        assert_eq!(c.sievedir, b"/var/lib/cyrus/sieve");
        assert_eq!(c.mboxname_lockpath, b"/run/cyrus/lock");
        assert_eq!(c.mboxlist_db_path, b"/var/lib/cyrus/mailboxes.db");
        assert_eq!((c.hashimapspool, c.unixhierarchysep, c.altnamespace), (true, false, true));
        assert_eq!(c.virtdomains, VirtDomains::Userid);
        assert_eq!(c.option("idlesocket"), Some(&b"{configdirectory}/socket/idle"[..]));
    }

    #[test]
    fn defaults_changed_in_2_5_and_3_0() {
        let old = conf("", VersionLine::V2_4).unwrap();
        assert!(!old.altnamespace && !old.unixhierarchysep && old.defaultdomain.is_none());
        assert_eq!(old.delete_mode, DeleteMode::Immediate);
        let mid = conf("", VersionLine::V2_5).unwrap();
        assert!(!mid.altnamespace && mid.delete_mode == DeleteMode::Delayed && !mid.global_lock);
        let new = conf("", VersionLine::V3_12).unwrap();
        assert!(new.altnamespace && new.unixhierarchysep && new.global_lock);
        assert_eq!(new.defaultdomain.as_deref(), Some(&b"internal"[..]));
        assert_eq!(new.mboxname_lockpath, b"/c/lock");
    }

    #[test]
    fn the_service_goes_before() {
        let mut r = ConfReader::new(b"/etc/imapd.conf", "imap");
        r.supply(DEBIAN).unwrap();
        assert_eq!(r.finish(VersionLine::V3_6).unwrap().admins, [b"only".to_vec()]);
    }

    #[test]
    fn switches_as_cyrus_reads_them() {
        for (value, on) in
            [("yes", true), ("1", true), ("t", true), ("on", true), ("no", false), ("off", false), ("f", false), ("0", false)]
        {
            assert_eq!(conf(&format!("fulldirhash: {value}\n"), VersionLine::V3_6).unwrap().fulldirhash, on);
        }
        assert!(conf("fulldirhash: Yes\n", VersionLine::V3_6).is_err());
        assert!(conf("virtdomains: perhaps\n", VersionLine::V3_6).is_err());
        assert_eq!(conf("virtdomains: yes\n", VersionLine::V3_6).unwrap().virtdomains, VirtDomains::On);
        assert!(conf("metapartition_files: header nonsense\n", VersionLine::V3_6).is_err());
        assert!(conf("defaultpartition: a/b\n", VersionLine::V3_6).is_err());
    }

    #[test]
    fn what_cyrus_refuses_is_refused() {
        for text in ["novalue:\n", "no colon\n", "@exec: x\n", "a: b\nA: c\n", "a b: c\n", "a: \0\n"] {
            assert!(conf(text, VersionLine::V3_6).is_err(), "{text:?}");
        }
        for text in ["", "configdirectory: relative\n", "configdirectory: /\n"] {
            assert!(Conf::from_text(text.as_bytes(), VersionLine::V3_6).is_err(), "{text:?}");
        }
        let d = parse(b"a: b\n\nc\n", "x.conf").unwrap_err();
        assert_eq!(alloc::string::ToString::to_string(&d), "x.conf: option name at offset 6: found c, expected `name: value`");
    }

    #[test]
    fn a_continued_last_line_is_dropped_and_one_without_line_end_is_not() {
        assert_eq!(parse(b"a: b\nc: d\\\n", "x").unwrap().len(), 1);
        assert_eq!(parse(b"a: b\nc: d", "x").unwrap().len(), 2);
    }

    #[test]
    fn includes_are_asked_for_and_bounded() {
        let mut r = ConfReader::new(b"/etc/imapd.conf", "");
        r.supply(b"configdirectory: /c\n@include: /etc/more.conf\nfulldirhash: 1\n").unwrap();
        assert_eq!(r.next_file(), Some(&b"/etc/more.conf"[..]));
        r.supply(b"hashimapspool: 1\n").unwrap();
        assert_eq!(r.next_file(), None);
        let c = r.finish(VersionLine::V3_6).unwrap();
        assert!(c.hashimapspool && c.fulldirhash);

        let mut r = ConfReader::new(b"/etc/imapd.conf", "");
        assert!(r.supply(b"@include: /etc/imapd.conf\n").is_err());
        let mut r = ConfReader::new(b"0", "");
        let deep = (1..=20).position(|n| r.supply(format!("@include: {n}\n").as_bytes()).is_err());
        assert_eq!(deep, Some(DEPTH_MAX));
        assert!(ConfReader::new(b"x", "").finish(VersionLine::V3_6).is_err());
    }

    #[test]
    fn version_numbers_have_lines() {
        for (text, line) in [
            ("2.3.19", Some(VersionLine::V2_3)),
            ("2.4.17-caldav-beta10", Some(VersionLine::V2_4)),
            ("3.1.9", Some(VersionLine::V3_2)),
            ("3.6.1-4+deb12u3", Some(VersionLine::V3_6)),
            ("3.12.4", Some(VersionLine::V3_12)),
            ("3.13.7", Some(VersionLine::Head)),
            ("2.2.13", None),
            ("cyrus", None),
        ] {
            assert_eq!(VersionLine::of(text), line);
        }
    }
}
