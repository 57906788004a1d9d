//! An archive that is damaged in any number of places, with CRCs that agree to the damage, on the simulated disk: opened, read
//! through every way that readers have, verified, then mended by a writer, twice.
#![no_main]

use cylinder_core::archive::member::{FOOTER_LEN, parse_header};
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::verify::verify;
use cylinder_core::error::Error;
use cylinder_core::io::Io;
use cylinder_core::view;
use cylinder_fuzz::{Source, seal_member};
use cylinder_tests::check::mending_twice_is_once;
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::drive;
use cylinder_tests::story::{archive, checkpoint, dir, mail, reopen, run_with, snapshot, stored};
use libfuzzer_sys::fuzz_target;
use std::cell::Cell;
use std::ops::Range;
use std::sync::OnceLock;

/// Three commits, members stored and not deflated, so that the fuzzer can write into what is inside.
fn sound() -> &'static (Vec<u8>, Vec<Range<usize>>) {
    static SOUND: OnceLock<(Vec<u8>, Vec<Range<usize>>)> = OnceLock::new();
    SOUND.get_or_init(|| {
        let mut disk = SimDisk::new();
        let story = [snapshot(1, vec![mail(1, 300)]), checkpoint(vec![mail(2, 200)]), snapshot(3, vec![mail(3, 250)])];
        let count = Cell::new(0);
        let write = |io: Io| async { run_with(io, &story, &count, &stored(), *b"sixteen bytes id").await };
        drive(&mut disk, write).finished().expect("a run that nothing disturbs");
        let bytes = disk.content(&archive()).expect("the archive").to_vec();
        let (mut members, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let len = parse_header(&bytes[at..]).expect("a sound member").len as usize;
            members.push(at..at + len);
            at += len;
        }
        (bytes, members)
    })
}

/// Changes that the input asks for. With `seal`, the member's CRCs follow.
fn damaged(mut source: Source<'_>) -> Vec<u8> {
    let (bytes, members) = sound();
    let mut bytes = bytes.clone();
    let seal = source.byte() & 1 != 0;
    while !source.is_empty() {
        let at = source.n24() % bytes.len();
        match source.byte() % 4 {
            0 => bytes[at] ^= source.byte(),
            1 => {
                for (to, from) in bytes[at..].iter_mut().zip(source.piece()) {
                    *to = *from;
                }
            }
            2 => bytes.truncate(at.max(1)),
            _ => bytes.extend_from_slice(source.piece()),
        }
    }
    if seal {
        for member in members {
            if let Some(whole) = bytes.get_mut(member.clone()) {
                seal_member(whole);
            }
        }
    }
    bytes
}

/// Everything that a reader can ask for.
async fn read(io: Io) -> Result<(), Error> {
    let reader = Reader::open(&io, &dir()).await?;
    let verdict = verify(&io, &reader, 1).await?;
    if let Ok(snapshots) = view::snapshots(&reader).await {
        for at in snapshots {
            let Ok(table) = reader.table(&at).await else { continue };
            for row in &table.folders {
                let _ = view::folder(&reader, row).await;
            }
        }
    }
    if let Ok(locations) = view::Locations::load(&reader).await {
        assert!(locations.len() < 1000);
    }
    let end = verdict.file_bytes;
    reader.close().await;
    assert!(end <= 1 << 20);
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let bytes = if data.starts_with(&[0x1F, 0x8B]) { data.to_vec() } else { damaged(Source(data)) };
    let had_footer = bytes.len() > FOOTER_LEN;
    let mut disk = SimDisk::new();
    disk.put_file(&archive(), bytes);
    // Damage is an answer, too.
    let _ = drive(&mut disk, read).finished();
    assert_eq!(disk.open_files(), 0);
    if had_footer && drive(&mut disk, reopen).finished().is_ok() {
        mending_twice_is_once(&disk).expect("mending is done once");
    }
});
