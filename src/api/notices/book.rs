//! The book of subscribers and notices, on disk and in memory.

use super::entries::{Change, Notice, Secret, Standing, Subscriber, Told};
use crate::agent::events::EventKind;
use crate::clock;
use crate::model::fabric::FabricName;
use crate::model::ids::OperationId;
use crate::whole;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// So many subscribers there may be.
const SUBSCRIBERS_MAX: usize = 200;
/// So many notices wait for one subscriber; what is beyond lies aside at once.
const WAITING_MAX: usize = 1_000;
/// So many of one subscriber lie aside; the oldest is forgotten.
const ASIDE_MAX: usize = 200;
/// No real file is larger, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// The file of notices is written anew when it is larger, in bytes.
const NOTICES_BYTES_MAX: u64 = 8 << 20;
/// Why a subscriber cannot be added.
#[derive(Debug)]
pub enum Full {
    /// There are so many already.
    TooMany(usize),
    /// The disk refuses.
    Disk(io::Error),
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    subscribers: Vec<Subscriber>,
}

/// One line of the file of notices.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// It is so now.
    Put(Notice),
    /// It is over.
    Gone(String),
    /// What the store of this repository keeps up to this number is noted.
    Noted {
        /// The repository.
        repository: String,
        /// The number.
        number: u64,
    },
}

/// The book of an agent.
#[derive(Debug)]
pub struct Book {
    dir: PathBuf,
    inner: Mutex<Inner>,
    /// Rung when something may have become due.
    pub changed: Notify,
}

#[derive(Debug)]
struct Inner {
    subscribers: BTreeMap<String, Subscriber>,
    /// By their ids, which sort by time.
    notices: BTreeMap<String, Notice>,
    /// How far what each repository's store keeps is noted.
    noted: BTreeMap<String, u64>,
    /// None until the first line is written: a start must not need room on the disk.
    file: Option<File>,
}

impl Book {
    /// Opens the book in an agent's directory.
    pub fn open(dir: &Path) -> io::Result<Book> {
        let kept: Kept = match read(&dir.join("webhooks.json"))? {
            Some(text) => serde_json::from_slice(&text)?,
            None => Kept::default(),
        };
        let subscribers: BTreeMap<String, Subscriber> =
            kept.subscribers.into_iter().map(|it| (it.id.clone(), it)).collect();
        let path = dir.join("notices.jsonl");
        let (mut notices, mut noted) = (BTreeMap::new(), BTreeMap::new());
        if let Ok(file) = File::open(&path) {
            for line in io::BufReader::new(file.take(FILE_BYTES_MAX)).split(b'\n') {
                // A line that a crash tore was not acknowledged.
                match serde_json::from_slice(&line?) {
                    Ok(Line::Put(it)) => drop(notices.insert(it.id.clone(), it)),
                    Ok(Line::Gone(id)) => drop(notices.remove(&id)),
                    Ok(Line::Noted { repository, number }) => {
                        noted.insert(repository, number);
                    }
                    Err(_) => (),
                }
            }
        }
        notices.retain(|_, it: &mut Notice| subscribers.contains_key(&it.subscriber));
        let inner = Mutex::new(Inner { subscribers, notices, noted, file: None });
        Ok(Book { dir: dir.to_owned(), inner, changed: Notify::new() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The subscribers of a fabric, the oldest first.
    pub fn of(&self, fabric: &FabricName) -> Vec<Subscriber> {
        let inner = self.lock();
        let mut all: Vec<Subscriber> =
            inner.subscribers.values().filter(|it| it.fabric == *fabric).cloned().collect();
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        all
    }

    /// The fabrics of whose events somebody is told.
    pub fn fabrics(&self) -> BTreeSet<FabricName> {
        let inner = self.lock();
        let active = inner.subscribers.values().filter(|it| it.active);
        active.map(|it| it.fabric.clone()).collect()
    }

    /// How far what a repository's store keeps is noted.
    pub fn noted(&self, repository: &str) -> u64 {
        self.lock().noted.get(repository).copied().unwrap_or(0)
    }

    /// One subscriber.
    pub fn find(&self, id: &str) -> Option<Subscriber> {
        self.lock().subscribers.get(id).cloned()
    }

    /// Adds a subscriber with a secret of its own; blocks while a disk is written.
    pub fn add(
        &self,
        fabric: &FabricName,
        url: String,
        events: Vec<EventKind>,
        actor: &str,
    ) -> Result<Subscriber, Full> {
        let mut inner = self.lock();
        if inner.subscribers.len() >= SUBSCRIBERS_MAX {
            return Err(Full::TooMany(SUBSCRIBERS_MAX));
        }
        let now = clock::now();
        let added = Subscriber {
            id: OperationId::new(now).to_string(),
            fabric: fabric.clone(),
            url,
            secret: Secret::random().map_err(Full::Disk)?,
            events,
            active: true,
            created_at: now,
            created_by: actor.to_owned(),
        };
        let mut all = inner.subscribers.clone();
        all.insert(added.id.clone(), added.clone());
        self.keep(&mut inner, all).map_err(Full::Disk)?;
        Ok(added)
    }

    /// Changes a subscriber; none where there is no such one. Blocks while a disk is written.
    pub fn change(&self, id: &str, change: Change) -> io::Result<Option<Subscriber>> {
        let mut inner = self.lock();
        let mut all = inner.subscribers.clone();
        let Some(it) = all.get_mut(id) else { return Ok(None) };
        it.url = change.url.unwrap_or_else(|| it.url.clone());
        it.events = change.events.unwrap_or_else(|| it.events.clone());
        it.active = change.active.unwrap_or(it.active);
        let changed = it.clone();
        self.keep(&mut inner, all)?;
        self.changed.notify_one();
        Ok(Some(changed))
    }

    /// Removes a subscriber and all it had to hear. Blocks while a disk is written.
    pub fn remove(&self, id: &str) -> io::Result<()> {
        self.retain(|it| it.id != id)
    }

    /// Removes all subscribers of a fabric that is no more, and all they had to hear. Blocks while a disk
    /// is written.
    pub fn forget(&self, fabric: &FabricName) -> io::Result<()> {
        self.retain(|it| it.fabric != *fabric)
    }

    fn retain(&self, stays: impl Fn(&Subscriber) -> bool) -> io::Result<()> {
        let mut inner = self.lock();
        let mut all = inner.subscribers.clone();
        all.retain(|_, it| stays(it));
        if all.len() == inner.subscribers.len() {
            return Ok(());
        }
        self.keep(&mut inner, all)?;
        let gone = |it: &&Notice| !inner.subscribers.contains_key(&it.subscriber);
        let gone = inner.notices.values().filter(gone);
        let lines: Vec<Line> = gone.map(|it| Line::Gone(it.id.clone())).collect();
        self.write(&mut inner, lines)
    }

    /// Writes the subscribers, whole or not at all.
    fn keep(&self, inner: &mut Inner, all: BTreeMap<String, Subscriber>) -> io::Result<()> {
        let kept = Kept { subscribers: all.values().cloned().collect() };
        let text = serde_json::to_vec_pretty(&kept)?;
        whole::replace(&self.dir.join("webhooks.json"), |it| it.write_all(&text))?;
        inner.subscribers = all;
        Ok(())
    }

    /// Adds lines to the file of notices, forces them to the disk, and does what they say.
    fn write(&self, inner: &mut Inner, lines: Vec<Line>) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for it in &lines {
            serde_json::to_writer(&mut text, it)?;
            text.push(b'\n');
        }
        let path = self.dir.join("notices.jsonl");
        let file = match &mut inner.file {
            Some(it) => it,
            // Made anew: its last line may be one that a crash tore.
            None => inner.file.insert(anew(&path, &inner.notices, &inner.noted)?),
        };
        file.write_all(&text)?;
        file.sync_data()?;
        let full = file.metadata()?.len() > NOTICES_BYTES_MAX;
        for it in lines {
            match it {
                Line::Put(it) => drop(inner.notices.insert(it.id.clone(), it)),
                Line::Gone(id) => drop(inner.notices.remove(&id)),
                Line::Noted { repository, number } => {
                    inner.noted.insert(repository, number);
                }
            }
        }
        if full {
            inner.file = Some(anew(&path, &inner.notices, &inner.noted)?);
        }
        Ok(())
    }

    /// Notes events for whoever is to hear of them, and with them how far what each repository's store
    /// keeps is noted now. Blocks while a disk is written; where nobody is to hear, nothing is.
    pub fn note(&self, events: &[Told], noted: &BTreeMap<String, u64>) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.subscribers.is_empty() && inner.noted.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        let mut lines = Vec::new();
        let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
        for it in inner.notices.values() {
            let (waiting, aside) = counts.entry(it.subscriber.clone()).or_default();
            match it.standing {
                Standing::Waiting => *waiting += 1,
                Standing::Aside => *aside += 1,
            }
        }
        for told in events {
            let wants = |it: &&Subscriber| {
                it.active
                    && it.fabric == told.fabric
                    && (it.events.is_empty() || it.events.contains(&told.kind))
                    && told.at.is_none_or(|at| it.created_at <= at)
            };
            for it in inner.subscribers.values().filter(wants) {
                let (waiting, aside) = counts.entry(it.id.clone()).or_default();
                let full = *waiting >= WAITING_MAX;
                if full && *aside >= ASIDE_MAX {
                    continue;
                }
                *(if full { aside } else { waiting }) += 1;
                lines.push(Line::Put(Notice {
                    id: OperationId::new(now).to_string(),
                    subscriber: it.id.clone(),
                    kind: told.kind,
                    body: told.body.clone(),
                    created_at: now,
                    attempts: 0,
                    next_at: now,
                    error: full.then(|| format!("{WAITING_MAX} notices wait already")),
                    standing: if full { Standing::Aside } else { Standing::Waiting },
                }));
            }
        }
        lines.extend(noted.iter().map(|(repository, number)| Line::Noted {
            repository: repository.clone(),
            number: *number,
        }));
        self.write(&mut inner, lines)
    }

    /// What is due now, one of each subscriber that is not `busy`: what was to be sent first.
    pub fn due(&self, busy: &dyn Fn(&str) -> bool, limit: usize) -> Vec<(Notice, Subscriber)> {
        let inner = self.lock();
        let now = clock::now();
        let mut first: BTreeMap<&str, &Notice> = BTreeMap::new();
        for it in inner.notices.values() {
            if it.standing == Standing::Waiting && it.next_at <= now && !busy(&it.subscriber) {
                let known = first.entry(it.subscriber.as_str()).or_insert(it);
                if it.next_at < known.next_at {
                    *known = it;
                }
            }
        }
        let active = first.into_values().filter_map(|it| {
            let to = inner.subscribers.get(&it.subscriber).filter(|it| it.active)?;
            Some((it.clone(), to.clone()))
        });
        active.take(limit).collect()
    }

    /// When the next attempt is due, of those that are not `busy`.
    pub fn next_at(&self, busy: &dyn Fn(&str) -> bool) -> Option<jiff::Timestamp> {
        let inner = self.lock();
        let waiting = inner.notices.values().filter(|it| it.standing == Standing::Waiting);
        let active = |it: &&Notice| {
            inner.subscribers.get(&it.subscriber).is_some_and(|it| it.active && !busy(&it.id))
        };
        waiting.filter(active).map(|it| it.next_at).min()
    }

    /// A notice arrived.
    pub fn arrived(&self, id: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let known = inner.notices.contains_key(id);
        let lines = known.then(|| Line::Gone(id.to_owned())).into_iter().collect();
        self.write(&mut inner, lines)
    }

    /// A notice did not arrive: it is tried again after `wait`, or lies aside.
    pub fn failed(
        &self,
        id: &str,
        error: String,
        wait: Option<std::time::Duration>,
    ) -> io::Result<()> {
        let mut inner = self.lock();
        let Some(mut it) = inner.notices.get(id).cloned() else { return Ok(()) };
        it.attempts += 1;
        it.error = Some(error);
        match wait {
            Some(wait) => {
                it.next_at = clock::now().checked_add(wait).unwrap_or(jiff::Timestamp::MAX);
            }
            None => it.standing = Standing::Aside,
        }
        let mut lines = Vec::new();
        if it.standing == Standing::Aside {
            let same = |other: &&Notice| {
                other.subscriber == it.subscriber && other.standing == Standing::Aside
            };
            let aside: Vec<&Notice> = inner.notices.values().filter(same).collect();
            let beyond = (aside.len() + 1).saturating_sub(ASIDE_MAX);
            lines.extend(aside.iter().take(beyond).map(|it| Line::Gone(it.id.clone())));
        }
        lines.push(Line::Put(it));
        self.write(&mut inner, lines)
    }

    /// The notices of a subscriber, the newest first.
    pub fn notices(&self, subscriber: &str, standing: Option<Standing>) -> Vec<Notice> {
        let inner = self.lock();
        let its = |it: &&Notice| {
            it.subscriber == subscriber && standing.is_none_or(|wanted| wanted == it.standing)
        };
        inner.notices.values().rev().filter(its).cloned().collect()
    }

    /// Sends a notice again from the first attempt; none where there is no such one. Blocks while a disk
    /// is written.
    pub fn again(&self, subscriber: &str, id: &str) -> io::Result<Option<Notice>> {
        let mut inner = self.lock();
        let found = inner.notices.get(id).filter(|it| it.subscriber == subscriber);
        let Some(mut it) = found.cloned() else { return Ok(None) };
        (it.attempts, it.next_at, it.standing) = (0, clock::now(), Standing::Waiting);
        self.write(&mut inner, vec![Line::Put(it.clone())])?;
        self.changed.notify_one();
        Ok(Some(it))
    }
}

fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(it) => it,
        Err(it) if it.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(it) => return Err(it),
    };
    if file.metadata()?.permissions().mode() & 0o077 != 0 {
        let path = path.display();
        return Err(io::Error::other(format!(
            "{path} can be read by others; make it the agent's alone: chmod 600 {path}"
        )));
    }
    let mut text = Vec::new();
    file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Writes the file of notices anew, and opens it for adding.
fn anew(
    path: &Path,
    notices: &BTreeMap<String, Notice>,
    noted: &BTreeMap<String, u64>,
) -> io::Result<File> {
    let noted = noted.iter().map(|(repository, number)| Line::Noted {
        repository: repository.clone(),
        number: *number,
    });
    let mut text = Vec::new();
    for it in noted.chain(notices.values().map(|it| Line::Put(it.clone()))) {
        serde_json::to_writer(&mut text, &it)?;
        text.push(b'\n');
    }
    whole::replace(path, |it| it.write_all(&text))?;
    File::options().append(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::super::entries::SECRET_BYTES;
    use super::*;
    use std::time::Duration;

    fn fabric() -> FabricName {
        FabricName::parse("fabric-1").unwrap()
    }

    fn event(n: usize) -> Told {
        let body = format!("{{\"n\":{n}}}");
        Told { kind: EventKind::SyncCompleted, fabric: fabric(), body, at: None }
    }

    #[test]
    fn who_asked_after_something_happened_does_not_hear_of_it_and_nobody_costs_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::open(dir.path()).unwrap();
        let numbers = BTreeMap::from([("work-1".to_owned(), 7)]);
        book.note(&[event(1)], &numbers).unwrap();
        assert!(!dir.path().join("notices.jsonl").exists(), "a start needs no room for nobody");
        let to = book.add(&fabric(), "https://x.example".into(), Vec::new(), "boss").unwrap();
        let second = Duration::from_secs(1);
        let early = Told { at: Some(to.created_at - second), ..event(1) };
        let late = Told { at: Some(to.created_at + second), ..event(2) };
        book.note(&[early, late], &numbers).unwrap();
        let noted = book.notices(&to.id, None);
        assert_eq!((noted.len(), noted[0].body.as_str()), (1, "{\"n\":2}"));
        assert_eq!(book.noted("work-1"), 7);
    }

    fn nobody(_: &str) -> bool {
        false
    }

    #[test]
    fn what_is_noted_outlives_the_agent_in_order_until_it_arrives() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::open(dir.path()).unwrap();
        let url = "https://example.com/hook".to_owned();
        let to = book.add(&fabric(), url, Vec::new(), "boss").unwrap();
        let only = vec![EventKind::FileRejected];
        book.add(&fabric(), "https://other.example".into(), only, "boss").unwrap();
        let numbers = BTreeMap::from([("work-1".to_owned(), 7)]);
        book.note(&[event(1), event(2)], &numbers).unwrap();
        let first = book.due(&nobody, 10);
        assert_eq!((first.len(), first[0].0.body.as_str()), (1, "{\"n\":1}"));
        assert!(book.due(&|it| it == to.id, 10).is_empty());
        book.arrived(&first[0].0.id).unwrap();
        drop(book);
        let book = Book::open(dir.path()).unwrap();
        assert_eq!(book.find(&to.id).unwrap(), to);
        assert_eq!((book.noted("work-1"), book.noted("work-2")), (7, 0));
        assert_eq!(book.fabrics(), BTreeSet::from([fabric()]));
        let second = book.due(&nobody, 10);
        assert_eq!((second.len(), second[0].0.body.as_str()), (1, "{\"n\":2}"));
        let id = &second[0].0.id;
        book.failed(id, "away".into(), Some(Duration::from_secs(60))).unwrap();
        assert!(book.due(&nobody, 10).is_empty() && book.next_at(&nobody).is_some());
        book.failed(id, "away".into(), None).unwrap();
        assert!(book.next_at(&nobody).is_none());
        drop(book);
        let book = Book::open(dir.path()).unwrap();
        let aside = book.notices(&to.id, Some(Standing::Aside));
        assert_eq!((aside.len(), aside[0].attempts), (1, 2));
        assert_eq!(book.again(&to.id, id).unwrap().unwrap().attempts, 0);
        assert_eq!(book.due(&nobody, 10).len(), 1);
        book.remove(&to.id).unwrap();
        assert!(book.due(&nobody, 10).is_empty());
        let book = Book::open(dir.path()).unwrap();
        assert!(book.notices(&to.id, None).is_empty() && book.of(&fabric()).len() == 1);
        assert_eq!(book.noted("work-1"), 7);
        // What goes with its fabric takes what it had to hear along.
        let other = FabricName::parse("fabric-2").unwrap();
        let stays = book.add(&other, "https://x.example".into(), Vec::new(), "boss").unwrap();
        book.forget(&fabric()).unwrap();
        assert!(book.of(&fabric()).is_empty());
        assert_eq!(Book::open(dir.path()).unwrap().of(&other), [stays]);
    }

    #[test]
    fn a_receiver_that_is_away_for_ever_has_a_limit() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::open(dir.path()).unwrap();
        let to = book.add(&fabric(), "https://x.example".into(), Vec::new(), "boss").unwrap();
        let many: Vec<_> = (0..WAITING_MAX + ASIDE_MAX + 10).map(event).collect();
        book.note(&many, &BTreeMap::new()).unwrap();
        let count = |it| book.notices(&to.id, Some(it)).len();
        assert_eq!((count(Standing::Waiting), count(Standing::Aside)), (WAITING_MAX, ASIDE_MAX));
        let waiting = book.notices(&to.id, Some(Standing::Waiting));
        book.failed(&waiting[0].id, "away".into(), None).unwrap();
        assert_eq!(
            (count(Standing::Waiting), count(Standing::Aside)),
            (WAITING_MAX - 1, ASIDE_MAX)
        );
    }

    #[test]
    fn a_torn_line_costs_nothing_else_and_others_cannot_read() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::open(dir.path()).unwrap();
        let to = book.add(&fabric(), "https://x.example".into(), Vec::new(), "boss").unwrap();
        book.note(&[event(1)], &BTreeMap::new()).unwrap();
        drop(book);
        for name in ["webhooks.json", "notices.jsonl"] {
            let mode = std::fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        let mut file = File::options().append(true).open(dir.path().join("notices.jsonl")).unwrap();
        file.write_all(b"{\"put\":{\"id\":").unwrap();
        assert_eq!(Book::open(dir.path()).unwrap().notices(&to.id, None).len(), 1);
        assert!(!format!("{to:?}").contains(to.secret.shown_once()), "a secret is printed");
        assert_eq!(to.secret.key().len(), SECRET_BYTES);
    }
}
