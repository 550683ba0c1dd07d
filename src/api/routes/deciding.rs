//! Conflicts are looked at closely and decided: singly, field by field, or in bulk.

use super::blocking;
use crate::agent::conflicts::{self, Decided};
use crate::agent::desk::{Answer, Request};
use crate::api::audit::Became;
use crate::api::auth::Caller;
use crate::api::body::{InPath, Payload, Query};
use crate::api::house::{FabricDoor, House, asker};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::api::wire::change::DeliveryView;
use crate::api::wire::conflict::{ConflictDetail, ResolveOutcome, SideView, Strategy};
use crate::model::field::FieldPath;
use crate::model::key::ResourceId;
use crate::model::record::Conflict;
use crate::model::report::ResolveReport;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// How many conflicts one request resolves.
const BULK_MAX: usize = 1_000;

/// What to show beside the contents.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Preview {
    /// What the file would hold if it were resolved so; `merge` where it is left out.
    #[param(inline)]
    pub strategy: Option<Strategy>,
}

/// A decision about one conflict.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Resolution {
    /// For what no decision is about.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// For single fields, or all below one: which side counts.
    #[serde(default)]
    pub user_decisions: BTreeMap<String, SideView>,
    /// This text instead, as YAML or JSON.
    #[serde(default)]
    pub content: Option<String>,
    /// More.
    #[serde(default)]
    pub options: Options,
}

/// How a decision is carried out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Options {
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
    /// By a pull request: refused, since conflicts are resolved by a commit.
    #[serde(default)]
    pub create_pr: bool,
}

/// A decision about several conflicts of a fabric.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct BulkResolution {
    /// Which, by their ids; none are all of the fabric.
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub conflict_ids: Vec<String>,
    /// How.
    pub strategy: Strategy,
    /// More.
    #[serde(default)]
    pub options: Options,
}

/// What became of several.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct BulkOutcome {
    /// How many are over, or would be.
    pub resolved: u64,
    /// How many stay.
    pub unresolved: u64,
    /// Each.
    pub results: Vec<ResolveOutcome>,
    /// How far the commits went.
    pub delivery: DeliveryView,
}

/// One conflict with its three contents, and what a strategy would make of it.
#[utoipa::path(get, path = "/api/v1/conflicts/{id}", tag = "conflicts",
    params(("id" = String, Path, description = "The conflict's id."), Preview),
    responses((status = 200, description = "The conflict.", body = ConflictDetail)))]
pub(in crate::api) async fn show(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Query(preview): Query<Preview>,
) -> Result<Json<ConflictDetail>, Refusal> {
    let (fabric, conflict) = find(&house, &caller, &id, Scope::Read)?;
    let strategy = preview.strategy.map(Strategy::model);
    let decided = Decided { strategy, fields: BTreeMap::new() };
    let limits = house.settings.yaml.limits();
    let found = blocking(move || {
        let lane = &fabric.lane;
        let kind = lane.store.record(&conflict.id)?.map(|it| it.key.kind);
        let shown =
            lane.reader.with(|repo| Ok(conflicts::shown(repo, limits, conflict, &decided)))?;
        Ok(ConflictDetail::of(shown?, kind))
    });
    Ok(Json(found.await?))
}

/// Resolves a conflict by a commit that says who decided, and how.
#[utoipa::path(post, path = "/api/v1/conflicts/{id}/resolve", tag = "conflicts",
    request_body = Resolution, params(("id" = String, Path, description = "The conflict's id."),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses((status = 200, description = "It is over, or would be.", body = ResolveOutcome)))]
pub(in crate::api) async fn resolve(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Payload(it): Payload<Resolution>,
) -> Result<Response, Refusal> {
    by_commit(&it.options)?;
    let (fabric, conflict) = find(&house, &caller, &id, Scope::Write)?;
    if it.strategy.is_none() && it.user_decisions.is_empty() && it.content.is_none() {
        return Err(Refusal::unfit("strategy", "decide: a strategy, fields or a content"));
    }
    let mut fields: BTreeMap<FieldPath, _> = BTreeMap::new();
    for (path, side) in &it.user_decisions {
        let path = path
            .parse()
            .map_err(|why| Refusal::unfit("user_decisions", format!("`{path}`: {why}")))?;
        fields.insert(path, side.model());
    }
    let decided = Decided { strategy: it.strategy.map(Strategy::model), fields };
    let names = vec![conflict.id.to_string()];
    let report =
        carry_out(&fabric, &caller, names, decided, it.content, it.options.dry_run).await?;
    let delivery = DeliveryView::from(&report.delivery);
    let outcome = report.conflicts.into_iter().next();
    let outcome = outcome.map(|it| ResolveOutcome::of(it, Some(delivery)));
    let Some(outcome) = outcome else {
        return Err(Refusal::new(ErrorCode::ConflictNotFound, "the conflict is over already"));
    };
    if !outcome.resolved {
        let reason = outcome.reason.unwrap_or_else(|| "it stays".to_owned());
        let mut refusal = Refusal::new(ErrorCode::ConflictResolutionFailed, reason)
            .suggest("decide the fields by user_decisions, or send the content");
        for it in &outcome.open {
            refusal.details.field_errors.insert(it.path.clone(), vec!["undecided".to_owned()]);
        }
        return Err(refusal);
    }
    let became =
        Became { operation_id: outcome.operation_id.clone(), commit_id: outcome.commit_id.clone() };
    let mut response = Json(outcome).into_response();
    response.extensions_mut().insert(became);
    Ok(response)
}

/// Resolves several conflicts of a fabric the same way; one that stays keeps no other.
#[utoipa::path(post, path = "/api/v1/fabrics/{id}/conflicts/resolve-bulk", tag = "conflicts",
    request_body = BulkResolution, params(("id" = String, Path, description = "The fabric's name."),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses((status = 200, description = "What became of each.", body = BulkOutcome)))]
pub(in crate::api) async fn resolve_bulk(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Payload(it): Payload<BulkResolution>,
) -> Result<Json<BulkOutcome>, Refusal> {
    by_commit(&it.options)?;
    let fabric = house.fabric(&caller, &id, Scope::Write)?;
    let all = fabric.lane.store.conflicts()?;
    let ours = all.iter().filter(|it| it.fabric == *fabric.name()).map(|it| it.id.to_string());
    let ours: Vec<String> = ours.collect();
    if it.conflict_ids.len() > BULK_MAX {
        return Err(Refusal::field("conflict_ids", format!("name {BULK_MAX} at most")));
    }
    let names = match it.conflict_ids.is_empty() {
        true => ours.into_iter().take(BULK_MAX).collect(),
        false => {
            if let Some(strange) = it.conflict_ids.iter().find(|it| !ours.contains(it)) {
                let message = format!("there is no conflict `{strange}` in fabric {id}");
                return Err(Refusal::new(ErrorCode::ConflictNotFound, message));
            }
            it.conflict_ids
        }
    };
    let decided = Decided { strategy: Some(it.strategy.model()), fields: BTreeMap::new() };
    // No names would be all of the repository.
    let report = match names.is_empty() {
        true => ResolveReport {
            conflicts: Vec::new(),
            delivery: crate::model::report::Delivery::Nothing,
        },
        false => carry_out(&fabric, &caller, names, decided, None, it.options.dry_run).await?,
    };
    let delivery = DeliveryView::from(&report.delivery);
    let results: Vec<ResolveOutcome> =
        report.conflicts.into_iter().map(|it| ResolveOutcome::of(it, None)).collect();
    let resolved = results.iter().filter(|it| it.resolved).count() as u64;
    let unresolved = results.len() as u64 - resolved;
    Ok(Json(BulkOutcome { resolved, unresolved, results, delivery }))
}

fn by_commit(options: &Options) -> Result<(), Refusal> {
    match options.create_pr {
        true => Err(Refusal::unfit(
            "options.create_pr",
            "conflicts are resolved by a commit; leave it out",
        )),
        false => Ok(()),
    }
}

async fn carry_out(
    fabric: &FabricDoor,
    caller: &Caller,
    names: Vec<String>,
    decided: Decided,
    text: Option<String>,
    dry_run: bool,
) -> Result<ResolveReport, Refusal> {
    let actor = caller.actor.clone();
    let request = Request::Resolve { names, decided, text, actor, dry_run };
    match fabric.lane.ask(request, asker(caller)).await? {
        Answer::Resolved(it) => Ok(it),
        other => Err(Refusal::of(other, ErrorCode::ConflictNotFound)),
    }
}

fn find(
    house: &House,
    caller: &Caller,
    id: &str,
    scope: Scope,
) -> Result<(FabricDoor, Conflict), Refusal> {
    let absent =
        || Refusal::new(ErrorCode::ConflictNotFound, format!("there is no conflict `{id}`"));
    let wanted = ResourceId(id.parse().map_err(|_| absent())?);
    for lane in &house.lanes {
        if let Some(it) = lane.store.conflict(&wanted)? {
            let fabric = house.fabric(caller, it.fabric.as_str(), scope)?;
            return Ok((fabric, it));
        }
    }
    Err(absent())
}
