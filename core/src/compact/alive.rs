//! What retained snapshots need (FORMAT.md section 9), as a [`Decider`].
//!
//! What must not come in: which snapshots are retained, and writing.

use super::decide::{Candidate, Decider, Decision};
use super::survey::{self, Look, Meta, Survey, What};
use crate::archive::member::Kind;
use crate::archive::read::{CommitAt, Reader};
use crate::archive::record::{CommitKind, Location, StateContent, Table};
use crate::backup::{GUIDS, parse_guids};
use crate::cyrus::index::Index;
use crate::error::Error;
use crate::escape::Shown;
use crate::guid::Guid;
use crate::io::Io;
use crate::source::MetaFile;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// SHA-1s that are gathered before those that come twice are taken out.
const GATHERED: usize = 1 << 16;

/// What is alive in an archive.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Alive {
    /// Offsets of the records of the commits that stay.
    commits: Vec<u64>,
    /// Metadata entries.
    metas: Vec<Location>,
    messages: Vec<Guid>,
    /// Something cannot be read that may have named any message: all of them are alive.
    every_message: bool,
    /// Where the newest snapshot ends: what is behind it is alive.
    end: u64,
    /// What to tell a person.
    pub notes: Vec<String>,
}

impl Decider for Alive {
    fn decide(&self, entry: &Candidate<'_>) -> Decision {
        let keep = match entry.kind {
            Kind::Head => true,
            _ if entry.at.member >= self.end => true,
            Kind::Data => match entry.message() {
                Some(guid) => self.every_message || self.messages.binary_search(&guid).is_ok(),
                None => true,
            },
            Kind::Meta => self.metas.binary_search(&entry.at).is_ok(),
            Kind::Commit | Kind::List | Kind::Table | Kind::Footer => self.commits.binary_search(&entry.at.member).is_ok(),
        };
        match (keep, entry.kind) {
            (false, _) => Decision::Drop,
            (true, Kind::Commit | Kind::List | Kind::Table) => Decision::Rewrite,
            (true, _) => Decision::Keep,
        }
    }
}

/// What names messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Index,
    Expunge,
    Guids,
}

/// What the tables of retained snapshots point to, and what is gathered from it.
#[derive(Default)]
struct Needs {
    metas: Vec<Location>,
    sources: BTreeMap<Location, (Source, String)>,
    guids: Vec<Guid>,
    /// Length of `guids` when those that came twice were last taken out.
    settled: usize,
    notes: Vec<String>,
    unreadable: bool,
}

/// Surveys the archive and finds what is alive if `retained` tells which of its snapshots are.
pub async fn find(io: &Io, reader: &Reader, retained: impl Fn(&[CommitAt]) -> Vec<bool>) -> Result<(Survey, Alive), Error> {
    let commits = survey::commits(reader).await?;
    let is_snapshot = |commit: &CommitAt| commit.commit.kind == CommitKind::Snapshot;
    let kept: Vec<bool> = commits.iter().zip(retained(&commits)).map(|(commit, kept)| kept && is_snapshot(commit)).collect();
    let mut needs = Needs::default();
    for (commit, kept) in commits.iter().zip(&kept) {
        if *kept {
            let number = commit.commit.number;
            needs.table(number, reader.table(commit).await?);
        }
    }
    let newest = commits.iter().rfind(|commit| is_snapshot(commit));
    let end = newest.map_or(0, |commit| commit.part.offset + commit.part.len);
    let survey = Survey::read(io, reader, commits, &mut needs).await?;
    needs.settle();
    let mut alive =
        Alive { messages: needs.guids, every_message: needs.unreadable, end, notes: needs.notes, ..Alive::default() };
    for (commit, kept) in survey.commits.iter().zip(&kept) {
        let is_beginning = commit.commit.previous.is_none() && !is_snapshot(commit) && commit.commit.messages.is_none();
        if *kept || is_beginning || commit.part.offset >= end {
            alive.commits.push(commit.part.offset);
        }
    }
    let snapshots: Vec<u64> = survey.commits.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(c, _)| c.part.offset).collect();
    needs.metas.sort();
    needs.metas.dedup();
    alive.metas = names(&survey, &snapshots, &needs.metas, end);
    Ok((survey, alive))
}

impl Needs {
    fn table(&mut self, snapshot: u64, table: Table) {
        for row in table.folders {
            for file in &row.files {
                let Some(at) = file.at.location() else { continue };
                self.metas.push(at);
                let source = match &file.name[..] {
                    name if name == MetaFile::Index.name() => Source::Index,
                    name if name == MetaFile::Expunge.name() => Source::Expunge,
                    GUIDS => Source::Guids,
                    _ => continue,
                };
                let label = || format!("{} of {} in snapshot {snapshot}", file.name, Shown(&row.name));
                self.sources.entry(at).or_insert_with(|| (source, label()));
            }
            for missing in &row.missing {
                self.guids.extend(missing.guid.into_iter().chain(missing.found));
            }
        }
        for state in &table.states {
            let (StateContent::File { at, .. } | StateContent::Link { at, .. }) = &state.content;
            self.metas.extend(at.location());
        }
    }

    fn settle(&mut self) {
        self.guids.sort();
        self.guids.dedup();
        self.settled = self.guids.len();
    }

    fn index(&mut self, label: &str, parsed: Result<Index<'_>, crate::error::Damage>) {
        let index = match parsed {
            Ok(index) => index,
            Err(damage) => return self.cannot_read(label, &damage),
        };
        for record in index.records() {
            match record {
                Ok(record) if record.is_unlinked() || !record.has_sha1_guid() => {}
                Ok(record) => self.guids.push(record.guid),
                Err(damage) => self.cannot_read(label, &damage),
            }
        }
    }

    fn cannot_read(&mut self, label: &str, damage: &crate::error::Damage) {
        // Once is enough: it is the same for all.
        if !core::mem::replace(&mut self.unreadable, true) {
            self.notes.push(format!("no message is dropped, because {label} cannot be read: {damage}"));
        }
    }
}

impl Look for Needs {
    fn wants(&self, at: Location) -> bool {
        self.sources.contains_key(&at)
    }

    fn content(&mut self, at: Location, bytes: &[u8]) {
        let Some((source, label)) = self.sources.remove(&at) else { return };
        match source {
            Source::Index => self.index(&label, Index::parse(bytes)),
            Source::Expunge => self.index(&label, Index::parse_expunge(bytes)),
            Source::Guids => self.guids.extend(parse_guids(bytes).into_values().map(|(guid, _)| guid)),
        }
        if self.guids.len() > 2 * self.settled + GATHERED {
            self.settle();
        }
    }
}

/// The metadata entries that are alive, in order: those that are pointed to, and of each name of a link, and of each that is
/// gone, the last one before a retained snapshot, if it says anything.
fn names(survey: &Survey, snapshots: &[u64], pointed: &[Location], end: u64) -> Vec<Location> {
    let mut metas: Vec<&Meta> = survey.metas.iter().collect();
    metas.sort_by(|a, b| survey.name(a).cmp(survey.name(b)).then(a.at.cmp(&b.at)));
    let mut alive = Vec::new();
    for group in metas.chunk_by(|a, b| survey.name(a) == survey.name(b)) {
        // Something of this name is there already.
        let mut is_there = false;
        for (n, meta) in group.iter().enumerate() {
            let until = group.get(n + 1).map_or(u64::MAX, |next| next.at.member);
            let is_last = || {
                let next = snapshots.partition_point(|offset| *offset <= meta.at.member);
                snapshots.get(next).is_some_and(|offset| *offset < until)
            };
            let is_pointed = || pointed.binary_search(&meta.at).is_ok();
            let keep = meta.at.member >= end
                || match meta.what {
                    What::File => is_pointed(),
                    What::Link => is_last() || is_pointed(),
                    What::End => is_there && is_last(),
                };
            if keep {
                is_there = meta.what != What::End;
                alive.push(meta.at);
            }
        }
    }
    alive.sort();
    alive
}
