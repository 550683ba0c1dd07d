//! A file that is not there yet: it takes its name whole, or goes away.

use super::{TEMP_PREFIX, WorkTree};
use crate::step::Step;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// How many names are tried: an earlier process may have had our number and left some.
const NAMES_MAX: u32 = 10_000;

/// A temporary file in a directory of ours, which goes away by itself unless it is persisted.
pub(super) struct Temp<'a> {
    dir: &'a OwnedFd,
    name: String,
    /// Open until it gets its name.
    file: Option<File>,
    kept: bool,
}

impl Temp<'_> {
    pub(super) fn file(&mut self) -> &mut File {
        self.file.as_mut().expect("it is closed by whoever takes the value")
    }

    /// Leaves it to the caller, who gives it its name.
    pub(super) fn keep(mut self) -> Vec<u8> {
        self.kept = true;
        self.name.clone().into_bytes()
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed is swept at the next start.
            let _ = rustix::fs::unlinkat(self.dir, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// A file that is written and waits for its name, closed meanwhile; it goes away unless it gets one.
pub(super) struct Unnamed<'a> {
    tree: &'a WorkTree,
    /// Where it lies, relative to the top.
    dir: &'a [u8],
    name: Vec<u8>,
    named: AtomicBool,
}

impl Unnamed<'_> {
    /// Gives it its name in its directory, which is open as `dir`, replacing what had it.
    pub(super) fn take_name(&self, dir: &OwnedFd, name: &[u8]) -> io::Result<()> {
        self.tree.steps.pass(Step::Rename)?;
        let rename = || rustix::fs::renameat(dir, &self.name[..], dir, name);
        self.tree.leaving.hold(dir, name, rename)?;
        self.named.store(true, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Unnamed<'_> {
    fn drop(&mut self) {
        if self.named.load(Ordering::Relaxed) {
            return;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        if let Ok(dir) = self.tree.beneath(self.dir, flags, Mode::empty()) {
            // What cannot be removed is swept at the next start.
            let _ = rustix::fs::unlinkat(&dir, &self.name[..], AtFlags::empty());
        }
    }
}

impl WorkTree {
    /// Closes a temporary file in `dir`, which gets its name later.
    pub(super) fn unnamed<'a>(&'a self, temp: Temp<'_>, dir: &'a [u8]) -> Unnamed<'a> {
        Unnamed { tree: self, dir, name: temp.keep(), named: AtomicBool::new(false) }
    }

    /// Makes a temporary file in `dir`.
    pub(super) fn temp_in<'a>(&self, dir: &'a OwnedFd) -> io::Result<Temp<'a>> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        self.steps.pass(Step::WriteFile)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // 0666 less the umask, as git makes files.
        let mode = Mode::from_raw_mode(0o666);
        for _ in 0..NAMES_MAX {
            let n = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("{TEMP_PREFIX}{:x}-{n:x}.tmp", std::process::id());
            match rustix::fs::openat(dir, name.as_str(), flags, mode) {
                Ok(fd) => return Ok(Temp { dir, name, file: Some(File::from(fd)), kept: false }),
                Err(Errno::EXIST | Errno::INTR) => (),
                Err(it) => return Err(it.into()),
            }
        }
        Err(io::Error::other("temporary files of an earlier run are in the way"))
    }

    /// Gives a temporary file its name, replacing what had it.
    pub(super) fn persist(&self, mut temp: Temp<'_>, name: &[u8]) -> io::Result<()> {
        self.steps.pass(Step::Rename)?;
        // Closed first: the kernel would tell of its closing under its new name.
        temp.file = None;
        let rename = || rustix::fs::renameat(temp.dir, temp.name.as_str(), temp.dir, name);
        self.leaving.hold(temp.dir, name, rename)?;
        temp.kept = true;
        Ok(())
    }
}
