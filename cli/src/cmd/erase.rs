//! `cylinder erase`

use crate::args::Erase;
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble, owner_shown};
use crate::output::{self, count, size};
use cylinder_core::compact::Settings;
use cylinder_core::compact::erase::{self, Erased};
use cylinder_core::compact::policy::Policy;
use cylinder_core::error::{Error, Fault};
use cylinder_core::guid::Guid;
use cylinder_core::store::archive_dir;
use serde_json::json;

/// Erases a user, or messages of a user; only tells without `--yes`.
pub fn run(args: &Erase) -> Outcome {
    let guid = |word: &String| {
        let guid = Guid::from_hex(word.as_bytes());
        guid.ok_or_else(|| Trouble::Usage(format!("--guid {word}: expected 40 hexadecimal digits")))
    };
    let guids = args.guid.iter().map(guid).collect::<Result<Vec<Guid>, Trouble>>()?;
    if guids.is_empty() != args.everything {
        return Err(Trouble::Usage(String::from("what of the user? give --everything, or --guid for each message")));
    }
    let store = host::store(&args.store)?;
    let threads = host::threads(None);
    let mut driver = host::store_driver(&store, threads);
    let owner = host::owner(&args.user);
    let (dir, who) = (archive_dir(&owner)?, owner_shown(&owner));
    let mut settings = Settings::when_needed(super::compact::archive_settings(None, threads), Policy::EVERYTHING);
    settings.dry_run = !args.yes;
    let result = host::run(&mut driver, |io| async {
        let io = io;
        if guids.is_empty() {
            erase::user(&io, &dir, &who, settings.dry_run).await
        } else {
            erase::messages(&io, &dir, &who, &guids, &settings).await
        }
    });
    let erased = match result {
        Err(Error::World { fault: Fault::NotFound, doing: "list" | "open", .. }) => {
            Err(Error::Refused(format!("{who}: has nothing in this store; `cylinder users --store` lists who has")))
        }
        other => other,
    }?;
    tell(args, &who, &erased)?;
    Ok(if erased.unknown.is_empty() { Exit::Ok } else { Exit::Partial })
}

fn tell(args: &Erase, who: &str, erased: &Erased) -> Result<(), Trouble> {
    let hex = |guids: &[Guid]| guids.iter().map(Guid::to_hex).collect::<Vec<_>>();
    if args.json {
        output::json(&json!({
            "user": who, "done": args.yes, "messages": hex(&erased.messages), "unknown": hex(&erased.unknown),
            "files": erased.files.iter().map(|(name, bytes)| json!({ "name": name, "bytes": bytes })).collect::<Vec<_>>(),
        }))?;
        return Ok(());
    }
    let verb = if args.yes { "erased" } else { "would erase" };
    if args.everything {
        let bytes = erased.files.iter().map(|(_, bytes)| bytes).sum();
        output::line(&format!("{who}: {verb} {}, {}", count(erased.files.len() as u64, "file"), size(bytes)))?;
    } else {
        output::line(&format!("{who}: {verb} {} from all snapshots", count(erased.messages.len() as u64, "message")))?;
    }
    for guid in hex(&erased.unknown) {
        output::complain!("cylinder: {who}: the archive has no message {guid}");
    }
    if !args.yes {
        output::line("give --yes to do it; erase on the server first, or the next backup saves the same again")?;
    }
    Ok(())
}
