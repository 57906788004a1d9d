//! `cylinder restore --spool`: into the files of a server that does not run.

use super::{report, scope, tell_snapshot, wish};
use crate::args::Restore;
use crate::cmd::archive;
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble};
use crate::output::Progress;
use crate::stop;
use cylinder_core::archive::read::Reader;
use cylinder_core::cyrus::conf::{Conf, VersionLine};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::io::Io;
use cylinder_core::restore::export::FolderPlan;
use cylinder_core::restore::report::Report;
use cylinder_core::restore::select::{Kind, Scope, Selection, Wish};
use cylinder_core::restore::shelf::Dir;
use cylinder_core::restore::spool::{self, Site, Work};
use cylinder_core::source::config;
use cylinder_core::store::{archive_dir, owners};
use cylinder_core::view::{self, When};
use cylinder_transport_local::{Config, Local, owner_of};
use std::path::Path;

/// Where imapd.conf is if nobody says, below the directory.
const CONF: &str = "/etc/imapd.conf";

/// What was asked for.
struct Request {
    /// Whose; empty for everybody.
    user: Option<Owner>,
    wish: Wish,
    when: When,
    conf: String,
    version: Option<VersionLine>,
    dry_run: bool,
    ahead: usize,
}

/// What came of it.
enum Done {
    Planned(Vec<FolderPlan>, Report),
    Restored(Report, Vec<String>),
}

/// Puts files in place below `dir`.
pub fn run(args: &Restore, dir: &Path) -> Outcome {
    let threads = host::threads(args.threads);
    let request = request(args, 2 * threads + 2)?;
    let store = host::store(&args.store)?;
    let root = (dir != Path::new("/")).then(|| dir.to_path_buf());
    let config = Config { store, threads, root, stop: Some(stop::flag()), ..Config::default() };
    let mut driver = Local::new(config.clone());
    let asked = &request;
    let conf = host::run(&mut driver, |io| async move { load(&io, asked).await })?;
    let owner = cyrus_owner(dir, &conf);
    // Only now is it known where the administrator's links may be.
    let (target, trusted) = ((!request.dry_run).then(|| dir.to_path_buf()), spool::bases(&conf));
    let mut driver = Local::new(Config { target, trusted, ..config });
    let mut progress = Progress::new(args.quiet || args.json);
    let done = host::run_with(&mut driver, async |io: Io| carry_out(args, &request, &io, &conf, owner).await, &mut |event| {
        progress.on("restored", &event)
    });
    progress.clear();
    let goal = dir.display().to_string();
    match done? {
        Done::Planned(plans, report) => report::plan(args, &plans, &goal, &report),
        Done::Restored(report, commands) => {
            let commands = if commands.is_empty() { commands } else { with_heading(&conf, commands) };
            report::tell(args, &goal, &report, &commands)?;
            Ok(if report.is_clean() { Exit::Ok } else { Exit::Partial })
        }
    }
}

fn with_heading(conf: &Conf, mut commands: Vec<String>) -> Vec<String> {
    let user = String::from_utf8_lossy(&conf.cyrus_user);
    commands.insert(0, format!("# before the server is started, as the user `{user}`, with this directory as the root:"));
    commands
}

fn request(args: &Restore, ahead: usize) -> Result<Request, Trouble> {
    let usage = |text: &str| Trouble::Usage(String::from(text));
    if args.dir.is_some() || args.zip || args.tar || args.format.is_some() {
        return Err(usage("restore: --spool excludes --dir, --zip, --tar and --format"));
    }
    let (user, mut wish) = match (args.words.split_first(), args.all_users) {
        (None, true) if args.subtree.is_none() => (None, wish(args, Scope::All)?),
        (Some((user, folders)), false) => (Some(host::owner(user)), wish(args, scope(args, folders)?)?),
        _ => return Err(usage("restore: name a user, or say --all-users")),
    };
    if wish.is_filtered() {
        return Err(usage("restore: --spool puts whole folders back; to pick messages, use --dir, or restore through IMAP"));
    }
    wish.kind = Kind::Every;
    let conf = args.imapd_conf.clone().unwrap_or_else(|| String::from(CONF));
    if !conf.starts_with('/') {
        return Err(Trouble::Usage(format!("--imapd-conf {conf}: must be an absolute path, below the directory of --spool")));
    }
    let unknown = |text: &String| Trouble::Usage(format!("--cyrus {text}: expected a version such as 3.6"));
    let version = args.cyrus.as_ref().map(|text| VersionLine::of(text).ok_or_else(|| unknown(text))).transpose()?;
    Ok(Request { user, wish, when: archive::at(&args.at)?, conf, version, dry_run: args.dry_run, ahead })
}

/// The user and group of Cyrus below `dir`; `None` if this process may not give files away.
fn cyrus_owner(dir: &Path, conf: &Conf) -> Option<(u32, u32)> {
    let user = String::from_utf8_lossy(&conf.cyrus_user).into_owned();
    let owner = owner_of(&user, &dir.join("etc/passwd"));
    if owner.is_none() {
        eprintln!("cylinder: {}/etc/passwd has no user {user}: files will belong to whoever runs this", dir.display());
    } else if !rustix::process::geteuid().is_root() {
        eprintln!("cylinder: only root can give files to {user}: they will belong to whoever runs this");
        return None;
    }
    owner
}

/// imapd.conf as the version at hand reads it: the one that was named, or the newest that an archive is from.
async fn load(io: &Io, request: &Request) -> Result<Conf, Error> {
    let mut version = request.version;
    if version.is_none() {
        for owner in whose(io, request).await? {
            let reader = archive::open(io, &owner, &archive_dir(&owner)?).await?;
            let at = view::snapshot(&reader, request.when).await;
            reader.close().await;
            if let Ok(at) = at {
                version = version.max(at.commit.cyrus.split(' ').next().and_then(VersionLine::of));
            }
        }
    }
    let missing = || Error::Refused(String::from("the archive does not tell the version of the server; say --cyrus VERSION"));
    config::load(io, request.conf.as_bytes(), "", version.ok_or_else(missing)?).await
}

async fn whose(io: &Io, request: &Request) -> Result<Vec<Owner>, Error> {
    match &request.user {
        Some(owner) => Ok(vec![owner.clone()]),
        None => owners(io).await,
    }
}

async fn carry_out(args: &Restore, request: &Request, io: &Io, conf: &Conf, owner: Option<(u32, u32)>) -> Result<Done, Error> {
    let site = Site::open(io, conf, request.user.is_none()).await?;
    let mut shelf = Dir::new(io, 0o600, 0o700, owner);
    let (mut work, mut plans) = (Work::default(), Vec::new());
    for owner in whose(io, request).await? {
        let reader = archive::open(io, &owner, &archive_dir(&owner)?).await?;
        let result = one(args, request, io, &reader, &owner, &site, &mut shelf, &mut work, &mut plans).await;
        reader.close().await;
        match result {
            Err(error @ (Error::Damage(_) | Error::Refused(_))) if request.user.is_none() => {
                work.report.fail_with(host::owner_shown(&owner), &error);
            }
            other => other?,
        }
    }
    if request.dry_run {
        return Ok(Done::Planned(plans, work.report));
    }
    let commands = work.finish(io, &site, &request.conf, &mut shelf).await?;
    shelf.sync().await?;
    Ok(Done::Restored(work.report, commands))
}

#[expect(clippy::too_many_arguments, reason = "what one user needs and what all users share")]
async fn one(
    args: &Restore,
    request: &Request,
    io: &Io,
    reader: &Reader,
    owner: &Owner,
    site: &Site<'_>,
    shelf: &mut Dir<'_>,
    work: &mut Work,
    plans: &mut Vec<FolderPlan>,
) -> Result<(), Error> {
    let selection = Selection::open(reader, owner, request.when, request.wish.clone()).await?;
    tell_snapshot(args, request.when, &selection);
    if !request.dry_run {
        return spool::restore(io, &selection, site, request.ahead, shelf, work).await;
    }
    let (planned, report) = spool::plan(&selection, site).await?;
    plans.extend(planned);
    for note in report.failed.kept {
        work.report.failed.add(note.what, note.why, &note.next);
    }
    Ok(())
}
