//! Writing and removing files of ours: whole or not at all, and on the disk before it counts.

use super::twin::{self, Twin};
use super::{Error, WorkTree};
use crate::model::path::RepoPath;
use crate::step::Step;
use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Up to so many files are synced one by one; more are synced together with all that the file
/// system holds, which costs less than a call for each.
const SYNC_EACH_MAX: usize = 16;
/// So many files of one directory are one piece of work.
const PART_FILES: usize = 32;

impl WorkTree {
    /// Writes files, each whole or not at all; when this returns they are on the disk.
    ///
    /// Missing directories are made. On an error some files may be in place: the caller undoes.
    pub fn write_all(&self, files: &[(RepoPath, Arc<[u8]>)]) -> Result<(), Error> {
        self.place_all(files, &|_| None)
    }

    /// The same; `twin` names the drop that holds what a file gets where nothing is yet.
    pub fn place_all(
        &self,
        files: &[(RepoPath, Arc<[u8]>)],
        twin: &(dyn Fn(usize) -> Option<Twin> + Sync),
    ) -> Result<(), Error> {
        let each = files.len() <= SYNC_EACH_MAX;
        let mut dirs: BTreeSet<RepoPath> = BTreeSet::new();
        let mut by_dir: BTreeMap<RepoPath, Vec<usize>> = BTreeMap::new();
        for (n, (path, _)) in files.iter().enumerate() {
            by_dir.entry(path.parent().unwrap_or_else(RepoPath::top)).or_default().push(n);
        }
        for dir in by_dir.keys() {
            self.make_dirs(dir, &mut dirs)?;
        }
        let parts: Vec<(&RepoPath, &[usize])> = by_dir
            .iter()
            .flat_map(|(dir, all)| all.chunks(PART_FILES).map(move |part| (dir, part)))
            .collect();
        crate::cores::on_all(&parts, |(dir, part)| {
            let failed = |it: Errno| Error::file("write into", dir.as_str().as_bytes(), it);
            let fd = self.directory(dir).map_err(failed)?;
            let shared = !each && twin::gives_nothing(&fd);
            for n in part.iter().copied() {
                let (path, bytes) = &files[n];
                let twin = shared.then(|| twin(n)).flatten();
                let placed = self.place(&fd, path.file_name().as_bytes(), bytes, twin, each);
                placed.map_err(|it| Error::file("write", path.as_str().as_bytes(), it))?;
            }
            Ok::<_, Error>(())
        })?;
        dirs.extend(by_dir.into_keys());
        self.sync_dirs(&dirs, each)
    }

    fn place(
        &self,
        dir: &OwnedFd,
        name: &[u8],
        bytes: &[u8],
        twin: Option<Twin>,
        sync: bool,
    ) -> io::Result<()> {
        if let Some(twin) = twin
            && self.link_twin(&twin, dir, name)?
        {
            return Ok(());
        }
        let mut temp = self.temp_in(dir)?;
        temp.file().write_all(bytes)?;
        if sync {
            self.steps.pass(Step::Sync)?;
            temp.file().sync_all()?;
        }
        self.persist(temp, name)
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
}
