//! What happens in a life, as data: the world it is in, and one step after the other.
//!
//! A life is made from a seed before anything of it is done, and each step means something in whatever state it finds the
//! world: folders and messages are named by numbers that are taken modulo how many there are. So any steps can be left out of a
//! life, which is how one that failed is made short.

use super::stage::Wire;
use crate::choose::{Choose, Sampler};
use cylinder_core::archive::append::Mark;
use cylinder_core::time::Span;

/// Days that a life has.
pub const DAYS: u32 = 30;
/// What may be retained.
pub const POLICIES: [&str; 6] = [
    "",
    "keep-within 0h",
    "keep-within 3d keep-daily 5",
    "keep-within 12h keep-daily 9 keep-weekly 2",
    "off",
    "keep-within 2d",
];

/// How mail comes into a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// From the same host, on whose disk it is.
    Local,
    /// Pulled from another host that runs Cylinder.
    Native,
    /// Pulled from a host that runs a backupcyrusd.
    Stock,
}

/// What the world is like, as long as the life goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Traits {
    /// What stamps of the host are rounded down to.
    pub step: Span,
    /// The stores, and what each retains.
    pub stores: Vec<(Kind, &'static str)>,
    /// Version of new indexes.
    pub index: u32,
    /// Compression level.
    pub level: u8,
    /// Content after which a checkpoint is due.
    pub checkpoint: u64,
    /// Members that may be under way, and whether the last one comes back first.
    pub ahead: usize,
    /// See [`crate::disk::SimDisk::set_late_seals`].
    pub late_seals: bool,
    /// Seconds by which the clocks of backup hosts differ from that of the mail server.
    pub skew: i64,
}

/// Something that happens on the mail server.
#[expect(missing_docs, reason = "the names of the fields, with the line above each, say what they are")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A message is delivered.
    Deliver { folder: u32, size: u32, n: u64 },
    /// Flags of a message are set.
    Flag { folder: u32, message: u32, flags: u32 },
    /// Every so many-th message is expunged; files and records stay.
    Expunge { folder: u32, every: u32 },
    /// Files of expunged messages are removed, the records say so.
    Unlink { folder: u32 },
    /// Records of removed messages go: the index is replaced by a shorter one.
    Repack { folder: u32 },
    /// The index is replaced by one that says the same.
    Reconstruct { folder: u32 },
    /// A message is copied.
    Copy { from: u32, message: u32, to: u32 },
    /// A message is moved, and its old file removed.
    Move { from: u32, message: u32, to: u32 },
    /// A folder is made.
    Create { name: u32, id: u64 },
    /// A folder gets another name.
    Rename { folder: u32, name: u32 },
    /// Two folders exchange their names.
    Swap { a: u32, b: u32 },
    /// A folder is removed.
    Remove { folder: u32 },
    /// A folder is removed, and another one made that has its name.
    Recreate { folder: u32, id: u64 },
    /// A file that belongs to no folder changes: 0 subscriptions, 1 seen state, 2 and 3 sieve scripts.
    File { which: u32, n: u64 },
    /// An annotation of a folder is set.
    Annotate { folder: u32, n: u64 },
    /// Another user gets mail.
    Neighbour { n: u64 },
    /// The server is restored from a copy: folders are as they were once.
    Restored { version: u32 },
    /// Nearly all messages are gone.
    Loss,
    /// The server knows nothing of the user any more, or does again.
    Vanish,
}

/// How a machine or a process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Before the operation has any effect.
    Before,
    /// Before its reply.
    After,
    /// When so many bytes of a write have had their effect.
    Torn(usize),
}

/// What runs beside a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Beside {
    /// A compaction.
    Compaction,
    /// A second run over the same archive.
    Backup,
    /// Somebody who reads everything.
    Reader,
}

/// When it comes to trouble in a run: before which operation of the procedure that backs up or compacts, from 0.
///
/// Of the hundred or two of a backup, ten write to the store. Whether they come in the right order is what stops and failures
/// are about, so these are counted alone, too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// Of all operations.
    Op(u32),
    /// Of those that write to the store.
    Write(u32),
}

/// Trouble in a run. `at` as a number counts all operations.
#[expect(missing_docs, reason = "the names of the fields, with the line above each, say what they are")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fault {
    /// No space is left.
    NoSpace { at: At },
    /// Input or output fails.
    Io { at: At },
    /// Input or output fails, and a sync forgets what it should have made durable.
    Forget { at: At },
    /// The process is killed, or with a seed the machine loses its power.
    Stop { at: At, how: Stop, power: Option<u64> },
    /// The server's process is killed.
    Server { at: u32 },
    /// The stream does this.
    Wire(Wire),
    /// Somebody holds a lock for so many milliseconds: on the user, or on the INBOX's index.
    Holder { at: u32, user: bool, ms: i64 },
    /// The clock of the store's host is set, by so many seconds.
    Jump { at: At, secs: i64 },
    /// What is read has one bit that is another one.
    Flip { at: u32, bit: u64 },
    /// Somebody else is at work, in an order by this seed.
    Beside { who: Beside, seed: u64 },
}

/// One step of a life.
#[expect(missing_docs, reason = "the names of the fields, with the line above each, say what they are")]
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Time passes.
    Wait { ms: i64 },
    /// The mail server's clock is set, by so many seconds.
    Jump { secs: i64 },
    /// Something happens on the mail server.
    Change(Change),
    /// A backup into a store, with what happens meanwhile, each before an operation of this number or as soon as locks allow.
    Backup { store: usize, faults: Vec<Fault>, meanwhile: Vec<(u32, Change)> },
    /// A compaction.
    Compact { store: usize, if_needed: bool, faults: Vec<Fault> },
    /// Somebody decides something about an archive.
    Mark { store: usize, mark: Mark },
    /// A bit rots, in a copy of the store: it is found, and nothing that is good suffers.
    Rot { store: usize, place: u64, bit: u8 },
}

/// A life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Life {
    /// What it was made from.
    pub seed: u64,
    /// Its world.
    pub traits: Traits,
    /// What happens.
    pub steps: Vec<Step>,
}

/// Answers yes once in `n` times.
fn once_in(chance: &mut Sampler, n: u32) -> bool {
    chance.upto(n - 1) == 0
}

impl Traits {
    fn of(chance: &mut Sampler) -> Traits {
        let one = |chance: &mut Sampler| {
            let kind = [Kind::Local, Kind::Local, Kind::Native, Kind::Native, Kind::Stock][chance.upto(4) as usize];
            (kind, POLICIES[chance.upto(POLICIES.len() as u32 - 1) as usize])
        };
        let stores = (0..1 + chance.upto(2) / 2).map(|_| one(chance)).collect();
        Traits {
            step: [Span(1), Span(1), Span::from_ms(4), Span::from_secs(1)][chance.upto(3) as usize],
            stores,
            index: [17, 17, 19, 16, 13, 12, 10, 9][chance.upto(7) as usize],
            level: [0, 0, 0, 1][chance.upto(3) as usize],
            checkpoint: [1500, 6000, 48 << 20][chance.upto(2) as usize],
            ahead: 1 + chance.upto(2) as usize,
            late_seals: chance.flip(),
            skew: [0, 0, 37, -4000][chance.upto(3) as usize],
        }
    }
}

impl Change {
    fn of(chance: &mut Sampler) -> Change {
        let mut n = |most: u32| chance.upto(most);
        let (folder, message, to) = (n(9), n(30), n(9));
        match n(33) {
            0..=9 => {
                let size = if n(29) == 0 { 66_000 + n(9000) } else { 60 + n(700) };
                Change::Deliver { folder: if n(2) == 0 { folder } else { 0 }, size, n: chance.bits() }
            }
            10..=13 => Change::Flag { folder, message, flags: n(31) },
            14 | 15 => Change::Expunge { folder, every: 1 + n(3) },
            16 | 17 => Change::Unlink { folder },
            18 => Change::Repack { folder },
            19 => Change::Reconstruct { folder },
            20 | 21 => Change::Copy { from: folder, message, to },
            22 | 23 => Change::Move { from: folder, message, to },
            24 | 25 => Change::Create { name: n(7), id: chance.bits() },
            26 => Change::Rename { folder, name: n(7) },
            27 => Change::Swap { a: folder, b: to },
            28 if n(1) == 0 => Change::Remove { folder },
            28 => Change::Recreate { folder, id: chance.bits() },
            29 | 30 => Change::File { which: n(3), n: chance.bits() },
            31 => Change::Annotate { folder, n: chance.bits() },
            32 => Change::Neighbour { n: chance.bits() },
            _ if n(3) == 0 => Change::Restored { version: n(1000) },
            _ if n(3) == 0 => Change::Loss,
            _ if n(7) == 0 => Change::Vanish,
            _ => Change::Flag { folder, message, flags: 0 },
        }
    }
}

/// The number of an operation: early ones and late ones of a run of some hundred.
fn place(chance: &mut Sampler) -> u32 {
    let most = [12, 40, 90, 160][chance.upto(3) as usize];
    chance.upto(most)
}

impl At {
    fn of(chance: &mut Sampler) -> At {
        if chance.flip() {
            return At::Op(place(chance));
        }
        let most = [3, 12, 40][chance.upto(2) as usize];
        At::Write(chance.upto(most))
    }
}

impl Stop {
    fn of(chance: &mut Sampler) -> Stop {
        match chance.upto(3) {
            0 => Stop::Before,
            1 => Stop::After,
            _ => Stop::Torn([1, 100, 511, 512, 513, 1024, 2000][chance.upto(6) as usize]),
        }
    }
}

impl Fault {
    /// Trouble that any procedure may have that writes an archive.
    fn of_disk(chance: &mut Sampler) -> Fault {
        let at = At::of(chance);
        match chance.upto(7) {
            0 => Fault::NoSpace { at },
            1 => Fault::Io { at },
            2 => Fault::Forget { at },
            3 => Fault::Jump { at, secs: jump(chance) },
            n => Fault::Stop { at, how: Stop::of(chance), power: (n > 4).then(|| chance.bits()) },
        }
    }

    /// Trouble of a backup.
    fn of(chance: &mut Sampler, kind: Kind) -> Fault {
        let at = place(chance);
        match chance.upto(11) {
            0 => Fault::Holder { at, user: chance.flip(), ms: [1, 50, 1500, 7_000, 200_000][chance.upto(4) as usize] },
            1 if kind != Kind::Stock => Fault::Flip { at, bit: chance.bits() >> 32 },
            2 => {
                let who = [Beside::Compaction, Beside::Backup, Beside::Reader][chance.upto(2) as usize];
                Fault::Beside { who, seed: chance.bits() }
            }
            3 if kind != Kind::Local => Fault::Server { at },
            4..=6 if kind != Kind::Local => Fault::Wire(wire(chance, kind)),
            _ => Fault::of_disk(chance),
        }
    }
}

fn jump(chance: &mut Sampler) -> i64 {
    [-100_000, -3600, -70, 90, 5000, 200_000][chance.upto(5) as usize]
}

fn wire(chance: &mut Sampler, kind: Kind) -> Wire {
    let mut wire = Wire::default();
    let most = [60, 600, 6000, 20_000][chance.upto(3) as usize];
    let spot = (chance.upto(3).min(1) as usize, u64::from(chance.upto(most)));
    match chance.upto(6) {
        0 | 1 => wire.cut = Some(spot),
        2 => wire.stall = Some(spot),
        3 => wire.half = Some(spot),
        // What a stock server says of files has no SHA-1.
        4 if kind == Kind::Native => wire.flip = Some((1, spot.1)),
        _ => {}
    }
    wire.piece = [0, 1, 3, 100, 1000][chance.upto(4) as usize];
    wire.delay = Span::from_ms([0, 0, 2, 40][chance.upto(3) as usize]);
    wire
}

impl Step {
    fn backup(chance: &mut Sampler, traits: &Traits, store: usize) -> Step {
        let (mut faults, mut meanwhile) = (Vec::new(), Vec::new());
        if once_in(chance, 3) {
            faults.push(Fault::of(chance, traits.stores[store].0));
        }
        if once_in(chance, 4) {
            meanwhile.extend((0..1 + chance.upto(2)).map(|_| (place(chance), Change::of(chance))));
            meanwhile.sort_by_key(|(at, _)| *at);
        }
        Step::Backup { store, faults, meanwhile }
    }

    fn extra(chance: &mut Sampler, store: usize) -> Option<Step> {
        match chance.upto(39) {
            0..=2 => {
                let faults = if chance.flip() { vec![Fault::of_disk(chance)] } else { Vec::new() };
                Some(Step::Compact { store, if_needed: once_in(chance, 3), faults })
            }
            3..=5 => Some(Step::Compact { store, if_needed: false, faults: Vec::new() }),
            6 => Some(Step::Mark { store, mark: [Mark::Acknowledge, Mark::Hold][chance.upto(1) as usize] }),
            7 => Some(Step::Mark { store, mark: Mark::Release }),
            8 | 9 => Some(Step::Rot { store, place: chance.bits() >> 1, bit: chance.upto(7) as u8 }),
            10 => Some(Step::Jump { secs: jump(chance) }),
            _ => None,
        }
    }
}

impl Life {
    /// The life of a seed.
    pub fn of(seed: u64) -> Life {
        let mut chance = Sampler::new(seed ^ 0x6C69_6665);
        let traits = Traits::of(&mut chance);
        let mut steps = Vec::new();
        for _ in 0..DAYS {
            steps.extend((0..chance.upto(3)).map(|_| Step::Change(Change::of(&mut chance))));
            for store in 0..traits.stores.len() {
                if !once_in(&mut chance, 8) {
                    steps.push(Step::backup(&mut chance, &traits, store));
                }
                steps.extend(Step::extra(&mut chance, store));
                if once_in(&mut chance, 8) {
                    // Somebody who is quick, or the same second.
                    steps.push(Step::Change(Change::of(&mut chance)));
                    steps.push(Step::Wait { ms: [0, 1, 3, 900, 5000][chance.upto(4) as usize] });
                    steps.push(Step::backup(&mut chance, &traits, store));
                }
            }
            steps.push(Step::Wait { ms: 86_400_000 + i64::from(chance.upto(7_200_000)) });
        }
        Life { seed, traits, steps }
    }

    /// Time that passes between steps.
    pub fn span(&self) -> Span {
        let ms = |step: &Step| if let Step::Wait { ms } = step { *ms } else { 0 };
        Span::from_ms(self.steps.iter().map(ms).sum())
    }
}
