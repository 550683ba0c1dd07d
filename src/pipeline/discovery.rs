//! The first stage: of what lies in `raw/`, which files are ready to be read.
//!
//! Ready is what its writer closed or moved in, or what did not change over the quiet period.
//! Sizes, inodes and times only tell whether a file changed between two looks; none is ever
//! compared with the clock, which may jump.

use crate::model::path::RawPath;
use crate::model::problem::Problem;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where, relative to `raw/`.
    pub path: RawPath,
    /// What it is.
    pub entry_type: EntryType,
    /// What tells whether it changed.
    pub fingerprint: Fingerprint,
}

/// What lies in `raw/`, sorted by path.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Directories that we may not look into.
    pub unreadable: Vec<RawPath>,
    /// There is more than one listing may hold.
    pub truncated: bool,
}

/// What earlier looks saw; holds exactly the entries of the last listing.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    entries: HashMap<RawPath, Sight>,
    turn: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sight {
    fingerprint: Fingerprint,
    since: Instant,
    order: u64,
    judged: bool,
}

impl Seen {
    /// Forgets a file, so that the next look sees it for the first time.
    pub fn forget(&mut self, path: &RawPath) {
        self.entries.remove(path);
    }

    /// Notes that a file was judged as it is: it is not ready again until it changes.
    pub fn judged(&mut self, path: &RawPath) {
        if let Some(it) = self.entries.get_mut(path) {
            it.judged = true;
        }
    }
}

/// What a look at `raw/` found.
#[derive(Debug, Clone, Default)]
pub struct Discovery {
    /// Files to read, those that came first in front.
    pub ready: Vec<RawPath>,
    /// Files that may still be growing.
    pub waiting: usize,
    /// When one of those may be ready.
    pub next_look: Option<Instant>,
    /// What is no drop and never will be, though it is named like one; told once.
    pub strange: Vec<(RawPath, Problem)>,
}

/// Says what is ready. `hints` are files that the kernel saw closed or moved in.
pub fn discover(
    listing: &Listing,
    seen: &mut Seen,
    hints: &HashSet<RawPath>,
    now: Instant,
    quiet: Duration,
) -> Discovery {
    let mut found = Discovery::default();
    let mut ready: Vec<(u64, RawPath)> = Vec::new();
    let mut before = std::mem::take(&mut seen.entries);
    seen.turn += 1;
    for entry in &listing.entries {
        let fresh =
            Sight { fingerprint: entry.fingerprint, since: now, order: seen.turn, judged: false };
        let mut sight = match before.remove(&entry.path) {
            Some(old) if old.fingerprint == entry.fingerprint => old,
            Some(old) => Sight { order: old.order, ..fresh },
            None => fresh,
        };
        if !sight.judged {
            match strange(entry) {
                Some(problem) => {
                    sight.judged = true;
                    found.strange.push((entry.path.clone(), problem));
                }
                None if is_ready(entry, &sight, hints, now, quiet) => {
                    ready.push((sight.order, entry.path.clone()));
                }
                None => {
                    found.waiting += 1;
                    let at = sight.since + quiet;
                    found.next_look = Some(found.next_look.map_or(at, |it: Instant| it.min(at)));
                }
            }
        }
        seen.entries.insert(entry.path.clone(), sight);
    }
    ready.sort();
    found.ready = ready.into_iter().map(|(_, path)| path).collect();
    found
}

fn is_ready(
    entry: &Entry,
    sight: &Sight,
    hints: &HashSet<RawPath>,
    now: Instant,
    quiet: Duration,
) -> bool {
    // An empty file is often one that its writer has only just made.
    let hinted = entry.fingerprint.bytes > 0 && hints.contains(&entry.path);
    hinted || now.saturating_duration_since(sight.since) >= quiet
}

fn strange(entry: &Entry) -> Option<Problem> {
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

    fn entry(path: &str, bytes: u64) -> Entry {
        Entry {
            path: RawPath::new(path),
            entry_type: EntryType::Regular,
            fingerprint: Fingerprint { bytes, inode: 1, modified: (0, 0), changed: (0, 0) },
        }
    }

    fn listing(entries: &[Entry]) -> Listing {
        Listing { entries: entries.to_vec(), ..Listing::default() }
    }

    fn names(found: &Discovery) -> Vec<String> {
        found.ready.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_file_is_ready_when_it_did_not_change_over_the_quiet_period() {
        let (mut seen, none, start) = (Seen::default(), HashSet::new(), crate::clock::instant());
        let one = listing(&[entry("a.yaml", 5)]);
        let found = discover(&one, &mut seen, &none, start, QUIET);
        assert_eq!(
            (names(&found).len(), found.waiting, found.next_look),
            (0, 1, Some(start + QUIET))
        );
        let grown = listing(&[entry("a.yaml", 9)]);
        assert_eq!(discover(&grown, &mut seen, &none, start + QUIET, QUIET).waiting, 1);
        let found = discover(&grown, &mut seen, &none, start + QUIET * 2, QUIET);
        assert_eq!(names(&found), ["a.yaml"]);
    }

    #[test]
    fn a_closed_file_is_ready_at_once_unless_it_is_empty() {
        let start = crate::clock::instant();
        let hints = HashSet::from([RawPath::new("a.yaml"), RawPath::new("empty.yaml")]);
        let both = listing(&[entry("a.yaml", 5), entry("empty.yaml", 0)]);
        let found = discover(&both, &mut Seen::default(), &hints, start, QUIET);
        assert_eq!((names(&found), found.waiting), (vec!["a.yaml".to_owned()], 1));
    }

    #[test]
    fn a_judged_file_is_not_looked_at_again_until_it_changes() {
        let (mut seen, none, start) = (Seen::default(), HashSet::new(), crate::clock::instant());
        let one = listing(&[entry("a.yaml", 5)]);
        discover(&one, &mut seen, &none, start, QUIET);
        seen.judged(&RawPath::new("a.yaml"));
        let found = discover(&one, &mut seen, &none, start + QUIET, QUIET);
        assert_eq!((names(&found).len(), found.waiting), (0, 0));
        let mended = listing(&[entry("a.yaml", 6)]);
        discover(&mended, &mut seen, &none, start + QUIET, QUIET);
        let found = discover(&mended, &mut seen, &none, start + QUIET * 2, QUIET);
        assert_eq!(names(&found), ["a.yaml"]);
    }

    #[test]
    fn what_came_first_goes_first() {
        let (mut seen, none, start) = (Seen::default(), HashSet::new(), crate::clock::instant());
        discover(&listing(&[entry("z.yaml", 1)]), &mut seen, &none, start, QUIET);
        let both = listing(&[entry("a.yaml", 1), entry("z.yaml", 1)]);
        discover(&both, &mut seen, &none, start + QUIET / 2, QUIET);
        let found = discover(&both, &mut seen, &none, start + QUIET * 2, QUIET);
        assert_eq!(names(&found), ["z.yaml", "a.yaml"]);
    }

    #[test]
    fn a_symbolic_link_is_told_once() {
        let (mut seen, none, start) = (Seen::default(), HashSet::new(), crate::clock::instant());
        let link = Entry { entry_type: EntryType::Symlink, ..entry("l.yaml", 9) };
        let link = listing(&[link]);
        assert_eq!(discover(&link, &mut seen, &none, start, QUIET).strange.len(), 1);
        assert_eq!(discover(&link, &mut seen, &none, start, QUIET).strange.len(), 0);
    }
}
