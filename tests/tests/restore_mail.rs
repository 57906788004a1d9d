//! Restoring by IMAP into a simulated server: cuts at every place, refusals, servers that can little, and servers that lie.

use cylinder_core::archive::read::Reader;
use cylinder_core::backup::{self, Settings};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::names::{Naming, Owner};
use cylinder_core::error::Error;
use cylinder_core::imap::client::{Client, Login};
use cylinder_core::io::{Io, StreamId};
use cylinder_core::pull::Origin;
use cylinder_core::restore::select::{Scope, Selection, Wish};
use cylinder_core::restore::server::deliver::OverQuota;
use cylinder_core::restore::server::mail::{Run, Target};
use cylinder_core::restore::server::names::Names;
use cylinder_core::restore::server::report::Report;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::store::archive_dir;
use cylinder_core::time::Span;
use cylinder_core::view::When;
use cylinder_core::wire::stream::{Limits, StartTls, Stream};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::drive;
use cylinder_tests::host::Host;
use cylinder_tests::mock::{Act, CAPABILITIES, Mock, MockMessage, Shared, serve};
use cylinder_tests::net::{Net, Way, join, meet};
use cylinder_tests::story;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

fn anna() -> Owner {
    Owner::User(b"anna".to_vec())
}

const MESSAGES: u64 = 40;

/// A message like no other, with proper ends of lines.
fn mail(n: u64) -> Vec<u8> {
    format!("From: anna@example.org\r\nMessage-ID: <{n}@example.org>\r\n\r\n{}", "line\r\n".repeat(10 + n as usize % 50))
        .into_bytes()
}

/// A store with an archive of anna: 40 messages in INBOX, 5 in Sent, two of them with what no server takes.
fn store() -> SimDisk {
    let (mut host, mut disk) = (Host::new(), SimDisk::new());
    disk.wait_until(disk.now().plus(Span::from_ms(123)));
    for n in 0..MESSAGES {
        host.folder("user.anna").deliver(&mail(n));
    }
    for n in 100..103 {
        host.folder("user.anna.Sent").deliver(&mail(n));
    }
    host.folder("user.anna.Sent").deliver(b"Subject: bare\r\n\r\none\ntwo\r\n");
    host.folder("user.anna.Sent").deliver(b"Subject: NUL\r\n\r\n\0\r\n");
    host.publish(&mut disk);
    disk.wait_until(disk.now().plus(Span::from_secs(5)));
    let settings = Settings {
        archive: story::settings(),
        source: String::from("test"),
        adopt: false,
        archive_id: *b"sixteen bytes id",
        read_rate: 0,
    };
    let procedure = |io: Io| async move {
        let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
        let mut site = Site::open(&io, conf, None, Locking::AsServer, Patience::default()).await?;
        backup::run(&io, &mut Origin::Local(&mut site), &anna(), &archive_dir(&anna())?, &settings).await.map(drop)
    };
    drive(&mut disk, procedure).finished().expect("a backup");
    disk
}

struct Asked {
    password: &'static str,
    over_quota: OverQuota,
    rehearse: bool,
    merge: bool,
}

const ASKED: Asked = Asked { password: "secret", over_quota: OverQuota::Warn, rehearse: false, merge: false };

async fn restore(io: Io, asked: &Asked) -> Result<Report, Error> {
    let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
    let selection = Selection::open(&reader, &anna(), When::Newest, Wish::new(Scope::All)).await?;
    let stream = Stream::connect(&io, "imap1", Client::LIMITS).await?;
    let mut client = Client::open(stream, StartTls::WhereNeeded).await?;
    let login = Login { user: b"cyrus", act_as: Some(b"anna"), password: asked.password.as_bytes() };
    client.login(login).await?;
    let names = Names::new(Naming::default(), client.namespace().await?, &anna());
    let target = if asked.merge { Target::Original } else { Target::Tree(names.top(b"x")) };
    let mut run = Run::new(&io, &selection, &mut client, &names, target);
    run.over_quota = asked.over_quota;
    run.stage(String::from("1f"));
    if asked.merge {
        run.look_elsewhere().await?;
    }
    let planned = run.plan().await?;
    if asked.rehearse {
        return Ok(planned);
    }
    let report = run.carry_out().await;
    client.logout().await;
    report
}

fn go(disk: &SimDisk, mock: &Shared, net: &mut Net, asked: &Asked) -> Result<Report, Error> {
    let (mut here, mut there, mock) = (disk.clone(), SimDisk::new(), mock.clone());
    join(&mut here, &mut there, net, |io| restore(io, asked), |io| serve(io, mock))
}

/// As [`go`], with a server that can be reached again when the connection has ended.
fn go_on(disk: &SimDisk, mock: &Shared, net: &mut Net, asked: &Asked) -> Result<Report, Error> {
    let (mut here, mut there, mock) = (disk.clone(), SimDisk::new(), mock.clone());
    meet(&mut here, &mut there, net, |io| restore(io, asked), move |io| serve(io, mock.clone()))
}

/// With a mailbox on the way, and without.
const WAYS: [&str; 2] = ["MOVE", ""];

fn server(more: &str) -> Mock {
    Mock { capabilities: format!("{CAPABILITIES} {more}"), ..Mock::default() }
}

fn shared(mock: Mock) -> Shared {
    Rc::new(RefCell::new(mock))
}

/// The tree must have every message once, and nothing else.
#[track_caller]
fn complete(mock: &Shared, name: &str) {
    let mock = mock.borrow();
    for (mailbox, expected) in [("INBOX.RESTORED.x.INBOX", 0..MESSAGES), ("INBOX.RESTORED.x.Sent", 100..103)] {
        let expected: Vec<Vec<u8>> = expected.map(mail).collect();
        let found = &mock.boxes[mailbox].messages;
        let contents: BTreeSet<&Vec<u8>> = found.iter().map(|message| &message.content).collect();
        assert_eq!(contents, expected.iter().collect(), "{name}: {mailbox}");
        assert_eq!(found.len(), expected.len(), "{name}: {mailbox}: a message came twice");
    }
}

#[test]
fn a_cut_at_any_place_leaves_what_the_next_run_completes() {
    let disk = store();
    let (whole, mut net) = (shared(Mock::default()), Net::default());
    go(&disk, &whole, &mut net, &ASKED).expect("a restore");
    complete(&whole, "uncut");
    for (way, total) in [(Way::Up, net.sent[0]), (Way::Down, net.sent[1])] {
        for at in (0..total).step_by(total as usize / 60 + 1) {
            let mock = shared(Mock::default());
            let mut cut = Net { cut: Some((way, at)), ..Net::default() };
            let first = go(&disk, &mock, &mut cut, &ASKED);
            // Only a cut behind the last answer that matters may go unnoticed.
            if first.is_ok_and(|report| report.ended_early.is_none()) {
                complete(&mock, &format!("cut {way:?} at {at}: nothing was said"));
            }
            go(&disk, &mock, &mut Net::default(), &ASKED).unwrap_or_else(|e| panic!("cut {way:?} at {at}: {e}"));
            complete(&mock, &format!("cut {way:?} at {at}"));
        }
    }
}

#[test]
fn one_that_is_refused_costs_nothing_but_itself() {
    let (disk, mock) = (store(), shared(Mock::default()));
    let report = go(&disk, &mock, &mut Net::default(), &ASKED).expect("a restore");
    complete(&mock, "refusals");
    let sent = report.folders.iter().find(|folder| folder.name == "INBOX.Sent").expect("Sent");
    let why: Vec<&str> = sent.failures.iter().map(|failure| failure.why.as_str()).collect();
    assert_eq!((sent.added, sent.failed), (3, 2));
    assert!(why[0].contains("bare newlines") && why[1].contains("NUL characters"), "{why:?}");
}

#[test]
fn what_was_planned_is_what_is_done_and_a_rehearsal_does_nothing() {
    let (disk, mock) = (store(), shared(Mock::default()));
    let planned = go(&disk, &mock, &mut Net::default(), &Asked { rehearse: true, ..ASKED }).expect("a plan");
    assert_eq!((planned.sum(|f| f.added), mock.borrow().boxes.len()), (MESSAGES + 5, 1));
    go(&disk, &mock, &mut Net::default(), &ASKED).expect("a restore");
    let planned = go(&disk, &mock, &mut Net::default(), &Asked { rehearse: true, ..ASKED }).expect("a plan");
    assert_eq!((planned.sum(|f| f.added), planned.sum(|f| f.present)), (2, MESSAGES + 3), "but the two that are refused");
}

#[test]
fn a_server_that_can_little_gets_the_same() {
    for lacking in ["LITERAL+", "MULTIAPPEND", "DIGEST=SHA1", "SASL-IR", "LITERAL+ MULTIAPPEND DIGEST=SHA1"] {
        let words = CAPABILITIES.split(' ').filter(|word| !lacking.split(' ').any(|other| other == *word));
        let mock = shared(Mock { capabilities: words.collect::<Vec<_>>().join(" "), ..Mock::default() });
        let disk = store();
        go(&disk, &mock, &mut Net::default(), &ASKED).unwrap_or_else(|e| panic!("without {lacking}: {e}"));
        complete(&mock, lacking);
        go(&disk, &mock, &mut Net::default(), &ASKED).unwrap_or_else(|e| panic!("without {lacking}: {e}"));
        complete(&mock, lacking);
    }
}

#[test]
fn a_wrong_password_is_a_refusal_that_names_who_and_where() {
    let (disk, mock) = (store(), shared(Mock::default()));
    let error = go(&disk, &mock, &mut Net::default(), &Asked { password: "wrong", ..ASKED }).expect_err("a refusal");
    let text = error.to_string();
    assert!(
        text.starts_with("imap1: cyrus may not log in to act as anna: ") && text.contains("AUTHENTICATIONFAILED"),
        "{text}"
    );
}

#[test]
fn without_room_nothing_is_begun_or_what_fits_is_restored() {
    let disk = store();
    let mock = shared(Mock { room: 4096, ..Mock::default() });
    let stop = Asked { over_quota: OverQuota::Stop, ..ASKED };
    let error = go(&disk, &mock, &mut Net::default(), &stop).expect_err("no room");
    assert!(error.to_string().starts_with("no room: "), "{error}");
    assert_eq!(mock.borrow().boxes.len(), 1, "something was made");
    let report = go(&disk, &mock, &mut Net::default(), &ASKED).expect("a restore");
    let inbox = &report.folders[0];
    assert!(inbox.added > 0 && inbox.failed > 0 && inbox.added + inbox.failed == MESSAGES, "{inbox:?}");
}

#[test]
fn a_folder_that_may_not_be_made_does_not_stop_the_others() {
    let disk = store();
    let forbidden = BTreeSet::from([String::from("INBOX.RESTORED.x.INBOX")]);
    let mock = shared(Mock { forbidden, ..Mock::default() });
    let report = go(&disk, &mock, &mut Net::default(), &ASKED).expect("a restore");
    let [inbox, sent] = &report.folders[..] else { panic!("{report:?}") };
    assert_eq!((inbox.added, inbox.failed, sent.added), (0, MESSAGES + 1, 3));
    assert!(inbox.failures[0].why.contains("NOPERM"), "{inbox:?}");
}

/// Says `lines`, whatever it is asked.
async fn liar(io: Io, lines: Vec<u8>) -> Result<(), Error> {
    let limits = Limits { line: 1 << 20, stall: Span::from_secs(3600), bytes_per_second: 0 };
    let mut stream = Stream::new(&io, StreamId(1), "client", limits);
    stream.send(&lines).await?;
    stream.settle().await
}

#[test]
fn a_server_that_lies_is_an_error_and_nothing_is_taken_in() {
    let disk = store();
    let greeting = "* OK hi\r\n* CAPABILITY IMAP4rev1 LITERAL+ AUTH=PLAIN SASL-IR DIGEST=SHA1\r\nc1 OK\r\nc2 OK\r\n\
        * CAPABILITY IMAP4rev1 LITERAL+ DIGEST=SHA1\r\nc3 OK\r\n* NAMESPACE ((\"\" \"/\")) NIL NIL\r\nc4 OK\r\n";
    let long = format!("* {}\r\n", "x".repeat(5 << 20));
    let deep = format!("* {}\r\n", "(".repeat(1000));
    let cases = [
        ("nothing", String::new(), "the connection ended before"),
        ("no greeting", String::from("HTTP/1.1 200 OK\r\n"), "found `HTTP"),
        ("a farewell", String::from("* BYE too busy\r\n"), "expected a greeting"),
        ("a long line", format!("* OK hi\r\n{long}"), "line of more than"),
        ("a deep list", format!("* OK hi\r\n{deep}"), "expected an IMAP response"),
        ("half a line", String::from("* OK hi\r\n* CAPA"), "the connection ended before"),
        ("a huge literal", String::from("* OK hi\r\n* X {99999999999}\r\n"), "sends a literal of 99999999999 bytes"),
        ("strange tags", format!("* OK hi\r\n{}", "z9 OK\r\n"), "a command that was never sent"),
        ("BAD", String::from("* OK hi\r\nc1 BAD what\r\n"), "expected a command that it understands"),
        ("no namespace", greeting.replace("((\"\" \"/\"))", "NIL"), "tells no personal namespace"),
        ("the end within a literal", format!("{greeting}* LIST () \"/\" {{50}}\r\nabc"), "the connection ended before"),
    ];
    for (name, said, why) in cases {
        let (mut here, mut there) = (disk.clone(), SimDisk::new());
        let said = said.into_bytes();
        let result = join(&mut here, &mut there, &mut Net::default(), |io| restore(io, &ASKED), |io| liar(io, said));
        let error = match result {
            Err(error) => error.to_string(),
            Ok(report) => report.ended_early.unwrap_or_else(|| panic!("{name}: was believed")),
        };
        assert!(error.contains(why), "{name}: {error}");
    }
}

/// How often each message that a server takes is in a mailbox of it; all of them if they were not restored.
fn counts(mock: &Shared) -> BTreeMap<Vec<u8>, u32> {
    let mut counts: BTreeMap<Vec<u8>, u32> = (0..MESSAGES).chain(100..103).map(|n| (mail(n), 0)).collect();
    for message in mock.borrow().boxes.values().flat_map(|mailbox| &mailbox.messages) {
        *counts.entry(message.content.clone()).or_default() += 1;
    }
    counts
}

/// Another client may rename a folder or file messages at any moment of a merge, also while it looks at the folders one by one.
#[test]
fn what_is_renamed_or_filed_during_a_merge_does_not_come_twice() {
    let disk = store();
    let rename: Act = |mock| {
        let sent = mock.boxes.remove("INBOX.Sent").unwrap_or_default();
        mock.boxes.insert(String::from("INBOX.Filed"), sent);
    };
    let back: Act = |mock| mock.file("INBOX.Sent", "INBOX", |_| true);
    let away: Act = |mock| mock.file("INBOX", "INBOX.Archive", |message| message.uid % 3 == 0);
    for (what, act) in [("rename", rename), ("file into the INBOX", back), ("file out of it", away)] {
        let merge = Asked { merge: true, ..ASKED };
        // What the user has: all but every tenth message.
        let had = shared(Mock::default());
        go(&disk, &had, &mut Net::default(), &merge).expect("a merge");
        had.borrow_mut().boxes.get_mut("INBOX").expect("INBOX").messages.retain(|message| message.uid % 10 != 0);
        had.borrow_mut().commands.clear();
        let quiet = shared(had.borrow().clone());
        go(&disk, &quiet, &mut Net::default(), &merge).expect("a merge");
        let commands = quiet.borrow().commands.len();
        assert!(commands > 10, "{commands}");
        for number in 0..=commands {
            let mock = shared(Mock { other: Some((number, act)), ..had.borrow().clone() });
            go(&disk, &mock, &mut Net::default(), &merge).unwrap_or_else(|e| panic!("{what} before command {number}: {e}"));
            let twice = counts(&mock).into_values().filter(|count| *count > 1).count();
            assert_eq!(twice, 0, "{what} before command {number}: messages came twice");
            mock.borrow_mut().other = None;
            go(&disk, &mock, &mut Net::default(), &merge).expect("a merge");
            let counts = counts(&mock);
            assert!(counts.values().all(|count| *count == 1), "{what} before command {number}: {:?}", counts.values());
        }
    }
}

/// Looking has an end although something comes before every command, and what that may have cost is said.
#[test]
fn a_merge_beside_a_client_that_never_rests_ends_and_says_so() {
    fn deliver(mock: &mut Mock) {
        let (number, inbox) = (mock.commands.len(), mock.boxes.entry(String::from("INBOX")).or_default());
        let uid = inbox.messages.last().map_or(1, |message| message.uid + 1);
        let (flags, date) = (String::new(), String::new());
        inbox.messages.push(MockMessage { uid, flags, date, content: mail(1000 + number as u64) });
        mock.other = Some((number + 1, deliver));
    }
    let (disk, merge) = (store(), Asked { merge: true, ..ASKED });
    let mock = shared(Mock { other: Some((0, deliver)), ..Mock::default() });
    let report = go(&disk, &mock, &mut Net::default(), &merge).expect("a merge");
    assert!(report.notes.iter().any(|note| note.contains("messages kept coming")), "{:?}", report.notes);
    assert_eq!(report.sum(|folder| folder.added), MESSAGES + 3);
    assert!(counts(&mock).values().all(|count| *count == 1), "a message came twice");
    // The same server at rest: nothing to say, and nothing to add.
    mock.borrow_mut().other = None;
    let report = go(&disk, &mock, &mut Net::default(), &merge).expect("a merge");
    assert!(!report.notes.iter().any(|note| note.contains("messages kept coming")), "{:?}", report.notes);
    assert_eq!(report.sum(|folder| folder.added), 0);
}

#[test]
fn a_folder_whose_messages_are_all_elsewhere_is_not_made_again() {
    let (disk, merge) = (store(), Asked { merge: true, ..ASKED });
    let mock = shared(Mock::default());
    go(&disk, &mock, &mut Net::default(), &merge).expect("a merge");
    mock.borrow_mut().file("INBOX.Sent", "INBOX.Filed", |_| true);
    mock.borrow_mut().boxes.remove("INBOX.Sent");
    // This server has those, too, that it would not take now.
    for content in [&b"Subject: bare\r\n\r\none\ntwo\r\n"[..], b"Subject: NUL\r\n\r\n\0\r\n"] {
        let (flags, date) = (String::new(), String::new());
        let message = MockMessage { uid: 9, flags, date, content: content.to_vec() };
        mock.borrow_mut().boxes.get_mut("INBOX.Filed").expect("it was made").messages.push(message);
    }
    let report = go(&disk, &mock, &mut Net::default(), &merge).expect("a merge");
    assert_eq!((report.sum(|f| f.elsewhere), report.sum(|f| f.added + f.failed)), (5, 0));
    assert!(!mock.borrow().boxes.contains_key("INBOX.Sent") && report.folders.iter().all(|folder| !folder.is_created));
}

#[test]
fn a_message_at_which_the_connection_ends_twice_is_a_failure_and_the_rest_comes_back() {
    let disk = store();
    for more in WAYS {
        let mock = shared(Mock { poison: [7, 8, 30, 101].map(mail).into(), ..server(more) });
        for added in [MESSAGES, 0] {
            let report = go_on(&disk, &mock, &mut Net::default(), &ASKED).expect("a restore");
            assert_eq!(report.ended_early, None, "{more}: {report:?}");
            let (sum, failed) = (report.sum(|f| f.added), report.sum(|f| f.failed));
            assert_eq!((sum, failed), (added.saturating_sub(1), 4 + 2), "{more}: {report:?}");
            let why = &report.folders[0].failures[0];
            assert!(why.what.contains("UID 8 ") && why.why.contains("the connection ended twice at this message"), "{why:?}");
        }
        assert_eq!(mock.borrow().boxes["INBOX.RESTORED.x.INBOX"].messages.len() as u64, MESSAGES - 3);
        assert!(mock.borrow().boxes.keys().all(|name| !name.contains("adding")), "{:?}", mock.borrow().boxes.keys());
    }
}

#[test]
fn one_run_goes_on_over_another_connection_wherever_the_first_is_cut() {
    let disk = store();
    for more in WAYS {
        let mut net = Net::default();
        go_on(&disk, &shared(server(more)), &mut net, &ASKED).expect("a restore");
        for (way, total) in [(Way::Up, net.sent[0]), (Way::Down, net.sent[1])] {
            for at in (0..total).step_by(total as usize / 50 + 1) {
                let (mock, name) = (shared(server(more)), format!("{more} cut {way:?} at {at}"));
                let mut cut = Net { cut: Some((way, at)), ..Net::default() };
                match go_on(&disk, &mock, &mut cut, &ASKED) {
                    Ok(report) => {
                        assert_eq!(report.ended_early, None, "{name}");
                        assert_eq!(report.sum(|f| f.added), MESSAGES + 3, "{name}: {report:?}");
                    }
                    // Before anything is done, nobody has to be asked again.
                    Err(_) => drop(go_on(&disk, &mock, &mut Net::default(), &ASKED).expect("a restore")),
                }
                complete(&mock, &name);
            }
        }
    }
}

#[test]
fn what_a_server_has_changed_is_taken_away_again() {
    let disk = store();
    fn rewrite(content: &[u8]) -> Vec<u8> {
        let is_odd = content.windows(4).any(|window| window == b"<11@" || window == b"101@");
        if is_odd { content.to_ascii_uppercase() } else { content.to_vec() }
    }
    for more in WAYS {
        let mock = shared(Mock { rewrite: Some(rewrite), ..server(more) });
        for added in [MESSAGES + 1, 0] {
            let report = go(&disk, &mock, &mut Net::default(), &ASKED).expect("a restore");
            assert_eq!((report.sum(|f| f.added), report.sum(|f| f.failed)), (added, 2 + 2), "{more}: {report:?}");
            assert!(report.folders[0].failures[0].why.contains("other content"), "{report:?}");
        }
        let stored = mock.borrow().boxes.values().map(|mailbox| mailbox.messages.len() as u64).sum::<u64>();
        assert_eq!(stored, MESSAGES + 1, "{more}");
    }
}
