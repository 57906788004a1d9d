//! Recorded backups of real servers, run again: the same operations in the same order, whole and byte by byte.

use cylinder_core::archive::read::Reader;
use cylinder_core::archive::verify::verify;
use cylinder_core::backup::{self, Settings};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::escape::{shown, unpercent};
use cylinder_core::io::{Input, Io, Reply, StreamId};
use cylinder_core::pull::Origin;
use cylinder_core::pull::native::{Greeted, connect};
use cylinder_core::store::archive_dir;
use cylinder_core::tape::parse_input;
use cylinder_core::time::Span;
use cylinder_core::wire::ANSWER_LINE_MAX;
use cylinder_core::wire::stream::{Limits, Stream};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::drive;
use cylinder_tests::net::{Net, join};
use cylinder_tests::proof::binary;
use cylinder_tests::story;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSIONS: [&str; 4] = ["3.2", "3.6", "3.10", "3.12"];

fn recording(version: &str, when: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("data/recordings/{version}-{when}.rec"))
}

fn replay(file: &Path) -> (Option<i32>, String) {
    let output = Command::new(binary()).arg("replay").arg(file).output().expect("cylinder runs");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn recorded_runs_over_four_versions_are_the_same_again() {
    for version in VERSIONS {
        for when in ["first", "second"] {
            let (code, text) = replay(&recording(version, when));
            assert!(code == Some(0) && text.contains("the same"), "{version} {when}: {code:?} {text}");
        }
    }
}

#[test]
fn another_run_is_told_apart_with_the_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = std::fs::read_to_string(recording("3.6", "second")).expect("a recording");
    // Another answer, another request, one line less, one more.
    let last = text.trim_end().lines().last().expect("a line").to_owned();
    let changes = [
        text.replacen("modseq", "modsex", 1).replacen("send 1 PASS", "send 1 PASX", 1),
        text.replacen("name=INBOX.Sent", "name=INBOX.Sens", 1),
        text.trim_end().strip_suffix(&last).expect("the last line").to_owned(),
        format!("{text}> 99999 clock\n"),
    ];
    for (n, changed) in changes.iter().enumerate() {
        assert!(*changed != text, "{n}: the change is one");
        let file = dir.path().join(format!("{n}.rec"));
        std::fs::write(&file, changed).expect("written");
        let (code, text) = replay(&file);
        assert!(code == Some(4) && text.contains("another run: line "), "{n}: {code:?} {text}");
    }
}

/// What the server sent in a recorded run.
fn sent(file: &Path) -> Vec<u8> {
    let text = std::fs::read_to_string(file).expect("a recording");
    let receives: BTreeSet<u32> = text
        .lines()
        .filter(|line| line.starts_with("> ") && line.contains(" receive "))
        .filter_map(|line| line.split(' ').nth(1)?.parse().ok())
        .collect();
    let mut sent = Vec::new();
    // The runs before the one with the connection have operations of the same numbers, and receive nothing.
    let from = text.find(" connect ").expect("a connection");
    for line in text[from..].lines().filter(|line| line.starts_with("< ")) {
        if let (_, Input::Done(id, Ok(Reply::Bytes(bytes)))) = parse_input(line.as_bytes()).expect("a line of a recording")
            && receives.contains(&id.0)
        {
            sent.extend(bytes);
        }
    }
    sent
}

fn anna() -> Owner {
    Owner::User(b"anna".to_vec())
}

async fn pull(io: Io) -> Result<(), Error> {
    let limits = Limits { line: ANSWER_LINE_MAX, stall: Span::from_secs(60), bytes_per_second: 0 };
    let archive_id = *b"sixteen bytes id";
    let settings =
        Settings { archive: story::settings(), source: String::from("test"), adopt: false, archive_id, read_rate: 0 };
    let Greeted::Native(mut client) = connect(&io, "recorded", limits).await? else { panic!("a native server") };
    let report = backup::run(&io, &mut Origin::Native(&mut client), &anna(), &archive_dir(&anna())?, &settings).await?;
    assert!(report.is_clean() && report.messages_added == 6, "{report:?}");
    client.close().await;
    Ok(())
}

/// Says what was recorded, whatever it is asked.
async fn parrot(io: Io, bytes: Vec<u8>) {
    let limits = Limits { line: 1 << 16, stall: Span::from_secs(60), bytes_per_second: 0 };
    let mut stream = Stream::new(&io, StreamId(1), "client", limits);
    let _ = stream.send(&bytes).await;
    let _ = stream.settle().await;
    // It stays until the client has had enough.
    while let Ok(Some(_)) = stream.line().await {}
}

#[test]
fn what_was_recorded_may_come_byte_by_byte() {
    for version in VERSIONS {
        let bytes = sent(&recording(version, "first"));
        assert!(bytes.starts_with(b"OK\nFACTS ") && bytes.len() > 3000, "{version}");
        let mut messages = Vec::new();
        for piece in [0, 1, 2, 61] {
            let (mut here, mut there) = (SimDisk::new(), SimDisk::new());
            let mut net = Net { piece, ..Net::default() };
            let bytes = bytes.clone();
            join(&mut here, &mut there, &mut net, pull, |io| parrot(io, bytes)).expect("a pull");
            let read = async |io: Io| {
                let reader = Reader::open(&io, &archive_dir(&anna())?).await?;
                let verdict = verify(&io, &reader, 3).await?;
                assert!(verdict.is_good(), "{:#?}", verdict.findings);
                let (table, catalogue) = (reader.table(reader.head()).await?, reader.catalogue().await?.0);
                reader.close().await;
                Ok::<_, Error>((table, catalogue.guids().to_vec()))
            };
            messages.push(drive(&mut here, read).finished().expect("an archive"));
        }
        assert!(messages.iter().all(|read| *read == messages[0]) && messages[0].1.len() == 6, "{version}");
    }
}

/// The lines of the server that are whole, content left out.
fn server_lines(buffer: &mut Vec<u8>, text: &mut String) {
    while let Some(end) = buffer.iter().position(|&b| b == b'\n') {
        let line = shown(&buffer[..end]);
        let content = line.strip_prefix("DATA ").and_then(|rest| rest.split(' ').nth(1)?.parse::<usize>().ok());
        if buffer.len() < end + 1 + content.unwrap_or(0) {
            return;
        }
        text.push_str(&format!("S: {line}\n"));
        if let Some(len) = content {
            text.push_str(&format!("   ({len} bytes)\n"));
        }
        buffer.drain(..end + 1 + content.unwrap_or(0));
    }
}

/// What both sides said in a recorded run.
fn conversation(file: &Path) -> String {
    let recorded = std::fs::read_to_string(file).expect("a recording");
    let from = recorded.find("> 1 connect ").expect("a connection");
    let (mut text, mut buffer, mut receives) = (String::new(), Vec::new(), BTreeSet::new());
    for line in recorded[from..].lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [">", _, "send", _, data] => {
                let data = unpercent(data.as_bytes()).expect("what was sent");
                data.split_inclusive(|&b| b == b'\n')
                    .for_each(|line| text += &format!("C: {}\n", shown(line.trim_ascii_end())));
            }
            [">", id, "receive", ..] => drop(receives.insert(id.parse::<u32>().expect("a number"))),
            ["<", ..] => {
                if let (_, Input::Done(id, Ok(Reply::Bytes(bytes)))) =
                    parse_input(line.as_bytes()).expect("a line of a recording")
                    && receives.contains(&id.0)
                {
                    buffer.extend(bytes);
                    server_lines(&mut buffer, &mut text);
                }
            }
            _ => {}
        }
    }
    assert!(buffer.is_empty(), "the server was cut off");
    text
}

/// For people: a second run, after a message, a flag, a new folder and a rename, on each version.
#[test]
fn recorded_conversations_can_be_read() {
    let names =
        ["protocol__second_run_3_2", "protocol__second_run_3_6", "protocol__second_run_3_10", "protocol__second_run_3_12"];
    for (version, name) in VERSIONS.into_iter().zip(names) {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../../snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        let text = conversation(&recording(version, "second"));
        settings.bind(|| insta::assert_snapshot!(name, text));
    }
}
