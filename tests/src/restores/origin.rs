//! The server that is backed up: a model written to a simulated disk as Cyrus 3.6 lays it out, by the core's own emitters, and
//! backed up from there. What must not come in: restoring.

use super::model::{Limits, Mailbox, Message, Server, USER};
use crate::disk::SimDisk;
use crate::drive::drive;
use crate::host::CONF;
use crate::story;
use cylinder_core::backup::{self, Settings};
use cylinder_core::cyrus::annotations::{OWNER_TOKEN, emit_key, emit_value};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::db::{flat, twoskip};
use cylinder_core::cyrus::header::{self, Form};
use cylinder_core::cyrus::index::{self, Record, Uid, flag, internal};
use cylinder_core::cyrus::mailboxes::{self, Acl, MbEntry, MbType};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::cyrus::quota::{Quota, Resource, emit as emit_quota};
use cylinder_core::error::Error;
use cylinder_core::io::{Io, Place};
use cylinder_core::pull::Origin;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::store::archive_dir;
use cylinder_core::time::{Span, Time};

/// Whose mail it is.
pub fn owner() -> Owner {
    Owner::User(USER.as_bytes().to_vec())
}

/// A store with an archive of everything that the user has on this server.
pub fn store(server: &Server) -> Result<SimDisk, String> {
    let mut disk = SimDisk::new();
    disk.set_silent(true);
    disk.wait_until(disk.now().plus(Span::from_ms(123)));
    publish(server, &mut disk);
    disk.wait_until(disk.now().plus(Span::from_secs(5)));
    let settings = Settings {
        archive: story::settings(),
        source: String::from("test"),
        adopt: false,
        archive_id: *b"sixteen bytes id",
        read_rate: 0,
    };
    let procedure = |io: Io| async move {
        let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
        let mut site = Site::open(&io, conf, None, Locking::AsServer, Patience::default()).await?;
        backup::run(&io, &mut Origin::Local(&mut site), &owner(), &archive_dir(&owner())?, &settings).await
    };
    let report: Result<_, Error> = drive(&mut disk, procedure).finished();
    report.map_err(|error| format!("the backup: {error}"))?;
    Ok(disk)
}

fn publish(server: &Server, disk: &mut SimDisk) {
    disk.put_file(&Place::host("/etc/imapd.conf"), CONF);
    let (mut entries, mut notes) = (Vec::new(), Vec::new());
    for (name, mailbox) in &server.boxes {
        let dir = Place::host(format!("/var/spool/cyrus/{}", hashed(&mailbox.id)));
        disk.put_file(&dir.join(b"cyrus.index"), index_of(mailbox));
        disk.put_file(&dir.join(b"cyrus.header"), header_of(name, mailbox, server));
        for message in mailbox.messages.iter().filter(|message| message.has_file) {
            disk.put_image(&dir.join(format!("{}.", message.uid).as_bytes()), message.content.clone());
        }
        entries.push(([b"N", &dbname(name)[..]].concat(), entry_of(mailbox)));
        for ((entry, user), value) in &mailbox.notes {
            let user = if user == USER { OWNER_TOKEN } else { user.as_bytes() };
            notes.push((emit_key(mailbox.id.as_bytes(), entry.as_bytes(), user), emit_value(value)));
        }
    }
    entries.sort();
    notes.sort();
    disk.put_file(&Place::host("/var/lib/cyrus/mailboxes.db"), twoskip::emit(&entries, 1));
    disk.put_file(&Place::host("/var/lib/cyrus/annotations.db"), twoskip::emit(&notes, 1));
    for (root, limits) in &server.quotas {
        let mut text = Vec::new();
        emit_quota(&quota(limits), &mut text);
        text.push(b'\n');
        disk.put_file(&Place::host(format!("/var/lib/cyrus/quota/a/{root}")), text);
    }
    for (id, files) in &server.files {
        let mut subscribed: Vec<_> =
            files.subscribed.iter().map(|name| ([b"N", &sub_name(name)[..]].concat(), Vec::new())).collect();
        subscribed.push((b"\x1fVER\x1f".to_vec(), b"2".to_vec()));
        subscribed.sort();
        disk.put_file(&Place::host(format!("/var/lib/cyrus/user/{}/sub.db", hashed(id))), flat::emit(&subscribed));
    }
}

fn hashed(id: &str) -> String {
    format!("uuid/{}/{}/{id}", &id[..1], &id[1..2])
}

/// The name as mailboxes.db of 3.6 has it.
fn dbname(name: &str) -> Vec<u8> {
    name.replace('.', "\x1f").replace('^', ".").into_bytes()
}

fn sub_name(name: &str) -> Vec<u8> {
    let own = name.strip_prefix(super::model::INBOX).map(|rest| format!("INBOX{rest}"));
    dbname(&own.unwrap_or_else(|| name.to_owned()))
}

fn quota(limits: &Limits) -> Quota {
    let mut quota = Quota::default();
    let of = [(Resource::Storage, limits.storage), (Resource::Messages, limits.messages), (Resource::Folders, limits.folders)];
    for (resource, limit) in of {
        quota.usage[resource as usize].limit = limit.and_then(|limit| i64::try_from(limit).ok());
    }
    quota
}

fn acl_of(mailbox: &Mailbox) -> Acl {
    mailbox.acl.iter().map(|(who, rights)| (who.clone().into_bytes(), rights.clone().into_bytes())).collect()
}

fn type_of(mailbox: &Mailbox) -> MbType {
    MbType::from_letters(&[mailbox.kind])
}

fn entry_of(mailbox: &Mailbox) -> Vec<u8> {
    let entry = MbEntry {
        uniqueid: Some(mailbox.id.clone().into_bytes()),
        partition: Some(b"default".to_vec()),
        acl: Some(acl_of(mailbox)),
        uidvalidity: mailbox.uidvalidity,
        foldermodseq: 1,
        createdmodseq: 1,
        mtime: 1_700_000_000,
        mbtype: type_of(mailbox),
        ..MbEntry::default()
    };
    let mut value = Vec::new();
    mailboxes::emit(&entry, VersionLine::V3_6, &mut value);
    value
}

fn header_of(name: &str, mailbox: &Mailbox, server: &Server) -> Vec<u8> {
    let is_over = |root: &&String| name == root.as_str() || name.starts_with(&format!("{root}."));
    let header = header::Header {
        uniqueid: mailbox.id.clone().into_bytes(),
        quotaroot: server.quotas.keys().find(is_over).map(|root| root.clone().into_bytes()),
        user_flags: mailbox.keywords.iter().cloned().map(Some).collect(),
        acl: acl_of(mailbox),
        name: Some(name.as_bytes().to_vec()),
        mbtype: Some(type_of(mailbox)),
        form: Form::Dlist,
        ..header::Header::default()
    };
    header.emit().expect("a header")
}

fn index_of(mailbox: &Mailbox) -> Vec<u8> {
    let records: Vec<Record> = mailbox.messages.iter().map(|message| record_of(mailbox, message)).collect();
    let header = index::Header {
        minor_version: 17,
        last_uid: mailbox.last_uid,
        uidvalidity: mailbox.uidvalidity,
        exists: mailbox.visible().count() as u32,
        highestmodseq: Some(mailbox.modseq),
        deletedmodseq: Some(0),
        createdmodseq: Some(1),
        sync_crc: mailbox.sync_crc(),
        ..index::Header::default()
    };
    index::emit_index(&header, &records).expect("values that the version has room for")
}

fn record_of(mailbox: &Mailbox, message: &Message) -> Record {
    let mut user_flags = [0_u32; 4];
    for keyword in message.flags.iter().filter(|flag| !flag.starts_with(b"\\")) {
        let at =
            mailbox.keywords.iter().position(|known| known.eq_ignore_ascii_case(keyword)).expect("a keyword that is known");
        user_flags[at / 32] |= 1 << (at % 32);
    }
    let system = flag::NAMES.iter().filter(|(_, name)| message.flags.contains(name.as_bytes()));
    Record {
        uid: Uid(message.uid),
        internaldate: Time::from_secs(message.date),
        last_updated: Time::from_secs(message.updated),
        size: message.content.len() as u64,
        guid: message.guid,
        modseq: Some(message.modseq),
        system_flags: system.fold(0, |bits, (bit, _)| bits | bit),
        user_flags,
        internal_flags: if message.expunged { internal::EXPUNGED } else { 0 }
            | if message.has_file { 0 } else { internal::UNLINKED },
        ..Record::default()
    }
}
