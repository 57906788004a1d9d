//! The stock dialect against a real server: a client that shares no code with ours backs up from `cylinder serve`, and our
//! client backs up from what looks to it like a backupcyrusd.
//!
//! Needs root, Python 3 and `tests/lab/cyrus-lab install 3.6`.

use cylinder_core::cyrus::index::Index;
use cylinder_core::guid::Guid;
use cylinder_tests::cli::{Cylinder, Namespace, Running, agrees, append_many, bodies, message, run, shows, spool_dir};
use cylinder_tests::imap::Imap;
use cylinder_tests::lab::{Lab, Version};
use cylinder_tests::proof::binary;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/stock_client.py");

/// The four namespaces, as options and as a test sees them.
fn namespaces() -> [(Namespace, Vec<(&'static str, &'static str)>); 4] {
    let (dots, below) = (("unixhierarchysep", "no"), ("altnamespace", "no"));
    [
        (Namespace::DEFAULT, vec![]),
        (Namespace { separator: '.', alt: true }, vec![dots]),
        (Namespace { separator: '/', alt: false }, vec![below]),
        (Namespace { separator: '.', alt: false }, vec![dots, below]),
    ]
}

/// Two users. With `.` as the separator, SETMETADATA of Cyrus 3.6 does not find the folders of a user with a dot and a domain.
fn users(namespace: Namespace) -> [&'static str; 2] {
    ["anna", if namespace.separator == '/' { "bob.smith@other.net" } else { "bob@other.net" }]
}

fn external(namespace: Namespace, parts: &[&str]) -> String {
    let parts = if namespace.alt { parts.to_vec() } else { [&["INBOX"], parts].concat() };
    parts.join(&namespace.separator.to_string())
}

/// Makes a user with folders of awkward names, one of them deleted, and something in each.
fn populate(lab: &Lab, user: &str, namespace: Namespace) -> Imap {
    let mut imap = lab.new_user(user);
    let dotted = if namespace.separator == '/' { "a.b" } else { "a^b" };
    let long = "x".repeat(200);
    append_many(&mut imap, "INBOX", 0, 8);
    let names: [&[&str]; 8] = [
        &["Work"],
        &["Work", "Pro jects"],
        &["Work", "Pro jects", dotted],
        &["&AOk-t&AOk-"],
        &["&2D3eAA-"],
        &[&long],
        &["a+b,c~d_e"],
        &["Old"],
    ];
    for (n, parts) in names.iter().enumerate() {
        let name = external(namespace, parts);
        imap.create(&name);
        append_many(&mut imap, &name, 10 * n as u32 + 10, 10 * n as u32 + 13);
    }
    let work = external(namespace, &["Work"]);
    imap.copy("INBOX", "1", &work);
    imap.store("INBOX", "1:2", "+FLAGS (\\Flagged $Label1)");
    imap.expunge("INBOX", "3");
    imap.set_annotation("INBOX", "1", "/comment", "value.priv", "mine");
    imap.unselect();
    imap.set_metadata(&work, "/private/comment", "two \"lines\"\r\ncaf\u{e9}".as_bytes());
    imap.subscribe(&work);
    imap.delete(&external(namespace, &["Old"]));
    imap
}

/// A `cylinder serve` that ends with the test.
struct Server(Child);

impl Server {
    /// Serves this lab on a socket, and waits until it does.
    fn start(lab: &Lab, socket: &str) -> Server {
        let mut command = serve(lab);
        let child = command.args(["--listen", socket]).stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut server = Server(child.unwrap_or_else(|e| panic!("{command:?}: {e}")));
        let mut line = String::new();
        let stderr = server.0.stderr.take().expect("a pipe");
        BufReader::new(stderr).read_line(&mut line).expect("a line");
        assert_eq!(line, format!("cylinder: serving on {socket}\n"));
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // If it has ended by itself, the test will have failed of that.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn serve(lab: &Lab) -> Command {
    let mut command = Command::new(binary());
    command.arg("serve").arg("--root").arg(lab.root()).arg("--imapd-conf").arg(lab.conf());
    command
}

/// Runs the client, which must succeed; gives the line about each user.
#[track_caller]
fn client(out: &Path, transport: [&str; 2], users: &[&str]) -> Vec<String> {
    let output = run(Command::new(CLIENT).arg("--out").arg(out).args(transport).args(users));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// What a tar file of the client holds: contents of files, targets of links. Later entries win.
fn unpacked(out: &Path, user: &str) -> BTreeMap<String, Vec<u8>> {
    let path = out.join(format!("{}.tar", user.replace('@', "%40")));
    let mut tar = tar::Archive::new(File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())));
    let mut all = BTreeMap::new();
    for entry in tar.entries().expect("a tar file") {
        let mut entry = entry.expect("an entry");
        let name = String::from_utf8(entry.path_bytes().into_owned()).expect("ASCII");
        let link = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("content");
        match entry.header().entry_type() {
            tar::EntryType::Symlink => drop(all.insert(name, link)),
            _ if content.is_empty() && link.is_empty() => drop(all.remove(&name)),
            _ => {
                assert_eq!(link, Guid::of(&content).to_hex().into_bytes(), "{name}");
                all.insert(name, content);
            }
        }
    }
    all
}

/// The archive of the other client has each folder that IMAP shows, with every message, and the metadata as they lie on disk.
#[track_caller]
fn is_complete(lab: &Lab, imap: &mut Imap, user: &str, namespace: Namespace, archive: &BTreeMap<String, Vec<u8>>) {
    let mut seen = BTreeSet::new();
    for listed in imap.list("*") {
        if namespace.archived(&listed.name).is_none() {
            continue;
        }
        let target = &archive[&format!("imap/{}", listed.name)];
        let dir = std::str::from_utf8(target).expect("ASCII").strip_prefix("../").expect("a folder").to_owned();
        let index = &archive[&format!("{dir}/cyrus.index")];
        let records = Index::parse(index).expect("an index");
        let records: Vec<_> = records.records().map(|record| record.expect("a record")).collect();
        let bodies = bodies(imap, &listed.name);
        for (uid, body) in &bodies {
            let record = records.iter().find(|r| r.uid.0 == *uid && !r.is_expunged()).expect("a record of the message");
            assert_eq!(record.guid, Guid::of(body), "{user} {} {uid}", listed.name);
            assert!(archive[&format!("files/{}", record.guid)] == *body, "{user} {} {uid}", listed.name);
        }
        assert_eq!(records.iter().filter(|r| !r.is_expunged()).count(), bodies.len());
        let place = spool_dir(lab, &admin_name(user, namespace, &listed.name));
        for file in ["cyrus.index", "cyrus.header"] {
            let on_disk = fs::read(place.join(file)).unwrap_or_else(|e| panic!("{}: {e}", place.join(file).display()));
            assert!(archive[&format!("{dir}/{file}")] == on_disk, "{user} {}: {file}", listed.name);
        }
        seen.insert(dir);
    }
    assert!(seen.len() >= 8, "{seen:?}");
}

/// The administrator's name of a user's mailbox.
fn admin_name(user: &str, namespace: Namespace, external: &str) -> String {
    let separator = namespace.separator.to_string();
    let (local, domain) = user.split_once('@').map_or((user, String::new()), |(local, domain)| (local, format!("@{domain}")));
    let local = if namespace.separator == '.' { local.replace('.', "^") } else { local.to_owned() };
    let below =
        if namespace.alt && external != "INBOX" { Some(external) } else { external.strip_prefix(&format!("INBOX{separator}")) };
    let parts: Vec<&str> = ["user", &local].into_iter().chain(below).collect();
    format!("{}{domain}", parts.join(&separator))
}

/// Waits until whatever was written is more than a second old, so that no time in whole seconds can hide a change of it.
fn rest() {
    thread::sleep(Duration::from_millis(1100));
}

/// A client of another make backs up two users from `cylinder serve`, all of them, and nothing the second time.
fn a_client_of_another_make_backs_up(version: Version, namespace: Namespace, options: &[(&str, &str)]) {
    let lab = Lab::start(version, options);
    let users = users(namespace);
    let mut imaps = users.map(|user| populate(&lab, user, namespace));
    let out = TempDir::new().expect("a directory");
    let command = format!("{} serve --root {} --imapd-conf {}", binary().display(), lab.root().display(), lab.conf());
    rest();
    let told = client(out.path(), ["--run", &command], &[]);
    assert_eq!(told.len(), 2, "{told:?}");
    for (user, imap) in users.iter().zip(&mut imaps) {
        let archive = unpacked(out.path(), user);
        is_complete(&lab, imap, user, namespace, &archive);
        let deleted = archive.keys().filter(|name| name.starts_with("imap/DELETED")).count();
        assert_eq!(deleted, 1, "{:?}", archive.keys());
        assert!(archive.contains_key("meta/sub"));
        let annotations: Vec<&Vec<u8>> =
            archive.iter().filter(|(name, _)| name.ends_with("cyrus.mailbox_annotations")).map(|(_, json)| json).collect();
        let json: serde_json::Value = serde_json::from_slice(annotations[0]).expect("JSON");
        assert_eq!(json[0][0], "/comment", "{json}");
        assert_eq!((json[0][1].as_str(), json[0][2].as_str()), (Some(*user), Some("two \"lines\"\r\ncaf\u{e9}")), "{json}");
        // Expunged, and not unlinked yet.
        assert!(archive.contains_key(&format!("files/{}", Guid::of(&message(2)))));
    }
    let again = client(out.path(), ["--run", &command], &users);
    assert!(again.iter().all(|line| line.contains(" 0 read, 0 new messages")), "{again:?}");
}

#[test]
fn a_client_of_another_make_backs_up_from_serve() {
    for (namespace, options) in namespaces() {
        a_client_of_another_make_backs_up(Version::V3_6, namespace, &options);
    }
}

/// The other releases: `tests/lab/matrix` installs them and runs this.
#[test]
#[ignore = "needs `tests/lab/cyrus-lab install 3.2 3.10 3.12`: minutes, and 1.5 GB"]
fn a_client_of_another_make_backs_up_from_every_release() {
    for version in [Version::V3_2, Version::V3_10, Version::V3_12] {
        for (namespace, options) in namespaces() {
            println!("{}: {options:?}", version.name());
            a_client_of_another_make_backs_up(version, namespace, &options);
        }
    }
}

#[test]
fn it_can_use_every_kind_of_socket_and_only_users_that_are_given_away() {
    let lab = Lab::start(Version::V3_6, &[]);
    let mut imap = populate(&lab, "anna", Namespace::DEFAULT);
    lab.new_user("bob").logout();
    let dir = TempDir::new().expect("a directory");
    let path = dir.path().join("socket").display().to_string();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let address = format!("127.0.0.1:{port}");
    let servers = [Server::start(&lab, &format!("unix:{path}")), Server::start(&lab, &format!("tcp:{address}"))];
    let owner = fs::metadata(spool_dir(&lab, "user/anna").join("cyrus.index")).expect("an index").uid();
    for server in &servers {
        let status = fs::read_to_string(format!("/proc/{}/status", server.0.id())).expect("a process");
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("its users");
        assert!(owner != 0 && ids.split_whitespace().all(|id| id == owner.to_string()), "{ids}, expected {owner}");
    }
    rest();
    for transport in [["--unix", &path[..]], ["--tcp", &address[..]]] {
        let out = TempDir::new().expect("a directory");
        let told = client(out.path(), transport, &[]);
        assert_eq!(told.len(), 2, "{told:?}");
        is_complete(&lab, &mut imap, "anna", Namespace::DEFAULT, &unpacked(out.path(), "anna"));
    }
    drop(servers);
    let command =
        format!("{} serve --users 'b*' --root {} --imapd-conf {}", binary().display(), lab.root().display(), lab.conf());
    let out = TempDir::new().expect("a directory");
    assert_eq!(client(out.path(), ["--run", &command], &[]).len(), 1);
    let refused = Command::new(CLIENT).arg("--out").arg(out.path()).args(["--run", &command, "anna"]).output().expect("a run");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("NO this client may not have that user"), "{text}");
}

/// From a stock server such a change is missed as long as nothing else changes.
#[test]
fn a_flag_that_changes_in_the_second_of_the_copy_is_found() {
    let lab = Lab::start(Version::V3_6, &[]);
    let mut imap = lab.new_user("anna");
    append_many(&mut imap, "INBOX", 0, 3);
    let out = TempDir::new().expect("a directory");
    let command = format!("{} serve --root {} --imapd-conf {}", binary().display(), lab.root().display(), lab.conf());
    for round in 0..5 {
        let sign = if round % 2 == 0 { '+' } else { '-' };
        imap.store("INBOX", "1", &format!("{sign}FLAGS (\\Answered)"));
        client(out.path(), ["--run", &command], &["anna"]);
        imap.store("INBOX", "2", &format!("{sign}FLAGS (\\Flagged)"));
        imap.unselect();
        rest();
        client(out.path(), ["--run", &command], &["anna"]);
        let archive = unpacked(out.path(), "anna");
        let index = archive.iter().find(|(name, _)| name.ends_with("/cyrus.index")).expect("an index").1;
        let on_disk = fs::read(spool_dir(&lab, "user/anna").join("cyrus.index")).expect("an index");
        assert!(*index == on_disk, "round {round}");
    }
}

/// Lets a server of ours look like a backupcyrusd: the greeting never reaches it. As long as `dies_at` says so, the connection
/// ends where the folders of this user are asked for.
fn disguise(address: String, dies_at: &Arc<Mutex<Option<&'static str>>>) -> (String, Vec<u8>) {
    let mut name = Vec::new();
    let mut probe = TcpStream::connect(&address).expect("a server");
    probe.write_all(b"META - -\n").expect("a request");
    BufReader::new(&probe).read_until(b'\n', &mut name).expect("an answer");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let here = listener.local_addr().expect("an address").to_string();
    let (refusal, dies_at) = (name.clone(), dies_at.clone());
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.expect("a client"), TcpStream::connect(&address).expect("a server"));
            let (refusal, dies_at) = (refusal.clone(), dies_at.clone());
            thread::spawn(move || {
                let mut requests = BufReader::new(client.try_clone().expect("a socket"));
                let mut greeting = String::new();
                // What goes wrong here shows in the client, which the test watches.
                let _ = requests.read_line(&mut greeting);
                assert!(greeting.starts_with("CYLINDER "), "{greeting}");
                let _ = (&client).write_all(&refusal);
                let (mut answers, mut up) = (server.try_clone().expect("a socket"), server);
                let mut down = client;
                thread::spawn(move || {
                    let _ = std::io::copy(&mut answers, &mut down);
                    let _ = down.shutdown(std::net::Shutdown::Both);
                });
                let mut line = Vec::new();
                while requests.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                    let user = *dies_at.lock().expect("no thread panicked");
                    if user.is_some_and(|user| {
                        line.starts_with(b"FMULTISTATUS ") && line.ends_with(format!(" {user}\n").as_bytes())
                    }) {
                        let _ = up.shutdown(std::net::Shutdown::Both);
                        return;
                    }
                    let _ = up.write_all(&line);
                    line.clear();
                }
                let _ = up.shutdown(std::net::Shutdown::Write);
            });
        }
    });
    (here, name)
}

/// A backup of everybody over the stock dialect.
fn pull_all(cylinder: &Cylinder, from: &str, options: &[&str]) -> cylinder_tests::cli::Ran {
    let mut command = Command::new(binary());
    command.args(["backup", "--all", "--json", "--from", from, "--store"]).arg(cylinder.store()).args(options);
    Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end()
}

#[test]
fn one_user_at_whom_a_stock_server_dies_stops_nobody() {
    let lab = Lab::start(Version::V3_6, &[("delete_mode", "immediate")]);
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let _server = Server::start(&lab, &format!("tcp:127.0.0.1:{port}"));
    let dies_at = Arc::default();
    let (address, _) = disguise(format!("127.0.0.1:{port}"), &dies_at);
    let (from, cylinder) = (format!("tcp:{address}"), Cylinder::new(&lab));
    for user in ["bob", "carl", "eve"] {
        append_many(&mut lab.new_user(user), "INBOX", 0, 3);
    }
    let first = pull_all(&cylinder, &from, &[]);
    assert_eq!((first.exit, first.user("eve")["messages"].as_u64()), (0, Some(3)), "{first:?}");

    // Somebody left and somebody came, so it is asked who that may be, too.
    let mut admin = lab.login("cyrus");
    admin.set_acl("user/eve", "cyrus", "lrswipkxtecdan");
    admin.delete("user/eve");
    append_many(&mut lab.new_user("anna"), "INBOX", 0, 3);
    *dies_at.lock().expect("no thread panicked") = Some("anna");
    for (night, options) in [&["--jobs", "1"][..], &[]].into_iter().enumerate() {
        for user in ["bob", "carl"] {
            let at = 10 * night as u32 + 10;
            append_many(&mut lab.login(user), "INBOX", at, at + 1);
        }
        let ran = pull_all(&cylinder, &from, options);
        // That eve is gone stands as an alarm.
        assert_eq!((ran.exit, ran.user("eve")["exit"].as_u64()), (3, Some(3)), "{ran:?}");
        for user in ["bob", "carl"] {
            assert_eq!(ran.user(user)["messages_added"], 1, "{options:?}: {ran:?}");
        }
        let error = ran.user("anna")["error"].to_string();
        assert!(error.contains("connection"), "{ran:?}");
        assert!(!cylinder.has_archive("anna"), "{ran:?}");
    }
    *dies_at.lock().expect("no thread panicked") = None;
    assert_eq!(pull_all(&cylinder, &from, &[]).user("anna")["messages"], 3);
}

/// A backup over the stock dialect that must succeed.
#[track_caller]
fn pull(cylinder: &Cylinder, from: &str, user: &str) -> serde_json::Value {
    let mut command = Command::new(binary());
    command.args(["backup", user, "--json", "--from", from, "--store"]).arg(cylinder.store());
    let ran = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end();
    assert!(ran.exit == 0 && ran.stderr.is_empty(), "{ran:?}");
    let told = ran.user(user);
    assert_eq!((told["problems_count"].as_u64(), told["unsettled"].as_bool()), (Some(0), Some(false)), "{told}");
    told
}

#[test]
fn our_client_backs_up_over_the_stock_dialect_in_every_namespace() {
    for (namespace, options) in namespaces() {
        let lab = Lab::start(Version::V3_6, &options);
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        let _server = Server::start(&lab, &format!("tcp:127.0.0.1:{port}"));
        let (address, name) = disguise(format!("127.0.0.1:{port}"), &Arc::default());
        assert!(name.starts_with(b"NO iam "), "{}", name.escape_ascii());
        let from = format!("tcp:{address}");
        for user in users(namespace) {
            let cylinder = Cylinder::new(&lab);
            let mut imap = populate(&lab, user, namespace);
            let begun = Instant::now();
            let told = pull(&cylinder, &from, user);
            println!("{user}: {told} in {:?}", begun.elapsed());
            agrees(&cylinder, &mut imap, user, namespace);
            let place = spool_dir(&lab, &admin_name(user, namespace, "INBOX"));
            shows(&cylinder, &mut imap, user, "INBOX", "INBOX", &place);
            let deleted = cylinder.folders(user).into_iter().find(|f| f.name.starts_with("DELETED.Old."));
            assert_eq!(deleted.expect("the deleted folder").exists, 3);
            let entries = cylinder.entries(user);
            assert!(entries.iter().any(|name| name.ends_with("/cyrus.mailbox_annotations")), "{entries:?}");

            imap.store("INBOX", "1", "+FLAGS (\\Answered)");
            append_many(&mut imap, "INBOX", 90, 92);
            imap.unselect();
            let (old, new) = (external(namespace, &["Work"]), external(namespace, &["Play"]));
            imap.rename(&old, &new);
            let told = pull(&cylinder, &from, user);
            assert_eq!((&told["messages_added"], &told["names_new"], &told["names_gone"]), (&2.into(), &3.into(), &3.into()));
            agrees(&cylinder, &mut imap, user, namespace);
            cylinder.verify(user);

            // A local run over the same archive adds what the dialect does not have, and loses nothing.
            let before: BTreeSet<String> = cylinder.entries(user).into_iter().collect();
            // It is another source, which has to be said.
            let refused = cylinder.backup(&[user]);
            assert_eq!((refused.exit, &refused.user(user)["alarms"][0]["cause"]), (3, &"other-source".into()));
            let adopted = cylinder.backup(&[user, "--adopt"]);
            let told = adopted.user(user);
            assert_eq!((adopted.exit, &told["messages_added"], &told["names_gone"]), (0, &0.into(), &0.into()), "{told}");
            let entries = cylinder.entries(user);
            assert!(entries.contains(&String::from("meta/mailboxes")) && before.iter().all(|name| entries.contains(name)));
            agrees(&cylinder, &mut imap, user, namespace);
        }
    }
}
