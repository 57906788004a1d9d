//! What is to become of an entry: the question and its answers, apart from who gives them.
//!
//! What must not come in: reading and writing archives.

use crate::archive::member::Kind;
use crate::archive::record::Location;
use crate::guid::Guid;

/// An entry about which something is to be decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate<'a> {
    /// The kind of its member.
    pub kind: Kind,
    /// Its name.
    pub name: &'a [u8],
    /// Where it is in the archive.
    pub at: Location,
}

impl Candidate<'_> {
    /// The SHA-1 of the message that this is, if it is one.
    pub fn message(&self) -> Option<Guid> {
        self.name.strip_prefix(b"files/").and_then(Guid::from_hex)
    }
}

/// What becomes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It stays as it stands, byte for byte.
    Keep,
    /// It goes.
    Drop,
    /// It stays, and the places that it names are made right. For the record of a commit and what belongs to it; for any other
    /// entry the same as [`Decision::Keep`].
    Rewrite,
}

/// Decides about entries.
///
/// Each entry is asked about at least once, and the same question must get the same answer. Of a commit only the record is
/// asked about; its list and its table share its fate.
pub trait Decider {
    /// What is to become of this entry.
    fn decide(&self, entry: &Candidate<'_>) -> Decision;
}
