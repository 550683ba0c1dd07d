//! What waits for a person goes on, and what was done is undone.

use super::outcome::answered;
use crate::agent::desk::{Answer, Request};
use crate::api::auth::Caller;
use crate::api::body::{InPath, Maybe};
use crate::api::house::{House, asker};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::api::wire::account::{ReleaseOutcome, RevertOutcome};
use crate::api::wire::conflict::Strategy;
use crate::model::ids::OperationId;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// How a fabric goes on that waits for a person.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Release {
    /// Bring back what is gone, instead of accepting that it is.
    #[serde(default)]
    pub restore: bool,
}

/// Lets a fabric go on that waits for a person: its `hold` says what for. To bring back what is gone
/// takes the scope `write`; to accept that it is gone takes `admin`, since so much at once may be a
/// mistake, or somebody's who may not know.
#[utoipa::path(post, path = "/api/v1/fabrics/{id}/release", tag = "fabrics",
    request_body = Option<Release>, params(("id" = String, Path, description = "The fabric's name."),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses((status = 200, description = "What goes on.", body = ReleaseOutcome)))]
pub(in crate::api) async fn release(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Maybe(it): Maybe<Release>,
) -> Result<Response, Refusal> {
    let scope = if it.restore { Scope::Write } else { Scope::Admin };
    let fabric = house.fabric(&caller, &id, scope)?;
    let request = Request::Release {
        fabric: Some(fabric.name().clone()),
        restore: it.restore,
        actor: caller.actor.clone(),
    };
    match fabric.lane.ask(request, asker(&caller)).await? {
        Answer::Released(it) => {
            let outcome = ReleaseOutcome::from(it);
            let became = (outcome.operation_id.clone(), outcome.commit_id.clone());
            Ok(answered(StatusCode::OK, outcome, became))
        }
        other => Err(Refusal::of(other, ErrorCode::FabricNotFound)),
    }
}

/// How an operation is undone.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Undoing {
    /// Where a field was changed since; none is what the settings of the fabric say.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// Undoes what an operation changed in `managed/`, by a new commit. What came later stays; where it
/// is in the same fields nothing is undone, unless a strategy decides.
#[utoipa::path(post, path = "/api/v1/sync-operations/{id}/revert", tag = "operations",
    request_body = Option<Undoing>, params(("id" = String, Path, description = "The operation's id."),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses((status = 200, description = "It is undone, or would be.", body = RevertOutcome)))]
pub(in crate::api) async fn revert(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Maybe(it): Maybe<Undoing>,
) -> Result<Response, Refusal> {
    let absent =
        || Refusal::new(ErrorCode::OperationNotFound, format!("there is no operation `{id}`"));
    let wanted: OperationId = id.parse().map_err(|_| absent())?;
    if let Some(job) = house.jobs.find(&wanted) {
        caller.may(Scope::Write, Some(&job.fabric))?;
        let message = "a sync is not one commit, so it is not undone as one";
        return Err(Refusal::new(ErrorCode::Refused, message)
            .suggest("revert the operations that it names in operation_ids"));
    }
    let mut found = None;
    for lane in &house.lanes {
        if let Some(it) = lane.store.headline(&wanted)? {
            found = Some((lane, it));
        }
    }
    let (lane, operation) = found.ok_or_else(absent)?;
    caller.may(Scope::Write, Some(&operation.fabric))?;
    let request = Request::Revert {
        operation: wanted.to_string(),
        strategy: it.strategy.map(Strategy::model),
        actor: caller.actor.clone(),
        dry_run: it.dry_run,
    };
    let outcome = match lane.ask(request, asker(&caller)).await? {
        Answer::Reverted(it) => RevertOutcome::from(*it),
        other => return Err(Refusal::of(other, ErrorCode::OperationNotFound)),
    };
    let open: Vec<String> = outcome
        .files
        .iter()
        .flat_map(|file| file.open.iter().map(move |it| format!("{}: {}", file.path, it.path)))
        .collect();
    if !open.is_empty() && !outcome.dry_run {
        let message = format!("{wanted} is not undone: later changes are in the same fields");
        let mut refusal = Refusal::new(ErrorCode::ConflictDetected, message).suggest(
            "say by `strategy` which side counts (`record_wins` undoes, `git_wins` leaves)",
        );
        for it in open {
            refusal.details.field_errors.insert(it, vec!["changed since".to_owned()]);
        }
        return Err(refusal);
    }
    let became = (outcome.operation_id.clone(), outcome.commit_id.clone());
    Ok(answered(StatusCode::OK, outcome, became))
}
