//! `run`: the agent. One thread a repository, one for the socket of each, signals here.

use super::door::{self, Door};
use super::reach::{self, Reach};
use super::{Context, Failure};
use crate::agent::events::{Events, Voice};
use crate::agent::lane::Lane;
use crate::agent::run::{self, Ends};
use crate::config::{self, RepositorySettings, Settings, StateDir};
use crate::step::Steps;
use crate::telemetry;
use crossbeam_channel::{Receiver, Sender};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// A lane that pushes may be silent for as long as a push may take, and a little more; then it
/// counts as stuck, and the watchdog is not fed any more.
const SILENCE_MARGIN: Duration = Duration::from_secs(120);

/// Set when the process wants to end, so that a push does not hold it up.
pub fn interrupt() -> Arc<AtomicBool> {
    static INTERRUPT: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    INTERRUPT.get_or_init(|| Arc::new(AtomicBool::new(false))).clone()
}

/// What the outside asked of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Stop,
    Reload,
}

/// One repository at work.
struct Working {
    name: String,
    ends: Ends,
    thread: JoinHandle<()>,
    beats: u64,
    silent_since: std::time::Instant,
}

pub(super) fn run(repo: Option<&Path>, context: &Context) -> Result<u8, Failure> {
    let signals = signals()?;
    let (mut settings, mut repositories) = settings_of(repo, context)?;
    super::log(context, &settings.log, None);
    while serve(&settings, &repositories, &signals)? == Told::Reload {
        tracing::info!("reading the configuration again");
        telemetry::reloading();
        match settings_of(repo, context) {
            Ok(it) => (settings, repositories) = it,
            // A mistake in the file must not end an agent that works.
            Err(failure) => {
                let reason = failure.message;
                tracing::error!(
                    reason,
                    "the new configuration cannot be used and the old one stays; mend it and reload again"
                );
            }
        }
    }
    Ok(0)
}

/// Serves one repository until the process is told to stop; for `quickstart`.
pub(super) fn serve_one(reach: &Reach) -> Result<(), Failure> {
    let signals = signals()?;
    let repositories = std::slice::from_ref(&reach.repository);
    while serve(&reach.settings, repositories, &signals)? == Told::Reload {}
    Ok(())
}

pub(super) fn settings_of(
    repo: Option<&Path>,
    context: &Context,
) -> Result<(Settings, Vec<RepositorySettings>), Failure> {
    let host = PathBuf::from(config::HOST_FILE);
    let named =
        context.config.clone().or_else(|| config::variable("GIT_INTAKE_CONFIG").map(PathBuf::from));
    let file = match (repo, named) {
        (_, Some(file)) => Some(file),
        (None, None) if host.exists() => Some(host),
        _ => None,
    };
    if repo.is_none()
        && let Some(file) = file
    {
        let mut settings = reach::load(Some(&file))?;
        settings.state_dir = state_dir(&settings);
        if settings.repositories.is_empty() {
            return Err(Failure::said(2, format!("{} names no repository", file.display()))
                .hint("add one below `repositories:`"));
        }
        for it in &mut settings.repositories {
            let found = crate::git::Repo::discover(&it.path, Steps::default());
            let found =
                found.map_err(|it| Failure::usage(it, "mend the path in the configuration"))?;
            it.path = found.work_tree().to_owned();
            if it.fabrics.is_empty()
                && let Some(local) = config::load_local(found.git_dir(), found.work_tree())?
            {
                (it.fabrics, it.file) = (local.fabrics, None);
            }
        }
        let repositories = settings.repositories.clone();
        return Ok(with_adopted(settings, repositories));
    }
    let mut found = Reach::find(repo, file.as_deref())?;
    found.settings.state_dir = state_dir(&found.settings);
    Ok(with_adopted(found.settings, vec![found.repository]))
}

/// Adds the repositories that the agent was given over its API, where they may still lie.
fn with_adopted(
    settings: Settings,
    mut repositories: Vec<RepositorySettings>,
) -> (Settings, Vec<RepositorySettings>) {
    let passed = |path: &Path, reason: String| {
        let path = path.display();
        tracing::error!(%path, reason, "a repository that was added over the API is not served");
    };
    for path in adopted_by(&settings, &repositories) {
        if repositories.iter().any(|it| it.path == path) {
            continue;
        }
        if !settings.api.may_adopt(&path) {
            passed(&path, "it does not lie below api.repositories_below any more".to_owned());
            continue;
        }
        let local = crate::git::Repo::discover(&path, Steps::default())
            .map_err(|it| it.to_string())
            .and_then(|it| {
                config::load_local(it.git_dir(), it.work_tree()).map_err(|it| it.to_string())
            });
        match local {
            Ok(local) => {
                repositories.push(RepositorySettings { path, ..local.unwrap_or_default() });
            }
            Err(reason) => passed(&path, reason),
        }
    }
    (settings, repositories)
}

fn adopted_by(settings: &Settings, repositories: &[RepositorySettings]) -> Vec<PathBuf> {
    let Some(first) = repositories.first() else { return Vec::new() };
    let Ok(repo) = crate::git::Repo::discover(&first.path, Steps::default()) else {
        return Vec::new();
    };
    let configured = settings.state_dir.as_deref();
    let state = config::StateDir::of(repo.git_dir(), repo.work_tree(), configured);
    config::adopted(&config::agent_dir(configured, &state)).unwrap_or_else(|error| {
        tracing::error!(%error, "the list of repositories that were added cannot be read");
        Vec::new()
    })
}

/// The setting, else what systemd gives.
fn state_dir(settings: &Settings) -> Option<PathBuf> {
    let given = || config::variable("STATE_DIRECTORY");
    // systemd separates several by colons; the first is ours.
    let first = |it: String| it.split(':').next().map(PathBuf::from);
    settings.state_dir.clone().or_else(|| given().and_then(first))
}

/// What the outside asks, and the way to ask it from within.
struct Signals {
    told: Receiver<Told>,
    again: Sender<Told>,
}

fn signals() -> Result<Signals, Failure> {
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (sender, told) = crossbeam_channel::bounded(16);
    let again = sender.clone();
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let told = if signal == SIGHUP { Told::Reload } else { Told::Stop };
            if sender.try_send(told).is_err() {
                // Nobody listens any more, or enough is queued already.
                continue;
            }
        }
    })?;
    Ok(Signals { told, again })
}

/// Serves repositories until told otherwise. Every lane finishes its turn before this returns.
fn serve(
    settings: &Settings,
    repositories: &[RepositorySettings],
    signals: &Signals,
) -> Result<Told, Failure> {
    interrupt().store(false, Ordering::Relaxed);
    let (ready, is_ready) = crossbeam_channel::bounded(repositories.len().max(1));
    let (end, has_ended) = crossbeam_channel::bounded(repositories.len().max(1));
    let events = Arc::new(Events::new(settings.api.events_kept));
    let mut lanes = Vec::new();
    let mut doors = Vec::new();
    for it in repositories {
        match start(settings, it, &events, (ready.clone(), end.clone())) {
            Ok((working, door)) => {
                lanes.push(working);
                doors.push(door);
            }
            Err(failure) if repositories.len() == 1 => return Err(failure),
            // One repository in trouble must not keep the others from working.
            Err(failure) => {
                tracing::error!(repository = %it.path.display(), reason = failure.message, "cannot serve this repository");
            }
        }
    }
    if lanes.is_empty() {
        return Err(
            Failure::said(1, "no repository can be served").hint("the log says why for each")
        );
    }
    let again = signals.again.clone();
    // Where more is told than anybody listens to, a reload is among it.
    let reload = Box::new(move || {
        let _ = again.try_send(Told::Reload);
    });
    let server = match door::open(settings, doors, events, reload) {
        Ok(it) => it,
        Err(failure) => {
            stop(lanes);
            return Err(failure);
        }
    };
    let told = supervise(settings, &mut lanes, &signals.told, &is_ready, &has_ended);
    if matches!(told, Ok(Told::Stop)) {
        telemetry::stopping();
    }
    // No more questions first, so that the lanes end with what they have; who is told by webhooks hears
    // of that too.
    let courier = server.close();
    stop(lanes);
    drop(courier);
    told
}

/// Looks after the lanes until the process is told something.
fn supervise(
    settings: &Settings,
    lanes: &mut [Working],
    signals: &Receiver<Told>,
    is_ready: &Receiver<()>,
    has_ended: &Receiver<String>,
) -> Result<Told, Failure> {
    let mut told = None;
    let mut ended = None;
    let mut waiting = lanes.len();
    while told.is_none() {
        // Only the watchdog is a reason to wake by the clock.
        let beat =
            telemetry::watchdog().map_or_else(crossbeam_channel::never, crossbeam_channel::after);
        crossbeam_channel::select! {
            recv(signals) -> it => told = Some(it.unwrap_or(Told::Stop)),
            recv(has_ended) -> it => ended = it.ok(),
            recv(is_ready) -> it => if it.is_ok() && waiting > 0 {
                waiting -= 1;
                if waiting == 0 {
                    let names: Vec<&str> = lanes.iter().map(|it| it.name.as_str()).collect();
                    tracing::info!("watching {}", names.join(", "));
                    telemetry::ready(&format!("watching {}", names.join(", ")));
                }
            },
            recv(beat) -> _ => (),
        }
        if let Some(name) = ended {
            return Err(Failure::said(1, format!("the lane of {name} ended"))
                .hint("the log says why; the service manager starts the agent again"));
        }
        look_after(lanes, settings.push.wall_timeout + SILENCE_MARGIN);
    }
    Ok(told.unwrap_or(Told::Stop))
}

/// Feeds the watchdog while every lane moves.
fn look_after(lanes: &mut [Working], silence_max: Duration) {
    let now = crate::clock::instant();
    let mut alive = true;
    for it in lanes.iter_mut() {
        let beats = it.ends.pulse.load(Ordering::Relaxed);
        if beats != it.beats {
            (it.beats, it.silent_since) = (beats, now);
        }
        alive &= now.duration_since(it.silent_since) < silence_max;
    }
    if alive {
        telemetry::alive();
    }
}

fn start(
    settings: &Settings,
    repository: &RepositorySettings,
    events: &Arc<Events>,
    (ready, end): (Sender<()>, Sender<String>),
) -> Result<(Working, Door), Failure> {
    let mut lane = Lane::open(settings, repository, interrupt(), Steps::default())?;
    let voice = Voice::new(events.clone(), &StateDir::name(lane.repo.work_tree()));
    lane.store.listen(voice.clone());
    let (ends, inside) = run::channels(voice);
    let door = Door::of(&lane, &ends);
    let is_ready = door.ready.clone();
    let name = repository.path.display().to_string();
    let label = name.clone();
    let thread = std::thread::Builder::new().name("lane".to_owned()).spawn(move || {
        let work = std::panic::AssertUnwindSafe(|| {
            run::work(&mut lane, &inside, || {
                is_ready.store(true, Ordering::Relaxed);
                // The supervisor may be stopping already.
                let _ = ready.try_send(());
            })
        });
        let done = match std::panic::catch_unwind(work) {
            Ok(done) => done.map_err(|it| it.chain()),
            Err(_) => Err("a mistake of ours (a panic); its place is in the log".to_owned()),
        };
        if let Err(reason) = done {
            tracing::error!(repository = %label, reason, "the lane ended");
        }
        // Nobody listens where the supervisor has stopped it.
        let _ = end.try_send(label);
    })?;
    let silent_since = crate::clock::instant();
    Ok((Working { name, ends, thread, beats: 0, silent_since }, door))
}

/// Lets every lane finish its turn, and waits for it.
fn stop(lanes: Vec<Working>) {
    interrupt().store(true, Ordering::Relaxed);
    for it in &lanes {
        // It may have ended by itself.
        let _ = it.ends.stop.try_send(());
    }
    for it in lanes {
        if it.thread.join().is_err() {
            tracing::error!(repository = it.name, "the lane could not be waited for");
        }
    }
}
