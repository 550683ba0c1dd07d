//! Changes that come from no drop go down the same line: a plan, the journal, the files, the branch.

use super::lane::Lane;
use super::{Error, follow, turn};
use crate::clock;
use crate::model::account::HoldKind;
use crate::model::document::{Document, Intake, Verdict};
use crate::model::ids::{BlobId, CommitId, OperationId};
use crate::model::operation::{Operation, Purpose, State, Trigger};
use crate::model::path::{RawPath, RepoPath};
use crate::model::plan::{Change, Plan};
use crate::model::problem::{Problem, Severity};
use crate::model::rules::Mode;
use crate::pipeline::{classification, validation};
use std::sync::Arc;

/// What is to be changed, and what the commit says.
#[derive(Debug, Clone)]
pub(super) struct Edits {
    /// Files with their new content; none removes the file.
    pub files: Vec<(RepoPath, Option<Arc<[u8]>>)>,
    /// What it is for.
    pub purpose: Purpose,
    /// What set it off.
    pub trigger: Trigger,
    /// Who is behind it.
    pub actor: String,
    /// The first line of the commit.
    pub subject: String,
    /// More lines at its end.
    pub trailers: Vec<String>,
    /// The files are in the work tree already, as somebody left them: only the commit is made.
    pub in_place: bool,
}

/// Carries edits of one fabric out; none where git has it all already.
///
/// # Errors
/// [`Error::Refused`] where somebody's uncommitted work is in the way; nothing is done then.
pub(super) fn carry_out(
    lane: &mut Lane,
    n: usize,
    edits: Edits,
) -> Result<Option<Operation>, Error> {
    let it = &lane.fabrics[n];
    if it.rules.mode < Mode::Ingest {
        let what = format!(
            "fabric {} is in mode {}: nothing is written there; change its mode (git-intake fabric \
             set {0} --mode full)",
            it.fabric.name, it.rules.mode
        );
        return Err(Error::Refused { what });
    }
    if let Some(hold) = it.hold.as_ref().filter(|it| it.kind == HoldKind::RemovedInGit) {
        return Err(Error::Held { reason: hold.reason.clone() });
    }
    let standing = lane.head_to_commit_on()?;
    let paths = edits.files.iter().map(|it| it.0.as_str().as_bytes());
    let held = lane.repo.blobs_at(standing.commit, paths)?;
    let mut plan = Plan {
        subject: Some(edits.subject),
        trailers: edits.trailers,
        in_place: edits.in_place,
        ..Plan::default()
    };
    for (path, bytes) in &edits.files {
        let was = held.get(path.as_str().as_bytes()).copied();
        if let Some(change) = change(lane, path, bytes.clone(), was)? {
            plan.changes.push(change);
        }
    }
    if plan.changes.is_empty() {
        return Ok(None);
    }
    plan.changes.sort_by(|a, b| a.path().cmp(b.path()));
    let base = (standing.commit, standing.branch);
    let mut operation = entry(lane, n, edits.purpose, edits.trigger, &edits.actor, base);
    turn::carry_out(lane, n, &mut plan, &[], &mut operation)?;
    follow::records_follow_head(lane, n, operation.state.commit_id())?;
    Ok(Some(operation))
}

/// The journal's entry for what comes from no drop; `base` is where HEAD stands, and its branch.
pub(super) fn entry(
    lane: &Lane,
    n: usize,
    purpose: Purpose,
    trigger: Trigger,
    actor: &str,
    base: (Option<CommitId>, String),
) -> Operation {
    let now = clock::now();
    Operation {
        id: OperationId::new(now),
        fabric: lane.fabrics[n].fabric.name.clone(),
        purpose,
        trigger,
        actor: actor.to_owned(),
        started_at: now,
        completed_at: None,
        state: State::Planned,
        base: base.0,
        branch: base.1,
        changes: Vec::new(),
        taken: Vec::new(),
        files: Vec::new(),
        stages: Vec::new(),
    }
}

/// One file: what has to be done, or why it must not be.
fn change(
    lane: &Lane,
    path: &RepoPath,
    bytes: Option<Arc<[u8]>>,
    was: Option<BlobId>,
) -> Result<Option<Change>, Error> {
    let wanted = bytes.as_ref().map(|it| lane.repo.blob_id_of(it)).transpose()?;
    let found = lane.tree.read(path, lane.settings.bytes_max)?;
    let found = found.map(|it| lane.repo.blob_id_of(&it)).transpose()?;
    if found != was && found != wanted {
        let what = format!(
            "{path} has changes in the work tree that nobody has committed; commit or undo them \
             (git checkout -- {path}), and try again"
        );
        return Err(Error::Refused { what });
    }
    Ok(match (bytes, was) {
        _ if wanted == was => None,
        (Some(bytes), was) => Some(Change::Write { path: path.clone(), bytes, was }),
        (None, Some(was)) => Some(Change::Remove { path: path.as_str().into(), was }),
        (None, None) => None,
    })
}

/// Judges a text as the file of one managed resource, as a drop would be judged, and says where it
/// belongs.
///
/// # Errors
/// [`Error::Invalid`] with every mistake and its place.
pub(super) fn judge(lane: &Lane, n: usize, text: &str) -> Result<(Document, RepoPath), Error> {
    let intake = Intake::new(RawPath::new("edit.yaml"), text.as_bytes().to_vec());
    let invalid = |problems: Vec<Problem>| Error::Invalid { problems };
    let valid = validation::validate(intake, &lane.rules()).map_err(|it| invalid(it.problems))?;
    let fabric = &lane.fabrics[n].fabric;
    let mut judged = classification::classify(valid, fabric, &lane.catalog).judged;
    match (judged.pop(), judged.is_empty()) {
        (Some(it), true) => match it.verdict {
            Verdict::Managed { target } => Ok((it.document, target)),
            Verdict::Unmanaged { why } | Verdict::Rejected { why } => {
                Err(invalid(vec![Problem { severity: Severity::Error, ..why }]))
            }
        },
        _ => Err(Error::Refused { what: "an edit is of exactly one resource".to_owned() }),
    }
}
