//! Resources are made, replaced, changed and removed: each a commit with the caller's name in it.

use super::blocking;
use super::resources::{find_any, view};
use crate::agent::desk::{Answer, Request};
use crate::agent::records::{Edit, EditChange};
use crate::api::auth::Caller;
use crate::api::body::{InPath, Maybe, Payload};
use crate::api::house::{FabricDoor, House, asker};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::api::wire::change::ResourceChange;
use crate::api::wire::conflict::Strategy;
use crate::model::field::FieldPath;
use crate::model::ids::BlobId;
use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, IF_MATCH, LOCATION};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// A new resource.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewResource)]
pub(in crate::api) struct ResourceDraft {
    /// Where it goes.
    pub fabric: String,
    /// The manifest, as YAML or JSON.
    pub content: String,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// What a resource is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Replacement {
    /// The manifest, as YAML or JSON.
    pub content: String,
    /// What the file held when the edit began (a blob id): what others changed since is merged.
    #[serde(default)]
    #[schema(pattern = "^([0-9a-fA-F]{40}|[0-9a-fA-F]{64})$")]
    pub base: Option<String>,
    /// What happens where both changed one field; none is what the fabric's settings say.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// What is to change in a resource; the rest of its text stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Changes {
    /// Fields by their path, such as `spec.mode`, and what they are to be.
    #[serde(default)]
    pub set: BTreeMap<String, Value>,
    /// Fields that go.
    #[serde(default)]
    pub remove: Vec<String>,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// How a resource is removed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Removal {
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// Makes a resource.
#[utoipa::path(post, path = "/api/v1/resources", tag = "resources", request_body = ResourceDraft,
    params(("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses(
        (status = 201, description = "It is made.", body = ResourceChange),
        (status = 200, description = "What would come of it.", body = ResourceChange)))]
pub(in crate::api) async fn create(
    State(house): State<Arc<House>>,
    caller: Caller,
    Payload(it): Payload<ResourceDraft>,
) -> Result<Response, Refusal> {
    let fabric = house.fabric(&caller, &it.fabric, Scope::Write)?;
    let edit = Edit {
        name: None,
        fabric: Some(fabric.name().clone()),
        change: EditChange::Text { text: it.content, base: None },
        actor: caller.actor.clone(),
        expected: None,
        strategy: None,
        dry_run: it.dry_run,
    };
    let status = if it.dry_run { StatusCode::OK } else { StatusCode::CREATED };
    carry_out(&fabric, &caller, edit, status).await
}

/// Replaces a resource's text.
#[utoipa::path(put, path = "/api/v1/resources/{id}", tag = "resources", request_body = Replacement,
    params(("id" = String, Path, description = "The resource's id."),
        ("If-Match" = Option<String>, Header, description = "The ETag that was seen; 412 where it is another now.")),
    responses((status = 200, description = "It is replaced.", body = ResourceChange)))]
pub(in crate::api) async fn replace(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    headers: HeaderMap,
    Payload(it): Payload<Replacement>,
) -> Result<Response, Refusal> {
    let base = it.base.map(BlobId::try_from).transpose();
    let base = base.map_err(|why| Refusal::field("base", why))?;
    let strategy = it.strategy.map(Strategy::model);
    if let Some(base) = base {
        began_with(&house, &caller, &id, base).await?;
    }
    let change = EditChange::Text { text: it.content, base };
    edit(&house, &caller, &id, &headers, (change, strategy, it.dry_run)).await
}

/// Refuses a base that the resource's file never held: what lies elsewhere in the repository is not
/// for whoever may change this one, and a merge would show it. Read beside the lane, which waits for
/// no history.
async fn began_with(house: &House, caller: &Caller, id: &str, base: BlobId) -> Result<(), Refusal> {
    let (fabric, record, _) = find_any(house, caller, id, Scope::Write)?;
    if record.blob_id == base {
        return Ok(());
    }
    let (lane, path, now) = (fabric.lane, record.path, record.blob_id);
    blocking(move || {
        let held = lane.reader.with(|repo| match repo.head()?.commit {
            Some(head) => repo.ever_held(head, &path, base),
            None => Ok(false),
        });
        if held? {
            return Ok(());
        }
        let message = format!(
            "{path} never held {base} that the edit could have begun with, as far as its history is \
             looked into; begin with what it holds now, {now}"
        );
        Err(Refusal::new(ErrorCode::Refused, message))
    })
    .await
}

/// Changes some fields of a resource.
#[utoipa::path(patch, path = "/api/v1/resources/{id}", tag = "resources", request_body = Changes,
    params(("id" = String, Path, description = "The resource's id."),
        ("If-Match" = Option<String>, Header, description = "The ETag that was seen; 412 where it is another now.")),
    responses((status = 200, description = "It is changed.", body = ResourceChange)))]
pub(in crate::api) async fn change(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    headers: HeaderMap,
    Payload(it): Payload<Changes>,
) -> Result<Response, Refusal> {
    let path = |field: &str, text: &str| -> Result<FieldPath, Refusal> {
        text.parse().map_err(|why| Refusal::unfit(field, format!("`{text}`: {why}")))
    };
    let mut set = Vec::new();
    for (field, value) in &it.set {
        set.push((path("set", field)?, value.to_string()));
    }
    let remove: Result<Vec<FieldPath>, _> = it.remove.iter().map(|it| path("remove", it)).collect();
    let change = EditChange::Fields { set, remove: remove? };
    edit(&house, &caller, &id, &headers, (change, None, it.dry_run)).await
}

/// Removes a resource: its file goes. Of an orphan, whose file is gone, the memory goes.
#[utoipa::path(delete, path = "/api/v1/resources/{id}", tag = "resources", request_body = Option<Removal>,
    params(("id" = String, Path, description = "The resource's id."),
        ("If-Match" = Option<String>, Header, description = "The ETag that was seen; 412 where it is another now.")),
    responses((status = 200, description = "It is gone.", body = ResourceChange)))]
pub(in crate::api) async fn remove(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    headers: HeaderMap,
    Maybe(it): Maybe<Removal>,
) -> Result<Response, Refusal> {
    edit(&house, &caller, &id, &headers, (EditChange::Delete, None, it.dry_run)).await
}

async fn edit(
    house: &House,
    caller: &Caller,
    id: &str,
    headers: &HeaderMap,
    (change, strategy, dry_run): (
        EditChange,
        Option<crate::model::conflict::ConflictStrategy>,
        bool,
    ),
) -> Result<Response, Refusal> {
    let (fabric, record, _) = find_any(house, caller, id, Scope::Write)?;
    let edit = Edit {
        name: Some(record.id.to_string()),
        fabric: Some(record.fabric.clone()),
        change,
        actor: caller.actor.clone(),
        expected: expected(headers)?,
        strategy,
        dry_run,
    };
    carry_out(&fabric, caller, edit, StatusCode::OK).await
}

/// What `If-Match` says the file must hold.
pub(super) fn expected(headers: &HeaderMap) -> Result<Option<BlobId>, Refusal> {
    let Some(given) = headers.get(IF_MATCH) else { return Ok(None) };
    let text = given.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let id = text.trim_matches('"').to_owned();
    BlobId::try_from(id).map(Some).map_err(|_| {
        let message = format!("If-Match is {text}, which this never was; see ETag");
        Refusal::new(ErrorCode::PreconditionFailed, message)
    })
}

async fn carry_out(
    fabric: &FabricDoor,
    caller: &Caller,
    edit: Edit,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let (lane, dry_run) = (&fabric.lane, edit.dry_run);
    let report = match lane.ask(Request::Edit(edit), asker(caller)).await? {
        Answer::Edited(it) => *it,
        other => return Err(Refusal::of(other, ErrorCode::ResourceNotFound)),
    };
    if !report.open.is_empty() && !dry_run {
        let message = format!(
            "{} was changed in git meanwhile, in the same fields; both contents are kept as conflict {}",
            report.path, report.id
        );
        let mut refusal = Refusal::new(ErrorCode::ConflictDetected, message)
            .suggest(format!("POST /api/v1/conflicts/{}/resolve", report.id));
        for it in &report.open {
            let words = vec!["changed on both sides".to_owned()];
            refusal.details.field_errors.insert(it.path.to_string(), words);
        }
        return Err(refusal);
    }
    let record = if dry_run { None } else { lane.store.record(&report.id)? };
    let (id, after) = (report.id, report.after.clone());
    let mut headers: Vec<(HeaderName, String)> = Vec::new();
    if status == StatusCode::CREATED {
        headers.push((LOCATION, format!("/api/v1/resources/{id}")));
    }
    let resource = match record {
        Some(record) => {
            headers.push((ETAG, format!("\"{}\"", record.blob_id)));
            let mut view = view(fabric, record)?;
            view.desired.content = after;
            Some(view)
        }
        None => None,
    };
    let (change, became) = ResourceChange::of(report, resource);
    let mut response = (status, Json(change)).into_response();
    for (name, value) in headers {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    response.extensions_mut().insert(became);
    Ok(response)
}
