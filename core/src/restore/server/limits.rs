//! What a folder and its server do not take, as far as it is known before anything is sent: the size of a message, rights of
//! the user, the number of keywords, keywords that IMAP has no spelling for.
//!
//! A message that cannot be put there is left out and named. One that would lose flags is put there all the same, and what it
//! loses is named: by the plan from what is known here, by the restore itself from what is there afterwards ([`super::check`]).
//! What must not come in: quotas, which are of more than one folder.

use super::deliver::{Added, named};
use super::report::FolderReport;
use crate::escape::shown;
use crate::imap::client::{Client, Opened};
use crate::restore::select::Message;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

/// Keywords that a folder of Cyrus gets names for by IMAP (seen with 3.2 and 3.6). By replication it may have 128.
pub const KEYWORDS_MAX: usize = 100;
/// Copies of one message that a folder takes by default from 3.4 on.
const COPIES_USUAL: u64 = 10;
const SYSTEM_FLAGS: [&[u8]; 5] = [b"\\answered", b"\\deleted", b"\\draft", b"\\flagged", b"\\seen"];

/// What is known of a folder.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// The most bytes that a message may have.
    message_max: Option<u64>,
    /// The rights of the user there; `None` if they are those of a folder that the user makes.
    rights: Option<Vec<u8>>,
    /// Keywords that it has names for, in lower case.
    keywords: BTreeSet<Vec<u8>>,
    /// How many it can have names for.
    keywords_max: usize,
}

impl Limits {
    /// Those of a folder, which need not be there yet.
    pub fn new(client: &Client, opened: Option<&Opened>, rights: Option<Vec<u8>>) -> Limits {
        // Only Cyrus tells SHA-1s. What others take is not known.
        let keywords_max = if client.can("DIGEST=SHA1") { KEYWORDS_MAX } else { usize::MAX };
        let keywords = opened.map(|opened| opened.keywords.clone()).unwrap_or_default();
        Limits { message_max: client.message_max(), rights, keywords, keywords_max }
    }

    fn may(&self, right: u8) -> bool {
        self.rights.as_ref().is_none_or(|rights| rights.contains(&right))
    }

    /// Why a message cannot be put there at all.
    fn refuses(&self, size: u64) -> Option<String> {
        if size == 0 {
            return Some(String::from("has no bytes, and no server takes such a message by IMAP"));
        }
        if let Some(max) = self.message_max.filter(|max| size > *max) {
            let why = "raise maxmessagesize there";
            return Some(format!("is of {size} bytes, the server takes at most {max} (APPENDLIMIT); {why}, or use --exact"));
        }
        let rights = self.rights.as_ref().filter(|_| !self.may(b'i'))?;
        Some(format!("the user may not insert into this folder (rights `{}`, expected `i`)", shown(rights)))
    }

    /// Why a flag would not be kept. A new keyword takes one of the places that there are.
    fn drops(&mut self, flag: &[u8]) -> Option<String> {
        let lower = flag.to_ascii_lowercase();
        if !can_be_sent(&lower) {
            return Some(String::from("IMAP has no spelling for it"));
        }
        let right = match &lower[..] {
            b"\\seen" => b's',
            b"\\deleted" => b't',
            _ => b'w',
        };
        // `d` is what `t`, `e` and `x` were once.
        let may = self.may(right) || (right == b't' && self.may(b'd'));
        if !may {
            let rights = self.rights.as_deref().unwrap_or_default();
            return Some(format!("the user may not set it there (rights `{}`, expected `{}`)", shown(rights), right as char));
        }
        if !lower.starts_with(b"\\") && !self.keywords.contains(&lower) {
            if self.keywords.len() >= self.keywords_max {
                return Some(format!("the folder has {} keywords, and takes no more", self.keywords.len()));
            }
            self.keywords.insert(lower);
        }
        None
    }

    /// Why a flag that was sent is not there.
    pub fn why_lost(&self, flag: &[u8]) -> String {
        self.clone().drops(flag).unwrap_or_else(|| String::from("the server did not keep it"))
    }
}

/// True for a system flag that a client may set, or a keyword that every version of Cyrus takes; in lower case.
pub fn can_be_sent(flag: &[u8]) -> bool {
    let is_atom = |c: &u8| (0x21..0x7F).contains(c) && !b"(){%*\"\\".contains(c);
    SYSTEM_FLAGS.contains(&flag) || (!flag.is_empty() && flag.iter().all(is_atom))
}

/// Leaves out what cannot be put there, and flags that would not be kept. Names what is left out, and in a plan what is lost.
pub fn foresee<'f>(added: Vec<Added<'f>>, limits: &mut Limits, is_plan: bool, report: &mut FolderReport) -> Vec<Added<'f>> {
    let mut out = Vec::with_capacity(added.len());
    for mut added in added {
        if let Some(why) = limits.refuses(added.at.size) {
            report.fail(named(added.message), why);
            continue;
        }
        let mut lost = Vec::new();
        let kept: Vec<Vec<u8>> = (added.message.row.flags.iter())
            .filter(|flag| match limits.drops(flag) {
                Some(why) => {
                    lost.push(format!("{}: {why}", shown(flag)));
                    false
                }
                None => true,
            })
            .cloned()
            .collect();
        if !lost.is_empty() {
            if is_plan {
                report.fail(named(added.message), without_flags(&lost));
            }
            added.flags = Some(Rc::new(kept));
        }
        out.push(added);
    }
    out
}

/// What is said of a message that lacks flags.
pub fn without_flags(lost: &[String]) -> String {
    format!("is there without flags that it had: {}", lost.join(", "))
}

/// How many messages are there, or are to be added, more often than a server takes by default.
pub fn copies(messages: &[Message]) -> Option<u64> {
    let mut guids: Vec<_> = messages.iter().filter_map(|message| message.body.at()).map(|at| at.guid).collect();
    guids.sort_unstable();
    let over = guids.chunk_by(|a, b| a == b).map(|same| (same.len() as u64).saturating_sub(COPIES_USUAL)).sum();
    (over > 0).then_some(over)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rights: &str, keywords: usize) -> Limits {
        Limits {
            message_max: Some(100),
            rights: Some(rights.as_bytes().to_vec()),
            keywords: (0..keywords).map(|n| format!("k{n}").into_bytes()).collect(),
            keywords_max: KEYWORDS_MAX,
        }
    }

    #[test]
    fn what_cannot_be_put_there_is_known() {
        let why = |rights: &str, size| limits(rights, 0).refuses(size).unwrap_or_default();
        assert_eq!(why("lri", 100), "");
        assert!(why("lri", 101).contains("101 bytes, the server takes at most 100"));
        assert!(why("lri", 0).contains("no bytes") && why("lr", 5).contains("rights `lr`, expected `i`"));
    }

    #[test]
    fn flags_that_would_be_lost_are_known() {
        let mut full = limits("lriwt", 98);
        let mut drops = |flag: &str| full.drops(flag.as_bytes()).unwrap_or_default();
        assert!(drops("\\Seen").contains("expected `s`"));
        for kept in ["\\Deleted", "\\Flagged", "K5", "new", "a[b", "NEW"] {
            assert_eq!(drops(kept), "", "{kept}");
        }
        assert!(drops("over").contains("has 100 keywords"));
        for unspelled in ["a b", "a(b", "", "\\Recent", "a\"b", "\u{e9}"] {
            assert!(drops(unspelled).contains("no spelling"), "{unspelled}");
        }
        assert_eq!(limits("lriw", 0).why_lost(b"x"), "the server did not keep it");
    }
}
