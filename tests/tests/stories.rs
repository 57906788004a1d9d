//! Stories for people who are new here: what happens to one user, what each run does about it, operation by operation, and what
//! is in the archive then. To be read in the order of their numbers, in snapshots/.
//!
//! Members are stored, not deflated, so that lengths belong to the format and to no compressor.

use cylinder_core::archive::read::Reader;
use cylinder_core::archive::verify::verify;
use cylinder_core::backup::report::{Problem, Report, Why};
use cylinder_core::backup::{self, Settings};
use cylinder_core::compact::policy::Policy;
use cylinder_core::compact::{self, Outcome, Wait};
use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::error::{Error, Fault};
use cylinder_core::escape::shown;
use cylinder_core::io::{Io, LockMode, Op, StreamId};
use cylinder_core::pull::Origin;
use cylinder_core::pull::native::{Greeted, connect};
use cylinder_core::serve;
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::time::Span;
use cylinder_core::view::{self, When};
use cylinder_core::wire::ANSWER_LINE_MAX;
use cylinder_core::wire::stream::Limits;
use cylinder_tests::choose::Gen;
use cylinder_tests::disk::{SimDisk, Trouble};
use cylinder_tests::drive::{Running, Step, drive, drive_watched};
use cylinder_tests::host::Host;
use cylinder_tests::life::{anna, archive, dir};
use cylinder_tests::net::{Net, Way, join};
use cylinder_tests::story::{self, mail};
use flate2::bufread::MultiGzDecoder;

const INBOX: &str = "user.anna";
const WORK: &str = "user.anna.Work";

fn settings() -> Settings {
    Settings {
        archive: story::stored(),
        source: String::from("local:test"),
        adopt: false,
        archive_id: *b"sixteen bytes id",
        read_rate: 0,
    }
}

async fn site(io: &Io) -> Result<Site, Error> {
    let conf = config::load(io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    Site::open(io, conf, None, Locking::AsServer, Patience::default()).await
}

async fn backup(io: Io) -> Result<Report, Error> {
    let mut site = site(&io).await?;
    backup::run(&io, &mut Origin::Local(&mut site), &anna(), &dir(), &settings()).await
}

async fn pull(io: Io) -> Result<Report, Error> {
    let limits = Limits { line: ANSWER_LINE_MAX, stall: Span::from_secs(60), bytes_per_second: 0 };
    let Greeted::Native(mut client) = connect(&io, "imap1", limits).await? else { panic!("a native server") };
    let report = backup::run(&io, &mut Origin::Native(&mut client), &anna(), &dir(), &settings()).await;
    client.close().await;
    report
}

async fn server(io: Io) -> Result<(), Error> {
    let settings = serve::Settings {
        servername: b"imap1".to_vec(),
        software: String::from("cylinder test"),
        idle: Span::from_secs(600),
        stall: Span::from_secs(60),
        users: Vec::new(),
    };
    serve::serve(&io, &mut site(&io).await?, StreamId(1), "client", &settings).await
}

/// A user, an archive, and what has been told of them so far.
struct Tale {
    disk: SimDisk,
    host: Host,
    text: String,
    /// Entries of the archive that have been told of.
    told: usize,
}

impl Tale {
    /// A user with two messages in INBOX and one in Work, and nothing saved yet.
    fn new() -> Tale {
        let (mut disk, mut host) = (SimDisk::new(), Host::new());
        disk.wait_until(disk.now().plus(Span::from_ms(123)));
        host.folder(INBOX).deliver(&mail(1, 700));
        host.folder(INBOX).deliver(&mail(2, 300));
        host.folder(WORK).deliver(&mail(3, 400));
        host.publish(&mut disk);
        Tale { disk, host, text: String::new(), told: 0 }
    }

    /// The same after a first backup, of which nothing is told.
    fn saved() -> Tale {
        let mut tale = Tale::new();
        tale.backup();
        tale.entries();
        tale.text.clear();
        tale
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Something happens on the server.
    fn happens(&mut self, what: &str, act: impl FnOnce(&mut Host)) {
        self.line(&format!("-- {what} --"));
        act(&mut self.host);
        self.host.publish(&mut self.disk);
    }

    fn hours(&mut self, hours: i64) {
        self.disk.wait_until(self.disk.now().plus(Span::from_secs(hours * 3600)));
    }

    /// The operations since the last call, without those that only find out where something is.
    fn operations(&mut self) {
        let transcript = self.disk.take_transcript();
        let mut lines: Vec<&str> = transcript.lines().filter_map(telling).collect();
        lines.dedup();
        // One who waits for a lock tries again and again.
        let holds = |line: &&str| line.starts_with("who holds ");
        if let (Some(first), Some(last)) = (lines.iter().position(holds), lines.iter().rposition(holds))
            && first < last
        {
            lines.splice(first + 1..last, [" .. the same again, for as long as it is told to be patient .."]);
        }
        lines.iter().for_each(|line| self.line(line));
    }

    fn result(&mut self, result: &Result<Report, Error>) {
        let report = match result {
            Ok(report) => report,
            Err(error) => return self.line(&format!("=> fails: {error}")),
        };
        let written = report.commit.map_or(String::from("nothing is written"), |number| format!("snapshot {number}"));
        let (messages, folders) = (count(report.messages, "message"), count(report.folders, "folder"));
        let mut text = format!("=> {written}: {messages} in {folders}, {} new in the archive", report.messages_added);
        if report.names_new + report.names_gone > 0 {
            text += &format!("; {} came, {} went", count(report.names_new, "name"), report.names_gone);
        }
        self.line(&text);
        report.notes.iter().for_each(|note| self.line(&format!("   note: {note}")));
        report.problems.iter().for_each(|problem| self.line(&format!("   problem: {}", told(problem))));
        for alarm in &report.alarms {
            self.line(&format!("   ALARM: {:?} before={} after={}", alarm.cause, alarm.before, alarm.after));
        }
    }

    /// A run ten seconds later, told with its operations.
    fn backup(&mut self) {
        self.disk.wait_until(self.disk.now().plus(Span::from_secs(10)));
        self.disk.take_transcript();
        self.line("$ cylinder backup anna");
        let result = drive(&mut self.disk, backup).finished();
        self.operations();
        self.result(&result);
    }

    /// A run of which only the result is told.
    fn backup_briefly(&mut self) {
        let before = self.text.len();
        self.backup();
        let result = self.text[before..].find("=> ").expect("a result") + before;
        self.text.replace_range(before..result, "$ cylinder backup anna\n");
    }

    /// A run that something happens to before it has done so many operations of a kind.
    fn backup_until(&mut self, is_it: impl Fn(&Op) -> bool, count: usize, happens: impl FnOnce(&mut Tale)) {
        self.disk.wait_until(self.disk.now().plus(Span::from_secs(10)));
        self.disk.take_transcript();
        self.line("$ cylinder backup anna");
        let mut running = Running::new(&self.disk, backup);
        let mut seen = 0;
        while seen < count {
            let step = running.step(&mut self.disk, &mut |_, op| seen += usize::from(is_it(op)));
            assert!(matches!(step, Step::Did), "the run ends before that");
        }
        self.operations();
        happens(self);
        let result = loop {
            if let Step::Finished(result) = running.step(&mut self.disk, &mut |_, _| {}) {
                break result;
            }
        };
        self.operations();
        self.result(&result);
    }

    /// What a tar program finds that has not been told of yet.
    fn entries(&mut self) {
        let bytes = self.disk.content(&archive()).expect("an archive").to_vec();
        let mut tar = tar::Archive::new(MultiGzDecoder::new(&bytes[..]));
        let mut lines = Vec::new();
        for entry in tar.entries().expect("a tar file") {
            let entry = entry.expect("an entry");
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let link = entry.link_name_bytes().unwrap_or_default();
            let link = String::from_utf8_lossy(&link).into_owned();
            let is_link = entry.header().entry_type().is_symlink();
            lines.push(if is_link { format!("{name} -> {link}") } else { format!("{name} {} bytes", entry.size()) });
        }
        let new = lines.get(self.told..).unwrap_or_default();
        let new = new.join("\n");
        self.told = lines.len();
        self.line(&format!("$ tar -tvzf archive.tar.gz, what is new\n{new}"));
    }

    /// What a snapshot has.
    fn list(&mut self, when: When) {
        let procedure = async |io: Io| {
            let reader = Reader::open(&io, &dir()).await?;
            let at = view::snapshot(&reader, when).await?;
            let table = reader.table(&at).await;
            reader.close().await;
            Ok::<_, Error>((at.commit.number, table?))
        };
        let (number, table) = drive(&mut self.disk, procedure).finished().expect("a snapshot");
        self.disk.take_transcript();
        self.line(&format!("$ cylinder list anna: snapshot {number}"));
        for row in &table.folders {
            self.line(&format!("{}: {}", shown(&row.name), count(row.exists, "message")));
        }
    }

    fn verify(&mut self) {
        let procedure = async |io: Io| {
            let reader = Reader::open(&io, &dir()).await?;
            let verdict = verify(&io, &reader, 3).await;
            reader.close().await;
            verdict
        };
        let verdict = drive(&mut self.disk, procedure).finished().expect("a verdict");
        self.disk.take_transcript();
        self.line("$ cylinder verify anna");
        verdict.findings.iter().for_each(|finding| self.line(&format!("{finding}")));
        let verdict = if verdict.is_good() { "good" } else { "DAMAGED" };
        self.line(&format!("=> {verdict}"));
    }

    fn compact(&mut self, if_needed: bool) {
        let settings = compact::Settings {
            archive: story::stored(),
            policy: Policy::default(),
            if_needed,
            floor: compact::Settings::FLOOR,
            rise: compact::Settings::RISE,
            dry_run: false,
            check: true,
        };
        self.disk.take_transcript();
        self.line(if if_needed { "$ cylinder compact anna --if-needed" } else { "$ cylinder compact anna --now" });
        let outcome = drive(&mut self.disk, async |io: Io| compact::run(&io, &dir(), &settings).await).finished();
        self.operations();
        match outcome {
            Ok(Outcome::Done(plan, _)) => self.line(&format!(
                "=> {} of {} snapshots and {} of {} messages are dropped",
                plan.snapshots_dropped, plan.snapshots, plan.messages_dropped, plan.messages
            )),
            Ok(Outcome::Waits(Wait::Alarm(_))) => self.line("=> waits until somebody has looked at the alarm"),
            Ok(Outcome::Waits(wait)) => self.line(&format!("=> waits: {wait:?}")),
            Ok(_) => self.line("=> nothing to do"),
            Err(error) => self.line(&format!("=> fails: {error}")),
        }
        self.told = 0;
    }

    /// Tells of a conversation over a stream.
    fn conversation(&mut self, net: &Net) {
        for (who, bytes) in ["client", "server"].into_iter().zip(net.kept.as_ref().expect("what was sent")) {
            self.line(&format!("-- the {who} says --"));
            for line in bytes.split_inclusive(|&c| c == b'\n') {
                let text = line.strip_suffix(b"\n").unwrap_or(line).escape_ascii().to_string();
                let is_text = text.len() < 400 && !text.contains("\\x") && line.ends_with(b"\n");
                self.line(&if is_text { text } else { format!("({} bytes)", line.len()) });
            }
        }
    }

    /// A pull from another host, which is what the disk is of; the archive is on `here`.
    fn pull(&mut self, here: &mut SimDisk, net: &mut Net) -> Result<Report, Error> {
        self.disk.wait_until(self.disk.now().plus(Span::from_secs(10)));
        here.wait_until(self.disk.now());
        net.kept = Some(Default::default());
        self.line("$ cylinder backup anna --from ssh://imap1");
        let result = join(here, &mut self.disk, net, pull, server);
        self.result(&result);
        result
    }

    #[track_caller]
    fn ends(self, name: &str) {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../../snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name, self.text));
    }
}

/// An operation without its number, if it tells something.
fn telling(line: &str) -> Option<&str> {
    let what = line.split_once(' ').filter(|(first, _)| first.starts_with("op")).map_or(line, |(_, what)| what);
    let ends_a_lock = what.starts_with("close ") && (what.ends_with(".lock") || what.ends_with("cyrus.index"));
    let is_a_pass = what.starts_with("stat ") && what.ends_with(" names");
    let silent = ["stat ", "open ", "close ", "seal ", "unseal ", "clock", "list "];
    let is_silent = silent.iter().any(|verb| what.starts_with(verb));
    (ends_a_lock || is_a_pass || !is_silent).then_some(what)
}

/// `1 message`, `2 messages`.
fn count(n: u64, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn told(problem: &Problem) -> String {
    match problem {
        Problem::Archive { error } => format!("the archive: {error}"),
        Problem::Unclaimed { count } => format!("{count} messages are in no folder"),
        Problem::Message { folder, uid, why, .. } => match why {
            Why::Absent => format!("{} UID {uid}: there is no such file", shown(folder)),
            Why::Unreadable(error) => format!("{} UID {uid}: {error}", shown(folder)),
            Why::Mismatch { found, .. } => format!("{} UID {uid}: is another message, {}", shown(folder), &found.to_hex()[..8]),
        },
        Problem::Record { folder, error } | Problem::Folder { folder, error } => format!("{}: {error}", shown(folder)),
        Problem::State { name, error } => format!("{}: {error}", shown(name)),
        Problem::Header { folder, error, .. } | Problem::Damaged { name: folder, error, .. } => {
            format!("{}: {error}", shown(folder))
        }
        Problem::Identity { folder, id, .. } => format!("{} is saved under {}", shown(folder), shown(id)),
        Problem::Twin { folder, other, .. } => format!("{} has the uniqueid of {}", shown(folder), shown(other)),
    }
}

#[test]
fn a_first_run() {
    let mut tale = Tale::new();
    tale.backup();
    tale.entries();
    tale.list(When::Newest);
    tale.ends("story__01_a_first_run");
}

#[test]
fn nothing_new() {
    let mut tale = Tale::saved();
    tale.backup();
    tale.ends("story__02_nothing_new");
}

#[test]
fn a_message_comes() {
    let mut tale = Tale::saved();
    tale.happens("a message comes to INBOX", |host| _ = host.folder(INBOX).deliver(&mail(4, 500)));
    tale.backup();
    tale.entries();
    tale.ends("story__03_a_message_comes");
}

#[test]
fn a_flag_changes() {
    let mut tale = Tale::saved();
    tale.happens("message 1 of INBOX is answered", |host| host.folder(INBOX).flag(1, 1));
    tale.backup();
    tale.entries();
    tale.ends("story__04_a_flag_changes");
}

#[test]
fn a_copy_is_not_fetched() {
    let mut tale = Tale::saved();
    tale.happens("message 1 of INBOX is copied to Work", |host| _ = host.folder(WORK).deliver(&mail(1, 700)));
    tale.backup();
    tale.entries();
    tale.ends("story__05_a_copy_is_not_fetched");
}

#[test]
fn a_rename() {
    let mut tale = Tale::saved();
    tale.happens("Work is renamed to Filed", |host| {
        let work = host.folders.remove(WORK).expect("Work");
        host.folders.insert(String::from("user.anna.Filed"), work);
    });
    tale.backup();
    tale.entries();
    tale.list(When::Newest);
    tale.list(When::Number(1));
    tale.ends("story__06_a_rename");
}

#[test]
fn a_folder_goes_and_another_gets_its_name() {
    let mut tale = Tale::saved();
    tale.happens("Work is deleted", |host| drop(host.folders.remove(WORK)));
    tale.backup_briefly();
    tale.entries();
    tale.happens("and made anew, with a message", |host| {
        host.folder(WORK).id = String::from("anotheruniqueidthatisnew");
        host.folder(WORK).deliver(&mail(5, 200));
    });
    tale.backup_briefly();
    tale.entries();
    tale.list(When::Newest);
    tale.ends("story__07_a_folder_goes_and_another_gets_its_name");
}

#[test]
fn a_message_is_expunged_and_stays_in_the_archive() {
    let mut tale = Tale::saved();
    tale.happens("message 2 of INBOX is expunged; its file stays for a while", |host| {
        host.folder(INBOX).messages[1].expunged = true;
        host.folder(INBOX).modseq += 1;
    });
    tale.backup_briefly();
    tale.entries();
    tale.happens("the server removes the file", |host| {
        host.folder(INBOX).messages[1].unlinked = true;
        host.folder(INBOX).modseq += 1;
    });
    tale.backup_briefly();
    tale.list(When::Newest);
    tale.list(When::Number(1));
    tale.ends("story__08_a_message_is_expunged_and_stays_in_the_archive");
}

#[test]
fn a_repack_between_the_passes() {
    let mut tale = Tale::saved();
    tale.happens("a message comes to Work", |host| _ = host.folder(WORK).deliver(&mail(6, 250)));
    tale.backup_until(
        |op| matches!(op, Op::StatMany(_)),
        2,
        |tale| {
            tale.happens("meanwhile INBOX is repacked: a new file replaces its index", |host| {
                host.folder(INBOX).modseq += 1;
                host.repacked.insert(INBOX.to_owned());
            });
        },
    );
    tale.entries();
    tale.ends("story__09_a_repack_between_the_passes");
}

#[test]
fn cyrus_is_at_work_and_the_run_waits() {
    let mut tale = Tale::saved();
    tale.happens("a message comes to INBOX, and its index is locked", |host| _ = host.folder(INBOX).deliver(&mail(7, 100)));
    let index = tale.host.meta_place(INBOX, "cyrus.index");
    tale.disk.hold(&index, LockMode::Exclusive, "process 7 (imapd)");
    tale.backup();
    tale.line("-- the server is ready --");
    tale.disk.let_go();
    tale.backup_briefly();
    tale.ends("story__10_cyrus_is_at_work_and_the_run_waits");
}

#[test]
fn most_of_the_mail_is_gone() {
    let mut tale = Tale::saved();
    tale.happens("somebody removes what is in INBOX, and Work", |host| {
        host.folders.remove(WORK);
        host.folder(INBOX).messages.truncate(1);
        host.folder(INBOX).modseq += 1;
    });
    tale.backup_briefly();
    tale.hours(24 * 60);
    tale.happens("two months later", |host| host.folder(INBOX).flag(1, 1));
    tale.backup_briefly();
    tale.compact(true);
    tale.list(When::Number(1));
    tale.ends("story__11_most_of_the_mail_is_gone");
}

#[test]
fn the_spool_is_not_mounted() {
    let mut tale = Tale::saved();
    tale.line("-- the spool is not mounted --");
    tale.disk.take_away(&cylinder_core::io::Place::host("/var/spool/cyrus"));
    tale.backup_briefly();
    tale.list(When::Newest);
    tale.ends("story__12_the_spool_is_not_mounted");
}

#[test]
fn a_message_is_not_what_its_record_says() {
    let mut tale = Tale::saved();
    tale.happens("two messages come to INBOX", |host| {
        host.folder(INBOX).deliver(&mail(8, 300));
        host.folder(INBOX).deliver(&mail(9, 300));
    });
    tale.line("-- and the disk spoils one of them, and loses the other --");
    tale.disk.put_file(&tale.host.message_place(INBOX, 3), mail(10, 300));
    tale.disk.take_away(&tale.host.message_place(INBOX, 4));
    tale.backup_briefly();
    tale.entries();
    tale.line("-- they are restored on the server --");
    tale.disk.put_file(&tale.host.message_place(INBOX, 3), mail(8, 300));
    tale.disk.put_file(&tale.host.message_place(INBOX, 4), mail(9, 300));
    tale.backup_briefly();
    tale.entries();
    tale.ends("story__13_a_message_is_not_what_its_record_says");
}

#[test]
fn the_disk_is_full() {
    let mut tale = Tale::saved();
    tale.happens("a message comes to INBOX", |host| _ = host.folder(INBOX).deliver(&mail(11, 900)));
    tale.disk.wait_until(tale.disk.now().plus(Span::from_secs(10)));
    // The first write to the archive.
    let mut at = 0;
    drive_watched(&mut tale.disk.clone(), backup, &mut |disk, op| {
        if matches!(op, Op::WriteAt { .. }) && at == 0 {
            at = disk.ops();
        }
    });
    let now = tale.disk.ops();
    let mut full = tale.disk.clone();
    full.plan(at - now, Trouble::Fail(Fault::NoSpace));
    tale.disk = full;
    tale.line("$ cylinder backup anna, and no room");
    let result = drive(&mut tale.disk, backup).finished();
    tale.result(&result);
    tale.disk.unplan();
    tale.verify();
    tale.line("-- there is room again --");
    tale.backup();
    tale.verify();
    tale.ends("story__14_the_disk_is_full");
}

#[test]
fn a_byte_rots() {
    let mut tale = Tale::saved();
    let mut bytes = tale.disk.content(&archive()).expect("an archive").to_vec();
    let at = bytes.windows(40).position(|window| window == &mail(2, 300)[100..140]).expect("the message");
    bytes[at] ^= 1;
    tale.line("-- one bit of a message in the archive turns over --");
    tale.disk.put_file(&archive(), bytes);
    tale.verify();
    tale.happens("message 2 of INBOX is expunged and removed", |host| {
        host.folder(INBOX).messages.truncate(1);
        host.folder(INBOX).modseq += 1;
    });
    tale.backup_briefly();
    tale.hours(24 * 9);
    tale.happens("nine days later a message comes", |host| _ = host.folder(INBOX).deliver(&mail(12, 100)));
    tale.backup_briefly();
    tale.compact(false);
    tale.ends("story__15_a_byte_rots");
}

#[test]
fn what_nobody_needs_goes() {
    let mut tale = Tale::saved();
    tale.happens("a large message comes, and goes at once", |host| {
        host.folder(INBOX).deliver(&mail(13, 60_000));
    });
    tale.backup_briefly();
    tale.happens("it is expunged and removed", |host| {
        host.folder(INBOX).messages.truncate(2);
        host.folder(INBOX).modseq += 1;
    });
    tale.backup_briefly();
    tale.hours(24 * 9);
    tale.happens("nine days later a flag changes", |host| host.folder(INBOX).flag(1, 1));
    tale.backup_briefly();
    tale.compact(true);
    tale.entries();
    tale.verify();
    tale.compact(true);
    tale.ends("story__16_what_nobody_needs_goes");
}

#[test]
fn a_pull_without_news() {
    let (mut tale, mut here) = (Tale::new(), SimDisk::new());
    tale.pull(&mut here, &mut Net::default()).expect("a pull");
    tale.line("-- later --");
    let mut net = Net::default();
    tale.pull(&mut here, &mut net).expect("a pull");
    tale.conversation(&net);
    tale.ends("story__17_a_pull_without_news");
}

#[test]
fn a_pull_of_one_message() {
    let (mut tale, mut here) = (Tale::new(), SimDisk::new());
    tale.pull(&mut here, &mut Net::default()).expect("a pull");
    let lunch = b"From: bob@example.org\r\nSubject: lunch\r\n\r\nAt noon?\r\n";
    tale.happens("a message comes to INBOX", |host| _ = host.folder(INBOX).deliver(lunch));
    let mut net = Net::default();
    tale.pull(&mut here, &mut net).expect("a pull");
    tale.conversation(&net);
    tale.ends("story__18_a_pull_of_one_message");
}

#[test]
fn a_pull_cut_in_the_middle_of_a_message() {
    let (mut tale, mut here) = (Tale::new(), SimDisk::new());
    tale.host.folder(INBOX).deliver(&mail(15, 200_000));
    tale.host.publish(&mut tale.disk);
    let mut net = Net { cut: Some((Way::Down, 100_000)), ..Net::default() };
    tale.pull(&mut here, &mut net).expect_err("the connection was cut");
    tale.line("-- the connection is there again --");
    tale.pull(&mut here, &mut Net::default()).expect("a pull");
    tale.disk = here;
    tale.entries();
    tale.verify();
    tale.ends("story__19_a_pull_cut_in_the_middle_of_a_message");
}

#[test]
fn two_runs_at_once() {
    let mut tale = Tale::saved();
    tale.happens("a message comes to INBOX", |host| _ = host.folder(INBOX).deliver(&mail(16, 400)));
    tale.backup_until(
        |op| matches!(op, Op::WriteAt { .. }),
        1,
        |tale| {
            tale.line("-- another run begins while this one writes --");
            let result = drive(&mut tale.disk, backup).finished();
            tale.disk.take_transcript();
            tale.result(&result);
            tale.line("-- and this one goes on --");
        },
    );
    tale.verify();
    tale.ends("story__20_two_runs_at_once");
}

#[test]
fn the_machine_is_killed_and_loses_power() {
    let mut tale = Tale::saved();
    tale.happens("a message comes to INBOX", |host| _ = host.folder(INBOX).deliver(&mail(17, 400)));
    tale.disk.wait_until(tale.disk.now().plus(Span::from_secs(10)));
    tale.disk.take_transcript();
    let mut before_sync = None;
    let mut copy = tale.disk.clone();
    drive_watched(&mut copy, backup, &mut |disk, op| {
        if matches!(op, Op::Sync(_)) && before_sync.is_none() {
            before_sync = Some(disk.clone());
        }
    });
    tale.disk = before_sync.expect("a sync");
    tale.line("$ cylinder backup anna");
    tale.operations();
    tale.line("-- the power fails, and nothing survives that was not synced --");
    let mut choices = Gen::default();
    choices.done();
    tale.disk.lose_power(&mut choices);
    tale.verify();
    tale.backup();
    tale.verify();
    tale.ends("story__21_the_machine_loses_power");
}

#[test]
fn a_lying_index_is_not_believed() {
    let mut tale = Tale::saved();
    let index = tale.host.meta_place(WORK, "cyrus.index");
    let mut bytes = tale.disk.content(&index).expect("an index").to_vec();
    // The number of records, in the header.
    let at = bytes.len() - 20;
    bytes[at] ^= 0x40;
    tale.line("-- a bit of a record in the index of Work turns over --");
    tale.disk.change_file(&index, bytes);
    tale.backup_briefly();
    tale.list(When::Newest);
    tale.ends("story__22_a_damaged_index_is_told");
}
