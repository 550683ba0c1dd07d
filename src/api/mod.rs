//! The door for programs: a running agent answers over a Unix socket in its state directory.
//!
//! HTTP with JSON on the socket, so that any client can speak it; the answers are the desk's.
//! One of the async rooms: nothing here may block the lane, and a slow client costs only itself.

use crate::agent::desk::{Answer, Request};
use crate::agent::run::Asked;
use crate::step::Mistake;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use crossbeam_channel::{Sender, TrySendError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

/// No question is larger, in bytes.
const BODY_BYTES_MAX: usize = 64 << 10;
/// How long an answer may take: an `ingest` takes what is there, push included.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3600);
const ROUTE: &str = "/api/v1/ask";

/// A socket that is being served; dropping it ends the service and removes the socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Serves a lane's questions on a socket that only the agent's user may use.
    pub fn start(path: &Path, asked: Sender<Asked>) -> io::Result<Server> {
        if let Some(dir) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        // We hold the lane's lock, so whoever left this socket is gone.
        remove(path)?;
        let listener = std::os::unix::net::UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("api".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let listener = match tokio::net::UnixListener::from_std(listener) {
                    Ok(it) => it,
                    Err(error) => {
                        tracing::error!(%error, "cannot serve the socket");
                        return;
                    }
                };
                let ended = async {
                    // An error means that the sender is gone, which says the same.
                    let _ = stopped.await;
                };
                let served = axum::serve(listener, routes(asked)).with_graceful_shutdown(ended);
                if let Err(error) = served.await {
                    tracing::error!(%error, "the socket is not served any more");
                }
            });
        })?;
        Ok(Server { path: path.to_owned(), stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The service may have ended by itself.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a socket is no file of the work tree")]
fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(it) if it.kind() != io::ErrorKind::NotFound => Err(it),
        _ => Ok(()),
    }
}

fn routes(asked: Sender<Asked>) -> Router {
    Router::new()
        .route(ROUTE, post(ask))
        .layer(RequestBodyLimitLayer::new(body_bytes_max()))
        .layer(TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, ANSWER_TIME_MAX))
        .with_state(asked)
}

fn body_bytes_max() -> usize {
    if Mistake::UnboundedBody.is_made() { usize::MAX } else { BODY_BYTES_MAX }
}

async fn ask(
    State(asked): State<Sender<Asked>>,
    Json(request): Json<Request>,
) -> (StatusCode, Json<Answer>) {
    let (reply, answer) = tokio::sync::oneshot::channel();
    let reply = Box::new(move |it| {
        // The client may have hung up.
        let _ = reply.send(it);
    });
    let refused = |message: &str| Answer::Refused { message: message.to_owned(), later: true };
    match asked.try_send(Asked { request, reply }) {
        Ok(()) => match answer.await {
            Ok(it) => (StatusCode::OK, Json(it)),
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, Json(refused("the agent is stopping"))),
        },
        Err(TrySendError::Full(_)) => {
            let it = refused("the agent has too many questions; ask again in a moment");
            (StatusCode::TOO_MANY_REQUESTS, Json(it))
        }
        Err(TrySendError::Disconnected(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(refused("the agent is stopping")))
        }
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
