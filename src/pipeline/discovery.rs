//! The first stage: of what lies in `raw/`, which files are ready to be read.
//!
//! Ready is what its writer closed or moved in, or what did not change over the quiet period.
//! Sizes, inodes and times only tell whether a file changed between two looks; none is ever
//! compared with the clock, which may jump.
//!
//! A look is given one entry after the other and keeps a few words of each, never its name: a
//! million drops are some eighty megabytes. Names are kept of those that are ready, the first
//! [`READY_MAX`] of them, in the order they came.

use crate::model::path::RawPath;
use crate::model::problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::hash_map::RandomState;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

/// How many ready files one look names; the rest is found by the next.
pub const READY_MAX: usize = 100_000;
/// A file that somebody holds open is looked at again after the quiet period, then after twice
/// that, and so on, so many times.
const DOUBLINGS_MAX: u8 = 7;
/// One that cannot be taken out of `raw/` is tried again after the quiet period doubled so often.
const DOUBLINGS_STUCK: u8 = 12;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryType {
    /// A file.
    Regular,
    /// A symbolic link, wherever it leads.
    Symlink,
    /// A directory whose name ends like a manifest.
    Directory,
    /// A pipe, a socket or a device.
    Special,
}

/// What changes when a file changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Its size.
    pub bytes: u64,
    /// Its inode.
    pub inode: u64,
    /// When its content changed: seconds and nanoseconds.
    pub modified: (i64, u64),
    /// When its inode changed: seconds and nanoseconds.
    pub changed: (i64, u64),
}

/// One entry that could be a drop.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Where, relative to `raw/`.
    pub path: &'a [u8],
    /// What it is.
    pub entry_type: EntryType,
    /// What tells whether it changed.
    pub fingerprint: Fingerprint,
}

/// A drop that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ready {
    /// Where, relative to `raw/`.
    pub path: RawPath,
    /// As it was when it was found ready: what is read must still be that.
    pub fingerprint: Fingerprint,
    /// What is no drop and never will be, though it is named like one.
    pub strange: Option<Problem>,
}

/// What earlier looks saw; holds exactly the entries of the last whole look.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// By the hash of the path, with a key of this process. Two paths that share one would only
    /// wait for the kernel's word instead of the quiet period.
    sights: HashMap<u64, Sight>,
    hasher: RandomState,
    begun: Option<Instant>,
    looks: u32,
    judged: usize,
}

#[derive(Debug, Clone, Copy)]
struct Sight {
    /// The hash of the fingerprint.
    print: u64,
    /// Unchanged since, in milliseconds after `Seen::begun`.
    since: u64,
    /// The look that saw it first.
    order: u32,
    /// The look that saw it last.
    look: u32,
    /// How often somebody held it open when it was to be read.
    doublings: u8,
    judged: bool,
}

impl Seen {
    /// Begins a look. `hints` are files that the kernel saw closed or moved in.
    pub fn look<'a>(
        &'a mut self,
        hints: &'a HashSet<RawPath>,
        now: Instant,
        quiet: Duration,
        entries_max: usize,
    ) -> Look<'a> {
        self.looks += 1;
        let begun = *self.begun.get_or_insert(now);
        let now_ms = millis(now.saturating_duration_since(begun));
        Look {
            seen: self,
            hints,
            now,
            now_ms,
            quiet: millis(quiet),
            entries_max,
            ready: BinaryHeap::new(),
            found: Discovery::default(),
        }
    }

    /// Forgets a file, so that the next look sees it for the first time.
    pub fn forget(&mut self, path: &RawPath) {
        let gone = self.sights.remove(&self.hasher.hash_one(path.as_bytes()));
        self.judged -= usize::from(gone.is_some_and(|it| it.judged));
    }

    /// Notes that somebody holds a file open: it is ready when the kernel says that it was closed,
    /// else after a while that doubles each time. Says how long that is.
    pub fn busy(&mut self, path: &RawPath, now: Instant, quiet: Duration) -> Duration {
        let since = millis(now.saturating_duration_since(self.begun.unwrap_or(now)));
        let Some(it) = self.sight(path) else { return quiet };
        it.since = since;
        it.doublings = (it.doublings + 1).min(DOUBLINGS_MAX);
        quiet * (1 << it.doublings)
    }

    /// Notes that a file cannot be taken out of `raw/`: it is tried again after a long while, or as
    /// soon as it changes.
    pub fn stuck(&mut self, path: &RawPath, now: Instant) {
        let since = millis(now.saturating_duration_since(self.begun.unwrap_or(now)));
        if let Some(it) = self.sight(path) {
            (it.since, it.doublings) = (since, DOUBLINGS_STUCK);
        }
    }

    /// Notes that a file was judged as it is: it is not ready again until it changes.
    pub fn judged(&mut self, path: &RawPath) {
        self.mark(path, true);
    }

    /// Makes a file ready again though it did not change: what it depends on did.
    pub fn judge_again(&mut self, path: &RawPath) {
        self.mark(path, false);
    }

    fn mark(&mut self, path: &RawPath, judged: bool) {
        let Some(it) = self.sight(path) else { return };
        let before = std::mem::replace(&mut it.judged, judged);
        self.judged = self.judged + usize::from(judged) - usize::from(before);
    }

    /// Says whether the last look saw something at `path`.
    pub fn holds(&self, path: &RawPath) -> bool {
        self.sights.contains_key(&self.hasher.hash_one(path.as_bytes()))
    }

    /// How many entries the last look saw.
    pub fn len(&self) -> usize {
        self.sights.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.sights.is_empty()
    }

    /// How many of them are not judged.
    pub fn pending(&self) -> usize {
        self.sights.len() - self.judged
    }

    /// No look was made yet.
    pub fn is_blank(&self) -> bool {
        self.looks == 0
    }

    fn sight(&mut self, path: &RawPath) -> Option<&mut Sight> {
        self.sights.get_mut(&self.hasher.hash_one(path.as_bytes()))
    }
}

/// What a look at `raw/` found.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// Files to read, those that came first in front.
    pub ready: Vec<Ready>,
    /// More are ready than were named.
    pub more: bool,
    /// Files that may still be growing.
    pub waiting: usize,
    /// When one of those may be ready.
    pub next_look: Option<Instant>,
    /// Entries that the look before saw and this one did not.
    pub gone: usize,
    /// There are more entries than one look keeps track of; the kernel's word alone makes those
    /// beyond ready.
    pub untracked: usize,
}

/// One look at `raw/`, entry by entry.
#[derive(Debug)]
pub struct Look<'a> {
    seen: &'a mut Seen,
    hints: &'a HashSet<RawPath>,
    now: Instant,
    now_ms: u64,
    quiet: u64,
    entries_max: usize,
    /// The last of the first [`READY_MAX`] on top.
    ready: BinaryHeap<InOrder>,
    found: Discovery,
}

/// A ready file in the order of coming.
#[derive(Debug)]
struct InOrder {
    known: bool,
    order: u32,
    ready: Ready,
}

impl InOrder {
    /// Drops known as rejected come last; then the look that saw it first counts, then the time its
    /// inode changed, which decides nothing but this, then the name.
    fn key(&self) -> (bool, u32, (i64, u64), &RawPath) {
        (self.known, self.order, self.ready.fingerprint.changed, &self.ready.path)
    }
}

impl PartialEq for InOrder {
    fn eq(&self, other: &InOrder) -> bool {
        self.key() == other.key()
    }
}
impl Eq for InOrder {}
impl PartialOrd for InOrder {
    fn partial_cmp(&self, other: &InOrder) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for InOrder {
    fn cmp(&self, other: &InOrder) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl Look<'_> {
    /// Takes one entry in. `known` says whether a drop of this path was rejected before: what is
    /// only looked at again must not keep out what is new.
    pub fn entry(&mut self, entry: &Entry<'_>, known: &mut dyn FnMut(&[u8]) -> bool) {
        let key = self.seen.hasher.hash_one(entry.path);
        let print = self.seen.hasher.hash_one(entry.fingerprint);
        let look = self.seen.looks;
        let fresh =
            Sight { print, since: self.now_ms, order: look, look, doublings: 0, judged: false };
        let full = self.seen.sights.len() >= self.entries_max;
        let sight = match self.seen.sights.get_mut(&key) {
            Some(old) => {
                if old.print == print {
                    old.look = look;
                } else {
                    self.seen.judged -= usize::from(old.judged);
                    *old = Sight { order: old.order, ..fresh };
                }
                *old
            }
            None => {
                if full {
                    self.found.untracked += 1;
                } else {
                    self.seen.sights.insert(key, fresh);
                }
                fresh
            }
        };
        if sight.judged {
            return;
        }
        let strange = strange(entry);
        let at = sight.since + (self.quiet << sight.doublings);
        // An empty file is often one that its writer has only just made.
        let hinted = entry.fingerprint.bytes > 0 && self.hints.contains(entry.path);
        if strange.is_some() || hinted || self.now_ms >= at {
            let (path, fingerprint) = (RawPath::new(entry.path), entry.fingerprint);
            let ready = Ready { path, fingerprint, strange };
            self.ready.push(InOrder { known: known(entry.path), order: sight.order, ready });
            if self.ready.len() > READY_MAX {
                self.ready.pop();
                self.found.more = true;
            }
        } else {
            self.found.waiting += 1;
            let at = self.now + Duration::from_millis(at - self.now_ms);
            self.found.next_look = Some(self.found.next_look.map_or(at, |it: Instant| it.min(at)));
        }
    }

    /// Ends the look.
    pub fn finish(self) -> Discovery {
        let Look { seen, ready, mut found, .. } = self;
        let before = seen.sights.len();
        let look = seen.looks;
        seen.sights.retain(|_, it| it.look == look);
        found.gone = before - seen.sights.len();
        if found.gone > 0 {
            seen.judged = seen.sights.values().filter(|it| it.judged).count();
        }
        found.ready = ready.into_sorted_vec().into_iter().map(|it| it.ready).collect();
        found
    }
}

fn millis(it: Duration) -> u64 {
    u64::try_from(it.as_millis()).unwrap_or(u64::MAX / 1024)
}

fn strange(entry: &Entry<'_>) -> Option<Problem> {
    let (message, hint) = match entry.entry_type {
        EntryType::Regular => return None,
        EntryType::Symlink => (
            "this is a symbolic link, and links in raw/ are never followed",
            "copy the file itself into raw/, and remove the link",
        ),
        EntryType::Directory => (
            "this is a directory, though it is named like a manifest",
            "rename it without the extension; files in it are then taken",
        ),
        EntryType::Special => (
            "this is no regular file but a pipe, a socket or a device",
            "remove it, and put a regular file in its place",
        ),
    };
    Some(Problem::error("not-a-file", message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(200);

    fn entry(path: &str, bytes: u64) -> Entry<'_> {
        Entry {
            path: path.as_bytes(),
            entry_type: EntryType::Regular,
            fingerprint: Fingerprint { bytes, inode: 1, modified: (0, 0), changed: (0, 0) },
        }
    }

    fn look(seen: &mut Seen, entries: &[Entry<'_>], now: Instant) -> Discovery {
        look_with(seen, entries, &[], now, 1000)
    }

    fn look_with(
        seen: &mut Seen,
        entries: &[Entry<'_>],
        hints: &[&str],
        now: Instant,
        entries_max: usize,
    ) -> Discovery {
        let hints = hints.iter().map(|it| RawPath::new(*it)).collect();
        let mut look = seen.look(&hints, now, QUIET, entries_max);
        for it in entries {
            look.entry(it, &mut |path| path.starts_with(b"rejected"));
        }
        look.finish()
    }

    fn names(found: &Discovery) -> Vec<String> {
        found.ready.iter().map(|it| it.path.to_string()).collect()
    }

    #[test]
    fn a_file_is_ready_when_it_did_not_change_over_the_quiet_period() {
        let (mut seen, start) = (Seen::default(), crate::clock::instant());
        let found = look(&mut seen, &[entry("a.yaml", 5)], start);
        assert_eq!(
            (names(&found).len(), found.waiting, found.next_look),
            (0, 1, Some(start + QUIET))
        );
        let grown = [entry("a.yaml", 9)];
        assert_eq!(look(&mut seen, &grown, start + QUIET).waiting, 1);
        assert_eq!(names(&look(&mut seen, &grown, start + QUIET * 2)), ["a.yaml"]);
    }

    #[test]
    fn a_closed_file_is_ready_at_once_unless_it_is_empty() {
        let both = [entry("a.yaml", 5), entry("empty.yaml", 0)];
        let hints = ["a.yaml", "empty.yaml"];
        let start = crate::clock::instant();
        let found = look_with(&mut Seen::default(), &both, &hints, start, 1000);
        assert_eq!((names(&found), found.waiting), (vec!["a.yaml".to_owned()], 1));
    }

    #[test]
    fn a_judged_file_is_not_looked_at_again_until_it_changes_or_its_world_does() {
        let (mut seen, start) = (Seen::default(), crate::clock::instant());
        let (one, path) = ([entry("a.yaml", 5)], RawPath::new("a.yaml"));
        look(&mut seen, &one, start);
        assert_eq!(seen.pending(), 1);
        seen.judged(&path);
        assert_eq!(seen.pending(), 0);
        let found = look(&mut seen, &one, start + QUIET);
        assert_eq!((names(&found).len(), found.waiting), (0, 0));
        seen.judge_again(&path);
        assert_eq!(names(&look(&mut seen, &one, start + QUIET)), ["a.yaml"]);
        seen.judged(&path);
        let mended = [entry("a.yaml", 6)];
        look(&mut seen, &mended, start + QUIET);
        assert_eq!(names(&look(&mut seen, &mended, start + QUIET * 2)), ["a.yaml"]);
        assert_eq!(look(&mut seen, &[], start + QUIET * 2).gone, 1);
        assert_eq!((seen.pending(), seen.holds(&path)), (0, false));
    }

    #[test]
    fn what_came_first_goes_first_and_what_was_rejected_before_goes_last() {
        let (mut seen, start) = (Seen::default(), crate::clock::instant());
        look(&mut seen, &[entry("z.yaml", 1), entry("rejected.yaml", 1)], start);
        let older = Fingerprint { changed: (-1, 0), ..entry("", 1).fingerprint };
        let all = [
            entry("rejected.yaml", 1),
            entry("a.yaml", 1),
            Entry { fingerprint: older, ..entry("b.yaml", 1) },
            entry("z.yaml", 1),
        ];
        look(&mut seen, &all, start + QUIET / 2);
        let found = look(&mut seen, &all, start + QUIET * 2);
        assert_eq!(names(&found), ["z.yaml", "b.yaml", "a.yaml", "rejected.yaml"]);
    }

    #[test]
    fn a_file_that_somebody_holds_open_is_asked_for_ever_more_seldom() {
        let (mut seen, start) = (Seen::default(), crate::clock::instant());
        let (one, path) = ([entry("a.yaml", 5)], RawPath::new("a.yaml"));
        look(&mut seen, &one, start);
        let mut now = start + QUIET;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            assert_eq!(names(&look(&mut seen, &one, now)), ["a.yaml"]);
            let pause = seen.busy(&path, now, QUIET);
            assert_eq!(look(&mut seen, &one, now + pause / 2).waiting, 1);
            pauses.push(pause / 200);
            now += pause;
        }
        assert_eq!(pauses[..3], [QUIET / 100, QUIET / 50, QUIET / 25]);
        assert_eq!(pauses[7], pauses[8], "it ends at some pause");
        seen.busy(&path, now, QUIET);
        let found = look_with(&mut seen, &one, &["a.yaml"], now, 1000);
        assert_eq!(names(&found), ["a.yaml"], "the kernel's word counts at once");
    }

    #[test]
    fn what_is_beyond_the_limit_is_taken_on_the_kernels_word_alone() {
        let (mut seen, start) = (Seen::default(), crate::clock::instant());
        let all = [entry("a.yaml", 1), entry("b.yaml", 1), entry("c.yaml", 1)];
        look_with(&mut seen, &all, &[], start, 2);
        let found = look_with(&mut seen, &all, &["c.yaml"], start, 2);
        assert_eq!((names(&found), found.untracked), (vec!["c.yaml".to_owned()], 1));
        let found = look_with(&mut seen, &all, &[], start + QUIET, 2);
        assert_eq!((names(&found).len(), found.waiting), (2, 1));
    }

    #[test]
    fn more_than_a_look_can_name_comes_in_order_too() {
        let (mut seen, start) = (Seen::default(), crate::clock::instant());
        let paths: Vec<String> = (0..READY_MAX + 5).rev().map(|n| format!("{n:07}.yaml")).collect();
        let all: Vec<Entry<'_>> = paths.iter().map(|it| entry(it, 1)).collect();
        look_with(&mut seen, &all, &[], start, usize::MAX);
        let found = look_with(&mut seen, &all, &[], start + QUIET, usize::MAX);
        assert!(found.more);
        let names = names(&found);
        assert_eq!((names[0].as_str(), names.len()), ("0000000.yaml", READY_MAX));
        assert_eq!(names[READY_MAX - 1], format!("{:07}.yaml", READY_MAX - 1));
    }

    #[test]
    fn a_symbolic_link_is_ready_to_be_told_of_until_it_was() {
        let (mut seen, start) = (Seen::default(), crate::clock::instant());
        let link = [Entry { entry_type: EntryType::Symlink, ..entry("l.yaml", 9) }];
        let found = look(&mut seen, &link, start);
        assert_eq!(found.ready[0].strange.as_ref().unwrap().rule, "not-a-file");
        seen.judged(&RawPath::new("l.yaml"));
        assert_eq!(look(&mut seen, &link, start).ready.len(), 0);
    }
}
