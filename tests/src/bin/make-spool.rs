//! Writes a spool for benchmarks: `make-spool ROOT USER FOLDERS MESSAGES MIN-BYTES MAX-BYTES words|letters SEED`.

use cylinder_tests::spool::{Plan, Text};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let Some((root, plan)) = plan(&words) else {
        eprintln!("usage: make-spool ROOT USER FOLDERS MESSAGES MIN-BYTES MAX-BYTES words|letters SEED");
        return ExitCode::from(2);
    };
    match plan.write(Path::new(root)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("make-spool: {root}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn plan(words: &[String]) -> Option<(&str, Plan)> {
    let [_, root, user, folders, messages, min, max, text, seed] = words else { return None };
    let text = match text.as_str() {
        "words" => Text::Words,
        "letters" => Text::Letters,
        _ => return None,
    };
    let size = min.parse().ok()?..=max.parse().ok()?;
    let (folders, messages, seed) = (folders.parse().ok()?, messages.parse().ok()?, seed.parse().ok()?);
    (!size.is_empty()).then(|| (root.as_str(), Plan { user: user.clone(), folders, messages, size, text, seed }))
}
