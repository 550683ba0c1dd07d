//! Row 4 of the line for all drops of a turn: many are judged on all cores.
//!
//! A file that makes the stage itself fail is set apart by name, and the agent goes on. One that ends
//! the process is found out by the next ([`super::suspects`]).

use super::lane::Lane;
use crate::cores;
use crate::model::document::{Intake, Rejected, Validated};
use crate::model::problem::Problem;
use crate::pipeline::validation::{self, Rules};
use std::convert::Infallible;

/// Judges what was read of one fabric's `raw/`; each list in the order of the drops.
pub(super) fn validate_all(
    lane: &Lane,
    n: usize,
    intakes: &[Intake],
) -> (Vec<Validated>, Vec<Rejected>) {
    let it = &lane.fabrics[n];
    let rules = Rules { partial: it.strategies.partial.is_some(), ..lane.rules() };
    let judged: Vec<_> = if cores::are_many(intakes.len()) && !lane.suspects.one_by_one() {
        lane.suspects.judging_many();
        let judge = |it: &Intake| Ok::<_, Infallible>(validate(it, &rules));
        let Ok(judged) = cores::on_all(intakes, judge);
        judged
    } else {
        let judge = |intake: &Intake| {
            lane.suspects.judging(&it.fabric.name, &intake.path);
            validate(intake, &rules)
        };
        intakes.iter().map(judge).collect()
    };
    lane.suspects.judged_all();
    let (mut valid, mut rejected) = (Vec::with_capacity(judged.len()), Vec::new());
    for it in judged {
        match it {
            Ok(it) => valid.push(it),
            Err(it) => rejected.push(it),
        }
    }
    (valid, rejected)
}

/// Judges one; a panic of the stage rejects it.
pub(super) fn validate(intake: &Intake, rules: &Rules<'_>) -> Result<Validated, Rejected> {
    let judged = std::panic::AssertUnwindSafe(|| validation::validate(intake.clone(), rules));
    std::panic::catch_unwind(judged).unwrap_or_else(|_| {
        tracing::error!(path = %intake.path, "judging this drop failed; it stays in raw/");
        let problem =
            Problem::error("unjudged", "judging this file failed, which is a mistake of ours");
        let problem =
            problem.hint("report it with the file; written more plainly it may go through");
        Err(Rejected { intake: intake.clone(), problems: vec![problem] })
    })
}
