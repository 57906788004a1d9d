//! Rules of this project's source text that no compiler and no formatter checks, as tests.
//!
//! Each rule is a function from a file to what is wrong in it, and each is shown to find what it forbids.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest line. `cargo fmt` keeps code to it, but neither comments nor strings.
const WIDTH_MAX: usize = 128;
/// The longest line that has a string in it.
const STRING_WIDTH_MAX: usize = 160;
/// The longest function.
const FUNCTION_MAX: usize = 70;
/// Functions that are longer, and why.
const LONG_FUNCTIONS: &[&str] = &[
    // A match over all operations.
    "perform",
];

/// A text file of this project.
struct Source {
    /// Below the project's directory.
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn at(&self, line: usize, what: &str) -> String {
        format!("{}:{}: {what}", self.path, line + 1)
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// All text files but data, built files and locks.
fn sources() -> Vec<Source> {
    let (root, mut dirs, mut all) = (project(), vec![project()], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("a directory entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            if path.is_symlink() || matches!(&name[..], "target" | ".git" | "data" | "corpus" | "Cargo.lock") {
                continue;
            }
            if path.is_dir() {
                dirs.push(path);
            } else if let Ok(text) = fs::read_to_string(&path) {
                let path = path.strip_prefix(&root).expect("below").to_string_lossy().into_owned();
                all.push(Source { path, text });
            }
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    all
}

/// The first thing in a file of Rust is what it is for.
fn undocumented(source: &Source) -> Vec<String> {
    let bad = source.is_rust() && !source.text.starts_with("//! ");
    bad.then(|| source.at(0, "does not begin with `//! ` and what the module is for")).into_iter().collect()
}

/// Sources are ASCII: what looks like a letter is that letter. Test data stand as escapes.
fn not_ascii(source: &Source) -> Vec<String> {
    let is_code = !source.path.ends_with(".md") && !source.path.ends_with(".snap");
    let bad = source.text.lines().enumerate().filter(|(_, line)| is_code && !line.is_ascii());
    bad.map(|(n, line)| source.at(n, &format!("not ASCII: {}", line.trim()))).collect()
}

/// Lines fit. A string may make a line longer, up to a limit of its own: a message that is broken in two is found by nobody.
fn wide(source: &Source) -> Vec<String> {
    let limit =
        |line: &str| if line.contains('"') && !line.trim_start().starts_with("//") { STRING_WIDTH_MAX } else { WIDTH_MAX };
    let bad = source.text.lines().enumerate().filter(|(_, line)| source.is_rust() && line.chars().count() > limit(line));
    bad.map(|(n, line)| source.at(n, &format!("{} characters in a line", line.chars().count()))).collect()
}

/// Nothing is left to do, and nothing points to the machine that it was written on.
fn forbidden_words(source: &Source) -> Vec<String> {
    // In pieces, or this file would be the first to break the rule.
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("todo", "!("),
        concat!("unimplemented", "!("),
        concat!("../", "shared"),
        concat!("/wo", "rk/"),
        concat!("crates", ".io"),
        concat!("debian", ".org"),
    ];
    let found = |(n, line): (usize, &str)| -> Vec<String> {
        words.iter().filter(|word| line.contains(**word)).map(|word| source.at(n, &format!("`{word}`"))).collect()
    };
    source.text.lines().enumerate().flat_map(found).collect()
}

/// Functions can be read at once. Relies on the form that `cargo fmt` gives them.
fn long_functions(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let mut bad = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line).filter(|_| source.is_rust()) else { continue };
        let indent = &line[..line.len() - line.trim_start().len()];
        let rest = lines[n..].iter();
        let len = if line.ends_with('}') { 1 } else { rest.take_while(|l| **l != format!("{indent}}}")).count() + 1 };
        // A function without a body, in a trait, ends before anything else does.
        let has_body = lines[n..].iter().find(|l| l.ends_with('{') || l.ends_with(';')).is_some_and(|l| l.ends_with('{'));
        if has_body && len > FUNCTION_MAX && !LONG_FUNCTIONS.contains(&name) {
            bad.push(source.at(n, &format!("fn {name} has {len} lines")));
        }
    }
    bad
}

/// The name of the function that begins in this line.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let words = ["pub", "pub(super)", "pub(crate)", "async", "const", "unsafe", "extern", "\"C\""];
    if !before.split_whitespace().all(|word| words.contains(&word)) {
        return None;
    }
    after.split(['(', '<']).next()
}

/// Everything that the rule finds.
fn check(rule: fn(&Source) -> Vec<String>) {
    let sources = sources();
    let rust = sources.iter().filter(|s| s.is_rust()).count();
    assert!(rust > 50 && sources.len() > rust, "{} files of {} are Rust: are these all?", rust, sources.len());
    let found: Vec<String> = sources.iter().flat_map(rule).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_module_says_what_it_is_for() {
    check(undocumented);
}

#[test]
fn sources_are_ascii() {
    check(not_ascii);
}

#[test]
fn lines_fit() {
    check(wide);
}

#[test]
fn nothing_is_left_to_do_and_nothing_points_to_a_machine() {
    check(forbidden_words);
}

#[test]
fn functions_can_be_read_at_once() {
    check(long_functions);
}

/// A snapshot that no test compares any more would stay for ever and say nothing.
#[test]
fn every_snapshot_belongs_to_a_test() {
    let tests: String = sources().into_iter().filter(|s| s.is_rust()).map(|s| s.text).collect();
    let mut count = 0;
    for entry in fs::read_dir(project().join("snapshots")).expect("snapshots/") {
        let name = entry.expect("a directory entry").file_name().into_string().expect("text");
        let plain = name.strip_suffix(".snap").unwrap_or_else(|| panic!("snapshots/{name} is no snapshot"));
        assert!(tests.contains(&format!("\"{plain}\"")), "no test has the snapshot {name}");
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn every_fault_of_the_list_can_be_put_in() {
    let checked = Command::new("tests/mutants/run").arg("--check").current_dir(project()).output().expect("python3");
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success() && told.contains(" 0 of them cannot be put in"), "{told}");
}

#[test]
fn the_rules_find_what_they_forbid() {
    let source = |text: &str| Source { path: String::from("x.rs"), text: text.to_owned() };
    let body = "    let x = 1;\n".repeat(FUNCTION_MAX);
    let long = format!("//! x\nimpl X {{\n    pub async fn long(&self) {{\n{body}    }}\n\n    fn short() {{}}\n}}\n");
    let found = [
        undocumented(&source("use x;\n")),
        not_ascii(&source("// caf\u{e9}\n")),
        wide(&source(&format!("// {}\n", "x".repeat(WIDTH_MAX)))),
        forbidden_words(&source(concat!("// TO", "DO\n"))),
        long_functions(&source(&long)),
    ];
    assert_eq!(found.each_ref().map(Vec::len), [1; 5], "{found:#?}");
    assert_eq!(found[4], ["x.rs:3: fn long has 72 lines"]);
    let good = source("//! Something.\n\n/// Says so.\nfn short() {\n    let x = 1;\n}\n");
    for rule in [undocumented, not_ascii, wide, forbidden_words, long_functions] {
        assert!(rule(&good).is_empty());
    }
}
