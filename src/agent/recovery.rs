//! Work that a crash left half done: finished where the branch has it, undone where it has not.
//!
//! Git is asked, not the journal: a commit that names the operation is the operation's success.
//! Recovery can itself be cut off at any point and begun again.

use super::Error;
use super::lane::Lane;
use crate::clock;
use crate::model::digest::Sha256;
use crate::model::ids::CommitId;
use crate::model::operation::{Operation, State};
use crate::model::path::RepoPath;
use crate::model::report::{Ending, FileReport};
use crate::pipeline::tracked::report_path;
use crate::store::Settlement;

/// How far back a commit of an open operation is looked for.
const COMMITS_MAX: usize = 10_000;

/// Sweeps up after a crash and brings every open operation to rest.
pub fn recover(lane: &mut Lane) -> Result<(), Error> {
    let cleared = lane.repo.clear_up()?;
    if cleared.leftovers > 0 {
        let leftovers = cleared.leftovers;
        tracing::info!(leftovers, "removed locks and half-written files of an earlier run");
    }
    if !cleared.broken.is_empty() {
        let (names, mended) = (cleared.broken.join(" "), cleared.mended);
        tracing::warn!(
            names,
            mended,
            "objects were empty or damaged, as after a power cut, and lie aside in intake/broken; those counted as mended were written again from the work tree"
        );
    }
    for n in 0..lane.fabrics.len() {
        let fabric = lane.fabrics[n].fabric.clone();
        if !lane.tree.check_directory(&fabric.dir)? {
            continue;
        }
        let swept = lane.tree.sweep_temporaries(&fabric.dir)?;
        if swept > 0 {
            tracing::info!(fabric.name = %fabric.name, swept, "removed temporary files of an earlier run");
        }
    }
    for operation in lane.store.open_operations()? {
        match operation.state {
            State::Planned | State::Applied => recover_one(lane, operation)?,
            // Only the remote is missing, and the next push sends it.
            _ => (),
        }
    }
    // Last, because a drop whose commit is safe must not come back.
    for n in 0..lane.fabrics.len() {
        let raw = lane.fabrics[n].fabric.raw();
        if lane.tree.check_directory(&raw)? {
            lane.tree.restore_claims(&raw)?;
        }
    }
    lane.repo.pay_index()?;
    Ok(())
}

fn recover_one(lane: &mut Lane, mut operation: Operation) -> Result<(), Error> {
    match commit_of(lane, &operation)? {
        Some(commit_id) => {
            tracing::info!(operation.id = %operation.id, %commit_id, "finishing an operation that was cut off");
            // The crash may have come between the branch's move and its sync.
            lane.repo.make_durable(commit_id)?;
            finish_parting(lane, &operation)?;
            let fabric = lane.fabrics.iter().find(|it| it.fabric.name == operation.fabric);
            let mut settlement = Settlement::default();
            if let Some(fabric) = fabric.map(|it| &it.fabric) {
                let raw = fabric.raw();
                // What was rejected is not in the commit: it is judged again where it lies. So is
                // what was to be taken apart, as long as it lies there whole.
                let filed = operation.taken.iter().filter(|taken| {
                    let same = |it: &&FileReport| it.path == taken.path;
                    let report = operation.files.iter().find(same);
                    taken.rest.is_none() && report.is_none_or(|it| it.ending != Ending::Rejected)
                });
                for it in filed {
                    lane.tree.remove_raw(&raw, &it.path, &it.drop_id, lane.settings.bytes_max)?;
                    lane.tree.remove_report(&report_path(fabric, &it.path))?;
                    settlement.cleared.push((operation.fabric.clone(), it.path.clone()));
                }
                lane.tree.sync_directories([&raw].into_iter())?;
            }
            super::settle::remove_files(lane, &operation)?;
            // The records follow when HEAD is compared with what they were made from.
            operation.state = lane.settled(commit_id);
            lane.store.settle(Settlement { operation: Some(&operation), ..settlement })?;
            let paths: Vec<_> =
                operation.changes.iter().map(|it| it.path.as_bytes().into()).collect();
            lane.repo.refresh_index(&paths, operation.base, commit_id)?;
            Ok(())
        }
        None => {
            tracing::info!(operation.id = %operation.id, "undoing an operation that was cut off before its commit");
            if operation.changes.is_empty() {
                // There was nothing to commit: all that was good is in git.
                finish_parting(lane, &operation)?;
            }
            put_back(lane, &operation)?;
            close(lane, operation, "it was cut off before its commit; its drops are taken again")
        }
    }
}

/// Takes the whole of a drop away that was taken apart, if the rest of it has its place already:
/// it got that only when the rest of the operation was safe.
fn finish_parting(lane: &Lane, operation: &Operation) -> Result<(), Error> {
    let Some(it) = lane.fabrics.iter().find(|it| it.fabric.name == operation.fabric) else {
        return Ok(());
    };
    let raw = it.fabric.raw();
    for it in &operation.taken {
        let Some(rest) = &it.rest else { continue };
        lane.tree.finish_replacing(&raw, &it.path, &it.drop_id, rest, lane.settings.bytes_max)?;
    }
    Ok(())
}

/// The commit that carries out an operation, if the branch has one.
pub(super) fn commit_of(lane: &Lane, operation: &Operation) -> Result<Option<CommitId>, Error> {
    let Some(tip) = lane.repo.tip(&operation.branch)? else { return Ok(None) };
    let log = lane.repo.log(tip, operation.base, COMMITS_MAX)?;
    let ours = |message: &str| super::message::trailers(message).operation == Some(operation.id);
    Ok(log.into_iter().find(|it| ours(&it.message)).map(|it| it.commit_id))
}

/// Undoes what an operation did to the work tree and gives back the error that made it necessary.
///
/// When even that fails, the journal still has the operation, and the next start tries again.
pub(super) fn undo(lane: &Lane, operation: Operation, error: Error) -> Error {
    let reason = error.chain();
    let undone = match commit_of(lane, &operation) {
        // The branch has moved after all: that is for the next start to finish.
        Ok(Some(_)) => return error,
        Ok(None) => put_back(lane, &operation).and_then(|()| close(lane, operation, &reason)),
        Err(it) => Err(it),
    };
    if let Err(it) = undone {
        tracing::warn!(error = %it.chain(), "cannot undo a turn that failed; the next start tries again");
    }
    error
}

/// Puts back what HEAD holds, wherever the work tree holds what the operation wrote.
fn put_back(lane: &Lane, operation: &Operation) -> Result<(), Error> {
    let Some(it) = lane.fabrics.iter().find(|it| it.fabric.name == operation.fabric) else {
        return Ok(());
    };
    // As it is now: somebody may have committed meanwhile, or switched to another branch.
    let head = lane.repo.head()?.commit;
    let held = lane.repo.blobs_at(head, operation.changes.iter().map(|it| it.path.as_bytes()))?;
    let mut files = Vec::new();
    let mut gone = std::collections::BTreeSet::new();
    for planned in &operation.changes {
        let (Some(digest), Ok(text)) =
            (planned.digest, std::str::from_utf8(planned.path.as_bytes()))
        else {
            // Removals happen after the commit only.
            continue;
        };
        let Ok(path) = RepoPath::parse(text) else { continue };
        let found = lane.tree.read(&path, u64::from(u32::MAX))?;
        // What a person wrote meanwhile is theirs.
        let Some(found) = found.filter(|it| Sha256::of(it) == digest) else { continue };
        match held.get(planned.path.as_bytes()) {
            Some(blob) if lane.repo.blob_id_of(&found)? == *blob => (),
            Some(blob) => files.push((path, lane.repo.blob(*blob)?.into())),
            None => {
                lane.tree.remove(&path, &it.fabric.dir)?;
                gone.extend(path.parent());
            }
        }
    }
    lane.tree.write_all(&files)?;
    lane.tree.sync_directories(gone.iter())?;
    Ok(())
}

fn close(lane: &Lane, mut operation: Operation, reason: &str) -> Result<(), Error> {
    operation.state = State::Undone { reason: reason.to_owned() };
    operation.completed_at = Some(clock::now());
    lane.store.settle(Settlement { operation: Some(&operation), ..Settlement::default() })?;
    Ok(())
}
