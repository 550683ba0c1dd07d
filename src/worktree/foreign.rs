//! What others pushed, brought into the work tree: files, links and the places of submodules, at any
//! path that git takes.

use super::temp::Unnamed;
use super::write::PART_FILES;
use super::{Error, WorkTree, beneath};
use crate::model::path::RepoPath;
use crate::step::Step;
use bstr::BString;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

/// The longest target of a link, in bytes (`PATH_MAX`).
const LINK_BYTES_MAX: usize = 4096;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    /// A file.
    File {
        /// What it holds.
        bytes: Arc<[u8]>,
        /// It can be run.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Where it leads.
        target: Vec<u8>,
    },
    /// A directory: of a submodule, where git says so.
    Directory,
}

/// A file to be written.
struct Coming<'a> {
    path: &'a [u8],
    name: &'a [u8],
    bytes: &'a [u8],
    executable: bool,
}

/// Files of one directory.
struct Part<'a> {
    dir: &'a [u8],
    files: Vec<Coming<'a>>,
}

impl WorkTree {
    /// What is at a path, without following links; none where there is nothing.
    pub fn look(&self, path: &[u8], bytes_max: u64) -> Result<Option<Foreign>, Error> {
        let failed = |it: io::Error| Error::file("look at", path, it);
        let fd = match self.beneath(path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(it) => return Err(failed(it.into())),
        };
        let found = rustix::fs::fstat(&fd).map_err(|it| failed(it.into()))?;
        match rustix::fs::FileType::from_raw_mode(found.st_mode) {
            rustix::fs::FileType::Directory => Ok(Some(Foreign::Directory)),
            rustix::fs::FileType::Symlink => {
                let target = rustix::fs::readlinkat(&fd, "", Vec::with_capacity(LINK_BYTES_MAX));
                let target = target.map_err(|it| failed(it.into()))?.into_bytes();
                Ok(Some(Foreign::Link { target }))
            }
            _ => {
                let executable = found.st_mode & 0o100 != 0;
                let bytes = self.read_bytes_path(path, bytes_max)?;
                Ok(bytes.map(|it| Foreign::File { bytes: it.into(), executable }))
            }
        }
    }

    /// Writes and removes what git brought: any path git takes, beneath the top. What goes makes way
    /// for what comes: a file may become a directory, or the other way round.
    ///
    /// Paths through `.git`, in any spelling that a file system may take for it, are refused.
    /// Directories that are empty then go as well, but for those of `keep`. Files are on the disk
    /// before they get their names: after a power cut each is as it was or as it will be.
    pub fn write_foreign(
        &self,
        files: &[(BString, Option<Foreign>)],
        keep: &[RepoPath],
    ) -> Result<(), Error> {
        let failed = |path: &BString, it: io::Error| Error::file("write", path, it);
        for (path, _) in files {
            if path.split(|it| *it == b'/').any(is_hostile) {
                return Err(failed(path, io::Error::other("no file may have this name")));
            }
        }
        for (path, _) in files.iter().filter(|it| it.1.is_none()) {
            let (dir, name) = parted(path);
            self.remove_foreign(dir, name, keep).map_err(|it| failed(path, it))?;
        }
        let dirs = || files.iter().map(|it| parted(&it.0).0);
        let parts = parts_of(files);
        let written = crate::cores::on_all(&parts, |part| self.write_coming(part))?;
        if !parts.is_empty() {
            self.sync_file_systems(dirs())?;
        }
        // One after the other: the kernel lets only one at a time change a directory.
        for (part, written) in parts.iter().zip(written) {
            self.name_coming(part, &written)?;
        }
        for (path, content) in files {
            let (dir, name) = parted(path);
            let put = match content {
                Some(Foreign::Link { target }) => self.put_link(dir, name, target),
                Some(Foreign::Directory) => self.put_directory(dir, name),
                Some(Foreign::File { .. }) | None => Ok(()),
            };
            put.map_err(|it| failed(path, it))?;
        }
        match files.is_empty() {
            true => Ok(()),
            false => self.sync_file_systems(dirs()),
        }
    }

    fn write_coming<'a>(&'a self, part: &Part<'a>) -> Result<Vec<Unnamed<'a>>, Error> {
        let first = part.files.first().map_or(part.dir, |it| it.path);
        let dir = self.make_foreign_dirs(part.dir).map_err(|it| Error::file("write", first, it))?;
        let write = |it: &Coming<'_>| {
            let mut temp = self.temp_in(&dir)?;
            temp.file().write_all(it.bytes)?;
            if it.executable {
                // As git has it: whoever may read it may run it.
                let mode = temp.file().metadata()?.permissions().mode() & 0o777;
                let run = (mode & 0o444) >> 2;
                temp.file().set_permissions(PermissionsExt::from_mode(mode | run))?;
            }
            Ok(self.unnamed(temp, part.dir))
        };
        let written = part.files.iter();
        written
            .map(|it| write(it).map_err(|error: io::Error| Error::file("write", it.path, error)))
            .collect()
    }

    /// Opens the directory anew: much may have happened since, and a name is given where it is now.
    fn name_coming(&self, part: &Part<'_>, written: &[Unnamed<'_>]) -> Result<(), Error> {
        let first = part.files.first().map_or(part.dir, |it| it.path);
        let dir = self.make_foreign_dirs(part.dir).map_err(|it| Error::file("write", first, it))?;
        for (file, unnamed) in part.files.iter().zip(written) {
            let named = unnamed.take_name(&dir, file.name);
            named.map_err(|it| Error::file("write", file.path, it))?;
        }
        Ok(())
    }

    fn put_link(&self, dir: &[u8], name: &[u8], target: &[u8]) -> io::Result<()> {
        let fd = self.make_foreign_dirs(dir)?;
        self.steps.pass(Step::WriteFile)?;
        // A link appears whole under a name of its own, and then takes its place.
        let target = OsStr::from_bytes(target);
        let temp = tempfile::Builder::new()
            .prefix(super::TEMP_PREFIX)
            .suffix(".tmp")
            .make_in(through(&fd), |at| std::os::unix::fs::symlink(target, at))?;
        self.steps.pass(Step::Rename)?;
        let place = through(&fd).join(OsStr::from_bytes(name));
        temp.persist(place).map(drop).map_err(|it| it.error)
    }

    fn put_directory(&self, dir: &[u8], name: &[u8]) -> io::Result<()> {
        let fd = self.make_foreign_dirs(dir)?;
        self.steps.pass(Step::MakeDir)?;
        match rustix::fs::mkdirat(&fd, name, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(it) => Err(it.into()),
        }
    }

    fn remove_foreign(&self, dir: &[u8], name: &[u8], keep: &[RepoPath]) -> io::Result<()> {
        let Ok(fd) = self.beneath(dir, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()) else {
            return Ok(());
        };
        self.steps.pass(Step::Remove)?;
        let unlink = || rustix::fs::unlinkat(&fd, name, AtFlags::empty());
        match self.leaving.hold(&fd, name, unlink) {
            Ok(()) => {
                self.remove_emptied(dir, keep);
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            // What is left of a submodule is its owner's.
            Err(Errno::ISDIR) => {
                let _ = rustix::fs::unlinkat(&fd, name, AtFlags::REMOVEDIR);
                Ok(())
            }
            Err(it) => Err(it.into()),
        }
    }

    /// What somebody put there keeps a directory, and that is well.
    fn remove_emptied(&self, mut dir: &[u8], keep: &[RepoPath]) {
        while !dir.is_empty() && keep.iter().all(|it| it.as_str().as_bytes() != dir) {
            let at = dir.iter().rposition(|it| *it == b'/');
            let (above, name) = match at {
                Some(at) => (&dir[..at], &dir[at + 1..]),
                None => (&dir[..0], dir),
            };
            let above_fd = self.beneath(above, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty());
            let gone = above_fd.and_then(|fd| rustix::fs::unlinkat(&fd, name, AtFlags::REMOVEDIR));
            if gone.is_err() {
                return;
            }
            dir = above;
        }
    }

    fn make_foreign_dirs(&self, dir: &[u8]) -> io::Result<OwnedFd> {
        let mut fd = self.beneath(b"", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        for component in dir.split(|it| *it == b'/').filter(|it| !it.is_empty()) {
            self.steps.pass(Step::MakeDir)?;
            match rustix::fs::mkdirat(&fd, component, Mode::from_raw_mode(0o777)) {
                Ok(()) | Err(Errno::EXIST) => (),
                Err(it) => return Err(it.into()),
            }
            fd = beneath(&fd, component, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        }
        Ok(fd)
    }
}

/// The files to be written, in pieces that each lie in one directory and can be made at once.
fn parts_of(files: &[(BString, Option<Foreign>)]) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = Vec::new();
    for (path, content) in files {
        let Some(Foreign::File { bytes, executable }) = content else { continue };
        let (dir, name) = parted(path);
        let file = Coming { path, name, bytes, executable: *executable };
        match parts.last_mut() {
            Some(part) if part.dir == dir && part.files.len() < PART_FILES => part.files.push(file),
            _ => parts.push(Part { dir, files: vec![file] }),
        }
    }
    parts
}

/// A path's directory and the name in it.
fn parted(path: &BString) -> (&[u8], &[u8]) {
    match path.iter().rposition(|it| *it == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], &path[..]),
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
