//! Where the fields of cyrus.index stand in each version, and how numbers and times are written there.
//!
//! What must not come in: what the fields mean.

use crate::bytes::{put_be32, put_be64};
use crate::crc32::crc32;
use crate::error::Damage;
use crate::time::Time;
use core::fmt;

/// Bytes of a CRC, which stands at the end of what it covers.
pub const CRC_LEN: usize = 4;

/// Offsets in a header that are the same in every version that has the field.
pub mod field {
    pub const GENERATION_NO: u16 = 0;
    pub const FORMAT: u16 = 4;
    pub const MINOR_VERSION: u16 = 8;
    pub const START_OFFSET: u16 = 12;
    pub const RECORD_SIZE: u16 = 16;
    pub const NUM_RECORDS: u16 = 20;
    pub const LAST_APPENDDATE: u16 = 24;
    pub const QUOTA_MAILBOX_USED: u16 = 32;
    pub const POP3_LAST_LOGIN: u16 = 40;
    pub const DELETED: u16 = 48;
    pub const ANSWERED: u16 = 52;
    pub const FLAGGED: u16 = 56;
    pub const UID: u16 = 0;
}

/// Where a version has no such field.
pub const NONE: u16 = u16::MAX;

/// Offsets in a header, by version.
pub struct HeaderLayout {
    pub size: usize,
    /// Times are 8 bytes of nanoseconds and `quota_annot_used` has 8 bytes, instead of 4 bytes of seconds and 4 bytes.
    pub wide: bool,
    pub crc: bool,
    pub last_uid: u16,
    pub uidvalidity: u16,
    pub exists: u16,
    pub options: u16,
    pub leaked_cache_records: u16,
    pub highestmodseq: u16,
    pub deletedmodseq: u16,
    pub first_expunged: u16,
    pub last_repack_time: u16,
    pub header_file_crc: u16,
    pub sync_crc: u16,
    pub recentuid: u16,
    pub recenttime: u16,
    pub pop3_show_after: u16,
    pub quota_annot_used: u16,
    pub sync_crc_annot: u16,
    pub unseen: u16,
    pub createdmodseq: u16,
    pub changes_epoch: u16,
    pub quota_deleted_used: u16,
    pub quota_expunged_used: u16,
}

// Where a version does not have a field, Cyrus reads `exists`, `deletedmodseq` and `changes_epoch` from the place of the field
// that comes nearest: `num_records`, `highestmodseq`, `last_repack_time`.
const HEADER_6: HeaderLayout = HeaderLayout {
    size: 76,
    wide: false,
    crc: false,
    last_uid: 28,
    uidvalidity: 44,
    exists: field::NUM_RECORDS,
    options: 60,
    leaked_cache_records: 64,
    highestmodseq: NONE,
    deletedmodseq: NONE,
    first_expunged: NONE,
    last_repack_time: NONE,
    header_file_crc: NONE,
    sync_crc: NONE,
    recentuid: NONE,
    recenttime: NONE,
    pop3_show_after: NONE,
    quota_annot_used: NONE,
    sync_crc_annot: NONE,
    unseen: NONE,
    createdmodseq: NONE,
    changes_epoch: NONE,
    quota_deleted_used: NONE,
    quota_expunged_used: NONE,
};
const HEADER_8: HeaderLayout = HeaderLayout { size: 92, highestmodseq: 68, deletedmodseq: 68, ..HEADER_6 };
const HEADER_9: HeaderLayout = HeaderLayout { size: 96, ..HEADER_8 };
const HEADER_12: HeaderLayout = HeaderLayout {
    size: 128,
    crc: true,
    deletedmodseq: 76,
    exists: 84,
    first_expunged: 88,
    last_repack_time: 92,
    changes_epoch: 92,
    header_file_crc: 96,
    sync_crc: 100,
    recentuid: 104,
    recenttime: 108,
    ..HEADER_9
};
const HEADER_13: HeaderLayout = HeaderLayout { pop3_show_after: 112, quota_annot_used: 116, sync_crc_annot: 120, ..HEADER_12 };
const HEADER_14: HeaderLayout = HeaderLayout { size: 160, unseen: 124, ..HEADER_13 };
const HEADER_16: HeaderLayout = HeaderLayout { createdmodseq: 128, ..HEADER_14 };
const HEADER_17: HeaderLayout = HeaderLayout { changes_epoch: 136, ..HEADER_16 };
const HEADER_18: HeaderLayout = HeaderLayout { quota_deleted_used: 140, quota_expunged_used: 148, ..HEADER_17 };
const HEADER_19: HeaderLayout = HeaderLayout {
    exists: 60,
    options: 64,
    leaked_cache_records: 68,
    highestmodseq: 72,
    deletedmodseq: 80,
    quota_deleted_used: 136,
    quota_expunged_used: 144,
    changes_epoch: 152,
    ..HEADER_18
};
const HEADER_20: HeaderLayout = HeaderLayout {
    size: 192,
    wide: true,
    last_uid: 88,
    uidvalidity: 92,
    recenttime: 104,
    quota_annot_used: 152,
    changes_epoch: 160,
    first_expunged: 168,
    last_repack_time: 176,
    recentuid: 184,
    ..HEADER_19
};

/// Offsets in a record, by version.
pub struct RecordLayout {
    pub size: usize,
    /// Times are 8 bytes of nanoseconds and the size has 8 bytes, instead of 4 bytes of seconds and 4 bytes.
    pub wide: bool,
    pub crc: bool,
    pub internaldate: u16,
    pub sentdate: u16,
    pub message_size: u16,
    pub header_size: u16,
    pub content_offset: u16,
    pub gmtime: u16,
    pub cache_offset: u16,
    pub last_updated: u16,
    pub flags: u16,
    pub user_flags: u16,
    pub content_lines: u16,
    pub savedate: u16,
    pub cache_version: u16,
    pub uuid: u16,
    pub guid: u16,
    pub modseq: u16,
    pub cid: u16,
    pub createdmodseq: u16,
    pub basecid: u16,
    pub cache_crc: u16,
}

const RECORD_6: RecordLayout = RecordLayout {
    size: 60,
    wide: false,
    crc: false,
    internaldate: 4,
    sentdate: 8,
    message_size: 12,
    header_size: 16,
    content_offset: 20,
    gmtime: NONE,
    cache_offset: 24,
    last_updated: 28,
    flags: 32,
    user_flags: 36,
    content_lines: 52,
    savedate: NONE,
    cache_version: 56,
    uuid: NONE,
    guid: NONE,
    modseq: NONE,
    cid: NONE,
    createdmodseq: NONE,
    basecid: NONE,
    cache_crc: NONE,
};
const RECORD_7: RecordLayout = RecordLayout { size: 72, uuid: 60, ..RECORD_6 };
const RECORD_8: RecordLayout = RecordLayout { size: 80, modseq: 72, ..RECORD_7 };
const RECORD_10: RecordLayout = RecordLayout { size: 88, uuid: NONE, guid: 60, modseq: 80, ..RECORD_8 };
const RECORD_12: RecordLayout =
    RecordLayout { size: 96, crc: true, content_offset: NONE, gmtime: 20, cache_crc: 88, ..RECORD_10 };
const RECORD_13: RecordLayout = RecordLayout { size: 104, cid: 88, cache_crc: 96, ..RECORD_12 };
const RECORD_15: RecordLayout = RecordLayout { content_lines: NONE, savedate: 52, ..RECORD_13 };
const RECORD_16: RecordLayout = RecordLayout { size: 112, createdmodseq: 96, cache_crc: 104, ..RECORD_15 };
const RECORD_20: RecordLayout = RecordLayout {
    size: 144,
    wide: true,
    cache_offset: 4,
    internaldate: 8,
    sentdate: 16,
    message_size: 24,
    header_size: 32,
    flags: 36,
    user_flags: 40,
    gmtime: 104,
    last_updated: 112,
    savedate: 120,
    basecid: 128,
    cache_crc: 136,
    ..RECORD_16
};

/// The layouts of a minor version; `None` for one that is not known. Version 11 was never released.
pub fn layouts(minor_version: u32) -> Option<(&'static HeaderLayout, &'static RecordLayout)> {
    Some(match minor_version {
        6 => (&HEADER_6, &RECORD_6),
        7 => (&HEADER_6, &RECORD_7),
        8 => (&HEADER_8, &RECORD_8),
        9 => (&HEADER_9, &RECORD_8),
        10 => (&HEADER_9, &RECORD_10),
        12 => (&HEADER_12, &RECORD_12),
        13 => (&HEADER_13, &RECORD_13),
        14 => (&HEADER_14, &RECORD_13),
        15 => (&HEADER_14, &RECORD_15),
        16 => (&HEADER_16, &RECORD_16),
        17 => (&HEADER_17, &RECORD_16),
        18 => (&HEADER_18, &RECORD_16),
        19 => (&HEADER_19, &RECORD_16),
        20 => (&HEADER_20, &RECORD_20),
        _ => return None,
    })
}

/// The layouts, or damage that says which versions there are.
pub fn known_layouts(minor_version: u32) -> Result<(&'static HeaderLayout, &'static RecordLayout), Damage> {
    layouts(minor_version)
        .ok_or_else(|| damage(field::MINOR_VERSION.into(), "minor version", minor_version, "6 to 10 or 12 to 20"))
}

pub fn damage(offset: u64, field: &'static str, found: impl fmt::Display, expected: impl fmt::Display) -> Damage {
    Damage::new("cyrus.index", offset, field, found, expected)
}

/// Reads fields out of bytes that are long enough for the layout.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub b: &'a [u8],
    pub wide: bool,
}

impl Reader<'_> {
    /// Four bytes; 0 if there is no such field.
    pub fn n32(self, at: u16) -> u32 {
        if at == NONE { 0 } else { u32::from_be_bytes(self.array(at)) }
    }

    pub fn n64_or_none(self, at: u16) -> Option<u64> {
        (at != NONE).then(|| u64::from_be_bytes(self.array(at)))
    }

    pub fn n64(self, at: u16) -> u64 {
        self.n64_or_none(at).unwrap_or(0)
    }

    /// A field that grew from four bytes to eight.
    pub fn grown(self, at: u16) -> u64 {
        if self.wide { self.n64(at) } else { self.n32(at).into() }
    }

    pub fn time(self, at: u16) -> Time {
        // Beyond the year 2262 it turns negative, and back when it is written.
        if self.wide { Time(self.n64(at) as i64) } else { Time::from_secs(self.n32(at).into()) }
    }

    /// A time for which 0 stands for none.
    pub fn time_or_none(self, at: u16) -> Option<Time> {
        Some(self.time(at)).filter(|&t| t != Time::ZERO)
    }

    pub fn array<const N: usize>(self, at: u16) -> [u8; N] {
        let mut out = [0; N];
        if at != NONE {
            out.copy_from_slice(&self.b[usize::from(at)..usize::from(at) + N]);
        }
        out
    }
}

/// Puts fields into bytes that are long enough for the layout. What the version has no field for is left out.
pub struct Writer<'a> {
    pub b: &'a mut [u8],
    pub wide: bool,
}

impl Writer<'_> {
    pub fn n32(&mut self, at: u16, v: u32) {
        if at != NONE {
            put_be32(self.b, at.into(), v);
        }
    }

    pub fn n64(&mut self, at: u16, v: u64) {
        if at != NONE {
            put_be64(self.b, at.into(), v);
        }
    }

    /// A field that grew from four bytes to eight.
    pub fn grown(&mut self, at: u16, name: &'static str, v: u64) -> Result<(), Damage> {
        if self.wide {
            self.n64(at, v);
        } else if at != NONE {
            let small = u32::try_from(v).map_err(|_| damage(at.into(), name, v, "at most 4294967295 in this version"))?;
            self.n32(at, small);
        }
        Ok(())
    }

    pub fn time(&mut self, at: u16, name: &'static str, t: Time) -> Result<(), Damage> {
        if self.wide {
            self.n64(at, t.0 as u64);
        } else if at != NONE {
            let secs = u32::try_from(t.secs());
            self.n32(at, secs.map_err(|_| damage(at.into(), name, t, "0 to 4294967295 seconds in this version"))?);
        }
        Ok(())
    }

    pub fn time_or_none(&mut self, at: u16, name: &'static str, t: Option<Time>) -> Result<(), Damage> {
        self.time(at, name, t.unwrap_or(Time::ZERO))
    }

    pub fn bytes(&mut self, at: u16, v: &[u8]) {
        if at != NONE {
            self.b[usize::from(at)..usize::from(at) + v.len()].copy_from_slice(v);
        }
    }

    /// Puts the CRC of all before it into the last four bytes.
    pub fn crc(&mut self) {
        let at = self.b.len() - CRC_LEN;
        let crc = crc32(&self.b[..at]);
        put_be32(self.b, at, crc);
    }
}

/// A minor version with record sizes that some development version wrote by mistake, and which 3.13 reads too: each record is
/// one of version 19, CRC included, and what follows it is not used.
pub const OVERSIZED: (u32, usize) = (19, RECORD_20.size);
