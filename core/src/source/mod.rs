//! Where mail comes from: one Cyrus host, looked at in two passes.
//!
//! The **stat pass** ([`pass`]) lists a user's folders and the tuples of their files, opening nothing but databases. The
//! **capture** ([`capture`]) takes the locks of Cyrus, looks again, and reads the metadata of what has changed as one
//! consistent set. Message files are read afterwards, without locks: they never change, they can only vanish.
//!
//! What must not come in: archives, and any decision about what to do with what was read.

pub mod capture;
pub mod config;
pub mod database;
pub mod lock;
pub mod message;
pub mod pass;
pub mod site;
pub mod version;

pub use crate::io::Tuple;

use crate::guid::Guid;
use crate::io::Place;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// A folder's metadata files that are looked at, in the order in which everything here lists them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum MetaFile {
    /// cyrus.index
    Index,
    /// cyrus.header
    Header,
    /// cyrus.expunge, of Cyrus 2.3
    Expunge,
    /// cyrus.annotations: annotations of messages
    Annotations,
}

impl MetaFile {
    /// All of them.
    pub const ALL: [MetaFile; 4] = [MetaFile::Index, MetaFile::Header, MetaFile::Expunge, MetaFile::Annotations];

    /// Its name on disk.
    pub fn name(self) -> &'static str {
        match self {
            MetaFile::Index => "cyrus.index",
            MetaFile::Header => "cyrus.header",
            MetaFile::Expunge => "cyrus.expunge",
            MetaFile::Annotations => "cyrus.annotations",
        }
    }
}

/// The name under which a folder's records of annotations.db are kept.
pub const MAILBOX_ANNOTATIONS: &str = "cyrus.mailbox_annotations";

/// Where the files of a folder lie.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FolderPaths {
    /// Directory of the message files.
    pub data: Place,
    /// Directory of archived message files, where there is an archive partition.
    pub archive: Option<Place>,
    /// The metadata files, as [`MetaFile::ALL`] lists them.
    pub meta: [Place; 4],
    /// The namelock file.
    pub namelock: Place,
    /// A cyrus.expunge is possible (up to 2.4, which takes it into cyrus.index); elsewhere it is not looked for.
    pub expunge: bool,
}

impl FolderPaths {
    /// Of a folder on another host, whose files only that host can name.
    pub fn elsewhere() -> FolderPaths {
        let place = || Place::host("/");
        let meta = [place(), place(), place(), place()];
        FolderPaths { data: place(), archive: None, meta, namelock: place(), expunge: true }
    }

    /// The metadata files that may exist, with where they would be.
    pub fn possible(&self) -> impl Iterator<Item = (MetaFile, &Place)> {
        MetaFile::ALL.into_iter().zip(&self.meta).filter(|(file, _)| self.expunge || *file != MetaFile::Expunge)
    }
}

/// A folder as mailboxes.db and stat(2) show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Folder {
    /// Internal name relative to the owner, as FORMAT.md section 2 has it.
    pub name: Vec<u8>,
    /// uniqueid, if mailboxes.db tells it (Cyrus 2.5 and later); otherwise only cyrus.header does.
    pub id: Option<Vec<u8>>,
    /// The key in mailboxes.db.
    pub key: Vec<u8>,
    /// The raw value in mailboxes.db.
    pub entry: Vec<u8>,
    /// Where its files lie.
    pub paths: FolderPaths,
    /// Tuples of the metadata files, as [`MetaFile::ALL`] lists them; `None` for one that is not there.
    pub tuples: [Option<Tuple>; 4],
}

/// A file of the user that belongs to no folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Its name in the archive, such as `meta/sub` or `sieve/main.script`.
    pub name: Vec<u8>,
    /// Where it lies.
    pub place: Place,
    /// What it is.
    pub what: StateKind,
}

/// What a [`State`] is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StateKind {
    /// A regular file.
    File(Tuple),
    /// A symbolic link to this target.
    Link(Vec<u8>),
}

/// Most quota roots of one owner that are looked for.
pub const QUOTA_ROOTS_MAX: usize = 10_000;

/// What a pass is to look for besides what every user has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ask {
    /// Quota roots besides the owner's own.
    pub quota_roots: Vec<Vec<u8>>,
    /// Tell what each folder has in annotations.db, if that has another tuple than `annotations_db`.
    pub annotate: bool,
    /// The tuple of annotations.db that is known.
    pub annotations_db: Option<Tuple>,
    /// uniqueid and entry in mailboxes.db that the INBOX had, by which the user's own files are found if it has none now. Not
    /// asked of another host: that looks for no files of an INBOX that it does not have.
    pub inbox: Option<(Vec<u8>, Vec<u8>)>,
}

/// What one look at a user showed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pass {
    /// Folders in byte order of their names.
    pub folders: Vec<Folder>,
    /// Other files, in byte order of their names.
    pub states: Vec<State>,
    /// The tuple of annotations.db, if there is such a file and the tuple can be trusted.
    pub annotations_db: Option<Tuple>,
    /// There is such a file, and its tuple is left out: a later change could wear the same one.
    pub annotations_young: bool,
    /// SHA-1s of the folders' records of annotations.db by name, those of folders that have any; if they were asked for.
    pub annotated: Option<BTreeMap<Vec<u8>, Guid>>,
    /// Only folders and the files `seen` and `sub` can be seen there: nothing is known of entries of mailboxes.db and of other
    /// files, and what an archive has of them is not gone.
    pub partial: bool,
    /// Entries of mailboxes.db that cannot be read, or whose files cannot be found: name or key, and why.
    pub unreadable: Vec<(Vec<u8>, crate::error::Error)>,
}
