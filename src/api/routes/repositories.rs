//! Repositories.

use super::fabrics::Part;
use crate::api::auth::Caller;
use crate::api::body::{InPath, Query};
use crate::api::house::{House, LaneDoor};
use crate::api::pages::{Links, Page, Window};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::wire::fabric::RepositoryView;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// All repositories that have a fabric which the caller may look at.
#[utoipa::path(get, path = "/api/v1/repositories", tag = "repositories", params(Part),
    responses((status = 200, description = "A page of repositories.", body = Page<RepositoryView>)))]
pub(in crate::api) async fn list(
    State(house): State<Arc<House>>,
    caller: Caller,
    Query(part): Query<Part>,
    links: Links,
) -> Result<Json<Page<RepositoryView>>, Refusal> {
    let window = Window::of(part.limit, part.offset)?;
    let seen: Vec<&Arc<LaneDoor>> =
        house.lanes.iter().filter(|it| it.is_reached_by(&caller)).collect();
    let (count, some) = window.cut(seen);
    Ok(Json(links.page(window, count, some.iter().map(|it| RepositoryView::of(it)).collect())))
}

/// One repository.
#[utoipa::path(get, path = "/api/v1/repositories/{id}", tag = "repositories",
    params(("id" = String, Path, description = "The repository's id, or the name of its directory.")),
    responses((status = 200, description = "The repository.", body = RepositoryView)))]
pub(in crate::api) async fn show(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<RepositoryView>, Refusal> {
    let lane = house.lane(&id)?;
    if !lane.is_reached_by(&caller) {
        let message = format!("{} may not reach any fabric of `{id}`", caller.actor);
        return Err(Refusal::new(ErrorCode::RepositoryAccessDenied, message));
    }
    Ok(Json(RepositoryView::of(lane)))
}
