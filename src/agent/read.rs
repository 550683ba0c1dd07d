//! Managed files of a tree, read one after the other and judged on all cores, and the records of them.

use super::Error;
use super::lane::Lane;
use crate::cores;
use crate::model::digest::Sha256;
use crate::model::document::Document;
use crate::model::fabric::FabricName;
use crate::model::ids::{BlobId, CommitId};
use crate::model::key::ResourceId;
use crate::model::path::RepoPath;
use crate::model::problem::Problem;
use crate::model::record::{Record, Source};
use crate::pipeline::validation;
use std::convert::Infallible;

/// So many files are read and judged together.
pub(super) const TOGETHER_MAX: usize = 256;

/// A file of the tree, as it was read.
pub(super) struct Read {
    pub blob: BlobId,
    pub bytes: Vec<u8>,
    /// What it holds, or what is wrong with it.
    pub document: Result<Document, Vec<Problem>>,
}

/// Reads files, and judges them on all cores.
pub(super) fn all(
    lane: &Lane,
    blobs: impl Iterator<Item = Option<BlobId>>,
) -> Result<Vec<Option<Read>>, Error> {
    let fetch = |it: Option<BlobId>| it.map(|it| Ok((it, lane.repo.blob(it)?))).transpose();
    let fetched: Vec<Option<(BlobId, Vec<u8>)>> = blobs.map(fetch).collect::<Result<_, Error>>()?;
    let limits = &lane.settings.limits;
    let judged = cores::on_all(&fetched, |it| {
        let judge = |it: &(BlobId, Vec<u8>)| validation::read_managed(&it.1, limits);
        Ok::<_, Infallible>(it.as_ref().map(judge))
    });
    let Ok(judged) = judged;
    let together = |((blob, bytes), document)| Read { blob, bytes, document };
    Ok(fetched.into_iter().zip(judged).map(|(it, of)| it.zip(of).map(together)).collect())
}

/// Makes the record of a document as it stands in the tree.
pub(super) fn record_of(
    fabric: FabricName,
    document: &Document,
    path: RepoPath,
    blob_id: BlobId,
    commit_id: Option<CommitId>,
    source: Option<Source>,
) -> Record {
    Record {
        id: ResourceId::of(&fabric, &document.key),
        fabric,
        key: document.key.clone(),
        api_version: document.api_version.clone(),
        path,
        blob_id,
        sha256: Sha256::of(document.text.as_bytes()),
        content: document.content,
        commit_id,
        labels: document.labels.clone(),
        annotations: document.annotations.clone(),
        source,
        modifications: Vec::new(),
        actual: None,
    }
}
