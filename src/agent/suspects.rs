//! A drop that ends the process while it is judged is set aside by name, and the agent goes on.
//!
//! A panic is caught where it happens (`turn.rs`); a process whose memory was taken, or that
//! aborted, can only be judged by the next one. So the name of each drop is noted before it is read
//! and judged, in a file that outlives the process. It need not outlive the power and is not synced.
//! Many drops are judged on all cores, where no one name can be noted: it is noted that there were many,
//! and a start that finds that judges one by one, so that the next death has a name.
//! A start that finds a name there counts a death for it; from [`DEATHS_MAX`] on the drop is refused
//! unread, until it changes or somebody asks for it to be judged again.

use super::lane::Lane;
use crate::config::StateDir;
use crate::model::document::Intake;
use crate::model::fabric::FabricName;
use crate::model::path::RawPath;
use crate::model::problem::Problem;
use crate::pipeline::discovery::{Fingerprint, Ready};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// So many processes may end while they judge one drop.
const DEATHS_MAX: u32 = 2;
/// So many drops are suspected at a time; the oldest suspicion gives way.
const SUSPECTS_MAX: usize = 1_000;
/// The length of a note; a longer name is not noted.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// What may end the process.
#[derive(Debug)]
pub struct Suspects {
    /// The drop under judgement; none where no note can be written.
    note: Option<File>,
    noted: Cell<bool>,
    /// Where suspicions are kept.
    path: PathBuf,
    known: Vec<Suspect>,
    /// The last process ended while it judged, many or one.
    one_by_one: bool,
}

/// What is noted where many are judged.
const MANY: &[u8] = b"many\n";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Suspect {
    fabric: FabricName,
    path: RawPath,
    /// Processes that ended while they judged it.
    #[serde(default)]
    deaths: u32,
    /// As it was when it was last judged; none until it is seen again.
    #[serde(default)]
    fingerprint: Option<Fingerprint>,
}

#[derive(Serialize)]
struct Name<'a> {
    fabric: &'a FabricName,
    path: &'a RawPath,
}

impl Suspects {
    /// Reads what earlier processes left. Whatever is wrong with that only costs the suspicion.
    pub(super) fn open(state: &StateDir) -> Suspects {
        let path = state.suspects();
        let known = std::fs::read(&path).ok().and_then(|it| serde_json::from_slice(&it).ok());
        let mut options = File::options();
        let note = options.read(true).write(true).create(true).truncate(false);
        let note = note.open(state.judging()).map_err(|error| {
            tracing::warn!(%error, "cannot note which drop is judged; one that ends the agent is not found out");
        });
        let mut suspects = Suspects {
            note: note.ok(),
            noted: Cell::new(true),
            path,
            known: known.unwrap_or_default(),
            one_by_one: false,
        };
        suspects.one_by_one = suspects.noted_line().is_some_and(|it| it == MANY);
        if let Some(left) = suspects.left() {
            suspects.one_by_one = true;
            suspects.count_death(left);
        }
        suspects.judged_all();
        suspects
    }

    /// The drop that the last process was judging when it ended.
    fn left(&self) -> Option<Suspect> {
        serde_json::from_slice(&self.noted_line()?).ok()
    }

    /// What was noted, with the end of its line.
    fn noted_line(&self) -> Option<Vec<u8>> {
        let note = self.note.as_ref()?;
        let len = note.metadata().ok()?.len().min(NOTE_BYTES_MAX);
        let mut bytes = vec![0; usize::try_from(len).ok()?];
        note.read_exact_at(&mut bytes, 0).ok()?;
        // What follows the line is of an older, longer note.
        let end = bytes.iter().position(|it| *it == b'\n')?;
        bytes.truncate(end + 1);
        Some(bytes)
    }

    fn count_death(&mut self, left: Suspect) {
        let found =
            self.known.iter().position(|it| it.fabric == left.fabric && it.path == left.path);
        let mut suspect = found.map_or(left, |at| self.known.remove(at));
        suspect.deaths += 1;
        let (path, deaths) = (&suspect.path, suspect.deaths);
        tracing::warn!(%path, deaths, "the last agent ended while it judged this drop");
        self.known.push(suspect);
        if self.known.len() > SUSPECTS_MAX {
            self.known.remove(0);
        }
        self.save();
    }

    /// Notes which drop is read or judged from here on.
    pub(super) fn judging(&self, fabric: &FabricName, path: &RawPath) {
        let mut line = serde_json::to_vec(&Name { fabric, path }).unwrap_or_default();
        line.push(b'\n');
        self.write(&line);
        self.noted.set(true);
    }

    /// Notes that many are judged from here on.
    pub(super) fn judging_many(&self) {
        self.write(MANY);
        self.noted.set(true);
    }

    /// Many must be judged one by one, since one of them may have ended the last process.
    pub(super) fn one_by_one(&self) -> bool {
        self.one_by_one
    }

    /// Nothing is judged any more.
    pub(super) fn judged_all(&self) {
        if self.noted.replace(false) {
            self.write(b"\n");
        }
    }

    fn write(&self, line: &[u8]) {
        if let Some(Err(error)) = self.note.as_ref().map(|it| it.write_all_at(line, 0)) {
            tracing::debug!(%error, "cannot note which drop is judged");
        }
    }

    /// Why a drop is not to be read, if too many processes ended over it as it is.
    pub(super) fn refused(&mut self, fabric: &FabricName, it: &Ready) -> Option<Problem> {
        let at =
            self.known.iter().position(|known| known.fabric == *fabric && known.path == it.path)?;
        let known = &mut self.known[at];
        match known.fingerprint {
            Some(old) if old == it.fingerprint => (),
            None => {
                known.fingerprint = Some(it.fingerprint);
                self.save();
            }
            Some(_) => {
                // It is another file by now.
                self.known.remove(at);
                self.save();
                return None;
            }
        }
        let deaths = self.known[at].deaths;
        (deaths >= DEATHS_MAX).then(|| {
            let message = format!("{deaths} processes ended while they judged this file, so it is not read any more");
            Problem::error("ends-the-agent", message).hint(
                "report it with the file; make it smaller or plainer, or give the agent more memory and \
                 have it judged again: git-intake retry NAME",
            )
        })
    }

    /// The names of those that may be suspects; none where nothing is suspected.
    pub(super) fn among(&self, intakes: &[Intake]) -> Vec<RawPath> {
        match self.known.is_empty() {
            true => Vec::new(),
            false => intakes.iter().map(|it| it.path.clone()).collect(),
        }
    }

    /// Forgets those of a fabric that `is_over`.
    pub(super) fn forget(&mut self, fabric: &FabricName, is_over: impl Fn(&RawPath, bool) -> bool) {
        let before = self.known.len();
        self.known.retain(|it| it.fabric != *fabric || !is_over(&it.path, it.deaths >= DEATHS_MAX));
        if self.known.len() != before {
            self.save();
        }
    }

    /// What cannot be kept is counted anew by the next process.
    fn save(&self) {
        let saved = || -> io::Result<()> {
            // What a kill leaves of it is written over by the next.
            let half = self.path.with_extension("half");
            File::create(&half)?.write_all(&serde_json::to_vec(&self.known)?)?;
            rename(&half, &self.path)
        };
        if let Err(error) = saved() {
            tracing::warn!(%error, "cannot keep which drops are under suspicion");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a note of ours, which nothing rests on")]
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::rename(from, to)
}

impl Lane {
    /// Suspicions of drops that are gone, or that were judged without harm, are over.
    pub(super) fn clear_suspicions(&mut self, n: usize, judged: &[RawPath]) {
        let Lane { suspects, fabrics, .. } = self;
        let inbox = &fabrics[n].inbox;
        suspects.forget(&fabrics[n].fabric.name, |path, aside| {
            !inbox.seen.holds(path) || (!aside && judged.contains(path))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(path: &str, bytes: u64) -> Ready {
        let fingerprint = Fingerprint { bytes, inode: 1, modified: (0, 0), changed: (0, 0) };
        Ready { path: RawPath::new(path), fingerprint, strange: None }
    }

    /// A process that ends while it judges `it`.
    fn die(state: &StateDir, fabric: &FabricName, it: &Ready) {
        let mut suspects = Suspects::open(state);
        assert_eq!(suspects.refused(fabric, it), None);
        suspects.judging(fabric, &RawPath::new("a/longer/name/that/was/judged/before.yaml"));
        suspects.judging(fabric, &it.path);
    }

    #[test]
    fn two_deaths_over_one_drop_set_it_aside_until_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path(), dir.path(), None);
        state.create(dir.path()).unwrap();
        let fabric = FabricName::parse("fabric-1").unwrap();
        let (it, other) = (ready("it.yaml", 1), ready("other.yaml", 1));
        die(&state, &fabric, &it);
        die(&state, &fabric, &it);
        let mut suspects = Suspects::open(&state);
        let why = suspects.refused(&fabric, &it).unwrap();
        assert!(why.message.starts_with("2 processes ended"), "{}", why.message);
        assert_eq!(suspects.refused(&fabric, &other), None);
        assert_eq!(Suspects::open(&state).refused(&fabric, &it), Some(why), "it is remembered");
        assert_eq!(suspects.refused(&fabric, &ready("it.yaml", 2)), None, "it is another file");
        assert_eq!(Suspects::open(&state).refused(&fabric, &it), None);
    }

    #[test]
    fn a_death_among_many_has_the_next_process_judge_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path(), dir.path(), None);
        state.create(dir.path()).unwrap();
        let suspects = Suspects::open(&state);
        assert!(!suspects.one_by_one());
        suspects.judging_many();
        drop(suspects);
        let suspects = Suspects::open(&state);
        assert!(suspects.one_by_one() && suspects.known.is_empty());
        suspects.judging_many();
        suspects.judged_all();
        drop(suspects);
        assert!(!Suspects::open(&state).one_by_one(), "they were judged to the end");
    }

    #[test]
    fn who_was_judged_to_the_end_is_no_suspect() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::of(dir.path(), dir.path(), None);
        state.create(dir.path()).unwrap();
        let fabric = FabricName::parse("fabric-1").unwrap();
        let suspects = Suspects::open(&state);
        suspects.judging(&fabric, &RawPath::new("it.yaml"));
        suspects.judged_all();
        drop(suspects);
        assert_eq!(Suspects::open(&state).known, vec![]);
    }
}
