//! The sample spool: that git gave back what the server wrote, and that what its tools print is what the files say.

use cylinder_core::cyrus::conf::{Conf, VersionLine};
use cylinder_core::guid::Guid;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sample")
}

fn expected(name: &str) -> String {
    let path = sample().join("expected").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A path that the server knows, below the sample.
fn inside(path: &str) -> PathBuf {
    sample().join(path.trim_start_matches('/'))
}

/// What mbexamine says of one mailbox.
struct Examined {
    dir: PathBuf,
    guids: BTreeMap<u32, String>,
}

/// Reads `Examining user/anna... Mailbox Header Info:`, the path, and UID and GUID of each record. By external name.
fn examined() -> BTreeMap<String, Examined> {
    let mut mailboxes = BTreeMap::new();
    let text = expected("mbexamine.txt");
    for section in text.split("Examining ").skip(1) {
        let (name, rest) = section.split_once("... ").expect("a mailbox name");
        let after = |line: &str, mark: &str| -> Option<String> {
            let (_, value) = line.split_once(mark)?;
            Some(value.split_whitespace().next()?.to_owned())
        };
        let dir = rest.lines().find_map(|line| after(line, "Path to mailbox: ")).expect("a path");
        let uids = rest.lines().filter_map(|line| after(line, "> UID:")?.parse().ok());
        let guids = rest.lines().filter_map(|line| after(line, " GUID:"));
        mailboxes.insert(name.to_owned(), Examined { dir: inside(&dir), guids: uids.zip(guids).collect() });
    }
    mailboxes
}

#[test]
fn every_file_that_the_server_names_is_there_with_its_sha1() {
    let mailboxes = examined();
    let mut messages = 0;
    for (name, mailbox) in &mailboxes {
        for file in ["cyrus.header", "cyrus.index"] {
            assert!(mailbox.dir.join(file).is_file(), "{name}: {} has no {file}", mailbox.dir.display());
        }
        for (uid, guid) in &mailbox.guids {
            let content = fs::read(mailbox.dir.join(format!("{uid}."))).unwrap_or_else(|e| panic!("{name} UID {uid}: {e}"));
            assert_eq!(Guid::of(&content).to_hex(), *guid, "{name} UID {uid}");
            messages += 1;
        }
    }
    let listed = expected("mboxlist.txt").lines().filter(|l| l.contains("\"partition\"")).count();
    assert_eq!(mailboxes.len(), listed);
    let told = expected("messages.tsv").lines().count();
    let unseen_by_imap = mailboxes.iter().filter(|(name, _)| name.starts_with("DELETED") || name.ends_with("#sieve"));
    assert_eq!(messages, told + unseen_by_imap.map(|(_, m)| m.guids.len()).sum::<usize>());
}

#[test]
fn what_imap_says_of_the_messages_is_in_the_files() {
    let mailboxes = examined();
    for line in expected("messages.tsv").lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [name, uid, _, _, size, sha1] = fields[..] else { panic!("{line}") };
        let external = name.replace('.', "/").replace('^', ".");
        let mailbox = &mailboxes[&external];
        assert_eq!(mailbox.guids[&uid.parse().expect("a UID")], sha1, "{line}");
        let len = fs::metadata(mailbox.dir.join(format!("{uid}."))).expect("the file of a message").len();
        assert_eq!(len.to_string(), size, "{line}");
    }
}

#[test]
fn the_sample_holds_what_its_page_promises() {
    let mailboxes = examined();
    let inbox = &mailboxes["user/anna"];
    assert!(!inbox.guids.contains_key(&4), "UID 4 is expunged");
    assert!(inbox.dir.join("4.").is_file(), "and its file is there");
    assert!(expected("expunged.txt").starts_with("UID: 4\n"));
    assert_eq!(mailboxes["user/anna/Work/Invoices 2025"].guids[&1], inbox.guids[&2]);
    assert!(mailboxes.keys().any(|name| name.starts_with("DELETED/user/anna/Old projects/")));
    for script in
        ["b/bob.smith", inbox.dir.strip_prefix(inside("/var/spool/cyrus/mail")).expect("below").to_str().expect("text")]
    {
        let link = inside("/var/spool/sieve").join(script).join("defaultbc");
        let target = fs::read_link(&link).unwrap_or_else(|e| panic!("{}: {e}", link.display()));
        assert!(link.with_file_name(target).is_file(), "{} leads nowhere", link.display());
    }
}

#[test]
fn the_configuration_names_only_what_is_in_the_sample() {
    let text = fs::read(sample().join("etc/imapd.conf")).expect("imapd.conf");
    let conf = Conf::from_text(&text, VersionLine::V3_6).expect("imapd.conf is well formed");
    for key in ["configdirectory", "partition-default", "partition-news", "sievedir"] {
        let path = conf.option(key).unwrap_or_else(|| panic!("no {key}"));
        let path = std::str::from_utf8(path).expect("text");
        assert!(path.starts_with('/') && inside(path).is_dir(), "{key}: {path}");
    }
}
