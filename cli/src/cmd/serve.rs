//! `cylinder serve`
//!
//! The command that an `authorized_keys` line names: it must do nothing else, whatever the other side sends.

use crate::args::Serve;
use crate::exit::Exit;
use crate::host::{HostOptions, Outcome, Trouble};
use crate::output;
use crate::stop;
use cylinder_core::error::Error;
use cylinder_core::io::{Io, StreamId, Task};
use cylinder_core::serve::{self, Settings};
use cylinder_core::time::Span;
use cylinder_transport_local::{Local, become_user};
use cylinder_transport_ssh::{Hub, Listener};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Clients at a time.
const CONNECTIONS: usize = 64;
/// Seconds of silence between two requests.
const IDLE: u32 = 600;
/// Seconds of silence within one.
const STALL: u32 = 120;
/// How often it is looked whether somebody wants the server to end.
const LOOK: Duration = Duration::from_millis(200);

/// Serves until the client ends the connection; on a socket, until somebody stops it.
pub fn run(args: &Serve) -> Outcome {
    let host = HostOptions::new(&args.imapd_conf, &args.root, &args.cyrus, args.offline)?.with_patience(args.wait, args.hold);
    // What does not fit into memory goes to files without a name, which belong to whoever we become.
    let scratch = std::env::temp_dir();
    let (_, site) = host.open(&scratch, 0)?;
    // The socket is made first: its directory may belong to root.
    let listener = args.listen.as_deref().map(|socket| listen(socket, args)).transpose()?;
    if rustix::process::geteuid().is_root()
        && let Some((uid, gid)) = host.cyrus_owner(site.conf())
    {
        become_user(uid, gid).map_err(|e| Error::Refused(format!("cannot become the user of Cyrus: {e}")))?;
    }
    let settings = Settings {
        servername: servername(site.conf().option("servername")),
        software: String::from(super::version::SOFTWARE),
        idle: Span::from_secs(i64::from(args.idle.unwrap_or(IDLE))),
        stall: Span::from_secs(i64::from(args.stall.unwrap_or(STALL))),
        users: args.users.clone(),
    };
    drop(site);
    let hub = Hub::new().map_err(|e| Error::Refused(format!("no loop for connections: {e}")))?;
    let Some((listener, made)) = listener else {
        let stream = hub.standard_streams().map_err(|e| Error::Refused(format!("standard input and output: {e}")))?;
        let (driver, _) = host.open(&scratch, 0)?;
        one(driver, &host, &hub, stream, "client", &settings)?;
        return Ok(Exit::Ok);
    };
    stop::watch().map_err(|error| Error::Refused(format!("signals cannot be handled: {error}")))?;
    let incoming =
        hub.listen(listener, args.max_connections.unwrap_or(CONNECTIONS)).map_err(|e| Error::Refused(e.to_string()))?;
    output::complain!("cylinder: serving on {}", args.listen.as_deref().unwrap_or_default());
    std::thread::scope(|scope| {
        while !stop::is_wanted() {
            let client = match incoming.recv_timeout(LOOK) {
                Ok(client) => client,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let (host, hub, settings, scratch) = (&host, &hub, &settings, &scratch);
            scope.spawn(move || {
                let served = host
                    .open(scratch, 0)
                    .and_then(|(driver, _)| Ok(one(driver, host, hub, client.stream, &client.peer, settings)?));
                if let Err(trouble) = served
                    && !stop::is_wanted()
                {
                    let text = match trouble {
                        Trouble::Core(error) => error.to_string(),
                        other => format!("{other:?}"),
                    };
                    output::complain!("cylinder: {}: {text}", client.peer);
                }
            });
        }
        // Clients that say nothing would keep the server for as long as they may be idle.
        hub.hang_up();
    });
    if let Some(path) = made {
        let _ = std::fs::remove_file(path);
    }
    Ok(Exit::Ok)
}

/// Serves one client.
fn one(driver: Local, host: &HostOptions, hub: &Hub, stream: StreamId, peer: &str, settings: &Settings) -> Result<(), Error> {
    let mut streams = hub.streams(cylinder_transport_ssh::Ssh::default());
    streams.adopt(stream);
    let mut driver = driver.with_connections(Box::new(streams));
    let procedure = |io: Io| async move {
        let mut site = host.site(&io).await?;
        serve::serve(&io, &mut site, stream, peer, settings).await
    };
    driver.run(Task::new(Local::now(), procedure), &mut |_| ())
}

/// The name that clients of the stock dialect must give: `servername`, else the host's.
fn servername(option: Option<&[u8]>) -> Vec<u8> {
    match option {
        Some(name) if !name.is_empty() => name.to_vec(),
        _ => rustix::system::uname().nodename().to_bytes().to_vec(),
    }
}

/// Opens the socket, and gives the path of the file that was made for it.
fn listen(socket: &str, args: &Serve) -> Result<(Listener, Option<PathBuf>), Trouble> {
    let usage = |text: String| Trouble::Usage(format!("--listen {socket}: {text}"));
    if let Some(path) = socket.strip_prefix("unix:") {
        let path = Path::new(path);
        if !path.is_absolute() {
            return Err(usage(String::from("expected an absolute path")));
        }
        // What a server that was killed has left is nobody's; one that answers is somebody's.
        if UnixStream::connect(path).is_ok() {
            return Err(usage(String::from("somebody serves there already")));
        }
        let is_socket =
            std::fs::symlink_metadata(path).is_ok_and(|m| std::os::unix::fs::FileTypeExt::is_socket(&m.file_type()));
        if is_socket {
            let _ = std::fs::remove_file(path);
        }
        let listener = UnixListener::bind(path).map_err(|e| usage(e.to_string()))?;
        // Whoever may connect may read all mail.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(|e| usage(e.to_string()))?;
        return Ok((Listener::Unix(listener), Some(path.to_path_buf())));
    }
    let address = socket.strip_prefix("tcp:").and_then(|address| address.parse::<SocketAddr>().ok());
    let Some(address) = address else { return Err(usage(String::from("expected unix:PATH or tcp:ADDRESS:PORT"))) };
    if !address.ip().is_loopback() && !args.i_know_there_is_no_authentication {
        let text = "other hosts can reach this address, and there is no authentication: whoever connects reads all mail. Use \
                    ssh, or give --i-know-there-is-no-authentication";
        return Err(usage(String::from(text)));
    }
    let listener = std::net::TcpListener::bind(address).map_err(|e| usage(e.to_string()))?;
    Ok((Listener::Tcp(listener), None))
}
