//! The same client for gix's own fetch: one set of connections, certificates, logins, deadlines.
//!
//! [`transport`] gives what `gix::Remote::to_connection_with_transport` takes. A 401 comes out as
//! gix expects it, so gix's own `with_credentials` can answer; a login given here goes out with
//! the first request (as a bearer token too, which gix cannot do).

use std::{
    io::{self, BufRead, Cursor, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use gix_transport::{
    Protocol,
    client::{
        AuthenticationRequired,
        blocking_io::http::{
            GetResponse, Http as GixHttp, PostBodyDataKind, PostResponse, Transport,
        },
    },
};

use super::{
    Deadlines,
    credentials::Login,
    error::{Error, Stop},
    http::{Answer, Body, Client, Request},
    pulse::Pulse,
};

/// How a fetch is bounded.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// How long things may take.
    pub deadlines: Deadlines,
    /// The most bytes of one answer: the pack is the largest.
    pub response_bytes_max: u64,
    /// Send a login over plain http too.
    pub allow_clear_text: bool,
    /// When set to true, the fetch ends soon with [`Error::Interrupted`].
    pub interrupt: Option<Arc<AtomicBool>>,
}

/// A transport for gix over `client`, with protocol version 2.
///
/// # Errors
/// [`Error::Transport`] if `url` is not http or https, [`Error::ClearText`] if `login` would go
/// out without encryption.
pub fn transport(
    client: &Client,
    url: &gix::Url,
    login: Option<Login>,
    options: &FetchOptions,
) -> Result<Transport<Web>, Error> {
    use gix::url::Scheme;
    if !matches!(url.scheme, Scheme::Http | Scheme::Https) {
        return Err(Error::Transport { scheme: url.scheme.to_string() });
    }
    let shown = super::url::shown(url);
    if login.is_some() && !options.allow_clear_text && url.scheme == Scheme::Http {
        return Err(Error::ClearText { url: shown });
    }
    let Deadlines { idle, wall, .. } = options.deadlines;
    let pulse = Pulse::new(idle, wall, options.interrupt.clone());
    if let Some(least) = client.low_speed {
        pulse.demand(least);
    }
    let web = Web {
        client: client.clone(),
        shown,
        login,
        limit_bytes: options.response_bytes_max,
        pulse,
        redirected: Arc::default(),
    };
    Ok(Transport::new_http(web, url.clone(), Protocol::V2, false))
}

/// gix's idea of an http backend, on our client.
pub struct Web {
    client: Client,
    shown: String,
    login: Option<Login>,
    limit_bytes: u64,
    pulse: Arc<Pulse>,
    redirected: Arc<Mutex<Option<String>>>,
}

/// The most that one request may ask: wants and haves, not packs.
const REQUEST_BYTES_MAX: usize = 64 << 20;

enum Stage {
    /// Nothing is sent before the answer is wanted.
    Asking {
        client: Client,
        url: String,
        shown: String,
        login: Option<Login>,
        headers: Headers,
        body: Option<Vec<u8>>,
    },
    Answering(Box<Answer>),
    Failed,
}

type Headers = Vec<(String, String)>;

/// A request and its answer, shared by the three ends that gix wants.
pub struct Exchange {
    stage: Stage,
    pulse: Arc<Pulse>,
    left_bytes: u64,
    limit_bytes: u64,
    redirected: Option<(String, Arc<Mutex<Option<String>>>)>,
}

impl Exchange {
    fn answer(&mut self) -> io::Result<&mut Answer> {
        if matches!(self.stage, Stage::Asking { .. }) {
            let asking = std::mem::replace(&mut self.stage, Stage::Failed);
            if let Stage::Asking { client, url, shown, login, headers, body } = asking {
                let headers: Vec<_> = headers.iter().map(|(k, v)| (&**k, &**v)).collect();
                let request =
                    Request { url: &url, shown: &shown, login: login.as_ref(), headers: &headers };
                let body = body.map_or(Body::None, |it| Body::Whole(it.into()));
                let answer = client.send(&request, body, &self.pulse).map_err(io::Error::other)?;
                self.judge(&answer, shown)?;
                self.stage = Stage::Answering(Box::new(answer));
            }
        }
        match &mut self.stage {
            Stage::Answering(answer) => Ok(answer),
            Stage::Asking { .. } | Stage::Failed => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    fn judge(&mut self, answer: &Answer, shown: String) -> io::Result<()> {
        if answer.status == 401 {
            let asked = AuthenticationRequired { www_authenticate: answer.asked.clone() };
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, asked));
        }
        if !(200..300).contains(&answer.status) {
            let (url, status, detail) = (shown, answer.status, String::new());
            return Err(io::Error::other(match status {
                403 => Error::Forbidden { url, detail },
                404 | 410 => Error::NotFound { url, detail },
                _ => Error::Http { url, status, detail },
            }));
        }
        if let Some((tail, place)) = &self.redirected
            && let Some(base) = answer.url.strip_suffix(tail)
        {
            *locked(place) = Some(base.to_owned());
        }
        Ok(())
    }
}

/// The three ends are used one after the other, so nobody waits, and nobody can have panicked.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The head of an answer, line by line.
pub struct HeadReader {
    exchange: Arc<Mutex<Exchange>>,
    lines: Option<Cursor<Vec<u8>>>,
}

impl HeadReader {
    fn lines(&mut self) -> io::Result<&mut Cursor<Vec<u8>>> {
        if self.lines.is_none() {
            let mut text = Vec::new();
            for (name, value) in &locked(&self.exchange).answer()?.headers {
                text.extend_from_slice(name.as_bytes());
                text.extend_from_slice(b": ");
                text.extend_from_slice(value);
                text.push(b'\n');
            }
            self.lines = Some(Cursor::new(text));
        }
        Ok(self.lines.get_or_insert_default())
    }
}

impl Read for HeadReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.lines()?.read(out)
    }
}

impl BufRead for HeadReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.lines()?.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        if let Some(lines) = &mut self.lines {
            lines.consume(n);
        }
    }
}

/// The body of an answer.
pub struct BodyReader {
    exchange: Arc<Mutex<Exchange>>,
    piece: Vec<u8>,
    used: usize,
}

impl Read for BodyReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let have = self.fill_buf()?;
        let n = have.len().min(out.len());
        out[..n].copy_from_slice(&have[..n]);
        self.consume(n);
        Ok(n)
    }
}

impl BufRead for BodyReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.used >= self.piece.len() {
            let mut exchange = locked(&self.exchange);
            self.piece.clear();
            self.used = 0;
            let body = &mut exchange.answer()?.body;
            self.piece.extend_from_slice(body.fill()?);
            body.consume(self.piece.len());
            let left = exchange.left_bytes.checked_sub(self.piece.len() as u64);
            let (what, limit_bytes) = ("an answer", exchange.limit_bytes);
            exchange.left_bytes = left.ok_or(Stop::Size { what, limit_bytes })?;
        }
        Ok(&self.piece[self.used..])
    }

    fn consume(&mut self, n: usize) {
        self.used = (self.used + n).min(self.piece.len());
    }
}

/// The body of a request.
pub struct BodyWriter(Arc<Mutex<Exchange>>);

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut locked(&self.0).stage {
            Stage::Asking { body: Some(body), .. } => {
                if body.len() + bytes.len() > REQUEST_BYTES_MAX {
                    let limit_bytes = REQUEST_BYTES_MAX as u64;
                    return Err(Stop::Size { what: "a request", limit_bytes }.into());
                }
                body.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            Stage::Asking { body: None, .. } | Stage::Answering(_) | Stage::Failed => {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Web {
    fn ask(
        &self,
        url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        body: Option<Vec<u8>>,
        redirected: Option<(String, Arc<Mutex<Option<String>>>)>,
    ) -> Arc<Mutex<Exchange>> {
        let split = |line: &str| {
            line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        };
        let headers: Headers = headers.into_iter().filter_map(|it| split(it.as_ref())).collect();
        // What gix has asked its own credentials for is the later word.
        let theirs = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        let stage = Stage::Asking {
            client: self.client.clone(),
            url: url.to_owned(),
            shown: self.shown.clone(),
            login: if theirs { None } else { self.login.clone() },
            headers,
            body,
        };
        Arc::new(Mutex::new(Exchange {
            stage,
            pulse: self.pulse.clone(),
            left_bytes: self.limit_bytes,
            limit_bytes: self.limit_bytes,
            redirected,
        }))
    }
}

fn ends(exchange: &Arc<Mutex<Exchange>>) -> (HeadReader, BodyReader) {
    let head = HeadReader { exchange: exchange.clone(), lines: None };
    (head, BodyReader { exchange: exchange.clone(), piece: Vec::new(), used: 0 })
}

impl GixHttp for Web {
    type Headers = HeadReader;
    type ResponseBody = BodyReader;
    type PostBody = BodyWriter;

    fn get(
        &mut self,
        url: &str,
        base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> gix::Result<GetResponse<HeadReader, BodyReader>> {
        let tail = url.strip_prefix(base_url).unwrap_or_default().to_owned();
        let exchange = self.ask(url, headers, None, Some((tail, self.redirected.clone())));
        let (headers, body) = ends(&exchange);
        Ok(GetResponse { headers, body })
    }

    fn post(
        &mut self,
        url: &str,
        _base_url: &str,
        headers: impl IntoIterator<Item = impl AsRef<str>>,
        _body: PostBodyDataKind,
    ) -> gix::Result<PostResponse<HeadReader, BodyReader, BodyWriter>> {
        let exchange = self.ask(url, headers, Some(Vec::new()), None);
        let (headers, body) = ends(&exchange);
        Ok(PostResponse { post_body: BodyWriter(exchange), headers, body })
    }

    fn configure(&mut self, _config: &dyn std::any::Any) -> gix::Result<()> {
        // Proxy, certificates and deadlines are the client's, and set.
        Ok(())
    }

    fn redirected_base_url(&self) -> Option<String> {
        locked(&self.redirected).clone()
    }
}
