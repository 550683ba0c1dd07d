//! What a settlement changed, told once it is on the disk.
//!
//! Whatever the agent does ends in a settlement, so who listens here misses nothing. Nobody is told of
//! what stays as it was: a resource that had no conflict has none resolved.

use super::write::Batch;
use super::{Error, Settlement, Store, get, joined, read};
use crate::model::key::ResourceId;
use crate::model::record::{Conflict, Reject};
use sled::IVec;
use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

/// So much of what was told is let go with one write.
const TOLD_MAX: usize = 64;

/// What one settlement changed.
#[derive(Debug)]
pub struct News<'a> {
    /// What was written; of the records perhaps only the last.
    pub settlement: &'a Settlement<'a>,
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

/// Whoever listens.
pub trait Listener: Send + Sync {
    /// What is to be kept with these news until they were told for good; none is nothing. They may still
    /// come to nothing.
    fn owes(&self, news: &News<'_>) -> Option<Vec<u8>>;
    /// The news are on the disk; `number` is that of what is kept.
    fn hear(&self, news: &News<'_>, number: Option<u64>);
    /// What is kept up to this number was told for good.
    fn told(&self) -> u64;
}

#[derive(Default)]
pub(super) struct Ear(OnceLock<Box<dyn Listener>>);

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
    pub fn listen(&self, listener: impl Listener + 'static) {
        // A second listener would be a mistake of the caller's, and hears nothing.
        let _ = self.ear.0.set(Box::new(listener));
    }

    /// Looks at what a settlement is about to change; none where nobody listens.
    pub(super) fn before(&self, it: &Settlement<'_>) -> Result<Option<Before>, Error> {
        if self.ear.0.get().is_none() {
            return Ok(None);
        }
        let mut before = Before {
            records: it.before + it.records.len(),
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

    /// Writes the last part of a settlement, and tells what came of it once it is on the disk.
    pub(super) fn write_and_tell(
        &self,
        before: Option<Before>,
        settlement: &Settlement<'_>,
    ) -> Result<(), Error> {
        let batch = Batch::of(settlement);
        let (Some(it), Some(listener)) = (before, self.ear.0.get()) else {
            self.write(batch)?;
            return self.synced_whole();
        };
        let news = it.news(settlement);
        let owed = listener.owes(&news);
        let told = self.told_up_to(listener.told())?;
        let number = self.write(Batch { owed: owed.as_deref(), told: &told, ..batch })?;
        self.synced_whole()?;
        listener.hear(&news, owed.map(|_| number));
        Ok(())
    }

    /// Some of what is kept for the listener, and was told.
    fn told_up_to(&self, number: u64) -> Result<Vec<IVec>, Error> {
        let told = self.sound(&self.owed)?.range(..=number.to_be_bytes()).keys();
        told.take(TOLD_MAX).map(|it| it.map_err(read)).collect()
    }

    /// What earlier starts kept for the listener, the oldest first, each with its number.
    pub fn owed(&self) -> Result<Vec<(u64, Vec<u8>)>, Error> {
        let all = self.sound(&self.owed)?.range(..=self.opened_at.to_be_bytes());
        let mut found = Vec::new();
        for item in all {
            let (key, value) = item.map_err(read)?;
            let number = key.as_ref().try_into().map(u64::from_be_bytes).unwrap_or_default();
            found.push((number, value.to_vec()));
        }
        Ok(found)
    }

    /// The number of the last write; what a listener was told of later belongs to another store.
    pub fn newest(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

impl Before {
    fn news<'a>(self, settlement: &'a Settlement<'a>) -> News<'a> {
        let conflicts = settlement.conflicts.iter();
        let rejects = settlement.rejects.iter().zip(&self.known);
        News {
            settlement,
            records: self.records,
            gone: self.gone,
            conflicts: conflicts.filter(|new| !self.open.contains(&new.id)).collect(),
            rejects: rejects.filter(|(_, known)| !**known).map(|(it, _)| it).collect(),
            resolved: self.resolved,
        }
    }
}
