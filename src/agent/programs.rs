//! What only programs ask of a lane, beside what everybody asks.

use super::Error;
use super::choices::{self, SetRepository};
use super::desk::{self, Live};
use super::files::{self, FileChange, FileEdit};
use super::lane::Lane;
use super::take::{self, InitializeAsked, InitializeReport, RuleAsked, TakeAsked};
use crate::model::report::IngestReport;
use crate::model::rules::ResourceRule;
use serde::{Deserialize, Serialize};

/// A question or a command of a program.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramAsked {
    /// Take what is in the `raw/` of one fabric, with choices for this once, push included.
    Take(TakeAsked),
    /// Make or repair the directories of a fabric, and send it.
    Initialize(InitializeAsked),
    /// Change what holds for one resource.
    Rule(RuleAsked),
    /// Write or remove a file of a fabric, and send it.
    File(FileEdit),
    /// Change what is decided about the repository.
    Repository(SetRepository),
}

impl ProgramAsked {
    /// Says whether answering it looks at drops and takes none of some.
    pub(super) fn leaves_drops(&self) -> bool {
        matches!(self, ProgramAsked::Take(it) if it.dry_run || !it.selection.is_everything())
    }

    /// Says whether answering it may leave commits that the remote lacks.
    pub(super) fn may_commit(&self) -> bool {
        match self {
            ProgramAsked::Take(it) => !it.dry_run,
            ProgramAsked::Initialize(_) | ProgramAsked::File(_) => true,
            ProgramAsked::Rule(_) | ProgramAsked::Repository(_) => false,
        }
    }
}

/// The answer to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramAnswer {
    /// To `take`.
    Taken(IngestReport),
    /// To `initialize`.
    Initialized(InitializeReport),
    /// To `rule`: what holds now.
    Rule(ResourceRule),
    /// To `file`.
    File(FileChange),
    /// To `repository`: it is kept, and holds from the next reload on.
    Kept,
}

/// Answers it, or does it and sends what came of it.
pub(super) fn answer(
    lane: &mut Lane,
    asked: &ProgramAsked,
    live: &Live,
) -> Result<ProgramAnswer, Error> {
    Ok(match asked {
        ProgramAsked::Take(it) => {
            let cause = desk::cause(lane, live.asker.as_ref());
            let mut report = take::take(lane, it, &cause)?;
            if !it.dry_run {
                report.delivery = desk::delivery(lane);
            }
            ProgramAnswer::Taken(report)
        }
        ProgramAsked::Initialize(it) => {
            let mut report = take::initialize(lane, it, live.trigger())?;
            if report.commit_id.is_some() {
                report.delivery = desk::delivery(lane);
            }
            ProgramAnswer::Initialized(report)
        }
        ProgramAsked::Rule(it) => ProgramAnswer::Rule(take::rule(lane, it)?),
        ProgramAsked::Repository(it) => {
            choices::set_repository(lane, it)?;
            ProgramAnswer::Kept
        }
        ProgramAsked::File(it) => {
            let mut change = files::change(lane, it, live.trigger())?;
            if change.commit_id.is_some() {
                change.delivery = desk::delivery(lane);
            }
            ProgramAnswer::File(change)
        }
    })
}
