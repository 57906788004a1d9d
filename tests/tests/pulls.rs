//! A pull has all that a local run has: metadata of every kind and size, messages wherever they lie, and what cannot be had.

use cylinder_core::backup;
use cylinder_core::backup::report::{Problem, Report, Why};
use cylinder_core::cyrus::annotations::{OWNER_TOKEN, emit_key, emit_value};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::db::twoskip;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::{Error, Fault};
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, LockMode, Place};
use cylinder_core::pull::Origin;
use cylinder_core::pull::native::{Greeted, connect};
use cylinder_core::serve;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::source::{Ask, config};
use cylinder_core::store::archive_dir;
use cylinder_core::time::Span;
use cylinder_core::wire::stream::{Limits, Stream};
use cylinder_tests::disk::{SimDisk, Trouble};
use cylinder_tests::drive::drive;
use cylinder_tests::host::{CONF, Host};
use cylinder_tests::local::{ANNA, anna, settings};
use cylinder_tests::net::{Net, join};
use cylinder_tests::pulled::{World, content, limits, server, serving};
use cylinder_tests::story;
use std::rc::Rc;

/// Pulls, runs locally, and finds both archives alike. The report of the pull.
#[track_caller]
fn alike(world: &mut World) -> Report {
    let (report, _) = world.pull(&mut Net::default()).expect("a pull");
    let expected = world.local().expect("a local run");
    let strip = |report: Report| Report { longest_hold: Span(0), archive_bytes: 0, ..report };
    assert_eq!(strip(report.clone()), strip(expected));
    assert!(content(&mut world.here) == content(&mut world.there), "other content");
    report
}

#[test]
fn annotations_and_quota_roots_come_with_their_folders() {
    let mut world = World::new();
    world.host.folder("user.anna.Sent").quota_root = Some(String::from("user.anna.Sent"));
    world.host.files.insert(String::from("/var/lib/cyrus/quota/a/user.anna.Sent"), b"100500\n2048\n".to_vec());
    let id = world.host.folders["user.anna.Sent"].id.clone();
    let record = |text: &str| (emit_key(id.as_bytes(), b"/comment", OWNER_TOKEN), emit_value(text.as_bytes()));
    for note in ["a note", "another one"] {
        world.host.files.insert(String::from("/var/lib/cyrus/annotations.db"), twoskip::emit(&[record(note)], 1));
        world.host.publish(&mut world.there);
        let report = alike(&mut world);
        assert!(report.is_clean(), "{report:?}");
        let (table, entries) = content(&mut world.here);
        let names: Vec<&[u8]> = table.states.iter().map(|state| &state.name[..]).collect();
        assert!(names.contains(&&b"meta/quota/user.anna.Sent"[..]), "{names:?}");
        let notes = entries.iter().find(|(name, _)| name.ends_with("cyrus.mailbox_annotations")).expect("annotations");
        assert!(notes.1.windows(note.len()).any(|w| w == note.as_bytes()));
    }
    // Of folders that are left alone, too, and until the file goes.
    for is_there in [true, false] {
        world.host.folder(ANNA).deliver(&story::mail(40 + u64::from(is_there), 300));
        if !is_there {
            world.host.files.remove("/var/lib/cyrus/quota/a/user.anna.Sent");
        }
        world.host.publish(&mut world.there);
        assert_eq!(alike(&mut world).folders_changed, 1);
        let states = content(&mut world.here).0.states;
        assert_eq!(states.iter().any(|state| state.name == b"meta/quota/user.anna.Sent"), is_there);
    }
}

/// A header names another user's root, and a client asks for one: neither is theirs.
#[test]
fn a_quota_root_of_somebody_else_is_not_given_away() {
    let mut world = World::new();
    for (user, limit) in [("anna", 1), ("bob", 2)] {
        world
            .host
            .files
            .insert(format!("/var/lib/cyrus/quota/{}/user.{user}", &user[..1]), format!("0\n{limit}\n").into_bytes());
    }
    world.host.folder("user.anna.Sent").quota_root = Some(String::from("user.bob"));
    world.host.publish(&mut world.there);
    alike(&mut world);
    let states = content(&mut world.here).0.states;
    let roots: Vec<&[u8]> = states.iter().filter_map(|state| state.name.strip_prefix(b"meta/quota/")).collect();
    assert_eq!(roots, [b"user.anna"]);
    for (users, expected) in [(vec![], &["user.anna", "user.bob"][..]), (vec![String::from("anna")], &["user.anna"])] {
        let settings = serve::Settings { users, ..serving() };
        let asking = |io: Io| async move {
            let mut stream = Stream::connect(&io, "imap1", limits()).await?;
            stream.send(b"CYLINDER - version=1\nPASS imap1 user=anna\nROOT name=user.bob\nEND\n").await?;
            let mut found = Vec::new();
            loop {
                let line = String::from_utf8_lossy(stream.some_line().await?).into_owned();
                found.extend(
                    line.strip_prefix("STATE name=meta/quota/").and_then(|rest| Some(rest.split_once(' ')?.0.to_owned())),
                );
                if line == "DONE PASS" {
                    return Ok::<_, Error>(found);
                }
            }
        };
        let found = join(&mut world.here, &mut world.there, &mut Net::default(), asking, |io| server(io, settings));
        assert_eq!(found.expect("a pass"), expected);
    }
}

/// annotations.db belongs to all users. That a folder has no records there was taken for a change whenever that file had
/// another tuple, and so every folder of everybody was read again from afar as soon as one user had annotated one.
#[test]
fn an_annotation_of_another_user_makes_nobody_be_read_again() {
    let mut world = World::new();
    let ids = ["user.anna.Sent", "user.bob"].map(|folder| world.host.folders[folder].id.clone());
    let annotate = |world: &mut World, notes: [&str; 2]| {
        let record =
            |(id, note): (&String, &str)| (emit_key(id.as_bytes(), b"/comment", OWNER_TOKEN), emit_value(note.as_bytes()));
        let mut records: Vec<_> = ids.iter().zip(notes).map(record).collect();
        records.sort();
        world.host.files.insert(String::from("/var/lib/cyrus/annotations.db"), twoskip::emit(&records, 1));
        world.host.publish(&mut world.there);
        world.settle();
    };
    annotate(&mut world, ["hers", "his"]);
    world.pull(&mut Net::default()).expect("a pull");
    annotate(&mut world, ["hers", "his, and longer"]);
    let mut net = Net::default();
    let (report, trips) = world.pull(&mut net).expect("a pull");
    assert_eq!((report.folders_changed, report.commit, trips), (0, None, 2));
    assert!(net.sent[1] < 3000, "{} bytes for two folders", net.sent[1]);
    annotate(&mut world, ["hers, and longer", "his, and longer"]);
    assert_eq!(world.pull(&mut Net::default()).expect("a pull").0.folders_changed, 1);
}

/// More than are asked for at once, and more than are on their way at any time; metadata beyond what is held in memory.
#[test]
fn folders_of_many_messages_and_large_metadata_come_whole() {
    let mut world = World::new();
    for n in 0..2600 {
        world.host.folder("user.anna.Many").deliver(&story::mail(1000 + n, 120));
    }
    let copy = Rc::new(story::mail(2, 500));
    for _ in 0..20_000 {
        world.host.folder("user.anna.Copies").take(copy.clone(), Guid::of(&copy));
    }
    for (n, folder) in [ANNA, "user.anna.Sent", "user.anna.Many"].into_iter().enumerate() {
        let notes = String::from_utf8(world.host.meta_place(folder, "cyrus.annotations").path).expect("text");
        world.host.files.insert(notes, story::long_mail(n as u64, (6 + n) << 20));
    }
    world.host.publish(&mut world.there);
    let report = alike(&mut world);
    assert!(report.is_clean() && report.messages_added == 4 + 2600, "{report:?}");
}

/// See `source.rs` for what a local run makes of it.
#[test]
fn of_a_message_on_two_partitions_the_good_copy_is_found_from_afar() {
    let mut world = World::new();
    let archiving = format!("{CONF}archive_enabled: yes\narchivepartition-default: /var/spool/archive\n");
    world.host.folder(ANNA).messages.iter_mut().for_each(|m| m.archived = m.uid != 2);
    world.host.publish(&mut world.there);
    world.there.put_file(&Place::host("/etc/imapd.conf"), archiving);
    for (uid, content) in [(1, story::mail(0, 500)), (2, story::mail(1, 500)), (3, b"Subject: torn\r\n".to_vec())] {
        let place = world.host.message_place(ANNA, uid);
        let path = String::from_utf8(place.path.clone()).expect("text").replace("/var/spool/cyrus/", "/var/spool/archive/");
        world.there.put_file(&Place::host(path), content);
        if uid < 3 {
            world.there.take_away(&place);
        }
    }
    // The only other copy of the third is the good one of INBOX.
    world.host.folder("user.anna.Sent").messages.remove(0);
    world.host.folder("user.anna.Sent").modseq += 1;
    world.host.publish(&mut world.there);
    let report = alike(&mut world);
    assert!(report.is_clean(), "{report:?}");
    assert!(content(&mut world.here).1.values().any(|entry| *entry == story::mail(2, 500)));
    // Neither is good.
    let place = world.host.message_place(ANNA, 3);
    let mut world = World { here: SimDisk::new(), ..world };
    world.there.change_file(&place, b"Subject: torn, too\r\n".to_vec());
    let (report, _) = world.pull(&mut Net::default()).expect("a pull");
    assert!(matches!(&report.problems[..], [Problem::Message { uid: 3, why: Why::Mismatch { .. }, .. }]), "{report:?}");
}

/// What the server cannot read it says, message by message, and the rest comes.
#[test]
fn a_message_that_the_server_cannot_read_is_told_with_its_reason_and_its_file() {
    let mut world = World::new();
    let place = world.host.message_place(ANNA, 2);
    world.there.take_away(&place);
    world.there.put_file(&place.join(b"x"), "");
    let (report, _) = world.pull(&mut Net::default()).expect("a pull");
    let [Problem::Message { uid: 2, path, why: Why::Unreadable(error), .. }] = &report.problems[..] else {
        panic!("{report:?}")
    };
    assert_eq!((path.as_str(), report.messages_added), (&place.shown()[..], 3), "{error}");
    let local = world.local().expect("a local run");
    let [Problem::Message { why: Why::Unreadable(expected), .. }] = &local.problems[..] else { panic!("{local:?}") };
    assert!(error.to_string().contains(&expected.to_string()), "{error}: {expected}");
}

#[test]
fn everybody_of_the_host_is_listed_from_afar() {
    let mut world = World::new();
    for user in ["b%b", "zo\u{eb}", "c d"] {
        world.host.folder(&format!("user.{user}")).deliver(&story::mail(1, 100));
    }
    world.host.folder("shared.box").deliver(&story::mail(2, 100));
    world.host.publish(&mut world.there);
    let owners = |io: Io| async move {
        let Greeted::Native(mut client) = connect(&io, "imap1", limits()).await? else { panic!("a native server") };
        let owners = client.owners().await;
        client.close().await;
        owners
    };
    let found =
        join(&mut world.here, &mut world.there, &mut Net::default(), owners, |io| server(io, serving())).expect("owners");
    let local = |io: Io| async move {
        let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
        Site::open(&io, conf, None, Locking::AsServer, Patience::default()).await?.owners(&io).await
    };
    let expected = drive(&mut world.there, local).finished().expect("owners");
    assert!(expected.len() == 6 && expected.contains(&Owner::Shared), "{expected:?}");
    assert_eq!(found, expected);
}

/// A server that waited in vain says for what; a run from afar ends as a local one does.
#[test]
fn a_folder_that_is_locked_on_the_server_is_told_by_name() {
    let mut world = World::new();
    world.pull(&mut Net::default()).expect("a pull");
    world.host.folder(ANNA).deliver(&story::mail(30, 500));
    world.host.publish(&mut world.there);
    world.there.hold(&world.host.meta_place(ANNA, "cyrus.index"), LockMode::Exclusive, "process 7 (imapd)");
    world.settle();
    // Whoever waits for the server must have more patience than it has.
    let patient = |io: Io| async move {
        let limits = Limits { stall: Span::from_secs(180), ..limits() };
        let Greeted::Native(mut client) = connect(&io, "imap1", limits).await? else { panic!("a native server") };
        let result = backup::run(&io, &mut Origin::Native(&mut client), &anna(), &archive_dir(&anna())?, &settings()).await;
        client.close().await;
        result
    };
    let error = join(&mut world.here, &mut world.there, &mut Net::default(), patient, |io| server(io, serving()));
    let error = error.expect_err("a lock that is never free");
    let Error::Busy { object, .. } = &error else { panic!("{error}") };
    assert!(object.contains("cyrus.index, held by process 7 (imapd)"), "{object}");
    world.there.let_go();
    assert_eq!(world.pull(&mut Net::default()).expect("a pull").0.messages_added, 1);
}

/// Passes are asked for ahead. Whoever is wanted first gets what was said of that one, and nobody else's.
#[test]
fn a_pass_that_was_announced_is_given_to_whom_it_is_of() {
    let mut world = World::new();
    world.host.folder("user.carol").deliver(&story::mail(3, 100));
    world.host.publish(&mut world.there);
    world.settle();
    let names = |io: Io| async move {
        let Greeted::Native(mut client) = connect(&io, "imap1", limits()).await? else { panic!("a native server") };
        let owner = |name: &str| Owner::User(name.as_bytes().to_vec());
        let (plain, other) = (Ask::default(), Ask { quota_roots: vec![b"user.anna".to_vec()], ..Ask::default() });
        for name in ["anna", "bob", "carol"] {
            client.announce_pass(&owner(name), &plain).await?;
        }
        let mut found = Vec::new();
        for (name, ask) in [("carol", &plain), ("bob", &plain), ("anna", &other), ("anna", &plain), ("anna", &plain)] {
            let pass = client.pass(&owner(name), ask).await?;
            found.push((name, pass.folders.len(), pass.folders[0].key.clone()));
        }
        // Carol is behind anna in what was asked for again.
        client.announce_pass(&owner("anna"), &plain).await?;
        client.announce_pass(&owner("carol"), &plain).await?;
        found.push(("carol", client.owners().await?.len(), client.pass(&owner("carol"), &plain).await?.folders[0].key.clone()));
        let trips = client.round_trips();
        client.close().await;
        Ok::<_, Error>((found, trips))
    };
    let (found, trips) =
        join(&mut world.here, &mut world.there, &mut Net::default(), names, |io| server(io, serving())).expect("passes");
    let expected = [("carol", 1), ("bob", 1), ("anna", 2), ("anna", 2), ("anna", 2), ("carol", 3)];
    for ((name, folders, key), (user, count)) in found.iter().zip(expected) {
        let wanted = format!("Nuser\x1f{user}");
        assert_eq!((*name, *folders, &key[..]), (user, count, wanted.as_bytes()), "{found:?}");
    }
    assert!(trips <= 6, "{trips} round trips");
}

/// A message that goes in pieces: whichever operation of the server fails, what came of it is told, and the next run heals.
#[test]
fn whatever_operation_of_the_server_fails_nothing_of_a_large_message_is_taken_for_whole() {
    let large = story::long_mail(70, (8 << 20) + (3 << 20) + 17);
    let mut world = World { there: SimDisk::new(), here: SimDisk::new(), host: Host::new() };
    world.host.folder(ANNA).deliver(&large);
    world.host.publish(&mut world.there);
    world.settle();
    let mut in_pieces = 0;
    for at in 1.. {
        let mut world = World { there: world.there.clone(), here: SimDisk::new(), host: world.host.clone() };
        world.settle();
        world.there.plan(at, Trouble::Fail(Fault::Os(5)));
        let first = world.pull(&mut Net::default());
        if world.there.unplan() {
            assert!(at > 20 && in_pieces >= 11, "{at} operations, {in_pieces} pieces");
            return;
        }
        if let Ok((report, _)) = &first {
            let torn =
                |why: &Why| matches!(why, Why::Unreadable(error) if error.to_string().contains("could not read it to its end"));
            in_pieces += report.problems.iter().filter(|p| matches!(p, Problem::Message { why, .. } if torn(why))).count();
            assert!(report.messages_added == 1 || !report.is_clean(), "operation {at}: {report:?}");
        }
        let (report, _) = world.pull(&mut Net::default()).expect("the next run");
        assert!(report.is_clean(), "operation {at}: {report:?}");
        assert!(content(&mut world.here).1.values().any(|entry| *entry == large), "operation {at}");
    }
}

/// Problems as they are told, without who says so.
fn told(report: &Report) -> Vec<String> {
    let text = |problem: &Problem| match problem {
        Problem::Folder { folder, error } => format!("{}: {error}", String::from_utf8_lossy(folder)),
        Problem::State { name, error } => format!("{}: {error}", String::from_utf8_lossy(name)),
        other => panic!("{other:?}"),
    };
    report.problems.iter().map(text).collect()
}

/// Folders and files of all kinds, some of which cannot be read.
#[test]
fn what_cannot_be_read_is_told_as_a_local_run_tells_it_and_the_rest_is_saved() {
    let mut world = World::new();
    for folder in ["Bad", "Gone", "Torn"] {
        world.host.folder(&format!("user.anna.{folder}")).deliver(&story::mail(30, 300));
    }
    let id = world.host.folders[ANNA].id.clone();
    let hashed = format!("{}/{}/{id}", &id[..1], &id[1..2]);
    for (path, content) in [
        (format!("/var/lib/cyrus/user/uuid/{hashed}/seen.db"), b"\x00 no database, and saved as it is".to_vec()),
        (format!("/var/spool/sieve/uuid/{hashed}/main script.script"), b"keep;\r\n".to_vec()),
        (format!("/var/spool/sieve/uuid/{hashed}/main.bc"), b"\x01".to_vec()),
    ] {
        world.host.files.insert(path, content);
    }
    world.host.publish(&mut world.there);
    let sieve = |name: &str| Place::host(format!("/var/spool/sieve/uuid/{hashed}/{name}"));
    world.there.put_link(&sieve("defaultbc"), b"main.bc");
    world.there.put_file(&Place::host(format!("/var/lib/cyrus/user/uuid/{hashed}/sub.db/x")), "a directory in its place");
    world.there.change_file(&world.host.meta_place("user.anna.Bad", "cyrus.index"), vec![0; 400]);
    world.there.take_away(&world.host.meta_place("user.anna.Gone", "cyrus.index"));
    let torn = world.host.meta_place("user.anna.Torn", "cyrus.header");
    world.there.take_away(&torn);
    world.there.put_file(&torn.join(b"x"), "a directory in its place");
    let (report, _) = world.pull(&mut Net::default()).expect("a pull");
    let local = world.local().expect("a local run");
    assert_eq!((told(&report), report.folders, report.messages), (told(&local), local.folders, local.messages));
    assert_eq!(report.problems.len(), 4, "{:#?}", told(&report));
    assert!(content(&mut world.here) == content(&mut world.there), "other content");
    let states: Vec<Vec<u8>> = content(&mut world.here).0.states.into_iter().map(|state| state.name).collect();
    let names = [&b"meta/mailboxes"[..], b"meta/seen", b"sieve/defaultbc", b"sieve/main%20script.script", b"sieve/main.bc"];
    assert_eq!(states, names);
}

/// The other end of a pull need not be ours: messages can be asked for by what they are (PROTOCOL.md section 3.6).
#[test]
fn messages_are_given_by_guid_in_their_order_and_what_is_not_there_is_lacking() {
    let mut world = World::new();
    world.host.folder(ANNA).messages[2].unlinked = true;
    world.host.folder(ANNA).modseq += 1;
    world.host.publish(&mut world.there);
    let place = world.host.message_place(ANNA, 2);
    world.there.take_away(&place);
    let guids: Vec<Guid> = [0, 1, 2, 9].map(|n| Guid::of(&story::mail(n, 500))).to_vec();
    let asked = guids.clone();
    let asking = |io: Io| async move {
        let mut stream = Stream::connect(&io, "imap1", limits()).await?;
        let lines: String = asked.iter().map(|guid| format!("GUID {guid}\n")).collect();
        stream
            .send(format!("CYLINDER - version=1\nBODIES imap1 user=anna folder=INBOX\nUID 1\n{lines}END\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        loop {
            let line = stream.some_line().await?.to_vec();
            let is_last = line == b"DONE BODIES";
            if line.starts_with(b"DATA ") {
                let (block, mut content) = (stream.block(&line)?, Vec::new());
                stream.content(&block, 1 << 20, &mut content).await?;
                answer.push((String::from_utf8_lossy(&block.name).into_owned(), Some(Guid::of(&content))));
            } else if let Some(lack) = line.strip_prefix(b"LACK ") {
                let lack = String::from_utf8_lossy(lack).into_owned();
                assert!(lack.contains(" absent=1 "), "{lack}");
                answer.push((lack.split(' ').next().expect("a name").to_owned(), None));
            }
            if is_last {
                return Ok::<_, Error>(answer);
            }
        }
    };
    let answer = join(&mut world.here, &mut world.there, &mut Net::default(), asking, |io| server(io, serving()));
    let mut expected = vec![(String::from("1"), Some(guids[0]))];
    // The file of the second is gone, the third is unlinked by its record, and the last is in another folder.
    expected.extend(guids.iter().collect::<std::collections::BTreeSet<_>>().into_iter().map(|guid| {
        let there = Some(*guid).filter(|guid| *guid == guids[0]);
        (guid.to_hex(), there)
    }));
    assert_eq!(answer.expect("an answer"), expected);
}
