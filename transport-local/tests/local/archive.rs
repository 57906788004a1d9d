//! The core's archive on real files, read back by the core and by GNU tar.

use crate::{World, store};
use cylinder_core::archive::append::{Settings, Writer};
use cylinder_core::archive::read::{End, Reader};
use cylinder_core::archive::record::{CommitFacts, Table};
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::Io;
use cylinder_core::time::Time;
use cylinder_transport_local::Config;
use std::process::Command;

const SIZES: [usize; 12] = [0, 1, 511, 512, 513, 4_000, 65_535, 65_536, 262_144, 1 << 20, (1 << 20) + 1, 5 << 20];

fn settings() -> Settings {
    Settings { level: 6, check: true, ahead: 4, checkpoint_bytes: Settings::CHECKPOINT_BYTES, software: "test 0".into() }
}

fn facts(secs: i64) -> CommitFacts {
    CommitFacts { time: Time::from_secs(secs), source: "here".into(), cyrus: "3.6.1".into(), standing: None, dead: 0 }
}

fn message(size: usize) -> Vec<u8> {
    (0..size).map(|n| b"From: anna@example.org\r\n"[n % 24].wrapping_add((n / 7919) as u8)).collect()
}

async fn append(io: &Io, sizes: &[usize], secs: i64) {
    let mut writer = Writer::open(io, &store("aa/anna"), &settings(), [7; 16]).await.unwrap();
    for &size in sizes {
        let content = message(size);
        writer.message(Guid::of(&content), Time::from_secs(secs), &content).await.unwrap();
    }
    writer.commit(Table::default(), facts(secs)).await.unwrap();
    writer.close().await;
}

async fn check_all(io: &Io) {
    let reader = Reader::open(io, &store("aa/anna")).await.unwrap();
    assert_eq!(reader.end(), End::Footer);
    for size in SIZES {
        let content = message(size);
        let found = reader.locate(&Guid::of(&content)).await.unwrap().unwrap();
        assert_eq!(found.size, size as u64);
        assert!(reader.read_entry(found.at, 1 << 30).await.unwrap() == content, "message of {size} bytes");
    }
    reader.close().await;
}

#[test]
fn an_archive_is_written_reopened_and_read() {
    for threads in [0, 2] {
        let mut world = World::with(|config| Config { threads, ..config });
        world.run(|io| async move { append(&io, &SIZES[..7], 1_000_000_000).await });
        world.run(|io| async move { append(&io, &SIZES[7..], 1_100_000_000).await });
        world.run(|io| async move { check_all(&io).await });
        check_with_tar(&world.store_path("aa/anna/archive.tar.gz"));
        let mut names: Vec<_> =
            std::fs::read_dir(world.store_path("aa/anna")).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["archive.tar.gz", "lock"]);
    }
}

fn check_with_tar(archive: &std::path::Path) {
    let tar = |args: &[&str]| {
        let output = Command::new("tar").args(args).arg(archive).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let names = String::from_utf8(tar(&["-tzf"])).unwrap();
    for size in SIZES {
        let name = format!("files/{}", Guid::of(&message(size)));
        assert_eq!(names.lines().filter(|line| *line == name).count(), 1, "{size}");
    }
    let content = message(5 << 20);
    let output = Command::new("tar").arg("-xzOf").arg(archive).arg(format!("files/{}", Guid::of(&content))).output().unwrap();
    assert!(output.stdout == content);
}

#[test]
fn a_run_that_was_cut_off_is_mended() {
    let mut world = World::with(|config| Config { threads: 2, ..config });
    world.run(|io| async move { append(&io, &SIZES, 1_000_000_000).await });
    let path = world.store_path("aa/anna/archive.tar.gz");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() - 10]).unwrap();
    world.run(|io| async move { append(&io, &[77], 1_100_000_000).await });
    world.run(|io| async move { check_all(&io).await });
    check_with_tar(&path);
}

#[test]
fn a_second_writer_is_told_that_the_archive_is_busy() {
    let mut world = World::new();
    let mut other = World::with(|config| Config { store: world.store_path("."), ..config });
    let refused = world.run(|io| async move {
        let writer = Writer::open(&io, &store("aa/anna"), &settings(), [7; 16]).await.unwrap();
        let refused =
            other.run(|io| async move { Writer::open(&io, &store("aa/anna"), &settings(), [8; 16]).await.map(|_| ()) });
        writer.close().await;
        refused
    });
    assert_eq!(refused, Err(Error::Busy { object: "aa/anna/archive.tar.gz".into(), holder: Some("another process".into()) }));
}
