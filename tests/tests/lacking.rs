//! What a snapshot is known to lack is named by all who read it, and nobody calls it good.

use cylinder_core::archive::member::Kind;
use cylinder_core::archive::record::{FileRow, FolderRow, Lack, LackingRow, Slot, Table};
use cylinder_core::guid::Guid;
use cylinder_core::io::Tuple;
use cylinder_tests::forge::Forge;
use cylinder_tests::proof::{Store, err, out, run_for};
use cylinder_tests::spool::Spool;
use serde_json::Value;
use std::fs;

const MAIL: &[u8] = b"From: a@example.org\r\nSubject: 1\r\n\r\nbody\r\n";

fn lacking(name: &[u8], why: Lack) -> LackingRow {
    LackingRow { name: name.to_vec(), why, id: None }
}

/// A store whose user anna has one message in INBOX, and whose newest snapshot lacks what `rows` say.
fn store(rows: Vec<LackingRow>) -> Store {
    let store = Store::new();
    let mut spool = Spool::create(&store.beside("root"), "anna", 1).expect("a spool");
    spool.deliver("INBOX", MAIL).expect("a message");
    spool.save().expect("an index");
    run_for(&mut store.backup(spool.root(), "anna"), 0);
    let mut forge = Forge::new();
    forge.message(MAIL);
    let mut row = FolderRow { name: b"INBOX".to_vec(), id: b"id0".to_vec(), exists: 1, ..FolderRow::default() };
    row.entry = b"%(A %(anna lrs) I id0 P default V 1 T e)".to_vec();
    for file in ["cyrus.header", "cyrus.index"] {
        let content = fs::read(spool.folder_dir("INBOX").join(file)).expect("a file");
        let at = Slot::At(forge.file(Kind::Meta, format!("folders/id0/{file}").as_bytes(), &content));
        row.files.push(FileRow { name: file.to_owned(), tuple: Tuple::default(), sha1: Guid::of(&content), at });
    }
    forge.snapshot(&Table { folders: vec![row.clone()], ..Table::default() });
    forge.snapshot(&Table { folders: vec![row], lacking: rows, ..Table::default() });
    fs::write(store.archive("anna"), forge.finish()).expect("an archive");
    store
}

fn all_kinds() -> Store {
    store(vec![
        lacking(b"INBOX", Lack::Unreadable),
        lacking(b"INBOX.Lost", Lack::IndexLost),
        lacking(b"INBOX.Lost.M&APw-ll", Lack::NotSaved),
        lacking(b"INBOX.\x1b[2J", Lack::Other(String::from("of-a-later-version"))),
        lacking(b"DELETED.Old.6B047E5B", Lack::NotSaved),
    ])
}

#[test]
fn log_list_and_verify_name_what_a_snapshot_lacks() {
    let store = all_kinds();
    let log = out(&run_for(&mut store.command(&["log", "anna"]), 0));
    let list = out(&run_for(&mut store.command(&["list", "anna"]), 0));
    let verify = out(&run_for(&mut store.command(&["verify", "anna"]), 3));
    let quick = out(&run_for(&mut store.command(&["verify", "anna", "--quick"]), 3));
    for (text, said) in [(&log, "LACKS "), (&list, "LACKING  "), (&verify, " lacks "), (&quick, " lacks ")] {
        for name in ["INBOX: ", "INBOX.Lost: ", "INBOX.Lost.M&APw-ll", "INBOX.\\x1b[2J: ", "DELETED.Old.6B047E5B: "] {
            assert!(text.lines().any(|line| line.contains(&format!("{said}{name}"))), "{said}{name}: {text}");
        }
        assert!(!text.contains("good") && !text.contains('\x1b'), "{text}");
    }
    assert_eq!(log.matches("LACKS").count(), 5, "the snapshot before lacks nothing: {log}");
    let old = out(&run_for(&mut store.command(&["list", "anna", "--at", "1"]), 0));
    assert!(!old.contains("LACKING"), "{old}");
    let json = out(&run_for(&mut store.command(&["verify", "anna", "--json"]), 3));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["good"], &json["lacking_snapshots"], &json["next"]), (&false.into(), &1.into(), &Value::Null));
    assert_eq!(json["lacking"].as_array().map(Vec::len), Some(5), "{json}");
}

#[test]
fn restores_of_what_a_snapshot_lacks_name_it_and_end_with_3() {
    let store = all_kinds();
    let restore = |words: &[&str], n: &str, code: i32| {
        let mut command = store.command(&["restore", "anna"]);
        command.args(words).arg("--dir").arg(store.beside(n));
        err(&run_for(&mut command, code))
    };
    let all = restore(&["--all"], "all", 3);
    assert_eq!(all.matches("FAILED INBOX").count(), 4, "deleted folders were not asked for: {all}");
    assert!(all.contains("older state"), "{all}");
    assert_eq!(restore(&["--all", "--dry-run"], "dry", 3), all);
    let every = restore(&["--all", "--format", "cyrus"], "cyrus", 3);
    assert_eq!(every.matches("FAILED ").count(), 5, "{every}");
    assert_eq!(restore(&["INBOX.Lost"], "one", 3).matches("FAILED INBOX.Lost: ").count(), 1);
    let people = "INBOX.Lost.M\u{fc}ll";
    assert_eq!(restore(&[people, "INBOX"], "two", 3).matches("FAILED ").count(), 2);
    let below = restore(&["--subtree", "INBOX.Lost"], "tree", 3);
    assert_eq!(below.matches("FAILED ").count(), 2, "{below}");
    assert!(restore(&["INBOX.Never"], "none", 1).contains("there is no folder"));
    restore(&["--all", "--at", "1"], "before", 0);
    for stream in ["--tar", "--zip"] {
        let ran = run_for(&mut store.command(&["restore", "anna", "--all", stream]), 3);
        assert_eq!(err(&ran).matches("FAILED INBOX").count(), 4, "{stream}");
    }
    let disk = store.beside("disk");
    fs::create_dir_all(disk.join("etc")).expect("a directory");
    fs::copy(store.beside("root/etc/imapd.conf"), disk.join("etc/imapd.conf")).expect("a file");
    for dry in [&["--dry-run"][..], &[]] {
        let mut command = store.command(&["restore", "anna", "--all", "--cyrus", "3.6", "--spool"]);
        let said = err(&run_for(command.arg(&disk).args(dry), 3));
        assert_eq!(said.matches("FAILED ").count(), 5, "{said}");
    }
}

/// Without these lines nothing of an archive is another than it was.
#[test]
fn a_snapshot_that_lacks_nothing_is_good() {
    let store = store(Vec::new());
    let verify = out(&run_for(&mut store.command(&["verify", "anna"]), 0));
    assert!(verify.contains("anna: good: "), "{verify}");
}
