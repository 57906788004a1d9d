//! What came of a restore, in words or as JSON. Standard output is left alone where it takes the mail itself.

use crate::args::Restore;
use crate::exit::Exit;
use crate::host::Outcome;
use crate::output::{self, OutputError, count, size};
use cylinder_core::escape::shown;
use cylinder_core::restore::export::FolderPlan;
use cylinder_core::restore::report::{Note, Notes, Report};
use serde_json::{Value, json};

/// Tells all of it; `commands` are left to be run.
pub fn tell(args: &Restore, goal: &str, report: &Report, commands: &[String]) -> Result<(), OutputError> {
    let is_taken = args.zip || args.tar;
    let put = |text: String| {
        if is_taken {
            output::complain!("{text}");
            Ok(())
        } else {
            output::line(&text)
        }
    };
    if args.json {
        return put(to_json(goal, report, commands).to_string());
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
    put(text)?;
    commands.iter().try_for_each(|command| put(command.clone()))
}

/// Tells what was left out and what failed, on standard error.
fn notes(report: &Report) {
    for (word, notes) in [("skipped", &report.skipped), ("FAILED", &report.failed)] {
        for Note { what, why, next } in &notes.kept {
            let next = if next.is_empty() { String::new() } else { format!("; {next}") };
            output::complain!("cylinder: {word} {what}: {why}{next}");
        }
        if notes.count > notes.kept.len() as u64 {
            output::complain!("cylinder: {word} {} more", notes.count - notes.kept.len() as u64);
        }
    }
}

/// Tells what would be done.
pub fn plan(args: &Restore, plans: &[FolderPlan], goal: &str, report: &Report) -> Outcome {
    if args.json {
        output::json(&plan_json(plans, goal, report))?;
    } else {
        for FolderPlan { name, path, messages, bytes } in plans {
            let (messages, bytes) = (count(*messages, "message"), size(*bytes));
            output::line(&format!("{} -> {path}: {messages}, {bytes}", shown(name)))?;
        }
        output::line(&format!("would restore {} to {goal}", total(plans)))?;
        notes(report);
    }
    Ok(if report.is_clean() { Exit::Ok } else { Exit::Partial })
}

/// The sum of a plan.
fn total(plans: &[FolderPlan]) -> String {
    let messages = plans.iter().map(|plan| plan.messages).sum();
    let bytes = plans.iter().fold(0, |sum: u64, plan| sum.saturating_add(plan.bytes));
    format!("{} ({}) in {}", count(messages, "message"), size(bytes), count(plans.len() as u64, "folder"))
}

fn to_json(goal: &str, report: &Report, commands: &[String]) -> Value {
    json!({
        "to": goal, "folders": report.folders, "messages": report.messages, "bytes": report.bytes, "files": report.files,
        "already": report.already, "skipped": list(&report.skipped), "skipped_count": report.skipped.count,
        "failed": list(&report.failed), "failed_count": report.failed.count, "commands": commands,
    })
}

fn plan_json(plans: &[FolderPlan], goal: &str, report: &Report) -> Value {
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
