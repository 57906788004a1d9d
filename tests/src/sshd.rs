//! An sshd of one test: its own port on the loopback address, its own host key and user key, and a key that may run exactly
//! one command.
//!
//! Needs root, and Debian's openssh-server and openssh-client. Nothing below /etc/ssh or in anybody's home is read or written.

use crate::cli::run;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SSHD: &str = "/usr/sbin/sshd";
/// The name that the server has in the client's configuration.
pub const HOST: &str = "mailhost";
/// It answers within this time, on any machine.
const DEADLINE: Duration = Duration::from_secs(20);

/// The server. It ends when it is dropped.
pub struct Sshd {
    home: TempDir,
    child: Child,
}

impl Sshd {
    /// Starts a server on which the user's key runs `command`, whatever the client asks for.
    #[track_caller]
    pub fn start(command: &str) -> Sshd {
        let home = tempfile::Builder::new().prefix("cylinder-ssh-").tempdir().expect("a directory");
        for key in ["host", "user", "stranger", "tunnel"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f"]).arg(home.path().join(key));
            run(&mut keygen);
        }
        let read = |name: &str| fs::read_to_string(home.path().join(name)).expect("a key");
        // The tunnel's key may reach sockets, and run nothing.
        let line = format!(
            "restrict,command=\"{command}\" {}restrict,port-forwarding,command=\"false\" {}",
            read("user.pub"),
            read("tunnel.pub")
        );
        write(home.path(), "authorized_keys", &line);
        // Whoever asks for a port and then uses it may lose it to another test; then sshd says so, and the next one is tried.
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
            configure(home.path(), port, &read("host.pub"));
            if let Some(child) = launch(home.path(), port) {
                return Sshd { home, child };
            }
        }
        panic!("sshd does not start: {}", fs::read_to_string(home.path().join("log")).unwrap_or_default());
    }

    /// The words that make ssh know this server, and nothing else of this machine. With a `stranger` the key is one that the
    /// server does not know.
    pub fn ssh(&self, stranger: bool) -> String {
        let config = self.file(if stranger { "stranger_config" } else { "config" });
        format!("ssh -F {}", config.display())
    }

    /// The same with a key that may reach sockets over there, and run nothing.
    pub fn tunnel(&self) -> String {
        format!("ssh -F {}", self.file("tunnel_config").display())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(home: &Path, name: &str, text: &str) {
    let path = home.join(name);
    fs::write(&path, text).expect("a file of the test");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a file of the test");
}

fn configure(home: &Path, port: u16, host_key: &str) {
    let dir = home.display();
    let server = format!(
        "Port {port}\nListenAddress 127.0.0.1\nHostKey {dir}/host\nAuthorizedKeysFile {dir}/authorized_keys\nUsePAM no\n\
         StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin forced-commands-only\n\
         PidFile none\n"
    );
    write(home, "sshd_config", &server);
    write(home, "known_hosts", &format!("{HOST} {host_key}"));
    for (name, key) in [("config", "user"), ("stranger_config", "stranger"), ("tunnel_config", "tunnel")] {
        let client = format!(
            "Host {HOST}\nHostName 127.0.0.1\nPort {port}\nUser root\nHostKeyAlias {HOST}\nIdentityFile {dir}/{key}\n\
             IdentitiesOnly yes\nIdentityAgent none\nUserKnownHostsFile {dir}/known_hosts\nGlobalKnownHostsFile none\n\
             StrictHostKeyChecking yes\n"
        );
        write(home, name, &client);
    }
}

/// Starts it, and waits until it answers. `None` if it ends first.
fn launch(home: &Path, port: u16) -> Option<Child> {
    // Where the server locks itself up before a client is known; the distribution's own service would make it.
    fs::create_dir_all("/run/sshd").expect("/run/sshd");
    let log = fs::File::create(home.join("log")).expect("a log");
    let mut sshd = Command::new(SSHD);
    sshd.args(["-D", "-e", "-f"]).arg(home.join("sshd_config")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let mut child = sshd.spawn().unwrap_or_else(|e| panic!("{SSHD}: {e}: install the package openssh-server"));
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        let ended = child.try_wait().expect("a child can be waited for").is_some();
        if ended || begun.elapsed() > DEADLINE {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(child)
}
