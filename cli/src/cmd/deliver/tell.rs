//! What came of a restore into a running server, in words or as JSON.
//!
//! What must not come in: doing anything.

use crate::host::Trouble;
use crate::output::{self, count, size};
use cylinder_core::restore::server::report::{Failure, FolderReport, Report};
use serde_json::json;

/// How a report is told.
#[derive(Clone, Copy)]
pub struct Telling<'a> {
    /// Whose mail it is, where several users come one after the other.
    pub who: Option<&'a str>,
    /// Nothing was done.
    pub rehearse: bool,
    /// In JSON.
    pub json: bool,
    /// Only what failed.
    pub quiet: bool,
    /// The snapshot that must be named when the restore is run again.
    pub at: Option<u64>,
}

impl Telling<'_> {
    /// Tells all of it.
    pub fn tell(&self, report: &Report) -> Result<(), Trouble> {
        for note in &report.notes {
            output::complain!("cylinder: {note}");
        }
        if self.json {
            let mut told = in_json(report, self.rehearse);
            if let (Some(who), Some(map)) = (self.who, told.as_object_mut()) {
                map.insert(String::from("user"), json!(who));
            }
            return Ok(output::json(&told)?);
        }
        let folders = report.folders.iter().filter(|folder| !self.quiet || folder.failed > 0);
        for folder in folders {
            output::line(&line(folder, self.rehearse))?;
            for failure in &folder.failures {
                output::line(&format!("  {}: {}", failure.what, failure.why))?;
            }
            if folder.failed > folder.failures.len() as u64 {
                output::line(&format!("  and {} more", folder.failed - folder.failures.len() as u64))?;
            }
        }
        for failure in &report.failures {
            output::line(&format!("{}: {}", failure.what, failure.why))?;
        }
        let who = self.who.map_or_else(String::new, |who| format!("{who}: "));
        if let Some(why) = &report.ended_early {
            let at = self.at.map_or_else(String::new, |number| format!(" with --at {number}"));
            output::line(&format!("{who}ended early: {why}; run it again{at}, and it goes on"))?;
        }
        if !self.quiet {
            output::line(&format!("{who}{}", sum(report, self.rehearse)))?;
        }
        Ok(())
    }
}

fn line(folder: &FolderReport, rehearse: bool) -> String {
    let mut parts = Vec::new();
    let mut part = |n: u64, what: &str| {
        if n > 0 {
            parts.push(format!("{n} {what}"));
        }
    };
    part(folder.added, if rehearse { "to be added" } else { "added" });
    part(folder.changed, if rehearse { "to be changed" } else { "changed" });
    part(folder.present, "there already");
    part(folder.elsewhere, "elsewhere");
    part(folder.gone, "not there any more");
    part(folder.failed, "failed");
    if let Some(why) = &folder.skipped {
        parts.push(format!("left as it is: {why}"));
    }
    if parts.is_empty() {
        parts.push(String::from("nothing to do"));
    }
    let made = if folder.is_created { " (new)" } else { "" };
    let target = if folder.target.is_empty() { &folder.name } else { &folder.target };
    format!("{target}{made}: {}", parts.join(", "))
}

/// What came of it, in one line.
pub fn sum(report: &Report, rehearse: bool) -> String {
    let verb = if rehearse { "to be restored" } else { "restored" };
    let (added, bytes) = (report.sum(|f| f.added), report.sum(|f| f.bytes));
    let mut text = format!("{verb}: {} ({})", count(added, "message"), size(bytes));
    let changed = report.sum(|f| f.changed);
    if changed > 0 {
        text += &format!(", {changed} changed");
    }
    let (created, failed) = (report.sum(|f| f.is_created.into()), report.sum(|f| f.failed) + report.failures.len() as u64);
    text += &format!(" in {}, {created} of them new", count(report.folders.len() as u64, "folder"));
    for (what, n) in &report.others {
        text += &format!(", {n} {what}");
    }
    if failed > 0 {
        text += &format!("; {failed} failed");
    }
    text
}

fn in_json(report: &Report, rehearse: bool) -> serde_json::Value {
    let failures = |failures: &[Failure]| {
        failures.iter().map(|failure| json!({ "what": failure.what, "why": failure.why })).collect::<Vec<_>>()
    };
    let folder = |folder: &FolderReport| {
        json!({
            "folder": folder.name, "target": folder.target, "created": folder.is_created, "added": folder.added,
            "bytes": folder.bytes, "present": folder.present, "elsewhere": folder.elsewhere, "gone": folder.gone, "changed": folder.changed,
            "skipped": folder.skipped, "failed": folder.failed, "failures": failures(&folder.failures),
        })
    };
    json!({
        "plan": rehearse, "tree": report.tree, "folders": report.folders.iter().map(folder).collect::<Vec<_>>(),
        "others": report.others.iter().map(|(what, n)| json!({ "what": what, "count": n })).collect::<Vec<_>>(),
        "failures": failures(&report.failures), "notes": report.notes, "ended_early": report.ended_early,
        "clean": report.is_clean(),
    })
}
