//! Restored trees that are to go again: a note on each of their folders, and what removes them.
//!
//! The note is the folder's private comment, which every version lets its owner set and every client leaves alone. It says when
//! the folder may go and which UID comes next in it: so a folder that somebody has used since, by putting something into it, is
//! told from one that only has what was restored. Only folders with such a note are ever removed, and only with nothing added.
//! What must not come in: messages.

use super::names::Names;
use super::report::{FolderReport, Report};
use crate::error::Error;
use crate::escape::shown;
use crate::imap::client::{Answer, Client};
use crate::time::{Civil, Time};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

const ENTRY: &str = "/private/comment";
const BEGIN: &str = "restored by cylinder; may go after ";
const NEXT: &str = "; next uid ";

/// What a note says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Note {
    /// When the folder may go.
    pub expires: Time,
    /// The UID that came next when the restore had ended.
    pub uidnext: u32,
}

impl Note {
    /// As it is written.
    pub fn emit(&self) -> String {
        format!("{BEGIN}{}{NEXT}{}", Civil::from_time(self.expires), self.uidnext)
    }

    /// Reads one; `None` for any other comment.
    pub fn parse(text: &[u8]) -> Option<Note> {
        let text = core::str::from_utf8(text).ok()?.strip_prefix(BEGIN)?;
        let (date, uidnext) = text.split_once(NEXT)?;
        let mut numbers = date.strip_suffix('Z')?.split([' ', '-', ':']).map(|word| word.parse::<u32>().ok());
        let mut next = || numbers.next().flatten();
        let (year, month, day) = (next()?, next()?, next()?);
        let civil = Civil { year: year.into(), month, day, hour: next()?, minute: next()?, second: next()? };
        let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && year < 2262;
        is_date.then_some(Note { expires: civil.to_time(), uidnext: uidnext.parse().ok()? })
    }
}

/// Notes on every folder of a tree when it may go. A server that does not take notes is a note in the report.
pub async fn note(client: &mut Client, names: &Names, top: &[u8], expires: Time, report: &mut Report) -> Result<(), Error> {
    for mailbox in client.list(&names.below(top)).await? {
        let mailbox = mailbox.name;
        let Ok(opened) = client.open_mailbox(&mailbox, false).await? else { continue };
        let note = Note { expires, uidnext: opened.uidnext }.emit();
        if let Err(refusal) = client.set_metadata(&mailbox, ENTRY, note.as_bytes()).await? {
            let what = "it cannot be noted when the tree may go, so --cleanup will not find it";
            report.notes.push(format!("{}: {what}: {refusal}", shown(&mailbox)));
        }
    }
    Ok(())
}

/// Removes folders of restored trees whose time has come, unless it is a rehearsal.
pub async fn clean_up(client: &mut Client, names: &Names, now: Time, rehearse: bool) -> Result<Report, Error> {
    let mut report = Report::default();
    let mut mailboxes: Vec<Vec<u8>> = Vec::new();
    for top in client.list(&names.tops()).await? {
        mailboxes.extend(client.list(&names.below(&top.name)).await?.into_iter().map(|mailbox| mailbox.name));
    }
    // What is below another comes first.
    mailboxes.sort_by(|a, b| b.cmp(a));
    for mailbox in mailboxes {
        let mut done = FolderReport { name: shown(&mailbox), target: shown(&mailbox), ..FolderReport::default() };
        match judge(client, &mailbox, now).await? {
            Ok(None) if rehearse => done.changed = 1,
            Ok(None) => match client.delete(&mailbox).await? {
                Ok(()) => {
                    done.changed = 1;
                    let _ = client.unsubscribe(&mailbox).await?;
                }
                Err(refusal) => done.fail(shown(&mailbox), refusal.to_string()),
            },
            Ok(Some(why)) => done.skipped = Some(why),
            Err(refusal) => done.fail(shown(&mailbox), refusal.to_string()),
        }
        report.folders.push(done);
    }
    Ok(report)
}

/// Why a folder has to stay, if it has to.
async fn judge(client: &mut Client, mailbox: &[u8], now: Time) -> Result<Answer<Option<String>>, Error> {
    let note = match client.metadata(mailbox, ENTRY).await? {
        Ok(comment) => comment.and_then(|comment| Note::parse(&comment)),
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Some(note) = note else { return Ok(Ok(Some(String::from("has no note of a restore")))) };
    if note.expires > now {
        return Ok(Ok(Some(format!("may go after {}", Civil::from_time(note.expires)))));
    }
    Ok(match client.open_mailbox(mailbox, false).await? {
        Ok(opened) if opened.uidnext == note.uidnext => Ok(None),
        Ok(_) => Ok(Some(String::from("something was put into it after the restore"))),
        Err(refusal) => Err(refusal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back() {
        let note = Note { expires: Time::from_secs(1_795_456_811), uidnext: 17 };
        assert_eq!(note.emit(), "restored by cylinder; may go after 2026-11-23 18:00:11Z; next uid 17");
        assert_eq!(Note::parse(note.emit().as_bytes()), Some(note));
    }

    #[test]
    fn no_other_comment_is_a_note() {
        let good = Note { expires: Time::ZERO, uidnext: 1 }.emit();
        for bad in ["", "my folder", &good[..good.len() - 1], &good.replace("-01-", "-13-"), &good.replace("uid 1", "uid x")] {
            assert_eq!(Note::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Note::parse(b"\xFF"), None);
    }
}
