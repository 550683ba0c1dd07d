//! What every answer wears: a request id, headers that keep browsers and caches out, one shape of no.

use super::auth::Caller;
use super::house::House;
use super::refusal::{ErrorBody, ErrorCode, Refusal};
use crate::clock;
use crate::model::ids::OperationId;
use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Names a request, from the client or from us.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NO_SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
/// A client's own id is not longer.
const ID_BYTES_MAX: usize = 64;
/// What a library says of a mistake is not longer, in bytes.
const WORDS_BYTES_MAX: usize = 8 << 10;

/// The id of the request under way.
#[derive(Debug, Clone)]
pub(super) struct RequestId(pub String);

/// The outermost layer.
pub(super) async fn dress(
    State(house): State<Arc<House>>,
    mut request: Request,
    next: Next,
) -> Response {
    let id = id_of(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let begun = clock::instant();
    let method = request.method().clone();
    let mut response = next.run(request).await;
    let status = response.status();
    if status.is_client_error() || status.is_server_error() {
        response = in_our_shape(response, &id).await;
    }
    let headers = response.headers_mut();
    if let Ok(it) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, it);
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(NO_SNIFF, HeaderValue::from_static("nosniff"));
    house.metrics.answered(&method, response.status(), clock::instant().duration_since(begun));
    response
}

fn id_of(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|it| it.to_str().ok());
    let plain = |it: &&str| {
        (1..=ID_BYTES_MAX).contains(&it.len())
            && it.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    };
    given.filter(plain).map_or_else(|| OperationId::new(clock::now()).to_string(), str::to_owned)
}

async fn in_our_shape(response: Response, id: &str) -> Response {
    let (mut parts, body) = response.into_parts();
    let refusal = match parts.extensions.remove::<Refusal>() {
        Some(it) => it,
        None => {
            let words = to_bytes(body, WORDS_BYTES_MAX).await.unwrap_or_default();
            of_a_library(parts.status, &String::from_utf8_lossy(&words))
        }
    };
    let caller = parts.extensions.get::<Caller>().map(|it| it.actor.as_str());
    if refusal.status.is_server_error() {
        let (status, reason) = (refusal.status.as_u16(), &refusal.message);
        tracing::warn!(request_id = id, status, caller, reason, "a request could not be served");
    }
    let body = ErrorBody {
        error: refusal.message,
        error_code: refusal.code,
        details: refusal.details,
        request_id: id.to_owned(),
        timestamp: clock::now().to_string(),
    };
    let mut response = (refusal.status, Json(body)).into_response();
    let headers = response.headers_mut();
    if let Some(it) = parts.headers.remove(ALLOW) {
        headers.insert(ALLOW, it);
    }
    if let Some(seconds) = refusal.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// A no that no handler of ours gave.
fn of_a_library(status: StatusCode, words: &str) -> Refusal {
    let code = match status {
        StatusCode::NOT_FOUND => ErrorCode::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ErrorCode::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::PayloadTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ErrorCode::UnsupportedMediaType,
        StatusCode::REQUEST_TIMEOUT => ErrorCode::TimeoutError,
        it if it.is_server_error() => ErrorCode::InternalError,
        _ => ErrorCode::ValidationFailed,
    };
    let words = words.trim();
    let message = match (code, words.is_empty()) {
        (ErrorCode::NotFound, true) => "there is no such route; see /api/v1/openapi.json",
        (ErrorCode::MethodNotAllowed, true) => "the route exists, but not for this method",
        (ErrorCode::InternalError, _) => "a mistake of the agent's own; its place is in the log",
        (_, true) => status.canonical_reason().unwrap_or("the request was refused"),
        (_, false) => words,
    };
    Refusal::new(code, message).status(status)
}
