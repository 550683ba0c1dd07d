//! Repositories are added, changed and let go; each is followed by a reload.
//!
//! Which work trees of its host an agent may serve is its operator's to say: only what lies below
//! `api.repositories_below` is added, and only what was added so is let go.

use super::blocking;
use crate::agent::choices::SetRepository;
use crate::agent::programs::{ProgramAnswer, ProgramAsked};
use crate::api::auth::Caller;
use crate::api::body::{InPath, Payload};
use crate::api::house::{House, asker, unexpected};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::config::{self, StateDir};
use crate::git::Repo;
use crate::step::Steps;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use utoipa::ToSchema;

/// The list is read, changed and written by one at a time.
static LIST: Mutex<()> = Mutex::new(());

/// A repository to be served.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRepository)]
pub(in crate::api) struct RepositoryDraft {
    /// The top of its work tree on the agent's host, below one of `api.repositories_below`.
    pub path: String,
}

/// What is about to hold for a repository.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct RepositoryPending {
    /// Names it.
    pub id: String,
    /// Where it is on the agent's host.
    pub work_tree: String,
    /// It holds when the agent has read its settings again, which has begun.
    pub reloading: bool,
}

/// Has the agent serve a repository of its host. Fabrics that its own settings name come along;
/// `POST /api/v1/fabrics` makes more.
#[utoipa::path(post, path = "/api/v1/repositories", tag = "repositories", request_body = RepositoryDraft,
    params(("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses((status = 202, description = "It is served in a moment.", body = RepositoryPending)))]
pub(in crate::api) async fn create(
    State(house): State<Arc<House>>,
    caller: Caller,
    Payload(it): Payload<RepositoryDraft>,
) -> Result<Response, Refusal> {
    caller.may(Scope::Admin, None)?;
    let work_tree = {
        let house = house.clone();
        blocking(move || adopt(&house, Path::new(&it.path))).await?
    };
    Ok(pending(&house, &work_tree))
}

fn adopt(house: &House, path: &Path) -> Result<PathBuf, Refusal> {
    let unfit = |why: String| Refusal::unfit("path", why);
    if !house.api().may_adopt(path) {
        let message = format!("{} may not be added over the API", path.display());
        return Err(Refusal::new(ErrorCode::RepositoryAccessDenied, message).suggest(
            "name a directory above it in api.repositories_below of the agent's settings, or the \
             repository itself in `repositories` there, and reload the agent",
        ));
    }
    let path = path.canonicalize().map_err(|it| unfit(it.to_string()))?;
    let repo = Repo::discover(&path, Steps::default()).map_err(|it| unfit(it.to_string()))?;
    if repo.work_tree() != path {
        let top = repo.work_tree().display();
        return Err(unfit(format!("it is not the top of a work tree, which is {top}")));
    }
    let local = config::load_local(repo.git_dir(), &path).map_err(|it| unfit(it.to_string()))?;
    for lane in &house.lanes {
        if lane.work_tree == path {
            let message = format!("{} is served already", path.display());
            return Err(Refusal::new(ErrorCode::AlreadyExists, message));
        }
        let shown = lane.board.read();
        let named = local.iter().flat_map(|it| &it.fabrics).map(|it| &it.name);
        let mut taken = named.filter(|it| shown.fabrics.iter().any(|f| f.fabric.name == **it));
        if let Some(name) = taken.next() {
            let message = format!("another repository has a fabric `{name}` already");
            return Err(Refusal::new(ErrorCode::AlreadyExists, message));
        }
    }
    change_list(house, |all| {
        if !all.contains(&path) {
            all.push(path.clone());
        }
        Ok(())
    })?;
    Ok(path)
}

fn change_list(
    house: &House,
    change: impl FnOnce(&mut Vec<PathBuf>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "the list of repositories that were added cannot be changed");
        Refusal::new(ErrorCode::Unavailable, "the agent cannot change its list of repositories")
    };
    let _alone = LIST.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = config::adopted(&house.dir).map_err(failed)?;
    change(&mut all)?;
    config::adopt(&house.dir, &all).map_err(failed)
}

/// What is to hold for a repository; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct RepositoryChange {
    /// Where commits are sent: a remote that git knows.
    #[serde(default)]
    pub remote: Option<String>,
    /// The only branch that is worked on.
    #[serde(default)]
    pub branch: Option<String>,
    /// Whether commits are sent at all.
    #[serde(default)]
    pub push: Option<bool>,
}

/// Changes what holds for a repository, in its own settings. Settings that stand in the agent's file
/// are changed there: the answer names it.
#[utoipa::path(patch, path = "/api/v1/repositories/{id}", tag = "repositories", request_body = RepositoryChange,
    params(("id" = String, Path, description = "The repository's id, or the name of its directory.")),
    responses((status = 202, description = "It holds in a moment.", body = RepositoryPending)))]
pub(in crate::api) async fn change(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Payload(it): Payload<RepositoryChange>,
) -> Result<Response, Refusal> {
    caller.may(Scope::Admin, None)?;
    let lane = house.lane(&id)?;
    let asked = SetRepository { remote: it.remote, branch: it.branch, push: it.push };
    match lane.ask_program(ProgramAsked::Repository(asked), asker(&caller)).await? {
        Ok(ProgramAnswer::Kept) => Ok(pending(&house, &lane.work_tree)),
        other => Err(unexpected(other, ErrorCode::RepositoryNotFound)),
    }
}

/// Lets a repository go that was added over the API: it is served no more, and stays as it is.
#[utoipa::path(delete, path = "/api/v1/repositories/{id}", tag = "repositories",
    params(("id" = String, Path, description = "The repository's id, or the name of its directory.")),
    responses((status = 202, description = "It is let go in a moment.", body = RepositoryPending)))]
pub(in crate::api) async fn remove(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Response, Refusal> {
    caller.may(Scope::Admin, None)?;
    let work_tree = house.lane(&id)?.work_tree.clone();
    let (letting, gone) = (house.clone(), work_tree.clone());
    blocking(move || {
        change_list(&letting, |all| {
            let before = all.len();
            all.retain(|it| *it != gone);
            if all.len() < before {
                return Ok(());
            }
            let message = format!(
                "{} was not added over the API: take it out of the agent's settings, or of its \
                 command line",
                gone.display()
            );
            Err(Refusal::new(ErrorCode::Refused, message)
                .suggest("then reload the agent: systemctl reload git-intake"))
        })
    })
    .await?;
    Ok(pending(&house, &work_tree))
}

/// Has the settings read again. An answer under way is waited for, this one too.
fn pending(house: &House, work_tree: &Path) -> Response {
    (house.reload)();
    let id = StateDir::name(work_tree);
    let at = format!("/api/v1/repositories/{id}");
    let work_tree = work_tree.display().to_string();
    let body = RepositoryPending { id, work_tree, reloading: true };
    (StatusCode::ACCEPTED, [(LOCATION, at)], Json(body)).into_response()
}
