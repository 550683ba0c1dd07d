//! A drop comes in over the wire: into `raw/`, like any other, and its sender may wait for the remote.

use super::blocking;
use crate::api::audit::Became;
use crate::api::auth::Caller;
use crate::api::body::{self, InPath, Query};
use crate::api::house::{FabricDoor, House};
use crate::api::refusal::{ErrorCode, Refusal, ValidationError};
use crate::api::tokens::Scope;
use crate::clock;
use crate::config::units;
use crate::model::digest::Sha256;
use crate::model::operation::{Operation, State as Stands};
use crate::model::path::RawPath;
use crate::model::report::{Action, Ending, FileReport};
use crate::step::Steps;
use crate::worktree::WorkTree;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};

/// Nobody waits longer.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// How often the lane's board is looked at for something new.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How many of the newest operations are searched for a drop.
const SEARCHED_MAX: usize = 1_000;

/// How a drop comes in.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct How {
    /// Its name: it ends in .yaml, .yml or .json, and may lie in directories.
    #[param(example = "vpc-1.yaml")]
    pub name: String,
    /// Answer when it is on the remote, or rejected, or after this long: `30s`, say; 5m at most.
    pub wait: Option<String>,
}

/// Which drop.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct Which {
    /// Where it was put, relative to `raw/`.
    pub path: String,
}

/// What became of a drop.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Intake {
    /// Names the drop: the digest of where it lay and what it held.
    pub drop_id: String,
    /// Whose it is.
    pub fabric: String,
    /// Where it was put, relative to `raw/`.
    pub path: String,
    /// How far it has come.
    pub state: IntakeState,
    /// The operation that took it.
    pub operation_id: Option<String>,
    /// The commit that has it.
    pub commit_id: Option<String>,
    /// The files that it became.
    pub files: Vec<IntakeFile>,
    /// Why it stays, or what its sender may want to know.
    pub problems: Vec<ValidationError>,
}

/// How far a drop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum IntakeState {
    /// It has not been taken yet.
    Waiting,
    /// It stays in `raw/`, for these reasons.
    Rejected,
    /// The branch has it, the remote does not yet.
    Committed,
    /// The remote has it; or the branch, where no remote is configured.
    Done,
    /// It changed nothing.
    Unchanged,
}

/// A file that a drop became.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct IntakeFile {
    /// Where, relative to the top of the repository.
    pub path: String,
    /// The resource's kind.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Which document of the drop, counted from 1.
    pub document: u32,
    /// Its first line, counted from 1.
    pub line: u32,
    /// `created`, `updated`, `unchanged` or `unmanaged`.
    pub action: String,
}

/// Puts a file into a fabric's `raw/`.
#[utoipa::path(post, path = "/api/v1/fabrics/{id}/intake", tag = "intake",
    request_body(content = serde_json::Value, content_type = "application/yaml", description = "The file: YAML, or JSON."),
    params(("id" = String, Path, description = "The fabric's name."), How,
        ("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses(
        (status = 201, description = "It is on the remote, or there was nothing to change.", body = Intake),
        (status = 202, description = "It lies in `raw/`, and is on its way.", body = Intake)))]
pub(in crate::api) async fn put(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Query(how): Query<How>,
    request: Request,
) -> Result<Response, Refusal> {
    let wait = how.wait.as_deref().map(units::parse_duration).transpose();
    let wait = wait.map_err(|why| Refusal::unfit("wait", why))?;
    if wait.is_some_and(|it| it > WAIT_MAX) {
        return Err(Refusal::unfit("wait", "write 5m at most"));
    }
    let fabric = house.fabric(&caller, &id, Scope::Write)?;
    let path = name_of(&how.name)?;
    let bytes_max = usize::try_from(house.settings.intake.bytes_max).unwrap_or(usize::MAX);
    let bytes = body::read(request, bytes_max).await?;
    if bytes.is_empty() {
        return Err(Refusal::new(ErrorCode::ValidationFailed, "the body is empty; send the file")
            .status(StatusCode::UNPROCESSABLE_ENTITY));
    }
    let before = clock::now();
    let (placed, drop_id) = lay_down(&fabric, &caller, path, bytes).await?;
    let mut found = told(&fabric, &placed, &drop_id, before)?;
    if let Some(wait) = wait {
        found = until(&fabric, &placed, &drop_id, before, wait).await?;
    }
    answered(found)
}

/// What became of a drop that was put in.
#[utoipa::path(get, path = "/api/v1/fabrics/{id}/intake/{drop_id}", tag = "intake",
    params(("id" = String, Path, description = "The fabric's name."),
        ("drop_id" = String, Path, description = "As the answer to the drop said."), Which),
    responses((status = 200, description = "How far it has come.", body = Intake)))]
pub(in crate::api) async fn show(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath((id, drop_id)): InPath<(String, String)>,
    Query(which): Query<Which>,
) -> Result<Json<Intake>, Refusal> {
    let fabric = house.fabric(&caller, &id, Scope::Read)?;
    let drop_id =
        Sha256::try_from(drop_id).map_err(|why| Refusal::new(ErrorCode::FileNotFound, why))?;
    let path = RawPath::unescape(&which.path);
    let found = blocking(move || told(&fabric, &path, &drop_id, jiff::Timestamp::MIN));
    Ok(Json(found.await?))
}

/// The name of a drop, which must be one that is taken.
fn name_of(name: &str) -> Result<String, Refusal> {
    let wrong = |why: &str| Err(Refusal::unfit("name", why));
    if ![".yaml", ".yml", ".json"].iter().any(|it| name.ends_with(it)) {
        return wrong("only names that end in .yaml, .yml or .json are taken");
    }
    let aside = ["processed", "errors"].iter().any(|it| name.split('/').next() == Some(it));
    match (crate::model::path::RepoPath::parse(name), aside) {
        (Err(why), _) => wrong(&why.to_string()),
        (Ok(_), true) => {
            Err(Refusal::unfit("name", "the agent keeps processed/ and errors/ for itself"))
        }
        (Ok(it), false) => Ok(it.as_str().to_owned()),
    }
}

/// Writes the drop, whole or not at all; a name that another drop has is not taken from it.
async fn lay_down(
    fabric: &FabricDoor,
    caller: &Caller,
    name: String,
    bytes: Bytes,
) -> Result<(RawPath, Sha256), Refusal> {
    let (raw, lane, actor) =
        (fabric.fabric().fabric.raw(), fabric.lane.clone(), caller.actor.clone());
    blocking(move || {
        let failed = |error: crate::worktree::Error| {
            tracing::warn!(%error, source = ?std::error::Error::source(&error), "a drop cannot be put into raw/");
            Refusal::new(ErrorCode::Unavailable, format!("the drop cannot be put into raw/: {error}"))
        };
        let place_of = |name: &str| {
            raw.join(name).map_err(|why| Refusal::unfit("name", why.to_string()))
        };
        let tree = WorkTree::open(&lane.work_tree, Steps::default()).map_err(failed)?;
        match tree.check_directory(&raw) {
            Ok(true) => (),
            Ok(false) => {
                let message = "the fabric's directories have not been made yet";
                return Err(Refusal::new(ErrorCode::DirectoryNotInitialized, message));
            }
            Err(error) => return Err(failed(error)),
        }
        let (mut name, mut place) = (name.clone(), place_of(&name)?);
        let there = tree.read(&place, u64::from(u32::MAX)).map_err(failed)?;
        if there.is_some_and(|it| it[..] != bytes[..]) {
            let (dir, last) = name.rsplit_once('/').map_or(("", &name[..]), |(dir, last)| (dir, last));
            let mark = Sha256::of(&bytes).short();
            let other = format!("{mark}-{last}");
            name = if dir.is_empty() { other } else { format!("{dir}/{other}") };
            place = place_of(&name)?;
        }
        let path = RawPath::new(name);
        let drop_id = Sha256::of_drop(path.as_bytes(), &bytes);
        lane.droppers.note(drop_id, actor);
        tree.write_all(&[(place, Arc::from(&bytes[..]))]).map_err(failed)?;
        Ok((path, drop_id))
    })
    .await
}

/// Waits until a drop has come to rest, or for so long.
async fn until(
    fabric: &FabricDoor,
    path: &RawPath,
    drop_id: &Sha256,
    since: jiff::Timestamp,
    wait: Duration,
) -> Result<Intake, Refusal> {
    let end = clock::instant() + wait;
    let mut seen = None;
    loop {
        let now = fabric.lane.board.changes();
        if seen != Some(now) {
            seen = Some(now);
            let (fabric, path, drop_id) = (fabric.clone(), path.clone(), *drop_id);
            let found = blocking(move || told(&fabric, &path, &drop_id, since)).await?;
            if !matches!(found.state, IntakeState::Waiting | IntakeState::Committed) {
                return Ok(found);
            }
        }
        if clock::instant() >= end {
            return told(fabric, path, drop_id, since);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn answered(found: Intake) -> Result<Response, Refusal> {
    let became =
        Became { operation_id: found.operation_id.clone(), commit_id: found.commit_id.clone() };
    let status = match found.state {
        IntakeState::Done | IntakeState::Unchanged => StatusCode::CREATED,
        IntakeState::Waiting | IntakeState::Committed => StatusCode::ACCEPTED,
        IntakeState::Rejected => {
            let message = format!("{} is rejected, and stays in raw/ with a report", found.path);
            let mut refusal = Refusal::new(ErrorCode::ValidationFailed, message)
                .status(StatusCode::UNPROCESSABLE_ENTITY)
                .suggest("mend the file and send it again under the same name");
            refusal.details.validation_errors = found.problems;
            return Err(refusal);
        }
    };
    let mut response = (status, Json(found)).into_response();
    response.extensions_mut().insert(became);
    Ok(response)
}

/// How far a drop has come, as the store has it; nothing older than `since` counts.
fn told(
    fabric: &FabricDoor,
    path: &RawPath,
    drop_id: &Sha256,
    since: jiff::Timestamp,
) -> Result<Intake, Refusal> {
    let (store, name) = (&fabric.lane.store, fabric.name());
    let mut found = Intake {
        drop_id: drop_id.to_string(),
        fabric: name.to_string(),
        path: path.to_string(),
        state: IntakeState::Waiting,
        operation_id: None,
        commit_id: None,
        files: Vec::new(),
        problems: Vec::new(),
    };
    if let Some(it) = store.reject(name, path)?.filter(|it| it.drop_id == *drop_id) {
        found.state = IntakeState::Rejected;
        found.problems = it.problems.iter().map(ValidationError::from).collect();
        return Ok(found);
    }
    for operation in store.operations().take(SEARCHED_MAX) {
        let operation = operation?;
        // Ids sort by time, so all that follow are older.
        if operation.started_at < since {
            break;
        }
        let took = operation.taken.iter().any(|it| it.drop_id == *drop_id);
        let report = operation.files.iter().find(|it| it.path == *path);
        if let (true, Some(report)) = (took, report) {
            fill(&mut found, &operation, report);
            break;
        }
    }
    Ok(found)
}

fn fill(found: &mut Intake, operation: &Operation, report: &FileReport) {
    found.state = match (&operation.state, report.ending) {
        (_, Ending::Rejected) => IntakeState::Rejected,
        (Stands::Pushed { .. } | Stands::Local { .. }, _) => IntakeState::Done,
        (Stands::Committed { .. }, _) => IntakeState::Committed,
        (Stands::Done, _) => IntakeState::Unchanged,
        (Stands::Planned | Stands::Applied | Stands::Undone { .. } | Stands::Held { .. }, _) => {
            return;
        }
    };
    found.operation_id = Some(operation.id.to_string());
    found.commit_id = operation.state.commit_id().map(|it| it.to_string());
    found.problems = report.problems.iter().map(ValidationError::from).collect();
    let files = report.documents.iter().map(|it| IntakeFile {
        path: it.target.to_string(),
        kind: it.kind.clone(),
        namespace: it.namespace.clone(),
        name: it.name.clone(),
        document: it.document,
        line: it.line,
        action: match it.action {
            Action::Created => "created",
            Action::Updated => "updated",
            Action::Unchanged => "unchanged",
            Action::Unmanaged => "unmanaged",
        }
        .to_owned(),
    });
    found.files = files.collect();
}
