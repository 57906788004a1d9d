//! Whose files they are, and being somebody else.
//!
//! A static binary must not load name service modules, so a user's name is looked up in the password file itself, which is also
//! what is wanted of a mounted copy of another host's tree. User ids are changed for the calling thread by system calls, not by
//! the C library, which would change them for all threads.

use crate::roots::At;
use cylinder_core::marker::MARKER;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, statat};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::os::fd::AsFd;
use std::path::Path;

/// A user and a group by number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The user and group number of `user_name` in a file such as `/etc/passwd`. None if it is not in there or the file cannot be
/// read.
pub fn owner_of(user_name: &str, passwd_path: &Path) -> Option<(u32, u32)> {
    find_user(user_name.as_bytes(), &std::fs::read(passwd_path).ok()?)
}

/// Lines of `name:password:uid:gid:...`, passwd(5). The first of a name counts.
fn find_user(name: &[u8], passwd: &[u8]) -> Option<(u32, u32)> {
    let number = |field: Option<&[u8]>| std::str::from_utf8(field?).ok()?.parse().ok();
    passwd.split(|&b| b == b'\n').find_map(|line| {
        let mut fields = line.split(|&b| b == b':');
        if fields.next() != Some(name) {
            return None;
        }
        let mut ids = fields.skip(1);
        Some((number(ids.next())?, number(ids.next())?))
    })
}

/// Whom what the superuser makes in a store has to belong to: the owner of its marker, else of its directory. `None` for
/// everybody else.
pub fn store_owner(root: At) -> Option<Owner> {
    if !geteuid().is_root() {
        return None;
    }
    let marker = statat(root.dir, MARKER, AtFlags::SYMLINK_NOFOLLOW);
    let stat = marker.or_else(|_| statat(root.dir, root.path, AtFlags::empty())).ok()?;
    Some(Owner { uid: stat.st_uid, gid: stat.st_gid })
}

/// User and group of that, for what is written into the store `dir` past a driver.
pub fn owner_in_store(dir: &Path) -> Option<(u32, u32)> {
    let dir = openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    store_owner(At { dir: dir.as_fd(), path: b"." }).map(|owner| (owner.uid, owner.gid))
}

/// Becomes another user for good, without supplementary groups but `gid`.
///
/// It is done for the calling thread and those that it starts afterwards, so it belongs at the start of a program. `EPERM`
/// unless called by the superuser or by that user.
pub fn become_user(uid: u32, gid: u32) -> std::io::Result<()> {
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    if geteuid() == user && getegid() == group && !user.is_root() {
        return Ok(());
    }
    set_thread_groups(&[group])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)?;
    Ok(())
}

/// While it lives, the calling thread has the effective ids of an owner. For the superuser only.
pub struct AsOwner {
    user: Uid,
    group: Gid,
    /// The ids belong to the thread, so it must be dropped on the one that it was made on.
    _same_thread: std::marker::PhantomData<*const ()>,
}

impl AsOwner {
    /// Takes on the ids.
    pub fn begin(owner: Owner) -> Result<AsOwner, Errno> {
        let before = AsOwner { user: geteuid(), group: getegid(), _same_thread: std::marker::PhantomData };
        // On failure of the second, dropping `before` undoes the first.
        set_thread_res_gid(None, Gid::from_raw(owner.gid), None)?;
        set_thread_res_uid(None, Uid::from_raw(owner.uid), None)?;
        Ok(before)
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        // The saved ids are still the former ones, which is all the kernel asks for; and if it did refuse, this thread would
        // have fewer rights than before, not more.
        let _ = set_thread_res_uid(None, self.user, None);
        let _ = set_thread_res_gid(None, self.group, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/bash\ncyrus2:x:7:8::/:\n# cyrus:x:1:1\ncyrus:x:101:8:Cyrus Mail,,,:/var:/bin/sh\n\
                       cyrus:x:5:5:::\nbroken:x:many:8::\nshort:x\nlast:x:4294967294:3";
        let find = |name: &str| find_user(name.as_bytes(), passwd);
        assert_eq!(find("cyrus"), Some((101, 8)));
        assert_eq!(find("root"), Some((0, 0)));
        assert_eq!(find("last"), Some((4_294_967_294, 3)));
        assert_eq!((find("broken"), find("short"), find("cyr"), find("")), (None, None, None, None));
        assert_eq!(owner_of("root", Path::new("/nonexistent/passwd")), None);
    }
}
