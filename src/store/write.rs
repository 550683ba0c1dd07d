//! Writing: one transaction over all trees, and a digest of all they hold kept in step with it.
//!
//! sled notices a torn end and a page that cannot be decoded. It does not notice when an older
//! version of a page comes back, or none: the store then opens without a word and lacks records.
//! So every entry has a digest, the XOR of them all stands in `meta`, each transaction takes out what
//! it removes and puts in what it adds, and opening compares it with what is there.

use super::journal::{PART_BYTES, Stand, Written as Plan, part_key, parts_of};
use super::migrate::WITH_DIGEST;
use super::{Error, Settlement, Store, joined, open, slack, source_key};
use crate::model::fabric::FabricName;
use crate::model::key::ResourceId;
use crate::model::operation::{Headline, Operation};
use crate::model::record::Record;
use crate::step::Step;
use serde::Serialize;
use sled::IVec;
use sled::transaction::{
    ConflictableTransactionError, TransactionError, Transactional, TransactionalTree,
};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The entry of `meta` with the digest of all the others.
pub(super) const DIGEST: &str = "digest";

/// How long the first wait for sled is; each further one is twice as long, about a minute in all.
const FLUSH_WAIT: Duration = Duration::from_secs(1);
const FLUSHES_MAX: u32 = 6;

type Written<T> = Result<T, ConflictableTransactionError<String>>;

/// What one transaction writes: a settlement, or some housekeeping.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Batch<'a> {
    pub(super) settlement: Option<&'a Settlement<'a>>,
    /// Operations that the journal forgets.
    pub(super) pruned: &'a [IVec],
    /// A fabric whose records follow no commit any more.
    pub(super) unsynced: Option<&'a FabricName>,
    /// What is kept until it was told.
    pub(super) owed: Option<&'a [u8]>,
    /// What was told by now.
    pub(super) told: &'a [IVec],
}

impl<'a> Batch<'a> {
    pub(super) fn of(settlement: &'a Settlement<'a>) -> Batch<'a> {
        Batch { settlement: Some(settlement), ..Batch::default() }
    }
}

impl Store {
    /// Writes a batch, all or nothing, and gives the write's number; not on the disk before the next
    /// sync.
    pub(super) fn write(&self, batch: Batch<'_>) -> Result<u64, Error> {
        self.check_room()?;
        self.steps.pass(Step::Settle).map_err(Error::Write)?;
        let mut trees = self.trees().to_vec();
        trees.extend([&self.meta, &self.owed]);
        // Nobody else writes.
        let seldom = [&self.orphans, &self.rejects, &self.strays, &self.conflicts];
        let empty = seldom.map(sled::Tree::is_empty);
        let done = trees.as_slice().transaction(|trees| {
            let [
                records,
                places,
                sources,
                operations,
                open,
                rejects,
                conflicts,
                synced,
                orphans,
                strays,
                stands,
                plans,
                meta,
                owed,
            ] = trees.as_slice()
            else {
                return abort("the transaction lost a tree".into());
            };
            let digest = Cell::new(number(meta, DIGEST)?);
            let tree =
                |number: u8, tree| Ledger { tree, number, digest: &digest, empty: Cell::default() };
            let writer = Writer {
                records: tree(0, records),
                places: tree(1, places),
                sources: tree(2, sources),
                operations: tree(3, operations),
                open: tree(4, open),
                rejects: tree(5, rejects),
                conflicts: tree(6, conflicts),
                synced: tree(7, synced),
                orphans: tree(8, orphans),
                strays: tree(9, strays),
                stands: tree(10, stands),
                plans: tree(11, plans),
                counted: RefCell::default(),
            };
            writer.note_empty(empty);
            let grown = writer.batch(batch)?;
            let generation = number(meta, open::GENERATION)? + 1;
            meta.insert(open::GENERATION, generation.to_string().as_bytes())?;
            meta.insert(DIGEST, digest.get().to_string().as_bytes())?;
            let generation = u64::try_from(generation).unwrap_or(u64::MAX);
            for it in batch.told {
                owed.remove(it.as_ref())?;
            }
            if let Some(it) = batch.owed {
                owed.insert(generation.to_be_bytes().to_vec(), it)?;
            }
            Ok((generation, grown, writer.counted.take()))
        });
        let (generation, grown, counted) = done.map_err(|it| self.aborted(it))?;
        self.generation.fetch_max(generation, Ordering::SeqCst);
        self.counted(&counted)?;
        let lengths = &self.operations_len;
        lengths.fetch_add(usize::from(grown), Ordering::SeqCst);
        lengths.fetch_sub(batch.pruned.len(), Ordering::SeqCst);
        Ok(generation)
    }

    /// Brings the census up to date with what a transaction did, place by place.
    fn counted(&self, places: &[(Vec<u8>, bool)]) -> Result<(), Error> {
        let mut census = self.census();
        for (place, there) in places {
            match there {
                true => census.add(place),
                false => census.remove(place),
            }
        }
        for (place, _) in places.iter().filter(|(_, there)| *there) {
            while let Some(long) = census.long(place) {
                let Some(at) = self.places.range(&*long.place..).nth(long.after) else { break };
                census.cut(&long, &at.map_err(super::read)?.0);
            }
        }
        Ok(())
    }

    pub(super) fn aborted(&self, it: TransactionError<String>) -> Error {
        match it {
            TransactionError::Abort(why) => Error::Write(io::Error::other(why)),
            TransactionError::Storage(why) => self.stopped(why),
        }
    }

    /// Reads everything and says whether it is what the transactions left.
    pub(super) fn is_whole(&self) -> sled::Result<bool> {
        let digest = self.digest()?;
        match self.meta.get(DIGEST)?.and_then(|it| open::parsed(&it)) {
            Some(held) => Ok(digest == held),
            None => Ok(digest == 0 || self.format().is_some_and(|it| it < WITH_DIGEST)),
        }
    }

    /// Reads everything, for the digest of it: the records in one thread, the rest in another.
    pub(super) fn digest(&self) -> sled::Result<u128> {
        let trees = self.trees();
        let mut numbered = (0u8..).zip(trees);
        let Some((number, records)) = numbered.next() else { return Ok(0) };
        std::thread::scope(|scope| {
            let records = scope.spawn(move || digest_of(number, records));
            let rest: sled::Result<u128> =
                numbered.try_fold(0, |all, (n, tree)| Ok(all ^ digest_of(n, tree)?));
            match records.join() {
                Ok(records) => Ok(records? ^ rest?),
                // As if it had happened in this thread.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if self.needs_reopening() {
            return;
        }
        if let Err(error) = self.sync() {
            tracing::warn!(%error, "cannot sync the store at the end; it is checked at the next start");
        } else {
            self.last.closing = self.closing();
        }
    }
}

/// Forces large values to the disk, which sled keeps in files of their own and never syncs.
///
/// `synced` are those that are there already; they are never written again.
pub(super) fn sync_large(dir: &Path, synced: &mut HashSet<OsString>) -> io::Result<()> {
    let mut there = HashSet::new();
    let mut new = false;
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        if !synced.contains(&name) {
            new = true;
            match File::open(dir.join(&name)) {
                Ok(file) => file.sync_data()?,
                // It was superseded, and what supersedes it is in the list or in the database.
                Err(it) if it.kind() == io::ErrorKind::NotFound => continue,
                Err(it) => return Err(it),
            }
        }
        there.insert(name);
    }
    if new {
        File::open(dir)?.sync_all()?;
    }
    *synced = there;
    Ok(())
}

/// Hands everything to the kernel, or says why not.
///
/// A thread of sled that could not write leaves whoever waits for it asleep for ever, now and then;
/// who asks anew is told the error. So each wait has an end, and then somebody asks anew.
pub(super) fn flush(db: &sled::Db) -> sled::Result<()> {
    let (sender, receiver) = crossbeam_channel::bounded(FLUSHES_MAX as usize);
    for n in 0..FLUSHES_MAX {
        let (ours, done) = (db.clone(), sender.clone());
        let waiting = std::thread::Builder::new().name("flush".to_owned()).spawn(move || {
            // A new store starts sled's threads here, an older one when it is opened.
            let flushed = slack::with_late_clocks(|| ours.flush()).map(drop);
            drop(ours);
            // Nobody listens any more where an earlier one had the answer.
            let _ = done.try_send(flushed);
        });
        if waiting.is_err() {
            return db.flush().map(drop);
        }
        if let Ok(flushed) = receiver.recv_timeout(FLUSH_WAIT * 2u32.pow(n)) {
            return flushed;
        }
    }
    Err(sled::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "sled does not finish a write")))
}

/// One tree within a transaction.
struct Ledger<'a> {
    tree: &'a TransactionalTree,
    number: u8,
    digest: &'a Cell<u128>,
    /// It holds nothing: what is filed in a flood is looked for here thousands of times.
    empty: Cell<bool>,
}

impl Ledger<'_> {
    /// Says whether the key is new.
    fn insert(&self, key: impl AsRef<[u8]>, value: impl Into<IVec>) -> Written<bool> {
        let (key, value) = (key.as_ref(), value.into());
        self.empty.set(false);
        self.toggle(key, &value);
        let old = self.tree.insert(key, value)?;
        if let Some(old) = &old {
            self.toggle(key, old);
        }
        Ok(old.is_none())
    }

    fn remove(&self, key: impl AsRef<[u8]>) -> Written<()> {
        let key = key.as_ref();
        if self.empty.get() {
            return Ok(());
        }
        // Looked up first: most of what is removed was never there, and a removal costs sled a write.
        if let Some(old) = self.tree.get(key)? {
            self.tree.remove(key)?;
            self.toggle(key, &old);
        }
        Ok(())
    }

    fn toggle(&self, key: &[u8], value: &[u8]) {
        self.digest.set(self.digest.get() ^ entry_digest(self.number, key, value));
    }
}

struct Writer<'a> {
    records: Ledger<'a>,
    places: Ledger<'a>,
    sources: Ledger<'a>,
    operations: Ledger<'a>,
    open: Ledger<'a>,
    rejects: Ledger<'a>,
    conflicts: Ledger<'a>,
    synced: Ledger<'a>,
    orphans: Ledger<'a>,
    strays: Ledger<'a>,
    stands: Ledger<'a>,
    plans: Ledger<'a>,
    /// Places that came to hold a record, and such that hold none any more, in this order.
    counted: RefCell<Vec<(Vec<u8>, bool)>>,
}

impl Writer<'_> {
    /// Which hold nothing, of those that seldom hold anything.
    fn note_empty(&self, empty: [bool; 4]) {
        let seldom = [&self.orphans, &self.rejects, &self.strays, &self.conflicts];
        for (ledger, empty) in seldom.into_iter().zip(empty) {
            ledger.empty.set(empty);
        }
    }

    /// Says whether the journal grew by an operation.
    fn batch(&self, batch: Batch<'_>) -> Written<bool> {
        for id in batch.pruned {
            self.forget_parts(id)?;
            self.operations.remove(id)?;
            self.stands.remove(id)?;
        }
        if let Some(fabric) = batch.unsynced {
            self.synced.remove(fabric.as_str())?;
        }
        match batch.settlement {
            Some(it) => self.settlement(it),
            None => Ok(false),
        }
    }

    fn settlement(&self, it: &Settlement<'_>) -> Written<bool> {
        for id in &it.gone {
            self.gone(id)?;
            self.orphans.remove(id.0.as_bytes())?;
        }
        for orphan in &it.orphans {
            self.gone(&orphan.record.id)?;
            self.orphans.insert(orphan.record.id.0.as_bytes(), encode(orphan)?)?;
        }
        for (fabric, path) in &it.homed {
            self.strays.remove(joined(fabric, path.as_bytes()))?;
        }
        for stray in &it.strays {
            let key = joined(&stray.fabric, stray.path.as_bytes());
            self.strays.insert(key, encode(stray)?)?;
        }
        for record in &it.records {
            self.record(record)?;
        }
        for (fabric, path) in &it.cleared {
            self.rejects.remove(joined(fabric, path.as_bytes()))?;
        }
        for reject in &it.rejects {
            let key = joined(&reject.fabric, reject.path.as_bytes());
            self.rejects.insert(key, encode(reject)?)?;
        }
        for id in &it.resolved {
            self.conflicts.remove(id.0.as_bytes())?;
        }
        for conflict in &it.conflicts {
            self.conflicts.insert(conflict.id.0.as_bytes(), encode(conflict)?)?;
        }
        if let Some((fabric, commit)) = &it.synced {
            self.synced.insert(fabric.as_str(), encode(commit)?)?;
        }
        if let Some(it) = it.moved {
            self.moved(it)?;
        }
        it.operation.map_or(Ok(false), |it| self.operation(it))
    }

    fn gone(&self, id: &ResourceId) -> Written<()> {
        if let Some(old) = self.held(id)? {
            self.forget(&old)?;
            self.records.remove(id.0.as_bytes())?;
        }
        Ok(())
    }

    fn record(&self, record: &Record) -> Written<()> {
        if let Some(old) = self.held(&record.id)? {
            self.forget(&old)?;
        }
        let id = record.id.0.as_bytes();
        self.records.insert(id, encode(record)?)?;
        self.orphans.remove(id)?;
        let place = joined(&record.fabric, record.path.as_str().as_bytes());
        if self.places.insert(&place, id)? {
            self.counted.borrow_mut().push((place, true));
        }
        if let Some(key) = source_key(record) {
            self.sources.insert(key, &[])?;
        }
        Ok(())
    }

    fn operation(&self, operation: &Operation) -> Written<bool> {
        let id = operation.id.0.as_bytes();
        let plan = Plan::of(operation).or_else(|it| abort(it.to_string()))?;
        let digest = Some(plan.digest());
        // The plan itself is not looked at: it may be long.
        let held = self.stand(id)?.and_then(|it| it.plan);
        let grown = if held == digest {
            false
        } else {
            self.forget_parts(id)?;
            for (n, part) in (0u32..).zip(plan.lists.chunks(PART_BYTES)) {
                self.plans.insert(part_key(id, n), part)?;
            }
            self.operations.insert(id, plan.entry)?
        };
        self.stands_at(id, &Stand::of(&operation.state, operation.completed_at, digest))?;
        Ok(grown)
    }

    /// An operation stands elsewhere, and its plan is what it was.
    fn moved(&self, it: &Headline) -> Written<()> {
        let id = it.id.0.as_bytes();
        let plan = self.stand(id)?.and_then(|it| it.plan);
        self.stands_at(id, &Stand::of(&it.state, it.completed_at, plan))
    }

    fn stand(&self, id: &[u8]) -> Written<Option<Stand>> {
        match self.stands.tree.get(id)? {
            Some(held) => serde_json::from_slice(&held).or_else(|it| abort(it.to_string())),
            None => Ok(None),
        }
    }

    fn stands_at(&self, id: &[u8], stand: &Stand) -> Written<()> {
        self.stands.insert(id, encode(stand)?)?;
        match stand.state.is_open() {
            true => self.open.insert(id, &[]).map(drop),
            false => self.open.remove(id),
        }
    }

    /// Takes the parts of a plan away, where it has any.
    fn forget_parts(&self, id: &[u8]) -> Written<()> {
        let Some(entry) = self.operations.tree.get(id)? else { return Ok(()) };
        for n in 0..parts_of(&entry).or_else(|it| abort(it.to_string()))? {
            self.plans.remove(part_key(id, n))?;
        }
        Ok(())
    }

    fn held(&self, id: &ResourceId) -> Written<Option<Record>> {
        match self.records.tree.get(id.0.as_bytes())? {
            Some(bytes) => serde_json::from_slice(&bytes).or_else(|it| abort(it.to_string())),
            None => Ok(None),
        }
    }

    /// Takes a record out of the indexes.
    fn forget(&self, record: &Record) -> Written<()> {
        let place = joined(&record.fabric, record.path.as_str().as_bytes());
        // Another record may have moved in before this one moves out.
        if self.places.tree.get(&place)?.is_some_and(|it| it == record.id.0.as_bytes()) {
            self.places.remove(&place)?;
            self.counted.borrow_mut().push((place, false));
        }
        match source_key(record) {
            Some(key) => self.sources.remove(key),
            None => Ok(()),
        }
    }
}

fn digest_of(number: u8, tree: &sled::Tree) -> sled::Result<u128> {
    tree.iter().try_fold(0, |digest, entry| {
        let (key, value) = entry?;
        Ok(digest ^ entry_digest(number, &key, &value))
    })
}

fn entry_digest(tree: u8, key: &[u8], value: &[u8]) -> u128 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(&[tree]);
    hasher.update(&(key.len() as u64).to_be_bytes());
    hasher.update(key);
    hasher.update(value);
    hasher.digest128()
}

pub(super) fn number(meta: &TransactionalTree, key: &str) -> Written<u128> {
    match meta.get(key)? {
        Some(held) => match open::parsed(&held) {
            Some(number) => Ok(number),
            None => abort(format!("{key} is no number")),
        },
        None => Ok(0),
    }
}

fn encode<T: Serialize>(value: &T) -> Written<Vec<u8>> {
    serde_json::to_vec(value).or_else(|it| abort(it.to_string()))
}

fn abort<T>(why: String) -> Written<T> {
    Err(ConflictableTransactionError::Abort(why))
}
