//! Opening one user's archive, for the commands that read one.

use crate::exit;
use crate::host::{self, Trouble};
use crate::output;
use crate::when::{self, Edge};
use cylinder_core::archive::read::Reader;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::{Error, Fault};
use cylinder_core::io::{Event, Io, Place};
use cylinder_core::store::archive_dir;
use cylinder_core::time::Time;
use cylinder_core::view::When;
use cylinder_transport_local::Local;

/// Opens the archive of the user `word` in the store, and hands it to `procedure`.
pub fn with_reader<T>(
    store: &Option<String>,
    word: &str,
    procedure: impl AsyncFnOnce(&Io, &Reader) -> Result<T, Error>,
) -> Result<T, Trouble> {
    let store = host::store(store)?;
    let mut driver = host::store_driver(&store, 0);
    read(&mut driver, word, procedure)
}

/// The same with a driver at hand.
pub fn read<T>(
    driver: &mut Local,
    word: &str,
    procedure: impl AsyncFnOnce(&Io, &Reader) -> Result<T, Error>,
) -> Result<T, Trouble> {
    read_with(driver, word, procedure, &mut |_| ())
}

/// The same, telling of its progress.
pub fn read_with<T>(
    driver: &mut Local,
    word: &str,
    procedure: impl AsyncFnOnce(&Io, &Reader) -> Result<T, Error>,
    on_event: &mut dyn FnMut(Event),
) -> Result<T, Trouble> {
    let owner = host::owner(word);
    let dir = archive_dir(&owner)?;
    let task = |io: Io| async move {
        let reader = open(&io, &owner, &dir).await?;
        let result = procedure(&io, &reader).await;
        reader.close().await;
        result
    };
    Ok(host::run_with(driver, task, on_event)?)
}

/// Opens the archive of `owner` in `dir` to show what it has. Warns if its end is missing.
pub async fn open(io: &Io, owner: &Owner, dir: &Place) -> Result<Reader, Error> {
    let reader = open_to_write(io, owner, dir).await?;
    match reader.is_end_missing().await {
        Ok(true) => exit::end_is_missing(&host::owner_shown(owner)),
        Ok(false) => {}
        Err(error) => {
            reader.close().await;
            return Err(error);
        }
    }
    Ok(reader)
}

/// The same for whoever writes to it, and mends its end thereby.
pub async fn open_to_write(io: &Io, owner: &Owner, dir: &Place) -> Result<Reader, Error> {
    match Reader::open(io, dir).await {
        Err(Error::World { fault: Fault::NotFound, .. }) => {
            let who = host::owner_shown(owner);
            Err(Error::Refused(format!("{who}: has no archive in this store; `cylinder users --store` lists who has")))
        }
        other => other,
    }
}

/// The snapshot that an option names; the newest without one.
pub fn at(option: &Option<String>) -> Result<When, Trouble> {
    let Some(text) = option else { return Ok(When::Newest) };
    let (when, note) = when::parse(text).map_err(Trouble::Usage)?;
    tell(note);
    Ok(when)
}

/// The point in time that an option names.
pub fn moment(option: &str, text: &str, edge: Edge) -> Result<Time, Trouble> {
    let moment = when::point(text, edge).map_err(|error| Trouble::Usage(format!("--{option}: {error}")))?;
    tell(moment.note);
    Ok(moment.time)
}

/// Says how a time without an offset was read.
fn tell(note: Option<String>) {
    if let Some(note) = note {
        output::complain!("cylinder: {note}");
    }
}
