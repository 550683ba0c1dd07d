//! The other way: what came in from git meets the records, and our work meets theirs.

use super::advance::{follow, follow_on};
use super::lane::Lane;
use super::{Error, conflicts, meet, message, named, settle};
use crate::clock;
use crate::git::{FetchOutcome, Overlap, PushOutcome};
use crate::model::digest::Sha256;
use crate::model::document::Document;
use crate::model::fabric::FabricName;
use crate::model::ids::{BlobId, CommitId, OperationId};
use crate::model::key::{Key, ResourceId};
use crate::model::operation::State;
use crate::model::path::{RawPath, RepoPath, escape};
use crate::model::record::{Record, Source};
use crate::pipeline::validation;
use crate::store::Settlement;
use bstr::BString;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How many commits are read for where files came from.
const COMMITS_MAX: usize = 100_000;

/// Makes the record of a document as it stands in the tree.
pub(super) fn record_of(
    fabric: FabricName,
    document: &Document,
    path: RepoPath,
    blob_id: BlobId,
    commit_id: Option<CommitId>,
    source: Option<Source>,
) -> Record {
    Record {
        id: ResourceId::of(&fabric, &document.key),
        fabric,
        key: document.key.clone(),
        api_version: document.api_version.clone(),
        path,
        blob_id,
        sha256: Sha256::of(document.text.as_bytes()),
        content: document.content,
        commit_id,
        labels: document.labels.clone(),
        annotations: document.annotations.clone(),
        source,
    }
}

/// Brings a fabric's records up to `head`: only what changed since they were made is read.
pub fn records_follow_head(lane: &Lane, n: usize, head: Option<CommitId>) -> Result<(), Error> {
    let fabric = &lane.fabrics[n].fabric;
    let Some(head) = head else { return Ok(()) };
    let synced = lane.store.synced(&fabric.name)?;
    if synced == Some(head) {
        return Ok(());
    }
    // A history that was rewritten, or a store that forgot: everything again.
    let from = match synced {
        Some(it) if lane.repo.is_ancestor(it, head)? => Some(it),
        _ => {
            lane.store.forget_records(&fabric.name)?;
            None
        }
    };
    let sources = sources(lane, head, from)?;
    let changes = match from {
        Some(_) => lane.repo.changes_between(from, head, &fabric.managed())?,
        None => {
            let files = lane.repo.files_below(head, &fabric.managed())?;
            files.into_iter().map(|(path, id)| (path, None, Some(id))).collect()
        }
    };
    let mut settlement =
        Settlement { synced: Some((fabric.name.clone(), head)), ..Settlement::default() };
    let mut kept = BTreeSet::new();
    let mut gone = Vec::new();
    for (path, _, new) in changes {
        let Some(path) = manifest_path(&path) else { continue };
        let old = lane.store.record_at(&fabric.name, &path)?;
        let record = match new {
            Some(blob) => adopt(lane, n, &path, blob, head, &sources)?,
            None => None,
        };
        let record = match record {
            // Neither an edit in place nor another place changes where a resource came from.
            Some(it) if it.source.is_none() => {
                let known = lane.store.record(&it.id)?;
                Some(Record { source: known.and_then(|it| it.source), ..it })
            }
            other => other,
        };
        if let Some(old) = old.filter(|old| record.as_ref().is_none_or(|it| it.id != old.id)) {
            settlement.gone.push(old.id);
            gone.push((old.id, old.key));
        }
        if let Some(record) = record {
            kept.insert(record.id);
            settlement.records.push(record);
        }
    }
    settlement.gone.retain(|id| !kept.contains(id));
    if from.is_none() {
        sources_from_archive(lane, n, &mut settlement.records)?;
        settlement.conflicts = conflicts::remembered(lane, n)?;
        settlement.rejects = conflicts::kept_back(lane, &settlement.conflicts)?;
    }
    gone.retain(|it| !kept.contains(&it.0));
    lane.store.settle(settlement)?;
    let gone: Vec<Key> = gone.into_iter().map(|it| it.1).collect();
    named::tell_of_gone(lane, n, &gone)?;
    conflicts::close_settled(lane)?;
    conflicts::sweep(lane, n)
}

fn adopt(
    lane: &Lane,
    n: usize,
    path: &RepoPath,
    blob: BlobId,
    head: CommitId,
    sources: &BTreeMap<RepoPath, (Source, CommitId)>,
) -> Result<Option<Record>, Error> {
    let fabric = &lane.fabrics[n].fabric;
    let bytes = lane.repo.blob(blob)?;
    let document = match validation::read_managed(&bytes, &lane.settings.limits) {
        Ok(it) => it,
        Err(problems) => {
            let why = problems.first().map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%path, why, "a file in managed/ is no resource; it is left as it is, without a record");
            return Ok(None);
        }
    };
    let id = ResourceId::of(&fabric.name, &document.key);
    if let Some(twin) = lane.store.record(&id)?.filter(|it| it.path != *path)
        && lane.repo.blob_at(Some(head), twin.path.as_str().as_bytes())? == Some(twin.blob_id)
    {
        tracing::warn!(%path, twin = %twin.path, "two files hold one resource; the record stays with the first");
        return Ok(None);
    }
    let (source, commit_id) = match sources.get(path) {
        Some((source, commit_id)) => (Some(source.clone()), Some(*commit_id)),
        None => (None, Some(head)),
    };
    let mut record =
        record_of(fabric.name.clone(), &document, path.clone(), blob, commit_id, source);
    record.sha256 = Sha256::of(&bytes);
    Ok(Some(record))
}

/// Where files came from, by the trailers of our commits; the newest word counts.
fn sources(
    lane: &Lane,
    head: CommitId,
    from: Option<CommitId>,
) -> Result<BTreeMap<RepoPath, (Source, CommitId)>, Error> {
    let mut found = BTreeMap::new();
    for commit in lane.repo.log(head, from, COMMITS_MAX)? {
        for (path, source) in message::trailers(&commit.message).sources {
            found.entry(path).or_insert((source, commit.commit_id));
        }
    }
    Ok(found)
}

/// A commit names its first sources only; the archive knows every drop, and a drop read again says
/// which resources came in it.
fn sources_from_archive(lane: &Lane, n: usize, records: &mut [Record]) -> Result<(), Error> {
    let fabric = &lane.fabrics[n].fabric;
    if records.iter().all(|it| it.source.is_some()) {
        return Ok(());
    }
    let Some(tip) = lane.repo.tip(&fabric.archive_ref())? else { return Ok(()) };
    let mut missing: BTreeMap<ResourceId, usize> = BTreeMap::new();
    for (at, it) in records.iter().enumerate().filter(|(_, it)| it.source.is_none()) {
        missing.insert(it.id, at);
    }
    // The newest drop of a resource is where it came from, whoever edited or moved it since.
    let mut found: BTreeMap<usize, usize> = BTreeMap::new();
    let mut names: BTreeMap<String, (usize, RawPath, Option<OperationId>)> = BTreeMap::new();
    for (age, commit) in lane.repo.log(tip, None, COMMITS_MAX)?.into_iter().enumerate() {
        let operation = message::trailers(&commit.message).operation;
        for (id, path) in commit.message.lines().filter_map(|it| it.split_once(' ')) {
            if id.len() == 64 {
                let entry = (age, RawPath::unescape(path), operation);
                names.entry(id.to_owned()).or_insert(entry);
            }
        }
    }
    for (path, blob) in lane.repo.files_below(tip, &RepoPath::top())? {
        let name = path.split(|it| *it == b'/').nth(1);
        let Some(drop_id) = name.and_then(|it| std::str::from_utf8(it.get(..64)?).ok()) else {
            continue;
        };
        let Some((age, raw_path, operation)) = names.get(drop_id) else { continue };
        let intake = crate::model::document::Intake::new(raw_path.clone(), lane.repo.blob(blob)?);
        let Ok(valid) = validation::validate(intake, &lane.rules()) else { continue };
        for it in valid.documents {
            let Some(at) = missing.get(&ResourceId::of(&fabric.name, &it.key)) else { continue };
            if found.get(at).is_none_or(|newest| age < newest) {
                found.insert(*at, *age);
                records[*at].source = Some(Source {
                    path: raw_path.clone(),
                    document: it.index,
                    line: it.line,
                    operation: *operation,
                });
            }
        }
    }
    Ok(())
}

/// The path of a file that could hold a resource.
pub(super) fn manifest_path(path: &BString) -> Option<RepoPath> {
    let text = std::str::from_utf8(path).ok()?;
    let manifest = [".yaml", ".yml", ".json"].iter().any(|it| text.ends_with(it));
    manifest.then(|| RepoPath::parse(text).ok()).flatten()
}

/// How an attempt to bring our commits to the remote ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// There was nothing to send.
    Nothing,
    /// The remote has this commit.
    Pushed(CommitId),
    /// The remote refuses it, in its words.
    Refused(String),
}

/// How often a push is made again on top of what others pushed meanwhile.
const REPLAYS_MAX: usize = 8;

/// Sends what the remote lacks. Where others were first, their work is fetched and ours is made
/// again on top of it: by field where both changed one resource. What nobody can merge waits for a
/// person (`agent/conflicts.rs`).
///
/// People's index follows our commits meanwhile, at the latest when this returns.
pub fn deliver(lane: &mut Lane) -> Result<Sent, Error> {
    let sent = send(lane);
    settle::tidy(lane);
    sent
}

fn send(lane: &mut Lane) -> Result<Sent, Error> {
    let Some(remote) = lane.settings.remote.clone() else { return Ok(Sent::Nothing) };
    for _ in 0..REPLAYS_MAX {
        let standing = lane.head_to_commit_on()?;
        let Some(tip) = standing.commit else { return Ok(Sent::Nothing) };
        if lane.repo.tracking(&remote.name, &standing.branch)? == Some(tip) {
            note_pushed(lane, tip)?;
            return Ok(Sent::Nothing);
        }
        match lane.repo.push(&remote, &standing.branch, tip, &mut || settle::tidy(lane))? {
            PushOutcome::Pushed => {
                note_pushed(lane, tip)?;
                return Ok(Sent::Pushed(tip));
            }
            PushOutcome::Refused { reason } => return Ok(Sent::Refused(reason)),
            PushOutcome::Behind => take_in(lane)?,
        }
    }
    Err(Error::HeadMoved)
}

/// Fetches what others pushed and puts our own work on top of it.
pub fn take_in(lane: &mut Lane) -> Result<(), Error> {
    let Some(remote) = lane.settings.remote.clone() else { return Ok(()) };
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
    let replay = lane.repo.replay(ours, theirs, &mut |it| meet::meet(lane, side, None, it))?;
    refuse_foreign_overlaps(lane, &replay.overlaps)?;
    // First, so that a crash behind the branch's move cannot lose them; twice is the same as once.
    for it in &joined(&replay.overlaps) {
        keep_overlap(lane, it)?;
    }
    follow(lane, &standing.branch, Some(ours), replay.tip)?;
    tracing::info!(
        commits = replay.mapping.len(),
        overlaps = replay.overlaps.len(),
        "made our commits again on top of others'"
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
        let contents = conflicts::Contents::of(read(it.base)?, read(it.ours)?, read(it.theirs)?);
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
            Some(first) => (first.ours, first.theirs) = (it.ours, it.theirs),
            None => {
                paths.insert(&it.path, it.clone());
            }
        }
    }
    paths.into_values().collect()
}

/// The remote has `tip`: so do the operations that are part of it.
fn note_pushed(lane: &Lane, tip: CommitId) -> Result<(), Error> {
    for mut operation in lane.store.open_operations()? {
        let State::Committed { commit_id, .. } = operation.state else { continue };
        let there = match lane.repo.is_ancestor(commit_id, tip)? {
            true => Some(commit_id),
            // It was made again on top of others' work, and a crash kept the journal from hearing.
            false => super::recovery::commit_of(lane, &operation)?,
        };
        if let Some(commit_id) = there {
            operation.state = State::Pushed { commit_id };
            operation.completed_at = Some(clock::now());
            lane.store
                .settle(Settlement { operation: Some(operation), ..Settlement::default() })?;
        }
    }
    Ok(())
}
