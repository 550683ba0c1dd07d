//! The other way: what came in from git meets the records, and our work meets theirs.

use super::advance::{follow, follow_on, way_to};
use super::lane::Lane;
use super::{Error, conflicts, meet, propose, settle};
use crate::clock;
use crate::git::{FetchOutcome, Meeting, Overlap, PushOutcome};
use crate::model::ids::{BlobId, CommitId};
use crate::model::operation::State;
use crate::model::path::{RawPath, escape};
use crate::store::Settlement;
use bstr::BString;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How an attempt to bring our commits to the remote ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// There was nothing to send.
    Nothing,
    /// The remote has this commit.
    Pushed(CommitId),
    /// The remote has this commit on a branch of its own, for a person to take over.
    Proposed {
        /// The commit.
        commit_id: CommitId,
        /// The branch, by its full name.
        branch: String,
    },
    /// The remote refuses it, in its words.
    Refused(String),
}

/// How often a push is made again on top of what others pushed meanwhile.
const REPLAYS_MAX: usize = 8;

/// Sends what the remote lacks. Where others were first, their work is fetched and ours is made
/// again on top of it: by field where both changed one resource. What nobody can merge waits for a
/// person (`agent/conflicts.rs`).
///
/// People's index follows our commits while a remote takes its time, at the latest when this returns.
pub fn deliver(lane: &mut Lane) -> Result<Sent, Error> {
    let sent = send(lane);
    // Where there was nothing to send after all.
    lane.repo.hang_up();
    settle::tidy(lane);
    sent
}

fn send(lane: &mut Lane) -> Result<Sent, Error> {
    let Some(remote) = lane.sends_to().cloned() else { return Ok(Sent::Nothing) };
    // Not with what others pushed last, which may be out of reach.
    follow_on(lane)?;
    let mut locked = None;
    for _ in 0..REPLAYS_MAX {
        let standing = lane.head_to_commit_on()?;
        let Some(tip) = standing.commit else { return Ok(Sent::Nothing) };
        let theirs = lane.repo.tracking(&remote.name, &standing.branch)?;
        if theirs == Some(tip) {
            note_pushed(lane, tip)?;
            return Ok(Sent::Nothing);
        }
        if let Some(pattern) = lane.settings.review.clone() {
            let sent = propose::propose(lane, &remote, &pattern, &standing, theirs, tip)?;
            if !matches!(sent, Sent::Refused(_)) {
                note_pushed(lane, tip)?;
            }
            return Ok(sent);
        }
        match lane.repo.push(&remote, &standing.branch, tip, &mut || settle::tidy(lane))? {
            PushOutcome::Pushed => {
                note_pushed(lane, tip)?;
                return Ok(Sent::Pushed(tip));
            }
            PushOutcome::Refused { reason } => return Ok(Sent::Refused(reason)),
            PushOutcome::Behind => locked = None,
            // Who is at the branch may be done by then; who died there has left a lock for good.
            PushOutcome::Locked { reason } => locked = Some(reason),
        }
        take_in(lane)?;
    }
    locked.map(Sent::Refused).ok_or(Error::HeadMoved)
}

/// Fetches what others pushed and puts our own work on top of it.
pub fn take_in(lane: &mut Lane) -> Result<(), Error> {
    let Some(remote) = lane.sends_to().cloned() else { return Ok(()) };
    follow_on(lane)?;
    let standing = lane.head_to_commit_on()?;
    let FetchOutcome { tip: theirs } = lane.repo.fetch(&remote, &standing.branch)?;
    let Some(theirs) = theirs else { return Ok(()) };
    let Some(ours) = standing.commit else {
        return follow(lane, &standing.branch, None, theirs);
    };
    if lane.repo.is_ancestor(theirs, ours)? {
        return Ok(());
    }
    if lane.repo.is_ancestor(ours, theirs)? {
        return follow(lane, &standing.branch, Some(ours), theirs);
    }
    let side = meet::Theirs { tip: theirs, base: lane.repo.merge_base(ours, theirs)? };
    let carry = lane.carry(&standing.branch);
    let meeting = &mut |it: &Meeting<'_>| meet::meet(lane, side, lane.strategy, it);
    let replay = lane.repo.replay(ours, theirs, &carry, meeting)?;
    refuse_foreign_overlaps(lane, &replay.overlaps)?;
    if !replay.overlaps.is_empty() {
        // Nothing is handed back while the branch cannot move.
        way_to(lane, Some(ours), replay.tip)?;
    }
    // First, so that a crash behind the branch's move cannot lose them; twice is the same as once.
    for it in &joined(&replay.overlaps) {
        keep_overlap(lane, it)?;
    }
    follow(lane, &standing.branch, Some(ours), replay.tip)?;
    tracing::info!(
        commits = replay.mapping.len(),
        overlaps = replay.overlaps.len(),
        "our commits and others' are one history"
    );
    Ok(())
}

/// Work of a person outside of what we file must not give way in silence.
fn refuse_foreign_overlaps(lane: &Lane, overlaps: &[Overlap]) -> Result<(), Error> {
    let ours = |it: &&Overlap| {
        let place = meet::place_of(lane, &it.path);
        place.is_some_and(|(n, path)| {
            let fabric = &lane.fabrics[n].fabric;
            [fabric.raw(), fabric.managed(), fabric.unmanaged()].iter().any(|it| path.is_within(it))
        })
    };
    match overlaps.iter().find(|it| !ours(it)) {
        None => Ok(()),
        Some(it) => Err(Error::Held {
            reason: format!(
                "others pushed another {} than a commit here has; pull by hand (git pull --rebase), and the \
                 agent goes on by itself",
                escape(&it.path)
            ),
        }),
    }
}

/// What both changed and nobody can merge: a resource is kept as a conflict, a leftover gets a name of
/// its own with the next turn. The README files are no loss.
fn keep_overlap(lane: &mut Lane, it: &Overlap) -> Result<(), Error> {
    let Some((n, path)) = meet::place_of(lane, &it.path) else { return Ok(()) };
    let fabric = lane.fabrics[n].fabric.clone();
    if path.is_within(&fabric.managed()) {
        let read = |id: Option<BlobId>| id.map(|it| lane.repo.blob(it)).transpose();
        let mut contents =
            conflicts::Contents::of(read(it.base)?, read(it.ours)?, read(it.theirs)?);
        contents.led_to = Some(it.commit);
        return conflicts::keep(lane, n, &path, contents);
    }
    let Some(ours) = it.ours else { return Ok(()) };
    let name = RawPath::new(path.file_name()).safe_name();
    if path.is_within(&fabric.unmanaged()) && name != "README.md" {
        let place = fabric.raw().join(&format!("{}-{name}", ours.short()));
        let place = place.map_err(|it| Error::NotFound { what: it.to_string() })?;
        lane.tree.write_all(&[(place, Arc::from(lane.repo.blob(ours)?))])?;
    }
    Ok(())
}

/// One overlap a path: what the first of our commits began with, and what the last made of it.
fn joined(overlaps: &[Overlap]) -> Vec<Overlap> {
    let mut paths: BTreeMap<&BString, Overlap> = BTreeMap::new();
    for it in overlaps {
        match paths.get_mut(&it.path) {
            Some(first) => {
                (first.ours, first.theirs, first.commit) = (it.ours, it.theirs, it.commit);
            }
            None => {
                paths.insert(&it.path, it.clone());
            }
        }
    }
    paths.into_values().collect()
}

/// The remote has `tip`: so do the operations that are part of it.
fn note_pushed(lane: &Lane, tip: CommitId) -> Result<(), Error> {
    for id in lane.store.open_ids()? {
        let Some(mut operation) = lane.store.headline(&id)? else { continue };
        let State::Committed { commit_id, .. } = operation.state else { continue };
        let there = match lane.repo.is_ancestor(commit_id, tip)? {
            true => Some(commit_id),
            // It was made again on top of others' work, and a crash kept the journal from hearing.
            false => match lane.store.operation(&id)? {
                Some(it) => super::recovery::commit_of(lane, &it)?,
                None => None,
            },
        };
        if let Some(commit_id) = there {
            operation.state = State::Pushed { commit_id };
            operation.completed_at = Some(clock::now());
            lane.store.settle(Settlement { moved: Some(&operation), ..Settlement::default() })?;
        }
    }
    Ok(())
}
