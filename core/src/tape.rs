//! A run as text: what a machine asked for, and what it was answered, so that it can be run again without the world.
//!
//! Two kinds of lines: `>` and an operation, short, for comparing and for reading; `<` and an input, whole, for running again.
//! Bytes are percent-encoded, so that mail and protocol lines can be read as they stand. What must not come in: files, and
//! which machine it is.

use crate::archive::member::{Kind, MemberInfo};
use crate::error::{Damage, Fault, FsType};
use crate::escape::{percent, shown, unpercent};
use crate::guid::Guid;
use crate::io::{Attributes, DirEntry, FileId, FileKind, Input, Op, OpId, Place, Reply, Root, Stat, StreamId};
use crate::lines::{Line, Words, parse_number, parse_time};
use crate::time::{Span, Time};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// Bytes of data that an operation's line shows as they are; more are shown by length and SHA-1.
const SHOWN_MAX: usize = 4096;
const OBJECT: &str = "recording";

fn place(place: &Place) -> String {
    let root = match place.root {
        Root::Host => "host:",
        Root::Store => "store:",
        Root::Target => "target:",
    };
    format!("{root}{}", percent(&place.path, b""))
}

fn data(bytes: &[u8]) -> String {
    if bytes.len() <= SHOWN_MAX { percent(bytes, b"") } else { format!("{}:{}", bytes.len(), Guid::of(bytes)) }
}

fn given(attributes: &Attributes) -> String {
    let mut text = format!("{:o}", attributes.mode);
    if let Some((uid, gid)) = attributes.owner {
        text.push_str(&format!(",{uid},{gid}"));
    }
    if let Some(mtime) = attributes.mtime {
        text.push_str(&format!(",{mtime}"));
    }
    text
}

/// The line of an operation, without its end.
pub fn operation(id: OpId, op: &Op) -> String {
    let text = match op {
        Op::Stat(at) => format!("stat {}", place(at)),
        Op::StatMany(places) => {
            let mut text = String::from("stat-many");
            places.iter().for_each(|at| text.push_str(&format!(" {}", place(at))));
            text
        }
        Op::List { dir, max } => format!("list {} {max}", place(dir)),
        Op::ReadLink(at) => format!("read-link {}", place(at)),
        Op::Open { place: at, how } => format!("open {} {how:?}", place(at)),
        Op::Scratch => String::from("scratch"),
        Op::FStat(file) => format!("fstat {}", file.0),
        Op::ReadAt { file, offset, len, .. } => format!("read {} {offset} {len}", file.0),
        Op::ReadWhole { place: at, max, .. } => format!("read-whole {} {max}", place(at)),
        Op::WriteAt { file, offset, data: bytes } => format!("write {} {offset} {}", file.0, data(bytes)),
        Op::Truncate { file, len } => format!("truncate {} {len}", file.0),
        Op::Sync(file) => format!("sync {}", file.0),
        Op::SyncDir(at) => format!("sync-dir {}", place(at)),
        Op::MakeDir(at) => format!("make-dir {}", place(at)),
        Op::Rename { from, to } => format!("rename {} {}", place(from), place(to)),
        Op::Unlink(at) => format!("unlink {}", place(at)),
        Op::RemoveDir(at) => format!("remove-dir {}", place(at)),
        Op::Put { place: at, data: bytes, attributes } => format!("put {} {} {}", place(at), given(attributes), data(bytes)),
        Op::PutDir { place: at, attributes } => format!("put-dir {} {}", place(at), given(attributes)),
        Op::PutLink { place: at, to, .. } => format!("put-link {} {}", place(at), percent(to, b"")),
        Op::Link { from, to } => format!("link {} {}", place(from), place(to)),
        Op::Attribute { file, attributes } => format!("attribute {} {}", file.0, given(attributes)),
        Op::Close(file) => format!("close {}", file.0),
        Op::Lock { file, mode } => format!("lock {} {mode:?}", file.0),
        Op::Unlock(file) => format!("unlock {}", file.0),
        Op::Holder { file, mode } => format!("holder {} {mode:?}", file.0),
        Op::Clock => String::from("clock"),
        Op::Seal { kind, flags, raw, level, check, .. } => {
            format!("seal {} {flags} {level} {check} {}:{}", char::from(kind.letter()), raw.len(), Guid::of(raw))
        }
        Op::Unseal { member, .. } => format!("unseal {}:{}", member.len(), Guid::of(member)),
        Op::Connect(peer) => format!("connect {}", percent(peer.as_bytes(), b"")),
        Op::Send { stream, data: bytes } => format!("send {} {}", stream.0, data(bytes)),
        Op::Receive { stream, max, .. } => format!("receive {} {max}", stream.0),
        Op::Secure(stream) => format!("secure {}", stream.0),
        Op::Complaint(stream) => format!("complaint {}", stream.0),
        Op::Shut(stream) => format!("shut {}", stream.0),
    };
    format!("> {} {text}", id.0)
}

/// Faults that have a word; [`Fault::Os`] has a number.
const FAULTS: [(&str, Fault); 14] = [
    ("not-found", Fault::NotFound),
    ("exists", Fault::Exists),
    ("busy", Fault::Busy),
    ("denied", Fault::Denied),
    ("read-only", Fault::ReadOnly),
    ("no-space", Fault::NoSpace),
    ("quota", Fault::Quota),
    ("dangling", Fault::Dangling),
    ("owner", Fault::Owner),
    ("wrong-kind", Fault::WrongKind),
    ("too-large", Fault::TooLarge),
    ("gone", Fault::Gone),
    ("corrupt", Fault::Corrupt),
    ("driver", Fault::Driver),
];

fn fault_word(fault: Fault) -> String {
    match fault {
        Fault::Os(n) => format!("os:{n}"),
        Fault::NoLocks(FsType(n)) => format!("no-locks:{n}"),
        Fault::NoDirSync(FsType(n)) => format!("no-dir-sync:{n}"),
        other => String::from(FAULTS.iter().find(|(_, fault)| *fault == other).map_or("driver", |(word, _)| word)),
    }
}

fn parse_fault(word: &[u8]) -> Option<Fault> {
    if let Some(number) = word.strip_prefix(b"os:") {
        return parse_number(number).map(Fault::Os);
    }
    if let Some(number) = word.strip_prefix(b"no-locks:") {
        return parse_number(number).map(|n| Fault::NoLocks(FsType(n)));
    }
    if let Some(number) = word.strip_prefix(b"no-dir-sync:") {
        return parse_number(number).map(|n| Fault::NoDirSync(FsType(n)));
    }
    FAULTS.iter().find(|(name, _)| name.as_bytes() == word).map(|(_, fault)| *fault)
}

const KINDS: [(&str, FileKind); 4] =
    [("regular", FileKind::Regular), ("directory", FileKind::Directory), ("link", FileKind::Link), ("other", FileKind::Other)];

fn kind_word(kind: FileKind) -> &'static str {
    KINDS.iter().find(|(_, k)| *k == kind).map_or("other", |(word, _)| word)
}

fn parse_kind(word: &[u8]) -> FileKind {
    KINDS.iter().find(|(name, _)| name.as_bytes() == word).map_or(FileKind::Other, |(_, kind)| *kind)
}

fn stat_word(s: &Stat) -> String {
    let Stat { kind, dev, ino, size, mtime, ctime, nlink, mode, uid, gid } = s;
    format!("{},{dev},{ino},{size},{mtime},{ctime},{nlink},{mode},{uid},{gid}", kind_word(*kind))
}

fn parse_stat(word: &[u8]) -> Option<Stat> {
    let mut parts = word.split(|&b| b == b',');
    let kind = parse_kind(parts.next()?);
    let (dev, ino, size) = (parse_number(parts.next()?)?, parse_number(parts.next()?)?, parse_number(parts.next()?)?);
    let (mtime, ctime) = (parse_time(parts.next()?)?, parse_time(parts.next()?)?);
    let (nlink, mode) = (parse_number(parts.next()?)?, parse_number(parts.next()?)?);
    let (uid, gid) = (parse_number(parts.next()?)?, parse_number(parts.next()?)?);
    Some(Stat { kind, dev, ino, size, mtime, ctime, nlink, mode, uid, gid })
}

/// Adds the line of an input, which came at `now`. Without `bodies`, bytes from files and streams are given by their length
/// alone: such a recording can be read, and cannot be run again.
pub fn input(out: &mut String, now: Time, input: &Input, bodies: bool) {
    let mut line = Line::new(out, "<");
    line.show("at", now);
    let bytes = |line: &mut Line<'_>, key: &str, b: &[u8]| {
        if bodies { line.text(key, b) } else { line.show("omitted", b.len()) }
    };
    let (id, result) = match input {
        Input::Tick => return line.show("tick", 1),
        Input::Stop => return line.show("stop", 1),
        Input::Done(id, result) => (id, result),
    };
    line.show("id", id.0);
    match result {
        Err(fault) => line.show("fault", fault_word(*fault)),
        Ok(Reply::Unit) => line.show("unit", 1),
        Ok(Reply::Stat(stat)) => line.show("stat", stat_word(stat)),
        Ok(Reply::Stats(stats)) => {
            line.show("stats", stats.len());
            for stat in stats {
                line.show("stat", stat.as_ref().map_or_else(|fault| fault_word(*fault), stat_word));
            }
        }
        Ok(Reply::Names(names)) => {
            line.show("names", names.len());
            for DirEntry { name, kind } in names {
                line.show(kind_word(*kind), percent(name, b""));
            }
        }
        Ok(Reply::Bytes(b)) => bytes(&mut line, "bytes", b),
        Ok(Reply::Whole(b, stat)) => {
            line.show("whole", stat_word(stat));
            bytes(&mut line, "bytes", b);
        }
        Ok(Reply::File(file)) => line.show("file", file.0),
        Ok(Reply::Holder(holder)) => {
            line.show("holder", u8::from(holder.is_some()));
            line.text("who", holder.as_deref().unwrap_or_default().as_bytes());
        }
        Ok(Reply::Clock(time, tick)) => {
            line.show("clock", time);
            line.show("tick", tick.0);
        }
        Ok(Reply::Sealed { member, .. }) => bytes(&mut line, "sealed", member),
        Ok(Reply::Unsealed { info, raw, .. }) => {
            line.show("kind", char::from(info.kind.letter()));
            line.show("flags", info.flags);
            line.show("len", info.len);
            line.show("raw-len", info.raw_len);
            line.show("crc", info.deflated_crc);
            bytes(&mut line, "unsealed", raw);
        }
        Ok(Reply::Stream(stream)) => line.show("stream", stream.0),
        Ok(Reply::Complaint(text)) => {
            line.show("complaint", u8::from(text.is_some()));
            line.text("text", text.as_deref().unwrap_or_default().as_bytes());
        }
    }
}

/// Reads a line of [`input`]: when it came, and what it was.
pub fn parse_input(line: &[u8]) -> Result<(Time, Input), Damage> {
    let words = Words::of(OBJECT, 0, line);
    let now = words.time("at")?;
    if words.get("omitted").is_some() {
        let found = "a recording without bodies";
        return Err(Damage::new(OBJECT, 0, "line", found, "one that was made with them, to run it again"));
    }
    if words.get("id").is_none() {
        return Ok((now, if words.get("stop").is_some() { Input::Stop } else { Input::Tick }));
    }
    let id = OpId(words.number("id")?);
    let result = match words.get("fault") {
        Some(word) => Err(parse_fault(word).ok_or_else(|| words.damage("fault", &shown(word), "a fault"))?),
        None => Ok(parse_reply(&words)?),
    };
    Ok((now, Input::Done(id, result)))
}

fn parse_reply(words: &Words<'_>) -> Result<Reply, Damage> {
    let stat = |word: &[u8]| parse_stat(word).ok_or_else(|| words.damage("stat", &shown(word), "ten fields"));
    let has = |key| words.get(key).is_some();
    if has("unit") {
        return Ok(Reply::Unit);
    }
    if has("stats") {
        let values = all(words.rest).filter(|(key, _)| *key == b"stat").map(|(_, value)| match parse_fault(value) {
            Some(fault) => Ok(Err(fault)),
            None => stat(value).map(Ok),
        });
        return values.collect::<Result<Vec<_>, Damage>>().map(Reply::Stats);
    }
    if has("names") {
        let entries = all(words.rest).filter(|(key, _)| KINDS.iter().any(|(kind, _)| kind.as_bytes() == *key));
        let entry =
            |(kind, name): (&[u8], &[u8])| DirEntry { name: unpercent(name).unwrap_or_default(), kind: parse_kind(kind) };
        return Ok(Reply::Names(entries.map(entry).collect()));
    }
    if has("whole") {
        return Ok(Reply::Whole(words.bytes("bytes")?, stat(words.need("whole")?)?));
    }
    if has("holder") {
        let who = words.string("who")?;
        return Ok(Reply::Holder((words.get("holder") == Some(b"1")).then_some(who)));
    }
    if has("clock") {
        return Ok(Reply::Clock(words.time("clock")?, Span(words.number("tick")?)));
    }
    if has("sealed") {
        return Ok(Reply::Sealed { member: words.bytes("sealed")?, raw: Vec::new() });
    }
    if has("unsealed") {
        let kind = words.need("kind")?;
        let kind = kind.first().and_then(|&letter| Kind::from_letter(letter));
        let kind = kind.ok_or_else(|| words.damage("kind", "another", "the letter of a member's kind"))?;
        let info = MemberInfo {
            kind,
            flags: words.number("flags")?,
            len: words.number("len")?,
            raw_len: words.number("raw-len")?,
            deflated_crc: words.number("crc")?,
        };
        return Ok(Reply::Unsealed { info, raw: words.bytes("unsealed")?, member: Vec::new() });
    }
    if has("complaint") {
        let text = words.string("text")?;
        return Ok(Reply::Complaint((words.get("complaint") == Some(b"1")).then_some(text)));
    }
    if has("stat") {
        return Ok(Reply::Stat(stat(words.need("stat")?)?));
    }
    if has("file") {
        return Ok(Reply::File(FileId(words.number("file")?)));
    }
    if has("stream") {
        return Ok(Reply::Stream(StreamId(words.number("stream")?)));
    }
    words.bytes("bytes").map(Reply::Bytes)
}

/// All words of a line.
fn all(rest: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    rest.split(|&b| b == b' ').filter_map(|word| {
        let at = word.iter().position(|&b| b == b'=')?;
        Some((&word[..at], &word[at + 1..]))
    })
}

/// What is different between an operation and the recorded one, worded for a person.
pub fn difference(number: u64, found: &str, recorded: Option<&str>) -> String {
    let recorded = recorded.map_or_else(|| String::from("nothing more"), ToString::to_string);
    format!("line {number}: found `{found}`, the recording has `{recorded}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_comes_back() {
        let stat = Stat {
            kind: FileKind::Regular,
            dev: 1,
            ino: u64::MAX,
            size: 3,
            mtime: Time(-5),
            ctime: Time(1_795_456_802_123_500_000),
            nlink: 1,
            mode: 0o600,
            uid: 8,
            gid: 9,
        };
        let name = |name: &[u8], kind| DirEntry { name: name.to_vec(), kind };
        let replies = [
            Reply::Unit,
            Reply::Stat(stat),
            Reply::Stats(alloc::vec![Ok(stat), Err(Fault::NotFound), Err(Fault::Os(-7))]),
            Reply::Stats(Vec::new()),
            Reply::Names(alloc::vec![name(b"a b", FileKind::Link), name(b"\xff=", FileKind::Directory)]),
            Reply::Bytes(b"From: <a@b>\r\n\0\xff".to_vec()),
            Reply::Bytes(Vec::new()),
            Reply::Whole(b"x = y".to_vec(), stat),
            Reply::File(FileId(7)),
            Reply::Holder(None),
            Reply::Holder(Some(String::from("process 1 (imapd)"))),
            Reply::Clock(Time(5), Span(4_000_000)),
            Reply::Sealed { member: b"\x1f\x8b".to_vec(), raw: Vec::new() },
            Reply::Stream(StreamId(1)),
            Reply::Complaint(None),
            Reply::Complaint(Some(String::from("Permission denied."))),
        ];
        let faults = FAULTS.iter().map(|(_, fault)| Err(*fault)).chain([
            Err(Fault::Os(28)),
            Err(Fault::NoLocks(FsType(7))),
            Err(Fault::NoDirSync(FsType(8))),
        ]);
        for result in replies.into_iter().map(Ok).chain(faults) {
            let mut line = String::new();
            input(&mut line, Time(9), &Input::Done(OpId(3), result.clone()), true);
            let (now, parsed) = parse_input(line.trim_end().as_bytes()).expect("a line that was written");
            let Input::Done(OpId(3), back) = parsed else { panic!("{line}") };
            assert_eq!((now, back), (Time(9), result), "{line}");
        }
        for sign in [Input::Tick, Input::Stop] {
            let mut line = String::new();
            input(&mut line, Time(9), &sign, true);
            let (_, parsed) = parse_input(line.trim_end().as_bytes()).expect("a line that was written");
            assert_eq!(format!("{parsed:?}"), format!("{sign:?}"));
        }
    }

    #[test]
    fn a_recording_without_bodies_says_so() {
        let mut line = String::new();
        input(&mut line, Time(9), &Input::Done(OpId(3), Ok(Reply::Bytes(b"secret".to_vec()))), false);
        assert!(!line.contains("secret") && line.contains("omitted=6"), "{line}");
        assert!(parse_input(line.trim_end().as_bytes()).is_err());
    }
}
