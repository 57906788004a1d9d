//! How much memory a full backup takes, by what the system says of the process (`ru_maxrss`).

use cylinder_tests::proof::{Store, err, out, run_for, tool};
use cylinder_tests::spool::{Plan, Text};
use std::path::Path;
use std::process::Command;

/// Runs a command and prints its peak in KiB. The peak of python before it became the command is in it, some 10 MB.
const WAIT4: &str = "
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss, file=sys.stderr)
sys.exit(os.waitstatus_to_exitcode(status))
";

/// The peak of a command that must succeed, in KiB.
fn peak(command: &Command) -> u64 {
    let mut python = tool("python3", "python3");
    python.args(["-c", WAIT4]).arg(command.get_program()).args(command.get_args()).env_remove("LD_LIBRARY_PATH");
    let output = run_for(&mut python, 0);
    let said = err(&output);
    print!("{}", out(&output));
    said.lines().last().and_then(|line| line.parse().ok()).unwrap_or_else(|| panic!("no figure: {said}"))
}

/// Peaks of a full backup, of a run that finds nothing to do, of verify and, if asked for, of extract, in KiB.
fn peaks(plan: &Plan, dir: Option<&Path>, with_extract: bool) -> [u64; 4] {
    let store = Store::new();
    let temp = dir.map_or_else(tempfile::tempdir, tempfile::tempdir_in).expect("a directory");
    let root = temp.path().join("root");
    plan.write(&root).expect("a spool");
    let full = peak(&store.backup(&root, &plan.user));
    let none = peak(&store.backup(&root, &plan.user));
    let verify = peak(&store.command(&["verify"]));
    let mut extract = store.command(&["extract", &plan.user]);
    extract.arg(temp.path().join("tree"));
    let extract = if with_extract { peak(&extract) } else { 0 };
    let peaks = [full, none, verify, extract];
    println!("{} messages: peaks in KiB of backup, unchanged, verify, extract: {peaks:?}", plan.messages);
    peaks
}

fn small(messages: u64) -> Plan {
    Plan { user: "anna".into(), folders: 20, messages, size: 300..=700, text: Text::Words, seed: 1 }
}

#[test]
fn a_user_with_100_000_messages_takes_64_mib_at_most() {
    // Extracting them would take longer than all the rest, and is measured with a million.
    let peaks = peaks(&small(100_000), None, false);
    assert!(peaks.iter().all(|peak| *peak <= 64 << 10), "{peaks:?} KiB");
}

#[test]
fn a_user_with_300_mb_takes_64_mib_at_most() {
    let plan = Plan { user: "anna".into(), folders: 5, messages: 6000, size: 1000..=100_000, text: Text::Letters, seed: 8 };
    let peaks = peaks(&plan, None, true);
    assert!(peaks.iter().all(|peak| *peak <= 64 << 10), "{peaks:?} KiB");
}

/// Some 4 GiB of inodes and pages: `CYLINDER_TMPFS=/dev/shm cargo test --release -p cylinder-tests --test memory -- --ignored`.
#[test]
#[ignore = "needs several GiB and minutes"]
fn a_user_with_a_million_messages_takes_128_mib_at_most() {
    let dir = std::env::var_os("CYLINDER_TMPFS");
    let peaks = peaks(&small(1_000_000), dir.as_ref().map(Path::new), true);
    assert!(peaks[0] <= 128 << 10 && peaks[1] <= 128 << 10, "{peaks:?} KiB");
}
