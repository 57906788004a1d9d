//! A connection to a server for one user after the other: its password is asked for once.
//!
//! What must not come in: what is done over it.

use crate::host::{self, Trouble};
use crate::output::Progress;
use crate::server::Server;
use crate::stop;
use cylinder_core::error::Error;
use cylinder_core::io::Io;
use cylinder_transport_local::Local;
use cylinder_transport_ssh::Hub;
use std::path::Path;

/// A store, a server, and the password that it takes.
pub struct Session {
    driver: Local,
    password: Vec<u8>,
    /// Drives the connections, and ends with them.
    _hub: Hub,
}

impl Session {
    /// Asks for the password. No connection is made yet.
    pub fn open(server: &Server, store: &Path) -> Result<Session, Trouble> {
        server.check()?;
        let password = server.ask_password()?;
        stop::watch().map_err(|error| Error::Refused(format!("signals cannot be handled: {error}")))?;
        let (hub, streams) = server.streams()?;
        let driver = host::store_driver(store, host::threads(None)).with_connections(Box::new(streams));
        Ok(Session { driver, password, _hub: hub })
    }

    /// Runs a procedure to its end, and shows its progress unless that is not wanted.
    pub fn run<T>(&mut self, is_quiet: bool, procedure: impl AsyncFnOnce(&Io, &[u8]) -> Result<T, Error>) -> Result<T, Error> {
        let mut progress = Progress::new(is_quiet);
        let password = &self.password;
        let task = async |io: Io| procedure(&io, password).await;
        let result = host::run_with(&mut self.driver, task, &mut |event| progress.on("restored", &event));
        progress.clear();
        result
    }
}
