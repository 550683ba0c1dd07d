//! A drop that is filed as it came needs no copy: its inode gets a second name, and loses the first.
//!
//! Only where nobody can tell the difference from a file that we would have made: it is ours, with
//! the rights and the group that a new file gets, without attributes, under one name, and the kernel
//! vouched that nobody writes to it. Before its name in `raw/` goes, that is asked once more
//! ([`WorkTree::remove_raw`]); afterwards no path of the dropper's leads to it.

use super::{WorkTree, list};
use crate::pipeline::discovery::Fingerprint;
use crate::step::Step;
use bstr::BString;
use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

/// A drop whose inode may become a managed file's.
#[derive(Debug, Clone)]
pub struct Twin {
    /// Where it lies, relative to the top.
    pub path: BString,
    /// As it was when it was read.
    pub fingerprint: Fingerprint,
}

/// What a new file of this process gets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh {
    user: u32,
    group: u32,
    /// None where nobody says what the umask is.
    mode: Option<u32>,
}

impl Fresh {
    pub(super) fn of_this_process() -> Fresh {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let umask = status.lines().find_map(|it| it.strip_prefix("Umask:"));
        let umask = umask.and_then(|it| u32::from_str_radix(it.trim(), 8).ok());
        Fresh {
            user: rustix::process::geteuid().as_raw(),
            group: rustix::process::getegid().as_raw(),
            mode: umask.map(|it| 0o666 & !it),
        }
    }

    /// Says whether a file is like a new one, in a directory that gives new ones nothing of its own.
    fn is_like(&self, file: &Stat, names: u64) -> bool {
        FileType::from_raw_mode(file.st_mode) == FileType::RegularFile
            && (file.st_uid, file.st_gid) == (self.user, self.group)
            && Some(file.st_mode & 0o7777) == self.mode
            // With fewer rights a second name makes a drop one that is not read.
            && file.st_mode & 0o044 != 0
            && file.st_nlink == names
    }
}

impl WorkTree {
    /// Says whether a drop that is open, and that nobody writes to, may serve.
    pub(super) fn may_serve(&self, file: &File, found: &Stat) -> bool {
        self.fresh.is_like(found, 1) && has_no_attributes(file)
    }

    /// Gives a drop a second name; says whether the name leads to what was read. Else nothing is
    /// there, and the file has to be written.
    pub(super) fn link_twin(&self, twin: &Twin, dir: &OwnedFd, name: &[u8]) -> io::Result<bool> {
        let Ok(Some((raw, drop))) = self.parent_of(&twin.path) else { return Ok(false) };
        self.steps.pass(Step::Rename)?;
        if rustix::fs::linkat(&raw, &drop[..], dir, name, AtFlags::empty()).is_err() {
            // It is taken, the drop is gone, or there are no links here: writing tells which.
            return Ok(false);
        }
        let found = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW);
        let same = found.as_ref().is_ok_and(|it| {
            let now = list::fingerprint(it);
            // The link itself changed the inode.
            self.fresh.is_like(it, 2)
                && Fingerprint { changed: twin.fingerprint.changed, ..now } == twin.fingerprint
        });
        if !same {
            rustix::fs::unlinkat(dir, name, AtFlags::empty())?;
        }
        Ok(same)
    }
}

/// Says whether new files in a directory get what this process gives them and nothing else.
pub(super) fn gives_nothing(dir: &OwnedFd) -> bool {
    let plain = rustix::fs::fstat(dir).is_ok_and(|it| it.st_mode & 0o2000 == 0);
    plain && has_no_attributes(dir)
}

/// Access lists and labels are attributes.
fn has_no_attributes(file: impl std::os::fd::AsFd) -> bool {
    let mut none: [u8; 0] = [];
    matches!(rustix::fs::flistxattr(file, &mut none), Ok(0) | Err(Errno::NOTSUP))
}

#[allow(clippy::disallowed_methods)]
#[cfg(test)]
mod tests {
    use super::super::{ReadRaw, WorkTree};
    use super::*;
    use crate::model::path::{RawPath, RepoPath};
    use crate::step::Steps;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    /// Reads `a.yaml`, lets `meanwhile` happen, and files twenty copies of what was read, the first
    /// of which may be the drop itself. Says whether it is.
    fn is_shared(prepare: impl Fn(&Path), meanwhile: impl Fn(&Path)) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let (raw, drop) = (RepoPath::parse("f/raw").unwrap(), dir.path().join("f/raw/a.yaml"));
        fs::create_dir_all(dir.path().join("f/raw")).unwrap();
        fs::write(&drop, "text").unwrap();
        prepare(&drop);
        let tree = WorkTree::open(dir.path(), Steps::default()).unwrap();
        let expected = list::fingerprint(&rustix::fs::lstat(&drop).unwrap());
        let read = tree.read_raw(&raw, &RawPath::new("a.yaml"), &expected, 100).unwrap();
        let ReadRaw::Read { intake, twin, .. } = read else { panic!("{read:?}") };
        meanwhile(&drop);
        let path = |n| RepoPath::parse(&format!("f/managed/{n}.yaml")).unwrap();
        let files: Vec<_> = (0..20).map(|n| (path(n), intake.bytes.clone())).collect();
        let twin = twin.map(|fingerprint| Twin { path: "f/raw/a.yaml".into(), fingerprint });
        tree.place_all(&files, &|n| twin.clone().filter(|_| n == 0)).unwrap();
        for (path, _) in &files {
            assert_eq!(fs::read(dir.path().join(path.as_path())).unwrap(), b"text");
        }
        let filed = fs::metadata(dir.path().join("f/managed/0.yaml")).unwrap();
        let there = fs::metadata(&drop).is_ok_and(|it| it.ino() == filed.ino());
        tree.remove_raw(&raw, &intake.path, &intake.drop_id, 100).unwrap();
        assert_eq!(filed.nlink(), if there { 2 } else { 1 });
        there
    }

    #[test]
    fn a_drop_gives_its_inode_unless_somebody_could_tell() {
        let nothing = |_: &Path| ();
        let mode = |mode| {
            move |it: &Path| {
                fs::set_permissions(it, fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        assert!(is_shared(nothing, nothing));
        assert!(!is_shared(mode(0o755), nothing), "it can be run");
        assert!(!is_shared(mode(0o600), nothing), "fewer may read it");
        assert!(!is_shared(|it| fs::hard_link(it, it.with_extension("b")).unwrap(), nothing));
        assert!(!is_shared(nothing, |it| fs::write(it, "else").unwrap()), "it was written again");
        assert!(!is_shared(nothing, |it| {
            fs::write(it.with_extension("new"), "else").unwrap();
            fs::rename(it.with_extension("new"), it).unwrap();
        }));
        assert!(!is_shared(nothing, |it| fs::remove_file(it).unwrap()));
    }
}
