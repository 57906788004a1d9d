//! The driver against a real kernel: every operation, every fault that can be provoked, locks against another process.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod archive;
mod dirs;
mod driver;
mod files;
mod locks;
mod target;
mod users;

use cylinder_core::error::Fault;
use cylinder_core::io::{Io, Op, Place, Reply, Task};
use cylinder_transport_local::{Config, Local};
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An empty host tree and an empty store.
struct World {
    dir: TempDir,
    local: Local,
}

impl World {
    fn new() -> World {
        World::with(|config| config)
    }

    fn with(change: impl FnOnce(Config) -> Config) -> World {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("host")).unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let config = Config { store: dir.path().join("store"), ..Config::default() };
        World { local: Local::new(change(config)), dir }
    }

    fn run<T, F: Future<Output = T>>(&mut self, make: impl FnOnce(Io) -> F) -> T {
        run(&mut self.local, make)
    }

    /// A task of one operation. What it opens is closed again.
    fn op(&mut self, op: Op) -> Result<Reply, Fault> {
        self.run(|io| async move { io.start(op).await })
    }

    fn host_path(&self, name: &str) -> PathBuf {
        self.dir.path().join("host").join(name)
    }

    fn host(&self, name: &str) -> Place {
        place(&self.host_path(name))
    }

    fn store_path(&self, name: &str) -> PathBuf {
        self.dir.path().join("store").join(name)
    }
}

fn run<T, F: Future<Output = T>>(local: &mut Local, make: impl FnOnce(Io) -> F) -> T {
    local.run(Task::new(Local::now(), make), &mut |_| {})
}

fn place(path: &Path) -> Place {
    Place::host(path.as_os_str().as_bytes())
}

fn store(name: &str) -> Place {
    Place::store(name)
}

/// Runs `body` in a process of its own, for what changes the whole process. `test` is the path of the calling test.
fn in_child(test: &str, body: impl FnOnce()) {
    const MARK: &str = "CYLINDER_TEST_CHILD";
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args([test, "--exact", "--nocapture"]).env(MARK, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{error}");
}

/// Some tests give files to other users, which only the superuser can.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs the superuser");
    }
    root
}
