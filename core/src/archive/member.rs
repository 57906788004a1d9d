//! One gzip member of an archive: header with our FEXTRA subfield, deflated content, CRC and length.

/// What a member holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Messages.
    Data,
}

/// What a member's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MemberInfo {
    /// What it holds.
    pub kind: Kind,
}
