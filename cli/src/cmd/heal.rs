//! `cylinder heal`

use super::compact::archive_settings;
use crate::alarm;
use crate::args::Heal;
use crate::exit::Exit;
use crate::fleet::STALL;
use crate::fleet::plan::From;
use crate::host::{self, HostOptions, Outcome, Trouble, owner_shown};
use crate::output::{self, Progress, count};
use cylinder_core::backup::Settings;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::{Error, Fault};
use cylinder_core::guid::Guid;
use cylinder_core::io::{Event, Io};
use cylinder_core::pull::Origin;
use cylinder_core::pull::native::{Greeted, connect};
use cylinder_core::pull::stock;
use cylinder_core::repair::heal::{self, Healed};
use cylinder_core::store::archive_dir;
use cylinder_core::wire::ANSWER_LINE_MAX;
use cylinder_core::wire::stream::Limits;
use cylinder_transport_local::{Config, Local};
use cylinder_transport_ssh::{Hub, Ssh};
use serde_json::json;
use std::path::Path;

/// Heals one archive.
pub fn run(args: &Heal) -> Outcome {
    let store = host::store(&args.store)?;
    let threads = host::threads(None);
    let owner = host::owner(&args.user);
    let who = owner_shown(&owner);
    let settings = Settings {
        archive: archive_settings(None, threads),
        source: args.from.clone().unwrap_or_default(),
        archive_id: host::chance()?,
        adopt: false,
        read_rate: 0,
    };
    let mut progress = Progress::new(args.quiet || args.json);
    let mut on_event = |event| progress.on(&who, &event);
    let result = match &args.from {
        None => local(args, &store, threads, &owner, settings, &mut on_event)?,
        Some(from) => remote(args, from, &store, threads, &owner, &settings, &mut on_event)?,
    };
    progress.clear();
    let healed = match result {
        Err(Error::World { fault: Fault::NotFound, doing: "open", .. }) => {
            Err(Error::Refused(format!("{who}: has no archive in this store; `cylinder users --store` lists who has")))
        }
        other => other,
    }?;
    tell(args, &who, &healed)
}

fn local(
    args: &Heal,
    store: &Path,
    threads: usize,
    owner: &Owner,
    settings: Settings,
    on_event: &mut dyn FnMut(Event),
) -> Result<Result<Healed, Error>, Trouble> {
    let host = HostOptions::new(&args.imapd_conf, &args.root, &args.cyrus, args.offline)?;
    let settings = Settings { source: host.source(), ..settings };
    let dir = archive_dir(owner)?;
    let (mut driver, mut site) = host.open(store, threads)?;
    let (site, dir, settings) = (&mut site, &dir, &settings);
    let procedure = |io: Io| async move { heal::run(&io, &mut Origin::Local(site), owner, dir, settings).await };
    Ok(host::run_with(&mut driver, procedure, on_event))
}

fn remote(
    args: &Heal,
    from: &str,
    store: &Path,
    threads: usize,
    owner: &Owner,
    settings: &Settings,
    on_event: &mut dyn FnMut(Event),
) -> Result<Result<Healed, Error>, Trouble> {
    if args.imapd_conf.is_some() || args.root.is_some() || args.cyrus.is_some() || args.offline {
        let text = "--from: options about the server's files and locks belong to the `cylinder serve` over there";
        return Err(Trouble::Usage(String::from(text)));
    }
    let mut ssh = Ssh::default();
    if let Some(command) = &args.serve_command {
        ssh.command = command.clone();
    }
    if let Some(words) = &args.ssh {
        ssh.program = words.split_whitespace().map(str::to_owned).collect();
    }
    let From::Peer { name, ssh } = From::parse(from, ssh).map_err(Trouble::Usage)? else {
        return Err(Trouble::Usage(format!("--from {from}: is this host; leave it out")));
    };
    let hub = Hub::new().map_err(|error| Error::Refused(format!("no loop for connections: {error}")))?;
    let config = Config { store: store.to_path_buf(), threads, stop: Some(crate::stop::flag()), ..Config::default() };
    let mut driver = Local::new(config).with_connections(Box::new(hub.streams(ssh)));
    let dir = archive_dir(owner)?;
    let limits = Limits { line: ANSWER_LINE_MAX, stall: STALL, bytes_per_second: 0 };
    let procedure = |io: Io| async move {
        match connect(&io, &name, limits).await? {
            Greeted::Native(mut client) => {
                let healed = heal::run(&io, &mut Origin::Native(&mut client), owner, &dir, settings).await;
                client.close().await;
                healed
            }
            Greeted::Stock(stream, servername) => {
                let mut client = stock::Client::new(*stream, &servername)?;
                let healed = heal::run(&io, &mut Origin::Stock(&mut client), owner, &dir, settings).await;
                client.close().await;
                healed
            }
        }
    };
    Ok(host::run_with(&mut driver, procedure, on_event))
}

fn tell(args: &Heal, who: &str, healed: &Healed) -> Outcome {
    let report = healed.report.as_ref();
    let clean = report.map_or(Exit::Ok, Exit::of_report);
    // That the archive is damaged is why this was done.
    let exit = if healed.lost.is_empty() && clean != Exit::Partial { Exit::Ok } else { Exit::Partial };
    if let Some(report) = report.filter(|_| !args.json) {
        for alarm in alarm::told(report) {
            output::complain!("cylinder: {who}: ALARM: {}", alarm::text(who, alarm, report));
        }
    }
    let hex = |guids: &[Guid]| guids.iter().map(Guid::to_hex).collect::<Vec<_>>();
    if args.json {
        output::json(&json!({
            "user": who, "healed": hex(&healed.healed), "lost": hex(&healed.lost),
            "snapshot": report.and_then(|report| report.commit), "messages_added": report.map_or(0, |r| r.messages_added),
            "problems_count": report.map_or(0, |report| report.problems_count), "exit": exit as u8,
        }))?;
        return Ok(exit);
    }
    let count = |guids: &[Guid]| count(guids.len() as u64, "message");
    output::line(&match (healed.healed.is_empty(), healed.lost.is_empty()) {
        (true, true) => format!("{who}: nothing is lost"),
        (_, true) => format!("{who}: {} fetched anew, nothing is lost any more", count(&healed.healed)),
        _ => {
            format!("{who}: {} fetched anew, {} lost: the server has them no more", count(&healed.healed), count(&healed.lost))
        }
    })?;
    for guid in hex(&healed.lost) {
        output::line(&format!("  lost: {guid}"))?;
    }
    Ok(exit)
}
