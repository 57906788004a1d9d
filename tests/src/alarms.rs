//! Lives of a user for whom alarms are raised: mail is lost in part and as a whole, the user leaves and comes back, another
//! server has a user of the same name, somebody acknowledges or adopts at any time. A model of FORMAT.md 4.1 says what each
//! run must tell.
//!
//! What must not come in: what is saved (`crate::world` judges that).

use crate::choose::{Choose, Sampler};
use crate::disk::SimDisk;
use crate::drive::drive;
use crate::host::{Folder, Host};
use crate::local::{ANNA, anna, later, settings};
use crate::story;
use cylinder_core::archive::append::{Mark, Writer};
use cylinder_core::archive::standing::Cause;
use cylinder_core::backup::report::Report;
use cylinder_core::backup::{self, Settings};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::error::Error;
use cylinder_core::io::{Io, Place};
use cylinder_core::pull::Origin;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::store::archive_dir;
use std::collections::{BTreeMap, BTreeSet};

/// How the two servers are called.
const NAMES: [&str; 2] = ["ssh://imap1", "ssh://imap2"];
/// Nights of a life.
const NIGHTS: u64 = 10;

/// Counts what came of many lives, so that a test can say that they were not too quiet.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs that ended well, and told that alarms stand.
    pub runs: [u64; 2],
    /// Alarms raised, by the word for their cause.
    pub raised: BTreeMap<&'static str, u64>,
    /// Alarms that somebody acknowledged.
    pub acknowledged: u64,
    /// Archives that another source adopted.
    pub adopted: u64,
    /// Runs that passed over a user who was gone, and ended with 0.
    pub passed_over: u64,
}

struct Server {
    disk: SimDisk,
    host: Host,
    /// The folders of a user who left.
    left: BTreeMap<String, Folder>,
}

/// What must hold of the archive.
#[derive(Default)]
struct Model {
    home: Option<usize>,
    /// The INBOX of the last snapshot; inside, nothing if all folders were deleted then.
    snapshot: Option<Option<Counted>>,
    gone: bool,
    open: BTreeSet<&'static str>,
    strangers: BTreeSet<usize>,
}

/// A folder's uniqueid, and its messages.
type Counted = (String, usize);

struct Life {
    servers: [Server; 2],
    /// On whose disk the store is.
    store: usize,
    model: Model,
    delivered: u64,
    log: Vec<String>,
}

/// Lives one life. An error says what was wrong, and what happened until then.
pub fn run(seed: u64, tally: &mut Tally) -> Result<(), String> {
    let mut chance = Sampler::new(seed);
    let server = || Server { disk: SimDisk::new(), host: Host::new(), left: BTreeMap::new() };
    let mut life = Life { servers: [server(), server()], store: 0, model: Model::default(), delivered: 0, log: Vec::new() };
    let result = life.live(&mut chance, tally);
    result.map_err(|why| format!("{why}\n    {}", life.log.join("\n    ")))
}

impl Life {
    fn live(&mut self, chance: &mut Sampler, tally: &mut Tally) -> Result<(), String> {
        self.deliver(0, 6);
        for _ in 0..NIGHTS {
            for _ in 0..chance.upto(2) {
                self.happens(chance);
            }
            let first = usize::from(chance.upto(3) == 0);
            self.backup(first, false, tally)?;
            if chance.upto(2) == 0 {
                let adopts = chance.upto(4) == 0;
                self.backup(1 - first, adopts, tally)?;
            }
            if chance.upto(3) == 0 {
                self.acknowledge(tally)?;
            }
        }
        self.ends_quiet(tally)
    }

    /// However it was: after somebody has looked twice, no run tells of an alarm, as long as nothing happens.
    fn ends_quiet(&mut self, tally: &mut Tally) -> Result<(), String> {
        for _ in 0..2 {
            (0..2).try_for_each(|at| self.backup(at, false, tally))?;
            self.acknowledge(tally)?;
        }
        for at in [0, 1, 1, 0] {
            self.backup(at, false, tally)?;
        }
        if self.model.open.is_empty() { Ok(()) } else { Err(format!("{:?} stands for ever", self.model.open)) }
    }

    fn happens(&mut self, chance: &mut Sampler) {
        let at = usize::from(chance.upto(4) == 0);
        match chance.upto(8) {
            0 => self.deliver(at, 1 + chance.upto(5) as usize),
            1 => self.lose(at, 2),
            2 => self.lose(at, 3),
            3 => self.lose(at, 1),
            4 => self.leave(at, false),
            5 => self.leave(at, true),
            6 => self.come_back(at),
            7 => self.expire(at),
            _ => self.move_to(1 - at),
        }
    }

    fn note(&mut self, line: String) {
        self.log.push(line);
    }

    fn folders(&self, at: usize) -> impl Iterator<Item = (&String, &Folder)> {
        let is_hers = |name: &str| name == ANNA || name.starts_with("user.anna.") || name.starts_with("DELETED.user.anna.");
        self.servers[at].host.folders.iter().filter(move |(name, _)| is_hers(name))
    }

    fn is_live(&self, at: usize) -> bool {
        self.servers[at].host.folders.contains_key(ANNA)
    }

    /// Messages in INBOX, and in folders under delayed delete, each with the folder's uniqueid.
    fn messages(&self, at: usize) -> (Option<Counted>, Vec<Counted>) {
        let count = |folder: &Folder| (folder.id.clone(), folder.messages.iter().filter(|m| !m.unlinked).count());
        let deleted = self.folders(at).filter(|(name, _)| name.starts_with("DELETED."));
        (self.servers[at].host.folders.get(ANNA).map(count), deleted.map(|(_, folder)| count(folder)).collect())
    }

    fn deliver(&mut self, at: usize, count: usize) {
        self.note(format!("{count} messages come on {}", NAMES[at]));
        for _ in 0..count {
            self.delivered += 1;
            let mail = story::mail(self.delivered, 60);
            // One who is made again has an INBOX of another uniqueid.
            let id = format!("{:024x}", 0x1000 * (at as u64 + 1) + self.delivered);
            let folders = &mut self.servers[at].host.folders;
            folders.entry(ANNA.to_owned()).or_insert_with(|| Folder::new(&id)).deliver(&mail);
        }
    }

    /// One message of so many is lost: the server unlinks it.
    fn lose(&mut self, at: usize, one_of: usize) {
        self.note(format!("1 of {one_of} messages is lost on {}", NAMES[at]));
        let Some(folder) = self.servers[at].host.folders.get_mut(ANNA) else { return };
        folder.modseq += 1;
        let kept = |n: usize| !n.is_multiple_of(one_of);
        folder
            .messages
            .iter_mut()
            .enumerate()
            .filter(|(n, _)| !kept(*n))
            .for_each(|(_, m)| (m.expunged, m.unlinked) = (true, true));
    }

    /// The user is deleted, and the folders are kept below `DELETED` or not.
    fn leave(&mut self, at: usize, is_delayed: bool) {
        self.note(format!("she leaves {}{}", NAMES[at], if is_delayed { ", and her folders are deleted later" } else { "" }));
        let Server { host, left, .. } = &mut self.servers[at];
        let Some(folder) = host.folders.remove(ANNA) else { return };
        left.insert(ANNA.to_owned(), folder.clone());
        if is_delayed {
            host.folders.insert(format!("DELETED.user.anna.{:08X}", 0x6500_0000 + self.log.len()), folder);
        }
    }

    fn come_back(&mut self, at: usize) {
        self.note(format!("she is back on {}", NAMES[at]));
        let Server { host, left, .. } = &mut self.servers[at];
        if !host.folders.contains_key(ANNA) && !left.is_empty() {
            host.folders.retain(|_, folder| left.values().all(|back| back.id != folder.id));
            host.folders.append(left);
        }
    }

    fn expire(&mut self, at: usize) {
        self.note(format!("deleted folders expire on {}", NAMES[at]));
        self.servers[at].host.folders.retain(|name, _| !name.starts_with("DELETED."));
    }

    fn move_to(&mut self, at: usize) {
        self.note(format!("she moves to {}", NAMES[at]));
        if let Some(folder) = self.servers[1 - at].host.folders.remove(ANNA) {
            self.servers[at].host.folders.insert(ANNA.to_owned(), folder);
        }
    }

    /// Carries the store to the disk of a server.
    fn carry_store(&mut self, at: usize) {
        if self.store == at {
            return;
        }
        let store = self.servers[self.store].disk.store();
        let clock = self.servers[self.store].disk.now();
        let disk = &mut self.servers[at].disk;
        for path in disk.store().keys().filter(|path| !store.contains_key(*path)) {
            disk.take_away(&Place::store(path.as_str()));
        }
        for (path, content) in store {
            disk.put_file(&Place::store(path), content);
        }
        disk.wait_until(clock);
        self.store = at;
    }

    fn backup(&mut self, at: usize, adopt: bool, tally: &mut Tally) -> Result<(), String> {
        self.carry_store(at);
        let Server { disk, host, .. } = &mut self.servers[at];
        host.publish(disk);
        later(disk, 10_000);
        let settings = Settings { source: NAMES[at].to_owned(), adopt, ..settings() };
        let result = drive(disk, async |io: Io| run_once(io, &settings).await).finished();
        let told = result.as_ref().map(|report| (report.commit, words(&report.raised), words(&report.alarms)));
        self.note(format!("a run from {}{}: {told:?}", NAMES[at], if adopt { " that adopts" } else { "" }));
        self.judge(at, adopt, result, tally)
    }

    fn judge(&mut self, at: usize, adopt: bool, result: Result<Report, Error>, tally: &mut Tally) -> Result<(), String> {
        let (live, has) = (self.is_live(at), self.folders(at).next().is_some());
        let (inbox, deleted) = self.messages(at);
        let model = &mut self.model;
        let is_other = model.home.is_some_and(|home| home != at);
        if is_other && !adopt && model.strangers.contains(&at) {
            return expect(&result, "nothing", |r| r.is_clean() && r.commit.is_none() && r.other_home.is_some());
        }
        if !has && (is_other || model.snapshot.is_none()) {
            return if matches!(result, Err(Error::Refused(_))) { Ok(()) } else { Err(format!("not refused: {result:?}")) };
        }
        let mut raised = BTreeSet::new();
        if is_other && !adopt {
            // It is told until somebody has looked, and raised once.
            raised.insert("other");
        } else {
            tally.adopted += u64::from(is_other);
            model.see(live, has, (inbox, &deleted), &mut raised);
            if is_other {
                model.open.remove("other");
            }
            model.strangers.remove(&at);
            model.home = Some(at);
        }
        model.open.extend(&raised);
        raised.iter().for_each(|word| *tally.raised.entry(word).or_default() += 1);
        tally.passed_over += u64::from(model.gone && model.open.is_empty());
        tally.runs[usize::from(!model.open.is_empty())] += 1;
        let open = model.open.clone();
        expect(&result, &format!("{raised:?} raised, {open:?} standing"), |r| {
            r.problems_count == 0 && words(&r.raised) == raised && words(&r.alarms) == open && r.is_clean() == open.is_empty()
        })
    }

    fn acknowledge(&mut self, tally: &mut Tally) -> Result<(), String> {
        self.note("somebody acknowledges".to_owned());
        let disk = &mut self.servers[self.store].disk;
        if self.model.snapshot.is_some() {
            drive(disk, acknowledge).finished().map_err(|error| format!("an acknowledgement: {error}"))?;
        }
        tally.acknowledged += self.model.open.len() as u64;
        if std::mem::take(&mut self.model.open).contains("other") {
            self.model.strangers.extend(self.model.home.map(|home| 1 - home));
        }
        Ok(())
    }
}

impl Model {
    /// A run of the archive's own source, which has so many messages.
    fn see(&mut self, live: bool, has: bool, now: (Option<Counted>, &[Counted]), raised: &mut BTreeSet<&'static str>) {
        let was_live = self.snapshot.as_ref().is_some_and(Option::is_some);
        let (id, before) = self.snapshot.clone().flatten().unwrap_or_default();
        let (own, here) = now.0.clone().unwrap_or_default();
        // What was deleted with the folder that the last snapshot has is no loss.
        let fewer = before.saturating_sub(if own == id { here } else { 0 });
        let taken: usize = now.1.iter().filter(|(folder, _)| *folder == id).map(|(_, count)| *count.min(&fewer)).sum();
        match (live, self.gone) {
            (true, false) if (here + taken) * 2 < before => drop(raised.insert("loss")),
            (true, _) => self.gone = false,
            (false, false) if was_live || !has => {
                raised.insert("vanished");
                self.gone = true;
            }
            (false, _) => {}
        }
        if has {
            self.snapshot = Some(now.0);
        }
    }
}

async fn run_once(io: Io, settings: &Settings) -> Result<Report, Error> {
    let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    let mut site = Site::open(&io, conf, None, Locking::AsServer, Patience::default()).await?;
    backup::run(&io, &mut Origin::Local(&mut site), &anna(), &archive_dir(&anna())?, settings).await
}

async fn acknowledge(io: Io) -> Result<(), Error> {
    let mut writer = Writer::open(&io, &archive_dir(&anna())?, &story::settings(), [0; 16]).await?;
    let marked = writer.mark(Mark::Acknowledge, io.now()).await;
    writer.close().await;
    marked.map(drop)
}

fn words(alarms: &[cylinder_core::archive::standing::Alarm]) -> BTreeSet<&'static str> {
    let word = |cause: &Cause| match cause {
        Cause::MassLoss => "loss",
        Cause::Vanished => "vanished",
        Cause::Unclaimed => "unclaimed",
        Cause::OtherSource(_) => "other",
    };
    alarms.iter().map(|alarm| word(&alarm.cause)).collect()
}

fn expect(result: &Result<Report, Error>, what: &str, is_so: impl Fn(&Report) -> bool) -> Result<(), String> {
    match result {
        Ok(report) if is_so(report) => Ok(()),
        other => Err(format!("expected {what}; found {other:?}")),
    }
}
