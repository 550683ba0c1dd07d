//! On which kind of file system a directory lies, and how far the kernel's word goes there.
//!
//! inotify tells of what is done through this host's own mount. What another host writes to a
//! network file system, or what changes in the lower layer of an overlay, it never hears of; and
//! a lease that a network file system refuses says nothing about writers.

use rustix::fs::{Mode, OFlags, Stat, StatFs};
use std::path::Path;

/// File systems that change behind the kernel's back, by their magic numbers (`statfs(2)`).
const FOREIGN: [(u32, &str); 17] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x0bd0_0bd0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636f, "OCFS2"),
    (0x4750_4653, "GPFS"),
    (0x786f_4256, "a VirtualBox shared folder"),
    (0xbacb_acbc, "a VMware shared folder"),
    (0x794c_7630, "an overlay"),
];
const OVERLAY: u32 = 0x794c_7630;
/// File systems where a directory has a link from each directory in it: ext2 to 4, XFS, tmpfs.
const COUNTING: [u32; 3] = [0xef53, 0x5846_5342, 0x0102_1994];

/// How far the kernel's word goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sight {
    /// It tells of every change.
    Whole,
    /// Not of every one; this is what people call the file system.
    Blind(&'static str),
}

/// Says how far the kernel's word goes for a directory; what cannot be asked counts as whole.
pub(super) fn sight(dir: &Path) -> Sight {
    rustix::fs::statfs(dir).map_or(Sight::Whole, |it| of(&it))
}

/// Says whether a lease that is refused tells of a writer here.
pub(super) fn leases_count(file: &impl std::os::fd::AsFd) -> bool {
    // An overlay's leases are the kernel's own; only network file systems refuse without a writer.
    rustix::fs::fstatfs(file).is_ok_and(|it| magic(&it) == OVERLAY || of(&it) == Sight::Whole)
}

/// Says whether a directory surely has no directory in it, without reading it: one that held a hundred
/// thousand files once is still as long as it was then.
pub(super) fn has_no_directory(dir: &Path) -> bool {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty())
        .is_ok_and(|dir| rustix::fs::fstat(&dir).is_ok_and(|it| holds_no_directory(&dir, &it)))
}

/// The same of one that is open.
pub(super) fn holds_no_directory(dir: &impl std::os::fd::AsFd, found: &Stat) -> bool {
    // Its name, and its own `.`.
    found.st_nlink == 2 && rustix::fs::fstatfs(dir).is_ok_and(|it| COUNTING.contains(&magic(&it)))
}

fn magic(found: &StatFs) -> u32 {
    // The type is signed on some machines; the numbers are 32 bits everywhere.
    (found.f_type as u64 & u64::from(u32::MAX)) as u32
}

fn of(found: &StatFs) -> Sight {
    let magic = magic(found);
    FOREIGN.iter().find(|it| it.0 == magic).map_or(Sight::Whole, |it| Sight::Blind(it.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_holds_one_is_never_said_to_hold_none() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::File::create(dir.path().join("file")).unwrap();
        let counted = COUNTING.contains(&magic(&rustix::fs::statfs(dir.path()).unwrap()));
        assert_eq!(has_no_directory(dir.path()), counted);
        std::fs::create_dir(dir.path().join("below")).unwrap();
        assert!(!has_no_directory(dir.path()));
        assert!(!has_no_directory(&dir.path().join("absent")));
    }

    #[test]
    fn a_disk_is_seen_whole_and_a_network_is_not() {
        // Where this runs in a container, the directory may lie on an overlay indeed.
        let dir = tempfile::tempdir().unwrap();
        let found = rustix::fs::statfs(dir.path()).unwrap();
        if magic(&found) != OVERLAY {
            assert_eq!(of(&found), Sight::Whole);
        }
        let proc = rustix::fs::statfs("/proc").unwrap();
        for (number, name) in FOREIGN {
            let mut other = proc;
            other.f_type = number as _;
            assert_eq!(of(&other), Sight::Blind(name));
        }
    }
}
