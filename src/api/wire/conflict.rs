//! Conflicts, as clients see them.

use super::{field_text, word};
use crate::model::conflict::{ConflictStrategy, FieldClash};
use crate::model::record::{Conflict, ConflictKind};
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

/// How much a conflict weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
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
