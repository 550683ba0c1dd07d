//! HTTP for git: one client, one runtime thread, and deadlines on everything that moves.
//!
//! - One [`Client`] keeps its connections, so that a push after a fetch needs no new handshake.
//! - An answer is an answer also when it comes early: a server that says 413 in the middle of an
//!   upload is heard, whatever happened to the upload.
//! - Redirects stay on their host and scheme (http may become https).
//! - One TLS stack: rustls on ring, installed here and nowhere else.
//!
//! Calls block, so none may come from within an async runtime.

use std::{
    io::{self, Read, Write},
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    credentials::Login,
    error::{Cause, Error},
    pulse::Pulse,
    trust,
};

/// How a client reaches the world.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// PEM certificates to trust beside the system's.
    pub ca_file: Option<std::path::PathBuf>,
    /// Trust whatever certificate a server shows.
    pub trust_any_certificate: bool,
    /// A proxy for all requests, save those to hosts that `NO_PROXY` names; `Some("")` means none.
    /// Else the environment says.
    pub proxy: Option<String>,
    /// Do not ask the environment for proxies, nor for hosts that need none.
    pub no_environment: bool,
    /// How long a connection may take; 30 seconds by default.
    pub connect: Option<Duration>,
    /// The `User-Agent`; `git/gix-push` by default, as some hosts answer only what begins so.
    pub user_agent: Option<String>,
    /// Sent with every request.
    pub headers: Vec<Header>,
    /// Never speak HTTP/2.
    pub http1_only: bool,
    /// What is too slow to be waited for.
    pub low_speed: Option<LowSpeed>,
}

/// Fewer bytes than this, over so long a time, and a conversation is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LowSpeed {
    /// The least that may move in a second.
    pub bytes_per_second: u64,
    /// Only waiting for the network counts.
    pub time: Duration,
}

/// A header of a request. Its value may be a secret and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    name: reqwest::header::HeaderName,
    value: reqwest::header::HeaderValue,
}

impl Header {
    /// Reads `Name: value`.
    pub fn parse(line: &str) -> Option<Header> {
        let (name, value) = line.split_once(':')?;
        let name = reqwest::header::HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
        let mut value = reqwest::header::HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        Some(Header { name, value })
    }
}

impl std::fmt::Debug for Header {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: ...", self.name)
    }
}

impl std::fmt::Debug for ClientOptions {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("ClientOptions")
            .field("ca_file", &self.ca_file)
            .field("trust_any_certificate", &self.trust_any_certificate)
            // It may carry a password.
            .field("proxy", &self.proxy.as_deref().map(super::url::shown_text))
            .field("headers", &self.headers)
            .field("low_speed", &self.low_speed)
            .finish_non_exhaustive()
    }
}

/// Connections and their settings. Cheap to clone; clones share connections.
#[derive(Debug, Clone)]
pub struct Client {
    inner: reqwest::Client,
    handle: Handle,
    pub(crate) low_speed: Option<LowSpeed>,
}

/// The most redirects that are followed, all on one host.
const REDIRECTS_MAX: usize = 5;

/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(90);

impl Client {
    /// Sets up a client.
    ///
    /// # Errors
    /// [`Error::Setup`] when the CA file or the proxy cannot be used.
    pub fn new(options: &ClientOptions) -> Result<Self, Error> {
        // Whoever comes second finds the provider in place, which is all that is asked.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let handle = runtime()?;
        let agent = options.user_agent.as_deref().unwrap_or("git/gix-push");
        let mut builder = reqwest::Client::builder()
            .user_agent(agent)
            .connect_timeout(options.connect.unwrap_or(Duration::from_secs(30)))
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(POOL_IDLE)
            .redirect(reqwest::redirect::Policy::custom(stay_on_host));
        builder = if options.trust_any_certificate {
            builder.tls_danger_accept_invalid_certs(true)
        } else {
            let settings = trust::settings(options.ca_file.as_deref(), options.http1_only)?;
            builder.tls_backend_preconfigured(settings)
        };
        if options.http1_only {
            builder = builder.http1_only();
        }
        let mut headers = reqwest::header::HeaderMap::new();
        for Header { name, value } in &options.headers {
            headers.append(name, value.clone());
        }
        builder = builder.default_headers(headers);
        builder = match options.proxy.as_deref() {
            Some("") => builder.no_proxy(),
            Some(proxy) => builder.proxy(self::proxy(proxy, options)?),
            None if options.no_environment => builder.no_proxy(),
            None => builder,
        };
        // The client must be born where its connections will live.
        let _inside = handle.enter();
        let inner = builder
            .build()
            .map_err(|err| Error::Setup { what: "the HTTP client".into(), source: err.into() })?;
        drop(_inside);
        Ok(Client { inner, handle, low_speed: options.low_speed })
    }
}

const PROXY_SCHEMES: [&str; 6] = ["http", "https", "socks4", "socks4a", "socks5", "socks5h"];

fn proxy(text: &str, options: &ClientOptions) -> Result<reqwest::Proxy, Error> {
    let failed = |source: Cause| Error::Setup { what: "the proxy".into(), source };
    // One of a scheme that is not known would be passed by.
    if let Some((scheme, _)) = text.split_once("://")
        && !PROXY_SCHEMES.contains(&scheme.to_ascii_lowercase().as_str())
    {
        return Err(failed(format!("it is none of {}", PROXY_SCHEMES.join(", ")).into()));
    }
    let proxy = reqwest::Proxy::all(text).map_err(|err| failed(err.without_url().into()))?;
    let excepted = reqwest::NoProxy::from_env().filter(|_| !options.no_environment);
    Ok(proxy.no_proxy(excepted))
}

fn stay_on_host(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    let (from, to) = match attempt.previous().last() {
        Some(from) => (from, attempt.url()),
        None => return attempt.stop(),
    };
    let ports = (from.port_or_known_default(), to.port_or_known_default());
    let same =
        from.host_str() == to.host_str() && from.scheme() == to.scheme() && ports.0 == ports.1;
    let safer = from.host_str() == to.host_str()
        && (from.scheme(), to.scheme()) == ("http", "https")
        && to.port().is_none();
    if (same || safer) && attempt.previous().len() <= REDIRECTS_MAX {
        attempt.follow()
    } else {
        attempt.stop()
    }
}

/// The one thread on which all connections live.
fn runtime() -> Result<Handle, Error> {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let failed =
        |source: io::Error| Error::Setup { what: "the HTTP runtime".into(), source: source.into() };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let handle = HANDLE.get_or_init(|| runtime.handle().clone()).clone();
    // Only the winner's runtime must run; a loser's has an id of its own and is dropped.
    if handle.id() == runtime.handle().id() {
        std::thread::Builder::new()
            .name("git-http".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .map_err(failed)?;
    }
    Ok(handle)
}

/// One request, ready to be sent (more than once, if its body is whole).
pub(crate) struct Request<'a> {
    pub(crate) url: &'a str,
    /// The address in words fit for an error.
    pub(crate) shown: &'a str,
    pub(crate) login: Option<&'a Login>,
    pub(crate) headers: &'a [(&'a str, &'a str)],
}

/// What to send.
pub(crate) enum Body {
    None,
    Whole(Bytes),
    Pieces(Pieces),
}

/// The beginning of an answer; its body is read from [`Answer::body`].
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) url: String,
    pub(crate) content_type: String,
    pub(crate) asked: Vec<gix::bstr::BString>,
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: AnswerBody,
}

impl Client {
    /// Sends, and waits for the answer's head.
    pub(crate) fn send(
        &self,
        request: &Request<'_>,
        body: Body,
        pulse: &Arc<Pulse>,
    ) -> Result<Answer, Error> {
        let mut builder = match &body {
            Body::None => self.inner.get(request.url),
            Body::Whole(_) | Body::Pieces(_) => self.inner.post(request.url),
        };
        for (name, value) in request.headers {
            builder = builder.header(*name, *value);
        }
        if let Some(login) = request.login {
            let mut value = reqwest::header::HeaderValue::from_str(&login.header())
                .map_err(|err| Error::Setup { what: "the login".into(), source: err.into() })?;
            value.set_sensitive(true);
            builder = builder.header(reqwest::header::AUTHORIZATION, value);
        }
        builder = match body {
            Body::None => builder,
            Body::Whole(bytes) => builder.body(bytes),
            Body::Pieces(pieces) => builder.body(reqwest::Body::wrap(pieces)),
        };
        let sent = self.handle.block_on(in_time(pulse, builder.send()));
        let response = match sent {
            Err(stop) => return Err(Error::wire(request.shown, "waiting for an answer", stop)),
            Ok(Err(err)) => return Err(failed(request.shown, err)),
            Ok(Ok(response)) => response,
        };
        pulse.beat(0);
        let header = |name| response.headers().get_all(name).into_iter();
        let text = |name| {
            let value = header(name).next().and_then(|it| it.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        if response.status().is_redirection() {
            let to = text(reqwest::header::LOCATION);
            let to = super::url::shown_text(&to);
            return Err(Error::Redirect { url: request.shown.into(), to });
        }
        let headers = response.headers().iter();
        Ok(Answer {
            status: response.status().as_u16(),
            url: response.url().to_string(),
            content_type: text(reqwest::header::CONTENT_TYPE),
            asked: header(reqwest::header::WWW_AUTHENTICATE)
                .map(|it| it.as_bytes().into())
                .collect(),
            headers: headers.map(|(k, v)| (k.to_string(), v.as_bytes().to_vec())).collect(),
            body: AnswerBody {
                response,
                piece: Bytes::new(),
                handle: self.handle.clone(),
                pulse: pulse.clone(),
            },
        })
    }
}

/// Drives `future`, for as long as something moves.
async fn in_time<F: Future>(pulse: &Pulse, future: F) -> io::Result<F::Output> {
    let mut future = pin!(future);
    loop {
        let slice = pulse.check()?;
        let waiting = pulse.waiting();
        let done = tokio::time::timeout(slice, future.as_mut()).await;
        drop(waiting);
        if let Ok(done) = done {
            return Ok(done);
        }
    }
}

fn failed(shown: &str, err: reqwest::Error) -> Error {
    let url = shown.to_owned();
    let err = err.without_url();
    if distrusted(&err) {
        return Error::Certificate { url, source: err.into() };
    }
    if err.is_connect() {
        return Error::Connect { url, source: err.into() };
    }
    let kind = if err.is_timeout() { io::ErrorKind::TimedOut } else { io::ErrorKind::Other };
    Error::wire(&url, "waiting for an answer", io::Error::new(kind, err))
}

/// Whether a certificate is the cause, however deep it lies: each layer wraps it once more.
fn distrusted(err: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(tls) = err.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    // An I/O error skips what it wraps when asked for its source.
    let wrapped = err.downcast_ref::<io::Error>().and_then(|it| it.get_ref());
    wrapped.is_some_and(|it| distrusted(it)) || err.source().is_some_and(distrusted)
}

/// The body of an answer, as a reader.
pub(crate) struct AnswerBody {
    response: reqwest::Response,
    piece: Bytes,
    handle: Handle,
    pulse: Arc<Pulse>,
}

impl AnswerBody {
    /// The next bytes without copying; empty at the end.
    pub(crate) fn fill(&mut self) -> io::Result<&[u8]> {
        while self.piece.is_empty() {
            match self.handle.block_on(in_time(&self.pulse, self.response.chunk()))? {
                Ok(Some(piece)) => self.piece = piece,
                Ok(None) => break,
                Err(err) => return Err(io::Error::other(err.without_url())),
            }
            self.pulse.beat(self.piece.len());
        }
        Ok(&self.piece)
    }

    pub(crate) fn consume(&mut self, n: usize) {
        let _ = self.piece.split_to(n);
    }
}

impl Read for AnswerBody {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let have = self.fill()?;
        let n = have.len().min(out.len());
        out[..n].copy_from_slice(&have[..n]);
        self.consume(n);
        Ok(n)
    }
}

/// How many pieces may wait to be sent.
const PIECES_MAX: usize = 8;

/// How large a piece is.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;

/// A request body that is written while it is sent.
pub(crate) struct Pieces {
    rx: mpsc::Receiver<Result<Bytes, io::Error>>,
    pulse: Arc<Pulse>,
}

/// The writing end. It must be ended with [`Upload::end`]: dropped before, the request breaks off,
/// so that half a pack never looks like a whole one.
pub(crate) struct Upload {
    tx: Option<mpsc::Sender<Result<Bytes, io::Error>>>,
    piece: Vec<u8>,
}

/// A body of unknown length.
pub(crate) fn pieces(pulse: &Arc<Pulse>) -> (Upload, Pieces) {
    let (tx, rx) = mpsc::channel(PIECES_MAX);
    (Upload { tx: Some(tx), piece: Vec::new() }, Pieces { rx, pulse: pulse.clone() })
}

impl Upload {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::take(&mut self.piece);
        match &self.tx {
            Some(tx) if !piece.is_empty() => {
                tx.blocking_send(Ok(piece.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
            Some(_) => Ok(()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    pub(crate) fn end(mut self) -> io::Result<()> {
        let sent = self.send();
        self.tx = None;
        sent
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PIECE_BYTES.saturating_sub(self.piece.len()));
        self.piece.extend_from_slice(&bytes[..n]);
        if self.piece.len() >= PIECE_BYTES {
            self.send()?;
        }
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(tx) = self.tx.take() {
            // When nobody listens any more, there is nothing to break off.
            let _ = tx.blocking_send(Err(io::Error::other("the upload was given up")));
        }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, io::Error>>> {
        let polled = self.rx.poll_recv(context);
        if let Poll::Ready(piece) = &polled {
            self.pulse.beat(piece.as_ref().and_then(|it| it.as_ref().ok()).map_or(0, Bytes::len));
        }
        polled.map(|it| it.map(|it| it.map(http_body::Frame::data)))
    }
}
