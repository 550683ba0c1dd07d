//! What the agent keeps for one repository: its hands, its memory, its fabrics.

use super::{Error, recovery, structure, sync};
use crate::catalog::Catalog;
use crate::clock;
use crate::config::{RepositorySettings, Settings, StateDir};
use crate::git::{Remote, Repo};
use crate::model::document::{Intake, Rejected};
use crate::model::fabric::{Author, Fabric};
use crate::model::ids::CommitId;
use crate::model::operation::State;
use crate::model::path::RawPath;
use crate::pipeline::archive::ArchiveStrategy;
use crate::pipeline::discovery::{self, Discovery, Seen};
use crate::pipeline::processing::Strategies;
use crate::pipeline::validation::Rules;
use crate::step::Steps;
use crate::store::{Freshness, Settlement, Store};
use crate::worktree::{ListLimits, ReadRaw, WorkTree};
use crate::yaml::Limits;
use std::collections::HashSet;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The rule of a drop that came back because others pushed something else for its resource.
pub(super) const MERGE_CONFLICT: &str = "merge-conflict";
/// How often a lock that another process holds is asked for, and how long between.
const LOCK_TRIES: u32 = 60;
const LOCK_PAUSE: Duration = Duration::from_millis(50);
/// Rules that depend on more than the file: such a drop is judged anew at each look.
const OF_THE_WORLD: [&str; 3] = ["managed-edited", "path-taken", "rival-drops"];

/// What one lane needs of the settings.
#[derive(Debug, Clone)]
pub struct LaneSettings {
    /// A file that did not change for this long is complete.
    pub quiet: Duration,
    /// Everything is looked at again this often.
    pub rescan: Duration,
    /// How much one file may hold.
    pub limits: Limits,
    /// The size of one drop, in bytes.
    pub bytes_max: u64,
    /// Files of one turn.
    pub files_per_turn_max: usize,
    /// Entries of one listing.
    pub list: ListLimits,
    /// Whose commits these are.
    pub author: Author,
    /// The only branch to work on; none is the one HEAD is on.
    pub branch: Option<String>,
    /// Where commits go; none keeps them here.
    pub remote: Option<Remote>,
    /// How often to ask what others pushed.
    pub fetch_every: Option<Duration>,
    /// Between attempts to reach the remote.
    pub patience: super::schedule::Patience,
}

/// One fabric of a lane.
#[derive(Debug)]
pub struct FabricLane {
    /// Its name and place.
    pub fabric: Fabric,
    /// Its operator's choices.
    pub strategies: Strategies,
    /// Where originals are kept.
    pub archive: ArchiveStrategy,
    /// What earlier looks at `raw/` saw.
    pub seen: Seen,
}

/// What the agent keeps for one repository. Whoever has it is alone at work on the tree.
#[derive(Debug)]
pub struct Lane {
    /// The hand on the history.
    pub repo: Repo,
    /// The hand on the files.
    pub tree: WorkTree,
    /// The memory.
    pub store: Store,
    /// The kinds.
    pub catalog: Catalog,
    /// What it needs of the settings.
    pub settings: LaneSettings,
    /// Its fabrics.
    pub fabrics: Vec<FabricLane>,
    /// Where store, lock and socket are.
    pub state: StateDir,
    _lock: File,
}

/// Where HEAD stands, once it is known that we may commit there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The branch, by its full name.
    pub branch: String,
    /// The commit; none on an unborn branch.
    pub commit: Option<CommitId>,
}

impl Lane {
    /// Opens everything, and finishes or undoes what a crash left.
    pub fn open(
        settings: &Settings,
        repository: &RepositorySettings,
        interrupt: Arc<AtomicBool>,
        steps: Steps,
    ) -> Result<Lane, Error> {
        let repo = Repo::discover(&repository.path, steps.clone())?;
        if repository.fabrics.is_empty() {
            return Err(Error::NoFabric { path: repo.work_tree().to_owned() });
        }
        let state = StateDir::of(repo.git_dir(), repo.work_tree(), settings.state_dir.as_deref());
        state.create(repo.git_dir()).map_err(Error::State)?;
        let lock = take_lock(&state)?;
        let tree = WorkTree::open(repo.work_tree(), steps.clone())?;
        let (store, freshness) = Store::open(&state.store(), steps)?;
        if let Freshness::Replaced { aside, why } = freshness {
            let aside = aside.display();
            tracing::warn!(%aside, why, "the store could not be trusted and lies aside; making it again from git");
        }
        let fabrics = repository.fabrics.iter().map(|it| {
            let (strategies, archive) = it.strategies(settings);
            FabricLane { fabric: it.fabric(), strategies, archive, seen: Seen::default() }
        });
        let mut lane = Lane {
            fabrics: fabrics.collect(),
            settings: lane_settings(settings, repository, interrupt),
            catalog: Catalog::hedgehog(),
            repo,
            tree,
            store,
            state,
            _lock: lock,
        };
        recovery::recover(&mut lane)?;
        Ok(lane)
    }

    /// What drops are judged by.
    pub fn rules(&self) -> Rules<'_> {
        Rules { limits: self.settings.limits, catalog: &self.catalog }
    }

    /// Brings directories and records up to date; a fabric that is held keeps the rest from nothing.
    pub fn prepare(&mut self) -> Result<(), Error> {
        for n in 0..self.fabrics.len() {
            structure::ensure(self, n)?;
            let head = self.head_to_commit_on()?;
            sync::records_follow_head(self, n, head.commit)?;
        }
        Ok(())
    }

    /// Where HEAD stands, if we may commit there now.
    pub fn head_to_commit_on(&self) -> Result<Standing, Error> {
        let head = self.repo.head()?;
        if let Some(busy) = head.busy {
            return Err(Error::Held { reason: busy.to_string() });
        }
        let Some(branch) = head.branch else {
            return Err(Error::Held { reason: "HEAD names no branch; check one out".to_owned() });
        };
        let short = branch.strip_prefix("refs/heads/").unwrap_or(&branch);
        match &self.settings.branch {
            Some(wanted) if wanted != short && *wanted != branch => Err(Error::Held {
                reason: format!(
                    "HEAD is on {short}, but the agent works on {wanted}; switch back (git switch {wanted}) \
                     and it goes on by itself"
                ),
            }),
            _ => Ok(Standing { branch, commit: head.commit }),
        }
    }

    /// Where an operation stands once everything here follows its commit.
    pub(super) fn settled(&self, commit_id: CommitId) -> State {
        match self.settings.remote {
            Some(_) => State::Committed { commit_id, settled: true },
            None => State::Local { commit_id },
        }
    }

    /// Looks at one fabric's `raw/`.
    pub(super) fn discover(
        &mut self,
        n: usize,
        hints: &HashSet<RawPath>,
    ) -> Result<Discovery, Error> {
        let it = &mut self.fabrics[n];
        let listing = self.tree.list_raw(&it.fabric.raw(), self.settings.list)?;
        if !listing.truncated {
            clear_gone(&self.tree, &self.store, &it.fabric, &listing)?;
        }
        for path in &listing.unreadable {
            tracing::warn!(%path, fabric.name = %it.fabric.name, "cannot look into this directory of raw/");
        }
        let now = clock::instant();
        Ok(discovery::discover(&listing, &mut it.seen, hints, now, self.settings.quiet))
    }

    /// The drops of a fabric that were rejected when they were looked at last.
    pub(super) fn known_rejects(&self, n: usize) -> Result<HashSet<RawPath>, Error> {
        let rejects = self.store.rejects(&self.fabrics[n].fabric.name)?;
        Ok(rejects.into_iter().map(|it| it.path).collect())
    }

    /// Reads one drop.
    pub(super) fn read_raw(&self, n: usize, path: &RawPath) -> Result<ReadRaw, Error> {
        let raw = self.fabrics[n].fabric.raw();
        Ok(self.tree.read_raw(&raw, path, self.settings.bytes_max)?)
    }

    /// Drops that came back from a conflict stay rejected until somebody changes them.
    pub(super) fn keep_conflicts(
        &self,
        n: usize,
        intakes: &mut Vec<Intake>,
        rejected: &mut Vec<Rejected>,
    ) -> Result<(), Error> {
        let fabric = &self.fabrics[n].fabric.name;
        let mut kept = Vec::with_capacity(intakes.len());
        for intake in intakes.drain(..) {
            match self.store.reject(fabric, &intake.path)? {
                Some(it)
                    if it.drop_id == intake.drop_id
                        && it.problems.iter().any(|it| it.rule == MERGE_CONFLICT) =>
                {
                    rejected.push(Rejected { intake, problems: it.problems });
                }
                _ => kept.push(intake),
            }
        }
        *intakes = kept;
        Ok(())
    }
}

/// A rejected drop that somebody removed takes its report, its reject and its conflict along.
fn clear_gone(
    tree: &WorkTree,
    store: &Store,
    fabric: &Fabric,
    listing: &discovery::Listing,
) -> Result<(), Error> {
    let rejects = store.rejects(&fabric.name)?;
    if rejects.is_empty() {
        return Ok(());
    }
    let there: HashSet<&RawPath> = listing.entries.iter().map(|it| &it.path).collect();
    let mut settlement = Settlement::default();
    for it in rejects.into_iter().filter(|it| !there.contains(&it.path)) {
        tree.remove_report(&fabric.raw(), &it.path)?;
        settlement.cleared.push((fabric.name.clone(), it.path));
    }
    if settlement.cleared.is_empty() {
        return Ok(());
    }
    let gone = |path: &RawPath| settlement.cleared.iter().any(|it| it.1 == *path);
    let over = store
        .conflicts()?
        .into_iter()
        .filter(|it| it.fabric == fabric.name && it.raw_path.as_ref().is_some_and(gone));
    settlement.resolved = over.map(|it| it.id).collect();
    Ok(store.settle(settlement)?)
}

/// Says whether a rejected drop has to be looked at again though it did not change.
pub(super) fn depends_on_the_world(problems: &[crate::model::problem::Problem]) -> bool {
    problems.iter().any(|it| OF_THE_WORLD.contains(&it.rule.as_str()))
}

fn take_lock(state: &StateDir) -> Result<File, Error> {
    use rustix::fs::FlockOperation;
    let path = state.lock();
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(Error::State)?;
    // A command holds it for a moment only, so it is asked for again before it counts as taken.
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(it) => return Err(Error::State(it.into())),
        }
    }
    Err(Error::Busy { path })
}

fn lane_settings(
    settings: &Settings,
    repository: &RepositorySettings,
    interrupt: Arc<AtomicBool>,
) -> LaneSettings {
    let remote = repository.push.then(|| Remote {
        name: repository.remote.clone(),
        username: repository.username.clone(),
        token_file: repository.token_file.clone(),
        ca_file: repository.ca_file.clone(),
        connect: settings.push.connect_timeout,
        idle: settings.push.idle_timeout,
        wall: settings.push.wall_timeout,
        interrupt,
    });
    LaneSettings {
        quiet: settings.intake.quiet,
        rescan: settings.intake.rescan,
        limits: settings.yaml.limits(),
        bytes_max: settings.intake.bytes_max,
        files_per_turn_max: settings.intake.files_per_turn_max.max(1),
        list: ListLimits {
            entries_max: settings.intake.entries_max.max(1),
            ..ListLimits::default()
        },
        author: repository.author.clone(),
        branch: repository.branch.clone(),
        remote,
        fetch_every: settings.fetch.every,
        patience: super::schedule::Patience {
            min: settings.push.retry_min,
            max: settings.push.retry_max,
        },
    }
}
