//! What was asked for and is done later: each has an id at once, and can be called off until its turn
//! has come.
//!
//! They live as long as the agent. What a job did stands in the journal, under the operations that it
//! names; a sync that was lost with the process is made by the next one, which looks at the same things.

use super::auth::Caller;
use super::wire::operation::{OperationStatus, OperationView, Statistics};
use crate::clock;
use crate::model::fabric::FabricName;
use crate::model::ids::OperationId;
use crate::model::report::{Action, Ending, IngestReport};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

/// So many jobs are remembered.
const KEPT_MAX: usize = 1_000;

/// What was asked for.
#[derive(Debug)]
pub(super) struct Job {
    pub id: OperationId,
    pub fabric: FabricName,
    pub kind: String,
    pub actor: String,
    started_at: jiff::Timestamp,
    state: Mutex<State>,
}

#[derive(Debug, Clone)]
enum State {
    Pending,
    UnderWay,
    Over { status: OperationStatus, at: jiff::Timestamp, did: Box<Did> },
}

/// What a job did.
#[derive(Debug, Clone, Default)]
pub(super) struct Did {
    pub statistics: Statistics,
    pub commit_ids: Vec<String>,
    pub operation_ids: Vec<String>,
    pub errors: Vec<String>,
}

impl Did {
    /// Counts what became of the drops of a fabric.
    pub fn count(&mut self, it: &IngestReport) {
        self.operation_ids.extend(it.operation.map(|it| it.to_string()));
        self.commit_ids.extend(it.commit_id.map(|it| it.to_string()));
        for file in &it.files {
            self.statistics.files_processed += 1;
            self.statistics.files_rejected += u64::from(file.ending == Ending::Rejected);
            for document in &file.documents {
                match document.action {
                    Action::Created => self.statistics.files_created += 1,
                    Action::Updated => self.statistics.files_updated += 1,
                    Action::Unchanged | Action::Unmanaged => (),
                }
            }
        }
    }
}

impl Job {
    /// Begins it, unless it was called off.
    pub fn begin(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = matches!(*state, State::Pending);
        if pending {
            *state = State::UnderWay;
        }
        pending
    }

    /// Calls it off; false where its turn has come already.
    pub fn cancel(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let pending = matches!(*state, State::Pending);
        if pending {
            let (status, at) = (OperationStatus::Cancelled, clock::now());
            *state = State::Over { status, at, did: Box::default() };
        }
        pending
    }

    /// It is over; false where it was called off before.
    pub fn end(&self, status: OperationStatus, did: Did) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let open = !matches!(*state, State::Over { .. });
        if open {
            *state = State::Over { status, at: clock::now(), did: Box::new(did) };
        }
        open
    }

    /// Says whether it waits or is under way.
    pub fn is_open(&self) -> bool {
        !matches!(*self.state.lock().unwrap_or_else(PoisonError::into_inner), State::Over { .. })
    }

    pub fn view(&self) -> OperationView {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (status, phase, progress, at, did) = match state {
            State::Pending => (OperationStatus::Pending, "pending", 0.0, None, Box::default()),
            State::UnderWay => (OperationStatus::InProgress, "exchange", 0.5, None, Box::default()),
            State::Over { status, at, did } => (status, "over", 1.0, Some(at), did),
        };
        let Did { statistics, commit_ids, operation_ids, errors } = *did;
        OperationView {
            id: self.id.to_string(),
            fabric: self.fabric.to_string(),
            kind: self.kind.clone(),
            status,
            phase: phase.to_owned(),
            progress,
            trigger: "api".to_owned(),
            actor: self.actor.clone(),
            started_at: self.started_at.to_string(),
            completed_at: at.map(|it| it.to_string()),
            statistics,
            stages: Vec::new(),
            commit_ids,
            operation_ids,
            errors,
        }
    }
}

/// The jobs of an agent.
#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<VecDeque<Arc<Job>>>);

impl Jobs {
    /// Takes a job; none where there is one for the fabric already and `also` is not said.
    pub fn add(
        &self,
        fabric: &FabricName,
        kind: &str,
        caller: &Caller,
        also: bool,
    ) -> Option<Arc<Job>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !also && all.iter().any(|it| it.fabric == *fabric && it.is_open()) {
            return None;
        }
        let now = clock::now();
        let job = Arc::new(Job {
            id: OperationId::new(now),
            fabric: fabric.clone(),
            kind: kind.to_owned(),
            actor: caller.actor.clone(),
            started_at: now,
            state: Mutex::new(State::Pending),
        });
        all.push_back(job.clone());
        // The oldest that is over goes; what is open is bounded by the lanes' queues.
        if all.len() > KEPT_MAX
            && let Some(n) = all.iter().position(|it| !it.is_open())
        {
            all.remove(n);
        }
        Some(job)
    }

    pub fn find(&self, id: &OperationId) -> Option<Arc<Job>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|it| it.id == *id).cloned()
    }

    /// Those of a fabric, the newest first.
    pub fn of(&self, fabric: &FabricName) -> Vec<Arc<Job>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().rev().filter(|it| it.fabric == *fabric).cloned().collect()
    }
}
