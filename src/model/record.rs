//! What the store knows of one resource, and of what is in the way of one.

use super::conflict::{ConflictStrategy, FieldClash};
use super::digest::{Sha256, Xxh3};
use super::fabric::FabricName;
use super::ids::{BlobId, CommitId, OperationId};
use super::key::{Key, ResourceId};
use super::path::{RawPath, RepoPath};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where a resource came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The drop, relative to `raw/`.
    pub path: RawPath,
    /// Which document of it, counted from 1.
    pub document: u32,
    /// Its first line, counted from 1.
    pub line: u32,
    /// The operation that filed it; none where a person or another tool did.
    #[serde(default)]
    pub operation: Option<OperationId>,
}

/// A change of a resource in git that did not come through the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Modification {
    /// The commit.
    pub commit_id: CommitId,
    /// Whose it is, by name.
    pub author: String,
    /// When it was made.
    pub at: jiff::Timestamp,
    /// The first line of what it says.
    pub subject: String,
}

/// How many modifications a record keeps; older ones are in git.
pub const MODIFICATIONS_MAX: usize = 10;

/// What a cluster reports of a resource, as somebody told us.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actual {
    /// XXH3 of the parsed content, less what a cluster fills in; none where it has nothing.
    pub content: Option<Xxh3>,
    /// When it was told.
    pub at: jiff::Timestamp,
}

/// One resource: its file, what the file holds, where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The same after every rebuild.
    pub id: ResourceId,
    /// Whose it is.
    pub fabric: FabricName,
    /// Which resource.
    #[serde(flatten)]
    pub key: Key,
    /// Group and version as written.
    pub api_version: String,
    /// Its one file, relative to the top of the repository.
    pub path: RepoPath,
    /// What git holds there.
    pub blob_id: BlobId,
    /// The same, as SHA-256 of the file.
    pub sha256: Sha256,
    /// XXH3 of the parsed content: formatting does not change it.
    pub content: Xxh3,
    /// The commit that brought this content; none where that is not known any more.
    #[serde(default)]
    pub commit_id: Option<CommitId>,
    /// `metadata.labels`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Where it came from; none where it was found in the tree.
    #[serde(default)]
    pub source: Option<Source>,
    /// The newest changes that did not come through the agent, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub modifications: Vec<Modification>,
    /// What a cluster reports; none where nobody told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actual: Option<Actual>,
}

/// The record of a resource whose file others removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// As it was.
    pub record: Record,
    /// Who removed it.
    pub removed: Modification,
}

/// A file in `managed/` that has no record, and why. It is told of and left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// Whose.
    pub fabric: FabricName,
    /// Where, relative to the top of the repository.
    pub path: RawPath,
    /// What it is.
    pub kind: StrayKind,
    /// The resource that it is about, where that is known.
    #[serde(default)]
    pub of: Option<ResourceId>,
    /// In words, with the way out.
    pub message: String,
}

/// Why a file in `managed/` has no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrayKind {
    /// It holds no resource of this fabric: a note, a ConfigMap.
    Foreign,
    /// It has a mistake; a record that was made before it stays as it was.
    Invalid,
    /// Another file holds the same resource.
    Duplicate,
    /// Somebody edited it in the work tree, and it cannot be committed as it is.
    Edited,
}

/// One key, two contents: kept for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Which resource.
    pub id: ResourceId,
    /// Whose it is.
    pub fabric: FabricName,
    /// Its file.
    pub path: RepoPath,
    /// What meets: stable words such as `concurrent_modification`.
    pub kind: ConflictKind,
    /// The drop that is kept back.
    pub raw_path: Option<RawPath>,
    /// In words, with the way out.
    pub message: String,
    /// When it was first seen.
    pub detected_at: jiff::Timestamp,
    /// The fields that both sides changed; one empty path stands for all of the resource.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<FieldClash>,
    /// The strategy that left it to a person.
    #[serde(default)]
    pub strategy: ConflictStrategy,
    /// All three contents are kept in git, so that it can be resolved by a command.
    #[serde(default)]
    pub kept: bool,
}

impl Conflict {
    /// The ref that keeps the contents of a conflict.
    pub fn ref_name(fabric: &FabricName, id: &ResourceId) -> String {
        format!("{}{id}", Conflict::refs(fabric))
    }

    /// What the refs of a fabric's conflicts begin with.
    pub fn refs(fabric: &FabricName) -> String {
        format!("refs/intake/conflicts/{fabric}/")
    }
}

/// What two contents of one key have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictKind {
    /// A drop meets a managed file that somebody is editing.
    ConcurrentModification,
    /// Two files claim one identity.
    DuplicateIdentity,
    /// Others pushed another content for a resource that we changed too.
    Merge,
    /// One side removed what the other changed.
    MissingResource,
}

/// A drop that stays in `raw/`, and why; looked at again when its bytes change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// Whose `raw/`.
    pub fabric: FabricName,
    /// The drop.
    pub path: RawPath,
    /// What it held when it was judged.
    pub drop_id: Sha256,
    /// Every reason.
    pub problems: Vec<super::problem::Problem>,
    /// When it was first judged so.
    pub since: jiff::Timestamp,
}
