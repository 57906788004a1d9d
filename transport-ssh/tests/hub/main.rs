//! Connections over real sockets and processes: bytes arrive as they were sent, nobody holds more than the high-water mark, and
//! whoever waits is answered.

#[cfg(feature = "tls")]
mod tls;

use cylinder_core::error::Fault;
use cylinder_core::io::{Op, Reply, StreamId};
use cylinder_transport_local::Connections;
use cylinder_transport_ssh::{HIGH, Hub, Incoming, Listener, Ssh, Streams};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;
use tempfile::TempDir;

/// What must come comes within this time, on any machine.
const SOON: Duration = Duration::from_secs(30);
/// What must not come has not come after this time.
const WHILE: Duration = Duration::from_millis(300);
/// More than a unix socket's two ends hold in the kernel.
const KERNEL: usize = 2 << 20;

/// Begins an operation; its result comes later.
fn start(streams: &mut Streams, op: Op) -> Receiver<Result<Reply, Fault>> {
    let (tell, result) = channel();
    streams.submit(op, Box::new(move |reply| drop(tell.send(reply))));
    result
}

#[track_caller]
fn finish(result: &Receiver<Result<Reply, Fault>>) -> Result<Reply, Fault> {
    result.recv_timeout(SOON).expect("an answer")
}

#[track_caller]
fn connect(streams: &mut Streams, peer: &str) -> StreamId {
    let result = start(streams, Op::Connect(peer.to_owned()));
    let Ok(Reply::Stream(stream)) = finish(&result) else { panic!("no connection to {peer}") };
    stream
}

#[track_caller]
fn send(streams: &mut Streams, stream: StreamId, data: &[u8]) {
    let result = start(streams, Op::Send { stream, data: data.to_vec() });
    let Ok(Reply::Bytes(spare)) = finish(&result) else { panic!("it cannot be sent") };
    assert!(spare.is_empty());
}

#[track_caller]
fn receive(streams: &mut Streams, stream: StreamId, max: usize) -> Vec<u8> {
    let result = start(streams, Op::Receive { stream, max, buffer: Vec::new() });
    match finish(&result) {
        Ok(Reply::Bytes(bytes)) => {
            assert!(bytes.len() <= max, "{} bytes of {max}", bytes.len());
            bytes
        }
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn receive_all(streams: &mut Streams, stream: StreamId, len: usize, max: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < len {
        let bytes = receive(streams, stream, max);
        assert!(!bytes.is_empty(), "the end after {} of {len} bytes", all.len());
        all.extend(bytes);
    }
    all
}

#[track_caller]
fn shut(streams: &mut Streams, stream: StreamId) {
    let result = start(streams, Op::Shut(stream));
    assert!(matches!(finish(&result), Ok(Reply::Unit)));
}

/// Bytes whose order shows.
fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

struct World {
    hub: Hub,
    dir: TempDir,
}

impl World {
    fn new() -> World {
        World { hub: Hub::new().expect("a loop"), dir: tempfile::tempdir().expect("a directory") }
    }

    fn streams(&self) -> Streams {
        self.hub.streams(Ssh::default())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A server of one client, and what the client calls it.
    fn serve(&self, serve: impl FnOnce(UnixStream) + Send + 'static) -> String {
        let path = self.path("socket");
        let listener = UnixListener::bind(&path).expect("a socket");
        std::thread::spawn(move || serve(listener.accept().expect("a client").0));
        format!("unix:{}", path.display())
    }

    fn script(&self, text: &str) -> String {
        let path = self.path("script");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a script");
        format!("exec:{}", path.display())
    }
}

#[track_caller]
fn echoes(streams: &mut Streams, peer: &str) {
    let stream = connect(streams, peer);
    for len in [1, 2, 1000, 65_536, 200_000] {
        let sent = pattern(len);
        send(streams, stream, &sent);
        assert!(receive_all(streams, stream, len, 70_000) == sent, "{peer}: {len}");
    }
    shut(streams, stream);
    let result = start(streams, Op::Receive { stream, max: 1, buffer: Vec::new() });
    assert!(matches!(finish(&result), Err(Fault::Gone)), "{peer}: it is shut");
}

fn echo(mut from: impl Read, mut to: impl Write) {
    let _ = std::io::copy(&mut from, &mut to);
}

#[test]
fn bytes_come_back_over_a_unix_socket_tcp_and_a_process() {
    let world = World::new();
    let mut streams = world.streams();
    echoes(&mut streams, &world.serve(|socket| echo(socket.try_clone().expect("a socket"), socket)));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let socket = listener.accept().expect("a client").0;
        echo(socket.try_clone().expect("a socket"), socket);
    });
    echoes(&mut streams, &format!("tcp:{address}"));
    echoes(&mut streams, "exec:cat");
}

#[test]
fn whoever_is_not_there_is_said_to_be_so() {
    let world = World::new();
    let mut streams = world.streams();
    for peer in ["exec:/nonexistent/program", "unix:/nonexistent/socket"] {
        let result = start(&mut streams, Op::Connect(peer.to_owned()));
        assert!(matches!(finish(&result), Err(Fault::NotFound)), "{peer}");
    }
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let result = start(&mut streams, Op::Connect(format!("tcp:127.0.0.1:{port}")));
    assert!(matches!(finish(&result), Err(Fault::Os(_))), "nobody listens");
}

#[test]
fn the_last_words_of_a_process_are_told() {
    let world = World::new();
    let mut streams = world.streams();
    let stream = connect(&mut streams, &world.script("echo one\necho 'no such host' >&2\necho 'giving up' >&2\nexit 255"));
    assert_eq!(receive_all(&mut streams, stream, 4, 100), b"one\n");
    assert!(receive(&mut streams, stream, 100).is_empty(), "the end");
    let result = start(&mut streams, Op::Complaint(stream));
    let Ok(Reply::Complaint(Some(said))) = finish(&result) else { panic!("no words") };
    assert_eq!(said, "no such host; giving up");
}

#[test]
fn a_process_that_complains_without_end_does_not_fill_memory_nor_block_itself() {
    let world = World::new();
    let mut streams = world.streams();
    let stream = connect(&mut streams, &world.script("head -c 3000000 /dev/zero | tr '\\0' 'x' >&2\necho >&2 end\necho done"));
    assert_eq!(receive_all(&mut streams, stream, 5, 100), b"done\n");
    let result = start(&mut streams, Op::Complaint(stream));
    let Ok(Reply::Complaint(Some(said))) = finish(&result) else { panic!("no words") };
    assert!(said.len() <= 4096 && said.ends_with("end"), "{} bytes", said.len());
}

#[test]
fn what_nobody_asks_for_is_not_read_beyond_the_high_water_mark() {
    const LEN: usize = 100 << 20;
    let world = World::new();
    let mut streams = world.streams();
    let taken = Arc::new(AtomicUsize::new(0));
    let (count, sent) = (taken.clone(), pattern(1 << 20));
    let peer = world.serve(move |mut socket| {
        for _ in 0..LEN >> 20 {
            for piece in sent.chunks(4096) {
                if socket.write_all(piece).is_err() {
                    return;
                }
                count.fetch_add(piece.len(), Ordering::Relaxed);
            }
        }
    });
    let stream = connect(&mut streams, &peer);
    // Until nothing moves any more.
    let mut before = usize::MAX;
    while before != taken.load(Ordering::Relaxed) {
        before = taken.load(Ordering::Relaxed);
        std::thread::sleep(WHILE);
    }
    assert!((HIGH..HIGH + KERNEL).contains(&before), "{before} bytes were taken from a peer whom nobody reads");
    // A slow reader gets all of it, in order, and the mark holds.
    let mut left = LEN;
    let megabyte = pattern(1 << 20);
    while left > 0 {
        let at = (LEN - left) % megabyte.len();
        let bytes = receive(&mut streams, stream, if left > LEN - 100_000 { 777 } else { HIGH });
        assert!(!bytes.is_empty() && bytes.len() <= HIGH);
        let expected = megabyte[at..].iter().chain(&megabyte);
        assert!(bytes.iter().zip(expected).all(|(a, b)| a == b), "other bytes with {left} left");
        left -= bytes.len();
        assert!(taken.load(Ordering::Relaxed) <= LEN - left + HIGH + KERNEL);
    }
    assert!(receive(&mut streams, stream, 1).is_empty(), "the end");
}

#[test]
fn whoever_sends_to_a_peer_that_does_not_read_has_to_wait() {
    let world = World::new();
    let mut streams = world.streams();
    let (go, gone) = channel();
    let peer = world.serve(move |mut socket| {
        let _ = gone.recv();
        let _ = std::io::copy(&mut socket, &mut std::io::sink());
    });
    let stream = connect(&mut streams, &peer);
    let mut sent = 0;
    let waiting = loop {
        let result = start(&mut streams, Op::Send { stream, data: vec![7; 64 << 10] });
        match result.recv_timeout(WHILE) {
            Ok(reply) => drop(reply.expect("it can be sent")),
            Err(RecvTimeoutError::Timeout) => break result,
            Err(error) => panic!("{error}"),
        }
        sent += 64 << 10;
        assert!(sent < HIGH + KERNEL, "{sent} bytes are queued");
    };
    go.send(()).expect("the server");
    assert!(matches!(finish(&waiting), Ok(Reply::Bytes(_))), "there is room again");
}

#[test]
fn whoever_waits_for_a_connection_that_is_shut_is_answered() {
    let world = World::new();
    let mut streams = world.streams();
    let peer = world.serve(|socket| {
        std::thread::sleep(SOON);
        drop(socket);
    });
    let stream = connect(&mut streams, &peer);
    let waiting = start(&mut streams, Op::Receive { stream, max: 1, buffer: Vec::new() });
    let second = start(&mut streams, Op::Receive { stream, max: 1, buffer: Vec::new() });
    assert!(matches!(finish(&second), Err(Fault::Driver)), "one receive at a time");
    shut(&mut streams, stream);
    assert!(matches!(finish(&waiting), Err(Fault::Gone)));
    let stream = connect(&mut streams, "exec:sleep 1000");
    let waiting = start(&mut streams, Op::Receive { stream, max: 1, buffer: Vec::new() });
    drop(world.hub);
    assert!(matches!(finish(&waiting), Err(Fault::Gone)), "the loop has ended");
}

#[test]
fn what_was_sent_last_leaves_before_a_connection_is_closed() {
    let world = World::new();
    let mut streams = world.streams();
    let (tell, heard) = channel();
    let peer = world.serve(move |mut socket| {
        std::thread::sleep(WHILE);
        let mut all = Vec::new();
        socket.read_to_end(&mut all).expect("all of it");
        tell.send(all).expect("the test");
    });
    let stream = connect(&mut streams, &peer);
    let sent = pattern(HIGH);
    send(&mut streams, stream, &sent);
    shut(&mut streams, stream);
    assert!(heard.recv_timeout(SOON).expect("an end") == sent);
}

/// Answers one line with the same line.
#[track_caller]
fn answer(streams: &mut Streams, client: &Incoming) {
    streams.adopt(client.stream);
    let line = receive(streams, client.stream, 100);
    send(streams, client.stream, &line);
}

#[test]
fn clients_are_served_at_once_and_too_many_are_told_so() {
    let world = World::new();
    let path = world.path("socket");
    let listener = UnixListener::bind(&path).expect("a socket");
    let incoming = world.hub.listen(Listener::Unix(listener), 2).expect("clients");
    let dial = || UnixStream::connect(&path).expect("a connection");
    let (mut first, mut second) = (dial(), dial());
    let clients: Vec<Incoming> = (0..2).map(|_| incoming.recv_timeout(SOON).expect("a client")).collect();
    assert!(clients[0].peer.contains(&format!("process {}", std::process::id())), "{:?}", clients[0]);
    let mut said = String::new();
    dial().read_to_string(&mut said).expect("an end");
    assert_eq!(said, "NO busy too many connections\n");
    // The first one says nothing, and the second one does not wait for that.
    let mut streams = world.streams();
    second.write_all(b"two\n").expect("written");
    answer(&mut streams, &clients[1]);
    let mut line = [0; 4];
    second.read_exact(&mut line).expect("an answer");
    assert_eq!(&line, b"two\n");
    first.write_all(b"one\n").expect("written");
    answer(&mut streams, &clients[0]);
    first.read_exact(&mut line).expect("an answer");
    assert_eq!(&line, b"one\n");
    // Whoever leaves makes room.
    shut(&mut streams, clients[0].stream);
    let _third = dial();
    incoming.recv_timeout(SOON).expect("room again");
}

#[test]
fn tcp_clients_are_named_by_their_address() {
    let world = World::new();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let incoming = world.hub.listen(Listener::Tcp(listener), 1).expect("clients");
    let socket = TcpStream::connect(address).expect("a connection");
    let client = incoming.recv_timeout(SOON).expect("a client");
    assert_eq!(client.peer, socket.local_addr().expect("an address").to_string());
}
