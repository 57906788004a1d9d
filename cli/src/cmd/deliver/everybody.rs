//! `cylinder restore --exact --all-users`: everybody of a store, one after the other, onto a running server.
//!
//! What must not come in: what is done for one user.

use super::session::Session;
use super::{How, Order, exit_of, how, order, server};
use crate::args::Restore;
use crate::cmd::archive;
use crate::cmd::sources;
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble, owner_shown};
use crate::output::{self, count, size};
use crate::stop;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::io::Io;
use cylinder_core::restore::absent::{absent, departed};
use cylinder_core::restore::report::Note;
use cylinder_core::restore::select::{Kind, Scope, Selection, Wish};
use cylinder_core::restore::server::report::Report;
use cylinder_core::store::archive_dir;
use cylinder_core::view::When;
use serde_json::json;

/// What came of all users so far.
#[derive(Default)]
struct Sum {
    codes: Vec<Exit>,
    folders: u64,
    created: u64,
    added: u64,
    bytes: u64,
    skipped: u64,
    failed: u64,
    left: u64,
}

/// What came of one user.
enum Done {
    Restored(Report),
    /// There is nothing of this user in the snapshot.
    Skipped(Vec<Note>),
}

/// Restores everybody.
pub fn run(args: &Restore) -> Outcome {
    check(args)?;
    let when = archive::at(&args.at)?;
    let (store, server) = (host::store(&args.store)?, server(args, "")?);
    let mut session = Session::open(&server, &store)?;
    let found = session.run(true, async |io, password| {
        let found = sources::look(io, when, host::owners(io).await?).await?.of_sources(&args.source)?;
        // What is wrong with all is wrong before anything is done.
        server.replication(io, password).await?.exit().await;
        Ok(found)
    })?;
    let mut sum = Sum::default();
    for (owner, error) in &found.lost {
        sum.fail(args, owner, error)?;
    }
    let archives = found.archives;
    for (n, archive) in archives.iter().enumerate() {
        if stop::is_wanted() {
            sum.left = (archives.len() - n) as u64;
            break;
        }
        let mut wish = Wish::new(Scope::All);
        wish.kind = Kind::Every;
        let mut order = order(args, "", wish, when, server.clone())?;
        (order.owner, order.target) = (archive.owner.clone(), archive.owner.clone());
        match one(args, &mut order, &mut session) {
            Ok(done) => sum.add(&order, done)?,
            Err(Trouble::Core(error)) => sum.fail(args, &order.owner, &error)?,
            Err(other) => return Err(other),
        }
    }
    sum.tell(args)
}

fn check(args: &Restore) -> Result<(), Trouble> {
    let usage = |text: &str| Err(Trouble::Usage(String::from(text)));
    if !matches!(how(args)?, How::Exact { .. }) {
        return usage("restore: --all-users goes with --spool and --exact");
    }
    let picks = args.only_deleted || args.since.is_some() || args.until.is_some();
    if !args.words.is_empty() || args.subtree.is_some() || args.as_user.is_some() || args.cleanup {
        return usage("restore: --all-users is everybody, as they were: name no users and no folders beside it");
    }
    if picks || !args.guid.is_empty() || !args.message_id.is_empty() {
        return usage("--exact is of whole folders: it cannot leave out messages");
    }
    if args.cyrus.is_some() {
        return usage("restore: --cyrus goes with --spool");
    }
    if args.login.is_none() {
        return usage("restore: --all-users: say with --login which administrator logs in");
    }
    Ok(())
}

fn one(args: &Restore, order: &mut Order, session: &mut Session) -> Result<Done, Trouble> {
    let (owner, when) = (order.owner.clone(), order.when);
    let missing = session.run(true, async |io, _| missing(io, &owner, when, &order.wish).await)?;
    if !missing.is_empty() {
        return Ok(Done::Skipped(missing));
    }
    order.make_ready(args, session)?;
    Ok(Done::Restored(order.run(session)?))
}

/// Why there is nothing to restore, if that is so.
async fn missing(io: &Io, owner: &Owner, when: When, wish: &Wish) -> Result<Vec<Note>, Error> {
    let reader = archive::open(io, owner, &archive_dir(owner)?).await?;
    let looked = async {
        let selection = Selection::open(&reader, owner, when, wish.clone()).await?;
        let mut missing = absent(&selection).await?;
        missing.extend(departed(&selection));
        Ok(missing)
    };
    let missing = looked.await;
    reader.close().await;
    missing
}

impl Sum {
    fn add(&mut self, order: &Order, done: Done) -> Result<(), Trouble> {
        let who = owner_shown(&order.owner);
        let report = match done {
            Done::Restored(report) => report,
            Done::Skipped(notes) => {
                self.skipped += 1;
                self.codes.push(Exit::Ok);
                for Note { why, next, .. } in &notes {
                    output::complain!("cylinder: skipped {who}: {why}; {next}");
                    if order.json {
                        output::json(&json!({ "user": who, "skipped": why, "next": next }))?;
                    }
                }
                return Ok(());
            }
        };
        let mut telling = order.telling();
        telling.who = Some(&who);
        telling.tell(&report)?;
        let code = exit_of(&report);
        self.failed += u64::from(code != Exit::Ok);
        self.codes.push(code);
        self.folders += report.folders.len() as u64;
        self.created += report.sum(|folder| folder.is_created.into());
        self.added += report.sum(|folder| folder.added);
        self.bytes = self.bytes.saturating_add(report.sum(|folder| folder.bytes));
        Ok(())
    }

    fn fail(&mut self, args: &Restore, owner: &Owner, error: &Error) -> Result<(), Trouble> {
        let (who, code) = (owner_shown(owner), Exit::of(error));
        output::complain!("cylinder: {who}: {error}");
        if args.json {
            output::json(&json!({ "user": who, "error": error.to_string(), "exit": code as u8 }))?;
        }
        self.failed += 1;
        self.codes.push(code);
        Ok(())
    }

    fn tell(&self, args: &Restore) -> Outcome {
        let stopped = (self.left > 0).then_some(Exit::Partial);
        let exit = Exit::of_all(self.codes.iter().copied().chain(stopped));
        let users = self.codes.len() as u64;
        if args.json {
            output::json(&json!({
                "event": "summary", "users": users, "failed": self.failed, "skipped": self.skipped, "left": self.left,
                "plan": args.dry_run, "folders": self.folders, "created": self.created, "added": self.added,
                "bytes": self.bytes, "exit": exit as u8,
            }))?;
            return Ok(exit);
        }
        if self.left > 0 {
            output::complain!("cylinder: stopped: {} left; run it again", count(self.left, "user"));
        }
        let skipped = if self.skipped > 0 { format!(", {} skipped", self.skipped) } else { String::new() };
        let verb = if args.dry_run { "to be restored" } else { "restored" };
        let (users, added, folders) = (count(users, "user"), count(self.added, "message"), count(self.folders, "folder"));
        let (bytes, created, failed) = (size(self.bytes), self.created, self.failed);
        output::line(&format!(
            "{users}, {failed} with failures{skipped}; {verb}: {added} ({bytes}) in {folders}, {created} of them new"
        ))?;
        Ok(exit)
    }
}
