//! `cylinder version`

use crate::args::Version;
use crate::exit::Exit;
use crate::host::Outcome;
use crate::output;
use serde_json::json;

/// Name and version, as commits have it.
pub const SOFTWARE: &str = concat!("cylinder ", env!("CARGO_PKG_VERSION"));

/// Prints the version, and which codec and hash were built in.
pub fn run(args: &Version) -> Outcome {
    let fast = cfg!(feature = "fast");
    let (codec, hash) = if fast {
        ("libdeflate", "sha1 with SHA instructions where the processor has them")
    } else {
        ("miniz_oxide", "sha1_smol")
    };
    if args.json {
        output::json(&json!({ "version": env!("CARGO_PKG_VERSION"), "codec": codec, "sha1": hash, "format": 1 }))?;
    } else {
        output::line(&format!("{SOFTWARE} (archive format 1, {codec}, {hash})"))?;
    }
    Ok(Exit::Ok)
}
