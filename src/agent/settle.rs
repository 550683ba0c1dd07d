//! The last row of the line: `raw/`, reports, records and index follow the commit.
//!
//! Everything here can be done again: whatever a crash leaves undone, the next start or the next
//! turn does.

use super::Error;
use super::inbox::Inbox;
use super::lane::{Lane, depends_on_the_world};
use crate::clock;
use crate::cores;
use crate::git::IndexOutcome;
use crate::heap;
use crate::model::digest::Sha256;
use crate::model::document::Intake;
use crate::model::fabric::Fabric;
use crate::model::ids::CommitId;
use crate::model::key::ResourceId;
use crate::model::operation::{Headline, Operation, Purpose, State};
use crate::model::path::{RawPath, RepoPath};
use crate::model::plan::{Disposal, Fate, Plan, Recorded};
use crate::model::problem::Problem;
use crate::model::record::{Conflict, Record, Reject, Source};
use crate::pipeline::processing::Met;
use crate::pipeline::{explain, tracked};
use crate::store::Settlement;
use crate::worktree::WorkTree;
use std::collections::BTreeSet;
use std::convert::Infallible;

/// Brings everything along that follows a commit, and closes the operation as far as it goes.
pub(super) fn settle(
    lane: &mut Lane,
    n: usize,
    plan: &mut Plan,
    conflicts: &[Met],
    operation: &mut Operation,
) -> Result<(), Error> {
    let now = clock::now();
    let mut settlement = Settlement::default();
    let (leaving, staying): (Vec<_>, Vec<_>) = std::mem::take(&mut plan.disposals)
        .into_iter()
        .partition(|it| matches!(it.fate, Fate::Leaves { .. }));
    let mut leaving: Vec<Leaving> = leaving.into_iter().map(|it| Leaving::of(it.intake)).collect();
    for it in &staying {
        if let Err(error) = dispose(lane, n, it, now, &mut settlement, &mut leaving) {
            stuck(&mut lane.fabrics[n].inbox, &it.intake.path, error);
        }
    }
    remove_files(lane, operation)?;
    clear_and_close(lane, n, &leaving, |lane| {
        settlement.conflicts.extend(conflicts.iter().map(|it| conflict(lane, n, it, now)));
        conclude(lane, plan, operation, &mut settlement)?;
        // Git has it by now, and a flood's drops have tens of megabytes.
        *plan = Plan::default();
        // What the journal keeps of it is what it was when the operation began.
        Ok((settlement, operation.headline()))
    })?;
    tracing::debug!(operation.id = %operation.id, "settled");
    Ok(())
}

/// What follows from the plan in the store, and how far the operation has come with it.
fn conclude(
    lane: &Lane,
    plan: &Plan,
    operation: &mut Operation,
    settlement: &mut Settlement<'_>,
) -> Result<(), Error> {
    let fabric = &operation.fabric;
    let homed = plan.recorded.iter().map(|it| (fabric.clone(), RawPath::new(it.path.as_str())));
    settlement.homed.extend(homed);
    let ids: Vec<_> =
        plan.recorded.iter().map(|it| ResourceId::of(fabric, &it.document.key)).collect();
    settlement.resolved.extend(&ids);
    settlement.resolved.retain(|id| settlement.conflicts.iter().all(|it| it.id != *id));
    let commit_id = match operation.state {
        State::Committed { commit_id, .. } => Some(commit_id),
        _ => None,
    };
    settlement.records = records(lane, plan, &ids, commit_id, operation)?;
    if let Some(commit_id) = commit_id {
        // Where no drop says what is in the files, the records follow by reading them.
        if !plan.recorded.is_empty() {
            settlement.synced = Some((operation.fabric.clone(), commit_id));
        }
        operation.state = lane.settled(commit_id);
    }
    operation.completed_at = (!operation.state.is_open()).then(clock::now);
    Ok(())
}

/// A drop that was filed, without its bytes.
struct Leaving {
    path: RawPath,
    drop_id: Sha256,
}

impl Leaving {
    fn of(intake: Intake) -> Leaving {
        Leaving { path: intake.path, drop_id: intake.drop_id }
    }

    /// Takes it and its report out of `raw/`.
    fn take_away(&self, tree: &WorkTree, fabric: &Fabric, bytes_max: u64) -> Result<(), Error> {
        tree.remove_raw(&fabric.raw(), &self.path, &self.drop_id, bytes_max)?;
        Ok(tree.remove_report(&tracked::report_path(fabric, &self.path))?)
    }
}

/// Takes what was filed out of `raw/` while its records are made and written; once both are done, and
/// on the disk, the operation is closed.
fn clear_and_close(
    lane: &mut Lane,
    n: usize,
    leaving: &[Leaving],
    records: impl FnOnce(&Lane) -> Result<(Settlement<'static>, Headline), Error>,
) -> Result<(), Error> {
    let shared: &Lane = lane;
    let (tree, fabric) = (&shared.tree, &shared.fabrics[n].fabric);
    let bytes_max = shared.settings.bytes_max;
    let take_all = || {
        let take = |it: &Leaving| Ok::<_, Infallible>(it.take_away(tree, fabric, bytes_max));
        let Ok(taken) = cores::on_all(leaving, take);
        taken
    };
    let mut endings = Vec::new();
    let closed = cores::beside(leaving.len(), take_all, |taken| {
        let (settlement, headline) = records(shared)?;
        let settlement = Settlement { moved: Some(&headline), ..settlement };
        shared.store.settle_with(settlement, || {
            endings = taken();
            let gone = leaving.iter().zip(&endings).filter(|(_, it)| it.is_ok());
            let cleared: Vec<_> =
                gone.map(|(it, _)| (fabric.name.clone(), it.path.clone())).collect();
            if !cleared.is_empty() {
                tree.sync_directories([fabric.raw()].iter())?;
            }
            Ok(cleared)
        })
    });
    let inbox = &mut lane.fabrics[n].inbox;
    for (it, ending) in leaving.iter().zip(endings) {
        match ending {
            Ok(()) => inbox.left(&it.path),
            Err(error) => stuck(inbox, &it.path, error),
        }
    }
    closed
}

/// One file that cannot be removed must not keep the others: it is found again.
fn stuck(inbox: &mut Inbox, path: &RawPath, error: Error) {
    let error = error.chain();
    tracing::warn!(%path, error, "cannot clear this drop out of raw/; it stays until that is possible");
    inbox.seen.stuck(path, clock::instant());
}

/// Takes the managed files away that an operation removes, where they are as it found them.
pub(super) fn remove_files(lane: &Lane, operation: &Operation) -> Result<(), Error> {
    let Some(it) = lane.fabrics.iter().find(|it| it.fabric.name == operation.fabric) else {
        return Ok(());
    };
    let mut emptied = BTreeSet::new();
    for planned in operation.changes.iter().filter(|it| it.digest.is_none()) {
        let path = std::str::from_utf8(planned.path.as_bytes()).map(RepoPath::parse);
        let Ok(Ok(path)) = path else { continue };
        // In the other directories files are taken away by other hands, drop by drop.
        let (root, all) = match operation.purpose {
            Purpose::Cleanup => (it.fabric.dir.clone(), RepoPath::top()),
            // What lay beside raw/.
            _ if path.parent().unwrap_or_else(RepoPath::top) == it.fabric.dir => {
                (it.fabric.dir.clone(), it.fabric.dir.clone())
            }
            _ => (it.fabric.managed(), it.fabric.managed()),
        };
        if !path.is_within(&root) {
            continue;
        }
        let found = lane.tree.read(&path, lane.settings.bytes_max)?;
        let found = found.map(|it| lane.repo.blob_id_of(&it)).transpose()?;
        if found.is_some() && found == planned.was {
            lane.tree.remove(&path, &all)?;
            emptied.extend(path.parent().filter(|it| lane.tree.exists(it).unwrap_or(false)));
        }
    }
    Ok(lane.tree.sync_directories(emptied.iter())?)
}

/// What follows for a drop that is not simply filed: a report says why.
fn dispose(
    lane: &mut Lane,
    n: usize,
    it: &Disposal,
    now: jiff::Timestamp,
    settlement: &mut Settlement,
    leaving: &mut Vec<Leaving>,
) -> Result<(), Error> {
    let fabric = lane.fabrics[n].fabric.clone();
    match &it.fate {
        Fate::Leaves { .. } => (),
        Fate::Parted { rest, .. } => {
            let path = &it.intake.path;
            let bytes_max = lane.settings.bytes_max;
            lane.tree.replace_raw(&fabric.raw(), path, &it.intake.drop_id, rest, bytes_max)?;
            lane.tree.remove_report(&tracked::report_path(&fabric, path))?;
            settlement.cleared.push((fabric.name, path.clone()));
            lane.fabrics[n].inbox.left(path);
        }
        Fate::Stays { problems } => {
            stay(lane, n, &it.intake, problems)?;
            settlement.rejects.push(Reject {
                fabric: fabric.name,
                path: it.intake.path.clone(),
                drop_id: it.intake.drop_id,
                problems: problems.clone(),
                since: now,
            });
        }
        Fate::Quarantined { problems } => {
            let report = explain::report(&it.intake.path, problems);
            let [place, beside] = tracked::aside(&fabric, &it.intake);
            let files = [(place, it.intake.bytes.clone()), (beside, report.into_bytes().into())];
            lane.tree.write_all(&files)?;
            leaving.push(Leaving::of(it.intake.clone()));
        }
    }
    Ok(())
}

/// Writes the report of a drop that stays, and remembers that it was judged.
pub(super) fn stay(
    lane: &mut Lane,
    n: usize,
    intake: &Intake,
    problems: &[Problem],
) -> Result<(), Error> {
    let report = tracked::report_path(&lane.fabrics[n].fabric, &intake.path);
    if let Err(error) = lane.tree.write_report(&report, &explain::report(&intake.path, problems)) {
        // Where no report can be, `git-intake reject list` says the same; no other drop waits.
        let error = Error::from(error).chain();
        tracing::warn!(path = %intake.path, error, "cannot write the report of this drop");
    }
    if !depends_on_the_world(problems) {
        lane.fabrics[n].inbox.seen.judged(&intake.path);
    }
    Ok(())
}

fn conflict(lane: &Lane, n: usize, it: &Met, now: jiff::Timestamp) -> Conflict {
    let fabric = lane.fabrics[n].fabric.name.clone();
    Conflict {
        id: ResourceId::of(&fabric, &it.key),
        fabric,
        path: it.path.clone(),
        kind: it.kind,
        raw_path: Some(it.drop.clone()),
        message: it.message.clone(),
        detected_at: now,
        fields: Vec::new(),
        strategy: lane.fabrics[n].rules.conflict,
        kept: false,
    }
}

/// The records that follow from the plan. Without a commit the files were there already, and only
/// where the resource came from is new.
fn records(
    lane: &Lane,
    plan: &Plan,
    ids: &[ResourceId],
    commit_id: Option<CommitId>,
    operation: &Operation,
) -> Result<Vec<Record>, Error> {
    let texts: Vec<&[u8]> = plan.recorded.iter().map(|it| it.document.text.as_bytes()).collect();
    let blob_ids = lane.repo.blob_ids_of(&texts)?;
    let held = lane.store.records_of(ids, |it| it)?;
    let mut records = Vec::with_capacity(plan.recorded.len());
    let pieces = plan.recorded.iter().zip(blob_ids).zip(ids.iter().zip(held));
    for ((it, blob_id), (id, old)) in pieces {
        let commit_id = match &old {
            Some(old) if old.blob_id == blob_id && old.commit_id.is_some() => old.commit_id,
            _ => commit_id.or(operation.base),
        };
        let same = |it: &Record| it.blob_id == blob_id && it.source.is_some();
        let old = match old {
            // The same content again changes nothing, not even where it came from first.
            Some(old) if same(&old) => {
                records.push(old);
                continue;
            }
            old => old,
        };
        let old = match old {
            Some(it) => Some(it),
            None => lane.store.orphan(id)?.map(|it| it.record),
        };
        let (modifications, actual) =
            old.map(|it| (it.modifications, it.actual)).unwrap_or_default();
        let record = record(it, operation, blob_id, commit_id);
        records.push(Record { modifications, actual, ..record });
    }
    Ok(records)
}

fn record(
    it: &Recorded,
    operation: &Operation,
    blob_id: crate::model::ids::BlobId,
    commit_id: Option<CommitId>,
) -> Record {
    let source = Source {
        path: it.source.clone(),
        document: it.document.index,
        line: it.document.line,
        operation: Some(operation.id),
    };
    let fabric = operation.fabric.clone();
    super::read::record_of(fabric, &it.document, it.path.clone(), blob_id, commit_id, Some(source))
}

/// What follows a commit and nobody waits for: done while the remote takes the push, or when there
/// is none. Whatever fails is done by the next turn or the next start.
pub(super) fn tidy(lane: &Lane) {
    match lane.repo.pay_index() {
        Ok(IndexOutcome::Refreshed) => (),
        Ok(IndexOutcome::Locked) => tracing::warn!(
            "the index is locked by another process; git status shows our files as changed until it is refreshed (git reset -q)"
        ),
        Err(error) => {
            let error = Error::from(error).chain();
            tracing::warn!(error, "cannot refresh the index; the next turn tries again");
        }
    }
    if let Err(error) = lane.repo.fold_packs() {
        let error = Error::from(error).chain();
        tracing::warn!(error, "cannot fold small packs into one; the next commit tries again");
    }
}

/// After each turn of a flood, and when nothing more waits: what was read of the repository is let go,
/// packs that are mapped above all, and what was freed goes back to the kernel.
pub(super) fn clear_up(lane: &mut Lane) {
    if let Err(error) = lane.repo.open_anew() {
        let error = Error::from(error).chain();
        tracing::warn!(
            error,
            "cannot open the repository anew; what was read of it stays in memory"
        );
    }
    heap::give_back();
}

/// A drop of ours, for what has to lie in `raw/` as if a person had put it there.
pub(super) fn returned(path: RawPath, bytes: Vec<u8>) -> (Intake, Sha256) {
    let intake = Intake::new(path, bytes);
    let id = intake.drop_id;
    (intake, id)
}
