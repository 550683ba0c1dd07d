//! Who sent which drop, for those that came in by a door that knows its callers.
//!
//! A drop is taken with others in one turn, so its sender cannot be the turn's; what the door noted is
//! looked up when the commit is written. A drop whose note is gone is simply the agent's own.

use crate::model::digest::Sha256;
use crate::model::path::escape;
use crate::model::plan::Plan;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

/// So many notes are kept.
const NOTES_MAX: usize = 10_000;
/// So many senders a commit names.
const NAMED_MAX: usize = 50;

/// The notes of one lane.
#[derive(Debug, Default)]
pub struct Droppers(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    by_drop: HashMap<Sha256, String>,
    /// The oldest first.
    order: VecDeque<Sha256>,
}

impl Droppers {
    /// Notes who sends a drop, before it is there.
    pub fn note(&self, drop_id: Sha256, actor: String) {
        let mut notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.by_drop.insert(drop_id, actor).is_none() {
            notes.order.push_back(drop_id);
        }
        if notes.order.len() > NOTES_MAX
            && let Some(oldest) = notes.order.pop_front()
        {
            notes.by_drop.remove(&oldest);
        }
    }

    /// Who sent the drops of a plan, as trailers of its commit.
    pub(super) fn trailers(&self, plan: &Plan) -> Vec<String> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if notes.by_drop.is_empty() {
            return Vec::new();
        }
        let drops = plan.disposals.iter();
        let names: BTreeSet<&String> =
            drops.filter_map(|it| notes.by_drop.get(&it.intake.drop_id)).collect();
        let line = |it: &String| format!("Intake-Actor: {}", escape(it.as_bytes()));
        names.into_iter().take(NAMED_MAX).map(line).collect()
    }
}
