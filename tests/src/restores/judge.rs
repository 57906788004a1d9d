//! What is on the server after a restore, against what the snapshot had and what the report says.
//!
//! The rules are those of RESTORE.md. A report that is clean says that all is there; one that is not says what does not, folder
//! by folder. In any case nothing that was there is gone, nothing comes twice, and nothing that nobody had is there. What must
//! not come in: how anything is restored.

use super::model::{Flags, INBOX, Mailbox, Message, SCRIPTS, Server, USER, flags_shown, shown};
use super::ways::{Order, TREE, Way};
use cylinder_core::guid::Guid;
use cylinder_core::restore::select::Scope;
use cylinder_core::restore::server::report::{FolderReport, Report};
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Of which kind it is.
    pub kind: &'static str,
    /// What exactly.
    pub why: String,
}

/// Nothing, or what is wrong.
pub type Check = Result<(), Fault>;

/// A fault of a kind.
pub fn fault<T>(kind: &'static str, why: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { kind, why: why.into() })
}

/// What is judged.
pub struct Case<'a> {
    /// The server that was backed up.
    pub origin: &'a Server,
    /// The server before the restore.
    pub before: &'a Server,
    /// The server after it.
    pub after: &'a Server,
    /// What was asked for last.
    pub order: &'a Order,
    /// What the last run said; `None` if it was refused as a whole.
    pub report: Option<&'a Report>,
}

/// The name of a folder as the archive has it.
pub fn relative(name: &str) -> String {
    match name.strip_prefix("DELETED.") {
        Some(rest) => format!("DELETED{}", rest.strip_prefix(INBOX).unwrap_or(rest)),
        None => format!("INBOX{}", name.strip_prefix(INBOX).unwrap_or(name)),
    }
}

impl Case<'_> {
    /// Looks at everything.
    pub fn check(&self) -> Check {
        match self.order.way {
            Way::Tree | Way::Merge => self.check_mail(),
            Way::Flags => self.check_flags(),
            Way::Exact | Way::Replace => self.check_exact(),
        }
    }

    /// Flags of messages that are there are as they were, or it is told; nothing else is changed.
    fn check_flags(&self) -> Check {
        let empty = Mailbox::new("none", 0);
        for (name, before) in &self.before.boxes {
            let key = |mailbox: &Mailbox| mailbox.visible().map(|m| (m.uid, m.guid, m.date)).collect::<Vec<_>>();
            if self.after.boxes.get(name).is_none_or(|after| key(after) != key(before)) {
                return fault("flags alone were asked for, and more was changed", name.clone());
            }
        }
        for (name, wanted) in self.wanted() {
            let after = self.after.boxes.get(name).unwrap_or(&empty);
            let told = self.told(name);
            if !self.is_clean() || told.is_none_or(|folder| folder.skipped.is_some()) {
                continue;
            }
            let (then, now) = (wanted.counts(), after.counts());
            for message in wanted.visible() {
                let same = after.visible().find(|other| other.uid == message.uid && other.guid == message.guid);
                let is_only = then[&message.guid] == 1 && now.get(&message.guid) == Some(&1);
                let same = same.or_else(|| after.visible().find(|other| is_only && other.guid == message.guid));
                // What a folder made anew gave the UID of another one is not the same message.
                if let Some(same) = same.filter(|same| lower(&same.flags) != lower(&message.flags)) {
                    let why = format!("{name}: {}, not {}; told: {told:?}", shown(same), shown(message));
                    return fault("flags are not as they were, and the exit code is 0", why);
                }
            }
        }
        Ok(())
    }

    /// The folders that were asked for, deleted ones left out.
    fn wanted(&self) -> impl Iterator<Item = (&String, &Mailbox)> {
        let is_in = |name: &str| match &self.order.scope {
            Scope::All => true,
            // No order asks for these: every message of the user is in a folder.
            Scope::Recovered => false,
            Scope::Folders(names) => names.iter().any(|wanted| relative(name).as_bytes() == wanted),
            Scope::Subtree(top) => {
                let (name, top) = (relative(name).into_bytes(), &top[..]);
                name == top || name.starts_with(&[top, b"."].concat())
            }
        };
        self.origin.living().filter(move |(name, _)| is_in(name))
    }

    fn told(&self, name: &str) -> Option<&FolderReport> {
        let name = relative(name);
        self.report?.folders.iter().find(|folder| folder.name == name)
    }

    fn is_clean(&self) -> bool {
        self.report.is_some_and(Report::is_clean)
    }

    fn check_mail(&self) -> Check {
        self.nothing_is_gone()?;
        let all: Vec<_> = self.wanted().map(|(name, mailbox)| (name, mailbox, self.target(name))).collect();
        let targets: BTreeSet<&String> = all.iter().map(|(.., target)| target).collect();
        for (name, mailbox, target) in all.iter().filter(|(_, mailbox, _)| mailbox.kind == b'e') {
            self.check_mail_folder(name, mailbox, target)?;
        }
        self.check_others(&targets)?;
        for (name, mailbox, target) in all.iter().filter(|(_, mailbox, _)| mailbox.kind != b'e') {
            self.check_collection(name, mailbox, target)?;
        }
        self.nothing_is_left()
    }

    /// Nothing was put where nobody asked for it.
    fn check_others(&self, targets: &BTreeSet<&String>) -> Check {
        for (name, mailbox) in self.after.living() {
            let before = self.before.boxes.get(name);
            if !targets.contains(name) && before.is_none_or(|before| before.visible().count() != mailbox.visible().count()) {
                let is_parent = targets.iter().any(|target| target.starts_with(&format!("{name}.")));
                let is_empty = mailbox.visible().next().is_none();
                if !(is_empty && (is_parent || name.contains(".RESTORED"))) {
                    return fault(
                        "a folder that nobody asked for",
                        format!("{name} has {} messages", mailbox.visible().count()),
                    );
                }
            }
        }
        Ok(())
    }

    /// Where a folder of the snapshot goes, by its internal name.
    fn target(&self, name: &str) -> String {
        // One that is there is filled, whatever its name.
        if self.order.way == Way::Merge && self.before.boxes.contains_key(name) {
            return name.to_owned();
        }
        let spelled = spelled(name);
        if self.order.way == Way::Merge {
            return spelled;
        }
        // With `/` and no prefix, a name without INBOX before it is beside it.
        let top = format!("{INBOX}.RESTORED.{TREE}");
        match spelled.strip_prefix(INBOX) {
            Some("") | None => format!("{top}.INBOX"),
            Some(rest) => format!("{top}{rest}"),
        }
    }

    /// What was there is there, as it was.
    fn nothing_is_gone(&self) -> Check {
        for (name, before) in self.before.living() {
            let Some(after) = self.after.boxes.get(name) else { return fault("a folder is gone", name.clone()) };
            for message in before.visible() {
                let same = after.visible().find(|other| other.uid == message.uid);
                if same.is_none_or(|other| {
                    (&other.guid, &other.flags, other.date) != (&message.guid, &message.flags, message.date)
                }) {
                    return fault("what was there was changed", format!("{name}, UID {}: {:?}", message.uid, same.map(shown)));
                }
            }
        }
        Ok(())
    }

    /// No run has left anything but what was asked for.
    fn nothing_is_left(&self) -> Check {
        let is_done = self.report.is_some_and(|report| report.ended_early.is_none() && report.notes.is_empty());
        let left = self.after.living().find(|(name, _)| name.contains(".RESTORED.adding-"));
        if let Some((name, _)) = left.filter(|_| is_done) {
            return fault("a mailbox of the run was left", name.clone());
        }
        let parent = format!("{INBOX}.RESTORED");
        let is_new = self.order.way == Way::Merge && !self.before.boxes.contains_key(&parent);
        if is_new && is_done && self.after.boxes.contains_key(&parent) {
            return fault("RESTORED was left by a merge", parent);
        }
        Ok(())
    }

    fn check_mail_folder(&self, name: &str, wanted: &Mailbox, target: &str) -> Check {
        let empty = Mailbox::new("none", 0);
        let (before, after) = (self.before.boxes.get(target), self.after.boxes.get(target));
        let (before, after) = (before.unwrap_or(&empty), after.unwrap_or(&empty));
        let (old, now, then) = (before.counts(), after.counts(), wanted.counts());
        for (guid, count) in &now {
            let (most_old, most_then) = (old.get(guid).copied().unwrap_or(0), then.get(guid).copied().unwrap_or(0));
            if most_old + most_then == 0 {
                return fault("content that nobody had", format!("{target}: {guid}"));
            }
            if *count > most_old.max(most_then) {
                return fault("a message came twice", format!("{target}: {guid} is there {count} times"));
            }
        }
        let elsewhere = self.elsewhere(target);
        let (mut lacking, mut excused) = (0, 0);
        for (guid, count) in &then {
            let less = count.saturating_sub(now.get(guid).copied().unwrap_or(0));
            if elsewhere.contains(guid) { excused += less } else { lacking += less }
        }
        let told = self.told(name);
        let failed = told.map_or(0, |folder| folder.failed as usize);
        if lacking > 0 && self.report.is_some() {
            let why = format!("{target}: {lacking} messages lack, {excused} are elsewhere; told: {told:?}");
            if self.is_clean() {
                return fault("a message lacks, and the exit code is 0", why);
            }
            if failed < lacking.min(1) && self.report.is_some_and(|report| report.ended_early.is_none()) {
                return fault("a message lacks that the report does not tell", why);
            }
        }
        self.check_new(wanted, before, after, failed, target)?;
        if self.order.way == Way::Merge && !self.before.boxes.contains_key(target) && self.after.boxes.contains_key(target) {
            self.check_made(wanted, &self.after.boxes[target], failed, target)?;
        }
        Ok(())
    }

    /// What counts as being elsewhere: by what was in the user's other folders before anything was restored.
    fn elsewhere(&self, target: &str) -> BTreeSet<Guid> {
        if self.order.way == Way::Tree {
            return BTreeSet::new();
        }
        let is_other = |name: &str, mailbox: &Mailbox| {
            let is_trash = super::model::uses_of(mailbox).contains("\\Trash");
            name != target && !is_trash && !name.contains(".RESTORED") && mailbox.kind == b'e'
        };
        let others = self.before.living().filter(|(name, mailbox)| is_other(name, mailbox));
        others.flat_map(|(_, mailbox)| mailbox.visible().map(|message| message.guid)).collect()
    }

    /// What has come has the flags and the date that it had.
    fn check_new(&self, wanted: &Mailbox, before: &Mailbox, after: &Mailbox, failed: usize, target: &str) -> Check {
        let mut then: BTreeMap<Guid, Vec<&Message>> = BTreeMap::new();
        wanted.visible().for_each(|message| then.entry(message.guid).or_default().push(message));
        let is_old = |message: &Message| before.visible().any(|old| old.uid == message.uid && old.guid == message.guid);
        for message in after.visible().filter(|message| !is_old(message)) {
            let sources = then.get(&message.guid).map_or(&[][..], |sources| sources);
            let flags = |source: &&&Message| lower(&source.flags) == lower(&message.flags);
            if failed == 0 && self.report.is_some() && !sources.iter().any(|source| flags(&source)) {
                let had: Vec<String> = sources.iter().map(|source| flags_shown(&source.flags)).collect();
                let why = format!("{target}: {}, not {had:?}", flags_shown(&message.flags));
                return fault("flags lack, and nothing is told", why);
            }
            let date = |source: &&Message| source.date == message.date || (source.date == 0 && message.date == 1);
            if !sources.iter().any(date) {
                let had: Vec<i64> = sources.iter().map(|source| source.date).collect();
                return fault("another date", format!("{target}: {}, not {had:?}", message.date));
            }
        }
        Ok(())
    }

    /// A folder that was made again is what it was.
    fn check_made(&self, wanted: &Mailbox, made: &Mailbox, failed: usize, target: &str) -> Check {
        let is_told = failed > 0 || self.report.is_none_or(|report| !report.notes.is_empty() || report.ended_early.is_some());
        if is_told || target == INBOX {
            return Ok(());
        }
        for (key, value) in &wanted.notes {
            if made.notes.get(key) != Some(value) {
                return fault("a folder made again lacks what it had", format!("{target}: {} of `{}`", key.0, key.1));
            }
        }
        let others = wanted.acl.iter().filter(|(who, _)| *who != USER);
        match others.into_iter().find(|(who, rights)| made.acl.get(*who) != Some(rights)) {
            Some((who, rights)) => fault("a folder made again lacks what it had", format!("{target}: {who} has not {rights}")),
            None => Ok(()),
        }
    }

    /// Scripts, events and contacts: as they were, or told.
    fn check_collection(&self, name: &str, wanted: &Mailbox, target: &str) -> Check {
        let Some(report) = self.report else { return Ok(()) };
        let told = self.told(name);
        let is_told = told.is_none_or(|folder| folder.failed > 0 || folder.skipped.is_some()) || report.ended_early.is_some();
        let now = self.after.boxes.get(target).map(Mailbox::counts).unwrap_or_default();
        let before = self.before.boxes.get(target).map(Mailbox::counts).unwrap_or_default();
        if let Some((guid, _)) = now.iter().find(|(guid, n)| **n > 1.max(before.get(guid).copied().unwrap_or(0))) {
            return fault("an item came twice", format!("{target}: {guid}"));
        }
        let lacks = wanted.counts().keys().any(|guid| !now.contains_key(guid));
        if lacks && !is_told && self.is_clean() {
            return fault("scripts, events or contacts lack, and nothing is told", format!("{target}: {told:?}"));
        }
        if self.order.way == Way::Tree && !now.is_empty() && !is_told {
            return fault("scripts, events or contacts became mail, and nothing is told", String::from(target));
        }
        Ok(())
    }

    fn check_exact(&self) -> Check {
        for (name, wanted) in self.wanted() {
            let told = self.told(name);
            let is_told = told.is_none_or(|folder| folder.failed > 0 || folder.skipped.is_some());
            let after = self.after.boxes.get(name);
            // A mailbox of scripts that was there stays, and its scripts are changed one by one.
            if wanted.kind == SCRIPTS && self.order.way == Way::Replace {
                continue;
            }
            if let Some(report) = self.report
                && report.ended_early.is_none()
                && (report.is_clean() || !is_told)
                && let Err(why) = same(wanted, after)
            {
                let kind = if report.is_clean() {
                    "a mailbox is not as it was, and the exit code is 0"
                } else {
                    "a mailbox that the report does not tell"
                };
                return fault(kind, format!("{name}: {why}; told: {told:?}"));
            }
            self.nothing_is_lost(name, wanted)?;
        }
        let wanted: BTreeSet<&String> = self.wanted().map(|(name, _)| name).collect();
        for (name, before) in self.before.living().filter(|(name, _)| !wanted.contains(name)) {
            if self.after.boxes.get(name).is_none_or(|after| after.counts() != before.counts()) {
                return fault("what was not asked for was changed", name.clone());
            }
        }
        self.check_user()
    }

    /// A replacement takes nothing away that the snapshot has, too; anything else takes nothing away at all.
    fn nothing_is_lost(&self, name: &str, wanted: &Mailbox) -> Check {
        let Some(before) = self.before.boxes.get(name) else { return Ok(()) };
        let now = self.after.boxes.get(name).map(Mailbox::counts).unwrap_or_default();
        let then = wanted.counts();
        // A message of no bytes cannot be brought back this way, and has nothing to lose.
        for (guid, count) in before.counts().into_iter().filter(|(guid, _)| *guid != Guid::of(b"")) {
            let is_kept = self.order.way != Way::Replace || then.contains_key(&guid);
            let least = if self.order.way == Way::Replace { then.get(&guid).copied().unwrap_or(0).min(count) } else { count };
            if is_kept && now.get(&guid).copied().unwrap_or(0) < least {
                return fault("what was there is gone", format!("{name}: {guid}; told: {:?}", self.told(name)));
            }
        }
        Ok(())
    }

    /// With `--all`, what belongs to the user and to no folder is as it was.
    fn check_user(&self) -> Check {
        if self.order.scope != Scope::All || !self.is_clean() || self.report.is_some_and(|report| !report.notes.is_empty()) {
            return Ok(());
        }
        let (then, now) = (self.origin.user_files(), self.after.user_files());
        let lacks = |what: &str, missing: String| {
            fault("what belongs to the user lacks, and the exit code is 0", format!("{what}: {missing}"))
        };
        if let Some((script, _)) = then.scripts.iter().find(|(name, text)| now.scripts.get(*name) != Some(text)) {
            return lacks("scripts", script.clone());
        }
        if then.active.is_some() && then.active != now.active {
            return lacks("the active script", format!("{:?}, not {:?}", now.active, then.active));
        }
        if let Some(item) = then.dav.difference(&now.dav).next() {
            return lacks("events and contacts", format!("{item:?}"));
        }
        if let Some(name) = then.subscribed.difference(&now.subscribed).next() {
            return lacks("subscriptions", name.clone());
        }
        match self.origin.quotas.iter().find(|(root, limits)| self.after.quotas.get(*root) != Some(limits)) {
            Some((root, limits)) => lacks("quotas", format!("{root}: {limits:?}")),
            None => Ok(()),
        }
    }
}

fn lower(flags: &Flags) -> Flags {
    flags.iter().map(|flag| flag.to_ascii_lowercase()).collect()
}

/// A name as a server takes it: `R&-D` for `R&D`, and `_` for what it takes in no spelling.
fn spelled(name: &str) -> String {
    if super::model::is_allowed_name(name) {
        return name.to_owned();
    }
    let spelled = name.replace('%', "_");
    if super::model::is_allowed_name(&spelled) { spelled } else { spelled.replace('&', "&-") }
}

/// Compares a mailbox with what was backed up.
fn same(wanted: &Mailbox, after: Option<&Mailbox>) -> Result<(), String> {
    let Some(after) = after else { return Err(String::from("it is not there")) };
    let numbers = |mailbox: &Mailbox| (mailbox.uidvalidity, mailbox.last_uid, mailbox.modseq, mailbox.kind);
    if numbers(wanted) != numbers(after) || wanted.id != after.id {
        return Err(format!("{} {:?}, not {} {:?}", after.id, numbers(after), wanted.id, numbers(wanted)));
    }
    if wanted.acl != after.acl || wanted.notes != after.notes {
        return Err(format!("{:?} {:?}, not {:?} {:?}", after.acl, after.notes, wanted.acl, wanted.notes));
    }
    let record = |message: &Message| {
        let Message { uid, guid, flags, date, modseq, updated, expunged, .. } = message;
        (*uid, *guid, flags.clone(), (*date).max(1), *modseq, *updated, *expunged)
    };
    for message in &wanted.messages {
        let found = after.messages.iter().find(|other| other.uid == message.uid);
        if found.map(record) != Some(record(message)) {
            return Err(format!("UID {}: {:?}, not {:?}", message.uid, found.map(shown), shown(message)));
        }
        if message.has_file && !message.content.is_empty() && found.is_some_and(|found| !found.has_file) {
            return Err(format!("UID {}: its content did not come", message.uid));
        }
    }
    match after.messages.len() == wanted.messages.len() {
        true => Ok(()),
        false => Err(format!("{} messages, not {}", after.messages.len(), wanted.messages.len())),
    }
}
