//! Alarms in words, and for programs.
//!
//! What must not come in: deciding what is alarming (`cylinder_core::archive::standing`).

use crate::output::{self, count};
use cylinder_core::archive::standing::{Alarm, Cause};
use cylinder_core::backup::report::Report;
use cylinder_core::escape::Shown;
use cylinder_core::time::Time;
use serde_json::Value;

/// The alarms that stand, and those that this run raised and could not write down.
pub fn told(report: &Report) -> impl Iterator<Item = &Alarm> {
    let stands = |alarm: &&Alarm| report.alarms.iter().any(|standing| standing.cause == alarm.cause);
    report.alarms.iter().chain(report.raised.iter().filter(move |alarm| !stands(alarm)))
}

/// Says what is alarming and what to do. One of an earlier run says since when it stands.
pub fn text(who: &str, alarm: &Alarm, report: &Report) -> String {
    let is_new = report.raised.iter().any(|raised| raised.cause == alarm.cause && raised.since == alarm.since);
    let since =
        if is_new || alarm.since == Time::ZERO { String::new() } else { format!(" (since {})", output::time(alarm.since)) };
    let before = count(alarm.before, "message");
    let what = match &alarm.cause {
        Cause::Vanished if report.gone.is_none() => format!("the server had no mailbox of this user; it has one again{since}"),
        Cause::Vanished => format!(
            "the server no longer has a mailbox of this user, or only deleted ones{since}; the archive keeps {before}. If the user \
             should be there, check that the server's disk is mounted"
        ),
        Cause::MassLoss => {
            format!("{} of {before} were left{since}; what is there was saved, and the archive keeps the rest", alarm.after)
        }
        Cause::Unclaimed => format!(
            "{} of a run that was killed are in no folder of the server{since}; `cylinder restore --recovered` gives them",
            count(alarm.before.saturating_sub(alarm.after), "message")
        ),
        Cause::OtherSource(source) => {
            let source = Shown(source.as_bytes());
            return format!(
                "{source} has a user of this name, too{since}, and nothing was saved from it. If the user has moved there: `cylinder backup \
                 --adopt` from it. If it is another user: give that source a store of its own. `cylinder acknowledge {who}` leaves it as it is"
            );
        }
    };
    format!("{what}. Nothing is dropped until `cylinder acknowledge {who}`")
}

/// An alarm as a program reads it.
pub fn json(alarm: &Alarm) -> Value {
    let (cause, source) = match &alarm.cause {
        Cause::MassLoss => ("mass-loss", None),
        Cause::Vanished => ("vanished", None),
        Cause::Unclaimed => ("unclaimed", None),
        Cause::OtherSource(source) => ("other-source", Some(source)),
    };
    let since = (alarm.since != Time::ZERO).then(|| output::rfc3339(alarm.since));
    serde_json::json!({ "cause": cause, "since": since, "before": alarm.before, "after": alarm.after, "source": source })
}

/// An alarm in a few words.
pub fn short(alarm: &Alarm) -> String {
    match &alarm.cause {
        Cause::MassLoss => format!("{} of {} messages were left", alarm.after, alarm.before),
        Cause::Vanished => format!("the server had no mailbox of this user; {} before", count(alarm.before, "message")),
        Cause::Unclaimed => {
            format!("{} are in no folder of the server", count(alarm.before.saturating_sub(alarm.after), "message"))
        }
        Cause::OtherSource(source) => format!("{} has a user of this name, too", Shown(source.as_bytes())),
    }
}
