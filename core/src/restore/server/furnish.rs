//! What a folder is besides its messages: special use, annotations, ACL. For a folder that is made again where it was.
//!
//! What the user may not set, and what the server does not take, is a failure that names it: the folder is there without it.
//! What must not come in: folders that are there already, which stay as they are.

use super::report::FolderReport;
use crate::cyrus::names::Owner;
use crate::error::Error;
use crate::escape::shown;
use crate::imap::client::{Client, Refusal};
use crate::restore::select::{Annotation, Folder};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Gives a new folder what the one of the archive had. `owner` is whose folder it was, `user` whose it is now.
pub async fn furnish(
    client: &mut Client,
    target: &[u8],
    folder: &Folder,
    owner: &Owner,
    user: &Owner,
    report: &mut FolderReport,
) -> Result<(), Error> {
    for annotation in &folder.annotations {
        let what = format!("annotation {}", shown(&annotation.entry));
        let Some(entry) = entry_of(annotation, owner) else {
            let whose = shown(&annotation.userid);
            report.fail(what, format!("is a private one of {whose}, which nobody else can set by IMAP; --exact keeps it"));
            continue;
        };
        if let Err(refusal) = client.set_metadata(target, &entry, &annotation.value).await? {
            report.fail(what, lacks(&refusal));
        }
    }
    set_acl(client, target, folder, owner, user, false, report).await
}

/// Gives the user the rights that the folder's own ACL gives: when all is in it, for they may be too few to put it there.
pub async fn own_rights(
    client: &mut Client,
    target: &[u8],
    folder: &Folder,
    owner: &Owner,
    user: &Owner,
    report: &mut FolderReport,
) -> Result<(), Error> {
    set_acl(client, target, folder, owner, user, true, report).await
}

/// The bytes of what [`furnish`] would set.
pub fn annotation_bytes(folder: &Folder) -> u64 {
    folder.annotations.iter().map(|annotation| annotation.value.len() as u64).sum()
}

fn lacks(refusal: &Refusal) -> String {
    format!("the folder was made again without it: {refusal}; --exact keeps it")
}

/// The name of an annotation for the user who is logged in.
fn entry_of(annotation: &Annotation, owner: &Owner) -> Option<String> {
    let scope = match (&annotation.userid, owner) {
        (userid, _) if userid.is_empty() => "/shared",
        (userid, Owner::User(own)) if userid == own => "/private",
        _ => return None,
    };
    // What is no text is no name of an annotation either.
    let entry = core::str::from_utf8(&annotation.entry).ok()?;
    let is_plain = entry.bytes().all(|c| c.is_ascii_alphanumeric() || b"/-_.:@+".contains(&c));
    (is_plain && entry.starts_with('/')).then(|| format!("{scope}{entry}"))
}

/// An identifier and its rights.
type Entry = (Vec<u8>, Vec<u8>);

async fn set_acl(
    client: &mut Client,
    target: &[u8],
    folder: &Folder,
    owner: &Owner,
    user: &Owner,
    is_own: bool,
    report: &mut FolderReport,
) -> Result<(), Error> {
    if !client.can("ACL") {
        return Ok(());
    }
    let found = match client.acl(target).await? {
        Ok(found) => found,
        Err(refusal) => {
            report.fail("ACL", lacks(&refusal));
            return Ok(());
        }
    };
    let wanted = acl_for(folder.acl(), owner, user);
    for (identifier, rights) in changes(&wanted, &found, user, is_own) {
        if let Err(refusal) = client.set_acl(target, &identifier, &rights).await? {
            let given = if rights.is_empty() { String::from("no rights") } else { format!("`{}`", shown(&rights)) };
            report.fail(format!("ACL: {given} for {}", shown(&identifier)), lacks(&refusal));
        }
    }
    Ok(())
}

/// The ACL for the folder's new owner, who gets the rights that the old one had.
fn acl_for(wanted: &[Entry], owner: &Owner, user: &Owner) -> Vec<Entry> {
    let (Owner::User(old), Owner::User(new)) = (owner, user) else { return wanted.to_vec() };
    let others = wanted.iter().filter(|(who, _)| old == new || who != new);
    others.map(|(who, rights)| (if who == old { new.clone() } else { who.clone() }, rights.clone())).collect()
}

/// What is to be set: the user's own rights, or those of all others. No rights: taken out.
fn changes(wanted: &[Entry], found: &[Entry], owner: &Owner, is_own: bool) -> Vec<Entry> {
    // An archive without an ACL tells nothing of it.
    if wanted.is_empty() {
        return Vec::new();
    }
    let letters = |rights: &[u8]| {
        let mut letters = rights.to_vec();
        letters.sort_unstable();
        letters.dedup();
        letters
    };
    let found: BTreeMap<&[u8], Vec<u8>> = found.iter().map(|(who, rights)| (&who[..], letters(rights))).collect();
    let is_meant = |who: &[u8]| is_own == matches!(owner, Owner::User(own) if own == who);
    let given = wanted.iter().filter(|(who, rights)| found.get(&who[..]) != Some(&letters(rights))).cloned();
    let unwanted = found.keys().filter(|who| !wanted.iter().any(|(wanted, _)| wanted == *who));
    given.chain(unwanted.map(|who| (who.to_vec(), Vec::new()))).filter(|(who, _)| is_meant(who)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_acl_becomes_what_it_was_the_own_rights_apart() {
        let acl = |text: &str| -> Vec<Entry> {
            let pairs = text.split_whitespace().map(|pair| pair.split_once(':').expect("a pair"));
            pairs.map(|(who, rights)| (who.as_bytes().to_vec(), rights.as_bytes().to_vec())).collect()
        };
        let owner = Owner::User(b"anna".to_vec());
        let (wanted, found) = (acl("anna:lrs bob:lr eve:slr"), acl("anna:lrswi eve:lrs zoe:l"));
        assert_eq!(changes(&wanted, &found, &owner, false), acl("bob:lr zoe:"));
        assert_eq!(changes(&wanted, &found, &owner, true), acl("anna:lrs"));
        assert_eq!(changes(&[], &found, &owner, false), []);
        let bob = Owner::User(b"bob".to_vec());
        assert_eq!(acl_for(&wanted, &owner, &bob), acl("bob:lrs eve:slr"));
        assert_eq!(acl_for(&wanted, &owner, &owner), wanted);
    }

    #[test]
    fn an_annotation_has_a_name_for_its_owner_alone() {
        let entry = |userid: &str, entry: &str| {
            let (entry, userid) = (entry.as_bytes().to_vec(), userid.as_bytes().to_vec());
            entry_of(&Annotation { entry, userid, value: Vec::new(), modseq: 0 }, &Owner::User(b"anna".to_vec()))
        };
        assert_eq!(entry("", "/comment").as_deref(), Some("/shared/comment"));
        assert_eq!(entry("anna", "/specialuse").as_deref(), Some("/private/specialuse"));
        assert_eq!([entry("bob", "/comment"), entry("", "/a\r\nb"), entry("", "comment")], [None, None, None]);
    }
}
