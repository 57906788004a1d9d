//! Room over the quota, for the time of a restore: the limits of a mailbox's quota roots are taken away and put back.
//!
//! Only an administrator can do that, on a connection of its own. A command that is killed in between leaves the limits lifted,
//! so whoever calls this tells them first. What must not come in: messages.

use crate::error::Error;
use crate::escape::shown;
use crate::imap::client::{Client, QuotaRoot};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Quota roots without limits, as they were.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lifted(Vec<QuotaRoot>);

impl Lifted {
    /// The limits as they were, in one line for people; empty if there were none.
    pub fn shown(&self) -> String {
        let limit = |root: &QuotaRoot| {
            let limits = root.limits.iter().map(|limit| format!("{} {}", shown(&limit.resource), limit.limit));
            format!("{} ({})", shown(&root.name), limits.collect::<Vec<_>>().join(" "))
        };
        self.0.iter().map(limit).collect::<Vec<_>>().join(", ")
    }
}

/// What limits a mailbox, by the name that it has for the administrator.
pub async fn limits(admin: &mut Client, mailbox: &[u8]) -> Result<Lifted, Error> {
    match admin.quotas(mailbox).await? {
        Ok(roots) => Ok(Lifted(roots.into_iter().filter(|root| !root.limits.is_empty()).collect())),
        Err(refusal) => Err(Error::Refused(format!("{}: its quota cannot be read: {refusal}", shown(mailbox)))),
    }
}

/// Takes the limits away.
pub async fn lift(admin: &mut Client, lifted: &Lifted) -> Result<(), Error> {
    for root in &lifted.0 {
        if let Err(refusal) = admin.set_quota(&root.name, &[]).await? {
            return Err(Error::Refused(format!("the quota of {} cannot be lifted: {refusal}", shown(&root.name))));
        }
    }
    Ok(())
}

/// Puts them back.
pub async fn put_back(admin: &mut Client, lifted: &Lifted) -> Result<(), Error> {
    for root in &lifted.0 {
        if let Err(refusal) = admin.set_quota(&root.name, &root.limits).await? {
            return Err(Error::Refused(format!("the quota {} cannot be put back: {refusal}", lifted.shown())));
        }
    }
    Ok(())
}
