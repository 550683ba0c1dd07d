//! Where the door stands: Unix sockets, TCP on loopback, TLS for anything else, what systemd opened.
//!
//! Limits begin before a request is read: so many connections a listener, so long for a handshake, for
//! a head, for a client that takes nothing of its answer. What one client does not read costs its own
//! connection and nobody else's.

use crate::config::ApiSettings;
use crate::model::path::escape;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// More open files are not asked for.
const DESCRIPTORS_WANTED: u64 = 65_536;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Peer {
    /// A process of this host; the kernel says whose.
    Unix {
        /// Its user.
        uid: u32,
        /// That user's name, where it is known.
        name: Option<String>,
        /// Its number, where the kernel tells.
        pid: Option<i32>,
        /// It is the agent's own user, or root.
        ours: bool,
    },
    /// Somebody on the network.
    Tcp(SocketAddr),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Unix { uid, pid: Some(pid), .. } => write!(f, "unix uid={uid} pid={pid}"),
            Peer::Unix { uid, .. } => write!(f, "unix uid={uid}"),
            Peer::Tcp(address) => address.fmt(f),
        }
    }
}

/// The way a request came.
#[derive(Debug, Clone)]
pub(super) struct Via {
    pub peer: Peer,
    /// The lane whose own socket it is.
    pub lane: Option<usize>,
}

/// An open listener.
pub struct Listener {
    pub(super) socket: Socket,
    /// What it is called in the log.
    pub(super) name: String,
    /// The lane whose own socket it is.
    pub(super) lane: Option<usize>,
    /// To be removed at the end.
    pub(super) path: Option<PathBuf>,
}

pub(super) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
    Tls(TcpListener, TlsAcceptor),
}

impl Listener {
    /// A lane's own socket, for the agent's user alone. Whoever calls holds the lane's lock, so
    /// whoever left a socket there is gone.
    pub fn of_lane(path: &Path, lane: usize) -> io::Result<Listener> {
        if let Some(dir) = path.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        remove(path)?;
        Listener::unix(path, 0o600, Some(lane))
    }

    /// A socket for users of this host.
    pub fn for_users(path: &Path, mode: u32) -> io::Result<Listener> {
        if UnixStream::connect(path).is_ok() {
            let message = format!("{} is served by another process", path.display());
            return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
        }
        remove(path)?;
        Listener::unix(path, mode, None)
    }

    fn unix(path: &Path, mode: u32, lane: Option<usize>) -> io::Result<Listener> {
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
        let name = path.display().to_string();
        Ok(Listener { socket: Socket::Unix(listener), name, lane, path: Some(path.to_owned()) })
    }

    /// TLS where the settings name a certificate.
    fn over_tcp(listener: TcpListener, settings: &ApiSettings) -> io::Result<Listener> {
        let address = listener.local_addr()?;
        let tls = acceptor(settings)?;
        if tls.is_none() && !address.ip().is_loopback() && !settings.plaintext {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "{address} is not loopback, and tokens would cross the network in the clear: \
                     set api.tls_cert and api.tls_key, or api.plaintext where something in front \
                     speaks TLS"
                ),
            ));
        }
        let (socket, scheme) = match tls {
            Some(it) => (Socket::Tls(listener, it), "https"),
            None => (Socket::Tcp(listener), "http"),
        };
        let name = format!("{scheme}://{address}");
        Ok(Listener { socket, name, lane: None, path: None })
    }

    /// A socket that is open already: systemd's, or one of an address.
    pub fn given(it: Given, settings: &ApiSettings) -> io::Result<Listener> {
        match it {
            Given::Unix(listener) => {
                let name = "a Unix socket of systemd".to_owned();
                Ok(Listener { socket: Socket::Unix(listener), name, lane: None, path: None })
            }
            Given::Tcp(listener) => Listener::over_tcp(listener, settings),
        }
    }

    /// What it is called in the log.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A socket that was open when we started.
#[derive(Debug)]
pub enum Given {
    /// Of this host.
    Unix(UnixListener),
    /// Of the network.
    Tcp(TcpListener),
}

impl Given {
    /// The same socket once more: it outlives a reload.
    pub fn again(&self) -> io::Result<Given> {
        Ok(match self {
            Given::Unix(it) => Given::Unix(it.try_clone()?),
            Given::Tcp(it) => Given::Tcp(it.try_clone()?),
        })
    }
}

/// What systemd opened for us; to be asked once.
pub fn given() -> io::Result<Vec<Given>> {
    let mut sockets = listenfd::ListenFd::from_env();
    let mut found = Vec::new();
    for n in 0..sockets.len() {
        match sockets.take_unix_listener(n) {
            Ok(Some(it)) => found.push(Given::Unix(it)),
            Ok(None) => (),
            Err(_) => found.extend(sockets.take_tcp_listener(n)?.map(Given::Tcp)),
        }
    }
    Ok(found)
}

fn acceptor(settings: &ApiSettings) -> io::Result<Option<TlsAcceptor>> {
    let (Some(cert), Some(key)) = (&settings.tls_cert, &settings.tls_key) else { return Ok(None) };
    let unusable = |path: &Path, why: String| {
        io::Error::new(io::ErrorKind::InvalidData, format!("cannot use {}: {why}", path.display()))
    };
    let chain: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain = chain.map_err(|it| unusable(cert, it.to_string()))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|it| unusable(key, it.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|it| unusable(cert, it.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// How many files the process may have open, after it has asked for as many as it may have.
pub(super) fn descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(DESCRIPTORS_WANTED).min(DESCRIPTORS_WANTED);
    let current = current.unwrap_or(DESCRIPTORS_WANTED);
    let more = Rlimit { current: Some(wanted), maximum };
    let has = match current < wanted && setrlimit(Resource::Nofile, more).is_ok() {
        true => wanted,
        false => current,
    };
    usize::try_from(has).unwrap_or(usize::MAX)
}

/// Who a Unix connection belongs to, as the kernel says.
pub(super) fn peer_of(stream: &tokio::net::UnixStream, names: &Names) -> io::Result<Peer> {
    let found = stream.peer_cred()?;
    let uid = found.uid();
    let ours = uid == 0 || uid == rustix::process::geteuid().as_raw();
    Ok(Peer::Unix { uid, name: names.of(uid), pid: found.pid(), ours })
}

/// The names of this host's users, as `/etc/passwd` had them at the start.
pub(super) struct Names(std::collections::HashMap<u32, String>);

impl Names {
    pub fn read() -> Names {
        let text = std::fs::read("/etc/passwd").unwrap_or_default();
        let entry = |line: &[u8]| {
            let mut fields = line.split(|it| *it == b':');
            let (name, uid) = (fields.next()?, fields.nth(1)?);
            let uid = std::str::from_utf8(uid).ok()?.parse().ok()?;
            Some((uid, escape(name)))
        };
        // The first entry of a number counts, as everywhere.
        let lines: Vec<&[u8]> = text.split(|it| *it == b'\n').collect();
        Names(lines.into_iter().rev().filter_map(entry).collect())
    }

    fn of(&self, uid: u32) -> Option<String> {
        self.0.get(&uid).cloned()
    }
}

#[expect(clippy::disallowed_methods, reason = "a socket is no file of the work tree")]
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(it) if it.kind() != io::ErrorKind::NotFound => Err(it),
        _ => Ok(()),
    }
}
