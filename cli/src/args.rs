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
pub enum Command {
    Backup(Backup),
    Users(Users),
    Log(Log),
    List(List),
    Replay(Replay),
    Serve(Serve),
    Show(Show),
    Extract(Extract),
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

    /// one JSON object for each snapshot
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

    /// folder, such as INBOX or INBOX.Sent
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

    /// directory of the archives (default: $CYLINDER_STORE)
    #[argh(option, arg_name = "dir")]
    pub store: Option<String>,

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
