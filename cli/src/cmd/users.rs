//! `cylinder users`

use crate::args::Users;
use crate::exit::Exit;
use crate::host::{self, HostOptions, Outcome, owner_shown};
use crate::output;
use cylinder_core::cyrus::names::Owner;
use serde_json::json;
use std::path::Path;

/// Lists users, a line each.
pub fn run(args: &Users) -> Outcome {
    let owners = match &args.store {
        Some(_) => {
            let store = host::store(&args.store)?;
            host::everybody(&mut host::store_driver(&store, 0))?
        }
        None => {
            let options = HostOptions::new(&args.imapd_conf, &args.root, &None, args.offline)?;
            let (mut driver, mut site) = options.open(Path::new("/"), 0)?;
            let site = &mut site;
            host::run(&mut driver, |io| async move { site.owners(&io).await })?
        }
    };
    for owner in owners {
        if args.json {
            output::json(&json!({ "user": owner_shown(&owner), "shared": owner == Owner::Shared }))?;
        } else {
            output::line(&owner_shown(&owner))?;
        }
    }
    Ok(Exit::Ok)
}
