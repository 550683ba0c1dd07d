//! A conversation, whatever carries it: one stream both ways, or a request and its answer.
//!
//! First the remote speaks; then one thread sends while another listens. Over http the sender
//! fills a buffer: what fits is one request that can be repeated after a 401, what does not is
//! streamed, after an empty request has made sure that the server lets us in.

use std::{
    io::{self, Write},
    os::unix::ffi::OsStringExt,
    sync::{Arc, mpsc},
};

use gix::{
    bstr::{BString, ByteSlice},
    url::Scheme,
};

use super::{
    Options,
    advertisement::{self, Advertisement},
    child::{self, Running, Ssh, Stream},
    credentials::{Credentials, Login},
    error::Error,
    http::{self, Answer, AnswerBody, Body, Client, Request, Upload},
    line::{FLUSH, Lines},
    pulse::{Paced, Pulse},
};

/// What `'o` options are borrowed for, and `'c` what they hold.
pub(crate) struct Wire<'o, 'c> {
    shown: String,
    pulse: Arc<Pulse>,
    advertisement_bytes_max: u64,
    kind: Carrier<'o, 'c>,
}

enum Carrier<'o, 'c> {
    Stream(Box<Stream>),
    Http(Box<Web<'o, 'c>>),
}

/// An http server and what it knows of us.
pub(crate) struct Web<'o, 'c> {
    client: Client,
    base: String,
    shown: String,
    login: Option<Login>,
    /// Whether the login in use came from asking, so that its source wants to hear of it.
    to_approve: bool,
    credentials: Option<&'o mut (dyn Credentials + 'c)>,
    allow_clear_text: bool,
    pulse: Arc<Pulse>,
}

impl<'o, 'c> Wire<'o, 'c> {
    pub(crate) fn open(
        repo: &gix::Repository,
        url: &gix::Url,
        options: &Options<'_>,
        credentials: Option<&'o mut (dyn Credentials + 'c)>,
        pulse: &Arc<Pulse>,
    ) -> Result<Wire<'o, 'c>, Error> {
        let shown = super::url::shown(url);
        let kind = match url.scheme {
            Scheme::Http | Scheme::Https => {
                Carrier::Http(Box::new(Web::new(url, &shown, options, credentials, pulse)?))
            }
            _ => {
                let ssh = ssh(repo, options);
                let program = options.receive_pack.clone();
                let program = program.unwrap_or_else(|| "git-receive-pack".into());
                Carrier::Stream(Box::new(child::open(&child::Settings {
                    url,
                    shown: &shown,
                    pulse,
                    connect: options.deadlines.connect,
                    receive_pack: program.as_bstr(),
                    ssh: &ssh,
                })?))
            }
        };
        let advertisement_bytes_max = options.limits.advertisement_bytes_max;
        Ok(Wire { shown, pulse: pulse.clone(), advertisement_bytes_max, kind })
    }

    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// Hears what the remote says first.
    pub(crate) fn advertisement(&mut self, hash: gix::hash::Kind) -> Result<Advertisement, Error> {
        let limit = self.advertisement_bytes_max;
        match &mut self.kind {
            Carrier::Stream(stream) => {
                let mut lines = Lines::new(&mut stream.reader, "the references", limit);
                let read = advertisement::read(&mut lines, &self.shown, hash, false);
                let wire_broke = matches!(read, Err(Error::Broken { .. } | Error::Protocol { .. }));
                match (read, &mut stream.child) {
                    (Err(err), Some(child)) if wire_broke => {
                        let stderr = child.finish(&self.pulse);
                        Err(child::explain(&self.shown, stderr.as_bstr(), err))
                    }
                    (read, _) => read,
                }
            }
            Carrier::Http(web) => web.advertisement(hash, limit),
        }
    }

    /// Ends a conversation in which nothing is to be sent.
    pub(crate) fn leave(self) {
        if let Carrier::Stream(stream) = self.kind {
            let Stream { reader, mut writer, child } = *stream;
            // Without it the remote would complain of a hangup; it may have hung up itself.
            let _ = writer.write_all(FLUSH);
            drop((reader, writer));
            if let Some(mut child) = child {
                child.finish(&self.pulse);
            }
        }
    }

    /// Takes the conversation apart into who listens, who sends, and what is left at the end.
    pub(crate) fn split(self, whole_bytes_max: usize) -> (Listener<'o, 'c>, Sender, Ending) {
        match self.kind {
            Carrier::Stream(stream) => {
                let Stream { reader, writer, child } = *stream;
                let ending = Ending { child, pulse: self.pulse };
                (Listener::Stream(reader), Sender::Stream(writer), ending)
            }
            Carrier::Http(web) => {
                let (tx, rx) = mpsc::sync_channel(1);
                let ending = Ending { child: None, pulse: self.pulse.clone() };
                let sender = Buffered {
                    tx,
                    whole: Vec::new(),
                    whole_bytes_max,
                    upload: None,
                    pulse: self.pulse,
                };
                (Listener::Http(web, rx), Sender::Http(sender), ending)
            }
        }
    }
}

/// The configuration of ssh: the caller, then the environment, then the repository.
fn ssh(repo: &gix::Repository, options: &Options<'_>) -> Ssh {
    let config = repo.config_snapshot();
    // Programs are taken from configuration that is ours, not from a stranger's repository.
    let text = |key: &str| {
        let program = config.trusted_program(key).ok().flatten();
        program.map(|it| BString::from(it.into_vec()))
    };
    let variable = |name| std::env::var_os(name).map(|it| BString::from(it.into_vec()));
    Ssh {
        command: options
            .ssh_command
            .clone()
            .or_else(|| variable("GIT_SSH_COMMAND"))
            .or_else(|| text("core.sshCommand")),
        program: variable("GIT_SSH"),
        variant: variable("GIT_SSH_VARIANT").or_else(|| text("ssh.variant")),
    }
}

/// Hears the answer.
pub(crate) enum Listener<'o, 'c> {
    Stream(Paced),
    Http(Box<Web<'o, 'c>>, mpsc::Receiver<Body>),
}

impl Listener<'_, '_> {
    pub(crate) fn listen<T>(
        self,
        limit_bytes: u64,
        read: impl FnOnce(&mut Lines<Reader>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let reader = match self {
            Self::Stream(reader) => Reader::Stream(reader),
            Self::Http(mut web, bodies) => {
                let Ok(body) = bodies.recv() else {
                    return Err(Error::wire(
                        &web.shown,
                        "sending",
                        io::ErrorKind::BrokenPipe.into(),
                    ));
                };
                Reader::Http(Box::new(web.exchange(body)?))
            }
        };
        read(&mut Lines::new(reader, "the report", limit_bytes))
    }
}

pub(crate) enum Reader {
    Stream(Paced),
    Http(Box<AnswerBody>),
}

impl io::Read for Reader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Stream(reader) => reader.read(out),
            Self::Http(reader) => reader.read(out),
        }
    }
}

/// Takes what is to be sent; [`Sender::end`] says that it was all.
pub(crate) enum Sender {
    Stream(Paced),
    Http(Buffered),
}

/// A request body that is whole as long as it is small.
pub(crate) struct Buffered {
    tx: mpsc::SyncSender<Body>,
    whole: Vec<u8>,
    whole_bytes_max: usize,
    upload: Option<Upload>,
    pulse: Arc<Pulse>,
}

impl Sender {
    pub(crate) fn end(self) -> io::Result<()> {
        match self {
            Self::Stream(writer) => {
                drop(writer);
                Ok(())
            }
            Self::Http(Buffered { upload: Some(upload), .. }) => upload.end(),
            Self::Http(Buffered { tx, whole, .. }) => {
                tx.send(Body::Whole(whole.into())).map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
        }
    }
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let http = match self {
            Self::Stream(writer) => return writer.write(bytes),
            Self::Http(http) => http,
        };
        if let Some(upload) = &mut http.upload {
            return upload.write(bytes);
        }
        http.whole.extend_from_slice(bytes);
        if http.whole.len() > http.whole_bytes_max {
            let (mut upload, pieces) = http::pieces(&http.pulse);
            let begun = http.tx.send(Body::Pieces(pieces));
            begun.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            upload.write_all(&std::mem::take(&mut http.whole))?;
            http.upload = Some(upload);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(writer) => writer.flush(),
            Self::Http(Buffered { upload: Some(upload), .. }) => upload.flush(),
            Self::Http(_) => Ok(()),
        }
    }
}

/// What remains when both sides have fallen silent.
pub(crate) struct Ending {
    child: Option<Running>,
    pulse: Arc<Pulse>,
}

impl Ending {
    /// Waits for the child and gives what it printed.
    pub(crate) fn finish(&mut self) -> BString {
        self.child.as_mut().map(|it| it.finish(&self.pulse)).unwrap_or_default()
    }
}

const POST: [(&str, &str); 2] = [
    ("Content-Type", "application/x-git-receive-pack-request"),
    ("Accept", "application/x-git-receive-pack-result"),
];

/// How many times a server may refuse a login before that is the answer.
const LOGINS_MAX: usize = 3;

impl<'o, 'c> Web<'o, 'c> {
    fn new(
        url: &gix::Url,
        shown: &str,
        options: &Options<'_>,
        mut credentials: Option<&'o mut (dyn Credentials + 'c)>,
        pulse: &Arc<Pulse>,
    ) -> Result<Self, Error> {
        let client = match &options.http {
            Some(client) => client.clone(),
            None => {
                let connect = options.client.connect.or(Some(options.deadlines.connect));
                Client::new(&http::ClientOptions { connect, ..options.client.clone() })?
            }
        };
        let mut bare = url.clone();
        let (user, password) = (bare.set_user(None), bare.set_password(None));
        let mut login = match (user, password) {
            (Some(user), Some(password)) => Some(Login::Basic { user, password }),
            _ => None,
        };
        if login.is_none() {
            login = credentials.as_mut().and_then(|it| it.at_once());
        }
        let web = Web {
            client,
            base: bare.to_bstring().to_string().trim_end_matches('/').to_owned(),
            shown: shown.to_owned(),
            login,
            to_approve: false,
            credentials,
            allow_clear_text: options.allow_clear_text,
            pulse: pulse.clone(),
        };
        web.check_clear_text()?;
        Ok(web)
    }

    fn check_clear_text(&self) -> Result<(), Error> {
        if self.login.is_some() && !self.allow_clear_text && self.base.starts_with("http://") {
            return Err(Error::ClearText { url: self.shown.clone() });
        }
        Ok(())
    }

    fn send(&self, tail: &str, headers: &[(&str, &str)], body: Body) -> Result<Answer, Error> {
        let url = format!("{}{tail}", self.base);
        let (shown, login) = (&*self.shown, self.login.as_ref());
        self.client.send(&Request { url: &url, shown, login, headers }, body, &self.pulse)
    }

    /// Sends a request, as often as it takes to be let in.
    fn admitted(
        &mut self,
        tail: &str,
        headers: &[(&str, &str)],
        body: impl Fn() -> Body,
    ) -> Result<Answer, Error> {
        for _ in 0..=LOGINS_MAX {
            let answer = self.send(tail, headers, body())?;
            if answer.status != 401 {
                return self.judged(answer);
            }
            let refused = self.refused(&answer);
            if self.to_approve
                && let Some(credentials) = &mut self.credentials
            {
                credentials.reject();
            }
            self.to_approve = false;
            let Some(credentials) = &mut self.credentials else {
                return Err(refused);
            };
            let got = credentials
                .get(&self.base, &answer.asked)
                .map_err(|source| Error::Credentials { url: self.shown.clone(), source })?;
            let Some(login) = got else {
                return Err(refused);
            };
            self.login = Some(login);
            self.to_approve = true;
            self.check_clear_text()?;
        }
        let detail = "no login was accepted".into();
        Err(Error::Login { url: self.shown.clone(), detail })
    }

    fn refused(&self, answer: &Answer) -> Error {
        let asked: Vec<_> = answer.asked.iter().map(|it| it.to_str_lossy()).collect();
        let known = if self.login.is_some() { "the login was refused" } else { "no login" };
        let detail = format!("{known} (the server asks for {})", asked.join(", "));
        Error::Login { url: self.shown.clone(), detail }
    }

    /// Gives a good answer back, and makes an error of any other.
    fn judged(&mut self, mut answer: Answer) -> Result<Answer, Error> {
        let url = self.shown.clone();
        if (200..300).contains(&answer.status) {
            if self.to_approve
                && let Some(credentials) = &mut self.credentials
            {
                credentials.approve();
            }
            self.to_approve = false;
            return Ok(answer);
        }
        let detail = said(&mut answer);
        Err(match answer.status {
            401 => self.refused(&answer),
            403 => Error::Forbidden { url, detail },
            404 | 410 => Error::NotFound { url, detail },
            413 => Error::TooLarge { url, detail },
            status => Error::Http { url, status, detail },
        })
    }

    fn advertisement(
        &mut self,
        hash: gix::hash::Kind,
        limit_bytes: u64,
    ) -> Result<Advertisement, Error> {
        const TAIL: &str = "/info/refs?service=git-receive-pack";
        let answer = self.admitted(TAIL, &[("Accept", "*/*")], || Body::None)?;
        if answer.content_type != "application/x-git-receive-pack-advertisement" {
            let detail = "the server does not speak git's smart http protocol".into();
            return Err(Error::Protocol { what: "the references", detail });
        }
        // A redirect on the same host was followed: the rest goes where it led.
        if let Some(base) = answer.url.strip_suffix(TAIL) {
            self.base = base.to_owned();
        }
        let mut lines = Lines::new(answer.body, "the references", limit_bytes);
        advertisement::read(&mut lines, &self.shown, hash, true)
    }

    fn exchange(&mut self, body: Body) -> Result<AnswerBody, Error> {
        const TAIL: &str = "/git-receive-pack";
        let answer = match body {
            Body::Whole(bytes) => self.admitted(TAIL, &POST, || Body::Whole(bytes.clone()))?,
            body => {
                // What is streamed cannot be repeated, so a login must be settled before.
                self.admitted(TAIL, &POST, || Body::Whole(FLUSH.into()))?;
                let answer = self.send(TAIL, &POST, body)?;
                self.judged(answer)?
            }
        };
        if answer.content_type != "application/x-git-receive-pack-result" {
            let detail = "the answer is not git's".into();
            return Err(Error::Protocol { what: "the report", detail });
        }
        Ok(answer.body)
    }
}

/// How much of an error page is quoted.
const SAID_BYTES_MAX: usize = 300;

/// What a server says about its refusal, if that is text: git hosts explain themselves there.
fn said(answer: &mut Answer) -> String {
    let mut text = Vec::new();
    while text.len() < SAID_BYTES_MAX {
        match answer.body.fill() {
            Ok([]) | Err(_) => break,
            Ok(bytes) => {
                let n = bytes.len().min(SAID_BYTES_MAX - text.len());
                text.extend_from_slice(&bytes[..n]);
                answer.body.consume(n);
            }
        }
    }
    let text = text.to_str_lossy();
    if answer.content_type.starts_with("text/html") {
        let title = text.split_once("<title>").and_then(|(_, it)| it.split_once("</title>"));
        return title.map(|it| it.0.trim().to_owned()).unwrap_or_default();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
