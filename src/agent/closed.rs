//! Resources that only records may change: what others committed of them is put back.

use super::edits::{self, Edits};
use super::history::History;
use super::lane::Lane;
use super::{Error, follow};
use crate::git::Changed;
use crate::model::operation::{Purpose, Trigger};
use crate::model::path::RepoPath;
use crate::model::rules::{Direction, Mode};
use std::sync::Arc;

/// What others changed of resources that only records may change is put back by a commit. Says
/// whether there was anything.
pub(super) fn put_back(
    lane: &mut Lane,
    n: usize,
    changes: &[Changed],
    history: &History,
) -> Result<bool, Error> {
    let it = &lane.fabrics[n];
    let closed =
        |it: &&crate::model::rules::ResourceRule| it.direction == Some(Direction::RecordToGit);
    if it.rules.mode < Mode::Ingest || it.rules.resources.iter().find(closed).is_none() {
        return Ok(false);
    }
    let mut files: Vec<(RepoPath, Option<Arc<[u8]>>)> = Vec::new();
    for (path, _, new) in changes {
        let (Some(change), Some(path)) =
            (history.foreign(path.as_ref()), follow::manifest_path(path))
        else {
            continue;
        };
        let Some(record) = lane.store.record_at(&it.fabric.name, &path)? else { continue };
        let closed = it.rules.direction_of(&record.key) == Direction::RecordToGit;
        if closed && *new != Some(record.blob_id) {
            tracing::warn!(%path, by = change.author, commit_id = %change.commit_id.short(), "this resource is changed by records only; what git has is put back");
            files.push((path, Some(Arc::from(lane.repo.blob(record.blob_id)?))));
        }
    }
    if files.is_empty() {
        return Ok(false);
    }
    let count = match &files[..] {
        [(path, _)] => path.file_name().to_owned(),
        more => format!("{} resources", more.len()),
    };
    let edits = Edits {
        files,
        purpose: Purpose::RecordToGit,
        trigger: Trigger::Schedule,
        actor: lane.settings.author.name.clone(),
        subject: format!("put back {count}, changed by records only"),
        trailers: Vec::new(),
        in_place: false,
    };
    Ok(edits::carry_out(lane, n, edits)?.is_some())
}
