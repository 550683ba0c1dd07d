//! The will: one lane per repository, each a loop over a closed set of events.

mod advance;
mod asker;
pub mod board;
mod archive;
mod backup;
mod beside;
mod closed;
pub mod conflicts;
pub mod choices;
mod counter;
pub mod desk;
pub mod droppers;
mod edits;
pub mod events;
pub mod owed;
pub mod exchange;
pub mod fabrics;
pub mod files;
mod find;
pub mod follow;
mod hands;
mod glance;
mod history;
pub mod inbox;
pub mod lane;
mod judging;
mod lookup;
mod named;
mod meet;
pub mod message;
mod picked;
pub mod programs;
mod propose;
pub mod records;
pub mod recovery;
mod read;
mod release;
mod revert;
pub mod run;
pub mod schedule;
mod settle;
mod standing;
pub mod structure;
mod suspects;
pub mod sync;
pub mod take;
pub mod tidy;
pub mod turn;
pub mod verify;
pub mod view;

use crate::model::problem::Problem;
use crate::{git, store, worktree};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// So many mistakes of a text are told in one line.
const PROBLEMS_TOLD_MAX: usize = 10;

/// What kind of no an answer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Because {
    /// The world failed us.
    #[default]
    Failed,
    /// There is no such thing.
    Absent,
    /// It cannot be done as things stand.
    Refused,
    /// A text has mistakes.
    Invalid,
    /// There is such a thing already.
    Exists,
    /// The thing is not what the asker saw any more.
    Stale,
    /// A person must act first.
    Held,
    /// Somebody else is at work.
    Busy,
}

fn told(problems: &[Problem]) -> String {
    let told = problems.iter().filter(|it| it.is_error()).take(PROBLEMS_TOLD_MAX);
    let told: Vec<String> = told
        .map(|it| match &it.hint {
            Some(hint) => format!("{it}: {hint}"),
            None => it.to_string(),
        })
        .collect();
    told.join("; ")
}

/// What the agent could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The hand on the files.
    #[error(transparent)]
    WorkTree(#[from] worktree::Error),
    /// The hand on the history.
    #[error(transparent)]
    Git(#[from] git::Error),
    /// The memory.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Somebody committed between our look and our commit; the next turn starts from there.
    #[error("cannot commit: the branch moved meanwhile")]
    HeadMoved,
    /// Somebody else's lock.
    #[error("cannot commit: {path} is locked by another process")]
    Locked {
        /// The lock.
        path: PathBuf,
    },
    /// A person must act; it goes on by itself afterwards.
    #[error("the repository is held: {reason}")]
    Held {
        /// Why, and what to do.
        reason: String,
    },
    /// Another agent or command is at work on this tree.
    #[error("{path} is locked: another git-intake is at work on this repository")]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// The state directory cannot be used.
    #[error("cannot use the state directory")]
    State(#[source] std::io::Error),
    /// What was asked for is not there.
    #[error("there is no {what}")]
    NotFound {
        /// What.
        what: String,
    },
    /// What was asked for cannot be done as things stand.
    #[error("{what}")]
    Refused {
        /// What, why, and the way out.
        what: String,
    },
    /// A text that is no resource to be filed, with every mistake and its place.
    #[error("this is no resource to be filed: {}", told(.problems))]
    Invalid {
        /// Every mistake.
        problems: Vec<Problem>,
    },
    /// There is such a thing already.
    #[error("{what}")]
    Exists {
        /// What, and where.
        what: String,
    },
    /// It is not what the asker saw any more.
    #[error("{what} has changed since; look at it again, and decide anew")]
    Stale {
        /// What.
        what: String,
    },
    /// The store refused a write in the middle, and must be opened again.
    #[error("the store has to be opened again after a write that failed")]
    StoreLost,
}

impl Error {
    /// Says whether trying again by itself can help.
    pub fn retry(&self) -> git::Retry {
        match self {
            Error::WorkTree(worktree::Error::NotADirectory { .. }) => git::Retry::Never,
            Error::WorkTree(_) | Error::HeadMoved | Error::Locked { .. } | Error::State(_) => {
                git::Retry::Later
            }
            Error::Git(it) => it.retry(),
            Error::Store(store::Error::InUse { .. } | store::Error::Newer { .. }) => {
                git::Retry::Never
            }
            Error::Store(_) | Error::Held { .. } | Error::StoreLost => git::Retry::Later,
            Error::Busy { .. }
            | Error::NotFound { .. }
            | Error::Invalid { .. }
            | Error::Exists { .. }
            | Error::Stale { .. }
            | Error::Refused { .. } => git::Retry::Never,
        }
    }

    /// What kind of no it is, for programs.
    pub fn because(&self) -> Because {
        match self {
            Error::NotFound { .. } => Because::Absent,
            Error::Refused { .. } => Because::Refused,
            Error::Invalid { .. } => Because::Invalid,
            Error::Exists { .. } => Because::Exists,
            Error::Stale { .. } => Because::Stale,
            Error::Held { .. } => Because::Held,
            Error::Busy { .. } | Error::HeadMoved | Error::Locked { .. } => Because::Busy,
            Error::WorkTree(_)
            | Error::Git(_)
            | Error::Store(_)
            | Error::State(_)
            | Error::StoreLost => Because::Failed,
        }
    }

    /// The mistakes of a text, with their places.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Error::Invalid { problems } => problems,
            _ => &[],
        }
    }

    /// The whole chain of causes, for people.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(it) = source {
            let words = it.to_string();
            if !text.contains(&words) {
                text.push_str(&format!(": {words}"));
            }
            source = it.source();
        }
        text
    }
}
