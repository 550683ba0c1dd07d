//! Where an agent keeps what is not in git: the store, the lock and the socket.

use crate::model::digest::Sha256;
use crate::whole;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The longest path of a Unix socket that Linux takes, in bytes (`unix(7)`).
const SOCKET_BYTES_MAX: usize = 107;

/// The state directory of one work tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    dir: PathBuf,
}

impl StateDir {
    /// The state directory that the agent of a work tree uses, or would use.
    ///
    /// `configured` is the `state_dir` setting, else what systemd gives. A pointer in the git
    /// directory tells those who do not know the agent's settings.
    pub fn of(git_dir: &Path, work_tree: &Path, configured: Option<&Path>) -> StateDir {
        let pointer = std::fs::read_to_string(pointer(git_dir)).ok();
        let dir = match (configured, pointer) {
            (Some(dir), _) => dir.join(name(work_tree)),
            (None, Some(text)) if Path::new(text.trim()).is_absolute() => {
                PathBuf::from(text.trim())
            }
            (None, _) => git_dir.join("intake/state"),
        };
        StateDir { dir }
    }

    /// Makes the directory, for the agent's user alone, and leaves the pointer.
    pub fn create(&self, git_dir: &Path) -> io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let intake = git_dir.join("intake");
        std::fs::create_dir_all(&intake)?;
        let dir = self.dir.canonicalize()?;
        if std::fs::read_to_string(pointer(git_dir)).is_ok_and(|it| Path::new(it.trim()) == dir) {
            return Ok(());
        }
        let text = dir.as_os_str().as_bytes();
        whole::replace(&pointer(git_dir), |it| it.write_all(text)).map(drop)
    }

    /// Where the agent that works here keeps what belongs to no lane, as it said itself.
    fn home(&self) -> Option<PathBuf> {
        let text = std::fs::read_to_string(self.dir.join("home")).ok()?;
        Some(PathBuf::from(text.trim())).filter(|it| it.is_absolute())
    }

    /// Tells commands where the agent keeps what belongs to no lane.
    pub fn tell_home(&self, home: &Path) -> io::Result<()> {
        if self.home().as_deref() == Some(home) {
            return Ok(());
        }
        let text = home.as_os_str().as_bytes();
        whole::replace(&self.dir.join("home"), |it| it.write_all(text)).map(drop)
    }

    /// Removes what a killed agent left half-written here. Whoever calls has the lock.
    pub fn sweep(&self) -> io::Result<u32> {
        whole::sweep(&self.dir)
    }

    /// The last part of its path, which names the repository among others.
    pub fn name(work_tree: &Path) -> String {
        name(work_tree)
    }

    /// The sled store.
    pub fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// The file whose lock says that an agent or a command is at work on this tree.
    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The file that names the drop under judgement, for whoever comes after a process that died of it.
    pub fn judging(&self) -> PathBuf {
        self.dir.join("judging")
    }

    /// The drops that processes ended over.
    pub fn suspects(&self) -> PathBuf {
        self.dir.join("suspects.json")
    }

    /// The socket of a running agent. A path that is too long for the system goes to a short one.
    pub fn socket(&self) -> PathBuf {
        let socket = self.dir.join("agent.sock");
        if socket.as_os_str().len() <= SOCKET_BYTES_MAX {
            return socket;
        }
        let digest = Sha256::of(socket.as_os_str().as_bytes()).short();
        PathBuf::from(format!(
            "/tmp/git-intake-{}-{digest}/agent.sock",
            rustix::process::getuid().as_raw()
        ))
    }
}

/// Where an agent keeps what belongs to no lane (its tokens, its audit): the state directory that was
/// configured, else what an agent said, else the first lane's own.
pub fn agent_dir(configured: Option<&Path>, first: &StateDir) -> PathBuf {
    match configured {
        Some(dir) => dir.to_owned(),
        None => first.home().unwrap_or_else(|| first.dir.clone()),
    }
}

fn pointer(git_dir: &Path) -> PathBuf {
    git_dir.join("intake/where")
}

fn name(work_tree: &Path) -> String {
    let base = work_tree.file_name().map_or(&b"tree"[..], OsStrExt::as_bytes);
    let base = crate::model::path::RawPath::new(base).safe_name();
    let digest: String =
        Sha256::of(work_tree.as_os_str().as_bytes()).short().chars().take(8).collect();
    format!("{base}-{digest}")
}
