//! What only programs ask of a lane, beside what everybody asks.

use super::desk::{self, Asker};
use super::files::{self, FileChange, FileEdit};
use super::lane::Lane;
use super::take::{self, InitializeAsked, InitializeReport, RuleAsked, TakeAsked};
use super::{Error, sync};
use crate::model::key::ResourceId;
use crate::model::operation::Trigger;
use crate::model::report::{Delivery, IngestReport};
use crate::model::rules::{Direction, ResourceRule};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// A question or a command of a program.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramAsked {
    /// Take what is in the `raw/` of one fabric, with choices for this once, push included.
    Take(TakeAsked),
    /// Take in what others pushed, or send what is ours, or both.
    Exchange {
        /// Which way.
        direction: Direction,
    },
    /// Make or repair the directories of a fabric, and send it.
    Initialize(InitializeAsked),
    /// Change what holds for one resource.
    Rule(RuleAsked),
    /// Write or remove a file of a fabric, and send it.
    File(FileEdit),
}

impl ProgramAsked {
    /// Says whether answering it may leave commits that the remote lacks.
    pub(super) fn may_commit(&self) -> bool {
        match self {
            ProgramAsked::Take(it) => !it.dry_run,
            ProgramAsked::Exchange { .. } | ProgramAsked::Initialize(_) | ProgramAsked::File(_) => {
                true
            }
            ProgramAsked::Rule(_) => false,
        }
    }
}

/// The answer to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramAnswer {
    /// To `take`.
    Taken(IngestReport),
    /// To `exchange`.
    Exchanged(ExchangeReport),
    /// To `initialize`.
    Initialized(InitializeReport),
    /// To `rule`: what holds now.
    Rule(ResourceRule),
    /// To `file`.
    File(FileChange),
}

/// What an exchange with the remote did.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExchangeReport {
    /// What became of the drops, by fabric.
    pub reports: Vec<IngestReport>,
    /// Resources whose conflicts are new.
    pub conflicts: Vec<ResourceId>,
    /// How far the commits went.
    pub delivery: Delivery,
}

/// Answers it, or does it and sends what came of it.
pub(super) fn answer(
    lane: &mut Lane,
    asked: &ProgramAsked,
    asker: Option<&Asker>,
    trigger: Trigger,
) -> Result<ProgramAnswer, Error> {
    Ok(match asked {
        ProgramAsked::Take(it) => {
            let cause = desk::cause(lane, asker);
            let mut report = take::take(lane, it, &cause)?;
            if !it.dry_run {
                report.delivery = desk::delivery(lane);
            }
            ProgramAnswer::Taken(report)
        }
        ProgramAsked::Exchange { direction } => {
            ProgramAnswer::Exchanged(exchange(lane, *direction, asker)?)
        }
        ProgramAsked::Initialize(it) => {
            let mut report = take::initialize(lane, it, trigger)?;
            if report.commit_id.is_some() {
                report.delivery = desk::delivery(lane);
            }
            ProgramAnswer::Initialized(report)
        }
        ProgramAsked::Rule(it) => ProgramAnswer::Rule(take::rule(lane, it)?),
        ProgramAsked::File(it) => {
            let mut change = files::change(lane, it, trigger)?;
            if change.commit_id.is_some() {
                change.delivery = desk::delivery(lane);
            }
            ProgramAnswer::File(change)
        }
    })
}

/// What others have comes in first, then what is ours goes out.
fn exchange(
    lane: &mut Lane,
    direction: Direction,
    asker: Option<&Asker>,
) -> Result<ExchangeReport, Error> {
    let known: HashSet<ResourceId> = lane.store.conflicts()?.iter().map(|it| it.id).collect();
    let mut report =
        ExchangeReport { reports: Vec::new(), conflicts: Vec::new(), delivery: Delivery::Nothing };
    if matches!(direction, Direction::Bidirectional | Direction::GitToRecord) {
        sync::take_in(lane)?;
        let head = lane.head_to_commit_on()?.commit;
        for n in 0..lane.fabrics.len() {
            super::follow::records_follow_head(lane, n, head)?;
        }
    }
    if matches!(direction, Direction::Bidirectional | Direction::RecordToGit) {
        report.reports = desk::ingest_for(lane, false, asker)?;
        report.delivery =
            report.reports.first().map_or(Delivery::Nothing, |it| it.delivery.clone());
    }
    let all = lane.store.conflicts()?.into_iter();
    report.conflicts = all.filter(|it| !known.contains(&it.id)).map(|it| it.id).collect();
    Ok(report)
}
