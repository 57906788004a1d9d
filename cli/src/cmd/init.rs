//! `cylinder init`

use crate::args::Init;
use crate::exit::Exit;
use crate::host::{self, Outcome};
use crate::output;
use cylinder_core::error::Error;
use cylinder_core::escape::shown;
use cylinder_core::marker::{self, Found, StoreId};
use serde_json::json;
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// Makes a directory a store.
pub fn run(args: &Init) -> Outcome {
    let path = host::store_path(&args.store)?;
    let dir = shown(path.as_os_str().as_bytes());
    make(&path).map_err(|error| Error::Refused(format!("store {dir}: cannot be made: {error}")))?;
    let id = StoreId(host::chance()?);
    let making = &dir;
    let found = host::run(&mut host::store_driver(&path, 0), |io| async move { marker::init(&io, id, making).await })?;
    let adopts = found == Found::Archives;
    if args.json {
        output::json(&json!({ "store": dir, "id": id.to_string(), "adopted": adopts }))?;
    } else {
        let what = if adopts { "the archives that are there are adopted" } else { "it is empty" };
        output::line(&format!("store {dir}: made, with id {id}; {what}"))?;
    }
    Ok(Exit::Ok)
}

/// Makes the directory if it does not exist; not those above it.
fn make(path: &Path) -> std::io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            std::fs::File::open(above)?.sync_all()
        }
    }
}
