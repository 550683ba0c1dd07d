//! Forges tell of a push, and the lane fetches soon after instead of with the next look.

use super::blocking;
use crate::agent::desk::{Answer, Asker, Request as Question};
use crate::agent::exchange::{SyncAsked, SyncDirection};
use crate::api::audit::Became;
use crate::api::auth::Caller;
use crate::api::body;
use crate::api::dress::RequestId;
use crate::api::hooks::{self, Forge, Told};
use crate::api::house::{House, LaneDoor};
use crate::api::listen::Via;
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::model::operation::Trigger;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use utoipa::ToSchema;

/// How long a forge has for its body.
const BODY_TIME_MAX: Duration = Duration::from_secs(10);
/// A lane with too many questions is asked again after so long, so often.
const ASK_PAUSE: Duration = Duration::from_secs(2);
const ASKS_MAX: u32 = 30;

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum HookState {
    /// The repositories are fetched.
    Accepted,
    /// It is about nothing that matters here.
    Ignored,
    /// It was a trial.
    Pong,
}

/// The answer to a delivery.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HookAnswer)]
pub(in crate::api) struct HookAnswer {
    /// What becomes of it.
    pub state: HookState,
    /// The delivery, as the forge calls it.
    pub delivery: String,
    /// The repositories that are fetched.
    pub repositories: Vec<String>,
    /// Why nothing is done.
    pub reason: Option<String>,
}

/// Takes what GitHub tells: `push` leads to a fetch, `ping` is answered, everything else is ignored.
/// 404 where the settings name no secret, or where no repository here has that remote.
#[utoipa::path(post, path = "/api/v1/webhooks/github", tag = "webhooks", security(()),
    request_body = serde_json::Value, params(
        ("X-Hub-Signature-256" = String, Header, description = "HMAC-SHA256 of the body."),
        ("X-GitHub-Delivery" = String, Header, pattern = "^[!-~]{1,128}$",
            description = "Names the delivery; none is taken twice."),
        ("X-GitHub-Event" = String, Header, description = "What happened.")),
    responses((status = 202, description = "It is taken; a fetch follows.", body = HookAnswer)))]
pub(in crate::api) async fn github(
    State(house): State<Arc<House>>,
    request: Request,
) -> Result<Response, Refusal> {
    receive(&house, Forge::Github, request).await
}

/// Takes what GitLab tells: a push leads to a fetch, everything else is ignored.
/// 404 where the settings name no secret, or where no repository here has that remote.
#[utoipa::path(post, path = "/api/v1/webhooks/gitlab", tag = "webhooks", security(()),
    request_body = serde_json::Value, params(
        ("X-Gitlab-Token" = String, Header, description = "The secret."),
        ("X-Gitlab-Event-UUID" = String, Header, pattern = "^[!-~]{1,128}$",
            description = "Names the delivery (or Idempotency-Key); none is taken twice."),
        ("X-Gitlab-Event" = String, Header, description = "What happened.")),
    responses((status = 202, description = "It is taken; a fetch follows.", body = HookAnswer)))]
pub(in crate::api) async fn gitlab(
    State(house): State<Arc<House>>,
    request: Request,
) -> Result<Response, Refusal> {
    receive(&house, Forge::Gitlab, request).await
}

/// Takes what Gitea or Forgejo tells: `push` leads to a fetch, everything else is ignored.
/// 404 where the settings name no secret, or where no repository here has that remote.
#[utoipa::path(post, path = "/api/v1/webhooks/gitea", tag = "webhooks", security(()),
    request_body = serde_json::Value, params(
        ("X-Gitea-Signature" = String, Header, description = "HMAC-SHA256 of the body."),
        ("X-Gitea-Delivery" = String, Header, pattern = "^[!-~]{1,128}$",
            description = "Names the delivery; none is taken twice."),
        ("X-Gitea-Event" = String, Header, description = "What happened.")),
    responses((status = 202, description = "It is taken; a fetch follows.", body = HookAnswer)))]
pub(in crate::api) async fn gitea(
    State(house): State<Arc<House>>,
    request: Request,
) -> Result<Response, Refusal> {
    receive(&house, Forge::Gitea, request).await
}

async fn receive(house: &Arc<House>, forge: Forge, request: Request) -> Result<Response, Refusal> {
    let word = forge.word();
    let settings = &house.settings.webhooks;
    let via = request.extensions().get::<Via>().cloned();
    let _permit = house.hooks.admit(via.as_ref())?;
    // What is no delivery hears so, whatever is set up here.
    let (delivery, event) = forge.named(request.headers())?;
    if forge.files(settings).is_empty() {
        let message = format!("no secret is set for hooks of {word} (webhooks.{word})");
        return Err(Refusal::new(ErrorCode::NotFound, message));
    }
    let id = request.extensions().get::<RequestId>().map(|it| it.0.clone()).unwrap_or_default();
    let headers = request.headers().clone();
    if !body::is_json(&headers) {
        let message = "the body must be JSON: choose application/json in the hook's settings";
        return Err(Refusal::new(ErrorCode::UnsupportedMediaType, message));
    }
    let reading = tokio::time::timeout(BODY_TIME_MAX, body::read(request, hooks::BYTES_MAX));
    let bytes = reading.await.map_err(|_| {
        Refusal::new(ErrorCode::TimeoutError, "the body took too long")
            .status(StatusCode::REQUEST_TIMEOUT)
    })??;
    let files = forge.files(settings).to_vec();
    let secrets = blocking(move || {
        hooks::secrets(&files).map_err(|error| {
            tracing::error!(%error, "the secret of a hook cannot be used, so no delivery is taken");
            Refusal::new(ErrorCode::Unavailable, "the agent cannot read the hook's secret")
        })
    });
    if !forge.vouches(&headers, &bytes, &secrets.await?) {
        house.metrics.strangers.fetch_add(1, Ordering::Relaxed);
        return Err(Refusal::new(ErrorCode::AuthenticationRequired, "the signature is wrong")
            .suggest(format!("give the hook the secret that webhooks.{word} names")));
    }
    let answered = take(house, forge, &delivery, &event, &bytes);
    let status = answered.as_ref().map_or_else(|it| it.status, |_| StatusCode::ACCEPTED);
    let caller = Caller {
        actor: format!("{word} webhook {delivery}"),
        token: None,
        scope: Scope::Read,
        fabrics: None,
        from: via.map_or_else(|| "nowhere".to_owned(), |it| it.peer.to_string()),
    };
    let path = format!("/api/v1/webhooks/{word}");
    house.audit.add(&caller, &id, ("POST", &path), status.as_u16(), Became::default());
    answered.map(|it| (status, Json(it)).into_response())
}

/// What comes of a delivery that is signed.
fn take(
    house: &Arc<House>,
    forge: Forge,
    delivery: &str,
    event: &str,
    bytes: &[u8],
) -> Result<HookAnswer, Refusal> {
    if !house.hooks.is_new(forge, delivery) {
        let message = format!("the delivery {delivery} came before");
        return Err(Refusal::new(ErrorCode::AlreadyExists, message));
    }
    let answer = |state, reason: Option<String>| HookAnswer {
        state,
        delivery: delivery.to_owned(),
        repositories: Vec::new(),
        reason,
    };
    match event {
        "ping" => return Ok(answer(HookState::Pong, None)),
        "push" | "Push Hook" | "System Hook" => (),
        _ => {
            let reason = Some("only pushes matter here".to_owned());
            return Ok(answer(HookState::Ignored, reason));
        }
    }
    let told: Told = body::json(bytes)?;
    let named = |it: &&Arc<LaneDoor>| {
        it.board.read().remote_url.as_deref().is_some_and(|url| told.is_of(url))
    };
    let lanes: Vec<&Arc<LaneDoor>> = house.lanes.iter().filter(named).collect();
    if lanes.is_empty() {
        let message = "no repository here has that remote";
        return Err(Refusal::new(ErrorCode::RepositoryNotFound, message)
            .suggest("compare the hook's repository with GET /api/v1/repositories"));
    }
    let mut answer = answer(HookState::Accepted, None);
    for lane in lanes {
        let on = lane.board.read().branch.clone().unwrap_or_default();
        if told.branch().is_some_and(|it| on.strip_prefix("refs/heads/").unwrap_or(&on) == it) {
            answer.repositories.push(lane.id.clone());
            if !lane.fetching.swap(true, Ordering::AcqRel) {
                tokio::spawn(fetch(lane.clone(), forge));
            }
        }
    }
    if answer.repositories.is_empty() {
        answer.state = HookState::Ignored;
        answer.reason = Some("no repository here follows that branch".to_owned());
    }
    Ok(answer)
}

/// Asks a lane to take in what was pushed. One question waits at a time: what is pushed before its
/// turn comes is taken in with it.
async fn fetch(lane: Arc<LaneDoor>, forge: Forge) {
    for _ in 0..ASKS_MAX {
        let asked = SyncAsked { direction: SyncDirection::GitToRecord, ..SyncAsked::default() };
        let begins = lane.clone();
        let admit: Box<dyn FnOnce() -> bool + Send> = Box::new(move || {
            begins.fetching.store(false, Ordering::Release);
            true
        });
        let actor = format!("{} webhook", forge.word());
        let asker = Some(Asker { actor, trigger: Trigger::Webhook });
        let reason = match lane.ask_if(Question::Sync(asked), asker, Some(admit)).await {
            Ok(Answer::Synced(_)) => return,
            Ok(other) => Refusal::of(other, ErrorCode::RepositoryNotFound).message,
            // The line is full, or the agent stops.
            Err(refusal) if lane.fetching.load(Ordering::Acquire) => {
                tracing::debug!(reason = refusal.message, "a lane is asked again to fetch");
                tokio::time::sleep(ASK_PAUSE).await;
                continue;
            }
            Err(refusal) => refusal.message,
        };
        tracing::warn!(repository = %lane.work_tree.display(), reason, "cannot fetch what a hook told of; the next look tries again");
        return;
    }
    lane.fetching.store(false, Ordering::Release);
}
