//! Whether a Cyrus server runs on a directory whose files are going to be changed: its `master` works in the configuration
//! directory, and so do its other processes or in one below it.
//!
//! Seen are the processes of this host, those in containers and chroots among them, as far as this process may look at them.
//! What must not come in: servers that are asked something.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Programs that serve, as the kernel names them (15 letters at most).
const SERVERS: [&str; 16] = [
    "master",
    "cyrmaster",
    "cyrus-master",
    "imapd",
    "pop3d",
    "lmtpd",
    "httpd",
    "nntpd",
    "timsieved",
    "sync_server",
    "sync_client",
    "idled",
    "mupdate",
    "backupd",
    "squatter",
    "notifyd",
];
/// Where these work, below the configuration directory.
const PLACES: [&str; 4] = ["", "cores", "cores/master", "proc"];

/// The number and the name of a server's process that works in `configdirectory`.
pub fn server_in(configdirectory: &Path) -> Option<(u32, String)> {
    let id = |path: &Path| fs::metadata(path).ok().map(|stat| (stat.dev(), stat.ino()));
    let places: Vec<(u64, u64)> = PLACES.iter().filter_map(|place| id(&configdirectory.join(place))).collect();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // Those of other namespaces have other paths, and the same directory.
        if !id(&entry.path().join("cwd")).is_some_and(|cwd| places.contains(&cwd)) {
            continue;
        }
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let name = name.trim_end();
        if SERVERS.contains(&name) {
            return Some((pid, name.to_owned()));
        }
    }
    None
}
