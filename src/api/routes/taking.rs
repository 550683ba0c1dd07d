//! A fabric's drops are taken now, and its directories made or repaired.

use super::insight::{StructureReport, structure};
use super::syncing::listed;
use crate::agent::programs::{ProgramAnswer, ProgramAsked};
use crate::agent::take::{InitializeAsked, TakeAsked};
use crate::api::audit::Became;
use crate::api::auth::Caller;
use crate::api::body::{InPath, Maybe};
use crate::api::house::{House, asker, unexpected};
use crate::api::refusal::{ErrorCode, Refusal, ValidationError};
use crate::api::tokens::Scope;
use crate::api::wire::change::DeliveryView;
use crate::api::wire::operation::Stage;
use crate::api::wire::word;
use crate::model::fabric::Layout;
use crate::model::report::{Ending, IngestReport};
use crate::model::selection::Selection;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

/// Which drops are taken, and how.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct IngestRequest {
    /// Only drops that lie so in `raw/`, in gitignore syntax (`*.yaml`, `team/`, `!draft.yaml`); none
    /// are all. The others wait as they are.
    #[schema(max_items = 100)]
    pub file_patterns: Vec<String>,
    /// A field that the kind's schema does not allow rejects the file.
    pub validation_strict: bool,
    /// Originals are kept as the settings say; else not at all.
    pub archive_processed: bool,
    /// The first line of the commit; none says what is done.
    pub commit_message: Option<String>,
    /// What is filed is committed; `false` goes only with `dry_run`.
    pub auto_commit: bool,
    /// Only say what would happen.
    pub dry_run: bool,
}

impl Default for IngestRequest {
    fn default() -> IngestRequest {
        IngestRequest {
            file_patterns: Vec::new(),
            validation_strict: false,
            archive_processed: true,
            commit_message: None,
            auto_commit: true,
            dry_run: false,
        }
    }
}

/// What became of the drops.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct IngestOutcome {
    /// In numbers.
    pub summary: IngestSummary,
    /// Drop by drop.
    pub results: IngestResults,
    /// What each stage did.
    pub stages: Vec<Stage>,
    /// The operation; none where there was nothing to do.
    pub operation_id: Option<String>,
    /// The commit; none where nothing changed.
    pub commit_info: Option<MadeCommit>,
    /// How far it went.
    pub delivery: DeliveryView,
    /// Nothing was changed: this is what would happen.
    pub dry_run: bool,
}

/// Drops in numbers.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::api) struct IngestSummary {
    /// Looked at.
    pub files: u64,
    /// Taken.
    pub processed: u64,
    /// Rejected.
    pub errored: u64,
    /// Resources in them.
    pub resources: u64,
}

/// Drops, one by one.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(in crate::api) struct IngestResults {
    /// Those that were taken.
    pub processed_files: Vec<ProcessedFile>,
    /// Those that stay.
    pub errored_files: Vec<ErroredFile>,
}

/// One managed file that came of a drop.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ProcessedFile {
    /// The drop, relative to `raw/`.
    pub source_file: String,
    /// The files it became; none of a drop without documents.
    pub target_files: Vec<String>,
    /// `managed`, `unmanaged` or `no_documents`.
    pub operation: String,
    /// `Kind namespace/name` of each.
    pub resources: Vec<String>,
}

/// One drop that stays.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ErroredFile {
    /// The drop, relative to `raw/`.
    pub source_file: String,
    /// Why.
    pub errors: Vec<ValidationError>,
}

/// A commit.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Commit)]
pub(in crate::api) struct MadeCommit {
    /// Its id.
    pub commit_id: String,
}

/// Takes what lies in a fabric's `raw/` now.
#[utoipa::path(post, path = "/api/v1/fabrics/{id}/gitops-directories/ingest", tag = "fabrics",
    request_body = Option<IngestRequest>, params(("id" = String, Path, description = "The fabric's name."),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses((status = 200, description = "What became of the drops.", body = IngestOutcome)))]
pub(in crate::api) async fn ingest(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Maybe(it): Maybe<IngestRequest>,
) -> Result<Response, Refusal> {
    let fabric = house.fabric(&caller, &id, Scope::Write)?;
    if !it.auto_commit && !it.dry_run {
        let why = "what is filed is committed at once; to look only, set dry_run";
        return Err(Refusal::unfit("auto_commit", why));
    }
    let asked = ProgramAsked::Take(TakeAsked {
        fabric: fabric.name().clone(),
        strict: it.validation_strict,
        archive: it.archive_processed,
        selection: Selection {
            files: listed("file_patterns", it.file_patterns)?,
            ..Selection::default()
        },
        message: it.commit_message,
        dry_run: it.dry_run,
    });
    let report = match fabric.lane.ask_program(asked, asker(&caller)).await? {
        Ok(ProgramAnswer::Taken(it)) => it,
        other => return Err(unexpected(other, ErrorCode::FabricNotFound)),
    };
    let outcome = outcome(report);
    let commit_id = outcome.commit_info.as_ref().map(|it| it.commit_id.clone());
    let became = Became { operation_id: outcome.operation_id.clone(), commit_id };
    let mut response = Json(outcome).into_response();
    response.extensions_mut().insert(became);
    Ok(response)
}

pub(super) fn outcome(report: IngestReport) -> IngestOutcome {
    let mut outcome = IngestOutcome {
        summary: IngestSummary::default(),
        results: IngestResults::default(),
        stages: report.stages.into_iter().map(Stage::from).collect(),
        operation_id: report.operation.map(|it| it.to_string()),
        commit_info: report.commit_id.map(|it| MadeCommit { commit_id: it.to_string() }),
        delivery: DeliveryView::from(&report.delivery),
        dry_run: report.dry_run,
    };
    for file in report.files {
        outcome.summary.files += 1;
        if file.ending == Ending::Rejected {
            outcome.summary.errored += 1;
            let errors = file.problems.iter().map(ValidationError::from).collect();
            let source_file = file.path.to_string();
            outcome.results.errored_files.push(ErroredFile { source_file, errors });
            continue;
        }
        outcome.summary.processed += 1;
        outcome.summary.resources += file.documents.len() as u64;
        let documents = file.documents.iter();
        outcome.results.processed_files.push(ProcessedFile {
            source_file: file.path.to_string(),
            target_files: documents.clone().map(|it| it.target.to_string()).collect(),
            operation: word(&file.ending),
            resources: documents
                .map(|it| format!("{} {}/{}", it.kind, it.namespace, it.name))
                .collect(),
        });
    }
    outcome
}

/// How directories are made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct InitializeRequest {
    /// Their READMEs are written anew, whatever they say; files of people are never removed.
    pub force_recreate: bool,
    /// The commit before is kept under a ref.
    pub backup_existing: bool,
    /// Where the files of new resources lie from here on.
    pub structure_template: Template,
    /// Git keeps no empty directory, so `false` is refused.
    pub create_readme_files: bool,
    /// The first line of the commit; none says what is done.
    pub initial_commit_message: Option<String>,
}

impl Default for InitializeRequest {
    fn default() -> InitializeRequest {
        InitializeRequest {
            force_recreate: false,
            backup_existing: false,
            structure_template: Template::Standard,
            create_readme_files: true,
            initial_commit_message: None,
        }
    }
}

/// Where the files of new resources lie below `managed/`; what has a file keeps it.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum Template {
    /// As the settings say.
    Standard,
    /// A directory for each kind.
    Flat,
    /// In one of 256 directories of each kind.
    Sharded,
}

/// What was made.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Initialized {
    /// The operation; none where nothing was missing.
    pub operation_id: Option<String>,
    /// The files that were written.
    pub directories_created: Vec<String>,
    /// The ref that keeps the commit before.
    pub backup_location: Option<String>,
    /// The commit; none where nothing was missing.
    pub commit_info: Option<MadeCommit>,
    /// How the directories are now.
    pub structure_validation: StructureReport,
    /// How far it went.
    pub delivery: DeliveryView,
}

/// Makes or repairs a fabric's directories, in one commit.
#[utoipa::path(post, path = "/api/v1/fabrics/{id}/gitops-directories/initialize", tag = "fabrics",
    request_body = Option<InitializeRequest>, params(("id" = String, Path, description = "The fabric's name."),
        ("Idempotency-Key" = Option<String>, Header, description = "Done once, however often it is sent.")),
    responses((status = 200, description = "What was made.", body = Initialized)))]
pub(in crate::api) async fn initialize(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath(id): InPath<String>,
    Maybe(it): Maybe<InitializeRequest>,
) -> Result<Response, Refusal> {
    let fabric = house.fabric(&caller, &id, Scope::Admin)?;
    if !it.create_readme_files {
        let why = "git keeps no empty directory, so each has a README.md";
        return Err(Refusal::unfit("create_readme_files", why));
    }
    let asked = ProgramAsked::Initialize(InitializeAsked {
        fabric: fabric.name().clone(),
        force_recreate: it.force_recreate,
        backup_existing: it.backup_existing,
        layout: match it.structure_template {
            Template::Standard => None,
            Template::Flat => Some(Layout::Flat),
            Template::Sharded => Some(Layout::Sharded),
        },
        message: it.initial_commit_message,
        actor: caller.actor.clone(),
    });
    let report = match fabric.lane.ask_program(asked, asker(&caller)).await? {
        Ok(ProgramAnswer::Initialized(it)) => it,
        other => return Err(unexpected(other, ErrorCode::FabricNotFound)),
    };
    let now = super::blocking(move || structure(&fabric)).await?;
    let made = Initialized {
        operation_id: report.operation.map(|it| it.to_string()),
        directories_created: report
            .files
            .iter()
            .filter_map(|it| it.parent())
            .map(|it| it.to_string())
            .collect(),
        backup_location: report.backup,
        commit_info: report.commit_id.map(|it| MadeCommit { commit_id: it.to_string() }),
        structure_validation: now,
        delivery: DeliveryView::from(&report.delivery),
    };
    let commit_id = report.commit_id.map(|it| it.to_string());
    let became = Became { operation_id: made.operation_id.clone(), commit_id };
    let mut response = Json(made).into_response();
    response.extensions_mut().insert(became);
    Ok(response)
}
