//! How a peer is named in a configuration, and what to start or to connect to for it.
//!
//! Hosts are not resolved here: ssh does that for its own, a TCP address is a number, and for TLS the system's `getent` is
//! asked, since the C library's own functions do not work in a static program. What must not come in: connections.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where a server is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Peer {
    /// `ssh://[user@]host[:port]`: runs `cylinder serve` there.
    Ssh(Host),
    /// `ssh+unix://[user@]host[:port]/PATH`: a unix socket there.
    SshUnix(Host, String),
    /// `ssh+tcp://[user@]host[:port]/ADDRESS:PORT`: a TCP port there, or one that can be reached from there.
    SshTcp(Host, String),
    /// `unix:PATH`
    Unix(PathBuf),
    /// `tcp:ADDRESS:PORT`
    Tcp(SocketAddr),
    /// `tls:HOST:PORT`, all of it encrypted.
    Tls(Secured),
    /// `starttls:HOST:PORT`, encrypted once the server was asked for it.
    StartTls(Secured),
    /// `exec:PROGRAM ARGUMENT...`: a program that speaks the protocol on its standard input and output. Words are separated by
    /// spaces; there is no quoting.
    Exec(Vec<String>),
}

/// A port behind which TLS tells who is there: `NAME:PORT`, `ADDRESS:PORT` or, where nothing knows the name,
/// `NAME@ADDRESS:PORT`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secured {
    /// What the certificate must be for: a name, or an address in digits.
    pub name: String,
    /// Its address, if that was said.
    pub address: Option<IpAddr>,
    /// Its port.
    pub port: u16,
}

/// A host as ssh is told of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// `host` or `user@host`.
    pub name: String,
    /// Its port, if not the one of the user's ssh_config.
    pub port: Option<u16>,
}

/// How ssh is run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ssh {
    /// The program, and options that come before ours.
    pub program: Vec<String>,
    /// What is run on the other host.
    pub command: String,
}

impl Default for Ssh {
    fn default() -> Ssh {
        Ssh { program: vec![String::from("ssh")], command: String::from("cylinder serve") }
    }
}

impl Peer {
    /// Reads a peer's name.
    ///
    /// # Errors
    ///
    /// What is wrong with it and what was expected, worded for a person.
    pub fn parse(text: &str) -> Result<Peer, String> {
        let bad = |expected: &str| format!("source {text}: expected {expected}");
        let split = |rest: &str| -> Result<(Host, String), String> {
            let (host, path) = rest.split_once('/').ok_or_else(|| bad("a host, a slash and a socket"))?;
            Ok((Host::parse(host).map_err(|why| bad(&why))?, path.to_owned()))
        };
        if let Some(rest) = text.strip_prefix("ssh://") {
            return Host::parse(rest.trim_end_matches('/')).map(Peer::Ssh).map_err(|why| bad(&why));
        }
        if let Some(rest) = text.strip_prefix("ssh+unix://") {
            let (host, path) = split(rest)?;
            return Ok(Peer::SshUnix(host, format!("/{path}")));
        }
        if let Some(rest) = text.strip_prefix("ssh+tcp://") {
            let (host, address) = split(rest)?;
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            return if port.is_some() { Ok(Peer::SshTcp(host, address)) } else { Err(bad("ADDRESS:PORT behind the host")) };
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') { Ok(Peer::Unix(path.into())) } else { Err(bad("an absolute path")) };
        }
        if let Some(address) = text.strip_prefix("tcp:") {
            let address = address.parse().map_err(|_| bad("an address in digits and a port, such as tcp:127.0.0.1:2901"))?;
            return Ok(Peer::Tcp(address));
        }
        if let Some(rest) = text.strip_prefix("tls:") {
            return Secured::parse(rest).map(Peer::Tls).map_err(|why| bad(&why));
        }
        if let Some(rest) = text.strip_prefix("starttls:") {
            return Secured::parse(rest).map(Peer::StartTls).map_err(|why| bad(&why));
        }
        if let Some(command) = text.strip_prefix("exec:") {
            let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
            return if words.is_empty() { Err(bad("a program")) } else { Ok(Peer::Exec(words)) };
        }
        Err(bad("ssh://HOST, ssh+unix://HOST/PATH, ssh+tcp://HOST/ADDRESS:PORT, unix:PATH, tcp:ADDRESS:PORT, tls:HOST:PORT, \
                 starttls:HOST:PORT or exec:PROGRAM"))
    }

    /// The process to start, if this peer is reached through one. `socket` is where a tunnel ends on this host.
    pub(crate) fn command(&self, ssh: &Ssh, socket: &Path) -> Option<Command> {
        match self {
            Peer::Ssh(host) => {
                let mut command = host.command(ssh, &[])?;
                command.arg(&ssh.command);
                Some(command)
            }
            Peer::SshTcp(host, address) => host.command(ssh, &["-W".into(), address.into()]),
            Peer::SshUnix(host, path) => {
                let mut forward = socket.as_os_str().to_owned();
                forward.push(":");
                forward.push(path);
                host.command(ssh, &["-N".into(), "-o".into(), "ExitOnForwardFailure=yes".into(), "-L".into(), forward])
            }
            Peer::Exec(words) => {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                Some(command)
            }
            Peer::Unix(_) | Peer::Tcp(_) | Peer::Tls(_) | Peer::StartTls(_) => None,
        }
    }

    /// True if nobody else can read what goes over the connection, encrypted or not: it stays on this host, or in ssh, or is
    /// the affair of whoever wrote the program.
    pub fn is_private(&self) -> bool {
        match self {
            Peer::Tcp(address) => address.ip().is_loopback(),
            Peer::Tls(_) | Peer::StartTls(_) => false,
            Peer::Unix(_) | Peer::Ssh(_) | Peer::SshUnix(..) | Peer::SshTcp(..) | Peer::Exec(_) => true,
        }
    }

    /// True if the process only makes a tunnel, to a socket on this host.
    pub(crate) fn is_tunnel(&self) -> bool {
        matches!(self, Peer::SshUnix(..))
    }
}

/// The characters of a name or an address. What begins with a dash would be an option.
fn is_plain(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    !name.is_empty() && !name.starts_with('-') && name.chars().all(plain)
}

impl Secured {
    fn parse(text: &str) -> Result<Secured, String> {
        let bad = || format!("HOST:PORT or NAME@ADDRESS:PORT, found `{}`", text.escape_default());
        let (host, port) = text.rsplit_once(':').ok_or_else(bad)?;
        let port = port.parse().map_err(|_| bad())?;
        let (name, address) = match host.split_once('@') {
            Some((name, address)) => (name, Some(digits(address).ok_or_else(bad)?)),
            None => (host, digits(host)),
        };
        let name = digits(name).map_or_else(|| name.to_owned(), |address| address.to_string());
        if is_plain(&name) { Ok(Secured { name, address, port }) } else { Err(bad()) }
    }

    /// Where to connect to, the best first: the address that was said, or what the system's `getent` finds for the name.
    ///
    /// # Errors
    ///
    /// Why there is none, and what would help, worded for a person.
    pub fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if let Some(address) = self.address {
            return Ok(Vec::from([(address, self.port).into()]));
        }
        let (name, port) = (&self.name, self.port);
        let mut getent = Command::new("getent");
        let found = getent
            .args(["ahosts", name])
            .output()
            .map_err(|error| format!("{name}: no program getent to find its address ({error}); say {name}@ADDRESS:{port}"))?;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for line in String::from_utf8_lossy(&found.stdout).lines() {
            let word = line.split_whitespace().next().and_then(digits);
            addresses
                .extend(word.map(|address| SocketAddr::from((address, port))).filter(|address| !addresses.contains(address)));
        }
        if addresses.is_empty() {
            Err(format!("{name}: getent finds no address; say {name}@ADDRESS:{port}"))
        } else {
            Ok(addresses)
        }
    }
}

fn digits(text: &str) -> Option<IpAddr> {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text).parse().ok()
}

impl Host {
    fn parse(text: &str) -> Result<Host, String> {
        let (name, port) = match text.rsplit_once(':') {
            // An address of version 6 in brackets may end in its own colons.
            Some((name, port)) if !port.ends_with(']') => {
                (name, Some(port.parse().map_err(|_| format!("a port, found `{port}`"))?))
            }
            _ => (text, None),
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '@' | ':' | '[' | ']' | '%');
        // What begins with a dash would be an option.
        if name.is_empty() || name.starts_with('-') || name.contains("@-") || !name.chars().all(plain) {
            return Err(format!("a host's name, found `{}`", name.escape_default()));
        }
        Ok(Host { name: name.replace(['[', ']'], ""), port })
    }

    fn command(&self, ssh: &Ssh, options: &[OsString]) -> Option<Command> {
        let (program, first) = ssh.program.split_first()?;
        let mut command = Command::new(program);
        command.args(first).args(["-T", "-o", "BatchMode=yes"]).args(options);
        if let Some(port) = self.port {
            command.args(["-p", &port.to_string()]);
        }
        command.arg("--").arg(&self.name);
        Some(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(peer: &str) -> Vec<String> {
        let peer = Peer::parse(peer).expect("a peer");
        let command = peer.command(&Ssh::default(), Path::new("/tmp/s")).expect("a command");
        let arguments = command.get_args().map(|a| a.to_string_lossy().into_owned());
        std::iter::once(command.get_program().to_string_lossy().into_owned()).chain(arguments).collect()
    }

    #[test]
    fn ssh_is_told_the_host_and_what_to_run() {
        let common = ["ssh", "-T", "-o", "BatchMode=yes"];
        assert_eq!(words("ssh://imap1"), [&common[..], &["--", "imap1", "cylinder serve"]].concat());
        assert_eq!(
            words("ssh://cyrus@imap1:2222"),
            [&common[..], &["-p", "2222", "--", "cyrus@imap1", "cylinder serve"]].concat()
        );
        assert_eq!(words("ssh+tcp://imap1/127.0.0.1:2901"), [&common[..], &["-W", "127.0.0.1:2901", "--", "imap1"]].concat());
        let tunnel = ["-N", "-o", "ExitOnForwardFailure=yes", "-L", "/tmp/s:/run/b.sock", "--", "imap1"];
        assert_eq!(words("ssh+unix://imap1/run/b.sock"), [&common[..], &tunnel].concat());
        assert_eq!(words("ssh://[2001:db8::1]:22")[4..], ["-p", "22", "--", "2001:db8::1", "cylinder serve"]);
        assert_eq!(words("exec:cylinder serve"), ["cylinder", "serve"]);
    }

    #[test]
    fn what_is_no_peer_is_refused() {
        let bad = [
            "",
            "imap1",
            "ssh://",
            "ssh://-oProxyCommand=x",
            "ssh://a@-b",
            "ssh://a b",
            "ssh://imap1:ssh",
            "unix:b.sock",
            "exec: ",
        ];
        for text in bad.into_iter().chain(["tcp:localhost:1", "tcp:1.2.3.4", "ssh+tcp://imap1/host", "ssh+unix://imap1"]) {
            assert!(Peer::parse(text).is_err(), "{text}");
        }
        for text in ["tls:", "tls:imap1", "tls::993", "tls:-v:993", "tls:imap1:imaps", "tls:a@b:993", "starttls:a b:143"] {
            assert!(Peer::parse(text).is_err(), "{text}");
        }
        assert_eq!(Peer::parse("tcp:[::1]:2901"), Ok(Peer::Tcp("[::1]:2901".parse().expect("an address"))));
    }

    #[test]
    fn for_tls_a_host_has_a_name_or_an_address_or_both() {
        let secured = |text: &str| match Peer::parse(text) {
            Ok(Peer::Tls(secured) | Peer::StartTls(secured)) => secured,
            other => panic!("{text}: {other:?}"),
        };
        let address = |text: &str| Some(text.parse::<IpAddr>().expect("an address"));
        for (text, name, ip) in [
            ("tls:imap1.example.org:993", "imap1.example.org", None),
            ("starttls:192.0.2.1:993", "192.0.2.1", address("192.0.2.1")),
            ("tls:[2001:db8::1]:993", "2001:db8::1", address("2001:db8::1")),
            ("tls:imap1.example.org@[2001:db8::1]:993", "imap1.example.org", address("2001:db8::1")),
        ] {
            let found = secured(text);
            assert_eq!((&found.name[..], found.address, found.port), (name, ip, 993), "{text}");
        }
        let here = secured("tls:localhost:993").addresses().expect("every system knows it");
        assert!(here.iter().all(|address| address.ip().is_loopback() && address.port() == 993), "{here:?}");
        let why = secured("tls:nowhere.invalid:993").addresses().expect_err("nobody has it");
        assert!(why.contains("say nowhere.invalid@ADDRESS:993"), "{why}");
    }
}
