//! An answer to a write, with what it became for the audit.

use crate::api::audit::Became;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// The answer, and beside it the operation and the commit for the audit.
pub(super) fn answered(
    status: StatusCode,
    body: impl Serialize,
    (operation_id, commit_id): (Option<String>, Option<String>),
) -> Response {
    let mut response = (status, Json(body)).into_response();
    response.extensions_mut().insert(Became { operation_id, commit_id });
    response
}
