//! `cylinder restore --spool`: into the files of a server that does not run.

use super::{report, running, scope, tell_snapshot, wish};
use crate::args::Restore;
use crate::cmd::archive;
use crate::cmd::sources::{self, Archive};
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble};
use crate::output::{self, Progress, count};
use crate::stop;
use cylinder_core::archive::read::Reader;
use cylinder_core::cyrus::conf::{Conf, VersionLine};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::{Error, Fault};
use cylinder_core::io::Io;
use cylinder_core::restore::absent::departed;
use cylinder_core::restore::export::FolderPlan;
use cylinder_core::restore::report::{Note, Report};
use cylinder_core::restore::select::{Kind, Scope, Selection, Wish};
use cylinder_core::restore::shelf::Dir;
use cylinder_core::restore::spool::{self, Site, Work};
use cylinder_core::restore::target;
use cylinder_core::source::config;
use cylinder_core::source::version::Told;
use cylinder_core::store::archive_dir;
use cylinder_core::view::When;
use cylinder_transport_local::{Config, Local, owner_of};
use std::collections::BTreeMap;
use std::path::Path;

/// Where imapd.conf is if nobody says, below the directory.
const CONF: &str = "/etc/imapd.conf";

/// What was asked for.
struct Request {
    /// Whose; empty for everybody.
    user: Option<Owner>,
    wish: Wish,
    when: When,
    /// Only users of these sources; empty if there is only one.
    sources: Vec<String>,
    conf: String,
    version: Option<VersionLine>,
    dry_run: bool,
    ahead: usize,
}

/// What is to be done where.
struct Aim {
    owners: Vec<Owner>,
    /// Whose archive could not be opened, and why.
    lost: Vec<(Owner, Error)>,
    conf: Conf,
    told: Told,
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
    let aim = host::run(&mut driver, |io| async move { load(&io, asked).await })?;
    let conf = &aim.conf;
    if !args.quiet {
        output::complain!(
            "cylinder: the server in {} is taken for Cyrus {}: {}",
            dir.display(),
            aim.told.version,
            aim.told.because
        );
    }
    refuse_running(dir, conf, request.dry_run)?;
    let owner = cyrus_owner(dir, conf);
    // Only now is it known where the administrator's links may be.
    let (target, trusted) = ((!request.dry_run).then(|| dir.to_path_buf()), spool::bases(conf));
    let mut driver = Local::new(Config { target, trusted, ..config });
    let mut progress = Progress::new(args.quiet || args.json);
    let done = host::run_with(&mut driver, async |io: Io| carry_out(args, &request, &io, &aim, owner).await, &mut |event| {
        progress.on("restored", &event)
    });
    progress.clear();
    let goal = dir.display().to_string();
    match done? {
        Done::Planned(plans, report) => report::plan(args, &plans, &goal, &report),
        Done::Restored(report, commands) => {
            let commands = if commands.is_empty() { commands } else { with_heading(conf, commands) };
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
    if args.as_user.is_some() {
        let how = "restore the user as it was, and rename it on the server afterwards (cyradm: rename user/OLD user/NEW)";
        return Err(Trouble::Usage(format!("restore: --as goes with --to-tree and --merge; with --spool, {how}")));
    }
    if !args.source.is_empty() && user.is_some() {
        return Err(usage("restore: --source goes with --all-users"));
    }
    let (when, sources, dry_run) = (archive::at(&args.at)?, args.source.clone(), args.dry_run);
    Ok(Request { user, wish, when, sources, conf, version, dry_run, ahead })
}

/// Refused if a server works with these files: it would not see what is put there, or write over it.
fn refuse_running(dir: &Path, conf: &Conf, is_dry_run: bool) -> Result<(), Trouble> {
    let inside = String::from_utf8_lossy(&conf.configdirectory).into_owned();
    let Some((pid, name)) = running::server_in(&dir.join(inside.trim_start_matches('/'))) else { return Ok(()) };
    let why = format!("a Cyrus server runs on {} ({name}, process {pid}): stop it first", dir.display());
    let next = "restore onto a running server with --exact, --merge or --to-tree";
    if is_dry_run {
        output::complain!("cylinder: {why}, or {next}");
        return Ok(());
    }
    Err(Error::Refused(format!("{why}, or {next}")).into())
}

/// The user and group of Cyrus below `dir`; `None` if this process may not give files away.
fn cyrus_owner(dir: &Path, conf: &Conf) -> Option<(u32, u32)> {
    let user = String::from_utf8_lossy(&conf.cyrus_user).into_owned();
    let owner = owner_of(&user, &dir.join("etc/passwd"));
    if owner.is_none() {
        output::complain!("cylinder: {}/etc/passwd has no user {user}: files will belong to whoever runs this", dir.display());
    } else if !rustix::process::geteuid().is_root() {
        output::complain!("cylinder: only root can give files to {user}: they will belong to whoever runs this");
        return None;
    }
    owner
}

/// The users that are meant, what the server is taken for, and imapd.conf as that version reads it.
async fn load(io: &Io, request: &Request) -> Result<Aim, Error> {
    let mut owners = match &request.user {
        Some(owner) => vec![owner.clone()],
        None => host::owners(io).await?,
    };
    let mut told = match request.version {
        Some(version) => Some(target::as_said(version)),
        None => target::told_by_disk(io, request.conf.as_bytes()).await?,
    };
    let mut lost = Vec::new();
    if request.user.is_none() || told.is_none() {
        let mut found = sources::look(io, request.when, owners).await?;
        if let (Some((_, error)), true) = (found.lost.first(), found.archives.is_empty()) {
            return Err(error.clone());
        }
        if request.user.is_none() {
            found = found.of_sources(&request.sources)?;
        }
        if told.is_none() {
            told = Some(target::from_archives(only_version(&found.archives)?));
        }
        owners = found.archives.into_iter().map(|archive| archive.owner).collect();
        lost = found.lost;
    }
    let missing = || Error::Refused(String::from("nothing tells the version of the server; say --cyrus VERSION"));
    let told = told.ok_or_else(missing)?;
    let conf = config::load(io, request.conf.as_bytes(), "", told.version).await?;
    Ok(Aim { owners, lost, conf, told })
}

/// The version that the archives are from; refused if they are from several, for the server can be of any.
fn only_version(archives: &[Archive]) -> Result<VersionLine, Error> {
    let mut users: BTreeMap<VersionLine, u64> = BTreeMap::new();
    archives.iter().filter_map(|archive| archive.version).for_each(|version| *users.entry(version).or_default() += 1);
    match users.len() {
        0 => Err(Error::Refused(String::from("the archive does not tell the version of the server; say --cyrus VERSION"))),
        1 => Ok(*users.keys().next().unwrap_or(&VersionLine::V3_6)),
        _ => {
            let all: Vec<String> = users.iter().map(|(version, n)| format!("{version} ({})", count(*n, "user"))).collect();
            let why = format!("the archives are of several versions of Cyrus: {}", all.join(", "));
            Err(Error::Refused(format!("{why}; nothing on the disk tells which it is to be: say --cyrus VERSION")))
        }
    }
}

async fn carry_out(args: &Restore, request: &Request, io: &Io, aim: &Aim, owner: Option<(u32, u32)>) -> Result<Done, Error> {
    let site = Site::open(io, &aim.conf, request.user.is_none(), request.version.is_some()).await?;
    let mut shelf = Dir::new(io, 0o600, 0o700, owner);
    let (mut work, mut plans) = (Work::default(), Vec::new());
    for (owner, error) in &aim.lost {
        work.report.fail_with(host::owner_shown(owner), error);
    }
    for owner in &aim.owners {
        let result = async {
            let reader = archive::open(io, owner, &archive_dir(owner)?).await?;
            let result = one(args, request, io, &reader, owner, &site, &mut shelf, &mut work, &mut plans).await;
            reader.close().await;
            result
        };
        match result.await {
            Err(error) if request.user.is_none() && is_of_one(&error) => {
                work.report.fail_with(host::owner_shown(owner), &error);
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

/// True for an error that may be of one user alone: the others are tried.
fn is_of_one(error: &Error) -> bool {
    let is_of_all = |fault: &Fault| matches!(fault, Fault::NoSpace | Fault::Quota | Fault::ReadOnly | Fault::Driver);
    !matches!(error, Error::Stopped) && !matches!(error, Error::World { fault, .. } if is_of_all(fault))
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
    if let Some(Note { what, why, next }) = request.user.is_none().then(|| departed(&selection)).flatten() {
        work.report.skipped.add(what, why, &next);
        return Ok(());
    }
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
