//! How things stand, for whoever asks: the repository, its fabrics, what waits and where a drop is.

use super::desk::{LISTED_MAX, Live, Whereabouts};
use super::lane::Lane;
use super::{Error, fabrics, propose};
use crate::git::Head;
use crate::model::digest::Sha256;
use crate::model::fabric::FabricName;
use crate::model::ids::CommitId;
use crate::model::operation::{Operation, State};
use crate::model::path::RawPath;
use crate::model::record::Reject;
use crate::model::report::{FabricStatus, IgnoredList, RejectedFile, RepositoryStatus};

/// How many rejected drops, strays and edits `status` names.
const NAMED_MAX: usize = 1_000;
/// How many commits ahead of the remote are counted.
const AHEAD_MAX: usize = 10_000;
/// How many operations are searched for a drop.
const SEARCHED_MAX: usize = 1_000;

/// How things stand.
pub(super) fn status(lane: &Lane, live: &Live) -> Result<RepositoryStatus, Error> {
    let head = lane.repo.head()?;
    let held = match lane.head_to_commit_on() {
        Err(Error::Held { reason }) => Some(reason),
        Err(error) => return Err(error),
        Ok(_) => live.held.clone(),
    };
    let mut all = Vec::new();
    for (n, it) in lane.fabrics.iter().enumerate() {
        let fabric = &it.fabric;
        let (drops, mut there) = lane.drops(n)?;
        let rejected_count = there.len() as u64;
        there.sort();
        let mut rejected = Vec::new();
        for path in there.into_iter().take(NAMED_MAX) {
            let problem = lane.store.reject(&fabric.name, &path)?;
            let problem = problem.and_then(|it| it.problems.into_iter().next());
            rejected.push(RejectedFile { path, problem });
        }
        let strays = lane.store.strays(&fabric.name).take(NAMED_MAX);
        all.push(FabricStatus {
            mode: it.rules.mode,
            hold: it.hold.clone(),
            orphans: fabrics::orphans_of(lane, &fabric.name)?,
            strays: strays.collect::<Result<_, _>>()?,
            hand_edits: it.hands.seen().take(NAMED_MAX).collect(),
            synced: lane.store.synced(&fabric.name)?,
            name: fabric.name.clone(),
            dir: fabric.dir.clone(),
            records: lane.store.records_count(&fabric.name),
            pending: (drops as u64).saturating_sub(rejected_count),
            progress: it.inbox.progress(),
            rejected,
            rejected_count,
            conflicts: lane
                .store
                .conflicts()?
                .into_iter()
                .filter(|it| it.fabric == fabric.name)
                .collect(),
        });
    }
    let there = there(lane, &head)?;
    Ok(RepositoryStatus {
        work_tree: lane.repo.work_tree().display().to_string(),
        running: live.running,
        branch: head.branch,
        head: head.commit,
        remote: there.shown,
        remote_head: there.head,
        unpushed: there.unpushed,
        proposed: there.proposed,
        held,
        waiting: live.waiting.clone(),
        kept: lane.settings.remote.as_ref().and_then(|_| lane.keeps_for()),
        polled: live.polled.clone(),
        turns: live.turns,
        fabrics: all,
    })
}

/// What the remote has, as far as we heard.
#[derive(Default)]
struct There {
    shown: Option<String>,
    head: Option<CommitId>,
    unpushed: u64,
    proposed: Option<String>,
}

fn there(lane: &Lane, head: &Head) -> Result<There, Error> {
    let (Some(remote), Some(branch)) = (&lane.settings.remote, &head.branch) else {
        return Ok(There::default());
    };
    let shown = match lane.repo.remote_shown(&remote.name) {
        Some(url) => format!("{} ({url})", remote.name),
        None => format!("{} (not configured)", remote.name),
    };
    let theirs = lane.repo.tracking(&remote.name, branch)?;
    let mut there = There { shown: Some(shown), head: theirs, ..There::default() };
    if let Some(tip) = head.commit {
        let waiting = propose::waiting(lane, branch, tip, theirs)?;
        let sent = waiting.as_ref().map(|it| it.1).or(theirs);
        there.unpushed = lane.repo.ahead(tip, sent, AHEAD_MAX)?;
        there.proposed = waiting.map(|it| it.0);
    }
    Ok(there)
}

pub(super) fn rejects(lane: &Lane) -> Result<Vec<Reject>, Error> {
    let mut found = Vec::new();
    for (n, it) in lane.fabrics.iter().enumerate() {
        let (_, mut there) = lane.drops(n)?;
        there.sort();
        for path in there.into_iter().take(LISTED_MAX - found.len()) {
            found.extend(lane.store.reject(&it.fabric.name, &path)?);
        }
    }
    Ok(found)
}

pub(super) fn ignored(lane: &Lane) -> Result<Vec<IgnoredList>, Error> {
    let fabrics = lane.fabrics.iter().enumerate();
    let lists = fabrics.map(|(n, it)| {
        let (entries, count) = lane.ignored(n)?;
        Ok(IgnoredList { fabric: it.fabric.name.clone(), entries, count: count as u64 })
    });
    lists.collect()
}

pub(super) fn whereabouts(
    lane: &Lane,
    path: &RawPath,
    drop_id: &Sha256,
    fabric: &FabricName,
) -> Result<Whereabouts, Error> {
    if let Some(it) = lane.store.reject(fabric, path)?.filter(|it| it.drop_id == *drop_id) {
        return Ok(Whereabouts::Rejected { problems: it.problems });
    }
    // While the drop lies there, an older operation that took the same bytes says nothing of it.
    let raw = lane.fabrics.iter().find(|it| it.fabric.name == *fabric).map(|it| it.fabric.raw());
    if let Some(place) = raw.and_then(|it| it.join(&path.to_string()).ok())
        && let Ok(Some(bytes)) = lane.tree.read(&place, lane.settings.bytes_max)
        && Sha256::of_drop(path.as_bytes(), &bytes) == *drop_id
    {
        return Ok(Whereabouts::Waiting);
    }
    let took = |it: &Operation| it.taken.iter().any(|it| it.drop_id == *drop_id);
    let mut newest = lane.store.operations().take(SEARCHED_MAX);
    let found = newest.find(|it| it.as_ref().map_or(true, took)).transpose()?;
    let Some(operation) = found else { return Ok(Whereabouts::Waiting) };
    let report = operation.files.iter().find(|it| it.path == *path);
    let Some(report) = report.cloned().map(Box::new) else { return Ok(Whereabouts::Waiting) };
    Ok(match &operation.state {
        State::Pushed { commit_id } => Whereabouts::Pushed { commit_id: *commit_id, report },
        State::Committed { commit_id, .. } => {
            Whereabouts::Committed { commit_id: Some(*commit_id), report }
        }
        State::Local { commit_id } => {
            Whereabouts::Committed { commit_id: Some(*commit_id), report }
        }
        State::Done => Whereabouts::Committed { commit_id: None, report },
        State::Planned | State::Applied | State::Undone { .. } | State::Held { .. } => {
            Whereabouts::Waiting
        }
    })
}
