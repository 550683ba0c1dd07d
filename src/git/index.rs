//! The index follows our commits, for people's `git status`; what they staged stays as it is.

use super::{Error, Repo};
use crate::model::ids::CommitId;
use crate::step::Step;
use bstr::{BString, ByteSlice};
use gix::index::entry::{Flags, Mode, Stage, Stat};
use gix::objs::tree::EntryKind;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexOutcome {
    /// The entries of these paths are those of HEAD.
    Refreshed,
    /// Somebody holds the index; the next refresh catches up.
    Locked,
}

impl Repo {
    /// Says whether another process is changing the index.
    pub fn index_is_locked(&self) -> bool {
        self.gix.index_path().with_extension("lock").exists()
    }

    /// Makes the index entries of `paths` equal to `to`, where they were those of `from`.
    ///
    /// An entry that is neither is something a person staged, and stays.
    pub fn refresh_index(
        &self,
        paths: &[BString],
        from: Option<CommitId>,
        to: CommitId,
    ) -> Result<IndexOutcome, Error> {
        let failed =
            |it: Box<dyn std::error::Error + Send + Sync>| Error::git("refresh the index", it);
        if self.index_is_locked() {
            return Ok(IndexOutcome::Locked);
        }
        self.steps.pass(Step::WriteIndex).map_err(|it| Error::io("refresh the index", it))?;
        let mut index = match self.gix.index_path().exists() {
            true => self.gix.open_index().map_err(|it| failed(it.into()))?,
            false => gix::index::File::from_state(
                gix::index::State::new(self.gix.object_hash()),
                self.gix.index_path(),
            ),
        };
        let tree = self.tree_of(to)?;
        let mut added = Vec::new();
        let mut removed = std::collections::BTreeSet::new();
        for path in paths {
            let old = self.blob_at(from, path)?.map(|it| it.0);
            let components = path.split(|it| *it == b'/');
            let new = tree.lookup_entry(components).map_err(|it| failed(it.into()))?;
            let at = index.entry_index_by_path_and_stage(path.as_bstr(), Stage::Unconflicted);
            let held = at.map(|at| index.entries()[at].id);
            let Some(new) = new.filter(|it| it.mode().is_blob()) else {
                if held.is_some() && held == old {
                    removed.insert(path.clone());
                }
                continue;
            };
            let full = self.work_tree.join(Path::new(std::ffi::OsStr::from_bytes(path)));
            // Without a file the entry has no times; git then looks at the file, which is right.
            let stat = gix::index::fs::Metadata::from_path_no_follow(&full)
                .ok()
                .and_then(|it| Stat::from_fs(&it).ok())
                .unwrap_or_default();
            let mode = match new.mode().kind() {
                EntryKind::BlobExecutable => Mode::FILE_EXECUTABLE,
                _ => Mode::FILE,
            };
            match at {
                Some(at) if held == old || held == Some(new.object_id()) => {
                    let entry = &mut index.entries_mut()[at];
                    (entry.id, entry.mode, entry.stat) = (new.object_id(), mode, stat);
                }
                Some(_) => (),
                None => added.push((stat, new.object_id(), mode, path.clone())),
            }
        }
        if !removed.is_empty() {
            index.remove_entries(|_, path, _| removed.contains(path));
        }
        for (stat, id, mode, path) in &added {
            index.dangerously_push_entry(*stat, *id, Flags::empty(), *mode, path.as_bstr());
        }
        if !added.is_empty() {
            index.sort_entries();
        }
        // The cached trees do not follow what was changed here; git makes them again.
        index.remove_tree();
        match index.write(gix::index::write::Options::default()) {
            Ok(()) => Ok(IndexOutcome::Refreshed),
            Err(_) if self.gix.index_path().with_extension("lock").exists() => {
                Ok(IndexOutcome::Locked)
            }
            Err(it) => Err(failed(it.into())),
        }
    }
}
