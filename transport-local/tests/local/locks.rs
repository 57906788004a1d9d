//! Locks against ourselves and against another process that locks as Cyrus does.

use crate::{World, place, store};
use cylinder_core::error::Fault;
use cylinder_core::io::{How, LockMode, Op, Place, Reply};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const HOLD: &str = "
import fcntl, sys
f = open(sys.argv[1], 'r+b')
fcntl.lockf(f, getattr(fcntl, sys.argv[2]))
print('locked', flush=True)
sys.stdin.read()
";
const TRY: &str = "
import fcntl, sys
f = open(sys.argv[1], 'r+b')
try:
    fcntl.lockf(f, getattr(fcntl, sys.argv[2]) | fcntl.LOCK_NB)
    print('free')
except BlockingIOError:
    print('busy')
";

fn python(script: &str, path: &Path, mode: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(path).arg(mode).stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

/// A process that holds a classic POSIX lock.
struct Holder(Child);

impl Holder {
    fn new(path: &Path, mode: &str) -> Holder {
        let mut child = python(HOLD, path, mode).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "locked\n");
        Holder(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// What another process would be told that asks for a classic POSIX lock.
fn others_see(place: &Place, mode: &str) -> String {
    let path: &Path = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&place.path).as_ref();
    let output = python(TRY, path, mode).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}

#[test]
fn cyrus_locks_exclude_ours_and_the_holder_is_named() {
    let mut world = World::new();
    std::fs::write(world.host_path("index"), b"data").unwrap();
    let place = world.host("index");
    let child = Holder::new(&world.host_path("index"), "LOCK_EX");
    let (shared, exclusive, read_only, holder) = world.run(|io| async move {
        let file = io.open(&place, How::Lock).await.unwrap();
        let reading = io.open(&place, How::Read).await.unwrap();
        (
            io.lock(file, LockMode::Shared).await,
            io.lock(file, LockMode::Exclusive).await,
            io.lock(reading, LockMode::Shared).await,
            io.holder(file, LockMode::Shared).await,
        )
    });
    assert_eq!((shared, exclusive, read_only), (Err(Fault::Busy), Err(Fault::Busy), Err(Fault::Busy)));
    let holder = holder.unwrap().unwrap();
    assert!(holder.starts_with(&format!("process {} (python", child.0.id())), "{holder}");
    drop(child);
    let place = world.host("index");
    let free = world.run(|io| async move {
        let file = io.open(&place, How::Read).await.unwrap();
        (io.lock(file, LockMode::Shared).await, io.holder(file, LockMode::Shared).await)
    });
    assert_eq!(free, (Ok(()), Ok(None)));
}

#[test]
fn shared_locks_of_cyrus_exclude_only_exclusive_ones() {
    let mut world = World::new();
    std::fs::write(world.host_path("index"), b"data").unwrap();
    let place = world.host("index");
    let _child = Holder::new(&world.host_path("index"), "LOCK_SH");
    world.run(|io| async move {
        let file = io.open(&place, How::Lock).await.unwrap();
        assert_eq!(io.lock(file, LockMode::Shared).await, Ok(()));
        assert_eq!(io.lock(file, LockMode::Exclusive).await, Err(Fault::Busy));
        assert_eq!(io.holder(file, LockMode::Shared).await, Ok(None));
        assert!(io.holder(file, LockMode::Exclusive).await.unwrap().is_some());
    });
}

#[test]
fn our_locks_exclude_those_of_cyrus_until_they_are_dropped() {
    let mut world = World::new();
    std::fs::write(world.host_path("index"), b"data").unwrap();
    let place = world.host("index");
    world.run(|io| async move {
        let file = io.open(&place, How::Lock).await.unwrap();
        io.lock(file, LockMode::Exclusive).await.unwrap();
        assert_eq!(others_see(&place, "LOCK_SH"), "busy");
        // The same descriptor may change its mind.
        io.lock(file, LockMode::Shared).await.unwrap();
        assert_eq!((others_see(&place, "LOCK_SH"), others_see(&place, "LOCK_EX")), ("free".into(), "busy".into()));
        io.unlock(file).await.unwrap();
        assert_eq!(others_see(&place, "LOCK_EX"), "free");
        io.lock(file, LockMode::Exclusive).await.unwrap();
        io.close(file).await.unwrap();
        assert_eq!(others_see(&place, "LOCK_EX"), "free");
    });
}

#[test]
fn closing_another_descriptor_keeps_the_lock() {
    let mut world = World::new();
    std::fs::write(world.host_path("index"), b"data").unwrap();
    let place = world.host("index");
    world.run(|io| async move {
        let file = io.open(&place, How::Lock).await.unwrap();
        io.lock(file, LockMode::Exclusive).await.unwrap();
        let second = io.open(&place, How::Lock).await.unwrap();
        io.close(second).await.unwrap();
        io.read_whole(&place, 100, Vec::new()).await.unwrap();
        drop(std::fs::read("/proc/self/comm"));
        assert_eq!(others_see(&place, "LOCK_SH"), "busy");
    });
    // The end of the task closed what it had left open.
    assert_eq!(others_see(&world.host("index"), "LOCK_EX"), "free");
}

#[test]
fn two_descriptors_of_one_process_exclude_each_other() {
    let mut world = World::new();
    world.run(|io| async move {
        let first = io.open(&store("lock"), How::Lock).await.unwrap();
        let second = io.open(&store("lock"), How::Lock).await.unwrap();
        io.lock(first, LockMode::Exclusive).await.unwrap();
        assert_eq!(io.lock(second, LockMode::Exclusive).await, Err(Fault::Busy));
        // The kernel knows no process for a lock of this kind.
        assert_eq!(io.holder(second, LockMode::Exclusive).await, Ok(Some(String::from("another process"))));
        io.unlock(first).await.unwrap();
        assert_eq!(io.lock(second, LockMode::Exclusive).await, Ok(()));
    });
}

#[test]
fn an_exclusive_lock_wants_a_file_opened_for_it() {
    let mut world = World::new();
    std::fs::write(world.host_path("index"), b"data").unwrap();
    let place = world.host("index");
    let result = world.run(|io| async move {
        let file = io.open(&place, How::Read).await.unwrap();
        io.lock(file, LockMode::Exclusive).await
    });
    assert_eq!(result, Err(Fault::Os(9)));
}

#[test]
fn lock_files_are_made_and_never_truncated() {
    let mut world = World::new();
    for place in [world.host("lock/a/user/anna.lock"), world.host("anna.lock"), store("x/y/lock"), store("lock")] {
        for _ in 0..2 {
            assert!(matches!(world.op(Op::Open { place: place.clone(), how: How::Lock }), Ok(Reply::File(_))), "{place:?}");
        }
    }
    std::fs::write(world.host_path("anna.lock"), b"content").unwrap();
    world.op(Op::Open { place: world.host("anna.lock"), how: How::Lock }).unwrap();
    assert_eq!(std::fs::read(world.host_path("anna.lock")).unwrap(), b"content");
    assert_eq!(std::fs::read(world.host_path("lock/a/user/anna.lock")).unwrap(), b"");
}

#[test]
fn lock_files_are_not_made_through_files_or_dangling_links() {
    let mut world = World::new();
    std::fs::write(world.host_path("file"), b"").unwrap();
    std::os::unix::fs::symlink("nowhere", world.host_path("dangling")).unwrap();
    let lock = |world: &mut World, name: &str| {
        let place = place(&world.host_path(name));
        world.op(Op::Open { place, how: How::Lock })
    };
    assert_eq!(lock(&mut world, "file/a.lock"), Err(Fault::NotFound));
    assert_eq!(lock(&mut world, "file/a/b.lock"), Err(Fault::NotFound));
    assert!(lock(&mut world, "dangling/a.lock").is_err());
    assert_eq!(lock(&mut world, "dangling"), Err(Fault::WrongKind));
    assert!(!world.host_path("nowhere").exists());
}
