//! Every question and command that the doors may bring to a lane, and its answer.
//!
//! A running agent answers over its socket, a command without one opens the lane itself: both come
//! through here, so both say the same.

pub use super::asker::{Asker, Live};
use super::conflicts::{self, Decided, Decision};
use super::exchange::SyncAsked;
use super::fabrics::{AddFabric, FabricChange, FabricView, RemoveFabric, SetFabric};
use super::find::{operation, record, records as listed};
use super::lane::Lane;
use super::programs::{self, ProgramAnswer, ProgramAsked};
use super::records::{self, Edit};
use super::sync::{self, Sent};
use super::tidy::TidyAsked;
use super::turn::{self, Cause};
use super::{Because, Error, counter, standing, verify};
use crate::git;
use crate::model::account::{ReleaseReport, ResourceView, RevertReport, SyncReport, TidyReport};
use crate::model::conflict::ConflictStrategy;
use crate::model::digest::Sha256;
use crate::model::fabric::FabricName;
use crate::model::ids::CommitId;
use crate::model::operation::{Operation, Trigger};
use crate::model::path::RawPath;
use crate::model::problem::Problem;
use crate::model::record::{Conflict, Orphan, Record, Reject};
use crate::model::report::{
    ConflictView, Delivery, EditReport, FileReport, IgnoredList, IngestReport, RecordText,
    RepositoryStatus, ResolveReport, VerifyReport,
};
use crate::model::rules::Mode;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// How many entries an answer lists at most.
pub(super) const LISTED_MAX: usize = 100_000;
/// How many turns one `ingest` makes at most; what is left is named.
const TURNS_MAX: usize = 1_000;

/// A question or a command.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// How things stand.
    Status,
    /// Take what is in `raw/` now, push included.
    Ingest {
        /// Only say what would happen.
        dry_run: bool,
    },
    /// Records.
    Records {
        /// Of this kind only.
        kind: Option<String>,
    },
    /// One record: by its id, its path, or `Kind/name`.
    Record {
        /// Which.
        name: String,
    },
    /// One record with the text of its file.
    Text {
        /// Which.
        name: String,
    },
    /// Change, make or remove a record, and send it.
    Edit(Edit),
    /// What only programs ask.
    Program(Box<ProgramAsked>),
    /// Operations, the newest first.
    Operations {
        /// How many.
        limit: usize,
    },
    /// One operation, by its id or the beginning of it.
    Operation {
        /// Which.
        id: String,
    },
    /// What waits for a person.
    Conflicts,
    /// The drops that stay in `raw/`, with every reason.
    Rejects,
    /// Judge rejected drops again, push included.
    Retry {
        /// These only; none is all of them.
        paths: Vec<RawPath>,
    },
    /// What in `raw/` is left alone.
    Ignored,
    /// One conflict, with its contents and what resolving it so would give.
    Conflict {
        /// Which: by its id, its path, or `Kind/name`.
        name: String,
        /// What is decided about it.
        #[serde(flatten)]
        decided: Decided,
    },
    /// Resolve conflicts by commits, and send them.
    Resolve {
        /// Which; none are all.
        names: Vec<String>,
        /// What is decided about them.
        #[serde(flatten)]
        decided: Decided,
        /// This text instead, for one conflict.
        text: Option<String>,
        /// Who decides.
        actor: String,
        /// Only say what would come of it.
        dry_run: bool,
    },
    /// Whether everything agrees.
    Verify,
    /// Make the records again from git.
    Rebuild,
    /// The fabrics, each with its settings and how it stands.
    Fabrics,
    /// One fabric.
    Fabric {
        /// Which.
        name: FabricName,
    },
    /// Make a fabric, or repair it.
    AddFabric(AddFabric),
    /// Change what is decided about a fabric.
    SetFabric(SetFabric),
    /// Remove a fabric.
    RemoveFabric(RemoveFabric),
    /// Bring each file of a fabric to its place.
    Tidy(TidyAsked),
    /// Bring what others have in and send what is ours.
    Sync(SyncAsked),
    /// Undo an operation by a new commit, and send it.
    Revert {
        /// Which: its id, or the beginning of it.
        operation: String,
        /// Where files were changed since; none is what the settings say.
        #[serde(default)]
        strategy: Option<ConflictStrategy>,
        /// Who is behind it.
        actor: String,
        /// Only say what would come of it.
        #[serde(default)]
        dry_run: bool,
    },
    /// Let fabrics go on that wait for a person.
    Release {
        /// Which; none are all.
        #[serde(default)]
        fabric: Option<FabricName>,
        /// Bring back what is gone, instead of accepting that it is.
        #[serde(default)]
        restore: bool,
        /// Who says so.
        actor: String,
    },
    /// Records whose files others removed.
    Orphans,
    /// One record with all that is known around it.
    View {
        /// Which: its id, its path, or `Kind/name`.
        name: String,
    },
    /// Forget which changes of a record did not come through the agent.
    ClearModifications {
        /// Which.
        name: String,
    },
    /// Be told what a cluster has of a resource.
    TellActual {
        /// Which.
        name: String,
        /// What it has, as a manifest; none where it has nothing any more.
        text: Option<String>,
    },
    /// What became of one drop.
    Whereabouts {
        /// Where it was put.
        path: RawPath,
        /// What it is.
        drop_id: Sha256,
        /// In which fabric.
        fabric: FabricName,
    },
}

impl Request {
    /// Says whether answering it may leave commits that the remote lacks.
    pub fn may_commit(&self) -> bool {
        match self {
            Request::Ingest { dry_run } | Request::Resolve { dry_run, .. } => !dry_run,
            Request::Edit(it) => !it.dry_run,
            Request::Program(it) => it.may_commit(),
            Request::Sync(it) => !it.dry_run,
            Request::Revert { dry_run, .. } => !dry_run,
            Request::RemoveFabric(it) => !it.dry_run,
            Request::Tidy(it) => !it.dry_run,
            Request::Retry { .. } | Request::AddFabric(_) | Request::Release { .. } => true,
            _ => false,
        }
    }
}

/// The answer to a [`Request`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", content = "value", rename_all = "snake_case")]
pub enum Answer {
    /// To `status`.
    Status(Box<RepositoryStatus>),
    /// To `ingest`: one report a fabric.
    Ingest(Vec<IngestReport>),
    /// To `records`.
    Records(Vec<Record>),
    /// To `record`.
    Record(Box<Record>),
    /// To `text`.
    Text(Box<RecordText>),
    /// To `edit`.
    Edited(Box<EditReport>),
    /// To `program`.
    Program(Box<ProgramAnswer>),
    /// To `operations`.
    Operations(Vec<Operation>),
    /// To `operation`.
    Operation(Box<Operation>),
    /// To `conflicts`.
    Conflicts(Vec<Conflict>),
    /// To `rejects`.
    Rejects(Vec<Reject>),
    /// To `ignored`: by fabric, the first of it and how much there is.
    Ignored(Vec<IgnoredList>),
    /// To `conflict`.
    Conflict(Box<ConflictView>),
    /// To `resolve`.
    Resolved(ResolveReport),
    /// To `verify`.
    Verify(VerifyReport),
    /// To `rebuild`: how many records there are now.
    Rebuilt(u64),
    /// To `fabrics`.
    Fabrics(Vec<FabricView>),
    /// To `fabric` and `set_fabric`.
    Fabric(Box<FabricView>),
    /// To `add_fabric` and `remove_fabric`.
    FabricChanged(Box<FabricChange>),
    /// To `tidy`.
    Tidied(Box<TidyReport>),
    /// To `sync`.
    Synced(Box<SyncReport>),
    /// To `revert`.
    Reverted(Box<RevertReport>),
    /// To `release`.
    Released(ReleaseReport),
    /// To `orphans`.
    Orphans(Vec<Orphan>),
    /// To `view`, `clear_modifications` and `tell_actual`.
    View(Box<ResourceView>),
    /// To `whereabouts`.
    Whereabouts(Whereabouts),
    /// It could not be done.
    Refused {
        /// Why, the whole chain.
        message: String,
        /// Trying again by itself can help.
        later: bool,
        /// What kind of no it is.
        #[serde(default)]
        because: Because,
        /// The mistakes of a text, with their places.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        problems: Vec<Problem>,
    },
}

/// What became of one drop.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Whereabouts {
    /// It has not been taken yet.
    Waiting,
    /// It stays, for these reasons.
    Rejected {
        /// Every reason.
        problems: Vec<Problem>,
    },
    /// The branch has it, the remote does not yet.
    Committed {
        /// The commit; none where nothing changed.
        commit_id: Option<CommitId>,
        /// What became of it.
        report: Box<FileReport>,
    },
    /// The remote has it.
    Pushed {
        /// The commit.
        commit_id: CommitId,
        /// What became of it.
        report: Box<FileReport>,
    },
}

/// Answers a question, or does what is asked.
pub fn answer(lane: &mut Lane, request: &Request, live: &Live) -> Answer {
    match try_answer(lane, request, live) {
        Ok(it) => it,
        Err(error) => Answer::Refused {
            message: error.chain(),
            later: error.retry() == git::Retry::Later,
            because: error.because(),
            problems: error.problems().to_vec(),
        },
    }
}

fn try_answer(lane: &mut Lane, request: &Request, live: &Live) -> Result<Answer, Error> {
    Ok(match request {
        Request::Status => Answer::Status(Box::new(standing::status(lane, live)?)),
        Request::Ingest { dry_run } => {
            Answer::Ingest(ingest_for(lane, *dry_run, live.asker.as_ref())?)
        }
        Request::Records { kind } => Answer::Records(listed(lane, kind.as_deref())?),
        Request::Record { name } => Answer::Record(Box::new(record(lane, name)?)),
        Request::Text { name } => {
            let record = record(lane, name)?;
            let text = records::text_of(lane, record.blob_id, &record.path)?;
            Answer::Text(Box::new(RecordText { record, text }))
        }
        Request::Edit(it) => {
            let mut report = records::edit(lane, it, live.trigger())?;
            if report.commit_id.is_some() {
                report.delivery = delivery(lane);
            }
            Answer::Edited(Box::new(report))
        }
        Request::Program(it) => Answer::Program(Box::new(programs::answer(lane, it, live)?)),
        Request::Operations { limit } => {
            let newest = lane.store.operations().take((*limit).min(LISTED_MAX));
            Answer::Operations(newest.collect::<Result<_, _>>()?)
        }
        Request::Operation { id } => Answer::Operation(Box::new(operation(lane, id)?)),
        Request::Conflicts => Answer::Conflicts(lane.store.conflicts()?),
        Request::Rejects => Answer::Rejects(standing::rejects(lane)?),
        Request::Retry { paths } => {
            lane.judge_again(paths)?;
            Answer::Ingest(ingest_for(lane, false, live.asker.as_ref())?)
        }
        Request::Ignored => Answer::Ignored(standing::ignored(lane)?),
        Request::Conflict { name, decided } => {
            Answer::Conflict(Box::new(conflicts::view(lane, name, decided)?))
        }
        Request::Resolve { names, decided, text, actor, dry_run } => {
            let decision = Decision {
                names: names.clone(),
                rule: decided.rule(),
                text: text.clone(),
                actor: actor.clone(),
                trigger: live.trigger(),
                dry_run: *dry_run,
            };
            let conflicts = conflicts::resolve(lane, &decision)?;
            let delivery = if *dry_run { Delivery::Nothing } else { delivery(lane) };
            Answer::Resolved(ResolveReport { conflicts, delivery })
        }
        Request::Fabrics
        | Request::Fabric { .. }
        | Request::AddFabric(_)
        | Request::SetFabric(_)
        | Request::RemoveFabric(_)
        | Request::Tidy(_)
        | Request::Sync(_)
        | Request::Revert { .. }
        | Request::Release { .. }
        | Request::Orphans
        | Request::View { .. }
        | Request::ClearModifications { .. }
        | Request::TellActual { .. } => counter::answer(lane, request, live)?,
        Request::Verify => Answer::Verify(verify::verify(lane, lane.settings.remote.is_some())?),
        Request::Rebuild => Answer::Rebuilt(verify::rebuild(lane)?),
        Request::Whereabouts { path, drop_id, fabric } => {
            Answer::Whereabouts(standing::whereabouts(lane, path, drop_id, fabric)?)
        }
    })
}

/// Takes what is in `raw/` of every fabric, and sends it.
pub fn ingest(lane: &mut Lane, dry_run: bool) -> Result<Vec<IngestReport>, Error> {
    ingest_for(lane, dry_run, None)
}

pub(super) fn ingest_for(
    lane: &mut Lane,
    dry_run: bool,
    asker: Option<&Asker>,
) -> Result<Vec<IngestReport>, Error> {
    let cause = cause(lane, asker);
    let mut reports = Vec::new();
    for n in 0..lane.fabrics.len() {
        if lane.fabrics[n].rules.mode < Mode::Ingest {
            continue;
        }
        if let Some(hold) = &lane.fabrics[n].hold {
            // It waits for a person; the other fabrics go on.
            reports.push(counter::waiting(hold, dry_run));
            continue;
        }
        if dry_run {
            let turned = turn::rehearse(lane, n, &cause)?;
            reports.push(counter::report(lane, n, turned, true));
            continue;
        }
        reports.push(turns(lane, n, &cause)?);
    }
    if !dry_run {
        let delivery = delivery(lane);
        for it in reports.iter_mut().filter(|it| it.delivery == Delivery::Nothing) {
            it.delivery = delivery.clone();
            // Others may have been first; then the commit was made again on top of theirs.
            if let (Some(id), Some(_)) = (it.operation, it.commit_id) {
                it.commit_id = lane.store.headline(&id)?.and_then(|it| it.state.commit_id());
            }
        }
    }
    Ok(reports)
}

pub(super) fn cause(lane: &Lane, asker: Option<&Asker>) -> Cause {
    Cause {
        trigger: asker.map_or(Trigger::Cli, |it| it.trigger),
        actor: asker.map_or_else(|| lane.settings.author.name.clone(), |it| it.actor.clone()),
        hints: HashSet::new(),
        patient: true,
    }
}

/// Turns over one fabric until nothing waits any more, as one report.
pub(super) fn turns(lane: &mut Lane, n: usize, cause: &Cause) -> Result<IngestReport, Error> {
    super::structure::ensure(lane, n)?;
    let mut turned = turn::turn(lane, n, cause)?;
    let mut more = turned.more;
    let mut all = counter::report(lane, n, turned, false);
    for _ in 1..TURNS_MAX {
        if !more {
            break;
        }
        turned = turn::turn(lane, n, cause)?;
        more = turned.more;
        let report = counter::report(lane, n, turned, false);
        all.operation = report.operation.or(all.operation);
        all.commit_id = report.commit_id.or(all.commit_id);
        all.files.extend(report.files);
        all.stages = report.stages;
    }
    Ok(all)
}

pub(super) fn delivery(lane: &mut Lane) -> Delivery {
    let sent = sync::deliver(lane);
    if lane.sends_to().is_none() {
        return Delivery::Local;
    }
    match sent {
        Ok(Sent::Nothing) => Delivery::Nothing,
        Ok(Sent::Pushed(commit_id)) => Delivery::Pushed { commit_id },
        Ok(Sent::Proposed { commit_id, branch }) => Delivery::Proposed { commit_id, branch },
        Ok(Sent::Refused(reason)) => {
            Delivery::Held { reason: format!("the remote refuses the push: {reason}") }
        }
        Err(error) => match error.retry() {
            git::Retry::Later => Delivery::Waiting { reason: error.chain() },
            git::Retry::Never => Delivery::Held { reason: error.chain() },
        },
    }
}
