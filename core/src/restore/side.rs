//! What other mail stores have no place for, as lines of JSON beside each folder: first the folder, then its messages.
//!
//! Names and values that are no UTF-8 are shown with replacement characters; in the form `cyrus` the metadata files beside it
//! have them as they were. What must not come in: the messages themselves.

use super::draft::Draft;
use super::export::{Format, Way};
use super::select::{Annotation, Folder, Message, Selection, UserData};
use crate::cyrus::names::Naming;
use crate::cyrus::quota::{Resource, Usage};
use crate::cyrus::utf7;
use crate::error::Error;
use crate::escape::shown;
use crate::stock::annotations::push_string;
use crate::time::{Civil, Time};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Writes the side file of a folder whose directory is `dir`.
pub async fn folder(
    draft: &mut Draft<'_>,
    selection: &Selection<'_>,
    folder: &Folder,
    dir: &str,
    format: Format,
) -> Result<(), Error> {
    let mut object = Object::new();
    object.text("folder", shown(&folder.name).as_bytes());
    object.text("name", utf7::decode(&folder.name).as_bytes());
    object.number("snapshot", selection.at.commit.number);
    object.text("snapshot_time", date(selection.at.commit.time).as_bytes());
    object.text("uniqueid", &folder.id);
    if let Some(index) = &folder.index {
        object.number("uidvalidity", index.uidvalidity);
        object.number("uidnext", u64::from(index.last_uid) + 1);
        object.number("highestmodseq", index.highestmodseq.unwrap_or(0));
    }
    object.text("type", &folder.entry.mbtype.letters());
    let rights = folder.acl().iter().map(|(id, rights)| {
        let mut right = Object::new();
        right.text("identifier", id);
        right.text("rights", rights);
        right.end()
    });
    object.raw("acl", &list(rights));
    if let Some(root) = folder.quota_root() {
        object.text("quota_root", root);
    }
    object.raw("annotations", &annotations(&folder.annotations));
    draft.write(object.line().as_bytes()).await?;
    for m in &folder.messages {
        draft.write(message(m, dir, format).line().as_bytes()).await?;
    }
    Ok(())
}

/// Writes what belongs to the user and to no folder.
pub async fn user(draft: &mut Draft<'_>, data: &UserData, naming: &Naming) -> Result<(), Error> {
    let text = |bytes: &[u8]| {
        let mut text = String::new();
        push_string(&mut text, bytes);
        text
    };
    let mut object = Object::new();
    object.raw("subscriptions", &list(data.subscriptions.iter().map(|name| text(&naming.internal(name)))));
    if let Some(active) = &data.active {
        object.text("active_script", active);
    }
    let quotas = data.quotas.iter().map(|(root, quota)| {
        let mut object = Object::new();
        object.text("root", root);
        for resource in Resource::ALL {
            let Usage { used, limit } = quota.of(resource);
            object.raw(&format!("{}_used", resource.key()), &used.to_string());
            if let Some(limit) = limit {
                object.raw(&format!("{}_limit", resource.key()), &limit.to_string());
            }
        }
        object.end()
    });
    object.raw("quota", &list(quotas));
    let seen = data.seen.iter().map(|seen| {
        let mut object = Object::new();
        object.text("uniqueid", &seen.uniqueid);
        object.number("lastuid", seen.lastuid);
        object.text("seen", &seen.sequence);
        object.end()
    });
    object.raw("seen", &list(seen));
    draft.write(object.line().as_bytes()).await
}

fn message(m: &Message, dir: &str, format: Format) -> Object {
    let record = &m.row.record;
    let mut object = Object::new();
    object.number("uid", m.uid());
    match Way::of(m, 0) {
        Some(way) => object.text("file", format.path(dir, &way).as_bytes()),
        None => object.text("missing", m.body.why_not().unwrap_or_default().as_bytes()),
    }
    if let Some((why, _)) = m.body.trouble(record.size) {
        object.text("damaged", why.as_bytes());
    }
    let flags = m.row.flags.iter().map(|flag| {
        let mut text = String::new();
        push_string(&mut text, flag);
        text
    });
    object.raw("flags", &list(flags));
    object.text("internaldate", date(record.internaldate).as_bytes());
    if let Some(savedate) = record.savedate {
        object.text("savedate", date(savedate).as_bytes());
    }
    object.number("size", record.size);
    object.text("guid", m.row.guid.to_hex().as_bytes());
    object.number("modseq", record.modseq.unwrap_or(0));
    object.number("createdmodseq", record.createdmodseq);
    object.text("thread", format!("{:016x}", record.cid).as_bytes());
    if m.row.is_expunged {
        object.raw("expunged", "true");
    }
    if !m.annotations.is_empty() {
        object.raw("annotations", &annotations(&m.annotations));
    }
    object
}

fn annotations(all: &[Annotation]) -> String {
    list(all.iter().map(|a| {
        let mut object = Object::new();
        object.text("entry", &a.entry);
        object.text("userid", &a.userid);
        object.text("value", &a.value);
        object.end()
    }))
}

/// RFC 3339 in UTC.
fn date(time: Time) -> String {
    Civil::from_time(time).to_string().replacen(' ', "T", 1)
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A JSON object under way.
pub(super) struct Object(String);

impl Object {
    pub(super) fn new() -> Object {
        Object(String::from("{"))
    }

    fn key(&mut self, key: &str) {
        if self.0.len() > 1 {
            self.0.push(',');
        }
        push_string(&mut self.0, key.as_bytes());
        self.0.push(':');
    }

    pub(super) fn text(&mut self, key: &str, text: &[u8]) {
        self.key(key);
        push_string(&mut self.0, text);
    }

    pub(super) fn number(&mut self, key: &str, number: impl Into<u64>) {
        self.raw(key, &number.into().to_string());
    }

    pub(super) fn raw(&mut self, key: &str, json: &str) {
        self.key(key);
        self.0.push_str(json);
    }

    pub(super) fn end(mut self) -> String {
        self.0.push('}');
        self.0
    }

    fn line(self) -> String {
        self.end() + "\n"
    }
}
