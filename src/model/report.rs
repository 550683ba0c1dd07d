//! What people and programs are told: the answers of every command, with stable names in JSON.

use super::account::{HandEdit, Hold};
use super::conflict::FieldClash;
use super::document::Document;
use super::fabric::FabricName;
use super::ids::{CommitId, OperationId};
use super::key::ResourceId;
use super::path::{RawPath, RepoPath};
use super::problem::Problem;
use super::record::{Conflict, Record, Stray};
use super::rules::Mode;
use serde::{Deserialize, Serialize};

/// What became of one document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filed {
    /// Its place in the drop, counted from 1.
    pub document: u32,
    /// Its first line in the drop, counted from 1.
    pub line: u32,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// Its file, relative to the top of the repository.
    pub target: RepoPath,
    /// What happened to that file.
    pub action: Action,
    /// Dotted paths of the fields that were cut.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut: Vec<String>,
}

impl Filed {
    /// What became of `document`, which has its place at `path`.
    pub fn of(document: &Document, path: &RepoPath, action: Action) -> Filed {
        Filed {
            document: document.index,
            line: document.line,
            kind: document.key.kind.clone(),
            namespace: document.key.namespace.clone(),
            name: document.key.name.clone(),
            target: path.clone(),
            action,
            cut: document.cut.clone(),
        }
    }
}

/// What happened to a file of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It is new.
    Created,
    /// It holds something else than before.
    Updated,
    /// It held that already.
    Unchanged,
    /// It was moved to `unmanaged/` as it was.
    Unmanaged,
}

/// How a drop ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All documents are in `managed/`.
    Managed,
    /// The file is in `unmanaged/`.
    Unmanaged,
    /// There is no document in it; it is archived.
    NoDocuments,
    /// Its good documents are in `managed/`, the rest stays in `raw/`.
    Parted,
    /// It stays in `raw/`.
    Rejected,
}

/// What became of one drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReport {
    /// The drop, relative to `raw/`.
    pub path: RawPath,
    /// How it ended.
    pub ending: Ending,
    /// What became of each document.
    pub documents: Vec<Filed>,
    /// Why it stays, or what a person may want to know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Problem>,
}

/// The answer of `check`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckReport {
    /// What would become of each file, by path.
    pub files: Vec<FileReport>,
    /// All of them in numbers.
    pub summary: CheckSummary,
}

/// What `check` found, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSummary {
    /// Files that were judged.
    pub files: u64,
    /// Of these, files whose every document would be filed.
    pub managed: u64,
    /// Files of foreign kinds only.
    pub unmanaged: u64,
    /// Files with nothing but comments.
    pub no_documents: u64,
    /// Files that would stay in `raw/`.
    pub rejected: u64,
    /// Documents that would be filed.
    pub documents: u64,
    /// Findings that keep a file from being taken.
    pub errors: u64,
    /// Findings that do not.
    pub warnings: u64,
    /// What was read.
    pub bytes: u64,
}

/// What one stage of the line did in one operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageReport {
    /// `discovery`, `validation`, `classification`, `processing` or `archive`.
    pub name: String,
    /// Files that came in.
    pub files_processed: u32,
    /// Files that went on.
    pub files_success: u32,
    /// Files that stopped here.
    pub files_failed: u32,
}

/// How far the work has come on its way to the remote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Delivery {
    /// There was nothing to send.
    Nothing,
    /// The remote has the commit.
    Pushed {
        /// The commit, as it stands on the remote.
        commit_id: CommitId,
    },
    /// The remote has the commit on a branch of its own, for a person to take over.
    Proposed {
        /// The commit.
        commit_id: CommitId,
        /// The branch, by its full name.
        branch: String,
    },
    /// It is committed here and will be sent again.
    Waiting {
        /// Why it is not there yet.
        reason: String,
    },
    /// A person must act.
    Held {
        /// Why, and what to do.
        reason: String,
    },
    /// No remote is configured: the commit stays here.
    Local,
}

/// The answer of `ingest`: one turn of one fabric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IngestReport {
    /// Whose.
    pub fabric: FabricName,
    /// The journal's entry; none where there was nothing to do, and in a dry run.
    pub operation: Option<OperationId>,
    /// The commit; none where nothing changed.
    pub commit_id: Option<CommitId>,
    /// What became of each drop.
    pub files: Vec<FileReport>,
    /// What each stage did.
    pub stages: Vec<StageReport>,
    /// How far it went.
    pub delivery: Delivery,
    /// Nothing was changed: this is what would happen.
    pub dry_run: bool,
}

/// The answer of `status` for one fabric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FabricStatus {
    /// Its name.
    pub name: FabricName,
    /// Its directory.
    pub dir: RepoPath,
    /// Resources on record.
    pub records: u64,
    /// Drops that wait in `raw/` and are not rejected.
    pub pending: u64,
    /// How far a flood has come; none while what waits fits into one turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Drops that stay in `raw/`, with the first reason of each: the first thousand.
    pub rejected: Vec<RejectedFile>,
    /// How many there are in all.
    #[serde(default)]
    pub rejected_count: u64,
    /// What waits for a person.
    pub conflicts: Vec<Conflict>,
    /// How much the agent does.
    #[serde(default)]
    pub mode: Mode,
    /// Why the fabric waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// Records whose files others removed.
    #[serde(default)]
    pub orphans: u64,
    /// Files in `managed/` without a record: the first thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strays: Vec<Stray>,
    /// Edits by hand that nobody has committed, as they were last seen: the first thousand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hand_edits: Vec<HandEdit>,
    /// The commit that the records follow.
    #[serde(default)]
    pub synced: Option<CommitId>,
}

/// One drop that stays in `raw/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectedFile {
    /// The drop, relative to `raw/`.
    pub path: RawPath,
    /// The first reason.
    pub problem: Option<Problem>,
}

/// How far a flood of drops has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Drops that left `raw/` since it began.
    pub taken: u64,
    /// Drops that wait.
    pub waiting: u64,
    /// Drops that left in a second, on average.
    pub per_second: u64,
}

/// Why an entry of `raw/` is no drop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Ignored {
    /// Its name begins with a dot.
    Hidden,
    /// An editor or a transfer left it, or is not done with it.
    Leftover {
        /// The built-in pattern.
        pattern: String,
    },
    /// The operator said so.
    Pattern {
        /// The pattern of `intake.ignore`.
        pattern: String,
    },
    /// The report of a rejected drop.
    Report,
    /// Half-written files of ours, and drops being taken away.
    Ours,
    /// What the agent put aside: `processed/`, `errors/`.
    Aside,
    /// It ends in none of `.yaml`, `.yml` and `.json`.
    NotNamed,
    /// A directory that may not be looked into, that is nested too deep, or a mount point.
    Unreadable,
}

/// One entry of `raw/` that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredEntry {
    /// Where, relative to `raw/`; of a directory nothing below it is named.
    pub path: RawPath,
    /// It is a directory.
    pub directory: bool,
    /// Why.
    #[serde(flatten)]
    pub why: Ignored,
}

/// What in one `raw/` is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredList {
    /// Whose.
    pub fabric: FabricName,
    /// The first of it, by path.
    pub entries: Vec<IgnoredEntry>,
    /// How much there is in all.
    pub count: u64,
}

/// The answer of `status` for one repository.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RepositoryStatus {
    /// Its work tree.
    pub work_tree: String,
    /// An agent is running and answered.
    pub running: bool,
    /// The branch, where HEAD is on one.
    pub branch: Option<String>,
    /// What HEAD points to.
    pub head: Option<CommitId>,
    /// The remote's name and URL, the URL without any secret.
    pub remote: Option<String>,
    /// Where the remote's branch was when we last heard of it.
    pub remote_head: Option<CommitId>,
    /// Commits of HEAD that the remote is not known to have.
    pub unpushed: u64,
    /// The branch of the remote where commits wait to be taken over, by its full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proposed: Option<String>,
    /// Why the lane stands still, and what to do.
    pub held: Option<String>,
    /// Why the last push did not arrive; it is tried again.
    pub waiting: Option<String>,
    /// Why nothing is sent, where a mode says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<String>,
    /// Why `raw/` is looked at now and then instead of when the kernel tells of a change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub polled: Option<String>,
    /// Turns of the running agent since it started, those that found nothing included.
    #[serde(default)]
    pub turns: u64,
    /// The fabrics.
    pub fabrics: Vec<FabricStatus>,
}

/// One difference that `verify` found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What is compared: `record`, `work_tree`, `head` or `remote`.
    pub between: String,
    /// The path, or the ref.
    pub subject: String,
    /// In words, with the way out.
    pub message: String,
}

/// The answer of `verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Files below `managed/` that were compared.
    pub files: u64,
    /// Records that were compared.
    pub records: u64,
    /// The remote was asked.
    pub remote_asked: bool,
    /// What does not agree; empty is good.
    pub differences: Vec<Difference>,
}

/// One conflict with its three contents, and what a rule would make of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConflictView {
    /// The conflict.
    pub conflict: Conflict,
    /// What both sides began with; none where there was no file.
    pub base: Option<String>,
    /// What was changed here.
    pub record: Option<String>,
    /// What git has now.
    pub git: Option<String>,
    /// What the file would hold after resolving by the rule asked for; empty where it would go,
    /// none where fields stay open.
    pub preview: Option<String>,
    /// The fields that would stay open.
    pub open: Vec<FieldClash>,
}

/// What became of one conflict that was to be resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    /// The resource.
    pub id: ResourceId,
    /// Whose it is.
    pub fabric: FabricName,
    /// Its file.
    pub path: RepoPath,
    /// It is over, or would be in a dry run.
    pub resolved: bool,
    /// The journal's entry; none where git had the outcome already.
    pub operation: Option<OperationId>,
    /// The commit; none where git had the outcome already.
    pub commit_id: Option<CommitId>,
    /// What the file holds now; none where it is gone.
    pub content: Option<String>,
    /// The fields that are still open.
    pub open: Vec<FieldClash>,
    /// Why it stays.
    pub reason: Option<String>,
}

/// The answer of `conflicts resolve`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResolveReport {
    /// What became of each.
    pub conflicts: Vec<Resolved>,
    /// How far the commits went.
    pub delivery: Delivery,
}

/// The answer to an edit of a record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EditReport {
    /// The resource.
    pub id: ResourceId,
    /// Whose it is.
    pub fabric: FabricName,
    /// Its file.
    pub path: RepoPath,
    /// The journal's entry; none where nothing changed.
    pub operation: Option<OperationId>,
    /// The commit; none where nothing changed.
    pub commit_id: Option<CommitId>,
    /// What the file held; none where there was none.
    pub before: Option<String>,
    /// What the file holds; none where it is gone.
    pub after: Option<String>,
    /// The fields that git has changed to other values since; the edit waits as a conflict then.
    pub open: Vec<FieldClash>,
    /// How far it went.
    pub delivery: Delivery,
    /// Nothing was changed: this is what would happen.
    pub dry_run: bool,
}

/// One record with the text of its file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordText {
    /// The record.
    pub record: Record,
    /// What git holds there.
    pub text: String,
}
