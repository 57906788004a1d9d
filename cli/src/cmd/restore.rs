//! `cylinder restore`: what the options mean.

use super::archive;
use super::deliver::{How, Order, span};
use crate::args::{Backup, Restore};
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble};
use crate::server::{From, IMAP, Server};
use argh::FromArgs;
use cylinder_core::error::Error;
use cylinder_core::restore::select::{Kind, Scope, Wish};
use cylinder_core::restore::server::deliver::OverQuota;
use cylinder_transport_ssh::Ssh;

/// Puts mail back.
pub fn run(args: &Restore) -> Outcome {
    let order = Order {
        owner: host::owner(&args.user),
        store: if args.cleanup { std::env::temp_dir() } else { host::store(&args.store)? },
        when: archive::at(&args.at)?,
        wish: wish(args)?,
        how: how(args)?,
        server: server(args)?,
        over_quota: over_quota(args)?,
        expire: args.expire.as_ref().map(|text| span(text).ok_or_else(|| bad("--expire", text, "7d"))).transpose()?,
        rehearse: args.dry_run,
        json: args.json,
        quiet: args.quiet,
    };
    if args.cleanup {
        return order.clean_up();
    }
    if args.replace && !args.no_backup && !args.dry_run {
        back_up(args)?;
    }
    order.run()
}

/// Backs up what is going to be replaced.
fn back_up(args: &Restore) -> Result<(), Trouble> {
    let store = host::store(&args.store)?.display().to_string();
    let mut words = vec!["--store", &store, "--quiet"];
    if args.user == "%shared" {
        words.push("--shared")
    } else {
        words.push(&args.user)
    }
    let options = [("--from", &args.from), ("--imapd-conf", &args.imapd_conf), ("--root", &args.root), ("--ssh", &args.ssh)];
    for (name, value) in options {
        if let Some(value) = value {
            words.extend([name, value]);
        }
    }
    let backup = Backup::from_args(&["cylinder", "backup"], &words).map_err(|early| Trouble::Usage(early.output))?;
    match super::backup::run(&backup)? {
        Exit::Ok => Ok(()),
        _ => {
            let why = "what is there could not be backed up as a whole, so it is not replaced; --no-backup does without";
            Err(Error::Refused(String::from(why)).into())
        }
    }
}

fn bad(option: &str, text: &str, expected: &str) -> Trouble {
    Trouble::Usage(format!("{option} {text}: expected {expected}"))
}

fn wish(args: &Restore) -> Result<Wish, Trouble> {
    let scope = match (&args.subtree, args.all, args.folders.is_empty()) {
        (Some(top), false, true) => Scope::Subtree(top.as_bytes().to_vec()),
        (None, true, true) => Scope::All,
        (None, false, false) => Scope::Folders(args.folders.iter().map(|name| name.as_bytes().to_vec()).collect()),
        _ if args.cleanup => Scope::All,
        _ => return Err(Trouble::Usage(String::from("which folders? name some, or give --subtree FOLDER or --all"))),
    };
    let kind = match (args.only_deleted, args.exact) {
        (true, _) => Kind::Deleted,
        (false, true) => Kind::Every,
        (false, false) => Kind::Visible,
    };
    Ok(Wish { kind, ..Wish::new(scope) })
}

fn how(args: &Restore) -> Result<How, Trouble> {
    let tree = args.to_tree || args.tree.is_some();
    if !args.exact && (args.replace || args.partition.is_some()) {
        return Err(Trouble::Usage(String::from("--replace and --partition belong to --exact")));
    }
    match (tree, args.merge, args.flags_only, args.exact) {
        (_, false, false, false) => Ok(How::Tree(args.tree.clone())),
        (false, true, false, false) => Ok(How::Merge),
        (false, false, true, false) => Ok(How::Flags),
        (false, false, false, true) if args.only_deleted => {
            Err(Trouble::Usage(String::from("--exact is of whole folders; leave out --only-deleted")))
        }
        (false, false, false, true) => Ok(How::Exact { replace: args.replace, partition: args.partition.clone() }),
        _ => Err(Trouble::Usage(String::from("one of --to-tree, --merge, --flags-only and --exact"))),
    }
}

fn over_quota(args: &Restore) -> Result<OverQuota, Trouble> {
    match args.over_quota.as_deref() {
        None | Some("stop") => Ok(OverQuota::Stop),
        Some("warn") => Ok(OverQuota::Warn),
        Some(text) => Err(bad("--over-quota", text, "stop or warn")),
    }
}

fn server(args: &Restore) -> Result<Server, Trouble> {
    let password = match (&args.password_file, &args.password_env) {
        (Some(path), None) => From::File(path.clone()),
        (None, Some(name)) => From::Environment(name.clone()),
        (None, None) => From::Terminal,
        _ => return Err(Trouble::Usage(String::from("one of --password-file and --password-env"))),
    };
    let mut ssh = Ssh::default();
    if let Some(words) = &args.ssh {
        ssh.program = words.split_whitespace().map(str::to_owned).collect();
    }
    Ok(Server {
        peer: args.server.clone().unwrap_or_else(|| IMAP.to_owned()),
        ssh,
        login: args.login.clone().unwrap_or_else(|| args.user.clone()),
        password,
    })
}
