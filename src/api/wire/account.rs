//! What waits for a person, what was undone, and where a resource stands, as clients see it.

use super::change::DeliveryView;
use super::conflict::FieldView;
use super::resource::{ConflictStatus, ResourceView};
use super::word;
use crate::agent::fabrics::FabricChange;
use crate::model::account::{self, Hold, ReleaseReport, RevertReport};
use crate::model::record::{Modification, Orphan};
use serde::Serialize;
use utoipa::ToSchema;

/// Why a fabric waits for a person before anything else happens to it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Hold)]
pub struct HoldView {
    /// What waits: `removed_in_git` or `removed_by_hand`.
    pub kind: String,
    /// How many managed files are gone.
    pub removed: u64,
    /// Of how many resources.
    pub of: u64,
    /// The first of them.
    pub paths: Vec<String>,
    /// In words, with the way out.
    pub reason: String,
}

impl From<&Hold> for HoldView {
    fn from(it: &Hold) -> HoldView {
        HoldView {
            kind: word(&it.kind),
            removed: it.removed,
            of: it.of,
            paths: it.paths.iter().map(|it| it.to_string()).collect(),
            reason: it.reason.clone(),
        }
    }
}

/// What was done to a fabric, or would be.
#[derive(Debug, Serialize, ToSchema)]
pub struct FabricOutcome {
    /// Its name, which is its id.
    pub id: String,
    /// Its directory in the repository.
    pub directory: String,
    /// How many files were made, brought back or removed.
    pub files: u64,
    /// The tag that keeps what was there.
    pub backup: Option<String>,
    /// The operation; none where nothing was committed.
    pub operation_id: Option<String>,
    /// The commit; none where nothing was committed.
    pub commit_id: Option<String>,
    /// How far the commit went.
    pub delivery: DeliveryView,
    /// Nothing was changed: this is what would happen.
    pub dry_run: bool,
}

impl From<FabricChange> for FabricOutcome {
    fn from(it: FabricChange) -> FabricOutcome {
        FabricOutcome {
            id: it.name.to_string(),
            directory: it.dir.to_string(),
            files: it.files,
            backup: it.backup,
            operation_id: it.operation.map(|it| it.to_string()),
            commit_id: it.commit_id.map(|it| it.to_string()),
            delivery: DeliveryView::from(&it.delivery),
            dry_run: it.dry_run,
        }
    }
}

/// What goes on that waited for a person.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReleaseOutcome {
    /// What it waited for; none where it waited for nothing.
    pub released: Option<HoldView>,
    /// What was gone is back; else that it is gone was accepted.
    pub restored: bool,
    /// The operation; none where nothing had to be committed.
    pub operation_id: Option<String>,
    /// The commit; none where nothing had to be committed.
    pub commit_id: Option<String>,
    /// How far it went.
    pub delivery: DeliveryView,
}

impl From<ReleaseReport> for ReleaseOutcome {
    fn from(it: ReleaseReport) -> ReleaseOutcome {
        // One fabric is asked for, and waits for one thing at a time.
        let released = it.released.into_iter().next();
        ReleaseOutcome {
            released: released.as_ref().map(|it| HoldView::from(&it.hold)),
            restored: released.as_ref().is_some_and(|it| it.restored),
            operation_id: released.as_ref().and_then(|it| Some(it.operation?.to_string())),
            commit_id: released.and_then(|it| Some(it.commit_id?.to_string())),
            delivery: DeliveryView::from(&it.delivery),
        }
    }
}

/// What was undone, or would be.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevertOutcome {
    /// The operation that is undone.
    pub reverted: String,
    /// Whose it is.
    pub fabric: String,
    /// The operation of the undoing; none where nothing was done.
    pub operation_id: Option<String>,
    /// The commit; none where nothing was done.
    pub commit_id: Option<String>,
    /// What becomes of each file.
    pub files: Vec<RevertedFile>,
    /// How far the commit went.
    pub delivery: DeliveryView,
    /// Nothing was changed: this is what would happen.
    pub dry_run: bool,
}

/// What becomes of one file when an operation is undone.
#[derive(Debug, Serialize, ToSchema)]
pub struct RevertedFile {
    /// Which, relative to the top of the repository.
    pub path: String,
    /// It was changed since; what came later stays where it can.
    pub changed_since: bool,
    /// Fields that were changed since: nothing is undone while there are any.
    pub open: Vec<FieldView>,
}

impl From<RevertReport> for RevertOutcome {
    fn from(it: RevertReport) -> RevertOutcome {
        let files = it.files.iter().map(|it| RevertedFile {
            path: it.path.to_string(),
            changed_since: it.changed_since,
            open: it.open.iter().map(FieldView::from).collect(),
        });
        RevertOutcome {
            files: files.collect(),
            reverted: it.reverted.to_string(),
            fabric: it.fabric.to_string(),
            operation_id: it.operation.map(|it| it.to_string()),
            commit_id: it.commit_id.map(|it| it.to_string()),
            delivery: DeliveryView::from(&it.delivery),
            dry_run: it.dry_run,
        }
    }
}

/// A change of a resource in git that did not come through the agent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Modification)]
pub struct ModificationView {
    /// The commit.
    pub commit_id: String,
    /// Whose it is, by name.
    pub author: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub at: String,
    /// The first line of what it says.
    pub subject: String,
}

impl From<&Modification> for ModificationView {
    fn from(it: &Modification) -> ModificationView {
        ModificationView {
            commit_id: it.commit_id.to_string(),
            author: it.author.clone(),
            at: it.at.to_string(),
            subject: it.subject.clone(),
        }
    }
}

/// A resource whose file others removed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Orphan)]
pub struct OrphanView {
    /// As it was.
    pub resource: ResourceView,
    /// Who removed it.
    pub removed: ModificationView,
}

impl OrphanView {
    pub(in crate::api) fn of(it: Orphan, direction: String) -> OrphanView {
        OrphanView {
            removed: ModificationView::from(&it.removed),
            resource: ResourceView::of(it.record, direction, false),
        }
    }
}

/// Where a resource stands between record, git and cluster.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResourceState {
    /// The resource.
    #[schema(format = "uuid")]
    pub resource_id: String,
    /// Whose it is.
    pub fabric: String,
    /// Its file, relative to the top of the repository.
    pub path: String,
    /// `committed`, `synced`, `drifted` or `orphaned`.
    pub state: String,
    /// `in_sync`, `spec_drift`, `desired_only` or `actual_only`; none where nobody told what a cluster has.
    pub drift: Option<String>,
    /// When somebody told what a cluster has.
    #[schema(format = DateTime)]
    pub actual_at: Option<String>,
    /// HEAD has another content than the record.
    pub differs_from_head: bool,
    /// The work tree has another content than HEAD.
    pub edited_by_hand: bool,
    /// The remote has it as HEAD does, as far as the agent heard.
    pub on_remote: bool,
    /// Which way changes of it may go.
    pub sync_direction: String,
    /// What happens where two sides changed it.
    pub conflict_strategy: String,
    /// Whether two sides changed it.
    pub conflict_status: ConflictStatus,
    /// The newest changes that did not come through the agent, the newest first.
    pub external_modifications: Vec<ModificationView>,
    /// Who removed its file, where others did.
    pub removed: Option<ModificationView>,
}

impl From<account::ResourceView> for ResourceState {
    fn from(it: account::ResourceView) -> ResourceState {
        ResourceState {
            resource_id: it.record.id.to_string(),
            fabric: it.record.fabric.to_string(),
            path: it.record.path.to_string(),
            state: word(&it.state),
            drift: it.drift.map(|it| word(&it)),
            actual_at: it.record.actual.as_ref().map(|it| it.at.to_string()),
            differs_from_head: it.differs_from_head,
            edited_by_hand: it.edited_by_hand,
            on_remote: it.on_remote,
            sync_direction: it.direction.to_string(),
            conflict_strategy: word(&it.strategy),
            conflict_status: match it.conflict {
                Some(_) => ConflictStatus::Detected,
                None => ConflictStatus::None,
            },
            external_modifications: it
                .record
                .modifications
                .iter()
                .map(ModificationView::from)
                .collect(),
            removed: it.removed.as_ref().map(ModificationView::from),
        }
    }
}
