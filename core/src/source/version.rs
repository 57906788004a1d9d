//! Which release of Cyrus is installed on a host: from the packages that dpkg lists, else from Cyrus's own library.
//!
//! It is a hint, so what cannot be read says nothing. What must not come in: databases, indexes and lock files, which tell of
//! the release that wrote them ([`super::site`]).

use crate::cyrus::conf::VersionLine;
use crate::escape::shown;
use crate::io::{Io, Place};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a version was concluded from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// The release line.
    pub version: VersionLine,
    /// From what, for people.
    pub because: String,
}

const PACKAGES: &[u8] = b"/var/lib/dpkg/status";
/// The longest list of packages that is read. Real ones have a few million bytes.
const PACKAGES_MAX: u64 = 64 << 20;
/// Directories of libraries; those of one architecture below the first ones have names such as `x86_64-linux-gnu`.
const LIBRARIES: [&[u8]; 7] = [
    b"/usr/lib",
    b"/usr/local/lib",
    b"/usr/lib64",
    b"/usr/local/lib64",
    b"/usr/cyrus/lib",
    b"/usr/local/cyrus/lib",
    b"/opt/cyrus/lib",
];
/// The library that every program of Cyrus 2.5 and later needs, and its greatest length. Real ones have half a million bytes.
const LIBRARY: &[u8] = b"libcyrus_min.so";
const LIBRARY_MAX: u64 = 16 << 20;
/// Names in a directory of libraries.
const NAMES_MAX: usize = 100_000;

/// The release that is installed; `None` if nothing tells.
pub async fn installed(io: &Io) -> Option<Told> {
    if let Ok((text, _)) = io.read_whole(&Place::host(PACKAGES), PACKAGES_MAX, Vec::new()).await
        && let Some(told) = of_packages(&text)
    {
        return Some(told);
    }
    for dir in LIBRARIES {
        let names = names(io, dir).await;
        let inner = names.iter().filter(|name| name.windows(7).any(|part| part == b"-linux-"));
        let inner: Vec<Vec<u8>> = inner.map(|name| [dir, b"/", name].concat()).collect();
        if let Some(told) = of_libraries(io, dir, &names).await {
            return Some(told);
        }
        for dir in inner {
            let names = self::names(io, &dir).await;
            if let Some(told) = of_libraries(io, &dir, &names).await {
                return Some(told);
            }
        }
    }
    None
}

async fn names(io: &Io, dir: &[u8]) -> Vec<Vec<u8>> {
    let entries = io.list(&Place::host(dir), NAMES_MAX).await.unwrap_or_default();
    entries.into_iter().map(|entry| entry.name).collect()
}

async fn of_libraries(io: &Io, dir: &[u8], names: &[Vec<u8>]) -> Option<Told> {
    // The file itself has the longest name; the others are links to it.
    let name = names.iter().filter(|name| name.starts_with(LIBRARY)).max_by_key(|name| name.len())?;
    let path = [dir, b"/", name].concat();
    let (bytes, _) = io.read_whole(&Place::host(&path[..]), LIBRARY_MAX, Vec::new()).await.ok()?;
    let (version, text) = of_library(&bytes)?;
    Some(Told { version, because: format!("{} is of version {text}", shown(&path)) })
}

/// The release of the packages of Cyrus that are installed.
fn of_packages(status: &[u8]) -> Option<Told> {
    let mut found: Option<Told> = None;
    for stanza in stanzas(status) {
        let field = |name: &[u8]| stanza.iter().find_map(|line| line.strip_prefix(name)).map(<[u8]>::trim_ascii);
        let Some(package) = field(b"Package:") else { continue };
        let is_server = package.starts_with(b"cyrus-common") || package.starts_with(b"cyrus-imapd");
        // Its files are there also if a script of the package has failed.
        let is_gone = |status: &[u8]| status.ends_with(b" config-files") || status.ends_with(b" not-installed");
        if !is_server || field(b"Status:").is_none_or(is_gone) {
            continue;
        }
        let version = field(b"Version:").unwrap_or_default();
        let upstream = version.iter().position(|&b| b == b':').map_or(version, |colon| &version[colon + 1..]);
        let Some(line) = core::str::from_utf8(upstream).ok().and_then(VersionLine::of) else { continue };
        if found.as_ref().is_none_or(|found| found.version < line) {
            let because = format!("package {} {} is installed", shown(package), shown(version));
            found = Some(Told { version: line, because });
        }
    }
    found
}

/// The paragraphs of a control file, as lines.
fn stanzas(text: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    let mut lines = text.split(|&b| b == b'\n');
    core::iter::from_fn(move || {
        let stanza: Vec<&[u8]> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        // Of several empty lines each ends a paragraph, the last one at the end of the text.
        (!stanza.is_empty()).then_some(stanza)
    })
}

/// The newest version among the strings of a library: its own, and those in which its options came.
fn of_library(bytes: &[u8]) -> Option<(VersionLine, String)> {
    let is_number = |part: &str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    let key = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let parts: Vec<&str> = text[..end].split('.').collect();
        let numbers = || parts.iter().map(|part| part.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
        (parts.len() == 3 && parts.iter().all(|part| is_number(part))).then(numbers)
    };
    let strings = bytes.split(|&b| b == 0).filter(|text| (5..64).contains(&text.len()));
    let texts = strings.filter_map(|text| core::str::from_utf8(text).ok());
    let versions = texts.filter_map(|text| Some((key(text)?, VersionLine::of(text)?, text)));
    versions.max_by(|a, b| a.0.cmp(&b.0)).map(|(_, line, text)| (line, shown(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_that_are_installed_tell_their_release() {
        let status = b"Package: cyrus-sasl\nStatus: install ok installed\nVersion: 2.1.28\n\n\
            Package: cyrus-common\nStatus: deinstall ok config-files\nVersion: 3.12.4-1\n\n\
            Package: cyrus-imapd\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:3.10.2-1+deb13u2\n";
        let told = of_packages(status).unwrap();
        assert_eq!(told.version, VersionLine::V3_10);
        assert_eq!(told.because, "package cyrus-imapd 1:3.10.2-1+deb13u2 is installed");
        assert_eq!(of_packages(b"Package: postfix\nStatus: install ok installed\nVersion: 3.12\n"), None);
        assert_eq!(of_packages(b""), None);
    }

    #[test]
    fn the_newest_version_in_a_library_is_its_own() {
        let library = b"\x7fELF\0imapd\x003.6.0\x003.10.2-Debian-3.10.2-1+deb13u2\x003.8.0\x0010.11.12.13\x00OpenSSL 3.99.1\0";
        assert_eq!(of_library(library), Some((VersionLine::V3_10, "3.10.2-Debian-3.10.2-1+deb13u2".into())));
        assert_eq!(of_library(b"nothing\0here"), None);
    }
}
