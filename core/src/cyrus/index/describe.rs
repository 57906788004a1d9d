//! What `cylinder inspect` shows of an index.

use super::{Header, Index, Record, USER_FLAGS_MAX, flag, internal, option};
use crate::bytes::hex;
use crate::time::{Civil, Time};
use alloc::format;
use alloc::string::String;
use core::fmt;

/// Writes what an index says, a line for each field of the header and for each record, for people.
///
/// Damaged records have a line in their place; a damaged header is all that is written.
pub fn describe(bytes: &[u8], out: &mut dyn fmt::Write) -> fmt::Result {
    match Index::parse(bytes) {
        Ok(index) => describe_index(&index, out),
        Err(damage) => writeln!(out, "damaged: {damage}"),
    }
}

/// The same for an index that has been taken already, which may be a cyrus.expunge.
pub fn describe_index(index: &Index<'_>, out: &mut dyn fmt::Write) -> fmt::Result {
    describe_header(index.header(), out)?;
    for (n, record) in index.records().enumerate() {
        match record {
            Ok(record) => describe_record(n + 1, &record, out)?,
            Err(damage) => writeln!(out, "damaged: {damage}")?,
        }
    }
    Ok(())
}

fn describe_header(h: &Header, out: &mut dyn fmt::Write) -> fmt::Result {
    let modseqs = |n: Option<u64>| n.map_or(String::from("none"), |n| format!("{n}"));
    writeln!(out, "minor version: {}", h.minor_version)?;
    writeln!(out, "generation: {}", h.generation_no)?;
    writeln!(out, "format: {}", h.format)?;
    writeln!(out, "header size: {}", h.start_offset)?;
    writeln!(out, "record size: {}", h.record_size)?;
    writeln!(out, "records: {}", h.num_records)?;
    writeln!(out, "exists: {}", h.exists)?;
    writeln!(out, "uidvalidity: {}", h.uidvalidity)?;
    writeln!(out, "last uid: {}", h.last_uid)?;
    writeln!(out, "highestmodseq: {}", modseqs(h.highestmodseq))?;
    writeln!(out, "deletedmodseq: {}", modseqs(h.deletedmodseq))?;
    writeln!(out, "createdmodseq: {}", modseqs(h.createdmodseq))?;
    writeln!(out, "options: 0x{:08x}{}", h.options, Named(h.options, &option::NAMES))?;
    writeln!(out, "answered: {}", h.answered)?;
    writeln!(out, "flagged: {}", h.flagged)?;
    writeln!(out, "deleted: {}", h.deleted)?;
    writeln!(out, "unseen: {}", h.unseen)?;
    writeln!(out, "mailbox size: {} bytes", h.quota_mailbox_used)?;
    writeln!(out, "annotations size: {} bytes", h.quota_annot_used)?;
    writeln!(out, "deleted size: {} bytes", h.quota_deleted_used)?;
    writeln!(out, "expunged size: {} bytes", h.quota_expunged_used)?;
    writeln!(out, "leaked cache records: {}", h.leaked_cache_records)?;
    writeln!(out, "last append date: {}", Moment(h.last_appenddate))?;
    writeln!(out, "last repack time: {}", Moment(h.last_repack_time))?;
    writeln!(out, "first expunged: {}", Moment(h.first_expunged))?;
    writeln!(out, "changes epoch: {}", Moment(h.changes_epoch))?;
    writeln!(out, "recent uid: {}", h.recentuid)?;
    writeln!(out, "recent time: {}", Moment(h.recenttime))?;
    writeln!(out, "last POP3 login: {}", Moment(h.pop3_last_login))?;
    writeln!(out, "POP3 show after: {}", Moment(h.pop3_show_after))?;
    writeln!(out, "CRC of cyrus.header: {:08x}", h.header_file_crc)?;
    writeln!(out, "sync CRC: {}", h.sync_crc)?;
    writeln!(out, "sync CRC of annotations: {}", h.sync_crc_annot)?;
    match h.header_crc {
        Some(crc) => writeln!(out, "header CRC: {crc:08x}"),
        None => writeln!(out, "header CRC: none in this version"),
    }
}

fn describe_record(number: usize, r: &Record, out: &mut dyn fmt::Write) -> fmt::Result {
    write!(out, "record {number}: uid {}, flags", r.uid)?;
    let named = Named(r.system_flags, &flag::NAMES);
    write!(out, "{named}{}", Named(r.internal_flags, &internal::NAMES))?;
    for n in (0..USER_FLAGS_MAX).filter(|&n| r.user_flag(n)) {
        write!(out, " user-{n}")?;
    }
    write!(out, ", internaldate {}, size {}, guid {}", Moment(Some(r.internaldate)), r.size, r.guid)?;
    write!(out, ", modseq {}, created modseq {}", r.modseq.unwrap_or(0), r.createdmodseq)?;
    write!(out, ", thread {:016x}, base thread {:016x}", r.cid, r.basecid)?;
    write!(out, ", header size {}, sent date {}", r.header_size, Moment(Some(r.sentdate)))?;
    write!(out, ", date {}, save date {}", Moment(r.gmtime), Moment(r.savedate))?;
    write!(out, ", last updated {}", Moment(Some(r.last_updated)))?;
    write!(out, ", cache version {} offset {} crc {:08x}", r.cache_version, r.cache_offset, r.cache_crc)?;
    if (r.content_offset, r.content_lines, r.uuid) != (0, 0, [0; 12]) {
        write!(out, ", body offset {} lines {}, uuid {}", r.content_offset, r.content_lines, hex(&r.uuid))?;
    }
    writeln!(out)
}

/// Bits by name, each with a blank before it; those without a name together in hexadecimal digits.
pub(super) struct Named(pub u32, pub &'static [(u32, &'static str)]);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for (bit, name) in self.1 {
            if rest & bit != 0 {
                write!(f, " {name}")?;
                rest &= !bit;
            }
        }
        if rest != 0 { write!(f, " 0x{rest:x}") } else { Ok(()) }
    }
}

/// Seconds since 1970, the part of a second if there is one, and the date; `none` for no time.
pub(super) struct Moment(pub Option<Time>);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("none"),
            Some(t) if t.subsec_ns() == 0 => write!(f, "{} ({})", t.secs(), Civil::from_time(t)),
            Some(t) => write!(f, "{t} ({})", Civil::from_time(t)),
        }
    }
}
