//! Fabrics.

use crate::api::auth::Caller;
use crate::api::body::{InPath, Query};
use crate::api::house::House;
use crate::api::pages::{Links, Page, Window};
use crate::api::refusal::Refusal;
use crate::api::tokens::Scope;
use crate::api::wire::fabric::FabricView;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which part of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Part {
    /// How many, 1 to 1000; 50 where it is left out.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// How many to pass over.
    #[param(minimum = 0, maximum = 1000000000)]
    pub offset: Option<usize>,
}

/// All fabrics that the caller may look at.
#[utoipa::path(get, path = "/api/v1/fabrics", tag = "fabrics", params(Part),
    responses((status = 200, description = "A page of fabrics.", body = Page<FabricView>)))]
pub(in crate::api) async fn list(
    State(house): State<Arc<House>>,
    caller: Caller,
    Query(part): Query<Part>,
    links: Links,
) -> Result<Json<Page<FabricView>>, Refusal> {
    let window = Window::of(part.limit, part.offset)?;
    let (count, some) = window.cut(house.fabrics(&caller));
    let views: Result<Vec<FabricView>, _> = some.iter().map(FabricView::of).collect();
    Ok(Json(links.page(window, count, views?)))
}

/// One fabric.
#[utoipa::path(get, path = "/api/v1/fabrics/{id}", tag = "fabrics",
    params(("id" = String, Path, description = "The fabric's name.")),
    responses((status = 200, description = "The fabric.", body = FabricView)))]
pub(in crate::api) async fn show(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<FabricView>, Refusal> {
    let fabric = house.fabric(&caller, &id, Scope::Read)?;
    Ok(Json(FabricView::of(&fabric)?))
}
