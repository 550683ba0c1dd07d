//! What stands before every write: an answer that was given is given again, and each leaves a line in
//! the audit.
//!
//! A write runs to its end even where its client hangs up, because the lane does too: so its line in
//! the audit is true, and whoever asks again with the same key hears what came of it.

use super::audit::Became;
use super::auth::Caller;
use super::body;
use super::dress::RequestId;
use super::house::House;
use super::refusal::{ErrorCode, Refusal};
use crate::clock;
use crate::model::digest::Sha256;
use crate::whole;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufRead as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Names a POST, so that it is done once however often it is sent.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// An answer that was given again.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// A key is not longer.
const KEY_BYTES_MAX: usize = 255;
/// So many answers are kept.
const KEPT_MAX: usize = 10_000;
/// No longer than this.
const KEPT_FOR: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);
/// A larger answer is not kept, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The file is written anew when it is larger, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// An answer that was given.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    who: String,
    key: String,
    asked: Sha256,
    at: jiff::Timestamp,
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

#[derive(Debug)]
enum Entry {
    UnderWay(Sha256),
    Done(Arc<Kept>),
}

/// The answers of the last day, by who asked with which key.
#[derive(Debug)]
pub(super) struct Answers {
    path: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    entries: HashMap<(String, String), Entry>,
    /// The oldest first.
    order: VecDeque<(String, String)>,
}

impl Answers {
    /// Opens what is kept in an agent's directory.
    pub fn open(dir: &Path) -> io::Result<Answers> {
        let path = dir.join("answers.jsonl");
        let mut entries = HashMap::new();
        let mut order = VecDeque::new();
        let since = clock::now() - KEPT_FOR;
        if let Ok(file) = File::open(&path) {
            for line in io::BufReader::new(file).split(b'\n') {
                // A line that a crash tore is no answer.
                let Ok(kept) = serde_json::from_slice::<Kept>(&line?) else { continue };
                if kept.at > since {
                    let name = (kept.who.clone(), kept.key.clone());
                    order.push_back(name.clone());
                    entries.insert(name, Entry::Done(Arc::new(kept)));
                }
            }
        }
        let file = File::options().create(true).append(true).mode(0o600).open(&path)?;
        let it = Answers { path, inner: Mutex::new(Inner { file, entries, order }) };
        it.lock().shrink(&it.path)?;
        Ok(it)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a request; gives the answer that was given to the same one.
    fn begin(&self, name: &(String, String), asked: Sha256) -> Result<Option<Arc<Kept>>, Refusal> {
        let mut inner = self.lock();
        let reused = || {
            let message = "the idempotency key was used for another request";
            Err(Refusal::new(ErrorCode::IdempotencyKeyReused, message))
        };
        match inner.entries.get(name) {
            Some(Entry::UnderWay(same)) if *same == asked => {
                let message = "the same request is under way; ask again for its answer";
                Err(Refusal::new(ErrorCode::OperationInProgress, message).after(1))
            }
            Some(Entry::UnderWay(_)) => reused(),
            Some(Entry::Done(it)) if it.at < clock::now() - KEPT_FOR => {
                inner.entries.insert(name.clone(), Entry::UnderWay(asked));
                Ok(None)
            }
            Some(Entry::Done(it)) if it.asked == asked => Ok(Some(it.clone())),
            Some(Entry::Done(_)) => reused(),
            None => {
                inner.entries.insert(name.clone(), Entry::UnderWay(asked));
                inner.order.push_back(name.clone());
                Ok(None)
            }
        }
    }

    /// Keeps the answer; none lets the key go.
    fn end(&self, name: (String, String), kept: Option<Kept>) {
        let mut inner = self.lock();
        match kept {
            Some(kept) => {
                let written = inner.write(&kept).and_then(|()| inner.shrink(&self.path));
                if let Err(error) = written {
                    tracing::warn!(%error, "an answer is kept in memory alone");
                }
                inner.entries.insert(name, Entry::Done(Arc::new(kept)));
            }
            None => {
                inner.entries.remove(&name);
                inner.order.retain(|it| *it != name);
            }
        }
    }
}

impl Inner {
    fn write(&mut self, kept: &Kept) -> io::Result<()> {
        let mut line = serde_json::to_vec(kept)?;
        line.push(b'\n');
        self.file.write_all(&line)
    }

    /// Lets the oldest go, and writes the file anew where it has grown large.
    fn shrink(&mut self, path: &Path) -> io::Result<()> {
        while self.order.len() > KEPT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
        if self.file.metadata()?.len() < FILE_BYTES_MAX {
            return Ok(());
        }
        // Half of it at most, so that this is rare.
        let mut room = FILE_BYTES_MAX / 2;
        let mut lines = Vec::new();
        for name in self.order.iter().rev() {
            let Some(Entry::Done(kept)) = self.entries.get(name) else { continue };
            let line = serde_json::to_vec(&**kept)?;
            match room.checked_sub(line.len() as u64 + 1) {
                Some(rest) => room = rest,
                None => break,
            }
            lines.push(line);
        }
        whole::replace(path, |it| {
            let mut it = io::BufWriter::new(it);
            for line in lines.iter().rev() {
                it.write_all(line)?;
                it.write_all(b"\n")?;
            }
            it.flush()
        })?;
        self.file = File::options().append(true).open(path)?;
        Ok(())
    }
}

/// Marks an answer that is not kept, since it shows what is shown once only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unkept;

/// The layer around every write.
pub(super) async fn once(
    State(house): State<Arc<House>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return next.run(request).await;
    };
    if request.method().is_safe() || request.uri().path() == super::ask::ROUTE {
        return next.run(request).await;
    }
    let done = tokio::spawn(write(house, caller, request, next)).await;
    done.unwrap_or_else(|error| {
        tracing::error!(%error, "a write went wrong");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

async fn write(house: Arc<House>, caller: Caller, request: Request, next: Next) -> Response {
    let id = request.extensions().get::<RequestId>().map(|it| it.0.clone()).unwrap_or_default();
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let mut response = match keyed(&house, &caller, request, next).await {
        Ok(it) => it,
        Err(refusal) => refusal.into_response(),
    };
    let became = response.extensions_mut().remove::<Became>().unwrap_or_default();
    let status = response.status().as_u16();
    house.audit.add(&caller, &id, (&method, &path), status, became);
    response
}

/// Runs a write once for its key, where it has one.
async fn keyed(
    house: &House,
    caller: &Caller,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let key = match request.headers().get(IDEMPOTENCY_KEY) {
        Some(key) if request.method() == Method::POST => key.to_str().ok().map(str::to_owned),
        _ => return Ok(next.run(request).await),
    };
    let fits = |it: &String| (1..=KEY_BYTES_MAX).contains(&it.len());
    let key = key.filter(fits).ok_or_else(|| {
        Refusal::unfit("Idempotency-Key", format!("write 1 to {KEY_BYTES_MAX} plain characters"))
    })?;
    let bytes_max = usize::try_from(house.settings.intake.bytes_max).unwrap_or(usize::MAX);
    let (parts, content) = request.into_parts();
    let limit = bytes_max.max(body::JSON_BYTES_MAX);
    let whole = Request::from_parts(parts.clone(), content);
    let bytes: Bytes = body::read(whole, limit).await?;
    let mut asked = format!("{} {}\n", parts.method, parts.uri).into_bytes();
    asked.extend_from_slice(&bytes);
    let name = (caller.token.clone().unwrap_or_else(|| caller.actor.clone()), key);
    let asked = Sha256::of(&asked);
    if let Some(kept) = house.answers.begin(&name, asked)? {
        return Ok(again(&kept));
    }
    let guard = Guard { house, name: Some(name) };
    let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
    Ok(guard.keep(asked, response).await)
}

/// Lets a key go where its request comes to no answer.
struct Guard<'a> {
    house: &'a House,
    name: Option<(String, String)>,
}

impl Guard<'_> {
    async fn keep(mut self, asked: Sha256, response: Response) -> Response {
        let status = response.status();
        // Refusals are made whole outside of here, and may be different the next time.
        if !status.is_success() || response.extensions().get::<Unkept>().is_some() {
            return response;
        }
        let (parts, body) = response.into_parts();
        let Ok(bytes) = to_bytes(body, ANSWER_BYTES_MAX).await else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        if let (Some((who, key)), Ok(body)) = (self.name.take(), String::from_utf8(bytes.to_vec()))
        {
            let header = |name: HeaderName| {
                let value = parts.headers.get(&name)?.to_str().ok()?.to_owned();
                Some((name.to_string(), value))
            };
            let headers = [CONTENT_TYPE, ETAG, LOCATION].into_iter().filter_map(header).collect();
            let (status, at) = (status.as_u16(), clock::now());
            let name = (who.clone(), key.clone());
            let kept = Kept { who, key, asked, at, status, headers, body };
            self.house.answers.end(name, Some(kept));
        }
        Response::from_parts(parts, Body::from(bytes))
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            self.house.answers.end(name, None);
        }
    }
}

fn again(kept: &Kept) -> Response {
    let status = StatusCode::from_u16(kept.status).unwrap_or(StatusCode::OK);
    let mut response = (status, kept.body.clone()).into_response();
    let headers = response.headers_mut();
    for (name, value) in &kept.headers {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value))
        {
            headers.insert(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
