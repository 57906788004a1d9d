//! Our reading of tar and gzip against that of others, the crates tar and flate2 (which inflates with zlib-rs): whatever we
//! accept, they read as the same entries and the same bytes; and what we write, they read as it was meant.
//!
//! Where tar files of others are read in more than one way, the comparison ends, and the reason stands there.
#![no_main]

use cylinder_core::archive::entry::{BLOCK, Entry, EntryKind, EntryReader, Piece, Step};
use cylinder_core::archive::entry::{emit_dir, emit_file, emit_link, padding};
use cylinder_core::archive::member::{CONTINUES, Footer, Kind, RAW_MAX, TO_BE_CONTINUED, seal, unseal};
use cylinder_core::codec::{Codec, Portable, salvage};
use cylinder_core::guid::Guid;
use cylinder_core::time::Time;
use cylinder_fuzz::{Source, seal_member};
use flate2::Compression;
use flate2::read::{DeflateDecoder, MultiGzDecoder};
use flate2::write::DeflateEncoder;
use libfuzzer_sys::fuzz_target;
use std::io::{Read, Write};

/// Offset of the type in a header block.
const TYPE: usize = 156;
/// The most that is inflated of a stream that nobody of ours wrote.
const INFLATED_MAX: usize = 1 << 16;
/// What the crate tar says where it refuses what we take: a number with something before or behind it (we read the first word
/// of the field), and an extension header that comes twice.
const REFUSALS: [&str; 3] = ["numeric field", "two long name entries", "two pax extensions entries"];

/// An entry with its content.
type Whole = (Entry, Vec<u8>);

/// What we read, up to damage.
fn ours(bytes: &[u8]) -> Vec<Whole> {
    let (mut reader, mut all, mut open) = (EntryReader::new(), Vec::new(), None);
    let mut piece = Piece::new(bytes);
    loop {
        match reader.step(&mut piece) {
            Ok(Step::Header(entry, _)) => open = Some((entry, Vec::new())),
            Ok(Step::Content(part)) => open.iter_mut().for_each(|(_, content)| content.extend_from_slice(part)),
            Ok(Step::EndOfEntry) => all.extend(open.take()),
            Ok(Step::Feed) | Err(_) => return all,
        }
    }
}

/// Compares an entry of ours, if there is one, with one of the crate tar. `between` is what stands before its header. False
/// if the two may go apart from here on.
fn compare(own: Option<&Whole>, theirs: &mut tar::Entry<'_, &[u8]>, between: &[u8]) -> bool {
    let kind = theirs.header().as_bytes()[TYPE];
    let is_ambiguous = match kind {
        // Extension headers that are none for the crate tar, because no magic stands there; and pax headers for all entries
        // that follow, which we take for those of the next one.
        b'x' | b'g' | b'L' | b'K' => true,
        // Sparse files, which we do not look into.
        b'S' => true,
        // A link with a size (some old writers) has content behind it for the crate tar, and none for us.
        b'2' => theirs.size() != 0,
        _ => false,
    };
    // We read the prefix in a header of any version of ustar.
    let is_other_ustar = theirs.header().as_ustar().is_none() && theirs.header().as_bytes()[257..].starts_with(b"ustar\0");
    if is_ambiguous || is_other_ustar || !is_plain(between) {
        return false;
    }
    // What we have refused, or have not read to its end.
    let Some((entry, content)) = own else { return false };
    assert_eq!(entry.name, until_nul(&theirs.path_bytes()));
    let link = theirs.link_name_bytes().map(|link| until_nul(&link).to_vec()).unwrap_or_default();
    match &entry.kind {
        EntryKind::File(sha1) => {
            assert!(matches!(kind, b'0' | 0 | b'7'), "{entry:?}");
            let link = theirs.header().link_name_bytes().map(|link| link.to_vec()).unwrap_or_default();
            assert_eq!(*sha1, Guid::from_hex(&link));
        }
        EntryKind::Link(target) => assert_eq!((kind, target), (b'2', &link)),
        EntryKind::Other(other) => assert_eq!(*other, kind),
    }
    assert_eq!(entry.size, theirs.size());
    if let Ok(mtime) = theirs.header().mtime()
        && mtime < 1 << 33
    {
        assert_eq!(entry.mtime, Time::from_secs(mtime as i64));
    }
    let mut other = Vec::new();
    theirs.read_to_end(&mut other).expect("content that we have read");
    assert!(*content == other && content.len() as u64 == entry.size, "{entry:?}");
    true
}

fn until_nul(b: &[u8]) -> &[u8] {
    &b[..b.iter().position(|&c| c == 0).unwrap_or(b.len())]
}

/// True if extension headers say what everybody reads alike: GNU's alone, or one of pax. That one may have no key twice, of
/// which the crate tar takes the first and we the last, and no line end or NUL in a value.
fn is_plain(mut between: &[u8]) -> bool {
    let mut kinds = Vec::new();
    while between.len() >= BLOCK {
        let header = tar::Header::from_byte_slice(&between[..BLOCK]);
        let Ok(size) = header.entry_size() else { return false };
        let (kind, end) = (between[TYPE], BLOCK + size as usize);
        let body = between.get(BLOCK..end).unwrap_or_default();
        kinds.push(kind);
        if kind == b'x' {
            let mut keys = Vec::new();
            for extension in tar::PaxExtensions::new(body) {
                let Ok(extension) = extension else { return false };
                if extension.value_bytes().contains(&0) {
                    return false;
                }
                keys.push(extension.key_bytes());
            }
            let count = keys.len();
            keys.sort();
            keys.dedup();
            if keys.len() < count {
                return false;
            }
        }
        between = between.get(end + padding(size)..).unwrap_or_default();
    }
    kinds == [b'x'] || kinds.iter().all(|kind| matches!(kind, b'L' | b'K'))
}

/// Reads with both. With `to_the_end` both must read everything.
fn read_both(bytes: &[u8], to_the_end: bool) {
    let own = ours(bytes);
    let mut archive = tar::Archive::new(bytes);
    let (mut count, mut end) = (0, 0);
    for entry in archive.entries().expect("a reader at its beginning") {
        let mut entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let told = error.to_string();
                // What is behind our last entry we have refused, too, or wait for more of it.
                let is_known = own.get(count).is_none_or(|(entry, _)| {
                    entry.kind == EntryKind::Other(b'S') || REFUSALS.iter().any(|refusal| told.contains(refusal))
                });
                assert!(is_known && !to_the_end, "{told}, and we read {:?}", own.get(count));
                return;
            }
        };
        let between = &bytes[end..entry.raw_header_position() as usize];
        end = (entry.raw_file_position() + entry.size() + padding(entry.size()) as u64).min(bytes.len() as u64) as usize;
        if !compare(own.get(count), &mut entry, between) {
            assert!(!to_the_end);
            return;
        }
        count += 1;
    }
    assert_eq!(count, own.len(), "entries that only we see: {:?}", own[count..].first());
}

/// Entries as the input wants them.
fn written(source: &mut Source<'_>) -> (Vec<u8>, Vec<Whole>) {
    let (mut bytes, mut all) = (Vec::new(), Vec::new());
    for _ in 0..source.byte() % 6 {
        let form = source.byte();
        let long = if form & 0x40 != 0 { 1 + usize::from(source.byte() % 16) } else { 1 };
        let mut name = || -> Vec<u8> {
            let name: Vec<u8> = source.piece().iter().copied().filter(|b| !matches!(b, 0 | b'\n')).collect();
            name.repeat(long)
        };
        let (name, target) = (name(), name());
        let mtime = Time::from_secs(source.n24() as i64 * 500);
        let content = if form % 4 < 2 { source.piece().repeat(long) } else { Vec::new() };
        let kind = match form % 4 {
            // That something is gone, if there is no content.
            0 => EntryKind::File(None),
            1 => EntryKind::File(Some(Guid::of(&content))),
            2 => EntryKind::Link(target),
            _ => EntryKind::Other(b'5'),
        };
        let size = content.len() as u64;
        match &kind {
            EntryKind::File(sha1) => emit_file(&mut bytes, &name, size, mtime, *sha1),
            EntryKind::Link(target) => emit_link(&mut bytes, &name, target, mtime),
            EntryKind::Other(_) => emit_dir(&mut bytes, &name, mtime),
        }
        bytes.extend_from_slice(&content);
        bytes.resize(bytes.len() + padding(size), 0);
        let name = if form % 4 == 3 { [&name[..], b"/"].concat() } else { name };
        all.push((Entry { name, kind, size, mtime }, content));
    }
    (bytes, all)
}

/// Members of these bytes, cut as the input wants; both read them back, also with everything behind one another.
fn through_members(source: &mut Source<'_>, bytes: &[u8]) {
    let (mut file, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let (raw, tail) = rest.split_at((1 + 40 * usize::from(source.byte())).min(rest.len()));
        let flags = if rest.len() < bytes.len() { CONTINUES } else { 0 } | if tail.is_empty() { 0 } else { TO_BE_CONTINUED };
        let (mut member, mut back) = (Vec::new(), Vec::new());
        seal(&mut Portable, Kind::Data, flags, raw, source.byte() % 11, None, &mut member).expect("less than the limit");
        unseal(&mut Portable, &member, &mut back).expect("a member that was just sealed");
        assert_eq!(back, raw);
        assert_eq!(gunzipped(&member).as_deref(), Ok(raw));
        file.extend_from_slice(&member);
        rest = if source.is_empty() { &[] } else { tail };
    }
    let read = bytes.len() - rest.len();
    let footer = Footer { offset: file.len() as u64, commit_offset: 0, commit_len: 0, commit_sha1: Guid::NULL };
    file.extend_from_slice(&footer.emit());
    let all = gunzipped(&file).expect("members that were just sealed");
    assert!(bytes.starts_with(&all[..all.len() - 2 * BLOCK]) && all.len() - 2 * BLOCK <= read);
    assert_eq!(all[all.len() - 2 * BLOCK..], [0; 2 * BLOCK]);
}

fn gunzipped(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut raw = Vec::new();
    MultiGzDecoder::new(bytes).take(4 * RAW_MAX as u64).read_to_end(&mut raw).map_err(|error| error.to_string())?;
    Ok(raw)
}

/// A member, with its CRCs made right, and a deflate stream, of any bytes; and the bytes deflated by the other.
fn inflate_both(data: &[u8]) {
    let mut member = data.to_vec();
    seal_member(&mut member);
    let mut raw = Vec::new();
    if unseal(&mut Portable, &member, &mut raw).is_ok() {
        assert_eq!(gunzipped(&member), Ok(raw));
    }
    let own = salvage(data, INFLATED_MAX);
    let mut other = Vec::new();
    let mut decoder = DeflateDecoder::new(data);
    let read = decoder.by_ref().take(INFLATED_MAX as u64 + 1).read_to_end(&mut other);
    let is_whole = read.is_ok() && other.len() <= INFLATED_MAX;
    assert_eq!(own.used.is_some(), is_whole, "{:?}, {read:?}", own.used);
    if let Some(used) = own.used {
        assert_eq!((own.raw, used as u64), (other, decoder.total_in()));
    }
    let level = Compression::new(u32::from(data.first().copied().unwrap_or(0) % 10));
    let mut encoder = DeflateEncoder::new(Vec::new(), level);
    encoder.write_all(data).expect("a buffer takes everything");
    let deflated = encoder.finish().expect("a buffer takes everything");
    let mut back = vec![0; data.len()];
    assert_eq!(Portable.inflate(&deflated, &mut back), Some(deflated.len()));
    assert_eq!(back, data);
}

/// Makes the checksum of every block right that looks like a header.
fn seal_headers(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(BLOCK).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

fuzz_target!(|data: &[u8]| {
    let mut source = Source(data);
    let mut bytes = match source.byte() % 4 {
        0 => return inflate_both(source.0),
        1 => source.take(source.0.len()).to_vec(),
        _ => {
            let (bytes, all) = written(&mut source);
            assert_eq!(ours(&bytes), all);
            read_both(&bytes, true);
            through_members(&mut source, &bytes);
            bytes
        }
    };
    while !source.is_empty() && !bytes.is_empty() {
        let at = source.n24() % bytes.len();
        for (to, from) in bytes[at..].iter_mut().zip(source.piece()) {
            *to = *from;
        }
    }
    read_both(&bytes, false);
    seal_headers(&mut bytes);
    read_both(&bytes, false);
});
