//! What one file held in the past, as the history tells it.

use super::{Error, Repo};
use crate::model::ids::{BlobId, CommitId};
use crate::model::path::RepoPath;
use gix::prelude::FindExt;
use std::collections::HashSet;

/// So many commits are looked into.
pub const COMMITS_MAX: usize = 10_000;
/// So much of their trees is read, in bytes: directories of very many files let look back less far.
const TREE_BYTES_MAX: usize = 256 << 20;

impl Repo {
    /// Says whether the file at `path` ever held `blob`, in `tip` or before it, as far back as is looked.
    /// A directory that did not change from one commit to the next is read once.
    pub fn ever_held(&self, tip: CommitId, path: &RepoPath, blob: BlobId) -> Result<bool, Error> {
        if !self.has_blob(blob) {
            return Ok(false);
        }
        let failed =
            |it: Box<dyn std::error::Error + Send + Sync>| Error::git("walk the history", it);
        let walk = self.gix.rev_walk([tip.0]).all().map_err(|it| failed(it.into()))?;
        let (mut known, mut buffer, mut left) = (HashSet::new(), Vec::new(), TREE_BYTES_MAX);
        for info in walk.take(COMMITS_MAX) {
            let info = info.map_err(|it| failed(it.into()))?;
            let commit = info.object().map_err(|it| failed(it.into()))?;
            let mut at = commit.tree_id().map_err(|it| failed(it.into()))?.detach();
            let mut names = path.as_str().split('/').enumerate().peekable();
            while let Some((depth, name)) = names.next() {
                if !known.insert((depth, at)) {
                    break;
                }
                let entries = self.gix.objects.find_tree_iter(&at, &mut buffer);
                let entries = entries.map_err(|it| failed(it.into()))?;
                let mut entries = entries.filter_map(Result::ok);
                let found =
                    entries.find(|it| AsRef::<[u8]>::as_ref(it.filename) == name.as_bytes());
                let Some(found) = found else { break };
                if names.peek().is_none() {
                    if found.mode.is_blob() && found.oid == blob.0 {
                        return Ok(true);
                    }
                } else if !found.mode.is_tree() {
                    break;
                }
                at = found.oid.to_owned();
                match left.checked_sub(buffer.len()) {
                    Some(it) => left = it,
                    None => return Ok(false),
                }
            }
        }
        Ok(false)
    }
}
