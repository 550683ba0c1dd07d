//! Changes decided and not yet made, and what becomes of each drop.

use super::digest::Sha256;
use super::document::{Document, Intake};
use super::ids::BlobId;
use super::path::{RawPath, RepoPath};
use super::problem::Problem;
use super::report::{Ending, Filed};
use bstr::BString;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One write or removal in the tree of the repository.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A file of ours gets this content, in the work tree and in the commit.
    Write {
        /// Where.
        path: RepoPath,
        /// All of its content.
        bytes: Arc<[u8]>,
        /// What HEAD holds there, as it was when the plan was made.
        was: Option<BlobId>,
    },
    /// A file leaves the tree. In `raw/` that is a drop that came by git; its name may be any bytes.
    Remove {
        /// Where, relative to the top of the repository.
        path: BString,
        /// What HEAD holds there.
        was: BlobId,
    },
}

impl Change {
    /// The path in the repository.
    pub fn path(&self) -> &[u8] {
        match self {
            Change::Write { path, .. } => path.as_str().as_bytes(),
            Change::Remove { path, .. } => path.as_slice(),
        }
    }
}

/// A drop's bytes, on their way to the archive.
#[derive(Debug, Clone, PartialEq)]
pub struct Original {
    /// The digest of where it lay and what it held.
    pub drop_id: Sha256,
    /// Where it lay.
    pub path: RawPath,
    /// What it held.
    pub bytes: Arc<[u8]>,
}

/// What becomes of one drop, once the commit is safe.
#[derive(Debug, Clone)]
pub enum Fate {
    /// All of it is filed, or was already there, or there is nothing in it: it leaves `raw/`.
    Leaves {
        /// How it ended.
        ending: Ending,
        /// What became of each document.
        filed: Vec<Filed>,
        /// What a person may want to know.
        notes: Vec<Problem>,
    },
    /// Its good documents are filed, and what is left of it takes its place: a drop of its own.
    Parted {
        /// What became of each document that goes.
        filed: Vec<Filed>,
        /// The file that the rest stays in.
        rest: Arc<[u8]>,
        /// Every reason, with its place in the whole.
        problems: Vec<Problem>,
    },
    /// It stays in `raw/` with a report beside it, until somebody mends or removes it.
    Stays {
        /// Every reason, with its place.
        problems: Vec<Problem>,
    },
    /// It moves to `raw/errors/` with a report beside it.
    Quarantined {
        /// Every reason, with its place.
        problems: Vec<Problem>,
    },
}

/// One drop and its fate.
#[derive(Debug, Clone)]
pub struct Disposal {
    /// The file as it was read.
    pub intake: Intake,
    /// What becomes of it.
    pub fate: Fate,
}

/// A resource whose record follows from the plan.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The document as filed.
    pub document: Document,
    /// Its file.
    pub path: RepoPath,
    /// The drop it came in.
    pub source: RawPath,
    /// That drop's digest.
    pub drop_id: Sha256,
}

/// A turn's decisions, in full. Making them twice is the same as once.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What the commit changes, sorted by path; empty means no commit.
    pub changes: Vec<Change>,
    /// What the archive takes.
    pub originals: Vec<Original>,
    /// What becomes of each drop.
    pub disposals: Vec<Disposal>,
    /// Which records follow.
    pub recorded: Vec<Recorded>,
    /// What the commit says first, where it does not follow from the drops.
    pub subject: Option<String>,
    /// Trailers of the commit beside the usual ones, each a whole line.
    pub trailers: Vec<String>,
    /// The work tree has it all already, and what it has is somebody's: only the commit is made, and
    /// nothing is undone.
    pub in_place: bool,
}

impl Plan {
    /// Says whether there is nothing at all to do, not even a report.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.originals.is_empty() && self.disposals.is_empty()
    }
}

/// A [`Change`] as the journal keeps it: enough to finish it or to undo it, never the content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Where, relative to the top of the repository; escaped as text where it is not UTF-8.
    pub path: RawPath,
    /// The digest of the content to be written; none is a removal.
    pub digest: Option<Sha256>,
    /// What HEAD held there.
    pub was: Option<BlobId>,
}

/// A drop as the journal keeps it: what may leave `raw/` once the commit is safe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Where it lay, relative to `raw/`.
    pub path: RawPath,
    /// The digest of where it lay and what it held: a file replaced meanwhile is another drop.
    pub drop_id: Sha256,
    /// What takes its place, where it is taken apart: the digest of the same path and the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rest: Option<Sha256>,
}
