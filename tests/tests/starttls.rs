//! When the clients of IMAP and of the replication protocol begin TLS, and that nobody on the way can make them say a password
//! in the clear or take for the server's what is not.

use cylinder_core::error::{Error, Fault};
use cylinder_core::imap::client::{Client, Login};
use cylinder_core::io::{Io, StreamId};
use cylinder_core::sync::client as sync;
use cylinder_core::time::Span;
use cylinder_core::wire::stream::{Limits, StartTls, Stream};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::mock::{CAPABILITIES, Mock, serve};
use cylinder_tests::net::{Net, join};
use std::cell::RefCell;
use std::rc::Rc;

const LOGIN: Login<'static> = Login { user: b"cyrus", act_as: Some(b"anna"), password: b"secret" };
/// A server that takes no password in the clear.
const CLOSED: &str = "IMAP4rev1 LITERAL+ STARTTLS LOGINDISABLED";

async fn log_in(io: Io, tls: StartTls) -> Result<(), Error> {
    let mut client = Client::open(Stream::connect(&io, "imap1", Client::LIMITS).await?, tls).await?;
    client.login(LOGIN).await?;
    client.logout().await;
    Ok(())
}

/// What comes of logging in, and which commands the server has heard.
fn imap(mock: Mock, mut net: Net, tls: StartTls) -> (Result<(), String>, Vec<String>) {
    let mock = Rc::new(RefCell::new(mock));
    let server = mock.clone();
    let done = join(&mut SimDisk::new(), &mut SimDisk::new(), &mut net, |io| log_in(io, tls), |io| serve(io, server));
    let commands = mock.borrow().commands.clone();
    (done.map_err(|error| error.to_string()), commands)
}

fn closed() -> Mock {
    Mock { capabilities: CLOSED.to_owned(), ..Mock::default() }
}

#[test]
fn a_password_is_said_after_tls_and_what_the_server_can_do_is_asked_again() {
    let with_tls = ["CAPABILITY", "STARTTLS", "CAPABILITY", "AUTHENTICATE", "CAPABILITY", "LOGOUT"];
    for tls in [StartTls::Always, StartTls::WhereNeeded] {
        assert_eq!(imap(closed(), Net::default(), tls), (Ok(()), with_tls.map(String::from).to_vec()), "{tls:?}");
    }
    // Where the server takes it in the clear, TLS is begun only if it was asked for.
    let open = || Mock { capabilities: format!("{CAPABILITIES} STARTTLS"), ..Mock::default() };
    assert_eq!(imap(open(), Net::default(), StartTls::Always).1, with_tls);
    let without = ["CAPABILITY", "AUTHENTICATE", "CAPABILITY", "LOGOUT"];
    assert_eq!(imap(open(), Net::default(), StartTls::WhereNeeded).1, without);
}

#[test]
fn without_tls_no_password_is_said_where_it_was_asked_for() {
    // Somebody on the way takes STARTTLS out of what the server says, and puts AUTH=PLAIN in.
    let (done, commands) = imap(Mock::default(), Net::default(), StartTls::Always);
    assert!(done.expect_err("no TLS").contains("does not offer STARTTLS"));
    assert_eq!(commands, ["CAPABILITY"]);
    // The other side is not who it should be.
    let complaint = Some(String::from("TLS: invalid peer certificate: UnknownIssuer"));
    let net = Net { secure: Some(Fault::Gone), complaint, ..Net::default() };
    let (done, commands) = imap(closed(), net, StartTls::WhereNeeded);
    let why = done.expect_err("no TLS");
    assert!(why.contains("before TLS was agreed: TLS: invalid peer certificate"), "{why}");
    assert_eq!(commands, ["CAPABILITY", "STARTTLS"]);
}

/// Greets, answers the first command, and keeps what it hears.
async fn says(io: Io, greeting: &str, answer: &str, heard: &RefCell<Vec<String>>) -> Result<(), Error> {
    let mut stream = Stream::new(&io, StreamId(1), "client", Limits { stall: Span::from_secs(60), ..Client::LIMITS });
    stream.send(greeting.as_bytes()).await?;
    while let Some(line) = stream.line().await? {
        heard.borrow_mut().push(String::from_utf8_lossy(line).into_owned());
        stream.send(answer.as_bytes()).await?;
        stream.settle().await?;
    }
    Ok(())
}

#[test]
fn a_greeting_that_somebody_is_logged_in_already_does_not_keep_tls_away() {
    let greeting = "* PREAUTH welcome\r\n";
    let answer = "* CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN\r\nc1 OK done\r\n";
    let (mut here, mut there, mut net) = (SimDisk::new(), SimDisk::new(), Net::default());
    let heard = RefCell::new(Vec::new());
    let done =
        join(&mut here, &mut there, &mut net, |io| log_in(io, StartTls::Always), |io| says(io, greeting, answer, &heard));
    let why = done.expect_err("no TLS").to_string();
    assert!(why.contains("does not offer STARTTLS"), "{why}");
    assert_eq!(heard.into_inner(), ["c1 CAPABILITY"]);
}

/// CVE-2011-0411: what is sent behind the answer to STARTTLS, in the clear, would be read as if it had come under TLS. What
/// comes later than the answer, and before TLS, is found by the driver.
#[test]
fn what_comes_with_the_answer_to_starttls_ends_the_connection() {
    let injected = b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nc3 OK done\r\n".to_vec();
    let mock = Mock { secured: (CAPABILITIES.to_owned(), injected), ..closed() };
    let (done, commands) = imap(mock, Net::default(), StartTls::WhereNeeded);
    let why = done.expect_err("a breach");
    assert!(why.contains("more than the answer to STARTTLS"), "{why}");
    assert_eq!(commands, ["CAPABILITY", "STARTTLS"]);
}

/// Says the greetings and the end of STARTTLS as a replication server does, and keeps what it hears.
async fn replica(io: Io, heard: Rc<RefCell<Vec<String>>>, before: &str, after: &str) -> Result<(), Error> {
    let limits = Limits { stall: Span::from_secs(60), ..sync::Client::LIMITS };
    let mut stream = Stream::new(&io, StreamId(1), "client", limits);
    stream.send(before.as_bytes()).await?;
    while let Some(line) = stream.line().await? {
        let line = String::from_utf8_lossy(line).into_owned();
        let answer = if line == "STARTTLS" { format!("OK Begin TLS negotiation now\r\n@{after}") } else { "OK\r\n".to_owned() };
        heard.borrow_mut().push(line.split(' ').next().unwrap_or_default().to_owned());
        for part in answer.split('@') {
            // The client begins TLS between the two.
            io.sleep_until(io.now().plus(Span::from_secs(1))).await;
            stream.send(part.as_bytes()).await?;
            stream.settle().await?;
        }
    }
    Ok(())
}

#[test]
fn a_replication_server_greets_once_more_under_tls() {
    let banner = "* OK mock Cyrus sync server 3.6.1\r\n";
    let open = format!("* SASL PLAIN\r\n* STARTTLS\r\n{banner}");
    let closed = format!("* SASL SCRAM-SHA-1\r\n* STARTTLS\r\n{banner}");
    let without = format!("* SASL PLAIN\r\n{banner}");
    let after = format!("* SASL PLAIN\r\n* SIEVE-MAILBOX\r\n{banner}");
    let go = |before: &str, tls| {
        let heard = Rc::new(RefCell::new(Vec::new()));
        let client = async |io: Io| {
            let stream = Stream::connect(&io, "csync", sync::Client::LIMITS).await?;
            let mut client = sync::Client::open(stream, tls, Login { act_as: None, ..LOGIN }).await?;
            assert!(client.keeps_scripts() || before == open);
            assert_eq!(client.scripts(b"anna").await?, Ok(Vec::new()));
            client.exit().await;
            Ok::<(), Error>(())
        };
        let (mut here, mut there, mut net) = (SimDisk::new(), SimDisk::new(), Net::default());
        let done = join(&mut here, &mut there, &mut net, client, |io| replica(io, heard.clone(), before, &after));
        let heard = heard.borrow().clone();
        (done.map_err(|error| error.to_string()), heard)
    };
    let with_tls = ["STARTTLS", "AUTHENTICATE", "GET", "APPLY", "EXIT"];
    for (before, tls) in [(&open, StartTls::Always), (&closed, StartTls::Always), (&closed, StartTls::WhereNeeded)] {
        assert_eq!(go(before, tls), (Ok(()), with_tls.map(String::from).to_vec()), "{before} {tls:?}");
    }
    assert_eq!(go(&open, StartTls::WhereNeeded).1, ["AUTHENTICATE", "EXIT"]);
    let (done, heard) = go(&without, StartTls::Always);
    assert!(done.expect_err("no TLS").contains("does not offer STARTTLS"));
    assert!(heard.is_empty(), "{heard:?}");
}
