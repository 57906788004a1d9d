//! Who owns what is created, and becoming another user.

use crate::{World, in_child, is_root, place};
use cylinder_core::error::Fault;
use cylinder_core::io::{How, Op};
use cylinder_transport_local::{become_user, owner_of};
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

const CYRUS: (u32, u32) = (4242, 4343);

#[track_caller]
fn check(path: &Path, owner: (u32, u32), mode: u32) {
    let m = fs::metadata(path).unwrap();
    assert_eq!(((m.uid(), m.gid()), m.mode() & 0o7777), (owner, mode), "{}", path.display());
}

fn lock(world: &mut World, path: &Path) -> Result<(), Fault> {
    world.op(Op::Open { place: place(path), how: How::Lock }).map(drop)
}

#[test]
fn lock_files_belong_to_the_owner_of_the_nearest_directory() {
    if !is_root() {
        return;
    }
    let mut world = World::new();
    let conf = world.host_path("conf");
    fs::create_dir(&conf).unwrap();
    chown(&conf, Some(CYRUS.0), Some(CYRUS.1)).unwrap();
    lock(&mut world, &conf.join("lock/a/user/anna.lock")).unwrap();
    lock(&mut world, &conf.join("lock/b.lock")).unwrap();
    for dir in ["lock", "lock/a", "lock/a/user"] {
        check(&conf.join(dir), CYRUS, 0o755);
    }
    check(&conf.join("lock/a/user/anna.lock"), CYRUS, 0o600);
    check(&conf.join("lock/b.lock"), CYRUS, 0o600);
    // The thread is itself again.
    assert!(rustix::process::geteuid().is_root() && rustix::process::getegid().is_root());
}

#[test]
fn in_directories_of_the_owner_files_are_made_as_the_owner() {
    if !is_root() {
        return;
    }
    let mut world = World::new();
    let dir = world.host_path("conf");
    fs::create_dir(&dir).unwrap();
    chown(&dir, Some(CYRUS.0), Some(CYRUS.1)).unwrap();
    // The owner may not write here; the superuser could. So it shows who does it, and that no file is ever another's for a
    // moment.
    rustix::fs::chmod(&dir, rustix::fs::Mode::from_raw_mode(0o555)).unwrap();
    assert_eq!(lock(&mut world, &dir.join("a.lock")), Err(Fault::Denied));
    assert_eq!(lock(&mut world, &dir.join("lock/a.lock")), Err(Fault::Denied));
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    assert!(rustix::process::geteuid().is_root() && rustix::process::getegid().is_root());
}

#[test]
fn an_owner_that_is_given_counts_even_in_directories_of_others() {
    if !is_root() {
        return;
    }
    let mut world = World::with(|config| cylinder_transport_local::Config { cyrus_owner: Some(CYRUS), ..config });
    let run = world.host_path("run");
    fs::create_dir(&run).unwrap();
    lock(&mut world, &run.join("lock/a.lock")).unwrap();
    lock(&mut world, &run.join("b.lock")).unwrap();
    check(&run, (0, 0), fs::metadata(&run).unwrap().mode() & 0o7777);
    check(&run.join("lock"), CYRUS, 0o755);
    check(&run.join("lock/a.lock"), CYRUS, 0o600);
    check(&run.join("b.lock"), CYRUS, 0o600);
    // A lock file that exists is left as it is.
    fs::write(run.join("c.lock"), b"").unwrap();
    lock(&mut world, &run.join("c.lock")).unwrap();
    check(&run.join("c.lock"), (0, 0), fs::metadata(run.join("c.lock")).unwrap().mode() & 0o7777);
}

#[test]
fn the_umask_does_not_shut_cyrus_out() {
    in_child("users::the_umask_does_not_shut_cyrus_out", || {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o277));
        let dir = tempfile::tempdir().unwrap();
        rustix::fs::chmod(dir.path(), rustix::fs::Mode::RWXU).unwrap();
        let mut local = cylinder_transport_local::Local::new(cylinder_transport_local::Config::default());
        let path = dir.path().join("lock/a/b.lock");
        let place = place(&path);
        crate::run(&mut local, |io| async move { io.open(&place, How::Lock).await.unwrap() });
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        check(&dir.path().join("lock"), me, 0o755);
        check(&dir.path().join("lock/a"), me, 0o755);
        check(&path, me, 0o600);
    });
}

#[test]
fn a_user_becomes_another_for_good() {
    if !is_root() {
        return;
    }
    in_child("users::a_user_becomes_another_for_good", || {
        let mut world = World::new();
        let (secret, theirs) = (world.host_path("secret"), world.host_path("theirs"));
        fs::create_dir(&secret).unwrap();
        fs::create_dir(&theirs).unwrap();
        rustix::fs::chmod(&secret, rustix::fs::Mode::RWXU).unwrap();
        rustix::fs::chmod(world.dir.path(), rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
        fs::write(secret.join("key"), b"secret").unwrap();
        chown(&theirs, Some(CYRUS.0), Some(CYRUS.1)).unwrap();
        become_user(CYRUS.0, CYRUS.1).unwrap();
        assert_eq!(rustix::process::getgroups().unwrap(), [rustix::process::Gid::from_raw(CYRUS.1)]);
        assert_eq!(fs::read(secret.join("key")).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        assert!(become_user(0, 0).is_err());
        assert!(become_user(CYRUS.0, CYRUS.1).is_ok());
        let key = place(&secret.join("key"));
        assert_eq!(world.op(Op::Stat(key.clone())), Err(Fault::Denied));
        assert_eq!(world.op(Op::Open { place: key, how: How::Read }), Err(Fault::Denied));
        // It may still lock what is its own, and makes nothing that Cyrus could not open.
        lock(&mut world, &theirs.join("lock/a.lock")).unwrap();
        check(&theirs.join("lock"), CYRUS, 0o755);
        check(&theirs.join("lock/a.lock"), CYRUS, 0o600);
        let host = world.host_path("no.lock");
        assert_eq!(lock(&mut world, &host), Err(Fault::Denied));
        assert!(!host.exists());
        // The superuser's process removes the directory of the test.
        std::mem::forget(world.dir);
    });
}

#[test]
fn names_are_looked_up_in_the_password_file_of_another_root() {
    let world = World::new();
    fs::create_dir(world.host_path("etc")).unwrap();
    fs::write(world.host_path("etc/passwd"), "cyrus:x:77:88:Cyrus:/var/lib/cyrus:/bin/false\n").unwrap();
    assert_eq!(owner_of("cyrus", &world.host_path("etc/passwd")), Some((77, 88)));
    assert_eq!(owner_of("root", Path::new("/etc/passwd")), Some((0, 0)));
    assert_eq!(owner_of("cyrus", &world.host_path("etc/none")), None);
}
