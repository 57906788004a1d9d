//! Servers that say what was written down before, whatever they are asked.

use crate::disk::SimDisk;
use crate::net::{Net, join};
use cylinder_core::cyrus::names::Owner;
use cylinder_core::io::{Io, Op, StreamId};
use cylinder_core::pull::stock::Client;
use cylinder_core::time::{Span, Time};
use cylinder_core::wire::ANSWER_LINE_MAX;
use cylinder_core::wire::stream::{Limits, Stream};
use std::future::Future;

/// How long the client waits for the server.
pub fn limits() -> Limits {
    Limits { line: ANSWER_LINE_MAX, stall: Span::from_secs(60), bytes_per_second: 0 }
}

/// A server that says this, whatever it is asked, and ends.
pub async fn says(io: Io, text: Vec<u8>) {
    drop(io.start(Op::Send { stream: StreamId(1), data: text }).await);
}

/// Runs `client` against a server that says `text`.
pub fn hear<T, F: Future<Output = T> + 'static>(text: &[u8], piece: usize, client: impl FnOnce(Io) -> F) -> T {
    let (mut here, mut there) = (SimDisk::new(), SimDisk::new());
    here.wait_until(Time::from_secs(1_795_470_000));
    let text = text.to_vec();
    let outcome = join(&mut here, &mut there, &mut Net { piece, ..Net::default() }, client, |io| says(io, text));
    assert_eq!(here.open_files(), 0, "scratch files are given back");
    outcome
}

/// A client of the stock dialect.
pub async fn client(io: &Io) -> Client {
    let stream = Stream::connect(io, "imaptest", limits()).await.expect("a stream");
    Client::new(stream, b"imaptest").expect("a name")
}

/// Whose mail it is.
pub fn user(userid: &str) -> Owner {
    Owner::User(userid.as_bytes().to_vec())
}
