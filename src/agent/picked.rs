//! What one command means of all that waits: the rest waits on, as if nobody had looked.

use super::desk::Request;
use super::lane::Lane;
use crate::model::document::{Rejected, Validated};
use crate::model::key::Key;
use crate::model::path::RawPath;
use crate::model::selection::Selection;
use crate::worktree::Patterns;
use std::collections::HashSet;

/// A selection at work.
#[derive(Debug)]
pub(super) struct Picked {
    selection: Selection,
    files: Option<Patterns>,
    /// Drops that were read and are not meant.
    passed: HashSet<RawPath>,
}

impl Picked {
    /// None where nothing is left out.
    pub fn of(selection: &Selection) -> Option<Picked> {
        let files = (!selection.files.is_empty()).then(|| Patterns::new(&selection.files));
        let picked = Picked { selection: selection.clone(), files, passed: HashSet::new() };
        (!selection.is_everything()).then_some(picked)
    }

    /// Says whether a drop may be meant, as far as its place tells.
    pub fn takes_drop(&self, path: &RawPath) -> bool {
        self.files.as_ref().is_none_or(|it| it.take(path.as_bytes())) && !self.passed.contains(path)
    }

    /// Says whether a resource is meant.
    pub fn takes(&self, key: &Key) -> bool {
        self.selection.takes(key)
    }

    /// Leaves out what holds none of the resources that are meant. Of a drop with a mistake nobody
    /// knows what it holds.
    pub fn keep(&mut self, valid: &mut Vec<Validated>, rejected: &mut Vec<Rejected>) {
        if !self.selection.is_of_resources() {
            return;
        }
        self.passed.extend(rejected.drain(..).map(|it| it.intake.path));
        valid.retain(|it| {
            let meant = it.documents.iter().any(|it| self.selection.takes(&it.key));
            if !meant {
                self.passed.insert(it.intake.path.clone());
            }
            meant
        });
    }
}

/// Does something for what is meant alone.
pub(super) fn with<T>(
    lane: &mut Lane,
    selection: &Selection,
    work: impl FnOnce(&mut Lane) -> T,
) -> T {
    lane.picked = Picked::of(selection);
    let done = work(lane);
    lane.picked = None;
    done
}

impl Request {
    /// Says whether answering it looks at drops and takes none of some.
    pub(super) fn leaves_drops(&self) -> bool {
        match self {
            Request::Ingest { dry_run } => *dry_run,
            Request::Program(it) => it.leaves_drops(),
            Request::Sync(it) => it.dry_run || !it.selection.is_everything(),
            _ => false,
        }
    }
}
