//! Where a resource stands between record, git and cluster, and what others did to it.

use super::blocking;
use super::fabrics::Part;
use super::resources::{find, find_any};
use crate::agent::desk::{Answer, Request};
use crate::agent::view::Surroundings;
use crate::api::auth::Caller;
use crate::api::body::{InPath, Payload, Query};
use crate::api::house::{FabricDoor, House, asker};
use crate::api::pages::{Links, Page, Window};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::api::wire::account::{OrphanView, ResourceState};
use crate::model::record::{Modification, Record};
use crate::step::Steps;
use crate::worktree::WorkTree;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Deserializer};
use std::sync::Arc;
use utoipa::ToSchema;

/// The resources of a fabric whose files others removed, in the order of their ids.
#[utoipa::path(get, path = "/api/v1/fabrics/{id}/orphans", tag = "resources",
    params(("id" = String, Path, description = "The fabric's name."), Part),
    responses((status = 200, description = "A page of orphans.", body = Page<OrphanView>)))]
pub(in crate::api) async fn orphans(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Query(part): Query<Part>,
    links: Links,
) -> Result<Json<Page<OrphanView>>, Refusal> {
    let window = Window::of(part.limit, part.offset)?;
    let fabric = house.fabric(&caller, &id, Scope::Read)?;
    let page = blocking(move || {
        let (mut count, mut found) = (0, Vec::new());
        for it in fabric.lane.store.orphans() {
            let it = it?;
            if it.record.fabric != *fabric.name() {
                continue;
            }
            if count >= window.offset as u64 && found.len() < window.limit {
                let direction = fabric.fabric().rules.direction_of(&it.record.key).to_string();
                found.push(OrphanView::of(it, direction));
            }
            count += 1;
        }
        Ok(links.page(window, count, found))
    });
    Ok(Json(page.await?))
}

/// Where a resource stands: what record, HEAD, work tree, remote and cluster have of it, and what
/// others did to it. Orphans have a state too.
#[utoipa::path(get, path = "/api/v1/resources/{id}/state", tag = "resources",
    params(("id" = String, Path, description = "The resource's id.")),
    responses((status = 200, description = "Where it stands.", body = ResourceState)))]
pub(in crate::api) async fn show(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<ResourceState>, Refusal> {
    let (fabric, record, removed) = find_any(&house, &caller, &id, Scope::Read)?;
    let bytes_max = house.settings.intake.bytes_max;
    Ok(Json(blocking(move || state_of(&fabric, record, removed, bytes_max)).await?))
}

fn state_of(
    fabric: &FabricDoor,
    record: Record,
    removed: Option<Modification>,
    bytes_max: u64,
) -> Result<ResourceState, Refusal> {
    let lane = &fabric.lane;
    let tree = WorkTree::open(&lane.work_tree, Steps::default());
    let tree = tree.map_err(crate::agent::Error::from)?;
    let found = lane.reader.with(|repo| {
        let around = Surroundings {
            store: &lane.store,
            repo,
            tree: &tree,
            rules: &fabric.fabric().rules,
            remote_head: fabric.shown.remote_head,
            bytes_max,
        };
        Ok(around.of(record, removed))
    })?;
    Ok(ResourceState::from(found?))
}

/// Forgets which changes of a resource did not come through the agent; git still has them.
#[utoipa::path(delete, path = "/api/v1/resources/{id}/external-modifications", tag = "resources",
    params(("id" = String, Path, description = "The resource's id.")),
    responses((status = 200, description = "They are forgotten.", body = ResourceState)))]
pub(in crate::api) async fn clear_modifications(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<ResourceState>, Refusal> {
    let (fabric, record) = find(&house, &caller, &id, Scope::Write)?;
    told(&fabric, &caller, Request::ClearModifications { name: record.id.to_string() }).await
}

/// What a cluster has of a resource.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ActualState {
    /// The manifest as the cluster gives it, as YAML or JSON; null where it has the resource no more.
    #[schema(required)]
    #[serde(deserialize_with = "said")]
    pub content: Option<String>,
}

/// Must be said, be it null.
fn said<'de, D: Deserializer<'de>>(it: D) -> Result<Option<String>, D::Error> {
    Option::deserialize(it)
}

/// Takes down what a cluster has of a resource, so that drift can be told. What a cluster fills in
/// (status, uid and the like) does not count.
#[utoipa::path(put, path = "/api/v1/resources/{id}/actual-state", tag = "resources",
    request_body = ActualState, params(("id" = String, Path, description = "The resource's id.")),
    responses((status = 200, description = "Where it stands now.", body = ResourceState)))]
pub(in crate::api) async fn tell_actual(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Payload(it): Payload<ActualState>,
) -> Result<Json<ResourceState>, Refusal> {
    let (fabric, record) = find(&house, &caller, &id, Scope::Write)?;
    let request = Request::TellActual { name: record.id.to_string(), text: it.content };
    told(&fabric, &caller, request).await
}

async fn told(
    fabric: &FabricDoor,
    caller: &Caller,
    request: Request,
) -> Result<Json<ResourceState>, Refusal> {
    match fabric.lane.ask(request, asker(caller)).await? {
        Answer::View(it) => Ok(Json(ResourceState::from(*it))),
        other => Err(Refusal::of(other, ErrorCode::ResourceNotFound)),
    }
}
