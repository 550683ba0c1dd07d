//! What happens, as it happens: the last events of an agent, numbered, for whoever follows them.
//!
//! Whoever adds an event never waits: nobody is asked, nothing is sent, and the oldest goes where the
//! ring is full. Whoever follows comes with the number of the last event they know and takes what is
//! after it; who was too slow is told how many they missed. Numbers begin anew with each start, so an
//! id also names the start: a client that comes back to another one knows that it may have missed some.

use super::desk::Live;
use super::owed::{Owed, Owing};
use crate::clock;
use crate::model::fabric::FabricName;
use crate::model::ids::{CommitId, OperationId};
use crate::model::key::ResourceId;
use crate::model::operation::{Headline, Operation, Purpose, State, Trigger};
use crate::store::{Listener, News};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Of one kind so many are told one by one when a single write brings them; the rest is a number.
const AT_ONCE_MAX: usize = 64;
/// Words and paths in an event are not longer, in characters.
const WORDS_CHARS_MAX: usize = 500;

/// What happened; programs may rely on these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An operation stands in the journal and begins.
    SyncStarted,
    /// The branch has it; the remote does not yet.
    SyncCommitted,
    /// It is over, and done: the remote has it, or nothing had to be sent.
    SyncCompleted,
    /// Nothing came of it, or what is committed does not get to the remote.
    SyncFailed,
    /// A drop stays in `raw/`.
    FileRejected,
    /// Two sides changed one resource.
    ConflictDetected,
    /// That is over.
    ConflictResolved,
    /// Records follow what git has by now, whoever committed it.
    RecordsFollowed,
    /// The repository stands still until somebody acts.
    RepositoryHeld,
    /// It goes on.
    RepositoryReleased,
}

impl EventKind {
    /// All of them.
    pub const ALL: [EventKind; 10] = [
        EventKind::SyncStarted,
        EventKind::SyncCommitted,
        EventKind::SyncCompleted,
        EventKind::SyncFailed,
        EventKind::FileRejected,
        EventKind::ConflictDetected,
        EventKind::ConflictResolved,
        EventKind::RecordsFollowed,
        EventKind::RepositoryHeld,
        EventKind::RepositoryReleased,
    ];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            EventKind::SyncStarted => "sync_started",
            EventKind::SyncCommitted => "sync_committed",
            EventKind::SyncCompleted => "sync_completed",
            EventKind::SyncFailed => "sync_failed",
            EventKind::FileRejected => "file_rejected",
            EventKind::ConflictDetected => "conflict_detected",
            EventKind::ConflictResolved => "conflict_resolved",
            EventKind::RecordsFollowed => "records_followed",
            EventKind::RepositoryHeld => "repository_held",
            EventKind::RepositoryReleased => "repository_released",
        }
    }

    /// The kind of this word.
    pub fn parse(word: &str) -> Option<EventKind> {
        EventKind::ALL.into_iter().find(|it| it.word() == word)
    }
}

/// What an event is about, as far as it is about such a thing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct About {
    /// The operation.
    pub operation_id: Option<OperationId>,
    /// What the operation is for.
    pub purpose: Option<Purpose>,
    /// What set it off.
    pub trigger: Option<Trigger>,
    /// Who is behind it.
    pub actor: Option<String>,
    /// The commit.
    pub commit_id: Option<CommitId>,
    /// The drop (relative to `raw/`) or the managed file.
    pub path: Option<String>,
    /// The resource.
    pub resource_id: Option<ResourceId>,
    /// Why, in words.
    pub message: Option<String>,
    /// How many files, records, or further ones of the same kind.
    pub count: Option<u64>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counted from 1 since the agent's start.
    pub number: u64,
    /// When.
    pub at: jiff::Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// In which repository.
    pub repository: Arc<str>,
    /// In which fabric; none is all of the repository.
    pub fabric: Option<FabricName>,
    /// What it is about.
    pub about: About,
    /// The last of what a lane's store keeps under this number until it was told for good.
    pub owed: Option<u64>,
    /// The event as its first follower wrote it down, for all others.
    pub written: OnceLock<Bytes>,
}

/// What a follower finds.
#[derive(Debug)]
pub struct Found {
    /// What is there, the oldest first.
    pub events: Vec<Arc<Event>>,
    /// The number to come back with.
    pub last: u64,
    /// So many were let go before they were taken.
    pub missed: u64,
}

type Bell = Box<dyn Fn() + Send + Sync>;

/// The last events of an agent.
pub struct Events {
    epoch: String,
    kept_max: usize,
    ring: Mutex<Ring>,
    bell: OnceLock<Bell>,
    /// Who must hear even after a kill.
    pub owing: Owing,
}

#[derive(Default)]
struct Ring {
    /// How many there were before the oldest that is kept.
    gone: u64,
    kept: VecDeque<Arc<Event>>,
}

impl Ring {
    fn last(&self) -> u64 {
        self.gone + self.kept.len() as u64
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

impl Events {
    /// A ring of so many events.
    pub fn new(kept_max: usize) -> Events {
        // Time and random bits: no two starts share one.
        let epoch = OperationId::new(clock::now()).0.simple().to_string();
        let (ring, owing) = (Mutex::default(), Owing::default());
        Events { epoch, kept_max, ring, bell: OnceLock::new(), owing }
    }

    /// Names this start of the agent.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Rings this for every event from now on: it must be quick, and wait for nobody.
    pub fn ring(&self, bell: impl Fn() + Send + Sync + 'static) {
        // There is one door, and it rings once for all who follow.
        let _ = self.bell.set(Box::new(bell));
    }

    /// The number of the newest event; 0 where none was yet.
    pub fn last(&self) -> u64 {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner).last()
    }

    /// Adds an event; `owed` names what the store keeps until it was told, of which it is the last.
    pub fn add(
        &self,
        kind: EventKind,
        repository: &Arc<str>,
        fabric: Option<&FabricName>,
        about: About,
        owed: Option<u64>,
    ) {
        let (repository, fabric) = (repository.clone(), fabric.cloned());
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let number = ring.last() + 1;
        let (at, written) = (clock::now(), OnceLock::new());
        let event = Event { number, at, kind, repository, fabric, about, owed, written };
        ring.kept.push_back(Arc::new(event));
        if ring.kept.len() > self.kept_max {
            ring.kept.pop_front();
            ring.gone += 1;
        }
        drop(ring);
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    /// What came after event number `after`, at most so many.
    pub fn since(&self, after: u64, limit: usize) -> Found {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let missed = ring.gone.saturating_sub(after);
        // A number that was never given is behind everything.
        let skip = after.saturating_sub(ring.gone).min(ring.kept.len() as u64);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let events: Vec<Arc<Event>> = ring.kept.iter().skip(skip).take(limit).cloned().collect();
        let last = ring.gone + (skip + events.len()) as u64;
        Found { events, last, missed }
    }
}

/// One lane's voice among the events.
#[derive(Debug, Clone)]
pub struct Voice {
    events: Arc<Events>,
    repository: Arc<str>,
}

impl Voice {
    /// The voice of the lane with this id.
    pub fn new(events: Arc<Events>, repository: &str) -> Voice {
        Voice { events, repository: Arc::from(repository) }
    }

    fn say(&self, kind: EventKind, fabric: Option<&FabricName>, about: About) {
        self.events.add(kind, &self.repository, fabric, about, None);
    }

    /// Tells how a lane stands, where that has changed.
    pub fn stands(&self, before: &Live, now: &Live) {
        let because =
            |it: &Option<String>| About { message: it.as_deref().map(clipped), ..About::default() };
        match (&before.held, &now.held) {
            (old, Some(new)) if old.as_ref() != Some(new) => {
                self.say(EventKind::RepositoryHeld, None, because(&now.held));
            }
            (Some(_), None) => self.say(EventKind::RepositoryReleased, None, About::default()),
            _ => (),
        }
        if now.waiting.is_some() && before.waiting != now.waiting {
            self.say(EventKind::SyncFailed, None, because(&now.waiting));
        }
    }
}

impl Listener for Voice {
    fn owes(&self, news: &News<'_>) -> Option<Vec<u8>> {
        let at = clock::now();
        let wanted = happened(news).into_iter().filter(|it| self.events.owing.wants(&it.1));
        let owed: Vec<Owed> =
            wanted.map(|(kind, fabric, about)| Owed { at, kind, fabric, about }).collect();
        // Plain values can always be written down.
        if owed.is_empty() { None } else { serde_json::to_vec(&owed).ok() }
    }

    fn hear(&self, news: &News<'_>, number: Option<u64>) {
        let mut all = happened(news).into_iter().peekable();
        while let Some((kind, fabric, about)) = all.next() {
            let owed = if all.peek().is_none() { number } else { None };
            self.events.add(kind, &self.repository, Some(&fabric), about, owed);
        }
    }

    fn told(&self) -> u64 {
        self.events.owing.told(&self.repository)
    }
}

type Happened = (EventKind, FabricName, About);

/// The events that a settlement is.
fn happened(news: &News<'_>) -> Vec<Happened> {
    let mut all = Vec::new();
    let settlement = news.settlement;
    let operation = settlement.operation.map(Operation::headline);
    if let Some(it) = operation.as_ref().or(settlement.moved) {
        all.push((kind_of(&it.state), it.fabric.clone(), about(it)));
    } else if let Some((fabric, commit_id)) = &settlement.synced
        && news.records + news.gone > 0
    {
        let count = Some((news.records + news.gone) as u64);
        let about = About { commit_id: Some(*commit_id), count, ..About::default() };
        all.push((EventKind::RecordsFollowed, fabric.clone(), about));
    }
    let rejects = news.rejects.iter().map(|it| {
        let message = it.problems.first().map(|it| clipped(&it.to_string()));
        let path = Some(clipped(&it.path.to_string()));
        (&it.fabric, About { path, message, ..About::default() })
    });
    each(&mut all, EventKind::FileRejected, rejects);
    let conflicts = news.conflicts.iter().map(|it| {
        let (path, message) = (Some(clipped(it.path.as_str())), Some(clipped(&it.message)));
        (&it.fabric, About { resource_id: Some(it.id), path, message, ..About::default() })
    });
    each(&mut all, EventKind::ConflictDetected, conflicts);
    let resolved = news.resolved.iter().map(|it| {
        let path = Some(clipped(it.path.as_str()));
        (&it.fabric, About { resource_id: Some(it.id), path, ..About::default() })
    });
    each(&mut all, EventKind::ConflictResolved, resolved);
    all
}

/// Several of one kind; a flood of them does not drive everything else out.
fn each<'a>(
    all: &mut Vec<Happened>,
    kind: EventKind,
    mut some: impl Iterator<Item = (&'a FabricName, About)>,
) {
    for (fabric, about) in some.by_ref().take(AT_ONCE_MAX) {
        all.push((kind, fabric.clone(), about));
    }
    let more = some.count() as u64;
    if let Some((_, fabric, _)) = all.last().filter(|_| more > 0) {
        let message = Some(format!("and {more} more"));
        let about = About { count: Some(more), message, ..About::default() };
        all.push((kind, fabric.clone(), about));
    }
}

fn kind_of(state: &State) -> EventKind {
    match state {
        State::Planned | State::Applied => EventKind::SyncStarted,
        State::Committed { .. } => EventKind::SyncCommitted,
        State::Pushed { .. } | State::Local { .. } | State::Done => EventKind::SyncCompleted,
        State::Undone { .. } | State::Held { .. } => EventKind::SyncFailed,
    }
}

fn about(it: &Headline) -> About {
    About {
        operation_id: Some(it.id),
        purpose: Some(it.purpose),
        trigger: Some(it.trigger),
        actor: Some(clipped(&it.actor)),
        commit_id: it.state.commit_id(),
        message: match &it.state {
            State::Undone { reason } | State::Held { reason } => Some(clipped(reason)),
            _ => None,
        },
        count: Some(it.statistics.files_processed),
        ..About::default()
    }
}

/// The beginning of long words.
fn clipped(text: &str) -> String {
    match text.char_indices().nth(WORDS_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(events: &Events, n: usize) {
        let repository = Arc::from("r");
        for _ in 0..n {
            events.add(EventKind::SyncStarted, &repository, None, About::default(), None);
        }
    }

    fn numbers(found: &Found) -> Vec<u64> {
        found.events.iter().map(|it| it.number).collect()
    }

    #[test]
    fn a_follower_gets_what_is_new_and_in_order() {
        let events = Events::new(100);
        assert_eq!(events.since(0, 10).last, 0);
        added(&events, 3);
        let found = events.since(1, 1);
        assert_eq!((numbers(&found), found.last, found.missed), (vec![2], 2, 0));
        let found = events.since(2, 10);
        assert_eq!((numbers(&found), found.last, found.missed), (vec![3], 3, 0));
        assert_eq!(events.since(3, 10).events.len(), 0);
        // Of a number that was never given nothing is known.
        assert_eq!(events.since(u64::MAX, 10).last, 3);
    }

    #[test]
    fn who_is_too_slow_is_told_how_many_they_missed_and_the_ring_stays_small() {
        let events = Events::new(100);
        added(&events, 100 + 5);
        let found = events.since(2, 10);
        assert_eq!((found.missed, found.events[0].number), (3, 6));
        assert_eq!(events.since(0, usize::MAX).events.len(), 100);
        assert_eq!(events.last(), 105);
    }

    #[test]
    fn no_two_starts_share_their_ids() {
        assert_ne!(Events::new(100).epoch(), Events::new(100).epoch());
    }

    #[test]
    fn words_that_are_long_are_clipped_where_a_character_ends() {
        let long = "\u{e4}".repeat(WORDS_CHARS_MAX + 1);
        assert_eq!(clipped(&long), format!("{}...", "\u{e4}".repeat(WORDS_CHARS_MAX)));
        assert_eq!(clipped("short"), "short");
    }

    #[test]
    fn every_kind_has_a_word_of_its_own_which_json_uses_too() {
        for it in EventKind::ALL {
            assert_eq!(EventKind::parse(it.word()), Some(it));
            assert_eq!(serde_json::to_value(it).unwrap(), it.word());
        }
    }
}
