//! The loop: order, threads, ticks, events, one task after the other.

use crate::{World, store};
use cylinder_core::archive::member::Kind;
use cylinder_core::error::Fault;
use cylinder_core::io::{Call, Event, How, Input, Io, LockMode, Machine, Op, Output, Reply, Task};
use cylinder_core::time::{Span, Time};
use cylinder_transport_local::{Config, Local};
use std::cell::Cell;

fn content(n: usize) -> Vec<u8> {
    (0..n * 9973 % 300_000).map(|i| (i * i / (n + 3)) as u8).collect()
}

fn seal(io: &Io, raw: Vec<u8>) -> Call {
    io.start(Op::Seal { kind: Kind::Data, flags: 1, raw, level: 6, check: true, buffer: b"old".to_vec() })
}

async fn seal_and_unseal(io: Io) -> Vec<Vec<u8>> {
    let calls: Vec<_> = (0..40).map(|n| seal(&io, content(n))).collect();
    let mut members = Vec::new();
    for (n, call) in calls.into_iter().enumerate() {
        let Ok(Reply::Sealed { member, raw }) = call.await else { panic!("member {n}") };
        assert!(raw.is_empty());
        members.push(member);
    }
    let unseal = |member: &Vec<u8>| io.start(Op::Unseal { member: member.clone(), buffer: b"old".to_vec() });
    let calls: Vec<_> = members.iter().map(unseal).collect();
    for (n, call) in calls.into_iter().enumerate() {
        let Ok(Reply::Unsealed { info, raw, member }) = call.await else { panic!("member {n}") };
        assert!(member.is_empty());
        assert!(raw == content(n), "member {n}");
        assert_eq!((info.kind, info.flags, info.len as usize), (Kind::Data, 1, members[n].len()));
    }
    members
}

#[test]
fn any_number_of_threads_makes_the_same_members() {
    let of = |threads| World::with(|config| Config { threads, ..config }).run(seal_and_unseal);
    let inline = of(0);
    for threads in [1, 2, 5] {
        assert!(of(threads) == inline, "{threads} threads");
    }
}

#[test]
fn faults_come_back_from_threads() {
    for threads in [0, 2] {
        let mut world = World::with(|config| Config { threads, ..config });
        let (large, junk) = world.run(|io| async move {
            let large = seal(&io, vec![0; (1 << 20) + 1]);
            let junk = io.unseal(b"junk".to_vec(), Vec::new()).await;
            (large.await, junk)
        });
        assert_eq!((large, junk), (Err(Fault::TooLarge), Err(Fault::Corrupt)));
    }
}

#[test]
fn results_that_nobody_waited_for_do_not_reach_the_next_task() {
    let mut world = World::with(|config| Config { threads: 2, ..config });
    for round in 0..5 {
        world.run(|io| async move {
            let forgotten: Vec<_> = (0..10).map(|n| seal(&io, content(n))).collect();
            // Lets the driver take them out.
            assert!(io.stat(&store(".")).await.is_ok());
            drop(forgotten);
        });
        let raw = format!("round {round}").into_bytes();
        let member = world.run(|io| seal(&io, raw.clone()));
        let Ok(Reply::Sealed { member, .. }) = member else { panic!("member") };
        let (_, back, _) = world.run(|io| async move { io.unseal(member, Vec::new()).await.unwrap() });
        assert_eq!(back, raw);
    }
}

#[test]
fn files_are_served_while_threads_work() {
    let mut world = World::with(|config| Config { threads: 1, ..config });
    let order = world.run(|io| async move {
        let call = seal(&io, content(29));
        let mut reads = 0;
        let file = io.open(&store("file"), How::Create).await.unwrap();
        for n in 0..100 {
            io.write_at(file, n, b"x".to_vec()).await.unwrap();
            reads += 1;
        }
        call.await.unwrap();
        reads
    });
    assert_eq!(order, 100);
}

#[test]
fn operations_on_one_file_take_effect_in_order() {
    let mut world = World::with(|config| Config { threads: 2, ..config });
    let bytes = world.run(|io| async move {
        let file = io.open(&store("file"), How::Create).await.unwrap();
        let first = io.start(Op::WriteAt { file, offset: 0, data: b"aaaa".to_vec() });
        let second = io.start(Op::WriteAt { file, offset: 2, data: b"bbbb".to_vec() });
        let third = io.start(Op::Truncate { file, len: 5 });
        let read = io.start(Op::ReadAt { file, offset: 0, len: 10, buffer: Vec::new() });
        let closed = io.start(Op::Close(file));
        let late = io.start(Op::FStat(file));
        let bytes = read.await;
        assert!(third.await.is_ok() && second.await.is_ok() && first.await.is_ok() && closed.await.is_ok());
        assert_eq!(late.await, Err(Fault::Os(9)));
        bytes
    });
    assert_eq!(bytes, Ok(Reply::Bytes(b"aabbb".to_vec())));
}

#[test]
fn what_was_asked_for_is_done_even_if_nobody_waits() {
    let mut world = World::new();
    world.run(|io| async move {
        let file = io.open(&store("file"), How::Create).await.unwrap();
        let first = io.start(Op::WriteAt { file, offset: 0, data: b"one ".to_vec() });
        drop(io.start(Op::WriteAt { file, offset: 4, data: b"two".to_vec() }));
        first.await.unwrap();
    });
    assert_eq!(std::fs::read(world.store_path("file")).unwrap(), b"one two");
}

#[test]
fn a_task_sleeps_until_its_time_and_not_much_longer() {
    for threads in [0, 1] {
        let mut world = World::with(|config| Config { threads, ..config });
        let begun = std::time::Instant::now();
        let (asked, woken) = world.run(|io| async move {
            let asked = io.now().plus(Span::from_ms(60));
            io.sleep_until(asked).await;
            (asked, io.now())
        });
        assert!(woken >= asked && begun.elapsed().as_millis() >= 55, "{asked} {woken}");
        // Generous, for a machine that is busy with other tests.
        assert!(begun.elapsed().as_secs() < 10);
    }
}

#[test]
fn events_are_handed_on_in_order() {
    let mut world = World::new();
    let mut seen = Vec::new();
    let task = Task::new(Local::now(), |io: Io| async move {
        io.event(Event::Expect { messages: 2, bytes: 7 });
        let _ = io.stat(&store(".")).await;
        io.event(Event::Progress { messages: 1, bytes: 3 });
        let _ = io.stat(&store(".")).await;
    });
    world.local.run(task, &mut |event| seen.push(event));
    assert_eq!(seen, [Event::Expect { messages: 2, bytes: 7 }, Event::Progress { messages: 1, bytes: 3 }]);
}

#[test]
fn what_a_task_leaves_open_is_closed() {
    let mut world = World::new();
    let file = world.run(|io| async move {
        let file = io.open(&store("lock"), How::Lock).await.unwrap();
        io.lock(file, LockMode::Exclusive).await.unwrap();
        file
    });
    assert_eq!(world.op(Op::FStat(file)), Err(Fault::Os(9)));
    let mut second = World::new().local;
    let path = crate::place(&world.store_path("lock"));
    let locked = crate::run(&mut second, |io| async move {
        let file = io.open(&path, How::Lock).await.unwrap();
        io.lock(file, LockMode::Exclusive).await
    });
    assert_eq!(locked, Ok(()));
}

#[test]
fn drivers_in_several_threads_do_not_disturb_each_other() {
    let world = World::new();
    let store_dir = world.store_path(".");
    std::thread::scope(|scope| {
        for user in 0..8 {
            let mut local = Local::new(Config { store: store_dir.clone(), threads: user % 3, ..Config::default() });
            scope.spawn(move || {
                crate::run(&mut local, |io| async move {
                    let dir = store(&format!("shared/{user}"));
                    io.make_dir(&dir).await.unwrap();
                    let file = io.open(&dir.join(b"file"), How::Create).await.unwrap();
                    io.write_at(file, 0, vec![user as u8; 1000]).await.unwrap();
                    seal_and_unseal(io.clone()).await;
                    assert_eq!(io.read_at(file, 0, 2000, Vec::new()).await.unwrap(), vec![user as u8; 1000]);
                });
            });
        }
    });
    assert_eq!(std::fs::read_dir(world.store_path("shared")).unwrap().count(), 8);
}

#[test]
fn the_clock_is_not_ahead_of_the_stamps_by_a_tick() {
    let mut world = World::new();
    for n in 0..20 {
        let (time, tick, stamp) = world.run(|io| async move {
            let (time, tick) = io.clock().await.unwrap();
            let file = io.open(&store(&format!("{n}")), How::Create).await.unwrap();
            io.write_at(file, 0, b"x".to_vec()).await.unwrap();
            (time, tick, io.fstat(file).await.unwrap().mtime)
        });
        assert!(stamp.plus(tick) > time, "{stamp} {tick:?} {time}");
        assert!(tick >= Span(100_000) && tick < Span::from_secs(1), "{tick:?}");
        assert!(Local::now().since(time).0.abs() < Span::from_secs(5).0);
    }
    assert_eq!(std::fs::read_dir(world.store_path(".")).unwrap().count(), 20);
}

/// A machine around a machine sees what passes; recording needs no help of the driver.
struct Watched<'a, M> {
    inner: M,
    asked: &'a Cell<usize>,
    answered: &'a Cell<usize>,
}

impl<M: Machine> Machine for Watched<'_, M> {
    type Outcome = M::Outcome;

    fn handle_input(&mut self, now: Time, input: Input) {
        assert!(now > Time::ZERO);
        self.answered.set(self.answered.get() + usize::from(matches!(input, Input::Done(..))));
        self.inner.handle_input(now, input);
    }

    fn poll_output(&mut self) -> Output<M::Outcome> {
        let output = self.inner.poll_output();
        self.asked.set(self.asked.get() + usize::from(matches!(output, Output::Op(..))));
        output
    }
}

#[test]
fn every_operation_is_answered_once() {
    for threads in [0, 2] {
        let mut world = World::with(|config| Config { threads, ..config });
        let (asked, answered) = (Cell::new(0), Cell::new(0));
        let inner = Task::new(Local::now(), seal_and_unseal);
        world.local.run(Watched { inner, asked: &asked, answered: &answered }, &mut |_| {});
        assert_eq!((asked.get(), answered.get()), (80, 80));
    }
}

#[test]
#[should_panic = "waits for nothing"]
fn a_machine_that_would_wait_for_ever_is_stopped() {
    World::new().run(|_| std::future::pending::<()>());
}
