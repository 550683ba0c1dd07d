//! When to look for edits by hand: after a touch that the eye on `managed/` saw, and now and then.
//!
//! A look costs a glance at the times of every managed file. So as long as the eye stood open and saw
//! nothing, nobody but us wrote the index, and the records follow HEAD, a look would find what the
//! last one found, and is left out. What the eye cannot see is found by a look after an hour; where
//! there is no eye, by one every `intake.rescan`.

use super::Error;
use super::lane::Lane;
use crate::clock;
use crate::model::path::RepoPath;
use crate::model::rules::Mode;
use crate::worktree::watch::Wake;
use crossbeam_channel::Sender;
use std::time::{Duration, Instant};

/// What the eye cannot see waits so long at most.
const UNLOOKED_MAX: Duration = Duration::from_secs(60 * 60);
/// Whoever saves a file seldom saves only one.
const TOUCH_PAUSE: Duration = Duration::from_secs(1);
/// Looks take no more than one in so many parts of the time, however often something is touched.
const SHARE: u32 = 20;

/// The last look.
#[derive(Debug)]
pub(super) struct Last {
    at: Instant,
    took: Duration,
    touches: u64,
    index_changes: u64,
}

/// A look that begins.
pub(super) struct Begun {
    at: Instant,
    touches: u64,
    index_changes: u64,
}

/// Notes what there is before a look; what comes meanwhile belongs to the next one.
pub(super) fn begin(lane: &Lane) -> Begun {
    let (at, touches) = (clock::instant(), lane.tree.eye().touches());
    Begun { at, touches, index_changes: lane.repo.index_changes() }
}

impl Begun {
    /// The look is done.
    pub(super) fn done(self) -> Last {
        let now = clock::instant();
        let took = now.saturating_duration_since(self.at);
        let Begun { touches, index_changes, .. } = self;
        Last { at: now, took, touches, index_changes }
    }
}

/// Says whether a look may find something else than the last one did, when that found nothing.
pub(super) fn may_differ(lane: &Lane, n: usize, last: &Last) -> Result<bool, Error> {
    let eye = lane.tree.eye();
    if !eye.is_open() || eye.touches() != last.touches {
        return Ok(true);
    }
    if clock::instant().saturating_duration_since(last.at) >= UNLOOKED_MAX {
        return Ok(true);
    }
    if lane.repo.index_changes() != last.index_changes {
        return Ok(true);
    }
    let head = lane.repo.head()?.commit;
    Ok(lane.store.synced(&lane.fabrics[n].fabric.name)? != head)
}

/// Opens the eye where edits by hand are taken; says when to look where it is open again.
pub(super) fn open_eye(lane: &mut Lane, sender: &Sender<Wake>) -> Option<Instant> {
    let full = lane.fabrics.iter().filter(|it| it.rules.mode == Mode::Full);
    let dirs: Vec<RepoPath> = full.map(|it| it.fabric.managed()).collect();
    if dirs.is_empty() {
        lane.tree.eye().close();
        return None;
    }
    let open = lane.tree.eye().open(lane.repo.work_tree(), &dirs, sender);
    if open { touched(lane) } else { None }
}

/// Something was touched, or may have been: puts the next looks forward, and says when the first is.
pub(super) fn touched(lane: &mut Lane) -> Option<Instant> {
    let hands = lane.fabrics.iter_mut().map(|it| &mut it.hands);
    let looks = hands.filter_map(|it| {
        // The first look is due already.
        let (last, at) = (it.last.as_ref()?, it.look_at?);
        let soon = (clock::instant() + TOUCH_PAUSE).max(last.at + last.took * SHARE).min(at);
        it.look_at = Some(soon);
        it.look_at
    });
    looks.min()
}
