//! What the fourth stage needs to know of the world, looked up in one go.

use super::Error;
use super::lane::{FabricLane, Lane};
use crate::model::document::{Classified, Rejected, Verdict};
use crate::model::fabric::Fabric;
use crate::model::ids::CommitId;
use crate::model::key::{Key, ResourceId};
use crate::model::path::{RawPath, RepoPath};
use crate::model::rules::Direction;
use crate::pipeline::processing::{Held, Holdings, InWorkTree, wanted};
use crate::pipeline::tracked::{Tracked, report_path};
use bstr::BString;
use std::sync::Arc;

/// No file of ours is nearly as large, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Looks up where the resources of a turn live, and what git and the work tree hold there.
pub(super) fn holdings(
    lane: &Lane,
    it: &FabricLane,
    head: Option<CommitId>,
    classified: &[Classified],
    rejected: &[Rejected],
) -> Result<Holdings, Error> {
    let fabric = &it.fabric;
    let mut holdings = Holdings::default();
    let judged = classified.iter().flat_map(|it| &it.judged);
    let managed = judged.filter(|it| matches!(it.verdict, Verdict::Managed { .. }));
    let keys: Vec<&Key> = managed.map(|it| &it.document.key).collect();
    let ids: Vec<_> = keys.iter().map(|key| ResourceId::of(&fabric.name, key)).collect();
    for (key, place) in keys.into_iter().zip(lane.store.records_of(&ids, |it| it.path)?) {
        if let Some(place) = place {
            holdings.places.insert(key.clone(), place);
        }
        match it.rules.direction_of(key) {
            Direction::Bidirectional | Direction::RecordToGit => (),
            closed @ (Direction::GitToRecord | Direction::Disabled) => {
                holdings.closed.insert(key.clone(), closed);
            }
        }
    }
    let paths = wanted(classified, rejected, fabric, it.strategies, &holdings.places);
    let blobs = lane.repo.blobs_at(head, paths.iter().map(|it| it.as_str().as_bytes()))?;
    for path in &paths {
        let blob = blobs.get(path.as_str().as_bytes());
        let head = match blob {
            Some(id) => Some((*id, Arc::<[u8]>::from(lane.repo.blob(*id)?))),
            None => None,
        };
        // Something that is no file, or too large, is in the way of this one resource only.
        let work = lane.tree.read(path, FILE_BYTES_MAX).unwrap_or_else(|error| {
            tracing::warn!(%path, %error, "this is in the way of a managed file");
            Some(Vec::new())
        });
        let work = match (&head, work) {
            (Some((_, held)), Some(found)) if **held == *found => InWorkTree::AsHead,
            (None, None) => InWorkTree::AsHead,
            (Some(_), None) => InWorkTree::Missing,
            (_, Some(found)) => InWorkTree::Edited(Arc::from(found)),
        };
        if head.is_some()
            && let Some(record) = lane.store.record_at(&fabric.name, path)?
        {
            holdings.occupants.insert(path.clone(), record.key);
        }
        holdings.files.insert(path.clone(), Held { head, work });
    }
    let drops = classified.iter().map(|it| &it.intake.path);
    let drops = drops.chain(rejected.iter().map(|it| &it.intake.path));
    holdings.tracked = tracked(lane, fabric, head, drops)?;
    Ok(holdings)
}

/// What HEAD has below `raw/` of these drops: themselves, and their reports.
pub(super) fn tracked<'a>(
    lane: &Lane,
    fabric: &Fabric,
    head: Option<CommitId>,
    drops: impl Iterator<Item = &'a RawPath>,
) -> Result<Tracked, Error> {
    let raw = fabric.raw();
    let paths: Vec<(&RawPath, BString, RepoPath)> =
        drops.map(|it| (it, it.in_repository(&raw), report_path(fabric, it))).collect();
    let wanted = paths.iter().flat_map(|it| [it.1.as_slice(), it.2.as_str().as_bytes()]);
    let found = lane.repo.blobs_at(head, wanted)?;
    let mut tracked = Tracked::default();
    for (drop, path, report) in &paths {
        if let Some(id) = found.get(path.as_slice()) {
            tracked.drops.insert((*drop).clone(), *id);
            if matches!(lane.tree.check_directory(report), Ok(true)) {
                tracked.mute.insert((*drop).clone());
            }
        }
        if let Some(id) = found.get(report.as_str().as_bytes()) {
            let text = Arc::from(lane.repo.blob(*id)?);
            tracked.reports.insert((*drop).clone(), (*id, text));
        }
    }
    Ok(tracked)
}
