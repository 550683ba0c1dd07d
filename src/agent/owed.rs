//! Events that somebody must hear of even if the agent is killed: kept in the store with what they tell
//! of, until they were told for good.
//!
//! Only what a fabric's programs asked for is kept. What is kept is let go by the lane's own next write,
//! so telling costs the lane nothing of its own.

use super::events::{About, EventKind};
use crate::model::fabric::FabricName;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// One event, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// When.
    pub at: jiff::Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// In which fabric.
    pub fabric: FabricName,
    /// What it is about.
    pub about: About,
}

/// Who must hear, and how far each lane's events were told.
#[derive(Debug, Default)]
pub struct Owing(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// None until that is known: then everything is owed.
    wanted: Option<BTreeSet<FabricName>>,
    told: HashMap<Arc<str>, u64>,
}

impl Owing {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the events of these fabrics are owed, and no others.
    pub fn want(&self, fabrics: BTreeSet<FabricName>) {
        self.lock().wanted = Some(fabrics);
    }

    /// Says whether somebody must hear of a fabric's events.
    pub fn wants(&self, fabric: &FabricName) -> bool {
        self.lock().wanted.as_ref().is_none_or(|it| it.contains(fabric))
    }

    /// What a lane's store keeps up to this number was told for good.
    pub fn tell(&self, repository: &Arc<str>, number: u64) {
        self.lock().told.insert(repository.clone(), number);
    }

    /// How far that is.
    pub fn told(&self, repository: &str) -> u64 {
        self.lock().told.get(repository).copied().unwrap_or(0)
    }
}
