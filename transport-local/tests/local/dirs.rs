//! Listing, making, renaming, removing.

use crate::{World, store};
use cylinder_core::error::Fault;
use cylinder_core::io::{FileKind, Op, Place, Reply};
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

#[test]
fn a_list_is_sorted_by_bytes_and_tells_kinds() {
    let mut world = World::new();
    fs::write(world.host_path("b"), b"").unwrap();
    fs::write(world.host_path("B"), b"").unwrap();
    fs::write(world.host_path("a\u{e4}"), b"").unwrap();
    fs::write(world.host_path("10."), b"").unwrap();
    fs::create_dir(world.host_path("dir")).unwrap();
    symlink("dir", world.host_path("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(world.host_path("socket")).unwrap();
    let dir = world.host(".");
    let Ok(Reply::Names(names)) = world.op(Op::List { dir: dir.clone(), max: 7 }) else { panic!("names") };
    let shown: Vec<_> = names.iter().map(|e| (std::str::from_utf8(&e.name).unwrap(), e.kind)).collect();
    assert_eq!(
        shown,
        [
            ("10.", FileKind::Regular),
            ("B", FileKind::Regular),
            ("a\u{e4}", FileKind::Regular),
            ("b", FileKind::Regular),
            ("dir", FileKind::Directory),
            ("link", FileKind::Link),
            ("socket", FileKind::Other),
        ]
    );
    assert_eq!(world.op(Op::List { dir, max: 6 }), Err(Fault::TooLarge));
}

#[test]
fn a_large_directory_is_listed_whole() {
    let mut world = World::new();
    for n in 0..3000 {
        fs::write(world.host_path(&format!("{n}.")), b"").unwrap();
    }
    let Ok(Reply::Names(names)) = world.op(Op::List { dir: world.host("."), max: 5000 }) else { panic!("names") };
    assert_eq!(names.len(), 3000);
    assert!(names.windows(2).all(|pair| pair[0].name < pair[1].name));
}

#[test]
fn what_is_no_directory_is_not_listed() {
    let mut world = World::new();
    fs::write(world.host_path("file"), b"").unwrap();
    let list = |world: &mut World, dir| world.op(Op::List { dir, max: 9 });
    let (file, under, none) = (world.host("file"), world.host("file/under"), world.host("none"));
    assert_eq!(list(&mut world, file), Err(Fault::WrongKind));
    assert_eq!(list(&mut world, under), Err(Fault::NotFound));
    assert_eq!(list(&mut world, none), Err(Fault::NotFound));
    assert_eq!(list(&mut world, store(".")), Ok(Reply::Names(Vec::new())));
}

#[test]
fn the_target_of_a_link_is_read() {
    let mut world = World::new();
    let target = "../".repeat(200);
    symlink(&target, world.host_path("link")).unwrap();
    fs::write(world.host_path("file"), b"").unwrap();
    assert_eq!(world.op(Op::ReadLink(world.host("link"))), Ok(Reply::Bytes(target.into_bytes())));
    assert_eq!(world.op(Op::ReadLink(world.host("file"))), Err(Fault::WrongKind));
    assert_eq!(world.op(Op::ReadLink(world.host("none"))), Err(Fault::NotFound));
}

#[test]
fn directories_are_made_with_those_above_and_are_private() {
    let mut world = World::new();
    for path in ["a/b/c", "a/b/c", "a/b/d/", "./e//f", "."] {
        assert_eq!(world.op(Op::MakeDir(store(path))), Ok(Reply::Unit), "{path}");
    }
    for path in ["a", "a/b", "a/b/c", "a/b/d", "e", "e/f"] {
        assert_eq!(fs::metadata(world.store_path(path)).unwrap().mode() & 0o7777, 0o700, "{path}");
    }
    assert_eq!(world.op(Op::SyncDir(store("a/b"))), Ok(Reply::Unit));
    assert_eq!(world.op(Op::SyncDir(store("none"))), Err(Fault::NotFound));
}

#[test]
fn a_file_in_place_of_a_directory_is_told() {
    let mut world = World::new();
    fs::write(world.store_path("file"), b"").unwrap();
    symlink("nowhere", world.store_path("dangling")).unwrap();
    assert_eq!(world.op(Op::MakeDir(store("file"))), Err(Fault::WrongKind));
    assert_eq!(world.op(Op::MakeDir(store("file/under"))), Err(Fault::NotFound));
    assert_eq!(world.op(Op::MakeDir(store("dangling"))), Err(Fault::Dangling));
    assert_eq!(world.op(Op::SyncDir(store("file"))), Err(Fault::WrongKind));
}

#[test]
fn names_are_replaced_and_removed() {
    let mut world = World::new();
    fs::write(world.store_path("new"), b"new").unwrap();
    fs::write(world.store_path("old"), b"old").unwrap();
    fs::create_dir(world.store_path("dir")).unwrap();
    assert_eq!(world.op(Op::Rename { from: store("new"), to: store("old") }), Ok(Reply::Unit));
    assert_eq!(fs::read(world.store_path("old")).unwrap(), b"new");
    assert!(!world.store_path("new").exists());
    assert_eq!(world.op(Op::Rename { from: store("new"), to: store("old") }), Err(Fault::NotFound));
    assert_eq!(world.op(Op::Rename { from: store("old"), to: store("dir") }), Err(Fault::WrongKind));
    assert_eq!(world.op(Op::Unlink(store("dir"))), Err(Fault::WrongKind));
    assert_eq!(world.op(Op::Unlink(store("old"))), Ok(Reply::Unit));
    assert_eq!(world.op(Op::Unlink(store("old"))), Err(Fault::NotFound));
}

#[test]
fn what_the_kernel_forbids_is_denied() {
    let mut world = World::new();
    // sysfs takes no files and no directories from anybody.
    for path in ["/sys/kernel/cylinder-test.lock", "/sys/kernel/cylinder-test/a.lock"] {
        let op = Op::Open { place: Place::host(path), how: cylinder_core::io::How::Lock };
        assert_eq!(world.op(op), Err(Fault::Denied), "{path}");
    }
}
