//! What holds of an archive from commit to commit: its source, alarms, and that its user is gone.
//!
//! Each commit repeats it, so that the newest one is enough (FORMAT.md, section 4.1). Pure: a run says what it has seen,
//! somebody acknowledges, and this says what holds from then on.
//!
//! | an alarm of this cause | is raised when | and is held |
//! |---|---|---|
//! | [`Cause::MassLoss`] | fewer than half of the messages of the last snapshot are there | until it is acknowledged |
//! | [`Cause::Vanished`] | the server has no folder of the user, or only deleted ones | until it is acknowledged |
//! | [`Cause::Unclaimed`] | mending took messages over that no folder of the server has | until it is acknowledged |
//! | [`Cause::OtherSource`] | a run comes from another source | until it is acknowledged, or that source adopts the archive |
//!
//! No alarm ends by itself, not even if the mail is there again: somebody should know that it was not. An acknowledged alarm is
//! not raised again for the same cause: the messages that were left are what the next run compares with, the user stays
//! [`Standing::gone`] until a run sees a folder, and the other source stays in [`Standing::strangers`] until it adopts the
//! archive.
//!
//! What must not come in: looking at a server, and words for people.

use crate::time::Time;
use alloc::string::String;
use alloc::vec::Vec;

/// The most alarms that stand at a time, and the most strangers. Further ones are told by the run that would raise them, each
/// time.
pub const STANDING_MAX: usize = 8;
/// The longest source that stands as an alarm or as a stranger, in bytes. A run from one with a longer name tells it each time.
pub const SOURCE_MAX: usize = 1024;

/// Sources that are no server: commits of theirs do not say whose archive it is.
const NO_SERVER: [&str; 3] = ["", "mended", "repair"];
/// What the sources of imported commits begin with.
const IMPORT: &str = "import:";

/// Why somebody should look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cause {
    /// More than half of the messages are gone.
    MassLoss,
    /// The server has no folder of the user that is not deleted.
    Vanished,
    /// Messages of a run that did not end are in no folder of the server.
    Unclaimed,
    /// This source, which is not the archive's, has a user of this name.
    OtherSource(String),
}

/// Something that a person should look at before anything is dropped from the archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alarm {
    /// Why.
    pub cause: Cause,
    /// When it was raised. Zero in archives of earlier versions, which did not write it.
    pub since: Time,
    /// Messages before.
    pub before: u64,
    /// Messages that were left.
    pub after: u64,
}

impl Alarm {
    fn is_short(&self) -> bool {
        !matches!(&self.cause, Cause::OtherSource(source) if source.len() > SOURCE_MAX)
    }
}

/// What holds of an archive.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Standing {
    /// The source of which this is the archive. `None` until a server has been backed up into it.
    pub home: Option<String>,
    /// The userid that the user had before the last rename.
    pub formerly: Option<String>,
    /// What nobody has acknowledged yet, each cause once, in order of coming. At most [`STANDING_MAX`].
    pub alarms: Vec<Alarm>,
    /// Since when the server has no folder of the user. `None`: it has.
    pub gone: Option<Time>,
    /// Other sources that have a user of this name, which somebody has acknowledged. At most [`STANDING_MAX`].
    pub strangers: Vec<String>,
}

impl Standing {
    /// Raises an alarm. One of the same cause that stands is widened: it keeps its time and the larger number of messages
    /// before.
    pub fn raise(&mut self, alarm: Alarm) {
        if let Some(standing) = self.alarms.iter_mut().find(|standing| standing.cause == alarm.cause) {
            standing.before = standing.before.max(alarm.before);
            standing.after = alarm.after;
        } else if self.alarms.len() < STANDING_MAX && alarm.is_short() {
            self.alarms.push(alarm);
        }
    }

    /// Somebody has looked at all alarms.
    pub fn acknowledge(&mut self) {
        for alarm in core::mem::take(&mut self.alarms) {
            if let Cause::OtherSource(source) = alarm.cause
                && !self.strangers.contains(&source)
                && self.strangers.len() < STANDING_MAX
            {
                self.strangers.push(source);
            }
        }
    }

    /// A snapshot of this source was made: if it is a server, the archive is its own from now on.
    pub fn settle(&mut self, source: &str) {
        if is_server(source) {
            self.home = Some(String::from(source));
            self.strangers.retain(|stranger| stranger != source);
            self.alarms.retain(|alarm| !matches!(&alarm.cause, Cause::OtherSource(other) if other == source));
        }
    }

    /// The archive's source, if this is a server and another one.
    pub fn other_home(&self, source: &str) -> Option<&str> {
        self.home.as_deref().filter(|home| is_server(source) && *home != source)
    }
}

/// True if a commit with this source is of a server.
pub fn is_server(source: &str) -> bool {
    !NO_SERVER.contains(&source) && !source.starts_with(IMPORT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn alarm(cause: Cause, secs: i64, before: u64, after: u64) -> Alarm {
        Alarm { cause, since: Time::from_secs(secs), before, after }
    }

    #[test]
    fn an_alarm_that_stands_is_widened_and_stays_one() {
        let mut standing = Standing::default();
        standing.raise(alarm(Cause::MassLoss, 1, 421, 25));
        standing.raise(alarm(Cause::Vanished, 2, 25, 0));
        standing.raise(alarm(Cause::MassLoss, 3, 25, 3));
        assert_eq!(standing.alarms, [alarm(Cause::MassLoss, 1, 421, 3), alarm(Cause::Vanished, 2, 25, 0)]);
        standing.gone = Some(Time::from_secs(2));
        standing.acknowledge();
        assert_eq!((standing.alarms, standing.gone), (vec![], Some(Time::from_secs(2))));
    }

    #[test]
    fn a_stranger_who_is_acknowledged_stays_one_until_it_adopts_the_archive() {
        let mut standing = Standing::default();
        standing.settle("ssh://imap1");
        assert_eq!((standing.other_home("ssh://imap1"), standing.other_home("ssh://imap2")), (None, Some("ssh://imap1")));
        standing.raise(alarm(Cause::OtherSource("ssh://imap2".to_string()), 1, 9, 9));
        standing.acknowledge();
        assert_eq!(standing.strangers, ["ssh://imap2"]);
        standing.raise(alarm(Cause::OtherSource("ssh://imap3".to_string()), 1, 9, 9));
        standing.settle("ssh://imap2");
        assert_eq!((standing.home.as_deref(), standing.strangers.len(), standing.alarms.len()), (Some("ssh://imap2"), 0, 1));
        for no_server in ["", "mended", "repair", "import:backupdata.tar.gz"] {
            standing.settle(no_server);
            assert_eq!((standing.home.as_deref(), standing.other_home(no_server)), (Some("ssh://imap2"), None));
        }
    }

    #[test]
    fn what_stands_has_a_limit() {
        let mut standing = Standing::default();
        for n in 0..100 {
            standing.raise(alarm(Cause::OtherSource(n.to_string()), n, 1, 1));
        }
        assert_eq!(standing.alarms.len(), STANDING_MAX);
        standing.acknowledge();
        standing.raise(alarm(Cause::OtherSource("x".to_string()), 1, 1, 1));
        standing.acknowledge();
        assert_eq!((standing.alarms.len(), standing.strangers.len()), (0, STANDING_MAX));
    }
}
