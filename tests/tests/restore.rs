//! Restoring into directories and files: what other people's programs find there, that nothing else is touched, and that a
//! spool comes back byte for byte.

use cylinder_core::archive::member::Kind;
use cylinder_core::archive::record::{FileRow, FolderRow, MessageAt, Slot, Table};
use cylinder_core::guid::Guid;
use cylinder_core::io::Tuple;
use cylinder_tests::forge::Forge;
use cylinder_tests::proof::{Node, Store, err, out, run_for, tool, tree};
use cylinder_tests::spool::Spool;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/sample")
}

/// A store with everybody of the sample.
fn sample_store() -> Store {
    let store = Store::new();
    let mut command = store.command(&["backup", "--all", "--offline", "--imapd-conf", "/etc/imapd.conf", "--quiet"]);
    run_for(command.arg("--root").arg(sample()), 0);
    store
}

/// A store with one user, made by `fill`.
fn store_with(fill: impl FnOnce(&mut Spool)) -> (Store, Spool) {
    let store = Store::new();
    let mut spool = Spool::create(&store.beside("root"), "anna", 1).expect("a spool");
    fill(&mut spool);
    spool.save().expect("an index");
    run_for(&mut store.backup(spool.root(), "anna"), 0);
    (store, spool)
}

fn mail(n: u32) -> Vec<u8> {
    format!("From: a@example.org\r\nMessage-ID: <{n}@example.org>\r\nSubject: {n}\r\n\r\nFrom here\r\n>From there\r\n")
        .into_bytes()
}

/// What a message of the sample is known by: its SHA-1, and the letters that Maildir has for its flags.
type Seen = BTreeSet<(String, String)>;

/// What the server said of each folder of anna, by the name in the archive.
fn expected() -> BTreeMap<String, Seen> {
    let text = fs::read_to_string(sample().join("expected/messages.tsv")).expect("the server's own words");
    let letters = [("\\Draft", 'D'), ("\\Flagged", 'F'), ("\\Answered", 'R'), ("\\Seen", 'S'), ("\\Deleted", 'T')];
    let mut folders: BTreeMap<String, Seen> = BTreeMap::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [folder, _, flags, _, _, guid] = fields[..] else { panic!("{line}") };
        let Some(rest) = folder.strip_prefix("user.anna") else { continue };
        let set = letters.iter().filter(|(flag, _)| flags.split(' ').any(|f| f == *flag)).map(|(_, letter)| letter);
        folders.entry(format!("INBOX{rest}")).or_default().insert((guid.to_owned(), set.collect()));
    }
    assert!(folders.len() > 5, "{folders:?}");
    folders
}

/// Runs Python over an export: a line `folder TAB sha1 TAB flags` for each message that its `mailbox` module finds.
fn python(script: &str, dir: &Path) -> BTreeMap<String, Seen> {
    let output = run_for(tool("python3", "python3").arg("-c").arg(script).arg(dir), 0);
    let mut folders: BTreeMap<String, Seen> = BTreeMap::new();
    for line in out(&output).lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [folder, sha1, flags] = fields[..] else { panic!("{line}") };
        folders.entry(folder.to_owned()).or_default().insert((sha1.to_owned(), flags.to_owned()));
    }
    folders
}

/// Reads the side files too, for they name each folder as the archive does.
const READ_MAILDIR: &str = r#"
import glob, hashlib, json, mailbox, os, sys
for side in glob.glob(sys.argv[1] + "/*.jsonl"):
    name = json.loads(open(side).readline())["folder"]
    box = mailbox.Maildir(side[:-len(".jsonl")], create=False)
    for key in box.keys():
        text = box.get_bytes(key).replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        print(name, hashlib.sha1(text).hexdigest(), box.get_message(key).get_flags(), sep="\t")
"#;

/// An mbox keeps neither the bytes nor the letters: those of Maildir are what Python makes of its own, and the SHA-1 comes from
/// the side file by UID.
const READ_MBOX: &str = r#"
import glob, json, mailbox, sys
for side in glob.glob(sys.argv[1] + "/*.jsonl"):
    lines = [json.loads(line) for line in open(side)]
    guids = {m["uid"]: m["guid"] for m in lines[1:]}
    box = mailbox.mbox(side[:-len("jsonl")] + "mbox", create=False)
    for message in box:
        flags = mailbox.MaildirMessage(message).get_flags()
        flags += "D" if "T" in message.get_flags() and "D" not in flags else ""
        print(lines[0]["folder"], guids[int(message["X-UID"])], "".join(sorted(flags)), sep="\t")
"#;

/// Folders that the server does not tell of over IMAP have no line in what is expected.
fn known(mut found: BTreeMap<String, Seen>) -> BTreeMap<String, Seen> {
    found.retain(|name, _| !name.contains('#'));
    found
}

#[test]
fn exports_open_in_pythons_mailbox_module_with_the_right_messages_and_flags() {
    let store = sample_store();
    for (format, script) in [("maildir", READ_MAILDIR), ("mbox", READ_MBOX)] {
        let dir = store.beside(format);
        run_for(store.command(&["restore", "anna", "--all", "--format", format, "--dir"]).arg(&dir), 0);
        assert_eq!(known(python(script, &dir)), expected(), "{format}");
    }
}

/// What s-nail lists of a mailbox: for each message the letter of its state, and the sender.
fn listed(path: &Path) -> Vec<(char, String)> {
    let mut command = tool("s-nail", "s-nail");
    let output = run_for(command.args(["-n", "-H", "-f"]).arg(path).env("LC_ALL", "C.UTF-8"), 0);
    let line = |line: &str| {
        let mut words = line.trim_start_matches('\u{25B8}').split_whitespace();
        let state = words.next().and_then(|word| word.chars().next()).expect("a state");
        (state, words.nth(1).expect("a sender").to_owned())
    };
    out(&output).lines().map(line).collect()
}

#[test]
fn exports_are_listed_by_a_mail_client_with_their_states() {
    let store = sample_store();
    let text = fs::read_to_string(sample().join("expected/messages.tsv")).expect("the server's own words");
    for format in ["maildir", "mbox"] {
        let dir = store.beside(format);
        run_for(store.command(&["restore", "anna", "--all", "--format", format, "--dir"]).arg(&dir), 0);
        for (folder, file) in [("user.anna", "INBOX"), ("user.anna.Sent", "INBOX.Sent"), ("user.anna.Work", "INBOX.Work")] {
            let mut expected = String::new();
            for line in text.lines().filter(|line| line.split('\t').next() == Some(folder)) {
                let flags: Vec<&str> = line.split('\t').nth(2).unwrap_or_default().split(' ').collect();
                // It leaves out what a Maildir calls trashed.
                if format == "mbox" || !flags.contains(&"\\Deleted") {
                    let states = [("\\Answered", 'A'), ("\\Flagged", 'F'), ("\\Seen", 'O')];
                    let state = states.iter().find(|(flag, _)| flags.contains(flag));
                    expected.push(state.map_or('U', |(_, letter)| *letter));
                }
            }
            let file = if format == "mbox" { format!("{file}.mbox") } else { file.to_owned() };
            let found = listed(&dir.join(file));
            let states: String = found.iter().map(|(state, _)| *state).collect();
            assert_eq!(states, expected, "{format}: {folder}: {found:?}");
            assert!(found.iter().all(|(_, sender)| sender.contains("@example")), "{found:?}");
        }
    }
}

#[test]
fn tar_and_zip_files_hold_the_same_as_a_directory() {
    let store = sample_store();
    let dir = store.beside("dir");
    run_for(store.command(&["restore", "anna", "--all", "--dir"]).arg(&dir), 0);
    let plain: BTreeMap<String, Option<Guid>> = tree(&dir).into_iter().map(|(name, node)| (name, node.sha1())).collect();
    for (option, script) in [
        ("--tar", "import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2], filter='data')"),
        ("--zip", "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1]); assert not z.testzip(); z.extractall(sys.argv[2])"),
    ] {
        let (file, unpacked) = (store.beside("stream"), store.beside(&format!("unpacked{option}")));
        let output = run_for(&mut store.command(&["restore", "anna", "--all", option]), 0);
        fs::write(&file, &output.stdout).expect("a file");
        run_for(tool("python3", "python3").arg("-c").arg(script).arg(&file).arg(&unpacked), 0);
        let found: BTreeMap<String, Option<Guid>> =
            tree(&unpacked).into_iter().map(|(name, node)| (name, node.sha1())).collect();
        // No name in a zip file has a colon; see core/RESTORE.md.
        let name = |name: &String| if option == "--zip" { name.replace(':', "!") } else { name.clone() };
        let expected: BTreeMap<String, Option<Guid>> = plain.iter().map(|(path, sha1)| (name(path), *sha1)).collect();
        assert_eq!(found, expected, "{option}");
        assert!(err(&output).contains("restored 19 messages"), "{}", err(&output));
    }
}

/// A server that lost its disk: everything comes back where it was, byte for byte, with its time.
#[test]
fn a_whole_server_comes_back_byte_for_byte() {
    let store = sample_store();
    let root = store.beside("disk");
    fs::create_dir_all(root.join("etc")).expect("a directory");
    fs::copy(sample().join("etc/imapd.conf"), root.join("etc/imapd.conf")).expect("a file");
    let ran = run_for(store.command(&["restore", "--all-users", "--json", "--spool"]).arg(&root), 0);
    let told: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    let sha1s = |dir: &Path| -> BTreeMap<String, Vec<u8>> {
        let keep = |name: &String| {
            let derived = ["cyrus.cache", "conversations", ".dav", "dav.db", "xapianactive"];
            name.starts_with("var/") && !derived.iter().any(|part| name.contains(part))
        };
        let content = |node: Node| match node {
            Node::File(_, sha1, _) => sha1.0.to_vec(),
            Node::Link(target) => target,
        };
        tree(dir).into_iter().filter(|(name, _)| keep(name)).map(|(name, node)| (name, content(node))).collect()
    };
    let (was, is) = (sha1s(&sample()), sha1s(&root));
    let databases = ["mailboxes.db", "annotations.db", "cylinder-restore"];
    let is_own = |name: &str| databases.iter().any(|part| name.contains(part));
    for (name, sha1) in &was {
        // Server-wide files that belong to no user.
        let is_servers = ["shared.counters", "statuscache", "deliver.db", "tls_sessions", "user_deny", "lib/cyrus/db"];
        if !is_own(name) && !is_servers.iter().any(|part| name.contains(part)) {
            assert_eq!(is.get(name), Some(sha1), "{name}");
        }
    }
    for name in is.keys().filter(|name| !is_own(name)) {
        assert!(was.contains_key(name), "{name} was not there");
    }
    // The input for ctl_mboxlist is what ctl_mboxlist itself says, but for places that have no files.
    let written = tree(&root).into_keys().find(|name| name.ends_with("mailboxes.json")).expect("the list of mailboxes");
    let lines = |text: String| -> BTreeSet<String> {
        let entry = |line: &str| Some(line.trim_end_matches(',')).filter(|line| line.starts_with('"')).map(str::to_owned);
        let has_files = |line: &String| line.contains("\"partition\"");
        let without_history = |line: String| line.split(", \"name_history\"").next().unwrap_or_default().to_owned();
        text.lines().filter_map(entry).filter(has_files).map(without_history).collect()
    };
    let expected = fs::read_to_string(sample().join("expected/mboxlist.txt")).expect("the server's own words");
    assert_eq!(lines(fs::read_to_string(root.join(written)).expect("a file")), lines(expected));
    let commands: Vec<&str> = told["commands"].as_array().expect("commands").iter().filter_map(Value::as_str).collect();
    assert!(commands.iter().any(|c| c.starts_with("ctl_mboxlist -u < /var/lib/cyrus/cylinder-restore.")), "{commands:?}");
    assert!(commands.contains(&"quota -f user/anna") && commands.contains(&"ctl_conversationsdb -b bob.smith"), "{commands:?}");
    assert_eq!(told["failed_count"], 0, "{told}");
}

/// The administrator may have put a partition elsewhere by a link; nobody else's link is followed.
#[test]
fn links_of_the_administrator_are_followed_and_no_others() {
    let store = sample_store();
    let (root, outside) = (store.beside("disk"), store.beside("outside"));
    for dir in ["etc", "data/mail", "var/spool/cyrus"] {
        fs::create_dir_all(root.join(dir)).expect("a directory");
    }
    fs::create_dir(&outside).expect("a directory");
    fs::copy(sample().join("etc/imapd.conf"), root.join("etc/imapd.conf")).expect("a file");
    symlink("/data/mail", root.join("var/spool/cyrus/mail")).expect("a link");
    run_for(store.command(&["restore", "anna", "INBOX", "--quiet", "--spool"]).arg(&root), 0);
    assert!(root.join("data/mail/uuid/v/9/v9logyc129hx62wi8yxhwtqt/cyrus.index").is_file());
    symlink(&outside, root.join("data/mail/uuid/0")).expect("a link");
    let ran = run_for(store.command(&["restore", "anna", "INBOX.Sent", "--quiet", "--spool"]).arg(&root), 3);
    assert!(err(&ran).contains("FAILED INBOX.Sent"), "{}", err(&ran));
    assert!(tree(&outside).is_empty(), "written through a link");
}

#[test]
fn a_second_run_creates_nothing_and_leaves_other_files_alone() {
    let (store, _) = store_with(|spool| {
        for n in 0..5 {
            spool.deliver("INBOX", &mail(n)).expect("a message");
        }
        // More than is ever held in memory.
        spool.deliver("INBOX", &[mail(5), vec![b'x'; 9_000_000]].concat()).expect("a message");
    });
    for format in ["maildir", "mbox", "eml", "cyrus"] {
        let dir = store.beside(format);
        let restore = |code| {
            let mut command = store.command(&["restore", "anna", "--all", "--format", format, "--json", "--dir"]);
            let output = run_for(command.arg(&dir), code);
            serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
        };
        assert_eq!(restore(0)["messages"], 6, "{format}");
        let first = tree(&dir);
        let told = restore(0);
        assert_eq!((&told["messages"], &told["files"], &told["failed_count"]), (&0.into(), &0.into(), &0.into()), "{told}");
        assert!(tree(&dir) == first, "{format}: the second run changed something");
        // One file goes, as if the first run had been cut; one is somebody else's.
        let named = |part: &str| first.keys().find(|name| name.contains(part)).cloned();
        let lost = named("U2G").or(named("/2.eml")).or(named("/2.")).or(named(".mbox")).expect("a message file");
        fs::remove_file(dir.join(&lost)).expect("a file");
        let told = restore(0);
        assert!(told["messages"].as_u64() >= Some(1), "{format}: {told}");
        assert!(tree(&dir) == first, "{format}: the run after a cut did not finish it");
        fs::write(dir.join(&lost), "somebody else's").expect("a file");
        let told = restore(3);
        assert_eq!(told["failed_count"], 1, "{format}: {told}");
        assert_eq!(fs::read(dir.join(&lost)).expect("a file"), b"somebody else's");
    }
}

/// Another file that is as long as ours is another all the same, wherever the byte is in which they differ.
#[test]
fn a_file_of_the_same_length_is_left_alone_and_told() {
    let (store, _) = store_with(|spool| {
        spool.deliver("INBOX", &mail(1)).expect("a message");
        spool.deliver("INBOX", &[mail(2), vec![b'x'; 9_000_000]].concat()).expect("a message");
    });
    let dir = store.beside("out");
    let restore = |code| run_for(store.command(&["restore", "anna", "INBOX", "--format", "eml", "--dir"]).arg(&dir), code);
    restore(0);
    let first = tree(&dir);
    for name in first.keys().filter(|name| name.ends_with(".eml")) {
        let ours = fs::read(dir.join(name)).expect("a message");
        for at in [0, ours.len() / 2, ours.len() - 1] {
            let mut theirs = ours.clone();
            theirs[at] ^= 1;
            fs::write(dir.join(name), &theirs).expect("a file");
            let said = err(&restore(3));
            assert!(said.contains("another file of this name is there"), "{name}: byte {at}: {said}");
            assert!(fs::read(dir.join(name)).expect("a file") == theirs, "{name}: byte {at}");
        }
        fs::write(dir.join(name), &ours).expect("a file");
    }
    restore(0);
}

/// Of the sample, as the server said it (`expected/imap.txt`, `expected/anna.seen.dbtool.txt`).
#[test]
fn what_a_server_knows_of_a_user_and_of_its_folders_is_beside_the_messages() {
    let store = sample_store();
    let dir = store.beside("out");
    run_for(store.command(&["restore", "anna", "--all", "--dir"]).arg(&dir), 0);
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    let parse = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    let user = parse(&read("user/user.json"));
    let subscribed: Vec<&str> = user["subscriptions"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    let below = ["", ".Work", ".Work.B&APw-cher &- T&APY-ne", ".Work.Invoices 2025", ".Work.v1^2"];
    let own = below.map(|name| format!("user.anna{name}"));
    let names: Vec<&str> = own.iter().map(String::as_str).chain(["shared.announce", "user.bob^smith.Team"]).collect();
    assert_eq!(subscribed, names);
    assert_eq!(user["active_script"], "main");
    let quota = &user["quota"][0];
    assert_eq!((&quota["root"], &quota["S_limit"], &quota["M_used"]), (&"user.anna".into(), &10240.into(), &19.into()));
    let seen = user["seen"].as_array().expect("a list").iter().map(|seen| seen["seen"].as_str());
    assert_eq!(seen.collect::<Vec<_>>(), [Some("1"), Some("1:2,4")]);
    let of = |folder: &str| read(&format!("{folder}.jsonl")).lines().map(parse).collect::<Vec<Value>>();
    let work = of("INBOX.Work");
    assert_eq!(work[0]["acl"][1], serde_json::json!({ "identifier": "bob.smith", "rights": "lrsw" }));
    let notes: Vec<String> = work[0]["annotations"].as_array().expect("a list").iter().map(Value::to_string).collect();
    for (entry, userid, value) in
        [("comment", "anna", "mine"), ("comment", "", "for all"), ("vendor/cmu/cyrus-imapd/expire", "", "90")]
    {
        let note = serde_json::json!({ "entry": format!("/{entry}"), "userid": userid, "value": value });
        assert!(notes.contains(&note.to_string()), "{note} is not in {notes:?}");
    }
    let inbox = of("INBOX");
    let message = |uid: u32| inbox.iter().find(|line| line["uid"] == uid).unwrap_or(&Value::Null);
    assert_eq!((&inbox[0]["quota_root"], &inbox[0]["uidnext"]), (&"user.anna".into(), &9.into()));
    assert_eq!(message(2)["flags"], serde_json::json!(["\\Flagged", "\\Seen", "$Label1"]));
    let notes = serde_json::json!([
        { "entry": "/comment", "userid": "", "value": "urgent" },
        { "entry": "/comment", "userid": "anna", "value": "call back" }
    ]);
    assert_eq!(message(8)["annotations"], notes);
    assert_eq!(message(4), &Value::Null, "that one is expunged");
}

#[test]
fn an_mbox_quotes_lines_and_stands_in_the_order_of_uids() {
    let (store, mut spool) = store_with(|spool| {
        spool.create_folder("INBOX.b").expect("a folder");
        // The archive has this one first.
        spool.deliver("INBOX.b", &mail(7)).expect("a message");
    });
    spool.deliver("INBOX", &mail(1)).expect("a message");
    spool.deliver("INBOX", &mail(7)).expect("a message");
    spool.save().expect("an index");
    run_for(&mut store.backup(spool.root(), "anna"), 0);
    let dir = store.beside("out");
    run_for(store.command(&["restore", "anna", "INBOX", "--format", "mbox", "--dir"]).arg(&dir), 0);
    let text = fs::read_to_string(dir.join("INBOX.mbox")).expect("an mbox");
    let subjects: Vec<&str> = text.lines().filter(|line| line.starts_with("Subject: ")).collect();
    assert_eq!(subjects, ["Subject: 1", "Subject: 7"]);
    assert_eq!(text.matches("\n\n>From here\n>>From there\n").count(), 2, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("From ")).count(), 2, "{text}");
    assert!(!text.contains('\r') && text.ends_with("there\n\n"), "{text}");
}

#[test]
fn a_damaged_message_is_named_and_the_rest_comes_back() {
    // Each has members of its own, and cannot be deflated.
    let body =
        |n: u8| (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761 ^ u32::from(n)) >> 13) as u8 | 0x80).collect::<Vec<u8>>();
    let (store, _) = store_with(|spool| {
        for n in 1..=3 {
            spool.deliver("INBOX", &[mail(n.into()), body(n)].concat()).expect("a message");
        }
    });
    let path = store.archive("anna");
    let mut bytes = fs::read(&path).expect("an archive");
    let mut data = Vec::new();
    let mut at = 0;
    while let Ok(info) = cylinder_core::archive::member::parse_header(&bytes[at..]) {
        if info.kind == Kind::Data {
            data.push(at);
        }
        at += info.len as usize;
        if at >= bytes.len() {
            break;
        }
    }
    assert_eq!(data.len(), 3);
    bytes[data[1] + 5000] ^= 1;
    fs::write(&path, bytes).expect("an archive");
    for words in [&["--dir"][..], &["--format", "mbox", "--dir"]] {
        let dir = store.beside(&format!("out{}", words.len()));
        let ran = run_for(store.command(&["restore", "anna", "INBOX"]).args(words).arg(&dir), 3);
        assert!(err(&ran).contains("FAILED INBOX/2: ") && err(&ran).contains("cylinder verify"), "{}", err(&ran));
        assert!(out(&ran).contains("restored 2 messages"), "{}", out(&ran));
    }
    let ran = run_for(&mut store.command(&["restore", "anna", "INBOX", "--tar"]), 3);
    assert!(tar::Archive::new(&ran.stdout[..]).entries().expect("a tar file").all(|entry| entry.is_ok()));
}

#[test]
fn what_is_deleted_is_what_no_living_folder_shows() {
    let (store, mut spool) = store_with(|spool| {
        for folder in ["INBOX.gone", "INBOX.kept"] {
            spool.create_folder(folder).expect("a folder");
        }
        spool.deliver("INBOX.gone", &mail(1)).expect("a message");
        spool.deliver("INBOX.gone", &mail(2)).expect("a message");
        spool.deliver("INBOX", &mail(3)).expect("a message");
    });
    // One of them was copied before its folder went.
    spool.deliver("INBOX.kept", &mail(2)).expect("a message");
    spool.delete_folder("INBOX.gone").expect("a folder");
    spool.save().expect("an index");
    run_for(&mut store.backup(spool.root(), "anna"), 0);
    let dir = store.beside("out");
    let restore = |words: &[&str]| {
        let mut command = store.command(&["restore", "anna", "--only-deleted", "--format", "eml", "--json", "--dir"]);
        let output = run_for(command.arg(&dir).args(words), 0);
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    assert_eq!(restore(&[])["messages"], 0, "the newest snapshot has nothing of it any more");
    let told = restore(&["--at", "1"]);
    assert_eq!((&told["messages"], &told["folders"]), (&1.into(), &1.into()), "{told}");
    assert_eq!(fs::read(dir.join("INBOX.gone/1.eml")).expect("the message"), mail(1));
}

#[test]
fn messages_are_found_by_guid_message_id_and_date() {
    let (store, _) = store_with(|spool| {
        for n in 0..20 {
            spool.deliver("INBOX", &mail(n)).expect("a message");
        }
    });
    let list = run_for(&mut store.command(&["list", "anna", "INBOX", "--json"]), 0);
    let dates: Vec<String> = out(&list)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["internaldate"].as_str().expect("a date").to_owned())
        .collect();
    let guid = Guid::of(&mail(7)).to_hex();
    let cases: [(&[&str], u64, i32); 6] = [
        (&["--guid", &guid], 1, 0),
        (&["--message-id", "<7@example.org>", "--message-id", "8@example.org"], 2, 0),
        (&["--message-id", "<7@example.org>", "--message-id", "nobody@example.org"], 1, 3),
        (&["--message-id", "nobody@example.org"], 0, 3),
        (&["INBOX", "--since", &dates[5]], dates.iter().filter(|date| **date >= dates[5]).count() as u64, 0),
        (&["INBOX", "--until", "1970-01-02"], 0, 0),
    ];
    for (n, (words, expected, exit)) in cases.into_iter().enumerate() {
        let dir = store.beside(&format!("out{n}"));
        let output = run_for(store.command(&["restore", "anna", "--json", "--dir"]).arg(&dir).args(words), exit);
        let told: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(told["messages"], expected, "{words:?}: {told}");
    }
}

/// Where a message is that is not among what was asked for, though the archive has it.
#[test]
fn a_message_outside_of_what_was_asked_for_is_told_with_its_place() {
    let (store, mut spool) = store_with(|spool| {
        for folder in ["INBOX.one", "INBOX.two"] {
            spool.create_folder(folder).expect("a folder");
        }
        spool.deliver("INBOX.one", &mail(1)).expect("a message");
        spool.deliver("INBOX.two", &mail(2)).expect("a message");
    });
    spool.delete_folder("INBOX.two").expect("a folder");
    spool.save().expect("an index");
    run_for(&mut store.backup(spool.root(), "anna"), 0);
    let cases: [(&[&str], &str); 4] = [
        (
            &["INBOX", "--message-id", "1@example.org"],
            "is in snapshot 2 (INBOX.one/1), but is not selected by the other options",
        ),
        (&["--until", "1970-01-02", "--message-id", "1@example.org"], "is in snapshot 2 (INBOX.one/1), but is not selected"),
        (&["--message-id", "2@example.org"], "is not in snapshot 2; snapshot 1 of "),
        (&["--guid", &Guid::of(&mail(2)).to_hex()], "is the newest that has it (INBOX.two/1): --at 1"),
    ];
    for (words, expected) in cases {
        let output = run_for(store.command(&["restore", "anna", "--tar"]).args(words), 3);
        assert!(err(&output).contains(expected), "{words:?}: {}", err(&output));
    }
}

#[test]
fn a_dry_run_tells_and_writes_nothing() {
    let store = sample_store();
    let dir = store.beside("out");
    let ran = run_for(store.command(&["restore", "anna", "--subtree", "INBOX.Work", "--dry-run", "--dir"]).arg(&dir), 0);
    assert!(out(&ran).contains("INBOX.Work -> INBOX.Work: 2 messages"), "{}", out(&ran));
    assert!(out(&ran).contains("in 5 folders"), "{}", out(&ran));
    assert!(err(&ran).contains("snapshot 1 of "), "{}", err(&ran));
    assert!(!dir.exists());
    let disk = store.beside("disk");
    fs::create_dir_all(disk.join("etc")).expect("a directory");
    fs::copy(sample().join("etc/imapd.conf"), disk.join("etc/imapd.conf")).expect("a file");
    let ran = run_for(store.command(&["restore", "--all-users", "--dry-run", "--spool"]).arg(&disk), 0);
    assert!(out(&ran).contains(" -> /var/spool/cyrus/mail/b/user/bob^smith: "), "{}", out(&ran));
    assert_eq!(tree(&disk).len(), 1);
}

/// A disk with the sample's imapd.conf, and with packages of this version if there is one.
fn disk(store: &Store, name: &str, package: Option<&str>) -> PathBuf {
    let disk = store.beside(name);
    fs::create_dir_all(disk.join("etc")).expect("a directory");
    fs::copy(sample().join("etc/imapd.conf"), disk.join("etc/imapd.conf")).expect("a file");
    if let Some(version) = package {
        fs::create_dir_all(disk.join("var/lib/dpkg")).expect("a directory");
        let status = format!("Package: cyrus-common\nStatus: install ok installed\nVersion: {version}\n");
        fs::write(disk.join("var/lib/dpkg/status"), status).expect("a file");
    }
    disk
}

/// The index of the sample is of version 17.
#[test]
fn an_index_is_lowered_only_if_somebody_says_so() {
    let store = sample_store();
    let old = disk(&store, "old", Some("3.2.6-2"));
    let ran = run_for(store.command(&["restore", "anna", "--all", "--spool"]).arg(&old), 3);
    assert!(err(&ran).contains("is taken for Cyrus 3.2: package cyrus-common 3.2.6-2 is installed"), "{}", err(&ran));
    let expected = "FAILED INBOX: its cyrus.index is of version 17, and Cyrus 3.2 reads none above 16; restore it through IMAP";
    assert!(err(&ran).contains(expected) && err(&ran).contains("--cyrus 3.2"), "{}", err(&ran));
    let indexes = |disk: &Path| tree(disk).into_keys().filter(|path| path.ends_with("cyrus.index")).count();
    assert_eq!(indexes(&old), 0);
    let lowered = disk(&store, "lowered", Some("3.2.6-2"));
    run_for(store.command(&["restore", "anna", "--all", "--cyrus", "3.2", "--spool"]).arg(&lowered), 0);
    assert!(indexes(&lowered) > 0);
    let new = disk(&store, "new", Some("3.12.4-1"));
    run_for(store.command(&["restore", "anna", "--all", "--spool"]).arg(&new), 0);
    assert!(indexes(&new) > 0);
}

/// Two servers with a user each, in one store.
#[test]
fn everybody_of_several_sources_needs_a_word_which_are_meant() {
    let store = Store::new();
    let mut sources = Vec::new();
    for (n, user) in ["anna", "bob"].into_iter().enumerate() {
        let root = store.beside(&format!("root{n}"));
        let mut spool = Spool::create(&root, user, n as u64).expect("a spool");
        spool.deliver("INBOX", &mail(n as u32)).expect("a message");
        spool.save().expect("an index");
        run_for(&mut store.backup(&root, user), 0);
        sources.push(format!("local:{}:/etc/imapd.conf", root.display()));
    }
    let restore = |name: &str, words: &[&str], code| {
        let disk = disk(&store, name, Some("3.6.1-4"));
        let ran = run_for(store.command(&["restore", "--all-users", "--spool"]).arg(&disk).args(words), code);
        let users = tree(&disk).into_keys().filter(|path| path.ends_with("/1.")).count();
        (users, err(&ran))
    };
    let (users, said) = restore("none", &[], 1);
    assert_eq!(users, 0);
    assert!(said.contains("the store has users of several sources") && said.contains("--source all"), "{said}");
    assert!(sources.iter().all(|source| said.contains(&format!("{source} (1 user)"))), "{said}");
    assert_eq!(restore("one", &["--source", &sources[0]], 0).0, 1);
    assert_eq!(restore("both", &["--source", &sources[0], "--source", &sources[1]], 0).0, 2);
    assert_eq!(restore("all", &["--source", "all"], 0).0, 2);
    assert!(restore("unknown", &["--source", "nowhere"], 1).1.contains("--source nowhere: the store has users of: "));
}

/// One archive that cannot be opened, and one whose newest snapshot cannot be read, keep nobody from the others.
#[test]
fn everybody_but_those_whose_archives_are_damaged_is_put_in_place() {
    let (store, mut words) = (Store::new(), Vec::new());
    for (n, user) in ["anna", "bob", "carl"].into_iter().enumerate() {
        let root = store.beside(&format!("root{n}"));
        let mut spool = Spool::create(&root, user, n as u64).expect("a spool");
        spool.deliver("INBOX", &mail(n as u32)).expect("a message");
        spool.save().expect("an index");
        run_for(&mut store.backup(&root, user), 0);
        words.extend([String::from("--source"), format!("local:{}:/etc/imapd.conf", root.display())]);
    }
    fs::write(store.archive("anna"), b"no archive").expect("written");
    for (n, words) in [&[String::from("--source"), String::from("all")][..], &words[2..]].into_iter().enumerate() {
        let disk = disk(&store, &format!("disk{n}"), Some("3.6.1-4"));
        let ran = run_for(store.command(&["restore", "--all-users", "--spool"]).arg(&disk).args(words), 3);
        assert!(err(&ran).contains("FAILED anna: "), "{}", err(&ran));
        assert_eq!(tree(&disk).into_keys().filter(|path| path.ends_with("/1.")).count(), 2, "{}", err(&ran));
        let plan = run_for(store.command(&["restore", "--all-users", "--dry-run", "--spool"]).arg(&disk).args(words), 3);
        assert!(err(&plan).contains("FAILED anna: ") && out(&plan).contains("would restore 2 messages"), "{}", err(&plan));
    }
}

/// Files of the user and of folders that are too long for the memory go through scratch files, each of which is given up.
#[test]
fn long_side_files_need_no_more_open_files_than_one_does() {
    let (store, _) = store_with(|spool| {
        let dir = spool.user_file("sub.db").expect("a directory");
        let sieve = spool
            .root()
            .join("var/spool/sieve")
            .join(dir.strip_prefix(spool.root().join("var/lib/cyrus/user")).expect("below"));
        let sieve = sieve.parent().expect("a directory");
        fs::create_dir_all(sieve).expect("a directory");
        for n in 0..24 {
            fs::write(sieve.join(format!("s{n}.script")), vec![b'#'; (4 << 20) + 1]).expect("a script");
        }
    });
    for form in ["maildir", "cyrus"] {
        let dir = store.beside(form);
        let restore = store.command(&["restore", "anna", "--all", "--threads", "1", "--format", form, "--dir"]);
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -n 20; exec \"$@\"", "sh"]).arg(restore.get_program()).args(restore.get_args()).arg(&dir);
        run_for(&mut command, 0);
        let scripts = tree(&dir).into_keys().filter(|path| path.ends_with(".script")).count();
        assert_eq!(scripts, 24);
    }
}

/// What Python's SQLite says of the database of scripts.
const READ_SCRIPTS: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute("PRAGMA integrity_check").fetchall()[0][0])
for row in db.execute("SELECT name, isactive, alive FROM sieve_scripts ORDER BY name"): print(*row)
db.execute("INSERT INTO sieve_scripts (mailbox, imap_uid, id, name, contentid) VALUES ('x', 1, 'y', 'z', '')")
try:
    db.execute("INSERT INTO sieve_scripts (mailbox, imap_uid, id, name, contentid) VALUES ('x', 1, 'u', 'v', '')")
except sqlite3.IntegrityError as e: print(e)
"#;

#[test]
fn the_table_of_scripts_is_what_sqlite_takes() {
    let store = sample_store();
    let disk = disk(&store, "disk", Some("3.6.1-4"));
    run_for(store.command(&["restore", "anna", "--all", "--spool"]).arg(&disk), 0);
    let dav = tree(&disk).into_keys().find(|path| path.ends_with("dav.db")).expect("a table");
    let ran = run_for(tool("python3", "python3").args(["-c", READ_SCRIPTS]).arg(disk.join(dav)), 0);
    let said = out(&ran);
    assert!(said.starts_with("ok\n") && said.contains("UNIQUE constraint failed: sieve_scripts.mailbox"), "{said}");
    assert!(said.lines().any(|line| line.ends_with(" 1 1")), "{said}");
}

#[test]
fn a_command_line_that_makes_no_sense_is_refused() {
    let store = sample_store();
    for words in [
        &["restore"][..],
        &["restore", "anna"],
        &["restore", "anna", "--all"],
        &["restore", "anna", "--dir", "x"],
        &["restore", "anna", "INBOX", "--all", "--dir", "x"],
        &["restore", "anna", "--all", "--dir", "x", "--zip"],
        &["restore", "anna", "--all", "--dir", "x", "--format", "pst"],
        &["restore", "anna", "--all", "--dir", "x", "--cyrus", "3.6"],
        &["restore", "anna", "--all", "--spool", "x", "--only-deleted"],
        &["restore", "anna", "--all", "--spool", "x", "--imapd-conf", "relative"],
        &["restore", "--spool", "x"],
        &["restore", "anna", "--all", "--dir", "x", "--since", "whenever"],
        &["restore", "anna", "--guid", "12", "--dir", "x"],
        &["restore", "anna", "--all", "--as", "bob", "--dir", "x"],
        &["restore", "anna", "--all", "--as", "bob", "--spool", "x"],
        &["restore", "anna", "--all", "--as", "bob", "--exact"],
        &["restore", "anna", "--all", "--source", "x", "--spool", "x"],
    ] {
        run_for(&mut store.command(words), 2);
    }
    run_for(&mut store.command(&["restore", "anna", "INBOX.Nowhere", "--tar"]), 1);
    run_for(&mut store.command(&["restore", "nobody", "--all", "--tar"]), 1);
}

#[test]
fn a_folder_is_understood_as_the_server_shows_it_and_the_nearest_names_are_offered() {
    let store = sample_store();
    let of = |name: &str| out(&run_for(&mut store.command(&["restore", "anna", name, "--dir", "x", "--dry-run"]), 0));
    let listed = |name: &str| out(&run_for(&mut store.command(&["list", "anna", name]), 0));
    for name in ["Sent", "INBOX/Sent", "user/anna/Sent", "user.anna.Sent", "inbox.Sent"] {
        assert_eq!((listed(name), of(name)), (listed("INBOX.Sent"), of("INBOX.Sent")), "{name}");
        let uid = format!("{name}/1");
        let shown = |word: &str| run_for(&mut store.command(&["show", "anna", word]), 0).stdout;
        assert_eq!(shown(&uid), shown("INBOX.Sent/1"), "{name}");
    }
    for words in
        [&["list", "anna", "sent"][..], &["show", "anna", "sent/1"], &["restore", "anna", "--subtree", "sent", "--tar"]]
    {
        let error = err(&run_for(&mut store.command(words), 1));
        assert!(
            error.contains("no folder `sent` in snapshot 1") && error.contains("the nearest name is `INBOX.Sent`"),
            "{error}"
        );
    }
}

/// A folder of a forged archive: one message, and an index that names it.
fn forged_folder(forge: &mut Forge, name: &[u8], id: &str, index: &[u8], header: &[u8]) -> FolderRow {
    let mut row = FolderRow { name: name.to_vec(), id: id.as_bytes().to_vec(), ..FolderRow::default() };
    row.entry = format!("%(A %(anna lrs) I {id} P default V 1 T e)").into_bytes();
    for (file, content) in [("cyrus.header", header), ("cyrus.index", index)] {
        let path = format!("folders/{id}/{file}");
        let at = forge.file(Kind::Meta, path.as_bytes(), content);
        let (sha1, name) = (Guid::of(content), file.to_owned());
        row.files.push(FileRow { name, tuple: Tuple::default(), sha1, at: Slot::At(at) });
    }
    row
}

/// Cyrus could have no such names; somebody who makes an archive can.
#[test]
fn hostile_names_stay_inside_and_keep_apart() {
    let (source, spool) = store_with(|spool| {
        spool.deliver("INBOX", &mail(1)).expect("a message");
    });
    let dir = spool.folder_dir("INBOX");
    let (index, header) =
        (fs::read(dir.join("cyrus.index")).expect("a file"), fs::read(dir.join("cyrus.header")).expect("a file"));
    let mut forge = Forge::new();
    forge.message(&mail(1));
    let long = vec![b'/'; 3000];
    let mut names: Vec<&[u8]> = vec![
        b"../../etc/cron.d/x",
        b"/etc/passwd",
        b"..",
        b".",
        b"",
        b"a/b",
        b"a\0b",
        b"nul",
        b"NUL",
        b"con.txt",
        b"-rf",
        b"a\x1b[2J",
        b"INBOX",
        b"inbox",
        b"user",
        b"x.jsonl",
        b"x",
        &long,
        b"\xff\xfe",
        b"CON",
    ];
    names.sort();
    names.dedup();
    let rows = names.iter().enumerate().map(|(n, name)| (n, *name)).collect::<Vec<_>>();
    let folders =
        rows.into_iter().map(|(n, name)| forged_folder(&mut forge, name, &format!("id{n}"), &index, &header)).collect();
    forge.snapshot(&Table { folders, ..Table::default() });
    fs::write(source.archive("anna"), forge.finish()).expect("an archive");
    for format in ["maildir", "mbox", "eml", "cyrus"] {
        let (place, out) = (source.beside(&format!("place-{format}")), source.beside(&format!("place-{format}/out")));
        fs::create_dir(&place).expect("a directory");
        run_for(source.command(&["restore", "anna", "--all", "--format", format, "--dir"]).arg(&out), 0);
        let found = tree(&place);
        assert!(found.keys().all(|name| name.starts_with("out/")), "{format}: {:?}", found.keys());
        let is_message = |node: &&Node| matches!(node, Node::File(size, ..) if *size > 0);
        let sides = found.iter().filter(|(name, _)| name.ends_with(".jsonl")).count();
        assert_eq!(sides, names.len(), "{format}: {:?}", found.keys());
        assert!(found.values().filter(is_message).count() >= 2 * names.len(), "{format}");
        assert!(found.values().all(|node| matches!(node, Node::File(..))), "{format}: a link was made");
    }
    let disk = source.beside("disk");
    fs::create_dir_all(disk.join("etc")).expect("a directory");
    fs::copy(spool.root().join("etc/imapd.conf"), disk.join("etc/imapd.conf")).expect("a file");
    run_for(source.command(&["restore", "anna", "--all", "--cyrus", "3.6", "--quiet", "--spool"]).arg(&disk), 3);
    let found = tree(&disk);
    assert!(found.keys().all(|name| name.starts_with("etc/imapd.conf") || name.starts_with("var/")), "{:?}", found.keys());
}

/// Sizes and places in an archive are anybody's: what is read stays small.
#[test]
fn lists_that_lie_are_told() {
    let (source, spool) = store_with(|spool| {
        spool.deliver("INBOX", &mail(1)).expect("a message");
    });
    let dir = spool.folder_dir("INBOX");
    let (index, header) =
        (fs::read(dir.join("cyrus.index")).expect("a file"), fs::read(dir.join("cyrus.header")).expect("a file"));
    let lies: [fn(MessageAt) -> MessageAt; 4] = [
        |m| MessageAt { size: u64::MAX, ..m },
        |m| MessageAt { at: cylinder_core::archive::record::Location { member: u64::MAX, inside: 0 }, ..m },
        |m| MessageAt { at: cylinder_core::archive::record::Location { inside: 7, ..m.at }, ..m },
        |m| MessageAt { at: cylinder_core::archive::record::Location { member: 0, inside: 0 }, ..m },
    ];
    for (n, lie) in lies.into_iter().enumerate() {
        let mut forge = Forge::new();
        forge.message(&mail(1));
        let row = forged_folder(&mut forge, b"INBOX", "id0", &index, &header);
        forge.lie(lie);
        forge.snapshot(&Table { folders: vec![row], ..Table::default() });
        fs::write(source.archive("anna"), forge.finish()).expect("an archive");
        let dir = source.beside(&format!("out{n}"));
        let ran = run_for(source.command(&["restore", "anna", "INBOX", "--dir"]).arg(&dir), 3);
        assert!(err(&ran).contains("FAILED INBOX/1: "), "lie {n}: {}", err(&ran));
    }
}
