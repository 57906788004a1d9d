//! What comes before `--replace`: the snapshot is settled, and what is there is backed up.
//!
//! What must not come in: replacing it.

use super::session::Session;
use super::{How, Order};
use crate::args::{Backup, Restore};
use crate::cmd::{archive, backup};
use crate::host::{Trouble, owner_shown};
use crate::output;
use argh::FromArgs;
use cylinder_core::archive::read::{CommitAt, Reader};
use cylinder_core::archive::standing::Cause;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::restore::select::Selection;
use cylinder_core::restore::server::report::Report;
use cylinder_core::store::archive_dir;
use cylinder_core::time::{Civil, Time};
use cylinder_core::view::{self, When};

impl Order {
    /// Settles which snapshot is meant before the backup that makes another one, and makes that backup, if something is going
    /// to be replaced.
    pub(super) fn make_ready(&mut self, args: &Restore, session: &mut Session) -> Result<(), Trouble> {
        if !matches!(self.how, How::Exact { replace: true, .. }) {
            return Ok(());
        }
        let (owner, when) = (&self.owner, self.when);
        let number = session.run(true, async |io, _| {
            let reader = archive::open(io, owner, &archive_dir(owner)?).await?;
            let found = settled(&reader, when).await;
            reader.close().await;
            found
        })?;
        if args.no_backup || self.rehearse {
            return Ok(());
        }
        (self.when, self.fixed) = (When::Number(number), Some(number));
        self.back_up(args, number)
    }

    /// Backs up what is going to be replaced. That mail was lost, which is an alarm, is why it is restored.
    fn back_up(&self, args: &Restore, number: u64) -> Result<(), Trouble> {
        let store = self.store.display().to_string();
        let mut words = vec!["--store", &store, "--quiet", "--no-compact"];
        let user = match &self.owner {
            Owner::User(userid) => std::str::from_utf8(userid).map_err(|_| {
                Error::Refused(String::from(
                    "its userid is no UTF-8, so `cylinder backup` cannot be told it; --no-backup does without",
                ))
            })?,
            Owner::Shared => "%shared",
        };
        let options =
            [("--from", &args.from), ("--imapd-conf", &args.imapd_conf), ("--root", &args.root), ("--ssh", &args.ssh)];
        for (name, value) in options {
            if let Some(value) = value {
                words.extend([name, value]);
            }
        }
        words.extend(["--", user]);
        let order = Backup::from_args(&["cylinder", "backup"], &words).map_err(|early| Trouble::Usage(early.output))?;
        let saved = backup::save(&order)?;
        if !saved.is_whole {
            let why = "what is there could not be backed up as a whole, so it is not replaced; --no-backup does without";
            return Err(Error::Refused(String::from(why)).into());
        }
        let what = match saved.snapshot {
            Some(made) => format!("what is there is saved as snapshot {made}"),
            None => String::from("what is there is in the archive already"),
        };
        let alarm = if saved.is_alarming { "; the alarm does not stop the restore" } else { "" };
        if !self.quiet || saved.is_alarming {
            let who = owner_shown(&self.owner);
            output::complain!("cylinder: {who}: {what}{alarm}. If the restore is cut, run it again with --at {number}");
        }
        Ok(())
    }

    /// Says how an older snapshot is had if all is as it was and nobody has said which snapshot is meant.
    pub(super) fn tell_same(&self, selection: &Selection<'_>, report: &mut Report) {
        let is_replacing = matches!(self.how, How::Exact { replace: true, .. });
        if self.is_newest && is_replacing && report.is_clean() && report.sum(|folder| folder.added) == 0 {
            let number = selection.at.commit.number;
            report.notes.push(format!(
                "all is as snapshot {number} has it, so nothing was replaced; --at takes an older one (`cylinder log` lists them)"
            ));
        }
    }
}

/// The number of the snapshot that is meant. If mail was lost before the newest was made, it must be named.
async fn settled(reader: &Reader, when: When) -> Result<u64, Error> {
    let at = view::snapshot(reader, when).await?;
    let number = at.commit.number;
    if matches!(when, When::Number(_)) {
        return Ok(number);
    }
    let alarms = &reader.head().commit.standing.alarms;
    let lost = alarms.iter().find(|alarm| alarm.cause == Cause::MassLoss && alarm.since != Time::ZERO);
    let Some(alarm) = lost.filter(|alarm| alarm.since <= at.commit.time) else { return Ok(number) };
    let snapshots = view::snapshots(reader).await?;
    let before = snapshots.iter().find(|at| at.commit.time < alarm.since);
    let of = |at: &CommitAt| format!("snapshot {} of {}", at.commit.number, Civil::from_time(at.commit.time));
    let older = before.map_or_else(
        || String::from("no snapshot of before is left"),
        |at| format!("say --at {} for what was there before ({})", at.commit.number, of(at)),
    );
    Err(Error::Refused(format!(
        "{} of {} messages were left when snapshot {number} was made: {older}, or --at {number} if that one is \
         meant. `cylinder acknowledge` ends the alarm",
        alarm.after, alarm.before
    )))
}
