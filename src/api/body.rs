//! What a request brings: read within a limit and a time, judged field by field, refused in our shape.

use super::refusal::{ErrorCode, Refusal};
use crate::step::Mistake;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// No body of JSON is larger, in bytes: the text of a resource and a little more.
pub(super) const JSON_BYTES_MAX: usize = 1 << 20;
/// How long a client has for its body.
const BODY_TIME_MAX: Duration = Duration::from_secs(60);

/// Of a body that is too large so many bytes are let go by, in so much time.
const DRAINED_BYTES_MAX: usize = 64 << 20;
const DRAIN_TIME_MAX: Duration = Duration::from_secs(5);

/// A JSON body of this type.
pub(super) struct Payload<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Payload<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Payload<T>, Refusal> {
        // A form of a browser is never JSON, so no page of somebody else's can send one.
        if !is_json(request.headers()) {
            let message = "the body must be JSON: send `Content-Type: application/json`";
            return Err(Refusal::new(ErrorCode::UnsupportedMediaType, message));
        }
        let bytes = read(request, JSON_BYTES_MAX).await?;
        json(&bytes).map(Payload)
    }
}

/// A JSON body of this type, or none at all.
pub(super) struct Maybe<T>(pub T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for Maybe<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &S) -> Result<Maybe<T>, Refusal> {
        let typed = request.headers().contains_key(CONTENT_TYPE);
        let known = is_json(request.headers());
        let bytes = read(request, JSON_BYTES_MAX).await?;
        match (bytes.is_empty(), typed && !known) {
            (true, _) => Ok(Maybe(T::default())),
            (false, false) if bytes.trim_ascii() == b"null" => Ok(Maybe(T::default())),
            (false, true) => Err(Refusal::new(
                ErrorCode::UnsupportedMediaType,
                "the body must be JSON: send `Content-Type: application/json`",
            )),
            (false, false) => json(&bytes).map(Maybe),
        }
    }
}

/// Says whether the body is said to be JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let given = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
        || essence.to_ascii_lowercase().ends_with("+json")
}

/// Reads JSON, and says which field is wrong and where.
pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    // The library would take a list for an object, field by field in their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        let message = "the body is wrong: it is a list, and must be an object";
        return Err(Refusal::new(ErrorCode::ValidationFailed, message));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let found = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        match field.as_str() {
            "." | "" | "?" => {
                let message = format!("the body is wrong: {}", error.inner());
                Refusal::new(ErrorCode::ValidationFailed, message)
            }
            field => Refusal::field(field, error.inner().to_string()),
        }
    })?;
    reader.end().map_err(|error| {
        Refusal::new(ErrorCode::ValidationFailed, format!("the body is wrong: {error}"))
    })?;
    Ok(found)
}

/// Reads a body of at most so many bytes.
pub(super) async fn read(request: Request, bytes_max: usize) -> Result<Bytes, Refusal> {
    let bytes_max = if Mistake::UnboundedBody.is_made() { usize::MAX } else { bytes_max };
    let too_large = || {
        let message = format!("the body has more than {bytes_max} bytes");
        Refusal::new(ErrorCode::PayloadTooLarge, message)
    };
    let length = request.headers().get(CONTENT_LENGTH);
    let length = length.and_then(|it| it.to_str().ok()?.parse::<usize>().ok());
    if let Some(length) = length.filter(|it| *it > bytes_max) {
        if length <= DRAINED_BYTES_MAX {
            drain(request.into_body()).await;
        }
        return Err(too_large());
    }
    let body: Limited<Body> = Limited::new(request.into_body(), bytes_max);
    match tokio::time::timeout(BODY_TIME_MAX, body.collect()).await {
        Ok(Ok(it)) => Ok(it.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Refusal::new(ErrorCode::ValidationFailed, "the body ended early")),
        Err(_) => Err(Refusal::new(ErrorCode::TimeoutError, "the body took too long")
            .status(StatusCode::REQUEST_TIMEOUT)),
    }
}

/// Lets a client finish that is about to hear no: many only listen when they have said everything.
async fn drain(mut body: Body) {
    let draining = async { while let Some(Ok(_)) = body.frame().await {} };
    // Whoever is slower hears a closed connection.
    let _ = tokio::time::timeout(DRAIN_TIME_MAX, draining).await;
}

/// The query of this type; what it does not know is refused.
pub(super) struct Query<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Query<T>, Refusal> {
        let found = axum::extract::Query::<T>::try_from_uri(&parts.uri);
        found.map(|it| Query(it.0)).map_err(|error| {
            let mut why = error.to_string();
            if let Some(source) = std::error::Error::source(&error) {
                why = source.to_string();
            }
            let named = why.split(':').next().unwrap_or_default();
            let field = parts.uri.query().unwrap_or_default().split('&');
            let mut field = field.filter_map(|it| it.split('=').next());
            match field.find(|it| *it == named || why.contains(&format!("`{it}`"))) {
                Some(field) => Refusal::field(field, why.clone()),
                None => {
                    Refusal::new(ErrorCode::ValidationFailed, format!("the query is wrong: {why}"))
                }
            }
        })
    }
}

/// The parts of the path; each is plain text.
pub(super) struct InPath<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for InPath<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<InPath<T>, Refusal> {
        let found = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        found.map(|it| InPath(it.0)).map_err(|error| {
            Refusal::new(ErrorCode::ValidationFailed, format!("the path is wrong: {error}"))
        })
    }
}
