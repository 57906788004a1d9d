//! `cylinder restore`
//!
//! What must not come in: forms of mail, and steps of a restore; both are the core's.

mod report;
mod running;
mod spool;
mod stream;

use super::archive::{at, moment, read_with};
use super::deliver;
use crate::args::Restore;
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble};
use crate::output::{self, Progress};
use crate::stop;
use crate::when::{self, Edge};
use cylinder_core::archive::read::Reader;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::Io;
use cylinder_core::restore::absent::gone_since;
use cylinder_core::restore::export::{self, Format};
use cylinder_core::restore::fields::bare_id;
use cylinder_core::restore::report::Report;
use cylinder_core::restore::select::{Kind, Scope, Selection, Wish};
use cylinder_core::restore::shelf::Dir;
use cylinder_core::view::When;
use cylinder_transport_local::{Config, Local};
use std::path::{Path, PathBuf};

/// Where to.
enum Way {
    Dir(PathBuf),
    Zip,
    Tar,
}

/// What was asked for, looked at as a whole.
struct Request {
    user: String,
    wish: Wish,
    when: When,
    format: Format,
    way: Way,
}

/// Puts mail back.
pub fn run(args: &Restore) -> Outcome {
    if args.recovered && (args.exact || args.spool.is_some()) {
        let usage = "restore: --recovered gives messages without a folder: use --dir, --zip, --tar or --merge";
        return Err(Trouble::Usage(String::from(usage)));
    }
    if deliver::is_meant(args) {
        return into_server(args);
    }
    if let Some(dir) = &args.spool {
        return spool::run(args, Path::new(dir));
    }
    let request = request(args)?;
    let threads = host::threads(args.threads);
    let target = match &request.way {
        Way::Dir(dir) if !args.dry_run => Some(made(dir)?),
        _ => None,
    };
    let store = host::store(&args.store)?;
    let mut driver = Local::new(Config { store, threads, target, stop: Some(stop::flag()), ..Config::default() });
    if args.dry_run {
        return dry_run(args, &request, &mut driver);
    }
    let mut progress = Progress::new(args.quiet || args.json);
    let done = read_with(
        &mut driver,
        &request.user,
        async |io, reader| carry_out(args, &request, io, reader, 2 * threads + 2).await,
        &mut |event| progress.on(&request.user, &event),
    );
    progress.clear();
    let report = done?;
    report::tell(args, &request.goal(), &report, &[])?;
    Ok(if report.is_clean() { Exit::Ok } else { Exit::Partial })
}

/// Puts it onto a running server.
fn into_server(args: &Restore) -> Outcome {
    if args.all_users {
        return deliver::everybody(args);
    }
    if args.cyrus.is_some() || !args.source.is_empty() {
        return Err(Trouble::Usage(String::from("restore: --source goes with --all-users, --cyrus with --spool")));
    }
    let Some((user, folders)) = args.words.split_first() else {
        return Err(Trouble::Usage(String::from("restore: whose mail? Name a user")));
    };
    let wish = if args.cleanup { Wish::new(Scope::All) } else { wish(args, scope(args, folders)?)? };
    deliver::run(args, user, wish, at(&args.at)?)
}

impl Request {
    /// Where to, for people.
    fn goal(&self) -> String {
        match &self.way {
            Way::Dir(dir) => dir.display().to_string(),
            Way::Zip | Way::Tar => String::from("standard output"),
        }
    }
}

async fn select<'a>(args: &Restore, request: &Request, reader: &'a Reader) -> Result<Selection<'a>, Error> {
    let owner = host::owner(&request.user);
    let selection = Selection::open(reader, &owner, request.when, request.wish.clone()).await?;
    tell_snapshot(args, request.when, &selection);
    Ok(selection)
}

/// Says which snapshot was taken, and why that one.
fn tell_snapshot(args: &Restore, when: When, selection: &Selection<'_>) {
    if args.json || args.quiet {
        return;
    }
    let asked = match when {
        When::Newest => String::from("the newest"),
        When::Number(_) => String::from("as asked for"),
        When::Time(time) => format!("the newest that is not later than {}", when::shown(time)),
    };
    let commit = &selection.at.commit;
    let owner = host::owner_shown(&selection.owner);
    output::complain!("{owner}: snapshot {} of {}: {asked}", commit.number, output::time(commit.time));
    tell_entries(selection);
}

/// Says that the folders are those of before the user was gone, and what is not known of folders that came by way of the stock
/// protocol.
pub(super) fn tell_entries(selection: &Selection<'_>) {
    if let Some(since) = gone_since(&selection.owner, &selection.at, &selection.table) {
        output::complain!(
            "{}: the server has had no mailbox of this user since {}; what was there before is restored",
            host::owner_shown(&selection.owner),
            output::time(since)
        );
    }
    if selection.lacks_entries() {
        output::complain!(
            "{}: the archive has no entries of mailboxes.db, since it was imported or pulled from a stock server: types and ACLs are \
             those of cyrus.header; partitions are not known",
            host::owner_shown(&selection.owner)
        );
    }
}

async fn carry_out(args: &Restore, request: &Request, io: &Io, reader: &Reader, ahead: usize) -> Result<Report, Error> {
    let selection = select(args, request, reader).await?;
    match request.way {
        Way::Dir(_) => {
            let mut shelf = Dir::new(io, 0o600, 0o700, None);
            shelf.open().await?;
            let report = export::export(io, &selection, request.format, ahead, &mut shelf).await?;
            shelf.sync().await?;
            Ok(report)
        }
        Way::Tar => {
            let mut shelf = stream::Tar::new(selection.at.commit.time);
            let report = export::export(io, &selection, request.format, ahead, &mut shelf).await?;
            shelf.finish()?;
            Ok(report)
        }
        Way::Zip => {
            let mut shelf = stream::Zip::new(selection.at.commit.time);
            let report = export::export(io, &selection, request.format, ahead, &mut shelf).await?;
            shelf.finish()?;
            Ok(report)
        }
    }
}

fn dry_run(args: &Restore, request: &Request, driver: &mut Local) -> Outcome {
    let planned = read_with(
        driver,
        &request.user,
        async |_, reader| export::plan(&select(args, request, reader).await?).await,
        &mut |_| (),
    );
    let (plans, report) = planned?;
    report::plan(args, &plans, &request.goal(), &report)
}

fn request(args: &Restore) -> Result<Request, Trouble> {
    let usage = |text: &str| Trouble::Usage(String::from(text));
    let Some((user, folders)) = args.words.split_first() else { return Err(usage("restore: whose mail? Name a user")) };
    if args.all_users || args.imapd_conf.is_some() || args.cyrus.is_some() || !args.source.is_empty() {
        return Err(usage(
            "restore: --imapd-conf and --cyrus go with --spool, --all-users and --source with --spool or --exact",
        ));
    }
    if args.as_user.is_some() {
        return Err(usage("restore: --as goes with --to-tree and --merge; what is exported can be put anywhere"));
    }
    let way = match (&args.dir, args.zip, args.tar) {
        (Some(dir), false, false) => Way::Dir(PathBuf::from(dir)),
        (None, true, false) => Way::Zip,
        (None, false, true) => Way::Tar,
        _ => {
            return Err(usage(
                "restore: say where to, in one way: --dir DIR, --zip, --tar or --spool DIR, or a way onto a server",
            ));
        }
    };
    if !matches!(way, Way::Dir(_)) && !args.dry_run && output::is_terminal() {
        return Err(usage(
            "restore: --zip and --tar write to standard output, which is a terminal: redirect it to a file or a pipe",
        ));
    }
    let format = match &args.format {
        None => Format::Maildir,
        Some(name) => {
            let found = Format::ALL.iter().find(|(known, _)| known == name);
            let unknown = || Trouble::Usage(format!("--format {name}: expected maildir, mbox, eml or cyrus"));
            found.map(|(_, format)| *format).ok_or_else(unknown)?
        }
    };
    let mut wish = wish(args, scope(args, folders)?)?;
    // The files of Cyrus are of use as a whole.
    if format == Format::Cyrus && !wish.is_filtered() {
        wish.kind = Kind::Every;
    }
    Ok(Request { user: user.clone(), wish, when: at(&args.at)?, format, way })
}

/// Which folders.
fn scope(args: &Restore, folders: &[String]) -> Result<Scope, Trouble> {
    let bytes = |text: &String| text.as_bytes().to_vec();
    let picks = args.only_deleted || !args.guid.is_empty() || !args.message_id.is_empty();
    if args.recovered {
        let alone = folders.is_empty() && args.subtree.is_none() && !args.all;
        let usage = "restore: --recovered takes messages that are in no folder: name none, and leave out --subtree and --all";
        return if alone { Ok(Scope::Recovered) } else { Err(Trouble::Usage(String::from(usage))) };
    }
    match (folders, &args.subtree, args.all) {
        ([], None, true) => Ok(Scope::All),
        ([], Some(top), false) => Ok(Scope::Subtree(bytes(top))),
        // Whoever names messages need not know where they are.
        ([], None, false) if picks => Ok(Scope::All),
        ([_, ..], None, false) => Ok(Scope::Folders(folders.iter().map(bytes).collect())),
        ([], None, false) => Err(Trouble::Usage(String::from("restore: which folders? Name some, or say --all"))),
        _ => Err(Trouble::Usage(String::from("restore: folders, --subtree and --all exclude each other"))),
    }
}

/// Which messages of these folders.
fn wish(args: &Restore, scope: Scope) -> Result<Wish, Trouble> {
    let time = |option: &str, text: &Option<String>, edge| text.as_ref().map(|text| moment(option, text, edge)).transpose();
    let guid = |text: &String| {
        let bad = || Trouble::Usage(format!("--guid {text}: expected 40 hexadecimal digits"));
        Guid::from_hex(text.as_bytes()).ok_or_else(bad)
    };
    let mut wish = Wish::new(scope);
    wish.since = time("since", &args.since, Edge::Start)?;
    wish.until = time("until", &args.until, Edge::Before)?;
    wish.guids = args.guid.iter().map(guid).collect::<Result<_, _>>()?;
    wish.message_ids = args.message_id.iter().map(|id| bare_id(id.as_bytes()).to_vec()).collect();
    if args.only_deleted {
        wish.kind = Kind::Deleted;
    }
    Ok(wish)
}

/// Makes the directory to restore into, unless it is there.
fn made(dir: &Path) -> Result<PathBuf, Trouble> {
    match std::fs::create_dir(dir) {
        Ok(()) => Ok(dir.to_path_buf()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(dir.to_path_buf()),
        Err(e) => Err(Trouble::Core(Error::Refused(format!("{}: {e}", dir.display())))),
    }
}
