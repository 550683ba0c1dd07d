//! Edits by hand in `managed/` that nobody has committed: validated and committed as what they are,
//! or told and left.
//!
//! An edit is taken when it stood still for a while and nobody has staged it; what somebody has
//! staged is theirs to commit. The work tree is not written to: what is there is what is committed.

use super::edits::{self, Edits};
use super::glance::{self, Last};
use super::lane::{FabricLane, Lane};
use super::{Error, follow, message};
use crate::clock;
use crate::git::Edited;
use crate::model::account::{HandEdit, HandEditState, Hold, HoldKind};
use crate::model::ids::BlobId;
use crate::model::key::{Key, ResourceId};
use crate::model::operation::{Operation, Purpose, Trigger};
use crate::model::path::{RawPath, RepoPath};
use crate::model::rules::{Direction, Mode};
use bstr::BString;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whose name stands in the commit: nobody asks who is at the editor.
const SOMEBODY: &str = "somebody, by hand";
/// So many files are named where they wait for a person.
const NAMED_MAX: usize = 20;
/// An edit that waits is not looked at more often.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// What is known of the edits by hand in one `managed/`.
#[derive(Debug, Default)]
pub struct Hands {
    seen: BTreeMap<BString, Seen>,
    pub(super) look_at: Option<Instant>,
    pub(super) last: Option<Last>,
}

#[derive(Debug, Clone)]
struct Seen {
    work: Option<BlobId>,
    since: Instant,
    state: HandEditState,
    why: Option<String>,
}

impl Hands {
    /// The edits, as they were last seen.
    pub(super) fn seen(&self) -> impl Iterator<Item = HandEdit> + '_ {
        self.seen.iter().map(|(path, it)| HandEdit {
            path: RawPath::new(path.to_vec()),
            state: it.state,
            why: it.why.clone(),
        })
    }
}

/// An edit that may be committed.
struct Taken {
    path: RepoPath,
    bytes: Option<Arc<[u8]>>,
    id: Option<ResourceId>,
    /// The resource, where it is known.
    key: Option<Key>,
}

/// Takes what stood still, if it is time to look and a look may find something.
pub(super) fn take_when_due(lane: &mut Lane, n: usize) -> Result<Option<Operation>, Error> {
    let now = clock::instant();
    let FabricLane { hands, rules, .. } = &lane.fabrics[n];
    // Nobody waits for it, and the drops of a flood do.
    if hands.look_at.is_some_and(|at| now < at) || rules.mode != Mode::Full || lane.flooded() {
        return Ok(None);
    }
    if let Some(last) = hands.last.as_ref().filter(|_| hands.seen.is_empty())
        && !glance::may_differ(lane, n, last)?
    {
        lane.fabrics[n].hands.look_at = Some(now + lane.settings.rescan);
        return Ok(None);
    }
    take(lane, n, lane.settings.hand_edits_quiet)
}

/// Takes what stood still for `quiet`.
pub(super) fn take(lane: &mut Lane, n: usize, quiet: Duration) -> Result<Option<Operation>, Error> {
    let now = clock::instant();
    let head = lane.head_to_commit_on()?.commit;
    // Somebody's git is at work, and what is half done is no edit.
    if lane.fabrics[n].rules.mode < Mode::Full || lane.repo.index_is_locked() {
        return Ok(None);
    }
    lane.repo.pay_index()?;
    follow::records_follow_head(lane, n, head)?;
    let look = glance::begin(lane);
    let edited = edited(lane, n)?;
    let look = look.done();
    let old = std::mem::take(&mut lane.fabrics[n].hands.seen);
    let mut seen = BTreeMap::new();
    let mut taken = Vec::new();
    for it in edited {
        let before = old.get(&it.path).filter(|old| old.work == it.work);
        let since = before.map_or(now, |it| it.since);
        let (state, why) = match it.staged {
            true => (HandEditState::Staged, None),
            false if now.saturating_duration_since(since) < quiet => (HandEditState::Waiting, None),
            false => match judged(lane, n, &it)? {
                Ok(it) => {
                    taken.push(it);
                    (HandEditState::Waiting, None)
                }
                Err(why) => (HandEditState::Left, Some(why)),
            },
        };
        let news = why.is_some() && before.and_then(|it| it.why.as_ref()) != why.as_ref();
        if news {
            let (path, why) = (crate::model::path::escape(&it.path), why.as_deref());
            tracing::warn!(path, why, "an edit by hand is left as it is");
        }
        seen.insert(it.path, Seen { work: it.work, since, state, why });
    }
    let waits = seen.values().filter(|it| it.state == HandEditState::Waiting).map(|it| it.since);
    let first = waits.min().map(|since| (since + quiet).max(now + PAUSE_MIN));
    let hands = &mut lane.fabrics[n].hands;
    hands.look_at =
        Some(first.unwrap_or(now + lane.settings.rescan).min(now + lane.settings.rescan));
    hands.seen = seen;
    hands.last = Some(look);
    if let Some(picked) = &lane.picked {
        taken.retain(|it| it.key.as_ref().is_some_and(|key| picked.takes(key)));
    }
    let taken = part_twins(lane, n, taken)?;
    // Whoever switches branches meanwhile edits nothing by hand.
    if hold_back(lane, n, &taken) || taken.is_empty() || lane.repo.index_is_locked() {
        return Ok(None);
    }
    commit(lane, n, taken, SOMEBODY)
}

fn edited(lane: &Lane, n: usize) -> Result<Vec<Edited>, Error> {
    let head = lane.repo.head()?.commit;
    let mut edited = lane.repo.edited_below(head, &lane.fabrics[n].fabric.managed())?;
    edited.retain(|it| !it.path.ends_with(b"/README.md"));
    Ok(edited)
}

/// Says what may be committed, or why it is left.
fn judged(lane: &Lane, n: usize, it: &Edited) -> Result<Result<Taken, String>, Error> {
    let Some(path) = follow::manifest_path(&it.path) else {
        return Ok(Err("it is no manifest; move it elsewhere".to_owned()));
    };
    let name = &lane.fabrics[n].fabric.name;
    if it.work.is_none() {
        let record = lane.store.record_at(name, &path)?;
        return Ok(match record.as_ref().map(|it| closed(lane, n, &it.key)) {
            Some(Some(why)) => Err(why),
            _ => Ok(Taken { path, bytes: None, id: None, key: record.map(|it| it.key) }),
        });
    }
    let Some(bytes) = lane.tree.read(&path, lane.settings.bytes_max)? else {
        return Ok(Err("it went away while it was looked at".to_owned()));
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return Ok(Err("it is no text in UTF-8".to_owned()));
    };
    let document = match edits::judge(lane, n, text) {
        Ok((document, _)) => document,
        Err(error @ (Error::Refused { .. } | Error::Invalid { .. })) => {
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    if let Some(why) = closed(lane, n, &document.key) {
        return Ok(Err(why));
    }
    let id = Some(ResourceId::of(name, &document.key));
    Ok(Ok(Taken { path, bytes: Some(Arc::from(bytes)), id, key: Some(document.key) }))
}

/// Why hand edits of a resource are not taken.
fn closed(lane: &Lane, n: usize, key: &Key) -> Option<String> {
    match lane.fabrics[n].rules.direction_of(key) {
        Direction::Bidirectional | Direction::GitToRecord => None,
        direction @ (Direction::RecordToGit | Direction::Disabled) => Some(format!(
            "{key} is not changed by hand (its direction is {direction}); undo the edit: git checkout"
        )),
    }
}

/// Leaves second files of one resource out: which of them is meant, a person has to say.
fn part_twins(lane: &mut Lane, n: usize, taken: Vec<Taken>) -> Result<Vec<Taken>, Error> {
    let gone: BTreeSet<&RepoPath> =
        taken.iter().filter(|it| it.bytes.is_none()).map(|it| &it.path).collect();
    let mut homes: BTreeMap<ResourceId, RepoPath> = BTreeMap::new();
    let mut twins = BTreeMap::new();
    for it in &taken {
        let Some(id) = it.id else { continue };
        let record = lane.store.record(&id)?.map(|it| it.path);
        let elsewhere = record.filter(|at| *at != it.path && !gone.contains(at));
        let rival = elsewhere.or_else(|| homes.get(&id).cloned());
        match rival {
            Some(rival) => {
                twins.insert(it.path.clone(), rival);
            }
            None => {
                homes.insert(id, it.path.clone());
            }
        }
    }
    let kept: Vec<Taken> = taken.into_iter().filter(|it| !twins.contains_key(&it.path)).collect();
    for (path, rival) in twins {
        let why = format!("{rival} holds the same resource; remove one of the two");
        if let Some(seen) = lane.fabrics[n].hands.seen.get_mut(path.as_str().as_bytes()) {
            (seen.state, seen.why) = (HandEditState::Left, Some(why));
        }
    }
    Ok(kept)
}

/// Looks whether so many files are gone that a person has to say whether it is meant: for a command
/// that knows nothing of what an earlier one saw.
pub(super) fn look_for_removals(lane: &mut Lane, n: usize) -> Result<(), Error> {
    if lane.fabrics[n].rules.mode < Mode::Full || lane.repo.index_is_locked() {
        return Ok(());
    }
    let mut taken = Vec::new();
    for it in edited(lane, n)?.iter().filter(|it| !it.staged) {
        taken.extend(judged(lane, n, it)?.ok());
    }
    hold_back(lane, n, &taken);
    Ok(())
}

/// Holds where so many files are gone at once that it may be a mistake.
fn hold_back(lane: &mut Lane, n: usize, taken: &[Taken]) -> bool {
    let name = lane.fabrics[n].fabric.name.clone();
    let limits = lane.fabrics[n].rules.removals;
    let moved: BTreeSet<ResourceId> = taken.iter().filter_map(|it| it.id).collect();
    let gone = taken.iter().filter(|it| it.bytes.is_none()).filter(|it| {
        let record = lane.store.record_at(&name, &it.path).ok().flatten();
        record.is_some_and(|it| !moved.contains(&it.id))
    });
    let paths: Vec<RepoPath> = gone.map(|it| it.path.clone()).collect();
    let (removed, of) = (paths.len() as u64, lane.store.records_count(&name));
    let fabric = &mut lane.fabrics[n];
    if !limits.exceeded_by(removed, of) {
        if fabric.hold.as_ref().is_some_and(|it| it.kind == HoldKind::RemovedByHand) {
            fabric.hold = None;
        }
        return false;
    }
    let reason = format!(
        "{removed} of {of} managed files of {name} are gone from the work tree; if that is meant: \
         git-intake release {name}, if not: git-intake release {name} --restore"
    );
    if fabric.hold.as_ref().is_none_or(|it| it.reason != reason) {
        tracing::warn!(reason, "a fabric is held");
    }
    let paths = paths.into_iter().take(NAMED_MAX).collect();
    let kind = HoldKind::RemovedByHand;
    fabric.hold = Some(Hold { fabric: name, kind, removed, of, paths, reason });
    true
}

fn commit(
    lane: &mut Lane,
    n: usize,
    taken: Vec<Taken>,
    actor: &str,
) -> Result<Option<Operation>, Error> {
    let what = match &taken[..] {
        [one] => one.path.file_name().to_owned(),
        more => format!("{} files", more.len()),
    };
    let paths: Vec<RepoPath> = taken.iter().map(|it| it.path.clone()).collect();
    let edits = Edits {
        files: taken.into_iter().map(|it| (it.path, it.bytes)).collect(),
        purpose: Purpose::GitToRecord,
        trigger: Trigger::Schedule,
        actor: actor.to_owned(),
        subject: format!("take over edits by hand: {what}"),
        trailers: vec![message::BY_HAND.to_owned()],
        in_place: true,
    };
    let operation = edits::carry_out(lane, n, edits)?;
    for path in paths {
        lane.fabrics[n].hands.seen.remove(path.as_str().as_bytes());
    }
    Ok(operation)
}

/// Commits that managed files are gone from the work tree: a person has said that it is meant.
pub(super) fn commit_removals(
    lane: &mut Lane,
    n: usize,
    actor: &str,
) -> Result<Option<Operation>, Error> {
    let gone = edited(lane, n)?.into_iter().filter(|it| it.work.is_none() && !it.staged);
    let gone = gone.filter_map(|it| follow::manifest_path(&it.path));
    let taken: Vec<Taken> =
        gone.map(|path| Taken { path, bytes: None, id: None, key: None }).collect();
    match taken.is_empty() {
        true => Ok(None),
        false => commit(lane, n, taken, actor),
    }
}

/// Puts managed files back that are gone from the work tree.
pub(super) fn restore(lane: &mut Lane, n: usize) -> Result<(), Error> {
    let mut files: Vec<(RepoPath, Arc<[u8]>)> = Vec::new();
    for it in edited(lane, n)?.into_iter().filter(|it| it.work.is_none() && !it.staged) {
        if let (Some(path), Some(blob)) = (follow::manifest_path(&it.path), it.head) {
            files.push((path, Arc::from(lane.repo.blob(blob)?)));
        }
    }
    lane.tree.write_all(&files)?;
    Ok(())
}
