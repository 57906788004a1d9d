//! What the command says when it is asked for help, or asked for nothing.

use std::process::{Command, Output};

fn cylinder(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cylinder")).args(args).output().expect("the command can be run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// It was kept in a buffer that nobody emptied: found in writing README.md.
#[test]
fn help_goes_to_standard_output() {
    for args in [&["--help"][..], &["backup", "--help"], &["help"]] {
        let out = cylinder(args);
        assert!(out.status.success() && out.stderr.is_empty(), "{args:?}: {out:?}");
        assert!(text(&out.stdout).starts_with("Usage: cylinder"), "{args:?}: {out:?}");
    }
}

#[test]
fn words_that_make_no_sense_go_to_standard_error_and_exit_2() {
    for args in [&[][..], &["frobnicate"], &["list"], &["backup", "--level", "x"]] {
        let out = cylinder(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {out:?}");
        assert!(out.stdout.is_empty() && !out.stderr.is_empty(), "{args:?}: {out:?}");
    }
}
