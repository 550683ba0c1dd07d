//! Opens the door for programs: which sockets, in front of which lanes.

use super::Failure;
use crate::agent::board::Board;
use crate::agent::droppers::Droppers;
use crate::agent::events::Events;
use crate::agent::lane::Lane;
use crate::agent::run::{Asked, Ends};
use crate::api::Server;
use crate::api::house::{House, LaneDoor};
use crate::api::listen::{self, Given, Listener};
use crate::config::{self, Settings, StateDir};
use crate::store::Store;
use crate::whole;
use crossbeam_channel::Sender;
use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// So many connections may wait to be let in; the system may allow fewer (`net.core.somaxconn`).
const WAITING_MAX: i32 = 4096;

/// What the door has to know of one lane that is about to work.
pub(super) struct Door {
    work_tree: PathBuf,
    state: StateDir,
    asked: Sender<Asked>,
    store: Arc<Store>,
    board: Arc<Board>,
    droppers: Arc<Droppers>,
    /// Recovery is done and the watch stands.
    pub ready: Arc<AtomicBool>,
}

impl Door {
    pub fn of(lane: &Lane, ends: &Ends) -> Door {
        Door {
            work_tree: lane.repo.work_tree().to_owned(),
            state: lane.state.clone(),
            asked: ends.asked.clone(),
            store: lane.store.clone(),
            board: ends.board.clone(),
            droppers: lane.droppers.clone(),
            ready: Arc::new(AtomicBool::new(false)),
        }
    }
}

/// Opens it for these lanes, of which there is one at least.
pub(super) fn open(
    settings: &Settings,
    doors: Vec<Door>,
    events: Arc<Events>,
    reload: Box<dyn Fn() + Send + Sync>,
) -> Result<Server, Failure> {
    let failed = |what: &str| {
        let hint = format!("see `api` in the settings: {what}");
        move |it: io::Error| Failure::of(1, &it).hint(hint.clone())
    };
    let Some(first) = doors.first() else {
        return Err(Failure::said(1, "there is no lane to open a door to"));
    };
    let dir = config::agent_dir(settings.state_dir.as_deref(), &first.state);
    let mut listeners = Vec::new();
    for (n, it) in doors.iter().enumerate() {
        it.state.tell_home(&dir).map_err(failed("the state directory cannot be written"))?;
        let socket = it.state.socket();
        let what = format!("the socket {} cannot be served", socket.display());
        listeners.push(Listener::of_lane(&socket, n).map_err(failed(&what))?);
    }
    listeners.extend(others(settings)?);
    for it in listeners.iter().skip(doors.len()) {
        tracing::info!("the API answers on {}", it.name());
    }
    let lanes = doors.into_iter().map(|it| {
        let id = StateDir::name(&it.work_tree);
        let mut door =
            LaneDoor::new(id, &it.work_tree, it.asked, it.store, (it.board, it.droppers));
        door.ready = it.ready;
        door
    });
    whole::sweep(&dir).map_err(failed("the state directory cannot be cleared up"))?;
    let house = House::new(settings, &dir, lanes.collect(), events, reload)
        .map_err(failed("the state directory cannot be written"))?;
    Server::start(Arc::new(house), listeners).map_err(failed("the door cannot be opened"))
}

/// The sockets that are not a lane's own.
fn others(settings: &Settings) -> Result<Vec<Listener>, Failure> {
    let failed = |what: String| {
        move |it: io::Error| Failure::of(1, &it).hint(format!("see `api` in the settings: {what}"))
    };
    let mut listeners = Vec::new();
    for it in given().map_err(failed("systemd's sockets cannot be taken".to_owned()))? {
        let listener = it.again().and_then(|it| Listener::given(it, &settings.api));
        listeners.push(listener.map_err(failed("a socket of systemd".to_owned()))?);
    }
    let runtime = || config::variable("RUNTIME_DIRECTORY").map(PathBuf::from);
    let path = settings.api.socket.clone().or_else(runtime_socket(runtime)).or_else(|| {
        // Beside the lanes' own directories; within one of them only the agent itself gets in.
        settings.state_dir.as_ref().map(|it| it.join("api.sock"))
    });
    if let Some(path) = path {
        let listener = Listener::for_users(&path, settings.api.socket_mode);
        listeners.push(listener.map_err(failed(path.display().to_string()))?);
    }
    for address in &settings.api.listen {
        let listener = bound(*address, &settings.api.listen);
        let listener = listener.and_then(|it| Listener::given(it, &settings.api));
        listeners.push(listener.map_err(failed(address.to_string()))?);
    }
    Ok(listeners)
}

/// The socket of an address, the same over every reload: whoever connects meanwhile waits a moment and
/// is not turned away. What `all` does not name any more is closed.
fn bound(address: SocketAddr, all: &[SocketAddr]) -> io::Result<Given> {
    static BOUND: Mutex<BTreeMap<SocketAddr, TcpListener>> = Mutex::new(BTreeMap::new());
    let mut bound = BOUND.lock().unwrap_or_else(PoisonError::into_inner);
    bound.retain(|it, _| all.contains(it));
    if let Some(it) = bound.get(&address) {
        return Ok(Given::Tcp(it.try_clone()?));
    }
    let listener = TcpListener::bind(address)?;
    // The standard library asks for 128, and whoever comes while they wait comes again a second later.
    rustix::net::listen(&listener, WAITING_MAX)?;
    bound.insert(address, listener.try_clone()?);
    Ok(Given::Tcp(listener))
}

fn runtime_socket(dir: impl Fn() -> Option<PathBuf>) -> impl Fn() -> Option<PathBuf> {
    move || {
        let dirs = dir()?;
        // systemd separates several by colons; the first is ours.
        let first = dirs.to_str()?.split(':').next()?;
        Some(Path::new(first).join("api.sock"))
    }
}

/// What systemd opened for us: asked for once, kept over every reload.
fn given() -> io::Result<&'static [Given]> {
    static GIVEN: OnceLock<Vec<Given>> = OnceLock::new();
    if let Some(it) = GIVEN.get() {
        return Ok(it);
    }
    let found = listen::given()?;
    Ok(GIVEN.get_or_init(|| found))
}
