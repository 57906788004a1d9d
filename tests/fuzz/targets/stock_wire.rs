//! Both ends of the stock dialect against a peer that says anything: nothing stays open, and the server writes nothing but lock
//! files.
#![no_main]

use cylinder_core::cyrus::conf::VersionLine;
use cylinder_core::cyrus::names::Owner;
use cylinder_core::error::Error;
use cylinder_core::io::{Io, Op, Reply, StreamId};
use cylinder_core::pull::Message;
use cylinder_core::pull::stock::Client;
use cylinder_core::serve::{Settings, serve};
use cylinder_core::source::Ask;
use cylinder_core::source::capture::{Want, Wanted};
use cylinder_core::source::config;
use cylinder_core::source::lock::Patience;
use cylinder_core::source::site::{Locking, Site};
use cylinder_core::time::Span;
use cylinder_core::wire::native::Wish;
use cylinder_core::wire::stream::{Limits, Stream};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::host::Host;
use cylinder_tests::net::{Net, join};
use libfuzzer_sys::fuzz_target;

async fn says(io: Io, text: Vec<u8>) {
    drop(io.start(Op::Send { stream: StreamId(1), data: text }).await);
}

/// Does everything that a run does.
async fn client(io: Io) -> Result<(), Error> {
    let limits = Limits { line: 4096, stall: Span::from_secs(60), bytes_per_second: 0 };
    let mut client = Client::new(Stream::connect(&io, "imaptest", limits).await?, b"imaptest")?;
    let alice = Owner::User(b"alice".to_vec());
    let first = client.pass(&alice, &Ask { annotate: true, ..Ask::default() }).await?;
    let folders = first.folders.iter().map(|f| (f.name.clone(), Want::Read)).collect();
    let states = first.states.iter().map(|s| s.name.clone()).collect();
    let capture = client.capture(&io, &alice, &first, &Wanted { folders, states }).await?;
    let folders = capture.pass.folders.clone();
    capture.finish(&io).await;
    let wish = |uid| Wish { uid, archived: false, second: false };
    for folder in &folders {
        client.announce_messages(folder, (1..4).map(wish).collect());
        for uid in [1, 3] {
            if let Some(Ok(Message::Large { scratch, .. })) = client.message(&io, &alice, folder, wish(uid), Vec::new()).await?
            {
                cylinder_core::source::lock::close(&io, scratch).await;
            }
        }
    }
    client.owners().await.map(|_| ())
}

async fn server(io: Io) -> Result<(), Error> {
    let conf = config::load(&io, b"/etc/imapd.conf", "", VersionLine::V3_6).await?;
    let mut site = Site::open(&io, conf, None, Locking::AsServer, Patience::default()).await?;
    let settings = Settings {
        servername: b"imaptest".to_vec(),
        software: String::new(),
        idle: Span::from_secs(1),
        stall: Span::from_secs(1),
        users: Vec::new(),
    };
    serve(&io, &mut site, StreamId(1), "client", &settings).await
}

fn host() -> SimDisk {
    let (mut host, mut disk) = (Host::new(), SimDisk::new());
    host.folder("user.alice").deliver(b"Subject: one\r\n\r\n");
    host.folder("user.alice.Work").deliver(b"Subject: two\r\n\r\n");
    host.publish(&mut disk);
    disk
}

/// Asks, and listens until nothing more comes.
async fn asks(io: Io, request: Vec<u8>) {
    let stream = io.connect(String::from("imaptest")).await.expect("a stream");
    drop(io.start(Op::Send { stream, data: request }));
    let deadline = io.now().plus(Span::from_secs(300));
    loop {
        let call = io.start(Op::Receive { stream, max: 1 << 16, buffer: Vec::new() });
        match io.by(call, deadline).await {
            Some(Ok(Reply::Bytes(bytes))) if !bytes.is_empty() => {}
            _ => return,
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let net = Net { piece: data.len() % 7 * 30, ..Net::default() };
    let mut here = SimDisk::new();
    // Whatever comes of it.
    let _ = join(&mut here, &mut SimDisk::new(), &mut net.clone(), client, |io| says(io, data.to_vec()));
    assert_eq!(here.open_files(), 0);
    let mut there = host();
    join(&mut SimDisk::new(), &mut there, &mut net.clone(), |io| asks(io, data.to_vec()), server);
    assert_eq!(there.open_files(), 0);
    let odd = there.written().iter().find(|place| !place.shown().starts_with("/run/cyrus/lock/"));
    assert_eq!(odd, None);
});
