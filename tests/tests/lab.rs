//! The lab itself: that a real server runs, takes mail, gives it back and ends. What fails here is no fault of Cylinder.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`.

use cylinder_core::time::Time;
use cylinder_tests::lab::{Lab, Version};
use std::net::TcpStream;
use std::path::Path;

const MESSAGE: &[u8] =
    b"From: anna@example.org\r\nSubject: one\r\nMessage-ID: <1@example.org>\r\n\r\nFirst line.\r\n{3}\r\n)\r\n";

/// Appends a message, reads it back and finds its file in the spool.
fn serves_an_append(lab: &Lab) {
    let mut imap = lab.new_user("anna");
    let date = Time::from_secs(1_646_121_601);
    let uid = imap.append("INBOX", &["\\Seen", "$Label1"], date, MESSAGE);
    let messages = imap.fetch("INBOX");
    assert_eq!(messages.len(), 1);
    let found = &messages[0];
    assert_eq!((found.uid, found.internal_date, found.size), (uid, date, MESSAGE.len() as u64));
    assert_eq!(found.flags, ["$Label1", "\\Seen"]);
    assert_eq!(imap.body("INBOX", uid), MESSAGE);
    let listed: Vec<String> = imap.list("*").into_iter().map(|l| l.name).collect();
    assert_eq!(listed, ["INBOX"]);
    let path = lab.run("mbpath", &["user/anna"]);
    let file = lab.outside(path.trim()).join(format!("{uid}."));
    let stored = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert_eq!(stored, MESSAGE);
    imap.logout();
}

#[test]
fn a_server_takes_a_message_and_gives_it_back() {
    let lab = Lab::start(Version::V3_6, &[]);
    assert!(lab.release().starts_with("3.6."), "{}", lab.release());
    assert_eq!(lab.root(), Path::new("/"));
    serves_an_append(&lab);
}

#[test]
fn a_stopped_server_keeps_its_data_and_a_dropped_one_leaves_nothing() {
    let mut lab = Lab::start(Version::V3_6, &[]);
    serves_an_append(&lab);
    let (host, port) = (lab.host().to_owned(), lab.port("imap"));
    lab.stop();
    assert!(TcpStream::connect((&host[..], port)).is_err(), "{host}:{port} still answers");
    lab.start_again(&[("servername", "again.example.org")]);
    assert_eq!(lab.login("anna").status("INBOX").messages, 1);
    let (host, dir) = (lab.host().to_owned(), lab.outside(lab.dir()));
    drop(lab);
    assert!(TcpStream::connect((&host[..], port)).is_err(), "{host}:{port} still answers");
    assert!(!dir.exists(), "{} is left", dir.display());
}

#[test]
fn two_servers_with_different_options_run_at_once() {
    let by_id = Lab::start(Version::V3_6, &[]);
    let by_name = Lab::start(
        Version::V3_6,
        &[
            ("mailbox_legacy_dirs", "yes"),
            ("metapartition_files", "header index cache"),
            ("metapartition-default", "{dir}/meta"),
        ],
    );
    assert_ne!(by_id.host(), by_name.host());
    serves_an_append(&by_id);
    serves_an_append(&by_name);
    let named = by_name.outside(by_name.dir());
    assert!(named.join("meta/a/user/anna/cyrus.index").is_file());
    assert!(named.join("spool/a/user/anna/1.").is_file());
    assert!(by_id.outside(by_id.dir()).join("spool/uuid").is_dir());
}

#[test]
fn the_helpers_do_what_they_say() {
    let lab = Lab::start(Version::V3_6, &[]);
    let mut anna = lab.new_user("anna");
    anna.create("Work/a.b");
    anna.create_special("Sent", "\\Sent");
    anna.create("Old");
    anna.rename("Old", "Older");
    for n in 0..4 {
        let text = format!("Subject: {n}\r\n\r\nBody {n}\r\n");
        anna.append("INBOX", &[], Time::from_secs(1_700_000_000 + n), text.as_bytes());
    }
    anna.store("INBOX", "1:2", "+FLAGS (\\Flagged Custom)");
    anna.copy("INBOX", "1", "Work/a.b");
    anna.uid_move("INBOX", "2", "Older");
    anna.expunge("INBOX", "3");
    anna.set_annotation("INBOX", "1", "/comment", "value.priv", "mine");
    anna.unselect();
    anna.set_metadata("Sent", "/private/comment", "two\r\nlines {5}".as_bytes());
    anna.set_acl("Sent", "bob", "lrs");
    anna.subscribe("Sent");
    anna.delete("Older");

    let uids: Vec<u32> = anna.fetch("INBOX").iter().map(|m| m.uid).collect();
    assert_eq!(uids, [1, 4]);
    assert_eq!(anna.fetch("Work/a.b")[0].flags, ["Custom", "\\Flagged"]);
    let status = anna.status("INBOX");
    assert_eq!((status.messages, status.uidnext, status.unseen), (2, 5, 2));
    assert!(status.highestmodseq > 0 && status.uidvalidity > 0, "{status:?}");
    let sent = anna.list("Sent");
    assert!(sent[0].attributes.contains(&"\\Sent".to_owned()), "{sent:?}");
    assert_eq!(anna.subscribed()[0].name, "Sent");
    let comment = anna.ok("GETMETADATA Sent /private/comment");
    assert_eq!(format!("{:?}", comment.untagged), r#"[[METADATA, Sent, ["/private/comment", "two\r\nlines {5}"]]]"#);
    assert!(lab.login("bob").list("*").iter().any(|l| l.name == "Other Users/anna/Sent" || l.name == "user/anna/Sent"));

    let mut admin = lab.login("cyrus");
    admin.set_quota("user/anna", "STORAGE 1024");
    assert!(admin.list("DELETED/*")[0].name.starts_with("DELETED/user/anna/Older/"));
    lab.put_script("anna", "main", "require [\"fileinto\"];\r\nif true { fileinto \"Work\"; }\r\n", true);
    assert!(lab.run("ctl_mboxlist", &["-d"]).contains("Work"));
    let refused = lab.output("ctl_mboxlist", &["-Z"]);
    assert!(!refused.status.success());
}

#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.2 3.10 3.12`: minutes, and some 1.5 GB"]
fn every_version_serves_an_append_below_its_root() {
    let labs = Version::ALL.map(|version| Lab::start(version, &[]));
    for (lab, version) in labs.iter().zip(Version::ALL) {
        assert!(lab.release().starts_with(&format!("{}.", version.name())), "{}", lab.release());
        assert!(lab.outside(lab.conf()).is_file(), "{}", lab.conf());
        serves_an_append(lab);
        lab.put_script("anna", "main", "keep;\r\n", true);
    }
}
