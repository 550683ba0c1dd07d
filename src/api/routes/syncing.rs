//! Both ways to the remote, as an operation of its own that can be called off; and which way one resource goes.

use super::preview::{SyncPreview, preview};
use super::resources::find;
use crate::agent::conflicts::Decided;
use crate::agent::desk::{Answer, Asker, Request};
use crate::agent::events::{About, EventKind};
use crate::agent::exchange::{SyncAsked, SyncDirection};
use crate::agent::programs::{ProgramAnswer, ProgramAsked};
use crate::agent::take::RuleAsked;
use crate::api::audit::Became;
use crate::api::auth::Caller;
use crate::api::body::{InPath, Maybe, Payload};
use crate::api::house::{FabricDoor, House, asker, unexpected};
use crate::api::jobs::{Did, Job};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::api::wire::conflict::Strategy;
use crate::api::wire::operation::{OperationStatus, OperationView};
use crate::model::ids::OperationId;
use crate::model::key::ResourceId;
use crate::model::operation::Trigger;
use crate::model::report::Delivery;
use crate::model::rules::Direction;
use crate::model::selection::Selection;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use utoipa::ToSchema;

/// Which way changes go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SyncDirection)]
pub(in crate::api) enum Way {
    /// What others have comes in, then what is ours goes out.
    #[default]
    Bidirectional,
    /// What others pushed comes in.
    GitToRecord,
    /// What lies in `raw/` and what is committed here goes out.
    RecordToGit,
}

impl Way {
    fn model(self) -> SyncDirection {
        match self {
            Way::Bidirectional => SyncDirection::Bidirectional,
            Way::GitToRecord => SyncDirection::GitToRecord,
            Way::RecordToGit => SyncDirection::RecordToGit,
        }
    }
}

/// A sync.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SyncRequest {
    /// Which way.
    #[serde(default)]
    pub direction: Way,
    /// Which resources: drops and hand edits that hold them are taken, and their conflicts resolved.
    /// The branch itself is exchanged as a whole.
    #[serde(default)]
    pub resource_filters: ResourceFilters,
    /// More.
    #[serde(default)]
    pub options: SyncOptions,
    /// What happens to conflicts afterwards.
    #[serde(default)]
    pub conflict_resolution: SyncResolution,
    /// Refused where it names an address: a fabric's webhooks tell of every sync.
    #[serde(default)]
    pub notifications: Notifications,
}

/// Which resources are meant; a list without entries leaves nothing out.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ResourceFilters {
    /// Of these kinds.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub kinds: Vec<String>,
    /// With names like these; `*` stands for any letters.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub names: Vec<String>,
    /// In these namespaces; `*` stands for any letters.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub namespaces: Vec<String>,
}

impl ResourceFilters {
    fn selection(self) -> Result<Selection, Refusal> {
        Ok(Selection {
            files: Vec::new(),
            kinds: listed("resource_filters.kinds", self.kinds)?,
            names: listed("resource_filters.names", self.names)?,
            namespaces: listed("resource_filters.namespaces", self.namespaces)?,
        })
    }
}

/// So many entries a list of what is meant may have, of so many bytes.
const LISTED_MAX: usize = 100;
const LISTED_BYTES_MAX: usize = 1024;

/// A list of what is meant, within bounds.
pub(super) fn listed(field: &str, list: Vec<String>) -> Result<Vec<String>, Refusal> {
    if list.len() > LISTED_MAX {
        return Err(Refusal::field(field, format!("write {LISTED_MAX} entries at most")));
    }
    match list.iter().all(|it| (1..=LISTED_BYTES_MAX).contains(&it.len())) {
        true => Ok(list),
        false => Err(Refusal::unfit(field, format!("an entry has 1 to {LISTED_BYTES_MAX} bytes"))),
    }
}

/// Who is told when a sync is over.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Notifications {
    /// Refused: ask for the operation, or make a webhook of the fabric.
    #[serde(default)]
    pub webhook_url: Option<String>,
}

/// How a sync is made.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SyncOptions {
    /// Also where one is under way already.
    #[serde(default)]
    pub force_sync: bool,
    /// Only say what would come of it, in the answer.
    #[serde(default)]
    pub dry_run: bool,
    /// By a pull request: refused, since what is committed here is pushed as it is.
    #[serde(default)]
    pub create_pr: bool,
}

/// What happens to a fabric's conflicts after a sync.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SyncResolution {
    /// They are resolved so; none leaves them to a person.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// Those that can be merged field by field are resolved.
    #[serde(default)]
    pub auto_resolve_simple: bool,
}

/// Synchronises a fabric with its remote. A lane has one remote, so the other fabrics of the repository
/// come along.
#[utoipa::path(post, path = "/api/v1/fabrics/{id}/sync", tag = "operations",
    request_body = Option<SyncRequest>, params(("id" = String, Path, description = "The fabric's name."),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses(
        (status = 202, description = "It is on its way; ask for the operation.", body = OperationView),
        (status = 200, description = "What a sync would do: `dry_run` was said.", body = SyncPreview)))]
pub(in crate::api) async fn sync(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Maybe(it): Maybe<SyncRequest>,
) -> Result<Response, Refusal> {
    let fabric = house.fabric(&caller, &id, Scope::Write)?;
    begin(&house, fabric, &caller, it, None).await
}

/// The same for one resource: only drops and hand edits that hold it are taken.
#[utoipa::path(post, path = "/api/v1/resources/{id}/sync", tag = "resources",
    request_body = Option<SyncRequest>, params(("id" = String, Path, description = "The resource's id."),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses(
        (status = 202, description = "It is on its way; ask for the operation.", body = OperationView),
        (status = 200, description = "What a sync would do: `dry_run` was said.", body = SyncPreview)))]
pub(in crate::api) async fn sync_resource(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Maybe(it): Maybe<SyncRequest>,
) -> Result<Response, Refusal> {
    let (fabric, record) = find(&house, &caller, &id, Scope::Write)?;
    begin(&house, fabric, &caller, it, Some(Selection::one(&record.key))).await
}

async fn begin(
    house: &Arc<House>,
    fabric: FabricDoor,
    caller: &Caller,
    it: SyncRequest,
    one: Option<Selection>,
) -> Result<Response, Refusal> {
    if it.options.create_pr {
        let why = "one sync alone is not proposed; with `review` in the settings of the repository all \
                   commits wait on a branch for a pull request";
        return Err(Refusal::unfit("options.create_pr", why));
    }
    if it.notifications.webhook_url.is_some() {
        let why = "nobody is told of one sync alone; make a webhook of the fabric, which is told of all: \
                   POST /api/v1/fabrics/NAME/webhooks";
        return Err(Refusal::unfit("notifications.webhook_url", why));
    }
    let given = it.resource_filters.selection()?;
    let selection = match one {
        Some(_) if !given.is_everything() => {
            let why = "the resource of the path is the one that is meant; leave it out";
            return Err(Refusal::unfit("resource_filters", why));
        }
        Some(one) => one,
        None => given,
    };
    let strategy = match it.conflict_resolution.strategy {
        None if it.conflict_resolution.auto_resolve_simple => Some(Strategy::Merge),
        it => it,
    };
    let asked = SyncAsked {
        direction: it.direction.model(),
        strategy: strategy.map(Strategy::model),
        selection,
        dry_run: it.options.dry_run,
    };
    if asked.dry_run {
        return preview(&fabric, caller, asked).await;
    }
    let kind = crate::api::wire::word(&it.direction);
    let job = house.jobs.add(fabric.name(), &kind, caller, it.options.force_sync);
    let Some(job) = job else {
        let message = format!("a sync of {} is under way already", fabric.name());
        return Err(Refusal::new(ErrorCode::OperationInProgress, message)
            .suggest("wait for it, or set options.force_sync"));
    };
    let view = job.view();
    tokio::spawn(carry_out(house.clone(), fabric, job, asked, strategy));
    let became = Became { operation_id: Some(view.id.clone()), commit_id: None };
    let at = format!("/api/v1/sync-operations/{}", view.id);
    let mut response = (StatusCode::ACCEPTED, [(LOCATION, at)], Json(view)).into_response();
    response.extensions_mut().insert(became);
    Ok(response)
}

/// Tells those who follow the events how a job stands.
fn tell(house: &House, fabric: &FabricDoor, job: &Job, kind: EventKind, message: Option<String>) {
    let about = About {
        operation_id: Some(job.id),
        trigger: Some(Trigger::Api),
        actor: Some(job.actor.clone()),
        message,
        ..About::default()
    };
    house.events.add(kind, &Arc::from(&*fabric.lane.id), Some(fabric.name()), about, None);
}

async fn carry_out(
    house: Arc<House>,
    fabric: FabricDoor,
    job: Arc<Job>,
    asked: SyncAsked,
    strategy: Option<Strategy>,
) {
    let asker = Asker { actor: job.actor.clone(), trigger: Trigger::Api };
    let admit = admission(&house, &fabric, &job);
    let selection = asked.selection.clone();
    let request = Request::Sync(asked);
    let answer = fabric.lane.ask_if(request, Some(asker.clone()), Some(admit)).await;
    let mut did = Did::default();
    let mut status = OperationStatus::Completed;
    match answer {
        Ok(Answer::Synced(report)) => {
            report
                .ingested
                .iter()
                .filter(|it| it.fabric == *fabric.name())
                .for_each(|it| did.count(it));
            let own = |it: &&crate::model::record::Conflict| it.fabric == *fabric.name();
            did.statistics.conflicts_detected = report.conflicts.iter().filter(own).count() as u64;
            if let Some(hold) = report.holds.iter().find(|it| it.fabric == *fabric.name()) {
                did.errors.push(hold.reason.clone());
                status = OperationStatus::Held;
            }
            if let Delivery::Waiting { reason } | Delivery::Held { reason } = &report.delivery {
                did.errors.push(reason.clone());
                status = match report.delivery {
                    Delivery::Held { .. } => OperationStatus::Held,
                    _ => OperationStatus::Failed,
                };
            }
        }
        Ok(other) => {
            let refusal = Refusal::of(other, ErrorCode::FabricNotFound);
            status = match refusal.code {
                ErrorCode::RepositoryHeld => OperationStatus::Held,
                _ => OperationStatus::Failed,
            };
            did.errors.push(refusal.message);
        }
        // Called off, or the agent is stopping: a job that was called off stays so.
        Err(refusal) => {
            did.errors.push(refusal.message);
            status = OperationStatus::Failed;
        }
    }
    if let (OperationStatus::Completed, Some(strategy)) = (status, strategy) {
        resolve(&fabric, asker, strategy, &selection, &mut did).await;
    }
    end(&house, &fabric, &job, status, did);
}

/// A job is over, and those who follow the events are told.
fn end(house: &House, fabric: &FabricDoor, job: &Job, status: OperationStatus, did: Did) {
    let kind = match status {
        OperationStatus::Completed => EventKind::SyncCompleted,
        _ => EventKind::SyncFailed,
    };
    let message = did.errors.first().cloned();
    if job.end(status, did) {
        tell(house, fabric, job, kind, message);
    }
}

/// Asked by the lane when a job's turn has come.
fn admission(
    house: &Arc<House>,
    fabric: &FabricDoor,
    job: &Arc<Job>,
) -> Box<dyn FnOnce() -> bool + Send> {
    let (house, fabric, job) = (house.clone(), fabric.clone(), job.clone());
    Box::new(move || {
        let begins = job.begin();
        if begins {
            tell(&house, &fabric, &job, EventKind::SyncStarted, None);
        }
        begins
    })
}

/// Resolves what a strategy can resolve of a fabric's conflicts.
async fn resolve(
    fabric: &FabricDoor,
    asker: Asker,
    strategy: Strategy,
    selection: &Selection,
    did: &mut Did,
) {
    let store = &fabric.lane.store;
    let meant = |id: &ResourceId| {
        // A resource that has no record is known by nothing but its id.
        selection.is_everything()
            || store.record(id).is_ok_and(|it| it.is_some_and(|it| selection.takes(&it.key)))
    };
    let all = store.conflicts().unwrap_or_default();
    let ours = all.iter().filter(|it| it.fabric == *fabric.name() && meant(&it.id));
    let names: Vec<String> = ours.map(|it| it.id.to_string()).collect();
    if names.is_empty() {
        return;
    }
    let decided = Decided { strategy: Some(strategy.model()), fields: BTreeMap::new() };
    let (actor, text, dry_run) = (asker.actor.clone(), None, false);
    let request = Request::Resolve { names, decided, text, actor, dry_run };
    match fabric.lane.ask(request, Some(asker)).await {
        Ok(Answer::Resolved(report)) => {
            for it in report.conflicts.iter().filter(|it| it.resolved) {
                did.statistics.conflicts_resolved += 1;
                did.commit_ids.extend(it.commit_id.map(|it| it.to_string()));
                did.operation_ids.extend(it.operation.map(|it| it.to_string()));
            }
        }
        Ok(other) => did.errors.push(Refusal::of(other, ErrorCode::ConflictNotFound).message),
        Err(refusal) => did.errors.push(refusal.message),
    }
}

/// Calls a sync off whose turn has not come.
#[utoipa::path(post, path = "/api/v1/sync-operations/{id}/cancel", tag = "operations",
    params(("id" = String, Path, description = "The operation's id.")),
    responses((status = 200, description = "It is called off.", body = OperationView)))]
pub(in crate::api) async fn cancel(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
) -> Result<Json<OperationView>, Refusal> {
    let absent =
        || Refusal::new(ErrorCode::OperationNotFound, format!("there is no operation `{id}`"));
    let wanted: OperationId = id.parse().map_err(|_| absent())?;
    if let Some(job) = house.jobs.find(&wanted) {
        caller.may(Scope::Write, Some(&job.fabric))?;
        return match (job.cancel(), job.is_open()) {
            (true, _) => Ok(Json(job.view())),
            (false, true) => Err(Refusal::new(
                ErrorCode::OperationInProgress,
                "it has begun; what it commits can be reverted",
            )),
            (false, false) => Err(Refusal::new(ErrorCode::Refused, "it is over already")),
        };
    }
    for lane in &house.lanes {
        if let Some(found) = lane.store.headline(&wanted)? {
            caller.may(Scope::Write, Some(&found.fabric))?;
            return Err(match found.state.is_open() {
                true => Refusal::new(
                    ErrorCode::OperationInProgress,
                    "it has begun, and ends by itself; what it commits can be reverted",
                ),
                false => Refusal::new(ErrorCode::Refused, "it is over already"),
            });
        }
    }
    Err(absent())
}

/// What is to hold for one resource; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SyncConfig {
    /// Which way changes of it may go.
    #[serde(default)]
    pub sync_direction: Option<DirectionView>,
    /// What happens where two sides changed it.
    #[serde(default)]
    pub conflict_strategy: Option<Strategy>,
}

/// Which way changes of a resource may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = Direction)]
pub(in crate::api) enum DirectionView {
    /// Both ways.
    Bidirectional,
    /// Records and drops change it.
    RecordToGit,
    /// Git changes it.
    GitToRecord,
    /// Nothing is taken.
    Disabled,
}

/// What holds for one resource now.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct SyncConfigView {
    /// The rule's pattern in the settings.
    pub pattern: String,
    /// Which way changes of it may go; none is what the fabric says.
    pub sync_direction: Option<String>,
    /// What happens where two sides changed it; none is what the fabric says.
    pub conflict_strategy: Option<String>,
}

/// Changes what holds for one resource, in the settings of its repository.
#[utoipa::path(patch, path = "/api/v1/resources/{id}/sync-config", tag = "resources",
    request_body = SyncConfig, params(("id" = String, Path, description = "The resource's id.")),
    responses((status = 200, description = "What holds now.", body = SyncConfigView)))]
pub(in crate::api) async fn configure(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Payload(it): Payload<SyncConfig>,
) -> Result<Json<SyncConfigView>, Refusal> {
    let (fabric, record) = find(&house, &caller, &id, Scope::Write)?;
    if it.sync_direction.is_none() && it.conflict_strategy.is_none() {
        return Err(Refusal::unfit("sync_direction", "say what is to change"));
    }
    let direction = it.sync_direction.map(|it| match it {
        DirectionView::Bidirectional => Direction::Bidirectional,
        DirectionView::RecordToGit => Direction::RecordToGit,
        DirectionView::GitToRecord => Direction::GitToRecord,
        DirectionView::Disabled => Direction::Disabled,
    });
    let conflict = it.conflict_strategy.map(Strategy::model);
    let asked = ProgramAsked::Rule(RuleAsked { id: record.id, direction, conflict });
    match fabric.lane.ask_program(asked, asker(&caller)).await? {
        Ok(ProgramAnswer::Rule(it)) => Ok(Json(SyncConfigView {
            pattern: it.pattern,
            sync_direction: it.direction.map(|it| it.to_string()),
            conflict_strategy: it.conflict.map(|it| it.to_string()),
        })),
        other => Err(unexpected(other, ErrorCode::ResourceNotFound)),
    }
}
