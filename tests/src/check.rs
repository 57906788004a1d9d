//! What must hold of an archive after whatever happened to it: one function for each invariant.
//!
//! They answer in words, so that a test can also demand that one of them is broken.

use crate::disk::SimDisk;
use crate::drive::drive;
use crate::story::{Batch, archive, dir, reopen};
use cylinder_core::archive::read::{CommitAt, Reader};
use cylinder_core::archive::record::CommitKind;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::Io;
use std::collections::BTreeMap;
use std::io::Read;

/// Nothing, or what is wrong.
pub type Check = Result<(), String>;

/// More than the longest entry of any story.
const ENTRY_MAX: u64 = 16 << 20;

/// A commit with everything that came with it, read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its number.
    pub number: u64,
    /// True for a snapshot.
    pub snapshot: bool,
    /// Whence.
    pub source: String,
    /// Its new messages in order of SHA-1.
    pub messages: Vec<Vec<u8>>,
    /// cyrus.index of the folder that its table lists.
    pub index: Option<Vec<u8>>,
}

impl Found {
    fn is(&self, batch: &Batch) -> bool {
        let mut messages = batch.messages.clone();
        messages.sort_by_key(|message| Guid::of(message));
        // The table of a checkpoint is that of the snapshot before.
        let index = if self.snapshot { self.index == batch.index } else { batch.index.is_none() };
        self.messages == messages && self.source == batch.source && index
    }
}

/// Reads back everything, oldest commit first, without the one that creates an archive.
pub async fn read_all(io: Io) -> Result<Vec<Found>, Error> {
    let reader = Reader::open(&io, &dir()).await?;
    let all = read_commits(&reader).await;
    reader.close().await;
    all
}

async fn read_commits(reader: &Reader) -> Result<Vec<Found>, Error> {
    let mut all = Vec::new();
    let mut next = Some(reader.head().clone());
    while let Some(commit) = next {
        // The first one is empty; a repair may have given it up.
        if commit.commit.number > 0 {
            all.push(read_commit(reader, &commit).await?);
        }
        next = reader.previous(&commit).await?;
    }
    all.reverse();
    Ok(all)
}

async fn read_commit(reader: &Reader, commit: &CommitAt) -> Result<Found, Error> {
    let mut messages = Vec::new();
    for listed in reader.messages(commit).await?.iter() {
        if reader.locate(&listed.guid).await? != Some(listed) {
            return Err(Error::Refused(format!("message {} is listed but not located", listed.guid)));
        }
        messages.push(reader.read_entry(listed.at, ENTRY_MAX).await?);
    }
    let table = reader.table(commit).await?;
    let at = table.folder(b"INBOX").and_then(|row| row.file("cyrus.index")?.at.location());
    let index = match at {
        Some(at) => Some(reader.read_entry(at, ENTRY_MAX).await?),
        None => None,
    };
    let snapshot = commit.commit.kind == CommitKind::Snapshot;
    Ok(Found { number: commit.commit.number, snapshot, source: commit.commit.source.clone(), messages, index })
}

/// Which batches of the story the archive holds, in order. Wrong if a commit is none of them and none that mending made, or one
/// cannot be read back.
pub fn present(disk: &SimDisk, story: &[Batch]) -> Result<Vec<usize>, String> {
    let mut disk = disk.clone();
    let all = drive(&mut disk, read_all).finished().map_err(|e| format!("reading back: {e}"))?;
    let said: Vec<&Vec<u8>> = story.iter().flat_map(|batch| &batch.messages).collect();
    // A checkpoint with messages that mending has taken over.
    let is_mended = |found: &Found| found.source == "mended" && found.messages.iter().all(|message| said.contains(&message));
    let batch_of = |found: &Found| {
        story.iter().position(|batch| found.is(batch)).ok_or_else(|| {
            let Found { number, source, messages, .. } = found;
            format!(
                "commit {number} (source `{source}`, messages of {:?} bytes) is none of the story's",
                messages.iter().map(Vec::len).collect::<Vec<_>>()
            )
        })
    };
    all.iter().filter(|found| !is_mended(found)).map(batch_of).collect()
}

/// Every acknowledged batch is there and reads back byte for byte; of the others at most `maybe`, and that whole.
pub fn acknowledged_is_there(disk: &SimDisk, story: &[Batch], acknowledged: &[usize], maybe: Option<usize>) -> Check {
    let present = present(disk, story)?;
    let with_maybe: Vec<usize> = acknowledged.iter().copied().chain(maybe).collect();
    if present == acknowledged || present == with_maybe {
        return Ok(());
    }
    Err(format!("acknowledged were {acknowledged:?}, perhaps also {maybe:?}, found are {present:?}"))
}

/// Opening for writing once more changes not a byte.
pub fn mending_twice_is_once(disk: &SimDisk) -> Check {
    let mut again = disk.clone();
    drive(&mut again, reopen).finished().map_err(|e| format!("opening again: {e}"))?;
    let (once, twice) = (disk.store(), again.store());
    if once == twice {
        return Ok(());
    }
    Err(format!("opening again changed the store: {} then {}", names(&once), names(&twice)))
}

fn names(store: &BTreeMap<String, Vec<u8>>) -> String {
    store.iter().map(|(name, content)| format!("{name} {} bytes; ", content.len())).collect()
}

/// Readers of another make read the archive to its very end and find only complete entries, all messages of `batches` among
/// them.
pub fn others_can_read_it(disk: &SimDisk, story: &[Batch], batches: &[usize]) -> Check {
    let bytes = disk.content(&archive()).ok_or("there is no archive")?;
    let entries = foreign_entries(bytes).map_err(|e| format!("tar and gzip of another make: {e}"))?;
    for message in batches.iter().flat_map(|&n| &story[n].messages) {
        let name = format!("files/{}", Guid::of(message));
        if entries.get(&name) != Some(message) {
            return Err(format!("tar and gzip of another make do not find {name}"));
        }
    }
    Ok(())
}

/// What a gzip and a tar reader of another make find in an archive, the later of two entries of one name; each with the SHA-1
/// that its header tells.
pub fn foreign_entries(bytes: &[u8]) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut tar = tar::Archive::new(flate2::read::MultiGzDecoder::new(bytes));
    let mut found = BTreeMap::new();
    for entry in tar.entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| e.to_string())?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).map_err(|e| format!("{name}: {e}"))?;
        let sha1 = entry.link_name_bytes().map(|link| link.to_vec()).unwrap_or_default();
        let regular = entry.header().entry_type().is_file();
        if content.len() as u64 != entry.size() || regular && !sha1.is_empty() && sha1 != Guid::of(&content).to_hex().as_bytes()
        {
            return Err(format!("{name}: {} bytes that are not its content", content.len()));
        }
        found.insert(name, content);
    }
    // Behind the end of the tar file, gzip has nothing more to say, not even an error.
    let mut rest = Vec::new();
    tar.into_inner().read_to_end(&mut rest).map_err(|e| format!("behind the end: {e}"))?;
    if rest.iter().any(|&b| b != 0) {
        return Err(format!("{} bytes behind the end of the tar file", rest.len()));
    }
    Ok(found)
}

/// Nothing was written but in the archive's directory.
pub fn nothing_written_elsewhere(disk: &SimDisk) -> Check {
    let inside = |path: &str| path == dir().shown() || path.starts_with(&format!("{}/", dir().shown()));
    match disk.written().iter().find(|place| !inside(&place.shown()) || place.root != dir().root) {
        Some(place) => Err(format!("{place:?} was written")),
        None => Ok(()),
    }
}

/// No file stays open.
pub fn nothing_open(disk: &SimDisk) -> Check {
    if disk.open_files() == 0 { Ok(()) } else { Err(format!("{} files are open", disk.open_files())) }
}

/// What `mended` has not kept of the archive `found`, an aside file holds. Gives the bytes set aside.
pub fn cut_bytes_are_aside(found: &[u8], mended: &SimDisk) -> Result<usize, String> {
    let now = mended.content(&archive()).ok_or("there is no archive")?;
    if now == found {
        return Ok(0);
    }
    // Behind what stays a mended archive has a footer, and before that a checkpoint if messages were taken over.
    let same = found.iter().zip(now).take_while(|(a, b)| a == b).count();
    if same == found.len() {
        return Ok(0);
    }
    let is_aside = |(name, content): &(String, Vec<u8>)| {
        name.contains(".aside-") && found.ends_with(content) && found.len() - content.len() <= same
    };
    match mended.store().into_iter().find(is_aside) {
        Some((_, content)) => Ok(content.len()),
        None => Err(format!("no aside file holds the {} bytes that were cut at or before {same}", found.len() - same)),
    }
}
