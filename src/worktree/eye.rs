//! An eye on `managed/`: the kernel says that somebody else has touched something there.
//!
//! Whoever looks for edits by hand may leave out the look at every file as long as the eye stood open
//! and saw nothing. So it is closed rather than half blind: where a directory cannot be watched, when
//! something of ours failed, and while thousands of files of ours get their names, since what the
//! kernel tells of those costs more than a look.
//! What the agent does itself is told to the eye first, by name, and is passed over.
//! A file that stays open, or that is written under a second name elsewhere, is not told of: somebody
//! has to look now and then all the same.

use super::mounts::{self, Sight};
use super::watch::Wake;
use crate::model::path::RepoPath;
use crossbeam_channel::Sender;
use notify::event::{CreateKind, EventKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Config, EventKindMask, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{HashMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// More directories than this are not watched; then every file is looked at.
const DIRECTORIES_MAX: usize = 10_000;
/// How deep directories are watched; the look for edits goes no deeper.
const DEPTH_MAX: usize = 32;
/// So many files of ours are told at once; for more the eye closes.
const TOLD_AT_ONCE_MAX: usize = 1_000;
/// So many names are remembered; more means that nobody is listening.
const TOLD_MAX: usize = 10_000;

/// The eye of one work tree. Clones share it.
#[derive(Clone, Default)]
pub struct Eye {
    /// Never locked together with what the kernel's thread locks: it answers the calls made on it.
    watcher: Arc<Mutex<Option<RecommendedWatcher>>>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    open: AtomicBool,
    touches: AtomicU64,
    told: Mutex<Told>,
}

/// What we do ourselves.
#[derive(Default)]
struct Told {
    /// The directories that are watched, with all below them.
    tops: Vec<PathBuf>,
    /// How often the kernel will tell of each.
    paths: HashMap<PathBuf, u32>,
    /// Directories that we removed; the kernel tells of each more than once.
    gone: HashSet<PathBuf>,
}

impl std::fmt::Debug for Eye {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Eye").field("open", &self.is_open()).finish_non_exhaustive()
    }
}

impl Eye {
    /// Watches these directories and all below them, as far as the kernel can; says whether it does.
    /// What was touched before is not known, so this counts as a touch.
    pub fn open(&self, top: &Path, dirs: &[RepoPath], sender: &Sender<Wake>) -> bool {
        let tops: Vec<PathBuf> = dirs.iter().map(|it| top.join(it.as_path())).collect();
        self.close();
        {
            let mut told = self.seen.told();
            told.paths.clear();
            told.gone.clear();
            told.tops.clone_from(&tops);
        }
        let mut watcher = lock(&self.watcher);
        *watcher = self.watch(&tops, sender);
        self.seen.open.store(watcher.is_some(), Ordering::SeqCst);
        self.seen.touches.fetch_add(1, Ordering::SeqCst);
        watcher.is_some()
    }

    /// Says whether it has seen every touch since it was opened.
    pub fn is_open(&self) -> bool {
        self.seen.open.load(Ordering::SeqCst)
    }

    /// How often something was touched; it only grows.
    pub fn touches(&self) -> u64 {
        self.seen.touches.load(Ordering::SeqCst)
    }

    /// Sees nothing from now on.
    pub fn close(&self) {
        self.seen.open.store(false, Ordering::SeqCst);
        lock(&self.watcher).take();
    }

    /// What is about to appear or to go at these places, below `top`, is our doing.
    pub(super) fn tell<'a>(&self, top: &Path, paths: impl ExactSizeIterator<Item = &'a [u8]>) {
        if !self.is_open() {
            return;
        }
        let mut told = self.seen.told();
        if paths.len() > TOLD_AT_ONCE_MAX || told.paths.len() > TOLD_MAX {
            drop(told);
            return self.close();
        }
        for path in paths {
            let path = top.join(Path::new(std::ffi::OsStr::from_bytes(path)));
            if told.tops.iter().any(|it| path.starts_with(it)) {
                *told.paths.entry(path).or_default() += 1;
            }
        }
    }

    /// An empty directory is about to go by our doing.
    pub(super) fn empties(&self, top: &Path, dir: &RepoPath) {
        let mut told = self.seen.told();
        if told.gone.len() > TOLD_MAX {
            drop(told);
            return self.close();
        }
        told.gone.insert(top.join(dir.as_path()));
    }

    /// It did not go.
    pub(super) fn stays(&self, top: &Path, dir: &RepoPath) {
        self.seen.told().gone.remove(&top.join(dir.as_path()));
    }

    /// A directory is ours and new; what comes into it is to be seen.
    pub(super) fn made(&self, top: &Path, dir: &RepoPath) {
        let place = top.join(dir.as_path());
        let mut told = self.seen.told();
        told.gone.remove(&place);
        if !self.is_open() || !told.tops.iter().any(|it| place.starts_with(it)) {
            return;
        }
        drop(told);
        let mut watcher = lock(&self.watcher);
        let watched = watcher.as_mut().map(|it| it.watch(&place, RecursiveMode::NonRecursive));
        if !matches!(watched, Some(Ok(()))) {
            drop(watcher);
            self.close();
        }
    }

    fn watch(&self, tops: &[PathBuf], sender: &Sender<Wake>) -> Option<RecommendedWatcher> {
        let (seen, sender) = (self.seen.clone(), sender.clone());
        let hear = move |event: notify::Result<notify::Event>| {
            if seen.touched(event) {
                seen.touches.fetch_add(1, Ordering::SeqCst);
                // Whoever does not take it is awake anyway, and asks for the number.
                let _ = sender.try_send(Wake::Touched);
            }
        };
        let mask = EventKindMask::CREATE
            | EventKindMask::REMOVE
            | EventKindMask::MODIFY_NAME
            | EventKindMask::ACCESS_CLOSE;
        let config = Config::default().with_event_kinds(mask).with_follow_symlinks(false);
        let mut watcher = RecommendedWatcher::new(hear, config).ok()?;
        let mut directories = 0;
        for top in tops {
            if mounts::sight(top) != Sight::Whole {
                return None;
            }
            // The one above it, so that it is noticed when it is removed and made again.
            watcher.watch(top.parent()?, RecursiveMode::NonRecursive).ok()?;
            let mut todo = vec![(top.clone(), 0)];
            while let Some((dir, depth)) = todo.pop() {
                // Before it is listed, so that nothing falls between the two.
                match watcher.watch(&dir, RecursiveMode::NonRecursive) {
                    Ok(()) => directories += 1,
                    Err(_) if !dir.exists() => continue,
                    Err(_) => return None,
                }
                if directories > DIRECTORIES_MAX || depth > DEPTH_MAX {
                    return None;
                }
                for entry in std::fs::read_dir(&dir).ok()?.flatten() {
                    if !is_hidden(&entry.path()) && entry.file_type().is_ok_and(|it| it.is_dir()) {
                        todo.push((entry.path(), depth + 1));
                    }
                }
            }
        }
        Some(watcher)
    }
}

impl Seen {
    fn told(&self) -> MutexGuard<'_, Told> {
        lock(&self.told)
    }

    /// Says whether an event tells of somebody else.
    fn touched(&self, event: notify::Result<notify::Event>) -> bool {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            _ => {
                self.open.store(false, Ordering::SeqCst);
                return true;
            }
        };
        // A rename within was told already, as a removal and an arrival.
        if event.kind == EventKind::Modify(ModifyKind::Name(RenameMode::Both)) {
            return false;
        }
        let Some(path) = event.paths.first() else { return false };
        let mut told = self.told();
        if is_hidden(path) || !told.tops.iter().any(|it| path.starts_with(it)) {
            return false;
        }
        let arrives = match event.kind {
            EventKind::Create(CreateKind::Folder) => true,
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => path.is_dir(),
            _ => false,
        };
        let removal = matches!(event.kind, EventKind::Remove(_));
        if told.expects(path) || (removal && told.gone.contains(path)) {
            return false;
        }
        // A directory of somebody else's is not watched yet, and one that is gone may come again.
        if arrives || event.kind == EventKind::Remove(RemoveKind::Folder) {
            told.gone.remove(path);
            self.open.store(false, Ordering::SeqCst);
        }
        true
    }
}

impl Told {
    /// Says whether what the kernel tells is our doing; once for each time that we told.
    fn expects(&mut self, path: &Path) -> bool {
        let Some(times) = self.paths.get_mut(path) else { return false };
        *times -= 1;
        if *times == 0 {
            self.paths.remove(path);
        }
        true
    }
}

/// Half-written files of ours, and what editors leave beside a file.
fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|it| it.as_bytes().starts_with(b"."))
}

fn lock<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::step::Steps;
    use crate::worktree::WorkTree;
    use crossbeam_channel::Receiver;
    use std::fs;
    use std::time::Duration;

    struct Place {
        dir: tempfile::TempDir,
        tree: WorkTree,
        wakes: Receiver<Wake>,
        sender: Sender<Wake>,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("f/managed/vpcs")).unwrap();
        fs::create_dir_all(dir.path().join("f/raw")).unwrap();
        let tree = WorkTree::open(dir.path(), Steps::default()).unwrap();
        let (sender, wakes) = crossbeam_channel::unbounded();
        let it = Place { dir, tree, wakes, sender };
        assert!(it.open());
        it
    }

    impl Place {
        fn open(&self) -> bool {
            let managed = RepoPath::parse("f/managed").unwrap();
            self.tree.eye().open(self.dir.path(), &[managed], &self.sender)
        }

        fn write(&self, paths: &[String]) {
            let of = |it: &String| (RepoPath::parse(it).unwrap(), Arc::from(it.as_bytes()));
            self.tree.write_all(&paths.iter().map(of).collect::<Vec<_>>()).unwrap();
        }

        /// Somebody else moves a file in, which the kernel tells in one event.
        fn touch(&self, path: &str) {
            let beside = self.dir.path().join("beside");
            fs::write(&beside, "theirs").unwrap();
            fs::rename(beside, self.dir.path().join(path)).unwrap();
            let woken = self.wakes.recv_timeout(Duration::from_secs(10));
            assert_eq!(woken, Ok(Wake::Touched));
        }
    }

    #[test]
    fn only_what_others_do_is_a_touch() {
        let it = place();
        let before = it.tree.eye().touches();
        it.write(&["f/managed/vpcs/a.yaml".to_owned()]);
        it.write(&["f/managed/vpcs/a.yaml".to_owned(), "f/managed/new/b.yaml".to_owned()]);
        let many: Vec<String> = (0..100).map(|n| format!("f/managed/vpcs/{n}.yaml")).collect();
        it.write(&many);
        it.write(&["f/raw/reported.txt".to_owned()]);
        let gone = RepoPath::parse("f/managed/new/b.yaml").unwrap();
        it.tree.remove(&gone, &RepoPath::parse("f/managed").unwrap()).unwrap();
        it.touch("f/managed/vpcs/a.yaml");
        assert_eq!(it.tree.eye().touches(), before + 1);
        assert!(it.tree.eye().is_open());
    }

    #[test]
    fn directories_of_ours_are_seen_into_at_once_and_those_of_others_after_a_new_look() {
        let it = place();
        it.write(&["f/managed/new/deep/b.yaml".to_owned()]);
        it.touch("f/managed/new/deep/c.yaml");
        assert!(it.tree.eye().is_open());
        fs::create_dir(it.dir.path().join("f/managed/theirs")).unwrap();
        assert_eq!(it.wakes.recv_timeout(Duration::from_secs(10)), Ok(Wake::Touched));
        assert!(!it.tree.eye().is_open());
        let before = it.tree.eye().touches();
        assert!(it.open() && it.tree.eye().touches() > before);
        it.touch("f/managed/theirs/d.yaml");
    }

    #[test]
    fn it_closes_for_a_flood_and_where_something_failed() {
        let it = place();
        let many: Vec<String> =
            (0..=TOLD_AT_ONCE_MAX).map(|n| format!("f/managed/{n}.yaml")).collect();
        it.write(&many);
        assert!(!it.tree.eye().is_open());
        assert!(it.open());
        fs::create_dir(it.dir.path().join("f/managed/vpcs/a.yaml")).unwrap();
        assert_eq!(it.wakes.recv_timeout(Duration::from_secs(10)), Ok(Wake::Touched));
        assert!(it.open());
        let path = RepoPath::parse("f/managed/vpcs/a.yaml").unwrap();
        assert!(it.tree.write_all(&[(path, Arc::from(&b"a"[..]))]).is_err());
        assert!(!it.tree.eye().is_open());
    }
}
