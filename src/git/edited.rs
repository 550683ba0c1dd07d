//! What people edited in the work tree and have not committed: told by the index, as git tells it.

use super::{Error, Repo};
use crate::model::ids::{BlobId, CommitId};
use crate::model::path::RepoPath;
use bstr::{BString, ByteSlice};
use gix::index::entry::{Flags, Mode, Stage, Stat};
use std::collections::{BTreeSet, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// So many edits are told at most; more are no work of hands.
const EDITED_MAX: usize = 20_000;
/// How deep directories are looked into.
const DEPTH_MAX: usize = 32;

/// One file that differs between HEAD and the work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edited {
    /// Where, relative to the top of the repository.
    pub path: BString,
    /// What HEAD has there.
    pub head: Option<BlobId>,
    /// What the work tree has there.
    pub work: Option<BlobId>,
    /// Somebody has staged it, in this or another content: it is theirs to commit.
    pub staged: bool,
}

impl Repo {
    /// The files below `dir` that differ between HEAD and the work tree. Only what looks changed to
    /// the index is read.
    pub fn edited_below(
        &self,
        head: Option<CommitId>,
        dir: &RepoPath,
    ) -> Result<Vec<Edited>, Error> {
        let mut found = Vec::new();
        if !self.gix.index_path().exists() {
            return Ok(found);
        }
        let index = self.gix.open_index().map_err(|it| Error::git("read the index", it))?;
        let prefix = format!("{}/", dir.as_str());
        let prefix = if dir.is_top() { "" } else { prefix.as_str() };
        let committed: HashMap<BString, BlobId> = match head {
            Some(head) => self.files_below(head, dir)?.into_iter().collect(),
            None => HashMap::new(),
        };
        let written = index.timestamp().unix_seconds();
        let mut known = BTreeSet::new();
        for entry in index.prefixed_entries(prefix.into()).unwrap_or_default() {
            let path = entry.path(&index);
            known.insert(path.to_owned());
            if entry.stage() != Stage::Unconflicted
                || entry.flags.contains(Flags::SKIP_WORKTREE)
                || !(entry.mode == Mode::FILE || entry.mode == Mode::FILE_EXECUTABLE)
                || found.len() >= EDITED_MAX
            {
                continue;
            }
            let in_head = committed.get(path).copied();
            let staged = in_head.map(|it| it.0) != Some(entry.id);
            let place = self.place_of(path);
            let stat = gix::index::fs::Metadata::from_path_no_follow(&place).ok();
            let stat = stat.filter(|it| it.is_file()).and_then(|it| Stat::from_fs(&it).ok());
            // As git does it: what was written when the index was may have been edited since.
            let clean = stat
                .is_some_and(|it| it == entry.stat && i64::from(entry.stat.mtime.secs) < written);
            let work = match clean {
                true => Some(Some(BlobId(entry.id))),
                false => self.hashed(&place)?,
            };
            if let Some(work) = work.filter(|it| *it != in_head) {
                found.push(Edited { path: path.to_owned(), head: in_head, work, staged });
            }
        }
        // Removed from the index and not from the last commit: somebody is about to commit that.
        let unstaged = committed.iter().filter(|it| !known.contains(it.0));
        for (path, blob) in unstaged.take(EDITED_MAX) {
            if let Some(work) = self.hashed(&self.place_of(path))? {
                found.push(Edited { path: path.clone(), head: Some(*blob), work, staged: true });
            }
        }
        let mut new = Vec::new();
        list(&self.place_of(dir.as_str().as_bytes()), dir.as_str().as_bytes(), 0, &mut new);
        for path in new.into_iter().filter(|it| !known.contains(it)).take(EDITED_MAX) {
            let work = self.hashed(&self.place_of(&path))?;
            if let (Some(Some(_)), false) = (work, committed.contains_key(&path)) {
                found.push(Edited { path, head: None, work: work.flatten(), staged: false });
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn place_of(&self, path: &[u8]) -> PathBuf {
        self.work_tree.join(Path::new(std::ffi::OsStr::from_bytes(path)))
    }

    /// The blob that a regular file would be, none where there is no file; and nothing at all where
    /// that cannot be told: what may not be read, or is something else now, has not been removed.
    fn hashed(&self, place: &Path) -> Result<Option<Option<BlobId>>, Error> {
        let gone = |it: &std::io::Error| {
            matches!(it.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
        };
        let bytes = match std::fs::symlink_metadata(place) {
            Ok(it) if it.is_file() => std::fs::read(place),
            Ok(_) => return Ok(None),
            Err(error) => Err(error),
        };
        match bytes {
            Ok(bytes) => Ok(Some(Some(self.blob_id_of(&bytes)?))),
            Err(error) if gone(&error) => Ok(Some(None)),
            Err(_) => Ok(None),
        }
    }
}

/// The regular files below a directory, without following links.
fn list(place: &Path, at: &[u8], depth: usize, found: &mut Vec<BString>) {
    let Ok(entries) = std::fs::read_dir(place) else { return };
    for entry in entries.flatten() {
        if found.len() > EDITED_MAX * 10 {
            return;
        }
        let name = entry.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        let path = BString::from([at, b"/", name.as_bytes()].concat());
        match entry.file_type() {
            Ok(it) if it.is_dir() && depth < DEPTH_MAX => {
                list(&entry.path(), path.as_bytes(), depth + 1, found);
            }
            Ok(it) if it.is_file() => found.push(path),
            _ => (),
        }
    }
}
