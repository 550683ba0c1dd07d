//! Conflicts: where two contents claim one resource.

use crate::api::auth::Caller;
use crate::api::body::{InPath, Query};
use crate::api::house::House;
use crate::api::pages::{Links, Page, Window};
use crate::api::refusal::Refusal;
use crate::api::tokens::Scope;
use crate::api::wire::conflict::{ConflictState, ConflictView, Severity};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which conflicts.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Wanted {
    /// Over resources of this kind.
    pub resource_kind: Option<String>,
    /// That stand so; those that are resolved are told by the operations that did it.
    #[param(inline)]
    pub status: Option<ConflictState>,
    /// That weigh so much.
    #[param(inline)]
    pub severity: Option<Severity>,
    /// That a strategy can resolve, or cannot.
    pub auto_resolvable: Option<bool>,
    /// How many, 1 to 1000; 50 where it is left out.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// How many to pass over.
    #[param(minimum = 0, maximum = 1000000000)]
    pub offset: Option<usize>,
}

/// A fabric's conflicts that wait for a person.
#[utoipa::path(get, path = "/api/v1/fabrics/{id}/conflicts", tag = "conflicts",
    params(("id" = String, Path, description = "The fabric's name."), Wanted),
    responses((status = 200, description = "A page of conflicts.", body = Page<ConflictView>)))]
pub(in crate::api) async fn list(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Query(wanted): Query<Wanted>,
    links: Links,
) -> Result<Json<Page<ConflictView>>, Refusal> {
    let window = Window::of(wanted.limit, wanted.offset)?;
    let fabric = house.fabric(&caller, &id, Scope::Read)?;
    let store = &fabric.lane.store;
    let mut found = Vec::new();
    for it in store.conflicts()?.iter().filter(|it| it.fabric == *fabric.name()) {
        let kind = store.record(&it.id)?.map(|it| it.key.kind);
        found.push(ConflictView::of(it, kind));
    }
    found.retain(|it| {
        let kind = it.resource_kind.as_deref().unwrap_or_default();
        wanted.resource_kind.as_ref().is_none_or(|wanted| wanted.eq_ignore_ascii_case(kind))
            && wanted.status.is_none_or(|wanted| wanted == it.status)
            && wanted.severity.is_none_or(|wanted| wanted == it.severity)
            && wanted.auto_resolvable.is_none_or(|wanted| wanted == it.auto_resolvable)
    });
    let (count, some) = window.cut(found);
    Ok(Json(links.page(window, count, some)))
}
