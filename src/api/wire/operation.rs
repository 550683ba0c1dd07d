//! Operations, as clients see them.

use super::word;
use crate::model::operation::{self, Headline, State};
use crate::model::report::StageReport;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How far an operation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationStatus {
    /// It has not begun.
    Pending,
    /// It is under way, or waits for the remote.
    InProgress,
    /// It is over, and done.
    Completed,
    /// It is over, and nothing came of it.
    Failed,
    /// Somebody called it off before it began.
    Cancelled,
    /// A person must act.
    Held,
}

/// One entry of the journal.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = Operation)]
pub struct OperationView {
    /// Sorts by time.
    #[schema(format = "uuid")]
    pub id: String,
    /// Whose it is.
    pub fabric: String,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: String,
    /// How far it has come.
    pub status: OperationStatus,
    /// The step it is at.
    pub phase: String,
    /// The same as a number between 0 and 1.
    pub progress: f64,
    /// What set it off.
    pub trigger: String,
    /// Who is behind it.
    pub actor: String,
    /// When it was planned.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// When it came to rest.
    #[schema(format = DateTime)]
    pub completed_at: Option<String>,
    /// What it did, in numbers.
    pub statistics: Statistics,
    /// What each stage did.
    pub stages: Vec<Stage>,
    /// The commits that it made.
    pub commit_ids: Vec<String>,
    /// The entries of the journal that a sync made.
    pub operation_ids: Vec<String>,
    /// Why it failed, or is held.
    pub errors: Vec<String>,
}

/// What an operation did, in numbers.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Statistics {
    /// Drops that were looked at.
    pub files_processed: u64,
    /// Managed files that are new.
    pub files_created: u64,
    /// Managed files that changed.
    pub files_updated: u64,
    /// Managed files that are gone.
    pub files_deleted: u64,
    /// Drops that stay.
    pub files_rejected: u64,
    /// Conflicts that a sync found.
    pub conflicts_detected: u64,
    /// Conflicts that it resolved.
    pub conflicts_resolved: u64,
}

/// What one stage did.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Stage {
    /// Its name.
    pub name: String,
    /// Files that came in.
    pub files_processed: u32,
    /// Files that went on.
    pub files_success: u32,
    /// Files that stopped here.
    pub files_failed: u32,
}

impl From<Headline> for OperationView {
    fn from(it: Headline) -> OperationView {
        let (status, progress) = match &it.state {
            State::Planned => (OperationStatus::InProgress, 0.2),
            State::Applied => (OperationStatus::InProgress, 0.5),
            State::Committed { .. } => (OperationStatus::InProgress, 0.8),
            State::Pushed { .. } | State::Local { .. } | State::Done => {
                (OperationStatus::Completed, 1.0)
            }
            State::Undone { .. } => (OperationStatus::Failed, 1.0),
            State::Held { .. } => (OperationStatus::Held, 0.5),
        };
        let errors = match &it.state {
            State::Undone { reason } | State::Held { reason } => vec![reason.clone()],
            _ => Vec::new(),
        };
        OperationView {
            id: it.id.to_string(),
            fabric: it.fabric.to_string(),
            kind: word(&it.purpose),
            status,
            phase: it.state.word().to_owned(),
            progress,
            trigger: word(&it.trigger),
            actor: it.actor.clone(),
            started_at: it.started_at.to_string(),
            completed_at: it.completed_at.map(|it| it.to_string()),
            statistics: it.statistics.into(),
            stages: it.stages.into_iter().map(Stage::from).collect(),
            commit_ids: it.state.commit_id().map(|it| it.to_string()).into_iter().collect(),
            operation_ids: Vec::new(),
            errors,
        }
    }
}

impl From<operation::Statistics> for Statistics {
    fn from(it: operation::Statistics) -> Statistics {
        Statistics {
            files_processed: it.files_processed,
            files_created: it.files_created,
            files_updated: it.files_updated,
            files_deleted: it.files_deleted,
            files_rejected: it.files_rejected,
            conflicts_detected: 0,
            conflicts_resolved: 0,
        }
    }
}

impl From<StageReport> for Stage {
    fn from(it: StageReport) -> Stage {
        Stage {
            name: it.name,
            files_processed: it.files_processed,
            files_success: it.files_success,
            files_failed: it.files_failed,
        }
    }
}
