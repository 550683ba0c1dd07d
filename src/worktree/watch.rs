//! Watching `raw/`: the kernel says *that* something changed, and sometimes what.
//!
//! A wake is a hint and no more: lose all of them and the periodic look finds everything.
//! Directories are watched one by one, because a recursive watch fails as a whole on one unreadable
//! directory, and access events are masked out, because an agent that reads what it watches would
//! wake itself for ever.
//! What the agent itself does in `raw/` wakes nobody: its own files have names of their own, and
//! the drops that it takes away are told to the watcher first.
//! Where the kernel cannot tell (no watches left, a network file system) somebody has to look now
//! and then instead; [`Watcher::blind`] says so, with the reason.

use super::mounts::{self, Sight};
use super::{Ignores, OwnMoves, ignore};
use crate::model::path::{RawPath, RepoPath};
use crossbeam_channel::{Sender, TrySendError};
use notify::event::{AccessKind, AccessMode, CreateKind, EventKind, ModifyKind};
use notify::event::{RemoveKind, RenameMode};
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
/// Where the kernel keeps its own limits.
const LIMITS: &str = "/proc/sys/fs/inotify";

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
    /// A file appeared, and its writer may still be at work.
    Begun {
        /// Which fabric.
        fabric: usize,
    },
    /// Somebody took a file away.
    Gone {
        /// Which fabric.
        fabric: usize,
    },
    /// A directory appeared or went, or events were lost: watches must be brought up to date.
    Rescan,
    /// Somebody else changed something in `managed/` ([`super::Eye`]).
    Touched,
}

/// One `raw/` to watch.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Where, relative to the top of the work tree.
    pub raw: RepoPath,
    /// What in it is no drop.
    pub ignores: Ignores,
}

/// Tells a directory from another one that has its name, and even its inode, later.
type Identity = (u64, u64, Option<SystemTime>);

/// The kernel's eye on the `raw/` directories of one repository.
pub struct Watcher {
    /// None where the kernel gives us no eye at all.
    watcher: Option<RecommendedWatcher>,
    watched: HashMap<PathBuf, Identity>,
    eyes: Arc<Eyes>,
    blind: Option<String>,
    lost: Arc<AtomicBool>,
}

/// What the kernel's thread needs to judge an event.
struct Eyes {
    top: PathBuf,
    raws: Vec<(PathBuf, Ignores)>,
    own: OwnMoves,
}

impl Watcher {
    /// Begins to watch; wakes go to `sender`, which never blocks the kernel's queue: when it is
    /// full, [`Watcher::lost_wakes`] says so. Always gives a watcher, be it a blind one.
    pub fn new(top: &Path, raws: Vec<Watched>, own: OwnMoves, sender: Sender<Wake>) -> Watcher {
        let raws = raws.into_iter().map(|it| (top.join(it.raw.as_path()), it.ignores)).collect();
        let eyes = Arc::new(Eyes { top: top.to_owned(), raws, own });
        let lost = Arc::new(AtomicBool::new(false));
        let (seen, seen_lost) = (eyes.clone(), lost.clone());
        let hear = move |event: notify::Result<notify::Event>| {
            if let Some(wake) = seen.wake(event)
                && let Err(TrySendError::Full(_)) = sender.try_send(wake)
            {
                seen_lost.store(true, Ordering::Relaxed);
            }
        };
        let mask = EventKindMask::CREATE
            | EventKindMask::REMOVE
            | EventKindMask::MODIFY_NAME
            | EventKindMask::ACCESS_CLOSE;
        let config = Config::default().with_event_kinds(mask).with_follow_symlinks(false);
        let (watcher, blind) = match RecommendedWatcher::new(hear, config) {
            Ok(it) => (Some(it), None),
            Err(error) => (None, Some(no_eye(&error))),
        };
        let mut it = Watcher { watcher, watched: HashMap::new(), eyes, blind, lost };
        it.catch_up();
        it
    }

    /// Why somebody has to look now and then instead of waiting for a wake, with the way out; none
    /// where the kernel tells of everything.
    pub fn blind(&self) -> Option<&str> {
        self.blind.as_deref()
    }

    /// Says whether wakes were lost since the last call, because nobody took them in time.
    pub fn lost_wakes(&self) -> bool {
        self.lost.swap(false, Ordering::Relaxed)
    }

    /// Says whether every `raw/`, and the directory it lies in, is the one that is watched.
    pub fn stands(&self) -> bool {
        self.watcher.is_none()
            || self.eyes.places().all(|it| identity(it) == self.watched.get(it).copied())
    }

    /// Watches directories that appeared. Each is watched before it is listed, so that nothing
    /// falls between the two.
    pub fn catch_up(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        self.blind = None;
        forget_the_gone(watcher, &mut self.watched);
        let mut todo: Vec<(PathBuf, Option<(usize, usize)>)> = Vec::new();
        for (n, (raw, _)) in self.eyes.raws.iter().enumerate() {
            // The fabric itself, so that a raw/ that is removed and made again is noticed.
            todo.extend(raw.parent().map(|it| (it.to_owned(), None)));
            todo.push((raw.clone(), Some((n, 0))));
            if let Sight::Blind(name) = mounts::sight(raw) {
                self.blind = Some(format!(
                    "{} lies on {name}, where the kernel does not tell of every change",
                    raw.display()
                ));
            }
        }
        while let Some((dir, place)) = todo.pop() {
            let Some(identity) = identity(&dir) else { continue };
            if !self.watched.contains_key(&dir) {
                if self.watched.len() >= WATCHES_MAX {
                    self.blind = Some(format!("raw/ has more than {WATCHES_MAX} directories"));
                    continue;
                }
                match watcher.watch(&dir, RecursiveMode::NonRecursive) {
                    Ok(()) => {
                        self.watched.insert(dir.clone(), identity);
                    }
                    Err(it) if matches!(it.kind, notify::ErrorKind::MaxFilesWatch) => {
                        self.blind = Some(too_few_watches());
                        // Those that stand go on; asking for each of the rest would only cost time.
                        return;
                    }
                    // Removed meanwhile, or not ours to read: the periodic look tells.
                    Err(_) => continue,
                }
            }
            let Some((n, depth)) = place.filter(|it| it.1 < super::list::DEPTH_MAX) else {
                continue;
            };
            if mounts::has_no_directory(&dir) {
                continue;
            }
            let (raw, ignores) = &self.eyes.raws[n];
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.flatten().filter(|it| it.file_type().is_ok_and(|it| it.is_dir())) {
                let path = entry.path();
                let below = path.strip_prefix(raw).unwrap_or(&path);
                if ignores.why(below.as_os_str().as_bytes(), true).is_none() {
                    todo.push((path, Some((n, depth + 1))));
                }
            }
        }
    }
}

/// Gives back the watches of directories that are gone, or whose name another one has now.
fn forget_the_gone(watcher: &mut RecommendedWatcher, watched: &mut HashMap<PathBuf, Identity>) {
    watched.retain(|dir, before| {
        let same = identity(dir).is_some_and(|now| now == *before);
        if !same {
            // Fails where the kernel has dropped the watch with the directory.
            let _ = watcher.unwatch(dir);
        }
        same
    });
}

/// What `dir` is; none where it is no directory.
fn identity(dir: &Path) -> Option<Identity> {
    let found = std::fs::symlink_metadata(dir).ok().filter(std::fs::Metadata::is_dir)?;
    Some((found.dev(), found.ino(), found.created().ok()))
}

fn limit(name: &str) -> String {
    let read = std::fs::read_to_string(format!("{LIMITS}/{name}"));
    read.map(|it| format!(" = {}", it.trim())).unwrap_or_default()
}

fn too_few_watches() -> String {
    format!(
        "the kernel has no watches left for all of raw/ (fs.inotify.max_user_watches{0}); give it more: sysctl \
         fs.inotify.max_user_watches=1048576",
        limit("max_user_watches")
    )
}

fn no_eye(error: &notify::Error) -> String {
    format!(
        "the kernel gives us no inotify instance ({error}; fs.inotify.max_user_instances{}); give it more: \
         sysctl fs.inotify.max_user_instances=1024",
        limit("max_user_instances")
    )
}

impl Eyes {
    /// Each `raw/`, and the directory it lies in.
    fn places(&self) -> impl Iterator<Item = &Path> {
        self.raws.iter().flat_map(|(raw, _)| [Some(raw.as_path()), raw.parent()]).flatten()
    }

    /// What one kernel event means to us.
    fn wake(&self, event: notify::Result<notify::Event>) -> Option<Wake> {
        let Ok(event) = event else { return Some(Wake::Rescan) };
        if event.need_rescan() {
            self.own.clear();
            return Some(Wake::Rescan);
        }
        // A rename within raw/ was told already, as a removal and an arrival.
        if event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both)) {
            return None;
        }
        let path = event.paths.first()?;
        let Some((fabric, below)) = self.below_raw(path) else {
            // The fabric's directory is watched only for its raw/ coming and going.
            return self.places().any(|it| it == path).then_some(Wake::Rescan);
        };
        let leaves = matches!(
            event.kind,
            EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
        );
        if leaves && self.own.was_told(path.strip_prefix(&self.top).ok()?.as_os_str().as_bytes()) {
            return None;
        }
        if self.raws[fabric].1.why_anywhere(below.as_bytes()).is_some() {
            return None;
        }
        let named = ignore::has_drop_name(below.file_name());
        match event.kind {
            EventKind::Create(CreateKind::Folder) | EventKind::Remove(RemoveKind::Folder) => {
                Some(Wake::Rescan)
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => match named {
                true => Some(Wake::Closed { fabric, path: below }),
                // A directory that moved in brings files that no event names.
                false => path.is_dir().then_some(Wake::Rescan),
            },
            EventKind::Remove(RemoveKind::File) if !named => None,
            // What it was cannot be asked any more: a directory takes its files along.
            _ if leaves && !named => Some(Wake::Rescan),
            _ if leaves => Some(Wake::Gone { fabric }),
            _ => named.then_some(Wake::Begun { fabric }),
        }
    }

    fn below_raw(&self, path: &Path) -> Option<(usize, RawPath)> {
        let found = self.raws.iter().enumerate();
        let mut found = found.filter_map(|(n, (raw, _))| Some((n, path.strip_prefix(raw).ok()?)));
        let (n, below) = found.next()?;
        (!below.as_os_str().is_empty()).then(|| (n, RawPath::new(below.as_os_str().as_bytes())))
    }
}
