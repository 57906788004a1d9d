//! The clients of IMAP and of the replication protocol against a server that says anything: they end, and nothing stays open.
#![no_main]

use cylinder_core::error::Error;
use cylinder_core::imap::client::{Client, Login, NewMessage};
use cylinder_core::io::{Io, Op, StreamId};
use cylinder_core::sync::client as sync;
use cylinder_core::time::Time;
use cylinder_core::wire::stream::{StartTls, Stream};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::net::{Net, join};
use libfuzzer_sys::fuzz_target;

const LOGIN: Login<'static> = Login { user: b"cyrus", act_as: Some(b"anna"), password: b"secret" };

async fn says(io: Io, text: Vec<u8>) {
    drop(io.start(Op::Send { stream: StreamId(1), data: text }).await);
}

/// Does everything that a restore does by IMAP.
async fn imap(io: Io) -> Result<(), Error> {
    let mut client = Client::open(Stream::connect(&io, "imaptest", Client::LIMITS).await?, StartTls::WhereNeeded).await?;
    client.login(LOGIN).await?;
    let _ = client.namespace().await;
    let _ = client.list_all().await;
    let _ = client.quotas(b"INBOX").await;
    let _ = client.metadata(b"INBOX", "/private/comment").await;
    let _ = client.open_mailbox(b"INBOX", true).await;
    let _ = client.fetch("1:*", "FLAGS DIGEST.SHA1 BODY.PEEK[]", &mut |message| assert_ne!(message.uid, 0)).await;
    let _ = client.store("1:5", Some(7), b"FLAGS.SILENT (\\Seen)").await;
    let tag = client.append_begin(b"INBOX").await?;
    if client.append_message(&tag, NewMessage { flags: &[], internaldate: Time::ZERO, size: 3, is_binary: false }).await? {
        client.append_piece(b"abc").await?;
        client.append_end().await?;
    }
    let _ = client.appended(&tag).await?;
    client.logout().await;
    Ok(())
}

/// Looks as a restore does by the replication protocol.
async fn replication(io: Io) -> Result<(), Error> {
    let mut client =
        sync::Client::open(Stream::connect(&io, "synctest", sync::Client::LIMITS).await?, StartTls::WhereNeeded, LOGIN).await?;
    let _ = client.mailboxes(&[b"user.anna"], &[b"abc"]).await?;
    let _ = client.reserve(b"default", &[b"user.anna"], &[]).await?;
    let _ = client.apply("MAILBOX", b"%(A b)").await?;
    client.exit().await;
    Ok(())
}

fuzz_target!(|data: &[u8]| {
    let net = Net { piece: data.len() % 7 * 30, ..Net::default() };
    let mut here = SimDisk::new();
    // Whatever comes of it.
    let _ = join(&mut here, &mut SimDisk::new(), &mut net.clone(), imap, |io| says(io, data.to_vec()));
    let _ = join(&mut here, &mut SimDisk::new(), &mut net.clone(), replication, |io| says(io, data.to_vec()));
    assert_eq!(here.open_files(), 0);
});
