//! A small blocking client of the replication protocol that only looks: what it is told is compared as text, before and after.
//!
//! It shares no code with Cylinder but base64.

use cylinder_core::imap::client::base64;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A connection that is logged in as the administrator of a lab.
pub struct Csync {
    stream: BufReader<TcpStream>,
}

impl Csync {
    /// Connects and logs in.
    #[track_caller]
    pub fn login(host: &str, port: u16) -> Csync {
        let stream = TcpStream::connect((host, port)).unwrap_or_else(|e| panic!("csync at {host}:{port}: {e}"));
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a read timeout can be set");
        let mut client = Csync { stream: BufReader::new(stream) };
        while !client.line().starts_with("* OK") {}
        let response = String::from_utf8(base64(b"\0cyrus\0any")).expect("base64 is ASCII");
        client.ask(&format!("AUTHENTICATE PLAIN {response}"));
        client
    }

    /// Everything that the server answers before its `OK`; panics if it refuses.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap_or_else(|e| panic!("{command}: {e}"));
        let mut all = String::new();
        loop {
            let line = self.line();
            if line.starts_with("OK") {
                return all;
            }
            assert!(!line.starts_with("NO") && !line.starts_with("BAD"), "{command}: {line}");
            all += &line;
        }
    }

    /// One line, with its end, and with the literals in it.
    fn line(&mut self) -> String {
        let mut whole = Vec::new();
        loop {
            let from = whole.len();
            let read = self.stream.read_until(b'\n', &mut whole).unwrap_or_else(|e| panic!("an answer: {e}"));
            assert!(read > 0, "the server has closed the connection");
            let line = whole[from..].strip_suffix(b"\r\n").unwrap_or(&whole[from..]);
            let literal = line.strip_suffix(b"+}").or(line.strip_suffix(b"}")).and_then(|line| {
                let at = line.iter().rposition(|&c| c == b'{')?;
                std::str::from_utf8(&line[at + 1..]).ok()?.parse::<usize>().ok()
            });
            let Some(len) = literal else { return String::from_utf8_lossy(&whole).into_owned() };
            let at = whole.len();
            whole.resize(at + len, 0);
            self.stream.read_exact(&mut whole[at..]).unwrap_or_else(|e| panic!("a literal: {e}"));
        }
    }
}
