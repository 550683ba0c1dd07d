//! The journal: every operation as it was planned, and beside it where it stands.
//!
//! A flood's plan names thousands of drops, so it is written once; each step that the operation takes
//! is a short entry of its own. A plan without one was written by an older version, which kept both
//! in one.

use super::write::Batch;
use super::{BATCH_MAX, Error, Settlement, Store, decode, get, read};
use crate::model::digest::Xxh3;
use crate::model::ids::OperationId;
use crate::model::operation::{Operation, State};
use crate::step::Step;
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::atomic::Ordering;

/// How many closed operations the journal keeps.
pub(super) const OPERATIONS_KEPT_MAX: usize = 10_000;

/// Where an operation stands: all that changes of it once it is planned.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Stand {
    /// Where.
    #[serde(flatten)]
    pub(super) state: State,
    /// When it came to rest.
    #[serde(default)]
    completed_at: Option<jiff::Timestamp>,
    /// The digest of the plan as it lies in the store, which may have megabytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) plan: Option<Xxh3>,
}

impl Stand {
    /// Where an operation stands now.
    pub(super) fn of(it: &Operation, plan: &[u8]) -> Stand {
        let plan = Some(Xxh3::of(plan));
        Stand { state: it.state.clone(), completed_at: it.completed_at, plan }
    }
}

impl Store {
    /// Writes an operation to the journal, durably, before its first effect.
    pub fn begin(&self, operation: &Operation) -> Result<(), Error> {
        self.steps.pass(Step::Journal).map_err(Error::Write)?;
        self.settle(Settlement { operation: Some(operation.clone()), ..Settlement::default() })
    }

    /// One operation.
    pub fn operation(&self, id: &OperationId) -> Result<Option<Operation>, Error> {
        let id = id.0.as_bytes();
        let found = self.sound(&self.operations)?.get(id).map_err(read)?;
        found.map(|plan| self.journaled(id, &plan)).transpose()
    }

    /// An operation where it stands now.
    fn journaled(&self, id: &[u8], plan: &[u8]) -> Result<Operation, Error> {
        let mut operation: Operation = decode(plan)?;
        if let Some(Stand { state, completed_at, .. }) = get(&self.stands, id)? {
            (operation.state, operation.completed_at) = (state, completed_at);
        }
        Ok(operation)
    }

    /// The newest operations, newest first.
    pub fn operations(&self, limit: usize) -> Result<Vec<Operation>, Error> {
        let newest = self.sound(&self.operations)?.iter().rev().take(limit);
        let journaled = |(id, plan): (sled::IVec, sled::IVec)| self.journaled(&id, &plan);
        newest.map(|item| journaled(item.map_err(read)?)).collect()
    }

    /// The operations that began at a time or later, newest first; at most so many.
    pub fn operations_since(
        &self,
        since: jiff::Timestamp,
        limit: usize,
    ) -> Result<Vec<Operation>, Error> {
        let mut found = Vec::new();
        for item in self.sound(&self.operations)?.iter().rev().take(limit) {
            let (id, plan) = item.map_err(read)?;
            let operation = self.journaled(&id, &plan)?;
            // Ids sort by time, so all that follow are older.
            if operation.started_at < since {
                break;
            }
            found.push(operation);
        }
        Ok(found)
    }

    /// Which operations are not at rest, oldest first.
    pub fn open_ids(&self) -> Result<Vec<OperationId>, Error> {
        let mut found = Vec::new();
        for id in self.sound(&self.open)?.iter().keys() {
            let id = uuid::Uuid::from_slice(&id.map_err(read)?);
            found.push(OperationId(id.map_err(|it| Error::Read(io::Error::other(it)))?));
        }
        Ok(found)
    }

    /// The operations that are not at rest, oldest first.
    pub fn open_operations(&self) -> Result<Vec<Operation>, Error> {
        let mut found = Vec::new();
        for item in self.sound(&self.open)?.iter() {
            let (id, _) = item.map_err(read)?;
            if let Some(plan) = self.operations.get(&id).map_err(read)? {
                found.push(self.journaled(&id, &plan)?);
            }
        }
        Ok(found)
    }

    /// Forgets the oldest closed operations beyond what the journal keeps.
    pub(super) fn prune(&self) -> Result<(), Error> {
        // sled counts by walking, so the length is kept beside the tree; pruning leaves a tenth of
        // slack in order to be rare.
        let n = self.operations_len.load(Ordering::SeqCst);
        if n <= OPERATIONS_KEPT_MAX + OPERATIONS_KEPT_MAX / 10 {
            return Ok(());
        }
        let oldest = self.operations.iter().keys().take(n - OPERATIONS_KEPT_MAX);
        let closed: Result<Vec<sled::IVec>, Error> = oldest
            .filter(|it| !it.as_ref().is_ok_and(|id| self.open.contains_key(id).unwrap_or(true)))
            .map(|it| it.map_err(read))
            .collect();
        for some in closed?.chunks(BATCH_MAX) {
            self.write(Batch { pruned: some, ..Batch::default() })?;
        }
        Ok(())
    }
}
