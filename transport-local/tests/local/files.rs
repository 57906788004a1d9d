//! Stat, opening, reading and writing, and what stands in place of files.

use crate::{World, is_root, store};
use cylinder_core::error::Fault;
use cylinder_core::io::{FileId, FileKind, How, Op, Place, Reply, Stat, Tuple};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

const EBADF: Fault = Fault::Os(9);
const EEXIST: Fault = Fault::Exists;
const EINVAL: Fault = Fault::Os(22);

fn read_whole(world: &mut World, place: Place, max: u64) -> Result<Vec<u8>, Fault> {
    world.run(|io| async move { io.read_whole(&place, max, b"old".to_vec()).await.map(|(bytes, _)| bytes) })
}

fn mkfifo(path: &std::path::Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn check_stat(stat: Stat, path: &std::path::Path) {
    let m = fs::metadata(path).unwrap();
    assert_eq!((stat.dev, stat.ino, stat.size, u64::from(stat.nlink)), (m.dev(), m.ino(), m.size(), m.nlink()));
    assert_eq!((stat.mode, stat.uid, stat.gid), (m.mode() & 0o7777, m.uid(), m.gid()));
    assert_eq!(stat.mtime.0, m.mtime() * 1_000_000_000 + m.mtime_nsec());
    assert_eq!(stat.ctime.0, m.ctime() * 1_000_000_000 + m.ctime_nsec());
}

#[test]
fn stat_tells_what_the_kernel_does() {
    let mut world = World::new();
    let path = world.host_path("file");
    fs::write(&path, b"12345").unwrap();
    fs::hard_link(&path, world.host_path("second")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o4640)).unwrap();
    let old = std::time::UNIX_EPOCH - std::time::Duration::from_nanos(1_500_000_001);
    fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let place = world.host("file");
    let (named, open) = world.run(|io| async move {
        let named = io.stat(&place).await.unwrap();
        let file = io.open(&place, How::Read).await.unwrap();
        (named, io.fstat(file).await.unwrap())
    });
    assert_eq!(named.kind, FileKind::Regular);
    assert_eq!(named.mtime.0, -1_500_000_001);
    check_stat(named, &path);
    assert_eq!(Tuple::from(open), Tuple::from(named));
}

#[test]
fn stat_follows_links_and_knows_kinds() {
    let mut world = World::new();
    symlink("/dev/null", world.host_path("link")).unwrap();
    symlink("nowhere", world.host_path("dangling")).unwrap();
    let places = ["link", "dangling", ".", "none"].map(|name| world.host(name)).to_vec();
    let Ok(Reply::Stats(stats)) = world.op(Op::StatMany(places)) else { panic!("stats") };
    let kinds: Vec<_> = stats.into_iter().map(|s| s.map(|s| s.kind)).collect();
    assert_eq!(kinds, [Ok(FileKind::Other), Err(Fault::NotFound), Ok(FileKind::Directory), Err(Fault::NotFound)]);
    assert_eq!(world.op(Op::StatMany(Vec::new())), Ok(Reply::Stats(Vec::new())));
}

#[test]
fn one_bad_place_among_many_does_not_spoil_the_others() {
    let mut world = World::new();
    fs::write(world.store_path("a"), b"a").unwrap();
    fs::write(world.host_path("f"), b"f").unwrap();
    let places = vec![store("../a"), store("a"), world.host("f/under"), Place::host("relative"), world.host("f")];
    let Ok(Reply::Stats(stats)) = world.op(Op::StatMany(places)) else { panic!("stats") };
    let sizes: Vec<_> = stats.into_iter().map(|s| s.map(|s| s.size)).collect();
    assert_eq!(sizes, [Err(Fault::Driver), Ok(1), Err(Fault::NotFound), Err(Fault::Driver), Ok(1)]);
}

#[test]
fn names_that_cannot_be_are_faults() {
    let mut world = World::new();
    let nul = world.host("a\0b");
    assert_eq!(world.op(Op::Stat(nul.clone())), Err(Fault::NotFound));
    assert_eq!(world.op(Op::ReadLink(nul.clone())), Err(Fault::NotFound));
    assert_eq!(world.op(Op::List { dir: nul.clone(), max: 1 }), Err(Fault::NotFound));
    assert_eq!(world.op(Op::Open { place: nul, how: How::Lock }), Err(Fault::NotFound));
    assert_eq!(world.op(Op::MakeDir(store("a\0b"))), Err(Fault::NotFound));
    // ENAMETOOLONG
    assert_eq!(world.op(Op::Stat(store(&"n".repeat(300)))), Err(Fault::Os(36)));
    assert_eq!(world.op(Op::Stat(store(&"n/".repeat(3000)))), Err(Fault::Os(36)));
}

#[test]
fn long_paths_and_names_of_any_bytes_are_read() {
    let mut world = World::new();
    let dir = format!("{}/{}", "d".repeat(200), "e".repeat(200));
    fs::create_dir_all(world.host_path(&dir)).unwrap();
    let mut place = world.host(&dir);
    place.path.extend_from_slice(b"/\xff\x01 \n");
    fs::write(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&place.path), b"here").unwrap();
    assert_eq!(read_whole(&mut world, place, 10), Ok(b"here".to_vec()));
}

#[test]
fn only_regular_files_are_opened_and_nothing_blocks() {
    let mut world = World::new();
    mkfifo(&world.host_path("fifo"));
    mkfifo(&world.store_path("fifo"));
    fs::create_dir(world.host_path("dir")).unwrap();
    fs::create_dir(world.store_path("dir")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(world.host_path("socket")).unwrap();
    for place in
        [world.host("fifo"), world.host("dir"), world.host("socket"), Place::host("/dev/null"), store("fifo"), store("dir")]
    {
        for how in [How::Read, How::Lock] {
            assert_eq!(world.op(Op::Open { place: place.clone(), how }), Err(Fault::WrongKind), "{place:?} {how:?}");
        }
        assert_eq!(read_whole(&mut world, place, 10), Err(Fault::WrongKind));
    }
    for name in ["fifo", "dir"] {
        assert_eq!(world.op(Op::Open { place: store(name), how: How::Write }), Err(Fault::WrongKind));
        assert_eq!(world.op(Op::Open { place: store(name), how: How::Create }), Err(EEXIST));
    }
    drop(socket);
}

#[test]
fn links_are_followed_on_the_host_and_refused_in_the_store() {
    let mut world = World::new();
    fs::write(world.host_path("file"), b"content").unwrap();
    symlink("file", world.host_path("link")).unwrap();
    symlink(world.host_path("file"), world.store_path("link")).unwrap();
    symlink("nowhere", world.store_path("dangling")).unwrap();
    let link = world.host("link");
    assert_eq!(read_whole(&mut world, link, 10), Ok(b"content".to_vec()));
    assert_eq!(read_whole(&mut world, store("link"), 10), Err(Fault::WrongKind));
    for how in [How::Read, How::Write, How::Lock] {
        assert_eq!(world.op(Op::Open { place: store("link"), how }), Err(Fault::WrongKind), "{how:?}");
    }
    for name in ["link", "dangling"] {
        assert_eq!(world.op(Op::Open { place: store(name), how: How::Create }), Err(EEXIST));
    }
    let link = world.host("link");
    assert_eq!(world.op(Op::Open { place: link, how: How::Lock }), Err(Fault::WrongKind));
    assert!(!world.store_path("nowhere").exists());
}

#[test]
fn the_host_is_never_written() {
    let mut world = World::new();
    fs::write(world.host_path("file"), b"content").unwrap();
    let (file, dir) = (world.host("file"), world.host("dir"));
    fs::write(world.store_path("ours"), b"ours").unwrap();
    for op in [
        Op::Open { place: file.clone(), how: How::Write },
        Op::Open { place: world.host("new"), how: How::Create },
        Op::MakeDir(dir.clone()),
        Op::SyncDir(world.host(".")),
        Op::Unlink(file.clone()),
        Op::Rename { from: file.clone(), to: store("x") },
        Op::Rename { from: store("ours"), to: file.clone() },
    ] {
        let shown = format!("{op:?}");
        assert_eq!(world.op(op), Err(Fault::Driver), "{shown}");
    }
    let faults = world.run(|io| async move {
        let mut faults = Vec::new();
        for how in [How::Read, How::Lock] {
            let id = io.open(&file, how).await.unwrap();
            faults.push(io.write_at(id, 0, b"x".to_vec()).await.map(drop));
            faults.push(io.truncate(id, 0).await);
            faults.push(io.sync(id).await);
        }
        faults
    });
    assert_eq!(faults, [Err(Fault::Driver); 6]);
    assert_eq!(fs::read(world.host_path("file")).unwrap(), b"content");
    assert_eq!(fs::read_dir(world.host_path(".")).unwrap().count(), 1);
}

#[test]
fn paths_that_leave_the_store_are_refused() {
    let mut world = World::new();
    fs::write(world.host_path("file"), b"content").unwrap();
    for path in ["../host/file", "/etc/passwd", "", "a/../../host/file"] {
        for op in [
            Op::Stat(store(path)),
            Op::List { dir: store(path), max: 9 },
            Op::ReadLink(store(path)),
            Op::ReadWhole { place: store(path), max: 9, buffer: Vec::new() },
            Op::Open { place: store(path), how: How::Create },
            Op::Open { place: store(path), how: How::Lock },
            Op::MakeDir(store(path)),
            Op::SyncDir(store(path)),
            Op::Unlink(store(path)),
            Op::Rename { from: store(path), to: store("a") },
            Op::Rename { from: store("a"), to: store(path) },
        ] {
            let shown = format!("{op:?}");
            assert_eq!(world.op(op), Err(Fault::Driver), "{shown}");
        }
    }
    assert!(world.host_path("file").exists());
}

#[test]
fn what_is_written_is_read() {
    let mut world = World::new();
    world.run(|io| async move {
        let id = io.open(&store("file"), How::Create).await.unwrap();
        let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let buffer = io.write_at(id, 5, data.clone()).await.unwrap();
        assert!(buffer.is_empty() && buffer.capacity() >= data.len());
        let all = io.read_at(id, 0, 4_000_000, buffer).await.unwrap();
        assert_eq!(all.len(), 3_000_005);
        assert_eq!((&all[..5], &all[5..]), (&[0; 5][..], &data[..]));
        assert_eq!(io.read_at(id, 7, 3, b"longer than that".to_vec()).await.unwrap(), data[2..5]);
        assert_eq!(io.read_at(id, 3_000_004, 100, Vec::new()).await.unwrap().len(), 1);
        assert_eq!(io.read_at(id, 3_000_005, 100, b"old".to_vec()).await.unwrap(), b"");
        assert_eq!(io.read_at(id, 9_000_000, 1, Vec::new()).await.unwrap(), b"");
        assert_eq!(io.read_at(id, 0, 0, b"old".to_vec()).await.unwrap(), b"");
        assert_eq!(io.read_at(id, u64::MAX, 1, Vec::new()).await, Err(EINVAL));
        assert_eq!(io.write_at(id, u64::MAX, b"x".to_vec()).await, Err(EINVAL));
        io.truncate(id, 7).await.unwrap();
        io.sync(id).await.unwrap();
        assert_eq!(io.fstat(id).await.unwrap().size, 7);
        assert_eq!(io.close(id).await, Ok(()));
        assert_eq!(io.close(id).await, Err(EBADF));
        assert_eq!(io.fstat(id).await, Err(EBADF));
        let again = io.open(&store("file"), How::Write).await.unwrap();
        assert_ne!(again, id);
        io.write_at(again, 7, b"!".to_vec()).await.unwrap();
    });
    let path = world.store_path("file");
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read(path).unwrap(), b"\0\0\0\0\0\0\x01!");
}

#[test]
fn a_length_that_no_file_has_allocates_only_what_is_there() {
    let mut world = World::new();
    fs::write(world.store_path("short"), b"short").unwrap();
    let bytes = world.run(|io| async move {
        let id = io.open(&store("short"), How::Read).await.unwrap();
        io.read_at(id, 0, usize::MAX / 2, Vec::new()).await.unwrap()
    });
    assert_eq!(bytes, b"short");
    assert!(bytes.capacity() < 4 << 20);
}

#[test]
fn opening_to_write_wants_the_file_and_creating_wants_none() {
    let mut world = World::new();
    assert_eq!(world.op(Op::Open { place: store("file"), how: How::Write }), Err(Fault::NotFound));
    assert_eq!(world.op(Op::Open { place: store("file"), how: How::Read }), Err(Fault::NotFound));
    assert!(world.op(Op::Open { place: store("file"), how: How::Create }).is_ok());
    assert_eq!(world.op(Op::Open { place: store("file"), how: How::Create }), Err(EEXIST));
    assert!(world.op(Op::Open { place: store("file"), how: How::Write }).is_ok());
    assert_eq!(world.op(Op::Open { place: store("file/x"), how: How::Create }), Err(Fault::NotFound));
    assert_eq!(world.op(Op::FStat(FileId(1))), Err(EBADF));
}

#[test]
fn whole_files_are_read_up_to_the_limit() {
    let mut world = World::new();
    for len in [0, 1, 4096, 3 << 20] {
        let content = vec![b'm'; len];
        fs::write(world.host_path("file"), &content).unwrap();
        let place = world.host("file");
        assert!(read_whole(&mut world, place.clone(), len as u64) == Ok(content));
        if len > 0 {
            assert_eq!(read_whole(&mut world, place, len as u64 - 1), Err(Fault::TooLarge));
        }
    }
    let place = world.host("file");
    let Ok(Reply::Whole(_, stat)) = world.op(Op::ReadWhole { place, max: u64::MAX, buffer: Vec::new() }) else {
        panic!("whole")
    };
    check_stat(stat, &world.host_path("file"));
}

#[test]
fn a_file_longer_than_its_stat_says_is_read_to_its_end() {
    // Files of proc have length 0 and content: the same as a file that grows between the stat and the reading.
    let mut world = World::new();
    let place = Place::host("/proc/version");
    let expected = fs::read("/proc/version").unwrap();
    assert_eq!(read_whole(&mut world, place.clone(), 1 << 20), Ok(expected.clone()));
    assert_eq!(read_whole(&mut world, place.clone(), expected.len() as u64), Ok(expected.clone()));
    assert_eq!(read_whole(&mut world, place, expected.len() as u64 - 1), Err(Fault::TooLarge));
}

#[test]
fn a_buffer_is_used_again() {
    let mut world = World::new();
    fs::write(world.store_path("file"), b"content").unwrap();
    let buffer = Vec::with_capacity(100_000);
    let address = buffer.as_ptr();
    let back = world.run(|io| async move { io.read_whole(&store("file"), 100, buffer).await.unwrap().0 });
    assert_eq!((back.as_ptr(), back.as_slice()), (address, &b"content"[..]));
}

#[test]
fn reading_leaves_no_trace() {
    let mut world = World::new();
    fs::write(world.host_path("file"), b"content").unwrap();
    // Two days ago: with `relatime` the next reading would set it.
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(200_000);
    let times = fs::FileTimes::new().set_accessed(old).set_modified(old);
    fs::File::options().write(true).open(world.host_path("file")).unwrap().set_times(times).unwrap();
    let before = fs::metadata(world.host_path("file")).unwrap().accessed().unwrap();
    let place = world.host("file");
    read_whole(&mut world, place, 10).unwrap();
    assert_eq!(fs::metadata(world.host_path("file")).unwrap().accessed().unwrap(), before);
}

#[test]
fn scratch_files_have_no_name_and_are_private() {
    let mut world = World::new();
    let (stat, bytes) = world.run(|io| async move {
        let id = io.scratch().await.unwrap();
        io.write_at(id, 1 << 20, b"far".to_vec()).await.unwrap();
        (io.fstat(id).await.unwrap(), io.read_at(id, (1 << 20) - 1, 10, Vec::new()).await.unwrap())
    });
    assert_eq!((stat.mode, stat.nlink, stat.kind), (0o600, 0, FileKind::Regular));
    assert_eq!(stat.dev, fs::metadata(world.store_path(".")).unwrap().dev());
    assert_eq!(bytes, b"\0far");
    assert_eq!(fs::read_dir(world.store_path(".")).unwrap().count(), 0);
}

#[test]
fn without_a_store_there_are_scratch_files_and_a_clock_and_nothing_else() {
    let mut world = World::with(|mut config| {
        config.store.push("missing");
        config
    });
    assert!(matches!(world.op(Op::Scratch), Ok(Reply::File(_))));
    assert!(matches!(world.op(Op::Clock), Ok(Reply::Clock(..))));
    assert_eq!(world.op(Op::Stat(store("a"))), Err(Fault::NotFound));
    assert_eq!(world.op(Op::MakeDir(store("a"))), Err(Fault::NotFound));
    assert!(!world.store_path("missing").exists());
}

#[test]
fn a_root_is_put_before_every_host_path() {
    let mut root = std::path::PathBuf::new();
    let mut world = World::with(|mut config| {
        root = config.store.with_file_name("host");
        config.root = Some(root.clone());
        config
    });
    fs::create_dir_all(root.join("var/spool")).unwrap();
    fs::write(root.join("var/spool/1."), b"mail").unwrap();
    assert_eq!(read_whole(&mut world, Place::host("/var/spool/1."), 10), Ok(b"mail".to_vec()));
    assert_eq!(read_whole(&mut world, Place::host("//var//spool/1."), 10), Ok(b"mail".to_vec()));
    let Ok(Reply::Names(names)) = world.op(Op::List { dir: Place::host("/"), max: 5 }) else { panic!("names") };
    assert_eq!(names.len(), 1);
    assert!(world.op(Op::Open { place: Place::host("/run/lock/a.lock"), how: How::Lock }).is_ok());
    assert!(root.join("run/lock/a.lock").exists());
    assert!(world.op(Op::Open { place: Place::host("/top.lock"), how: How::Lock }).is_ok());
    assert!(root.join("top.lock").exists());
}

#[test]
fn a_full_disk_is_no_space() {
    let dir = tempfile::tempdir().unwrap();
    let mount = |args: &[&str]| Command::new("mount").args(args).arg(dir.path()).output().is_ok_and(|o| o.status.success());
    if !is_root() || !mount(&["-t", "tmpfs", "-o", "size=64k", "tmpfs"]) {
        return;
    }
    let mut local = cylinder_transport_local::Local::new(cylinder_transport_local::Config {
        store: dir.path().into(),
        ..Default::default()
    });
    let result = crate::run(&mut local, |io| async move {
        let id = io.open(&store("file"), How::Create).await.unwrap();
        io.write_at(id, 0, vec![1; 1 << 20]).await
    });
    drop(local);
    assert!(Command::new("umount").arg(dir.path()).status().unwrap().success());
    assert_eq!(result, Err(Fault::NoSpace));
}
