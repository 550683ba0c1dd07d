//! What a settlement changed, told once it is on the disk.
//!
//! Whatever the agent does ends in a settlement, so who listens here misses nothing. Nobody is told of
//! what stays as it was: a resource that had no conflict has none resolved.

use super::{Error, Settlement, Store, get, joined, read};
use crate::model::key::ResourceId;
use crate::model::record::{Conflict, Reject};
use std::fmt;
use std::sync::OnceLock;

/// What one settlement changed.
#[derive(Debug)]
pub struct News<'a> {
    /// What was written; of the records perhaps only the last.
    pub settlement: &'a Settlement,
    /// How many records are new or changed.
    pub records: usize,
    /// How many are gone.
    pub gone: usize,
    /// Conflicts that were none before.
    pub conflicts: Vec<&'a Conflict>,
    /// Conflicts that are over.
    pub resolved: Vec<Conflict>,
    /// Drops that stay, and did not stay before for the same reasons.
    pub rejects: Vec<&'a Reject>,
}

type Listener = Box<dyn Fn(&News<'_>) + Send + Sync>;

/// Whoever listens.
#[derive(Default)]
pub(super) struct Ear(OnceLock<Listener>);

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ear({})", self.0.get().is_some())
    }
}

/// What was so before a settlement is written.
pub(super) struct Before {
    records: usize,
    gone: usize,
    open: Vec<ResourceId>,
    resolved: Vec<Conflict>,
    known: Vec<bool>,
}

impl Store {
    /// Has somebody told of every settlement from now on, in the thread that wrote it; the first who
    /// asks is the only one.
    pub fn listen(&self, listener: impl Fn(&News<'_>) + Send + Sync + 'static) {
        // A second listener would be a mistake of the caller's, and hears nothing.
        let _ = self.ear.0.set(Box::new(listener));
    }

    /// Looks at what a settlement is about to change; none where nobody listens.
    pub(super) fn before(&self, it: &Settlement) -> Result<Option<Before>, Error> {
        if self.ear.0.get().is_none() {
            return Ok(None);
        }
        let mut before = Before {
            records: it.records.len(),
            gone: it.gone.len(),
            open: Vec::new(),
            resolved: Vec::new(),
            known: Vec::new(),
        };
        let conflicts = self.sound(&self.conflicts)?;
        for conflict in &it.conflicts {
            if conflicts.contains_key(conflict.id.0.as_bytes()).map_err(read)? {
                before.open.push(conflict.id);
            }
        }
        // Every resource that is filed is named here, and hardly any had a conflict.
        if !it.resolved.is_empty() && !conflicts.is_empty() {
            for id in &it.resolved {
                before.resolved.extend(get::<Conflict>(conflicts, id.0.as_bytes())?);
            }
        }
        for reject in &it.rejects {
            let key = joined(&reject.fabric, reject.path.as_bytes());
            let old: Option<Reject> = get(self.sound(&self.rejects)?, &key)?;
            let same =
                |old: Reject| old.drop_id == reject.drop_id && old.problems == reject.problems;
            before.known.push(old.is_some_and(same));
        }
        Ok(Some(before))
    }

    /// Tells what came of it.
    pub(super) fn tell(&self, before: Option<Before>, settlement: &Settlement) {
        let (Some(it), Some(listener)) = (before, self.ear.0.get()) else { return };
        let conflicts = settlement.conflicts.iter();
        let rejects = settlement.rejects.iter().zip(&it.known);
        listener(&News {
            settlement,
            records: it.records,
            gone: it.gone,
            conflicts: conflicts.filter(|new| !it.open.contains(&new.id)).collect(),
            resolved: it.resolved,
            rejects: rejects.filter(|(_, known)| !**known).map(|(it, _)| it).collect(),
        });
    }
}
