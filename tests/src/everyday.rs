//! What happens to a user in everyday life, done over IMAP to any version and any layout of a server, with a backup after each
//! step.
//!
//! What must not come in: what only one version or one layout can do.

use crate::cli::{Bench, append_many, message, shows, spool_dir};
use std::path::PathBuf;

/// Lives through everything, and finds after each step that the archive agrees with IMAP and that nothing was stored twice.
#[track_caller]
pub fn everyday(bench: &mut Bench) {
    let [work, child, projects, sent] =
        [&["Work"][..], &["Work", "x-y"], &["Projects"], &["Sent"]].map(|parts| bench.external(parts));
    for mailbox in [&work, &child, &sent] {
        bench.imap.create(mailbox);
    }
    append_many(&mut bench.imap, "INBOX", 0, 4);
    append_many(&mut bench.imap, &work, 4, 6);
    append_many(&mut bench.imap, &child, 6, 8);
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 8, "{news:?}");
    for (external, archived) in [("INBOX", "INBOX"), (&work, "INBOX.Work"), (&child, "INBOX.Work.x-y")] {
        let place = message_dir(bench, archived);
        shows(&bench.cylinder, &mut bench.imap, &bench.user, external, archived, &place);
    }

    bench.imap.store("INBOX", "1:2", "+FLAGS (\\Flagged $Label1)");
    bench.imap.copy("INBOX", "1", &sent);
    bench.imap.uid_move("INBOX", "2", &sent);
    bench.imap.expunge("INBOX", "3");
    bench.imap.unselect();
    assert_eq!(bench.backup().told["messages_added"], 0);
    assert_eq!(bench.cylinder.folder(&bench.user, "INBOX").expunged, 2);

    bench.imap.rename(&work, &projects);
    let news = bench.backup();
    assert_eq!((&news.told["names_new"], &news.told["names_gone"]), (&2.into(), &2.into()), "{news:?}");
    assert_eq!(news.told["messages_added"], 0, "{news:?}");

    bench.imap.delete(&sent);
    bench.imap.create(&sent);
    append_many(&mut bench.imap, &sent, 20, 21);
    assert_eq!(bench.backup().told["messages_added"], 1);
    let deleted = bench.cylinder.folders(&bench.user).into_iter().find(|f| f.name.starts_with("DELETED.Sent."));
    assert_eq!(deleted.expect("the deleted folder").exists, 2);

    bench.imap.subscribe(&projects);
    let entries = bench.backup().entries;
    assert!(entries.contains(&"meta/sub".to_owned()), "{entries:?}");
    bench.imap.set_metadata(&projects, "/private/comment", b"mine");
    let entries = bench.backup().entries;
    assert!(entries.contains(&"folders/*/cyrus.mailbox_annotations".to_owned()), "{entries:?}");
    bench.imap.set_acl(&projects, "somebody", "lrs");
    let entries = bench.backup().entries;
    assert!(entries.contains(&"folders/*/cyrus.header".to_owned()), "{entries:?}");
    bench.lab.put_script(&bench.user, "main", "keep;\r\n", true);
    let entries = bench.backup().entries;
    assert!(entries.contains(&"sieve/defaultbc".to_owned()), "{entries:?}");

    for round in 0..5 {
        let sign = if round % 2 == 0 { '+' } else { '-' };
        bench.imap.store("INBOX", "1", &format!("{sign}FLAGS (\\Answered)"));
        bench.backup();
    }
    bench.lab.run("cyr_expire", &["-E", "1", "-X", "0"]);
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 0, "{news:?}");
    assert_eq!(bench.cylinder.folder(&bench.user, "INBOX").expunged, 0, "cyr_expire has unlinked them");
    let (user, cylinder) = (&bench.user, &bench.cylinder);
    assert_eq!(
        cylinder.show(user, &cylinder_core::guid::Guid::of(&message(2)).to_hex()),
        message(2),
        "and the archive has them"
    );
    cylinder.verify(user);
}

/// The directory of the message files of one of the user's mailboxes.
#[track_caller]
pub fn message_dir(bench: &Bench, archived: &str) -> PathBuf {
    let separator = bench.namespace().separator.to_string();
    let (local, domain) = bench.user.split_once('@').map_or((&bench.user[..], ""), |(local, domain)| (local, domain));
    let parts = archived.split('.').skip(1);
    let name: Vec<&str> = ["user", local].into_iter().chain(parts).collect();
    let at = if domain.is_empty() { String::new() } else { format!("@{domain}") };
    spool_dir(&bench.lab, &format!("{}{at}", name.join(&separator)))
}
