//! A plan's life, from *Planned* to *Pushed* or *Held*.

use super::fabric::FabricName;
use super::ids::{CommitId, OperationId};
use super::plan::{Planned, Taken};
use super::report::{Action, Ending, FileReport, StageReport};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where an operation stands.
///
/// ```text
///            apply            commit             push
///  Planned ─────────► Applied ─────────► Committed ─────────► Pushed
///     │                  │                │    ▲ try later
///     │                  │                └────┘
///     └──────────────────┴────────► Held ◄── a person must act (the reason, in words)
/// ```
///
/// *Settled* beside `Committed` says that records and `raw/` follow the commit already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// In the journal; nothing has been changed yet.
    Planned,
    /// Files are in place; no commit names them yet.
    Applied,
    /// The branch has it.
    Committed {
        /// The commit.
        commit_id: CommitId,
        /// Records and `raw/` follow it already.
        settled: bool,
    },
    /// The remote has it.
    Pushed {
        /// The commit as it stands on the remote (replaying may have made it anew).
        commit_id: CommitId,
    },
    /// The branch has it, and no remote is wanted.
    Local {
        /// The commit.
        commit_id: CommitId,
    },
    /// There was nothing to commit: only reports, or drops that changed nothing.
    Done,
    /// Undone, or never begun; the drops are where they were.
    Undone {
        /// Why.
        reason: String,
    },
    /// A person must act.
    Held {
        /// Why, and what to do.
        reason: String,
    },
}

impl State {
    /// A word for tables.
    pub fn word(&self) -> &'static str {
        match self {
            State::Planned => "planned",
            State::Applied => "applied",
            State::Committed { .. } => "committed",
            State::Pushed { .. } => "pushed",
            State::Local { .. } => "local",
            State::Done => "done",
            State::Undone { .. } => "undone",
            State::Held { .. } => "held",
        }
    }

    /// Says whether recovery has to look at it.
    pub fn is_open(&self) -> bool {
        match self {
            State::Planned | State::Applied | State::Committed { .. } => true,
            State::Pushed { .. } | State::Local { .. } | State::Done => false,
            State::Undone { .. } | State::Held { .. } => false,
        }
    }

    /// The commit, where there is one.
    pub fn commit_id(&self) -> Option<CommitId> {
        match self {
            State::Committed { commit_id, .. }
            | State::Pushed { commit_id }
            | State::Local { commit_id } => Some(*commit_id),
            State::Planned | State::Applied | State::Done => None,
            State::Undone { .. } | State::Held { .. } => None,
        }
    }
}

/// What an operation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Drops become managed files.
    Ingestion,
    /// The three directories are made or repaired.
    DirectoryInit,
    /// Records follow what others committed, hand edits are committed.
    GitToRecord,
    /// A record is edited, made or removed.
    RecordToGit,
    /// A conflict is decided.
    ConflictResolution,
    /// An earlier operation is undone by a new commit.
    Rollback,
    /// Files of a fabric are taken away because somebody asked for it.
    Cleanup,
}

/// What set it off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A kernel event.
    Watch,
    /// The agent's start.
    Startup,
    /// The periodic look.
    Schedule,
    /// A person at the command line.
    Cli,
    /// A program, through the API.
    Api,
    /// Somebody's server told of a push.
    Webhook,
}

macro_rules! serde_word {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // The word on the screen is the word in JSON.
                Serialize::serialize(self, f)
            }
        }
    };
}
serde_word!(Purpose);
serde_word!(Trigger);

/// One entry of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operation {
    /// Sorts by time.
    pub id: OperationId,
    /// Whose it is.
    pub fabric: FabricName,
    /// What it is for.
    pub purpose: Purpose,
    /// What set it off.
    pub trigger: Trigger,
    /// Who is behind it: the agent, or a person's name.
    pub actor: String,
    /// When it was planned.
    pub started_at: jiff::Timestamp,
    /// When it came to rest.
    #[serde(default)]
    pub completed_at: Option<jiff::Timestamp>,
    /// Where it stands.
    #[serde(flatten)]
    pub state: State,
    /// The commit that was HEAD when it was planned; none on an unborn branch.
    pub base: Option<CommitId>,
    /// The branch it goes to, by its full name.
    pub branch: String,
    /// What it changes in the tree.
    pub changes: Vec<Planned>,
    /// What may leave `raw/` afterwards.
    pub taken: Vec<Taken>,
    /// What became of each drop.
    pub files: Vec<FileReport>,
    /// What each stage did.
    pub stages: Vec<StageReport>,
}

impl Operation {
    /// What can be said of it in a line.
    pub fn headline(&self) -> Headline {
        Headline {
            id: self.id,
            fabric: self.fabric.clone(),
            purpose: self.purpose,
            trigger: self.trigger,
            actor: self.actor.clone(),
            started_at: self.started_at,
            completed_at: self.completed_at,
            state: self.state.clone(),
            stages: self.stages.clone(),
            statistics: Statistics::of(self),
        }
    }
}

/// What can be said of an operation in a line. What it did file by file has megabytes after a flood, and
/// hardly anybody asks for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Headline {
    /// Sorts by time.
    pub id: OperationId,
    /// Whose it is.
    pub fabric: FabricName,
    /// What it is for.
    pub purpose: Purpose,
    /// What set it off.
    pub trigger: Trigger,
    /// Who is behind it.
    pub actor: String,
    /// When it was planned.
    pub started_at: jiff::Timestamp,
    /// When it came to rest.
    #[serde(default)]
    pub completed_at: Option<jiff::Timestamp>,
    /// Where it stands.
    #[serde(flatten)]
    pub state: State,
    /// What each stage did.
    pub stages: Vec<StageReport>,
    /// What it did, in numbers.
    pub statistics: Statistics,
}

/// What an operation did, in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
}

impl Statistics {
    fn of(it: &Operation) -> Statistics {
        let files_processed = it.files.len() as u64;
        let mut found = Statistics { files_processed, ..Statistics::default() };
        for file in &it.files {
            found.files_rejected += u64::from(file.ending == Ending::Rejected);
            for document in &file.documents {
                match document.action {
                    Action::Created => found.files_created += 1,
                    Action::Updated => found.files_updated += 1,
                    Action::Unchanged | Action::Unmanaged => (),
                }
            }
        }
        // What comes from no drop is told by the changes alone.
        if it.files.is_empty() {
            for change in &it.changes {
                match (&change.digest, &change.was) {
                    (Some(_), None) => found.files_created += 1,
                    (Some(_), Some(_)) => found.files_updated += 1,
                    (None, _) => found.files_deleted += 1,
                }
            }
        }
        found
    }
}
