//! Every change of `e2e_changes.rs` again, on the user whom the benchmarks have: 20,000 messages in 60 folders of a real
//! server.
//!
//! Needs root and `tests/lab/cyrus-lab install 3.6`, and some ten minutes, most of them to load the user:
//! `cargo test --release --package cylinder-tests --test e2e_benchmark_user -- --ignored`.

use cylinder_tests::cli::{Bench, arrival, message};
use cylinder_tests::lab::{Lab, Version};
use std::process::Command;

/// Runs the loader of the benchmarks.
#[track_caller]
fn load(lab: &Lab, more: &[&str]) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/loadspool.py");
    let port = lab.port("imap").to_string();
    let whom = ["--host", lab.host(), "--port", &port, "--user", "anna", "--messages", "20000", "--folders", "60"];
    let output = Command::new("python3").arg(script).args(whom).args(more).output().expect("python3 runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A folder that has a child, by the names that the loader gives: `F04/Sub 5`.
const PARENT: &str = "F04";

#[test]
#[ignore = "loads 20,000 messages into a server"]
fn every_change_to_the_benchmark_user_is_saved_once() {
    let mut bench = Bench::start(Version::V3_6, &[("conversations", "no")]);
    load(&bench.lab, &[]);
    let full = bench.backup().told;
    let mailboxes = bench.imap.list("*");
    let messages: u64 = mailboxes.iter().map(|mailbox| bench.imap.status(&mailbox.name).messages).sum();
    assert_eq!((messages, &full["folders"]), (20_000, &60.into()), "{full}");

    load(&bench.lab, &["--batch", "1"]);
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 50);
    assert_eq!(news.entries, ["50 files/*", "5 folders/*/cyrus.index"]);

    // Flags that change in the second in which the backup has ended.
    for round in 0..20 {
        let sign = if round % 2 == 0 { '+' } else { '-' };
        bench.imap.ok("SELECT INBOX");
        bench.imap.ok(format!("UID STORE {} {sign}FLAGS (\\Flagged $Round)", 1 + round / 2));
        bench.cylinder.backup_well("anna");
        let archived: Vec<_> = bench.cylinder.messages("anna", "INBOX", false).into_iter().map(|l| l.message).collect();
        assert_eq!(archived, bench.imap.fetch("INBOX"), "round {round}");
    }
    bench.imap.unselect();
    bench.backup();

    // The folder and the one below it, each with both names: the old one, which is gone, and the new one.
    bench.imap.rename(PARENT, "Projects");
    let news = bench.backup();
    assert_eq!(
        (&news.told["messages_added"], &news.told["names_new"], &news.told["names_gone"]),
        (&0.into(), &2.into(), &2.into())
    );
    assert_eq!(news.entries.iter().filter(|name| name.starts_with("imap/")).count(), 4, "{news:?}");

    bench.imap.delete("F02");
    let news = bench.backup();
    assert_eq!(news.told["messages_added"], 0);
    assert!(bench.cylinder.folders("anna").iter().any(|f| f.name.starts_with("DELETED.F02.")), "{news:?}");

    bench.imap.copy("INBOX", "1:100", "F01");
    assert_eq!(bench.backup().told["messages_added"], 0);

    bench.imap.append("INBOX", &[], arrival(7), &message(7));
    bench.imap.expunge("INBOX", "1:50");
    bench.imap.unselect();
    assert_eq!(bench.backup().told["messages_added"], 1);
    assert_eq!(bench.cylinder.folder("anna", "INBOX").expunged, 50);

    bench.imap.subscribe("F01");
    assert_eq!(bench.backup().entries, ["meta/sub"]);

    bench.lab.put_script("anna", "main", "require [\"fileinto\"];\r\nif true { fileinto \"F01\"; }\r\n", true);
    let news = bench.backup();
    assert!(news.entries.contains(&"sieve/main.bc".to_owned()), "{news:?}");
    bench.cylinder.verify("anna");
}
