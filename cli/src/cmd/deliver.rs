//! `cylinder restore` into a running server.

mod before;
mod everybody;
mod session;
mod tell;

use super::archive;
use crate::args::Restore;
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble};
use crate::output;
use crate::server::{From, IMAP, Server};
use cylinder_core::archive::read::Reader;
use cylinder_core::cyrus::names::{Naming, Owner};
use cylinder_core::cyrus::utf7;
use cylinder_core::error::Error;
use cylinder_core::escape::shown;
use cylinder_core::imap::client::Client;
use cylinder_core::io::Io;
use cylinder_core::restore::absent::absent;
use cylinder_core::restore::select::{Kind, Selection, Wish};
use cylinder_core::restore::server::deliver::OverQuota;
use cylinder_core::restore::server::exact::{self, Wishes};
use cylinder_core::restore::server::mail::{Run, Target};
use cylinder_core::restore::server::names::{Names, stamp};
use cylinder_core::restore::server::report::Report;
use cylinder_core::restore::server::{flags, room, tree};
use cylinder_core::store::archive_dir;
use cylinder_core::time::{Civil, Span};
use cylinder_core::view::When;
use cylinder_transport_ssh::Ssh;
use session::Session;
use std::path::PathBuf;
use tell::Telling;

pub use everybody::run as everybody;

/// How mail comes back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum How {
    /// Into a tree of its own: its name, if it is not the time of the snapshot.
    Tree(Option<String>),
    /// Into the folders from which it comes.
    Merge,
    /// Flags alone.
    Flags,
    /// Mailboxes as they were, by the replication protocol.
    Exact {
        /// Replace what is there.
        replace: bool,
        /// Where mailboxes are made, if not where they were.
        partition: Option<String>,
    },
}

/// What is to be done.
pub struct Order {
    /// Whose mail.
    pub owner: Owner,
    /// Into whose mailboxes.
    pub target: Owner,
    /// The directory of the archives.
    pub store: PathBuf,
    /// As of when.
    pub when: When,
    /// Nobody has said as of when.
    pub is_newest: bool,
    /// The snapshot that `when` names, if that was settled before a backup.
    pub fixed: Option<u64>,
    /// What of it.
    pub wish: Wish,
    /// How.
    pub how: How,
    /// Where to.
    pub server: Server,
    /// What to do when there is no room.
    pub over_quota: OverQuota,
    /// A word that no other run has.
    pub id: String,
    /// How long a tree is meant to be there.
    pub expire: Option<Span>,
    /// Only say what would be done.
    pub rehearse: bool,
    /// Tell in JSON.
    pub json: bool,
    /// Tell only what failed.
    pub quiet: bool,
}

/// True if the options say: onto a running server.
pub fn is_meant(args: &Restore) -> bool {
    args.dir.is_none() && !args.zip && !args.tar && args.spool.is_none()
}

/// Puts what was wished for onto a running server.
pub fn run(args: &Restore, user: &str, wish: Wish, when: When) -> Outcome {
    let into = args.as_user.as_deref().unwrap_or(user);
    let mut order = order(args, user, wish, when, server(args, into)?)?;
    if args.cleanup {
        return order.clean_up();
    }
    order.check_target()?;
    if matches!(order.how, How::Exact { .. }) {
        if order.wish.is_filtered() {
            return Err(Trouble::Usage(String::from("--exact is of whole folders: it cannot leave out messages")));
        }
        order.wish.kind = Kind::Every;
    }
    let mut session = Session::open(&order.server, &order.store)?;
    order.make_ready(args, &mut session)?;
    let report = order.run(&mut session)?;
    order.telling().tell(&report)?;
    Ok(exit_of(&report))
}

/// What the options say, for one user.
fn order(args: &Restore, user: &str, wish: Wish, when: When, server: Server) -> Result<Order, Trouble> {
    Ok(Order {
        owner: host::owner(user),
        target: host::owner(args.as_user.as_deref().unwrap_or(user)),
        // What removes trees reads no archive.
        store: if args.cleanup { PathBuf::from(".") } else { host::store(&args.store)? },
        when,
        is_newest: args.at.is_none(),
        fixed: None,
        wish,
        how: how(args)?,
        server,
        over_quota: over_quota(args)?,
        id: host::chance()?.iter().map(|byte| format!("{byte:02x}")).collect(),
        expire: args.expire.as_ref().map(|text| span(text).ok_or_else(|| bad("--expire", text, "7d"))).transpose()?,
        rehearse: args.dry_run,
        json: args.json,
        quiet: args.quiet,
    })
}

fn exit_of(report: &Report) -> Exit {
    if report.is_clean() { Exit::Ok } else { Exit::Partial }
}

fn bad(option: &str, text: &str, expected: &str) -> Trouble {
    Trouble::Usage(format!("{option} {text}: expected {expected}"))
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
        (false, false, false, true) => Ok(How::Exact { replace: args.replace, partition: args.partition.clone() }),
        _ => Err(Trouble::Usage(String::from("one of --to-tree, --merge, --flags-only and --exact"))),
    }
}

fn over_quota(args: &Restore) -> Result<OverQuota, Trouble> {
    match args.over_quota.as_deref() {
        None | Some("stop") => Ok(OverQuota::Stop),
        Some("warn") => Ok(OverQuota::Warn),
        Some("lift") => Ok(OverQuota::Lift),
        Some(text) => Err(bad("--over-quota", text, "stop, warn or lift")),
    }
}

fn server(args: &Restore, user: &str) -> Result<Server, Trouble> {
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
        tls_ca: args.tls_ca.clone(),
        login: args.login.clone().unwrap_or_else(|| user.to_owned()),
        password,
    })
}

impl Order {
    /// Does it.
    pub fn run(&self, session: &mut Session) -> Result<Report, Error> {
        session.run(self.quiet || self.json, async |io, password| {
            let reader = archive::open(io, &self.owner, &archive_dir(&self.owner)?).await?;
            let report = self.restore(io, &reader, password).await;
            reader.close().await;
            report
        })
    }

    /// Removes trees whose time has come.
    pub fn clean_up(&self) -> Outcome {
        let report = Session::open(&self.server, &self.store)?.run(self.quiet || self.json, async |io, password| {
            let (mut client, names) = self.connect(io, password).await?;
            let report = tree::clean_up(&mut client, &names, io.now(), self.rehearse).await?;
            client.logout().await;
            Ok(report)
        })?;
        self.telling().tell(&report)?;
        Ok(exit_of(&report))
    }

    /// How a report of this is told.
    fn telling(&self) -> Telling<'_> {
        Telling { who: None, rehearse: self.rehearse, json: self.json, quiet: self.quiet, at: self.fixed }
    }

    /// A connection as the owner of the mail, or as an administrator for shared folders.
    async fn connect(&self, io: &Io, password: &[u8]) -> Result<(Client, Names), Error> {
        let act_as = match &self.target {
            Owner::User(userid) => Some(&userid[..]),
            Owner::Shared => None,
        };
        let mut client = self.server.imap(io, act_as, password).await?;
        // Asked first: whoever has no mailbox has no namespace either.
        if act_as.is_some() && client.list(b"INBOX").await?.is_empty() {
            client.logout().await;
            return Err(Error::Refused(self.no_such_user()));
        }
        let names = Names::new(Naming::default(), client.namespace().await?, &self.target);
        Ok((client, names))
    }

    /// That the user is not there, and what can be done about it.
    fn no_such_user(&self) -> String {
        let who = host::owner_shown(&self.target);
        let make = format!("create it (cyradm: createmailbox user/{who})");
        let other = "restore into somebody else's with --as USER, or bring the user back as it was with --exact";
        format!("{who} has no mailbox on this server: {make}, {other}")
    }

    /// Refused if mail cannot go to somebody else in this way.
    fn check_target(&self) -> Result<(), Trouble> {
        if self.owner == self.target {
            return Ok(());
        }
        if matches!((&self.owner, &self.target), (Owner::Shared, _) | (_, Owner::Shared)) {
            return Err(Trouble::Usage(String::from("--as is from one user to another: shared folders stay shared")));
        }
        match self.how {
            How::Tree(_) | How::Merge => Ok(()),
            How::Flags => {
                Err(Trouble::Usage(String::from("--as: another user's messages are others, and have flags of their own")))
            }
            How::Exact { .. } => {
                let how = "restore the user as it was, and rename it on the server afterwards (cyradm: renamemailbox user/OLD user/NEW)";
                Err(Trouble::Usage(format!("--as goes with --to-tree and --merge; with --exact, {how}")))
            }
        }
    }

    async fn restore(&self, io: &Io, reader: &Reader, password: &[u8]) -> Result<Report, Error> {
        let selection = Selection::open(reader, &self.owner, self.when, self.wish.clone()).await?;
        let taken = Civil::from_time(selection.at.commit.time);
        if !self.quiet {
            output::complain!("cylinder: snapshot {} of {taken}", selection.at.commit.number);
            super::restore::tell_entries(&selection);
        }
        let mut report = self.onto(io, &selection, password).await?;
        self.tell_same(&selection, &mut report);
        if report.ended_early.is_none() {
            report.miss(absent(&selection).await?);
        }
        Ok(report)
    }

    /// Puts the selection onto the server, in the way that was chosen.
    async fn onto(&self, io: &Io, selection: &Selection<'_>, password: &[u8]) -> Result<Report, Error> {
        if let How::Exact { replace, partition } = &self.how {
            let partition = partition.as_ref().map(|name| name.as_bytes().to_vec());
            let wishes = Wishes { partition, replace: *replace, rehearse: self.rehearse };
            let connect = async || self.server.replication(io, password).await;
            let report = exact::restore(io, selection, &wishes, connect).await;
            return report.map(|report| with_lacking(report, selection));
        }
        let (mut client, names) = self.connect(io, password).await?;
        let report = match &self.how {
            How::Flags => {
                let planned = flags::restore(io, selection, &mut client, &names, true).await?;
                if self.rehearse {
                    planned
                } else {
                    self.announce(&planned);
                    flags::restore(io, selection, &mut client, &names, false).await?
                }
            }
            _ if self.over_quota == OverQuota::Lift && !self.rehearse => {
                self.add_over_quota(io, selection, &mut client, &names, password).await?
            }
            _ => self.add(io, selection, &mut client, &names, password).await?,
        };
        client.logout().await;
        Ok(with_lacking(report, selection))
    }

    /// Adds with the limits lifted, which an administrator does on a connection of its own.
    async fn add_over_quota(
        &self,
        io: &Io,
        selection: &Selection<'_>,
        client: &mut Client,
        names: &Names,
        password: &[u8],
    ) -> Result<Report, Error> {
        let mut admin = self.server.imap(io, None, password).await?;
        let lifted = room::limits(&mut admin, &names.inbox_for_admin()?).await?;
        if !lifted.shown().is_empty() {
            output::complain!("cylinder: the quota {} is lifted, and put back at the end", lifted.shown());
        }
        room::lift(&mut admin, &lifted).await?;
        let report = self.add(io, selection, client, names, password).await;
        room::put_back(&mut admin, &lifted).await?;
        admin.logout().await;
        report
    }

    /// Says beforehand what will happen.
    fn announce(&self, planned: &Report) {
        if !self.quiet && !self.json {
            output::complain!("cylinder: {}", tell::sum(planned, true));
        }
    }

    async fn add(
        &self,
        io: &Io,
        selection: &Selection<'_>,
        client: &mut Client,
        names: &Names,
        password: &[u8],
    ) -> Result<Report, Error> {
        let (target, top) = match &self.how {
            How::Tree(name) if self.owner != Owner::Shared => {
                let default = stamp(selection.at.commit.time);
                let top = names.top(&utf7::encode(name.as_ref().unwrap_or(&default)));
                (Target::Tree(top.clone()), Some(top))
            }
            How::Tree(_) => {
                return Err(Error::Refused(String::from("shared folders have no user in whose mailbox a tree could be")));
            }
            _ => (Target::Original, None),
        };
        let mut run = Run::new(io, selection, client, names, target);
        run.over_quota = self.over_quota;
        run.stage(self.id.clone());
        if !self.rehearse {
            run.clear().await?;
        }
        if let (None, Owner::User(_)) = (&top, &self.owner) {
            run.look_elsewhere().await?;
        }
        let planned = run.plan().await?;
        if self.rehearse {
            return Ok(planned);
        }
        self.announce(&planned);
        let mut report = run.carry_out().await?;
        if run.has_staged() {
            self.sweep(io, names, password, &mut report).await;
        }
        if let (Some(top), Some(expire), None) = (top, self.expire, &report.ended_early) {
            tree::note(client, names, &top, io.now().plus(expire), &mut report).await?;
        }
        Ok(report)
    }

    /// Removes the mailboxes over which messages went where the server keeps deleted mailboxes for a while: only an
    /// administrator can do that. What does not work is no failure: they go when `cyr_expire` runs.
    async fn sweep(&self, io: &Io, names: &Names, password: &[u8], report: &mut Report) {
        let is_admin = matches!(&self.target, Owner::User(userid) if self.server.login.as_bytes() != userid);
        let Some(pattern) = names.all_deleted_staging().ok().filter(|_| is_admin) else { return };
        let Ok(mut admin) = self.server.imap(io, None, password).await else { return };
        for left in admin.list(&pattern).await.unwrap_or_default() {
            if let Ok(Err(refusal)) = admin.delete(&left.name).await {
                report.notes.push(format!("{}: stays until cyr_expire removes it: {refusal}", shown(&left.name)));
            }
        }
        admin.logout().await;
    }
}

/// Names what the snapshot is known to lack of what was asked for.
fn with_lacking(mut report: Report, selection: &Selection<'_>) -> Report {
    report.lack(selection.lacking());
    report
}

/// A hundred years, in seconds.
const SPAN_MAX: i64 = 100 * 365 * 86_400;

/// How long something is meant to be there: `7d`, `12h`, `2w`; at most a hundred years.
pub fn span(text: &str) -> Option<Span> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    let seconds = i64::from(number.parse::<u32>().ok()?) * unit;
    (seconds <= SPAN_MAX).then(|| Span::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_days_hours_or_weeks() {
        assert_eq!(span("7d"), Some(Span::from_secs(604_800)));
        assert_eq!([span("12h"), span("1w")], [Some(Span::from_secs(43_200)), span("7d")]);
        assert_eq!([span(""), span("7"), span("d"), span("-1d"), span("\u{e9}")], [None; 5]);
        assert_eq!(span("4294967295w"), None);
    }
}
