//! Both ways at once, because somebody asked: what others have comes in first, then what is ours
//! goes out; or only the one, or only an account of what would happen.

use super::counter::{Outgoing, take_and_send};
use super::desk::Asker;
use super::lane::Lane;
use super::{Error, desk, follow, hands, meet, picked, propose, sync};
use crate::git::Changed;
use crate::model::account::{Incoming, IncomingKind, SyncReport};
use crate::model::conflict::ConflictStrategy;
use crate::model::ids::{BlobId, CommitId};
use crate::model::key::ResourceId;
use crate::model::path::RawPath;
use crate::model::record::Conflict;
use crate::model::report::Delivery;
use crate::model::rules::Mode;
use crate::model::selection::Selection;
use crate::pipeline::validation;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So many changes are named in an answer; the rest are counted.
const NAMED_MAX: usize = 1_000;
/// How many commits are counted.
const COUNTED_MAX: usize = 10_000;

/// Which way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncDirection {
    /// What others have comes in, then what is ours goes out.
    #[default]
    Bidirectional,
    /// What others pushed, committed or edited by hand comes in.
    GitToRecord,
    /// What lies in `raw/` and what is committed here goes out.
    RecordToGit,
}

/// What is asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SyncAsked {
    /// Which way.
    #[serde(default)]
    pub direction: SyncDirection,
    /// Instead of what the settings say of fields that both sides changed.
    #[serde(default)]
    pub strategy: Option<ConflictStrategy>,
    /// Which drops and hand edits are taken; the branch is exchanged as a whole.
    #[serde(default)]
    pub selection: Selection,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// Synchronises the repository of a lane.
pub(super) fn sync(
    lane: &mut Lane,
    asked: &SyncAsked,
    asker: Option<&Asker>,
) -> Result<SyncReport, Error> {
    lane.strategy = asked.strategy;
    let done = picked::with(lane, &asked.selection, |lane| match asked.dry_run {
        true => rehearse(lane, asked),
        false => carry_out(lane, asked, asker),
    });
    lane.strategy = None;
    done
}

fn carry_out(
    lane: &mut Lane,
    asked: &SyncAsked,
    asker: Option<&Asker>,
) -> Result<SyncReport, Error> {
    let mut report = SyncReport { dry_run: false, ..SyncReport::default() };
    let known: BTreeSet<ResourceId> = lane.store.conflicts()?.into_iter().map(|it| it.id).collect();
    if asked.direction != SyncDirection::RecordToGit {
        let before = before(lane)?;
        sync::take_in(lane)?;
        let head = lane.head_to_commit_on()?.commit;
        follow::all_follow_head(lane, head)?;
        for (n, from) in before.iter().enumerate() {
            let changes = between(lane, n, *from, head)?;
            account(lane, n, &changes, &mut report)?;
        }
        for n in 0..lane.fabrics.len() {
            if lane.fabrics[n].rules.mode == Mode::Full && lane.fabrics[n].hold.is_none() {
                let operation = hands::take(lane, n, Duration::ZERO)?;
                report.operations.extend(operation.map(|it| it.id));
            }
        }
    }
    if asked.direction == SyncDirection::GitToRecord {
        report.delivery = Delivery::Nothing;
    } else {
        let Outgoing { reports, delivery } = take_and_send(lane, asker)?;
        report.operations.extend(reports.iter().filter_map(|it| it.operation));
        (report.ingested, report.delivery) = (reports, delivery);
    }
    let new = |it: &Conflict| !known.contains(&it.id);
    report.conflicts = lane.store.conflicts()?.into_iter().filter(new).collect();
    report.holds = lane.fabrics.iter().filter_map(|it| it.hold.clone()).collect();
    report.unsent = unsent(lane)?;
    Ok(report)
}

/// Fetches, and says what would come of it; branch, work tree, records and the remote stay.
fn rehearse(lane: &mut Lane, asked: &SyncAsked) -> Result<SyncReport, Error> {
    let mut report = SyncReport { dry_run: true, ..SyncReport::default() };
    if asked.direction != SyncDirection::RecordToGit {
        let standing = lane.head_to_commit_on()?;
        let remote = lane.sends_to().cloned();
        let theirs = match &remote {
            Some(remote) => lane.repo.fetch(remote, &standing.branch)?.tip,
            None => None,
        };
        let before = before(lane)?;
        let new = match (theirs, standing.commit) {
            (Some(theirs), Some(ours)) if !lane.repo.is_ancestor(theirs, ours)? => Some(theirs),
            (Some(theirs), None) => Some(theirs),
            _ => None,
        };
        for (n, from) in before.iter().enumerate() {
            // What was committed here by others, and what the remote has beside it.
            let mut changes = between(lane, n, *from, standing.commit)?;
            if let Some(theirs) = new {
                let base = match standing.commit {
                    Some(ours) => lane.repo.merge_base(ours, theirs)?,
                    None => None,
                };
                let dir = &lane.fabrics[n].fabric.dir;
                changes.extend(lane.repo.changes_between(base, theirs, dir)?);
            }
            account(lane, n, &changes, &mut report)?;
        }
        if let (Some(theirs), Some(ours)) = (new, standing.commit)
            && !lane.repo.is_ancestor(ours, theirs)?
        {
            let side = meet::Theirs { tip: theirs, base: lane.repo.merge_base(ours, theirs)? };
            let carry = lane.carry(&standing.branch);
            let meeting =
                &mut |it: &crate::git::Meeting<'_>| meet::meet(lane, side, lane.strategy, it);
            let overlaps = lane.repo.rehearse_replay(ours, theirs, &carry, meeting)?;
            let paths: BTreeSet<RawPath> =
                overlaps.into_iter().map(|it| RawPath::new(it.path.to_vec())).collect();
            report.overlaps = paths.into_iter().collect();
        }
    }
    if asked.direction != SyncDirection::GitToRecord {
        report.ingested = desk::ingest(lane, true)?;
    }
    report.unsent = unsent(lane)?;
    Ok(report)
}

/// The commit that the records of each fabric follow.
fn before(lane: &Lane) -> Result<Vec<Option<CommitId>>, Error> {
    let all = lane.fabrics.iter().map(|it| Ok(lane.store.synced(&it.fabric.name)?));
    all.collect()
}

fn between(
    lane: &Lane,
    n: usize,
    from: Option<CommitId>,
    to: Option<CommitId>,
) -> Result<Vec<Changed>, Error> {
    let (Some(to), dir) = (to, &lane.fabrics[n].fabric.dir) else { return Ok(Vec::new()) };
    let from = from.filter(|it| lane.repo.has_commit(*it));
    match from == Some(to) {
        true => Ok(Vec::new()),
        false => Ok(lane.repo.changes_between(from, to, dir)?),
    }
}

fn unsent(lane: &Lane) -> Result<u64, Error> {
    let head = lane.repo.head()?;
    let (Some(remote), Some(branch), Some(tip)) =
        (&lane.settings.remote, &head.branch, head.commit)
    else {
        return Ok(0);
    };
    let theirs = lane.repo.tracking(&remote.name, branch)?;
    let waiting = propose::waiting(lane, branch, tip, theirs)?;
    Ok(lane.repo.ahead(tip, waiting.map(|it| it.1).or(theirs), COUNTED_MAX)?)
}

/// Says of each change what becomes of it.
fn account(
    lane: &Lane,
    n: usize,
    changes: &[Changed],
    report: &mut SyncReport,
) -> Result<(), Error> {
    let fabric = &lane.fabrics[n].fabric;
    let (raw, managed) = (fabric.raw(), fabric.managed());
    let below = |path: &[u8], dir: &crate::model::path::RepoPath| {
        let rest = path.strip_prefix(dir.as_str().as_bytes());
        rest.is_some_and(|it| it.starts_with(b"/"))
    };
    // Where the resources of files that went are now.
    let mut went: BTreeMap<ResourceId, RawPath> = BTreeMap::new();
    for (path, old, new) in changes {
        if let (None, Some(old), Some(_)) = (new, old, follow::manifest_path(path))
            && below(path, &managed)
            && let Ok(it) = validation::read_managed(&lane.repo.blob(*old)?, &lane.settings.limits)
        {
            let id = ResourceId::of(&fabric.name, &it.key);
            went.insert(id, RawPath::new(path.to_vec()));
        }
    }
    let mut found = Vec::new();
    for (path, old, new) in changes {
        let kind = match (old, new) {
            _ if path.ends_with(b"/README.md") => continue,
            (_, Some(_)) if below(path, &raw) => IncomingKind::Intake,
            _ if !below(path, &managed) => continue,
            (_, None) => IncomingKind::Removed,
            (old, Some(blob)) => match (resource_at(lane, n, path, *blob)?, old) {
                (None, _) => IncomingKind::Stray,
                (Some(id), _) if went.remove(&id).is_some() => IncomingKind::Moved,
                (Some(_), None) => IncomingKind::Created,
                (Some(_), Some(_)) => IncomingKind::Updated,
            },
        };
        found.push((path, kind));
    }
    let gone: BTreeSet<&RawPath> = went.values().collect();
    for (path, kind) in found {
        let path = RawPath::new(path.to_vec());
        if kind == IncomingKind::Removed && !gone.contains(&path) {
            // It is told as moved.
            continue;
        }
        report.incoming_count += 1;
        if report.incoming.len() < NAMED_MAX {
            report.incoming.push(Incoming { fabric: fabric.name.clone(), path, kind });
        }
    }
    Ok(())
}

/// The resource that a file holds: the records know it where they have followed.
fn resource_at(
    lane: &Lane,
    n: usize,
    path: &bstr::BString,
    blob: BlobId,
) -> Result<Option<ResourceId>, Error> {
    let name = &lane.fabrics[n].fabric.name;
    let Some(place) = follow::manifest_path(path) else { return Ok(None) };
    if let Some(it) = lane.store.record_at(name, &place)?.filter(|it| it.blob_id == blob) {
        return Ok(Some(it.id));
    }
    let read = validation::read_managed(&lane.repo.blob(blob)?, &lane.settings.limits);
    Ok(read.ok().map(|it| ResourceId::of(name, &it.key)))
}
