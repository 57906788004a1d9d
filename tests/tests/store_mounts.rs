//! Stores on real file systems that are not mounted, another one, read-only, full, or without locks: each with its sentence and
//! its exit code. Each case has a mount namespace of its own.

use cylinder_tests::proof::{Store, binary, err, out};
use std::process::{Command, Output};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/sample");

/// Words of shell that every script begins with: `$S` is the mount point of a store, `$D` a directory of its own.
const HEAD: &str = r#"
set -eu
cylinder() { "$CYLINDER" "$@"; }
backup() { cylinder backup --all --offline --root "$SAMPLE" "$@"; }
fill() { mount -t tmpfs -o "${1-mode=700}" tmpfs "$S"; cylinder init >&3; backup >&3; }
"#;

/// Runs a script in a mount namespace; what `fill` says is dropped.
fn script(text: &str) -> Output {
    let store = Store::new();
    let dir = store.beside("mnt");
    std::fs::create_dir(&dir).expect("a directory");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "bash", "-c"]).arg(format!("exec 3>/dev/null\n{HEAD}{text}"));
    command.env("CYLINDER", binary()).env("SAMPLE", SAMPLE).env("S", &dir).env("D", store.temp.path());
    command.env("CYLINDER_STORE", &dir).env_remove("CYLINDER_STORE_ID");
    command.output().expect("unshare of util-linux")
}

/// The script's last command must say this on standard error, and end with this code.
#[track_caller]
fn says(text: &str, code: i32, sentences: &[&str]) -> String {
    let output = script(text);
    let said = err(&output);
    assert_eq!(output.status.code(), Some(code), "{said}{}", out(&output));
    for sentence in sentences {
        assert!(said.contains(sentence), "not said: {sentence}\n{said}");
    }
    out(&output)
}

#[test]
fn a_store_that_is_not_mounted() {
    let sentence = "is empty: is the file system mounted?";
    for command in
        ["backup", "cylinder verify", "cylinder users --store \"$S\"", "cylinder compact --all", "cylinder list anna"]
    {
        let said = says(&format!("fill; umount \"$S\"; {command}"), 1, &[sentence]);
        assert_eq!(said, "", "{command}");
    }
    let left = says("fill; umount \"$S\"; backup 2>&3 || true; ls -A \"$S\" | wc -l", 0, &[]);
    assert_eq!(left.trim(), "0", "nothing was begun in the mount point");
}

#[test]
fn another_store_that_is_mounted() {
    let two = "fill; umount \"$S\"; export CYLINDER_STORE_ID=00112233445566778899aabbccddeeff; mount -t tmpfs tmpfs \"$S\"; \
               cylinder init >&3; cylinder verify";
    says(two, 1, &["expected 00112233445566778899aabbccddeeff: another store is mounted there"]);
}

#[test]
fn a_store_that_is_read_only() {
    let read_only = "fill; mount -o remount,ro \"$S\"; ";
    let new = "mount -t tmpfs tmpfs \"$S\"; cylinder init >&3; mount -o remount,ro \"$S\"; backup";
    says(new, 1, &["anna: ", "bob.smith: ", "the file system is read-only"]);
    let said = says(&format!("{read_only} backup"), 0, &[]);
    assert_eq!(said.matches(": unchanged, ").count(), 3, "nothing had to be written: {said}");
    says(&format!("{read_only} cylinder compact anna"), 1, &["open lock file", "the file system is read-only"]);
    for command in
        ["verify", "verify --max-time 1h", "log anna", "list anna", "find --all --subject Lunch", "compact anna --dry-run"]
    {
        let output = script(&format!("{read_only} cylinder {command}"));
        let (said, code) = (err(&output), output.status.code());
        let is_dry_run = command.ends_with("--dry-run");
        assert!(is_dry_run || (code == Some(0) && said.is_empty() && !out(&output).is_empty()), "{command}: {code:?} {said}");
        assert!(!said.contains("permission denied") && !said.contains("operating system error"), "{command}: {said}");
    }
    says(&format!("{read_only} cylinder restore anna --all --dir \"$D/mail\""), 0, &[]);
    let sentence = "the next check does not go on where this one ended, for that cannot be written down";
    let said = says(&format!("{read_only} cylinder verify --max-time 0s"), 3, &[sentence, "the file system is read-only"]);
    assert!(said.contains("anna: good") && said.contains("stopped after"), "{said}");
    says("mount -t tmpfs -o ro tmpfs \"$S\"; cylinder init", 1, &["the file system is read-only"]);
}

#[test]
fn a_store_under_an_overlay() {
    let overlay = "fill; mkdir \"$D/upper\" \"$D/o\"; mount -t tmpfs tmpfs \"$D/upper\"; mkdir \"$D/upper/u\" \"$D/upper/w\"; ";
    let writable = "mount -t overlay -o \"lowerdir=$S,upperdir=$D/upper/u,workdir=$D/upper/w\" overlay \"$D/o\"; ";
    let said = says(
        &format!("{overlay}{writable} export CYLINDER_STORE=\"$D/o\"; backup; cylinder compact --all; cylinder verify"),
        0,
        &[],
    );
    assert!(said.contains("anna: good"), "{said}");
    let read_only = "mount -t overlay -o \"lowerdir=$S:$D/upper/u\" overlay \"$D/o\"; ";
    says(
        &format!("{overlay}{read_only} export CYLINDER_STORE=\"$D/o\"; cylinder compact anna"),
        1,
        &["the file system is read-only"],
    );
}

#[test]
fn a_store_that_is_full() {
    let full = "mount -t tmpfs -o size=24k tmpfs \"$S\"; cylinder init >&3; ";
    says(&format!("{full} backup --jobs 1"), 3, &["no space left"]);
    let filled = "fill; mount -o remount,size=64k \"$S\"; head -c 1M /dev/zero >\"$S/2b/ballast\" 2>&3 || true; ";
    let import = "cylinder import \"$SAMPLE/../perl/alice/backupdata-1795457253.tar.gz\"";
    says(&format!("{filled} {import}"), 1, &["alice: ", "no space left"]);
    let said = says(&format!("{filled} {import} 2>&3 || true; rm \"$S/2b/ballast\"; cylinder verify anna bob.smith"), 0, &[]);
    assert!(said.contains("anna: good"), "{said}");
}

/// The kernel's own answer of a file system without locks, or without fsync of directories, put in by strace: there is none
/// such that a Debian machine could mount without a server.
#[test]
fn a_store_without_locks_or_without_syncs_of_directories() {
    let traced = |call: &str, errno: &str, words: &str| {
        format!("fill; strace -f -o /dev/null -e trace={call} -e inject={call}:error={errno} \"$CYLINDER\" {words}")
    };
    let sentence = "the file system (tmpfs) takes no locks: start its lock service, or use a file system that has locks";
    for errno in ["ENOLCK", "EINVAL", "EOPNOTSUPP", "ENOSYS"] {
        says(&traced("fcntl", errno, "hold anna on"), 1, &["lock 2b/anna/lock", sentence]);
    }
    let sentence = "the file system (tmpfs) cannot make names in a directory durable (fsync of a directory): use one that can";
    for errno in ["EINVAL", "EOPNOTSUPP"] {
        says(&traced("fsync", errno, "init \"$D/new\""), 1, &["cannot be made"]);
        let import = "import \"$SAMPLE/../perl/alice/backupdata-1795457253.tar.gz\"";
        says(&traced("fsync", errno, import), 1, &[sentence]);
    }
    for (errno, words) in [("EDQUOT", "the disk quota is used up"), ("ENOSPC", "no space left"), ("EROFS", "is read-only")] {
        says(&traced("pwrite64", errno, "hold anna on"), 1, &[words]);
    }
}
