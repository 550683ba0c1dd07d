//! What a sync would do, without doing it.

use super::taking::{IngestOutcome, outcome};
use crate::agent::desk::{Answer, Request};
use crate::agent::exchange::SyncAsked;
use crate::api::auth::Caller;
use crate::api::house::{FabricDoor, asker};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::wire::word;
use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// What a sync would do.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SyncPreview {
    /// Changes of the fabric that would come in: the first thousand of the repository's.
    pub incoming: Vec<IncomingChange>,
    /// Paths of the repository that both sides changed and nobody can merge.
    pub overlaps: Vec<String>,
    /// What would become of the fabric's drops; none where only git's side comes in.
    pub ingested: Option<IngestOutcome>,
    /// Commits of the repository that the remote is not known to have.
    pub unsent: u64,
    /// Nothing was changed.
    pub dry_run: bool,
}

/// One change that would come in.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct IncomingChange {
    /// Where, relative to the top of the repository.
    pub path: String,
    /// `created`, `updated`, `moved`, `removed`, `stray` or `intake`.
    pub kind: String,
}

/// Asks what a sync would do.
pub(super) async fn preview(
    fabric: &FabricDoor,
    caller: &Caller,
    asked: SyncAsked,
) -> Result<Response, Refusal> {
    let report = match fabric.lane.ask(Request::Sync(asked), asker(caller)).await? {
        Answer::Synced(it) => *it,
        other => return Err(Refusal::of(other, ErrorCode::FabricNotFound)),
    };
    let name = fabric.name();
    let incoming = report.incoming.iter().filter(|it| it.fabric == *name);
    let incoming =
        incoming.map(|it| IncomingChange { path: it.path.to_string(), kind: word(&it.kind) });
    let preview = SyncPreview {
        incoming: incoming.collect(),
        overlaps: report.overlaps.iter().map(|it| it.to_string()).collect(),
        ingested: report.ingested.into_iter().find(|it| it.fabric == *name).map(outcome),
        unsent: report.unsent,
        dry_run: report.dry_run,
    };
    Ok(Json(preview).into_response())
}
