//! What came of a restore, in words or as JSON. Standard output is left alone where it takes the mail itself.

use crate::args::Restore;
use crate::output::{self, OutputError, count, size};
use cylinder_core::escape::shown;
use cylinder_core::restore::export::FolderPlan;
use cylinder_core::restore::report::{Note, Notes, Report};
use serde_json::{Value, json};

/// Tells all of it.
pub fn tell(args: &Restore, goal: &str, report: &Report) -> Result<(), OutputError> {
    let is_taken = args.zip || args.tar;
    let put = |text: String| {
        if is_taken {
            eprintln!("{text}");
            Ok(())
        } else {
            output::line(&text)
        }
    };
    if args.json {
        return put(to_json(goal, report).to_string());
    }
    notes(report);
    if args.quiet {
        return Ok(());
    }
    let Report { folders, messages, bytes, files, already, .. } = report;
    let mut text = format!("restored {} ({}) in {}", count(*messages, "message"), size(*bytes), count(*folders, "folder"));
    text += &format!(" and {} to {goal}", count(*files, "other file"));
    if *already > 0 {
        text += &format!("; {} there already", if *already == 1 { String::from("1 was") } else { format!("{already} were") });
    }
    put(text)
}

/// Tells what was left out and what failed, on standard error.
pub fn notes(report: &Report) {
    for (word, notes) in [("skipped", &report.skipped), ("FAILED", &report.failed)] {
        for Note { what, why, next } in &notes.kept {
            let next = if next.is_empty() { String::new() } else { format!("; {next}") };
            eprintln!("cylinder: {word} {what}: {why}{next}");
        }
        if notes.count > notes.kept.len() as u64 {
            eprintln!("cylinder: {word} {} more", notes.count - notes.kept.len() as u64);
        }
    }
}

/// The sum of a plan.
pub fn total(plans: &[FolderPlan]) -> String {
    let messages = plans.iter().map(|plan| plan.messages).sum();
    let bytes = plans.iter().fold(0, |sum: u64, plan| sum.saturating_add(plan.bytes));
    format!("{} ({}) in {}", count(messages, "message"), size(bytes), count(plans.len() as u64, "folder"))
}

fn to_json(goal: &str, report: &Report) -> Value {
    json!({
        "to": goal, "folders": report.folders, "messages": report.messages, "bytes": report.bytes, "files": report.files,
        "already": report.already, "skipped": list(&report.skipped), "skipped_count": report.skipped.count,
        "failed": list(&report.failed), "failed_count": report.failed.count,
    })
}

/// A plan as JSON.
pub fn plan_json(plans: &[FolderPlan], goal: &str, report: &Report) -> Value {
    let folder = |plan: &FolderPlan| json!({ "folder": shown(&plan.name), "path": plan.path, "messages": plan.messages, "bytes": plan.bytes });
    json!({
        "to": goal, "dry_run": true, "folders": plans.iter().map(folder).collect::<Vec<_>>(),
        "skipped": list(&report.skipped), "skipped_count": report.skipped.count,
        "failed": list(&report.failed), "failed_count": report.failed.count,
    })
}

fn list(notes: &Notes) -> Vec<Value> {
    notes.kept.iter().map(|note| json!({ "what": note.what, "why": note.why, "next": note.next })).collect()
}
