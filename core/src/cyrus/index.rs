//! cyrus.index (and cyrus.expunge of 2.3, which has the same layout): minor versions 6 to 10 and 12 to 20, read and written.
//!
//! A header, then records of one size in ascending order of UID, all of it big-endian. The tables of offsets in `layout` are
//! the one source of truth for reading and writing (`imap/index_file.c` of 3.13; `OFFSET_*` in `imap/mailbox.h` of earlier
//! lines). From version 12 on the header and each record end in a CRC-32 of what stands before it.
//!
//! Bytes that no table lists are zero in what Cyrus writes. They count in the CRCs, are otherwise not looked at, and are
//! written as zero.
//!
//! What must not come in: locks, paths and the other files of a mailbox.

mod describe;
mod layout;

pub use self::describe::{describe, describe_index};

use self::layout::{CRC_LEN, HeaderLayout, OVERSIZED, Reader, RecordLayout, Writer, damage, field, known_layouts};
use crate::bytes::be32;
use crate::crc32::{Crc32, crc32};
use crate::error::Damage;
use crate::guid::Guid;
use crate::time::Time;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

/// The most bytes that the header of any version has. A file begins with its header.
pub const HEADER_MAX: usize = 192;
/// Bytes that every version begins with in the same way: up to and including `num_records`.
const COMMON_LEN: usize = 24;
/// User flags that a record can have.
pub const USER_FLAGS_MAX: usize = 128;

/// Bits of [`Record::system_flags`].
pub mod flag {
    /// `\Answered`.
    pub const ANSWERED: u32 = 1;
    /// `\Flagged`.
    pub const FLAGGED: u32 = 1 << 1;
    /// `\Deleted`.
    pub const DELETED: u32 = 1 << 2;
    /// `\Draft`.
    pub const DRAFT: u32 = 1 << 3;
    /// `\Seen` of the owner, or of everybody if the mailbox has [`super::option::SHARED_SEEN`]. From version 12 on; before that
    /// it is in the seen database.
    pub const SEEN: u32 = 1 << 4;
    /// The names, in the order of the bits.
    pub const NAMES: [(u32, &str); 5] =
        [(ANSWERED, "\\Answered"), (FLAGGED, "\\Flagged"), (DELETED, "\\Deleted"), (DRAFT, "\\Draft"), (SEEN, "\\Seen")];
}

/// Bits of [`Record::internal_flags`], which stand in the same word as the system flags.
pub mod internal {
    /// Snoozed (3.2 and later).
    pub const SNOOZED: u32 = 1 << 26;
    /// Was parted from its conversation (3.2 and later).
    pub const SPLIT_CONVERSATION: u32 = 1 << 27;
    /// Something is left to clean up (3.0 and later).
    pub const NEEDS_CLEANUP: u32 = 1 << 28;
    /// The message file is on the archive partition (3.0 and later).
    pub const ARCHIVED: u32 = 1 << 29;
    /// The message file has been removed (2.4 and later).
    pub const UNLINKED: u32 = 1 << 30;
    /// Expunged: not visible any more, but the file may still be there (2.4 and later).
    pub const EXPUNGED: u32 = 1 << 31;
    /// The names for people, in the order of the bits.
    pub const NAMES: [(u32, &str); 6] = [
        (SNOOZED, "snoozed"),
        (SPLIT_CONVERSATION, "split-conversation"),
        (NEEDS_CLEANUP, "needs-cleanup"),
        (ARCHIVED, "archived"),
        (UNLINKED, "unlinked"),
        (EXPUNGED, "expunged"),
    ];
}

/// Bits of [`Header::options`].
pub mod option {
    /// POP3 UIDs with UIDVALIDITY in front.
    pub const POP3_NEW_UIDL: u32 = 1;
    /// CONDSTORE; without effect from 2.4 on.
    pub const CONDSTORE: u32 = 1 << 1;
    /// `\Seen` is the same for everybody.
    pub const SHARED_SEEN: u32 = 1 << 2;
    /// Duplicates are delivered.
    pub const DUPLICATE_DELIVER: u32 = 1 << 3;
    /// Some message has an alarm (3.2 and later).
    pub const HAS_ALARMS: u32 = 1 << 4;
    /// Message files wait for their removal.
    pub const NEEDS_UNLINK: u32 = 1 << 29;
    /// The index waits to be rewritten without its unlinked records.
    pub const NEEDS_REPACK: u32 = 1 << 30;
    /// The mailbox is being deleted.
    pub const DELETED: u32 = 1 << 31;
    /// The names, in the order of the bits.
    pub const NAMES: [(u32, &str); 8] = [
        (POP3_NEW_UIDL, "POP3_NEW_UIDL"),
        (CONDSTORE, "IMAP_CONDSTORE"),
        (SHARED_SEEN, "IMAP_SHAREDSEEN"),
        (DUPLICATE_DELIVER, "IMAP_DUPDELIVER"),
        (HAS_ALARMS, "IMAP_HAS_ALARMS"),
        (NEEDS_UNLINK, "NEEDS_UNLINK"),
        (NEEDS_REPACK, "NEEDS_REPACK"),
        (DELETED, "DELETED"),
    ];
}

/// The header of an index. Fields that a version does not have are 0 or `None`; times are `None` where 0 stands in the file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Counts rewrites of the index; also the first 4 bytes of cyrus.cache.
    pub generation_no: u32,
    /// 0 for mail.
    pub format: u32,
    /// Decides on the layout: 6 to 10 or 12 to 20.
    pub minor_version: u32,
    /// Bytes of the header.
    pub start_offset: u32,
    /// Bytes of a record.
    pub record_size: u32,
    /// Records, those of expunged messages too.
    pub num_records: u32,
    /// When a message was added last.
    pub last_appenddate: Option<Time>,
    /// The greatest UID ever given; UIDNEXT is one more.
    pub last_uid: u32,
    /// Bytes of all messages that are not expunged.
    pub quota_mailbox_used: u64,
    /// Last login over POP3.
    pub pop3_last_login: Option<Time>,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// Messages with `\Deleted`.
    pub deleted: u32,
    /// Messages with `\Answered`.
    pub answered: u32,
    /// Messages with `\Flagged`.
    pub flagged: u32,
    /// Messages that are not expunged; before version 12 the same as `num_records`.
    pub exists: u32,
    /// See [`option`].
    pub options: u32,
    /// Records of cyrus.cache that are not used any more.
    pub leaked_cache_records: u32,
    /// HIGHESTMODSEQ, from version 8 on.
    pub highestmodseq: Option<u64>,
    /// The highest MODSEQ of a record that has been removed, from version 12 on; in 8 to 10 the same as `highestmodseq`.
    pub deletedmodseq: Option<u64>,
    /// When the oldest expunged record was expunged, from version 12 on.
    pub first_expunged: Option<Time>,
    /// When the index was rewritten last, from version 12 on.
    pub last_repack_time: Option<Time>,
    /// CRC-32 of the whole cyrus.header, 0 if unknown, from version 12 on.
    pub header_file_crc: u32,
    /// The XOR of [`Record::sync_crc`] over all records, from version 12 on.
    pub sync_crc: u32,
    /// The greatest UID that the owner has been shown, from version 12 on.
    pub recentuid: u32,
    /// When that was, from version 12 on.
    pub recenttime: Option<Time>,
    /// POP3 shows only later messages, from version 13 on.
    pub pop3_show_after: Option<Time>,
    /// Bytes of annotations on messages, from version 13 on.
    pub quota_annot_used: u64,
    /// The same as `sync_crc` over annotations, from version 13 on.
    pub sync_crc_annot: u32,
    /// Messages without `\Seen`, from version 14 on.
    pub unseen: u32,
    /// MODSEQ of the creation, from version 16 on.
    pub createdmodseq: Option<u64>,
    /// Changes before this time are not known, from version 17 on; in 12 to 16 the same as `last_repack_time`.
    pub changes_epoch: Option<Time>,
    /// Bytes of messages with `\Deleted`, from version 18 on.
    pub quota_deleted_used: u64,
    /// Bytes of expunged messages whose files are still there, from version 18 on.
    pub quota_expunged_used: u64,
    /// The CRC of the header that stood in the file, from version 12 on. Not used in writing.
    pub header_crc: Option<u32>,
}

/// Reads the header alone, from the first [`HEADER_MAX`] bytes of a file or more (fewer only if the file is shorter).
///
/// Damage for a version that is not known, for sizes other than the version's and for a wrong CRC.
pub fn peek(bytes: &[u8]) -> Result<Header, Damage> {
    check_present(bytes, COMMON_LEN)?;
    let minor_version = be32(bytes, field::MINOR_VERSION.into());
    let (l, record) = known_layouts(minor_version)?;
    let start_offset = be32(bytes, field::START_OFFSET.into());
    if start_offset as usize != l.size {
        return Err(damage(field::START_OFFSET.into(), "size of the header", start_offset, l.size));
    }
    let record_size = be32(bytes, field::RECORD_SIZE.into());
    if record_size as usize != record.size && (minor_version, record_size as usize) != OVERSIZED {
        return Err(damage(field::RECORD_SIZE.into(), "size of a record", record_size, record.size));
    }
    check_present(bytes, l.size)?;
    let header_crc = if l.crc { Some(check_crc(&bytes[..l.size], 0, "header CRC")?) } else { None };
    Ok(Header { header_crc, ..Header::read(l, bytes) })
}

fn check_present(bytes: &[u8], need: usize) -> Result<(), Damage> {
    if bytes.len() < need {
        let found = format!("{} bytes", bytes.len());
        return Err(damage(bytes.len() as u64, "end of file", found, format!("{need} bytes of a header")));
    }
    Ok(())
}

/// The CRC in the last four bytes of `b`, which lies at `base` in the file, if it is right.
fn check_crc(b: &[u8], base: u64, name: &'static str) -> Result<u32, Damage> {
    let at = b.len() - CRC_LEN;
    let (found, expected) = (be32(b, at), crc32(&b[..at]));
    if found != expected {
        return Err(damage(base + at as u64, name, format!("{found:08x}"), format!("{expected:08x}")));
    }
    Ok(found)
}

impl Header {
    /// True if the mailbox is being deleted: it counts as gone.
    pub fn is_deleted(&self) -> bool {
        self.options & option::DELETED != 0
    }

    fn read(l: &HeaderLayout, b: &[u8]) -> Header {
        let r = Reader { b, wide: l.wide };
        Header {
            generation_no: r.n32(field::GENERATION_NO),
            format: r.n32(field::FORMAT),
            minor_version: r.n32(field::MINOR_VERSION),
            start_offset: r.n32(field::START_OFFSET),
            record_size: r.n32(field::RECORD_SIZE),
            num_records: r.n32(field::NUM_RECORDS),
            last_appenddate: r.time_or_none(field::LAST_APPENDDATE),
            last_uid: r.n32(l.last_uid),
            quota_mailbox_used: r.n64(field::QUOTA_MAILBOX_USED),
            pop3_last_login: r.time_or_none(field::POP3_LAST_LOGIN),
            uidvalidity: r.n32(l.uidvalidity),
            deleted: r.n32(field::DELETED),
            answered: r.n32(field::ANSWERED),
            flagged: r.n32(field::FLAGGED),
            exists: r.n32(l.exists),
            options: r.n32(l.options),
            leaked_cache_records: r.n32(l.leaked_cache_records),
            highestmodseq: r.n64_or_none(l.highestmodseq),
            deletedmodseq: r.n64_or_none(l.deletedmodseq),
            first_expunged: r.time_or_none(l.first_expunged),
            last_repack_time: r.time_or_none(l.last_repack_time),
            header_file_crc: r.n32(l.header_file_crc),
            sync_crc: r.n32(l.sync_crc),
            recentuid: r.n32(l.recentuid),
            recenttime: r.time_or_none(l.recenttime),
            pop3_show_after: r.time_or_none(l.pop3_show_after),
            quota_annot_used: r.grown(l.quota_annot_used),
            sync_crc_annot: r.n32(l.sync_crc_annot),
            unseen: r.n32(l.unseen),
            createdmodseq: r.n64_or_none(l.createdmodseq),
            changes_epoch: r.time_or_none(l.changes_epoch),
            quota_deleted_used: r.n64(l.quota_deleted_used),
            quota_expunged_used: r.n64(l.quota_expunged_used),
            header_crc: None,
        }
    }

    /// The header as `minor_version` has it, with that version's sizes and a fresh CRC. To convert, set `minor_version` before.
    ///
    /// What the version has no field for is left out; a MODSEQ that is not known becomes 1, as in Cyrus. Damage for a version
    /// that is not known and for a value that does not fit.
    pub fn emit(&self) -> Result<Vec<u8>, Damage> {
        let (l, record) = known_layouts(self.minor_version)?;
        let mut out = vec![0; l.size];
        let mut w = Writer { b: &mut out, wide: l.wide };
        // These first: in versions without them they stand where another field stands, which counts.
        w.n32(l.exists, self.exists);
        w.n64(l.deletedmodseq, self.deletedmodseq.or(self.highestmodseq).unwrap_or(1));
        w.time_or_none(l.changes_epoch, "changes epoch", self.changes_epoch)?;
        w.n32(field::GENERATION_NO, self.generation_no);
        w.n32(field::FORMAT, self.format);
        w.n32(field::MINOR_VERSION, self.minor_version);
        w.n32(field::START_OFFSET, l.size as u32);
        w.n32(field::RECORD_SIZE, record.size as u32);
        w.n32(field::NUM_RECORDS, self.num_records);
        w.time_or_none(field::LAST_APPENDDATE, "last append date", self.last_appenddate)?;
        w.n32(l.last_uid, self.last_uid);
        w.n64(field::QUOTA_MAILBOX_USED, self.quota_mailbox_used);
        w.time_or_none(field::POP3_LAST_LOGIN, "last POP3 login", self.pop3_last_login)?;
        w.n32(l.uidvalidity, self.uidvalidity);
        w.n32(field::DELETED, self.deleted);
        w.n32(field::ANSWERED, self.answered);
        w.n32(field::FLAGGED, self.flagged);
        w.n32(l.options, self.options);
        w.n32(l.leaked_cache_records, self.leaked_cache_records);
        w.n64(l.highestmodseq, self.highestmodseq.unwrap_or(1));
        w.time_or_none(l.first_expunged, "first expunged", self.first_expunged)?;
        w.time_or_none(l.last_repack_time, "last repack time", self.last_repack_time)?;
        w.n32(l.header_file_crc, self.header_file_crc);
        w.n32(l.sync_crc, self.sync_crc);
        w.n32(l.recentuid, self.recentuid);
        w.time_or_none(l.recenttime, "recent time", self.recenttime)?;
        w.time_or_none(l.pop3_show_after, "POP3 show after", self.pop3_show_after)?;
        w.grown(l.quota_annot_used, "annotation quota", self.quota_annot_used)?;
        w.n32(l.sync_crc_annot, self.sync_crc_annot);
        w.n32(l.unseen, self.unseen);
        w.n64(l.createdmodseq, self.createdmodseq.unwrap_or(0));
        w.n64(l.quota_deleted_used, self.quota_deleted_used);
        w.n64(l.quota_expunged_used, self.quota_expunged_used);
        if l.crc {
            w.crc();
        }
        Ok(out)
    }
}

/// The UID of a message in its mailbox; never 0 in a record that has been read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Uid(pub u32);

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What the index says of one message. Fields that a version does not have are 0 or `None`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Record {
    /// UID.
    pub uid: Uid,
    /// INTERNALDATE.
    pub internaldate: Time,
    /// The day of the `Date` header, as SEARCH SENTON has it.
    pub sentdate: Time,
    /// Bytes of the message file.
    pub size: u64,
    /// Bytes of its header, with the empty line.
    pub header_size: u32,
    /// Where the body begins, before version 12.
    pub content_offset: u32,
    /// The `Date` header as a point in time, from version 12 on; `None` for 0.
    pub gmtime: Option<Time>,
    /// Where the message's record lies in cyrus.cache; 48 bits.
    pub cache_offset: u64,
    /// When the record changed last; if it is expunged, when it was.
    pub last_updated: Time,
    /// See [`flag`]. The lower 16 bits of the word in the file.
    pub system_flags: u32,
    /// See [`internal`]. The upper 16 bits of the word in the file, where they stand there.
    pub internal_flags: u32,
    /// Bit *n* % 32 of word *n* / 32 belongs to the name at place *n* in cyrus.header.
    pub user_flags: [u32; 4],
    /// Lines of the body, before version 15.
    pub content_lines: u32,
    /// When it was put into this mailbox, from version 15 on; `None` for 0.
    pub savedate: Option<Time>,
    /// Version of the record in cyrus.cache; 16 bits.
    pub cache_version: u32,
    /// An identifier of 2.3, versions 7 to 9: no hash of anything.
    pub uuid: [u8; 12],
    /// SHA-1 of the message file, from version 10 on; see [`Record::has_sha1_guid`].
    pub guid: Guid,
    /// MODSEQ, from version 8 on.
    pub modseq: Option<u64>,
    /// The conversation (THRID), from version 13 on; 0 for none.
    pub cid: u64,
    /// MODSEQ of the message's arrival, from version 16 on; 0 if unknown.
    pub createdmodseq: u64,
    /// The conversation from which this one was parted, version 20; 0 for none.
    pub basecid: u64,
    /// CRC-32 of the message's record in cyrus.cache, from version 12 on.
    pub cache_crc: u32,
}

impl Record {
    /// `\Seen` of the owner; always false before version 12.
    pub fn is_seen(&self) -> bool {
        self.system_flags & flag::SEEN != 0
    }

    /// `\Answered`.
    pub fn is_answered(&self) -> bool {
        self.system_flags & flag::ANSWERED != 0
    }

    /// `\Flagged`.
    pub fn is_flagged(&self) -> bool {
        self.system_flags & flag::FLAGGED != 0
    }

    /// `\Deleted`.
    pub fn is_deleted(&self) -> bool {
        self.system_flags & flag::DELETED != 0
    }

    /// `\Draft`.
    pub fn is_draft(&self) -> bool {
        self.system_flags & flag::DRAFT != 0
    }

    /// Expunged: not visible; the file is there unless [`Record::is_unlinked`].
    pub fn is_expunged(&self) -> bool {
        self.internal_flags & internal::EXPUNGED != 0
    }

    /// There is no message file any more.
    pub fn is_unlinked(&self) -> bool {
        self.internal_flags & internal::UNLINKED != 0
    }

    /// The message file is on the archive partition.
    pub fn is_archived(&self) -> bool {
        self.internal_flags & internal::ARCHIVED != 0
    }

    /// True if the user flag at place `n` of cyrus.header is set; false for any `n` from [`USER_FLAGS_MAX`] on.
    pub fn user_flag(&self, n: usize) -> bool {
        self.user_flags.get(n / 32).is_some_and(|word| word & 1 << (n % 32) != 0)
    }

    /// True if `guid` is the SHA-1 of the message file.
    ///
    /// It is not if it is null (2.3 without `guid_mode: sha1`), nor if it is one of the 12-byte UUIDs of versions 7 to 9, which
    /// 2.3 padded with 8 NULs when it converted to version 10. No SHA-1 ends in those.
    pub fn has_sha1_guid(&self) -> bool {
        self.guid.0[12..] != [0; 8]
    }

    fn read(l: &RecordLayout, b: &[u8]) -> Record {
        let r = Reader { b, wide: l.wide };
        let (flags, cache) = (r.n32(l.flags), r.n32(l.cache_version));
        Record {
            uid: Uid(r.n32(field::UID)),
            internaldate: r.time(l.internaldate),
            sentdate: r.time(l.sentdate),
            size: r.grown(l.message_size),
            header_size: r.n32(l.header_size),
            content_offset: r.n32(l.content_offset),
            gmtime: r.time_or_none(l.gmtime),
            cache_offset: u64::from(cache >> 16) << 32 | u64::from(r.n32(l.cache_offset)),
            last_updated: r.time(l.last_updated),
            system_flags: flags & 0xFFFF,
            internal_flags: flags & !0xFFFF,
            user_flags: [0, 4, 8, 12].map(|word| r.n32(l.user_flags + word)),
            content_lines: r.n32(l.content_lines),
            savedate: r.time_or_none(l.savedate),
            cache_version: cache & 0xFFFF,
            uuid: r.array(l.uuid),
            guid: Guid(r.array(l.guid)),
            modseq: r.n64_or_none(l.modseq),
            cid: r.n64(l.cid),
            createdmodseq: r.n64(l.createdmodseq),
            basecid: r.n64(l.basecid),
            cache_crc: r.n32(l.cache_crc),
        }
    }

    /// The record as `minor_version` has it, with a fresh CRC.
    ///
    /// What the version has no field for is left out; a MODSEQ that is not known becomes 1, as in Cyrus. Damage for a version
    /// that is not known and for a value that does not fit.
    pub fn emit(&self, minor_version: u32) -> Result<Vec<u8>, Damage> {
        let (_, l) = known_layouts(minor_version)?;
        let mut out = vec![0; l.size];
        self.write(l, &mut out)?;
        Ok(out)
    }

    fn write(&self, l: &RecordLayout, out: &mut [u8]) -> Result<(), Damage> {
        let upper = self.cache_offset >> 32;
        if upper > 0xFFFF || self.cache_version > 0xFFFF {
            let found = format!("{}, version {}", self.cache_offset, self.cache_version);
            return Err(damage(l.cache_version.into(), "cache offset", found, "48 bits, version 16 bits"));
        }
        let mut w = Writer { b: out, wide: l.wide };
        w.n32(field::UID, self.uid.0);
        w.time(l.internaldate, "internal date", self.internaldate)?;
        w.time(l.sentdate, "sent date", self.sentdate)?;
        w.grown(l.message_size, "size", self.size)?;
        w.n32(l.header_size, self.header_size);
        w.n32(l.content_offset, self.content_offset);
        w.time_or_none(l.gmtime, "date", self.gmtime)?;
        w.n32(l.cache_offset, self.cache_offset as u32);
        w.time(l.last_updated, "last updated", self.last_updated)?;
        w.n32(l.flags, self.system_flags & 0xFFFF | self.internal_flags & !0xFFFF);
        for (place, word) in [0, 4, 8, 12].into_iter().zip(self.user_flags) {
            w.n32(l.user_flags + place, word);
        }
        w.n32(l.content_lines, self.content_lines);
        w.time_or_none(l.savedate, "save date", self.savedate)?;
        w.n32(l.cache_version, (upper as u32) << 16 | self.cache_version);
        w.bytes(l.uuid, &self.uuid);
        w.bytes(l.guid, &self.guid.0);
        w.n64(l.modseq, self.modseq.unwrap_or(1));
        w.n64(l.cid, self.cid);
        w.n64(l.createdmodseq, self.createdmodseq);
        w.n64(l.basecid, self.basecid);
        w.n32(l.cache_crc, self.cache_crc);
        if l.crc {
            w.crc();
        }
        Ok(())
    }

    /// The CRC by which replication compares messages (`imap/mailbox.c: crc_basic`, the same since 2.4); 0 if expunged.
    ///
    /// `user_flags` are the names in cyrus.header; flags without a name do not count.
    pub fn sync_crc(&self, user_flags: &[Option<Vec<u8>>]) -> u32 {
        if self.is_expunged() {
            return 0;
        }
        let system = flag::NAMES.iter().filter(|(bit, _)| self.system_flags & bit != 0).map(|(_, name)| name.as_bytes());
        let user = user_flags.iter().enumerate().filter(|(n, _)| self.user_flag(*n)).filter_map(|(_, name)| name.as_deref());
        let flags = system.chain(user).fold(0, |crc, name| crc ^ lower_case_crc(name));
        let mut text = CrcText(Crc32::new());
        let (modseq, updated, date) = (self.modseq.unwrap_or(0), self.last_updated.secs(), self.internaldate.secs());
        // Writing into a CRC cannot fail.
        let _ =
            fmt::Write::write_fmt(&mut text, format_args!("{} {modseq} {updated} ({flags}) {date} {}", self.uid, self.guid));
        text.0.finish()
    }
}

/// A CRC over text as it is formatted.
struct CrcText(Crc32);

impl fmt::Write for CrcText {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.update(s.as_bytes());
        Ok(())
    }
}

fn lower_case_crc(name: &[u8]) -> u32 {
    let mut crc = Crc32::new();
    name.iter().for_each(|c| crc.update(&[c.to_ascii_lowercase()]));
    crc.finish()
}

/// The value of [`Header::sync_crc`] for these records; `user_flags` are the names in cyrus.header.
pub fn sync_crc<'a>(user_flags: &[Option<Vec<u8>>], records: impl IntoIterator<Item = &'a Record>) -> u32 {
    records.into_iter().fold(0, |crc, record| crc ^ record.sync_crc(user_flags))
}

/// A whole file in the layout of `header.minor_version`: header and records with fresh CRCs.
///
/// `num_records` is what there is; all other counts and sums are taken as the header has them. Damage as from [`Header::emit`]
/// and [`Record::emit`], or for more than 2^32 - 1 records.
pub fn emit_index(header: &Header, records: &[Record]) -> Result<Vec<u8>, Damage> {
    let (_, l) = known_layouts(header.minor_version)?;
    let num_records = u32::try_from(records.len())
        .map_err(|_| damage(field::NUM_RECORDS.into(), "number of records", records.len(), "at most 4294967295"))?;
    let mut out = Header { num_records, ..header.clone() }.emit()?;
    let start = out.len();
    out.resize(start + records.len() * l.size, 0);
    for (record, place) in records.iter().zip(out[start..].chunks_exact_mut(l.size)) {
        record.write(l, place)?;
    }
    Ok(out)
}

/// A view of a whole file.
#[derive(Clone)]
pub struct Index<'a> {
    header: Header,
    layout: &'static RecordLayout,
    /// The records that are present, and nothing else.
    bytes: &'a [u8],
    present: u32,
    expunge: bool,
}

impl<'a> Index<'a> {
    /// Takes a whole cyrus.index; damage only if the header is (see [`peek`]).
    ///
    /// Bytes behind the last record are left by an append that did not finish, and are not looked at. If there are fewer
    /// records than the header says, [`Index::records`] tells.
    pub fn parse(bytes: &'a [u8]) -> Result<Index<'a>, Damage> {
        let header = peek(bytes)?;
        let (_, layout) = known_layouts(header.minor_version)?;
        let rest = bytes.get(header.start_offset as usize..).unwrap_or_default();
        let record_size = header.record_size as usize;
        let present = (rest.len() / record_size).min(header.num_records as usize);
        let bytes = &rest[..present * record_size];
        Ok(Index { header, layout, bytes, present: present as u32, expunge: false })
    }

    /// Takes a whole cyrus.expunge of 2.3.
    ///
    /// Each expunge appends its records there, and `last_uid` stays as it was when the file was made: UIDs are in no order and
    /// may be greater, so neither is checked.
    pub fn parse_expunge(bytes: &'a [u8]) -> Result<Index<'a>, Damage> {
        match Index::parse(bytes) {
            Ok(index) => Ok(Index { expunge: true, ..index }),
            Err(damage) => Err(Damage { object: "cyrus.expunge".into(), ..damage }),
        }
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How many records are there: `num_records`, or fewer if the file is too short.
    pub fn present(&self) -> u32 {
        self.present
    }

    /// All records in the order of the file, with an error in the place of each damaged one. One more error at the end stands
    /// for all that should be there and are not.
    ///
    /// The UIDs of the records that come out ascend. No record takes memory.
    pub fn records(&self) -> Records<'a, '_> {
        Records { index: self, next: 0, previous: 0, missing: self.present() < self.header.num_records }
    }

    /// Record `n`, counted from 0. Damage if it is not there, its CRC is wrong, or its UID is 0 or greater than `last_uid`.
    pub fn record_at(&self, n: u32) -> Result<Record, Damage> {
        let offset = self.offset(n);
        let b = self.raw(n).ok_or_else(|| self.missing())?;
        if self.layout.crc {
            check_crc(b, offset, "record CRC")?;
        }
        let record = Record::read(self.layout, b);
        let most = if self.expunge { u32::MAX } else { self.header.last_uid };
        if record.uid.0 == 0 || record.uid.0 > most {
            return Err(self.damage(offset, "uid", record.uid, format!("1 to {most}")));
        }
        Ok(record)
    }

    fn damage(&self, at: u64, field: &'static str, found: impl fmt::Display, expected: impl fmt::Display) -> Damage {
        Damage::new(if self.expunge { "cyrus.expunge" } else { "cyrus.index" }, at, field, found, expected)
    }

    fn offset(&self, n: u32) -> u64 {
        u64::from(self.header.start_offset) + u64::from(n) * u64::from(self.header.record_size)
    }

    /// The bytes of record `n` that its layout describes.
    fn raw(&self, n: u32) -> Option<&'a [u8]> {
        if n >= self.present() {
            return None;
        }
        let at = n as usize * self.header.record_size as usize;
        Some(&self.bytes[at..at + self.layout.size])
    }

    fn missing(&self) -> Damage {
        let (present, all) = (self.present(), self.header.num_records);
        self.damage(self.offset(present), "end of file", format!("{present} records"), format!("{all} records"))
    }

    /// Damage if `record`, number `n`, does not come after `previous`.
    ///
    /// Without CRCs a UID that is too great would make all that follow look wrong. So there the next one is asked as well:
    /// if it fits behind `previous` and not behind this one, this one is the odd one out.
    fn check_order(&self, n: u32, record: &Record, previous: u32) -> Result<(), Damage> {
        let uid = record.uid.0;
        if uid <= previous {
            return Err(damage(self.offset(n), "uid", uid, format!("more than {previous}")));
        }
        let next = self.raw(n + 1).filter(|_| !self.layout.crc).map(|b| be32(b, field::UID.into()));
        match next {
            Some(next) if previous < next && next <= uid => {
                Err(damage(self.offset(n), "uid", uid, format!("less than {next}, the next one")))
            }
            _ => Ok(()),
        }
    }
}

/// See [`Index::records`].
#[derive(Clone)]
pub struct Records<'a, 'i> {
    index: &'i Index<'a>,
    next: u32,
    previous: u32,
    missing: bool,
}

impl Iterator for Records<'_, '_> {
    type Item = Result<Record, Damage>;

    fn next(&mut self) -> Option<Result<Record, Damage>> {
        let n = self.next;
        if n == self.index.present() {
            return core::mem::take(&mut self.missing).then(|| Err(self.index.missing()));
        }
        self.next += 1;
        let record = self.index.record_at(n);
        if let Ok(record) = &record
            && !self.index.expunge
        {
            if let Err(damage) = self.index.check_order(n, record, self.previous) {
                return Some(Err(damage));
            }
            self.previous = record.uid.0;
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests {
    use super::describe::{Moment, Named};
    use super::layout::layouts;
    use super::*;
    use crate::bytes::{hex, put_be32};
    use crate::cyrus::header;
    use alloc::string::String;
    use core::fmt::Write as _;

    macro_rules! file {
        ($name:literal) => {
            include_bytes!(concat!("../../../tests/data/cyrus/", $name))
        };
    }

    /// An index and what the server's own mbexamine says of it.
    macro_rules! real {
        ($($dir:literal),*) => {
            [$((
                include_bytes!(concat!("../../../tests/data/cyrus/index/", $dir, "/cyrus.index")),
                include_str!(concat!("../../../tests/data/cyrus/index/", $dir, "/mbexamine.txt")),
            )),*]
        };
    }

    /// One mailbox as 3.6.1 converted it to each version that it can write, with what its mbexamine says.
    const CONVERTED: [(&[u8], &str); 10] = real!("v6", "v7", "v8", "v9", "v12", "v13", "v14", "v15", "v16", "v17");
    /// An INBOX of 3.2.6 (version 16), 3.10.2 and 3.12.4 (19), with what their mbexamine says and their cyrus.header.
    const SERVERS: [(&[u8], &str); 3] = real!("3.2.6", "3.10.2", "3.12.4");
    const SERVER_HEADERS: [&[u8]; 3] = [file!("header/3.2.6"), file!("header/3.10.2"), file!("header/3.12.4")];
    /// Version 20, of 3.13, with their cyrus.header.
    const V20: [(&[u8], &[u8]); 3] = [
        (file!("index/3.13/bob.index"), file!("header/3.13-bob")),
        (file!("index/3.13/folder.index"), file!("header/3.13-folder")),
        (file!("index/3.13/inbox.index"), file!("header/3.13-inbox")),
    ];
    const VERSIONS: [u32; 14] = [6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20];

    fn all_real() -> Vec<&'static [u8]> {
        let with_dumps = CONVERTED.iter().chain(&SERVERS).map(|(bytes, _)| *bytes);
        with_dumps.chain(V20.iter().map(|(bytes, _)| *bytes)).collect()
    }

    fn records(bytes: &[u8]) -> Vec<Record> {
        Index::parse(bytes).unwrap().records().collect::<Result<_, _>>().unwrap()
    }

    /// A small linear congruential generator: the tests need variety, not quality.
    struct Lcg(u64);

    impl Lcg {
        fn n64(&mut self) -> u64 {
            let mut half = || {
                self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                self.0 >> 32
            };
            half() << 32 | half()
        }

        fn n32(&mut self) -> u32 {
            self.n64() as u32
        }

        fn fill(&mut self, b: &mut [u8]) {
            b.iter_mut().for_each(|byte| *byte = self.n64() as u8);
        }
    }

    fn time(secs: i64) -> Time {
        Time::from_secs(secs)
    }

    #[test]
    fn every_real_file_round_trips() {
        for bytes in all_real() {
            let index = Index::parse(bytes).unwrap();
            let again = emit_index(index.header(), &records(bytes)).unwrap();
            assert_eq!(hex(&again), hex(bytes), "version {}", index.header().minor_version);
        }
    }

    #[test]
    fn the_same_mailbox_in_ten_versions() {
        let guids = [
            "393695e2e33a702d2138d93815a3c9e064658f2a",
            "b6cca41319b3d00ebd23e05580f5b95ac7c75fa3",
            "a10de9dc4bc8285f6a52bfc05334fa7b50886766",
            "985c3984c21a8c96b3cff6ee0d77b24a8e9343b0",
            "d0cd44dff049a8bc5dfcea5257d556b174def1fb",
        ];
        let cids =
            [0xa8c5_4c03_e853_7b3f, 0x273f_7df2_12da_db1c, 0x30fe_303d_40a1_234d, 0x09af_e065_c973_8784, 0xe919_6986_d257_961c];
        let dates = [1_646_121_601, 1_646_208_002, 1_646_294_403, 1_646_398_804, 1_646_467_205];
        let flags = [0x10, 0x13, 8, 4, 4];
        for (bytes, _) in CONVERTED {
            let version = peek(bytes).unwrap().minor_version;
            let since = |first: u32| version >= first;
            let found = records(bytes);
            assert_eq!(found.len(), 5);
            for (n, r) in found.iter().enumerate() {
                let expected = Record {
                    uid: Uid(n as u32 + 1),
                    internaldate: time(dates[n]),
                    sentdate: time(1_646_092_800 + 86_400 * [0, 1, 2, 3, 4][n]),
                    size: [176, 176, 176, 176, 188][n],
                    header_size: 156,
                    content_offset: if since(12) { 0 } else { 156 },
                    gmtime: since(12)
                        .then(|| time([1_646_121_600, 1_646_208_000, 1_646_294_400, 1_646_380_800, 1_646_467_200][n])),
                    cache_offset: r.cache_offset,
                    last_updated: time(1_795_456_810 + i64::from(n > 0)),
                    system_flags: if since(12) { flags[n] } else { flags[n] & 0xF },
                    internal_flags: if n == 3 { internal::EXPUNGED } else { 0 },
                    user_flags: [[0, 0, 1, 0, 3][n], 0, 0, 0],
                    savedate: since(15).then(|| time(1_795_456_810 + i64::from(n > 0))),
                    cache_version: 11,
                    guid: if since(12) { Guid::from_hex(guids[n].as_bytes()).unwrap() } else { Guid::NULL },
                    modseq: since(8).then_some([83, 93, 101, 89, 95][n]),
                    cid: if since(13) { cids[n] } else { 0 },
                    createdmodseq: if since(16) { 83 + n as u64 } else { 0 },
                    cache_crc: r.cache_crc,
                    ..Record::default()
                };
                assert_eq!(*r, expected, "version {version}");
                assert_eq!(r.has_sha1_guid(), since(12));
                assert_eq!((r.is_expunged(), r.is_unlinked(), r.is_archived()), (n == 3, false, false));
                assert_eq!((r.is_seen(), r.is_draft(), r.is_deleted()), (since(12) && n < 2, n == 2, n > 2));
                assert_eq!((r.is_answered(), r.is_flagged()), (n == 1, n == 1));
                assert_eq!((r.user_flag(0), r.user_flag(1), r.user_flag(128)), (n == 2 || n == 4, n == 4, false));
            }
        }
    }

    #[test]
    fn the_header_of_version_17() {
        let expected = Header {
            minor_version: 17,
            start_offset: 160,
            record_size: 112,
            num_records: 5,
            last_appenddate: Some(time(1_795_456_811)),
            last_uid: 5,
            quota_mailbox_used: 716,
            uidvalidity: 1_795_456_811,
            deleted: 1,
            answered: 1,
            flagged: 1,
            exists: 4,
            options: option::POP3_NEW_UIDL,
            highestmodseq: Some(101),
            deletedmodseq: Some(0),
            first_expunged: Some(time(1_795_456_811)),
            header_file_crc: 4_157_891_056,
            sync_crc: 1_610_985_944,
            recentuid: 5,
            recenttime: Some(time(1_795_456_811)),
            quota_annot_used: 93,
            sync_crc_annot: 832_991_749,
            unseen: 2,
            createdmodseq: Some(81),
            changes_epoch: Some(time(1_795_456_810)),
            header_crc: Some(0x325c_be88),
            ..Header::default()
        };
        assert_eq!(peek(CONVERTED[9].0), Ok(expected));
    }

    #[test]
    fn version_20_of_a_development_server() {
        let found = records(V20[0].0);
        let expected = Record {
            uid: Uid(1),
            internaldate: time(1_700_000_000),
            sentdate: Time(0x1797_543b_c295_0000),
            size: 32,
            header_size: 28,
            gmtime: Some(time(1_700_000_000)),
            cache_offset: 4,
            last_updated: Time(0x18ea_be9a_e8c4_8c00),
            savedate: Some(Time(0x18ea_be9a_e8c4_8c00)),
            cache_version: 14,
            guid: Guid::from_hex(b"5c0ca3ac606e539eee3e0f09e69967d77270a147").unwrap(),
            modseq: Some(2),
            createdmodseq: 2,
            cache_crc: 0x28ea_5254,
            ..Record::default()
        };
        assert_eq!(found, [expected]);
        let header = peek(V20[0].0).unwrap();
        assert_eq!((header.last_uid, header.uidvalidity, header.highestmodseq), (1, 0x6b04_7fca, Some(2)));
        let inbox = records(V20[2].0);
        assert_eq!((inbox.len(), inbox.iter().filter(|r| r.is_expunged()).count()), (125, 7));
    }

    /// The values behind the names in mbexamine's dump, one list for each message.
    fn dumped(dump: &str) -> Vec<Vec<(&str, &str)>> {
        let mut out: Vec<Vec<(&str, &str)>> = Vec::new();
        let lines: Vec<&str> = dump.lines().collect();
        for (n, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("> UID:")) {
            let mut fields = Vec::new();
            for text in [line, lines[n + 1]] {
                let text = text.replace(" :", ":").replace("THRID: ", "THRID:");
                let words: Vec<&str> = text.leak().split_whitespace().collect();
                fields.extend(words.into_iter().filter_map(|w| w.split_once(':')));
            }
            if let Some(flags) = lines.get(n + 3).and_then(|l| l.split_once("USERFLAGS: ")) {
                fields.push(("USERFLAGS", flags.1));
            }
            out.push(fields);
        }
        out
    }

    fn value<'a>(fields: &[(&'a str, &'a str)], name: &str) -> Option<&'a str> {
        fields.iter().find(|(n, _)| *n == name).map(|(_, v)| *v)
    }

    #[test]
    fn the_servers_own_dump_says_the_same_of_every_record() {
        for (bytes, dump) in CONVERTED.into_iter().chain(SERVERS) {
            let shown = dumped(dump);
            let shows_guid = peek(bytes).unwrap().minor_version >= 7;
            // mbexamine leaves expunged messages out.
            let found: Vec<Record> = records(bytes).into_iter().filter(|r| !r.is_expunged()).collect();
            assert_eq!(shown.len(), found.len());
            assert_eq!(found.len(), 4);
            for (fields, r) in shown.iter().zip(&found) {
                let hex = |n: &str| u64::from_str_radix(n, 16).unwrap();
                let number = |name| value(fields, name).unwrap().parse::<i64>().unwrap();
                let expected = (number("UID"), number("INT_DATE"), number("SENTDATE"), number("SAVEDATE"), number("SIZE"));
                let savedate = r.savedate.unwrap_or(Time::ZERO).secs();
                assert_eq!(expected, (r.uid.0.into(), r.internaldate.secs(), r.sentdate.secs(), savedate, r.size as i64));
                let expected = (number("HDRSIZE"), number("LASTUPD"), number("CACHEVER"));
                assert_eq!(expected, (r.header_size.into(), r.last_updated.secs(), r.cache_version.into()));
                assert_eq!(hex(value(fields, "SYSFLAGS").unwrap()), u64::from(r.system_flags));
                assert_eq!(value(fields, "GUID").map(String::from), shows_guid.then(|| r.guid.to_hex()));
                assert_eq!(value(fields, "MODSEQ").map(|n| n.parse().unwrap()), r.modseq);
                assert_eq!(value(fields, "THRID").map_or(0, hex), r.cid);
                if let Some(words) = value(fields, "USERFLAGS") {
                    let [a, b, c, d] = r.user_flags;
                    assert_eq!(words, format!("{d:08X} {c:08X} {b:08X} {a:08X}"));
                }
            }
        }
    }

    #[test]
    fn the_servers_own_dump_says_the_same_of_every_header() {
        for (bytes, dump) in CONVERTED.into_iter().chain(SERVERS) {
            let h = peek(bytes).unwrap();
            let mut lines = vec![
                format!("  Generation Number: {}\n", h.generation_no),
                format!("  Minor Version: {}\n", h.minor_version),
                format!(
                    "  Number of Messages: {}  Mailbox Size: {} bytes  Annotations Size: {} bytes\n",
                    h.exists, h.quota_mailbox_used, h.quota_annot_used
                ),
                format!("  UIDValidity: {}  Last UID: {}\n", h.uidvalidity, h.last_uid),
                format!("  Highest Mod Sequence: {}\n", h.highestmodseq.unwrap_or(1)),
            ];
            if dump.contains("Header Size") {
                lines.push(format!("  Header Size: {} bytes  Record Size: {} bytes\n", h.start_offset, h.record_size));
                lines.push(format!("  Deleted: {}  Answered: {}  Flagged: {}\n", h.deleted, h.answered, h.flagged));
                lines.push(format!("  Last Append Date: ({}) ", h.last_appenddate.unwrap().secs()));
                lines.push(format!("  Mailbox Options:{}\n", Named(h.options, &option::NAMES)));
            }
            if dump.contains("Deleted Size") {
                lines.push(format!(
                    "    Deleted Size: {} bytes  Expunged Size: {} bytes\n",
                    h.quota_deleted_used, h.quota_expunged_used
                ));
            }
            for line in lines {
                assert!(dump.contains(&line), "version {}: {line}", h.minor_version);
            }
        }
    }

    #[test]
    fn the_sync_crc_is_that_of_the_server() {
        let of_3_6_1 = CONVERTED.iter().filter(|(bytes, _)| peek(bytes).unwrap().minor_version >= 12);
        let cases = of_3_6_1.map(|(bytes, _)| (*bytes, &file!("header/3.6.1")[..]));
        let servers = SERVERS.iter().zip(SERVER_HEADERS).map(|((bytes, _), header)| (*bytes, header));
        let mut count = 0;
        for (bytes, header) in cases.chain(servers).chain(V20) {
            let h = peek(bytes).unwrap();
            let flags = header::parse(header).unwrap().user_flags;
            assert_eq!(sync_crc(&flags, &records(bytes)), h.sync_crc, "version {}", h.minor_version);
            assert_eq!(h.header_file_crc, crc32(header), "version {}", h.minor_version);
            count += 1;
        }
        assert_eq!(count, 12);
    }

    #[test]
    fn names_of_flags_count_without_regard_to_case_and_only_if_they_exist() {
        let record = Record { uid: Uid(1), user_flags: [2, 0, 0, 1 << 31], ..Record::default() };
        let names = |name: &str| vec![Some(b"other".to_vec()), Some(name.into())];
        assert_eq!(record.sync_crc(&names("$LABEL")), record.sync_crc(&names("$label")));
        assert_ne!(record.sync_crc(&names("$label")), record.sync_crc(&[]));
        assert_eq!(record.sync_crc(&[]), record.sync_crc(&[None, None]));
        assert_eq!(Record { internal_flags: internal::EXPUNGED, ..record }.sync_crc(&[]), 0);
    }

    /// Any bytes at all in the size of a record, with a good CRC and a given UID.
    fn any_record(lcg: &mut Lcg, version: u32, uid: u32) -> Vec<u8> {
        let (_, l) = layouts(version).unwrap();
        let mut b = vec![0; l.size];
        lcg.fill(&mut b);
        let mut w = Writer { b: &mut b, wide: l.wide };
        w.n32(field::UID, uid);
        if l.crc {
            w.crc();
        }
        b
    }

    #[test]
    fn every_byte_of_a_record_comes_back_in_every_version() {
        let mut lcg = Lcg(1);
        for version in VERSIONS {
            let (_, l) = layouts(version).unwrap();
            for uid in 1..200 {
                let b = any_record(&mut lcg, version, uid);
                let record = Record::read(l, &b);
                assert_eq!(hex(&record.emit(version).unwrap()), hex(&b), "version {version}");
            }
        }
    }

    /// Bytes of a header that no field has, by version.
    fn spare(version: u32) -> core::ops::Range<usize> {
        match version {
            6 | 7 => 68..76,
            8 => 76..92,
            9 | 10 => 76..96,
            12 => 112..124,
            14 | 15 => 128..156,
            16 => 136..156,
            17 => 140..156,
            _ => 0..0,
        }
    }

    #[test]
    fn every_byte_of_a_header_comes_back_in_every_version() {
        let mut lcg = Lcg(2);
        for version in VERSIONS {
            let (l, record) = layouts(version).unwrap();
            for _ in 0..200 {
                let mut b = vec![0; l.size];
                lcg.fill(&mut b);
                b[spare(version)].fill(0);
                put_be32(&mut b, 8, version);
                put_be32(&mut b, 12, l.size as u32);
                put_be32(&mut b, 16, record.size as u32);
                if l.crc {
                    Writer { b: &mut b, wide: l.wide }.crc();
                }
                assert_eq!(hex(&peek(&b).unwrap().emit().unwrap()), hex(&b), "version {version}");
            }
        }
    }

    /// No server at hand writes these two. Offsets as in `imap/mailbox.h` of 2.3 and `imap/index_file.c` of 3.13.
    #[test]
    fn versions_10_and_18_lie_where_the_sources_say() {
        let guid = Guid::of(b"x");
        let record = Record { uid: Uid(3), guid, modseq: Some(5), content_lines: 7, ..Record::default() };
        let b = record.emit(10).unwrap();
        assert_eq!((b.len(), be32(&b, 52), &b[60..80], &b[80..]), (88, 7, &guid.0[..], &5u64.to_be_bytes()[..]));
        let header = Header { minor_version: 18, quota_deleted_used: 1, quota_expunged_used: 2, ..Header::default() };
        let header = Header { changes_epoch: Some(time(3)), exists: 4, options: 5, highestmodseq: Some(6), ..header };
        let b = header.emit().unwrap();
        assert_eq!((be32(&b, 136), be32(&b, 144), be32(&b, 152), b.len()), (3, 1, 2, 160));
        assert_eq!((be32(&b, 84), be32(&b, 60), be32(&b, 72)), (4, 5, 6));
    }

    fn synthetic(lcg: &mut Lcg, uid: u32) -> Record {
        Record {
            uid: Uid(uid),
            internaldate: time(lcg.n32().into()),
            sentdate: time(lcg.n32().into()),
            size: lcg.n32().into(),
            header_size: lcg.n32(),
            gmtime: Some(time(i64::from(lcg.n32()) | 1)),
            cache_offset: lcg.n64() >> 16,
            last_updated: time(lcg.n32().into()),
            system_flags: lcg.n32() & 0xFFFF,
            internal_flags: lcg.n32() & 0xFFFF_0000,
            user_flags: [lcg.n32(), lcg.n32(), lcg.n32(), lcg.n32()],
            savedate: Some(time(i64::from(lcg.n32()) | 1)),
            cache_version: lcg.n32() & 0xFFFF,
            guid: Guid::of(&uid.to_be_bytes()),
            modseq: Some(lcg.n64()),
            cid: lcg.n64(),
            createdmodseq: lcg.n64(),
            basecid: lcg.n64(),
            cache_crc: lcg.n32(),
            ..Record::default()
        }
    }

    /// What is left of a record of the newest version in an older one.
    fn in_version(r: Record, version: u32) -> Record {
        let since = |first: u32| version >= first;
        Record {
            gmtime: r.gmtime.filter(|_| since(12)),
            savedate: r.savedate.filter(|_| since(15)),
            guid: if since(10) { r.guid } else { Guid::NULL },
            modseq: r.modseq.filter(|_| since(8)),
            cid: if since(13) { r.cid } else { 0 },
            createdmodseq: if since(16) { r.createdmodseq } else { 0 },
            basecid: if since(20) { r.basecid } else { 0 },
            cache_crc: if since(12) { r.cache_crc } else { 0 },
            ..r
        }
    }

    #[test]
    fn synthetic_indexes_of_every_version_round_trip() {
        let mut lcg = Lcg(3);
        for version in VERSIONS {
            for count in [0, 1, 2, 50] {
                let given: Vec<Record> = (1..=count).map(|n| synthetic(&mut lcg, n * 7)).collect();
                let header = Header {
                    minor_version: version,
                    last_uid: count * 7,
                    uidvalidity: lcg.n32(),
                    highestmodseq: Some(lcg.n64()),
                    ..Header::default()
                };
                let bytes = emit_index(&header, &given).unwrap();
                let index = Index::parse(&bytes).unwrap();
                assert_eq!(index.header().num_records, count);
                assert_eq!((index.header().uidvalidity, index.header().last_uid), (header.uidvalidity, count * 7));
                assert_eq!(index.header().highestmodseq, header.highestmodseq.filter(|_| version >= 8));
                let expected: Vec<Record> = given.iter().map(|r| in_version(*r, version)).collect();
                assert_eq!(records(&bytes), expected, "version {version}");
                let last = count.checked_sub(1).map(|n| index.record_at(n).unwrap());
                assert_eq!(last.as_ref(), expected.last());
                assert!(index.record_at(count).is_err());
            }
        }
    }

    #[test]
    fn parts_of_a_second_and_large_sizes_are_kept_in_version_20_and_never_cut_in_another() {
        let fine = Record { uid: Uid(1), internaldate: Time(1_700_000_000_123_456_789), ..Record::default() };
        let wide = Record { size: 1 << 33, savedate: Some(Time::from_secs(1 << 33)), ..fine };
        let (_, l) = layouts(20).unwrap();
        assert_eq!(Record::read(l, &wide.emit(20).unwrap()), Record { modseq: Some(1), ..wide });
        let (_, l) = layouts(19).unwrap();
        assert_eq!(Record::read(l, &fine.emit(19).unwrap()).internaldate, time(1_700_000_000));
        assert!(wide.emit(19).is_err());
        assert!(Record { savedate: None, size: u64::from(u32::MAX) + 1, ..fine }.emit(19).is_err());
        assert!(Record { last_updated: Time(-1), ..fine }.emit(19).is_err());
        assert!(Record { cache_offset: 1 << 48, ..fine }.emit(20).is_err());
        assert!(fine.emit(11).is_err());
        let header = Header { minor_version: 13, quota_annot_used: 1 << 32, ..Header::default() };
        assert!(header.emit().is_err());
        assert!(Header { minor_version: 20, ..header }.emit().is_ok());
    }

    #[test]
    fn a_converted_header_knows_what_cyrus_would_read_from_the_old_one() {
        let old = peek(CONVERTED[2].0).unwrap();
        assert_eq!((old.minor_version, old.deletedmodseq, old.exists), (8, Some(101), 5));
        let new = peek(&Header { minor_version: 17, ..old }.emit().unwrap()).unwrap();
        assert_eq!((new.deletedmodseq, new.exists, new.start_offset, new.record_size), (Some(101), 5, 160, 112));
        let v6 = peek(CONVERTED[0].0).unwrap();
        assert_eq!((v6.highestmodseq, v6.deletedmodseq), (None, None));
        let new = peek(&Header { minor_version: 20, ..v6 }.emit().unwrap()).unwrap();
        assert_eq!((new.highestmodseq, new.deletedmodseq, new.record_size), (Some(1), Some(1), 144));
        let mut v16 = peek(CONVERTED[8].0).unwrap();
        v16.last_repack_time = Some(time(77));
        let read = peek(&v16.emit().unwrap()).unwrap();
        assert_eq!(read.changes_epoch, Some(time(77)));
    }

    #[test]
    fn version_19_with_records_of_144_bytes_is_read() {
        let bytes = SERVERS[2].0;
        let mut odd = bytes[..160].to_vec();
        put_be32(&mut odd, 16, 144);
        Writer { b: &mut odd, wide: false }.crc();
        for record in bytes[160..].chunks(112) {
            odd.extend_from_slice(record);
            odd.extend_from_slice(&[0xEE; 32]);
        }
        assert_eq!(records(&odd), records(bytes));
        let index = Index::parse(&odd).unwrap();
        assert_eq!((index.present(), index.header().record_size), (5, 144));
        // Written back it is in order again.
        assert_eq!(hex(&emit_index(index.header(), &records(&odd)).unwrap()), hex(bytes));
        put_be32(&mut odd, 8, 18);
        Writer { b: &mut odd[..160], wide: false }.crc();
        assert_eq!(Index::parse(&odd).err().map(|d| d.field), Some("size of a record"));
    }

    #[test]
    fn unknown_versions_and_impossible_sizes_are_refused() {
        let header = |at: usize, v: u32| {
            let mut bytes = CONVERTED[9].0.to_vec();
            put_be32(&mut bytes, at, v);
            Writer { b: &mut bytes[..160], wide: false }.crc();
            peek(&bytes).map_err(|d| (d.offset, d.field))
        };
        for version in [0, 1, 5, 11, 21, 22, u32::MAX] {
            assert_eq!(header(8, version), Err((8, "minor version")));
        }
        for size in [0, 24, 128, 159, 161, 192, u32::MAX] {
            assert_eq!(header(12, size), Err((12, "size of the header")));
        }
        for size in [0, 1, 111, 113, 144, u32::MAX] {
            assert_eq!(header(16, size), Err((16, "size of a record")));
        }
        assert!(header(24, 5).is_ok());
        assert_eq!(VERSIONS.to_vec(), (0..100).filter(|&v| layouts(v).is_some()).collect::<Vec<_>>());
        assert!((0..100).filter_map(layouts).all(|(l, _)| l.size <= HEADER_MAX));
    }

    #[test]
    fn every_truncation_is_reported_and_what_is_there_is_read() {
        for bytes in all_real().into_iter().filter(|b| b.len() < 2000) {
            let whole = records(bytes);
            let header = peek(bytes).unwrap();
            let (start, size) = (header.start_offset as usize, header.record_size as usize);
            for len in 0..bytes.len() {
                assert_eq!(peek(&bytes[..len]).is_ok(), len >= start);
                let Ok(index) = Index::parse(&bytes[..len]) else {
                    assert!(len < start);
                    continue;
                };
                let found: Vec<_> = index.records().collect();
                let present = (len - start) / size;
                assert_eq!(index.present() as usize, present);
                assert_eq!(found.len(), present + 1);
                assert!(found.iter().zip(&whole).take(present).all(|(a, b)| a.as_ref() == Ok(b)));
                let missing = found[present].as_ref().unwrap_err();
                assert_eq!((missing.field, missing.offset), ("end of file", (start + present * size) as u64));
            }
        }
    }

    #[test]
    fn bytes_behind_the_last_record_are_not_looked_at() {
        let (bytes, _) = CONVERTED[9];
        let longer = [bytes, &[0xFF; 200]].concat();
        assert_eq!(records(&longer), records(bytes));
    }

    #[test]
    fn every_flipped_bit_is_noticed_from_version_12_on() {
        for bytes in all_real().into_iter().filter(|b| b.len() < 2000 && peek(b).unwrap().minor_version >= 12) {
            let header = peek(bytes).unwrap();
            let (start, size) = (header.start_offset as usize, header.record_size as usize);
            let whole = records(bytes);
            for bit in 0..bytes.len() * 8 {
                let at = bit / 8;
                let mut bad = bytes.to_vec();
                bad[at] ^= 1 << (bit % 8);
                if at < start {
                    assert!(Index::parse(&bad).is_err(), "byte {at}");
                    continue;
                }
                let found: Vec<_> = Index::parse(&bad).unwrap().records().collect();
                let broken = (at - start) / size;
                for (n, record) in found.iter().enumerate() {
                    if n == broken {
                        assert_eq!(record.as_ref().map_err(|d| d.field), Err("record CRC"), "byte {at}");
                    } else {
                        assert_eq!(record.as_ref(), Ok(&whole[n]), "byte {at}");
                    }
                }
            }
        }
    }

    #[test]
    fn no_flipped_bit_makes_an_old_version_panic_or_lose_another_record() {
        for (bytes, _) in CONVERTED.into_iter().take(4) {
            let start = peek(bytes).unwrap().start_offset as usize;
            let size = peek(bytes).unwrap().record_size as usize;
            for bit in 0..bytes.len() * 8 {
                let mut bad = bytes.to_vec();
                bad[bit / 8] ^= 1 << (bit % 8);
                let Ok(index) = Index::parse(&bad) else { continue };
                let found: Vec<_> = index.records().collect();
                if bit / 8 >= start {
                    let broken = (bit / 8 - start) / size;
                    let others = found.iter().enumerate().filter(|(n, _)| *n != broken);
                    // A UID that has become that of its neighbour could be either's.
                    let uid = bad[start + broken * size + 3];
                    assert!(
                        others.clone().all(|(n, r)| r.is_ok() || n.abs_diff(broken) == 1 && uid as usize == n + 1),
                        "{found:?}"
                    );
                }
                describe(&bad, &mut String::new()).unwrap();
            }
        }
    }

    fn uids(index: &Index<'_>) -> Vec<Result<u32, u64>> {
        index.records().map(|r| r.map(|r| r.uid.0).map_err(|d| d.offset)).collect()
    }

    fn with_uids(version: u32, last_uid: u32, uids: &[u32]) -> Vec<u8> {
        let header = Header { minor_version: version, last_uid, ..Header::default() };
        let records: Vec<Record> = uids.iter().map(|&uid| Record { uid: Uid(uid), ..Record::default() }).collect();
        emit_index(&header, &records).unwrap()
    }

    #[test]
    fn uids_that_cannot_be_are_damage_and_the_next_record_follows() {
        let found = |version, list: &[u32]| uids(&Index::parse(&with_uids(version, 9, list)).unwrap());
        let at = |n: u64| Err(160 + n * 112);
        assert_eq!(found(17, &[1, 0, 3]), [Ok(1), at(1), Ok(3)]);
        assert_eq!(found(17, &[1, 10, 9]), [Ok(1), at(1), Ok(9)]);
        assert_eq!(found(17, &[1, 3, 3, 2, 4]), [Ok(1), Ok(3), at(2), at(3), Ok(4)]);
        // Without CRCs the one that stands out is the damaged one.
        let at = |n: u64| Err(96 + n * 88);
        assert_eq!(found(10, &[1, 8, 3, 4]), [Ok(1), at(1), Ok(3), Ok(4)]);
        assert_eq!(found(10, &[4, 5, 1, 6]), [Ok(4), Ok(5), at(2), Ok(6)]);
        assert_eq!(found(10, &[9, 1, 2]), [at(0), Ok(1), Ok(2)]);
    }

    #[test]
    fn a_cyrus_expunge_is_in_no_order_and_goes_beyond_its_last_uid() {
        let bytes = with_uids(10, 5, &[5, 2, 9]);
        assert_eq!(uids(&Index::parse_expunge(&bytes).unwrap()), [Ok(5), Ok(2), Ok(9)]);
        let short = Index::parse_expunge(&bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(short.records().last().unwrap().unwrap_err().object, "cyrus.expunge");
        assert_eq!(Index::parse_expunge(b"").err().map(|d| d.object), Some("cyrus.expunge".into()));
    }

    #[test]
    fn identifiers_of_2_3_are_no_sha1() {
        let with = |guid: [u8; 20]| Record { guid: Guid(guid), ..Record::default() }.has_sha1_guid();
        assert!(!with([0; 20]));
        let mut uuid = [0; 20];
        uuid[..12].copy_from_slice(&[1, 7, 0, 0x3F, 0x5A, 0x11, 0x22, 0, 1, 0, 0, 9]);
        assert!(!with(uuid));
        // A SHA-1 may well begin like one of those.
        assert!(with([1; 20]));
        uuid[19] = 1;
        assert!(with(uuid));
    }

    #[test]
    fn a_mailbox_that_is_being_deleted() {
        assert!(!Header { options: !option::DELETED, ..Header::default() }.is_deleted());
        assert!(Header { options: option::DELETED, ..Header::default() }.is_deleted());
    }

    #[test]
    fn a_description_for_people() {
        let mut bytes = CONVERTED[9].0.to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let mut text = String::new();
        describe(&bytes, &mut text).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 34 + 5);
        assert_eq!(lines[0], "minor version: 17");
        assert!(lines.contains(&"options: 0x00000001 POP3_NEW_UIDL"));
        assert!(lines.contains(&"last append date: 1795456811 (2026-11-23 18:00:11Z)"));
        assert!(lines.contains(&"last POP3 login: none"));
        assert_eq!(
            lines[34 + 3],
            "record 4: uid 4, flags \\Deleted expunged, internaldate 1646398804 (2022-03-04 13:00:04Z), size 176, guid \
             985c3984c21a8c96b3cff6ee0d77b24a8e9343b0, modseq 89, created modseq 86, thread 09afe065c9738784, base thread \
             0000000000000000, header size 156, sent date 1646352000 (2022-03-04 00:00:00Z), date 1646380800 (2022-03-04 \
             08:00:00Z), save date 1795456811 (2026-11-23 18:00:11Z), last updated 1795456811 (2026-11-23 18:00:11Z), cache \
             version 11 offset 1792 crc b7ff9e58"
        );
        assert!(lines[34 + 4].starts_with("damaged: cyrus.index: record CRC at offset 716: found "), "{}", lines[38]);
        let mut text = String::new();
        describe(&bytes[..100], &mut text).unwrap();
        assert_eq!(text, "damaged: cyrus.index: end of file at offset 100: found 100 bytes, expected 160 bytes of a header\n");
        let mut text = String::new();
        write!(text, "{} {}", Named(0x1010, &flag::NAMES), Moment(Some(Time(1_500_000_000)))).unwrap();
        assert_eq!(text, " \\Seen 0x1000 1.500000000 (1970-01-01 00:00:01Z)");
    }
}
