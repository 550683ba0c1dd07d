//! Reports beside rejected drops, and sweeping up after a crash.

use super::{Error, TEMP_PREFIX, WorkTree, beneath};
use crate::model::path::RepoPath;
use crate::step::Step;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

/// The largest report that is compared before it is rewritten, in bytes.
const REPORT_BYTES_MAX: u64 = 4 << 20;
/// How deep the sweeps look below `raw/`, like the listing.
const DEPTH_MAX: usize = 32;

/// Is given a directory and the name of an entry of it.
type Visit<'a> = dyn FnMut(&OwnedFd, &[u8]) -> Result<(), Errno> + 'a;

impl WorkTree {
    /// Writes a report; one that says the same is left alone.
    pub fn write_report(&self, path: &RepoPath, text: &str) -> Result<(), Error> {
        let (dir, name) = split(path);
        let failed = |it: std::io::Error| Error::file("write", &join(&dir, &name), it);
        let fd = match self.beneath(&dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(fd) => fd,
            // The drop's directory is gone, and with it whoever would read the report.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(it) => return Err(failed(it.into())),
        };
        if is_directory(&fd, &name) {
            // Somebody made a directory of that name. It is not ours to remove, and no reason to
            // stop: `status` says the same as the report would.
            return Ok(());
        }
        if held(&fd, &name).is_some_and(|it| it == text.as_bytes()) {
            return Ok(());
        }
        let mut temp = self.temp_in(&fd).map_err(failed)?;
        temp.file().write_all(text.as_bytes()).map_err(failed)?;
        self.persist(temp, &name).map_err(failed)
    }

    /// Removes a report, if there is one.
    pub fn remove_report(&self, path: &RepoPath) -> Result<(), Error> {
        let (dir, name) = split(path);
        let failed = |it: std::io::Error| Error::file("remove", &join(&dir, &name), it);
        let Ok(fd) = self.beneath(&dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) else {
            return Ok(());
        };
        let found = rustix::fs::statat(&fd, &name[..], AtFlags::SYMLINK_NOFOLLOW);
        if found.is_err() || is_directory(&fd, &name) {
            return Ok(());
        }
        self.steps.pass(Step::Remove).map_err(failed)?;
        match rustix::fs::unlinkat(&fd, &name[..], AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(it) => Err(failed(it.into())),
        }
    }

    /// Removes temporary files that a crash left below `dir`; only ours, by their names.
    pub fn sweep_temporaries(&self, dir: &RepoPath) -> Result<u32, Error> {
        let mut swept = 0;
        self.visit_hidden(dir, &mut |fd, name| self.sweep_one(fd, name, &mut swept))?;
        Ok(swept)
    }

    /// Removes those that a crash left beside these files, wherever in the tree they lie.
    pub fn sweep_beside<'a>(&self, files: impl Iterator<Item = &'a [u8]>) -> Result<u32, Error> {
        let dir = |file: &'a [u8]| &file[..file.iter().rposition(|it| *it == b'/').unwrap_or(0)];
        let dirs: BTreeSet<&[u8]> = files.map(dir).collect();
        let mut swept = 0;
        for dir in dirs {
            self.visit_hidden_in(dir, &mut |fd, name| self.sweep_one(fd, name, &mut swept))?;
        }
        Ok(swept)
    }

    fn sweep_one(&self, dir: &OwnedFd, name: &[u8], swept: &mut u32) -> Result<(), Errno> {
        if name.ends_with(b".tmp") {
            self.steps.pass(Step::Remove).map_err(|_| Errno::NOSPC)?;
            // Gone already, or of a name like ours without being ours: it keeps us from nothing.
            *swept += u32::from(rustix::fs::unlinkat(dir, name, AtFlags::empty()).is_ok());
        }
        Ok(())
    }

    /// Calls `visit` with every entry below `dir` whose name has our prefix.
    pub(super) fn visit_hidden(&self, dir: &RepoPath, visit: &mut Visit<'_>) -> Result<(), Error> {
        let mut todo = vec![(dir.as_str().as_bytes().to_vec(), 0)];
        while let Some((path, depth)) = todo.pop() {
            let below = self.visit_hidden_in(&path, visit)?;
            if depth < DEPTH_MAX {
                todo.extend(below.iter().map(|name| (join(&path, name), depth + 1)));
            }
        }
        Ok(())
    }

    /// The same in `dir` alone; gives the names of the directories in it.
    fn visit_hidden_in(&self, dir: &[u8], visit: &mut Visit<'_>) -> Result<Vec<Vec<u8>>, Error> {
        let failed = |it: Errno| Error::file("sweep", dir, it);
        let fd = match self.beneath(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS) => return Ok(vec![]),
            Err(it) => return Err(failed(it)),
        };
        let (mut ours, mut below) = (Vec::new(), Vec::new());
        for entry in Dir::read_from(&fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name.starts_with(TEMP_PREFIX.as_bytes()) {
                ours.push(name.to_vec());
            // Some file systems do not say; opening it will.
            } else if matches!(entry.file_type(), FileType::Directory | FileType::Unknown)
                && !name.starts_with(b".")
            {
                below.push(name.to_vec());
            }
        }
        for name in ours {
            visit(&fd, &name).map_err(failed)?;
        }
        Ok(below)
    }
}

fn is_directory(dir: &OwnedFd, name: &[u8]) -> bool {
    rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::Directory)
}

fn held(dir: &OwnedFd, name: &[u8]) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let file = std::fs::File::from(beneath(dir, name, flags, Mode::empty()).ok()?);
    let mut bytes = Vec::new();
    file.take(REPORT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn split(path: &RepoPath) -> (Vec<u8>, Vec<u8>) {
    let dir = path.parent().unwrap_or_else(RepoPath::top);
    (dir.as_str().as_bytes().to_vec(), path.file_name().as_bytes().to_vec())
}

fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = dir.to_vec();
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
