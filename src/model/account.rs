//! What people and programs are told of both ways: what came in, what waits, what was undone, and
//! where a record stands.

use super::conflict::{ConflictStrategy, FieldClash};
use super::fabric::FabricName;
use super::ids::{CommitId, OperationId};
use super::path::{RawPath, RepoPath};
use super::record::{Conflict, Modification, Record};
use super::report::{Delivery, IngestReport};
use super::rules::Direction;
use serde::{Deserialize, Serialize};

/// Why a fabric waits for a person before anything else happens to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Which.
    pub fabric: FabricName,
    /// What waits.
    pub kind: HoldKind,
    /// How many managed files are gone.
    pub removed: u64,
    /// Of how many resources.
    pub of: u64,
    /// The first of them.
    pub paths: Vec<RepoPath>,
    /// In words, with the way out.
    pub reason: String,
}

/// What waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldKind {
    /// Commits removed many managed files.
    RemovedInGit,
    /// Many managed files were removed in the work tree, and nobody has committed that.
    RemovedByHand,
}

/// A fabric that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// What it waited for.
    pub hold: Hold,
    /// What was gone is back; else that it is gone was accepted.
    pub restored: bool,
    /// The journal's entry; none where nothing had to be committed.
    pub operation: Option<OperationId>,
    /// The commit; none where nothing had to be committed.
    pub commit_id: Option<CommitId>,
}

/// The answer of `release`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseReport {
    /// What goes on.
    pub released: Vec<Released>,
    /// How far the commits went.
    pub delivery: Delivery,
}

/// The answer of `sync`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncReport {
    /// What came in, or would: the first thousand changes.
    pub incoming: Vec<Incoming>,
    /// How many there are in all.
    pub incoming_count: u64,
    /// What became of the drops, or would.
    pub ingested: Vec<IngestReport>,
    /// The journal's entries that were made.
    pub operations: Vec<OperationId>,
    /// Conflicts that are new.
    pub conflicts: Vec<Conflict>,
    /// In a dry run: the paths that both sides changed and nobody can merge.
    pub overlaps: Vec<RawPath>,
    /// Fabrics that wait for a person.
    pub holds: Vec<Hold>,
    /// Commits that the remote is not known to have.
    pub unsent: u64,
    /// How far the commits went.
    pub delivery: Delivery,
    /// Nothing was changed: this is what would happen.
    pub dry_run: bool,
}

impl Default for SyncReport {
    fn default() -> SyncReport {
        SyncReport {
            incoming: Vec::new(),
            incoming_count: 0,
            ingested: Vec::new(),
            operations: Vec::new(),
            conflicts: Vec::new(),
            overlaps: Vec::new(),
            holds: Vec::new(),
            unsent: 0,
            delivery: Delivery::Nothing,
            dry_run: false,
        }
    }
}

/// One change that came in from git.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incoming {
    /// Whose.
    pub fabric: FabricName,
    /// Where, relative to the top of the repository.
    pub path: RawPath,
    /// What becomes of it.
    pub kind: IncomingKind,
}

/// What becomes of a change that came in from git.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncomingKind {
    /// A resource that is new.
    Created,
    /// A resource with another content.
    Updated,
    /// A resource in another file.
    Moved,
    /// A resource is gone.
    Removed,
    /// A file in `managed/` that holds no resource.
    Stray,
    /// A file in `raw/`, which is taken like a drop.
    Intake,
}

/// The answer of `revert`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevertReport {
    /// The operation that is undone.
    pub reverted: OperationId,
    /// Whose it is.
    pub fabric: FabricName,
    /// The journal's entry of the undoing; none where nothing was done.
    pub operation: Option<OperationId>,
    /// The commit; none where nothing was done.
    pub commit_id: Option<CommitId>,
    /// What becomes of each file.
    pub files: Vec<Reverted>,
    /// How far the commit went.
    pub delivery: Delivery,
    /// Nothing was changed: this is what would happen.
    pub dry_run: bool,
}

/// What becomes of one file when an operation is undone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reverted {
    /// Which.
    pub path: RepoPath,
    /// It was changed since; what came later stays where it can.
    pub changed_since: bool,
    /// Fields that were changed since: nothing is undone while there are any.
    pub open: Vec<FieldClash>,
}

/// The answer of `fabric tidy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TidyReport {
    /// Whose.
    pub fabric: FabricName,
    /// What goes where, or would.
    pub moved: Vec<Moved>,
    /// What cannot go where it belongs, since something else is there.
    pub left: Vec<Moved>,
    /// So many more wait for the next time.
    pub more: u64,
    /// The journal's entry; none where nothing was done.
    pub operation: Option<OperationId>,
    /// The commit; none where nothing was done.
    pub commit_id: Option<CommitId>,
    /// How far the commit went.
    pub delivery: Delivery,
    /// Nothing was changed: this is what would happen.
    pub dry_run: bool,
}

/// A file that goes elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Where it is.
    pub from: RepoPath,
    /// Where it belongs.
    pub to: RepoPath,
}

/// An edit by hand below `managed/` that nobody has committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandEdit {
    /// Where, relative to the top of the repository.
    pub path: RawPath,
    /// What is being waited for.
    pub state: HandEditState,
    /// Why it is left alone; none where it is only being waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What becomes of an edit by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandEditState {
    /// It may not be done yet; it is committed when it stood still.
    Waiting,
    /// Somebody has staged it, and commits it.
    Staged,
    /// It is left as it is.
    Left,
}

/// One record with all that is known around it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResourceView {
    /// The record.
    pub record: Record,
    /// Where it stands.
    pub state: RecordState,
    /// How it compares with what a cluster has; none where nobody told.
    pub drift: Option<Drift>,
    /// HEAD has another content than the record.
    pub differs_from_head: bool,
    /// The work tree has another content than HEAD.
    pub edited_by_hand: bool,
    /// The remote has it as HEAD does, as far as we heard.
    pub on_remote: bool,
    /// Which way changes may go.
    pub direction: Direction,
    /// What happens where two sides changed it.
    pub strategy: ConflictStrategy,
    /// What waits for a person to decide.
    pub conflict: Option<Conflict>,
    /// Who removed its file, where others did.
    pub removed: Option<Modification>,
}

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// HEAD has it, the remote does not yet.
    Committed,
    /// HEAD and the remote have it.
    Synced,
    /// Record, HEAD, work tree and cluster do not all say the same.
    Drifted,
    /// Others removed its file.
    Orphaned,
}

/// How what git has compares with what a cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// They say the same.
    InSync,
    /// They say something else.
    SpecDrift,
    /// The cluster does not have it.
    DesiredOnly,
    /// Only the cluster has it.
    ActualOnly,
}
