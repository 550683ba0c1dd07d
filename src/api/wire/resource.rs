//! Resources, as clients see them.

use crate::model::record::{Record, Source};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// One resource on record.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Resource)]
pub struct ResourceView {
    /// The same after every rebuild.
    #[schema(format = "uuid")]
    pub id: String,
    /// Whose it is.
    pub fabric: String,
    /// Group and version as written.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// What git holds.
    pub desired: Desired,
    /// Where it came from; none where it was found in the tree.
    pub source: Option<SourceView>,
    /// Which way changes of it may go.
    pub sync_direction: String,
    /// Whether two sides changed it.
    pub conflict_status: ConflictStatus,
}

/// What git holds of a resource.
#[derive(Debug, Serialize, ToSchema)]
pub struct Desired {
    /// Its file, relative to the top of the repository.
    pub path: String,
    /// The commit that brought this content; none where that is not known any more.
    pub commit: Option<String>,
    /// What git calls the content; the ETag as well.
    pub blob_id: String,
    /// SHA-256 of the file.
    pub sha256: String,
    /// The file's text; only where one resource is asked for.
    pub content: Option<String>,
}

/// Where a resource came from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Source)]
pub struct SourceView {
    /// The drop, relative to `raw/`.
    pub path: String,
    /// Which document of it, counted from 1.
    pub document: u32,
    /// Its first line, counted from 1.
    pub line: u32,
    /// The operation that filed it; none where a person or another tool did.
    pub operation: Option<String>,
}

/// Whether two sides changed a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConflictStatus {
    /// No.
    None,
    /// Yes, and it waits for a person.
    Detected,
}

impl From<Source> for SourceView {
    fn from(it: Source) -> SourceView {
        SourceView {
            path: it.path.to_string(),
            document: it.document,
            line: it.line,
            operation: it.operation.map(|it| it.to_string()),
        }
    }
}

impl ResourceView {
    pub(in crate::api) fn of(it: Record, direction: String, conflict: bool) -> ResourceView {
        ResourceView {
            id: it.id.to_string(),
            fabric: it.fabric.to_string(),
            api_version: it.api_version,
            kind: it.key.kind,
            namespace: it.key.namespace,
            name: it.key.name,
            labels: it.labels,
            annotations: it.annotations,
            desired: Desired {
                path: it.path.to_string(),
                commit: it.commit_id.map(|it| it.to_string()),
                blob_id: it.blob_id.to_string(),
                sha256: it.sha256.to_string(),
                content: None,
            },
            source: it.source.map(SourceView::from),
            sync_direction: direction,
            conflict_status: match conflict {
                true => ConflictStatus::Detected,
                false => ConflictStatus::None,
            },
        }
    }
}
