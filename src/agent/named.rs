//! Names in resources against the managed set: those that lead nowhere, and those that are left
//! behind when a resource goes.

use super::Error;
use super::lane::Lane;
use crate::catalog::references::may_name;
use crate::model::document::{Classified, Document};
use crate::model::fabric::Fabric;
use crate::model::ids::CommitId;
use crate::model::key::{Key, ResourceId};
use crate::model::record::Record;
use crate::pipeline::{references, validation};
use std::collections::{BTreeSet, HashMap};

/// So many files are read to find who still names what goes.
const FILES_READ_MAX: usize = 20_000;
/// So many of those who do are told.
const TOLD_MAX: usize = 20;

/// Adds a warning for each name in the drops that leads nowhere.
pub(super) fn warn_of_missing(
    lane: &Lane,
    fabric: &Fabric,
    head: Option<CommitId>,
    classified: &mut [Classified],
) -> Result<(), Error> {
    let mut managed = Managed { lane, fabric, head, seen: HashMap::new(), kept: HashMap::new() };
    references::warn(classified, &mut managed)
}

/// The managed set of a fabric; what was asked once is remembered for the turn.
struct Managed<'a> {
    lane: &'a Lane,
    fabric: &'a Fabric,
    head: Option<CommitId>,
    seen: HashMap<Key, Option<Vec<String>>>,
    kept: HashMap<(String, String), bool>,
}

impl references::Managed for Managed<'_> {
    type Error = Error;

    fn parts(&mut self, key: &Key) -> Result<Option<Vec<String>>, Error> {
        if let Some(known) = self.seen.get(key) {
            return Ok(known.clone());
        }
        let record = self.lane.store.record(&ResourceId::of(&self.fabric.name, key))?;
        let document = record.map(|it| read(self.lane, &it)).transpose()?;
        // A file that cannot be read is there all the same, with nothing to name in it.
        let parts = document.map(|it| it.map(|it| it.parts).unwrap_or_default());
        self.seen.insert(key.clone(), parts.clone());
        Ok(parts)
    }

    fn keeps(&mut self, group: &str, kind: &str) -> Result<bool, Error> {
        let Some(entry) = self.lane.catalog.known(group, kind) else { return Ok(false) };
        let pair = (group.to_owned(), kind.to_owned());
        if let Some(known) = self.kept.get(&pair) {
            return Ok(*known);
        }
        let kept = match self.fabric.managed().join(&entry.directory()) {
            Ok(dir) => self.lane.repo.has_directory(self.head, &dir)?,
            Err(_) => false,
        };
        self.kept.insert(pair, kept);
        Ok(kept)
    }
}

fn read(lane: &Lane, record: &Record) -> Result<Option<Document>, Error> {
    let bytes = lane.repo.blob(record.blob_id)?;
    Ok(validation::read_managed(&bytes, &lane.settings.limits).ok())
}

/// Tells who still names resources that are gone, since the fabric refuses to delete those.
pub(super) fn tell_of_gone(lane: &Lane, n: usize, gone: &[Key]) -> Result<(), Error> {
    let namers: BTreeSet<_> = gone.iter().flat_map(|it| may_name(&it.group, &it.kind)).collect();
    if namers.is_empty() {
        return Ok(());
    }
    let fabric = &lane.fabrics[n].fabric.name;
    let (mut files, mut told) = (0, 0);
    for record in lane.store.records(fabric) {
        let record = record?;
        let key = &record.key;
        if !namers.contains(&(key.group.as_str(), key.kind.as_str())) {
            continue;
        }
        files += 1;
        if files > FILES_READ_MAX || told >= TOLD_MAX {
            tracing::warn!(%fabric, "there may be more who name what was deleted: git-intake check managed/ finds them");
            return Ok(());
        }
        let Some(document) = read(lane, &record)? else { continue };
        for (naming, _) in &document.namings {
            let named = |it: &&Key| {
                it.name == naming.name
                    && it.namespace == document.key.namespace
                    && naming.kinds.contains(&(it.group.as_str(), it.kind.as_str()))
            };
            if let Some(key) = gone.iter().find(named) {
                told += 1;
                let (path, field) = (&record.path, naming.field);
                tracing::warn!(%path, field, resource = %key, "{key} was deleted, and {field} of {path} still names it; the fabric may refuse the deletion");
            }
        }
    }
    Ok(())
}
