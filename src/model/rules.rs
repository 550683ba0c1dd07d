//! What an operator decides about a fabric and its resources: what the agent may do, and which way.

use super::conflict::ConflictStrategy;
use super::key::{DEFAULT_NAMESPACE, Key};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How much the agent does for a fabric; each does what the one before it does, and more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Records follow git; nothing is written, committed or sent.
    Observe,
    /// Drops and edits of records become commits, which stay here.
    Ingest,
    /// Commits are sent, and what others pushed is taken in.
    Push,
    /// Hand edits below `managed/` are committed as well.
    #[default]
    Full,
}

/// What becomes of the record of a resource whose file others removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// It stays as an orphan, until the resource comes back or somebody deletes it.
    #[default]
    Orphan,
    /// It goes as well.
    Delete,
}

/// What becomes of manifests that were pushed into the fabric's own directory, beside `raw/`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BesideRaw {
    /// They are moved into `raw/` by a commit, and taken like any drop.
    #[default]
    Take,
    /// They stay where they are.
    Leave,
}

/// How many managed files may be removed at once before a person has to say that it is meant: both
/// must be exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemovalLimits {
    /// So many files.
    pub files_max: u64,
    /// Such a share of the fabric's resources.
    pub percent_max: u64,
}

impl Default for RemovalLimits {
    fn default() -> RemovalLimits {
        RemovalLimits { files_max: 10, percent_max: 30 }
    }
}

impl RemovalLimits {
    /// Says whether so many removals of so many resources wait for a person.
    pub fn exceeded_by(&self, removed: u64, of: u64) -> bool {
        removed > self.files_max
            && removed.saturating_mul(100) > of.saturating_mul(self.percent_max)
    }
}

/// Which way changes of a resource may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Both ways.
    #[default]
    Bidirectional,
    /// Records and drops change it; what others change in git is put back by a new commit.
    RecordToGit,
    /// Git changes it; drops and edits of the record are refused.
    GitToRecord,
    /// Neither drops, edits of the record nor hand edits are taken; the record shows what git has.
    Disabled,
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
word!(Mode);
word!(OnDelete);
word!(Direction);

/// What holds for some resources of a fabric instead of what holds for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceRule {
    /// Which: `Kind/name` or `Kind/namespace/name`; `*` stands for any characters but a slash.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Which way changes go.
    #[serde(default)]
    pub direction: Option<Direction>,
    /// What happens where two sides changed it.
    #[serde(default)]
    pub conflict: Option<ConflictStrategy>,
}

/// All that is decided about a fabric and its resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FabricRules {
    /// How much the agent does.
    pub mode: Mode,
    /// What becomes of a record whose file others removed.
    pub on_delete: OnDelete,
    /// What becomes of manifests beside `raw/`.
    pub beside_raw: BesideRaw,
    /// How many removals at once wait for a person.
    pub removals: RemovalLimits,
    /// Where two sides changed one resource.
    pub conflict: ConflictStrategy,
    /// For some resources; the first that is about one counts.
    pub resources: Vec<ResourceRule>,
}

impl FabricRules {
    /// What happens where two sides changed this resource.
    pub fn conflict_of(&self, key: &Key) -> ConflictStrategy {
        let own = self.resources.iter().filter(|it| it.is_about(key)).find_map(|it| it.conflict);
        own.unwrap_or(self.conflict)
    }

    /// The same, where the direction of the resource has not said it already.
    pub fn strategy_of(&self, key: &Key) -> ConflictStrategy {
        match self.direction_of(key) {
            Direction::Bidirectional => self.conflict_of(key),
            Direction::RecordToGit => ConflictStrategy::RecordWins,
            Direction::GitToRecord | Direction::Disabled => ConflictStrategy::GitWins,
        }
    }

    /// Which way changes of this resource may go.
    pub fn direction_of(&self, key: &Key) -> Direction {
        let own = self.resources.iter().filter(|it| it.is_about(key)).find_map(|it| it.direction);
        own.unwrap_or_default()
    }
}

impl ResourceRule {
    /// Says whether it is about the resource of `key`.
    pub fn is_about(&self, key: &Key) -> bool {
        let parts: Vec<&str> = self.pattern.split('/').collect();
        match parts[..] {
            [kind, name] => {
                key.namespace == DEFAULT_NAMESPACE && like(kind, &key.kind) && like(name, &key.name)
            }
            [kind, namespace, name] => {
                like(kind, &key.kind) && like(namespace, &key.namespace) && like(name, &key.name)
            }
            _ => false,
        }
    }
}

/// Says whether `text` is like `pattern`, letter by letter, `*` standing for any of them.
pub(super) fn like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_removals_are_so_by_number_and_by_share() {
        let limits = RemovalLimits::default();
        assert!(!limits.exceeded_by(10, 10), "few are nobody's accident");
        assert!(!limits.exceeded_by(30, 100), "a share of many is not either");
        assert!(limits.exceeded_by(11, 20) && limits.exceeded_by(31, 100));
    }

    #[test]
    fn a_rule_is_about_what_its_pattern_says() {
        let key = |namespace: &str, name: &str| Key {
            group: String::new(),
            kind: "VPC".into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let rule = |pattern: &str| ResourceRule {
            pattern: pattern.into(),
            direction: None,
            conflict: None,
        };
        assert!(rule("VPC/vpc-1").is_about(&key("default", "vpc-1")));
        assert!(rule("*/vpc-*").is_about(&key("default", "vpc-1")));
        assert!(rule("VPC/*/*1").is_about(&key("team", "vpc-1")));
        assert!(rule("VPC/v*c*1").is_about(&key("default", "vpc-1")));
        assert!(!rule("VPC/vpc-1").is_about(&key("team", "vpc-1")));
        assert!(!rule("VPC/vpc").is_about(&key("default", "vpc-1")));
        assert!(!rule("VPC/*-2").is_about(&key("default", "vpc-1")));
        assert!(!rule("VPC").is_about(&key("default", "VPC")));
    }
}
