//! The routes: which path leads to which answer, and what stands before all of them.

mod adopting;
mod audit;
mod conflicts;
mod contents;
mod deciding;
mod edits;
mod events;
mod fabrics;
mod founding;
mod health;
mod hooks;
mod insight;
mod intake;
mod operations;
mod outcome;
mod preview;
mod repositories;
mod resources;
mod standing;
mod syncing;
mod taking;
mod undoing;
mod webhooks;

use super::house::House;
use super::{ask, auth, dress, openapi, writes};
use axum::{Router, middleware};
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// All routes that the document describes.
pub(super) fn described() -> OpenApiRouter<Arc<House>> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(health::openapi))
        .routes(routes!(repositories::list, adopting::create))
        .routes(routes!(repositories::show, adopting::change, adopting::remove))
        .routes(routes!(fabrics::list, founding::create))
        .routes(routes!(fabrics::show, founding::change, founding::remove))
        .routes(routes!(undoing::release))
        .routes(routes!(undoing::revert))
        .routes(routes!(standing::orphans))
        .routes(routes!(standing::show))
        .routes(routes!(standing::clear_modifications))
        .routes(routes!(standing::tell_actual))
        .routes(routes!(resources::list, edits::create))
        .routes(routes!(resources::show, edits::replace, edits::change, edits::remove))
        .routes(routes!(operations::list))
        .routes(routes!(operations::show))
        .routes(routes!(conflicts::list))
        .routes(routes!(syncing::sync))
        .routes(routes!(syncing::sync_resource))
        .routes(routes!(syncing::cancel))
        .routes(routes!(syncing::configure))
        .routes(routes!(taking::ingest))
        .routes(routes!(taking::initialize))
        .routes(routes!(deciding::show))
        .routes(routes!(deciding::resolve))
        .routes(routes!(deciding::resolve_bulk))
        .routes(routes!(contents::show, contents::write, contents::remove))
        .routes(routes!(intake::put))
        .routes(routes!(intake::show))
        .routes(routes!(insight::validate))
        .routes(routes!(insight::health))
        .routes(routes!(insight::analytics))
        .routes(routes!(insight::mapping))
        .routes(routes!(events::follow))
        .routes(routes!(hooks::github))
        .routes(routes!(hooks::gitlab))
        .routes(routes!(hooks::gitea))
        .routes(routes!(webhooks::list, webhooks::create))
        .routes(routes!(webhooks::show, webhooks::change, webhooks::remove))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::redeliver))
        .routes(routes!(audit::list))
}

/// The whole door: routes, and around them who may come in, and the shape of every answer.
pub(super) fn router(house: Arc<House>) -> Router {
    Router::from(described())
        .route(ask::ROUTE, ask::route())
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn_with_state(house.clone(), writes::once))
        .layer(middleware::from_fn_with_state(house.clone(), auth::admit))
        .layer(middleware::from_fn_with_state(house.clone(), dress::dress))
        .layer(CompressionLayer::new())
        .with_state(house)
}

/// Runs what reads a disk beside the thread that serves everybody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, super::refusal::Refusal> + Send + 'static,
) -> Result<T, super::refusal::Refusal> {
    use super::refusal::{ErrorCode, Refusal};
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        tracing::error!(%error, "a read went wrong");
        Err(Refusal::new(ErrorCode::InternalError, "a mistake of the agent's own"))
    })
}
