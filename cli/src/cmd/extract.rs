//! `cylinder extract`

use super::archive::{at, open};
use crate::args::Extract;
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble};
use crate::output::{self, Progress, count, size};
use cylinder_core::archive::entries::{Finding, Sink, read_all};
use cylinder_core::archive::entry::{Entry, EntryKind};
use cylinder_core::archive::member::Kind;
use cylinder_core::archive::record::Location;
use cylinder_core::error::Error;
use cylinder_core::escape::shown;
use cylinder_core::guid::{Guid, Sha1};
use cylinder_core::io::Task;
use cylinder_core::store::archive_dir;
use cylinder_core::time::Time;
use cylinder_core::view;
use cylinder_transport_local::Local;
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

/// How deep an archive's names go: `folders/<id>/cyrus.index`, `meta/quota/<root>`.
const DEPTH_MAX: usize = 3;

/// Extracts everything, following tombstones.
pub fn run(args: &Extract) -> Outcome {
    let when = at(&args.at)?;
    let store = host::store(&args.store)?;
    let threads = host::threads(None);
    let mut driver = host::store_driver(&store, threads);
    let owner = host::owner(&args.user);
    let dir = archive_dir(&owner)?;
    let mut tree = Tree::create(Path::new(&args.dir)).map_err(|text| Trouble::Core(Error::Refused(text)))?;
    let mut progress = Progress::new(args.quiet || args.json);
    let target = &mut tree;
    let procedure = |io| async move {
        let reader = open(&io, &owner, &dir).await?;
        let result = async {
            let at = view::snapshot(&reader, when).await?;
            read_all(&io, &reader, at.part.offset + at.part.len, 2 * threads + 2, target).await
        };
        let result = result.await;
        reader.close().await;
        result
    };
    let result = driver.run(Task::new(Local::now(), procedure), &mut |event| progress.on(&args.dir, &event));
    progress.clear();
    result?;
    tree.finish();
    report(args, &tree)
}

fn report(args: &Extract, tree: &Tree) -> Outcome {
    for finding in &tree.findings {
        output::complain!("cylinder: {finding}");
    }
    for refused in &tree.refused {
        output::complain!("cylinder: {refused}");
    }
    if let Some(failure) = &tree.failure {
        return Err(Trouble::Core(Error::Refused(failure.clone())));
    }
    if args.json {
        output::json(&json!({
            "files": tree.files, "bytes": tree.bytes, "links": tree.links.len(), "removed": tree.removed,
            "damaged": tree.findings.iter().map(ToString::to_string).collect::<Vec<_>>(), "refused": tree.refused,
        }))?;
    } else if !args.quiet {
        let (files, links) = (count(tree.files, "file"), count(tree.links.len() as u64, "link"));
        output::line(&format!("{}: {files} ({}), {links}", args.dir, size(tree.bytes)))?;
    }
    Ok(match (tree.findings.is_empty(), tree.refused.is_empty()) {
        (false, _) => Exit::Damage,
        (true, false) => Exit::Partial,
        (true, true) => Exit::Ok,
    })
}

/// A file under way.
struct Open {
    name: String,
    file: Option<std::fs::File>,
    mtime: Time,
    expected: Option<Guid>,
    hash: Sha1,
    gone: bool,
}

/// The directory that is filled.
///
/// Names are hostile: only those of the forms that an archive has are taken, every directory is opened without following links,
/// and links are made last, so nothing is ever written through one.
struct Tree {
    root: OwnedFd,
    dirs: BTreeMap<String, OwnedFd>,
    open: Option<Open>,
    written: BTreeSet<String>,
    links: BTreeMap<String, Vec<u8>>,
    files: u64,
    bytes: u64,
    removed: u64,
    findings: Vec<Finding>,
    refused: Vec<String>,
    failure: Option<String>,
}

impl Tree {
    /// Makes the directory, which must not exist or be empty.
    fn create(path: &Path) -> Result<Tree, String> {
        let say = |what: &str| format!("{}: {what}", path.display());
        match std::fs::create_dir(path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                let mut entries = std::fs::read_dir(path).map_err(|e| say(&e.to_string()))?;
                if entries.next().is_some() {
                    return Err(say("is not empty; extract into a new directory"));
                }
            }
            Err(e) => return Err(say(&e.to_string())),
        }
        let root =
            rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(|e| say(&e.to_string()))?;
        Ok(Tree {
            root,
            dirs: BTreeMap::new(),
            open: None,
            written: BTreeSet::new(),
            links: BTreeMap::new(),
            files: 0,
            bytes: 0,
            removed: 0,
            findings: Vec::new(),
            refused: Vec::new(),
            failure: None,
        })
    }

    fn fail(&mut self, name: &str, errno: Errno) {
        self.failure.get_or_insert_with(|| format!("{}: {errno}", shown(name.as_bytes())));
    }

    /// The directory of a name, made if need be, and the last component.
    fn dir<'n>(&mut self, name: &'n str) -> Result<(&OwnedFd, &'n str), Errno> {
        let Some((dir, last)) = name.rsplit_once('/') else { return Ok((&self.root, name)) };
        if !self.dirs.contains_key(dir) {
            let fd = {
                let (parent, own) = self.dir(dir)?;
                match rustix::fs::mkdirat(parent, own, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                rustix::fs::openat(parent, own, flags, Mode::empty())?
            };
            // Folder directories are visited one after the other; a bounded number is kept open.
            if self.dirs.len() > 100 {
                self.dirs.clear();
            }
            self.dirs.insert(dir.to_owned(), fd);
        }
        Ok((&self.dirs[dir], last))
    }

    fn create_file(&mut self, name: &str) -> Result<std::fs::File, Errno> {
        let (dir, last) = self.dir(name)?;
        let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(dir, last, flags, Mode::RUSR | Mode::WUSR)?.into())
    }

    fn remove(&mut self, name: &str) {
        self.links.remove(name);
        if self.written.remove(name) {
            self.removed += 1;
            let removed = self.dir(name).and_then(|(dir, last)| rustix::fs::unlinkat(dir, last, AtFlags::empty()));
            if let Err(errno) = removed {
                self.fail(name, errno);
            }
        }
    }

    /// Makes the links that are left.
    fn finish(&mut self) {
        let links = std::mem::take(&mut self.links);
        for (name, target) in &links {
            let made = self.dir(name).and_then(|(dir, last)| rustix::fs::symlinkat(&target[..], dir, last));
            if let Err(errno) = made {
                self.fail(name, errno);
            }
        }
        self.links = links;
    }
}

impl Sink for Tree {
    fn begin(&mut self, entry: Entry, _: Kind, _: Location) {
        self.open = None;
        let Some(name) = safe_name(&entry.name) else {
            return self.refused.push(format!("{}: is no name that an archive has; left out", shown(&entry.name)));
        };
        let gone = entry.is_gone();
        let expected = match &entry.kind {
            EntryKind::File(expected) => *expected,
            EntryKind::Link(target) => {
                self.remove(&name);
                match target {
                    target if target.is_empty() => {}
                    target if is_safe_target(&name, target) => drop(self.links.insert(name, target.clone())),
                    target => self.refused.push(format!("{name}: a link to {}; left out", shown(target))),
                }
                return;
            }
            EntryKind::Other(_) => return self.refused.push(format!("{name}: is of a kind that no archive has; left out")),
        };
        self.remove(&name);
        let file = if gone { Ok(None) } else { self.create_file(&name).map(Some) };
        match file {
            Ok(file) => self.open = Some(Open { name, file, mtime: entry.mtime, expected, hash: Sha1::new(), gone }),
            Err(errno) => self.fail(&name, errno),
        }
    }

    fn content(&mut self, bytes: &[u8]) {
        let Some(open) = &mut self.open else { return };
        open.hash.update(bytes);
        self.bytes += bytes.len() as u64;
        if let Some(Err(error)) = open.file.as_mut().map(|file| file.write_all(bytes)) {
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            let name = open.name.clone();
            self.fail(&name, errno);
        }
    }

    fn end(&mut self, end: u64) {
        let Some(open) = self.open.take() else { return };
        if open.gone {
            return;
        }
        let found = open.hash.finish();
        if let Some(expected) = open.expected.filter(|expected| *expected != found) {
            let what = format!("its SHA-1 is {found}, expected {expected}; extracted as it is");
            self.findings.push(Finding { bytes: (end, end), object: shown(open.name.as_bytes()), what });
        }
        if let Some(file) = &open.file {
            let stamp = Timespec { tv_sec: open.mtime.secs(), tv_nsec: open.mtime.subsec_ns().into() };
            // A file with another time is still the file.
            let _ = rustix::fs::futimens(file, &Timestamps { last_access: stamp, last_modification: stamp });
        }
        self.files += u64::from(self.written.insert(open.name));
    }

    fn damage(&mut self, finding: Finding) {
        if let Some(open) = self.open.take() {
            // Half a file is worse than none: whoever looks for it shall notice.
            self.written.insert(open.name.clone());
            self.remove(&open.name);
        }
        self.findings.push(finding);
    }

    fn goes_on(&self) -> bool {
        self.failure.is_none()
    }
}

/// The name as a path below the tree; `None` unless it is of the form that an archive's names have.
fn safe_name(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let parts: Vec<&str> = name.split('/').collect();
    let plain = |part: &&str| {
        !part.is_empty()
            && *part != "."
            && *part != ".."
            && part.len() <= 255
            && part.bytes().all(|b| (0x21..=0x7E).contains(&b))
    };
    let known = matches!(parts[0], "files" | "folders" | "imap" | "meta" | "sieve");
    (known && (2..=DEPTH_MAX).contains(&parts.len()) && parts.iter().all(plain)).then(|| name.to_owned())
}

/// A folder's link goes to a directory beside; any other stays in its own directory.
fn is_safe_target(name: &str, target: &[u8]) -> bool {
    let Ok(target) = std::str::from_utf8(target) else { return false };
    match target.strip_prefix("../folders/") {
        Some(id) => name.starts_with("imap/") && !id.contains('/') && id != "..",
        None => !target.contains('/') && target != "..",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_become_paths() {
        for good in ["files/da39", "imap/INBOX.a%20b", "folders/x1/cyrus.index", "meta/quota/user.anna", "imap/..."] {
            assert_eq!(safe_name(good.as_bytes()).as_deref(), Some(good));
        }
        for bad in [
            "/etc/passwd",
            "../x",
            "imap/..",
            "imap/a/../../b",
            "files",
            "dev/sda",
            "imap//x",
            "imap/a b",
            "imap/\u{e9}",
            "imap/a\0",
        ] {
            assert_eq!(safe_name(bad.as_bytes()), None, "{bad}");
        }
        assert!(is_safe_target("imap/INBOX", b"../folders/abc"));
        assert!(!is_safe_target("sieve/x", b"../folders/abc"));
        assert!(!is_safe_target("imap/INBOX", b"../folders/../.."));
        assert!(!is_safe_target("imap/INBOX", b"/etc"));
        assert!(is_safe_target("sieve/defaultbc", b"main.bc"));
    }
}
