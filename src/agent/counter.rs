//! The desk's answers about fabrics, both ways at once, and what is undone, released or told.

use super::desk::{self, Answer, Asker, Live, Request, delivery};
use super::fabrics::FabricChange;
use super::lane::Lane;
use super::turn::Turned;
use super::{Error, exchange, fabrics, release, revert, tidy, view};
use crate::model::account::{Hold, ReleaseReport};
use crate::model::report::{Delivery, IngestReport};

/// Answers what the desk passes on.
pub(super) fn answer(lane: &mut Lane, request: &Request, live: &Live) -> Result<Answer, Error> {
    Ok(match request {
        Request::Fabrics => Answer::Fabrics(fabrics::list(lane)?),
        Request::Fabric { name } => Answer::Fabric(Box::new(fabrics::show(lane, name)?)),
        Request::AddFabric(it) => {
            let change = fabrics::add(lane, it, live.trigger())?;
            Answer::FabricChanged(Box::new(sent(lane, change)))
        }
        Request::SetFabric(it) => Answer::Fabric(Box::new(fabrics::set(lane, it)?)),
        Request::RemoveFabric(it) => {
            let change = fabrics::remove(lane, it, live.trigger())?;
            Answer::FabricChanged(Box::new(sent(lane, change)))
        }
        Request::Tidy(it) => {
            let mut report = tidy::tidy(lane, it, live.trigger())?;
            if report.commit_id.is_some() {
                report.delivery = delivery(lane);
            }
            Answer::Tidied(Box::new(report))
        }
        Request::Sync(it) => {
            Answer::Synced(Box::new(exchange::sync(lane, it, live.asker.as_ref())?))
        }
        Request::Revert { operation, strategy, actor, dry_run } => {
            let mut report =
                revert::revert(lane, operation, *strategy, actor, live.trigger(), *dry_run)?;
            if report.commit_id.is_some() {
                report.delivery = delivery(lane);
            }
            Answer::Reverted(Box::new(report))
        }
        Request::Release { fabric, restore, actor } => {
            let released =
                release::release(lane, fabric.as_ref(), *restore, actor, live.trigger())?;
            Answer::Released(ReleaseReport { released, delivery: delivery(lane) })
        }
        Request::Orphans => Answer::Orphans(lane.store.orphans().collect::<Result<_, _>>()?),
        Request::View { name } => Answer::View(Box::new(view::view(lane, name)?)),
        Request::ClearModifications { name } => {
            view::clear_modifications(lane, name)?;
            Answer::View(Box::new(view::view(lane, name)?))
        }
        Request::TellActual { name, text } => {
            view::tell_actual(lane, name, text.as_deref())?;
            Answer::View(Box::new(view::view(lane, name)?))
        }
        _ => return Err(Error::NotFound { what: "answer to this question here".to_owned() }),
    })
}

fn sent(lane: &mut Lane, change: FabricChange) -> FabricChange {
    match change.commit_id {
        Some(_) => FabricChange { delivery: delivery(lane), ..change },
        None => change,
    }
}

/// What went out, and how far it came.
pub(super) struct Outgoing {
    pub reports: Vec<IngestReport>,
    pub delivery: Delivery,
}

/// Takes what is in `raw/` of every fabric, and sends it with what is committed here already.
pub(super) fn take_and_send(lane: &mut Lane, asker: Option<&Asker>) -> Result<Outgoing, Error> {
    let reports = desk::ingest_for(lane, false, asker)?;
    let sent = reports.iter().find(|it| !matches!(it.delivery, Delivery::Held { .. }));
    let delivery = match sent {
        Some(it) => it.delivery.clone(),
        None => delivery(lane),
    };
    Ok(Outgoing { reports, delivery })
}

/// What became of a fabric that waits for a person.
pub(super) fn waiting(hold: &Hold, dry_run: bool) -> IngestReport {
    IngestReport {
        fabric: hold.fabric.clone(),
        operation: None,
        commit_id: None,
        files: Vec::new(),
        stages: Vec::new(),
        delivery: Delivery::Held { reason: hold.reason.clone() },
        dry_run,
    }
}

/// What a turn did, for whoever asked for it.
pub(super) fn report(lane: &Lane, n: usize, turned: Turned, dry_run: bool) -> IngestReport {
    IngestReport {
        fabric: lane.fabrics[n].fabric.name.clone(),
        operation: turned.operation.as_ref().map(|it| it.id),
        commit_id: turned.operation.and_then(|it| it.state.commit_id()),
        files: turned.files,
        stages: turned.stages,
        delivery: Delivery::Nothing,
        dry_run,
    }
}
