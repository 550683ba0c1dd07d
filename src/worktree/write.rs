//! Writing and removing files of ours: whole or not at all, and on the disk before it counts.

use super::{Error, TEMP_PREFIX, WorkTree};
use crate::model::path::RepoPath;
use crate::step::Step;
use bstr::BString;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::NamedTempFile;

/// Up to so many files are synced one by one; more are synced together with all that the file
/// system holds, which costs less than a call for each.
const SYNC_EACH_MAX: usize = 16;

impl WorkTree {
    /// Writes files, each whole or not at all; when this returns they are on the disk.
    ///
    /// Missing directories are made. On an error some files may be in place: the caller undoes.
    pub fn write_all(&self, files: &[(RepoPath, Arc<[u8]>)]) -> Result<(), Error> {
        let each = files.len() <= SYNC_EACH_MAX;
        let mut dirs: BTreeSet<RepoPath> = BTreeSet::new();
        for (path, bytes) in files {
            let failed = |it: io::Error| Error::file("write", path.as_str().as_bytes(), it);
            let parent = path.parent().unwrap_or_else(RepoPath::top);
            let fd = self.make_dirs(&parent, &mut dirs)?;
            let mut temp = self.temp_in(&fd).map_err(failed)?;
            temp.write_all(bytes).map_err(failed)?;
            if each {
                self.steps.pass(Step::Sync).map_err(failed)?;
                temp.as_file().sync_all().map_err(failed)?;
            }
            self.persist(temp, &fd, path.file_name().as_bytes()).map_err(failed)?;
            dirs.insert(parent);
        }
        self.sync_dirs(&dirs, each)
    }

    /// Removes a file of ours, and the directories above it that are empty then, up to `root`.
    pub fn remove(&self, path: &RepoPath, root: &RepoPath) -> Result<bool, Error> {
        let bytes = path.as_str().as_bytes();
        let failed = |it: io::Error| Error::file("remove", bytes, it);
        let parent = path.parent().unwrap_or_else(RepoPath::top);
        let dir = match self.directory(&parent) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            Err(it) => return Err(failed(it.into())),
        };
        self.steps.pass(Step::Remove).map_err(failed)?;
        match rustix::fs::unlinkat(&dir, path.file_name(), AtFlags::empty()) {
            Ok(()) => (),
            Err(Errno::NOENT) => return Ok(false),
            Err(it) => return Err(failed(it.into())),
        }
        let mut dir = parent;
        while dir != *root && dir.is_within(root) {
            let Some(above) = dir.parent() else { break };
            let Ok(fd) = self.directory(&above) else { break };
            // Fails where somebody put something into it, and that is well.
            if rustix::fs::unlinkat(&fd, dir.file_name(), AtFlags::REMOVEDIR).is_err() {
                break;
            }
            dir = above;
        }
        Ok(true)
    }

    /// Writes and removes files of others that git brought: any path git takes, beneath the top.
    ///
    /// Paths through `.git`, in any spelling that a file system may take for it, are refused.
    pub fn write_foreign(&self, files: &[(BString, Option<Arc<[u8]>>)]) -> Result<(), Error> {
        for (path, bytes) in files {
            let failed = |it: io::Error| Error::file("write", path, it);
            if path.split(|it| *it == b'/').any(is_hostile) {
                return Err(failed(io::Error::other("no file may have this name")));
            }
            let at = path.iter().rposition(|it| *it == b'/');
            let (dir, name) = match at {
                Some(at) => (&path[..at], &path[at + 1..]),
                None => (&path[..0], &path[..]),
            };
            match bytes {
                Some(bytes) => {
                    let fd = self.make_foreign_dirs(dir).map_err(failed)?;
                    let mut temp = self.temp_in(&fd).map_err(failed)?;
                    temp.write_all(bytes).map_err(failed)?;
                    self.keep_mode(&fd, name, &temp).map_err(failed)?;
                    self.persist(temp, &fd, name).map_err(failed)?;
                }
                None => {
                    let Ok(fd) =
                        self.beneath(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
                    else {
                        continue;
                    };
                    self.steps.pass(Step::Remove).map_err(failed)?;
                    match rustix::fs::unlinkat(&fd, name, AtFlags::empty()) {
                        Ok(()) | Err(Errno::NOENT) => (),
                        Err(it) => return Err(failed(it.into())),
                    }
                }
            }
        }
        if files.is_empty() {
            return Ok(());
        }
        let failed = |it: io::Error| Error::file("sync", b"the work tree", it);
        self.steps.pass(Step::Sync).map_err(failed)?;
        rustix::fs::syncfs(&self.top).map_err(|it| failed(it.into()))
    }

    fn make_foreign_dirs(&self, dir: &[u8]) -> io::Result<OwnedFd> {
        let mut fd = self.beneath(b"", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        for component in dir.split(|it| *it == b'/').filter(|it| !it.is_empty()) {
            self.steps.pass(Step::MakeDir)?;
            match rustix::fs::mkdirat(&fd, component, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => (),
                Err(it) => return Err(it.into()),
            }
            fd = super::beneath(&fd, component, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        }
        Ok(fd)
    }

    /// A file that was executable stays so.
    fn keep_mode(&self, dir: &OwnedFd, name: &[u8], temp: &NamedTempFile) -> io::Result<()> {
        match rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => {
                let mode = found.st_mode & 0o777;
                temp.as_file().set_permissions(std::fs::Permissions::from_mode(mode))
            }
            Err(_) => Ok(()),
        }
    }

    /// Forces directories to the disk, after removals.
    pub fn sync_directories<'a>(
        &self,
        dirs: impl Iterator<Item = &'a RepoPath>,
    ) -> Result<(), Error> {
        let dirs: BTreeSet<RepoPath> = dirs.cloned().collect();
        let each = dirs.len() <= SYNC_EACH_MAX;
        self.sync_dirs(&dirs, each)
    }

    fn sync_dirs(&self, dirs: &BTreeSet<RepoPath>, each: bool) -> Result<(), Error> {
        if dirs.is_empty() {
            return Ok(());
        }
        let failed = |it: io::Error| Error::file("sync", b"the work tree", it);
        if !each {
            self.steps.pass(Step::Sync).map_err(failed)?;
            return rustix::fs::syncfs(&self.top).map_err(|it| failed(it.into()));
        }
        for dir in dirs {
            let failed = |it: io::Error| Error::file("sync", dir.as_str().as_bytes(), it);
            self.steps.pass(Step::Sync).map_err(failed)?;
            match self.directory(dir) {
                Ok(fd) => rustix::fs::fsync(&fd).map_err(|it| failed(it.into()))?,
                // Removed since: its parent is on the list or above what matters.
                Err(Errno::NOENT | Errno::NOTDIR) => (),
                Err(it) => return Err(failed(it.into())),
            }
        }
        Ok(())
    }

    /// Opens a directory, making what is missing of it; the parents of what was made join `dirs`.
    pub(super) fn make_dirs(
        &self,
        path: &RepoPath,
        dirs: &mut BTreeSet<RepoPath>,
    ) -> Result<OwnedFd, Error> {
        let failed =
            |it: io::Error| Error::file("make the directory", path.as_str().as_bytes(), it);
        match self.directory(path) {
            Ok(fd) => return Ok(fd),
            Err(Errno::NOENT) => (),
            Err(it) => return Err(failed(it.into())),
        }
        let Some(parent) = path.parent() else {
            return Err(failed(Errno::NOENT.into()));
        };
        let above = self.make_dirs(&parent, dirs)?;
        self.steps.pass(Step::MakeDir).map_err(failed)?;
        // 0777 less the umask, as git makes directories: the group's rights are the umask's business.
        match rustix::fs::mkdirat(&above, path.file_name(), Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => (),
            Err(it) => return Err(failed(it.into())),
        }
        dirs.insert(parent);
        self.directory(path).map_err(|it| failed(it.into()))
    }

    /// Makes a temporary file in `dir`, which goes away by itself unless it is persisted.
    pub(super) fn temp_in(&self, dir: &OwnedFd) -> io::Result<NamedTempFile> {
        self.steps.pass(Step::WriteFile)?;
        tempfile::Builder::new()
            .prefix(TEMP_PREFIX)
            .suffix(".tmp")
            // 0666 less the umask, as git makes files.
            .permissions(std::fs::Permissions::from_mode(0o666))
            .tempfile_in(through(dir))
    }

    /// Gives a temporary file in `dir` its name, replacing what had it.
    pub(super) fn persist(
        &self,
        temp: NamedTempFile,
        dir: &OwnedFd,
        name: &[u8],
    ) -> io::Result<()> {
        self.steps.pass(Step::Rename)?;
        let target = through(dir).join(std::ffi::OsStr::from_bytes(name));
        temp.persist(target).map(drop).map_err(|it| it.error)
    }
}

/// Names that some file system takes for `.git`, or that lead elsewhere: see git's `verify_path`.
fn is_hostile(component: &[u8]) -> bool {
    let visible: String = String::from_utf8_lossy(component)
        .chars()
        // HFS+ passes over these.
        .filter(|c| !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'))
        .collect();
    // NTFS passes over dots and spaces at the end, and over what stands behind a colon.
    let lower = visible.to_lowercase();
    let stem = lower.split(':').next().unwrap_or_default().trim_end_matches(['.', ' ']);
    component.is_empty()
        || component == b"."
        || component == b".."
        || component.contains(&0)
        || component.contains(&b'\\')
        || stem == ".git"
        || stem == "git~1"
}

/// A path that leads through an open directory, so that nobody can swap it for a link meanwhile.
fn through(dir: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}
