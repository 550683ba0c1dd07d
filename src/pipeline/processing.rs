//! The fourth stage: judged documents meet what git holds, and become changes.
//!
//! A drop goes through as a whole or stays as a whole, unless its fabric takes drops in parts.
//! Nothing is decided by the order in which drops came: two that disagree about one resource both
//! stay, and each names the other.

use super::parting::{self, Parting};
use super::tracked::{drop_place, leftover_paths};
use crate::model::digest::Xxh3;
use crate::model::document::{Classified, Document, Faults, Intake, Judged, Rejected, Verdict};
use crate::model::fabric::Fabric;
use crate::model::ids::BlobId;
use crate::model::key::Key;
use crate::model::path::{PathError, RawPath, RepoPath};
use crate::model::plan::{Change, Disposal, Fate, Recorded};
use crate::model::problem::{Problem, Severity};
use crate::model::record::ConflictKind;
use crate::model::report::{Action, Ending, Filed};
use crate::model::rules::Direction;
use crate::yaml::Limits;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Rules of drops whose bytes were never read.
const UNREAD: [&str; 4] = ["too-large", "not-readable", "not-a-file", "ends-the-agent"];

/// What becomes of a drop that cannot be filed as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnInvalid {
    /// It stays in `raw/` with a report beside it.
    Keep,
    /// It moves to `raw/errors/` with its report.
    Quarantine,
    /// It moves to `unmanaged/` with its report.
    Unmanaged,
}

/// What becomes of a drop whose every document is of a kind that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnsupported {
    /// It moves to `unmanaged/`, byte for byte.
    Unmanaged,
    /// It stays in `raw/` with a report beside it.
    Keep,
}

/// The choices that an operator makes for a fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strategies {
    /// For drops with a mistake.
    pub on_invalid: OnInvalid,
    /// For drops of foreign kinds.
    pub on_unsupported: OnUnsupported,
    /// The good documents of a drop with a mistake go through, and it is taken apart under these
    /// limits.
    pub partial: Option<Limits>,
}

/// What the work tree holds at a path, compared with HEAD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InWorkTree {
    /// The same as HEAD (or nothing in both).
    AsHead,
    /// Something else, which nobody has committed yet.
    Edited(Arc<[u8]>),
    /// Nothing, though HEAD has a file.
    Missing,
}

/// One file as git and the work tree hold it before the turn.
#[derive(Debug, Clone)]
pub struct Held {
    /// What HEAD holds: its id and content.
    pub head: Option<(BlobId, Arc<[u8]>)>,
    /// What the work tree holds.
    pub work: InWorkTree,
}

/// What the turn looked up for this stage.
#[derive(Debug, Clone, Default)]
pub struct Holdings {
    /// Where a resource has its file already.
    pub places: HashMap<Key, RepoPath>,
    /// Which resource a file holds already.
    pub occupants: HashMap<RepoPath, Key>,
    /// Every path of [`wanted`], looked up.
    pub files: HashMap<RepoPath, Held>,
    /// Resources that drops may not change, and why.
    pub closed: HashMap<Key, Direction>,
    /// What HEAD has of the drops, because they came by git.
    pub tracked: super::tracked::Tracked,
}

/// A drop that is kept back because it meets another content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Met {
    /// Which resource.
    pub key: Key,
    /// Its file.
    pub path: RepoPath,
    /// The drop that stays.
    pub drop: RawPath,
    /// What meets.
    pub kind: ConflictKind,
    /// In words.
    pub message: String,
}

/// Every drop with its fate, and the changes that follow. Only processing makes one.
#[derive(Debug, Clone, Default)]
pub struct Processed {
    pub(super) changes: BTreeMap<Vec<u8>, Change>,
    pub(super) disposals: Vec<Disposal>,
    pub(super) recorded: Vec<Recorded>,
    /// What meets another content; the drops concerned stay.
    pub conflicts: Vec<Met>,
}

/// Lists the paths that [`process`] may ask for, so that the turn can look them up first.
pub fn wanted(
    classified: &[Classified],
    rejected: &[Rejected],
    fabric: &Fabric,
    strategies: Strategies,
    places: &HashMap<Key, RepoPath>,
) -> Vec<RepoPath> {
    // Any drop may turn out to be one that is refused: a rival to another, say.
    let refused = strategies.on_invalid == OnInvalid::Unmanaged;
    let mut paths = Vec::new();
    for it in classified {
        let mut leaves = refused;
        for judged in &it.judged {
            match &judged.verdict {
                Verdict::Managed { target } => {
                    paths.push(place(places, &judged.document.key, target));
                }
                Verdict::Unmanaged { .. } => leaves = true,
                Verdict::Rejected { .. } => (),
            }
        }
        if leaves {
            paths.extend(leftover_paths(fabric, &it.intake).into_iter().flatten());
        }
    }
    for it in rejected.iter().filter(|_| refused) {
        paths.extend(leftover_paths(fabric, &it.intake).into_iter().flatten());
    }
    paths.sort();
    paths.dedup();
    paths
}

/// Decides for every drop, and lists the changes of those that go through.
pub fn process(
    classified: Vec<Classified>,
    rejected: Vec<Rejected>,
    holdings: &Holdings,
    fabric: &Fabric,
    strategies: Strategies,
) -> Processed {
    let recorded_at = HashMap::new();
    let mut stage = Stage { holdings, fabric, strategies, done: Processed::default(), recorded_at };
    for it in rejected {
        stage.refuse(it.intake, it.problems);
    }
    let mut candidates = Vec::new();
    for it in classified {
        candidates.extend(stage.judge(it));
    }
    let candidates = stage.part_rivals(candidates);
    for it in candidates {
        stage.file(it);
    }
    stage.done.disposals.sort_by(|a, b| a.intake.path.cmp(&b.intake.path));
    stage.done
}

/// A drop whose documents all have a place, as far as it alone can tell.
struct Candidate {
    intake: Intake,
    documents: Vec<(Document, RepoPath)>,
    notes: Vec<Problem>,
    /// What stays behind, and the file that it stays in.
    faults: Faults,
    rest: Option<Arc<[u8]>>,
}

struct Stage<'a> {
    holdings: &'a Holdings,
    fabric: &'a Fabric,
    strategies: Strategies,
    done: Processed,
    /// Where in `done.recorded` the record of a path stands.
    recorded_at: HashMap<RepoPath, usize>,
}

impl Stage<'_> {
    /// Looks at one drop alone: it is refused, goes to `unmanaged/`, or is a candidate.
    fn judge(&mut self, it: Classified) -> Option<Candidate> {
        let Faults { mut problems, mut stays } = it.faults;
        let mut foreign = Vec::new();
        let mut documents = Vec::new();
        for Judged { document, verdict } in it.judged {
            match verdict {
                Verdict::Rejected { why } => {
                    stays.insert(document.index);
                    problems.push(why);
                }
                Verdict::Unmanaged { why } => foreign.push((document.index, why)),
                Verdict::Managed { target } => {
                    let path = place(&self.holdings.places, &document.key, &target);
                    match self.in_the_way(&it.intake.path, &document, &path) {
                        Some(problem) => {
                            stays.insert(document.index);
                            problems.push(problem);
                        }
                        None => documents.push((document, path)),
                    }
                }
            }
        }
        if problems.is_empty() && !foreign.is_empty() && documents.is_empty() {
            self.set_aside(it.intake, foreign.into_iter().map(|it| it.1).collect());
            return None;
        }
        let hint = match self.strategies.partial {
            // All or nothing: filing half of a drop would leave a person to find out which half.
            None => "a file goes through as a whole: move this document to a file of its own",
            Some(_) => "it stays behind and is judged by itself, as a file of foreign kinds",
        };
        for (index, why) in foreign {
            stays.insert(index);
            problems.push(Problem { severity: Severity::Error, ..why }.hint(hint));
        }
        let faults = Faults { problems, stays };
        let (intake, notes) = (it.intake, it.warnings);
        let candidate = Candidate { intake, documents, notes, faults, rest: None };
        if candidate.faults.problems.is_empty() {
            return Some(candidate);
        }
        self.take_apart(candidate)
    }

    /// A drop with faults is taken apart, if that is wanted and can be done; else it is refused.
    fn take_apart(&mut self, mut it: Candidate) -> Option<Candidate> {
        if let Some(Parting { stays, rest }) = self.part(&it.intake, &it.faults.stays) {
            it.documents.retain(|(document, _)| !stays.contains(&document.index));
            it.faults.stays = stays;
            it.rest = Some(rest.into());
            if !it.documents.is_empty() {
                return Some(it);
            }
        }
        let mut problems = it.faults.problems;
        problems.extend(it.notes);
        self.refuse(it.intake, problems);
        None
    }

    fn part(&self, intake: &Intake, bad: &BTreeSet<u32>) -> Option<Parting> {
        let limits = self.strategies.partial?;
        // What came by git is changed by git, so its name must be one that we may write.
        let tracked = self.holdings.tracked.drops.contains_key(&intake.path);
        if tracked && drop_place(self.fabric, &intake.path).is_none() {
            return None;
        }
        parting::part(&intake.bytes, bad, limits)
    }

    /// Says what keeps `document` from its file, if anything does.
    fn in_the_way(
        &mut self,
        drop: &RawPath,
        document: &Document,
        path: &RepoPath,
    ) -> Option<Problem> {
        let place = |problem: Problem| problem.in_document(document.index).at(document.line, 1);
        if let Some(other) = self.holdings.occupants.get(path).filter(|it| **it != document.key) {
            let message = format!("{path} already holds {other}, so {} has no place", document.key);
            let hint =
                format!("move {other} to its own file, commit that, and save this file again");
            return Some(place(Problem::error("path-taken", message).hint(hint)));
        }
        let held = self.holdings.files.get(path)?;
        let same = |it: &(BlobId, Arc<[u8]>)| *it.1 == *document.text.as_bytes();
        if let Some(direction) = self.holdings.closed.get(&document.key)
            && !held.head.as_ref().is_some_and(same)
        {
            let message =
                format!("{} is changed in git only (its direction is {direction})", document.key);
            let hint = format!("edit {path} and commit that, or change the rule in the settings");
            return Some(place(Problem::error("changed-in-git-only", message).hint(hint)));
        }
        let edited = match &held.work {
            InWorkTree::Edited(bytes) => bytes,
            InWorkTree::AsHead | InWorkTree::Missing => return None,
        };
        if **edited == *document.text.as_bytes() {
            return None;
        }
        let message = format!("{path} has changes in the work tree that nobody has committed");
        self.done.conflicts.push(Met {
            key: document.key.clone(),
            path: path.clone(),
            drop: drop.clone(),
            kind: ConflictKind::ConcurrentModification,
            message: message.clone(),
        });
        let hint = format!("commit or undo the edit of {path}; this file is then taken by itself");
        Some(place(Problem::error("managed-edited", message).hint(hint)))
    }

    /// Drops that give one resource different contents all stay, naming each other.
    fn part_rivals(&mut self, candidates: Vec<Candidate>) -> Vec<Candidate> {
        // By key: every (candidate, document, content) that claims it.
        let mut claims: BTreeMap<&Key, Vec<(usize, u32, u32, Xxh3)>> = BTreeMap::new();
        for (n, it) in candidates.iter().enumerate() {
            for (document, _) in &it.documents {
                let claim = (n, document.index, document.line, document.content);
                claims.entry(&document.key).or_default().push(claim);
            }
        }
        let mut against: BTreeMap<usize, Vec<Problem>> = BTreeMap::new();
        for (key, claims) in &claims {
            let first = claims[0].3;
            if claims.iter().all(|it| it.3 == first) {
                continue;
            }
            for (n, index, line, content) in claims {
                let rivals = claims.iter().filter(|it| it.3 != *content);
                // By name: the order in which they are found would make a report news each time.
                let rivals: BTreeSet<_> =
                    rivals.map(|it| (&candidates[it.0].intake.path, it.2)).collect();
                let rivals: Vec<String> =
                    rivals.iter().take(5).map(|(path, line)| format!("{path}:{line}")).collect();
                let message = format!("{key} says something else in {}", rivals.join(", "));
                let hint = "keep one of them and remove the other; neither is taken until then";
                let problem = Problem::error("rival-drops", message).hint(hint);
                let problem = problem.in_document(*index).at(*line, 1);
                against.entry(*n).or_default().push(problem);
            }
        }
        let mut kept = Vec::new();
        for (n, mut it) in candidates.into_iter().enumerate() {
            let Some(problems) = against.remove(&n) else {
                kept.push(it);
                continue;
            };
            it.faults.stays.extend(problems.iter().filter_map(|it| it.document));
            it.faults.problems.extend(problems);
            kept.extend(self.take_apart(it));
        }
        kept
    }

    /// The drop goes through: each document gets its file.
    fn file(&mut self, it: Candidate) {
        let Candidate { intake, documents, notes, faults, rest } = it;
        let mut filed = Vec::new();
        for (document, path) in documents {
            // A file that is filed as it came is held once.
            let bytes = match document.text.as_bytes() == &*intake.bytes {
                true => intake.bytes.clone(),
                false => Arc::from(document.text.as_bytes()),
            };
            let action = self.write(&path, bytes);
            filed.push(Filed::of(&document, &path, action));
            let source = intake.path.clone();
            let new = Recorded { document, path, source, drop_id: intake.drop_id };
            // The record follows the file: what was written counts, not a drop that found its own
            // content there before another one changed it.
            match self.recorded_at.get(&new.path) {
                Some(_) if action == Action::Unchanged => (),
                Some(at) => self.done.recorded[*at] = new,
                None => {
                    self.recorded_at.insert(new.path.clone(), self.done.recorded.len());
                    self.done.recorded.push(new);
                }
            }
        }
        if let Some(rest) = rest {
            let mut problems = faults.problems;
            problems.extend(notes);
            let fate = Fate::Parted { filed, rest, problems };
            self.done.disposals.push(Disposal { intake, fate });
            return;
        }
        let ending = if filed.is_empty() { Ending::NoDocuments } else { Ending::Managed };
        self.leave(intake, Fate::Leaves { ending, filed, notes });
    }

    /// The drop is of foreign kinds only.
    fn set_aside(&mut self, intake: Intake, foreign: Vec<Problem>) {
        match self.strategies.on_unsupported {
            OnUnsupported::Keep => self.stay(intake, foreign),
            OnUnsupported::Unmanaged => match self.move_to_unmanaged(&intake) {
                Ok(_) => {
                    let fate =
                        Fate::Leaves { ending: Ending::Unmanaged, filed: vec![], notes: foreign };
                    self.leave(intake, fate);
                }
                Err(why) => self.stay(intake, vec![no_place(&why)]),
            },
        }
    }

    /// The drop has a mistake.
    fn refuse(&mut self, intake: Intake, problems: Vec<Problem>) {
        // What was not read cannot be moved elsewhere: there is nothing in our hands.
        let unread = problems.iter().any(|it| UNREAD.contains(&it.rule.as_str()));
        match self.strategies.on_invalid {
            _ if unread => self.stay(intake, problems),
            OnInvalid::Keep => self.stay(intake, problems),
            OnInvalid::Quarantine => self.leave(intake, Fate::Quarantined { problems }),
            OnInvalid::Unmanaged => match self.move_to_unmanaged(&intake) {
                Ok(path) => {
                    let text = super::explain::report(&intake.path, &problems);
                    match path.with_suffix(super::REPORT_SUFFIX) {
                        Ok(path) => {
                            self.write(&path, Arc::from(text.into_bytes()));
                            let fate = Fate::Leaves {
                                ending: Ending::Rejected,
                                filed: vec![],
                                notes: problems,
                            };
                            self.leave(intake, fate);
                        }
                        Err(why) => self.stay(intake, vec![no_place(&why)]),
                    }
                }
                Err(why) => self.stay(intake, vec![no_place(&why)]),
            },
        }
    }

    fn stay(&mut self, intake: Intake, problems: Vec<Problem>) {
        let fate = Fate::Stays { problems };
        self.done.disposals.push(Disposal { intake, fate });
    }

    fn leave(&mut self, intake: Intake, fate: Fate) {
        if let Some(was) = self.holdings.tracked.drops.get(&intake.path) {
            let path = intake.path.in_repository(&self.fabric.raw());
            let change = Change::Remove { path: path.clone(), was: *was };
            self.done.changes.insert(path.into(), change);
        }
        self.done.disposals.push(Disposal { intake, fate });
    }

    /// Notes the write of one file, unless it is there already.
    fn write(&mut self, path: &RepoPath, bytes: Arc<[u8]>) -> Action {
        let held = self.holdings.files.get(path);
        let head = held.and_then(|it| it.head.as_ref());
        let in_place = held.is_some_and(|it| it.work == InWorkTree::AsHead);
        let action = match head {
            None => Action::Created,
            Some((_, old)) if **old == *bytes => Action::Unchanged,
            Some(_) => Action::Updated,
        };
        if action != Action::Unchanged || !in_place {
            let was = head.map(|(id, _)| *id);
            let change = Change::Write { path: path.clone(), bytes, was };
            self.done.changes.insert(path.as_str().into(), change);
        }
        action
    }

    fn move_to_unmanaged(&mut self, intake: &Intake) -> Result<RepoPath, PathError> {
        let [plain, numbered] = leftover_paths(self.fabric, intake);
        let (plain, numbered) = (plain?, numbered?);
        let planned = self.done.changes.contains_key(plain.as_str().as_bytes());
        let free = match self.holdings.files.get(&plain) {
            None => !planned,
            Some(held) => match (&held.head, &held.work) {
                (Some((_, bytes)), InWorkTree::AsHead) => **bytes == *intake.bytes,
                (None, InWorkTree::AsHead) => !planned,
                // What an earlier try left there, for which no commit was made.
                (None, InWorkTree::Edited(there)) => !planned && **there == *intake.bytes,
                (Some(_), InWorkTree::Edited(_)) | (_, InWorkTree::Missing) => false,
            },
        };
        let path = if free { plain } else { numbered };
        self.write(&path, intake.bytes.clone());
        Ok(path)
    }
}

/// The file of a resource: where it lives already, else where it belongs.
fn place(places: &HashMap<Key, RepoPath>, key: &Key, target: &RepoPath) -> RepoPath {
    places.get(key).unwrap_or(target).clone()
}

fn no_place(why: &PathError) -> Problem {
    Problem::error("no-place", why.to_string())
        .hint("give the file a shorter name of plain letters")
}
