//! Where things lie: every path that follows from imapd.conf, a mailbox name, a uniqueid or a userid.
//!
//! Sources: `imap/mboxname.c` (mboxname_hash, mboxname_id_hash, mboxname_metapath, mboxname_lockpath, mboxname_conf_getpath),
//! `imap/user.c` (sieve, `*U*` names), `lib/cyrusdb_quotalegacy.c`, `lib/libconfig.c` (dir_hash_c).
//!
//! Names and ids come from files that a stranger may have written: what would leave its root is an error and never a path.
//! What must not come in: looking whether anything is there.

use super::conf::{Conf, VersionLine, VirtDomains};
use super::names::{MailboxName, Naming, Owner, to_caret};
use crate::error::{Damage, Error};
use crate::escape::Shown;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The longest uniqueid that is taken, in bytes. Real ones have 16, 24 or 36.
pub const UNIQUEID_MAX: usize = 128;

/// How the server finds a mailbox's directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spot<'a> {
    /// By name: the only way up to 3.4; later for entries with the flag `l`, or without uniqueid.
    Named(&'a MailboxName),
    /// By uniqueid: from 3.6 on.
    Id(&'a [u8]),
}

/// How the server finds a user's files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home<'a> {
    /// By userid: up to 3.4, and later if the user's INBOX has its directory by name.
    Named(&'a [u8]),
    /// By the uniqueid of the user's INBOX: from 3.6 on.
    Id(&'a [u8]),
}

/// The files of a mailbox that options can send elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetaFile {
    /// `cyrus.header`
    Header,
    /// `cyrus.index`
    Index,
    /// `cyrus.cache`
    Cache,
    /// `cyrus.expunge`, 2.3 only
    Expunge,
    /// `cyrus.squat`
    Squat,
    /// `cyrus.annotations`
    Annotations,
    /// `cyrus.dav`
    Dav,
    /// `cyrus.cache` of the archive partition
    ArchiveCache,
}

impl MetaFile {
    /// The name of the file.
    pub fn file_name(self) -> &'static str {
        match self {
            MetaFile::Header => "cyrus.header",
            MetaFile::Index => "cyrus.index",
            MetaFile::Cache | MetaFile::ArchiveCache => "cyrus.cache",
            MetaFile::Expunge => "cyrus.expunge",
            MetaFile::Squat => "cyrus.squat",
            MetaFile::Annotations => "cyrus.annotations",
            MetaFile::Dav => "cyrus.dav",
        }
    }

    /// Its name in `metapartition_files`.
    fn option(self) -> &'static str {
        match self {
            MetaFile::Header => "header",
            MetaFile::Index => "index",
            MetaFile::Cache => "cache",
            MetaFile::Expunge => "expunge",
            MetaFile::Squat => "squat",
            MetaFile::Annotations => "annotations",
            MetaFile::Dav => "dav",
            MetaFile::ArchiveCache => "archivecache",
        }
    }

    /// Its name in `metadir-<name>-<partition>`: annotations follow the index, expunge stays.
    fn override_option(self) -> Option<&'static str> {
        match self {
            MetaFile::Annotations => Some("index"),
            MetaFile::Expunge => None,
            other => Some(other.option()),
        }
    }
}

/// The letter of a hashed directory (`dir_hash_c`). With `full`, all of `name` up to the first dot counts, otherwise its first
/// byte.
pub fn hash_letter(name: &[u8], full: bool) -> u8 {
    if full {
        let n = name.iter().take_while(|&&c| c != b'.').fold(0u32, |n, &c| ((n << 3) ^ (n >> 5)) ^ u32::from(c));
        return b'A' + (n % 23) as u8;
    }
    name.first().map(u8::to_ascii_lowercase).filter(u8::is_ascii_lowercase).unwrap_or(b'q')
}

/// `Ok` if `id` can stand in a path: 2 to [`UNIQUEID_MAX`] letters, digits, `-` or `_`.
///
/// Cyrus makes hexadecimal digits (up to 2.5), dashed UUIDs or 24 of `[0-9a-z]`; anything else was not made by it.
pub fn check_uniqueid(id: &[u8]) -> Result<(), Damage> {
    let plain = |c: &u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    if (2..=UNIQUEID_MAX).contains(&id.len()) && id.iter().all(plain) {
        return Ok(());
    }
    Err(Damage::new("uniqueid", 0, "uniqueid", format!("`{}`", Shown(&id[..id.len().min(256)])), "letters and digits"))
}

/// The paths of one configuration.
#[derive(Clone, Debug)]
pub struct Paths<'a> {
    conf: &'a Conf,
    naming: Naming,
}

impl<'a> Paths<'a> {
    /// The paths under `conf`. Damage if its `deletedprefix` cannot be part of a path.
    pub fn new(conf: &'a Conf) -> Result<Paths<'a>, Damage> {
        Ok(Paths { conf, naming: conf.naming()? })
    }

    /// How names are read under this configuration.
    pub fn naming(&self) -> &Naming {
        &self.naming
    }

    /// mailboxes.db.
    pub fn mailboxes_db(&self) -> Result<Vec<u8>, Error> {
        rooted("mboxlist_db_path", &self.conf.mboxlist_db_path)
    }

    /// The global annotations.db.
    pub fn annotations_db(&self) -> Result<Vec<u8>, Error> {
        rooted("annotation_db_path", &self.conf.annotation_db_path)
    }

    /// The root of a partition's data.
    pub fn partition(&self, partition: &[u8]) -> Result<Vec<u8>, Error> {
        let name = core::str::from_utf8(partition).ok();
        let Some((name, root)) = name.and_then(|n| Some((n, self.conf.partitions.get(n)?))) else {
            return Err(Error::Refused(format!("imapd.conf: partition-{} is not set", Shown(partition))));
        };
        rooted(&format!("partition-{name}"), root)
    }

    /// The directory of a mailbox's messages.
    pub fn data_dir(&self, partition: &[u8], spot: Spot<'_>) -> Result<Vec<u8>, Error> {
        self.below(self.partition(partition)?, spot)
    }

    /// The directory of a mailbox's archived messages: the same as [`Paths::data_dir`] without an archive partition.
    pub fn archive_dir(&self, partition: &[u8], spot: Spot<'_>) -> Result<Vec<u8>, Error> {
        let root = match self.lookup(&self.conf.archivepartitions, partition)? {
            Some(root) => root,
            None => self.partition(partition)?,
        };
        self.below(root, spot)
    }

    /// A message file.
    pub fn message(&self, partition: &[u8], spot: Spot<'_>, uid: u32) -> Result<Vec<u8>, Error> {
        Ok(message_in(self.data_dir(partition, spot)?, uid))
    }

    /// A message file that is on the archive partition.
    pub fn archived_message(&self, partition: &[u8], spot: Spot<'_>, uid: u32) -> Result<Vec<u8>, Error> {
        Ok(message_in(self.archive_dir(partition, spot)?, uid))
    }

    /// A metadata file: on its own directory (`metadir-...`), else on the metapartition if `metapartition_files` lists it, else
    /// with the messages.
    pub fn meta(&self, partition: &[u8], spot: Spot<'_>, file: MetaFile) -> Result<Vec<u8>, Error> {
        let mut dir = self.below(self.meta_root(partition, file)?, spot)?;
        push(&mut dir, file.file_name().as_bytes());
        Ok(dir)
    }

    fn meta_root(&self, partition: &[u8], file: MetaFile) -> Result<Vec<u8>, Error> {
        let conf = self.conf;
        let own = file.override_option().map(|o| [o.as_bytes(), b"-", partition].concat());
        if let Some(root) = own.map(|key| self.lookup(&conf.metadirs, &key)).transpose()?.flatten() {
            return Ok(root);
        }
        if conf.metapartition_files.contains(file.option())
            && let Some(root) = self.lookup(&conf.metapartitions, partition)?
        {
            return Ok(root);
        }
        if file == MetaFile::ArchiveCache
            && let Some(root) = self.lookup(&conf.archivepartitions, partition)?
        {
            return Ok(root);
        }
        self.partition(partition)
    }

    fn lookup(&self, family: &BTreeMap<String, Vec<u8>>, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let found = core::str::from_utf8(key).ok().and_then(|k| Some((k, family.get(k)?)));
        found.map(|(key, root)| rooted(key, root)).transpose()
    }

    /// A user's file: `seen`, `sub`, `counters`, `conversations` and so on, without a dot.
    ///
    /// By userid `<userpath>[/domain/<h>/<domain>]/user/<h>/<local part>.<suffix>` with real dots and, whatever hashimapspool
    /// says, with hash letters; by id `<userpath>/user/uuid/<c>/<c>/<id>/<suffix>.db`.
    pub fn user_file(&self, home: Home<'_>, suffix: &str) -> Result<Vec<u8>, Error> {
        check_part("suffix", suffix.as_bytes())?;
        let mut out = rooted("configdirectory", &self.conf.mboxname_userpath)?;
        match home {
            Home::Id(id) => {
                push(&mut out, b"user");
                push_id(&mut out, id)?;
                push(&mut out, format!("{suffix}.db").as_bytes());
            }
            Home::Named(userid) => {
                // What hangs on mailboxes is found by the name of one, the rest by the userid.
                let aside = self.naming.split_aside(userid).filter(|_| !matches!(suffix, "conversations" | "counters"));
                let (local, domain) = match aside {
                    Some((local, domain)) => {
                        check_part("userid", &local)?;
                        domain.as_deref().map_or(Ok(()), |domain| check_part("domain", domain))?;
                        (local, domain)
                    }
                    None => self.user_parts(userid)?,
                };
                self.push_domain(&mut out, domain.as_deref());
                push(&mut out, b"user");
                push(&mut out, &[self.letter(&local)]);
                push(&mut out, &[local.as_slice(), b".", suffix.as_bytes()].concat());
            }
        }
        Ok(out)
    }

    /// The directory of a user's sieve scripts; `None` with `sieveusehomedir`, where it is in the user's home directory.
    pub fn sieve_dir(&self, home: Home<'_>) -> Result<Option<Vec<u8>>, Error> {
        if self.conf.sieveusehomedir {
            return Ok(None);
        }
        let mut out = rooted("sievedir", &self.conf.sievedir)?;
        match home {
            Home::Id(id) => push_id(&mut out, id)?,
            Home::Named(userid) => {
                let (mut local, domain) = self.user_parts(userid)?;
                match domain {
                    Some(d) if self.conf.virtdomains == VirtDomains::Off => {
                        local.push(b'@');
                        local.extend_from_slice(&d);
                    }
                    domain => self.push_domain(&mut out, domain.as_deref()),
                }
                push(&mut out, &[self.letter(&local)]);
                push(&mut out, &local);
            }
        }
        Ok(Some(out))
    }

    /// The file of a quota root with the default backend, `quotalegacy`. `root` is an internal name as cyrus.header has it, or
    /// `domain!` for the quota of a whole domain.
    pub fn quota_file(&self, root: &[u8]) -> Result<Vec<u8>, Error> {
        let db = rooted("quota_db_path", &self.conf.quota_db_path)?;
        // Not `/` alone: rooted() has seen to it that something follows the first slash.
        let mut out = db[..db.iter().rposition(|&c| c == b'/').unwrap_or(0)].to_vec();
        let (domain, name) = match root.iter().position(|&c| c == b'!') {
            Some(at) => (Some(&root[..at]), &root[at + 1..]),
            None => (None, root),
        };
        if let Some(d) = domain {
            check_part("domain", d)?;
            self.push_domain_always(&mut out, d);
        }
        push(&mut out, b"quota");
        if name.is_empty() && domain.is_some() {
            push(&mut out, b"root");
            return Ok(out);
        }
        check_part("quota root", name)?;
        let hashed = name.iter().position(|&c| c == b'.').map_or(name, |at| &name[at + 1..]);
        push(&mut out, &[self.letter(hashed)]);
        push(&mut out, name);
        Ok(out)
    }

    /// The namelock file of a mailbox: by name up to 3.4 and where the directory is by name, by uniqueid otherwise.
    ///
    /// Cyrus 2.3 has no namelocks; there the path is of no use.
    pub fn mailbox_lock(&self, spot: Spot<'_>) -> Result<Vec<u8>, Error> {
        match spot {
            Spot::Id(id) => {
                check_uniqueid(id)?;
                self.lock(None, &[id.to_vec()])
            }
            Spot::Named(_) => {
                let mut out = self.below(rooted("mboxname_lockpath", &self.conf.mboxname_lockpath)?, spot)?;
                out.extend_from_slice(b".lock");
                Ok(out)
            }
        }
    }

    /// The lock file of a user's namespace (`*U*`); `None` before 3.2, where there is none.
    ///
    /// Up to 3.10 its name is the userid, from 3.12 on the name of the INBOX. (A process below `cyr_withlock_run -u` locks
    /// another one, with `~` behind; nobody else does.)
    pub fn user_lock(&self, owner: &Owner) -> Result<Option<Vec<u8>>, Error> {
        if self.conf.version < VersionLine::V3_2 {
            return Ok(None);
        }
        let Owner::User(userid) = owner else { return self.lock(None, &[b"*U*".to_vec()]).map(Some) };
        let inbox = self.naming.inbox(userid)?;
        let marked = |part: &[u8]| [&b"*U*"[..], part].concat();
        let Some(local) = inbox.localpart() else { return Ok(None) };
        let real = inbox.userid(local);
        if self.conf.version < VersionLine::V3_12 {
            return self.lock(None, &[marked(&real)]).map(Some);
        }
        // Of the INBOX that the server makes of the userid, wherever that user's mailboxes are.
        let inbox = self.naming.clone().with_whole_userids(false).inbox(&real)?;
        let mut boxes = inbox.boxes().to_vec();
        match inbox.domain() {
            Some(domain) => self.lock(Some(&marked(domain)), &boxes),
            None => {
                boxes[0] = marked(&boxes[0]);
                self.lock(None, &boxes)
            }
        }
        .map(Some)
    }

    /// The lock file of the whole server; `None` before 3.12 or with `global_lock: off`.
    pub fn global_lock(&self) -> Result<Option<Vec<u8>>, Error> {
        if !self.conf.global_lock {
            return Ok(None);
        }
        self.lock(None, &[b"$GLOBAL".to_vec()]).map(Some)
    }

    fn lock(&self, domain: Option<&[u8]>, boxes: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
        let mut out = rooted("mboxname_lockpath", &self.conf.mboxname_lockpath)?;
        self.push_named(&mut out, domain, boxes);
        out.extend_from_slice(b".lock");
        Ok(out)
    }

    /// Local part and domain of a userid, safe as parts of a path.
    fn user_parts(&self, userid: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>), Error> {
        let inbox = self.naming.inbox(userid)?;
        let local = inbox.localpart().unwrap_or_default().to_vec();
        check_part("userid", &local)?;
        Ok((local, inbox.domain().map(<[u8]>::to_vec)))
    }

    fn below(&self, mut root: Vec<u8>, spot: Spot<'_>) -> Result<Vec<u8>, Error> {
        match spot {
            Spot::Id(id) => push_id(&mut root, id)?,
            Spot::Named(name) => {
                self.push_named(&mut root, name.domain(), &self.naming.full(name));
            }
        }
        Ok(root)
    }

    /// `mboxname_hash`: the letter comes from the second component, or from the only one.
    fn push_named(&self, out: &mut Vec<u8>, domain: Option<&[u8]>, boxes: &[Vec<u8>]) {
        match domain {
            Some(d) if self.conf.hashimapspool => self.push_domain_always(out, d),
            Some(d) => {
                push(out, b"domain");
                push(out, d);
            }
            None => {}
        }
        if self.conf.hashimapspool
            && let Some(hashed) = boxes.get(1).or(boxes.first())
        {
            // Up to 2.5 the letter is made from the internal form, where a dot is `^` and does not end fulldirhash's view.
            let old = self.conf.version < VersionLine::V3_0;
            push(out, &[if old { self.letter(&to_caret(hashed)) } else { self.letter(hashed) }]);
        }
        for part in boxes {
            push(out, &to_caret(part));
        }
    }

    fn push_domain(&self, out: &mut Vec<u8>, domain: Option<&[u8]>) {
        if let Some(d) = domain {
            self.push_domain_always(out, d);
        }
    }

    fn push_domain_always(&self, out: &mut Vec<u8>, domain: &[u8]) {
        push(out, b"domain");
        push(out, &[self.letter(domain)]);
        push(out, domain);
    }

    fn letter(&self, name: &[u8]) -> u8 {
        hash_letter(name, self.conf.fulldirhash)
    }
}

fn push(out: &mut Vec<u8>, part: &[u8]) {
    out.push(b'/');
    out.extend_from_slice(part);
}

fn push_id(out: &mut Vec<u8>, id: &[u8]) -> Result<(), Damage> {
    check_uniqueid(id)?;
    push(out, b"uuid");
    push(out, &id[..1]);
    push(out, &id[1..2]);
    push(out, id);
    Ok(())
}

fn message_in(mut dir: Vec<u8>, uid: u32) -> Vec<u8> {
    push(&mut dir, format!("{uid}.").as_bytes());
    dir
}

/// The directory or file of an option, absolute and without slashes at the end.
fn rooted(option: &str, path: &[u8]) -> Result<Vec<u8>, Error> {
    let mut path = path;
    while let Some(shorter) = path.strip_suffix(b"/") {
        path = shorter;
    }
    if path.first() != Some(&b'/') {
        return Err(Error::Refused(format!("imapd.conf: {option}: found `{}`, expected an absolute path", Shown(path))));
    }
    Ok(path.to_vec())
}

/// `Ok` if `part` is one component of a path and stays where it is put.
fn check_part(object: &str, part: &[u8]) -> Result<(), Damage> {
    let bad = part.is_empty() || part == b"." || part == b".." || part.iter().any(|c| matches!(c, 0 | b'/'));
    if bad || part.len() > super::names::NAME_MAX {
        let found = format!("`{}`", Shown(&part[..part.len().min(256)]));
        return Err(Damage::new(object, 0, "component", found, "one component of a path"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(version: VersionLine, more: &str) -> Conf {
        let text = format!(
            "configdirectory: /c/conf\npartition-default: /c/spool/\nsievedir: /c/sieve\ndefaultdomain: example.org\n\
             virtdomains: userid\nunixhierarchysep: 1\n{more}"
        );
        Conf::from_text(text.as_bytes(), version).unwrap()
    }

    fn hashed(version: VersionLine) -> Conf {
        conf(version, "hashimapspool: 1\n")
    }

    fn text(path: Vec<u8>) -> String {
        String::from_utf8(path).unwrap()
    }

    fn user(userid: &str) -> Owner {
        Owner::User(userid.as_bytes().to_vec())
    }

    #[test]
    fn mailbox_directories_by_name() {
        for (internal, with, without) in [
            ("user.anna", "a/user/anna", "user/anna"),
            ("user.anna.a^b", "a/user/anna/a^b", "user/anna/a^b"),
            ("shared.public", "p/shared/public", "shared/public"),
            ("shared", "s/shared", "shared"),
            ("DELETED.user.anna.a^b.6B048172", "u/DELETED/user/anna/a^b/6B048172", "DELETED/user/anna/a^b/6B048172"),
            ("other.net!user.bob^smith.x", "domain/o/other.net/b/user/bob^smith/x", "domain/other.net/user/bob^smith/x"),
            ("user.9lives", "q/user/9lives", "user/9lives"),
        ] {
            for (c, end) in [(hashed(VersionLine::V3_6), with), (conf(VersionLine::V3_6, ""), without)] {
                let p = Paths::new(&c).unwrap();
                let name = p.naming().parse_internal(internal.as_bytes()).unwrap();
                assert_eq!(text(p.data_dir(b"default", Spot::Named(&name)).unwrap()), format!("/c/spool/{end}"));
                assert_eq!(text(p.mailbox_lock(Spot::Named(&name)).unwrap()), format!("/c/conf/lock/{end}.lock"));
            }
        }
    }

    #[test]
    fn by_uniqueid_whatever_hashimapspool_says() {
        let id = b"38wo32m6dnm1rwfdv73z6tdk";
        for c in [hashed(VersionLine::V3_6), conf(VersionLine::V3_6, "")] {
            let p = Paths::new(&c).unwrap();
            assert_eq!(text(p.message(b"default", Spot::Id(id), 7).unwrap()), "/c/spool/uuid/3/8/38wo32m6dnm1rwfdv73z6tdk/7.");
            assert_eq!(
                text(p.user_file(Home::Id(id), "sub").unwrap()),
                "/c/conf/user/uuid/3/8/38wo32m6dnm1rwfdv73z6tdk/sub.db"
            );
            assert_eq!(text(p.sieve_dir(Home::Id(id)).unwrap().unwrap()), "/c/sieve/uuid/3/8/38wo32m6dnm1rwfdv73z6tdk");
        }
    }

    /// Every path below spool and lock of three real servers comes out of these functions, from their own mailboxes.db.
    #[test]
    fn paths_of_real_servers() {
        const NAMES: [&str; 2] = ["user.anna", "user.anna.Fix"];
        for (version, tree, ids) in [
            (VersionLine::V3_2, include_str!("../../../tests/data/cyrus/names/tree-3.2.6.txt"), None),
            (
                VersionLine::V3_10,
                include_str!("../../../tests/data/cyrus/names/tree-3.10.2.txt"),
                Some(["c1pw54315bi9gfclftljigh1", "edp6wfmrrnnkomi5jjazcn6m"]),
            ),
            (
                VersionLine::V3_12,
                include_str!("../../../tests/data/cyrus/names/tree-3.12.4.txt"),
                Some(["lppgbu2o4adhom0g9cw1j95l", "ywgng60xa2yqbqnc9chabql5"]),
            ),
        ] {
            let c = hashed(version);
            let p = Paths::new(&c).unwrap();
            let mut made = Vec::from([p.user_lock(&user("anna")).unwrap().unwrap()]);
            made.extend(p.global_lock().unwrap());
            let names = NAMES.map(|n| p.naming().parse_internal(n.as_bytes()).unwrap());
            for i in 0..2 {
                let spot = ids.map_or(Spot::Named(&names[i]), |ids| Spot::Id(ids[i].as_bytes()));
                made.push(p.mailbox_lock(spot).unwrap());
                made.extend((1..=5).map(|uid| p.message(b"default", spot, uid).unwrap()));
                for file in [MetaFile::Header, MetaFile::Index, MetaFile::Cache, MetaFile::Annotations] {
                    made.push(p.meta(b"default", spot, file).unwrap());
                }
            }
            let made: Vec<String> = made.into_iter().map(text).collect();
            // $CREATE is a lock of 3.2 for making user mailboxes; a reader has nothing to do with it.
            for line in tree.lines().filter(|l| !l.is_empty() && !l.contains("$CREATE")) {
                assert!(made.iter().any(|m| m == &format!("/c/{line}")), "{line} of {version:?} is not in {made:#?}");
            }
        }
    }

    #[test]
    fn lock_files_of_users_and_ids() {
        let lock = |version, more: &str, owner: &Owner| {
            let c = conf(version, more);
            Paths::new(&c).unwrap().user_lock(owner).unwrap().map(text)
        };
        let (h, bob) = ("hashimapspool: 1\n", user("bob.smith@other.net"));
        assert_eq!(lock(VersionLine::V3_0, h, &bob), None);
        assert_eq!(lock(VersionLine::V3_6, h, &bob).unwrap(), "/c/conf/lock/q/*U*bob^smith@other^net.lock");
        assert_eq!(lock(VersionLine::V3_6, h, &Owner::Shared).unwrap(), "/c/conf/lock/q/*U*.lock");
        assert_eq!(lock(VersionLine::V3_6, "", &user("anna")).unwrap(), "/c/conf/lock/*U*anna.lock");
        assert_eq!(lock(VersionLine::Head, h, &bob).unwrap(), "/c/conf/lock/domain/q/*U*other.net/b/user/bob^smith.lock");
        assert_eq!(lock(VersionLine::V3_12, "", &user("anna")).unwrap(), "/c/conf/lock/*U*user/anna.lock");
        assert_eq!(lock(VersionLine::V3_12, h, &Owner::Shared).unwrap(), "/c/conf/lock/q/*U*.lock");
        let c = conf(VersionLine::V3_6, "hashimapspool: 1\nmboxname_lockpath: /run/lock\n");
        let p = Paths::new(&c).unwrap();
        assert_eq!(
            text(p.mailbox_lock(Spot::Id(b"xhpd332zkkhzo0nl8yxefie2")).unwrap()),
            "/run/lock/x/xhpd332zkkhzo0nl8yxefie2.lock"
        );
        assert_eq!(
            text(p.mailbox_lock(Spot::Id(b"3805dpgh1heoj8xsvcphkk7v")).unwrap()),
            "/run/lock/q/3805dpgh1heoj8xsvcphkk7v.lock"
        );
        assert_eq!(p.global_lock().unwrap(), None);
    }

    /// As a real 3.6.1 made them.
    #[test]
    fn without_virtual_domains_files_of_a_userid_with_a_domain_lie_in_two_places() {
        let off = b"configdirectory: /c/conf\nsievedir: /c/sieve\nhashimapspool: 1\nmboxname_lockpath: /run/lock\n";
        let c = Conf::from_text(off, VersionLine::V3_6).unwrap();
        assert_eq!(c.virtdomains, VirtDomains::Off);
        let p = Paths::new(&c).unwrap();
        let eve = Home::Named(b"eve@other");
        assert_eq!(text(p.user_file(eve, "counters").unwrap()), "/c/conf/user/e/eve@other.counters");
        assert_eq!(text(p.user_file(eve, "sub").unwrap()), "/c/conf/domain/o/other/user/e/eve.sub");
        assert_eq!(text(p.user_file(eve, "seen").unwrap()), "/c/conf/domain/o/other/user/e/eve.seen");
        assert_eq!(text(p.sieve_dir(eve).unwrap().unwrap()), "/c/sieve/e/eve@other");
        assert_eq!(text(p.quota_file(b"user.eve@other").unwrap()), "/c/conf/quota/e/user.eve@other");
        let lock = p.user_lock(&Owner::User(b"eve@other".to_vec())).unwrap().unwrap();
        assert_eq!(text(lock), "/run/lock/q/*U*eve@other.lock");
        let newer = c.with_version(VersionLine::V3_12).unwrap();
        let lock = Paths::new(&newer).unwrap().user_lock(&Owner::User(b"eve@other".to_vec())).unwrap().unwrap();
        assert_eq!(text(lock), "/run/lock/domain/q/*U*other/e/user/eve.lock");
        assert!(p.user_file(Home::Named(b"x@../y"), "sub").is_err() && p.user_file(Home::Named(b"@"), "sub").is_err());
    }

    #[test]
    fn user_files_by_name_keep_their_dots() {
        let c = conf(VersionLine::V3_4, "");
        let p = Paths::new(&c).unwrap();
        assert_eq!(text(p.user_file(Home::Named(b"bob.smith"), "sub").unwrap()), "/c/conf/user/b/bob.smith.sub");
        assert_eq!(text(p.user_file(Home::Named(b"anna@example.org"), "seen").unwrap()), "/c/conf/user/a/anna.seen");
        assert_eq!(
            text(p.user_file(Home::Named(b"bob.smith@other.net"), "seen").unwrap()),
            "/c/conf/domain/o/other.net/user/b/bob.smith.seen"
        );
        assert_eq!(
            text(p.sieve_dir(Home::Named(b"bob.smith@other.net")).unwrap().unwrap()),
            "/c/sieve/domain/o/other.net/b/bob.smith"
        );
        assert_eq!(text(p.quota_file(b"user.anna").unwrap()), "/c/conf/quota/a/user.anna");
        assert_eq!(
            text(p.quota_file(b"other.net!user.bob^smith").unwrap()),
            "/c/conf/domain/o/other.net/quota/b/user.bob^smith"
        );
        assert_eq!(text(p.quota_file(b"other.net!").unwrap()), "/c/conf/domain/o/other.net/quota/root");
        let c = conf(VersionLine::V3_4, "sieveusehomedir: 1\nquota_db_path: /q/quotas.db\n");
        let p = Paths::new(&c).unwrap();
        assert_eq!(p.sieve_dir(Home::Named(b"anna")).unwrap(), None);
        assert_eq!(text(p.quota_file(b"user.anna").unwrap()), "/q/quota/a/user.anna");
    }

    #[test]
    fn metadata_files_go_where_options_send_them() {
        let c = conf(
            VersionLine::V3_6,
            "metapartition-default: /meta\nmetapartition_files: header cache annotations\nmetadir-cache-default: /fast\n\
             archivepartition-default: /old\narchive_enabled: 1\n",
        );
        let p = Paths::new(&c).unwrap();
        let at = |file| text(p.meta(b"default", Spot::Id(b"ab12"), file).unwrap());
        assert_eq!(at(MetaFile::Header), "/meta/uuid/a/b/ab12/cyrus.header");
        assert_eq!(at(MetaFile::Index), "/c/spool/uuid/a/b/ab12/cyrus.index");
        assert_eq!(at(MetaFile::Cache), "/fast/uuid/a/b/ab12/cyrus.cache");
        assert_eq!(at(MetaFile::Annotations), "/meta/uuid/a/b/ab12/cyrus.annotations");
        assert_eq!(at(MetaFile::ArchiveCache), "/old/uuid/a/b/ab12/cyrus.cache");
        assert_eq!(text(p.archived_message(b"default", Spot::Id(b"ab12"), 9).unwrap()), "/old/uuid/a/b/ab12/9.");
        let c = conf(
            VersionLine::V3_6,
            "metapartition-default: /meta\nmetadir-index-default: /idx\narchivepartition-default: /old\n",
        );
        let p = Paths::new(&c).unwrap();
        let at = |file| text(p.meta(b"default", Spot::Id(b"ab12"), file).unwrap());
        assert_eq!(at(MetaFile::Annotations), "/idx/uuid/a/b/ab12/cyrus.annotations");
        assert_eq!(at(MetaFile::ArchiveCache), "/c/spool/uuid/a/b/ab12/cyrus.cache");
        assert_eq!(text(p.mailboxes_db().unwrap()), "/c/conf/mailboxes.db");
        assert!(p.data_dir(b"nowhere", Spot::Id(b"ab12")).is_err());
    }

    #[test]
    fn the_full_hash_sees_dots_from_3_0_on() {
        // By hand from dir_hash_c: "b" alone is 98 % 23 = 6, "bo" is (98 << 3 ^ 98 >> 5 ^ 111) % 23 = 892 % 23 = 18.
        assert_eq!(hash_letter(b"b", true), b'A' + 6);
        assert_eq!(hash_letter(b"bo", true), b'A' + 18);
        assert_eq!(hash_letter(b"bo.smith", true), b'A' + 18);
        assert_eq!((hash_letter(b"Anna", false), hash_letter(b"\xe9", false), hash_letter(b"", false)), (b'a', b'q', b'q'));
        let dir = |version| {
            let c = conf(version, "hashimapspool: 1\nfulldirhash: 1\n");
            let p = Paths::new(&c).unwrap();
            let name = p.naming().parse_internal(b"user.bo^smith").unwrap();
            text(p.data_dir(b"default", Spot::Named(&name)).unwrap())
        };
        assert_eq!(dir(VersionLine::V3_0), "/c/spool/S/user/bo^smith");
        let old = char::from(hash_letter(b"bo^smith", true));
        assert_ne!(old, 'S');
        assert_eq!(dir(VersionLine::V2_5), format!("/c/spool/{old}/user/bo^smith"));
    }

    #[test]
    fn nothing_leaves_its_root() {
        let c = hashed(VersionLine::V3_6);
        let p = Paths::new(&c).unwrap();
        let long = [b'a'; UNIQUEID_MAX + 1];
        for id in [&b""[..], b"a", b"..", b"../../etc", b"a/b", b"ab\0c", b"ab.c", b"ab\n", &long] {
            assert!(p.data_dir(b"default", Spot::Id(id)).is_err());
            assert!(p.mailbox_lock(Spot::Id(id)).is_err());
            assert!(p.user_file(Home::Id(id), "seen").is_err());
            assert!(p.sieve_dir(Home::Id(id)).is_err());
        }
        for userid in [&b""[..], b"..", b".", b"a/b", b"@d", b"a@..", b"a@", b"a@b/c", b"a\0"] {
            assert!(p.sieve_dir(Home::Named(userid)).is_err());
            assert!(p.user_file(Home::Named(userid), "seen").is_err());
        }
        for userid in [&b""[..], b"a/b", b"a@..", b"a@b/c"] {
            assert!(p.user_lock(&Owner::User(userid.to_vec())).is_err());
        }
        for root in [&b""[..], b"..", b"..!user.a", b"a/b", b"!x", b"x!..", b"user.a\0"] {
            assert!(p.quota_file(root).is_err());
        }
        assert!(p.user_file(Home::Named(b"anna"), "../x").is_err());
        let c =
            Conf::from_text(b"configdirectory: /c\npartition-default: spool\ndeletedprefix: D\n", VersionLine::V3_6).unwrap();
        assert!(Paths::new(&c).unwrap().partition(b"default").is_err());
        let c = Conf::from_text(b"configdirectory: /c\ndeletedprefix: ../D\n", VersionLine::V3_6).unwrap();
        assert!(Paths::new(&c).is_err());
    }
}
