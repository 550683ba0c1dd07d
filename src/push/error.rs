//! What can keep a push from happening, and whether to try again.
//!
//! A reference that is rejected here or refused there is no error: it is a [`RefStatus`].
//! No variant carries a secret: addresses are shown without user, password, query or fragment.
//!
//! [`RefStatus`]: super::RefStatus

use std::{io, time::Duration};

use gix::ObjectId;

/// A cause that is only passed on.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Why a push did not come to an answer.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of a variant says what its fields are")]
pub enum Error {
    /// The URL asks for a transport that is not on the allow-list.
    #[error("cannot push over `{scheme}`: this transport is not allowed")]
    Transport { scheme: String },
    /// A part of the URL could be mistaken for an option of a program.
    #[error("cannot push to {url}: its {part} is not safe to pass to a program")]
    Unsafe { url: String, part: &'static str },
    /// A reference name that git would refuse.
    #[error("cannot push to a reference named `{name}`")]
    Name { name: String },
    /// The same reference is to be updated twice.
    #[error("cannot push two values to `{name}`")]
    Twice { name: String },
    /// A program of the transport did not start.
    #[error("cannot start `{program}`")]
    Spawn { program: String, source: io::Error },
    /// There is no way to the server.
    #[error("cannot connect to {url}")]
    Connect { url: String, source: Cause },
    /// The server is not, or not certainly, the one it should be (ssh host key).
    #[error("cannot trust the host key of {url}: {detail}")]
    HostKey { url: String, detail: String },
    /// The server is not, or not certainly, the one it should be (TLS certificate).
    #[error("cannot trust the certificate of {url}")]
    Certificate { url: String, source: Cause },
    /// The server does not know who we are: 401, or ssh's `Permission denied`.
    #[error("cannot log in to {url}: {detail}")]
    Login { url: String, detail: String },
    /// The server knows us and does not let us in: 403.
    #[error("cannot push to {url}: access is forbidden: {detail}")]
    Forbidden { url: String, detail: String },
    /// There is no repository.
    #[error("cannot find a repository at {url}: {detail}")]
    NotFound { url: String, detail: String },
    /// The server, or a proxy before it, takes no bodies of this size: 413.
    #[error("cannot push to {url}: the server refuses so large a pack: {detail}")]
    TooLarge { url: String, detail: String },
    /// Any other answer of an HTTP server that is not a success.
    #[error("cannot push to {url}: the server answered {status}: {detail}")]
    Http { url: String, status: u16, detail: String },
    /// A redirect to another host, or to a less safe scheme.
    #[error("cannot follow the redirect of {url} to {to}")]
    Redirect { url: String, to: String },
    /// Credentials would have gone over the wire in the clear.
    #[error("cannot send credentials to {url} without encryption")]
    ClearText { url: String },
    /// A helper or the caller's own source of credentials failed.
    #[error("cannot get credentials for {url}")]
    Credentials { url: String, source: Cause },
    /// The connection ended before anything could have been applied.
    #[error("cannot keep the connection to {url} while {doing}: {detail}")]
    Broken { url: String, doing: &'static str, detail: String, source: io::Error },
    /// The server said why it ends the conversation.
    #[error("cannot push to {url}: the remote says: {message}")]
    Remote { url: String, message: String },
    /// What came is not the git protocol.
    #[error("cannot understand {what} of the remote: {detail}")]
    Protocol { what: &'static str, detail: String },
    /// The server sends more than we are willing to take.
    #[error("cannot take more than {limit_bytes} bytes of {what} from the remote")]
    Limit { what: &'static str, limit_bytes: u64 },
    /// Nothing moved for too long, or the whole took too long.
    #[error("cannot wait longer than {limit:?} for {what}")]
    Deadline { what: &'static str, limit: Duration },
    /// The network is slower than the settings allow (`http.lowSpeedLimit`).
    #[error("cannot go on {doing} at less than {bytes_per_second} bytes a second")]
    Slow { doing: &'static str, bytes_per_second: u64 },
    /// The caller asked to stop.
    #[error("cannot finish the push: it was interrupted")]
    Interrupted,
    /// The repositories name their objects differently.
    #[error("cannot push {ours} objects to a {theirs} repository")]
    ObjectFormat { ours: String, theirs: String },
    /// The caller saw what is there and could not say what to move.
    #[error("cannot choose what to push")]
    Choice { source: Cause },
    /// The caller wants what the server does not offer.
    #[error("cannot push: the remote does not support `{capability}`")]
    Unsupported { capability: &'static str },
    /// An object that is to be sent is not here.
    #[error("cannot find object {id}")]
    Missing { id: ObjectId },
    /// An object or a file of the local repository cannot be read.
    #[error("cannot read {what} of the local repository")]
    Local { what: String, source: Cause },
    /// The HTTP client cannot be set up: a bad CA file or proxy address.
    #[error("cannot set up {what}")]
    Setup { what: String, source: Cause },
}

/// Whether the same push can go through at another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The world may be better later.
    Later,
    /// Not before a person has changed something.
    Never,
}

impl Error {
    /// Tells whether it is worth trying the same push again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Connect { .. }
            | Self::Broken { .. }
            | Self::Deadline { .. }
            | Self::Slow { .. }
            | Self::Interrupted
            | Self::Local { .. } => Retry::Later,
            Self::Http { status, .. } => match status {
                408 | 425 | 429 | 500..=599 => Retry::Later,
                _ => Retry::Never,
            },
            Self::Transport { .. }
            | Self::Unsafe { .. }
            | Self::Name { .. }
            | Self::Twice { .. }
            | Self::Spawn { .. }
            | Self::HostKey { .. }
            | Self::Certificate { .. }
            | Self::Login { .. }
            | Self::Forbidden { .. }
            | Self::NotFound { .. }
            | Self::TooLarge { .. }
            | Self::Redirect { .. }
            | Self::ClearText { .. }
            | Self::Credentials { .. }
            | Self::Remote { .. }
            | Self::Protocol { .. }
            | Self::Limit { .. }
            | Self::ObjectFormat { .. }
            | Self::Choice { .. }
            | Self::Unsupported { .. }
            | Self::Missing { .. }
            | Self::Setup { .. } => Retry::Never,
        }
    }

    /// Takes a failure of the wire apart: our own stops keep their names.
    pub(crate) fn wire(url: &str, doing: &'static str, source: io::Error) -> Self {
        match source.get_ref().and_then(|it| it.downcast_ref::<Stop>()) {
            Some(Stop::Idle(limit)) => Self::Deadline { what: doing, limit: *limit },
            Some(Stop::Wall(limit)) => Self::Deadline { what: "the whole push", limit: *limit },
            Some(Stop::Slow { bytes_per_second }) => {
                Self::Slow { doing, bytes_per_second: *bytes_per_second }
            }
            Some(Stop::Interrupted) => Self::Interrupted,
            Some(Stop::Size { what, limit_bytes }) => {
                Self::Limit { what, limit_bytes: *limit_bytes }
            }
            None => Self::Broken { url: url.into(), doing, detail: source.to_string(), source },
        }
    }

    pub(crate) fn local(what: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Local { what: what.into(), source: source.into() }
    }
}

/// Why we ended a conversation ourselves; travels inside an [`io::Error`].
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Stop {
    #[error("nothing moved for {0:?}")]
    Idle(Duration),
    #[error("it took longer than {0:?}")]
    Wall(Duration),
    #[error("it is slower than {bytes_per_second} bytes a second")]
    Slow { bytes_per_second: u64 },
    #[error("interrupted")]
    Interrupted,
    #[error("more than {limit_bytes} bytes of {what}")]
    Size { what: &'static str, limit_bytes: u64 },
}

impl From<Stop> for io::Error {
    fn from(stop: Stop) -> Self {
        let kind = match stop {
            Stop::Idle(_) | Stop::Wall(_) | Stop::Slow { .. } => io::ErrorKind::TimedOut,
            // Not `Interrupted`: readers try again on that.
            Stop::Interrupted | Stop::Size { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, stop)
    }
}
