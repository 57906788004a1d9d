//! `cylinder version`

use crate::args::Version;
use crate::exit::Exit;
use crate::host::Outcome;
use crate::output;
use serde_json::json;

/// Name and version, as commits have it.
pub const SOFTWARE: &str = concat!("cylinder ", env!("CARGO_PKG_VERSION"));

/// Prints the version, and which codec and hash were built in, and whether TLS was.
pub fn run(args: &Version) -> Outcome {
    let fast = cfg!(feature = "fast");
    let (codec, hash) = if fast {
        ("libdeflate", "sha1 with SHA instructions where the processor has them")
    } else {
        ("miniz_oxide", "sha1_smol")
    };
    let tls = cfg!(feature = "tls");
    if args.json {
        output::json(&json!({ "version": env!("CARGO_PKG_VERSION"), "codec": codec, "sha1": hash, "tls": tls, "format": 1 }))?;
    } else {
        let tls = if tls { "TLS by rustls" } else { "no TLS" };
        output::line(&format!("{SOFTWARE} (archive format 1, {codec}, {hash}, {tls})"))?;
    }
    Ok(Exit::Ok)
}
