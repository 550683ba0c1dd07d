//! Fabrics are made, changed and removed.

use super::blocking;
use super::outcome::answered;
use crate::agent::desk::{Answer, Request};
use crate::agent::fabrics::{AddFabric, RemoveFabric, SetFabric};
use crate::api::auth::Caller;
use crate::api::body::{InPath, Maybe, Payload};
use crate::api::house::{House, LaneDoor, asker};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::api::wire::account::FabricOutcome;
use crate::api::wire::choice::{
    ArchiveView, LayoutView, ModeView, OnDeleteView, OnInvalidView, OnUnsupportedView,
};
use crate::api::wire::conflict::Strategy;
use crate::api::wire::fabric::FabricView;
use crate::model::fabric::FabricName;
use crate::model::path::RepoPath;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::ToSchema;

/// A new fabric.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewFabric)]
pub(in crate::api) struct FabricDraft {
    /// Its name, which is its id.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
    pub name: String,
    /// The repository it goes to; may be left out where there is only one.
    #[serde(default)]
    pub repository: Option<String>,
    /// Its directory in the repository; its name where it is left out.
    #[serde(default)]
    pub directory: Option<String>,
    /// How much the agent does; what the general settings say where it is left out.
    #[serde(default)]
    pub mode: Option<ModeView>,
    /// What becomes of a record whose file others removed; else what the general settings say.
    #[serde(default)]
    pub on_delete: Option<OnDeleteView>,
    /// What happens where two sides changed one resource; else what the general settings say.
    #[serde(default)]
    pub conflict_strategy: Option<Strategy>,
    /// The tag, branch or ref that a removal left: what was there is brought back.
    #[serde(default)]
    pub restore: Option<String>,
}

/// Makes a fabric: its directories by a commit, and its place in the settings of the repository.
#[utoipa::path(post, path = "/api/v1/fabrics", tag = "fabrics", request_body = FabricDraft,
    params(("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses((status = 201, description = "It is made.", body = FabricOutcome)))]
pub(in crate::api) async fn create(
    State(house): State<Arc<House>>,
    caller: Caller,
    Payload(it): Payload<FabricDraft>,
) -> Result<Response, Refusal> {
    caller.may(Scope::Admin, None)?;
    let name =
        FabricName::parse(&it.name).map_err(|why| Refusal::field("name", why.to_string()))?;
    if house.fabrics(&caller).iter().any(|it| *it.name() == name) {
        let message = format!("there is a fabric `{name}` already");
        return Err(Refusal::new(ErrorCode::AlreadyExists, message).suggest(format!(
            "POST /api/v1/fabrics/{name}/gitops-directories/initialize repairs its directories"
        )));
    }
    let dir = it.directory.as_deref().map(RepoPath::parse).transpose();
    let dir = dir.map_err(|why| Refusal::unfit("directory", why.to_string()))?;
    let lane = lane_of(&house, it.repository.as_deref())?;
    let asked = AddFabric {
        name: name.clone(),
        dir,
        mode: it.mode.map(Into::into),
        on_delete: it.on_delete.map(Into::into),
        conflict: it.conflict_strategy.map(Strategy::model),
        restore: it.restore,
        actor: caller.actor.clone(),
    };
    let outcome = changed(lane, &caller, Request::AddFabric(asked), ErrorCode::NotFound).await?;
    let became = (outcome.operation_id.clone(), outcome.commit_id.clone());
    let mut response = answered(StatusCode::CREATED, outcome, became);
    if let Ok(it) = format!("/api/v1/fabrics/{name}").parse() {
        response.headers_mut().insert(LOCATION, it);
    }
    Ok(response)
}

fn lane_of<'a>(house: &'a House, named: Option<&str>) -> Result<&'a Arc<LaneDoor>, Refusal> {
    match (named, &house.lanes[..]) {
        (Some(id), _) => house.lane(id),
        (None, [only]) => Ok(only),
        (None, _) => Err(Refusal::unfit(
            "repository",
            "there are several repositories; GET /api/v1/repositories shows all",
        )),
    }
}

/// What is to hold for a fabric; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct FabricSettingsChange {
    /// How much the agent does.
    #[serde(default)]
    pub mode: Option<ModeView>,
    /// What becomes of a record whose file others removed.
    #[serde(default)]
    pub on_delete: Option<OnDeleteView>,
    /// What happens where two sides changed one resource.
    #[serde(default)]
    pub conflict_strategy: Option<Strategy>,
    /// Where originals are kept.
    #[serde(default)]
    pub archive: Option<ArchiveView>,
    /// Where the files of new resources lie.
    #[serde(default)]
    pub layout: Option<LayoutView>,
    /// What becomes of a drop with a mistake.
    #[serde(default)]
    pub on_invalid: Option<OnInvalidView>,
    /// What becomes of a drop of foreign kinds.
    #[serde(default)]
    pub on_unsupported: Option<OnUnsupportedView>,
}

/// Changes what holds for a fabric, in the settings of its repository. Settings that stand in the
/// agent's file are changed there: the answer names it.
#[utoipa::path(patch, path = "/api/v1/fabrics/{id}", tag = "fabrics", request_body = FabricSettingsChange,
    params(("id" = String, Path, description = "The fabric's name.")),
    responses((status = 200, description = "The fabric, as it is now.", body = FabricView)))]
pub(in crate::api) async fn change(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Payload(it): Payload<FabricSettingsChange>,
) -> Result<Json<FabricView>, Refusal> {
    let fabric = house.fabric(&caller, &id, Scope::Admin)?;
    let asked = SetFabric {
        name: fabric.name().clone(),
        mode: it.mode.map(Into::into),
        on_delete: it.on_delete.map(Into::into),
        conflict: it.conflict_strategy.map(Strategy::model),
        archive: it.archive.map(Into::into),
        layout: it.layout.map(Into::into),
        on_invalid: it.on_invalid.map(Into::into),
        on_unsupported: it.on_unsupported.map(Into::into),
    };
    match fabric.lane.ask(Request::SetFabric(asked), asker(&caller)).await? {
        Answer::Fabric(_) => {
            let fabric = house.fabric(&caller, &id, Scope::Admin)?;
            Ok(Json(FabricView::of(&fabric)?))
        }
        other => Err(Refusal::of(other, ErrorCode::FabricNotFound)),
    }
}

/// How a fabric is removed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct FabricRemoval {
    /// Its files go as well, by a commit; else they stay as plain files.
    #[serde(default)]
    pub purge: bool,
    /// A tag keeps the commit that still has them; `restore` of a new fabric brings them back.
    #[serde(default)]
    pub backup: bool,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// Removes a fabric: the agent looks after it no more, and its webhooks go. Its files stay, unless
/// `purge` is said.
#[utoipa::path(delete, path = "/api/v1/fabrics/{id}", tag = "fabrics", request_body = Option<FabricRemoval>,
    params(("id" = String, Path, description = "The fabric's name.")),
    responses((status = 200, description = "It is removed, or would be.", body = FabricOutcome)))]
pub(in crate::api) async fn remove(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Maybe(it): Maybe<FabricRemoval>,
) -> Result<Response, Refusal> {
    let fabric = house.fabric(&caller, &id, Scope::Admin)?;
    let asked = RemoveFabric {
        name: fabric.name().clone(),
        purge: it.purge,
        backup: it.backup,
        actor: caller.actor.clone(),
        dry_run: it.dry_run,
    };
    let outcome =
        changed(&fabric.lane, &caller, Request::RemoveFabric(asked), ErrorCode::FabricNotFound)
            .await?;
    if !it.dry_run {
        let (house, fabric) = (house.clone(), fabric.name().clone());
        let gone = move || {
            house.unsubscribe(&fabric);
            Ok(())
        };
        blocking(gone).await?;
    }
    let became = (outcome.operation_id.clone(), outcome.commit_id.clone());
    Ok(answered(StatusCode::OK, outcome, became).into_response())
}

async fn changed(
    lane: &LaneDoor,
    caller: &Caller,
    request: Request,
    absent: ErrorCode,
) -> Result<FabricOutcome, Refusal> {
    match lane.ask(request, asker(caller)).await? {
        Answer::FabricChanged(it) => Ok(FabricOutcome::from(*it)),
        other => Err(Refusal::of(other, absent)),
    }
}
