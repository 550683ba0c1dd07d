//! The hand on the files: list, read within limits, write whole or not at all.
//!
//! Every path is opened beneath the top of the work tree without following a link (`openat2`), so
//! neither a hostile name nor a symlink swapped in at the wrong moment leads outside.
//! What is written is on the disk when the call returns.

mod eye;
mod foreign;
mod ignore;
mod list;
mod lease;
mod mounts;
mod raw;
mod leaving;
mod report;
mod temp;
pub mod watch;
mod write;

pub use eye::Eye;
pub use foreign::Foreign;
pub use ignore::{Ignores, Patterns};
pub use list::{Listed, Stillness};
pub use raw::{OwnMoves, ReadRaw, Removal};

use crate::model::path::RepoPath;
use crate::step::{Step, Steps};
use leaving::Leaving;
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Begins the names of files that are ours alone and half done; removed at start.
pub(crate) const TEMP_PREFIX: &str = ".git-intake-";

/// How many things that stood in the way of a directory of ours may lie beside it.
const IN_THE_WAY_MAX: u32 = 1000;

/// What the hand on the files could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The work tree itself.
    #[error("cannot open the work tree {path}")]
    Top {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file or directory below it.
    #[error("cannot {verb} {path}")]
    File {
        /// `read`, `write`, `list`, ...
        verb: &'static str,
        /// Where, relative to the top of the work tree, escaped.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A directory of the fabric is something else.
    #[error("{path} is {what}, not a directory")]
    NotADirectory {
        /// Where.
        path: RepoPath,
        /// `a symbolic link`, `a file`, ...
        what: &'static str,
    },
    /// The file is larger than a caller can take.
    #[error("{path} is larger than {max} bytes")]
    TooLarge {
        /// Where.
        path: String,
        /// The limit in bytes.
        max: u64,
    },
}

impl Error {
    fn file(verb: &'static str, path: &[u8], source: impl Into<io::Error>) -> Error {
        let path = crate::model::path::escape(path);
        Error::File { verb, path, source: source.into() }
    }
}

/// One work tree.
#[derive(Debug)]
pub struct WorkTree {
    top: OwnedFd,
    path: PathBuf,
    steps: Steps,
    own: OwnMoves,
    eye: Eye,
    leaving: Leaving,
    /// What else no path may cross.
    resolve: ResolveFlags,
}

impl WorkTree {
    /// Opens the work tree whose top is `path`.
    pub fn open(path: &Path, steps: Steps) -> Result<WorkTree, Error> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let top = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|it| Error::Top { path: path.to_owned(), source: it.into() })?;
        lease::ignore_breaks();
        let (own, eye, resolve) = (OwnMoves::default(), Eye::default(), ResolveFlags::empty());
        let leaving = Leaving::default();
        Ok(WorkTree { top, path: path.to_owned(), steps, own, eye, leaving, resolve })
    }

    /// Leaves alone what is mounted below the top.
    pub fn on_one_file_system(mut self) -> WorkTree {
        self.resolve = ResolveFlags::NO_XDEV;
        self
    }

    /// What this hand takes out of `raw/`, for the watcher to pass over.
    pub fn own_moves(&self) -> OwnMoves {
        self.own.clone()
    }

    /// What tells of others at work in `managed/`; closed until somebody opens it.
    pub fn eye(&self) -> &Eye {
        &self.eye
    }

    /// What is about to be written to these places is our doing.
    pub fn tell_eye<'a>(&self, paths: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.eye.tell(&self.path, paths);
    }

    /// The top.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads one file; none where there is nothing.
    pub fn read(&self, path: &RepoPath, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
        self.read_bytes_path(path.as_str().as_bytes(), bytes_max)
    }

    /// Reads one file at a path of any bytes, relative to the top; none where there is no file.
    pub fn read_bytes_path(&self, path: &[u8], bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        let fd = match self.beneath(path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(it) => return Err(Error::file("read", path, it)),
        };
        let mut bytes = Vec::new();
        let file = File::from(fd);
        let found = file.metadata().map_err(|it| Error::file("read", path, it))?;
        if !found.is_file() {
            return Err(Error::file("read", path, io::Error::other("it is not a regular file")));
        }
        let read = file.take(bytes_max + 1).read_to_end(&mut bytes);
        read.map_err(|it| Error::file("read", path, it))?;
        if bytes.len() as u64 > bytes_max {
            let path = crate::model::path::escape(path);
            return Err(Error::TooLarge { path, max: bytes_max });
        }
        Ok(Some(bytes))
    }

    /// Says whether `path` is there at all, whatever it is.
    pub fn exists(&self, path: &RepoPath) -> Result<bool, Error> {
        let bytes = path.as_str().as_bytes();
        match self.beneath(bytes, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(it) => Err(Error::file("look at", bytes, it)),
        }
    }

    /// Makes sure that `path` is a real directory or is not there.
    pub fn check_directory(&self, path: &RepoPath) -> Result<bool, Error> {
        if path.is_top() {
            return Ok(true);
        }
        let bytes = path.as_str().as_bytes();
        let fd = match self.beneath(bytes, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(false),
            Err(Errno::LOOP) => {
                return Err(Error::NotADirectory {
                    path: path.clone(),
                    what: "behind a symbolic link",
                });
            }
            Err(Errno::NOTDIR) => {
                return Err(Error::NotADirectory { path: path.clone(), what: "below a file" });
            }
            Err(it) => return Err(Error::file("look at", bytes, it)),
        };
        let found = rustix::fs::fstat(&fd).map_err(|it| Error::file("look at", bytes, it))?;
        let what = match rustix::fs::FileType::from_raw_mode(found.st_mode) {
            rustix::fs::FileType::Directory => return Ok(true),
            rustix::fs::FileType::Symlink => "a symbolic link",
            rustix::fs::FileType::RegularFile => "a file",
            _ => "a special file",
        };
        Err(Error::NotADirectory { path: path.clone(), what })
    }

    /// Makes way for a directory of ours: what has its name and is none, or is one that we may not
    /// write to, gets another name beside it.
    pub fn make_way(&self, path: &RepoPath) -> Result<(), Error> {
        use rustix::fs::Access;
        let failed = |it: Errno| Error::file("make way for", path.as_str().as_bytes(), it);
        let parent = path.parent().unwrap_or_else(RepoPath::top);
        let above = match self.directory(&parent) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(()),
            Err(it) => return Err(failed(it)),
        };
        let name = path.file_name();
        let found = match rustix::fs::statat(&above, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT) => return Ok(()),
            Err(it) => return Err(failed(it)),
        };
        let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
        let ours = kind == rustix::fs::FileType::Directory
            && rustix::fs::accessat(&above, name, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
        if ours {
            return Ok(());
        }
        for n in 1..=IN_THE_WAY_MAX {
            let other = format!("{name}.in-the-way-{n}");
            self.steps
                .pass(Step::Rename)
                .map_err(|it| Error::file("make way for", path.as_str().as_bytes(), it))?;
            match rename_new(&above, name.as_bytes(), other.as_bytes()) {
                Ok(()) => {
                    tracing::warn!(%path, other, "something else had this name and got another");
                    return Ok(());
                }
                Err(Errno::EXIST) => (),
                Err(it) => return Err(failed(it)),
            }
        }
        Err(failed(Errno::EXIST))
    }

    /// Opens `path` (relative to the top, any bytes) without leaving the tree or following a link.
    fn beneath(&self, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        beneath_on(&self.top, path, flags, mode, self.resolve)
    }

    fn directory(&self, path: &RepoPath) -> Result<OwnedFd, Errno> {
        self.beneath(path.as_str().as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())
    }
}

/// Opens `path` below `dir` without leaving it, and without following any link.
fn beneath(dir: impl AsFd, path: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
    beneath_on(dir, path, flags, mode, ResolveFlags::empty())
}

/// The same; `more` may forbid to cross into another file system.
fn beneath_on(
    dir: impl AsFd,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    more: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { &b"."[..] } else { path };
    let resolve =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | more;
    match rustix::fs::openat2(&dir, path, flags | OFlags::CLOEXEC, mode, resolve) {
        // An old kernel, or a sandbox: systemd's RestrictSUIDSGID= answers so, as it cannot see
        // which mode the call asks for.
        Err(Errno::NOSYS) => step_by_step(dir.as_fd(), path, flags, mode, more),
        other => other,
    }
}

/// The same without `openat2`: one component after the other, each of which may be no link.
fn step_by_step(
    dir: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
    mode: Mode,
    more: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    let between = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let last = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    if path.starts_with(b"/") {
        return Err(Errno::XDEV);
    }
    // A file system mounted twice has one device: only the kernel's own way tells that apart.
    let home = rustix::fs::fstat(dir)?.st_dev;
    let stays = |fd: OwnedFd| match more.contains(ResolveFlags::NO_XDEV) {
        true if rustix::fs::fstat(&fd)?.st_dev != home => Err(Errno::XDEV),
        _ => Ok(fd),
    };
    let mut components = path.split(|it| *it == b'/').filter(|it| !it.is_empty()).peekable();
    let mut at: Option<OwnedFd> = None;
    while let Some(component) = components.next() {
        if component == b".." {
            return Err(Errno::XDEV);
        }
        let here = at.as_ref().map_or(dir, AsFd::as_fd);
        if components.peek().is_none() {
            return stays(rustix::fs::openat(here, component, last, mode)?);
        }
        at = Some(stays(rustix::fs::openat(here, component, between, Mode::empty())?)?);
    }
    rustix::fs::openat(dir, ".", last, mode)
}

/// Renames a file within a directory, if nothing has the new name.
///
/// A file system that cannot do both at once (FUSE) is looked at first; there, who puts a file at the
/// name in just that moment loses it.
fn rename_new(dir: &OwnedFd, from: &[u8], to: &[u8]) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(dir, from, dir, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match rustix::fs::statat(dir, to, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => rustix::fs::renameat(dir, from, dir, to),
                Ok(_) => Err(Errno::EXIST),
                Err(it) => Err(it),
            }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
