//! The will: one lane per repository, each a loop over a closed set of events.

mod advance;
pub mod conflicts;
pub mod desk;
mod edits;
mod find;

pub mod inbox;
pub mod lane;
mod lookup;
mod named;
mod meet;
pub mod message;
pub mod records;
pub mod recovery;
pub mod run;
pub mod schedule;
mod settle;
pub mod structure;
mod suspects;
pub mod sync;
pub mod turn;
pub mod verify;

use crate::{git, store, worktree};
use std::path::PathBuf;

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
    /// The settings name no fabric.
    #[error("{path} has no fabric")]
    NoFabric {
        /// The work tree.
        path: PathBuf,
    },
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
            | Error::NoFabric { .. }
            | Error::NotFound { .. }
            | Error::Refused { .. } => git::Retry::Never,
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
