//! What the commits did since the records were last brought up to date: who brought which content,
//! which drop it came from, and what did not come through the agent.

use super::lane::Lane;
use super::{Error, message};
use crate::git::Log;
use crate::model::ids::CommitId;
use crate::model::path::RepoPath;
use crate::model::record::{MODIFICATIONS_MAX, Modification, Source};
use bstr::{BStr, BString, ByteSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many commits are read for where files came from.
pub(super) const COMMITS_MAX: usize = 100_000;
/// How many commits are compared with their parents where the records are made from nothing: what
/// is further back is not known any more.
const COMPARED_MAX: usize = 2_000;

/// What some commits did below one `managed/`.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Where files came from, by the trailers of our commits; the newest word counts.
    pub sources: BTreeMap<RepoPath, (Source, CommitId)>,
    /// The newest commit that changed a path.
    newest: BTreeMap<BString, CommitId>,
    /// What did not come through the agent, the newest first.
    foreign: BTreeMap<BString, Vec<Modification>>,
    /// Paths whose newest change did not come through the agent.
    foreign_last: BTreeMap<BString, Arc<Modification>>,
    /// Commits of the agent's own that took over edits by hand.
    by_hand: BTreeSet<CommitId>,
}

impl History {
    /// The commit that brought what is at `path` now, as far as these commits tell.
    pub fn commit_of(&self, path: &BStr) -> Option<CommitId> {
        self.newest.get(path).copied()
    }

    /// The change of `path` that did not come through the agent, if that was the last one.
    pub fn foreign(&self, path: &BStr) -> Option<&Modification> {
        self.foreign_last.get(path).map(Arc::as_ref)
    }

    /// The same for what nobody has looked at yet: edits by hand were, before they were committed.
    pub fn unseen(&self, path: &BStr) -> Option<&Modification> {
        self.foreign(path).filter(|it| !self.by_hand.contains(&it.commit_id))
    }

    /// All such changes of `path`, the newest first.
    pub fn modifications(&self, path: &BStr) -> &[Modification] {
        self.foreign.get(path).map_or(&[], Vec::as_slice)
    }

    /// Every path that was changed.
    pub fn paths(&self) -> impl Iterator<Item = (&BString, CommitId)> {
        self.newest.iter().map(|(path, it)| (path, *it))
    }
}

/// Reads the commits that `head` has and `from` lacks; without `from` the newest of all.
pub(super) fn read(
    lane: &Lane,
    managed: &RepoPath,
    head: CommitId,
    from: Option<CommitId>,
) -> Result<History, Error> {
    let mut history = History::default();
    let mut merges = Vec::new();
    let mut compared = 0;
    for commit in lane.repo.log(head, from, COMMITS_MAX)? {
        let trailers = message::trailers(&commit.message);
        let ours = trailers.operation.is_some() && !trailers.by_hand;
        let told = ours && !trailers.sources.is_empty();
        if trailers.operation.is_some() && trailers.by_hand {
            history.by_hand.insert(commit.commit_id);
        }
        for (path, source) in trailers.sources {
            let key = BString::from(path.as_str());
            history.newest.entry(key).or_insert(commit.commit_id);
            history.sources.entry(path).or_insert((source, commit.commit_id));
        }
        if commit.merge {
            merges.push(commit);
            continue;
        }
        // What our trailers tell need not be looked for in a long history.
        if from.is_none() && (told || compared >= COMPARED_MAX) {
            continue;
        }
        compared += 1;
        note(lane, managed, &mut history, &commit, ours)?;
    }
    // A merge brought what none of the commits that it joins did.
    for commit in merges.iter().take(COMPARED_MAX) {
        let mut own = History::default();
        note(lane, managed, &mut own, commit, false)?;
        for (path, commit_id) in own.newest {
            if !history.newest.contains_key(&path) {
                let change = own.foreign.remove(&path).unwrap_or_default();
                let first = change.first().map(|it| (path.clone(), Arc::new(it.clone())));
                history.foreign_last.extend(first);
                history.foreign.insert(path.clone(), change);
                history.newest.insert(path, commit_id);
            }
        }
    }
    Ok(history)
}

fn note(
    lane: &Lane,
    managed: &RepoPath,
    history: &mut History,
    commit: &Log,
    ours: bool,
) -> Result<(), Error> {
    // Of a shallow clone the parent may not be here.
    let parent = commit.parent.filter(|it| lane.repo.has_commit(*it));
    // One for all that a commit changed: it may be a hundred thousand files.
    let change = Arc::new(modification(commit));
    for (path, old, _) in lane.repo.changes_between(parent, commit.commit_id, managed)? {
        let first = !history.newest.contains_key(&path);
        if first {
            history.newest.insert(path.clone(), commit.commit_id);
        }
        if ours {
            continue;
        }
        // Who made a file has not modified it.
        if old.is_some() {
            let all = history.foreign.entry(path.clone()).or_default();
            if all.len() < MODIFICATIONS_MAX {
                all.push(Modification::clone(&change));
            }
        }
        if first {
            history.foreign_last.insert(path, change.clone());
        }
    }
    Ok(())
}

fn modification(commit: &Log) -> Modification {
    let subject = commit.message.lines().next().unwrap_or_default();
    Modification {
        commit_id: commit.commit_id,
        author: crate::model::path::escape(commit.author.as_bytes()),
        at: jiff::Timestamp::from_second(commit.at).unwrap_or_default(),
        subject: crate::model::path::escape(subject.as_bytes()).chars().take(200).collect(),
    }
}

/// The path as bytes, for look-ups.
pub(super) fn bytes(path: &RepoPath) -> &BStr {
    path.as_str().as_bytes().as_bstr()
}
