//! The audit, for reading.

use super::blocking;
use super::fabrics::Part;
use crate::api::audit::AuditEntry;
use crate::api::auth::Caller;
use crate::api::body::Query;
use crate::api::house::House;
use crate::api::pages::{Links, Page, Window};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use axum::Json;
use axum::extract::State;
use std::sync::Arc;

/// How far back the audit can be read here; older lines are in the files beside it.
const ENTRIES_MAX: usize = 10_000;

/// Who changed what, from where, and what came of it, the newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(Part),
    responses((status = 200, description = "A page of the audit.", body = Page<AuditEntry>)))]
pub(in crate::api) async fn list(
    State(house): State<Arc<House>>,
    caller: Caller,
    Query(part): Query<Part>,
    links: Links,
) -> Result<Json<Page<AuditEntry>>, Refusal> {
    caller.may(Scope::Admin, None)?;
    let window = Window::of(part.limit, part.offset)?;
    let newest = blocking(move || {
        house.audit.newest(ENTRIES_MAX).map_err(|error| {
            tracing::error!(%error, "the audit cannot be read");
            Refusal::new(ErrorCode::Unavailable, "the audit cannot be read now")
        })
    });
    let (count, some) = window.cut(newest.await?);
    Ok(Json(links.page(window, count, some)))
}
