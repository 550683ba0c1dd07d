//! The index follows our commits, for people's `git status`; what they staged stays as it is.

use super::locks::{self, Lock, Note, Taken};
use super::{Error, Repo};
use crate::model::ids::{BlobId, CommitId};
use crate::step::Step;
use bstr::{BString, ByteSlice};
use gix::ObjectId;
use gix::index::entry::{Flags, Mode, Stage, Stat};
use gix::objs::tree::{EntryKind, EntryMode};
use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::fs::{File, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexOutcome {
    /// The entries of these paths are those of HEAD.
    Refreshed,
    /// Somebody holds the index; the next refresh catches up.
    Locked,
}

/// In the git directory: a move of the branch that the index does not follow yet.
const OWED: &str = "intake/index";

/// Tells one state of the index file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexMark {
    inode: u64,
    bytes: u64,
    at: (i64, i64),
}

impl IndexMark {
    fn of(found: &Metadata) -> IndexMark {
        let at = (found.mtime(), found.mtime_nsec());
        IndexMark { inode: found.ino(), bytes: found.len(), at }
    }
}

impl Repo {
    /// How often somebody else wrote the index since this value looked at it first.
    pub fn index_changes(&self) -> u64 {
        let found = std::fs::metadata(self.gix.index_path()).ok().map(|it| IndexMark::of(&it));
        let (known, changes) = self.index_known.get();
        let changes = changes + u64::from(known != found);
        self.index_known.set((found, changes));
        changes
    }

    /// Says whether another process is changing the index.
    pub fn index_is_locked(&self) -> bool {
        !self.holds_index() && self.gix.index_path().with_extension("lock").exists()
    }

    /// Notes, before a branch moves, that the index has to follow. What was owed before stays owed.
    ///
    /// The note is on the disk before the branch: an index that nobody knows to be behind looks as if
    /// a person had staged the opposite. From here on the index is locked, too, until it has followed or
    /// [`Repo::let_go_of_index`] is called.
    pub(super) fn owe_index(&self, from: Option<CommitId>, to: CommitId) -> Result<(), Error> {
        let failed = |it: io::Error| Error::io("note what the index has to follow", it);
        let from = match self.owed().map_err(failed)? {
            Some((older, _)) => older,
            None => from,
        };
        let path = self.git_dir().join(OWED);
        let new = !path.exists();
        let file = self.note_owed(from, Some(to)).map_err(failed)?;
        self.steps.pass(Step::Sync).map_err(failed)?;
        file.sync_data().map_err(failed)?;
        match path.parent() {
            Some(dir) if new => File::open(dir).and_then(|it| it.sync_all()).map_err(failed)?,
            _ => (),
        }
        if let Err(error) = self.hold_index() {
            tracing::debug!(%error, "cannot lock the index; it follows without");
        }
        Ok(())
    }

    /// Locks the index, if nobody has it: who is at work with it right now cannot commit any more once
    /// the branch has moved, since git compares.
    fn hold_index(&self) -> io::Result<()> {
        if self.holds_index() {
            return Ok(());
        }
        self.steps.pass(Step::WriteIndex)?;
        let note = Note::write(self.git_dir(), "index", self.gix.index_path(), b"")?;
        if let Taken::Ours(it) = note.lock_within(Duration::ZERO)?
            && it.is_linked()
        {
            self.index_lock.replace(Some(it));
        }
        Ok(())
    }

    /// Says whether we keep everybody else from the index until it has followed.
    pub fn holds_index(&self) -> bool {
        self.index_lock.borrow().is_some()
    }

    /// Does what moves the branch. Where it was not moved after all, others get the index again, unless an
    /// earlier move keeps it.
    pub(super) fn moving<T>(
        &self,
        work: impl FnOnce() -> Result<T, Error>,
        moved: impl FnOnce(&T) -> bool,
    ) -> Result<T, Error> {
        let held = self.holds_index();
        let done = work();
        if !held && !done.as_ref().is_ok_and(moved) {
            self.let_go_of_index();
        }
        done
    }

    /// Lets others at the index again.
    pub(super) fn let_go_of_index(&self) {
        self.index_lock.take();
    }

    /// Notes that the index has to follow from nothing.
    pub(super) fn owe_whole_index(&self, to: CommitId) -> io::Result<()> {
        self.note_owed(None, Some(to))?.sync_data()
    }

    /// Notes that nothing is owed. Not synced: to pay twice does nothing.
    fn owe_nothing(&self) -> io::Result<()> {
        match self.git_dir().join(OWED).exists() {
            true => self.note_owed(None, None).map(drop),
            false => Ok(()),
        }
    }

    /// Writes the note in its place; it is always as long, so that a sync of its data is enough.
    fn note_owed(&self, from: Option<CommitId>, to: Option<CommitId>) -> io::Result<File> {
        let path = self.git_dir().join(OWED);
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let none = ObjectId::null(self.gix.object_hash());
        let id = |it: Option<CommitId>| it.map_or(none, |it| it.0);
        let text = format!("{} {}\n", id(from), id(to));
        let file = File::options().create(true).truncate(false).write(true).open(path)?;
        file.write_all_at(text.as_bytes(), 0)?;
        file.set_len(text.len() as u64)?;
        Ok(file)
    }

    /// The move that the index has to follow. A note that a crash cut short says nothing.
    fn owed(&self) -> io::Result<Option<(Option<CommitId>, CommitId)>> {
        let text = match std::fs::read_to_string(self.git_dir().join(OWED)) {
            Ok(it) => it,
            Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(it) => return Err(it),
        };
        let Some((from, to)) = text.trim_end().split_once(' ') else { return Ok(None) };
        let id = |text: &str| ObjectId::from_hex(text.as_bytes()).ok().filter(|it| !it.is_null());
        Ok(id(to).map(|to| (id(from).map(CommitId), CommitId(to))))
    }

    /// Lets the index follow what an earlier run, or a lock of somebody else's, left undone.
    pub fn pay_index(&self) -> Result<IndexOutcome, Error> {
        let paid = self.pay();
        self.let_go_of_index();
        paid
    }

    fn pay(&self) -> Result<IndexOutcome, Error> {
        let failed = |it: io::Error| Error::io("read what the index has to follow", it);
        let Some((from, to)) = self.owed().map_err(failed)? else {
            return Ok(IndexOutcome::Refreshed);
        };
        let head = self.head()?.commit;
        let after = |it: CommitId| match head {
            Some(head) if self.gix.has_object(it.0) => self.is_ancestor(it, head),
            _ => Ok(false),
        };
        if after(to)? {
            return self.refresh_index(&[], from, to);
        }
        match (from, head) {
            // That move never came, and what was owed before it still is.
            (Some(older), Some(head)) if after(older)? => self.refresh_index(&[], from, head),
            // Somebody has moved the branch elsewhere, index and all.
            _ => self.owe_nothing().map_err(failed).map(|()| IndexOutcome::Refreshed),
        }
    }

    /// Those of `paths` that a sparse checkout leaves out of the work tree.
    pub fn left_out<'a>(
        &self,
        paths: impl Iterator<Item = &'a BString>,
    ) -> Result<BTreeSet<BString>, Error> {
        let mut left_out = BTreeSet::new();
        if !self.is_sparse() || !self.gix.index_path().exists() {
            return Ok(left_out);
        }
        let index = self.gix.open_index().map_err(|it| Error::git("read the index", it))?;
        for path in paths {
            let entry = index.entry_by_path_and_stage(path.as_bstr(), Stage::Unconflicted);
            let out = match entry {
                Some(entry) => entry.flags.contains(Flags::SKIP_WORKTREE),
                // A new file goes where its directory is.
                None => {
                    let full = self.work_tree.join(Path::new(std::ffi::OsStr::from_bytes(path)));
                    full.parent().is_some_and(|it| !it.is_dir())
                }
            };
            if out {
                left_out.insert(path.clone());
            }
        }
        Ok(left_out)
    }

    /// Whether the work tree knows which files can be run (`core.fileMode`).
    pub fn keeps_modes(&self) -> bool {
        self.gix.config_snapshot().boolean("core.fileMode").unwrap_or(true)
    }

    fn is_sparse(&self) -> bool {
        self.gix.config_snapshot().boolean("core.sparseCheckout").unwrap_or(false)
    }

    /// Makes the index entries of `paths` equal to `to`, where they were those of `from`.
    ///
    /// An entry that is neither is something a person staged, and stays. What is owed from before
    /// is paid with it.
    pub fn refresh_index(
        &self,
        paths: &[BString],
        from: Option<CommitId>,
        to: CommitId,
    ) -> Result<IndexOutcome, Error> {
        let failed = |it: io::Error| Error::io("refresh the index", it);
        // Under the lock from the first look on, so that nothing anybody stages gets lost.
        let held = self.index_lock.take();
        let Some(mut lock) = held.map_or_else(|| self.lock_index(), |it| Ok(Some(it)))? else {
            return Ok(IndexOutcome::Locked);
        };
        let older = self.owed().map_err(failed)?.filter(|it| it.0 != from || paths.is_empty());
        let (from, owed) = match older {
            None => (from, Vec::new()),
            Some((older, _)) => {
                let known = older.is_none_or(|it| self.gix.has_object(it.0));
                let changes = match known {
                    true => self.entries_between(older, to)?,
                    false => Vec::new(),
                };
                (older, changes.into_iter().map(|it| it.path).collect())
            }
        };
        let paths = if owed.is_empty() { paths } else { &owed };
        if let Some(index) = self.followed(paths, from, to)? {
            let mut out = BufWriter::with_capacity(1 << 16, lock.file());
            index
                .write_to(&mut out, gix::index::write::Options::default())
                .map_err(|it| Error::git("refresh the index", it))?;
            out.flush().map_err(failed)?;
            drop(out);
            // Unsynced, a power cut could leave an index that git cannot read.
            self.steps.pass(Step::Sync).map_err(failed)?;
            lock.file().sync_data().map_err(failed)?;
            self.steps.pass(Step::Rename).map_err(failed)?;
            let written = lock.file().metadata().map_err(failed)?;
            let changes = self.index_changes();
            lock.commit().map_err(failed)?;
            self.index_known.set((Some(IndexMark::of(&written)), changes));
            // The note must not reach the disk before the index has its name there.
            self.steps.pass(Step::Sync).map_err(failed)?;
            File::open(self.git_dir()).and_then(|it| it.sync_all()).map_err(failed)?;
        }
        self.owe_nothing().map_err(failed)?;
        Ok(IndexOutcome::Refreshed)
    }

    /// The lock on the index; none where somebody else has it.
    fn lock_index(&self) -> Result<Option<Lock>, Error> {
        let failed = |it: io::Error| Error::io("refresh the index", it);
        let index = self.gix.index_path();
        locks::let_go(self.git_dir(), "index", &index).map_err(failed)?;
        if self.index_is_locked() {
            return Ok(None);
        }
        self.steps.pass(Step::WriteIndex).map_err(failed)?;
        let note = Note::write(self.git_dir(), "index", index, b"").map_err(failed)?;
        match note.lock().map_err(failed)? {
            Taken::Ours(it) => Ok(Some(it)),
            Taken::Theirs(_) => Ok(None),
        }
    }

    /// The index with those entries; none where nothing is to be changed.
    fn followed(
        &self,
        paths: &[BString],
        from: Option<CommitId>,
        to: CommitId,
    ) -> Result<Option<gix::index::File>, Error> {
        let failed =
            |it: Box<dyn std::error::Error + Send + Sync>| Error::git("refresh the index", it);
        let mut index = match self.gix.index_path().exists() {
            true => self.gix.open_index().map_err(|it| failed(it.into()))?,
            false => {
                let state = gix::index::State::new(self.gix.object_hash());
                gix::index::File::from_state(state, self.gix.index_path())
            }
        };
        // What is set below was read to be what it says.
        self.distrust_times(&mut index);
        let paths: Vec<&[u8]> = paths.iter().map(|it| it.as_slice()).collect();
        let old = from.map(|it| self.tree_of(it)).transpose()?;
        let at = |it: &_| super::read::entries_at(it, paths.iter().copied());
        let old = old.as_ref().map(at).transpose()?.unwrap_or_default();
        let new = at(&self.tree_of(to)?)?;
        let stats = self.stats_of(&new);
        let (sparse, mut changed) = (self.is_sparse(), false);
        let mut added = Vec::new();
        let mut removed = BTreeSet::new();
        for path in paths {
            let old = old.get(path).map(|it| it.1);
            let at = index.entry_index_by_path_and_stage(path.as_bstr(), Stage::Unconflicted);
            let held = at.map(|at| index.entries()[at].id);
            let Some((kind, id)) = new.get(path).filter(|it| !it.0.is_tree()) else {
                if held.is_some() && held == old {
                    removed.insert(path.as_bstr().to_owned());
                }
                continue;
            };
            let stat = stats.get(path).copied().unwrap_or_default();
            let mode = match kind.kind() {
                EntryKind::BlobExecutable => Mode::FILE_EXECUTABLE,
                EntryKind::Link => Mode::SYMLINK,
                EntryKind::Commit => Mode::COMMIT,
                EntryKind::Blob | EntryKind::Tree => Mode::FILE,
            };
            match at {
                Some(at) if held == old || held == Some(*id) => {
                    let entry = &mut index.entries_mut()[at];
                    (entry.id, entry.mode, entry.stat) = (*id, mode, stat);
                    changed = true;
                }
                Some(_) => (),
                None => added.push((stat, *id, mode, path)),
            }
        }
        if !removed.is_empty() {
            index.remove_entries(|_, path, _| removed.contains(path));
        }
        for (stat, id, mode, path) in &added {
            let flags = match sparse && !self.place().of(path).exists() {
                true => Flags::SKIP_WORKTREE | Flags::EXTENDED,
                false => Flags::empty(),
            };
            index.dangerously_push_entry(*stat, *id, flags, *mode, path.as_bstr());
        }
        if !added.is_empty() {
            index.sort_entries();
        }
        // The cached trees do not follow what was changed here; git makes them again.
        index.remove_tree();
        Ok((changed || !added.is_empty() || !removed.is_empty()).then_some(index))
    }

    /// Git counts times in seconds here. A file that was edited in the second in which the index was
    /// written looks like its entry; git tells by the index being no younger than the entry. Written
    /// again, the index is younger, so such entries lose their times first, as git does it.
    fn distrust_times(&self, index: &mut gix::index::File) {
        let written = index.timestamp().unix_seconds();
        let place = self.place();
        let suspects: Vec<usize> = (0..index.entries().len())
            .filter(|at| {
                let entry = &index.entries()[*at];
                i64::from(entry.stat.mtime.secs) >= written && entry.mode.contains(Mode::FILE)
            })
            .collect();
        let Ok(edited) = crate::cores::on_all(&suspects, |at| {
            let entry = &index.entries()[*at];
            let held = place.stat_of(entry.path(index), entry.id).is_some();
            Ok::<_, Infallible>((!held).then_some(*at))
        });
        for at in edited.into_iter().flatten() {
            index.entries_mut()[at].stat = Stat::default();
        }
    }

    /// The times of the files that hold what a tree has, where they do.
    fn stats_of<'a>(
        &self,
        entries: &HashMap<&'a [u8], (EntryMode, ObjectId)>,
    ) -> HashMap<&'a [u8], Stat> {
        let place = self.place();
        let entries: Vec<(&[u8], ObjectId)> = entries.iter().map(|(it, of)| (*it, of.1)).collect();
        let stats = crate::cores::on_all(&entries, |(path, id)| {
            Ok::<_, Infallible>(place.stat_of(path, *id).map(|it| (*path, it)))
        });
        let Ok(stats) = stats;
        stats.into_iter().flatten().collect()
    }

    /// The work tree, for threads that look at its files.
    pub(super) fn place(&self) -> Place<'_> {
        Place { work_tree: &self.work_tree, hash: self.gix.object_hash() }
    }
}

/// A work tree, for threads that look at its files.
pub(super) struct Place<'a> {
    work_tree: &'a Path,
    pub(super) hash: gix::hash::Kind,
}

impl Place<'_> {
    /// Where a path of the repository lies.
    pub(super) fn of(&self, path: &[u8]) -> PathBuf {
        self.work_tree.join(Path::new(std::ffi::OsStr::from_bytes(path)))
    }

    /// The times of a file that holds a blob. None where it holds something else: with the times
    /// of a file that somebody has edited, git would never notice the edit. An entry without times
    /// makes git look at the file itself.
    fn stat_of(&self, path: &[u8], id: ObjectId) -> Option<Stat> {
        let full = self.of(path);
        let look = || gix::index::fs::Metadata::from_path_no_follow(&full).ok();
        let stat = Stat::from_fs(&look().filter(|it| it.is_file())?).ok()?;
        let holds = self.hashed(path)? == Some(BlobId(id));
        (holds && Stat::from_fs(&look()?).ok()? == stat).then_some(stat)
    }
}
