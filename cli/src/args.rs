//! The command line as it is typed. What must not come in: what the options lead to.

use argh::FromArgs;

/// Cylinder backs up Cyrus IMAP servers: each user's mail in one append-only tar.gz, consistent, verified, and readable with
/// any tar.
#[derive(FromArgs, Debug)]
pub struct Args {
    #[argh(subcommand)]
    pub command: Command,
}

#[derive(FromArgs, Debug)]
#[argh(subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one of it, once")]
pub enum Command {
    Backup(Backup),
    Acknowledge(Acknowledge),
    Compact(Compact),
    Diff(Diff),
    Erase(Erase),
    Find(Find),
    Hold(Hold),
    Users(Users),
    Log(Log),
    List(List),
    Repair(Repair),
    Replay(Replay),
    Restore(Restore),
    Serve(Serve),
    Show(Show),
    Extract(Extract),
    Heal(Heal),
    Import(Import),
    Init(Init),
    Verify(Verify),
    Inspect(Inspect),
    Version(Version),
}

/// Back up users of the Cyrus server on this host, or of others.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "backup", note = "{command_name} returns 0 if all is saved, 3 if something was not or is alarming.")]
pub struct Backup {
    /// userids
    #[argh(positional)]
    pub users: Vec<String>,

    /// everybody in mailboxes.db, and shared mailboxes
    #[argh(switch)]
    pub all: bool,

    /// the mailboxes that belong to no user
    #[argh(switch)]
    pub shared: bool,

    /// take over archives that are of another source: their users have moved here
    #[argh(switch)]
    pub adopt: bool,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// another server: ssh://HOST, ssh+unix://HOST/PATH, ssh+tcp://HOST/ADDRESS:PORT, unix:PATH, tcp:ADDRESS:PORT
    #[argh(option, arg_name = "source")]
    pub from: Option<String>,

    /// what ssh runs on the other host (default: cylinder serve)
    #[argh(option, arg_name = "command")]
    pub serve_command: Option<String>,

    /// ssh and its options, separated by spaces (default: ssh)
    #[argh(option, arg_name = "words")]
    pub ssh: Option<String>,

    /// sources, store, users and limits from this file
    #[argh(option, arg_name = "file")]
    pub config: Option<String>,

    /// configuration of the server (default: /etc/imapd.conf)
    #[argh(option, arg_name = "file")]
    pub imapd_conf: Option<String>,

    /// put this directory before every path of the server
    #[argh(option, arg_name = "dir")]
    pub root: Option<String>,

    /// the server's version, such as 3.6 (default: told from its databases)
    #[argh(option, arg_name = "version")]
    pub cyrus: Option<String>,

    /// no server runs on this spool: take no locks and create no lock files
    #[argh(switch)]
    pub offline: bool,

    /// compression level, 0 to 12 (default: 1)
    #[argh(option, arg_name = "n")]
    pub level: Option<u8>,

    /// do not inflate each member again and compare before it is written
    #[argh(switch)]
    pub no_check: bool,

    /// users at a time (default: 4)
    #[argh(option, arg_name = "n")]
    pub jobs: Option<usize>,

    /// threads that deflate, for each user at work (default: the processors, shared out among the users)
    #[argh(option, arg_name = "n")]
    pub threads: Option<usize>,

    /// longest time for which locks are held, in milliseconds (default: 2000)
    #[argh(option, arg_name = "ms")]
    pub hold: Option<u32>,

    /// longest wait for a lock, in seconds (default: 60)
    #[argh(option, arg_name = "s")]
    pub wait: Option<u32>,

    /// do not look whether the archive should be compacted
    #[argh(switch)]
    pub no_compact: bool,

    /// write down everything that the run asked for and was answered, for `cylinder replay`; one user at a time
    #[argh(option, arg_name = "file")]
    pub record: Option<String>,

    /// yes, or no: leave the bytes of files and connections out of the recording, which then cannot be run again
    #[argh(option, arg_name = "yes|no", default = "String::from(\"yes\")")]
    pub record_bodies: String,

    /// one JSON object for each user and one at the end
    #[argh(switch)]
    pub json: bool,

    /// no progress, and only users with something to report
    #[argh(switch)]
    pub quiet: bool,
}

/// Write archives anew without what no snapshot that is kept needs. What is kept: the file `retention` in the store, or the
/// options here; by default the newest state, and what was deleted within 7 days.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "compact",
    note = "{command_name} returns 0 if all was done that was due, 3 if an archive waits for somebody, 4 if one is damaged."
)]
pub struct Compact {
    /// userids; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub users: Vec<String>,

    /// everybody in the store
    #[argh(switch)]
    pub all: bool,

    /// only archives of which too little is alive, and look at each at most once a week, as `backup` does
    #[argh(switch)]
    pub if_needed: bool,

    /// whatever can go, however little it is (the default)
    #[argh(switch)]
    pub now: bool,

    /// say what would go, and write nothing
    #[argh(switch)]
    pub dry_run: bool,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// keep what was there at any time since so long ago: 12h, 7d, 4w
    #[argh(option, arg_name = "span")]
    pub keep_within: Option<String>,

    /// keep what was there at the end of each of so many days
    #[argh(option, arg_name = "n")]
    pub keep_daily: Option<u32>,

    /// keep what was there at the end of each of so many weeks
    #[argh(option, arg_name = "n")]
    pub keep_weekly: Option<u32>,

    /// keep what was there at the end of each of so many months
    #[argh(option, arg_name = "n")]
    pub keep_monthly: Option<u32>,

    /// percent of the content that must be alive at first (default: 80)
    #[argh(option, arg_name = "percent")]
    pub floor: Option<u8>,

    /// points by which that rises in a week (default: 1)
    #[argh(option, arg_name = "points")]
    pub rise: Option<u8>,

    /// compression level of what is written anew, 0 to 12 (default: 1)
    #[argh(option, arg_name = "n")]
    pub level: Option<u8>,

    /// do not inflate and hash all of a new archive before it takes the old one's place, only look at CRCs
    #[argh(switch)]
    pub no_check: bool,

    /// threads that deflate and inflate (default: one for each processor, 8 at most)
    #[argh(option, arg_name = "n")]
    pub threads: Option<usize>,

    /// one JSON object for each user
    #[argh(switch)]
    pub json: bool,

    /// no progress, and only users with something to report
    #[argh(switch)]
    pub quiet: bool,
}

/// Acknowledge alarms: somebody has looked, and the loss is meant. Runs end with 0 again, and compaction goes on.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "acknowledge")]
pub struct Acknowledge {
    /// userids; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub users: Vec<String>,

    /// everybody in the store who has an alarm
    #[argh(switch)]
    pub all: bool,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// one JSON object for each user
    #[argh(switch)]
    pub json: bool,
}

/// Keep everything of a user from now on, whatever the policy says, or lift that again.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "hold")]
pub struct Hold {
    /// userid; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub user: String,

    /// on or off (default: only tell)
    #[argh(positional)]
    pub order: Option<String>,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// one JSON object
    #[argh(switch)]
    pub json: bool,
}

/// List the users of the server on this host, or of the store.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "users")]
pub struct Users {
    /// list who has an archive in this store instead
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// configuration of the server (default: /etc/imapd.conf)
    #[argh(option, arg_name = "file")]
    pub imapd_conf: Option<String>,

    /// put this directory before every path of the server
    #[argh(option, arg_name = "dir")]
    pub root: Option<String>,

    /// no server runs on this spool: take no locks
    #[argh(switch)]
    pub offline: bool,

    /// one JSON object for each user
    #[argh(switch)]
    pub json: bool,
}

/// List the snapshots of a user.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "log")]
pub struct Log {
    /// userid; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub user: String,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// only the head of the hash chain, to be kept elsewhere: user, snapshot or checkpoint, time, SHA-1
    #[argh(switch)]
    pub anchor: bool,

    /// say whether the chain contains or continues this head, which was kept elsewhere
    #[argh(option, arg_name = "sha1")]
    pub check: Option<String>,

    /// one JSON object for each snapshot
    #[argh(switch)]
    pub json: bool,
}

/// Erase a user from the store, or messages of a user from all snapshots. A line in the store's file `erased` says what went.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "erase")]
pub struct Erase {
    /// userid; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub user: String,

    /// the archive and everything beside it
    #[argh(switch)]
    pub everything: bool,

    /// a message, by the SHA-1 of its content; may be given several times
    #[argh(option, arg_name = "sha1")]
    pub guid: Vec<String>,

    /// do it (default: only tell)
    #[argh(switch)]
    pub yes: bool,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// one JSON object
    #[argh(switch)]
    pub json: bool,
}

/// Tell what changed between two snapshots: folders and messages that came, went, moved, or have other flags.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "diff")]
pub struct Diff {
    /// userid; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub user: String,

    /// snapshot number, or time such as "2026-11-17 09:00"
    #[argh(positional)]
    pub old: String,

    /// the same (default: the newest)
    #[argh(positional)]
    pub new: Option<String>,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// one JSON object for each change
    #[argh(switch)]
    pub json: bool,
}

/// List a user's folders, or the messages of one.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "list")]
pub struct List {
    /// userid; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub user: String,

    /// folder, such as INBOX, INBOX.Sent, or Sent as the server shows it
    #[argh(positional)]
    pub folder: Option<String>,

    /// snapshot number, or time such as "2026-11-17 09:00" (default: the newest)
    #[argh(option, arg_name = "when")]
    pub at: Option<String>,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// expunged messages too
    #[argh(switch)]
    pub expunged: bool,

    /// what was there and is not any more, and until when it can be had
    #[argh(switch)]
    pub deleted: bool,

    /// one JSON object a line
    #[argh(switch)]
    pub json: bool,
}

/// Look for messages of users. What the indexes say (--guid, --since, --before, --larger, --smaller) is found without reading a
/// message; for headers, the members with messages that are otherwise right are inflated, once each and in order.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "find",
    note = "A message must be all that is asked for. {command_name} returns 0 if none is found, too."
)]
pub struct Find {
    /// userids; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub users: Vec<String>,

    /// everybody in the store
    #[argh(switch)]
    pub all: bool,

    /// this text is in the subject, decoded, in upper or lower case
    #[argh(option, arg_name = "text")]
    pub subject: Option<String>,

    /// this text is in From
    #[argh(option, arg_name = "text")]
    pub from: Option<String>,

    /// this text is in To, Cc or Bcc
    #[argh(option, arg_name = "text")]
    pub to: Option<String>,

    /// NAME:TEXT, this text is in that header; may be given several times
    #[argh(option, arg_name = "name:text")]
    pub header: Vec<String>,

    /// the Message-ID, with or without <>
    #[argh(option, arg_name = "id")]
    pub message_id: Option<String>,

    /// the SHA-1 of the message, in hexadecimal
    #[argh(option, arg_name = "sha1")]
    pub guid: Option<String>,

    /// it came then or later (INTERNALDATE); a date is the beginning of that day
    #[argh(option, arg_name = "time")]
    pub since: Option<String>,

    /// it came before then
    #[argh(option, arg_name = "time")]
    pub before: Option<String>,

    /// it has more bytes; such as 500kB
    #[argh(option, arg_name = "bytes")]
    pub larger: Option<String>,

    /// it has fewer bytes
    #[argh(option, arg_name = "bytes")]
    pub smaller: Option<String>,

    /// expunged messages too
    #[argh(switch)]
    pub expunged: bool,

    /// snapshot number, or time such as "2026-11-17 09:00" (default: the newest)
    #[argh(option, arg_name = "when")]
    pub at: Option<String>,

    /// in all snapshots; the newest that has the message is told
    #[argh(switch)]
    pub ever: bool,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// threads that look (default: one for each processor, 8 at most)
    #[argh(option, arg_name = "n")]
    pub threads: Option<usize>,

    /// one JSON object a line
    #[argh(switch)]
    pub json: bool,
}

/// Run a recorded backup again, without server and store, and tell the first difference.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "replay", note = "{command_name} returns 0 if the run was the same, 4 if it was not.")]
pub struct Replay {
    /// what `backup --record` has written
    #[argh(positional)]
    pub file: String,

    /// one JSON object
    #[argh(switch)]
    pub json: bool,
}

/// Put mail back: a message, folders, a user, as of any snapshot.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "restore",
    note = "A time is a date with or without time of day, `yesterday 12:00`, `last tuesday`, `last week`, `7d` (7 days ago) or \
            `now`; without an offset such as Z or +01:00 in the time zone of this host. A day means its end (for --since its \
            start). {command_name} returns 0 if all is there, 3 if something is not."
)]
pub struct Restore {
    /// userid, %shared for the mailboxes that belong to no user; then folders, such as INBOX, INBOX.Sent, or Sent as the
    /// server shows it
    #[argh(positional)]
    pub words: Vec<String>,

    /// this folder and all below it
    #[argh(option, arg_name = "folder")]
    pub subtree: Option<String>,

    /// all folders, and what belongs to the user and to no folder
    #[argh(switch)]
    pub all: bool,

    /// only messages that no snapshot has in a folder, since damage has taken its index or a run did not end; into a folder
    /// named Recovered. Not with --exact and --spool
    #[argh(switch)]
    pub recovered: bool,

    /// snapshot number, or time (default: the newest)
    #[argh(option, arg_name = "when")]
    pub at: Option<String>,

    /// only what is deleted: messages that no living folder shows in the newest snapshot, folders that are gone
    #[argh(switch)]
    pub only_deleted: bool,

    /// only messages received at this time or later (INTERNALDATE)
    #[argh(option, arg_name = "time")]
    pub since: Option<String>,

    /// only messages received before this time, or on this day at the latest
    #[argh(option, arg_name = "time")]
    pub until: Option<String>,

    /// only the message with this SHA-1; may be given several times
    #[argh(option, arg_name = "sha1")]
    pub guid: Vec<String>,

    /// only messages with this Message-ID; may be given several times
    #[argh(option, arg_name = "id")]
    pub message_id: Vec<String>,

    /// into this directory, which is made if need be; nothing that is there is changed
    #[argh(option, arg_name = "dir")]
    pub dir: Option<String>,

    /// maildir, mbox, eml, or cyrus (default: maildir)
    #[argh(option, arg_name = "form")]
    pub format: Option<String>,

    /// as a zip file to standard output
    #[argh(switch)]
    pub zip: bool,

    /// as a tar file to standard output
    #[argh(switch)]
    pub tar: bool,

    /// into the files of a server that does not run: this directory is put before every path of imapd.conf
    #[argh(option, arg_name = "dir")]
    pub spool: Option<String>,

    /// with --spool: everybody in the store, into an empty server; with --exact: everybody, one after the other
    #[argh(switch)]
    pub all_users: bool,

    /// with --all-users: only users whose mail is from this source, as `cylinder log` tells it, or all; may be given several
    /// times (needed if the store has users of several sources)
    #[argh(option, arg_name = "source")]
    pub source: Vec<String>,

    /// with --spool: configuration of the server (default: etc/imapd.conf below the directory); with --replace: of the one that
    /// is backed up (default: /etc/imapd.conf)
    #[argh(option, arg_name = "file")]
    pub imapd_conf: Option<String>,

    /// with --spool: the server's version, such as 3.6 (default: told from what is installed there, then from its databases,
    /// then from the archive); only with it are indexes lowered to an older version
    #[argh(option, arg_name = "version")]
    pub cyrus: Option<String>,

    /// into a running server, as a new tree of folders: RESTORED and the time of the snapshot (the default)
    #[argh(switch)]
    pub to_tree: bool,

    /// name of that tree, instead of the time of the snapshot
    #[argh(option, arg_name = "name")]
    pub tree: Option<String>,

    /// with --to-tree and --merge: into the mailboxes of this user instead, who must be there
    #[argh(option, long = "as", arg_name = "userid")]
    pub as_user: Option<String>,

    /// how long the tree is meant to be there, such as 7d; --cleanup then removes it
    #[argh(option, arg_name = "time")]
    pub expire: Option<String>,

    /// remove restored trees whose time has come
    #[argh(switch)]
    pub cleanup: bool,

    /// into the folders on a running server from which it comes, only what the user does not have any more
    #[argh(switch)]
    pub merge: bool,

    /// on a running server only flags and keywords, of messages that are still there
    #[argh(switch)]
    pub flags_only: bool,

    /// on a running server mailboxes as they were, through Cyrus's replication protocol
    #[argh(switch)]
    pub exact: bool,

    /// with --exact: back up and then replace mailboxes that are there
    #[argh(switch)]
    pub replace: bool,

    /// with --replace: do not back up what is there
    #[argh(switch)]
    pub no_backup: bool,

    /// with --replace: back up from here (default: the server on this host)
    #[argh(option, arg_name = "source")]
    pub from: Option<String>,

    /// with --replace: put this directory before every path of the server on this host
    #[argh(option, arg_name = "dir")]
    pub root: Option<String>,

    /// with --exact: partition of mailboxes that are made (default: as it was)
    #[argh(option, arg_name = "name")]
    pub partition: Option<String>,

    /// if there is no room: stop; warn and restore what fits; or lift the quota until it is done, as an administrator
    /// (default: stop)
    #[argh(option, arg_name = "stop|warn|lift")]
    pub over_quota: Option<String>,

    /// the running server, IMAP or csync: tcp:127.0.0.1:PORT, unix:PATH, ssh+tcp://HOST/ADDRESS:PORT, ssh+unix://HOST/PATH,
    /// exec:PROGRAM, tls:HOST:PORT, starttls:HOST:PORT; HOST is a name, an address, or NAME@ADDRESS
    /// (default: tcp:127.0.0.1:143)
    #[argh(option, arg_name = "where")]
    pub server: Option<String>,

    /// with tls: and starttls: certificates of who is trusted, or the server's own, in PEM form (default: whom the system
    /// trusts)
    #[argh(option, arg_name = "file")]
    pub tls_ca: Option<String>,

    /// ssh and its options, separated by spaces (default: ssh)
    #[argh(option, arg_name = "words")]
    pub ssh: Option<String>,

    /// who logs in: an administrator, or the user (default: the user)
    #[argh(option, arg_name = "userid")]
    pub login: Option<String>,

    /// the password is the first line of this file
    #[argh(option, arg_name = "file")]
    pub password_file: Option<String>,

    /// the password is in this environment variable (default: it is asked for)
    #[argh(option, arg_name = "name")]
    pub password_env: Option<String>,

    /// tell what would be done, and do nothing
    #[argh(switch)]
    pub dry_run: bool,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// threads that inflate (default: one for each processor, 8 at most)
    #[argh(option, arg_name = "n")]
    pub threads: Option<usize>,

    /// the report as one JSON object
    #[argh(switch)]
    pub json: bool,

    /// no progress
    #[argh(switch)]
    pub quiet: bool,
}

/// Give users of the Cyrus server on this host to a backup host: on standard input and output, or on a socket.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "serve",
    note = "It only reads, and never writes but lock files. There is no authentication: whoever reaches the socket reads all mail."
)]
pub struct Serve {
    /// unix:PATH or tcp:127.0.0.1:PORT (default: standard input and output)
    #[argh(option, arg_name = "socket")]
    pub listen: Option<String>,

    /// whom to give away: a pattern such as *@example.org; may be given several times (default: everybody)
    #[argh(option, arg_name = "pattern")]
    pub users: Vec<String>,

    /// listen on an address that other hosts can reach
    #[argh(switch)]
    pub i_know_there_is_no_authentication: bool,

    /// clients at a time (default: 64)
    #[argh(option, arg_name = "n")]
    pub max_connections: Option<usize>,

    /// longest silence between two requests, in seconds (default: 600)
    #[argh(option, arg_name = "s")]
    pub idle: Option<u32>,

    /// longest silence within a request, and longest wait for a client that takes nothing, in seconds (default: 120)
    #[argh(option, arg_name = "s")]
    pub stall: Option<u32>,

    /// configuration of the server (default: /etc/imapd.conf)
    #[argh(option, arg_name = "file")]
    pub imapd_conf: Option<String>,

    /// put this directory before every path of the server
    #[argh(option, arg_name = "dir")]
    pub root: Option<String>,

    /// the server's version, such as 3.6 (default: told from its databases)
    #[argh(option, arg_name = "version")]
    pub cyrus: Option<String>,

    /// no server runs on this spool: take no locks and create no lock files
    #[argh(switch)]
    pub offline: bool,

    /// longest time for which locks are held, in milliseconds (default: 2000)
    #[argh(option, arg_name = "ms")]
    pub hold: Option<u32>,

    /// longest wait for a lock, in seconds (default: 60)
    #[argh(option, arg_name = "s")]
    pub wait: Option<u32>,
}

/// Write one message to standard output.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "show")]
pub struct Show {
    /// userid; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub user: String,

    /// GUID (SHA-1 in hexadecimal), or FOLDER/UID
    #[argh(positional)]
    pub message: String,

    /// snapshot number, or time such as "2026-11-17 09:00" (default: the newest)
    #[argh(option, arg_name = "when")]
    pub at: Option<String>,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// what is known of the message, and its content base64-encoded, as one JSON object
    #[argh(switch)]
    pub json: bool,
}

/// Extract everything that an archive has into a directory, as tar would, but following deletions and renames.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "extract")]
pub struct Extract {
    /// userid; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub user: String,

    /// directory to create
    #[argh(positional)]
    pub dir: String,

    /// snapshot number, or time such as "2026-11-17 09:00" (default: the newest)
    #[argh(option, arg_name = "when")]
    pub at: Option<String>,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// one JSON object at the end
    #[argh(switch)]
    pub json: bool,

    /// no progress
    #[argh(switch)]
    pub quiet: bool,
}

/// Read whole archives and check every member, every SHA-1 and every commit.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "verify")]
pub struct Verify {
    /// userids (default: everybody in the store)
    #[argh(positional)]
    pub users: Vec<String>,

    /// everybody in the store
    #[argh(switch)]
    pub all: bool,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// inflate and hash everything, and look in every index of every snapshot whether its messages are there (the default)
    #[argh(switch)]
    pub full: bool,

    /// the same, but inflate and hash only so much of the messages, others each time; such as 5%
    #[argh(option, arg_name = "percent")]
    pub sample: Option<String>,

    /// begin no user after this time, such as 2h, and go on with that user next time
    #[argh(option, arg_name = "span")]
    pub max_time: Option<String>,

    /// inflate nothing: only headers, CRCs of compressed bytes, and the chain of commits
    #[argh(switch)]
    pub quick: bool,

    /// threads that inflate (default: one for each processor, 8 at most)
    #[argh(option, arg_name = "n")]
    pub threads: Option<usize>,

    /// one JSON object for each user
    #[argh(switch)]
    pub json: bool,

    /// no progress, and only users with something to report
    #[argh(switch)]
    pub quiet: bool,
}

/// Print any file of Cyrus or of an archive readably, and say what is damaged.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "inspect")]
pub struct Inspect {
    /// cyrus.index, cyrus.header, a database, a quota file, an archive, ...
    #[argh(positional)]
    pub file: String,

    /// one JSON object
    #[argh(switch)]
    pub json: bool,
}

/// Print the version and what it was built with.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "version")]
pub struct Version {
    /// one JSON object
    #[argh(switch)]
    pub json: bool,
}

/// Write a damaged archive anew with everything that is whole in it, and say what is lost. The damaged one is kept beside it.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "repair",
    note = "{command_name} returns 0 if nothing is lost or nothing was wrong, 3 if something is lost, 4 with --dry-run if something is wrong."
)]
pub struct Repair {
    /// userids; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub users: Vec<String>,

    /// say what is wrong, and write nothing
    #[argh(switch)]
    pub dry_run: bool,

    /// remove damaged archives and ends of archives that are kept beside a good one, those of earlier repairs too
    #[argh(switch)]
    pub drop_aside: bool,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// compression level, 0 to 12 (default: 1)
    #[argh(option, arg_name = "n")]
    pub level: Option<u8>,

    /// threads that deflate (default: one for each processor, 8 at most)
    #[argh(option, arg_name = "n")]
    pub threads: Option<usize>,

    /// one JSON object for each user
    #[argh(switch)]
    pub json: bool,

    /// no progress
    #[argh(switch)]
    pub quiet: bool,
}

/// Fetch messages that an archive has lost anew from the server, wherever they are there now.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "heal",
    note = "{command_name} reads the whole archive. It returns 0 if nothing is lost any more, 3 if the server does not have all of it."
)]
pub struct Heal {
    /// userid; %shared for the mailboxes that belong to no user
    #[argh(positional)]
    pub user: String,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// another server, as for `backup` (default: this host)
    #[argh(option, arg_name = "source")]
    pub from: Option<String>,

    /// what ssh runs on the other host (default: cylinder serve)
    #[argh(option, arg_name = "command")]
    pub serve_command: Option<String>,

    /// ssh and its options, separated by spaces (default: ssh)
    #[argh(option, arg_name = "words")]
    pub ssh: Option<String>,

    /// configuration of the server (default: /etc/imapd.conf)
    #[argh(option, arg_name = "file")]
    pub imapd_conf: Option<String>,

    /// put this directory before every path of the server
    #[argh(option, arg_name = "dir")]
    pub root: Option<String>,

    /// the server's version, such as 3.6 (default: told from its databases)
    #[argh(option, arg_name = "version")]
    pub cyrus: Option<String>,

    /// no server runs on this spool: take no locks and create no lock files
    #[argh(switch)]
    pub offline: bool,

    /// one JSON object
    #[argh(switch)]
    pub json: bool,

    /// no progress
    #[argh(switch)]
    pub quiet: bool,
}

/// Make an archive of a tar file, plain or gzipped: one of Cyrus::Backup, or one of ours that other tools have rewritten.
/// Backups go on from it without fetching a message again.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "import",
    note = "The files are only read. {command_name} returns 0 if everything in them was taken, 3 if something in them is damaged or lost."
)]
pub struct Import {
    /// files, such as alice/backupdata-1795457253.tar.gz
    #[argh(positional)]
    pub files: Vec<String>,

    /// whose mail it is (default: the name of the directory that the file is in)
    #[argh(option, arg_name = "userid")]
    pub user: Option<String>,

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

    /// compression level, 0 to 12 (default: 1)
    #[argh(option, arg_name = "n")]
    pub level: Option<u8>,

    /// threads that deflate (default: one for each processor, 8 at most)
    #[argh(option, arg_name = "n")]
    pub threads: Option<usize>,

    /// one JSON object for each file
    #[argh(switch)]
    pub json: bool,

    /// no progress
    #[argh(switch)]
    pub quiet: bool,
}

/// Make a directory a store: write a file into it without which no other command touches it. Archives in it are adopted.
#[derive(FromArgs, Debug)]
#[argh(
    subcommand,
    name = "init",
    note = "The directory is made if it does not exist. {command_name} fails if it is a store already, or holds other files."
)]
pub struct Init {
    /// the directory (default: $CYLINDER_STORE)
    #[argh(positional)]
    pub store: Option<String>,

    /// one JSON object
    #[argh(switch)]
    pub json: bool,
}
