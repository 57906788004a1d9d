//! Walks over the messages of an archive: the same messages come whether one walk takes them or several do, and no member is
//! inflated twice between two of them.

use cylinder_core::archive::read::Reader;
use cylinder_core::archive::record::MessageAt;
use cylinder_core::error::Error;
use cylinder_core::guid::Guid;
use cylinder_core::io::{Io, Op};
use cylinder_core::restore::bodies::{Bodies, Last};
use cylinder_tests::disk::SimDisk;
use cylinder_tests::drive::{drive, drive_watched};
use cylinder_tests::story::{self, checkpoint, long_mail, mail, run_all, snapshot};

/// Small ones, of which many are in a member, and some that several members hold.
fn messages() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (0..12).map(|n| mail(n, 200 + 40_000 * (n as usize % 4))).collect();
    all.extend((20..23).map(|n| long_mail(n, 2_500_000)));
    all.extend((30..36).map(|n| mail(n, 90_000)));
    all
}

/// Walks over all messages with a new walk after the first, the second, ... `split`, each `step` long.
async fn walk(io: Io, step: usize, begins_anew: bool) -> Result<Vec<Guid>, Error> {
    let reader = Reader::open(&io, &story::dir()).await?;
    let mut all = Vec::<MessageAt>::new();
    for message in messages() {
        all.extend(reader.locate(&Guid::of(&message)).await?);
    }
    all.sort_by_key(|at| at.at);
    let (mut found, mut content, mut last) = (Vec::new(), Vec::new(), Last::default());
    for part in all.chunks(step) {
        let mut bodies = Bodies::new(&io, &reader, part.to_vec(), 2).after(std::mem::take(&mut last));
        while let Some((at, result)) = bodies.next_whole(8 << 20, &mut content).await? {
            result?;
            assert_eq!(Guid::of(&content), at.guid);
            found.push(at.guid);
        }
        if !begins_anew {
            last = bodies.last();
        }
    }
    reader.close().await;
    Ok(found)
}

#[test]
fn several_walks_take_what_one_takes_and_inflate_no_member_twice() {
    let (mut disk, mail) = (SimDisk::new(), messages());
    let batches = [snapshot(1, mail[..9].to_vec()), checkpoint(mail[9..14].to_vec()), snapshot(2, mail[14..].to_vec())];
    drive(&mut disk, |io| run_all(io, &batches)).finished().expect("an archive");
    let inflated = |step: usize, begins_anew: bool| {
        let mut members = Vec::new();
        let mut watch = |_: &SimDisk, op: &Op| {
            if let Op::Unseal { member, .. } = op {
                members.push(Guid::of(member));
            }
        };
        let found = drive_watched(&mut disk.clone(), |io| walk(io, step, begins_anew), &mut watch).finished();
        members.sort();
        (found.expect("a walk"), members)
    };
    let (all, once) = inflated(mail.len(), false);
    assert_eq!(all.len(), mail.len());
    let mut more = 0;
    for step in 1..mail.len() {
        let (found, members) = inflated(step, false);
        assert_eq!(found, all, "walks of {step}");
        assert_eq!(members, once, "walks of {step}: a member was inflated twice");
        more += inflated(step, true).1.len() - once.len();
    }
    assert!(more > 0, "nothing was saved");
}
