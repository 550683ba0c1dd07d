//! What the archive remembers of where resources came from, for a store that forgot.

use super::history::COMMITS_MAX;
use super::lane::Lane;
use super::{Error, message};
use crate::model::ids::OperationId;
use crate::model::key::ResourceId;
use crate::model::path::{RawPath, RepoPath};
use crate::model::record::{Record, Source};
use crate::pipeline::validation;
use std::collections::BTreeMap;

/// A commit names its first sources only; the archive knows every drop, and a drop read again says
/// which resources came in it.
pub(super) fn sources_from_archive(
    lane: &Lane,
    n: usize,
    records: &mut [Record],
) -> Result<(), Error> {
    let fabric = &lane.fabrics[n].fabric;
    if records.iter().all(|it| it.source.is_some()) {
        return Ok(());
    }
    let Some(tip) = lane.repo.tip(&fabric.archive_ref())? else { return Ok(()) };
    let mut missing: BTreeMap<ResourceId, usize> = BTreeMap::new();
    for (at, it) in records.iter().enumerate().filter(|(_, it)| it.source.is_none()) {
        missing.insert(it.id, at);
    }
    // The newest drop of a resource is where it came from, whoever edited or moved it since.
    let mut found: BTreeMap<usize, usize> = BTreeMap::new();
    let mut names: BTreeMap<String, (usize, RawPath, Option<OperationId>)> = BTreeMap::new();
    for (age, commit) in lane.repo.log(tip, None, COMMITS_MAX)?.into_iter().enumerate() {
        let operation = message::trailers(&commit.message).operation;
        for (id, path) in commit.message.lines().filter_map(|it| it.split_once(' ')) {
            if id.len() == 64 {
                let entry = (age, RawPath::unescape(path), operation);
                names.entry(id.to_owned()).or_insert(entry);
            }
        }
    }
    for (path, blob) in lane.repo.files_below(tip, &RepoPath::top())? {
        let name = path.split(|it| *it == b'/').nth(1);
        let Some(drop_id) = name.and_then(|it| std::str::from_utf8(it.get(..64)?).ok()) else {
            continue;
        };
        let Some((age, raw_path, operation)) = names.get(drop_id) else { continue };
        let intake = crate::model::document::Intake::new(raw_path.clone(), lane.repo.blob(blob)?);
        let Ok(valid) = validation::validate(intake, &lane.rules()) else { continue };
        for it in valid.documents {
            let Some(at) = missing.get(&ResourceId::of(&fabric.name, &it.key)) else { continue };
            if found.get(at).is_none_or(|newest| age < newest) {
                found.insert(*at, *age);
                records[*at].source = Some(Source {
                    path: raw_path.clone(),
                    document: it.index,
                    line: it.line,
                    operation: *operation,
                });
            }
        }
    }
    Ok(())
}
