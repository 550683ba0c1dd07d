//! Operations: what was done, when and why.

use crate::api::auth::Caller;
use crate::api::body::{InPath, Query};
use crate::api::house::House;
use crate::api::pages::{Links, Page, Window};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::routes::blocking;
use crate::api::tokens::Scope;
use crate::api::wire::operation::{OperationStatus, OperationView};
use crate::model::ids::OperationId;
use crate::model::operation::Headline;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// The journal keeps about so many.
const LOOKED_AT_MAX: usize = 20_000;

/// Which operations.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Wanted {
    /// That have come so far.
    #[param(inline)]
    pub status: Option<OperationStatus>,
    /// That are for this: `ingestion`, say.
    pub operation_type: Option<String>,
    /// That began later than this.
    #[param(value_type = Option<String>, format = DateTime)]
    pub started_after: Option<jiff::Timestamp>,
    /// How many, 1 to 1000; 50 where it is left out.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// How many to pass over.
    #[param(minimum = 0, maximum = 1000000000)]
    pub offset: Option<usize>,
}

/// A fabric's operations, the newest first.
#[utoipa::path(get, path = "/api/v1/fabrics/{id}/sync-operations", tag = "operations",
    params(("id" = String, Path, description = "The fabric's name."), Wanted),
    responses((status = 200, description = "A page of operations.", body = Page<OperationView>)))]
pub(in crate::api) async fn list(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Query(wanted): Query<Wanted>,
    links: Links,
) -> Result<Json<Page<OperationView>>, Refusal> {
    let window = Window::of(wanted.limit, wanted.offset)?;
    let fabric = house.fabric(&caller, &id, Scope::Read)?;
    let jobs = house.jobs.of(fabric.name());
    let page = blocking(move || {
        let all = fabric.lane.store.headlines().take(LOOKED_AT_MAX);
        let all: Vec<Headline> = all.collect::<Result<_, _>>()?;
        let after = |it: jiff::Timestamp| wanted.started_after.is_none_or(|start| it > start);
        let ours = all.into_iter().filter(|it| it.fabric == *fabric.name() && after(it.started_at));
        let asked = jobs.into_iter().map(|it| it.view());
        let asked = asked.filter(|it| {
            let at = it.started_at.parse::<jiff::Timestamp>();
            at.is_ok_and(after)
        });
        let mut all: Vec<OperationView> = ours.map(OperationView::from).chain(asked).collect();
        // Ids sort by time.
        all.sort_by(|a, b| b.id.cmp(&a.id));
        let views = all.into_iter().filter(|it| {
            wanted.status.is_none_or(|status| it.status == status)
                && wanted.operation_type.as_ref().is_none_or(|kind| it.kind == *kind)
        });
        let (count, some) = window.cut(views.collect());
        Ok(links.page(window, count, some))
    });
    Ok(Json(page.await?))
}

/// One operation.
#[utoipa::path(get, path = "/api/v1/sync-operations/{id}", tag = "operations",
    params(("id" = String, Path, description = "The operation's id.")),
    responses((status = 200, description = "The operation.", body = OperationView)))]
pub(in crate::api) async fn show(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<OperationView>, Refusal> {
    let absent =
        || Refusal::new(ErrorCode::OperationNotFound, format!("there is no operation `{id}`"));
    let wanted: OperationId = id.parse().map_err(|_| absent())?;
    if let Some(job) = house.jobs.find(&wanted) {
        caller.may(Scope::Read, Some(&job.fabric))?;
        return Ok(Json(job.view()));
    }
    for lane in &house.lanes {
        if let Some(found) = lane.store.headline(&wanted)? {
            caller.may(Scope::Read, Some(&found.fabric))?;
            return Ok(Json(found.into()));
        }
    }
    Err(absent())
}
