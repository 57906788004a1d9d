//! What `verify` says of archives whose every byte is sound, and whose lists and tables do not say what is in them.

use cylinder_core::archive::member::Kind;
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::record::{CommitKind, FolderRow, Location, MessageAt, Part, Table, emit_list};
use cylinder_core::archive::verify::verify;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::Io;
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::drive;
use cylinder_tests::forge::Forge;
use cylinder_tests::story::{archive, dir};

const MAIL: &[u8] = b"Subject: one\r\n\r\n";
const OTHER: &[u8] = b"Subject: another\r\n\r\n";

fn table() -> Vec<u8> {
    named(&[b"INBOX"])
}

fn named(names: &[&[u8]]) -> Vec<u8> {
    let row = |name: &&[u8]| FolderRow { name: name.to_vec(), id: b"x1".to_vec(), ..FolderRow::default() };
    Table { folders: names.iter().map(row).collect(), ..Table::default() }.emit()
}

/// Object and finding of everything that is found.
fn found(forge: Forge) -> Vec<String> {
    let mut disk = SimDisk::new();
    disk.put_file(&archive(), forge.finish());
    let procedure = async |io: Io| {
        let reader = Reader::open(&io, &dir()).await?;
        let verdict = verify(&io, &reader, 3).await;
        reader.close().await;
        Ok::<_, Error>(verdict?.findings)
    };
    let findings = drive(&mut disk, procedure).finished().expect("a verdict");
    findings.into_iter().map(|finding| format!("{}: {}", finding.object, finding.what)).collect()
}

/// One commit that `make` has made of an archive with a head; what is found must be one thing, and have these words.
fn finds(words: &str, make: impl FnOnce(&mut Forge)) {
    let mut forge = Forge::new();
    make(&mut forge);
    let found = found(forge);
    assert!(found.len() == 1 && found[0].contains(words), "expected {words:?}: {found:#?}");
}

fn name(content: &[u8]) -> Vec<u8> {
    format!("files/{}", Guid::of(content)).into_bytes()
}

#[test]
fn an_orderly_archive_has_no_finding() {
    let mut forge = Forge::new();
    forge.message(MAIL);
    forge.commit(&table(), |_| ());
    forge.message(OTHER);
    forge.commit(&table(), |_| ());
    assert_eq!(found(forge), [""; 0]);
}

#[test]
fn messages_that_no_list_has_are_found() {
    finds("messages stand before it that it does not list", |forge| {
        forge.file(Kind::Data, &name(MAIL), MAIL);
        forge.commit(&table(), |_| ());
    });
    finds("1 messages stand before it that it does not list", |forge| {
        forge.message(MAIL);
        forge.file(Kind::Data, &name(OTHER), OTHER);
        forge.commit(&table(), |_| ());
    });
    // A list stands there, and the commit does not name it.
    finds("messages stand before it that it does not list", |forge| {
        forge.message(MAIL);
        forge.commit(&table(), |commit| commit.messages = None);
    });
}

#[test]
fn a_list_that_is_none_or_stands_elsewhere_is_found() {
    let moved = |part: Part| Part { offset: part.offset + 1, ..part };
    finds("the list of messages that it names is not there", |forge| {
        forge.message(MAIL);
        forge.commit(&table(), |commit| commit.messages = commit.messages.map(|(part, count)| (moved(part), count)));
    });
    finds("meta/messages: ", |forge| {
        let part = forge.part(Kind::List, b"meta/messages", b"no list at all");
        forge.commit(&table(), |commit| commit.messages = Some((part, 1)));
    });
    let list = emit_list(&[MessageAt { guid: Guid::of(MAIL), at: Location { member: 1, inside: 0 }, size: 16 }]);
    finds("meta/messages: ", |forge| {
        let part = forge.part(Kind::List, b"meta/messages", &list[..list.len() - 1]);
        forge.commit(&table(), |commit| commit.messages = Some((part, 1)));
    });
}

#[test]
fn a_list_that_names_what_is_not_there_is_found() {
    let elsewhere = |message: MessageAt| MessageAt { at: Location { inside: 512, ..message.at }, ..message };
    let mut forge = Forge::new();
    forge.message(MAIL);
    forge.lie(elsewhere);
    forge.commit(&table(), |_| ());
    let found = found(forge);
    assert!(found.len() == 2 && found[0].contains("is not there whole"), "{found:#?}");
}

#[test]
fn a_message_under_the_name_of_another_is_found() {
    let mut forge = Forge::new();
    forge.message(MAIL);
    forge.file(Kind::Data, &name(OTHER), b"Subject: neither\r\n\r\n");
    forge.commit(&table(), |_| ());
    let found = found(forge);
    assert!(found.iter().any(|found| found.contains("is not named by its SHA-1")), "{found:#?}");
}

#[test]
fn a_table_that_is_none_or_another_is_found() {
    finds("the folder table that it names is not there", |forge| forge.commit(&table(), |commit| commit.table = None));
    finds("meta/folders: ", |forge| forge.commit(&named(&[b"INBOX.b", b"INBOX.a"]), |_| ()));
    finds("names another folder table than that of the last snapshot", |forge| {
        forge.commit(&table(), |_| ());
        forge.commit(&table(), |commit| commit.kind = CommitKind::Checkpoint);
    });
}

#[test]
fn a_commit_of_another_archive_and_a_broken_chain_are_found() {
    finds("belongs to another archive", |forge| {
        forge.commit(&table(), |commit| commit.archive = *b"another archive.");
        forge.commit(&table(), |_| ());
    });
    finds("the hash chain is broken", |forge| {
        let first = forge.last();
        forge.commit(&table(), |_| ());
        forge.commit(&table(), |commit| commit.previous = Some(first));
    });
}
