//! Ages an archive for benchmarks: `age-archive STORE USER daily N | random PERCENT | oldest PERCENT`.
//!
//! `daily` appends so many snapshots, in each of which every cyrus.index was written anew. `random` and `oldest` append one in
//! which so many percent of the messages are expunged and their files gone.

use cylinder_core::archive::append::{Settings, Writer};
use cylinder_core::archive::record::{CommitFacts, Location, Table};
use cylinder_core::cyrus::index::{Index, Record, emit_index, internal};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Place, Task};
use cylinder_core::store::archive_dir;
use cylinder_tests::choose::{Choose, Sampler};
use cylinder_transport_local::{Config, Local};
use std::collections::BTreeMap;
use std::process::ExitCode;

const META_MAX: u64 = 1 << 30;

/// What is done to each record: its number in the run, and where its message is.
type Change<'a> = dyn FnMut(&mut Record, Option<Location>) + 'a;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let [_, store, user, how, number] = &words[..] else { return usage() };
    let (Ok(number), true) = (number.parse::<u32>(), matches!(&how[..], "daily" | "random" | "oldest")) else { return usage() };
    let dir = archive_dir(&Owner::User(user.as_bytes().to_vec()));
    let mut driver = Local::new(Config { store: store.into(), threads: 2, ..Config::default() });
    let result = dir.and_then(|dir| {
        let procedure = |io: Io| async move {
            match &how[..] {
                "daily" => daily(&io, &dir, number).await,
                "random" => random(&io, &dir, number).await,
                _ => oldest(&io, &dir, number).await,
            }
        };
        driver.run(Task::new(Local::now(), procedure), &mut |_| ())
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("age-archive: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: age-archive STORE USER daily N | random PERCENT | oldest PERCENT");
    ExitCode::from(2)
}

async fn daily(io: &Io, dir: &Place, days: u32) -> Result<(), Error> {
    for _ in 0..days {
        snapshot(io, dir, &mut |record, _| record.modseq = record.modseq.map(|m| m + 1)).await?;
    }
    Ok(())
}

async fn random(io: &Io, dir: &Place, percent: u32) -> Result<(), Error> {
    let mut chance = Sampler::new(1);
    let unlinked = internal::EXPUNGED | internal::UNLINKED;
    snapshot(io, dir, &mut |record, _| {
        if chance.upto(99) < percent {
            record.internal_flags |= unlinked;
        }
    })
    .await
}

/// The oldest are those that stand first in the archive.
async fn oldest(io: &Io, dir: &Place, percent: u32) -> Result<(), Error> {
    let end = {
        let writer = open(io, dir).await?;
        let mut messages = writer.all_messages().await?.0;
        messages.sort_by_key(|m| m.at);
        let at = messages.len() * percent as usize / 100;
        let end = messages.get(at).map_or(Location { member: u64::MAX, inside: 0 }, |m| m.at);
        writer.close().await;
        end
    };
    let unlinked = internal::EXPUNGED | internal::UNLINKED;
    snapshot(io, dir, &mut |record, at| {
        if at.is_some_and(|at| at < end) {
            record.internal_flags |= unlinked;
        }
    })
    .await
}

async fn open(io: &Io, dir: &Place) -> Result<Writer, Error> {
    let settings =
        Settings { level: 1, check: false, ahead: 4, checkpoint_bytes: u64::MAX, software: String::from("age-archive") };
    Writer::open(io, dir, &settings, [0; 16]).await
}

/// Appends a snapshot in which every index is written anew, its records changed.
async fn snapshot(io: &Io, dir: &Place, change: &mut Change<'_>) -> Result<(), Error> {
    let mut writer = open(io, dir).await?;
    let result = append(io, &mut writer, change).await;
    writer.close().await;
    result
}

async fn append(io: &Io, writer: &mut Writer, change: &mut Change<'_>) -> Result<(), Error> {
    let mut table: Table = writer.newest_table().await?.0;
    let places: BTreeMap<Guid, Location> = writer.all_messages().await?.0.into_iter().map(|m| (m.guid, m.at)).collect();
    for row in &mut table.folders {
        let dir = String::from_utf8_lossy(&row.id).into_owned();
        let Some(file) = row.files.iter_mut().find(|file| file.name == "cyrus.index") else { continue };
        let Some(at) = file.at.location() else { continue };
        let bytes = writer.read_entry(at, META_MAX).await?;
        let index = Index::parse(&bytes)?;
        let mut records = Vec::new();
        for record in index.records() {
            let mut record = record?;
            let place = places.get(&record.guid).copied();
            change(&mut record, place);
            records.push(record);
        }
        let bytes = emit_index(index.header(), &records)?;
        file.sha1 = Guid::of(&bytes);
        file.at = writer.file(format!("folders/{dir}/cyrus.index").as_bytes(), io.now(), &bytes, file.sha1).await?;
    }
    let facts =
        CommitFacts { time: io.now(), source: String::from("age-archive"), cyrus: String::new(), standing: None, dead: 0 };
    writer.commit(table, facts).await.map(drop)
}
