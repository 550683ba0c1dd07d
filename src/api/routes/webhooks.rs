//! Who is told of a fabric's events: added, changed and removed; and what did not arrive, sent again.

use super::blocking;
use super::fabrics::Part;
use crate::api::auth::Caller;
use crate::api::body::{InPath, Payload, Query};
use crate::api::house::House;
use crate::api::notices::{Change, Full, Subscriber, judge};
use crate::api::pages::{Links, Page, Window};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::api::wire::event::EventType;
use crate::api::wire::webhook::{NoticeState, NoticeView, WebhookMade, WebhookView, kinds};
use crate::api::writes::Unkept;
use crate::model::fabric::FabricName;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use std::io;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A webhook to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct WebhookRequest {
    /// Where events are sent: https, at an address of the world, unless the settings say otherwise.
    pub url: String,
    /// Of these only; none are all.
    #[serde(default)]
    pub events: Vec<EventType>,
}

/// What is to change of a webhook; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct WebhookChange {
    /// Where events are sent.
    #[serde(default)]
    pub url: Option<String>,
    /// Of these only; none are all.
    #[serde(default)]
    pub events: Option<Vec<EventType>>,
    /// Whether. What waits is kept meanwhile; what happens meanwhile is not noted.
    #[serde(default)]
    pub active: Option<bool>,
}

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct Deliveries {
    /// In this state only.
    state: Option<NoticeState>,
    /// How many, 1 to 1000; 50 where it is left out.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// How many to pass over.
    #[param(minimum = 0, maximum = 1000000000)]
    offset: Option<usize>,
}

/// Everybody who is told of a fabric's events.
#[utoipa::path(get, path = "/api/v1/fabrics/{id}/webhooks", tag = "webhooks",
    params(("id" = String, Path, description = "The fabric's name."), Part),
    responses((status = 200, description = "A page of webhooks.", body = Page<WebhookView>)))]
pub(in crate::api) async fn list(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Query(part): Query<Part>,
    links: Links,
) -> Result<Json<Page<WebhookView>>, Refusal> {
    let fabric = house.fabric(&caller, &id, Scope::Admin)?;
    let window = Window::of(part.limit, part.offset)?;
    let (count, some) = window.cut(house.book.of(fabric.name()));
    let views = some.iter().map(|it| view(&house, it)).collect();
    Ok(Json(links.page(window, count, views)))
}

/// Has somebody told of a fabric's events. The secret in the answer is not shown again.
#[utoipa::path(post, path = "/api/v1/fabrics/{id}/webhooks", tag = "webhooks",
    request_body = WebhookRequest, params(("id" = String, Path, description = "The fabric's name.")),
    responses((status = 201, description = "It is told from now on.", body = WebhookMade)))]
pub(in crate::api) async fn create(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Payload(it): Payload<WebhookRequest>,
) -> Result<Response, Refusal> {
    let fabric = house.fabric(&caller, &id, Scope::Admin)?.name().clone();
    judged(&house, &it.url)?;
    let (book, actor) = (house.clone(), caller.actor.clone());
    let added = blocking(move || {
        book.book.add(&fabric, it.url, kinds(&it.events), &actor).map_err(|it| match it {
            Full::TooMany(max) => {
                Refusal::new(ErrorCode::Refused, format!("there are {max} webhooks already"))
            }
            Full::Disk(error) => unwritable(error),
        })
    });
    let added = added.await?;
    house.subscribed();
    let at = format!("/api/v1/fabrics/{}/webhooks/{}", added.fabric, added.id);
    let secret = added.secret.shown_once().to_owned();
    let made = WebhookMade { webhook: view(&house, &added), secret };
    let mut response = (StatusCode::CREATED, [(LOCATION, at)], Json(made)).into_response();
    response.extensions_mut().insert(Unkept);
    Ok(response)
}

/// One who is told.
#[utoipa::path(get, path = "/api/v1/fabrics/{id}/webhooks/{webhook}", tag = "webhooks",
    params(("id" = String, Path, description = "The fabric's name."),
        ("webhook" = String, Path, description = "The webhook's id.")),
    responses((status = 200, description = "The webhook.", body = WebhookView)))]
pub(in crate::api) async fn show(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath((id, webhook)): InPath<(String, String)>,
) -> Result<Json<WebhookView>, Refusal> {
    let found = find(&house, &caller, &id, &webhook)?;
    Ok(Json(view(&house, &found)))
}

/// Changes where, of what, or whether somebody is told.
#[utoipa::path(patch, path = "/api/v1/fabrics/{id}/webhooks/{webhook}", tag = "webhooks",
    request_body = WebhookChange, params(("id" = String, Path, description = "The fabric's name."),
        ("webhook" = String, Path, description = "The webhook's id.")),
    responses((status = 200, description = "The webhook as it is now.", body = WebhookView)))]
pub(in crate::api) async fn change(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath((id, webhook)): InPath<(String, String)>,
    Payload(it): Payload<WebhookChange>,
) -> Result<Json<WebhookView>, Refusal> {
    let found = find(&house, &caller, &id, &webhook)?;
    if let Some(url) = &it.url {
        judged(&house, url)?;
    }
    let events = it.events.as_deref().map(kinds);
    let (book, change) = (house.clone(), Change { url: it.url, events, active: it.active });
    let changed = blocking(move || book.book.change(&found.id, change).map_err(unwritable));
    let changed = changed.await?.ok_or_else(|| absent(&webhook))?;
    house.subscribed();
    Ok(Json(view(&house, &changed)))
}

/// Tells somebody nothing any more; what has not arrived is forgotten.
#[utoipa::path(delete, path = "/api/v1/fabrics/{id}/webhooks/{webhook}", tag = "webhooks",
    params(("id" = String, Path, description = "The fabric's name."),
        ("webhook" = String, Path, description = "The webhook's id.")),
    responses((status = 200, description = "The webhook as it was.", body = WebhookView)))]
pub(in crate::api) async fn remove(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath((id, webhook)): InPath<(String, String)>,
) -> Result<Json<WebhookView>, Refusal> {
    let found = find(&house, &caller, &id, &webhook)?;
    let was = view(&house, &found);
    let book = house.clone();
    blocking(move || book.book.remove(&found.id).map_err(unwritable)).await?;
    house.subscribed();
    Ok(Json(was))
}

/// What has not arrived, the newest first: what is tried again, and what lies aside.
#[utoipa::path(get, path = "/api/v1/fabrics/{id}/webhooks/{webhook}/deliveries", tag = "webhooks",
    params(("id" = String, Path, description = "The fabric's name."),
        ("webhook" = String, Path, description = "The webhook's id."), Deliveries),
    responses((status = 200, description = "A page of deliveries.", body = Page<NoticeView>)))]
pub(in crate::api) async fn deliveries(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath((id, webhook)): InPath<(String, String)>,
    Query(part): Query<Deliveries>,
    links: Links,
) -> Result<Json<Page<NoticeView>>, Refusal> {
    let found = find(&house, &caller, &id, &webhook)?;
    let window = Window::of(part.limit, part.offset)?;
    let notices = house.book.notices(&found.id, part.state.map(NoticeState::standing));
    let (count, some) = window.cut(notices);
    Ok(Json(links.page(window, count, some.iter().map(NoticeView::of).collect())))
}

/// Sends a delivery again at once, and from the first attempt.
#[utoipa::path(post, path = "/api/v1/fabrics/{id}/webhooks/{webhook}/deliveries/{delivery}/redeliver",
    tag = "webhooks", params(("id" = String, Path, description = "The fabric's name."),
        ("webhook" = String, Path, description = "The webhook's id."),
        ("delivery" = String, Path, description = "The delivery's id.")),
    responses((status = 202, description = "It is sent.", body = NoticeView)))]
pub(in crate::api) async fn redeliver(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath((id, webhook, delivery)): InPath<(String, String, String)>,
) -> Result<Response, Refusal> {
    let found = find(&house, &caller, &id, &webhook)?;
    let (book, wanted) = (house.clone(), delivery.clone());
    let again = blocking(move || book.book.again(&found.id, &wanted).map_err(unwritable)).await?;
    let again = again.ok_or_else(|| {
        let message = format!("there is no delivery `{delivery}` that has not arrived");
        Refusal::new(ErrorCode::DeliveryNotFound, message)
    })?;
    Ok((StatusCode::ACCEPTED, Json(NoticeView::of(&again))).into_response())
}

fn view(house: &House, it: &Subscriber) -> WebhookView {
    WebhookView::of(it, &house.book.notices(&it.id, None))
}

fn absent(webhook: &str) -> Refusal {
    Refusal::new(ErrorCode::WebhookNotFound, format!("there is no webhook `{webhook}`"))
}

fn find(
    house: &House,
    caller: &Caller,
    fabric: &str,
    webhook: &str,
) -> Result<Subscriber, Refusal> {
    let fabric: FabricName = house.fabric(caller, fabric, Scope::Admin)?.name().clone();
    house.book.find(webhook).filter(|it| it.fabric == fabric).ok_or_else(|| absent(webhook))
}

fn judged(house: &House, url: &str) -> Result<(), Refusal> {
    judge(url, &house.settings.webhooks).map(drop).map_err(|it| Refusal::unfit("url", it))
}

fn unwritable(error: io::Error) -> Refusal {
    tracing::error!(%error, "the webhooks cannot be written");
    Refusal::new(ErrorCode::Unavailable, "the agent cannot write its webhooks now").after(5)
}
