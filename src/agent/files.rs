//! Single files of a fabric, by their path: read anywhere, written where they belong.
//!
//! What lies in `managed/` is a resource and changes as one; what lies in `raw/` is a drop and comes
//! in as one; nothing outside of a fabric is ever written.

use super::Error;
use super::edits::{self, Edits};
use super::lane::Lane;
use super::records::{self, Edit, EditChange};
use crate::model::fabric::FabricName;
use crate::model::ids::{BlobId, CommitId, OperationId};
use crate::model::operation::{Purpose, Trigger};
use crate::model::path::{RepoPath, escape};
use crate::model::report::Delivery;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A subject is not longer, in characters.
const SUBJECT_CHARS_MAX: usize = 200;

/// A file to be written or removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileEdit {
    /// Whose it is.
    pub fabric: FabricName,
    /// Where, relative to the top of the repository.
    pub path: RepoPath,
    /// All of its content; none removes it.
    pub bytes: Option<Vec<u8>>,
    /// What it must be now, or nothing is done; none asks for nothing.
    pub expected: Option<Expected>,
    /// The first line of the commit; none says what is done.
    pub message: Option<String>,
    /// Who is behind it.
    pub actor: String,
}

/// What a file must be before it is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// It must not be there.
    Absent,
    /// It must hold this.
    Blob(BlobId),
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Which.
    pub path: RepoPath,
    /// What it holds now; none where it is gone.
    pub blob_id: Option<BlobId>,
    /// There was one before.
    pub existed: bool,
    /// The journal's entry; none where nothing changed.
    pub operation: Option<OperationId>,
    /// The commit; none where nothing changed.
    pub commit_id: Option<CommitId>,
    /// How far it went.
    pub delivery: Delivery,
}

/// Writes or removes a file by a commit; the caller sends it.
pub(super) fn change(
    lane: &mut Lane,
    it: &FileEdit,
    trigger: Trigger,
) -> Result<FileChange, Error> {
    let refused = |what: String| Err(Error::Refused { what });
    let n = lane.fabrics.iter().position(|known| known.fabric.name == it.fabric);
    let n = n.ok_or_else(|| Error::NotFound { what: format!("fabric {}", it.fabric) })?;
    let fabric = lane.fabrics[n].fabric.clone();
    let path = &it.path;
    if !path.is_within(&fabric.dir) || *path == fabric.dir {
        return refused(format!("{path} is no file of fabric {}", fabric.name));
    }
    let head = lane.head_to_commit_on()?.commit;
    super::follow::records_follow_head(lane, n, head)?;
    let was = lane.repo.blob_at(head, path.as_str().as_bytes())?;
    match it.expected {
        Some(Expected::Absent) if was.is_some() => {
            return Err(Error::Exists { what: format!("{path} exists already") });
        }
        Some(Expected::Blob(wanted)) if was != Some(wanted) => {
            return Err(Error::Stale { what: path.to_string() });
        }
        _ => (),
    }
    if was.is_none() && it.bytes.is_none() {
        return Err(Error::NotFound { what: format!("file {path}") });
    }
    let is_note = path.file_name() == "README.md";
    if path.is_within(&fabric.raw()) && !is_note {
        return refused(format!(
            "{path} would be a drop; put it in by POST fabrics/{}/intake",
            fabric.name
        ));
    }
    let change = |operation: Option<OperationId>, commit_id, blob_id| FileChange {
        path: path.clone(),
        blob_id,
        existed: was.is_some(),
        operation,
        commit_id,
        delivery: Delivery::Nothing,
    };
    let blob_id = it.bytes.as_deref().map(|it| lane.repo.blob_id_of(it)).transpose()?;
    if path.is_within(&fabric.managed()) && !is_note {
        let report = as_resource(lane, n, it, trigger)?;
        return Ok(change(report.operation, report.commit_id, blob_id));
    }
    let verb = match (was, &it.bytes) {
        (_, None) => "delete",
        (None, _) => "create",
        (Some(_), _) => "update",
    };
    let subject = match &it.message {
        Some(text) => escape(text.as_bytes()).chars().take(SUBJECT_CHARS_MAX).collect(),
        None => format!("{verb} {path}"),
    };
    let edits = Edits {
        files: vec![(path.clone(), it.bytes.clone().map(Arc::from))],
        purpose: Purpose::RecordToGit,
        trigger,
        actor: it.actor.clone(),
        subject,
        trailers: Vec::new(),
        in_place: false,
    };
    let operation = edits::carry_out(lane, n, edits)?;
    let commit_id = operation.as_ref().and_then(|it| it.state.commit_id());
    Ok(change(operation.map(|it| it.id), commit_id, blob_id))
}

/// A file in `managed/` is one resource, in the one place where that resource belongs.
fn as_resource(
    lane: &mut Lane,
    n: usize,
    it: &FileEdit,
    trigger: Trigger,
) -> Result<crate::model::report::EditReport, Error> {
    let refused = |what: String| Error::Refused { what };
    if it.message.is_some() {
        return Err(refused(format!(
            "the commit of a resource says what is done to it; leave the message of {} out",
            it.path
        )));
    }
    let fabric = lane.fabrics[n].fabric.name.clone();
    let record = lane.store.record_at(&fabric, &it.path)?;
    let change = match &it.bytes {
        None => EditChange::Delete,
        Some(bytes) => {
            let text = String::from_utf8(bytes.clone())
                .map_err(|_| refused(format!("{} would be no text", it.path)))?;
            let (document, target) = edits::judge(lane, n, &text)?;
            if record.is_none() && target != it.path {
                return Err(refused(format!("{} belongs in {target}", document.key)));
            }
            EditChange::Text { text, base: None }
        }
    };
    if record.is_none() && it.bytes.is_none() {
        return Err(refused(format!(
            "{} holds no resource of the fabric; remove it in git",
            it.path
        )));
    }
    let edit = Edit {
        name: record.map(|it| it.id.to_string()),
        fabric: Some(fabric),
        change,
        actor: it.actor.clone(),
        expected: None,
        strategy: None,
        dry_run: false,
    };
    records::edit(lane, &edit, trigger)
}
