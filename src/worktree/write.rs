//! Writing and removing files of ours: whole or not at all, and on the disk before it counts.

use super::temp::Unnamed;
use super::{Error, WorkTree};
use crate::model::path::RepoPath;
use crate::step::Step;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// Up to so many files are synced one by one; more are synced together with all that the file
/// system holds, which costs less than a call for each.
const SYNC_EACH_MAX: usize = 16;
/// So many files of one directory are one piece of work.
pub(super) const PART_FILES: usize = 32;

/// A file of ours and what it holds.
type Content = (RepoPath, Arc<[u8]>);
/// Files of one directory, by their numbers.
type Part<'a> = (&'a RepoPath, &'a [usize]);

impl WorkTree {
    /// Writes files, each whole or not at all; when this returns they are on the disk.
    ///
    /// Missing directories are made. On an error some files may be in place: the caller undoes.
    pub fn write_all(&self, files: &[Content]) -> Result<(), Error> {
        let written = self.write_told(files);
        if written.is_err() {
            // What was told and did not come to be would hide what others do.
            self.eye.close();
        }
        written
    }

    fn write_told(&self, files: &[Content]) -> Result<(), Error> {
        self.tell_eye(files.iter().map(|it| it.0.as_str().as_bytes()));
        let each = files.len() <= SYNC_EACH_MAX;
        let mut dirs: BTreeSet<RepoPath> = BTreeSet::new();
        let mut by_dir: BTreeMap<RepoPath, Vec<usize>> = BTreeMap::new();
        for (n, (path, _)) in files.iter().enumerate() {
            by_dir.entry(path.parent().unwrap_or_else(RepoPath::top)).or_default().push(n);
        }
        for dir in by_dir.keys() {
            self.make_dirs(dir, &mut dirs)?;
        }
        let parts: Vec<Part<'_>> = by_dir
            .iter()
            .flat_map(|(dir, all)| all.chunks(PART_FILES).map(move |part| (dir, part)))
            .collect();
        match each {
            true => self.place_each(files, &parts)?,
            false => self.place_together(files, &parts)?,
        }
        dirs.extend(by_dir.into_keys());
        self.sync_dirs(&dirs, each)
    }

    /// A few files, each on the disk before it gets its name.
    fn place_each(&self, files: &[Content], parts: &[Part<'_>]) -> Result<(), Error> {
        for (dir, part) in parts {
            let fd = self.open_to_write(dir)?;
            for n in *part {
                self.place(&fd, &files[*n])?;
            }
        }
        Ok(())
    }

    /// Many files: all are written, then forced to the disk together, and then get their names. A
    /// name that reached the disk before its content would be an empty file after a power cut.
    fn place_together(&self, files: &[Content], parts: &[Part<'_>]) -> Result<(), Error> {
        let written = crate::cores::on_all(parts, |part| self.write_part(files, part))?;
        self.sync_file_systems(parts.iter().map(|it| it.0.as_str().as_bytes()))?;
        let parts: Vec<_> = parts.iter().zip(written).collect();
        crate::cores::on_all(&parts, |((dir, part), written)| {
            let fd = self.open_to_write(dir)?;
            for (n, unnamed) in part.iter().zip(written) {
                let path = &files[*n].0;
                let named = unnamed.take_name(&fd, path.file_name().as_bytes());
                named.map_err(|it| Error::file("write", path.as_str().as_bytes(), it))?;
            }
            Ok(())
        })
        .map(drop)
    }

    fn write_part<'a>(
        &'a self,
        files: &[Content],
        (dir, part): &Part<'a>,
    ) -> Result<Vec<Unnamed<'a>>, Error> {
        let fd = self.open_to_write(dir)?;
        let write = |(path, bytes): &Content| {
            let failed = |it: io::Error| Error::file("write", path.as_str().as_bytes(), it);
            let mut temp = self.temp_in(&fd).map_err(failed)?;
            temp.file().write_all(bytes).map_err(failed)?;
            Ok(self.unnamed(temp, dir.as_str().as_bytes()))
        };
        part.iter().map(|n| write(&files[*n])).collect()
    }

    fn place(&self, dir: &OwnedFd, (path, bytes): &Content) -> Result<(), Error> {
        let failed = |it: io::Error| Error::file("write", path.as_str().as_bytes(), it);
        let mut temp = self.temp_in(dir).map_err(failed)?;
        temp.file().write_all(bytes).map_err(failed)?;
        self.steps.pass(Step::Sync).map_err(failed)?;
        temp.file().sync_all().map_err(failed)?;
        self.persist(temp, path.file_name().as_bytes()).map_err(failed)
    }

    fn open_to_write(&self, dir: &RepoPath) -> Result<OwnedFd, Error> {
        self.directory(dir).map_err(|it| Error::file("write into", dir.as_str().as_bytes(), it))
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
        self.tell_eye(std::iter::once(bytes));
        let unlink = || rustix::fs::unlinkat(&dir, path.file_name(), AtFlags::empty());
        match self.leaving.hold(&dir, path.file_name().as_bytes(), unlink) {
            Ok(()) => (),
            Err(it) => {
                self.eye.close();
                return if it == Errno::NOENT { Ok(false) } else { Err(failed(it.into())) };
            }
        }
        let mut dir = parent;
        while dir != *root && dir.is_within(root) {
            let Some(above) = dir.parent() else { break };
            let Ok(fd) = self.directory(&above) else { break };
            self.eye.empties(&self.path, &dir);
            // Fails where somebody put something into it, and that is well.
            if rustix::fs::unlinkat(&fd, dir.file_name(), AtFlags::REMOVEDIR).is_err() {
                self.eye.stays(&self.path, &dir);
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
        if !each {
            return self.sync_file_systems(dirs.iter().map(|it| it.as_str().as_bytes()));
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

    /// Forces all to the disk that the file systems hold on which these directories lie.
    pub(super) fn sync_file_systems<'a>(
        &self,
        dirs: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Error> {
        let failed = |it: io::Error| Error::file("sync", b"the work tree", it);
        let mut done = BTreeSet::new();
        let mut last = None;
        // The top as well: a directory that is gone was removed from one above it.
        for dir in std::iter::once(&b""[..]).chain(dirs) {
            if last == Some(dir) {
                continue;
            }
            last = Some(dir);
            let fd = match self.beneath(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(it) => return Err(failed(it.into())),
            };
            let device = rustix::fs::fstat(&fd).map_err(|it| failed(it.into()))?.st_dev;
            if done.insert(device) {
                self.steps.pass(Step::Sync).map_err(failed)?;
                rustix::fs::syncfs(&fd).map_err(|it| failed(it.into()))?;
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
        self.tell_eye(std::iter::once(path.as_str().as_bytes()));
        match rustix::fs::mkdirat(&above, path.file_name(), Mode::from_raw_mode(0o777)) {
            Ok(()) => self.eye.made(&self.path, path),
            Err(Errno::EXIST) => self.eye.close(),
            Err(it) => return Err(failed(it.into())),
        }
        dirs.insert(parent);
        self.directory(path).map_err(|it| failed(it.into()))
    }
}
