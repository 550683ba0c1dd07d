//! What the agent keeps for one repository: its hands, its memory, its fabrics.

use super::droppers::Droppers;
use super::hands::Hands;
use super::inbox::Inbox;
use super::picked::Picked;
use super::suspects::Suspects;
use super::{Error, advance, conflicts, follow, message, recovery, structure};
use crate::catalog::Catalog;
use crate::config::{FabricSettings, RepositorySettings, Settings, StateDir};
use crate::git::{Carry, Remote, Repo};
use crate::model::account::Hold;
use crate::model::conflict::ConflictStrategy;
use crate::model::document::{Intake, Rejected};
use crate::model::fabric::{Author, Fabric};
use crate::model::ids::CommitId;
use crate::model::operation::State;
use crate::model::rules::{FabricRules, Mode};
use crate::pipeline::archive::ArchiveStrategy;
use crate::pipeline::discovery::Ready;
use crate::pipeline::processing::Strategies;
use crate::pipeline::validation::{Rules, SchemaStrategy};
use crate::step::Steps;
use crate::store::{Freshness, Store};
use crate::worktree::{Ignores, ReadRaw, WorkTree};
use crate::yaml::Limits;
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
const OF_THE_WORLD: [&str; 4] =
    ["managed-edited", "path-taken", "rival-drops", "changed-in-git-only"];

/// What one lane needs of the settings.
#[derive(Debug, Clone)]
pub struct LaneSettings {
    /// A file that did not change for this long is complete.
    pub quiet: Duration,
    /// `raw/` is looked at again this often, and `managed/` where the kernel tells of no edits.
    pub rescan: Duration,
    /// An edit by hand that stood still for so long is committed.
    pub hand_edits_quiet: Duration,
    /// How much one file may hold.
    pub limits: Limits,
    /// What a breach of a kind's schema is taken for.
    pub schema: SchemaStrategy,
    /// The size of one drop, in bytes.
    pub bytes_max: u64,
    /// Files of one turn.
    pub files_per_turn_max: usize,
    /// Bytes of one turn; a single file may have more.
    pub bytes_per_turn_max: u64,
    /// Entries of `raw/` that are kept track of.
    pub entries_max: usize,
    /// Where the kernel does not tell of every change, it is looked at this often.
    pub poll: Duration,
    /// Whose commits these are.
    pub author: Author,
    /// The only branch to work on; none is the one HEAD is on.
    pub branch: Option<String>,
    /// Where commits go; none keeps them here.
    pub remote: Option<Remote>,
    /// A branch of the remote that gets the commits instead, for a pull request; `{branch}` stands for
    /// the name of the branch that is worked on.
    pub review: Option<String>,
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
    /// What is known of its `raw/`.
    pub inbox: Inbox,
    /// What may change, and how what two sides changed is decided.
    pub rules: FabricRules,
    /// Why it waits for a person.
    pub hold: Option<Hold>,
    /// What is known of edits by hand.
    pub(super) hands: Hands,
    /// The commit in which nothing was found beside `raw/` that belongs into it.
    pub(super) looked_beside: Option<CommitId>,
}

impl FabricLane {
    /// A fabric as the settings have it, of which nothing is known yet.
    pub(super) fn of(it: &FabricSettings, settings: &Settings) -> FabricLane {
        let (strategies, archive) = it.strategies(settings);
        let inbox = Inbox::new(Ignores::new(&it.ignore(settings)));
        let (fabric, rules) = (it.fabric(settings), it.rules(settings));
        FabricLane {
            fabric,
            strategies,
            archive,
            rules,
            inbox,
            hold: None,
            hands: Hands::default(),
            looked_beside: None,
        }
    }
}

/// What the agent keeps for one repository. Whoever has it is alone at work on the tree.
#[derive(Debug)]
pub struct Lane {
    /// The hand on the history.
    pub repo: Repo,
    /// The hand on the files.
    pub tree: WorkTree,
    /// The memory.
    pub store: Arc<Store>,
    /// The kinds.
    pub catalog: Catalog,
    /// What it needs of the settings.
    pub settings: LaneSettings,
    /// Its fabrics.
    pub fabrics: Vec<FabricLane>,
    /// What may end the process.
    pub(super) suspects: Suspects,
    /// Who sent which drop.
    pub droppers: Arc<Droppers>,
    /// The settings of the agent, for fabrics that come later.
    pub(super) general: Settings,
    /// Those of this repository.
    pub(super) repository: RepositorySettings,
    /// Goes up whenever fabrics come, go or change.
    pub(super) fabrics_version: u64,
    /// Instead of what the settings say of fields that both sides changed, for one command.
    pub(super) strategy: Option<ConflictStrategy>,
    /// What is meant of all that waits, for one command; none is everything.
    pub(super) picked: Option<Picked>,
    /// The first line of what is committed of drops, for one command; none says what is done.
    pub(super) subject: Option<String>,
    /// What is committed is sent at once, and not when a remote that is away is asked again.
    pub(super) sends_soon: bool,
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
        let state = StateDir::of(repo.git_dir(), repo.work_tree(), settings.state_dir.as_deref());
        state.create(repo.git_dir()).map_err(Error::State)?;
        let lock = take_lock(&state)?;
        state.sweep().map_err(Error::State)?;
        let mut tree = WorkTree::open(repo.work_tree(), steps.clone())?;
        if settings.intake.one_file_system {
            tree = tree.on_one_file_system();
        }
        let (store, freshness) = Store::open(&state.store(), steps)?;
        tell(&freshness);
        let fabrics = repository.fabrics.iter().map(|it| FabricLane::of(it, settings));
        settings.unjudged().iter().for_each(|it| tracing::warn!("{it}"));
        let mut lane = Lane {
            fabrics: fabrics.collect(),
            general: settings.clone(),
            repository: repository.clone(),
            fabrics_version: 0,
            strategy: None,
            picked: None,
            subject: None,
            sends_soon: true,
            settings: lane_settings(settings, repository, interrupt),
            catalog: settings.kinds(),
            repo,
            tree,
            store: Arc::new(store),
            suspects: Suspects::open(&state),
            droppers: Arc::default(),
            state,
            _lock: lock,
        };
        recovery::recover(&mut lane)?;
        Ok(lane)
    }

    /// What drops are judged by.
    pub fn rules(&self) -> Rules<'_> {
        let LaneSettings { limits, schema, .. } = self.settings;
        Rules { limits, catalog: &self.catalog, schema, partial: false }
    }

    /// Brings directories and records up to date; a fabric that is held keeps the rest from nothing.
    pub fn prepare(&mut self) -> Result<(), Error> {
        for n in 0..self.fabrics.len() {
            advance::follow_on(self)?;
            structure::ensure(self, n)?;
        }
        let head = self.head_to_commit_on()?;
        follow::all_follow_head(self, head.commit)?;
        for n in 0..self.fabrics.len() {
            // What a crash kept of conflicts that are over.
            conflicts::sweep(self, n)?;
        }
        Ok(())
    }

    /// Where commits are sent; none where they stay here, be it for the mode of one fabric: commits
    /// of a repository travel together.
    pub fn sends_to(&self) -> Option<&Remote> {
        match self.keeps_for() {
            None => self.settings.remote.as_ref(),
            Some(_) => None,
        }
    }

    /// Calls the remote while a commit is being made, where that is then sent at once.
    pub(super) fn call_ahead(&self) {
        let soon = self.sends_soon && self.settings.review.is_none() && !self.flooded();
        if let Some(remote) = self.sends_to().filter(|_| soon) {
            self.repo.call_ahead(remote);
        }
    }

    /// How our commits go together with what others pushed: made again on top of it, or, where they
    /// wait for somebody to take them over and must stay what they are, joined to it.
    pub(super) fn carry(&self, branch: &str) -> Carry {
        match &self.settings.review {
            None => Carry::Each,
            Some(_) => Carry::Joined {
                author: self.settings.author.clone(),
                message: message::joined(branch),
            },
        }
    }

    /// Why nothing is sent and nothing of others is taken in, though there is a remote.
    pub fn keeps_for(&self) -> Option<String> {
        let kept = self.fabrics.iter().find(|it| it.rules.mode == Mode::Ingest);
        if let Some(it) = kept {
            let name = &it.fabric.name;
            return Some(format!("fabric {name} is in mode ingest: commits stay here"));
        }
        let observed = !self.fabrics.is_empty()
            && self.fabrics.iter().all(|it| it.rules.mode == Mode::Observe);
        observed.then(|| "every fabric is in mode observe: nothing is sent".to_owned())
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
        match self.sends_to() {
            Some(_) => State::Committed { commit_id, settled: true },
            None => State::Local { commit_id },
        }
    }

    /// Reads drops; what is strange by its name alone counts as no file.
    pub(super) fn read_all(&self, n: usize, ready: &[Ready]) -> Result<Vec<ReadRaw>, Error> {
        let (raw, bytes_max) = (self.fabrics[n].fabric.raw(), self.settings.bytes_max);
        let tree = &self.tree;
        let read = crate::cores::on_all(ready, |it| match it.strange {
            Some(_) => Ok(ReadRaw::NotRegular),
            None => tree.read_raw(&raw, &it.path, &it.fingerprint, bytes_max),
        });
        Ok(read?)
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

/// Says what became of the store of last time.
fn tell(freshness: &Freshness) {
    match freshness {
        Freshness::Kept | Freshness::New => (),
        Freshness::Migrated { from, aside } => {
            let aside = aside.display();
            tracing::info!(from, %aside, "the store is of an older version and was brought up to this one; as it was it lies aside");
        }
        Freshness::Replaced { aside, why } => {
            let aside = aside.display();
            tracing::warn!(%aside, why, "the store could not be trusted and lies aside; making it again from git");
        }
    }
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
        hand_edits_quiet: settings.intake.hand_edits_quiet,
        limits: settings.yaml.limits(),
        schema: settings.schema,
        bytes_max: settings.intake.bytes_max,
        files_per_turn_max: settings.intake.files_per_turn_max.max(1),
        bytes_per_turn_max: settings.intake.bytes_per_turn_max,
        entries_max: settings.intake.entries_max.max(1),
        poll: settings.intake.poll,
        author: repository.author.clone(),
        branch: repository.branch.clone(),
        remote,
        review: repository.review.clone(),
        fetch_every: settings.fetch.every,
        patience: super::schedule::Patience {
            min: settings.push.retry_min,
            max: settings.push.retry_max,
        },
    }
}
