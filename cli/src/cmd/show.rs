//! `cylinder show`

use super::archive::{at, with_reader};
use crate::args::Show;
use crate::exit::Exit;
use crate::host::{self, Outcome, Trouble};
use crate::output::{self, OutputError};
use cylinder_core::archive::read::Reader;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::escape::Shown;
use cylinder_core::guid::Guid;
use cylinder_core::restore::absent;
use cylinder_core::view::{self, When};
use serde_json::json;

/// Writes one message to standard output, checking its SHA-1.
pub fn run(args: &Show) -> Outcome {
    let when = at(&args.at)?;
    let mut failed: Option<OutputError> = None;
    let mut kept = Vec::new();
    let owner = host::owner(&args.user);
    let guid = with_reader(&args.store, &args.user, async |_, reader| {
        let guid = resolve(&owner, reader, &args.message, when).await?;
        let found = reader.locate(&guid).await?;
        let found = found.ok_or_else(|| Error::Refused(format!("the archive has no message {guid}")))?;
        let mut sink = |piece: &[u8]| {
            if args.json {
                kept.extend_from_slice(piece);
                return true;
            }
            match output::bytes(piece) {
                Ok(()) => true,
                Err(error) => {
                    failed = Some(error);
                    false
                }
            }
        };
        match reader.copy_message(&found, &mut sink).await {
            // The sink has stopped it, and knows why.
            Err(Error::Limit { .. }) => Ok(guid),
            other => other.map(|()| guid),
        }
    })?;
    if let Some(error) = failed {
        return Err(Trouble::Output(error));
    }
    if args.json {
        use mail_parser::MessageParser;
        let message = MessageParser::default().parse_headers(&kept[..]);
        let subject = message.as_ref().and_then(|m| m.subject());
        output::json(&json!({ "guid": guid.to_hex(), "size": kept.len(), "subject": subject, "base64": base64(&kept) }))?;
    }
    Ok(Exit::Ok)
}

/// The SHA-1 that a word names: itself, or that of the message FOLDER/UID.
async fn resolve(owner: &Owner, reader: &Reader, word: &str, when: When) -> Result<Guid, Error> {
    if let Some(guid) = Guid::from_hex(word.as_bytes()) {
        return Ok(guid);
    }
    let parts = word.rsplit_once('/').and_then(|(folder, uid)| Some((folder, uid.parse::<u32>().ok()?)));
    let Some((folder, uid)) = parts else {
        return Err(Error::Refused(format!("`{word}` is neither a GUID of 40 hexadecimal digits nor FOLDER/UID")));
    };
    let at = view::snapshot(reader, when).await?;
    let table = reader.table(&at).await?;
    let row = absent::folder(reader, owner, &at, &table, folder.as_bytes()).await?;
    let other = row.missing.iter().find(|missing| missing.uid == uid).and_then(|missing| missing.found);
    if let Some(other) = other {
        output::complain!("cylinder: {}/{uid}: other content than the index describes: {other}", Shown(folder.as_bytes()));
    }
    let view = view::folder(reader, row).await?;
    let found = view.messages.iter().find(|m| m.record.uid.0 == uid);
    found
        .map(|m| other.unwrap_or(m.guid))
        .ok_or_else(|| Error::Refused(format!("snapshot {} has no message {uid} in this folder", at.commit.number)))
}

/// Base64 (RFC 4648) in one line.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().enumerate().fold(0u32, |n, (i, &b)| n | u32::from(b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = char::from(DIGITS[(n >> (18 - 6 * i)) as usize & 63]);
            out.push(if i <= chunk.len() { digit } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn values_of_rfc_4648() {
        let all = ["", "f", "fo", "foo", "foob"].map(|s| super::base64(s.as_bytes()));
        assert_eq!(all, ["", "Zg==", "Zm8=", "Zm9v", "Zm9vYg=="]);
    }
}
