//! Conflicts, as clients see them.

use super::change::DeliveryView;
use super::{field_text, word};
use crate::model::conflict::{ConflictStrategy, FieldClash, Side};
use crate::model::record::{Conflict, ConflictKind};
use crate::model::report::{ConflictView as Viewed, Resolved};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// One resource, two contents.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conflict)]
pub struct ConflictView {
    /// The id of the resource, which has at most one.
    #[schema(format = "uuid")]
    pub id: String,
    /// Whose it is.
    pub fabric: String,
    /// Its file.
    pub path: String,
    /// The resource's kind, where it is on record.
    pub resource_kind: Option<String>,
    /// What meets.
    #[serde(rename = "type")]
    pub kind: String,
    /// How it stands.
    pub status: ConflictState,
    /// How much it weighs.
    pub severity: Severity,
    /// In words, with the way out.
    pub message: String,
    /// When it was first seen.
    #[schema(format = DateTime)]
    pub detected_at: String,
    /// The strategy that left it to a person.
    pub strategy: String,
    /// The fields that both sides changed.
    pub fields: Vec<FieldView>,
    /// A strategy can resolve it without a person.
    pub auto_resolvable: bool,
    /// The drop that is kept back.
    pub raw_path: Option<String>,
}

/// How a conflict stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConflictState {
    /// It waits for a person. One that is resolved is not listed any more.
    Detected,
}

/// How much a conflict weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Fields of one resource.
    Medium,
    /// A whole resource is at stake.
    High,
}

/// One field that both sides changed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FieldClash)]
pub struct FieldView {
    /// Which field; the empty text is the resource as a whole.
    pub path: String,
    /// What both began with.
    pub base: Value,
    /// What the record's side has.
    pub record: Value,
    /// What git has.
    pub git: Value,
}

impl From<&FieldClash> for FieldView {
    fn from(it: &FieldClash) -> FieldView {
        let value = |it: &Option<Value>| it.clone().unwrap_or(Value::Null);
        FieldView {
            path: field_text(&it.path),
            base: value(&it.base),
            record: value(&it.record),
            git: value(&it.git),
        }
    }
}

impl ConflictView {
    pub(in crate::api) fn of(it: &Conflict, resource_kind: Option<String>) -> ConflictView {
        ConflictView {
            id: it.id.to_string(),
            fabric: it.fabric.to_string(),
            path: it.path.to_string(),
            resource_kind,
            kind: word(&it.kind),
            status: ConflictState::Detected,
            severity: severity(it.kind),
            message: it.message.clone(),
            detected_at: it.detected_at.to_string(),
            strategy: word(&it.strategy),
            fields: it.fields.iter().map(FieldView::from).collect(),
            auto_resolvable: it.kept,
            raw_path: it.raw_path.as_ref().map(|it| it.to_string()),
        }
    }
}

fn severity(kind: ConflictKind) -> Severity {
    match kind {
        ConflictKind::Merge | ConflictKind::ConcurrentModification => Severity::Medium,
        ConflictKind::DuplicateIdentity | ConflictKind::MissingResource => Severity::High,
    }
}

/// How two contents of one resource become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Field by field; what both changed waits for a person.
    Merge,
    /// Field by field; where both changed one, the record's side counts.
    RecordWins,
    /// Field by field; where both changed one, git's side counts.
    GitWins,
    /// Field by field; where both changed one, the later change counts.
    Newest,
    /// A person decides field by field.
    Manual,
}

impl Strategy {
    pub(in crate::api) fn model(self) -> ConflictStrategy {
        match self {
            Strategy::Merge => ConflictStrategy::Merge,
            Strategy::RecordWins => ConflictStrategy::RecordWins,
            Strategy::GitWins => ConflictStrategy::GitWins,
            Strategy::Newest => ConflictStrategy::Newest,
            Strategy::Manual => ConflictStrategy::Manual,
        }
    }
}

/// One side of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SideView {
    /// What both began with.
    Base,
    /// What was changed here.
    Record,
    /// What git has.
    Git,
}

impl SideView {
    pub(in crate::api) fn model(self) -> Side {
        match self {
            SideView::Base => Side::Base,
            SideView::Record => Side::Record,
            SideView::Git => Side::Git,
        }
    }
}

/// One conflict with its three contents, and what a strategy would make of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConflictDetail {
    /// The conflict.
    #[serde(flatten)]
    pub conflict: ConflictView,
    /// What both sides began with; none where there was no file.
    pub base_content: Option<String>,
    /// What was changed here.
    pub record_content: Option<String>,
    /// What git has now.
    pub git_content: Option<String>,
    /// What the file would hold after resolving so; empty where it would go, none where fields stay
    /// open.
    pub preview: Option<String>,
    /// The fields that would stay open.
    pub open: Vec<FieldView>,
}

impl ConflictDetail {
    pub(in crate::api) fn of(it: Viewed, resource_kind: Option<String>) -> ConflictDetail {
        ConflictDetail {
            conflict: ConflictView::of(&it.conflict, resource_kind),
            base_content: it.base,
            record_content: it.record,
            git_content: it.git,
            preview: it.preview,
            open: it.open.iter().map(FieldView::from).collect(),
        }
    }
}

/// What became of a conflict that was to be resolved.
#[derive(Debug, Serialize, ToSchema)]
pub struct ResolveOutcome {
    /// The conflict, and the resource.
    #[schema(format = "uuid")]
    pub id: String,
    /// Whose it is.
    pub fabric: String,
    /// Its file.
    pub path: String,
    /// It is over, or would be in a dry run.
    pub resolved: bool,
    /// The operation; none where git had the outcome already.
    pub operation_id: Option<String>,
    /// The commit; none where git had the outcome already.
    pub commit_id: Option<String>,
    /// What the file holds now; none where it is gone.
    pub content: Option<String>,
    /// The fields that are still open.
    pub open: Vec<FieldView>,
    /// Why it stays.
    pub reason: Option<String>,
    /// How far the commit went; in bulk it is told once for all.
    pub delivery: Option<DeliveryView>,
}

impl ResolveOutcome {
    pub(in crate::api) fn of(it: Resolved, delivery: Option<DeliveryView>) -> ResolveOutcome {
        ResolveOutcome {
            id: it.id.to_string(),
            fabric: it.fabric.to_string(),
            path: it.path.to_string(),
            resolved: it.resolved,
            operation_id: it.operation.map(|it| it.to_string()),
            commit_id: it.commit_id.map(|it| it.to_string()),
            content: it.content,
            open: it.open.iter().map(FieldView::from).collect(),
            reason: it.reason,
            delivery,
        }
    }
}
