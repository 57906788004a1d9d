//! What a command does whose standard output or standard error cannot be written to: full, closed, or read by nobody.
//!
//! A message that is lost never ends a command, and changes no exit code.

use cylinder_tests::proof::{Store, binary, err, out, run, run_for, tool};
use std::fs::File;
use std::process::{Command, Output, Stdio};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/sample");

/// A command, and its exit code. All of them write something to standard error.
const COMPLAINING: [(&[&str], i32); 21] = [
    (&["acknowledge", "nobody"], 1),
    (&["backup", "anna", "bob.smith", "nobody", "--offline", "--root", SAMPLE], 3),
    (&["compact", "nobody"], 1),
    (&["diff", "anna", "1", "99"], 1),
    (&["erase", "anna", "--guid", "0000000000000000000000000000000000000000"], 3),
    (&["extract", "nobody", "/nonexistent/x"], 1),
    (&["find", "anna", "nobody", "--subject", "x"], 3),
    (&["frobnicate"], 2),
    (&["heal", "nobody", "--offline", "--root", SAMPLE], 1),
    (&["hold", "nobody"], 1),
    (&["import", "/nonexistent/anna/x.tar"], 1),
    (&["inspect", "/nonexistent/x"], 1),
    (&["list", "anna", "INBOX.No"], 1),
    (&["log", "nobody"], 1),
    (&["repair", "nobody"], 1),
    (&["replay", "/nonexistent/x"], 2),
    (&["restore", "anna", "--all", "--tar"], 0),
    (&["serve", "--root", "/nonexistent"], 1),
    (&["show", "anna", "INBOX/999"], 1),
    (&["users", "--root", "/nonexistent"], 1),
    (&["verify", "anna", "nobody"], 3),
];

/// How a standard stream cannot be written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Full,
    Broken,
    Closed,
}

impl Fault {
    const ALL: [Fault; 3] = [Fault::Full, Fault::Broken, Fault::Closed];

    /// Something that a command can have as a stream; closed ones are made by [`closing`].
    fn stdio(self) -> Stdio {
        match self {
            Fault::Full => File::options().write(true).open("/dev/full").expect("/dev/full").into(),
            Fault::Broken => std::io::pipe().expect("a pipe").1.into(),
            Fault::Closed => Stdio::null(),
        }
    }
}

/// The same command, started by a shell that closes the streams as `how` says, such as `2>&-`.
fn closing(command: &Command, how: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("exec \"$0\" \"$@\" {how}")).arg(command.get_program()).args(command.get_args());
    shell.env_remove("CYLINDER_STORE");
    shell
}

/// `cylinder WORDS` on a store, if it has one.
fn command(store: &Store, words: &[&str]) -> Command {
    let has_store = !matches!(words[0], "frobnicate" | "inspect" | "replay" | "serve" | "users");
    if has_store { store.command(words) } else { plain(words) }
}

fn plain(words: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(words).stdin(Stdio::null());
    command
}

/// A store in which the first two users of the sample are.
fn filled() -> Store {
    let store = Store::new();
    run_for(&mut store.command(&["backup", "anna", "bob.smith", "--offline", "--root", SAMPLE]), 0);
    store
}

fn with_stderr(command: &mut Command, fault: Fault) -> Output {
    match fault {
        Fault::Closed => run(&mut closing(command, "2>&-")),
        other => run(command.stderr(other.stdio())),
    }
}

#[test]
fn a_lost_message_changes_no_exit_code() {
    let store = filled();
    for (words, code) in COMPLAINING {
        let plainly = run_for(&mut command(&store, words), code);
        assert!(!plainly.stderr.is_empty(), "{words:?} writes nothing to standard error");
        for fault in Fault::ALL {
            let output = with_stderr(&mut command(&store, words), fault);
            assert_eq!(output.status.code(), Some(code), "{words:?} with standard error {fault:?}: {output:?}");
            assert!(plainly.stdout.len() == output.stdout.len() || words[0] == "backup", "{words:?}: {output:?}");
        }
    }
}

#[test]
fn a_backup_whose_messages_are_lost_is_whole() {
    for fault in Fault::ALL {
        let store = Store::new();
        let words = ["backup", "anna", "nobody", "bob.smith", "--shared", "--offline", "--root", SAMPLE];
        let output = with_stderr(&mut store.command(&words), fault);
        assert_eq!(output.status.code(), Some(3), "{fault:?}: {output:?}");
        let verified = run_for(&mut store.command(&["verify"]), 0);
        assert_eq!(out(&verified).matches(": good: ").count(), 3, "{verified:?}");
        assert!(verified.stderr.is_empty(), "{}", err(&verified));
    }
}

/// Commands whose output is all there is, and what they end with when whoever reads it has stopped. A file that ends early is
/// of no use; of a list, the reader has seen enough.
const READING: [(&[&str], i32); 15] = [
    (&["--help"], 0),
    (&["backup", "--help"], 0),
    (&["compact", "anna", "--dry-run"], 0),
    (&["diff", "anna", "1"], 0),
    (&["erase", "anna", "--everything"], 0),
    (&["find", "anna", "--subject", "lunch"], 0),
    (&["list", "anna"], 0),
    (&["list", "anna", "INBOX", "--json"], 0),
    (&["log", "anna"], 0),
    (&["restore", "anna", "--all", "--quiet", "--tar"], 1),
    (&["restore", "anna", "--all", "--quiet", "--zip"], 1),
    (&["restore", "anna", "--all", "--quiet", "--dir", "/nonexistent", "--dry-run"], 0),
    (&["show", "anna", "INBOX/1"], 0),
    (&["users", "--offline", "--root", SAMPLE], 0),
    (&["version"], 0),
];

/// Commands that do something, and report on it. `*` stands for a path beside the store.
const WORKING: [&[&str]; 12] = [
    &["backup", "--shared", "--offline", "--root", SAMPLE],
    &["acknowledge", "anna"],
    &["hold", "anna", "on"],
    &["hold", "anna", "off"],
    &["verify", "anna"],
    &["repair", "anna"],
    &["heal", "anna", "--offline", "--root", SAMPLE],
    &["compact", "anna"],
    &["extract", "anna", "*tree"],
    &["restore", "anna", "--all", "--dir", "*mail"],
    &["erase", "bob.smith", "--everything", "--yes"],
    &["init", "*other"],
];

fn with_stdout(command: &mut Command, fault: Fault) -> Output {
    match fault {
        Fault::Closed => run(&mut closing(command, ">&-")),
        other => run(command.stdout(other.stdio())),
    }
}

/// What is said of a standard output that cannot be written to.
fn names_stdout(output: &Output, fault: Fault) -> bool {
    let why = if fault == Fault::Closed { "is closed" } else { "No space left on device" };
    err(output).contains(&format!("standard output: {why}"))
}

#[test]
fn a_lost_answer_is_an_error() {
    let store = filled();
    for (words, broken) in READING {
        let has_store = !words.iter().any(|word| matches!(*word, "--help" | "--root" | "version"));
        let command = || if has_store { store.command(words) } else { plain(words) };
        assert!(!run_for(&mut command(), 0).stdout.is_empty(), "{words:?} writes nothing");
        for fault in [Fault::Full, Fault::Closed] {
            let output = with_stdout(&mut command(), fault);
            assert_eq!(output.status.code(), Some(1), "{words:?} with standard output {fault:?}: {output:?}");
            assert!(names_stdout(&output, fault), "{words:?} with standard output {fault:?}: {output:?}");
        }
        let output = with_stdout(&mut command(), Fault::Broken);
        assert_eq!(output.status.code(), Some(broken), "{words:?}: {output:?}");
        assert_eq!(output.stderr.is_empty(), broken == 0, "{words:?}: {output:?}");
    }
}

#[test]
fn a_lost_report_stops_no_work() {
    for fault in Fault::ALL {
        let store = filled();
        for words in WORKING {
            let paths: Vec<String> = words
                .iter()
                .map(|word| {
                    word.strip_prefix('*')
                        .map_or((*word).to_owned(), |name| store.beside(name).to_str().expect("UTF-8").to_owned())
                })
                .collect();
            let words: Vec<&str> = paths.iter().map(String::as_str).collect();
            let mut command = if words[0] == "init" { plain(&words) } else { store.command(&words) };
            let output = with_stdout(&mut command, fault);
            let expected = if fault == Fault::Broken { 0 } else { 3 };
            assert_eq!(output.status.code(), Some(expected), "{words:?} with standard output {fault:?}: {output:?}");
            assert!(names_stdout(&output, fault) != (fault == Fault::Broken), "{words:?}, {fault:?}: {output:?}");
        }
        assert!(store.beside("tree/folders").is_dir() && store.beside("mail/INBOX").is_dir(), "files were extracted");
        assert!(store.beside("other/cylinder-store").is_file() && !store.archive("bob.smith").exists());
        let verified = run_for(&mut store.command(&["verify"]), 0);
        assert_eq!(out(&verified).matches(": good: ").count(), 2, "anna and shared mailboxes: {verified:?}");
    }
}

/// A run over several users used to end after the first of whom it could not tell.
#[test]
fn a_backup_whose_report_is_lost_is_whole() {
    for fault in Fault::ALL {
        let store = Store::new();
        let output = with_stdout(&mut store.command(&["backup", "--all", "--jobs", "1", "--offline", "--root", SAMPLE]), fault);
        assert_eq!(output.status.code(), Some(if fault == Fault::Broken { 0 } else { 3 }), "{fault:?}: {output:?}");
        let verified = run_for(&mut store.command(&["verify"]), 0);
        assert_eq!(out(&verified).matches(": good: ").count(), 3, "{verified:?}");
    }
}

/// The archive's file would get the number of a stream that is closed, and messages would be written into it.
#[test]
fn nothing_is_written_into_files_that_take_the_place_of_closed_streams() {
    for (how, code) in [("<&- 2>&-", 3), ("<&- >&- 2>&-", 3), (">&-", 3), ("2>&-", 3), ("<&- >&-", 3)] {
        let store = Store::new();
        let backup = store.command(&["backup", "anna", "nobody", "bob.smith", "--offline", "--root", SAMPLE]);
        let output = run(&mut closing(&backup, how));
        assert_eq!(output.status.code(), Some(code), "{how}: {output:?}");
        let verified = run_for(&mut store.command(&["verify"]), 0);
        assert_eq!(out(&verified).matches(": good: ").count(), 2, "{how}: {verified:?}");
    }
}

/// What is lost must have been written: a command that has nothing to say loses nothing, and `/dev/null` is no fault.
#[test]
fn nothing_is_lost_that_nobody_has_asked_for() {
    let store = filled();
    let quiet = ["backup", "anna", "--quiet", "--offline", "--root", SAMPLE];
    for fault in Fault::ALL {
        let output = with_stdout(&mut store.command(&quiet), fault);
        assert_eq!((output.status.code(), err(&output)), (Some(0), String::new()), "{fault:?}");
    }
    for how in [">/dev/null", "<>/dev/null 1<>/dev/null"] {
        let output = run(&mut closing(&store.command(&["list", "anna"]), how));
        assert_eq!((output.status.code(), err(&output)), (Some(0), String::new()), "{how}");
    }
}

#[test]
fn a_file_is_not_written_to_a_terminal() {
    let store = filled();
    let command = store.command(&["restore", "anna", "--all", "--quiet"]);
    let words: Vec<String> = command.get_args().map(|word| format!("'{}'", word.to_str().expect("UTF-8"))).collect();
    for (form, code) in [("--zip", 2), ("--tar", 2), ("--zip > /dev/null", 0), ("--tar | cat", 0)] {
        let line = format!("'{}' {} {form}", binary().display(), words.join(" "));
        let log = store.beside("typescript");
        let mut script = tool("script", "bsdutils");
        let output = run(script.args(["--quiet", "--return", "--command", &line]).arg(&log).stdin(Stdio::null()));
        assert_eq!(output.status.code(), Some(code), "{form}: {output:?}");
        let is_refused = out(&output).contains("standard output, which is a terminal");
        assert_eq!(is_refused, code == 2, "{form}: {output:?}");
    }
}
