//! Whether the agent lives, whether it is ready, what it counts, and what it answers.

use crate::api::auth::Caller;
use crate::api::house::House;
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use utoipa::ToSchema;

/// What a monitor wants to hear.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// `ok`.
    pub status: &'static str,
    /// The agent's version.
    pub version: &'static str,
}

const OK: Health = Health { status: "ok", version: env!("CARGO_PKG_VERSION") };

/// Says that the agent lives.
#[utoipa::path(get, path = "/healthz", tag = "health", security(()),
    responses((status = 200, description = "It lives.", body = Health)))]
pub(in crate::api) async fn healthz() -> Json<Health> {
    Json(OK)
}

/// Says that every lane is through recovery and takes drops.
#[utoipa::path(get, path = "/readyz", tag = "health", security(()),
    responses((status = 200, description = "Drops are taken.", body = Health)))]
pub(in crate::api) async fn readyz(
    State(house): State<Arc<House>>,
) -> Result<Json<Health>, Refusal> {
    match house.is_ready() {
        true => Ok(Json(OK)),
        false => {
            Err(Refusal::new(ErrorCode::Unavailable, "a lane is not through recovery yet").after(1))
        }
    }
}

/// What the agent counts, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Counters.", body = String, content_type = "text/plain")))]
pub(in crate::api) async fn metrics(
    State(house): State<Arc<House>>,
    caller: Caller,
) -> Result<impl IntoResponse, Refusal> {
    caller.may(Scope::Read, None)?;
    let mut out = String::new();
    house.metrics.write(&mut out);
    for it in house.fabrics(&caller) {
        let (name, lane) = (it.name(), &it.lane.id);
        let labels = format!("repository=\"{lane}\",fabric=\"{name}\"");
        let count = it.lane.store.records_count(name);
        // Writing to a string does not fail.
        let _ = writeln!(out, "git_intake_records{{{labels}}} {count}");
        let held = u8::from(it.shown.held.is_some());
        let _ = writeln!(out, "git_intake_held{{{labels}}} {held}");
    }
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], out))
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "health", security(()),
    responses((status = 200, description = "OpenAPI 3.1.", body = serde_json::Value)))]
pub(in crate::api) async fn openapi() -> impl IntoResponse {
    static TEXT: OnceLock<String> = OnceLock::new();
    let text = TEXT.get_or_init(|| {
        // What is made of plain values can be written down.
        crate::api::openapi::document().to_json().unwrap_or_default()
    });
    ([(CONTENT_TYPE, "application/json")], text.as_str())
}
