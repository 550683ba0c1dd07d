//! The question that the agent's own commands ask a lane, over the lane's own socket.
//!
//! It carries the desk's types as they are, so it is no part of the API: command and agent are of one
//! version, or say so.

use super::auth::Caller;
use super::body;
use super::house::{ANSWER_TIME_MAX, House};
use super::listen::Via;
use super::notices::Book;
use super::refusal::{ErrorCode, Refusal};
use super::routes::blocking;
use super::tokens::Scope;
use crate::agent::Because;
use crate::agent::desk::{Answer, Request};
use crate::model::fabric::FabricName;
use axum::extract::State;
use axum::routing::{MethodRouter, post};
use axum::{Extension, Json};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// No question is larger, in bytes.
const QUESTION_BYTES_MAX: usize = 256 << 10;
pub(super) const ROUTE: &str = "/api/v1/ask";

pub(super) fn route() -> MethodRouter<Arc<House>> {
    post(ask)
}

async fn ask(
    State(house): State<Arc<House>>,
    Extension(via): Extension<Via>,
    caller: Caller,
    body: axum::extract::Request,
) -> Result<Json<Answer>, Refusal> {
    caller.may(Scope::Admin, None)?;
    let bytes = body::read(body, QUESTION_BYTES_MAX).await?;
    let request: Request = body::json(&bytes)?;
    let lane = via.lane.and_then(|it| house.lanes.get(it)).ok_or_else(|| {
        Refusal::new(ErrorCode::NotFound, "this is asked on a lane's own socket only")
    })?;
    let removed = removed(&request);
    // Whoever asks so is at the command line.
    Ok(Json(match lane.ask(request, None).await {
        Ok(answer) => {
            if let (Some(fabric), Answer::FabricChanged(_)) = (removed, &answer) {
                let house = house.clone();
                let gone = move || {
                    house.unsubscribe(&fabric);
                    Ok(())
                };
                blocking(gone).await?;
            }
            answer
        }
        Err(refusal) => Answer::Refused {
            message: refusal.message,
            later: true,
            because: Because::Busy,
            problems: Vec::new(),
        },
    }))
}

/// The fabric that a question removes.
fn removed(it: &Request) -> Option<FabricName> {
    match it {
        Request::RemoveFabric(it) if !it.dry_run => Some(it.name.clone()),
        _ => None,
    }
}

/// Does what belongs to a question when no agent runs: a fabric that was removed has no webhooks.
pub fn done_without_agent(dir: &Path, request: &Request, answer: &Answer) -> io::Result<()> {
    match (removed(request), answer) {
        (Some(fabric), Answer::FabricChanged(_)) => Book::open(dir)?.forget(&fabric),
        _ => Ok(()),
    }
}

/// Asks a running agent; none where no agent serves the socket.
pub fn ask_running(socket: &Path, request: &Request) -> io::Result<Option<Answer>> {
    if std::os::unix::net::UnixStream::connect(socket).is_err() {
        return Ok(None);
    }
    // Whoever comes second finds the provider in place, which is all that is asked.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::blocking::Client::builder()
        .unix_socket(socket)
        .timeout(ANSWER_TIME_MAX)
        .build()
        .map_err(io::Error::other)?;
    let url = format!("http://agent{ROUTE}");
    let answer = client.post(url).json(request).send().map_err(io::Error::other)?;
    answer.json().map(Some).map_err(io::Error::other)
}
