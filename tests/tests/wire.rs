//! Backups over the protocol, both ends simulated: the same archive as from a local run, and what trouble comes to.

use cylinder_core::backup::report::Report;
use cylinder_core::backup::{self, Settings};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::io::{Io, Place};
use cylinder_core::pull::Origin;
use cylinder_core::pull::native::{Greeted, connect};
use cylinder_core::pull::work::{Queue, work};
use cylinder_core::serve;
use cylinder_core::source::message::IN_MEMORY_MAX;
use cylinder_core::store::archive_dir;
use cylinder_core::time::Span;
use cylinder_tests::disk::SimDisk;
use cylinder_tests::host::Host;
use cylinder_tests::local::{ANNA, anna, later, settings};
use cylinder_tests::net::{Net, Way, join};
use cylinder_tests::pulled::{World, content, limits, pull, server, serving};
use cylinder_tests::story;
use std::collections::VecDeque;

#[test]
fn a_pull_makes_the_archive_that_a_local_run_makes() {
    let mut world = World::new();
    for round in 0..5 {
        match round {
            1 => drop(world.host.folder("user.anna.Sent").deliver(&story::mail(10, 3000))),
            2 => drop(world.host.folder("user.anna.Work").deliver(&story::mail(1, 500))),
            3 => world.host.folder(ANNA).flag(2, 1),
            // One that goes through a scratch file on both sides.
            4 => drop(world.host.folder(ANNA).deliver(&b"Subject: large\r\n\r\n".repeat(IN_MEMORY_MAX as usize / 18 + 1))),
            _ => {}
        }
        world.host.publish(&mut world.there);
        let (report, _) = world.pull(&mut Net::default()).expect("a pull");
        let expected = world.local().expect("a local run");
        assert!(report.is_clean(), "{report:?}");
        // Times take more or less room, and locks are held for as long as each host takes.
        let strip = |report: Report| Report { longest_hold: Span(0), archive_bytes: 0, ..report };
        assert_eq!(strip(report), strip(expected), "round {round}");
        assert!(content(&mut world.here) == content(&mut world.there), "round {round}: other content");
    }
}

#[test]
fn a_pull_of_nothing_new_is_one_round_trip_after_the_greeting_and_writes_nothing() {
    let mut world = World::new();
    let (_, first) = world.pull(&mut Net::default()).expect("a pull");
    assert!(first <= 5, "a first run took {first} round trips");
    world.settle();
    let (before, changes) = (world.here.store(), world.here.changes());
    let mut net = Net::default();
    let (report, trips) = world.pull(&mut net).expect("a pull");
    assert_eq!((report.commit, trips), (None, 2));
    assert_eq!((world.here.store(), world.here.changes()), (before, changes));
    assert!(net.sent[1] < 3000, "{} bytes for two folders", net.sent[1]);
}

/// Life 42584: of a folder of Cyrus 2.3, whose index has no SHA-1s, all messages came again as soon as one was new.
#[test]
fn messages_of_an_index_without_sha1s_come_once() {
    let mut world = World::new();
    world.host.folder("user.anna.Sent").minor_version = 9;
    world.host.publish(&mut world.there);
    world.pull(&mut Net::default()).expect("a pull");
    world.host.folder("user.anna.Sent").deliver(&story::mail(10, 3000));
    world.host.publish(&mut world.there);
    let mut net = Net::default();
    let (report, _) = world.pull(&mut net).expect("a pull");
    assert_eq!((report.messages_added, report.folders_changed), (1, 1));
    assert!(net.sent[1] < 10_000, "{} bytes for a message of 3,000", net.sent[1]);
    let (_, entries) = content(&mut world.here);
    assert!([story::mail(9, 100_000), story::mail(10, 3000)].iter().all(|mail| entries.values().any(|entry| entry == mail)));
}

#[test]
fn round_trips_do_not_grow_with_folders() {
    let mut world = World::new();
    for n in 0..498 {
        world.host.folder(&format!("user.anna.f{n}")).deliver(&story::mail(1000 + n, 200));
    }
    world.host.publish(&mut world.there);
    let (report, trips) = world.pull(&mut Net::default()).expect("a pull");
    assert_eq!((report.folders, report.messages_added), (500, 502));
    assert!(trips <= 6, "{trips} round trips");
    world.settle();
    assert_eq!(world.pull(&mut Net::default()).expect("a pull").1, 2);
}

#[test]
fn bytes_may_come_one_at_a_time_and_late() {
    let mut other = World::new();
    other.pull(&mut Net::default()).expect("a pull");
    let expected = content(&mut other.here);
    for piece in [1, 2, 3, 7, 100, 4096] {
        let mut world = World::new();
        let delay = Span::from_ms(piece as i64);
        world.pull(&mut Net { piece, delay, ..Net::default() }).expect("a pull");
        assert!(content(&mut world.here) == expected, "pieces of {piece}");
    }
}

/// A user with two small folders, for trying everything.
fn small() -> World {
    let mut world = World { there: SimDisk::new(), here: SimDisk::new(), host: Host::new() };
    later(&mut world.there, 123);
    world.host.folder(ANNA).deliver(&story::mail(1, 90));
    world.host.folder("user.anna.Sent").deliver(&story::mail(2, 90));
    world.host.publish(&mut world.there);
    world
}

/// Cuts first runs over what `make` makes at these places, and lets the next run heal them.
fn cut(make: fn() -> World, places: impl Fn(u64) -> Vec<u64>) {
    let mut whole = make();
    let mut net = Net::default();
    whole.pull(&mut net).expect("a pull");
    let expected = content(&mut whole.here);
    for way in [Way::Up, Way::Down] {
        for at in places(net.sent[way as usize]) {
            let mut world = make();
            let cut = world.pull(&mut Net { cut: Some((way, at)), ..Net::default() });
            let error = cut.expect_err("a cut run is no success");
            assert!(matches!(&error, Error::Peer { .. }), "{way:?} {at}: {error}");
            world.pull(&mut Net::default()).unwrap_or_else(|e| panic!("{way:?} {at}: the next run: {e}"));
            assert!(content(&mut world.here) == expected, "{way:?} {at}");
        }
    }
}

#[test]
fn a_connection_that_is_cut_after_any_byte_is_an_error_and_the_next_run_heals() {
    cut(small, |len| (0..len).collect());
}

#[test]
fn so_is_one_that_is_cut_in_a_large_message() {
    cut(World::new, |len| (0..len).step_by(1499).chain(len.saturating_sub(100)..len).collect());
}

/// The peer tombstoned 11 of 16 live folders when an answer was cut.
#[test]
fn a_cut_never_makes_a_tombstone() {
    for at in (0..6000).step_by(7) {
        let mut world = World::new();
        world.pull(&mut Net::default()).expect("a pull");
        world.host.folder(ANNA).deliver(&story::mail(20, 900));
        world.host.publish(&mut world.there);
        let cut = world.pull(&mut Net { cut: Some((Way::Down, at)), ..Net::default() });
        let (table, _) = content(&mut world.here);
        assert_eq!(table.folders.len(), 2, "{at}: a folder is gone");
        if cut.is_err() {
            assert_eq!(world.pull(&mut Net::default()).expect("the next run").0.messages, 6, "{at}");
        }
    }
}

#[test]
fn a_server_that_falls_silent_is_given_up() {
    for at in [0, 10, 300, 2000, 50_000] {
        let mut world = World::new();
        let error = world.pull(&mut Net { stall: Some((Way::Down, at)), ..Net::default() }).expect_err("silence is no success");
        let Error::Peer { why, .. } = &error else { panic!("{error}") };
        assert!(why.contains("nothing came for 60 s"), "{at}: {why}");
        world.pull(&mut Net::default()).expect("the next run");
    }
}

#[test]
fn the_text_of_the_process_behind_the_stream_is_told() {
    let mut world = World::new();
    let complaint = Some(String::from("Permission denied (publickey)."));
    let error = world.pull(&mut Net { cut: Some((Way::Down, 0)), complaint, ..Net::default() }).expect_err("no connection");
    assert!(error.to_string().contains("Permission denied (publickey)."), "{error}");
}

#[test]
fn users_that_are_not_given_away_are_refused() {
    let mut world = World::new();
    let settings = serve::Settings { users: vec![String::from("b*")], ..serving() };
    let error = join(&mut world.here, &mut world.there, &mut Net::default(), pull, |io| server(io, settings));
    let Err(Error::Refused(why)) = &error else { panic!("{error:?}") };
    assert!(why.contains("may not have that user"), "{why}");
    assert!(world.here.store().is_empty(), "nothing is made for a user who cannot be had");
}

/// Nothing of the host but lock files is written.
#[test]
fn a_server_writes_nothing() {
    let mut world = World::new();
    world.pull(&mut Net::default()).expect("a pull");
    let written: Vec<&Place> = world.there.written().iter().collect();
    assert!(!written.is_empty() && written.iter().all(|place| place.shown().contains("/lock/")), "{written:?}");
}

/// Takes a list of users, and notes what came of each.
struct List {
    owners: VecDeque<Owner>,
    reports: Vec<Result<Report, Error>>,
    /// After so many, nobody is to be begun.
    most: usize,
}

impl Queue for List {
    fn next(&mut self) -> Option<(Owner, Settings)> {
        self.owners.pop_front().map(|owner| (owner, settings()))
    }

    fn is_over(&self) -> bool {
        self.reports.len() >= self.most
    }

    fn done(&mut self, _: &Owner, result: Result<Report, Error>) {
        self.reports.push(result);
    }

    fn put_back(&mut self, owner: Owner) {
        self.owners.push_front(owner);
    }
}

/// A link of 50 ms each way must not be felt once for each user.
#[test]
fn round_trips_are_shared_by_users_without_news() {
    let mut world = World { there: SimDisk::new(), here: SimDisk::new(), host: Host::new() };
    later(&mut world.there, 123);
    let users: Vec<String> = (0..200).map(|n| format!("u{n:03}")).collect();
    for (n, user) in users.iter().enumerate() {
        world.host.folder(&format!("user.{user}")).deliver(&story::mail(n as u64, 200));
    }
    world.host.publish(&mut world.there);
    let owners: VecDeque<Owner> = users.iter().map(|user| Owner::User(user.clone().into_bytes())).collect();
    let mut run = |net: &mut Net, most: usize, with_news: &[&str]| {
        for user in with_news {
            world.host.folder(&format!("user.{user}")).deliver(&story::mail(1000, 200));
        }
        world.host.publish(&mut world.there);
        world.settle();
        let owners = owners.clone();
        let all = |io: Io| async move {
            let Greeted::Native(mut client) = connect(&io, "imap1", limits()).await? else { panic!("a native server") };
            let mut list = List { owners, reports: Vec::new(), most };
            work(&io, &mut Origin::Native(&mut client), &mut list).await?;
            let trips = client.round_trips();
            client.close().await;
            Ok::<_, Error>((list, trips))
        };
        let begun = world.here.now();
        let (list, trips) = join(&mut world.here, &mut world.there, net, all, |io| server(io, serving())).expect("a run");
        (list, trips, world.here.now().since(begun))
    };
    // Not even those whose passes were asked for are begun when it is over, and they come first the next time.
    let (begun, ..) = run(&mut Net::default(), 3, &[]);
    assert_eq!((begun.reports.len(), begun.owners), (3, owners.iter().skip(3).cloned().collect()));
    let (List { reports: rest, .. }, ..) = run(&mut Net::default(), 200, &[]);
    let first: Vec<_> = begun.reports.into_iter().chain(rest.into_iter().skip(3)).collect();
    assert!(first.len() == 200 && first.iter().flatten().all(|report| report.messages_added == 1 && report.is_clean()));
    let far = || Net { delay: Span::from_ms(50), ..Net::default() };
    let (List { reports: second, .. }, trips, took) = run(&mut far(), usize::MAX, &[]);
    assert!(second.len() == 200 && second.iter().flatten().all(|report| report.commit.is_none()));
    println!("200 users without news: {trips} round trips, {} ms over a link of 50 ms each way", took.ms());
    assert!(trips <= 20, "{trips} round trips");
    // Two for each of those who have some. What was answered meanwhile about users behind them is not asked for again.
    let (List { reports: third, .. }, with_news, _) = run(&mut far(), usize::MAX, &["u000", "u070", "u140"]);
    assert_eq!(third.iter().flatten().filter(|report| report.messages_added == 1).count(), 3);
    assert!(with_news <= trips + 3 * 3, "{with_news} round trips, {trips} without news");
}

/// Anna with many messages behind those of INBOX and Sent, and what becomes of her first pull when the files of two messages
/// of INBOX are not as its index says.
fn pull_of_surprises(first: Option<Vec<u8>>, third: Option<Vec<u8>>) -> (Report, u64, u64, World) {
    let mut world = World::new();
    for n in 0..100 {
        world.host.folder("user.anna.Trash").deliver(&story::mail(200 + n, 1000));
    }
    world.host.publish(&mut world.there);
    for (uid, content) in [(1, first), (3, third)] {
        let place = world.host.message_place(ANNA, uid);
        world.there.take_away(&place);
        content.into_iter().for_each(|content| world.there.put_file(&place, content));
    }
    let mut net = Net::default();
    let (report, trips) = world.pull(&mut net).expect("a pull");
    (report, trips, net.sent[1], world)
}

/// A message that was planned for one folder cannot be had there, and another folder has it, too. That is not what was
/// announced: what is on its way is read over, once, and asked for again as it was.
#[test]
fn a_copy_of_a_message_that_is_missing_elsewhere_is_asked_for_out_of_order() {
    let (report, trips, bytes, mut world) = pull_of_surprises(Some(story::mail(0, 500)), None);
    assert_eq!((report.messages_added, report.problems_count), (104, 0), "{report:?}");
    assert!(trips <= 10 && bytes < 600_000, "{trips} round trips, {bytes} bytes");
    let (_, entries) = content(&mut world.here);
    assert!(entries.values().any(|entry| *entry == story::mail(2, 500)));
}

/// A message turns out to be one that was announced elsewhere: that one is not wanted any more, and is read over alone.
#[test]
fn a_message_that_came_under_another_name_is_read_over_alone() {
    let (report, trips, bytes, mut world) = pull_of_surprises(Some(story::mail(9, 100_000)), Some(story::mail(2, 500)));
    assert_eq!((report.messages_added, report.problems_count), (103, 1), "{report:?}");
    assert!(trips <= 6 && bytes < 400_000, "{trips} round trips, {bytes} bytes");
    let (_, entries) = content(&mut world.here);
    assert!(entries.values().any(|entry| *entry == story::mail(9, 100_000)));
}

/// A first run over a slow link commits what it has every minute, so that a cut costs no more than that.
#[test]
fn what_was_fetched_is_committed_every_minute() {
    let mut world = World::new();
    for n in 0..40 {
        world.host.folder(ANNA).deliver(&story::mail(100 + n, 10_000));
    }
    world.host.publish(&mut world.there);
    world.settle();
    let slowly = |io: Io| async move {
        let Greeted::Native(mut client) = connect(&io, "imap1", limits()).await? else { panic!("a native server") };
        // 400 kB take 200 seconds.
        let settings = Settings { read_rate: 2000, ..settings() };
        let dir = archive_dir(&anna())?;
        let report = backup::run(&io, &mut Origin::Native(&mut client), &anna(), &dir, &settings).await;
        client.close().await;
        report
    };
    let begun = world.here.now();
    let mut net = Net::default();
    let report = join(&mut world.here, &mut world.there, &mut net, slowly, |io| server(io, serving())).expect("a pull");
    let took = world.here.now().since(begun);
    assert!(took > Span::from_secs(200), "{} ms: the rate was not kept", took.ms());
    // The snapshot comes behind three or four checkpoints.
    assert!(report.is_clean() && report.commit.is_some_and(|number| (4..=5).contains(&number)), "{report:?}");
}
