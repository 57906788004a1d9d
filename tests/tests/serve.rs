//! `cylinder serve` on sockets: many clients, clients that are slow or do not end, and who may not connect.

use cylinder_tests::cli::{Ran, Running};
use cylinder_tests::proof::{Store, binary, run_for};
use cylinder_tests::spool::{Plan, Text};
use rustix::process::{Signal, kill_process};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What must come comes within this time, on any machine.
const SOON: Duration = Duration::from_secs(60);

/// A spool of one user, and a server over it.
struct Served {
    store: Store,
    running: Option<Running>,
    socket: PathBuf,
}

impl Served {
    #[track_caller]
    fn start(plan: &Plan, options: &[&str]) -> Served {
        let store = Store::new();
        plan.write(&store.beside("root")).expect("a spool");
        let socket = store.beside("socket");
        let mut command = Command::new(binary());
        command.args(["serve", "--offline", "--listen"]).arg(format!("unix:{}", socket.display())).args(options);
        command.arg("--root").arg(store.beside("root"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let running = Running::start(&mut command);
        let served = Served { store, running: Some(running), socket };
        let begun = Instant::now();
        while UnixStream::connect(&served.socket).is_err() {
            assert!(begun.elapsed() < SOON, "the server does not come up");
            std::thread::sleep(Duration::from_millis(10));
        }
        served
    }

    #[track_caller]
    fn dial(&self) -> Client {
        let socket = UnixStream::connect(&self.socket).expect("a connection");
        socket.set_read_timeout(Some(SOON)).expect("a timeout");
        Client(BufReader::new(socket))
    }

    /// A client that is served: whoever has just left may still be counted for a while.
    #[track_caller]
    fn guest(&self) -> Client {
        let begun = Instant::now();
        loop {
            let mut client = self.dial();
            client.say("PING\n");
            match client.line().as_str() {
                "OK\n" => {
                    assert_eq!(client.line(), "DONE PING\n");
                    client.is_served();
                    return client;
                }
                line => assert!(line.starts_with("NO busy") && begun.elapsed() < SOON, "{line}"),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Memory of the server that is in use, in KiB.
    fn memory(&self) -> u64 {
        let pid = self.running.as_ref().expect("it runs").pid().as_raw_nonzero();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// Ends the server.
    #[track_caller]
    fn stop(&mut self) -> Ran {
        let running = self.running.take().expect("it runs");
        kill_process(running.pid(), Signal::TERM).expect("a process");
        running.end()
    }
}

/// A client that speaks by hand.
struct Client(BufReader<UnixStream>);

impl Client {
    #[track_caller]
    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).expect("the server listens");
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        line
    }

    /// The lines of an answer.
    #[track_caller]
    fn ask(&mut self, request: &str, last: &str) -> Vec<String> {
        self.say(request);
        let mut lines = Vec::new();
        while lines.last().is_none_or(|line: &String| line != last) {
            let line = self.line();
            assert!(!line.is_empty(), "the end after {lines:?}");
            lines.push(line);
        }
        lines
    }

    /// True if the server does not take the client, and has closed the connection, perhaps before it was greeted.
    fn is_refused(&mut self) -> bool {
        let mut line = String::new();
        let greeted = self.0.get_mut().write_all(b"CYLINDER - version=1\n");
        greeted.is_err() || self.0.read_line(&mut line).is_err() || line != "OK\n"
    }

    #[track_caller]
    fn is_served(&mut self) {
        let greeting = self.ask("CYLINDER - version=1\n", "DONE CYLINDER\n");
        assert!(greeting[0] == "OK\n" && greeting[1].starts_with("FACTS servername=mail.example.org"), "{greeting:?}");
        assert_eq!(self.ask("OWNERS -\nEND\n", "DONE OWNERS\n")[1], "OWNER user=anna\n");
    }
}

fn small() -> Plan {
    Plan { user: "anna".into(), folders: 3, messages: 40, size: 300..=3000, text: Text::Words, seed: 3 }
}

#[test]
fn several_clients_are_served_at_once_and_too_many_are_told_so() {
    let mut served = Served::start(&small(), &["--max-connections", "3"]);
    let mode = fs::metadata(&served.socket).expect("a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "whoever may connect reads all mail");
    let mut silent = served.guest();
    silent.say("PASS - user=anna\n");
    let _two = served.guest();
    let one = served.guest();
    let mut over = served.dial();
    assert_eq!((over.line(), over.line()), ("NO busy too many connections\n".to_owned(), String::new()));
    let pass = silent.ask("END\n", "DONE PASS\n");
    assert_eq!(pass.iter().filter(|line| line.starts_with("FOLDER ")).count(), 4, "{pass:?}");
    drop(one);
    // The server may hear of the next one before it hears of that.
    let begun = Instant::now();
    while served.dial().is_refused() {
        assert!(begun.elapsed() < Duration::from_secs(30), "a place that was given up is not given away");
        std::thread::sleep(Duration::from_millis(10));
    }
    let ran = served.stop();
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(!served.socket.exists(), "the socket is left behind");
}

/// It took as long as a client may be idle: ten minutes.
#[test]
fn a_server_that_is_stopped_does_not_wait_for_silent_clients() {
    let mut served = Served::start(&small(), &[]);
    let (mut idle, mut midway) = (served.guest(), served.guest());
    midway.say("PASS - user=anna\n");
    let begun = Instant::now();
    let ran = served.stop();
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!((idle.line(), midway.line()), (String::new(), String::new()));
}

#[test]
fn a_thousand_connections_do_no_harm() {
    let mut served = Served::start(&small(), &[]);
    let clients: Vec<Client> = (0..1000).map(|_| served.dial()).collect();
    let mut busy = 0;
    for mut client in clients {
        // Who was turned away may not be there any more.
        let _ = client.0.get_mut().write_all(b"PING\n");
        match client.line().as_str() {
            "OK\n" => {}
            "NO busy too many connections\n" => busy += 1,
            line => panic!("{line}"),
        }
    }
    assert!((900..1000).contains(&busy), "{busy} of 1000 were turned away");
    drop(served.guest());
    assert!(served.memory() < 64 << 10, "{} KiB", served.memory());
    let ran = served.stop();
    assert_eq!(ran.exit, 0, "{ran:?}");
}

#[test]
fn a_client_that_takes_nothing_costs_little_is_given_up_and_stops_nobody() {
    let plan =
        Plan { user: "anna".into(), folders: 0, messages: 30, size: 2_000_000..=2_000_001, text: Text::Letters, seed: 4 };
    let mut served = Served::start(&plan, &["--stall", "3"]);
    let mut greedy = served.dial();
    greedy.is_served();
    let uids: String = (1..=30).map(|uid| format!("UID {uid}\n")).collect();
    let request = format!("BODIES - user=anna folder=INBOX\n{uids}END\n");
    (0..10).for_each(|_| greedy.say(&request));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        drop(served.guest());
        assert!(served.memory() < 64 << 10, "{} KiB for 600 MB that nobody takes", served.memory());
    }
    // Three seconds without a byte, and as long again for the other side to take the farewell; a busy machine adds to it.
    std::thread::sleep(Duration::from_secs(8));
    // It was cut off: what was under way is all that comes.
    let mut rest = Vec::new();
    let _ = greedy.0.read_to_end(&mut rest);
    assert!(rest.len() < 60_000_000, "{} bytes", rest.len());
    let ran = served.stop();
    assert!(ran.exit == 0 && ran.stderr.contains("nothing came for 3 s"), "{ran:?}");
}

#[test]
fn a_pull_through_a_socket_is_that_of_a_local_backup() {
    let mut served = Served::start(&small(), &[]);
    let local = Store::new();
    let root = served.store.beside("root");
    run_for(local.backup(&root, "anna").arg("--offline"), 0);
    let from = format!("unix:{}", served.socket.display());
    let mut pull = served.store.command(&["backup", "anna", "--from", &from]);
    run_for(&mut pull, 0);
    let strip = |store: &Store| {
        let mut tree = store.extract("anna", None);
        tree.retain(|name, _| !matches!(name.as_str(), "meta/about" | "meta/commit" | "meta/folders" | "meta/messages"));
        tree
    };
    assert_eq!(strip(&served.store), strip(&local));
    assert_eq!(served.stop().exit, 0);
}

#[test]
fn an_address_that_others_can_reach_needs_its_flag() {
    let store = Store::new();
    small().write(&store.beside("root")).expect("a spool");
    let command = |listen: &str| {
        let mut command = Command::new(binary());
        command.args(["serve", "--offline", "--listen", listen, "--root"]).arg(store.beside("root"));
        command
    };
    for listen in ["tcp:0.0.0.0:0", "tcp:[::]:0", "tcp:192.0.2.1:2901"] {
        let output = run_for(&mut command(listen), 2);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("there is no authentication"), "{listen}: {said}");
    }
    for listen in ["tcp:localhost:1", "unix:relative", "2901", "unix:"] {
        run_for(&mut command(listen), 2);
    }
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    let mut child = command(&format!("tcp:127.0.0.1:{port}"));
    let running = Running::start(child.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let begun = Instant::now();
    let mut socket = loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(socket) => break socket,
            Err(error) => assert!(begun.elapsed() < SOON, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    socket.write_all(b"PING\nQUIT\n").expect("written");
    let mut heard = String::new();
    socket.read_to_string(&mut heard).expect("an end");
    assert_eq!(heard, "OK\nDONE PING\nOK\n");
    kill_process(running.pid(), Signal::TERM).expect("a process");
    assert_eq!(running.end().exit, 0);
}
