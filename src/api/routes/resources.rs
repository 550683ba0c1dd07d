//! Resources: what is on record, read from the store beside the lane.

use super::blocking;
use crate::api::auth::Caller;
use crate::api::body::{InPath, Query};
use crate::api::house::{FabricDoor, House};
use crate::api::pages::{Links, Page, Window};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::api::wire::resource::ResourceView;
use crate::model::key::ResourceId;
use crate::model::record::{Modification, Record};
use axum::Json;
use axum::extract::State;
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;

/// Which resources.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Wanted {
    /// Of this fabric.
    pub fabric: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// In this namespace.
    pub namespace: Option<String>,
    /// Of this name.
    pub name: Option<String>,
    /// How many, 1 to 1000; 50 where it is left out.
    #[param(minimum = 1, maximum = 1000)]
    pub limit: Option<usize>,
    /// How many to pass over.
    #[param(minimum = 0, maximum = 1000000000)]
    pub offset: Option<usize>,
}

impl Wanted {
    fn is_everything(&self) -> bool {
        self.kind.is_none() && self.namespace.is_none() && self.name.is_none()
    }

    fn takes(&self, it: &Record) -> bool {
        let same = |wanted: &Option<String>, it: &str| wanted.as_ref().is_none_or(|w| w == it);
        self.kind.as_ref().is_none_or(|w| w.eq_ignore_ascii_case(&it.key.kind))
            && same(&self.namespace, &it.key.namespace)
            && same(&self.name, &it.key.name)
    }
}

/// Resources, in the order of their files.
#[utoipa::path(get, path = "/api/v1/resources", tag = "resources", params(Wanted),
    responses((status = 200, description = "A page of resources.", body = Page<ResourceView>)))]
pub(in crate::api) async fn list(
    State(house): State<Arc<House>>,
    caller: Caller,
    Query(wanted): Query<Wanted>,
    links: Links,
) -> Result<Json<Page<ResourceView>>, Refusal> {
    let window = Window::of(wanted.limit, wanted.offset)?;
    let fabrics = match &wanted.fabric {
        Some(name) => vec![house.fabric(&caller, name, Scope::Read)?],
        None => house.fabrics(&caller),
    };
    let page = blocking(move || {
        let (mut count, mut found) = (0, Vec::new());
        for it in &fabrics {
            count += some(it, &wanted, window, count, &mut found)?;
        }
        Ok(links.page(window, count, found))
    });
    Ok(Json(page.await?))
}

/// Adds those of one fabric that lie in the window, `before` having been counted already.
fn some(
    fabric: &FabricDoor,
    wanted: &Wanted,
    window: Window,
    before: u64,
    found: &mut Vec<ResourceView>,
) -> Result<u64, Refusal> {
    let store = &fabric.lane.store;
    if wanted.is_everything() {
        let passed = (window.offset as u64).saturating_sub(before);
        let passed = usize::try_from(passed).unwrap_or(usize::MAX);
        let room = window.limit - found.len();
        for record in store.records_from_nth(fabric.name(), passed).take(room) {
            found.push(view(fabric, record?)?);
        }
        return Ok(store.records_count(fabric.name()));
    }
    let mut count = 0;
    for record in store.records(fabric.name()) {
        let record = record?;
        if !wanted.takes(&record) {
            continue;
        }
        if before + count >= window.offset as u64 && found.len() < window.limit {
            found.push(view(fabric, record)?);
        }
        count += 1;
    }
    Ok(count)
}

pub(super) fn view(fabric: &FabricDoor, record: Record) -> Result<ResourceView, Refusal> {
    let direction = fabric.fabric().rules.direction_of(&record.key).to_string();
    let conflict = fabric.lane.store.is_in_conflict(&record.id)?;
    Ok(ResourceView::of(record, direction, conflict))
}

/// One record, with the fabric it belongs to.
pub(super) fn find(
    house: &House,
    caller: &Caller,
    id: &str,
    scope: Scope,
) -> Result<(FabricDoor, Record), Refusal> {
    let absent =
        || Refusal::new(ErrorCode::ResourceNotFound, format!("there is no resource `{id}`"));
    let wanted = ResourceId(id.parse().map_err(|_| absent())?);
    for lane in &house.lanes {
        if let Some(record) = lane.store.record(&wanted)? {
            let fabric = house.fabric(caller, record.fabric.as_str(), scope)?;
            return Ok((fabric, record));
        }
    }
    Err(absent())
}

/// The same, also where others removed its file; then who did.
pub(super) fn find_any(
    house: &House,
    caller: &Caller,
    id: &str,
    scope: Scope,
) -> Result<(FabricDoor, Record, Option<Modification>), Refusal> {
    if let Ok(wanted) = id.parse().map(ResourceId) {
        for lane in &house.lanes {
            if let Some(it) = lane.store.orphan(&wanted)? {
                let fabric = house.fabric(caller, it.record.fabric.as_str(), scope)?;
                return Ok((fabric, it.record, Some(it.removed)));
            }
        }
    }
    find(house, caller, id, scope).map(|(fabric, record)| (fabric, record, None))
}

/// One resource, with the text of its file.
#[utoipa::path(get, path = "/api/v1/resources/{id}", tag = "resources",
    params(("id" = String, Path, description = "The resource's id.")),
    responses((status = 200, description = "The resource.", body = ResourceView,
        headers(("ETag" = String, description = "What the file holds; for `If-Match`.")))))]
pub(in crate::api) async fn show(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Response, Refusal> {
    let (fabric, record) = find(&house, &caller, &id, Scope::Read)?;
    let etag = format!("\"{}\"", record.blob_id);
    let text = text(&fabric, &record).await?;
    let mut view = view(&fabric, record)?;
    view.desired.content = Some(text);
    Ok(([(ETAG, etag)], Json(view)).into_response())
}

/// The text of a record's file, as git holds it.
pub(super) async fn text(fabric: &FabricDoor, record: &Record) -> Result<String, Refusal> {
    let bytes = match fabric.lane.reader.kept(record.blob_id) {
        Some(it) => it,
        None => {
            let (lane, id) = (fabric.lane.clone(), record.blob_id);
            blocking(move || lane.reader.blob(id).map_err(Refusal::from)).await?
        }
    };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
