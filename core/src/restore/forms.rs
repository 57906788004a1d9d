//! Messages in the forms of other mail stores: Maildir (names, LF line ends) and mbox (`From ` lines, quoting, `Status`).
//!
//! What must not come in: files.

use super::fields::{field, header_len};
use super::select::Message;
use crate::cyrus::index::{Record, flag};
use crate::guid::Guid;
use crate::time::{Civil, Time};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// The most bytes of a message that are held to find the end of its header. What comes behind is taken for its body.
pub const HEADER_MAX: usize = 256 << 10;
/// The most `>` in front of `From ` that are looked behind.
const QUOTES_MAX: usize = 1000;

/// The name of a message file in a Maildir: the same message at the same place has the same name in every run. The letters
/// behind `:2,` are `D`raft, `F`lagged, `R`eplied, `S`een and `T`rashed.
pub fn maildir_name(date: Time, uid: u32, guid: &Guid, system_flags: u32) -> String {
    let letters = [(flag::DRAFT, 'D'), (flag::FLAGGED, 'F'), (flag::ANSWERED, 'R'), (flag::SEEN, 'S'), (flag::DELETED, 'T')];
    let set: String = letters.iter().filter(|(bit, _)| system_flags & bit != 0).map(|(_, letter)| letter).collect();
    format!("{}.U{uid}G{guid}.cylinder:2,{set}", date.secs())
}

/// CRLF to LF, in pieces. A CR that no LF follows stays.
#[derive(Default)]
pub struct Lf {
    cr: bool,
}

impl Lf {
    /// Appends what `piece` becomes to `out`; a CR at its end waits for the next one.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        for line in piece.split_inclusive(|&b| b == b'\n') {
            if self.cr && line != b"\n" {
                out.push(b'\r');
            }
            self.cr = false;
            if let Some(text) = line.strip_suffix(b"\r\n") {
                out.extend_from_slice(text);
                out.push(b'\n');
            } else if let Some(text) = line.strip_suffix(b"\r") {
                out.extend_from_slice(text);
                self.cr = true;
            } else {
                out.extend_from_slice(line);
            }
        }
    }

    /// Appends what still waits.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        if core::mem::take(&mut self.cr) {
            out.push(b'\r');
        }
    }
}

/// Fields that an mbox reader keeps its own state in: those of the message would be taken for it.
const STATE_FIELDS: [&str; 7] = ["Status", "X-Status", "X-Keywords", "X-UID", "X-IMAP", "X-IMAPbase", "Content-Length"];

/// One message of an mbox (the variant `mboxrd`), in pieces.
pub struct Mbox {
    lf: Lf,
    /// The header as far as it is known, or the beginning of a line that may be `From `.
    held: Vec<u8>,
    in_body: bool,
    at_line_start: bool,
    date: Time,
    state: String,
    raw: Vec<u8>,
}

impl Mbox {
    /// The message `m`, of which no byte is known yet.
    pub fn new(m: &Message) -> Mbox {
        let state = state_fields(&m.row.record, &m.row.flags);
        let date = m.row.record.internaldate;
        Mbox { lf: Lf::default(), held: Vec::new(), in_body: false, at_line_start: true, date, state, raw: Vec::new() }
    }

    /// Appends what the next bytes of the message become to `out`.
    pub fn feed(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let mut raw = core::mem::take(&mut self.raw);
        raw.clear();
        self.lf.feed(piece, &mut raw);
        self.take(&raw, out);
        self.raw = raw;
    }

    /// Appends what is left, and the empty line that ends a message.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        let mut rest = Vec::new();
        self.lf.finish(&mut rest);
        self.take(&rest, out);
        if !self.in_body {
            self.begin_body(out);
        }
        out.append(&mut self.held);
        out.extend_from_slice(if self.at_line_start && out.ends_with(b"\n") { b"\n" } else { b"\n\n" });
    }

    fn take(&mut self, text: &[u8], out: &mut Vec<u8>) {
        if self.in_body {
            return self.body(text, out);
        }
        self.held.extend_from_slice(text);
        let ends = self.held.starts_with(b"\n") || self.held.windows(2).any(|w| w == b"\n\n");
        if ends || self.held.len() > HEADER_MAX {
            self.begin_body(out);
        }
    }

    /// Writes the `From ` line and the header, and goes on with what was held of the body.
    fn begin_body(&mut self, out: &mut Vec<u8>) {
        let held = core::mem::take(&mut self.held);
        let header = &held[..header_len(&held)];
        out.extend_from_slice(from_line(header, self.date).as_bytes());
        let fields = header.strip_suffix(b"\n").filter(|rest| rest.is_empty() || rest.ends_with(b"\n")).unwrap_or(header);
        let mut dropped = false;
        for line in fields.split_inclusive(|&b| b == b'\n') {
            let goes_on = matches!(line.first(), Some(b' ' | b'\t'));
            dropped = if goes_on { dropped } else { STATE_FIELDS.iter().any(|name| field(line, name).is_some()) };
            if !dropped {
                self.line(line, out);
            }
        }
        if !out.ends_with(b"\n") {
            out.push(b'\n');
        }
        out.extend_from_slice(self.state.as_bytes());
        out.push(b'\n');
        self.in_body = true;
        self.at_line_start = true;
        self.body(&held[header.len()..], out);
    }

    /// A header line; one that begins as a new message would is quoted.
    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        if is_from(line) {
            out.push(b'>');
        }
        out.extend_from_slice(line);
    }

    fn body(&mut self, text: &[u8], out: &mut Vec<u8>) {
        for line in text.split_inclusive(|&b| b == b'\n') {
            if self.at_line_start || !self.held.is_empty() {
                self.held.extend_from_slice(line);
                if may_become_from(&self.held) {
                    self.at_line_start = false;
                    continue;
                }
                if is_from(&self.held) {
                    out.push(b'>');
                }
                out.append(&mut self.held);
            } else {
                out.extend_from_slice(line);
            }
            self.at_line_start = line.ends_with(b"\n");
        }
    }
}

/// True for `From ` behind any number of `>`.
fn is_from(line: &[u8]) -> bool {
    let quotes = line.iter().take_while(|&&b| b == b'>').count();
    line[quotes..].starts_with(b"From ")
}

/// True if more bytes may make it a line that [`is_from`] is true of.
fn may_become_from(start: &[u8]) -> bool {
    let quotes = start.iter().take_while(|&&b| b == b'>').count();
    let rest = &start[quotes..];
    quotes < QUOTES_MAX && rest.len() < b"From ".len() && b"From ".starts_with(rest)
}

/// `From sender date`, with the date of asctime(3) in UTC.
fn from_line(header: &[u8], date: Time) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let path = field(header, "Return-Path").unwrap_or_default();
    let path = super::fields::bare_id(&path);
    let is_plain = !path.is_empty() && path.iter().all(u8::is_ascii_graphic);
    let sender = if is_plain { String::from_utf8_lossy(path).into_owned() } else { String::from("MAILER-DAEMON") };
    let Civil { year, month, day, hour, minute, second } = Civil::from_time(date);
    let weekday = DAYS[date.secs().div_euclid(86_400).rem_euclid(7) as usize];
    let month = MONTHS[(month as usize - 1) % 12];
    format!("From {sender} {weekday} {month} {day:2} {hour:02}:{minute:02}:{second:02} {year:04}\n")
}

/// The fields that tell flags and keywords to readers of mboxes.
fn state_fields(record: &Record, flags: &[Vec<u8>]) -> String {
    let mut state = format!("Status: {}O\n", if record.is_seen() { "R" } else { "" });
    let letters = [(flag::ANSWERED, 'A'), (flag::FLAGGED, 'F'), (flag::DRAFT, 'T'), (flag::DELETED, 'D')];
    let set: String = letters.iter().filter(|(bit, _)| record.system_flags & bit != 0).map(|(_, letter)| letter).collect();
    if !set.is_empty() {
        state.push_str(&format!("X-Status: {set}\n"));
    }
    let keywords = flags.iter().filter(|name| name[..].iter().all(|&b| b.is_ascii_graphic() && b != b'\\'));
    let keywords: Vec<_> = keywords.map(|name| String::from_utf8_lossy(name)).collect();
    if !keywords.is_empty() {
        state.push_str(&format!("X-Keywords: {}\n", keywords.join(" ")));
    }
    state.push_str(&format!("X-UID: {}\n", record.uid));
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cyrus::index::Uid;
    use crate::restore::select::Body;
    use crate::view::MessageRow;

    fn message(system_flags: u32, flags: &[&str]) -> Message {
        let record = Record { uid: Uid(7), system_flags, internaldate: Time::from_secs(1_795_510_861), ..Record::default() };
        let flags = flags.iter().map(|name| name.as_bytes().to_vec()).collect();
        let row = MessageRow { record, guid: Guid::NULL, is_expunged: false, is_unlinked: false, flags };
        Message { row, annotations: Vec::new(), body: Body::NotStored }
    }

    /// The same whatever the pieces are.
    fn mbox(m: &Message, text: &[u8]) -> String {
        let made = |size: usize| {
            let (mut out, mut mbox) = (Vec::new(), Mbox::new(m));
            text.chunks(size).for_each(|piece| mbox.feed(piece, &mut out));
            mbox.finish(&mut out);
            String::from_utf8(out).expect("ASCII")
        };
        let whole = made(text.len().max(1));
        for size in 1..text.len().min(40) {
            assert_eq!(made(size), whole, "pieces of {size}");
        }
        whole
    }

    #[test]
    fn line_ends_become_lf_whatever_the_pieces_are() {
        let text = b"a\r\nb\rc\n\r\n\r\r\nd\r";
        for size in 1..=text.len() {
            let (mut lf, mut out) = (Lf::default(), Vec::new());
            text.chunks(size).for_each(|piece| lf.feed(piece, &mut out));
            lf.finish(&mut out);
            assert_eq!(out, b"a\nb\rc\n\n\r\nd\r", "pieces of {size}");
        }
    }

    #[test]
    fn an_mbox_message_has_its_flags_and_no_line_that_begins_another() {
        let m = message(flag::SEEN | flag::FLAGGED | flag::DRAFT, &["\\Seen", "$Label1", "x y"]);
        let text = b"Return-Path: <a@b>\r\nStatus: U\r\n more\r\nTo: x\r\n\r\nFrom me\r\n>From you\r\n>Fro\r\nend";
        let expected = "From a@b Tue Nov 24 09:01:01 2026\nReturn-Path: <a@b>\nTo: x\nStatus: RO\nX-Status: FT\n\
                        X-Keywords: $Label1\nX-UID: 7\n\n>From me\n>>From you\n>Fro\nend\n\n";
        assert_eq!(mbox(&m, text), expected);
    }

    #[test]
    fn an_mbox_takes_messages_without_header_or_body() {
        let head = "From MAILER-DAEMON Tue Nov 24 09:01:01 2026\n";
        let m = message(0, &[]);
        assert_eq!(mbox(&m, b""), alloc::format!("{head}Status: O\nX-UID: 7\n\n\n"));
        assert_eq!(mbox(&m, b"A: b\r\n"), alloc::format!("{head}A: b\nStatus: O\nX-UID: 7\n\n\n"));
        assert_eq!(mbox(&m, b"\r\nFrom x\r\n"), alloc::format!("{head}Status: O\nX-UID: 7\n\n>From x\n\n"));
        assert_eq!(
            mbox(&m, b"From x\r\nA: b\r\n\r\nc\r\n"),
            alloc::format!("{head}>From x\nA: b\nStatus: O\nX-UID: 7\n\nc\n\n")
        );
    }

    #[test]
    fn a_maildir_name_has_its_letters_in_order() {
        let all = flag::SEEN | flag::ANSWERED | flag::FLAGGED | flag::DRAFT | flag::DELETED;
        let name = maildir_name(Time::from_secs(5), 7, &Guid::NULL, all);
        assert_eq!(name, "5.U7G0000000000000000000000000000000000000000.cylinder:2,DFRST");
        assert!(maildir_name(Time::from_secs(5), 7, &Guid::NULL, 0).ends_with(":2,"));
    }
}
