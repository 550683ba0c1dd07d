//! What waits for a person goes on, or is brought back.

use super::edits::{self, Edits};
use super::follow::{self, Removals};
use super::history::History;
use super::lane::Lane;
use super::{Error, fabrics, hands};
use crate::git::Changed;
use crate::model::account::{Hold, HoldKind, Released};
use crate::model::fabric::FabricName;
use crate::model::ids::CommitId;
use crate::model::key::ResourceId;
use crate::model::operation::{Operation, Purpose, Trigger};
use crate::model::path::RepoPath;
use crate::pipeline::validation;
use std::collections::BTreeSet;
use std::sync::Arc;

/// So many removed files are named where they wait for a person.
const NAMED_MAX: usize = 20;

/// Releases fabrics that are held: the one named, or all. `restore` brings back what is gone.
pub(super) fn release(
    lane: &mut Lane,
    name: Option<&FabricName>,
    restore: bool,
    actor: &str,
    trigger: Trigger,
) -> Result<Vec<Released>, Error> {
    let named = name.map(|it| fabrics::place(lane, it)).transpose()?;
    let mut done = Vec::new();
    for n in 0..lane.fabrics.len() {
        if named.is_some_and(|it| it != n) {
            continue;
        }
        if lane.fabrics[n].hold.is_none() {
            hands::look_for_removals(lane, n)?;
        }
        if let Some(hold) = lane.fabrics[n].hold.clone() {
            done.push(one(lane, n, hold, restore, (actor, trigger))?);
        }
    }
    Ok(done)
}

fn one(
    lane: &mut Lane,
    n: usize,
    hold: Hold,
    restore: bool,
    (actor, trigger): (&str, Trigger),
) -> Result<Released, Error> {
    let head = lane.head_to_commit_on()?.commit;
    // Nothing may be written to a fabric that is held; whatever fails here holds it again.
    lane.fabrics[n].hold = None;
    let operation = match (hold.kind, restore) {
        (HoldKind::RemovedInGit, false) => {
            follow::follow(lane, n, head, Removals::Accepted)?;
            None
        }
        (HoldKind::RemovedInGit, true) => bring_back(lane, n, actor, trigger)?,
        (HoldKind::RemovedByHand, false) => hands::commit_removals(lane, n, actor)?,
        (HoldKind::RemovedByHand, true) => {
            hands::restore(lane, n)?;
            None
        }
    };
    let commit_id = operation.as_ref().and_then(|it| it.state.commit_id());
    Ok(Released { hold, restored: restore, operation: operation.map(|it| it.id), commit_id })
}

/// Writes the files of all records that HEAD lacks, by a commit.
fn bring_back(
    lane: &mut Lane,
    n: usize,
    actor: &str,
    trigger: Trigger,
) -> Result<Option<Operation>, Error> {
    let head = lane.head_to_commit_on()?.commit;
    let name = lane.fabrics[n].fabric.name.clone();
    let records: Result<Vec<_>, _> = lane.store.records(&name).collect();
    let records = records?;
    let held = lane.repo.blobs_at(head, records.iter().map(|it| it.path.as_str().as_bytes()))?;
    let mut files: Vec<(RepoPath, Option<Arc<[u8]>>)> = Vec::new();
    for it in &records {
        if !held.contains_key(it.path.as_str().as_bytes()) {
            files.push((it.path.clone(), Some(Arc::from(lane.repo.blob(it.blob_id)?))));
        }
    }
    let edits = Edits {
        subject: format!("bring back {} resources", files.len()),
        files,
        purpose: Purpose::Rollback,
        trigger,
        actor: actor.to_owned(),
        trailers: Vec::new(),
        in_place: false,
    };
    edits::carry_out(lane, n, edits)
}

/// Holds where others removed so much at once that it may be a mistake.
pub(super) fn guard(
    lane: &mut Lane,
    n: usize,
    head: CommitId,
    changes: &[Changed],
    history: Option<&History>,
) -> Result<(), Error> {
    let fabric = lane.fabrics[n].fabric.clone();
    let limits = lane.fabrics[n].rules.removals;
    let mut removed = Vec::new();
    for (path, _, new) in changes {
        let by_others = history.is_none_or(|it| it.unseen(path.as_ref()).is_some());
        if new.is_none()
            && by_others
            && let Some(path) = follow::manifest_path(path)
            && let Some(record) = lane.store.record_at(&fabric.name, &path)?
        {
            removed.push(record);
        }
    }
    let of = || lane.store.records_count(&fabric.name);
    if removed.len() as u64 <= limits.files_max || !limits.exceeded_by(removed.len() as u64, of()) {
        return Ok(());
    }
    // What lies elsewhere now was moved.
    let mut moved = BTreeSet::new();
    for (path, _, new) in changes {
        if let (Some(_), Some(blob)) = (follow::manifest_path(path), new)
            && let Ok(it) = validation::read_managed(&lane.repo.blob(*blob)?, &lane.settings.limits)
        {
            moved.insert(ResourceId::of(&fabric.name, &it.key));
        }
    }
    removed.retain(|it| !moved.contains(&it.id));
    let (count, of) = (removed.len() as u64, of());
    if !limits.exceeded_by(count, of) {
        return Ok(());
    }
    let name = &fabric.name;
    let reason = format!(
        "{count} of {of} resources of {name} are gone with commit {}; if that is meant: git-intake \
         release {name}, if not: git-intake release {name} --restore",
        head.short()
    );
    let paths = removed.into_iter().take(NAMED_MAX).map(|it| it.path).collect();
    let kind = HoldKind::RemovedInGit;
    let fabric = fabric.name;
    lane.fabrics[n].hold =
        Some(Hold { fabric, kind, removed: count, of, paths, reason: reason.clone() });
    Err(Error::Held { reason })
}
