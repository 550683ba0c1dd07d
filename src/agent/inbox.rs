//! What the agent knows of a fabric's `raw/`: what it saw there, and which drops wait their turn.
//!
//! A look lists all of `raw/` and names the ready drops in the order they came; turns take them
//! from that list, so many at a time, and the next look is made when it is empty. So a flood costs
//! a look for each `discovery::READY_MAX` drops and not one for each turn, and what comes
//! meanwhile is taken after it.

use super::lane::{FabricLane, Lane, LaneSettings, MERGE_CONFLICT};
use super::turn::Cause;
use super::{Error, conflicts, desk};
use crate::clock;
use crate::model::fabric::FabricName;
use crate::model::path::RawPath;
use crate::model::record::Reject;
use crate::model::report::{Ignored, IgnoredEntry, Progress};
use crate::pipeline::archive::ArchiveStrategy;
use crate::pipeline::discovery::{Discovery, Ready, Seen};
use crate::pipeline::processing::OnInvalid;
use crate::pipeline::tracked::report_path;
use crate::store::Settlement;
use crate::worktree::{Ignores, Listed, Stillness};
use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

/// How often a person's `ingest` looks again while drops are still growing.
const PATIENT_LOOKS_MAX: usize = 20;
/// A count of what waits that is younger than this is not made again for `status`.
const COUNT_AGE_MAX: Duration = Duration::from_secs(2);
/// How many directories that cannot be looked into are remembered, so as to be told of once.
const UNREADABLE_MAX: usize = 10_000;

/// What is known of one `raw/`.
#[derive(Debug, Default)]
pub struct Inbox {
    /// What earlier looks saw.
    pub(super) seen: Seen,
    /// What in it is no drop.
    pub(super) ignores: Ignores,
    /// Ready, and not taken yet.
    backlog: VecDeque<Ready>,
    looked_at: Option<Instant>,
    /// The times of `raw/` when the last look found nothing in it that is or may become a drop.
    empty: Option<Stillness>,
    /// Rejected drops that somebody removed.
    pub(super) gone: Vec<RawPath>,
    /// Directories that were told of already.
    unreadable: HashSet<RawPath>,
    /// That there are too many entries was told already.
    overflow_told: bool,
    /// Drops that left since the agent started.
    taken: u64,
    /// When the backlog began to grow, and what had been taken then.
    flood: Option<(Instant, u64)>,
}

/// What one turn may take.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The drops, in their order.
    pub ready: Vec<Ready>,
    /// There is more to take at once.
    pub more: bool,
    /// All of `raw/` was looked at, so that hints are used up.
    pub looked: bool,
    /// When a drop that may still be growing may be ready.
    pub next_look: Option<Instant>,
}

impl Inbox {
    /// An inbox nobody has looked into.
    pub fn new(ignores: Ignores) -> Inbox {
        Inbox { ignores, ..Inbox::default() }
    }

    /// Notes that a drop has left `raw/`.
    pub(super) fn left(&mut self, path: &RawPath) {
        self.seen.forget(path);
        self.taken += 1;
    }

    /// How far a flood has come; none while what waits fits into one turn.
    pub(super) fn progress(&self) -> Option<Progress> {
        let (since, before) = self.flood?;
        let seconds = clock::instant().saturating_duration_since(since).as_secs_f64();
        let taken = self.taken - before;
        // Whole drops a second: more would only pretend.
        let per_second = if seconds > 0.0 { (taken as f64 / seconds) as u64 } else { 0 };
        Some(Progress { taken, waiting: self.seen.pending() as u64, per_second })
    }
}

/// The first of a list, within what one turn takes.
fn take(list: &mut VecDeque<Ready>, files_max: usize, bytes_max: u64) -> Vec<Ready> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    while let Some(it) = list.front() {
        bytes += it.fingerprint.bytes;
        if taken.len() >= files_max || (bytes > bytes_max && !taken.is_empty()) {
            break;
        }
        taken.extend(list.pop_front());
    }
    taken
}

impl Lane {
    /// Says whether more waits than the last turn took. What nobody waits for is put off till then.
    pub(super) fn flooded(&self) -> bool {
        self.fabrics.iter().any(|it| !it.inbox.backlog.is_empty())
    }

    /// The drops that a turn may take now.
    pub(super) fn batch(&mut self, n: usize, cause: &Cause) -> Result<Batch, Error> {
        let mut batch = Batch::default();
        self.make_way(n)?;
        if self.picked.is_some() {
            return self.picked_batch(n, cause);
        }
        if self.fabrics[n].inbox.backlog.is_empty() {
            let found = self.look_patiently(n, cause)?;
            batch.looked = true;
            batch.more = found.more;
            batch.next_look = found.next_look;
            let files_max = self.settings.files_per_turn_max;
            let inbox = &mut self.fabrics[n].inbox;
            inbox.backlog = found.ready.into();
            inbox.flood = (inbox.backlog.len() > files_max)
                .then(|| inbox.flood.unwrap_or((clock::instant(), inbox.taken)));
        }
        let (files_max, bytes_max) =
            (self.settings.files_per_turn_max, self.settings.bytes_per_turn_max);
        let inbox = &mut self.fabrics[n].inbox;
        batch.ready = take(&mut inbox.backlog, files_max, bytes_max);
        // What came since the last look is only found by another one.
        batch.more |= !batch.looked || !inbox.backlog.is_empty();
        Ok(batch)
    }

    /// The same of what is meant alone. The backlog stays as it is: what is gone from it by then is
    /// found to be gone.
    fn picked_batch(&mut self, n: usize, cause: &Cause) -> Result<Batch, Error> {
        let found = self.look_patiently(n, cause)?;
        let meant = |it: &Ready| self.picked.as_ref().is_none_or(|p| p.takes_drop(&it.path));
        let mut meant: VecDeque<Ready> = found.ready.into_iter().filter(meant).collect();
        let LaneSettings { files_per_turn_max, bytes_per_turn_max, .. } = self.settings;
        let ready = take(&mut meant, files_per_turn_max, bytes_per_turn_max);
        Ok(Batch { ready, more: !meant.is_empty(), looked: false, next_look: found.next_look })
    }

    /// A look at all of `raw/`; where a person waits for the answer, until what is there has settled.
    /// But a file that keeps growing must not keep the person for ever.
    fn look_patiently(&mut self, n: usize, cause: &Cause) -> Result<Discovery, Error> {
        let mut found = self.look(n, &cause.hints)?;
        let mut looks = 1;
        while cause.patient && found.waiting > 0 && looks < PATIENT_LOOKS_MAX {
            std::thread::sleep(self.settings.quiet.min(Duration::from_secs(1)));
            found = self.look(n, &HashSet::new())?;
            looks += 1;
        }
        Ok(found)
    }

    /// What the agent keeps in `raw/` for itself must not be somebody else's.
    fn make_way(&self, n: usize) -> Result<(), Error> {
        let FabricLane { fabric, strategies, archive, .. } = &self.fabrics[n];
        if *archive == ArchiveStrategy::Directory {
            self.tree.make_way(&fabric.raw().join_fixed("processed"))?;
        }
        if strategies.on_invalid == OnInvalid::Quarantine {
            self.tree.make_way(&fabric.raw().join_fixed("errors"))?;
        }
        Ok(())
    }

    /// Looks at all of one fabric's `raw/`.
    fn look(&mut self, n: usize, hints: &HashSet<RawPath>) -> Result<Discovery, Error> {
        let Lane { tree, store, settings, fabrics, .. } = self;
        let FabricLane { fabric, inbox, .. } = &mut fabrics[n];
        let first = inbox.seen.is_blank();
        let now = clock::instant();
        let mut look = inbox.seen.look(hints, now, settings.quiet, settings.entries_max);
        let mut trouble = None;
        let mut known = |path: &[u8]| match store.reject(&fabric.name, &RawPath::new(path)) {
            Ok(it) => it.is_some(),
            Err(error) => {
                trouble.get_or_insert(error);
                false
            }
        };
        let mut unreadable = HashSet::new();
        let mut empty = true;
        // Taken before the listing, so that what comes meanwhile changes it.
        let still = tree.stillness(&fabric.raw());
        if still.is_none() || still != inbox.empty.take() {
            tree.list_raw(&fabric.raw(), &inbox.ignores, &mut |it| match it {
                Listed::Entry(entry) => {
                    empty = false;
                    look.entry(&entry, &mut known);
                }
                Listed::Ignored { path, why: Ignored::Unreadable, .. } => {
                    empty = false;
                    if unreadable.len() < UNREADABLE_MAX {
                        unreadable.insert(RawPath::new(path));
                    }
                }
                Listed::Ignored { .. } => (),
            })?;
        }
        let found = look.finish();
        if let Some(error) = trouble {
            return Err(error.into());
        }
        inbox.looked_at = Some(now);
        inbox.empty = still.filter(|_| empty);
        inbox.tell_unreadable(unreadable, &fabric.name);
        inbox.tell_overflow(&found, settings.entries_max, &fabric.name);
        if found.gone > 0 || first {
            self.note_gone(n)?;
        }
        Ok(found)
    }

    /// Notes which rejected drops somebody removed.
    fn note_gone(&mut self, n: usize) -> Result<(), Error> {
        let FabricLane { fabric, inbox, .. } = &mut self.fabrics[n];
        inbox.gone.clear();
        for path in self.store.rejected_paths(&fabric.name) {
            let path = path?;
            if !inbox.seen.holds(&path) {
                inbox.gone.push(path);
            }
        }
        Ok(())
    }

    /// A rejected drop that somebody removed takes its report, its reject and its conflict along.
    /// Comes after the commit that takes its report out of the tree, if it was in there.
    pub(super) fn clear_gone(&mut self, n: usize) -> Result<(), Error> {
        let FabricLane { fabric, inbox, .. } = &mut self.fabrics[n];
        if inbox.gone.is_empty() {
            return Ok(());
        }
        let mut gone: HashSet<RawPath> = std::mem::take(&mut inbox.gone).into_iter().collect();
        gone.retain(|path| match self.tree.remove_report(&report_path(fabric, path)) {
            Ok(_) => true,
            Err(error) => {
                let error = Error::from(error).chain();
                tracing::warn!(%path, error, "the report of a drop that is gone cannot be removed; the next turn tries again");
                inbox.gone.push(path.clone());
                false
            }
        });
        let over = self.store.conflicts()?.into_iter().filter(|it| {
            it.fabric == fabric.name && it.raw_path.as_ref().is_some_and(|it| gone.contains(it))
        });
        let over = over.map(|it| it.id).collect();
        let cleared = gone.into_iter().map(|it| (fabric.name.clone(), it)).collect();
        self.store.settle(Settlement { cleared, resolved: over, ..Settlement::default() })?;
        conflicts::sweep(self, n)
    }

    /// How many drops lie in `raw/`, rejected ones included.
    pub(super) fn drops(&self, n: usize) -> Result<(usize, Vec<RawPath>), Error> {
        let it = &self.fabrics[n];
        let young = it.inbox.looked_at.is_some_and(|at| {
            clock::instant().saturating_duration_since(at) < COUNT_AGE_MAX
                || !it.inbox.backlog.is_empty()
        });
        let mut rejected: HashSet<RawPath> =
            self.store.rejected_paths(&it.fabric.name).collect::<Result<_, _>>()?;
        if young {
            rejected.retain(|path| it.inbox.seen.holds(path));
            return Ok((it.inbox.seen.len(), rejected.into_iter().collect()));
        }
        let (mut all, mut there) = (0, Vec::new());
        self.tree.list_raw(&it.fabric.raw(), &it.inbox.ignores, &mut |listed| {
            if let Listed::Entry(entry) = listed {
                all += 1;
                there.extend(rejected.take(entry.path));
            }
        })?;
        Ok((all, there))
    }

    /// What in `raw/` is left alone, and why: the first of it, and how much there is in all.
    pub(super) fn ignored(&self, n: usize) -> Result<(Vec<IgnoredEntry>, usize), Error> {
        let it = &self.fabrics[n];
        let (mut all, mut named) = (0, Vec::new());
        self.tree.list_raw(&it.fabric.raw(), &it.inbox.ignores, &mut |listed| {
            if let Listed::Ignored { path, directory, why } = listed {
                all += 1;
                if named.len() < desk::LISTED_MAX {
                    named.push(IgnoredEntry { path: RawPath::new(path), directory, why });
                }
            }
        })?;
        named.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((named, all))
    }

    /// Makes rejected drops ready again though nobody touched them: those named, or all. One that
    /// came back because others pushed something else must be named: taking it writes over theirs.
    pub(super) fn judge_again(&mut self, paths: &[RawPath]) -> Result<(), Error> {
        let mut settlement = Settlement::default();
        let mut missing: HashSet<&RawPath> = paths.iter().collect();
        for it in &mut self.fabrics {
            for reject in self.store.rejects(&it.fabric.name)? {
                let named = missing.remove(&reject.path);
                if !named && (!paths.is_empty() || is_merge_conflict(&reject)) {
                    continue;
                }
                if named {
                    settlement.cleared.push((it.fabric.name.clone(), reject.path.clone()));
                }
                self.suspects.forget(&it.fabric.name, |path, _| *path == reject.path);
                it.inbox.seen.judge_again(&reject.path);
                it.inbox.backlog.clear();
            }
        }
        if let Some(path) = missing.into_iter().next() {
            let what = format!("rejected drop {path}; git-intake reject list shows all");
            return Err(Error::NotFound { what });
        }
        Ok(self.store.settle(settlement)?)
    }
}

fn is_merge_conflict(it: &Reject) -> bool {
    it.problems.iter().any(|it| it.rule == MERGE_CONFLICT)
}

impl Inbox {
    fn tell_unreadable(&mut self, now: HashSet<RawPath>, fabric: &FabricName) {
        for path in now.difference(&self.unreadable) {
            tracing::warn!(%path, fabric.name = %fabric, "cannot look into this directory of raw/; drops in it are not taken until the agent's user may read it");
        }
        self.unreadable = now;
    }

    fn tell_overflow(&mut self, found: &Discovery, entries_max: usize, fabric: &FabricName) {
        let over = found.untracked;
        if over > 0 && !self.overflow_told {
            tracing::warn!(fabric.name = %fabric, over, "raw/ holds more than intake.entries_max = {entries_max} drops; those beyond are taken when they are closed or when there is room (git-intake status tells what stays)");
        }
        self.overflow_told = over > 0;
    }
}
