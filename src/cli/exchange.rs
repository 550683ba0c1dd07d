//! The commands that synchronise, undo and release, and those about fabrics.

use super::args::exchange as args;
use super::commands::{self, answered, unexpected};
use super::decide::actor;
use super::reach::Reach;
use super::{Context, Failure, HELD, exchanged};
use crate::agent::desk::{Answer, Request};
use crate::agent::exchange::SyncAsked;
use crate::agent::fabrics::{AddFabric, FabricChange, FabricView, RemoveFabric, SetFabric};
use crate::agent::tidy::TidyAsked;
use crate::model::report::Delivery;

fn reach(it: &super::args::Listing, context: &Context) -> Result<Reach, Failure> {
    Reach::find(it.repo.as_deref(), context.config.as_deref())
}

/// The exit code that a delivery gives.
fn code(delivery: &Delivery) -> u8 {
    match delivery {
        Delivery::Held { .. } => HELD,
        Delivery::Waiting { .. } => 1,
        Delivery::Nothing
        | Delivery::Pushed { .. }
        | Delivery::Proposed { .. }
        | Delivery::Local => 0,
    }
}

pub(super) fn sync(it: &args::Sync, context: &Context) -> Result<u8, Failure> {
    let asked = SyncAsked {
        direction: it.direction.into(),
        strategy: it.strategy.map(Into::into),
        dry_run: it.dry_run,
        ..SyncAsked::default()
    };
    let answer = reach(&it.listing, context)?.ask(&Request::Sync(asked))?;
    let Answer::Synced(report) = answer else { return Err(unexpected()) };
    answered(it.listing.json, &report, exchanged::synced(&report, context.colored))?;
    let waits = !report.conflicts.is_empty()
        || !report.holds.is_empty()
        || !report.overlaps.is_empty()
        || commands::code(&report.ingested) == HELD;
    Ok(if waits { HELD } else { code(&report.delivery) })
}

pub(super) fn release(it: &args::Release, context: &Context) -> Result<u8, Failure> {
    let request = Request::Release {
        fabric: it.fabric.clone(),
        restore: it.restore,
        actor: actor(it.actor.as_deref()),
    };
    let answer = reach(&it.listing, context)?.ask(&request)?;
    let Answer::Released(report) = answer else { return Err(unexpected()) };
    answered(it.listing.json, &report, exchanged::released(&report, context.colored))?;
    Ok(code(&report.delivery))
}

pub(super) fn revert(it: &args::Revert, context: &Context) -> Result<u8, Failure> {
    let request = Request::Revert {
        operation: it.operation.clone(),
        strategy: it.strategy.map(Into::into),
        actor: actor(it.actor.as_deref()),
        dry_run: it.dry_run,
    };
    let answer = reach(&it.listing, context)?.ask(&request)?;
    let Answer::Reverted(report) = answer else { return Err(unexpected()) };
    answered(it.listing.json, &report, exchanged::reverted(&report, context.colored))?;
    let open = report.files.iter().any(|it| !it.open.is_empty());
    Ok(if open { HELD } else { code(&report.delivery) })
}

pub(super) fn fabric(it: args::Fabric, context: &Context) -> Result<u8, Failure> {
    match it {
        args::Fabric::List(it) => {
            let Answer::Fabrics(all) = reach(&it, context)?.ask(&Request::Fabrics)? else {
                return Err(unexpected());
            };
            answered(it.json, &all, exchanged::fabrics(&all, context.colored))?;
            Ok(0)
        }
        args::Fabric::Show(it) => {
            let answer =
                reach(&it.listing, context)?.ask(&Request::Fabric { name: it.name.clone() })?;
            shown(answer, it.listing.json, context)
        }
        args::Fabric::Set(it) => {
            let request = Request::SetFabric(SetFabric {
                name: it.name,
                mode: it.mode.map(Into::into),
                on_delete: it.on_delete.map(Into::into),
                conflict: it.conflict.map(Into::into),
                archive: None,
                layout: None,
                on_invalid: None,
                on_unsupported: None,
            });
            shown(reach(&it.listing, context)?.ask(&request)?, it.listing.json, context)
        }
        args::Fabric::Add(it) => {
            let request = Request::AddFabric(AddFabric {
                name: it.name,
                dir: it.dir,
                mode: it.mode.map(Into::into),
                on_delete: None,
                conflict: None,
                restore: it.restore,
                actor: actor(it.actor.as_deref()),
            });
            let reach = Reach::find_any(it.listing.repo.as_deref(), context.config.as_deref())?;
            changed(reach.ask(&request)?, "is there", it.listing.json, context)
        }
        args::Fabric::Tidy(it) => {
            let request = Request::Tidy(TidyAsked {
                fabric: it.name,
                actor: actor(it.actor.as_deref()),
                dry_run: it.dry_run,
            });
            let answer = reach(&it.listing, context)?.ask(&request)?;
            let Answer::Tidied(report) = answer else { return Err(unexpected()) };
            answered(it.listing.json, &report, exchanged::tidied(&report, context.colored))?;
            Ok(if report.left.is_empty() { code(&report.delivery) } else { HELD })
        }
        args::Fabric::Remove(it) => {
            let request = Request::RemoveFabric(RemoveFabric {
                name: it.name,
                purge: it.purge,
                backup: it.backup,
                actor: actor(it.actor.as_deref()),
                dry_run: it.dry_run,
            });
            let word = if it.dry_run { "would be removed" } else { "is removed" };
            changed(reach(&it.listing, context)?.ask(&request)?, word, it.listing.json, context)
        }
    }
}

fn shown(answer: Answer, json: bool, context: &Context) -> Result<u8, Failure> {
    let Answer::Fabric(view) = answer else { return Err(unexpected()) };
    let view: FabricView = *view;
    answered(json, &view, exchanged::fabric(&view, context.colored))?;
    Ok(0)
}

fn changed(answer: Answer, word: &str, json: bool, context: &Context) -> Result<u8, Failure> {
    let Answer::FabricChanged(change) = answer else { return Err(unexpected()) };
    let change: FabricChange = *change;
    answered(json, &change, exchanged::changed(&change, word, context.colored))?;
    Ok(code(&change.delivery))
}
