//! One file, from `raw/` to the remote: the line, in order.
//!
//! Each stage takes a type that only the one before it makes.
//! Nothing leaves `raw/` before the branch has it and the disk has the branch; an operation is in
//! the journal before its first change, and whatever is left half done there, [`super::recovery`]
//! finishes or undoes.
//! Sending is the next step and not part of this file's promise: a drop is safe once it is committed.

use super::lane::{FabricLane, Lane};
use super::{Error, beside, judging, lookup, message, named, settle};
use crate::clock;
use crate::git::{ArchiveDraft, CommitDraft, CommitOutcome};
use crate::model::digest::Sha256;
use crate::model::document::{Classified, Intake, Rejected};
use crate::model::ids::{CommitId, OperationId};
use crate::model::operation::{Operation, Purpose, State, Trigger};
use crate::model::path::{RawPath, RepoPath};
use crate::model::plan::{Change, Disposal, Fate, Plan, Planned, Taken};
use crate::model::problem::Problem;
use crate::model::report::{Ending, FileReport, StageReport};
use crate::pipeline::processing::Processed;
use crate::pipeline::{archive, classification, processing, tracked};
use crate::step::Mistake;
use crate::worktree::ReadRaw;
use std::collections::HashSet;
use std::time::Instant;

/// What set a turn off, and what the kernel said about single drops.
#[derive(Debug, Clone)]
pub struct Cause {
    /// For the journal.
    pub trigger: Trigger,
    /// Who is behind it.
    pub actor: String,
    /// Drops that were closed by their writer or moved in: no need to wait whether they grow.
    pub hints: HashSet<RawPath>,
    /// Wait for unsettled drops instead of leaving them to a later turn.
    pub patient: bool,
}

/// What a turn did.
#[derive(Debug, Clone)]
pub struct Turned {
    /// The journal's entry; none where there was nothing to do.
    pub operation: Option<Operation>,
    /// What became of each drop.
    pub files: Vec<FileReport>,
    /// What each stage did.
    pub stages: Vec<StageReport>,
    /// When to look again, where a drop is not settled yet.
    pub next_look: Option<Instant>,
    /// More drops wait than one turn takes.
    pub more: bool,
    /// All of `raw/` was looked at; else the hints are still of use.
    pub looked: bool,
}

/// Takes what is ready in one fabric's `raw/` to the branch.
pub fn turn(lane: &mut Lane, n: usize, cause: &Cause) -> Result<Turned, Error> {
    let brought = beside::bring_in(lane, n, cause)?;
    let cause = &match brought.is_empty() {
        true => cause.clone(),
        // They are whole: what we wrote ourselves need not settle.
        false => {
            Cause { hints: cause.hints.iter().cloned().chain(brought).collect(), ..cause.clone() }
        }
    };
    let judged = judge(lane, n, cause);
    lane.suspects.judged_all();
    let mut judged = judged?;
    if judged.plan.is_empty() {
        lane.clear_gone(n)?;
        return Ok(judged.into_turned(None));
    }
    let mut operation = operation(lane, n, &judged, cause);
    judged.plan.trailers.extend(lane.droppers.trailers(&judged.plan));
    carry_out(lane, n, &mut judged.plan, &judged.conflicts, &mut operation)?;
    lane.clear_gone(n)?;
    Ok(judged.into_turned(Some(operation)))
}

/// Rows 8 to 11: the plan is in the journal, durable, before anything moves; then the files, the
/// commit, and what follows it. What fails before the commit is undone. The remote is called meanwhile.
pub(super) fn carry_out(
    lane: &mut Lane,
    n: usize,
    plan: &mut Plan,
    conflicts: &[processing::Met],
    operation: &mut Operation,
) -> Result<(), Error> {
    if !plan.changes.is_empty() {
        lane.call_ahead();
    }
    let done = make_true(lane, n, plan, conflicts, operation);
    if done.is_err() {
        lane.repo.hang_up();
    }
    done
}

fn make_true(
    lane: &mut Lane,
    n: usize,
    plan: &mut Plan,
    conflicts: &[processing::Met],
    operation: &mut Operation,
) -> Result<(), Error> {
    for change in &plan.changes {
        let mut planned = planned(change);
        if plan.in_place {
            // Neither undone nor removed: it is not ours.
            (planned.digest, planned.was) = (None, None);
        } else if let Change::Write { path, bytes, was: None } = change
            && lane.tree.read(path, lane.settings.bytes_max)?.is_some_and(|it| *it == **bytes)
        {
            // Somebody put it there before us: undoing must not take it away.
            planned.digest = None;
        }
        operation.changes.push(planned);
    }
    lane.store.begin(operation)?;
    if Mistake::RemoveEarly.is_made() {
        for it in &operation.taken {
            let raw = lane.fabrics[n].fabric.raw();
            lane.tree.remove_raw(&raw, &it.path, &it.drop_id, lane.settings.bytes_max)?;
        }
    }
    let done = apply(lane, n, plan, operation).and_then(|()| commit(lane, n, plan, operation));
    if let Err(error) = done {
        return Err(super::recovery::undo(lane, operation.clone(), error));
    }
    if let (None, Some(base)) = (operation.state.commit_id(), operation.base) {
        // What somebody else committed is what these drops rest on.
        lane.repo.make_durable(base)?;
    }
    settle::settle(lane, n, plan, conflicts, operation)
}

/// Says what a turn would do, and does nothing.
pub fn rehearse(lane: &mut Lane, n: usize, cause: &Cause) -> Result<Turned, Error> {
    let judged = judge(lane, n, cause);
    lane.suspects.judged_all();
    Ok(judged?.into_turned(None))
}

/// A turn's decisions, before anything is changed.
struct Judged {
    base: Option<CommitId>,
    branch: String,
    plan: Plan,
    conflicts: Vec<processing::Met>,
    files: Vec<FileReport>,
    stages: Vec<StageReport>,
    next_look: Option<Instant>,
    more: bool,
    looked: bool,
}

impl Judged {
    fn into_turned(self, operation: Option<Operation>) -> Turned {
        Turned {
            operation,
            files: self.files,
            stages: self.stages,
            next_look: self.next_look,
            more: self.more,
            looked: self.looked,
        }
    }
}

/// The five stages, with the reading between them.
fn judge(lane: &mut Lane, n: usize, cause: &Cause) -> Result<Judged, Error> {
    super::advance::follow_on(lane)?;
    let head = lane.head_to_commit_on()?;
    if !lane.flooded() {
        lane.repo.pay_index()?;
    }
    super::follow::records_follow_head(lane, n, head.commit)?;
    let (intakes, found) = discover_and_read(lane, n, cause)?;
    let fabric = &lane.fabrics[n];
    let names = lane.suspects.among(&intakes);

    let (mut valid, bad) = judging::validate_all(lane, n, &intakes);
    let mut rejected: Vec<Rejected> = found.unreadable;
    rejected.extend(bad);
    if let Some(picked) = &mut lane.picked {
        picked.keep(&mut valid, &mut rejected);
    }
    let processed_total = valid.len() + rejected.len();
    let (good, bad) = (valid.len(), rejected.len());
    let mut classified: Vec<Classified> = valid
        .into_iter()
        .map(|it| classification::classify(it, &fabric.fabric, &lane.catalog))
        .collect();
    named::warn_of_missing(lane, &fabric.fabric, head.commit, &mut classified)?;
    let mut holdings = lookup::holdings(lane, fabric, head.commit, &classified, &rejected)?;
    let mut processed =
        processing::process(classified, rejected, &holdings, &fabric.fabric, fabric.strategies);
    let gone = &fabric.inbox.gone;
    let theirs = lookup::tracked(lane, &fabric.fabric, head.commit, gone.iter())?;
    holdings.tracked.reports.extend(theirs.reports);
    tracked::answer(&mut processed, &holdings.tracked, &fabric.fabric, gone);
    let conflicts = processed.conflicts.clone();
    let mut plan = finish(processed, fabric);
    plan.subject.clone_from(&lane.subject);
    let files: Vec<FileReport> = plan.disposals.iter().map(report).collect();
    let stayed = files.iter().filter(|it| it.ending == Ending::Rejected).count();
    let parted = files.iter().any(|it| it.ending == Ending::Parted);
    let stages = vec![
        stage("discovery", processed_total, 0),
        stage("validation", processed_total, bad),
        stage("classification", good, 0),
        stage("processing", good, stayed.saturating_sub(bad)),
        stage("archive", plan.disposals.len() - stayed, 0),
    ];
    forget_known(lane, n, &mut plan)?;
    lane.clear_suspicions(n, &names);
    Ok(Judged {
        base: head.commit,
        branch: head.branch,
        plan,
        conflicts,
        files,
        stages,
        next_look: found.next_look,
        // What is left of a drop is a drop of its own.
        more: found.more || parted,
        looked: found.looked,
    })
}

/// Drops that stay for the reasons they stayed for before are no news.
fn forget_known(lane: &mut Lane, n: usize, plan: &mut Plan) -> Result<(), Error> {
    let fabric = lane.fabrics[n].fabric.name.clone();
    let mut news = Vec::with_capacity(plan.disposals.len());
    for it in std::mem::take(&mut plan.disposals) {
        let known = match &it.fate {
            Fate::Stays { problems } => lane
                .store
                .reject(&fabric, &it.intake.path)?
                .is_some_and(|old| old.drop_id == it.intake.drop_id && old.problems == *problems),
            Fate::Leaves { .. } | Fate::Parted { .. } | Fate::Quarantined { .. } => false,
        };
        match (&it.fate, known) {
            (Fate::Stays { problems }, true) => settle::stay(lane, n, &it.intake, problems)?,
            _ => news.push(it),
        }
    }
    plan.disposals = news;
    Ok(())
}

fn finish(processed: Processed, fabric: &FabricLane) -> Plan {
    archive::archive(processed, fabric.archive, &fabric.fabric)
}

/// What discovery left behind beside the intakes.
struct Found {
    unreadable: Vec<Rejected>,
    next_look: Option<Instant>,
    more: bool,
    looked: bool,
}

/// Rows 1 to 3 of the line: list, discover, read.
fn discover_and_read(
    lane: &mut Lane,
    n: usize,
    cause: &Cause,
) -> Result<(Vec<Intake>, Found), Error> {
    let mut batch = lane.batch(n, cause)?;
    let mut intakes = Vec::with_capacity(batch.ready.len());
    let mut unreadable: Vec<Rejected> = Vec::new();
    let mut next_look = batch.next_look;
    let name = &lane.fabrics[n].fabric.name;
    for it in batch.ready.iter_mut().filter(|it| it.strange.is_none()) {
        it.strange = lane.suspects.refused(name, it);
    }
    let reads = lane.read_all(n, &batch.ready)?;
    for (it, read) in batch.ready.into_iter().zip(reads) {
        if let Some(problem) = it.strange {
            unreadable.push(refuse(it.path, problem));
            continue;
        }
        let (path, quiet) = (it.path, lane.settings.quiet);
        let seen = &mut lane.fabrics[n].inbox.seen;
        let pause = match read {
            ReadRaw::Read { intake, .. } => {
                intakes.push(intake);
                continue;
            }
            // Somebody is still writing, or has taken it away: a later turn sees what it is then.
            ReadRaw::Busy => seen.busy(&path, clock::instant(), quiet),
            ReadRaw::Changed => {
                seen.forget(&path);
                quiet
            }
            ReadRaw::Gone => {
                seen.forget(&path);
                continue;
            }
            ReadRaw::TooLarge { bytes, max } => {
                unreadable.push(refuse(path, too_large(bytes, max)));
                continue;
            }
            ReadRaw::NotRegular => {
                unreadable.push(refuse(path, not_regular()));
                continue;
            }
            ReadRaw::Private => {
                unreadable.push(refuse(path, private()));
                continue;
            }
            ReadRaw::Denied => {
                unreadable.push(refuse(path, denied()));
                continue;
            }
        };
        let soon = clock::instant() + pause;
        next_look = Some(next_look.map_or(soon, |at| at.min(soon)));
    }
    lane.keep_conflicts(n, &mut intakes, &mut unreadable)?;
    Ok((intakes, Found { unreadable, next_look, more: batch.more, looked: batch.looked }))
}

/// The journal's entry for a turn.
fn operation(lane: &Lane, n: usize, judged: &Judged, cause: &Cause) -> Operation {
    let now = clock::now();
    let leaves = |it: &&Disposal| !matches!(it.fate, Fate::Stays { .. });
    let taken = judged.plan.disposals.iter().filter(leaves).map(|it| Taken {
        path: it.intake.path.clone(),
        drop_id: it.intake.drop_id,
        rest: match &it.fate {
            Fate::Parted { rest, .. } => Some(Sha256::of_drop(it.intake.path.as_bytes(), rest)),
            Fate::Leaves { .. } | Fate::Stays { .. } | Fate::Quarantined { .. } => None,
        },
    });
    Operation {
        id: OperationId::new(now),
        fabric: lane.fabrics[n].fabric.name.clone(),
        purpose: Purpose::Ingestion,
        trigger: cause.trigger,
        actor: cause.actor.clone(),
        started_at: now,
        completed_at: None,
        state: State::Planned,
        base: judged.base,
        branch: judged.branch.clone(),
        changes: Vec::new(),
        taken: taken.collect(),
        files: judged.files.clone(),
        stages: judged.stages.clone(),
    }
}

/// Row 9: files in place, each whole or not at all, and on the disk.
fn apply(lane: &Lane, n: usize, plan: &Plan, operation: &mut Operation) -> Result<(), Error> {
    let fabric = &lane.fabrics[n].fabric;
    let parted = plan.disposals.iter().filter(|it| matches!(it.fate, Fate::Parted { .. }));
    let parted: HashSet<RepoPath> =
        parted.filter_map(|it| tracked::drop_place(fabric, &it.intake.path)).collect();
    let mut writes = Vec::new();
    for change in &plan.changes {
        // What leaves raw/, in whole or in part, does so in the last step, when the branch is safe.
        if let Change::Write { path, bytes, .. } = change
            && !plan.in_place
            && !parted.contains(path)
        {
            writes.push((path.clone(), bytes.clone()));
        }
    }
    lane.tree.write_all(&writes)?;
    operation.state = State::Applied;
    Ok(())
}

/// Row 10: the branch moves, only from the value that the plan was made on.
fn commit(lane: &Lane, n: usize, plan: &Plan, operation: &mut Operation) -> Result<(), Error> {
    let mut draft = CommitDraft {
        branch: operation.branch.clone(),
        base: operation.base,
        writes: Vec::new(),
        removals: Vec::new(),
        message: message::commit_message(&operation.fabric, plan, operation.id, &operation.actor),
        author: lane.settings.author.clone(),
        time: operation.started_at,
        archive: None,
    };
    for change in &plan.changes {
        match change {
            Change::Write { path, bytes, .. } => draft.writes.push((path.clone(), bytes.clone())),
            Change::Remove { path, .. } => draft.removals.push(path.clone()),
        }
    }
    if !plan.originals.is_empty() {
        let entries = plan.originals.iter().map(|it| (original_path(it), it.bytes.clone()));
        draft.archive = Some(ArchiveDraft {
            ref_name: lane.fabrics[n].fabric.archive_ref(),
            entries: entries.collect(),
            message: message::archive_message(&operation.fabric, plan, operation.id),
        });
    }
    operation.state = match lane.repo.commit(&draft)? {
        CommitOutcome::Committed(commit_id) => State::Committed { commit_id, settled: false },
        CommitOutcome::Unchanged => State::Done,
        CommitOutcome::Moved { .. } => return Err(Error::HeadMoved),
        CommitOutcome::Locked { path } => return Err(Error::Locked { path }),
    };
    Ok(())
}

/// Where the archive keeps an original: by digest, so that the same drop lies there once.
pub(super) fn original_path(it: &crate::model::plan::Original) -> RepoPath {
    let id = it.drop_id.to_string();
    let text = format!("{}/{id}-{}", &id[..2], it.path.safe_name());
    RepoPath::parse(&text).expect("a digest and a safe name keep the grammar")
}

fn planned(change: &Change) -> Planned {
    match change {
        Change::Write { path, bytes, was } => Planned {
            path: RawPath::new(path.as_str()),
            digest: Some(crate::model::digest::Sha256::of(bytes)),
            was: *was,
        },
        Change::Remove { path, was } => {
            Planned { path: RawPath::new(path.to_vec()), digest: None, was: Some(*was) }
        }
    }
}

fn report(it: &Disposal) -> FileReport {
    let (ending, documents, problems) = match &it.fate {
        Fate::Leaves { ending, filed, notes } => (*ending, filed.clone(), notes.clone()),
        Fate::Parted { filed, problems, .. } => (Ending::Parted, filed.clone(), problems.clone()),
        Fate::Stays { problems } | Fate::Quarantined { problems } => {
            (Ending::Rejected, Vec::new(), problems.clone())
        }
    };
    FileReport { path: it.intake.path.clone(), ending, documents, problems }
}

fn stage(name: &str, processed: usize, failed: usize) -> StageReport {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    StageReport {
        name: name.to_owned(),
        files_processed: count(processed),
        files_success: count(processed.saturating_sub(failed)),
        files_failed: count(failed),
    }
}

fn refuse(path: RawPath, problem: Problem) -> Rejected {
    Rejected { intake: Intake::new(path, Vec::new()), problems: vec![problem] }
}

fn too_large(bytes: u64, max: u64) -> Problem {
    let message = format!("the file has {bytes} bytes, more than the {max} that are allowed");
    Problem::error("too-large", message)
        .hint("split it, or raise `intake.bytes_max` in the configuration")
}

fn not_regular() -> Problem {
    let message =
        "there is no regular file of this name any more, or it lies on a file system of its own";
    Problem::error("not-a-file", message).hint("remove it, and put a regular file in its place")
}

fn private() -> Problem {
    let message = "this is a second name of a file that only the agent's own user may read";
    Problem::error("not-a-file", message)
        .hint("copy the file into raw/ instead of linking it, if it is meant to be taken")
}

fn denied() -> Problem {
    Problem::error("not-readable", "the agent may not read this file")
        .hint("give the agent's user the right to read it, for example: chmod a+r FILE")
}
