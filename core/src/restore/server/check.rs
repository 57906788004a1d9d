//! What a folder has after it was filled, against what was sent: flags and INTERNALDATE.
//!
//! A server may take a message and leave away flags that the user may not set, or keywords for which it has no more names, and
//! says nothing. So the new messages of a folder are looked at when all are there. Content is compared before, when a message
//! can still be taken away again ([`super::deliver`]). What must not come in: changing anything.

use super::deliver::{Added, date_of, named};
use super::limits::{Limits, without_flags};
use super::report::FolderReport;
use crate::error::Error;
use crate::escape::shown;
use crate::guid::Guid;
use crate::imap::client::{Client, Fetched};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Compares what came to a folder from the UID `from` on. A message that is not there any more was filed or expunged by
/// somebody since, which is no failure.
pub async fn check(
    client: &mut Client,
    target: &[u8],
    from: u32,
    sent: &[Added<'_>],
    limits: &Limits,
    report: &mut FolderReport,
) -> Result<(), Error> {
    // Elsewhere, all bodies would have to be read again.
    if sent.is_empty() || !client.can("DIGEST=SHA1") {
        return Ok(());
    }
    if let Err(refusal) = client.open_mailbox(target, false).await? {
        report.fail(shown(target), format!("cannot be looked at afterwards, so flags were not compared: {refusal}"));
        return Ok(());
    }
    let mut found: BTreeMap<Guid, Vec<Fetched>> = BTreeMap::new();
    let mut keep = |message: Fetched| {
        if let Some(guid) = message.guid.filter(|_| message.uid >= from) {
            found.entry(guid).or_default().push(message);
        }
    };
    let answer = client.fetch(&format!("{}:*", from.max(1)), "FLAGS INTERNALDATE DIGEST.SHA1", &mut keep).await?;
    if let Err(refusal) = answer {
        report.fail(shown(target), format!("cannot be looked at afterwards, so flags were not compared: {refusal}"));
        return Ok(());
    }
    for added in sent {
        compare(added, &mut found, limits, report);
    }
    Ok(())
}

fn compare(added: &Added<'_>, found: &mut BTreeMap<Guid, Vec<Fetched>>, limits: &Limits, report: &mut FolderReport) {
    let Some(copies) = found.get_mut(&added.at.guid).filter(|copies| !copies.is_empty()) else { return };
    // The one that lacks least: identical messages cannot be told apart otherwise.
    let lacks = |copy: &Fetched| lost(added, copy).len() + usize::from(copy.internaldate != Some(date_of(added)));
    let best = (0..copies.len()).min_by_key(|n| lacks(&copies[*n])).unwrap_or(0);
    let copy = copies.swap_remove(best);
    let lost: Vec<String> =
        lost(added, &copy).iter().map(|flag| format!("{}: {}", shown(flag), limits.why_lost(flag))).collect();
    if !lost.is_empty() {
        report.fail(named(added.message), without_flags(&lost));
    }
    if let Some(date) = copy.internaldate.filter(|date| *date != date_of(added)) {
        let why = "the server has given it another INTERNALDATE";
        report.fail(named(added.message), format!("{why}: {date}, expected {}; --exact keeps it", date_of(added)));
    }
}

/// Flags that a message had and a copy of it has not. What the copy has besides, somebody has set since.
fn lost(added: &Added<'_>, copy: &Fetched) -> Vec<Vec<u8>> {
    let has: BTreeSet<Vec<u8>> = copy.flags.iter().map(|flag| flag.to_ascii_lowercase()).collect();
    added.message.row.flags.iter().filter(|flag| !has.contains(&flag.to_ascii_lowercase())).cloned().collect()
}
