//! A link with a delay: what a run without news costs in round trips, told from the time that the real command takes through a
//! proxy on a socket. `wire.rs` counts the round trips of the machines; this sees that the transport adds none.

use cylinder_tests::cli::Running;
use cylinder_tests::proof::{Store, binary};
use cylinder_tests::spool::Spool;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

/// There and back. So long that what a busy machine adds to a run is little beside it.
const ROUND_TRIP: Duration = Duration::from_millis(400);
const USERS: u32 = 200;

/// A `cylinder serve` that ends with the test.
struct Server(Child);

impl Server {
    fn start(store: &Store, socket: &str) -> Server {
        let mut command = Command::new(binary());
        command.args(["serve", "--offline", "--listen", socket, "--root"]).arg(store.beside("host"));
        let mut server = Server(command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a server"));
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

fn address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

/// Passes bytes on, each half a round trip after it came.
fn late(mut from: TcpStream, mut to: TcpStream) {
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                return;
            }
        }
        // Whoever is on the other side may be gone already.
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + ROUND_TRIP / 2, buffer[..n].to_vec())).is_err() {
                return;
            }
        }
    });
}

/// The address of a proxy in front of `server`.
fn proxy(server: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let here = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (client, server) = (client.expect("a client"), TcpStream::connect(&server).expect("a server"));
            late(client.try_clone().expect("a socket"), server.try_clone().expect("a socket"));
            late(server, client);
        }
    });
    here
}

/// How long a run takes that must succeed.
#[track_caller]
fn run(store: &Store, from: &str, whom: &[&str]) -> (Duration, u64) {
    let mut command = Command::new(binary());
    // Under one name: an archive is of one source.
    let (plan, dir) = (store.beside("plan.toml"), store.dir().display().to_string());
    std::fs::write(&plan, format!("store = {dir:?}\n[[source]]\nname = \"host\"\nfrom = {from:?}\n")).expect("a plan");
    command.args(["backup", "--json", "--jobs", "1", "--config"]).arg(&plan).args(whom.iter().filter(|word| **word != "--all"));
    let ran = Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped())).end();
    assert_eq!((ran.exit, ran.stderr.as_str()), (0, ""));
    let sum = ran.json().into_iter().find(|line| line["event"] == "summary").expect("a summary");
    (ran.took, sum["changed"].as_u64().expect("a number"))
}

#[test]
fn without_news_a_user_costs_two_round_trips_and_two_hundred_cost_twenty() {
    let store = Store::new();
    let mut spools: Vec<Spool> = Vec::new();
    for n in 0..USERS {
        let mut spool = Spool::create(&store.beside("host"), &format!("u{n:03}"), u64::from(n)).expect("a spool");
        spool.deliver("INBOX", format!("Subject: {n}\r\n\r\n{n}\r\n").as_bytes()).expect("a message");
        spools.push(spool);
    }
    Spool::save_together(&mut spools).expect("mailboxes.db");
    // A file that has only just changed is looked at again by the next run.
    thread::sleep(Duration::from_secs(3));
    let server = address();
    let _server = Server::start(&store, &format!("tcp:{server}"));
    let (near, far) = (format!("tcp:{server}"), format!("tcp:{}", proxy(server)));
    assert_eq!(run(&store, &near, &["--all"]).1, u64::from(USERS));
    for (whom, most) in [("u007", 2.0), ("--all", 20.0)] {
        let ((here, none), (there, nothing)) = (run(&store, &near, &[whom]), run(&store, &far, &[whom]));
        assert_eq!((none, nothing), (0, 0));
        let trips = (there.as_secs_f64() - here.as_secs_f64()) / ROUND_TRIP.as_secs_f64();
        println!("{whom}: {trips:.2} round trips; {here:?} without the delay, {there:?} with it");
        // Half a round trip for what else the machine does meanwhile.
        assert!((0.5..most + 0.5).contains(&trips), "{whom}: {trips:.2} round trips");
    }
}
