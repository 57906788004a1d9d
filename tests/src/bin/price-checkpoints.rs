//! What checkpoints cost a first run: `price-checkpoints ROOT USER STORE [ROUNDS]` backs up a user of the spool below ROOT (of
//! `make-spool`, say) again and again into empty stores below STORE, in turns with checkpoints as they are, with four times as
//! many, and with none, and prints medians: CPU-seconds, seconds, bytes.

use cylinder_core::archive::append;
use cylinder_core::backup::{Settings, run};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::io::{Io, Task};
use cylinder_core::pull::Origin;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::store::archive_dir;
use cylinder_transport_local::{Config, Local};
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// Bytes of content after which a checkpoint is due.
const EVERY: [(&str, u64); 3] = [
    ("as it is", append::Settings::CHECKPOINT_BYTES),
    ("four times as many", append::Settings::CHECKPOINT_BYTES / 4),
    ("none", u64::MAX),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    let (root, user, store, rounds) = match &words[..] {
        [_, root, user, store] => (root, user, store, Some(5)),
        [_, root, user, store, rounds] => (root, user, store, rounds.parse().ok()),
        _ => return usage(),
    };
    let Some(rounds) = rounds.filter(|rounds| *rounds > 0) else { return usage() };
    match measure(Path::new(root), user, Path::new(store), rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("price-checkpoints: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: price-checkpoints ROOT USER STORE [ROUNDS]");
    ExitCode::from(2)
}

fn measure(root: &Path, user: &str, store: &Path, rounds: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut seen = vec![Vec::new(); EVERY.len()];
    for _ in 0..rounds {
        for (samples, (_, bytes)) in seen.iter_mut().zip(EVERY) {
            let dir = tempfile::tempdir_in(store)?;
            let (cpu, begun) = (cpu_seconds(), Instant::now());
            let length = backup(root, user, dir.path(), bytes)?;
            samples.push((cpu_seconds() - cpu, begun.elapsed().as_secs_f64(), length));
        }
    }
    for ((name, _), mut samples) in EVERY.into_iter().zip(seen) {
        samples.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (cpu, wall, length) = samples[samples.len() / 2];
        println!("checkpoints: {name}: {cpu:.2} CPU-s, {wall:.2} s, {length} bytes");
    }
    Ok(())
}

/// Length of the archive.
fn backup(root: &Path, user: &str, store: &Path, checkpoint_bytes: u64) -> Result<u64, Error> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let archive = append::Settings {
        level: 1,
        check: true,
        ahead: 2 * threads + 1,
        checkpoint_bytes,
        software: String::from("price-checkpoints"),
    };
    let settings = Settings { archive, source: String::from("local:"), adopt: false, archive_id: [0; 16], read_rate: 0 };
    let owner = Owner::User(user.as_bytes().to_vec());
    let config = Config { root: Some(root.to_path_buf()), store: store.to_path_buf(), threads, ..Config::default() };
    let mut driver = Local::new(config);
    let procedure = |io: Io| async move {
        let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
        let mut site = Site::open(&io, conf, None, Locking::Offline, Patience::default()).await?;
        run(&io, &mut Origin::Local(&mut site), &owner, &archive_dir(&owner)?, &settings).await
    };
    let task = Task::new(driver.begin(), procedure);
    Ok(driver.run(task, &mut |_| ())?.archive_bytes)
}

/// What this process has used, in all its threads.
fn cpu_seconds() -> f64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
}
