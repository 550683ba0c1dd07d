//! The memory: records, the journal of operations, rejects and conflicts, in one sled store.
//!
//! It remembers what git knows; everything in it can be made again from the tree and the history.
//! So a store that cannot be read is put aside and begun anew, never mourned.
//! An acknowledged write is on the disk: sled's own flush does not sync the file (it calls
//! `sync_file_range`), so each commit here ends with an `fdatasync` of the database, and before it of
//! the files that sled keeps large values in.

mod aside;
mod census;
mod journal;
mod migrate;
mod news;
mod open;
mod seal;
mod slack;
mod write;

use crate::model::fabric::FabricName;
use crate::model::ids::CommitId;
use crate::model::key::ResourceId;
use crate::model::operation::{Headline, Operation};
use crate::model::path::{RawPath, RepoPath};
use crate::model::record::{Conflict, Orphan, Record, Reject, Stray};
use crate::step::{Step, Steps};
use census::{Census, Nth};
use serde::de::DeserializeOwned;
use sled::IVec;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use news::{Listener, News};
pub use open::{FORMAT, Freshness};
use write::Batch;

/// How many writes one transaction takes; larger batches are cut up. sled keeps every version of a page
/// that a transaction makes until it is over.
const BATCH_MAX: usize = 500;

/// Why a store refuses after [`Store::needs_reopening`].
const REOPEN: &str = "an earlier write failed, so the store has to be opened again";
/// How much room the store leaves on its disk, in bytes. A database that runs into the end of the
/// disk has to be opened again, so it stops before.
const ROOM_BYTES_MIN: u64 = 8 << 20;

/// What the memory could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another process has the store open.
    #[error("the store {path} is in use by another process")]
    InUse {
        /// Where.
        path: PathBuf,
    },
    /// A newer version of the agent wrote it.
    #[error("the store {path} has format {found}, newer than {FORMAT}, which this version knows")]
    Newer {
        /// Where.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It cannot be opened, and not be put aside either.
    #[error("cannot open the store {path}")]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A write did not reach the disk.
    #[error("cannot write to the store")]
    Write(#[source] io::Error),
    /// Something in it cannot be read.
    #[error("cannot read the store")]
    Read(#[source] io::Error),
}

/// Everything that one step of an operation writes, all or nothing.
#[derive(Debug, Clone, Default)]
pub struct Settlement<'a> {
    /// The operation as it stands now.
    pub operation: Option<&'a Operation>,
    /// An operation that stands elsewhere by now, and of which nothing else is new.
    pub moved: Option<&'a Headline>,
    /// Records that are new or changed.
    pub records: Vec<Record>,
    /// How many of the same were written before, in parts.
    pub before: usize,
    /// Records that are gone; an orphan of that resource as well.
    pub gone: Vec<ResourceId>,
    /// Records whose files others removed: they are gone, and kept as orphans.
    pub orphans: Vec<Orphan>,
    /// Files in `managed/` without a record.
    pub strays: Vec<Stray>,
    /// Files that are no strays any more.
    pub homed: Vec<(FabricName, RawPath)>,
    /// Drops that stay.
    pub rejects: Vec<Reject>,
    /// Drops that do not stay any more.
    pub cleared: Vec<(FabricName, RawPath)>,
    /// What waits for a person.
    pub conflicts: Vec<Conflict>,
    /// Resources whose conflicts are over.
    pub resolved: Vec<ResourceId>,
    /// The commit that a fabric's records follow.
    pub synced: Option<(FabricName, CommitId)>,
}

/// The store of one work tree.
#[derive(Debug)]
pub struct Store {
    db: sled::Db,
    file: File,
    /// Where sled keeps large values.
    blobs: PathBuf,
    steps: Steps,
    /// Beside the database: the last generation that was acknowledged. One sync at a time.
    witness: Mutex<Witness>,
    /// The number of the last write, which the database holds too.
    generation: AtomicU64,
    operations_len: AtomicUsize,
    /// How many records each fabric has, and where.
    census: Mutex<Census>,
    /// A write went wrong within sled: it would wait for ever in the next read.
    stuck: AtomicBool,
    #[cfg(test)]
    unguarded: AtomicBool,
    meta: sled::Tree,
    records: sled::Tree,
    /// fabric NUL path → resource.
    places: sled::Tree,
    /// fabric NUL raw path NUL resource → nothing.
    sources: sled::Tree,
    operations: sled::Tree,
    /// Operations that recovery has to look at.
    open: sled::Tree,
    /// fabric NUL raw path → reject.
    rejects: sled::Tree,
    conflicts: sled::Tree,
    /// fabric → commit.
    synced: sled::Tree,
    /// resource → orphan.
    orphans: sled::Tree,
    /// fabric NUL path → stray.
    strays: sled::Tree,
    /// Who is told of what is written.
    ear: news::Ear,
    /// Number of a write → what was not told for good yet. No digest covers it: what is lost here was
    /// only to be told.
    owed: sled::Tree,
    /// The number of the last write before this start.
    opened_at: u64,
    /// operation → where it stands.
    stands: sled::Tree,
    /// operation and a number → a part of its plan.
    plans: sled::Tree,
    last: seal::Last,
}

/// The file that says how much was acknowledged, and whether a sync ever failed.
#[derive(Debug, Default)]
struct Witness {
    /// None until the store is judged sound.
    file: Option<File>,
    /// The kernel could not write what it had taken; what it says later is not believed.
    failed: bool,
    /// The large values that are on the disk, by the names of their files.
    large: HashSet<OsString>,
}

impl Store {
    /// The trees whose content the digest in `meta` covers, in the order of the transactions.
    fn trees(&self) -> [&sled::Tree; 12] {
        [
            &self.records,
            &self.places,
            &self.sources,
            &self.operations,
            &self.open,
            &self.rejects,
            &self.conflicts,
            &self.synced,
            &self.orphans,
            &self.strays,
            &self.stands,
            &self.plans,
        ]
    }

    // Records.

    /// One record.
    pub fn record(&self, id: &ResourceId) -> Result<Option<Record>, Error> {
        get(self.sound(&self.records)?, id.0.as_bytes())
    }

    /// What `take` makes of the record of each of these resources, where there is one.
    ///
    /// They are read in the order of their ids: many at random would read most pages several times.
    pub fn records_of<T>(
        &self,
        ids: &[ResourceId],
        take: impl Fn(Record) -> T,
    ) -> Result<Vec<Option<T>>, Error> {
        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_unstable_by_key(|n| ids[*n]);
        let mut found: Vec<Option<T>> = Vec::new();
        found.resize_with(ids.len(), || None);
        for n in order {
            found[n] = self.record(&ids[n])?.map(&take);
        }
        Ok(found)
    }

    /// The record whose file is `path`.
    pub fn record_at(&self, fabric: &FabricName, path: &RepoPath) -> Result<Option<Record>, Error> {
        let key = joined(fabric, path.as_str().as_bytes());
        match self.sound(&self.places)?.get(key).map_err(read)? {
            Some(id) => get(&self.records, &id),
            None => Ok(None),
        }
    }

    /// The records that came in the drop at `path`.
    pub fn records_from(&self, fabric: &FabricName, path: &RawPath) -> Result<Vec<Record>, Error> {
        let mut prefix = joined(fabric, path.as_bytes());
        prefix.push(0);
        let mut found = Vec::new();
        for item in self.sound(&self.sources)?.scan_prefix(&prefix) {
            let (key, _) = item.map_err(read)?;
            let id = key.get(prefix.len()..).unwrap_or_default();
            found.extend(get::<Record>(&self.records, id)?);
        }
        Ok(found)
    }

    /// All records of a fabric, in the order of their files.
    pub fn records(
        &self,
        fabric: &FabricName,
    ) -> impl Iterator<Item = Result<Record, Error>> + use<'_> {
        self.records_from_nth(fabric, 0)
    }

    /// The same without the first `passed` of them, which are not read: where the rest begins is known.
    pub fn records_from_nth(
        &self,
        fabric: &FabricName,
        passed: usize,
    ) -> impl Iterator<Item = Result<Record, Error>> + use<'_> {
        let prefix = joined(fabric, b"");
        let nth = match passed {
            0 => Some(Nth { place: prefix.clone(), passed }),
            _ => self.census().nth(fabric.as_str().as_bytes(), passed),
        };
        let (trouble, places) = match (self.sound(&self.places), nth) {
            (Ok(places), Some(it)) => (None, Some(places.range(it.place..).skip(it.passed))),
            (Ok(_), None) => (None, None),
            (Err(error), _) => (Some(Err(error)), None),
        };
        let its = move |item: &sled::Result<(IVec, IVec)>| match item {
            Ok((place, _)) => place.starts_with(&prefix),
            Err(_) => true,
        };
        let found = places.into_iter().flatten().take_while(its).filter_map(|item| {
            let found = item.map_err(read).and_then(|(_, id)| get(&self.records, &id));
            found.transpose()
        });
        trouble.into_iter().chain(found)
    }

    /// How many records a fabric has; none where the store has to be opened again.
    pub fn records_count(&self, fabric: &FabricName) -> u64 {
        if self.sound(&self.places).is_err() {
            return 0;
        }
        self.census().count(fabric.as_str().as_bytes())
    }

    fn census(&self) -> MutexGuard<'_, Census> {
        self.census.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says whether a write went so wrong that this store answers nothing any more. Dropping it and
    /// opening it again gives back all that was acknowledged.
    pub fn needs_reopening(&self) -> bool {
        self.stuck.load(Ordering::SeqCst)
    }

    fn sound<'a>(&self, tree: &'a sled::Tree) -> Result<&'a sled::Tree, Error> {
        if self.needs_reopening() {
            return Err(Error::Read(io::Error::other(REOPEN)));
        }
        Ok(tree)
    }

    // What stays, and where the records are.

    /// The drops of a fabric that stay in `raw/`.
    pub fn rejects(&self, fabric: &FabricName) -> Result<Vec<Reject>, Error> {
        let found = self.sound(&self.rejects)?.scan_prefix(joined(fabric, b""));
        found.map(|item| decode(&item.map_err(read)?.1)).collect()
    }

    /// Where they lie, one by one.
    pub fn rejected_paths(
        &self,
        fabric: &FabricName,
    ) -> impl Iterator<Item = Result<RawPath, Error>> + use<'_> {
        let prefix = joined(fabric, b"");
        let (trouble, rejects) = match self.sound(&self.rejects) {
            Ok(rejects) => (None, Some(rejects.scan_prefix(&prefix))),
            Err(error) => (Some(Err(error)), None),
        };
        let found = rejects.into_iter().flatten().map(move |item| {
            let (key, _) = item.map_err(read)?;
            Ok(RawPath::new(key.get(prefix.len()..).unwrap_or_default()))
        });
        trouble.into_iter().chain(found)
    }

    /// One drop that stays.
    pub fn reject(&self, fabric: &FabricName, path: &RawPath) -> Result<Option<Reject>, Error> {
        get(self.sound(&self.rejects)?, &joined(fabric, path.as_bytes()))
    }

    /// What waits for a person, in all fabrics.
    pub fn conflicts(&self) -> Result<Vec<Conflict>, Error> {
        self.sound(&self.conflicts)?.iter().map(|item| decode(&item.map_err(read)?.1)).collect()
    }

    /// What waits for a person of one resource.
    pub fn conflict(&self, id: &ResourceId) -> Result<Option<Conflict>, Error> {
        get(self.sound(&self.conflicts)?, id.0.as_bytes())
    }

    /// Says whether a resource waits for a person, without reading why.
    pub fn is_in_conflict(&self, id: &ResourceId) -> Result<bool, Error> {
        self.sound(&self.conflicts)?.contains_key(id.0.as_bytes()).map_err(read)
    }

    /// The commit that a fabric's records follow.
    pub fn synced(&self, fabric: &FabricName) -> Result<Option<CommitId>, Error> {
        get(self.sound(&self.synced)?, fabric.as_str().as_bytes())
    }

    // Writing.

    /// Writes a settlement, all or nothing, and returns when it is on the disk.
    ///
    /// A very large one is written in parts: records first, so that the operation is closed only
    /// when they are all there.
    pub fn settle(&self, settlement: Settlement<'_>) -> Result<(), Error> {
        self.settle_with(settlement, || Ok(Vec::new()))
    }

    /// The same, where it turns out only then which rejects are over: `cleared` is asked before the
    /// last part is written, and its failure leaves the operation open.
    pub fn settle_with<E: From<Error>>(
        &self,
        mut settlement: Settlement<'_>,
        cleared: impl FnOnce() -> Result<Vec<(FabricName, RawPath)>, E>,
    ) -> Result<(), E> {
        let before = self.before(&settlement)?;
        if settlement.records.len() > BATCH_MAX {
            // Each transaction then has the pages of its own stretch of the ids, and no other has.
            settlement.records.sort_by_key(|it| it.id);
        }
        while settlement.records.len() + settlement.gone.len() > BATCH_MAX {
            let keep = settlement.records.len().saturating_sub(BATCH_MAX);
            let records = settlement.records.split_off(keep);
            let keep = settlement.gone.len().saturating_sub(BATCH_MAX - records.len());
            let gone = settlement.gone.split_off(keep);
            self.write(Batch::of(&Settlement { records, gone, ..Settlement::default() }))?;
        }
        settlement.cleared.extend(cleared()?);
        self.write_and_tell(before, &settlement)?;
        let state = settlement.operation.map(|it| &it.state);
        if state.or(settlement.moved.map(|it| &it.state)).is_some_and(|it| !it.is_open()) {
            self.prune()?;
        }
        Ok(())
    }

    fn synced_whole(&self) -> Result<(), Error> {
        self.steps.pass(Step::Sync).map_err(Error::Write)?;
        self.sync()
    }

    /// Forces the database to the disk, and notes beside it how far it has come.
    ///
    /// After a sync that failed nothing more is acknowledged: the kernel has dropped what it could
    /// not write and would report success from then on.
    fn sync(&self) -> Result<(), Error> {
        let mut witness = self.witness.lock().unwrap_or_else(|it| it.into_inner());
        if witness.failed {
            return Err(Error::Write(io::Error::other(REOPEN)));
        }
        let generation = self.generation.load(Ordering::SeqCst);
        write::flush(&self.db).map_err(|it| self.stopped(it))?;
        let large = write::sync_large(&self.blobs, &mut witness.large);
        let synced = large.and_then(|()| self.file.sync_data());
        witness.failed = synced.is_err();
        self.stuck.fetch_or(witness.failed, Ordering::SeqCst);
        if let Some(file) = &witness.file {
            // A generation that no store can reach makes the next start put this one aside.
            let number = if witness.failed { u64::MAX } else { generation };
            // Not synced: after a power cut it may lag behind, which is harmless; what it must
            // show is a database that lost its end.
            let noted = file.write_all_at(open::witness_text(number).as_bytes(), 0);
            synced.and(noted).map_err(Error::Write)
        } else {
            synced.map_err(Error::Write)
        }
    }

    /// Notes that sled failed to write, after which it must not be asked any more.
    fn stopped(&self, why: sled::Error) -> Error {
        self.stuck.store(true, Ordering::SeqCst);
        Error::Write(io::Error::other(why))
    }

    /// Refuses to write where little room is left.
    fn check_room(&self) -> Result<(), Error> {
        if self.needs_reopening() {
            return Err(Error::Write(io::Error::other(REOPEN)));
        }
        #[cfg(test)]
        if self.unguarded.load(Ordering::SeqCst) {
            return Ok(());
        }
        let free = rustix::fs::fstatvfs(&self.file).map_err(|it| Error::Write(it.into()))?;
        if free.f_bavail.saturating_mul(free.f_frsize) < ROOM_BYTES_MIN {
            return Err(Error::Write(io::ErrorKind::StorageFull.into()));
        }
        Ok(())
    }
}

fn joined(fabric: &FabricName, tail: &[u8]) -> Vec<u8> {
    let mut key = fabric.as_str().as_bytes().to_vec();
    key.push(0);
    key.extend_from_slice(tail);
    key
}

/// The fabric in a key that [`joined`] made.
fn fabric_of(key: &[u8]) -> &[u8] {
    key.split(|it| *it == 0).next().unwrap_or_default()
}

fn source_key(record: &Record) -> Option<Vec<u8>> {
    let source = record.source.as_ref()?;
    let mut key = joined(&record.fabric, source.path.as_bytes());
    key.push(0);
    key.extend_from_slice(record.id.0.as_bytes());
    Some(key)
}

fn get<T: DeserializeOwned>(tree: &sled::Tree, key: &[u8]) -> Result<Option<T>, Error> {
    tree.get(key).map_err(read)?.map(|it| decode(&it)).transpose()
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|it| {
        seal::doubt();
        Error::Read(it.into())
    })
}

fn read(why: sled::Error) -> Error {
    seal::doubt();
    Error::Read(io::Error::other(why))
}

fn write(why: sled::Error) -> Error {
    Error::Write(io::Error::other(why))
}

#[cfg(test)]
mod tests;
