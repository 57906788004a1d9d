//! When each user was last backed up, whether or not there was anything new: a file in the store that may be deleted.
//!
//! It decides only who comes first. What must not come in: anything that a backup depends on.

use cylinder_transport_local::owner_in_store;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Its name in the store.
const NAME: &str = "last-runs";
/// The longest file that is read: some millions of users.
const LEN_MAX: u64 = 1 << 30;

/// Seconds since the epoch by user, as users are written.
#[derive(Default)]
pub struct Ledger(BTreeMap<String, u64>);

impl Ledger {
    /// What the store has. An absent or damaged file, or line, is as good as none.
    pub fn load(store: &Path) -> Ledger {
        let path = store.join(NAME);
        let short = std::fs::metadata(&path).is_ok_and(|meta| meta.is_file() && meta.len() <= LEN_MAX);
        let text = if short { std::fs::read_to_string(&path).unwrap_or_default() } else { String::new() };
        let line = |line: &str| {
            let (time, user) = line.split_once(' ')?;
            Some((user.to_owned(), time.parse().ok()?))
        };
        Ledger(text.lines().filter_map(line).collect())
    }

    /// When a user was last backed up. Never is before everything.
    pub fn last(&self, user: &str) -> u64 {
        self.0.get(user).copied().unwrap_or(0)
    }

    /// Takes down that a user was backed up now.
    pub fn done(&mut self, user: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.0.insert(user.to_owned(), now);
    }

    /// Writes the file, with what other runs have written meanwhile.
    pub fn save(&self, store: &Path) -> std::io::Result<()> {
        let mut all = Ledger::load(store).0;
        for (user, time) in &self.0 {
            let known = all.entry(user.clone()).or_default();
            *known = (*known).max(*time);
        }
        let mut file = tempfile::Builder::new().prefix(NAME).tempfile_in(store)?;
        for (user, time) in all {
            writeln!(file, "{time} {user}")?;
        }
        if let Some((user, group)) = owner_in_store(store) {
            std::os::unix::fs::fchown(file.as_file(), Some(user), Some(group))?;
        }
        file.persist(store.join(NAME)).map(drop).map_err(|error| error.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_do_not_forget_each_others_users() {
        let store = tempfile::tempdir().expect("a directory");
        let (mut one, mut other) = (Ledger::load(store.path()), Ledger::load(store.path()));
        one.done("anna");
        other.done("bob smith");
        one.save(store.path()).expect("saved");
        other.save(store.path()).expect("saved");
        let both = Ledger::load(store.path());
        assert!(both.last("anna") > 0 && both.last("bob smith") > 0 && both.last("carol") == 0);
    }

    #[test]
    fn a_damaged_file_is_as_good_as_none() {
        let store = tempfile::tempdir().expect("a directory");
        std::fs::write(store.path().join(NAME), b"x anna\n12\n34 bob\n\xff").expect("written");
        assert_eq!(Ledger::load(store.path()).last("bob"), 0);
        std::fs::write(store.path().join(NAME), b"x anna\n12\n34 bob\n").expect("written");
        assert_eq!(Ledger::load(store.path()).last("bob"), 34);
    }
}
