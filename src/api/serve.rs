//! The accept loop: connections in, answers out, all of it in one thread beside the lanes.

use super::house::House;
use super::listen::{self, Listener, Names, Socket, Via};
use super::notices::Courier;
use super::routes;
use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, Sleep};
use tower::ServiceExt as _;

/// How long a client has for the head of a request, and between two requests.
const HEAD_TIME_MAX: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a client may take nothing of its answer.
const STALL_TIME_MAX: Duration = Duration::from_secs(60);
/// How much of a request's head is kept, and how much of an answer waits for its client, in bytes.
const BUFFER_BYTES_MAX: usize = 64 << 10;
/// How long answers under way are waited for at the end.
const END_TIME_MAX: Duration = Duration::from_secs(5);
/// Who follows the events is woken once for what happens within so long, so that a flood of events is
/// no flood of wakes.
const EVENTS_PAUSE: Duration = Duration::from_millis(50);
/// Who follows is woken so much later for each of them, and at most so much: waking ten thousand costs a
/// processor that the drop they are told of still needs, and what happens meanwhile goes with it.
const EVENTS_GATHERED: Duration = Duration::from_micros(20);
const EVENTS_GATHERED_MAX: Duration = Duration::from_millis(250);
/// So many open files are left to the lanes, whoever connects.
const DESCRIPTORS_KEPT: usize = 256;
/// How far the door gives way to the lanes, as `nice` counts.
const NICENESS: i32 = 5;
/// Threads for what has to read a disk.
const BLOCKING_THREADS_MAX: usize = 4;
/// After an accept that failed (no file descriptors left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The prefix of the NetBox plugin, whose clients find the same routes.
const PLUGIN: &str = "/api/plugins/hedgehog";
const BASE: &str = "/api/v1";

/// The door, open; dropping it closes it and removes its sockets.
pub struct Server {
    paths: Vec<PathBuf>,
    house: Arc<House>,
    stop: Option<watch::Sender<bool>>,
    thread: Option<std::thread::JoinHandle<()>>,
    courier: Option<Courier>,
}

impl Server {
    /// Closes the door. Whoever is told by webhooks hears also of what happens from now on, until what
    /// this gives is dropped.
    pub fn close(mut self) -> Option<Courier> {
        self.courier.take()
    }

    /// Serves a house on its listeners.
    pub fn start(house: Arc<House>, listeners: Vec<Listener>) -> io::Result<Server> {
        let paths = listeners.iter().filter_map(|it| it.path.clone()).collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .build()?;
        let (stop, stopped) = watch::channel(false);
        let courier = Some(Courier::start(house.clone())?);
        let served = house.clone();
        let thread = std::thread::Builder::new().name("api".to_owned()).spawn(move || {
            give_way();
            runtime.block_on(serve(served, listeners, stopped));
            // What still hangs on a slow client is let go.
            runtime.shutdown_timeout(Duration::from_secs(1));
        })?;
        Ok(Server { paths, house, stop: Some(stop), thread: Some(thread), courier })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // The service may have ended by itself.
            let _ = stop.send(true);
        }
        self.house.stopping.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for path in &self.paths {
            if let Err(error) = listen::remove(path) {
                tracing::warn!(%error, path = %path.display(), "cannot remove the socket");
            }
        }
    }
}

/// Has the lanes go first where the processors are short: whoever asks may wait a little, a drop may
/// not. What this thread starts does the same.
pub(super) fn give_way() {
    // On Linux this is about one thread.
    if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
        tracing::debug!(%error, "the door goes at the lanes' priority");
    }
}

async fn serve(house: Arc<House>, listeners: Vec<Listener>, stopped: watch::Receiver<bool>) {
    let router = routes::router(house.clone());
    let graceful = Arc::new(GracefulShutdown::new());
    let names = Arc::new(Names::read());
    let room = connections(&house, listeners.iter().filter(|it| it.lane.is_none()).count());
    let mut accepting = tokio::task::JoinSet::new();
    for listener in listeners {
        let entrance = Entrance {
            house: house.clone(),
            router: router.clone(),
            graceful: graceful.clone(),
            names: names.clone(),
            room: Arc::new(Semaphore::new(room)),
            lane: listener.lane,
        };
        let mut stopped = stopped.clone();
        accepting.spawn(async move {
            let name = listener.name.clone();
            let ended = async move {
                // An error means that the sender is gone, which says the same.
                let _ = stopped.wait_for(|it| *it).await;
            };
            tokio::select! {
                () = ended => (),
                served = entrance.accept(listener.socket) => if let Err(error) = served {
                    tracing::error!(%error, listener = name, "this listener is not served any more");
                },
            }
        });
    }
    let ringing = tokio::spawn(ring(house));
    while accepting.join_next().await.is_some() {}
    ringing.abort();
    if let Some(graceful) = Arc::into_inner(graceful) {
        // Whoever does not end in time is let go.
        let _ = tokio::time::timeout(END_TIME_MAX, graceful.shutdown()).await;
    }
}

/// How many connections a listener lets in: as the settings say, if the system gives that many. Those
/// of the lanes' own sockets are the agent's own user's, and few.
fn connections(house: &House, listeners: usize) -> usize {
    let wanted = house.api().connections_max;
    let given = listen::descriptors().saturating_sub(DESCRIPTORS_KEPT) / listeners.max(1);
    if given < wanted {
        tracing::info!(
            "the system lets this process open few files, so each listener lets {} clients in, not {wanted} \
             (api.connections_max): raise the limit (LimitNOFILE=, ulimit -n)",
            given.max(1)
        );
    }
    wanted.min(given).max(1)
}

/// Wakes who follows the events. A lane rings one bell and goes on; how many follow is no matter to it.
async fn ring(house: Arc<House>) {
    loop {
        house.bell.notified().await;
        if let Some(while_more_comes) = gathering(house.heard.receiver_count()) {
            tokio::time::sleep(while_more_comes).await;
        }
        house.gate.look();
        house.heard.send_replace(house.events.last());
        tokio::time::sleep(EVENTS_PAUSE).await;
    }
}

/// How long events are gathered before so many are woken; few are woken at once.
fn gathering(followers: usize) -> Option<Duration> {
    let followers = u32::try_from(followers).unwrap_or(u32::MAX);
    let time = EVENTS_GATHERED.saturating_mul(followers).min(EVENTS_GATHERED_MAX);
    (time >= EVENTS_PAUSE).then_some(time)
}

/// One listener's way in.
struct Entrance {
    house: Arc<House>,
    router: Router,
    graceful: Arc<GracefulShutdown>,
    names: Arc<Names>,
    room: Arc<Semaphore>,
    lane: Option<usize>,
}

impl Entrance {
    async fn accept(&self, socket: Socket) -> io::Result<()> {
        match socket {
            Socket::Unix(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::UnixListener::from_std(listener)?;
                loop {
                    let permit = self.room.clone().acquire_owned().await;
                    let Some((stream, _)) = taken(listener.accept().await).await else { continue };
                    match listen::peer_of(&stream, &self.names) {
                        Ok(peer) => self.spawn(stream, Via { peer, lane: self.lane }, permit),
                        Err(error) => tracing::debug!(%error, "a connection without a peer"),
                    }
                }
            }
            Socket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                loop {
                    let permit = self.room.clone().acquire_owned().await;
                    let Some((stream, from)) = taken(listener.accept().await).await else {
                        continue;
                    };
                    // Small answers leave at once.
                    let _ = stream.set_nodelay(true);
                    self.spawn(stream, Via { peer: listen::Peer::Tcp(from), lane: None }, permit);
                }
            }
            Socket::Tls(listener, acceptor) => {
                listener.set_nonblocking(true)?;
                let listener = tokio::net::TcpListener::from_std(listener)?;
                loop {
                    let permit = self.room.clone().acquire_owned().await;
                    let Some((stream, from)) = taken(listener.accept().await).await else {
                        continue;
                    };
                    let _ = stream.set_nodelay(true);
                    let via = Via { peer: listen::Peer::Tcp(from), lane: None };
                    let (it, watcher) = (self.conversation(via), self.graceful.watcher());
                    let shaking = tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream));
                    tokio::spawn(async move {
                        match shaking.await {
                            Ok(Ok(stream)) => it.hold(stream, watcher).await,
                            Ok(Err(error)) => tracing::debug!(%error, %from, "no TLS handshake"),
                            Err(_) => tracing::debug!(%from, "a TLS handshake took too long"),
                        }
                        drop(permit);
                    });
                }
            }
        }
    }

    fn conversation(&self, via: Via) -> Conversation {
        Conversation { house: self.house.clone(), router: self.router.clone(), via }
    }

    fn spawn<S, P>(&self, stream: S, via: Via, permit: P)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        P: Send + 'static,
    {
        let (it, watcher) = (self.conversation(via), self.graceful.watcher());
        tokio::spawn(async move {
            it.hold(stream, watcher).await;
            drop(permit);
        });
    }
}

/// What was accepted; none after a pause where the system could not.
async fn taken<T>(accepted: io::Result<T>) -> Option<T> {
    match accepted {
        Ok(it) => Some(it),
        Err(error) => {
            tracing::debug!(%error, "cannot accept a connection");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// One connection.
struct Conversation {
    house: Arc<House>,
    router: Router,
    via: Via,
}

impl Conversation {
    async fn hold<S>(self, stream: S, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.house.metrics.connections.fetch_add(1, Ordering::Relaxed);
        let (router, via) = (self.router, self.via);
        let answer = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            to_base(&mut request);
            request.extensions_mut().insert(via.clone());
            router.clone().oneshot(request)
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME_MAX)
            .max_buf_size(BUFFER_BYTES_MAX)
            .serve_connection(TokioIo::new(Patient::new(stream)), answer);
        if let Err(error) = watcher.watch(serving).await {
            tracing::trace!(%error, "a connection ended early");
        }
        self.house.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The prefix that a client asked by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prefix(pub &'static str);

/// Both prefixes and a slash at the end lead to the same routes.
fn to_base(request: &mut hyper::Request<Body>) {
    let path = request.uri().path();
    let below = path.strip_prefix(PLUGIN).filter(|it| it.is_empty() || it.starts_with('/'));
    let prefix = if below.is_some() { PLUGIN } else { BASE };
    request.extensions_mut().insert(Prefix(prefix));
    let path = request.uri().path();
    let below = path.strip_prefix(PLUGIN).filter(|it| it.is_empty() || it.starts_with('/'));
    let wanted = match below {
        Some(it) => format!("{BASE}{it}"),
        None if path.len() > 1 && path.ends_with('/') => path.to_owned(),
        None => return,
    };
    let wanted = wanted.trim_end_matches('/');
    let wanted = match request.uri().query() {
        Some(query) => format!("{wanted}?{query}"),
        None => wanted.to_owned(),
    };
    // What cannot be a path stays as it is, and leads nowhere.
    if let Ok(uri) = wanted.parse() {
        *request.uri_mut() = uri;
    }
}

/// A stream whose other end may not stop taking what is written for long.
struct Patient<S> {
    stream: S,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Patient<S> {
    fn new(stream: S) -> Patient<S> {
        Patient { stream, stalled: None }
    }

    fn timed<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.stalled = None;
            return polled;
        }
        let until = Instant::now() + STALL_TIME_MAX;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.timed(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.timed(cx, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.timed(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_followers_hear_a_little_later_and_few_at_once() {
        assert_eq!((gathering(0), gathering(100)), (None, None));
        assert_eq!(gathering(10_000), Some(Duration::from_millis(200)));
        assert_eq!(gathering(usize::MAX), Some(EVENTS_GATHERED_MAX));
    }
}
