//! A ManageSieve client (RFC 5804) that can do the one thing that tests need: upload a script, and make it the active one.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Uploads a script of a user; the server checks and compiles it. The active script is the one that the server runs.
#[track_caller]
pub fn put_script(host: &str, port: u16, user: &str, name: &str, script: &str, active: bool) {
    let stream = TcpStream::connect((host, port)).unwrap_or_else(|e| panic!("ManageSieve at {host}:{port}: {e}"));
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a read timeout can be set");
    let mut stream = BufReader::new(stream);
    read_ok(&mut stream, "greeting");
    let plain = base64(format!("\0{user}\0any").as_bytes());
    command(&mut stream, &format!("AUTHENTICATE \"PLAIN\" \"{plain}\""));
    command(&mut stream, &format!("PUTSCRIPT \"{name}\" {{{}+}}\r\n{script}", script.len()));
    if active {
        command(&mut stream, &format!("SETACTIVE \"{name}\""));
    }
    command(&mut stream, "LOGOUT");
}

/// The scripts that the server lists of a user, by name, and whether each is the active one.
#[track_caller]
pub fn scripts(host: &str, port: u16, user: &str) -> Vec<(String, bool)> {
    let stream = TcpStream::connect((host, port)).unwrap_or_else(|e| panic!("ManageSieve at {host}:{port}: {e}"));
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a read timeout can be set");
    let mut stream = BufReader::new(stream);
    read_ok(&mut stream, "greeting");
    command(&mut stream, &format!("AUTHENTICATE \"PLAIN\" \"{}\"", base64(format!("\0{user}\0any").as_bytes())));
    let listed = command(&mut stream, "LISTSCRIPTS");
    command(&mut stream, "LOGOUT");
    let lines = listed.lines().filter_map(|line| line.strip_prefix('"')?.split_once('"'));
    let mut scripts: Vec<_> = lines.map(|(name, rest)| (name.to_owned(), rest.contains("ACTIVE"))).collect();
    scripts.sort();
    scripts
}

#[track_caller]
fn command(stream: &mut BufReader<TcpStream>, command: &str) -> String {
    stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap_or_else(|e| panic!("{command}: {e}"));
    read_ok(stream, command)
}

/// Reads lines up to `OK`; capabilities and other answers come before it.
#[track_caller]
fn read_ok(stream: &mut BufReader<TcpStream>, what: &str) -> String {
    let mut lines = String::new();
    loop {
        let from = lines.len();
        stream.read_line(&mut lines).unwrap_or_else(|e| panic!("{what}: {e}"));
        match &lines[from..] {
            line if line.starts_with("OK") => return lines,
            line if line.is_empty() || line.starts_with("NO") || line.starts_with("BYE") => panic!("{what}: {lines}"),
            _ => {}
        }
    }
}

/// RFC 4648.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().chain(&[0; 2]).take(3).fold(0, |bits, &b| bits << 8 | usize::from(b));
        for i in 0..4 {
            text.push(if i <= group.len() { ALPHABET[bits >> (18 - 6 * i) & 63] as char } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_agrees_with_the_examples_of_rfc_4648() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
