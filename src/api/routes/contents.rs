//! Files by their path, as the last commit has them; written where a fabric has them.

use super::blocking;
use super::edits::expected;
use crate::agent::files::{Expected, FileEdit};
use crate::agent::programs::{ProgramAnswer, ProgramAsked};
use crate::api::audit::Became;
use crate::api::auth::Caller;
use crate::api::body::{InPath, Maybe, Payload, Query};
use crate::api::house::{FabricDoor, House, LaneDoor, asker, unexpected};
use crate::api::refusal::{ErrorCode, Refusal};
use crate::api::tokens::Scope;
use crate::api::wire::change::DeliveryView;
use crate::model::path::{RepoPath, escape};
use axum::Json;
use axum::extract::State;
use axum::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

/// A larger file is not handed out, in bytes.
const FILE_BYTES_MAX: usize = 64 << 20;
/// So many entries of a directory are listed.
const ENTRIES_MAX: usize = 10_000;

/// How a file is handed out.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct How {
    /// The bytes themselves instead of JSON.
    pub raw: Option<bool>,
}

/// A file, or a directory.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Contents {
    /// Where, relative to the top of the repository.
    pub path: String,
    /// `file` or `directory`.
    #[serde(rename = "type")]
    pub kind: EntryKind,
    /// The commit that was looked at; none on a branch without one.
    pub commit_id: Option<String>,
    /// Of a file: what git calls its content.
    pub blob_id: Option<String>,
    /// Of a file: its size in bytes.
    pub size: Option<u64>,
    /// Of a file: its content, in this encoding.
    pub encoding: Option<Encoding>,
    /// Of a file: its content.
    pub content: Option<String>,
    /// Of a directory: what lies in it.
    pub entries: Option<Vec<DirectoryEntry>>,
}

/// What lies in a directory.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct DirectoryEntry {
    /// Its name; what is no text is escaped.
    pub name: String,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: EntryKind,
    /// What git calls its content.
    pub id: String,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum EntryKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A link, or another repository.
    Other,
}

/// How a content is written in JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum Encoding {
    /// As it is.
    #[default]
    Utf8,
    /// As base64.
    Base64,
}

/// What a file is to hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct ContentsDraft {
    /// All of it.
    pub content: String,
    /// How it is written here.
    #[serde(default)]
    pub encoding: Encoding,
    /// The first line of the commit; none says what is done. Files of `managed/` have their own.
    #[serde(default)]
    pub message: Option<String>,
}

/// How a file is removed.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ContentsRemoval)]
pub(in crate::api) struct Removal {
    /// The first line of the commit; none says what is done.
    #[serde(default)]
    pub message: Option<String>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ContentsChange {
    /// Where.
    pub path: String,
    /// What it holds now; none where it is gone.
    pub blob_id: Option<String>,
    /// The operation; none where nothing changed.
    pub operation_id: Option<String>,
    /// The commit; none where nothing changed.
    pub commit_id: Option<String>,
    /// How far it went.
    pub delivery: DeliveryView,
}

/// A file or a directory of the last commit.
#[utoipa::path(get, path = "/api/v1/repositories/{id}/contents/{*path}", tag = "repositories",
    params(("id" = String, Path, description = "The repository's id, or the name of its directory."),
        ("path" = String, Path, description = "Relative to its top; `.` is the top."), How),
    responses((status = 200, description = "The file, or what lies in the directory.", body = Contents)))]
pub(in crate::api) async fn show(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath((id, path)): InPath<(String, String)>,
    Query(how): Query<How>,
) -> Result<Response, Refusal> {
    let lane = house.lane(&id)?.clone();
    let path = RepoPath::parse(&path).map_err(|it| Refusal::unfit("path", it.to_string()))?;
    may_see(&caller, &lane, &path)?;
    let found = blocking(move || look(&lane, &path)).await?;
    let Some((found, bytes)) = found else {
        return Err(Refusal::new(
            ErrorCode::FileNotFound,
            "there is no such file in the last commit",
        ));
    };
    let etag = found.blob_id.as_ref().map(|it| format!("\"{it}\""));
    let mut response = match (how.raw.unwrap_or(false), bytes) {
        (true, Some(bytes)) => {
            // Never shown by a browser as a page of ours.
            let kind = (CONTENT_TYPE, "application/octet-stream");
            ([kind, (CONTENT_DISPOSITION, "attachment")], bytes.to_vec()).into_response()
        }
        (true, None) => return Err(Refusal::unfit("raw", "a directory has no bytes")),
        (false, _) => Json(found).into_response(),
    };
    if let Some(etag) = etag.and_then(|it| it.parse().ok()) {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

/// Who is kept to some fabrics sees what lies in those.
fn may_see(caller: &Caller, lane: &LaneDoor, path: &RepoPath) -> Result<(), Refusal> {
    let Some(fabrics) = &caller.fabrics else { return Ok(()) };
    let shown = lane.board.read();
    let mut within = shown.fabrics.iter().filter(|it| path.is_within(&it.fabric.dir));
    match within.any(|it| fabrics.contains(&it.fabric.name)) {
        true => Ok(()),
        false => Err(Refusal::new(
            ErrorCode::RepositoryAccessDenied,
            format!("{} may not reach {path}", caller.actor),
        )),
    }
}

type Found = Option<(Contents, Option<Arc<[u8]>>)>;

fn look(lane: &LaneDoor, path: &RepoPath) -> Result<Found, Refusal> {
    let commit = lane.reader.with(|repo| Ok(repo.head()?.commit))?;
    let blob = lane.reader.with(|repo| repo.blob_at(commit, path.as_str().as_bytes()))?;
    let commit_id = commit.map(|it| it.to_string());
    let path_text = path.to_string();
    if let Some(blob) = blob.filter(|_| !path.is_top()) {
        let bytes = lane.reader.blob(blob)?;
        if bytes.len() > FILE_BYTES_MAX {
            let message =
                format!("{path} has more than {FILE_BYTES_MAX} bytes; clone the repository");
            return Err(Refusal::new(ErrorCode::PayloadTooLarge, message));
        }
        let (encoding, content) = match std::str::from_utf8(&bytes) {
            Ok(text) => (Encoding::Utf8, text.to_owned()),
            Err(_) => (Encoding::Base64, BASE64.encode(&bytes)),
        };
        let contents = Contents {
            path: path_text,
            kind: EntryKind::File,
            commit_id,
            blob_id: Some(blob.to_string()),
            size: Some(bytes.len() as u64),
            encoding: Some(encoding),
            content: Some(content),
            entries: None,
        };
        return Ok(Some((contents, Some(bytes))));
    }
    let listed = lane.reader.with(|repo| repo.directory(commit, path, ENTRIES_MAX))?;
    let entries = listed.map(|it| {
        let entry = |(name, kind, id): (bstr::BString, crate::git::Entry, String)| DirectoryEntry {
            name: escape(&name),
            kind: match kind {
                crate::git::Entry::File => EntryKind::File,
                crate::git::Entry::Directory => EntryKind::Directory,
                crate::git::Entry::Other => EntryKind::Other,
            },
            id,
        };
        it.into_iter().map(entry).collect()
    });
    Ok(entries.map(|entries| {
        let contents = Contents {
            path: path_text,
            kind: EntryKind::Directory,
            commit_id,
            blob_id: None,
            size: None,
            encoding: None,
            content: None,
            entries: Some(entries),
        };
        (contents, None)
    }))
}

/// Writes a file by a commit. Files of `managed/` are judged as resources.
#[utoipa::path(put, path = "/api/v1/repositories/{id}/contents/{*path}", tag = "repositories",
    request_body = ContentsDraft,
    params(("id" = String, Path, description = "The repository's id, or the name of its directory."),
        ("path" = String, Path, description = "Relative to its top, within a fabric."),
        ("If-Match" = Option<String>, Header, description = "The ETag that was seen; 412 where it is another now."),
        ("If-None-Match" = Option<String>, Header, description = "`*` only makes new files.")),
    responses((status = 200, description = "It is replaced.", body = ContentsChange),
        (status = 201, description = "It is made.", body = ContentsChange)))]
pub(in crate::api) async fn write(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath((id, path)): InPath<(String, String)>,
    headers: HeaderMap,
    Payload(it): Payload<ContentsDraft>,
) -> Result<Response, Refusal> {
    let fabric = place(&house, &caller, &id, &path)?;
    let bytes = match it.encoding {
        Encoding::Utf8 => it.content.into_bytes(),
        Encoding::Base64 => BASE64
            .decode(it.content.as_bytes())
            .map_err(|why| Refusal::unfit("content", format!("this is no base64: {why}")))?,
    };
    edit(fabric, &caller, &headers, Some(bytes), it.message).await
}

/// Removes a file by a commit.
#[utoipa::path(delete, path = "/api/v1/repositories/{id}/contents/{*path}", tag = "repositories",
    request_body = Option<Removal>,
    params(("id" = String, Path, description = "The repository's id, or the name of its directory."),
        ("path" = String, Path, description = "Relative to its top, within a fabric."),
        ("If-Match" = Option<String>, Header, description = "The ETag that was seen; 412 where it is another now.")),
    responses((status = 200, description = "It is gone.", body = ContentsChange)))]
pub(in crate::api) async fn remove(
    State(house): State<Arc<House>>,
    caller: Caller,
    InPath((id, path)): InPath<(String, String)>,
    headers: HeaderMap,
    Maybe(it): Maybe<Removal>,
) -> Result<Response, Refusal> {
    let fabric = place(&house, &caller, &id, &path)?;
    edit(fabric, &caller, &headers, None, it.message).await
}

/// The fabric that a path lies in; nothing outside of one is written.
fn place(
    house: &House,
    caller: &Caller,
    id: &str,
    path: &str,
) -> Result<(FabricDoor, RepoPath), Refusal> {
    let lane = house.lane(id)?;
    let path = RepoPath::parse(path).map_err(|it| Refusal::unfit("path", it.to_string()))?;
    let shown = lane.board.read();
    let within = shown.fabrics.iter().find(|it| path.is_within(&it.fabric.dir));
    let Some(within) = within else {
        let message = format!("{path} lies in no fabric, and nothing else is written");
        return Err(Refusal::new(ErrorCode::RepositoryAccessDenied, message));
    };
    let fabric = house.fabric(caller, within.fabric.name.as_str(), Scope::Write)?;
    Ok((fabric, path))
}

async fn edit(
    (fabric, path): (FabricDoor, RepoPath),
    caller: &Caller,
    headers: &HeaderMap,
    bytes: Option<Vec<u8>>,
    message: Option<String>,
) -> Result<Response, Refusal> {
    let only_new = headers.get(IF_NONE_MATCH).is_some_and(|it| it.as_bytes() == b"*");
    let expected = match (expected(headers)?, only_new) {
        (Some(it), _) => Some(Expected::Blob(it)),
        (None, true) => Some(Expected::Absent),
        (None, false) => None,
    };
    let (actor, name) = (caller.actor.clone(), fabric.name().clone());
    let asked =
        ProgramAsked::File(FileEdit { fabric: name, path, bytes, expected, message, actor });
    let change = match fabric.lane.ask_program(asked, asker(caller)).await? {
        Ok(ProgramAnswer::File(it)) => it,
        other => {
            let refusal = unexpected(other, ErrorCode::FileNotFound);
            return Err(match (only_new, refusal.code) {
                (true, ErrorCode::AlreadyExists) => {
                    Refusal::new(ErrorCode::PreconditionFailed, refusal.message)
                }
                _ => refusal,
            });
        }
    };
    let status = if change.existed { StatusCode::OK } else { StatusCode::CREATED };
    let view = ContentsChange {
        path: change.path.to_string(),
        blob_id: change.blob_id.map(|it| it.to_string()),
        operation_id: change.operation.map(|it| it.to_string()),
        commit_id: change.commit_id.map(|it| it.to_string()),
        delivery: DeliveryView::from(&change.delivery),
    };
    let became =
        Became { operation_id: view.operation_id.clone(), commit_id: view.commit_id.clone() };
    let etag = view.blob_id.as_ref().and_then(|it| format!("\"{it}\"").parse().ok());
    let mut response = (status, Json(view)).into_response();
    if let Some(etag) = etag {
        response.headers_mut().insert(ETAG, etag);
    }
    response.extensions_mut().insert(became);
    Ok(response)
}
