//! What our client makes of a stock server whose answers do not fit each other: files and folders that come, go and change
//! between its requests, refusals, and files that are not those of the folder that was asked for.

use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::Io;
use cylinder_core::pull::native::{Greeted, connect};
use cylinder_core::pull::stock::Client;
use cylinder_core::pull::{Message, Origin};
use cylinder_core::source::capture::{Capture, Want, Wanted};
use cylinder_core::source::message::Lacking;
use cylinder_core::source::{Ask, MetaFile};
use cylinder_core::wire::native::Wish;
use cylinder_tests::disk::SimDisk;
use cylinder_tests::host::Host;
use cylinder_tests::said::{client, hear, limits, user};
use cylinder_tests::story;
use std::collections::{BTreeMap, BTreeSet};

const INBOX: &[u8] = b"INBOX";
const SENT: &[u8] = b"INBOX.Sent";

/// Metadata of folders as a server has them.
struct Server {
    host: Host,
    disk: SimDisk,
    /// What it says, one answer behind the other.
    text: Vec<u8>,
    /// It was asked for the form of its names.
    is_probed: bool,
    /// What all its folders have in the place of a header.
    header: Option<&'static [u8]>,
}

/// The folders that a list has: their names, and when they were changed last.
type Listed<'a> = &'a [(&'a str, u64)];

impl Server {
    fn new() -> Server {
        let (mut host, mut disk) = (Host::new(), SimDisk::new());
        host.folder("user.anna").deliver(&story::mail(1, 500));
        host.folder("user.anna.Sent").deliver(&story::mail(2, 500));
        host.publish(&mut disk);
        Server { host, disk, text: Vec::new(), is_probed: false, header: None }
    }

    fn internal(name: &str) -> String {
        name.replace("INBOX", "user.anna")
    }

    fn id(&self, name: &str) -> String {
        self.host.folders[&Server::internal(name)].id.clone()
    }

    fn file(&self, name: &str, file: &str) -> Vec<u8> {
        self.host.image(&self.host.meta_place(&Server::internal(name), file)).expect("a file").to_vec()
    }

    fn say(&mut self, text: impl AsRef<[u8]>) -> &mut Server {
        self.text.extend_from_slice(text.as_ref());
        self
    }

    /// The answers to a look at the user: these user files, and these folders.
    fn looks(&mut self, states: &str, folders: Listed) -> &mut Server {
        self.say(format!("OK\n{states}DONE META\nOK\n"));
        for (name, mtime) in folders {
            let (id, size) = (self.id(name), self.file(name, "cyrus.index").len());
            let header = self.header.map_or_else(|| self.file(name, "cyrus.header").len(), <[u8]>::len);
            self.say(format!("FOLDER {name} {id} j\nSTAT {name} index {size} {mtime} 7\nSTAT {name} header {header} 5 8\n"));
        }
        self.say("DONE FMULTISTATUS\n");
        if !std::mem::replace(&mut self.is_probed, true) {
            self.say("NO no such folder cylinder.probe\n");
        }
        self
    }

    fn block(&mut self, name: &str, mtime: u64, content: &[u8]) -> &mut Server {
        self.say(format!("DATA {name} {} {mtime} 7\n", content.len())).say(content);
        self.say(format!("DONE {name} {}\n", Guid::of(content)))
    }

    /// The files of a folder, whose index was changed last at `mtime`.
    fn gives(&mut self, name: &str, mtime: u64) -> &mut Server {
        let (id, index, header) = (self.id(name), self.file(name, "cyrus.index"), self.file(name, "cyrus.header"));
        self.gives_these(&id, mtime, &index, &header)
    }

    fn gives_these(&mut self, id: &str, mtime: u64, index: &[u8], header: &[u8]) -> &mut Server {
        let head = format!("DATA header {} 5 8\n", header.len());
        self.say("OK\n").say(head).say(header).say(format!("DONE header {}\n", Guid::of(header)));
        self.block("index", mtime, index);
        self.say(format!("NO no such file annotations\nNO empty mailbox_annotations\nDONE FMETA {id} P-F\n"))
    }

    /// What a capture of `wanted` comes to, whatever a byte comes alone or not.
    fn capture(&self, wanted: &[(&[u8], Want)], states: &[&[u8]]) -> Result<Capture, Error> {
        let folders: BTreeMap<_, _> = wanted.iter().map(|(name, want)| (name.to_vec(), *want)).collect();
        let wanted = Wanted { folders, states: states.iter().map(|name| name.to_vec()).collect::<BTreeSet<_>>() };
        let once = |piece| {
            let wanted = wanted.clone();
            hear(&self.text, piece, |io| capture(io, wanted))
        };
        let (whole, pieces) = (once(0), once(1));
        assert_eq!(whole.as_ref().map(|c| &c.folders), pieces.as_ref().map(|c| &c.folders));
        whole
    }
}

async fn capture(io: Io, wanted: Wanted) -> Result<Capture, Error> {
    let mut client = client(&io).await;
    let first = client.pass(&user("anna"), &Ask::default()).await?;
    client.capture(&io, &user("anna"), &first, &wanted).await
}

/// When the index of a folder that was captured was changed last.
fn index_of(capture: &Capture, folder: &[u8]) -> Option<i64> {
    capture.folders.get(folder)?.folder.tuples[MetaFile::Index as usize].map(|tuple| tuple.mtime.secs())
}

fn told(capture: &Capture, folder: &[u8]) -> String {
    capture.failed.get(folder).map_or_else(|| format!("{:?}", capture.failed), Error::to_string)
}

#[test]
fn a_server_is_known_by_its_greeting_and_must_have_a_name_that_can_be_said() {
    let greeted = |text: &'static str| {
        hear(text.as_bytes(), 1, |io| async move {
            let Greeted::Stock(stream, name) = connect(&io, "imaptest", limits()).await? else { panic!("a stock server") };
            let owners = Client::new(*stream, &name)?.owners().await?;
            Ok::<Vec<Owner>, Error>(owners)
        })
    };
    assert_eq!(greeted("NO iam imaptest\nOK\nUSER anna\nUSER bob\nDONE USERS\n"), Ok(vec![user("anna"), user("bob")]));
    for name in ["", "a b", "caf\u{e9}", "a\tb"] {
        let text: &'static str = Box::leak(format!("NO iam {name}\nOK\nDONE USERS\n").into_boxed_str());
        assert!(matches!(greeted(text), Err(Error::Peer { .. })), "`{name}`");
    }
}

/// Servers to come may have files that this client does not know.
#[test]
fn user_files_and_metadata_of_other_names_are_passed_over() {
    let mut server = Server::new();
    server.looks("STAT seen 10 5 3\nSTAT conversations 10 5 4\n", &[("INBOX", 5)]);
    let pass = hear(&server.text, 1, |io| async move { client(&io).await.pass(&user("anna"), &Ask::default()).await });
    let names: Vec<Vec<u8>> = pass.expect("a pass").states.into_iter().map(|state| state.name).collect();
    assert_eq!(names, [b"meta/seen"]);
}

#[test]
fn a_user_file_that_changed_alone_is_fetched_alone() {
    let mut server = Server::new();
    server.looks("STAT sub 9 5 3\n", &[("INBOX", 5)]).say("OK\n").block("sub", 6, b"INBOX\t\n\n\n").say("DONE META\n");
    server.looks("STAT sub 9 6 7\n", &[("INBOX", 5)]);
    let capture = server.capture(&[], &[b"meta/sub"]).expect("a capture");
    assert_eq!(capture.states[&b"meta/sub"[..]].0, b"INBOX\t\n\n\n");
    assert!(capture.folders.is_empty() && capture.failed_states.is_empty());
}

/// It is fetched once more, for the list after the first copy has it with another time.
#[test]
fn a_user_file_that_changes_while_it_is_fetched_is_fetched_again() {
    let mut server = Server::new();
    server.looks("STAT sub 5 5 3\n", &[("INBOX", 5)]).say("OK\n").block("sub", 5, b"first").say("DONE META\n");
    server.looks("STAT sub 6 6 7\n", &[("INBOX", 5)]).say("OK\n").block("sub", 6, b"second").say("DONE META\n");
    server.looks("STAT sub 6 6 7\n", &[("INBOX", 5)]);
    let capture = server.capture(&[], &[b"meta/sub"]).expect("a capture");
    assert_eq!(capture.states[&b"meta/sub"[..]].0, b"second");
}

#[test]
fn a_user_file_that_is_refused_is_told_and_another_one_breaks_the_connection() {
    let mut server = Server::new();
    server.looks("STAT sub 5 5 3\n", &[("INBOX", 5)]).say("NO permission denied\n").looks("STAT sub 5 5 3\n", &[("INBOX", 5)]);
    let capture = server.capture(&[], &[b"meta/sub"]).expect("a capture");
    let why: Vec<String> = capture.failed_states.values().map(Error::to_string).collect();
    assert_eq!((why, capture.states.is_empty()), (vec![String::from("the server says: permission denied")], true));
    for answer in ["DATA seen 1 5 7\nxDONE seen 11f6ad8ec52a2984abaafd7c3b516503785c2072\n", "DATA sub 1 5 7\nxDONE sub -\n"] {
        let mut server = Server::new();
        server.looks("STAT sub 5 5 3\n", &[("INBOX", 5)]).say("OK\n").say(answer).say("DONE META\n");
        assert!(matches!(server.capture(&[], &[b"meta/sub"]), Err(Error::Peer { .. })), "{answer}");
    }
    // One that went away meanwhile is none.
    let mut server = Server::new();
    server.looks("STAT sub 5 5 3\n", &[("INBOX", 5)]).say("OK\nNO no such file sub\nDONE META\n").looks("", &[("INBOX", 5)]);
    let capture = server.capture(&[], &[b"meta/sub"]).expect("a capture");
    assert!(capture.states.is_empty() && capture.failed_states.is_empty());
}

/// A list of another user, which a capture cannot go by, is had first.
#[test]
fn a_capture_of_another_user_than_was_listed_lists_that_one() {
    let mut server = Server::new();
    server.looks("", &[("INBOX", 5)]).looks("", &[("INBOX", 9)]).gives("INBOX", 9).looks("", &[("INBOX", 9)]);
    let listing = |io: Io| async move {
        let mut client = client(&io).await;
        let first = client.pass(&user("bob"), &Ask::default()).await?;
        client.capture(&io, &user("anna"), &first, &Wanted::default()).await
    };
    let capture = hear(&server.text, 0, listing).expect("a capture");
    assert_eq!(index_of(&capture, INBOX), Some(9));
}

#[test]
fn a_folder_that_changes_after_it_was_found_unchanged_is_read() {
    let mut server = Server::new();
    let index = server.file("INBOX", "cyrus.index");
    let peek = cylinder_core::cyrus::index::peek(&index).expect("a header");
    let want = Want::Recheck { modseq: peek.highestmodseq.expect("a modseq"), crc: peek.header_crc.expect("a CRC") };
    let both = |inbox, sent| [("INBOX", inbox), ("INBOX.Sent", sent)];
    server.looks("", &both(5, 5)).gives("INBOX", 5).gives("INBOX.Sent", 5).looks("", &both(6, 5));
    server.gives("INBOX", 6).looks("", &both(6, 5));
    let capture = server.capture(&[(INBOX, want), (SENT, Want::Read)], &[]).expect("a capture");
    assert_eq!((index_of(&capture, INBOX), index_of(&capture, SENT)), (Some(6), Some(5)));
    assert!(capture.same.is_empty() && !capture.unsettled, "{:?}", capture.same);
}

/// A folder of which nothing was wanted, and that the next list has with another time.
#[test]
fn a_folder_that_changes_while_others_are_read_is_read() {
    let mut server = Server::new();
    let both = |sent| [("INBOX", 5), ("INBOX.Sent", sent)];
    server.looks("", &both(5)).gives("INBOX", 5).looks("", &both(6)).gives("INBOX.Sent", 6).looks("", &both(6));
    let capture = server.capture(&[(INBOX, Want::Read)], &[]).expect("a capture");
    assert_eq!((index_of(&capture, INBOX), index_of(&capture, SENT)), (Some(5), Some(6)));
}

#[test]
fn a_folder_that_is_refused_and_in_no_list_any_more_is_no_failure() {
    let mut server = Server::new();
    server.looks("", &[("INBOX", 5), ("INBOX.Sent", 5)]).say("NO no such folder user.anna.Sent\n").looks("", &[("INBOX", 5)]);
    let capture = server.capture(&[(SENT, Want::Read)], &[]).expect("a capture");
    assert!(capture.folders.is_empty() && capture.failed.is_empty() && !capture.unsettled, "{:?}", capture.failed);
}

#[test]
fn a_folder_without_an_index_is_a_failure_of_that_folder() {
    let mut server = Server::new();
    let id = server.id("INBOX");
    let nothing = format!(
        "OK\nNO no such file header\nNO no such file index\nNO x annotations\nNO y mailbox_annotations\nDONE FMETA {id} j\n"
    );
    server.looks("", &[("INBOX", 5)]).say(&nothing).looks("", &[("INBOX", 5)]).say(&nothing).looks("", &[("INBOX", 5)]);
    let capture = server.capture(&[(INBOX, Want::Read)], &[]).expect("a capture");
    assert_eq!(told(&capture, INBOX), "the server does not give its cyrus.index");
}

/// Files that are those of another folder, or of one that is being deleted: the list says whether it is there.
#[test]
fn what_was_replaced_or_is_being_deleted_is_not_taken_for_the_folder() {
    let mut dying = Server::new();
    dying.host.folder("user.anna").dying = true;
    let Server { host, disk, .. } = &mut dying;
    host.publish(disk);
    let dying = dying.file("INBOX", "cyrus.index");
    let whole = Server::new();
    let (index, header) = (whole.file("INBOX", "cyrus.index"), whole.file("INBOX", "cyrus.header"));
    let (other, id, other_id) = (whole.file("INBOX.Sent", "cyrus.header"), whole.id("INBOX"), whole.id("INBOX.Sent"));
    for (what, id, index, header) in [
        ("a folder that is being deleted", &id, &dying, &header),
        ("the header of another", &id, &index, &other),
        ("another uniqueid at the end", &other_id, &index, &header),
    ] {
        // It comes to rest: gone, or there.
        let mut server = Server::new();
        server.looks("", &[("INBOX", 5)]).gives_these(id, 5, index, header).looks("", &[]);
        let capture = server.capture(&[(INBOX, Want::Read)], &[]).expect("a capture");
        assert!(capture.folders.is_empty() && capture.failed.is_empty() && !capture.unsettled, "{what}: {:?}", capture.failed);
        let mut server = Server::new();
        server.looks("", &[("INBOX", 5)]).gives_these(id, 5, index, header).looks("", &[("INBOX", 6)]);
        server.gives("INBOX", 6).looks("", &[("INBOX", 6)]);
        assert_eq!(index_of(&server.capture(&[(INBOX, Want::Read)], &[]).expect("a capture"), INBOX), Some(6), "{what}");
        // It never does.
        let mut server = Server::new();
        server.looks("", &[("INBOX", 5)]);
        for _ in 0..8 {
            server.gives_these(id, 5, index, header).looks("", &[("INBOX", 5)]);
        }
        let capture = server.capture(&[(INBOX, Want::Read)], &[]).expect("a capture");
        assert!(capture.unsettled && told(&capture, INBOX).contains("changed whenever it was looked at"), "{what}");
    }
}

/// A header that makes no sense says nothing of whose it is. It is saved as it is, and no quota root is known.
#[test]
fn a_header_that_cannot_be_read_is_saved_as_it_is() {
    let mut server = Server::new();
    let (id, index) = (server.id("INBOX"), server.file("INBOX", "cyrus.index"));
    server.header = Some(b"nonsense");
    server.looks("", &[("INBOX", 5)]).gives_these(&id, 5, &index, b"nonsense").looks("", &[("INBOX", 5)]);
    let capture = server.capture(&[(INBOX, Want::Read)], &[]).expect("a capture");
    assert_eq!((index_of(&capture, INBOX), &capture.folders[INBOX].quota_root), (Some(5), &None));
}

#[test]
fn metadata_without_a_sha1_break_the_connection() {
    let mut server = Server::new();
    server.looks("", &[("INBOX", 5)]).say("OK\nDATA header 1 5 8\nxDONE header -\n");
    let error = server.capture(&[(INBOX, Want::Read)], &[]).map(|_| ()).expect_err("no capture");
    assert!(matches!(&error, Error::Peer { why, .. } if why.contains("metadata come whole")), "{error}");
}

/// What annotations are is looked at while the user is listed. A folder that cannot be had then counts as one without any.
#[test]
fn annotations_that_are_refused_do_not_end_a_pass() {
    let id = Server::new().id("INBOX");
    let json = b"[]";
    for (answer, expected) in [
        ("NO no such folder user.anna\n".to_owned(), None),
        (format!("OK\nNO empty mailbox_annotations\nDONE FMETA {id} j\n"), None),
        (
            format!("OK\nDATA mailbox_annotations 2 5 7\n[]DONE mailbox_annotations {}\nDONE FMETA {id} j\n", Guid::of(json)),
            Some(Guid::of(b"")),
        ),
    ] {
        let list = format!("OK\nDONE META\nOK\nFOLDER INBOX {id} j\nSTAT INBOX mailbox_annotations 2 5 7\nDONE FMULTISTATUS\n");
        let text = [&list, "NO no such folder cylinder.probe\n", &answer].concat();
        let ask = Ask { annotate: true, ..Ask::default() };
        let pass = hear(text.as_bytes(), 1, |io| async move { client(&io).await.pass(&user("anna"), &ask).await });
        let annotated = pass.unwrap_or_else(|e| panic!("{answer}: {e}")).annotated.expect("a look at annotations");
        assert_eq!(annotated.get(INBOX).copied(), expected, "{answer}");
    }
}

/// Messages of INBOX that are announced, and those that are then asked for.
async fn messages(io: Io, announced: Vec<u32>, uids: Vec<u32>) -> Result<Vec<Result<Vec<u8>, Lacking>>, Error> {
    let mut client = client(&io).await;
    let pass = client.pass(&user("anna"), &Ask::default()).await?;
    let wish = |uid| Wish { uid, archived: false, second: false };
    let mut origin = Origin::Stock(&mut client);
    origin.announce_messages(&pass.folders[0], announced.into_iter().map(wish).collect());
    let mut found = Vec::new();
    for uid in uids {
        let one = origin.message(&io, &user("anna"), &pass.folders[0], wish(uid), Vec::new()).await?.expect("a first place");
        found.push(match one {
            Ok(Message::Whole { content, .. }) => Ok(content),
            Ok(Message::Large { .. }) => panic!("a large message"),
            Err(lack) => Err(lack.why),
        });
    }
    Ok(found)
}

fn asked(answer: &str, announced: &[u32], uids: &[u32]) -> Result<Vec<Result<Vec<u8>, Lacking>>, Error> {
    let mut server = Server::new();
    server.looks("", &[("INBOX", 5)]).say(answer);
    let (announced, uids) = (announced.to_vec(), uids.to_vec());
    hear(&server.text, 1, |io| messages(io, announced, uids))
}

/// A message of one byte as a server gives it.
fn one(uid: u32) -> String {
    format!("DATA {uid} 1 5 7\nxDONE {uid} 11f6ad8ec52a2984abaafd7c3b516503785c2072\n")
}

#[test]
fn a_message_that_is_refused_for_another_reason_is_unreadable_and_the_rest_comes() {
    let unreadable = |why: &str| Err(Lacking::Unreadable(Error::Refused(format!("the server says: {why}"))));
    let answer = format!("OK\n{}NO cannot open 2\nNO no such file 3\n{}DONE FDATA id j\n", one(1), one(4));
    let found = asked(&answer, &[1, 2, 3, 4], &[1, 2, 3, 4]).expect("messages");
    assert_eq!(found, [Ok(b"x".to_vec()), unreadable("cannot open 2"), Err(Lacking::Absent), Ok(b"x".to_vec())]);
    let found = asked("NO permission denied\n", &[1, 2], &[1, 2]).expect("an answer");
    assert_eq!(found, [unreadable("permission denied"), unreadable("permission denied")]);
}

/// Those that are not wanted any more are read over, refusals too; and what comes out of order is asked for anew.
#[test]
fn messages_that_were_announced_and_are_not_wanted_are_read_over() {
    let answer = format!("OK\n{}NO no such file 2\n{}DONE FDATA id j\n", one(1), one(3));
    assert_eq!(asked(&answer, &[1, 2, 3], &[3]), Ok(vec![Ok(b"x".to_vec())]));
    let again = format!("{answer}OK\n{}DONE FDATA id j\n{answer}", one(9));
    assert_eq!(asked(&again, &[1, 2, 3], &[9, 1]), Ok(vec![Ok(b"x".to_vec()), Ok(b"x".to_vec())]));
    let refused = asked("NO no such folder user.anna\n", &[1, 2, 3], &[3]);
    assert_eq!(refused, Ok(vec![Err(Lacking::Absent)]));
    let large = asked("OK\nDATA 1 9999999999 5 7\n", &[1, 2], &[2]);
    assert!(matches!(large, Err(Error::Peer { .. })), "{large:?}");
}
