//! The folder that somebody means: by its name in the archive, as people read it, or as the server shows it in any of its
//! namespaces. And if none is meant, the folders whose names are nearest.
//!
//! What must not come in: reading archives, and names that are made up: whatever is returned stands in a table.

use crate::archive::record::{FolderRow, Table};
use crate::cyrus::names::{MailboxName, Namespace, Naming, Owner, View};
use crate::cyrus::utf7;
use crate::error::Error;
use crate::escape::Shown;
use crate::lacking::{self, Lacking};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

/// How many names are offered in the place of one that is not there.
const NEAREST_MAX: usize = 3;
/// How many characters of a name are compared to find the nearest.
const COMPARED_MAX: usize = 64;

/// The row of the folder that is meant. Refused if there is none, if the snapshot lacks it, or if it may be one of several.
pub fn find<'t>(owner: &Owner, table: &'t Table, asked: &[u8]) -> Result<&'t FolderRow, Error> {
    let name = resolve(owner, table, asked)?;
    if let Some(row) = name.as_ref().and_then(|name| table.folder(name)) {
        return Ok(row);
    }
    let asked_shown = Shown(asked);
    let lacking = lacking::folders(table).into_iter().find(|lacking| Some(&lacking.folder) == name.as_ref());
    Err(Error::Refused(match lacking {
        Some(Lacking { why, next, .. }) => format!("this snapshot lacks the folder `{asked_shown}`: {why}; {next}"),
        None => {
            let nearest = nearest(owner, table, asked);
            format!("there is no folder `{asked_shown}` in this snapshot{nearest}; `cylinder list USER` lists all")
        }
    }))
}

/// The name in the archive of the folder that is meant, be it in the snapshot or lacking; `None` if there is none. Refused if
/// it may be one of several.
///
/// The name in the archive goes before all others, then the same with its modified UTF-7 decoded. Then come the names that the
/// server shows to the user or to administrators, with `unixhierarchysep` and `altnamespace` on or off, and its internal name:
/// `Projects/Roof`, `inbox`, `user/anna/Sent`, `user.anna.Sent`.
pub fn resolve(owner: &Owner, table: &Table, asked: &[u8]) -> Result<Option<Vec<u8>>, Error> {
    let names: BTreeSet<&[u8]> = all(table).collect();
    if names.contains(asked) {
        return Ok(Some(asked.to_vec()));
    }
    if let Some(name) = names.iter().find(|name| utf7::decode(name).as_bytes() == asked) {
        return Ok(Some(name.to_vec()));
    }
    let meant: BTreeSet<Vec<u8>> = readings(owner, asked).into_iter().filter(|name| names.contains(&name[..])).collect();
    if meant.len() > 1 {
        let all: Vec<String> = meant.iter().map(|name| format!("`{}`", shown(name))).collect();
        let asked = Shown(asked);
        return Err(Error::Refused(format!("`{asked}` may be {}: name the folder as one of these", all.join(" or "))));
    }
    Ok(meant.into_iter().next())
}

/// The names that are nearest to one that is not there, as a part of a sentence; empty if none is near.
pub fn nearest(owner: &Owner, table: &Table, asked: &[u8]) -> String {
    let plain = |name: &[u8]| {
        let text = shown(name).to_lowercase();
        let text = text.strip_prefix("inbox.").unwrap_or(&text);
        text.chars().map(|c| if c == '/' { '.' } else { c }).take(COMPARED_MAX).collect::<Vec<char>>()
    };
    // What was asked for as the archive would call it, if it can be read in any way.
    let wanted: BTreeSet<Vec<char>> = readings(owner, asked).iter().map(|name| plain(name)).chain([plain(asked)]).collect();
    let mut ranked = BTreeMap::new();
    for name in all(table) {
        let near = plain(name);
        if let Some(rank) = wanted.iter().filter_map(|wanted| rank(wanted, &near)).min() {
            ranked.insert((rank, name), ());
        }
    }
    let names: Vec<String> = ranked.keys().take(NEAREST_MAX).map(|(_, name)| format!("`{}`", shown(name))).collect();
    match names.len() {
        0 => String::new(),
        1 => format!("; the nearest name is {}", names[0]),
        _ => format!("; the nearest names are {}", names.join(", ")),
    }
}

/// How far two names are from each other; `None` if that is too far.
fn rank(wanted: &[char], near: &[char]) -> Option<usize> {
    let limit = (wanted.len() / 3).clamp(1, 8);
    let last = |name: &[char]| name.rsplit(|c| *c == '.').next().map(<[char]>::to_vec).unwrap_or_default();
    if wanted.len().abs_diff(near.len()) <= limit {
        let distance = distance(wanted, near);
        if distance <= limit {
            return Some(distance);
        }
    }
    // The same last component elsewhere, or one that begins with the other.
    let (one, other) = (last(wanted), last(near));
    let is_alike = one.len().min(other.len()) > 2 && (one.starts_with(&other) || other.starts_with(&one));
    is_alike.then(|| limit + 1 + one.len().abs_diff(other.len()))
}

/// The least number of characters to be inserted, removed or replaced (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The names in the archive of all that this may mean, whether it is there or not.
fn readings(owner: &Owner, asked: &[u8]) -> Vec<Vec<u8>> {
    let naming = Naming::default();
    let mut spellings = vec![asked.to_vec()];
    if let Ok(text) = core::str::from_utf8(asked) {
        spellings.push(utf7::encode(text));
    }
    let views = match owner {
        Owner::User(userid) => vec![View::User(userid), View::Admin],
        Owner::Shared => vec![View::Admin, View::User(b"anyone")],
    };
    let mut read: Vec<MailboxName> = Vec::new();
    for spelling in &spellings {
        // What cannot be read in one way may be readable in another.
        read.extend(naming.parse_internal(spelling));
        for (slash, alt) in [(true, true), (true, false), (false, true), (false, false)] {
            let namespace = namespace(slash, alt);
            read.extend(views.iter().filter_map(|view| naming.parse_external(&namespace, *view, spelling).ok()));
        }
    }
    let own = read.into_iter().filter(|name| name.owner() == *owner);
    own.map(|name| naming.relative(&name)).collect()
}

/// A namespace with the prefixes that Cyrus has by default.
fn namespace(slash: bool, alt: bool) -> Namespace {
    Namespace {
        slash,
        alt,
        domains: true,
        user_prefix: b"Other Users".to_vec(),
        shared_prefix: b"Shared Folders".to_vec(),
        alt_prefix: b"Alt Folders".to_vec(),
    }
}

/// The names of all folders that the snapshot has or is known to lack.
fn all(table: &Table) -> impl Iterator<Item = &[u8]> {
    table.folders.iter().map(|row| &row.name[..]).chain(table.lacking.iter().map(|row| &row.name[..]))
}

/// A name as people read it, escaped.
fn shown(name: &[u8]) -> String {
    crate::escape::shown(utf7::decode(name).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[&str]) -> Table {
        let row = |name: &&str| FolderRow { name: name.as_bytes().to_vec(), ..FolderRow::default() };
        let mut folders: Vec<FolderRow> = names.iter().map(row).collect();
        folders.sort_by(|a, b| a.name.cmp(&b.name));
        Table { folders, ..Table::default() }
    }

    const ANNA: [&str; 9] = [
        "INBOX",
        "INBOX.Projects.Roof",
        "INBOX.Sent",
        "INBOX.Entw&APw-rfe",
        "INBOX.a.b",
        "INBOX.a^b",
        "INBOX.v1^0",
        "DELETED.Old.6B047E5B",
        "INBOX.INBOX.deep",
    ];

    fn found(owner: &str, names: &[&str], asked: &str) -> Result<String, String> {
        let owner = if owner == "%shared" { Owner::Shared } else { Owner::User(owner.as_bytes().to_vec()) };
        let table = table(names);
        let row = find(&owner, &table, asked.as_bytes());
        row.map(|row| String::from_utf8_lossy(&row.name).into_owned()).map_err(|error| format!("{error}"))
    }

    #[test]
    fn folders_are_found_by_every_name_that_the_server_shows() {
        for (asked, name) in [
            ("INBOX", "INBOX"),
            ("inbox", "INBOX"),
            ("user/anna", "INBOX"),
            ("user.anna", "INBOX"),
            ("Projects/Roof", "INBOX.Projects.Roof"),
            ("Projects.Roof", "INBOX.Projects.Roof"),
            ("inbox/Projects/Roof", "INBOX.Projects.Roof"),
            ("Inbox.Projects.Roof", "INBOX.Projects.Roof"),
            ("Sent", "INBOX.Sent"),
            ("user/anna/Sent", "INBOX.Sent"),
            ("user.anna.Sent", "INBOX.Sent"),
            ("Other Users/anna/Sent", "INBOX.Sent"),
            ("Entw\u{fc}rfe", "INBOX.Entw&APw-rfe"),
            ("user/anna/Entw\u{fc}rfe", "INBOX.Entw&APw-rfe"),
            ("Entw&APw-rfe", "INBOX.Entw&APw-rfe"),
            ("INBOX.a.b", "INBOX.a.b"),
            ("a/b", "INBOX.a.b"),
            ("INBOX/a.b", "INBOX.a^b"),
            ("a^b", "INBOX.a^b"),
            ("v1.0", "INBOX.v1^0"),
            ("user/anna/v1.0", "INBOX.v1^0"),
            ("DELETED/user/anna/Old/6B047E5B", "DELETED.Old.6B047E5B"),
            ("DELETED.user.anna.Old.6B047E5B", "DELETED.Old.6B047E5B"),
            ("INBOX/deep", "INBOX.INBOX.deep"),
        ] {
            assert_eq!(found("anna", &ANNA, asked), Ok(String::from(name)), "{asked}");
        }
        let names = ["INBOX", "INBOX.Sent"];
        for asked in ["user/bob.smith/Sent@other.net", "other.net!user.bob^smith.Sent", "user.bob^smith.Sent@other.net", "Sent"]
        {
            assert_eq!(found("bob.smith@other.net", &names, asked), Ok(String::from("INBOX.Sent")), "{asked}");
        }
        for asked in ["Team.Plans", "Team/Plans", "Shared Folders/Team/Plans"] {
            assert_eq!(found("%shared", &["Team.Plans"], asked), Ok(String::from("Team.Plans")), "{asked}");
        }
    }

    #[test]
    fn a_name_that_may_be_two_folders_is_refused_with_both() {
        let error = found("anna", &ANNA, "a.b").expect_err("two");
        assert!(error.contains("`a.b` may be `INBOX.a.b` or `INBOX.a^b`"), "{error}");
    }

    #[test]
    fn folders_of_others_are_not_meant_and_the_nearest_names_are_offered() {
        let nearest = |asked| found("anna", &ANNA, asked).expect_err(asked);
        for (asked, near) in [
            ("sent", "the nearest name is `INBOX.Sent`;"),
            ("user/bob/Sent", "the nearest name is `INBOX.Sent`;"),
            ("Sent Items", "the nearest name is `INBOX.Sent`;"),
            ("Porjects/Roof", "the nearest name is `INBOX.Projects.Roof`;"),
            ("Roof", "the nearest name is `INBOX.Projects.Roof`;"),
            ("Entwurfe", "the nearest name is `INBOX.Entw\u{fc}rfe`;"),
        ] {
            assert!(nearest(asked).contains(near), "{asked}: {}", nearest(asked));
        }
        assert!(nearest("Nowhere").starts_with("there is no folder `Nowhere` in this snapshot; `cylinder list USER`"));
        let many: Vec<String> = (0..9).map(|n| format!("INBOX.Archive{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let error = found("anna", &many, "Archive").expect_err("none");
        assert!(error.contains("names are `INBOX.Archive0`, `INBOX.Archive1`, `INBOX.Archive2`; "), "{error}");
        for odd in ["", ".", "/", "..", "INBOX..x", "a\0b", "\u{7f}", "&"] {
            assert!(found("anna", &ANNA, odd).is_err(), "{odd:?}");
        }
    }

    #[test]
    fn the_distance_is_that_of_levenshtein() {
        let of = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!([of("", ""), of("abc", ""), of("kitten", "sitting"), of("flaw", "lawn")], [0, 3, 3, 2]);
    }
}
