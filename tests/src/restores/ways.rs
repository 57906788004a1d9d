//! The ways of restoring, each as the command does it. What must not come in: what should come of it.

use super::imap::{self, Shared};
use super::origin::owner;
use super::sync;
use crate::disk::SimDisk;
use crate::net::{Net, meet};
use cylinder_core::archive::read::Reader;
use cylinder_core::cyrus::names::Naming;
use cylinder_core::error::Error;
use cylinder_core::imap::client::{Client, Login};
use cylinder_core::io::Io;
use cylinder_core::restore::select::{Kind, Scope, Selection, Wish};
use cylinder_core::restore::server::deliver::OverQuota;
use cylinder_core::restore::server::exact::Exact;
use cylinder_core::restore::server::flags;
use cylinder_core::restore::server::mail::{Run, Target};
use cylinder_core::restore::server::names::Names;
use cylinder_core::restore::server::report::Report;
use cylinder_core::store::archive_dir;
use cylinder_core::sync::client::Client as SyncClient;
use cylinder_core::view::When;
use cylinder_core::wire::stream::{StartTls, Stream};

/// The name of the tree.
pub const TREE: &str = "tree";

/// A way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Way {
    /// `--to-tree`.
    Tree,
    /// `--merge`.
    Merge,
    /// `--flags-only`.
    Flags,
    /// `--exact`.
    Exact,
    /// `--exact --replace --no-backup`.
    Replace,
}

/// One command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Order {
    /// How.
    pub way: Way,
    /// What.
    pub scope: Scope,
    /// `--over-quota warn`, not `stop`.
    pub warn: bool,
}

/// Runs a command against a server, until it ends; `n` makes it another run than those before.
pub fn run(disk: &SimDisk, server: &Shared, net: &mut Net, order: &Order, n: u32) -> Result<Report, Error> {
    let (mut here, mut there, server) = (disk.clone(), SimDisk::new(), server.clone());
    there.set_silent(true);
    match order.way {
        Way::Tree | Way::Merge | Way::Flags => {
            meet(&mut here, &mut there, net, |io| mail(io, order, n), |io| imap::serve(io, server.clone()))
        }
        Way::Exact | Way::Replace => {
            meet(&mut here, &mut there, net, |io| exact(io, order), |io| sync::serve(io, server.clone()))
        }
    }
}

async fn mail(io: Io, order: &Order, n: u32) -> Result<Report, Error> {
    let reader = Reader::open(&io, &archive_dir(&owner())?).await?;
    let selection = Selection::open(&reader, &owner(), When::Newest, Wish::new(order.scope.clone())).await?;
    let stream = Stream::connect(&io, "imap1", Client::LIMITS).await?;
    let mut client = Client::open(stream, StartTls::WhereNeeded).await?;
    client.login(Login { user: b"cyrus", act_as: Some(b"anna"), password: b"secret" }).await?;
    let names = Names::new(Naming::default(), client.namespace().await?, &owner());
    if order.way == Way::Flags {
        flags::restore(&io, &selection, &mut client, &names, true).await?;
        let report = flags::restore(&io, &selection, &mut client, &names, false).await?;
        client.logout().await;
        reader.close().await;
        return Ok(report);
    }
    let target = if order.way == Way::Merge { Target::Original } else { Target::Tree(names.top(TREE.as_bytes())) };
    let mut run = Run::new(&io, &selection, &mut client, &names, target);
    run.over_quota = if order.warn { OverQuota::Warn } else { OverQuota::Stop };
    run.stage(format!("{n:016x}"));
    run.clear().await?;
    if order.way == Way::Merge {
        run.look_elsewhere().await?;
    }
    run.plan().await?;
    let report = run.carry_out().await?;
    client.logout().await;
    reader.close().await;
    Ok(report)
}

async fn exact(io: Io, order: &Order) -> Result<Report, Error> {
    let reader = Reader::open(&io, &archive_dir(&owner())?).await?;
    let wish = Wish { kind: Kind::Every, ..Wish::new(order.scope.clone()) };
    let selection = Selection::open(&reader, &owner(), When::Newest, wish).await?;
    let stream = Stream::connect(&io, "imap1", SyncClient::LIMITS).await?;
    let login = Login { user: b"cyrus", act_as: None, password: b"secret" };
    let mut client = SyncClient::open(stream, StartTls::WhereNeeded, login).await?;
    let mut exact = Exact::new(&io, &selection, &mut client);
    exact.replace = order.way == Way::Replace;
    let report = exact.run().await;
    client.exit().await;
    reader.close().await;
    report
}
