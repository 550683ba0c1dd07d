//! What git holds, read beside the lane: a few repositories of our own, and the texts asked for last.
//!
//! A blob never changes under its id, so what was read once may be kept for as long as there is room.

use crate::git::{self, Repo};
use crate::model::ids::BlobId;
use crate::step::Steps;
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// How much of what was read is kept, in bytes.
const KEPT_BYTES_MAX: usize = 32 << 20;
/// A larger file is read anew each time.
const KEPT_FILE_BYTES_MAX: usize = 256 << 10;
/// So many repositories are kept open.
const OPEN_MAX: usize = 4;

/// Reads what one repository holds.
pub(super) struct Reader {
    work_tree: PathBuf,
    open: Mutex<Vec<Repo>>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: usize,
    blobs: HashMap<BlobId, Arc<[u8]>>,
    /// The oldest first.
    order: VecDeque<BlobId>,
}

impl Reader {
    pub fn new(work_tree: &Path) -> Reader {
        Reader { work_tree: work_tree.to_owned(), open: Mutex::default(), kept: Mutex::default() }
    }

    /// A blob that was read before.
    pub fn kept(&self, id: BlobId) -> Option<Arc<[u8]>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).blobs.get(&id).cloned()
    }

    /// The content of a blob; blocks while a disk is read.
    pub fn blob(&self, id: BlobId) -> Result<Arc<[u8]>, git::Error> {
        if let Some(it) = self.kept(id) {
            return Ok(it);
        }
        let bytes: Arc<[u8]> = Arc::from(self.with(|repo| repo.blob(id))?);
        if bytes.len() <= KEPT_FILE_BYTES_MAX {
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).keep(id, bytes.clone());
        }
        Ok(bytes)
    }

    /// Does something with a repository of our own; blocks while a disk is read.
    pub fn with<T>(
        &self,
        it: impl FnOnce(&Repo) -> Result<T, git::Error>,
    ) -> Result<T, git::Error> {
        let ready = self.open.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let repo = match ready {
            Some(repo) => repo,
            None => Repo::discover(&self.work_tree, Steps::default())?,
        };
        let done = it(&repo);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() < OPEN_MAX {
            open.push(repo);
        }
        done
    }
}

impl Kept {
    fn keep(&mut self, id: BlobId, bytes: Arc<[u8]>) {
        self.bytes += bytes.len();
        if let Some(old) = self.blobs.insert(id, bytes) {
            self.bytes -= old.len();
        } else {
            self.order.push_back(id);
        }
        while self.bytes > KEPT_BYTES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.bytes -= self.blobs.remove(&oldest).map_or(0, |it| it.len());
        }
    }
}
