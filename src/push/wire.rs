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
    ahead::Call,
    child::{self, Running, Ssh, Stream},
    config::Settings,
    credentials::Credentials,
    error::Error,
    http::{self, AnswerBody, Body, Upload},
    line::{FLUSH, Lines},
    pulse::{Paced, Pulse},
    web::Web,
};

/// What `'o` options are borrowed for, and `'c` what they hold.
pub(crate) struct Wire<'o, 'c> {
    shown: String,
    pulse: Arc<Pulse>,
    advertisement_bytes_max: u64,
    /// Bodies up to this size are one request.
    post_buffer_bytes: usize,
    kind: Carrier<'o, 'c>,
}

/// What git takes where nothing is set.
const POST_BUFFER_BYTES: usize = 1 << 20;

enum Carrier<'o, 'c> {
    Stream(Box<Stream>),
    Http(Box<Web<'o, 'c>>),
}

impl<'o, 'c> Wire<'o, 'c> {
    pub(crate) fn open(
        repo: &gix::Repository,
        url: &gix::Url,
        options: &Options<'_>,
        credentials: Option<&'o mut (dyn Credentials + 'c)>,
        pulse: &Arc<Pulse>,
        called: Option<Call>,
    ) -> Result<Wire<'o, 'c>, Error> {
        let shown = super::url::shown(url);
        let mut post_buffer_bytes = options.post_buffer_bytes;
        let kind = match url.scheme {
            Scheme::Http | Scheme::Https => {
                if post_buffer_bytes.is_none() {
                    post_buffer_bytes = Settings::new(repo, url).post_buffer_bytes()?;
                }
                let mut web = Web::new(repo, url, &shown, options, credentials, pulse)?;
                if let Some(Call::Http(asked)) = called {
                    web.asked = Some(asked);
                }
                Carrier::Http(Box::new(web))
            }
            _ => Carrier::Stream(match called {
                Some(Call::Stream(stream)) => stream,
                _ => Box::new(stream(repo, url, options, pulse)?),
            }),
        };
        let advertisement_bytes_max = options.limits.advertisement_bytes_max;
        let post_buffer_bytes = post_buffer_bytes.unwrap_or(POST_BUFFER_BYTES);
        let pulse = pulse.clone();
        Ok(Wire { shown, pulse, advertisement_bytes_max, post_buffer_bytes, kind })
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
            Self::hang_up(*stream, &self.pulse);
        }
    }

    /// Ends one that has not begun.
    pub(crate) fn hang_up(stream: Stream, pulse: &Pulse) {
        let Stream { reader, mut writer, child } = stream;
        // Without it the remote would complain of a hangup; it may have hung up itself.
        let _ = writer.write_all(FLUSH);
        drop((reader, writer));
        if let Some(mut child) = child {
            child.finish(pulse);
        }
    }

    /// Takes the conversation apart into who listens, who sends, and what is left at the end.
    pub(crate) fn split(self) -> (Listener<'o, 'c>, Sender, Ending) {
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
                    whole_bytes_max: self.post_buffer_bytes,
                    upload: None,
                    pulse: self.pulse,
                };
                (Listener::Http(web, rx), Sender::Http(sender), ending)
            }
        }
    }
}

/// Starts what speaks for the remote, where that is a stream; it will speak first.
pub(crate) fn stream(
    repo: &gix::Repository,
    url: &gix::Url,
    options: &Options<'_>,
    pulse: &Arc<Pulse>,
) -> Result<Stream, Error> {
    let program = options.receive_pack.clone();
    let program = program.unwrap_or_else(|| "git-receive-pack".into());
    child::open(&child::Settings {
        url,
        shown: &super::url::shown(url),
        pulse,
        connect: options.deadlines.connect,
        receive_pack: program.as_bstr(),
        ssh: &ssh(repo, options),
    })
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

    /// Whether the child ended with a failure.
    pub(crate) fn has_failed(&self) -> bool {
        self.child.as_ref().is_some_and(Running::has_failed)
    }
}
