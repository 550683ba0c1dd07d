//! Writing and removing files of ours: whole or not at all, and on the disk before it counts.

use super::{Error, TEMP_PREFIX, WorkTree};
use crate::model::path::RepoPath;
use crate::step::Step;
use rustix::fs::{AtFlags, Mode};
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

/// A path that leads through an open directory, so that nobody can swap it for a link meanwhile.
pub(super) fn through(dir: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()))
}
