//! The door for programs: where it stands, and who may do what without a token.

use super::{Error, units};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// No agent serves more event streams, or keeps more events.
const STREAMS_MAX: usize = 1_000_000;

/// The REST API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    /// A Unix socket for users of the host; none is what systemd or the state directory give.
    pub socket: Option<PathBuf>,
    /// Who may open it.
    #[serde(with = "units::mode")]
    pub socket_mode: u32,
    /// What users of the host may do who come through it without a token.
    pub peers: PeerScope,
    /// Addresses of the network.
    pub listen: Vec<SocketAddr>,
    /// The certificate chain for those, as PEM.
    pub tls_cert: Option<PathBuf>,
    /// Its key, as PEM.
    pub tls_key: Option<PathBuf>,
    /// Listen beyond loopback without TLS.
    pub plaintext: bool,
    /// Directories in which repositories may lie that are added over the API; none lets none in.
    pub repositories_below: Vec<PathBuf>,
    /// Of one token or user.
    #[serde(deserialize_with = "units::count")]
    pub requests_per_second: u32,
    /// Of one listener.
    pub connections_max: usize,
    /// Events that are kept for who comes back.
    pub events_kept: usize,
    /// Clients that follow the events.
    pub streams_max: usize,
}

/// What users of the host may do without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerScope {
    /// Nothing.
    None,
    /// Look.
    Read,
    /// Change resources, drop files, decide conflicts.
    Write,
    /// Everything.
    Admin,
}

impl Default for ApiSettings {
    fn default() -> ApiSettings {
        ApiSettings {
            socket: None,
            socket_mode: 0o660,
            peers: PeerScope::Read,
            listen: Vec::new(),
            tls_cert: None,
            tls_key: None,
            plaintext: false,
            repositories_below: Vec::new(),
            requests_per_second: 1_000,
            connections_max: 12_000,
            events_kept: 8_192,
            streams_max: 10_000,
        }
    }
}

impl ApiSettings {
    /// Takes paths as written in a file of this directory.
    pub(super) fn lie_below(&mut self, base: &Path) {
        for it in [&mut self.socket, &mut self.tls_cert, &mut self.tls_key] {
            *it = it.take().map(|path| base.join(path));
        }
        for it in &mut self.repositories_below {
            *it = base.join(&*it);
        }
    }

    /// Says whether a work tree lies where repositories may be added over the API.
    pub fn may_adopt(&self, work_tree: &Path) -> bool {
        let Ok(work_tree) = work_tree.canonicalize() else { return false };
        let dirs = self.repositories_below.iter().filter_map(|it| it.canonicalize().ok());
        dirs.into_iter().any(|it| work_tree != it && work_tree.starts_with(it))
    }

    /// Refuses what no single value can show.
    pub(super) fn check(&self, place: &str) -> Result<(), Error> {
        let invalid = |message: &str| {
            Err(Error::Invalid { place: place.to_owned(), message: message.to_owned() })
        };
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return invalid("api.tls_cert and api.tls_key belong together: name both, or none");
        }
        for (name, it) in [("streams_max", self.streams_max), ("events_kept", self.events_kept)] {
            if it > STREAMS_MAX {
                return invalid(&format!("api.{name} is above {STREAMS_MAX}"));
            }
        }
        if self.connections_max == 0 {
            return invalid("api.connections_max is 0, which lets nobody in");
        }
        let open = self.listen.iter().find(|it| !it.ip().is_loopback());
        match open {
            Some(address) if self.tls_cert.is_none() && !self.plaintext => invalid(&format!(
                "api.listen has {address}, which is not loopback, and tokens would cross the network \
                 in the clear: set api.tls_cert and api.tls_key, or api.plaintext where something in \
                 front speaks TLS"
            )),
            _ => Ok(()),
        }
    }
}
