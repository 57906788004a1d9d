//! Running the binary and the tools of others on real files, and looking at what came of it.
//!
//! What must not come in: a server.

use cylinder_core::archive::read::Reader;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Place, Task};
use cylinder_core::store::archive_dir;
use cylinder_transport_local::{Config, Local};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use tempfile::TempDir;

/// The binary: `CYLINDER_BIN`, or what cargo builds in the profile of this test.
pub fn binary() -> &'static Path {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| std::env::var_os("CYLINDER_BIN").map_or_else(build, PathBuf::from));
    &BINARY
}

/// Builds the binary, which is quick if it is there, and never tests one that is older than the sources.
fn build() -> PathBuf {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--package", "cylinder", "--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    let built = cargo.stderr(Stdio::inherit()).output().expect("cargo runs");
    assert!(built.status.success(), "the binary does not build");
    // Where it puts what is cargo's to say, and not always the same.
    let messages =
        built.stdout.split(|&c| c == b'\n').filter_map(|line| serde_json::from_slice::<serde_json::Value>(line).ok());
    let mut binaries = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    binaries.next_back().expect("cargo names the binary")
}

/// A command of another make. Panics with the name of the Debian package if it is not installed.
pub fn tool(name: &str, package: &str) -> Command {
    let found = Command::new(name).arg("--version").output();
    assert!(found.is_ok(), "this test needs `{name}`: install the package {package}");
    Command::new(name)
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

/// The same; panics with what it said unless it ended with `code`.
pub fn run_for(command: &mut Command, code: i32) -> Output {
    let output = run(command);
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{}{}", out(&output), err(&output));
    output
}

/// Standard output as text.
pub fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard error as text.
pub fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Makes a directory a store; it is made if it does not exist.
pub fn init(store: &Path) {
    run_for(Command::new(binary()).arg("init").arg(store), 0);
}

/// A store in a directory of its own.
pub struct Store {
    /// Everything of this test; removed at its end.
    pub temp: TempDir,
}

impl Default for Store {
    fn default() -> Store {
        Store::new()
    }
}

impl Store {
    /// An empty one.
    pub fn new() -> Store {
        let temp = tempfile::tempdir().expect("a temporary directory");
        init(&temp.path().join("store"));
        Store { temp }
    }

    /// The store.
    pub fn dir(&self) -> PathBuf {
        self.temp.path().join("store")
    }

    /// A path beside the store.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// `cylinder WORDS` with `--store DIR` behind the first of them, so that arguments can be added.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(binary());
        let (first, rest) = words.split_at(words.len().min(1));
        command.args(first).arg("--store").arg(self.dir()).args(rest).env_remove("CYLINDER_STORE");
        command
    }

    /// `cylinder backup USER` of a spool.
    pub fn backup(&self, root: &Path, user: &str) -> Command {
        let mut command = self.command(&["backup", user, "--imapd-conf", "/etc/imapd.conf"]);
        command.arg("--root").arg(root);
        command
    }

    /// The directory of a user's archive.
    pub fn user_dir(&self, user: &str) -> PathBuf {
        let Place { path, .. } = archive_dir(&Owner::User(user.as_bytes().to_vec())).expect("a userid");
        self.dir().join(std::ffi::OsStr::from_bytes(&path))
    }

    /// A user's archive.
    pub fn archive(&self, user: &str) -> PathBuf {
        self.user_dir(user).join("archive.tar.gz")
    }

    /// Opens a user's archive with the core, as it stands, and hands it to `procedure`.
    pub fn read<T>(&self, user: &str, procedure: impl AsyncFnOnce(&Reader) -> Result<T, Error>) -> Result<T, Error> {
        let dir = archive_dir(&Owner::User(user.as_bytes().to_vec()))?;
        let mut driver = Local::new(Config { store: self.dir(), ..Config::default() });
        let task = Task::new(Local::now(), |io: Io| async move {
            let reader = Reader::open(&io, &dir).await?;
            let result = procedure(&reader).await;
            reader.close().await;
            result
        });
        driver.run(task, &mut |_| ())
    }

    /// Extracts a user's archive with `cylinder extract` and answers the tree.
    pub fn extract(&self, user: &str, at: Option<u64>) -> BTreeMap<String, Node> {
        let dir = tempfile::tempdir_in(self.temp.path()).expect("a temporary directory");
        let target = dir.path().join("tree");
        let mut command = self.command(&["extract", user]);
        command.arg(&target);
        if let Some(number) = at {
            command.arg("--at").arg(number.to_string());
        }
        let output = run(&mut command);
        let is_cut = err(&output).contains("the end of the archive is missing");
        assert_eq!(output.status.code(), Some(if is_cut { 4 } else { 0 }), "{}", err(&output));
        tree(&target)
    }
}

/// Something in a tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// A file: length, SHA-1, time of the last change in seconds.
    File(u64, Guid, i64),
    /// A link and where it leads.
    Link(Vec<u8>),
}

impl Node {
    /// The SHA-1 of a file.
    pub fn sha1(&self) -> Option<Guid> {
        match self {
            Node::File(_, sha1, _) => Some(*sha1),
            Node::Link(_) => None,
        }
    }
}

/// Everything below a directory but directories, by path.
pub fn tree(dir: &Path) -> BTreeMap<String, Node> {
    let mut all = BTreeMap::new();
    walk(dir, "", &mut all);
    all
}

fn walk(dir: &Path, prefix: &str, all: &mut BTreeMap<String, Node>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
        let entry = entry.expect("a name");
        let path = entry.path();
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let stat = fs::symlink_metadata(&path).expect("a file that is there");
        if stat.is_dir() {
            walk(&path, &format!("{name}/"), all);
        } else if stat.is_symlink() {
            all.insert(name, Node::Link(fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec()));
        } else {
            let content = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            all.insert(name, Node::File(stat.size(), Guid::of(&content), stat.mtime()));
        }
    }
}

/// Copies a tree: files with their times, links as links.
pub fn copy_tree(from: &Path, to: &Path) {
    run_for(Command::new("cp").arg("-a").arg(from).arg(to), 0);
}
