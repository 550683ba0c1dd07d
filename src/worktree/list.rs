//! Listing `raw/`: every entry that could be a drop, with what tells whether it changed.

use super::ignore::{Ignores, has_drop_name};
use super::{Error, WorkTree, beneath_on, mounts};
use crate::clock;
use crate::model::path::RepoPath;
use crate::model::report::Ignored;
use crate::pipeline::discovery::{Entry, EntryType, Fingerprint};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

/// How deep directories may nest; deeper ones count as unreadable.
pub const DEPTH_MAX: usize = 32;
/// Directories that wait to be looked into; what is beyond counts as unreadable.
const DIRECTORIES_MAX: usize = 1_000_000;

/// One entry of `raw/`, in no particular order.
#[derive(Debug)]
pub enum Listed<'a> {
    /// It could be a drop.
    Entry(Entry<'a>),
    /// It is none. Of a directory nothing below it is listed.
    Ignored {
        /// Where, relative to `raw/`.
        path: &'a [u8],
        /// It is a directory.
        directory: bool,
        /// Why.
        why: Ignored,
    },
}

/// The times of a `raw/` that holds no directory. While they stay, nothing came into it and nothing
/// left it, so what held no drop holds none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stillness {
    inode: (u64, u64),
    changed: (i64, i64),
}

/// A directory that changed within this may change again without a sign: clocks of file systems tick
/// every few milliseconds. In seconds.
const STILL_AFTER_S: i64 = 2;

impl WorkTree {
    /// What tells a later look whether anything came into or left `raw`: nothing, where it holds
    /// directories, where its file system does not say so, or where it has just changed.
    pub fn stillness(&self, raw: &RepoPath) -> Option<Stillness> {
        let directory = self.directory(raw).ok()?;
        let found = rustix::fs::fstat(&directory).ok()?;
        let age = clock::now().as_second().checked_sub(found.st_ctime)?;
        let still = age >= STILL_AFTER_S && mounts::holds_no_directory(&directory, &found);
        still.then_some(Stillness {
            inode: (found.st_dev, found.st_ino),
            changed: (found.st_ctime, found.st_ctime_nsec as i64),
        })
    }

    /// Lists what lies below `raw`, without opening any of it, without following links, and without
    /// keeping any of it. A missing `raw` is an empty listing.
    ///
    /// # Errors
    /// When `raw` itself cannot be read, or the process has no descriptors or memory left. One
    /// directory below it in trouble keeps no other from being listed.
    pub fn list_raw(
        &self,
        raw: &RepoPath,
        ignores: &Ignores,
        take: &mut dyn FnMut(Listed<'_>),
    ) -> Result<(), Error> {
        self.check_directory(raw)?;
        let top = match self.directory(raw) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(()),
            Err(it) => return Err(Error::file("list", raw.as_str().as_bytes(), it)),
        };
        let mut todo: Vec<(Vec<u8>, usize)> = vec![(Vec::new(), 0)];
        while let Some((below, depth)) = todo.pop() {
            let listed = self.open_below(&top, &below).and_then(|fd| {
                let here = Here { fd, below: &below, depth, ignores };
                here.entries(take, &mut todo)
            });
            match listed {
                Ok(()) => (),
                // Removed or replaced between listing and opening: the next listing sees what it is.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => (),
                Err(it @ (Errno::MFILE | Errno::NFILE | Errno::NOMEM)) => {
                    return Err(Error::file("list", &below, it));
                }
                Err(it) if below.is_empty() => {
                    return Err(Error::file("list", raw.as_str().as_bytes(), it));
                }
                Err(_) => {
                    let why = Ignored::Unreadable;
                    take(Listed::Ignored { path: &below, directory: true, why });
                }
            }
        }
        Ok(())
    }

    fn open_below(&self, top: &OwnedFd, below: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        beneath_on(top, below, flags, Mode::empty(), self.resolve)
    }
}

struct Here<'a> {
    fd: OwnedFd,
    below: &'a [u8],
    depth: usize,
    ignores: &'a Ignores,
}

impl Here<'_> {
    fn entries(
        &self,
        take: &mut dyn FnMut(Listed<'_>),
        todo: &mut Vec<(Vec<u8>, usize)>,
    ) -> Result<(), Errno> {
        let mut path = self.below.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        let above = path.len();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            path.truncate(above);
            path.extend_from_slice(name);
            let directory = entry.file_type() == FileType::Directory;
            // Most file systems say what an entry is; where one does not, it is asked below.
            if entry.file_type() != FileType::Unknown
                && let Some(why) = self.ignores.why(&path, directory)
            {
                take(Listed::Ignored { path: &path, directory, why });
                continue;
            }
            let named = has_drop_name(name);
            if !named && !matches!(entry.file_type(), FileType::Directory | FileType::Unknown) {
                take(Listed::Ignored { path: &path, directory, why: Ignored::NotNamed });
                continue;
            }
            let Ok(found) = rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if entry.file_type() == FileType::Unknown {
                let directory = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
                if let Some(why) = self.ignores.why(&path, directory) {
                    take(Listed::Ignored { path: &path, directory, why });
                    continue;
                }
            }
            self.entry(&path, named, &found, take, todo);
        }
        Ok(())
    }

    fn entry(
        &self,
        path: &[u8],
        named: bool,
        found: &Stat,
        take: &mut dyn FnMut(Listed<'_>),
        todo: &mut Vec<(Vec<u8>, usize)>,
    ) {
        let file_type = FileType::from_raw_mode(found.st_mode);
        let directory = file_type == FileType::Directory;
        if directory && !named {
            if self.depth < DEPTH_MAX && todo.len() < DIRECTORIES_MAX {
                todo.push((path.to_vec(), self.depth + 1));
            } else {
                take(Listed::Ignored { path, directory, why: Ignored::Unreadable });
            }
        } else if !named {
            take(Listed::Ignored { path, directory, why: Ignored::NotNamed });
        } else {
            take(Listed::Entry(Entry {
                path,
                entry_type: match file_type {
                    FileType::RegularFile => EntryType::Regular,
                    FileType::Symlink => EntryType::Symlink,
                    FileType::Directory => EntryType::Directory,
                    _ => EntryType::Special,
                },
                fingerprint: fingerprint(found),
            }));
        }
    }
}

/// What tells whether a file changed.
pub(super) fn fingerprint(found: &Stat) -> Fingerprint {
    Fingerprint {
        bytes: u64::try_from(found.st_size).unwrap_or(0),
        inode: found.st_ino,
        modified: (found.st_mtime, found.st_mtime_nsec),
        changed: (found.st_ctime, found.st_ctime_nsec),
    }
}
