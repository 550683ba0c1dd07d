//! How two contents of one resource meet: sides, strategies and the fields that both changed.

use super::field::FieldPath;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One of the three contents that a merge looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What both began with.
    Base,
    /// What was changed here: by a drop, or by an edit of the record.
    Record,
    /// What git has: what others pushed, or somebody committed.
    Git,
}

/// What happens where both sides changed one resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictStrategy {
    /// Field by field; what both changed differently waits for a person.
    #[default]
    Merge,
    /// Field by field; where both changed one, the record's side counts.
    RecordWins,
    /// Field by field; where both changed one, git's side counts.
    GitWins,
    /// Field by field; where both changed one, the later change counts.
    Newest,
    /// Nothing is merged unseen: every such resource waits for a person.
    Manual,
}

/// One field that both sides changed, with what each has there; none where it is absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldClash {
    /// Which field.
    pub path: FieldPath,
    /// What both began with.
    pub base: Option<serde_json::Value>,
    /// What the record's side has.
    pub record: Option<serde_json::Value>,
    /// What git has.
    pub git: Option<serde_json::Value>,
}

macro_rules! word {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // The word on the screen is the word in JSON and in the settings.
                Serialize::serialize(self, f)
            }
        }
    };
}
word!(Side);
word!(ConflictStrategy);
