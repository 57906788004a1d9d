//! The headers of messages in an archive: what people want to see of them, and whether a text is in them.
//!
//! Of a message that is large no more is inflated than is needed. What must not come in: which messages, and printing.

use cylinder_core::archive::read::{Reader, TopSink};
use cylinder_core::archive::record::MessageAt;
use cylinder_core::error::Error;
use mail_parser::{HeaderName, MessageParser};

/// Bytes of a message that are looked at for its header, and how many if that does not end there.
const TOP: usize = 16 << 10;
const TOP_MAX: usize = 256 << 10;

/// What people want to see of a message.
#[derive(Clone, Default)]
pub struct Top {
    /// Subject, decoded.
    pub subject: String,
    /// The first sender, decoded.
    pub from: String,
    /// Why there is nothing to be seen.
    pub error: Option<String>,
}

impl Top {
    /// What a header says.
    pub fn of(header: Result<&[u8], Error>) -> Top {
        match header {
            Ok(bytes) => parse(bytes),
            Err(error) => Top { error: Some(error.to_string()), ..Top::default() },
        }
    }
}

/// Gives the header of each of these messages to `each`, in the order of the archive; `ahead` members may be under way to being
/// inflated. A header that does not end within 256 KiB is given as far as that.
pub async fn read(reader: &Reader, mut wanted: Vec<MessageAt>, ahead: usize, each: &mut TopSink<'_>) -> Result<(), Error> {
    for max in [TOP, TOP_MAX] {
        let mut cut = Vec::new();
        let mut take = |m: &MessageAt, bytes: Result<&[u8], Error>| {
            if max < TOP_MAX && bytes.as_ref().is_ok_and(|bytes| bytes.len() == max && !has_end_of_header(bytes)) {
                cut.push(*m);
            } else {
                each(m, bytes);
            }
        };
        reader.tops(&mut wanted, max, ahead, &mut take).await?;
        wanted = cut;
    }
    Ok(())
}

/// True if the empty line that ends a header is in it.
fn has_end_of_header(bytes: &[u8]) -> bool {
    bytes.windows(3).any(|w| w == b"\n\r\n" || w.starts_with(b"\n\n"))
}

fn parse(bytes: &[u8]) -> Top {
    let Some(message) = MessageParser::default().parse_headers(bytes) else { return Top::default() };
    let from = message.from().and_then(|from| from.first());
    let from = from.map(|a| match (a.name(), a.address()) {
        (Some(name), Some(address)) => format!("{name} <{address}>"),
        (name, address) => name.or(address).unwrap_or_default().to_owned(),
    });
    Top { subject: message.subject().unwrap_or_default().to_owned(), from: from.unwrap_or_default(), error: None }
}

/// A text that must be in one of some lines of a header.
pub struct Term {
    names: Vec<String>,
    text: String,
}

impl Term {
    /// `text`, in upper or lower case, in a line with one of these names.
    pub fn new(names: &[&str], text: &str) -> Term {
        Term { names: names.iter().map(|name| name.to_ascii_lowercase()).collect(), text: text.to_lowercase() }
    }

    /// True if it is there.
    pub fn is_in(&self, header: &[u8]) -> bool {
        let lines = self.lines(header);
        if lines.is_empty() {
            return false;
        }
        // Whatever a line is, decoded it is a text. A parser that is told of no header by name would parse addresses as such.
        let parser = MessageParser::new().header_text(HeaderName::Subject).default_header_text();
        let message = parser.parse_headers(&lines[..]);
        let values = message.iter().flat_map(|message| message.headers()).filter_map(|header| header.value().as_text());
        let mut values = values.map(str::to_lowercase);
        values.any(|value| value.contains(&self.text))
    }

    /// The lines of these names, with those that continue them.
    fn lines(&self, header: &[u8]) -> Vec<u8> {
        let (mut lines, mut is_wanted) = (Vec::new(), false);
        for line in header.split_inclusive(|&c| c == b'\n') {
            match line.first() {
                None | Some(b'\r' | b'\n') => break,
                Some(b' ' | b'\t') => {}
                _ => is_wanted = self.names.iter().any(|name| has_name(line, name)),
            }
            if is_wanted {
                lines.extend_from_slice(line);
            }
        }
        if !lines.is_empty() {
            lines.extend_from_slice(b"\r\n");
        }
        lines
    }
}

fn has_name(line: &[u8], name: &str) -> bool {
    line.len() > name.len()
        && line[..name.len()].eq_ignore_ascii_case(name.as_bytes())
        && line[name.len()..].trim_ascii_start().starts_with(b":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] =
        b"Received: from x\r\n\tby Subject: lunch\r\nSUBJECT: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n =?utf-8?q?_aus?= \
        K=?iso-8859-1?q?=F6?=ln, and\r\n more\r\nFrom: =?utf-8?b?SsO8cmdlbg==?= <j@example.org>\r\nX-Odd : one\r\n\
        X-Odd: two\r\nMessage-ID: <a.b@c>\r\n\r\nSubject: body\r\n";

    #[test]
    fn texts_are_found_decoded_and_in_any_case() {
        let is_in = |name: &str, text: &str| Term::new(&[name], text).is_in(HEADER);
        assert!(is_in("subject", "GR\u{dc}\u{df}E aus") && is_in("Subject", "and more"));
        assert!(is_in("from", "j\u{fc}rgen") && is_in("from", "J@EXAMPLE.org"));
        assert!(is_in("x-odd", "one") && is_in("x-odd", "two") && is_in("message-id", "<a.b@c>"));
        assert!(!is_in("subject", "lunch") && !is_in("subject", "body") && !is_in("x-od", "one") && !is_in("bcc", ""));
        assert!(Term::new(&["to", "x-odd"], "two").is_in(HEADER));
        assert!(!Term::new(&["subject"], "x").is_in(b""));
    }

    #[test]
    fn a_header_ends_with_an_empty_line_of_either_kind() {
        assert!(has_end_of_header(HEADER) && has_end_of_header(b"a: b\n\nc"));
        assert!(!has_end_of_header(b"a: b\r\nc: d\r\n"));
    }
}
