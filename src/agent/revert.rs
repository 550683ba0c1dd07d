//! An operation is undone by a new commit, and the records with it.
//!
//! What came after it stays: where a file was changed since, the undoing is merged into it by field,
//! and where both meet in one field nothing is undone before somebody decides.

use super::edits::{self, Edits};
use super::lane::Lane;
use super::{Error, fabrics, find, follow, meet, recovery};
use crate::model::account::{RevertReport, Reverted};
use crate::model::conflict::{ConflictStrategy, FieldClash, Side};
use crate::model::field::FieldPath;
use crate::model::ids::{BlobId, CommitId};
use crate::model::operation::{Operation, Purpose, Trigger};
use crate::model::path::RepoPath;
use crate::model::report::Delivery;
use crate::pipeline::merge::{Merged, Rule, Sides};
use std::sync::Arc;

/// One file of an operation: what it found there, and what it left.
type Change = (RepoPath, Option<BlobId>, Option<BlobId>);
/// What a file gets; none where it goes.
type Content = Option<Arc<[u8]>>;

/// Undoes an operation; the caller sends the commit.
///
/// # Errors
/// [`Error::Refused`] where it has no commit on this branch, or changed nothing in `managed/`.
pub(super) fn revert(
    lane: &mut Lane,
    name: &str,
    strategy: Option<ConflictStrategy>,
    actor: &str,
    trigger: Trigger,
    dry_run: bool,
) -> Result<RevertReport, Error> {
    let undone = find::operation(lane, name)?;
    let n = fabrics::place(lane, &undone.fabric)?;
    let head = lane.head_to_commit_on()?.commit;
    follow::records_follow_head(lane, n, head)?;
    let mut report = RevertReport {
        reverted: undone.id,
        fabric: undone.fabric.clone(),
        operation: None,
        commit_id: None,
        files: Vec::new(),
        delivery: Delivery::Nothing,
        dry_run,
    };
    let mut files = Vec::new();
    for (path, before, after) in changes(lane, n, &undone, head)? {
        let (content, one) = undo(lane, n, head, path, before, after, strategy)?;
        if let Some(content) = content {
            files.push((one.path.clone(), content));
        }
        report.files.push(one);
    }
    let open = report.files.iter().any(|it| !it.open.is_empty());
    if dry_run || open || files.is_empty() {
        return Ok(report);
    }
    let edits = Edits {
        files,
        purpose: Purpose::Rollback,
        trigger,
        actor: actor.to_owned(),
        subject: format!("revert operation {}", undone.id),
        trailers: vec![format!("Intake-Reverts: {}", undone.id)],
        in_place: false,
    };
    let operation = edits::carry_out(lane, n, edits)?;
    report.operation = operation.as_ref().map(|it| it.id);
    report.commit_id = operation.and_then(|it| it.state.commit_id());
    Ok(report)
}

/// What the operation's commit changed in `managed/`.
fn changes(
    lane: &Lane,
    n: usize,
    undone: &Operation,
    head: Option<CommitId>,
) -> Result<Vec<Change>, Error> {
    let refused = |what: String| Error::Refused { what };
    let missing = || {
        refused(format!(
            "operation {} ({}) has no commit on this branch, so there is nothing to revert",
            undone.id,
            undone.state.word()
        ))
    };
    let head = head.ok_or_else(missing)?;
    let commit_id = match undone.state.commit_id() {
        Some(it) if lane.repo.is_ancestor(it, head)? => it,
        // It was made again on top of others' work.
        _ => recovery::commit_of(lane, undone)?.ok_or_else(missing)?,
    };
    let commit = lane.repo.log(commit_id, None, 1)?.pop().ok_or_else(missing)?;
    let managed = lane.fabrics[n].fabric.managed();
    let mut found = Vec::new();
    for (path, before, after) in lane.repo.changes_between(commit.parent, commit_id, &managed)? {
        if let Some(path) = follow::manifest_path(&path) {
            found.push((path, before, after));
        }
    }
    if found.is_empty() {
        let what = "changed no file in managed/, so there is nothing to revert";
        return Err(refused(format!("operation {} {what}", undone.id)));
    }
    Ok(found)
}

/// What becomes of one file: its new content, if there is one, and what is told.
fn undo(
    lane: &Lane,
    n: usize,
    head: Option<CommitId>,
    path: RepoPath,
    before: Option<BlobId>,
    after: Option<BlobId>,
    strategy: Option<ConflictStrategy>,
) -> Result<(Option<Content>, Reverted), Error> {
    let now = lane.repo.blob_at(head, path.as_str().as_bytes())?;
    let read = |it: Option<BlobId>| -> Result<Option<Arc<[u8]>>, Error> {
        Ok(it.map(|it| lane.repo.blob(it)).transpose()?.map(Arc::from))
    };
    let told = |open| Reverted { path: path.clone(), changed_since: now != after, open };
    if now == after {
        return Ok((Some(read(before)?), told(Vec::new())));
    }
    if now == before {
        return Ok((None, told(Vec::new())));
    }
    let bytes = [read(after)?, read(before)?, read(now)?];
    let texts =
        bytes.each_ref().map(|it| it.as_deref().and_then(|it| std::str::from_utf8(it).ok()));
    let sides = Sides { base: texts[0], record: texts[1], git: texts[2] };
    let whole = || FieldClash { path: FieldPath::default(), base: None, record: None, git: None };
    let Some(document) = meet::same_resource(lane.settings.limits, sides) else {
        return Ok((None, told(vec![whole()])));
    };
    let strategy = strategy.unwrap_or(lane.fabrics[n].rules.conflict_of(&document.key));
    // Whoever undoes is later than what was done since.
    let rule = Rule { strategy, newest: Some(Side::Record), ..Rule::default() };
    Ok(match meet::merged(lane.settings.limits, sides, &document, &rule) {
        Merged::Text(text) => (Some(Some(Arc::from(text.into_bytes()))), told(Vec::new())),
        Merged::Gone => (Some(None), told(Vec::new())),
        Merged::Conflict(open) => (None, told(open)),
    })
}
