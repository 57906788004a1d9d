//! What has happened between the backup and the restore, and what the server that is restored into is like. What must not come
//! in: restoring.

use super::model::{Flags, INBOX, Limits, Mailbox, NOW, Server, USER};
use crate::choose::{Choose, Sampler};
use cylinder_core::guid::Guid;
use std::collections::BTreeSet;
use std::rc::Rc;

/// What was lost.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Loss {
    /// Nothing.
    Nothing,
    /// Messages were expunged.
    Messages,
    /// Messages were filed in another folder.
    Filed,
    /// Folders were deleted.
    Folders,
    /// The user was deleted.
    User,
    /// The user was deleted and made again.
    UserAgain,
}

/// The server as it is when something is restored into it.
pub fn after(origin: &Server, chance: &mut Sampler) -> (Loss, Server) {
    let mut server = origin.clone();
    let losses = [Loss::Nothing, Loss::Messages, Loss::Filed, Loss::Folders, Loss::User, Loss::UserAgain, Loss::UserAgain];
    let loss = losses[chance.upto(6) as usize];
    match loss {
        Loss::Nothing => {}
        Loss::Messages => expunge_some(&mut server, chance),
        Loss::Filed => file_some(&mut server, chance),
        Loss::Folders => delete_some(&mut server, chance),
        Loss::User | Loss::UserAgain => delete_user(&mut server, chance),
    }
    if loss == Loss::UserAgain {
        let (id, uidvalidity) = server.fresh();
        server.boxes.insert(String::from(INBOX), Mailbox::new(&id, uidvalidity));
    }
    if chance.upto(2) == 0 {
        deliver(&mut server, chance);
    }
    if chance.flip() {
        restrict(&mut server, chance);
    }
    server.traits.slash = chance.flip();
    if chance.upto(3) == 0 {
        const LESS: [&str; 10] = [
            "MOVE",
            "UIDPLUS",
            "MULTIAPPEND",
            "LITERAL+",
            "DIGEST=SHA1",
            "CONDSTORE",
            "CREATE-SPECIAL-USE",
            "METADATA",
            "ACL",
            "BINARY",
        ];
        server.traits.lacking = LESS.into_iter().filter(|_| chance.upto(4) == 0).collect();
    }
    (loss, server)
}

fn mail_names(server: &Server) -> Vec<String> {
    server.living().filter(|(_, mailbox)| mailbox.kind == b'e').map(|(name, _)| name.clone()).collect()
}

/// UIDs of some messages of a mailbox, now and then of all.
fn some(mailbox: &Mailbox, chance: &mut Sampler) -> BTreeSet<u32> {
    let all = chance.upto(3) == 0;
    mailbox.visible().map(|message| message.uid).filter(|_| all || chance.flip()).collect()
}

fn expunge_some(server: &mut Server, chance: &mut Sampler) {
    for name in mail_names(server) {
        if chance.upto(2) > 0 {
            let uids = some(&server.boxes[&name], chance);
            server.expunge(&name, &uids);
        }
    }
}

fn file_some(server: &mut Server, chance: &mut Sampler) {
    let names = mail_names(server);
    let to = format!("{INBOX}.Filed");
    let (id, uidvalidity) = server.fresh();
    server.boxes.entry(to.clone()).or_insert_with(|| Mailbox::new(&id, uidvalidity));
    for name in names {
        let uids = some(&server.boxes[&name], chance);
        // What is not allowed does not happen.
        let _ = server.copy(&name, &uids, &to, true);
    }
}

fn delete_some(server: &mut Server, chance: &mut Sampler) {
    let all: Vec<String> = server.living().map(|(name, _)| name.clone()).filter(|name| name != INBOX).collect();
    for name in all {
        if chance.upto(2) > 0 {
            remove(server, &name, chance);
        }
    }
}

fn remove(server: &mut Server, name: &str, chance: &mut Sampler) {
    if chance.flip() && name != INBOX {
        let _ = server.delete(name);
        return;
    }
    if let Some(mailbox) = server.boxes.remove(name) {
        server.forget(&mailbox);
    }
}

fn delete_user(server: &mut Server, chance: &mut Sampler) {
    let all: Vec<String> = server.living().map(|(name, _)| name.clone()).collect();
    let delayed = chance.flip();
    for (n, name) in all.iter().enumerate() {
        let Some(mailbox) = server.boxes.remove(name) else { continue };
        // What hangs on an INBOX that is only out of sight is there when it comes back.
        if delayed {
            server.boxes.insert(format!("DELETED.{name}.{:08X}", NOW as u32 - 100 - n as u32), mailbox);
        } else {
            server.files.remove(&mailbox.id);
        }
    }
    server.quotas.clear();
}

/// New mail comes, and flags of what is there change.
fn deliver(server: &mut Server, chance: &mut Sampler) {
    for name in mail_names(server) {
        let Some(mailbox) = server.boxes.get_mut(&name) else { continue };
        for n in 0..chance.upto(2) {
            let content = format!("From: b@example.org\r\nSubject: new {n} in {name}\r\n\r\nnew\r\n").into_bytes();
            let guid = Guid::of(&content);
            mailbox.put(Rc::new(content), guid, Flags::new(), NOW - 50);
        }
        if chance.upto(3) == 0 {
            for message in &mut mailbox.messages {
                mailbox.modseq += 1;
                message.flags.insert(b"\\Seen".to_vec());
                (message.modseq, message.updated) = (mailbox.modseq, NOW - 40);
            }
        }
    }
}

/// Gives the server limits.
fn restrict(server: &mut Server, chance: &mut Sampler) {
    if chance.upto(2) == 0 {
        server.traits.munge8bit = true;
    }
    if chance.upto(3) == 0 {
        server.traits.message_max = 1500;
    }
    for name in mail_names(server) {
        let most = server.traits.keywords_max - chance.upto(3) as usize;
        let Some(mailbox) = server.boxes.get_mut(&name) else { continue };
        if chance.upto(9) == 0 {
            for n in 0..most {
                mailbox.learn(format!("old{n}").as_bytes(), most);
            }
        }
        if chance.upto(9) == 0 {
            let rights = ["lrspi", "lrpi", "lrswi", "lrs", ""][chance.upto(4) as usize];
            mailbox.acl.insert(USER.to_owned(), rights.to_owned());
            mailbox.modseq += 1;
        }
    }
    if chance.upto(3) == 0 && server.boxes.contains_key(INBOX) {
        let (bytes, messages, folders) = server.used();
        let mut limit = |used: u64, more: u32| (chance.upto(2) == 0).then(|| used + u64::from(chance.upto(more)));
        let (storage, messages, folders) = (limit(bytes.div_ceil(1024), 3), limit(messages, 8), limit(folders, 3));
        server.quotas.insert(String::from(INBOX), Limits { storage, messages, folders });
    }
}
