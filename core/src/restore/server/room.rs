//! Room: whether the quotas leave enough of it, and more of it for the time of a restore: the limits of a mailbox's quota roots
//! are taken away and put back.
//!
//! Only an administrator can take them away, on a connection of its own. A command that is killed in between leaves the limits
//! lifted, so whoever calls this tells them first. What must not come in: messages.

use crate::error::Error;
use crate::escape::shown;
use crate::imap::client::{Client, QuotaRoot};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What is to come to the mailboxes of one quota root.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// Bytes of messages.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of annotations.
    pub annotations: u64,
}

impl Need {
    /// Adds another one.
    pub fn add(&mut self, other: Need) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.messages = self.messages.saturating_add(other.messages);
        self.folders = self.folders.saturating_add(other.folders);
        self.annotations = self.annotations.saturating_add(other.annotations);
    }

    /// What a quota root leaves too little of, for people.
    fn lacks(&self, root: &QuotaRoot) -> Option<String> {
        let of = shown(&root.name);
        let short = |names: &[&str], unit: u64, needed: u64, what: &str| {
            let room = root.room(names)?.saturating_mul(unit);
            (needed > room).then(|| format!("no room: {needed} {what}, the quota of {of} leaves {room}"))
        };
        short(&["STORAGE"], 1024, self.bytes, "bytes are to be restored")
            .or_else(|| short(&["MESSAGE"], 1, self.messages, "messages are to be restored"))
            .or_else(|| short(&["X-NUM-FOLDERS", "MAILBOX"], 1, self.folders, "folders are to be made"))
            .or_else(|| {
                let names = ["X-ANNOTATION-STORAGE", "ANNOTATION-STORAGE"];
                short(&names, 1024, self.annotations, "bytes of annotations are to be restored")
            })
    }
}

/// What lacks, if something does, where this is to come to these mailboxes or below them.
pub async fn lacks(client: &mut Client, needs: &BTreeMap<Vec<u8>, Need>) -> Result<Option<String>, Error> {
    let mut roots: BTreeMap<Vec<u8>, (QuotaRoot, Need)> = BTreeMap::new();
    for (mailbox, need) in needs {
        for root in client.quotas(mailbox).await?.unwrap_or_default() {
            roots.entry(root.name.clone()).or_insert((root, Need::default())).1.add(*need);
        }
    }
    Ok(roots.values().find_map(|(root, need)| need.lacks(root)))
}

/// Quota roots without limits, as they were.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lifted(Vec<QuotaRoot>);

impl Lifted {
    /// The limits as they were, in one line for people; empty if there were none.
    pub fn shown(&self) -> String {
        let limit = |root: &QuotaRoot| {
            let limits = root.limits.iter().map(|limit| format!("{} {}", shown(&limit.resource), limit.limit));
            format!("{} ({})", shown(&root.name), limits.collect::<Vec<_>>().join(" "))
        };
        self.0.iter().map(limit).collect::<Vec<_>>().join(", ")
    }
}

/// What limits a mailbox, by the name that it has for the administrator.
pub async fn limits(admin: &mut Client, mailbox: &[u8]) -> Result<Lifted, Error> {
    match admin.quotas(mailbox).await? {
        Ok(roots) => Ok(Lifted(roots.into_iter().filter(|root| !root.limits.is_empty()).collect())),
        Err(refusal) => Err(Error::Refused(format!("{}: its quota cannot be read: {refusal}", shown(mailbox)))),
    }
}

/// Takes the limits away.
pub async fn lift(admin: &mut Client, lifted: &Lifted) -> Result<(), Error> {
    for root in &lifted.0 {
        if let Err(refusal) = admin.set_quota(&root.name, &[]).await? {
            return Err(Error::Refused(format!("the quota of {} cannot be lifted: {refusal}", shown(&root.name))));
        }
    }
    Ok(())
}

/// Puts them back.
pub async fn put_back(admin: &mut Client, lifted: &Lifted) -> Result<(), Error> {
    for root in &lifted.0 {
        if let Err(refusal) = admin.set_quota(&root.name, &root.limits).await? {
            return Err(Error::Refused(format!("the quota {} cannot be put back: {refusal}", lifted.shown())));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::client::Limit;

    #[test]
    fn every_resource_that_a_quota_limits_is_compared() {
        let why = |resource: &str, limit, need: Need| {
            let limits = Vec::from([Limit { resource: resource.as_bytes().to_vec(), used: 3, limit }]);
            need.lacks(&QuotaRoot { name: b"INBOX".to_vec(), limits }).unwrap_or_default()
        };
        let need = Need { bytes: 4096, messages: 5, folders: 2, annotations: 1025 };
        for (resource, enough) in
            [("storage", 7), ("MESSAGE", 8), ("X-NUM-FOLDERS", 5), ("MAILBOX", 5), ("ANNOTATION-STORAGE", 5), ("OTHER", 0)]
        {
            assert_eq!(why(resource, enough, need), "", "{resource}");
        }
        assert_eq!(why("STORAGE", 6, need), "no room: 4096 bytes are to be restored, the quota of INBOX leaves 3072");
        assert_eq!(why("MESSAGE", 7, need), "no room: 5 messages are to be restored, the quota of INBOX leaves 4");
        assert_eq!(why("mailbox", 4, need), "no room: 2 folders are to be made, the quota of INBOX leaves 1");
        assert!(why("X-ANNOTATION-STORAGE", 4, need).contains("1025 bytes of annotations"));
    }
}
