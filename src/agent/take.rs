//! What programs ask of one fabric: its drops taken with choices for this once, its directories made
//! again, a rule for one resource.

use super::edits::{self, Edits};
use super::lane::Lane;
use super::turn::{self, Cause};
use super::{Error, choices, counter, desk, picked, structure};
use crate::model::conflict::ConflictStrategy;
use crate::model::fabric::{FabricName, Layout};
use crate::model::ids::{CommitId, OperationId};
use crate::model::key::{Key, ResourceId};
use crate::model::operation::{Purpose, Trigger};
use crate::model::path::{RepoPath, escape};
use crate::model::report::{Delivery, IngestReport};
use crate::model::rules::{Direction, ResourceRule};
use crate::model::selection::Selection;
use crate::pipeline::archive::ArchiveStrategy;
use crate::pipeline::validation::SchemaStrategy;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A subject is not longer, in characters.
const SUBJECT_CHARS_MAX: usize = 200;

/// Which drops, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TakeAsked {
    /// Whose.
    pub fabric: FabricName,
    /// A breach of a kind's schema rejects a drop, whatever the settings say.
    pub strict: bool,
    /// Originals are kept as the settings say; else not at all.
    pub archive: bool,
    /// Which drops.
    #[serde(default)]
    pub selection: Selection,
    /// The first line of the commit; none says what is done.
    #[serde(default)]
    pub message: Option<String>,
    /// Only say what would happen.
    pub dry_run: bool,
}

/// Takes what is ready; the caller sends it.
pub(super) fn take(lane: &mut Lane, it: &TakeAsked, cause: &Cause) -> Result<IngestReport, Error> {
    let n = place(lane, &it.fabric)?;
    let (schema, archive) = (lane.settings.schema, lane.fabrics[n].archive);
    if it.strict {
        lane.settings.schema = SchemaStrategy::Enforce;
    }
    if !it.archive {
        lane.fabrics[n].archive = ArchiveStrategy::None;
    }
    lane.subject = it.message.as_deref().map(subject);
    let done = picked::with(lane, &it.selection, |lane| match it.dry_run {
        true => turn::rehearse(lane, n, cause).map(|it| counter::report(lane, n, it, true)),
        false => desk::turns(lane, n, cause),
    });
    lane.settings.schema = schema;
    lane.fabrics[n].archive = archive;
    lane.subject = None;
    done
}

/// A message of somebody's as the first line of a commit.
fn subject(text: &str) -> String {
    escape(text.as_bytes()).chars().take(SUBJECT_CHARS_MAX).collect()
}

/// How directories are to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InitializeAsked {
    /// Whose.
    pub fabric: FabricName,
    /// Their READMEs are written anew, whatever they say.
    pub force_recreate: bool,
    /// The commit before is kept under a ref.
    pub backup_existing: bool,
    /// Where new files lie from here on; none is what the settings say.
    #[serde(default)]
    pub layout: Option<Layout>,
    /// The first line of the commit; none says what is done.
    pub message: Option<String>,
    /// Who is behind it.
    pub actor: String,
}

/// What was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InitializeReport {
    /// The journal's entry; none where nothing was missing.
    pub operation: Option<OperationId>,
    /// The commit; none where nothing was missing.
    pub commit_id: Option<CommitId>,
    /// The files that were written.
    pub files: Vec<RepoPath>,
    /// The ref that keeps the commit before.
    pub backup: Option<String>,
    /// How far the commit went.
    pub delivery: Delivery,
}

/// Makes or repairs the directories of a fabric; the caller sends it.
pub(super) fn initialize(
    lane: &mut Lane,
    it: &InitializeAsked,
    trigger: Trigger,
) -> Result<InitializeReport, Error> {
    let n = place(lane, &it.fabric)?;
    let head = lane.head_to_commit_on()?.commit;
    if it.layout.is_some_and(|it| it != lane.fabrics[n].fabric.layout) {
        choices::change(lane, n, |settings| settings.layout = it.layout)?;
    }
    let mut report = InitializeReport {
        operation: None,
        commit_id: None,
        files: Vec::new(),
        backup: None,
        delivery: Delivery::Nothing,
    };
    if let (true, Some(head)) = (it.backup_existing, head) {
        let name = format!("refs/intake/backup/{}/{}", it.fabric, head.short());
        let text = format!("{head}\n");
        let about = format!("{}: before its directories were made again\n", it.fabric);
        let files: Vec<(&str, &[u8])> = vec![("commit", text.as_bytes())];
        lane.repo.keep(&name, &files, None, &lane.settings.author, &about)?;
        report.backup = Some(name);
    }
    let fabric = lane.fabrics[n].fabric.clone();
    for dir in [fabric.dir.clone(), fabric.raw(), fabric.managed(), fabric.unmanaged()] {
        lane.tree.check_directory(&dir)?;
    }
    let wanted: Vec<(RepoPath, Option<Arc<[u8]>>)> = structure::notes(&fabric)
        .into_iter()
        .map(|(path, text)| (path, Some(Arc::from(text.as_bytes()))))
        .collect();
    let mut files = Vec::new();
    for (path, bytes) in wanted {
        if it.force_recreate || lane.repo.blob_at(head, path.as_str().as_bytes())?.is_none() {
            report.files.push(path.clone());
            files.push((path, bytes));
        }
    }
    let subject = match &it.message {
        Some(text) => subject(text),
        None => "make the directories".to_owned(),
    };
    let edits = Edits {
        files,
        purpose: Purpose::DirectoryInit,
        trigger,
        actor: it.actor.clone(),
        subject,
        trailers: Vec::new(),
        in_place: false,
    };
    let operation = edits::carry_out(lane, n, edits)?;
    // What git has and the work tree lost comes back without a commit.
    structure::ensure(lane, n)?;
    report.commit_id = operation.as_ref().and_then(|it| it.state.commit_id());
    match operation {
        Some(it) => report.operation = Some(it.id),
        None => report.files.clear(),
    }
    Ok(report)
}

/// What is to hold for one resource; none stays as it is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RuleAsked {
    /// Which.
    pub id: ResourceId,
    /// Which way changes of it may go.
    pub direction: Option<Direction>,
    /// What happens where two sides changed it.
    pub conflict: Option<ConflictStrategy>,
}

/// Writes a rule for one resource into the repository's own settings, and obeys it from here on.
pub(super) fn rule(lane: &mut Lane, it: &RuleAsked) -> Result<ResourceRule, Error> {
    let record = lane.store.record(&it.id)?;
    let record = record.ok_or_else(|| Error::NotFound { what: format!("record {}", it.id) })?;
    let n = place(lane, &record.fabric)?;
    let rule = ResourceRule {
        pattern: pattern(&record.key),
        direction: it.direction,
        conflict: it.conflict,
    };
    let mut kept = rule.clone();
    choices::change(lane, n, |settings| {
        let before = settings.resources.iter().find(|it| it.pattern == rule.pattern);
        kept.direction = rule.direction.or(before.and_then(|it| it.direction));
        kept.conflict = rule.conflict.or(before.and_then(|it| it.conflict));
        settings.resources.retain(|it| it.pattern != rule.pattern);
        // The first that is about a resource counts, and this one is about nothing else.
        settings.resources.insert(0, kept.clone());
    })?;
    Ok(kept)
}

/// The pattern that is about this one resource.
fn pattern(key: &Key) -> String {
    match key.namespace.as_str() {
        crate::model::key::DEFAULT_NAMESPACE => format!("{}/{}", key.kind, key.name),
        namespace => format!("{}/{namespace}/{}", key.kind, key.name),
    }
}

fn place(lane: &Lane, name: &FabricName) -> Result<usize, Error> {
    let n = lane.fabrics.iter().position(|it| it.fabric.name == *name);
    n.ok_or_else(|| Error::NotFound { what: format!("fabric {name}") })
}
