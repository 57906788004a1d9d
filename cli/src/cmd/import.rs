//! `cylinder import`

use super::compact::archive_settings;
use super::repair::{code_of, findings_json, rewritten_json, tell_findings, tell_lost};
use crate::args::Import;
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble, owner_shown};
use crate::output::{self, OutputError, Progress, count, size};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::import::{self, Imported, Settings};
use cylinder_core::io::{Io, Place};
use cylinder_core::store::archive_dir;
use cylinder_transport_local::Local;
use serde_json::json;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Imports files, one after the other.
pub fn run(args: &Import) -> Outcome {
    if args.files.is_empty() {
        return Err(Trouble::Usage(String::from("what? name files")));
    }
    let store = host::store(&args.store)?;
    let threads = host::threads(args.threads);
    let settings = Settings { archive: archive_settings(args.level, threads), archive_id: host::chance()? };
    let mut driver = host::store_driver(&store, threads);
    let mut codes = Vec::new();
    for file in &args.files {
        let path = std::path::absolute(file).map_err(|error| Error::Refused(format!("{file}: {error}")))?;
        let owner = owner(args, file, &path)?;
        let mut progress = Progress::new(args.quiet || args.json);
        let result = one(&mut driver, path, &owner, &settings, &mut progress);
        progress.clear();
        codes.push(result.as_ref().map_or_else(Exit::of, code));
        tell(args, file, &owner_shown(&owner), &result)?;
    }
    Ok(Exit::of_all(codes))
}

/// Whose the file is.
fn owner(args: &Import, file: &str, path: &Path) -> Result<Owner, Trouble> {
    if let Some(user) = &args.user {
        return Ok(host::owner(user));
    }
    match path.parent().and_then(Path::file_name) {
        Some(name) => Ok(Owner::User(name.as_bytes().to_vec())),
        None => Err(Trouble::Usage(format!("{file}: whose is it? give --user"))),
    }
}

fn one(
    driver: &mut Local,
    path: PathBuf,
    owner: &Owner,
    settings: &Settings,
    progress: &mut Progress,
) -> Result<Imported, Error> {
    let (who, dir) = (owner_shown(owner), archive_dir(owner)?);
    let from = Place::host(path.into_os_string().into_vec());
    let procedure = |io: Io| async move { import::run(&io, &from, owner, &dir, settings).await };
    host::run_with(driver, procedure, &mut |event| progress.on(&who, &event))
}

fn code(imported: &Imported) -> Exit {
    if imported.findings_count > 0 { Exit::Partial } else { code_of(&imported.rewritten) }
}

fn tell(args: &Import, file: &str, who: &str, result: &Result<Imported, Error>) -> Result<(), OutputError> {
    let imported = match result {
        Ok(imported) => imported,
        Err(error) if args.json => {
            return output::json(
                &json!({ "file": file, "user": who, "error": error.to_string(), "exit": Exit::of(error) as u8 }),
            );
        }
        Err(error) => {
            output::complain!("cylinder: {who}: {error}");
            return Ok(());
        }
    };
    if args.json {
        return output::json(&json!({
            "file": file, "user": who, "findings_count": imported.findings_count,
            "findings": findings_json(&imported.findings), "archive": rewritten_json(&imported.rewritten),
            "file_bytes": imported.bytes.0, "bytes": imported.bytes.1, "exit": code(imported) as u8,
        }));
    }
    let made = &imported.rewritten;
    output::line(&format!(
        "{who}: imported {} in {}, {}, archive {}",
        count(made.messages, "message"),
        count(made.folders, "folder"),
        count(made.snapshots, "snapshot"),
        size(imported.bytes.1),
    ))?;
    tell_findings(&imported.findings)?;
    tell_lost(made)
}
