//! What a command does whose standard output or standard error cannot be written to: full, closed, or read by nobody.
//!
//! A message that is lost never ends a command, and changes no exit code.

use cylinder_tests::proof::{Store, binary, err, run, run_for};
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
        assert_eq!(String::from_utf8_lossy(&verified.stdout).matches(": good: ").count(), 3, "{verified:?}");
        assert!(verified.stderr.is_empty(), "{}", err(&verified));
    }
}
