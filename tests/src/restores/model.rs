//! A user's mailboxes in memory, and what a Cyrus server does with them: one model for the server that was backed up and for
//! the one that is restored into.
//!
//! What is modelled was seen on cyrus-imapd 3.6.1, with the words of its refusals: rights that take flags away without a word,
//! keywords that a message loses when it is moved and there is no place for more, ten identical messages in a folder, header
//! fields that are changed on APPEND, INTERNALDATE 0, quotas of all kinds, parents that CREATE makes, and what belongs to a
//! user and hangs on the uniqueid of INBOX. What must not come in: the wire, and the code that is tested.

use cylinder_core::crc32::crc32;
use cylinder_core::guid::Guid;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

/// The user.
pub const USER: &str = "anna";
/// The user's INBOX, by its internal name.
pub const INBOX: &str = "user.anna";
/// The letter of mailboxes of scripts.
pub const SCRIPTS: u8 = b'f';
/// All rights, as the owner has them in a mailbox that is made.
pub const ALL_RIGHTS: &str = "lrswipkxtecdan";
/// Rights that an owner has in any case.
const OWNERS: &str = "lkxcan";
/// What the server's clock says, in seconds.
pub const NOW: i64 = 1_796_000_000;

/// Flags and keywords.
pub type Flags = BTreeSet<Vec<u8>>;

/// A message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// UID.
    pub uid: u32,
    /// Content.
    pub content: Rc<Vec<u8>>,
    /// Its SHA-1.
    pub guid: Guid,
    /// Flags and keywords.
    pub flags: Flags,
    /// INTERNALDATE in seconds.
    pub date: i64,
    /// MODSEQ.
    pub modseq: u64,
    /// When the record changed last, in seconds.
    pub updated: i64,
    /// Not visible any more.
    pub expunged: bool,
    /// The file is there.
    pub has_file: bool,
}

/// A mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mailbox {
    /// uniqueid.
    pub id: String,
    /// UIDVALIDITY.
    pub uidvalidity: u32,
    /// The greatest UID ever given.
    pub last_uid: u32,
    /// HIGHESTMODSEQ.
    pub modseq: u64,
    /// Messages by ascending UID, expunged ones among them.
    pub messages: Vec<Message>,
    /// Names of keywords, each for ever.
    pub keywords: Vec<Vec<u8>>,
    /// Who may do what.
    pub acl: BTreeMap<String, String>,
    /// The letter of its kind: `e` is mail, `f` scripts, `c` events, `a` contacts.
    pub kind: u8,
    /// Annotations by entry and user, who is nobody for a shared one.
    pub notes: BTreeMap<(String, String), Vec<u8>>,
}

impl Mailbox {
    /// An empty one that belongs to the user.
    pub fn new(id: &str, uidvalidity: u32) -> Mailbox {
        Mailbox {
            id: id.to_owned(),
            uidvalidity,
            last_uid: 0,
            modseq: 1,
            messages: Vec::new(),
            keywords: Vec::new(),
            acl: BTreeMap::from([(USER.to_owned(), ALL_RIGHTS.to_owned())]),
            kind: b'e',
            notes: BTreeMap::new(),
        }
    }

    /// What can be seen.
    pub fn visible(&self) -> impl Iterator<Item = &Message> {
        self.messages.iter().filter(|message| !message.expunged)
    }

    /// Adds a message as it is, with the next UID.
    pub fn put(&mut self, content: Rc<Vec<u8>>, guid: Guid, flags: Flags, date: i64) -> u32 {
        self.last_uid += 1;
        self.modseq += 1;
        for flag in flags.iter().filter(|flag| !flag.starts_with(b"\\")) {
            self.learn(flag, usize::MAX);
        }
        let (uid, modseq) = (self.last_uid, self.modseq);
        self.messages.push(Message {
            uid,
            content,
            guid,
            flags,
            date,
            modseq,
            updated: NOW - 1000,
            expunged: false,
            has_file: true,
        });
        uid
    }

    /// Takes a keyword into the list of names; false if there is no place for it.
    pub fn learn(&mut self, keyword: &[u8], most: usize) -> bool {
        let is_known = self.keywords.iter().any(|known| known.eq_ignore_ascii_case(keyword));
        if !is_known && self.keywords.len() < most {
            self.keywords.push(keyword.to_vec());
            return true;
        }
        is_known
    }

    /// How often each message can be seen.
    pub fn counts(&self) -> BTreeMap<Guid, usize> {
        let mut counts = BTreeMap::new();
        self.visible().for_each(|message| *counts.entry(message.guid).or_default() += 1);
        counts
    }

    /// The checksum that replication compares (`imap/mailbox.c: crc_basic`).
    pub fn sync_crc(&self) -> u32 {
        let of = |message: &Message| {
            let flags = message.flags.iter().fold(0, |sum, flag| sum ^ crc32(&flag.to_ascii_lowercase()));
            let Message { uid, modseq, updated, date, guid, .. } = message;
            crc32(format!("{uid} {modseq} {updated} ({flags}) {date} {guid}").as_bytes())
        };
        self.visible().fold(0, |sum, message| sum ^ of(message))
    }
}

/// What belongs to a user and hangs on the uniqueid of INBOX.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UserFiles {
    /// Scripts that ManageSieve lists: SHA-1s of their texts, by name.
    pub scripts: BTreeMap<String, Guid>,
    /// The name of the script that filters.
    pub active: Option<String>,
    /// Events and contacts that CalDAV and CardDAV show, by uniqueid of their mailbox and UID.
    pub dav: BTreeSet<(String, u32)>,
    /// Subscriptions, by internal name.
    pub subscribed: BTreeSet<String>,
    /// Seen states, by uniqueid.
    pub seen: BTreeMap<String, String>,
}

/// Limits of a quota root.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// KiB.
    pub storage: Option<u64>,
    /// Messages.
    pub messages: Option<u64>,
    /// Folders.
    pub folders: Option<u64>,
}

/// What makes one server another than the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traits {
    /// Bytes of 8 bits in a header become `X`.
    pub munge8bit: bool,
    /// Keywords of one mailbox.
    pub keywords_max: usize,
    /// Bytes of one message.
    pub message_max: u64,
    /// Identical messages in one mailbox.
    pub twins_max: usize,
    /// `/` and no prefix, or `.` and `INBOX.`.
    pub slash: bool,
    /// What is not announced of what is usual.
    pub lacking: Vec<&'static str>,
}

impl Default for Traits {
    fn default() -> Traits {
        Traits {
            munge8bit: false,
            keywords_max: 100,
            message_max: u64::from(u32::MAX),
            twins_max: 10,
            slash: true,
            lacking: Vec::new(),
        }
    }
}

/// A message that comes.
#[derive(Clone, Debug)]
pub struct New {
    /// Flags, as they were given.
    pub flags: Vec<Vec<u8>>,
    /// INTERNALDATE, if one was given.
    pub date: Option<i64>,
    /// Content.
    pub content: Vec<u8>,
    /// It came as what may hold any byte.
    pub is_binary: bool,
}

/// A refusal, in the server's words.
pub type Refusal = &'static str;

/// A server, as far as it has to do with one user.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Server {
    /// Mailboxes by internal name, deleted ones among them.
    pub boxes: BTreeMap<String, Mailbox>,
    /// What hangs on an INBOX, by its uniqueid.
    pub files: BTreeMap<String, UserFiles>,
    /// Names that the server still believes to have these uniqueids, as 3.6.1 does of what was under delayed delete.
    pub stale: BTreeMap<String, String>,
    /// Quota roots by internal name.
    pub quotas: BTreeMap<String, Limits>,
    /// What it is like.
    pub traits: Traits,
    /// Names given so far.
    pub given: u32,
}

impl Server {
    /// True for the name of a mailbox that the user has and that is not deleted.
    pub fn is_living(name: &str) -> bool {
        name == INBOX || name.strip_prefix(INBOX).is_some_and(|rest| rest.starts_with('.'))
    }

    /// The living mailboxes.
    pub fn living(&self) -> impl Iterator<Item = (&String, &Mailbox)> {
        self.boxes.iter().filter(|(name, _)| Server::is_living(name))
    }

    /// What hangs on the INBOX that there is; on none if there is none.
    pub fn user_files(&self) -> UserFiles {
        self.files.get(&self.home()).cloned().unwrap_or_default()
    }

    /// The same, to be changed.
    pub fn files_mut(&mut self) -> &mut UserFiles {
        let home = self.home();
        self.files.entry(home).or_default()
    }

    /// Takes what a mailbox had out of the databases of the user: it is gone.
    pub fn forget(&mut self, mailbox: &Mailbox) {
        for files in self.files.values_mut() {
            files.dav.retain(|(id, _)| *id != mailbox.id);
            if mailbox.kind == SCRIPTS {
                (files.scripts, files.active) = (BTreeMap::new(), None);
            }
        }
    }

    /// Stores a script, as ManageSieve does it: as a message of a mailbox, which is made if need be.
    pub fn put_script(&mut self, name: &str, text: &[u8]) {
        self.take_script(name);
        let mailbox = format!("{INBOX}.#sieve");
        if !self.boxes.contains_key(&mailbox) {
            let (id, uidvalidity) = self.fresh();
            let made = Mailbox { kind: SCRIPTS, ..Mailbox::new(&id, uidvalidity) };
            self.boxes.insert(mailbox.clone(), made);
        }
        let content = script_message(name, text);
        let guid = Guid::of(&content);
        if let Some(mailbox) = self.boxes.get_mut(&mailbox) {
            mailbox.put(Rc::new(content), guid, Flags::new(), NOW);
        }
        self.files_mut().scripts.insert(name.to_owned(), Guid::of(text));
    }

    /// Removes a script.
    pub fn take_script(&mut self, name: &str) {
        let mailbox = format!("{INBOX}.#sieve");
        let is_named = |message: &&Message| script_of(&message.content).is_some_and(|(other, _)| other == name);
        let uids = self.boxes.get(&mailbox).map(|mailbox| mailbox.visible().filter(is_named).map(|m| m.uid).collect());
        self.expunge(&mailbox, &uids.unwrap_or_default());
        self.files_mut().scripts.remove(name);
    }

    fn home(&self) -> String {
        self.boxes.get(INBOX).map(|inbox| inbox.id.clone()).unwrap_or_default()
    }

    /// Everything that there is, for people.
    pub fn lines(&self, heading: &str) -> Vec<String> {
        let mut lines = vec![format!("-- {heading}: {:?} {:?}", self.traits, self.quotas)];
        for (name, mailbox) in &self.boxes {
            let Mailbox { id, uidvalidity, last_uid, modseq, keywords, acl, kind, notes, .. } = mailbox;
            let (kind, keywords) = (char::from(*kind), keywords.len());
            let notes: Vec<String> =
                notes.iter().map(|((entry, _), value)| format!("{entry}={}", value.escape_ascii())).collect();
            lines.push(format!("{name} {kind} {} {uidvalidity} {last_uid} {modseq} {keywords} {acl:?} {notes:?}", &id[..6]));
            lines.extend(mailbox.messages.iter().map(|message| format!("  {}", shown(message))));
        }
        lines
    }

    /// A uniqueid and a UIDVALIDITY that nothing has.
    pub fn fresh(&mut self) -> (String, u32) {
        self.given += 1;
        (Guid::of(format!("fresh {}", self.given).as_bytes()).to_hex()[..24].to_owned(), NOW as u32 + self.given)
    }

    /// The rights of the user in a mailbox.
    pub fn rights(&self, name: &str) -> String {
        let given = self.boxes.get(name).and_then(|mailbox| mailbox.acl.get(USER)).map_or("", String::as_str);
        let more = OWNERS.chars().filter(|right| !given.contains(*right));
        given.chars().chain(more).collect()
    }

    fn may(&self, name: &str, right: char) -> bool {
        self.rights(name).contains(right)
    }

    /// The flags of these that the user may set in a mailbox.
    pub fn allowed(&self, name: &str, flags: &Flags) -> Flags {
        let rights = self.rights(name);
        let may = |flag: &Vec<u8>| {
            let right = match &flag.to_ascii_lowercase()[..] {
                b"\\seen" => 's',
                b"\\deleted" => 't',
                _ => 'w',
            };
            rights.contains(right)
        };
        flags.iter().filter(|flag| may(flag)).cloned().collect()
    }

    /// Makes a mailbox and the parents that it lacks.
    pub fn create(&mut self, name: &str, uses: Option<&str>) -> Result<(), Refusal> {
        if !is_allowed_name(name) {
            return Err("Invalid mailbox name");
        }
        if let Some(uses) = uses {
            self.check_uses(name, uses)?;
        }
        if self.boxes.contains_key(name) {
            return Err("Mailbox already exists");
        }
        if !self.boxes.contains_key(INBOX) {
            return Err("Permission denied");
        }
        let mut wanted: Vec<&str> = name.match_indices('.').map(|(at, _)| &name[..at]).skip(1).collect();
        wanted.push(name);
        wanted.retain(|name| !self.boxes.contains_key(*name));
        if self.quota_of(INBOX).folders.is_some_and(|most| (self.living().count() + wanted.len()) as u64 > most) {
            return Err("Over quota");
        }
        for made in wanted {
            let (id, uidvalidity) = self.fresh();
            let mut mailbox = Mailbox::new(&id, uidvalidity);
            let parent = made.rsplit_once('.').and_then(|(parent, _)| self.boxes.get(parent));
            mailbox.acl = parent.map_or(mailbox.acl, |parent| parent.acl.clone());
            if let Some(uses) = uses.filter(|_| made == name) {
                mailbox.notes.insert(("/specialuse".to_owned(), USER.to_owned()), uses.as_bytes().to_vec());
            }
            self.boxes.insert(made.to_owned(), mailbox);
        }
        Ok(())
    }

    /// What `uses` names is known, and no other mailbox has it.
    pub fn check_uses(&self, name: &str, uses: &str) -> Result<(), Refusal> {
        const KNOWN: [&str; 8] =
            ["\\Archive", "\\Drafts", "\\Important", "\\Junk", "\\Sent", "\\Trash", "\\Snoozed", "\\Scheduled"];
        for word in uses.split(' ') {
            if !KNOWN.contains(&word) {
                return Err("[USEATTR] Invalid annotation entry");
            }
            let has = |mailbox: &Mailbox| uses_of(mailbox).split(' ').any(|other| other == word);
            if self.living().any(|(other, mailbox)| other != name && has(mailbox)) {
                return Err("[USEATTR] SPECIAL-USE flag conflict");
            }
        }
        Ok(())
    }

    /// Deletes a mailbox, which is kept under another name.
    pub fn delete(&mut self, name: &str) -> Result<(), Refusal> {
        if name == INBOX {
            return Err("Operation is not supported on mailbox");
        }
        let mailbox = self.boxes.remove(name).ok_or("Mailbox does not exist")?;
        self.forget(&mailbox);
        self.given += 1;
        self.boxes.insert(format!("DELETED.{name}.{:08X}", NOW as u32 + self.given), mailbox);
        Ok(())
    }

    /// The limits that count for a mailbox: those of the nearest root above.
    pub fn quota_of(&self, name: &str) -> Limits {
        let is_over =
            |root: &&String| name == root.as_str() || name.strip_prefix(&root[..]).is_some_and(|r| r.starts_with('.'));
        let root = self.quotas.keys().filter(is_over).max_by_key(|root| root.len());
        root.map(|root| self.quotas[root]).unwrap_or_default()
    }

    /// Bytes, messages and folders of the user.
    pub fn used(&self) -> (u64, u64, u64) {
        let all = || self.living().flat_map(|(_, mailbox)| mailbox.visible());
        (all().map(|m| m.content.len() as u64).sum(), all().count() as u64, self.living().count() as u64)
    }

    fn has_room(&self, name: &str, bytes: u64, messages: u64) -> bool {
        let (limits, (used, count, _)) = (self.quota_of(name), self.used());
        limits.storage.is_none_or(|most| used + bytes <= most * 1024)
            && limits.messages.is_none_or(|most| count + messages <= most)
    }

    /// Adds messages, all of them or none.
    pub fn append(&mut self, name: &str, new: &[New]) -> Result<(u32, Vec<u32>), Refusal> {
        if !self.boxes.contains_key(name) {
            return Err("[TRYCREATE] Mailbox does not exist");
        }
        if !self.may(name, 'i') {
            return Err("Permission denied");
        }
        let most = self.traits.keywords_max;
        let (mut ready, mut counts) = (Vec::new(), self.boxes[name].counts());
        for new in new {
            check(new)?;
            let content = if self.traits.munge8bit { munged(&new.content) } else { new.content.clone() };
            let guid = Guid::of(&content);
            let mailbox = self.boxes.get_mut(name).ok_or("Mailbox does not exist")?;
            // What was learned stays, also if the message does not come.
            if !new.flags.iter().filter(|flag| !flag.starts_with(b"\\")).all(|flag| mailbox.learn(flag, most)) {
                return Err("Too many user flags in mailbox");
            }
            let count = counts.entry(guid).or_default();
            *count += 1;
            if *count > self.traits.twins_max {
                return Err("Too many identical emails");
            }
            let flags = self.allowed(name, &new.flags.iter().cloned().collect());
            let date = new.date.filter(|date| *date != 0).unwrap_or(NOW);
            ready.push((content, guid, flags, date));
        }
        let bytes = ready.iter().map(|(content, ..)| content.len() as u64).sum();
        if !self.has_room(name, bytes, ready.len() as u64) {
            return Err("Over quota");
        }
        let mailbox = self.boxes.get_mut(name).ok_or("Mailbox does not exist")?;
        let put = |(content, guid, flags, date)| mailbox.put(Rc::new(content), guid, flags, date);
        let uids = ready.into_iter().map(put).collect();
        Ok((mailbox.uidvalidity, uids))
    }

    /// Copies messages that can be seen into another mailbox, and takes them out of the first if they are moved. Gives the
    /// UIDs before and after.
    pub fn copy(&mut self, from: &str, uids: &BTreeSet<u32>, to: &str, and_remove: bool) -> Result<Vec<(u32, u32)>, Refusal> {
        if !self.boxes.contains_key(to) {
            return Err("[TRYCREATE] Mailbox does not exist");
        }
        if !self.may(to, 'i') || (and_remove && !(self.may(from, 't') && self.may(from, 'e'))) {
            return Err("Permission denied");
        }
        let source = self.boxes.get(from).ok_or("Mailbox does not exist")?;
        let chosen: Vec<Message> = source.visible().filter(|message| uids.contains(&message.uid)).cloned().collect();
        let mut counts = self.boxes[to].counts();
        for message in &chosen {
            let count = counts.entry(message.guid).or_default();
            *count += 1;
            if *count > self.traits.twins_max {
                return Err("Too many identical emails");
            }
        }
        let bytes = chosen.iter().map(|message| message.content.len() as u64).sum();
        if !and_remove && !self.has_room(to, bytes, chosen.len() as u64) {
            return Err("Over quota");
        }
        let (most, mut pairs) = (self.traits.keywords_max, Vec::new());
        for message in &chosen {
            let flags = self.allowed(to, &message.flags);
            let target = self.boxes.get_mut(to).ok_or("Mailbox does not exist")?;
            // A keyword for which there is no place is left out, and nobody is told.
            let flags = flags.into_iter().filter(|flag| flag.starts_with(b"\\") || target.learn(flag, most)).collect();
            pairs.push((message.uid, target.put(message.content.clone(), message.guid, flags, message.date)));
        }
        if and_remove {
            self.expunge(from, uids);
        }
        Ok(pairs)
    }

    /// Expunges messages.
    pub fn expunge(&mut self, name: &str, uids: &BTreeSet<u32>) {
        let Some(mailbox) = self.boxes.get_mut(name) else { return };
        for message in mailbox.messages.iter_mut().filter(|message| !message.expunged && uids.contains(&message.uid)) {
            mailbox.modseq += 1;
            (message.expunged, message.modseq, message.updated) = (true, mailbox.modseq, NOW);
        }
    }
}

/// Flags in one line.
pub fn flags_shown(flags: &Flags) -> String {
    let flags: Vec<String> = flags.iter().map(|flag| flag.escape_ascii().to_string()).collect();
    format!("({})", flags.join(" "))
}

/// A message in one line.
pub fn shown(message: &Message) -> String {
    let Message { uid, guid, flags, date, modseq, expunged, has_file, .. } = message;
    let (flags, guid) = (flags_shown(flags), &guid.to_hex()[..6]);
    format!("{uid} {guid} {flags} of {date}, modseq {modseq}, expunged {expunged}, file {has_file}")
}

/// The special uses of a mailbox.
pub fn uses_of(mailbox: &Mailbox) -> String {
    let entry = ("/specialuse".to_owned(), USER.to_owned());
    mailbox.notes.get(&entry).map(|uses| String::from_utf8_lossy(uses).into_owned()).unwrap_or_default()
}

/// The message as which 3.6 keeps a script.
pub fn script_message(name: &str, text: &[u8]) -> Vec<u8> {
    let head = format!("From: <{USER}@lab>\r\nSubject: {name}\r\nMIME-Version: 1.0\r\nContent-Type: application/sieve\r\n\r\n");
    [head.as_bytes(), text].concat()
}

/// Name and text of a script that is a message.
pub fn script_of(content: &[u8]) -> Option<(String, &[u8])> {
    let end = content.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&content[..end]).ok()?;
    let name = head.split("\r\n").find_map(|line| line.strip_prefix("Subject: "))?;
    Some((name.to_owned(), &content[end + 4..]))
}

/// True for a name that CREATE takes.
pub fn is_allowed_name(name: &str) -> bool {
    let is_utf7 = |part: &str| match part.split_once('-') {
        Some((code, _)) => code.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == ','),
        None => false,
    };
    name.is_ascii() && !name.contains('%') && name.split('&').skip(1).all(is_utf7)
}

/// Every message that is not taken as it comes.
fn check(new: &New) -> Result<(), Refusal> {
    let content = &new.content;
    if content.is_empty() {
        return Err("Zero-length message literal");
    }
    if !new.is_binary && content.contains(&0) {
        return Err("Message contains NUL characters");
    }
    let is_bare = |(at, &c): (usize, &u8)| c == b'\n' && (at == 0 || content[at - 1] != b'\r');
    if !new.is_binary && content.iter().enumerate().any(is_bare) {
        return Err("Message contains bare newlines");
    }
    let line = content.split(|&c| c == b'\r' || c == b'\n').next().unwrap_or_default();
    if !line.is_empty() && !line.contains(&b':') {
        return Err("Message contains invalid header");
    }
    Ok(())
}

/// What becomes of the header of a message on APPEND with `munge8bit`, the default.
pub fn munged(content: &[u8]) -> Vec<u8> {
    let end = content.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(content.len());
    let of = |(at, &c): (usize, &u8)| if at < end && c >= 0x80 { b'X' } else { c };
    content.iter().enumerate().map(of).collect()
}
