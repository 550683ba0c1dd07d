//! Manifests that were pushed into the fabric's own directory, beside `raw/`: moved there by a commit,
//! and taken like any drop.
//!
//! Only what git has and the work tree has as well, in no directory of its own, and only files in
//! which every document is a resource of this fabric. What composes (a kustomization, a chart), what
//! is named by a kustomization beside it, and what somebody is editing stays where it is.

use super::edits::{self, Edits};
use super::lane::Lane;
use super::turn::Cause;
use super::{Error, advance, judging};
use crate::git::Entry;
use crate::model::document::{Intake, Verdict};
use crate::model::ids::{BlobId, CommitId};
use crate::model::operation::Purpose;
use crate::model::path::{RawPath, RepoPath};
use crate::model::rules::{BesideRaw, Mode};
use crate::pipeline::classification;
use bstr::ByteSlice;
use std::sync::Arc;

/// So many entries of the directory are looked at.
const ENTRIES_MAX: usize = 10_000;
/// So many files move with one commit.
const FILES_MAX: usize = 1_000;
/// A larger kustomization is read no further, in bytes.
const KUSTOMIZATION_BYTES_MAX: usize = 1 << 20;
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
/// What tools read from the directory that they are pointed at.
const NAMES_OF_TOOLS: [&str; 7] = [
    "kustomization.yaml",
    "kustomization.yml",
    "Chart.yaml",
    "values.yaml",
    "fleet.yaml",
    "skaffold.yaml",
    "Kptfile",
];
/// Whose resources say how others are put together; the end of a group.
const GROUPS_OF_TOOLS: [&str; 4] =
    ["kustomize.config.k8s.io", "fluxcd.io", "argoproj.io", "kpt.dev"];

/// Moves what lies there into `raw/`; the drops that this made.
pub(super) fn bring_in(lane: &mut Lane, n: usize, cause: &Cause) -> Result<Vec<RawPath>, Error> {
    let it = &lane.fabrics[n];
    let asked = it.rules.beside_raw == BesideRaw::Take && it.rules.mode >= Mode::Ingest;
    if !asked || it.hold.is_some() {
        return Ok(Vec::new());
    }
    advance::follow_on(lane)?;
    let head = lane.head_to_commit_on()?.commit;
    // What was looked at in this commit and stayed, stays.
    if head.is_none() || lane.fabrics[n].looked_beside == head {
        return Ok(Vec::new());
    }
    let (mut files, mut drops, mut waits) = (Vec::new(), Vec::new(), false);
    for found in candidates(lane, n, head)? {
        match found {
            Candidate::Moves { from, to, drop, bytes } => {
                files.extend([(from, None), (to, Some(bytes))]);
                drops.push(drop);
            }
            Candidate::Waits => waits = true,
        }
    }
    if drops.is_empty() {
        lane.fabrics[n].looked_beside = head.filter(|_| !waits);
        return Ok(drops);
    }
    let what = match &drops[..] {
        [one] => one.to_string(),
        more => format!("{} files", more.len()),
    };
    let raw = lane.fabrics[n].fabric.raw();
    let edits = Edits {
        files,
        purpose: Purpose::Ingestion,
        trigger: cause.trigger,
        actor: cause.actor.clone(),
        subject: format!("move {what} into {raw}/"),
        trailers: Vec::new(),
        in_place: false,
    };
    edits::carry_out(lane, n, edits)?;
    Ok(drops)
}

enum Candidate {
    Moves {
        from: RepoPath,
        to: RepoPath,
        drop: RawPath,
        bytes: Arc<[u8]>,
    },
    /// Somebody is editing it.
    Waits,
}

fn candidates(lane: &Lane, n: usize, head: Option<CommitId>) -> Result<Vec<Candidate>, Error> {
    let dir = lane.fabrics[n].fabric.dir.clone();
    let entries = lane.repo.directory(head, &dir, ENTRIES_MAX)?.unwrap_or_default();
    let mut composed = Vec::new();
    for name in KUSTOMIZATIONS {
        if let Some(blob) = lane.repo.blob_at(head, dir.join_fixed(name).as_str().as_bytes())? {
            let mut text = lane.repo.blob(blob)?;
            text.truncate(KUSTOMIZATION_BYTES_MAX);
            composed.push(text);
        }
    }
    let mut found = Vec::new();
    for (name, kind, _) in entries {
        let named = name.to_str().ok().filter(|it| is_manifest(it));
        let (Some(name), Entry::File) = (named, kind) else { continue };
        // It may be meant by a part of the name only; then it stays, which does no harm.
        if composed.iter().any(|it| it.contains_str(name)) {
            continue;
        }
        found.extend(candidate(lane, n, head, name)?);
        if found.len() >= FILES_MAX {
            break;
        }
    }
    Ok(found)
}

fn is_manifest(name: &str) -> bool {
    let ends = [".yaml", ".yml", ".json"].iter().any(|it| name.ends_with(it));
    ends && !name.starts_with('.') && !NAMES_OF_TOOLS.contains(&name)
}

fn candidate(
    lane: &Lane,
    n: usize,
    head: Option<CommitId>,
    name: &str,
) -> Result<Option<Candidate>, Error> {
    let fabric = &lane.fabrics[n].fabric;
    let Ok(from) = fabric.dir.join(name) else { return Ok(None) };
    if lane.fabrics[n].inbox.ignores.why(name.as_bytes(), false).is_some() {
        return Ok(None);
    }
    let Some(blob) = lane.repo.blob_at(head, from.as_str().as_bytes())? else { return Ok(None) };
    let bytes = lane.repo.blob(blob)?;
    if bytes.len() as u64 > lane.settings.bytes_max || !is_ours(lane, n, name, &bytes) {
        return Ok(None);
    }
    // What is left out of the work tree (sparse checkout) is not ours to move.
    let Some(there) = lane.tree.read(&from, lane.settings.bytes_max)? else { return Ok(None) };
    if there != bytes {
        return Ok(Some(Candidate::Waits));
    }
    Ok(place(lane, n, head, name, blob)?.map(|(drop, to)| Candidate::Moves {
        from,
        to,
        drop,
        bytes: Arc::from(bytes),
    }))
}

/// Says whether every document is a resource of the fabric.
fn is_ours(lane: &Lane, n: usize, name: &str, bytes: &[u8]) -> bool {
    let intake = Intake::new(RawPath::new(name), bytes.to_vec());
    let Ok(valid) = judging::validate(&intake, &lane.rules()) else { return false };
    let fabric = &lane.fabrics[n].fabric;
    let judged = classification::classify(valid, fabric, &lane.catalog).judged;
    !judged.is_empty()
        && judged.iter().all(|it| {
            let group = it.document.key.group.as_str();
            matches!(it.verdict, Verdict::Managed { .. })
                && !GROUPS_OF_TOOLS.iter().any(|tool| group.ends_with(tool))
        })
}

/// A name in `raw/` that nothing has: its own, or one with its digest.
fn place(
    lane: &Lane,
    n: usize,
    head: Option<CommitId>,
    name: &str,
    blob: BlobId,
) -> Result<Option<(RawPath, RepoPath)>, Error> {
    let raw = lane.fabrics[n].fabric.raw();
    for name in [name.to_owned(), format!("{}-{name}", blob.short())] {
        let Ok(path) = raw.join(&name) else { continue };
        let in_git = lane.repo.blob_at(head, path.as_str().as_bytes())?.is_some();
        if !in_git && !lane.tree.exists(&path)? {
            return Ok(Some((RawPath::new(name.as_str()), path)));
        }
    }
    Ok(None)
}
