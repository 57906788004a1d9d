//! TLS over real sockets, with a server by rustls and certificates that are made here.

use super::*;
use cylinder_transport_ssh::Trust;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use std::net::SocketAddr;

/// Who signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Authority { pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate for these names and addresses, in PEM form, and what a server needs to show it.
    fn server(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> (String, Arc<ServerConfig>) {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).expect("parameters");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), config(certificate.der().clone(), &key, rustls::ALL_VERSIONS))
    }
}

fn config(
    certificate: rustls::pki_types::CertificateDer<'static>,
    key: &KeyPair,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).expect("versions");
    Arc::new(builder.with_no_client_auth().with_single_cert(vec![certificate], key).expect("a certificate and its key"))
}

type Secured = StreamOwned<ServerConnection, TcpStream>;

fn secured(config: &Arc<ServerConfig>, socket: TcpStream) -> Secured {
    StreamOwned::new(ServerConnection::new(config.clone()).expect("a session"), socket)
}

/// Serves clients one after the other.
fn listen(mut serve: impl FnMut(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            serve(socket);
        }
    });
    address
}

/// A server that says back what it hears, encrypted from the beginning.
fn echo_server(config: Arc<ServerConfig>) -> SocketAddr {
    listen(move |socket| {
        let mut stream = secured(&config, socket);
        let mut piece = [0; 5000];
        while let Ok(n @ 1..) = stream.read(&mut piece) {
            if stream.write_all(&piece[..n]).and_then(|()| stream.flush()).is_err() {
                break;
            }
        }
    })
}

impl World {
    /// Connections that trust what is in a file with this content.
    fn trusting(&self, pem: &str) -> Streams {
        let file = self.path("ca.pem");
        std::fs::write(&file, pem).expect("a file");
        self.hub.streams(Ssh::default()).with_sessions(Arc::new(Trust::file(&file).expect("certificates")))
    }

    /// Why a connection to this peer does not come to be encrypted.
    #[track_caller]
    fn refusal(&self, streams: &mut Streams, peer: &str) -> String {
        let stream = connect(streams, peer);
        // What is sent before it is known who is there does not leave; once it is known, it is not taken.
        let sent = finish(&start(streams, Op::Send { stream, data: b"password".to_vec() }));
        assert!(matches!(sent, Ok(Reply::Bytes(_)) | Err(Fault::Gone)), "{peer}: {sent:?}");
        let received = start(streams, Op::Receive { stream, max: 100, buffer: Vec::new() });
        assert!(matches!(finish(&received), Err(Fault::Gone)), "{peer}");
        complaint(streams, stream)
    }
}

#[track_caller]
fn complaint(streams: &mut Streams, stream: StreamId) -> String {
    let said = start(streams, Op::Complaint(stream));
    let Ok(Reply::Complaint(Some(said))) = finish(&said) else { panic!("nothing is said of why") };
    shut(streams, stream);
    said
}

#[test]
fn bytes_pass_encrypted_as_they_were_sent() {
    let (world, authority) = (World::new(), Authority::new("authority"));
    let (_, config) = authority.server(&["imap1.example.org", "127.0.0.1"], |_| ());
    let address = echo_server(config);
    let mut streams = world.trusting(&authority.pem);
    echoes(&mut streams, &format!("tls:imap1.example.org@{address}"));
    echoes(&mut streams, &format!("tls:{address}"));
}

#[test]
fn tls_1_2_is_spoken_too() {
    let world = World::new();
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(vec![String::from("imap1")]).expect("parameters").self_signed(&key);
    let certificate = certificate.expect("a certificate");
    let address = echo_server(config(certificate.der().clone(), &key, &[&rustls::version::TLS12]));
    echoes(&mut world.trusting(&certificate.pem()), &format!("tls:imap1@{address}"));
}

/// A server that made its certificate itself, with a name that is not its own and of a time that is over, as many have.
#[test]
fn the_very_certificate_of_the_server_is_trusted_if_it_is_in_the_file() {
    let world = World::new();
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![String::from("localhost.localdomain")]).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let certificate = params.self_signed(&key).expect("a certificate");
    let address = echo_server(config(certificate.der().clone(), &key, rustls::ALL_VERSIONS));
    echoes(&mut world.trusting(&certificate.pem()), &format!("tls:imap1@{address}"));
    let why = world.refusal(&mut world.trusting(&Authority::new("authority").pem), &format!("tls:imap1@{address}"));
    assert!(why.contains("invalid peer certificate"), "{why}");
}

#[test]
fn who_is_not_who_it_should_be_hears_nothing_and_is_named() {
    let (world, authority) = (World::new(), Authority::new("authority"));
    let old = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let (_, other) = authority.server(&["imap2.example.org"], |_| ());
    let (_, expired) = authority.server(&["imap1.example.org"], old);
    let (_, unknown) = Authority::new("unknown").server(&["imap1.example.org"], |_| ());
    for (config, word, next) in [
        (other, "not valid for name \"imap1.example.org\"", "NAME@ADDRESS"),
        (expired, "expired", ""),
        (unknown, "UnknownIssuer", "--tls-ca"),
    ] {
        let (heard, tell) = (Arc::new(AtomicUsize::new(0)), config.clone());
        let count = heard.clone();
        let address = listen(move |socket| {
            let mut piece = [0; 100];
            count.fetch_add(secured(&tell, socket).read(&mut piece).unwrap_or(0), Ordering::SeqCst);
        });
        let why = world.refusal(&mut world.trusting(&authority.pem), &format!("tls:imap1.example.org@{address}"));
        assert!(why.contains(word) && why.contains(next), "{why}");
        assert_eq!(heard.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn a_server_that_does_not_speak_tls_is_told_from_one_that_goes_away() {
    let (world, authority) = (World::new(), Authority::new("authority"));
    let mut streams = world.trusting(&authority.pem);
    let plain = listen(|mut socket| {
        let _ = socket.write_all(b"* OK imap1 Cyrus IMAP server ready\r\n");
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    });
    let why = world.refusal(&mut streams, &format!("tls:imap1@{plain}"));
    assert!(why.contains("starttls:"), "{why}");
    let gone = listen(|mut socket| drop(socket.read(&mut [0; 10])));
    let stream = connect(&mut streams, &format!("tls:imap1@{gone}"));
    let received = start(&mut streams, Op::Receive { stream, max: 100, buffer: Vec::new() });
    match finish(&received) {
        Err(Fault::Gone) => {}
        Ok(Reply::Bytes(bytes)) => assert!(bytes.is_empty(), "{bytes:?}"),
        other => panic!("{other:?}"),
    }
}

/// Says a line, waits for one, says the answer, and then speaks TLS.
fn starttls(config: &Arc<ServerConfig>, mut socket: TcpStream, answer: &[u8]) {
    socket.write_all(b"hello\n").expect("said");
    let mut line = [0; 9];
    socket.read_exact(&mut line).expect("a line");
    assert_eq!(&line, b"STARTTLS\n");
    socket.write_all(answer).expect("said");
    let mut stream = secured(config, socket);
    let mut word = [0; 6];
    if stream.read_exact(&mut word).is_ok() {
        stream.write_all(&[b"heard ", &word[..]].concat()).expect("said");
        stream.conn.send_close_notify();
        let _ = stream.flush();
    }
}

#[test]
fn a_connection_is_encrypted_when_a_machine_asks_for_it() {
    let (world, authority) = (World::new(), Authority::new("authority"));
    let (_, config) = authority.server(&["imap1"], |_| ());
    let address = listen(move |socket| starttls(&config, socket, b"OK\n"));
    let mut streams = world.trusting(&authority.pem);
    // On loopback no certificate is looked at; elsewhere it must please.
    for (peer, pleases) in [
        (format!("starttls:imap1@{address}"), true),
        (format!("tcp:{address}"), true),
        (format!("starttls:imap2@{address}"), false),
    ] {
        let stream = connect(&mut streams, &peer);
        assert_eq!(receive_all(&mut streams, stream, 6, 100), b"hello\n");
        send(&mut streams, stream, b"STARTTLS\n");
        assert_eq!(receive_all(&mut streams, stream, 3, 100), b"OK\n");
        let done = finish(&start(&mut streams, Op::Secure(stream)));
        if !pleases {
            assert!(matches!(done, Err(Fault::Gone)), "{peer}");
            let why = complaint(&mut streams, stream);
            assert!(why.contains("not valid for name \"imap2\""), "{why}");
            continue;
        }
        assert!(matches!(done, Ok(Reply::Unit)), "{peer}: {done:?}");
        send(&mut streams, stream, b"secret");
        assert_eq!(receive_all(&mut streams, stream, 12, 100), b"heard secret");
        assert!(receive(&mut streams, stream, 100).is_empty(), "{peer}: the end");
        shut(&mut streams, stream);
    }
}

#[test]
fn what_comes_before_tls_and_was_not_asked_for_ends_the_connection() {
    let (world, authority) = (World::new(), Authority::new("authority"));
    let (_, config) = authority.server(&["imap1"], |_| ());
    let address = listen(move |socket| starttls(&config, socket, b"OK\n* somebody else\n"));
    let mut streams = world.trusting(&authority.pem);
    let stream = connect(&mut streams, &format!("starttls:imap1@{address}"));
    assert_eq!(receive_all(&mut streams, stream, 6, 100), b"hello\n");
    send(&mut streams, stream, b"STARTTLS\n");
    assert_eq!(receive_all(&mut streams, stream, 3, 3), b"OK\n");
    std::thread::sleep(WHILE);
    assert!(matches!(finish(&start(&mut streams, Op::Secure(stream))), Err(Fault::Gone)));
    let why = complaint(&mut streams, stream);
    assert!(why.contains("before TLS began"), "{why}");
}

#[test]
fn nobody_holds_more_than_the_high_water_mark_under_tls() {
    let (world, authority) = (World::new(), Authority::new("authority"));
    let (_, config) = authority.server(&["imap1"], |_| ());
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let total = 40 << 20;
    let address = listen(move |socket| {
        let mut stream = secured(&config, socket);
        for piece in pattern(total).chunks(16 << 10) {
            stream.write_all(piece).expect("it is taken in the end");
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
        let _ = stream.read(&mut [0; 1]);
    });
    let mut streams = world.trusting(&authority.pem);
    let stream = connect(&mut streams, &format!("tls:imap1@{address}"));
    let first = receive(&mut streams, stream, 1);
    // What the kernel holds on loopback grows to 10 MiB; the rest must wait.
    std::thread::sleep(WHILE * 3);
    assert!(written.load(Ordering::SeqCst) < total / 2, "{} bytes of {total}", written.load(Ordering::SeqCst));
    let rest = receive_all(&mut streams, stream, total - 1, 1 << 20);
    assert!([first, rest].concat() == pattern(total));
    shut(&mut streams, stream);
}

#[test]
fn without_whom_to_trust_nothing_is_encrypted() {
    let world = World::new();
    let mut streams = world.streams();
    let result = start(&mut streams, Op::Connect(String::from("tls:imap1@127.0.0.1:9")));
    assert!(matches!(finish(&result), Err(Fault::Denied)));
    let peer = world.serve(|socket| echo(socket.try_clone().expect("a socket"), socket));
    let stream = connect(&mut streams, &peer);
    assert!(matches!(finish(&start(&mut streams, Op::Secure(stream))), Err(Fault::Denied)));
    assert!(Trust::file(&world.path("nothing.pem")).is_err());
    std::fs::write(world.path("empty.pem"), "no certificate\n").expect("a file");
    let why = Trust::file(&world.path("empty.pem")).expect_err("nobody is in it");
    assert!(why.contains("found none"), "{why}");
}
