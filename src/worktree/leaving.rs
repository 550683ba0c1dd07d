//! What leaves the disk is freed by others.
//!
//! The kernel frees what a file held when its last reference goes. Where another file takes its
//! name, that is while the directory is locked, and takes as long as the device needs to hear of it
//! (`discard` in `mount(8)`). So a file is held open until its name is gone, and closed by threads
//! that do nothing else.

use crossbeam_channel::Sender;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

/// Threads that close files. They wait for a device and not for a core.
const THREADS: usize = 4;
/// So many files are held open at most.
const HELD_MAX: usize = 64;

/// Where files go that lose their name; its threads begin with the first and end with it.
#[derive(Debug, Default)]
pub(super) struct Leaving(OnceLock<Sender<OwnedFd>>);

impl Leaving {
    /// Holds the file that has a name in `dir` while that is taken from it. What cannot be held goes
    /// as it goes.
    pub(super) fn hold<T>(&self, dir: &OwnedFd, name: &[u8], take: impl FnOnce() -> T) -> T {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let old = rustix::fs::openat(dir, name, flags, Mode::empty());
        let taken = take();
        if let Ok(old) = old {
            self.close(old);
        }
        taken
    }

    /// Closes a file that may have no name any more.
    pub(super) fn close(&self, file: OwnedFd) {
        // Where all are busy it is closed here.
        let _ = self.0.get_or_init(threads).try_send(file);
    }
}

fn threads() -> Sender<OwnedFd> {
    let (sender, held) = crossbeam_channel::bounded::<OwnedFd>(HELD_MAX);
    for _ in 0..THREADS {
        let held = held.clone();
        let thread = std::thread::Builder::new().name("leaving".to_owned());
        // Without any, nobody receives, and whoever sends closes the file.
        let _ = thread.spawn(move || held.into_iter().for_each(drop));
    }
    sender
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    #[test]
    fn what_loses_its_name_is_gone_soon_after() {
        let dir = tempfile::tempdir().unwrap();
        let fd = OwnedFd::from(File::open(dir.path()).unwrap());
        let path = |n: usize| dir.path().join(n.to_string());
        let leaving = Leaving::default();
        for n in 0..HELD_MAX * 4 {
            fs::write(path(n), "old").unwrap();
            let beside = dir.path().join("beside");
            fs::write(&beside, "new").unwrap();
            let name = n.to_string();
            leaving.hold(&fd, name.as_bytes(), || fs::rename(&beside, path(n))).unwrap();
            assert_eq!(fs::read(path(n)).unwrap(), b"new");
        }
        let absent = leaving.hold(&fd, b"absent", || fs::remove_file(dir.path().join("absent")));
        assert!(absent.is_err());
        let held = || {
            let all = fs::read_dir("/proc/self/fd").unwrap().flatten();
            let all = all.filter_map(|it| fs::read_link(it.path()).ok());
            all.filter(|it| it.starts_with(dir.path()) && it != dir.path()).count()
        };
        // As soon as each thread has had its turn.
        while held() > 0 {
            std::thread::yield_now();
        }
        drop(leaving);
    }
}
