//! How a lane stands, written on a board: whoever only wants to know reads it there.
//!
//! A lane that pushes answers nobody for as long as the push takes. What others may want to know
//! meanwhile is written here after each pass, and read without a word to the lane. Records, operations
//! and conflicts are in the store, which can be read at any time as well.

use super::desk::Live;
use super::lane::Lane;
use crate::git::Head;
use crate::model::account::Hold;
use crate::model::fabric::Fabric;
use crate::model::ids::CommitId;
use crate::model::report::Progress;
use crate::model::rules::FabricRules;
use crate::pipeline::archive::ArchiveStrategy;
use crate::pipeline::processing::Strategies;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The board of one lane.
#[derive(Debug, Default)]
pub struct Board {
    shown: RwLock<Arc<Shown>>,
    /// Goes up with every writing.
    changes: AtomicU64,
}

/// What is written there.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// What the agent knows beside the lane.
    pub live: Live,
    /// The branch, where HEAD is on one.
    pub branch: Option<String>,
    /// What HEAD points to.
    pub head: Option<CommitId>,
    /// The remote's name and URL, the URL without any secret.
    pub remote: Option<String>,
    /// The URL alone.
    pub remote_url: Option<String>,
    /// Where the remote's branch was when we last heard of it.
    pub remote_head: Option<CommitId>,
    /// Why no commit can be made now.
    pub held: Option<String>,
    /// The file that the settings of its fabrics stand in; none is the repository's own.
    pub settings_file: Option<PathBuf>,
    /// The fabrics.
    pub fabrics: Vec<FabricShown>,
}

/// What is written of one fabric.
#[derive(Debug, Clone)]
pub struct FabricShown {
    /// Its name and place.
    pub fabric: Fabric,
    /// Its operator's choices.
    pub strategies: Strategies,
    /// Where originals are kept.
    pub archive: ArchiveStrategy,
    /// What may change, and how what two sides changed is decided.
    pub rules: FabricRules,
    /// Why it waits for a person.
    pub hold: Option<Hold>,
    /// How far a flood of drops has come.
    pub progress: Option<Progress>,
}

impl Board {
    /// Writes it anew.
    pub fn show(&self, shown: Shown) {
        *self.shown.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(shown);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// How often it was written: whoever sees another number than before looks again.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// What is written there now.
    pub fn read(&self) -> Arc<Shown> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shown {
    /// How a lane stands.
    pub fn of(lane: &Lane, live: &Live) -> Shown {
        let unknown = Head { branch: None, commit: None, busy: None };
        let head = lane.repo.head().unwrap_or(unknown);
        let remote = lane.settings.remote.as_ref();
        let remote_url = remote.and_then(|it| lane.repo.remote_shown(&it.name));
        let remote_head = remote.zip(head.branch.as_ref());
        let fabrics = lane.fabrics.iter().map(|it| FabricShown {
            fabric: it.fabric.clone(),
            strategies: it.strategies,
            archive: it.archive,
            rules: it.rules.clone(),
            hold: it.hold.clone(),
            progress: it.inbox.progress(),
        });
        Shown {
            live: live.clone(),
            remote: remote.map(|it| match &remote_url {
                Some(url) => format!("{} ({url})", it.name),
                None => format!("{} (not configured)", it.name),
            }),
            remote_url: remote_url.clone(),
            remote_head: remote_head
                .and_then(|(it, branch)| lane.repo.tracking(&it.name, branch).ok().flatten()),
            held: head.busy.map(|it| it.to_string()).or_else(|| live.held.clone()),
            branch: head.branch,
            head: head.commit,
            settings_file: lane.repository.file.clone(),
            fabrics: fabrics.collect(),
        }
    }
}
