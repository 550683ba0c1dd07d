//! How a fabric is: its directories, its health, and what happened in it over time.

use super::blocking;
use super::resources::find;
use crate::api::auth::Caller;
use crate::api::body::{InPath, Query};
use crate::api::house::{FabricDoor, House};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::api::wire::account::ModificationView;
use crate::api::wire::operation::{OperationStatus, OperationView};
use crate::api::wire::resource::{ConflictStatus, SourceView};
use crate::clock;
use crate::config::units;
use crate::model::operation::Headline;
use crate::model::path::RepoPath;
use crate::step::Steps;
use crate::worktree::WorkTree;
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// How many of the newest operations are counted.
const COUNTED_MAX: usize = 20_000;
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Whether a fabric's directories are as they should be.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct StructureReport {
    /// 100 is well.
    pub health_score: u32,
    /// Nothing is missing and nothing is in the way.
    pub valid: bool,
    /// What is not as it should be.
    pub issues: Vec<Issue>,
    /// What to do about it.
    pub recommendations: Vec<String>,
    /// Each directory.
    pub directories: BTreeMap<String, DirectoryReport>,
}

/// Something that is not as it should be.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Issue {
    /// Stable words: `missing`, `not_committed`, `in_the_way`, `no_readme`, `rejected_drops`,
    /// `conflicts`.
    pub kind: &'static str,
    /// Where.
    pub path: String,
    /// In words.
    pub message: String,
}

/// One directory.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct DirectoryReport {
    /// Where, relative to the top of the repository.
    pub path: String,
    /// It is in the work tree.
    pub exists: bool,
    /// It is in the last commit.
    pub committed: bool,
    /// It has a README.md there.
    pub readme: bool,
}

/// Looks at a fabric's directories and changes nothing.
#[utoipa::path(get, path = "/api/v1/fabrics/{id}/gitops-directories/validate", tag = "fabrics",
    params(("id" = String, Path, description = "The fabric's name.")),
    responses((status = 200, description = "How they are.", body = StructureReport)))]
pub(in crate::api) async fn validate(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<StructureReport>, Refusal> {
    let fabric = house.fabric(&caller, &id, Scope::Read)?;
    Ok(Json(blocking(move || structure(&fabric)).await?))
}

pub(super) fn structure(fabric: &FabricDoor) -> Result<StructureReport, Refusal> {
    let lane = &fabric.lane;
    let tree = WorkTree::open(&lane.work_tree, Steps::default()).map_err(|error| {
        tracing::warn!(%error, "the work tree cannot be looked at");
        Refusal::new(ErrorCode::Unavailable, format!("the work tree cannot be looked at: {error}"))
    })?;
    let it = &fabric.fabric().fabric;
    let dirs = [("raw", it.raw()), ("managed", it.managed()), ("unmanaged", it.unmanaged())];
    let mut report = StructureReport {
        health_score: 100,
        valid: true,
        issues: Vec::new(),
        recommendations: Vec::new(),
        directories: BTreeMap::new(),
    };
    for (name, dir) in dirs {
        directory(fabric, &tree, name, &dir, &mut report)?;
    }
    report.valid = report.issues.is_empty();
    if !report.valid {
        let what = format!(
            "POST fabrics/{}/gitops-directories/initialize repairs what is missing",
            it.name
        );
        report.recommendations.push(what);
    }
    let rejected = lane.store.rejects(&it.name)?.len();
    if rejected > 0 {
        let message = format!("{rejected} drops are rejected");
        report.issues.push(Issue { kind: "rejected_drops", path: it.raw().to_string(), message });
        report
            .recommendations
            .push("mend the rejected drops; a report lies beside each".to_owned());
    }
    let conflicts = lane.store.conflicts()?.iter().filter(|c| c.fabric == it.name).count();
    if conflicts > 0 {
        let message = format!("{conflicts} conflicts wait for a person");
        report.issues.push(Issue { kind: "conflicts", path: it.managed().to_string(), message });
        report.recommendations.push(format!("GET fabrics/{}/conflicts shows them", it.name));
    }
    let lost = report.issues.iter().map(|it| match it.kind {
        "in_the_way" => 50,
        "missing" => 30,
        "not_committed" | "conflicts" => 15,
        "rejected_drops" => 10,
        _ => 5,
    });
    let lost: u32 = lost.sum();
    report.health_score = report.health_score.saturating_sub(lost);
    Ok(report)
}

fn directory(
    fabric: &FabricDoor,
    tree: &WorkTree,
    name: &str,
    dir: &RepoPath,
    report: &mut StructureReport,
) -> Result<(), Refusal> {
    let path = dir.to_string();
    let mut tell = |kind, message: String| {
        report.issues.push(Issue { kind, path: path.clone(), message });
    };
    let exists = match tree.check_directory(dir) {
        Ok(exists) => exists,
        Err(error) => {
            tell("in_the_way", error.to_string());
            false
        }
    };
    let reader = &fabric.lane.reader;
    let head = reader.with(|repo| Ok(repo.head()?.commit))?;
    let committed = reader.with(|repo| repo.has_directory(head, dir))?;
    let readme = dir.join_fixed("README.md");
    let readme = exists && matches!(tree.exists(&readme), Ok(true));
    if !exists {
        tell("missing", format!("{dir} is not there"));
    } else if !readme {
        tell("no_readme", format!("{dir} has no README.md"));
    }
    if !committed {
        tell("not_committed", format!("{dir} is not in the last commit"));
    }
    let found = DirectoryReport { path: dir.to_string(), exists, committed, readme };
    report.directories.insert(name.to_owned(), found);
    Ok(())
}

/// How well a fabric is kept in step.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SyncHealth {
    /// `healthy`, `degraded` or `unhealthy`.
    pub status: HealthStatus,
    /// 100 is well.
    pub health_score: u32,
    /// Why the agent stands still, and what to do.
    pub held: Option<String>,
    /// Why the last push did not arrive; it is tried again.
    pub waiting: Option<String>,
    /// The commit that the records follow.
    pub synced_commit: Option<String>,
    /// What HEAD points to.
    pub head: Option<String>,
    /// Where the remote's branch was when the agent last heard of it.
    pub remote_head: Option<String>,
    /// The records follow HEAD, and the remote has it.
    pub in_sync: bool,
    /// Resources on record.
    pub resources: u64,
    /// Conflicts that wait for a person.
    pub conflicts: u64,
    /// Drops that are rejected.
    pub rejected: u64,
    /// Operations that are not at rest.
    pub open_operations: u64,
    /// When the newest operation came to rest.
    #[schema(format = DateTime)]
    pub last_sync: Option<String>,
}

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum HealthStatus {
    /// All is well.
    Healthy,
    /// Something waits.
    Degraded,
    /// Nothing goes on before a person acts.
    Unhealthy,
}

/// Whether records, HEAD and the remote agree, and what is in the way.
#[utoipa::path(get, path = "/api/v1/fabrics/{id}/sync-health", tag = "fabrics",
    params(("id" = String, Path, description = "The fabric's name.")),
    responses((status = 200, description = "How it is.", body = SyncHealth)))]
pub(in crate::api) async fn health(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<SyncHealth>, Refusal> {
    let fabric = house.fabric(&caller, &id, Scope::Read)?;
    Ok(Json(blocking(move || sync_health(&fabric)).await?))
}

fn sync_health(fabric: &FabricDoor) -> Result<SyncHealth, Refusal> {
    let (store, name, shown) = (&fabric.lane.store, fabric.name(), &fabric.shown);
    let synced = store.synced(name)?;
    let conflicts = store.conflicts()?.iter().filter(|it| it.fabric == *name).count() as u64;
    let rejected = store.rejects(name)?.len() as u64;
    let open = store.open_count(name)?;
    let its = |it: &Result<Headline, _>| it.as_ref().map_or(true, |it| it.fabric == *name);
    let newest = store.headlines().take(100).find(its).transpose()?;
    let sent = shown.remote.is_none() || shown.remote_head == shown.head;
    let in_sync = synced.is_some() && synced == shown.head && sent;
    let status = match (
        shown.held.is_some(),
        shown.live.waiting.is_some() || conflicts > 0 || rejected > 0 || !in_sync,
    ) {
        (true, _) => HealthStatus::Unhealthy,
        (false, true) => HealthStatus::Degraded,
        (false, false) => HealthStatus::Healthy,
    };
    let lost = 60 * u32::from(shown.held.is_some())
        + 20 * u32::from(shown.live.waiting.is_some())
        + 10 * u32::from(conflicts > 0)
        + 10 * u32::from(rejected > 0)
        + 10 * u32::from(!in_sync);
    Ok(SyncHealth {
        status,
        health_score: 100u32.saturating_sub(lost),
        held: shown.held.clone(),
        waiting: shown.live.waiting.clone(),
        synced_commit: synced.map(|it| it.to_string()),
        head: shown.head.map(|it| it.to_string()),
        remote_head: shown.remote_head.map(|it| it.to_string()),
        in_sync,
        resources: store.records_count(name),
        conflicts,
        rejected,
        open_operations: open,
        last_sync: newest.and_then(|it| it.completed_at).map(|it| it.to_string()),
    })
}

/// What is counted, and how.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Span {
    /// How far back: `24h`, say, or `7d`, which is the most; 24h where it is left out.
    pub period: Option<String>,
    /// What one row is of; a day where it is left out.
    #[param(inline)]
    pub group_by: Option<GroupBy>,
}

/// What one row is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum GroupBy {
    /// An hour, in UTC.
    Hour,
    /// A day, in UTC.
    #[default]
    Day,
    /// What operations are for.
    OperationType,
    /// What set them off.
    Trigger,
    /// Who was behind them.
    Actor,
}

/// What happened in a fabric.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SyncAnalytics {
    /// Since when.
    #[schema(format = DateTime)]
    pub since: String,
    /// What one row is of.
    pub group_by: GroupBy,
    /// All rows together.
    pub total: Counted,
    /// The rows, in the order of their names.
    pub groups: BTreeMap<String, Counted>,
}

/// Operations in numbers.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub(in crate::api) struct Counted {
    /// Operations.
    pub operations: u64,
    /// Of these, done.
    pub completed: u64,
    /// Of these, failed.
    pub failed: u64,
    /// Of these, held or under way.
    pub open: u64,
    /// Managed files that were made.
    pub files_created: u64,
    /// Managed files that changed.
    pub files_updated: u64,
    /// Managed files that went.
    pub files_deleted: u64,
    /// Drops that stayed.
    pub files_rejected: u64,
    /// How long those that came to rest took, on average, in milliseconds.
    pub duration_ms_mean: Option<u64>,
    #[serde(skip)]
    rested: u64,
    #[serde(skip)]
    duration_ms: u64,
}

/// What happened in a fabric over time.
#[utoipa::path(get, path = "/api/v1/fabrics/{id}/sync-analytics", tag = "fabrics",
    params(("id" = String, Path, description = "The fabric's name."), Span),
    responses((status = 200, description = "In numbers.", body = SyncAnalytics)))]
pub(in crate::api) async fn analytics(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Query(span): Query<Span>,
) -> Result<Json<SyncAnalytics>, Refusal> {
    let period = span.period.as_deref().map_or(Ok(DAY), units::parse_duration);
    let period = period.map_err(|why| Refusal::unfit("period", why))?;
    let fabric = house.fabric(&caller, &id, Scope::Read)?;
    let since = clock::now().checked_sub(period);
    let since = since.map_err(|it| Refusal::unfit("period", it.to_string()))?;
    let group_by = span.group_by.unwrap_or_default();
    let counted = blocking(move || {
        let mut found = SyncAnalytics {
            since: since.to_string(),
            group_by,
            total: Counted::default(),
            groups: BTreeMap::new(),
        };
        // Ids sort by time, so the rest is older.
        let recent =
            |it: &Result<Headline, _>| it.as_ref().map_or(true, |it| it.started_at >= since);
        for it in fabric.lane.store.headlines().take(COUNTED_MAX).take_while(recent) {
            let it = it?;
            if it.fabric == *fabric.name() {
                let group = group_of(&it, group_by);
                count(&mut found, group, it);
            }
        }
        Ok(found)
    });
    Ok(Json(counted.await?))
}

fn group_of(it: &Headline, group_by: GroupBy) -> String {
    let time = it.started_at.to_string();
    match group_by {
        GroupBy::Hour => format!("{}:00Z", time.get(..13).unwrap_or_default()),
        GroupBy::Day => time.get(..10).unwrap_or_default().to_owned(),
        GroupBy::OperationType => it.purpose.to_string(),
        GroupBy::Trigger => it.trigger.to_string(),
        GroupBy::Actor => it.actor.clone(),
    }
}

fn count(found: &mut SyncAnalytics, group: String, it: Headline) {
    let took = it.completed_at.map(|end| end.duration_since(it.started_at).as_millis());
    let view = OperationView::from(it);
    let group = found.groups.entry(group).or_default();
    for counted in [group, &mut found.total] {
        counted.operations += 1;
        match view.status {
            OperationStatus::Completed => counted.completed += 1,
            OperationStatus::Failed | OperationStatus::Cancelled => counted.failed += 1,
            OperationStatus::Pending | OperationStatus::InProgress | OperationStatus::Held => {
                counted.open += 1;
            }
        }
        counted.files_created += view.statistics.files_created;
        counted.files_updated += view.statistics.files_updated;
        counted.files_deleted += view.statistics.files_deleted;
        counted.files_rejected += view.statistics.files_rejected;
        if let Some(took) = took.and_then(|it| u64::try_from(it).ok()) {
            counted.rested += 1;
            counted.duration_ms += took;
            counted.duration_ms_mean = Some(counted.duration_ms / counted.rested);
        }
    }
}

/// Which file a resource lives in, and where it came from.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct FileMapping {
    /// The resource.
    #[schema(format = "uuid")]
    pub resource_id: String,
    /// Its file, relative to the top of the repository.
    pub managed_file_path: String,
    /// SHA-256 of the file.
    pub file_hash: String,
    /// What git calls the content.
    pub blob_id: String,
    /// The commit that brought it; none where that is not known any more.
    pub commit_id: Option<String>,
    /// When the operation that filed it came to rest; none where it was another's doing.
    #[schema(format = DateTime)]
    pub last_file_sync: Option<String>,
    /// The drop, its document and its line; none where it was found in the tree.
    pub source: Option<SourceView>,
    /// The newest changes that did not come through the agent, the newest first.
    pub external_modifications: Vec<ModificationView>,
    /// Where it stands.
    pub sync_status: SyncStatus,
    /// Whether two sides changed it.
    pub conflict_status: ConflictStatus,
}

/// Where a resource's file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum SyncStatus {
    /// Record, HEAD and remote agree.
    Synced,
    /// HEAD has it, the remote does not yet.
    Committed,
    /// HEAD has something else.
    Drifted,
}

/// Which file a resource lives in, and which drop, document and line it came from.
#[utoipa::path(get, path = "/api/v1/resources/{id}/file-mapping", tag = "resources",
    params(("id" = String, Path, description = "The resource's id.")),
    responses((status = 200, description = "The mapping.", body = FileMapping)))]
pub(in crate::api) async fn mapping(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<FileMapping>, Refusal> {
    let (fabric, record) = find(&house, &caller, &id, Scope::Read)?;
    let found = blocking(move || {
        let lane = &fabric.lane;
        let at =
            |commit| lane.reader.with(|repo| repo.blob_at(commit, record.path.as_str().as_bytes()));
        let (head, remote) = (at(fabric.shown.head)?, at(fabric.shown.remote_head)?);
        let sent = fabric.shown.remote.is_none() || remote == Some(record.blob_id);
        let sync_status = match (head == Some(record.blob_id), sent) {
            (false, _) => SyncStatus::Drifted,
            (true, false) => SyncStatus::Committed,
            (true, true) => SyncStatus::Synced,
        };
        let conflict = lane.store.is_in_conflict(&record.id)?;
        let operation = record.source.as_ref().and_then(|it| it.operation);
        let operation = operation.map(|it| lane.store.headline(&it)).transpose()?.flatten();
        Ok(FileMapping {
            resource_id: record.id.to_string(),
            managed_file_path: record.path.to_string(),
            file_hash: record.sha256.to_string(),
            blob_id: record.blob_id.to_string(),
            commit_id: record.commit_id.map(|it| it.to_string()),
            last_file_sync: operation.and_then(|it| it.completed_at).map(|it| it.to_string()),
            external_modifications: record
                .modifications
                .iter()
                .map(ModificationView::from)
                .collect(),
            source: record.source.map(SourceView::from),
            sync_status,
            conflict_status: match conflict {
                true => ConflictStatus::Detected,
                false => ConflictStatus::None,
            },
        })
    });
    Ok(Json(found.await?))
}
