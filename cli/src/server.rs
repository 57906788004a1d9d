//! A running server to restore into: where it is, who logs in, and with which password.
//!
//! A password comes from a file, from an environment variable or from the terminal, never from the command line, which
//! everybody on the host can read. It goes over a connection that nobody else can read: loopback, a unix socket, ssh, a program
//! of the administrator's own, or TLS with a server that shows who it is. What must not come in: what is restored.

use crate::host::Trouble;
use cylinder_core::error::Error;
use cylinder_core::imap::client::{Client, Login};
use cylinder_core::io::Io;
use cylinder_core::sync::client as sync;
use cylinder_core::wire::stream::{StartTls, Stream};
use cylinder_transport_ssh::{Hub, Peer, Sessions, Ssh, Streams};
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;

/// Where IMAP is, unless said otherwise.
pub const IMAP: &str = "tcp:127.0.0.1:143";
/// The longest password that is taken, in bytes.
const PASSWORD_MAX: usize = 4096;

/// Where a password comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum From {
    /// The first line of this file.
    File(String),
    /// This environment variable.
    Environment(String),
    /// The terminal, without showing it.
    Terminal,
}

/// A server, and who logs in.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, as [`Peer::parse`] takes it.
    pub peer: String,
    /// How ssh is run.
    pub ssh: Ssh,
    /// A file of whom to trust for TLS, if not those whom the system trusts.
    pub tls_ca: Option<String>,
    /// Who logs in.
    pub login: String,
    /// Where the password comes from.
    pub password: From,
}

impl Server {
    /// Checks that what was said makes sense, and that a password is safe on the way.
    pub fn check(&self) -> Result<(), Trouble> {
        let peer = Peer::parse(&self.peer).map_err(|why| Trouble::Usage(why.replacen("source", "--server", 1)))?;
        match &peer {
            Peer::Tcp(address) if !peer.is_private() => Err(Trouble::Usage(format!(
                "--server {}: the password and all mail would go over the network for everybody to read; \
                 use starttls:{address}, tls:HOST:993 or ssh+tcp://HOST/127.0.0.1:{}",
                self.peer,
                address.port()
            ))),
            Peer::Ssh(_) => Err(Trouble::Usage(format!(
                "--server {}: `cylinder serve` takes nothing; use ssh+tcp://HOST/127.0.0.1:143 for the IMAP server there",
                self.peer
            ))),
            Peer::Tls(secured) | Peer::StartTls(secured) => {
                let found = self.sessions().and(secured.addresses().map(|_| ()));
                found.map_err(|why| Trouble::Usage(format!("--server {}: {why}", self.peer)))
            }
            _ if self.tls_ca.is_some() => Err(Trouble::Usage(format!(
                "--tls-ca: the connection to {} is private already, and no certificate is looked at; it belongs to tls:HOST:PORT \
                 and starttls:HOST:PORT",
                self.peer
            ))),
            _ => Ok(()),
        }
    }

    /// Whom to trust.
    #[cfg(feature = "tls")]
    fn sessions(&self) -> Result<Arc<dyn Sessions>, String> {
        use cylinder_transport_ssh::Trust;
        let trust = match (Peer::parse(&self.peer), &self.tls_ca) {
            (Ok(Peer::Tls(_) | Peer::StartTls(_)), Some(file)) => {
                Trust::file(Path::new(file)).map_err(|why| format!("--tls-ca {why}"))?
            }
            (Ok(Peer::Tls(_) | Peer::StartTls(_)), None) => Trust::system()?,
            _ => Trust::nobody()?,
        };
        Ok(Arc::new(trust))
    }

    #[cfg(not(feature = "tls"))]
    fn sessions(&self) -> Result<Arc<dyn Sessions>, String> {
        Err(String::from("this cylinder was built without TLS (feature `tls`); use ssh+tcp://HOST/127.0.0.1:PORT"))
    }

    /// A loop for the connections to it, and a handle on that.
    pub fn streams(&self) -> Result<(Hub, Streams), Trouble> {
        let hub = Hub::new().map_err(|e| Error::Refused(format!("no loop for connections: {e}")))?;
        let streams = hub.streams(self.ssh.clone());
        // Where there is no TLS, only servers that do not ask for it can be reached.
        let streams = match self.sessions() {
            Ok(sessions) => streams.with_sessions(sessions),
            Err(_) => streams,
        };
        Ok((hub, streams))
    }

    fn start_tls(&self) -> StartTls {
        match Peer::parse(&self.peer) {
            Ok(Peer::StartTls(_)) => StartTls::Always,
            _ => StartTls::WhereNeeded,
        }
    }

    /// The password.
    pub fn ask_password(&self) -> Result<Vec<u8>, Trouble> {
        let password = match &self.password {
            From::File(path) => first_line(Path::new(path))?,
            From::Environment(name) => std::env::var_os(name)
                .map(std::os::unix::ffi::OsStringExt::into_vec)
                .ok_or_else(|| Trouble::Usage(format!("--password-env {name}: there is no such variable")))?,
            From::Terminal => ask(&format!("password of {}: ", cylinder_core::escape::shown(self.login.as_bytes())))?,
        };
        if password.is_empty() || password.len() > PASSWORD_MAX || password.contains(&0) {
            return Err(Trouble::Usage(format!("a password has 1 to {PASSWORD_MAX} bytes, and none of them is NUL")));
        }
        Ok(password)
    }

    /// A connection by the replication protocol, logged in as an administrator.
    pub async fn replication(&self, io: &Io, password: &[u8]) -> Result<sync::Client, Error> {
        let stream = Stream::connect(io, &self.peer, sync::Client::LIMITS).await?;
        sync::Client::open(stream, self.start_tls(), Login { user: self.login.as_bytes(), act_as: None, password }).await
    }

    /// A connection that is logged in, as `user` if that is somebody else than who logs in.
    pub async fn imap(&self, io: &Io, act_as: Option<&[u8]>, password: &[u8]) -> Result<Client, Error> {
        let stream = Stream::connect(io, &self.peer, Client::LIMITS).await?;
        let mut client = Client::open(stream, self.start_tls()).await?;
        let user = self.login.as_bytes();
        client.login(Login { user, act_as: act_as.filter(|other| *other != user), password }).await?;
        Ok(client)
    }
}

fn first_line(path: &Path) -> Result<Vec<u8>, Trouble> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        let mut file = std::io::BufReader::new(std::fs::File::open(path)?);
        std::io::Read::take(&mut file, PASSWORD_MAX as u64 + 2).read_until(b'\n', &mut line)?;
        Ok(line)
    };
    let line = read().map_err(|error| Trouble::Usage(format!("--password-file {}: {error}", path.display())))?;
    Ok(without_end(line))
}

fn without_end(mut line: Vec<u8>) -> Vec<u8> {
    while line.last().is_some_and(|&b| b == b'\n' || b == b'\r') {
        line.pop();
    }
    line
}

/// Asks on the terminal, not on standard input, which may be a pipe.
fn ask(prompt: &str) -> Result<Vec<u8>, Trouble> {
    let none = |error: std::io::Error| {
        Trouble::Usage(format!("no terminal to ask for a password ({error}); give --password-file or --password-env"))
    };
    let mut terminal = std::fs::OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(none)?;
    let before = rustix::termios::tcgetattr(&terminal).map_err(|errno| none(errno.into()))?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(rustix::termios::LocalModes::ECHO);
    hidden.local_modes.insert(rustix::termios::LocalModes::ECHONL);
    terminal.write_all(prompt.as_bytes()).map_err(none)?;
    let now = rustix::termios::OptionalActions::Flush;
    rustix::termios::tcsetattr(&terminal, now, &hidden).map_err(|errno| none(errno.into()))?;
    let mut line = Vec::new();
    let read = std::io::BufReader::new(&terminal).read_until(b'\n', &mut line);
    let shown = rustix::termios::tcsetattr(&terminal, now, &before);
    read.map_err(none)?;
    shown.map_err(|errno| none(errno.into()))?;
    Ok(without_end(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str) -> Result<(), String> {
        let server = Server {
            peer: peer.to_owned(),
            ssh: Ssh::default(),
            tls_ca: None,
            login: String::from("cyrus"),
            password: From::Environment(String::from("CYLINDER_NO_SUCH_VARIABLE")),
        };
        server.check().map_err(|trouble| format!("{trouble:?}"))
    }

    #[test]
    fn a_password_does_not_go_over_a_network_in_the_clear() {
        for good in [IMAP, "tcp:[::1]:143", "unix:/run/cyrus/imap", "ssh+tcp://imap1/127.0.0.1:143", "exec:nc imap1 143"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["tcp:192.0.2.1:143", "ssh://imap1", "imap1"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_password_is_the_first_line_of_a_file() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "secret word\r\nmore\n").expect("written");
        assert_eq!(first_line(file.path()).expect("a line"), b"secret word");
        assert!(first_line(Path::new("/nonexistent/password")).is_err());
    }
}
