//! Watching `raw/`: the kernel says *that* something changed, and sometimes what.
//!
//! A wake is a hint and no more: lose all of them and the periodic look finds everything.
//! Directories are watched one by one, because a recursive watch fails as a whole on one unreadable
//! directory, and access events are masked out, because an agent that reads what it watches would
//! wake itself for ever.

use super::{Error, TEMP_PREFIX, list};
use crate::model::path::{RawPath, RepoPath};
use crossbeam_channel::{Sender, TrySendError};
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind, RenameMode};
use notify::{Config, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// How many directories below all `raw/` of a repository are watched; the rest is polled.
const WATCHES_MAX: usize = 50_000;
const DEPTH_MAX: usize = 32;

/// A hint that something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// A file was closed by its writer or moved in: it will not grow.
    Closed {
        /// Which fabric, by its place in the list given to [`Watcher::new`].
        fabric: usize,
        /// Which file, relative to `raw/`.
        path: RawPath,
    },
    /// Something else below `raw/`.
    Touched {
        /// Which fabric.
        fabric: usize,
    },
    /// A directory appeared, or events were lost: watches must be brought up to date.
    Rescan,
}

/// Tells a directory from another one that has its name, and even its inode, later.
type Identity = (u64, u64, Option<SystemTime>);

/// The kernel's eye on the `raw/` directories of one repository.
pub struct Watcher {
    watcher: RecommendedWatcher,
    watched: HashMap<PathBuf, Identity>,
    short: bool,
    raws: Vec<PathBuf>,
    lost: Arc<AtomicBool>,
}

impl Watcher {
    /// Begins to watch; wakes go to `sender`, which never blocks the kernel's queue: when it is
    /// full, [`Watcher::lost_wakes`] says so.
    pub fn new(top: &Path, raws: &[RepoPath], sender: Sender<Wake>) -> Result<Watcher, Error> {
        let raws: Vec<PathBuf> = raws.iter().map(|it| top.join(it.as_path())).collect();
        let lost = Arc::new(AtomicBool::new(false));
        let (seen_raws, seen_lost) = (raws.clone(), lost.clone());
        let hear = move |event: notify::Result<notify::Event>| {
            for wake in wakes(&seen_raws, event) {
                if let Err(TrySendError::Full(_)) = sender.try_send(wake) {
                    seen_lost.store(true, Ordering::Relaxed);
                }
            }
        };
        let mask = EventKindMask::CREATE
            | EventKindMask::REMOVE
            | EventKindMask::MODIFY_NAME
            | EventKindMask::ACCESS_CLOSE;
        let config = Config::default().with_event_kinds(mask).with_follow_symlinks(false);
        let watcher = RecommendedWatcher::new(hear, config)
            .map_err(|source| Error::Watch { path: top.display().to_string(), source })?;
        let mut it = Watcher { watcher, watched: HashMap::new(), short: false, raws, lost };
        match it.catch_up() {
            Err(Error::Watch { source, .. }) if is_exhausted(&source) => Ok(it),
            done => done.map(|()| it),
        }
    }

    /// Says whether some directories go unwatched, because the kernel (see
    /// `fs.inotify.max_user_watches`) or our own limit has no watch left for them. Only the
    /// periodic look finds what is dropped there.
    pub fn is_short(&self) -> bool {
        self.short
    }

    /// Says whether wakes were lost since the last call, because nobody took them in time.
    pub fn lost_wakes(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }

    /// Watches directories that appeared. Each is watched before it is listed, so that nothing
    /// falls between the two.
    ///
    /// # Errors
    /// When the kernel has no watches left; those that stand go on working.
    pub fn catch_up(&mut self) -> Result<(), Error> {
        self.short = false;
        self.forget_the_gone();
        let mut todo: Vec<(PathBuf, usize)> = Vec::new();
        for raw in &self.raws {
            // The fabric itself, so that a raw/ that is removed and made again is noticed.
            todo.extend(raw.parent().map(|it| (it.to_owned(), DEPTH_MAX)));
            todo.push((raw.clone(), 0));
        }
        while let Some((dir, depth)) = todo.pop() {
            let Some(identity) = identity(&dir) else { continue };
            if !self.watched.contains_key(&dir) {
                if self.watched.len() >= WATCHES_MAX {
                    self.short = true;
                    continue;
                }
                match self.watcher.watch(&dir, RecursiveMode::NonRecursive) {
                    Ok(()) => self.watched.insert(dir.clone(), identity),
                    // Removed meanwhile, or not ours to read: the periodic look tells.
                    Err(it) if !is_exhausted(&it) => continue,
                    Err(source) => {
                        self.short = true;
                        return Err(Error::Watch { path: dir.display().to_string(), source });
                    }
                };
            }
            if depth >= DEPTH_MAX {
                continue;
            }
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                let hidden = entry.file_name().as_bytes().starts_with(b".");
                if !hidden && entry.file_type().is_ok_and(|it| it.is_dir()) {
                    todo.push((entry.path(), depth + 1));
                }
            }
        }
        Ok(())
    }

    /// Gives back the watches of directories that are gone, or whose name another one has now.
    fn forget_the_gone(&mut self) {
        let Watcher { watcher, watched, .. } = self;
        watched.retain(|dir, before| {
            let same = identity(dir).is_some_and(|now| now == *before);
            if !same {
                // Fails where the kernel has dropped the watch with the directory.
                let _ = watcher.unwatch(dir);
            }
            same
        });
    }
}

/// What `dir` is; none where it is no directory.
fn identity(dir: &Path) -> Option<Identity> {
    let found = std::fs::symlink_metadata(dir).ok().filter(std::fs::Metadata::is_dir)?;
    Some((found.dev(), found.ino(), found.created().ok()))
}

/// Says whether the kernel's limit on watches is what stands in the way.
pub fn is_exhausted(error: &notify::Error) -> bool {
    matches!(error.kind, notify::ErrorKind::MaxFilesWatch)
}

/// What one kernel event means to us.
fn wakes(raws: &[PathBuf], event: notify::Result<notify::Event>) -> Vec<Wake> {
    let Ok(event) = event else { return vec![Wake::Rescan] };
    if event.need_rescan() {
        return vec![Wake::Rescan];
    }
    let mut found = Vec::new();
    for path in &event.paths {
        let Some((fabric, below)) = below_raw(raws, path) else {
            // The fabric's directory is watched only for its raw/ coming and going.
            if raws.contains(path) {
                found.push(Wake::Rescan);
            }
            continue;
        };
        let name = path.file_name().map_or(&b""[..], OsStrExt::as_bytes);
        if name.starts_with(TEMP_PREFIX.as_bytes()) || list::is_passed_over(name) {
            // Our own claims and reports, and editors' leftovers, wake nobody. A report that a
            // person removes makes no difference to what is in raw/.
            continue;
        }
        found.push(match event.kind {
            EventKind::Create(CreateKind::Folder) => Wake::Rescan,
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                if list::has_drop_name(name) {
                    Wake::Closed { fabric, path: below }
                } else {
                    // A directory that moved in brings files that no event names.
                    Wake::Rescan
                }
            }
            _ => Wake::Touched { fabric },
        });
    }
    found.dedup();
    found
}

fn below_raw(raws: &[PathBuf], path: &Path) -> Option<(usize, RawPath)> {
    let found =
        raws.iter().enumerate().find_map(|(n, raw)| Some((n, path.strip_prefix(raw).ok()?)));
    let (n, below) = found?;
    (!below.as_os_str().is_empty()).then(|| (n, RawPath::new(below.as_os_str().as_bytes())))
}
