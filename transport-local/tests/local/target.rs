//! The target: nothing in it is written over, no link is followed, nothing gets out.

use super::{World, is_root};
use cylinder_core::error::Fault;
use cylinder_core::io::{Attributes, How, Op, Place, Reply};
use cylinder_core::time::Time;
use cylinder_transport_local::Config;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

const PLAIN: Attributes = Attributes { mode: 0o600, owner: None, mtime: None };
const DIR: Attributes = Attributes { mode: 0o700, owner: None, mtime: None };

/// A world whose target is `target` beside the store.
fn world() -> (World, PathBuf) {
    let dir = tempfile::tempdir().unwrap().keep();
    let target = dir.join("target");
    std::fs::create_dir(&target).unwrap();
    let config = Config { target: Some(target.clone()), trusted: vec![b"var/spool".to_vec()], ..Config::default() };
    (World::with(|old| Config { store: old.store, ..config }), target)
}

fn target(name: &str) -> Place {
    Place::target(name)
}

fn put(name: &str, data: &[u8]) -> Op {
    Op::Put { place: target(name), data: data.to_vec(), attributes: PLAIN }
}

#[test]
fn a_file_is_created_with_its_attributes_and_never_written_over() {
    let (mut world, dir) = world();
    let mtime = Some(Time(1_700_000_000_123_000_000));
    let attributes = Attributes { mode: 0o640, mtime, ..PLAIN };
    assert_eq!(world.op(Op::PutDir { place: target("a/b"), attributes: DIR }), Ok(Reply::Unit));
    assert_eq!(world.op(Op::PutDir { place: target("a/b"), attributes: DIR }), Ok(Reply::Unit));
    let op = Op::Put { place: target("a/b/c"), data: b"mail".to_vec(), attributes };
    assert_eq!(world.op(op.clone()), Ok(Reply::Bytes(Vec::new())));
    assert_eq!(world.op(op), Err(Fault::Exists));
    let stat = std::fs::metadata(dir.join("a/b/c")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.mtime(), stat.mtime_nsec()), (0o640, 1_700_000_000, 123_000_000));
    assert_eq!(std::fs::read(dir.join("a/b/c")).unwrap(), b"mail");
    assert_eq!(std::fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(world.op(put("a/b", b"")), Err(Fault::Exists));
    assert_eq!(world.op(put("none/x", b"")), Err(Fault::NotFound));
    assert_eq!(world.op(Op::PutDir { place: target("a/b/c"), attributes: DIR }), Err(Fault::WrongKind));
    std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
}

#[test]
fn no_link_is_followed_and_nothing_gets_out() {
    let (mut world, dir) = world();
    let outside = dir.with_file_name("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, dir.join("link")).unwrap();
    symlink(outside.join("secret"), dir.join("file")).unwrap();
    symlink(outside.join("new"), dir.join("dangling")).unwrap();
    for name in ["link/x", "link/secret"] {
        assert_eq!(world.op(put(name, b"x")), Err(Fault::WrongKind), "{name}");
        assert_eq!(world.op(Op::Open { place: target(name), how: How::Create }), Err(Fault::WrongKind), "{name}");
        assert_eq!(world.op(Op::Unlink(target(name))), Err(Fault::WrongKind), "{name}");
    }
    for name in ["file", "dangling", "link"] {
        assert_eq!(world.op(put(name, b"x")), Err(Fault::Exists), "{name}");
        assert_eq!(world.op(Op::PutLink { place: target(name), to: b"x".to_vec(), owner: None }), Err(Fault::Exists));
        assert!(world.op(Op::PutDir { place: target(name), attributes: DIR }).is_err(), "{name}");
        assert_eq!(world.op(Op::Open { place: target(name), how: How::Read }), Err(Fault::WrongKind), "{name}");
    }
    for name in ["", ".", "..", "/etc/x", "a/../x", "./x", "a//x", "a/", "a\0b"] {
        assert_eq!(world.op(put(name, b"x")), Err(Fault::Driver), "{name}");
        assert_eq!(world.op(Op::PutDir { place: target(name), attributes: DIR }), Err(Fault::Driver), "{name}");
    }
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(std::fs::read(outside.join("secret")).unwrap(), b"secret");
    std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
}

#[test]
fn only_on_the_way_to_a_trusted_directory_links_are_followed_and_stay_inside() {
    let (mut world, dir) = world();
    std::fs::create_dir_all(dir.join("var")).unwrap();
    // As a chroot would see it.
    symlink("/data/spool", dir.join("var/spool")).unwrap();
    assert_eq!(world.op(Op::PutDir { place: target("var/spool/anna"), attributes: DIR }), Ok(Reply::Unit));
    assert_eq!(world.op(put("var/spool/anna/1.", b"mail")), Ok(Reply::Bytes(Vec::new())));
    assert!(dir.join("data/spool/anna/1.").is_file());
    symlink("/etc", dir.join("data/spool/bob")).unwrap();
    assert_eq!(world.op(put("var/spool/bob/1.", b"mail")), Err(Fault::WrongKind));
    assert_eq!(world.op(put("var/spoolx/1.", b"mail")), Err(Fault::NotFound));
    std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
}

#[test]
fn files_are_linked_renamed_and_given_away() {
    let (mut world, dir) = world();
    assert_eq!(world.op(put("a", b"mail")), Ok(Reply::Bytes(Vec::new())));
    assert_eq!(world.op(Op::Link { from: target("a"), to: target("b") }), Ok(Reply::Unit));
    assert_eq!(world.op(Op::Link { from: target("a"), to: target("b") }), Err(Fault::Exists));
    assert_eq!(std::fs::metadata(dir.join("a")).unwrap().nlink(), 2);
    assert_eq!(world.op(Op::Rename { from: target("b"), to: target("c") }), Ok(Reply::Unit));
    assert_eq!(world.op(Op::PutLink { place: target("l"), to: b"c".to_vec(), owner: None }), Ok(Reply::Unit));
    assert_eq!(world.op(Op::ReadLink(target("l"))), Ok(Reply::Bytes(b"c".to_vec())));
    let long = world.run(|io| async move {
        let file = io.open(&target("long"), How::Create).await?;
        io.write_at(file, 0, b"long".to_vec()).await?;
        io.attribute(file, Attributes { mtime: Some(Time::from_secs(5)), mode: 0o644, owner: None }).await?;
        io.close(file).await
    });
    assert_eq!(long, Ok(()));
    let stat = std::fs::metadata(dir.join("long")).unwrap();
    assert_eq!((stat.mtime(), stat.mode() & 0o7777), (5, 0o644));
    assert_eq!(world.op(Op::SyncDir(target("."))), Ok(Reply::Unit));
    assert_eq!(world.op(Op::Rename { from: target("a"), to: Place::store("a") }), Err(Fault::Driver));
    if is_root() {
        let owner = Some((12_345, 23_456));
        let attributes = Attributes { owner, mode: 0o600, mtime: None };
        let op = Op::Put { place: target("given"), data: b"x".to_vec(), attributes };
        assert_eq!(world.op(op), Ok(Reply::Bytes(Vec::new())));
        let stat = std::fs::metadata(dir.join("given")).unwrap();
        assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (12_345, 23_456, 0o600));
    }
    std::fs::remove_dir_all(dir.parent().unwrap()).unwrap();
}

#[test]
fn without_a_target_everything_is_refused() {
    let mut world = World::new();
    assert_eq!(world.op(put("a", b"mail")), Err(Fault::Driver));
    assert_eq!(world.op(Op::PutDir { place: Place::store("a"), attributes: DIR }), Err(Fault::Driver));
    let host = world.host("a");
    assert_eq!(world.op(Op::Put { place: host, data: Vec::new(), attributes: PLAIN }), Err(Fault::Driver));
}
