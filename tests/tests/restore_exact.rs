//! Restoring by the replication protocol into a simulated server: cuts at every place, refusals, and servers that lie.

use cylinder_core::archive::append::Writer;
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::record::{CommitFacts, StateContent, StateRow};
use cylinder_core::backup::{self, Settings};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::index::flag;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::imap::client::Login;
use cylinder_core::io::{Io, StreamId};
use cylinder_core::pull::Origin;
use cylinder_core::restore::select::{Kind, Scope, Selection, Wish};
use cylinder_core::restore::server::exact::Exact;
use cylinder_core::restore::server::report::Report;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::store::archive_dir;
use cylinder_core::sync::client::Client;
use cylinder_core::time::Span;
use cylinder_core::view::When;
use cylinder_core::wire::stream::{Limits, StartTls, Stream};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::drive;
use cylinder_tests::host::Host;
use cylinder_tests::net::{Net, Way, join};
use cylinder_tests::replica::{Mailbox, Replica, Shared, serve};
use cylinder_tests::story;
use std::cell::RefCell;
use std::rc::Rc;

fn anna() -> Owner {
    Owner::User(b"anna".to_vec())
}

/// More records than go in one command, twice.
const MESSAGES: u64 = 1100;

/// A store with an archive of anna: 1,100 messages in INBOX, one of them expunged and one without a file, 3 in Sent.
fn store() -> SimDisk {
    let (mut host, mut disk) = (Host::new(), SimDisk::new());
    disk.wait_until(disk.now().plus(Span::from_ms(123)));
    for n in 0..MESSAGES {
        host.folder("user.anna").deliver(&story::mail(n, 60));
    }
    let inbox = host.folder("user.anna");
    inbox.flag(2, flag::SEEN | flag::FLAGGED);
    inbox.messages[4].expunged = true;
    inbox.messages[5].expunged = true;
    inbox.messages[5].unlinked = true;
    for n in 0..3 {
        // The first of them is in both folders.
        host.folder("user.anna.Sent").deliver(&story::mail(n * 5000, 60));
    }
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

#[derive(Clone, Copy)]
struct Asked {
    password: &'static str,
    replace: bool,
    rehearse: bool,
}

const ASKED: Asked = Asked { password: "secret", replace: false, rehearse: false };

async fn restore(io: Io, asked: Asked) -> Result<Report, Error> {
    let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
    let wish = Wish { kind: Kind::Every, ..Wish::new(Scope::All) };
    let selection = Selection::open(&reader, &anna(), When::Newest, wish).await?;
    let stream = Stream::connect(&io, "imap1", Client::LIMITS).await?;
    let login = Login { user: b"cyrus", act_as: None, password: asked.password.as_bytes() };
    let mut client = Client::open(stream, StartTls::WhereNeeded, login).await?;
    let mut exact = Exact::new(&io, &selection, &mut client);
    (exact.replace, exact.rehearse) = (asked.replace, asked.rehearse);
    let report = exact.run().await;
    client.exit().await;
    report
}

fn go(disk: &SimDisk, replica: &Shared, net: &mut Net, asked: Asked) -> Result<Report, Error> {
    let (mut here, mut there, replica) = (disk.clone(), SimDisk::new(), replica.clone());
    join(&mut here, &mut there, net, |io| restore(io, asked), |io| serve(io, replica))
}

fn empty() -> Shared {
    Rc::new(RefCell::new(Replica { password: String::from("secret"), ..Replica::default() }))
}

/// Asserts that a restore was clean.
#[track_caller]
fn clean(report: Result<Report, Error>, name: &str) -> Report {
    let report = report.unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(report.is_clean(), "{name}: {report:?}");
    report
}

#[test]
fn every_record_comes_with_its_message_and_a_second_run_does_nothing() {
    let (disk, replica) = (store(), empty());
    clean(go(&disk, &replica, &mut Net::default(), ASKED), "the first run");
    {
        let replica = replica.borrow();
        let inbox = &replica.boxes["user.anna"];
        assert_eq!(inbox.records.len() as u64, MESSAGES);
        let without: Vec<u64> =
            inbox.records.iter().filter(|(_, stored)| stored.content.is_none()).map(|(uid, _)| *uid).collect();
        assert_eq!(without, [6], "the one whose file was gone");
        let size: u64 = inbox.records.values().filter_map(|stored| Some(stored.content.as_ref()?.len() as u64)).sum();
        let sent: u64 =
            replica.boxes["user.anna.Sent"].records.values().map(|s| s.content.as_ref().map_or(0, Vec::len) as u64).sum();
        assert_eq!(replica.uploaded, size + sent * 2 / 3, "a message that two folders have went over the wire twice");
    }
    let before = replica.borrow().boxes.clone();
    let again = clean(go(&disk, &replica, &mut Net::default(), ASKED), "the second run");
    assert_eq!((again.sum(|f| f.added), again.sum(|f| f.present)), (0, MESSAGES + 3));
    assert_eq!(replica.borrow().boxes, before);
}

/// Adds a snapshot that has these quota roots, as a server could have told of them that lies.
fn with_quotas(disk: &mut SimDisk, roots: &[&str]) {
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
        let (mut table, _) = reader.newest_table().await?;
        let mut writer = Writer::from_reader(reader, &story::settings()).await?;
        for root in roots {
            let (name, content) = (format!("meta/quota/{root}").into_bytes(), b"1000\n2048\n");
            let (sha1, size) = (Guid::of(content), content.len() as u64);
            let at = writer.file(&name, io.now(), content, sha1).await?;
            table.states.push(StateRow { name, tuple: None, content: StateContent::File { sha1, size, at } });
        }
        table.states.sort_by(|a, b| a.name.cmp(&b.name));
        let (source, cyrus) = (String::from("test"), String::from("3.6"));
        writer.commit(table, CommitFacts { time: io.now(), source, cyrus, standing: None, dead: 0 }).await?;
        writer.close().await;
        Ok::<(), Error>(())
    };
    drive(disk, procedure).finished().expect("a commit");
}

/// Whoever gets her mail back gets her limits back, and nobody else's.
#[test]
fn of_quota_roots_only_those_of_the_user_are_set() {
    let (mut disk, replica) = (store(), empty());
    with_quotas(
        &mut disk,
        &["example.com!", "other", "user.anna", "user.anna.Sent", "user.annabel", "user.bob", "user.bob.anna"],
    );
    clean(go(&disk, &replica, &mut Net::default(), ASKED), "a restore");
    let replica = replica.borrow();
    let quotas: Vec<&String> = replica.others.iter().filter(|(what, _)| what == "QUOTA").map(|(_, line)| line).collect();
    assert_eq!(quotas.len(), 2, "{quotas:?}");
    assert!(quotas[0].contains("ROOT user.anna ") && quotas[1].contains("ROOT user.anna.Sent "), "{quotas:?}");
}

#[test]
fn a_cut_at_any_place_leaves_what_the_next_run_completes() {
    let (disk, whole) = (store(), empty());
    let mut net = Net::default();
    clean(go(&disk, &whole, &mut net, ASKED), "uncut");
    let whole = whole.borrow().boxes.clone();
    let mut went_on = 0;
    for (way, total) in [(Way::Up, net.sent[0]), (Way::Down, net.sent[1])] {
        for at in (0..total).step_by(total as usize / 40 + 1) {
            let (name, replica) = (format!("cut {way:?} at {at}"), empty());
            let first = go(&disk, &replica, &mut Net { cut: Some((way, at)), ..Net::default() }, ASKED);
            // Only a cut behind the last answer that matters may go unnoticed.
            if first.is_ok_and(|report| report.ended_early.is_none()) {
                assert_eq!(replica.borrow().boxes, whole, "{name}: nothing was said");
            }
            went_on += u32::from(!replica.borrow().boxes.is_empty());
            clean(go(&disk, &replica, &mut Net::default(), ASKED), &name);
            assert_eq!(replica.borrow().boxes, whole, "{name}");
        }
    }
    assert!(went_on > 20, "only {went_on} of the cuts left something to go on from");
}

#[test]
fn what_is_there_stays_unless_it_is_to_be_replaced() {
    let (disk, replica) = (store(), empty());
    clean(go(&disk, &replica, &mut Net::default(), ASKED), "the first run");
    let good = replica.borrow().boxes.clone();
    replica.borrow_mut().boxes.get_mut("user.anna.Sent").expect("Sent").records.remove(&2);
    let before = replica.borrow().boxes.clone();
    let report = go(&disk, &replica, &mut Net::default(), ASKED).expect("a report");
    let sent = report.folders.iter().find(|folder| folder.name == "INBOX.Sent").expect("Sent");
    assert!(sent.failures[0].why.starts_with("it is there, and not as it was; --replace"), "{sent:?}");
    assert_eq!(replica.borrow().boxes, before, "something was changed");
    clean(go(&disk, &replica, &mut Net::default(), Asked { replace: true, ..ASKED }), "replacing");
    assert_eq!(replica.borrow().boxes, good);
}

#[test]
fn a_uniqueid_in_use_is_told_with_the_mailbox_that_has_it() {
    let (disk, replica) = (store(), empty());
    clean(go(&disk, &replica, &mut Net::default(), ASKED), "the first run");
    let good = replica.borrow().boxes.clone();
    let move_to = |replica: &Shared, name: &str| {
        let mut replica = replica.borrow_mut();
        let sent = replica.boxes.remove("user.anna.Sent").expect("Sent");
        replica.boxes.insert(String::from(name), sent);
    };
    move_to(&replica, "user.bob.Sent");
    let report = go(&disk, &replica, &mut Net::default(), Asked { replace: true, ..ASKED }).expect("a report");
    let why = &report.folders.iter().find(|folder| folder.name == "INBOX.Sent").expect("Sent").failures[0].why;
    assert!(why.contains("is in use by user.bob.Sent"), "{why}");
    assert!(replica.borrow().boxes.contains_key("user.bob.Sent"), "another user's mailbox was removed");
    let sent = replica.borrow_mut().boxes.remove("user.bob.Sent").expect("Sent");
    replica.borrow_mut().boxes.insert(String::from("DELETED.user.anna.Sent.6B047E5B"), sent);
    clean(go(&disk, &replica, &mut Net::default(), Asked { replace: true, ..ASKED }), "replacing");
    assert_eq!(replica.borrow().boxes, good);
}

/// cyrus-imapd 3.6.1 keeps the record of a uniqueid when a deleted mailbox expires: no mailbox has it, and it is in use.
#[test]
fn a_uniqueid_that_only_the_server_remembers_is_used_again_and_so_after_a_cut() {
    let disk = store();
    let good = {
        let replica = empty();
        clean(go(&disk, &replica, &mut Net::default(), ASKED), "an empty server");
        replica.borrow().boxes.clone()
    };
    let stale = || {
        let replica = empty();
        let of = |(name, mailbox): (&String, &Mailbox)| (mailbox.id.clone(), format!("DELETED.{name}.6B047E5B"));
        replica.borrow_mut().stale = good.iter().map(of).collect();
        replica
    };
    let (replica, mut net) = (stale(), Net::default());
    clean(go(&disk, &replica, &mut net, ASKED), "a server that remembers");
    assert_eq!(replica.borrow().boxes, good);
    let (total, mut kept_places) = (net.sent[0], 0);
    // The last ones are near: a place is kept for a moment only.
    let near = (total.saturating_sub(4500)..total).step_by(150);
    for at in (0..total).step_by(total as usize / 40 + 1).chain(near) {
        let replica = stale();
        let _ = go(&disk, &replica, &mut Net { cut: Some((Way::Up, at)), ..Net::default() }, ASKED);
        let is_kept = |(name, mailbox): (&String, &Mailbox)| good.get(name).is_some_and(|good| good.id != mailbox.id);
        kept_places += u32::from(replica.borrow().boxes.iter().any(is_kept));
        clean(go(&disk, &replica, &mut Net::default(), ASKED), &format!("after a cut at {at}"));
        assert_eq!(replica.borrow().boxes, good, "cut at {at}");
    }
    assert!(kept_places > 0, "no cut left a mailbox that keeps a place");
}

#[test]
fn a_rehearsal_changes_nothing_and_a_wrong_password_is_told() {
    let (disk, replica) = (store(), empty());
    let planned = clean(go(&disk, &replica, &mut Net::default(), Asked { rehearse: true, ..ASKED }), "a plan");
    assert_eq!(planned.sum(|f| f.added), MESSAGES + 3);
    assert!(replica.borrow().boxes.is_empty());
    let error = go(&disk, &replica, &mut Net::default(), Asked { password: "wrong", ..ASKED }).expect_err("a refusal");
    assert!(error.to_string().starts_with("imap1: cyrus may not log in: "), "{error}");
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
    let greeting = "* SASL PLAIN\r\n* OK x Cyrus sync server 3.6.1\r\nOK welcome\r\n";
    let imap = "* OK imap\r\n* CAPABILITY IMAP4rev1";
    let deep = format!("{greeting}* MAILBOX {}\r\nOK success\r\n", "(".repeat(5000));
    let cases = [
        ("nothing", String::new(), "the connection ended before"),
        ("no greeting", String::from("220 smtp\r\n"), "expected the greeting"),
        ("no end of the greeting", "* SASL PLAIN\r\n".repeat(200), "end of its greeting in 100 lines"),
        ("no PLAIN", String::from("* SASL GSSAPI\r\n* OK x Cyrus sync server 3.6.1\r\n"), "takes no password"),
        (
            "no replication",
            format!("{imap} AUTH=PLAIN\r\nc1 OK\r\nc2 OK\r\n* CAPABILITY IMAP4rev1\r\nc3 OK\r\n"),
            "X-REPLICATION",
        ),
        ("no PLAIN by IMAP", format!("{imap} AUTH=SCRAM-SHA-1\r\nc1 OK\r\n"), "takes no password"),
        ("no TLS after all", format!("{imap} STARTTLS\r\nc1 OK\r\nc2 NO not today\r\n"), "does not begin TLS: the server says"),
        ("more than TLS", format!("{imap} STARTTLS\r\nc1 OK\r\nc2 OK\r\n* CAPABILITY"), "more than the answer to STARTTLS"),
        ("a deep list", deep, "nested deeper"),
        ("half a literal", format!("{greeting}* MAILBOX %(ACL {{50+}}\r\nabc"), "the connection ended before"),
        ("a huge literal", format!("{greeting}* MAILBOX %(ACL {{99999999999+}}\r\nabc"), "answer of more than"),
        ("nonsense", format!("{greeting}* MAILBOX ?(\r\n? what\r\n"), "found"),
        ("BAD", format!("{greeting}BAD command\r\n"), "expected `OK` or `NO`"),
        ("no end", format!("{greeting}* X\r\n* X\r\n"), "the connection ended before"),
    ];
    for (name, said, why) in cases {
        let (mut here, mut there) = (disk.clone(), SimDisk::new());
        let said = said.into_bytes();
        let result = join(&mut here, &mut there, &mut Net::default(), |io| restore(io, ASKED), |io| liar(io, said));
        let error = match result {
            Err(error) => error.to_string(),
            Ok(report) => report.ended_early.unwrap_or_else(|| panic!("{name}: was believed")),
        };
        assert!(error.contains(why), "{name}: {error}");
    }
}
