//! Fabrics come and go: listed, made, changed and removed, without losing what is in them.

use super::edits::{self, Edits};
use super::lane::{FabricLane, Lane};
use super::{Error, backup, choices, follow, structure, turn};
use crate::config::{self, FabricSettings};
use crate::model::account::Hold;
use crate::model::conflict::ConflictStrategy;
use crate::model::fabric::{FabricName, Layout};
use crate::model::ids::{CommitId, OperationId};
use crate::model::operation::{Purpose, Trigger};
use crate::model::path::{RepoPath, escape};
use crate::model::plan::{Change, Plan};
use crate::model::report::Delivery;
use crate::model::rules::{Mode, OnDelete, RemovalLimits, ResourceRule};
use crate::pipeline::archive::ArchiveStrategy;
use crate::pipeline::processing::{OnInvalid, OnUnsupported};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

/// One fabric, as it is set up and as it stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FabricView {
    /// Its name.
    pub name: FabricName,
    /// Its directory in the repository.
    pub dir: RepoPath,
    /// How much the agent does.
    pub mode: Mode,
    /// What becomes of a record whose file others removed.
    pub on_delete: OnDelete,
    /// What happens where two sides changed one resource.
    pub conflict: ConflictStrategy,
    /// Where originals are kept.
    pub archive: ArchiveStrategy,
    /// What becomes of a drop with a mistake.
    pub on_invalid: OnInvalid,
    /// What becomes of a drop of foreign kinds.
    pub on_unsupported: OnUnsupported,
    /// How many removals at once wait for a person.
    pub removals: RemovalLimits,
    /// What holds for some resources.
    pub resources: Vec<ResourceRule>,
    /// Whether its directories are as they should be.
    pub state: FabricState,
    /// What is wrong with them.
    pub problem: Option<String>,
    /// Resources on record.
    pub records: u64,
    /// Records whose files others removed.
    pub orphans: u64,
    /// What waits for a person to decide.
    pub conflicts: u64,
    /// The commit that the records follow.
    pub synced: Option<CommitId>,
    /// Why it waits for a person.
    pub hold: Option<Hold>,
    /// The file that its settings stand in; none is the repository's own, which commands may change.
    pub settings_file: Option<PathBuf>,
}

/// Whether a fabric's directories are as they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FabricState {
    /// Some of them are not there yet.
    NotInitialized,
    /// All of them are there and in the last commit.
    Initialized,
    /// Something else is in the way of one.
    InvalidStructure,
}

/// A fabric to be made, or repaired where it is there already.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AddFabric {
    /// Its name.
    pub name: FabricName,
    /// Its directory; none is its name.
    #[serde(default)]
    pub dir: Option<RepoPath>,
    /// How much the agent does; none is the general setting.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// What becomes of a record whose file others removed; none is the general setting.
    #[serde(default)]
    pub on_delete: Option<OnDelete>,
    /// What happens where two sides changed one resource; none is the general setting.
    #[serde(default)]
    pub conflict: Option<ConflictStrategy>,
    /// A tag, branch or ref that a removal left: what was there is brought back.
    #[serde(default)]
    pub restore: Option<String>,
    /// Who is behind it.
    pub actor: String,
}

/// What changes of a fabric's settings; none stays.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SetFabric {
    /// Which.
    pub name: FabricName,
    /// How much the agent does.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// What becomes of a record whose file others removed.
    #[serde(default)]
    pub on_delete: Option<OnDelete>,
    /// What happens where two sides changed one resource.
    #[serde(default)]
    pub conflict: Option<ConflictStrategy>,
    /// Where originals are kept.
    #[serde(default)]
    pub archive: Option<ArchiveStrategy>,
    /// Where new files lie.
    #[serde(default)]
    pub layout: Option<Layout>,
    /// What becomes of a drop with a mistake.
    #[serde(default)]
    pub on_invalid: Option<OnInvalid>,
    /// What becomes of a drop of foreign kinds.
    #[serde(default)]
    pub on_unsupported: Option<OnUnsupported>,
}

/// A fabric to be removed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RemoveFabric {
    /// Which.
    pub name: FabricName,
    /// Its files go as well, by a commit; else they stay as plain files.
    #[serde(default)]
    pub purge: bool,
    /// A tag keeps the commit that still has them.
    #[serde(default)]
    pub backup: bool,
    /// Who is behind it.
    pub actor: String,
    /// Only say what would come of it.
    #[serde(default)]
    pub dry_run: bool,
}

/// What was done to a fabric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FabricChange {
    /// Which.
    pub name: FabricName,
    /// Its directory.
    pub dir: RepoPath,
    /// The journal's entry; none where nothing was committed.
    pub operation: Option<OperationId>,
    /// The commit; none where nothing was committed.
    pub commit_id: Option<CommitId>,
    /// How many files were made, brought back or removed.
    pub files: u64,
    /// The tag that keeps what was there.
    pub backup: Option<String>,
    /// How far the commit went.
    pub delivery: Delivery,
    /// Nothing was changed: this is what would happen.
    pub dry_run: bool,
}

/// All fabrics of the lane.
pub(super) fn list(lane: &Lane) -> Result<Vec<FabricView>, Error> {
    (0..lane.fabrics.len()).map(|n| view(lane, n)).collect()
}

/// One of them, by its name.
pub(super) fn show(lane: &Lane, name: &FabricName) -> Result<FabricView, Error> {
    view(lane, place(lane, name)?)
}

/// Where in the lane a fabric is.
pub(super) fn place(lane: &Lane, name: &FabricName) -> Result<usize, Error> {
    lane.fabrics.iter().position(|it| it.fabric.name == *name).ok_or_else(|| Error::NotFound {
        what: format!("fabric {name}; git-intake fabric list shows all"),
    })
}

/// How many orphans a fabric has.
pub(super) fn orphans_of(lane: &Lane, name: &FabricName) -> Result<u64, Error> {
    let mut count = 0;
    for it in lane.store.orphans() {
        count += u64::from(it?.record.fabric == *name);
    }
    Ok(count)
}

fn view(lane: &Lane, n: usize) -> Result<FabricView, Error> {
    let it = &lane.fabrics[n];
    let name = it.fabric.name.clone();
    let head = lane.repo.head()?.commit;
    let (mut state, mut problem) = (FabricState::Initialized, None);
    for dir in [it.fabric.raw(), it.fabric.managed(), it.fabric.unmanaged()] {
        match lane.tree.check_directory(&dir) {
            Ok(true) if lane.repo.has_directory(head, &dir)? => (),
            Ok(_) if state == FabricState::Initialized => state = FabricState::NotInitialized,
            Ok(_) => (),
            Err(error) => {
                state = FabricState::InvalidStructure;
                problem = Some(Error::from(error).chain());
            }
        }
    }
    let conflicts = lane.store.conflicts()?;
    Ok(FabricView {
        dir: it.fabric.dir.clone(),
        mode: it.rules.mode,
        on_delete: it.rules.on_delete,
        conflict: it.rules.conflict,
        archive: it.archive,
        on_invalid: it.strategies.on_invalid,
        on_unsupported: it.strategies.on_unsupported,
        removals: it.rules.removals,
        resources: it.rules.resources.clone(),
        state,
        problem,
        records: lane.store.records_count(&name),
        orphans: orphans_of(lane, &name)?,
        conflicts: conflicts.iter().filter(|it| it.fabric == name).count() as u64,
        synced: lane.store.synced(&name)?,
        hold: it.hold.clone(),
        settings_file: lane.repository.file.clone(),
        name,
    })
}

/// Makes a fabric, or repairs it; the caller sends the commit.
pub(super) fn add(
    lane: &mut Lane,
    it: &AddFabric,
    trigger: Trigger,
) -> Result<FabricChange, Error> {
    let known = lane.fabrics.iter().position(|known| known.fabric.name == it.name);
    let old = lane.repository.clone();
    let n = match known {
        Some(n) => {
            let there = &lane.fabrics[n].fabric.dir;
            if it.dir.as_ref().is_some_and(|dir| dir != there) {
                let what = format!("fabric {} lies in {there} already", it.name);
                return Err(Error::Refused { what });
            }
            n
        }
        None => {
            let settings = FabricSettings {
                mode: it.mode,
                on_delete: it.on_delete,
                conflict: it.conflict,
                ..FabricSettings::new(it.name.clone(), it.dir.clone())
            };
            let mut all = lane.repository.fabrics.clone();
            all.push(settings.clone());
            config::check_fabrics(&all).map_err(|what| Error::Refused { what })?;
            choices::writable(lane)?;
            lane.fabrics.push(FabricLane::of(&settings, &lane.general));
            lane.repository.fabrics = all;
            lane.fabrics.len() - 1
        }
    };
    let done = made(lane, n, it, trigger).and_then(|change| {
        if known.is_none() {
            choices::save(lane)?;
        }
        Ok(change)
    });
    if done.is_err() && known.is_none() {
        lane.fabrics.pop();
        lane.repository = old;
    }
    lane.fabrics_version += 1;
    done
}

fn made(
    lane: &mut Lane,
    n: usize,
    it: &AddFabric,
    trigger: Trigger,
) -> Result<FabricChange, Error> {
    let mut change = FabricChange {
        name: it.name.clone(),
        dir: lane.fabrics[n].fabric.dir.clone(),
        operation: None,
        commit_id: None,
        files: 0,
        backup: None,
        delivery: Delivery::Nothing,
        dry_run: false,
    };
    let mut operation = match &it.restore {
        Some(name) => bring_back(lane, n, name, &it.actor, trigger)?,
        None => None,
    };
    if let Some(more) = structure::ensure(lane, n)? {
        change.files += more.changes.len() as u64;
        operation.get_or_insert(more);
    }
    if let Some(it) = &operation {
        change.operation = Some(it.id);
        change.commit_id = it.state.commit_id();
        change.files = change.files.max(it.changes.len() as u64);
    }
    let head = lane.head_to_commit_on()?.commit;
    follow::records_follow_head(lane, n, head)?;
    Ok(change)
}

/// Writes what a backup has below the fabric's directory, where HEAD has nothing.
fn bring_back(
    lane: &mut Lane,
    n: usize,
    name: &str,
    actor: &str,
    trigger: Trigger,
) -> Result<Option<crate::model::operation::Operation>, Error> {
    let mut tip = None;
    for prefix in ["", "refs/tags/", "refs/heads/"] {
        let full = format!("{prefix}{name}");
        if tip.is_none() && full.starts_with("refs/") {
            tip = lane.repo.tip(&full)?;
        }
    }
    let tip = tip.ok_or_else(|| Error::NotFound { what: format!("tag or branch `{name}`") })?;
    let dir = lane.fabrics[n].fabric.dir.clone();
    let head = lane.head_to_commit_on()?.commit;
    let mut files: Vec<(RepoPath, Option<Arc<[u8]>>)> = Vec::new();
    for (path, blob) in lane.repo.files_below(tip, &dir)? {
        if lane.repo.blob_at(head, &path)?.is_some() {
            continue;
        }
        let path = std::str::from_utf8(&path).ok().and_then(|it| RepoPath::parse(it).ok());
        if let Some(path) = path {
            files.push((path, Some(Arc::from(lane.repo.blob(blob)?))));
        }
    }
    let edits = Edits {
        files,
        purpose: Purpose::DirectoryInit,
        trigger,
        actor: actor.to_owned(),
        subject: format!("bring the fabric back from {name}"),
        trailers: Vec::new(),
        in_place: false,
    };
    edits::carry_out(lane, n, edits)
}

/// Changes what is decided about a fabric.
pub(super) fn set(lane: &mut Lane, it: &SetFabric) -> Result<FabricView, Error> {
    let n = place(lane, &it.name)?;
    choices::change(lane, n, |settings| {
        settings.mode = it.mode.or(settings.mode);
        settings.on_delete = it.on_delete.or(settings.on_delete);
        settings.conflict = it.conflict.or(settings.conflict);
        settings.archive = it.archive.or(settings.archive);
        settings.layout = it.layout.or(settings.layout);
        settings.on_invalid = it.on_invalid.or(settings.on_invalid);
        settings.on_unsupported = it.on_unsupported.or(settings.on_unsupported);
    })?;
    lane.fabrics_version += 1;
    view(lane, n)
}

/// Removes a fabric; the caller sends the commit.
pub(super) fn remove(
    lane: &mut Lane,
    it: &RemoveFabric,
    trigger: Trigger,
) -> Result<FabricChange, Error> {
    let n = place(lane, &it.name)?;
    choices::writable(lane)?;
    let standing = lane.head_to_commit_on()?;
    let fabric = lane.fabrics[n].fabric.clone();
    let mut change = FabricChange {
        name: it.name.clone(),
        dir: fabric.dir.clone(),
        operation: None,
        commit_id: None,
        files: 0,
        backup: None,
        delivery: Delivery::Nothing,
        dry_run: it.dry_run,
    };
    let mut plan = Plan { subject: Some("remove the fabric".to_owned()), ..Plan::default() };
    if it.purge {
        plan.changes = removals(lane, n)?;
        change.files = plan.changes.len() as u64;
    }
    if it.dry_run {
        return Ok(change);
    }
    if let (true, Some(head)) = (it.backup, standing.commit) {
        change.backup = Some(backup::back_up(lane, &it.name, head)?);
    }
    if !plan.changes.is_empty() {
        let base = (standing.commit, standing.branch);
        let mut operation = edits::entry(lane, n, Purpose::Cleanup, trigger, &it.actor, base);
        turn::carry_out(lane, n, &mut plan, &[], &mut operation)?;
        change.operation = Some(operation.id);
        change.commit_id = operation.state.commit_id();
    }
    // The settings first: whatever fails or is cut off before leaves a fabric that can be removed.
    let mut repository = lane.repository.clone();
    repository.fabrics.retain(|known| known.name != it.name);
    let old = std::mem::replace(&mut lane.repository, repository);
    if let Err(error) = choices::save(lane) {
        lane.repository = old;
        return Err(error);
    }
    lane.fabrics.remove(n);
    lane.fabrics_version += 1;
    lane.store.forget_fabric(&it.name)?;
    Ok(change)
}

/// All of a fabric's files, on their way out; nothing that nobody has committed is among them.
fn removals(lane: &Lane, n: usize) -> Result<Vec<Change>, Error> {
    let fabric = &lane.fabrics[n].fabric;
    let (drops, _) = lane.drops(n)?;
    if drops > 0 {
        let raw = fabric.raw();
        let what = format!(
            "{drops} drops lie in {raw}/; let them be taken (git-intake ingest) or move them away, and \
             try again"
        );
        return Err(Error::Refused { what });
    }
    let head = lane.head_to_commit_on()?.commit;
    let files = match head {
        Some(head) => lane.repo.files_below(head, &fabric.dir)?,
        None => Vec::new(),
    };
    let mut changes = Vec::with_capacity(files.len());
    for (path, was) in files {
        let found = lane.tree.read_bytes_path(&path, u64::from(u32::MAX))?;
        let found = found.map(|it| lane.repo.blob_id_of(&it)).transpose()?;
        if found.is_some_and(|it| it != was) {
            let what = format!(
                "{} has changes that nobody has committed; commit or undo them, and try again",
                escape(&path)
            );
            return Err(Error::Refused { what });
        }
        changes.push(Change::Remove { path, was });
    }
    Ok(changes)
}
