//! From options to a driver and an opened site. What must not come in: what is done with them.

use crate::exit::{self, Exit};
use crate::stop;
use crate::tape;
use cylinder_core::cyrus::conf::{Conf, VersionLine};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::escape::shown;
use cylinder_core::io::{Event, Io, Task};
use cylinder_core::marker::{self, Found, StoreId};
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::source::{config, version};
use cylinder_core::store;
use cylinder_core::time::Span;
use cylinder_transport_local::{Config, Local, owner_of};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

/// Why a command ends early.
#[derive(Debug)]
pub enum Trouble {
    /// The command line makes no sense.
    Usage(String),
    /// An error of the core.
    Core(Error),
    /// Standard output cannot take any more.
    Output(crate::output::OutputError),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Core(error)
    }
}

impl From<crate::output::OutputError> for Trouble {
    fn from(error: crate::output::OutputError) -> Self {
        Trouble::Output(error)
    }
}

/// What a command gives back.
pub type Outcome = Result<Exit, Trouble>;

/// Where a Cyrus server's files are.
#[derive(Clone, Debug)]
pub struct HostOptions {
    /// Its imapd.conf, below `root`.
    pub conf: String,
    /// Put before every path.
    pub root: Option<PathBuf>,
    /// Its version, if the user knows it.
    pub version: Option<VersionLine>,
    /// No server runs.
    pub offline: bool,
    /// How long to wait for locks and to hold them.
    pub patience: Patience,
}

impl HostOptions {
    /// What the options of a command say.
    pub fn new(
        conf: &Option<String>,
        root: &Option<String>,
        version: &Option<String>,
        offline: bool,
    ) -> Result<HostOptions, Trouble> {
        let conf = conf.clone().unwrap_or_else(|| String::from("/etc/imapd.conf"));
        if !conf.starts_with('/') {
            return Err(Trouble::Usage(format!(
                "--imapd-conf {conf}: must be an absolute path (below --root, if that is given)"
            )));
        }
        let known = |text: &String| {
            VersionLine::of(text)
                .ok_or_else(|| Trouble::Usage(format!("--cyrus {text}: expected a version such as 3.6, from 2.3 on")))
        };
        let version = version.as_ref().map(known).transpose()?;
        Ok(HostOptions { conf, root: root.as_ref().map(PathBuf::from), version, offline, patience: Patience::default() })
    }

    /// Overrides how long locks are waited for, in seconds, and held, in milliseconds.
    pub fn with_patience(mut self, wait: Option<u32>, hold: Option<u32>) -> HostOptions {
        if let Some(seconds) = wait {
            self.patience.wait = Span::from_secs(i64::from(seconds));
        }
        if let Some(ms) = hold {
            self.patience.hold = Span::from_ms(i64::from(ms.max(1)));
        }
        self
    }

    /// How this host is named in commits.
    pub fn source(&self) -> String {
        match &self.root {
            Some(root) => format!("local:{}:{}", root.display(), self.conf),
            None => format!("local:{}", self.conf),
        }
    }

    /// A driver with this store, and the site, opened with it.
    pub fn open(&self, store: &Path, threads: usize) -> Result<(Local, Site), Trouble> {
        let mut driver = Local::new(self.config(store, threads, None));
        let conf = run(&mut driver, |io| async move {
            config::load(&io, self.conf.as_bytes(), "", self.version.unwrap_or(VersionLine::V3_6)).await
        })?;
        let mut driver = Local::new(self.config(store, threads, self.cyrus_owner(&conf)));
        let site = run(&mut driver, |io| async move { self.site_of(&io, conf).await })?;
        Ok((driver, site))
    }

    async fn site_of(&self, io: &Io, conf: Conf) -> Result<Site, Error> {
        let locking = if self.offline { Locking::Offline } else { Locking::AsServer };
        let mut site = Site::open(io, conf, self.version, locking, self.patience).await?;
        if self.version.is_none() {
            // A run over users who have not changed opens no index.
            site.look_closer(io, version::installed(io).await, false).await?;
        }
        Ok(site)
    }

    /// The site, within a procedure.
    pub async fn site(&self, io: &Io) -> Result<Site, Error> {
        let conf = config::load(io, self.conf.as_bytes(), "", self.version.unwrap_or(VersionLine::V3_6)).await?;
        self.site_of(io, conf).await
    }

    fn config(&self, store: &Path, threads: usize, cyrus_owner: Option<(u32, u32)>) -> Config {
        Config {
            root: self.root.clone(),
            store: store.to_path_buf(),
            cyrus_owner,
            threads,
            stop: Some(stop::flag()),
            tape: tape::current(),
            ..Config::default()
        }
    }

    /// The user and group of Cyrus on this host.
    pub fn cyrus_owner(&self, conf: &Conf) -> Option<(u32, u32)> {
        let passwd = self.root.clone().unwrap_or_default().join("etc/passwd");
        let passwd = if self.root.is_some() { passwd } else { PathBuf::from("/etc/passwd") };
        owner_of(&String::from_utf8_lossy(&conf.cyrus_user), &passwd)
    }
}

/// Runs a procedure to its end, without telling anybody of its progress.
pub fn run<T, F: Future<Output = T>>(driver: &mut Local, procedure: impl FnOnce(Io) -> F) -> T {
    run_with(driver, procedure, &mut |_| ())
}

/// Runs a procedure to its end.
pub fn run_with<T, F: Future<Output = T>>(
    driver: &mut Local,
    procedure: impl FnOnce(Io) -> F,
    on_event: &mut dyn FnMut(Event),
) -> T {
    driver.run(Task::new(driver.begin(), procedure), on_event)
}

/// The store's directory: the option, or the environment. It must be a store, and the one that `$CYLINDER_STORE_ID` names.
pub fn store(option: &Option<String>) -> Result<PathBuf, Trouble> {
    let path = store_path(option)?;
    let pinned = std::env::var_os("CYLINDER_STORE_ID").filter(|id| !id.is_empty());
    check_store(&path, pinned.map(|id| id.to_string_lossy().into_owned()).as_deref())?;
    Ok(path)
}

/// The path that the option or the environment names, whatever is there.
pub fn store_path(option: &Option<String>) -> Result<PathBuf, Trouble> {
    match option {
        Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
        Some(_) => Err(Trouble::Usage(String::from("--store: the name of the directory is empty"))),
        None => match std::env::var_os("CYLINDER_STORE") {
            Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
            _ => Err(Trouble::Usage(String::from("which store? give --store DIR or set CYLINDER_STORE"))),
        },
    }
}

/// Refuses a directory that is no store, or not the one with the id `pinned`. `none` stands for archives without a marker.
pub fn check_store(path: &Path, pinned: Option<&str>) -> Result<(), Trouble> {
    if tape::is_replay() {
        return Ok(());
    }
    let dir = shown(path.as_os_str().as_bytes());
    let expected = match pinned {
        None | Some(NO_MARKER) => None,
        Some(text) => Some(StoreId::parse(text.as_bytes()).ok_or_else(|| {
            Trouble::Usage(format!(
                "store id {text}: expected the 32 hexadecimal digits that `cylinder init` has printed, or none"
            ))
        })?),
    };
    let found = run(&mut store_driver(path, 0), |io| async move { marker::look(&io).await });
    let found = found.map_err(|error| Error::Refused(format!("store {dir}: {error}")))?;
    if pinned == Some(NO_MARKER) && found == Found::Archives {
        return Ok(());
    }
    let id = found.store(&dir)?;
    match expected {
        Some(expected) if expected != id => {
            let why = format!("has the id {id}, expected {expected}: another store is mounted there");
            Err(Error::Refused(format!("store {dir}: {why}")).into())
        }
        _ => Ok(()),
    }
}

/// The id of a store that has no marker, such as an old copy that cannot be written to.
const NO_MARKER: &str = "none";

/// 16 bytes of chance, to tell a new archive from all others.
pub fn chance() -> Result<[u8; 16], Error> {
    let mut chance = [0; 16];
    rustix::rand::getrandom(&mut chance, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::Refused(format!("the system gives no random bytes: {e}")))?;
    Ok(chance)
}

/// A driver that works on a store alone.
pub fn store_driver(store: &Path, threads: usize) -> Local {
    Local::new(Config { store: store.to_path_buf(), threads, stop: Some(stop::flag()), ..Config::default() })
}

/// Everybody in the store. Parts of it that cannot be reached are told.
pub fn everybody(driver: &mut Local) -> Result<Vec<Owner>, Trouble> {
    Ok(run(driver, |io| async move { owners(&io).await })?)
}

/// The same within a procedure.
pub async fn owners(io: &Io) -> Result<Vec<Owner>, Error> {
    let store::Owners { owners, lost } = store::owners(io).await?;
    exit::parts_are_lost(&lost);
    Ok(owners)
}

/// The owner that a word on the command line names.
pub fn owner(word: &str) -> Owner {
    if word == "%shared" { Owner::Shared } else { Owner::User(word.as_bytes().to_vec()) }
}

/// An owner as people write it.
pub fn owner_shown(owner: &Owner) -> String {
    owner.shown()
}

/// Threads for CPU work: as many as asked for, else one for each processor, 8 at most.
pub fn threads(option: Option<usize>) -> usize {
    // Asked once: the answer is in a dozen files.
    static PROCESSORS: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, |n| n.get().min(8)));
    option.unwrap_or_else(|| *PROCESSORS)
}
