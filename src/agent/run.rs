//! The loop: one lane, one thread, a closed set of events.
//!
//! A lane sleeps until something wakes it: a kernel event, a question, a clock. While a commit is
//! being pushed, what arrives gathers and becomes the next commit: an idle agent answers at once, a
//! flooded one commits in groups, and there is no timer to tune.

use super::board::{Board, Shown};
use super::desk::{self, Answer, Asker, Live, Request};
use super::events::Voice;
use super::lane::Lane;
use super::sync::{self, Sent};
use super::turn::{self, Cause};
use super::{Error, follow, glance, hands, schedule, settle};
use crate::clock;
use crate::git;
use crate::model::operation::Trigger;
use crate::model::path::RawPath;
use crate::model::rules::Mode;
use crate::telemetry;
use crate::worktree::watch::{Wake, Watched, Watcher};
use crossbeam_channel::{Receiver, Sender};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How many wakes wait in the queue; what is beyond is a rescan.
const WAKES_MAX: usize = 4_096;
/// How many hints one turn remembers; what is beyond settles by the quiet period.
const HINTS_MAX: usize = 100_000;
/// How many questions wait in the queue.
const ASKED_MAX: usize = 64;
/// A lane that has nothing to do looks up this often where a watchdog wants to hear of it.
const PULSE_MAX: Duration = Duration::from_secs(60);
/// In a flood a push takes along what several turns committed, so long: each costs the remote a look.
const GATHER_MAX: Duration = Duration::from_secs(10);
/// A turn of so many drops leaves memory behind that is worth giving back.
const LITTER_MIN: usize = 1_000;
/// The eye on `managed/` is not opened more often, since that costs a look at every file.
const EYE_PAUSE: Duration = Duration::from_secs(5);

/// A question with the way back for its answer.
pub struct Asked {
    /// The question.
    pub request: Request,
    /// Who asks; none is a person at the command line.
    pub asker: Option<Asker>,
    /// Asked when its turn has come; a no drops the question. None is a yes.
    pub admit: Option<Box<dyn FnOnce() -> bool + Send>>,
    /// Where the answer goes; nobody may be there any more.
    pub reply: Box<dyn FnOnce(Answer) + Send>,
}

/// The ends that the supervisor holds of a running lane.
pub struct Ends {
    /// Questions go in here.
    pub asked: Sender<Asked>,
    /// Told to end: the turn under way is finished first.
    pub stop: Sender<()>,
    /// Goes up with every pass of the loop.
    pub pulse: Arc<AtomicU64>,
    /// How the lane stands, for those who cannot wait for it.
    pub board: Arc<Board>,
}

/// The other ends, which the loop takes.
pub struct Inside {
    asked: Receiver<Asked>,
    stop: Receiver<()>,
    pulse: Arc<AtomicU64>,
    board: Arc<Board>,
    voice: Voice,
}

/// Makes the channels of a lane, which tells what happens with this voice.
pub fn channels(voice: Voice) -> (Ends, Inside) {
    let (ask, asked) = crossbeam_channel::bounded(ASKED_MAX);
    let (stop, stopped) = crossbeam_channel::bounded(1);
    let pulse = Arc::new(AtomicU64::new(0));
    let board = Arc::new(Board::default());
    let ends = Ends { asked: ask, stop, pulse: pulse.clone(), board: board.clone() };
    (ends, Inside { asked, stop: stopped, pulse, board, voice })
}

/// What the loop remembers between two passes.
struct Loop {
    live: Live,
    /// Hints by fabric.
    hints: Vec<HashSet<RawPath>>,
    /// A look at `raw/` is due.
    due: bool,
    /// The watches have to be brought up to date first.
    rescan: bool,
    /// Somebody was at work in `managed/`.
    touched: bool,
    /// When to open the eye again that should tell of that.
    eye_at: Instant,
    /// Much was made since memory was given back.
    litter: bool,
    trigger: Trigger,
    look_at: Instant,
    fetch_at: Option<Instant>,
    push_at: Instant,
    /// Since when a flood has kept what was committed from being sent.
    gathering: Option<Instant>,
    push_failures: u32,
    turn_failures: u32,
    unsent: bool,
    /// A watchdog wants to hear of us.
    watched: bool,
    /// The remote spoke with us the last time, whatever it said.
    remote_answers: bool,
}

/// Works for one repository until it is told to stop. `ready` is called once, when recovery is done
/// and the watch stands.
pub fn work(lane: &mut Lane, inside: &Inside, ready: impl FnOnce()) -> Result<(), Error> {
    let (sender, wakes) = crossbeam_channel::bounded(WAKES_MAX);
    let mut it = Loop::begin(lane);
    if let Err(error) = lane.prepare() {
        it.stand_still(&error);
    }
    let mut watcher = watcher_of(lane, &sender);
    it.open_eye(lane, &sender);
    let mut fabrics_version = lane.fabrics_version;
    it.tell_blind(&watcher, lane.settings.poll);
    inside.show(lane, &it.live);
    ready();
    loop {
        inside.pulse.fetch_add(1, Ordering::Relaxed);
        let pause = clock::wait(it.pause(lane, clock::instant()));
        if !pause.is_zero() && std::mem::take(&mut it.litter) {
            settle::clear_up(lane);
        }
        crossbeam_channel::select! {
            recv(inside.stop) -> _ => return Ok(()),
            recv(inside.asked) -> asked => match asked {
                Ok(asked) => it.serve(lane, asked, &inside.board),
                Err(_) => return Ok(()),
            },
            recv(wakes) -> wake => if let Ok(wake) = wake {
                // All that is there already belongs to the same turn.
                for wake in std::iter::once(wake).chain(wakes.try_iter().take(WAKES_MAX)) {
                    it.hear(wake, lane.settings.quiet);
                }
            },
            default(pause) => (),
        }
        if watcher.lost_wakes() {
            it.hear(Wake::Rescan, lane.settings.quiet);
        }
        // Directories may have come and gone where no watch told of it.
        if std::mem::take(&mut it.rescan) || clock::instant() >= it.look_at {
            watcher.catch_up();
            it.tell_blind(&watcher, lane.settings.poll);
        }
        if lane.fabrics_version != fabrics_version {
            fabrics_version = lane.fabrics_version;
            watcher = watcher_of(lane, &sender);
            it.begin_anew(lane.fabrics.len());
            it.open_eye(lane, &sender);
        }
        if std::mem::take(&mut it.touched) {
            it.look_by(glance::touched(lane));
        }
        it.pass(lane);
        if !lane.tree.eye().is_open() && !it.due && clock::instant() >= it.eye_at {
            it.open_eye(lane, &sender);
        }
        inside.show(lane, &it.live);
        if !watcher.stands() {
            // A turn makes directories that are missing; what came into them meanwhile was not told.
            watcher.catch_up();
            it.due |= watcher.stands();
        }
        it.litter |= lane.repo.let_go_of_packs().unwrap_or_else(|error| {
            it.stand_still(&error.into());
            false
        });
        if lane.store.needs_reopening() {
            // Only opening it again tells what it still has; the service manager starts us anew.
            return Err(Error::StoreLost);
        }
    }
}

/// Watches the `raw/` of every fabric.
fn watcher_of(lane: &Lane, sender: &Sender<Wake>) -> Watcher {
    let raws = lane.fabrics.iter();
    let raws = raws.map(|it| Watched { raw: it.fabric.raw(), ignores: it.inbox.ignores.clone() });
    Watcher::new(lane.repo.work_tree(), raws.collect(), lane.tree.own_moves(), sender.clone())
}

impl Inside {
    /// Shows how the lane stands, and tells where that has changed.
    fn show(&self, lane: &Lane, live: &Live) {
        let before = self.board.read();
        self.board.show(Shown::of(lane, live));
        self.voice.stands(&before.live, live);
    }
}

impl Loop {
    fn begin(lane: &Lane) -> Loop {
        let now = clock::instant();
        Loop {
            live: Live { running: true, ..Live::default() },
            hints: vec![HashSet::new(); lane.fabrics.len()],
            due: true,
            rescan: false,
            touched: false,
            eye_at: now,
            litter: true,
            trigger: Trigger::Startup,
            look_at: now,
            fetch_at: lane.settings.fetch_every.map(|every| now + every),
            push_at: now,
            gathering: None,
            push_failures: 0,
            turn_failures: 0,
            unsent: true,
            watched: telemetry::watchdog().is_some(),
            remote_answers: true,
        }
    }

    /// Fabrics have come, gone or changed: what was heard of the old ones says nothing any more.
    fn begin_anew(&mut self, fabrics: usize) {
        self.hints = vec![HashSet::new(); fabrics];
        self.due = true;
    }

    /// Has others' work in `managed/` told; where the kernel cannot, it is asked again later.
    fn open_eye(&mut self, lane: &mut Lane, sender: &Sender<Wake>) {
        self.look_by(glance::open_eye(lane, sender));
        let pause = if lane.tree.eye().is_open() { EYE_PAUSE } else { lane.settings.rescan };
        self.eye_at = clock::instant() + pause;
    }

    fn look_by(&mut self, at: Option<Instant>) {
        self.look_at = at.map_or(self.look_at, |at| at.min(self.look_at));
    }

    /// One pass: a turn for each fabric if a look is due, then the way to the remote.
    fn pass(&mut self, lane: &mut Lane) {
        let now = clock::instant();
        if now >= self.look_at {
            self.due = true;
        }
        if self.due {
            self.due = false;
            self.look_at = now + self.look_every(lane);
            match self.turns(lane) {
                Ok(()) => {
                    self.turn_failures = 0;
                    self.live.held = None;
                }
                Err(error) => {
                    self.turn_failures += 1;
                    self.stand_still(&error);
                    let wait = schedule::wait(lane.settings.patience, self.turn_failures, seed());
                    self.look_at = clock::instant() + wait;
                }
            }
            self.trigger = Trigger::Schedule;
        }
        let now = clock::instant();
        self.gathering = match self.due && lane.flooded() {
            true => self.gathering.or(Some(now)),
            false => None,
        };
        let gathers = self.gathering.is_some_and(|since| now < since + GATHER_MAX);
        if self.unsent && !gathers && now >= self.push_at {
            self.gathering = None;
            self.send(lane);
        }
        if self.fetch_at.is_some_and(|at| clock::instant() >= at) {
            self.fetch(lane);
        }
        if self.gathering.is_none() && lane.repo.holds_index() {
            settle::tidy(lane);
        }
    }

    /// One turn for each fabric; one in trouble keeps no other from its turn.
    fn turns(&mut self, lane: &mut Lane) -> Result<(), Error> {
        let mut trouble = None;
        lane.sends_soon = self.push_failures == 0;
        for n in 0..lane.fabrics.len() {
            if let Err(error) = self.turn(lane, n) {
                // It may have failed behind its commit.
                self.send_soon();
                trouble.get_or_insert(error);
            }
        }
        trouble.map_or(Ok(()), Err)
    }

    fn turn(&mut self, lane: &mut Lane, n: usize) -> Result<(), Error> {
        if lane.fabrics[n].rules.mode < Mode::Ingest {
            let head = lane.head_to_commit_on()?.commit;
            self.live.turns += 1;
            return follow::records_follow_head(lane, n, head);
        }
        if super::structure::ensure(lane, n)?.is_some() {
            self.send_soon();
        }
        match self.trigger {
            // The first look takes a glance at every file, and drops that wait are dearer.
            Trigger::Startup => self.due |= lane.fabrics[n].rules.mode == Mode::Full,
            _ if hands::take_when_due(lane, n)?.is_some() => self.send_soon(),
            _ => (),
        }
        self.look_by(lane.fabrics[n].hands.look_at);
        let cause = Cause {
            trigger: self.trigger,
            actor: lane.settings.author.name.clone(),
            hints: std::mem::take(&mut self.hints[n]),
            patient: false,
        };
        let turned = turn::turn(lane, n, &cause);
        if turned.as_ref().map_or(true, |it| !it.looked) {
            // What was closed stays closed: the next look need not wait for it to settle.
            self.hints[n] = cause.hints;
        }
        let turned = turned?;
        self.due |= turned.more;
        self.live.turns += 1;
        self.look_by(turned.next_look);
        if turned.files.len() >= LITTER_MIN {
            self.litter = true;
            settle::clear_up(lane);
        }
        if let Some(operation) = turned.operation {
            let commit = operation.state.commit_id().map(|it| it.short());
            let (fabric, files) = (&operation.fabric, operation.files.len());
            tracing::info!(fabric.name = %fabric, operation.id = %operation.id, commit_id = commit, files, "a turn took {files} files");
            if commit.is_some() {
                self.send_soon();
                if self.push_at > clock::instant() && !lane.flooded() {
                    // The remote is away, so nothing follows that would do it.
                    settle::tidy(lane);
                }
            }
        }
        Ok(())
    }

    /// There is something to send: at once, or, while the remote is away, when it is asked again.
    fn send_soon(&mut self) {
        self.unsent = true;
        if self.push_failures == 0 {
            self.push_at = clock::instant();
        }
    }

    fn send(&mut self, lane: &mut Lane) {
        let sent = sync::deliver(lane);
        self.remote_answers = sent.is_ok();
        let failure = match sent {
            Ok(Sent::Nothing) => None,
            Ok(Sent::Pushed(commit_id)) => {
                tracing::info!(commit_id = %commit_id.short(), "pushed");
                None
            }
            Ok(Sent::Proposed { commit_id, branch }) => {
                tracing::info!(commit_id = %commit_id.short(), branch, "pushed for a pull request");
                None
            }
            Ok(Sent::Refused(reason)) => {
                Some((format!("the remote refuses the push: {reason}"), git::Retry::Later))
            }
            Err(error) => Some((error.chain(), error.retry())),
        };
        match failure {
            None => {
                self.unsent = false;
                self.push_failures = 0;
                self.live.waiting = None;
            }
            Some((reason, retry)) => {
                self.push_failures += 1;
                let n = match retry {
                    git::Retry::Later => self.push_failures,
                    // A person must act; a look now and then notices that somebody did.
                    git::Retry::Never => u32::MAX,
                };
                let wait = schedule::wait(lane.settings.patience, n, seed());
                self.push_at = clock::instant() + wait;
                if self.live.waiting.as_deref() != Some(&reason) {
                    tracing::warn!(
                        reason,
                        attempt = self.push_failures,
                        "cannot push, trying again in {wait:?}"
                    );
                }
                self.live.waiting = Some(reason);
            }
        }
    }

    fn fetch(&mut self, lane: &mut Lane) {
        self.fetch_at = lane.settings.fetch_every.map(|every| clock::instant() + every);
        // A remote that refuses still has news; one that is away is asked by the next push.
        if lane.settings.remote.is_none() || (self.push_failures > 0 && !self.remote_answers) {
            return;
        }
        match sync::take_in(lane) {
            Ok(()) => {
                // What was replayed has to be sent.
                self.send_soon();
                self.due = true;
            }
            Err(error) => self.stand_still(&error),
        }
    }

    fn serve(&mut self, lane: &mut Lane, asked: Asked, board: &Board) {
        if asked.admit.is_some_and(|it| !it()) {
            return;
        }
        let live = Live { asker: asked.asker, ..self.live.clone() };
        let answer = desk::answer(lane, &asked.request, &live);
        // Whoever hears the answer and looks at the board finds what was done.
        board.show(Shown::of(lane, &self.live));
        (asked.reply)(answer);
        // It looked at drops that nobody has taken yet.
        self.due |= asked.request.leaves_drops();
        self.unsent |= asked.request.may_commit();
    }

    fn hear(&mut self, wake: Wake, quiet: Duration) {
        if wake != Wake::Touched {
            self.trigger = Trigger::Watch;
        }
        match wake {
            Wake::Closed { fabric, path } => {
                self.due = true;
                if let Some(hints) = self.hints.get_mut(fabric).filter(|it| it.len() < HINTS_MAX) {
                    hints.insert(path);
                }
            }
            // Its writer will close it. What has none (a hard link) is found when it stood still.
            Wake::Begun { .. } => self.look_at = self.look_at.min(clock::instant() + quiet),
            Wake::Gone { .. } => self.due = true,
            Wake::Rescan => (self.due, self.rescan) = (true, true),
            Wake::Touched => self.touched = true,
        }
    }

    /// How often `raw/` is looked at without a cause.
    fn look_every(&self, lane: &Lane) -> Duration {
        let every = lane.settings.rescan;
        if self.live.polled.is_some() { every.min(lane.settings.poll) } else { every }
    }

    /// Says once why `raw/` is looked at now and then, and in `status` as long as it is so.
    fn tell_blind(&mut self, watcher: &Watcher, poll: Duration) {
        let reason = watcher.blind();
        if reason != self.live.polled.as_deref() {
            match reason {
                Some(reason) => tracing::warn!(
                    reason,
                    "raw/ is looked at every {poll:?} (intake.poll) instead of when something changes"
                ),
                None => tracing::info!("the kernel tells of every change in raw/ again"),
            }
            self.live.polled = reason.map(str::to_owned);
        }
    }

    fn stand_still(&mut self, error: &Error) {
        let reason = error.chain();
        if self.live.held.as_deref() != Some(&reason) {
            tracing::warn!(reason, "the lane stands still and looks again by itself");
        }
        self.live.held = Some(reason);
    }

    /// How long until the next thing is due.
    fn pause(&self, lane: &Lane, now: Instant) -> Duration {
        if self.due {
            return Duration::ZERO;
        }
        let mut at = self.look_at;
        if self.unsent && lane.settings.remote.is_some() {
            at = at.min(self.push_at);
        }
        if let Some(fetch) = self.fetch_at {
            at = at.min(fetch);
        }
        let pause = at.saturating_duration_since(now);
        if self.watched { pause.min(PULSE_MAX) } else { pause }
    }
}

/// A number that differs between agents and tries, for the jitter.
fn seed() -> u64 {
    clock::now().subsec_nanosecond().unsigned_abs().into()
}
