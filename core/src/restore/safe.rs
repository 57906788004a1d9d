//! Names of folders as names of files that every system takes: nobody's path, nobody's device, nothing that a terminal minds.
//!
//! What must not come in: making files.

use crate::cyrus::utf7;
use crate::escape::is_deceptive;
use crate::guid::Guid;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;

/// The longest name that is given out, in bytes: endings such as `.mbox` still fit into the 255 that file systems take.
const NAME_MAX: usize = 200;
/// Names that are devices on Windows, whatever ending they have.
const DEVICES: [&str; 4] = ["CON", "PRN", "AUX", "NUL"];
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];

/// The names given out in one directory. No two are the same, also where upper and lower case are one.
#[derive(Clone, Debug, Default)]
pub struct Names {
    taken: BTreeSet<String>,
}

impl Names {
    /// The name for a folder, from its name in the archive: as people read it, with every character that is not safe
    /// percent-encoded. The same names in the same order give the same.
    pub fn of_folder(&mut self, folder: &[u8]) -> String {
        let name = safe(&utf7::decode(folder));
        let mut found = name.clone();
        let mut n = 1u64;
        while !self.take(&found.to_lowercase()) {
            n += 1;
            found = format!("{name}~{n}");
        }
        found
    }

    /// Takes a name and those of the files beside it; false if one of them is taken.
    fn take(&mut self, name: &str) -> bool {
        let all = ["", ".jsonl", ".mbox"].map(|ending| format!("{name}{ending}"));
        let is_free = !all.iter().any(|name| self.taken.contains(name));
        if is_free {
            self.taken.extend(all);
        }
        is_free
    }
}

/// The text as one safe name.
pub fn safe(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        let is_dot = c == '.' && (at == 0 || at == last);
        let is_blank = c == ' ' && (at == 0 || at == last);
        // A `-` in front is an option to other people's tools, a `~` somebody's home.
        let is_first = at == 0 && matches!(c, '-' | '~');
        if is_dot || is_blank || is_first || c.is_control() || is_deceptive(c) || "/\\:*?\"<>|%".contains(c) {
            encode(c, &mut name);
        } else {
            name.push(c);
        }
    }
    if name.is_empty() || is_device(&name) {
        let mut chars = name.chars();
        let mut changed = String::new();
        encode(chars.next().unwrap_or('_'), &mut changed);
        name = changed + chars.as_str();
    }
    if name.len() > NAME_MAX {
        let kept = NAME_MAX - 42;
        let cut = (0..=kept).rev().find(|&at| name.is_char_boundary(at)).unwrap_or(0);
        // Not inside of an escape.
        let cut = name[..cut].rfind('%').filter(|at| cut - at < 3).unwrap_or(cut);
        name = format!("{}%~{}", &name[..cut], Guid::of(text.as_bytes()));
    }
    name
}

fn encode(c: char, out: &mut String) {
    let mut bytes = [0; 4];
    for b in c.encode_utf8(&mut bytes).bytes() {
        out.push_str(&format!("%{b:02X}"));
    }
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    let is_digit = |rest: &str| rest.len() == 1 && rest.as_bytes()[0].is_ascii_digit();
    let is_numbered = NUMBERED_DEVICES.iter().any(|device| stem.strip_prefix(device).is_some_and(is_digit));
    is_numbered || DEVICES.contains(&&stem[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_component_that_every_system_takes() {
        let made = |text: &str| safe(text);
        assert_eq!(made("INBOX.Sent"), "INBOX.Sent");
        assert_eq!(made("caf\u{e9}"), "caf\u{e9}");
        assert_eq!(made("../../etc"), "%2E.%2F..%2Fetc");
        assert_eq!(made(".."), "%2E%2E");
        assert_eq!(made("/etc/passwd"), "%2Fetc%2Fpasswd");
        assert_eq!(made("a\0b\n"), "a%00b%0A");
        assert_eq!(made("nul.txt"), "%6Eul.txt");
        assert_eq!(made("COM1"), "%43OM1");
        assert_eq!(made("COMMON"), "COMMON");
        assert_eq!(made("-rf"), "%2Drf");
        assert_eq!(made("x "), "x%20");
        assert_eq!(made(""), "%5F");
        assert_eq!(made("a\u{202e}b"), "a%E2%80%AEb");
        assert_eq!(made("C:\\x"), "C%3A%5Cx");
    }

    #[test]
    fn long_names_are_cut_and_stay_apart() {
        let (one, two) = (safe(&"\u{e9}/".repeat(300)), safe(&("\u{e9}/".repeat(300) + "x")));
        assert!(one.len() <= NAME_MAX && two.len() <= NAME_MAX && one != two);
        for n in 150..260 {
            let name = safe(&"/".repeat(n));
            assert!(name.len() <= NAME_MAX);
            let plain = name.split("%~").next().unwrap_or_default();
            assert!(plain.len().is_multiple_of(3), "{name}");
        }
    }

    #[test]
    fn names_that_differ_in_case_alone_stay_apart() {
        let mut names = Names::default();
        let made = ["INBOX.a", "INBOX.A", "INBOX.a~2", "INBOX.a"].map(|name| names.of_folder(name.as_bytes()));
        assert_eq!(made, ["INBOX.a", "INBOX.A~2", "INBOX.a~2~2", "INBOX.a~3"]);
    }

    #[test]
    fn no_folder_has_the_name_of_a_file_beside_another() {
        for (names, made) in [(["x", "x.jsonl"], ["x", "x.jsonl~2"]), (["x.mbox", "x"], ["x.mbox", "x~2"])] {
            let mut given = Names::default();
            assert_eq!(names.map(|name| given.of_folder(name.as_bytes())), made);
        }
    }
}
