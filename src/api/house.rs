//! All that the door knows of the agent behind it: its lanes, its fabrics, and who may come in.

use super::audit::Audit;
use super::auth::{Caller, Gate};
use super::hooks::Hooks;
use super::jobs::Jobs;
use super::metrics::Metrics;
use super::notices::Book;
use super::reader::Reader;
use super::refusal::{ErrorCode, Refusal};
use super::tokens::{Scope, TokenFile};
use super::writes::Answers;
use crate::agent::board::{Board, FabricShown, Shown};
use crate::agent::desk::{Answer, Asker, Request};
use crate::agent::droppers::Droppers;
use crate::agent::events::{Event, Events};
use crate::agent::programs::{ProgramAnswer, ProgramAsked};
use crate::agent::run::Asked;
use crate::config::{ApiSettings, Settings};
use crate::model::fabric::FabricName;
use crate::model::operation::Trigger;
use crate::store::Store;
use crossbeam_channel::{Sender, TrySendError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

/// How long an answer of a lane may take: an `ingest` takes what is there, push included.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(3600);

/// One lane, as the door sees it.
pub struct LaneDoor {
    /// Names the repository: its directory's name and a part of its digest.
    pub id: String,
    /// Its work tree.
    pub work_tree: PathBuf,
    /// Questions go in here.
    pub asked: Sender<Asked>,
    /// The memory, for reading.
    pub store: Arc<Store>,
    /// How the lane stands.
    pub board: Arc<Board>,
    /// Who sent which drop.
    pub droppers: Arc<Droppers>,
    /// What git holds, for reading.
    pub(super) reader: Reader,
    /// Recovery is done and the watch stands.
    pub ready: Arc<AtomicBool>,
    /// A forge told of a push, and the lane's turn to fetch has not come.
    pub(super) fetching: AtomicBool,
}

impl LaneDoor {
    /// The door to a lane.
    pub fn new(
        id: String,
        work_tree: &Path,
        asked: Sender<Asked>,
        store: Arc<Store>,
        (board, droppers): (Arc<Board>, Arc<Droppers>),
    ) -> LaneDoor {
        LaneDoor {
            id,
            work_tree: work_tree.to_owned(),
            asked,
            store,
            board,
            droppers,
            reader: Reader::new(work_tree),
            ready: Arc::new(AtomicBool::new(false)),
            fetching: AtomicBool::new(false),
        }
    }

    /// Says whether a caller may look at any of its fabrics.
    pub(super) fn is_reached_by(&self, caller: &Caller) -> bool {
        let shown = self.board.read();
        shown.fabrics.iter().any(|it| caller.reaches(&it.fabric.name)) || caller.fabrics.is_none()
    }

    /// Brings a question to the lane and waits for its answer.
    pub(super) async fn ask(
        &self,
        request: Request,
        asker: Option<Asker>,
    ) -> Result<Answer, Refusal> {
        self.ask_if(request, asker, None).await
    }

    /// The same for what only programs ask.
    pub(super) async fn ask_program(
        &self,
        asked: ProgramAsked,
        asker: Option<Asker>,
    ) -> Result<Result<ProgramAnswer, Answer>, Refusal> {
        self.ask(Request::Program(Box::new(asked)), asker).await.map(of_program)
    }

    /// The same, if `admit` says yes when the question's turn has come.
    pub(super) async fn ask_if(
        &self,
        request: Request,
        asker: Option<Asker>,
        admit: Option<Box<dyn FnOnce() -> bool + Send>>,
    ) -> Result<Answer, Refusal> {
        let stopping = || Refusal::new(ErrorCode::Unavailable, "the agent is stopping").after(5);
        let (reply, answer) = oneshot::channel();
        let reply = Box::new(move |it| {
            // The client may have hung up.
            let _ = reply.send(it);
        });
        match self.asked.try_send(Asked { request, asker, admit, reply }) {
            Ok(()) => (),
            Err(TrySendError::Full(_)) => {
                let message = "the agent has too many questions; ask again in a moment";
                return Err(Refusal::new(ErrorCode::Unavailable, message).after(1));
            }
            Err(TrySendError::Disconnected(_)) => return Err(stopping()),
        }
        match tokio::time::timeout(ANSWER_TIME_MAX, answer).await {
            Ok(answer) => answer.map_err(|_| stopping()),
            Err(_) => Err(Refusal::new(ErrorCode::TimeoutError, "the lane did not answer in time")),
        }
    }
}

/// One fabric, with the lane it belongs to.
#[derive(Clone)]
pub(super) struct FabricDoor {
    pub lane: Arc<LaneDoor>,
    pub shown: Arc<Shown>,
    n: usize,
}

impl FabricDoor {
    pub fn fabric(&self) -> &FabricShown {
        &self.shown.fabrics[self.n]
    }

    pub fn name(&self) -> &FabricName {
        &self.fabric().fabric.name
    }
}

/// The agent behind the door.
pub struct House {
    /// Its lanes.
    pub lanes: Vec<Arc<LaneDoor>>,
    /// All settings.
    pub settings: Settings,
    /// Where the agent keeps what belongs to no lane.
    pub dir: PathBuf,
    /// Who may come in.
    pub(super) gate: Gate,
    /// What the door counts.
    pub(super) metrics: Metrics,
    /// Who changed what.
    pub(super) audit: Audit,
    /// What was answered to whom.
    pub(super) answers: Answers,
    /// What was asked for and is done later.
    pub(super) jobs: Jobs,
    /// What is kept of forges' deliveries.
    pub(super) hooks: Hooks,
    /// Whom the agent tells of events.
    pub(super) book: Book,
    /// What happens.
    pub(super) events: Arc<Events>,
    /// The number of the newest event, for all who follow.
    pub(super) heard: watch::Sender<u64>,
    /// Rung for each event.
    pub(super) bell: Arc<Notify>,
    /// So many may still follow.
    pub(super) streams: Arc<Semaphore>,
    /// Has the settings read again, and everything opened anew with them.
    pub(super) reload: Box<dyn Fn() + Send + Sync>,
    /// Becomes true at the end, and streams end then.
    pub(super) stopping: watch::Sender<bool>,
}

impl House {
    /// The agent with these lanes, `dir` being where it keeps what belongs to none of them.
    pub fn new(
        settings: &Settings,
        dir: &Path,
        lanes: Vec<LaneDoor>,
        events: Arc<Events>,
        reload: Box<dyn Fn() + Send + Sync>,
    ) -> std::io::Result<House> {
        let bell = Arc::new(Notify::new());
        let rung = bell.clone();
        events.ring(move || rung.notify_one());
        let book = Book::open(dir)?;
        events.owing.want(book.fabrics());
        Ok(House {
            lanes: lanes.into_iter().map(Arc::new).collect(),
            settings: settings.clone(),
            dir: dir.to_owned(),
            gate: Gate::new(&settings.api, TokenFile::of(dir)),
            metrics: Metrics::default(),
            audit: Audit::open(dir)?,
            answers: Answers::open(dir)?,
            jobs: Jobs::default(),
            hooks: Hooks::new(&settings.webhooks),
            book,
            heard: watch::Sender::new(events.last()),
            events,
            bell,
            streams: Arc::new(Semaphore::new(settings.api.streams_max)),
            reload,
            stopping: watch::Sender::new(false),
        })
    }

    pub(super) fn api(&self) -> &ApiSettings {
        &self.settings.api
    }

    /// All fabrics that a caller may look at.
    pub(super) fn fabrics(&self, caller: &Caller) -> Vec<FabricDoor> {
        let mut found = Vec::new();
        for lane in &self.lanes {
            let shown = lane.board.read();
            for n in 0..shown.fabrics.len() {
                let it = FabricDoor { lane: lane.clone(), shown: shown.clone(), n };
                if caller.reaches(it.name()) {
                    found.push(it);
                }
            }
        }
        found
    }

    /// One fabric, if the caller may do that much there.
    pub(super) fn fabric(
        &self,
        caller: &Caller,
        name: &str,
        scope: Scope,
    ) -> Result<FabricDoor, Refusal> {
        let absent = || {
            Refusal::new(ErrorCode::FabricNotFound, format!("there is no fabric `{name}`"))
                .suggest("GET /api/v1/fabrics shows all")
        };
        let wanted = FabricName::parse(name).map_err(|_| absent())?;
        caller.may(scope, Some(&wanted))?;
        let found = self.fabrics(caller).into_iter().find(|it| *it.name() == wanted);
        found.ok_or_else(absent)
    }

    /// One repository: by its id or the name of its directory.
    pub(super) fn lane(&self, id: &str) -> Result<&Arc<LaneDoor>, Refusal> {
        let named = |it: &&Arc<LaneDoor>| it.work_tree.file_name().is_some_and(|it| it == id);
        let by_id = self.lanes.iter().find(|it| it.id == id);
        let mut by_name = self.lanes.iter().filter(named);
        match (by_id, by_name.next(), by_name.next()) {
            (Some(it), _, _) | (None, Some(it), None) => Ok(it),
            _ => Err(Refusal::new(
                ErrorCode::RepositoryNotFound,
                format!("there is no repository `{id}`"),
            )
            .suggest("GET /api/v1/repositories shows all")),
        }
    }

    /// The fabrics of a repository.
    pub(super) fn fabrics_of(&self, repository: &str) -> Vec<FabricName> {
        let lane = self.lanes.iter().find(|it| it.id == repository);
        let names = |it: &Arc<LaneDoor>| {
            it.board.read().fabrics.iter().map(|it| it.fabric.name.clone()).collect()
        };
        lane.map(names).unwrap_or_default()
    }

    /// Says whether a caller may hear of an event.
    pub(super) fn may_hear(&self, caller: &Caller, event: &Event) -> bool {
        match &event.fabric {
            Some(it) => caller.reaches(it),
            None => {
                let its = |it: &&Arc<LaneDoor>| *it.id == *event.repository;
                caller.fabrics.is_none()
                    || self.lanes.iter().find(its).is_some_and(|it| it.is_reached_by(caller))
            }
        }
    }

    /// Brings what is owed to whom up to date with the book.
    pub(super) fn subscribed(&self) {
        self.events.owing.want(self.book.fabrics());
    }

    /// Nobody is told any more of a fabric that was removed. Blocks while a disk is written.
    pub(super) fn unsubscribe(&self, fabric: &FabricName) {
        if let Err(error) = self.book.forget(fabric) {
            tracing::error!(%error, %fabric, "the webhooks of a fabric that was removed cannot be removed; remove them over the API");
        }
        self.subscribed();
    }

    /// Says whether every lane has been through recovery.
    pub(super) fn is_ready(&self) -> bool {
        self.lanes.iter().all(|it| it.ready.load(Ordering::Relaxed))
    }
}

/// Who asks, for the lane.
pub(super) fn asker(caller: &Caller) -> Option<Asker> {
    Some(Asker { actor: caller.actor.clone(), trigger: Trigger::Api })
}

/// A program's answer, or whatever else came.
pub(super) fn of_program(answer: Answer) -> Result<ProgramAnswer, Answer> {
    match answer {
        Answer::Program(it) => Ok(*it),
        other => Err(other),
    }
}

/// What an answer that was not asked for becomes.
pub(super) fn unexpected(it: Result<ProgramAnswer, Answer>, absent: ErrorCode) -> Refusal {
    match it {
        Err(answer) => Refusal::of(answer, absent),
        Ok(it) => Refusal::of(Answer::Program(Box::new(it)), absent),
    }
}
