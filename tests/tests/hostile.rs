//! Archives made to do harm: names that lead out, links, devices, lengths that lie, bombs, chains that go round. Whatever reads
//! them writes nothing outside of its target, does not panic, and is bounded in time and memory.

use cylinder_core::archive::entries::{Finding, Sink, read_all};
use cylinder_core::archive::entry::Entry;
use cylinder_core::archive::member::{Kind, RAW_MAX, TO_BE_CONTINUED};
use cylinder_core::archive::read::Reader;
use cylinder_core::archive::record::{
    FileRow, FolderRow, Location, MessageAt, Part, Slot, StateContent, StateRow, Table, emit_list,
};
use cylinder_core::archive::verify::verify;
use cylinder_core::crc32::crc32;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Tuple};
use cylinder_core::view;
use cylinder_tests::choose::{Choose, Sampler};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::drive;
use cylinder_tests::forge::{Forge, file, link, patched};
use cylinder_tests::proof::{Node, Store, binary, err, out, run, run_for, tree};
use cylinder_tests::spool::Spool;
use cylinder_tests::story;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Address space of a child, in KiB: threads and their stacks take most of it.
const MEMORY: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// A hostile archive in a store, beside something that must not change.
struct Trap {
    store: Store,
    outside: BTreeMap<String, Node>,
}

impl Trap {
    fn new(archive: &[u8]) -> Trap {
        let store = Store::new();
        fs::create_dir_all(store.user_dir("anna")).expect("a directory");
        fs::write(store.archive("anna"), archive).expect("the archive");
        fs::create_dir(store.beside("outside")).expect("a directory");
        fs::write(store.beside("outside/canary"), b"sings").expect("a file");
        let outside = tree(store.temp.path());
        Trap { store, outside }
    }

    /// Runs a command with little memory; panics if it panics, takes long or writes what a terminal would obey.
    fn run(&self, command: &Command) -> Output {
        let begun = Instant::now();
        let mut limited = Command::new("bash");
        limited.args(["-c", &format!("ulimit -v {MEMORY} && exec timeout {} \"$0\" \"$@\"", PATIENCE.as_secs())]);
        limited.arg(command.get_program()).args(command.get_args()).env_remove("CYLINDER_STORE");
        let output = run(&mut limited);
        let code = output.status.code();
        let said = format!("{command:?}: {:?}\n{}", output.status, err(&output));
        // 101 would be a panic, 124 the time that is over, more than that a signal.
        assert!(matches!(code, Some(0..=5)), "{said}");
        assert!(begun.elapsed() < PATIENCE && !err(&output).contains("panicked"), "{said}");
        let obeyed = |b: &u8| *b < b' ' && *b != b'\n' || *b == 0x7F;
        assert!(!output.stderr.iter().any(obeyed), "{said}");
        // A message goes out as it is.
        if !command.get_args().any(|word| word == "show") {
            assert!(!output.stdout.iter().any(obeyed), "{said}\n{}", out(&output));
        }
        assert!(code == Some(0) || !output.stderr.is_empty() || !output.stdout.is_empty(), "no word of what is wrong: {said}");
        output
    }

    fn words(&self, words: &[&str]) -> Output {
        self.run(&self.store.command(words))
    }

    /// Extracts; answers how that ended and what came out. Nothing else may change.
    fn extract(&self) -> (Output, BTreeMap<String, Node>) {
        let target = self.store.beside("target");
        let mut command = self.store.command(&["extract", "anna"]);
        command.arg(&target);
        let output = self.run(&command);
        let found = if target.exists() { tree(&target) } else { BTreeMap::new() };
        let _ = fs::remove_dir_all(&target);
        assert_eq!(tree(self.store.temp.path()), self.outside, "something outside of the target was written");
        assert!(!found.values().any(leads_out), "{found:?}");
        (output, found)
    }

    /// Everything that reads. Answers the exit codes of `log`, `list`, `list INBOX`, `show`, `verify`, `inspect`, `extract`.
    fn all(&self) -> [i32; 7] {
        let mut inspect = Command::new(binary());
        inspect.arg("inspect").arg(self.store.archive("anna"));
        let extract = self.extract().0;
        let outputs = [
            self.words(&["log", "anna"]),
            self.words(&["list", "anna"]),
            self.words(&["list", "anna", "INBOX"]),
            self.words(&["show", "anna", "INBOX/1"]),
            self.words(&["verify"]),
            self.run(&inspect),
            extract,
        ];
        assert_eq!(tree(self.store.temp.path()), self.outside);
        outputs.map(|output| output.status.code().unwrap_or(-1))
    }
}

/// True for a link that leads out of the tree or to another link.
fn leads_out(node: &Node) -> bool {
    let Node::Link(target) = node else { return false };
    let id = target.strip_prefix(b"../folders/").unwrap_or(target);
    id.contains(&b'/') || id == b".."
}

fn table(folders: Vec<FolderRow>) -> Table {
    Table { folders, ..Table::default() }
}

fn inbox() -> FolderRow {
    FolderRow { name: b"INBOX".to_vec(), id: b"x1".to_vec(), ..FolderRow::default() }
}

/// An archive whose one snapshot brings these entries, each in a member of its own.
fn entries(raws: &[Vec<u8>]) -> Vec<u8> {
    let mut forge = Forge::new();
    for raw in raws {
        forge.member(Kind::Meta, 0, raw);
    }
    forge.message(b"Subject: good\r\n\r\n");
    forge.snapshot(&table(vec![inbox()]));
    forge.finish()
}

fn good_message() -> String {
    format!("files/{}", Guid::of(b"Subject: good\r\n\r\n"))
}

#[test]
fn names_that_lead_out_are_left_out_and_the_rest_is_extracted() {
    let names: [&[u8]; 16] = [
        b"../evil",
        b"../../evil",
        b"/evil",
        b"/tmp/evil",
        b"files/../../evil",
        b"files/..",
        b"files/.",
        b"files//evil",
        b"files",
        b"files/",
        b"evil",
        b"",
        b"files/a b",
        b"files/\x1b[2Jevil",
        b"folders/x/y/z",
        b"meta\\..\\evil",
    ];
    let mut raws: Vec<Vec<u8>> = names.iter().map(|name| file(name, b"evil")).collect();
    // Through a pax header a name may be longer than a file system takes, and hold NUL.
    raws.push(file(&[b"files/", &[b'x'; 300][..]].concat(), b"evil"));
    raws.push(file(&[b"files/a\0", &[b'x'; 120][..]].concat(), b"evil"));
    let count = raws.len();
    let (output, found) = Trap::new(&entries(&raws)).extract();
    assert_eq!(output.status.code(), Some(3), "{}", err(&output));
    assert_eq!(err(&output).matches("left out").count(), count, "{}", err(&output));
    assert!(found.contains_key(&good_message()) && !found.keys().any(|name| name.contains("evil")), "{found:?}");
    assert_eq!(Trap::new(&entries(&raws)).all(), [0, 0, 0, 1, 0, 0, 3]);
}

#[test]
fn a_name_longer_than_any_is_damage_of_its_entry_alone() {
    let (output, found) = Trap::new(&entries(&[file(&[b'x'; 60_000], b"evil")])).extract();
    assert_eq!(output.status.code(), Some(4), "{}", err(&output));
    assert!(err(&output).contains("at most") && found.contains_key(&good_message()), "{}", err(&output));
}

#[test]
fn links_lead_nowhere_outside_and_nothing_is_written_through_them() {
    let outside = |name: &[u8]| link(name, b"../../outside");
    let raws = [
        outside(b"imap/INBOX"),
        outside(b"folders/x1"),
        outside(b"meta/quota"),
        link(b"sieve/a", b".."),
        link(b"sieve/b", b"/etc/passwd"),
        link(b"imap/c", b"../folders/.."),
        link(b"imap/d", b"../folders/../../outside"),
        link(b"imap/e", &[b"../folders/", &[b'x'; 5000][..]].concat()),
        // Through a link that may be made, to where a file may be.
        link(b"sieve/f", b"g"),
        file(b"sieve/f/canary", b"evil"),
        file(b"folders/x1/canary", b"evil"),
        file(b"meta/quota/canary", b"evil"),
        file(b"imap/INBOX/canary", b"evil"),
    ];
    let (output, found) = Trap::new(&entries(&raws)).extract();
    assert_ne!(output.status.code(), Some(0));
    assert!(found.contains_key(&good_message()), "{found:?}\n{}", err(&output));
    // A file where a directory is to be, and the other way round.
    for raws in [[file(b"meta/a", b"1"), file(b"meta/a/b", b"2")], [file(b"meta/a/b", b"2"), file(b"meta/a", b"1")]] {
        let (output, _) = Trap::new(&entries(&raws)).extract();
        assert_ne!(output.status.code(), Some(0), "{}", err(&output));
    }
}

#[test]
fn devices_pipes_and_hard_links_are_not_made() {
    let kinds = *b"134567VDg";
    let raws = kinds.map(|kind| {
        patched(file(b"meta/evil", b""), |header| {
            header[156] = kind;
            header[157..257].fill(0);
            header[157..168].copy_from_slice(b"/etc/passwd");
        })
    });
    let (output, found) = Trap::new(&entries(&raws)).extract();
    assert_ne!(output.status.code(), Some(0), "{}", err(&output));
    let made: Vec<&String> = found.keys().filter(|name| name.contains("evil")).collect();
    // `7` is an ordinary file by POSIX.
    assert!(made.len() <= 1 && found.contains_key(&good_message()), "{made:?}");
    assert!(err(&output).contains("of a kind that no archive has"), "{}", err(&output));
}

/// A header of that says so many bytes, in octal or, where that is too short, in binary.
fn sized(name: &[u8], content: &[u8], size: u64) -> Vec<u8> {
    patched(file(name, content), |header| {
        header[124..136].fill(0);
        header[124] = 0x80;
        header[128..136].copy_from_slice(&size.to_be_bytes());
    })
}

#[test]
fn sizes_that_lie_are_damage_and_allocate_nothing() {
    for size in [5000, 1 << 20, 1 << 33, 1 << 62, u64::MAX] {
        let (output, found) = Trap::new(&entries(&[sized(b"meta/evil", b"short", size)])).extract();
        assert_eq!(output.status.code(), Some(4), "{size}: {}", err(&output));
        assert!(!found.contains_key("meta/evil") && found.contains_key(&good_message()), "{size}: {}", err(&output));
    }
    // A size smaller than what is there: the rest is taken for a header, and is none.
    let (output, found) = Trap::new(&entries(&[sized(b"meta/evil", &[b'x'; 2000], 10)])).extract();
    assert_eq!(output.status.code(), Some(4), "{}", err(&output));
    assert!(found.contains_key(&good_message()));
    // Times that no calendar has.
    for time in [u64::MAX, i64::MAX as u64, 1 << 40] {
        let raw = patched(file(b"meta/late", b"late"), |header| {
            header[136..148].fill(0);
            header[136] = 0x80;
            header[140..148].copy_from_slice(&time.to_be_bytes());
        });
        Trap::new(&entries(&[raw])).extract();
    }
}

/// The first member of these bytes with other lengths in its header, and a header CRC that fits.
fn relabelled(member: &[u8], len: u32, raw_len: u32) -> Vec<u8> {
    let mut bad = member.to_vec();
    bad[20..24].copy_from_slice(&len.to_le_bytes());
    bad[24..28].copy_from_slice(&raw_len.to_le_bytes());
    let crc = crc32(&bad[..32]);
    bad[32..36].copy_from_slice(&crc.to_le_bytes());
    bad
}

#[test]
fn a_member_that_inflates_to_other_than_it_says_is_damage() {
    let mut forge = Forge::new();
    let at = forge.member(Kind::Meta, 0, &[0; RAW_MAX]) as usize;
    let member = forge.finish()[at..].to_vec();
    let len = u32::from_le_bytes([member[20], member[21], member[22], member[23]]);
    let member = &member[..len as usize];
    for (len, raw_len) in
        [(len, 10), (len, 0), (len, u32::MAX), (len, 1 << 20 | 1), (u32::MAX, 1 << 20), (0, 0), (len - 1, 1 << 20)]
    {
        let mut forge = Forge::new();
        forge.bytes(&relabelled(member, len, raw_len));
        forge.message(b"Subject: good\r\n\r\n");
        forge.snapshot(&table(vec![inbox()]));
        let trap = Trap::new(&forge.finish());
        let (output, found) = trap.extract();
        assert_eq!(output.status.code(), Some(4), "{len} {raw_len}: {}", err(&output));
        assert!(found.contains_key(&good_message()), "{len} {raw_len}: {}", err(&output));
        assert_eq!(trap.all()[4..], [4, 4, 4]);
    }
}

#[test]
fn zeros_that_deflate_a_thousandfold_are_written_piece_by_piece() {
    // An entry of 200 MiB in 200 kB of archive.
    let (mut forge, pieces) = (Forge::new(), 200);
    let size = (pieces as u64 - 1) * RAW_MAX as u64;
    let mut raw = sized(b"meta/zeros", b"", size);
    raw[157..257].fill(0);
    let mut raw = patched(raw, |_| ());
    raw.resize(RAW_MAX, 0);
    forge.member(Kind::Meta, TO_BE_CONTINUED, &raw);
    for n in 1..pieces {
        forge.member(Kind::Meta, 1 | if n + 1 < pieces { TO_BE_CONTINUED } else { 0 }, &[0; RAW_MAX]);
    }
    forge.snapshot(&table(vec![inbox()]));
    let (output, found) = Trap::new(&forge.finish()).extract();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(matches!(found["meta/zeros"], Node::File(len, ..) if len == size));
}

#[test]
fn a_table_of_a_million_folders_is_listed_in_bounded_memory() {
    let mut text = b"cylinder-folders 1\n".to_vec();
    for n in 0..1_000_000 {
        text.extend_from_slice(format!("folder name=f{n:07} id=x{n} entry= exists=1 expunged=0 bytes=1\n").as_bytes());
    }
    let mut forge = Forge::new();
    forge.commit(&text, |_| ());
    let trap = Trap::new(&forge.finish());
    let list = trap.words(&["list", "anna"]);
    assert_eq!((list.status.code(), out(&list).lines().count()), (Some(0), 1_000_001));
    assert_eq!(trap.words(&["verify"]).status.code(), Some(0));
    assert_eq!(trap.extract().0.status.code(), Some(0));
}

/// `previous` is covered by a SHA-1 that cannot be known before it is written, so a chain that goes round cannot be made; one
/// can only try.
#[test]
fn a_chain_that_points_to_itself_or_forward_is_broken_and_not_followed() {
    let somewhere = |at: u64| Part { offset: at, len: 700, sha1: Guid::NULL };
    for with_footer in [true, false] {
        for previous in [0, 1, 3000, 1 << 40, u64::MAX].map(somewhere) {
            let mut forge = Forge::new();
            forge.message(b"Subject: good\r\n\r\n");
            forge.commit(&table(vec![inbox()]).emit(), |commit| commit.previous = Some(previous));
            let own = forge.last();
            forge.commit(&table(vec![inbox()]).emit(), |commit| commit.previous = Some(own));
            forge.commit(&table(vec![inbox()]).emit(), |commit| {
                commit.previous = Some(Part { offset: commit.previous.map_or(0, |p| p.offset + 5000), ..own })
            });
            let mut bytes = forge.finish();
            if !with_footer {
                bytes.truncate(bytes.len() - 95);
            }
            let codes = Trap::new(&bytes).all();
            assert!(codes[4] == 4, "{previous:?}: {codes:?}");
        }
    }
    // A commit that names itself: its own place, and any SHA-1.
    let mut forge = Forge::new();
    let at = forge.len();
    forge
        .commit(&table(vec![inbox()]).emit(), |commit| commit.previous = Some(Part { offset: at, len: 600, sha1: Guid::NULL }));
    let codes = Trap::new(&forge.finish()).all();
    assert_eq!((codes[0], codes[4]), (4, 4), "{codes:?}");
}

#[test]
fn parts_that_point_anywhere_are_damage() {
    let ends = [0, 1, 95, 4000, 1 << 30, 1 << 62, u64::MAX];
    for (offset, len) in ends.iter().flat_map(|offset| ends.iter().map(move |len| (*offset, *len))) {
        let part = Part { offset, len, sha1: Guid::of(b"anything") };
        let mut forge = Forge::new();
        forge.message(b"Subject: good\r\n\r\n");
        forge.commit(&table(vec![inbox()]).emit(), |commit| {
            commit.table = Some(part);
            commit.messages = Some((part, u64::MAX));
        });
        let bytes = forge.finish();
        let mut disk = SimDisk::new();
        disk.put_file(&story::archive(), bytes.clone());
        drive(&mut disk, everything).finished().expect("an archive that opens");
        if offset == len {
            let codes = Trap::new(&bytes).all();
            assert_eq!(codes[1..5], [4, 4, 4, 4], "{offset} {len}: {codes:?}");
        }
    }
}

#[test]
fn rows_and_lists_that_point_anywhere_are_damage() {
    for member in [0, 1, 500, 1 << 40, u64::MAX - 1000, u64::MAX] {
        for inside in [0, 1, 512, u32::MAX] {
            let at = Location { member, inside };
            let slot = Slot::At(at);
            let row = FileRow { name: String::from("cyrus.index"), tuple: Tuple::default(), sha1: Guid::NULL, at: slot };
            let folder = FolderRow { files: vec![row], exists: u64::MAX, expunged: u64::MAX, bytes: u64::MAX, ..inbox() };
            let content = StateContent::File { sha1: Guid::NULL, size: u64::MAX, at: slot };
            let states = vec![StateRow { name: b"meta/sub".to_vec(), tuple: None, content }];
            let mut forge = Forge::new();
            let guid = Guid::of(b"nowhere");
            let list = emit_list(&[MessageAt { guid, at, size: u64::MAX }]);
            let list = forge.part(Kind::List, b"meta/messages", &list);
            let text = Table { states, ..table(vec![folder]) }.emit();
            forge.commit(&text, |commit| commit.messages = Some((list, 1)));
            let trap = Trap::new(&forge.finish());
            let mut codes = trap.all();
            codes[0] = 0;
            assert!(codes[2] != 0 && codes[4] == 4, "{at}: {codes:?}");
            assert_ne!(trap.words(&["show", "anna", &guid.to_hex()]).status.code(), Some(0), "{at}");
        }
    }
}

#[test]
fn numbers_at_their_ends_stop_neither_readers_nor_a_backup() {
    for number in [0, 5, u64::MAX - 1, u64::MAX] {
        let mut forge = Forge::new();
        forge.message(b"Subject: good\r\n\r\n");
        let many = FolderRow { exists: u64::MAX, expunged: u64::MAX, bytes: u64::MAX, modseq: Some(u64::MAX), ..inbox() };
        let folders = vec![FolderRow { name: b"A".to_vec(), ..many.clone() }, many];
        forge.commit(&table(folders).emit(), |commit| {
            commit.number = number;
            commit.time = cylinder_core::time::Time(i64::MAX);
            commit.total_messages = u64::MAX;
            commit.total_raw = u64::MAX;
            commit.total_dead = u64::MAX;
            commit.added_messages = u64::MAX;
            commit.added_raw = u64::MAX;
        });
        let trap = Trap::new(&forge.finish());
        trap.all();
        trap.words(&["log", "anna", "--json"]);
        trap.words(&["list", "anna", "--json"]);
        let mut spool = Spool::create(&trap.store.beside("root"), "anna", 1).expect("a spool");
        spool.deliver("INBOX", b"Subject: new\r\n\r\n").expect("a message");
        spool.save().expect("an index");
        trap.run(&trap.store.backup(spool.root(), "anna"));
    }
}

/// Everything that reads an archive in the core; only errors of the system are errors.
async fn everything(io: Io) -> Result<(), Error> {
    let reader = match Reader::open(&io, &story::dir()).await {
        Ok(reader) => reader,
        Err(Error::Damage(_) | Error::Limit { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    tolerate(look(&reader).await)?;
    tolerate(view::Locations::load(&reader).await.map(drop))?;
    tolerate(reader.catalogue().await.map(drop))?;
    tolerate(view::snapshots(&reader).await.map(drop))?;
    tolerate(view::snapshot(&reader, view::When::Number(u64::MAX)).await.map(drop))?;
    verify(&io, &reader, 2).await?;
    read_all(&io, &reader, u64::MAX, 2, &mut Nowhere).await?;
    reader.close().await;
    Ok(())
}

async fn look(reader: &Reader) -> Result<(), Error> {
    let at = view::snapshot(reader, view::When::Newest).await?;
    let table = reader.table(&at).await?;
    for row in &table.folders {
        let view = view::folder(reader, row).await?;
        for message in view.messages {
            tolerate(reader.locate(&message.guid).await.map(drop))?;
        }
    }
    for row in &table.states {
        tolerate(view::state(reader, &table, &row.name).await.map(drop))?;
    }
    for message in reader.messages(&at).await?.iter() {
        tolerate(reader.read_entry(message.at, 1 << 20).await.map(drop))?;
    }
    Ok(())
}

fn tolerate(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Damage(_) | Error::Limit { .. } | Error::Refused(_)) => Ok(()),
        other => other,
    }
}

struct Nowhere;

impl Sink for Nowhere {
    fn begin(&mut self, _: Entry, _: Kind, _: Location) {}
    fn content(&mut self, _: &[u8]) {}
    fn end(&mut self, _: u64) {}
    fn damage(&mut self, _: Finding) {}
}

/// Texts of an orderly archive with some bytes changed, sealed again so that every CRC and SHA-1 is right.
fn mutated(chance: &mut Sampler) -> Vec<u8> {
    let mut forge = Forge::new();
    let index = FileRow {
        name: String::from("cyrus.index"),
        tuple: Tuple::default(),
        sha1: Guid::of(b"index"),
        at: Slot::At(Location { member: 1400, inside: 512 }),
    };
    let content = StateContent::File { sha1: Guid::of(b"sub"), size: 3, at: Slot::At(Location { member: 1500, inside: 0 }) };
    let states = vec![StateRow { name: b"meta/sub".to_vec(), tuple: None, content }];
    let orderly = Table { states, ..table(vec![FolderRow { files: vec![index], ..inbox() }]) };
    for round in 0..3u8 {
        let raw = [file(b"folders/x1/cyrus.index", b"index"), link(b"imap/INBOX", b"../folders/x1"), file(b"meta/sub", b"sub")]
            .concat();
        let raw = if chance.flip() { changed(raw, chance) } else { raw };
        forge.member(Kind::Meta, if chance.upto(23) == 0 { TO_BE_CONTINUED } else { 0 }, &raw[..raw.len().min(RAW_MAX)]);
        forge.message(format!("Subject: {round}\r\n\r\n").as_bytes());
        let text = orderly.emit();
        let text = if chance.flip() { changed(text, chance) } else { text };
        let record = forge.record(None, None);
        let mut commit = Vec::new();
        forge.commit(&text, |made| commit = made.emit());
        if chance.flip() && record.number > 1 {
            forge.commit_record(&changed(commit, chance));
        }
    }
    forge.finish()
}

/// Some bytes replaced, by digits more often than by others.
fn changed(mut bytes: Vec<u8>, chance: &mut Sampler) -> Vec<u8> {
    for _ in 0..=chance.upto(3) {
        let at = chance.upto(bytes.len() as u32 - 1) as usize;
        match chance.upto(3) {
            0 => bytes[at] = chance.bits() as u8,
            1 => bytes[at] = b"0123456789+ =%\n"[chance.upto(14) as usize],
            2 => drop(bytes.splice(at..at, b"18446744073709551615".iter().copied())),
            _ => drop(bytes.drain(at..bytes.len().min(at + 1 + chance.upto(20) as usize))),
        }
        if bytes.is_empty() {
            bytes.push(b'x');
        }
    }
    bytes
}

#[test]
fn whatever_stands_in_sealed_texts_no_reader_panics_or_reads_without_end() {
    let mut most = 0;
    for seed in 0..3000 {
        let mut disk = SimDisk::new();
        disk.put_file(&story::archive(), mutated(&mut Sampler::new(seed)));
        let before = disk.ops();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drive(&mut disk, everything).finished()));
        assert!(matches!(outcome, Ok(Ok(()))), "seed {seed}: {outcome:?}");
        most = most.max(disk.ops() - before);
    }
    println!("3000 archives, at most {most} operations to read one in every way");
    assert!(most < 2000);
}

#[test]
fn an_orderly_forged_archive_is_good() {
    let mut forge = Forge::new();
    let index = forge.file(Kind::Meta, b"folders/x1/cyrus.index", b"index");
    forge.member(Kind::Meta, 0, &link(b"imap/INBOX", b"../folders/x1"));
    forge.message(b"Subject: good\r\n\r\n");
    let row =
        FileRow { name: String::from("cyrus.index"), tuple: Tuple::default(), sha1: Guid::of(b"index"), at: Slot::At(index) };
    forge.snapshot(&table(vec![FolderRow { files: vec![row], ..inbox() }]));
    let trap = Trap::new(&forge.finish());
    run_for(&mut trap.store.command(&["verify"]), 0);
    let (output, found) = trap.extract();
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(found["imap/INBOX"], Node::Link(b"../folders/x1".to_vec()));
    assert_eq!(found["folders/x1/cyrus.index"].sha1(), Some(Guid::of(b"index")));
}
