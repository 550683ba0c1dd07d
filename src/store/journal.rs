//! The journal: every operation as it was planned, and beside it where it stands.
//!
//! A flood's plan names thousands of drops and has megabytes, so it is written once, and each step that
//! the operation takes is a short entry of its own. A plan without one was written by an older version,
//! which kept both in one.
//! A long plan is kept in parts, and under the operation's id lies what can be said of it in a line:
//! sled reads and writes up to sixteen neighbours as one page, and whoever looks at the newest
//! operation would have a hundred megabytes of older ones in memory.

use super::write::Batch;
use super::{BATCH_MAX, Error, Settlement, Store, decode, get, read};
use crate::model::digest::Xxh3;
use crate::model::fabric::FabricName;
use crate::model::ids::{CommitId, OperationId};
use crate::model::operation::{Headline, Operation, State};
use crate::model::plan::{Planned, Taken};
use crate::model::report::FileReport;
use crate::step::Step;
use serde::{Deserialize, Serialize};
use sled::IVec;
use std::io;
use std::sync::atomic::Ordering;

/// How many closed operations the journal keeps.
pub(super) const OPERATIONS_KEPT_MAX: usize = 10_000;

/// A plan that is longer is kept in parts of this size, in bytes: sixteen of them are a page, which sled
/// keeps in a file of its own from 128 KiB on.
pub(super) const PART_BYTES: usize = 4 << 10;

/// What lies under the id of an operation whose plan is kept in parts. One that is not lies there as it
/// is, and has no `parts`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Long {
    #[serde(flatten)]
    headline: Headline,
    base: Option<CommitId>,
    branch: String,
    /// How many there are.
    parts: u32,
}

/// How many parts the plan under an operation's id has.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    parts: u32,
}

/// What the parts of a plan make together.
#[derive(Serialize)]
struct Lists<'a> {
    changes: &'a [Planned],
    taken: &'a [Taken],
    files: &'a [FileReport],
}

#[derive(Deserialize)]
struct ListsRead {
    changes: Vec<Planned>,
    taken: Vec<Taken>,
    files: Vec<FileReport>,
}

/// A plan as it is written.
pub(super) struct Written {
    /// Under the operation's id.
    pub(super) entry: Vec<u8>,
    /// To be cut into parts; empty where the entry holds all.
    pub(super) lists: Vec<u8>,
}

impl Written {
    /// Writes a plan down; where its operation stands is not part of it.
    pub(super) fn of(it: &Operation) -> serde_json::Result<Written> {
        let Operation { changes, taken, files, .. } = it;
        let lists = serde_json::to_vec(&Lists { changes, taken, files })?;
        if lists.len() <= PART_BYTES {
            let plan = Operation { state: State::Planned, completed_at: None, ..it.clone() };
            return Ok(Written { entry: serde_json::to_vec(&plan)?, lists: Vec::new() });
        }
        let parts = u32::try_from(lists.len().div_ceil(PART_BYTES)).unwrap_or(u32::MAX);
        let (headline, branch) = (it.headline(), it.branch.clone());
        let headline = Headline { state: State::Planned, completed_at: None, ..headline };
        let entry = serde_json::to_vec(&Long { headline, base: it.base, branch, parts })?;
        Ok(Written { entry, lists })
    }

    /// Tells two plans apart.
    pub(super) fn digest(&self) -> Xxh3 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&self.entry);
        hasher.update(&self.lists);
        Xxh3(hasher.digest128())
    }
}

/// How many parts lie beside an entry of the journal.
pub(super) fn parts_of(entry: &[u8]) -> serde_json::Result<u32> {
    serde_json::from_slice::<Parts>(entry).map(|it| it.parts)
}

/// Under which key a part lies: the operation's id, and which part it is.
pub(super) fn part_key(id: &[u8], n: u32) -> Vec<u8> {
    [id, &n.to_be_bytes()].concat()
}

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
    pub(super) fn of(
        state: &State,
        completed_at: Option<jiff::Timestamp>,
        plan: Option<Xxh3>,
    ) -> Stand {
        Stand { state: state.clone(), completed_at, plan }
    }
}

impl Store {
    /// Writes an operation to the journal, durably, before its first effect.
    pub fn begin(&self, operation: &Operation) -> Result<(), Error> {
        self.steps.pass(Step::Journal).map_err(Error::Write)?;
        self.settle(Settlement { operation: Some(operation), ..Settlement::default() })
    }

    /// One operation.
    pub fn operation(&self, id: &OperationId) -> Result<Option<Operation>, Error> {
        let id = id.0.as_bytes();
        let found = self.sound(&self.operations)?.get(id).map_err(read)?;
        found.map(|entry| self.journaled(id, &entry)).transpose()
    }

    /// What can be said of one operation in a line.
    pub fn headline(&self, id: &OperationId) -> Result<Option<Headline>, Error> {
        let id = id.0.as_bytes();
        let found = self.sound(&self.operations)?.get(id).map_err(read)?;
        found.map(|entry| self.said_of(id, &entry)).transpose()
    }

    /// An operation where it stands now.
    fn journaled(&self, id: &[u8], entry: &[u8]) -> Result<Operation, Error> {
        let mut operation: Operation = match parts(entry)? {
            0 => decode(entry)?,
            n => self.joined(id, decode(entry)?, n)?,
        };
        if let Some(Stand { state, completed_at, .. }) = get(&self.stands, id)? {
            (operation.state, operation.completed_at) = (state, completed_at);
        }
        Ok(operation)
    }

    /// An operation whose plan is kept in parts.
    fn joined(&self, id: &[u8], long: Long, parts: u32) -> Result<Operation, Error> {
        let mut lists = Vec::new();
        for n in 0..parts {
            let part = self.plans.get(part_key(id, n)).map_err(read)?;
            lists.extend_from_slice(&part.unwrap_or_default());
        }
        let ListsRead { changes, taken, files } = decode(&lists)?;
        let Long { headline: it, base, branch, .. } = long;
        Ok(Operation {
            id: it.id,
            fabric: it.fabric,
            purpose: it.purpose,
            trigger: it.trigger,
            actor: it.actor,
            started_at: it.started_at,
            completed_at: it.completed_at,
            state: it.state,
            base,
            branch,
            changes,
            taken,
            files,
            stages: it.stages,
        })
    }

    fn said_of(&self, id: &[u8], entry: &[u8]) -> Result<Headline, Error> {
        let mut headline = match parts(entry)? {
            0 => decode::<Operation>(entry)?.headline(),
            _ => decode::<Long>(entry)?.headline,
        };
        if let Some(Stand { state, completed_at, .. }) = get(&self.stands, id)? {
            (headline.state, headline.completed_at) = (state, completed_at);
        }
        Ok(headline)
    }

    /// All operations, newest first, one by one.
    pub fn operations(&self) -> impl Iterator<Item = Result<Operation, Error>> + use<'_> {
        self.backwards(|id, entry| self.journaled(id, entry))
    }

    /// What can be said of each in a line, newest first.
    pub fn headlines(&self) -> impl Iterator<Item = Result<Headline, Error>> + use<'_> {
        self.backwards(|id, entry| self.said_of(id, entry))
    }

    fn backwards<'a, T>(
        &'a self,
        made: impl Fn(&[u8], &[u8]) -> Result<T, Error> + 'a,
    ) -> impl Iterator<Item = Result<T, Error>> {
        let (trouble, newest) = match self.sound(&self.operations) {
            Ok(operations) => (None, Some(operations.iter().rev())),
            Err(error) => (Some(Err(error)), None),
        };
        let found = newest.into_iter().flatten().map(move |item| {
            let (id, entry): (IVec, IVec) = item.map_err(read)?;
            made(&id, &entry)
        });
        trouble.into_iter().chain(found)
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

    /// How many of a fabric's operations are not at rest.
    pub fn open_count(&self, fabric: &FabricName) -> Result<u64, Error> {
        let mut count = 0;
        for id in self.open_ids()? {
            count += u64::from(self.headline(&id)?.is_some_and(|it| it.fabric == *fabric));
        }
        Ok(count)
    }

    /// The operations that are not at rest, oldest first.
    pub fn open_operations(&self) -> Result<Vec<Operation>, Error> {
        let mut found = Vec::new();
        for item in self.sound(&self.open)?.iter() {
            let (id, _) = item.map_err(read)?;
            if let Some(entry) = self.operations.get(&id).map_err(read)? {
                found.push(self.journaled(&id, &entry)?);
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

fn parts(entry: &[u8]) -> Result<u32, Error> {
    parts_of(entry).map_err(|it| Error::Read(it.into()))
}
